//! `twinsight demo`: draws a table of what the node detects with cameras and a hub of its own.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::arguments::fps;
use super::output::Output;
use super::shipped::{demo_clip, models_dir};
use super::stop::StopSignals;
use crate::config::Env;
use crate::dev::demo::{self, DemoOptions};
use crate::dev::terminal::{self, Colours};

/// The longest demo: a year.
const MAX_SECONDS: u64 = 366 * 24 * 3600;

#[derive(Args)]
pub(super) struct DemoArgs {
    /// Camera twins.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = cameras)]
    cameras: usize,
    /// Ends by itself after this many seconds.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=MAX_SECONDS))]
    seconds: Option<u64>,
    /// Frames a second of each camera.
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = fps)]
    fps: f64,
    /// The model.
    #[arg(long)]
    model: Option<String>,
    /// The folder of the models; the shipped one unless given here or in `TWINSIGHT_RUNTIME__MODELS_DIR`.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
}

pub(super) async fn run(args: DemoArgs, env: &Env) -> Result<()> {
    let mut stop = StopSignals::new()?;
    let options = DemoOptions {
        cameras: args.cameras,
        duration: args.seconds.map(Duration::from_secs),
        fps: args.fps,
        model: args.model,
        clip: demo_clip(),
        models_dir: models_dir(args.models, env),
        env: env.as_map().clone(),
        colours: Colours::of_stdout(env),
        over_itself: terminal::can_draw_over(env),
    };
    demo::run(options, stop.next(), &mut Output(io::stdout())).await
}

fn cameras(text: &str) -> Result<usize, String> {
    let count = text
        .parse()
        .ok()
        .filter(|count| demo::CAMERAS.contains(count));
    count.ok_or_else(|| {
        let (least, most) = (demo::CAMERAS.start(), demo::CAMERAS.end());
        format!("the demo takes {least} to {most} cameras")
    })
}
