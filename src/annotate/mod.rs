//! Draws detections on a picture for people: RGB bytes and objects come in, and the bytes change. The commands `detect` and
//! `model` run it, and the pictures for watchers. Lines and letters are sized to the picture, and readable on any background.

mod canvas;
mod color;
mod look;
pub(crate) mod overlay;
mod skeleton;
mod strokes;

use self::canvas::{Area, Canvas};
use self::color::{PAPER, color};
use self::look::Look;
use self::skeleton::{Bone, bones};
use crate::detect::{BBox, Keypoint, ModelInfo, Object};
use twinsight_media::picture::PictureSize;

/// Keypoints of a lower score are not drawn, since the model only guesses where they are.
const MIN_KEYPOINT_SCORE: f32 = 0.3;

/// An object and what is written at it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Annotation<'a> {
    pub(crate) bbox: BBox,
    /// The index of the class, which chooses the colour.
    pub(crate) class_id: usize,
    pub(crate) label: &'a str,
    /// From 0 to 1.
    pub(crate) score: f32,
    keypoints: &'a [Keypoint],
    /// Pairs of keypoints that lines join.
    bones: &'static [Bone],
    /// The corners of a polygon.
    outline: &'a [[f32; 2]],
}

impl<'a> Annotation<'a> {
    /// What is drawn of an object of this model.
    pub(crate) fn of(object: &'a Object, model: &'a ModelInfo) -> Self {
        Self {
            bbox: object.bbox,
            class_id: object.class_id,
            label: model.label(object.class_id),
            score: object.score,
            keypoints: &object.keypoints,
            bones: bones(object.keypoints.len(), &model.keypoints),
            outline: &object.outline,
        }
    }
}

/// Draws what a model found.
///
/// # Panics
/// If `rgb` is not `3 * width * height` bytes, which is a bug of the caller.
pub(crate) fn draw_objects(
    rgb: &mut [u8],
    size: PictureSize,
    objects: &[Object],
    model: &ModelInfo,
) {
    let annotations: Vec<Annotation<'_>> = objects
        .iter()
        .map(|object| Annotation::of(object, model))
        .collect();
    draw(rgb, size, &annotations);
}

/// Draws all outlines, then boxes and skeletons, then labels, so that no box crosses a label. The object with the best score is on
/// top.
///
/// # Panics
/// If `rgb` is not `3 * width * height` bytes, which is a bug of the caller.
pub(crate) fn draw(rgb: &mut [u8], size: PictureSize, objects: &[Annotation<'_>]) {
    assert_eq!(
        rgb.len(),
        3 * size.width_px * size.height_px,
        "a picture's bytes are its pixels"
    );
    let mut canvas = Canvas { rgb, size };
    let look = Look::of(size);
    let mut ordered: Vec<&Annotation<'_>> = objects.iter().collect();
    ordered.sort_by(|a, b| a.score.total_cmp(&b.score));
    let areas: Vec<Area> = ordered
        .iter()
        .map(|object| Area::of(&object.bbox))
        .collect();
    for object in &ordered {
        canvas.polygon(object.outline, look.stroke_px(), color(object.class_id));
    }
    for (object, area) in ordered.iter().zip(&areas) {
        canvas.frame(*area, look.line, color(object.class_id));
    }
    for object in &ordered {
        canvas.skeleton(&look, object);
    }
    // The labels of the best scores choose their places first.
    let mut taken: Vec<Area> = Vec::new();
    for (object, area) in ordered.iter().zip(&areas).rev() {
        let text = format!("{} {:.2}", object.label, object.score);
        let plate = look.place(&text, *area, size, &taken);
        taken.push(plate);
        canvas.label(&look, plate, &text, color(object.class_id));
    }
}

impl Canvas<'_> {
    /// Draws the lines between keypoints, then the keypoints as dots.
    fn skeleton(&mut self, look: &Look, object: &Annotation<'_>) {
        let seen = |n: usize| {
            let point = object.keypoints.get(n)?;
            (point.score >= MIN_KEYPOINT_SCORE).then_some([point.x, point.y])
        };
        let lines: Vec<[[f32; 2]; 2]> = object
            .bones
            .iter()
            .filter_map(|&[from, to]| Some([seen(from)?, seen(to)?]))
            .collect();
        self.lines(&lines, look.stroke_px(), color(object.class_id));
        for at in (0..object.keypoints.len()).filter_map(seen) {
            self.dot(at, 1.5 * look.stroke_px(), PAPER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::color::{INK, Rgb};
    use super::*;

    fn object(x: f32, y: f32, side: f32) -> Annotation<'static> {
        Annotation {
            bbox: BBox {
                x,
                y,
                width: side,
                height: side,
            },
            class_id: 0,
            label: "person",
            score: 0.5,
            keypoints: &[],
            bones: &[],
            outline: &[],
        }
    }

    #[test]
    fn a_box_is_drawn_in_its_colour_around_untouched_pixels() {
        let size = PictureSize {
            width_px: 200,
            height_px: 150,
        };
        let mut rgb = vec![128; 3 * 200 * 150];
        draw(&mut rgb, size, &[object(60.0, 60.0, 50.0)]);
        let at = |x: usize, y: usize| <Rgb>::try_from(&rgb[3 * (y * 200 + x)..][..3]).unwrap();
        assert_eq!(at(59, 80), color(0));
        assert_eq!(at(85, 85), [128; 3]);
        assert_eq!(at(150, 140), [128; 3]);
    }

    #[test]
    fn anything_anywhere_is_drawn_inside_the_picture() {
        for (width_px, height_px) in [(1, 1), (3, 200), (200, 3), (640, 480), (2000, 1500)] {
            let size = PictureSize {
                width_px,
                height_px,
            };
            let mut rgb = vec![0; 3 * width_px * height_px];
            let spots = [
                [f32::NAN, 1.0],
                [-1e9, -1e9],
                [1e9, -3.0],
                [0.5, 1e30],
                [f32::INFINITY, 2.0],
                [2.0, 2.0],
            ];
            let keypoints: Vec<Keypoint> = (0..17).map(|n| point(spots[n % 6])).collect();
            let far = [
                object(0.0, 0.0, 5000.0),
                object(-50.0, 1e9, 10.0),
                object(0.0, 0.0, 0.0),
                Annotation {
                    keypoints: &keypoints,
                    bones: bones(17, &[]),
                    outline: &spots,
                    ..object(0.0, 0.0, 1.0)
                },
            ];
            draw(&mut rgb, size, &far);
        }
    }

    #[test]
    fn labels_do_not_cover_each_other_while_there_is_room() {
        let size = PictureSize {
            width_px: 640,
            height_px: 480,
        };
        let look = Look::of(size);
        let area = Area::of(&object(200.0, 200.0, 80.0).bbox);
        let mut taken = Vec::new();
        for _ in 0..4 {
            let plate = look.place("person 0.50", area, size, &taken);
            assert!(
                !taken.iter().any(|other| plate.meets(*other)),
                "{taken:?} {plate:?}"
            );
            taken.push(plate);
        }
    }

    fn point([x, y]: [f32; 2]) -> Keypoint {
        Keypoint { x, y, score: 0.9 }
    }

    const SIZE: PictureSize = PictureSize {
        width_px: 200,
        height_px: 150,
    };

    /// What is drawn of an object whose box is of no size, in a corner, on grey.
    fn drawn(object: Annotation<'_>) -> impl Fn(usize, usize) -> Rgb {
        let mut rgb = vec![128; 3 * 200 * 150];
        let corner = BBox {
            x: 0.0,
            y: 150.0,
            width: 0.0,
            height: 0.0,
        };
        draw(
            &mut rgb,
            SIZE,
            &[Annotation {
                bbox: corner,
                ..object
            }],
        );
        move |x, y| <Rgb>::try_from(&rgb[3 * (y * 200 + x)..][..3]).unwrap()
    }

    #[test]
    fn keypoints_are_dots_and_those_of_a_person_are_joined() {
        let hidden = Keypoint {
            score: 0.29,
            ..point([30.5, 30.5])
        };
        let mut keypoints = [hidden; 17];
        // The left hip, knee and ankle, and the right ankle, whose knee is hidden.
        keypoints[11] = point([100.5, 20.5]);
        keypoints[13] = point([100.5, 50.5]);
        keypoints[15] = point([130.5, 80.5]);
        keypoints[16] = point([60.5, 100.5]);
        let at = drawn(Annotation {
            keypoints: &keypoints,
            bones: bones(17, &[]),
            ..object(0.0, 0.0, 0.0)
        });
        for (x, y) in [(100, 20), (100, 50), (130, 80), (60, 100)] {
            assert_eq!(at(x, y), PAPER, "{x} {y}");
        }
        assert_eq!(at(30, 30), [128; 3]);
        // Upright and slanted, with a dark rim on both sides.
        assert_eq!(at(100, 35), color(0));
        assert_eq!(at(115, 65), color(0));
        for (x, y) in [(98, 35), (102, 35), (114, 66), (116, 64)] {
            assert!(
                at(x, y).iter().all(|byte| *byte < 110),
                "{x} {y}: {:?}",
                at(x, y)
            );
        }
        assert_eq!(at(45, 65), [128; 3], "no line to what is hidden");
        assert_eq!(at(108, 50), [128; 3]);

        // Points that are no person's are not joined.
        let at = drawn(Annotation {
            keypoints: &keypoints,
            ..object(0.0, 0.0, 0.0)
        });
        assert_eq!((at(100, 20), at(100, 35)), (PAPER, [128; 3]));
    }

    #[test]
    fn an_outline_is_a_line_around_what_is_tinted() {
        // An L, whose notch is at its top right.
        let outline = [
            [50.0, 20.0],
            [80.0, 20.0],
            [80.0, 70.0],
            [130.0, 70.0],
            [130.0, 120.0],
            [50.0, 120.0],
        ];
        let at = drawn(Annotation {
            outline: &outline,
            ..object(0.0, 0.0, 0.0)
        });
        for (x, y) in [(60, 50), (120, 90)] {
            assert!(at(x, y) != [128; 3] && at(x, y) != color(0), "{x} {y}");
            assert!(at(x, y)[1] > 128, "class 0 is green: {:?}", at(x, y));
        }
        for (x, y) in [(105, 45), (40, 50), (140, 90), (90, 130)] {
            assert_eq!(at(x, y), [128; 3], "outside, {x} {y}");
        }
        // Each side has its line, also that from the last corner to the first.
        for (x, y) in [
            (65, 20),
            (80, 45),
            (105, 70),
            (130, 95),
            (90, 120),
            (50, 70),
        ] {
            let near = |to: Rgb| {
                let spots = (x - 3..=x + 3).flat_map(|x| (y - 3..=y + 3).map(move |y| (x, y)));
                let apart = |(x, y)| (0..3).map(|n| at(x, y)[n].abs_diff(to[n])).max();
                spots.map(apart).min().flatten().unwrap()
            };
            assert!(near(color(0)) < 60 && near(INK) < 60, "{x} {y}");
        }
    }
}
