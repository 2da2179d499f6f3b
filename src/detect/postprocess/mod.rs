//! Model outputs to candidates, one file an output kind. Raw arrays and their shapes come in, candidates in tensor
//! pixels go out. A shape that does not fit is a [`Mismatch`]; a score that is none, or a box of enough score whose edges
//! are not finite, is [`Implausible`]: what such outputs tell is not that nothing is there.

pub mod rows;
pub mod ssd;
pub mod yolo;

use super::nms::Candidate;
use crate::preprocess::TensorBox;

/// Scores may leave 0 to 1 by this much, as quantised ones do; they are taken as 0 or 1.
const SCORE_SLACK: f32 = 0.01;

/// An output of a model: its dimensions and its values, the last dimension contiguous.
#[derive(Debug, Clone, Copy)]
pub struct Array<'a> {
    /// The name of the output.
    pub name: &'a str,
    /// The dimensions.
    pub dims: &'a [i64],
    /// The values.
    pub values: &'a [f32],
}

/// An output that has another shape than its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("output `{output}` should have shape {expected} and has {found}")]
pub struct Mismatch {
    /// The name of the output.
    pub output: String,
    /// The shape of its kind.
    pub expected: String,
    /// The shape it has.
    pub found: String,
}

/// A number in an output that no detector gives.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "output `{output}` has {found} as {place}, which should be {expected}: the model or its manifest is wrong"
)]
pub struct Implausible {
    /// The name of the output.
    pub output: String,
    /// The number.
    pub found: f32,
    /// What it stands for.
    pub place: &'static str,
    /// What may stand there.
    pub expected: &'static str,
}

/// Why outputs give no candidates.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OutputError {
    /// Their shape is not that of their kind.
    #[error(transparent)]
    Shape(#[from] Mismatch),
    /// Their numbers cannot be.
    #[error(transparent)]
    Numbers(#[from] Implausible),
}

/// Which candidates are wanted.
#[derive(Debug, Clone)]
pub struct Filter {
    min_score: f32,
    wanted: Vec<bool>,
    used: Vec<bool>,
}

/// The label of a class number that a model never uses.
pub const UNUSED_LABEL: &str = "-";

impl Filter {
    /// A filter for a model's labels that lets everything pass.
    pub fn new(labels: &[String]) -> Self {
        let used: Vec<bool> = labels.iter().map(|label| label != UNUSED_LABEL).collect();
        Self {
            min_score: 0.0,
            wanted: used.clone(),
            used,
        }
    }

    /// Takes other settings; no classes means all of them.
    pub fn set(&mut self, min_score: f32, classes: &[usize]) {
        self.min_score = min_score;
        for (class_id, wanted) in self.wanted.iter_mut().enumerate() {
            *wanted = self.used[class_id] && (classes.is_empty() || classes.contains(&class_id));
        }
    }

    /// Number of labels, used or not.
    pub fn classes(&self) -> usize {
        self.used.len()
    }

    /// True if the model uses the class number.
    fn is_used(&self, class_id: usize) -> bool {
        self.used.get(class_id).copied().unwrap_or(false)
    }

    /// True if the class is wanted and the score suffices; never for a score that is not a number.
    fn passes(&self, class_id: usize, score: f32) -> bool {
        score >= self.min_score && self.wanted.get(class_id).copied().unwrap_or(false)
    }
}

/// Reused between pictures.
#[derive(Debug, Default)]
pub struct Scratch {
    best: Vec<f32>,
    class: Vec<u32>,
    /// The candidates found.
    pub candidates: Vec<Candidate>,
}

/// Adds a candidate of an output that passed; one without an area is none.
fn add(
    candidates: &mut Vec<Candidate>,
    output: &Array<'_>,
    corners: TensorBox,
    score: f32,
    class_id: usize,
) -> Result<(), Implausible> {
    let TensorBox { x1, y1, x2, y2 } = corners;
    // Finite edges may be so far apart that their area is not.
    let area = (x2 - x1) * (y2 - y1);
    let endless = [x1, y1, x2, y2, area].into_iter().find(|n| !n.is_finite());
    if let Some(found) = endless {
        return Err(output.implausible(found, "an edge of a box", "finite"));
    }
    candidates.extend(Candidate::new(corners, score.clamp(0.0, 1.0), class_id));
    Ok(())
}

/// True for what can be a score; not for what is not a number.
fn is_score(value: f32) -> bool {
    (-SCORE_SLACK..=1.0 + SCORE_SLACK).contains(&value)
}

impl Array<'_> {
    fn implausible(&self, found: f32, place: &'static str, expected: &'static str) -> Implausible {
        Implausible {
            output: self.name.to_owned(),
            found,
            place,
            expected,
        }
    }

    fn no_score(&self, found: f32) -> Implausible {
        self.implausible(found, "a score", "from 0 to 1")
    }

    /// Refuses `scores`, a part of the values, if one of them is none: those that are too low to matter, too.
    fn check_scores(&self, scores: &[f32]) -> Result<(), Implausible> {
        // Without a way out, so that the compiler makes it wide: nearly always all are good.
        let good = scores
            .iter()
            .fold(true, |all, &score| all & is_score(score));
        if good {
            return Ok(());
        }
        let found = scores.iter().find(|score| !is_score(**score));
        found.map_or(Ok(()), |&found| Err(self.no_score(found)))
    }

    fn mismatch(&self, expected: impl Into<String>) -> Mismatch {
        Mismatch {
            output: self.name.to_owned(),
            expected: expected.into(),
            found: format!("{:?}", self.dims),
        }
    }

    /// The dimensions as lengths, if the values fill them.
    fn lengths<const RANK: usize>(&self) -> Option<[usize; RANK]> {
        let dims: [i64; RANK] = self.dims.try_into().ok()?;
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
pub(super) mod testing {
    use super::*;

    /// A filter of `classes` used labels.
    pub(super) fn filter(classes: usize, min_score: f32) -> Filter {
        let labels: Vec<String> = (0..classes).map(|i| format!("class {i}")).collect();
        let mut filter = Filter::new(&labels);
        filter.set(min_score, &[]);
        filter
    }

    pub(super) fn array<'a>(dims: &'a [i64], values: &'a [f32]) -> Array<'a> {
        Array {
            name: "out",
            dims,
            values,
        }
    }

    /// Candidates as `(x1, y1, x2, y2, score, class)`.
    pub(super) fn plain(scratch: &Scratch) -> Vec<(f32, f32, f32, f32, f32, usize)> {
        let one = |c: &Candidate| {
            let at = c.corners;
            (at.x1, at.y1, at.x2, at.y2, c.score, c.class_id)
        };
        scratch.candidates.iter().map(one).collect()
    }

    /// Numbers that are no scores.
    pub(super) const NO_SCORES: [f32; 6] =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 5.0, 1.02, -0.5];

    /// Numbers that are no edges of boxes.
    pub(super) const NO_EDGES: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

    /// Puts each of `bad` at `place` of good values: what `run` makes of them must be refused.
    pub(super) fn refuses(
        bad: &[f32],
        place: usize,
        good: &[f32],
        mut run: impl FnMut(&[f32]) -> Result<(), OutputError>,
    ) {
        assert_eq!(run(good), Ok(()));
        for &bad in bad {
            let mut values = good.to_vec();
            values[place] = bad;
            assert!(
                matches!(run(&values), Err(OutputError::Numbers(_))),
                "{bad} at {place}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_and_unwanted_classes_do_not_pass() {
        let labels = ["person", "-", "car"].map(str::to_owned);
        let mut filter = Filter::new(&labels);
        filter.set(0.5, &[]);
        let passing = |filter: &Filter| {
            (0..4)
                .filter(|&c| filter.passes(c, 0.5))
                .collect::<Vec<_>>()
        };
        assert_eq!(passing(&filter), [0, 2]);
        filter.set(0.5, &[1, 2, 9]);
        assert_eq!(passing(&filter), [2]);
        assert!(!filter.passes(2, 0.49) && !filter.passes(2, f32::NAN));
    }

    #[test]
    fn rounding_is_no_lie_and_a_score_stays_one() {
        for rounded in [-0.009, -0.0, 0.0, 1.0, 1.009] {
            assert!(is_score(rounded), "{rounded}");
        }
        for none in testing::NO_SCORES {
            assert!(!is_score(none), "{none}");
        }
        let corners = TensorBox {
            x1: 0.0,
            y1: 0.0,
            x2: 1.0,
            y2: 1.0,
        };
        let (mut candidates, output) = (Vec::new(), testing::array(&[0], &[]));
        add(&mut candidates, &output, corners, 1.009, 0).unwrap();
        assert_eq!(candidates[0].score, 1.0);
        let vast = TensorBox {
            x1: -3e38,
            x2: 3e38,
            ..corners
        };
        assert_eq!(
            add(&mut candidates, &output, vast, 0.5, 0)
                .unwrap_err()
                .to_string(),
            "output `out` has inf as an edge of a box, which should be finite: the model or its manifest is wrong"
        );
    }

    #[test]
    fn lengths_must_be_filled() {
        let values = [0.0; 6];
        let of = |dims: &[i64]| {
            Array {
                name: "o",
                dims,
                values: &values,
            }
            .lengths::<2>()
        };
        assert_eq!(of(&[2, 3]), Some([2, 3]));
        assert_eq!(of(&[2, 2]), None);
        assert_eq!(of(&[6]), None);
        assert_eq!(of(&[-2, -3]), None);
        assert_eq!(of(&[i64::MAX, i64::MAX]), None);
    }
}
