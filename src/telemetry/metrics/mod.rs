//! Every metric of the node. Stages hold the metrics of their camera stream (`stream`) or those of the node and count;
//! `sinks` counts what the client and the decoders tell; the HTTP server encodes the registry. Names and labels are a
//! contract with whoever scrapes.

mod bridge;
mod counted_streams;
mod labels;
mod recent;
mod register;
mod remote;
mod shard;
mod sink;
mod sinks;
mod stream;
mod totals;
#[cfg(feature = "otlp")]
mod traces;
mod track;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus::{Gauge, IntCounter, IntGauge, IntGaugeVec, Registry, TextEncoder};

pub use self::bridge::BridgeMetrics;
use self::bridge::BridgeVectors;
use self::counted_streams::CountedStreams;
pub(crate) use self::counted_streams::ForgetOutcome;
pub use self::labels::{ConnectionEnd, PreviewResult};
pub use self::recent::{StreamHistory, StreamRates};
use self::register::Register;
use self::remote::RemoteVectors;
pub use self::remote::{RemoteMetrics, RemoteResult};
pub use self::shard::{PoolMetrics, PoolMove};
use self::sink::{HUB, LOCAL, SinkVectors};
pub use self::sink::{SinkMetrics, SinkResult};
pub use self::stream::{LedgerReading, StreamMetrics};
use self::stream::{Shedding, StreamVectors};
#[cfg(feature = "otlp")]
pub use self::traces::{TraceDrop, TraceMetrics};
pub use self::track::{TrackEventType, TrackMetrics, TrackStateLabel};
use super::ledger::{InferenceFailure, ModelState};
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::{HubLoss, Malformed, PacketRefusal, SignalRefusal};

/// All metrics of one node and the registry that holds them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    vectors: StreamVectors,
    streams: Mutex<CountedStreams>,
    /// Held while series are made or ended. That waits for a scrape that reads them, and whoever only counts must not wait, so
    /// this is not the lock of `streams`.
    making: Mutex<()>,
    /// The ledger over all camera streams that there were, brought up to date when it is read.
    totals: Vec<IntCounter>,
    shedding: Arc<Shedding>,
    /// What the first sink of all events is called.
    first_sink: &'static str,
    sinks: Vec<SinkMetrics>,
    remote_vectors: RemoteVectors,
    bridge_vectors: BridgeVectors,
    bridges: Mutex<HashMap<StreamId, Arc<BridgeMetrics>>>,
    /// Made for a node in a pool alone.
    pool: OnceLock<PoolMetrics>,
    signals_refused: Vec<IntCounter>,
    config_reloads: [IntCounter; 2],
    config_reload_ok: IntGauge,
    config_reload_timestamp: Gauge,
    malformed_input: Vec<IntCounter>,
    rtp_packets_refused: Vec<IntCounter>,
    inference_failures: Vec<IntCounter>,
    /// Inference workers and decoders that were replaced.
    pub worker_restarts: IntCounter,
    /// Inference workers whose run hangs and was given up.
    pub workers_given_up: IntGauge,
    model_state: IntGaugeVec,
    model_fallback: IntGaugeVec,
    /// The part of its capacity that the node uses. What is above 1 is missing.
    pub(crate) capacity_used: Gauge,
    /// Connections that the HTTP server has open.
    pub http_connections: IntGauge,
    http_connections_closed: Vec<IntCounter>,
    preview_pictures: Vec<IntCounter>,
    /// Watches of pictures that are open.
    pub preview_watchers: IntGauge,
    /// Watches of pictures that were refused because there were too many.
    pub preview_watchers_refused: IntCounter,
    /// Tokio tasks that are alive.
    pub tasks: IntGauge,
    /// 1 while the hub is joined.
    pub hub_connected: IntGauge,
    /// Times the hub was joined again after it had gone.
    pub hub_reconnects: IntCounter,
    hub_losses: Vec<IntCounter>,
    /// Messages signed with the node's own twin id that it did not send.
    pub twin_id_conflicts: IntCounter,
    /// What became of the traces of sampled frames.
    #[cfg(feature = "otlp")]
    pub traces: TraceMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that are all 0, in a registry of their own.
    pub fn new() -> Self {
        Self::with_sinks([])
    }

    /// The same for a node with sinks beside the hub, which have these names.
    pub fn with_sinks(sinks: impl IntoIterator<Item = String>) -> Self {
        let registry = Registry::new();
        Self::registered(&registry, &registry, sinks)
    }

    /// The same for a program that only bridges cameras: what a node alone counts is not served.
    pub fn of_bridge() -> Self {
        Self::registered(&Registry::new(), &Registry::new(), [])
    }

    /// The metrics of a model that runs on these servers.
    pub fn remote(&self, model: &str, servers: &[String]) -> RemoteMetrics {
        self.remote_vectors.model(model, servers)
    }

    /// Counts an inference that gave no result.
    pub(crate) fn inference_failed(&self, reason: InferenceFailure) {
        self.inference_failures[reason as usize].inc();
    }

    /// How many inferences gave no result.
    pub(crate) fn inference_failures(&self) -> u64 {
        self.inference_failures.iter().map(IntCounter::get).sum()
    }

    /// Adds what every program has to `served`, and what a node alone has to `of_node`.
    fn registered(
        served: &Registry,
        of_node: &Registry,
        sinks: impl IntoIterator<Item = String>,
    ) -> Self {
        let register = Register { registry: served };
        let node = Register { registry: of_node };
        let vectors = StreamVectors::register(&node);
        let totals = totals::register(&node);
        let refused = register.counters(
            "signals_refused_total",
            "Signals from the hub that were refused",
            &["reason"],
        );
        let malformed = register.counters(
            "malformed_input_total",
            "Inputs from the network that broke their format",
            &["kind"],
        );
        let closed = register.counters(
            "http_connections_closed_total",
            "Connections that the HTTP server closed before their end",
            &["reason"],
        );
        let pictures = node.counters(
            "preview_pictures_total",
            "Pictures for watchers, by what became of them",
            &["result"],
        );
        let packets_refused = node.counters(
            "rtp_packets_refused_total",
            "RTP packets that came and were not used",
            &["reason"],
        );
        let hub_losses = register.counters(
            "hub_losses_total",
            "Attempts to join the hub that failed, and connections to it that ended",
            &["reason"],
        );
        let inference_failures = node.counters(
            "inference_failures_total",
            "Inferences that failed",
            &["reason"],
        );
        let build_info =
            register.gauges("build_info", "1, labelled with the version", &["version"]);
        build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        let config_reloads = register.counters(
            "config_reloads_total",
            "Times that the configuration was read again or told by the hub, by what came of it",
            &["result"],
        );
        let metrics = Self {
            config_reloads: ["refused", "applied"]
                .map(|result| config_reloads.with_label_values(&[result])),
            config_reload_ok: register.gauge(
                "config_reload_ok",
                "1 unless the configuration that was read last was refused",
            ),
            config_reload_timestamp: register.number(
                "config_reload_timestamp_seconds",
                "When a configuration was last taken, since 1970",
            ),
            vectors,
            streams: Mutex::default(),
            making: Mutex::default(),
            totals,
            signals_refused: SignalRefusal::ALL
                .iter()
                .map(|r| refused.with_label_values(&[r.as_str()]))
                .collect(),
            malformed_input: Malformed::ALL
                .iter()
                .map(|k| malformed.with_label_values(&[k.as_str()]))
                .collect(),
            rtp_packets_refused: PacketRefusal::ALL
                .iter()
                .map(|r| packets_refused.with_label_values(&[r.as_str()]))
                .collect(),
            inference_failures: InferenceFailure::ALL
                .iter()
                .map(|reason| inference_failures.with_label_values(&[reason.as_str()]))
                .collect(),
            worker_restarts: node.counter(
                "worker_restarts_total",
                "Inference workers and decoders that were replaced",
            ),
            workers_given_up: node.gauge(
                "workers_given_up",
                "Inference workers whose run hangs and was given up",
            ),
            model_state: node.gauges(
                "model_state",
                "1 for the state the model is in",
                &["model", "state"],
            ),
            capacity_used: node.number(
                "capacity_used_ratio",
                "Part of what the node can carry that it carries; above 1 something is missing",
            ),
            model_fallback: node.gauges(
                "model_fallback",
                "1 while its fallback infers in the place of a model that runs on servers",
                &["model"],
            ),
            http_connections: register.gauge("http_connections", "Connections of the HTTP server"),
            http_connections_closed: ConnectionEnd::ALL
                .iter()
                .map(|end| closed.with_label_values(&[end.as_str()]))
                .collect(),
            preview_pictures: PreviewResult::ALL
                .iter()
                .map(|result| pictures.with_label_values(&[result.as_str()]))
                .collect(),
            preview_watchers: node.gauge("preview_watchers", "Watchers of pictures that are there"),
            preview_watchers_refused: node.counter(
                "preview_watchers_refused_total",
                "Watchers of pictures that were refused because there were too many",
            ),
            tasks: register.gauge("tasks", "Asynchronous tasks that are alive"),
            shedding: Arc::new(Shedding::register(&node)),
            first_sink: HUB,
            sinks: SinkVectors::register(&node).of(sinks),
            remote_vectors: RemoteVectors::register(&node),
            bridge_vectors: BridgeVectors::register(&register),
            bridges: Mutex::default(),
            pool: OnceLock::new(),
            hub_connected: register.gauge("hub_connected", "1 while the hub is joined"),
            hub_reconnects: register
                .counter("hub_reconnects_total", "Times the hub was joined again"),
            hub_losses: HubLoss::ALL
                .iter()
                .map(|reason| hub_losses.with_label_values(&[reason.as_str()]))
                .collect(),
            twin_id_conflicts: node.counter(
                "twin_id_conflicts_total",
                "Messages signed with the node's own twin id that it did not send",
            ),
            #[cfg(feature = "otlp")]
            traces: TraceMetrics::register(&node),
            registry: served.clone(),
        };
        register.add(super::logging::dropped_lines());
        #[cfg(target_os = "linux")]
        register.add(prometheus::process_collector::ProcessCollector::for_self());
        metrics
    }

    /// The same for a node without a hub. That it is joined or not is then not told, since a 0 would say that it is away.
    #[must_use]
    pub fn without_hub(self) -> Self {
        // It is registered above, so this does not fail.
        let _ = self
            .registry
            .unregister(Box::new(self.hub_connected.clone()));
        Self {
            first_sink: LOCAL,
            ..self
        }
    }

    /// The metrics of a sink beside the hub, by its place in the configuration.
    pub fn sink(&self, index: usize) -> &SinkMetrics {
        &self.sinks[index]
    }

    /// The metrics of the bridge of a camera stream, which are made at the first call. `drop_reasons` are all reasons for which
    /// its units are not passed on.
    pub fn bridge(&self, id: &StreamId, drop_reasons: &[&'static str]) -> Arc<BridgeMetrics> {
        let mut bridges = self.bridges.lock();
        let made = bridges
            .entry(id.clone())
            .or_insert_with(|| Arc::new(self.bridge_vectors.stream(id, drop_reasons)));
        Arc::clone(made)
    }

    /// Takes the series of a bridge off the list, once its stream is bridged no more.
    pub fn forget_bridge(&self, id: &StreamId) {
        if let Some(stream) = self.bridges.lock().remove(id) {
            self.bridge_vectors.remove(&stream);
        }
    }

    /// The metrics of the node's pool, which are made at the first call.
    pub fn pool(&self) -> &PoolMetrics {
        self.pool.get_or_init(|| {
            let registry = &self.registry;
            PoolMetrics::register(&Register { registry })
        })
    }

    /// The metrics of all sinks beside the hub, in the order of the configuration.
    pub fn sinks(&self) -> &[SinkMetrics] {
        &self.sinks
    }

    /// Notes that a configuration was taken, such as the one that the node starts with.
    pub fn config_taken(&self, now: SystemTime) {
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.config_reload_timestamp.set(since_1970.as_secs_f64());
        self.config_reload_ok.set(1);
    }

    /// Notes that a configuration was read again, or told by the hub, and whether it was taken.
    pub fn config_reloaded(&self, taken: bool, now: SystemTime) {
        self.config_reloads[usize::from(taken)].inc();
        if taken {
            self.config_taken(now);
        } else {
            self.config_reload_ok.set(0);
        }
    }

    /// Says whether its fallback infers in the place of a model.
    pub(crate) fn set_model_fallback(&self, model: &str, infers: bool) {
        self.model_fallback
            .with_label_values(&[model])
            .set(infers.into());
    }

    /// Sets the state of a model.
    pub fn set_model_state(&self, model: &str, state: ModelState) {
        for each in ModelState::ALL {
            self.model_state
                .with_label_values(&[model, each.as_str()])
                .set(i64::from(*each == state));
        }
    }

    /// The counter of a kind of malformed input, for a stage that holds no [`Metrics`].
    pub fn malformed_input_counter(&self, kind: Malformed) -> IntCounter {
        self.malformed_input[kind as usize].clone()
    }

    /// Counts a connection that the HTTP server closed before its end.
    pub fn http_connection_closed(&self, reason: ConnectionEnd) {
        self.http_connections_closed[reason as usize].inc();
    }

    /// Counts what became of a picture for a watcher.
    pub fn preview_picture(&self, result: PreviewResult) {
        self.preview_pictures[result as usize].inc();
    }

    /// How many pictures for watchers came to this.
    pub fn preview_pictures(&self, result: PreviewResult) -> u64 {
        self.preview_pictures[result as usize].get()
    }

    /// All metrics in the Prometheus text format. With hundreds of cameras that takes long, so no thread that others wait for
    /// may call it.
    pub fn encode(&self) -> String {
        self.add_up();
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
