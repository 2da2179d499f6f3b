//! Peer connections: signals from the hub come in, RTP packets and messages go out. `peer`, `channel`,
//! `codecs`, `rtp_track`, `socket` and `tee` are the only files that know the WebRTC stack.

#[cfg(feature = "webrtc")]
pub(crate) mod acceptor;
#[cfg(feature = "webrtc")]
mod candidate;
#[cfg(feature = "webrtc")]
pub mod channel;
#[cfg(feature = "webrtc")]
mod codecs;
#[cfg(feature = "webrtc")]
pub mod data_channel;
#[cfg(feature = "webrtc")]
pub mod data_listener;
#[cfg(feature = "webrtc")]
mod data_session;
#[cfg(feature = "webrtc")]
pub(crate) mod describe;
#[cfg(feature = "webrtc")]
mod early;
#[cfg(feature = "webrtc")]
pub mod ice;
#[cfg(feature = "webrtc")]
pub(crate) mod link;
#[cfg(feature = "webrtc")]
pub mod message;
#[cfg(feature = "webrtc")]
pub(crate) mod names;
#[cfg(feature = "webrtc")]
mod nat;
pub mod negotiation;
#[cfg(feature = "webrtc")]
pub mod normalise;
#[cfg(feature = "webrtc")]
pub mod peer;
#[cfg(feature = "webrtc")]
pub mod rtp_track;
pub mod sdp;
#[cfg(feature = "webrtc")]
mod senders;
pub mod signal;
#[cfg(feature = "webrtc")]
pub(crate) mod socket;
#[cfg(feature = "webrtc")]
pub mod tee;
#[cfg(feature = "webrtc")]
pub(crate) mod warnings;
#[cfg(feature = "webrtc")]
pub use data_channel::{
    ChannelError, ChannelState, CloseReason, DataChannel, DataChannelOptions, Progress, SendError,
};
#[cfg(feature = "webrtc")]
pub use data_listener::{AcceptOptions, DataChannelAcceptor, DataChannelListener};
#[cfg(feature = "webrtc")]
pub use message::Message;
