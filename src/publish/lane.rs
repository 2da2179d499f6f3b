//! What waits for a sink beside the hub. The publisher puts every event into each lane at the moment at which it enters the hub's
//! outbox, with the same number; the sink's own task takes it out and says what became of it. A sink that is away or slow
//! fills its own lane and harms nobody else.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, mpsc};

use super::event::{CAMERA_STATUS, CameraStatus, DETECTIONS, Inferred, SeenObject};
use super::outbox::{EventOutbox, NumberedFrame, OutgoingEvent};
use super::publisher::to_json;
use super::track_event::TrackEvent;
use super::track_queue::NumberedTrackEvent;
use crate::clock::WallClock;
use crate::config::EventKind;
use crate::shard::Share;
use crate::telemetry::ledger::EventDrop;
use crate::telemetry::metrics::{Metrics, SinkMetrics, SinkResult, TrackEventType};
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::CameraState;

/// So many events of inferred frames may wait for a sink. They are for now: who comes back after a while wants the newest.
const FRAMES: usize = 64;

/// So many observations may wait for whoever taps a lane. They are taken at once, so that this many never wait in practice; a frame
/// that finds no place is not observed.
const OBSERVATIONS: usize = 1024;

/// What passes a lane, whether the sink takes it or not: for a sink that tells more than single events. Frames in which nothing was
/// seen are among it, even where they make no event.
#[derive(Debug, Clone)]
pub enum Observed {
    /// A frame went through the model.
    Frame(ObservedFrame),
    /// A camera stream came into a state.
    Status(CameraStatus),
    /// A camera stream has another name for people.
    Renamed(StreamId, Arc<str>),
    /// A camera stream was removed long ago.
    Forgotten(StreamId),
}

/// What was seen in a frame.
#[derive(Debug, Clone)]
pub struct ObservedFrame {
    /// The camera stream.
    pub id: StreamId,
    /// The camera's name for people.
    pub name: Arc<str>,
    /// When the frame came.
    pub at: Instant,
    /// Under the motion gate, so much time may pass until the next one although the camera is seen: what was seen holds as long.
    pub max_skip: Option<Duration>,
    /// Label and score of each object; where things are followed, of each whose track is confirmed.
    pub objects: Vec<(Arc<str>, f32)>,
}

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
    /// The camera of each event that was taken out and not settled yet.
    in_hand: Vec<Arc<str>>,
}

/// Says of an event that the sink has it in hand, as long as it is there.
#[derive(Debug)]
struct InHand {
    lane: SinkLane,
    twin_id: Arc<str>,
}

impl Drop for InHand {
    fn drop(&mut self) {
        let in_hand = &mut self.lane.shared.state.lock().in_hand;
        if let Some(at) = in_hand.iter().position(|twin_id| *twin_id == self.twin_id) {
            in_hand.swap_remove(at);
        }
    }
}

/// An event on its way to a sink.
#[derive(Debug)]
pub struct SinkEvent {
    outgoing: OutgoingEvent,
    /// There once the sink has taken it.
    _in_hand: Option<InHand>,
}

impl SinkEvent {
    fn new(outgoing: OutgoingEvent) -> Self {
        Self {
            outgoing,
            _in_hand: None,
        }
    }

    /// What kind of event it is.
    pub fn kind(&self) -> EventKind {
        match &self.outgoing {
            OutgoingEvent::Status(..) => EventKind::CameraStatus,
            OutgoingEvent::Detections(_) => EventKind::Detections,
            OutgoingEvent::Track(numbered) => kind_of(&numbered.event),
        }
    }

    /// The event's type, as the hub has it.
    pub fn event_type(&self) -> &'static str {
        match &self.outgoing {
            OutgoingEvent::Status(..) => CAMERA_STATUS,
            OutgoingEvent::Detections(_) => DETECTIONS,
            OutgoingEvent::Track(numbered) => numbered.event.event_type().as_str(),
        }
    }

    /// The camera stream that it is about.
    pub fn stream(&self) -> &StreamId {
        match &self.outgoing {
            OutgoingEvent::Status(status, _) => &status.id,
            OutgoingEvent::Detections(numbered) => &numbered.inferred.id,
            OutgoingEvent::Track(numbered) => &numbered.event.id,
        }
    }

    /// What was seen, if it is about a frame.
    pub fn inferred(&self) -> Option<&Inferred> {
        match &self.outgoing {
            OutgoingEvent::Status(..) | OutgoingEvent::Track(_) => None,
            OutgoingEvent::Detections(numbered) => Some(&numbered.inferred),
        }
    }

    /// The state that a camera is in now, if it is about that.
    pub fn status(&self) -> Option<&CameraStatus> {
        match &self.outgoing {
            OutgoingEvent::Status(status, _) => Some(status),
            OutgoingEvent::Detections(_) | OutgoingEvent::Track(_) => None,
        }
    }

    /// What there is to tell of a track, if it is about one.
    pub fn track_event(&self) -> Option<&TrackEvent> {
        match &self.outgoing {
            OutgoingEvent::Track(numbered) => Some(&numbered.event),
            OutgoingEvent::Status(..) | OutgoingEvent::Detections(_) => None,
        }
    }

    /// How old it is. A frame's age counts from its arrival. That of a state counts from the moment at which it was to be told,
    /// since a state that is told again is as true as when it changed.
    pub fn age(&self, now: Instant) -> Duration {
        let since = match &self.outgoing {
            OutgoingEvent::Status(_, since) => *since,
            OutgoingEvent::Detections(numbered) => numbered.inferred.timing.received_at,
            OutgoingEvent::Track(numbered) => numbered.event.at,
        };
        now.saturating_duration_since(since)
    }
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
                    in_hand: Vec::new(),
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
                let next = state.outbox.pop().map(SinkEvent::new);
                if next.is_none() && !state.open {
                    return None;
                }
                if let Some(event) = &next {
                    // With the same lock, so that at no moment it neither waits nor is in hand.
                    state.in_hand.push(Arc::clone(&event.stream().twin_id));
                }
                next
            };
            match next.map(|event| self.in_hand(event)) {
                Some(event) if self.may_publish(&event) => return Some(event),
                // It became another node's while it waited. Its state is kept.
                Some(event) if event.status().is_some() => {}
                Some(event) => self.settled(event, Err(EventDrop::NotHeld)),
                None => woken.await,
            }
        }
    }

    /// The same event, which is noted already as one that was taken out.
    fn in_hand(&self, event: SinkEvent) -> SinkEvent {
        let in_hand = InHand {
            lane: self.clone(),
            twin_id: Arc::clone(&event.stream().twin_id),
        };
        SinkEvent {
            _in_hand: Some(in_hand),
            ..event
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
        state.in_hand.iter().any(|in_hand| **in_hand == *twin_id)
            || state.outbox.has_waiting(twin_id)
    }

    fn tell_frame(&self, inferred: &Inferred) {
        self.tell(|| {
            // Where things are followed, what was seen once is none yet.
            let is_there = |object: &&SeenObject| {
                let following = object.following.as_ref();
                following.is_none_or(|following| following.id.is_some())
            };
            let objects = inferred.objects.iter().filter(is_there);
            Observed::Frame(ObservedFrame {
                id: inferred.id.clone(),
                name: Arc::clone(&inferred.name),
                at: inferred.timing.received_at,
                max_skip: inferred.max_skip,
                objects: objects
                    .map(|object| (Arc::clone(&object.label), object.score))
                    .collect(),
            })
        });
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

/// The kind of an event of a track.
fn kind_of(event: &TrackEvent) -> EventKind {
    match event.event_type() {
        TrackEventType::Track => EventKind::Track,
        TrackEventType::LineCrossed => EventKind::LineCrossed,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::event::tests::inferred;
    use super::*;
    use twinsight_client::telemetry::CameraState;

    fn lane(events: &[EventKind]) -> (SinkLane, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::with_sinks(["home".to_owned()]));
        let lane = SinkLane::new(0, events.to_vec(), "8f1c", Arc::clone(&metrics));
        (lane, metrics)
    }

    pub(crate) fn offer(lane: &SinkLane, metrics: &Metrics, sequence: Option<u64>) {
        let frame = inferred("a", Instant::now());
        let stream = metrics.stream(&frame.id);
        // The other parts of the ledger are not looked at here.
        stream.access_units_received.inc();
        stream.frames_decoded.inc();
        stream.frames_inferred.inc();
        stream.events_published.inc();
        match sequence {
            Some(sequence) => lane.offer(sequence, &frame.into()),
            None => lane.pass(&frame, EventDrop::Suppressed),
        }
    }

    fn status(state: CameraState) -> CameraStatus {
        CameraStatus {
            id: StreamId::new("a", "default"),
            name: "a".into(),
            state,
            since: Instant::now(),
            reason: None,
            attempt: 1,
        }
    }

    pub(crate) fn ledger(metrics: &Metrics) -> crate::telemetry::metrics::LedgerReading {
        metrics.stream(&StreamId::new("a", "default")).ledger()
    }

    #[tokio::test]
    async fn an_event_has_the_number_and_the_json_that_the_hub_gets() {
        let (lane, metrics) = lane(EventKind::ALL);
        offer(&lane, &metrics, Some(1834));
        assert_eq!(ledger(&metrics).sink_events_in_flight, 1);
        let event = lane.next().await.unwrap();
        assert_eq!(event.kind(), EventKind::Detections);
        let json = lane.json(&event, &WallClock::read());
        assert_eq!(
            (&json["runId"], &json["sequence"]),
            (&"8f1c".into(), &1834.into())
        );
        lane.settled(event, Ok(()));
        assert!(ledger(&metrics).balances());
        let text = metrics.encode();
        for line in [
            "twinsight_events_published_total{camera=\"a\",sink=\"home\",stream=\"default\"} 1",
            "twinsight_sink_events_total{result=\"published\",sink=\"home\",type=\"detections\"} 1",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }

    #[tokio::test]
    async fn a_sink_that_takes_nothing_loses_the_oldest_frames_and_counts_them() {
        let (lane, metrics) = lane(EventKind::ALL);
        for n in 0..FRAMES as u64 + 3 {
            offer(&lane, &metrics, Some(n + 1));
        }
        assert_eq!(ledger(&metrics).sink_events_in_flight, 64);
        lane.close();
        let first = lane.next().await.unwrap();
        assert_eq!(lane.json(&first, &WallClock::read())["sequence"], 4);
        lane.settled(first, Err(EventDrop::Stale));
        lane.abandon(EventDrop::SinkUnreachable);
        assert!(lane.next().await.is_none());
        assert!(ledger(&metrics).balances());
        // What comes after the end is counted too.
        offer(&lane, &metrics, Some(100));
        assert!(ledger(&metrics).balances());
    }

    #[tokio::test]
    async fn that_a_camera_was_removed_is_due_until_the_sink_took_or_refused_it() {
        let (lane, _metrics) = lane(EventKind::ALL);
        let id = StreamId::new("a", "default");
        for (result, is_due) in [
            (Err(EventDrop::SinkUnreachable), true),
            (Err(EventDrop::Refused), false),
            (Ok(()), false),
        ] {
            lane.set_status(&status(CameraState::Removed));
            let event = lane.next().await.unwrap();
            lane.settled(event, result);
            assert_eq!(lane.is_due(&id), is_due, "{result:?}");
        }
    }

    #[tokio::test]
    async fn what_waits_of_a_camera_that_is_gone_is_let_go_and_nothing_else() {
        let (lane, metrics) = lane(EventKind::ALL);
        for n in 1..=3 {
            offer(&lane, &metrics, Some(n));
        }
        let other = inferred("b", Instant::now());
        metrics.stream(&other.id).frames_inferred.inc();
        lane.offer(1, &other.into());
        lane.let_go(&StreamId::new("a", "default"));
        assert!(ledger(&metrics).balances());
        let text = metrics.encode();
        let dropped = "twinsight_events_dropped_total{camera=\"a\",reason=\"stale\",sink=\"home\",stream=\"default\"} 3";
        assert!(text.contains(dropped), "{text}");
        assert_eq!(&*lane.next().await.unwrap().stream().twin_id, "b");
    }

    #[tokio::test]
    async fn what_the_sink_does_not_get_is_counted_for_events_of_all_types() {
        let (lane, metrics) = lane(EventKind::ALL);
        for _ in 1..=10 {
            lane.set_status(&status(CameraState::Connecting));
        }
        lane.close();
        offer(&lane, &metrics, Some(1));
        let frame = inferred("a", Instant::now());
        metrics.stream(&frame.id).frames_inferred.inc();
        metrics.stream(&frame.id).events_published.inc();
        lane.pass(&frame, EventDrop::SinkUnreachable);
        assert_eq!(ledger(&metrics).sink_events_in_flight, 0);
        let text = metrics.encode();
        for line in [
            "twinsight_sink_events_total{result=\"outbox_full\",sink=\"home\",type=\"cameraStatus\"} 2",
            "twinsight_sink_events_total{result=\"sink_unreachable\",sink=\"home\",type=\"detections\"} 2",
        ] {
            assert!(text.contains(line), "{line}");
        }
        assert_eq!(lane.metrics().dropped(), 4);
    }

    #[tokio::test]
    async fn whoever_taps_a_lane_sees_frames_that_make_no_event_and_all_states() {
        let metrics = Arc::new(Metrics::with_sinks(["home".to_owned()]));
        let (lane, mut observed) = SinkLane::tapped(0, vec![], "8f1c", Arc::clone(&metrics));
        offer(&lane, &metrics, None);
        let Some(Observed::Frame(frame)) = observed.recv().await else {
            panic!("no frame");
        };
        assert_eq!(frame.objects, [("person".into(), 0.93)]);
        let id = StreamId::new("a", "default");
        lane.rename(&id, &"Yard".into());
        assert!(matches!(observed.recv().await, Some(Observed::Renamed(..))));
        lane.forget(&id);
        assert!(matches!(
            observed.recv().await,
            Some(Observed::Forgotten(_))
        ));
        // Nobody takes it, and nothing waits for that.
        for _ in 0..2 * OBSERVATIONS {
            offer(&lane, &metrics, None);
        }
        assert!(ledger(&metrics).balances());
    }

    #[tokio::test]
    async fn a_sink_gets_what_it_is_configured_for_and_the_rest_is_suppressed() {
        let (lane, metrics) = lane(&[EventKind::CameraStatus]);
        offer(&lane, &metrics, Some(1));
        offer(&lane, &metrics, None);
        assert!(ledger(&metrics).balances());
        lane.set_status(&status(CameraState::Receiving));
        let event = lane.next().await.unwrap();
        assert_eq!(event.event_type(), "cameraStatus");
        lane.settled(event, Err(EventDrop::SinkUnreachable));
        lane.resend_statuses();
        assert!(lane.next().await.unwrap().status().is_some());
    }
}
