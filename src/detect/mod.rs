//! Pictures to objects. A [`Picture`] and settings come in, [`Detections`] go out; a worker thread owns each
//! [`Detector`]. Output kinds are decoded without ONNX Runtime, so that they are tested without it.

pub mod breaker;
pub mod detector;
pub mod health;
pub mod manifest;
pub mod nms;
pub mod onnx;
mod onnx_file;
pub mod plan;
pub mod pool;
pub mod postprocess;
pub mod runtime;
mod telemetry_off;

pub use crate::preprocess::Picture;
pub use detector::{
    BBox, DetectError, DetectSettings, Detections, Detector, FakeDetector, ModelInfo, Object,
};
pub use manifest::{Manifest, ModelError};
pub use onnx::OnnxDetector;
pub use runtime::{Runtime, RuntimeError, RuntimeOptions};
pub mod worker;
