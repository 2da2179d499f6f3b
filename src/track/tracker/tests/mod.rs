//! Scenes with known truth: things that move along paths are looked at, and the tracks are compared with them.

mod bounds;
mod life;
mod properties;
mod scenes;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::track::LabelId;

pub(super) const PERSON: LabelId = LabelId(0);
pub(super) const RATES: [f32; 4] = [2.0, 5.0, 10.0, 30.0];

pub(super) const SETTINGS: TrackerSettings = TrackerSettings {
    confirm: Duration::from_millis(300),
    lost: Duration::from_millis(2000),
    min_score: 0.4,
};

pub(super) fn seconds(seconds: f32) -> Duration {
    Duration::from_secs_f32(seconds.max(0.0))
}

pub(super) fn observation(x: f32, y: f32, w: f32, h: f32, score: f32) -> Option<Observation> {
    let bbox = RelativeBox::new(x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0)?;
    Some(Observation {
        bbox,
        score,
        label: PERSON,
    })
}

/// Something that is there from one time to another.
pub(super) struct Thing {
    pub(super) from: f32,
    pub(super) to: f32,
    /// The middle of its box at a time.
    pub(super) path: Box<dyn Fn(f32) -> (f32, f32)>,
    pub(super) size: (f32, f32),
    /// When nobody can see it.
    pub(super) hidden: Vec<(f32, f32)>,
    /// What the errors of the detector begin with, and by which part of its size each edge is off at most.
    pub(super) noise: Option<(u32, f32)>,
    pub(super) label: LabelId,
}

/// A person who walks from one place to another.
pub(super) fn walker(from: f32, to: f32, start: (f32, f32), end: (f32, f32)) -> Thing {
    let path = move |t: f32| {
        let part = (t - from) / (to - from);
        (
            start.0 + (end.0 - start.0) * part,
            start.1 + (end.1 - start.1) * part,
        )
    };
    Thing {
        from,
        to,
        path: Box::new(path),
        size: (0.05, 0.2),
        hidden: Vec::new(),
        noise: None,
        label: PERSON,
    }
}

impl Thing {
    fn seen(&self, t: f32) -> Option<Observation> {
        let is_hidden = self
            .hidden
            .iter()
            .any(|(from, to)| (*from..*to).contains(&t));
        if is_hidden || !(self.from..=self.to).contains(&t) {
            return None;
        }
        let (x, y) = (self.path)(t);
        let mut seen = observation(x, y, self.size.0, self.size.1, 0.8)?;
        seen.label = self.label;
        // Detectors find nobody of whom less than a third can be seen.
        let part = seen.bbox.width() * seen.bbox.height() / (self.size.0 * self.size.1);
        (part > 0.33).then_some(seen)
    }

    /// The same as the detector says it.
    fn detected(&self, t: f32) -> Option<Observation> {
        let mut seen = self.seen(t)?;
        let Some((seed, most)) = self.noise else {
            return Some(seen);
        };
        let mut numbers = Numbers(seed ^ t.to_bits());
        let mut off = |size: f32| (numbers.next() - 0.5) * 2.0 * most * size;
        let (w, h) = self.size;
        let RelativeBox { x1, y1, x2, y2 } = seen.bbox;
        seen.bbox = RelativeBox::new(x1 + off(w), y1 + off(h), x2 + off(w), y2 + off(h))?;
        let is_new = t - self.from < 1.0;
        seen.score = if is_new {
            0.8
        } else {
            0.37 + 0.5 * numbers.next()
        };
        Some(seen)
    }
}

/// Numbers that look random and are the same each time.
pub(super) struct Numbers(pub(super) u32);

impl Numbers {
    /// From 0 to 1.
    pub(super) fn next(&mut self) -> f32 {
        for _ in 0..3 {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        }
        f32::from(u16::try_from(self.0 >> 16).unwrap()) / 65535.0
    }

    pub(super) fn observation(&mut self, size: f32) -> Observation {
        loop {
            let (x, y, score) = (self.next(), self.next(), self.next());
            if let Some(seen) = observation(x, y, size, size, score) {
                return seen;
            }
        }
    }
}

/// What became of one track.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Followed {
    /// The thing whose observations it got, most often.
    pub(super) thing: usize,
    pub(super) first_seen: Duration,
    pub(super) confirmed_at: Duration,
    pub(super) last_seen: Duration,
    /// When and why it ended; `None` if it lived to the end.
    pub(super) ended: Option<(Duration, EndReason)>,
    /// Observations that it got of other things.
    pub(super) strangers: usize,
}

/// Looks at things at these times, and gives the confirmed tracks by their ids.
pub(super) fn follow(things: &[Thing], times: &[f32]) -> BTreeMap<u64, Followed> {
    let mut tracker = Tracker::new(SETTINGS);
    let ids = TrackIds::default();
    let mut sightings: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    let mut known: BTreeMap<u64, (Track, Option<(Duration, EndReason)>)> = BTreeMap::new();
    for &t in times {
        let seen: Vec<(usize, Observation)> = things
            .iter()
            .enumerate()
            .filter_map(|(n, thing)| Some((n, thing.detected(t)?)))
            .collect();
        let observations: Vec<_> = seen.iter().map(|(_, observation)| *observation).collect();
        let looked = tracker.look(seconds(t), &observations, &ids);
        let ended = looked.ended.to_vec();
        let belongings = looked.belongings.to_vec();
        assert_eq!(belongings.len(), observations.len());
        for (track, reason) in ended {
            let id = track.id.expect("only what was confirmed is told");
            assert!(known.contains_key(&id), "an end without a start");
            let before = known.insert(id, (track, Some((seconds(t), reason))));
            assert!(before.is_some_and(|(_, end)| end.is_none()), "ended twice");
        }
        for track in tracker.tracks() {
            if let Some(number) = track.observation {
                assert_eq!(belongings[number], Belonging::Track(track.serial));
                sightings
                    .entry(track.serial)
                    .or_default()
                    .push(seen[number].0);
            }
            if let Some(id) = track.id {
                known.insert(id, (track.clone(), None));
            }
        }
    }
    let followed = |(track, ended): (Track, Option<(Duration, EndReason)>)| {
        let of = &sightings[&track.serial];
        let count = |thing| of.iter().filter(|seen| **seen == thing).count();
        let thing = (0..things.len()).max_by_key(|thing| count(*thing)).unwrap();
        Followed {
            thing,
            first_seen: track.first_seen,
            confirmed_at: track.confirmed_at.unwrap(),
            last_seen: track.last_seen,
            ended,
            strangers: of.len() - count(thing),
        }
    };
    known
        .into_iter()
        .map(|(id, all)| (id, followed(all)))
        .collect()
}

/// Times from 0 to `until`, this many a second.
pub(super) fn at_rate(fps: f32, until: f32) -> Vec<f32> {
    let mut times = Vec::new();
    let mut n = 0_u16;
    while f32::from(n) / fps <= until {
        times.push(f32::from(n) / fps);
        n += 1;
    }
    times
}
