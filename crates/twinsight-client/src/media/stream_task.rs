//! The task behind a stream. Events of the link, requests for keyframes and wishes of the handles come in; changes of state go out
//! to the stream's owner, and requests for keyframes to the peer. The task owns the decode thread, whose frames go straight to
//! the owner.
//!
//! What must stay true:
//! - A connection over which no media comes is given up here, since neither ICE nor the link can see that.
//! - Keyframes are asked for only here, within the budget that all streams of a node share, and one request waits at a time.
//! - Every change of state is reported once, in order; the log may leave lines out, but its last line is the state that holds.
//! - After `end` no frame reaches the owner, and whoever waits on a handle is woken, even if the task has panicked.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::Instrument;

use super::camera::{FrameHandler, StateHandler};
use super::change_log::{ChangeLog, log_state};
use super::decoding::Decoding;
use super::inbound_router::{InboundRouter, MediaActivity};
use super::local_track::Attachment;
use super::shared::StreamShared;
use super::stream_state::{StreamState, StreamStateMachine};
use super::worker::{DecodeConfig, DecodeParts};
use crate::realtime::attempt::{Attempt, EndReason, Progress, Role};
use crate::realtime::deadline::sleep_until;
use crate::realtime::link::{Link, LinkEvent};
use crate::realtime::link_options::Lifetime;
use crate::realtime::link_task::{Owner, drive};
use crate::realtime::rtp_track::TrackSender;
use crate::realtime::warnings::allowed;
use crate::stream_id::StreamId;
use crate::telemetry::{PacketRefusal, StreamSink};
use twinsight_media::decode::gate::KeyframeReason;
use twinsight_media::decode::keyframes::KeyframeBudget;
use twinsight_media::ledger::{ShedLevel, StreamLedger};

/// If nothing comes for this long, the connection is asked whether the peer has closed it.
const SILENCE: Duration = Duration::from_secs(1);

/// A peer from which nothing comes for this long, not even a report, is gone.
const LIVENESS_LIMIT: Duration = Duration::from_secs(20);

/// The parts that a stream's task is made of.
pub(super) struct StreamTaskParts {
    /// Watches over the video that is received; none if no video is.
    pub(super) state_machine: Option<StreamStateMachine>,
    pub(super) router: Arc<InboundRouter>,
    pub(super) keyframes: Arc<KeyframeBudget>,
    pub(super) id: StreamId,
    pub(super) metrics: Option<Arc<dyn StreamSink>>,
    pub(super) decode: DecodeConfig,
    pub(super) on_frame: FrameHandler,
    pub(super) on_state: StateHandler,
}

/// The owner of a media stream's link.
pub(super) struct StreamTask {
    metrics: Option<Arc<dyn StreamSink>>,
    ledger: Arc<StreamLedger>,
    state_machine: Option<StreamStateMachine>,
    keyframes: Arc<KeyframeBudget>,
    on_state: StateHandler,
    /// The state that was reported last.
    announced: Option<StreamState>,
    changes: ChangeLog,
    router: Arc<InboundRouter>,
    activity: Arc<MediaActivity>,
    decoding: Decoding,
    keyframe_requests: mpsc::Receiver<KeyframeReason>,
    keyframe: Option<PlannedKeyframe>,
    /// How many access units had come at the last check, and since when the number has not grown.
    units: (u64, Instant),
    /// The senders of the attempt's tracks, until it is connected.
    senders: Option<(Attempt, Vec<Option<TrackSender>>)>,
    attachments: Vec<Attachment>,
    hub_joined: bool,
    /// Ends what handles wait for, also after a panic of the task.
    _end: Option<End>,
}

/// A keyframe request that waits for its turn.
struct PlannedKeyframe {
    at: Instant,
    /// True if it waits longer than other requests.
    low_priority: bool,
}

/// Ends what handles wait for when it is dropped.
struct End(Arc<StreamShared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// An event of a stream that does not come from its link.
pub(super) enum StreamTaskEvent {
    KeyframeWanted(KeyframeReason),
    FirstFrame,
    /// Handles have changed what they want, or a new track has come.
    HandlesAsk,
}

impl StreamTask {
    /// Makes the task, which does nothing until it runs.
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
                // If a request already waits to be planned, it stands for this one too.
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

    /// Runs until `stop` completes or the link's lifetime is over.
    pub(super) async fn run(self, link: Link, stop: impl Future<Output = ()> + Send) {
        let span = self.router.span.clone();
        drive(link, self, stop).instrument(span).await;
    }

    async fn progress(&mut self, link: &Link, progress: Progress) {
        let now = Instant::now();
        match progress {
            Progress::Attempting(attempt) => {
                self.activity.awaits_frame.store(true, Ordering::Release);
                if attempt.0 > 1
                    && let Some(metrics) = &self.metrics
                {
                    metrics.reconnecting();
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
            shared.set_resends(self.attachments.iter().map(Attachment::resend).collect());
        }
    }

    /// Does what the handles want: decode, or send other tracks.
    fn handles_ask(&mut self, link: &mut Link) {
        let Some(shared) = &self.router.shared else {
            return;
        };
        let decode = shared.wants_frames();
        // Without the hub a connection that is closed could not be made anew.
        let renegotiate = self.hub_joined && shared.take_changed_tracks();
        if decode {
            self.decode();
        }
        if renegotiate && link.lifetime() != Lifetime::UntilStopped {
            tracing::warn!(
                "a peer of an acceptor gets the acceptor's tracks: one that was added later is not sent"
            );
        } else if renegotiate {
            // An attempt that is under way is replaced too, since it was described with the old tracks.
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

    /// Plans a keyframe request for when the node's budget allows it. A request that waits stands for all later ones. It may wait
    /// longer if only keyframes of the stream are decoded.
    fn plan_keyframe(&mut self, link: &Link, reason: KeyframeReason) {
        // Without a connection nobody can be asked, and other streams need the budget.
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

    /// True if video comes although no unit has been complete for a while: then it is one large unit over a slow link.
    fn unit_is_coming(&mut self, now: Instant) -> bool {
        let units = self.ledger.units_received();
        if units != self.units.0 {
            self.units = (units, now);
        }
        let lately = now.saturating_duration_since(self.units.1);
        lately >= SILENCE && self.activity.without_video_for() < SILENCE
    }

    /// Reports the state if it has changed: to the metric, to the handler and to the log. The log has at most one line a second for
    /// each state, a warning at most every ten, and its last line names the state that the stream stays in.
    fn note_state(&mut self) {
        let Some(state) = self.state_machine.as_ref().map(StreamStateMachine::state) else {
            return;
        };
        let now = Instant::now();
        if self.announced.as_ref() == Some(&state) {
            let due = self.changes.later(&state, now);
            return log_state(&state, due);
        }
        self.announced = Some(state.clone());
        if let Some(metrics) = &self.metrics {
            metrics.state(state.state);
        }
        log_state(&state, self.changes.change(&state, now));
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
            // `handle_timeout`, which follows every event, reports the frame to the state machine.
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
            // A stream that receives video sees by its frames whether the path is dead, and a responder waits for its peer to
            // dial again. Only an initiator that receives no video acts on the lost path.
            LinkEvent::Disconnected => {
                if self.state_machine.is_none() && link.role() == Role::Initiator {
                    link.restart(EndReason::Lost);
                }
            }
            // A media stream has no data channel.
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
        // While only keyframes are decoded, frames are seconds apart, so packets show that media still comes.
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
            && let Some(metrics) = &self.metrics
        {
            metrics.keyframe_requested();
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
                // This holds only for a peer that was heard before: one that is sent nothing has nothing to report, and ICE
                // finds out whether it is still there.
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
