//! Whose frame is inferred next.

pub mod scheduler;
