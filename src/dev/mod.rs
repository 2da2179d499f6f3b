//! What a developer needs around a node: a hub, camera twins, both with a node in one process to see it work
//! (`demo`) or to learn how many cameras a machine carries (`capacity`), and detection on files.

#[cfg(feature = "webrtc")]
pub mod camera;
#[cfg(all(feature = "webrtc", feature = "ort", feature = "openh264"))]
pub mod capacity;
#[cfg(all(feature = "webrtc", feature = "ort", feature = "openh264"))]
pub mod demo;
#[cfg(feature = "ort")]
pub mod detect;
#[cfg(all(feature = "ort", feature = "openh264"))]
mod frames;
pub mod hub;
#[cfg(all(feature = "webrtc", feature = "ort", feature = "openh264"))]
mod loopback;
#[cfg(any(all(feature = "webrtc", feature = "openh264"), feature = "ort"))]
mod picture;
#[cfg(feature = "ort")]
mod progress;
