//! How much decoding starves inference, which has the lower priority. Inference workers tell how long their runs waited for
//! a processor, decode threads tell how much processor time they took, and the ladders of all streams ask for how long runs
//! were lately starved. It is shared by these threads, and its lock is held for a few instructions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What was told fades to nothing within this time. That is long enough for a few runs a second, and short enough for a
/// single bad run to have faded before any ladder reacts to it.
const FADED_AFTER: Duration = Duration::from_secs(3);

/// For how long decoding lately starved inference, over all workers and streams.
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
    /// Tells for how long a run was starved.
    pub fn tell(&self, starved: Duration, now: Instant) {
        let mut last = self.last.lock();
        let before = last.map_or(Duration::ZERO, |told| told.faded(now));
        *last = Some(Sample {
            at: now,
            smoothed: (before * 3 + starved) / 4,
        });
    }

    /// For how long the last few runs were starved; zero if there was none in the last seconds.
    pub(super) fn lately(&self, now: Instant) -> Duration {
        self.last
            .lock()
            .map_or(Duration::ZERO, |told| told.faded(now))
    }

    /// Tells how much processor time decoding a unit took.
    pub(super) fn decoded(&self, cpu: Duration) {
        let nanoseconds = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        self.decoded_ns.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Processor time that all decoding took so far.
    pub fn decoding(&self) -> Duration {
        Duration::from_nanos(self.decoded_ns.load(Ordering::Relaxed))
    }
}

/// For how long decoding starved a run. A run may wait for as long as it works without being starved, since long runs wait
/// longer where processors are shared. Nor does it count what decoding did not take: another program took that, and
/// skipping frames would not give it back.
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
