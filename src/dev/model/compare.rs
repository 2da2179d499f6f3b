//! `twinsight model compare`: two models and a clip or pictures come in; how fast each is, how many cameras that would be, and how far
//! their detections agree go out. The two take turns, so that what else the machine does hits both.

mod agreement;
mod pictures;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use self::agreement::{Agreement, Seen};
use self::pictures::{Pictures, PicturesError};
use super::megabytes;
use crate::detect::manifest::Manifest;
use crate::detect::{
    DetectError, DetectSettings, Detector, ModelError, OnnxDetector, Runtime, RuntimeError,
    RuntimeOptions,
};
use crate::dev::progress::progress_bar;
use crate::telemetry::cpu::process_cpu;

/// Detections a second of each camera, as the default configuration has them.
const DETECTIONS_A_SECOND: f64 = 10.0;

/// Objects below it do not count, as in the default configuration.
const MIN_SCORE: f32 = 0.4;

/// The arguments of the command.
#[derive(Debug, Clone)]
pub(crate) struct CompareOptions {
    /// The names of the two models.
    pub(crate) names: [String; 2],
    pub(crate) models: PathBuf,
    /// The clip whose frames are looked at.
    pub(crate) clip: Option<PathBuf>,
    pub(crate) pictures: Vec<PathBuf>,
    /// The clip that is taken if neither is given.
    pub(crate) shipped: PathBuf,
    pub(crate) json: bool,
    pub(crate) runtime: RuntimeOptions,
    pub(crate) execution_providers: Vec<String>,
}

/// Why models cannot be compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompareError {
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Pictures(#[from] PicturesError),
    #[error(transparent)]
    Detect(#[from] DetectError),
    #[error("results cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// The median of many runs of a model.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    /// The run of the network alone.
    inference: Duration,
    /// The CPU of all threads for a picture, with what comes before and after the network.
    cpu: Duration,
}

/// What is measured of a model.
struct Side {
    name: String,
    manifest: Manifest,
    bytes: u64,
    /// With sessions of one thread, and with one session that has all of them.
    one: Cost,
    all: Cost,
    cameras: f64,
    seen: Vec<Vec<Seen>>,
}

/// Compares two models, and prints what comes of it.
///
/// # Errors
/// If a model, the clip or a picture cannot be used.
pub(crate) fn run(options: &CompareOptions, out: &mut dyn Write) -> Result<(), CompareError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut sides = Vec::new();
    for name in &options.names {
        let (manifest, path) = Manifest::load(&options.models, name)?;
        sides.push(Side {
            name: name.clone(),
            bytes: std::fs::metadata(&path).map_or(0, |found| found.len()),
            manifest,
            one: Cost::default(),
            all: Cost::default(),
            cameras: 0.0,
            seen: Vec::new(),
        });
    }
    // A name that is misspelt is said before a clip is decoded.
    let pictures = Pictures::read(options.clip.as_deref(), &options.pictures, &options.shipped)?;
    let rounds = if cores > 1 { 2 } else { 1 };
    let steps = u64::try_from(rounds * pictures.count()).unwrap_or(u64::MAX);
    let bar = progress_bar(
        "comparing".to_owned(),
        steps,
        "{pos}/{len} pictures, {eta} left",
    );
    for threads in [1, cores].into_iter().take(rounds) {
        let costs = measure(options, threads, &pictures, &mut sides, &bar)?;
        for (side, cost) in sides.iter_mut().zip(costs) {
            if threads == 1 {
                side.one = cost;
            }
            side.all = cost;
        }
    }
    bar.finish_and_clear();
    for side in &mut sides {
        let frame = pictures.decode_cpu.unwrap_or_default() + side.one.cpu;
        #[expect(clippy::cast_precision_loss, reason = "there are few cores")]
        let cameras = cores as f64 / (DETECTIONS_A_SECOND * frame.as_secs_f64()).max(1e-9);
        side.cameras = cameras;
    }
    let [a, b] = sides.as_slice() else {
        return Ok(());
    };
    let agreement = Agreement::of(&a.seen, &b.seen);
    if options.json {
        write_json(a, b, &agreement, &pictures, cores, out)?;
    } else {
        write_table(a, b, &agreement, &pictures, cores, out)?;
    }
    out.flush()?;
    Ok(())
}

/// Runs both models on all pictures by turns, with sessions of so many threads.
fn measure(
    options: &CompareOptions,
    threads: usize,
    pictures: &Pictures,
    sides: &mut [Side],
    bar: &indicatif::ProgressBar,
) -> Result<Vec<Cost>, CompareError> {
    let runtime = Runtime::load(&RuntimeOptions {
        threads,
        ..options.runtime.clone()
    })?;
    let providers = &options.execution_providers;
    let mut detectors = Vec::new();
    for side in sides.iter_mut() {
        side.seen.clear();
        let detector = OnnxDetector::load(&runtime, &options.models, &side.name, providers)?;
        detectors.push((detector, Vec::new(), Vec::new()));
    }
    let settings = DetectSettings {
        min_score: MIN_SCORE,
        classes: Vec::new(),
    };
    for picture in pictures.all() {
        for (side, (detector, walls, cpus)) in sides.iter_mut().zip(&mut detectors) {
            let before = process_cpu();
            let found = detector.detect(picture, &settings)?;
            cpus.push(process_cpu().saturating_sub(before));
            walls.push(found.inference.wall);
            let model = detector.model();
            let seen = found.objects.iter();
            let seen = seen.map(|object| Seen::of(object, model)).collect();
            side.seen.push(seen);
        }
        bar.inc(1);
    }
    let costs = detectors.into_iter().map(|(_, walls, cpus)| Cost {
        inference: median(walls),
        cpu: median(cpus),
    });
    Ok(costs.collect())
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    1000.0 * time.as_secs_f64()
}

fn write_table(
    a: &Side,
    b: &Side,
    agreement: &Agreement,
    pictures: &Pictures,
    cores: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(
        out,
        "A  {}\nB  {}\non {}\n",
        a.name,
        b.name,
        pictures.described()
    )?;
    let mut row = |what: &str, a: String, b: String| writeln!(out, "{what:42}  {a:>12}  {b:>12}");
    let size = |side: &Side| {
        format!(
            "{}x{}",
            side.manifest.tensor.width, side.manifest.tensor.height
        )
    };
    row("", "A".to_owned(), "B".to_owned())?;
    row(
        "output kind",
        a.manifest.output.kind.to_string(),
        b.manifest.output.kind.to_string(),
    )?;
    row("input", size(a), size(b))?;
    row("file", megabytes(a.bytes), megabytes(b.bytes))?;
    let of = |time: Duration| format!("{:.1} ms", ms(time));
    row(
        "inference, 1 thread",
        of(a.one.inference),
        of(b.one.inference),
    )?;
    if cores > 1 {
        let what = format!("inference, {cores} threads");
        row(&what, of(a.all.inference), of(b.all.inference))?;
    }
    row(
        "CPU of a picture, with all around it",
        of(a.one.cpu),
        of(b.one.cpu),
    )?;
    let cameras = |side: &Side| format!("about {:.0}", side.cameras.floor());
    let what = format!("cameras on {cores} cores, an estimate");
    row(&what, cameras(a), cameras(b))?;
    let what = format!("objects over {MIN_SCORE}");
    row(&what, agreement.a.to_string(), agreement.b.to_string())?;
    let share = |share: Option<f64>| {
        share.map_or("-".to_owned(), |share| format!("{:.0} %", 100.0 * share))
    };
    row(
        "of them, the other has too (IoU 0.5)",
        share(agreement.share_of_a(0)),
        share(agreement.share_of_b(0)),
    )?;
    row(
        "of them, the other has too (IoU 0.7)",
        share(agreement.share_of_a(1)),
        share(agreement.share_of_b(1)),
    )?;
    let difference = agreement
        .mean_difference()
        .map_or_else(|| "-".to_owned(), |difference| format!("{difference:+.3}"));
    row(
        "score of what both have, B less A",
        String::new(),
        difference,
    )?;
    let decoding = match pictures.decode_cpu {
        Some(cpu) => format!("{:.1} ms for", ms(cpu)),
        None => "nothing for".to_owned(),
    };
    writeln!(
        out,
        "\nMilliseconds are medians, for which the models took turns. The estimate is for\n\
         cameras of {DETECTIONS_A_SECOND} frames a second that are all looked at; it counts {decoding}\n\
         decoding a frame. `twinsight capacity --model NAME` measures it."
    )?;
    if !agreement.only_a.is_empty() || !agreement.only_b.is_empty() {
        let list = |labels: &[String]| match labels {
            [] => "none".to_owned(),
            labels => labels.join(", "),
        };
        writeln!(
            out,
            "Labels that only A sees here: {}\nLabels that only B sees here: {}",
            list(&agreement.only_a),
            list(&agreement.only_b)
        )?;
    }
    Ok(())
}

fn write_json(
    a: &Side,
    b: &Side,
    agreement: &Agreement,
    pictures: &Pictures,
    cores: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let rounded = |value: f64| (1000.0 * value).round() / 1000.0;
    let side = |side: &Side, objects: usize, shares: [Option<f64>; 2]| {
        json!({
            "name": side.name,
            "sha256": side.manifest.sha256.as_deref(),
            "kind": side.manifest.output.kind.word(),
            "width": side.manifest.tensor.width,
            "height": side.manifest.tensor.height,
            "bytes": side.bytes,
            "inferenceMs": rounded(ms(side.one.inference)),
            "inferenceAllThreadsMs": rounded(ms(side.all.inference)),
            "cpuMs": rounded(ms(side.one.cpu)),
            "camerasEstimate": side.cameras.floor(),
            "objects": objects,
            "matchedAtIou50": shares[0].map(rounded),
            "matchedAtIou70": shares[1].map(rounded),
        })
    };
    let line = json!({
        "a": side(a, agreement.a, [0, 1].map(|at| agreement.share_of_a(at))),
        "b": side(b, agreement.b, [0, 1].map(|at| agreement.share_of_b(at))),
        "meanScoreDifference": agreement.mean_difference().map(rounded),
        "pictures": pictures.count(),
        "decodeMs": pictures.decode_cpu.map(|cpu| rounded(ms(cpu))),
        "threads": cores,
        "minScore": rounded(f64::from(MIN_SCORE)),
    });
    writeln!(out, "{line}")
}
