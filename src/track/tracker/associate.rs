//! Which observation is of which track. Expected boxes and observations come in, and pairs go out: gates say which pairs are
//! possible at all, and `assign` chooses among these.

use super::assign::{Assignment, Edge};
use super::geometry::{LooseBox, Sweep};
use super::life::{AT_EDGE, Life};
use crate::track::Observation;

/// Boxes are made wider and higher by this part before they are compared, since a thing may have moved by more than its width.
const WIDENED: f32 = 0.5;
/// And by this much more for each second in which it was not seen, up to a second.
const WIDENED_A_SECOND: f32 = 0.25;
/// The heights of a thing in two looks differ by at most this factor, unless the edge of the picture cuts it.
const MOST_GROWTH: f32 = 1.6;
/// What a label costs that the track never had.
const OTHER_LABEL: f32 = 0.2;
/// So many of the best tracks are considered for an observation.
const MOST_EDGES: usize = 16;

/// Matches observations with tracks, in memory that it keeps from look to look.
#[derive(Debug, Default)]
pub(super) struct Association {
    sweep: Sweep,
    /// The widened box of each free track.
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
    ) -> &[(usize, usize)] {
        self.pairs.clear();
        self.widened.clear();
        self.widened.extend(lives.iter().map(|life| {
            let unseen = life.unseen().as_secs_f32().min(1.0);
            life.expected().widened(WIDENED + WIDENED_A_SECOND * unseen)
        }));
        let free = self.widened.iter().copied().enumerate();
        self.sweep.fill(free.filter(|(track, _)| is_free(*track)));
        self.assignment.begin(lives.len());
        for &number in wanted {
            let observation = &observations[number];
            let seen = LooseBox::from(observation.bbox);
            self.edges.clear();
            let widened = seen.widened(WIDENED);
            for track in self.sweep.near(&widened) {
                let life = &lives[track];
                let mut alike = widened.iou(&self.widened[track]);
                if !life.votes().knows(observation.label) {
                    alike -= OTHER_LABEL;
                }
                if alike >= gate && fits(&seen, &life.expected()) {
                    self.edges.push(Edge {
                        column: track,
                        cost: 1.0 - alike,
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

/// Whether one thing can have both heights.
fn fits(seen: &LooseBox, expected: &LooseBox) -> bool {
    let is_cut = |bbox: &LooseBox| bbox.y1 < AT_EDGE || bbox.y2 > 1.0 - AT_EDGE;
    let (one, other) = (seen.height(), expected.height());
    let alike = one < other * MOST_GROWTH && other < one * MOST_GROWTH;
    alike || is_cut(seen) || is_cut(expected)
}
