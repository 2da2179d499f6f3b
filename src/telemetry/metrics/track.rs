//! The metrics of a camera stream's tracks, zones and lines, and of the events that tell of them. The stage that follows what is
//! seen counts here, and those who send events. Series come with what they are about, and go with the stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::register::Register;
use crate::telemetry::ledger::EventDrop;
use twinsight_client::stream_id::StreamId;
use twinsight_media::label_enum;

label_enum! {
    /// Where the tracks of a stream are in their lives, as the metric `tracks` counts them.
    pub enum TrackStateLabel {
        /// Seen too little to be believed.
        Tentative = "tentative",
        /// Believed, and seen at the last look.
        Confirmed = "confirmed",
        /// Believed, and not seen at the last look.
        Lost = "lost",
    }
}

label_enum! {
    /// The events that tell of tracks.
    pub enum TrackEventType {
        /// What became of a track.
        Track = "track",
        /// A track crossed a line.
        LineCrossed = "lineCrossed",
    }
}

/// The metrics of tracks, which have series for each camera stream.
#[derive(Debug, Clone)]
pub(super) struct TrackVectors {
    tracks: IntGaugeVec,
    started: IntCounterVec,
    zone_objects: IntGaugeVec,
    line_crossings: IntCounterVec,
    masked: IntCounterVec,
    events: IntCounterVec,
    published: IntCounterVec,
    dropped: IntCounterVec,
}

/// The metrics of one stream's tracks.
#[derive(Debug)]
pub struct TrackMetrics {
    id: StreamId,
    vectors: TrackVectors,
    /// The hub, or who stands for it, and then the other sinks.
    sinks: Vec<Arc<str>>,
    series: Mutex<Series>,
    masked: IntCounter,
    made: AtomicU64,
    /// For each sink, the events that it took or that were dropped.
    settled: Vec<AtomicU64>,
}

/// The series that there are, by their own labels.
#[derive(Debug, Default)]
struct Series {
    /// One for each state, once anything was followed.
    tracks: Vec<IntGauge>,
    started: BTreeSet<String>,
    /// By zone and label.
    zone_objects: BTreeMap<(Arc<str>, Arc<str>), IntGauge>,
    /// By line, direction and label.
    line_crossings: BTreeSet<(Arc<str>, &'static str, Arc<str>)>,
}

impl TrackVectors {
    pub(super) fn register(register: &Register<'_>) -> Self {
        Self {
            tracks: register.gauges(
                "tracks",
                "Tracks that live, by their state",
                &["camera", "stream", "state"],
            ),
            started: register.counters(
                "tracks_started_total",
                "Tracks that were confirmed",
                &["camera", "stream", "label"],
            ),
            zone_objects: register.gauges(
                "zone_objects",
                "Tracks that are in a zone",
                &["camera", "stream", "zone", "label"],
            ),
            line_crossings: register.counters(
                "line_crossings_total",
                "Crossings of a line",
                &["camera", "stream", "line", "direction", "label"],
            ),
            masked: register.counters(
                "objects_masked_total",
                "Objects that a mask dropped",
                &["camera", "stream"],
            ),
            events: register.counters(
                "track_events_total",
                "Events of tracks and lines that were made",
                &["camera", "stream", "type"],
            ),
            published: register.counters(
                "track_events_published_total",
                "Events of tracks and lines that the hub's socket or another sink took",
                &["camera", "stream", "sink", "type"],
            ),
            dropped: register.counters(
                "track_events_dropped_total",
                "Events of tracks and lines that the hub or another sink did not get",
                &["camera", "stream", "sink", "type", "reason"],
            ),
        }
    }
}

impl TrackMetrics {
    /// `sinks` are the names of the hub, or of who stands for it, and then of the other sinks.
    pub(super) fn new<'a>(
        vectors: &TrackVectors,
        sinks: impl Iterator<Item = &'a str>,
        id: &StreamId,
    ) -> Self {
        let sinks: Vec<Arc<str>> = sinks.map(Arc::from).collect();
        Self {
            id: id.clone(),
            vectors: vectors.clone(),
            series: Mutex::default(),
            masked: vectors
                .masked
                .with_label_values(&[id.twin_id.as_ref(), id.stream.as_ref()]),
            made: AtomicU64::new(0),
            settled: sinks.iter().map(|_| AtomicU64::new(0)).collect(),
            sinks,
        }
    }

    /// Counts objects that a mask dropped.
    pub fn masked(&self, objects: u64) {
        self.masked.inc_by(objects);
    }

    /// Sets how many tracks there are of each [`TrackStateLabel`].
    pub fn set_tracks(&self, counts: [usize; TrackStateLabel::ALL.len()]) {
        let mut series = self.series.lock();
        if series.tracks.is_empty() {
            if counts == [0; TrackStateLabel::ALL.len()] {
                return;
            }
            let gauge = |state: &TrackStateLabel| {
                let labels = [self.twin(), self.stream(), state.as_str()];
                self.vectors.tracks.with_label_values(&labels)
            };
            series.tracks = TrackStateLabel::ALL.iter().map(gauge).collect();
        }
        for (gauge, count) in series.tracks.iter().zip(counts) {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Counts a track that was confirmed.
    pub fn track_started(&self, label: &str) {
        let labels = [self.twin(), self.stream(), label];
        self.vectors.started.with_label_values(&labels).inc();
        let mut series = self.series.lock();
        if !series.started.contains(label) {
            series.started.insert(label.to_owned());
        }
    }

    /// Sets how many tracks of each label are in each zone. Zones that are no longer there lose their series, and labels that are in
    /// no zone any more stay at 0.
    pub fn set_zone_objects(
        &self,
        zones: &[Arc<str>],
        counts: &BTreeMap<(Arc<str>, Arc<str>), usize>,
    ) {
        let mut series = self.series.lock();
        series.zone_objects.retain(|(zone, label), gauge| {
            let stays = zones.contains(zone);
            if stays {
                // At once, so that nobody reads 0 of a zone in which somebody is.
                let key = (Arc::clone(zone), Arc::clone(label));
                let count = counts.get(&key).copied().unwrap_or(0);
                gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
            } else {
                let labels = [self.twin(), self.stream(), zone, label];
                // An error means that there is no such series, which is fine.
                let _ = self.vectors.zone_objects.remove_label_values(&labels);
            }
            stays
        });
        for ((zone, label), count) in counts {
            let key = (Arc::clone(zone), Arc::clone(label));
            let gauge = series.zone_objects.entry(key).or_insert_with(|| {
                let labels = [self.twin(), self.stream(), zone, label];
                self.vectors.zone_objects.with_label_values(&labels)
            });
            gauge.set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
    }

    /// Counts a crossing of a line.
    pub fn line_crossed(&self, line: &Arc<str>, direction: &'static str, label: &Arc<str>) {
        let labels = [self.twin(), self.stream(), line, direction, label];
        self.vectors.line_crossings.with_label_values(&labels).inc();
        let key = (Arc::clone(line), direction, Arc::clone(label));
        self.series.lock().line_crossings.insert(key);
    }

    /// Counts an event of a track that was made.
    pub fn event_made(&self, event_type: TrackEventType) {
        let labels = [self.twin(), self.stream(), event_type.as_str()];
        self.vectors.events.with_label_values(&labels).inc();
        self.made.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what became of an event for a sink; the hub is sink 0.
    pub fn event_settled(
        &self,
        sink: usize,
        event_type: TrackEventType,
        result: Result<(), EventDrop>,
    ) {
        let (sink_name, event_type) = (self.sinks[sink].as_ref(), event_type.as_str());
        let to = [self.twin(), self.stream(), sink_name, event_type];
        match result {
            Ok(()) => self.vectors.published.with_label_values(&to).inc(),
            Err(reason) => {
                let [twin, stream, sink, event_type] = to;
                let labels = [twin, stream, sink, event_type, reason.as_str()];
                self.vectors.dropped.with_label_values(&labels).inc();
            }
        }
        self.settled[sink].fetch_add(1, Ordering::Relaxed);
    }

    /// Events that neither reached the sink that they are for nor were dropped, over all sinks and the hub.
    pub(super) fn events_in_flight(&self) -> i64 {
        let made = self.made.load(Ordering::Relaxed);
        let in_flight = |settled: &AtomicU64| {
            let settled = settled.load(Ordering::Relaxed);
            i64::try_from(made).unwrap_or(i64::MAX) - i64::try_from(settled).unwrap_or(i64::MAX)
        };
        self.settled.iter().map(in_flight).sum()
    }

    /// Ends all series of the stream.
    pub(super) fn remove(&self) {
        let series = std::mem::take(&mut *self.series.lock());
        let (twin, stream, of) = (self.twin(), self.stream(), &self.vectors);
        // An error means that there is no such series, which is fine.
        for state in TrackStateLabel::ALL {
            let _ = of
                .tracks
                .remove_label_values(&[twin, stream, state.as_str()]);
        }
        for label in &series.started {
            let _ = of.started.remove_label_values(&[twin, stream, label]);
        }
        for (zone, label) in series.zone_objects.keys() {
            let labels: [&str; 4] = [twin, stream, zone, label];
            let _ = of.zone_objects.remove_label_values(&labels);
        }
        for (line, direction, label) in &series.line_crossings {
            let labels: [&str; 5] = [twin, stream, line, direction, label];
            let _ = of.line_crossings.remove_label_values(&labels);
        }
        let _ = of.masked.remove_label_values(&[twin, stream]);
        for event_type in TrackEventType::ALL {
            let event_type = event_type.as_str();
            let _ = of.events.remove_label_values(&[twin, stream, event_type]);
            for sink in &self.sinks {
                let to: [&str; 4] = [twin, stream, sink, event_type];
                let _ = of.published.remove_label_values(&to);
                for reason in EventDrop::ALL {
                    let labels: [&str; 5] = [twin, stream, sink, event_type, reason.as_str()];
                    let _ = of.dropped.remove_label_values(&labels);
                }
            }
        }
    }

    fn twin(&self) -> &str {
        &self.id.twin_id
    }

    fn stream(&self) -> &str {
        &self.id.stream
    }
}
