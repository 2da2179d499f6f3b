//! Makes a picture of a frame: its planes are averaged down to the size that is shown, turned into RGB, drawn on and encoded as
//! JPEG. The preview thread runs it.

use bytes::Bytes;
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use super::Form;
use super::core::PendingFrame;
use crate::annotate::draw_objects;
use crate::detect::{BBox, Keypoint, Object};
use twinsight_media::color::to_rgb8;
use twinsight_media::picture::{I420, PictureSize, Plane};

/// Enough to see what a camera sees; pictures are a third as long as with 90.
const QUALITY: u8 = 75;

/// A picture of the frame in this form.
pub(super) fn encode(pending: &PendingFrame, form: Form) -> Bytes {
    let planes = pending.frame.planes();
    let size = shown_size(planes.size, form.max_width_px);
    let mut rgb = Vec::new();
    if size == planes.size {
        to_rgb8(&planes, &mut rgb);
    } else {
        let scaled = scale(&planes, size);
        to_rgb8(&I420::from_packed(&scaled, size, planes.color), &mut rgb);
    }
    if let (true, Some((objects, model))) = (form.boxes, &pending.seen) {
        let objects: Vec<_> = objects
            .iter()
            .map(|object| scaled_object(object, planes.size, size))
            .collect();
        draw_objects(&mut rgb, size, &objects, model);
    }
    let mut jpeg = Vec::with_capacity(rgb.len() / 16);
    let px = |px: usize| u32::try_from(px).expect("a decoder's pictures have sizes of 16 bits");
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .encode(
            &rgb,
            px(size.width_px),
            px(size.height_px),
            ExtendedColorType::Rgb8,
        )
        .expect(
            "writing to a vector does not fail, and the picture has a size that a JPEG may have",
        );
    jpeg.into()
}

/// The size of the picture: no wider than this, and of the frame's proportions.
fn shown_size(frame: PictureSize, max_width_px: usize) -> PictureSize {
    if frame.width_px <= max_width_px {
        return frame;
    }
    let height = (frame.height_px * max_width_px + frame.width_px / 2) / frame.width_px;
    PictureSize {
        width_px: max_width_px,
        height_px: height.max(1),
    }
}

/// The picture in a smaller size, as I420 without padding.
fn scale(planes: &I420<'_>, size: PictureSize) -> Vec<u8> {
    let mut scaled = Vec::with_capacity(size.i420_bytes());
    let from = planes.size;
    average(
        planes.y,
        (from.width_px, from.height_px),
        (size.width_px, size.height_px),
        &mut scaled,
    );
    for plane in [planes.u, planes.v] {
        average(
            plane,
            (from.chroma_width_px(), from.chroma_height_px()),
            (size.chroma_width_px(), size.chroma_height_px()),
            &mut scaled,
        );
    }
    scaled
}

/// Appends the plane in a smaller size. Each sample is the mean of those that it stands for.
fn average(
    plane: Plane<'_>,
    (from_width, from_height): (usize, usize),
    (width, height): (usize, usize),
    scaled: &mut Vec<u8>,
) {
    // At least one sample, also where there are more columns than the plane has.
    let span = |at: usize, to: usize, from: usize| {
        let begin = at * from / to;
        (begin, ((at + 1) * from / to).max(begin + 1))
    };
    let columns: Vec<_> = (0..width).map(|x| span(x, width, from_width)).collect();
    let mut sums = vec![0_u32; from_width];
    for y in 0..height {
        let (top, bottom) = span(y, height, from_height);
        sums.fill(0);
        for row in plane.data[top * plane.stride..]
            .chunks(plane.stride)
            .take(bottom - top)
        {
            for (sum, sample) in sums.iter_mut().zip(row) {
                *sum += u32::from(*sample);
            }
        }
        let rows = u32::try_from(bottom - top).unwrap_or(u32::MAX);
        for &(left, right) in &columns {
            let sum: u32 = sums[left..right].iter().sum();
            let count = u32::try_from(right - left).unwrap_or(u32::MAX) * rows;
            let mean = (sum + count / 2) / count;
            scaled.push(u8::try_from(mean).expect("the mean of bytes is a byte"));
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes of pictures are far below 2^24"
)]
fn scaled_object(object: &Object, from: PictureSize, to: PictureSize) -> Object {
    let x = to.width_px as f32 / from.width_px as f32;
    let y = to.height_px as f32 / from.height_px as f32;
    let BBox {
        x: left,
        y: top,
        width,
        height,
    } = object.bbox;
    Object {
        class_id: object.class_id,
        score: object.score,
        bbox: BBox {
            x: left * x,
            y: top * y,
            width: width * x,
            height: height * y,
        },
        keypoints: object
            .keypoints
            .iter()
            .map(|point| Keypoint {
                x: point.x * x,
                y: point.y * y,
                score: point.score,
            })
            .collect(),
        outline: object.outline.iter().map(|[a, b]| [a * x, b * y]).collect(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::detect::ModelInfo;
    use twinsight_media::picture::{Color, Frame, FrameTiming, Matrix, PlanePool};

    /// A frame whose planes are filled by what `sample` gives for plane, column and row.
    fn filled(
        (width_px, height_px): (usize, usize),
        color: Color,
        sample: impl Fn(usize, usize, usize) -> u8,
    ) -> Frame {
        let size = PictureSize {
            width_px,
            height_px,
        };
        let mut buffer = PlanePool::new(1).acquire(size.i420_bytes());
        let chroma = (size.chroma_width_px(), size.chroma_height_px());
        let mut at = 0;
        for (plane, (width, height)) in [(width_px, height_px), chroma, chroma]
            .into_iter()
            .enumerate()
        {
            for y in 0..height {
                for x in 0..width {
                    buffer.bytes_mut()[at] = sample(plane, x, y);
                    at += 1;
                }
            }
        }
        let now = Instant::now();
        let timing = FrameTiming {
            received_at: now,
            completed_at: now,
            decoded_at: now,
            rtp_timestamp: 0.into(),
            captured_at_unix_ms: None,
        };
        Frame::new(buffer, size, color, timing)
    }

    pub(in crate::preview) fn grey(width: usize, height: usize) -> Frame {
        filled((width, height), Color::default(), |_, _, _| 128)
    }

    fn pending(frame: Frame) -> PendingFrame {
        PendingFrame {
            frame,
            sequence: None,
            seen: None,
        }
    }

    fn form(max_width_px: usize) -> Form {
        Form {
            max_width_px,
            boxes: false,
        }
    }

    #[test]
    fn colours_stay_what_they_are() {
        for (color, [y, u, v], rgb) in [
            // Red, green and blue of BT.601 in limited range, and of BT.709 in both.
            ((Matrix::Bt601, false), [81, 90, 240], [254, 0, 0]),
            ((Matrix::Bt601, false), [145, 54, 34], [0, 255, 1]),
            ((Matrix::Bt709, false), [63, 102, 240], [255, 0, 0]),
            ((Matrix::Bt709, true), [18, 255, 116], [0, 0, 255]),
            ((Matrix::Bt601, true), [255, 128, 128], [255, 255, 255]),
        ] {
            let color = Color {
                matrix: color.0,
                full_range: color.1,
            };
            let frame = filled((640, 360), color, |plane, _, _| [y, u, v][plane]);
            for width in [160, 640] {
                let jpeg = encode(&pending(frame.clone()), form(width));
                let image = image::load_from_memory(&jpeg).unwrap().to_rgb8();
                assert_eq!(
                    image.dimensions(),
                    (
                        u32::try_from(width).unwrap(),
                        u32::try_from(width * 9 / 16).unwrap()
                    )
                );
                let found = image.get_pixel(80, 45).0;
                for (found, wanted) in found.into_iter().zip(rgb) {
                    assert!(
                        i16::from(found).abs_diff(wanted) <= 3,
                        "{color:?} {found:?} {rgb:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_scaled_is_the_mean_of_what_it_stands_for() {
        let frame = filled((8, 4), Color::default(), |_, x, y| {
            u8::try_from(10 * x + y).unwrap()
        });
        let size = PictureSize {
            width_px: 4,
            height_px: 2,
        };
        let scaled = scale(&frame.planes(), size);
        // Luma: columns 0 and 1 of rows 0 and 1 are 0, 10, 1 and 11.
        assert_eq!(scaled[..8], [6, 26, 46, 66, 8, 28, 48, 68]);
        // Chroma of 4 x 2 becomes 2 x 1.
        assert_eq!(scaled[8..], [6, 26, 6, 26]);
    }

    #[test]
    fn objects_are_drawn_where_they_are_in_the_small_picture() {
        let model = ModelInfo {
            name: "m".into(),
            sha256: "".into(),
            labels: ["person".to_owned()].into(),
            keypoints: Arc::new([]),
        };
        let object = Object {
            class_id: 0,
            score: 0.9,
            bbox: BBox {
                x: 320.0,
                y: 180.0,
                width: 200.0,
                height: 120.0,
            },
            keypoints: Vec::new(),
            outline: Vec::new(),
        };
        let mut pending = pending(grey(640, 360));
        pending.seen = Some((vec![object], model));
        let boxes = Form {
            max_width_px: 320,
            boxes: true,
        };
        let image = image::load_from_memory(&encode(&pending, boxes))
            .unwrap()
            .to_rgb8();
        let is_grey = |x, y| {
            image
                .get_pixel(x, y)
                .0
                .iter()
                .all(|level| level.abs_diff(130) < 20)
        };
        assert!(is_grey(80, 45), "nothing is drawn elsewhere");
        assert!((156..166).any(|x| !is_grey(x, 130)), "the left edge");
        assert!((255..265).any(|x| !is_grey(x, 130)), "the right edge");
        pending.seen = None;
        let image = encode(&pending, boxes);
        assert!(!image.is_empty());
    }

    proptest! {
        #[test]
        fn every_size_gives_a_picture(
            width in 1_usize..200, height in 1_usize..200, max_width in 1_usize..200,
        ) {
            let jpeg = encode(&pending(grey(width, height)), form(max_width));
            let image = image::load_from_memory(&jpeg).unwrap();
            prop_assert_eq!(image.width() as usize, width.min(max_width));
            prop_assert!(image.height() as usize <= height);
        }
    }
}
