//! What `/api/node` says of the node, read at one moment: its hub, its models, where its time goes, and what changed lately.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::clock::WallClock;
use crate::config::{Refusal, WITHOUT_HUB};
use crate::detect::remote::RemoteFacts;
use crate::publish::feed::{MAX_WATCHERS, StateChange};
use crate::shard::ShareFacts;
use crate::telemetry::history::CounterHistory;
use crate::telemetry::ledger::{ModelState, Work};
use crate::telemetry::metrics::{Metrics, SinkMetrics};

/// What the node knows of itself beside its metrics. The node fills it as it starts and keeps it up to date.
#[derive(Debug, Default)]
pub struct NodeFacts {
    /// The hub.
    pub hub: HubFacts,
    /// The models that are loaded.
    pub models: Vec<ModelFacts>,
    /// How models are run.
    pub inference: InferenceFacts,
    /// Where processor time goes.
    pub usage: CpuUsage,
    /// Which cameras are its own, and how it stands with the other nodes of its pool.
    pub share: ShareFacts,
}

/// The hub, as the node's client sees it.
#[derive(Debug, Clone, Default)]
pub struct HubFacts {
    /// `direct`, `simulator` or `phyos`, and `none` for a node without a hub.
    pub mode: &'static str,
    /// Its address. `None` without a hub.
    pub url: Option<String>,
    /// The own twin: the one of the last time that the hub was joined, or else the configured one.
    pub twin_id: Option<String>,
    /// `connecting`, `joined`, `away` or `refused`, and `none` for a node without a hub.
    pub state: &'static str,
    /// Since when it is away.
    pub since: Option<Instant>,
    /// Why it is not joined, with what to do about it.
    pub reason: Option<String>,
}

impl HubFacts {
    /// What is said of the hub of a node that has none.
    pub fn none() -> Self {
        Self {
            mode: WITHOUT_HUB,
            state: WITHOUT_HUB,
            ..Self::default()
        }
    }

    /// True for a node that has no hub.
    pub fn is_none(&self) -> bool {
        self.state == WITHOUT_HUB
    }
}

/// A model that is loaded.
#[derive(Debug, Clone)]
pub struct ModelFacts {
    /// Its name in the models folder.
    pub name: String,
    /// The hash of its file, in lower-case hex; of a model on a server it is not known.
    pub sha256: Option<String>,
    /// How it is.
    pub state: ModelState,
    /// Why it gives no results, if it gives none.
    pub error: Option<String>,
    /// The model that takes its place now.
    pub fallback: Option<String>,
    /// Its servers, for a model that runs on some.
    pub(crate) remote: Option<RemoteFacts>,
}

impl ModelFacts {
    /// A model of this machine that works.
    pub fn working(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            sha256: None,
            state: ModelState::Working,
            error: None,
            fallback: None,
            remote: None,
        }
    }
}

/// How models are run.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InferenceFacts {
    /// The execution provider that is preferred.
    pub execution_provider: String,
    /// Sessions of each model that run side by side.
    pub sessions: usize,
    /// The threads of each.
    pub threads_per_session: usize,
}

/// Processor time over the last seconds, of the process and of each kind of work.
#[derive(Debug)]
pub struct CpuUsage {
    /// Microseconds of the process and of each [`Work`].
    history: CounterHistory,
    cores: usize,
}

impl Default for CpuUsage {
    fn default() -> Self {
        Self {
            history: CounterHistory::new(1 + Work::ALL.len()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

impl CpuUsage {
    /// Takes in a reading. The node calls it once a second.
    pub fn sample(&mut self, process: Duration, metrics: &Metrics, now: Instant) {
        let streams = metrics.all_streams();
        let works = Work::ALL.iter().map(|work| {
            let of_streams = streams.iter().map(|stream| stream.work_cpu(*work));
            of_streams.sum::<Duration>()
        });
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let times = std::iter::once(process).chain(works).map(micros);
        self.history.sample(times, now);
    }
}

/// The JSON of the node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeView {
    pub(crate) version: &'static str,
    pub(crate) run_id: String,
    pub(crate) started_at: u64,
    pub(crate) now: u64,
    pub(crate) ready: bool,
    pub(crate) problems: Vec<String>,
    pub(crate) unhealthy: Vec<String>,
    pub(crate) hub: HubView,
    pub(crate) sinks: Vec<SinkView>,
    pub(crate) models: Vec<ModelView>,
    pub(crate) inference: InferenceView,
    pub(crate) cpu: CpuView,
    pub(crate) memory: MemoryView,
    pub(crate) shedding: SheddingView,
    pub(crate) watchers: WatchersView,
    pub(crate) config: ConfigSummary,
    pub(crate) share: ShareFacts,
    pub(crate) states: Vec<StateChange>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HubView {
    mode: &'static str,
    url: Option<String>,
    twin_id: Option<String>,
    state: &'static str,
    since: Option<u64>,
    reason: Option<String>,
    reconnects: u64,
}

/// A place beside the hub where events go.
#[derive(Debug, Serialize)]
pub(crate) struct SinkView {
    name: String,
    connected: bool,
    reason: Option<String>,
    reconnects: u64,
    published: u64,
    dropped: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct ModelView {
    name: String,
    state: &'static str,
    sha256: Option<String>,
    cameras: usize,
    error: Option<String>,
    fallback: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<RemoteFacts>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InferenceView {
    #[serde(flatten)]
    facts: InferenceFacts,
    failures: u64,
    worker_restarts: u64,
    workers_given_up: i64,
}

/// Cores in use over the last ten seconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CpuView {
    cores: usize,
    process_cores: f64,
    stages: BTreeMap<&'static str, f64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MemoryView {
    pub(crate) resident_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct SheddingView {
    pub(crate) level: u8,
}

#[derive(Debug, Serialize)]
pub(crate) struct WatchersView {
    pub(crate) pictures: usize,
    pub(crate) events: usize,
    pub(crate) limit: usize,
}

/// What came of the configuration.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConfigSummary {
    pub(crate) applied_at: Option<u64>,
    pub(crate) reload_ok: bool,
    pub(crate) last_refusal: Option<Refusal>,
}

impl SinkView {
    pub(crate) fn all(metrics: &Metrics) -> Vec<Self> {
        let view = |sink: &SinkMetrics| Self {
            name: sink.name().to_owned(),
            connected: sink.connected.get() == 1,
            reason: sink.trouble(),
            reconnects: sink.reconnects.get(),
            published: sink.published(),
            dropped: sink.dropped(),
        };
        metrics.sinks().iter().map(view).collect()
    }
}

impl NodeFacts {
    pub(crate) fn hub(&self, metrics: &Metrics, clock: &WallClock) -> HubView {
        let hub = self.hub.clone();
        HubView {
            mode: hub.mode,
            url: hub.url,
            twin_id: hub.twin_id,
            state: if hub.state.is_empty() {
                "connecting"
            } else {
                hub.state
            },
            since: hub.since.map(|since| clock.unix_ms(since)),
            reason: hub.reason,
            reconnects: metrics.hub_reconnects.get(),
        }
    }

    /// `uses` says how many cameras use a model.
    pub(crate) fn models(&self, uses: impl Fn(&str) -> usize) -> Vec<ModelView> {
        let view = |model: &ModelFacts| ModelView {
            name: model.name.clone(),
            state: model.state.as_str(),
            sha256: model.sha256.clone(),
            cameras: uses(&model.name),
            error: model.error.clone(),
            fallback: model.fallback.clone(),
            remote: model.remote.clone(),
        };
        self.models.iter().map(view).collect()
    }

    pub(crate) fn inference(&self, metrics: &Metrics) -> InferenceView {
        InferenceView {
            facts: self.inference.clone(),
            failures: metrics.inference_failures(),
            worker_restarts: metrics.worker_restarts.get(),
            workers_given_up: metrics.workers_given_up.get(),
        }
    }

    pub(crate) fn cpu(&self) -> CpuView {
        let rates = self.usage.history.rates().unwrap_or_default();
        let cores = |at: usize| {
            let micros = rates.get(at).copied().unwrap_or_default();
            (micros / 1000.0).round() / 1000.0
        };
        let stages = Work::ALL.iter().enumerate();
        CpuView {
            cores: self.usage.cores,
            process_cores: cores(0),
            stages: stages
                .map(|(at, work)| (work.as_str(), cores(1 + at)))
                .collect(),
        }
    }
}

impl WatchersView {
    pub(crate) fn new(pictures: usize, events: usize) -> Self {
        Self {
            pictures,
            events,
            limit: MAX_WATCHERS,
        }
    }
}
