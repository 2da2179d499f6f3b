//! Loading of detectors for the pool's workers: the models that are wanted and the worker or slot that they are for come in,
//! detectors or the reasons why there are none go out. One load is under way at a time, on a thread of its own, since a load may
//! take long or hang; the pool looks for its results.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use super::InferencePool;
use crate::detect::breaker::Trip;
use crate::detect::detector::Detector;
use crate::detect::worker::WorkerState;
use twinsight_client::thread::{Joined, try_spawn_named};

/// Loading a detector that takes longer than this hangs; even a slow disk needs less.
const LOAD_LIMIT: Duration = Duration::from_secs(120);

/// The reason that is reported then.
pub(super) const LOAD_HANGS: &str = "loading it does not end";

/// A load of detectors that is under way.
pub(super) struct Load {
    pub(super) target: Target,
    pub(super) thread: Joined,
    /// The models whose detectors are loaded, in this order.
    pub(super) models: Vec<usize>,
    /// What has come of the first of them.
    loaded: Vec<Loaded>,
    /// When the load of the next one began.
    since: Instant,
    result: Receiver<Loaded>,
    /// Lets tests wait until the load has ended, before they let time pass.
    #[cfg(test)]
    pub(super) is_done: Arc<std::sync::atomic::AtomicBool>,
}

/// A detector of a model, or why there is none.
type Loaded = (usize, Result<Box<dyn Detector>, String>);

/// What detectors are loaded for.
pub(super) enum Target {
    /// They are loaded for a new worker in this slot.
    Slot(usize),
    /// They are loaded for this worker, which lacks the model.
    Worker(Arc<WorkerState>, usize),
}

impl InferencePool {
    /// True while a thread hangs that loads a detector of the model, since another would hang as well.
    pub(super) fn load_hangs(&self, model: usize) -> bool {
        self.hung_loads.iter().any(|(hung, _)| *hung == model)
    }

    /// Loads detectors on a thread of their own, unless a load is under way.
    pub(super) fn start_load(&mut self, target: Target, models: Vec<usize>, now: Instant) {
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
                self.load = Some(Load {
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
                    Target::Slot(n) => self.cannot_staff(n, &reason, now),
                    Target::Worker(_, model) => self.models.stays_away(model, reason, now),
                }
            }
        }
    }

    pub(super) fn take_loaded(&mut self, still: Duration, now: Instant) {
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
            // The thread has sent all that it had, and is about to end.
            _ => load.thread.abandon(),
        }
        let mut loaded = load.loaded;
        match (load.target, missing) {
            (Target::Slot(n), None) => self.staff_with(n, loaded, now),
            (Target::Slot(n), Some(_)) if panicked => {
                self.cannot_staff(n, "loading its models panicked", now);
            }
            (Target::Slot(n), Some(model)) => self.cannot_load(n, model, now),
            (Target::Worker(_, model), Some(_)) => {
                let reason = if panicked {
                    "loading it panicked"
                } else {
                    LOAD_HANGS
                };
                self.models.stays_away(model, reason.to_owned(), now);
            }
            (Target::Worker(worker, _), None) => match loaded.pop() {
                // If the worker was given up meanwhile, this is for nothing.
                Some((model, Ok(detector))) => worker.give(model, detector),
                Some((model, Err(reason))) => self.models.stays_away(model, reason, now),
                None => {}
            },
        }
    }

    /// Starts no worker in a slot, because the load of a model does not end.
    pub(super) fn cannot_load(&mut self, n: usize, model: usize, now: Instant) {
        if self.is_had(model) {
            // See `staff_with`: one worker less is better than one model less.
            let reason = format!("model {}: {LOAD_HANGS}", self.models.name(model));
            self.cannot_staff(n, &reason, now);
        } else {
            // The next try, which follows at once, is without this model.
            self.models
                .trip(model, Trip::Unloadable(LOAD_HANGS.to_owned()), now);
        }
    }

    /// Starts a worker in a slot with the detectors that could be loaded for it.
    fn staff_with(&mut self, n: usize, loaded: Vec<Loaded>, now: Instant) {
        let mut lacks: BTreeSet<usize> = self.models_of(self.slots[n].engine).collect();
        let mut set = Vec::new();
        for (model, loaded) in loaded {
            match loaded {
                Ok(detector) => {
                    lacks.remove(&model);
                    set.push((model, detector));
                }
                // Other workers have the model, and one worker less is better than one model less.
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
}
