//! Who is who: the observations of a look come in with its media time, and each is given to a track, begins one, or belongs to
//! none. Plain state; the stage runs it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{LabelId, Observation, RelativeBox};

/// What the configuration says of tracks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrackerSettings {
    /// A track is confirmed when it was seen twice and is this old.
    pub confirm: Duration,
    /// A track that is not seen for this long ends. Only time that was looked at counts.
    pub lost: Duration,
    /// Objects with a lower score are not reported. The scores at which tracks begin and go on follow from it.
    pub min_score: f32,
}

/// Gives each confirmed track of a node its id, from 1 in each run.
#[derive(Debug, Default)]
pub struct TrackIds(AtomicU64);

impl TrackIds {
    /// The next id.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// One of the things that are followed.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// Names it in its stream from its first sighting on; never used again.
    pub serial: u64,
    /// Names it in events, once it is confirmed.
    pub id: Option<u64>,
    /// Where it is in its life.
    pub state: TrackState,
    /// What it was taken for most of its life.
    pub label: LabelId,
    /// The score of its last sighting.
    pub score: f32,
    /// The best score of its life.
    pub top_score: f32,
    /// Where it was seen at this look, or where it is expected to be.
    pub bbox: RelativeBox,
    /// Parts of the picture's width and height in a second.
    pub velocity: [f32; 2],
    /// Media time of its first sighting.
    pub first_seen: Duration,
    /// Media time of the look that confirmed it.
    pub confirmed_at: Option<Duration>,
    /// Media time of its last sighting.
    pub last_seen: Duration,
    /// The observation of this look that is of it.
    pub observation: Option<usize>,
}

/// Where a track is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrackState {
    /// It was seen too little to be believed.
    Tentative,
    /// It is believed, and was seen at the last look.
    Confirmed,
    /// It is believed, and was not seen at the last look.
    Lost,
}

/// What an observation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belonging {
    /// Of no track, and too weak to begin one.
    None,
    /// The same object as this other observation of the look, seen twice.
    Double(usize),
    /// Of the track of this serial.
    Track(u64),
}

/// Why a track ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// It was not seen again.
    Lost,
    /// It went out of the picture.
    Left,
}

/// What came of a look.
#[derive(Debug)]
pub struct Looked<'a> {
    /// What each observation is, in their order.
    pub belongings: &'a [Belonging],
    /// Tracks that ended and had been confirmed.
    pub ended: &'a [(Track, EndReason)],
}

/// Follows the things in one camera stream.
#[derive(Debug)]
pub struct Tracker {
    settings: TrackerSettings,
    tracks: Vec<Track>,
    belongings: Vec<Belonging>,
    ended: Vec<(Track, EndReason)>,
    serial: u64,
}

impl Tracker {
    /// A tracker that follows nothing yet.
    pub fn new(settings: TrackerSettings) -> Self {
        Self {
            settings,
            tracks: Vec::new(),
            belongings: Vec::new(),
            ended: Vec::new(),
            serial: 0,
        }
    }

    /// Changes the settings; all tracks live on.
    pub fn set(&mut self, settings: TrackerSettings) {
        self.settings = settings;
    }

    /// The lowest score of an object that is of use to the tracker, where objects from `min_score` on are reported.
    pub fn lowest_score(min_score: f32) -> f32 {
        (min_score - 0.05).max(0.0)
    }

    /// Takes in what was seen at `now`. Observations come with the best score first.
    pub fn look(
        &mut self,
        now: Duration,
        observations: &[Observation],
        ids: &TrackIds,
    ) -> Looked<'_> {
        self.belongings.clear();
        self.ended.clear();
        for track in &mut self.tracks {
            track.observation = None;
        }
        for (n, observation) in observations.iter().enumerate() {
            let overlap = |track: &Track| iou(&track.bbox, &observation.bbox);
            let free = self
                .tracks
                .iter_mut()
                .filter(|track| track.observation.is_none());
            let best = free.max_by(|a, b| overlap(a).total_cmp(&overlap(b)));
            let serial = match best {
                Some(track) if overlap(track) > 0.2 => {
                    let dt = (now.saturating_sub(track.last_seen))
                        .as_secs_f32()
                        .max(1e-3);
                    let (old, new) = (track.bbox.bottom_center(), observation.bbox.bottom_center());
                    #[expect(
                        clippy::cast_possible_truncation,
                        reason = "parts of a picture need no 52 bits"
                    )]
                    let velocity = [(new.x - old.x) as f32 / dt, (new.y - old.y) as f32 / dt];
                    track.velocity = velocity;
                    track.bbox = observation.bbox;
                    track.score = observation.score;
                    track.top_score = track.top_score.max(observation.score);
                    track.last_seen = now;
                    track.observation = Some(n);
                    if track.id.is_none()
                        && now.saturating_sub(track.first_seen) >= self.settings.confirm
                    {
                        track.id = Some(ids.next());
                        track.confirmed_at = Some(now);
                    }
                    track.serial
                }
                _ if observation.score < self.settings.min_score => {
                    self.belongings.push(Belonging::None);
                    continue;
                }
                _ => {
                    self.serial += 1;
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
                        observation: Some(n),
                    });
                    self.serial
                }
            };
            self.belongings.push(Belonging::Track(serial));
        }
        let lost = self.settings.lost;
        let ended = &mut self.ended;
        self.tracks.retain_mut(|track| {
            track.state = match (track.id, track.observation) {
                (None, _) => TrackState::Tentative,
                (Some(_), Some(_)) => TrackState::Confirmed,
                (Some(_), None) => TrackState::Lost,
            };
            let stays = now.saturating_sub(track.last_seen) < lost;
            if !stays && track.id.is_some() {
                ended.push((track.clone(), EndReason::Lost));
            }
            stays
        });
        Looked {
            belongings: &self.belongings,
            ended: &self.ended,
        }
    }

    /// All tracks, tentative ones too.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// Ends all tracks, and gives those that had been confirmed.
    pub fn end_all(&mut self) -> Vec<Track> {
        let all = std::mem::take(&mut self.tracks);
        all.into_iter().filter(|track| track.id.is_some()).collect()
    }
}

fn iou(a: &RelativeBox, b: &RelativeBox) -> f32 {
    let width = (a.x2.min(b.x2) - a.x1.max(b.x1)).max(0.0);
    let height = (a.y2.min(b.y2) - a.y1.max(b.y1)).max(0.0);
    let shared = width * height;
    shared / (a.width() * a.height() + b.width() * b.height() - shared)
}
