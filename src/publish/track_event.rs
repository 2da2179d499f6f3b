//! The JSON of the events `track` and `lineCrossed`. What the stage that follows has to tell comes in with a reading of the clocks,
//! and what serde can write goes out. The publisher calls it when an event is written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::event::{CameraRef, SCHEMA_VERSION};
use super::object::{BoxJson, rounded, score, tenth_px};
use crate::clock::WallClock;
use crate::telemetry::metrics::TrackEventType;
use crate::track::RelativeBox;
use crate::track::news::{Happening, TrackFacts, TrackNews};
use twinsight_client::stream_id::StreamId;
use twinsight_media::picture::PictureSize;

/// Type of the event that tells what became of a track.
pub const TRACK: &str = "track";
/// Type of the event for each crossing of a line.
pub const LINE_CROSSED: &str = "lineCrossed";

/// Something to tell of a track, on its way to the hub and to sinks.
#[derive(Debug, Clone)]
pub struct TrackEvent {
    /// The camera stream.
    pub id: StreamId,
    /// The camera's name for people.
    pub name: Arc<str>,
    /// When the frame that it tells of came, or when it happened without one.
    pub at: Instant,
    /// What there is to tell.
    pub news: TrackNews,
}

/// An event of a track, `track` or `lineCrossed`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrackEventJson<'a> {
    schema_version: u32,
    run_id: &'a str,
    sequence: u64,
    timestamp: u64,
    camera: CameraRef<'a>,
    #[serde(flatten)]
    what: HappeningJson<'a>,
    track: TrackJson<'a>,
}

/// What happened, as JSON. It differs between the types.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum HappeningJson<'a> {
    Track {
        phase: &'static str,
        reason: &'static str,
    },
    LineCrossed {
        line: &'a str,
        direction: &'static str,
        counts: Counts,
    },
}

#[derive(Debug, Serialize)]
pub(crate) struct Counts {
    r#in: u64,
    out: u64,
}

/// A track as JSON, with times in milliseconds since 1970.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TrackJson<'a> {
    id: String,
    label: &'a str,
    class_id: usize,
    score: f64,
    top_score: f64,
    #[serde(rename = "box")]
    bbox: BoxJson,
    first_seen_at: u64,
    confirmed_at: u64,
    last_seen_at: u64,
    stationary: bool,
    zones: Vec<&'a str>,
    visited_zones: Vec<&'a str>,
    dwell_ms: BTreeMap<&'a str, u64>,
    velocity: Velocity,
}

/// Pixels of the frame in a second.
#[derive(Debug, Serialize)]
struct Velocity {
    x: f64,
    y: f64,
}

impl TrackEvent {
    /// The event's type.
    pub fn event_type(&self) -> TrackEventType {
        match self.news.what {
            Happening::Crossed(_) => TrackEventType::LineCrossed,
            Happening::Start | Happening::Update(_) | Happening::End(_) => TrackEventType::Track,
        }
    }

    /// True if newer events of its track say the same and more.
    pub fn is_update(&self) -> bool {
        matches!(self.news.what, Happening::Update(_))
    }

    /// The event's JSON, if it is written at the moment that `clock` was read.
    pub fn json<'a>(
        &'a self,
        run_id: &'a str,
        sequence: u64,
        clock: &WallClock,
    ) -> TrackEventJson<'a> {
        TrackEventJson {
            schema_version: SCHEMA_VERSION,
            run_id,
            sequence,
            timestamp: clock.unix_ms(clock.instant()),
            camera: CameraRef::new(&self.id, &self.name),
            what: HappeningJson::new(&self.news.what),
            track: TrackJson::new(&self.news.track, |at| clock.unix_ms(at)),
        }
    }
}

impl<'a> HappeningJson<'a> {
    /// The JSON of what happened to a track.
    pub(crate) fn new(what: &'a Happening) -> Self {
        let phase = |phase, reason| Self::Track { phase, reason };
        match what {
            Happening::Start => phase("start", "confirmed"),
            Happening::Update(reason) => phase("update", reason.as_str()),
            Happening::End(reason) => phase("end", reason.as_str()),
            Happening::Crossed(crossing) => Self::LineCrossed {
                line: &crossing.counts.line,
                direction: crossing.direction.as_str(),
                counts: Counts {
                    r#in: crossing.counts.r#in,
                    out: crossing.counts.out,
                },
            },
        }
    }
}

impl<'a> TrackJson<'a> {
    /// The JSON of a track; `unix_ms` turns its times into milliseconds.
    pub(crate) fn new(track: &'a TrackFacts, unix_ms: impl Fn(Instant) -> u64) -> Self {
        let visited = track.visited.iter();
        let dwell = |(zone, time): &'a (Arc<str>, Duration)| {
            let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            (zone.as_ref(), ms)
        };
        let [width, height] = px(track.frame);
        Self {
            id: track.id.to_string(),
            label: &track.label,
            class_id: track.class_id,
            score: score(track.score),
            top_score: score(track.top_score),
            bbox: box_px(&track.bbox, track.frame),
            first_seen_at: unix_ms(track.first_seen_at),
            confirmed_at: unix_ms(track.confirmed_at),
            last_seen_at: unix_ms(track.last_seen_at),
            stationary: track.stationary,
            zones: track.zones.iter().map(AsRef::as_ref).collect(),
            visited_zones: visited.clone().map(|(zone, _)| zone.as_ref()).collect(),
            dwell_ms: visited.map(dwell).collect(),
            velocity: Velocity {
                x: rounded(track.velocity[0] * width, 10.0),
                y: rounded(track.velocity[1] * height, 10.0),
            },
        }
    }
}

/// A box in pixels of the frame.
pub(crate) fn box_px(bbox: &RelativeBox, frame: PictureSize) -> BoxJson {
    let [width, height] = px(frame);
    BoxJson {
        x: tenth_px(bbox.x1 * width),
        y: tenth_px(bbox.y1 * height),
        width: tenth_px(bbox.width() * width),
        height: tenth_px(bbox.height() * height),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "pictures have far fewer than 2^24 pixels in a row"
)]
fn px(frame: PictureSize) -> [f32; 2] {
    [frame.width_px as f32, frame.height_px as f32]
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::track::news::{TrackEnd, UpdateReason};
    use crate::track::scene::{Crossing, Direction, LineCounts};

    /// An event of track 7 of this camera.
    pub(crate) fn track_event(twin_id: &str, what: Happening) -> TrackEvent {
        let now = Instant::now();
        let before = |ms| now.checked_sub(Duration::from_millis(ms)).unwrap();
        TrackEvent {
            id: StreamId::new(twin_id, "default"),
            name: "Front door".into(),
            at: now,
            news: TrackNews {
                what,
                track: TrackFacts {
                    id: 7,
                    label: "person".into(),
                    class_id: 0,
                    score: 0.81,
                    top_score: 0.93,
                    bbox: RelativeBox::new(0.1, 0.2, 0.3, 0.6).unwrap(),
                    velocity: [0.05, -0.01],
                    frame: PictureSize {
                        width_px: 1000,
                        height_px: 500,
                    },
                    first_seen_at: before(630),
                    confirmed_at: before(50),
                    last_seen_at: before(50),
                    is_lost: false,
                    stationary: false,
                    zones: Arc::from(["driveway".into()]),
                    visited: vec![
                        ("street".into(), Duration::from_millis(400)),
                        ("driveway".into(), Duration::from_millis(1200)),
                    ],
                },
            },
        }
    }

    /// The 15th crossing of a line.
    pub(crate) fn crossed() -> Happening {
        Happening::Crossed(Crossing {
            direction: Direction::In,
            counts: LineCounts {
                line: "gate".into(),
                r#in: 12,
                out: 3,
            },
        })
    }

    #[test]
    fn a_start_is_the_documented_json() {
        let clock = WallClock::read();
        let event = track_event("camera-front-door", Happening::Start);
        let at = |instant| clock.unix_ms(instant);
        let track = &event.news.track;
        let json = serde_json::to_value(event.json("8f1c", 1835, &clock)).unwrap();
        assert_eq!(
            json,
            json!({"schemaVersion": 1, "runId": "8f1c", "sequence": 1835, "timestamp": at(clock.instant()),
                   "camera": {"twinId": "camera-front-door", "name": "Front door", "stream": "default"},
                   "type": "track", "phase": "start", "reason": "confirmed",
                   "track": {"id": "7", "label": "person", "classId": 0, "score": 0.81, "topScore": 0.93,
                             "box": {"x": 100.0, "y": 100.0, "width": 200.0, "height": 200.0},
                             "firstSeenAt": at(track.first_seen_at), "confirmedAt": at(track.confirmed_at),
                             "lastSeenAt": at(track.last_seen_at), "stationary": false,
                             "zones": ["driveway"], "visitedZones": ["street", "driveway"],
                             "dwellMs": {"street": 400, "driveway": 1200},
                             "velocity": {"x": 50.0, "y": -5.0}}})
        );
    }

    #[test]
    fn each_phase_says_why() {
        let clock = WallClock::read();
        for (what, phase, reason) in [
            (Happening::Update(UpdateReason::Zones), "update", "zones"),
            (
                Happening::Update(UpdateReason::Interval),
                "update",
                "interval",
            ),
            (Happening::End(TrackEnd::Left), "end", "left"),
            (
                Happening::End(TrackEnd::CameraRemoved),
                "end",
                "cameraRemoved",
            ),
        ] {
            let event = track_event("a", what);
            let json = serde_json::to_value(event.json("r", 1, &clock)).unwrap();
            assert_eq!(
                (&json["phase"], &json["reason"]),
                (&phase.into(), &reason.into())
            );
        }
    }

    #[test]
    fn a_crossing_tells_line_direction_and_counts() {
        let clock = WallClock::read();
        let event = track_event("a", crossed());
        assert_eq!(event.event_type(), TrackEventType::LineCrossed);
        let json = serde_json::to_value(event.json("r", 9, &clock)).unwrap();
        assert_eq!(json["type"], "lineCrossed");
        assert_eq!(json["line"], "gate");
        assert_eq!(json["direction"], "in");
        assert_eq!(json["counts"], json!({"in": 12, "out": 3}));
        assert_eq!(json["track"]["id"], "7");
    }
}
