//! The PhyStack hub's client: twin messages, actions, properties and peripherals over Socket.IO; data channels and media
//! streams peer to peer over WebRTC. Everything that the official guide promises the users of its JavaScript client.
//!
//! ```no_run
//! use twinsight_client::hub::{HubClient, HubOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = HubClient::connect(HubOptions::simulator("http://localhost:55000", "app-1")).await?;
//! let camera = client.instance();
//! # Ok(())
//! # }
//! ```
//!
//! The modules, from the bottom up; each uses only those above it:

pub mod backoff;

pub mod clock;

pub mod rate_limit;

pub mod os_error;

pub mod thread;

pub mod secret_file;

pub mod secret;

pub mod stream_id;

pub mod dialect;

pub mod telemetry;

pub mod hub;

pub mod realtime;

pub mod media;
