//! A program that only bridges: its configuration comes in, and each camera in it is a twin on the hub until the program stops. It
//! follows its file as a node does (`reload`), and serves metrics and probes.

mod reload;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::reload::BridgeReload;
use crate::bridge::source::Source;
use crate::bridge::{BridgeContext, BridgeHub, Bridges, OpenSource};
use crate::config::{Config, ConfigSource};
use crate::http::server::serve_bridge;
use crate::http::state::HttpState;
use crate::node::away_sentence;
use crate::preview::Previews;
use crate::publish::feed::EventFeed;
use crate::telemetry::health::{Health, HealthClock, Heartbeat, Readiness};
use crate::telemetry::metrics::Metrics;
use twinsight_client::hub::HubStatus;

/// A loop of the program that does not beat for this long makes it unhealthy.
const MAX_SILENCE: Duration = Duration::from_secs(15);

/// How often it is looked at how the cameras are.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the program is built from.
pub struct BridgeParts {
    /// The configuration.
    pub config: Config,
    /// Where metrics and probes are served.
    pub listener: TcpListener,
    /// How sources are opened.
    pub open: OpenSource,
}

impl BridgeParts {
    /// A program that asks the cameras of the configuration.
    pub fn new(config: Config, listener: TcpListener) -> Self {
        Self {
            config,
            listener,
            open: Arc::new(Source::open),
        }
    }
}

impl std::fmt::Debug for BridgeParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BridgeParts")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The running program, which [`shutdown`](Self::shutdown) ends.
#[derive(Debug)]
pub struct BridgeService {
    metrics: Arc<Metrics>,
    bridges: Arc<Mutex<Bridges>>,
    health: Health,
    started: Config,
    looking: JoinHandle<()>,
    reload: Option<(CancellationToken, JoinHandle<()>)>,
    http: JoinHandle<()>,
    stop_http: CancellationToken,
    _clock: HealthClock,
}

impl BridgeService {
    /// Starts everything. Probes answer first. A hub or a camera that is away is not an error.
    ///
    /// # Errors
    /// When the system grants no thread, or the configuration is that of a node without a hub.
    pub async fn start(parts: BridgeParts) -> Result<Self> {
        let BridgeParts {
            config,
            listener,
            open,
        } = parts;
        let hub = config.hub.clone().context("a bridge needs a hub")?;
        let metrics = Arc::new(Metrics::of_bridge());
        // The server of a node serves a bridge, too, and asks for events and pictures that a bridge has not.
        let previews = Previews::new(Arc::clone(&metrics));
        let state = HttpState::new(
            Arc::clone(&metrics),
            EventFeed::new(String::new()),
            previews,
        );
        let (health, readiness) = (state.health.clone(), Arc::clone(&state.readiness));
        let clock = health.start_clock()?;
        // It has no models that could be cold.
        readiness.set_model_warm(true);
        let stop_http = CancellationToken::new();
        let stopped = stop_http.clone().cancelled_owned();
        let serving = async move {
            if let Err(error) = serve_bridge(listener, state, stopped).await {
                tracing::error!(%error, "metrics and probes are no longer served");
            }
        };
        let http = tokio::spawn(health.watch("the HTTP server", serving));
        let mut bridges = Bridges::new(BridgeContext {
            hub: BridgeHub::alone(hub.clone(), Arc::clone(&metrics)),
            ice: config.ice.clone(),
            metrics: Arc::clone(&metrics),
            open,
        });
        bridges.apply(&config.cameras).await;
        metrics.config_taken(std::time::SystemTime::now());
        let bridges = Arc::new(Mutex::new(bridges));
        let heartbeat = health.register("bridges", MAX_SILENCE, Instant::now());
        let looking = look(
            Arc::clone(&bridges),
            Arc::clone(&metrics),
            readiness,
            hub.shown_url(),
            heartbeat,
        );
        let looking = tokio::spawn(health.watch("the watch over the bridges", looking));
        tracing::info!(cameras = config.cameras.len(), "cameras are bridged");
        Ok(Self {
            metrics,
            bridges,
            health,
            started: config,
            looking,
            reload: None,
            http,
            stop_http,
            _clock: clock,
        })
    }

    /// Follows the configuration from now on. `source` is the one that the program was started with: its file is watched, and read
    /// again at `hangup`. A second call changes nothing.
    pub fn follow(&mut self, source: ConfigSource, hangup: Option<Signal>) {
        if self.reload.is_some() {
            return;
        }
        let stop = CancellationToken::new();
        let bridges = Arc::clone(&self.bridges);
        let metrics = Arc::clone(&self.metrics);
        let reload = BridgeReload::new(source, self.started.clone(), bridges, metrics);
        let running = self
            .health
            .watch("the reload", reload.run(hangup, stop.clone()));
        self.reload = Some((stop, tokio::spawn(running)));
    }

    /// The metrics of this program.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The bridges of this program.
    pub fn bridges(&self) -> &Arc<Mutex<Bridges>> {
        &self.bridges
    }

    /// Ends each bridge, the connections with its viewers first and then its source, and then the hub and HTTP.
    pub fn shutdown(self) -> BoxFuture<'static, ()> {
        Box::pin(self.stop())
    }

    async fn stop(mut self) {
        self.looking.abort();
        // It was aborted, or it panicked, which was logged where it happened.
        let _ = (&mut self.looking).await;
        if let Some((stop, task)) = self.reload.take() {
            stop.cancel();
            // If the task panicked, that was logged where it happened.
            let _ = task.await;
        }
        self.bridges.lock().await.shutdown().await;
        self.stop_http.cancel();
        if tokio::time::timeout(Duration::from_secs(1), &mut self.http)
            .await
            .is_err()
        {
            self.http.abort();
        }
    }
}

/// Keeps what the probes and the metrics say of the hub. It runs until it is aborted.
async fn look(
    bridges: Arc<Mutex<Bridges>>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    hub_url: String,
    heartbeat: Heartbeat,
) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // This keeps one thread for work that blocks alive, which reading the file needs.
        drop(tokio::task::spawn_blocking(|| ()));
        let statuses = bridges.lock().await.hub().statuses();
        let away = statuses
            .iter()
            .find_map(|(twin, status)| Some((twin, trouble(&hub_url, status)?)));
        // Without a camera there is nobody who could be on the hub.
        let is_joined = away.is_none() && !statuses.is_empty();
        if let Some((twin, sentence)) = away {
            readiness.set_hub_last_error(match &**twin {
                "" => sentence,
                twin => format!("as camera {twin}: {sentence}"),
            });
        }
        readiness.set_hub_joined(is_joined);
        metrics.hub_connected.set(i64::from(is_joined));
        let tasks = tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks();
        metrics.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
        heartbeat.beat(Instant::now());
    }
}

/// Why a client is not on the hub. `None` for one that is.
fn trouble(hub_url: &str, status: &HubStatus) -> Option<String> {
    match status {
        HubStatus::Joined { .. } => None,
        HubStatus::Connecting { .. } => Some(format!("{hub_url} is dialled")),
        HubStatus::Away { since, reason } => Some(away_sentence(hub_url, *since, reason)),
        HubStatus::Refused { reason } => Some(format!("{hub_url} refuses it ({reason})")),
    }
}
