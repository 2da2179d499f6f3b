//! [`Core`] behind a mutex and a condition variable: decode threads offer frames, inference workers wait for the
//! next one to infer.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

pub use super::core::{
    Admission, Core, Job, JobEnd, ModelRules, Pace, Pick, SourceId, SourceSettings,
};
use crate::telemetry::ledger::FrameDrop;
use twinsight_media::picture::Frame;

/// The scheduler that decode threads and inference workers share.
#[derive(Debug)]
pub struct Scheduler<W> {
    shared: Mutex<SchedulerState<W>>,
    changed: Condvar,
}

#[derive(Debug)]
struct SchedulerState<W> {
    core: Core<W>,
    closed: bool,
}

impl<W: Clone> Default for Scheduler<W> {
    fn default() -> Self {
        Self {
            shared: Mutex::new(SchedulerState {
                core: Core::default(),
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }
}

impl<W: Clone> Scheduler<W> {
    /// Adds a stream.
    pub fn add(&self, settings: SourceSettings<W>) -> SourceId {
        self.shared.lock().core.add(settings)
    }

    /// Changes how a stream is scheduled.
    pub fn update(&self, id: SourceId, settings: SourceSettings<W>) {
        self.shared.lock().core.update(id, settings);
        self.changed.notify_all();
    }

    /// Changes the pace of a stream.
    pub fn set_pace(&self, id: SourceId, pace: Pace) {
        self.shared.lock().core.set_pace(id, pace);
        self.changed.notify_all();
    }

    /// Changes how the frames of a model are given out.
    pub fn set_model(&self, model: usize, rules: ModelRules) {
        self.shared.lock().core.set_model(model, rules);
        self.changed.notify_all();
    }

    /// The age above which a stream's frames are not inferred.
    pub fn max_age(&self, id: SourceId) -> Option<Duration> {
        self.shared.lock().core.max_age(id)
    }

    /// Removes a stream.
    pub fn remove(&self, id: SourceId, reason: FrameDrop) {
        self.shared.lock().core.remove(id, reason);
    }

    /// Puts a frame into its stream's slot. Never waits for inference.
    pub fn offer(&self, id: SourceId, frame: Frame) {
        let mut shared = self.shared.lock();
        if shared.closed {
            let metrics = shared.core.metrics(id);
            drop(shared);
            if let Some(metrics) = metrics {
                metrics.frame_dropped(FrameDrop::Shutdown);
            }
        } else if shared.core.offer(Instant::now(), id, frame) {
            drop(shared);
            self.changed.notify_one();
        }
    }

    /// Waits for the next frame to infer; `None` once the scheduler is closed.
    ///
    /// `alive` is called at least once in `beat`, so that a supervisor sees an idle worker live.
    pub fn next(&self, beat: Duration, mut alive: impl FnMut()) -> Option<Job<W>> {
        let mut shared = self.shared.lock();
        loop {
            alive();
            if shared.closed {
                return None;
            }
            let now = Instant::now();
            let wait = match shared.core.pick(now) {
                Pick::Run(job) => {
                    // Another worker watches for the next due time in this one's place.
                    drop(shared);
                    self.changed.notify_one();
                    return Some(job);
                }
                Pick::WaitUntil(due_at) => due_at.saturating_duration_since(now).min(beat),
                Pick::Idle => beat,
            };
            self.changed.wait_for(&mut shared, wait);
        }
    }

    /// Ends a job.
    pub fn finished(&self, id: SourceId, end: JobEnd, skipped_frames: u64) {
        self.shared.lock().core.finished(id, end, skipped_frames);
        self.changed.notify_one();
    }

    /// Ends scheduling: waiting frames are dropped, workers get `None`, later frames are dropped too.
    pub fn close(&self) {
        let mut shared = self.shared.lock();
        shared.closed = true;
        shared.core.drain(FrameDrop::Shutdown);
        drop(shared);
        self.changed.notify_all();
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
                while scheduler.next(Duration::from_secs(60), || {}).is_some() {}
            })
        };
        scheduler.close();
        worker.join();
    }
}
