//! Whether a track has left its place: its boxes come in look by look, and what goes out is for how long it has not.
//!
//! A box wobbles, and its lower part disappears behind whoever passes. So something has left its place only when both edges of its
//! box went the same way, or when width and height grew or shrank together, as of something that comes nearer.

use std::time::Duration;

use super::hold::Hold;
use crate::track::RelativeBox;

/// Who went so many parts of the width or height of its box has left its place.
const SHIFT_OF_WIDTH: f32 = 0.33;
const SHIFT_OF_HEIGHT: f32 = 0.2;
/// Whose box is so many times as large has come nearer.
const GROWTH: f32 = 1.3;
/// So many times further, and one look is enough.
const FAR: f32 = 2.0;
/// The first box is worth so much time in the mean of all, so that the second one does not replace it.
const FIRST: Duration = Duration::from_millis(500);
/// A box that ends nearer to the picture's edge than this is cut by it.
const CUT: f32 = 0.002;

/// For how long a track has been at its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stillness {
    /// The mean of the boxes there.
    place: RelativeBox,
    still: Duration,
    away: Hold,
}

impl Stillness {
    pub(super) fn new(place: RelativeBox) -> Self {
        Self {
            place,
            still: Duration::ZERO,
            away: Hold::default(),
        }
    }

    /// Takes in where it is now. `passed` is the time since the last look, as far as it counts.
    pub(super) fn look(&mut self, now: Duration, passed: Duration, bbox: &RelativeBox) {
        let distance = distance(&self.place, bbox);
        if distance < 1.0 {
            self.away.ends();
        } else if self.away.shows(now) || distance >= FAR {
            *self = Self::new(*bbox);
            return;
        }
        self.still += passed;
        if distance < 1.0 {
            let part = passed.as_secs_f32() / (self.still + FIRST).as_secs_f32();
            let mean = |edge: f32, now: f32| edge + (now - edge) * part;
            self.place = RelativeBox {
                x1: mean(self.place.x1, bbox.x1),
                y1: mean(self.place.y1, bbox.y1),
                x2: mean(self.place.x2, bbox.x2),
                y2: mean(self.place.y2, bbox.y2),
            };
        }
    }

    /// How long it has been at its place.
    pub(super) fn still(&self) -> Duration {
        self.still
    }
}

/// How far a box is from its place: from 1 on it has left it.
fn distance(place: &RelativeBox, bbox: &RelativeBox) -> f32 {
    let across = shift([place.x1, place.x2], [bbox.x1, bbox.x2]);
    let down = shift([place.y1, place.y2], [bbox.y1, bbox.y2]);
    let growths = [bbox.width() / place.width(), bbox.height() / place.height()];
    let grown = |growth: [f32; 2]| (growth[0].min(growth[1]) - 1.0) / (GROWTH - 1.0);
    (across / (place.width() * SHIFT_OF_WIDTH))
        .max(down / (place.height() * SHIFT_OF_HEIGHT))
        .max(grown(growths))
        .max(grown(growths.map(f32::recip)))
}

/// How far two edges went the same way. An edge that is cut by the picture's tells nothing.
fn shift(was: [f32; 2], is: [f32; 2]) -> f32 {
    let [low, high] = [is[0] - was[0], is[1] - was[1]];
    let low_is_cut = was[0] < CUT && is[0] < CUT;
    let high_is_cut = was[1] > 1.0 - CUT && is[1] > 1.0 - CUT;
    match (low_is_cut, high_is_cut) {
        (true, true) => 0.0,
        (true, false) => high.abs(),
        (false, true) => low.abs(),
        (false, false) if (low < 0.0) == (high < 0.0) => low.abs().min(high.abs()),
        (false, false) => 0.0,
    }
}
