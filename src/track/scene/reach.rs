//! Where tracks stood in the last minute, so that it can be said which line nobody can cross and which zone is smaller than what
//! should be in it.

use std::time::Duration;

use super::line::{LineShape, Side};
use crate::config::{GridPoint, Polygon};
use crate::track::RelativeBox;

const COLUMNS: usize = 48;
const ROWS: usize = 27;
/// What was seen longer ago tells nothing.
const KEPT: Duration = Duration::from_secs(60);
/// From so many places nothing is concluded: somebody stood still.
const FEWEST: usize = 8;
/// So many parts of a line beyond its ends somebody who passes is still at it.
const BESIDE: f64 = 0.1;

/// What the last minute tells of zones and lines, in the order of the configuration. `None` where too little was seen to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Whether tracks were on both sides of a line between its ends.
    pub lines: Vec<Option<bool>>,
    /// Whether a zone covers less of the picture than the box of most who were in it, or of most tracks if nobody was.
    pub smaller_than_a_box: Vec<Option<bool>>,
}

/// The last sighting in each cell of a grid over the picture.
#[derive(Debug, Default)]
pub(super) struct Sightings(Vec<Option<Sighting>>);

#[derive(Debug, Clone, Copy)]
struct Sighting {
    at: Duration,
    foot: GridPoint,
    bbox: RelativeBox,
}

impl Sightings {
    pub(super) fn seen(&mut self, now: Duration, foot: GridPoint, bbox: &RelativeBox) {
        if self.0.is_empty() {
            self.0 = vec![None; COLUMNS * ROWS];
        }
        let [column, row] = foot.cell([COLUMNS, ROWS]);
        self.0[row * COLUMNS + column] = Some(Sighting {
            at: now,
            foot,
            bbox: *bbox,
        });
    }

    fn recent(&self, now: Duration) -> Vec<Sighting> {
        let recent = |sighting: &Sighting| now.saturating_sub(sighting.at) <= KEPT;
        self.0.iter().flatten().copied().filter(recent).collect()
    }

    pub(super) fn reach<'a>(
        &self,
        now: Duration,
        lines: &[LineShape],
        zones: impl Iterator<Item = &'a Polygon>,
    ) -> Reach {
        let recent = self.recent(now);
        let is_enough = recent.len() >= FEWEST;
        Reach {
            lines: lines
                .iter()
                .map(|line| is_enough.then(|| is_reached(line, &recent)))
                .collect(),
            smaller_than_a_box: zones
                .map(|zone| {
                    let within = recent
                        .iter()
                        .filter(|seen| zone.contains(seen.foot.point()));
                    let area = median_area(within).or_else(|| {
                        let all = is_enough.then_some(recent.iter());
                        all.and_then(median_area)
                    });
                    area.map(|area| zone.area() < area)
                })
                .collect(),
        }
    }
}

fn is_reached(line: &LineShape, recent: &[Sighting]) -> bool {
    let was_on = |wanted: Side| {
        recent.iter().any(|seen| {
            let side = line.side(seen.foot, &seen.bbox);
            side.is_some_and(|(side, _)| side == wanted)
                && (-BESIDE..=1.0 + BESIDE).contains(&line.part(seen.foot))
        })
    };
    was_on(Side::Left) && was_on(Side::Right)
}

fn median_area<'a>(sightings: impl Iterator<Item = &'a Sighting>) -> Option<f64> {
    let area = |seen: &Sighting| f64::from(seen.bbox.width()) * f64::from(seen.bbox.height());
    let mut areas: Vec<f64> = sightings.map(area).collect();
    areas.sort_by(f64::total_cmp);
    areas.get(areas.len() / 2).copied()
}
