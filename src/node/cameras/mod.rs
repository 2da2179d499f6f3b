//! The cameras of the node. What the configuration wants comes in, and the running cameras are made the same: the start from
//! nothing, additions, changes and removals are one code path. A camera that did not change is not touched. `frames` is where
//! a camera's frames go, `input` where they come from, `status` what is said of it.

mod catch_up;
mod frames;
mod input;
mod status;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use self::frames::frame_handler;
use self::input::{CameraInput, SourceOpener, source_handler};
pub(super) use self::status::{SharedName, StatusLine, StatusLines};
use self::status::{slowness_handler, status_handler};
use super::models::Catalog;
use super::removed::RemovedCameras;
use super::sink::track_events;
use crate::bridge::Bridges;
use crate::config::{CameraConfig, Connect, MotionMode};
use crate::detect::detector::DetectSettings;
use crate::detect::health::ModelHealth;
use crate::detect::still::CameraMotion;
use crate::detect::worker::{CameraScheduler, CameraWork};
use crate::http::api::CameraFacts;
use crate::publish::event::CameraStatus;
use crate::publish::publisher::Publisher;
use crate::schedule::motion::MotionRules;
use crate::schedule::scheduler::{SourceId, SourceSettings};
use crate::shard::{Duties, Duty, Share};
use crate::telemetry::ledger::FrameDrop;
use crate::telemetry::metrics::{ForgetOutcome, Metrics};
use crate::track::directory::TrackDirectory;
use crate::track::news::TrackEnd;
use crate::track::stage::StageSettings;
use crate::track::tracker::Tracker;
use twinsight_client::clock::SystemClock;
use twinsight_client::media::camera::{
    CameraStream, CameraStreamOptions, FrameHandler, StateHandler, StreamContext,
};
use twinsight_client::media::direct::{DirectStream, DirectStreamOptions};
use twinsight_client::media::worker::DecodeConfig;
use twinsight_client::rate_limit::{RATE_LIMIT, RateLimit};
use twinsight_client::realtime::ice::IceSettings;
use twinsight_client::realtime::negotiation::Role;
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::CameraState;
use twinsight_media::decode::cpu_pressure::CpuPressure;
use twinsight_media::decode::decoder::DecoderKind;

/// What every camera of the node uses.
#[derive(Debug, Clone)]
pub(super) struct CameraContext {
    /// The hub, and the budget of keyframe requests that all cameras share. Without a hub every camera has a source of its own.
    pub stream: Option<StreamContext>,
    /// Opens the source of a camera.
    pub open_source: SourceOpener,
    /// Takes the frames of all cameras.
    pub scheduler: Arc<CameraScheduler>,
    pub metrics: Arc<Metrics>,
    /// Takes the states of all cameras.
    pub publisher: Publisher,
    /// Follows what the cameras see.
    pub tracks: Arc<TrackDirectory>,
    pub ice: IceSettings,
    pub decoder: DecoderKind,
    /// Says whether decoding starves inference.
    pub cpu_pressure: Arc<CpuPressure>,
    /// Notified when any camera's state changes.
    pub changed: Arc<tokio::sync::Notify>,
    /// Says which of the cameras are this node's.
    pub share: Share,
}

/// The cameras that run.
#[derive(Debug)]
pub(super) struct Cameras {
    context: CameraContext,
    /// The bridges of those that are no twins by themselves. `None` for a node that bridges none.
    bridges: Option<Bridges>,
    running: BTreeMap<StreamId, RunningCamera>,
    /// The statuses of those.
    statuses: StatusLines,
    /// All cameras of the configuration that was applied last, and the models that it was applied with.
    configured: Option<(Catalog, Vec<CameraConfig>)>,
    removed: RemovedCameras,
    /// Limits how often a removal is logged, since a hub can make up cameras without end.
    removal_logs: RateLimit<()>,
}

#[derive(Debug)]
struct RunningCamera {
    config: CameraConfig,
    name: SharedName,
    source: SourceId,
    status: Arc<StatusLine>,
    input: CameraInput,
    /// Its motion gate, which begins anew with a new connection.
    motion: Arc<CameraMotion>,
}

/// How many camera streams a reconciliation touched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Streams that are new.
    pub added: usize,
    /// Streams that got a new connection, because their change needs one.
    pub reopened: usize,
    /// Streams that have other settings and kept their connection.
    pub changed: usize,
    /// Streams that are no longer configured.
    pub removed: usize,
}

/// Why a camera stream no longer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removal {
    /// The configuration does not name it any more.
    Unconfigured,
    /// Another node has it.
    Elsewhere,
}

/// A camera stream as the configuration wants it, checked and not yet running.
struct PlannedCamera {
    config: CameraConfig,
    work: Arc<CameraWork>,
    motion: Arc<CameraMotion>,
}

impl Cameras {
    pub(super) fn new(context: CameraContext) -> Self {
        let (share, changed) = (context.share.clone(), Arc::clone(&context.changed));
        Self {
            context,
            bridges: None,
            running: BTreeMap::new(),
            statuses: StatusLines::new(share, changed),
            configured: None,
            removed: RemovedCameras::default(),
            removal_logs: RateLimit::new(RATE_LIMIT),
        }
    }

    /// Makes twins by these bridges of the cameras that have a source.
    pub(super) fn with_bridges(mut self, bridges: Bridges) -> Self {
        self.bridges = Some(bridges);
        self
    }

    /// Takes in a configuration, and makes the running cameras those of it that are this node's. If one of them cannot be, none changes. Whoever calls this must
    /// let it finish: dropped halfway, it would leave connections that nobody waits for.
    ///
    /// # Errors
    /// When a camera names a model or class that is not there, or is to be met by a hub that is not there.
    pub(super) async fn apply(
        &mut self,
        models: &Catalog,
        configs: &[CameraConfig],
    ) -> Result<Changes> {
        for config in configs {
            // What is another node's now may be this one's at any time.
            self.check(models, config)?;
        }
        self.configured = Some((models.clone(), configs.to_vec()));
        let changes = self.reconcile().await?;
        let streams = configs.iter().map(|config| config.id.clone());
        self.context.share.set_cameras(streams);
        Ok(changes)
    }

    /// Makes the running cameras those of the configuration that are this node's. The same holds as for [`apply`](Self::apply).
    ///
    /// # Errors
    /// Those of [`apply`](Self::apply), which cannot happen to a configuration that was taken in.
    pub(super) async fn reconcile(&mut self) -> Result<Changes> {
        let Some((models, configured)) = self.configured.take() else {
            return Ok(Changes::default());
        };
        let duties = Arc::clone(&self.context.share.duties().borrow());
        let own = configured
            .iter()
            .filter(|config| self.is_own(config, &duties));
        let own: Vec<CameraConfig> = own.cloned().collect();
        let changes = self.make_running(&models, &own, &configured).await;
        self.configured = Some((models, configured));
        changes
    }

    /// Whether a camera is to run on this node.
    fn is_own(&self, config: &CameraConfig, duties: &Duties) -> bool {
        let twin_id = &config.id.twin_id;
        match duties.of(twin_id) {
            None => false,
            Some(Duty::Hold { .. }) => true,
            // Two nodes cannot be one twin: such a camera is handed over without being seen by both.
            Some(Duty::Warm) if self.context.stream.is_some() && config.source.is_some() => {
                self.context.share.inferred(&config.id);
                // Its own goes on while nobody else can have it.
                self.running.contains_key(&config.id) && self.context.share.held_last(twin_id)
            }
            Some(Duty::Warm) => true,
        }
    }

    async fn make_running(
        &mut self,
        models: &Catalog,
        configs: &[CameraConfig],
        configured: &[CameraConfig],
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
                self.statuses.remove(&id);
                let removed = !wanted.contains_key(&id);
                *if removed {
                    &mut changes.removed
                } else {
                    &mut changes.reopened
                } += 1;
                if removed {
                    self.removed.left(id, Instant::now());
                }
                closing.push((camera, removed));
            }
        }
        // Closing one takes up to a second, and closing all of them at once takes no longer.
        let is_configured = |id: &StreamId| configured.iter().any(|config| config.id == *id);
        let closing = closing.into_iter().map(|(camera, removed)| {
            let removal = match removed {
                false => None,
                true if is_configured(&camera.config.id) => Some(Removal::Elsewhere),
                true => Some(Removal::Unconfigured),
            };
            self.close(camera, removal)
        });
        futures_util::future::join_all(closing).await;
        // A camera is dialled when there is somebody to answer, and its bridge ends after the connection to it.
        if let Some(bridges) = &mut self.bridges {
            bridges.apply(configs).await;
        }
        for (id, wanted) in wanted {
            match self.running.get_mut(&id) {
                Some(camera) if camera.config == wanted.config => {}
                Some(camera) => {
                    let context = &self.context;
                    follow(context, &wanted);
                    context
                        .scheduler
                        .update(camera.source, source_settings(&wanted));
                    if camera.config.name != wanted.config.name {
                        camera.name.set(&wanted.work.name);
                        context.publisher.rename(&id, &wanted.work.name);
                    }
                    set_info(&wanted);
                    camera.config = wanted.config;
                    changes.changed += 1;
                }
                None => {
                    self.removed.returned(&id);
                    let camera = self.open(wanted);
                    self.statuses.add(&camera.status);
                    self.running.insert(id, camera);
                    changes.added += 1;
                    // With hundreds of cameras this would keep the thread from those that send.
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

    /// Forgets cameras that were removed long ago, with their series, the numbers of their events and their last states.
    pub(super) fn forget(&mut self, now: Instant) {
        let CameraContext {
            metrics, publisher, ..
        } = &self.context;
        for (id, age) in self.removed.due(now) {
            // The hub or a sink was not told yet that it was removed, because it is away or has many to take.
            if !RemovedCameras::is_over(age) && !self.removed.is_full() && publisher.is_due(&id) {
                continue;
            }
            publisher.let_go(&id);
            match metrics.forget(&id) {
                ForgetOutcome::Yes => {}
                // One of its frames is still in inference, or an event on its way.
                ForgetOutcome::InUse => continue,
                ForgetOutcome::Open(_) if !RemovedCameras::is_over(age) => continue,
                // A webhook may have an event in hand for as long as this.
                ForgetOutcome::Open(ledger)
                    if (ledger.sink_events_in_flight > 0 || ledger.track_events_in_flight > 0)
                        && !self.removed.is_full() =>
                {
                    continue;
                }
                ForgetOutcome::Open(ledger) => {
                    let [units, frames, events] = ledger.in_flight();
                    let track_events = ledger.track_events_in_flight;
                    tracing::error!(camera = %id, units, frames, events, track_events, "a camera's ledger does not balance: this is a bug in Twinsight");
                    metrics.forget_open(&id);
                }
            }
            publisher.forget(&id);
            self.removed.returned(&id);
        }
    }

    /// Says how every camera is.
    pub(super) fn facts(&self) -> Vec<CameraFacts> {
        let facts = |camera: &RunningCamera| CameraFacts {
            status: camera.status.read(&camera.input.state().borrow()),
            settings: Arc::new(camera.config.clone()),
            last_event_at: self.context.publisher.last_published(&camera.config.id),
            last_seen: self.context.publisher.last_seen(&camera.config.id),
        };
        self.running.values().map(facts).collect()
    }

    /// Publishes it when a camera's model leaves it blind, and when it sees again.
    pub(super) fn look_for_blind_ones(&self, models: &ModelHealth) {
        for camera in self.running.values() {
            let blind = models.blind(&camera.config.id, &camera.config.model);
            if camera.status.set_blind(blind) {
                self.context.changed.notify_one();
            }
        }
    }

    /// The statuses of the cameras that run.
    pub(super) fn statuses(&self) -> StatusLines {
        self.statuses.clone()
    }

    /// Publishes it when the bridge of a camera that has no frames knows why, and when it does no longer.
    pub(super) fn look_at_bridges(&self) {
        let Some(bridges) = &self.bridges else {
            return;
        };
        for (id, camera) in &self.running {
            if camera.status.set_bridge(bridges.trouble(id)) {
                self.context.changed.notify_one();
            }
        }
    }

    /// The cameras whose task has ended although they run, which only a panic can cause.
    pub(super) fn ended(&self) -> Vec<StreamId> {
        let gone = self
            .running
            .iter()
            .filter(|(_, camera)| camera.input.is_gone());
        gone.map(|(id, _)| id.clone()).collect()
    }

    /// Closes all connections and ends all decoding at the node's end. No frame comes after this.
    pub(super) async fn shutdown(&mut self) {
        let mut closing = tokio::task::JoinSet::new();
        for camera in std::mem::take(&mut self.running).into_values() {
            closing.spawn(camera.input.close());
        }
        closing.join_all().await;
        if let Some(bridges) = &mut self.bridges {
            bridges.shutdown().await;
        }
    }

    /// Whether a camera can run, on this node or another one with the same configuration.
    fn check(&self, models: &Catalog, config: &CameraConfig) -> Result<(usize, DetectSettings)> {
        ensure!(
            self.context.stream.is_some() || config.source.is_some(),
            "camera {} is to be met by a hub, and this node was started without one: restart the node",
            config.id
        );
        models.resolve(config)
    }

    fn resolve(&self, models: &Catalog, config: &CameraConfig) -> Result<PlannedCamera> {
        let (model, mut settings) = self.check(models, config)?;
        if config.track.enabled {
            settings.min_score = Tracker::lowest_score(config.min_score);
        }
        let running = self.running.get(&config.id);
        let motion = running
            .filter(|running| !must_reopen(&running.config, config))
            .map_or_else(Arc::default, |running| Arc::clone(&running.motion));
        let work = CameraWork {
            id: config.id.clone(),
            name: config.name.as_str().into(),
            model,
            settings,
            min_score: config.min_score,
            detections: config.detections,
            emit_empty: config.emit_empty,
            motion: match config.motion.mode {
                MotionMode::Off => None,
                MotionMode::Gate => {
                    Some(motion.work(MotionRules::new(config.motion, config.track)))
                }
            },
            metrics: self.context.metrics.stream(&config.id),
        };
        Ok(PlannedCamera {
            config: config.clone(),
            work: Arc::new(work),
            motion,
        })
    }

    fn open(&self, wanted: PlannedCamera) -> RunningCamera {
        let context = &self.context;
        follow(context, &wanted);
        let source = context.scheduler.add(source_settings(&wanted));
        set_info(&wanted);
        let PlannedCamera {
            config,
            work,
            motion,
        } = wanted;
        let name = SharedName::new(&work.name);
        let status = Arc::new(StatusLine::new(
            config.id.clone(),
            name.clone(),
            context.publisher.clone(),
        ));
        let metrics = Arc::clone(&work.metrics);
        let on_frame = frame_handler(
            Arc::clone(&context.scheduler),
            source,
            metrics,
            slowness_handler(Arc::clone(&status), Arc::clone(&context.changed)),
        );
        let mut tell_state = status_handler(Arc::clone(&status), Arc::clone(&context.changed));
        let (share, id) = (context.share.clone(), config.id.clone());
        let on_state: StateHandler = Box::new(move |state| {
            if state.state != CameraState::Receiving {
                share.lost_picture(&id);
            }
            tell_state(state);
        });
        RunningCamera {
            input: self.open_input(&config, on_frame, on_state),
            config,
            name,
            source,
            status,
            motion,
        }
    }

    fn open_input(
        &self,
        config: &CameraConfig,
        on_frame: FrameHandler,
        on_state: StateHandler,
    ) -> CameraInput {
        let context = &self.context;
        let id = config.id.clone();
        let decode = DecodeConfig {
            seed: seed(&id),
            cpu_pressure: Arc::clone(&context.cpu_pressure),
            ..DecodeConfig::new(
                context.metrics.stream_ledger(&id),
                Arc::new(SystemClock),
                context.decoder,
            )
        };
        let metrics = Some(context.metrics.stream_sink(&id));
        let Some(stream) = &context.stream else {
            let source = config.source.clone().expect(
                "every camera of a node without a hub has a source, because `resolve` has checked it",
            );
            let camera = id.to_string();
            let options = DirectStreamOptions {
                id,
                decode,
                metrics,
            };
            let (stream, units) = DirectStream::open(options, on_frame, on_state);
            let source = (context.open_source)(&camera, source, source_handler(units));
            return CameraInput::Direct { source, stream };
        };
        let bridges = self.bridges.as_ref();
        let camera_listens = bridges.and_then(|bridges| bridges.listens(&id));
        let options = CameraStreamOptions {
            id,
            role: match config.connect {
                Connect::Dial => Role::Initiator,
                Connect::Accept => Role::Responder,
            },
            dialect: config.dialect,
            allow_unsigned: config.allow_unsigned,
            codecs: config.codecs.clone(),
            ice: context.ice.clone(),
            decode,
            metrics,
            camera_listens,
        };
        CameraInput::Subscribed(CameraStream::open(
            stream.clone(),
            options,
            on_frame,
            on_state,
        ))
    }

    async fn close(&self, camera: RunningCamera, removal: Option<Removal>) {
        let RunningCamera {
            config,
            name,
            source,
            status: _,
            input,
            motion: _,
        } = camera;
        let attempt = input.state().borrow().attempt;
        input.close().await;
        self.context
            .scheduler
            .remove(source, FrameDrop::CameraRemoved);
        if let Some(removal) = removal {
            if removal == Removal::Unconfigured
                && let Some(suppressed) = self.removal_logs.allow((), Instant::now())
            {
                tracing::info!(camera = %config.id, suppressed, "the camera is no longer configured");
            }
            if let Some(tracks) = self.context.tracks.remove(&config.id) {
                let _order = tracks.in_order();
                let (name, news) = (name.get(), tracks.end(TrackEnd::CameraRemoved));
                let events = track_events(&config.id, &name, Instant::now(), news);
                self.context.publisher.publish_tracks(events);
            }
            self.context
                .metrics
                .stream(&config.id)
                .set_state(CameraState::Removed);
            let status = CameraStatus {
                id: config.id,
                name: config.name.into(),
                state: CameraState::Removed,
                since: Instant::now(),
                reason: None,
                attempt,
            };
            match removal {
                Removal::Unconfigured => self.context.publisher.set_status(status),
                Removal::Elsewhere => self.context.publisher.keep_status(status),
            }
        }
    }
}

/// True when a change needs a new connection. All other changes are about how frames are scheduled and judged.
fn must_reopen(old: &CameraConfig, new: &CameraConfig) -> bool {
    old.connect != new.connect
        || old.dialect != new.dialect
        || old.codecs != new.codecs
        || old.allow_unsigned != new.allow_unsigned
        || old.source != new.source
}

/// The least time between two frames of a camera that are inferred. A hub may set a rate so small that its inverse is too
/// long for a duration, so it is a day at most, which is as good as never.
pub(crate) fn min_interval(max_fps: f64) -> Duration {
    const LONGEST_S: f64 = 24.0 * 3600.0;
    if max_fps > 0.0 {
        Duration::from_secs_f64((1.0 / max_fps).min(LONGEST_S))
    } else {
        Duration::ZERO
    }
}

/// Follows what a camera stream sees as its settings say. Its tracks outlive its connections.
fn follow(context: &CameraContext, wanted: &PlannedCamera) {
    let PlannedCamera { config, work, .. } = wanted;
    let settings = StageSettings {
        track: config.track,
        scene: config.scene.clone(),
        min_score: config.min_score,
    };
    let tracks = context.tracks.open(&work.metrics, &work.name, &settings);
    let _order = tracks.in_order();
    let news = tracks.set(&work.name, settings);
    let events = track_events(&config.id, &work.name, Instant::now(), news);
    context.publisher.publish_tracks(events);
}

/// Tells the camera's metrics what it is called and which model looks at it.
fn set_info(wanted: &PlannedCamera) {
    let CameraConfig { name, model, .. } = &wanted.config;
    wanted.work.metrics.set_info(name, model);
}

fn source_settings(wanted: &PlannedCamera) -> SourceSettings<Arc<CameraWork>> {
    SourceSettings {
        min_interval: min_interval(wanted.config.max_fps),
        max_age: wanted.config.max_age,
        metrics: Arc::clone(&wanted.work.metrics),
        model: wanted.work.model,
        work: Arc::clone(&wanted.work),
    }
}

/// A seed that differs from camera to camera and is the same in every run.
fn seed(id: &StreamId) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
#[path = "cameras_tests.rs"]
mod tests;
