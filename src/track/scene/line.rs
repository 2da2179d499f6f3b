//! Whether a track has crossed a line: its feet come in look by look, and a direction goes out once for each real crossing.
//!
//! A foot is on a side of a line only when it is further away from it than boxes wobble; nearer, it stands on the line. A crossing
//! is a change from one side to the other on a way that cut the line between its ends. So nothing that happens on the line counts,
//! however long it goes on, and who goes round an end of the line has not crossed it.

use std::sync::Arc;
use std::time::Duration;

use super::hold::{HOLD, Hold};
use crate::config::{GridPoint, LineConfig, Point};
use crate::track::RelativeBox;

/// A foot that is further from a line than this part of the box's height, or width where the line is upright, is on a side of it.
const WOBBLE_OF_HEIGHT: f64 = 0.125;
const WOBBLE_OF_WIDTH: f64 = 0.25;

/// So many times further, and one look is enough.
const FAR: f64 = 2.0;

/// Which way a line was crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the left of its arrow to the right.
    In,
    /// From the right of its arrow to the left.
    Out,
}

impl Direction {
    /// As events and metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// How often a line was crossed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineCounts {
    /// The line.
    pub line: Arc<str>,
    /// Crossings from the left of its arrow to the right.
    pub r#in: u64,
    /// Crossings from the right of its arrow to the left.
    pub out: u64,
}

/// A line was crossed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossing {
    /// Which way.
    pub direction: Direction,
    /// How often the line was crossed by now, this time included.
    pub counts: LineCounts,
}

/// One of the two sides of a line, as somebody has it who walks along its arrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Where a line is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LineShape {
    from: GridPoint,
    to: GridPoint,
    /// How far a place of the picture can be from it on the left and on the right, as [`GridPoint::distance`] has it.
    room: [f64; 2],
}

/// How a track stands with a line.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct LineWatch {
    /// The side on which it was last, if it was on one.
    side: Option<Side>,
    /// It was on that side at the last look, not on the line.
    is_there: bool,
    /// How often the way since then cut the line towards the right, less how often towards the left.
    net: i32,
    /// It shows on the other side.
    other: Hold,
}

/// A track at a look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) now: Duration,
    /// The time since the last look at which it was seen, and where its foot was then.
    pub(super) before: Option<(Duration, GridPoint)>,
    pub(super) foot: GridPoint,
    pub(super) bbox: RelativeBox,
}

impl LineShape {
    pub(super) fn new(line: &LineConfig) -> Self {
        let (from, to) = (line.from.on_grid(), line.to.on_grid());
        let corners = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)];
        let distances = corners.map(|(x, y)| Point { x, y }.on_grid().distance(from, to));
        let most = |sign: f64| distances.map(|d| d * sign).into_iter().fold(0.0, f64::max);
        Self {
            from,
            to,
            room: [most(-1.0), most(1.0)],
        }
    }

    /// The side on which a foot is, and whether it is far from the line there. `None` where it stands on the line.
    ///
    /// Near the edge of the picture there may be less room than boxes wobble: there half of the room has to do.
    pub(super) fn side(&self, foot: GridPoint, bbox: &RelativeBox) -> Option<(Side, bool)> {
        let along = self.to.minus(self.from);
        let wobble = along[0].abs() * f64::from(bbox.height()) * WOBBLE_OF_HEIGHT
            + along[1].abs() * f64::from(bbox.width()) * WOBBLE_OF_WIDTH;
        let distance = foot.distance(self.from, self.to);
        let (side, room) = match distance < 0.0 {
            true => (Side::Left, self.room[0]),
            false => (Side::Right, self.room[1]),
        };
        let least = wobble.min(room / 2.0);
        (distance.abs() > least).then_some((side, distance.abs() > least * FAR))
    }

    /// The side to which a straight way leads that cuts the line between its ends. Where one line ends and the next begins, a way through
    /// that very point cuts one of them.
    fn cut(&self, before: GridPoint, foot: GridPoint) -> Option<Side> {
        let is_right = |place: GridPoint| place.side(self.from, self.to).is_ge();
        let (was, is) = (is_right(before), is_right(foot));
        let ends = [self.from, self.to].map(|end| end.side(before, foot).is_ge());
        (was != is && ends[0] != ends[1]).then_some(if is { Side::Right } else { Side::Left })
    }

    /// Where a place is along the line: 0 where the arrow begins and 1 where it ends.
    pub(super) fn part(&self, place: GridPoint) -> f64 {
        let (along, to_place) = (self.to.minus(self.from), place.minus(self.from));
        let length = along[0] * along[0] + along[1] * along[1];
        (along[0] * to_place[0] + along[1] * to_place[1]) / length.max(f64::MIN_POSITIVE)
    }
}

impl LineWatch {
    /// True while it shows on the other side, but not for long enough.
    pub(super) fn is_pending(&self) -> bool {
        self.other.is_pending()
    }

    /// Takes in where the track is now. A direction is a crossing.
    pub(super) fn look(&mut self, shape: &LineShape, step: &Step) -> Option<Direction> {
        if let Some((_, before)) = step.before {
            self.net += match shape.cut(before, step.foot) {
                Some(Side::Right) => 1,
                Some(Side::Left) => -1,
                None => 0,
            };
        }
        let was_there = std::mem::replace(&mut self.is_there, false);
        let Some((side, is_far)) = shape.side(step.foot, &step.bbox) else {
            self.other.ends();
            return None;
        };
        if self.side.is_some_and(|before| before != side) {
            // From side to side within one long step is no wobble either.
            let has_jumped = was_there && step.before.is_some_and(|(time, _)| time >= HOLD);
            if !(self.other.shows(step.now) || is_far || has_jumped) {
                return None;
            }
        }
        let before = self.side.replace(side);
        let net = std::mem::take(&mut self.net);
        self.is_there = true;
        self.other.ends();
        match (before, side) {
            (Some(Side::Left), Side::Right) if net > 0 => Some(Direction::In),
            (Some(Side::Right), Side::Left) if net < 0 => Some(Direction::Out),
            _ => None,
        }
    }
}
