//! Detection: pictures and settings come in, [`Detections`] go out. A worker thread owns each [`Detector`], and
//! [`InferencePool`](pool::InferencePool) owns the workers. The code that reads the outputs of models needs no ONNX Runtime, so
//! that it is tested without it.

mod assignment;
mod breaker;
pub(crate) mod detector;
pub(crate) mod engine;
mod explain;
pub(crate) mod health;
pub(crate) mod judge;
pub mod manifest;
pub mod nms;
pub(crate) mod onnx;
mod onnx_file;
pub mod output;
pub(crate) mod plan;
pub(crate) mod pool;
pub mod postprocess;
pub(crate) mod probe;
mod providers;
mod reader;
pub(crate) mod recognize;
pub(crate) mod remote;
pub(crate) mod runtime;
pub(crate) mod session;
pub(crate) mod still;
mod telemetry_off;
pub(crate) mod worker;

pub use crate::preprocess::Picture;
pub use detector::{
    BBox, DetectError, DetectSettings, Detections, Detector, FakeDetector, Keypoint, ModelInfo,
    Object,
};
pub use explain::{CandidateFate, Explained, ExplainedCandidate, MAX_EXPLAINED};
pub use manifest::ModelError;
pub use onnx::OnnxDetector;
pub use runtime::{Runtime, RuntimeError, RuntimeOptions};
