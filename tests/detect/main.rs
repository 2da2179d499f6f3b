//! From packets to pictures to objects, without a network.

#[path = "../common/made_layouts.rs"]
mod made_layouts;
#[path = "../common/made_models.rs"]
mod made_models;
#[path = "../../crates/twinsight-media/tests/decode/recording.rs"]
mod recording;

mod decode_worker;
mod detect_command;
mod detect_models;
mod detect_reference;
mod layouts;
mod model_add;
mod model_command;
mod quantize;
mod replay;
mod tracks;

use std::path::PathBuf;

use twinsight::detect::RuntimeOptions;
use twinsight::dev::detect::DetectOptions;

/// The options of `twinsight detect --json` with ONNX Runtime.
fn json_options(
    files: Vec<PathBuf>,
    models: PathBuf,
    model: &str,
    min_score: f32,
) -> DetectOptions {
    DetectOptions {
        files,
        models,
        model: model.to_owned(),
        min_score,
        classes: Vec::new(),
        out: None,
        fps: None,
        json: true,
        runtime: RuntimeOptions {
            dylib_path: std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from),
            ..RuntimeOptions::default()
        },
        execution_providers: Vec::new(),
    }
}
