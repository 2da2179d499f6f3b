//! The check of the table `[output]`: its keys come in as they are written, and an [`Output`] goes out, with everything filled in that
//! the kind implies.

use std::path::Path;
use std::sync::Arc;

use super::Refuse;
use crate::detect::manifest::file::{Activation, Background, Column, Keypoints, Kind, OutputTable};
use crate::detect::manifest::{ModelError, is_plain, read_text};
use crate::detect::output::{Anchors, Numbers, Output, Outputs};

/// The most keypoints of an object; whole-body models have 133.
const MAX_KEYPOINTS: usize = 512;

/// The keys of `[output]` that only some kinds have: the key, and whether it is given.
fn given(table: &OutputTable) -> [(&'static str, bool); 19] {
    [
        ("predictions", table.predictions.is_some()),
        ("boxes", table.boxes.is_some()),
        ("scores", table.scores.is_some()),
        ("logits", table.logits.is_some()),
        ("labels", table.labels.is_some()),
        ("count", table.count.is_some()),
        ("prototypes", table.prototypes.is_some()),
        ("heatmap", table.heatmap.is_some()),
        ("size", table.size.is_some()),
        ("offset", table.offset.is_some()),
        ("landmarks", table.landmarks.is_some()),
        ("box_format", table.box_format.is_some()),
        ("box_units", table.box_units.is_some()),
        ("activation", table.activation.is_some()),
        ("background", table.background.is_some()),
        ("columns", table.columns.is_some()),
        ("anchors", table.anchors.is_some()),
        ("variances", table.variances.is_some()),
        ("strides", table.strides.is_some()),
    ]
}

impl OutputTable {
    /// A table of this kind with all else left out.
    pub fn of(kind: Kind) -> Self {
        Self {
            kind,
            predictions: None,
            boxes: None,
            scores: None,
            logits: None,
            labels: None,
            count: None,
            prototypes: None,
            heatmap: None,
            size: None,
            offset: None,
            landmarks: None,
            box_format: None,
            box_units: None,
            activation: None,
            background: None,
            columns: None,
            anchors: None,
            variances: None,
            strides: None,
            keypoints: None,
            keypoint_numbers: None,
        }
    }

    pub(super) fn keypoint_names(&self) -> Vec<String> {
        match &self.keypoints {
            Some(Keypoints::Names(names)) => names.clone(),
            Some(Keypoints::Count(_)) | None => Vec::new(),
        }
    }

    /// Fills in what the kind implies, and reads the file of anchors. `path` is that of the manifest.
    ///
    /// # Errors
    /// If a key is missing, is none of the kind's, or has a value that cannot be.
    pub fn resolve(&self, path: &Path, classes: usize) -> Result<Output, ModelError> {
        let refuse = Refuse(path);
        self.check_keys(path)?;
        let kind = self.kind;
        let (format, units, activation) = kind.defaults();
        let activation = self.activation.unwrap_or(activation);
        let background = self.background.unwrap_or(match (kind, activation) {
            (Kind::Detr, Activation::Softmax) => Background::Last,
            _ => Background::None,
        });
        let numbers = match kind {
            Kind::Detr => Numbers::EachClass,
            Kind::Ssd => Numbers::EachClass,
            Kind::BoxesLabelsScores => Numbers::OneClass,
            _ => self.numbers(refuse)?,
        };
        if activation == Activation::Softmax && numbers == Numbers::OneClass {
            let expected = "`none` or `sigmoid` where a candidate has the score of one class only";
            return Err(refuse.because("output.activation", expected, "`softmax`"));
        }
        // Without a class for "nothing", a softmax makes an object of every candidate.
        if activation == Activation::Softmax && background == Background::None {
            let expected = "`none` or `sigmoid`, since the classes have none for \"nothing\",";
            return Err(refuse.because("output.activation", expected, "`softmax`"));
        }
        let named = |name: &Option<String>| name.clone().unwrap_or_default();
        let outputs = match kind {
            Kind::Ssd => Outputs::Split {
                boxes: named(&self.boxes),
                scores: named(&self.scores),
                anchors: self.anchors(path)?,
            },
            Kind::Detr => Outputs::Split {
                boxes: named(&self.boxes),
                scores: named(&self.logits),
                anchors: None,
            },
            Kind::BoxesLabelsScores => Outputs::Lists {
                boxes: named(&self.boxes),
                labels: named(&self.labels),
                scores: self.scores.clone(),
                count: self.count.clone(),
            },
            Kind::Centerface => Outputs::Centerface {
                heatmap: named(&self.heatmap),
                size: named(&self.size),
                offset: named(&self.offset),
                landmarks: self.landmarks.clone(),
            },
            Kind::Rows
            | Kind::Yolo
            | Kind::YoloObjectness
            | Kind::Yolox
            | Kind::YoloPose
            | Kind::YoloSeg => Outputs::Table {
                predictions: named(&self.predictions),
                columns: self.columns.as_deref().unwrap_or(kind.columns()).into(),
                strides: (kind == Kind::Yolox).then(|| {
                    self.strides
                        .clone()
                        .unwrap_or_else(|| vec![8, 16, 32])
                        .into()
                }),
                prototypes: self.prototypes.clone(),
            },
        };
        if self
            .strides
            .as_ref()
            .is_some_and(|all| all.is_empty() || all.contains(&0) || !all.is_sorted())
        {
            return Err(refuse.because(
                "output.strides",
                "a list of numbers over 0, the smallest first as all models have them",
                format!("{:?}", self.strides),
            ));
        }
        let keypoints = match &self.keypoints {
            None => 0,
            Some(Keypoints::Count(count)) => *count,
            Some(Keypoints::Names(names)) => names.len(),
        };
        if self.keypoints.is_some() && !(1..=MAX_KEYPOINTS).contains(&keypoints) {
            return Err(refuse.because(
                "output.keypoints",
                "between 1 and 512 points",
                keypoints.to_string(),
            ));
        }
        let keypoint_numbers = self.keypoint_numbers.unwrap_or(3);
        if !(2..=3).contains(&keypoint_numbers) {
            return Err(refuse.because(
                "output.keypoint_numbers",
                "2 or 3",
                keypoint_numbers.to_string(),
            ));
        }
        Ok(Output {
            kind,
            outputs,
            box_format: self.box_format.unwrap_or(format),
            box_units: self.box_units.unwrap_or(units),
            activation,
            background,
            numbers,
            classes,
            keypoints,
            keypoint_numbers: usize::from(keypoint_numbers),
        })
    }

    fn check_keys(&self, path: &Path) -> Result<(), ModelError> {
        let (required, optional) = self.kind.keys();
        let others = [
            ("keypoints", self.keypoints.is_some()),
            ("keypoint_numbers", self.keypoint_numbers.is_some()),
        ];
        let all: Vec<(&'static str, bool)> = given(self).into_iter().chain(others).collect();
        let refuse = |key: &str, problem: &'static str| {
            let list: Vec<String> = required
                .iter()
                .chain(optional)
                .map(|key| format!("`{key}`"))
                .collect();
            ModelError::OutputKey {
                path: path.to_owned(),
                key: key.to_owned(),
                problem,
                kind: self.kind.word(),
                keys: list.join(", "),
            }
        };
        if let Some((key, _)) = all
            .iter()
            .find(|(key, is_given)| required.contains(key) && !is_given)
        {
            return Err(refuse(key, "is missing"));
        }
        for (key, is_given) in &all {
            if *is_given && !required.contains(key) && !optional.contains(key) {
                return Err(refuse(key, "is given"));
            }
        }
        let outputs = [
            ("output.predictions", &self.predictions),
            ("output.boxes", &self.boxes),
            ("output.scores", &self.scores),
            ("output.logits", &self.logits),
            ("output.labels", &self.labels),
            ("output.count", &self.count),
            ("output.prototypes", &self.prototypes),
            ("output.heatmap", &self.heatmap),
            ("output.size", &self.size),
            ("output.offset", &self.offset),
            ("output.landmarks", &self.landmarks),
        ];
        for (place, (key, name)) in outputs.iter().enumerate() {
            let earlier = &outputs[..place];
            if let Some(name) = name
                && let Some((other, _)) = earlier.iter().find(|(_, n)| n.as_ref() == Some(name))
            {
                let expected = format!("another output than that of `{other}`");
                return Err(Refuse(path).because(key, expected, format!("`{name}`, too")));
            }
        }
        if self.variances.is_some() && self.anchors.is_none() {
            return Err(Refuse(path).because(
                "output.variances",
                "given with `anchors` only",
                "given without",
            ));
        }
        Ok(())
    }

    /// Checks the columns of `predictions`, and says whether they hold a score for each class or for one.
    fn numbers(&self, refuse: Refuse<'_>) -> Result<Numbers, ModelError> {
        let columns = self.columns.as_deref().unwrap_or(self.kind.columns());
        let count = |column| columns.iter().filter(|found| **found == column).count();
        let show = || {
            let words: Vec<String> = columns
                .iter()
                .map(|column| format!("{:?}", column.word()))
                .collect();
            format!("[{}]", words.join(", "))
        };
        let once = [
            Column::Box,
            Column::Scores,
            Column::Score,
            Column::Class,
            Column::Objectness,
            Column::Keypoints,
            Column::Coefficients,
        ];
        let is_once = once.iter().all(|column| count(*column) <= 1) && count(Column::Box) == 1;
        let each = count(Column::Scores) == 1 && count(Column::Score) + count(Column::Class) == 0;
        let one =
            count(Column::Scores) == 0 && count(Column::Score) == 1 && count(Column::Class) == 1;
        if !is_once || !(each || one) {
            let expected =
                "a list with `box`, and `scores` or both `score` and `class`, each once,";
            return Err(refuse.because("output.columns", expected, show()));
        }
        let place = |wanted| columns.iter().position(|column| *column == wanted);
        if let (Some(objectness), Some(scores)) = (place(Column::Objectness), place(Column::Scores))
            && objectness > scores
        {
            let expected = "a list with `objectness` before `scores`, as all models have it,";
            return Err(refuse.because("output.columns", expected, show()));
        }
        let wanted = [
            (Column::Keypoints, self.kind == Kind::YoloPose),
            (Column::Coefficients, self.kind == Kind::YoloSeg),
        ];
        for (column, is_wanted) in wanted {
            if (count(column) == 1) != is_wanted {
                let expected = "with `keypoints` for the kind `yolo_pose` and `coefficients` for `yolo_seg`, and for no other,";
                return Err(refuse.because("output.columns", expected, show()));
            }
        }
        Ok(if each {
            Numbers::EachClass
        } else {
            Numbers::OneClass
        })
    }

    fn anchors(&self, path: &Path) -> Result<Option<Anchors>, ModelError> {
        let refuse = Refuse(path);
        let Some(file) = &self.anchors else {
            return Ok(None);
        };
        if !is_plain(file) {
            return Err(refuse.because(
                "output.anchors",
                "a file name without folder",
                file.clone(),
            ));
        }
        let text = read_text(&path.with_file_name(file))?;
        let mut boxes = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let numbers: Vec<f32> = line
                .split(|c: char| c.is_whitespace() || c == ',')
                .filter(|word| !word.is_empty())
                .map_while(|word| word.parse().ok().filter(|number: &f32| number.is_finite()))
                .collect();
            match <[f32; 4]>::try_from(numbers) {
                Ok(anchor) => boxes.push(anchor),
                Err(_) => {
                    let found = format!("{line:?} on line {} of {file}", number + 1);
                    return Err(refuse.because(
                        "output.anchors",
                        "a file with four numbers on each line",
                        found,
                    ));
                }
            }
        }
        Ok(Some(Anchors {
            boxes: Arc::from(boxes),
            variances: self.variances.unwrap_or([0.1, 0.2]),
        }))
    }
}
