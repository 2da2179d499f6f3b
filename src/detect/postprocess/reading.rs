//! Finds the numbers in the outputs of a model: arrays come in; the numbers of boxes, scores, keypoints and outlines go out, by the
//! candidate. Nothing is copied.

use super::boxes::{Boxes, Decoding};
use super::matrix::Matrix;
use super::scores::Scores;
use super::{Array, Mismatch, Postprocessor};
use crate::detect::manifest::file::{Activation, Background, Column, Kind};
use crate::detect::output::{Anchors, Numbers, Outputs};

/// The numbers of all candidates of a picture.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    pub(crate) boxes: Boxes<'a>,
    /// The output that boxes are in.
    pub(crate) boxes_name: &'a str,
    pub(crate) scores: Scores<'a>,
    /// The output that scores are in.
    pub(crate) scores_name: &'a str,
    /// The output that numbers of classes are in, where a candidate has the score of one class.
    pub(crate) class_name: &'a str,
    /// The key of the manifest that says where they are.
    pub(crate) class_key: &'static str,
    /// How sure the model is that there is any object.
    pub(crate) objectness: Option<Matrix<'a>>,
    pub(crate) activation: Activation,
    pub(crate) background: Background,
    pub(crate) keypoints: Option<Matrix<'a>>,
    /// The output that keypoints are in.
    pub(crate) keypoints_name: &'a str,
    pub(crate) masks: Option<Masks<'a>>,
}

/// What masks are made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Masks<'a> {
    /// The factors of each candidate.
    pub(crate) coefficients: Matrix<'a>,
    /// The output that prototypes are in.
    pub(crate) name: &'a str,
    /// The prototypes, each row after row.
    pub(crate) prototypes: &'a [f32],
    /// Their height and width.
    pub(crate) height: usize,
    pub(crate) width: usize,
}

impl Postprocessor {
    /// Finds the numbers in the outputs.
    ///
    /// # Errors
    /// If an output is missing or has another shape than the manifest says.
    pub(crate) fn read<'a>(&'a self, arrays: &[Array<'a>]) -> Result<Reading<'a>, Mismatch> {
        let array = |name: &str| {
            let found = arrays.iter().find(|array| array.name == name);
            found.copied().ok_or_else(|| Mismatch {
                output: name.to_owned(),
                expected: "numbers".to_owned(),
                found: "none".to_owned(),
                key: "output",
            })
        };
        match &self.output.outputs {
            Outputs::Table {
                predictions,
                columns,
                prototypes,
                ..
            } => {
                let prototypes = prototypes.as_deref().map(array).transpose()?;
                self.table(array(predictions)?, columns, prototypes)
            }
            Outputs::Split {
                boxes,
                scores,
                anchors,
            } => self.split(array(boxes)?, array(scores)?, anchors.as_ref()),
            Outputs::Lists {
                boxes,
                labels,
                scores,
                count,
            } => self.lists(
                array(boxes)?,
                array(labels)?,
                scores.as_deref().map(array).transpose()?,
                count.as_deref().map(array).transpose()?,
            ),
            Outputs::Centerface {
                heatmap,
                size,
                offset,
                landmarks,
            } => self.centerface(
                array(heatmap)?,
                array(size)?,
                array(offset)?,
                landmarks.as_deref().map(array).transpose()?,
            ),
        }
    }

    fn boxes<'a>(&self, numbers: Matrix<'a>, decoding: Decoding<'a>) -> Boxes<'a> {
        Boxes {
            numbers,
            format: self.output.box_format,
            units: self.output.box_units,
            decoding,
            input: (self.input.0 as f32, self.input.1 as f32),
        }
    }

    /// Boxes and scores, each with the output that has it, without objectness, keypoints and masks.
    fn plain<'a>(
        &self,
        (boxes_name, boxes): (&'a str, Boxes<'a>),
        (scores_name, scores): (&'a str, Scores<'a>),
    ) -> Reading<'a> {
        Reading {
            boxes,
            boxes_name,
            scores,
            scores_name,
            class_name: scores_name,
            class_key: "output.scores",
            objectness: None,
            activation: self.output.activation,
            background: self.output.background,
            keypoints: None,
            keypoints_name: boxes_name,
            masks: None,
        }
    }

    fn table<'a>(
        &'a self,
        predictions: Array<'a>,
        columns: &[Column],
        prototypes: Option<Array<'a>>,
    ) -> Result<Reading<'a>, Mismatch> {
        let masks = match prototypes {
            None => None,
            Some(array) => {
                let lengths: Option<[usize; 3]> = array.lengths();
                let fits = lengths.filter(|[count, height, width]| count * height * width > 0);
                Some((
                    array,
                    fits.ok_or_else(|| array.mismatch("shape [1, M, H, W]"))?,
                ))
            }
        };
        let coefficients = masks.map_or(0, |(_, [count, ..])| count);
        let numbers = self.numbers(predictions, columns, coefficients)?;
        let column = |wanted: Column| {
            let mut first = 0;
            for &column in columns {
                let width = self.output.width(column, coefficients);
                if column == wanted {
                    return Some(numbers.part(first, width));
                }
                first += width;
            }
            None
        };
        let (Some(boxes), scores) = (column(Column::Box), column(Column::Scores)) else {
            return Err(predictions.mismatch("a box for each candidate"));
        };
        let scores = match (scores, column(Column::Score), column(Column::Class)) {
            (Some(scores), ..) => Scores::EachClass(scores),
            (None, Some(score), Some(class)) => Scores::OneClass { score, class },
            _ => return Err(predictions.mismatch("scores for each candidate")),
        };
        let decoding = if self.output.kind == Kind::Yolox {
            if self.cells.len() != numbers.rows() {
                let expected = format!(
                    "{} candidates, as the grids of `strides` have cells",
                    self.cells.len()
                );
                return Err(Mismatch {
                    key: "output.strides",
                    found: numbers.rows().to_string(),
                    ..predictions.mismatch(expected)
                });
            }
            Decoding::Grids(&self.cells)
        } else {
            Decoding::Plain
        };
        let boxes = self.boxes(boxes, decoding);
        Ok(Reading {
            class_key: "output.columns",
            objectness: column(Column::Objectness),
            keypoints: column(Column::Keypoints),
            masks: masks.zip(column(Column::Coefficients)).map(
                |((prototypes, [_, height, width]), coefficients)| Masks {
                    coefficients,
                    name: prototypes.name,
                    prototypes: prototypes.values,
                    height,
                    width,
                },
            ),
            ..self.plain((predictions.name, boxes), (predictions.name, scores))
        })
    }

    /// The numbers of each candidate, whichever way round the output is.
    fn numbers<'a>(
        &self,
        predictions: Array<'a>,
        columns: &[Column],
        coefficients: usize,
    ) -> Result<Matrix<'a>, Mismatch> {
        let all = self.output.widths(columns, coefficients).all;
        let is_by_column = !matches!(
            self.output.kind,
            Kind::Rows | Kind::YoloObjectness | Kind::Yolox
        );
        let shape = if is_by_column {
            format!("shape [1, {all}, N]")
        } else {
            format!("shape [1, N, {all}]")
        };
        let Some([first, second]) = predictions.lengths() else {
            return Err(predictions.mismatch(shape));
        };
        match (first == all, second == all) {
            (true, true) if is_by_column => {
                Ok(Matrix::by_column(predictions.values, second, first))
            }
            (_, true) => Ok(Matrix::by_row(predictions.values, first, second)),
            (true, false) => Ok(Matrix::by_column(predictions.values, second, first)),
            (false, false) => {
                // A model has far more candidates than a candidate has numbers.
                let numbers = first.min(second);
                let others = all.checked_sub(self.output.score_columns());
                let is_sure = columns.contains(&Column::Scores) && self.output.keypoints == 0;
                match others.and_then(|others| numbers.checked_sub(others)) {
                    Some(found @ 1..) if is_sure => {
                        Err(self.wrong_classes(predictions.name, found))
                    }
                    _ => Err(predictions.mismatch(shape)),
                }
            }
        }
    }

    fn wrong_classes(&self, output: &str, found: usize) -> Mismatch {
        let classes = self.output.classes;
        let background = self.output.score_columns() - classes;
        if background > 0 && found == classes {
            return Mismatch {
                output: output.to_owned(),
                expected: format!("numbers for \"nothing\" and for {classes} classes,"),
                found: format!("{found} numbers for each candidate"),
                key: "output.background",
            };
        }
        // One more or less is what a class for "nothing" makes.
        let has_background = matches!(self.output.kind, Kind::Ssd | Kind::Detr);
        let but = if has_background && found.abs_diff(self.output.score_columns()) == 1 {
            format!(" where `background` is `{}`", self.output.background)
        } else {
            String::new()
        };
        Mismatch {
            output: output.to_owned(),
            expected: match classes {
                1 => format!("numbers for 1 class, as there is 1 label{but},"),
                classes => {
                    format!("numbers for {classes} classes, as many as there are labels{but},")
                }
            },
            found: format!("numbers for {}", found.saturating_sub(background)),
            key: "labels",
        }
    }

    fn split<'a>(
        &'a self,
        boxes: Array<'a>,
        scores: Array<'a>,
        anchors: Option<&'a Anchors>,
    ) -> Result<Reading<'a>, Mismatch> {
        let columns = self.output.score_columns();
        let rows = match scores.lengths() {
            Some([rows, found]) if found == columns => rows,
            Some([_, found]) if found > 0 => return Err(self.wrong_classes(scores.name, found)),
            _ => return Err(scores.mismatch(format!("shape [1, N, {columns}]"))),
        };
        let fits = matches!(boxes.lengths(), Some([n, 4]) if n == rows)
            || matches!(boxes.lengths(), Some([n, 1, 4]) if n == rows);
        if !fits {
            return Err(boxes.mismatch(format!("shape [1, {rows}, 4]")));
        }
        if let Some(anchors) = anchors
            && anchors.boxes.len() != rows
        {
            return Err(Mismatch {
                key: "output.anchors",
                found: rows.to_string(),
                ..boxes.mismatch(format!(
                    "as many boxes as there are anchors, {},",
                    anchors.boxes.len()
                ))
            });
        }
        let decoding = anchors.map_or(Decoding::Plain, Decoding::Anchors);
        let numbers = self.boxes(Matrix::by_row(boxes.values, rows, 4), decoding);
        let each_class = Scores::EachClass(Matrix::by_row(scores.values, rows, columns));
        Ok(self.plain((boxes.name, numbers), (scores.name, each_class)))
    }

    fn lists<'a>(
        &'a self,
        boxes: Array<'a>,
        labels: Array<'a>,
        scores: Option<Array<'a>>,
        count: Option<Array<'a>>,
    ) -> Result<Reading<'a>, Mismatch> {
        let numbers = if scores.is_some() { 4 } else { 5 };
        let Some([rows, found]) = boxes.lengths() else {
            return Err(boxes.mismatch(format!("shape [N, {numbers}]")));
        };
        if found != numbers {
            return Err(boxes.mismatch(format!("shape [N, {numbers}]")));
        }
        let all = Matrix::by_row(boxes.values, rows, numbers);
        let list = |array: Array<'a>| match array.lengths() {
            Some([found]) if found == rows => Ok(Matrix::by_row(array.values, rows, 1)),
            _ => Err(array.mismatch(format!("shape [{rows}]"))),
        };
        let class = list(labels)?;
        let (score, scores_name) = match scores {
            Some(scores) => (list(scores)?, scores.name),
            None => (all.part(4, 1), boxes.name),
        };
        let rows = match count {
            None => rows,
            Some(count) => {
                let found = match count.values {
                    [found] if *found >= 0.0 && *found == found.trunc() => Some(whole(*found)),
                    _ => None,
                };
                found.ok_or_else(|| Mismatch {
                    key: "output.count",
                    found: format!("{:?}", count.values.iter().take(4).collect::<Vec<_>>()),
                    ..count.mismatch("one whole number, that of the boxes,")
                })?
            }
        };
        let numbers = self.boxes(all.part(0, 4).first_rows(rows), Decoding::Plain);
        // What lies behind the count is not written by all models.
        let one_class = Scores::OneClass {
            score: score.first_rows(rows),
            class: class.first_rows(rows),
        };
        Ok(Reading {
            class_name: labels.name,
            class_key: "output.labels",
            ..self.plain((boxes.name, numbers), (scores_name, one_class))
        })
    }

    fn centerface<'a>(
        &'a self,
        heatmap: Array<'a>,
        size: Array<'a>,
        offset: Array<'a>,
        landmarks: Option<Array<'a>>,
    ) -> Result<Reading<'a>, Mismatch> {
        let shape = heatmap.lengths().filter(|[channels, height, width]| {
            *channels == self.output.classes && height * width > 0
        });
        let Some([_, height, width]) = shape else {
            return Err(heatmap.mismatch(format!("shape [1, {}, H, W]", self.output.classes)));
        };
        let places = height * width;
        let map = |array: Array<'a>, channels: usize| {
            if array.lengths() == Some([channels, height, width]) {
                Ok(Matrix::by_column(array.values, places, channels))
            } else {
                Err(array.mismatch(format!("shape [1, {channels}, {height}, {width}]")))
            }
        };
        let decoding = Decoding::Heatmap {
            offset: map(offset, 2)?,
            columns: width,
            stride: (
                self.input.0 as f32 / width as f32,
                self.input.1 as f32 / height as f32,
            ),
        };
        let boxes = self.boxes(map(size, 2)?, decoding);
        let scores = Scores::EachClass(map(heatmap, self.output.classes)?);
        Ok(Reading {
            class_key: "output.heatmap",
            background: Background::None,
            keypoints: landmarks.map(|array| map(array, 10)).transpose()?,
            keypoints_name: landmarks.map_or(heatmap.name, |array| array.name),
            ..self.plain((size.name, boxes), (heatmap.name, scores))
        })
    }
}

impl Reading<'_> {
    /// Whether a candidate has a score for each class.
    pub(crate) fn kind_of_scores(&self) -> Numbers {
        match self.scores {
            Scores::EachClass(_) => Numbers::EachClass,
            Scores::OneClass { .. } => Numbers::OneClass,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and a saturating cast is what is wanted"
)]
fn whole(value: f32) -> usize {
    value.round() as usize
}
