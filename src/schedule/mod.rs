//! Whose frame is inferred next.

mod core;
mod ready_queue;
pub mod scheduler;
