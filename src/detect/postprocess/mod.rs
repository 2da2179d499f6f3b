//! Model outputs to candidates, one file an output kind. Raw arrays and their shapes come in, candidates in tensor
//! pixels go out. A shape that does not fit is a [`Mismatch`]; numbers that are not finite make no candidate.

pub mod rows;
pub mod ssd;
pub mod yolo;

use super::nms::Candidate;

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

impl Array<'_> {
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

    /// Every value not a number, then infinite: no panic, no candidate.
    pub(super) fn survives_bad_numbers(len: usize, mut run: impl FnMut(&[f32]) -> usize) {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(run(&vec![bad; len]), 0, "{bad}");
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
