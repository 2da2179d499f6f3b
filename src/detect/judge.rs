//! The judgement of a model on a test picture: its outputs there, and on the mirror image, come in; whether they can be those of a
//! detector that is read rightly goes out, with the key of the manifest that is most likely wrong. The detector runs it before a
//! model is used, since outputs that are misread look like results otherwise.
//!
//! What no output tells stays unjudged: whether colours are in the right order, and which label belongs to a number.

use std::io::Cursor;

use super::manifest::file::{Activation, Background, BoxFormat, BoxUnits, Column};
use super::nms::{Candidate, iou};
use super::output::{Numbers, Outputs};
use super::postprocess::{
    Array, Boxes, Decoding, Filter, Implausible, Matrix, Mismatch, Postprocessor, Reading, Scores,
    Scratch, sigmoid,
};
use crate::preprocess::{Picture, Placement, TensorBox};
use twinsight_media::picture::PictureSize;

/// A footballer with a ball on a lawn, wider than high: OpenCV's sample `messi5.jpg` of Debian's `opencv-doc` 4.6.0 (Apache-2.0 and
/// BSD-3-Clause), scaled to 416 pixels and darkened. See `tests/data/pictures/README.md`.
const PICTURE: &[u8] = include_bytes!("judge/footballer.jpg");

/// Candidates with this score are taken for objects.
const STRONG: f32 = 0.3;

/// With this score, a model is sure of an object.
const SURE: f32 = 0.5;

/// The best this many of them are looked at.
const MOST: usize = 50;

/// An object all of whose sides are shorter than this in pixels of the input is no object.
const POINT: f32 = 4.0;

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
    labels: &[String],
    first: &[OwnedArray],
    mirrored: &[OwnedArray],
    placement: &Placement,
) -> Judgement {
    let evidence = match try_judge(postprocessor, labels, first, mirrored, placement) {
        Ok(evidence) if evidence.strong > 0 => return Judgement::Fits(evidence),
        Ok(evidence) => evidence,
        Err(judgement) => return judgement,
    };
    // Nothing is seen. If columns in another order show something, they are in the wrong one.
    if let Some(columns) = other_order(postprocessor) {
        let words: Vec<String> = columns
            .iter()
            .map(|column| format!("\"{column}\""))
            .collect();
        let other = postprocessor.with_columns(columns);
        let found = try_judge(&other, labels, first, mirrored, placement);
        if found.is_ok_and(|found| found.strong > 0) {
            let seen = "nothing is seen on the test picture, and with the numbers in another order something is";
            return refused(seen, "output.columns", &format!("[{}]", words.join(", ")));
        }
    }
    Judgement::Fits(evidence)
}

/// The order of columns that a writer of a manifest takes for the right one, if there is one.
fn other_order(postprocessor: &Postprocessor) -> Option<Vec<Column>> {
    let Outputs::Table { columns, .. } = &postprocessor.output().outputs else {
        return None;
    };
    let at = |column| columns.iter().position(|found| *found == column);
    let (score, class) = (at(Column::Score)?, at(Column::Class)?);
    let mut other = columns.to_vec();
    other.swap(score, class);
    Some(other)
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
    labels: &[String],
    first: &[OwnedArray],
    mirrored: &[OwnedArray],
    placement: &Placement,
) -> Result<Evidence, Judgement> {
    let first = arrays(first);
    let reading = postprocessor.read(&first).map_err(Judgement::Shape)?;
    judge_scores(&reading)?;
    judge_classes(postprocessor, &reading)?;
    judge_nothing(&reading)?;
    let strong = strong_candidates(postprocessor, &reading)?;
    judge_crowd(postprocessor, &reading, strong.len())?;
    judge_units(&reading, &strong)?;
    judge_sizes(&reading, &strong)?;
    judge_places(&reading, &strong, placement)?;
    judge_keypoints(postprocessor, &reading, &strong)?;
    let mirrored = arrays(mirrored);
    let mirrored = judge_mirrored(postprocessor, &reading, &strong, &mirrored, placement)?;
    if mirrored.is_some() {
        judge_labels(labels, &strong)?;
    }
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
        // A few numbers before the activation may be in that range by chance. But NMS needs scores, so lists have nothing else.
        Activation::Sigmoid | Activation::Softmax
            if is_within && (count >= FEW || what == Numbers::OneClass) =>
        {
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
    let key = match postprocessor.output().outputs {
        Outputs::Table { .. } => "output.columns",
        _ => "output.labels",
    };
    let rows = reading.boxes.numbers.rows();
    let is_broken = |row: &usize| (class.at(*row, 0) - class.at(*row, 0).round()).abs() > 0.001;
    let broken: Vec<usize> = (0..rows).filter(is_broken).collect();
    if let Some(&row) = broken.first()
        && 2 * broken.len() > rows
    {
        let class = class.at(row, 0);
        let seen = format!(
            "{} of {rows} boxes have no whole number for their class on the test picture, as {class}",
            broken.len()
        );
        return Err(refused(seen, key, ""));
    }
    for row in 0..rows {
        let (score, class) = (score.at(row, 0), class.at(row, 0));
        let is_strong = match reading.activation {
            Activation::None => score >= STRONG,
            Activation::Sigmoid | Activation::Softmax => sigmoid(score) >= STRONG,
        };
        if !is_strong {
            continue;
        }
        if !class.is_finite() || (class - class.round()).abs() > 0.001 {
            let seen =
                format!("a box with the score {score} has {class} for the number of its class");
            return Err(refused(seen, key, ""));
        }
        if reading.background == Background::First && class.round() == 0.0 {
            let seen = format!("a box has the score {score} and the number of the background");
            return Err(refused(seen, "output.background", "none"));
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

/// Where a softmax is over "nothing" too, most candidates are nothing. RF-DETR keeps a place for it and takes the sigmoid.
fn judge_nothing(reading: &Reading<'_>) -> Result<(), Judgement> {
    let (Scores::EachClass(numbers), Activation::Softmax) = (reading.scores, reading.activation)
    else {
        return Ok(());
    };
    let rows = numbers.rows();
    let last = numbers.columns().saturating_sub(1);
    let (nothing, other, word) = match reading.background {
        Background::First => (0, last, Background::Last.word()),
        Background::Last => (last, 0, Background::First.word()),
        Background::None => return Ok(()),
    };
    let is_on_top = |column: usize| {
        let is_highest = |row: usize| {
            let top = numbers.at(row, column);
            (0..numbers.columns()).all(|other| numbers.at(row, other) <= top)
        };
        (0..rows).filter(|&row| is_highest(row)).count()
    };
    let found = is_on_top(nothing);
    if rows < FEW || 2 * found >= rows {
        return Ok(());
    }
    let seen = format!(
        "the number of the class for \"nothing\" is the highest of {found} of {rows} candidates on the test picture, and should be of most"
    );
    // With one class, that class is the likeliest of most candidates, and tells nothing.
    if numbers.columns() > 2 && 2 * is_on_top(other) >= rows {
        Err(refused(seen, "output.background", word))
    } else {
        Err(refused(seen, "output.activation", "sigmoid"))
    }
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

/// Objects are more than points.
fn judge_sizes(reading: &Reading<'_>, strong: &[Candidate]) -> Result<(), Judgement> {
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
            Err(refused(seen, "output.kind", ""))
        }
        _ => Ok(()),
    }
}

/// How many of these boxes are not inside the area, or are no boxes at all.
fn outside(boxes: &[TensorBox], area: &TensorBox) -> usize {
    let (wide, high) = (area.x2 - area.x1, area.y2 - area.y1);
    let is_off = |corners: &&TensorBox| {
        let TensorBox { x1, y1, x2, y2 } = **corners;
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
        let is_box = x2 > x1 && y2 > y1;
        !is_box || is_centre_off || beyond.into_iter().any(|share| share > 0.2)
    };
    boxes.iter().filter(is_off).count()
}

/// Objects lie in the picture. Where they lie beside it, in the padding, another format of boxes is the right one if they are in the
/// picture with that; else the model sees something in the padding, which a few do.
fn judge_places(
    reading: &Reading<'_>,
    strong: &[Candidate],
    placement: &Placement,
) -> Result<(), Judgement> {
    let picture = placement.area();
    let looked_at: Vec<&Candidate> = strong.iter().take(MOST).collect();
    let read = |format: BoxFormat| -> Vec<TensorBox> {
        let boxes = Boxes {
            format,
            ..reading.boxes
        };
        looked_at
            .iter()
            .map(|candidate| boxes.corners(candidate.row))
            .collect()
    };
    let boxes = read(reading.boxes.format);
    let is_bad = |off: usize| 4 * off > looked_at.len();
    if !is_bad(outside(&boxes, &picture)) {
        return Ok(());
    }
    let others = other_formats(&reading.boxes);
    let fits = others
        .iter()
        .find(|format| outside(&read(**format), &picture) == 0);
    let (width, height) = reading.boxes.input;
    let input = TensorBox {
        x1: 0.0,
        y1: 0.0,
        x2: width,
        y2: height,
    };
    let area = if fits.is_some() { picture } else { input };
    let off = outside(&boxes, &area);
    let one = boxes
        .iter()
        .find(|corners| outside(&[**corners], &area) > 0);
    let Some(TensorBox { x1, y1, x2, y2 }) = one.filter(|_| is_bad(off)) else {
        return Ok(());
    };
    let seen = format!(
        "{off} of {} objects on the test picture are not inside it: one is read as from ({x1:.1}, {y1:.1}) to ({x2:.1}, {y2:.1}), \
         and the picture is from ({}, {}) to ({}, {}) in the input",
        looked_at.len(),
        picture.x1,
        picture.y1,
        picture.x2,
        picture.y2
    );
    let key = match reading.boxes.decoding {
        _ if fits.is_some() => "output.box_format",
        Decoding::Plain => "output.box_format",
        Decoding::Anchors(_) => "output.anchors",
        Decoding::Grids(_) => "output.strides",
        Decoding::Heatmap { .. } => "output.size",
    };
    Err(refused(seen, key, fits.map_or("", |format| format.word())))
}

/// The formats that a writer of a manifest may take for the right one.
fn other_formats(boxes: &Boxes<'_>) -> Vec<BoxFormat> {
    let formats: &[BoxFormat] = match (boxes.decoding, boxes.format) {
        (Decoding::Plain, _) => BoxFormat::ALL,
        (Decoding::Anchors(_), BoxFormat::Yxyx) => &[BoxFormat::Cxcywh],
        (Decoding::Anchors(_), _) => &[BoxFormat::Yxyx],
        (Decoding::Grids(_) | Decoding::Heatmap { .. }, _) => &[],
    };
    let others = formats.iter().filter(|format| **format != boxes.format);
    others.copied().collect()
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

/// True if boxes overlap those that they should be with this mean, where others do so with that one.
fn is_clearly_better(mean: f32, than: f32) -> bool {
    mean > 0.6 && mean > than + 0.2
}

/// The other formats with which all objects are boxes inside the picture. Boxes that are read too large overlap with everything.
fn formats_inside(
    reading: &Reading<'_>,
    strong: &[Candidate],
    picture: &TensorBox,
) -> Vec<BoxFormat> {
    let mut others = other_formats(&reading.boxes);
    others.retain(|format| {
        let boxes = Boxes {
            format: *format,
            ..reading.boxes
        };
        let looked_at = strong.iter().take(MOST);
        let read: Vec<TensorBox> = looked_at.map(|one| boxes.corners(one.row)).collect();
        4 * outside(&read, picture) <= read.len()
    });
    others
}

/// A model of COCO's classes that is sure of something is sure of the player or of the ball.
fn judge_labels(labels: &[String], strong: &[Candidate]) -> Result<(), Judgement> {
    let is_coco = ["person", "sports ball", "toothbrush"]
        .iter()
        .all(|label| labels.iter().any(|known| known == label));
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
            .map(|candidate| (candidate.class_id, read(&other, candidate)))
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

#[cfg(test)]
#[path = "judge/tests.rs"]
mod tests;
