//! The official clients and a browser on the other side.

#[path = "../common/mod.rs"]
mod common;

mod bridge;
mod camera;
mod channels;
mod dashboard;
mod discover;
mod home_assistant;
mod hub;
mod kill_loops;
mod media;
mod mqtt;
mod remote;
mod rtsp;
mod rtsp_cost;
mod rtsp_twin;
mod serving;
mod tracks;
mod watch;
