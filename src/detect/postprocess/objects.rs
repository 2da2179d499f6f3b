//! Objects out of candidates: those that suppression kept come in, objects in the picture's pixels go out, with the keypoints and outlines
//! of models that have them. The detector runs it.

use super::outline::outline;
use super::reading::Masks;
use super::{Decoding, Implausible, Reading, is_score};
use crate::detect::detector::{Keypoint, Object};
use crate::detect::manifest::file::BoxUnits;
use crate::detect::nms::Candidate;
use crate::preprocess::{Placement, TensorBox};

impl Reading<'_> {
    /// Makes the object of a candidate.
    ///
    /// # Errors
    /// If a keypoint or its mask cannot be one.
    pub(super) fn object(
        &self,
        candidate: &Candidate,
        keypoint_numbers: usize,
        placement: &Placement,
    ) -> Result<Object, Implausible> {
        let mut object = Object::place(candidate, placement);
        object.keypoints = self.keypoints(candidate, keypoint_numbers, placement)?;
        if let Some(masks) = &self.masks {
            object.outline = self.outline(masks, candidate, placement)?;
        }
        Ok(object)
    }

    /// The keypoints of a candidate in tensor pixels, each with how sure the model is of it.
    pub(crate) fn keypoints_in_tensor(
        &self,
        candidate: &Candidate,
        numbers: usize,
    ) -> impl Iterator<Item = (f32, f32, f32)> {
        let found = self.keypoints;
        let is_heatmap = matches!(self.boxes.decoding, Decoding::Heatmap { .. });
        let numbers = if is_heatmap { 2 } else { numbers };
        let count = found.map_or(0, |all| all.columns() / numbers);
        let TensorBox { x1, y1, x2, y2 } = candidate.corners;
        let units = match self.boxes.units {
            BoxUnits::Pixels => (1.0, 1.0),
            BoxUnits::Shares => self.boxes.input,
        };
        let row = candidate.row;
        (0..count).filter_map(move |point| {
            let at = |n: usize| found.map(|all| all.at(row, point * numbers + n));
            let (first, second) = (at(0)?, at(1)?);
            Some(if is_heatmap {
                // They are shares of the box, y before x.
                (x1 + second * (x2 - x1), y1 + first * (y2 - y1), 1.0)
            } else {
                let score = if numbers > 2 { at(2)? } else { 1.0 };
                (first * units.0, second * units.1, score)
            })
        })
    }

    fn keypoints(
        &self,
        candidate: &Candidate,
        numbers: usize,
        placement: &Placement,
    ) -> Result<Vec<Keypoint>, Implausible> {
        self.keypoints_in_tensor(candidate, numbers)
            .map(|(x, y, score)| {
                if let Some(found) = [x, y].into_iter().find(|at| !at.is_finite()) {
                    return Err(self.no_keypoint(found, "a place of a keypoint", "finite"));
                }
                if !is_score(score) {
                    let place = "the score of a keypoint";
                    return Err(self.no_keypoint(score, place, "from 0 to 1"));
                }
                let [x, y] = point(placement, x, y);
                Ok(Keypoint {
                    x,
                    y,
                    score: score.clamp(0.0, 1.0),
                })
            })
            .collect()
    }

    fn no_keypoint(&self, found: f32, place: &'static str, expected: &'static str) -> Implausible {
        let key = match self.boxes.decoding {
            Decoding::Heatmap { .. } => "output.landmarks",
            _ => "output.keypoint_numbers",
        };
        Implausible {
            output: self.keypoints_name.to_owned(),
            ..self.implausible(found, place, expected, key)
        }
    }

    fn outline(
        &self,
        masks: &Masks<'_>,
        candidate: &Candidate,
        placement: &Placement,
    ) -> Result<Vec<[f32; 2]>, Implausible> {
        let (across, down) = (
            self.boxes.input.0 / masks.width as f32,
            self.boxes.input.1 / masks.height as f32,
        );
        let TensorBox { x1, y1, x2, y2 } = candidate.corners;
        let limit = |at: f32, most: usize| at.clamp(0.0, most as f32);
        let (left, right) = (
            whole(limit((x1 / across).floor(), masks.width)),
            whole(limit((x2 / across).ceil(), masks.width)),
        );
        let (top, bottom) = (
            whole(limit((y1 / down).floor(), masks.height)),
            whole(limit((y2 / down).ceil(), masks.height)),
        );
        let (width, height) = (right.saturating_sub(left), bottom.saturating_sub(top));
        let mut sums = vec![0.0f32; width * height];
        let plane = masks.width * masks.height;
        for (k, prototype) in masks.prototypes.chunks_exact(plane).enumerate() {
            let factor = masks.coefficients.at(candidate.row, k);
            for (y, sums) in sums.chunks_exact_mut(width.max(1)).enumerate() {
                let row = &prototype[(top + y) * masks.width + left..][..width];
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += factor * value;
                }
            }
        }
        if let Some(&found) = sums.iter().find(|sum| !sum.is_finite()) {
            let key = "output.prototypes";
            return Err(Implausible {
                output: masks.name.to_owned(),
                ..self.implausible(found, "a number of a mask", "finite", key)
            });
        }
        // The logistic function of a sum is over one half where the sum is over 0.
        let mask: Vec<bool> = sums.iter().map(|sum| *sum > 0.0).collect();
        let corners: Vec<[f32; 2]> = outline(&mask, width)
            .into_iter()
            .map(|[x, y]| {
                point(
                    placement,
                    (x + left as f32) * across,
                    (y + top as f32) * down,
                )
            })
            .collect();
        // All corners of a mask in the padding lie on one edge of the picture.
        let is_line = |axis: usize| corners.windows(2).all(|two| two[0][axis] == two[1][axis]);
        Ok(if is_line(0) || is_line(1) {
            Vec::new()
        } else {
            corners
        })
    }
}

/// A point in pixels of the picture, limited to it.
fn point(placement: &Placement, x: f32, y: f32) -> [f32; 2] {
    let corners = placement.to_picture(&TensorBox {
        x1: x,
        y1: y,
        x2: x,
        y2: y,
    });
    [corners.x1, corners.y1]
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "limited to the mask's size"
)]
fn whole(value: f32) -> usize {
    value as usize
}
