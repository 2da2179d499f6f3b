//! Why something was detected or not: every candidate of a picture with what became of it. `twinsight replay` asks for it; a node
//! never does, since it needs the candidates that the settings leave out, too.

use super::detector::{BBox, Detections};

/// At most so many candidates of a picture are explained. They are all that were kept, then the best of those that are no doubles,
/// then the best doubles.
pub const MAX_EXPLAINED: usize = 300;

/// What was detected in a picture, and what became of its other candidates.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// The candidates, the best score first.
    pub candidates: Vec<ExplainedCandidate>,
    /// What [`Detector::detect`](super::Detector::detect) gives for the same picture and settings.
    pub detections: Detections,
}

/// A box that the model proposed, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExplainedCandidate {
    /// The class, as an index in the model's labels.
    pub class_id: usize,
    /// How sure the model is, from 0 to 1.
    pub score: f32,
    /// Where it is, in pixels of the picture.
    pub bbox: BBox,
    /// What became of it.
    pub fate: CandidateFate,
}

/// What became of a candidate. The first that fits counts, in the order of this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateFate {
    /// Non-maximum suppression takes it for the same thing as a better candidate, whatever became of that. So each thing that the
    /// model proposed has one candidate with another fate.
    Suppressed {
        /// The index of the better one among the candidates.
        by: usize,
    },
    /// Its score is too low, whatever its class.
    BelowScore,
    /// Its score would do, and its class is not asked for.
    ClassNotAsked,
    /// It is one of the objects.
    Kept {
        /// Its index among the objects.
        object: usize,
    },
}

impl Explained {
    /// The explanation of a detector that knows no candidates but those that it reports.
    pub(super) fn of_kept(detections: Detections) -> Self {
        let objects = detections.objects.iter().enumerate();
        let kept = objects.map(|(n, object)| ExplainedCandidate {
            class_id: object.class_id,
            score: object.score,
            bbox: object.bbox,
            fate: CandidateFate::Kept { object: n },
        });
        Self {
            candidates: kept.collect(),
            detections,
        }
    }
}
