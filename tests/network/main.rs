//! Networks as containers have them, made of namespaces. Needs root.
#![cfg(all(feature = "webrtc", feature = "ort", feature = "openh264"))]

#[path = "../common/mod.rs"]
mod common;
mod namespaces;

mod ice;
