//! Which observation is of which track. Expected boxes and observations come in, and pairs go out: gates say which pairs are
//! possible at all, and `assign` chooses among these.

use super::assign::{Assignment, Edge};
use super::geometry::{LooseBox, Sweep};
use super::life::{AT_EDGE, Life};
use crate::track::Observation;

/// Boxes are made wider and higher by this part before they are compared, since a thing may have moved by more than its width.
const WIDENED: f32 = 1.0;
/// The heights of a thing in two looks differ by at most this factor, unless the edge of the picture cuts it.
const MOST_GROWTH: f32 = 1.6;
/// What heights cost that differ, for the logarithm of the factor.
const GROWTH: f32 = 0.2;
/// No thing is further than this from where it is expected: a sum of squares of four numbers of standard deviations.
const MOST_DISTANCE: f32 = 25.0;
/// What a label costs that the track never had.
const OTHER_LABEL: f32 = 0.3;
/// And only a box that is nearly where it is expected can be the same thing under another name: widened boxes share this much.
const OTHER_LABEL_GATE: f32 = 0.5;
/// So many of the best tracks are considered for an observation.
const MOST_EDGES: usize = 16;

/// By what a track is known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// By where it is expected.
    Expectation,
    /// By where it was seen at the last look, for those who did what nobody expected.
    LastSighting,
}

/// Matches observations with tracks, in memory that it keeps from look to look.
#[derive(Debug, Default)]
pub(super) struct Association {
    sweep: Sweep,
    /// The widened box of each track.
    widened: Vec<LooseBox>,
    edges: Vec<Edge>,
    assignment: Assignment,
    pairs: Vec<(usize, usize)>,
}

impl Association {
    /// Matches the observations of these numbers with the tracks that are free, and gives the numbers of each pair: observation
    /// and track. Pairs whose widened boxes share less than `gate` are not possible.
    pub(super) fn run(
        &mut self,
        observations: &[Observation],
        wanted: &[usize],
        lives: &[Life],
        is_free: impl Fn(usize) -> bool,
        gate: f32,
        by: By,
    ) -> &[(usize, usize)] {
        self.pairs.clear();
        self.widened.clear();
        let places = lives.iter().map(|life| place(life, by));
        self.widened
            .extend(places.map(|place| place.widened(WIDENED)));
        let free = self.widened.iter().copied().enumerate();
        self.sweep.fill(free.filter(|(track, _)| is_free(*track)));
        self.assignment.begin(lives.len());
        for &number in wanted {
            let observation = &observations[number];
            let seen = LooseBox::from(observation.bbox);
            self.edges.clear();
            let widened = seen.widened(WIDENED);
            for track in self.sweep.near(&widened) {
                let alike = self.widened[track].iou(&widened);
                if alike >= gate
                    && let Some(cost) = cost(&lives[track], observation, alike, by)
                {
                    self.edges.push(Edge {
                        column: track,
                        cost,
                    });
                }
            }
            if self.edges.len() > MOST_EDGES {
                let by_cost = |a: &Edge, b: &Edge| a.cost.total_cmp(&b.cost);
                self.edges.select_nth_unstable_by(MOST_EDGES, by_cost);
                self.edges.truncate(MOST_EDGES);
            }
            self.assignment.row(&self.edges);
        }
        let matches = wanted.iter().zip(self.assignment.solve());
        let matched = matches.filter_map(|(&number, track)| track.map(|track| (number, track)));
        self.pairs.extend(matched);
        &self.pairs
    }
}

fn place(life: &Life, by: By) -> LooseBox {
    match by {
        By::Expectation => life.expected(),
        By::LastSighting => life.seen_box(),
    }
}

/// What it costs to take an observation for this track, with which it has this much in common. `None` if it cannot be.
fn cost(life: &Life, observation: &Observation, alike: f32, by: By) -> Option<f32> {
    let seen = LooseBox::from(observation.bbox);
    let expected = place(life, by);
    let growth = (seen.height() / expected.height()).ln().abs();
    // What comes in over the edge of the picture, or goes out, grows and shrinks as nothing else does.
    let is_cut = is_at_edge(&seen) || is_at_edge(&expected);
    let is_far = by == By::Expectation && life.distance(&seen) > MOST_DISTANCE;
    if !is_cut && (is_far || growth > MOST_GROWTH.ln()) {
        return None;
    }
    let cost = 1.0 - alike + GROWTH * growth.min(1.0);
    if life.votes().knows(observation.label) {
        Some(cost)
    } else {
        (alike >= OTHER_LABEL_GATE).then_some(cost + OTHER_LABEL)
    }
}

fn is_at_edge(bbox: &LooseBox) -> bool {
    bbox.x1.min(bbox.y1) < AT_EDGE || bbox.x2.max(bbox.y2) > 1.0 - AT_EDGE
}
