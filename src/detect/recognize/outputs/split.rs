//! Two outputs: boxes, and a number for each class. These are the DETRs and the SSDs.

use super::{Reading, Shown, Sight, are_shares, units};
use crate::detect::manifest::file::{
    Activation, Background, BoxFormat, BoxUnits, Kind, OutputTable,
};
use crate::detect::recognize::family::Family;
use crate::detect::recognize::labels;

/// Transformers have at most this many candidates.
const MOST_QUERIES: usize = 2000;

/// Boxes, and the numbers of `columns` classes, for `rows` candidates.
#[derive(Clone, Copy)]
struct Pair<'a> {
    boxes: Shown<'a>,
    scores: Shown<'a>,
    rows: usize,
    columns: usize,
}

impl Sight<'_> {
    pub(super) fn split(&self, all: &mut Vec<Reading>) {
        for pair in self.pairs() {
            let are_scores = are_shares(pair.scores.values);
            let is_named =
                pair.scores.is_called(&["logit"]) || pair.boxes.is_called(&["pred_boxes", "dets"]);
            let is_detr =
                !pair.are_offsets() && (is_named || (!are_scores && pair.rows <= MOST_QUERIES));
            let rank = |is_likely: bool| if is_likely { 0 } else { 3 };
            if pair.rows <= MOST_QUERIES && !pair.are_offsets() {
                self.detr(pair, are_scores, rank(is_detr), all);
            }
            self.ssd(pair, are_scores, rank(!is_detr), all);
        }
    }

    /// All pairs of outputs that have as many rows, one of them with four numbers in each. Names decide where shapes do not.
    fn pairs(&self) -> Vec<Pair<'_>> {
        let mut all = Vec::new();
        // TensorFlow's models also show what NMS began with.
        let kept = || {
            let shown = self.outputs.iter().filter(|output| output.is_float());
            shown.filter(|output| !output.is_called(&["raw_", "multiclass_scores"]))
        };
        for boxes in kept() {
            let rows = match (boxes.last::<2>(), boxes.last::<3>()) {
                (Some([rows, 4]), _) | (_, Some([rows, 1, 4])) => rows,
                _ => continue,
            };
            if boxes.is_called(&["score", "logit", "conf"]) {
                continue;
            }
            for scores in kept() {
                let Some([found, columns]) = scores.last::<2>() else {
                    continue;
                };
                let is_other = scores.name != boxes.name && found == rows && columns > 0;
                if is_other && !scores.is_called(&["box"]) {
                    all.push(Pair {
                        boxes: *boxes,
                        scores: *scores,
                        rows,
                        columns,
                    });
                }
            }
        }
        // Of several, as in a transformer that also shows its hidden states, those whose names say what they are count.
        let named = |pair: &Pair<'_>| {
            u8::from(
                pair.scores
                    .is_called(&["logit", "score", "conf", "label", "cls", "class"]),
            ) + u8::from(pair.boxes.is_called(&["box", "dets", "bbox"]))
        };
        let most = all.iter().map(named).max().unwrap_or(0);
        all.retain(|pair| named(pair) == most);
        all
    }

    fn detr(&self, pair: Pair<'_>, are_scores: bool, rank: u8, all: &mut Vec<Reading>) {
        let is_last_on_top = pair.is_on_top(pair.columns - 1);
        let (found, why_units) = units(pair.boxes.values.iter().copied());
        // RF-DETR keeps a place for "nothing" behind the classes, and takes the sigmoid all the same.
        let is_one_more = self.labels.is_some_and(|labels| labels + 1 == pair.columns);
        // The last number of most candidates is the highest, where it stands for "nothing".
        let is_softmax = match self.labels {
            Some(_) => is_one_more && is_last_on_top,
            None => is_last_on_top && labels::coco(pair.columns).is_none_or(|_| pair.columns == 91),
        };
        let softmax = (Activation::Softmax, Background::Last, pair.columns - 1);
        let sigmoid = if is_one_more {
            (Activation::Sigmoid, Background::Last, pair.columns - 1)
        } else {
            (Activation::Sigmoid, Background::None, pair.columns)
        };
        let plain = (Activation::None, Background::None, pair.columns);
        let ways = match (are_scores, is_softmax) {
            (true, _) => [(plain, 0), (sigmoid, 1), (softmax, 1)],
            (false, true) => [(softmax, 0), (sigmoid, 1), (plain, 3)],
            (false, false) => [(sigmoid, 0), (softmax, 1), (plain, 3)],
        };
        let is_hugging_face = pair.scores.is_called(&["logits"]) && !is_softmax;
        let family = if is_hugging_face && pair.columns != 91 {
            Family::RtDetr
        } else {
            Family::Detr
        };
        for ((activation, background, classes), further) in ways {
            if classes == 0 {
                continue;
            }
            for (format, last) in [(BoxFormat::Cxcywh, 0), (BoxFormat::Xyxy, 2)] {
                let output = OutputTable {
                    boxes: Some(pair.boxes.name.to_owned()),
                    logits: Some(pair.scores.name.to_owned()),
                    box_format: Some(format),
                    box_units: Some(if found == BoxUnits::Pixels {
                        found
                    } else {
                        BoxUnits::Shares
                    }),
                    activation: Some(activation),
                    background: Some(background),
                    ..OutputTable::of(Kind::Detr)
                };
                let why = format!(
                    "boxes and {} numbers of classes for each of {} queries",
                    pair.columns, pair.rows
                );
                let why_activation = match (are_scores, is_last_on_top) {
                    (true, _) => "all numbers are from 0 to 1 on the test picture",
                    (false, true) => {
                        "the numbers are no scores yet, and the last one of most queries is the highest"
                    }
                    (false, false) => {
                        "the numbers are no scores yet, and the last one of most queries is not the highest"
                    }
                };
                let reading = Reading {
                    classes: Some(classes),
                    family,
                    ..Reading::new(output, rank + further + last, why)
                };
                all.push(
                    reading
                        .note("box_units", &why_units)
                        .note("activation", why_activation),
                );
            }
        }
    }

    fn ssd(&self, pair: Pair<'_>, are_scores: bool, rank: u8, all: &mut Vec<Reading>) {
        let (found, why_units) = units(pair.boxes.values.iter().copied());
        let (first, last) = (pair.is_on_top(0), pair.is_on_top(pair.columns - 1));
        let backgrounds: [(Background, u8); 3] = match self.labels {
            Some(labels) if labels + 1 == pair.columns && last && !first => [
                (Background::Last, 0),
                (Background::First, 1),
                (Background::None, 3),
            ],
            Some(labels) if labels + 1 == pair.columns => [
                (Background::First, 0),
                (Background::Last, 1),
                (Background::None, 3),
            ],
            None if first && pair.columns > 1 => [
                (Background::First, 0),
                (Background::None, 1),
                (Background::Last, 2),
            ],
            None if last && pair.columns > 1 => [
                (Background::Last, 0),
                (Background::None, 1),
                (Background::First, 2),
            ],
            _ => [
                (Background::None, 0),
                (Background::First, 2),
                (Background::Last, 3),
            ],
        };
        let activations: &[(Activation, u8)] = if are_scores {
            &[(Activation::None, 0)]
        } else if first || last {
            &[(Activation::Softmax, 0), (Activation::Sigmoid, 1)]
        } else {
            &[(Activation::Sigmoid, 0), (Activation::Softmax, 1)]
        };
        // PyTorch's SSDs have a class for "nothing" and x before y; what TensorFlow leaves after its sigmoid has neither, in shares.
        let is_tf =
            self.is_from_tensorflow || are_scores && !first && !last && found == BoxUnits::Shares;
        if pair.are_offsets() {
            self.offsets(pair, are_scores, &backgrounds, activations, rank, all);
            return;
        }
        let formats = [
            (BoxFormat::Xyxy, u8::from(is_tf)),
            (BoxFormat::Yxyx, u8::from(!is_tf)),
            (BoxFormat::Cxcywh, 2),
            (BoxFormat::Xywh, 2),
        ];
        for &(activation, a) in activations {
            for (background, b) in backgrounds {
                let nothing = usize::from(background != Background::None);
                let Some(classes) = pair
                    .columns
                    .checked_sub(nothing)
                    .filter(|classes| *classes > 0)
                else {
                    continue;
                };
                for (format, c) in formats {
                    let output = OutputTable {
                        boxes: Some(pair.boxes.name.to_owned()),
                        scores: Some(pair.scores.name.to_owned()),
                        box_format: Some(format),
                        box_units: Some(found),
                        activation: Some(activation),
                        background: Some(background),
                        ..OutputTable::of(Kind::Ssd)
                    };
                    let why = format!(
                        "boxes and {} scores for each of {} candidates",
                        pair.columns, pair.rows
                    );
                    let reading = Reading {
                        classes: Some(classes),
                        family: if is_tf { Family::TfSsd } else { Family::Ssd },
                        nms_iou: 0.5,
                        ..Reading::new(output, rank + a + b + c, why)
                    };
                    all.push(reading.note("box_units", &why_units));
                }
            }
        }
    }

    /// Boxes that are offsets from anchors. Without the anchors nothing can be read.
    fn offsets(
        &self,
        pair: Pair<'_>,
        are_scores: bool,
        backgrounds: &[(Background, u8)],
        activations: &[(Activation, u8)],
        rank: u8,
        all: &mut Vec<Reading>,
    ) {
        // A softmax is over "nothing" too.
        let activations = if are_scores {
            activations
        } else {
            &[(Activation::Softmax, 0), (Activation::Sigmoid, 1)]
        };
        for &(activation, a) in activations {
            for &(background, b) in backgrounds {
                let nothing = usize::from(background != Background::None);
                let classes = pair.columns.saturating_sub(nothing);
                for (format, c) in [(BoxFormat::Cxcywh, 0), (BoxFormat::Yxyx, 1)] {
                    let output = OutputTable {
                        boxes: Some(pair.boxes.name.to_owned()),
                        scores: Some(pair.scores.name.to_owned()),
                        box_format: Some(format),
                        activation: Some(activation),
                        background: Some(background),
                        ..OutputTable::of(Kind::Ssd)
                    };
                    let why = "boxes that are offsets from anchors, and scores";
                    all.push(Reading {
                        classes: Some(classes),
                        family: Family::Ssd,
                        nms_iou: 0.5,
                        needs_anchors: true,
                        ..Reading::new(output, rank + a + b + c, why)
                    });
                }
            }
        }
    }
}

impl Pair<'_> {
    /// True if hardly any four numbers are a box in any format, as those that are relative to boxes that the file does not have.
    fn are_offsets(&self) -> bool {
        const ENOUGH: usize = 100;
        let boxes = self.boxes.values.chunks_exact(4);
        let all = boxes.len();
        let count =
            |is_box: fn(&[f32]) -> bool| boxes.clone().filter(|numbers| is_box(numbers)).count();
        let by_corners = count(|n| n[2] >= n[0] && n[3] >= n[1]);
        let by_size = count(|n| n[2] >= 0.0 && n[3] >= 0.0);
        all >= ENOUGH && 4 * by_corners.max(by_size) < 3 * all
    }

    /// True if this number is the highest of most candidates.
    fn is_on_top(&self, column: usize) -> bool {
        let rows = self.scores.values.chunks_exact(self.columns);
        let all = rows.len();
        let on_top = rows
            .filter(|row| row.iter().all(|&number| number <= row[column]) && row[column] != 0.0);
        self.columns > 1 && 2 * on_top.count() > all
    }
}
