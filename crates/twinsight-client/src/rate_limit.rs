//! How often the same thing is said: what a peer can cause is never logged without a limit.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A peer's lines come at most this often.
pub const RATE_LIMIT: Duration = Duration::from_secs(10);

/// Keys that a [`RateLimit`] remembers.
const MAX_KEYS: usize = 1024;

/// At most one line in an interval for each key; the next one tells how many were left out.
///
/// ```
/// # use twinsight_client::rate_limit::{RateLimit, RATE_LIMIT};
/// # use std::time::Instant;
/// let limit = RateLimit::new(RATE_LIMIT);
/// if let Some(suppressed) = limit.allow("camera-1", Instant::now()) {
///     tracing::warn!(suppressed, "a packet is no RTP");
/// }
/// ```
#[derive(Debug)]
pub struct RateLimit<K> {
    interval: Duration,
    passed: Mutex<PassedKeys<K>>,
}

#[derive(Debug)]
struct PassedKeys<K> {
    keys: HashMap<K, Passed>,
    /// Left out because too many keys were there.
    overflow: u64,
    /// When old keys were last thrown away.
    swept_at: Option<Instant>,
}

#[derive(Debug)]
struct Passed {
    at: Instant,
    suppressed: u64,
}

impl<K: Eq + Hash> RateLimit<K> {
    /// One line in `interval` for each key.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            passed: Mutex::new(PassedKeys {
                keys: HashMap::new(),
                overflow: 0,
                swept_at: None,
            }),
        }
    }

    /// `Some`: log now, and so many were left out before. Beyond 1024 keys in an interval new ones are
    /// left out, so that a peer that makes up keys costs neither memory nor lines without end.
    pub fn allow(&self, key: K, now: Instant) -> Option<u64> {
        let mut passed = self.passed.lock();
        let old = |at: Instant| now.saturating_duration_since(at) >= self.interval;
        if let Some(passed) = passed.keys.get_mut(&key) {
            if !old(passed.at) {
                passed.suppressed += 1;
                return None;
            }
            passed.at = now;
            return Some(std::mem::take(&mut passed.suppressed));
        }
        if passed.keys.len() >= MAX_KEYS && passed.swept_at.is_none_or(old) {
            passed.keys.retain(|_, each| !old(each.at));
            passed.swept_at = Some(now);
        }
        if passed.keys.len() >= MAX_KEYS {
            passed.overflow += 1;
            return None;
        }
        passed.keys.insert(
            key,
            Passed {
                at: now,
                suppressed: 0,
            },
        );
        Some(std::mem::take(&mut passed.overflow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_ten_seconds_a_key_and_the_next_tells_how_many_were_left_out() {
        let t = Instant::now();
        let limit = RateLimit::new(RATE_LIMIT);
        let s = Duration::from_secs;
        assert_eq!(limit.allow("a", t), Some(0));
        assert_eq!(limit.allow("a", t + s(1)), None);
        assert_eq!(limit.allow("a", t + s(9)), None);
        assert_eq!(limit.allow("b", t + s(9)), Some(0));
        assert_eq!(limit.allow("a", t + s(10)), Some(2));
        assert_eq!(limit.allow("a", t + s(20)), Some(0));
    }

    #[test]
    fn made_up_keys_cost_neither_memory_nor_lines_without_end() {
        let t = Instant::now();
        let limit = RateLimit::new(RATE_LIMIT);
        let lines = (0..5000).filter(|key| limit.allow(*key, t).is_some());
        assert_eq!(lines.count(), MAX_KEYS);
        assert_eq!(limit.allow(9999, t + RATE_LIMIT), Some(5000 - 1024));
        assert_eq!(limit.passed.lock().keys.len(), 1);
    }
}
