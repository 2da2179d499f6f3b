//! The node: a configuration comes in, stages are built and run, and stopped in the path's order.

mod apply;
mod cameras;
mod gone;
pub mod models;
pub mod reload;
mod report;
mod settings;
mod unmatched_offers;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

use self::apply::{Applier, SharedPool};
use self::cameras::{CameraContext, Cameras};
use self::models::Models;
use self::reload::{Inputs, ReloadTask, Reloaded};
use crate::clock::WallClock;
use crate::config::{Config, ConfigSource, HubConfig, HubMode};
use crate::detect::health::ModelHealth;
use crate::detect::plan::SessionPlan;
use crate::detect::pool::{InferencePool, LOOK_EVERY};
use crate::detect::worker::{CameraScheduler, Inference, PoolContext};
use crate::http::api::{CameraFacts, CameraView};
use crate::http::server::{HttpState, serve};
use crate::publish::event::{Inferred, ModelRef, SeenObject};
use crate::publish::publisher::{EventSink, HubAway, Publisher, PublisherTask, new_run_id};
use crate::telemetry::health::{Health, HealthClock, Heartbeat, Readiness};
use crate::telemetry::metrics::Metrics;
use twinsight_client::hub::AwayReason;
use twinsight_client::hub::Instance;
use twinsight_client::hub::options::{HubOptions, Mode, Timers};
use twinsight_client::hub::{HubClient, HubStatus};
use twinsight_client::media::camera::StreamContext;
use twinsight_media::decode::cpu_pressure::CpuPressure;
use twinsight_media::decode::decoder::DecoderKind;
use twinsight_media::decode::keyframes::KeyframeBudget;

/// Events of inferred frames that wait for the hub's socket.
const OUTBOX_FRAMES: usize = 64;

/// A worker whose run takes longer than this at the node's end is left alone.
const WORKER_LIMIT: Duration = Duration::from_secs(2);

/// Events that wait at the node's end have this long.
const OUTBOX_LIMIT: Duration = Duration::from_secs(1);

/// A loop of the node that shows no life for this long makes it unhealthy.
const MAX_SILENCE: Duration = Duration::from_secs(15);

/// What the node is built from.
pub struct NodeParts {
    /// The configuration.
    pub config: Config,
    /// Loads the models; runs on a thread of its own.
    pub models: Box<dyn FnOnce() -> Result<Models> + Send>,
    /// Inference workers.
    pub workers: usize,
    /// The decoder.
    pub decoder: DecoderKind,
    /// Where metrics and probes are served.
    pub listener: TcpListener,
}

impl NodeParts {
    /// A node that infers with ONNX Runtime and the models of a folder, by the plan for its cameras, and decodes in software.
    pub fn new(
        config: Config,
        models_dir: std::path::PathBuf,
        dylib_path: Option<std::path::PathBuf>,
        listener: TcpListener,
    ) -> Self {
        let (mut runtime, cameras) = (config.runtime.clone(), config.cameras.clone());
        runtime.models_dir = models_dir;
        let plan = SessionPlan::new(runtime.threads, cameras.len());
        tracing::info!(cameras = cameras.len(), "inference runs in {plan}");
        Self {
            config,
            models: Box::new(move || Models::load(&runtime, plan, &cameras, dylib_path)),
            workers: plan.workers,
            decoder: DecoderKind::Software,
            listener,
        }
    }
}

impl std::fmt::Debug for NodeParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeParts")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// A running node. [`shutdown`](Self::shutdown) ends it.
#[derive(Debug)]
pub struct Node {
    metrics: Arc<Metrics>,
    hub: HubClient,
    cameras: Arc<tokio::sync::Mutex<Cameras>>,
    scheduler: Arc<CameraScheduler>,
    pool: SharedPool,
    publisher: PublisherTask,
    facts: Arc<Mutex<Vec<CameraFacts>>>,
    tasks: Vec<JoinHandle<()>>,
    following: Following,
    http: JoinHandle<()>,
    stop_http: watch::Sender<bool>,
    refused: watch::Receiver<Option<String>>,
    health: Health,
    _clock: HealthClock,
}

/// Whether the node follows changes of its configuration.
#[derive(Debug)]
enum Following {
    /// It keeps the one that it was started with.
    Nothing(Box<(Applier, Config)>),
    /// Files, signals and the hub's settings.
    Changes(ReloadTask),
    /// The node stops.
    Ended,
}

impl Node {
    /// Builds and starts everything: probes answer first, then models are loaded and warmed, then the
    /// hub is joined and cameras are subscribed to. A hub that is away is no error.
    ///
    /// # Errors
    /// When a model cannot be used, or a camera names a class that its model does not have.
    pub fn start(parts: NodeParts) -> BoxFuture<'static, Result<Self>> {
        // Boxed here, since each program that awaited it unboxed would compile the whole node anew.
        Box::pin(Self::build(parts))
    }

    async fn build(parts: NodeParts) -> Result<Self> {
        let NodeParts {
            config,
            models,
            workers,
            decoder,
            listener,
        } = parts;
        let metrics = Arc::new(Metrics::new());
        let (health, readiness) = (Health::default(), Arc::new(Readiness::default()));
        let clock = health.start_clock()?;
        let facts: Arc<Mutex<Vec<CameraFacts>>> = Arc::default();
        let (stop_http, http) =
            serve_http(listener, &config, &metrics, &health, &readiness, &facts);

        let mut models = tokio::task::spawn_blocking(models)
            .await
            .context("loading the models panicked")??;
        let detectors = models.detectors(workers.max(1))?;
        readiness.set_model_warm(true);

        let hub =
            HubClient::start_counting(hub_options(&config.hub), Some(Arc::clone(&metrics) as _));
        let run_id = new_run_id();
        hub.watch_for_namesakes(&run_id);
        let heartbeat = health.register("publisher", MAX_SILENCE, Instant::now());
        let sink = HubSink {
            instance: hub.instance(),
        };
        let (publisher, publisher_task) = Publisher::spawn(
            sink,
            run_id,
            OUTBOX_FRAMES,
            Arc::clone(&metrics),
            Some(heartbeat),
        );

        let scheduler = Arc::new(CameraScheduler::default());
        let cpu_pressure: Arc<CpuPressure> = Arc::default();
        let pool_context = PoolContext {
            scheduler: Arc::clone(&scheduler),
            factory: models.factory(),
            sink: inference_sink(publisher.clone()),
            metrics: Arc::clone(&metrics),
            health: health.clone(),
            cpu_pressure: Arc::clone(&cpu_pressure),
            clock: Arc::new(Instant::now),
        };
        let pool = InferencePool::spawn(pool_context, detectors);
        let model_health = pool.models();
        let pool: SharedPool = Arc::new(Mutex::new(Some(pool)));

        let changed = Arc::new(Notify::new());
        let cameras = Cameras::new(CameraContext {
            stream: StreamContext {
                hub: hub.clone(),
                keyframes: Arc::new(KeyframeBudget::new(Instant::now())),
            },
            scheduler: Arc::clone(&scheduler),
            metrics: Arc::clone(&metrics),
            publisher: publisher.clone(),
            ice: (&config.ice).into(),
            decoder,
            cpu_pressure,
            changed: Arc::clone(&changed),
        });
        let cameras = Arc::new(tokio::sync::Mutex::new(cameras));
        let mut applier = Applier::new(models, Arc::clone(&cameras), Arc::clone(&pool));
        let prepared = applier.prepare(config.clone(), &config).await?;
        applier.apply(prepared).await?;
        metrics.config_taken(SystemTime::now());

        let (refused_sender, refused) = watch::channel(None);
        let tasks = vec![
            tokio::spawn(health.watch(
                "the hub watcher",
                watch_hub(
                    hub.clone(),
                    publisher,
                    Arc::clone(&readiness),
                    refused_sender,
                ),
            )),
            tokio::spawn(health.watch(
                "the watch over unmatched offers",
                unmatched_offers::run(hub.clone(), Arc::clone(&metrics), applier.active_config()),
            )),
            tokio::spawn(health.watch(
                "the property report",
                report::run(
                    hub.clone(),
                    Arc::clone(&facts),
                    applier.active_config(),
                    changed,
                ),
            )),
            tokio::spawn(health.watch(
                "the supervisor of inference",
                supervise(
                    Arc::clone(&pool),
                    Arc::clone(&model_health),
                    readiness,
                    health.register("inference", MAX_SILENCE, Instant::now()),
                ),
            )),
            tokio::spawn(health.watch(
                "the reader of facts",
                read_facts(
                    Arc::clone(&cameras),
                    model_health,
                    Arc::clone(&facts),
                    Arc::clone(&metrics),
                    health.clone(),
                ),
            )),
        ];
        Ok(Self {
            metrics,
            hub,
            cameras,
            scheduler,
            pool,
            publisher: publisher_task,
            facts,
            tasks,
            following: Following::Nothing(Box::new((applier, config))),
            http,
            stop_http,
            refused,
            health,
            _clock: clock,
        })
    }

    /// Follows its configuration from now on: `source` has what the node was started with. Its file is
    /// watched, and read again at `hangup`; the settings of the node's twin are a layer over it. A second
    /// call changes nothing.
    pub fn follow(&mut self, source: ConfigSource, hangup: Option<Signal>) {
        let (applier, started) = match std::mem::replace(&mut self.following, Following::Ended) {
            Following::Nothing(parts) => *parts,
            other => {
                self.following = other;
                return;
            }
        };
        let (sender, told) = watch::channel(None);
        let reading = settings::run(self.hub.clone(), sender);
        let reading = self
            .health
            .watch("the reader of the hub's settings", reading);
        self.tasks.push(tokio::spawn(reading));
        let inputs = Inputs {
            source,
            hangup,
            told,
        };
        let metrics = Arc::clone(&self.metrics);
        let task = ReloadTask::spawn(applier, metrics, started, inputs, &self.health);
        self.following = Following::Changes(task);
    }

    /// Reads the configuration again, as at SIGHUP, and says what came of it.
    pub fn reload(&self) -> impl Future<Output = Reloaded> + Send + 'static {
        let requests = match &self.following {
            Following::Changes(task) => Some(task.requests()),
            Following::Nothing(_) | Following::Ended => None,
        };
        async move {
            let (sender, outcome) = oneshot::channel();
            let Some(requests) = requests else {
                return Reloaded::Ended;
            };
            match requests.send(sender).await {
                Ok(()) => outcome.await.unwrap_or(Reloaded::Ended),
                Err(_) => Reloaded::Ended,
            }
        }
    }

    /// Runs until the hub refuses this node for good; the error says why.
    ///
    /// # Errors
    /// Always: nothing else ends a node from inside.
    pub async fn run(&mut self) -> Result<()> {
        let mut refused = self.refused.clone();
        let reason = refused.wait_for(Option::is_some).await;
        let reason = reason.ok().and_then(|reason| reason.clone());
        let reason = reason.unwrap_or_default();
        bail!(
            "the hub refuses this node ({reason}): check DEVICE_ID and ACCESS_KEY, or `hub.access_key_file`"
        );
    }

    /// All metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The node's client of the hub.
    pub fn hub(&self) -> &HubClient {
        &self.hub
    }

    /// How the cameras are, as of the last second.
    pub fn cameras(&self) -> Vec<CameraFacts> {
        self.facts.lock().clone()
    }

    /// Stops in the path's order, so that what a stage has in hand still goes through the next ones:
    /// connections and decoding, inference, events, the hub, HTTP.
    pub fn shutdown(self) -> BoxFuture<'static, ()> {
        Box::pin(self.stop())
    }

    async fn stop(mut self) {
        for task in &self.tasks {
            task.abort();
        }
        if let Following::Changes(task) = std::mem::replace(&mut self.following, Following::Ended) {
            task.end().await;
        }
        self.cameras.lock().await.shutdown().await;
        self.scheduler.close();
        let pool = self.pool.lock().take();
        if let Some(pool) = pool {
            let _ = tokio::task::spawn_blocking(move || pool.join(WORKER_LIMIT)).await;
        }
        // What becomes of the last event is known only when the hub client has ended.
        self.publisher
            .shutdown(OUTBOX_LIMIT, self.hub.close())
            .await;
        close_books(&self.metrics);
        self.stop_http.send_replace(true);
        if tokio::time::timeout(Duration::from_secs(1), &mut self.http)
            .await
            .is_err()
        {
            self.http.abort();
        }
    }
}

/// At the node's end nothing is in flight any more.
fn close_books(metrics: &Metrics) {
    let streams = metrics.all_streams();
    for stream in &streams {
        let ledger = stream.ledger();
        if !ledger.balances() {
            let [units, frames, events] = ledger.in_flight();
            tracing::error!(camera = %stream.id(), units, frames, events, "a camera's ledger does not balance: this is a bug in Twinsight");
        }
    }
    tracing::info!(cameras = streams.len(), "the books are closed");
}

/// The hub as the publisher sees it.
struct HubSink {
    instance: Instance,
}

impl EventSink for HubSink {
    async fn emit(&mut self, event: &'static str, data: Value) -> Result<(), HubAway> {
        self.instance.emit(event, data).await.map_err(|_| HubAway)
    }
}

/// Shapes results into events; runs on the inference workers.
fn inference_sink(publisher: Publisher) -> Arc<dyn Fn(Inference<'_>) + Send + Sync> {
    Arc::new(move |inference| {
        let Inference {
            job,
            detections,
            model,
            started_at,
            finished_at,
        } = inference;
        let objects = detections
            .objects
            .iter()
            .map(|object| SeenObject {
                label: model.label(object.class_id).into(),
                class_id: object.class_id,
                score: object.score,
                x: object.bbox.x,
                y: object.bbox.y,
                width: object.bbox.width,
                height: object.bbox.height,
            })
            .collect();
        let inferred = Inferred {
            id: job.work.id.clone(),
            name: Arc::clone(&job.work.name),
            size: job.frame.size(),
            timing: job.frame.timing(),
            started_at,
            preprocess: detections.preprocess.wall,
            inference: detections.inference.wall,
            postprocess: detections.postprocess.wall,
            finished_at,
            objects,
            model: Arc::new(ModelRef {
                name: model.name.to_string(),
                sha256: model.sha256.to_string(),
            }),
            skipped_frames: job.skipped_frames,
        };
        publisher.publish(inferred, job.work.emit_empty);
    })
}

fn serve_http(
    listener: TcpListener,
    config: &Config,
    metrics: &Arc<Metrics>,
    health: &Health,
    readiness: &Arc<Readiness>,
    facts: &Arc<Mutex<Vec<CameraFacts>>>,
) -> (watch::Sender<bool>, JoinHandle<()>) {
    let (stop, mut stopped) = watch::channel(false);
    let (facts, counters) = (Arc::clone(facts), Arc::clone(metrics));
    let views = move || {
        let facts = facts.lock().clone();
        let now = Instant::now();
        facts
            .into_iter()
            .filter_map(|fact| {
                let metrics = counters.known_stream(&fact.id)?;
                Some(CameraView::new(fact, &metrics, now))
            })
            .collect()
    };
    let state = HttpState {
        metrics: Arc::clone(metrics),
        health: health.clone(),
        readiness: Arc::clone(readiness),
        cameras: Arc::new(views),
    };
    let token = config.http.token.clone();
    let serving = async move {
        let stopped = async move { drop(stopped.wait_for(|stop| *stop).await) };
        if let Err(error) = serve(listener, state, token, stopped).await {
            tracing::error!(%error, "metrics and probes are no longer served");
        }
    };
    let task = tokio::spawn(health.watch("the HTTP server", serving));
    (stop, task)
}

/// Follows the hub: readiness, the states that are sent again after it returned, its refusal.
async fn watch_hub(
    hub: HubClient,
    publisher: Publisher,
    readiness: Arc<Readiness>,
    refused: watch::Sender<Option<String>>,
) {
    let mut status = hub.status();
    loop {
        match status.borrow_and_update().clone() {
            HubStatus::Joined { .. } => {
                readiness.set_hub_joined(true);
                publisher.resend_statuses();
            }
            HubStatus::Refused { reason } => {
                readiness.set_hub_joined(false);
                readiness
                    .set_hub_last_error(format!("{} refuses this node ({reason})", hub.hub_url()));
                refused.send_replace(Some(reason));
            }
            HubStatus::Away { since, reason } => {
                readiness.set_hub_joined(false);
                readiness.set_hub_last_error(hub_trouble(&hub.hub_url(), since, &reason));
            }
            HubStatus::Connecting { attempt } => {
                readiness.set_hub_joined(false);
                if attempt == 1 {
                    let url = hub.hub_url();
                    readiness.set_hub_last_error(format!("{url} is dialled"));
                }
            }
        }
        // This task is aborted before the client is closed.
        if status.changed().await.is_err() {
            panic!("the hub client's task is gone");
        }
    }
}

/// Looks after the inference workers and tells what is wrong with them.
async fn supervise(
    pool: SharedPool,
    models: Arc<ModelHealth>,
    readiness: Arc<Readiness>,
    heartbeat: Heartbeat,
) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let trouble = match &mut *pool.lock() {
            Some(pool) => {
                pool.supervise(Instant::now());
                pool.last_error().map(str::to_owned)
            }
            // The node stops.
            None => return,
        };
        readiness.set_inference_errors(trouble.into_iter().chain(models.last_errors()).collect());
        heartbeat.beat(Instant::now());
    }
}

/// What `/readyz` says of a hub that is away. It names a time and no duration, since it is not made anew for each request.
fn hub_trouble(url: &str, since: Instant, reason: &AwayReason) -> String {
    let clock = WallClock::read();
    // The last second that the format has.
    let last = Duration::from_secs(253_402_300_799);
    let since = Duration::from_millis(clock.unix_ms(since)).min(last);
    let since = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since);
    let mut sentence = format!("{url} is away since {since}: {reason}");
    let remedy = reason.remedy();
    if !remedy.is_empty() {
        sentence += ": ";
        sentence += remedy;
    }
    sentence
}

/// Keeps a copy of the cameras' facts for HTTP and reports, whose readers must not wait.
async fn read_facts(
    cameras: Arc<tokio::sync::Mutex<Cameras>>,
    models: Arc<ModelHealth>,
    facts: Arc<Mutex<Vec<CameraFacts>>>,
    metrics: Arc<Metrics>,
    health: Health,
) {
    let heartbeat = health.register("cameras", MAX_SILENCE, Instant::now());
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    loop {
        tick.tick().await;
        // One thread for work that blocks stays alive, so that a system that grants no more does not hold up the end of
        // a camera or the reading of a file for ever.
        drop(tokio::task::spawn_blocking(|| ()));
        let (read, ended) = {
            let mut cameras = cameras.lock().await;
            cameras.forget(Instant::now());
            cameras.look_for_blind_ones(&models);
            (cameras.facts(), cameras.ended())
        };
        for id in ended {
            health.panicked(format!("the task of camera stream {id}"), &"see the log");
        }
        *facts.lock() = read;
        let tasks = tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks();
        metrics.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
        heartbeat.beat(Instant::now());
    }
}

/// The hub client's options of a configuration.
pub fn hub_options(config: &HubConfig) -> HubOptions {
    let mode = match config.mode {
        HubMode::Direct => Mode::Direct,
        HubMode::Simulator => Mode::Simulator,
        HubMode::Phyos => Mode::Phyos,
    };
    HubOptions {
        mode,
        url: config.url.clone(),
        twin_id: config.twin_id.clone(),
        device_id: config.device_id.clone(),
        access_key: config.access_key.clone(),
        ca_file: config.ca_file.clone(),
        stun_url: config.stun_url.clone(),
        turn: config.turn.clone(),
        timers: Timers::of(mode),
    }
}
