//! The circuit breaker of one model: how its runs ended comes in, with the time; whether its cameras' frames are given to
//! workers goes out, and a sentence about what is wrong. [`ModelHealth`](super::health::ModelHealth) has one for each model.
//!
//! A model that hangs, or whose code panics, costs a worker each time. So it is set aside (the breaker is open): its cameras
//! are blind and reported as blind, and all others go on. After a back-off a single frame is tried (half-open); if its run ends
//! as it should, the model works again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::schedule::scheduler::{Admission, ModelRules};
use crate::telemetry::ledger::ModelState;

/// No run counts as one that hangs before this time, however fast its model is.
const SHORTEST: Duration = Duration::from_secs(2);
/// A run that takes longer than this hangs, whatever its model.
const LONGEST: Duration = Duration::from_secs(20);
/// A run that takes this many times as long as the model's first one hangs. Neither load nor a crowded picture slows a run down
/// that much.
const TIMES_THE_FIRST: u32 = 20;

/// For this long a model is set aside that hangs or cannot be loaded. The time doubles with each trip, up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_secs(30);
/// The same for a model that panics, which costs no more than a new detector.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(1);
/// The longest time that a model is set aside before it is tried again.
pub(crate) const MAX_PAUSE: Duration = Duration::from_secs(600);

/// For this long the reason why a model is away is told as the same, even if another one is found.
const SAME_REASON: Duration = Duration::from_secs(10);

/// This many runs in a row without a result are no accident: the model, or the camera, counts as failing.
pub(super) const IN_A_ROW: u32 = 3;
/// What was failing counts as well again once no run has failed for this long, so that a model that fails now and then is not
/// reported at every change.
pub(super) const CALM: Duration = Duration::from_secs(5);

/// Why a model is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trip {
    /// A run of it did not end in time.
    Hung,
    /// A run of it did not end, not even after it was terminated.
    Stuck,
    /// Its code panicked.
    Panicked,
    /// A detector of it could not be loaded again, for this reason.
    Unloadable(String),
}

/// The circuit breaker of one model.
#[derive(Debug)]
pub(crate) struct Breaker {
    name: Arc<str>,
    /// A run that takes longer than this hangs.
    limit: Duration,
    state: BreakerState,
    /// How often it was set aside without having worked for long in between.
    trips: u32,
    /// For how long it was set aside at the last trip.
    pause: Duration,
    /// How many runs ended without a result since it was well; below, when the last of them ended and why the first one failed.
    failures: u32,
    failed_at: Option<Instant>,
    reason: String,
}

/// Why none of a model's servers can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AwayReasons {
    newest: String,
    /// One that was the newest at `since`, for those to whom each change is told as an event.
    steady: String,
    since: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum BreakerState {
    /// No run of it has ended yet.
    Unproven,
    /// The breaker is closed: its runs end, with or without a result.
    Working {
        /// When the first of them ended.
        since: Instant,
    },
    /// The breaker is open: its frames are dropped.
    SetAside {
        /// From this moment on it may be tried.
        until: Instant,
        trip: Trip,
    },
    /// None of the servers that it runs on can be used, for this reason: its frames are dropped until one can.
    Away(AwayReasons),
    /// One of its servers may be used again after this reason: the next frame, or the one under way, decides.
    Returning(AwayReasons),
    /// The breaker is half-open: the next frame, or the one under way, decides.
    Probing {
        /// Why it was set aside before.
        trip: Trip,
    },
}

impl Breaker {
    /// A breaker for a model whose first run took this long, if that is known.
    pub(crate) fn new(name: Arc<str>, first_run: Option<Duration>) -> Self {
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

    /// A breaker for a model that runs on servers. Whoever asks them gives a run up at this deadline.
    pub(crate) fn of_remote(name: Arc<str>, deadline: Duration) -> Self {
        Self {
            limit: deadline + SHORTEST,
            ..Self::new(name, None)
        }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// A run that takes longer than this hangs.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Notes that a run gave a result. True if the model was failing or under probe before.
    pub(crate) fn succeeded(&mut self, now: Instant) -> bool {
        let was_probed = self.ended(now);
        let was_failing = self.failures >= IN_A_ROW;
        if was_failing && !is_calm(self.failed_at, now) {
            return was_probed;
        }
        self.failures = 0;
        was_probed || was_failing
    }

    /// Notes that a run ended without a result for this reason. `is_of_answer` is true if the model gave one, which cannot be used.
    pub(crate) fn failed(&mut self, is_of_answer: bool, reason: &str, now: Instant) {
        // A server that gave no answer, or one that cannot be read, has proved nothing, and no more has one that was not asked, since the
        // picture was not whole. One whose model gives nonsense is there.
        if !self.is_away() || is_of_answer {
            self.ended(now);
        }
        // The first reason stays. The numbers in reasons differ from frame to frame, and what is reported should not.
        if self.failures == 0 {
            reason.clone_into(&mut self.reason);
        }
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(now);
    }

    /// Notes that a run ended, with or without a result. True if the model was under probe.
    fn ended(&mut self, now: Instant) -> bool {
        let was_probed = matches!(
            self.state,
            BreakerState::Probing { .. } | BreakerState::Returning(_)
        );
        if was_probed || self.state == BreakerState::Unproven {
            self.state = BreakerState::Working { since: now };
        }
        was_probed
    }

    /// Sets the model aside and gives the time after which it is tried. `None` if it is set aside already, since several of
    /// its runs may hang at once.
    pub(crate) fn trip(&mut self, trip: Trip, now: Instant) -> Option<Duration> {
        match &mut self.state {
            BreakerState::SetAside { trip: known, .. } => {
                // The worse of two reasons is reported.
                if trip == Trip::Stuck {
                    *known = trip;
                }
                return None;
            }
            BreakerState::Working { since } => {
                // A model that has worked for a shorter time keeps its count, else one that hangs now and then would come
                // back as fast each time.
                if now.saturating_duration_since(*since) > self.pause {
                    self.trips = 0;
                }
            }
            BreakerState::Unproven
            | BreakerState::Away(_)
            | BreakerState::Returning(_)
            | BreakerState::Probing { .. } => {}
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

    /// Notes that none of its servers can be used, for this reason. True if the model was not known to be away.
    pub(crate) fn goes_away(&mut self, reason: &str, now: Instant) -> bool {
        let reasons = AwayReasons {
            newest: reason.to_owned(),
            steady: reason.to_owned(),
            since: now,
        };
        match &mut self.state {
            // Its code panicked, which says more.
            BreakerState::SetAside { .. } => false,
            BreakerState::Away(known) => {
                known.take(reasons);
                false
            }
            BreakerState::Returning(known) => {
                known.take(reasons);
                self.state = BreakerState::Away(known.clone());
                false
            }
            BreakerState::Unproven
            | BreakerState::Working { .. }
            | BreakerState::Probing { .. } => {
                self.state = BreakerState::Away(reasons);
                self.failures = 0;
                true
            }
        }
    }

    /// Notes that one of its servers may be used again, which the next frame has to prove.
    pub(crate) fn returns(&mut self) {
        if let BreakerState::Away(reasons) = &self.state {
            self.state = BreakerState::Returning(reasons.clone());
        }
    }

    /// True while none of its servers can be used, or none has proved that it can.
    pub(crate) fn is_away(&self) -> bool {
        matches!(
            self.state,
            BreakerState::Away(_) | BreakerState::Returning(_)
        )
    }

    /// True while the model is set aside, away or under probe: its cameras are blind.
    pub(crate) fn is_out(&self) -> bool {
        matches!(
            self.state,
            BreakerState::SetAside { .. }
                | BreakerState::Away(_)
                | BreakerState::Returning(_)
                | BreakerState::Probing { .. }
        )
    }

    /// True while the model is set aside or away: no frame of it is given to workers.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(
            self.state,
            BreakerState::SetAside { .. } | BreakerState::Away(_)
        )
    }

    /// True if the model has been set aside for long enough to be tried.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, BreakerState::SetAside { until, .. } if until <= now)
    }

    /// Sets the model aside once more, because its detectors cannot be loaded again; gives the time after which it is tried.
    pub(crate) fn stays_away(&mut self, trip: Trip, now: Instant) -> Option<Duration> {
        self.probe(now);
        self.trip(trip, now)
    }

    /// Lets the next frame decide, if the model is due.
    pub(crate) fn probe(&mut self, now: Instant) {
        if let BreakerState::SetAside { until, trip } = &self.state
            && *until <= now
        {
            self.state = BreakerState::Probing { trip: trip.clone() };
        }
    }

    /// How the scheduler gives the model's frames to workers.
    pub(crate) fn rules(&self) -> ModelRules {
        ModelRules {
            admission: match self.state {
                BreakerState::Unproven | BreakerState::Returning(_) => Admission::OneAtATime,
                BreakerState::Working { .. } => Admission::Open,
                BreakerState::SetAside { .. } | BreakerState::Away(_) => Admission::Closed,
                BreakerState::Probing { .. } => Admission::Probe,
            },
            suspect_after: self.limit / 4,
        }
    }

    /// The state that metrics tell.
    pub(crate) fn state(&self) -> ModelState {
        match self.state {
            BreakerState::SetAside { .. } => ModelState::SetAside,
            BreakerState::Probing { .. } | BreakerState::Returning(_) => ModelState::Probing,
            BreakerState::Away(_) => ModelState::Away,
            _ if self.failures >= IN_A_ROW => ModelState::Failing,
            BreakerState::Unproven | BreakerState::Working { .. } => ModelState::Working,
        }
    }

    /// As [`last_error`](Self::last_error), for those to whom each change is told as an event: it does not change with every answer of a
    /// server.
    pub(crate) fn steady_error(&self) -> Option<String> {
        match &self.state {
            BreakerState::Away(reasons) | BreakerState::Returning(reasons) => {
                Some(format!("model {} is away: {}", self.name, reasons.steady))
            }
            _ => self.last_error(),
        }
    }

    /// What is wrong with the model, as a sentence; `None` if nothing is.
    pub(crate) fn last_error(&self) -> Option<String> {
        let name = &self.name;
        match &self.state {
            BreakerState::SetAside { trip, .. } | BreakerState::Probing { trip } => {
                Some(format!("model {name} is set aside: {}", trip.clause()))
            }
            BreakerState::Away(reasons) | BreakerState::Returning(reasons) => {
                Some(format!("model {name} is away: {}", reasons.newest))
            }
            BreakerState::Unproven | BreakerState::Working { .. } => (self.failures >= IN_A_ROW)
                .then(|| format!("model {name} gives no results: {}", self.reason)),
        }
    }
}

impl AwayReasons {
    fn take(&mut self, other: Self) {
        if other.since.saturating_duration_since(self.since) < SAME_REASON {
            self.newest = other.newest;
        } else {
            *self = other;
        }
    }
}

/// True if the last failure is at least [`CALM`] ago.
pub(super) fn is_calm(failed_at: Option<Instant>, now: Instant) -> bool {
    failed_at.is_none_or(|at| now.saturating_duration_since(at) >= CALM)
}

impl Trip {
    /// What happened, as a clause of a sentence about the model.
    pub(crate) fn clause(&self) -> String {
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
            let reason = (n >= 3).then(|| "model m gives no results: NaN".to_owned());
            assert_eq!(breaker.last_error(), reason);
            breaker.failed(true, "NaN", now);
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
    fn a_model_that_returns_and_gives_nonsense_is_failing_and_not_away() {
        let (mut breaker, now) = (Breaker::of_remote("m".into(), S), Instant::now());
        breaker.succeeded(now);
        assert!(breaker.goes_away("refused", now));
        breaker.failed(true, "an older run", now);
        assert!(breaker.is_closed(), "its servers are away all the same");
        breaker.returns();
        breaker.failed(false, "late", now);
        assert!(breaker.is_away(), "nothing is proved yet");
        for _ in 0..IN_A_ROW {
            breaker.failed(true, "NaN", now);
        }
        assert!(!breaker.is_out());
        assert_eq!(breaker.state(), ModelState::Failing);
        let error = breaker.last_error().unwrap();
        assert!(error.starts_with("model m gives no results: "), "{error}");
    }

    #[test]
    fn an_older_run_that_ends_does_not_bring_it_back() {
        let (mut breaker, now) = (breaker(), Instant::now());
        breaker.trip(Trip::Panicked, now);
        breaker.succeeded(now);
        breaker.failed(true, "late", now);
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
                    1 => breaker.failed(true, "no", now),
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
