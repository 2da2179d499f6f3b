//! Access units to pictures.

pub mod frame;
