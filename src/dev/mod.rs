//! What a developer needs around a node: a hub, camera twins, both with a node in one process, and
//! detection on files.

#[cfg(feature = "webrtc")]
pub mod camera;
#[cfg(all(feature = "webrtc", feature = "ort", feature = "openh264"))]
pub mod demo;
#[cfg(feature = "ort")]
pub mod detect;
pub mod hub;
#[cfg(any(all(feature = "webrtc", feature = "openh264"), feature = "ort"))]
mod picture;
