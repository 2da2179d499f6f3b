//! Every metric of the node. Stages hold the metrics of their camera stream (`stream`) or those of the node and count;
//! `sinks` counts what the client and the decoders tell; the HTTP server encodes the registry. Names and labels are a
//! contract with whoever scrapes.

mod bridge;
mod recent;
mod register;
mod remote;
mod shard;
mod sink;
mod sinks;
mod stream;
mod totals;
mod track;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, MutexGuard};
use prometheus::{Gauge, IntCounter, IntGauge, IntGaugeVec, Registry, TextEncoder};

pub use self::bridge::BridgeMetrics;
use self::bridge::BridgeVectors;
pub use self::recent::{StreamHistory, StreamRates};
use self::register::Register;
use self::remote::RemoteVectors;
pub use self::remote::{RemoteMetrics, RemoteResult};
pub use self::shard::{PoolMetrics, PoolMove};
use self::sink::{HUB, LOCAL, SinkVectors};
pub use self::sink::{SinkMetrics, SinkResult};
pub use self::stream::{LedgerReading, StreamMetrics};
use self::stream::{Shedding, StreamVectors};
pub use self::track::{TrackEventType, TrackMetrics, TrackStateLabel};
use super::ledger::{InferenceFailure, ModelState};
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::{HubLoss, Malformed, PacketRefusal, SignalRefusal};
use twinsight_media::label_enum;
use twinsight_media::ledger::ShedLevel;

#[cfg(feature = "otlp")]
label_enum! {
    /// Why a trace was not delivered.
    pub enum TraceDrop {
        /// Newer ones took its place while the collector did not take any.
        QueueFull = "queue_full",
        /// The collector does not want it.
        Refused = "refused",
        /// The node ended before it was delivered.
        Shutdown = "shutdown",
    }
}

label_enum! {
    /// Why the HTTP server closed a connection before its end.
    pub enum ConnectionEnd {
        /// A request did not come whole in time.
        Request = "request",
        /// No further request came in time.
        Idle = "idle",
        /// Its client did not take the answer in time.
        Answer = "answer",
        /// There were as many connections as there may be, and a new one took its place.
        Replaced = "replaced",
    }
}

label_enum! {
    /// What became of a picture for somebody who looks at the node.
    pub enum PreviewResult {
        /// It was encoded.
        Encoded = "encoded",
        /// A watcher waited for it, and the encoder had no time before a newer frame came.
        EncoderBusy = "encoder_busy",
        /// It was a watcher's turn, and the watcher was still busy with the one before.
        WatcherBusy = "watcher_busy",
        /// It could not be encoded.
        Failed = "failed",
    }
}

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

/// What became of the traces of sampled frames.
#[cfg(feature = "otlp")]
#[derive(Debug)]
pub struct TraceMetrics {
    /// Traces that the collector took.
    pub exported: IntCounter,
    dropped: Vec<IntCounter>,
}

#[cfg(feature = "otlp")]
impl TraceMetrics {
    fn register(register: &Register<'_>) -> Self {
        let dropped = register.counters(
            "traces_dropped_total",
            "Traces of sampled frames that were not delivered",
            &["reason"],
        );
        Self {
            exported: register.counter(
                "traces_exported_total",
                "Traces of sampled frames that the collector took",
            ),
            dropped: TraceDrop::ALL
                .iter()
                .map(|reason| dropped.with_label_values(&[reason.as_str()]))
                .collect(),
        }
    }

    /// Counts traces that were not delivered.
    pub fn dropped(&self, reason: TraceDrop, count: u64) {
        self.dropped[reason as usize].inc_by(count);
    }
}

/// The camera streams that are counted, and what is left of those that were.
#[derive(Debug, Default)]
struct CountedStreams {
    live: HashMap<StreamId, Arc<StreamMetrics>>,
    /// The ledgers of forgotten streams, summed up, in the order of [`StreamMetrics::books`].
    forgotten: Vec<u64>,
}

/// What came of [`Metrics::forget`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForgetOutcome {
    /// Its series have ended.
    Yes,
    /// Somebody holds the stream's metrics and may still count.
    InUse,
    /// Nobody holds them, but the ledger does not balance: what became of something in flight may still be told.
    Open(LedgerReading),
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

    /// The metrics of a camera stream. They are made at the first call, and the same ones are returned until the stream is
    /// forgotten.
    pub fn stream(&self, id: &StreamId) -> Arc<StreamMetrics> {
        if let Some(stream) = self.known_stream(id) {
            return stream;
        }
        let _making = self.making.lock();
        if let Some(stream) = self.known_stream(id) {
            return stream;
        }
        let stream = Arc::new(StreamMetrics::new(
            &self.vectors,
            &self.shedding,
            self.first_sink,
            &self.sinks,
            id,
        ));
        let made = Arc::clone(&stream);
        self.streams().live.insert(id.clone(), made);
        stream
    }

    /// The metrics of a camera stream if there are any. None are made.
    pub fn known_stream(&self, id: &StreamId) -> Option<Arc<StreamMetrics>> {
        self.streams().live.get(id).map(Arc::clone)
    }

    /// The metrics of all camera streams that are not forgotten.
    pub fn all_streams(&self) -> Vec<Arc<StreamMetrics>> {
        self.streams().live.values().map(Arc::clone).collect()
    }

    /// Ends the series of a camera stream that was removed. What it counted stays in the node's totals. Nothing happens while
    /// anybody holds its metrics or its ledger does not balance, so that no count is ever lost.
    pub(crate) fn forget(&self, id: &StreamId) -> ForgetOutcome {
        self.forget_if(id, LedgerReading::balances)
    }

    /// Does the same as [`forget`](Self::forget) even if the ledger does not balance, for a stream that was removed so long ago
    /// that it never will.
    pub(crate) fn forget_open(&self, id: &StreamId) -> ForgetOutcome {
        self.forget_if(id, |_| true)
    }

    fn forget_if(&self, id: &StreamId, allowed: fn(&LedgerReading) -> bool) -> ForgetOutcome {
        let _making = self.making.lock();
        let mut streams = self.streams();
        let Some(stream) = streams.live.get(id) else {
            return ForgetOutcome::Yes;
        };
        // Metrics are given out under this lock only, so nobody else can get hold of them meanwhile.
        if Arc::strong_count(stream) > 1 {
            return ForgetOutcome::InUse;
        }
        let ledger = stream.ledger();
        if !allowed(&ledger) {
            return ForgetOutcome::Open(ledger);
        }
        if let Some(stream) = streams.live.remove(id) {
            totals::add(&mut streams.forgotten, stream.books());
            drop(streams);
            stream.set_shed_level(ShedLevel::None);
            self.vectors.remove(&stream, self.first_sink, &self.sinks);
        }
        ForgetOutcome::Yes
    }

    fn streams(&self) -> MutexGuard<'_, CountedStreams> {
        self.streams.lock()
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

    /// Brings the node's totals up to date.
    fn add_up(&self) {
        let streams = self.streams();
        let mut sums = streams.forgotten.clone();
        for stream in streams.live.values() {
            totals::add(&mut sums, stream.books());
        }
        for (total, sum) in self.totals.iter().zip(sums) {
            total.inc_by(sum.saturating_sub(total.get()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::ledger::{EventDrop, FrameDrop};
    use twinsight_client::telemetry::CameraState;
    use twinsight_media::ledger::UnitDrop;

    fn id(n: usize) -> StreamId {
        StreamId::new(format!("cam-{n}"), "default")
    }

    /// A camera that came, gave an event and went.
    fn visit(metrics: &Metrics, n: usize) {
        let stream = metrics.stream(&id(n));
        stream.access_units_received.inc_by(3);
        stream.unit_dropped(UnitDrop::Incomplete);
        stream.frames_decoded.inc_by(2);
        stream.frame_dropped(FrameDrop::Stale);
        stream.frames_inferred.inc();
        stream.events_published.inc();
        stream.object_detected("person");
        stream.set_state(CameraState::Removed);
    }

    fn value(text: &str, series: &str) -> Option<u64> {
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    #[test]
    fn four_thousand_cameras_that_came_and_went_leave_nothing_but_their_sums() {
        let metrics = Metrics::new();
        let before = metrics.encode().lines().count();
        for n in 0..4000 {
            visit(&metrics, n);
            assert_eq!(metrics.forget(&id(n)), ForgetOutcome::Yes);
        }
        let text = metrics.encode();
        assert!(!text.contains("cam-"), "series of a camera are left");
        assert_eq!(text.lines().count(), before);
        for (series, sum) in [
            ("twinsight_node_access_units_received_total", 12_000),
            (
                "twinsight_node_access_units_dropped_total{reason=\"incomplete\"}",
                4000,
            ),
            ("twinsight_node_frames_decoded_total", 8000),
            (
                "twinsight_node_frames_dropped_total{reason=\"stale\"}",
                4000,
            ),
            ("twinsight_node_frames_inferred_total", 4000),
            ("twinsight_node_events_published_total", 4000),
        ] {
            assert_eq!(value(&text, series), Some(sum), "{series}");
        }
    }

    #[test]
    fn the_totals_are_those_of_the_cameras_that_are_there_and_of_those_that_are_gone() {
        let metrics = Metrics::new();
        let total = || {
            value(
                &metrics.encode(),
                "twinsight_node_access_units_received_total",
            )
        };
        visit(&metrics, 1);
        visit(&metrics, 2);
        assert_eq!(total(), Some(6));
        assert_eq!(metrics.forget(&id(1)), ForgetOutcome::Yes);
        assert_eq!(total(), Some(6), "nothing is counted twice or lost");
        visit(&metrics, 1);
        assert_eq!(total(), Some(9), "it is back, and counts from 0");
        assert_eq!(metrics.stream(&id(1)).access_units_received.get(), 3);
    }

    #[test]
    fn what_may_still_be_counted_is_not_forgotten() {
        let metrics = Metrics::new();
        visit(&metrics, 1);
        let held = metrics.stream(&id(1));
        assert_eq!(metrics.forget(&id(1)), ForgetOutcome::InUse);
        held.frames_inferred.inc();
        held.frames_decoded.inc();
        held.access_units_received.inc();
        drop(held);
        assert!(matches!(metrics.forget(&id(1)), ForgetOutcome::Open(_)));
        metrics
            .stream(&id(1))
            .event_dropped(EventDrop::HubDisconnected);
        assert_eq!(metrics.forget(&id(1)), ForgetOutcome::Yes);
        assert!(metrics.known_stream(&id(1)).is_none());
    }

    #[test]
    fn a_camera_has_one_series_with_its_name_and_model_and_none_once_it_is_forgotten() {
        let metrics = Metrics::new();
        let infos = || -> Vec<String> {
            let text = metrics.encode();
            text.lines()
                .filter_map(|line| line.strip_prefix("twinsight_camera_info{"))
                .map(str::to_owned)
                .collect()
        };
        let stream = metrics.stream(&id(1));
        assert_eq!(infos(), [""; 0], "nothing is said of it yet");
        for (name, model) in [("Door", "a"), ("Door", "a"), ("Gate", "a"), ("Gate", "b")] {
            stream.set_info(name, model);
            let series = format!(
                "camera=\"cam-1\",model=\"{model}\",name=\"{name}\",stream=\"default\"}} 1"
            );
            assert_eq!(infos(), [series]);
        }
        drop(stream);
        assert_eq!(metrics.forget(&id(1)), ForgetOutcome::Yes);
        assert_eq!(infos(), [""; 0]);
    }

    #[test]
    fn a_camera_stream_has_104_series_and_one_for_each_label_it_saw() {
        let metrics = Metrics::new();
        let series = || {
            let text = metrics.encode();
            text.lines().filter(|line| line.contains("cam-")).count()
        };
        let stream = metrics.stream(&id(1));
        stream.set_info("Door", "a");
        assert_eq!(series(), 104);
        stream.object_detected("person");
        assert_eq!(series(), 105);
    }

    #[test]
    fn the_level_of_shedding_is_the_highest_of_all_streams() {
        let metrics = Arc::new(Metrics::new());
        let level = || value(&metrics.encode(), "twinsight_shed_level");
        let (one, other) = (metrics.stream(&id(1)), metrics.stream(&id(2)));
        one.set_shed_level(ShedLevel::KeyframesOnly);
        other.set_shed_level(ShedLevel::InferLess);
        assert_eq!(level(), Some(3));
        one.set_shed_level(ShedLevel::None);
        assert_eq!(level(), Some(1));
        other.set_shed_level(ShedLevel::None);
        assert_eq!(level(), Some(0));
    }

    #[test]
    fn a_stream_that_shed_when_it_was_forgotten_sheds_no_more() {
        let metrics = Metrics::new();
        let stream = metrics.stream(&id(1));
        stream.set_shed_level(ShedLevel::KeyframesOnly);
        drop(stream);
        assert_eq!(metrics.forget(&id(1)), ForgetOutcome::Yes);
        assert_eq!(value(&metrics.encode(), "twinsight_shed_level"), Some(0));
    }
}
