//! Clocks. Monotonic time decides everything and is passed in as `now`; wall-clock time is
//! information, computed from a monotonic instant at the moment it is needed.

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

#[cfg(test)]
mod tests {
    use super::*;

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
