//! Peer connections: signals from the hub come in, RTP packets go out. `peer`, `socket` and `tee`
//! are the only files that know the WebRTC stack.

#[cfg(feature = "webrtc")]
mod nat;
pub mod negotiation;
#[cfg(feature = "webrtc")]
pub mod peer;
pub mod signal;
#[cfg(feature = "webrtc")]
pub(crate) mod socket;
#[cfg(feature = "webrtc")]
pub mod tee;
