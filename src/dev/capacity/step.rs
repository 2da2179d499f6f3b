//! One step of the measurement: a number of cameras comes in, what was counted goes out. The command runs it: it starts a node with
//! these cameras, lets it settle, watches it for some seconds and stops it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;

use super::super::loopback::node_config;
use super::super::progress::progress_bar;
use super::CapacityOptions;
use super::cpu::CpuReading;
use super::measured::{Demand, Measured};
use super::testbed::{NODE, THREADS, Testbed};
use crate::config::CameraConfig;
use crate::node::{Node, NodeParts};
use crate::telemetry::ledger::{FrameDrop, Stage};
use crate::telemetry::metrics::StreamMetrics;
use twinsight_client::stream_id::StreamId;

/// Cameras of which no frame was inferred within this time count as not carried.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The load of the start is over after this time: the keyframes of all cameras at once, and the end of the step before.
const SETTLE: Duration = Duration::from_millis(1500);

/// How often the progress bar moves and the counters are looked at.
const TICK: Duration = Duration::from_millis(100);

/// A step should last for this many inferences of each camera, so that one more or less does not decide.
const ENOUGH_INFERENCES: f64 = 10.0;

/// A node that runs for a step.
pub(super) struct Step {
    node: Node,
    streams: Vec<Arc<StreamMetrics>>,
    /// The configuration that all cameras have.
    pub(super) camera: CameraConfig,
    pub(super) demand: Demand,
    bar: ProgressBar,
    window: Duration,
    workers: usize,
}

/// The counts of all cameras at one moment.
struct Counts {
    at: Instant,
    inferred: Vec<u64>,
    unchanged: Vec<u64>,
    received: u64,
    decoded: u64,
    inference: Duration,
    cpu: CpuReading,
}

impl Step {
    /// Starts a node with this many cameras.
    pub(super) async fn start(
        options: &CapacityOptions,
        testbed: &mut Testbed,
        cameras: usize,
    ) -> Result<Self> {
        let ids = testbed.cameras(cameras);
        let own = [
            Some(("TWINSIGHT_HTTP__LISTEN", "127.0.0.1:0".to_owned())),
            // The age of every frame is wanted, so every frame gives an event.
            Some(("TWINSIGHT_DEFAULTS__EMIT_EMPTY", "true".to_owned())),
            options
                .model
                .clone()
                .map(|model| ("TWINSIGHT_DEFAULTS__MODEL", model)),
            options
                .max_fps
                .map(|max_fps| ("TWINSIGHT_DEFAULTS__MAX_FPS", max_fps.to_string())),
            options
                .scene
                .map(|_| ("TWINSIGHT_DEFAULTS__MOTION", "gate".to_owned())),
        ];
        let own = own.into_iter().flatten();
        let (env, url) = (&options.env, testbed.url());
        let config = node_config(env, url, NODE, &ids, &options.models_dir, own)?;
        let camera = config.cameras.first().cloned();
        let camera = camera.context("a step without cameras")?;
        let demand = Demand {
            fps: options.fps,
            max_fps: camera.max_fps,
            max_age: camera.max_age,
        };
        let wanted = ENOUGH_INFERENCES / demand.inferences_per_second();
        // If inferences are very rare, this exceeds what a duration can be.
        let wanted = Duration::try_from_secs_f64(wanted).unwrap_or(Duration::MAX);
        let window = wanted.clamp(options.step, 2 * options.step);
        let ticks = (SETTLE + window).as_millis() / TICK.as_millis();
        let bar = progress_bar(
            match cameras {
                1 => "1 camera".to_owned(),
                _ => format!("{cameras} cameras"),
            },
            u64::try_from(ticks).unwrap_or(u64::MAX),
            "{percent} %",
        );
        let http = crate::http::server::bind(config.http.listen).await?;
        let models_dir = config.runtime.models_dir.clone();
        let dylib_path = options.env.get("ORT_DYLIB_PATH").map(PathBuf::from);
        let parts = NodeParts::new(config, models_dir, dylib_path, http);
        let workers = parts.workers;
        let node = Node::start(parts).await?;
        let metrics = Arc::clone(node.metrics());
        let stream = |id: &String| metrics.stream(&StreamId::new(id.as_str(), "default"));
        Ok(Self {
            streams: ids.iter().map(stream).collect(),
            node,
            camera,
            demand,
            bar,
            window,
            workers,
        })
    }

    /// Lets the node settle, then counts.
    pub(super) async fn measure(&mut self, testbed: &Testbed) -> Result<Measured> {
        let measuring = measure(&self.streams, &self.bar, self.window, testbed);
        let mut measured = tokio::select! {
            measured = measuring => measured?,
            // The node's loop runs meanwhile, as in real use.
            refused = self.node.run() => return refused.and_then(|()| bail!("the node ended")),
        };
        self.bar.finish_and_clear();
        measured.workers = self.workers;
        Ok(measured)
    }

    /// How long the step is measured.
    pub(super) fn window(&self) -> Duration {
        self.window
    }

    pub(super) async fn stop(self) {
        self.bar.finish_and_clear();
        self.node.shutdown().await;
    }
}

async fn measure(
    streams: &[Arc<StreamMetrics>],
    bar: &ProgressBar,
    window: Duration,
    testbed: &Testbed,
) -> Result<Measured> {
    let until = Instant::now() + CONNECT_LIMIT;
    let waits = |stream: &Arc<StreamMetrics>| stream.frames_inferred.get() == 0;
    while streams.iter().any(waits) && Instant::now() < until {
        tokio::time::sleep(TICK).await;
    }
    if streams.iter().all(waits) {
        bail!(
            "no picture of the cameras was inferred within {} s: see what `twinsight detect` says of the clip",
            CONNECT_LIMIT.as_secs()
        );
    }
    pause(SETTLE, bar).await;
    testbed.take_ages_ms();
    let before = Counts::now(streams);
    pause(window, bar).await;
    let after = Counts::now(streams);
    let inferred = after.inferred.iter().zip(&before.inferred);
    let unchanged = after.unchanged.iter().zip(&before.unchanged);
    Ok(Measured {
        window: after.at.saturating_duration_since(before.at),
        inferred: inferred.map(|(after, before)| after - before).collect(),
        unchanged: unchanged.map(|(after, before)| after - before).collect(),
        received: after.received - before.received,
        decoded: after.decoded - before.decoded,
        workers: 1,
        inference: after.inference.saturating_sub(before.inference),
        ages_ms: testbed.take_ages_ms(),
        cpu: after.cpu.since(&before.cpu),
    })
}

async fn pause(time: Duration, bar: &ProgressBar) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        tokio::time::sleep(left.min(TICK)).await;
        bar.inc(1);
    }
}

impl Counts {
    fn now(streams: &[Arc<StreamMetrics>]) -> Self {
        let busy = |stream: &Arc<StreamMetrics>| -> Duration {
            [Stage::Preprocess, Stage::Inference, Stage::Postprocess]
                .map(|stage| stream.stage_total(stage))
                .iter()
                .sum()
        };
        Self {
            at: Instant::now(),
            inferred: streams.iter().map(|s| s.frames_inferred.get()).collect(),
            unchanged: streams
                .iter()
                .map(|s| s.frames_dropped(FrameDrop::Unchanged))
                .collect(),
            received: streams.iter().map(|s| s.access_units_received.get()).sum(),
            decoded: streams.iter().map(|s| s.frames_decoded.get()).sum(),
            inference: streams.iter().map(busy).sum(),
            cpu: CpuReading::now(THREADS),
        }
    }
}
