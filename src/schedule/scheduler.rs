//! Freshest frames of all camera streams come in, one slot each; inference workers pull the frame of
//! whoever has waited longest. [`Core`] decides with time passed in; [`Scheduler`] wraps it in a mutex
//! and a condition variable for decode threads (offer) and inference workers (next).
//!
//! A frame leaves its slot in one of these ways, each counted on its stream: picked, replaced by a
//! newer one (`rate_limited` if its stream was not yet due, else `replaced`), found too old when it
//! could have been picked (`stale`), or dropped with its stream (`camera_removed`, `shutdown`).

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::decode::frame::Frame;
use crate::telemetry::ledger::FrameDrop;
use crate::telemetry::metrics::StreamMetrics;

/// A stream that is scheduled. Ids are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u64);

/// How a stream is scheduled, and what its worker needs to know.
#[derive(Debug, Clone)]
pub struct SourceSettings<W> {
    /// Time between the starts of two inferences; zero: every frame.
    pub min_interval: Duration,
    /// A frame older than this is not inferred.
    pub max_age: Duration,
    /// Where the stream's frames are counted.
    pub metrics: Arc<StreamMetrics>,
    /// Handed to the worker with every frame.
    pub work: W,
}

/// A frame to infer. Tell the scheduler with [`Scheduler::finished`] when it is done.
#[derive(Debug)]
pub struct Job<W> {
    /// Whose frame it is.
    pub source: SourceId,
    /// The frame.
    pub frame: Frame,
    /// From the stream's settings.
    pub work: W,
    /// Frames of the stream that were neither inferred nor held back by its rate limit since the
    /// last job that succeeded.
    pub skipped_frames: u64,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEnd {
    /// The frame went through the model.
    Inferred,
    /// It did not.
    Failed,
}

/// What to do now.
#[derive(Debug)]
pub enum Pick<W> {
    /// Infer this.
    Run(Job<W>),
    /// Nothing is due before this moment, unless a frame is offered.
    WaitUntil(Instant),
    /// Nothing waits.
    Idle,
}

/// The decision, without threads.
#[derive(Debug)]
pub struct Core<W> {
    sources: BTreeMap<SourceId, Source<W>>,
    next_id: u64,
}

#[derive(Debug)]
struct Source<W> {
    settings: SourceSettings<W>,
    slot: Option<Frame>,
    in_flight: bool,
    /// Start of the last inference; the order of service.
    served_at: Option<Instant>,
    /// When the rate limit allows the next one.
    due_at: Option<Instant>,
    skipped_frames: u64,
}

impl<W> Default for Core<W> {
    fn default() -> Self {
        Self {
            sources: BTreeMap::new(),
            next_id: 0,
        }
    }
}

impl<W: Clone> Core<W> {
    /// Adds a stream.
    pub fn add(&mut self, settings: SourceSettings<W>) -> SourceId {
        let id = SourceId(self.next_id);
        self.next_id += 1;
        let source = Source {
            settings,
            slot: None,
            in_flight: false,
            served_at: None,
            due_at: None,
            skipped_frames: 0,
        };
        self.sources.insert(id, source);
        id
    }

    /// Changes how a stream is scheduled; its waiting frame stays. Another rate counts from the last
    /// inference on: a raised one holds at once.
    pub fn update(&mut self, id: SourceId, settings: SourceSettings<W>) {
        if let Some(source) = self.sources.get_mut(&id) {
            let interval = settings.min_interval;
            if interval != source.settings.min_interval {
                source.due_at = source
                    .served_at
                    .filter(|_| !interval.is_zero())
                    .map(|served_at| served_at + interval);
            }
            source.settings = settings;
        }
    }

    /// Removes a stream and drops its waiting frame.
    pub fn remove(&mut self, id: SourceId, reason: FrameDrop) {
        if let Some(source) = self.sources.remove(&id)
            && source.slot.is_some()
        {
            source.settings.metrics.frame_dropped(reason);
        }
    }

    /// Puts a frame into its stream's slot. True when a worker might have something to do.
    pub fn offer(&mut self, now: Instant, id: SourceId, frame: Frame) -> bool {
        let Some(source) = self.sources.get_mut(&id) else {
            return false;
        };
        if source.slot.replace(frame).is_some() {
            let reason = if source.is_due(now) {
                FrameDrop::Replaced
            } else {
                FrameDrop::RateLimited
            };
            source.drop_frame(reason);
        }
        !source.in_flight
    }

    /// The frame of the stream that has waited longest since it was last served.
    pub fn pick(&mut self, now: Instant) -> Pick<W> {
        let mut chosen: Option<(Option<Instant>, SourceId)> = None;
        let mut next_due: Option<Instant> = None;
        for (id, source) in &mut self.sources {
            if source.in_flight {
                continue;
            }
            let Some(frame) = &source.slot else { continue };
            if frame.age(now) > source.settings.max_age {
                source.slot = None;
                source.drop_frame(FrameDrop::Stale);
                continue;
            }
            if let Some(due_at) = source.due_at.filter(|due_at| *due_at > now) {
                next_due = Some(next_due.map_or(due_at, |earliest| earliest.min(due_at)));
                continue;
            }
            // `None` (never served) comes before any instant; ids break ties.
            if chosen.is_none_or(|best| (source.served_at, *id) < best) {
                chosen = Some((source.served_at, *id));
            }
        }
        let picked = chosen.and_then(|(_, id)| {
            let source = self.sources.get_mut(&id)?;
            Some(Job {
                source: id,
                frame: source.slot.take()?,
                work: source.settings.work.clone(),
                skipped_frames: source.start(now),
            })
        });
        match (picked, next_due) {
            (Some(job), _) => Pick::Run(job),
            (None, Some(due_at)) => Pick::WaitUntil(due_at),
            (None, None) => Pick::Idle,
        }
    }

    /// Ends a job: its stream may be picked again.
    pub fn finished(&mut self, id: SourceId, end: JobEnd, skipped_frames: u64) {
        if let Some(source) = self.sources.get_mut(&id) {
            source.in_flight = false;
            if end == JobEnd::Failed {
                source.skipped_frames += skipped_frames + 1;
            }
        }
    }

    /// Drops every waiting frame.
    pub fn drain(&mut self, reason: FrameDrop) {
        for source in self.sources.values_mut() {
            if source.slot.take().is_some() {
                source.drop_frame(reason);
            }
        }
    }
}

impl<W> Source<W> {
    fn is_due(&self, now: Instant) -> bool {
        self.due_at.is_none_or(|due_at| due_at <= now)
    }

    fn drop_frame(&mut self, reason: FrameDrop) {
        self.settings.metrics.frame_dropped(reason);
        if reason != FrameDrop::RateLimited {
            self.skipped_frames += 1;
        }
    }

    /// Marks the stream as served; its skipped frames are told once.
    fn start(&mut self, now: Instant) -> u64 {
        let interval = self.settings.min_interval;
        // A steady cadence: a frame that came a little late does not push all later ones.
        self.due_at = (!interval.is_zero()).then(|| match self.due_at {
            Some(due_at) if now.saturating_duration_since(due_at) < interval => due_at + interval,
            _ => now + interval,
        });
        self.served_at = Some(now);
        self.in_flight = true;
        std::mem::take(&mut self.skipped_frames)
    }
}

/// The scheduler that decode threads and inference workers share.
#[derive(Debug)]
pub struct Scheduler<W> {
    shared: Mutex<Shared<W>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Shared<W> {
    core: Core<W>,
    closed: bool,
}

impl<W: Clone> Default for Scheduler<W> {
    fn default() -> Self {
        Self {
            shared: Mutex::new(Shared {
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
        self.lock().core.add(settings)
    }

    /// Changes how a stream is scheduled.
    pub fn update(&self, id: SourceId, settings: SourceSettings<W>) {
        self.lock().core.update(id, settings);
        self.changed.notify_all();
    }

    /// Removes a stream.
    pub fn remove(&self, id: SourceId, reason: FrameDrop) {
        self.lock().core.remove(id, reason);
    }

    /// Puts a frame into its stream's slot. Never waits for inference.
    pub fn offer(&self, id: SourceId, frame: Frame) {
        let mut shared = self.lock();
        if shared.closed {
            let metrics = shared
                .core
                .sources
                .get(&id)
                .map(|source| Arc::clone(&source.settings.metrics));
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
        let mut shared = self.lock();
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
            (shared, _) = self
                .changed
                .wait_timeout(shared, wait)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends a job.
    pub fn finished(&self, id: SourceId, end: JobEnd, skipped_frames: u64) {
        self.lock().core.finished(id, end, skipped_frames);
        self.changed.notify_one();
    }

    /// Ends scheduling: waiting frames are dropped, workers get `None`, later frames are dropped too.
    pub fn close(&self) {
        let mut shared = self.lock();
        shared.closed = true;
        shared.core.drain(FrameDrop::Shutdown);
        drop(shared);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Shared<W>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StreamId;
    use crate::decode::frame::{Color, FrameTiming, PictureSize, PlanePool};
    use crate::telemetry::metrics::Metrics;

    const MS: Duration = Duration::from_millis(1);

    struct Bench {
        core: Core<usize>,
        metrics: Metrics,
        pool: PlanePool,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                core: Core::default(),
                metrics: Metrics::new(),
                pool: PlanePool::new(4),
            }
        }

        fn add(&mut self, name: usize, min_interval: Duration) -> SourceId {
            let metrics = self
                .metrics
                .stream(&StreamId::new(name.to_string(), "default"));
            self.core.add(SourceSettings {
                min_interval,
                max_age: 500 * MS,
                metrics,
                work: name,
            })
        }

        fn frame(&self, at: Instant) -> Frame {
            let size = PictureSize {
                width_px: 2,
                height_px: 2,
            };
            let timing = FrameTiming {
                received_at: at,
                completed_at: at,
                decoded_at: at,
                rtp_timestamp: 0,
                captured_at_unix_ms: None,
            };
            Frame::new(
                self.pool.acquire(size.i420_bytes()),
                size,
                Color::default(),
                timing,
            )
        }

        fn offer(&mut self, now: Instant, id: SourceId) {
            self.metrics_of(id).frames_decoded.inc();
            let frame = self.frame(now);
            self.core.offer(now, id, frame);
        }

        fn metrics_of(&self, id: SourceId) -> Arc<StreamMetrics> {
            Arc::clone(&self.core.sources[&id].settings.metrics)
        }

        fn run(&mut self, now: Instant) -> Option<Job<usize>> {
            match self.core.pick(now) {
                Pick::Run(job) => Some(job),
                _ => None,
            }
        }

        fn finish(&mut self, job: Job<usize>) {
            self.metrics_of(job.source).frames_inferred.inc();
            self.core
                .finished(job.source, JobEnd::Inferred, job.skipped_frames);
        }
    }

    #[test]
    fn the_one_that_waited_longest_is_served() {
        let (mut bench, now) = (Bench::new(), Instant::now());
        let ids = [
            bench.add(0, Duration::ZERO),
            bench.add(1, Duration::ZERO),
            bench.add(2, Duration::ZERO),
        ];
        let mut served = Vec::new();
        for round in 0..6 {
            let now = now + round * 10 * MS;
            for id in ids {
                bench.offer(now, id);
            }
            let job = bench.run(now).unwrap();
            served.push(job.work);
            bench.finish(job);
        }
        assert_eq!(served, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn one_frame_of_a_stream_is_in_flight() {
        let (mut bench, now) = (Bench::new(), Instant::now());
        let id = bench.add(0, Duration::ZERO);
        bench.offer(now, id);
        let job = bench.run(now).unwrap();
        bench.offer(now, id);
        assert!(bench.run(now).is_none());
        bench.finish(job);
        assert!(bench.run(now).is_some());
    }

    #[test]
    fn a_replaced_frame_is_rate_limited_only_before_its_stream_is_due() {
        let (mut bench, start) = (Bench::new(), Instant::now());
        let id = bench.add(0, 100 * MS);
        bench.offer(start, id);
        let job = bench.run(start).unwrap();
        bench.finish(job);
        for ms in [30, 60, 90] {
            bench.offer(start + ms * MS, id);
        }
        assert!(
            matches!(bench.core.pick(start + 90 * MS), Pick::WaitUntil(at) if at == start + 100 * MS)
        );
        bench.offer(start + 120 * MS, id);
        let job = bench.run(start + 120 * MS).unwrap();
        assert_eq!(
            job.skipped_frames, 1,
            "only the one that was replaced although due"
        );
        let metrics = bench.metrics_of(id);
        assert_eq!(metrics.frames_dropped(FrameDrop::RateLimited), 2);
        assert_eq!(metrics.frames_dropped(FrameDrop::Replaced), 1);
    }

    #[test]
    fn the_cadence_holds_when_frames_come_a_little_late() {
        let (mut bench, start) = (Bench::new(), Instant::now());
        let id = bench.add(0, 100 * MS);
        let mut served = 0;
        // 10 frames a second with up to 30 ms of jitter, 10 a second allowed: each is served.
        for n in 0..50_u32 {
            let at = start + n * 100 * MS + (n * 7 % 4) * 10 * MS;
            bench.offer(at, id);
            if let Some(job) = bench.run(at + 40 * MS) {
                served += 1;
                bench.finish(job);
            }
        }
        assert_eq!(served, 50);
    }

    #[test]
    fn another_rate_holds_at_once_and_keeps_the_waiting_frame() {
        let (mut bench, start) = (Bench::new(), Instant::now());
        let id = bench.add(0, 10_000 * MS);
        bench.offer(start, id);
        let job = bench.run(start).unwrap();
        bench.finish(job);
        bench.offer(start + 10 * MS, id);
        assert!(bench.run(start + 150 * MS).is_none());
        let settings = |bench: &Bench, min_interval| SourceSettings {
            min_interval,
            ..bench.core.sources[&id].settings.clone()
        };
        let raised = settings(&bench, 100 * MS);
        bench.core.update(id, raised);
        let job = bench.run(start + 150 * MS).unwrap();
        bench.finish(job);
        let lowered = settings(&bench, 300 * MS);
        bench.core.update(id, lowered);
        bench.offer(start + 260 * MS, id);
        assert!(
            matches!(bench.core.pick(start + 260 * MS), Pick::WaitUntil(at) if at == start + 450 * MS)
        );
        let unlimited = settings(&bench, Duration::ZERO);
        bench.core.update(id, unlimited);
        assert!(bench.run(start + 260 * MS).is_some());
        let ledger = bench.metrics_of(id).ledger();
        assert_eq!(ledger.frames_dropped, 0, "an update drops nothing");
    }

    #[test]
    fn an_old_frame_is_not_inferred() {
        let (mut bench, now) = (Bench::new(), Instant::now());
        let id = bench.add(0, Duration::ZERO);
        bench.offer(now, id);
        assert!(bench.run(now + 501 * MS).is_none());
        assert_eq!(bench.metrics_of(id).frames_dropped(FrameDrop::Stale), 1);
        bench.offer(now + 501 * MS, id);
        assert_eq!(bench.run(now + 501 * MS).unwrap().skipped_frames, 1);
    }

    #[test]
    fn a_failed_job_is_told_with_the_next_event() {
        let (mut bench, now) = (Bench::new(), Instant::now());
        let id = bench.add(0, Duration::ZERO);
        bench.offer(now, id);
        let job = bench.run(now).unwrap();
        bench.core.finished(id, JobEnd::Failed, job.skipped_frames);
        bench.offer(now, id);
        assert_eq!(bench.run(now).unwrap().skipped_frames, 1);
    }

    #[test]
    fn the_books_are_closed_at_the_end() {
        let (mut bench, start) = (Bench::new(), Instant::now());
        let ids: Vec<_> = (0..5).map(|n| bench.add(n, 70 * MS)).collect();
        for step in 0..400_u32 {
            let now = start + step * 11 * MS;
            bench.offer(now, ids[step as usize % 5]);
            if step % 3 == 0
                && let Some(job) = bench.run(now)
            {
                bench.finish(job);
            }
        }
        let metrics: Vec<_> = ids.iter().map(|id| bench.metrics_of(*id)).collect();
        bench.core.remove(ids[0], FrameDrop::CameraRemoved);
        bench.core.drain(FrameDrop::Shutdown);
        for metrics in metrics {
            assert_eq!(metrics.ledger().in_flight()[1], 0);
        }
    }

    #[test]
    fn a_closed_scheduler_lets_its_workers_go() {
        let scheduler = Arc::new(Scheduler::<()>::default());
        let worker = {
            let scheduler = Arc::clone(&scheduler);
            crate::thread::spawn_named("test-worker", move || {
                while scheduler.next(Duration::from_secs(60), || {}).is_some() {}
            })
        };
        scheduler.close();
        worker.join();
    }
}
