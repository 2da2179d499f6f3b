//! Whose frame is inferred next.

mod core;
pub mod scheduler;
mod turns;
