//! Clocks. Monotonic time decides everything and is passed in as `now`; wall-clock time is
//! information, computed from a monotonic instant at the moment it is needed. [`SuspendDetector`] tells a process that did
//! not run from one that hangs.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 at which `instant` was or will be, by the wall clock of now.
///
/// The wall clock may have been set since `instant`; the distance is monotonic all the same.
pub fn unix_ms(instant: Instant) -> u64 {
    WallClock::read().unix_ms(instant)
}

/// One reading of both clocks, so that several instants convert consistently.
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    instant: Instant,
    since_epoch: Duration,
}

impl WallClock {
    /// Reads both clocks.
    pub fn read() -> Self {
        Self {
            instant: Instant::now(),
            since_epoch: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        }
    }

    /// The instant of the reading.
    pub fn instant(&self) -> Instant {
        self.instant
    }

    /// Milliseconds since 1970 of `instant`, 0 for anything before 1970.
    pub fn unix_ms(&self, instant: Instant) -> u64 {
        let since_epoch = if instant >= self.instant {
            self.since_epoch + (instant - self.instant)
        } else {
            self.since_epoch.saturating_sub(self.instant - instant)
        };
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Recognises that the whole process did not run for a while: it was stopped by a signal, or its machine was. Time that
/// passed meanwhile says nothing about who hangs.
///
/// It lives in a loop that goes round at a steady pace and does nothing long, and is asked each time round.
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

/// A loop that comes later than this is taken for one that could not run. A crowded machine delays a thread by less.
const MAX_DELAY: Duration = Duration::from_secs(3);

impl SuspendDetector {
    /// For a loop that goes round once in `period`.
    pub fn new(period: Duration) -> Self {
        Self { period, last: None }
    }

    /// The loop goes round at `now`. `Some`: for so long it should have gone round and could not, so that whoever is
    /// watched gets a new start at `now`.
    pub fn tick(&mut self, now: Instant) -> Option<Duration> {
        let stopped = self.stopped(now);
        self.skip(now);
        stopped
    }

    /// As [`tick`](Self::tick), asked by somebody else than the loop: the loop's next turn is not late because of it, and
    /// nothing is found before the loop has gone round once.
    pub fn stopped(&self, now: Instant) -> Option<Duration> {
        let late = now
            .saturating_duration_since(self.last?)
            .saturating_sub(self.period);
        (late > MAX_DELAY).then_some(late)
    }

    /// What the loop did until `now` took long and is no suspension.
    pub fn skip(&mut self, now: Instant) {
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
