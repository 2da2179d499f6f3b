//! Whose turn it is: streams whose frame waits come in, and go out in the order of their last service, each
//! once it is due. [`Core`](super::core::Core) asks it; the cost of an answer hardly grows with the number of streams.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::core::SourceId;

/// The streams in line, each at most once. Heaps, since they allocate nothing once they have grown.
#[derive(Debug, Default)]
pub(super) struct ReadyQueue {
    /// May be served.
    ready: BinaryHeap<Reverse<Turn>>,
    /// May be served from a moment on.
    waiting: BinaryHeap<Reverse<(Instant, Turn)>>,
}

/// A stream's place in the order: `None` (never served) comes before any instant, ids break ties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    /// Start of its last service.
    pub(super) served_at: Option<Instant>,
    /// Whose it is.
    pub(super) source: SourceId,
}

impl ReadyQueue {
    /// Puts a stream in line that is not; it is served no earlier than at `due_at`.
    pub(super) fn join(&mut self, turn: Turn, due_at: Option<Instant>) {
        match due_at {
            Some(due_at) => self.waiting.push(Reverse((due_at, turn))),
            None => self.ready.push(Reverse(turn)),
        }
    }

    /// Takes the next one out of the line; none while none is due.
    pub(super) fn next(&mut self, now: Instant) -> Option<SourceId> {
        while let Some(Reverse((due_at, turn))) = self.waiting.peek()
            && *due_at <= now
        {
            self.ready.push(Reverse(*turn));
            self.waiting.pop();
        }
        self.ready.pop().map(|Reverse(turn)| turn.source)
    }

    /// When the next one of those will be due that are not yet.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse((due_at, _))| *due_at)
    }

    /// Takes a stream out of the line. Walks all of it, as only changes of the configuration do.
    pub(super) fn leave(&mut self, source: SourceId) {
        self.ready.retain(|Reverse(turn)| turn.source != source);
        self.waiting
            .retain(|Reverse((_, turn))| turn.source != source);
    }

    /// Takes all of them out.
    pub(super) fn clear(&mut self) {
        self.ready.clear();
        self.waiting.clear();
    }
}
