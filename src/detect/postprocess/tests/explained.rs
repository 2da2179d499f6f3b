//! What is told of the candidates of a picture: each has one fate, and those that were kept are what is detected.

use super::*;
use crate::detect::explain::{CandidateFate, ExplainedCandidate, MAX_EXPLAINED};

const NMS_IOU: f32 = 0.5;

fn explained(
    classes: usize,
    values: &[f32],
    filter: &Filter,
    floor: f32,
) -> Result<(Vec<Object>, Vec<ExplainedCandidate>), OutputError> {
    let rows = i64::try_from(values.len() / 6).unwrap();
    let dims = [1, rows, 6];
    let arrays = [array("out", &dims, values)];
    let postprocessor = postprocessor(&table(Kind::Rows), classes);
    let mut scratch = Scratch::default();
    let with = (filter, floor);
    let found = postprocessor.explain(&arrays, with, &mut scratch, NMS_IOU, &placement())?;
    let plain = postprocessor.objects(&arrays, filter, &mut scratch, NMS_IOU, &placement())?;
    assert_eq!(found.0, plain, "the objects are those of a detection");
    assert_consistent(&found.0, &found.1);
    Ok(found)
}

/// Each object is one candidate, and each suppressed one has a better one that was not suppressed.
fn assert_consistent(objects: &[Object], candidates: &[ExplainedCandidate]) {
    assert!(candidates.len() <= MAX_EXPLAINED);
    let scores: Vec<f32> = candidates.iter().map(|candidate| candidate.score).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    let mut kept = Vec::new();
    for candidate in candidates {
        match candidate.fate {
            CandidateFate::Kept { object } => {
                let object = (object, &objects[object]);
                assert_eq!(
                    (object.1.bbox, object.1.score, object.1.class_id),
                    (candidate.bbox, candidate.score, candidate.class_id)
                );
                kept.push(object.0);
            }
            CandidateFate::Suppressed { by } => {
                let better = candidates[by];
                assert!(!matches!(better.fate, CandidateFate::Suppressed { .. }));
                assert!(better.score >= candidate.score);
                assert_eq!(better.class_id, candidate.class_id);
            }
            CandidateFate::BelowScore | CandidateFate::ClassNotAsked => {}
        }
    }
    kept.sort_unstable();
    assert_eq!(kept, (0..objects.len()).collect::<Vec<_>>());
}

#[test]
fn each_candidate_has_its_fate() {
    #[rustfmt::skip]
    let values = [
        10.0, 10.0, 50.0, 90.0, 0.6, 0.0, // the same as the next one
        11.0, 10.0, 51.0, 90.0, 0.9, 0.0,
        11.0, 10.0, 51.0, 90.0, 0.8, 1.0, // another class is no rival
        60.0, 10.0, 90.0, 90.0, 0.3, 0.0, // low
        61.0, 10.0, 90.0, 90.0, 0.25, 0.0, // the same as the one before
        60.0, 10.0, 90.0, 90.0, 0.2, 1.0, // low, and of a class that is not asked for
        60.0, 10.0, 90.0, 90.0, 0.04, 0.0, // below the floor
    ];
    let mut wanted = filter(2, 0.4);
    wanted.set(0.4, &[0]);
    let (objects, candidates) = explained(2, &values, &wanted, 0.05).unwrap();
    assert_eq!(objects.len(), 1);
    let fates: Vec<_> = candidates
        .iter()
        .map(|candidate| (candidate.score, candidate.fate))
        .collect();
    assert_eq!(
        fates,
        [
            (0.9, CandidateFate::Kept { object: 0 }),
            (0.8, CandidateFate::ClassNotAsked),
            (0.6, CandidateFate::Suppressed { by: 0 }),
            (0.3, CandidateFate::BelowScore),
            (0.25, CandidateFate::Suppressed { by: 3 }),
            (0.2, CandidateFate::BelowScore),
        ]
    );
    // Boxes are pixels of the picture, which is twice as wide as the tensor and as high.
    let bbox = candidates[0].bbox;
    assert_eq!(
        (bbox.x, bbox.y, bbox.width, bbox.height),
        (22.0, 10.0, 80.0, 80.0)
    );
    // A floor above the score of the settings hides nothing that was detected.
    let (_, high) = explained(2, &values, &wanted, 0.95).unwrap();
    assert_eq!(high.len(), 3, "{high:?}");
}

#[test]
fn what_is_wrong_below_the_score_is_no_error() {
    #[rustfmt::skip]
    let values = [
        10.0, 10.0, 50.0, 90.0, 0.6, 0.0,
        f32::NAN, 10.0, 50.0, 90.0, 0.3, 0.0, // no box
        10.0, 10.0, 50.0, 90.0, 0.3, 0.4, // no class
    ];
    let (objects, candidates) = explained(2, &values, &filter(2, 0.4), 0.05).unwrap();
    assert_eq!((objects.len(), candidates.len()), (1, 1));
    let (_, candidates) = explained(2, &values[..12], &filter(2, 0.4), 0.05).unwrap();
    assert_eq!(candidates.len(), 1, "the box that is none is left out");
    assert!(explained(2, &values, &filter(2, 0.2), 0.05).is_err());
}

#[test]
fn of_a_crowd_all_that_were_kept_are_told() {
    let row = |n: u16, score: f32| {
        let (left, top) = (f32::from(n % 25) * 4.0, f32::from(n / 25) * 4.0);
        [left, top, left + 3.0, top + 3.0, score, 0.0]
    };
    let values: Vec<f32> = (0..200)
        .flat_map(|n| row(n, 0.5))
        .chain((200..600).flat_map(|n| row(n, 0.3)))
        .collect();
    let (objects, candidates) = explained(1, &values, &filter(1, 0.4), 0.05).unwrap();
    assert_eq!((objects.len(), candidates.len()), (200, MAX_EXPLAINED));
    let (objects, candidates) = explained(1, &values, &filter(1, 0.2), 0.05).unwrap();
    assert_eq!((objects.len(), candidates.len()), (300, MAX_EXPLAINED));
}

mod any_rows {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn are_explained_consistently(
            rows in prop::collection::vec((0u8..40, 0u8..40, 1u8..30, 0u8..20, 0u8..3), 1..80),
            min_score in 0.05f32..0.9,
            class in 0usize..3,
        ) {
            let values: Vec<f32> = rows
                .iter()
                .flat_map(|&(x, y, side, score, class)| {
                    let [x, y, side] = [x, y, side].map(f32::from);
                    [x, y, x + side, y + side, f32::from(score) / 20.0, f32::from(class)]
                })
                .collect();
            let mut wanted = filter(3, min_score);
            wanted.set(min_score, &[class, 0]);
            let (_, candidates) = explained(3, &values, &wanted, 0.05).unwrap();
            let above = rows.iter().filter(|row| f32::from(row.3) / 20.0 >= 0.05);
            prop_assert_eq!(candidates.len(), above.count());
        }
    }
}
