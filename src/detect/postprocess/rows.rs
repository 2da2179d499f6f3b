//! The output kind `rows` of end-to-end models: an array `[1, N, 6]` comes in, whose rows are x1, y1, x2, y2 in tensor pixels,
//! score and class; candidates go out.

use super::{Array, Filter, OutputError, Scratch, add, is_score};
use crate::preprocess::TensorBox;

/// Appends the candidates that pass to `scratch.candidates`.
///
/// # Errors
/// If the shape is not `[1, N, 6]`, or a number is impossible. A row of a negative class is padding, whatever else it holds.
pub(crate) fn candidates(
    rows: &Array<'_>,
    filter: &Filter,
    scratch: &mut Scratch,
) -> Result<(), OutputError> {
    let Some([1, _, 6]) = rows.lengths() else {
        return Err(rows.mismatch("[1, N, 6]").into());
    };
    for row in rows.values.chunks_exact(6) {
        let score = row[4];
        if row[5].is_finite() && row[5] < -0.5 {
            continue;
        }
        if !is_score(score) {
            return Err(rows.no_score(score).into());
        }
        let Some(class_id) = class(row[5]) else {
            let place = "the class of a box";
            return Err(rows.implausible(row[5], place, "a number from 0").into());
        };
        if !filter.passes(class_id, score) {
            continue;
        }
        let corners = TensorBox {
            x1: row[0],
            y1: row[1],
            x2: row[2],
            y2: row[3],
        };
        add(&mut scratch.candidates, rows, corners, score, class_id)?;
    }
    Ok(())
}

/// The class number that a float holds, if it is finite and not below 0. The filter drops numbers beyond the model's classes.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and a saturating cast is what is wanted"
)]
fn class(value: f32) -> Option<usize> {
    let rounded = value.round();
    (rounded >= 0.0 && rounded.is_finite()).then_some(rounded as usize)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn takes_rows_with_a_known_class_and_enough_score() {
        #[rustfmt::skip]
        let values = [
            1.0, 2.0, 3.0, 4.0, 0.9, 1.0,
            1.0, 2.0, 3.0, 4.0, 0.3, 1.0, // low
            1.0, 2.0, 3.0, 4.0, 0.9, 2.0, // no such class
            1.0, 2.0, 3.0, 4.0, 0.9, -1.0,
            3.0, 2.0, 1.0, 4.0, 0.9, 0.0, // no area
            5.0, 6.0, 7.0, 8.0, 0.5, 0.0,
        ];
        let mut scratch = Scratch::default();
        candidates(&array(&[1, 6, 6], &values), &filter(2, 0.4), &mut scratch).unwrap();
        assert_eq!(
            plain(&scratch),
            [(1.0, 2.0, 3.0, 4.0, 0.9, 1), (5.0, 6.0, 7.0, 8.0, 0.5, 0)]
        );
    }

    #[test]
    fn other_shapes_are_refused() {
        let mut scratch = Scratch::default();
        let error = candidates(
            &array(&[1, 2, 5], &[0.0; 10]),
            &filter(2, 0.4),
            &mut scratch,
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "output `out` should have shape [1, N, 6] and has [1, 2, 5]"
        );
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        #[rustfmt::skip]
        let good = [
            1.0, 2.0, 3.0, 4.0, 0.9, 1.0,
            f32::NAN, f32::INFINITY, 3.0, 4.0, 0.1, 0.0, // too low to matter
            -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, // padding
        ];
        let run = |values: &[f32]| {
            let mut scratch = Scratch::default();
            candidates(&array(&[1, 3, 6], values), &filter(2, 0.4), &mut scratch)?;
            assert_eq!(plain(&scratch), [(1.0, 2.0, 3.0, 4.0, 0.9, 1)]);
            Ok(())
        };
        refuses(&NO_SCORES, 4, &good, run);
        // Of a row that is too low, too.
        refuses(&NO_SCORES, 10, &good, run);
        refuses(&NO_EDGES, 5, &good, run);
        for edge in 0..4 {
            refuses(&NO_EDGES, edge, &good, run);
        }
    }
}
