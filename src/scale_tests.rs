use proptest::prelude::*;

use super::*;
use twinsight_media::color::to_rgb8;
use twinsight_media::picture::{Color, Matrix};

fn size(width_px: usize, height_px: usize) -> PictureSize {
    PictureSize {
        width_px,
        height_px,
    }
}

fn scaled(bytes: &[u8], frame: PictureSize, color: Color, to: PictureSize) -> Vec<u8> {
    let mut rgb = Vec::new();
    Scaler::default().scale(&I420::from_packed(bytes, frame, color), to, &mut rgb);
    assert_eq!(rgb.len(), 3 * to.width_px * to.height_px);
    rgb
}

/// The mean of what an output pixel covers, of the picture in RGB and in floating point.
fn reference(rgb: &[u8], frame: PictureSize, to: PictureSize) -> Vec<f64> {
    let overlap = |from: usize, out: usize, outs: usize, len: usize| {
        let step = len as f64 / outs as f64;
        let (low, high) = (out as f64 * step, (out + 1) as f64 * step);
        (high.min((from + 1) as f64) - low.max(from as f64)).max(0.0) / step
    };
    let mut means = vec![0.0; 3 * to.width_px * to.height_px];
    for out_y in 0..to.height_px {
        for out_x in 0..to.width_px {
            for y in 0..frame.height_px {
                let rows = overlap(y, out_y, to.height_px, frame.height_px);
                if rows == 0.0 {
                    continue;
                }
                for x in 0..frame.width_px {
                    let share = rows * overlap(x, out_x, to.width_px, frame.width_px);
                    for channel in 0..3 {
                        means[3 * (out_y * to.width_px + out_x) + channel] +=
                            share * f64::from(rgb[3 * (y * frame.width_px + x) + channel]);
                    }
                }
            }
        }
    }
    means
}

/// Stripes and slopes whose colours all fit RGB, since those that do not are clamped at another moment here.
fn colourful(frame: PictureSize) -> Vec<u8> {
    let value = |n: usize, low: usize, span: usize| u8::try_from(low + n * 37 % span).unwrap();
    let luma = (0..frame.width_px * frame.height_px).map(|n| value(n, 100, 40));
    let chroma =
        (0..2 * frame.chroma_width_px() * frame.chroma_height_px()).map(|n| value(n / 3, 112, 32));
    luma.chain(chroma).collect()
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

#[test]
fn each_pixel_is_the_mean_of_what_it_covers() {
    for (frame, to) in [
        (size(64, 48), size(32, 24)),
        (size(64, 48), size(20, 15)),
        (size(65, 49), size(23, 17)),
        (size(33, 21), size(33, 21)),
        (size(31, 17), size(30, 16)),
        (size(50, 2), size(3, 1)),
    ] {
        let bytes = colourful(frame);
        for color in COLORS {
            let mut full = Vec::new();
            to_rgb8(&I420::from_packed(&bytes, frame, color), &mut full);
            let found = scaled(&bytes, frame, color, to);
            let means = reference(&full, frame, to);
            let mut errors = [0.0; 3];
            for (n, (found, mean)) in found.iter().zip(&means).enumerate() {
                let error = f64::from(*found) - mean;
                errors[n % 3] += error;
                // Each of the three samples is rounded before it is converted, which alone makes up to two levels.
                assert!(
                    error.abs() < 2.5,
                    "{frame:?} {to:?} {color:?}: {found} {mean}"
                );
            }
            let pixels = (to.width_px * to.height_px) as f64;
            for error in errors {
                assert!(
                    error.abs() / pixels < 2.0,
                    "{frame:?} {to:?} {color:?}: the mean is {error} off"
                );
            }
        }
    }
}

#[test]
fn a_picture_in_its_own_size_is_as_it_was() {
    let frame = size(31, 17);
    let bytes = colourful(frame);
    for color in COLORS {
        let mut full = Vec::new();
        to_rgb8(&I420::from_packed(&bytes, frame, color), &mut full);
        assert_eq!(scaled(&bytes, frame, color, frame), full);
    }
}

#[test]
fn pictures_keep_their_shape_as_far_as_a_jpeg_can() {
    for (frame, width, expected) in [
        (size(1280, 720), 640, size(640, 360)),
        (size(1281, 721), 480, size(480, 270)),
        (size(4000, 1), 160, size(160, 1)),
        (size(100_000, 10), 100_000, size(65_535, 7)),
        (size(10, 100_000), 10, size(6, 60_000)),
        (size(1, 70_000), 1, size(1, 65_535)),
        (size(3, 3), 0, size(1, 1)),
    ] {
        assert_eq!(scaled_size(frame, width), expected, "{frame:?} {width}");
    }
}

proptest! {
    #[test]
    fn any_size_goes_to_any_smaller_one(
        width in 1..90_usize,
        height in 1..90_usize,
        wanted in 0..100_usize,
        seed in 0..251_usize,
    ) {
        let frame = size(width, height);
        let to = scaled_size(frame, wanted);
        prop_assert!(to.width_px <= width && (1..=height).contains(&to.height_px));
        let mut bytes = vec![128; frame.i420_bytes()];
        for (n, luma) in bytes[..width * height].iter_mut().enumerate() {
            *luma = u8::try_from((n * 7 + seed * n / 5 + seed) % 251).unwrap();
        }
        let grey = Color { matrix: Matrix::Bt709, full_range: true };
        let rgb = scaled(&bytes, frame, grey, to);
        let mean = |bytes: &[u8]| {
            bytes.iter().map(|byte| f64::from(*byte)).sum::<f64>() / bytes.len() as f64
        };
        // All pixels cover areas of one size, so the mean stays.
        prop_assert!((mean(&rgb) - mean(&bytes[..width * height])).abs() < 1.0);
    }
}

#[test]
fn a_part_of_a_picture_is_shrunk_as_planes() {
    let frame = size(24, 16);
    let mut bytes = vec![40; frame.i420_bytes()];
    // The part from 8, 4 to 20, 12 is brighter and has another colour.
    for y in 4..12 {
        bytes[24 * y + 8..24 * y + 20].fill(200);
    }
    for plane in [24 * 16, 24 * 16 + 12 * 8] {
        for y in 2..6 {
            bytes[plane + 12 * y + 4..plane + 12 * y + 10].fill(90);
        }
    }
    let whole = I420::from_packed(&bytes, frame, Color::default());
    let cut = |plane: Plane<'_>, x: usize, y: usize| plane.data[y * plane.stride + x..].to_vec();
    let planes = [cut(whole.y, 8, 4), cut(whole.u, 4, 2), cut(whole.v, 4, 2)];
    let plane = |n: usize, stride| Plane {
        data: &planes[n],
        stride,
    };
    let part = I420 {
        y: plane(0, 24),
        u: plane(1, 12),
        v: plane(2, 12),
        size: size(12, 8),
        color: Color::default(),
    };
    let mut small = vec![7; 3];
    Scaler::default().shrink(&part, size(6, 4), &mut small);
    assert_eq!(small, [vec![200; 24], vec![90; 12]].concat());
    Scaler::default().shrink(&part, size(12, 8), &mut small);
    assert_eq!(small, [vec![200; 96], vec![90; 48]].concat());
}
