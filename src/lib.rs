//! Twinsight: camera twins' video in, detections out.

pub mod clock;
pub mod config;
pub mod decode;
pub mod h264;
pub mod rtp;
pub mod telemetry;
pub mod thread;
