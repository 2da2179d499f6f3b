//! What waits for a sink beside the hub. The publisher puts every event into each lane at the moment at which it enters the hub's
//! outbox, with the same number; the sink's own task takes it out and says what became of it. A sink that is away or slow
//! fills its own lane and harms nobody else.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, mpsc};

use super::event::{CAMERA_STATUS, CameraStatus, DETECTIONS, Inferred};
pub use super::observed::{Observed, ObservedFrame};
use super::outbox::{EventOutbox, NumberedFrame, OutgoingEvent};
use super::publisher::to_json;
pub use super::sink_event::SinkEvent;
use super::sink_event::{EventsInHand, kind_of};
use super::track_event::TrackEvent;
use super::track_queue::NumberedTrackEvent;
use crate::clock::WallClock;
use crate::config::EventKind;
use crate::shard::Share;
use crate::telemetry::ledger::EventDrop;
use crate::telemetry::metrics::{Metrics, SinkMetrics, SinkResult};
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::CameraState;

/// So many events of inferred frames may wait for a sink. They are for now: who comes back after a while wants the newest.
const FRAMES: usize = 64;

/// So many observations may wait for whoever taps a lane. They are taken at once, so that this many never wait in practice; a frame
/// that finds no place is not observed.
const OBSERVATIONS: usize = 1024;

/// The way to one sink. Clones share it: the publisher has one, and the sink's task.
#[derive(Debug, Clone)]
pub struct SinkLane {
    shared: Arc<SharedLane>,
}

#[derive(Debug)]
struct SharedLane {
    /// Which of the node's sinks it is.
    index: usize,
    /// The events that the sink gets.
    events: Vec<EventKind>,
    run_id: Arc<str>,
    metrics: Arc<Metrics>,
    state: Mutex<LaneState>,
    wake: Notify,
    /// Where what passes is told, too.
    tap: Option<mpsc::Sender<Observed>>,
    /// Wakes who waits for the end.
    closing: Notify,
    /// Says which cameras this node publishes. Without one it publishes all.
    share: OnceLock<Share>,
}

#[derive(Debug)]
struct LaneState {
    outbox: EventOutbox,
    /// False once the node stops. What waits can still be taken.
    open: bool,
    /// The events that were taken out and not settled yet.
    in_hand: EventsInHand,
}

impl SinkLane {
    /// A lane to the sink of this index, which gets events of these kinds.
    pub fn new(index: usize, events: Vec<EventKind>, run_id: &str, metrics: Arc<Metrics>) -> Self {
        Self::with_tap(index, events, run_id, metrics, None)
    }

    /// A lane like that of [`new`](Self::new), and all that passes it.
    pub fn tapped(
        index: usize,
        events: Vec<EventKind>,
        run_id: &str,
        metrics: Arc<Metrics>,
    ) -> (Self, mpsc::Receiver<Observed>) {
        let (sender, observed) = mpsc::channel(OBSERVATIONS);
        let lane = Self::with_tap(index, events, run_id, metrics, Some(sender));
        (lane, observed)
    }

    fn with_tap(
        index: usize,
        events: Vec<EventKind>,
        run_id: &str,
        metrics: Arc<Metrics>,
        tap: Option<mpsc::Sender<Observed>>,
    ) -> Self {
        Self {
            shared: Arc::new(SharedLane {
                index,
                events,
                run_id: run_id.into(),
                metrics,
                state: Mutex::new(LaneState {
                    outbox: EventOutbox::new(FRAMES),
                    open: true,
                    in_hand: EventsInHand::default(),
                }),
                wake: Notify::new(),
                tap,
                closing: Notify::new(),
                share: OnceLock::new(),
            }),
        }
    }

    /// Waits for an event to send. `None` means that all was taken and that the node stops.
    pub async fn next(&self) -> Option<SinkEvent> {
        loop {
            // Made before the outbox is looked at, so that what comes in between wakes it.
            let woken = self.shared.wake.notified();
            let next = {
                let mut state = self.shared.state.lock();
                let next = state.outbox.pop();
                if next.is_none() && !state.open {
                    return None;
                }
                // With the same lock, so that at no moment it neither waits nor is in hand.
                next.map(|outgoing| SinkEvent::new(outgoing).taken(&state.in_hand))
            };
            match next {
                Some(event) if self.may_publish(&event) => return Some(event),
                // It became another node's while it waited. Its state is kept.
                Some(event) if event.status().is_some() => {}
                Some(event) => self.settled(event, Err(EventDrop::NotHeld)),
                None => woken.await,
            }
        }
    }

    /// Whether an event may leave at this moment. A sink that holds one back asks again before it sends it.
    pub(crate) fn may_publish(&self, event: &SinkEvent) -> bool {
        let Some(share) = self.shared.share.get() else {
            return true;
        };
        let twin_id = &event.stream().twin_id;
        match event.status() {
            Some(status) => status.state == CameraState::Removed || share.tells(twin_id),
            None => share.may_publish(twin_id),
        }
    }

    /// The event's JSON as it is written at the moment that `clock` was read: the same as for the hub.
    pub fn json(&self, event: &SinkEvent, clock: &WallClock) -> Value {
        match &event.outgoing {
            OutgoingEvent::Status(status, _) => to_json(&status.event(clock)),
            OutgoingEvent::Detections(numbered) => to_json(&numbered.inferred.event(
                &self.shared.run_id,
                numbered.sequence,
                clock,
            )),
            OutgoingEvent::Track(numbered) => to_json(&numbered.event.json(
                &self.shared.run_id,
                numbered.sequence,
                clock,
            )),
        }
    }

    /// Counts what became of an event.
    pub fn settled(&self, event: SinkEvent, result: Result<(), EventDrop>) {
        match result {
            Ok(()) => self
                .metrics()
                .event(event.event_type(), SinkResult::Published),
            Err(reason) => self.dropped(event.event_type(), reason),
        }
        match event.outgoing {
            OutgoingEvent::Status(status, _) => {
                // Who refuses a state has heard it, too.
                if matches!(result, Ok(()) | Err(EventDrop::Refused)) {
                    self.shared.state.lock().outbox.status_sent(&status);
                }
            }
            OutgoingEvent::Detections(numbered) => {
                self.count(&numbered.inferred.id, result);
            }
            OutgoingEvent::Track(numbered) => self.count_track(&numbered.event, result),
        }
    }

    /// Sends the current state of every camera stream again, for a sink that has come back.
    pub fn resend_statuses(&self) {
        self.shared
            .state
            .lock()
            .outbox
            .resend_statuses(Instant::now());
        self.shared.wake.notify_one();
    }

    /// Takes nothing more, and gives what still waits to `next`. The node calls it when it stops.
    pub fn close(&self) {
        self.shared.state.lock().open = false;
        self.shared.wake.notify_one();
        self.shared.closing.notify_waiters();
    }

    /// True once the node stops.
    pub fn is_closed(&self) -> bool {
        !self.shared.state.lock().open
    }

    /// Waits until the node stops, and resolves at once if it does so already.
    pub async fn closed(&self) {
        // Made before the state is looked at, so that an end in between wakes it.
        let woken = self.shared.closing.notified();
        if self.shared.state.lock().open {
            woken.await;
        }
    }

    /// Counts all that waits as dropped. The sink's task calls it when it may take no more time.
    pub fn abandon(&self, reason: EventDrop) {
        loop {
            let Some(outgoing) = self.shared.state.lock().outbox.pop() else {
                return;
            };
            self.settled(SinkEvent::new(outgoing), Err(reason));
        }
    }

    /// The sink's own metrics.
    pub fn metrics(&self) -> &SinkMetrics {
        self.shared.metrics.sink(self.shared.index)
    }

    /// Takes in an inferred frame with the number that it has for the hub.
    pub(crate) fn offer(&self, sequence: u64, inferred: &Arc<Inferred>) {
        let is_wanted = self.shared.events.contains(&EventKind::Detections);
        let mut state = self.shared.state.lock();
        if !is_wanted || !state.open {
            drop(state);
            self.pass(inferred, EventDrop::SinkUnreachable);
            return;
        }
        let displaced = state.outbox.push_numbered(NumberedFrame {
            sequence,
            inferred: Arc::clone(inferred),
        });
        drop(state);
        self.tell_frame(inferred);
        if let Some(displaced) = displaced {
            let outgoing = OutgoingEvent::Detections(displaced);
            self.settled(SinkEvent::new(outgoing), Err(self.full()));
        }
        self.shared.wake.notify_one();
    }

    /// Lets an inferred frame pass of which the sink gets no event, for this reason or because it wants none of that kind.
    pub(crate) fn pass(&self, inferred: &Inferred, reason: EventDrop) {
        self.tell_frame(inferred);
        let reason = match self.shared.events.contains(&EventKind::Detections) {
            true => reason,
            false => EventDrop::Suppressed,
        };
        self.dropped(DETECTIONS, reason);
        self.count(&inferred.id, Err(reason));
    }

    /// Takes in an event of a track with the number that it has for the hub.
    pub(crate) fn offer_track(&self, sequence: u64, event: &Arc<TrackEvent>) {
        let is_wanted = self.shared.events.contains(&kind_of(event));
        let mut state = self.shared.state.lock();
        if !is_wanted || !state.open {
            drop(state);
            self.pass_track(event);
            return;
        }
        let displaced = state.outbox.push_track(NumberedTrackEvent {
            sequence,
            event: Arc::clone(event),
        });
        drop(state);
        if let Some(displaced) = displaced {
            let outgoing = OutgoingEvent::Track(displaced);
            self.settled(SinkEvent::new(outgoing), Err(self.full()));
        }
        self.shared.wake.notify_one();
    }

    /// Lets an event of a track pass that the sink does not get, because it wants none of that kind or because the node stops.
    pub(crate) fn pass_track(&self, event: &Arc<TrackEvent>) {
        let reason = match self.shared.events.contains(&kind_of(event)) {
            true => EventDrop::SinkUnreachable,
            false => EventDrop::Suppressed,
        };
        self.dropped(event.event_type().as_str(), reason);
        self.count_track(event, Err(reason));
    }

    /// Counts a frame that is not published, since its camera is another node's.
    pub(super) fn withhold(&self, inferred: &Inferred) {
        let reason = match self.shared.events.contains(&EventKind::Detections) {
            true => EventDrop::NotHeld,
            false => EventDrop::Suppressed,
        };
        self.dropped(DETECTIONS, reason);
        self.count(&inferred.id, Err(reason));
    }

    /// Counts an event of a track that is not published, since its camera is another node's.
    pub(super) fn withhold_track(&self, event: &TrackEvent) {
        let reason = match self.shared.events.contains(&kind_of(event)) {
            true => EventDrop::NotHeld,
            false => EventDrop::Suppressed,
        };
        self.dropped(event.event_type().as_str(), reason);
        self.count_track(event, Err(reason));
    }

    /// Publishes only what is this node's from now on.
    pub(crate) fn set_share(&self, share: Share) {
        let _ = self.shared.share.set(share);
    }

    /// Takes in the state of a camera that is another node's, which nobody is told.
    pub(super) fn keep_status(&self, status: &CameraStatus) {
        if self.shared.events.contains(&EventKind::CameraStatus) {
            let mut state = self.shared.state.lock();
            state.outbox.keep_status(status.clone());
        }
    }

    /// Takes in a state that is none of the stream's own.
    pub(super) fn tell_status(&self, status: &CameraStatus) {
        self.tell(|| Observed::Status(status.clone()));
        if self.shared.events.contains(&EventKind::CameraStatus) {
            let mut state = self.shared.state.lock();
            let is_displaced = state.outbox.tell_status(status.clone(), Instant::now());
            drop(state);
            if is_displaced {
                self.dropped(CAMERA_STATUS, self.full());
            }
            self.shared.wake.notify_one();
        }
    }

    /// True while anything of a camera waits, or is on its way in the sink's hands. What waits for a sink that is not reached does
    /// not count.
    pub(super) fn has_waiting(&self, twin_id: &str) -> bool {
        if self.metrics().trouble().is_some() {
            return false;
        }
        let state = self.shared.state.lock();
        state.in_hand.is_any_of(twin_id) || state.outbox.has_waiting(twin_id)
    }

    fn tell_frame(&self, inferred: &Inferred) {
        self.tell(|| Observed::Frame(ObservedFrame::of(inferred)));
    }

    /// Why an event makes room for a newer one: the sink is too slow, or it is not reached at all.
    fn full(&self) -> EventDrop {
        match self.metrics().trouble() {
            None => EventDrop::OutboxFull,
            Some(_) => EventDrop::SinkUnreachable,
        }
    }

    pub(crate) fn set_status(&self, status: &CameraStatus) {
        self.tell(|| Observed::Status(status.clone()));
        if self.shared.events.contains(&EventKind::CameraStatus) {
            let mut state = self.shared.state.lock();
            let is_displaced = state.outbox.set_status(status.clone(), Instant::now());
            drop(state);
            if is_displaced {
                self.dropped(CAMERA_STATUS, self.full());
            }
            self.shared.wake.notify_one();
        }
    }

    /// Counts the frames and the events of tracks of a camera stream that still wait as dropped.
    pub(super) fn let_go(&self, id: &StreamId) {
        let waiting = self.shared.state.lock().outbox.take_events_of(id);
        for outgoing in waiting {
            self.settled(SinkEvent::new(outgoing), Err(EventDrop::Stale));
        }
    }

    pub(super) fn rename(&self, id: &StreamId, name: &Arc<str>) {
        self.tell(|| Observed::Renamed(id.clone(), Arc::clone(name)));
        self.shared.state.lock().outbox.rename(id, name);
    }

    pub(super) fn is_due(&self, id: &StreamId) -> bool {
        self.shared.state.lock().outbox.is_due(id)
    }

    pub(super) fn forget(&self, id: &StreamId) {
        self.tell(|| Observed::Forgotten(id.clone()));
        self.shared.state.lock().outbox.forget(id);
    }

    fn tell(&self, observed: impl FnOnce() -> Observed) {
        if let Some(tap) = &self.shared.tap {
            let _ = tap.try_send(observed());
        }
    }

    /// Counts an event of this type as dropped, unless the sink was never meant to get it.
    fn dropped(&self, event_type: &str, reason: EventDrop) {
        if reason != EventDrop::Suppressed {
            self.metrics().event(event_type, SinkResult::of(reason));
        }
    }

    fn count(&self, id: &StreamId, result: Result<(), EventDrop>) {
        let stream = self.shared.metrics.stream(id);
        stream.sink_event(self.shared.index, result);
    }

    fn count_track(&self, event: &TrackEvent, result: Result<(), EventDrop>) {
        let stream = self.shared.metrics.stream(&event.id);
        // The hub comes before the other sinks.
        let sink = self.shared.index + 1;
        stream
            .tracks
            .event_settled(sink, event.event_type(), result);
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
pub(crate) mod tests;
