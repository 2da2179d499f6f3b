//! A picture at 1/16 of its width and height: its luma comes in, and the mean of each cell of 16x16 pixels goes out.

use twinsight_media::picture::{I420, PictureSize};

/// A cell is as wide and high as a macroblock of H.264, whose artefacts are then inside of cells.
pub(super) const CELL_PX: usize = 16;

/// One row of pixels in three is read. To read a picture is nearly all that a verdict costs, and the other rows would tell little more.
const ROW_STEP: usize = 3;

/// The even and the odd bytes of eight.
const EVEN: u64 = 0x00FF_00FF_00FF_00FF;

/// The cells of a picture, row after row. Those at the right and lower edge may have fewer pixels.
#[derive(Debug, Default)]
pub(super) struct Grid {
    size: Option<PictureSize>,
    width: usize,
    cells: Vec<f32>,
    /// Four sums of 16 bits for each whole cell of the row that is measured.
    sums: Vec<u64>,
}

impl Grid {
    /// Measures a picture. It allocates only if the picture is larger than those before.
    pub(super) fn measure(&mut self, picture: &I420<'_>) {
        let size = picture.size;
        self.size = Some(size);
        self.width = size.width_px.div_ceil(CELL_PX);
        self.cells.clear();
        let rows = picture.y.data.chunks(picture.y.stride.max(1));
        let rows = rows.take(size.height_px);
        let mut rows = rows.map(|row| &row[..size.width_px.min(row.len())]);
        let whole = size.width_px / CELL_PX;
        for top in (0..size.height_px).step_by(CELL_PX) {
            self.sums.clear();
            self.sums.resize(whole, 0);
            let (mut edge, mut read) = (0_u32, 0_u16);
            for (n, row) in rows
                .by_ref()
                .take(CELL_PX.min(size.height_px - top))
                .enumerate()
            {
                if n % ROW_STEP == 0 {
                    let (pixels, rest) = row.as_chunks::<CELL_PX>();
                    for (sum, pixels) in self.sums.iter_mut().zip(pixels) {
                        *sum += lanes(pixels);
                    }
                    edge += rest.iter().copied().map(u32::from).sum::<u32>();
                    read += 1;
                }
            }
            // Sixteen pixels a row.
            let pixels = 16.0 * f32::from(read.max(1));
            let means = self.sums.iter().map(|sum| f32::from(total(*sum)) / pixels);
            self.cells.extend(means);
            if self.width > whole {
                let columns = u16::try_from(size.width_px % CELL_PX)
                    .expect("it fits, because it is less than 16");
                let sum = u16::try_from(edge)
                    .expect("it fits, because 6 rows of 15 pixels add up to 22950 at most");
                let mean = f32::from(sum) / (f32::from(columns) * f32::from(read.max(1)));
                self.cells.push(mean);
            }
        }
    }

    /// True if pictures have the same size.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.size.is_some() && self.size == other.size
    }

    /// Becomes the same as another one.
    pub(super) fn copy(&mut self, other: &Self) {
        (self.size, self.width) = (other.size, other.width);
        self.cells.clone_from(&other.cells);
    }

    pub(super) fn cells(&self) -> &[f32] {
        &self.cells
    }

    /// The cells of a row; at least 1.
    pub(super) fn width(&self) -> usize {
        self.width.max(1)
    }
}

/// Adds up a row of a cell, in four sums. Each has at most 6 x 4 x 255 after six rows, so that none overflows.
fn lanes(pixels: &[u8; CELL_PX]) -> u64 {
    let (eights, _) = pixels.as_chunks::<8>();
    let sums = eights.iter().copied().map(u64::from_le_bytes);
    sums.map(|eight| (eight & EVEN) + ((eight >> 8) & EVEN))
        .sum()
}

/// Adds up the four sums.
fn total(lanes: u64) -> u16 {
    let [a, b, c, d, e, f, g, h] = lanes.to_le_bytes();
    [[a, b], [c, d], [e, f], [g, h]]
        .map(u16::from_le_bytes)
        .iter()
        .sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use twinsight_media::picture::{Color, Plane};

    use super::*;

    fn picture(luma: &[u8], width_px: usize, height_px: usize) -> I420<'_> {
        let plane = |data| Plane {
            data,
            stride: width_px,
        };
        I420 {
            y: plane(luma),
            u: plane(&[]),
            v: plane(&[]),
            size: PictureSize {
                width_px,
                height_px,
            },
            color: Color::default(),
        }
    }

    /// The mean of every third row of a cell, as anybody would compute it.
    fn mean(luma: &[u8], width_px: usize, height_px: usize, column: usize, row: usize) -> f32 {
        let mut sum = (0.0, 0.0);
        for y in (16 * row..(16 * row + 16).min(height_px)).step_by(3) {
            for x in 16 * column..(16 * column + 16).min(width_px) {
                sum = (sum.0 + f32::from(luma[y * width_px + x]), sum.1 + 1.0);
            }
        }
        sum.0 / sum.1
    }

    proptest! {
        #[test]
        fn cells_are_the_means_of_their_pixels(
            (width_px, height_px) in (1_usize..70, 1_usize..70),
            seed in any::<u32>(),
        ) {
            let mut state = seed;
            let mut byte = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0]
            };
            let luma: Vec<u8> = (0..width_px * height_px).map(|_| byte()).collect();
            let mut grid = Grid::default();
            grid.measure(&picture(&luma, width_px, height_px));
            let (columns, rows) = (width_px.div_ceil(16), height_px.div_ceil(16));
            prop_assert_eq!(grid.width(), columns);
            prop_assert_eq!(grid.cells().len(), columns * rows);
            for (n, cell) in grid.cells().iter().enumerate() {
                let expected = mean(&luma, width_px, height_px, n % columns, n / columns);
                prop_assert!((cell - expected).abs() < 0.01, "{cell} {expected}");
            }
        }
    }

    #[test]
    fn white_does_not_overflow() {
        let luma = [255; 48 * 32];
        let mut grid = Grid::default();
        grid.measure(&picture(&luma, 48, 32));
        assert!(grid.cells().iter().all(|cell| (cell - 255.0).abs() < 0.01));
    }
}
