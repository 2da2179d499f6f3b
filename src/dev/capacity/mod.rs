//! `twinsight capacity` measures how many cameras this machine carries. A real node receives, decodes and infers what real cameras
//! send over the loopback address, with more cameras from step to step. A table goes out, and a CSV file for plots.
//! `docs/design/capacity.md` says why it is done this way.

mod cpu;
mod measured;
mod ramp;
mod report;
mod scene;
mod step;
mod testbed;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use self::measured::{Demand, Measured};
use self::ramp::{Found, Outcome, Ramp};
use self::report::{Csv, Head};
use self::step::Step;
use self::testbed::Testbed;
use super::camera::check_fps;
pub(crate) use scene::Scene;
use twinsight_media::h264::clip::Clip;

/// No more cameras than this are tried, since each takes some file descriptors, of which a program has 1024.
const MOST_CAMERAS: usize = 128;

/// No step begins when it might end later than this.
const TIME_LIMIT: Duration = Duration::from_secs(85);

/// A step takes this much longer than its window: to load models, to connect, to settle and to end.
const STEP_OVERHEAD: Duration = Duration::from_secs(4);

/// The arguments of the command.
#[derive(Debug, Clone)]
pub(crate) struct CapacityOptions {
    /// The name of the model, if it is not the default one.
    pub(crate) model: Option<String>,
    pub(crate) clip: PathBuf,
    pub(crate) fps: f64,
    /// The `max_fps` of each camera, if it is not the default; 0 means every frame.
    pub(crate) max_fps: Option<f64>,
    /// What the cameras see with the motion gate on; without it they see the clip, and the gate is as the environment says.
    pub(crate) scene: Option<Scene>,
    /// How long each step is measured.
    pub(crate) step: Duration,
    /// The file to which the table is also written, for plots.
    pub(crate) csv: Option<PathBuf>,
    pub(crate) models_dir: PathBuf,
    /// Variables of the environment for the node.
    pub(crate) env: BTreeMap<String, String>,
}

/// Why no further step was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The answer is known, or no more cameras are tried.
    Answered,
    /// There was no time for another step.
    TimeOver,
    /// The user stopped the command.
    Stopped,
}

/// Measures until the answer is known or `stop` resolves, and prints to `out`.
///
/// # Errors
/// If the clip, the model or the CSV file cannot be used.
pub(crate) async fn run(
    options: CapacityOptions,
    stop: impl Future<Output = ()>,
    out: &mut impl Write,
) -> Result<()> {
    check_fps(options.fps)?;
    let clip = Clip::read(&options.clip)?;
    let clip = Arc::new(match options.scene {
        Some(Scene::Still) => {
            let fps = options.fps;
            tokio::task::spawn_blocking(move || scene::still(&clip, fps)).await??
        }
        Some(Scene::Clip) | None => clip,
    });
    let mut csv = options.csv.as_deref().map(Csv::create).transpose()?;
    let mut testbed = Testbed::start(Arc::clone(&clip), options.fps).await?;
    let begun = Instant::now();
    let mut ramp = Ramp::new(MOST_CAMERAS);
    let mut steps: Vec<Measured> = Vec::new();
    let mut asked: Option<(Demand, Head)> = None;
    let mut end = End::Answered;
    tokio::pin!(stop);
    while let Some(cameras) = ramp.next() {
        let mut step = tokio::select! {
            step = Step::start(&options, &mut testbed, cameras) => step?,
            () = &mut stop => {
                end = End::Stopped;
                break;
            }
        };
        let (demand, head) = asked.get_or_insert_with(|| {
            let head = Head::new(&step.camera, &options, &clip);
            (step.demand, head)
        });
        if steps.is_empty() {
            head.print(out)?;
        }
        let measured = tokio::select! {
            measured = step.measure(&testbed) => Some(measured),
            () = &mut stop => None,
        };
        let took = step.window() + STEP_OVERHEAD;
        step.stop().await;
        let Some(measured) = measured.transpose()? else {
            end = End::Stopped;
            break;
        };
        let outcome = match measured.refusal(demand) {
            Some(_) => Outcome::Refused,
            None if measured.load(head.cores) < 0.25 => Outcome::Easy,
            None => Outcome::Carried,
        };
        ramp.note(cameras, outcome);
        head.row(out, &measured, demand)?;
        if let Some(csv) = &mut csv {
            csv.row(&measured, demand, head.cores)?;
        }
        steps.push(measured);
        if begun.elapsed() + took > TIME_LIMIT {
            end = End::TimeOver;
            break;
        }
    }
    // The last step before the time was over may have given the answer.
    if end == End::TimeOver && ramp.next().is_none() {
        end = End::Answered;
    }
    if let Some((demand, head)) = &asked {
        let answer = head.answer(ramp.found(), end, &steps, demand);
        writeln!(out)?;
        for sentence in answer {
            writeln!(out, "{sentence}")?;
        }
        out.flush()?;
    }
    Ok(())
}

/// Finds the step with this many cameras.
fn step_of(steps: &[Measured], cameras: usize) -> Option<&Measured> {
    steps.iter().find(|step| step.cameras() == cameras)
}
