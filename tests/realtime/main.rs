//! Data channels and media streams of the crate's users, between peers of our own.

#[path = "../common/mod.rs"]
mod common;

mod channel_faults;
mod data_channels;
mod ip_camera;
mod media_examples;
mod media_streams;
mod peer_media;
