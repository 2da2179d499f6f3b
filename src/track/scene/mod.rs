//! Zones, lines and masks: confirmed tracks come in as they are seen, and what changes for them goes out. Plain state with the
//! media time passed in; the stage runs it.
//!
//! A track is where the bottom centre of its box is, where whoever is in it stands. Of a box that the picture's lower edge cuts, the
//! feet are out of sight: such a track stands on the edge, in the zones that reach it.

mod hold;
mod line;
mod reach;
mod stillness;
mod zone;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use self::line::{Crossing, Direction, LineCounts};
pub use self::reach::Reach;

use self::line::{LineShape, LineWatch, Step};
use self::reach::Sightings;
use self::stillness::Stillness;
use self::zone::{Standing, Where};
use super::RelativeBox;
use super::tracker::Track;
use crate::config::{LineConfig, SceneConfig, ZoneConfig};

/// Of the time between two sightings of a track so much counts as spent where it was. In the rest nobody looked, or it was not seen.
const LONGEST_GAP: Duration = Duration::from_secs(1);

/// More zones than these are not remembered of a track. Only many reloads with other names bring so many about.
const MOST_VISITED: usize = 64;

/// The zones and lines of a camera stream, and where each track stands with them.
#[derive(Debug)]
pub struct Scene {
    config: SceneConfig,
    shapes: Vec<LineShape>,
    stationary: Duration,
    places: BTreeMap<u64, Place>,
    counts: Vec<LineCounts>,
    sightings: Sightings,
}

/// Where a track is and was.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// The zones that it is in, in the order of the configuration.
    pub zones: Arc<[Arc<str>]>,
    /// All zones that it was in, in the order in which it came into them, each with the time that it spent in it.
    pub visited: Vec<(Arc<str>, Duration)>,
    /// It has not left its place for `stationary_ms`.
    pub stationary: bool,
    /// For each zone and line of the configuration, how it stands with it.
    standings: Vec<Standing>,
    watches: Vec<LineWatch>,
    stillness: Stillness,
    bbox: RelativeBox,
    seen_at: Duration,
    /// Zones were taken from under its feet since it was seen last.
    is_moved: bool,
}

/// Whether a track was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sighting {
    /// It was.
    New,
    /// It was not, since the picture shows what it showed.
    Old,
}

/// What changed for a track at a look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SceneChange {
    /// It came into a zone or left one.
    pub zones: bool,
    /// It became stationary or moves again.
    pub stationary: bool,
    /// The lines that it crossed.
    pub crossings: Vec<Crossing>,
}

impl Scene {
    /// The zones and lines of the configuration, with all counts at 0.
    pub fn new(config: &SceneConfig, stationary: Duration) -> Self {
        let mut scene = Self {
            config: SceneConfig::default(),
            shapes: Vec::new(),
            stationary,
            places: BTreeMap::new(),
            counts: Vec::new(),
            sightings: Sightings::default(),
        };
        scene.set(config, stationary);
        scene
    }

    /// Changes zones, lines and masks; all tracks live on. A line of the same name and place keeps its counts, and one that was moved
    /// or turned begins at 0, since its counts would be those of two lines. Who is in a zone stays in it, with the time spent there, if
    /// the zone of that name is still under its feet.
    pub fn set(&mut self, config: &SceneConfig, stationary: Duration) {
        self.stationary = stationary;
        let before = std::mem::replace(&mut self.config, config.clone());
        let lines: Vec<Option<usize>> = config
            .lines
            .iter()
            .map(|line| before.lines.iter().position(|known| is_same(line, known)))
            .collect();
        let zones: Vec<Option<usize>> = config
            .zones
            .iter()
            .map(|zone| {
                before
                    .zones
                    .iter()
                    .position(|known| known.name == zone.name)
            })
            .collect();
        self.shapes = config.lines.iter().map(LineShape::new).collect();
        let counts = std::mem::take(&mut self.counts);
        self.counts = lines
            .iter()
            .zip(&config.lines)
            .map(|(known, line)| match known {
                Some(known) => counts[*known].clone(),
                None => LineCounts {
                    line: Arc::clone(&line.name),
                    r#in: 0,
                    out: 0,
                },
            })
            .collect();
        for place in self.places.values_mut() {
            let foot = place.bbox.bottom_center();
            let standing = |(zone, known): (&ZoneConfig, &Option<usize>)| match known {
                Some(known)
                    if before.zones[*known].polygon == zone.polygon
                        || zone.polygon.contains(foot) =>
                {
                    place.standings[*known]
                }
                _ => place.standing_outside(&zone.name),
            };
            place.standings = config.zones.iter().zip(&zones).map(standing).collect();
            place.watches = lines
                .iter()
                .map(|known| known.map_or_else(LineWatch::default, |at| place.watches[at].clone()))
                .collect();
            place.is_moved |= place.settle_zones(&config.zones);
        }
    }

    /// True for a detection that a mask drops.
    pub fn is_masked(&self, bbox: &RelativeBox, label: &str) -> bool {
        let foot = bbox.bottom_center();
        self.config
            .masks
            .iter()
            .any(|mask| applies(&mask.labels, label) && mask.polygon.contains(foot))
    }

    /// Takes in a confirmed track that was seen at this look.
    pub fn seen(&mut self, now: Duration, track: &Track, label: &str) -> SceneChange {
        self.judge(now, track, label, Sighting::New)
    }

    /// Takes in a confirmed track that is still where it was seen last, since the picture has not changed. Time goes on for it in its
    /// zones. Whether it has crossed a line is for the next look to say: the same box again is no proof.
    pub fn unchanged(&mut self, now: Duration, track: &Track, label: &str) -> SceneChange {
        self.judge(now, track, label, Sighting::Old)
    }

    fn judge(
        &mut self,
        now: Duration,
        track: &Track,
        label: &str,
        sighting: Sighting,
    ) -> SceneChange {
        let bbox = track.bbox;
        let foot = bbox.bottom_center();
        self.sightings.seen(now, foot.on_grid(), &bbox, label);
        let (zones, lines) = (&self.config.zones, &self.config.lines);
        let (place, before) = match self.places.entry(track.serial) {
            std::collections::btree_map::Entry::Vacant(free) => {
                let place = Place::new(now, bbox, zones.len(), lines.len());
                (free.insert(place), None)
            }
            std::collections::btree_map::Entry::Occupied(known) => {
                let place = known.into_mut();
                let passed = now.saturating_sub(place.seen_at);
                let before = place.bbox.bottom_center().on_grid();
                (place, Some((passed, before)))
            }
        };
        let passed = before.map_or(Duration::ZERO, |(passed, _)| passed.min(LONGEST_GAP));
        for (zone, standing) in zones.iter().zip(&mut place.standings) {
            let foot = match applies(&zone.labels, label) {
                true => Where::of(&zone.polygon, &bbox),
                false => Where::Outside,
            };
            standing.look(foot, passed, zone.min_dwell);
        }
        let mut change = SceneChange {
            zones: place.settle_zones(zones) | std::mem::take(&mut place.is_moved),
            ..SceneChange::default()
        };
        let step = Step {
            now,
            before,
            foot: foot.on_grid(),
            bbox,
        };
        let watched = place.watches.iter_mut().zip(&self.shapes);
        for (((watch, shape), line), counts) in watched.zip(lines).zip(&mut self.counts) {
            if sighting == Sighting::Old {
                continue;
            }
            let Some(direction) = watch.look(shape, &step) else {
                continue;
            };
            if applies(&line.labels, label) {
                let count = match direction {
                    Direction::In => &mut counts.r#in,
                    Direction::Out => &mut counts.out,
                };
                *count = count.saturating_add(1);
                change.crossings.push(Crossing {
                    direction,
                    counts: counts.clone(),
                });
            }
        }
        place.stillness.look(now, passed, &bbox);
        let stationary = place.stillness.still() >= self.stationary;
        change.stationary = stationary != place.stationary;
        place.stationary = stationary;
        (place.bbox, place.seen_at) = (bbox, now);
        change
    }

    /// Forgets a track that ended, and gives where it was.
    pub fn ended(&mut self, serial: u64) -> Option<Place> {
        self.places.remove(&serial)
    }

    /// Where a track stands.
    pub fn place(&self, serial: u64) -> Option<&Place> {
        self.places.get(&serial)
    }

    /// How often each line was crossed, in the order of the configuration.
    pub fn counts(&self) -> &[LineCounts] {
        &self.counts
    }

    /// The zones, lines and masks.
    pub fn config(&self) -> &SceneConfig {
        &self.config
    }

    /// What the last minute before `now` tells of zones and lines.
    pub fn reach(&self, now: Duration) -> Reach {
        let SceneConfig { zones, lines, .. } = &self.config;
        self.sightings.reach(now, &self.shapes, lines, zones)
    }
}

impl Place {
    /// True while it shows on the other side of a line and the next look has to say whether it has crossed it.
    pub fn is_crossing(&self) -> bool {
        self.watches.iter().any(LineWatch::is_pending)
    }

    fn new(now: Duration, bbox: RelativeBox, zones: usize, lines: usize) -> Self {
        Self {
            zones: Arc::from([]),
            visited: Vec::new(),
            stationary: false,
            standings: vec![Standing::default(); zones],
            watches: vec![LineWatch::default(); lines],
            stillness: Stillness::new(bbox),
            bbox,
            seen_at: now,
            is_moved: false,
        }
    }

    /// How it stands with a zone in which it is not.
    fn standing_outside(&self, zone: &Arc<str>) -> Standing {
        let visited = self.visited.iter().find(|(name, _)| name == zone);
        visited.map_or(Standing::Never, |(_, total)| Standing::Left {
            total: *total,
        })
    }

    /// Makes `zones` and `visited` of how it stands with each zone. True if it is in other zones than before.
    fn settle_zones(&mut self, zones: &[ZoneConfig]) -> bool {
        self.settle_times(zones);
        let standings = zones.iter().zip(&self.standings);
        let names = || {
            let inside = standings.clone().filter(|(_, standing)| standing.is_in());
            inside.map(|(zone, _)| &zone.name)
        };
        if names().eq(self.zones.iter()) {
            return false;
        }
        // Zones that only stand in another order in the configuration are the same.
        let is_same =
            names().count() == self.zones.len() && names().all(|name| self.zones.contains(name));
        self.zones = names().map(Arc::clone).collect();
        !is_same
    }

    /// Brings the times in `visited` up to date.
    fn settle_times(&mut self, zones: &[ZoneConfig]) {
        for (zone, standing) in zones.iter().zip(&self.standings) {
            let Some(total) = standing.total() else {
                continue;
            };
            let known = self.visited.iter().position(|(name, _)| *name == zone.name);
            match known {
                Some(known) => self.visited[known].1 = total,
                None if self.visited.len() < MOST_VISITED => {
                    self.visited.push((Arc::clone(&zone.name), total));
                }
                None => {}
            }
        }
    }
}

fn is_same(one: &LineConfig, other: &LineConfig) -> bool {
    one.name == other.name && one.from == other.from && one.to == other.to
}

fn applies(labels: &[Arc<str>], label: &str) -> bool {
    labels.is_empty() || labels.iter().any(|wanted| **wanted == *label)
}

#[cfg(test)]
mod tests;
