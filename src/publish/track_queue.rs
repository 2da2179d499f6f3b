//! The events of tracks and lines that wait, apart from those of frames, so that neither displaces the other. It is part of the
//! outbox.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::track_event::TrackEvent;
use twinsight_client::stream_id::StreamId;

/// So many events of one camera stream's tracks may wait: more than a look at the largest crowd that is followed can bring at once.
pub(super) const OF_STREAM: usize = 1024;

/// So many may wait in all.
pub(super) const OF_ALL: usize = 4096;

/// An event of a track with its stream's number.
#[derive(Debug, Clone)]
pub(super) struct NumberedTrackEvent {
    /// Counts the events of the stream, those of frames too, from 1 in each run.
    pub(super) sequence: u64,
    /// Shared, since the same event waits for each sink too.
    pub(super) event: Arc<TrackEvent>,
}

/// Events of tracks, the oldest first. When it is full, an update makes room before what tells more, and the stream with the most
/// events makes room before others.
#[derive(Debug, Default)]
pub(super) struct TrackQueue {
    /// Each with its place in the order of all that waits.
    waiting: VecDeque<(u64, NumberedTrackEvent)>,
    of_stream: HashMap<StreamId, usize>,
}

impl TrackQueue {
    /// Takes in an event. One that has to go for it is given.
    pub(super) fn push(
        &mut self,
        order: u64,
        numbered: NumberedTrackEvent,
    ) -> Option<NumberedTrackEvent> {
        let id = numbered.event.id.clone();
        let of_stream = self.of_stream.get(&id).copied().unwrap_or(0);
        let displaced = if of_stream >= OF_STREAM {
            self.displace(&id)
        } else if self.waiting.len() >= OF_ALL {
            let most = self.of_stream.iter().max_by_key(|(_, count)| **count);
            let most = most.map(|(id, _)| id.clone());
            most.and_then(|id| self.displace(&id))
        } else {
            None
        };
        self.waiting.push_back((order, numbered));
        *self.of_stream.entry(id).or_insert(0) += 1;
        displaced
    }

    /// The place of the oldest event in the order of all that waits.
    pub(super) fn next_order(&self) -> Option<u64> {
        self.waiting.front().map(|(order, _)| *order)
    }

    pub(super) fn pop(&mut self) -> Option<NumberedTrackEvent> {
        self.take(0)
    }

    /// True while an event of a stream waits that is one of these.
    pub(super) fn has_any(&self, is_one: impl Fn(&StreamId) -> bool) -> bool {
        self.of_stream.keys().any(is_one)
    }

    /// Takes out all events of a stream.
    pub(super) fn take_of(&mut self, id: &StreamId) -> Vec<NumberedTrackEvent> {
        let of_stream = |(_, waiting): &(u64, NumberedTrackEvent)| waiting.event.id == *id;
        let mut taken = Vec::new();
        while let Some(at) = self.waiting.iter().position(of_stream) {
            taken.extend(self.take(at));
        }
        taken
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.of_stream.is_empty()
    }

    fn displace(&mut self, id: &StreamId) -> Option<NumberedTrackEvent> {
        let of_stream = |numbered: &NumberedTrackEvent| numbered.event.id == *id;
        let update = |(_, waiting): &(u64, NumberedTrackEvent)| {
            of_stream(waiting) && waiting.event.is_update()
        };
        let at = self.waiting.iter().position(update).or_else(|| {
            self.waiting
                .iter()
                .position(|(_, waiting)| of_stream(waiting))
        })?;
        self.take(at)
    }

    fn take(&mut self, at: usize) -> Option<NumberedTrackEvent> {
        let (_, numbered) = self.waiting.remove(at)?;
        let id = &numbered.event.id;
        if let Some(count) = self.of_stream.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                self.of_stream.remove(id);
            }
        }
        Some(numbered)
    }
}

#[cfg(test)]
mod tests {
    use super::super::track_event::tests::track_event;
    use super::*;
    use crate::track::news::{Happening, UpdateReason};

    fn numbered(twin: &str, sequence: u64, what: Happening) -> NumberedTrackEvent {
        NumberedTrackEvent {
            sequence,
            event: track_event(twin, what).into(),
        }
    }

    #[test]
    fn of_one_stream_updates_go_before_what_tells_more() {
        let mut queue = TrackQueue::default();
        let mut gone = Vec::new();
        for n in 0..OF_STREAM as u64 + 3 {
            let what = match n {
                5 | 9 => Happening::Update(UpdateReason::Interval),
                _ => Happening::Start,
            };
            gone.extend(queue.push(n, numbered("a", n, what)));
        }
        let gone: Vec<u64> = gone.iter().map(|numbered| numbered.sequence).collect();
        assert_eq!(gone, [5, 9, 0]);
    }

    #[test]
    fn a_busy_stream_displaces_nothing_of_others() {
        let mut queue = TrackQueue::default();
        let mut order = 0;
        for n in 0..8 {
            for _ in 0..2 * OF_STREAM {
                order += 1;
                let gone = queue.push(order, numbered(&format!("busy-{n}"), 1, Happening::Start));
                assert!(gone.is_none_or(|gone| gone.event.id.twin_id.starts_with("busy")));
            }
        }
        for n in 0..8 {
            order += 1;
            let gone = queue.push(order, numbered("calm", n, Happening::Start));
            assert!(gone.unwrap().event.id.twin_id.starts_with("busy"));
        }
        assert_eq!(queue.take_of(&StreamId::new("calm", "default")).len(), 8);
        let mut left = 0;
        while queue.pop().is_some() {
            left += 1;
        }
        assert_eq!(left, OF_ALL - 8);
        assert!(queue.is_empty());
    }
}
