//! The time by which leases run out. It goes on while the machine sleeps, as the clock of whoever keeps the lease does.

use std::time::Duration;

/// A moment, by a clock that never stops and that nobody can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LeaseTime(Duration);

impl LeaseTime {
    /// Reads the clock.
    pub(crate) fn now() -> Self {
        // Elsewhere the monotonic clock goes on while the machine sleeps, or there is no other.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let clock = rustix::time::ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let clock = rustix::time::ClockId::Monotonic;
        let now = rustix::time::clock_gettime(clock);
        Self(Duration::try_from(now).unwrap_or_default())
    }

    /// The moment that is so long after the clock began.
    #[cfg(test)]
    pub(crate) fn at(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// How long ago `earlier` was; nothing if it is still to come.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for LeaseTime {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0 + time)
    }
}
