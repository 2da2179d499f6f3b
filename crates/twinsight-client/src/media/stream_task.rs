//! The task behind a stream: drives the link, watches whether media comes, begins anew when it breaks, and runs
//! the decode thread. The task alone touches the peer connection; frames go from the decode thread straight to
//! the stream's owner.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::Instrument;

use super::camera::{FrameHandler, StateHandler};
use super::change_log::{ChangeLog, change_of, say_state};
use super::decoding::Decoding;
use super::inbound_router::{InboundRouter, MediaActivity};
use super::local_track::Attachment;
use super::shared::StreamShared;
use super::stream_state::{StreamState, StreamStateMachine};
use super::worker::{DecodeConfig, DecodeParts};
use crate::realtime::link::{Lifetime, Link, LinkEvent};
use crate::realtime::link_task::{Owner, drive, sleep_until};
use crate::realtime::negotiation::{Attempt, EndReason, Progress, Role};
use crate::realtime::rtp_track::TrackSender;
use crate::realtime::warnings::allowed;
use crate::stream_id::StreamId;
use crate::telemetry::{PacketRefusal, StreamSink};
use twinsight_media::decode::gate::KeyframeReason;
use twinsight_media::decode::keyframes::KeyframeBudget;
use twinsight_media::ledger::{ShedLevel, StreamLedger};

/// While nothing comes for this long, the peer is asked whether it has said goodbye.
const SILENCE: Duration = Duration::from_secs(1);

/// A peer of which nothing is heard for this long, no report either, is gone.
const LIVENESS_LIMIT: Duration = Duration::from_secs(20);

/// What a stream's task is made of.
pub(super) struct StreamTaskParts {
    /// Watches over the video that is to come; none if none is.
    pub(super) state_machine: Option<StreamStateMachine>,
    pub(super) router: Arc<InboundRouter>,
    pub(super) keyframes: Arc<KeyframeBudget>,
    pub(super) id: StreamId,
    pub(super) metrics: Option<Arc<dyn StreamSink>>,
    pub(super) decode: DecodeConfig,
    pub(super) on_frame: FrameHandler,
    pub(super) on_state: StateHandler,
}

/// Whom a link with media is driven for.
pub(super) struct StreamTask {
    metrics: Option<Arc<dyn StreamSink>>,
    ledger: Arc<StreamLedger>,
    state_machine: Option<StreamStateMachine>,
    keyframes: Arc<KeyframeBudget>,
    on_state: StateHandler,
    /// The state that was told last.
    announced: Option<StreamState>,
    changes: ChangeLog,
    router: Arc<InboundRouter>,
    activity: Arc<MediaActivity>,
    decoding: Decoding,
    keyframe_requests: mpsc::Receiver<KeyframeReason>,
    keyframe: Option<PlannedKeyframe>,
    /// How many access units there were when it was last looked, and since when there are no more.
    units: (u64, Instant),
    /// What the attempt sends, until it is connected.
    senders: Option<(Attempt, Vec<Option<TrackSender>>)>,
    attachments: Vec<Attachment>,
    hub_joined: bool,
    /// Also after a panic nobody is to wait for what cannot come.
    _end: Option<End>,
}

/// A keyframe request that waits for its turn.
struct PlannedKeyframe {
    at: Instant,
    /// It waits longer than another one would.
    low_priority: bool,
}

/// Ends what handles see.
struct End(Arc<StreamShared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// What happens to a stream beside its link.
pub(super) enum StreamTaskEvent {
    KeyframeWanted(KeyframeReason),
    FirstFrame,
    /// The handles want something.
    HandlesAsk,
}

impl StreamTask {
    /// A task at rest.
    pub(super) fn new(parts: StreamTaskParts) -> Self {
        let (keyframe_wanted, keyframe_requests) = mpsc::channel(1);
        let ledger = Arc::clone(&parts.decode.ledger);
        let (activity, mut on_frame) = (Arc::clone(&parts.router.activity), parts.on_frame);
        Self {
            metrics: parts.metrics,
            ledger,
            state_machine: parts.state_machine,
            keyframes: parts.keyframes,
            on_state: parts.on_state,
            announced: None,
            changes: ChangeLog::new(),
            _end: parts.router.shared.clone().map(End),
            activity: Arc::clone(&parts.router.activity),
            router: parts.router,
            decoding: Decoding::new(DecodeParts {
                id: parts.id,
                config: parts.decode,
                on_frame: Box::new(move |frame| {
                    activity.frame();
                    on_frame(frame);
                }),
                // A request that waits for its turn covers a second one.
                request_keyframe: Box::new(move |reason| {
                    let _ = keyframe_wanted.try_send(reason);
                }),
            }),
            keyframe_requests,
            keyframe: None,
            units: (0, Instant::now()),
            senders: None,
            hub_joined: false,
            attachments: Vec::new(),
        }
    }

    /// Runs until `stop` is over, or the link's lifetime.
    pub(super) async fn run(self, link: Link, stop: impl Future<Output = ()> + Send) {
        let span = self.router.span.clone();
        drive(link, self, stop).instrument(span).await;
    }

    async fn progress(&mut self, link: &Link, progress: Progress) {
        let now = Instant::now();
        match progress {
            Progress::Attempting(attempt) => {
                self.activity.awaits_frame.store(true, Ordering::Release);
                if attempt.0 > 1 {
                    if let Some(metrics) = &self.metrics {
                        metrics.reconnecting();
                    }
                }
            }
            Progress::Connected(attempt) => self.connected(link, attempt),
            Progress::Over(_, reason) => {
                self.senders = None;
                self.attachments.clear();
                if let Some(shared) = &self.router.shared {
                    shared.lost(reason).await;
                }
            }
        }
        if let Some(state_machine) = &mut self.state_machine {
            state_machine.progress(now, progress);
        }
        self.note_state();
    }

    fn connected(&mut self, link: &Link, attempt: Attempt) {
        self.activity.packet();
        self.activity.heard.store(false, Ordering::Relaxed);
        let Some(shared) = &self.router.shared else {
            return;
        };
        shared.connected(link.peer_id());
        if let Some((of, senders)) = self.senders.take()
            && of == attempt
        {
            let tracks = shared.offered_tracks(attempt).into_iter();
            let attached = tracks
                .zip(senders)
                .filter_map(|(track, sender)| Some(track.attach(sender?)));
            self.attachments = attached.collect();
        }
    }

    /// The handles have changed what they want.
    fn handles_ask(&mut self, link: &mut Link) {
        let Some(shared) = &self.router.shared else {
            return;
        };
        let decode = shared.wants_frames();
        // Without the hub a connection that is let go of cannot be made anew.
        let renegotiate = self.hub_joined && shared.take_changed_tracks();
        if decode {
            self.decode();
        }
        if renegotiate && link.lifetime() != Lifetime::UntilStopped {
            tracing::warn!(
                "a peer of an acceptor gets the acceptor's tracks: one that was added later is not sent"
            );
        } else if renegotiate {
            // An attempt under way has another description.
            link.restart(EndReason::Changed);
        }
    }

    async fn until_decoding(&mut self) {
        loop {
            self.decode();
            let Some(at) = self.decoding.retry_at() else {
                return;
            };
            self.note_state();
            sleep_until(Some(at)).await;
        }
    }

    /// Starts to decode, unless it has begun.
    fn decode(&mut self) {
        let now = Instant::now();
        let granted = self.decoding.start(&self.router, now);
        if let Some(granted) = granted
            && let Some(state_machine) = &mut self.state_machine
        {
            state_machine.decoder(now, granted);
        }
    }

    /// A request goes out when the node's budget allows it; one that waits stands for all. A stream of which nothing
    /// but keyframes is decoded has time.
    fn plan_keyframe(&mut self, link: &Link, reason: KeyframeReason) {
        // Nobody is there to be asked, and others need the budget.
        if link.peer().is_none() {
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

    /// Video comes, and for a while no unit was complete: it is one large unit that takes its time.
    fn unit_is_coming(&mut self, now: Instant) -> bool {
        let units = self.ledger.units_received();
        if units != self.units.0 {
            self.units = (units, now);
        }
        let lately = now.saturating_duration_since(self.units.1);
        lately >= SILENCE && self.activity.without_video_for() < SILENCE
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
        if let Some(metrics) = &self.metrics {
            metrics.state(state.state);
        }
        say_state(state, self.changes.change(change_of(state), now));
        (self.on_state)(state);
    }
}

impl Owner for StreamTask {
    type Event = StreamTaskEvent;

    async fn begin(&mut self) {
        // The node decodes from the first packet on, and connects to a camera only once it can.
        if self.router.shared.is_none() {
            self.until_decoding().await;
        }
        self.note_state();
    }

    async fn next_event(&mut self) -> StreamTaskEvent {
        tokio::select! {
            Some(reason) = self.keyframe_requests.recv() => StreamTaskEvent::KeyframeWanted(reason),
            () = self.activity.first_frame.notified() => StreamTaskEvent::FirstFrame,
            () = asked(self.router.shared.as_deref()) => StreamTaskEvent::HandlesAsk,
        }
    }

    async fn event(&mut self, link: &mut Link, event: StreamTaskEvent) {
        match event {
            StreamTaskEvent::KeyframeWanted(reason) => self.plan_keyframe(link, reason),
            StreamTaskEvent::HandlesAsk => self.handles_ask(link),
            // The state machine is told with all that time brings.
            StreamTaskEvent::FirstFrame => {}
        }
    }

    async fn link_event(&mut self, link: &mut Link, event: LinkEvent) {
        match event {
            LinkEvent::Hub { joined } => {
                self.hub_joined = joined;
                if let Some(state_machine) = &mut self.state_machine {
                    state_machine.hub(Instant::now(), joined);
                }
                self.handles_ask(link);
            }
            LinkEvent::Progress(progress) => self.progress(link, progress).await,
            LinkEvent::Senders(attempt, senders) => self.senders = Some((attempt, senders)),
            // Who receives has frames to tell; who answers waits for its peer, which dials again.
            LinkEvent::Disconnected => {
                if self.state_machine.is_none() && link.role() == Role::Initiator {
                    link.restart(EndReason::Lost);
                }
            }
            // Nobody asked for one.
            LinkEvent::Channel(..) => {}
        }
    }

    fn deadline(&self, link: &Link) -> Option<Instant> {
        let watching = link.is_connected().then(|| Instant::now() + SILENCE);
        let state_machine = self
            .state_machine
            .as_ref()
            .and_then(StreamStateMachine::deadline);
        let keyframe = self.keyframe.as_ref().map(|planned| planned.at);
        let unsaid = self.changes.look_at;
        [
            state_machine,
            keyframe,
            watching,
            unsaid,
            self.decoding.retry_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    async fn handle_timeout(&mut self, link: &mut Link) {
        let now = Instant::now();
        if self.decoding.retry_at().is_some_and(|at| at <= now) {
            self.decode();
        }
        // Where nothing but keyframes is decoded, frames are seconds apart, and the media is there all the same.
        let few = self.ledger.shed_level() == ShedLevel::KeyframesOnly;
        let last_frame = if few && self.activity.silent_for() < SILENCE {
            Some(now)
        } else {
            self.activity.last_frame()
        };
        if let Some(at) = last_frame
            && link.is_connected()
            && !self.activity.awaits_frame.load(Ordering::Acquire)
            && let Some(state_machine) = &mut self.state_machine
        {
            state_machine.frame(at);
        }
        if self.keyframe.take_if(|planned| planned.at <= now).is_some()
            && let Some((attempt, peer)) = link.connection()
            && peer
                .request_keyframe_of(self.router.main_source(attempt))
                .await
        {
            if let Some(metrics) = &self.metrics {
                metrics.keyframe_requested();
            }
        }
        if let Some(shared) = &self.router.shared {
            shared.tell_tracks().await;
        }
        if let Some(peer) = link.peer() {
            self.router
                .refuse(PacketRefusal::TooManySources, peer.take_thrown_away());
        }
        let silent_for = self.activity.silent_for();
        if link.is_connected()
            && silent_for > SILENCE
            && let Some(peer) = link.peer()
        {
            if peer.closed_by_peer().await {
                link.restart(EndReason::Closed);
            } else if silent_for > LIVENESS_LIMIT && self.activity.heard.load(Ordering::Relaxed) {
                // A peer that is sent nothing has nothing to report, and ICE asks after it.
                link.restart(EndReason::Lost);
            }
        }
        let unit_is_coming = self.unit_is_coming(now);
        if let Some(state_machine) = &mut self.state_machine
            && let Some(reason) = state_machine.handle_timeout(now, unit_is_coming)
        {
            self.note_state();
            link.restart(reason);
        }
        self.note_state();
    }

    fn is_established(&self, link: &Link) -> bool {
        link.is_connected()
    }

    fn warn_of_late_peer(&self) {
        if let Some(suppressed) = allowed("a viewer did not connect") {
            tracing::warn!(
                suppressed,
                "a viewer did not connect in time: its place is free again"
            );
        }
    }

    async fn end(mut self, mut link: Link, ended: Option<EndReason>) {
        self.attachments.clear();
        link.close().await;
        self.router.queue.close();
        self.decoding.stop().await;
        if let Some(shared) = &self.router.shared {
            shared.closed(ended).await;
        }
    }
}

async fn asked(shared: Option<&StreamShared>) {
    match shared {
        Some(shared) => shared.asked().await,
        None => std::future::pending().await,
    }
}
