//! The pool of inference workers: it owns them, terminates runs that hang, gives up workers whose run does not end even then, and
//! puts new workers into their slots. The node calls [`InferencePool::supervise`] a few times a second; nothing in it waits,
//! since detectors are loaded on a thread of their own (`loading`).
//!
//! A run that hangs and cannot be terminated costs a thread and its memory for good. So at most [`MAX_GIVEN_UP`] workers are
//! given up. Beyond that, no model that was set aside is tried, and a worker that hangs keeps its slot, unless no other worker
//! were left for the models that work.

mod loading;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use self::loading::{LOAD_HANGS, Load, Target};
use super::breaker::{Breaker, Trip};
use super::detector::Detector;
use super::engine::{ModelEngine, PoolModel, RemoteEngine};
use super::health::ModelHealth;
use super::worker::{Flight, PoolContext, Run, Worker, WorkerState};
use crate::clock::SuspendDetector;
use crate::schedule::scheduler::{EngineId, JobEnd};
use crate::telemetry::capacity::CapacityReading;
use crate::telemetry::cpu::process_cpu;
use crate::telemetry::ledger::{FrameDrop, InferenceFailure};
use twinsight_client::backoff::Backoff;
use twinsight_client::thread::Joined;

/// A run that takes longer than this hangs, even if other threads left it no processor.
const RUN_LIMIT: Duration = Duration::from_secs(20);

/// A run that was terminated has this long to end before its worker is given up.
const TERMINATE_LIMIT: Duration = Duration::from_secs(2);

/// At most this many workers are given up, and no more than there are slots.
pub(crate) const MAX_GIVEN_UP: usize = 4;

/// How often [`InferencePool::supervise`] is called.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The back-off between two attempts to start a worker begins and ends with these delays.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// The inference workers and what becomes of them.
pub(crate) struct InferencePool {
    context: PoolContext,
    models: Arc<ModelHealth>,
    /// The models that run on servers.
    remotes: Vec<Remote>,
    slots: Vec<WorkerSlot>,
    /// For how long workers of this machine have inferred so far.
    busy_micros: Arc<AtomicU64>,
    given_up: Vec<Joined>,
    load: Option<Load>,
    /// The threads that hang while they load a detector, at most one for each model.
    hung_loads: Vec<(usize, Joined)>,
    /// Tells a process that was stopped from runs that hang.
    suspended: SuspendDetector,
    /// Whether it was logged that no more workers are given up.
    has_warned_full: bool,
}

/// Detectors for a worker, by the models' indexes.
type DetectorSet = Vec<(usize, Box<dyn Detector>)>;

/// A model that runs on servers.
struct Remote {
    /// Its index among the models.
    model: usize,
    engine: EngineId,
    remote: Arc<dyn RemoteEngine>,
    /// The model that takes its place.
    fallback: Option<usize>,
}

/// A slot for a worker.
struct WorkerSlot {
    /// The name of its workers.
    name: String,
    engine: EngineId,
    worker: Option<Worker>,
    /// When to try to start a worker, if there is none.
    retry_at: Option<Instant>,
    backoff: Backoff,
    /// How long the worker's thread has waited for a processor since the last look.
    starved: Option<crate::telemetry::cpu::RunDelay>,
}

impl fmt::Debug for InferencePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InferencePool")
            .field("workers", &self.slots.len())
            .finish_non_exhaustive()
    }
}

impl InferencePool {
    /// Starts so many workers for the models of this machine, each of which has a detector for each worker, and those of models that
    /// run on servers. If the system does not grant a thread, it is tried again later.
    pub(crate) fn spawn(context: PoolContext, workers: usize, models: Vec<PoolModel>) -> Self {
        let health = ModelHealth::new(Arc::clone(&context.scheduler), Arc::clone(&context.metrics));
        let mut pool = Self {
            context,
            models: Arc::new(health),
            remotes: Vec::new(),
            slots: Vec::new(),
            busy_micros: Arc::default(),
            given_up: Vec::new(),
            load: None,
            hung_loads: Vec::new(),
            suspended: SuspendDetector::new(LOOK_EVERY),
            has_warned_full: false,
        };
        let sets = pool.take_models(models, workers);
        let now = Instant::now();
        for (n, set) in sets.into_iter().enumerate() {
            pool.slots
                .push(WorkerSlot::new(format!("infer-{n}"), EngineId::LOCAL));
            pool.staff(n, set, BTreeSet::new(), now);
        }
        pool.staff_remotes(0, now);
        pool
    }

    /// The health of the models.
    pub(crate) fn models(&self) -> Arc<ModelHealth> {
        Arc::clone(&self.models)
    }

    /// How many slots for workers of this machine there are.
    pub(crate) fn workers(&self) -> usize {
        self.local_slots().count()
    }

    fn local_slots(&self) -> impl Iterator<Item = &WorkerSlot> {
        let is_local = |slot: &&WorkerSlot| slot.engine == EngineId::LOCAL;
        self.slots.iter().filter(is_local)
    }

    /// What the workers of this machine have done so far.
    pub(crate) fn reading(&self, now: Instant) -> CapacityReading {
        let demand = self.context.scheduler.demand(EngineId::LOCAL);
        CapacityReading {
            at: now,
            inferring: Duration::from_micros(self.busy_micros.load(Ordering::Relaxed)),
            taken: demand.taken,
            wanted: demand.wanted,
            cpu: process_cpu(),
        }
    }

    /// What keeps all of inference from working, as a sentence.
    pub(crate) fn last_error(&self) -> Option<&'static str> {
        let is_staffed = self.local_slots().any(|slot| slot.worker.is_some());
        (!is_staffed && self.workers() > 0).then_some("no inference worker runs")
    }

    /// Takes one more model or several, whose indexes follow those of the models that are there. Runs under way are not touched. To be
    /// called before the work of a camera names the models, and after the factory can load them.
    pub(crate) fn add_models(&mut self, models: Vec<PoolModel>) {
        let first_remote = self.remotes.len();
        let workers = self.workers();
        let sets = self.take_models(models, workers);
        // A slot without a worker gets the detectors with its next worker.
        for (slot, set) in self.local_slots().zip(sets) {
            if let Some(worker) = &slot.worker {
                for (model, detector) in set {
                    worker.shared.give(model, detector);
                }
            }
        }
        self.staff_remotes(first_remote, Instant::now());
        // A load for a slot that is under way does not include the new models, so it begins again.
        if let Some(Load {
            target: Target::Slot(n),
            ..
        }) = self.load
        {
            if let Some(load) = self.load.take() {
                load.thread.abandon();
            }
            self.slots[n].retry_at = Some(Instant::now());
        }
    }

    /// Notes the models, and gives the detectors for each worker of this machine.
    fn take_models(&mut self, models: Vec<PoolModel>, workers: usize) -> Vec<DetectorSet> {
        let mut sets: Vec<DetectorSet> = (0..workers).map(|_| Vec::new()).collect();
        for PoolModel { name, engine } in models {
            let model = self.models.count();
            match engine {
                ModelEngine::Local(detectors) => {
                    let first_run = detectors.first().and_then(|first| first.first_run());
                    self.models.add(Breaker::new(name, first_run), None);
                    for (set, detector) in sets.iter_mut().zip(detectors) {
                        set.push((model, detector));
                    }
                }
                ModelEngine::Remote { remote, fallback } => {
                    let engine = EngineId::of_remote(model);
                    let scheduler = &self.context.scheduler;
                    scheduler.set_engine(model, engine);
                    scheduler.set_slots(engine, remote.slots());
                    let breaker = Breaker::of_remote(name, remote.deadline());
                    self.models.add(breaker, Some(Arc::clone(&remote)));
                    self.remotes.push(Remote {
                        model,
                        engine,
                        remote,
                        fallback,
                    });
                }
            }
        }
        // Only now all are known that take the place of others.
        self.look_at_servers(Instant::now());
        sets
    }

    /// Starts the workers of models that run on servers, from this one on.
    fn staff_remotes(&mut self, first: usize, now: Instant) {
        for at in first..self.remotes.len() {
            let Remote {
                model,
                engine,
                ref remote,
                ..
            } = self.remotes[at];
            let detectors: Vec<_> = (0..remote.max_slots()).map(|_| remote.detector()).collect();
            for (k, detector) in detectors.into_iter().enumerate() {
                let n = self.slots.len();
                self.slots
                    .push(WorkerSlot::new(format!("remote-{model}-{k}"), engine));
                self.staff(n, vec![(model, detector)], BTreeSet::new(), now);
            }
        }
    }

    /// Follows which servers can be used, and how many frames they take at once.
    fn look_at_servers(&self, now: Instant) {
        for remote in &self.remotes {
            let availability = remote.remote.availability();
            self.models
                .look_at_servers(remote.model, &availability, remote.fallback, now);
            let slots = remote.remote.slots();
            self.context.scheduler.set_slots(remote.engine, slots);
        }
    }

    /// The models that workers of an engine have.
    fn models_of(&self, engine: EngineId) -> impl Iterator<Item = usize> {
        (0..self.models.count()).filter(move |model| self.engine_of(*model) == engine)
    }

    /// Looks after workers and models: terminates runs that hang, gives workers up, starts new ones, tries models that were set
    /// aside. To be called once in [`LOOK_EVERY`]; it does not wait.
    pub(crate) fn supervise(&mut self, now: Instant) {
        let still = self.suspended.tick(now).unwrap_or_default();
        self.given_up.retain(|thread| !thread.is_finished());
        self.hung_loads.retain(|(_, thread)| !thread.is_finished());
        if self.has_room() {
            self.has_warned_full = false;
        }
        self.look_at_servers(now);
        self.take_loaded(still, now);
        for n in 0..self.slots.len() {
            self.look_at(n, still, now);
        }
        self.try_models(now);
        self.fill_slots(now);
        self.models.sweep(now);
        let given_up = i64::try_from(self.given_up.len()).unwrap_or(i64::MAX);
        self.context.metrics.workers_given_up.set(given_up);
    }

    /// True if one more worker may be given up.
    fn has_room(&self) -> bool {
        self.given_up.len() < self.workers().min(MAX_GIVEN_UP)
    }

    /// False if a model works and all workers but `n` hang as well, of those that have the same models.
    fn others_are_left(&self, n: usize) -> bool {
        let engine = self.slots[n].engine;
        let works = self
            .models_of(engine)
            .any(|model| !self.models.is_set_aside(model));
        let hangs = |worker: &Worker| matches!(*worker.shared.run(), Run::Terminating { .. });
        let slots = self.slots.iter().enumerate();
        let others = slots.filter(|(other, slot)| *other != n && slot.engine == engine);
        let mut others = others.filter_map(|(_, slot)| slot.worker.as_ref());
        !works || others.any(|worker| !hangs(worker))
    }

    fn look_at(&mut self, n: usize, still: Duration, now: Instant) {
        let may_give_up = self.has_room() || !self.others_are_left(n);
        let slot = &mut self.slots[n];
        let Some(worker) = &slot.worker else {
            return;
        };
        if slot.starved.is_none() {
            slot.starved = worker.shared.delay.lock().take();
        }
        let starved = slot.starved.as_mut().map(|delay| delay.lap());
        let starved = starved.unwrap_or_default();
        let mut run = worker.shared.run();
        match &mut *run {
            Run::Busy(flight) => {
                // The run may have begun after the process was stopped, hence the limit.
                flight.since = (flight.since + still).min(now);
                flight.starved += starved;
                let took = now.saturating_duration_since(flight.since);
                let model = flight.model;
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
                    // The lock on `run` is still held, so that the worker cannot begin another run, which this would terminate.
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
                self.models.trip(flight.model, Trip::Stuck, now);
                if may_give_up {
                    self.give_up(n, &flight, now);
                } else if !std::mem::replace(&mut self.has_warned_full, true) {
                    tracing::error!(
                        model = %self.models.name(flight.model), workers = self.given_up.len(),
                        "inference hangs and cannot be ended, and no more workers are given up: restart the node"
                    );
                }
            }
            Run::Idle | Run::Abandoned => {
                drop(run);
                // A worker survives whatever happens, so this is a bug; a new worker is started all the same.
                if worker.thread.is_finished() {
                    self.slots[n].vacate(now);
                }
            }
        }
    }

    /// Gives a worker up, and counts its frame as failed.
    fn give_up(&mut self, n: usize, flight: &Flight, now: Instant) {
        let Some(worker) = self.slots[n].vacate(now) else {
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
        self.context
            .metrics
            .inference_failed(InferenceFailure::Worker);
        self.context
            .scheduler
            .finished(flight.source, JobEnd::Failed, flight.skipped_frames);
        self.given_up.push(worker.thread);
    }

    /// Tries models that were set aside for long enough, once every worker has a detector of theirs. Also loads the detectors that
    /// workers lack of models whose frames they are given.
    fn try_models(&mut self, now: Instant) {
        if let Some((worker, model)) = self.wanted() {
            self.start_load(Target::Worker(worker, model), vec![model], now);
        }
        if !self.has_room() {
            return;
        }
        for model in self.models.due(now) {
            if self.load_hangs(model) {
                self.models.stays_away(model, LOAD_HANGS.to_owned(), now);
                continue;
            }
            let mut workers = self.workers_with(model).peekable();
            let is_staffed = workers.peek().is_some();
            let lacking = workers.find(|shared| shared.lacks.lock().contains(&model));
            let lacking = lacking.map(Arc::clone);
            drop(workers);
            match lacking {
                Some(shared) => self.start_load(Target::Worker(shared, model), vec![model], now),
                None if is_staffed => self.models.probe(model, now),
                None => {}
            }
        }
    }

    /// Finds a worker that lacks a model whose frames it is given, because it was started while the model was under probe.
    fn wanted(&self) -> Option<(Arc<WorkerState>, usize)> {
        let mut workers = self.slots.iter().filter_map(|slot| slot.worker.as_ref());
        workers.find_map(|worker| {
            let lacks = worker.shared.lacks.lock().clone();
            let model = lacks
                .into_iter()
                .find(|model| !self.models.is_closed(*model) && !self.load_hangs(*model))?;
            Some((Arc::clone(&worker.shared), model))
        })
    }

    fn fill_slots(&mut self, now: Instant) {
        let due =
            |slot: &WorkerSlot| slot.worker.is_none() && slot.retry_at.is_some_and(|at| at <= now);
        if self.load.is_some() {
            return;
        }
        if let Some(n) = self.slots.iter().position(due) {
            // Detectors of models that are set aside are loaded when those are tried again.
            let models = self.models_of(self.slots[n].engine);
            let models = models.filter(|model| !self.models.is_set_aside(*model));
            let models: Vec<usize> = models.collect();
            if let Some(&model) = models.iter().find(|model| self.load_hangs(**model)) {
                self.cannot_load(n, model, now);
                return;
            }
            self.start_load(Target::Slot(n), models, now);
        }
    }

    /// True if a worker has a detector of the model.
    fn is_had(&self, model: usize) -> bool {
        self.workers_with(model)
            .any(|shared| !shared.lacks.lock().contains(&model))
    }

    /// The workers that have a detector of the model, or should have one.
    fn workers_with(&self, model: usize) -> impl Iterator<Item = &Arc<WorkerState>> {
        let engine = self.engine_of(model);
        let slots = self.slots.iter().filter(move |slot| slot.engine == engine);
        slots.filter_map(|slot| Some(&slot.worker.as_ref()?.shared))
    }

    fn engine_of(&self, model: usize) -> EngineId {
        let remote = self.remotes.iter().find(|remote| remote.model == model);
        remote.map_or(EngineId::LOCAL, |remote| remote.engine)
    }

    fn staff(&mut self, n: usize, set: DetectorSet, lacks: BTreeSet<usize>, now: Instant) -> bool {
        let slot = &self.slots[n];
        let (name, engine) = (slot.name.clone(), slot.engine);
        let busy_micros = match engine {
            EngineId::LOCAL => Arc::clone(&self.busy_micros),
            // Whoever waits for a server is not busy.
            _ => Arc::default(),
        };
        let state = WorkerState::new(&self.context, name.clone(), engine, busy_micros);
        match Worker::spawn(&self.context, &self.models, state, set, lacks) {
            Ok(worker) => {
                self.slots[n] = WorkerSlot {
                    worker: Some(worker),
                    ..WorkerSlot::new(name, engine)
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
        let slot = &mut self.slots[n];
        let delay = slot.backoff.next_delay(rand::random());
        slot.retry_at = Some(now + delay);
        tracing::error!(
            worker = n,
            reason,
            seconds = delay.as_secs_f64(),
            "an inference worker cannot be replaced, and it is tried again"
        );
    }

    /// Waits for the workers to end, which they do once the scheduler is closed. A worker that has not ended after `deadline` is
    /// abandoned.
    pub(crate) fn join(mut self, deadline: Duration) {
        for remote in &self.remotes {
            remote.remote.close();
        }
        let until = Instant::now() + deadline;
        for worker in self.slots.iter_mut().filter_map(|slot| slot.worker.take()) {
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
    /// Terminates what still runs, since `join` may not have been called.
    fn drop(&mut self) {
        self.context.scheduler.close();
        // A run that hangs must not hold up whoever drops the pool. To wait is the job of `join`.
        for worker in self.slots.iter_mut().filter_map(|slot| slot.worker.take()) {
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
    fn new(name: String, engine: EngineId) -> Self {
        Self {
            name,
            engine,
            worker: None,
            retry_at: None,
            backoff: Backoff::new(FIRST_RETRY, LAST_RETRY),
            starved: None,
        }
    }

    /// Takes the worker out of its slot, so that another is started at once.
    fn vacate(&mut self, now: Instant) -> Option<Worker> {
        self.starved = None;
        self.retry_at = Some(now);
        self.worker.take()
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
