//! `twinsight capacity`: prints a table of how the node does with more and more cameras, and how many this machine carries.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::arguments::{fps, number};
use super::output::Output;
use super::shipped::{demo_clip, models_dir};
use super::stop::StopSignals;
use crate::config::Env;
use crate::dev::capacity::{self, CapacityOptions, Scene};

#[derive(Args)]
pub(super) struct CapacityArgs {
    /// The model; the default one unless given.
    #[arg(long)]
    model: Option<String>,
    /// The folder of the models; the shipped one unless given here or in `TWINSIGHT_RUNTIME__MODELS_DIR`.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// What the cameras send: H.264, as a byte stream (Annex B) or in MP4; the shipped clip unless given.
    #[arg(long, value_name = "FILE")]
    clip: Option<PathBuf>,
    /// Frames a second of each camera.
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = measured_fps)]
    fps: f64,
    /// Detections a second of each camera at most, 0 for every frame; 10 unless given.
    #[arg(long, value_name = "N", value_parser = max_fps)]
    max_fps: Option<f64>,
    /// What the cameras see with `motion = "gate"`, to learn what that brings: `still`, the first picture of the clip in which
    /// nothing moves, or `clip`. Without it the gate is off.
    #[arg(long, value_name = "SCENE", value_parser = clap::builder::PossibleValuesParser::new(Scene::NAMES))]
    scene: Option<String>,
    /// Writes the table there too, for plots.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// How long each number of cameras is measured.
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=20))]
    step_seconds: u64,
}

pub(super) async fn run(args: CapacityArgs, env: &Env) -> Result<()> {
    let mut stop = StopSignals::new()?;
    let options = CapacityOptions {
        model: args.model,
        clip: args.clip.unwrap_or_else(demo_clip),
        fps: args.fps,
        max_fps: args.max_fps,
        scene: args.scene.as_deref().and_then(Scene::named),
        step: Duration::from_secs(args.step_seconds),
        csv: args.csv,
        models_dir: models_dir(args.models, env),
        env: env.as_map().clone(),
    };
    capacity::run(options, stop.next(), &mut Output(io::stdout())).await
}

/// Slower than that, a step is over before there is something to measure.
const LEAST_FPS: f64 = 0.1;

fn measured_fps(text: &str) -> Result<f64, String> {
    let fps = fps(text)?;
    if fps < LEAST_FPS {
        return Err(format!("it takes {LEAST_FPS} frames a second at least"));
    }
    Ok(fps)
}

fn max_fps(text: &str) -> Result<f64, String> {
    let max_fps = number(text, 1000.0)?;
    if max_fps > 0.0 && max_fps < LEAST_FPS {
        return Err(format!("it takes 0, or {LEAST_FPS} and more"));
    }
    Ok(max_fps)
}
