//! The judgement of a model on a test picture: its outputs there, and on the mirror image, come in; whether they can be those of a
//! detector that is read rightly goes out, with the key of the manifest that is most likely wrong. The detector runs it before a
//! model is used, since outputs that are misread look like results otherwise.
//!
//! What no output tells stays unjudged: whether colours are in the right order, and which label belongs to a number.

mod boxes;
mod mirror;
mod picture;
mod scores;

use super::manifest::file::{BoxUnits, Column};
use super::nms::Candidate;
use super::output::Outputs;
use super::postprocess::{Array, Filter, Mismatch, Postprocessor, Reading, Scratch};
use crate::preprocess::Placement;

use self::mirror::Strong;
pub(crate) use self::mirror::are_coco;
pub(crate) use self::picture::TestPicture;

/// Candidates with this score are taken for objects.
const STRONG: f32 = 0.3;

/// With this score, a model is sure of an object.
const SURE: f32 = 0.5;

/// The best this many of them are looked at.
const MOST: usize = 50;

/// An output that was copied, since the next run overwrites it.
#[derive(Debug, Clone, PartialEq)]
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
    /// How much objects overlap those at the mirrored place in the mirror image (intersection over union, the mean), if the outputs
    /// depend on the picture.
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
    // Nothing is seen. If columns in another order show something, they are in the wrong one: what is read as classes is scores.
    let borrowed = arrays(first);
    let is_of_scores = postprocessor
        .read(&borrowed)
        .is_ok_and(|reading| scores::is_a_class_between(&reading));
    if let Some(columns) = other_order(postprocessor).filter(|_| is_of_scores) {
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
    let is_same = first == mirrored;
    let (first, mirrored) = (arrays(first), arrays(mirrored));
    let reading = postprocessor.read(&first).map_err(Judgement::Shape)?;
    scores::judge_scores(&reading, is_same)?;
    scores::judge_classes(postprocessor, &reading)?;
    scores::judge_nothing(&reading)?;
    let strong = strong_candidates(postprocessor, &reading, placement, "on the test picture")?;
    scores::judge_crowd(postprocessor, &reading, strong.len())?;
    boxes::judge_units(&reading, &strong)?;
    boxes::judge_sizes(postprocessor, &reading, &strong)?;
    boxes::judge_places(&reading, &strong, placement)?;
    boxes::judge_keypoints(postprocessor, &reading, &strong)?;
    let other = postprocessor.read(&mirrored).map_err(Judgement::Shape)?;
    let place = "on the mirror image of the test picture";
    let strong_other = strong_candidates(postprocessor, &other, placement, place)?;
    let of = |reading, candidates| Strong {
        reading,
        candidates,
    };
    let mirrored = mirror::judge_mirrored(
        postprocessor,
        of(&reading, &strong),
        of(&other, &strong_other),
        placement,
    )?;
    if mirrored.is_some() {
        mirror::judge_labels(labels, &strong)?;
    }
    let top_score = strong.first().map_or(0.0, |candidate| candidate.score);
    Ok(Evidence {
        strong: strong.len(),
        top_score,
        mirrored,
        top_class: strong.first().map(|candidate| candidate.class_id),
    })
}

/// The candidates that are sure enough to be objects, best first.
fn strong_candidates(
    postprocessor: &Postprocessor,
    reading: &Reading<'_>,
    placement: &Placement,
    place: &str,
) -> Result<Vec<Candidate>, Judgement> {
    let classes = postprocessor.output().classes;
    let labels = vec![String::from("any"); classes];
    let mut filter = Filter::new(&labels);
    filter.set(STRONG, &[]);
    let mut scratch = Scratch::default();
    if let Err(implausible) = reading.candidates(&filter, &mut scratch) {
        let remedy = match (implausible.key, reading.boxes.units) {
            // Shares of an input that were pixels are far outside, and pixels that were shares are points.
            ("output.box_units", BoxUnits::Shares) => "pixels".to_owned(),
            ("output.box_format", _) => {
                boxes::formats_that_fit(reading, &scratch.rows_of(STRONG), placement)
            }
            // A box is decoded on the grids although the graph has done it.
            ("output.kind", _) => "yolo_objectness".to_owned(),
            _ => String::new(),
        };
        let seen = implausible.seen(place);
        return Err(refused(seen, implausible.key, &remedy));
    }
    let mut strong = scratch.candidates;
    strong.sort_by(|a, b| b.score.total_cmp(&a.score));
    Ok(strong)
}

#[cfg(test)]
#[path = "judge/tests.rs"]
mod tests;
