//! How crowded the processors are, as inference sees it: how long its runs waited for one, beyond the time that they worked,
//! comes in from the workers, what they lately waited goes out to the ladders of all streams. Shared; a lock is held for a few
//! instructions.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What was told longer ago says nothing. Runs that wait for a processor take seconds at most.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3);

/// What inference lately waited for a processor beyond the time that it worked, over all workers.
#[derive(Debug, Default)]
pub struct InferenceLag {
    last: Mutex<Option<Told>>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    at: Instant,
    smoothed: Duration,
}

impl InferenceLag {
    /// A run waited this long, all in all.
    pub fn tell(&self, waited: Duration, now: Instant) {
        let before = self.lately(now);
        *self.lock() = Some(Told {
            at: now,
            smoothed: (before * 3 + waited) / 4,
        });
    }

    /// What the last few runs waited; nothing if there was none in the last seconds.
    pub fn lately(&self, now: Instant) -> Duration {
        self.lock()
            .filter(|told| now.saturating_duration_since(told.at) < FORGOTTEN_AFTER)
            .map_or(Duration::ZERO, |told| told.smoothed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Told>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_is_told_and_forgets_it() {
        let (lag, now) = (InferenceLag::default(), Instant::now());
        let ms = Duration::from_millis;
        assert_eq!(lag.lately(now), Duration::ZERO);
        for _ in 0..20 {
            lag.tell(ms(200), now);
        }
        assert!((ms(195)..=ms(200)).contains(&lag.lately(now)));
        lag.tell(ms(0), now);
        assert!(lag.lately(now) > ms(100), "one run decides nothing");
        assert_eq!(lag.lately(now + FORGOTTEN_AFTER), Duration::ZERO);
    }
}
