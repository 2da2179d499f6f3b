//! The pool of inference workers: it owns them, ends runs that hang, gives up workers that do not come back, and staffs
//! their places again. The node calls [`InferencePool::supervise`] a few times a second; nothing in it waits: detectors are
//! loaded on a thread of their own, one load at a time.
//!
//! A run that hangs and cannot be ended costs a thread and its memory for good. As many as [`MAX_GIVEN_UP`] workers are given
//! up; beyond that no model that was set aside is tried, and the places of runs that hang stay taken, unless nobody were left for
//! the models that work. So each model costs what its runs of one moment do, at most.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use super::breaker::Trip;
use super::detector::Detector;
use super::health::ModelHealth;
use super::worker::{Flight, PoolContext, Run, Worker, WorkerState};
use crate::clock::SuspendDetector;
use crate::schedule::scheduler::JobEnd;
use crate::telemetry::ledger::FrameDrop;
use twinsight_client::backoff::Backoff;
use twinsight_client::thread::{Joined, try_spawn_named};

/// A run takes no longer than this, even where others leave it no processor.
const RUN_LIMIT: Duration = Duration::from_secs(20);

/// A run that was told to end has this long before its worker is given up.
const TERMINATE_LIMIT: Duration = Duration::from_secs(2);

/// Loading a detector takes no longer than this, even from a slow disk.
const LOAD_LIMIT: Duration = Duration::from_secs(120);

/// Why there is none then.
const LOAD_HANGS: &str = "loading it does not end";

/// Workers that are given up, at most; of fewer workers as many as there are.
pub const MAX_GIVEN_UP: usize = 4;

/// Time between two looks.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Between two attempts to staff a place.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// The workers.
pub struct InferencePool {
    context: PoolContext,
    models: Arc<ModelHealth>,
    places: Vec<WorkerSlot>,
    given_up: Vec<Joined>,
    load: Option<DetectorLoad>,
    /// Threads that hang in loading a model, one a model at most.
    hung_loads: Vec<(usize, Joined)>,
    /// A process that was stopped has no run that hangs.
    suspended: SuspendDetector,
    /// It was said that no more workers can be given up.
    said_full: bool,
}

/// A worker's place.
struct WorkerSlot {
    worker: Option<Worker>,
    /// Without a worker: when to try to staff it, and how often that failed.
    retry_at: Option<Instant>,
    backoff: Backoff,
    /// Of the worker's thread, as it was seen last.
    starved: Option<crate::telemetry::cpu::RunDelay>,
}

/// Detectors that are being loaded.
struct DetectorLoad {
    target: LoadTarget,
    thread: Joined,
    /// In their order.
    models: Vec<usize>,
    /// Of the first of them.
    loaded: Vec<LoadedDetector>,
    /// The next one's load began.
    since: Instant,
    result: Receiver<LoadedDetector>,
    /// For tests, which let no time pass before it is.
    #[cfg(test)]
    is_done: Arc<std::sync::atomic::AtomicBool>,
}

/// A detector of a model, or why there is none.
type LoadedDetector = (usize, Result<Box<dyn Detector>, String>);

/// Whom detectors are loaded for.
enum LoadTarget {
    /// A worker for this place.
    Slot(usize),
    /// This worker, which lacks the model.
    Worker(Arc<WorkerState>, usize),
}

impl fmt::Debug for InferencePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InferencePool")
            .field("workers", &self.places.len())
            .finish_non_exhaustive()
    }
}

impl InferencePool {
    /// Starts a worker for each set of detectors. A thread that the system does not grant is tried again later.
    pub fn spawn(context: PoolContext, detectors: Vec<Vec<Box<dyn Detector>>>) -> Self {
        let models = ModelHealth::new(Arc::clone(&context.scheduler), Arc::clone(&context.metrics));
        let mut pool = Self {
            context,
            models: Arc::new(models),
            places: Vec::new(),
            given_up: Vec::new(),
            load: None,
            hung_loads: Vec::new(),
            suspended: SuspendDetector::new(LOOK_EVERY),
            said_full: false,
        };
        if let Some(set) = detectors.first() {
            pool.add_names(set);
        }
        let now = Instant::now();
        for (n, set) in detectors.into_iter().enumerate() {
            pool.places.push(WorkerSlot::empty());
            let set = set.into_iter().enumerate().collect();
            pool.staff(n, set, BTreeSet::new(), now);
        }
        pool
    }

    /// How the models are.
    pub fn models(&self) -> Arc<ModelHealth> {
        Arc::clone(&self.models)
    }

    /// The places of workers.
    pub fn workers(&self) -> usize {
        self.places.len()
    }

    /// What keeps all of inference from working, as a sentence.
    pub fn last_error(&self) -> Option<&'static str> {
        let idle_hands = self.places.iter().any(|place| place.worker.is_some());
        (!idle_hands && !self.places.is_empty()).then_some("no inference worker runs")
    }

    /// Gives each worker the detectors of one more model or several, behind those that it has; the work
    /// under way is not touched. `sets` has one set a worker. To be called before a camera's work
    /// names them, and after the factory makes them too.
    pub fn add_models(&mut self, sets: Vec<Vec<Box<dyn Detector>>>) {
        let first = self.models.count();
        if let Some(set) = sets.first() {
            self.add_names(set);
        }
        // A place without a worker gets its own with its next one.
        for (place, set) in self.places.iter().zip(sets) {
            if let Some(worker) = &place.worker {
                for (n, detector) in set.into_iter().enumerate() {
                    worker.shared.give(first + n, detector);
                }
            }
        }
        // What is being loaded for a place does not have them.
        if let Some(DetectorLoad {
            target: LoadTarget::Slot(n),
            ..
        }) = self.load
        {
            if let Some(load) = self.load.take() {
                load.thread.abandon();
            }
            self.places[n].retry_at = Some(Instant::now());
        }
    }

    /// Looks after workers and models: ends runs that hang, gives up workers that do not come back, staffs places,
    /// tries models that were set aside. To be called once in [`LOOK_EVERY`]; does not wait.
    pub fn supervise(&mut self, now: Instant) {
        let still = self.suspended.tick(now).unwrap_or_default();
        self.given_up.retain(|thread| !thread.is_finished());
        self.hung_loads.retain(|(_, thread)| !thread.is_finished());
        if self.has_room() {
            self.said_full = false;
        }
        self.take_loaded(still, now);
        for n in 0..self.places.len() {
            self.look_at(n, still, now);
        }
        self.try_models(now);
        self.staff_places(now);
        self.models.sweep(now);
        let given_up = i64::try_from(self.given_up.len()).unwrap_or(i64::MAX);
        self.context.metrics.workers_given_up.set(given_up);
    }

    /// True if one more worker may be given up.
    fn has_room(&self) -> bool {
        self.given_up.len() < self.places.len().min(MAX_GIVEN_UP)
    }

    /// False if a model works and no worker but `n`, which hangs, is there for it.
    fn others_are_left(&self, n: usize) -> bool {
        let works = (0..self.models.count()).any(|model| !self.models.is_set_aside(model));
        let hangs = |worker: &Worker| matches!(*worker.shared.run(), Run::Terminating { .. });
        let others = self
            .places
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != n);
        let mut others = others.filter_map(|(_, place)| place.worker.as_ref());
        !works || others.any(|worker| !hangs(worker))
    }

    fn look_at(&mut self, n: usize, still: Duration, now: Instant) {
        let may_give_up = self.has_room() || !self.others_are_left(n);
        let place = &mut self.places[n];
        let Some(worker) = &place.worker else {
            return;
        };
        if place.starved.is_none() {
            place.starved = worker.shared.delay.lock().take();
        }
        let starved = place.starved.as_mut().map(|delay| delay.lap());
        let starved = starved.unwrap_or_default();
        let mut run = worker.shared.run();
        match &mut *run {
            Run::Busy(flight) => {
                // A run may have begun after the process stood still.
                flight.since = (flight.since + still).min(now);
                flight.starved += starved;
                let took = now.saturating_duration_since(flight.since);
                let model = flight.work.model;
                let limit = self.models.limit(model);
                if took.saturating_sub(flight.starved) > limit || took > RUN_LIMIT {
                    tracing::error!(
                        camera = %flight.work.id, model = %self.models.name(model), worker = worker.shared.name,
                        seconds = took.as_secs_f64(), "inference hangs: the run is being ended"
                    );
                    *run = Run::Terminating {
                        since: now,
                        flight: flight.clone(),
                    };
                    // Before the worker can see it, so that no later run of its is ended.
                    worker.shared.terminate(model);
                    drop(run);
                    self.models.trip(model, Trip::Hung, now);
                }
            }
            Run::Terminating { since, flight } => {
                *since = (*since + still).min(now);
                if now.saturating_duration_since(*since) <= TERMINATE_LIMIT {
                    return;
                }
                let flight = flight.clone();
                if may_give_up {
                    *run = Run::Abandoned;
                }
                drop(run);
                self.models.trip(flight.work.model, Trip::Stuck, now);
                if may_give_up {
                    self.give_up(n, &flight, now);
                } else if !std::mem::replace(&mut self.said_full, true) {
                    tracing::error!(
                        model = %self.models.name(flight.work.model), workers = self.given_up.len(),
                        "inference hangs and cannot be ended, and no more workers are given up: restart the node"
                    );
                }
            }
            Run::Idle | Run::Abandoned => {
                drop(run);
                // It goes on after whatever happens, so this is a bug; the place is staffed all the same.
                if worker.thread.is_finished() {
                    self.places[n].vacate(now);
                }
            }
        }
    }

    /// Leaves a worker to itself, and its frame for lost.
    fn give_up(&mut self, n: usize, flight: &Flight, now: Instant) {
        let Some(worker) = self.places[n].vacate(now) else {
            return;
        };
        tracing::warn!(
            camera = %flight.work.id, worker = worker.shared.name,
            "a run does not end when it is told to: its worker is given up"
        );
        worker.shared.heartbeat.lock().take();
        flight
            .work
            .metrics
            .frame_dropped(FrameDrop::InferenceFailed);
        self.context.metrics.inference_failures.inc();
        self.context
            .scheduler
            .finished(flight.source, JobEnd::Failed, flight.skipped_frames);
        self.given_up.push(worker.thread);
    }

    /// Tries models that were left alone for long enough, once every worker has a detector of theirs; and gives workers those
    /// that they lack of models whose frames they are given.
    fn try_models(&mut self, now: Instant) {
        if let Some((worker, model)) = self.wanted() {
            self.start_load(LoadTarget::Worker(worker, model), vec![model], now);
        }
        if !self.has_room() {
            return;
        }
        for model in self.models.due(now) {
            if self.load_hangs(model) {
                self.models.stays_away(model, LOAD_HANGS.to_owned(), now);
                continue;
            }
            let mut workers = self
                .places
                .iter()
                .filter_map(|place| Some(&place.worker.as_ref()?.shared))
                .peekable();
            let is_staffed = workers.peek().is_some();
            let lacking = workers.find(|shared| shared.lacks.lock().contains(&model));
            match lacking.map(Arc::clone) {
                Some(shared) => {
                    self.start_load(LoadTarget::Worker(shared, model), vec![model], now)
                }
                None if is_staffed => self.models.probe(model, now),
                None => {}
            }
        }
    }

    /// A worker that lacks a model whose frames are given out: it was staffed while the model was under trial.
    fn wanted(&self) -> Option<(Arc<WorkerState>, usize)> {
        let mut workers = self.places.iter().filter_map(|place| place.worker.as_ref());
        workers.find_map(|worker| {
            let lacks = worker.shared.lacks.lock().clone();
            let model = lacks
                .into_iter()
                .find(|model| !self.models.is_closed(*model) && !self.load_hangs(*model))?;
            Some((Arc::clone(&worker.shared), model))
        })
    }

    /// True while a thread hangs that loads a detector of the model: another would hang as well.
    fn load_hangs(&self, model: usize) -> bool {
        self.hung_loads.iter().any(|(hung, _)| *hung == model)
    }

    fn staff_places(&mut self, now: Instant) {
        let due = |place: &WorkerSlot| {
            place.worker.is_none() && place.retry_at.is_some_and(|at| at <= now)
        };
        if self.load.is_some() {
            return;
        }
        if let Some(n) = self.places.iter().position(due) {
            // The others are had when they are tried again.
            let models = (0..self.models.count()).filter(|model| !self.models.is_set_aside(*model));
            let models: Vec<usize> = models.collect();
            if let Some(&model) = models.iter().find(|model| self.load_hangs(**model)) {
                self.cannot_load(n, model, now);
                return;
            }
            self.start_load(LoadTarget::Slot(n), models, now);
        }
    }

    /// Loads detectors on a thread of their own, unless others are being loaded.
    fn start_load(&mut self, target: LoadTarget, models: Vec<usize>, now: Instant) {
        if self.load.is_some() {
            return;
        }
        let (sender, result) = channel();
        let factory = Arc::clone(&self.context.factory);
        #[cfg(test)]
        let is_done: Arc<std::sync::atomic::AtomicBool> = Arc::default();
        #[cfg(test)]
        let done = Arc::clone(&is_done);
        let wanted = models.clone();
        let load = move || {
            for model in wanted {
                let loaded = factory(model).map_err(|error| error.to_string());
                // The pool may be gone.
                let _ = sender.send((model, loaded));
            }
            #[cfg(test)]
            done.store(true, std::sync::atomic::Ordering::Release);
        };
        match try_spawn_named("infer-load", load) {
            Ok(thread) => {
                self.load = Some(DetectorLoad {
                    target,
                    thread,
                    models,
                    loaded: Vec::new(),
                    since: now,
                    result,
                    #[cfg(test)]
                    is_done,
                });
            }
            Err(error) => {
                let reason = error.to_string();
                match target {
                    LoadTarget::Slot(n) => self.cannot_staff(n, &reason, now),
                    LoadTarget::Worker(_, model) => self.models.stays_away(model, reason, now),
                }
            }
        }
    }

    fn take_loaded(&mut self, still: Duration, now: Instant) {
        let Some(load) = &mut self.load else { return };
        load.since = (load.since + still).min(now);
        let panicked = loop {
            match load.result.try_recv() {
                Ok(loaded) => {
                    load.loaded.push(loaded);
                    load.since = now;
                }
                Err(error) => break error == TryRecvError::Disconnected,
            }
        };
        let missing = load.models.get(load.loaded.len()).copied();
        let hangs = now.saturating_duration_since(load.since) > LOAD_LIMIT;
        if missing.is_some() && !panicked && !hangs {
            return;
        }
        let Some(load) = self.load.take() else {
            return;
        };
        match missing {
            Some(model) if !panicked => self.hung_loads.push((model, load.thread)),
            // It is at its end.
            _ => load.thread.abandon(),
        }
        let mut loaded = load.loaded;
        match (load.target, missing) {
            (LoadTarget::Slot(n), None) => self.staff_with(n, loaded, now),
            (LoadTarget::Slot(n), Some(_)) if panicked => {
                self.cannot_staff(n, "loading its models panicked", now);
            }
            (LoadTarget::Slot(n), Some(model)) => self.cannot_load(n, model, now),
            (LoadTarget::Worker(_, model), Some(_)) => {
                let reason = if panicked {
                    "loading it panicked"
                } else {
                    LOAD_HANGS
                };
                self.models.stays_away(model, reason.to_owned(), now);
            }
            (LoadTarget::Worker(worker, _), None) => match loaded.pop() {
                // To a worker that was given up meanwhile, for nothing.
                Some((model, Ok(detector))) => worker.give(model, detector),
                Some((model, Err(reason))) => self.models.stays_away(model, reason, now),
                None => {}
            },
        }
    }

    /// A place is not staffed because a model's load does not end.
    fn cannot_load(&mut self, n: usize, model: usize, now: Instant) {
        if self.is_had(model) {
            // As in `staff_with`.
            let reason = format!("model {}: {LOAD_HANGS}", self.models.name(model));
            self.cannot_staff(n, &reason, now);
        } else {
            // The next try, at once, is without it.
            self.models
                .trip(model, Trip::Unloadable(LOAD_HANGS.to_owned()), now);
        }
    }

    /// Staffs a place with what could be loaded for it.
    fn staff_with(&mut self, n: usize, loaded: Vec<LoadedDetector>, now: Instant) {
        let mut lacks: BTreeSet<usize> = (0..self.models.count()).collect();
        let mut set = Vec::new();
        for (model, loaded) in loaded {
            match loaded {
                Ok(detector) => {
                    lacks.remove(&model);
                    set.push((model, detector));
                }
                // Others have it: better one worker less than a model less.
                Err(reason) if self.is_had(model) => {
                    let reason = format!("model {}: {reason}", self.models.name(model));
                    self.cannot_staff(n, &reason, now);
                    return;
                }
                Err(reason) => self.models.trip(model, Trip::Unloadable(reason), now),
            }
        }
        if self.staff(n, set, lacks, now) {
            self.context.metrics.worker_restarts.inc();
            tracing::warn!(worker = n, "an inference worker was replaced");
        }
    }

    /// True if a worker has a detector of the model.
    fn is_had(&self, model: usize) -> bool {
        let mut workers = self.places.iter().filter_map(|place| place.worker.as_ref());
        workers.any(|worker| !worker.shared.lacks.lock().contains(&model))
    }

    fn staff(
        &mut self,
        n: usize,
        set: Vec<(usize, Box<dyn Detector>)>,
        lacks: BTreeSet<usize>,
        now: Instant,
    ) -> bool {
        match Worker::spawn(&self.context, &self.models, n, set, lacks) {
            Ok(worker) => {
                self.places[n] = WorkerSlot {
                    worker: Some(worker),
                    ..WorkerSlot::empty()
                };
                true
            }
            Err(error) => {
                self.cannot_staff(n, &error.to_string(), now);
                false
            }
        }
    }

    fn cannot_staff(&mut self, n: usize, reason: &str, now: Instant) {
        let place = &mut self.places[n];
        let delay = place.backoff.next_delay(rand::random());
        place.retry_at = Some(now + delay);
        tracing::error!(
            worker = n,
            reason,
            seconds = delay.as_secs_f64(),
            "an inference worker cannot be replaced, and it is tried again"
        );
    }

    fn add_names(&self, set: &[Box<dyn Detector>]) {
        for detector in set {
            let name = Arc::clone(&detector.model().name);
            self.models.add(name, detector.first_run());
        }
    }

    /// Waits for the workers to end; the scheduler must be closed. One that hangs is left alone
    /// after `deadline`.
    pub fn join(mut self, deadline: Duration) {
        let until = Instant::now() + deadline;
        for worker in self
            .places
            .iter_mut()
            .filter_map(|place| place.worker.take())
        {
            while !worker.thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            if worker.thread.is_finished() {
                worker.thread.join();
            } else {
                tracing::warn!(
                    worker = worker.shared.name,
                    "an inference worker did not end in time"
                );
                let run = std::mem::replace(&mut *worker.shared.run(), Run::Abandoned);
                if let Run::Busy(flight) | Run::Terminating { flight, .. } = run {
                    flight.work.metrics.frame_dropped(FrameDrop::Shutdown);
                }
                worker.thread.abandon();
            }
        }
    }
}

impl Drop for InferencePool {
    /// Ends what `join` was not called for.
    fn drop(&mut self) {
        self.context.scheduler.close();
        // A run that hangs must not hold up whoever drops the pool; `join` has waited where it should.
        for worker in self
            .places
            .iter_mut()
            .filter_map(|place| place.worker.take())
        {
            worker.shared.terminate_all();
            worker.thread.abandon();
        }
        for thread in self.given_up.drain(..) {
            thread.abandon();
        }
        let loads = self.hung_loads.drain(..).map(|(_, thread)| thread);
        for thread in loads.chain(self.load.take().map(|load| load.thread)) {
            thread.abandon();
        }
    }
}

impl WorkerSlot {
    fn empty() -> Self {
        Self {
            worker: None,
            retry_at: None,
            backoff: Backoff::new(FIRST_RETRY, LAST_RETRY),
            starved: None,
        }
    }

    /// Takes its worker out of it; another is wanted at once.
    fn vacate(&mut self, now: Instant) -> Option<Worker> {
        self.starved = None;
        self.retry_at = Some(now);
        self.worker.take()
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
