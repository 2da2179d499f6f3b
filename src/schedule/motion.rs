//! The motion gate: whether a picture differs from the one that was inferred last, so that one that shows nothing new is not
//! inferred. The luma plane of a decoded picture comes in with the time, and [`Verdict`] goes out; an inference worker asks before
//! it runs the model, with one [`MotionGate`] for each camera stream.
//!
//! `grid` makes the picture 1/16 as wide and high, `light` finds the change of exposure between two such pictures, and what is
//! left of their difference is judged here. How much of it is noise is learnt for each cell, and taken from the picture itself.

mod grid;
mod light;

use std::time::{Duration, Instant};

use self::grid::Grid;
use self::light::Light;
use crate::config::{MotionConfig, TrackConfig};
use twinsight_media::picture::I420;

/// A cell whose luma differs by less than this has not changed, however quiet the camera is. Cells are means of many pixels, and
/// what H.264 makes of a still scene moves them by 1 or 2.
const FLOOR: f32 = 3.0;

/// A cell has changed if it differs by so many times its noise.
const SIGMAS: f32 = 4.5;

/// Noise counts up to this. Beyond it the gate would be blind where something moves all the time, such as a tree.
const MAX_NOISE: f32 = 1.6;

/// As [`MAX_NOISE`], for the noise of the picture as a whole: a keyframe of a poor stream changes all of it a little.
const MAX_PICTURE_NOISE: f32 = 2.2;

/// The noise of the picture is that of its median cell, and others have more.
const OF_PICTURE: f32 = 1.4;

/// A single cell must differ by so much more than one with neighbours that differ too.
const ALONE: f32 = 1.6;

/// Of what a change of exposure does to a cell, this part may remain: cameras have curves, and this is a straight line.
const OF_EXPOSURE: f32 = 0.2;

/// The variance of a cell's noise before any was seen.
const FIRST_NOISE: f32 = 0.25;

/// From this excess on, a cell is taken for one in which something moves.
const CLEARLY: f32 = 2.0;

/// A larger step from one picture to the next counts as this much noise.
const MAX_STEP: f32 = 8.0;

/// If half of the cells differ by more than this after the exposure was taken out, it is another picture.
const OTHER_PICTURE: f32 = 3.7;

/// The noise of a cell follows what is seen of it in this time.
const LEARN_OVER: Duration = Duration::from_secs(10);

/// Cells that differ clearly are taken for what moves, and teach noise so much more slowly.
const OF_MOTION: f32 = 0.25;

/// How a camera's pictures are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MotionRules {
    /// At the latest this long after a picture was inferred another one is, even if nothing changes.
    pub max_skip: Duration,
    /// While tracks wait for a decision, pictures are inferred for this long after the last change.
    pub after_change: Duration,
    /// As `after_change`, after a picture that was inferred because of `max_skip`.
    pub after_pause: Duration,
}

impl MotionRules {
    /// Those of a camera. Tracks get the looks that they need to be confirmed, and after a change those in which they may be found
    /// again.
    pub fn new(motion: MotionConfig, track: TrackConfig) -> Self {
        let (after_change, after_pause) = match track.enabled {
            true => (track.lost + track.confirm, track.confirm),
            false => (Duration::ZERO, Duration::ZERO),
        };
        Self {
            max_skip: motion.max_skip,
            after_change,
            after_pause,
        }
    }
}

/// Whether a picture is to be inferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is, and this is why. Whoever does it says so by [`MotionGate::inferred`].
    Look(Reason),
    /// It shows what was inferred last.
    Unchanged,
}

/// Why a picture is inferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is nothing to compare it with: it is the first one, its size is new, or the last one gave no result.
    First,
    /// It differs.
    Changed,
    /// The last one that was inferred is too long ago.
    Due,
    /// Tracks wait for a decision.
    Unsettled,
}

/// Judges the pictures of one camera stream.
#[derive(Debug, Default)]
pub struct MotionGate {
    /// The picture that is judged.
    now: Grid,
    /// The one that was inferred last.
    inferred: Grid,
    /// The variance of each cell's noise, in squares of luma.
    noise: Vec<f32>,
    /// By how much each cell differs from what is expected of it.
    left: Vec<f32>,
    /// How much more than its noise each cell differs: it has changed from 1 on.
    excess: Vec<f32>,
    /// When the last picture was judged.
    judged_at: Option<Instant>,
    /// When the picture of `inferred` was judged. `None` makes the next picture be inferred.
    inferred_at: Option<Instant>,
    /// The last verdict was to look, and nobody has said yet that it was done.
    pending: Option<Instant>,
    /// Until when pictures are inferred while tracks wait for a decision.
    hold_until: Option<Instant>,
}

impl MotionGate {
    /// Judges a picture. `is_settled` says that no track waits for a decision.
    pub fn judge(
        &mut self,
        now: Instant,
        picture: &I420<'_>,
        rules: MotionRules,
        is_settled: bool,
    ) -> Verdict {
        if self.pending.take().is_some() {
            // The last look gave no result, so that it is not known what this picture shows.
            self.inferred_at = None;
        }
        self.now.measure(picture);
        let is_comparable = self.now.is_like(&self.inferred);
        let changed = is_comparable && self.differs(now);
        let before = self.judged_at.replace(now);
        let inferred_at = self.inferred_at.filter(|_| is_comparable);
        let passed = |since: Instant| now.saturating_duration_since(since);
        let reason = match inferred_at {
            None => Reason::First,
            Some(_) if changed => Reason::Changed,
            Some(at) if passed(at) >= rules.max_skip => Reason::Due,
            Some(_) if !is_settled && self.is_held(now, before) => Reason::Unsettled,
            Some(_) => return Verdict::Unchanged,
        };
        let hold = match reason {
            Reason::First | Reason::Changed => Some(rules.after_change),
            Reason::Due => Some(rules.after_pause),
            Reason::Unsettled => None,
        };
        if let Some(hold) = hold {
            self.hold_until = self.hold_until.max(now.checked_add(hold));
        }
        self.pending = Some(now);
        Verdict::Look(reason)
    }

    /// True while tracks that wait for a decision get looks. The last one comes at the end of that time or after it, since the time of a
    /// decision may be over only then.
    fn is_held(&self, now: Instant, before: Option<Instant>) -> bool {
        let Some(until) = self.hold_until else {
            return false;
        };
        now <= until || before.is_some_and(|before| before <= until)
    }

    /// Takes in that the picture of the last verdict was inferred.
    pub fn inferred(&mut self) {
        let Some(at) = self.pending.take() else {
            return;
        };
        self.inferred_at = Some(at);
        if !self.now.is_like(&self.inferred) {
            // A camera is taken for a quiet one until it shows that it is not.
            let cells = self.now.cells().len();
            for (of_cells, first) in [
                (&mut self.noise, FIRST_NOISE),
                (&mut self.left, 0.0),
                (&mut self.excess, 0.0),
            ] {
                of_cells.clear();
                of_cells.resize(cells, first);
            }
        }
        self.inferred.copy(&self.now);
        self.left.fill(0.0);
    }

    /// Makes the next picture be inferred, because the last result does not hold for it: the camera's settings have changed. What
    /// was learnt of noise stays.
    pub fn renew(&mut self) {
        self.pending = None;
        self.inferred_at = None;
    }

    /// True if the picture differs from the one that was inferred last. It learns what of that is noise.
    fn differs(&mut self, now: Instant) -> bool {
        let light = Light::between(self.inferred.cells(), self.now.cells());
        let of_picture = FLOOR.max(SIGMAS * (OF_PICTURE * light.noise).min(MAX_PICTURE_NOISE));
        let passed = self
            .judged_at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let share = (passed.as_secs_f32() / LEARN_OVER.as_secs_f32()).min(0.1);
        let cells = self.now.cells().iter().zip(self.inferred.cells());
        let learnt = self.noise.iter_mut().zip(&mut self.left);
        for (((cell, inferred), (noise, left)), excess) in cells.zip(learnt).zip(&mut self.excess) {
            let expected = light.of(*inferred);
            let differs_by = cell - expected;
            let deviation = noise.sqrt();
            let limit =
                of_picture.max(SIGMAS * deviation) + OF_EXPOSURE * (expected - inferred).abs();
            *excess = differs_by.abs() / limit;
            // The difference of two pictures has the noise of both.
            let step = (differs_by - *left).abs() * std::f32::consts::FRAC_1_SQRT_2;
            let (most, share) = match *excess > CLEARLY {
                true => (3.0 * deviation + 1.0, share * OF_MOTION),
                false => (MAX_STEP, share),
            };
            let step = step.min(most);
            *noise = (*noise + share * (step * step - *noise)).min(MAX_NOISE * MAX_NOISE);
            *left = differs_by;
        }
        light.is_new() || light.noise > OTHER_PICTURE || self.has_changed_cells()
    }

    /// True if two cells that touch have changed, or one has for certain.
    fn has_changed_cells(&self) -> bool {
        let width = self.now.width();
        let rows = self.excess.chunks_exact(width);
        let mut above: Option<&[f32]> = None;
        for row in rows {
            // Rows without any change are by far the most.
            if row.iter().any(|excess| *excess > 1.0) {
                for (x, _) in row.iter().enumerate().filter(|(_, excess)| **excess > 1.0) {
                    let near = x.saturating_sub(1)..(x + 2).min(width);
                    let touches = above.is_some_and(|above| above[near].iter().any(|e| *e > 1.0))
                        || row.get(x + 1).is_some_and(|e| *e > 1.0);
                    if touches || row[x] > ALONE {
                        return true;
                    }
                }
            }
            above = Some(row);
        }
        false
    }
}

#[cfg(test)]
#[path = "motion_tests.rs"]
mod tests;
