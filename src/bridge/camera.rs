//! One bridged camera: its access units come in from a source, and go to the viewers of its twin. A task of its own keeps the source
//! and the twin for as long as the camera is configured; whatever goes wrong with one of them, or in that task, ends no other camera.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument as _;

use super::hub::{BridgeHub, peripheral};
use super::source::{Source, SourceEvent, SourceHandler, SourceState, UnitLoss, source_track};
use super::status::{BridgeStatus, StatusMachine, TwinTrouble};
use crate::config::{CameraConfig, Connect, SourceConfig};
use crate::telemetry::health::panic_message;
use crate::telemetry::metrics::{BridgeMetrics, Metrics};
use twinsight_client::backoff::Backoff;
use twinsight_client::hub::{HubClient, HubError, HubStatus, Instance};
use twinsight_client::media::{
    AcceptStreamsOptions, LocalTrack, MediaError, MediaStream, MediaStreamAcceptor,
    MediaStreamOptions,
};
use twinsight_client::rate_limit::{RATE_LIMIT, RateLimit};
use twinsight_client::realtime::ice::IceSettings;
use twinsight_client::realtime::names::shortened;
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::CameraState;

/// So many viewers may look at a camera at once.
const MAX_VIEWERS: usize = 64;

/// How often the time is looked at, and how many viewers there are.
const TICK: Duration = Duration::from_millis(500);

/// The name of a stream that was given none.
const DEFAULT_STREAM: &str = "default";

/// The camera's twin is told of its state at most this often.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Opens a source, as [`Source::open`] does. Tests give another one, which needs no camera.
pub type OpenSource = Arc<dyn Fn(&str, SourceConfig, SourceHandler) -> Source + Send + Sync>;

/// What all bridges of a program share.
pub struct BridgeContext {
    /// The hub.
    pub hub: BridgeHub,
    /// How connections with viewers find their way.
    pub ice: IceSettings,
    /// Where units and states are counted.
    pub metrics: Arc<Metrics>,
    /// How sources are opened.
    pub open: OpenSource,
}

impl std::fmt::Debug for BridgeContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BridgeContext").finish_non_exhaustive()
    }
}

/// A bridged camera that runs. Dropping it ends it in the background.
#[derive(Debug)]
pub(super) struct BridgedCamera {
    status: watch::Receiver<BridgeStatus>,
    listens: Arc<Notify>,
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl BridgedCamera {
    /// Starts to bridge a camera from its source.
    pub(super) fn open(
        context: &Arc<BridgeContext>,
        config: CameraConfig,
        source: SourceConfig,
    ) -> Self {
        let now = Instant::now();
        let machine = StatusMachine::new(now);
        let (told, status) = watch::channel(machine.status().clone());
        let reasons: Vec<_> = UnitLoss::ALL.iter().map(|loss| loss.as_str()).collect();
        let metrics = context.metrics.bridge(&config.id, &reasons);
        metrics.set_state(CameraState::Connecting);
        let stop = CancellationToken::new();
        let span = tracing::info_span!("bridge", camera = %config.id);
        let listens = Arc::<Notify>::default();
        let bridge = Bridge {
            context: Arc::clone(context),
            shared: Arc::new(Shared {
                machine: Mutex::new(machine),
                told,
                metrics,
                stalls: RateLimit::new(RATE_LIMIT),
            }),
            config,
            source,
            listens: Arc::clone(&listens),
            stop: stop.clone(),
        };
        Self {
            status,
            listens,
            stop: stop.drop_guard(),
            task: tokio::spawn(bridge.run().instrument(span)),
        }
    }

    /// Where it stands now, and each change of it.
    pub(super) fn status(&self) -> &watch::Receiver<BridgeStatus> {
        &self.status
    }

    /// It is notified whenever the camera's twin begins to listen to whoever dials it.
    pub(super) fn listens(&self) -> &Arc<Notify> {
        &self.listens
    }

    /// Ends it, and waits until it has let go of its source and its viewers.
    pub(super) async fn close(self) {
        drop(self.stop);
        // The task catches its panics.
        let _ = self.task.await;
    }
}

/// What the tasks of one bridge share.
#[derive(Debug)]
struct Shared {
    machine: Mutex<StatusMachine>,
    told: watch::Sender<BridgeStatus>,
    metrics: Arc<BridgeMetrics>,
    stalls: RateLimit<()>,
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut StatusMachine, Instant) -> Option<BridgeStatus>) {
        // Under the lock, so that the status that is told last is the newest.
        let mut machine = self.machine.lock();
        let before = machine.status().state;
        let Some(status) = change(&mut machine, Instant::now()) else {
            return;
        };
        self.metrics.set_state(status.state);
        if status.state != before {
            self.log(&status);
        }
        self.told.send_replace(status);
    }

    fn log(&self, status: &BridgeStatus) {
        match status.state {
            CameraState::Receiving => {
                let facts = status.facts.as_ref();
                let size = facts.and_then(|facts| facts.size);
                let size = size.map(|size| format!("{}x{}", size.width_px, size.height_px));
                tracing::info!(
                    size,
                    fps = facts.and_then(|facts| facts.fps),
                    "the camera's pictures come"
                );
            }
            CameraState::Stalled => {
                if let Some(suppressed) = self.stalls.allow((), Instant::now()) {
                    tracing::warn!(
                        suppressed,
                        "a bridged camera is connected and sends no pictures"
                    );
                }
            }
            // The source tells the log why, with each attempt.
            CameraState::Connecting
            | CameraState::Unreachable
            | CameraState::Rejected
            | CameraState::Removed => {}
        }
    }
}

/// How serving a camera ended.
enum Ended {
    /// It was told to stop.
    Stopped,
    /// The source's task is gone, which only a panic can cause.
    SourceGone,
}

struct Bridge {
    context: Arc<BridgeContext>,
    shared: Arc<Shared>,
    config: CameraConfig,
    source: SourceConfig,
    listens: Arc<Notify>,
    stop: CancellationToken,
}

impl Bridge {
    /// Serves the camera until it is told to stop, and begins anew after a panic.
    async fn run(self) {
        let mut backoff = Backoff::default();
        loop {
            let served = AssertUnwindSafe(self.serve()).catch_unwind().await;
            let message = match &served {
                Ok(Ended::Stopped) => return,
                Ok(Ended::SourceGone) => "see the log of its source",
                Err(panic) => panic_message(panic.as_ref()),
            };
            self.shared.metrics.restarts.inc();
            tracing::error!(
                message,
                "the bridge of a camera panicked and begins anew: this is a bug, please report it with the camera's model"
            );
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(backoff.next_delay(rand::random())) => {}
            }
        }
    }

    async fn serve(&self) -> Ended {
        let track = source_track();
        let handler = self.handler(&track);
        let name = self.config.id.to_string();
        let mut source = (self.context.open)(&name, self.source.clone(), handler);
        let keyframes = source.keyframes();
        let ended = tokio::select! {
            biased;
            () = self.keep_twin(&track) => Ended::Stopped,
            () = self.watch(&track) => Ended::Stopped,
            () = keyframes.of_viewers(&track) => Ended::Stopped,
            () = source.ended() => Ended::SourceGone,
        };
        source.close().await;
        self.shared.metrics.viewers.set(0);
        ended
    }

    /// Takes what the source tells. It runs on the source's task.
    fn handler(&self, track: &LocalTrack) -> SourceHandler {
        let (track, shared) = (track.clone(), Arc::clone(&self.shared));
        let mut was_asked = false;
        Box::new(move |event| {
            event.send_to(&track);
            match event {
                SourceEvent::Unit(_) => {
                    shared.metrics.units_received.inc();
                    shared.change(StatusMachine::unit);
                }
                SourceEvent::Dropped(reason, count) => {
                    shared.metrics.units_dropped(reason.as_str(), count);
                }
                SourceEvent::State(state) => {
                    if matches!(state, SourceState::Connecting { .. })
                        && std::mem::replace(&mut was_asked, true)
                    {
                        shared.metrics.reconnects.inc();
                    }
                    shared.change(|machine, now| machine.source(state, now));
                }
            }
        })
    }

    /// Looks at the time and at the viewers until the bridge stops.
    async fn watch(&self, track: &LocalTrack) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => std::future::pending().await,
                _ = tick.tick() => {}
            }
            let viewers = i64::try_from(track.viewers()).unwrap_or(i64::MAX);
            self.shared.metrics.viewers.set(viewers);
            self.shared.change(StatusMachine::look);
        }
    }

    /// Is the camera's twin for whoever wants its pictures, until the bridge stops.
    async fn keep_twin(&self, track: &LocalTrack) {
        let mut backoff = Backoff::default();
        loop {
            let trouble = self.be_twin(track, &mut backoff).await;
            if self.stop.is_cancelled() {
                return;
            }
            let is_lasting = trouble.is_lasting;
            tracing::warn!(reason = %trouble.reason, "a camera is not to be seen as its twin");
            self.shared
                .change(|machine, now| machine.twin(Some(trouble), now));
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(backoff.next_delay(rand::random())), if !is_lasting => {}
            }
        }
    }

    /// Joins the hub and serves the camera's viewers for as long as that goes well. When the bridge stops, all of them are told.
    async fn be_twin(&self, track: &LocalTrack, backoff: &mut Backoff) -> TwinTrouble {
        let hub = self.context.hub.client(&self.config.id.twin_id);
        let instance = tokio::select! {
            () = self.stop.cancelled() => return stopping(),
            instance = self.instance(&hub) => instance,
        };
        let instance = match instance {
            Ok(instance) => instance,
            Err(trouble) => return trouble,
        };
        let (lost_sender, lost) = tokio::sync::oneshot::channel();
        instance.on_ownership_lost(move |loss| {
            let _ = lost_sender.send(loss.to_string());
        });
        let serving = match self.offer(&instance, track) {
            Ok(serving) => serving,
            Err(error) => return trouble(error.to_string(), false),
        };
        backoff.reset();
        let hint = self.hint(&instance);
        self.shared.change(|machine, now| machine.twin(hint, now));
        let trouble = tokio::select! {
            () = self.stop.cancelled() => stopping(),
            // Who is no peripheral cannot be taken over. The sender is gone then, and this branch is off.
            Ok(owner) = lost => trouble(
                format!(
                    "{owner} has the camera's twin now: let one bridge alone have this camera, and restart this one if it is to be this"
                ),
                true,
            ),
            () = self.report(&instance) => trouble("the hub's client was closed", false),
            never = self.tell_when_listening(&serving) => match never {},
            reason = refusal(&hub) => refused(&reason),
        };
        serving.close().await;
        trouble
    }

    /// Tells whoever dials the camera within this program when it can be dialled, so that no offer is made too early and waits for
    /// an answer that does not come.
    async fn tell_when_listening(&self, serving: &Serving) -> std::convert::Infallible {
        if let Serving::Accepting(acceptor) = serving {
            acceptor.listening().await;
            self.listens.notify_one();
        }
        std::future::pending().await
    }

    /// The twin to speak as, once the hub was joined.
    async fn instance(&self, hub: &HubClient) -> Result<Instance, TwinTrouble> {
        if self.context.hub.is_direct() && self.config.connect == Connect::Accept {
            return Err(trouble(
                "in direct mode a bridged camera is a peripheral, which is dialled and does not dial: set its `connect` to \"dial\"",
                true,
            ));
        }
        hub.joined().await.map_err(|error| match error {
            HubError::Refused { reason } => refused(&reason),
            error => trouble(error.to_string(), false),
        })?;
        if !self.context.hub.is_direct() {
            return Ok(hub.instance());
        }
        let device_id = self.context.hub.device_id();
        peripheral(hub, device_id, &self.config, &self.source)
            .await
            .map_err(|error| trouble(error.to_string(), false))
    }

    /// What the operator has to know of a twin that works, and that nobody finds by the configured id.
    fn hint(&self, instance: &Instance) -> Option<TwinTrouble> {
        let twin_id = instance.twin_id();
        if !self.context.hub.is_direct() || *twin_id == *self.config.id.twin_id {
            return None;
        }
        tracing::warn!(
            twin = twin_id,
            "the hub has another id for the peripheral twin of a camera than is configured: write this one as its `twin_id`"
        );
        let reason = format!(
            "its peripheral twin has the id {}: write that as the camera's `twin_id`",
            shortened(&twin_id)
        );
        Some(trouble(reason, false))
    }

    /// Offers the pictures: to whoever dials the camera, or to the node that the camera dials.
    fn offer(&self, instance: &Instance, track: &LocalTrack) -> Result<Serving, MediaError> {
        let options = MediaStreamOptions::sending([track.clone()])
            .named(self.config.id.stream.as_ref())
            .with_dialect(self.config.dialect)
            .with_ice(self.context.ice.clone());
        Ok(match self.config.connect {
            Connect::Dial => {
                let mut options = AcceptStreamsOptions::from(options);
                options.max_peers = MAX_VIEWERS;
                let nothing_more = |_| std::future::ready(());
                Serving::Accepting(instance.accept_media_streams(options, nothing_more)?)
            }
            Connect::Accept => {
                let node = self.context.hub.node();
                Serving::Dialling(instance.open_media_stream(node, options)?)
            }
        })
    }

    /// Keeps the state in the reported properties of the camera's twin, until the hub's client is closed.
    async fn report(&self, instance: &Instance) {
        let mut status = self.shared.told.subscribe();
        let mut hub = instance.client().status();
        let source = match &self.source {
            SourceConfig::Rtsp(rtsp) => rtsp.url.to_string(),
            SourceConfig::Device(path) => path.display().to_string(),
        };
        let mut reported: Option<Map<String, Value>> = None;
        loop {
            let properties = properties(&self.config.id, &status.borrow_and_update(), &source);
            let is_joined = matches!(*hub.borrow_and_update(), HubStatus::Joined { .. });
            let mut is_due = is_joined && reported.as_ref() != Some(&properties);
            if is_due {
                match instance.update_reported(properties.clone()).await {
                    Ok(_) => {
                        reported = Some(properties);
                        is_due = false;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the state of a camera was not reported");
                    }
                }
                tokio::time::sleep(REPORT_EVERY).await;
            }
            if is_due {
                continue;
            }
            tokio::select! {
                // The sender is in what this task holds.
                Ok(()) = status.changed() => {}
                changed = hub.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // The hub may have forgotten what it was told.
                    reported = None;
                }
            }
        }
    }
}

/// What serves a camera's viewers.
enum Serving {
    Accepting(MediaStreamAcceptor),
    Dialling(MediaStream),
}

impl Serving {
    async fn close(self) {
        match self {
            Self::Accepting(acceptor) => acceptor.close().await,
            Self::Dialling(stream) => stream.close().await,
        }
    }
}

/// Waits for the hub's refusal, which may come at any reconnect.
async fn refusal(hub: &HubClient) -> String {
    let mut status = hub.status();
    loop {
        if let HubStatus::Refused { reason } = &*status.borrow_and_update() {
            return reason.clone();
        }
        if status.changed().await.is_err() {
            // Whoever reports learns of this too.
            std::future::pending::<()>().await;
        }
    }
}

/// What ends the service of a bridge that stops. Nobody is told.
fn stopping() -> TwinTrouble {
    trouble("the bridge stops", false)
}

fn refused(reason: &str) -> TwinTrouble {
    trouble(
        format!(
            "the hub refuses this camera ({reason}): see that its `twin_id` is right, and DEVICE_ID and ACCESS_KEY or `hub.access_key_file`"
        ),
        false,
    )
}

fn trouble(reason: impl Into<Arc<str>>, is_lasting: bool) -> TwinTrouble {
    TwinTrouble {
        reason: reason.into(),
        is_lasting,
    }
}

/// What is reported of a stream. Each stream of a twin has a property of its own, since their bridges report by themselves.
fn properties(id: &StreamId, status: &BridgeStatus, source: &str) -> Map<String, Value> {
    let name = match &*id.stream {
        DEFAULT_STREAM => "bridge".to_owned(),
        stream => format!("bridge-{stream}"),
    };
    let property = json!({
        "state": status.state.as_str(),
        // This is null when all is well, so that a hub that merges reports forgets what was wrong.
        "reason": status.reason.as_deref(),
        "source": source,
    });
    Map::from_iter([(name, property)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_twin_report_beside_each_other() {
        let machine = StatusMachine::new(Instant::now());
        let names = ["default", "sub"].map(|stream| {
            let id = StreamId::new("yard", stream);
            let reported = properties(&id, machine.status(), "rtsp://cam/");
            let (name, property) = reported.into_iter().next().unwrap();
            assert_eq!(property["state"], "connecting");
            name
        });
        assert_eq!(names, ["bridge", "bridge-sub"]);
    }
}
