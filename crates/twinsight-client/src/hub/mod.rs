//! The hub: twin messages, subscriptions and signalling over Socket.IO.
//!
//! Sans-IO, from the wire up: `engine_io` and `socket_io` turn frames into packets, `message` has the values that travel,
//! and `session` turns packets into a joined hub, as whom `profile` says; `answer`, `away_reason` and `refusal` read what the
//! hub says no with. `connection` is the task that owns the socket (`websocket`, `write_queue`), and `client_state` what it
//! has in common with the handles. Users hold the handles: `client`, `instance` and `peripheral`, with the receivers
//! `message_receiver`, `event`, `twin_updates`, `property_updates` and `connection_events`; `handlers` runs what they
//! register. `namesake` says whether somebody else has our twin id, `text` what of others' texts may be repeated, and
//! `probe` whether there is a hub at all.

mod action;
mod answer;
mod away_reason;
pub mod client;
mod client_state;
mod connection;
pub mod connection_events;
#[doc(hidden)]
pub mod engine_io;
mod error;
mod event;
pub mod handlers;
mod ice_servers;
mod instance;
pub mod message;
mod message_receiver;
mod namesake;
pub mod options;
pub mod peripheral;
pub mod probe;
mod profile;
mod property_updates;
mod refusal;
#[doc(hidden)]
pub mod session;
#[doc(hidden)]
pub mod socket_io;
mod status;
#[doc(hidden)]
pub mod text;
mod twin_updates;
mod websocket;
mod write_queue;

pub use crate::secret::Secret;
pub use action::{ActionResult, ActionStatus};
pub use answer::{CallError, CallResult};
pub use away_reason::{AwayReason, UnknownHost, name_remedy};
pub use client::HubClient;
pub use connection_events::{
    ChannelKind, ConnectionChange, ConnectionEvent, ConnectionEvents, ConnectionType,
};
pub use error::HubError;
pub use event::{EventReceiver, TwinEvent};
pub use handlers::{HandlerId, Items};
pub use instance::{Instance, Target};
pub use message::{IceServer, Twin, TwinMessage, TwinUpdate};
pub use message_receiver::MessageReceiver;
pub use options::{HubConfigError, HubMode, HubOptions, Timers, TurnServer};
pub use peripheral::{CreatedPeripheral, Handover, OwnershipLoss, PeripheralOptions};
pub use profile::Profile;
pub use property_updates::PropertyUpdates;
pub use status::HubStatus;
pub use twin_updates::TwinUpdates;
