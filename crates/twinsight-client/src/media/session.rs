//! The task behind a stream: drives the link, watches whether media comes, begins anew when it breaks, and runs
//! the decode thread. The task alone touches the peer connection; frames go from the decode thread straight to
//! the stream's owner.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use super::camera::{FrameHandler, StateHandler};
use super::core::Core;
use super::local_track::Attachment;
use super::remote_track::MediaPacket;
use super::stream_state::{StreamState, StreamStateMachine};
use crate::backoff::Backoff;
use crate::media::worker::{
    Arrival, ArrivalQueue, DecodeConfig, DecodeParts, DecodeWorker, NoThread,
};
use crate::rate_limit::{RATE_LIMIT, RateLimit};
use crate::realtime::link::{Link, LinkEvent, Wake as LinkWake};
use crate::realtime::negotiation::{Attempt, EndReason, Progress, Role};
use crate::realtime::rtp_tap::{Inbound, RtpSink};
use crate::realtime::rtp_track::{TrackKind, TrackSender};
use crate::realtime::warnings::allowed;
use crate::stream_id::StreamId;
use crate::telemetry::{CameraState, ClientSink, PacketRefusal, StreamSink};
use twinsight_media::decode::gate::KeyframeReason;
use twinsight_media::decode::keyframes::KeyframeBudget;
use twinsight_media::ledger::ShedLevel;
use twinsight_media::ledger::StreamLedger;
use twinsight_media::rtp::RtpPacket;
use twinsight_media::rtp::sources::Sources;

/// While nothing comes for this long, the peer is asked whether it has said goodbye.
const SILENCE: Duration = Duration::from_secs(1);

/// The same change of a stream's state is said this often at most.
const CHANGE_LIMIT: Duration = Duration::from_secs(1);

/// A peer of which nothing is heard for this long, no report either, is gone.
const LIVENESS_LIMIT: Duration = Duration::from_secs(20);

/// How long a stream's task goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// Until it is stopped.
    Handles,
    /// As long as one connection, which has until then to come up.
    OneConnection(tokio::time::Instant),
}

/// What a stream's task is made of.
pub(super) struct Parts {
    pub(super) link: Link,
    pub(super) role: Role,
    /// Watches over the video that is to come; none if none is.
    pub(super) state_machine: Option<StreamStateMachine>,
    pub(super) router: Arc<InboundRouter>,
    pub(super) keyframes: Arc<KeyframeBudget>,
    pub(super) id: StreamId,
    pub(super) metrics: Option<Arc<dyn StreamSink>>,
    pub(super) decode: DecodeConfig,
    pub(super) on_frame: FrameHandler,
    pub(super) on_state: StateHandler,
    pub(super) lifetime: Lifetime,
}

/// Where the packets of a stream's connections go.
pub(super) struct InboundRouter {
    current_attempt: Arc<AtomicU32>,
    queue: Arc<ArrivalQueue>,
    /// Somebody wants frames.
    decodes: AtomicBool,
    seen: Arc<MediaActivity>,
    /// Of a user's stream: what its handles see.
    core: Option<Arc<Core>>,
    /// Which source of the connection's video is taken.
    sources: Mutex<OfAttempt>,
    /// Where packets that are not used are counted.
    metrics: Option<Arc<dyn ClientSink>>,
    warn: RateLimit<&'static str>,
    /// Of the stream's task, for what is said here.
    span: tracing::Span,
}

/// The sources of an attempt's connection.
#[derive(Default)]
struct OfAttempt {
    attempt: u32,
    sources: Sources,
}

impl InboundRouter {
    /// One for the packets of the attempt that counts.
    pub(super) fn new(
        current_attempt: Arc<AtomicU32>,
        core: Option<Arc<Core>>,
        metrics: Option<Arc<dyn ClientSink>>,
        span: tracing::Span,
    ) -> Self {
        Self {
            current_attempt,
            queue: Arc::default(),
            decodes: AtomicBool::new(false),
            seen: Arc::new(MediaActivity::new()),
            core,
            sources: Mutex::default(),
            metrics,
            warn: RateLimit::new(RATE_LIMIT),
            span,
        }
    }

    fn take(&self, attempt: Attempt, inbound: Inbound) {
        if self.current_attempt.load(Ordering::Acquire) != attempt.0 {
            return;
        }
        self.seen.packet();
        self.seen.heard.store(true, Ordering::Relaxed);
        match inbound {
            Inbound::Rtp(packet) => {
                if let Some(core) = &self.core {
                    let given = MediaPacket::of_video(&packet);
                    core.packet(attempt, TrackKind::Video, packet.ssrc, given);
                }
                self.take_video(attempt, packet);
            }
            Inbound::Audio(packet) => {
                if let Some(core) = &self.core {
                    let (ssrc, given) = (packet.ssrc, MediaPacket::of_audio(packet));
                    core.packet(attempt, TrackKind::Audio, ssrc, given);
                }
            }
            Inbound::SenderReport {
                ssrc,
                ntp,
                rtp_timestamp,
                arrived_at,
            } => {
                if self.sources_of(attempt, |sources| sources.main()) == Some(ssrc) {
                    self.push(Arrival::SenderReport {
                        ntp,
                        rtp_timestamp,
                        arrived_at,
                    });
                }
            }
            Inbound::KeyframeRequest => {
                if let Some(core) = &self.core {
                    core.keyframe_wanted();
                }
            }
            Inbound::Report => {}
            Inbound::Goodbye { ssrc } => self.sources_of(attempt, |sources| sources.goodbye(ssrc)),
            Inbound::Described {
                sources,
                further_videos,
            } => {
                self.sources_of(attempt, |known| known.declare(sources));
                if further_videos > 0 {
                    self.say("sections", |suppressed| {
                        tracing::warn!(
                            further_videos,
                            suppressed,
                            "the peer describes several video sections: the first that can be used is taken"
                        );
                    });
                }
            }
            Inbound::Refused(reason) => self.refuse(reason, 1),
        }
    }

    /// Takes the packet if it is of the source that is taken.
    fn take_video(&self, attempt: Attempt, packet: RtpPacket) {
        let taken = self.sources_of(attempt, |sources| {
            sources.take(packet, |packet| self.push(Arrival::Rtp(packet)))
        });
        if taken.changed {
            self.say("source", |suppressed| {
                tracing::info!(suppressed, "the video comes from another source (SSRC) now");
            });
        }
        self.refuse(PacketRefusal::OtherSource, taken.refused);
    }

    /// Counts packets that are not used, and says so.
    fn refuse(&self, reason: PacketRefusal, count: u64) {
        if count == 0 {
            return;
        }
        if let Some(metrics) = &self.metrics {
            metrics.rtp_packets_refused(reason, count);
        }
        self.say(reason.as_str(), |suppressed| {
            tracing::warn!(
                %reason,
                suppressed,
                "the peer sends packets that are not used here"
            );
        });
    }

    fn say(&self, what: &'static str, line: impl FnOnce(u64)) {
        if let Some(suppressed) = self.warn.allow(what, Instant::now()) {
            self.span.in_scope(|| line(suppressed));
        }
    }

    /// The source that is taken of an attempt's connection.
    fn main_source(&self, attempt: Attempt) -> Option<u32> {
        self.sources_of(attempt, |sources| sources.main())
    }

    /// An attempt has its own: SSRCs of another connection mean nothing.
    fn sources_of<T>(&self, attempt: Attempt, with: impl FnOnce(&mut Sources) -> T) -> T {
        let mut of = self.sources.lock();
        if of.attempt != attempt.0 {
            *of = OfAttempt {
                attempt: attempt.0,
                sources: Sources::default(),
            };
        }
        with(&mut of.sources)
    }

    /// Takes what is of the source that is taken: what others send makes no unit.
    fn push(&self, arrival: Arrival) {
        if matches!(arrival, Arrival::Rtp(_)) {
            self.seen.video();
        }
        if self.decodes.load(Ordering::Acquire) {
            // A full queue counts what it drops.
            self.queue.push(arrival);
        } else if matches!(arrival, Arrival::Rtp(_)) {
            // What would be decoded if anybody looked.
            self.seen.frame();
        }
    }
}

/// Lets the packets of one attempt into the router.
pub(super) fn sink(attempt: Attempt, router: Arc<InboundRouter>) -> RtpSink {
    Arc::new(move |inbound| router.take(attempt, inbound))
}

/// When frames and packets were last seen, told by the threads that see them.
#[derive(Debug)]
struct MediaActivity {
    epoch: Instant,
    frame_ms: AtomicU64,
    packet_ms: AtomicU64,
    video_ms: AtomicU64,
    awaits_frame: AtomicBool,
    /// Something came over the connection that is up.
    heard: AtomicBool,
    first_frame: Notify,
}

impl MediaActivity {
    fn new() -> Self {
        Self {
            epoch: Instant::now(),
            frame_ms: AtomicU64::new(0),
            packet_ms: AtomicU64::new(0),
            video_ms: AtomicU64::new(0),
            awaits_frame: AtomicBool::new(true),
            heard: AtomicBool::new(false),
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

    fn video(&self) {
        self.video_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn silent_for(&self) -> Duration {
        self.since(&self.packet_ms)
    }

    fn without_video_for(&self) -> Duration {
        self.since(&self.video_ms)
    }

    fn since(&self, seen_ms: &AtomicU64) -> Duration {
        let seen_ms = seen_ms.load(Ordering::Relaxed);
        Duration::from_millis(self.now_ms().saturating_sub(seen_ms))
    }
}

/// Decoding, which begins when somebody wants frames.
enum Decoding {
    NotYet(Box<DecodeParts>),
    Running(DecodeWorker),
    /// Between the two.
    Starting,
}

/// The task's state.
pub(super) struct Session {
    link: Link,
    role: Role,
    stream_metrics: Option<Arc<dyn StreamSink>>,
    ledger: Arc<StreamLedger>,
    state_machine: Option<StreamStateMachine>,
    keyframes: Arc<KeyframeBudget>,
    on_state: StateHandler,
    /// The state that was told last.
    announced: Option<StreamState>,
    changes: ChangeLog,
    router: Arc<InboundRouter>,
    seen: Arc<MediaActivity>,
    decoding: Decoding,
    /// When a thread is asked for again, of a system that granted none.
    decode_at: Option<Instant>,
    decode_backoff: Backoff,
    keyframe_requests: mpsc::Receiver<KeyframeReason>,
    keyframe: Option<PlannedKeyframe>,
    /// How many access units there were when it was last looked, and since when there are no more.
    units: (u64, Instant),
    lifetime: Lifetime,
    /// What the attempt sends, until it is connected.
    senders: Option<(Attempt, Vec<Option<TrackSender>>)>,
    attachments: Vec<Attachment>,
    hub_joined: bool,
    /// Also after a panic nobody is to wait for what cannot come.
    _end: Option<End>,
}

/// What a line about a change of state says.
type Change = (CameraState, Option<&'static str>);

fn change_of(state: StreamState) -> Change {
    (state.state, state.reason)
}

/// Which changes are said: a peer that offers and offers causes some with each, and what the log says last has to be
/// true.
struct ChangeLog {
    limit: RateLimit<Change>,
    /// What was said last.
    said: Option<Change>,
    /// When what was left out is said if it still holds.
    look_at: Option<Instant>,
}

impl ChangeLog {
    fn new() -> Self {
        Self {
            limit: RateLimit::new(CHANGE_LIMIT),
            said: None,
            look_at: None,
        }
    }

    /// `Some` to say a change now, and how many were left out before.
    fn change(&mut self, change: Change, now: Instant) -> Option<u64> {
        let suppressed = self.limit.allow(change, now);
        if suppressed.is_some() {
            self.said = Some(change);
            self.look_at = None;
        } else {
            self.look_at.get_or_insert(now + CHANGE_LIMIT);
        }
        suppressed
    }

    /// The same of a change that was left out, once its time has come; of nothing else.
    fn later(&mut self, current: Change, now: Instant) -> Option<u64> {
        self.look_at.take_if(|at| *at <= now)?;
        if self.said == Some(current) {
            return None;
        }
        self.change(current, now)
    }
}

/// A keyframe request that waits for its turn.
struct PlannedKeyframe {
    at: Instant,
    /// It waits longer than another one would.
    low_priority: bool,
}

/// Ends what handles see.
struct End(Arc<Core>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// What woke the task.
enum WakeReason {
    Link(LinkWake),
    KeyframeWanted(KeyframeReason),
    FirstFrame,
    /// The handles want something.
    Core,
    Timer,
}

impl Session {
    /// A task at rest.
    pub(super) fn new(parts: Parts) -> Self {
        let (keyframe_wanted, keyframe_requests) = mpsc::channel(1);
        let ledger = Arc::clone(&parts.decode.ledger);
        let (seen, mut on_frame) = (Arc::clone(&parts.router.seen), parts.on_frame);
        Self {
            link: parts.link,
            role: parts.role,
            stream_metrics: parts.metrics,
            ledger,
            state_machine: parts.state_machine,
            keyframes: parts.keyframes,
            on_state: parts.on_state,
            announced: None,
            changes: ChangeLog::new(),
            _end: parts.router.core.clone().map(End),
            seen: Arc::clone(&parts.router.seen),
            router: parts.router,
            decoding: Decoding::NotYet(Box::new(DecodeParts {
                id: parts.id,
                config: parts.decode,
                on_frame: Box::new(move |frame| {
                    seen.frame();
                    on_frame(frame);
                }),
                // A request that waits for its turn covers a second one.
                request_keyframe: Box::new(move |reason| {
                    let _ = keyframe_wanted.try_send(reason);
                }),
            })),
            decode_at: None,
            decode_backoff: Backoff::default(),
            keyframe_requests,
            keyframe: None,
            units: (0, Instant::now()),
            lifetime: parts.lifetime,
            senders: None,
            hub_joined: false,
            attachments: Vec::new(),
        }
    }

    /// Until it is told to stop, whatever it waits for then, or its lifetime is over.
    pub(super) async fn run(mut self, stopped: oneshot::Receiver<()>) {
        let ended = tokio::select! {
            _ = stopped => None,
            reason = self.drive() => reason,
        };
        self.stop(ended).await;
    }

    /// Why it is over, if it was not the hub client's end.
    async fn drive(&mut self) -> Option<EndReason> {
        // The node decodes from the first packet on, and connects to a camera only once it can.
        if self.router.core.is_none() {
            self.until_decoding().await;
        }
        self.note_state();
        loop {
            let deadline = self.deadline();
            let (seen, core) = (Arc::clone(&self.seen), self.router.core.clone());
            let wake = tokio::select! {
                wake = self.link.wait() => WakeReason::Link(wake),
                Some(reason) = self.keyframe_requests.recv() => WakeReason::KeyframeWanted(reason),
                () = seen.first_frame.notified() => WakeReason::FirstFrame,
                () = asked(core.as_deref()) => WakeReason::Core,
                () = sleep_until(deadline) => WakeReason::Timer,
            };
            match wake {
                WakeReason::Link(wake) => {
                    if !self.link.take(wake).await {
                        return None;
                    }
                }
                WakeReason::KeyframeWanted(reason) => self.plan_keyframe(reason),
                WakeReason::Core => self.core_asks(),
                WakeReason::FirstFrame | WakeReason::Timer => {}
            }
            let mut over = self.follow_link().await;
            self.timers().await;
            over = self.follow_link().await.or(over);
            if let (Lifetime::OneConnection(until), is_up) =
                (self.lifetime, self.link.is_connected())
            {
                let late = !is_up && until <= tokio::time::Instant::now();
                if late {
                    if let Some(suppressed) = allowed("a viewer did not connect") {
                        tracing::warn!(
                            suppressed,
                            "a viewer did not connect in time: its place is free again"
                        );
                    }
                    return Some(EndReason::NoPath);
                }
                if over.is_some_and(|reason| reason != EndReason::Replaced) {
                    return over;
                }
            }
        }
    }

    /// Why the connection is over, if it is.
    async fn follow_link(&mut self) -> Option<EndReason> {
        let mut over = None;
        while let Some(event) = self.link.poll().await {
            let now = Instant::now();
            match event {
                LinkEvent::Hub { joined } => {
                    self.hub_joined = joined;
                    if let Some(state_machine) = &mut self.state_machine {
                        state_machine.hub(now, joined);
                    }
                    self.core_asks();
                }
                LinkEvent::Progress(progress) => {
                    match progress {
                        Progress::Attempting(attempt) => {
                            self.seen.awaits_frame.store(true, Ordering::Release);
                            if attempt.0 > 1 {
                                if let Some(metrics) = &self.stream_metrics {
                                    metrics.reconnecting();
                                }
                            }
                        }
                        Progress::Connected(attempt) => self.connected(attempt),
                        Progress::Over(_, reason) => {
                            over = Some(reason);
                            self.senders = None;
                            self.attachments.clear();
                            if let Some(core) = &self.router.core {
                                core.lost(reason).await;
                            }
                        }
                    }
                    if let Some(state_machine) = &mut self.state_machine {
                        state_machine.progress(now, progress);
                    }
                    self.note_state();
                }
                LinkEvent::Senders(attempt, senders) => self.senders = Some((attempt, senders)),
                // Who receives has frames to tell; who answers waits for its peer, which dials again.
                LinkEvent::Disconnected => {
                    if self.state_machine.is_none() && self.role == Role::Initiator {
                        self.link.restart(EndReason::Lost);
                    }
                }
                // Nobody asked for one.
                LinkEvent::Channel(..) => {}
            }
        }
        over
    }

    fn connected(&mut self, attempt: Attempt) {
        self.seen.packet();
        self.seen.heard.store(false, Ordering::Relaxed);
        let Some(core) = &self.router.core else {
            return;
        };
        core.connected(self.link.peer_id());
        if let Some((of, senders)) = self.senders.take()
            && of == attempt
        {
            let tracks = core.offered_tracks(attempt).into_iter();
            let attached = tracks
                .zip(senders)
                .filter_map(|(track, sender)| Some(track.attach(sender?)));
            self.attachments = attached.collect();
        }
    }

    /// The handles have changed what they want.
    fn core_asks(&mut self) {
        let Some(core) = &self.router.core else {
            return;
        };
        let decode = core.wants_frames();
        // Without the hub a connection that is let go of cannot be made anew.
        let renegotiate = self.hub_joined && core.take_changed_tracks();
        if decode {
            self.decode();
        }
        if renegotiate && self.lifetime != Lifetime::Handles {
            tracing::warn!(
                "a peer of an acceptor gets the acceptor's tracks: one that was added later is not sent"
            );
        } else if renegotiate {
            // An attempt under way has another description.
            self.link.restart(EndReason::Changed);
        }
    }

    async fn until_decoding(&mut self) {
        loop {
            self.decode();
            let Some(at) = self.decode_at else { return };
            self.note_state();
            sleep_until(Some(at)).await;
        }
    }

    /// Starts to decode, or says when it is to be tried again.
    fn decode(&mut self) {
        let parts = match std::mem::replace(&mut self.decoding, Decoding::Starting) {
            Decoding::NotYet(parts) => parts,
            running => {
                self.decoding = running;
                return;
            }
        };
        let now = Instant::now();
        match DecodeWorker::spawn(*parts, Arc::clone(&self.router.queue)) {
            Ok(worker) => {
                self.router.decodes.store(true, Ordering::Release);
                self.decoding = Decoding::Running(worker);
                if self.decode_at.take().is_some()
                    && let Some(state_machine) = &mut self.state_machine
                {
                    state_machine.decoder(now, true);
                }
            }
            Err(error) => {
                if self.decode_at.is_none() {
                    tracing::error!(%error, "a camera cannot be decoded: it is tried again");
                }
                let NoThread { source: _, parts } = error;
                self.decoding = Decoding::NotYet(parts);
                self.decode_at = Some(now + self.decode_backoff.next_delay(rand::random()));
                if let Some(state_machine) = &mut self.state_machine {
                    state_machine.decoder(now, false);
                }
            }
        }
    }

    /// A request goes out when the node's budget allows it; one that waits stands for all. A stream of which nothing
    /// but keyframes is decoded has time.
    fn plan_keyframe(&mut self, reason: KeyframeReason) {
        // Nobody is there to be asked, and others need the budget.
        if self.link.peer().is_none() {
            return;
        }
        let low_priority = reason == KeyframeReason::Shedding;
        if let Some(planned) = &self.keyframe
            && (low_priority || !planned.low_priority)
        {
            return;
        }
        let now = Instant::now();
        let wait = if low_priority {
            self.keyframes.reserve_low_priority(now)
        } else {
            self.keyframes.reserve(now, rand::random())
        };
        let at = now + wait;
        self.keyframe = Some(PlannedKeyframe { at, low_priority });
    }

    fn deadline(&self) -> Option<Instant> {
        let watching = self.link.is_connected().then(|| Instant::now() + SILENCE);
        let state_machine = self
            .state_machine
            .as_ref()
            .and_then(StreamStateMachine::deadline);
        let keyframe = self.keyframe.as_ref().map(|planned| planned.at);
        let eviction = match self.lifetime {
            Lifetime::OneConnection(until) if !self.link.is_connected() => Some(until.into_std()),
            _ => None,
        };
        let unsaid = self.changes.look_at;
        [
            state_machine,
            keyframe,
            watching,
            eviction,
            unsaid,
            self.decode_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    async fn timers(&mut self) {
        let now = Instant::now();
        if self.decode_at.is_some_and(|at| at <= now) {
            self.decode();
        }
        // Where nothing but keyframes is decoded, frames are seconds apart, and the media is there all the same.
        let few = self.ledger.shed_level() == ShedLevel::KeyframesOnly;
        let last_frame = if few && self.seen.silent_for() < SILENCE {
            Some(now)
        } else {
            self.seen.last_frame()
        };
        if let Some(at) = last_frame
            && self.link.is_connected()
            && !self.seen.awaits_frame.load(Ordering::Acquire)
            && let Some(state_machine) = &mut self.state_machine
        {
            state_machine.frame(at);
        }
        if self.keyframe.take_if(|planned| planned.at <= now).is_some()
            && let Some((attempt, peer)) = self.link.connection()
            && peer
                .request_keyframe_of(self.router.main_source(attempt))
                .await
        {
            if let Some(metrics) = &self.stream_metrics {
                metrics.keyframe_requested();
            }
        }
        if let Some(core) = &self.router.core {
            core.tell_tracks().await;
        }
        if let Some(peer) = self.link.peer() {
            self.router
                .refuse(PacketRefusal::TooManySources, peer.take_thrown_away());
        }
        let silent_for = self.seen.silent_for();
        if self.link.is_connected()
            && silent_for > SILENCE
            && let Some(peer) = self.link.peer()
        {
            if peer.closed_by_peer().await {
                self.link.restart(EndReason::Closed);
            } else if silent_for > LIVENESS_LIMIT && self.seen.heard.load(Ordering::Relaxed) {
                // A peer that is sent nothing has nothing to report, and ICE asks after it.
                self.link.restart(EndReason::Lost);
            }
        }
        let unit_is_coming = self.unit_is_coming(now);
        if let Some(state_machine) = &mut self.state_machine
            && let Some(reason) = state_machine.handle_timeout(now, unit_is_coming)
        {
            self.note_state();
            self.link.restart(reason);
        }
        self.note_state();
    }

    /// Video comes, and for a while no unit was complete: it is one large unit that takes its time.
    fn unit_is_coming(&mut self, now: Instant) -> bool {
        let units = self.ledger.units_received();
        if units != self.units.0 {
            self.units = (units, now);
        }
        let lately = now.saturating_duration_since(self.units.1);
        lately >= SILENCE && self.seen.without_video_for() < SILENCE
    }

    /// Every change is one change of the metric and one call of the handler. The log has one line of it, at most one
    /// in a second for each state: what it says last is the state that it stays at.
    fn note_state(&mut self) {
        let Some(state) = self.state_machine.as_ref().map(StreamStateMachine::state) else {
            return;
        };
        let now = Instant::now();
        if self.announced == Some(state) {
            let suppressed = self.changes.later(change_of(state), now);
            return say_state(state, suppressed);
        }
        self.announced = Some(state);
        if let Some(metrics) = &self.stream_metrics {
            metrics.state(state.state);
        }
        say_state(state, self.changes.change(change_of(state), now));
        (self.on_state)(state);
    }

    async fn stop(mut self, ended: Option<EndReason>) {
        self.attachments.clear();
        self.link.close().await;
        self.router.queue.close();
        if let Decoding::Running(worker) = self.decoding {
            // Joining may take as long as one decode: not on a thread of the runtime.
            let _ = tokio::task::spawn_blocking(move || worker.stop()).await;
        }
        if let Some(core) = &self.router.core {
            core.closed(ended).await;
        }
    }
}

fn say_state(state: StreamState, suppressed: Option<u64>) {
    if let Some(suppressed) = suppressed {
        tracing::info!(
            state = %state.state,
            attempt = state.attempt,
            reason = state.reason,
            suppressed,
            "the camera's state changed"
        );
    }
}

async fn asked(core: Option<&Core>) {
    match core {
        Some(core) => core.asked().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use twinsight_media::codec::Codec;

    #[test]
    fn the_last_change_of_several_is_said_in_the_end() {
        let (a, b) = (
            (CameraState::Connecting, None),
            (CameraState::Receiving, None),
        );
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut log = ChangeLog::new();
        assert_eq!(log.change(a, at(0)), Some(0));
        assert_eq!(log.change(b, at(100)), Some(0));
        assert_eq!(log.look_at, None);
        assert_eq!(log.change(a, at(200)), None, "it was said just now");
        assert_eq!(log.look_at, Some(at(1200)));
        assert_eq!(log.later(a, at(1199)), None, "its time has not come");
        assert_eq!(log.later(a, at(1200)), Some(1));
        assert_eq!((log.look_at, log.later(a, at(1300))), (None, None));
        // What was left out and no longer holds is not said.
        assert_eq!(log.change(b, at(1400)), Some(0));
        assert_eq!(log.change(a, at(1500)), None);
        assert_eq!(log.change(b, at(1600)), None);
        assert_eq!(log.later(b, at(2500)), None);
        assert_eq!(log.look_at, None);
    }

    #[test]
    fn packets_that_are_refused_are_no_unit_that_is_coming() {
        let router = InboundRouter::new(
            Arc::new(AtomicU32::new(1)),
            None,
            None,
            tracing::Span::none(),
        );
        let is_video = |ssrc, sequence| {
            // No time that is ever stored.
            router.seen.video_ms.store(u64::MAX, Ordering::Relaxed);
            let packet = RtpPacket {
                sequence,
                timestamp: 0,
                marker: false,
                ssrc,
                codec: Codec::H264,
                payload: Bytes::from_static(b"x"),
                arrived_at: Instant::now(),
            };
            router.take(Attempt(1), Inbound::Rtp(packet));
            router.seen.video_ms.load(Ordering::Relaxed) != u64::MAX
        };
        assert!(!is_video(7, 0), "a stray packet");
        assert!(is_video(7, 1), "a source from its second packet on");
        for sequence in 0..100 {
            assert!(!is_video(8, sequence), "another source");
            assert!(is_video(7, 2 + sequence));
        }
    }
}
