//! The queue between a stream's connection and its decode thread: packets and sender reports come in on the WebRTC stack's
//! task, which never waits, and go out to the decode thread. The queue is bounded by bytes. What does not fit is dropped
//! and counted; the decode path takes it for packet loss and asks for a keyframe.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use twinsight_media::rtp::{Arrival, RtpTimestamp, SequenceNumber};

/// How many bytes a queue holds by default: some seconds of the busiest camera.
const DEFAULT_QUEUE_BYTES: usize = 8 * 1024 * 1024;
/// The bytes that an arrival takes up beside its payload.
const OVERHEAD_BYTES: usize = size_of::<Arrival>();

/// The queue between a stream's connection and its decode thread.
#[derive(Debug)]
pub struct ArrivalQueue {
    max_bytes: usize,
    overflowed: AtomicU64,
    state: Mutex<QueueState>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    arrivals: VecDeque<Arrival>,
    bytes: usize,
    closed: bool,
    /// Sequence number and timestamp of the last packet that came.
    last: Option<(SequenceNumber, RtpTimestamp)>,
}

/// What ended a wait for arrivals.
#[derive(Debug)]
pub(super) enum QueueEvent {
    /// The oldest arrival.
    Arrival(Arrival),
    /// The deadline passed.
    Deadline,
    /// The queue is closed and empty.
    Closed,
}

impl Default for ArrivalQueue {
    fn default() -> Self {
        Self::new(DEFAULT_QUEUE_BYTES)
    }
}

impl ArrivalQueue {
    /// A queue of at most `max_bytes` bytes, overhead included.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            overflowed: AtomicU64::new(0),
            state: Mutex::default(),
            ready: Condvar::new(),
        }
    }

    /// Queues an arrival; it never waits. False if the queue is full or closed: then the arrival is dropped.
    pub fn push(&self, arrival: Arrival) -> bool {
        let bytes = cost(&arrival);
        let mut state = self.state.lock();
        if state.closed {
            return false;
        }
        if state.bytes + bytes > self.max_bytes {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let wakes = state.wakes(&arrival);
        state.bytes += bytes;
        state.arrivals.push_back(arrival);
        let backlog = state.bytes > self.max_bytes / 4;
        drop(state);
        if wakes || backlog {
            self.ready.notify_one();
        }
        true
    }

    /// Waits for an arrival until the deadline, or for ever without one, and gives the oldest.
    pub(super) fn pop(&self, deadline: Option<Instant>) -> QueueEvent {
        let mut state = self.state.lock();
        loop {
            if let Some(arrival) = state.arrivals.pop_front() {
                state.bytes -= cost(&arrival);
                return QueueEvent::Arrival(arrival);
            }
            if state.closed {
                return QueueEvent::Closed;
            }
            match deadline {
                None => self.ready.wait(&mut state),
                Some(deadline) => {
                    if self.ready.wait_until(&mut state, deadline).timed_out() {
                        return QueueEvent::Deadline;
                    }
                }
            }
        }
    }

    /// Ends the queue: pushes are refused, and `pop` gives what is left and then `Closed`.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.ready.notify_all();
    }

    /// True once the queue was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Arrivals that were dropped because the queue was full.
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Bytes in the queue, overhead included.
    pub fn bytes(&self) -> usize {
        self.state.lock().bytes
    }
}

impl QueueState {
    /// True if the decode thread can do something with this arrival. In the middle of a unit it cannot, and to wake it for every
    /// packet would cost more than all the rest of the path. So only the end of a unit, the first packet of the next one, and
    /// packets out of order wake it.
    fn wakes(&mut self, arrival: &Arrival) -> bool {
        let Arrival::Rtp(packet) = arrival else {
            return true;
        };
        let continues = self.last.is_some_and(|(sequence, timestamp)| {
            packet.sequence == sequence.wrapping_add(1) && packet.timestamp == timestamp
        });
        self.last = Some((packet.sequence, packet.timestamp));
        packet.marker || !continues
    }
}

fn cost(arrival: &Arrival) -> usize {
    OVERHEAD_BYTES
        + match arrival {
            Arrival::Rtp(packet) => packet.payload.len(),
            Arrival::SenderReport { .. } => 0,
        }
}

#[cfg(test)]
mod tests {
    use twinsight_media::rtp::RtpPacket;

    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::thread::spawn_named;
    use twinsight_media::codec::Codec;

    fn packet(sequence: u16, marker: bool, bytes: usize) -> Arrival {
        Arrival::Rtp(RtpPacket {
            sequence: sequence.into(),
            timestamp: 1.into(),
            marker,
            ssrc: 1.into(),
            codec: Codec::H264,
            payload: Bytes::from(vec![0; bytes]),
            arrived_at: Instant::now(),
        })
    }

    #[test]
    fn it_is_bounded_by_bytes_and_counts() {
        let queue = ArrivalQueue::new(3 * (OVERHEAD_BYTES + 1000));
        for sequence in 0..3 {
            assert!(queue.push(packet(sequence, false, 1000)));
        }
        assert!(!queue.push(packet(3, true, 1000)));
        assert_eq!(queue.overflowed(), 1);
        assert!(matches!(queue.pop(None), QueueEvent::Arrival(_)));
        assert!(queue.push(packet(4, true, 1000)));
        queue.close();
        assert!(!queue.push(packet(5, true, 0)));
        assert_eq!(queue.overflowed(), 1);
        for _ in 0..3 {
            assert!(matches!(queue.pop(None), QueueEvent::Arrival(_)));
        }
        assert!(matches!(queue.pop(None), QueueEvent::Closed));
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn the_end_of_a_unit_wakes_and_deadlines_pass() {
        let queue = Arc::new(ArrivalQueue::default());
        let soon = Instant::now() + Duration::from_millis(5);
        assert!(matches!(queue.pop(Some(soon)), QueueEvent::Deadline));
        let other = Arc::clone(&queue);
        let thread = spawn_named("pusher", move || {
            other.push(packet(1, false, 10));
            other.push(packet(2, true, 10));
            other.close();
        });
        assert!(matches!(queue.pop(None), QueueEvent::Arrival(_)));
        assert!(matches!(queue.pop(None), QueueEvent::Arrival(_)));
        assert!(matches!(queue.pop(None), QueueEvent::Closed));
        thread.join();
    }

    #[test]
    fn the_middle_of_a_unit_wakes_nobody() {
        let mut state = QueueState::default();
        let mut wakes = |sequence, marker| state.wakes(&packet(sequence, marker, 1));
        assert!(wakes(1, false));
        assert!(!wakes(2, false));
        assert!(wakes(3, true));
        assert!(wakes(5, false));
        assert!(wakes(4, false));
    }
}
