//! The stage between postprocess and publish: the objects of a frame come in, and go out with the tracks that they are of, with
//! what there is to tell. It puts `media_clock`, `tracker` and `scene` in a row.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::media_clock::MediaClock;
use super::news::{Happening, TrackEnd, TrackFacts, TrackNews, UpdateReason};
use super::scene::{Place, Scene, SceneChange};
use super::tracker::{Belonging, Track, TrackIds, TrackState, Tracker, TrackerSettings};
use super::{LabelId, Labels, Observation, RelativeBox};
use crate::config::{SceneConfig, TrackConfig};
use crate::detect::{ModelInfo, Object};
use twinsight_media::picture::{FrameTiming, PictureSize};

/// A track that stays where it is has updates so much more rarely than others.
const STATIONARY_UPDATES: u32 = 10;

/// What the configuration says of a camera stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StageSettings {
    /// How what is seen is followed.
    pub track: TrackConfig,
    /// Zones, lines and masks.
    pub scene: SceneConfig,
    /// Objects with a lower score are not reported.
    pub min_score: f32,
}

/// A frame that went through the model.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// When it came, and its RTP timestamp.
    pub timing: FrameTiming,
    /// The size of the frame.
    pub size: PictureSize,
    /// What was seen, with the best score first, in pixels of the frame.
    pub objects: &'a [Object],
    /// The model that saw it.
    pub model: &'a ModelInfo,
}

/// What became of an object.
#[derive(Debug, Clone, PartialEq)]
pub enum ObjectFate {
    /// It is in a mask.
    Masked,
    /// Nothing is followed, or it is too weak to begin a track.
    Unclaimed,
    /// It is the same as this other object of the frame, seen twice.
    Double(usize),
    /// Its track is not confirmed yet.
    Tentative,
    /// It is of this track.
    Tracked {
        /// The number of the track.
        id: u64,
        /// The zones that the track is in.
        zones: Arc<[Arc<str>]>,
    },
}

/// What came of a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Staged {
    /// What became of each object, in their order.
    pub fates: Vec<ObjectFate>,
    /// What there is to tell, in order.
    pub news: Vec<TrackNews>,
    /// Whether anything is followed.
    pub is_followed: bool,
}

/// Follows what a camera stream sees.
#[derive(Debug)]
pub struct Stage {
    ids: Arc<TrackIds>,
    settings: StageSettings,
    clock: MediaClock,
    labels: Labels,
    tracker: Tracker,
    scene: Scene,
    /// What was told last of each confirmed track, by its serial.
    told: BTreeMap<u64, Told>,
    /// The observations of a look, and the object that each is of.
    observations: Vec<Observation>,
    observed: Vec<usize>,
    now: Now,
}

/// What was told of a track.
#[derive(Debug)]
struct Told {
    /// When anything was told last, and what the track was taken for then.
    at: Duration,
    label: LabelId,
    /// When it was seen first and confirmed, as it was told then: events of a track agree on it.
    first_seen_at: Instant,
    confirmed_at: Instant,
}

/// The last look.
#[derive(Debug, Clone, Copy)]
struct Now {
    media: Duration,
    instant: Instant,
    frame: PictureSize,
}

impl Now {
    /// The moment of a media time that is not later.
    fn instant_of(&self, media: Duration) -> Instant {
        let before = self.media.saturating_sub(media);
        self.instant.checked_sub(before).unwrap_or(self.instant)
    }
}

impl StageSettings {
    fn tracker(&self) -> TrackerSettings {
        TrackerSettings {
            confirm: self.track.confirm,
            lost: self.track.lost,
            min_score: self.min_score,
        }
    }
}

impl Stage {
    /// A stage that has seen nothing yet. `ids` are those of the node.
    pub fn new(settings: StageSettings, ids: Arc<TrackIds>) -> Self {
        Self {
            ids,
            clock: MediaClock::default(),
            labels: Labels::default(),
            tracker: Tracker::new(settings.tracker()),
            scene: Scene::new(&settings.scene, settings.track.stationary),
            told: BTreeMap::new(),
            observations: Vec::new(),
            observed: Vec::new(),
            now: Now {
                media: Duration::ZERO,
                instant: Instant::now(),
                frame: PictureSize {
                    width_px: 1,
                    height_px: 1,
                },
            },
            settings,
        }
    }

    /// Changes the settings. Tracks and counts live on; where nothing is followed any more, the tracks end, which is told.
    pub fn set(&mut self, settings: StageSettings) -> Vec<TrackNews> {
        let is_over = self.settings.track.enabled && !settings.track.enabled;
        let news = match is_over {
            true => self.end(TrackEnd::CameraRemoved),
            false => Vec::new(),
        };
        self.tracker.set(settings.tracker());
        self.scene.set(&settings.scene, settings.track.stationary);
        self.settings = settings;
        news
    }

    /// Takes in what was seen in a frame.
    pub fn look(&mut self, look: Look<'_>) -> Staged {
        self.now = Now {
            media: self
                .clock
                .time(look.timing.rtp_timestamp.0, look.timing.received_at),
            instant: look.timing.received_at,
            frame: look.size,
        };
        let mut fates = self.observe(&look);
        if !self.settings.track.enabled {
            return Staged {
                fates,
                news: Vec::new(),
                is_followed: false,
            };
        }
        let now = self.now.media;
        let looked = self.tracker.look(now, &self.observations, &self.ids);
        for (n, belonging) in looked.belongings.iter().enumerate() {
            fates[self.observed[n]] = match belonging {
                Belonging::None => ObjectFate::Unclaimed,
                Belonging::Double(of) => ObjectFate::Double(self.observed[*of]),
                Belonging::Track(_) => ObjectFate::Tentative,
            };
        }
        let ended: Vec<_> = looked.ended.to_vec();
        let mut news = Vec::new();
        for n in 0..self.tracker.tracks().len() {
            if let Some((observation, fate)) = self.follow(n, Scene::seen, &mut news) {
                fates[self.observed[observation]] = fate;
            }
        }
        for (track, reason) in ended {
            self.over(&track, reason.into(), &mut news);
        }
        Staged {
            fates,
            news,
            is_followed: true,
        }
    }

    /// Takes in a frame that shows what the last look showed, and gives what there is to tell: who was seen then is still where they
    /// were, and time goes on for them.
    pub fn unchanged(&mut self, timing: FrameTiming) -> Vec<TrackNews> {
        self.now.media = self.clock.time(timing.rtp_timestamp.0, timing.received_at);
        self.now.instant = timing.received_at;
        let mut news = Vec::new();
        if self.settings.track.enabled {
            for n in 0..self.tracker.tracks().len() {
                self.follow(n, Scene::unchanged, &mut news);
            }
        }
        news
    }

    /// Ends all tracks, and gives what is to be told of that.
    pub fn end(&mut self, reason: TrackEnd) -> Vec<TrackNews> {
        let mut news = Vec::new();
        for track in self.tracker.end_all() {
            self.over(&track, reason, &mut news);
        }
        news
    }

    /// The tracks that were confirmed and live.
    pub fn facts(&self) -> impl Iterator<Item = TrackFacts> {
        self.tracker
            .tracks()
            .iter()
            .filter_map(|track| self.facts_of(track, self.scene.place(track.serial)))
    }

    /// True if no track waits for a decision: none is tentative, none was lost that had moved, and none may just have crossed a line.
    pub fn is_settled(&self) -> bool {
        let is_settled = |track: &Track| match track.state {
            TrackState::Tentative => false,
            TrackState::Confirmed => {
                let place = self.scene.place(track.serial);
                !place.is_some_and(Place::is_crossing)
            }
            TrackState::Lost => {
                let place = self.scene.place(track.serial);
                place.is_some_and(|place| place.stationary)
            }
        };
        self.tracker.tracks().iter().all(is_settled)
    }

    /// How many tracks there are of each state.
    pub fn counts(&self) -> [usize; 3] {
        let of = |state| {
            let tracks = self.tracker.tracks().iter();
            tracks.filter(|track| track.state == state).count()
        };
        [
            TrackState::Tentative,
            TrackState::Confirmed,
            TrackState::Lost,
        ]
        .map(of)
    }

    /// The zones and lines, with where tracks stand with them.
    pub fn scene(&self) -> &Scene {
        &self.scene
    }

    /// The tracks, tentative ones too.
    pub fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// Media time of the last look.
    pub fn now(&self) -> Duration {
        self.now.media
    }

    /// When the frame of the last look came.
    pub fn seen_at(&self) -> Instant {
        self.now.instant
    }

    /// Makes observations of the objects. One that is in a mask, or nowhere, is none.
    fn observe(&mut self, look: &Look<'_>) -> Vec<ObjectFate> {
        self.observations.clear();
        self.observed.clear();
        let fate = |(n, object): (usize, &Object)| {
            let Some(bbox) = relative(object, look.size) else {
                return ObjectFate::Unclaimed;
            };
            let label = look.model.label(object.class_id);
            if self.scene.is_masked(&bbox, label) {
                return ObjectFate::Masked;
            }
            self.observed.push(n);
            self.observations.push(Observation {
                bbox,
                score: object.score,
                label: self.labels.id(label, object.class_id),
            });
            ObjectFate::Unclaimed
        };
        look.objects.iter().enumerate().map(fate).collect()
    }

    /// Takes what a look brought for a track to the scene, and tells what has changed. Gives the observation that is of it and what
    /// has become of that, if it was seen.
    fn follow(
        &mut self,
        n: usize,
        judge: impl Fn(&mut Scene, Duration, &Track, &str) -> SceneChange,
        news: &mut Vec<TrackNews>,
    ) -> Option<(usize, ObjectFate)> {
        let now = self.now.media;
        let track = &self.tracker.tracks()[n];
        let (id, observation) = (track.id?, track.observation?);
        let label = self.labels.get(track.label);
        let name = label.map_or("", |label| &label.name);
        let change = judge(&mut self.scene, now, track, name);
        let serial = track.serial;
        let facts = self.facts_of(track, self.scene.place(serial))?;
        let fate = ObjectFate::Tracked {
            id,
            zones: Arc::clone(&facts.zones),
        };
        let told = self.told.get(&serial);
        let what = match told {
            None => Some(Happening::Start),
            Some(_) if change.zones => Some(Happening::Update(UpdateReason::Zones)),
            Some(told) if told.label != track.label => Some(Happening::Update(UpdateReason::Label)),
            Some(_) if change.stationary => Some(Happening::Update(UpdateReason::Stationary)),
            Some(told) => {
                let times = if facts.stationary {
                    STATIONARY_UPDATES
                } else {
                    1
                };
                let due = told.at + self.settings.track.update * times;
                (now >= due).then_some(Happening::Update(UpdateReason::Interval))
            }
        };
        if let Some(what) = what {
            let told = Told {
                at: now,
                label: track.label,
                first_seen_at: facts.first_seen_at,
                confirmed_at: facts.confirmed_at,
            };
            self.told.insert(serial, told);
            news.push(TrackNews {
                what,
                track: facts.clone(),
            });
        }
        for crossing in change.crossings {
            news.push(TrackNews {
                what: Happening::Crossed(crossing),
                track: facts.clone(),
            });
        }
        Some((observation, fate))
    }

    fn over(&mut self, track: &Track, reason: TrackEnd, news: &mut Vec<TrackNews>) {
        let place = self.scene.ended(track.serial);
        let facts = self.facts_of(track, place.as_ref());
        let was_told = self.told.remove(&track.serial).is_some();
        if let Some(facts) = facts
            && was_told
        {
            news.push(TrackNews {
                what: Happening::End(reason),
                track: facts,
            });
        }
    }

    fn facts_of(&self, track: &Track, place: Option<&Place>) -> Option<TrackFacts> {
        let label = self.labels.get(track.label);
        let told = self.told.get(&track.serial);
        let first_seen_at = || self.now.instant_of(track.first_seen);
        let confirmed_at = || {
            self.now
                .instant_of(track.confirmed_at.unwrap_or(track.first_seen))
        };
        Some(TrackFacts {
            id: track.id?,
            label: label.map_or_else(|| "".into(), |label| Arc::clone(&label.name)),
            class_id: label.map_or(0, |label| label.class_id),
            score: track.score,
            top_score: track.top_score,
            bbox: track.bbox,
            velocity: track.velocity,
            frame: self.now.frame,
            first_seen_at: told.map_or_else(first_seen_at, |told| told.first_seen_at),
            confirmed_at: told.map_or_else(confirmed_at, |told| told.confirmed_at),
            last_seen_at: self.now.instant_of(track.last_seen),
            is_lost: track.state == TrackState::Lost,
            stationary: place.is_some_and(|place| place.stationary),
            zones: place.map_or_else(|| Arc::from([]), |place| Arc::clone(&place.zones)),
            visited: place.map(|place| place.visited.clone()).unwrap_or_default(),
        })
    }
}

/// The box of an object in parts of the picture.
#[expect(
    clippy::cast_precision_loss,
    reason = "pictures have far fewer than 2^24 pixels in a row"
)]
fn relative(object: &Object, size: PictureSize) -> Option<RelativeBox> {
    let (width, height) = (size.width_px as f32, size.height_px as f32);
    let bbox = &object.bbox;
    RelativeBox::new(
        bbox.x / width,
        bbox.y / height,
        (bbox.x + bbox.width) / width,
        (bbox.y + bbox.height) / height,
    )
}

#[cfg(test)]
#[path = "stage_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "stage_life_tests.rs"]
mod life_tests;
