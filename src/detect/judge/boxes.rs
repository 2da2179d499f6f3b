//! Boxes and keypoints on the test picture: whether they can be those of objects there, with the key that is likely wrong.

use super::{Judgement, MOST, SURE, refused};
use crate::detect::manifest::file::{BoxFormat, BoxUnits, Kind};
use crate::detect::nms::Candidate;
use crate::detect::output::Numbers;
use crate::detect::postprocess::{Boxes, Decoding, Postprocessor, Reading};
use crate::preprocess::{Placement, TensorBox};

/// An object all of whose sides are shorter than this in pixels of the input is no object.
const POINT: f32 = 4.0;

/// No number of this many boxes is over 2 by chance.
const MANY_BOXES: usize = 16;

/// So many objects outside of the picture tell something even if the model is sure of none.
const SEVERAL: usize = 4;

/// Boxes of pixels are larger than one, and shares are not.
pub(super) fn judge_units(reading: &Reading<'_>, strong: &[Candidate]) -> Result<(), Judgement> {
    if !matches!(reading.boxes.decoding, Decoding::Plain) || reading.boxes.units != BoxUnits::Pixels
    {
        return Ok(());
    }
    let numbers = reading.boxes.numbers;
    let largest = |row: usize| (0..4).map(|n| numbers.at(row, n).abs()).fold(0.0, f32::max);
    let rows = reading.boxes.numbers.rows();
    let highest = if strong.is_empty() && reading.kind_of_scores() == Numbers::EachClass {
        (rows >= MANY_BOXES).then(|| (0..rows).map(largest).fold(0.0, f32::max))
    } else {
        let all = strong
            .iter()
            .take(MOST)
            .map(|candidate| largest(candidate.row));
        all.reduce(f32::max)
    };
    match highest {
        Some(highest) if highest <= 2.0 => {
            let seen = format!(
                "no number of a box in output `{}` is larger than {highest} on the test picture",
                reading.boxes_name
            );
            Err(refused(seen, "output.box_units", "shares"))
        }
        _ => Ok(()),
    }
}

/// Objects are more than points.
pub(super) fn judge_sizes(
    postprocessor: &Postprocessor,
    reading: &Reading<'_>,
    strong: &[Candidate],
) -> Result<(), Judgement> {
    let side = |candidate: &Candidate| {
        let TensorBox { x1, y1, x2, y2 } = candidate.corners;
        (x2 - x1).max(y2 - y1)
    };
    let largest = strong.iter().take(MOST).map(side).reduce(f32::max);
    match largest {
        Some(largest) if largest < POINT => {
            let seen = format!(
                "no object in output `{}` is larger than {largest:.1} pixels of the input on the test picture",
                reading.boxes_name
            );
            // They may be places in the cells of a grid.
            let remedy = match postprocessor.output().kind {
                Kind::YoloObjectness => "yolox",
                _ => "",
            };
            Err(refused(seen, "output.kind", remedy))
        }
        _ => Ok(()),
    }
}

/// True if a box is not inside the picture, which lies in `area` of the input. A little beyond its edges is inside.
pub(super) fn is_off(corners: &TensorBox, area: &TensorBox) -> bool {
    let (wide, high) = (area.x2 - area.x1, area.y2 - area.y1);
    let TensorBox { x1, y1, x2, y2 } = *corners;
    let (cx, cy) = ((x1 + x2) / 2.0, (y1 + y2) / 2.0);
    let beyond = [
        (area.x1 - x1) / wide,
        (x2 - area.x2) / wide,
        (area.y1 - y1) / high,
        (y2 - area.y2) / high,
    ];
    let is_centre_off = cx < area.x1 - 0.02 * wide
        || cx > area.x2 + 0.02 * wide
        || cy < area.y1 - 0.02 * high
        || cy > area.y2 + 0.02 * high;
    is_centre_off || beyond.into_iter().any(|share| share > 0.2)
}

/// The other formats with which the boxes of all these candidates are inside the picture, as a remedy names them.
pub(super) fn formats_that_fit(
    reading: &Reading<'_>,
    rows: &[usize],
    placement: &Placement,
) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let fits = |format: BoxFormat| {
        let boxes = Boxes {
            format,
            ..reading.boxes
        };
        rows.iter().all(|&row| {
            let corners = boxes.corners(row);
            let is_box = corners.x2 > corners.x1 && corners.y2 > corners.y1;
            is_box && !is_off(&corners, &placement.area())
        })
    };
    let mut formats = other_formats(&reading.boxes);
    formats.retain(|format| fits(*format));
    let words: Vec<&str> = formats.iter().map(|format| format.word()).collect();
    words.join("` or `")
}

/// The formats that a writer of a manifest may take for the right one.
pub(super) fn other_formats(boxes: &Boxes<'_>) -> Vec<BoxFormat> {
    let formats: &[BoxFormat] = match (boxes.decoding, boxes.format) {
        (Decoding::Plain, _) => BoxFormat::ALL,
        (Decoding::Anchors(_), BoxFormat::Yxyx) => &[BoxFormat::Cxcywh],
        (Decoding::Anchors(_), _) => &[BoxFormat::Yxyx],
        (Decoding::Grids(_) | Decoding::Heatmap { .. }, _) => &[],
    };
    let others = formats.iter().filter(|format| **format != boxes.format);
    others.copied().collect()
}

/// Objects lie in the picture. Where they lie beside it, in the padding, another format of boxes is the right one if they are in the
/// picture with that; else the model sees something in the padding, which a few do.
pub(super) fn judge_places(
    reading: &Reading<'_>,
    strong: &[Candidate],
    placement: &Placement,
) -> Result<(), Judgement> {
    let picture = placement.area();
    let looked_at: Vec<&Candidate> = strong.iter().take(MOST).collect();
    let rows: Vec<usize> = looked_at.iter().map(|candidate| candidate.row).collect();
    let remedy = formats_that_fit(reading, &rows, placement);
    let (width, height) = reading.boxes.input;
    let input = TensorBox {
        x1: 0.0,
        y1: 0.0,
        x2: width,
        y2: height,
    };
    let area = if remedy.is_empty() { input } else { picture };
    let off: Vec<&&Candidate> = looked_at
        .iter()
        .filter(|candidate| is_off(&candidate.corners, &area))
        .collect();
    // A model of other things may take an edge of the picture for one, without being sure.
    let is_told = |one: &Candidate| one.score >= SURE || off.len() >= SEVERAL;
    if let Some(one) = off.first()
        && 4 * off.len() > looked_at.len()
        && is_told(one)
    {
        let TensorBox { x1, y1, x2, y2 } = one.corners;
        let seen = format!(
            "{} of {} objects on the test picture {} not inside it: one is read as from ({x1:.1}, {y1:.1}) to ({x2:.1}, {y2:.1}), \
             and the picture is from ({}, {}) to ({}, {}) in the input",
            off.len(),
            looked_at.len(),
            if off.len() == 1 { "is" } else { "are" },
            picture.x1,
            picture.y1,
            picture.x2,
            picture.y2
        );
        let key = match reading.boxes.decoding {
            _ if !remedy.is_empty() => "output.box_format",
            Decoding::Plain => "output.box_format",
            Decoding::Anchors(_) => "output.anchors",
            Decoding::Grids(_) => "output.strides",
            Decoding::Heatmap { .. } => "output.size",
        };
        return Err(refused(seen, key, &remedy));
    }
    Ok(())
}

/// Keypoints lie about their objects.
pub(super) fn judge_keypoints(
    postprocessor: &Postprocessor,
    reading: &Reading<'_>,
    strong: &[Candidate],
) -> Result<(), Judgement> {
    let numbers = postprocessor.output().keypoint_numbers;
    let (mut all, mut off) = (0usize, 0usize);
    for candidate in strong.iter().take(MOST) {
        let TensorBox { x1, y1, x2, y2 } = candidate.corners;
        let (wide, high) = ((x2 - x1) / 4.0, (y2 - y1) / 4.0);
        for (x, y, score) in reading.keypoints_in_tensor(candidate, numbers) {
            all += 1;
            let is_near = x >= x1 - wide && x <= x2 + wide && y >= y1 - high && y <= y2 + high;
            let is_score = (-0.011..=1.011).contains(&score);
            off += usize::from(!is_near || !is_score);
        }
    }
    if 2 * off > all {
        let seen = format!(
            "{off} of {all} keypoints on the test picture are nowhere near their object, or have no score from 0 to 1"
        );
        return Err(refused(seen, "output.keypoint_numbers", ""));
    }
    Ok(())
}
