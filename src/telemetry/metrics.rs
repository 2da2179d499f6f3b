//! Every metric of the node. A stage gets the handles of its stream and counts; the HTTP server
//! encodes the registry. Names and labels are a contract with whoever scrapes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, MutexGuard};
use prometheus::{
    Counter, CounterVec, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::ledger::{EventDrop, FrameDrop, ModelState, Stage, Work};
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::{
    CameraState, ClientSink, Malformed, PacketRefusal, SignalRefusal, StreamSink,
};
use twinsight_media::codec::Codec;
use twinsight_media::label_enum;
use twinsight_media::ledger::{DecodeWork, LedgerSink, ShedLevel, StreamLedger, UnitDrop};
use twinsight_media::picture::FrameTiming;

label_enum! {
    /// Why the HTTP server closed a connection before its end.
    pub enum ConnectionEnd {
        /// No whole request came in time.
        Request = "request",
        /// No further request came in time.
        Idle = "idle",
        /// The answer was not taken in time.
        Answer = "answer",
        /// A new connection took its place, since all were taken.
        Replaced = "replaced",
    }
}

/// Upper bounds in seconds: from a decode on a fast machine to a stream that hardly lives.
const SECONDS: &[f64] = &[
    0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5,
    1.0, 2.5,
];

/// All metrics of one node and the registry that holds them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    vectors: StreamVectors,
    streams: Mutex<Streams>,
    /// Held while series are made or ended, which waits for a scrape that reads them: whoever counts on a stream that is
    /// there must not.
    making: Mutex<()>,
    /// The ledger over all camera streams that there were, brought up to date when it is read.
    totals: Vec<IntCounter>,
    shedding: Arc<Shedding>,
    signals_refused: Vec<IntCounter>,
    config_reloads: [IntCounter; 2],
    config_last_reload_successful: IntGauge,
    config_last_reload_success: Gauge,
    malformed_input: Vec<IntCounter>,
    rtp_packets_refused: Vec<IntCounter>,
    /// A session's run that gave an error.
    pub inference_failures: IntCounter,
    /// Inference workers and decoders that were replaced.
    pub worker_restarts: IntCounter,
    /// Inference workers whose run hangs and was given up.
    pub workers_given_up: IntGauge,
    model_state: IntGaugeVec,
    /// Connections of the HTTP server.
    pub http_connections: IntGauge,
    http_connections_closed: Vec<IntCounter>,
    /// Asynchronous tasks that are alive.
    pub tasks: IntGauge,
    /// 1 while the hub is joined.
    pub hub_connected: IntGauge,
    /// Times the hub was joined again after it had gone.
    pub hub_reconnects: IntCounter,
    /// Messages signed with the node's own twin id that it did not send.
    pub twin_id_conflicts: IntCounter,
}

/// The camera streams that are counted, and what is left of those that were.
#[derive(Debug, Default)]
struct Streams {
    live: HashMap<StreamId, Arc<StreamMetrics>>,
    /// The ledgers of forgotten streams, summed up, in the order of [`StreamMetrics::books`].
    forgotten: Vec<u64>,
}

/// What came of [`Metrics::forget`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// Its series have ended.
    Yes,
    /// Somebody may still count on it.
    InUse,
    /// Nobody counts on it any more, and its ledger does not balance: what is in flight may still be told.
    Open(LedgerReading),
}

/// The streams' steps of the overload ladder: the metric is the highest.
#[derive(Debug)]
struct Shedding {
    highest: IntGauge,
    /// How many streams are at each level but `None`, by the level's number.
    streams: Mutex<[usize; ShedLevel::ALL.len()]>,
}

#[derive(Debug)]
struct StreamVectors {
    // A new one has its place in `remove` too.
    access_units_received: IntCounterVec,
    access_units_dropped: IntCounterVec,
    frames_decoded: IntCounterVec,
    frames_dropped: IntCounterVec,
    frames_inferred: IntCounterVec,
    events_published: IntCounterVec,
    events_dropped: IntCounterVec,
    objects_detected: IntCounterVec,
    stage_duration: HistogramVec,
    work_cpu: CounterVec,
    frame_age: HistogramVec,
    rtp_packets_received: IntCounterVec,
    rtp_packets_lost: IntCounterVec,
    keyframe_requests: IntCounterVec,
    camera_state: IntGaugeVec,
    camera_reconnects: IntCounterVec,
}

/// The metrics of one camera stream; cheap to count on, shared by all stages.
#[derive(Debug)]
pub struct StreamMetrics {
    id: StreamId,
    objects_detected: IntCounterVec,
    /// The counter of each label that was seen: there are as many as its models have.
    labels: Mutex<HashMap<String, IntCounter>>,
    access_units_dropped: Vec<IntCounter>,
    frames_dropped: Vec<IntCounter>,
    events_dropped: Vec<IntCounter>,
    stage_duration: Vec<Histogram>,
    work_cpu: Vec<Counter>,
    camera_state: Vec<IntGauge>,
    shed_level: Mutex<ShedLevel>,
    shedding: Arc<Shedding>,
    /// Access units of which at least one packet came.
    pub access_units_received: IntCounter,
    /// Pictures that the decoder gave.
    pub frames_decoded: IntCounter,
    /// Frames that went through the model.
    pub frames_inferred: IntCounter,
    /// Events written to the hub's socket.
    pub events_published: IntCounter,
    /// First packet to publication.
    pub frame_age: Histogram,
    /// RTP packets that came, duplicates included.
    pub rtp_packets_received: IntCounter,
    /// RTP packets given up as lost.
    pub rtp_packets_lost: IntCounter,
    /// Picture loss indications sent.
    pub keyframe_requests: IntCounter,
    /// Attempts after the first.
    pub camera_reconnects: IntCounter,
}

/// A stream's ledger, read at one moment. Exact when the stream is at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LedgerReading {
    /// Access units received.
    pub units_received: u64,
    /// Access units dropped, all reasons.
    pub units_dropped: u64,
    /// Frames decoded.
    pub frames_decoded: u64,
    /// Frames dropped, all reasons.
    pub frames_dropped: u64,
    /// Frames inferred.
    pub frames_inferred: u64,
    /// Events published.
    pub events_published: u64,
    /// Events dropped, all reasons.
    pub events_dropped: u64,
}

impl LedgerReading {
    /// What is neither passed on nor dropped at each stage (units, frames, events); all 0 at rest.
    pub fn in_flight(&self) -> [i64; 3] {
        let diff = |input: u64, a: u64, b: u64| {
            i64::try_from(input).unwrap_or(i64::MAX) - i64::try_from(a + b).unwrap_or(i64::MAX)
        };
        [
            diff(self.units_received, self.frames_decoded, self.units_dropped),
            diff(
                self.frames_decoded,
                self.frames_inferred,
                self.frames_dropped,
            ),
            diff(
                self.frames_inferred,
                self.events_published,
                self.events_dropped,
            ),
        ]
    }

    /// True when every stage's books are closed.
    pub fn balances(&self) -> bool {
        self.in_flight() == [0, 0, 0]
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry of its own with all metrics at 0.
    pub fn new() -> Self {
        let registry = Registry::new();
        let register = Register {
            registry: &registry,
        };
        let stream = ["camera", "stream"];
        let reason = ["camera", "stream", "reason"];
        let vectors = StreamVectors {
            access_units_received: register.counters(
                "access_units_received_total",
                "Access units of which at least one packet came",
                &stream,
            ),
            access_units_dropped: register.counters(
                "access_units_dropped_total",
                "Access units that gave no frame",
                &reason,
            ),
            frames_decoded: register.counters(
                "frames_decoded_total",
                "Pictures that the decoder gave",
                &stream,
            ),
            frames_dropped: register.counters(
                "frames_dropped_total",
                "Decoded frames that were not inferred",
                &reason,
            ),
            frames_inferred: register.counters(
                "frames_inferred_total",
                "Frames that went through the model",
                &stream,
            ),
            events_published: register.counters(
                "events_published_total",
                "Detection events written to the hub's socket",
                &stream,
            ),
            events_dropped: register.counters(
                "events_dropped_total",
                "Detection events that were not published",
                &reason,
            ),
            objects_detected: register.counters(
                "objects_detected_total",
                "Objects in inferred frames",
                &["camera", "stream", "label"],
            ),
            stage_duration: register.histograms(
                "stage_duration_seconds",
                "Time a frame spent in a stage",
                &["camera", "stream", "stage"],
            ),
            work_cpu: register.seconds(
                "stage_cpu_seconds_total",
                "Processor time of the threads that decode and infer",
                &["camera", "stream", "stage"],
            ),
            frame_age: register.histograms(
                "frame_age_seconds",
                "Age of a frame when its event was published, from its first packet",
                &stream,
            ),
            rtp_packets_received: register.counters(
                "rtp_packets_received_total",
                "RTP packets that came",
                &stream,
            ),
            rtp_packets_lost: register.counters(
                "rtp_packets_lost_total",
                "RTP packets given up as lost",
                &stream,
            ),
            keyframe_requests: register.counters(
                "keyframe_requests_total",
                "Picture loss indications sent",
                &stream,
            ),
            camera_state: register.gauges(
                "camera_state",
                "1 for the state the camera stream is in",
                &["camera", "stream", "state"],
            ),
            camera_reconnects: register.counters(
                "camera_reconnects_total",
                "Attempts to connect after the first",
                &stream,
            ),
        };
        let totals = node_totals(&register);
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
        let packets_refused = register.counters(
            "rtp_packets_refused_total",
            "RTP packets that came and were not used",
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
            config_last_reload_successful: register.gauge(
                "config_last_reload_successful",
                "1 unless the configuration that was read last was refused",
            ),
            config_last_reload_success: register.number(
                "config_last_reload_success_timestamp_seconds",
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
            inference_failures: register
                .counter("inference_failures_total", "Inferences that failed"),
            worker_restarts: register.counter(
                "worker_restarts_total",
                "Inference workers and decoders that were replaced",
            ),
            workers_given_up: register.gauge(
                "workers_given_up",
                "Inference workers whose run hangs and was given up",
            ),
            model_state: register.gauges(
                "model_state",
                "1 for the state the model is in",
                &["model", "state"],
            ),
            http_connections: register
                .gauge("http_connections", "Connections of the HTTP server"),
            http_connections_closed: ConnectionEnd::ALL
                .iter()
                .map(|end| closed.with_label_values(&[end.as_str()]))
                .collect(),
            tasks: register.gauge("tasks", "Asynchronous tasks that are alive"),
            shedding: Arc::new(Shedding {
                highest: register.gauge(
                    "shed_level",
                    "Highest step of the overload ladder that a stream is at, 0 when nothing is shed",
                ),
                streams: Mutex::default(),
            }),
            hub_connected: register.gauge("hub_connected", "1 while the hub is joined"),
            hub_reconnects: register
                .counter("hub_reconnects_total", "Times the hub was joined again"),
            twin_id_conflicts: register.counter(
                "twin_id_conflicts_total",
                "Messages signed with the node's own twin id that it did not send",
            ),
            registry: registry.clone(),
        };
        register.add(super::logging::dropped_lines());
        #[cfg(target_os = "linux")]
        register.add(prometheus::process_collector::ProcessCollector::for_self());
        metrics
    }

    /// The handles of a camera stream; the same ones for the same stream, until it is forgotten.
    pub fn stream(&self, id: &StreamId) -> Arc<StreamMetrics> {
        if let Some(stream) = self.known_stream(id) {
            return stream;
        }
        let _making = self.making.lock();
        if let Some(stream) = self.known_stream(id) {
            return stream;
        }
        let stream = Arc::new(StreamMetrics::new(&self.vectors, &self.shedding, id));
        let made = Arc::clone(&stream);
        self.streams().live.insert(id.clone(), made);
        stream
    }

    /// The handles of a camera stream that is counted; none are made.
    pub fn known_stream(&self, id: &StreamId) -> Option<Arc<StreamMetrics>> {
        self.streams().live.get(id).map(Arc::clone)
    }

    /// The handles of all camera streams that are counted.
    pub fn all_streams(&self) -> Vec<Arc<StreamMetrics>> {
        self.streams().live.values().map(Arc::clone).collect()
    }

    /// Ends the series of a camera stream that is gone. What it counted stays in the node's totals. Nothing happens while
    /// anybody holds its handles or its ledger is open, so nothing that is counted is ever lost.
    pub fn forget(&self, id: &StreamId) -> Forgotten {
        self.forget_if(id, LedgerReading::balances)
    }

    /// As [`forget`](Self::forget), whatever the ledger says: for one that is open for so long that it is a mistake.
    pub fn forget_open(&self, id: &StreamId) -> Forgotten {
        self.forget_if(id, |_| true)
    }

    fn forget_if(&self, id: &StreamId, allowed: fn(&LedgerReading) -> bool) -> Forgotten {
        let _making = self.making.lock();
        let mut streams = self.streams();
        let Some(stream) = streams.live.get(id) else {
            return Forgotten::Yes;
        };
        // Handles are given out under the lock alone, so nobody can come to hold them meanwhile.
        if Arc::strong_count(stream) > 1 {
            return Forgotten::InUse;
        }
        let ledger = stream.ledger();
        if !allowed(&ledger) {
            return Forgotten::Open(ledger);
        }
        if let Some(stream) = streams.live.remove(id) {
            add_up(&mut streams.forgotten, stream.books());
            drop(streams);
            stream.set_shed_level(ShedLevel::None);
            self.vectors.remove(&stream);
        }
        Forgotten::Yes
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock()
    }

    /// The configuration that the node starts with was taken.
    pub fn config_taken(&self, now: SystemTime) {
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.config_last_reload_success
            .set(since_1970.as_secs_f64());
        self.config_last_reload_successful.set(1);
    }

    /// A configuration was read again, or told by the hub, and taken or refused.
    pub fn config_reloaded(&self, taken: bool, now: SystemTime) {
        self.config_reloads[usize::from(taken)].inc();
        if taken {
            self.config_taken(now);
        } else {
            self.config_last_reload_successful.set(0);
        }
    }

    /// Sets the state a model is in.
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

    /// All metrics in the Prometheus text format. Takes its time with hundreds of cameras: not for a thread that others
    /// wait for.
    pub fn encode(&self) -> String {
        self.add_up();
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }
}

impl Metrics {
    /// Brings the node's totals up to date.
    fn add_up(&self) {
        let streams = self.streams();
        let mut sums = streams.forgotten.clone();
        for stream in streams.live.values() {
            add_up(&mut sums, stream.books());
        }
        for (total, sum) in self.totals.iter().zip(sums) {
            total.inc_by(sum.saturating_sub(total.get()));
        }
    }
}

/// Adds the books of a stream to sums, which are empty before the first.
fn add_up(sums: &mut Vec<u64>, books: impl Iterator<Item = u64>) {
    for (at, count) in books.enumerate() {
        match sums.get_mut(at) {
            Some(sum) => *sum += count,
            None => sums.push(count),
        }
    }
}

/// The counters of the node's ledger, in the order of [`StreamMetrics::books`].
fn node_totals(register: &Register<'_>) -> Vec<IntCounter> {
    let plain = |name: &str, help: &str| vec![register.counter(name, help)];
    let by_reason = |name: &str, help: &str, reasons: Vec<&'static str>| -> Vec<IntCounter> {
        let vector = register.counters(name, help, &["reason"]);
        reasons
            .into_iter()
            .map(|reason| vector.with_label_values(&[reason]))
            .collect()
    };
    [
        plain(
            "node_access_units_received_total",
            "Access units of all cameras, those that are gone included",
        ),
        by_reason(
            "node_access_units_dropped_total",
            "Access units of all cameras that gave no frame",
            UnitDrop::ALL.iter().map(|r| r.as_str()).collect(),
        ),
        plain(
            "node_frames_decoded_total",
            "Pictures that the decoders of all cameras gave",
        ),
        by_reason(
            "node_frames_dropped_total",
            "Decoded frames of all cameras that were not inferred",
            FrameDrop::ALL.iter().map(|r| r.as_str()).collect(),
        ),
        plain(
            "node_frames_inferred_total",
            "Frames of all cameras that went through the model",
        ),
        plain(
            "node_events_published_total",
            "Detection events of all cameras written to the hub's socket",
        ),
        by_reason(
            "node_events_dropped_total",
            "Detection events of all cameras that were not published",
            EventDrop::ALL.iter().map(|r| r.as_str()).collect(),
        ),
    ]
    .concat()
}

impl StreamVectors {
    /// Takes a stream's series off the list.
    fn remove(&self, stream: &StreamMetrics) {
        let labels = [stream.id.twin_id.as_ref(), stream.id.stream.as_ref()];
        let with = |value: &'static str| [labels[0], labels[1], value];
        // An error says that there is no such series, which is what is wanted.
        for counters in [
            &self.access_units_received,
            &self.frames_decoded,
            &self.frames_inferred,
            &self.events_published,
            &self.rtp_packets_received,
            &self.rtp_packets_lost,
            &self.keyframe_requests,
            &self.camera_reconnects,
        ] {
            let _ = counters.remove_label_values(&labels);
        }
        for reason in UnitDrop::ALL {
            let labels = with(reason.as_str());
            let _ = self.access_units_dropped.remove_label_values(&labels);
        }
        for reason in FrameDrop::ALL {
            let labels = with(reason.as_str());
            let _ = self.frames_dropped.remove_label_values(&labels);
        }
        for reason in EventDrop::ALL {
            let labels = with(reason.as_str());
            let _ = self.events_dropped.remove_label_values(&labels);
        }
        for stage in Stage::ALL {
            let labels = with(stage.as_str());
            let _ = self.stage_duration.remove_label_values(&labels);
        }
        for work in Work::ALL {
            let _ = self.work_cpu.remove_label_values(&with(work.as_str()));
        }
        for state in CameraState::ALL {
            let _ = self.camera_state.remove_label_values(&with(state.as_str()));
        }
        let _ = self.frame_age.remove_label_values(&labels);
        for label in stream.labels().keys() {
            let labels = [labels[0], labels[1], label.as_str()];
            let _ = self.objects_detected.remove_label_values(&labels);
        }
    }
}

impl StreamMetrics {
    fn new(vectors: &StreamVectors, shedding: &Arc<Shedding>, id: &StreamId) -> Self {
        let stream = [id.twin_id.as_ref(), id.stream.as_ref()];
        let with = |value: &'static str| [stream[0], stream[1], value];
        Self {
            id: id.clone(),
            objects_detected: vectors.objects_detected.clone(),
            labels: Mutex::default(),
            access_units_dropped: UnitDrop::ALL
                .iter()
                .map(|r| {
                    vectors
                        .access_units_dropped
                        .with_label_values(&with(r.as_str()))
                })
                .collect(),
            frames_dropped: FrameDrop::ALL
                .iter()
                .map(|r| vectors.frames_dropped.with_label_values(&with(r.as_str())))
                .collect(),
            events_dropped: EventDrop::ALL
                .iter()
                .map(|r| vectors.events_dropped.with_label_values(&with(r.as_str())))
                .collect(),
            stage_duration: Stage::ALL
                .iter()
                .map(|s| vectors.stage_duration.with_label_values(&with(s.as_str())))
                .collect(),
            work_cpu: Work::ALL
                .iter()
                .map(|w| vectors.work_cpu.with_label_values(&with(w.as_str())))
                .collect(),
            camera_state: CameraState::ALL
                .iter()
                .map(|s| vectors.camera_state.with_label_values(&with(s.as_str())))
                .collect(),
            shed_level: Mutex::default(),
            shedding: Arc::clone(shedding),
            access_units_received: vectors.access_units_received.with_label_values(&stream),
            frames_decoded: vectors.frames_decoded.with_label_values(&stream),
            frames_inferred: vectors.frames_inferred.with_label_values(&stream),
            events_published: vectors.events_published.with_label_values(&stream),
            frame_age: vectors.frame_age.with_label_values(&stream),
            rtp_packets_received: vectors.rtp_packets_received.with_label_values(&stream),
            rtp_packets_lost: vectors.rtp_packets_lost.with_label_values(&stream),
            keyframe_requests: vectors.keyframe_requests.with_label_values(&stream),
            camera_reconnects: vectors.camera_reconnects.with_label_values(&stream),
        }
    }

    /// The stream that these count.
    pub fn id(&self) -> &StreamId {
        &self.id
    }

    /// Counts an access unit that gave no frame.
    pub fn unit_dropped(&self, reason: UnitDrop) {
        self.access_units_dropped[reason as usize].inc();
    }

    /// How many access units were dropped for a reason.
    pub fn units_dropped(&self, reason: UnitDrop) -> u64 {
        self.access_units_dropped[reason as usize].get()
    }

    /// Counts a frame that was not inferred.
    pub fn frame_dropped(&self, reason: FrameDrop) {
        self.frames_dropped[reason as usize].inc();
    }

    /// How many frames were dropped for a reason.
    pub fn frames_dropped(&self, reason: FrameDrop) -> u64 {
        self.frames_dropped[reason as usize].get()
    }

    /// Counts an event that was not published.
    pub fn event_dropped(&self, reason: EventDrop) {
        self.events_dropped[reason as usize].inc();
    }

    /// How many events were dropped for a reason.
    pub fn events_dropped(&self, reason: EventDrop) -> u64 {
        self.events_dropped[reason as usize].get()
    }

    /// Observes the time a frame spent in a stage.
    pub fn stage(&self, stage: Stage, spent: Duration) {
        self.stage_duration[stage as usize].observe(spent.as_secs_f64());
    }

    /// Adds the processor time of a piece of work.
    pub fn worked(&self, work: Work, cpu: Duration) {
        self.work_cpu[work as usize].inc_by(cpu.as_secs_f64());
    }

    /// The time that all frames together spent in a stage.
    pub fn stage_total(&self, stage: Stage) -> Duration {
        Duration::from_secs_f64(self.stage_duration[stage as usize].get_sample_sum())
    }

    /// Counts an object of a model's label.
    pub fn object_detected(&self, label: &str) {
        let mut labels = self.labels();
        if let Some(counter) = labels.get(label) {
            counter.inc();
            return;
        }
        let counter = self.objects_detected.with_label_values(&[
            self.id.twin_id.as_ref(),
            self.id.stream.as_ref(),
            label,
        ]);
        counter.inc();
        labels.insert(label.to_owned(), counter);
    }

    fn labels(&self) -> MutexGuard<'_, HashMap<String, IntCounter>> {
        self.labels.lock()
    }

    /// The lines of the ledger, each reason its own.
    fn books(&self) -> impl Iterator<Item = u64> {
        let one = std::slice::from_ref;
        [
            one(&self.access_units_received),
            &self.access_units_dropped,
            one(&self.frames_decoded),
            &self.frames_dropped,
            one(&self.frames_inferred),
            one(&self.events_published),
            &self.events_dropped,
        ]
        .into_iter()
        .flatten()
        .map(IntCounter::get)
    }

    /// Sets the state the camera stream is in.
    pub fn set_state(&self, state: CameraState) {
        for (gauge, each) in self.camera_state.iter().zip(CameraState::ALL) {
            gauge.set(i64::from(*each == state));
        }
    }

    /// Sets the stream's step of the overload ladder.
    pub fn set_shed_level(&self, level: ShedLevel) {
        let mut current = self.shed_level.lock();
        self.shedding.changed(*current, level);
        *current = level;
    }

    /// The stream's step of the overload ladder.
    pub fn shed_level(&self) -> ShedLevel {
        *self.shed_level.lock()
    }

    /// The ledger of now.
    pub fn ledger(&self) -> LedgerReading {
        let sum = |counters: &[IntCounter]| counters.iter().map(IntCounter::get).sum();
        LedgerReading {
            units_received: self.access_units_received.get(),
            units_dropped: sum(&self.access_units_dropped),
            frames_decoded: self.frames_decoded.get(),
            frames_dropped: sum(&self.frames_dropped),
            frames_inferred: self.frames_inferred.get(),
            events_published: self.events_published.get(),
            events_dropped: sum(&self.events_dropped),
        }
    }
}

impl Metrics {
    /// The books of a stream's decoding, which tell its metrics everything.
    pub fn stream_ledger(self: &Arc<Self>, id: &StreamId) -> Arc<StreamLedger> {
        Arc::new(StreamLedger::with_sink(self.decode_metrics(id)))
    }

    /// Where a stream's connections and states are told.
    pub fn stream_sink(self: &Arc<Self>, id: &StreamId) -> Arc<dyn StreamSink> {
        self.decode_metrics(id)
    }

    fn decode_metrics(self: &Arc<Self>, id: &StreamId) -> Arc<DecodeMetrics> {
        Arc::new(DecodeMetrics {
            stream: self.stream(id),
            node: Arc::clone(self),
        })
    }
}

/// Tells what became of a stream's packets and units to its metrics and to those of the node.
#[derive(Debug)]
struct DecodeMetrics {
    stream: Arc<StreamMetrics>,
    node: Arc<Metrics>,
}

impl ClientSink for Metrics {
    fn hub_connected(&self, connected: bool, again: bool) {
        self.hub_connected.set(i64::from(connected));
        if again {
            self.hub_reconnects.inc();
        }
    }

    fn twin_id_conflict(&self) {
        self.twin_id_conflicts.inc();
    }

    fn signal_refused(&self, reason: SignalRefusal) {
        self.signals_refused[reason as usize].inc();
    }

    fn malformed_input(&self, kind: Malformed) {
        self.malformed_input[kind as usize].inc();
    }

    fn rtp_packets_refused(&self, reason: PacketRefusal, count: u64) {
        self.rtp_packets_refused[reason as usize].inc_by(count);
    }
}

impl StreamSink for DecodeMetrics {
    fn state(&self, state: CameraState) {
        self.stream.set_state(state);
    }

    fn keyframe_requested(&self) {
        self.stream.keyframe_requests.inc();
    }

    fn reconnecting(&self) {
        self.stream.camera_reconnects.inc();
    }
}

impl LedgerSink for DecodeMetrics {
    fn packet_received(&self) {
        self.stream.rtp_packets_received.inc();
    }

    fn packets_lost(&self, count: u64) {
        self.stream.rtp_packets_lost.inc_by(count);
    }

    fn malformed_payloads(&self, codec: Codec, count: u64) {
        let kind = match codec {
            Codec::H264 => Malformed::H264,
            Codec::Vp8 => Malformed::Vp8,
        };
        self.node.malformed_input[kind as usize].inc_by(count);
    }

    fn unit_received(&self) {
        self.stream.access_units_received.inc();
    }

    fn unit_dropped(&self, reason: UnitDrop) {
        self.stream.unit_dropped(reason);
    }

    fn frame_decoded(&self, timing: &FrameTiming) {
        let spent = |from: Instant, to: Instant| to.saturating_duration_since(from);
        self.stream.frames_decoded.inc();
        self.stream.stage(
            Stage::Receive,
            spent(timing.received_at, timing.completed_at),
        );
        self.stream
            .stage(Stage::Decode, spent(timing.completed_at, timing.decoded_at));
    }

    fn cpu_spent(&self, work: DecodeWork, time: Duration) {
        let work = match work {
            DecodeWork::Depacketize => Work::Depacketize,
            DecodeWork::Decode => Work::Decode,
            DecodeWork::Copy => Work::Copy,
        };
        self.stream.worked(work, time);
    }

    fn shed_level(&self, level: ShedLevel) {
        self.stream.set_shed_level(level);
    }

    fn path_restarted(&self) {
        self.node.worker_restarts.inc();
    }
}

impl Shedding {
    fn changed(&self, before: ShedLevel, after: ShedLevel) {
        let mut streams = self.streams.lock();
        streams[before as usize] = streams[before as usize].saturating_sub(1);
        streams[after as usize] += 1;
        streams[ShedLevel::None as usize] = 0;
        let highest = streams.iter().rposition(|&count| count > 0).unwrap_or(0);
        self.highest.set(i64::try_from(highest).unwrap_or(i64::MAX));
    }
}

/// Registers under the common prefix.
struct Register<'a> {
    registry: &'a Registry,
}

impl Register<'_> {
    fn add(&self, collector: impl prometheus::core::Collector + 'static) {
        self.registry
            .register(Box::new(collector))
            .expect("names are registered once, because each is written once above");
    }

    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(format!("twinsight_{name}"), help)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let vector = IntCounterVec::new(Self::opts(name, help), labels)
            .expect("the name is valid, because it is a literal above");
        self.add(vector.clone());
        vector
    }

    fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        let vector = CounterVec::new(Self::opts(name, help), labels)
            .expect("the name is valid, because it is a literal above");
        self.add(vector.clone());
        vector
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let vector = IntGaugeVec::new(Self::opts(name, help), labels)
            .expect("the name is valid, because it is a literal above");
        self.add(vector.clone());
        vector
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let opts = HistogramOpts::from(Self::opts(name, help)).buckets(SECONDS.to_vec());
        let vector = HistogramVec::new(opts, labels)
            .expect("the name is valid, because it is a literal above");
        self.add(vector.clone());
        vector
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        let counter = IntCounter::with_opts(Self::opts(name, help))
            .expect("the name is valid, because it is a literal above");
        self.add(counter.clone());
        counter
    }

    fn number(&self, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::with_opts(Self::opts(name, help))
            .expect("the name is valid, because it is a literal above");
        self.add(gauge.clone());
        gauge
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        let gauge = IntGauge::with_opts(Self::opts(name, help))
            .expect("the name is valid, because it is a literal above");
        self.add(gauge.clone());
        gauge
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(metrics.forget(&id(n)), Forgotten::Yes);
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
        assert_eq!(metrics.forget(&id(1)), Forgotten::Yes);
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
        assert_eq!(metrics.forget(&id(1)), Forgotten::InUse);
        held.frames_inferred.inc();
        held.frames_decoded.inc();
        held.access_units_received.inc();
        drop(held);
        assert!(matches!(metrics.forget(&id(1)), Forgotten::Open(_)));
        metrics
            .stream(&id(1))
            .event_dropped(EventDrop::HubDisconnected);
        assert_eq!(metrics.forget(&id(1)), Forgotten::Yes);
        assert!(metrics.known_stream(&id(1)).is_none());
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
    fn what_decoding_tells_is_counted_for_its_stream_and_for_the_node() {
        let metrics = Arc::new(Metrics::new());
        let sink = DecodeMetrics {
            stream: metrics.stream(&id(1)),
            node: Arc::clone(&metrics),
        };
        sink.packet_received();
        sink.packets_lost(3);
        sink.malformed_payloads(Codec::Vp8, 2);
        sink.unit_received();
        sink.unit_received();
        sink.unit_dropped(UnitDrop::Shed);
        sink.path_restarted();
        let stream = metrics.stream(&id(1));
        assert_eq!(stream.rtp_packets_received.get(), 1);
        assert_eq!(stream.rtp_packets_lost.get(), 3);
        assert_eq!(stream.ledger().in_flight()[0], 1);
        assert_eq!(metrics.malformed_input_counter(Malformed::Vp8).get(), 2);
        assert_eq!(metrics.worker_restarts.get(), 1);
    }

    #[test]
    fn a_stream_that_shed_when_it_was_forgotten_sheds_no_more() {
        let metrics = Metrics::new();
        let stream = metrics.stream(&id(1));
        stream.set_shed_level(ShedLevel::KeyframesOnly);
        drop(stream);
        assert_eq!(metrics.forget(&id(1)), Forgotten::Yes);
        assert_eq!(value(&metrics.encode(), "twinsight_shed_level"), Some(0));
    }
}
