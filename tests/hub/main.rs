//! The hub's client: against the development hub, and against hubs that fail.

mod client;
mod dev;
mod guide;
mod tls;
