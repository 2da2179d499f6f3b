//! Twinsight: camera twins' video in, detections out.

pub mod clock;
pub mod config;
pub mod decode;
pub mod http;
pub mod publish;
pub mod telemetry;
pub mod thread;
