use std::sync::Arc;
use std::time::Instant;

use image::RgbImage;

use super::*;
use crate::detect::ModelInfo;
use twinsight_media::picture::{Color, Frame, FrameTiming, PlanePool};

fn size(width_px: usize, height_px: usize) -> PictureSize {
    PictureSize {
        width_px,
        height_px,
    }
}

/// A frame of one colour.
fn frame(size: PictureSize, [y, u, v]: [u8; 3]) -> Frame {
    let at = Instant::now();
    let timing = FrameTiming {
        received_at: at,
        completed_at: at,
        decoded_at: at,
        rtp_timestamp: 0.into(),
        captured_at_unix_ms: None,
    };
    let mut planes = PlanePool::new(1).acquire(size.i420_bytes());
    let (luma, chroma) = planes
        .bytes_mut()
        .split_at_mut(size.width_px * size.height_px);
    luma.fill(y);
    let (us, vs) = chroma.split_at_mut(size.chroma_width_px() * size.chroma_height_px());
    us.fill(u);
    vs.fill(v);
    Frame::new(planes, size, Color::default(), timing)
}

fn offered(size: PictureSize, color: [u8; 3], objects: Option<Vec<Object>>) -> Offered {
    let seen = objects.map(|objects| Seen {
        objects,
        model: ModelInfo {
            name: "m".into(),
            sha256: Some("0".into()),
            labels: Arc::new(["person".to_owned()]),
            keypoints: Arc::new([]),
        },
    });
    Offered {
        frame: frame(size, color),
        sequence: None,
        seen,
        at: Instant::now(),
    }
}

fn decoded(offered: &Offered, width_px: usize, boxes: bool) -> RgbImage {
    let form = Form { width_px, boxes };
    let jpeg = PictureEncoder::default().encode(offered, form).unwrap();
    image::load_from_memory(&jpeg).unwrap().into_rgb8()
}

#[test]
fn a_jpeg_has_the_size_and_the_colour_of_its_frame() {
    // Red, by the table of BT.601.
    let red = offered(size(1280, 720), [81, 90, 240], None);
    let picture = decoded(&red, 320, false);
    assert_eq!(picture.dimensions(), (320, 180));
    for pixel in picture.pixels() {
        for (found, expected) in pixel.0.iter().zip([254, 0, 0]) {
            assert!(found.abs_diff(expected) <= 3, "{pixel:?}");
        }
    }
}

#[test]
fn frames_of_any_size_are_encoded() {
    let mut encoder = PictureEncoder::default();
    for (width, height) in [(1, 1), (2, 1), (1, 33), (17, 3), (4097, 2161), (70_000, 2)] {
        let offered = offered(size(width, height), [100, 128, 128], Some(Vec::new()));
        for boxes in [false, true] {
            let form = Form {
                width_px: width.min(200),
                boxes,
            };
            let jpeg = encoder.encode(&offered, form).unwrap();
            assert_eq!(jpeg[..2], [0xff, 0xd8]);
        }
    }
    let form = Form {
        width_px: 1,
        boxes: false,
    };
    let none = offered(size(0, 0), [0; 3], None);
    assert!(matches!(
        encoder.encode(&none, form),
        Err(EncodeError::Empty)
    ));
}

#[test]
fn boxes_are_drawn_where_the_objects_are_in_the_smaller_picture() {
    let object = Object {
        class_id: 0,
        score: 0.9,
        bbox: BBox {
            x: 400.0,
            y: 200.0,
            width: 400.0,
            height: 400.0,
        },
        keypoints: Vec::new(),
        outline: Vec::new(),
    };
    let grey = offered(size(1280, 720), [126, 128, 128], Some(vec![object]));
    let is_grey = |picture: &RgbImage, x, y| {
        let pixel = picture.get_pixel(x, y).0;
        pixel.iter().all(|value| value.abs_diff(128) < 12)
    };
    let with = decoded(&grey, 640, true);
    assert!(!is_grey(&with, 200, 200), "the left edge");
    assert!(!is_grey(&with, 400, 200), "the right edge");
    assert!(is_grey(&with, 300, 200) && is_grey(&with, 600, 340));
    let without = decoded(&grey, 640, false);
    assert!(is_grey(&without, 200, 200) && is_grey(&without, 400, 200));
}
