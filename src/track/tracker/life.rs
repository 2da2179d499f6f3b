//! What is remembered of a track beside what others may know: its filter, the labels that it was given, and how it was seen last.
//! Sightings and looks come in, and where it is expected goes out.

use std::time::Duration;

use super::geometry::LooseBox;
use super::kalman::{BoxFilter, Sighting};
use super::votes::Votes;
use crate::track::{Observation, RelativeBox};

/// Steps of the walk from the last sighting before a gap to the first one after it.
const MOST_STEPS: u16 = 20;
/// A box this near to the edge of the picture, in parts of it, is at the edge.
pub(super) const AT_EDGE: f32 = 0.01;
/// Nothing leaves that moves less than this part of its size in a second.
const LEAVING_SPEED: f32 = 0.1;

/// The inner life of a track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Life {
    filter: BoxFilter,
    /// The filter as it was after the last sighting, and where that was.
    seen_filter: BoxFilter,
    seen: Sighting,
    seen_box: RelativeBox,
    votes: Votes,
    /// Time that was looked at since the last sighting.
    unseen: Duration,
    /// Of this the part up to the first look that missed it.
    first_gap: Duration,
    /// Looks since the last sighting, this one included.
    looks: u16,
}

impl Life {
    pub(super) fn new(observation: &Observation) -> Self {
        let seen = Sighting::from(LooseBox::from(observation.bbox));
        let filter = BoxFilter::new(&seen);
        Self {
            filter,
            seen_filter: filter,
            seen,
            seen_box: observation.bbox,
            votes: Votes::new(observation.label, observation.score),
            unseen: Duration::ZERO,
            first_gap: Duration::ZERO,
            looks: 0,
        }
    }

    /// A look begins, this much looked-at time after the last one.
    pub(super) fn pass(&mut self, step: Duration) {
        self.filter.predict(step.as_secs_f32());
        self.unseen = self.unseen.saturating_add(step);
        if self.looks == 0 {
            self.first_gap = step;
        }
        self.looks = self.looks.saturating_add(1);
    }

    /// It is seen at this look. The error of that is `doubt` times the usual one.
    pub(super) fn see(&mut self, observation: &Observation, doubt: f32) {
        let seen = Sighting::from(LooseBox::from(observation.bbox));
        if self.looks > 1 {
            self.walk_again(&seen, doubt);
        } else {
            self.filter.update(&seen, doubt);
        }
        let seconds = self.unseen.as_secs_f32().min(1.0);
        self.votes
            .add(observation.label, seconds, observation.score);
        (self.seen, self.seen_box, self.seen_filter) = (seen, observation.bbox, self.filter);
        (self.unseen, self.first_gap, self.looks) = (Duration::ZERO, Duration::ZERO, 0);
    }

    /// The re-update of OC-SORT (Cao et al. 2023): what the filter made up while nothing was seen is thrown away, and it walks
    /// straight from the last sighting to this one instead.
    fn walk_again(&mut self, seen: &Sighting, doubt: f32) {
        let steps = self.looks.min(MOST_STEPS);
        let step = self.unseen.as_secs_f32() / f32::from(steps);
        self.filter = self.seen_filter;
        for n in 1..=steps {
            let part = f32::from(n) / f32::from(steps);
            self.filter.predict(step);
            self.filter.update(&self.seen.towards(seen, part), doubt);
        }
    }

    /// Where it is expected now.
    pub(super) fn expected(&self) -> LooseBox {
        self.filter.expected()
    }

    /// How far from what is expected this is: a sum of squares of four numbers of standard deviations.
    pub(super) fn distance(&self, bbox: &LooseBox) -> f32 {
        self.filter.distance(&Sighting::from(*bbox))
    }

    /// Where it is believed to be, now that it is seen: half way between the filter and what the detector says, which is
    /// steadier than one and nearer than the other.
    pub(super) fn believed(&self) -> LooseBox {
        let expected = Sighting::from(self.filter.expected());
        expected.towards(&self.seen, 0.5).bbox()
    }

    /// Whether it was seen at the look before this one.
    pub(super) fn was_seen(&self) -> bool {
        self.looks == 1
    }

    /// Where it was seen last.
    pub(super) fn seen_box(&self) -> LooseBox {
        self.seen_box.into()
    }

    pub(super) fn votes(&self) -> &Votes {
        &self.votes
    }

    /// How fast the middle of its lower edge moves: parts of the picture in a second.
    pub(super) fn velocity(&self) -> [f32; 2] {
        self.filter.foot_speed()
    }

    /// Time that was looked at since it was seen.
    pub(super) fn unseen(&self) -> Duration {
        self.unseen
    }

    /// Whether its last sightings moved out over the edge of the picture: it was at the edge, or would have been there at
    /// the look that missed it.
    pub(super) fn left(&self) -> bool {
        let [x, y] = self.seen_filter.speed();
        let bbox = &self.seen_box;
        let gap = self.first_gap.as_secs_f32();
        let sides = [
            (bbox.x1, -x, bbox.width()),
            (1.0 - bbox.x2, x, bbox.width()),
            (bbox.y1, -y, bbox.height()),
            (1.0 - bbox.y2, y, bbox.height()),
        ];
        sides.iter().any(|&(to_edge, outwards, size)| {
            outwards > LEAVING_SPEED * size && to_edge - outwards * gap < AT_EDGE
        })
    }
}
