//! What others know of a track and of a look: the words in which the tracker answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::track::{LabelId, RelativeBox};

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
    /// Where it is believed to be: near to where it was seen at this look, but steadier, or else where it is expected.
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
