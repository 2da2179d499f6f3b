//! How much of what the node can carry it carries. Readings of counters come in, one a second, and a ratio goes out: 1 means that
//! nothing is left, and what is above 1 is missing. The node asks for it once a second and tells it as a metric, by which a fleet
//! is made larger or smaller.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The ratio is of the last moments, so long that a burst does not count and so short that a new node is not late.
const WINDOW: Duration = Duration::from_secs(15);

/// What has been counted so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CapacityReading {
    /// When it was read.
    pub(crate) at: Instant,
    /// How long the inference workers of this machine have inferred, all together.
    pub(crate) inferring: Duration,
    /// How many frames they have taken.
    pub(crate) taken: u64,
    /// How many frames they would have taken, had there been a worker for each when its stream was due.
    pub(crate) wanted: f64,
    /// The processor time of the process.
    pub(crate) cpu: Duration,
}

/// What there is to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// The inference workers of this machine.
    pub(crate) workers: usize,
    /// The processors that the process may use.
    pub(crate) cores: usize,
}

/// The readings of the last moments.
#[derive(Debug, Default)]
pub(crate) struct CapacityMeter {
    readings: VecDeque<CapacityReading>,
}

impl CapacityMeter {
    /// Takes a reading, and gives the part of the capacity that was used lately: that of the workers or that of the processors,
    /// whichever is used more. `None` before there is anything to compare with.
    pub(crate) fn read(&mut self, reading: CapacityReading, capacity: Capacity) -> Option<f64> {
        self.readings.push_back(reading);
        while let Some(second) = self.readings.get(1)
            && reading.at.saturating_duration_since(second.at) >= WINDOW
        {
            self.readings.pop_front();
        }
        let first = self.readings.front()?;
        let time = reading.at.saturating_duration_since(first.at);
        if time < Duration::from_secs(1) {
            return None;
        }
        let share =
            |used: Duration, of: usize| used.as_secs_f64() / time.as_secs_f64() / count(of.max(1));
        // A worker that was replaced takes its time with it.
        let inferring = reading.inferring.saturating_sub(first.inferring);
        let taken = reading.taken.saturating_sub(first.taken);
        let wanted = (reading.wanted - first.wanted).max(0.0);
        // Each frame that nobody had time for would have cost as much as one that was inferred.
        let demand = match taken {
            0 => 1.0,
            taken => (wanted / count(usize::try_from(taken).unwrap_or(usize::MAX))).max(1.0),
        };
        let workers = share(inferring, capacity.workers) * demand;
        let cores = share(reading.cpu.saturating_sub(first.cpu), capacity.cores);
        Some(workers.max(cores))
    }
}

/// A count for a calculation, exact up to 2^32.
fn count(of: usize) -> f64 {
    f64::from(u32::try_from(of).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: Capacity = Capacity {
        workers: 2,
        cores: 4,
    };

    /// What is told after so many seconds in which everything grew by these amounts a second.
    fn after(seconds: u32, inferring: f64, taken: f64, wanted: f64, cpu: f64) -> Option<f64> {
        let (start, mut meter) = (Instant::now(), CapacityMeter::default());
        let mut told = None;
        for second in 0..=seconds {
            let t = f64::from(second);
            let reading = CapacityReading {
                at: start + Duration::from_secs(second.into()),
                inferring: Duration::from_secs_f64(inferring * t),
                taken: format!("{:.0}", taken * t).parse().unwrap(),
                wanted: wanted * t,
                cpu: Duration::from_secs_f64(cpu * t),
            };
            told = meter.read(reading, CAPACITY);
        }
        told
    }

    fn is_near(told: Option<f64>, expected: f64) {
        assert!(
            told.is_some_and(|told| (told - expected).abs() < 1e-6),
            "{told:?} is not {expected}"
        );
    }

    #[test]
    fn the_part_that_is_used_more_is_told() {
        assert_eq!(after(0, 1.0, 10.0, 10.0, 1.0), None);
        is_near(after(60, 0.0, 0.0, 0.0, 0.0), 0.0);
        // One of two workers is busy, and one of four processors.
        is_near(after(60, 1.0, 10.0, 10.0, 1.0), 0.5);
        is_near(after(60, 0.5, 10.0, 10.0, 3.0), 0.75);
    }

    #[test]
    fn frames_that_nobody_had_time_for_are_missing_capacity() {
        // Both workers are busy, and half of the frames that were due were taken.
        is_near(after(60, 2.0, 20.0, 40.0, 2.0), 2.0);
    }

    #[test]
    fn what_is_long_ago_does_not_count() {
        let (start, mut meter) = (Instant::now(), CapacityMeter::default());
        let mut inferring = Duration::ZERO;
        let mut told = None;
        for second in 0..120_u64 {
            if second < 60 {
                inferring += Duration::from_secs(2);
            }
            let reading = CapacityReading {
                at: start + Duration::from_secs(second),
                inferring,
                taken: 0,
                wanted: 0.0,
                cpu: Duration::ZERO,
            };
            told = meter.read(reading, CAPACITY);
            assert!(meter.readings.len() <= 17);
        }
        is_near(told, 0.0);
    }
}
