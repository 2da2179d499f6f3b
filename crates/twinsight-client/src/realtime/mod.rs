//! Peer connections: signals from the hub come in, RTP packets and messages go out. `peer`, `channel`,
//! `codecs`, `rtp_track`, `socket` and `tap` are the only files that know the WebRTC stack.

#[cfg(feature = "webrtc")]
pub(crate) mod acceptor;
#[cfg(feature = "webrtc")]
mod candidate;
#[cfg(feature = "webrtc")]
pub mod channel;
#[cfg(feature = "webrtc")]
mod codecs;
#[cfg(feature = "webrtc")]
pub mod connect;
#[cfg(feature = "webrtc")]
mod connection_history;
#[cfg(feature = "webrtc")]
pub mod data_channel;
#[cfg(feature = "webrtc")]
pub mod data_listener;
#[cfg(feature = "webrtc")]
mod data_options;
#[cfg(feature = "webrtc")]
mod data_shared;
#[cfg(feature = "webrtc")]
mod data_task;
#[cfg(feature = "webrtc")]
pub(crate) mod dial;
#[cfg(feature = "webrtc")]
pub mod ice;
#[cfg(feature = "webrtc")]
pub(crate) mod link;
#[cfg(feature = "webrtc")]
pub(crate) mod link_task;
#[cfg(feature = "webrtc")]
pub mod message;
#[cfg(feature = "webrtc")]
mod nack;
#[cfg(feature = "webrtc")]
pub mod names;
#[cfg(feature = "webrtc")]
mod nat;
pub mod negotiation;
#[cfg(feature = "webrtc")]
pub mod normalise;
#[cfg(feature = "webrtc")]
mod outbox;
#[cfg(feature = "webrtc")]
pub mod peer;
#[cfg(feature = "webrtc")]
mod pending_candidates;
#[cfg(feature = "webrtc")]
pub mod rtp_tap;
#[cfg(feature = "webrtc")]
pub mod rtp_track;
#[cfg_attr(
    not(feature = "webrtc"),
    allow(
        dead_code,
        reason = "without connections only the signals look into descriptions"
    )
)]
pub mod sdp;
pub mod signal;
#[cfg(feature = "webrtc")]
pub mod socket;
#[cfg(feature = "webrtc")]
mod source_filter;
#[cfg(feature = "webrtc")]
pub mod warnings;
#[cfg(feature = "webrtc")]
pub use acceptor::Acceptor;
#[cfg(feature = "webrtc")]
pub use data_channel::{
    ChannelError, ChannelState, CloseReason, DataChannel, DataChannelOptions, Progress, SendError,
};
#[cfg(feature = "webrtc")]
pub use data_listener::{AcceptOptions, DataChannelAcceptor, DataChannelListener};
#[cfg(feature = "webrtc")]
pub use message::Message;
