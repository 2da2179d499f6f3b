//! What was measured in a step, and what follows from it: whether its cameras are carried, what limits them, and how many would be
//! carried at another rate. The counts of a step come in; the command prints what goes out.

use std::time::Duration;

use super::super::loopback::percentile;
use super::cpu::CpuUse;

/// Cameras are carried if at least this share of the frames that their `max_fps` allows is inferred.
pub(super) const CARRIED_SHARE: f64 = 0.95;

/// The load that each camera makes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Demand {
    /// How many frames a second it sends.
    pub(super) fps: f64,
    /// At most this many frames a second are inferred; 0 means every frame.
    pub(super) max_fps: f64,
    /// A result that is older than this is too late.
    pub(super) max_age: Duration,
}

/// What was counted in a step.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    /// How long the step was measured.
    pub(super) window: Duration,
    /// How many frames of each camera were inferred.
    pub(super) inferred: Vec<u64>,
    /// How many frames of each camera were not inferred because the motion gate found them unchanged.
    pub(super) unchanged: Vec<u64>,
    /// How many access units of all cameras came.
    pub(super) received: u64,
    /// How many frames of all cameras were decoded.
    pub(super) decoded: u64,
    /// How many inference workers there were.
    pub(super) workers: usize,
    /// How long all of them together were busy.
    pub(super) inference: Duration,
    /// The ages of the events when they were published, sorted.
    pub(super) ages_ms: Vec<f64>,
    pub(super) cpu: CpuUse,
}

/// Why a step's cameras are not carried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Refusal {
    /// Too few frames are inferred: this share of the worst camera's.
    Skipped(f64),
    /// The events are too old: this is the p99 of their ages in milliseconds.
    Old(f64),
}

/// What there is not enough of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// Inference takes most of the time.
    Inference,
    /// Receiving and decoding take most of the time.
    Decoding,
}

impl Demand {
    /// How many inferences a second its `max_fps` allows.
    pub(super) fn inferences_per_second(&self) -> f64 {
        if self.max_fps > 0.0 {
            self.fps.min(self.max_fps)
        } else {
            self.fps
        }
    }

    /// How many inferences of a camera a window has for certain. It may be one less than the rate says, at its edges.
    fn inferences_in(&self, window: Duration) -> f64 {
        let whole = (self.inferences_per_second() * window.as_secs_f64()).floor();
        (whole - 1.0).max(1.0)
    }
}

impl Measured {
    /// How many cameras there were.
    pub(super) fn cameras(&self) -> usize {
        self.inferred.len()
    }

    /// How many frames of each camera were looked at: they were inferred, or found unchanged.
    fn looked_at(&self) -> impl Iterator<Item = u64> {
        let unchanged = self.unchanged.iter().copied().chain(std::iter::repeat(0));
        self.inferred.iter().zip(unchanged).map(|(n, m)| n + m)
    }

    /// The share of the frames of all cameras that were looked at, of those that `max_fps` allowed, from 0 to 1.
    pub(super) fn share(&self, demand: &Demand) -> f64 {
        let looked_at: u64 = self.looked_at().sum();
        let cameras = self.cameras().max(1) as f64;
        (looked_at as f64 / cameras / demand.inferences_in(self.window)).min(1.0)
    }

    /// The share of the frames that were looked at and found unchanged, from 0 to 1.
    pub(super) fn unchanged_share(&self) -> f64 {
        let (unchanged, all): (u64, u64) = (self.unchanged.iter().sum(), self.looked_at().sum());
        unchanged as f64 / all.max(1) as f64
    }

    /// The same share of the camera for which it is lowest.
    pub(super) fn least_share(&self, demand: &Demand) -> f64 {
        let least = self.looked_at().min().unwrap_or_default();
        (least as f64 / demand.inferences_in(self.window)).min(1.0)
    }

    /// A percentile of the events' ages in milliseconds, if there were events.
    pub(super) fn age_ms(&self, percent: usize) -> Option<f64> {
        (!self.ages_ms.is_empty()).then(|| percentile(&self.ages_ms, percent))
    }

    /// Why its cameras are not carried; `None` if they are.
    pub(super) fn refusal(&self, demand: &Demand) -> Option<Refusal> {
        let age_ms = self.age_ms(99).unwrap_or_default();
        // The worst camera's share is no larger than that of all.
        if self.least_share(demand) < CARRIED_SHARE {
            Some(Refusal::Skipped(self.least_share(demand)))
        } else if age_ms > 1000.0 * demand.max_age.as_secs_f64() {
            Some(Refusal::Old(age_ms))
        } else {
            None
        }
    }

    pub(super) fn inferences_per_second(&self) -> f64 {
        let inferred: u64 = self.inferred.iter().sum();
        inferred as f64 / self.window.as_secs_f64().max(0.001)
    }

    /// The mean time of an inference in milliseconds, with pre- and postprocessing, if there was one.
    pub(super) fn inference_ms(&self) -> Option<f64> {
        let inferred: u64 = self.inferred.iter().sum();
        (inferred > 0).then(|| 1000.0 * self.inference.as_secs_f64() / inferred as f64)
    }

    /// How busy the machine was, from 0 to 1: its cores or its inference workers, whichever were busier.
    pub(super) fn load(&self, cores: usize) -> f64 {
        let each = self.inference.as_secs_f64() / self.workers.max(1) as f64;
        let busy = each / self.window.as_secs_f64().max(0.001);
        busy.max(self.cpu.node / cores.max(1) as f64)
    }

    /// What there was not enough of, if the cameras are not carried.
    pub(super) fn limit(&self) -> Limit {
        let lost = self.received.saturating_sub(self.decoded) as f64;
        let behind = lost > (1.0 - CARRIED_SHARE) * self.received as f64;
        if behind || self.cpu.decoding > self.cpu.node / 2.0 {
            Limit::Decoding
        } else {
            Limit::Inference
        }
    }

    /// Estimates for how many cameras the CPU time that the node used would be enough, if each were inferred `rate` times a second.
    /// The estimate holds if the node used all that the machine has.
    pub(super) fn cameras_at(&self, rate: f64) -> Option<f64> {
        let inferences = self.inferences_per_second();
        if self.inferred.is_empty() || inferences <= 0.0 {
            return None;
        }
        let decoding = self.cpu.decoding / self.cameras() as f64;
        let inference = (self.cpu.node - self.cpu.decoding) / inferences;
        let each = decoding + rate * inference;
        (each > 0.0).then(|| self.cpu.node / each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMAND: Demand = Demand {
        fps: 15.0,
        max_fps: 10.0,
        max_age: Duration::from_millis(500),
    };

    fn measured(inferred: &[u64], age_ms: f64) -> Measured {
        Measured {
            window: Duration::from_secs(5),
            inferred: inferred.to_vec(),
            ages_ms: vec![age_ms; 100],
            ..Measured::default()
        }
    }

    #[test]
    fn max_fps_says_what_is_asked_for() {
        assert!((DEMAND.inferences_per_second() - 10.0).abs() < 1e-9);
        let every = Demand {
            max_fps: 0.0,
            ..DEMAND
        };
        assert!((every.inferences_per_second() - 15.0).abs() < 1e-9);
    }

    #[test]
    fn each_camera_must_be_carried() {
        assert_eq!(measured(&[50, 50], 80.0).refusal(&DEMAND), None);
        // The edges of the window may cut one, and one in twenty may be missing.
        assert_eq!(measured(&[47, 50], 80.0).refusal(&DEMAND), None);
        let refusal = measured(&[46, 50], 80.0).refusal(&DEMAND);
        assert!(matches!(refusal, Some(Refusal::Skipped(share)) if share < 0.95));
    }

    #[test]
    fn what_is_unchanged_was_looked_at() {
        let mut step = measured(&[1, 50], 80.0);
        assert!(step.refusal(&DEMAND).is_some());
        step.unchanged = vec![48, 0];
        assert_eq!(step.refusal(&DEMAND), None);
        assert!((step.unchanged_share() - 48.0 / 99.0).abs() < 1e-9);
    }

    #[test]
    fn no_share_below_the_one_that_is_named_is_carried() {
        for (max_fps, counts) in [(2.0, 0..11), (10.0, 0..52), (1.0, 0..6)] {
            let demand = Demand { max_fps, ..DEMAND };
            for least in counts {
                let step = measured(&[least, 51], 80.0);
                let carried = step.refusal(&demand).is_none();
                assert_eq!(
                    carried,
                    step.least_share(&demand) >= CARRIED_SHARE,
                    "{least}"
                );
            }
        }
        // The edges of a window may cut one frame: ten were due, of which nine are asked for.
        let slow = Demand {
            max_fps: 2.0,
            ..DEMAND
        };
        assert_eq!(measured(&[9, 10, 10], 80.0).refusal(&slow), None);
        let refusal = measured(&[8, 9, 9], 80.0).refusal(&slow);
        assert!(matches!(refusal, Some(Refusal::Skipped(share)) if share < 0.89));
    }

    #[test]
    fn late_results_do_not_count_as_carried() {
        assert_eq!(measured(&[50], 500.0).refusal(&DEMAND), None);
        assert_eq!(
            measured(&[50], 501.0).refusal(&DEMAND),
            Some(Refusal::Old(501.0))
        );
    }

    #[test]
    fn a_slow_camera_has_at_least_one_inference_in_a_window() {
        let slow = Demand { fps: 0.1, ..DEMAND };
        assert_eq!(measured(&[1], 80.0).refusal(&slow), None);
        assert!(measured(&[0], 80.0).refusal(&slow).is_some());
    }

    #[test]
    fn the_limit_is_what_takes_the_time() {
        let mut step = measured(&[25, 25, 25], 200.0);
        (step.received, step.decoded) = (150, 150);
        step.cpu.node = 2.0;
        step.cpu.decoding = 0.2;
        assert_eq!(step.limit(), Limit::Inference);
        assert!((step.load(4) - 0.5).abs() < 1e-9);
        step.inference = Duration::from_secs(4);
        assert!((step.load(4) - 0.8).abs() < 1e-9);
        // 0.067 cores to decode a camera, 0.12 for each inference a second.
        let cameras = step.cameras_at(5.0).expect("it can be said");
        assert!((cameras - 3.0).abs() < 1e-6, "{cameras}");
        step.cpu.decoding = 1.5;
        assert_eq!(step.limit(), Limit::Decoding);
        step.cpu.decoding = 0.2;
        step.decoded = 100;
        assert_eq!(step.limit(), Limit::Decoding);
    }
}
