//! Who is who: the observations of a look come in with its media time, and each is given to a track, begins one, or belongs to
//! none. Plain state; the stage runs it.
//!
//! A look goes in this order: doubles among the observations are set aside (`doubles`), all tracks are moved to where they should be
//! by now (`life`, `kalman`), strong observations are matched with them and then weak ones with those that are left (`associate`,
//! `assign`), and strong ones that nobody claims begin tracks. Everything counts in seconds that were looked at: a gap between two
//! looks counts as a second at most, so that neither a low rate nor a stalled camera ends a track.

mod assign;
mod associate;
mod doubles;
mod geometry;
mod kalman;
mod life;
#[cfg(test)]
mod tests;
mod track;
mod votes;

use std::time::Duration;

use self::associate::{Association, By};
use self::doubles::Doubles;
use self::geometry::LooseBox;
use self::life::Life;
pub use self::track::{Belonging, EndReason, Looked, Track, TrackIds, TrackState, TrackerSettings};
use super::{Observation, RelativeBox};

/// A look takes this many observations, the best ones. Detectors give fewer.
pub const MOST_OBSERVATIONS: usize = 1024;
/// This many things are followed at once. When there are more, the weakest one that is not confirmed yet makes room for a better
/// one; where all are confirmed, no track begins.
pub const MOST_TRACKS: usize = 2048;
/// A gap between two looks counts as this much at most.
const LONGEST_GAP: Duration = Duration::from_secs(1);
/// A track that is not confirmed is given up when it was not seen for this long.
const TENTATIVE_LOST: Duration = Duration::from_millis(600);
/// Strong observations come first. They are of a track whose widened box shares 0.15 with theirs.
const STRONG: Pass = Pass {
    by: By::Expectation,
    gate: 0.15,
    doubt: 1.0,
};
/// Weak ones need more, since more of them are false, and say less of where the thing is.
const WEAK: Pass = Pass {
    by: By::Expectation,
    gate: 0.4,
    doubt: 3.0,
};

/// Strong ones that are left may be of one who turned round since the last look.
const TURNED: Pass = Pass {
    by: By::LastSighting,
    gate: 0.2,
    doubt: 1.0,
};

/// How observations of a kind are matched with tracks.
#[derive(Debug, Clone, Copy)]
struct Pass {
    by: By,
    /// Less overlap than this is none.
    gate: f32,
    /// Their error, in usual ones.
    doubt: f32,
}

/// Follows the things in one camera stream.
#[derive(Debug)]
pub struct Tracker {
    settings: TrackerSettings,
    tracks: Vec<Track>,
    /// What is remembered of each of them, in the same order.
    lives: Vec<Life>,
    serial: u64,
    last_look: Option<Duration>,
    belongings: Vec<Belonging>,
    ended: Vec<(Track, EndReason)>,
    /// The numbers of the observations that are used, with the best score first.
    order: Vec<usize>,
    /// Of these, those that look for a track in one pass.
    wanted: Vec<usize>,
    doubles: Doubles,
    association: Association,
}

impl Tracker {
    /// A tracker that follows nothing yet.
    pub fn new(settings: TrackerSettings) -> Self {
        Self {
            settings,
            tracks: Vec::new(),
            lives: Vec::new(),
            serial: 0,
            last_look: None,
            belongings: Vec::new(),
            ended: Vec::new(),
            order: Vec::new(),
            wanted: Vec::new(),
            doubles: Doubles::default(),
            association: Association::default(),
        }
    }

    /// Changes the settings; all tracks live on.
    pub fn set(&mut self, settings: TrackerSettings) {
        self.settings = settings;
    }

    /// The lowest score of an object that is of use to the tracker, where objects from `min_score` on are reported: 0.35 at 0.4.
    pub fn lowest_score(min_score: f32) -> f32 {
        min_score * 0.875
    }

    /// From this score on an observation is strong: 0.52 at a `min_score` of 0.4.
    fn strong_score(min_score: f32) -> f32 {
        min_score + (1.0 - min_score) * 0.2
    }

    /// From this score on an observation that nobody claims begins a track: 0.6 at a `min_score` of 0.4.
    pub(crate) fn birth_score(min_score: f32) -> f32 {
        min_score + (1.0 - min_score) / 3.0
    }

    /// Takes in what was seen at `now`. Times that go backwards count as the same time again.
    pub fn look(
        &mut self,
        now: Duration,
        observations: &[Observation],
        ids: &TrackIds,
    ) -> Looked<'_> {
        self.ended.clear();
        let now = self.last_look.map_or(now, |last| now.max(last));
        let step = self.last_look.map_or(Duration::ZERO, |last| now - last);
        self.last_look = Some(now);
        self.sort(observations);
        for (track, life) in self.tracks.iter_mut().zip(&mut self.lives) {
            track.observation = None;
            life.pass(step.min(LONGEST_GAP));
        }
        let strong = Self::strong_score(self.settings.min_score);
        self.associate(now, observations, strong..f32::INFINITY, STRONG);
        self.associate(now, observations, strong..f32::INFINITY, TURNED);
        self.associate(now, observations, f32::NEG_INFINITY..strong, WEAK);
        self.begin_tracks(now, observations);
        self.judge(now, ids);
        Looked {
            belongings: &self.belongings,
            ended: &self.ended,
        }
    }

    /// All tracks, tentative ones too, in the order in which they began.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// True for a track that is going out of the picture by its last sightings, so that it is hardly where it is expected to be.
    pub fn is_leaving(&self, serial: u64) -> bool {
        let at = self
            .tracks
            .binary_search_by_key(&serial, |track| track.serial);
        at.is_ok_and(|at| self.tracks[at].state == TrackState::Lost && self.lives[at].left())
    }

    /// Ends all tracks, and gives those that had been confirmed.
    pub fn end_all(&mut self) -> Vec<Track> {
        self.lives.clear();
        let all = std::mem::take(&mut self.tracks);
        all.into_iter().filter(|track| track.id.is_some()).collect()
    }

    /// Chooses the observations that are used, and sets doubles aside.
    fn sort(&mut self, observations: &[Observation]) {
        self.belongings.clear();
        self.belongings.resize(observations.len(), Belonging::None);
        let lowest = Self::lowest_score(self.settings.min_score);
        let usable = |number: &usize| {
            let Observation { bbox, score, .. } = &observations[*number];
            let edges = [bbox.x1, bbox.y1, bbox.x2, bbox.y2];
            edges.iter().all(|edge| edge.is_finite())
                && bbox.x1 < bbox.x2
                && bbox.y1 < bbox.y2
                && score.is_finite()
                && *score >= lowest
        };
        self.order.clear();
        self.order.extend((0..observations.len()).filter(usable));
        self.order.sort_unstable_by(|&a, &b| {
            let by_score = observations[b].score.total_cmp(&observations[a].score);
            by_score.then(a.cmp(&b))
        });
        self.order.truncate(MOST_OBSERVATIONS);
        let doubles = self.doubles.find(observations, &self.order);
        for (place, better) in doubles.iter().enumerate() {
            if let Some(better) = better {
                self.belongings[self.order[place]] = Belonging::Double(self.order[*better]);
            }
        }
        let belongings = &self.belongings;
        self.order
            .retain(|&number| belongings[number] == Belonging::None);
    }

    /// Gives the observations of these scores to tracks that have none yet.
    fn associate(
        &mut self,
        now: Duration,
        observations: &[Observation],
        scores: std::ops::Range<f32>,
        pass: Pass,
    ) {
        self.wanted.clear();
        let wanted = self.order.iter().copied();
        let belongings = &self.belongings;
        self.wanted.extend(wanted.filter(|&number| {
            belongings[number] == Belonging::None && scores.contains(&observations[number].score)
        }));
        let tracks = &self.tracks;
        let lives = &self.lives;
        let is_free = |track: usize| {
            tracks[track].observation.is_none()
                && (pass.by == By::Expectation || lives[track].was_seen())
        };
        let pairs = self.association.run(
            observations,
            &self.wanted,
            &self.lives,
            is_free,
            pass.gate,
            pass.by,
        );
        for &(number, track) in pairs {
            let observation = &observations[number];
            let (track, life) = (&mut self.tracks[track], &mut self.lives[track]);
            life.see(observation, pass.doubt);
            track.label = life.votes().majority();
            track.score = observation.score;
            track.top_score = track.top_score.max(observation.score);
            track.bbox = in_picture(&life.believed()).unwrap_or(observation.bbox);
            track.velocity = life.velocity();
            track.last_seen = now;
            track.observation = Some(number);
            self.belongings[number] = Belonging::Track(track.serial);
        }
    }

    /// Begins a track with each strong observation that nobody claims.
    fn begin_tracks(&mut self, now: Duration, observations: &[Observation]) {
        let birth = Self::birth_score(self.settings.min_score);
        for place in 0..self.order.len() {
            let number = self.order[place];
            let observation = &observations[number];
            if observation.score < birth || self.belongings[number] != Belonging::None {
                continue;
            }
            if self.tracks.len() >= MOST_TRACKS && !self.make_room(observation.score) {
                break;
            }
            self.serial += 1;
            self.belongings[number] = Belonging::Track(self.serial);
            self.lives.push(Life::new(observation));
            self.tracks.push(Track {
                serial: self.serial,
                id: None,
                state: TrackState::Tentative,
                label: observation.label,
                score: observation.score,
                top_score: observation.score,
                bbox: observation.bbox,
                velocity: [0.0; 2],
                first_seen: now,
                confirmed_at: None,
                last_seen: now,
                observation: Some(number),
            });
        }
    }

    /// Gives up the weakest tentative track, if it is weaker than this.
    fn make_room(&mut self, score: f32) -> bool {
        let tentative = self.tracks.iter().enumerate();
        let tentative = tentative.filter(|(_, track)| track.id.is_none() && track.score < score);
        let weakest = tentative.min_by(|(_, a), (_, b)| a.score.total_cmp(&b.score));
        let Some((at, _)) = weakest else {
            return false;
        };
        self.lives.remove(at);
        if let Some(number) = self.tracks.remove(at).observation {
            self.belongings[number] = Belonging::None;
        }
        true
    }

    /// Confirms what was seen twice and is old enough, says of each track where it is in its life, and ends those whose time is over.
    fn judge(&mut self, now: Duration, ids: &TrackIds) {
        let mut kept = 0;
        for at in 0..self.tracks.len() {
            let (track, life) = (&mut self.tracks[at], &self.lives[at]);
            let is_seen = track.observation.is_some();
            let age = now.saturating_sub(track.first_seen);
            let is_second = is_seen && now > track.first_seen;
            if track.id.is_none() && is_second && age >= self.settings.confirm {
                track.id = Some(ids.next());
                track.confirmed_at = Some(now);
            }
            if !is_seen && let Some(bbox) = in_picture(&life.expected()) {
                track.bbox = bbox;
            }
            track.state = match (track.id, is_seen) {
                (None, _) => TrackState::Tentative,
                (Some(_), true) => TrackState::Confirmed,
                (Some(_), false) => TrackState::Lost,
            };
            let patience = match track.id {
                Some(_) => self.settings.lost,
                None => TENTATIVE_LOST.min(self.settings.lost),
            };
            if is_seen || life.unseen() < patience {
                self.tracks.swap(kept, at);
                self.lives.swap(kept, at);
                kept += 1;
            } else if track.id.is_some() {
                let reason = if life.left() {
                    EndReason::Left
                } else {
                    EndReason::Lost
                };
                self.ended.push((track.clone(), reason));
            }
        }
        self.tracks.truncate(kept);
        self.lives.truncate(kept);
    }
}

/// The part of an expected box that lies in the picture.
fn in_picture(expected: &LooseBox) -> Option<RelativeBox> {
    RelativeBox::new(expected.x1, expected.y1, expected.x2, expected.y2)
}
