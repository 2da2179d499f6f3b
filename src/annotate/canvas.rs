//! The picture that is drawn on: rectangles in whole pixels come in, and bytes change. What lies outside of the picture is left out.

use super::color::{INK, Rgb};
use crate::detect::BBox;
use twinsight_media::picture::PictureSize;

/// A rectangle in whole pixels; `right` and `bottom` lie just outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) left: i32,
    pub(super) top: i32,
    pub(super) right: i32,
    pub(super) bottom: i32,
}

pub(super) struct Canvas<'a> {
    pub(super) rgb: &'a mut [u8],
    pub(super) size: PictureSize,
}

impl Area {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "boxes lie inside the picture, whose sides are far below 2^31"
    )]
    pub(super) fn of(bbox: &BBox) -> Self {
        Self {
            left: bbox.x.round() as i32,
            top: bbox.y.round() as i32,
            right: (bbox.x + bbox.width).round() as i32,
            bottom: (bbox.y + bbox.height).round() as i32,
        }
    }

    pub(super) fn grown(self, by: i32) -> Self {
        Self {
            left: self.left - by,
            top: self.top - by,
            right: self.right + by,
            bottom: self.bottom + by,
        }
    }

    pub(super) fn meets(self, other: Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }
}

impl Canvas<'_> {
    pub(super) fn fill(&mut self, area: Area, color: Rgb) {
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
    pub(super) fn frame(&mut self, area: Area, line: i32, color: Rgb) {
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
}

/// A side of a picture or a length of a text in pixels.
pub(super) fn pixels(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}
