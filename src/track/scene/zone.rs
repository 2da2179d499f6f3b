//! Whether a track is in a zone: its feet come in look by look, and what goes out is whether it is in it and for how long.

use std::time::Duration;

use crate::config::{Point, Polygon};
use crate::track::RelativeBox;

/// An excursion over the edge that is shorter is none: it neither leaves a zone nor enters it again.
pub(super) const EXCURSION: Duration = Duration::from_millis(500);
/// One that goes no further from the edge than boxes wobble may last so long.
pub(super) const AT_THE_EDGE: Duration = Duration::from_secs(3);

/// Boxes wobble by such parts of their width and height.
const WOBBLE: [f64; 2] = [0.25, 0.125];

/// Where a foot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    /// In the region.
    Inside,
    /// Out of it, but nearer than boxes wobble.
    AtTheEdge,
    /// Out of it.
    Outside,
}

impl Where {
    pub(super) fn of(polygon: &Polygon, bbox: &RelativeBox) -> Self {
        let foot = bbox.bottom_center();
        if polygon.contains(foot) {
            return Self::Inside;
        }
        let [x, y] = [
            f64::from(bbox.width()) * WOBBLE[0],
            f64::from(bbox.height()) * WOBBLE[1],
        ];
        let around = [(-x, 0.0), (x, 0.0), (0.0, -y), (0.0, y)].map(|(x, y)| Point {
            x: foot.x + x,
            y: foot.y + y,
        });
        match around.into_iter().any(|place| polygon.contains(place)) {
            true => Self::AtTheEdge,
            false => Self::Outside,
        }
    }
}

/// How a track stands with a zone.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) enum Standing {
    /// It never was in the region.
    #[default]
    Never,
    /// It was in the zone, and left it.
    Left {
        /// How long it was in it in all.
        total: Duration,
    },
    /// It is in the region, but not for long enough to be in the zone.
    Arrives(Stay),
    /// It is in the zone.
    In(Stay),
}

/// A stay in the region.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stay {
    /// How long it was in the zone before, if it was.
    earlier: Option<Duration>,
    /// How long it is in the region, excursions that are over included.
    dwell: Duration,
    /// The excursion that it is on: how long it lasts.
    excursion: Option<Duration>,
}

impl Standing {
    /// Takes in where the foot is now. `passed` is the time since the last look, as far as it counts; it went by where the foot was then.
    pub(super) fn look(&mut self, foot: Where, passed: Duration, min_dwell: Duration) {
        let is_inside = foot == Where::Inside;
        *self = match *self {
            Self::Never if is_inside => Self::arrives(None, min_dwell),
            Self::Left { total } if is_inside => Self::arrives(Some(total), min_dwell),
            Self::Never | Self::Left { .. } => *self,
            Self::Arrives(stay) => match stay.look(foot, passed) {
                // It was never in the zone this time, so the time does not count.
                Err(_) => stay
                    .earlier
                    .map_or(Self::Never, |total| Self::Left { total }),
                Ok(stay) if is_inside => stay.judge(min_dwell),
                Ok(stay) => Self::Arrives(stay),
            },
            Self::In(stay) => match stay.look(foot, passed) {
                Err(total) => Self::Left { total },
                Ok(stay) => Self::In(stay),
            },
        };
    }

    fn arrives(earlier: Option<Duration>, min_dwell: Duration) -> Self {
        let stay = Stay {
            earlier,
            dwell: Duration::ZERO,
            excursion: None,
        };
        stay.judge(min_dwell)
    }

    pub(super) fn is_in(&self) -> bool {
        matches!(self, Self::In(_))
    }

    /// How long it was in the zone in all. `None` if it never was.
    pub(super) fn total(&self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::Arrives(stay) => stay.earlier,
            Self::Left { total } => Some(*total),
            Self::In(stay) => Some(stay.total()),
        }
    }
}

impl Stay {
    /// In the zone or not yet. Who was in it before enters again only by more than an excursion.
    fn judge(self, min_dwell: Duration) -> Standing {
        let least = match self.earlier {
            None => min_dwell,
            Some(_) => min_dwell.max(EXCURSION),
        };
        match self.dwell >= least {
            true => Standing::In(self),
            false => Standing::Arrives(self),
        }
    }

    fn total(&self) -> Duration {
        self.earlier.unwrap_or_default() + self.dwell
    }

    /// It goes on, or it is over with the time in the zone in all. The time until the first look outside counts as inside, as the time
    /// from the first look inside does, so that a stay is neither longer nor shorter by looking rarely.
    fn look(mut self, foot: Where, passed: Duration) -> Result<Self, Duration> {
        let longest = match foot {
            Where::Inside => {
                self.dwell += self.excursion.take().unwrap_or_default() + passed;
                return Ok(self);
            }
            Where::AtTheEdge => AT_THE_EDGE,
            Where::Outside => EXCURSION,
        };
        let Some(excursion) = &mut self.excursion else {
            self.dwell += passed;
            self.excursion = Some(Duration::ZERO);
            return Ok(self);
        };
        *excursion += passed;
        match *excursion >= longest {
            true => Err(self.total()),
            false => Ok(self),
        }
    }
}
