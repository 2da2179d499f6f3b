//! The test pattern: a frame's number comes in, its picture goes out, and the number can be read back
//! from a decoded picture. The number is there twice, at the top and at the bottom, as digits for the
//! eye and as blocks for a test, so that a torn or wrong picture is told from a right one.

use twinsight_media::picture::{I420, PictureSize};

/// Blocks in a row: a white and a black one to begin with, the number, and its check bits.
const BLOCKS: usize = 2 + NUMBER_BITS + CHECK_BITS;
const NUMBER_BITS: usize = 24;
const CHECK_BITS: usize = 6;

/// Luma of a white and a black block, and between them.
const WHITE: u8 = 220;
const BLACK: u8 = 30;
const MIDDLE: u8 = 125;

/// What is smaller has no room for blocks that survive compression.
pub const MIN_SIZE: PictureSize = PictureSize {
    width_px: 256,
    height_px: 96,
};

/// Numbers start over behind this one.
pub const MAX_NUMBER: u32 = (1 << NUMBER_BITS) - 1;

/// Width and height of a digit in dots, with the gap beside it.
const DIGIT_DOTS: (usize, usize) = (4, 5);

/// The digits 0 to 9, three dots wide and five high; the highest bit is the top left dot.
const DIGITS: [u16; 10] = [
    0b111_101_101_101_111,
    0b010_110_010_010_111,
    0b111_001_111_100_111,
    0b111_001_111_001_111,
    0b101_101_111_001_001,
    0b111_100_111_001_111,
    0b111_100_111_101_111,
    0b111_001_001_010_010,
    0b111_101_111_101_111,
    0b111_101_111_001_111,
];

/// What the two rows of blocks of a picture say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatternNumbers {
    /// The upper row; none when it is no number.
    pub top: Option<u32>,
    /// The lower row; none when it is no number.
    pub bottom: Option<u32>,
}

impl PatternNumbers {
    /// The picture's number if both rows agree: it is whole, and of one frame.
    pub fn whole(self) -> Option<u32> {
        self.top.filter(|_| self.top == self.bottom)
    }
}

/// Draws frame `number` into packed planes of `size`: both sides even, at least [`MIN_SIZE`].
///
/// # Panics
/// If `planes` is shorter than `size.i420_bytes()`.
pub fn draw(number: u32, size: PictureSize, planes: &mut [u8]) {
    let number = number & MAX_NUMBER;
    let luma_bytes = size.width_px * size.height_px;
    let (luma, chroma) = planes.split_at_mut(luma_bytes);
    let (u, v) = chroma.split_at_mut(size.chroma_width_px() * size.chroma_height_px());
    background(number, size, luma, u, v);
    let row = block_height(size);
    for top in [0, size.height_px - row] {
        draw_blocks(number, size, top, luma);
    }
    // The digits in the middle are for the eye: seven of them, as large as fits.
    let dot = (size.width_px / (8 * DIGIT_DOTS.0)).min((size.height_px - 2 * row) / 8);
    let left = (size.width_px - 7 * DIGIT_DOTS.0 * dot) / 2;
    let top = (size.height_px - DIGIT_DOTS.1 * dot) / 2;
    draw_digits(number, size.width_px, (left, top), dot, luma);
}

/// Reads both rows of blocks of a decoded picture.
pub fn read(picture: &I420<'_>) -> PatternNumbers {
    let size = picture.size;
    if size.width_px < MIN_SIZE.width_px || size.height_px < MIN_SIZE.height_px {
        return PatternNumbers {
            top: None,
            bottom: None,
        };
    }
    let row = block_height(size);
    PatternNumbers {
        top: read_blocks(picture, 0, row),
        bottom: read_blocks(picture, size.height_px - row, row),
    }
}

fn block_height(size: PictureSize) -> usize {
    (size.height_px / 8).min(64)
}

/// Columns of block `n`.
fn columns(n: usize, width_px: usize) -> std::ops::Range<usize> {
    n * width_px / BLOCKS..(n + 1) * width_px / BLOCKS
}

/// A slanted ramp that moves two pixels a frame, in colours that go round: every frame differs from
/// the one before everywhere.
fn background(number: u32, size: PictureSize, luma: &mut [u8], u: &mut [u8], v: &mut [u8]) {
    let shift = number as usize * 2;
    for (y, row) in luma.chunks_exact_mut(size.width_px).enumerate() {
        for (x, value) in row.iter_mut().enumerate() {
            *value = 60 + triangle(x + y + shift, 110);
        }
    }
    for (plane, phase) in [(u, 0), (v, 90)] {
        for (y, row) in plane.chunks_exact_mut(size.chroma_width_px()).enumerate() {
            row.fill(100 + triangle(y + number as usize + phase, 56));
        }
    }
}

/// 0 up to `peak` and down again; `peak` below 256.
fn triangle(at: usize, peak: usize) -> u8 {
    let phase = at % (2 * peak);
    u8::try_from(phase.min(2 * peak - phase)).unwrap_or(u8::MAX)
}

fn draw_blocks(number: u32, size: PictureSize, top: usize, luma: &mut [u8]) {
    let bits = [true, false].into_iter().chain(code(number));
    for (n, bit) in bits.enumerate() {
        for y in top..top + block_height(size) {
            let row = &mut luma[y * size.width_px..(y + 1) * size.width_px];
            row[columns(n, size.width_px)].fill(if bit { WHITE } else { BLACK });
        }
    }
}

/// The number's bits from the highest on, then those of its check value.
fn code(number: u32) -> impl Iterator<Item = bool> {
    let check = check(number);
    let bits = |value: u32, count: usize| (0..count).rev().map(move |bit| value >> bit & 1 == 1);
    bits(number, NUMBER_BITS).chain(bits(check, CHECK_BITS))
}

/// The remainder by a prime: differs for neighbours, and for numbers that differ in one block.
fn check(number: u32) -> u32 {
    number % 61 + 1
}

fn read_blocks(picture: &I420<'_>, top: usize, height: usize) -> Option<u32> {
    let bits: Vec<bool> = (0..BLOCKS)
        .map(|n| mean(picture, columns(n, picture.size.width_px), top, height))
        .map(|mean| mean > u64::from(MIDDLE))
        .collect();
    let value = |bits: &[bool]| {
        bits.iter()
            .fold(0, |value, bit| value << 1 | u32::from(*bit))
    };
    let (start, rest) = bits.split_at(2);
    let (number, check_bits) = rest.split_at(NUMBER_BITS);
    let number = value(number);
    (start == [true, false] && value(check_bits) == check(number)).then_some(number)
}

/// The mean luma of a block's inner half, where its neighbours have not bled into.
fn mean(picture: &I420<'_>, columns: std::ops::Range<usize>, top: usize, height: usize) -> u64 {
    let (inset_x, inset_y) = (columns.len() / 4, height / 4);
    let columns = columns.start + inset_x..columns.end - inset_x;
    let rows = top + inset_y..top + height - inset_y;
    let count = (columns.len() * rows.len()).max(1) as u64;
    let sum: u64 = rows
        .flat_map(|y| {
            let row = &picture.y.data[y * picture.y.stride..];
            row[columns.clone()].iter().map(|value| u64::from(*value))
        })
        .sum();
    sum / count
}

fn draw_digits(number: u32, width_px: usize, at: (usize, usize), dot: usize, luma: &mut [u8]) {
    let (left, top) = at;
    for (place, digit) in format!("{:07}", number % 10_000_000).bytes().enumerate() {
        let dots = DIGITS[usize::from(digit - b'0') % DIGITS.len()];
        for (n, bit) in (0..15).rev().enumerate() {
            let x = left + (place * DIGIT_DOTS.0 + n % 3) * dot;
            let y = top + n / 3 * dot;
            let value = if dots >> bit & 1 == 1 { WHITE } else { BLACK };
            for row in y..y + dot {
                luma[row * width_px + x..row * width_px + x + dot].fill(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinsight_media::picture::Color;

    const SIZE: PictureSize = PictureSize {
        width_px: 320,
        height_px: 240,
    };

    fn drawn(number: u32, size: PictureSize) -> Vec<u8> {
        let mut planes = vec![0; size.i420_bytes()];
        draw(number, size, &mut planes);
        planes
    }

    #[test]
    fn a_number_is_read_as_it_was_drawn() {
        for size in [MIN_SIZE, SIZE] {
            for number in [0, 1, 61, 4711, MAX_NUMBER] {
                let planes = drawn(number, size);
                let read = read(&I420::from_packed(&planes, size, Color::default()));
                assert_eq!(read.whole(), Some(number), "{size:?}");
            }
        }
    }

    #[test]
    fn a_torn_picture_has_two_numbers_and_a_grey_one_none() {
        let (mut torn, newer) = (drawn(7, SIZE), drawn(8, SIZE));
        let half = SIZE.width_px * SIZE.height_px / 2;
        torn[..half].copy_from_slice(&newer[..half]);
        let numbers = read(&I420::from_packed(&torn, SIZE, Color::default()));
        assert_eq!((numbers.top, numbers.bottom), (Some(8), Some(7)));
        assert_eq!(numbers.whole(), None);
        let grey = vec![128; SIZE.i420_bytes()];
        let numbers = read(&I420::from_packed(&grey, SIZE, Color::default()));
        assert_eq!((numbers.top, numbers.bottom), (None, None));
    }
}
