//! The PhyStack hub's client: twin messages, actions, properties and peripherals over Socket.IO; data channels and media
//! streams peer to peer over WebRTC. It does everything that the official guide promises the users of its JavaScript client.
//!
//! An app connects as a twin, tells others what happens and hears what they say:
//!
//! ```no_run
//! use serde_json::json;
//! use twinsight_client::{HubClient, HubOptions};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // The variables of the official clients say which hub, and as whom.
//!     let client = HubClient::connect(HubOptions::from_env()?).await?;
//!     let instance = client.instance();
//!
//!     instance.to("lamp-1").emit("switch", json!({ "on": true })).await?;
//!
//!     // Of what comes faster than it is read, 16 events wait.
//!     let mut events = instance.events("switched", 16);
//!     while let Some(event) = events.recv().await {
//!         println!("{} says {}", event.source_twin_id, event.data);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! All calls need a tokio runtime. Everything that gives items one after the other has `recv`, is a
//! [`Stream`](futures_util::Stream), and says with `missed` how many items it lost because it was not read in time.
//!
//! # Features
//!
//! **`webrtc`** (default): data channels and media streams. Without it the crate is the client of the hub's messages.
//!
#![cfg_attr(feature = "webrtc", doc = "```no_run")]
#![cfg_attr(not(feature = "webrtc"), doc = "```ignore")]
//! # async fn example(client: twinsight_client::HubClient) -> Result<(), Box<dyn std::error::Error>> {
//! let channel = client.instance().get_data_channel("robot-1", "control").await?;
//! channel.on_message(|message| async move { println!("{message:?}") });
//! channel.send("left").await?;
//! # Ok(())
//! # }
//! ```
//!
//! **`openh264`**: frames of H.264 streams, and an encoder of pictures, built from source with g++. **`vp8`**: frames of
//! VP8 streams; it links libvpx, a system library.
//!
#![cfg_attr(feature = "webrtc", doc = "```no_run")]
#![cfg_attr(not(feature = "webrtc"), doc = "```ignore")]
//! # async fn example(client: twinsight_client::HubClient) -> Result<(), Box<dyn std::error::Error>> {
//! let stream = client.instance().get_media_stream("camera-1", "default").await?;
//! let mut frames = stream.frames();
//! while let Some(frame) = frames.recv().await {
//!     println!("{}x{} pixels, {} frames missed", frame.width(), frame.height(), frames.missed());
//! }
//! # Ok(())
//! # }
//! ```
//!
#![cfg_attr(
    all(feature = "webrtc", feature = "openh264", feature = "image"),
    doc = "```no_run"
)]
#![cfg_attr(
    not(all(feature = "webrtc", feature = "openh264", feature = "image")),
    doc = "```ignore"
)]
//! use twinsight_client::media::{AcceptStreamsOptions, EncoderOptions, LocalTrack, VideoEncoder};
//!
//! # async fn example(client: twinsight_client::HubClient) -> Result<(), Box<dyn std::error::Error>> {
//! let video = LocalTrack::video("screen");
//! let options = AcceptStreamsOptions::sending([video.clone()]);
//! let acceptor = client.instance().accept_media_streams(options, |stream| async move {
//!     println!("{} looks on", stream.target_twin_id());
//! })?;
//! let mut encoder = VideoEncoder::new(video, EncoderOptions::new(640, 480))?;
//! // On a thread of its own: a picture takes some milliseconds.
//! encoder.send_rgb(&image::RgbImage::new(640, 480))?;
//! # drop(acceptor);
//! # Ok(())
//! # }
//! ```
//!
//! **`image`** and **`ndarray`**: frames as images and arrays of these crates.
//!
#![cfg_attr(all(feature = "image", feature = "ndarray"), doc = "```no_run")]
#![cfg_attr(not(all(feature = "image", feature = "ndarray")), doc = "```ignore")]
//! # fn example(frame: &twinsight_client::media::Frame) {
//! let picture = frame.to_rgb_image();
//! // Height, width, and red, green and blue from 0 to 255.
//! assert_eq!(frame.to_ndarray().shape(), [frame.height(), frame.width(), 3]);
//! # drop(picture);
//! # }
//! ```
//!
//! The modules, from the bottom up; each uses only those above it. Those that only the node shares are not shown.

#[doc(hidden)]
pub mod backoff;

#[doc(hidden)]
pub mod clock;

#[doc(hidden)]
pub mod rate_limit;

#[doc(hidden)]
pub mod os_error;

mod wakeup;

#[doc(hidden)]
pub mod thread;

#[doc(hidden)]
pub mod secret_file;

#[doc(hidden)]
pub mod tls;

pub mod secret;

pub mod stream_id;

pub mod dialect;

pub mod telemetry;

pub mod hub;

pub mod realtime;

pub mod media;

pub use hub::{
    ActionResult, ActionStatus, EventReceiver, HubClient, HubError, HubOptions, HubStatus,
    Instance, PeripheralOptions, Secret, Target, Twin, TwinEvent, TwinMessage,
};
#[cfg(feature = "webrtc")]
pub use media::{Codec, Frame, LocalTrack, MediaStream, MediaStreamOptions, RemoteTrack};
#[cfg(feature = "webrtc")]
pub use realtime::{DataChannel, DataChannelOptions, Message};
