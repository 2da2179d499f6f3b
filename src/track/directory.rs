//! The stages of all camera streams. Workers find the one of their frame's stream in here, and whoever asks by HTTP finds what
//! lives and what ended lately.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::best_shot::{BestShots, Shot, ShotBudget};
use super::news::{Happening, TrackEnd, TrackFacts, TrackNews};
use super::scene::{LineCounts, Reach};
use super::stage::{Look, ObjectFate, Stage, StageSettings, Staged};
use super::tracker::TrackIds;
use crate::config::SceneConfig;
use crate::telemetry::metrics::StreamMetrics;
use twinsight_client::stream_id::StreamId;
use twinsight_media::picture::{Frame, FrameTiming};

/// Of tracks that ended, a stream remembers so many.
const ENDED: usize = 256;

/// And so long.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// The stages of a node.
#[derive(Debug, Default)]
pub struct TrackDirectory {
    ids: Arc<TrackIds>,
    shots: Arc<ShotBudget>,
    streams: Mutex<BTreeMap<StreamId, Arc<CameraTracks>>>,
}

/// The stage of one camera stream, which outlives its connections and reloads.
#[derive(Debug)]
pub struct CameraTracks {
    /// Held by whoever makes news and hands them on, so that those of a track are told in the order in which they were made.
    order: Mutex<()>,
    metrics: Arc<StreamMetrics>,
    state: Mutex<State>,
    /// Taken before `state` by whoever needs both. Whoever takes pictures has it for a millisecond.
    shots: Mutex<BestShots>,
}

#[derive(Debug)]
struct State {
    /// The camera's name for people.
    name: Arc<str>,
    stage: Stage,
    ended: VecDeque<EndedTrack>,
    /// False once the camera is gone, so that a frame that is still in inference begins nothing.
    open: bool,
}

/// A track that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedTrack {
    /// As it was in the end.
    pub track: TrackFacts,
    /// Why it is over.
    pub reason: TrackEnd,
    /// When that was known.
    pub at: Instant,
}

/// What a camera stream follows, and where it stands with its zones and lines.
#[derive(Debug, Clone, PartialEq)]
pub struct TracksReading {
    /// The tracks that live, the newest first.
    pub live: Vec<TrackFacts>,
    /// The zones, lines and masks.
    pub scene: SceneConfig,
    /// How often each line was crossed, in their order.
    pub counts: Vec<LineCounts>,
    /// What the last minute tells of zones and lines.
    pub reach: Reach,
}

impl TrackDirectory {
    /// The stage of a camera stream, which is made with these settings if there is none.
    pub fn open(
        &self,
        metrics: &Arc<StreamMetrics>,
        name: &Arc<str>,
        settings: &StageSettings,
    ) -> Arc<CameraTracks> {
        let mut streams = self.streams.lock();
        let stage = || {
            let stage = Stage::new(settings.clone(), Arc::clone(&self.ids));
            Arc::new(CameraTracks {
                order: Mutex::default(),
                metrics: Arc::clone(metrics),
                state: Mutex::new(State {
                    name: Arc::clone(name),
                    stage,
                    ended: VecDeque::new(),
                    open: true,
                }),
                shots: Mutex::new(BestShots::new(&self.shots)),
            })
        };
        let tracks = streams.entry(metrics.id().clone()).or_insert_with(stage);
        Arc::clone(tracks)
    }

    /// Takes out the stage of a camera stream that is gone. Its tracks have to be ended.
    pub fn remove(&self, id: &StreamId) -> Option<Arc<CameraTracks>> {
        self.streams.lock().remove(id)
    }

    /// The stage of a camera stream.
    pub fn get(&self, id: &StreamId) -> Option<Arc<CameraTracks>> {
        self.streams.lock().get(id).cloned()
    }

    /// The stages of all camera streams, in the order of their ids.
    pub fn streams(&self) -> Vec<(StreamId, Arc<CameraTracks>)> {
        let streams = self.streams.lock();
        streams
            .iter()
            .map(|(id, tracks)| (id.clone(), Arc::clone(tracks)))
            .collect()
    }

    /// The best picture of a track that is listed, if there is one.
    pub fn best_shot(&self, track: u64) -> Option<Arc<Shot>> {
        let streams = self.streams();
        streams
            .iter()
            .find_map(|(_, tracks)| tracks.shots.lock().get(track).cloned())
    }
}

impl CameraTracks {
    /// Whoever makes news holds this until they are handed on.
    pub fn in_order(&self) -> MutexGuard<'_, ()> {
        self.order.lock()
    }

    /// Changes the settings and the camera's name, and gives what there is to tell of that.
    pub fn set(&self, name: &Arc<str>, settings: StageSettings) -> Vec<TrackNews> {
        let mut state = self.state.lock();
        state.name = Arc::clone(name);
        let news = state.stage.set(settings);
        self.told(state, &news);
        news
    }

    /// Takes in what was seen in a frame. `None` means that the camera is gone, so that nothing of the frame counts.
    pub fn look(&self, look: Look<'_>) -> Option<Staged> {
        let mut state = self.state.lock();
        if !state.open {
            return None;
        }
        let staged = state.stage.look(look);
        let masked = staged
            .fates
            .iter()
            .filter(|fate| **fate == ObjectFate::Masked);
        let masked = u64::try_from(masked.count()).unwrap_or(u64::MAX);
        self.metrics.tracks.masked(masked);
        self.told(state, &staged.news);
        Some(staged)
    }

    /// Takes in a frame that shows what the last one showed that was looked at, and gives what there is to tell.
    pub fn unchanged(&self, timing: FrameTiming) -> Vec<TrackNews> {
        let mut state = self.state.lock();
        if !state.open {
            return Vec::new();
        }
        let news = state.stage.unchanged(timing);
        self.told(state, &news);
        news
    }

    /// Takes pictures of the tracks that this frame shows better than any before, if it is the one that was looked at last.
    pub fn take_shots(&self, frame: &Frame) {
        let mut shots = self.shots.lock();
        let state = self.state.lock();
        let now = state.stage.now();
        if state.stage.seen_at() != frame.received_at() {
            return;
        }
        shots.judge(now, frame.size(), state.stage.tracker().tracks());
        // Cutting pictures out takes longer than judging, and nobody needs to wait for it who looks at the tracks alone.
        drop(state);
        shots.take(now, frame);
    }

    /// For each of these tracks, the number of its best picture, if there is one.
    pub fn shot_numbers(&self, tracks: impl Iterator<Item = u64>) -> Vec<Option<u64>> {
        let shots = self.shots.lock();
        tracks
            .map(|track| shots.get(track).map(|shot| shot.number()))
            .collect()
    }

    /// Ends all tracks, and gives what there is to tell of that. No frame counts after this.
    pub fn end(&self, reason: TrackEnd) -> Vec<TrackNews> {
        let mut state = self.state.lock();
        state.open = false;
        let news = state.stage.end(reason);
        self.told(state, &news);
        news
    }

    /// Ends all tracks like [`end`](Self::end), and goes on with new ones: those of a camera are told by one node alone, from their
    /// beginning.
    pub fn restart(&self, reason: TrackEnd) -> Vec<TrackNews> {
        let mut state = self.state.lock();
        let news = state.stage.end(reason);
        self.told(state, &news);
        news
    }

    /// Brings all that follows from news up to date.
    fn told(&self, mut state: MutexGuard<'_, State>, news: &[TrackNews]) {
        let forgotten = state.note(news);
        self.measure(&state, news);
        drop(state);
        self.settle_shots(news, &forgotten);
    }

    /// Notes which pictures are of tracks that ended, and forgets those of tracks that are not listed any more.
    fn settle_shots(&self, news: &[TrackNews], forgotten: &[u64]) {
        let mut ended = news
            .iter()
            .filter(|news| matches!(news.what, Happening::End(_)))
            .peekable();
        if ended.peek().is_none() && forgotten.is_empty() {
            return;
        }
        let mut shots = self.shots.lock();
        ended.for_each(|news| shots.ended(news.track.id));
        forgotten.iter().for_each(|id| shots.forget(*id));
    }

    /// True if no track waits for a decision, so that pictures that do not change need no look.
    pub fn is_settled(&self) -> bool {
        self.state.lock().stage.is_settled()
    }

    /// The camera's name for people.
    pub fn name(&self) -> Arc<str> {
        Arc::clone(&self.state.lock().name)
    }

    /// What the stream follows now.
    pub fn reading(&self) -> TracksReading {
        let state = self.state.lock();
        let mut live: Vec<TrackFacts> = state.stage.facts().collect();
        live.sort_by_key(|track| std::cmp::Reverse(track.id));
        TracksReading {
            live,
            scene: state.stage.scene().config().clone(),
            counts: state.stage.scene().counts().to_vec(),
            reach: state.stage.scene().reach(state.stage.now()),
        }
    }

    /// The tracks that ended lately, the last one first.
    pub fn ended(&self, now: Instant) -> Vec<EndedTrack> {
        let state = self.state.lock();
        let is_recent =
            |ended: &&EndedTrack| now.saturating_duration_since(ended.at) < REMEMBERED_FOR;
        state
            .ended
            .iter()
            .rev()
            .filter(is_recent)
            .cloned()
            .collect()
    }

    /// Brings the metrics up to date.
    fn measure(&self, state: &State, news: &[TrackNews]) {
        let metrics = &self.metrics.tracks;
        for news in news {
            let track = &news.track;
            match &news.what {
                Happening::Start => metrics.track_started(&track.label),
                Happening::Crossed(crossing) => {
                    let line = &crossing.counts.line;
                    metrics.line_crossed(line, crossing.direction.as_str(), &track.label);
                }
                Happening::Update(_) | Happening::End(_) => {}
            }
        }
        metrics.set_tracks(state.stage.counts());
        let zones = &state.stage.scene().config().zones;
        let zones: Vec<Arc<str>> = zones.iter().map(|zone| Arc::clone(&zone.name)).collect();
        let mut counts = BTreeMap::new();
        if !zones.is_empty() {
            for track in state.stage.facts() {
                for zone in track.zones.iter() {
                    let key = (Arc::clone(zone), Arc::clone(&track.label));
                    *counts.entry(key).or_insert(0) += 1;
                }
            }
        }
        metrics.set_zone_objects(&zones, &counts);
    }
}

impl State {
    /// Remembers the tracks that ended, and gives the ids of those that are forgotten for it.
    fn note(&mut self, news: &[TrackNews]) -> Vec<u64> {
        let now = Instant::now();
        for news in news {
            if let Happening::End(reason) = news.what {
                self.ended.push_back(EndedTrack {
                    track: news.track.clone(),
                    reason,
                    at: now,
                });
            }
        }
        let mut forgotten = Vec::new();
        while let Some(first) = self.ended.front()
            && (self.ended.len() > ENDED
                || now.saturating_duration_since(first.at) >= REMEMBERED_FOR)
        {
            forgotten.extend(self.ended.pop_front().map(|first| first.track.id));
        }
        forgotten
    }
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
