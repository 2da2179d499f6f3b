//! How long to wait before trying again: an exponential that doubles from a first delay to a cap,
//! with jitter so that many clients do not come back in the same instant. Pure: the caller passes
//! the randomness in and does the waiting.

use std::time::Duration;

/// The delays before successive attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    failures: u32,
}

impl Default for Backoff {
    /// From 1 s to 30 s.
    fn default() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(30))
    }
}

impl Backoff {
    /// Doubles from `first` up to `cap`; a `cap` below `first` holds for the first delay too.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap,
            failures: 0,
        }
    }

    /// The delay before the next attempt: between half and all of the step that is due.
    ///
    /// `random` is drawn uniformly from 0 to 1 by the caller; anything else is clamped.
    pub fn next_delay(&mut self, random: f64) -> Duration {
        let step = self.step();
        self.failures = self.failures.saturating_add(1);
        let random = if random.is_finite() {
            random.clamp(0.0, 1.0)
        } else {
            1.0
        };
        let half = step / 2;
        half + (step - half).mul_f64(random)
    }

    /// Starts again from the first delay, after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Changes the longest delay; what has been counted stays.
    pub fn set_cap(&mut self, cap: Duration) {
        self.cap = cap;
    }

    /// Delays handed out since the last reset.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The step that is due, before jitter.
    fn step(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn doubles_from_one_second_to_thirty() {
        let mut backoff = Backoff::default();
        let seconds: Vec<_> = (0..8).map(|_| backoff.next_delay(1.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.next_delay(1.0), Duration::from_secs(1));
        assert_eq!(backoff.next_delay(0.0), Duration::from_secs(1));
    }

    #[test]
    fn a_smaller_cap_holds_at_once() {
        let mut backoff = Backoff::default();
        for _ in 0..6 {
            backoff.next_delay(0.5);
        }
        backoff.set_cap(Duration::from_secs(5));
        assert_eq!(backoff.next_delay(1.0), Duration::from_secs(5));
    }

    proptest! {
        #[test]
        fn every_delay_is_within_its_step(
            first_ms in 0_u64..100_000,
            cap_ms in 0_u64..10_000_000,
            randoms in prop::collection::vec(any::<f64>(), 1..80),
        ) {
            let (first, cap) = (Duration::from_millis(first_ms), Duration::from_millis(cap_ms));
            let mut backoff = Backoff::new(first, cap);
            let mut step = first.min(cap);
            for random in randoms {
                let delay = backoff.next_delay(random);
                prop_assert!(delay <= step, "{delay:?} > {step:?}");
                prop_assert!(delay >= step / 2, "{delay:?} < half of {step:?}");
                step = (step * 2).min(cap);
            }
        }
    }
}
