//! Which models work, and which cameras are blind. Workers and the [pool](super::pool) report how runs ended. What follows goes
//! to the scheduler, which gives frames to workers accordingly, and to metrics; the node asks for the sentences that it reports.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::breaker::{Breaker, IN_A_ROW, Trip, is_calm};
use super::detector::DetectError;
use super::engine::RemoteEngine;
use super::remote::{Availability, RemoteFacts};
use super::worker::CameraScheduler;
use crate::schedule::scheduler::ModelRules;
use crate::telemetry::ledger::ModelState;
use crate::telemetry::metrics::Metrics;
use twinsight_client::rate_limit::{RATE_LIMIT, RateLimit};
use twinsight_client::stream_id::StreamId;

/// A stream without failures for this long is forgotten, since its camera may be gone.
const MEMORY: Duration = Duration::from_secs(600);

/// The health of a pool's models, which have the indexes of [`CameraWork::model`](super::worker::CameraWork::model).
pub(crate) struct ModelHealth {
    scheduler: Arc<CameraScheduler>,
    metrics: Arc<Metrics>,
    state: Mutex<HealthState>,
    /// Limits for each stream how often workers say that a frame of it failed.
    warn: RateLimit<StreamId>,
}

#[derive(Default)]
struct HealthState {
    models: Vec<Model>,
    /// The streams with failures that are not long ago.
    failing: HashMap<StreamId, Failing>,
}

struct Model {
    breaker: Breaker,
    /// What asks its servers, for a model that runs on some.
    remote: Option<Arc<dyn RemoteEngine>>,
    /// The model that takes its place while none can be used.
    fallback: Option<usize>,
    /// What the scheduler and the metrics were told last.
    reported: Option<Reported>,
}

/// What is told of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reported {
    rules: ModelRules,
    state: ModelState,
    /// The model that has its frames now.
    substitute: Option<usize>,
    /// Whether that counts as a fallback, for a model that may have one.
    is_replaced: Option<bool>,
}

/// How a model is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelReport {
    pub(crate) name: Arc<str>,
    pub(crate) state: ModelState,
    /// What is wrong with it.
    pub(crate) error: Option<String>,
    /// The model that takes its place now.
    pub(crate) substitute: Option<Arc<str>>,
    /// Its servers, for a model that runs on some.
    pub(crate) remote: Option<RemoteFacts>,
}

struct Failing {
    /// The model that failed.
    model: usize,
    in_a_row: u32,
    reason: String,
    at: Instant,
}

impl fmt::Debug for ModelHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelHealth").finish_non_exhaustive()
    }
}

impl HealthState {
    /// The model that infers in the place of one whose cameras would be blind. While that one is tried, the frames of its cameras wait
    /// for what comes of that, which takes no longer than a frame.
    fn in_place_of(&self, model: usize) -> Option<usize> {
        let model = self.models.get(model)?;
        let fallback = model.fallback?;
        let is_there = !self.models.get(fallback)?.breaker.is_out();
        (is_there && model.breaker.is_out()).then_some(fallback)
    }

    /// The model that gets the frames of one that is given none. It may be one that is under probe itself, which needs a frame for that.
    fn substitute_of(&self, model: usize) -> Option<usize> {
        let model = self.models.get(model)?;
        let fallback = model.fallback?;
        let takes_frames = !self.models.get(fallback)?.breaker.is_closed();
        (takes_frames && model.breaker.is_closed()).then_some(fallback)
    }

    fn name(&self, model: usize) -> Option<Arc<str>> {
        let model = self.models.get(model)?;
        Some(Arc::clone(model.breaker.name()))
    }
}

impl ModelHealth {
    pub(crate) fn new(scheduler: Arc<CameraScheduler>, metrics: Arc<Metrics>) -> Self {
        Self {
            scheduler,
            metrics,
            state: Mutex::default(),
            warn: RateLimit::new(RATE_LIMIT),
        }
    }

    /// Whether a worker may say that a frame of this stream failed, and of how many it was not said since. A stream has one worker
    /// after the other.
    pub(super) fn may_warn(&self, stream: &StreamId, now: Instant) -> Option<u64> {
        self.warn.allow(stream.clone(), now)
    }

    /// What keeps models from giving results, one sentence for each. One in whose place another infers is none of them.
    pub(crate) fn last_errors(&self) -> Vec<String> {
        let state = self.state.lock();
        let models = state.models.iter().enumerate();
        let alone = models.filter(|(n, _)| state.in_place_of(*n).is_none());
        let errors = alone.map(|(_, model)| model.breaker.last_error());
        errors.flatten().collect()
    }

    /// How each model is, and what is wrong with it.
    pub(crate) fn reports(&self) -> Vec<ModelReport> {
        let state = self.state.lock();
        let report = |(n, model): (usize, &Model)| {
            let reported = model.reported.as_ref();
            let substitute = state.in_place_of(n).and_then(|n| state.models.get(n));
            ModelReport {
                name: Arc::clone(model.breaker.name()),
                state: reported.map_or(ModelState::Working, |reported| reported.state),
                error: model.breaker.last_error(),
                substitute: substitute.map(|model| Arc::clone(model.breaker.name())),
                remote: model.remote.as_ref().map(|remote| remote.facts()),
            }
        };
        state.models.iter().enumerate().map(report).collect()
    }

    /// Why a stream that uses the model of this name gets no results although its frames may come; `None` if it gets some.
    pub(crate) fn blind(&self, stream: &StreamId, model: &str) -> Option<String> {
        let state = self.state.lock();
        let mut models = state.models.iter();
        let own = models.position(|each| **each.breaker.name() == *model)?;
        let serving = state.in_place_of(own).unwrap_or(own);
        let breaker = &state.models.get(serving)?.breaker;
        if breaker.is_out() {
            return breaker.steady_error();
        }
        // What failed before another model took over says nothing.
        let failing = state.failing.get(stream);
        let failing = failing.filter(|failing| failing.model == serving)?;
        (failing.in_a_row >= IN_A_ROW).then(|| failing.reason.clone())
    }

    pub(super) fn add(&self, breaker: Breaker, remote: Option<Arc<dyn RemoteEngine>>) {
        let mut state = self.state.lock();
        state.models.push(Model {
            breaker,
            remote,
            fallback: None,
            reported: None,
        });
        let last = state.models.len() - 1;
        self.tell(&mut state, last);
    }

    pub(super) fn count(&self) -> usize {
        self.state.lock().models.len()
    }

    pub(super) fn name(&self, model: usize) -> Arc<str> {
        self.of(model, |breaker| Arc::clone(breaker.name()))
            .unwrap_or_else(|| "?".into())
    }

    /// A run of the model that takes longer than this hangs.
    pub(super) fn limit(&self, model: usize) -> Duration {
        self.of(model, |breaker| breaker.limit())
            .unwrap_or(Duration::MAX)
    }

    pub(super) fn is_set_aside(&self, model: usize) -> bool {
        self.of(model, |breaker| breaker.is_out()).unwrap_or(true)
    }

    pub(super) fn succeeded(&self, model: usize, stream: &StreamId, now: Instant) {
        let mut state = self.state.lock();
        let failing = state.failing.get(stream);
        if failing
            .is_some_and(|failing| failing.in_a_row < IN_A_ROW || is_calm(Some(failing.at), now))
        {
            state.failing.remove(stream);
        }
        if let Some(each) = state.models.get_mut(model)
            && each.breaker.succeeded(now)
        {
            tracing::info!(model = %each.breaker.name(), "the model gives results again");
        }
        self.tell(&mut state, model);
    }

    pub(super) fn failed(
        &self,
        model: usize,
        stream: &StreamId,
        error: &DetectError,
        now: Instant,
    ) {
        let reason = &error.to_string();
        let mut state = self.state.lock();
        state
            .failing
            .entry(stream.clone())
            .and_modify(|failing| {
                if std::mem::replace(&mut failing.model, model) != model {
                    (failing.in_a_row, failing.reason) = (0, reason.to_owned());
                }
                failing.in_a_row = failing.in_a_row.saturating_add(1);
                failing.at = now;
            })
            .or_insert_with(|| Failing {
                model,
                in_a_row: 1,
                reason: reason.to_owned(),
                at: now,
            });
        if let Some(each) = state.models.get_mut(model) {
            each.breaker.failed(error.is_of_answer(), reason, now);
        }
        self.tell(&mut state, model);
    }

    /// True while no frame of the model is given to workers.
    pub(super) fn is_closed(&self, model: usize) -> bool {
        self.of(model, |breaker| breaker.is_closed())
            .unwrap_or(true)
    }

    pub(super) fn trip(&self, model: usize, trip: Trip, now: Instant) {
        self.set_aside(model, trip, |breaker, trip| breaker.trip(trip, now));
    }

    fn set_aside(
        &self,
        model: usize,
        trip: Trip,
        set_aside: impl FnOnce(&mut Breaker, Trip) -> Option<Duration>,
    ) {
        let mut state = self.state.lock();
        if let Some(each) = state.models.get_mut(model) {
            let reason = trip.clause();
            let pause = set_aside(&mut each.breaker, trip);
            let name = Arc::clone(each.breaker.name());
            let substitute = state.substitute_of(model).and_then(|n| state.name(n));
            match (pause.map(|pause| pause.as_secs()), substitute) {
                (Some(seconds), None) => tracing::error!(
                    model = %name, reason, seconds,
                    "a model is set aside, and its cameras are blind until it is tried again"
                ),
                (Some(seconds), Some(fallback)) => tracing::error!(
                    model = %name, reason, seconds, %fallback,
                    "a model is set aside: its fallback takes its place until it is tried again"
                ),
                (None, _) => {}
            }
        }
        self.tell(&mut state, model);
    }

    /// Notes whether any server of a model that runs on servers can be used, and which model takes its place while none can.
    pub(super) fn look_at_servers(
        &self,
        model: usize,
        availability: &Availability,
        fallback: Option<usize>,
        now: Instant,
    ) {
        let mut state = self.state.lock();
        let Some(each) = state.models.get_mut(model) else {
            return;
        };
        each.fallback = fallback;
        let name = Arc::clone(each.breaker.name());
        match availability {
            Availability::Ready => each.breaker.returns(),
            Availability::Away { reason } => {
                if each.breaker.goes_away(reason, now) {
                    match state.substitute_of(model).and_then(|n| state.name(n)) {
                        Some(fallback) => tracing::warn!(
                            model = %name, reason, %fallback,
                            "no server of a model can be used: its fallback takes its place"
                        ),
                        None => tracing::error!(
                            model = %name, reason,
                            "no server of a model can be used, and its cameras are blind until one can"
                        ),
                    }
                }
            }
        }
        self.tell(&mut state, model);
    }

    /// The models that were set aside for long enough to be tried.
    pub(super) fn due(&self, now: Instant) -> Vec<usize> {
        let state = self.state.lock();
        let models = state.models.iter().enumerate();
        models
            .filter(|(_, model)| model.breaker.is_due(now))
            .map(|(n, _)| n)
            .collect()
    }

    pub(super) fn probe(&self, model: usize, now: Instant) {
        let mut state = self.state.lock();
        if let Some(each) = state.models.get_mut(model) {
            each.breaker.probe(now);
        }
        self.tell(&mut state, model);
    }

    pub(super) fn stays_away(&self, model: usize, reason: String, now: Instant) {
        let trip = Trip::Unloadable(reason);
        self.set_aside(model, trip, |breaker, trip| breaker.stays_away(trip, now));
    }

    /// Forgets the streams that have not failed for [`MEMORY`].
    pub(super) fn sweep(&self, now: Instant) {
        let recent = |failing: &Failing| now.saturating_duration_since(failing.at) < MEMORY;
        self.state
            .lock()
            .failing
            .retain(|_, failing| recent(failing));
    }

    fn of<R>(&self, model: usize, ask: impl FnOnce(&Breaker) -> R) -> Option<R> {
        self.state
            .lock()
            .models
            .get(model)
            .map(|each| ask(&each.breaker))
    }

    /// Tells the scheduler and the metrics what has changed. It does so under the lock, so that two changes are told in their
    /// order.
    fn tell(&self, state: &mut HealthState, model: usize) {
        let substitute = state.substitute_of(model);
        let is_replaced = state.in_place_of(model).is_some();
        let Some(each) = state.models.get_mut(model) else {
            return;
        };
        let now = Reported {
            rules: each.breaker.rules(),
            state: each.breaker.state(),
            substitute,
            is_replaced: each.remote.as_ref().map(|_| is_replaced),
        };
        let before = each.reported.replace(now);
        let name = each.breaker.name();
        if before
            .is_none_or(|before| (before.rules, before.substitute) != (now.rules, now.substitute))
        {
            self.scheduler.set_model(model, now.rules, substitute);
        }
        if before.is_none_or(|before| before.state != now.state) {
            self.metrics.set_model_state(name, now.state);
        }
        if let Some(is_replaced) = now.is_replaced
            && before.is_none_or(|before| before.is_replaced != now.is_replaced)
        {
            self.metrics.set_model_fallback(name, is_replaced);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::postprocess::{Implausible, OutputError};
    use crate::telemetry::logging::capture;

    #[test]
    fn a_frame_that_no_server_was_asked_about_says_nothing_of_a_model_that_returns() {
        let models = ModelHealth::new(Arc::default(), Arc::new(Metrics::new()));
        let deadline = Duration::from_secs(1);
        models.add(Breaker::of_remote("m".into(), deadline), None);
        let (stream, now) = (StreamId::new("camera", "default"), Instant::now());
        models.succeeded(0, &stream, now);
        let reason = "refused".to_owned();
        models.look_at_servers(0, &Availability::Away { reason }, None, now);
        models.look_at_servers(0, &Availability::Ready, None, now);
        let state = || models.reports()[0].state;
        for not_asked in [
            DetectError::Picture {
                width_px: 64,
                height_px: 32,
            },
            DetectError::Run {
                model: "m".into(),
                message: "no JPEG can be made of the picture".to_owned(),
            },
        ] {
            models.failed(0, &stream, &not_asked, now);
            assert_eq!(state(), ModelState::Probing, "{not_asked}");
        }
        let nonsense = Implausible {
            output: "out".to_owned(),
            found: f32::NAN,
            place: "a score",
            expected: "from 0 to 1",
            key: "output.activation",
        };
        let nonsense = OutputError::Numbers(nonsense);
        models.failed(
            0,
            &stream,
            &DetectError::of_output(&"m".into(), nonsense),
            now,
        );
        assert_eq!(state(), ModelState::Failing, "it is there");
    }

    #[test]
    fn a_model_that_cannot_be_had_again_is_told_with_the_reason() {
        let models = ModelHealth::new(Arc::default(), Arc::new(Metrics::new()));
        models.add(Breaker::new("m".into(), None), None);
        let now = Instant::now();
        let lines = capture::text("error", || {
            models.trip(0, Trip::Panicked, now);
            models.stays_away(0, "no memory".to_owned(), now + Duration::from_secs(1));
        });
        let [panicked, unloadable] = &lines[..] else {
            panic!("{lines:?}");
        };
        assert!(panicked.contains("its code panicked"), "{panicked}");
        for part in ["a model is set aside", "model=m", "no memory"] {
            assert!(unloadable.contains(part), "{unloadable}");
        }
    }
}
