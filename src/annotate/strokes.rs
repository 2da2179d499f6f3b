//! Lines in any direction, dots and filled polygons: points in pixels of the picture come in, and bytes change. Edges are smooth,
//! since joints and outlines are seldom horizontal.

use super::canvas::Canvas;
use super::color::{INK, Rgb};

/// x and y in pixels; the corner of the top left pixel is (0, 0).
pub(super) type Spot = [f32; 2];

/// How much of its colour is mixed into what lies inside of an outline.
const TINT: f32 = 0.28;

impl Canvas<'_> {
    /// Draws a polygon's lines, the last corner joined to the first, and tints what is inside.
    pub(super) fn polygon(&mut self, corners: &[Spot], line_px: f32, color: Rgb) {
        let corners: Vec<Spot> = corners.iter().copied().filter(is_finite).collect();
        let Some(&last) = corners.last() else {
            return;
        };
        self.tint(&corners, color, TINT);
        let from = std::iter::once(&last).chain(&corners);
        let sides: Vec<[Spot; 2]> = from.zip(&corners).map(|(&a, &b)| [a, b]).collect();
        self.lines(&sides, line_px, color);
    }

    /// Draws lines with dark rims, which show on bright and dark ground alike. All rims lie below all lines, so that none of them
    /// cuts a neighbour.
    pub(super) fn lines(&mut self, lines: &[[Spot; 2]], line_px: f32, color: Rgb) {
        let radius = line_px / 2.0;
        for &[from, to] in lines {
            self.stroke(from, to, radius + rim_px(line_px), INK);
        }
        for &[from, to] in lines {
            self.stroke(from, to, radius, color);
        }
    }

    /// Draws a dot with a dark rim.
    pub(super) fn dot(&mut self, at: Spot, radius_px: f32, color: Rgb) {
        self.stroke(at, at, radius_px + rim_px(radius_px), INK);
        self.stroke(at, at, radius_px, color);
    }

    /// Colours what is nearer than the radius to the line between two points.
    fn stroke(&mut self, from: Spot, to: Spot, radius: f32, color: Rgb) {
        if !is_finite(&from) || !is_finite(&to) {
            return;
        }
        let reach = radius + 1.0;
        let (upper, lower) = if from[1] <= to[1] {
            (from, to)
        } else {
            (to, from)
        };
        let [along_x, along_y] = [to[0] - from[0], to[1] - from[1]];
        let length_squared = along_x * along_x + along_y * along_y;
        for row in within(upper[1] - reach, lower[1] + reach, self.size.height_px) {
            let y = middle(row);
            // The part of the line that reaches into this row says which columns to look at.
            let x_at = |y: f32| {
                let share = (y - upper[1]) / (lower[1] - upper[1]);
                let share = if share.is_finite() {
                    share.clamp(0.0, 1.0)
                } else {
                    0.0
                };
                upper[0] + share * (lower[0] - upper[0])
            };
            let (a, b) = if lower[1] - upper[1] < 1.0 {
                (upper[0], lower[0])
            } else {
                (x_at(y - reach), x_at(y + reach))
            };
            for column in within(a.min(b) - reach, a.max(b) + reach, self.size.width_px) {
                let x = middle(column);
                let [to_x, to_y] = [x - from[0], y - from[1]];
                let share = (to_x * along_x + to_y * along_y) / length_squared;
                let share = if share.is_finite() {
                    share.clamp(0.0, 1.0)
                } else {
                    0.0
                };
                let distance = (to_x - share * along_x).hypot(to_y - share * along_y);
                self.blend(
                    column,
                    row,
                    color,
                    (radius + 0.5 - distance).clamp(0.0, 1.0),
                );
            }
        }
    }

    /// Mixes this share of the colour into what lies inside of a polygon, whose corners are finite.
    pub(super) fn tint(&mut self, corners: &[Spot], color: Rgb, share: f32) {
        let mut crossings = Vec::new();
        let y_of = |corner: &Spot| corner[1];
        let top = corners.iter().map(y_of).fold(f32::INFINITY, f32::min);
        let bottom = corners.iter().map(y_of).fold(f32::NEG_INFINITY, f32::max);
        for row in within(top, bottom, self.size.height_px) {
            let y = middle(row);
            crossings.clear();
            let mut before = corners[corners.len() - 1];
            for &corner in corners {
                if (before[1] <= y) != (corner[1] <= y) {
                    let share = (y - before[1]) / (corner[1] - before[1]);
                    crossings.push(before[0] + share * (corner[0] - before[0]));
                }
                before = corner;
            }
            crossings.sort_by(f32::total_cmp);
            for pair in crossings.chunks_exact(2) {
                for column in within(pair[0] - 0.5, pair[1] - 0.5, self.size.width_px) {
                    self.blend(column, row, color, share);
                }
            }
        }
    }

    pub(super) fn blend(&mut self, column: usize, row: usize, color: Rgb, share: f32) {
        let at = 3 * (row * self.size.width_px + column);
        for (byte, wanted) in self.rgb[at..at + 3].iter_mut().zip(color) {
            *byte =
                super::color::byte(f32::from(*byte) * (1.0 - share) + f32::from(wanted) * share);
        }
    }
}

fn rim_px(line_px: f32) -> f32 {
    (line_px / 3.0).max(1.0)
}

fn is_finite(spot: &Spot) -> bool {
    spot.iter().all(|value| value.is_finite())
}

/// The rows or columns from `low` to `high` that the picture has.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a saturating cast is what is wanted: what is outside of the picture is left out"
)]
fn within(low: f32, high: f32, end: usize) -> std::ops::Range<usize> {
    low.ceil() as usize..((high.floor() + 1.0) as usize).min(end)
}

/// The middle of a pixel.
#[expect(
    clippy::cast_precision_loss,
    reason = "sides of pictures are far below 2^23"
)]
fn middle(pixel: usize) -> f32 {
    pixel as f32 + 0.5
}
