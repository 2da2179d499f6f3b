//! The hub's client: against the development hub, and against hubs that fail.

#[path = "../common/ports.rs"]
mod ports;

mod client;
mod dev;
mod guide;
mod tls;
