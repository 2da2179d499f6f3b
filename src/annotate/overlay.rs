//! Draws what a camera's stage makes of a picture: zones, lines, masks, tracks and candidates come in as shapes in pixels of the
//! picture, and the bytes change. `twinsight replay` runs it.

use super::canvas::{Area, Canvas, pixels};
use super::color::{INK, PAPER, Rgb, color};
use super::look::Look;
use super::strokes::Spot;
use crate::detect::BBox;
use twinsight_media::picture::PictureSize;

/// How much of its colour is mixed into a region, so that what is in it stays visible.
const REGION_TINT: f32 = 0.14;

/// Masks are darkened instead.
const MASK_TINT: f32 = 0.45;

/// Share of the colour in the line of a faint box.
const FAINT: f32 = 0.5;

/// What is drawn on a picture.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    pub(crate) regions: Vec<Region>,
    pub(crate) arrows: Vec<Arrow>,
    pub(crate) boxes: Vec<OverlayBox>,
    /// Lines of text in the lower left corner.
    pub(crate) caption: Vec<String>,
}

/// A region of the picture, such as a zone, with how it is drawn.
#[derive(Debug, Clone)]
pub(crate) struct Region {
    pub(crate) corners: Vec<Spot>,
    pub(crate) kind: RegionKind,
}

#[derive(Debug, Clone)]
pub(crate) enum RegionKind {
    /// A zone with its name, in the colour of this number.
    Zone { text: String, color: usize },
    /// A region in which nothing is detected.
    Mask,
}

/// A line with a direction.
#[derive(Debug, Clone)]
pub(crate) struct Arrow {
    pub(crate) from: Spot,
    pub(crate) to: Spot,
    pub(crate) text: String,
}

/// A box, with what is written at it.
#[derive(Debug, Clone)]
pub(crate) struct OverlayBox {
    pub(crate) bbox: BBox,
    /// The number of its colour.
    pub(crate) color: usize,
    pub(crate) stroke: Stroke,
    pub(crate) text: Option<String>,
}

/// How sure the lines of a box look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stroke {
    /// A hairline that lets the picture through.
    Faint,
    /// A thin line with gaps.
    Dashed,
    /// The line of a detection.
    Solid,
}

/// Draws regions, then lines, then boxes from the faintest to the surest, and all text above them.
///
/// # Panics
/// If `rgb` is not `3 * width * height` bytes, which is a bug of the caller.
pub(crate) fn draw_overlay(rgb: &mut [u8], size: PictureSize, overlay: &Overlay) {
    assert_eq!(
        rgb.len(),
        3 * size.width_px * size.height_px,
        "a picture's bytes are its pixels"
    );
    let mut canvas = Canvas { rgb, size };
    let look = Look::of(size);
    for region in &overlay.regions {
        canvas.region(&look, region);
    }
    for arrow in &overlay.arrows {
        canvas.arrow(&look, arrow);
    }
    let mut boxes: Vec<&OverlayBox> = overlay.boxes.iter().collect();
    boxes.sort_by_key(|shape| shape.stroke);
    for shape in &boxes {
        let area = Area::of(&shape.bbox);
        let color = color(shape.color);
        match shape.stroke {
            Stroke::Faint => canvas.faint(area, color),
            Stroke::Dashed => canvas.dashed(area, look.line, color),
            Stroke::Solid => canvas.frame(area, look.line, color),
        }
    }
    // The caption and the surest boxes choose their places first.
    let mut taken = canvas.caption(&look, &overlay.caption);
    for shape in boxes.iter().rev() {
        if let Some(text) = &shape.text {
            let plate = look.place(text, Area::of(&shape.bbox), size, &taken);
            taken.push(plate);
            canvas.label(&look, plate, text, color(shape.color));
        }
    }
    for region in &overlay.regions {
        if let RegionKind::Zone { text, color: n } = &region.kind {
            // Inside of its upper edge, where feet are seldom.
            let at = highest(&region.corners);
            canvas.text_at(&look, text, at, color(*n), &mut taken);
        }
    }
    for arrow in &overlay.arrows {
        canvas.text_at(&look, &arrow.text, Some(arrow.from), PAPER, &mut taken);
    }
}

/// The corner that is highest in the picture.
fn highest(corners: &[Spot]) -> Option<Spot> {
    let corners = corners.iter().copied();
    corners.min_by(|a, b| a[1].total_cmp(&b[1]).then(a[0].total_cmp(&b[0])))
}

impl Canvas<'_> {
    fn region(&mut self, look: &Look, region: &Region) {
        if !region.corners.iter().flatten().all(|at| at.is_finite()) {
            return;
        }
        let (color, share) = match &region.kind {
            RegionKind::Zone { color: n, .. } => (color(*n), REGION_TINT),
            RegionKind::Mask => (INK, MASK_TINT),
        };
        self.tint(&region.corners, color, share);
        let next = region.corners.iter().cycle().skip(1);
        let sides: Vec<[Spot; 2]> = region
            .corners
            .iter()
            .zip(next)
            .map(|(&a, &b)| [a, b])
            .collect();
        self.lines(&sides, look.stroke_px() / 2.0, color);
    }

    /// Draws a line with a head at its end, and a small stroke in its middle that points to the side which is `in`.
    fn arrow(&mut self, look: &Look, arrow: &Arrow) {
        let width = look.stroke_px();
        let along = [arrow.to[0] - arrow.from[0], arrow.to[1] - arrow.from[1]];
        let length = along[0].hypot(along[1]);
        let unit = if length > 0.0 {
            along.map(|part| part / length)
        } else {
            [1.0, 0.0]
        };
        // In pixels, whose y goes down, this is to the right of the arrow.
        let right = [-unit[1], unit[0]];
        let at = |base: Spot, forward: f32, aside: f32| {
            [0, 1].map(|axis| base[axis] + forward * unit[axis] + aside * right[axis])
        };
        let head = 5.0 * width;
        let middle = at(arrow.from, length / 2.0, 0.0);
        let side = at(middle, 0.0, 2.0 * head);
        let mut lines = vec![[arrow.from, arrow.to]];
        for aside in [-0.6 * head, 0.6 * head] {
            lines.push([at(arrow.to, -head, aside), arrow.to]);
            lines.push([at(side, aside, -0.6 * head), side]);
        }
        lines.push([middle, side]);
        self.lines(&lines, width, PAPER);
    }

    /// Draws a hairline around an area without a dark rim.
    fn faint(&mut self, area: Area, color: Rgb) {
        let (width, height) = (pixels(self.size.width_px), pixels(self.size.height_px));
        let (left, right) = (area.left.max(0), area.right.min(width) - 1);
        let (top, bottom) = (area.top.max(0), area.bottom.min(height) - 1);
        let mut dot = |x: i32, y: i32| {
            let (column, row) = (usize::try_from(x), usize::try_from(y));
            if let (Ok(column), Ok(row)) = (column, row)
                && column < self.size.width_px
                && row < self.size.height_px
            {
                self.blend(column, row, color, FAINT);
            }
        };
        for x in left..=right {
            dot(x, top);
            dot(x, bottom);
        }
        for y in top..=bottom {
            dot(left, y);
            dot(right, y);
        }
    }

    /// Draws a line with gaps around an area.
    fn dashed(&mut self, area: Area, line: i32, color: Rgb) {
        let (width, height) = (pixels(self.size.width_px), pixels(self.size.height_px));
        let (left, right) = (area.left.max(0), area.right.min(width));
        let (top, bottom) = (area.top.max(0), area.bottom.min(height));
        let dash = 4 * line.max(2);
        let step = usize::try_from(2 * dash).unwrap_or(16);
        let mut bar = |left: i32, top: i32, right: i32, bottom: i32| {
            let area = Area {
                left,
                top,
                right,
                bottom,
            };
            self.fill(area.grown(1), INK);
            self.fill(area, color);
        };
        for x in (left..right).step_by(step) {
            let end = (x + dash).min(right);
            bar(x, top, end, top + line);
            bar(x, bottom - line, end, bottom);
        }
        for y in (top..bottom).step_by(step) {
            let end = (y + dash).min(bottom);
            bar(left, y, left + line, end);
            bar(right - line, y, right, end);
        }
    }

    /// Writes lines of text into the lower left corner, the last one lowest, and gives the areas that they take.
    fn caption(&mut self, look: &Look, caption: &[String]) -> Vec<Area> {
        let mut taken: Vec<Area> = Vec::new();
        let mut bottom = pixels(self.size.height_px);
        for text in caption.iter().rev() {
            let corner = Area {
                left: 0,
                top: bottom,
                right: 0,
                bottom,
            };
            let plate = look.place(text, corner, self.size, &taken);
            let height = plate.bottom - plate.top;
            let plate = Area {
                top: bottom - height,
                bottom,
                ..plate
            };
            bottom -= height;
            self.label(look, plate, text, INK);
            taken.push(plate);
        }
        taken
    }

    /// Writes a text at a place, or near it if another text is there.
    fn text_at(
        &mut self,
        look: &Look,
        text: &str,
        at: Option<Spot>,
        color: Rgb,
        taken: &mut Vec<Area>,
    ) {
        let Some([x, y]) = at.filter(|at| at.iter().all(|part| part.is_finite())) else {
            return;
        };
        let spot = Area::of(&BBox {
            x,
            y,
            width: 0.0,
            height: 0.0,
        });
        let plate = look.place(text, spot, self.size, taken);
        taken.push(plate);
        self.label(look, plate, text, color);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: PictureSize = PictureSize {
        width_px: 200,
        height_px: 150,
    };

    fn drawn(overlay: &Overlay) -> impl Fn(usize, usize) -> Rgb + use<> {
        let mut rgb = vec![128; 3 * 200 * 150];
        draw_overlay(&mut rgb, SIZE, overlay);
        move |x, y| <Rgb>::try_from(&rgb[3 * (y * 200 + x)..][..3]).unwrap()
    }

    fn shape(stroke: Stroke) -> OverlayBox {
        OverlayBox {
            bbox: BBox {
                x: 60.0,
                y: 60.0,
                width: 80.0,
                height: 50.0,
            },
            color: 0,
            stroke,
            text: None,
        }
    }

    #[test]
    fn the_surer_a_box_is_the_more_of_its_line_is_seen() {
        let coloured = |stroke| {
            let at = drawn(&Overlay {
                boxes: vec![shape(stroke)],
                ..Overlay::default()
            });
            let upper_edge = (60..140).flat_map(|x| (57..64).map(move |y| (x, y)));
            upper_edge.filter(|&(x, y)| at(x, y) == color(0)).count()
        };
        assert_eq!(coloured(Stroke::Faint), 0);
        let (dashed, solid) = (coloured(Stroke::Dashed), coloured(Stroke::Solid));
        assert!(dashed > 20 && dashed < solid, "{dashed} {solid}");
    }

    #[test]
    fn zones_are_tinted_and_masks_are_dark() {
        let square = |left: f32| {
            vec![
                [left, 20.0],
                [left + 60.0, 20.0],
                [left + 60.0, 120.0],
                [left, 120.0],
            ]
        };
        let zone = RegionKind::Zone {
            text: "yard".to_owned(),
            color: 0,
        };
        let at = drawn(&Overlay {
            regions: vec![
                Region {
                    corners: square(20.0),
                    kind: zone,
                },
                Region {
                    corners: square(120.0),
                    kind: RegionKind::Mask,
                },
            ],
            ..Overlay::default()
        });
        assert!(at(50, 80)[1] > 135, "{:?}", at(50, 80));
        assert!(at(150, 80)[1] < 100, "{:?}", at(150, 80));
        assert_eq!(at(100, 80), [128; 3]);
    }

    #[test]
    fn the_stroke_of_a_line_points_to_its_right() {
        let at = drawn(&Overlay {
            arrows: vec![Arrow {
                from: [40.5, 60.5],
                to: [160.5, 60.5],
                text: String::new(),
            }],
            ..Overlay::default()
        });
        assert_eq!(at(80, 60), PAPER);
        // Who looks along it to the right of the picture has the lower part at the right hand.
        assert_eq!((at(100, 68), at(100, 52)), (PAPER, [128; 3]));
    }

    #[test]
    fn anything_anywhere_is_drawn_inside_the_picture() {
        for (width_px, height_px) in [(1, 1), (3, 200), (640, 480)] {
            let size = PictureSize {
                width_px,
                height_px,
            };
            let mut rgb = vec![0; 3 * width_px * height_px];
            let spots = vec![[f32::NAN, 1.0], [-1e9, 1e9], [2.0, f32::INFINITY]];
            let finite = vec![[-1e9, -1e9], [1e9, -3.0], [0.5, 1e30]];
            let of = |corners: &Vec<Spot>| Region {
                corners: corners.clone(),
                kind: RegionKind::Mask,
            };
            let boxes = [Stroke::Faint, Stroke::Dashed, Stroke::Solid].map(|stroke| OverlayBox {
                bbox: BBox {
                    x: -50.0,
                    y: -1e9,
                    width: 5000.0,
                    height: 2e9,
                },
                text: Some("person 7".to_owned()),
                ..shape(stroke)
            });
            let overlay = Overlay {
                regions: vec![of(&spots), of(&finite), of(&Vec::new())],
                arrows: vec![
                    Arrow {
                        from: [f32::NAN, 0.0],
                        to: [1.0, 1.0],
                        text: "gate".to_owned(),
                    },
                    Arrow {
                        from: [5.0, 5.0],
                        to: [5.0, 5.0],
                        text: "gate".to_owned(),
                    },
                ],
                boxes: boxes.into(),
                caption: vec!["0:01.2".to_owned(); 30],
            };
            draw_overlay(&mut rgb, size, &overlay);
        }
    }
}
