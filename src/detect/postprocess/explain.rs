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
        let candidates = explain(&mut scratch.candidates, &kept, filter, nms_iou, placement);
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
#[derive(Clone, Copy, PartialEq, Eq)]
enum OpenFate {
    /// It is nobody's double.
    Known(CandidateFate),
    /// It was suppressed by the candidate of this row.
    SuppressedByRow(usize),
}

impl Open<'_> {
    /// Which candidates are told of first where there are too many: those that were kept, then those that are no doubles.
    fn rank(&self) -> u8 {
        match self.fate {
            OpenFate::Known(CandidateFate::Kept { .. }) => 0,
            OpenFate::Known(_) => 1,
            OpenFate::SuppressedByRow(_) => 2,
        }
    }
}

fn explain(
    all: &mut [Candidate],
    kept: &[Candidate],
    filter: &Filter,
    nms_iou: f32,
    placement: &Placement,
) -> Vec<ExplainedCandidate> {
    // A box that lies in the padding alone is no object, so that it does not count among them.
    let is_in_picture = |placed: &Object| placed.bbox.width > 0.0 && placed.bbox.height > 0.0;
    let kept: Vec<usize> = kept
        .iter()
        .filter(|candidate| is_in_picture(&Object::place(candidate, placement)))
        .map(|candidate| candidate.row)
        .collect();
    // Suppression goes by score, and by the order in which candidates come where scores are equal. What is worse never changes what
    // becomes of what is better, and neither does another class. So all of them together have the doubles that the detection had.
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut better: Vec<&Candidate> = Vec::new();
    let mut open: Vec<Open<'_>> = Vec::new();
    for candidate in &*all {
        let object = kept.iter().position(|row| *row == candidate.row);
        let fate = if let Some(object) = object {
            OpenFate::Known(CandidateFate::Kept { object })
        } else if let Some(row) = suppressor(candidate, &better, nms_iou) {
            OpenFate::SuppressedByRow(row)
        } else if !filter.would_pass(candidate.score) {
            OpenFate::Known(CandidateFate::BelowScore)
        } else if !filter.passes(candidate.class_id, candidate.score) {
            OpenFate::Known(CandidateFate::ClassNotAsked)
        } else {
            // It is in the padding, or beyond the number of objects that a picture may have.
            better.push(candidate);
            continue;
        };
        if matches!(fate, OpenFate::Known(_)) {
            better.push(candidate);
        }
        let placed = Object::place(candidate, placement);
        if is_in_picture(&placed) {
            open.push(Open {
                candidate,
                placed,
                fate,
            });
        }
    }
    let by_score = |a: &Open<'_>, b: &Open<'_>| b.candidate.score.total_cmp(&a.candidate.score);
    open.sort_by(|a, b| a.rank().cmp(&b.rank()).then_with(|| by_score(a, b)));
    open.truncate(MAX_EXPLAINED);
    open.sort_by(by_score);
    // Of doubles of what is in the padding nothing is told, as of that itself.
    let told = rows(&open);
    open.retain(|open| match open.fate {
        OpenFate::Known(_) => true,
        OpenFate::SuppressedByRow(row) => told.contains(&row),
    });
    let told = rows(&open);
    let explained = open.iter().filter_map(|open| {
        let fate = match open.fate {
            OpenFate::Known(fate) => fate,
            OpenFate::SuppressedByRow(row) => CandidateFate::Suppressed {
                by: told.iter().position(|told| *told == row)?,
            },
        };
        Some(ExplainedCandidate {
            class_id: open.candidate.class_id,
            score: open.candidate.score,
            bbox: open.placed.bbox,
            fate,
        })
    });
    explained.collect()
}

fn rows(open: &[Open<'_>]) -> Vec<usize> {
    open.iter().map(|open| open.candidate.row).collect()
}

/// The row of the better candidate of the same class that a candidate overlaps most.
fn suppressor(candidate: &Candidate, better: &[&Candidate], nms_iou: f32) -> Option<usize> {
    let overlap = |other: &Candidate| iou(&other.corners, &candidate.corners);
    better
        .iter()
        .filter(|other| other.class_id == candidate.class_id)
        .map(|other| (overlap(other), other.row))
        .filter(|(overlap, _)| *overlap > nms_iou)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, row)| row)
}
