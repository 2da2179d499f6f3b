//! The output kind `yolo`: an array `[1, 4 + C, N]` comes in, with the rows cx, cy, w, h in tensor pixels and then a row of scores
//! for each class. Candidates go out, each with the class of the highest score.

use super::{Array, Filter, OutputError, Scratch, add};
use crate::preprocess::TensorBox;

/// Appends the candidates that pass to `scratch.candidates`.
///
/// # Errors
/// If the shape is not `[1, 4 + C, N]`, or a number is impossible.
pub fn candidates(
    predictions: &Array<'_>,
    filter: &Filter,
    scratch: &mut Scratch,
) -> Result<(), OutputError> {
    let rows = 4 + filter.classes();
    let anchors = match predictions.lengths() {
        Some([1, found, anchors]) if found == rows => anchors,
        _ => return Err(predictions.mismatch(format!("[1, {rows}, N]")).into()),
    };
    if anchors == 0 {
        return Ok(());
    }
    let (boxes, scores) = predictions.values.split_at(4 * anchors);
    predictions.check_scores(scores)?;
    scratch.best.clear();
    scratch.best.resize(anchors, f32::NEG_INFINITY);
    scratch.class.clear();
    scratch.class.resize(anchors, 0);
    // The loop goes row by row, as the values lie in memory, so that the compiler vectorises it.
    for (class_id, row) in (0u32..).zip(scores.chunks_exact(anchors)) {
        if !filter.is_used(class_id as usize) {
            continue;
        }
        for ((best, class), &score) in scratch.best.iter_mut().zip(&mut scratch.class).zip(row) {
            let higher = score > *best;
            *best = if higher { score } else { *best };
            *class = if higher { class_id } else { *class };
        }
    }
    let at = |row: usize, anchor: usize| boxes[row * anchors + anchor];
    for (anchor, (&score, &class)) in scratch.best.iter().zip(&scratch.class).enumerate() {
        let class_id = class as usize;
        if !filter.passes(class_id, score) {
            continue;
        }
        let (cx, cy) = (at(0, anchor), at(1, anchor));
        let (half_width, half_height) = (at(2, anchor) / 2.0, at(3, anchor) / 2.0);
        let corners = TensorBox {
            x1: cx - half_width,
            y1: cy - half_height,
            x2: cx + half_width,
            y2: cy + half_height,
        };
        add(
            &mut scratch.candidates,
            predictions,
            corners,
            score,
            class_id,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn takes_the_best_class_of_each_anchor() {
        #[rustfmt::skip]
        let values = [
            10.0, 50.0, 90.0, // cx
            20.0, 60.0, 90.0, // cy
             4.0, 10.0,  2.0, // w
             8.0, 20.0,  2.0, // h
             0.9,  0.3,  0.1, // class 0
             0.2,  0.7,  0.2, // class 1
        ];
        let mut scratch = Scratch::default();
        candidates(&array(&[1, 6, 3], &values), &filter(2, 0.4), &mut scratch).unwrap();
        assert_eq!(
            plain(&scratch),
            [
                (8.0, 16.0, 12.0, 24.0, 0.9, 0),
                (45.0, 50.0, 55.0, 70.0, 0.7, 1)
            ]
        );
    }

    #[test]
    fn the_label_is_chosen_before_the_wanted_classes_are() {
        let values = [10.0, 10.0, 4.0, 4.0, 0.6, 0.5];
        let mut filter = filter(2, 0.4);
        filter.set(0.4, &[1]);
        let mut scratch = Scratch::default();
        candidates(&array(&[1, 6, 1], &values), &filter, &mut scratch).unwrap();
        assert!(scratch.candidates.is_empty());
    }

    #[test]
    fn other_shapes_are_refused() {
        let mut scratch = Scratch::default();
        let error = candidates(
            &array(&[1, 3, 6], &[0.0; 18]),
            &filter(2, 0.4),
            &mut scratch,
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "output `out` should have shape [1, 6, N] and has [1, 3, 6]"
        );
        candidates(&array(&[1, 6, 0], &[]), &filter(2, 0.0), &mut scratch).unwrap();
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        #[rustfmt::skip]
        let good = [
            10.0, f32::NAN, // cx; the second anchor is too low to matter
            20.0, f32::INFINITY, // cy
             4.0, 1.0, // w
             8.0, 1.0, // h
             0.9, 0.3, // class 0
             0.2, 0.1, // class 1
        ];
        let run = |values: &[f32]| {
            let mut scratch = Scratch::default();
            candidates(&array(&[1, 6, 2], values), &filter(2, 0.4), &mut scratch)?;
            assert_eq!(plain(&scratch), [(8.0, 16.0, 12.0, 24.0, 0.9, 0)]);
            Ok(())
        };
        for score in 8..12 {
            refuses(&NO_SCORES, score, &good, run);
        }
        for edge in [0, 2, 4, 6] {
            refuses(&NO_EDGES, edge, &good, run);
        }
    }
}
