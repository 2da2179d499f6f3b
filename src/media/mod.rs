//! A stream of a camera twin: signalling and a peer connection on one side, frames on the other.

pub mod keyframes;
pub mod life;
#[cfg(feature = "webrtc")]
pub mod stream;
