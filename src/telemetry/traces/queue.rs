//! Traces that wait for the collector, within a bound. The newest count: when it is full, the oldest is dropped.

use std::collections::VecDeque;

use super::FrameTrace;

/// What waits, without a clock or a socket.
#[derive(Debug)]
pub(super) struct TraceQueue {
    capacity: usize,
    waiting: VecDeque<FrameTrace>,
}

impl TraceQueue {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            waiting: VecDeque::new(),
        }
    }

    /// Takes a trace in. True if the oldest was dropped for it.
    #[must_use = "a dropped trace has to be counted"]
    pub(super) fn push(&mut self, trace: FrameTrace) -> bool {
        let is_full = self.waiting.len() >= self.capacity;
        if is_full {
            self.waiting.pop_front();
        }
        self.waiting.push_back(trace);
        is_full
    }

    /// Takes out the oldest ones, `most` of them at most.
    pub(super) fn take(&mut self, most: usize) -> Vec<FrameTrace> {
        let count = most.min(self.waiting.len());
        self.waiting.drain(..count).collect()
    }

    /// Takes back a batch that was not delivered, as far as there is room before what came meanwhile. Returns how many of them,
    /// the oldest, are dropped.
    #[must_use = "dropped traces have to be counted"]
    pub(super) fn restore(&mut self, batch: Vec<FrameTrace>) -> usize {
        let room = self.capacity.saturating_sub(self.waiting.len());
        let dropped = batch.len().saturating_sub(room);
        for trace in batch.into_iter().skip(dropped).rev() {
            self.waiting.push_front(trace);
        }
        dropped
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::frame_trace;
    use super::*;

    fn sequences(traces: &[FrameTrace]) -> Vec<u64> {
        traces.iter().map(|trace| trace.sequence).collect()
    }

    #[test]
    fn a_full_queue_keeps_the_newest() {
        let mut queue = TraceQueue::new(3);
        let dropped: Vec<bool> = (1..=5).map(|n| queue.push(frame_trace(n))).collect();
        assert_eq!(dropped, [false, false, false, true, true]);
        assert_eq!(sequences(&queue.take(2)), [3, 4]);
        assert_eq!(sequences(&queue.take(2)), [5]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_batch_that_comes_back_stands_first_and_gives_way_to_newer_ones() {
        let mut queue = TraceQueue::new(4);
        for n in 1..=4 {
            assert!(!queue.push(frame_trace(n)));
        }
        let batch = queue.take(3);
        assert!(!queue.push(frame_trace(5)));
        assert!(!queue.push(frame_trace(6)));
        assert_eq!(queue.restore(batch), 2, "4, 5 and 6 are newer");
        assert_eq!(sequences(&queue.take(9)), [3, 4, 5, 6]);
        let batch = vec![frame_trace(1), frame_trace(2)];
        assert_eq!(queue.restore(batch), 0);
        assert_eq!(sequences(&queue.take(9)), [1, 2]);
    }
}
