//! How what a camera sees is followed, and whether pictures that do not change are inferred.

use std::time::Duration;

use super::file::{Given, TrackSection};
use super::resolve::Resolver;
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
    /// Which pictures the model looks at.
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

impl Resolver<'_> {
    /// Checks a table `track` over what holds without it.
    pub(super) fn track(
        &self,
        section: &str,
        given: &TrackSection,
        base: TrackConfig,
    ) -> TrackConfig {
        let ms = |name: &str, given: &Option<Given<i64>>, range, base| {
            self.ms(&format!("{section}.{name}"), given.as_ref(), range, base)
        };
        TrackConfig {
            enabled: given
                .enabled
                .as_ref()
                .map_or(base.enabled, |given| given.value),
            confirm: ms("confirm_ms", &given.confirm_ms, (0, 60_000), base.confirm),
            lost: ms("lost_ms", &given.lost_ms, (100, 600_000), base.lost),
            stationary: ms(
                "stationary_ms",
                &given.stationary_ms,
                (1000, 86_400_000),
                base.stationary,
            ),
            update: ms("update_ms", &given.update_ms, (100, 3_600_000), base.update),
        }
    }

    /// A time in milliseconds, or what holds without it.
    pub(super) fn ms(
        &self,
        key: &str,
        given: Option<&Given<i64>>,
        range: (u32, u32),
        base: Duration,
    ) -> Duration {
        let Some(given) = given else {
            return base;
        };
        let ms = self.integer(key, given, range);
        self.or(ms.map(|ms| Duration::from_millis(u64::from(ms))), base)
    }
}
