//! Peer connections: signals from the hub come in, RTP packets and messages go out. `peer` with `peer_error`,
//! `peer_events` and `peer_setup`, `channel`, `codecs`, `nack`, `rtp_tap`, `rtp_track` and `socket` are the only files that know
//! the WebRTC stack.

#[cfg(feature = "webrtc")]
pub(crate) mod acceptor;
#[cfg(feature = "webrtc")]
pub(crate) mod attempt;
#[cfg(feature = "webrtc")]
mod candidate;
#[cfg(feature = "webrtc")]
pub mod channel;
#[cfg(feature = "webrtc")]
mod codecs;
#[cfg(feature = "webrtc")]
pub(crate) mod connect;
#[cfg(feature = "webrtc")]
mod connection_history;
#[cfg(feature = "webrtc")]
mod data_channel;
#[cfg(feature = "webrtc")]
mod data_listener;
#[cfg(feature = "webrtc")]
mod data_options;
#[cfg(feature = "webrtc")]
mod data_shared;
#[cfg(feature = "webrtc")]
mod data_task;
#[cfg(feature = "webrtc")]
pub(crate) mod deadline;
#[cfg(feature = "webrtc")]
pub(crate) mod description_task;
#[cfg(feature = "webrtc")]
pub(crate) mod dial;
#[cfg_attr(
    not(feature = "webrtc"),
    allow(
        dead_code,
        unreachable_pub,
        reason = "without connections only the signals look into descriptions"
    )
)]
pub(crate) mod h264_profile;
#[cfg(feature = "webrtc")]
pub mod ice;
#[cfg(feature = "webrtc")]
pub(crate) mod link;
#[cfg(feature = "webrtc")]
mod link_mailbox;
#[cfg(feature = "webrtc")]
pub(crate) mod link_options;
#[cfg(feature = "webrtc")]
pub(crate) mod link_task;
#[cfg(feature = "webrtc")]
mod message;
#[cfg(feature = "webrtc")]
mod nack;
#[cfg(feature = "webrtc")]
pub mod names;
#[cfg(feature = "webrtc")]
mod nat;
#[cfg(feature = "webrtc")]
pub mod negotiation;
#[cfg(feature = "webrtc")]
mod normalise;
#[cfg(feature = "webrtc")]
mod normalise_formats;
#[cfg(feature = "webrtc")]
pub mod peer;
#[cfg(feature = "webrtc")]
mod peer_error;
#[cfg(feature = "webrtc")]
mod peer_events;
#[cfg(feature = "webrtc")]
mod peer_setup;
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
#[cfg_attr(
    not(feature = "webrtc"),
    allow(
        dead_code,
        reason = "without connections only the signals look into descriptions"
    )
)]
pub(crate) mod sdp_section;
#[cfg(feature = "webrtc")]
mod sdp_text;
#[cfg(feature = "webrtc")]
mod sender_reports;
pub mod signal;
#[cfg(feature = "webrtc")]
mod signal_outbox;
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
    ChannelError, ChannelState, CloseReason, DataChannel, DataChannelOptions, PIECE_BYTES,
    Progress, SendError,
};
#[cfg(feature = "webrtc")]
pub use data_listener::{AcceptOptions, DataChannelAcceptor, DataChannelListener};
#[cfg(feature = "webrtc")]
pub use message::Message;
