//! Scores and classes on the test picture: whether the numbers can be what the manifest says, with the key that is likely wrong.

use super::{Judgement, STRONG, refused};
use crate::detect::manifest::file::{Activation, Background};
use crate::detect::output::Numbers;
use crate::detect::postprocess::{Matrix, Postprocessor, Reading, Scores, sigmoid};

/// Fewer candidates than this tell nothing by being alike.
const FEW: usize = 16;

/// Scores may be beside 0 to 1 by this much, as rounding leaves them.
const SCORE_SLACK: f32 = 0.011;

/// The number of a class may be beside a whole number by this much.
const CLASS_SLACK: f32 = 0.001;

/// The lowest and the highest of some numbers, and how many they are.
#[derive(Debug, Clone, Copy)]
struct Range {
    low: f32,
    high: f32,
    count: usize,
}

impl Range {
    /// The range of numbers.
    ///
    /// # Errors
    /// NaN, if one of them is that.
    fn of(numbers: impl Iterator<Item = f32>) -> Result<Self, f32> {
        let mut range = Self {
            low: f32::INFINITY,
            high: f32::NEG_INFINITY,
            count: 0,
        };
        for number in numbers {
            if number.is_nan() {
                return Err(number);
            }
            range.low = range.low.min(number);
            range.high = range.high.max(number);
            range.count += 1;
        }
        Ok(range)
    }

    /// True if all numbers can be scores.
    fn is_of_scores(self) -> bool {
        self.low >= -SCORE_SLACK && self.high <= 1.0 + SCORE_SLACK
    }
}

/// All numbers of a matrix.
fn all(numbers: Matrix<'_>) -> impl Iterator<Item = f32> {
    numbers.slices().flatten().copied()
}

/// Judges the scores. `is_same` says whether the outputs are the same for the test picture and its mirror image.
pub(super) fn judge_scores(reading: &Reading<'_>, is_same: bool) -> Result<(), Judgement> {
    let (range, what) = match reading.scores {
        Scores::EachClass(numbers) => (Range::of(all(numbers)), Numbers::EachClass),
        Scores::OneClass { score, class } => {
            // A negative class stands for padding, whatever else the row holds.
            let rows = (0..score.rows()).filter(|&row| {
                let class = class.at(row, 0);
                !(class.is_finite() && class < -0.5)
            });
            (
                Range::of(rows.map(|row| score.at(row, 0))),
                Numbers::OneClass,
            )
        }
    };
    let name = reading.scores_name;
    let range = range.map_err(|found| {
        let seen = format!("output `{name}` has {found} as a score on the test picture");
        refused(seen, "input.scale", "")
    })?;
    let Range { low, high, count } = range;
    if count == 0 {
        return Ok(());
    }
    let between = if low == high {
        format!("all scores of output `{name}` are {low} on the test picture")
    } else {
        format!("the scores of output `{name}` are from {low} to {high} on the test picture")
    };
    let is_within = range.is_of_scores();
    match reading.activation {
        Activation::None if !is_within => {
            let (key, remedy) = match what {
                Numbers::EachClass if low.is_finite() && high.is_finite() => {
                    ("output.activation", "sigmoid")
                }
                Numbers::EachClass => ("output.activation", ""),
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
    // Scores of 0 alone are what is left of low ones in models of 8 bits, and of those that take a threshold, where nothing is seen.
    let is_nothing = low.abs() <= SCORE_SLACK && !is_same;
    if what == Numbers::EachClass && count >= FEW && low == high && !is_nothing {
        return Err(refused(between, "output.kind", ""));
    }
    let objectness = reading.objectness.map(|numbers| Range::of(all(numbers)));
    match objectness {
        Some(Err(found)) => {
            let seen = format!("output `{name}` has {found} as an objectness on the test picture");
            Err(refused(seen, "input.scale", ""))
        }
        Some(Ok(range)) if reading.activation == Activation::None && !range.is_of_scores() => {
            let Range { low, high, .. } = range;
            let seen = format!(
                "the objectness in output `{name}` is from {low} to {high} on the test picture"
            );
            Err(refused(seen, "output.activation", "sigmoid"))
        }
        _ => Ok(()),
    }
}

/// True if the number of a class is between two whole ones.
fn is_between(class: f32) -> bool {
    (class - class.round()).abs() > CLASS_SLACK
}

/// True if a candidate has a number between two whole ones for its class.
pub(super) fn is_a_class_between(reading: &Reading<'_>) -> bool {
    let Scores::OneClass { class, .. } = reading.scores else {
        return false;
    };
    (0..class.rows()).any(|row| is_between(class.at(row, 0)))
}

/// Numbers of classes are whole.
pub(super) fn judge_classes(
    postprocessor: &Postprocessor,
    reading: &Reading<'_>,
) -> Result<(), Judgement> {
    let Scores::OneClass { score, class } = reading.scores else {
        return Ok(());
    };
    let key = reading.class_key;
    let rows = reading.boxes.numbers.rows();
    let broken: Vec<usize> = (0..rows)
        .filter(|row| is_between(class.at(*row, 0)))
        .collect();
    if let Some(&row) = broken.first()
        && 2 * broken.len() > rows
    {
        let class = class.at(row, 0);
        let seen = format!(
            "the number of the class should be whole, and on the test picture it is not for {} of {rows} boxes, as {class}",
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
        if !class.is_finite() || is_between(class) {
            let seen = format!(
                "a box with the score {score} has {class} for the number of its class on the test picture"
            );
            return Err(refused(seen, key, ""));
        }
        if reading.background == Background::First && class.round() == 0.0 {
            let seen = format!(
                "a box has the score {score} and the number of the background on the test picture"
            );
            return Err(refused(seen, "output.background", "none"));
        }
        let labels = postprocessor.output().classes;
        let first = f32::from(u8::from(reading.background == Background::First));
        #[expect(clippy::cast_precision_loss, reason = "models have few classes")]
        if class - first >= labels as f32 {
            let seen = format!(
                "a box with the score {score} has {class} for the number of its class, and the labels are {labels}, from number {first}"
            );
            return Err(refused(seen, "labels", ""));
        }
    }
    Ok(())
}

/// Where a softmax is over "nothing" too, most candidates are nothing. RF-DETR keeps a place for it and takes the sigmoid.
pub(super) fn judge_nothing(reading: &Reading<'_>) -> Result<(), Judgement> {
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
pub(super) fn judge_crowd(
    postprocessor: &Postprocessor,
    reading: &Reading<'_>,
    strong: usize,
) -> Result<(), Judgement> {
    let all = reading.boxes.numbers.rows();
    if reading.kind_of_scores() == Numbers::OneClass || all < FEW || 2 * strong <= all {
        return Ok(());
    }
    let seen = format!(
        "{strong} of {all} candidates are objects on the test picture, and most should be none"
    );
    let (key, remedy) = match (postprocessor.output().background, reading.activation) {
        (Background::None, _) => ("output.activation", ""),
        (_, Activation::Sigmoid) => ("output.activation", "softmax"),
        _ => ("output.background", ""),
    };
    Err(refused(seen, key, remedy))
}
