//! `twinsight detect`: prints what a model finds on pictures and clips, and fails if one of the files could not be used.

use std::io;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::arguments::{frame_rate, score};
use super::output::Output;
use super::shipped::{execution_providers, models_dir};
use crate::config::{DEFAULT_MODEL, Env};
use crate::detect::RuntimeOptions;
use crate::dev::detect::{self, DetectOptions};

#[derive(Args)]
pub(super) struct DetectArgs {
    /// Pictures (JPEG, PNG, WebP, BMP), H.264 clips (byte streams of Annex B, MP4), and folders of such files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The model.
    #[arg(long, default_value = DEFAULT_MODEL)]
    model: String,
    /// The folder of the models; the shipped one unless given here or in `TWINSIGHT_RUNTIME__MODELS_DIR`.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Objects below it are left out; 0 to 1.
    #[arg(long, value_name = "S", default_value_t = 0.4, value_parser = score)]
    min_score: f32,
    /// A label to report; may be given several times. Without it: all.
    #[arg(long = "class", value_name = "LABEL")]
    classes: Vec<String>,
    /// Writes annotated pictures into this folder, or the annotated clip into this file if it ends in .mp4.
    #[arg(long, value_name = "DIR|CLIP.mp4")]
    out: Option<PathBuf>,
    /// Frames a second of the annotated clip; unless given as in the clip, and 30 if that does not say.
    #[arg(long, value_name = "N", requires = "out", value_parser = frame_rate)]
    fps: Option<f64>,
    /// A line of JSON for each picture or frame.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: DetectArgs, env: &Env) -> Result<()> {
    let options = DetectOptions {
        files: args.files,
        models: models_dir(args.models, env),
        model: args.model,
        min_score: args.min_score,
        classes: args.classes,
        out: args.out,
        fps: args.fps,
        json: args.json,
        runtime: RuntimeOptions {
            library: env.get("TWINSIGHT_RUNTIME__LIBRARY").map(PathBuf::from),
            dylib_path: env.get("ORT_DYLIB_PATH").map(PathBuf::from),
            threads: 0,
        },
        execution_providers: execution_providers(env),
    };
    let summary = detect::run(&options, &mut Output(io::stdout().lock()))?;
    anyhow::ensure!(
        summary.failures.is_empty(),
        "{} of {} files could not be used",
        summary.failures.len(),
        summary.files
    );
    Ok(())
}
