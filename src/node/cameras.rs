//! The cameras of the node, reconciled with the configuration: starting from empty, adding, changing
//! and removing are one code path. A camera that did not change is not touched.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::{Mutex, RwLock};

use super::gone::Gone;
use super::models::Catalog;
use crate::config::{CameraConfig, Connect};
use crate::detect::health::ModelHealth;
use crate::detect::worker::{CameraScheduler, CameraWork};
use crate::http::api::CameraFacts;
use crate::publish::event::CameraStatus;
use crate::publish::publisher::Publisher;
use crate::schedule::scheduler::{Pace, SourceId, SourceSettings};
use crate::telemetry::ledger::FrameDrop;
use crate::telemetry::metrics::{Forgotten, Metrics, StreamMetrics};
use twinsight_client::clock::SystemClock;
use twinsight_client::media::camera::{
    CameraStream, CameraStreamOptions, FrameHandler, StateHandler, StreamContext,
};
use twinsight_client::media::stream_state::StreamState;
use twinsight_client::media::worker::DecodeConfig;
use twinsight_client::rate_limit::{RATE_LIMIT, RateLimit};
use twinsight_client::realtime::ice::IceSettings;
use twinsight_client::realtime::negotiation::Role;
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::CameraState;
use twinsight_media::decode::cpu_pressure::CpuPressure;
use twinsight_media::decode::decoder::DecoderKind;
use twinsight_media::ledger::ShedLevel;

/// What every camera of the node uses.
#[derive(Debug, Clone)]
pub(super) struct CameraContext {
    /// Hub and keyframe budget.
    pub stream: StreamContext,
    /// Where frames go.
    pub scheduler: Arc<CameraScheduler>,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// Where states go.
    pub publisher: Publisher,
    /// How connections find their way.
    pub ice: IceSettings,
    /// The decoder.
    pub decoder: DecoderKind,
    /// What decoding costs inference.
    pub cpu_pressure: Arc<CpuPressure>,
    /// Told when any camera's state changes.
    pub changed: Arc<tokio::sync::Notify>,
}

/// The cameras that run.
#[derive(Debug)]
pub(super) struct Cameras {
    context: CameraContext,
    running: BTreeMap<StreamId, Camera>,
    gone: Gone,
    /// A hub can make up cameras without end.
    farewells: RateLimit<()>,
}

#[derive(Debug)]
struct Camera {
    config: CameraConfig,
    name: SharedName,
    source: SourceId,
    status: Arc<StatusLine>,
    stream: CameraStream,
}

/// What is told of a camera: its stream's state, and why no frame of it is inferred though they come.
#[derive(Debug)]
struct StatusLine {
    id: StreamId,
    name: SharedName,
    publisher: Publisher,
    facts: Mutex<StatusFacts>,
}

/// What a camera's status is made of.
#[derive(Debug, Default)]
struct StatusFacts {
    /// The stream's state, once there was a change.
    state: Option<StreamState>,
    /// Why its model infers no frame of it.
    blind: Option<String>,
    /// True while all of its frames come too slowly to be inferred.
    slow: bool,
}

/// A camera's name for people, which may change while its stream goes on.
#[derive(Debug, Clone)]
struct SharedName(Arc<RwLock<Arc<str>>>);

/// How many camera streams a reconciliation touched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// New ones.
    pub added: usize,
    /// Those with a new connection, because the change needs one.
    pub reopened: usize,
    /// Those with other settings on the same connection.
    pub changed: usize,
    /// Those that are gone.
    pub removed: usize,
}

/// A plan to bring the running cameras in line with the configuration; making it changes nothing.
struct Wanted {
    config: CameraConfig,
    work: Arc<CameraWork>,
}

impl Cameras {
    /// No cameras.
    pub(super) fn new(context: CameraContext) -> Self {
        Self {
            context,
            running: BTreeMap::new(),
            gone: Gone::default(),
            farewells: RateLimit::new(RATE_LIMIT),
        }
    }

    /// Makes the running cameras those of the configuration. Refused whole when one of them cannot be.
    /// Every call comes to its end: one that is dropped halfway leaves connections that nobody waits for.
    ///
    /// # Errors
    /// When a camera names a model or class that is not there; nothing has changed then.
    pub(super) async fn apply(
        &mut self,
        models: &Catalog,
        configs: &[CameraConfig],
    ) -> Result<Changes> {
        let mut wanted = BTreeMap::new();
        for config in configs {
            wanted.insert(config.id.clone(), self.resolve(models, config)?);
        }
        let mut changes = Changes::default();
        let gone: Vec<StreamId> = self
            .running
            .iter()
            .filter(|(id, camera)| {
                wanted
                    .get(*id)
                    .is_none_or(|wanted| must_reopen(&camera.config, &wanted.config))
            })
            .map(|(id, _)| id.clone())
            .collect();
        let mut closing = Vec::new();
        for id in gone {
            if let Some(camera) = self.running.remove(&id) {
                let removed = !wanted.contains_key(&id);
                *if removed {
                    &mut changes.removed
                } else {
                    &mut changes.reopened
                } += 1;
                if removed {
                    self.gone.left(id, Instant::now());
                }
                closing.push((camera, removed));
            }
        }
        // Each takes up to a second, all together no longer.
        let closing = closing
            .into_iter()
            .map(|(camera, removed)| self.close(camera, removed));
        futures_util::future::join_all(closing).await;
        for (id, wanted) in wanted {
            match self.running.get_mut(&id) {
                Some(camera) if camera.config == wanted.config => {}
                Some(camera) => {
                    let context = &self.context;
                    context
                        .scheduler
                        .update(camera.source, source_settings(&wanted));
                    if camera.config.name != wanted.config.name {
                        camera.name.set(&wanted.work.name);
                        context.publisher.rename(&id, &wanted.work.name);
                    }
                    camera.config = wanted.config;
                    changes.changed += 1;
                }
                None => {
                    self.gone.returned(&id);
                    let camera = self.open(wanted);
                    self.running.insert(id, camera);
                    changes.added += 1;
                    // Hundreds of cameras must not keep this thread from those that send.
                    tokio::task::yield_now().await;
                }
            }
        }
        self.forget(Instant::now());
        changes.added -= changes.reopened;
        if changes != Changes::default() {
            self.context.changed.notify_one();
        }
        Ok(changes)
    }

    /// Forgets cameras that are gone for long: their series, their numbers, what was last told of them.
    pub(super) fn forget(&mut self, now: Instant) {
        let CameraContext {
            metrics, publisher, ..
        } = &self.context;
        for (id, age) in self.gone.due(now) {
            // That it was removed is still to be told: the hub is away, or takes one after the other.
            if !Gone::is_over(age) && !self.gone.is_full() && publisher.is_due(&id) {
                continue;
            }
            match metrics.forget(&id) {
                Forgotten::Yes => {}
                // A frame of it is still in inference, or an event on its way.
                Forgotten::InUse => continue,
                Forgotten::Open(_) if !Gone::is_over(age) => continue,
                Forgotten::Open(ledger) => {
                    let [units, frames, events] = ledger.in_flight();
                    tracing::error!(camera = %id, units, frames, events, "a camera's ledger does not balance: this is a bug in Twinsight");
                    metrics.forget_open(&id);
                }
            }
            publisher.forget(&id);
            self.gone.returned(&id);
        }
    }

    /// How the cameras are.
    pub(super) fn facts(&self) -> Vec<CameraFacts> {
        let fact = |camera: &Camera| {
            let state = *camera.stream.state().borrow();
            CameraFacts {
                id: camera.config.id.clone(),
                name: camera.config.name.clone(),
                model: camera.config.model.clone(),
                state: state.state,
                since: state.since,
                reason: camera.status.reason(&state),
                attempt: u64::from(state.attempt),
                last_event_at: self.context.publisher.last_published(&camera.config.id),
            }
        };
        self.running.values().map(fact).collect()
    }

    /// Tells of each camera whose model leaves it blind, and of each that sees again.
    pub(super) fn look_for_blind_ones(&self, models: &ModelHealth) {
        for camera in self.running.values() {
            let blind = models.blind(&camera.config.id, &camera.config.model);
            if camera.status.set_blind(blind) {
                self.context.changed.notify_one();
            }
        }
    }

    /// Running cameras whose task is gone, which nothing but a panic brings about.
    pub(super) fn ended(&self) -> Vec<StreamId> {
        let gone = self
            .running
            .iter()
            .filter(|(_, camera)| camera.stream.is_gone());
        gone.map(|(id, _)| id.clone()).collect()
    }

    /// Closes all connections and ends all decoding, at the node's end. No frame comes after it.
    pub(super) async fn shutdown(&mut self) {
        let mut closing = tokio::task::JoinSet::new();
        for camera in std::mem::take(&mut self.running).into_values() {
            closing.spawn(camera.stream.close());
        }
        closing.join_all().await;
    }

    fn resolve(&self, models: &Catalog, config: &CameraConfig) -> Result<Wanted> {
        let (model, settings) = models.resolve(config)?;
        let work = CameraWork {
            id: config.id.clone(),
            name: config.name.as_str().into(),
            model,
            settings,
            emit_empty: config.emit_empty,
            metrics: self.context.metrics.stream(&config.id),
        };
        Ok(Wanted {
            config: config.clone(),
            work: Arc::new(work),
        })
    }

    fn open(&self, wanted: Wanted) -> Camera {
        let context = &self.context;
        let source = context.scheduler.add(source_settings(&wanted));
        let Wanted { config, work } = wanted;
        let name = SharedName::new(&work.name);
        let status = Arc::new(StatusLine {
            id: config.id.clone(),
            name: name.clone(),
            publisher: context.publisher.clone(),
            facts: Mutex::default(),
        });
        let metrics = Arc::clone(&work.metrics);
        let options = CameraStreamOptions {
            id: config.id.clone(),
            role: match config.connect {
                Connect::Dial => Role::Initiator,
                Connect::Accept => Role::Responder,
            },
            dialect: config.dialect,
            allow_unsigned: config.allow_unsigned,
            codecs: config.codecs.clone(),
            ice: context.ice.clone(),
            decode: DecodeConfig {
                seed: seed(&config.id),
                cpu_pressure: Arc::clone(&context.cpu_pressure),
                ..DecodeConfig::new(
                    context.metrics.stream_ledger(&config.id),
                    Arc::new(SystemClock),
                    context.decoder,
                )
            },
            metrics: Some(context.metrics.stream_sink(&config.id)),
        };
        let stream = CameraStream::open(
            context.stream.clone(),
            options,
            frame_handler(
                Arc::clone(&context.scheduler),
                source,
                metrics,
                slowness_handler(Arc::clone(&status), Arc::clone(&context.changed)),
            ),
            status_handler(Arc::clone(&status), Arc::clone(&context.changed)),
        );
        Camera {
            config,
            name,
            source,
            status,
            stream,
        }
    }

    async fn close(&self, camera: Camera, removed: bool) {
        let Camera {
            config,
            name: _,
            source,
            status: _,
            stream,
        } = camera;
        let attempt = u64::from(stream.state().borrow().attempt);
        stream.close().await;
        self.context
            .scheduler
            .remove(source, FrameDrop::CameraRemoved);
        if removed {
            if let Some(suppressed) = self.farewells.allow((), Instant::now()) {
                tracing::info!(camera = %config.id, suppressed, "the camera is no longer configured");
            }
            self.context
                .metrics
                .stream(&config.id)
                .set_state(CameraState::Removed);
            self.context.publisher.set_status(CameraStatus {
                id: config.id,
                name: config.name.into(),
                state: CameraState::Removed,
                since: Instant::now(),
                reason: None,
                attempt,
            });
        }
    }
}

impl SharedName {
    fn new(name: &Arc<str>) -> Self {
        Self(Arc::new(RwLock::new(Arc::clone(name))))
    }

    fn get(&self) -> Arc<str> {
        Arc::clone(&self.0.read())
    }

    fn set(&self, name: &Arc<str>) {
        *self.0.write() = Arc::clone(name);
    }
}

/// True when a change needs a new connection; others only change how frames are scheduled and judged.
fn must_reopen(old: &CameraConfig, new: &CameraConfig) -> bool {
    old.connect != new.connect
        || old.dialect != new.dialect
        || old.codecs != new.codecs
        || old.allow_unsigned != new.allow_unsigned
}

/// The time between two frames of a camera that are inferred. A setting of the hub may say a number so small that its
/// inverse is no duration: a day is as good as never.
fn min_interval(max_fps: f64) -> Duration {
    const LONGEST_S: f64 = 24.0 * 3600.0;
    if max_fps > 0.0 {
        Duration::from_secs_f64((1.0 / max_fps).min(LONGEST_S))
    } else {
        Duration::ZERO
    }
}

fn source_settings(wanted: &Wanted) -> SourceSettings<Arc<CameraWork>> {
    SourceSettings {
        min_interval: min_interval(wanted.config.max_fps),
        max_age: wanted.config.max_age,
        metrics: Arc::clone(&wanted.work.metrics),
        model: wanted.work.model,
        work: Arc::clone(&wanted.work),
    }
}

/// A frame that came within this time did not come slowly, whatever `max_age_ms` says.
const SLOW: Duration = Duration::from_millis(50);

/// For this long every frame came too slowly before it is said.
const SLOW_FOR: Duration = Duration::from_secs(5);

/// Whether all frames of a camera take so long to come that none can be inferred: it is blind, although it sends.
#[derive(Debug)]
struct Slowness {
    since: Option<Instant>,
    /// The last frame that came too slowly.
    last: Option<Instant>,
    /// They have come too slowly for long, and none in time since.
    is_slow: bool,
    warnings: RateLimit<()>,
}

impl Default for Slowness {
    fn default() -> Self {
        Self {
            since: None,
            last: None,
            is_slow: false,
            warnings: RateLimit::new(RATE_LIMIT),
        }
    }
}

impl Slowness {
    /// Some when it is time to say so; how often it was left out before.
    fn frame(&mut self, too_slow: bool, now: Instant) -> Option<u64> {
        if !too_slow {
            self.since = None;
            self.is_slow = false;
            return None;
        }
        // Two frames with a long time between them are not every frame of that time.
        let last = self.last.replace(now);
        if last.is_none_or(|last| now.saturating_duration_since(last) > SLOW_FOR) {
            self.since = None;
        }
        let since = *self.since.get_or_insert(now);
        let long = now.saturating_duration_since(since) >= SLOW_FOR;
        self.is_slow |= long;
        long.then(|| self.warnings.allow((), now)).flatten()
    }
}

/// Offers frames to the scheduler, at half the pace while their stream sheds.
fn frame_handler(
    scheduler: Arc<CameraScheduler>,
    source: SourceId,
    metrics: Arc<StreamMetrics>,
    tell_slow: impl Fn(bool) + Send + 'static,
) -> FrameHandler {
    let mut pace = Pace::Usual;
    let mut slowness = Slowness::default();
    let mut was_slow = false;
    Box::new(move |frame| {
        let (timing, now) = (frame.timing(), Instant::now());
        let took = timing
            .completed_at
            .saturating_duration_since(timing.received_at);
        // Asked for only where it may matter, since it takes the scheduler's lock.
        let too_slow = took >= SLOW && scheduler.max_age(source).is_some_and(|max| took > max);
        if let Some(suppressed) = slowness.frame(too_slow, now) {
            let (camera, receive_ms) = (metrics.id(), took.as_millis());
            tracing::warn!(%camera, receive_ms, suppressed, "every frame takes longer to come than max_age_ms, so none is inferred");
        }
        if slowness.is_slow != was_slow {
            was_slow = slowness.is_slow;
            tell_slow(was_slow);
        }
        let wanted = match metrics.shed_level() {
            ShedLevel::None => Pace::Usual,
            _ => Pace::Halved,
        };
        if wanted != pace {
            pace = wanted;
            scheduler.set_pace(source, pace);
        }
        scheduler.offer(source, frame);
    })
}

/// Makes an event of each change.
fn status_handler(status: Arc<StatusLine>, changed: Arc<tokio::sync::Notify>) -> StateHandler {
    Box::new(move |current| {
        status.set_state(current);
        changed.notify_one();
    })
}

/// Makes an event of it when a camera is too slow to be inferred, or no longer is.
fn slowness_handler(
    status: Arc<StatusLine>,
    changed: Arc<tokio::sync::Notify>,
) -> impl Fn(bool) + Send + 'static {
    move |slow| {
        if status.set_slow(slow) {
            changed.notify_one();
        }
    }
}

/// Another one for each camera, and the same one in each run.
fn seed(id: &StreamId) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

/// Why a camera that sends is blind, as its status says it.
const SLOW_REASON: &str = "every frame takes longer to come than max_age_ms, so none is inferred";

impl StatusFacts {
    /// The stream's own reason, else why its frames are not inferred.
    fn reason(&self, state: &StreamState) -> Option<String> {
        let blind = self.slow.then_some(SLOW_REASON).or(self.blind.as_deref());
        let blind = blind.filter(|_| state.state == CameraState::Receiving);
        state.reason.or(blind).map(str::to_owned)
    }
}

impl StatusLine {
    fn set_state(&self, state: StreamState) {
        let mut facts = self.facts.lock();
        facts.state = Some(state);
        self.tell(&facts);
    }

    /// True when that is news.
    fn set_blind(&self, blind: Option<String>) -> bool {
        let mut facts = self.facts.lock();
        if facts.blind == blind {
            return false;
        }
        facts.blind = blind;
        self.tell(&facts);
        true
    }

    /// True when that is news.
    fn set_slow(&self, slow: bool) -> bool {
        let mut facts = self.facts.lock();
        if facts.slow == slow {
            return false;
        }
        facts.slow = slow;
        self.tell(&facts);
        true
    }

    /// Why, for a stream in this state.
    fn reason(&self, state: &StreamState) -> Option<String> {
        let facts = self.facts.lock();
        facts.reason(state)
    }

    /// Under the lock, so that the last event is of the newest state.
    fn tell(&self, facts: &StatusFacts) {
        let Some(state) = &facts.state else { return };
        self.publisher.set_status(CameraStatus {
            id: self.id.clone(),
            name: self.name.get(),
            state: state.state,
            since: state.since,
            reason: facts.reason(state),
            attempt: u64::from(state.attempt),
        });
    }
}

#[cfg(test)]
mod slowness_tests {
    use super::*;

    #[test]
    fn a_camera_all_of_whose_frames_come_too_slowly_is_said_to_be_blind() {
        let mut slowness = Slowness::default();
        let start = Instant::now();
        let s = Duration::from_secs;
        for second in 0..5 {
            assert_eq!(slowness.frame(true, start + s(second)), None);
        }
        assert_eq!(slowness.frame(true, start + s(5)), Some(0));
        assert_eq!(slowness.frame(true, start + s(6)), None);
        // One frame in time, and nobody is blind.
        assert_eq!(slowness.frame(false, start + s(20)), None);
        assert_eq!(slowness.frame(true, start + s(21)), None);
        assert!(!slowness.is_slow);
        assert_eq!(slowness.frame(true, start + s(26)), Some(1));
        assert!(slowness.is_slow);
        assert_eq!(slowness.frame(false, start + s(27)), None);
        assert!(!slowness.is_slow, "it sees again");
    }

    #[test]
    fn two_slow_frames_with_a_pause_between_them_are_not_every_frame() {
        let mut slowness = Slowness::default();
        let start = Instant::now();
        for second in [0, 6, 20] {
            let now = start + Duration::from_secs(second);
            assert_eq!(slowness.frame(true, now), None, "{second}");
        }
        assert!(!slowness.is_slow);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use serde_json::Value;
    use tokio::sync::{mpsc, watch};

    use super::super::models::{ModelLoader, Models};
    use super::*;
    use crate::config::{Config, ConfigSource, Env, Settings};
    use crate::detect::FakeDetector;
    use crate::publish::publisher::{EventSink, HubAway, PublisherTask};
    use twinsight_client::hub::client::HubClient;
    use twinsight_client::hub::options::HubOptions;
    use twinsight_client::media::stream_state::StreamState;
    use twinsight_media::decode::keyframes::KeyframeBudget;
    use twinsight_media::picture::PictureSize;

    #[test]
    fn no_rate_is_too_small_for_a_duration() {
        assert_eq!(min_interval(0.0), Duration::ZERO);
        assert_eq!(min_interval(4.0), Duration::from_millis(250));
        for tiny in [1e-9, 1e-30, f64::MIN_POSITIVE] {
            assert_eq!(min_interval(tiny), Duration::from_secs(24 * 3600));
        }
    }

    /// A hub that is away until it is told otherwise.
    struct Hub {
        is_there: Arc<AtomicBool>,
        events: mpsc::UnboundedSender<Value>,
    }

    impl EventSink for Hub {
        async fn emit(&mut self, _event: &'static str, data: Value) -> Result<(), HubAway> {
            if !self.is_there.load(Ordering::Relaxed) {
                return Err(HubAway);
            }
            self.events.send(data).map_err(|_| HubAway)
        }
    }

    struct Bench {
        cameras: Cameras,
        catalog: Catalog,
        hub_is_there: Arc<AtomicBool>,
        events: mpsc::UnboundedReceiver<Value>,
        _publisher: PublisherTask,
    }

    impl Bench {
        fn new() -> Self {
            let metrics = Arc::new(Metrics::new());
            let (sender, events) = mpsc::unbounded_channel();
            let hub_is_there = Arc::new(AtomicBool::new(false));
            let hub = Hub {
                is_there: Arc::clone(&hub_is_there),
                events: sender,
            };
            let (publisher, task) =
                Publisher::spawn(hub, "run".to_owned(), 8, Arc::clone(&metrics), None);
            let context = CameraContext {
                stream: StreamContext {
                    hub: HubClient::start(HubOptions::simulator("http://127.0.0.1:9", "node-1")),
                    keyframes: Arc::new(KeyframeBudget::new(Instant::now())),
                },
                scheduler: Arc::new(CameraScheduler::default()),
                metrics,
                publisher,
                ice: IceSettings::default(),
                decoder: DecoderKind::Fake(PictureSize {
                    width_px: 16,
                    height_px: 16,
                }),
                cpu_pressure: Arc::default(),
                changed: Arc::default(),
            };
            let detector = FakeDetector::new(Duration::ZERO, Vec::new());
            let loader: ModelLoader = Arc::new(move |_| Ok(Box::new(detector.clone())));
            let names = ["nanodet_g_coco", "other"].map(str::to_owned).to_vec();
            Self {
                cameras: Cameras::new(context),
                catalog: Models::new(names, loader).unwrap().catalog().clone(),
                hub_is_there,
                events,
                _publisher: task,
            }
        }

        async fn apply(&mut self, text: &str) -> Changes {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("node.toml");
            std::fs::write(&file, text).unwrap();
            let env: Env = [("TWIN_ID", "node-1")].into_iter().collect();
            let source = ConfigSource::read(Some(&file), &env).unwrap();
            let config: Config = source.resolve(&Settings::default()).unwrap();
            self.cameras
                .apply(&self.catalog, &config.cameras)
                .await
                .unwrap()
        }

        fn hub_returns(&self) {
            self.hub_is_there.store(true, Ordering::Relaxed);
            self.cameras.context.publisher.resend_statuses();
        }

        /// The twins of the next events that say `removed`.
        async fn removed(&mut self, count: usize) -> std::collections::BTreeSet<String> {
            let mut twins = std::collections::BTreeSet::new();
            let facts = async {
                while twins.len() < count {
                    let event = self.events.recv().await.expect("the publisher runs");
                    if event["state"] == "removed" {
                        assert!(
                            twins.insert(event["camera"]["twinId"].to_string()),
                            "told twice"
                        );
                    }
                }
            };
            let in_time = tokio::time::timeout(Duration::from_secs(30), facts).await;
            assert!(in_time.is_ok(), "{} of {count} were told", twins.len());
            twins
        }

        /// The identity of a running camera: its source at the scheduler and its stream's state.
        fn identity(&self, twin: &str) -> (SourceId, watch::Receiver<StreamState>) {
            let camera = &self.cameras.running[&StreamId::new(twin, "default")];
            (camera.source, camera.stream.state())
        }
    }

    const CAMERA: &str = "[[cameras]]\ntwin_id = \"a\"\n";

    #[tokio::test]
    async fn what_needs_no_connection_keeps_source_and_stream() {
        let mut bench = Bench::new();
        let added = Changes {
            added: 1,
            ..Changes::default()
        };
        assert_eq!(bench.apply(CAMERA).await, added);
        let (source, state) = bench.identity("a");
        assert_eq!(bench.apply(CAMERA).await, Changes::default());
        for setting in [
            "name = \"Door\"",
            "max_fps = 1",
            "max_age_ms = 100",
            "min_score = 0.9",
            "classes = [\"person\"]",
            "emit_empty = false",
            "model = \"other\"",
        ] {
            let changes = bench.apply(&format!("{CAMERA}{setting}\n")).await;
            let changed = Changes {
                changed: 1,
                ..Changes::default()
            };
            assert_eq!(changes, changed, "{setting}");
            let (source_now, state_now) = bench.identity("a");
            assert_eq!(source, source_now, "{setting}");
            assert!(state.same_channel(&state_now), "{setting}");
        }
        bench.apply(&format!("{CAMERA}name = \"Gate\"\n")).await;
        assert_eq!(bench.cameras.facts()[0].name, "Gate");
        let camera = &bench.cameras.running[&StreamId::new("a", "default")];
        assert_eq!(&*camera.name.get(), "Gate", "states have the new name too");
        bench.cameras.shutdown().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_camera_without_a_thread_says_so_and_is_tried_again_and_others_go_on() {
        let refusal = twinsight_client::thread::refusal::of("dec-threadless");
        let mut bench = Bench::new();
        let threadless = "[[cameras]]\ntwin_id = \"threadless\"\n";
        let added = Changes {
            added: 2,
            ..Changes::default()
        };
        assert_eq!(bench.apply(&format!("{CAMERA}{threadless}")).await, added);
        let (_, mut state) = bench.identity("threadless");
        let refused = state
            .wait_for(|state| state.state == CameraState::Unreachable)
            .await
            .unwrap()
            .reason
            .unwrap();
        assert!(refused.contains("no thread to decode"), "{refused}");
        let (_, other) = bench.identity("a");
        assert_eq!(other.borrow().state, CameraState::Connecting);
        // Changes go on being applied.
        let changes = bench
            .apply(&format!("{CAMERA}max_fps = 1\n{threadless}"))
            .await;
        assert_eq!(changes.changed, 1);
        drop(refusal);
        state
            .wait_for(|state| state.state == CameraState::Connecting && state.reason.is_none())
            .await
            .unwrap();
        bench.cameras.shutdown().await;
    }

    #[tokio::test]
    async fn cameras_that_came_and_went_leave_nothing_after_ten_minutes() {
        let mut bench = Bench::new();
        let lines = |bench: &Bench| {
            let text = bench.cameras.context.metrics.encode();
            text.lines()
                .filter(|line| line.contains("camera=\"gone-"))
                .count()
        };
        bench.apply(CAMERA).await;
        for n in 0..3 {
            let more = format!("[[cameras]]\ntwin_id = \"gone-{n}\"\n");
            bench.apply(&format!("{CAMERA}{more}")).await;
        }
        let removed = Instant::now();
        bench.apply(CAMERA).await;
        bench.cameras.forget(removed + Duration::from_secs(590));
        assert!(lines(&bench) > 300, "{}", lines(&bench));
        // Of one that is back all is remembered.
        bench
            .apply(&format!("{CAMERA}[[cameras]]\ntwin_id = \"gone-1\"\n"))
            .await;
        let later = Instant::now() + Duration::from_secs(601);
        bench.cameras.forget(later);
        let metrics = Arc::clone(&bench.cameras.context.metrics);
        let known = |twin: &str| {
            metrics
                .known_stream(&StreamId::new(twin, "default"))
                .is_some()
        };
        assert_eq!(
            [
                known("a"),
                known("gone-0"),
                known("gone-1"),
                known("gone-2")
            ],
            [true, false, true, false]
        );
        assert!(bench.cameras.context.publisher.remembered() <= 2);
        bench.cameras.shutdown().await;
    }

    #[tokio::test]
    async fn however_many_cameras_come_and_go_so_many_are_remembered() {
        let mut bench = Bench::new();
        bench.hub_returns();
        for round in 0..6 {
            bench.apply(&many_cameras(100, &round.to_string())).await;
        }
        bench.removed(500).await;
        // The sink has them, and the publisher knows it as soon as its task goes on.
        tokio::task::yield_now().await;
        bench.cameras.forget(Instant::now());
        let streams = bench.cameras.context.metrics.all_streams().len();
        assert!(streams <= 100 + 256, "{streams}");
        assert!(bench.cameras.context.publisher.remembered() <= 100 + 256);
        bench.cameras.shutdown().await;
    }

    #[tokio::test]
    async fn of_cameras_that_all_go_at_once_each_is_told_to_be_removed_though_the_hub_is_away() {
        let mut bench = Bench::new();
        bench.apply(&many_cameras(300, "x")).await;
        let removed = bench.apply("cameras = []\n").await;
        assert_eq!(removed.removed, 300);
        bench.cameras.forget(Instant::now());
        bench.hub_returns();
        assert_eq!(bench.removed(300).await.len(), 300);
        bench.cameras.shutdown().await;
    }

    #[tokio::test]
    async fn a_camera_that_is_too_slow_to_be_inferred_says_so_in_its_status() {
        let mut bench = Bench::new();
        bench.hub_returns();
        bench.apply(CAMERA).await;
        let status = Arc::clone(&bench.cameras.running.values().next().unwrap().status);
        let context = &bench.cameras.context;
        let changed = Arc::clone(&context.changed);
        let tell_slow = slowness_handler(Arc::clone(&status), Arc::clone(&changed));
        let mut state = *bench.identity("a").1.borrow();
        state.state = CameraState::Receiving;
        status.set_state(state);
        for slow in [true, true, false] {
            tell_slow(slow);
        }
        let mut reasons = Vec::new();
        while reasons.len() < 3 {
            let event = bench.events.recv().await.unwrap();
            if event["state"] == "receiving" {
                reasons.push(event["reason"].clone());
            }
        }
        assert_eq!(reasons, [Value::Null, SLOW_REASON.into(), Value::Null]);
        status.set_slow(true);
        assert_eq!(status.reason(&state).as_deref(), Some(SLOW_REASON));
        state.state = CameraState::Stalled;
        assert_eq!(status.reason(&state), state.reason.map(str::to_owned));
        bench.cameras.shutdown().await;
    }

    #[tokio::test]
    async fn a_hub_that_takes_nothing_makes_no_memory_grow() {
        let mut bench = Bench::new();
        for round in 0..3 {
            bench.apply(&many_cameras(600, &round.to_string())).await;
        }
        bench.cameras.forget(Instant::now());
        let streams = bench.cameras.context.metrics.all_streams().len();
        assert!(streams <= 600 + 1024, "{streams}");
        assert!(bench.cameras.context.publisher.remembered() <= 600 + 1024);
        bench.cameras.shutdown().await;
    }

    fn many_cameras(count: usize, prefix: &str) -> String {
        (0..count)
            .map(|n| format!("[[cameras]]\ntwin_id = \"cam-{prefix}-{n}\"\n"))
            .collect()
    }

    #[tokio::test]
    async fn what_needs_a_connection_opens_the_camera_again_and_touches_no_other() {
        let mut bench = Bench::new();
        let other = "[[cameras]]\ntwin_id = \"b\"\n";
        bench.apply(&format!("{other}{CAMERA}")).await;
        let (source_b, state_b) = bench.identity("b");
        for setting in [
            "connect = \"accept\"",
            "dialect = \"legacy\"",
            "allow_unsigned = true",
        ] {
            let (source, state) = bench.identity("a");
            let changes = bench.apply(&format!("{other}{CAMERA}{setting}\n")).await;
            let reopened = Changes {
                reopened: 1,
                ..Changes::default()
            };
            assert_eq!(changes, reopened, "{setting}");
            let (source_now, state_now) = bench.identity("a");
            assert_ne!(source, source_now, "{setting}");
            assert!(!state.same_channel(&state_now), "{setting}");
        }
        let removed = Changes {
            removed: 1,
            ..Changes::default()
        };
        assert_eq!(bench.apply(other).await, removed);
        let (source_now, state_now) = bench.identity("b");
        assert_eq!(source_b, source_now);
        assert!(state_b.same_channel(&state_now));
        bench.cameras.shutdown().await;
    }
}
