//! The official clients and a browser on the other side.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/made_models.rs"]
mod made_models;

mod bridge;
mod camera;
mod channels;
mod dashboard;
mod discover;
mod fleet;
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
