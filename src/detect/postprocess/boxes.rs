//! The boxes of a model's candidates: four numbers of each come in, corners in tensor pixels go out.

use super::matrix::Matrix;
use crate::detect::manifest::file::{BoxFormat, BoxUnits};
use crate::detect::output::Anchors;
use crate::preprocess::TensorBox;

/// How large a model may say that an object is, as a logarithm, before it counts as infinite: its exponential is finite.
const MAX_LOG: f32 = 60.0;

/// The boxes of all candidates.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Boxes<'a> {
    /// The numbers of each candidate.
    pub(crate) numbers: Matrix<'a>,
    pub(crate) format: BoxFormat,
    pub(crate) units: BoxUnits,
    pub(crate) decoding: Decoding<'a>,
    /// Width and height of the tensor.
    pub(crate) input: (f32, f32),
}

/// What the numbers of a box are relative to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Decoding<'a> {
    /// They are what the format says.
    Plain,
    /// They are offsets from a box of each candidate.
    Anchors(&'a Anchors),
    /// They are offsets from the corner of a cell, and logarithms of sizes in cells.
    Grids(&'a [Cell]),
    /// They are the logarithms of height and width at a place of a heatmap of this many columns, with the shifts y and x.
    Heatmap {
        offset: Matrix<'a>,
        columns: usize,
        /// Width and height of a place in pixels.
        stride: (f32, f32),
    },
}

/// A cell of a grid, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cell {
    left: f32,
    top: f32,
    side: f32,
}

/// The cells of grids with these sides over an input, grid after grid and row after row.
pub(crate) fn cells(strides: &[u16], (width, height): (usize, usize)) -> Vec<Cell> {
    let grid = |&stride: &u16| {
        let side = usize::from(stride);
        let (columns, rows) = (width / side, height / side);
        (0..rows * columns).map(move |place| Cell {
            left: ((place % columns) * side) as f32,
            top: ((place / columns) * side) as f32,
            side: f32::from(stride),
        })
    };
    strides.iter().flat_map(grid).collect()
}

impl Boxes<'_> {
    /// The corners of a candidate's box in tensor pixels. They may be anything that a float can be.
    pub(crate) fn corners(&self, row: usize) -> TensorBox {
        let (width, height) = self.input;
        let n = |column| self.numbers.at(row, column);
        match self.decoding {
            Decoding::Plain => {
                let (x, y) = match self.units {
                    BoxUnits::Pixels => (1.0, 1.0),
                    BoxUnits::Shares => (width, height),
                };
                let corners = in_format(self.format, [n(0), n(1), n(2), n(3)]);
                TensorBox {
                    x1: corners.x1 * x,
                    y1: corners.y1 * y,
                    x2: corners.x2 * x,
                    y2: corners.y2 * y,
                }
            }
            Decoding::Anchors(anchors) => {
                let [dx, dy, dw, dh] = match self.format {
                    BoxFormat::Yxyx => [n(1), n(0), n(3), n(2)],
                    _ => [n(0), n(1), n(2), n(3)],
                };
                let [cx, cy, w, h] = anchors.boxes[row];
                let [center, size] = anchors.variances;
                centered(
                    (cx + dx * center * w) * width,
                    (cy + dy * center * h) * height,
                    exp(dw * size) * w * width,
                    exp(dh * size) * h * height,
                )
            }
            Decoding::Grids(cells) => {
                let Cell { left, top, side } = cells[row];
                centered(
                    n(0) * side + left,
                    n(1) * side + top,
                    exp(n(2)) * side,
                    exp(n(3)) * side,
                )
            }
            Decoding::Heatmap {
                offset,
                columns,
                stride,
            } => {
                let (x, y) = ((row % columns) as f32, (row / columns) as f32);
                centered(
                    (x + offset.at(row, 1) + 0.5) * stride.0,
                    (y + offset.at(row, 0) + 0.5) * stride.1,
                    exp(n(1)) * stride.0,
                    exp(n(0)) * stride.1,
                )
            }
        }
    }
}

fn exp(log: f32) -> f32 {
    if log > MAX_LOG {
        f32::INFINITY
    } else {
        log.exp()
    }
}

/// The corners that four numbers mean.
pub(crate) fn in_format(format: BoxFormat, [a, b, c, d]: [f32; 4]) -> TensorBox {
    match format {
        BoxFormat::Xyxy => TensorBox {
            x1: a,
            y1: b,
            x2: c,
            y2: d,
        },
        BoxFormat::Yxyx => TensorBox {
            x1: b,
            y1: a,
            x2: d,
            y2: c,
        },
        BoxFormat::Cxcywh => centered(a, b, c, d),
        BoxFormat::Xywh => TensorBox {
            x1: a,
            y1: b,
            x2: a + c,
            y2: b + d,
        },
    }
}

fn centered(cx: f32, cy: f32, width: f32, height: f32) -> TensorBox {
    let (half_width, half_height) = (width / 2.0, height / 2.0);
    TensorBox {
        x1: cx - half_width,
        y1: cy - half_height,
        x2: cx + half_width,
        y2: cy + half_height,
    }
}
