//! Commands for developers: a hub (`hub`) and camera twins (`camera`) to run a node against; both with a node in one process, to
//! see it work (`demo`) or to learn how many cameras a machine carries (`capacity`); what a node sends, in lines that people read
//! (`watch`); IP cameras that are to be found (`discover`); detection on files (`detect`); a recorded clip with a camera's settings
//! (`replay`); and the models that are installed (`model`). `terminal` is what they know of a terminal.

mod annotated_clip;
pub mod camera;
pub(crate) mod capacity;
pub(crate) mod demo;
pub mod detect;
pub(crate) mod discover;
mod file_kind;
mod frames;
pub mod hub;
mod loopback;
pub(crate) mod model;
mod picture;
mod progress;
pub mod replay;
pub(crate) mod terminal;
pub(crate) mod watch;
