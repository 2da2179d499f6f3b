//! The output kind `ssd`: scores `[1, N, C]`, after the sigmoid, and boxes `[1, N, 1, 4]` or `[1, N, 4]` come in; the boxes are
//! ymin, xmin, ymax, xmax as shares of the tensor. Candidates go out, each with the class of the highest score.

use super::{Array, Filter, OutputError, Scratch, add};
use crate::preprocess::TensorBox;

/// Appends the candidates that pass to `scratch.candidates`. `input` is width and height of the tensor.
///
/// # Errors
/// If the shapes are not those above, or a number is impossible.
pub fn candidates(
    scores: &Array<'_>,
    boxes: &Array<'_>,
    input: (usize, usize),
    filter: &Filter,
    scratch: &mut Scratch,
) -> Result<(), OutputError> {
    let classes = filter.classes();
    let anchors = match scores.lengths() {
        Some([1, anchors, found]) if found == classes && classes > 0 => anchors,
        _ => return Err(scores.mismatch(format!("[1, N, {classes}]")).into()),
    };
    let fits = matches!(boxes.lengths(), Some([1, n, 1, 4]) if n == anchors)
        || matches!(boxes.lengths(), Some([1, n, 4]) if n == anchors);
    if !fits {
        return Err(boxes.mismatch(format!("[1, {anchors}, 1, 4]")).into());
    }
    scores.check_scores(scores.values)?;
    let (width, height) = (input.0 as f32, input.1 as f32);
    let all = boxes.values.chunks_exact(4);
    for (row, corners) in scores.values.chunks_exact(classes).zip(all) {
        let Some((class_id, score)) = best(row, filter) else {
            continue;
        };
        if !filter.passes(class_id, score) {
            continue;
        }
        let corners = TensorBox {
            x1: corners[1] * width,
            y1: corners[0] * height,
            x2: corners[3] * width,
            y2: corners[2] * height,
        };
        add(&mut scratch.candidates, boxes, corners, score, class_id)?;
    }
    Ok(())
}

/// The used class with the highest score, or the first of several. `None` if no score reaches the filter's. This is so for most
/// anchors, which is why the highest score is looked for first, without its index.
fn best(row: &[f32], filter: &Filter) -> Option<(usize, f32)> {
    let mut found = None;
    let mut highest = f32::NEG_INFINITY;
    let top = row.iter().fold(
        f32::NEG_INFINITY,
        |top, &score| if score > top { score } else { top },
    );
    if top < filter.min_score {
        return None;
    }
    for (class_id, &score) in row.iter().enumerate() {
        if score > highest && filter.is_used(class_id) {
            highest = score;
            found = Some((class_id, score));
        }
    }
    found
}

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small numbers of a test"
)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn takes_the_best_class_and_scales_to_the_tensor() {
        let scores = [0.1, 0.8, 0.3, 0.2, 0.6, 0.1];
        let boxes = [0.125, 0.25, 0.25, 0.5, 0.0, 0.0, 1.0, 1.0];
        let mut scratch = Scratch::default();
        candidates(
            &array(&[1, 3, 2], &scores),
            &array(&[1, 3, 1, 4], &[&boxes[..], &[0.5, 0.5, 0.4, 0.6]].concat()),
            (100, 200),
            &filter(2, 0.4),
            &mut scratch,
        )
        .unwrap();
        // The third anchor's box is upside down.
        assert_eq!(plain(&scratch), [(25.0, 25.0, 50.0, 50.0, 0.8, 1)]);
    }

    #[test]
    fn a_class_that_the_model_never_uses_is_passed_over() {
        let labels = ["person", "-"].map(str::to_owned);
        let mut filter = Filter::new(&labels);
        filter.set(0.4, &[]);
        let mut scratch = Scratch::default();
        let boxes = [0.0, 0.0, 1.0, 1.0];
        candidates(
            &array(&[1, 1, 2], &[0.5, 0.9]),
            &array(&[1, 1, 4], &boxes),
            (10, 10),
            &filter,
            &mut scratch,
        )
        .unwrap();
        assert_eq!(plain(&scratch), [(0.0, 0.0, 10.0, 10.0, 0.5, 0)]);
    }

    #[test]
    fn other_shapes_are_refused() {
        let mut scratch = Scratch::default();
        let mut run = |scores: &[i64], boxes: &[i64]| {
            let len = |dims: &[i64]| vec![0.0; dims.iter().product::<i64>() as usize];
            candidates(
                &array(scores, &len(scores)),
                &array(boxes, &len(boxes)),
                (10, 10),
                &filter(2, 0.4),
                &mut scratch,
            )
            .map_err(|error| error.to_string())
        };
        assert_eq!(run(&[1, 3, 2], &[1, 3, 1, 4]), Ok(()));
        assert_eq!(
            run(&[1, 3, 5], &[1, 3, 1, 4]).unwrap_err(),
            "output `out` should have shape [1, N, 2] and has [1, 3, 5]"
        );
        assert_eq!(
            run(&[1, 3, 2], &[1, 2, 1, 4]).unwrap_err(),
            "output `out` should have shape [1, 3, 1, 4] and has [1, 2, 1, 4]"
        );
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        #[rustfmt::skip]
        let good = [
            0.1, 0.8, // the scores
            0.3, 0.2,
            0.0, 0.0, 1.0, 1.0, // the boxes
            f32::NAN, f32::INFINITY, 1.0, 1.0, // too low to matter
        ];
        let run = |values: &[f32]| {
            let (mut scratch, (scores, boxes)) = (Scratch::default(), values.split_at(4));
            let scores = array(&[1, 2, 2], scores);
            let boxes = array(&[1, 2, 4], boxes);
            candidates(&scores, &boxes, (10, 10), &filter(2, 0.4), &mut scratch)?;
            assert_eq!(plain(&scratch), [(0.0, 0.0, 10.0, 10.0, 0.8, 1)]);
            Ok(())
        };
        for score in 0..4 {
            refuses(&NO_SCORES, score, &good, run);
        }
        for edge in 4..8 {
            refuses(&NO_EDGES, edge, &good, run);
        }
    }
}
