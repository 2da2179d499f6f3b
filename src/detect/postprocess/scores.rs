//! The scores of a model's candidates: its numbers come in; for each candidate its best class and the score of that go out. It is
//! the part of postprocessing that looks at every number, so it goes through them as they lie in memory.

use super::matrix::Matrix;
use super::{Filter, Implausible, Reading, Scratch, is_score};
use crate::detect::manifest::file::{Activation, Background};

/// The numbers of all candidates that scores are made of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scores<'a> {
    /// There is one for each class, with that for "nothing".
    EachClass(Matrix<'a>),
    /// There are a score and the number of its class.
    OneClass {
        score: Matrix<'a>,
        class: Matrix<'a>,
    },
}

/// Candidates with a score that may pass are worth a look at their box; this stands for all others.
const NONE: f32 = f32::NEG_INFINITY;

/// The number of a class may be beside a whole number by this much, as rounding leaves it.
const CLASS_SLACK: f32 = 0.01;

pub(crate) fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + (-value).exp())
}

fn activated(activation: Activation, value: f32) -> f32 {
    match activation {
        Activation::Sigmoid => sigmoid(value),
        Activation::None | Activation::Softmax => value,
    }
}

/// How sure a model is of any object, from 0 to 1.
fn share(activation: Activation, objectness: f32) -> f32 {
    activated(activation, objectness).clamp(0.0, 1.0)
}

/// Fills `scratch.best` and `scratch.class` for every candidate.
///
/// # Errors
/// If a number cannot be a score, or the class of a candidate that is sure enough is none of the model's.
pub(super) fn best(
    reading: &Reading<'_>,
    filter: &Filter,
    scratch: &mut Scratch,
) -> Result<(), Implausible> {
    let count = reading.boxes.numbers.rows();
    scratch.best.clear();
    scratch.best.resize(count, NONE);
    scratch.class.clear();
    scratch.class.resize(count, 0);
    let check = |numbers: Matrix<'_>, activation| {
        numbers
            .slices()
            .try_for_each(|slice| reading.check_scores(slice, activation))
    };
    if let Some(objectness) = reading.objectness {
        check(objectness, reading.activation)?;
    }
    match reading.scores {
        Scores::EachClass(numbers) => {
            check(numbers, reading.activation)?;
            let first = usize::from(reading.background == Background::First);
            let classes = numbers.part(first, filter.classes());
            match reading.activation {
                Activation::Softmax => by_softmax(numbers, first, filter, scratch),
                Activation::None | Activation::Sigmoid => {
                    if classes.is_by_row() {
                        let floor = filter.floor(reading.activation);
                        by_row(classes, floor, filter, scratch);
                    } else {
                        by_column(classes, filter, scratch);
                    }
                    if reading.activation == Activation::Sigmoid {
                        scratch
                            .best
                            .iter_mut()
                            .for_each(|best| *best = sigmoid(*best));
                    }
                }
            }
            if let Some(objectness) = reading.objectness {
                for (row, best) in scratch.best.iter_mut().enumerate() {
                    // What stands for no score would be infinite times an objectness that is a little below 0.
                    if *best > NONE {
                        *best *= share(reading.activation, objectness.at(row, 0));
                    }
                }
            }
            Ok(())
        }
        Scores::OneClass { score, class } => {
            for row in 0..count {
                one(
                    reading,
                    score.at(row, 0),
                    class.at(row, 0),
                    row,
                    filter,
                    scratch,
                )?;
            }
            Ok(())
        }
    }
}

/// Goes column by column, as the numbers lie in memory, so that the compiler vectorises it.
fn by_column(classes: Matrix<'_>, filter: &Filter, scratch: &mut Scratch) {
    for class_id in 0..classes.columns() {
        if !filter.is_used(class_id) {
            continue;
        }
        let number = u32::try_from(class_id).unwrap_or(u32::MAX);
        let Some(column) = classes.column(class_id) else {
            continue;
        };
        for ((best, class), &score) in scratch.best.iter_mut().zip(&mut scratch.class).zip(column) {
            let higher = score > *best;
            *best = if higher { score } else { *best };
            *class = if higher { number } else { *class };
        }
    }
}

/// Goes row by row. For most candidates no number reaches `floor`, which is why the highest one is looked for first, without its
/// class.
fn by_row(classes: Matrix<'_>, floor: f32, filter: &Filter, scratch: &mut Scratch) {
    for row in 0..classes.rows() {
        let Some(numbers) = classes.row(row) else {
            continue;
        };
        let top = numbers
            .iter()
            .fold(NONE, |top, &number| if number > top { number } else { top });
        if top < floor {
            continue;
        }
        for (class_id, &number) in numbers.iter().enumerate() {
            if number > scratch.best[row] && filter.is_used(class_id) {
                scratch.best[row] = number;
                scratch.class[row] = u32::try_from(class_id).unwrap_or(u32::MAX);
            }
        }
    }
}

fn by_softmax(numbers: Matrix<'_>, first: usize, filter: &Filter, scratch: &mut Scratch) {
    for row in 0..numbers.rows() {
        let (mut highest, mut class) = (NONE, 0);
        for class_id in (0..filter.classes()).filter(|class_id| filter.is_used(*class_id)) {
            let number = numbers.at(row, first + class_id);
            if number > highest {
                (highest, class) = (number, class_id);
            }
        }
        let all = (0..numbers.columns()).map(|column| numbers.at(row, column));
        let top = all.clone().fold(NONE, f32::max);
        // The sum is 1 at least, so most candidates, which show nothing, are passed over without it.
        let share = (highest - top).exp();
        if filter.would_pass(share) {
            let sum: f32 = all.map(|number| (number - top).exp()).sum();
            scratch.best[row] = share / sum;
            scratch.class[row] = u32::try_from(class).unwrap_or(u32::MAX);
        }
    }
}

/// Takes a candidate that has the score of one class. A negative class stands for padding, whatever else the row holds.
fn one(
    reading: &Reading<'_>,
    score: f32,
    class: f32,
    row: usize,
    filter: &Filter,
    scratch: &mut Scratch,
) -> Result<(), Implausible> {
    let is_padding = class.is_finite() && class < -0.5;
    let first = f32::from(u8::from(reading.background == Background::First));
    if is_padding {
        return Ok(());
    }
    reading.check_scores(&[score], reading.activation)?;
    let mut score = activated(reading.activation, score);
    if let Some(objectness) = reading.objectness {
        score *= share(reading.activation, objectness.at(row, 0));
    }
    let refuse = |expected, key| {
        let refusal = reading.implausible(class, "the class of a box", expected, key);
        Err(Implausible {
            output: reading.class_name.to_owned(),
            ..refusal
        })
    };
    let Some(class_id) = class_number(class) else {
        return refuse("a number from 0", reading.class_key);
    };
    if (class - class.round()).abs() > CLASS_SLACK && filter.would_pass(score) {
        return refuse("a whole number", reading.class_key);
    }
    // The first number stands for "nothing".
    if first > 0.0 && class_id == 0 {
        return Ok(());
    }
    let class_id = class_id - usize::from(first > 0.0);
    if class_id >= filter.classes() {
        if filter.would_pass(score) {
            return refuse("one of the labels' numbers", "labels");
        }
        return Ok(());
    }
    scratch.best[row] = score;
    scratch.class[row] = u32::try_from(class_id).unwrap_or(u32::MAX);
    Ok(())
}

/// The class number that a float holds, if it is finite and not below 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and a saturating cast is what is wanted"
)]
fn class_number(value: f32) -> Option<usize> {
    let rounded = value.round();
    (rounded >= 0.0 && rounded.is_finite()).then_some(rounded as usize)
}

/// True for numbers from which the activation makes scores.
pub(super) fn are_scores(numbers: &[f32], activation: Activation) -> bool {
    // The loops have no early exit, so that the compiler vectorises them: nearly always all numbers are good.
    match activation {
        Activation::None => numbers
            .iter()
            .fold(true, |all, &number| all & is_score(number)),
        Activation::Sigmoid | Activation::Softmax => numbers
            .iter()
            .fold(true, |all, &number| all & number.is_finite()),
    }
}
