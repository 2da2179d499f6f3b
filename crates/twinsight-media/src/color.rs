//! YUV to RGB by the matrices of ITU-R BT.601 and BT.709, full and limited range (H.264 Annex E). Rows of samples come in,
//! rows of red, green and blue go out; the preprocessor and the drawing code run it. RGB is clamped to bytes before
//! anything is resized, because resizing first moves the scores of overexposed objects by 0.04 (seen on the white van of
//! the shipped clip).

#[cfg(feature = "image")]
use image::RgbImage;
#[cfg(feature = "ndarray")]
use ndarray::Array3;

use crate::picture::{Color, Frame, I420, Matrix, PictureSize, Plane};

/// Coefficients that turn samples to RGB, for 16-bit fixed point.
#[derive(Debug, Clone, Copy)]
struct YuvToRgb {
    y_offset: i16,
    /// Scaled by 2^14.
    y_gain: i16,
    /// The four coefficients of chroma are scaled by 2^13.
    r_v: i16,
    g_u: i16,
    g_v: i16,
    b_u: i16,
}

impl YuvToRgb {
    /// The coefficients of a colour description.
    const fn new(matrix: Matrix, full_range: bool) -> Self {
        let (k_r, k_b) = match matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let k_g = 1.0 - k_r - k_b;
        let (y_offset, y_gain, c_gain) = if full_range {
            (0, 1.0, 1.0)
        } else {
            (16, 255.0 / 219.0, 255.0 / 224.0)
        };
        Self {
            y_offset,
            y_gain: fixed(y_gain, 14),
            r_v: fixed(2.0 * (1.0 - k_r) * c_gain, 13),
            g_u: fixed(-2.0 * (1.0 - k_b) * k_b / k_g * c_gain, 13),
            g_v: fixed(-2.0 * (1.0 - k_r) * k_r / k_g * c_gain, 13),
            b_u: fixed(2.0 * (1.0 - k_b) * c_gain, 13),
        }
    }

    /// Converts rows in 16-bit arithmetic, so that the compiler can vectorise the loop with the caller's instruction set.
    /// Sums have 5 fractional bits, and results are less than 0.7 off the exact values.
    #[inline(always)]
    fn convert(self, [ys, us, vs]: [&[u8]; 3], [reds, greens, blues]: [&mut [i16]; 3]) {
        let samples = ys.iter().zip(us).zip(vs);
        let pixels = reds.iter_mut().zip(greens).zip(blues);
        for (((&y, &u), &v), ((red, green), blue)) in samples.zip(pixels) {
            // Luma is shifted by 7 bits and chroma by 8, so that the upper half of each product has 5 fractional bits. The
            // 16 is one half, for rounding.
            let luma = high((i16::from(y) - self.y_offset) << 7, self.y_gain) + 16;
            let u = (i16::from(u) - 128) << 8;
            let v = (i16::from(v) - 128) << 8;
            *red = to_byte((luma + high(v, self.r_v)) >> 5);
            *green = to_byte((luma + (high(u, self.g_u) + high(v, self.g_v))) >> 5);
            *blue = to_byte((luma + high(u, self.b_u)) >> 5);
        }
    }
}

/// Converts a row of samples to red, green and blue in 0..=255. All slices have the same length.
#[inline(always)]
pub fn convert(color: Color, yuv: [&[u8]; 3], rgb: [&mut [i16]; 3]) {
    // The coefficients are constants here: of variables the compiler forgets that they have 16 bits, and multiplies 32.
    match (color.matrix, color.full_range) {
        (Matrix::Bt601, false) => const { YuvToRgb::new(Matrix::Bt601, false) }.convert(yuv, rgb),
        (Matrix::Bt601, true) => const { YuvToRgb::new(Matrix::Bt601, true) }.convert(yuv, rgb),
        (Matrix::Bt709, false) => const { YuvToRgb::new(Matrix::Bt709, false) }.convert(yuv, rgb),
        (Matrix::Bt709, true) => const { YuvToRgb::new(Matrix::Bt709, true) }.convert(yuv, rgb),
    }
}

/// A row of luma, and the rows of U and V that belong to it.
pub fn rows_of<'a>(picture: &I420<'a>, row: usize) -> [&'a [u8]; 3] {
    let size = picture.size;
    let row_of =
        |plane: Plane<'a>, row: usize, width: usize| &plane.data[row * plane.stride..][..width];
    [
        row_of(picture.y, row, size.width_px),
        row_of(picture.u, row / 2, size.chroma_width_px()),
        row_of(picture.v, row / 2, size.chroma_width_px()),
    ]
}

/// The upper 16 bits of a product.
#[inline(always)]
pub fn high(a: i16, b: i16) -> i16 {
    ((i32::from(a) * i32::from(b)) >> 16) as i16
}

#[inline(always)]
fn to_byte(value: i16) -> i16 {
    value.clamp(0, 255)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "coefficients are below 2.2, so that 13 bits more fit; luma's below 1.2"
)]
const fn fixed(value: f64, bits: i32) -> i16 {
    (value * (1 << bits) as f64).round() as i16
}

impl Frame {
    /// The picture as RGB bytes: red, green and blue of each pixel, row by row.
    pub fn to_rgb8(&self) -> Vec<u8> {
        let mut rgb = Vec::new();
        to_rgb8(&self.planes(), &mut rgb);
        rgb
    }

    /// The picture as RGB bytes for the `image` crate: [`width`](Frame::width) × [`height`](Frame::height) pixels.
    ///
    /// ```no_run
    /// # fn example(frame: &twinsight_media::picture::Frame) -> image::ImageResult<()> {
    /// frame.to_rgb_image().save("frame.png")
    /// # }
    /// ```
    ///
    /// # Panics
    /// Never: no decoder gives a side that does not fit 32 bits.
    #[cfg(feature = "image")]
    pub fn to_rgb_image(&self) -> RgbImage {
        let side = |px| u32::try_from(px).expect("no decoder gives a picture with such a side");
        RgbImage::from_raw(side(self.width()), side(self.height()), self.to_rgb8())
            .expect("three bytes a pixel")
    }

    /// The picture as an array of RGB bytes, 0 to 255, of shape (height, width, 3).
    ///
    /// ```no_run
    /// # fn example(frame: &twinsight_media::picture::Frame) {
    /// let rgb = frame.to_ndarray();
    /// assert_eq!(rgb.dim(), (frame.height(), frame.width(), 3));
    /// // As most models take it: 1 × 3 × height × width, 0 to 1.
    /// let tensor = rgb
    ///     .mapv(|byte| f32::from(byte) / 255.0)
    ///     .permuted_axes([2, 0, 1])
    ///     .insert_axis(ndarray::Axis(0));
    /// # let _ = tensor;
    /// # }
    /// ```
    ///
    /// # Panics
    /// Never.
    #[cfg(feature = "ndarray")]
    pub fn to_ndarray(&self) -> Array3<u8> {
        let shape = (self.height(), self.width(), 3);
        Array3::from_shape_vec(shape, self.to_rgb8()).expect("three bytes a pixel")
    }
}

/// Converts RGB bytes in rows of `row_px` pixels to packed I420 planes in BT.601, limited range, which is what streams mean
/// that do not say. The sides of `size` are even, and pixels beyond it are left out. Each chroma sample is the mean of its
/// four pixels.
///
/// # Panics
/// When a buffer is too short.
pub fn rgb_to_i420(rgb: &[u8], row_px: usize, size: PictureSize, planes: &mut [u8]) {
    let (y_plane, chroma) = planes.split_at_mut(size.width_px * size.height_px);
    let chroma_width = size.chroma_width_px();
    let (u_plane, v_plane) = chroma.split_at_mut(chroma_width * size.chroma_height_px());
    let row_of = |row: usize| &rgb[3 * row * row_px..][..3 * size.width_px];
    for (row, ys) in y_plane.chunks_exact_mut(size.width_px).enumerate() {
        for (y, pixel) in ys.iter_mut().zip(row_of(row).as_chunks::<3>().0) {
            let [r, g, b] = pixel.map(i32::from);
            *y = fixed_byte(16 << 16, 16_829 * r + 33_039 * g + 6_416 * b);
        }
    }
    let us = u_plane.chunks_exact_mut(chroma_width);
    let vs = v_plane.chunks_exact_mut(chroma_width);
    for (row, (us, vs)) in us.zip(vs).enumerate() {
        let upper = row_of(2 * row).as_chunks::<6>().0;
        let lower = row_of(2 * row + 1).as_chunks::<6>().0;
        for ((u, v), (upper, lower)) in us.iter_mut().zip(vs).zip(upper.iter().zip(lower)) {
            let sum = |n: usize| {
                [upper[n], upper[n + 3], lower[n], lower[n + 3]]
                    .map(i32::from)
                    .iter()
                    .sum::<i32>()
            };
            let [r, g, b] = [sum(0), sum(1), sum(2)];
            // These are sums of four pixels, hence the two bits more.
            *u = fixed_byte(128 << 16, (-9_714 * r - 19_071 * g + 28_785 * b) >> 2);
            *v = fixed_byte(128 << 16, (28_785 * r - 24_104 * g - 4_681 * b) >> 2);
        }
    }
}

/// Rounds a sum with 16 fractional bits to a byte.
#[inline(always)]
#[expect(clippy::cast_sign_loss, reason = "limited to 0..=255")]
fn fixed_byte(offset: i32, sum: i32) -> u8 {
    ((offset + sum + (1 << 15)) >> 16).clamp(0, 255) as u8
}

/// Converts a whole picture to interleaved RGB bytes, each chroma sample covering its 2 × 2 pixels. It is meant for
/// pictures that people look at and too slow for every frame of a stream.
pub fn to_rgb8(picture: &I420<'_>, rgb: &mut Vec<u8>) {
    let size = picture.size;
    let mut chroma = [vec![0; size.width_px], vec![0; size.width_px]];
    let mut channels: [Vec<i16>; 3] = std::array::from_fn(|_| vec![0; size.width_px]);
    rgb.clear();
    rgb.reserve(3 * size.width_px * size.height_px);
    for row in 0..size.height_px {
        let samples = rows_of(picture, row);
        for (wide, samples) in chroma.iter_mut().zip(&samples[1..]) {
            for (pair, &sample) in wide.chunks_mut(2).zip(*samples) {
                pair.fill(sample);
            }
        }
        let [us, vs] = &chroma;
        let out = channels.each_mut().map(Vec::as_mut_slice);
        convert(picture.color, [samples[0], us, vs], out);
        let [reds, greens, blues] = &channels;
        let pixels = reds.iter().zip(greens).zip(blues);
        rgb.extend(pixels.flat_map(|((&r, &g), &b)| [r, g, b].map(as_byte)));
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "limited to 0..=255"
)]
fn as_byte(value: i16) -> u8 {
    value as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::PictureSize;

    fn rgb(color: Color, y: u8, u: u8, v: u8) -> [u8; 3] {
        let size = PictureSize {
            width_px: 1,
            height_px: 1,
        };
        let mut out = Vec::new();
        to_rgb8(&I420::from_packed(&[y, u, v], size, color), &mut out);
        out.try_into().unwrap()
    }

    const COLORS: [Color; 4] = {
        const fn color(matrix: Matrix, full_range: bool) -> Color {
            Color { matrix, full_range }
        }
        [
            color(Matrix::Bt601, false),
            color(Matrix::Bt601, true),
            color(Matrix::Bt709, false),
            color(Matrix::Bt709, true),
        ]
    };

    /// By the formulas of the standards, in floating point.
    fn exact(color: Color, y: u8, u: u8, v: u8) -> [f64; 3] {
        let (kr, kb) = match color.matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let (y, u, v) = (f64::from(y), f64::from(u) - 128.0, f64::from(v) - 128.0);
        let (y, pb, pr) = if color.full_range {
            (y / 255.0, u / 255.0, v / 255.0)
        } else {
            ((y - 16.0) / 219.0, u / 224.0, v / 224.0)
        };
        let (r, b) = (y + 2.0 * (1.0 - kr) * pr, y + 2.0 * (1.0 - kb) * pb);
        let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
        [r, g, b].map(|value| (255.0 * value).clamp(0.0, 255.0))
    }

    #[test]
    fn every_triple_is_within_one_of_the_formulas() {
        for color in COLORS {
            for y in 0..=255 {
                for u in (0..=255).step_by(15) {
                    for v in (0..=255).step_by(15) {
                        let found = rgb(color, y, u, v).map(f64::from);
                        let exact = exact(color, y, u, v);
                        for (found, exact) in found.iter().zip(exact) {
                            assert!(
                                (found - exact).abs() < 0.7,
                                "{color:?} {y} {u} {v}: {found} {exact}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn black_white_and_primaries_by_the_standards() {
        let limited_601 = Color::default();
        let full_601 = Color {
            full_range: true,
            ..limited_601
        };
        let limited_709 = Color {
            matrix: Matrix::Bt709,
            ..limited_601
        };
        assert_eq!(rgb(limited_601, 16, 128, 128), [0, 0, 0]);
        assert_eq!(rgb(limited_601, 235, 128, 128), [255, 255, 255]);
        assert_eq!(rgb(full_601, 255, 128, 128), [255, 255, 255]);
        // Pure red of each standard, as its own tables give the samples.
        assert_eq!(rgb(limited_601, 81, 90, 240), [254, 0, 0]);
        assert_eq!(rgb(limited_709, 63, 102, 240), [255, 1, 0]);
        assert_eq!(rgb(full_601, 76, 85, 255), [254, 0, 0]);
    }

    #[test]
    fn odd_pictures_use_the_last_chroma_sample_once() {
        let size = PictureSize {
            width_px: 3,
            height_px: 3,
        };
        let mut bytes = vec![126; size.i420_bytes()];
        bytes[9..].fill(128);
        let picture = I420::from_packed(&bytes, size, Color::default());
        let mut out = Vec::new();
        to_rgb8(&picture, &mut out);
        assert_eq!(out, vec![128; 27]);
    }

    #[test]
    fn each_chroma_sample_covers_its_four_pixels() {
        let size = PictureSize {
            width_px: 4,
            height_px: 4,
        };
        let color = Color::default();
        let chroma: [u8; 8] = [40, 90, 140, 190, 60, 110, 160, 210];
        let bytes = [&[126; 16][..], &chroma].concat();
        let mut out = Vec::new();
        to_rgb8(&I420::from_packed(&bytes, size, color), &mut out);
        for (index, pixel) in out.chunks_exact(3).enumerate() {
            let sample = index / 8 * 2 + index % 4 / 2;
            let expected = rgb(color, 126, chroma[sample], chroma[4 + sample]);
            assert_eq!(pixel, expected, "pixel {index}");
        }
    }
}
