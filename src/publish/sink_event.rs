//! An event that a lane gives to its sink: what it is about, and how old it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::event::{CAMERA_STATUS, CameraStatus, DETECTIONS, Inferred};
use super::outbox::OutgoingEvent;
use super::track_event::TrackEvent;
use crate::config::EventKind;
use crate::telemetry::metrics::TrackEventType;
use twinsight_client::stream_id::StreamId;

/// An event on its way to a sink.
#[derive(Debug)]
pub struct SinkEvent {
    pub(super) outgoing: OutgoingEvent,
    /// There once the sink has taken it.
    _in_hand: Option<InHand>,
}

/// The events that a sink has taken and not settled yet, of each its camera. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct EventsInHand(Arc<Mutex<Vec<Arc<str>>>>);

/// Counts an event among those in hand as long as it is there.
#[derive(Debug)]
struct InHand {
    all: EventsInHand,
    twin_id: Arc<str>,
}

impl EventsInHand {
    /// True while one of this camera is among them.
    pub(super) fn is_any_of(&self, twin_id: &str) -> bool {
        self.0.lock().iter().any(|in_hand| **in_hand == *twin_id)
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        if let Some(at) = all.iter().position(|twin_id| *twin_id == self.twin_id) {
            all.swap_remove(at);
        }
    }
}

impl SinkEvent {
    pub(super) fn new(outgoing: OutgoingEvent) -> Self {
        Self {
            outgoing,
            _in_hand: None,
        }
    }

    /// The same event, which the sink has in hand from now on.
    pub(super) fn taken(self, all: &EventsInHand) -> Self {
        let twin_id = Arc::clone(&self.stream().twin_id);
        all.0.lock().push(Arc::clone(&twin_id));
        let all = all.clone();
        Self {
            _in_hand: Some(InHand { all, twin_id }),
            ..self
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

/// The kind of an event of a track.
pub(super) fn kind_of(event: &TrackEvent) -> EventKind {
    match event.event_type() {
        TrackEventType::Track => EventKind::Track,
        TrackEventType::LineCrossed => EventKind::LineCrossed,
    }
}
