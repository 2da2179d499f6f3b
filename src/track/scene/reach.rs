//! Where tracks stood in the last minute, so that it can be said which line nobody can cross and which zone is smaller than what
//! should be in it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::applies;
use super::line::{LineShape, Side};
use crate::config::{GridPoint, LineConfig, ZoneConfig};
use crate::track::RelativeBox;

const COLUMNS: usize = 48;
const ROWS: usize = 27;
/// So many sightings are remembered: one for each cell, where all have the same label.
const MOST: usize = COLUMNS * ROWS;
/// So many labels are told apart.
const MOST_LABELS: usize = 256;
/// What was seen longer ago tells nothing.
const KEPT: Duration = Duration::from_secs(60);
/// From so many places nothing is concluded: somebody stood still.
const FEWEST: usize = 8;
/// So many parts of a line beyond its ends somebody who passes is still at it.
const BESIDE: f64 = 0.1;

/// What the last minute tells of zones and lines, in the order of the configuration. `None` where too little was seen to tell. Each is
/// judged by what has a label that it counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Whether tracks were on both sides of a line between its ends.
    pub lines: Vec<Option<bool>>,
    /// Whether a zone covers less of the picture than the box of most who were in it, or of most tracks if nobody was.
    pub smaller_than_a_box: Vec<Option<bool>>,
}

/// The last sighting of each label in each cell of a grid over the picture.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    last: HashMap<Key, Sighting>,
    /// The labels that were seen; a key has the place of its label here.
    labels: Vec<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    cell: usize,
    label: usize,
}

#[derive(Debug, Clone, Copy)]
struct Sighting {
    at: Duration,
    foot: GridPoint,
    bbox: RelativeBox,
}

impl Sightings {
    pub(super) fn seen(&mut self, now: Duration, foot: GridPoint, bbox: &RelativeBox, label: &str) {
        let label = self.label(label);
        let [column, row] = foot.cell([COLUMNS, ROWS]);
        let cell = row * COLUMNS + column;
        let key = Key { cell, label };
        if self.last.is_empty() {
            self.last.reserve(MOST);
        }
        if self.last.len() >= MOST && !self.last.contains_key(&key) {
            self.make_room(now);
        }
        let sighting = Sighting {
            at: now,
            foot,
            bbox: *bbox,
        };
        self.last.insert(key, sighting);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.last.len()
    }

    /// The number of a label. Where there are too many of them, all that was seen is forgotten, and a minute begins anew.
    fn label(&mut self, label: &str) -> usize {
        let known = self.labels.iter().position(|known| **known == *label);
        known.unwrap_or_else(|| {
            if self.labels.len() >= MOST_LABELS {
                self.labels.clear();
                self.last.clear();
            }
            self.labels.push(label.into());
            self.labels.len() - 1
        })
    }

    /// Forgets what is too long ago, or the oldest if nothing is.
    fn make_room(&mut self, now: Duration) {
        self.last
            .retain(|_, sighting| now.saturating_sub(sighting.at) <= KEPT);
        if self.last.len() >= MOST {
            let oldest = self
                .last
                .iter()
                .min_by_key(|(key, sighting)| (sighting.at, **key));
            let oldest = oldest.map(|(key, _)| *key);
            oldest.and_then(|key| self.last.remove(&key));
        }
    }

    /// What was seen in the last minute with one of these labels, or with any if there are none.
    fn recent(&self, now: Duration, labels: &[Arc<str>]) -> Vec<Sighting> {
        let is_wanted = |(key, sighting): &(&Key, &Sighting)| {
            now.saturating_sub(sighting.at) <= KEPT && applies(labels, &self.labels[key.label])
        };
        let wanted = self.last.iter().filter(is_wanted);
        wanted.map(|(_, sighting)| *sighting).collect()
    }

    pub(super) fn reach(
        &self,
        now: Duration,
        shapes: &[LineShape],
        lines: &[LineConfig],
        zones: &[ZoneConfig],
    ) -> Reach {
        let is_enough = |recent: &[Sighting]| recent.len() >= FEWEST;
        let line = |(shape, line): (&LineShape, &LineConfig)| {
            let recent = self.recent(now, &line.labels);
            is_enough(&recent).then(|| is_reached(shape, &recent))
        };
        let zone = |zone: &ZoneConfig| {
            let recent = self.recent(now, &zone.labels);
            let within = recent
                .iter()
                .filter(|seen| zone.polygon.contains(seen.foot.point()));
            let area = median_area(within).or_else(|| {
                let all = is_enough(&recent).then_some(recent.iter());
                all.and_then(median_area)
            });
            area.map(|area| zone.polygon.area() < area)
        };
        Reach {
            lines: shapes.iter().zip(lines).map(line).collect(),
            smaller_than_a_box: zones.iter().map(zone).collect(),
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
