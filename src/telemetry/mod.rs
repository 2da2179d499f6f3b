//! What the node says about itself: logs, metrics, health.

mod label;
pub mod ledger;
pub mod metrics;
