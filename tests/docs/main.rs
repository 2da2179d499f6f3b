//! The pages under `docs/` keep to the program: the references of configuration and manifest are rendered from the code,
//! metrics and events of a running node are compared with their pages, the program's help with the page of
//! commands, every error sentence that an operator may meet is on the troubleshooting page, the tests that the
//! client's pages name exist, no link between documents is broken, and what `deploy/` has is whole: its rules pass their tests, and its
//! queries and those of the page of metrics are asked of a Prometheus that scraped a node.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it wrote"
)]

mod commands;
#[path = "../common/mod.rs"]
mod common;
mod configuration;
mod deploy;
mod fleet;
mod guide;
mod http;
mod layers;
mod links;
mod manifest;
mod operations;
mod queries;
mod running_node;
mod triton;
mod troubleshooting;

use std::path::PathBuf;

/// A file of the clone.
fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Its text.
fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}
