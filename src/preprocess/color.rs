//! YUV to RGB by the matrices of ITU-R BT.601 and BT.709, full and limited range (H.264 Annex E).
//! Rows of samples come in, rows of RGB go out; the preprocessor and the drawing code run it.

use crate::decode::frame::{Color, I420, Matrix};

/// Coefficients that turn a sample triple to RGB in 0..=255.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct YuvToRgb {
    y_offset: f32,
    y_gain: f32,
    r_v: f32,
    g_u: f32,
    g_v: f32,
    b_u: f32,
}

impl YuvToRgb {
    /// The coefficients of a colour description.
    pub fn new(color: Color) -> Self {
        let (k_r, k_b) = match color.matrix {
            Matrix::Bt601 => (0.299_f32, 0.114_f32),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let k_g = 1.0 - k_r - k_b;
        let (y_offset, y_gain, c_gain) = if color.full_range {
            (0.0, 1.0, 1.0)
        } else {
            (16.0, 255.0 / 219.0, 255.0 / 224.0)
        };
        Self {
            y_offset,
            y_gain,
            r_v: 2.0 * (1.0 - k_r) * c_gain,
            g_u: -2.0 * (1.0 - k_b) * k_b / k_g * c_gain,
            g_v: -2.0 * (1.0 - k_r) * k_r / k_g * c_gain,
            b_u: 2.0 * (1.0 - k_b) * c_gain,
        }
    }

    /// One sample triple to RGB, not yet limited to 0..=255.
    #[inline(always)]
    fn rgb(self, y: f32, u: f32, v: f32) -> [f32; 3] {
        let y = (y - self.y_offset) * self.y_gain;
        let (u, v) = (u - 128.0, v - 128.0);
        [
            y + self.r_v * v,
            y + self.g_u * u + self.g_v * v,
            y + self.b_u * u,
        ]
    }

    /// A row of samples to three rows of `rgb * gain + bias`, with RGB limited to 0..=255 before,
    /// as bytes would be.
    pub(super) fn convert_row(
        self,
        yuv: [&[f32]; 3],
        affine: &[ChannelAffine; 3],
        rgb: [&mut [f32]; 3],
    ) {
        let [ys, us, vs] = yuv;
        let [reds, greens, blues] = rgb;
        let samples = ys.iter().zip(us).zip(vs);
        let pixels = reds.iter_mut().zip(greens).zip(blues);
        for (((&y, &u), &v), ((red, green), blue)) in samples.zip(pixels) {
            let [r, g, b] = self.rgb(y, u, v);
            *red = affine[0].apply(limit(r));
            *green = affine[1].apply(limit(g));
            *blue = affine[2].apply(limit(b));
        }
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
                rgb.extend(
                    matrix
                        .rgb(f32::from(y), f32::from(u), f32::from(v))
                        .map(to_byte),
                );
            }
        }
    }
}

#[inline(always)]
fn limit(value: f32) -> f32 {
    value.clamp(0.0, 255.0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "limited to 0..=255 before"
)]
fn to_byte(value: f32) -> u8 {
    (limit(value) + 0.5) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::frame::PictureSize;

    fn rgb(color: Color, y: u8, u: u8, v: u8) -> [u8; 3] {
        YuvToRgb::new(color)
            .rgb(f32::from(y), f32::from(u), f32::from(v))
            .map(to_byte)
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
