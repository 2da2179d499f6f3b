//! Puts RTP packets in order: packets come in as they arrive and go out by ascending sequence number, and those that do not
//! come in time go out as lost. Sans-IO; the stream's decode thread owns it.
//!
//! While nothing is missing, no packet waits. Packets behind a hole wait for a retransmission, for min(100 ms, 2 × NACK
//! interval + jitter), and at most 512 of them.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::{RtpPacket, RtpTimestamp, SequenceNumber, Ssrc};

/// The longest that packets behind a hole wait.
pub const MAX_WAIT: Duration = Duration::from_millis(100);
/// The most packets that are held behind a hole.
pub const MAX_HELD: usize = 512;
/// A sequence number farther away than this is a restart of the source (RFC 3550 appendix A.1).
const MAX_JUMP: i16 = 3000;

/// Puts the packets of one stream in order.
#[derive(Debug)]
pub struct Reorder {
    nack_interval: Duration,
    source: Option<Source>,
    /// Packets behind the hole, by extended sequence number.
    held: BTreeMap<u64, RtpPacket>,
    /// When the hole in front of `held` was seen first.
    hole_since: Option<Instant>,
    /// What a restart left to give out before the new source's packets.
    leftover: VecDeque<Ordered>,
    jitter: Jitter,
}

/// The source, and how far its packets have gone out.
#[derive(Debug, Clone, Copy)]
struct Source {
    ssrc: Ssrc,
    /// Extended sequence number of the next packet to give out.
    next: u64,
}

/// What [`Reorder::pop`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ordered {
    /// The next packet.
    Packet(RtpPacket),
    /// Packets that did not come in time.
    Lost {
        /// Sequence number of the first one.
        first: SequenceNumber,
        /// How many there are in a row.
        count: u16,
    },
    /// The source began anew: nothing that follows continues what went before.
    Restart,
}

/// What became of a packet that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushOutcome {
    /// It is held until it is popped.
    Taken,
    /// Dropped: the same packet is held already.
    Duplicate,
    /// Dropped: it went out already, or was given up.
    Late,
    /// It is held as the first packet of another source, or of one whose sequence numbers jumped.
    Restarted,
}

impl Reorder {
    /// Order for a stream whose missing packets are asked for again every `nack_interval`.
    pub fn new(nack_interval: Duration) -> Self {
        Self {
            nack_interval,
            source: None,
            held: BTreeMap::new(),
            hole_since: None,
            leftover: VecDeque::new(),
            jitter: Jitter::default(),
        }
    }

    /// Takes a packet. Call [`pop`](Self::pop) until it gives nothing after each.
    pub fn push(&mut self, packet: RtpPacket) -> PushOutcome {
        let Some(source) = self.source else {
            self.start(packet);
            return PushOutcome::Taken;
        };
        let distance = packet.sequence.packets_since(wrapped(source.next));
        if packet.ssrc != source.ssrc || !(-MAX_JUMP..=MAX_JUMP).contains(&distance) {
            self.finish();
            self.leftover.push_back(Ordered::Restart);
            self.start(packet);
            return PushOutcome::Restarted;
        }
        let Ok(ahead) = u64::try_from(distance) else {
            return PushOutcome::Late;
        };
        let sequence = source.next + ahead;
        if self.held.contains_key(&sequence) {
            return PushOutcome::Duplicate;
        }
        self.jitter.observe(&packet);
        if ahead > 0 && self.hole_since.is_none() {
            self.hole_since = Some(packet.arrived_at);
        }
        self.held.insert(sequence, packet);
        PushOutcome::Taken
    }

    /// The next packet or loss in order; none until a packet comes or the [`deadline`](Self::deadline) passes.
    pub fn pop(&mut self, now: Instant) -> Option<Ordered> {
        if let Some(left) = self.leftover.pop_front() {
            return Some(left);
        }
        let next = self.source?.next;
        let first = *self.held.first_key_value()?.0;
        if first == next {
            return self.take_first();
        }
        let overdue = self.deadline().is_some_and(|deadline| now >= deadline);
        (overdue || self.held.len() > MAX_HELD).then(|| self.give_up(next, first))
    }

    /// When the hole will be given up, if there is one.
    pub fn deadline(&self) -> Option<Instant> {
        self.hole_since.map(|since| since + self.wait())
    }

    /// Gives up all holes, so that `pop` gives everything that is held.
    pub fn finish(&mut self) {
        while let Some(source) = self.source
            && let Some((&first, _)) = self.held.first_key_value()
        {
            let ordered = if first == source.next {
                self.take_first()
            } else {
                Some(self.give_up(source.next, first))
            };
            self.leftover.extend(ordered);
        }
    }

    /// How long packets behind a hole wait now.
    fn wait(&self) -> Duration {
        (2 * self.nack_interval + self.jitter.estimate()).min(MAX_WAIT)
    }

    fn start(&mut self, packet: RtpPacket) {
        self.held.clear();
        self.hole_since = None;
        self.jitter = Jitter::default();
        self.jitter.observe(&packet);
        // It begins one round up, so that packets from before the first one do not take it below zero.
        let next = u64::from(packet.sequence.0) + (1 << 16);
        self.source = Some(Source {
            ssrc: packet.ssrc,
            next,
        });
        self.held.insert(next, packet);
    }

    fn take_first(&mut self) -> Option<Ordered> {
        let (sequence, packet) = self.held.pop_first()?;
        self.advance(sequence + 1);
        Some(Ordered::Packet(packet))
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a hole is no longer than MAX_JUMP"
    )]
    fn give_up(&mut self, next: u64, first: u64) -> Ordered {
        self.advance(first);
        Ordered::Lost {
            first: wrapped(next),
            count: (first - next) as u16,
        }
    }

    /// Moves on to `next`. If a hole begins there, it was seen when the first packet behind it came.
    fn advance(&mut self, next: u64) {
        if let Some(source) = &mut self.source {
            source.next = next;
        }
        let at_hole = self
            .held
            .first_key_value()
            .is_some_and(|(&first, _)| first != next);
        self.hole_since = if at_hole {
            self.held.values().map(|packet| packet.arrived_at).min()
        } else {
            None
        };
    }
}

/// The sequence number that an extended one stands for: its low 16 bits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the high bits count the wraps"
)]
fn wrapped(extended: u64) -> SequenceNumber {
    SequenceNumber(extended as u16)
}

/// The interarrival jitter of RFC 3550 section 6.4.1.
#[derive(Debug, Default)]
struct Jitter {
    last: Option<(Instant, RtpTimestamp)>,
    seconds: f64,
}

impl Jitter {
    fn observe(&mut self, packet: &RtpPacket) {
        if let Some((arrived_at, timestamp)) = self.last {
            let arrival = packet
                .arrived_at
                .saturating_duration_since(arrived_at)
                .as_secs_f64();
            let media = packet.timestamp.video_seconds_since(timestamp);
            // A pause of the sender is no jitter, so no difference counts for more than a second.
            let transit = (arrival - media).abs().min(1.0);
            self.seconds += (transit - self.seconds) / 16.0;
        }
        self.last = Some((packet.arrived_at, packet.timestamp));
    }

    fn estimate(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::codec::Codec;

    const NACK: Duration = Duration::from_millis(20);

    fn packet(sequence: u16, arrived_at: Instant) -> RtpPacket {
        RtpPacket {
            sequence: SequenceNumber(sequence),
            timestamp: RtpTimestamp(0),
            marker: false,
            ssrc: Ssrc(1),
            codec: Codec::H264,
            payload: Bytes::from(sequence.to_be_bytes().to_vec()),
            arrived_at,
        }
    }

    fn pop_all(reorder: &mut Reorder, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| reorder.pop(now))
            .map(|ordered| match ordered {
                Ordered::Packet(packet) => packet.sequence.to_string(),
                Ordered::Lost { first, count } => format!("lost {first}+{count}"),
                Ordered::Restart => "restart".to_owned(),
            })
            .collect()
    }

    #[test]
    fn nothing_waits_when_nothing_is_missing() {
        let now = Instant::now();
        let mut reorder = Reorder::new(NACK);
        for sequence in [65534, 65535, 0, 1] {
            assert_eq!(reorder.push(packet(sequence, now)), PushOutcome::Taken);
            assert_eq!(pop_all(&mut reorder, now), [sequence.to_string()]);
            assert_eq!(reorder.deadline(), None);
        }
    }

    #[test]
    fn a_hole_waits_and_is_filled() {
        let now = Instant::now();
        let mut reorder = Reorder::new(NACK);
        for sequence in [10, 12, 13] {
            reorder.push(packet(sequence, now));
        }
        assert_eq!(pop_all(&mut reorder, now), ["10"]);
        assert_eq!(reorder.deadline(), Some(now + Duration::from_millis(40)));
        assert_eq!(reorder.push(packet(13, now)), PushOutcome::Duplicate);
        reorder.push(packet(11, now));
        assert_eq!(pop_all(&mut reorder, now), ["11", "12", "13"]);
        assert_eq!(reorder.push(packet(11, now)), PushOutcome::Late);
        assert_eq!(reorder.deadline(), None);
    }

    #[test]
    fn a_hole_is_given_up_and_the_next_one_counts_from_when_it_was_seen() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut reorder = Reorder::new(NACK);
        reorder.push(packet(1, at(0)));
        reorder.push(packet(5, at(0)));
        reorder.push(packet(3, at(0)));
        reorder.push(packet(8, at(0)));
        assert_eq!(pop_all(&mut reorder, at(39)), ["1"]);
        assert_eq!(
            pop_all(&mut reorder, at(40)),
            ["lost 2+1", "3", "lost 4+1", "5", "lost 6+2", "8"]
        );
        reorder.push(packet(10, at(50)));
        assert!(pop_all(&mut reorder, at(60)).is_empty());
        // Jitter came in with the pause; the wait has a ceiling.
        assert!(reorder.wait() > 2 * NACK && reorder.wait() <= MAX_WAIT);
        assert_eq!(pop_all(&mut reorder, at(151)), ["lost 9+1", "10"]);
    }

    #[test]
    fn holding_is_bounded() {
        let now = Instant::now();
        let mut reorder = Reorder::new(NACK);
        reorder.push(packet(0, now));
        pop_all(&mut reorder, now);
        for sequence in 2..=513 {
            reorder.push(packet(sequence, now));
            assert!(pop_all(&mut reorder, now).is_empty());
        }
        reorder.push(packet(514, now));
        assert_eq!(pop_all(&mut reorder, now).len(), 1 + 513);
    }

    #[test]
    fn another_source_and_a_jump_restart() {
        let now = Instant::now();
        let mut reorder = Reorder::new(NACK);
        reorder.push(packet(1, now));
        reorder.push(packet(3, now));
        let mut other = packet(40_000, now);
        other.ssrc = Ssrc(2);
        assert_eq!(reorder.push(other.clone()), PushOutcome::Restarted);
        assert_eq!(
            pop_all(&mut reorder, now),
            ["1", "lost 2+1", "3", "restart", "40000"]
        );
        other.sequence = SequenceNumber(50_000);
        assert_eq!(reorder.push(other), PushOutcome::Restarted);
        assert_eq!(pop_all(&mut reorder, now), ["restart", "50000"]);
    }

    proptest! {
        /// Any order with any duplicates: ascending, nothing twice, nothing invented, all accounted.
        #[test]
        fn output_is_ascending(
            start: u16,
            arrivals in prop::collection::vec((0_u16..300, 0_u64..30), 1..300),
        ) {
            let mut reorder = Reorder::new(NACK);
            let mut now = Instant::now();
            let mut sent = std::collections::HashSet::new();
            let mut out = Vec::new();
            for (offset, pause) in arrivals {
                now += Duration::from_millis(pause);
                sent.insert(offset);
                let pushed = reorder.push(packet(start.wrapping_add(offset), now));
                prop_assert_ne!(pushed, PushOutcome::Restarted);
                out.extend(std::iter::from_fn(|| reorder.pop(now)));
                prop_assert!(reorder.held.len() <= MAX_HELD);
                prop_assert_eq!(reorder.held.is_empty(), reorder.deadline().is_none());
            }
            reorder.finish();
            out.extend(std::iter::from_fn(|| reorder.pop(now)));
            prop_assert!(reorder.held.is_empty());
            let mut expected = None;
            for ordered in out {
                let (first, count) = match ordered {
                    Ordered::Packet(packet) => {
                        prop_assert!(sent.contains(&packet.sequence.0.wrapping_sub(start)));
                        prop_assert_eq!(&packet.payload[..], packet.sequence.0.to_be_bytes());
                        (packet.sequence, 1)
                    }
                    Ordered::Lost { first, count } => (first, count),
                    Ordered::Restart => return Err(TestCaseError::fail("restart")),
                };
                prop_assert!(count > 0 && expected.is_none_or(|expected| expected == first));
                expected = Some(first.wrapping_add(count));
            }
        }

        /// Whatever sequence numbers and sources come, it goes on and stays bounded.
        #[test]
        fn any_packets_are_survived(arrivals in prop::collection::vec((any::<u16>(), 0_u32..3, 0_u64..50), 0..200)) {
            let mut reorder = Reorder::new(NACK);
            let mut now = Instant::now();
            let (mut taken, mut given) = (0, 0);
            for (sequence, ssrc, pause) in arrivals {
                now += Duration::from_millis(pause);
                let mut packet = packet(sequence, now);
                packet.ssrc = Ssrc(ssrc);
                packet.timestamp = RtpTimestamp(u32::from(sequence).wrapping_mul(77_777));
                taken += usize::from(matches!(reorder.push(packet), PushOutcome::Taken | PushOutcome::Restarted));
                given += std::iter::from_fn(|| reorder.pop(now)).filter(|o| matches!(o, Ordered::Packet(_))).count();
                prop_assert!(reorder.leftover.is_empty() && reorder.wait() <= MAX_WAIT);
            }
            reorder.finish();
            given += std::iter::from_fn(|| reorder.pop(now)).filter(|o| matches!(o, Ordered::Packet(_))).count();
            prop_assert_eq!(taken, given);
        }
    }
}
