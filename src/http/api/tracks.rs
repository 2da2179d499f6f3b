//! What the API says of tracks: of those that live and those that ended lately, and of the zones and lines of a camera. What the
//! stages know comes in, and views that serde can write go out.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::clock::WallClock;
use crate::config::{LineJson, MaskJson, SceneConfig, SceneJson, ZoneJson};
use crate::publish::event::CameraRef;
use crate::publish::object::BoxJson;
use crate::publish::track_event::{TrackJson, box_px};
use crate::track::directory::{EndedTrack, TracksReading};
use crate::track::news::TrackFacts;
use crate::track::scene::{LineCounts, Reach};
use twinsight_client::stream_id::StreamId;
use twinsight_media::label_enum;

/// So many tracks that ended are listed at most.
pub(crate) const MAX_ENDED: usize = 256;

label_enum! {
    /// Where a track is in its life.
    pub enum ListedState {
        /// It was seen at the last look.
        Confirmed = "confirmed",
        /// It was not, and may be seen again.
        Lost = "lost",
        /// It is over.
        Ended = "ended",
    }
}

/// A track with all that is listed of it.
#[derive(Debug)]
pub(crate) struct ListedTrack {
    pub(crate) stream: StreamId,
    pub(crate) name: Arc<str>,
    pub(crate) track: TrackOfList,
    /// The number of its best picture, if there is one.
    pub(crate) shot: Option<u64>,
}

impl ListedTrack {
    /// The track's own id.
    pub(crate) fn id(&self) -> u64 {
        self.track.facts().id
    }
}

/// A track that lives or is over.
#[derive(Debug)]
pub(crate) enum TrackOfList {
    Live(TrackFacts),
    Ended(EndedTrack),
}

impl TrackOfList {
    pub(crate) fn facts(&self) -> &TrackFacts {
        match self {
            Self::Live(track) => track,
            Self::Ended(ended) => &ended.track,
        }
    }

    pub(crate) fn state(&self) -> ListedState {
        match self {
            Self::Live(track) if track.is_lost => ListedState::Lost,
            Self::Live(_) => ListedState::Confirmed,
            Self::Ended(_) => ListedState::Ended,
        }
    }
}

/// The JSON of `/api/tracks`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TracksView<'a> {
    run_id: &'a str,
    tracks: Vec<TrackView<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TrackView<'a> {
    camera: CameraRef<'a>,
    state: &'static str,
    /// Why it is over.
    reason: Option<&'static str>,
    #[serde(flatten)]
    track: TrackJson<'a>,
    frame: FrameView,
    ended_at: Option<u64>,
    best_shot: Option<String>,
}

#[derive(Debug, Serialize)]
struct FrameView {
    width: usize,
    height: usize,
}

impl<'a> TracksView<'a> {
    /// The view of these tracks, with the newest first.
    pub(crate) fn new(
        run_id: &'a str,
        mut tracks: Vec<&'a ListedTrack>,
        clock: &WallClock,
    ) -> Self {
        tracks.sort_by_key(|listed| std::cmp::Reverse(listed.id()));
        let view = |listed: &'a ListedTrack| {
            let facts = listed.track.facts();
            let ended = match &listed.track {
                TrackOfList::Live(_) => None,
                TrackOfList::Ended(ended) => Some(ended),
            };
            TrackView {
                camera: CameraRef::new(&listed.stream, &listed.name),
                state: listed.track.state().as_str(),
                reason: ended.map(|ended| ended.reason.as_str()),
                track: TrackJson::new(facts, |at| clock.unix_ms(at)),
                frame: FrameView {
                    width: facts.frame.width_px,
                    height: facts.frame.height_px,
                },
                ended_at: ended.map(|ended| clock.unix_ms(ended.at)),
                best_shot: best_shot(facts.id, listed.shot),
            }
        };
        Self {
            run_id,
            tracks: tracks.into_iter().map(view).collect(),
        }
    }
}

/// The path of a track's picture, if it has one. It names the picture by its number, so that a better one has another path, and a page
/// that shows this one sees that there is something to load.
fn best_shot(id: u64, shot: Option<u64>) -> Option<String> {
    shot.map(|number| format!("/api/tracks/{id}/best.jpg?n={number}"))
}

/// What a camera follows, where it stands with its zones and lines, and whether these can be changed here.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SceneView {
    tracks: Vec<ShortTrack>,
    zones: Vec<ZoneView>,
    lines: Vec<LineView>,
    masks: Vec<MaskJson>,
    /// It differs where zones, lines or masks differ; a change gives it back as `If-Match`.
    scene_tag: String,
    /// Whether zones, lines and masks may be changed over HTTP.
    edit: bool,
    /// Why not, and what to do about it.
    edit_refusal: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShortTrack {
    id: String,
    label: String,
    state: &'static str,
    #[serde(rename = "box")]
    bbox: BoxJson,
    stationary: bool,
    zones: Vec<String>,
    best_shot: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ZoneView {
    #[serde(flatten)]
    zone: ZoneJson,
    objects: BTreeMap<String, usize>,
    /// Whether it covers less of the picture than the boxes of the last minute; `null` if too little was seen.
    smaller_than_a_box: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct LineView {
    #[serde(flatten)]
    line: LineJson,
    r#in: u64,
    out: u64,
    /// Whether the tracks of the last minute could cross it; `null` if too little was seen.
    reached: Option<bool>,
}

impl SceneView {
    /// The view of what a stream follows. `shots` has the number of the best picture of each live track; `edit_refusal` says
    /// why zones, lines and masks may not be changed over HTTP.
    pub(crate) fn new(
        reading: &TracksReading,
        shots: &[Option<u64>],
        edit_refusal: Option<&'static str>,
    ) -> Self {
        let track = |(track, shot): (&TrackFacts, &Option<u64>)| ShortTrack {
            id: track.id.to_string(),
            label: track.label.to_string(),
            state: match track.is_lost {
                true => ListedState::Lost,
                false => ListedState::Confirmed,
            }
            .as_str(),
            bbox: box_px(&track.bbox, track.frame),
            stationary: track.stationary,
            zones: track.zones.iter().map(ToString::to_string).collect(),
            best_shot: best_shot(track.id, *shot),
        };
        let reach = &reading.reach;
        let zone = |(n, zone): (usize, _)| {
            let zone = ZoneJson::from(zone);
            let mut objects = BTreeMap::new();
            let within = |track: &&TrackFacts| track.zones.iter().any(|name| **name == *zone.name);
            for track in reading.live.iter().filter(within) {
                *objects.entry(track.label.to_string()).or_insert(0) += 1;
            }
            ZoneView {
                zone,
                objects,
                smaller_than_a_box: reach.smaller_than_a_box.get(n).copied().flatten(),
            }
        };
        let line = |(n, line): (usize, _)| {
            let line = LineJson::from(line);
            let counts = reading
                .counts
                .iter()
                .find(|counts| *counts.line == *line.name);
            let (r#in, out) = counts.map_or((0, 0), |counts| (counts.r#in, counts.out));
            LineView {
                line,
                r#in,
                out,
                reached: reach.lines.get(n).copied().flatten(),
            }
        };
        let SceneConfig {
            zones,
            lines,
            masks,
        } = &reading.scene;
        Self {
            tracks: reading.live.iter().zip(shots).map(track).collect(),
            zones: zones.iter().enumerate().map(zone).collect(),
            lines: lines.iter().enumerate().map(line).collect(),
            masks: masks.iter().map(MaskJson::from).collect(),
            scene_tag: SceneJson::from(&reading.scene).tag(),
            edit: edit_refusal.is_none(),
            edit_refusal,
        }
    }

    /// The view of a stream that nothing is known of yet but its configuration.
    pub(crate) fn of_config(scene: &SceneConfig, edit_refusal: Option<&'static str>) -> Self {
        let reading = TracksReading {
            live: Vec::new(),
            scene: scene.clone(),
            counts: Vec::<LineCounts>::new(),
            reach: Reach::default(),
        };
        Self::new(&reading, &[], edit_refusal)
    }
}
