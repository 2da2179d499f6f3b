//! Reads the outputs of models: raw arrays and their shapes come in, candidates in tensor pixels go out. The detector runs it, by
//! what the manifest says of the outputs. A shape that does not fit is a [`Mismatch`]. A score that cannot be one, or a box of enough
//! score that cannot be one, is [`Implausible`], since such outputs do not mean that nothing was seen.

mod boxes;
mod explain;
mod matrix;
mod objects;
mod outline;
mod reading;
mod scores;

use super::detector::Object;
use super::manifest::file::Activation;
use super::nms::{Candidate, suppress};
use super::output::Output;
use crate::preprocess::{Placement, TensorBox};

pub(crate) use self::boxes::{Boxes, Decoding};
pub(crate) use self::matrix::Matrix;
pub(crate) use self::reading::Reading;
pub(crate) use self::scores::{Scores, sigmoid};

/// Scores may lie outside of 0 to 1 by this much, as those of quantised models do; they count as 0 or 1.
const SCORE_SLACK: f32 = 0.01;

/// Edges of a box may be on each other's wrong side by this many pixels, as rounding leaves them.
const EDGE_SLACK_PX: f32 = 1.0;

/// A box may lie outside of the tensor by this share of a side. What lies farther out is no object at the edge of the picture.
const OUTSIDE: f32 = 0.25;

/// A box may be as wide or as high as this many tensors. What is larger is not the size of anything in the picture.
const MOST_TENSORS: f32 = 8.0;

/// An output of a model. The last dimension is contiguous.
#[derive(Debug, Clone, Copy)]
pub struct Array<'a> {
    /// The output's name in the model.
    pub name: &'a str,
    /// Its shape.
    pub dims: &'a [i64],
    /// Its elements, as many as the shape says.
    pub values: &'a [f32],
}

/// An output has another shape than its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("output `{output}` should have {expected} and has {found}")]
pub struct Mismatch {
    pub(super) output: String,
    pub(super) expected: String,
    pub(super) found: String,
    /// The key of the manifest that says what is expected.
    pub(super) key: &'static str,
}

/// An output has a number that no detector gives.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "output `{output}` has {found} as {place}, which should be {expected}: the model or its manifest (`{key}`) is wrong"
)]
pub struct Implausible {
    pub(super) output: String,
    pub(super) found: f32,
    /// What the number stands for.
    pub(super) place: &'static str,
    /// Which numbers are possible there.
    pub(super) expected: &'static str,
    /// The key of the manifest that is most likely wrong.
    pub(super) key: &'static str,
}

impl Implausible {
    /// What was seen, at this place.
    pub(super) fn seen(&self, at: &str) -> String {
        let Self {
            output,
            found,
            place,
            expected,
            ..
        } = self;
        format!("output `{output}` has {found} as {place} {at}, which should be {expected}")
    }
}

/// Why an output gives no candidates.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OutputError {
    /// Its shape is not that of its kind.
    #[error(transparent)]
    Shape(#[from] Mismatch),
    /// It has an impossible number.
    #[error(transparent)]
    Numbers(#[from] Implausible),
}

/// Which candidates a camera wants.
#[derive(Debug, Clone)]
pub struct Filter {
    min_score: f32,
    wanted: Vec<bool>,
    used: Vec<bool>,
}

/// The label that stands for a class number that the model never uses.
pub(crate) const UNUSED_LABEL: &str = "-";

impl Filter {
    /// A filter for a model's labels that lets all classes pass that the model uses.
    pub fn new(labels: &[String]) -> Self {
        let used: Vec<bool> = labels.iter().map(|label| label != UNUSED_LABEL).collect();
        Self {
            min_score: 0.0,
            wanted: used.clone(),
            used,
        }
    }

    /// Sets what a camera wants; no classes means all of them.
    pub fn set(&mut self, min_score: f32, classes: &[usize]) {
        self.min_score = min_score;
        for (class_id, wanted) in self.wanted.iter_mut().enumerate() {
            *wanted = self.used[class_id] && (classes.is_empty() || classes.contains(&class_id));
        }
    }

    /// How many classes the model has, used or not.
    pub fn classes(&self) -> usize {
        self.used.len()
    }

    /// True if the model uses the class number.
    fn is_used(&self, class_id: usize) -> bool {
        self.used.get(class_id).copied().unwrap_or(false)
    }

    /// True if the score suffices.
    fn would_pass(&self, score: f32) -> bool {
        score >= self.min_score
    }

    /// True if the class is wanted and the score suffices. A score that is not a number never does.
    fn passes(&self, class_id: usize, score: f32) -> bool {
        self.would_pass(score) && self.wanted.get(class_id).copied().unwrap_or(false)
    }

    /// The number below which no score suffices, before the activation.
    fn floor(&self, activation: Activation) -> f32 {
        match activation {
            Activation::None => self.min_score,
            Activation::Sigmoid => (self.min_score / (1.0 - self.min_score)).ln() - 0.01,
            Activation::Softmax => f32::NEG_INFINITY,
        }
    }
}

/// Memory that is reused from one picture to the next.
#[derive(Debug, Default)]
pub struct Scratch {
    best: Vec<f32>,
    class: Vec<u32>,
    /// The candidates of the picture.
    pub candidates: Vec<Candidate>,
}

impl Scratch {
    /// The candidates whose best class has this score at least.
    pub(crate) fn rows_of(&self, score: f32) -> Vec<usize> {
        (0..self.best.len())
            .filter(|&row| self.best[row] >= score)
            .collect()
    }
}

/// Reads the outputs of one model.
#[derive(Debug)]
pub struct Postprocessor {
    output: Output,
    /// Width and height of the tensor.
    input: (usize, usize),
    /// The cells that boxes are relative to, if they are.
    cells: Vec<boxes::Cell>,
}

impl Postprocessor {
    /// A postprocessor for outputs of this kind, of a model whose input has this width and height.
    pub fn new(output: Output, input: (usize, usize)) -> Self {
        let cells = match &output.outputs {
            super::output::Outputs::Table {
                strides: Some(strides),
                ..
            } => boxes::cells(strides, input),
            _ => Vec::new(),
        };
        Self {
            output,
            input,
            cells,
        }
    }

    /// The same with the numbers of a candidate in another order, where one output has them all.
    pub(crate) fn with_columns(&self, order: Vec<super::manifest::file::Column>) -> Self {
        let mut output = self.output.clone();
        if let super::output::Outputs::Table { columns, .. } = &mut output.outputs {
            *columns = order.into();
        }
        Self::new(output, self.input)
    }

    /// What the outputs hold.
    pub(crate) fn output(&self) -> &Output {
        &self.output
    }

    /// Finds the objects, best first. `nms_iou` is the manifest's, and `placement` says where the picture lies in the tensor.
    ///
    /// # Errors
    /// If an output has another shape than the manifest says, or a number is impossible.
    pub fn objects(
        &self,
        arrays: &[Array<'_>],
        filter: &Filter,
        scratch: &mut Scratch,
        nms_iou: f32,
        placement: &Placement,
    ) -> Result<Vec<Object>, OutputError> {
        let reading = self.read(arrays)?;
        reading.candidates(filter, scratch)?;
        suppress(&mut scratch.candidates, nms_iou);
        let numbers = self.output.keypoint_numbers;
        let candidates = scratch.candidates.iter();
        let mut objects = Vec::with_capacity(scratch.candidates.len());
        for candidate in candidates {
            let object = reading.object(candidate, numbers, placement)?;
            // A box that lies in the padding alone shows nothing of the picture.
            if object.bbox.width > 0.0 && object.bbox.height > 0.0 {
                objects.push(object);
            }
        }
        Ok(objects)
    }

    /// Fills `scratch.candidates` with those that pass.
    ///
    /// # Errors
    /// Those of [`objects`](Self::objects).
    pub fn candidates(
        &self,
        arrays: &[Array<'_>],
        filter: &Filter,
        scratch: &mut Scratch,
    ) -> Result<(), OutputError> {
        Ok(self.read(arrays)?.candidates(filter, scratch)?)
    }
}

impl Reading<'_> {
    /// Fills `scratch.candidates` with those that pass.
    pub(crate) fn candidates(
        &self,
        filter: &Filter,
        scratch: &mut Scratch,
    ) -> Result<(), Implausible> {
        scratch.candidates.clear();
        scores::best(self, filter, scratch)?;
        for row in 0..scratch.best.len() {
            let (score, class_id) = (scratch.best[row], scratch.class[row] as usize);
            if !filter.passes(class_id, score) {
                continue;
            }
            let corners = self.boxes.corners(row);
            self.check_box(&corners)?;
            let candidate = Candidate::new(corners, score.clamp(0.0, 1.0), class_id);
            scratch
                .candidates
                .extend(candidate.map(|candidate| Candidate { row, ..candidate }));
        }
        Ok(())
    }

    /// Refuses numbers from which no scores can be made. Negative ones are refused too, although the filter would drop them.
    fn check_scores(&self, numbers: &[f32], activation: Activation) -> Result<(), Implausible> {
        if scores::are_scores(numbers, activation) {
            return Ok(());
        }
        let expected = match activation {
            Activation::None => "from 0 to 1",
            Activation::Sigmoid | Activation::Softmax => "finite",
        };
        let one = |number: &&f32| !scores::are_scores(&[**number], activation);
        numbers.iter().find(one).map_or(Ok(()), |&found| {
            Err(self.implausible(found, "a score", expected, "output.activation"))
        })
    }

    /// Refuses a box that is none.
    fn check_box(&self, corners: &TensorBox) -> Result<(), Implausible> {
        let TensorBox { x1, y1, x2, y2 } = *corners;
        let refuse = |found, place, expected, key| {
            let refusal = self.implausible(found, place, expected, key);
            Err(Implausible {
                output: self.boxes_name.to_owned(),
                ..refusal
            })
        };
        // Finite edges may be so far apart that their area is not finite.
        let area = (x2 - x1) * (y2 - y1);
        let endless = [x1, y1, x2, y2, area].into_iter().find(|n| !n.is_finite());
        if let Some(found) = endless {
            let key = self.box_key("output.box_format");
            return refuse(found, "an edge of a box", "finite", key);
        }
        for (low, high) in [(x1, x2), (y1, y2)] {
            if high < low - EDGE_SLACK_PX {
                let expected = "on the other side of the edge opposite to it";
                let key = self.box_key("output.box_format");
                return refuse(high, "an edge of a box", expected, key);
            }
        }
        for (low, high, side) in [(x1, x2, self.boxes.input.0), (y1, y2, self.boxes.input.1)] {
            let margin = side * OUTSIDE;
            if high < -margin || low > side + margin {
                let expected = "within the picture";
                let key = self.box_key("output.box_units");
                return refuse(low, "an edge of a box", expected, key);
            }
            if high - low > side * MOST_TENSORS {
                let key = self.box_key("output.box_units");
                return refuse(
                    high - low,
                    "a side of a box",
                    "no longer than 8 inputs",
                    key,
                );
            }
        }
        Ok(())
    }

    /// The key that is likely wrong where boxes are: `plain`, unless the kind decodes them and has no such key.
    fn box_key(&self, plain: &'static str) -> &'static str {
        match self.boxes.decoding {
            Decoding::Plain => plain,
            Decoding::Anchors(_) => "output.anchors",
            Decoding::Grids(_) => "output.kind",
            Decoding::Heatmap { .. } => "output.size",
        }
    }

    fn implausible(
        &self,
        found: f32,
        place: &'static str,
        expected: &'static str,
        key: &'static str,
    ) -> Implausible {
        Implausible {
            output: self.scores_name.to_owned(),
            found,
            place,
            expected,
            key,
        }
    }
}

/// True for a number that can be a score, which NaN cannot.
fn is_score(value: f32) -> bool {
    (-SCORE_SLACK..=1.0 + SCORE_SLACK).contains(&value)
}

impl Array<'_> {
    fn mismatch(&self, expected: impl Into<String>) -> Mismatch {
        Mismatch {
            output: self.name.to_owned(),
            expected: expected.into(),
            found: format!("{:?}", self.dims),
            key: "output",
        }
    }

    /// The last `RANK` dimensions as lengths, if all dimensions before them are 1, and there are as many values as they say.
    fn lengths<const RANK: usize>(&self) -> Option<[usize; RANK]> {
        let (before, dims) = self
            .dims
            .split_at_checked(self.dims.len().checked_sub(RANK)?)?;
        if before.iter().any(|dim| *dim != 1) {
            return None;
        }
        let dims: [i64; RANK] = dims.try_into().ok()?;
        let mut lengths = [0; RANK];
        for (length, dim) in lengths.iter_mut().zip(dims) {
            *length = usize::try_from(dim).ok()?;
        }
        let product = lengths
            .iter()
            .try_fold(1usize, |all, &length| all.checked_mul(length))?;
        (product == self.values.len()).then_some(lengths)
    }
}

#[cfg(test)]
mod tests;
