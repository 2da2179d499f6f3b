use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use parking_lot::{Condvar, Mutex};
use proptest::prelude::*;

use super::*;
use crate::detect::detector::{DetectError, DetectSettings, Detections, ModelInfo, Terminate};
use crate::detect::manifest::ModelError;
use crate::detect::postprocess::Implausible;
use crate::detect::still::CameraMotion;
use crate::detect::worker::{CameraScheduler, CameraWork, InferenceSink};
use crate::preprocess::Picture;
use crate::schedule::motion::MotionRules;
use crate::schedule::scheduler::{SourceId, SourceSettings};
use crate::telemetry::cpu::Spent;
use crate::telemetry::health::Health;
use crate::telemetry::ledger::{EventDrop, ModelState};
use crate::telemetry::metrics::{Metrics, StreamMetrics};
use twinsight_client::stream_id::StreamId;
use twinsight_media::decode::cpu_pressure::CpuPressure;
use twinsight_media::picture::{Color, Frame, FrameTiming, PictureSize, PlaneBuffer, PlanePool};

const STEP: Duration = Duration::from_millis(250);
/// A test fails if something that should come at once takes longer than this.
const PATIENCE: Duration = Duration::from_secs(30);
const SIZE: PictureSize = PictureSize {
    width_px: 2,
    height_px: 2,
};

#[path = "pool_remote_tests.rs"]
mod remote;

/// What a fake model does with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It finds nothing.
    Good,
    /// It fails with an error about impossible numbers.
    Lies,
    /// It fails because no server is there.
    Unreachable,
    /// Its run does not end before it is terminated.
    Hangs,
    /// Its run does not end before the test does.
    Stuck,
    Panics,
}

/// A fake model. At each run its detectors do what its state says then.
struct Model {
    info: ModelInfo,
    state: Mutex<ModelWays>,
    changed: Condvar,
    /// How many detectors were loaded.
    loads: AtomicUsize,
}

struct ModelWays {
    way: Way,
    loads_fail: bool,
    loads_hang: bool,
    /// True once the test is over, so that every run ends.
    released: bool,
}

struct Fake {
    model: Arc<Model>,
    terminated: Arc<Mutex<bool>>,
}

impl Model {
    fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            info: ModelInfo {
                name: name.into(),
                sha256: None,
                labels: Vec::new().into(),
                keypoints: Arc::new([]),
            },
            state: Mutex::new(ModelWays {
                way: Way::Good,
                loads_fail: false,
                loads_hang: false,
                released: false,
            }),
            changed: Condvar::new(),
            loads: AtomicUsize::new(0),
        })
    }

    fn change(&self, change: impl FnOnce(&mut ModelWays)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    fn load(self: &Arc<Self>) -> Result<Box<dyn Detector>, ModelError> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        while state.loads_hang && !state.released {
            self.changed.wait(&mut state);
        }
        if state.loads_fail {
            return Err(ModelError::Session {
                path: "m.onnx".into(),
                reason: "the test says so".to_owned(),
            });
        }
        Ok(Box::new(Fake {
            model: Arc::clone(self),
            terminated: Arc::default(),
        }))
    }
}

impl Detector for Fake {
    fn model(&self) -> &ModelInfo {
        &self.model.info
    }

    fn detect(
        &mut self,
        _picture: Picture<'_>,
        _settings: &DetectSettings,
    ) -> Result<Detections, DetectError> {
        let mut state = self.model.state.lock();
        loop {
            match state.way {
                _ if state.released => return Err(DetectError::Fake),
                Way::Hangs if *self.terminated.lock() => return Err(DetectError::Fake),
                Way::Hangs | Way::Stuck => self.model.changed.wait(&mut state),
                Way::Good => break,
                Way::Panics => {
                    drop(state);
                    panic!("as the test says");
                }
                Way::Unreachable => {
                    return Err(DetectError::Unavailable {
                        model: Arc::clone(&self.model.info.name),
                        reason: "grpc://a:1 refuses".to_owned(),
                    });
                }
                Way::Lies => {
                    return Err(DetectError::Numbers {
                        model: Arc::clone(&self.model.info.name),
                        implausible: Implausible {
                            output: "scores".to_owned(),
                            found: f32::NAN,
                            place: "a score",
                            expected: "from 0 to 1",
                            key: "output.activation",
                        },
                    });
                }
            }
        }
        Ok(Detections {
            objects: Vec::new(),
            preprocess: Spent::default(),
            inference: Spent::default(),
            postprocess: Spent::default(),
        })
    }

    fn terminator(&self) -> Option<Terminate> {
        let (model, terminated) = (Arc::clone(&self.model), Arc::clone(&self.terminated));
        Some(Box::new(move || {
            let state = model.state.lock();
            *terminated.lock() = true;
            drop(state);
            model.changed.notify_all();
        }))
    }

    fn recover(&mut self) -> bool {
        *self.terminated.lock() = false;
        true
    }

    fn first_run(&self) -> Option<Duration> {
        Some(Duration::from_millis(30))
    }
}

struct Camera {
    source: SourceId,
    id: StreamId,
    metrics: Arc<StreamMetrics>,
    work: Arc<CameraWork>,
    motion: Arc<CameraMotion>,
}

/// A pool on the clock of the test, with fake models and cameras.
struct Bench {
    pool: Option<InferencePool>,
    models: Vec<Arc<Model>>,
    cameras: Vec<Camera>,
    scheduler: Arc<CameraScheduler>,
    metrics: Arc<Metrics>,
    now: Arc<Mutex<Instant>>,
    events: Receiver<(StreamId, u64)>,
    planes: PlanePool,
}

impl Bench {
    /// `cameras` has the index of the model for each camera.
    fn new(workers: usize, models: usize, cameras: &[usize]) -> Self {
        let (sender, events) = channel();
        let sender = Mutex::new(sender);
        let models: Vec<_> = (0..models).map(|n| Model::new(&format!("m{n}"))).collect();
        Self::with_sink(
            workers,
            (models, None),
            cameras,
            events,
            Arc::new(move |inference| {
                let event = (inference.job.work.id.clone(), inference.job.skipped_frames);
                let _ = sender.lock().send(event);
            }),
        )
    }

    fn with_sink(
        workers: usize,
        (models, servers): (Vec<Arc<Model>>, Option<remote::Servers>),
        cameras: &[usize],
        events: Receiver<(StreamId, u64)>,
        sink: InferenceSink,
    ) -> Self {
        let (scheduler, metrics) = (
            Arc::new(CameraScheduler::default()),
            Arc::new(Metrics::new()),
        );
        let now = Arc::new(Mutex::new(Instant::now()));
        let (factory_models, clock) = (models.clone(), Arc::clone(&now));
        let context = PoolContext {
            scheduler: Arc::clone(&scheduler),
            factory: Arc::new(move |model| factory_models[model].load()),
            sink,
            unchanged: Arc::new(|_| {}),
            metrics: Arc::clone(&metrics),
            health: Health::default(),
            cpu_pressure: Arc::new(CpuPressure::default()),
            clock: Arc::new(move || *clock.lock()),
        };
        let pool_models = models.iter().map(|model| match &servers {
            Some((remote, fallback)) if model.info.name == remote.model.info.name => PoolModel {
                name: Arc::clone(&model.info.name),
                engine: ModelEngine::Remote {
                    remote: Arc::clone(remote) as _,
                    fallback: *fallback,
                },
            },
            _ => PoolModel::local((0..workers).map(|_| model.load().unwrap()).collect()),
        });
        let pool = InferencePool::spawn(context, workers, pool_models.collect());
        let cameras = cameras
            .iter()
            .enumerate()
            .map(|(n, &model)| {
                let id = StreamId::new(format!("cam-{n}"), "default");
                let metrics = metrics.stream(&id);
                let work = Arc::new(CameraWork {
                    id: id.clone(),
                    name: "".into(),
                    model,
                    settings: DetectSettings::default(),
                    min_score: 0.0,
                    detections: crate::config::Detections::All,
                    emit_empty: true,
                    motion: None,
                    metrics: Arc::clone(&metrics),
                });
                let source = scheduler.add(SourceSettings {
                    min_interval: Duration::ZERO,
                    max_age: Duration::from_secs(600),
                    metrics: Arc::clone(&metrics),
                    model,
                    work: Arc::clone(&work),
                });
                Camera {
                    source,
                    id,
                    metrics,
                    work,
                    motion: Arc::default(),
                }
            })
            .collect();
        Self {
            pool: Some(pool),
            models,
            cameras,
            scheduler,
            metrics,
            now,
            events,
            planes: PlanePool::new(16),
        }
    }

    /// Puts a camera under the motion gate.
    fn gate(&self, camera: usize) {
        let camera = &self.cameras[camera];
        let work = CameraWork {
            motion: Some(camera.motion.work(MotionRules {
                max_skip: Duration::from_secs(5),
                after_change: Duration::ZERO,
                after_pause: Duration::ZERO,
            })),
            ..(*camera.work).clone()
        };
        let settings = SourceSettings {
            min_interval: Duration::ZERO,
            max_age: Duration::from_secs(600),
            metrics: Arc::clone(&camera.metrics),
            model: work.model,
            work: Arc::new(work),
        };
        self.scheduler.update(camera.source, settings);
    }

    fn unchanged(&self, camera: usize) -> u64 {
        self.cameras[camera]
            .metrics
            .frames_dropped(FrameDrop::Unchanged)
    }

    fn pool(&mut self) -> &mut InferencePool {
        self.pool.as_mut().unwrap()
    }

    fn way(&self, model: usize, way: Way) {
        self.models[model].change(|state| state.way = way);
    }

    fn offer(&self, camera: usize) {
        let planes = self.planes.acquire(SIZE.i420_bytes());
        self.offer_picture(camera, SIZE, planes);
    }

    /// Offers a picture of 160x160 pixels that shows a place, and if so a person in it.
    fn offer_place(&self, camera: usize, has_person: bool) {
        let size = PictureSize {
            width_px: 160,
            height_px: 160,
        };
        let mut planes = self.planes.acquire(size.i420_bytes());
        let bytes = planes.bytes_mut();
        for (n, luma) in bytes.iter_mut().enumerate() {
            let (x, y) = (n % 160, n / 160);
            let is_person = has_person && (60..80).contains(&x) && (50..100).contains(&y);
            *luma = u8::try_from(x).unwrap() + if is_person { 40 } else { 0 };
        }
        self.offer_picture(camera, size, planes);
    }

    fn offer_picture(&self, camera: usize, size: PictureSize, planes: PlaneBuffer) {
        let at = Instant::now();
        let timing = FrameTiming {
            received_at: at,
            completed_at: at,
            decoded_at: at,
            rtp_timestamp: 0.into(),
            captured_at_unix_ms: None,
        };
        let camera = &self.cameras[camera];
        camera.metrics.frames_decoded.inc();
        let frame = Frame::new(planes, size, Color::default(), timing);
        self.scheduler.offer(camera.source, frame);
    }

    /// The next event of a camera, and how many frames it skipped.
    fn event(&self, camera: usize) -> u64 {
        loop {
            let (id, skipped) = self.events.recv_timeout(PATIENCE).expect("an event comes");
            if id == self.cameras[camera].id {
                return skipped;
            }
        }
    }

    fn step(&mut self) {
        self.pass(STEP);
    }

    /// Lets time pass, once nothing is under way that ends without it. Otherwise a thread that has no processor would count as one
    /// that hangs.
    fn pass(&mut self, time: Duration) {
        let until = Instant::now() + PATIENCE;
        while self.goes_on() {
            assert!(Instant::now() < until, "what goes on comes to an end");
            std::thread::yield_now();
        }
        let now = {
            let mut now = self.now.lock();
            *now += time;
            *now
        };
        self.pool().supervise(now);
    }

    /// Steps until a condition holds. In real time this may take until other threads have run.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < until, "{what}");
            self.step();
            std::thread::yield_now();
        }
    }

    /// Waits while no time passes on the clock of the test.
    fn wait(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < until, "{what}");
            std::thread::yield_now();
        }
    }

    fn failed(&self, camera: usize) -> u64 {
        self.cameras[camera]
            .metrics
            .frames_dropped(FrameDrop::InferenceFailed)
    }

    fn is_in_flight(&self, camera: usize) -> bool {
        let running = |place: &WorkerSlot| {
            let worker = place.worker.as_ref()?;
            match &*worker.shared.run() {
                Run::Busy(flight) => Some(flight.source),
                _ => None,
            }
        };
        let slots = &self.pool.as_ref().unwrap().slots;
        slots
            .iter()
            .any(|place| running(place) == Some(self.cameras[camera].source))
    }

    fn ways(&self) -> Vec<Way> {
        let ways = self.models.iter().map(|model| model.state.lock().way);
        ways.collect()
    }

    /// True if a run or a load is under way that ends by itself.
    fn goes_on(&self) -> bool {
        let (ways, pool) = (self.ways(), self.pool.as_ref().unwrap());
        let loads = pool.load.as_ref().is_some_and(|load| {
            let hangs = |model: &usize| self.models[*model].state.lock().loads_hang;
            !load.is_done.load(Ordering::Acquire) && !load.models.iter().any(hangs)
        });
        let workers = pool.slots.iter().filter_map(|place| place.worker.as_ref());
        let mut runs = workers.map(|worker| worker.shared.run().clone());
        loads
            || runs.any(|run| match run {
                Run::Busy(flight) => !matches!(ways[flight.model], Way::Hangs | Way::Stuck),
                Run::Terminating { flight, .. } => ways[flight.model] != Way::Stuck,
                Run::Idle | Run::Abandoned => false,
            })
    }

    /// True if every slot has a run that does not end, or no worker yet.
    fn waits_for_time(&self) -> bool {
        let slots = &self.pool.as_ref().unwrap().slots;
        let is_idle = |worker: &Worker| matches!(*worker.shared.run(), Run::Idle);
        let taken = |place: &WorkerSlot| !place.worker.as_ref().is_some_and(is_idle);
        !self.goes_on() && slots.iter().all(taken)
    }

    fn state(&self, model: usize) -> Option<ModelState> {
        let text = self.metrics.encode();
        let of = |state: &ModelState| {
            let state = state.as_str();
            text.contains(&format!(
                "twinsight_model_state{{model=\"m{model}\",state=\"{state}\"}} 1"
            ))
        };
        ModelState::ALL.iter().find(|state| of(state)).copied()
    }

    fn blind(&mut self, camera: usize, model: usize) -> Option<String> {
        let id = self.cameras[camera].id.clone();
        self.pool().models().blind(&id, &format!("m{model}"))
    }

    /// Ends everything, and checks that the ledgers balance.
    fn close(mut self) {
        self.scheduler.close();
        for model in &self.models {
            model.change(|state| state.released = true);
        }
        self.pool.take().unwrap().join(PATIENCE);
        for camera in &self.cameras {
            let [_, frames, _] = camera.metrics.ledger().in_flight();
            assert_eq!(frames, 0, "{}: {:?}", camera.id, camera.metrics.ledger());
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for model in &self.models {
            model.change(|state| state.released = true);
        }
    }
}

#[test]
fn two_cameras_whose_model_hangs_leave_the_third_alone() {
    let mut bench = Bench::new(2, 2, &[0, 0, 1]);
    bench.way(0, Way::Hangs);
    // This is 50 s, with four frames a second of each camera.
    for _ in 0..200 {
        (0..3).for_each(|camera| bench.offer(camera));
        bench.event(2);
        bench.step();
    }
    assert_eq!(bench.cameras[2].metrics.frames_inferred.get(), 200);
    assert_eq!(bench.state(0), Some(ModelState::SetAside));
    assert_eq!(bench.state(1), Some(ModelState::Working));
    let reason = "model m0 is set aside: a run did not end in time";
    assert_eq!(bench.pool().models().last_errors(), [reason]);
    for camera in 0..2 {
        assert_eq!(bench.blind(camera, 0).as_deref(), Some(reason));
        assert!(bench.failed(camera) > 150, "{}", bench.failed(camera));
    }
    assert_eq!(bench.blind(2, 1), None);
    assert_eq!(bench.metrics.workers_given_up.get(), 0);
    // No detector of the other model was loaded again.
    assert_eq!(bench.models[1].loads.load(Ordering::Relaxed), 2);
    // The model works again, which the next probe shows.
    bench.way(0, Way::Good);
    bench.until("the model is tried", |bench| {
        bench.offer(0);
        bench.blind(0, 0).is_none()
    });
    bench.offer(1);
    assert!(bench.event(1) > 150, "those that failed are told");
    bench.close();
}

#[test]
fn runs_that_ignore_their_end_cost_a_bounded_number_of_workers() {
    let mut bench = Bench::new(2, 2, &[0, 0, 1]);
    bench.way(0, Way::Stuck);
    // This is twenty minutes.
    for _ in 0..4800 {
        (0..3).for_each(|camera| bench.offer(camera));
        bench.event(2);
        bench.step();
    }
    assert_eq!(bench.metrics.workers_given_up.get(), 2);
    assert!(bench.metrics.worker_restarts.get() <= 2);
    assert_eq!(
        bench.pool().models().last_errors(),
        ["model m0 is set aside: a run does not end, though it was told to"]
    );
    // When the runs end after all, there is room for another probe.
    bench.way(0, Way::Good);
    bench.until("the model is tried", |bench| {
        bench.offer(0);
        bench.state(0) == Some(ModelState::Working)
    });
    bench.until("the threads are gone", |bench| {
        bench.metrics.workers_given_up.get() == 0
    });
    bench.close();
}

#[test]
fn the_frames_that_an_abandoned_run_skipped_are_told_with_the_next_event() {
    let mut bench = Bench::new(1, 1, &[0]);
    bench.offer(0);
    assert_eq!(bench.event(0), 0);
    bench.wait("it is done", |bench| !bench.is_in_flight(0));
    bench.way(0, Way::Lies);
    bench.offer(0);
    bench.wait("it fails", |bench| bench.failed(0) == 1);
    bench.way(0, Way::Stuck);
    bench.offer(0);
    bench.wait("it runs", |bench| bench.is_in_flight(0));
    bench.until("the worker is given up", |bench| bench.failed(0) == 2);
    bench.way(0, Way::Good);
    let failed_meanwhile = bench.failed(0);
    bench.until("the model is tried", |bench| {
        bench.state(0) == Some(ModelState::Probing)
    });
    bench.offer(0);
    assert_eq!(bench.event(0), failed_meanwhile);
    bench.close();
}

#[test]
fn a_process_that_stood_still_has_no_run_that_hangs() {
    let mut bench = Bench::new(1, 1, &[0]);
    bench.step();
    bench.way(0, Way::Hangs);
    bench.offer(0);
    bench.wait("it runs", |bench| bench.is_in_flight(0));
    bench.step();
    bench.pass(Duration::from_secs(30));
    bench.step();
    assert!(bench.is_in_flight(0) && bench.failed(0) == 0);
    bench.way(0, Way::Good);
    bench.event(0);
    assert_eq!(bench.state(0), Some(ModelState::Working));
    bench.close();
}

#[test]
fn a_run_that_began_after_the_process_stood_still_hangs_no_longer_than_others() {
    let mut bench = Bench::new(1, 1, &[0]);
    bench.step();
    *bench.now.lock() += Duration::from_secs(30);
    bench.way(0, Way::Hangs);
    bench.offer(0);
    bench.wait("it runs", |bench| bench.is_in_flight(0));
    bench.pass(Duration::ZERO);
    // Its limit is 2 s, and 2 s more go by before its worker would be given up.
    for _ in 0..16 {
        bench.step();
    }
    assert_eq!(bench.state(0), Some(ModelState::SetAside));
    bench.close();
}

#[test]
fn a_detector_that_panics_is_made_anew_and_the_worker_goes_on() {
    let mut bench = Bench::new(1, 2, &[0, 1]);
    bench.way(0, Way::Panics);
    for _ in 0..40 {
        bench.offer(0);
        bench.offer(1);
        bench.event(1);
        bench.step();
    }
    assert_eq!(bench.models[1].loads.load(Ordering::Relaxed), 1);
    bench.until("it is said", |bench| bench.blind(0, 0).is_some());
    bench.way(0, Way::Good);
    bench.until("it is tried with another detector", |bench| {
        bench.offer(0);
        bench.cameras[0].metrics.frames_inferred.get() > 0
    });
    assert!(bench.models[0].loads.load(Ordering::Relaxed) > 1);
    assert_eq!(bench.metrics.worker_restarts.get(), 0);
    bench.close();
}

#[test]
fn a_panic_behind_the_model_costs_its_event_and_nothing_else() {
    let (sender, events) = channel();
    let (sender, calls) = (Mutex::new(sender), AtomicUsize::new(0));
    let bench = Bench::with_sink(
        1,
        (vec![Model::new("m0")], None),
        &[0],
        events,
        Arc::new(move |inference| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            assert!(call > 1, "this panic is the test's");
            let _ = sender
                .lock()
                .send((inference.job.work.id.clone(), call as u64));
        }),
    );
    let metrics = Arc::clone(&bench.cameras[0].metrics);
    for n in 1..=2 {
        bench.offer(0);
        bench.wait("it is settled", |_| {
            metrics.events_dropped(EventDrop::Failed) == n
        });
    }
    bench.offer(0);
    assert_eq!(bench.event(0), 2, "the third call");
    assert_eq!(metrics.frames_inferred.get(), 3);
    bench.close();
}

#[test]
fn a_model_that_lies_leaves_its_cameras_blind_and_that_is_said() {
    let mut bench = Bench::new(1, 2, &[0, 1]);
    bench.way(0, Way::Lies);
    for n in 1..=3 {
        assert_eq!(bench.blind(0, 0), None);
        bench.offer(0);
        bench.wait("it fails", |bench| {
            bench.failed(0) == n && !bench.is_in_flight(0)
        });
    }
    let because = "model m0: output `scores` has NaN as a score, which should be from 0 to 1: the model or its manifest (`output.activation`) is wrong";
    bench.until("it is said", |bench| bench.blind(0, 0).is_some());
    assert_eq!(bench.blind(0, 0).as_deref(), Some(because));
    assert_eq!(
        bench.pool().models().last_errors(),
        [format!("model m0 gives no results: {because}")]
    );
    assert_eq!(bench.state(0), Some(ModelState::Failing));
    bench.way(0, Way::Good);
    bench.until("it is said that it sees again", |bench| {
        bench.offer(0);
        bench.event(0);
        bench.blind(0, 0).is_none()
    });
    assert!(bench.pool().models().last_errors().is_empty());
    bench.close();
}

#[test]
fn a_model_that_cannot_be_had_again_is_asked_for_ever_more_seldom() {
    let mut bench = Bench::new(2, 2, &[0, 0, 1]);
    bench.way(0, Way::Panics);
    bench.models[0].change(|state| state.loads_fail = true);
    // This is twenty minutes.
    for _ in 0..4800 {
        bench.offer(0);
        bench.offer(2);
        bench.event(2);
        bench.step();
    }
    let loads = bench.models[0].loads.load(Ordering::Relaxed) - 2;
    assert!((3..=12).contains(&loads), "{loads} loads");
    let trouble = bench.blind(0, 0).unwrap();
    assert!(
        trouble.contains("cannot be loaded again") && trouble.contains("the test says so"),
        "{trouble}"
    );
    bench.close();
}

#[test]
fn a_load_that_never_ends_holds_up_nobody() {
    let mut bench = Bench::new(2, 2, &[0, 1]);
    bench.way(0, Way::Panics);
    bench.models[0].change(|state| state.loads_hang = true);
    let started = Instant::now();
    for _ in 0..400 {
        bench.offer(0);
        bench.offer(1);
        bench.event(1);
        bench.step();
    }
    assert!(started.elapsed() < PATIENCE);
    let loads = |bench: &Bench| bench.models[0].loads.load(Ordering::Relaxed);
    assert_eq!(loads(&bench), 3, "one at a time");
    // Another model needs a load as well.
    bench.way(1, Way::Panics);
    bench.offer(1);
    bench.wait("it panics", |bench| bench.failed(1) == 1);
    bench.way(1, Way::Good);
    let before = bench.cameras[1].metrics.frames_inferred.get();
    bench.until("it is inferred again", |bench| {
        bench.offer(1);
        bench.cameras[1].metrics.frames_inferred.get() > before
    });
    // This is twenty minutes. Each load that hangs costs a thread, so there is no second one.
    for _ in 0..4800 {
        bench.offer(0);
        bench.step();
    }
    assert_eq!(loads(&bench), 3);
    let reason = "model m0 is set aside: it cannot be loaded again: loading it does not end";
    assert_eq!(bench.blind(0, 0).as_deref(), Some(reason));
    // The load ends after all.
    bench.way(0, Way::Good);
    bench.models[0].change(|state| state.loads_hang = false);
    bench.until("the model works again", |bench| {
        bench.offer(0);
        bench.state(0) == Some(ModelState::Working)
    });
    bench.close();
}

#[test]
fn a_worker_is_replaced_without_the_model_whose_load_never_ends() {
    let mut bench = Bench::new(1, 3, &[0, 1, 2]);
    bench.models[1].change(|state| state.loads_hang = true);
    bench.way(0, Way::Stuck);
    bench.offer(0);
    bench.until("the others are inferred again", |bench| {
        bench.offer(2);
        bench.cameras[2].metrics.frames_inferred.get() > 0 && bench.pool().last_error().is_none()
    });
    let reason = "model m1 is set aside: it cannot be loaded again: loading it does not end";
    bench.until("that one is said to be out", |bench| {
        bench.blind(1, 1).as_deref() == Some(reason)
    });
    bench.close();
}

#[test]
fn a_worker_that_was_staffed_while_a_model_was_under_trial_gets_it_too() {
    let mut bench = Bench::new(1, 2, &[0, 1]);
    bench.way(1, Way::Panics);
    bench.offer(1);
    bench.wait("it panics", |bench| bench.failed(1) == 1);
    bench.way(1, Way::Good);
    // Its camera has no frame just then.
    bench.until("it is tried", |bench| {
        bench.state(1) == Some(ModelState::Probing)
    });
    bench.way(0, Way::Stuck);
    bench.offer(0);
    bench.until("the worker is replaced", |bench| {
        bench.metrics.worker_restarts.get() == 1
    });
    assert_eq!(bench.state(1), Some(ModelState::Probing));
    bench.until("its camera sees again", |bench| {
        bench.offer(1);
        bench.cameras[1].metrics.frames_inferred.get() > 0
    });
    assert_eq!(bench.state(1), Some(ModelState::Working));
    bench.close();
}

#[test]
fn a_worker_whose_thread_is_not_granted_is_tried_again() {
    // No other test has as many workers.
    let refusal = twinsight_client::thread::refusal::of("infer-8");
    let mut bench = Bench::new(9, 1, &[0]);
    bench.step();
    let staffed = |bench: &Bench| {
        let slots = &bench.pool.as_ref().unwrap().slots;
        slots.iter().filter(|place| place.worker.is_some()).count()
    };
    assert_eq!(staffed(&bench), 8);
    bench.offer(0);
    bench.event(0);
    drop(refusal);
    bench.until("the ninth is there", |bench| staffed(bench) == 9);
    bench.close();
}

#[test]
fn without_a_worker_the_node_says_so() {
    let mut bench = Bench::new(1, 1, &[0]);
    bench.models[0].change(|state| state.loads_hang = true);
    bench.way(0, Way::Stuck);
    bench.offer(0);
    bench.until("its worker is given up", |bench| {
        bench.pool().last_error().is_some()
    });
    assert_eq!(bench.pool().last_error(), Some("no inference worker runs"));
    bench.close();
}

fn any_way() -> impl Strategy<Value = Way> {
    prop_oneof![
        Just(Way::Good),
        Just(Way::Lies),
        Just(Way::Hangs),
        Just(Way::Stuck),
        Just(Way::Panics),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever two models do, every frame of the third one's camera is inferred, few workers are given up, and in the end each frame
    /// is accounted for.
    #[test]
    fn whatever_other_models_do_the_good_one_goes_on(
        ways in prop::collection::vec((any_way(), 0..2_usize, 1..200_usize, any::<bool>()), 1..12),
    ) {
        let mut bench = Bench::new(2, 3, &[0, 0, 1, 2]);
        for (way, model, steps, loads_fail) in ways {
            bench.models[model].change(|state| {
                state.way = way;
                state.loads_fail = loads_fail;
            });
            for _ in 0..steps {
                (0..4).for_each(|camera| bench.offer(camera));
                // If both workers have a run that hangs, time must pass first.
                let wanted = bench.cameras[3].metrics.frames_decoded.get();
                let mut passed = Duration::ZERO;
                let until = Instant::now() + PATIENCE;
                loop {
                    let metrics = &bench.cameras[3].metrics;
                    let replaced = metrics.frames_dropped(FrameDrop::Replaced);
                    if metrics.frames_inferred.get() + replaced == wanted {
                        break;
                    }
                    assert!(Instant::now() < until, "the good camera starves");
                    if bench.waits_for_time() {
                        bench.step();
                        passed += STEP;
                    }
                    std::thread::yield_now();
                }
                // That is enough for a run to hang, to be terminated, and for a thread that is not granted at once.
                prop_assert!(passed < Duration::from_secs(60), "{passed:?}");
                bench.step();
                // Two workers may be given up, and two more if both cameras of a model hang at once when there is no more room.
                prop_assert!(bench.metrics.workers_given_up.get() <= 4);
            }
        }
        prop_assert_eq!(bench.cameras[3].metrics.frames_dropped(FrameDrop::InferenceFailed), 0);
        prop_assert_eq!(bench.state(2), Some(ModelState::Working));
        bench.close();
    }
}

#[test]
fn a_still_place_is_not_inferred_and_a_person_in_it_is_at_once() {
    let mut bench = Bench::new(2, 1, &[0]);
    bench.gate(0);
    bench.offer_place(0, false);
    assert_eq!(bench.event(0), 0);
    for n in 1..=19 {
        bench.offer_place(0, false);
        bench.wait("it shows nothing new", |bench| bench.unchanged(0) == n);
        bench.step();
    }
    // The very frame that shows the person is inferred.
    bench.offer_place(0, true);
    assert_eq!(bench.event(0), 19, "those that were left out are told");
    for n in 20..=38 {
        bench.offer_place(0, true);
        bench.wait("the person stands", |bench| bench.unchanged(0) == n);
        bench.step();
    }
    // 20 steps of 250 ms have passed since the last look.
    bench.step();
    bench.offer_place(0, true);
    assert_eq!(bench.event(0), 19);
    let metrics = &bench.cameras[0].metrics;
    assert_eq!(metrics.frames_inferred.get(), 3);
    assert_eq!(metrics.frames_dropped(FrameDrop::Unchanged), 38);
    bench.close();
}

#[test]
fn a_picture_whose_inference_failed_is_looked_at_again() {
    let mut bench = Bench::new(1, 1, &[0]);
    bench.gate(0);
    bench.offer_place(0, false);
    bench.event(0);
    bench.wait("it is done", |bench| !bench.is_in_flight(0));
    bench.way(0, Way::Lies);
    for n in 1..=3 {
        bench.offer_place(0, true);
        bench.wait("it fails", |bench| bench.failed(0) == n);
    }
    // A frame is counted before its failure is known.
    bench.until("it is blind, and not still", |bench| {
        bench.blind(0, 0).is_some()
    });
    bench.way(0, Way::Good);
    bench.offer_place(0, true);
    assert_eq!(bench.event(0), 3);
    bench.offer_place(0, true);
    bench.wait("it shows nothing new", |bench| bench.unchanged(0) == 1);
    bench.close();
}

#[test]
fn other_settings_are_looked_at_with_although_nothing_moves() {
    let bench = Bench::new(1, 1, &[0]);
    for _ in 0..3 {
        bench.gate(0);
        bench.offer_place(0, false);
        bench.event(0);
        let before = bench.unchanged(0);
        bench.offer_place(0, false);
        bench.wait("it shows nothing new", |bench| bench.unchanged(0) > before);
    }
    bench.close();
}
