//! One budget for the keyframe requests of all streams: a stream comes in with a request, how long the request has to wait
//! goes out. When a network fails for a moment, every camera loses a picture at once, and without a limit all of them would
//! send their largest frames together. Requests that are not urgent wait in a queue of their own.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Requests that may go out at once.
const BURST: f64 = 16.0;

/// Urgent requests a second in the long run.
const PER_SECOND: f64 = 8.0;

/// Low-priority requests a second. They take nothing from urgent ones.
const LOW_PRIORITY_PER_SECOND: f64 = 6.0;

/// A token bucket, shared by all streams.
#[derive(Debug)]
pub struct KeyframeBudget {
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
    /// When the next low-priority request may go out.
    low_priority_at: Instant,
}

impl KeyframeBudget {
    /// A budget of which nothing has been spent.
    pub fn new(now: Instant) -> Self {
        Self {
            bucket: Mutex::new(Bucket {
                tokens: BURST,
                at: now,
                low_priority_at: now,
            }),
        }
    }

    /// Takes a token for a request that is due now, and gives how long to wait before sending it. `random` (0 to 1) spreads
    /// the requests that wait.
    pub fn reserve(&self, now: Instant, random: f64) -> Duration {
        let mut bucket = self.bucket.lock();
        bucket.refill(now);
        bucket.tokens -= 1.0;
        if bucket.tokens >= 0.0 {
            return Duration::ZERO;
        }
        let wait = -bucket.tokens / PER_SECOND;
        Duration::from_secs_f64(wait * (1.0 + random.clamp(0.0, 1.0) / 2.0))
    }

    /// Takes the next place for a low-priority request, and gives how long to wait before sending it. Places follow each
    /// other at equal distances, so that each stream has its turn.
    pub fn reserve_low_priority(&self, now: Instant) -> Duration {
        let mut bucket = self.bucket.lock();
        let at = bucket.low_priority_at.max(now);
        bucket.low_priority_at = at + Duration::from_secs_f64(1.0 / LOW_PRIORITY_PER_SECOND);
        at.saturating_duration_since(now)
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
    fn those_who_have_time_wait_in_a_row_and_take_nothing_from_the_others() {
        let start = Instant::now();
        let budget = KeyframeBudget::new(start);
        assert!(budget.reserve_low_priority(start).is_zero());
        let second = Duration::from_secs(1);
        let mut sent = Vec::new();
        let mut waits = vec![start; 40];
        for step in 0..600_u32 {
            let now = start + second / 10 * step;
            for (index, at) in waits.iter_mut().enumerate() {
                if *at <= now {
                    sent.push((index, now));
                    *at = now + second * 2 + budget.reserve_low_priority(now + second * 2);
                }
            }
        }
        let of = |index| sent.iter().filter(move |(each, _)| *each == index).count();
        let counts: Vec<usize> = (0..40).map(of).collect();
        let (least, most) = (counts.iter().min(), counts.iter().max());
        assert!(least >= Some(&6) && most <= Some(&12), "{counts:?}");
        let now = start + second * 60;
        for _ in 0..40 {
            budget.reserve_low_priority(now);
        }
        let urgent = (0..50).filter(|_| budget.reserve(now, 0.0).is_zero());
        assert_eq!(urgent.count(), 16);
    }
}
