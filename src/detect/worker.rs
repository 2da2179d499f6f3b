//! Inference workers: threads that pull the freshest frame from the scheduler, run its camera's model
//! and hand the result on. The pool owns them, and replaces one whose run hangs or panics.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::detector::{DetectSettings, Detections, Detector, ModelInfo, Terminate};
use super::manifest::ModelError;
use crate::config::StreamId;
use crate::decode::lag::{InferenceLag, starved};
use crate::preprocess::Picture;
use crate::schedule::scheduler::{Job, JobEnd, Scheduler};
use crate::telemetry::cpu::{RunDelay, thread_cpu};
use crate::telemetry::health::{Health, Heartbeat};
use crate::telemetry::ledger::{FrameDrop, Stage, Work};
use crate::telemetry::logging::{RATE_LIMIT, RateLimit};
use crate::telemetry::metrics::{Metrics, StreamMetrics};
use crate::thread::{Joined, spawn_named, yield_to_others};

/// An idle worker shows that it lives this often.
const BEAT: Duration = Duration::from_secs(1);

/// A run that takes longer is ended.
const RUN_LIMIT: Duration = Duration::from_secs(20);

/// A run that was told to end has this long before its worker is given up.
const TERMINATE_LIMIT: Duration = Duration::from_secs(2);

/// A worker that shows no life for this long makes the node unhealthy.
const MAX_SILENCE: Duration = Duration::from_secs(60);

/// What a worker must know about a camera stream; rides with each of its frames.
#[derive(Debug, Clone)]
pub struct CameraWork {
    /// The stream.
    pub id: StreamId,
    /// The camera's name for people.
    pub name: Arc<str>,
    /// Index of its model among the pool's.
    pub model: usize,
    /// What to keep of what the model sees.
    pub settings: DetectSettings,
    /// Publish also when nothing was seen.
    pub emit_empty: bool,
    /// Its metrics.
    pub metrics: Arc<StreamMetrics>,
}

/// A frame that went through its model.
#[derive(Debug)]
pub struct Inference<'a> {
    /// The frame and its camera.
    pub job: &'a Job<Arc<CameraWork>>,
    /// What was seen, and the time it took.
    pub detections: Detections,
    /// The model that saw it.
    pub model: &'a ModelInfo,
    /// Preprocessing began.
    pub started_at: Instant,
    /// The objects were there.
    pub finished_at: Instant,
}

/// The scheduler of camera streams.
pub type CameraScheduler = Scheduler<Arc<CameraWork>>;

/// Makes a worker's own detectors, one for each model that is in use by then, in the order that
/// [`CameraWork::model`] counts.
pub type DetectorFactory =
    Arc<dyn Fn() -> Result<Vec<Box<dyn Detector>>, ModelError> + Send + Sync>;

/// Takes results, on the worker's thread; must not wait.
pub type InferenceSink = Arc<dyn Fn(Inference<'_>) + Send + Sync>;

/// What the workers share.
#[derive(Clone)]
pub struct PoolContext {
    /// Where frames come from.
    pub scheduler: Arc<CameraScheduler>,
    /// Makes detectors for a worker that is replaced.
    pub factory: DetectorFactory,
    /// Where results go.
    pub sink: InferenceSink,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Where workers show that they live.
    pub health: Health,
    /// Where they tell how long decoding starved a run.
    pub lag: Arc<InferenceLag>,
}

/// The workers.
pub struct InferencePool {
    context: PoolContext,
    workers: Vec<Worker>,
}

struct Worker {
    thread: Joined,
    shared: Arc<WorkerState>,
}

struct WorkerState {
    name: String,
    /// Taken from a worker that is given up, so that its silence is nobody's.
    heartbeat: Mutex<Option<Heartbeat>>,
    terminators: Mutex<Vec<Option<Terminate>>>,
    /// Detectors that were added since the worker's start, for it to take before its next frame.
    added: Mutex<Vec<Box<dyn Detector>>>,
    run: Mutex<Run>,
    warn: RateLimit<StreamId>,
}

/// What a worker does.
#[derive(Debug, Clone)]
enum Run {
    /// Waits for a frame.
    Idle,
    /// Infers a frame of this stream.
    Busy {
        since: Instant,
        work: Arc<CameraWork>,
        source: crate::schedule::scheduler::SourceId,
    },
    /// Was told to end its run.
    Terminating {
        since: Instant,
        work: Arc<CameraWork>,
        source: crate::schedule::scheduler::SourceId,
    },
    /// Was given up: what its run yields, if ever, is nobody's.
    Abandoned,
}

impl InferencePool {
    /// Starts a worker for each set of detectors.
    pub fn spawn(context: PoolContext, detectors: Vec<Vec<Box<dyn Detector>>>) -> Self {
        let workers = detectors
            .into_iter()
            .enumerate()
            .map(|(n, set)| Worker::spawn(&context, n, set))
            .collect();
        Self { context, workers }
    }

    /// Looks after the workers: ends runs that hang, replaces workers that do not come back.
    /// To be called about once a second.
    pub fn supervise(&mut self, now: Instant) {
        for n in 0..self.workers.len() {
            let worker = &self.workers[n];
            let mut run = worker.shared.lock();
            match run.clone() {
                Run::Busy {
                    since,
                    work,
                    source,
                } if now.saturating_duration_since(since) > RUN_LIMIT => {
                    tracing::error!(camera = %work.id, worker = worker.shared.name, "inference hangs: the run is being ended");
                    *run = Run::Terminating {
                        since: now,
                        work,
                        source,
                    };
                    drop(run);
                    worker.shared.terminate();
                }
                Run::Terminating {
                    since,
                    work,
                    source,
                } if now.saturating_duration_since(since) > TERMINATE_LIMIT => {
                    *run = Run::Abandoned;
                    drop(run);
                    lock(&worker.shared.heartbeat).take();
                    work.metrics.frame_dropped(FrameDrop::InferenceFailed);
                    self.context.metrics.inference_failures.inc();
                    self.context.scheduler.finished(source, JobEnd::Failed, 0);
                    self.replace(n);
                }
                _ => {
                    drop(run);
                    if worker.thread.is_finished() {
                        self.replace(n);
                    }
                }
            }
        }
    }

    /// The workers.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Gives each worker the detectors of one more model or several, behind those that it has; the work
    /// under way is not touched. `sets` has one set a worker. To be called before a camera's work
    /// names them, and after the factory makes them too.
    pub fn add_models(&mut self, sets: Vec<Vec<Box<dyn Detector>>>) {
        for (worker, set) in self.workers.iter().zip(sets) {
            let shared = &worker.shared;
            lock(&shared.terminators).extend(set.iter().map(|detector| detector.terminator()));
            lock(&shared.added).extend(set);
        }
    }

    fn replace(&mut self, n: usize) {
        self.context.metrics.worker_restarts.inc();
        match (self.context.factory)() {
            Ok(detectors) => {
                tracing::warn!(worker = n, "an inference worker was replaced");
                let old = std::mem::replace(
                    &mut self.workers[n],
                    Worker::spawn(&self.context, n, detectors),
                );
                old.thread.abandon();
            }
            Err(error) => {
                tracing::error!(worker = n, %error, "an inference worker cannot be replaced")
            }
        }
    }

    /// Waits for the workers to end; the scheduler must be closed. One that hangs is left alone
    /// after `deadline`.
    pub fn join(mut self, deadline: Duration) {
        let until = Instant::now() + deadline;
        for worker in std::mem::take(&mut self.workers) {
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
                let run = std::mem::replace(&mut *worker.shared.lock(), Run::Abandoned);
                if let Run::Busy { work, .. } | Run::Terminating { work, .. } = run {
                    work.metrics.frame_dropped(FrameDrop::Shutdown);
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
        for worker in std::mem::take(&mut self.workers) {
            worker.shared.terminate();
            worker.thread.abandon();
        }
    }
}

impl fmt::Debug for InferencePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InferencePool")
            .field("workers", &self.workers.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PoolContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolContext").finish_non_exhaustive()
    }
}

impl Worker {
    fn spawn(context: &PoolContext, n: usize, detectors: Vec<Box<dyn Detector>>) -> Self {
        let name = format!("infer-{n}");
        let shared = Arc::new(WorkerState {
            heartbeat: Mutex::new(Some(context.health.register(
                name.clone(),
                MAX_SILENCE,
                Instant::now(),
            ))),
            name: name.clone(),
            terminators: Mutex::new(
                detectors
                    .iter()
                    .map(|detector| detector.terminator())
                    .collect(),
            ),
            added: Mutex::default(),
            run: Mutex::new(Run::Idle),
            warn: RateLimit::new(RATE_LIMIT),
        });
        let thread = {
            let (context, shared) = (context.clone(), Arc::clone(&shared));
            spawn_named(name, move || work(&context, &shared, detectors))
        };
        Self { thread, shared }
    }
}

impl WorkerState {
    fn beat(&self) {
        if let Some(heartbeat) = &*lock(&self.heartbeat) {
            heartbeat.beat(Instant::now());
        }
    }

    fn terminate(&self) {
        lock(&self.terminators)
            .iter()
            .flatten()
            .for_each(|terminate| terminate());
    }

    fn lock(&self) -> MutexGuard<'_, Run> {
        lock(&self.run)
    }

    /// Ends the run and tells what it was: the supervisor may have ended it or given it up meanwhile.
    fn end_run(&self) -> Run {
        let mut run = self.lock();
        if matches!(*run, Run::Abandoned) {
            return Run::Abandoned;
        }
        std::mem::replace(&mut *run, Run::Idle)
    }
}

/// The worker's thread. Returns when the scheduler is closed, or when its detectors cannot be
/// trusted any more: the supervisor replaces it then.
fn work(context: &PoolContext, shared: &WorkerState, mut detectors: Vec<Box<dyn Detector>>) {
    // Packets and pictures first: what they wait for inference is added to the age of every frame.
    yield_to_others();
    let mut run_delay = RunDelay::of_this_thread();
    while let Some(job) = context.scheduler.next(BEAT, || shared.beat()) {
        let started_at = Instant::now();
        // What it waited until now was for a frame, too.
        run_delay.lap();
        let (worked_before, decoded_before) = (thread_cpu(), context.lag.decoding());
        let work = Arc::clone(&job.work);
        // What the frame's camera may name by now is there: it was added before the camera knew it.
        detectors.append(&mut lock(&shared.added));
        *shared.lock() = Run::Busy {
            since: started_at,
            work: Arc::clone(&work),
            source: job.source,
        };
        let result = catch_unwind(AssertUnwindSafe(|| {
            let detector = detectors
                .get_mut(work.model)
                .expect("a camera's model is loaded, because it was resolved at its start");
            let detections = detector.detect(Picture::I420(job.frame.planes()), &work.settings);
            (detections, detector.model().clone())
        }));
        let finished_at = Instant::now();
        let worked = thread_cpu().saturating_sub(worked_before);
        let decoded = context.lag.decoding().saturating_sub(decoded_before);
        context
            .lag
            .tell(starved(run_delay.lap(), worked, decoded), finished_at);
        let terminated = match shared.end_run() {
            Run::Abandoned => return,
            run => matches!(run, Run::Terminating { .. }),
        };
        match result {
            Ok((Ok(detections), model)) => {
                let metrics = &work.metrics;
                metrics.frames_inferred.inc();
                metrics.stage(
                    Stage::Wait,
                    started_at.saturating_duration_since(job.frame.timing().decoded_at),
                );
                for (stage, work, spent) in [
                    (Stage::Preprocess, Work::Preprocess, detections.preprocess),
                    (Stage::Inference, Work::Inference, detections.inference),
                    (
                        Stage::Postprocess,
                        Work::Postprocess,
                        detections.postprocess,
                    ),
                ] {
                    metrics.stage(stage, spent.wall);
                    metrics.worked(work, spent.cpu);
                }
                for object in &detections.objects {
                    metrics.object_detected(model.label(object.class_id));
                }
                // Before the stream's next frame may be picked, so that its events stay in order.
                (context.sink)(Inference {
                    job: &job,
                    detections,
                    model: &model,
                    started_at,
                    finished_at,
                });
                context
                    .scheduler
                    .finished(job.source, JobEnd::Inferred, job.skipped_frames);
            }
            Ok((Err(error), _)) => {
                fail(context, &job);
                if let Some(suppressed) = shared.warn.allow(work.id.clone(), finished_at) {
                    tracing::warn!(camera = %work.id, %error, suppressed, "inference failed for a frame");
                }
            }
            Err(_) => {
                fail(context, &job);
                tracing::error!(camera = %work.id, "the detector panicked: this is a bug in Twinsight; its worker is replaced");
                return;
            }
        }
        if terminated {
            // Its detectors stay ended: the supervisor makes new ones.
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fail(context: &PoolContext, job: &Job<Arc<CameraWork>>) {
    job.work.metrics.frame_dropped(FrameDrop::InferenceFailed);
    context.metrics.inference_failures.inc();
    context
        .scheduler
        .finished(job.source, JobEnd::Failed, job.skipped_frames);
}
