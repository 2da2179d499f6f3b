//! Twinsight: camera twins' video in, detections out.

pub mod annotate;
pub mod backoff;
pub mod clock;
pub mod config;
pub mod decode;
pub mod detect;
pub mod dev;
pub mod hub;
pub mod preprocess;
pub mod publish;
pub mod realtime;
pub mod rtp;
pub mod schedule;
pub mod telemetry;
pub mod thread;
