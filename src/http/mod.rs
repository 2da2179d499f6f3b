//! The node's own HTTP server: metrics, probes and the API for whoever watches over it; and the probe's
//! client.

pub mod api;
pub mod connections;
pub mod probe;
pub mod server;
