//! The node's own HTTP server with metrics, probes and the API, for whoever watches over the node. `probe` is the client that
//! `twinsight health` and `twinsight check` ask it with.

pub mod api;
pub mod connections;
pub mod probe;
pub mod server;
