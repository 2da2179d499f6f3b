//! The inference workers: threads that pull frames from the scheduler, run the model of each frame's camera and hand the result
//! on. [`InferencePool`](super::pool::InferencePool) owns and supervises them.
//!
//! Whatever happens to a frame in a worker, it is counted once and its stream may be served again: [`FrameInHand`] takes care
//! of that.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::breaker::Trip;
use super::detector::{DetectSettings, Detections, Detector, ModelInfo, Terminate};
use super::health::ModelHealth;
use super::manifest::ModelError;
use super::still::MotionWork;
use crate::config::Detections as DetectionEvents;
use crate::preprocess::Picture;
use crate::schedule::scheduler::{EngineId, Job, JobEnd, Scheduler, SourceId};
use crate::telemetry::cpu::RunDelay;
use crate::telemetry::health::{Health, Heartbeat};
use crate::telemetry::ledger::{EventDrop, FrameDrop, InferenceFailure, Stage, Work};
use crate::telemetry::metrics::{Metrics, StreamMetrics};
use twinsight_client::clock::thread_cpu;
use twinsight_client::stream_id::StreamId;
use twinsight_client::thread::{Joined, try_spawn_named, yield_to_others};
use twinsight_media::decode::cpu_pressure::{CpuPressure, starved};

/// An idle worker gives a heartbeat this often.
const BEAT: Duration = Duration::from_secs(1);

/// A worker without a heartbeat for this long makes the node unhealthy.
const MAX_SILENCE: Duration = Duration::from_secs(60);

/// What a worker must know about a camera stream. It comes with each of the stream's frames.
#[derive(Debug, Clone)]
pub(crate) struct CameraWork {
    pub(crate) id: StreamId,
    /// The name by which people know the camera.
    pub(crate) name: Arc<str>,
    /// The index of its model among the pool's models.
    pub(crate) model: usize,
    /// Which objects are wanted. Those with the lowest scores may be for tracking alone.
    pub(crate) settings: DetectSettings,
    /// Objects with a lower score are not reported.
    pub(crate) min_score: f32,
    /// Whether inferred frames make events.
    pub(crate) detections: DetectionEvents,
    /// Whether an event is published even if nothing was found.
    pub(crate) emit_empty: bool,
    /// How its motion gate judges its frames; `None` if every frame goes through the model.
    pub(crate) motion: Option<MotionWork>,
    pub(crate) metrics: Arc<StreamMetrics>,
}

/// The result for a frame.
#[derive(Debug)]
pub(crate) struct Inference<'a> {
    /// The frame and its camera.
    pub(crate) job: &'a Job<Arc<CameraWork>>,
    /// The objects, and the time that each stage took.
    pub(crate) detections: Detections,
    /// The model that found them.
    pub(crate) model: &'a ModelInfo,
    /// When preprocessing began.
    pub(crate) started_at: Instant,
    /// When postprocessing ended.
    pub(crate) finished_at: Instant,
}

/// The scheduler of camera streams.
pub(crate) type CameraScheduler = Scheduler<Arc<CameraWork>>;

/// Loads another detector of a model, given by its index. It may take seconds.
pub(crate) type DetectorFactory =
    Arc<dyn Fn(usize) -> Result<Box<dyn Detector>, ModelError> + Send + Sync>;

/// Takes results on the worker's thread. It must not wait.
pub(crate) type InferenceSink = Arc<dyn Fn(Inference<'_>) + Send + Sync>;

/// Takes frames that show what was inferred last, on the worker's thread. It must not wait.
pub(crate) type UnchangedSink = Arc<dyn Fn(&Job<Arc<CameraWork>>) + Send + Sync>;

/// What the pool and all workers share.
#[derive(Clone)]
pub(crate) struct PoolContext {
    pub(crate) scheduler: Arc<CameraScheduler>,
    /// Loads detectors for a worker that is replaced.
    pub(crate) factory: DetectorFactory,
    pub(crate) sink: InferenceSink,
    pub(crate) unchanged: UnchangedSink,
    pub(crate) metrics: Arc<Metrics>,
    /// Takes the heartbeats of the workers.
    pub(crate) health: Health,
    /// Takes how long decoding kept the processor from a run.
    pub(crate) cpu_pressure: Arc<CpuPressure>,
    /// [`Instant::now`], or the clock of a test.
    pub(crate) clock: Clock,
}

/// A monotonic clock.
pub(crate) type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// A worker as the pool sees it: its thread, and the state that both share.
pub(super) struct Worker {
    pub(super) thread: Joined,
    pub(super) shared: Arc<WorkerState>,
}

/// The state that a worker shares with the pool.
pub(super) struct WorkerState {
    pub(super) name: String,
    /// What it is a worker of.
    pub(super) engine: EngineId,
    /// For how long it and others have inferred frames so far.
    busy_micros: Arc<AtomicU64>,
    /// `None` once the worker is given up, so that its silence does not make the node unhealthy.
    pub(super) heartbeat: Mutex<Option<Heartbeat>>,
    /// How to terminate the run of each of its detectors, by the models' indexes.
    terminators: Mutex<Vec<Option<Terminate>>>,
    /// Detectors that it takes before its next run.
    given: Mutex<Vec<(usize, Box<dyn Detector>)>>,
    /// The models of which it has no detector, because it was lost or could not be loaded.
    pub(super) lacks: Mutex<BTreeSet<usize>>,
    pub(super) run: Mutex<Run>,
    /// Measures how long its thread waits for a processor; there once the thread has begun.
    pub(super) delay: Mutex<Option<RunDelay>>,
}

/// What a worker is doing.
#[derive(Debug, Clone)]
pub(super) enum Run {
    /// It waits for a frame.
    Idle,
    /// It infers a frame.
    Busy(Flight),
    /// Its run hangs, and was terminated at `since`.
    Terminating { since: Instant, flight: Flight },
    /// It was given up: the result of its run, if there ever is one, is dropped.
    Abandoned,
}

/// A run under way, and its frame.
#[derive(Debug, Clone)]
pub(super) struct Flight {
    pub(super) since: Instant,
    /// For how long since then the thread was ready to run and had no processor.
    pub(super) starved: Duration,
    /// The index of the model that infers.
    pub(super) model: usize,
    pub(super) work: Arc<CameraWork>,
    pub(super) source: SourceId,
    pub(super) skipped_frames: u64,
}

impl fmt::Debug for PoolContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolContext").finish_non_exhaustive()
    }
}

impl Worker {
    /// Starts a worker with these detectors. It has none of the models in `lacks`.
    pub(super) fn spawn(
        context: &PoolContext,
        models: &Arc<ModelHealth>,
        state: WorkerState,
        detectors: Vec<(usize, Box<dyn Detector>)>,
        lacks: BTreeSet<usize>,
    ) -> io::Result<Self> {
        *state.lacks.lock() = lacks;
        let name = state.name.clone();
        let shared = Arc::new(state);
        for (model, detector) in detectors {
            shared.give(model, detector);
        }
        let (context, models) = (context.clone(), Arc::clone(models));
        let state = Arc::clone(&shared);
        let thread = try_spawn_named(name, move || work(&context, &models, &state))?;
        Ok(Self { thread, shared })
    }
}

impl WorkerState {
    /// The state of a worker of this name that is about to be started. The time in which it infers is added to `busy_micros`.
    pub(super) fn new(
        context: &PoolContext,
        name: String,
        engine: EngineId,
        busy_micros: Arc<AtomicU64>,
    ) -> Self {
        let heartbeat = context
            .health
            .register(name.clone(), MAX_SILENCE, Instant::now());
        Self {
            heartbeat: Mutex::new(Some(heartbeat)),
            name,
            engine,
            busy_micros,
            terminators: Mutex::default(),
            given: Mutex::default(),
            lacks: Mutex::default(),
            run: Mutex::new(Run::Idle),
            delay: Mutex::default(),
        }
    }

    /// Hands a detector over, which replaces the one that the worker has of the model.
    pub(super) fn give(&self, model: usize, detector: Box<dyn Detector>) {
        let mut terminators = self.terminators.lock();
        if terminators.len() <= model {
            terminators.resize_with(model + 1, || None);
        }
        terminators[model] = detector.terminator();
        drop(terminators);
        self.given.lock().push((model, detector));
        self.lacks.lock().remove(&model);
    }

    /// Terminates a run of the model.
    pub(super) fn terminate(&self, model: usize) {
        if let Some(Some(terminate)) = self.terminators.lock().get(model) {
            terminate();
        }
    }

    /// Terminates whatever runs.
    pub(super) fn terminate_all(&self) {
        self.terminators
            .lock()
            .iter()
            .flatten()
            .for_each(|terminate| terminate());
    }

    pub(super) fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock()
    }

    fn beat(&self) {
        if let Some(heartbeat) = &*self.heartbeat.lock() {
            heartbeat.beat(Instant::now());
        }
    }

    /// Ends the run and gives what it was, since the pool may have terminated it or given the worker up.
    fn end_run(&self) -> Run {
        let mut run = self.run();
        if matches!(*run, Run::Abandoned) {
            return Run::Abandoned;
        }
        std::mem::replace(&mut *run, Run::Idle)
    }
}

/// The detectors of a worker, by the models' indexes.
#[derive(Default)]
struct Detectors(Vec<Option<Box<dyn Detector>>>);

impl Detectors {
    fn take(&mut self, given: &mut Vec<(usize, Box<dyn Detector>)>) {
        for (model, detector) in given.drain(..) {
            if self.0.len() <= model {
                self.0.resize_with(model + 1, || None);
            }
            self.0[model] = Some(detector);
        }
    }

    fn get(&mut self, model: usize) -> Option<&mut dyn Detector> {
        Some(self.0.get_mut(model)?.as_mut()?.as_mut())
    }

    fn lose(&mut self, model: usize) {
        if let Some(detector) = self.0.get_mut(model).and_then(Option::take) {
            // The detector's code panicked or cannot be trusted, so that a panic while it is dropped must not cost the worker.
            let _ = catch_unwind(AssertUnwindSafe(move || drop(detector)));
        }
    }
}

/// A frame from its pick to its end. Dropping it settles what is open: the frame is counted, and its stream may be picked again.
struct FrameInHand<'a> {
    context: &'a PoolContext,
    shared: &'a WorkerState,
    job: &'a Job<Arc<CameraWork>>,
    stage: HandStage,
}

/// How far a frame has come in a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HandStage {
    /// No run of it has begun.
    Picked,
    /// Its run is under way, or about to begin.
    Running,
    /// Its run has ended and is not counted yet.
    Ran,
    /// It is counted as inferred, and its result is not handed on yet.
    Inferred,
    /// All of it is counted.
    Settled,
}

impl<'a> FrameInHand<'a> {
    fn take(
        context: &'a PoolContext,
        shared: &'a WorkerState,
        job: &'a Job<Arc<CameraWork>>,
    ) -> Self {
        Self {
            context,
            shared,
            job,
            stage: HandStage::Picked,
        }
    }

    /// Notes that the run begins now.
    fn runs(&mut self, now: Instant) {
        let job = self.job;
        *self.shared.run() = Run::Busy(Flight {
            since: now,
            starved: Duration::ZERO,
            model: job.model,
            work: Arc::clone(&job.work),
            source: job.source,
            skipped_frames: job.skipped_frames,
        });
        self.stage = HandStage::Running;
    }

    /// Notes that the run has ended, and gives what it was. A frame whose worker was given up was settled by the pool.
    fn ran(&mut self) -> Run {
        let run = self.shared.end_run();
        self.stage = match run {
            Run::Abandoned => HandStage::Settled,
            _ => HandStage::Ran,
        };
        run
    }

    fn inferred(&mut self) {
        self.stage = HandStage::Inferred;
        self.job.work.metrics.frames_inferred.inc();
    }

    fn handed_on(&mut self) {
        self.finish(JobEnd::Inferred);
    }

    /// Counts it as one that shows what was inferred last.
    fn unchanged(&mut self) {
        let metrics = &self.job.work.metrics;
        metrics.frame_dropped(FrameDrop::Unchanged);
        self.finish(JobEnd::Unchanged);
    }

    fn failed(&mut self, reason: InferenceFailure) {
        self.job
            .work
            .metrics
            .frame_dropped(FrameDrop::InferenceFailed);
        self.context.metrics.inference_failed(reason);
        self.finish(JobEnd::Failed);
    }

    fn finish(&mut self, end: JobEnd) {
        self.stage = HandStage::Settled;
        self.context
            .scheduler
            .finished(self.job.source, end, self.job.skipped_frames);
    }
}

impl Drop for FrameInHand<'_> {
    fn drop(&mut self) {
        if self.stage == HandStage::Running {
            self.ran();
        }
        match self.stage {
            HandStage::Picked | HandStage::Running | HandStage::Ran => {
                self.failed(InferenceFailure::Worker);
            }
            HandStage::Inferred => {
                self.job.work.metrics.event_dropped(EventDrop::Failed);
                self.finish(JobEnd::Inferred);
            }
            HandStage::Settled => {}
        }
    }
}

/// Whether a worker goes on after a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It takes the next frame.
    GoOn,
    /// Its thread ends, since it was given up and another worker has its place.
    End,
}

/// Runs on the worker's thread. Returns when the scheduler is closed, or when the worker was given up.
fn work(context: &PoolContext, models: &ModelHealth, shared: &WorkerState) {
    // Receiving and decoding go first, since the time that they wait for inference adds to the age of every frame.
    yield_to_others();
    let mut run_delay = RunDelay::of_this_thread();
    *shared.delay.lock() = Some(run_delay.of_the_same());
    let mut detectors = Detectors::default();
    while let Some(job) = context
        .scheduler
        .next(shared.engine, BEAT, || shared.beat())
    {
        let infer = || {
            infer(
                context,
                models,
                shared,
                &mut detectors,
                &mut run_delay,
                &job,
            )
        };
        match catch_unwind(AssertUnwindSafe(infer)) {
            Ok(Next::GoOn) => {}
            Ok(Next::End) => return,
            // The unwinding has settled the frame.
            Err(_) => {
                let id = &job.work.id;
                if let Some(suppressed) = models.may_warn(id, Instant::now()) {
                    tracing::error!(camera = %id, suppressed, "handing on a result panicked: this is a bug in Twinsight; the frame is given up");
                }
            }
        }
    }
}

fn infer(
    context: &PoolContext,
    models: &ModelHealth,
    shared: &WorkerState,
    detectors: &mut Detectors,
    run_delay: &mut RunDelay,
    job: &Job<Arc<CameraWork>>,
) -> Next {
    let started_at = (context.clock)();
    let mut in_hand = FrameInHand::take(context, shared, job);
    let motion = job.work.motion.as_ref();
    if motion.is_some_and(|motion| motion.is_unchanged(started_at, &job.frame)) {
        (context.unchanged)(job);
        in_hand.unchanged();
        return Next::GoOn;
    }
    in_hand.runs(started_at);
    // This drops the time that the thread waited for a processor before this frame.
    run_delay.lap();
    let (worked_before, decoded_before) = (thread_cpu(), context.cpu_pressure.decoding());
    let work = &job.work;
    // The frame's camera may name a new model, whose detector was handed over before the camera was changed.
    detectors.take(&mut shared.given.lock());
    let result = catch_unwind(AssertUnwindSafe(|| {
        let detector = detectors.get(job.model)?;
        let detections = detector.detect(Picture::I420(job.frame.planes()), &work.settings);
        Some((detections, detector.model().clone()))
    }));
    let finished_at = (context.clock)();
    let took = finished_at.saturating_duration_since(started_at);
    let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    shared.busy_micros.fetch_add(took, Ordering::Relaxed);
    let worked = thread_cpu().saturating_sub(worked_before);
    let decoded = context
        .cpu_pressure
        .decoding()
        .saturating_sub(decoded_before);
    context
        .cpu_pressure
        .tell(starved(run_delay.lap(), worked, decoded), finished_at);
    let terminated = match in_hand.ran() {
        Run::Abandoned => return Next::End,
        Run::Terminating { .. } => {
            let recover = || {
                let detector = detectors.get(job.model);
                detector.is_some_and(|detector| detector.recover())
            };
            if !catch_unwind(AssertUnwindSafe(recover)).unwrap_or(false) {
                lose(detectors, shared, job.model);
            }
            true
        }
        Run::Idle | Run::Busy(_) => false,
    };
    match result {
        Ok(Some((Ok(detections), model))) => {
            let metrics = &work.metrics;
            in_hand.inferred();
            if let Some(motion) = motion {
                motion.inferred();
            }
            models.succeeded(job.model, &work.id, finished_at);
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
            // The result is handed on before the stream's next frame may be picked, so that its events stay in order.
            (context.sink)(Inference {
                job,
                detections,
                model: &model,
                started_at,
                finished_at,
            });
            in_hand.handed_on();
        }
        // The reason was logged when the run was terminated.
        Ok(Some((Err(_), _))) if terminated => in_hand.failed(InferenceFailure::Worker),
        Ok(Some((Err(error), _))) => {
            in_hand.failed(error.failure());
            models.failed(job.model, &work.id, &error, finished_at);
            if let Some(suppressed) = models.may_warn(&work.id, finished_at) {
                tracing::warn!(camera = %work.id, %error, suppressed, "inference failed for a frame");
            }
        }
        // The detector is still being loaded: either it was lost, and this frame was picked just before the model was set aside, or
        // this worker was started while the model was under probe.
        Ok(None) => in_hand.failed(InferenceFailure::Worker),
        Err(_) => {
            // Only this detector may be broken, since the run touches no other. The model is set aside first, so that the pool does
            // not take it for a model that works and that this worker lacks.
            models.trip(job.model, Trip::Panicked, finished_at);
            lose(detectors, shared, job.model);
            in_hand.failed(InferenceFailure::Worker);
            tracing::error!(camera = %work.id, "the detector panicked: this is a bug in Twinsight; it is made anew");
        }
    }
    Next::GoOn
}

/// Drops a detector that cannot be used any more. The pool loads another one.
fn lose(detectors: &mut Detectors, shared: &WorkerState, model: usize) {
    // This comes before the drop, since that runs foreign code and may take long.
    shared.lacks.lock().insert(model);
    detectors.lose(model);
}
