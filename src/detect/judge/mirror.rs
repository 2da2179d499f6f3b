//! What the objects on the test picture are, and where they are in its mirror image: this tells of labels and of numbers in the wrong order, with
//! the key that is likely wrong.

use super::boxes::{is_off, other_formats};
use super::{Judgement, MOST, SURE, refused};
use crate::detect::manifest::file::{BoxFormat, BoxUnits};
use crate::detect::nms::{Candidate, iou};
use crate::detect::output::Outputs;
use crate::detect::postprocess::{Boxes, Postprocessor, Reading};
use crate::preprocess::{Placement, TensorBox};

/// The candidates of a picture that are taken for objects, best first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strong<'a> {
    pub(super) reading: &'a Reading<'a>,
    pub(super) candidates: &'a [Candidate],
}

/// True for the labels of COCO, which has some for what is on the test picture.
pub(crate) fn are_coco(labels: &[String]) -> bool {
    ["person", "sports ball", "toothbrush"]
        .iter()
        .all(|label| labels.iter().any(|known| known == label))
}

/// A model of COCO's classes that is sure of something is sure of the player or of the ball.
pub(super) fn judge_labels(labels: &[String], strong: &[Candidate]) -> Result<(), Judgement> {
    let is_coco = are_coco(labels);
    let sure = strong.iter().filter(|candidate| candidate.score >= SURE);
    let mut seen = sure.filter_map(|candidate| labels.get(candidate.class_id));
    let Some(first) = seen.next().filter(|_| is_coco) else {
        return Ok(());
    };
    let is_there = |label: &String| label == "person" || label == "sports ball";
    if is_there(first) || seen.any(is_there) {
        return Ok(());
    }
    let seen = format!("a footballer with a ball is taken for `{first}`");
    Err(refused(seen, "labels", ""))
}

/// An object is at the mirrored place in the mirror image. What reads a box wrongly, as y before x, breaks this.
pub(super) fn judge_mirrored(
    postprocessor: &Postprocessor,
    first: Strong<'_>,
    mirrored: Strong<'_>,
    placement: &Placement,
) -> Result<Option<f32>, Judgement> {
    let Strong {
        reading,
        candidates: strong,
    } = first;
    let Strong {
        reading: other,
        candidates: strong_other,
    } = mirrored;
    let place = |candidate: &Candidate| candidate.corners;
    let is_same = strong.len() == strong_other.len()
        && strong
            .iter()
            .zip(strong_other)
            .all(|(a, b)| place(a) == place(b));
    // A model whose outputs do not depend on the picture cannot be judged so.
    if strong.is_empty() || strong_other.is_empty() || is_same {
        return Ok(None);
    }
    let area = placement.area();
    // `across` and `down` are factors of the edges.
    let agreement = |format: BoxFormat, (across, down): (f32, f32)| {
        let read = |reading: &Reading<'_>, candidate: &Candidate| {
            let boxes = Boxes {
                format,
                ..reading.boxes
            };
            let TensorBox { x1, y1, x2, y2 } = boxes.corners(candidate.row);
            TensorBox {
                x1: x1 * across,
                y1: y1 * down,
                x2: x2 * across,
                y2: y2 * down,
            }
        };
        let theirs: Vec<(usize, TensorBox)> = strong_other
            .iter()
            .take(MOST)
            .map(|candidate| (candidate.class_id, read(other, candidate)))
            .collect();
        let looked_at = strong.iter().take(MOST);
        let best = looked_at.clone().map(|candidate| {
            let TensorBox { x1, y1, x2, y2 } = read(reading, candidate);
            let flipped = TensorBox {
                x1: area.x1 + area.x2 - x2,
                y1,
                x2: area.x1 + area.x2 - x1,
                y2,
            };
            let of_its_class = theirs.iter().filter(|other| other.0 == candidate.class_id);
            let overlaps = of_its_class.map(|other| iou(&flipped, &other.1));
            let is_box = x2 > x1 && y2 > y1;
            overlaps.fold(0.0, f32::max) * f32::from(u8::from(is_box))
        });
        #[expect(clippy::cast_precision_loss, reason = "there are 50 at most")]
        let mean = best.sum::<f32>() / looked_at.count() as f32;
        mean
    };
    let as_it_is = (1.0, 1.0);
    let now = agreement(reading.boxes.format, as_it_is);
    let best = formats_inside(reading, strong, &area)
        .into_iter()
        .map(|format| (agreement(format, as_it_is), format))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let seen = "the objects on the test picture are not at the mirrored places in its mirror image";
    if let Some((other, format)) = best
        && is_clearly_better(other, now)
    {
        return Err(refused(seen, "output.box_format", format.word()));
    }
    // Boxes in pixels are what they are because the model was told the size of the input; width and height may be in the wrong order.
    let (width, height) = reading.boxes.input;
    if let Outputs::Lists { .. } = postprocessor.output().outputs
        && reading.boxes.units == BoxUnits::Pixels
        && is_clearly_better(
            agreement(reading.boxes.format, (width / height, height / width)),
            now,
        )
    {
        return Err(refused(seen, "input.extra", ""));
    }
    Ok(Some(now))
}

/// True if boxes overlap those that they should be with this mean, where others do so with that one.
fn is_clearly_better(mean: f32, than: f32) -> bool {
    mean > 0.6 && mean > than + 0.2
}

/// The other formats with which nearly all objects are boxes inside the picture. Boxes that are read too large overlap with everything.
fn formats_inside(
    reading: &Reading<'_>,
    strong: &[Candidate],
    picture: &TensorBox,
) -> Vec<BoxFormat> {
    let looked_at: Vec<&Candidate> = strong.iter().take(MOST).collect();
    let mut others = other_formats(&reading.boxes);
    others.retain(|format| {
        let boxes = Boxes {
            format: *format,
            ..reading.boxes
        };
        let is_out = |one: &&&Candidate| {
            let corners = boxes.corners(one.row);
            corners.x2 <= corners.x1 || corners.y2 <= corners.y1 || is_off(&corners, picture)
        };
        4 * looked_at.iter().filter(is_out).count() <= looked_at.len()
    });
    others
}
