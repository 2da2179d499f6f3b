//! `MediaStream`: video of a camera twin, received. Opening one starts a task that negotiates, keeps
//! the connection and begins anew when it breaks, and a decode thread that gives frames. The task
//! alone touches the peer connection; frames go from the decode thread straight to the handler.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::keyframes::KeyframeBudget;
use super::life::{Life, StreamState};
use crate::config::Dialect;
use crate::config::StreamId;
use crate::decode::frame::Frame;
use crate::decode::worker::{Arrival, ArrivalQueue, DecodeConfig, DecodeWorker};
use crate::hub::client::HubClient;
use crate::realtime::describe::Content;
use crate::realtime::ice::IceSettings;
use crate::realtime::link::{Link, LinkEvent, LinkOptions, Wake as LinkWake};
use crate::realtime::negotiation::{Attempt, EndReason, Progress, Role};
use crate::realtime::signal::ChannelKind;
use crate::realtime::tee::{Inbound, TeeSink};
use crate::telemetry::metrics::{Metrics, StreamMetrics};

/// While nothing comes for this long, the peer is asked whether it has said goodbye.
const SILENCE: Duration = Duration::from_secs(1);

/// What to subscribe to, and how.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// The camera twin and the stream's name.
    pub id: StreamId,
    /// Whether we dial the camera or it dials us.
    pub role: Role,
    /// The camera's client.
    pub dialect: Dialect,
    /// As responder: take offers that are signed with our own twin too.
    pub allow_unsigned: bool,
    /// How connections find their way.
    pub ice: IceSettings,
    /// How frames are decoded.
    pub decode: DecodeConfig,
}

impl StreamOptions {
    fn link(&self) -> LinkOptions {
        LinkOptions {
            kind: ChannelKind::Media,
            name: Arc::clone(&self.id.stream),
            target: Arc::clone(&self.id.twin_id),
            own: None,
            role: self.role,
            dialect: self.dialect,
            allow_unsigned: self.allow_unsigned,
            ice: self.ice.clone(),
            verbose: false,
        }
    }
}

/// What all streams of a node share.
#[derive(Debug, Clone)]
pub struct StreamContext {
    /// The hub.
    pub hub: HubClient,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// The limit of keyframe requests.
    pub keyframes: Arc<KeyframeBudget>,
}

/// Takes frames, on the decode thread: must not wait.
pub type FrameHandler = Box<dyn FnMut(Frame) + Send>;

/// Takes every change of a stream's state, the first state too, on the stream's task: must not wait.
pub type StateHandler = Box<dyn FnMut(StreamState) + Send>;

/// A received stream. [`close`](Self::close) ends it; dropping it does so in the background.
pub struct MediaStream {
    id: StreamId,
    state: watch::Receiver<StreamState>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl MediaStream {
    /// Subscribes to a camera's stream, for as long as the handle lives. Needs a tokio runtime.
    pub fn open(
        context: StreamContext,
        options: StreamOptions,
        mut on_frame: FrameHandler,
        on_state: StateHandler,
    ) -> Self {
        let id = options.id.clone();
        let life = Life::new(Instant::now(), options.role);
        let (state_sender, state) = watch::channel(life.state());
        let (stop, stopped) = oneshot::channel();
        let seen = Arc::new(Seen::new());
        let (keyframe_wanted, keyframe_requests) = mpsc::channel(1);
        let queue = Arc::new(ArrivalQueue::default());
        let worker = {
            let seen = Arc::clone(&seen);
            DecodeWorker::spawn(
                options.decode.clone(),
                Arc::clone(&queue),
                Box::new(move |frame| {
                    seen.frame();
                    on_frame(frame);
                }),
                // A request that waits for its turn covers a second one.
                Box::new(move |_reason| {
                    let _ = keyframe_wanted.try_send(());
                }),
            )
        };
        let span = tracing::info_span!("camera", twin = %id.twin_id, stream = %id.stream);
        let current_attempt = Arc::new(AtomicU32::new(0));
        let link = {
            let (queue, seen, current) = (
                Arc::clone(&queue),
                Arc::clone(&seen),
                Arc::clone(&current_attempt),
            );
            let content = move |attempt| {
                Content::Video(sink(
                    attempt,
                    Arc::clone(&queue),
                    Arc::clone(&seen),
                    Arc::clone(&current),
                ))
            };
            Link::new(
                context.hub.clone(),
                options.link(),
                current_attempt,
                Box::new(content),
            )
        };
        let driver = Driver {
            stream_metrics: context.metrics.stream(&id),
            link,
            life,
            keyframes: context.keyframes,
            on_state,
            announced: None,
            state: state_sender,
            seen,
            queue,
            keyframe_at: None,
        };
        let task = tokio::spawn(
            driver
                .run(worker, keyframe_requests, stopped)
                .instrument(span),
        );
        Self {
            id,
            state,
            stop: Some(stop),
            task,
        }
    }

    /// The camera twin and the stream's name.
    pub fn id(&self) -> &StreamId {
        &self.id
    }

    /// The stream's state, and every change of it.
    pub fn state(&self) -> watch::Receiver<StreamState> {
        self.state.clone()
    }

    /// True while frames come.
    pub fn is_receiving_frames(&self) -> bool {
        self.state.borrow().state == crate::telemetry::ledger::CameraState::Receiving
    }

    /// Closes the connection, ends decoding and waits for both. No frame comes after it.
    pub async fn close(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Err(error) = (&mut self.task).await
            && error.is_panic()
        {
            tracing::error!(camera = %self.id, "a stream's task panicked: this is a bug in Twinsight");
        }
    }
}

impl fmt::Debug for MediaStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaStream")
            .field("id", &self.id)
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}

/// When frames and packets were last seen, told by the threads that see them.
#[derive(Debug)]
struct Seen {
    epoch: Instant,
    frame_ms: AtomicU64,
    packet_ms: AtomicU64,
    awaits_frame: std::sync::atomic::AtomicBool,
    first_frame: Notify,
}

impl Seen {
    fn new() -> Self {
        Self {
            epoch: Instant::now(),
            frame_ms: AtomicU64::new(0),
            packet_ms: AtomicU64::new(0),
            awaits_frame: std::sync::atomic::AtomicBool::new(true),
            first_frame: Notify::new(),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn frame(&self) {
        self.frame_ms.store(self.now_ms(), Ordering::Release);
        if self.awaits_frame.swap(false, Ordering::AcqRel) {
            self.first_frame.notify_one();
        }
    }

    fn packet(&self) {
        self.packet_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn last_frame(&self) -> Option<Instant> {
        match self.frame_ms.load(Ordering::Acquire) {
            0 => None,
            ms => Some(self.epoch + Duration::from_millis(ms)),
        }
    }

    fn silent_for(&self) -> Duration {
        Duration::from_millis(
            self.now_ms()
                .saturating_sub(self.packet_ms.load(Ordering::Relaxed)),
        )
    }
}

/// Lets the packets of one attempt into the decode queue.
fn sink(
    attempt: Attempt,
    queue: Arc<ArrivalQueue>,
    seen: Arc<Seen>,
    current: Arc<AtomicU32>,
) -> TeeSink {
    Arc::new(move |inbound| {
        if current.load(Ordering::Acquire) != attempt.0 {
            return;
        }
        let arrival = match inbound {
            Inbound::Rtp(packet) => Arrival::Rtp(packet),
            Inbound::SenderReport {
                ntp,
                rtp_timestamp,
                arrived_at,
            } => Arrival::SenderReport {
                ntp,
                rtp_timestamp,
                arrived_at,
            },
            Inbound::KeyframeRequest => return,
        };
        seen.packet();
        // A full queue counts what it drops.
        queue.push(arrival);
    })
}

/// The task's state.
struct Driver {
    link: Link,
    stream_metrics: Arc<StreamMetrics>,
    life: Life,
    keyframes: Arc<KeyframeBudget>,
    state: watch::Sender<StreamState>,
    on_state: StateHandler,
    /// The state that was told last.
    announced: Option<StreamState>,
    seen: Arc<Seen>,
    queue: Arc<ArrivalQueue>,
    /// When the keyframe request that waits for its turn goes out.
    keyframe_at: Option<Instant>,
}

/// What woke the task.
enum Wake {
    Link(LinkWake),
    KeyframeWanted,
    FirstFrame,
    Timer,
}

impl Driver {
    /// Until it is told to stop, whatever it waits for then.
    async fn run(
        mut self,
        worker: DecodeWorker,
        keyframe_requests: mpsc::Receiver<()>,
        stopped: oneshot::Receiver<()>,
    ) {
        tokio::select! {
            _ = stopped => {}
            () = self.drive(keyframe_requests) => {}
        }
        self.stop(worker).await;
    }

    async fn drive(&mut self, mut keyframe_requests: mpsc::Receiver<()>) {
        self.note_state();
        loop {
            let deadline = self.deadline();
            let seen = Arc::clone(&self.seen);
            let wake = tokio::select! {
                wake = self.link.wait() => Wake::Link(wake),
                Some(()) = keyframe_requests.recv() => Wake::KeyframeWanted,
                () = seen.first_frame.notified() => Wake::FirstFrame,
                () = sleep_until(deadline) => Wake::Timer,
            };
            match wake {
                Wake::Link(wake) => {
                    if !self.link.take(wake).await {
                        return;
                    }
                }
                Wake::KeyframeWanted => self.plan_keyframe(),
                Wake::FirstFrame | Wake::Timer => {}
            }
            self.follow_link().await;
            self.timers().await;
            self.follow_link().await;
        }
    }

    async fn follow_link(&mut self) {
        while let Some(event) = self.link.poll().await {
            let now = Instant::now();
            match event {
                LinkEvent::Hub { joined } => self.life.hub(now, joined),
                LinkEvent::Progress(progress) => {
                    if let Progress::Attempting(attempt) = progress {
                        self.seen.awaits_frame.store(true, Ordering::Release);
                        if attempt.0 > 1 {
                            self.stream_metrics.camera_reconnects.inc();
                        }
                    }
                    self.life.progress(now, progress);
                    self.note_state();
                }
                // Nobody asked for one.
                LinkEvent::Channel(..) => {}
            }
        }
    }

    /// A request goes out when the node's budget allows it; one that waits stands for all.
    fn plan_keyframe(&mut self) {
        if self.keyframe_at.is_none() {
            let now = Instant::now();
            self.keyframe_at = Some(now + self.keyframes.reserve(now, rand::random()));
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let watching = self.link.is_connected().then(|| Instant::now() + SILENCE);
        [self.life.deadline(), self.keyframe_at, watching]
            .into_iter()
            .flatten()
            .min()
    }

    async fn timers(&mut self) {
        let now = Instant::now();
        if let Some(at) = self.seen.last_frame()
            && self.link.is_connected()
            && !self.seen.awaits_frame.load(Ordering::Acquire)
        {
            self.life.frame(at);
        }
        if self.keyframe_at.is_some_and(|at| at <= now) {
            self.keyframe_at = None;
            if let Some(peer) = self.link.peer()
                && peer.request_keyframe().await
            {
                self.stream_metrics.keyframe_requests.inc();
            }
        }
        if self.link.is_connected()
            && self.seen.silent_for() > SILENCE
            && let Some(peer) = self.link.peer()
            && peer.closed_by_peer().await
        {
            self.link.restart(EndReason::Closed);
        }
        if let Some(reason) = self.life.handle_timeout(now) {
            self.note_state();
            self.link.restart(reason);
        }
        self.note_state();
    }

    /// Every change is one line, one change of the metric and one call of the handler.
    fn note_state(&mut self) {
        let state = self.life.state();
        if self.announced == Some(state) {
            return;
        }
        self.announced = Some(state);
        self.stream_metrics.set_state(state.state);
        self.state.send_replace(state);
        tracing::info!(state = %state.state, attempt = state.attempt, reason = state.reason, "the camera's state changed");
        (self.on_state)(state);
    }

    async fn stop(mut self, worker: DecodeWorker) {
        self.link.close().await;
        self.queue.close();
        // Joining may take as long as one decode: not on a thread of the runtime.
        let _ = tokio::task::spawn_blocking(move || worker.stop()).await;
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
