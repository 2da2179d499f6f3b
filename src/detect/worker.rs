//! Inference workers: threads that pull the freshest frame from the scheduler, run its camera's model
//! and hand the result on. [`InferencePool`](super::pool::InferencePool) owns them and looks after them.
//!
//! Whatever happens to a frame on its way through a worker, it is counted once and its stream may be served again:
//! [`InHand`] sees to it.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::breaker::Trip;
use super::detector::{DetectSettings, Detections, Detector, ModelInfo, Terminate};
use super::health::ModelHealth;
use super::manifest::ModelError;
use crate::preprocess::Picture;
use crate::schedule::scheduler::{Job, JobEnd, Scheduler, SourceId};
use crate::telemetry::cpu::RunDelay;
use crate::telemetry::health::{Health, Heartbeat};
use crate::telemetry::ledger::{EventDrop, FrameDrop, Stage, Work};
use crate::telemetry::metrics::{Metrics, StreamMetrics};
use twinsight_client::clock::thread_cpu;
use twinsight_client::rate_limit::{RATE_LIMIT, RateLimit};
use twinsight_client::stream_id::StreamId;
use twinsight_client::thread::{Joined, try_spawn_named, yield_to_others};
use twinsight_media::decode::cpu_pressure::{CpuPressure, starved};

/// An idle worker shows that it lives this often.
const BEAT: Duration = Duration::from_secs(1);

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

/// Makes another detector of a model, by the number that [`CameraWork::model`] counts. Takes its time.
pub type DetectorFactory =
    Arc<dyn Fn(usize) -> Result<Box<dyn Detector>, ModelError> + Send + Sync>;

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
    pub cpu_pressure: Arc<CpuPressure>,
    /// What time it is: [`Instant::now`], or a test's.
    pub clock: Clock,
}

/// Reads a monotonic clock.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// A worker's thread and what is known of it from outside.
pub(super) struct Worker {
    pub(super) thread: Joined,
    pub(super) shared: Arc<WorkerState>,
}

/// What a worker and who looks after it both touch.
pub(super) struct WorkerState {
    pub(super) name: String,
    /// Taken from a worker that is given up, so that its silence is nobody's.
    pub(super) heartbeat: Mutex<Option<Heartbeat>>,
    /// Of each of its detectors.
    terminators: Mutex<Vec<Option<Terminate>>>,
    /// Detectors for it to take before its next frame.
    given: Mutex<Vec<(usize, Box<dyn Detector>)>>,
    /// Models of which it has no detector, because it was lost or could not be had.
    pub(super) lacks: Mutex<BTreeSet<usize>>,
    pub(super) run: Mutex<Run>,
    /// How long it waited for a processor, once it has begun.
    pub(super) delay: Mutex<Option<RunDelay>>,
    warn: RateLimit<StreamId>,
}

/// What a worker does.
#[derive(Debug, Clone)]
pub(super) enum Run {
    /// Waits for a frame.
    Idle,
    /// Infers a frame.
    Busy(Flight),
    /// Was told to end its run, at this moment.
    Terminating {
        /// When.
        since: Instant,
        /// The run.
        flight: Flight,
    },
    /// Was given up: what its run yields, if ever, is nobody's.
    Abandoned,
}

/// A frame in a worker's hands.
#[derive(Debug, Clone)]
pub(super) struct Flight {
    pub(super) since: Instant,
    /// Of the time since then, what the thread was ready to run and had no processor.
    pub(super) starved: Duration,
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
    /// Starts worker `n` with these detectors; of the models in `lacks` it has none.
    pub(super) fn spawn(
        context: &PoolContext,
        models: &Arc<ModelHealth>,
        n: usize,
        detectors: Vec<(usize, Box<dyn Detector>)>,
        lacks: BTreeSet<usize>,
    ) -> io::Result<Self> {
        let name = format!("infer-{n}");
        let shared = Arc::new(WorkerState {
            heartbeat: Mutex::new(Some(context.health.register(
                name.clone(),
                MAX_SILENCE,
                Instant::now(),
            ))),
            name: name.clone(),
            terminators: Mutex::default(),
            given: Mutex::default(),
            lacks: Mutex::new(lacks),
            run: Mutex::new(Run::Idle),
            delay: Mutex::default(),
            warn: RateLimit::new(RATE_LIMIT),
        });
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
    /// Hands over a detector, in the place of the one that it has of the model.
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

    /// Ends a run of the model.
    pub(super) fn terminate(&self, model: usize) {
        if let Some(Some(terminate)) = self.terminators.lock().get(model) {
            terminate();
        }
    }

    /// Ends whatever runs.
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

    /// Ends the run and tells what it was: who looks after the worker may have ended it or given it up.
    fn end_run(&self) -> Run {
        let mut run = self.run();
        if matches!(*run, Run::Abandoned) {
            return Run::Abandoned;
        }
        std::mem::replace(&mut *run, Run::Idle)
    }
}

/// The detectors of a worker, by the models' numbers.
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
            // Its code panicked or cannot be trusted: what it does at its end must not cost the worker.
            let _ = catch_unwind(AssertUnwindSafe(move || drop(detector)));
        }
    }
}

/// A frame from its pick to its end. Dropping it settles what is open: the frame is counted, and its stream is free again.
struct InHand<'a> {
    context: &'a PoolContext,
    shared: &'a WorkerState,
    job: &'a Job<Arc<CameraWork>>,
    stage: HandStage,
}

/// How far a frame in hand has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HandStage {
    /// Its run is under way, or whatever surrounds it.
    Running,
    /// Its run is over and not counted yet.
    Ran,
    /// It is counted as inferred, and its event is not handed on yet.
    Inferred,
    /// All is counted.
    Settled,
}

impl<'a> InHand<'a> {
    fn take(
        context: &'a PoolContext,
        shared: &'a WorkerState,
        job: &'a Job<Arc<CameraWork>>,
        now: Instant,
    ) -> Self {
        *shared.run() = Run::Busy(Flight {
            since: now,
            starved: Duration::ZERO,
            work: Arc::clone(&job.work),
            source: job.source,
            skipped_frames: job.skipped_frames,
        });
        Self {
            context,
            shared,
            job,
            stage: HandStage::Running,
        }
    }

    /// The run is over, and was this. One that was given up is settled by who did it.
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

    fn failed(&mut self) {
        self.job
            .work
            .metrics
            .frame_dropped(FrameDrop::InferenceFailed);
        self.context.metrics.inference_failures.inc();
        self.finish(JobEnd::Failed);
    }

    fn finish(&mut self, end: JobEnd) {
        self.stage = HandStage::Settled;
        self.context
            .scheduler
            .finished(self.job.source, end, self.job.skipped_frames);
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        if self.stage == HandStage::Running {
            self.ran();
        }
        match self.stage {
            HandStage::Running | HandStage::Ran => self.failed(),
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
    /// With the next frame.
    GoOn,
    /// Not: it was given up, and another has its place.
    End,
}

/// The worker's thread. Returns when the scheduler is closed, or when it was given up.
fn work(context: &PoolContext, models: &ModelHealth, shared: &WorkerState) {
    // Packets and pictures first: what they wait for inference is added to the age of every frame.
    yield_to_others();
    let mut run_delay = RunDelay::of_this_thread();
    *shared.delay.lock() = Some(run_delay.of_the_same());
    let mut detectors = Detectors::default();
    while let Some(job) = context.scheduler.next(BEAT, || shared.beat()) {
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
            // The frame was settled on the way here.
            Err(_) => {
                let id = &job.work.id;
                if let Some(suppressed) = shared.warn.allow(id.clone(), Instant::now()) {
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
    let mut in_hand = InHand::take(context, shared, job, started_at);
    // What it waited until now was for a frame, too.
    run_delay.lap();
    let (worked_before, decoded_before) = (thread_cpu(), context.cpu_pressure.decoding());
    let work = &job.work;
    // What the frame's camera may name by now is there: it was given before the camera knew it.
    detectors.take(&mut shared.given.lock());
    let result = catch_unwind(AssertUnwindSafe(|| {
        let detector = detectors.get(work.model)?;
        let detections = detector.detect(Picture::I420(job.frame.planes()), &work.settings);
        Some((detections, detector.model().clone()))
    }));
    let finished_at = (context.clock)();
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
                let detector = detectors.get(work.model);
                detector.is_some_and(|detector| detector.recover())
            };
            if !catch_unwind(AssertUnwindSafe(recover)).unwrap_or(false) {
                lose(detectors, shared, work.model);
            }
            true
        }
        Run::Idle | Run::Busy(_) => false,
    };
    match result {
        Ok(Some((Ok(detections), model))) => {
            let metrics = &work.metrics;
            in_hand.inferred();
            models.succeeded(work.model, &work.id, finished_at);
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
                job,
                detections,
                model: &model,
                started_at,
                finished_at,
            });
            in_hand.handed_on();
        }
        // Why it failed was said when it was told to end.
        Ok(Some((Err(_), _))) if terminated => in_hand.failed(),
        Ok(Some((Err(error), _))) => {
            in_hand.failed();
            models.failed(work.model, &work.id, &error.to_string(), finished_at);
            if let Some(suppressed) = shared.warn.allow(work.id.clone(), finished_at) {
                tracing::warn!(camera = %work.id, %error, suppressed, "inference failed for a frame");
            }
        }
        // Its detector is being had: it was lost and this frame picked just before the model was set aside, or this worker was
        // staffed while the model was under trial.
        Ok(None) => in_hand.failed(),
        Err(_) => {
            // What else it has in its hands is sound: no other detector was touched.
            // First of all it is set aside, so that nobody takes it for one that works and that this worker lacks.
            models.trip(work.model, Trip::Panicked, finished_at);
            lose(detectors, shared, work.model);
            in_hand.failed();
            tracing::error!(camera = %work.id, "the detector panicked: this is a bug in Twinsight; it is made anew");
        }
    }
    Next::GoOn
}

/// Takes a detector away that cannot be used any more; who looks after the worker gives another.
fn lose(detectors: &mut Detectors, shared: &WorkerState, model: usize) {
    // Before foreign code ends it, which takes its time.
    shared.lacks.lock().insert(model);
    detectors.lose(model);
}
