//! The task that empties the outbox into the hub. The stages hand frames and states to a [`Publisher`] and never wait for
//! it. The task makes an event of each at the moment at which it is written, so that the times in it are true, and counts
//! what became of it. The node runs it and shuts it down after all stages before it.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::event::{CAMERA_STATUS, CameraStatus, DETECTIONS, Inferred};
use super::feed::EventFeed;
use super::lane::SinkLane;
use super::outbox::{EventOutbox, NumberedFrame, OutgoingEvent};
use super::track_event::TrackEvent;
use super::track_queue::NumberedTrackEvent;
use crate::clock::WallClock;
use crate::shard::Share;
use crate::telemetry::health::Heartbeat;
use crate::telemetry::ledger::{EventDrop, Stage};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::Tracer;
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::CameraState;
use twinsight_media::picture::PictureSize;

/// A publisher that has nothing to send beats this often.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);

/// When the hub was left, the sink has this long to say what became of the last event.
const SETTLE_LIMIT: Duration = Duration::from_millis(500);

/// Where events go: the node's own twin on the hub, or a test's channel.
pub(crate) trait EventSink: Send + 'static {
    /// Writes an event, and resolves when it is on the socket. If the hub is away, it fails at once.
    fn emit(
        &mut self,
        event: &'static str,
        data: Value,
    ) -> impl Future<Output = Result<(), HubAway>> + Send;
}

/// The hub is away, and the event is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the hub is away, the event is dropped")]
pub(crate) struct HubAway;

/// Takes what the stages have to tell. Clones share one outbox, and no method waits.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    shared: Arc<SharedOutbox>,
    /// The ways to the sinks beside the hub.
    lanes: Arc<[SinkLane]>,
}

/// The running task. Its owner shuts it down.
#[derive(Debug)]
pub(crate) struct PublisherTask {
    shared: Arc<SharedOutbox>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct SharedOutbox {
    feed: EventFeed,
    metrics: Arc<Metrics>,
    state: Mutex<SendState>,
    wake: Notify,
    /// Decides which frames have a trace. `None` where nothing is traced.
    tracer: Option<Tracer>,
    /// Says which cameras this node publishes. Without one it publishes all.
    share: OnceLock<Share>,
}

#[derive(Debug)]
struct SendState {
    outbox: EventOutbox,
    phase: Phase,
    /// The event that is being written to the socket.
    in_flight: Option<InFlight>,
    last: HashMap<StreamId, LastEvent>,
}

/// An event that is being written to the socket, for whoever counts what became of it.
#[derive(Debug)]
enum InFlight {
    /// A state of this stream, which nobody counts.
    Status(StreamId),
    /// That of a frame of this stream.
    Detections(StreamId),
    /// One of a track.
    Track(Arc<TrackEvent>),
}

/// The last event of a stream.
#[derive(Debug, Default)]
struct LastEvent {
    /// When one was written last.
    published_at: Option<Instant>,
    /// The frame of the last `detections`, written or not.
    frame: Option<NumberedFrame>,
}

/// What was seen in the last frame of a stream that made an event.
#[derive(Debug, Clone, PartialEq)]
pub struct LastSeen {
    /// The size of the frame.
    pub size: PictureSize,
    /// How many objects there were of each label.
    pub objects: BTreeMap<Arc<str>, usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Frames and states are taken.
    Open,
    /// What waits is sent, and no further frame is taken.
    Draining,
}

/// Makes up the identity of a run, 32 hex digits.
pub(crate) fn new_run_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

impl Publisher {
    /// Starts the task, which keeps at most `capacity` frames that wait. Whoever watches the feed gets the events too. It needs a
    /// tokio runtime.
    pub(crate) fn spawn<S: EventSink>(
        sink: S,
        feed: EventFeed,
        capacity: usize,
        metrics: Arc<Metrics>,
        heartbeat: Option<Heartbeat>,
        tracer: Option<Tracer>,
    ) -> (Self, PublisherTask) {
        let shared = Arc::new(SharedOutbox {
            feed,
            metrics,
            state: Mutex::new(SendState {
                outbox: EventOutbox::new(capacity),
                phase: Phase::Open,
                in_flight: None,
                last: HashMap::new(),
            }),
            wake: Notify::new(),
            tracer,
            share: OnceLock::new(),
        });
        let task = tokio::spawn(run(sink, Arc::clone(&shared), heartbeat));
        let publisher = Self {
            shared: Arc::clone(&shared),
            lanes: Arc::default(),
        };
        (publisher, PublisherTask { shared, task })
    }

    /// The same publisher, which also gives every event to these sinks.
    #[must_use]
    pub(crate) fn with_lanes(self, lanes: impl IntoIterator<Item = SinkLane>) -> Self {
        Self {
            lanes: lanes.into_iter().collect(),
            ..self
        }
    }

    /// The same publisher, which publishes only what is this node's among the nodes that share cameras. It is called after
    /// [`with_lanes`](Self::with_lanes), once.
    #[must_use]
    pub(crate) fn with_share(self, share: &Share) -> Self {
        for lane in self.lanes.iter() {
            lane.set_share(share.clone());
        }
        let _ = self.shared.share.set(share.clone());
        self
    }

    /// Hands over an inferred frame. The stage that calls has counted it as inferred; here it is counted as published or
    /// dropped. A frame that is not to be emitted makes no event. Gives the number of the frame's event, if it has one.
    pub(crate) fn publish(&self, mut inferred: Inferred, emit: bool) -> Option<u64> {
        if !self.shared.admits(&inferred.id) {
            if let Some(share) = self.shared.share.get() {
                share.inferred(&inferred.id);
            }
            for lane in self.lanes.iter() {
                lane.withhold(&inferred);
            }
            self.shared.dropped(&inferred.id, EventDrop::NotHeld);
            return None;
        }
        let mut state = self.shared.state();
        if !emit {
            state.outbox.suppress(&inferred);
            drop(state);
            for lane in self.lanes.iter() {
                lane.pass(&inferred, EventDrop::Suppressed);
            }
            self.shared.dropped(&inferred.id, EventDrop::Suppressed);
            return None;
        }
        if state.phase == Phase::Draining {
            drop(state);
            for lane in self.lanes.iter() {
                lane.pass(&inferred, EventDrop::SinkUnreachable);
            }
            self.shared
                .dropped(&inferred.id, EventDrop::HubDisconnected);
            return None;
        }
        inferred.trace = self.shared.tracer.as_ref().and_then(Tracer::sample);
        let sequence = state.outbox.number(&mut inferred);
        let inferred = Arc::new(inferred);
        // The lock is held, so that the sinks get the frames of a stream in the order of their numbers.
        for lane in self.lanes.iter() {
            lane.offer(sequence, &inferred);
        }
        let displaced = state
            .outbox
            .push_numbered(NumberedFrame { sequence, inferred });
        drop(state);
        if let Some(displaced) = displaced {
            self.shared
                .end_trace(&displaced, None, Some(EventDrop::OutboxFull));
            self.shared
                .dropped(&displaced.inferred.id, EventDrop::OutboxFull);
        }
        self.shared.wake.notify_one();
        Some(sequence)
    }

    /// Hands over what there is to tell of tracks, in order. Of the events of a frame, that of the frame itself is published first.
    pub(crate) fn publish_tracks(&self, events: impl IntoIterator<Item = TrackEvent>) {
        self.hand_over_tracks(events, |event| self.shared.admits(&event.id));
    }

    /// Hands over the last that there is to tell of tracks of a camera that is about to be another node's.
    pub(crate) fn publish_last_tracks(&self, events: impl IntoIterator<Item = TrackEvent>) {
        self.hand_over_tracks(events, |_| true);
    }

    fn hand_over_tracks(
        &self,
        events: impl IntoIterator<Item = TrackEvent>,
        admits: impl Fn(&TrackEvent) -> bool,
    ) {
        for event in events {
            let metrics = self.shared.metrics.stream(&event.id);
            metrics.tracks.event_made(event.event_type());
            if !admits(&event) {
                for lane in self.lanes.iter() {
                    lane.withhold_track(&event);
                }
                self.shared.track_settled(&event, Err(EventDrop::NotHeld));
                continue;
            }
            let mut state = self.shared.state();
            if state.phase == Phase::Draining {
                drop(state);
                let event = Arc::new(event);
                for lane in self.lanes.iter() {
                    lane.pass_track(&event);
                }
                self.shared
                    .track_settled(&event, Err(EventDrop::HubDisconnected));
                continue;
            }
            let sequence = state.outbox.number_track(&event);
            let event = Arc::new(event);
            // The lock is held, so that the sinks get the events of a stream in the order of their numbers.
            for lane in self.lanes.iter() {
                lane.offer_track(sequence, &event);
            }
            let displaced = state
                .outbox
                .push_track(NumberedTrackEvent { sequence, event });
            drop(state);
            if let Some(displaced) = displaced {
                self.shared
                    .track_settled(&displaced.event, Err(EventDrop::OutboxFull));
            }
            self.shared.wake.notify_one();
        }
    }

    /// Sends a camera stream's new state. That of a camera which is another node's is kept until it is this one's.
    pub(crate) fn set_status(&self, status: CameraStatus) {
        // The lock is held, so that the sinks end with the same state as the hub.
        let mut state = self.shared.state();
        if !self.shared.tells(&status.id) {
            self.keep(&mut state, status);
            return;
        }
        self.send_status(&mut state, status);
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Takes in that a camera which another node has is closed here. It was said that it moved, and by now it may be this node's again.
    pub(crate) fn keep_status(&self, status: CameraStatus) {
        self.keep(&mut self.shared.state(), status);
    }

    fn keep(&self, state: &mut SendState, status: CameraStatus) {
        for lane in self.lanes.iter() {
            lane.keep_status(&status);
        }
        state.outbox.keep_status(status);
    }

    /// Says that the streams of a camera are gone from here, because the node of this name has it from now on.
    pub(crate) fn tell_moved(&self, twin_id: &str, to: &str) {
        let mut state = self.shared.state();
        for status in state.outbox.statuses_of(twin_id) {
            if status.state == CameraState::Removed {
                continue;
            }
            let moved = CameraStatus {
                state: CameraState::Removed,
                since: Instant::now(),
                reason: Some(format!("the camera has moved to node {to} of the pool")),
                ..status
            };
            // It is told and not kept: if the other node does not take it after all, the state is as it was.
            for lane in self.lanes.iter() {
                lane.tell_status(&moved);
            }
            state.outbox.tell_status(moved, Instant::now());
        }
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Sends the current state of the streams of a camera that is this node's from now on.
    pub(crate) fn tell_again(&self, twin_id: &str) {
        let mut state = self.shared.state();
        for status in state.outbox.statuses_of(twin_id) {
            self.send_status(&mut state, status);
        }
        drop(state);
        self.shared.wake.notify_one();
    }

    /// True while anything of a camera is on its way out.
    pub(crate) fn has_waiting(&self, twin_id: &str) -> bool {
        let state = self.shared.state();
        let in_flight = match &state.in_flight {
            None => None,
            Some(InFlight::Status(id) | InFlight::Detections(id)) => Some(id),
            Some(InFlight::Track(event)) => Some(&event.id),
        };
        in_flight.is_some_and(|id| *id.twin_id == *twin_id)
            || state.outbox.has_waiting(twin_id)
            || self.lanes.iter().any(|lane| lane.has_waiting(twin_id))
    }

    fn send_status(&self, state: &mut SendState, status: CameraStatus) {
        for lane in self.lanes.iter() {
            lane.set_status(&status);
        }
        state.outbox.set_status(status, Instant::now());
    }

    /// Gives a camera stream another name for people. States that are sent from now on have it.
    pub(crate) fn rename(&self, id: &StreamId, name: &Arc<str>) {
        let mut state = self.shared.state();
        for lane in self.lanes.iter() {
            lane.rename(id, name);
        }
        state.outbox.rename(id, name);
    }

    /// Sends the current state of every camera stream again, which is to be done whenever the hub has returned.
    pub(crate) fn resend_statuses(&self) {
        self.shared.state().outbox.resend_statuses(Instant::now());
        self.shared.wake.notify_one();
    }

    /// True while a state of a camera stream is kept. That of a removed one is kept until the hub and each sink were told that it was.
    pub(crate) fn is_due(&self, id: &StreamId) -> bool {
        self.shared.state().outbox.is_due(id) || self.lanes.iter().any(|lane| lane.is_due(id))
    }

    /// Counts as dropped what still waits for sinks of a camera stream that was removed long ago: a sink that is away would keep it
    /// for ever.
    pub(crate) fn let_go(&self, id: &StreamId) {
        for lane in self.lanes.iter() {
            lane.let_go(id);
        }
    }

    /// Forgets a camera stream that was removed long ago. Its metrics are for the caller to end.
    pub(crate) fn forget(&self, id: &StreamId) {
        let mut state = self.shared.state();
        state.outbox.forget(id);
        state.last.remove(id);
        drop(state);
        for lane in self.lanes.iter() {
            lane.forget(id);
        }
        self.shared.feed.forget(id);
    }

    /// How many camera streams are remembered.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        let state = self.shared.state();
        state.outbox.remembered().max(state.last.len())
    }

    /// When a camera stream's last event was written.
    pub(crate) fn last_published(&self, id: &StreamId) -> Option<Instant> {
        let state = self.shared.state();
        state.last.get(id).and_then(|last| last.published_at)
    }

    /// What a camera stream's last event told, whether the hub was there to take it or not.
    pub(crate) fn last_seen(&self, id: &StreamId) -> Option<LastSeen> {
        let state = self.shared.state();
        let inferred = &state.last.get(id)?.frame.as_ref()?.inferred;
        let mut objects = BTreeMap::new();
        for object in &inferred.objects {
            *objects.entry(Arc::clone(&object.label)).or_insert(0) += 1;
        }
        Some(LastSeen {
            size: inferred.size,
            objects,
        })
    }
}

impl PublisherTask {
    /// Takes no more frames, goes on sending what waits for at most `deadline`, counts the rest as dropped, and then leaves the
    /// hub by `leave`. An event that is being written at that moment may be on the socket already: it is counted by what
    /// the sink says of it, which it has to do once the hub was left.
    pub(crate) async fn shutdown(mut self, deadline: Duration, leave: impl Future<Output = ()>) {
        self.shared.state().phase = Phase::Draining;
        self.shared.wake.notify_one();
        let ended = tokio::time::timeout(deadline, &mut self.task).await.is_ok();
        let waiting: Vec<_> = {
            let mut state = self.shared.state();
            std::iter::from_fn(|| state.outbox.pop()).collect()
        };
        for outgoing in waiting {
            match outgoing {
                OutgoingEvent::Status(..) => {}
                OutgoingEvent::Detections(numbered) => {
                    let id = &numbered.inferred.id;
                    self.shared.dropped(id, EventDrop::HubDisconnected);
                    self.shared
                        .end_trace(&numbered, None, Some(EventDrop::HubDisconnected));
                }
                OutgoingEvent::Track(numbered) => self
                    .shared
                    .track_settled(&numbered.event, Err(EventDrop::HubDisconnected)),
            }
        }
        leave.await;
        if !ended
            && tokio::time::timeout(SETTLE_LIMIT, &mut self.task)
                .await
                .is_err()
        {
            self.task.abort();
            // The task must have ended, or it could still publish what is counted as dropped below.
            let _ = (&mut self.task).await;
        }
        let in_flight = self.shared.state().in_flight.take();
        match in_flight {
            None | Some(InFlight::Status(_)) => {}
            Some(InFlight::Detections(id)) => {
                self.shared.dropped(&id, EventDrop::HubDisconnected);
            }
            Some(InFlight::Track(event)) => self
                .shared
                .track_settled(&event, Err(EventDrop::HubDisconnected)),
        }
    }
}

impl SharedOutbox {
    fn state(&self) -> MutexGuard<'_, SendState> {
        self.state.lock()
    }

    /// Whether an event of this stream may enter the outbox.
    fn admits(&self, id: &StreamId) -> bool {
        let share = self.share.get();
        share.is_none_or(|share| share.admits(&id.twin_id))
    }

    /// Whether an event of this stream may leave at this moment.
    fn may_publish(&self, id: &StreamId) -> bool {
        let share = self.share.get();
        share.is_none_or(|share| share.may_publish(&id.twin_id))
    }

    /// Whether this node tells how the camera is.
    fn tells(&self, id: &StreamId) -> bool {
        let share = self.share.get();
        share.is_none_or(|share| share.tells(&id.twin_id))
    }

    fn dropped(&self, id: &StreamId, reason: EventDrop) {
        self.metrics.stream(id).event_dropped(reason);
    }

    fn track_settled(&self, event: &TrackEvent, result: Result<(), EventDrop>) {
        let stream = self.metrics.stream(&event.id);
        stream.tracks.event_settled(0, event.event_type(), result);
    }

    /// Hands over the trace of a frame that is sampled. `event` is the reading of the clocks that its event was made with.
    fn end_trace(
        &self,
        numbered: &NumberedFrame,
        event: Option<&WallClock>,
        dropped: Option<EventDrop>,
    ) {
        #[cfg(feature = "otlp")]
        if let (Some(tracer), Some(context)) = (&self.tracer, numbered.inferred.trace) {
            let now = WallClock::read();
            let end = super::trace::TraceEnd {
                at: now.instant(),
                event_at: event.map(WallClock::instant),
                dropped,
            };
            // The times of the event and those of its trace are of one reading.
            let clock = event.unwrap_or(&now);
            tracer.submit(super::trace::frame_trace(context, numbered, end, clock));
        }
        #[cfg(not(feature = "otlp"))]
        let _ = (numbered, event, dropped);
    }

    /// Waits for something to send. `None` means that all was sent and nothing more is taken.
    async fn next(&self, heartbeat: Option<&Heartbeat>) -> Option<OutgoingEvent> {
        loop {
            {
                let mut state = self.state();
                if let Some(outgoing) = state.outbox.pop() {
                    state.in_flight = match &outgoing {
                        OutgoingEvent::Status(status, _) => {
                            Some(InFlight::Status(status.id.clone()))
                        }
                        OutgoingEvent::Detections(numbered) => {
                            Some(InFlight::Detections(numbered.inferred.id.clone()))
                        }
                        OutgoingEvent::Track(numbered) => {
                            Some(InFlight::Track(Arc::clone(&numbered.event)))
                        }
                    };
                    return Some(outgoing);
                }
                if state.phase == Phase::Draining {
                    return None;
                }
            }
            if let Some(heartbeat) = heartbeat {
                heartbeat.beat(Instant::now());
            }
            // Whether it was woken or the time has passed, the loop looks at the outbox again and beats.
            let _ = tokio::time::timeout(HEARTBEAT_EVERY, self.wake.notified()).await;
        }
    }

    fn written(&self, numbered: NumberedFrame, result: Result<(), HubAway>) {
        let inferred = &numbered.inferred;
        let metrics = self.metrics.stream(&inferred.id);
        let now = Instant::now();
        let is_published = result.is_ok();
        if is_published {
            metrics.events_published.inc();
            let publish = now.saturating_duration_since(inferred.finished_at);
            metrics.stage(Stage::Publish, publish);
            let age = now.saturating_duration_since(inferred.timing.received_at);
            metrics.published_at_age(age, now);
        } else {
            metrics.event_dropped(EventDrop::HubDisconnected);
        }
        let mut state = self.state();
        state.in_flight = None;
        let last = state.last.entry(inferred.id.clone()).or_default();
        last.published_at = is_published.then_some(now).or(last.published_at);
        last.frame = Some(numbered);
    }

    fn track_written(&self, event: &TrackEvent, result: Result<(), HubAway>) {
        if result.is_ok() {
            let mut state = self.state();
            let last = state.last.entry(event.id.clone()).or_default();
            last.published_at = Some(Instant::now());
        }
        self.track_settled(event, result.map_err(|HubAway| EventDrop::HubDisconnected));
    }
}

async fn run<S: EventSink>(mut sink: S, shared: Arc<SharedOutbox>, heartbeat: Option<Heartbeat>) {
    while let Some(outgoing) = shared.next(heartbeat.as_ref()).await {
        if let Some(heartbeat) = &heartbeat {
            heartbeat.beat(Instant::now());
        }
        let clock = WallClock::read();
        match outgoing {
            OutgoingEvent::Status(status, _)
                if status.state != CameraState::Removed && !shared.tells(&status.id) =>
            {
                // It is kept, and told once the camera is this node's.
                shared.state().in_flight = None;
            }
            OutgoingEvent::Detections(numbered) if !shared.may_publish(&numbered.inferred.id) => {
                shared.end_trace(&numbered, None, Some(EventDrop::NotHeld));
                shared.dropped(&numbered.inferred.id, EventDrop::NotHeld);
                shared.state().in_flight = None;
            }
            OutgoingEvent::Track(numbered) if !shared.may_publish(&numbered.event.id) => {
                shared.track_settled(&numbered.event, Err(EventDrop::NotHeld));
                shared.state().in_flight = None;
            }
            OutgoingEvent::Status(status, _) => {
                let data = to_json(&status.event(&clock));
                shared.feed.status(&status, to_text(&data), &clock);
                let result = sink.emit(CAMERA_STATUS, data).await;
                let mut state = shared.state();
                state.in_flight = None;
                if result.is_ok() {
                    state.outbox.status_sent(&status);
                }
            }
            OutgoingEvent::Detections(numbered) => {
                let data = to_json(&numbered.inferred.event(
                    shared.feed.run_id(),
                    numbered.sequence,
                    &clock,
                ));
                let id = &numbered.inferred.id;
                shared
                    .feed
                    .detections(id, || to_text(&data), clock.instant());
                let result = sink.emit(DETECTIONS, data).await;
                let dropped = result.err().map(|HubAway| EventDrop::HubDisconnected);
                shared.end_trace(&numbered, Some(&clock), dropped);
                shared.written(numbered, result);
            }
            OutgoingEvent::Track(NumberedTrackEvent { sequence, event }) => {
                let data = to_json(&event.json(shared.feed.run_id(), sequence, &clock));
                let event_type = event.event_type().as_str();
                shared
                    .feed
                    .track(event_type, &event.id, || to_text(&data), clock.instant());
                let result = sink.emit(event_type, data).await;
                shared.state().in_flight = None;
                shared.track_written(&event, result);
            }
        }
    }
}

pub(super) fn to_json(event: &impl serde::Serialize) -> Value {
    serde_json::to_value(event).expect("events serialise, because their keys are texts")
}

fn to_text(event: &Value) -> Vec<u8> {
    serde_json::to_vec(event).expect("a JSON value serialises")
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
