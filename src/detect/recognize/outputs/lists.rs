//! Lists with NMS in the graph: boxes, the numbers of their classes and their scores, each in an output of its own.

use super::{Reading, Shown, Sight, are_shares, are_whole, units};
use crate::detect::manifest::file::{Activation, Background, BoxFormat, Kind, OutputTable};
use crate::detect::recognize::family::Family;

/// How many labels COCO has by the numbers of its annotations.
const COCO_BY_NUMBER: usize = 90;

/// The outputs of a model that gives lists.
#[derive(Clone, Copy)]
struct Lists<'a> {
    boxes: Shown<'a>,
    labels: Shown<'a>,
    /// The scores, unless they are the fifth numbers of the boxes.
    scores: Option<Shown<'a>>,
    count: Option<Shown<'a>>,
}

/// Which library made a graph that gives lists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Library {
    Tf,
    TensorRt,
    MmDetection,
    Detr,
    Torchvision,
    Other,
}

impl Sight<'_> {
    pub(super) fn lists(&self, all: &mut Vec<Reading>) {
        let Some(lists) = self.find_lists() else {
            return;
        };
        let library = self.library(&lists);
        let (found, why_units) = units(lists.numbers_of_boxes());
        let is_tf = library == Library::Tf;
        let (first, none) = (Background::First, Background::None);
        // torchvision and TensorFlow count classes from 1; a class of number 0 says that the file does not.
        let has_zero = lists.strong_classes().contains(&0.0);
        let is_first = matches!(library, Library::Tf | Library::Torchvision) && !has_zero;
        let backgrounds = if is_first {
            [first, none]
        } else {
            [none, first]
        };
        let formats = if is_tf {
            [BoxFormat::Yxyx, BoxFormat::Xyxy]
        } else {
            [BoxFormat::Xyxy, BoxFormat::Yxyx]
        };
        for (a, background) in (0u8..).zip(backgrounds) {
            for (b, format) in (0u8..).zip(
                formats
                    .into_iter()
                    .chain([BoxFormat::Cxcywh, BoxFormat::Xywh]),
            ) {
                let output = OutputTable {
                    boxes: Some(lists.boxes.name.to_owned()),
                    labels: Some(lists.labels.name.to_owned()),
                    scores: lists.scores.map(|output| output.name.to_owned()),
                    count: lists.count.map(|output| output.name.to_owned()),
                    box_format: Some(format),
                    box_units: Some(found),
                    activation: Some(Activation::None),
                    background: Some(background),
                    ..OutputTable::of(Kind::BoxesLabelsScores)
                };
                let is_by_number =
                    background == first || matches!(library, Library::Tf | Library::Torchvision);
                let reading = Reading {
                    assumed: if is_by_number { COCO_BY_NUMBER } else { 80 },
                    family: library.family(),
                    ..Reading::new(
                        output,
                        2 * a + if b > 1 { 2 } else { b },
                        format!("lists of boxes, classes and scores, {}", library.words()),
                    )
                };
                let why_background = if background == first {
                    "these count classes from 1"
                } else {
                    "these count classes from 0"
                };
                all.push(
                    reading
                        .note("box_units", &why_units)
                        .note("background", why_background),
                );
            }
        }
    }

    fn library(&self, lists: &Lists<'_>) -> Library {
        let has = |word: &str| self.outputs.iter().any(|output| output.is_called(&[word]));
        if has("detection_boxes") || has("num_detections") && has("detection_") {
            Library::Tf
        } else if has("det_boxes") || has("num_dets") {
            Library::TensorRt
        } else if lists.scores.is_none() {
            Library::MmDetection
        } else if !self.extra.is_empty() {
            Library::Detr
        } else if self.is_from_tensorflow && lists.count.is_some() {
            Library::Tf
        } else if lists.boxes.dims.len() == 2 && lists.labels.is_whole() && lists.count.is_none() {
            Library::Torchvision
        } else {
            Library::Other
        }
    }

    /// Finds the lists by names and types, and by their numbers where these do not tell.
    fn find_lists(&self) -> Option<Lists<'_>> {
        // TensorFlow's models also show what NMS began with.
        let kept: Vec<&Shown<'_>> = self
            .outputs
            .iter()
            .filter(|output| !output.is_called(&["raw_", "multiclass_scores", "anchor_ind"]))
            .collect();
        let boxes: Vec<(&Shown<'_>, [usize; 2])> = kept
            .iter()
            .filter(|output| output.is_float())
            .filter_map(|output| Some((*output, output.last::<2>()?)))
            .filter(|(output, [_, numbers])| {
                (*numbers == 4 || *numbers == 5) && output.dims.len() >= 2
            })
            .collect();
        let [(boxes, [rows, numbers])] = boxes.as_slice() else {
            return None;
        };
        let lists: Vec<&Shown<'_>> = kept
            .iter()
            .copied()
            .filter(|output| output.name != boxes.name)
            .filter(|output| output.last::<1>() == Some([*rows]))
            .filter(|output| !output.is_called(&["num", "count"]))
            .collect();
        let counts: Vec<&Shown<'_>> = kept
            .iter()
            .copied()
            .filter(|output| {
                output.values.len() == 1 && lists.iter().all(|list| list.name != output.name)
            })
            .collect();
        let labels = ["class", "label", "categor", "cls"];
        let scores = ["score", "conf", "prob"];
        let find = |words: &[&str]| lists.iter().copied().find(|list| list.is_called(words));
        let label = find(&labels)
            .or_else(|| lists.iter().copied().find(|list| list.is_whole()))
            .or_else(|| {
                let is_class =
                    |list: &&&Shown<'_>| are_whole(list.values, -1.0) && !list.is_called(&scores);
                lists.iter().find(is_class).copied()
            })?;
        let score = if *numbers == 5 {
            None
        } else {
            let others = lists.iter().copied().filter(|list| list.name != label.name);
            let named = others.clone().find(|list| list.is_called(&scores));
            Some(named.or_else(|| {
                others
                    .clone()
                    .find(|list| list.is_float() && are_shares(list.values))
            })?)
        };
        Some(Lists {
            boxes: **boxes,
            labels: *label,
            scores: score.copied(),
            count: counts.first().map(|count| **count),
        })
    }
}

impl<'a> Lists<'a> {
    fn columns(&self) -> usize {
        if self.scores.is_some() { 4 } else { 5 }
    }

    fn numbers_of_boxes(&self) -> impl Iterator<Item = f32> + 'a {
        let rows = self.boxes.values.chunks_exact(self.columns());
        rows.flat_map(|row| row[..4].iter().copied())
    }

    /// The classes of boxes that are sure enough to be objects.
    fn strong_classes(&self) -> Vec<f32> {
        let score = |row: usize| match self.scores {
            Some(scores) => scores.values.get(row).copied(),
            None => self.boxes.values.get(5 * row + 4).copied(),
        };
        let classes = self.labels.values.iter().enumerate();
        classes
            .filter(|(row, _)| score(*row).is_some_and(|score| score >= 0.3))
            .map(|(_, &class)| class)
            .collect()
    }
}

impl Library {
    fn family(self) -> Family {
        match self {
            Self::Tf => Family::TfDetection,
            Self::TensorRt => Family::Yolo,
            Self::MmDetection => Family::MmDetection,
            Self::Detr => Family::RtDetr,
            Self::Torchvision => Family::Torchvision,
            Self::Other => Family::Other,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Tf => "named as those of TensorFlow's detection models",
            Self::TensorRt => "named as those of TensorRT's NMS",
            Self::MmDetection => "with the scores beside the boxes as MMDetection has them",
            Self::Detr => "for which the model takes the size of the picture",
            Self::Torchvision => "without a batch as torchvision has them",
            Self::Other => "by their shapes",
        }
    }
}
