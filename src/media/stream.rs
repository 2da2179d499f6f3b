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

use super::describe::{describe, guarded, ice_servers};
use super::keyframes::KeyframeBudget;
use super::life::{Life, StreamState};
use super::senders::Senders;
use crate::config::Dialect;
use crate::config::StreamId;
use crate::decode::frame::Frame;
use crate::decode::worker::{Arrival, ArrivalQueue, DecodeConfig, DecodeWorker};
use crate::hub::client::{HubClient, HubStatus, MessageReceiver};
use crate::hub::message::TwinMessage;
use crate::realtime::negotiation::{Attempt, EndReason, Input, Negotiation, Output, Role};
use crate::realtime::peer::{IceSettings, Peer, PeerError, PeerEvent};
use crate::realtime::signal::{ChannelKind, Signal, SignalError, SignalNames};
use crate::realtime::tee::{Inbound, TeeSink};
use crate::telemetry::ledger::Malformed;
use crate::telemetry::logging::{RATE_LIMIT, RateLimit};
use crate::telemetry::metrics::{Metrics, StreamMetrics};

/// Signals of a stream that wait for its task. A peer sends a description and a dozen candidates.
const MAILBOX: usize = 64;

/// While nothing comes for this long, the peer is asked whether it has said goodbye.
const SILENCE: Duration = Duration::from_secs(1);

/// The legacy dialect waits this long for the camera's room.
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(3);

/// A connection's goodbye may take this long.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

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
        let driver = Driver {
            stream_metrics: context.metrics.stream(&id),
            negotiation: Negotiation::new(options.role),
            life,
            context,
            options,
            on_state,
            announced: None,
            subscribed: false,
            names: None,
            own_twin: String::new(),
            rendezvous: None,
            describing: None,
            state: state_sender,
            seen,
            queue,
            current_attempt: Arc::new(AtomicU32::new(0)),
            session: None,
            keyframe_at: None,
            warn: RateLimit::new(RATE_LIMIT),
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

/// The task's state.
struct Driver {
    context: StreamContext,
    options: StreamOptions,
    stream_metrics: Arc<StreamMetrics>,
    negotiation: Negotiation,
    life: Life,
    /// Known once the own twin is.
    names: Option<SignalNames>,
    own_twin: String,
    /// How an offer that was signed with our own twin is answered: into the room that it came from.
    rendezvous: Option<SignalNames>,
    /// The description in the making; a newer one ends it.
    describing: Option<JoinHandle<()>>,
    state: watch::Sender<StreamState>,
    on_state: StateHandler,
    /// The state that was told last.
    announced: Option<StreamState>,
    /// The camera's room was asked for.
    subscribed: bool,
    seen: Arc<Seen>,
    queue: Arc<ArrivalQueue>,
    /// Packets of any other attempt are not let in.
    current_attempt: Arc<AtomicU32>,
    session: Option<Session>,
    /// When the keyframe request that waits for its turn goes out.
    keyframe_at: Option<Instant>,
    warn: RateLimit<&'static str>,
}

/// The peer connection of the current attempt.
struct Session {
    attempt: Attempt,
    peer: Arc<Peer>,
    events: mpsc::Receiver<PeerEvent>,
}

/// A peer connection whose local description is ready, or why there is none.
type Described = (
    Attempt,
    Result<(Peer, mpsc::Receiver<PeerEvent>, String), PeerError>,
);

/// What woke the task.
enum Wake {
    Hub,
    Message(Option<TwinMessage>),
    Peer(Option<PeerEvent>),
    Described(Described),
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
        let mut hub = self.context.hub.status();
        let (described_sender, mut described) = mpsc::channel::<Described>(4);
        let mut mailbox: Option<MessageReceiver> = None;
        self.note_state();
        loop {
            let status = hub.borrow_and_update().clone();
            if let HubStatus::Joined { twin_id } = &status {
                if mailbox.is_none() {
                    mailbox = Some(self.open_mailbox(twin_id).await);
                    // Ready by the time that an attempt needs them.
                    let hub = self.context.hub.clone();
                    tokio::spawn(async move { hub.ice_servers().await });
                }
                self.life.hub(Instant::now(), true);
                self.negotiation.handle(Instant::now(), Input::HubJoined);
            } else {
                self.life.hub(Instant::now(), false);
                self.negotiation.handle(Instant::now(), Input::HubAway);
            }
            loop {
                self.execute(&described_sender).await;
                let deadline = self.deadline();
                let seen = Arc::clone(&self.seen);
                let wake = tokio::select! {
                    changed = hub.changed() => if changed.is_ok() { Wake::Hub } else { return },
                    message = receive(mailbox.as_mut()) => Wake::Message(message),
                    event = next_event(self.session.as_mut()) => Wake::Peer(event),
                    Some(result) = described.recv() => Wake::Described(result),
                    Some(()) = keyframe_requests.recv() => Wake::KeyframeWanted,
                    () = seen.first_frame.notified() => Wake::FirstFrame,
                    () = sleep_until(deadline) => Wake::Timer,
                };
                match wake {
                    Wake::Hub => break,
                    Wake::Message(Some(message)) => self.message(&message),
                    Wake::Message(None) => mailbox = None,
                    Wake::Peer(event) => self.peer_event(event),
                    Wake::Described(result) => self.described(result).await,
                    Wake::KeyframeWanted => self.plan_keyframe(),
                    Wake::FirstFrame | Wake::Timer => {}
                }
                self.timers().await;
            }
        }
    }

    /// Signals that came before are lost, so it is opened before the first offer.
    async fn open_mailbox(&mut self, own_twin: &str) -> MessageReceiver {
        let id = &self.options.id;
        let responder = match self.options.role {
            Role::Initiator => id.twin_id.as_ref(),
            Role::Responder => own_twin,
        };
        let names = SignalNames::new(
            ChannelKind::Media,
            self.options.dialect,
            &id.stream,
            own_twin,
            &id.twin_id,
            responder,
        );
        let filter = names.clone();
        let senders = match (self.options.dialect, self.options.role) {
            (Dialect::Legacy, _) => Senders::Anybody,
            (Dialect::Current, Role::Responder) => Senders::Camera {
                camera: id.twin_id.clone(),
                or_unsigned: self.options.allow_unsigned.then(|| own_twin.to_owned()),
            },
            (Dialect::Current, Role::Initiator) => Senders::Answering {
                camera: id.twin_id.clone(),
                peer_id: self.negotiation.peer_id().map(str::to_owned),
            },
        };
        self.names = Some(names);
        self.own_twin = own_twin.to_owned();
        let mailbox = self.context.hub.messages(MAILBOX, move |message| {
            senders.include(message) && filter.parse(&message.data).is_some()
        });
        if !self.subscribed {
            self.subscribed = true;
            let (hub, twin_id) = (self.context.hub.clone(), id.twin_id.clone());
            let subscribe = async move {
                if let Err(error) = hub.subscribe(&twin_id).await {
                    tracing::warn!(%error, "cannot listen to the camera's twin yet");
                }
            };
            let subscribing = tokio::spawn(subscribe.in_current_span());
            // Signals of the current dialect come to our own room; the legacy one needs the camera's.
            if self.options.dialect == Dialect::Legacy {
                let _ = tokio::time::timeout(SUBSCRIBE_LIMIT, subscribing).await;
            }
        }
        mailbox
    }

    fn message(&mut self, message: &TwinMessage) {
        let Some(names) = &self.names else { return };
        match names.parse(&message.data) {
            Some(Ok(envelope)) => {
                if matches!(envelope.signal, Signal::Offer { .. })
                    && self.options.role == Role::Responder
                {
                    let (stream, own) = (&self.options.id.stream, &self.own_twin);
                    let unsigned = message.source_twin_id == *own;
                    self.rendezvous = unsigned.then(|| {
                        SignalNames::new(
                            ChannelKind::Media,
                            self.options.dialect,
                            stream,
                            own,
                            own,
                            own,
                        )
                    });
                }
                self.negotiation
                    .handle(Instant::now(), Input::Signal(envelope));
            }
            Some(Err(error)) => {
                let kind = match error {
                    SignalError::Candidate => Malformed::Candidate,
                    SignalError::Description => Malformed::Sdp,
                    SignalError::Kind | SignalError::PeerId => Malformed::HubMessage,
                };
                self.malformed(kind, &error);
            }
            None => {}
        }
    }

    fn malformed(&self, kind: Malformed, error: &dyn fmt::Display) {
        self.context.metrics.malformed_input(kind);
        if let Some(suppressed) = self.warn.allow(kind.as_str(), Instant::now()) {
            tracing::warn!(%error, suppressed, "a signal of the camera cannot be used and was left out");
        }
    }

    fn peer_event(&mut self, event: Option<PeerEvent>) {
        let Some(attempt) = self.session.as_ref().map(|session| session.attempt) else {
            return;
        };
        let input = match event {
            Some(PeerEvent::Candidate(candidate)) => Input::LocalCandidate(attempt, candidate),
            Some(PeerEvent::Connected) => Input::Connected(attempt),
            Some(PeerEvent::Disconnected) => return,
            Some(PeerEvent::Ended) | None => Input::Ended(attempt, EndReason::Lost),
        };
        self.negotiation.handle(Instant::now(), input);
    }

    async fn described(&mut self, (attempt, result): Described) {
        let now = Instant::now();
        match result {
            Ok((peer, events, sdp)) => {
                if self.current_attempt.load(Ordering::Acquire) != attempt.0 {
                    // Replaced while it was being made.
                    return peer.close().await;
                }
                self.session = Some(Session {
                    attempt,
                    peer: Arc::new(peer),
                    events,
                });
                self.negotiation.handle(now, Input::Described(attempt, sdp));
            }
            Err(error) => {
                tracing::warn!(%error, "an attempt to connect failed");
                let reason = self.reason_of(&error);
                self.negotiation.handle(now, Input::Ended(attempt, reason));
            }
        }
    }

    fn reason_of(&self, error: &PeerError) -> EndReason {
        match error {
            PeerError::NoH264 => EndReason::Unusable,
            PeerError::Remote { .. } => {
                self.malformed(Malformed::Sdp, error);
                EndReason::Unusable
            }
            PeerError::Stack => EndReason::Unusable,
            PeerError::Local { .. } => EndReason::Local,
            PeerError::Bind(_) => EndReason::NoSocket,
        }
    }

    /// A request goes out when the node's budget allows it; one that waits stands for all.
    fn plan_keyframe(&mut self) {
        if self.keyframe_at.is_none() {
            let now = Instant::now();
            self.keyframe_at = Some(now + self.context.keyframes.reserve(now, rand::random()));
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let watching = self
            .negotiation
            .is_connected()
            .then(|| Instant::now() + SILENCE);
        [
            self.negotiation.deadline(),
            self.life.deadline(),
            self.keyframe_at,
            watching,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    async fn timers(&mut self) {
        let now = Instant::now();
        if let Some(at) = self.seen.last_frame()
            && self.negotiation.is_connected()
            && !self.seen.awaits_frame.load(Ordering::Acquire)
        {
            self.life.frame(at);
        }
        if self.keyframe_at.is_some_and(|at| at <= now) {
            self.keyframe_at = None;
            if let Some(session) = &self.session
                && session.peer.request_keyframe().await
            {
                self.stream_metrics.keyframe_requests.inc();
            }
        }
        if self.negotiation.is_connected()
            && self.seen.silent_for() > SILENCE
            && let Some(session) = &self.session
            && session.peer.closed_by_peer().await
        {
            self.negotiation
                .handle(now, Input::Ended(session.attempt, EndReason::Closed));
        }
        self.negotiation.handle_timeout(now);
        if let Some(reason) = self.life.handle_timeout(now) {
            self.note_state();
            self.negotiation.handle(now, Input::Restart(reason));
        }
        self.note_state();
    }

    async fn execute(&mut self, described: &mpsc::Sender<Described>) {
        while let Some(output) = self.negotiation.poll() {
            match output {
                Output::Offer(attempt) => self.describe(attempt, None, described),
                Output::Answer(attempt, offer) => self.describe(attempt, Some(offer), described),
                Output::AcceptAnswer(attempt, sdp) => {
                    let Some(session) = self.session_of(attempt) else {
                        continue;
                    };
                    let peer = Arc::clone(&session.peer);
                    if let Err(error) = guarded(async move { peer.accept_answer(sdp).await }).await
                    {
                        tracing::warn!(%error, "the camera's answer was not taken");
                        let reason = self.reason_of(&error);
                        self.negotiation
                            .handle(Instant::now(), Input::Ended(attempt, reason));
                    }
                }
                Output::AddCandidate(attempt, candidate) => {
                    let Some(session) = self.session_of(attempt) else {
                        continue;
                    };
                    let peer = Arc::clone(&session.peer);
                    if let Err(error) =
                        guarded(async move { peer.add_candidate(candidate).await }).await
                    {
                        self.malformed(Malformed::Candidate, &error);
                    }
                }
                Output::Close(attempt) => {
                    self.current_attempt.store(0, Ordering::Release);
                    if let Some(session) =
                        self.session.take_if(|session| session.attempt == attempt)
                    {
                        let _ = tokio::time::timeout(CLOSE_LIMIT, session.peer.close()).await;
                    }
                }
                Output::Send(signal, peer_id) => {
                    let Some(names) = self.rendezvous.as_ref().or(self.names.as_ref()) else {
                        continue;
                    };
                    let data = names.encode(&signal, peer_id.as_deref());
                    if let Err(error) = self.context.hub.send(names.room(), data).await {
                        tracing::debug!(%error, "a signal was not sent");
                    }
                }
                Output::Progress(progress) => {
                    if let crate::realtime::negotiation::Progress::Attempting(attempt) = progress
                        && attempt.0 > 1
                    {
                        self.stream_metrics.camera_reconnects.inc();
                    }
                    self.life.progress(Instant::now(), progress);
                    self.note_state();
                }
                Output::Refused(reason) => {
                    tracing::debug!(%reason, "a signal was refused");
                    self.context.metrics.signal_refused(reason);
                }
            }
        }
    }

    fn session_of(&self, attempt: Attempt) -> Option<&Session> {
        self.session
            .as_ref()
            .filter(|session| session.attempt == attempt)
    }

    /// Makes a peer connection and its description beside this task, which goes on with its signals.
    fn describe(
        &mut self,
        attempt: Attempt,
        offer: Option<String>,
        described: &mpsc::Sender<Described>,
    ) {
        self.current_attempt.store(attempt.0, Ordering::Release);
        self.seen.awaits_frame.store(true, Ordering::Release);
        let sink = self.sink(attempt);
        let with_stun = self.negotiation.with_stun();
        let (hub, ice, described) = (
            self.context.hub.clone(),
            self.options.ice.clone(),
            described.clone(),
        );
        // One at a time: a peer that sends offer after offer costs no more than one connection.
        let older = self.describing.take();
        if let Some(older) = &older {
            older.abort();
        }
        let work = async move {
            if let Some(older) = older {
                let _ = older.await;
            }
            let servers = ice_servers(hub, with_stun).await;
            let result = describe(&ice, &servers, &sink, offer).await;
            let _ = described.send((attempt, result)).await;
        };
        self.describing = Some(tokio::spawn(work.in_current_span()));
    }

    /// Lets the packets of one attempt into the decode queue.
    fn sink(&self, attempt: Attempt) -> TeeSink {
        let (queue, seen, current) = (
            Arc::clone(&self.queue),
            Arc::clone(&self.seen),
            Arc::clone(&self.current_attempt),
        );
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
        self.current_attempt.store(0, Ordering::Release);
        if let Some(describing) = &self.describing {
            describing.abort();
        }
        if self.subscribed {
            self.context.hub.unsubscribe(&self.options.id.twin_id).await;
        }
        if let Some(session) = self.session.take() {
            let _ = tokio::time::timeout(CLOSE_LIMIT, session.peer.close()).await;
        }
        self.queue.close();
        // Joining may take as long as one decode: not on a thread of the runtime.
        let _ = tokio::task::spawn_blocking(move || worker.stop()).await;
    }
}

async fn receive(mailbox: Option<&mut MessageReceiver>) -> Option<TwinMessage> {
    match mailbox {
        Some(mailbox) => mailbox.recv().await,
        None => std::future::pending().await,
    }
}

async fn next_event(session: Option<&mut Session>) -> Option<PeerEvent> {
    match session {
        Some(session) => session.events.recv().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
