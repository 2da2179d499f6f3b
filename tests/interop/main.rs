//! The official clients and a browser on the other side.
#![cfg(all(feature = "webrtc", feature = "ort", feature = "openh264"))]

#[path = "../common/mod.rs"]
mod common;

mod camera;
mod channels;
mod hub;
mod kill_loops;
mod media;
