//! Boxes beside each other: how much two of them share, and which of many can touch a given one at all. Plain arithmetic for
//! `doubles` and `associate`.

use crate::track::RelativeBox;

/// A box that may reach out of the picture, as predictions and widened boxes do. Its numbers are finite, and it has an area.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LooseBox {
    pub(super) x1: f32,
    pub(super) y1: f32,
    pub(super) x2: f32,
    pub(super) y2: f32,
}

impl From<RelativeBox> for LooseBox {
    fn from(bbox: RelativeBox) -> Self {
        Self {
            x1: bbox.x1,
            y1: bbox.y1,
            x2: bbox.x2,
            y2: bbox.y2,
        }
    }
}

impl LooseBox {
    pub(super) fn width(&self) -> f32 {
        self.x2 - self.x1
    }

    pub(super) fn height(&self) -> f32 {
        self.y2 - self.y1
    }

    fn area(&self) -> f32 {
        self.width() * self.height()
    }

    /// The area that both cover.
    fn shared(&self, other: &Self) -> f32 {
        let width = (self.x2.min(other.x2) - self.x1.max(other.x1)).max(0.0);
        let height = (self.y2.min(other.y2) - self.y1.max(other.y1)).max(0.0);
        width * height
    }

    /// Intersection over union.
    pub(super) fn iou(&self, other: &Self) -> f32 {
        let shared = self.shared(other);
        let union = self.area() + other.area() - shared;
        if union > 0.0 { shared / union } else { 0.0 }
    }

    /// The part of this box that lies in the other one.
    pub(super) fn part_in(&self, other: &Self) -> f32 {
        let area = self.area();
        if area > 0.0 {
            self.shared(other) / area
        } else {
            0.0
        }
    }

    /// The same box with this part of its width and height added, half on each side.
    pub(super) fn widened(&self, part: f32) -> Self {
        let (dx, dy) = (self.width() * part / 2.0, self.height() * part / 2.0);
        Self {
            x1: self.x1 - dx,
            y1: self.y1 - dy,
            x2: self.x2 + dx,
            y2: self.y2 + dy,
        }
    }
}

/// Boxes in the order of their left edges, so that a search meets those near a place and not all of them.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    lefts: Vec<(f32, usize)>,
    widest: f32,
}

impl Sweep {
    /// Takes the boxes of these numbers in place of those that it had.
    pub(super) fn fill(&mut self, boxes: impl Iterator<Item = (usize, LooseBox)>) {
        self.lefts.clear();
        self.widest = 0.0;
        for (n, bbox) in boxes {
            self.lefts.push((bbox.x1, n));
            self.widest = self.widest.max(bbox.width());
        }
        self.lefts
            .sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    }

    /// The numbers of all boxes that may share columns of the picture with this one, and few others.
    pub(super) fn near(&self, bbox: &LooseBox) -> impl Iterator<Item = usize> + '_ {
        let (from, to) = (bbox.x1 - self.widest, bbox.x2);
        let start = self.lefts.partition_point(|(left, _)| *left < from);
        let candidates = self.lefts[start..].iter();
        candidates
            .take_while(move |(left, _)| *left < to)
            .map(|(_, n)| *n)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bbox(x1: f32, y1: f32, x2: f32, y2: f32) -> LooseBox {
        LooseBox { x1, y1, x2, y2 }
    }

    #[test]
    fn what_boxes_share() {
        let (a, b) = (bbox(0.0, 0.0, 0.4, 0.4), bbox(0.2, 0.0, 0.6, 0.4));
        assert!((a.iou(&b) - 1.0 / 3.0).abs() < 1e-6);
        assert!((a.part_in(&b) - 0.5).abs() < 1e-6);
        assert!(a.iou(&bbox(0.5, 0.5, 0.6, 0.6)).abs() < 1e-6);
        let wide = a.widened(0.5);
        assert!((wide.x1 + 0.1).abs() < 1e-6 && (wide.y2 - 0.5).abs() < 1e-6);
        let nothing = bbox(0.1, 0.1, 0.1, 0.1);
        assert!(nothing.iou(&nothing) <= 0.0 && nothing.part_in(&a) <= 0.0);
    }

    proptest! {
        #[test]
        fn a_sweep_finds_all_that_overlap(
            boxes in proptest::collection::vec((-0.2_f32..1.2, 0.0_f32..1.0, 0.001_f32..0.6, 0.001_f32..0.6), 0..40)
        ) {
            let boxes: Vec<_> = boxes.into_iter().map(|(x, y, w, h)| bbox(x, y, x + w, y + h)).collect();
            let mut sweep = Sweep::default();
            sweep.fill(boxes.iter().copied().enumerate());
            for one in &boxes {
                let near: Vec<_> = sweep.near(one).collect();
                for (n, other) in boxes.iter().enumerate() {
                    prop_assert!(one.iou(other) <= 0.0 || near.contains(&n));
                }
            }
        }
    }
}
