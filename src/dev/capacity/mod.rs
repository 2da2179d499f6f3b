//! `twinsight capacity`: how many cameras this machine carries. A real node receives, decodes and infers what
//! real cameras send over the loopback address, more of them from step to step; a table goes out, and a
//! CSV file for plots. Why it is done so: `docs/design/capacity.md`.

mod cpu;
mod measured;
mod ramp;
mod report;
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
use twinsight_media::h264::clip::Clip;

/// No more cameras are tried: each takes some file descriptors, of which a program has 1024.
const MOST_CAMERAS: usize = 128;

/// No step begins when it might end later than this.
const TIME_LIMIT: Duration = Duration::from_secs(85);

/// What a step takes beside its window: models, connections, settling, the end.
const STEP_OVERHEAD: Duration = Duration::from_secs(4);

/// What to measure.
#[derive(Debug, Clone)]
pub struct CapacityOptions {
    /// The model; none: the default.
    pub model: Option<String>,
    /// The clip that the cameras play.
    pub clip: PathBuf,
    /// Frames a second of each camera.
    pub fps: f64,
    /// Detections a second of each camera at most, 0: every frame; none: the default.
    pub max_fps: Option<f64>,
    /// How long a step is measured.
    pub step: Duration,
    /// Where the table goes once more, for plots.
    pub csv: Option<PathBuf>,
    /// The folder of the models.
    pub models_dir: PathBuf,
    /// Variables for the node, as in the environment.
    pub env: BTreeMap<String, String>,
}

/// Why no more steps were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The answer is known, or no more cameras are tried.
    Answered,
    /// There was no time for another step.
    TimeOver,
    /// The user did not wait.
    Stopped,
}

/// Measures until the answer is known or `stop` resolves; prints to `out`.
///
/// # Errors
/// When the clip, the model or the CSV file cannot be used.
pub async fn run(
    options: CapacityOptions,
    stop: impl Future<Output = ()>,
    out: &mut impl Write,
) -> Result<()> {
    check_fps(options.fps)?;
    let clip = Arc::new(Clip::read(&options.clip)?);
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
    // The answer may have come with the last of the time.
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

/// The step with so many cameras.
fn step_of(steps: &[Measured], cameras: usize) -> Option<&Measured> {
    steps.iter().find(|step| step.cameras() == cameras)
}
