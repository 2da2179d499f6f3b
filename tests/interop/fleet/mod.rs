//! Five nodes, each a process of its own, share forty cameras by way of a real etcd, and are killed, frozen and cut off. A listener
//! of all events says whether each camera had one publisher throughout, and for how long it had none; `verdict.rs` has its rules.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::float_cmp,
    reason = "a test stops at what it did not expect, says what it measured, and compares counts"
)]

mod bench;
mod cameras;
mod listener;
mod relay;
mod scenarios;
mod store;
mod storm;
mod verdict;
mod verdict_tests;
