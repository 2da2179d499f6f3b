//! Every metric of the node. A stage gets the handles of its stream and counts; the HTTP server
//! encodes the registry. Names and labels are a contract with whoever scrapes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{
    Counter, CounterVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::ledger::{
    CameraState, EventDrop, FrameDrop, Malformed, PacketRefusal, ShedLevel, SignalRefusal, Stage,
    UnitDrop, Work,
};
use crate::config::StreamId;

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
    streams: Mutex<HashMap<StreamId, Arc<StreamMetrics>>>,
    shedding: Arc<Shedding>,
    signals_refused: Vec<IntCounter>,
    malformed_input: Vec<IntCounter>,
    rtp_packets_refused: Vec<IntCounter>,
    /// A session's run that gave an error.
    pub inference_failures: IntCounter,
    /// Inference workers and decoders that were replaced.
    pub worker_restarts: IntCounter,
    /// Asynchronous tasks that are alive.
    pub tasks: IntGauge,
    /// 1 while the hub is joined.
    pub hub_connected: IntGauge,
    /// Times the hub was joined again after it had gone.
    pub hub_reconnects: IntCounter,
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
        let metrics = Self {
            vectors,
            streams: Mutex::default(),
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
            registry: registry.clone(),
        };
        #[cfg(target_os = "linux")]
        register.add(prometheus::process_collector::ProcessCollector::for_self());
        metrics
    }

    /// The handles of a camera stream; the same ones for the same stream, for the node's life.
    pub fn stream(&self, id: &StreamId) -> Arc<StreamMetrics> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            streams
                .entry(id.clone())
                .or_insert_with(|| Arc::new(StreamMetrics::new(&self.vectors, &self.shedding, id))),
        )
    }

    /// The handles of all camera streams that there were.
    pub fn all_streams(&self) -> Vec<Arc<StreamMetrics>> {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.values().map(Arc::clone).collect()
    }

    /// Counts a refused signal.
    pub fn signal_refused(&self, reason: SignalRefusal) {
        self.signals_refused[reason as usize].inc();
    }

    /// Counts RTP packets that were not used.
    pub fn rtp_packets_refused(&self, reason: PacketRefusal, count: u64) {
        self.rtp_packets_refused[reason as usize].inc_by(count);
    }

    /// Counts a malformed input.
    pub fn malformed_input(&self, kind: Malformed) {
        self.malformed_input[kind as usize].inc();
    }

    /// The counter of a kind of malformed input, for a stage that holds no [`Metrics`].
    pub fn malformed_input_counter(&self, kind: Malformed) -> IntCounter {
        self.malformed_input[kind as usize].clone()
    }

    /// All metrics in the Prometheus text format.
    pub fn encode(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }
}

impl StreamMetrics {
    fn new(vectors: &StreamVectors, shedding: &Arc<Shedding>, id: &StreamId) -> Self {
        let stream = [id.twin_id.as_ref(), id.stream.as_ref()];
        let with = |value: &'static str| [stream[0], stream[1], value];
        Self {
            id: id.clone(),
            objects_detected: vectors.objects_detected.clone(),
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
        self.objects_detected
            .with_label_values(&[&self.id.twin_id, &self.id.stream, label])
            .inc();
    }

    /// Sets the state the camera stream is in.
    pub fn set_state(&self, state: CameraState) {
        for (gauge, each) in self.camera_state.iter().zip(CameraState::ALL) {
            gauge.set(i64::from(*each == state));
        }
    }

    /// Sets the stream's step of the overload ladder.
    pub fn set_shed_level(&self, level: ShedLevel) {
        let mut current = self
            .shed_level
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.shedding.changed(*current, level);
        *current = level;
    }

    /// The stream's step of the overload ladder.
    pub fn shed_level(&self) -> ShedLevel {
        *self
            .shed_level
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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

impl Shedding {
    fn changed(&self, before: ShedLevel, after: ShedLevel) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
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

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        let gauge = IntGauge::with_opts(Self::opts(name, help))
            .expect("the name is valid, because it is a literal above");
        self.add(gauge.clone());
        gauge
    }
}
