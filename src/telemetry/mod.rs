//! What the node says about itself: logs, metrics, health.

pub mod cpu;
pub mod health;
pub(crate) mod label;
pub mod ledger;
pub mod logging;
pub mod metrics;
