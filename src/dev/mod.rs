//! What a developer runs beside the node.

pub mod hub;
