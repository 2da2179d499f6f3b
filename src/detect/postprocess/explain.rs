//! Every candidate of a picture with what became of it: the outputs of a model come in, with the filter of the detection that is to be
//! explained.

use super::{Array, Filter, OutputError, Postprocessor, Reading, Scratch, scores};
use crate::detect::detector::Object;
use crate::detect::explain::{CandidateFate, ExplainedCandidate, MAX_EXPLAINED};
use crate::detect::nms::{Candidate, iou};
use crate::preprocess::Placement;

impl Postprocessor {
    /// Gives what [`objects`](Self::objects) does, and beside it what became of each candidate whose score is `floor` at least.
    ///
    /// # Errors
    /// Those of [`objects`](Self::objects). What is wrong with candidates that `filter` leaves out is none.
    pub(crate) fn explain(
        &self,
        arrays: &[Array<'_>],
        (filter, floor): (&Filter, f32),
        scratch: &mut Scratch,
        nms_iou: f32,
        placement: &Placement,
    ) -> Result<(Vec<Object>, Vec<ExplainedCandidate>), OutputError> {
        let objects = self.objects(arrays, filter, scratch, nms_iou, placement)?;
        let kept = std::mem::take(&mut scratch.candidates);
        let reading = self.read(arrays)?;
        // A number that is impossible below the score of the filter makes the detection no worse, so that only the explanation
        // does without the candidates that the filter leaves out.
        if reading
            .any_candidates(&filter.widened(floor), scratch)
            .is_err()
        {
            reading.any_candidates(filter, scratch)?;
        }
        let candidates = explain(&scratch.candidates, &kept, filter, nms_iou, placement);
        Ok((objects, candidates))
    }
}

impl Filter {
    /// A filter that lets all used classes pass, and scores from `floor` on or what passes anyway.
    fn widened(&self, floor: f32) -> Self {
        Self {
            min_score: floor.min(self.min_score),
            wanted: self.used.clone(),
            used: self.used.clone(),
        }
    }
}

impl Reading<'_> {
    /// As [`candidates`](Self::candidates), without those whose box is none.
    fn any_candidates(
        &self,
        filter: &Filter,
        scratch: &mut Scratch,
    ) -> Result<(), super::Implausible> {
        scratch.candidates.clear();
        scores::best(self, filter, scratch)?;
        for row in 0..scratch.best.len() {
            let (score, class_id) = (scratch.best[row], scratch.class[row] as usize);
            let corners = self.boxes.corners(row);
            if filter.passes(class_id, score) && self.check_box(&corners).is_ok() {
                let candidate = Candidate::new(corners, score.clamp(0.0, 1.0), class_id);
                let candidate = candidate.map(|candidate| Candidate { row, ..candidate });
                scratch.candidates.extend(candidate);
            }
        }
        Ok(())
    }
}

/// A candidate that is to be explained.
struct Open<'a> {
    candidate: &'a Candidate,
    placed: Object,
    fate: OpenFate,
}

/// What became of a candidate, as long as candidates have no index yet.
enum OpenFate {
    Known(CandidateFate),
    /// It was suppressed by the candidate of this row.
    SuppressedByRow(usize),
}

fn explain(
    all: &[Candidate],
    kept: &[Candidate],
    filter: &Filter,
    nms_iou: f32,
    placement: &Placement,
) -> Vec<ExplainedCandidate> {
    // A box that lies in the padding alone is no object, so that it does not count among them.
    let is_in_picture = |placed: &Object| placed.bbox.width > 0.0 && placed.bbox.height > 0.0;
    let kept: Vec<&Candidate> = kept
        .iter()
        .filter(|candidate| is_in_picture(&Object::place(candidate, placement)))
        .collect();
    let mut open: Vec<Open<'_>> = Vec::new();
    for candidate in all {
        let placed = Object::place(candidate, placement);
        if !is_in_picture(&placed) {
            continue;
        }
        let fate = if !filter.would_pass(candidate.score) {
            OpenFate::Known(CandidateFate::BelowScore)
        } else if !filter.passes(candidate.class_id, candidate.score) {
            OpenFate::Known(CandidateFate::ClassNotAsked)
        } else if let Some(object) = kept.iter().position(|kept| kept.row == candidate.row) {
            OpenFate::Known(CandidateFate::Kept { object })
        } else if let Some(row) = suppressor(candidate, &kept, nms_iou) {
            OpenFate::SuppressedByRow(row)
        } else {
            // It is beyond the number of objects that a picture may have.
            continue;
        };
        open.push(Open {
            candidate,
            placed,
            fate,
        });
    }
    // Those that were kept are all told of, and of the others the best ones.
    let is_kept =
        |open: &Open<'_>| matches!(open.fate, OpenFate::Known(CandidateFate::Kept { .. }));
    open.sort_by(|a, b| {
        let by_score = b.candidate.score.total_cmp(&a.candidate.score);
        is_kept(b).cmp(&is_kept(a)).then(by_score)
    });
    open.truncate(MAX_EXPLAINED);
    open.sort_by(|a, b| {
        let by_score = b.candidate.score.total_cmp(&a.candidate.score);
        by_score.then(is_kept(b).cmp(&is_kept(a)))
    });
    let index = |row: usize| open.iter().position(|open| open.candidate.row == row);
    let explained = open.iter().filter_map(|open| {
        Some(ExplainedCandidate {
            class_id: open.candidate.class_id,
            score: open.candidate.score,
            bbox: open.placed.bbox,
            fate: match open.fate {
                OpenFate::Known(fate) => fate,
                OpenFate::SuppressedByRow(row) => CandidateFate::Suppressed { by: index(row)? },
            },
        })
    });
    explained.collect()
}

/// The row of the kept candidate that a suppressed one overlaps most.
fn suppressor(candidate: &Candidate, kept: &[&Candidate], nms_iou: f32) -> Option<usize> {
    let overlap = |other: &&&Candidate| iou(&other.corners, &candidate.corners);
    // Suppression goes by score, and by the order in which candidates come where scores are equal.
    let is_before = |other: &&&Candidate| {
        let by_score = other.score.total_cmp(&candidate.score);
        by_score.then(candidate.row.cmp(&other.row)).is_gt()
    };
    kept.iter()
        .filter(|other| other.class_id == candidate.class_id && is_before(other))
        .filter(|other| overlap(other) > nms_iou)
        .max_by(|a, b| overlap(a).total_cmp(&overlap(b)))
        .map(|other| other.row)
}
