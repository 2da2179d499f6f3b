//! What `/api/cameras` says of a camera stream, read at one moment: its state in words, how it does, and its ledger.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::problem::{CameraHub, problem};
use super::tracks::SceneView;
use crate::clock::WallClock;
use crate::config::CameraConfig;
use crate::publish::event::CameraStatus;
use crate::publish::publisher::LastSeen;
use crate::telemetry::history::STEP;
use crate::telemetry::ledger::{EventDrop, FrameDrop};
use crate::telemetry::metrics::StreamMetrics;
use twinsight_client::hub::text::one_line;
use twinsight_media::codec::Codec;
use twinsight_media::ledger::UnitDrop;

/// The JSON of one camera stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CameraView {
    twin_id: String,
    stream: String,
    name: String,
    model: String,
    state: &'static str,
    state_seconds: f64,
    reason: Option<String>,
    attempt: u32,
    /// Whether nothing of it is looked at now, for whatever reason.
    blind: bool,
    /// What is wrong and what to do about it, as whole sentences.
    problem: Option<String>,
    /// How long ago its last event was written; `null` before the first.
    last_event_seconds: Option<f64>,
    /// The step of the overload ladder that it is at, 0 when nothing is shed.
    shed_level: u8,
    /// The size of the frame of the last event.
    frame: Option<FrameView>,
    /// How many objects of each label the last event had.
    objects: Option<BTreeMap<String, usize>>,
    rates: RatesView,
    age_ms: Option<AgeView>,
    settings: SettingsView,
    counters: CameraCounters,
    in_flight: InFlightView,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<HistoryView>,
    #[serde(flatten)]
    scene: Option<SceneView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct FrameView {
    width: usize,
    height: usize,
}

/// A second, over the last ten seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct RatesView {
    received: f64,
    decoded: f64,
    inferred: f64,
    published: f64,
}

/// Of the events of the last minute.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct AgeView {
    p50: f64,
    p99: f64,
}

/// The settings that are in force.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct SettingsView {
    connect: &'static str,
    dialect: &'static str,
    codecs: Vec<&'static str>,
    model: String,
    max_fps: f64,
    max_age_ms: u64,
    min_score: f64,
    classes: Vec<String>,
    emit_empty: bool,
    allow_unsigned: bool,
    detections: &'static str,
    motion: &'static str,
    motion_max_skip_ms: u64,
    track: TrackSettingsView,
}

/// How what is seen is followed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct TrackSettingsView {
    enabled: bool,
    confirm_ms: u64,
    lost_ms: u64,
    stationary_ms: u64,
    update_ms: u64,
}

/// What came and was neither passed on nor dropped yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct InFlightView {
    units: i64,
    frames: i64,
    events: i64,
}

/// The counts of the last minutes by steps, the oldest first.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct HistoryView {
    step_seconds: f64,
    until: u64,
    received: Vec<u32>,
    inferred: Vec<u32>,
    published: Vec<u32>,
    dropped: DroppedView,
    reasons: BTreeMap<String, Vec<u32>>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct DroppedView {
    units: Vec<u32>,
    frames: Vec<u32>,
    events: Vec<u32>,
}

/// What its metrics have counted since the node began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct CameraCounters {
    access_units_received: u64,
    access_units_dropped: Drops,
    frames_decoded: u64,
    frames_dropped: Drops,
    frames_inferred: u64,
    events_published: u64,
    events_dropped: Drops,
    rtp_packets_received: u64,
    rtp_packets_lost: u64,
    keyframe_requests: u64,
    reconnects: u64,
}

/// Counts by reason, without those that are 0.
type Drops = BTreeMap<&'static str, u64>;

/// What the node knows of a camera stream beside its metrics.
#[derive(Debug, Clone)]
pub struct CameraFacts {
    /// Its state, as the event `cameraStatus` tells it.
    pub status: CameraStatus,
    /// Its settings in force.
    pub settings: Arc<CameraConfig>,
    /// When its last event was written.
    pub last_event_at: Option<Instant>,
    /// What its last event told.
    pub last_seen: Option<LastSeen>,
}

/// How much is told of a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// All but its history.
    Now,
    /// Its history too.
    History,
}

impl CameraView {
    /// What is told of the camera at the moment of `clock`.
    pub(crate) fn new(
        facts: CameraFacts,
        metrics: &StreamMetrics,
        detail: Detail,
        hub: CameraHub,
        clock: &WallClock,
    ) -> Self {
        let now = clock.instant();
        let problem = problem(&facts.status, &facts.settings, hub);
        let CameraFacts {
            status,
            settings,
            last_event_at,
            last_seen,
        } = facts;
        let (rates, [units, frames, events]) = (metrics.rates(), metrics.ledger().in_flight());
        let last_seen = last_seen.map(|LastSeen { size, objects }| {
            let (width, height) = (size.width_px, size.height_px);
            let objects = objects
                .into_iter()
                .map(|(label, count)| (label.to_string(), count));
            (FrameView { width, height }, objects.collect())
        });
        let (frame, objects) = last_seen.unzip();
        Self {
            twin_id: status.id.twin_id.to_string(),
            stream: status.id.stream.to_string(),
            name: status.name.to_string(),
            model: settings.model.clone(),
            state: status.state.as_str(),
            state_seconds: seconds(now.saturating_duration_since(status.since)),
            reason: status.reason,
            attempt: status.attempt,
            blind: problem.is_some(),
            problem,
            last_event_seconds: last_event_at.map(|at| seconds(now.saturating_duration_since(at))),
            shed_level: metrics.shed_level() as u8,
            frame,
            objects,
            rates: RatesView {
                received: tenths(rates.received),
                decoded: tenths(rates.decoded),
                inferred: tenths(rates.inferred),
                published: tenths(rates.published),
            },
            age_ms: metrics.age_percentiles(now).map(|(p50, p99)| AgeView {
                p50: tenths(p50.as_secs_f64() * 1000.0),
                p99: tenths(p99.as_secs_f64() * 1000.0),
            }),
            settings: SettingsView::new(&settings),
            counters: CameraCounters::read(metrics),
            in_flight: InFlightView {
                units,
                frames,
                events,
            },
            history: match detail {
                Detail::Now => None,
                Detail::History => HistoryView::read(metrics, clock),
            },
            scene: None,
        }
    }

    /// Tells of its tracks, zones, lines and masks too.
    #[must_use]
    pub(crate) fn with_scene(self, scene: SceneView) -> Self {
        Self {
            scene: Some(scene),
            ..self
        }
    }

    /// The line of a probe for a camera that is not looked at now.
    pub(crate) fn blind_line(&self) -> Option<String> {
        let problem = self.problem.as_deref()?;
        // A reason may repeat what a library said in several lines, of which the probe would take each for one of its own.
        Some(one_line(&format!(
            "camera {}/{} is {} for {:.0} s: {problem}",
            self.twin_id, self.stream, self.state, self.state_seconds
        )))
    }
}

impl SettingsView {
    fn new(settings: &CameraConfig) -> Self {
        Self {
            connect: settings.connect.as_str(),
            dialect: settings.dialect.as_str(),
            codecs: settings.codecs.iter().copied().map(Codec::as_str).collect(),
            model: settings.model.clone(),
            max_fps: settings.max_fps,
            max_age_ms: millis(settings.max_age),
            min_score: (f64::from(settings.min_score) * 1000.0).round() / 1000.0,
            classes: settings.classes.clone(),
            emit_empty: settings.emit_empty,
            allow_unsigned: settings.allow_unsigned,
            detections: settings.detections.as_str(),
            motion: settings.motion.mode.as_str(),
            motion_max_skip_ms: millis(settings.motion.max_skip),
            track: TrackSettingsView {
                enabled: settings.track.enabled,
                confirm_ms: millis(settings.track.confirm),
                lost_ms: millis(settings.track.lost),
                stationary_ms: millis(settings.track.stationary),
                update_ms: millis(settings.track.update),
            },
        }
    }
}

impl HistoryView {
    fn read(metrics: &StreamMetrics, clock: &WallClock) -> Option<Self> {
        let history = metrics.history()?;
        let [units, frames, events] = history.dropped;
        Some(Self {
            step_seconds: STEP.as_secs_f64(),
            until: clock.unix_ms(history.until),
            received: history.received,
            inferred: history.inferred,
            published: history.published,
            dropped: DroppedView {
                units,
                frames,
                events,
            },
            reasons: history.reasons,
        })
    }
}

impl CameraCounters {
    fn read(metrics: &StreamMetrics) -> Self {
        Self {
            access_units_received: metrics.access_units_received.get(),
            access_units_dropped: UnitDrop::ALL
                .iter()
                .map(|reason| (reason.as_str(), metrics.units_dropped(*reason)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            frames_decoded: metrics.frames_decoded.get(),
            frames_dropped: FrameDrop::ALL
                .iter()
                .map(|reason| (reason.as_str(), metrics.frames_dropped(*reason)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            frames_inferred: metrics.frames_inferred.get(),
            events_published: metrics.events_published.get(),
            events_dropped: EventDrop::OF_HUB
                .iter()
                .map(|reason| (reason.as_str(), metrics.events_dropped(*reason)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            rtp_packets_received: metrics.rtp_packets_received.get(),
            rtp_packets_lost: metrics.rtp_packets_lost.get(),
            keyframe_requests: metrics.keyframe_requests.get(),
            reconnects: metrics.camera_reconnects.get(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Rounds to whole milliseconds.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Config;
    use crate::telemetry::metrics::Metrics;
    use twinsight_client::stream_id::StreamId;
    use twinsight_client::telemetry::CameraState;
    use twinsight_media::picture::PictureSize;

    #[test]
    fn a_camera_is_told_with_its_state_its_rates_and_its_ledger() {
        let clock = WallClock::read();
        let now = clock.instant();
        let id = StreamId::new("cam", "default");
        let metrics = Metrics::new().stream(&id);
        metrics.sample(now - STEP);
        metrics.frames_decoded.inc_by(7);
        metrics.frames_inferred.inc_by(4);
        metrics.frame_dropped(FrameDrop::RateLimited);
        metrics.sample(now);
        metrics.published_at_age(Duration::from_micros(46_120), now);
        let env = [
            ("TWINSIGHT_CAMERAS", "cam"),
            ("TWINSIGHT_DEFAULTS__CODECS", "h264"),
            ("TWINSIGHT_DEFAULTS__DETECTIONS", "none"),
            ("TWIN_ID", "node"),
            ("PHYSTACK_SIMULATOR_URL", "http://127.0.0.1:1"),
        ]
        .into_iter()
        .collect();
        let config = Config::load(None, &env).unwrap();
        let facts = CameraFacts {
            status: CameraStatus {
                id,
                name: "Yard".into(),
                state: CameraState::Receiving,
                since: now - Duration::from_millis(2500),
                reason: None,
                attempt: 0,
            },
            settings: Arc::new(config.cameras[0].clone()),
            last_event_at: Some(now - Duration::from_millis(40)),
            last_seen: Some(LastSeen {
                size: PictureSize {
                    width_px: 1280,
                    height_px: 720,
                },
                objects: [("person".into(), 2)].into(),
            }),
        };
        assert_eq!(
            serde_json::to_value(CameraView::new(
                facts,
                &metrics,
                Detail::History,
                CameraHub::Joined,
                &clock
            ))
            .unwrap(),
            json!({
                "twinId": "cam", "stream": "default", "name": "Yard", "model": "nanodet_g_coco_int8",
                "state": "receiving", "stateSeconds": 2.5, "reason": null, "attempt": 0,
                "blind": false, "problem": null,
                "lastEventSeconds": 0.04, "shedLevel": 0,
                "frame": {"width": 1280, "height": 720}, "objects": {"person": 2},
                "rates": {"received": 0.0, "decoded": 1.4, "inferred": 0.8, "published": 0.0},
                "ageMs": {"p50": 46.1, "p99": 46.1},
                "settings": {
                    "connect": "dial", "dialect": "current", "codecs": ["h264"],
                    "model": "nanodet_g_coco_int8", "maxFps": 10.0, "maxAgeMs": 500,
                    "minScore": 0.4, "classes": [], "emitEmpty": true, "allowUnsigned": false,
                    "detections": "none", "motion": "off", "motionMaxSkipMs": 5000,
                    "track": {
                        "enabled": true, "confirmMs": 300, "lostMs": 2000,
                        "stationaryMs": 10_000, "updateMs": 1000
                    }
                },
                "counters": {
                    "accessUnitsReceived": 0, "accessUnitsDropped": {}, "framesDecoded": 7,
                    "framesDropped": {"rate_limited": 1}, "framesInferred": 4,
                    "eventsPublished": 0, "eventsDropped": {}, "rtpPacketsReceived": 0,
                    "rtpPacketsLost": 0, "keyframeRequests": 0, "reconnects": 0
                },
                "inFlight": {"units": -7, "frames": 2, "events": 4},
                "history": {
                    "stepSeconds": 5.0, "until": clock.unix_ms(now), "received": [0],
                    "inferred": [4], "published": [0],
                    "dropped": {"units": [0], "frames": [1], "events": [0]},
                    "reasons": {"frames.rate_limited": [1]}
                }
            })
        );
    }
}
