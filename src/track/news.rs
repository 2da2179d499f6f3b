//! What there is to tell of tracks: they begin, change, end and cross lines. The stage makes it, and events are made of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::RelativeBox;
use super::scene::Crossing;
use super::tracker::EndReason;
use twinsight_media::label_enum;
use twinsight_media::picture::PictureSize;

/// Something to tell of a track.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackNews {
    /// What happened.
    pub what: Happening,
    /// The track, as it is by then.
    pub track: TrackFacts,
}

/// What happened to a track.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// It was confirmed. This comes once, before all else that is told of it.
    Start,
    /// It goes on.
    Update(UpdateReason),
    /// It is over. This comes once, after all else that is told of it.
    End(TrackEnd),
    /// It crossed a line.
    Crossed(Crossing),
}

label_enum! {
    /// Why an update of a track is told.
    pub enum UpdateReason {
        /// It came into a zone or left one.
        Zones = "zones",
        /// It is taken for something else by now.
        Label = "label",
        /// It became stationary, or moves again.
        Stationary = "stationary",
        /// It was time for one.
        Interval = "interval",
    }
}

label_enum! {
    /// Why a track is over.
    pub enum TrackEnd {
        /// It was not seen again.
        Lost = "lost",
        /// It went out of the picture.
        Left = "left",
        /// Its camera is no longer configured, or is no longer followed.
        CameraRemoved = "cameraRemoved",
        /// The node stops.
        Shutdown = "shutdown",
    }
}

impl From<EndReason> for TrackEnd {
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::Lost => Self::Lost,
            EndReason::Left => Self::Left,
        }
    }
}

/// A track that was confirmed, as events and the API tell of it.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackFacts {
    /// Its number in the run.
    pub id: u64,
    /// What it was taken for most of its life.
    pub label: Arc<str>,
    /// The class of that label in the camera's model.
    pub class_id: usize,
    /// The score of its last sighting.
    pub score: f32,
    /// The best score of its life.
    pub top_score: f32,
    /// Where it is.
    pub bbox: RelativeBox,
    /// Parts of the picture's width and height in a second.
    pub velocity: [f32; 2],
    /// The size of the frame, which makes pixels of the parts.
    pub frame: PictureSize,
    /// When the frame of its first sighting came.
    pub first_seen_at: Instant,
    /// When the frame that confirmed it came.
    pub confirmed_at: Instant,
    /// When the frame of its last sighting came.
    pub last_seen_at: Instant,
    /// It was not seen at the last look.
    pub is_lost: bool,
    /// It has not left its place for a while.
    pub stationary: bool,
    /// The zones that it is in.
    pub zones: Arc<[Arc<str>]>,
    /// All zones that it was in, in the order in which it came into them, each with the time that it spent in it.
    pub visited: Vec<(Arc<str>, Duration)>,
}
