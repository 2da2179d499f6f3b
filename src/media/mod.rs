//! A stream of a camera twin: signalling and a peer connection on one side, frames on the other.

#[cfg(feature = "webrtc")]
pub(crate) mod describe;
pub mod keyframes;
pub mod life;
#[cfg(feature = "webrtc")]
mod senders;
#[cfg(feature = "webrtc")]
pub mod stream;
