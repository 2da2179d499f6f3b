//! Zones, lines and masks: confirmed tracks come in as they are seen, and what changes for them goes out. Plain state with the
//! media time passed in; the stage runs it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::RelativeBox;
use super::tracker::Track;
use crate::config::{Point, SceneConfig};

/// The zones and lines of a camera stream, and where each track stands with them.
#[derive(Debug)]
pub struct Scene {
    config: SceneConfig,
    stationary: Duration,
    places: BTreeMap<u64, Place>,
    counts: Vec<LineCounts>,
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
    foot: Point,
    moved_at: Duration,
    seen_at: Duration,
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

/// A line was crossed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossing {
    /// Which way.
    pub direction: Direction,
    /// How often the line was crossed by now, this time included.
    pub counts: LineCounts,
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
            stationary,
            places: BTreeMap::new(),
            counts: Vec::new(),
        };
        scene.set(config, stationary);
        scene
    }

    /// Changes zones, lines and masks. A line of the same name and place keeps its counts, and tracks stay in zones that stay.
    pub fn set(&mut self, config: &SceneConfig, stationary: Duration) {
        self.stationary = stationary;
        let before = std::mem::take(&mut self.counts);
        let counts = |line: &crate::config::LineConfig| {
            let known = before.iter().find(|counts| counts.line == line.name);
            known.cloned().unwrap_or(LineCounts {
                line: Arc::clone(&line.name),
                r#in: 0,
                out: 0,
            })
        };
        self.counts = config.lines.iter().map(counts).collect();
        self.config = config.clone();
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
        let foot = track.bbox.bottom_center();
        let place = self.places.entry(track.serial).or_insert_with(|| Place {
            zones: Arc::from([]),
            visited: Vec::new(),
            stationary: false,
            foot,
            moved_at: now,
            seen_at: now,
        });
        let zones: Vec<Arc<str>> = self
            .config
            .zones
            .iter()
            .filter(|zone| applies(&zone.labels, label) && zone.polygon.contains(foot))
            .map(|zone| Arc::clone(&zone.name))
            .collect();
        let mut change = SceneChange {
            zones: *zones != *place.zones,
            ..SceneChange::default()
        };
        for zone in &zones {
            match place.visited.iter_mut().find(|(name, _)| name == zone) {
                Some((_, dwell)) => *dwell += now.saturating_sub(place.seen_at),
                None => place.visited.push((Arc::clone(zone), Duration::ZERO)),
            }
        }
        place.zones = zones.into();
        for (line, counts) in self.config.lines.iter().zip(&mut self.counts) {
            let side = |p: Point| {
                (line.to.x - line.from.x) * (p.y - line.from.y)
                    - (line.to.y - line.from.y) * (p.x - line.from.x)
            };
            let (was, is) = (side(place.foot), side(foot));
            if applies(&line.labels, label) && was * is < 0.0 {
                let direction = if is > 0.0 {
                    Direction::In
                } else {
                    Direction::Out
                };
                match direction {
                    Direction::In => counts.r#in += 1,
                    Direction::Out => counts.out += 1,
                }
                change.crossings.push(Crossing {
                    direction,
                    counts: counts.clone(),
                });
            }
        }
        if (foot.x - place.foot.x).abs() + (foot.y - place.foot.y).abs() > 0.01 {
            place.moved_at = now;
        }
        let stationary = now.saturating_sub(place.moved_at) >= self.stationary;
        change.stationary = stationary != place.stationary;
        place.stationary = stationary;
        (place.foot, place.seen_at) = (foot, now);
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
}

fn applies(labels: &[Arc<str>], label: &str) -> bool {
    labels.is_empty() || labels.iter().any(|wanted| **wanted == *label)
}
