//! What a developer runs beside the node.

#[cfg(feature = "ort")]
pub mod detect;
pub mod hub;
