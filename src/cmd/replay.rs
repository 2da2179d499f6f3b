//! `twinsight replay`: a recorded clip through the detector, tracks, zones and lines with a camera's settings, frame by frame.

use std::io;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::arguments::{frame_rate, score};
use super::output::Output;
use super::shipped::shipped;
use crate::config::{ConfigSource, Env};
use crate::dev::replay::{self, DEFAULT_FLOOR, ReplayOptions};

#[derive(Args)]
pub(super) struct ReplayArgs {
    /// The clip: H.264 as a byte stream (Annex B) or in MP4.
    #[arg(value_name = "CLIP")]
    clip: PathBuf,
    /// The configuration; without it the environment and the defaults decide.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The camera whose settings are used; it is only needed where the configuration has several.
    #[arg(long, value_name = "TWIN[/STREAM]")]
    camera: Option<String>,
    /// Writes the lines and the annotated clip into this folder: CLIP.jsonl and CLIP.mp4.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Frames a second of the clip; unless given as the clip says, and 30 if it does not say.
    #[arg(long, value_name = "N", value_parser = frame_rate)]
    fps: Option<f64>,
    /// Candidates with a score below it are not explained; 0 to 1.
    #[arg(long, value_name = "S", default_value_t = DEFAULT_FLOOR, value_parser = score)]
    floor: f32,
    /// A line of JSON for each frame in place of the summary.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: ReplayArgs, env: &Env) -> Result<()> {
    let source = ConfigSource::read(args.config.as_deref(), env)?;
    let mut config = source.resolve_for_replay()?;
    config.runtime.models_dir = shipped(&config.runtime.models_dir);
    let options = ReplayOptions {
        clip: args.clip,
        config,
        config_file: args.config,
        camera: args.camera,
        out: args.out,
        fps: args.fps,
        floor: args.floor,
        json: args.json,
        dylib_path: env.get("ORT_DYLIB_PATH").map(PathBuf::from),
    };
    // A model may run on servers, and whoever waits for their answers must not hold up a thread of the runtime.
    let replaying = move || replay::run(&options, &mut Output(io::stdout().lock()));
    Ok(tokio::task::spawn_blocking(replaying).await??)
}
