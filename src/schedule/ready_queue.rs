//! The order in which streams get their turn: streams whose frame waits come in, and go out in the order of their last
//! inference, each once it is due. [`SchedulerCore`](super::core::SchedulerCore) owns it. The cost of a turn hardly grows
//! with the number of streams.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::core::SourceId;

/// The streams whose frame waits, each at most once. Heaps hold them, since those allocate nothing once they have grown.
#[derive(Debug, Default)]
pub(super) struct ReadyQueue {
    /// Streams that are due.
    ready: BinaryHeap<Reverse<QueueEntry>>,
    /// Streams that are due from a moment on.
    waiting: BinaryHeap<Reverse<(Instant, QueueEntry)>>,
}

/// A stream in the queue. Entries are ordered by their fields: a stream that was never served (`None`) comes first, and ids
/// break ties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct QueueEntry {
    /// When its last inference began.
    pub(super) served_at: Option<Instant>,
    pub(super) source: SourceId,
}

impl ReadyQueue {
    /// Adds a stream that is not in the queue; it is served no earlier than at `due_at`.
    pub(super) fn join(&mut self, entry: QueueEntry, due_at: Option<Instant>) {
        match due_at {
            Some(due_at) => self.waiting.push(Reverse((due_at, entry))),
            None => self.ready.push(Reverse(entry)),
        }
    }

    /// Takes the next stream out of the queue; `None` while none is due.
    pub(super) fn next(&mut self, now: Instant) -> Option<SourceId> {
        while let Some(Reverse((due_at, entry))) = self.waiting.peek()
            && *due_at <= now
        {
            self.ready.push(Reverse(*entry));
            self.waiting.pop();
        }
        self.ready.pop().map(|Reverse(entry)| entry.source)
    }

    /// When the next stream will be due, of those that are not yet.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse((due_at, _))| *due_at)
    }

    /// Takes a stream out of the queue. It walks all of it, which is fine, since only changes of the configuration do this.
    pub(super) fn leave(&mut self, source: SourceId) {
        self.ready.retain(|Reverse(entry)| entry.source != source);
        self.waiting
            .retain(|Reverse((_, entry))| entry.source != source);
    }

    pub(super) fn clear(&mut self) {
        self.ready.clear();
        self.waiting.clear();
    }
}
