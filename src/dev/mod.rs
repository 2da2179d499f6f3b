//! Commands for developers: a hub (`hub`) and camera twins (`camera`) to run a node against; both with a node in one process, to
//! see it work (`demo`) or to learn how many cameras a machine carries (`capacity`); and detection on files (`detect`).

pub mod camera;
pub(crate) mod capacity;
pub(crate) mod demo;
pub mod detect;
mod frames;
pub mod hub;
mod loopback;
mod picture;
mod progress;
