//! What the node says about itself: its logs, its metrics and whether it is healthy. Every stage counts here, so that this
//! module uses none of them.

pub(crate) mod capacity;
pub mod cpu;
pub mod health;
pub mod history;
pub mod ledger;
mod log_line;
mod log_queue;
pub(crate) mod logging;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod traces;
#[cfg(not(feature = "otlp"))]
#[path = "traces_off.rs"]
pub mod traces;
