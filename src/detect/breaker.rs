//! The circuit breaker of one model: how its runs ended comes in, with the time; whether its cameras' frames are given to
//! workers goes out, and what to say of it. Plain state; [`ModelHealth`](super::health::ModelHealth) has one for each model.
//!
//! A model that hangs, or whose code panics, costs a worker each time. It is set aside: its cameras are blind and said to be,
//! and all others go on. After a while a single frame is tried; if that ends as it should, the model works again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::schedule::scheduler::{Admission, ModelRules};
use crate::telemetry::ledger::ModelState;

/// A run takes at least this long before it counts as one that hangs, and at most [`LONGEST`].
const SHORTEST: Duration = Duration::from_secs(2);
/// A run that takes longer hangs, whatever its model.
const LONGEST: Duration = Duration::from_secs(20);
/// So many times the first run's time is far more than load or a crowded picture make of it.
const TIMES_THE_FIRST: u32 = 20;

/// First time that a model is set aside which hangs or cannot be loaded; doubled each time up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_secs(30);
/// The same for one that panics, which costs no more than making its detector anew.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(1);
/// The longest time between two trials.
pub const MAX_PAUSE: Duration = Duration::from_secs(600);

/// So many runs in a row without a result are no accident.
pub(super) const IN_A_ROW: u32 = 3;
/// What gave no results gives some again when no run has failed for this long; sooner, each change would be told.
pub(super) const CALM: Duration = Duration::from_secs(5);

/// What befell a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trip {
    /// A run of it did not end in time.
    Hung,
    /// A run of it did not end, not even when it was told to.
    Stuck,
    /// Its code panicked.
    Panicked,
    /// It could not be loaded once more.
    Unloadable(String),
}

/// One model's.
#[derive(Debug)]
pub struct Breaker {
    name: Arc<str>,
    limit: Duration,
    state: BreakerState,
    /// Times it was set aside without having worked for long in between.
    trips: u32,
    /// The last time that it was set aside for.
    pause: Duration,
    /// Runs that ended without a result since it was well, when the last one did, and why the first one.
    failures: u32,
    failed_at: Option<Instant>,
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum BreakerState {
    /// It has had no frame.
    Unproven,
    /// Its runs end.
    Working {
        /// Since this run.
        since: Instant,
    },
    /// It is left alone.
    SetAside {
        /// Until it is tried.
        until: Instant,
        /// Why.
        trip: Trip,
    },
    /// The next frame, or the one under way, decides.
    Probing {
        /// Why it had been set aside.
        trip: Trip,
    },
}

impl Breaker {
    /// For a model whose first run took this long, if that is known.
    pub fn new(name: Arc<str>, first_run: Option<Duration>) -> Self {
        let limit = first_run.map_or(LONGEST, |first| {
            first
                .saturating_mul(TIMES_THE_FIRST)
                .clamp(SHORTEST, LONGEST)
        });
        Self {
            name,
            limit,
            state: BreakerState::Unproven,
            trips: 0,
            pause: Duration::ZERO,
            failures: 0,
            failed_at: None,
            reason: String::new(),
        }
    }

    /// The model's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// A run that takes longer hangs.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// A run gave a result. True when there were none before.
    pub fn succeeded(&mut self, now: Instant) -> bool {
        let was_probed = self.ended(now);
        let was_failing = self.failures >= IN_A_ROW;
        if was_failing && !is_calm(self.failed_at, now) {
            return was_probed;
        }
        self.failures = 0;
        was_probed || was_failing
    }

    /// A run ended without a result, for this reason.
    pub fn failed(&mut self, reason: &str, now: Instant) {
        self.ended(now);
        // The first one stays: numbers in it differ from frame to frame, and what is said should not.
        if self.failures == 0 {
            reason.clone_into(&mut self.reason);
        }
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(now);
    }

    /// A run ended. True when that was in question.
    fn ended(&mut self, now: Instant) -> bool {
        let was_probed = matches!(self.state, BreakerState::Probing { .. });
        if was_probed || self.state == BreakerState::Unproven {
            self.state = BreakerState::Working { since: now };
        }
        was_probed
    }

    /// Sets it aside. `Some` with the time until it is tried, unless it is set aside already: several of its runs may hang
    /// at once.
    pub fn trip(&mut self, trip: Trip, now: Instant) -> Option<Duration> {
        match &mut self.state {
            BreakerState::SetAside { trip: known, .. } => {
                // What is worse is what is said.
                if trip == Trip::Stuck {
                    *known = trip;
                }
                return None;
            }
            BreakerState::Working { since } => {
                // Else one that hangs now and then would come back as fast each time.
                if now.saturating_duration_since(*since) > self.pause {
                    self.trips = 0;
                }
            }
            BreakerState::Unproven | BreakerState::Probing { .. } => {}
        }
        let first = match trip {
            Trip::Panicked => PAUSE_AFTER_PANIC,
            Trip::Hung | Trip::Stuck | Trip::Unloadable(_) => PAUSE,
        };
        let factor = 1_u32.checked_shl(self.trips).unwrap_or(u32::MAX);
        self.pause = first.saturating_mul(factor).min(MAX_PAUSE);
        self.trips = self.trips.saturating_add(1);
        self.failures = 0;
        self.state = BreakerState::SetAside {
            until: now + self.pause,
            trip,
        };
        Some(self.pause)
    }

    /// True while its frames are dropped, or one of them is tried.
    pub fn is_out(&self) -> bool {
        matches!(
            self.state,
            BreakerState::SetAside { .. } | BreakerState::Probing { .. }
        )
    }

    /// True while it is left alone: no frame of it is given out.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, BreakerState::SetAside { .. })
    }

    /// True when it has been left alone for long enough.
    pub fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, BreakerState::SetAside { until, .. } if until <= now)
    }

    /// Its detectors cannot be had again: it stays set aside, for the time that it answers.
    pub fn stays_away(&mut self, trip: Trip, now: Instant) -> Option<Duration> {
        self.probe(now);
        self.trip(trip, now)
    }

    /// Tries it with the next frame, if it is due.
    pub fn probe(&mut self, now: Instant) {
        if let BreakerState::SetAside { until, trip } = &self.state
            && *until <= now
        {
            self.state = BreakerState::Probing { trip: trip.clone() };
        }
    }

    /// How its frames are given out.
    pub fn rules(&self) -> ModelRules {
        ModelRules {
            admission: match self.state {
                BreakerState::Unproven => Admission::OneAtATime,
                BreakerState::Working { .. } => Admission::Open,
                BreakerState::SetAside { .. } => Admission::Closed,
                BreakerState::Probing { .. } => Admission::Probe,
            },
            suspect_after: self.limit / 4,
        }
    }

    /// How it is.
    pub fn state(&self) -> ModelState {
        match self.state {
            BreakerState::SetAside { .. } => ModelState::SetAside,
            BreakerState::Probing { .. } => ModelState::Probing,
            _ if self.failures >= IN_A_ROW => ModelState::Failing,
            BreakerState::Unproven | BreakerState::Working { .. } => ModelState::Working,
        }
    }

    /// What is wrong with it, as a sentence about the model.
    pub fn last_error(&self) -> Option<String> {
        let name = &self.name;
        match &self.state {
            BreakerState::SetAside { trip, .. } | BreakerState::Probing { trip } => {
                Some(format!("model {name} is set aside: {}", trip.clause()))
            }
            BreakerState::Unproven | BreakerState::Working { .. } => (self.failures >= IN_A_ROW)
                .then(|| format!("model {name} gives no results: {}", self.reason)),
        }
    }
}

/// True when the last failure is long enough ago.
pub(super) fn is_calm(failed_at: Option<Instant>, now: Instant) -> bool {
    failed_at.is_none_or(|at| now.saturating_duration_since(at) >= CALM)
}

impl Trip {
    /// What happened, as a clause.
    pub fn clause(&self) -> String {
        match self {
            Self::Hung => "a run did not end in time".to_owned(),
            Self::Stuck => "a run does not end, though it was told to".to_owned(),
            Self::Panicked => "its code panicked".to_owned(),
            Self::Unloadable(reason) => format!("it cannot be loaded again: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn breaker() -> Breaker {
        Breaker::new("m".into(), Some(Duration::from_millis(30)))
    }

    fn admission(breaker: &Breaker) -> Admission {
        breaker.rules().admission
    }

    #[test]
    fn the_limit_of_a_run_goes_by_the_first_one_within_bounds() {
        let limit = |ms| Breaker::new("m".into(), ms).limit();
        assert_eq!(limit(None), 20 * S);
        assert_eq!(limit(Some(Duration::from_millis(30))), 2 * S);
        assert_eq!(limit(Some(Duration::from_millis(400))), 8 * S);
        assert_eq!(limit(Some(5 * S)), 20 * S);
    }

    #[test]
    fn a_model_that_hangs_is_set_aside_tried_and_set_aside_for_longer() {
        let (mut breaker, start) = (breaker(), Instant::now());
        assert_eq!(admission(&breaker), Admission::OneAtATime);
        assert!(!breaker.succeeded(start));
        assert_eq!(admission(&breaker), Admission::Open);
        let mut now = start + 100 * S;
        for pause in [30, 60, 120, 240, 480, 600, 600] {
            assert_eq!(breaker.trip(Trip::Hung, now), Some(pause * S));
            assert_eq!(breaker.trip(Trip::Hung, now), None, "its second camera");
            assert_eq!(admission(&breaker), Admission::Closed);
            breaker.probe(now + (pause - 1) * S);
            assert_eq!(breaker.state(), ModelState::SetAside);
            now += pause * S;
            assert!(breaker.is_due(now));
            breaker.probe(now);
            assert_eq!(admission(&breaker), Admission::Probe);
            assert_eq!(
                breaker.last_error().unwrap(),
                "model m is set aside: a run did not end in time"
            );
        }
        assert!(breaker.succeeded(now));
        assert_eq!(breaker.last_error(), None);
        // Soon again: it has proved nothing. Much later: from the beginning.
        assert_eq!(breaker.trip(Trip::Hung, now + 60 * S), Some(600 * S));
        now += 700 * S;
        breaker.probe(now);
        breaker.succeeded(now);
        assert_eq!(breaker.trip(Trip::Hung, now + 601 * S), Some(30 * S));
    }

    #[test]
    fn a_model_without_results_is_said_to_be_failing_and_given_frames() {
        let (mut breaker, now) = (breaker(), Instant::now());
        for n in 0..4 {
            let trouble = (n >= 3).then(|| "model m gives no results: NaN".to_owned());
            assert_eq!(breaker.last_error(), trouble);
            breaker.failed("NaN", now);
            assert_eq!(admission(&breaker), Admission::Open);
        }
        assert_eq!(breaker.state(), ModelState::Failing);
        assert!(
            !breaker.succeeded(now + 4 * S),
            "one among many changes nothing"
        );
        assert_eq!(breaker.state(), ModelState::Failing);
        assert!(breaker.succeeded(now + 5 * S));
        assert_eq!(breaker.state(), ModelState::Working);
    }

    #[test]
    fn an_older_run_that_ends_does_not_bring_it_back() {
        let (mut breaker, now) = (breaker(), Instant::now());
        breaker.trip(Trip::Panicked, now);
        breaker.succeeded(now);
        breaker.failed("late", now);
        assert_eq!(breaker.state(), ModelState::SetAside);
    }

    proptest! {
        /// Whatever befalls it: never tried before its time, pauses within their bounds, and what is said fits.
        #[test]
        fn it_is_tried_in_time_and_not_before(steps in prop::collection::vec((0..6_u8, 0..400_u32), 0..200)) {
            let (mut breaker, mut now) = (breaker(), Instant::now());
            let mut closed_until: Option<Instant> = None;
            for (what, seconds) in steps {
                now += seconds * S;
                match what {
                    0 => { breaker.succeeded(now); }
                    1 => breaker.failed("no", now),
                    2 | 3 => {
                        let trip = if what == 2 { Trip::Hung } else { Trip::Panicked };
                        if let Some(pause) = breaker.trip(trip, now) {
                            prop_assert!(closed_until.is_none());
                            prop_assert!(pause >= S && pause <= MAX_PAUSE);
                            closed_until = Some(now + pause);
                        }
                    }
                    _ => breaker.probe(now),
                }
                let closed = admission(&breaker) == Admission::Closed;
                if let Some(until) = closed_until {
                    prop_assert_eq!(breaker.is_due(now), closed && until <= now);
                    if !closed {
                        prop_assert!(until <= now);
                        closed_until = None;
                    }
                } else {
                    prop_assert!(!closed);
                }
                let fine = breaker.state() == ModelState::Working;
                prop_assert_eq!(breaker.last_error().is_none(), fine);
            }
        }
    }
}
