//! Networks as containers have them, made of namespaces. Needs root.

#[path = "../common/mod.rs"]
mod common;
mod namespaces;

mod discover;
mod ice;
