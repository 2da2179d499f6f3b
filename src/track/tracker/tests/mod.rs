//! Scenes with known truth: things that move along paths are looked at, and the tracks are compared with them.

mod bounds;
mod life;
mod properties;
mod scenes;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;

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
        let seen = observation(x, y, self.size.0, self.size.1, 0.8)?;
        // Detectors find nobody of whom less than a third can be seen.
        let part = seen.bbox.width() * seen.bbox.height() / (self.size.0 * self.size.1);
        (part > 0.33).then_some(seen)
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
            .filter_map(|(n, thing)| Some((n, thing.seen(t)?)))
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
