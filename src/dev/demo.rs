//! `twinsight demo` runs a hub, camera twins that play the shipped clip, and the node in one process. The address of the node's
//! dashboard and a table of its events go out, which the demo receives through the hub as any app would.

mod screen;
mod table;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::join_all;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use self::screen::Screen;
use self::table::{Column, Row};
use super::camera::check_fps;
use super::loopback::{LoopbackHub, camera, camera_client, node_source, percentile};
use super::terminal::{Colours, Paint, TerminalSize};
use crate::config::{Config, Env, Settings};
use crate::http::probe::reachable;
use crate::http::server::{self, HttpError};
use crate::node::{Node, NodeParts};
use crate::telemetry::metrics::Metrics;
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
    pub(crate) colours: Colours,
    /// Standard output is a terminal on which the table is drawn over itself.
    pub(crate) over_itself: bool,
}

/// The columns of the live table.
const COLUMNS: &[Column] = &[
    Column::left("camera", 0, 10),
    Column::left("state", 1, 11),
    Column::right("events/s", 4, 8),
    Column::right("age ms", 3, 7),
    Column::cut("objects", 2),
];

/// The columns of the summary.
const SUMMARY: &[Column] = &[
    Column::left("camera", 0, 8),
    Column::right("decoded", 3, 0),
    Column::right("inferred", 4, 0),
    Column::right("published", 5, 0),
    Column::right("received", 8, 0),
    Column::right("p50 ms", 2, 0),
    Column::right("p99 ms", 6, 0),
    Column::right("persons", 7, 0),
    Column::left("ledger", 1, 0),
];

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
    let began = Instant::now();
    let (http, address) = announce(&options.env, out).await?;
    writeln!(
        out,
        "{} cameras at {} frames a second; metrics under /metrics",
        options.cameras, options.fps
    )?;
    let mut screen = Screen::new(options.over_itself);
    screen.wait(out, "the model is loaded …")?;

    let clip = Arc::new(Clip::read(&options.clip)?);
    let hub = LoopbackHub::start().await?;

    let ids: Vec<String> = (1..=options.cameras)
        .map(|n| format!("camera-{n}"))
        .collect();
    let clients: Vec<HubClient> = ids.iter().map(|id| camera_client(&hub.url, id)).collect();
    let mut cameras = JoinSet::new();
    for (n, client) in clients.iter().enumerate() {
        let start = n * clip.units().len() / options.cameras;
        let clip = Arc::clone(&clip);
        cameras.spawn(camera(client.clone(), clip, options.fps, start));
    }

    let listener = HubClient::start(HubOptions::simulator(&hub.url, "demo-viewer"));
    listener.joined().await?;
    listener.subscribe(NODE).await?;
    let mut events = listener.messages(EVENT_QUEUE, |message| {
        message.message_type() == Some("edgeInstance:detections")
    });

    let model = options.model.clone();
    let more = model.map(|model| ("TWINSIGHT_DEFAULTS__MODEL", model));
    let more = more
        .into_iter()
        .chain([("TWINSIGHT_HTTP__LISTEN", address.to_string())]);
    let source = node_source(
        &options.env,
        &hub.url,
        NODE,
        &ids,
        &options.models_dir,
        more,
    )?;
    let config = source.resolve(&Settings::default())?;
    let models_dir = config.runtime.models_dir.clone();
    let dylib_path = options.env.get("ORT_DYLIB_PATH").map(PathBuf::from);
    tokio::pin!(stop);
    let mut node = tokio::select! {
        node = Node::start(NodeParts::new(config, models_dir, dylib_path, http)) => node?,
        () = &mut stop => return Ok(()),
    };

    // So it says where its settings came from, too.
    node.follow(source, None);

    let mut tallies = Tallies::new(&ids, began);
    let started = Instant::now();
    let mut draw = tokio::time::interval_at((started + DRAW_EVERY).into(), DRAW_EVERY);
    let over = async {
        match options.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    screen.clear(out)?;
    let outcome = loop {
        tokio::select! {
            () = &mut stop => break Ok(()),
            () = &mut over => break Ok(()),
            result = node.run() => break result,
            Some(message) = events.recv() => tallies.note(&message.data["data"]),
            _ = draw.tick() => {
                let rows = tallies.rows(&node);
                let lines = table::lines(COLUMNS, &rows, screen.size(), options.colours);
                if let Err(error) = screen.draw(out, &lines) {
                    break Err(error.into());
                }
            }
        }
    };
    let ran = started.elapsed();
    let metrics = Arc::clone(node.metrics());
    node.shutdown().await;
    while let Some(message) = events.try_recv() {
        tallies.note(&message.data["data"]);
    }
    cameras.shutdown().await;
    listener.close().await;
    // Each leaves before the hub goes, which it would else warn of.
    join_all(clients.iter().map(HubClient::close)).await;
    hub.stop().await;
    outcome?;
    summary(out, &metrics, &tallies, ran, &screen, options.colours)
}

/// Listens for the dashboard and says where it is, before anything else: models take a while. It is the node's usual port unless that is
/// taken and nobody asked for it.
async fn announce(
    env: &BTreeMap<String, String>,
    out: &mut impl Write,
) -> Result<(TcpListener, SocketAddr)> {
    let env: Env = env.clone().into_iter().collect();
    let wanted = Config::listen(None, &env)?;
    let is_asked_for = env.get("TWINSIGHT_HTTP__LISTEN").is_some();
    let (listener, taken) = match server::bind(wanted).await {
        Err(HttpError::InUse(_)) if !is_asked_for => {
            let free = SocketAddr::new(wanted.ip(), 0);
            let note = format!(" (port {} is taken)", wanted.port());
            (server::bind(free).await?, note)
        }
        listener => (listener?, String::new()),
    };
    let address = listener.local_addr()?;
    // As a browser on this machine takes it.
    let shown = SocketAddr::new(reachable(address.ip()), address.port());
    writeln!(out, "Dashboard: http://{shown}/{taken}")?;
    out.flush()?;
    Ok((listener, address))
}

/// What came of all cameras' events.
#[derive(Debug)]
struct Tallies {
    cameras: BTreeMap<String, CameraTally>,
    /// When the demo began.
    began: Instant,
    /// How long after that the first object was seen.
    first_seen: Option<Duration>,
    drawn_at: Instant,
}

impl Tallies {
    fn new(ids: &[String], began: Instant) -> Self {
        Self {
            cameras: ids
                .iter()
                .map(|id| (id.clone(), CameraTally::default()))
                .collect(),
            began,
            first_seen: None,
            drawn_at: Instant::now(),
        }
    }

    fn note(&mut self, event: &Value) {
        let Some(camera) = event["camera"]["twinId"]
            .as_str()
            .and_then(|id| self.cameras.get_mut(id))
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
        if !labels.is_empty() {
            self.first_seen.get_or_insert_with(|| self.began.elapsed());
        }
        camera.persons += labels.get("person").copied().unwrap_or_default();
        camera.objects = labels
            .iter()
            .map(|(label, count)| format!("{count} {label}"))
            .collect::<Vec<_>>()
            .join(", ");
    }

    /// The rows of the live table, with what came since they were made last.
    fn rows(&mut self, node: &Node) -> Vec<Row> {
        let seconds = self.drawn_at.elapsed().as_secs_f64().max(0.001);
        self.drawn_at = Instant::now();
        let states: BTreeMap<String, &str> = node
            .cameras()
            .into_iter()
            .map(|facts| {
                let status = facts.status;
                (status.id.twin_id.to_string(), status.state.as_str())
            })
            .collect();
        let row = |(id, camera): (&String, &mut CameraTally)| {
            let rate = camera.since_drawn as f64 / seconds;
            camera.since_drawn = 0;
            let state = states.get(id).copied().unwrap_or("starting");
            let paint = match state {
                "receiving" => Paint::Green,
                "starting" | "connecting" => Paint::Yellow,
                _ => Paint::Red,
            };
            Row {
                cells: vec![
                    id.clone(),
                    state.to_owned(),
                    format!("{rate:.1}"),
                    format!("{:.1}", camera.age_ms),
                    camera.objects.clone(),
                ],
                paint: Some(paint),
                is_trouble: state != "receiving",
            }
        };
        self.cameras.iter_mut().map(row).collect()
    }
}

fn summary(
    out: &mut impl Write,
    metrics: &Metrics,
    tallies: &Tallies,
    ran: Duration,
    screen: &Screen,
    colours: Colours,
) -> Result<()> {
    write!(out, "\nafter {:.1} s", ran.as_secs_f64())?;
    if let Some(first_seen) = tallies.first_seen {
        let seconds = first_seen.as_secs_f64();
        write!(
            out,
            "; the first detection came {seconds:.1} s after the start"
        )?;
    }
    writeln!(out)?;
    let mut all_balance = true;
    let mut row = |(id, camera): (&String, &CameraTally)| {
        let stream = metrics.stream(&StreamId::new(id.as_str(), "default"));
        let ledger = stream.ledger();
        let balances = ledger.balances();
        all_balance &= balances;
        let mut ages = camera.ages_ms.clone();
        ages.sort_by(f64::total_cmp);
        Row {
            cells: vec![
                id.clone(),
                ledger.frames_decoded.to_string(),
                ledger.frames_inferred.to_string(),
                ledger.events_published.to_string(),
                camera.events.to_string(),
                format!("{:.1}", percentile(&ages, 50)),
                format!("{:.1}", percentile(&ages, 99)),
                camera.persons.to_string(),
                match balances {
                    true => "balances".to_owned(),
                    false => format!("off by {:?}", ledger.in_flight()),
                },
            ],
            paint: None,
            is_trouble: false,
        }
    };
    let rows: Vec<Row> = tallies.cameras.iter().map(&mut row).collect();
    // It stays, so that it may be higher than the terminal.
    let size = screen.size().map(|size| TerminalSize {
        rows: usize::MAX,
        ..size
    });
    for line in table::lines(SUMMARY, &rows, size, colours) {
        writeln!(out, "{line}")?;
    }
    ensure!(
        all_balance,
        "a camera's ledger does not balance: this is a bug in Twinsight"
    );
    Ok(())
}
