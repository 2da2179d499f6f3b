//! The JSON of `/api/cameras`: what the node knows of each camera stream, read at one moment.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::publish::event::CameraStatus;
use crate::telemetry::ledger::{EventDrop, FrameDrop};
use crate::telemetry::metrics::StreamMetrics;
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
    /// How long ago its last event was written; `null` before the first.
    last_event_seconds: Option<f64>,
    /// The step of the overload ladder that it is at, 0 when nothing is shed.
    shed_level: u8,
    counters: CameraCounters,
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
type Drops = std::collections::BTreeMap<&'static str, u64>;

/// What the node knows of a camera stream beside its metrics.
#[derive(Debug, Clone)]
pub struct CameraFacts {
    /// What the event `cameraStatus` tells, too.
    pub status: CameraStatus,
    /// Name of its model in the models folder.
    pub model: String,
    /// When its last event was written.
    pub last_event_at: Option<Instant>,
}

impl CameraView {
    /// What is told of the camera at `now`.
    pub fn new(facts: CameraFacts, metrics: &StreamMetrics, now: Instant) -> Self {
        let CameraFacts {
            status,
            model,
            last_event_at,
        } = facts;
        Self {
            twin_id: status.id.twin_id.to_string(),
            stream: status.id.stream.to_string(),
            name: status.name.to_string(),
            model,
            state: status.state.as_str(),
            state_seconds: seconds(now.saturating_duration_since(status.since)),
            reason: status.reason,
            attempt: status.attempt,
            last_event_seconds: last_event_at.map(|at| seconds(now.saturating_duration_since(at))),
            shed_level: metrics.shed_level() as u8,
            counters: CameraCounters::read(metrics),
        }
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
            events_dropped: EventDrop::ALL
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

/// Rounds to whole milliseconds.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::telemetry::metrics::Metrics;
    use twinsight_client::stream_id::StreamId;
    use twinsight_client::telemetry::CameraState;

    #[test]
    fn a_camera_is_told_with_its_state_and_its_ledger() {
        let now = Instant::now();
        let id = StreamId::new("cam", "default");
        let metrics = Metrics::new().stream(&id);
        metrics.frames_decoded.inc_by(7);
        metrics.frames_inferred.inc_by(4);
        metrics.frame_dropped(FrameDrop::RateLimited);
        let facts = CameraFacts {
            status: CameraStatus {
                id,
                name: "Yard".into(),
                state: CameraState::Receiving,
                since: now - Duration::from_millis(2500),
                reason: None,
                attempt: 0,
            },
            model: "nanodet_g_coco".to_owned(),
            last_event_at: Some(now - Duration::from_millis(40)),
        };
        assert_eq!(
            serde_json::to_value(CameraView::new(facts, &metrics, now)).unwrap(),
            json!({
                "twinId": "cam", "stream": "default", "name": "Yard", "model": "nanodet_g_coco",
                "state": "receiving", "stateSeconds": 2.5, "reason": null, "attempt": 0,
                "lastEventSeconds": 0.04, "shedLevel": 0,
                "counters": {
                    "accessUnitsReceived": 0, "accessUnitsDropped": {}, "framesDecoded": 7,
                    "framesDropped": {"rate_limited": 1}, "framesInferred": 4,
                    "eventsPublished": 0, "eventsDropped": {}, "rtpPacketsReceived": 0,
                    "rtpPacketsLost": 0, "keyframeRequests": 0, "reconnects": 0
                }
            })
        );
    }
}
