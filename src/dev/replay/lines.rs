//! The JSON line of a frame. Its objects and events are those that a node publishes, with the times of the clip in place of those of
//! the wall clock.

use std::time::Instant;

use serde::Serialize;

use super::report::{Fate, FollowedTrack, FrameReport, Outcome};
use crate::detect::{ExplainedCandidate, ModelInfo};
use crate::publish::object::{BoxJson, ObjectJson, score};
use crate::publish::track_event::{HappeningJson, TrackJson, box_px};
use crate::track::news::TrackNews;

/// The JSON line of a frame.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line<'a> {
    file: &'a str,
    frame: usize,
    time_ms: u64,
    width: usize,
    height: usize,
    looked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    candidates: Vec<CandidateJson<'a>>,
    objects: Vec<ObjectJson<'a>>,
    tracks: Vec<FollowedJson<'a>>,
    events: Vec<EventJson<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CandidateJson<'a> {
    label: &'a str,
    class_id: usize,
    score: f64,
    #[serde(rename = "box")]
    bbox: BoxJson,
    fate: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    track_id: Option<String>,
}

#[derive(Debug, Serialize)]
struct FollowedJson<'a> {
    id: String,
    label: &'a str,
    state: &'static str,
    seen: bool,
    coasting: bool,
    #[serde(rename = "box")]
    bbox: BoxJson,
}

#[derive(Debug, Serialize)]
struct EventJson<'a> {
    #[serde(flatten)]
    what: HappeningJson<'a>,
    track: TrackJson<'a>,
}

impl<'a> Line<'a> {
    /// The line of a frame of this file, whose first frame came at `began_at`.
    pub(super) fn new(
        file: &'a str,
        report: &'a FrameReport,
        model: &'a ModelInfo,
        began_at: Instant,
    ) -> Self {
        let (reason, looked) = match &report.outcome {
            Outcome::Skipped(reason) => (Some(reason.as_str()), None),
            Outcome::Looked(looked) => (None, Some(looked)),
        };
        let candidates = looked.iter().flat_map(|looked| &looked.candidates);
        let objects = looked.iter().flat_map(|looked| &looked.objects);
        let news = report.news.iter();
        Self {
            file,
            frame: report.number,
            time_ms: ms(report.time),
            width: report.size.width_px,
            height: report.size.height_px,
            looked: looked.is_some(),
            reason,
            candidates: candidates
                .map(|(candidate, fate)| CandidateJson::new(candidate, *fate, model))
                .collect(),
            objects: objects
                .map(|object| ObjectJson::new(object, &model.keypoints))
                .collect(),
            tracks: report.tracks.iter().map(FollowedJson::new).collect(),
            events: news.map(|news| EventJson::new(news, began_at)).collect(),
        }
    }
}

impl<'a> CandidateJson<'a> {
    fn new(candidate: &ExplainedCandidate, fate: Fate, model: &'a ModelInfo) -> Self {
        Self {
            label: model.label(candidate.class_id),
            class_id: candidate.class_id,
            score: score(candidate.score),
            bbox: BoxJson::of(&candidate.bbox),
            fate: fate.as_str(),
            by: match fate {
                Fate::Suppressed(by) | Fate::Double(by) => Some(by),
                _ => None,
            },
            track_id: match fate {
                Fate::Tracked(id) => Some(id.to_string()),
                _ => None,
            },
        }
    }
}

impl<'a> FollowedJson<'a> {
    fn new(track: &'a FollowedTrack) -> Self {
        let facts = &track.facts;
        Self {
            id: facts.id.to_string(),
            label: &facts.label,
            state: if facts.is_lost { "lost" } else { "confirmed" },
            seen: track.is_seen,
            coasting: track.is_coasting,
            bbox: box_px(&facts.bbox, facts.frame),
        }
    }
}

impl<'a> EventJson<'a> {
    fn new(news: &'a TrackNews, began_at: Instant) -> Self {
        Self {
            what: HappeningJson::new(&news.what),
            track: TrackJson::new(&news.track, |at| ms(at.saturating_duration_since(began_at))),
        }
    }
}

/// Whole milliseconds, the nearest ones: times of 90 kHz lie a little beside them.
pub(super) fn ms(time: std::time::Duration) -> u64 {
    u64::try_from((time.as_micros() + 500) / 1000).unwrap_or(u64::MAX)
}
