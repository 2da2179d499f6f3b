//! How much decoding starves inference, which yields to it: what a run worked and waited for a processor, and the time that
//! decoders took meanwhile, come in from workers and decode threads; what runs lately were starved goes out to the ladders of
//! all streams. Shared; a lock is held for a few instructions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What was told fades to nothing within this time: long enough for a few runs a second, and a single bad one becomes less
/// before any ladder has had enough of it.
const FADED_AFTER: Duration = Duration::from_secs(3);

/// How long inference was lately starved by decoding, over all workers and streams.
#[derive(Debug, Default)]
pub struct CpuPressure {
    last: Mutex<Option<Sample>>,
    decoded_ns: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    smoothed: Duration,
}

impl Sample {
    fn faded(self, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.at).as_secs_f64();
        let left = (1.0 - age / FADED_AFTER.as_secs_f64()).max(0.0);
        self.smoothed.mul_f64(left)
    }
}

impl CpuPressure {
    /// A run was starved this long.
    pub fn tell(&self, starved: Duration, now: Instant) {
        let mut last = self.last.lock();
        let before = last.map_or(Duration::ZERO, |told| told.faded(now));
        *last = Some(Sample {
            at: now,
            smoothed: (before * 3 + starved) / 4,
        });
    }

    /// What the last few runs were starved; nothing if there was none in the last seconds.
    pub fn lately(&self, now: Instant) -> Duration {
        self.last
            .lock()
            .map_or(Duration::ZERO, |told| told.faded(now))
    }

    /// Decoding took this much of a processor.
    pub fn decoded(&self, cpu: Duration) {
        let nanoseconds = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        self.decoded_ns.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// What decoding took of the processors so far.
    pub fn decoding(&self) -> Duration {
        Duration::from_nanos(self.decoded_ns.load(Ordering::Relaxed))
    }
}

/// How long a run was starved by decoding. As long as it works it may wait: a long run waits longer where processors are
/// shared. And what decoding did not take was another program's, which no frame that is left out would give back.
pub fn starved(waited: Duration, worked: Duration, decoded_meanwhile: Duration) -> Duration {
    waited.saturating_sub(worked).min(decoded_meanwhile)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_follows_what_is_told_and_forgets_it() {
        let (lag, now) = (CpuPressure::default(), Instant::now());
        assert_eq!(lag.lately(now), Duration::ZERO);
        for _ in 0..20 {
            lag.tell(200 * MS, now);
        }
        assert!((195 * MS..=200 * MS).contains(&lag.lately(now)));
        lag.tell(Duration::ZERO, now);
        assert!(lag.lately(now) > 100 * MS, "one run decides nothing");
        assert!(lag.lately(now + FADED_AFTER / 2) < 80 * MS, "it fades");
        assert_eq!(lag.lately(now + FADED_AFTER), Duration::ZERO);
    }

    #[test]
    fn a_run_is_starved_only_by_decoding_and_beyond_its_share() {
        assert_eq!(starved(200 * MS, 40 * MS, 300 * MS), 160 * MS);
        assert_eq!(starved(40 * MS, 40 * MS, 300 * MS), Duration::ZERO);
        assert_eq!(starved(600 * MS, 40 * MS, 20 * MS), 20 * MS);
    }
}
