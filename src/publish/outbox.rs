//! What waits for the hub's socket. Inferred frames, events of tracks and states of cameras come in from the stages, and the publisher
//! takes them out. When it is full, the oldest frame is dropped, and never an event of a track for it: those have bounds of their own
//! (`track_queue`). States are kept, but of a camera stream that changes faster than the hub takes it only the last few are.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::event::{CameraStatus, Inferred};
use super::track_event::TrackEvent;
use super::track_queue::{NumberedTrackEvent, TrackQueue};
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::CameraState;

/// So many changes of one camera stream's state may wait. The newest is always among them.
const CHANGES: usize = 8;

/// Frames and states on their way to the hub, without a socket or a clock.
#[derive(Debug)]
pub(super) struct EventOutbox {
    capacity: usize,
    /// Each with its place in the order of all that waits.
    frames: VecDeque<(u64, NumberedFrame)>,
    tracks: TrackQueue,
    /// The place of the last event in that order.
    order: u64,
    /// The number of each stream's last event.
    sequences: HashMap<StreamId, u64>,
    /// Skipped frames of streams whose last frames were suppressed: they belong to the next event.
    carried: HashMap<StreamId, u64>,
    /// The current state of each stream, to be sent again when the hub returns.
    statuses: BTreeMap<StreamId, CameraStatus>,
    /// States that wait to be sent, the oldest first, each with the moment since when.
    due: VecDeque<(CameraStatus, Instant)>,
}

/// An inferred frame with its stream's number.
#[derive(Debug)]
pub(super) struct NumberedFrame {
    /// Counts the events of the stream from 1 in each run, without gaps.
    pub(super) sequence: u64,
    /// Shared, since the same frame waits for each sink too.
    pub(super) inferred: Arc<Inferred>,
}

/// What leaves the outbox next.
#[derive(Debug)]
pub(super) enum OutgoingEvent {
    /// A state, which always goes before frames, and since when it has waited. One that is told again waits since that was
    /// decided, however old it is.
    Status(CameraStatus, Instant),
    /// The frame that has waited the longest.
    Detections(NumberedFrame),
    /// The event of a track that has waited the longest, and longer than that frame.
    Track(NumberedTrackEvent),
}

impl EventOutbox {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            frames: VecDeque::with_capacity(capacity.max(1)),
            tracks: TrackQueue::default(),
            order: 0,
            sequences: HashMap::new(),
            carried: HashMap::new(),
            statuses: BTreeMap::new(),
            due: VecDeque::new(),
        }
    }

    /// Numbers a frame and takes it in. Gives its number. When the outbox is full, the oldest frame makes room and is given too.
    #[cfg(test)]
    #[must_use = "a displaced frame has to be counted"]
    pub(super) fn push(&mut self, mut inferred: Inferred) -> (u64, Option<NumberedFrame>) {
        let sequence = self.number(&mut inferred);
        let displaced = self.push_numbered(NumberedFrame {
            sequence,
            inferred: inferred.into(),
        });
        (sequence, displaced)
    }

    /// Gives a frame its number, and the frames that were skipped before it.
    pub(super) fn number(&mut self, inferred: &mut Inferred) -> u64 {
        inferred.skipped_frames += self.carried.remove(&inferred.id).unwrap_or(0);
        self.next_sequence(&inferred.id)
    }

    /// Gives an event of a track its number.
    pub(super) fn number_track(&mut self, event: &TrackEvent) -> u64 {
        self.next_sequence(&event.id)
    }

    fn next_sequence(&mut self, id: &StreamId) -> u64 {
        let sequence = self.sequences.entry(id.clone()).or_insert(0);
        *sequence += 1;
        *sequence
    }

    /// Takes in a frame that has its number already. When the outbox is full, the oldest frame makes room and is given.
    #[must_use = "a displaced frame has to be counted"]
    pub(super) fn push_numbered(&mut self, numbered: NumberedFrame) -> Option<NumberedFrame> {
        let displaced = if self.frames.len() == self.capacity {
            self.frames.pop_front()
        } else {
            None
        };
        self.order += 1;
        self.frames.push_back((self.order, numbered));
        displaced.map(|(_, numbered)| numbered)
    }

    /// Takes in an event of a track that has its number already. When there are too many of them, one makes room and is given.
    #[must_use = "a displaced event has to be counted"]
    pub(super) fn push_track(
        &mut self,
        numbered: NumberedTrackEvent,
    ) -> Option<NumberedTrackEvent> {
        self.order += 1;
        self.tracks.push(self.order, numbered)
    }

    /// Sends no event for a frame in which nothing was seen. The frames that were skipped before it count for the stream's
    /// next event.
    pub(super) fn suppress(&mut self, inferred: &Inferred) {
        *self.carried.entry(inferred.id.clone()).or_insert(0) += inferred.skipped_frames;
    }

    /// Takes in a state. True if an older one of the stream had to go for it.
    pub(super) fn set_status(&mut self, status: CameraStatus, now: Instant) -> bool {
        self.statuses.insert(status.id.clone(), status.clone());
        self.make_due(status, now)
    }

    /// Lets a state wait after all others. True if an older one of the stream had to go for it.
    fn make_due(&mut self, status: CameraStatus, now: Instant) -> bool {
        let of_stream = |(waiting, _): &(CameraStatus, Instant)| waiting.id == status.id;
        let is_full = self.due.iter().filter(|waiting| of_stream(waiting)).count() >= CHANGES;
        if is_full && let Some(oldest) = self.due.iter().position(of_stream) {
            self.due.remove(oldest);
        }
        self.due.push_back((status, now));
        is_full
    }

    /// Takes in the state of a camera that is another node's, which nobody is told. That it was removed from here may still have to
    /// be told, and of one that nobody was told of nothing is kept.
    pub(super) fn keep_status(&mut self, status: CameraStatus) {
        let is_removed = |status: &CameraStatus| status.state == CameraState::Removed;
        if !is_removed(&status) {
            self.statuses.insert(status.id.clone(), status);
        } else if !self.statuses.get(&status.id).is_some_and(is_removed) {
            self.statuses.remove(&status.id);
            self.carried.remove(&status.id);
        }
    }

    /// Sends a state that is none of the stream's own: where it was taken from here, its state is as it was. True if an older one of
    /// the stream had to go for it.
    pub(super) fn tell_status(&mut self, status: CameraStatus, now: Instant) -> bool {
        self.make_due(status, now)
    }

    /// The current states of the streams of a camera.
    pub(super) fn statuses_of(&self, twin_id: &str) -> Vec<CameraStatus> {
        let statuses = self.statuses.values();
        statuses
            .filter(|status| *status.id.twin_id == *twin_id)
            .cloned()
            .collect()
    }

    /// True while anything of a camera waits.
    pub(super) fn has_waiting(&self, twin_id: &str) -> bool {
        let of_camera = |id: &StreamId| *id.twin_id == *twin_id;
        self.due.iter().any(|(status, _)| of_camera(&status.id))
            || self.tracks.has_any(of_camera)
            || self
                .frames
                .iter()
                .any(|(_, numbered)| of_camera(&numbered.inferred.id))
    }

    /// Gives a camera stream another name for people. No event is sent for that alone.
    pub(super) fn rename(&mut self, id: &StreamId, name: &Arc<str>) {
        if let Some(status) = self.statuses.get_mut(id) {
            status.name = Arc::clone(name);
        }
    }

    /// Makes every camera stream's state due again, unless a change of it still waits: the last change is that state.
    pub(super) fn resend_statuses(&mut self, now: Instant) {
        for (id, status) in &self.statuses {
            if !self.due.iter().any(|(waiting, _)| waiting.id == *id) {
                self.due.push_back((status.clone(), now));
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<OutgoingEvent> {
        if let Some((status, since)) = self.due.pop_front() {
            return Some(OutgoingEvent::Status(status, since));
        }
        // The events of a stream leave in the order of their numbers.
        let frame = self.frames.front().map(|(order, _)| *order);
        match (frame, self.tracks.next_order()) {
            (Some(frame), Some(track)) if track < frame => self.tracks.pop(),
            (Some(_), _) => {
                let (_, numbered) = self.frames.pop_front()?;
                return Some(OutgoingEvent::Detections(numbered));
            }
            (None, _) => self.tracks.pop(),
        }
        .map(OutgoingEvent::Track)
    }

    /// Notes that a state was written. One that says `removed` is not sent again when the hub returns.
    pub(super) fn status_sent(&mut self, sent: &CameraStatus) {
        let is_removed = |status: &CameraStatus| status.state == CameraState::Removed;
        if self.statuses.get(&sent.id).is_some_and(is_removed)
            && !self.due.iter().any(|(waiting, _)| waiting.id == sent.id)
        {
            self.statuses.remove(&sent.id);
            self.carried.remove(&sent.id);
        }
    }

    /// True while a state of a camera stream is kept. That of a removed one is kept until the hub was told that it was.
    pub(super) fn is_due(&self, id: &StreamId) -> bool {
        self.statuses.contains_key(id)
    }

    /// Takes out what still waits of a camera stream, except its states.
    pub(super) fn take_events_of(&mut self, id: &StreamId) -> Vec<OutgoingEvent> {
        let frames = std::mem::take(&mut self.frames);
        let (of_stream, others) = frames
            .into_iter()
            .partition::<VecDeque<_>, _>(|(_, numbered)| numbered.inferred.id == *id);
        self.frames = others;
        let tracks = self.tracks.take_of(id).into_iter();
        let frames = of_stream.into_iter();
        frames
            .map(|(_, numbered)| OutgoingEvent::Detections(numbered))
            .chain(tracks.map(OutgoingEvent::Track))
            .collect()
    }

    /// Forgets a camera stream that was removed long ago, even if nobody took its last state. The caller makes sure that none
    /// of its frames waits. Another stream of this name counts from 1 again.
    pub(super) fn forget(&mut self, id: &StreamId) {
        self.sequences.remove(id);
        self.carried.remove(id);
        self.statuses.remove(id);
        self.due.retain(|(waiting, _)| waiting.id != *id);
    }

    /// How many camera streams are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.sequences
            .len()
            .max(self.carried.len())
            .max(self.statuses.len())
    }

    #[cfg(test)]
    pub(super) fn frames_waiting(&self) -> usize {
        self.frames.len()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.tracks.is_empty() && self.due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::inferred;
    use super::super::track_event::tests::track_event;
    use super::*;
    use crate::track::news::Happening;

    fn status(twin_id: &str, state: CameraState) -> CameraStatus {
        CameraStatus {
            id: StreamId::new(twin_id, "default"),
            name: twin_id.into(),
            state,
            since: Instant::now(),
            reason: None,
            attempt: 1,
        }
    }

    fn frame(twin_id: &str) -> Inferred {
        inferred(twin_id, Instant::now())
    }

    /// What comes out, as `camera:sequence` or `camera=state`.
    fn drain(outbox: &mut EventOutbox) -> Vec<String> {
        std::iter::from_fn(|| outbox.pop())
            .map(|outgoing| match outgoing {
                OutgoingEvent::Status(status, _) => {
                    format!("{}={}", status.id.twin_id, status.state)
                }
                OutgoingEvent::Detections(n) => format!("{}:{}", n.inferred.id.twin_id, n.sequence),
                OutgoingEvent::Track(n) => format!("{}#{}", n.event.id.twin_id, n.sequence),
            })
            .collect()
    }

    #[test]
    fn each_stream_counts_its_own_events_from_one() {
        let mut outbox = EventOutbox::new(8);
        for twin in ["a", "b", "a", "a", "b"] {
            assert!(outbox.push(frame(twin)).1.is_none());
        }
        assert_eq!(drain(&mut outbox), ["a:1", "b:1", "a:2", "a:3", "b:2"]);
    }

    #[test]
    fn events_of_tracks_keep_their_place_and_no_frame_displaces_them() {
        let mut outbox = EventOutbox::new(2);
        let track = |outbox: &mut EventOutbox, twin| {
            let event = track_event(twin, Happening::Start);
            let sequence = outbox.number_track(&event);
            let event = event.into();
            assert!(
                outbox
                    .push_track(NumberedTrackEvent { sequence, event })
                    .is_none()
            );
        };
        let _ = outbox.push(frame("a"));
        track(&mut outbox, "a");
        let _ = outbox.push(frame("a"));
        track(&mut outbox, "b");
        let _ = outbox.push(frame("a"));
        let _ = outbox.push(frame("a"));
        assert_eq!(drain(&mut outbox), ["a#2", "b#1", "a:4", "a:5"]);
    }

    #[test]
    fn a_new_name_is_told_with_the_next_state() {
        let mut outbox = EventOutbox::new(2);
        outbox.set_status(status("a", CameraState::Receiving), Instant::now());
        assert_eq!(drain(&mut outbox), ["a=receiving"]);
        outbox.rename(&StreamId::new("a", "default"), &"Front door".into());
        assert!(outbox.is_empty(), "a name is no change of the state");
        outbox.resend_statuses(Instant::now());
        match outbox.pop() {
            Some(OutgoingEvent::Status(status, _)) => assert_eq!(&*status.name, "Front door"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_full_outbox_gives_up_its_oldest_frame_and_leaves_a_gap() {
        let mut outbox = EventOutbox::new(2);
        assert!(outbox.push(frame("a")).1.is_none());
        assert!(outbox.push(frame("b")).1.is_none());
        let displaced = outbox.push(frame("b")).1.unwrap();
        assert_eq!(
            (&*displaced.inferred.id.twin_id, displaced.sequence),
            ("a", 1)
        );
        assert!(outbox.push(frame("a")).1.is_some());
        assert_eq!(drain(&mut outbox), ["b:2", "a:2"]);
    }

    #[test]
    fn states_go_first_and_are_never_displaced() {
        let mut outbox = EventOutbox::new(1);
        outbox.set_status(status("a", CameraState::Connecting), Instant::now());
        for _ in 0..5 {
            let _ = outbox.push(frame("a"));
        }
        outbox.set_status(status("b", CameraState::Rejected), Instant::now());
        assert_eq!(drain(&mut outbox), ["a=connecting", "b=rejected", "a:5"]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn every_change_of_state_is_told_in_order() {
        let mut outbox = EventOutbox::new(1);
        outbox.set_status(status("a", CameraState::Connecting), Instant::now());
        outbox.set_status(status("b", CameraState::Connecting), Instant::now());
        outbox.set_status(status("a", CameraState::Receiving), Instant::now());
        outbox.set_status(status("a", CameraState::Stalled), Instant::now());
        assert_eq!(
            drain(&mut outbox),
            ["a=connecting", "b=connecting", "a=receiving", "a=stalled"]
        );
    }

    #[test]
    fn of_a_camera_that_flaps_the_newest_changes_wait() {
        let mut outbox = EventOutbox::new(1);
        outbox.set_status(status("b", CameraState::Rejected), Instant::now());
        for _ in 0..100 {
            outbox.set_status(status("a", CameraState::Connecting), Instant::now());
            outbox.set_status(status("a", CameraState::Receiving), Instant::now());
        }
        let told = drain(&mut outbox);
        assert_eq!(told.len(), 1 + CHANGES);
        assert_eq!(
            (told[0].as_str(), told[CHANGES].as_str()),
            ("b=rejected", "a=receiving")
        );
    }

    #[test]
    fn of_a_camera_that_goes_to_and_fro_between_nodes_the_newest_changes_wait() {
        let mut outbox = EventOutbox::new(1);
        outbox.set_status(status("b", CameraState::Rejected), Instant::now());
        let mut displaced = 0;
        for _ in 0..100 {
            let removed = status("a", CameraState::Removed);
            displaced += usize::from(outbox.tell_status(removed, Instant::now()));
        }
        let told = drain(&mut outbox);
        assert_eq!((told.len(), displaced), (1 + CHANGES, 100 - CHANGES));
        assert_eq!(told[0], "b=rejected", "nothing of others goes for it");
    }

    #[test]
    fn after_the_hub_returns_every_state_is_due_once() {
        let mut outbox = EventOutbox::new(1);
        outbox.set_status(status("a", CameraState::Receiving), Instant::now());
        outbox.set_status(status("b", CameraState::Stalled), Instant::now());
        drain(&mut outbox);
        outbox.set_status(status("b", CameraState::Receiving), Instant::now());
        outbox.resend_statuses(Instant::now());
        outbox.resend_statuses(Instant::now());
        assert_eq!(drain(&mut outbox), ["b=receiving", "a=receiving"]);
    }

    #[test]
    fn a_state_that_is_told_again_has_waited_since_then_only() {
        let t = Instant::now();
        let mut outbox = EventOutbox::new(1);
        outbox.set_status(status("a", CameraState::Receiving), t);
        let later = t + std::time::Duration::from_secs(3600);
        let waited_since = |outbox: &mut EventOutbox| match outbox.pop() {
            Some(OutgoingEvent::Status(_, since)) => since,
            other => panic!("{other:?}"),
        };
        assert_eq!(waited_since(&mut outbox), t);
        outbox.resend_statuses(later);
        assert_eq!(waited_since(&mut outbox), later);
    }

    #[test]
    fn a_removed_camera_is_forgotten_once_told() {
        let mut outbox = EventOutbox::new(1);
        let removed = status("a", CameraState::Removed);
        outbox.set_status(removed.clone(), Instant::now());
        drain(&mut outbox);
        outbox.resend_statuses(Instant::now());
        assert_eq!(
            drain(&mut outbox),
            ["a=removed"],
            "not told yet: told again"
        );
        assert!(outbox.is_due(&removed.id));
        outbox.status_sent(&removed);
        assert!(!outbox.is_due(&removed.id));
        outbox.resend_statuses(Instant::now());
        assert!(outbox.is_empty());
    }

    #[test]
    fn of_a_camera_that_is_forgotten_nothing_is_left() {
        let mut outbox = EventOutbox::new(4);
        for n in 0..4000 {
            let twin = format!("cam-{n}");
            outbox.set_status(status(&twin, CameraState::Connecting), Instant::now());
            let _ = outbox.push(frame(&twin));
            outbox.suppress(&frame(&twin));
            // The hub is away, so that nobody takes what waits.
            outbox.set_status(status(&twin, CameraState::Removed), Instant::now());
            while outbox.frames_waiting() > 0 {
                let _ = outbox.pop();
            }
            outbox.forget(&StreamId::new(twin.as_str(), "default"));
        }
        assert_eq!(outbox.remembered(), 0);
        assert!(outbox.is_empty());
        let _ = outbox.push(frame("cam-7"));
        assert_eq!(drain(&mut outbox), ["cam-7:1"]);
    }

    #[test]
    fn a_camera_that_came_back_meanwhile_is_not_forgotten() {
        let mut outbox = EventOutbox::new(1);
        let removed = status("a", CameraState::Removed);
        outbox.set_status(removed.clone(), Instant::now());
        let _ = outbox.pop();
        outbox.set_status(status("a", CameraState::Connecting), Instant::now());
        outbox.status_sent(&removed);
        assert_eq!(drain(&mut outbox), ["a=connecting"]);
    }

    #[test]
    fn a_state_set_while_the_one_before_is_written_is_told_once() {
        let mut outbox = EventOutbox::new(1);
        let removed = status("a", CameraState::Removed);
        outbox.set_status(removed.clone(), Instant::now());
        let _ = outbox.pop();
        outbox.set_status(removed.clone(), Instant::now());
        outbox.status_sent(&removed);
        assert_eq!(drain(&mut outbox), ["a=removed"]);
    }

    #[test]
    fn what_was_skipped_before_a_suppressed_frame_is_told_with_the_next_event() {
        let mut outbox = EventOutbox::new(2);
        outbox.suppress(&frame("a"));
        outbox.suppress(&frame("a"));
        let _ = outbox.push(frame("a"));
        let Some(OutgoingEvent::Detections(numbered)) = outbox.pop() else {
            panic!("the frame waits");
        };
        assert_eq!(
            (numbered.sequence, numbered.inferred.skipped_frames),
            (1, 6)
        );
    }
}
