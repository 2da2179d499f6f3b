//! The JSON of the events `detections` and `cameraStatus`. What the stages hand over comes in with a reading of the clocks,
//! and what serde can write goes out. The publisher calls it when an event is written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::object::ObjectJson;
pub use super::object::{Following, SeenObject};
use crate::clock::WallClock;
use crate::telemetry::traces::TraceContext;
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::CameraState;
use twinsight_media::picture::{FrameTiming, PictureSize};

/// Type of the event for each inferred frame.
pub const DETECTIONS: &str = "detections";
/// Type of the event for each change of a camera stream's state.
pub const CAMERA_STATUS: &str = "cameraStatus";
/// `schemaVersion` of all events that have one.
pub(super) const SCHEMA_VERSION: u32 = 1;

/// A frame that went through the model, as the stages hand it over.
#[derive(Debug, Clone)]
pub struct Inferred {
    /// The camera stream.
    pub id: StreamId,
    /// The camera's name for people.
    pub name: Arc<str>,
    /// Size of the decoded frame; boxes are in its pixels.
    pub size: PictureSize,
    /// When it came and was decoded, and the times that its sender gave it.
    pub timing: FrameTiming,
    /// When preprocessing began.
    pub started_at: Instant,
    /// How long the picture took to become a tensor.
    pub preprocess: Duration,
    /// How long the model ran.
    pub inference: Duration,
    /// How long the model's outputs took to become objects.
    pub postprocess: Duration,
    /// When the objects were there.
    pub finished_at: Instant,
    /// What was seen, the highest score first.
    pub objects: Vec<SeenObject>,
    /// The model that saw it.
    pub model: Arc<ModelRef>,
    /// Frames that were decoded since the previous inferred one, and were neither inferred nor dropped as `rate_limited`.
    pub skipped_frames: u64,
    /// Under the motion gate, so much time may pass until the next frame is inferred although the camera is seen.
    pub max_skip: Option<Duration>,
    /// The trace that it belongs to, if it is sampled. The publisher decides that.
    pub trace: Option<TraceContext>,
}

/// A model as events name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelRef {
    /// Its name in the models folder.
    pub name: String,
    /// Hash of its file, in lower-case hex; of a model on a server it is not known.
    pub sha256: Option<String>,
    /// The names of its keypoints, which each object repeats; empty if it gives none or they have no names.
    #[serde(skip)]
    pub keypoint_names: Arc<[String]>,
}

/// What the node says of a camera stream, in events, in the API and in the twin's properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraStatus {
    /// The camera stream.
    pub id: StreamId,
    /// The camera's name for people.
    pub name: Arc<str>,
    /// The state that it is in.
    pub state: CameraState,
    /// When it came into this state.
    pub since: Instant,
    /// Why it is in this state, as a clause. `None` where the state alone says enough.
    pub reason: Option<String>,
    /// The attempt to connect that was under way, from 1.
    pub attempt: u32,
}

/// The event `detections`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DetectionsEvent<'a> {
    schema_version: u32,
    run_id: &'a str,
    sequence: u64,
    timestamp: u64,
    camera: CameraRef<'a>,
    frame: FrameRef,
    objects: Vec<ObjectJson<'a>>,
    model: &'a ModelRef,
    latency_ms: Latency,
    skipped_frames: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
}

/// The event `cameraStatus`.
#[derive(Debug, Serialize)]
pub(super) struct CameraStatusEvent<'a> {
    camera: CameraRef<'a>,
    state: &'static str,
    since: u64,
    reason: Option<&'a str>,
    attempt: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CameraRef<'a> {
    twin_id: &'a str,
    name: &'a str,
    stream: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FrameRef {
    width: usize,
    height: usize,
    rtp_timestamp: u32,
    received_at: u64,
    captured_at: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Latency {
    receive: f64,
    decode: f64,
    wait: f64,
    preprocess: f64,
    inference: f64,
    postprocess: f64,
    publish: f64,
    total: f64,
}

impl Inferred {
    /// The event's JSON, if it is written at the moment that `clock` was read.
    pub fn event<'a>(
        &'a self,
        run_id: &'a str,
        sequence: u64,
        clock: &WallClock,
    ) -> DetectionsEvent<'a> {
        let timestamp = clock.unix_ms(clock.instant());
        let latency = self.latency(clock.instant());
        let object = |object| ObjectJson::new(object, &self.model.keypoint_names);
        DetectionsEvent {
            schema_version: SCHEMA_VERSION,
            run_id,
            sequence,
            timestamp,
            camera: CameraRef::new(&self.id, &self.name),
            frame: FrameRef {
                width: self.size.width_px,
                height: self.size.height_px,
                rtp_timestamp: self.timing.rtp_timestamp.0,
                received_at: timestamp.saturating_sub((latency.total_tenths + 5) / 10),
                captured_at: self.timing.captured_at_unix_ms,
            },
            objects: self.objects.iter().map(object).collect(),
            model: &self.model,
            latency_ms: latency.in_ms(),
            skipped_frames: self.skipped_frames,
            traceparent: self.trace.as_ref().map(TraceContext::traceparent),
        }
    }

    /// Latencies are whole tenths of milliseconds, so that the parts add up to the total. The time between the stages and what
    /// rounding takes away count as `publish`.
    fn latency(&self, emitted_at: Instant) -> Tenths {
        let timing = &self.timing;
        let between = |from: Instant, to: Instant| tenths(to.saturating_duration_since(from));
        let parts = [
            between(timing.received_at, timing.completed_at),
            between(timing.completed_at, timing.decoded_at),
            between(timing.decoded_at, self.started_at),
            tenths(self.preprocess),
            tenths(self.inference),
            tenths(self.postprocess),
        ];
        let before: u64 = parts.iter().sum();
        let publish = between(timing.received_at, emitted_at).saturating_sub(before);
        Tenths {
            parts,
            publish,
            total_tenths: before + publish,
        }
    }
}

impl CameraStatus {
    /// The event's JSON; `clock` turns its times into those of the wall clock.
    pub(super) fn event(&self, clock: &WallClock) -> CameraStatusEvent<'_> {
        CameraStatusEvent {
            camera: CameraRef::new(&self.id, &self.name),
            state: self.state.as_str(),
            since: clock.unix_ms(self.since),
            reason: self.reason.as_deref(),
            attempt: self.attempt,
        }
    }
}

impl<'a> CameraRef<'a> {
    pub(crate) fn new(id: &'a StreamId, name: &'a str) -> Self {
        Self {
            twin_id: &id.twin_id,
            name,
            stream: &id.stream,
        }
    }
}

/// Latencies in tenths of milliseconds.
struct Tenths {
    /// The stages in the order of the path, without the last one.
    parts: [u64; 6],
    publish: u64,
    total_tenths: u64,
}

impl Tenths {
    fn in_ms(&self) -> Latency {
        let [receive, decode, wait, preprocess, inference, postprocess] =
            self.parts.map(tenths_in_ms);
        Latency {
            receive,
            decode,
            wait,
            preprocess,
            inference,
            postprocess,
            publish: tenths_in_ms(self.publish),
            total: tenths_in_ms(self.total_tenths),
        }
    }
}

fn tenths(duration: Duration) -> u64 {
    u64::try_from((duration.as_micros() + 50) / 100).unwrap_or(u64::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "latencies are far below 2^53 tenths"
)]
fn tenths_in_ms(tenths: u64) -> f64 {
    tenths as f64 / 10.0
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A frame that came at `received_at` and took the times of the example in the guide.
    pub(crate) fn inferred(twin_id: &str, received_at: Instant) -> Inferred {
        let completed_at = received_at + ms(12);
        let decoded_at = completed_at + Duration::from_micros(1600);
        let started_at = decoded_at + Duration::from_micros(3100);
        Inferred {
            id: StreamId::new(twin_id, "default"),
            name: "Front door".into(),
            size: PictureSize {
                width_px: 1280,
                height_px: 720,
            },
            timing: FrameTiming {
                received_at,
                completed_at,
                decoded_at,
                rtp_timestamp: 123_456.into(),
                captured_at_unix_ms: None,
            },
            started_at,
            preprocess: Duration::from_micros(400),
            inference: Duration::from_micros(28_600),
            postprocess: Duration::from_micros(300),
            finished_at: started_at + Duration::from_micros(29_400),
            objects: vec![SeenObject {
                label: "person".into(),
                class_id: 0,
                score: 0.93,
                x: 44.12,
                y: 398.0,
                width: 189.16,
                height: 505.34,
                keypoints: Vec::new(),
                outline: Vec::new(),
                following: None,
            }],
            model: Arc::new(ModelRef {
                name: "nanodet_g_coco".to_owned(),
                sha256: Some("5738".to_owned()),
                keypoint_names: Arc::new([]),
            }),
            skipped_frames: 2,
            max_skip: None,
            trace: None,
        }
    }

    #[test]
    fn the_event_is_the_documented_json() {
        let clock = WallClock::read();
        let frame = inferred("camera-front-door", clock.instant() - ms(47));
        let timestamp = clock.unix_ms(clock.instant());
        let event = serde_json::to_value(frame.event("8f1c", 1834, &clock)).unwrap();
        assert_eq!(
            event,
            json!({
                "schemaVersion": 1, "runId": "8f1c", "sequence": 1834, "timestamp": timestamp,
                "camera": {"twinId": "camera-front-door", "name": "Front door", "stream": "default"},
                "frame": {"width": 1280, "height": 720, "rtpTimestamp": 123_456,
                          "receivedAt": timestamp - 47, "capturedAt": null},
                "objects": [{"label": "person", "classId": 0, "score": 0.93,
                             "box": {"x": 44.1, "y": 398.0, "width": 189.2, "height": 505.3}}],
                "model": {"name": "nanodet_g_coco", "sha256": "5738"},
                "latencyMs": {"receive": 12.0, "decode": 1.6, "wait": 3.1, "preprocess": 0.4,
                              "inference": 28.6, "postprocess": 0.3, "publish": 1.0, "total": 47.0},
                "skippedFrames": 2
            })
        );
    }

    #[test]
    #[cfg(feature = "otlp")]
    fn the_event_of_a_sampled_frame_names_its_trace() {
        let clock = WallClock::read();
        let mut frame = inferred("cam", clock.instant() - ms(47));
        frame.trace = Some(TraceContext::for_tests());
        let event = serde_json::to_value(frame.event("8f1c", 1, &clock)).unwrap();
        assert_eq!(
            event["traceparent"],
            "00-0000000000000000000000000000abcd-0000000000001234-01"
        );
    }

    #[test]
    fn parts_add_up_to_the_total_whatever_the_rounding() {
        let clock = WallClock::read();
        for micros in 0..2000 {
            let age = ms(60) + Duration::from_micros(micros * 37);
            let mut frame = inferred("a", clock.instant() - age);
            frame.timing.completed_at += Duration::from_micros(micros * 7 % 977);
            frame.timing.decoded_at += Duration::from_micros(micros * 13 % 1009 + 977);
            frame.started_at += Duration::from_micros(micros * 3 % 991 + 1986);
            frame.inference += Duration::from_micros(micros);
            let event = serde_json::to_value(frame.event("r", 1, &clock)).unwrap();
            let latency = event["latencyMs"].as_object().unwrap();
            let tenths = |value: &Value| (value.as_f64().unwrap() * 10.0).round();
            let parts: f64 = latency
                .iter()
                .filter(|(name, _)| *name != "total")
                .map(|(_, value)| tenths(value))
                .sum();
            assert_eq!(parts, tenths(&latency["total"]));
            let age = event["timestamp"].as_u64().unwrap()
                - event["frame"]["receivedAt"].as_u64().unwrap();
            assert!((age as f64 - latency["total"].as_f64().unwrap()).abs() <= 0.5);
        }
    }

    #[test]
    fn times_out_of_order_give_zeros_and_no_panic() {
        let clock = WallClock::read();
        let mut frame = inferred("a", clock.instant() + ms(500));
        frame.timing.completed_at = clock.instant();
        let event = serde_json::to_value(frame.event("r", 1, &clock)).unwrap();
        assert_eq!(event["latencyMs"]["receive"], 0.0);
        assert_eq!(event["latencyMs"]["publish"], 0.0);
    }

    #[test]
    fn a_status_tells_camera_state_since_reason_and_attempt() {
        let clock = WallClock::read();
        let status = CameraStatus {
            id: StreamId::new("cam", "yard"),
            name: "Yard".into(),
            state: CameraState::Unreachable,
            since: clock.instant() - ms(1500),
            reason: Some("no answer within 4 s".to_owned()),
            attempt: 7,
        };
        assert_eq!(
            serde_json::to_value(status.event(&clock)).unwrap(),
            json!({
                "camera": {"twinId": "cam", "name": "Yard", "stream": "yard"},
                "state": "unreachable", "since": clock.unix_ms(clock.instant() - ms(1500)),
                "reason": "no answer within 4 s", "attempt": 7
            })
        );
    }
}
