//! The metrics of one camera stream. Stages hold them and count; what was counted comes out as a ledger, and as series
//! of the registry until the stream is forgotten.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use prometheus::{
    Counter, CounterVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};

use super::recent::BOOKS;
use super::register::Register;
use super::sink::SinkMetrics;
use super::track::{TrackMetrics, TrackVectors};
use crate::telemetry::history::{CounterHistory, RecentAges};
use crate::telemetry::ledger::{EventDrop, FrameDrop, Stage, Work};
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::CameraState;
use twinsight_media::ledger::{ShedLevel, UnitDrop};

/// The upper bounds of the age of frames, in seconds. They lie closest where quantiles are looked at and alerts decide, from 50 ms
/// to 2 s.
const AGE_BOUNDS: &[f64] = &[0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0];

/// The upper bounds of the time in a stage, in seconds. There are seven stages, so each bound costs seven series for each stream. The
/// sum and the count tell the mean, and these only tell in which order of magnitude the slow ones are.
const STAGE_BOUNDS: &[f64] = &[0.005, 0.02, 0.1, 0.5];

/// Counts the streams at each step of the overload ladder. The node's metric is the highest step that any of them is at.
#[derive(Debug)]
pub(super) struct Shedding {
    highest: IntGauge,
    /// How many streams are at each level but `None`, by the level's number.
    streams: Mutex<[usize; ShedLevel::ALL.len()]>,
}

/// The metrics that have a series for each camera stream.
#[derive(Debug)]
pub(super) struct StreamVectors {
    // `remove` must take off the series of each.
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
    camera_info: IntGaugeVec,
    tracks: TrackVectors,
}

/// The metrics of one camera stream. All stages share them, and counting is cheap.
#[derive(Debug)]
pub struct StreamMetrics {
    id: StreamId,
    objects_detected: IntCounterVec,
    /// A counter for each label that was seen. There are no more than the stream's models have.
    labels: Mutex<HashMap<String, IntCounter>>,
    access_units_dropped: Vec<IntCounter>,
    frames_dropped: Vec<IntCounter>,
    /// What became of events for the hub, or where there is none, for those who watch by HTTP.
    hub: SinkCounters,
    /// What became of events for the other sinks, in their order.
    sinks: Vec<SinkCounters>,
    stage_duration: Vec<Histogram>,
    work_cpu: Vec<Counter>,
    camera_state: Vec<IntGauge>,
    camera_info: IntGaugeVec,
    /// The labels that the series of `camera_info` has now.
    info: Mutex<Option<CameraInfo>>,
    shed_level: Mutex<ShedLevel>,
    shedding: Arc<Shedding>,
    pub(super) history: Mutex<CounterHistory>,
    pub(super) recent_ages: Mutex<RecentAges>,
    /// Of what is followed.
    pub tracks: TrackMetrics,
    /// Access units of which at least one packet came.
    pub access_units_received: IntCounter,
    /// Pictures that the decoder gave.
    pub frames_decoded: IntCounter,
    /// Frames that went through the model.
    pub frames_inferred: IntCounter,
    /// Events written to the hub's socket.
    pub events_published: IntCounter,
    /// How old frames are when their event is published, from their first packet.
    pub frame_age: Histogram,
    /// RTP packets that came. Duplicates count.
    pub rtp_packets_received: IntCounter,
    /// RTP packets that did not come in time.
    pub rtp_packets_lost: IntCounter,
    /// Picture loss indications that were sent.
    pub keyframe_requests: IntCounter,
    /// Attempts to connect, without the first.
    pub camera_reconnects: IntCounter,
}

/// What became of a stream's events for one sink.
#[derive(Debug)]
struct SinkCounters {
    published: IntCounter,
    /// By reason.
    dropped: Vec<IntCounter>,
}

impl SinkCounters {
    fn new(
        vectors: &StreamVectors,
        [camera, stream]: [&str; 2],
        sink: &str,
        reasons: &[EventDrop],
    ) -> Self {
        let dropped = |reason: &EventDrop| {
            vectors
                .events_dropped
                .with_label_values(&[camera, stream, reason.as_str(), sink])
        };
        Self {
            published: vectors
                .events_published
                .with_label_values(&[camera, stream, sink]),
            dropped: reasons.iter().map(dropped).collect(),
        }
    }
}

/// What the configuration says of a camera that is of use to whoever reads its series.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CameraInfo {
    name: String,
    model: String,
}

/// A stream's ledger, read at one moment. It is exact when the stream is at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LedgerReading {
    /// Access units of which a packet came.
    pub units_received: u64,
    /// Access units dropped, for whatever reason.
    pub units_dropped: u64,
    /// Pictures that the decoder gave.
    pub frames_decoded: u64,
    /// Frames dropped, for whatever reason.
    pub frames_dropped: u64,
    /// Frames that went through the model.
    pub frames_inferred: u64,
    /// Events written to the hub's socket.
    pub events_published: u64,
    /// Events dropped, for whatever reason.
    pub events_dropped: u64,
    /// Events that neither reached the sink that they are for nor were dropped, over all sinks beside the hub.
    pub sink_events_in_flight: i64,
    /// Events of tracks and lines that neither reached the sink that they are for nor were dropped, over the hub and all sinks.
    pub track_events_in_flight: i64,
}

impl LedgerReading {
    /// How many units, frames and events were neither passed on nor dropped. All are 0 at rest.
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

    /// True when every unit, frame and event was passed on or dropped.
    pub fn balances(&self) -> bool {
        self.in_flight() == [0, 0, 0]
            && self.sink_events_in_flight == 0
            && self.track_events_in_flight == 0
    }
}

impl StreamVectors {
    /// Registers all of them. Series come with the streams.
    pub(super) fn register(register: &Register<'_>) -> Self {
        let stream = ["camera", "stream"];
        let reason = ["camera", "stream", "reason"];
        let sink = ["camera", "stream", "sink"];
        let sink_reason = ["camera", "stream", "reason", "sink"];
        Self {
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
                "Detection events that the hub's socket or another sink took; without a hub, `local` stands for those who watch by HTTP",
                &sink,
            ),
            events_dropped: register.counters(
                "events_dropped_total",
                "Detection events that the hub or another sink did not get",
                &sink_reason,
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
                STAGE_BOUNDS,
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
                AGE_BOUNDS,
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
            camera_info: register.gauges(
                "camera_info",
                "1, labelled with the name and the model of the camera stream",
                &["camera", "stream", "name", "model"],
            ),
            tracks: TrackVectors::register(register),
        }
    }

    /// Ends the series of a stream.
    pub(super) fn remove(&self, stream: &StreamMetrics, first_sink: &str, sinks: &[SinkMetrics]) {
        let labels = [stream.id.twin_id.as_ref(), stream.id.stream.as_ref()];
        let with = |value: &'static str| [labels[0], labels[1], value];
        // An error means that there is no such series, which is fine.
        for counters in [
            &self.access_units_received,
            &self.frames_decoded,
            &self.frames_inferred,
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
        for sink in std::iter::once(first_sink).chain(sinks.iter().map(SinkMetrics::name)) {
            let labels = [labels[0], labels[1], sink];
            let _ = self.events_published.remove_label_values(&labels);
            for reason in EventDrop::ALL {
                let labels = [labels[0], labels[1], reason.as_str(), sink];
                let _ = self.events_dropped.remove_label_values(&labels);
            }
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
        if let Some(info) = stream.info.lock().take() {
            let _ = self
                .camera_info
                .remove_label_values(&info.labels(&stream.id));
        }
        for label in stream.labels().keys() {
            let labels = [labels[0], labels[1], label.as_str()];
            let _ = self.objects_detected.remove_label_values(&labels);
        }
        stream.tracks.remove();
    }
}

impl StreamMetrics {
    pub(super) fn new(
        vectors: &StreamVectors,
        shedding: &Arc<Shedding>,
        first_sink: &str,
        sinks: &[SinkMetrics],
        id: &StreamId,
    ) -> Self {
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
            hub: SinkCounters::new(vectors, stream, first_sink, EventDrop::OF_HUB),
            sinks: sinks
                .iter()
                .map(|sink| SinkCounters::new(vectors, stream, sink.name(), EventDrop::ALL))
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
            camera_info: vectors.camera_info.clone(),
            info: Mutex::default(),
            shed_level: Mutex::default(),
            shedding: Arc::clone(shedding),
            tracks: TrackMetrics::new(
                &vectors.tracks,
                std::iter::once(first_sink).chain(sinks.iter().map(SinkMetrics::name)),
                id,
            ),
            history: Mutex::new(CounterHistory::new(BOOKS)),
            recent_ages: Mutex::default(),
            access_units_received: vectors.access_units_received.with_label_values(&stream),
            frames_decoded: vectors.frames_decoded.with_label_values(&stream),
            frames_inferred: vectors.frames_inferred.with_label_values(&stream),
            events_published: vectors
                .events_published
                .with_label_values(&[stream[0], stream[1], first_sink]),
            frame_age: vectors.frame_age.with_label_values(&stream),
            rtp_packets_received: vectors.rtp_packets_received.with_label_values(&stream),
            rtp_packets_lost: vectors.rtp_packets_lost.with_label_values(&stream),
            keyframe_requests: vectors.keyframe_requests.with_label_values(&stream),
            camera_reconnects: vectors.camera_reconnects.with_label_values(&stream),
        }
    }

    /// The stream whose metrics these are.
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
        self.hub.dropped[reason as usize].inc();
    }

    /// How many events were dropped for a reason.
    pub fn events_dropped(&self, reason: EventDrop) -> u64 {
        self.hub.dropped[reason as usize].get()
    }

    /// Counts what became of an event for a sink beside the hub.
    pub(crate) fn sink_event(&self, sink: usize, result: Result<(), EventDrop>) {
        let counters = &self.sinks[sink];
        match result {
            Ok(()) => counters.published.inc(),
            Err(reason) => counters.dropped[reason as usize].inc(),
        }
    }

    /// Adds the time that a frame spent in a stage.
    pub fn stage(&self, stage: Stage, spent: Duration) {
        self.stage_duration[stage as usize].observe(spent.as_secs_f64());
    }

    /// Adds the processor time of a piece of work.
    pub fn worked(&self, work: Work, cpu: Duration) {
        self.work_cpu[work as usize].inc_by(cpu.as_secs_f64());
    }

    /// The processor time of a kind of work so far.
    pub fn work_cpu(&self, work: Work) -> Duration {
        Duration::try_from_secs_f64(self.work_cpu[work as usize].get()).unwrap_or_default()
    }

    /// The sum of the times that frames spent in a stage.
    pub fn stage_total(&self, stage: Stage) -> Duration {
        Duration::from_secs_f64(self.stage_duration[stage as usize].get_sample_sum())
    }

    /// Counts an object by its label.
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

    /// The counts of the ledger in a fixed order, with one for each reason.
    pub(super) fn books(&self) -> impl Iterator<Item = u64> {
        let one = std::slice::from_ref;
        [
            one(&self.access_units_received),
            &self.access_units_dropped,
            one(&self.frames_decoded),
            &self.frames_dropped,
            one(&self.frames_inferred),
            one(&self.events_published),
            &self.hub.dropped,
        ]
        .into_iter()
        .flatten()
        .map(IntCounter::get)
    }

    /// Sets the state of the camera stream.
    pub fn set_state(&self, state: CameraState) {
        for (gauge, each) in self.camera_state.iter().zip(CameraState::ALL) {
            gauge.set(i64::from(*each == state));
        }
    }

    /// Says what the camera is called and which model looks at it. A name or model that it had before is on the list no longer.
    pub fn set_info(&self, name: &str, model: &str) {
        let now = CameraInfo {
            name: name.to_owned(),
            model: model.to_owned(),
        };
        let mut info = self.info.lock();
        if info.as_ref() == Some(&now) {
            return;
        }
        if let Some(before) = info.take() {
            // An error means that there is no such series, which is fine.
            let _ = self
                .camera_info
                .remove_label_values(&before.labels(&self.id));
        }
        self.camera_info
            .with_label_values(&now.labels(&self.id))
            .set(1);
        *info = Some(now);
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

    /// Reads the ledger.
    pub fn ledger(&self) -> LedgerReading {
        let sum = |counters: &[IntCounter]| counters.iter().map(IntCounter::get).sum();
        let inferred = self.frames_inferred.get();
        let in_flight = |sink: &SinkCounters| {
            let dropped: u64 = sum(&sink.dropped);
            let settled = sink.published.get() + dropped;
            i64::try_from(inferred).unwrap_or(i64::MAX) - i64::try_from(settled).unwrap_or(i64::MAX)
        };
        LedgerReading {
            units_received: self.access_units_received.get(),
            units_dropped: sum(&self.access_units_dropped),
            frames_decoded: self.frames_decoded.get(),
            frames_dropped: sum(&self.frames_dropped),
            frames_inferred: inferred,
            events_published: self.events_published.get(),
            events_dropped: sum(&self.hub.dropped),
            sink_events_in_flight: self.sinks.iter().map(in_flight).sum(),
            track_events_in_flight: self.tracks.events_in_flight(),
        }
    }
}

impl CameraInfo {
    fn labels<'a>(&'a self, id: &'a StreamId) -> [&'a str; 4] {
        [&id.twin_id, &id.stream, &self.name, &self.model]
    }
}

impl Shedding {
    pub(super) fn register(register: &Register<'_>) -> Self {
        Self {
            highest: register.gauge(
                "shed_level",
                "Highest step of the overload ladder that a stream is at, 0 when nothing is shed",
            ),
            streams: Mutex::default(),
        }
    }

    fn changed(&self, before: ShedLevel, after: ShedLevel) {
        let mut streams = self.streams.lock();
        streams[before as usize] = streams[before as usize].saturating_sub(1);
        streams[after as usize] += 1;
        streams[ShedLevel::None as usize] = 0;
        let highest = streams.iter().rposition(|&count| count > 0).unwrap_or(0);
        self.highest.set(i64::try_from(highest).unwrap_or(i64::MAX));
    }
}
