//! The outputs of a model: their names, types, shapes and numbers after one run come in; every way to read them that these allow goes
//! out, the likeliest first. Which of them is right is judged by what they make of the test picture.

mod lists;
mod split;
mod table;

use super::family::Family;
use super::metadata::Metadata;
use super::{Hints, Unrecognized};
use crate::detect::judge::OwnedArray;
use crate::detect::manifest::file::{BoxUnits, Kind, OutputTable};
use crate::detect::manifest::{Element, Outlet};

/// A way to read the outputs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    pub(crate) output: OutputTable,
    /// How many classes there are, if the shapes tell.
    pub(crate) classes: Option<usize>,
    /// How many labels there are where no shape tells and nobody says them.
    pub(crate) assumed: usize,
    pub(crate) family: Family,
    /// True if it cannot be read without a file of anchors.
    pub(crate) needs_anchors: bool,
    /// How far-fetched it is; 0 for what the usual exports are.
    pub(crate) rank: u8,
    /// Boxes of one class that overlap by more are one object.
    pub(crate) nms_iou: f32,
    /// Why it is this kind, a clause.
    pub(crate) why: String,
    /// Why keys of `[output]` have their values, clauses by key.
    pub(crate) notes: Vec<(&'static str, String)>,
}

/// An output after a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) name: &'a str,
    pub(super) element: &'a Element,
    pub(super) dims: &'a [i64],
    pub(super) values: &'a [f32],
}

/// All that is known of a model when its outputs are read.
#[derive(Debug)]
pub(crate) struct Sight<'a> {
    pub(super) outputs: Vec<Shown<'a>>,
    /// The width and height of the input.
    pub(super) input: (usize, usize),
    pub(super) metadata: &'a Metadata,
    /// How many labels are known.
    pub(super) labels: Option<usize>,
    /// The names of the further inputs.
    pub(super) extra: Vec<&'a str>,
    pub(super) is_from_tensorflow: bool,
    pub(super) wanted: Option<Kind>,
}

impl<'a> Sight<'a> {
    /// Puts together what the file says and what a run gave.
    pub(crate) fn new(
        outlets: &'a [Outlet],
        arrays: &'a [OwnedArray],
        input: (usize, usize),
        metadata: &'a Metadata,
        hints: &Hints,
    ) -> Self {
        let shown = arrays.iter().filter_map(|array| {
            let outlet = outlets.iter().find(|outlet| outlet.name == array.name)?;
            Some(Shown {
                name: &array.name,
                element: &outlet.element,
                dims: &array.dims,
                values: &array.values,
            })
        });
        Self {
            outputs: shown.collect(),
            input,
            metadata,
            labels: hints
                .labels
                .as_ref()
                .or(metadata.names.as_ref())
                .map(Vec::len),
            extra: Vec::new(),
            is_from_tensorflow: false,
            wanted: hints.kind,
        }
    }

    /// All ways to read the outputs, the likeliest first.
    ///
    /// # Errors
    /// If the metadata says that the model does something else, or no kind of output has these shapes.
    pub(crate) fn readings(&self) -> Result<Vec<Reading>, Unrecognized> {
        if let Some(task) = &self.metadata.task
            && !["detect", "pose", "segment"].contains(&task.as_str())
        {
            return Err(Unrecognized::Task { task: task.clone() });
        }
        let mut all = Vec::new();
        self.centerface(&mut all);
        self.lists(&mut all);
        let lists = all.len();
        self.split(&mut all);
        for reading in all[lists..].iter_mut().filter(|_| lists > 0) {
            reading.rank += 3;
        }
        // Where there are boxes in an output of their own, another output is seldom a table that has them too.
        let others = all.len();
        self.tables(&mut all);
        for reading in all[others..].iter_mut().filter(|_| others > 0) {
            reading.rank += 3;
        }
        if let Some(kind) = self.wanted {
            all.retain(|reading| reading.output.kind == kind);
        }
        // What has the number of labels that are known, or of COCO's, is likelier than what has any other number.
        let order = |reading: &Reading| {
            let is_expected = match (reading.classes, self.labels) {
                (None, _) => true,
                (Some(classes), Some(labels)) => classes == labels,
                (Some(classes), None) => {
                    super::labels::coco(classes).is_some()
                        || reading.output.kind == Kind::Centerface
                }
            };
            reading.rank + if is_expected { 0 } else { 2 }
        };
        for reading in &mut all {
            reading.rank = order(reading);
        }
        all.sort_by_key(|reading| reading.rank);
        Ok(all)
    }

    fn centerface(&self, all: &mut Vec<Reading>) {
        let maps: Vec<(&Shown<'_>, [usize; 3])> = self
            .outputs
            .iter()
            .filter_map(|output| Some((output, output.last()?)))
            .collect();
        let of = |channels: usize| {
            let found = maps.iter().filter(|(_, [first, ..])| *first == channels);
            found.collect::<Vec<_>>()
        };
        let (ones, twos) = (of(1), of(2));
        let ([(heatmap, shape)], [first, second]) = (ones.as_slice(), twos.as_slice()) else {
            return;
        };
        let (landmarks, sides) = (of(10), &shape[1..]);
        if [first, second].iter().any(|map| map.1[1..] != *sides) {
            return;
        }
        let kind = Kind::Centerface;
        for (rank, (size, offset)) in [(0, (first.0, second.0)), (1, (second.0, first.0))] {
            let output = OutputTable {
                heatmap: Some(heatmap.name.to_owned()),
                size: Some(size.name.to_owned()),
                offset: Some(offset.name.to_owned()),
                landmarks: landmarks.first().map(|map| map.0.name.to_owned()),
                ..OutputTable::of(kind)
            };
            all.push(Reading {
                classes: Some(1),
                family: Family::Centerface,
                nms_iou: 0.3,
                ..Reading::new(
                    output,
                    rank,
                    "a heatmap of one channel and two maps of two channels over the same places",
                )
            });
        }
    }
}

impl Reading {
    pub(super) fn new(output: OutputTable, rank: u8, why: impl Into<String>) -> Self {
        Self {
            output,
            classes: None,
            assumed: 80,
            family: Family::Other,
            needs_anchors: false,
            rank,
            nms_iou: 1.0,
            why: why.into(),
            notes: Vec::new(),
        }
    }

    /// Notes why a key of `[output]` has its value.
    pub(super) fn note(mut self, key: &'static str, why: impl Into<String>) -> Self {
        self.notes.push((key, why.into()));
        self
    }
}

impl<'a> Shown<'a> {
    /// The last dimensions, if all before them are 1.
    pub(super) fn last<const RANK: usize>(&self) -> Option<[usize; RANK]> {
        let (before, dims) = self
            .dims
            .split_at_checked(self.dims.len().checked_sub(RANK)?)?;
        if before.iter().any(|dim| *dim != 1) {
            return None;
        }
        let mut lengths = [0; RANK];
        for (length, dim) in lengths.iter_mut().zip(dims) {
            *length = usize::try_from(*dim).ok()?;
        }
        let all: usize = lengths.iter().product();
        (all == self.values.len()).then_some(lengths)
    }

    /// The numbers at `column` of each candidate that has any number other than 0, in an output of `rows` candidates.
    pub(super) fn column(&self, rows: usize, columns: usize, column: usize) -> Vec<f32> {
        let all = (0..rows).map(|row| &self.values[row * columns..(row + 1) * columns]);
        all.filter(|row| row.iter().any(|&number| number != 0.0))
            .map(|row| row[column])
            .collect()
    }

    /// True if the name has one of these words.
    pub(super) fn is_called(&self, words: &[&str]) -> bool {
        let name = self.name.to_ascii_lowercase();
        words.iter().any(|word| name.contains(word))
    }

    pub(super) fn is_float(&self) -> bool {
        matches!(self.element, Element::F32 | Element::F16 | Element::F64)
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self.element, Element::I64 | Element::I32 | Element::U8)
    }
}

/// What boxes with these numbers are measured in, and why.
pub(super) fn units(numbers: impl Iterator<Item = f32>) -> (BoxUnits, String) {
    let largest = numbers
        .filter(|number| number.is_finite())
        .fold(0.0_f32, |largest, number| largest.max(number.abs()));
    if largest == 0.0 {
        (
            BoxUnits::Pixels,
            "the usual ones; nothing was seen on the test picture that tells".to_owned(),
        )
    } else if largest <= 2.0 {
        (
            BoxUnits::Shares,
            format!("no number of a box is larger than {largest:.3} on the test picture"),
        )
    } else {
        (
            BoxUnits::Pixels,
            format!("the largest number of a box is {largest:.0} on the test picture"),
        )
    }
}

/// True if all numbers are whole and not below `least`.
pub(super) fn are_whole(numbers: &[f32], least: f32) -> bool {
    numbers
        .iter()
        .all(|&number| number >= least && (number - number.round()).abs() < 0.001)
}

/// True if all numbers are from 0 to 1.
pub(super) fn are_shares(numbers: &[f32]) -> bool {
    numbers
        .iter()
        .all(|number| (-0.011..=1.011).contains(number))
}

pub(super) fn other_units(units: BoxUnits) -> BoxUnits {
    match units {
        BoxUnits::Pixels => BoxUnits::Shares,
        BoxUnits::Shares => BoxUnits::Pixels,
    }
}
