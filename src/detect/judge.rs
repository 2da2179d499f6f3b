//! The judgement of a model on a test picture: its outputs there, and on the mirror image, come in; whether they can be those of a
//! detector that is read rightly goes out, with the key of the manifest that is most likely wrong. The detector runs it before a
//! model is used, since outputs that are misread look like results otherwise.
//!
//! What no output tells stays unjudged: whether colours are in the right order, and which label belongs to a number.

use std::io::Cursor;

use super::manifest::file::{Activation, Background, BoxFormat, BoxUnits};
use super::nms::{Candidate, iou};
use super::output::{Numbers, Outputs};
use super::postprocess::{
    Array, Decoding, Filter, Implausible, Matrix, Mismatch, Postprocessor, Reading, Scores,
    Scratch, sigmoid,
};
use crate::preprocess::{Picture, Placement, TensorBox};
use twinsight_media::picture::PictureSize;

/// A footballer with a ball on a lawn, wider than high; see `tests/data/README.md` for its origin.
const PICTURE: &[u8] = include_bytes!("judge/footballer.jpg");

/// Candidates with this score are taken for objects.
const STRONG: f32 = 0.3;

/// The best this many of them are looked at.
const MOST: usize = 50;

/// Fewer candidates than this tell nothing by being alike.
const FEW: usize = 16;

/// The picture that models are tried on.
pub(crate) struct TestPicture {
    pixels: Vec<u8>,
    flipped: Vec<u8>,
    size: PictureSize,
}

impl TestPicture {
    pub(crate) fn new() -> Self {
        let mut reader = image::ImageReader::new(Cursor::new(PICTURE));
        reader.set_format(image::ImageFormat::Jpeg);
        let image = reader
            .decode()
            .expect("the picture is a part of the program, and a test decodes it")
            .into_rgb8();
        Self::of(image)
    }

    /// Another picture to try a model on.
    pub(crate) fn of(mut image: image::RgbImage) -> Self {
        let size = PictureSize {
            width_px: image.width() as usize,
            height_px: image.height() as usize,
        };
        let pixels = image.as_raw().clone();
        image::imageops::flip_horizontal_in_place(&mut image);
        Self {
            pixels,
            flipped: image.into_raw(),
            size,
        }
    }

    pub(crate) fn as_it_is(&self) -> Picture<'_> {
        Picture::Rgb {
            data: &self.pixels,
            size: self.size,
        }
    }

    pub(crate) fn mirrored(&self) -> Picture<'_> {
        Picture::Rgb {
            data: &self.flipped,
            size: self.size,
        }
    }

    /// The pixels, three bytes each, row after row.
    pub(crate) fn pixels(&self) -> (&[u8], PictureSize) {
        (&self.pixels, self.size)
    }
}

/// An output that was copied, since the next run overwrites it.
#[derive(Debug, Clone)]
pub(crate) struct OwnedArray {
    pub(crate) name: String,
    pub(crate) dims: Vec<i64>,
    pub(crate) values: Vec<f32>,
}

/// Copies outputs.
pub(crate) fn copy(arrays: &[Array<'_>]) -> Vec<OwnedArray> {
    let copied = arrays.iter().map(|array| OwnedArray {
        name: array.name.to_owned(),
        dims: array.dims.to_vec(),
        values: array.values.to_vec(),
    });
    copied.collect()
}

/// Outputs that were copied, as they were.
pub(crate) fn arrays(owned: &[OwnedArray]) -> Vec<Array<'_>> {
    let borrowed = owned.iter().map(|array| Array {
        name: &array.name,
        dims: &array.dims,
        values: &array.values,
    });
    borrowed.collect()
}

/// What was seen on the test picture.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Evidence {
    /// How many candidates are sure enough to be objects, before NMS.
    pub(crate) strong: usize,
    /// The highest score of all.
    pub(crate) top_score: f32,
    /// The share of the objects that are at the mirrored place in the mirror image, if the outputs depend on the picture.
    pub(crate) mirrored: Option<f32>,
    /// The class of the candidate with the highest score.
    pub(crate) top_class: Option<usize>,
}

/// The result of a judgement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Judgement {
    /// The outputs can be those of a detector.
    Fits(Evidence),
    /// An output has another shape than the manifest says.
    Shape(Mismatch),
    /// The numbers cannot be those of a detector that is read rightly.
    Refused {
        /// What was seen, a sentence.
        seen: String,
        /// The key that is most likely wrong.
        key: &'static str,
        /// What it should most likely be, a clause that follows "correct `key` in the manifest"; or nothing.
        remedy: String,
    },
}

/// Judges the outputs of a model on the test picture and on its mirror image. `placement` says where the picture lies in the
/// tensor.
pub(crate) fn judge(
    postprocessor: &Postprocessor,
    first: &[OwnedArray],
    mirrored: &[OwnedArray],
    placement: &Placement,
) -> Judgement {
    match try_judge(postprocessor, first, mirrored, placement) {
        Ok(evidence) => Judgement::Fits(evidence),
        Err(judgement) => judgement,
    }
}

fn refused(seen: impl Into<String>, key: &'static str, remedy: &str) -> Judgement {
    let remedy = if remedy.is_empty() {
        String::new()
    } else {
        format!(": `{remedy}` fits what was seen")
    };
    Judgement::Refused {
        seen: seen.into(),
        key,
        remedy,
    }
}

fn try_judge(
    postprocessor: &Postprocessor,
    first: &[OwnedArray],
    mirrored: &[OwnedArray],
    placement: &Placement,
) -> Result<Evidence, Judgement> {
    let first = arrays(first);
    let reading = postprocessor.read(&first).map_err(Judgement::Shape)?;
    judge_scores(&reading)?;
    judge_classes(postprocessor, &reading)?;
    let strong = strong_candidates(postprocessor, &reading)?;
    judge_crowd(postprocessor, &reading, strong.len())?;
    judge_units(&reading, &strong)?;
    judge_places(&reading, &strong, placement)?;
    judge_keypoints(postprocessor, &reading, &strong)?;
    let mirrored = arrays(mirrored);
    let mirrored = judge_mirrored(postprocessor, &reading, &strong, &mirrored, placement)?;
    let top_score = strong.first().map_or(0.0, |candidate| candidate.score);
    Ok(Evidence {
        strong: strong.len(),
        top_score,
        mirrored,
        top_class: strong.first().map(|candidate| candidate.class_id),
    })
}

/// The lowest and the highest of all numbers, if none of them is NaN.
fn range(numbers: Matrix<'_>) -> Option<(f32, f32)> {
    let mut range = (f32::INFINITY, f32::NEG_INFINITY);
    for slice in numbers.slices() {
        for &number in slice {
            if number.is_nan() {
                return None;
            }
            range = (range.0.min(number), range.1.max(number));
        }
    }
    Some(range)
}

fn judge_scores(reading: &Reading<'_>) -> Result<(), Judgement> {
    let (numbers, what) = match reading.scores {
        Scores::EachClass(numbers) => (numbers, Numbers::EachClass),
        Scores::OneClass { score, .. } => (score, Numbers::OneClass),
    };
    let count = numbers.rows() * numbers.columns();
    if count == 0 {
        return Ok(());
    }
    let name = reading.scores_name;
    let Some((low, high)) = range(numbers) else {
        let seen = format!("output `{name}` has NaN as a score on the test picture");
        return Err(refused(seen, "input.scale", ""));
    };
    let between = if low == high {
        format!("all scores of output `{name}` are {low} on the test picture")
    } else {
        format!("the scores of output `{name}` are from {low} to {high} on the test picture")
    };
    let is_within = low >= -0.011 && high <= 1.011;
    match reading.activation {
        Activation::None if !is_within => {
            let (key, remedy) = match what {
                Numbers::EachClass => ("output.activation", "sigmoid"),
                Numbers::OneClass => ("output.columns", ""),
            };
            return Err(refused(between, key, remedy));
        }
        Activation::Sigmoid | Activation::Softmax if is_within && count >= FEW => {
            return Err(refused(between, "output.activation", "none"));
        }
        _ => {}
    }
    if what == Numbers::EachClass && count >= FEW && low == high {
        return Err(refused(between, "output.kind", ""));
    }
    if let Some(objectness) = reading.objectness
        && let Some((low, high)) = range(objectness)
        && reading.activation == Activation::None
        && !(low >= -0.011 && high <= 1.011)
    {
        let seen = format!(
            "the objectness in output `{name}` is from {low} to {high} on the test picture"
        );
        return Err(refused(seen, "output.activation", "sigmoid"));
    }
    Ok(())
}

/// Numbers of classes are whole.
fn judge_classes(postprocessor: &Postprocessor, reading: &Reading<'_>) -> Result<(), Judgement> {
    let Scores::OneClass { score, class } = reading.scores else {
        return Ok(());
    };
    for row in 0..reading.boxes.numbers.rows() {
        let (score, class) = (score.at(row, 0), class.at(row, 0));
        let is_strong = match reading.activation {
            Activation::None => score >= STRONG,
            Activation::Sigmoid | Activation::Softmax => sigmoid(score) >= STRONG,
        };
        if !is_strong {
            continue;
        }
        let key = match postprocessor.output().outputs {
            Outputs::Table { .. } => "output.columns",
            _ => "output.labels",
        };
        if !class.is_finite() || (class - class.round()).abs() > 0.001 {
            let seen =
                format!("a box with the score {score} has {class} for the number of its class");
            return Err(refused(seen, key, ""));
        }
        let labels = postprocessor.output().classes;
        let first = f32::from(u8::from(reading.background == Background::First));
        #[expect(clippy::cast_precision_loss, reason = "models have few classes")]
        if class - first >= labels as f32 {
            let seen = format!(
                "a box with the score {score} has {class} for the number of its class, and there are {labels} labels"
            );
            return Err(refused(seen, "labels", ""));
        }
    }
    Ok(())
}

/// The candidates that are sure enough to be objects, best first.
fn strong_candidates(
    postprocessor: &Postprocessor,
    reading: &Reading<'_>,
) -> Result<Vec<Candidate>, Judgement> {
    let classes = postprocessor.output().classes;
    let labels = vec![String::from("any"); classes];
    let mut filter = Filter::new(&labels);
    filter.set(STRONG, &[]);
    let mut scratch = Scratch::default();
    reading
        .candidates(&filter, &mut scratch)
        .map_err(|Implausible { output, found, place, expected, key }| {
            // Shares of an input that were pixels are far outside, and pixels that were shares are points.
            let seen = format!("output `{output}` has {found} as {place} on the test picture, which should be {expected}");
            let remedy = match (key, reading.boxes.units) {
                ("output.box_units", BoxUnits::Shares) => "pixels",
                _ => "",
            };
            refused(seen, key, remedy)
        })?;
    let mut strong = scratch.candidates;
    strong.sort_by(|a, b| b.score.total_cmp(&a.score));
    Ok(strong)
}

/// Most places of a picture show nothing.
fn judge_crowd(
    postprocessor: &Postprocessor,
    reading: &Reading<'_>,
    strong: usize,
) -> Result<(), Judgement> {
    let all = reading.boxes.numbers.rows();
    if reading.kind_of_scores() == Numbers::OneClass || all < FEW || 2 * strong <= all {
        return Ok(());
    }
    let seen = format!("{strong} of {all} candidates are objects on the test picture");
    let key = match postprocessor.output().background {
        Background::None => "output.activation",
        Background::First | Background::Last => "output.background",
    };
    Err(refused(seen, key, ""))
}

/// Boxes of pixels are larger than one, and shares are not.
fn judge_units(reading: &Reading<'_>, strong: &[Candidate]) -> Result<(), Judgement> {
    if !matches!(reading.boxes.decoding, Decoding::Plain) || reading.boxes.units != BoxUnits::Pixels
    {
        return Ok(());
    }
    let numbers = reading.boxes.numbers;
    let largest = |row: usize| (0..4).map(|n| numbers.at(row, n).abs()).fold(0.0, f32::max);
    let rows = reading.boxes.numbers.rows();
    let highest = if strong.is_empty() && reading.kind_of_scores() == Numbers::EachClass {
        (rows >= FEW).then(|| (0..rows).map(largest).fold(0.0, f32::max))
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

/// Objects lie in the picture.
fn judge_places(
    reading: &Reading<'_>,
    strong: &[Candidate],
    placement: &Placement,
) -> Result<(), Judgement> {
    let area = placement.area();
    let (wide, high) = (area.x2 - area.x1, area.y2 - area.y1);
    let is_off = |candidate: &&Candidate| {
        let TensorBox { x1, y1, x2, y2 } = candidate.corners;
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
    };
    let looked_at: Vec<&Candidate> = strong.iter().take(MOST).collect();
    let off: Vec<&&Candidate> = looked_at
        .iter()
        .filter(|candidate| is_off(candidate))
        .collect();
    if let Some(one) = off.first()
        && 4 * off.len() > looked_at.len()
    {
        let TensorBox { x1, y1, x2, y2 } = one.corners;
        let seen = format!(
            "{} of {} objects on the test picture are not inside it: one is read as from ({x1:.1}, {y1:.1}) to ({x2:.1}, {y2:.1}), \
             and the picture is from ({}, {}) to ({}, {}) in the input",
            off.len(),
            looked_at.len(),
            area.x1,
            area.y1,
            area.x2,
            area.y2
        );
        let key = match reading.boxes.decoding {
            Decoding::Plain => "output.box_format",
            Decoding::Anchors(_) => "output.anchors",
            Decoding::Grids(_) => "output.strides",
            Decoding::Heatmap { .. } => "output.size",
        };
        return Err(refused(seen, key, ""));
    }
    Ok(())
}

/// Keypoints lie about their objects.
fn judge_keypoints(
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
        let seen =
            format!("{off} of {all} keypoints on the test picture are nowhere near their object");
        return Err(refused(seen, "output.keypoint_numbers", ""));
    }
    Ok(())
}

/// An object is at the mirrored place in the mirror image. What reads a box wrongly, as y before x, breaks this.
fn judge_mirrored(
    postprocessor: &Postprocessor,
    reading: &Reading<'_>,
    strong: &[Candidate],
    mirrored: &[Array<'_>],
    placement: &Placement,
) -> Result<Option<f32>, Judgement> {
    let Ok(other) = postprocessor.read(mirrored) else {
        return Ok(None);
    };
    let Ok(strong_other) = strong_candidates(postprocessor, &other) else {
        return Ok(None);
    };
    let place = |candidate: &Candidate| candidate.corners;
    let is_same = strong.len() == strong_other.len()
        && strong
            .iter()
            .zip(&strong_other)
            .all(|(a, b)| place(a) == place(b));
    // A model whose outputs do not depend on the picture cannot be judged so.
    if strong.is_empty() || strong_other.is_empty() || is_same {
        return Ok(None);
    }
    let area = placement.area();
    let agreement = |format: BoxFormat| {
        let read = |reading: &Reading<'_>, candidate: &Candidate| {
            let boxes = super::postprocess::Boxes {
                format,
                ..reading.boxes
            };
            boxes.corners(candidate.row)
        };
        let theirs: Vec<(usize, TensorBox)> = strong_other
            .iter()
            .take(MOST)
            .map(|candidate| (candidate.class_id, read(&other, candidate)))
            .collect();
        let looked_at = strong.iter().take(MOST);
        let found = looked_at.clone().filter(|candidate| {
            let TensorBox { x1, y1, x2, y2 } = read(reading, candidate);
            let flipped = TensorBox {
                x1: area.x1 + area.x2 - x2,
                y1,
                x2: area.x1 + area.x2 - x1,
                y2,
            };
            let is_box = x2 > x1 && y2 > y1;
            is_box
                && theirs.iter().any(|(class_id, other)| {
                    *class_id == candidate.class_id && iou(&flipped, other) > 0.6
                })
        });
        #[expect(clippy::cast_precision_loss, reason = "there are 50 at most")]
        let share = found.count() as f32 / looked_at.count() as f32;
        share
    };
    let now = agreement(reading.boxes.format);
    if matches!(reading.boxes.decoding, Decoding::Plain) {
        let others = BoxFormat::ALL
            .iter()
            .filter(|format| **format != reading.boxes.format);
        let best = others
            .map(|&format| (agreement(format), format))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((share, format)) = best
            && now < 0.3
            && share > 0.7
        {
            let seen = "the objects on the test picture are not at the mirrored places in its mirror image";
            return Err(refused(seen, "output.box_format", format.word()));
        }
    }
    Ok(Some(now))
}

#[cfg(test)]
#[path = "judge/tests.rs"]
mod tests;
