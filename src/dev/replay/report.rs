//! What is known of a frame that was replayed: the explanation of the detector and the result of the stage come in, and each candidate
//! has one fate in what goes out.

use std::time::{Duration, Instant};

use crate::detect::{CandidateFate, Explained, ExplainedCandidate, ModelInfo};
use crate::node::following;
use crate::publish::object::SeenObject;
use crate::track::news::{TrackFacts, TrackNews};
use crate::track::stage::{ObjectFate, Staged};
use twinsight_media::label_enum;
use twinsight_media::picture::PictureSize;

/// A confirmed track is shown for so long after it was seen, since a detector misses an object now and then.
const COASTING: Duration = Duration::from_millis(300);

/// What is known of a frame.
#[derive(Debug)]
pub(super) struct FrameReport {
    /// Its number, from 1.
    pub(super) number: usize,
    /// When it is shown, since the first frame.
    pub(super) time: Duration,
    pub(super) size: PictureSize,
    pub(super) outcome: Outcome,
    /// What the events of tracks tell.
    pub(super) news: Vec<TrackNews>,
    /// The confirmed tracks that live.
    pub(super) tracks: Vec<FollowedTrack>,
}

/// What became of a frame.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The model did not get it.
    Skipped(SkipReason),
    /// The model looked at it.
    Looked(Looked),
}

label_enum! {
    /// Why a frame was not looked at.
    pub enum SkipReason {
        /// The camera was not due by `max_fps`.
        RateLimited = "rate_limited",
        /// It was too old when the camera was due, by `max_age_ms`.
        Stale = "stale",
        /// It does not differ from the one that was looked at last, by the motion gate.
        Unchanged = "unchanged",
    }
}

/// What was seen in a frame.
#[derive(Debug)]
pub(super) struct Looked {
    /// The candidates, the best score first.
    pub(super) candidates: Vec<(ExplainedCandidate, Fate)>,
    /// The objects of the event `detections`.
    pub(super) objects: Vec<SeenObject>,
}

/// What became of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its score is too low.
    BelowScore,
    /// Its class is not asked for.
    ClassNotAsked,
    /// It is in a mask.
    Masked,
    /// The detector took it for the same as this better candidate.
    Suppressed(usize),
    /// The tracker took it for the same as this better candidate.
    Double(usize),
    /// It is of no track, and too weak to begin one.
    Unclaimed,
    /// It was reported, and nothing is followed.
    Reported,
    /// Its track is not confirmed yet.
    Tentative,
    /// It is of this track.
    Tracked(u64),
}

/// A track at a frame.
#[derive(Debug, Clone)]
pub(super) struct FollowedTrack {
    pub(super) facts: TrackFacts,
    /// It was seen in this frame.
    pub(super) is_seen: bool,
    /// It was not, but a moment ago, and it is not on its way out of the picture.
    pub(super) is_coasting: bool,
}

impl Fate {
    /// As the lines name it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::BelowScore => "belowScore",
            Self::ClassNotAsked => "classNotAsked",
            Self::Masked => "masked",
            Self::Suppressed(_) => "suppressed",
            Self::Double(_) => "double",
            Self::Unclaimed => "unclaimed",
            Self::Reported => "reported",
            Self::Tentative => "tentative",
            Self::Tracked(_) => "tracked",
        }
    }
}

impl Looked {
    /// Puts together what the detector and the stage say of a frame. Objects below `min_score` are for tracking alone.
    pub(super) fn new(
        explained: &Explained,
        staged: Staged,
        model: &ModelInfo,
        min_score: f32,
    ) -> Self {
        let objects = &explained.detections.objects;
        let is_followed = staged.is_followed;
        // The candidate that each object is.
        let mut candidate_of = vec![0; objects.len()];
        for (n, candidate) in explained.candidates.iter().enumerate() {
            if let CandidateFate::Kept { object } = candidate.fate {
                candidate_of[object] = n;
            }
        }
        let fate = |candidate: &ExplainedCandidate| match candidate.fate {
            CandidateFate::BelowScore => Fate::BelowScore,
            CandidateFate::ClassNotAsked => Fate::ClassNotAsked,
            CandidateFate::Suppressed { by } => Fate::Suppressed(by),
            CandidateFate::Kept { object } => match &staged.fates[object] {
                ObjectFate::Masked => Fate::Masked,
                ObjectFate::Unclaimed if is_followed => Fate::Unclaimed,
                ObjectFate::Unclaimed => Fate::Reported,
                ObjectFate::Double(of) => Fate::Double(candidate_of[*of]),
                ObjectFate::Tentative => Fate::Tentative,
                ObjectFate::Tracked { id, .. } => Fate::Tracked(*id),
            },
        };
        let candidates = explained.candidates.iter();
        let candidates = candidates.map(|candidate| (*candidate, fate(candidate)));
        let reported = objects
            .iter()
            .zip(&staged.fates)
            .filter(|(object, fate)| **fate != ObjectFate::Masked && object.score >= min_score);
        let reported = reported.map(|(object, fate)| SeenObject {
            following: is_followed.then(|| following(fate.clone())),
            ..SeenObject::of(object, model)
        });
        Self {
            candidates: candidates.collect(),
            objects: reported.collect(),
        }
    }
}

impl FollowedTrack {
    /// A track at a frame that came at `now`.
    pub(super) fn new(is_leaving: bool, facts: TrackFacts, now: Instant) -> Self {
        let unseen_for = now.saturating_duration_since(facts.last_seen_at);
        // Media time is told in parts of 90 kHz, so that a frame's own time may be off by one.
        let is_seen = !facts.is_lost && unseen_for < Duration::from_millis(1);
        Self {
            is_seen,
            is_coasting: !is_seen && !is_leaving && unseen_for <= COASTING,
            facts,
        }
    }
}
