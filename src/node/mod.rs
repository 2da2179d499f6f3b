//! The node. A configuration comes in; the stages are built and run, and at the end they are stopped in the order of the
//! path.

mod apply;
mod cameras;
pub mod models;
pub mod reload;
mod removed;
mod report;
mod settings;
mod share;
mod sink;
mod tasks;
mod traces;
mod unmatched_offers;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::apply::{Applier, SharedPool};
pub(crate) use self::cameras::min_interval;
use self::cameras::{CameraContext, Cameras};
use self::models::{Models, remote_opener};
use self::reload::{Inputs, ReloadTask, Reloaded};
use self::share::{ShareParts, follow_duties, part_with_cameras};
pub(crate) use self::sink::following;
use self::sink::{NodeSink, inference_sink, track_events, unchanged_sink};
pub(crate) use self::tasks::away_sentence;
use self::tasks::{read_facts, supervise, watch_hub};
use self::traces::Traces;
use crate::bridge::source::Source;
use crate::bridge::{BridgeContext, BridgeHub, Bridges};
use crate::config::{Config, ConfigSource};
use crate::detect::plan::SessionPlan;
use crate::detect::pool::InferencePool;
use crate::detect::worker::{CameraScheduler, PoolContext};
use crate::http::api::{CameraFacts, HubFacts, InferenceFacts};
use crate::http::scene_edit::{EditPermission, SceneEditor};
use crate::http::server::serve;
use crate::http::state::HttpState;
use crate::preview::Previews;
use crate::publish::feed::EventFeed;
use crate::publish::publisher::{Publisher, PublisherTask, new_run_id};
use crate::shard::{Share, ShareTask};
use crate::sinks::{SinkContext, Sinks};
use crate::telemetry::health::{Health, HealthClock};
use crate::telemetry::metrics::Metrics;
use crate::track::directory::TrackDirectory;
use crate::track::news::TrackEnd;
use twinsight_client::hub::{HubClient, HubOptions};
use twinsight_client::media::camera::StreamContext;
use twinsight_client::realtime::ice::IceSettings;
use twinsight_media::decode::cpu_pressure::CpuPressure;
use twinsight_media::decode::decoder::DecoderKind;
use twinsight_media::decode::keyframes::KeyframeBudget;

/// So many events of inferred frames may wait for the hub's socket.
const OUTBOX_FRAMES: usize = 64;

/// A worker whose run takes longer than this at the node's end is left behind.
const WORKER_LIMIT: Duration = Duration::from_secs(2);

/// At the node's end, events that wait have this long to be sent.
const OUTBOX_LIMIT: Duration = Duration::from_secs(1);

/// A loop of the node that does not beat for this long makes the node unhealthy.
const MAX_SILENCE: Duration = Duration::from_secs(15);

/// What the node is built from.
pub struct NodeParts {
    /// The configuration.
    pub config: Config,
    /// Loads the models, on a thread for work that blocks.
    pub models: ModelsSource,
    /// How many inference workers there are.
    pub workers: usize,
    /// How models are run, for the API.
    pub inference: InferenceFacts,
    /// The kind of decoder that every camera gets.
    pub decoder: DecoderKind,
    /// Where metrics and probes are served.
    pub listener: TcpListener,
}

/// Loads the models of a node, which count in its metrics.
pub type ModelsSource = Box<dyn FnOnce(&Arc<Metrics>) -> Result<Models> + Send>;

impl NodeParts {
    /// A node that decodes in software and infers with ONNX Runtime and the models of a folder, with as many workers as suit
    /// its cameras.
    pub fn new(
        config: Config,
        models_dir: std::path::PathBuf,
        dylib_path: Option<std::path::PathBuf>,
        listener: TcpListener,
    ) -> Self {
        let (mut runtime, cameras) = (config.runtime.clone(), config.cameras.clone());
        runtime.models_dir = models_dir;
        let remotes = config.models.clone();
        let plan = SessionPlan::new(runtime.threads, cameras.len());
        tracing::info!(cameras = cameras.len(), "inference runs in {plan}");
        let providers = &config.runtime.execution_providers;
        let inference = InferenceFacts {
            execution_provider: providers.first().cloned().unwrap_or_default(),
            sessions: plan.workers,
            threads_per_session: plan.threads,
        };
        Self {
            config,
            inference,
            models: Box::new(move |metrics| {
                let opener = remote_opener(&remotes, &runtime.models_dir, metrics);
                Models::load(&runtime, plan, &cameras, dylib_path, (&remotes, opener))
            }),
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

/// A running node, which [`shutdown`](Self::shutdown) ends.
#[derive(Debug)]
pub struct Node {
    metrics: Arc<Metrics>,
    hub: Option<HubClient>,
    cameras: Arc<tokio::sync::Mutex<Cameras>>,
    scheduler: Arc<CameraScheduler>,
    pool: SharedPool,
    previews: Previews,
    /// What is told in the end goes through here.
    events: Publisher,
    tracks: Arc<TrackDirectory>,
    publisher: PublisherTask,
    sinks: Sinks,
    traces: Traces,
    /// The node's place in its pool, and the task that follows which cameras are its own.
    share: ShareTask,
    following_share: Option<(CancellationToken, JoinHandle<()>)>,
    facts: Arc<Mutex<Vec<CameraFacts>>>,
    tasks: Vec<JoinHandle<()>>,
    following: Following,
    editor: SceneEditor,
    http: JoinHandle<()>,
    stop_http: CancellationToken,
    refused: watch::Receiver<Option<String>>,
    health: Health,
    _clock: HealthClock,
}

/// Whether the node follows changes of its configuration.
#[derive(Debug)]
enum Following {
    /// It keeps the configuration that it was started with.
    Nothing(Box<(Applier, Config)>),
    /// It follows its file, SIGHUP and the hub's settings.
    Changes(ReloadTask),
    /// The node stops, and nothing changes any more.
    Ended,
}

impl Node {
    /// Builds and starts everything. Probes answer first, then models are loaded and warmed, and then the hub is joined and
    /// cameras are subscribed to. A hub that is away is not an error.
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
            inference,
            decoder,
            listener,
        } = parts;
        let sink_names = config.sinks.iter().map(|sink| sink.name.clone());
        let metrics = Metrics::with_sinks(sink_names);
        let metrics = Arc::new(match config.hub {
            Some(_) => metrics,
            None => metrics.without_hub(),
        });
        let feed = EventFeed::new(new_run_id());
        let previews = Previews::new(Arc::clone(&metrics));
        let state = HttpState::new(Arc::clone(&metrics), feed.clone(), previews.clone());
        let (health, readiness) = (state.health.clone(), Arc::clone(&state.readiness));
        let clock = health.start_clock()?;
        let facts = Arc::clone(&state.cameras);
        let tracks = Arc::clone(&state.tracks);
        let editor = state.editor.clone();
        editor.permit(match (config.http.edit, &config.http.token) {
            (false, _) => EditPermission::Off,
            (true, None) => EditPermission::WithoutToken,
            (true, Some(_)) => EditPermission::ForToken,
        });
        {
            let mut node = state.node.lock();
            node.inference = inference;
            node.hub = match &config.hub {
                Some(hub) => HubFacts {
                    mode: hub.mode.as_str(),
                    // In a mode in which the hub says who the node is, it is known once the hub was joined.
                    twin_id: Some(hub.twin_id.clone()).filter(|id| !id.is_empty()),
                    ..HubFacts::default()
                },
                None => HubFacts::none(),
            };
        }
        if config.hub.is_none() {
            readiness.set_without_hub();
        }
        let (stop_http, http) = serve_http(listener, &config, state.clone());

        let of_models = Arc::clone(&metrics);
        let mut models = tokio::task::spawn_blocking(move || models(&of_models))
            .await
            .context("loading the models panicked")??;
        let workers = workers.max(1);
        let pool_models = models.for_pool(workers)?;
        readiness.set_model_warm(true);

        let hub = config.hub.clone().map(|options| {
            let hub = HubClient::start_counting(options, Some(Arc::clone(&metrics) as _));
            hub.watch_for_namesakes(feed.run_id());
            hub
        });
        let heartbeat = health.register("publisher", MAX_SILENCE, Instant::now());
        let sink = hub
            .as_ref()
            .map_or(NodeSink::Local, |hub| NodeSink::Hub(hub.instance()));
        let traces = Traces::start(&config, hub.as_ref(), feed.run_id(), &metrics, &health)?;
        let sink_context = SinkContext {
            run_id: feed.run_id(),
            metrics: &metrics,
            previews: &previews,
            health: &health,
        };
        let sinks = Sinks::start(&config, sink_context);
        let (publisher, publisher_task) = Publisher::spawn(
            sink,
            feed,
            OUTBOX_FRAMES,
            Arc::clone(&metrics),
            Some(heartbeat),
            traces.tracer.clone(),
        );
        let (share, share_task) = Share::spawn(&config.node, &metrics, &health)?;
        let publisher = publisher.with_lanes(sinks.lanes()).with_share(&share);

        let scheduler = Arc::new(CameraScheduler::default());
        let cpu_pressure: Arc<CpuPressure> = Arc::default();
        let pool_context = PoolContext {
            scheduler: Arc::clone(&scheduler),
            factory: models.factory(),
            sink: inference_sink(publisher.clone(), Arc::clone(&tracks), previews.clone()),
            unchanged: unchanged_sink(publisher.clone(), Arc::clone(&tracks), previews.clone()),
            metrics: Arc::clone(&metrics),
            health: health.clone(),
            cpu_pressure: Arc::clone(&cpu_pressure),
            clock: Arc::new(Instant::now),
        };
        let pool = InferencePool::spawn(pool_context, workers, pool_models);
        let model_health = pool.models();
        let pool: SharedPool = Arc::new(Mutex::new(Some(pool)));

        let changed = Arc::new(Notify::new());
        let cameras = Cameras::new(CameraContext {
            stream: hub.clone().map(|hub| StreamContext {
                hub,
                keyframes: Arc::new(KeyframeBudget::new(Instant::now())),
            }),
            open_source: Source::open,
            scheduler: Arc::clone(&scheduler),
            metrics: Arc::clone(&metrics),
            publisher: publisher.clone(),
            tracks: Arc::clone(&tracks),
            ice: config.ice.clone(),
            decoder,
            cpu_pressure,
            changed: Arc::clone(&changed),
            share: share.clone(),
        });
        let cameras = match (&config.hub, &hub) {
            (Some(options), Some(hub)) => {
                cameras.with_bridges(bridges(options.clone(), config.ice.clone(), hub, &metrics))
            }
            _ => cameras,
        };
        let statuses = cameras.statuses();
        let cameras = Arc::new(tokio::sync::Mutex::new(cameras));
        let mut applier = Applier::new(
            models,
            Arc::clone(&cameras),
            Arc::clone(&pool),
            share.clone(),
        );
        let prepared = applier.prepare(config.clone(), &config).await?;
        applier.apply(prepared).await?;
        metrics.config_taken(SystemTime::now());

        let (refused_sender, refused) = watch::channel(None);
        let mut tasks = Vec::new();
        let mut following_share = None;
        if share.is_pool() {
            let parts = ShareParts {
                share: share.clone(),
                publisher: publisher.clone(),
                tracks: Arc::clone(&tracks),
                statuses,
                ends: Arc::default(),
            };
            let stop = CancellationToken::new();
            let following = follow_duties(parts.clone(), Arc::clone(&cameras), stop.clone());
            let following = health.watch("the follower of the pool", following);
            following_share = Some((stop, tokio::spawn(following)));
            let parting = part_with_cameras(parts);
            let parting = health.watch("the task that hands cameras over", parting);
            tasks.push(tokio::spawn(parting));
        }
        if let Some(hub) = &hub {
            tasks.extend([
                tokio::spawn(health.watch(
                    "the hub watcher",
                    watch_hub(
                        hub.clone(),
                        publisher.clone(),
                        Arc::clone(&readiness),
                        refused_sender,
                    ),
                )),
                tokio::spawn(health.watch(
                    "the watch over unmatched offers",
                    unmatched_offers::run(
                        hub.clone(),
                        Arc::clone(&metrics),
                        applier.active_config(),
                    ),
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
            ]);
        } else {
            tracing::info!(
                "there is no hub (hub.mode = \"none\"): results go to the sinks and to the API"
            );
        }
        tasks.extend([
            tokio::spawn(health.watch(
                "the supervisor of inference",
                supervise(
                    Arc::clone(&pool),
                    Arc::clone(&model_health),
                    readiness,
                    Arc::clone(&metrics),
                    health.register("inference", MAX_SILENCE, Instant::now()),
                ),
            )),
            tokio::spawn(health.watch(
                "the reader of facts",
                read_facts(
                    Arc::clone(&cameras),
                    hub.clone(),
                    model_health,
                    applier.active_config(),
                    share,
                    state,
                ),
            )),
        ]);
        Ok(Self {
            metrics,
            hub,
            cameras,
            scheduler,
            pool,
            previews,
            events: publisher,
            tracks,
            publisher: publisher_task,
            sinks,
            traces,
            share: share_task,
            following_share,
            facts,
            tasks,
            following: Following::Nothing(Box::new((applier, config))),
            editor,
            http,
            stop_http,
            refused,
            health,
            _clock: clock,
        })
    }

    /// Follows the configuration from now on. `source` is the one that the node was started with: its file is watched, and
    /// read again at `hangup`, and the settings of the node's twin are a layer over it. A second call changes nothing.
    pub fn follow(&mut self, source: ConfigSource, hangup: Option<Signal>) {
        let (applier, started) = match std::mem::replace(&mut self.following, Following::Ended) {
            Following::Nothing(parts) => *parts,
            other => {
                self.following = other;
                return;
            }
        };
        // Without a hub nobody ever tells anything.
        let (sender, told) = watch::channel(None);
        if let Some(hub) = self.hub.clone() {
            let reading = settings::run(hub, sender);
            let reading = self
                .health
                .watch("the reader of the hub's settings", reading);
            self.tasks.push(tokio::spawn(reading));
        }
        let changes = self.editor.open(source.path().is_some());
        let inputs = Inputs {
            source,
            hangup,
            told,
            changes,
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

    /// Runs until the hub refuses this node for good, which for a node without a hub is for ever. The error says why.
    ///
    /// # Errors
    /// Always, since nothing else ends a node from inside.
    pub async fn run(&mut self) -> Result<()> {
        if self.hub.is_none() {
            return std::future::pending().await;
        }
        let mut refused = self.refused.clone();
        let reason = refused.wait_for(Option::is_some).await;
        let reason = reason.ok().and_then(|reason| reason.clone());
        let reason = reason.unwrap_or_default();
        bail!(
            "the hub refuses this node ({reason}): check DEVICE_ID and ACCESS_KEY, or `hub.access_key_file`"
        );
    }

    /// The metrics of this node.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The node's client of the hub. `None` for a node without a hub.
    pub fn hub(&self) -> Option<&HubClient> {
        self.hub.as_ref()
    }

    /// Where watchers get pictures of what this node sees.
    pub fn previews(&self) -> &Previews {
        &self.previews
    }

    /// How the cameras are. What it says is up to a second old.
    pub fn cameras(&self) -> Vec<CameraFacts> {
        self.facts.lock().clone()
    }

    /// How much longer the end of this node may take than that of one which is alone, since others take its cameras over first.
    pub fn leave_limit(&self) -> Duration {
        self.share.leave_limit()
    }

    /// Stops the stages in the order of the path, so that what a stage has in hand still goes through the next ones:
    /// connections and decoding, inference, pictures for watchers, events, the hub, HTTP.
    pub fn shutdown(self) -> BoxFuture<'static, ()> {
        Box::pin(self.stop())
    }

    async fn stop(mut self) {
        // Others take the cameras over while this node still sees them.
        self.share.leave().await;
        for task in &self.tasks {
            task.abort();
        }
        if let Following::Changes(task) = std::mem::replace(&mut self.following, Following::Ended) {
            task.end().await;
        }
        if let Some((stop, following)) = self.following_share.take() {
            stop.cancel();
            // If the task panicked, that was logged where it happened.
            let _ = following.await;
        }
        self.cameras.lock().await.shutdown().await;
        self.scheduler.close();
        let pool = self.pool.lock().take();
        if let Some(pool) = pool {
            let _ = tokio::task::spawn_blocking(move || pool.join(WORKER_LIMIT)).await;
        }
        for (id, tracks) in self.tracks.streams() {
            let _order = tracks.in_order();
            let news = tracks.end(TrackEnd::Shutdown);
            let name = tracks.name();
            let events = track_events(&id, &name, Instant::now(), news);
            self.events.publish_tracks(events);
        }
        let previews = self.previews;
        let _ = tokio::task::spawn_blocking(move || previews.stop()).await;
        // Only when the hub client has ended is it known what became of the last event.
        let leave = async {
            if let Some(hub) = self.hub {
                hub.close().await;
            }
        };
        let hub = self.publisher.shutdown(OUTBOX_LIMIT, leave);
        tokio::join!(hub, self.sinks.shutdown(OUTBOX_LIMIT));
        close_books(&self.metrics);
        self.stop_http.cancel();
        let http = tokio::time::timeout(Duration::from_secs(1), &mut self.http);
        let (http, ()) = tokio::join!(http, self.traces.shutdown());
        if http.is_err() {
            self.http.abort();
        }
    }
}

/// Checks that every ledger balances, since nothing is in flight at the node's end.
fn close_books(metrics: &Metrics) {
    let streams = metrics.all_streams();
    for stream in &streams {
        let ledger = stream.ledger();
        if !ledger.balances() {
            let [units, frames, events] = ledger.in_flight();
            let sink_events = ledger.sink_events_in_flight;
            let track_events = ledger.track_events_in_flight;
            tracing::error!(camera = %stream.id(), units, frames, events, sink_events, track_events, "a camera's ledger does not balance: this is a bug in Twinsight");
        }
    }
    tracing::info!(cameras = streams.len(), "the books are closed");
}

/// What makes twins of the cameras that are none. They are dialled from within this machine, so that the node's own UDP ports are
/// all for its cameras.
fn bridges(
    options: HubOptions,
    ice: IceSettings,
    hub: &HubClient,
    metrics: &Arc<Metrics>,
) -> Bridges {
    Bridges::new(BridgeContext {
        hub: BridgeHub::of_node(options, Arc::clone(metrics), hub),
        ice: IceSettings {
            udp_ports: None,
            ..ice
        },
        metrics: Arc::clone(metrics),
        open: Arc::new(Source::open),
    })
}

fn serve_http(
    listener: TcpListener,
    config: &Config,
    state: HttpState,
) -> (CancellationToken, JoinHandle<()>) {
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let (token, health) = (config.http.token.clone(), state.health.clone());
    let serving = async move {
        if let Err(error) = serve(listener, state, token, stopped).await {
            tracing::error!(%error, "metrics and probes are no longer served");
        }
    };
    let task = tokio::spawn(health.watch("the HTTP server", serving));
    (stop, task)
}
