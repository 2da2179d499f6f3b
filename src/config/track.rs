//! How what a camera sees is followed, and whether pictures that do not change are inferred.

use std::time::Duration;

use twinsight_media::label_enum;

/// How what is seen is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackConfig {
    /// Whether anything is followed. Without it there are no tracks, and zones and lines tell nothing.
    pub enabled: bool,
    /// A track is confirmed when it was seen twice and is this old.
    pub confirm: Duration,
    /// A track that is not seen for this long ends.
    pub lost: Duration,
    /// What has not left its place for this long is stationary.
    pub stationary: Duration,
    /// A track has at most one `update` in this time, unless something of it changes.
    pub update: Duration,
}

/// Whether pictures that do not change are inferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MotionConfig {
    /// Whether they are.
    pub mode: MotionMode,
    /// One picture is inferred in this time, even if nothing changes.
    pub max_skip: Duration,
}

label_enum! {
    /// Whether pictures that do not change are inferred.
    pub enum MotionMode {
        /// Every picture is.
        Off = "off",
        /// Only those that differ from the last one that was.
        Gate = "gate",
    }
}

impl Default for TrackConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            confirm: Duration::from_millis(300),
            lost: Duration::from_millis(2000),
            stationary: Duration::from_millis(10_000),
            update: Duration::from_millis(1000),
        }
    }
}

impl Default for MotionConfig {
    fn default() -> Self {
        Self {
            mode: MotionMode::Off,
            max_skip: Duration::from_millis(5000),
        }
    }
}
