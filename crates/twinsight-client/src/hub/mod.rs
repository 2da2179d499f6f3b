//! The hub: twin messages, subscriptions and signalling over Socket.IO.
//!
//! `engine_io` and `socket_io` turn frames into packets, `session` turns packets into a joined hub
//! (all three without sockets or clocks), `client` owns the socket, `twin` and `peripheral` are what a user
//! holds, `handlers` runs what he registers, `connection_events` tells what becomes of peer connections.
//! `refusal` says when a refusal is believed, `namesake` whether somebody else has our twin id, `text` what
//! of others' texts may be repeated.

pub mod client;
mod connection;
pub mod connection_events;
pub mod engine_io;
pub mod handlers;
pub mod message;
mod namesake;
pub mod options;
pub mod peripheral;
pub mod probe;
mod refusal;
pub mod session;
pub mod socket_io;
pub mod text;
pub mod twin;

pub use crate::secret::Secret;
pub use client::{HubClient, HubError, HubStatus, MessageReceiver, TwinUpdates};
pub use connection_events::{
    ChannelKind, ConnectionChange, ConnectionEvent, ConnectionEvents, ConnectionType,
};
pub use handlers::{HandlerId, Items};
pub use message::{IceServer, Twin, TwinMessage, TwinUpdate};
pub use options::{HubConfigError, HubMode, HubOptions, Timers, TurnServer};
pub use peripheral::{CreatedPeripheral, Handover, OwnershipLoss, PeripheralOptions};
pub use twin::{
    ActionResult, ActionStatus, EventReceiver, Instance, PropertyUpdates, Target, TwinEvent,
};
