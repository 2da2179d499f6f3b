//! Clocks. Monotonic time decides everything and is passed in as `now`. Wall-clock time is only information: [`WallClock`]
//! computes it from a monotonic instant where an event is written. [`SuspendDetector`] tells a process that did not run from
//! one that hangs.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970; 0 for anything before 1970.
pub(crate) fn unix_ms(at: SystemTime) -> u64 {
    let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// One reading of both clocks, so that several instants convert consistently. If the wall clock was set since an instant, the
/// distance to now is right all the same, since it is monotonic.
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    instant: Instant,
    since_epoch: Duration,
}

impl WallClock {
    /// Reads both clocks at once.
    pub fn read() -> Self {
        Self {
            instant: Instant::now(),
            since_epoch: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        }
    }

    /// When the clocks were read.
    pub fn instant(&self) -> Instant {
        self.instant
    }

    /// Milliseconds since 1970 at `instant`; 0 for anything before 1970.
    pub(crate) fn unix_ms(&self, instant: Instant) -> u64 {
        u64::try_from(self.since_epoch(instant).as_millis()).unwrap_or(u64::MAX)
    }

    /// Whole seconds since 1970 when the clocks were read.
    pub(crate) fn unix_s(&self) -> u64 {
        self.since_epoch.as_secs()
    }

    /// Nanoseconds since 1970 at `instant`; 0 for anything before 1970.
    #[cfg(feature = "otlp")]
    pub(crate) fn unix_ns(&self, instant: Instant) -> u64 {
        u64::try_from(self.since_epoch(instant).as_nanos()).unwrap_or(u64::MAX)
    }

    fn since_epoch(&self, instant: Instant) -> Duration {
        if instant >= self.instant {
            self.since_epoch + (instant - self.instant)
        } else {
            self.since_epoch.saturating_sub(self.instant - instant)
        }
    }
}

/// Recognises that the whole process did not run for a while, because a signal or its machine stopped it. The time that
/// passed meanwhile says nothing about who hangs.
///
/// It belongs to a loop that goes round at a steady pace and does nothing long, and that calls it in each round.
///
/// ```
/// # use twinsight::clock::SuspendDetector;
/// # use std::time::{Duration, Instant};
/// let (t, second) = (Instant::now(), Duration::from_secs(1));
/// let mut detector = SuspendDetector::new(second);
/// assert_eq!(detector.tick(t), None);
/// assert_eq!(detector.tick(t + second), None);
/// assert_eq!(detector.tick(t + 31 * second), Some(29 * second));
/// ```
#[derive(Debug, Clone)]
pub struct SuspendDetector {
    period: Duration,
    last: Option<Instant>,
}

/// A loop that is later than this could not run. A crowded machine delays a thread by less.
const MAX_DELAY: Duration = Duration::from_secs(3);

impl SuspendDetector {
    /// A detector for a loop that goes round once in `period`.
    pub fn new(period: Duration) -> Self {
        Self { period, last: None }
    }

    /// To be called in each round of the loop. `Some` says for how long the loop should have run and could not: time limits of
    /// whatever it watches begin again at `now`.
    pub fn tick(&mut self, now: Instant) -> Option<Duration> {
        let stopped = self.stopped(now);
        self.skip(now);
        stopped
    }

    /// The same question, asked by somebody else than the loop. It does not count as a round, and finds nothing before the
    /// loop's first one.
    pub(crate) fn stopped(&self, now: Instant) -> Option<Duration> {
        let late = now
            .saturating_duration_since(self.last?)
            .saturating_sub(self.period);
        (late > MAX_DELAY).then_some(late)
    }

    /// Says that the loop itself took long until `now`, so that this is not taken for a suspension.
    pub(crate) fn skip(&mut self, now: Instant) {
        self.last = self.last.max(Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_was_stopped_is_told_from_a_loop_that_is_late() {
        let (t, s) = (Instant::now(), Duration::from_secs);
        let mut detector = SuspendDetector::new(s(1));
        assert_eq!(detector.stopped(t + s(60)), None, "it has not begun");
        assert_eq!(detector.tick(t), None);
        assert_eq!(detector.tick(t + s(3)), None, "two seconds late");
        assert_eq!(detector.stopped(t + s(34)), Some(s(30)));
        assert_eq!(detector.tick(t + s(34)), Some(s(30)));
        assert_eq!(detector.tick(t + s(35)), None, "it is told once");
        detector.skip(t + s(95));
        assert_eq!(detector.tick(t + s(96)), None, "its own work took long");
        assert_eq!(detector.tick(t + s(90)), None, "time never goes back");
        assert_eq!(detector.tick(t + s(97)), None);
    }

    #[test]
    fn distances_between_instants_survive_the_conversion() {
        let clock = WallClock::read();
        let t = clock.instant();
        assert_eq!(
            clock.unix_ms(t + Duration::from_millis(47)) - clock.unix_ms(t),
            47
        );
    }

    #[test]
    fn instants_before_1970_are_zero() {
        let clock = WallClock {
            instant: Instant::now(),
            since_epoch: Duration::ZERO,
        };
        let Some(earlier) = clock.instant.checked_sub(Duration::from_millis(1)) else {
            return;
        };
        assert_eq!(clock.unix_ms(earlier), 0);
    }
}
