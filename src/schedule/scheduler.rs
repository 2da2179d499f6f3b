//! [`SchedulerCore`] behind a mutex and a condition variable: decode threads offer frames, and inference workers wait for
//! the next one to infer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

pub(crate) use super::core::{Admission, ModelRules, Pace};
pub use super::core::{Job, JobEnd, Pick, SchedulerCore, SourceId, SourceSettings};
pub(crate) use super::engine::Demand;
pub use super::engine::EngineId;
use crate::telemetry::ledger::FrameDrop;
use twinsight_media::picture::Frame;

/// The scheduler that decode threads and inference workers share.
#[derive(Debug)]
pub(crate) struct Scheduler<W> {
    shared: Mutex<Shared<W>>,
}

#[derive(Debug)]
struct Shared<W> {
    core: SchedulerCore<W>,
    closed: bool,
    /// Wakes the workers of each engine.
    changed: Vec<Arc<Condvar>>,
}

impl<W> Shared<W> {
    /// What wakes the workers of an engine.
    fn changed(&mut self, engine: EngineId) -> Arc<Condvar> {
        let index = engine.index();
        if self.changed.len() <= index {
            self.changed.resize_with(index + 1, Arc::default);
        }
        Arc::clone(&self.changed[index])
    }

    fn wake_all(&self) {
        for changed in &self.changed {
            changed.notify_all();
        }
    }
}

impl<W: Clone> Default for Scheduler<W> {
    fn default() -> Self {
        Self {
            shared: Mutex::new(Shared {
                core: SchedulerCore::default(),
                closed: false,
                changed: Vec::new(),
            }),
        }
    }
}

impl<W: Clone> Scheduler<W> {
    pub(crate) fn add(&self, settings: SourceSettings<W>) -> SourceId {
        self.shared.lock().core.add(settings)
    }

    pub(crate) fn update(&self, id: SourceId, settings: SourceSettings<W>) {
        self.change(|core| core.update(id, settings));
    }

    pub(crate) fn set_pace(&self, id: SourceId, pace: Pace) {
        self.change(|core| core.set_pace(id, pace));
    }

    /// Says how the frames of a model are given to workers, and which other model infers those of its streams meanwhile, if any. Both hold
    /// from the same moment, so that no frame between them finds nobody.
    pub(crate) fn set_model(&self, model: usize, rules: ModelRules, substitute: Option<usize>) {
        self.change(|core| {
            core.set_substitute(model, substitute);
            core.set_model(model, rules);
        });
    }

    /// Says which engine runs a model. To be called before any stream has it.
    pub(crate) fn set_engine(&self, model: usize, engine: EngineId) {
        self.change(|core| core.set_engine(model, engine));
    }

    /// So many frames may be in inference by an engine at once. It costs nothing to say so again.
    pub(crate) fn set_slots(&self, engine: EngineId, slots: usize) {
        let mut shared = self.shared.lock();
        if shared.core.set_slots(engine, slots) {
            shared.changed(engine).notify_all();
        }
    }

    /// How many frames were asked of an engine so far, and how many it took.
    pub(crate) fn demand(&self, engine: EngineId) -> Demand {
        self.shared.lock().core.demand(engine)
    }

    fn change(&self, change: impl FnOnce(&mut SchedulerCore<W>)) {
        let mut shared = self.shared.lock();
        change(&mut shared.core);
        shared.wake_all();
    }

    /// The age above which a stream's frames are not inferred.
    pub(crate) fn max_age(&self, id: SourceId) -> Option<Duration> {
        self.shared.lock().core.max_age(id)
    }

    pub(crate) fn remove(&self, id: SourceId, reason: FrameDrop) {
        self.shared.lock().core.remove(id, reason);
    }

    /// Puts a frame into its stream's slot. Never waits for inference.
    pub(crate) fn offer(&self, id: SourceId, frame: Frame) {
        self.put(id, |core, now| core.offer(now, id, frame));
    }

    /// As [`offer`](Self::offer), for a frame that may be of the past, as the next one will tell.
    pub(crate) fn offer_doubtful(&self, id: SourceId, frame: Frame) {
        self.put(id, |core, now| core.offer_doubtful(now, id, frame));
    }

    fn put(&self, id: SourceId, offer: impl FnOnce(&mut SchedulerCore<W>, Instant) -> bool) {
        let mut shared = self.shared.lock();
        if shared.closed {
            let metrics = shared.core.metrics(id);
            drop(shared);
            if let Some(metrics) = metrics {
                metrics.frame_dropped(FrameDrop::Shutdown);
            }
        } else if offer(&mut shared.core, Instant::now()) {
            let engine = shared.core.engine_of(id);
            let changed = engine.map(|engine| shared.changed(engine));
            drop(shared);
            if let Some(changed) = changed {
                changed.notify_one();
            }
        }
    }

    /// Counts a frame that is of the past although it has just come, and is not to be inferred.
    pub(crate) fn skip(&self, id: SourceId) {
        self.shared.lock().core.skip(id);
    }

    /// Waits for the next frame that an engine is to infer; `None` once the scheduler is closed.
    ///
    /// It calls `alive` at least once in `beat`, so that a supervisor sees that an idle worker lives.
    pub(crate) fn next(
        &self,
        engine: EngineId,
        beat: Duration,
        mut alive: impl FnMut(),
    ) -> Option<Job<W>> {
        let mut shared = self.shared.lock();
        let changed = shared.changed(engine);
        loop {
            alive();
            if shared.closed {
                return None;
            }
            let now = Instant::now();
            let wait = match shared.core.pick(now, engine) {
                Pick::Run(job) => {
                    // Another worker watches for the next due time in this one's place.
                    drop(shared);
                    changed.notify_one();
                    return Some(job);
                }
                Pick::WaitUntil(due_at) => due_at.saturating_duration_since(now).min(beat),
                Pick::Idle => beat,
            };
            changed.wait_for(&mut shared, wait);
        }
    }

    /// Ends a job, so that its stream may be picked again.
    pub(crate) fn finished(&self, id: SourceId, end: JobEnd, skipped_frames: u64) {
        let mut shared = self.shared.lock();
        let was_with = shared.core.engine_in_flight(id);
        shared.core.finished(id, end, skipped_frames);
        // There is room in the engine that had the frame, and the next one may be for another.
        let is_for = shared.core.engine_of(id);
        for engine in [was_with, is_for.filter(|_| is_for != was_with)]
            .into_iter()
            .flatten()
        {
            shared.changed(engine).notify_one();
        }
    }

    /// Ends scheduling: waiting and later frames are dropped, and workers get `None`.
    pub(crate) fn close(&self) {
        let mut shared = self.shared.lock();
        shared.closed = true;
        shared.core.drain(FrameDrop::Shutdown);
        shared.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_closed_scheduler_lets_its_workers_go() {
        let scheduler = Arc::new(Scheduler::<()>::default());
        let worker = {
            let scheduler = Arc::clone(&scheduler);
            twinsight_client::thread::spawn_named("test-worker", move || {
                while scheduler
                    .next(EngineId::LOCAL, Duration::from_secs(60), || {})
                    .is_some()
                {}
            })
        };
        scheduler.close();
        worker.join();
    }
}
