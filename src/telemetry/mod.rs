//! What the node says about itself: logs, metrics, health.

pub mod cpu;
pub mod health;
pub mod ledger;
mod log_line;
mod log_queue;
pub mod logging;
pub mod metrics;
