//! Non-maximum suppression (NMS) within each class: candidates in tensor pixels come in, and those that overlap no better one
//! of their class go out, best first. The detector runs it.

use std::cmp::Ordering;

use crate::preprocess::TensorBox;

/// Of one picture's candidates the best this many are looked at, which bounds the time that a `min_score` of 0 costs.
pub(crate) const MAX_CANDIDATES: usize = 4096;
/// One picture gives at most this many objects.
pub(crate) const MAX_OBJECTS: usize = 300;

/// A box that a model proposes. Its numbers are finite, and it has an area.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The box in tensor pixels.
    pub corners: TensorBox,
    /// How sure the model is, from 0 to 1.
    pub score: f32,
    /// The class, as an index in the model's labels.
    pub class_id: usize,
    /// Its row in the model's output, where the rest of what is said of it stands.
    pub row: usize,
}

impl Candidate {
    /// Makes a candidate, unless a number is not finite or the box has no area.
    pub fn new(corners: TensorBox, score: f32, class_id: usize) -> Option<Self> {
        let TensorBox { x1, y1, x2, y2 } = corners;
        let area = (x2 - x1) * (y2 - y1);
        let usable = x2 > x1 && y2 > y1 && area.is_finite() && area > 0.0 && score.is_finite();
        // An infinite edge makes the area infinite or NaN.
        usable.then_some(Self {
            corners,
            score,
            class_id,
            row: 0,
        })
    }
}

/// Keeps the candidates that overlap no better one of their class by more than `max_iou`, best first. Candidates of equal
/// scores are in the order of their classes, then in the order in which they came.
pub fn suppress(candidates: &mut Vec<Candidate>, max_iou: f32) {
    if candidates.len() > MAX_CANDIDATES {
        // The sort is stable, so that it does not depend on chance which of equal candidates stay.
        candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
        candidates.truncate(MAX_CANDIDATES);
    }
    candidates.sort_by(by_class_then_score);
    let mut kept = 0;
    let mut class_start = 0;
    for next in 0..candidates.len() {
        let candidate = candidates[next];
        if kept > class_start && candidates[kept - 1].class_id != candidate.class_id {
            class_start = kept;
        }
        let better = &candidates[class_start..kept];
        // The best of the picture are among the best of each class, so no class needs to keep more than the picture may.
        if better.len() == MAX_OBJECTS {
            continue;
        }
        if better
            .iter()
            .all(|other| iou(&other.corners, &candidate.corners) <= max_iou)
        {
            candidates[kept] = candidate;
            kept += 1;
        }
    }
    candidates.truncate(kept);
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    candidates.truncate(MAX_OBJECTS);
}

fn by_class_then_score(a: &Candidate, b: &Candidate) -> Ordering {
    a.class_id
        .cmp(&b.class_id)
        .then(b.score.total_cmp(&a.score))
}

/// Intersection over union of two boxes with an area.
pub fn iou(a: &TensorBox, b: &TensorBox) -> f32 {
    let width = a.x2.min(b.x2) - a.x1.max(b.x1);
    let height = a.y2.min(b.y2) - a.y1.max(b.y1);
    let shared = width.max(0.0) * height.max(0.0);
    let area = |of: &TensorBox| (of.x2 - of.x1) * (of.y2 - of.y1);
    shared / (area(a) + area(b) - shared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(x: f32, y: f32, side: f32, score: f32, class_id: usize) -> Candidate {
        let corners = TensorBox {
            x1: x,
            y1: y,
            x2: x + side,
            y2: y + side,
        };
        Candidate::new(corners, score, class_id).unwrap()
    }

    /// By the definition: take the best that is left, strike out what it overlaps.
    fn naive(candidates: &[Candidate], max_iou: f32) -> Vec<Candidate> {
        let mut left: Vec<(usize, Candidate)> = candidates.iter().copied().enumerate().collect();
        let mut kept = Vec::new();
        while let Some(best) = left
            .iter()
            .min_by(|(i, a), (j, b)| {
                b.score
                    .total_cmp(&a.score)
                    .then(a.class_id.cmp(&b.class_id))
                    .then(i.cmp(j))
            })
            .copied()
        {
            left.retain(|(index, other)| {
                *index != best.0
                    && (other.class_id != best.1.class_id
                        || iou(&other.corners, &best.1.corners) <= max_iou)
            });
            kept.push(best.1);
        }
        kept
    }

    fn any_candidates() -> impl Strategy<Value = Vec<Candidate>> {
        // Few distinct scores and places, so that ties and overlaps are common.
        let one = (0u8..40, 0u8..40, 1u8..30, 0u8..20, 0usize..3);
        prop::collection::vec(one, 0..120).prop_map(|all| {
            all.into_iter()
                .map(|(x, y, side, score, class_id)| {
                    candidate(
                        x.into(),
                        y.into(),
                        side.into(),
                        f32::from(score) / 20.0,
                        class_id,
                    )
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn keeps_what_the_definition_keeps(candidates in any_candidates(), max_iou in 0.05f32..0.95) {
            let mut fast = candidates.clone();
            suppress(&mut fast, max_iou);
            prop_assert_eq!(fast, naive(&candidates, max_iou));
        }

        #[test]
        fn no_two_kept_of_a_class_overlap(mut candidates in any_candidates(), max_iou in 0.05f32..0.95) {
            suppress(&mut candidates, max_iou);
            for (i, a) in candidates.iter().enumerate() {
                for b in &candidates[i + 1..] {
                    prop_assert!(a.score >= b.score);
                    prop_assert!(a.class_id != b.class_id || iou(&a.corners, &b.corners) <= max_iou);
                }
            }
        }
    }

    #[test]
    fn another_class_is_no_rival() {
        let mut both = vec![
            candidate(0.0, 0.0, 10.0, 0.5, 1),
            candidate(0.0, 0.0, 10.0, 0.9, 0),
        ];
        suppress(&mut both, 0.5);
        assert_eq!(both.len(), 2);
    }

    #[test]
    fn work_and_result_are_bounded() {
        let mut many: Vec<Candidate> = (0..20_000)
            .map(|i: u16| candidate(f32::from(i) * 20.0, 0.0, 10.0, 0.5, usize::from(i % 2)))
            .collect();
        suppress(&mut many, 0.5);
        assert_eq!(many.len(), MAX_OBJECTS);
        assert_eq!(many[0], candidate(0.0, 0.0, 10.0, 0.5, 0));
    }

    #[test]
    fn numbers_that_are_none_make_no_candidate() {
        let good = TensorBox {
            x1: 0.0,
            y1: 0.0,
            x2: 1.0,
            y2: 1.0,
        };
        assert!(Candidate::new(good, 0.5, 0).is_some());
        assert!(Candidate::new(good, f32::NAN, 0).is_none());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(Candidate::new(TensorBox { x1: bad, ..good }, 0.5, 0).is_none());
            assert!(Candidate::new(TensorBox { y2: bad, ..good }, 0.5, 0).is_none());
        }
        assert!(Candidate::new(TensorBox { x2: 0.0, ..good }, 0.5, 0).is_none());
    }
}
