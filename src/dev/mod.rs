//! What a developer needs around a node: a hub, camera twins, and both with a node in one process.

#[cfg(feature = "webrtc")]
pub mod camera;
#[cfg(all(feature = "webrtc", feature = "ort", feature = "openh264"))]
pub mod demo;
pub mod hub;
