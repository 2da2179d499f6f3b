//! Outputs that have all numbers of a candidate together: the YOLOs, and lists of boxes with score and class.

use super::{Reading, Shown, Sight, are_shares, are_whole, other_units, units};
use crate::detect::manifest::file::{
    Activation, BoxFormat, BoxUnits, Column, Keypoints, Kind, OutputTable,
};
use crate::detect::recognize::family::Family;
use crate::detect::recognize::{Unrecognized, labels};

/// Lists of boxes without duplicates are not longer than this.
const LONGEST_LIST: usize = 1000;

/// The sides of the cells of the usual grids, and with the one more of larger networks.
const STRIDES: [&[u16]; 2] = [&[8, 16, 32], &[8, 16, 32, 64]];

/// The sides of cells that networks in use have. Files whose classes nobody knows have to fit one of these.
const KNOWN_STRIDES: [&[usize]; 4] = [&[8, 16, 32], &[8, 16, 32, 64], &[4, 8, 16, 32], &[16, 32]];

/// With as many further outputs of numbers that no reading uses, a file has raw heads.
const HEADS: usize = 3;

/// An output that may be a table: `numbers` for each of `candidates`.
#[derive(Clone, Copy)]
struct Table<'a> {
    shown: Shown<'a>,
    numbers: usize,
    candidates: usize,
    /// True if the numbers of a candidate follow each other, `[1, N, numbers]`.
    is_by_row: bool,
}

/// How many candidates grids give.
#[derive(Clone, Copy, PartialEq)]
enum Grid {
    /// One a cell.
    One(&'static [u16]),
    /// Three a cell, one for each anchor.
    Three,
    None,
}

impl Sight<'_> {
    pub(super) fn tables(&self, all: &mut Vec<Reading>) {
        // These names say that boxes and classes are in two outputs.
        let has = |name: &str| self.outputs.iter().any(|output| output.name == name);
        if has("logits") && has("pred_boxes") || has("dets") && has("labels") {
            return;
        }
        let prototypes: Vec<&Shown<'_>> = self
            .outputs
            .iter()
            .filter(|output| {
                output.dims.len() == 4
                    && output
                        .last::<3>()
                        .is_some_and(|[m, h, w]| (4..=256).contains(&m) && h >= 4 && w >= 4)
            })
            .collect();
        for shown in self.outputs.iter().filter(|output| output.is_float()) {
            let Some([first, second]) = shown.last::<2>() else {
                continue;
            };
            let table = |numbers, candidates, is_by_row| Table {
                shown: *shown,
                numbers,
                candidates,
                is_by_row,
            };
            // Numbers that fit the labels are those of a candidate. Else a model has more candidates than a candidate has numbers,
            // unless it has very few of both.
            let is_by_column = match (self.fit_labels(first), self.fit_labels(second)) {
                (true, false) => true,
                (false, true) => false,
                _ => first >= 5 && (second >= first || second < 5),
            };
            let ways = if is_by_column {
                [table(first, second, false), table(second, first, true)]
            } else {
                [table(second, first, true), table(first, second, false)]
            };
            for (rank, way) in ways.into_iter().enumerate() {
                let is_unlikely = rank > 0
                    && (way.numbers > 600
                        || self.grid(way.candidates) == Grid::None && {
                            way.candidates < 5 || way.numbers < 5
                        });
                if way.numbers < 5 || is_unlikely {
                    continue;
                }
                let before = all.len();
                match prototypes.as_slice() {
                    [prototypes] => self.outlines(way, prototypes, all),
                    _ => self.plain(way, all),
                }
                for reading in &mut all[before..] {
                    reading.rank += if rank > 0 { 3 } else { 0 };
                }
                if self.wanted.is_none() && self.labels.is_none() {
                    let found = all.split_off(before);
                    let likely = found
                        .into_iter()
                        .filter_map(|reading| self.with_unknown_classes(way, reading));
                    all.extend(likely);
                }
            }
        }
    }

    /// True if a candidate with so many numbers has one for each label that is known, or for each of COCO's 80.
    fn fit_labels(&self, numbers: usize) -> bool {
        let classes = self.labels.unwrap_or(80);
        numbers == 4 + classes || numbers == 5 + classes
    }

    /// A reading where nobody says what the classes are, unless it is unlikely. Nearly any output has some number of classes if it is taken
    /// for a table, as those of models that read text.
    fn with_unknown_classes(&self, table: Table<'_>, reading: Reading) -> Option<Reading> {
        let is_known = |classes| labels::coco(classes).is_some();
        if reading.classes.is_none_or(is_known) || self.fits_cells(table.candidates) {
            return Some(reading);
        }
        let is_list = table.candidates <= LONGEST_LIST && table.shown.dims.len() == 3;
        let further = self.outputs.iter().filter(|output| {
            output.is_float()
                && output.name != table.shown.name
                && reading.output.prototypes.as_deref() != Some(output.name)
        });
        // A list has to show that it is one.
        let rank = reading.rank + 3;
        (is_list && further.count() < HEADS).then_some(Reading { rank, ..reading })
    }

    /// True for one or three candidates in each cell of grids that networks in use have.
    fn fits_cells(&self, candidates: usize) -> bool {
        let (width, height) = self.input;
        KNOWN_STRIDES.iter().any(|strides| {
            let down: usize = strides.iter().map(|n| (width / n) * (height / n)).sum();
            let cells = |n: &usize| width.div_ceil(*n) * height.div_ceil(*n);
            let up: usize = strides.iter().map(cells).sum();
            candidates > 0 && [down, 3 * down, up, 3 * up].contains(&candidates)
        })
    }

    /// What the outputs are if no kind of output has their shapes: a classifier's, or heads before their boxes are decoded.
    pub(in crate::detect::recognize) fn other_purpose(&self, seen: &str) -> Option<Unrecognized> {
        let floats: Vec<&Shown<'_>> = self
            .outputs
            .iter()
            .filter(|output| output.is_float())
            .collect();
        match floats.as_slice() {
            [output] if output.dims.len() == 2 && output.dims[0] == 1 && output.dims[1] > 1 => {
                Some(Unrecognized::Classifier {
                    output: format!("`{}` {:?}", output.name, output.dims),
                })
            }
            all if all.len() > HEADS => Some(Unrecognized::Heads {
                seen: seen.to_owned(),
            }),
            _ => None,
        }
    }

    fn grid(&self, candidates: usize) -> Grid {
        let (width, height) = self.input;
        let cells = |strides: &[u16]| -> usize {
            let grid =
                |stride: &u16| (width / usize::from(*stride)) * (height / usize::from(*stride));
            strides.iter().map(grid).sum()
        };
        for strides in STRIDES {
            if candidates == cells(strides) && candidates > 0 {
                return Grid::One(strides);
            }
            if candidates == 3 * cells(strides) && candidates > 0 {
                return Grid::Three;
            }
        }
        Grid::None
    }

    /// Outputs without outlines.
    fn plain(&self, table: Table<'_>, all: &mut Vec<Reading>) {
        let is_list =
            table.candidates <= LONGEST_LIST || table.shown.is_called(&["nms", "detections"]);
        let task = self.metadata.task.as_deref();
        let is_pose = task == Some("pose") || self.wanted == Some(Kind::YoloPose);
        if is_pose || (task.is_none() && matches!(table.numbers, 56 | 57)) {
            self.pose(table, is_list, all);
        }
        if is_pose {
            return;
        }
        let grid = self.grid(table.candidates);
        if table.is_by_row && table.numbers == 6 && grid == Grid::None {
            rows(self, table, 0, all);
        } else if self.wanted == Some(Kind::Rows) && table.numbers == 6 && table.is_by_row {
            rows(self, table, 1, all);
        }
        if table.is_by_row && table.numbers == 7 && grid == Grid::None {
            rows_of_seven(table, all);
        }
        let numbers = table.numbers;
        let objectness = |rank, why: &str, all: &mut Vec<Reading>| {
            if numbers > 5 {
                self.yolo(table, Kind::YoloObjectness, numbers - 5, rank, why, all);
            }
        };
        let yolo = |rank, why: &str, all: &mut Vec<Reading>| {
            self.yolo(table, Kind::Yolo, numbers - 4, rank, why, all);
        };
        let text = |what: &str| {
            format!(
                "{numbers} numbers for each of {} candidates, {what}",
                table.candidates
            )
        };
        let is_from_v8 = self.metadata.is_ultralytics && self.labels == Some(numbers - 4);
        match grid {
            _ if is_from_v8 => yolo(
                0,
                &text("which are four for the box and one for each label of the metadata"),
                all,
            ),
            Grid::Three => {
                objectness(
                    0,
                    &text("three for each cell of grids of 8, 16 and 32 pixels"),
                    all,
                );
                yolo(1, &text("four of them for the box"), all);
            }
            Grid::One(strides) if table.is_by_row => {
                let cells = "one for each cell of grids of 8, 16 and 32 pixels";
                yolox(table, strides, &text(cells), all);
                objectness(1, &text("one for each cell, decoded in the graph"), all);
                yolo(0, &text("four of them for the box"), all);
            }
            Grid::One(strides) => {
                yolo(0, &text("four of them for the box, one for each cell"), all);
                objectness(2, &text("four for the box and one for the objectness"), all);
                if self.wanted == Some(Kind::Yolox) {
                    yolox(table, strides, &text("one for each cell"), all);
                }
            }
            Grid::None => {
                // Large tables with a row for each candidate are those of anchors.
                let is_anchors = table.is_by_row && !is_list;
                yolo(u8::from(is_anchors), &text("four of them for the box"), all);
                objectness(
                    if is_anchors { 0 } else { 2 },
                    &text("four for the box and one for the objectness"),
                    all,
                );
            }
        }
    }

    fn yolo(
        &self,
        table: Table<'_>,
        kind: Kind,
        classes: usize,
        rank: u8,
        why: &str,
        all: &mut Vec<Reading>,
    ) {
        let is_detr = kind == Kind::Yolo && table.is_by_row && table.candidates <= LONGEST_LIST;
        let (found, why_units) = units(table.boxes());
        // Transformers leave no duplicates, and say boxes in shares.
        let is_detr = is_detr && found == BoxUnits::Shares;
        let family = match kind {
            _ if is_detr => Family::RtDetr,
            // YOLOv6 has no objectness and says 1 in its place; its output is called so.
            Kind::YoloObjectness if table.is_sure() || table.shown.name == "outputs" => {
                Family::Yolo
            }
            Kind::YoloObjectness
                if table.is_by_row && matches!(self.grid(table.candidates), Grid::One(_)) =>
            {
                Family::Yolox
            }
            Kind::YoloObjectness => Family::Yolo,
            _ if self.metadata.is_ultralytics => Family::Yolo,
            _ => Family::Other,
        };
        let units = [(found, 0), (other_units(found), 3)];
        for (units, more) in units {
            for (format, further) in [(BoxFormat::Cxcywh, 0), (BoxFormat::Xyxy, 2)] {
                for (activation, last) in [(Activation::None, 0), (Activation::Sigmoid, 1)] {
                    let output = OutputTable {
                        predictions: Some(table.shown.name.to_owned()),
                        box_format: Some(format),
                        box_units: Some(units),
                        activation: Some(activation),
                        ..OutputTable::of(kind)
                    };
                    let reading = Reading {
                        classes: Some(classes),
                        family,
                        nms_iou: if is_detr { 1.0 } else { 0.6 },
                        ..Reading::new(output, rank + more + further + last, why)
                    };
                    all.push(reading.note("box_units", &why_units));
                }
            }
        }
    }

    fn pose(&self, table: Table<'_>, is_list: bool, all: &mut Vec<Reading>) {
        let rows = is_list && table.is_by_row;
        let head = if rows { 6 } else { 5 };
        let (count, numbers) = self.metadata.keypoints.unwrap_or_else(|| {
            let rest = table.numbers.saturating_sub(head);
            if rest % 3 == 0 {
                (rest / 3, 3)
            } else {
                (rest / 2, 2)
            }
        });
        let Some(rest) = table
            .numbers
            .checked_sub(count * numbers)
            .filter(|rest| *rest >= head)
        else {
            return;
        };
        if count == 0 || !(2..=3).contains(&numbers) || (rows && rest != 6) {
            return;
        }
        let (found, why_units) = units(table.boxes());
        for (units, rank) in [(found, 0), (other_units(found), 3)] {
            let output = OutputTable {
                predictions: Some(table.shown.name.to_owned()),
                keypoints: Some(
                    labels::keypoints(count).map_or(Keypoints::Count(count), Keypoints::Names),
                ),
                keypoint_numbers: u8::try_from(numbers).ok(),
                box_format: Some(if rows {
                    BoxFormat::Xyxy
                } else {
                    BoxFormat::Cxcywh
                }),
                box_units: Some(units),
                activation: Some(Activation::None),
                columns: rows
                    .then(|| vec![Column::Box, Column::Score, Column::Class, Column::Keypoints]),
                ..OutputTable::of(Kind::YoloPose)
            };
            let why = match self.metadata.keypoints {
                Some(_) => format!("the metadata says {count} keypoints of {numbers} numbers"),
                None => format!(
                    "{} numbers for each candidate are enough for {count} keypoints of {numbers} numbers",
                    table.numbers
                ),
            };
            let reading = Reading {
                classes: (!rows).then_some(rest - 4),
                assumed: 1,
                family: Family::Yolo,
                nms_iou: if rows { 1.0 } else { 0.6 },
                ..Reading::new(output, rank, why)
            };
            all.push(reading.note("box_units", &why_units));
        }
    }

    /// Outputs with the coefficients of an outline, whose prototypes are in another output.
    fn outlines(&self, table: Table<'_>, prototypes: &Shown<'_>, all: &mut Vec<Reading>) {
        let Some([masks, ..]) = prototypes.last::<3>() else {
            return;
        };
        let Some(rest) = table.numbers.checked_sub(masks).filter(|rest| *rest >= 5) else {
            return;
        };
        use Column as C;
        let is_list = table.candidates <= LONGEST_LIST && table.is_by_row && rest == 6;
        let is_anchors = self.grid(table.candidates) == Grid::Three && rest > 5;
        let (columns, classes, nms_iou) = if is_list {
            (
                Some(vec![C::Box, C::Score, C::Class, C::Coefficients]),
                None,
                1.0,
            )
        } else if is_anchors {
            (
                Some(vec![C::Box, C::Objectness, C::Scores, C::Coefficients]),
                Some(rest - 5),
                0.6,
            )
        } else {
            (None, Some(rest - 4), 0.6)
        };
        let (found, why_units) = units(table.boxes());
        for (units, rank) in [(found, 0), (other_units(found), 3)] {
            let output = OutputTable {
                predictions: Some(table.shown.name.to_owned()),
                prototypes: Some(prototypes.name.to_owned()),
                box_format: Some(if is_list {
                    BoxFormat::Xyxy
                } else {
                    BoxFormat::Cxcywh
                }),
                box_units: Some(units),
                activation: Some(Activation::None),
                columns: columns.clone(),
                ..OutputTable::of(Kind::YoloSeg)
            };
            let why = format!(
                "{} numbers for each candidate, and a second output with {masks} prototypes of masks",
                table.numbers
            );
            let reading = Reading {
                classes,
                family: Family::Yolo,
                nms_iou,
                ..Reading::new(output, rank, why)
            };
            all.push(reading.note("box_units", &why_units));
        }
    }
}

impl<'a> Table<'a> {
    /// True if the fifth number of each candidate is 1.
    fn is_sure(&self) -> bool {
        let mut rows = self.shown.values.chunks_exact(self.numbers);
        rows.all(|row| {
            row.get(4)
                .is_some_and(|number| (number - 1.0).abs() < 0.001)
        })
    }

    /// The four numbers of all boxes, if they are the first of each candidate.
    fn boxes(&self) -> Box<dyn Iterator<Item = f32> + 'a> {
        let values = self.shown.values;
        if self.is_by_row {
            let rows = values.chunks_exact(self.numbers);
            Box::new(rows.flat_map(|row| row[..4].iter().copied()))
        } else {
            Box::new(values[..4 * self.candidates].iter().copied())
        }
    }
}

fn yolox(table: Table<'_>, strides: &'static [u16], why: &str, all: &mut Vec<Reading>) {
    if table.numbers < 6 {
        return;
    }
    for (activation, rank) in [(Activation::None, 0), (Activation::Sigmoid, 1)] {
        let output = OutputTable {
            predictions: Some(table.shown.name.to_owned()),
            activation: Some(activation),
            strides: Some(strides.to_vec()),
            ..OutputTable::of(Kind::Yolox)
        };
        all.push(Reading {
            classes: Some(table.numbers - 5),
            family: Family::Yolox,
            nms_iou: 0.5,
            ..Reading::new(output, rank, why)
        });
    }
}

/// Six numbers: four of the box, a score and a class in some order.
fn rows(sight: &Sight<'_>, table: Table<'_>, rank: u8, all: &mut Vec<Reading>) {
    use Column as C;
    let column = |number| table.shown.column(table.candidates, table.numbers, number);
    let is_paddle = sight
        .extra
        .iter()
        .any(|name| *name == "scale_factor" || *name == "im_shape")
        || table.shown.is_called(&["multiclass_nms"]);
    let orders = [
        (vec![C::Box, C::Score, C::Class], 4, 5, 0..4),
        (vec![C::Class, C::Score, C::Box], 1, 0, 2..6),
        (vec![C::Box, C::Class, C::Score], 5, 4, 0..4),
    ];
    let is_empty = column(4).is_empty();
    for (place, (columns, score, class, boxes)) in orders.into_iter().enumerate() {
        let (scores, classes) = (column(score), column(class));
        let fits = are_shares(&scores) && are_whole(&classes, -1.0);
        let is_usual = if is_paddle { place == 1 } else { place == 0 };
        let (found, why_units) = units(boxes.flat_map(column));
        let unlikely = u8::from(!fits) * 3 + if is_usual { 0 } else { 1 };
        for (format, further) in [
            (BoxFormat::Xyxy, 0),
            (BoxFormat::Yxyx, 2),
            (BoxFormat::Cxcywh, 2),
            (BoxFormat::Xywh, 2),
        ] {
            let output = OutputTable {
                predictions: Some(table.shown.name.to_owned()),
                box_format: Some(format),
                box_units: Some(found),
                activation: Some(Activation::None),
                columns: Some(columns.clone()),
                ..OutputTable::of(Kind::Rows)
            };
            let why = "six numbers for each box, which are its four, a score and a class";
            let family = if is_paddle {
                Family::Paddle
            } else if sight.metadata.is_ultralytics {
                Family::Yolo
            } else {
                Family::Other
            };
            let reading = Reading {
                family,
                ..Reading::new(output, rank + unlikely + further, why)
            };
            let seen = if is_empty {
                "the usual order; nothing was seen on the test picture that tells"
            } else {
                "only the scores are from 0 to 1 and only the classes are whole there"
            };
            all.push(reading.note("box_units", &why_units).note("columns", seen));
        }
    }
}

/// Seven numbers, the first of which is that of the picture in its batch.
fn rows_of_seven(table: Table<'_>, all: &mut Vec<Reading>) {
    use Column as C;
    let column = |number| table.shown.column(table.candidates, table.numbers, number);
    if !are_whole(&column(0), -1.0) {
        return;
    }
    let orders = [
        (vec![C::Ignore, C::Box, C::Class, C::Score], 6, 5, 1..5),
        (vec![C::Ignore, C::Class, C::Score, C::Box], 2, 1, 3..7),
    ];
    for (rank, (columns, score, class, boxes)) in orders.into_iter().enumerate() {
        let fits = are_shares(&column(score)) && are_whole(&column(class), -1.0);
        let (found, why_units) = units(boxes.flat_map(column));
        let output = OutputTable {
            predictions: Some(table.shown.name.to_owned()),
            box_format: Some(BoxFormat::Xyxy),
            box_units: Some(found),
            activation: Some(Activation::None),
            columns: Some(columns),
            ..OutputTable::of(Kind::Rows)
        };
        let why = "seven numbers for each box, which are the picture's number, its four, a class and a score";
        let rank = u8::try_from(rank).unwrap_or(1) + u8::from(!fits) * 3;
        let reading = Reading {
            family: Family::Yolo,
            ..Reading::new(output, rank, why)
        };
        all.push(reading.note("box_units", &why_units));
    }
}
