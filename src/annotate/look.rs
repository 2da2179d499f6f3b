//! How large lines and letters are, and where a label goes: a picture's size and the labels that are there come in, a place goes
//! out, and text is drawn on it.

use std::convert::Infallible;

use embedded_graphics::Drawable;
use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle, ascii};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::text::{Baseline, Text};

use super::canvas::{Area, Canvas, pixels};
use super::color::{INK, PAPER, Rgb, luminance};
use twinsight_media::picture::PictureSize;

/// How large lines and letters are on a picture.
pub(super) struct Look {
    font: MonoFont<'static>,
    /// The side of the square that stands for a pixel of the font.
    zoom: i32,
    /// The thickness of a box's line in pixels.
    pub(super) line: i32,
}

impl Look {
    pub(super) fn of(size: PictureSize) -> Self {
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

    /// The thickness of lines that are not horizontal or vertical, in pixels.
    pub(super) fn stroke_px(&self) -> f32 {
        f32::from(u8::try_from(self.line).unwrap_or(u8::MAX)).max(1.5)
    }

    fn margin(&self) -> i32 {
        2 * self.zoom
    }

    /// Finds where a label goes: the first place at its box that lies inside the picture and covers no other label.
    pub(super) fn place(&self, text: &str, area: Area, size: PictureSize, taken: &[Area]) -> Area {
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
    pub(super) fn label(&mut self, look: &Look, plate: Area, text: &str, color: Rgb) {
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
