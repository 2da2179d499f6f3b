//! YUV to RGB by the matrices of ITU-R BT.601 and BT.709, full and limited range (H.264 Annex E).
//! Rows of samples come in, rows of RGB bytes go out; the preprocessor and the drawing code run it.
//! RGB is limited to bytes before anything is resized: resizing first moves the scores of overexposed
//! objects by 0.04 (seen on the white van of the shipped clip).

use crate::decode::frame::{Color, I420, Matrix};

/// Coefficients that turn a sample triple to RGB bytes, in 16-bit fixed point so that the compiler makes
/// it wide. Sums have 5 fractional bits; at most one off the exact value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct YuvToRgb {
    y_offset: i16,
    /// Times 2^14.
    y_gain: i16,
    /// These times 2^13.
    r_v: i16,
    g_u: i16,
    g_v: i16,
    b_u: i16,
}

impl YuvToRgb {
    /// The coefficients of a colour description.
    pub fn new(color: Color) -> Self {
        let (k_r, k_b) = match color.matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let k_g = 1.0 - k_r - k_b;
        let (y_offset, y_gain, c_gain) = if color.full_range {
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

    /// One sample triple to RGB.
    #[inline(always)]
    fn rgb(self, y: u8, u: u8, v: u8) -> [u8; 3] {
        // With 7 and 8 bits more, the upper halves of the products have 5 fractional bits.
        let y = high((i16::from(y) - self.y_offset) << 7, self.y_gain) + 16;
        let u = (i16::from(u) - 128) << 8;
        let v = (i16::from(v) - 128) << 8;
        [
            y + high(v, self.r_v),
            y + high(u, self.g_u) + high(v, self.g_v),
            y + high(u, self.b_u),
        ]
        .map(|sum| to_byte(sum >> 5))
    }

    /// A row of samples, chroma as wide as luma, to three rows of bytes.
    pub(super) fn convert_row(self, yuv: [&[u8]; 3], rgb: [&mut [u8]; 3]) {
        let [ys, us, vs] = yuv;
        let [reds, greens, blues] = rgb;
        let samples = ys.iter().zip(us).zip(vs);
        let pixels = reds.iter_mut().zip(greens).zip(blues);
        for (((&y, &u), &v), ((red, green), blue)) in samples.zip(pixels) {
            [*red, *green, *blue] = self.rgb(y, u, v);
        }
    }
}

/// The upper half of a product.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the upper half of a product of 16-bit numbers has 16 bits"
)]
fn high(a: i16, b: i16) -> i16 {
    ((i32::from(a) * i32::from(b)) >> 16) as i16
}

#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "limited to 0..=255"
)]
fn to_byte(value: i16) -> u8 {
    value.clamp(0, 255) as u8
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "coefficients are below 2.2, so that 13 bits more fit; luma's below 1.2"
)]
fn fixed(value: f64, bits: i32) -> i16 {
    (value * f64::from(1 << bits)).round() as i16
}

/// A row of chroma made as wide as luma, each sample covering two pixels.
pub(super) fn widen_chroma(row: &[u8], out: &mut [u8]) {
    let mut pairs = out.chunks_exact_mut(2);
    for (pair, &sample) in pairs.by_ref().zip(row) {
        pair[0] = sample;
        pair[1] = sample;
    }
    if let ([odd], Some(&last)) = (pairs.into_remainder(), row.last()) {
        *odd = last;
    }
}

/// What a model wants done to a channel's bytes: `value * gain + bias`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChannelAffine {
    /// Factor of a byte.
    pub gain: f32,
    /// Added after it.
    pub bias: f32,
}

impl ChannelAffine {
    /// The value for a byte in 0..=255.
    #[inline(always)]
    pub fn apply(self, value: f32) -> f32 {
        value * self.gain + self.bias
    }
}

/// A whole picture to interleaved RGB bytes, each chroma sample covering its 2x2 pixels. For pictures
/// that people look at, not for the hot path.
pub fn to_rgb8(picture: &I420<'_>, rgb: &mut Vec<u8>) {
    let size = picture.size;
    let matrix = YuvToRgb::new(picture.color);
    rgb.clear();
    rgb.reserve(3 * size.width_px * size.height_px);
    for row in 0..size.height_px {
        let ys = &picture.y.data[row * picture.y.stride..][..size.width_px];
        let us = &picture.u.data[row / 2 * picture.u.stride..][..size.chroma_width_px()];
        let vs = &picture.v.data[row / 2 * picture.v.stride..][..size.chroma_width_px()];
        for (pair, (&u, &v)) in ys.chunks(2).zip(us.iter().zip(vs)) {
            for &y in pair {
                rgb.extend(matrix.rgb(y, u, v));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::frame::PictureSize;

    fn rgb(color: Color, y: u8, u: u8, v: u8) -> [u8; 3] {
        YuvToRgb::new(color).rgb(y, u, v)
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
}
