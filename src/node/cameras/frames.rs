//! Where the frames of a camera go. They come in on its decoding thread and go to the scheduler; whether all of them come
//! too slowly to be inferred is told to the camera's status.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::catch_up::{Age, CatchUp};
use crate::detect::worker::CameraScheduler;
use crate::schedule::scheduler::{Pace, SourceId};
use crate::telemetry::metrics::StreamMetrics;
use twinsight_client::media::camera::FrameHandler;
use twinsight_client::rate_limit::{RATE_LIMIT, RateLimit};
use twinsight_media::ledger::ShedLevel;

/// A frame that took no longer than this to come did not come slowly, whatever `max_age_ms` says.
const SLOW: Duration = Duration::from_millis(50);

/// Every frame must have come too slowly for this long before the camera is said to be blind.
const SLOW_FOR: Duration = Duration::from_secs(5);

/// Whether all frames of a camera take so long to come that none can be inferred. Such a camera is blind although it sends.
#[derive(Debug)]
struct Slowness {
    since: Option<Instant>,
    /// When the last frame came that took too long.
    last: Option<Instant>,
    /// All frames have come too slowly for [`SLOW_FOR`], and none has come in time since.
    is_slow: bool,
    warnings: RateLimit<()>,
}

impl Default for Slowness {
    fn default() -> Self {
        Self {
            since: None,
            last: None,
            is_slow: false,
            warnings: RateLimit::new(RATE_LIMIT),
        }
    }
}

impl Slowness {
    /// Takes in a frame. `Some` means that it is time to warn, and says how many warnings were left out before.
    fn frame(&mut self, too_slow: bool, now: Instant) -> Option<u64> {
        if !too_slow {
            self.since = None;
            self.is_slow = false;
            return None;
        }
        // Two slow frames with a long time between them do not mean that every frame of that time was slow.
        let last = self.last.replace(now);
        if last.is_none_or(|last| now.saturating_duration_since(last) > SLOW_FOR) {
            self.since = None;
        }
        let since = *self.since.get_or_insert(now);
        let long = now.saturating_duration_since(since) >= SLOW_FOR;
        self.is_slow |= long;
        long.then(|| self.warnings.allow((), now)).flatten()
    }
}

/// Makes the handler that offers frames to the scheduler. While the stream sheds, it is served at half its pace.
pub(super) fn frame_handler(
    scheduler: Arc<CameraScheduler>,
    source: SourceId,
    metrics: Arc<StreamMetrics>,
    tell_slow: impl Fn(bool) + Send + 'static,
) -> FrameHandler {
    let mut pace = Pace::Usual;
    let mut catch_up = CatchUp::default();
    let mut slowness = Slowness::default();
    let mut was_slow = false;
    Box::new(move |frame| {
        let (timing, now) = (frame.timing(), Instant::now());
        let took = timing
            .completed_at
            .saturating_duration_since(timing.received_at);
        // The limit is asked for only where it may matter, since that takes the scheduler's lock.
        let too_slow = took >= SLOW && scheduler.max_age(source).is_some_and(|max| took > max);
        if let Some(suppressed) = slowness.frame(too_slow, now) {
            let (camera, receive_ms) = (metrics.id(), took.as_millis());
            tracing::warn!(%camera, receive_ms, suppressed, "every frame takes longer to come than max_age_ms, so none is inferred");
        }
        if slowness.is_slow != was_slow {
            was_slow = slowness.is_slow;
            tell_slow(was_slow);
        }
        let wanted = match metrics.shed_level() {
            ShedLevel::None => Pace::Usual,
            _ => Pace::Halved,
        };
        if wanted != pace {
            pace = wanted;
            scheduler.set_pace(source, pace);
        }
        match catch_up.age(timing.rtp_timestamp.0, timing.received_at) {
            // Its picture was needed to decode those after it, and tells nothing of now.
            Age::Past => scheduler.skip(source),
            Age::Unknown => scheduler.offer_doubtful(source, frame),
            Age::Present => scheduler.offer(source, frame),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_all_of_whose_frames_come_too_slowly_is_said_to_be_blind() {
        let mut slowness = Slowness::default();
        let start = Instant::now();
        let s = Duration::from_secs;
        for second in 0..5 {
            assert_eq!(slowness.frame(true, start + s(second)), None);
        }
        assert_eq!(slowness.frame(true, start + s(5)), Some(0));
        assert_eq!(slowness.frame(true, start + s(6)), None);
        // One frame in time, and nobody is blind.
        assert_eq!(slowness.frame(false, start + s(20)), None);
        assert_eq!(slowness.frame(true, start + s(21)), None);
        assert!(!slowness.is_slow);
        assert_eq!(slowness.frame(true, start + s(26)), Some(1));
        assert!(slowness.is_slow);
        assert_eq!(slowness.frame(false, start + s(27)), None);
        assert!(!slowness.is_slow, "it sees again");
    }

    #[test]
    fn two_slow_frames_with_a_pause_between_them_are_not_every_frame() {
        let mut slowness = Slowness::default();
        let start = Instant::now();
        for second in [0, 6, 20] {
            let now = start + Duration::from_secs(second);
            assert_eq!(slowness.frame(true, now), None, "{second}");
        }
        assert!(!slowness.is_slow);
    }
}
