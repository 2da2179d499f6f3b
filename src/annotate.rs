//! Draws detections on a picture for people: RGB bytes and objects come in, and the bytes change. The `detect` command runs
//! it. Lines and letters are sized to the picture, and readable on any background.

use std::convert::Infallible;

use embedded_graphics::Drawable;
use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle, ascii};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::text::{Baseline, Text};

use crate::detect::BBox;
use twinsight_media::picture::PictureSize;

/// A box and what is written at it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Annotation<'a> {
    pub(crate) bbox: BBox,
    /// The index of the class, which chooses the colour.
    pub(crate) class_id: usize,
    pub(crate) label: &'a str,
    /// From 0 to 1.
    pub(crate) score: f32,
}

type Rgb = [u8; 3];

const INK: Rgb = [16, 18, 22];
const PAPER: Rgb = [255, 255, 255];

/// Draws all boxes, then all labels, so that no box crosses a label. The object with the best score is on top.
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
    for (object, area) in ordered.iter().zip(&areas) {
        canvas.frame(*area, look.line, color(object.class_id));
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

/// A rectangle in whole pixels; `right` and `bottom` lie just outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Area {
    left: i32,
    top: i32,
    right: i32,
    bottom: i32,
}

/// How large lines and letters are on a picture.
struct Look {
    font: MonoFont<'static>,
    /// The side of the square that stands for a pixel of the font.
    zoom: i32,
    /// The thickness of a box's line in pixels.
    line: i32,
}

struct Canvas<'a> {
    rgb: &'a mut [u8],
    size: PictureSize,
}

impl Area {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "boxes lie inside the picture, whose sides are far below 2^31"
    )]
    fn of(bbox: &BBox) -> Self {
        Self {
            left: bbox.x.round() as i32,
            top: bbox.y.round() as i32,
            right: (bbox.x + bbox.width).round() as i32,
            bottom: (bbox.y + bbox.height).round() as i32,
        }
    }

    fn grown(self, by: i32) -> Self {
        Self {
            left: self.left - by,
            top: self.top - by,
            right: self.right + by,
            bottom: self.bottom + by,
        }
    }

    fn meets(self, other: Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }
}

impl Look {
    fn of(size: PictureSize) -> Self {
        let short = pixels(size.width_px.min(size.height_px));
        let (font, zoom) = match short {
            ..300 => (ascii::FONT_6X10, 1),
            300..500 => (ascii::FONT_7X13_BOLD, 1),
            500..900 => (ascii::FONT_8X13_BOLD, 1),
            900..1300 => (ascii::FONT_10X20, 1),
            _ => (ascii::FONT_9X15_BOLD, (short + 300) / 800),
        };
        Self {
            font,
            zoom,
            line: (short / 280).max(1),
        }
    }

    fn margin(&self) -> i32 {
        2 * self.zoom
    }

    /// Finds where a label goes: the first place at its box that lies inside the picture and covers no other label.
    fn place(&self, text: &str, area: Area, size: PictureSize, taken: &[Area]) -> Area {
        let glyph = self.font.character_size;
        let width = (pixels(text.chars().count()) * i32::try_from(glyph.width).unwrap_or(10))
            * self.zoom
            + 2 * self.margin();
        let height = i32::try_from(glyph.height).unwrap_or(20) * self.zoom + self.margin();
        let outer = area.grown(self.line);
        let tops = [
            outer.top - height,
            outer.bottom,
            area.top + self.line,
            area.bottom - self.line - height,
        ];
        let lefts = [outer.left, outer.right - width];
        let (most_left, most_top) = (
            pixels(size.width_px) - width,
            pixels(size.height_px) - height,
        );
        let at = |left: i32, top: i32| {
            let (left, top) = (left.min(most_left).max(0), top.min(most_top).max(0));
            Area {
                left,
                top,
                right: left + width,
                bottom: top + height,
            }
        };
        let places = tops.iter().flat_map(|&top| lefts.map(|left| (left, top)));
        let free = |&(left, top): &(i32, i32)| {
            let plate = at(left, top);
            plate.top == top && !taken.iter().any(|other| plate.meets(*other))
        };
        places.clone().find(free).map_or_else(
            || at(outer.left, outer.top - height),
            |(left, top)| at(left, top),
        )
    }
}

impl Canvas<'_> {
    fn fill(&mut self, area: Area, color: Rgb) {
        let limit = |value: i32, most: usize| usize::try_from(value).unwrap_or(0).min(most);
        let (width, height) = (self.size.width_px, self.size.height_px);
        let (left, right) = (limit(area.left, width), limit(area.right, width));
        for row in limit(area.top, height)..limit(area.bottom, height) {
            if left < right {
                let start = 3 * (row * width + left);
                for pixel in self.rgb[start..start + 3 * (right - left)].chunks_exact_mut(3) {
                    pixel.copy_from_slice(&color);
                }
            }
        }
    }

    /// Draws a line of this thickness just outside the area.
    fn outline(&mut self, area: Area, line: i32, color: Rgb) {
        let outer = area.grown(line);
        let bars = [
            Area {
                bottom: area.top,
                ..outer
            },
            Area {
                top: area.bottom,
                ..outer
            },
            Area {
                right: area.left,
                ..outer
            },
            Area {
                left: area.right,
                ..outer
            },
        ];
        for bar in bars {
            self.fill(bar, color);
        }
    }

    /// Draws a coloured line between two dark hairlines, which shows on bright and dark ground alike. At the picture's edge it
    /// moves inside.
    fn frame(&mut self, area: Area, line: i32, color: Rgb) {
        let hair = (line / 3).max(1);
        let room = line + hair;
        let (width, height) = (pixels(self.size.width_px), pixels(self.size.height_px));
        let inner = Area {
            left: area.left.max(room),
            top: area.top.max(room),
            right: area.right.min(width - room),
            bottom: area.bottom.min(height - room),
        };
        self.outline(inner.grown(-hair), room + hair, INK);
        self.outline(inner, line, color);
    }

    fn label(&mut self, look: &Look, plate: Area, text: &str, color: Rgb) {
        self.fill(plate.grown(1), INK);
        self.fill(plate, color);
        let margin = look.margin();
        let mut glyphs = Glyphs {
            left: plate.left + margin,
            top: plate.top + margin / 2,
            zoom: look.zoom,
            ink: if luminance(color) > 110.0 { INK } else { PAPER },
            canvas: self,
        };
        let style = MonoTextStyle::new(&look.font, BinaryColor::On);
        let Ok(_) =
            Text::with_baseline(text, Point::zero(), style, Baseline::Top).draw(&mut glyphs);
    }
}

/// A target for the font's pixels, each of which becomes a square of the picture.
struct Glyphs<'c, 'p> {
    canvas: &'c mut Canvas<'p>,
    left: i32,
    top: i32,
    zoom: i32,
    ink: Rgb,
}

impl OriginDimensions for Glyphs<'_, '_> {
    fn size(&self) -> Size {
        let side = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        Size::new(
            side(self.canvas.size.width_px),
            side(self.canvas.size.height_px),
        )
    }
}

impl DrawTarget for Glyphs<'_, '_> {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I>(&mut self, pixels: I) -> Result<(), Self::Error>
    where
        I: IntoIterator<Item = Pixel<Self::Color>>,
    {
        for Pixel(point, _) in pixels.into_iter().filter(|pixel| pixel.1.is_on()) {
            let (left, top) = (
                self.left + point.x * self.zoom,
                self.top + point.y * self.zoom,
            );
            let square = Area {
                left,
                top,
                right: left + self.zoom,
                bottom: top + self.zoom,
            };
            self.canvas.fill(square, self.ink);
        }
        Ok(())
    }
}

/// The colour of a class. Hues advance by the golden angle, so that neighbouring classes differ most.
fn color(class_id: usize) -> Rgb {
    let class = u16::try_from(class_id % 360).unwrap_or(0);
    let hue = (f32::from(class) * 137.508 + 150.0) % 360.0;
    let channel = |offset: f32| {
        let k = (offset + hue / 60.0) % 6.0;
        let dip = k.min(4.0 - k).clamp(0.0, 1.0);
        1.0 - 0.82 * dip
    };
    [5.0, 3.0, 1.0].map(|offset| byte(255.0 * channel(offset)))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a saturating cast is what is wanted"
)]
fn byte(value: f32) -> u8 {
    value.round() as u8
}

fn luminance([red, green, blue]: Rgb) -> f32 {
    0.299 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue)
}

fn pixels(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
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
            let far = [
                object(0.0, 0.0, 5000.0),
                object(-50.0, 1e9, 10.0),
                object(0.0, 0.0, 0.0),
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

    #[test]
    fn neighbouring_classes_have_colours_of_their_own() {
        let apart = |a: Rgb, b: Rgb| {
            a.iter()
                .zip(b)
                .map(|(&a, b)| a.abs_diff(b) as u32)
                .sum::<u32>()
        };
        for class in 0..20 {
            for other in class + 1..20 {
                assert!(apart(color(class), color(other)) > 10, "{class} {other}");
            }
            assert!(apart(color(class), color(class + 1)) > 150, "{class}");
        }
    }
}
