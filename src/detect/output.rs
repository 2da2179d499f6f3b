//! What a model's outputs hold, resolved from the manifest: the names of the outputs, what their numbers mean, and how many there
//! should be. The manifest's check makes it, and the postprocessor reads outputs by it.

use std::sync::Arc;

use super::manifest::file::{Activation, Background, BoxFormat, BoxUnits, Column, Kind};

/// How the outputs of a model are read.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// The kind that the manifest names.
    pub kind: Kind,
    /// Which outputs there are.
    pub outputs: Outputs,
    /// What the four numbers of a box are.
    pub box_format: BoxFormat,
    /// What a box is measured in.
    pub box_units: BoxUnits,
    /// What makes scores of the numbers.
    pub activation: Activation,
    /// Where the class for "nothing" is.
    pub background: Background,
    /// Whether a candidate has a score for each class.
    pub numbers: Numbers,
    /// How many labels there are.
    pub classes: usize,
    /// How many keypoints an object has; 0 for none.
    pub keypoints: usize,
    /// How many numbers a keypoint has, 2 or 3.
    pub keypoint_numbers: usize,
}

/// Whether a candidate has a score for each class or for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// It has a score for each class, and NMS comes after.
    EachClass,
    /// It has the number of its class, and one score.
    OneClass,
}

/// The outputs that are read, by their names.
#[derive(Debug, Clone, PartialEq)]
pub enum Outputs {
    /// One output has all numbers of each candidate.
    Table {
        /// The name of that output.
        predictions: String,
        /// The order of a candidate's numbers.
        columns: Arc<[Column]>,
        /// The sides of the cells in pixels, if boxes are to be decoded on grids.
        strides: Option<Arc<[u16]>>,
        /// The output of which masks are made, if there is one.
        prototypes: Option<String>,
    },
    /// Boxes and the scores of all classes are in two outputs.
    Split {
        /// The name of the boxes, `[1, N, 4]` or `[1, N, 1, 4]`.
        boxes: String,
        /// The name of the scores, `[1, N, C]`.
        scores: String,
        /// What the boxes are offsets from, if they are.
        anchors: Option<Anchors>,
    },
    /// Boxes, class numbers and scores are in lists.
    Lists {
        /// The name of the boxes, `[N, 4]`, or `[N, 5]` with the score.
        boxes: String,
        /// The name of the class numbers, `[N]`.
        labels: String,
        /// The name of the scores, `[N]`, unless they are with the boxes.
        scores: Option<String>,
        /// The name of the number of boxes, if there is one.
        count: Option<String>,
    },
    /// Heatmaps, a place of which is a candidate.
    Centerface {
        /// The name of the scores, `[1, 1, H, W]`.
        heatmap: String,
        /// The name of the logarithms of height and width, `[1, 2, H, W]`.
        size: String,
        /// The name of the shifts, y and x, `[1, 2, H, W]`.
        offset: String,
        /// The name of the points, `[1, 10, H, W]`, if they are wanted.
        landmarks: Option<String>,
    },
}

/// The boxes that offsets start from.
#[derive(Debug, Clone, PartialEq)]
pub struct Anchors {
    /// Centre x, centre y, width and height in shares of the input.
    pub boxes: Arc<[[f32; 4]]>,
    /// What offsets are multiplied by, for centres and for sizes.
    pub variances: [f32; 2],
}

/// How many of a candidate's numbers belong to each column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Widths {
    /// All of them together.
    pub all: usize,
    /// Those of the classes.
    pub scores: usize,
    /// Those of an outline.
    pub coefficients: usize,
}

impl Output {
    /// How many numbers a candidate has for classes, with that for "nothing".
    pub fn score_columns(&self) -> usize {
        self.classes + usize::from(self.background != Background::None)
    }

    /// The width of each of these columns; `coefficients` is how many prototypes there are.
    pub fn widths(&self, columns: &[Column], coefficients: usize) -> Widths {
        let scores = self.score_columns();
        let all = columns
            .iter()
            .map(|column| self.width(*column, coefficients))
            .sum();
        Widths {
            all,
            scores,
            coefficients,
        }
    }

    /// How many numbers a column is.
    pub fn width(&self, column: Column, coefficients: usize) -> usize {
        match column {
            Column::Box => 4,
            Column::Scores => self.score_columns(),
            Column::Keypoints => self.keypoints * self.keypoint_numbers,
            Column::Coefficients => coefficients,
            Column::Objectness | Column::Score | Column::Class | Column::Ignore => 1,
        }
    }

    /// The names of the outputs that are read.
    pub fn names(&self) -> Vec<&str> {
        self.keys().into_iter().map(|(_, name)| name).collect()
    }

    /// The keys of the manifest that name outputs, and these names.
    pub fn keys(&self) -> Vec<(&'static str, &str)> {
        let keys: Vec<(&'static str, Option<&String>)> = match &self.outputs {
            Outputs::Table {
                predictions,
                prototypes,
                ..
            } => vec![
                ("output.predictions", Some(predictions)),
                ("output.prototypes", prototypes.as_ref()),
            ],
            Outputs::Split { boxes, scores, .. } => {
                let key = match self.kind {
                    Kind::Detr => "output.logits",
                    _ => "output.scores",
                };
                vec![("output.boxes", Some(boxes)), (key, Some(scores))]
            }
            Outputs::Lists {
                boxes,
                labels,
                scores,
                count,
            } => vec![
                ("output.boxes", Some(boxes)),
                ("output.labels", Some(labels)),
                ("output.scores", scores.as_ref()),
                ("output.count", count.as_ref()),
            ],
            Outputs::Centerface {
                heatmap,
                size,
                offset,
                landmarks,
            } => vec![
                ("output.heatmap", Some(heatmap)),
                ("output.size", Some(size)),
                ("output.offset", Some(offset)),
                ("output.landmarks", landmarks.as_ref()),
            ],
        };
        keys.into_iter()
            .filter_map(|(key, name)| Some((key, name?.as_str())))
            .collect()
    }
}
