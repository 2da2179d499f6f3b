//! The JSON of the API: what the node knows comes in, and views that serde can write go out.

pub mod camera;
pub mod config;
pub mod node;
mod problem;
pub(crate) mod tracks;

pub use self::camera::{CameraFacts, CameraView, Detail};
pub use self::config::ConfigFacts;
pub use self::node::{HubFacts, InferenceFacts, ModelFacts, NodeFacts};
pub(crate) use self::problem::CameraHub;
