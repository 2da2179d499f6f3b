//! `twinsight demo` runs a hub, camera twins that play the shipped clip, and the node in one process. A table of the node's events
//! goes out, which the demo receives through the hub as any app would.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use tokio::task::JoinSet;

use super::camera::check_fps;
use super::loopback::{LoopbackHub, camera, node_config, percentile};
use crate::node::{Node, NodeParts};
use twinsight_client::hub::client::HubClient;
use twinsight_client::hub::options::HubOptions;
use twinsight_client::stream_id::StreamId;
use twinsight_media::h264::clip::Clip;

/// The twin id of the demo's node.
const NODE: &str = "twinsight-demo";

/// How many cameras the demo may have.
pub(crate) const CAMERAS: RangeInclusive<usize> = 1..=64;

/// The time between two drawings of the table.
const DRAW_EVERY: Duration = Duration::from_secs(1);

/// At most this many events wait to be shown.
const EVENT_QUEUE: usize = 256;

/// At most this many ages of a camera are kept for the percentiles of the summary.
const MAX_AGES: usize = 100_000;

/// What the demo shows.
#[derive(Debug, Clone)]
pub(crate) struct DemoOptions {
    pub(crate) cameras: usize,
    /// How long it runs; without it, until it is stopped.
    pub(crate) duration: Option<Duration>,
    pub(crate) fps: f64,
    /// The name of the model, if it is not the default one.
    pub(crate) model: Option<String>,
    pub(crate) clip: PathBuf,
    pub(crate) models_dir: PathBuf,
    /// Variables of the environment for the node.
    pub(crate) env: BTreeMap<String, String>,
}

/// What came of one camera's events.
#[derive(Debug, Default)]
struct CameraTally {
    events: u64,
    since_drawn: u64,
    ages_ms: Vec<f64>,
    age_ms: f64,
    objects: String,
    persons: u64,
}

/// Runs until its time is over or `stop` resolves, then prints a summary to `out`.
///
/// # Errors
/// If something cannot be started, or the ledger of a camera does not balance at the end.
pub(crate) async fn run(
    options: DemoOptions,
    stop: impl Future<Output = ()>,
    out: &mut impl Write,
) -> Result<()> {
    ensure!(
        CAMERAS.contains(&options.cameras),
        "{} cameras: the demo takes {} to {}",
        options.cameras,
        CAMERAS.start(),
        CAMERAS.end()
    );
    check_fps(options.fps)?;
    let clip = Arc::new(Clip::read(&options.clip)?);
    let hub = LoopbackHub::start().await?;

    let ids: Vec<String> = (1..=options.cameras)
        .map(|n| format!("camera-{n}"))
        .collect();
    let mut cameras = JoinSet::new();
    for (n, id) in ids.iter().enumerate() {
        let start = n * clip.units().len() / options.cameras;
        cameras.spawn(camera(&hub.url, id, Arc::clone(&clip), options.fps, start));
    }

    let listener = HubClient::start(HubOptions::simulator(&hub.url, "demo-viewer"));
    listener.joined().await?;
    listener.subscribe(NODE).await?;
    let mut events = listener.messages(EVENT_QUEUE, |message| {
        message.message_type() == Some("edgeInstance:detections")
    });

    let config = node_config(
        &options.env,
        &hub.url,
        NODE,
        &ids,
        &options.models_dir,
        options
            .model
            .clone()
            .map(|model| ("TWINSIGHT_DEFAULTS__MODEL", model)),
    )?;
    let http = crate::http::server::bind(config.http.listen).await?;
    let metrics_at = http.local_addr()?;
    let models_dir = config.runtime.models_dir.clone();
    let dylib_path = options.env.get("ORT_DYLIB_PATH").map(PathBuf::from);
    let mut node = Node::start(NodeParts::new(config, models_dir, dylib_path, http)).await?;

    writeln!(
        out,
        "{} cameras at {} frames a second; metrics at http://{metrics_at}/metrics",
        ids.len(),
        options.fps
    )?;
    let mut seen: BTreeMap<String, CameraTally> = ids
        .iter()
        .map(|id| (id.clone(), CameraTally::default()))
        .collect();
    let started = Instant::now();
    let mut screen = Screen::new();
    let mut draw = tokio::time::interval_at((started + DRAW_EVERY).into(), DRAW_EVERY);
    let over = async {
        match options.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(stop, over);
    let outcome = loop {
        tokio::select! {
            () = &mut stop => break Ok(()),
            () = &mut over => break Ok(()),
            result = node.run() => break result,
            Some(message) = events.recv() => note(&mut seen, &message.data["data"]),
            _ = draw.tick() => screen.draw(out, &node, &mut seen)?,
        }
    };
    let ran = started.elapsed();
    let metrics = Arc::clone(node.metrics());
    node.shutdown().await;
    while let Some(message) = events.try_recv() {
        note(&mut seen, &message.data["data"]);
    }
    cameras.shutdown().await;
    listener.close().await;
    hub.stop().await;
    outcome?;
    summary(out, &metrics, &seen, ran)
}

fn note(seen: &mut BTreeMap<String, CameraTally>, event: &Value) {
    let Some(camera) = event["camera"]["twinId"]
        .as_str()
        .and_then(|id| seen.get_mut(id))
    else {
        return;
    };
    camera.events += 1;
    camera.since_drawn += 1;
    camera.age_ms = event["latencyMs"]["total"].as_f64().unwrap_or_default();
    if camera.ages_ms.len() < MAX_AGES {
        camera.ages_ms.push(camera.age_ms);
    }
    let mut labels: BTreeMap<&str, u64> = BTreeMap::new();
    for object in event["objects"].as_array().into_iter().flatten() {
        *labels
            .entry(object["label"].as_str().unwrap_or("?"))
            .or_default() += 1;
    }
    camera.persons += labels.get("person").copied().unwrap_or_default();
    camera.objects = labels
        .iter()
        .map(|(label, count)| format!("{count} {label}"))
        .collect::<Vec<_>>()
        .join(", ");
}

/// The live table. On a terminal it is drawn over itself, elsewhere one table follows the other.
struct Screen {
    over_itself: bool,
    lines: usize,
    drawn_at: Instant,
}

impl Screen {
    fn new() -> Self {
        Self {
            over_itself: std::io::stdout().is_terminal(),
            lines: 0,
            drawn_at: Instant::now(),
        }
    }

    fn draw(
        &mut self,
        out: &mut impl Write,
        node: &Node,
        seen: &mut BTreeMap<String, CameraTally>,
    ) -> Result<()> {
        let seconds = self.drawn_at.elapsed().as_secs_f64().max(0.001);
        self.drawn_at = Instant::now();
        let states: BTreeMap<String, &str> = node
            .cameras()
            .into_iter()
            .map(|facts| {
                (
                    facts.status.id.twin_id.to_string(),
                    facts.status.state.as_str(),
                )
            })
            .collect();
        let mut table = String::new();
        writeln!(
            table,
            "{:<12} {:<12} {:>8} {:>9}  objects",
            "camera", "state", "events/s", "age ms"
        )?;
        for (id, camera) in seen.iter_mut() {
            let rate = camera.since_drawn as f64 / seconds;
            camera.since_drawn = 0;
            let state = states.get(id).copied().unwrap_or("starting");
            writeln!(
                table,
                "{id:<12} {state:<12} {rate:>8.1} {:>9.1}  {}",
                camera.age_ms, camera.objects
            )?;
        }
        if self.over_itself && self.lines > 0 {
            write!(out, "\x1b[{}A\x1b[J", self.lines)?;
        }
        self.lines = table.lines().count();
        out.write_all(table.as_bytes())?;
        out.flush()?;
        Ok(())
    }
}

fn summary(
    out: &mut impl Write,
    metrics: &crate::telemetry::metrics::Metrics,
    seen: &BTreeMap<String, CameraTally>,
    ran: Duration,
) -> Result<()> {
    writeln!(out, "\nafter {:.1} s", ran.as_secs_f64())?;
    writeln!(
        out,
        "{:<12} {:>8} {:>8} {:>9} {:>9} {:>8} {:>8} {:>8}  ledger",
        "camera", "decoded", "inferred", "published", "received", "p50 ms", "p99 ms", "persons"
    )?;
    let mut all_balance = true;
    for (id, camera) in seen {
        let stream = metrics.stream(&StreamId::new(id.as_str(), "default"));
        let ledger = stream.ledger();
        let balances = ledger.balances();
        all_balance &= balances;
        let mut ages = camera.ages_ms.clone();
        ages.sort_by(f64::total_cmp);
        writeln!(
            out,
            "{id:<12} {:>8} {:>8} {:>9} {:>9} {:>8.1} {:>8.1} {:>8}  {}",
            ledger.frames_decoded,
            ledger.frames_inferred,
            ledger.events_published,
            camera.events,
            percentile(&ages, 50),
            percentile(&ages, 99),
            camera.persons,
            if balances {
                "balances".to_owned()
            } else {
                format!("off by {:?}", ledger.in_flight())
            }
        )?;
    }
    ensure!(
        all_balance,
        "a camera's ledger does not balance: this is a bug in Twinsight"
    );
    Ok(())
}
