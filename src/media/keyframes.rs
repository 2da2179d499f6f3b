//! One token bucket for all keyframe requests of a node. A network that hiccups costs every camera a
//! picture at once: without a limit all of them would send their largest frames together.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Requests that may go out at once.
const BURST: f64 = 16.0;

/// What those who have time leave of it to those who have not.
const SPARED: f64 = BURST / 2.0;

/// Requests a second in the long run.
const PER_SECOND: f64 = 8.0;

/// The bucket, shared by all streams.
#[derive(Debug)]
pub struct KeyframeBudget {
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl KeyframeBudget {
    /// A full bucket.
    pub fn new(now: Instant) -> Self {
        Self {
            bucket: Mutex::new(Bucket {
                tokens: BURST,
                at: now,
            }),
        }
    }

    /// Takes a token for a request that is due now. Zero: send it. Else: send it after this long;
    /// the token is taken already, and `random` (0 to 1) spreads those that wait.
    pub fn reserve(&self, now: Instant, random: f64) -> Duration {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.refill(now);
        bucket.tokens -= 1.0;
        if bucket.tokens >= 0.0 {
            return Duration::ZERO;
        }
        let wait = -bucket.tokens / PER_SECOND;
        Duration::from_secs_f64(wait * (1.0 + random.clamp(0.0, 1.0) / 2.0))
    }

    /// Takes a token for a request that has time, if enough of them are left. False: ask again later.
    pub fn reserve_spare(&self, now: Instant) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.refill(now);
        let spare = bucket.tokens >= SPARED + 1.0;
        if spare {
            bucket.tokens -= 1.0;
        }
        spare
    }
}

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let refill = now.saturating_duration_since(self.at).as_secs_f64() * PER_SECOND;
        self.tokens = (self.tokens + refill).min(BURST);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_spread_and_a_single_request_is_not_delayed() {
        let start = Instant::now();
        let budget = KeyframeBudget::new(start);
        let delays: Vec<_> = (0..50).map(|_| budget.reserve(start, 0.0)).collect();
        assert_eq!(delays.iter().filter(|delay| delay.is_zero()).count(), 16);
        assert!(delays.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(delays[49], Duration::from_secs_f64(34.0 / PER_SECOND));
        assert!(
            budget
                .reserve(start + Duration::from_secs(10), 1.0)
                .is_zero()
        );
    }

    #[test]
    fn those_who_have_time_leave_half_of_it_to_the_others() {
        let start = Instant::now();
        let budget = KeyframeBudget::new(start);
        let taken = (0..50).filter(|_| budget.reserve_spare(start)).count();
        assert_eq!(taken, 8);
        let others = (0..50).filter(|_| budget.reserve(start, 0.0).is_zero());
        assert_eq!(others.count(), 8);
        assert!(!budget.reserve_spare(start + Duration::from_secs(5)));
        assert!(budget.reserve_spare(start + Duration::from_secs(10)));
    }
}
