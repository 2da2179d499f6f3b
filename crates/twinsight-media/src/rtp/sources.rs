//! Chooses one of a peer's video sources: packets of any SSRC come in, those of the main source go out. Sans-IO; the
//! stream's `InboundRouter` owns it, on the WebRTC stack's task.
//!
//! A source is valid after two packets in sequence (RFC 3550 appendix A.1), so that a stray packet changes nothing. The
//! main source is the first one that the peer's description names, or else the first valid one. Another source takes its
//! place when it has sent a BYE, or when it has been silent while the other one went on sending; when both pause, it is the
//! link that paused. What the other source sends until then is held, so that nothing of it is lost.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{RtpPacket, SequenceNumber, Ssrc};

/// Packets in sequence after which a source is valid.
const MIN_SEQUENTIAL: u32 = 2;

/// A main source that is silent for less than this may have nothing to send.
const MIN_SILENCE: Duration = Duration::from_millis(250);

/// A main source that is silent for longer than this gives way, however rarely it sends.
const MAX_SILENCE: Duration = Duration::from_secs(1);

/// For this long after it was chosen, a source gives way to one that the description names before it.
const SETTLING: Duration = Duration::from_secs(1);

/// The longest pause is kept for this window and the one before it.
const WINDOW: Duration = Duration::from_secs(5);

/// The most sources on probation. A further one takes the place of the one that has been silent the longest.
const MAX_ON_PROBATION: usize = 8;

/// The most packets, and bytes of them, that are held of a source on probation.
const MAX_HELD: usize = 1024;
const MAX_HELD_BYTES: usize = 2 * 1024 * 1024;

/// Chooses the main source of one connection.
#[derive(Debug, Default)]
pub struct Sources {
    /// The sources that the description names, in its order.
    declared: Vec<Ssrc>,
    main: Option<Main>,
    probation: Vec<Probation>,
}

#[derive(Debug)]
struct Main {
    ssrc: Ssrc,
    chosen_at: Instant,
    last_at: Instant,
    pauses: Pauses,
}

/// The longest pause between two packets of a source, in the window of time that is open and in the one before.
#[derive(Debug)]
struct Pauses {
    window_began: Instant,
    now: Duration,
    before: Duration,
}

#[derive(Debug)]
struct Probation {
    ssrc: Ssrc,
    next: SequenceNumber,
    sequential: u32,
    last_at: Instant,
    /// For how long it has been sending since the main source was last heard. Each pause counts up to a bound.
    sent_for: Duration,
    /// Its last packets. They are in sequence, except for losses once the source is valid.
    held: VecDeque<RtpPacket>,
    held_bytes: usize,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Packets that will not be used, because they are of other sources.
    pub refused: u64,
    /// The main source is another one than before.
    pub changed: bool,
}

impl Sources {
    /// Takes the sources that the other side's description names, in its order. The main source stays what it is.
    pub fn declare(&mut self, sources: Vec<Ssrc>) {
        self.declared = sources;
    }

    /// The main source, once there is one.
    pub fn main(&self) -> Option<Ssrc> {
        self.main.as_ref().map(|main| main.ssrc)
    }

    /// The source sent a BYE (RFC 3550 section 6.6).
    pub fn goodbye(&mut self, ssrc: Ssrc) {
        self.main.take_if(|main| main.ssrc == ssrc);
    }

    /// Takes a packet, and passes on those that are to be used, in the order of their arrival.
    pub fn take(&mut self, packet: RtpPacket, mut give: impl FnMut(RtpPacket)) -> Taken {
        let (ssrc, now) = (packet.ssrc, packet.arrived_at);
        if let Some(main) = &mut self.main
            && main.ssrc == ssrc
        {
            main.heard(now);
            give(packet);
            return Taken {
                refused: self.let_go(),
                changed: false,
            };
        }
        let refused = self.probe(packet);
        if !self.gives_way(ssrc, now) {
            return Taken {
                refused,
                changed: false,
            };
        }
        let Some(at) = self.probation.iter().position(|each| each.ssrc == ssrc) else {
            return Taken::default();
        };
        let chosen = self.probation.swap_remove(at);
        let refused = refused + self.let_go();
        let before = self.main.replace(Main {
            ssrc,
            chosen_at: now,
            last_at: now,
            // Its pauses are not known yet, so it is given some time before it counts as silent.
            pauses: Pauses {
                window_began: now,
                now: Duration::ZERO,
                before: MAX_SILENCE / 2,
            },
        });
        chosen.held.into_iter().for_each(give);
        Taken {
            refused,
            changed: before.is_some(),
        }
    }

    /// Whether a source that has just sent is to be the main one.
    fn gives_way(&self, ssrc: Ssrc, now: Instant) -> bool {
        let rank = |ssrc| self.declared.iter().position(|each| *each == ssrc);
        let rank = |ssrc| rank(ssrc).unwrap_or(usize::MAX);
        let challenger = self.probation.iter().find(|each| each.ssrc == ssrc);
        let challenger = challenger.filter(|each| each.sequential >= MIN_SEQUENTIAL);
        match &self.main {
            // The source that the description names first needs no probation, since the other side vouches for it.
            None => challenger.is_some() || rank(ssrc) == 0,
            Some(main) => {
                let settles = now.saturating_duration_since(main.chosen_at) < SETTLING;
                challenger.is_some_and(|challenger| {
                    main.is_silent(now, challenger) || (settles && rank(ssrc) < rank(main.ssrc))
                })
            }
        }
    }

    /// Holds a packet of a source on probation. Gives how many packets are refused because of it.
    fn probe(&mut self, packet: RtpPacket) -> u64 {
        let mut refused = 0;
        let max_pause = self.main.as_ref().map_or(MIN_SILENCE, Main::max_silence) / 2;
        let at = self.probation.iter().position(|s| s.ssrc == packet.ssrc);
        let source = match at {
            Some(at) => &mut self.probation[at],
            None => {
                if self.probation.len() >= MAX_ON_PROBATION
                    && let Some(oldest) = self.quietest()
                {
                    refused += count(&self.probation.swap_remove(oldest).held);
                }
                self.probation.push(Probation {
                    ssrc: packet.ssrc,
                    next: packet.sequence,
                    sequential: 0,
                    last_at: packet.arrived_at,
                    sent_for: Duration::ZERO,
                    held: VecDeque::new(),
                    held_bytes: 0,
                });
                let last = self.probation.len() - 1;
                &mut self.probation[last]
            }
        };
        refused + source.take(packet, max_pause)
    }

    fn quietest(&self) -> Option<usize> {
        let indexed = self.probation.iter().enumerate();
        Some(indexed.min_by_key(|(_, source)| source.last_at)?.0)
    }

    /// Drops what other sources have sent, since the main one goes on. Gives how many packets that were.
    fn let_go(&mut self) -> u64 {
        let mut refused = 0;
        for source in &mut self.probation {
            refused += count(&source.held);
            source.held.clear();
            source.held_bytes = 0;
            source.sent_for = Duration::ZERO;
        }
        refused
    }
}

impl Main {
    fn heard(&mut self, now: Instant) {
        let pauses = &mut self.pauses;
        if now.saturating_duration_since(pauses.window_began) >= WINDOW {
            pauses.window_began = now;
            pauses.before = std::mem::take(&mut pauses.now);
        }
        let pause = now.saturating_duration_since(self.last_at);
        pauses.now = pauses.now.max(pause);
        self.last_at = now;
    }

    /// The longest pause that is not silence yet, by the pauses that it is known to make.
    fn max_silence(&self) -> Duration {
        let pause = self.pauses.now.max(self.pauses.before);
        (2 * pause).clamp(MIN_SILENCE, MAX_SILENCE)
    }

    /// True if it is silent although the challenger has been sending for as long. A pause of both counts for at most half
    /// of that, so that after a pause of the whole link the main source has time to be heard again.
    fn is_silent(&self, now: Instant, challenger: &Probation) -> bool {
        let limit = self.max_silence();
        now.saturating_duration_since(self.last_at) >= limit && challenger.sent_for >= limit
    }
}

impl Probation {
    /// Holds a packet. The pause before it counts as time of sending, up to `max_pause`. Gives how many packets are
    /// refused.
    fn take(&mut self, packet: RtpPacket, max_pause: Duration) -> u64 {
        let mut refused = 0;
        let pause = packet.arrived_at.saturating_duration_since(self.last_at);
        self.sent_for = self.sent_for.saturating_add(pause.min(max_pause));
        let counts = self.sequential >= MIN_SEQUENTIAL;
        if packet.sequence == self.next {
            self.sequential = self.sequential.saturating_add(1);
        } else if !counts {
            // The count begins again with this packet (RFC 3550 appendix A.1).
            self.sequential = 1;
            refused += count(&self.held);
            self.held.clear();
            self.held_bytes = 0;
        }
        self.next = packet.sequence.wrapping_add(1);
        self.last_at = packet.arrived_at;
        let bytes = packet.payload.len();
        if self.held.len() >= MAX_HELD || self.held_bytes + bytes > MAX_HELD_BYTES {
            refused += count(&self.held);
            self.held.clear();
            self.held_bytes = 0;
        }
        self.held_bytes += bytes;
        self.held.push_back(packet);
        refused
    }
}

fn count(held: &VecDeque<RtpPacket>) -> u64 {
    u64::try_from(held.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::codec::Codec;
    use crate::rtp::RtpTimestamp;

    fn packet(ssrc: u32, sequence: u16, arrived_at: Instant) -> RtpPacket {
        RtpPacket {
            sequence: SequenceNumber(sequence),
            timestamp: RtpTimestamp(0),
            marker: false,
            ssrc: Ssrc(ssrc),
            codec: Codec::H264,
            payload: Bytes::from_static(b"x"),
            arrived_at,
        }
    }

    /// Packets as (source, sequence number, milliseconds); what is given, and how many are refused.
    fn run(sources: &mut Sources, packets: &[(u32, u16, u64)]) -> (Vec<(u32, u16)>, u64) {
        let start = Instant::now();
        let (mut given, mut refused) = (Vec::new(), 0);
        for (ssrc, sequence, ms) in packets {
            let packet = packet(*ssrc, *sequence, start + Duration::from_millis(*ms));
            refused += sources
                .take(packet, |p| given.push((p.ssrc.0, p.sequence.0)))
                .refused;
        }
        (given, refused)
    }

    #[test]
    fn one_source_is_taken_from_its_first_packet() {
        let (given, refused) = run(
            &mut Sources::default(),
            &[(1, 10, 0), (1, 11, 1), (1, 13, 2)],
        );
        assert_eq!((given, refused), (vec![(1, 10), (1, 11), (1, 13)], 0));
    }

    #[test]
    fn a_new_source_in_each_packet_gives_nothing_and_takes_no_room() {
        let mut sources = Sources::default();
        let packets: Vec<_> = (0..10_000)
            .map(|n: u16| (u32::from(n), n, u64::from(n)))
            .collect();
        let (given, refused) = run(&mut sources, &packets);
        assert_eq!(given, []);
        assert_eq!(refused, 10_000 - MAX_ON_PROBATION as u64);
        assert_eq!(sources.probation.len(), MAX_ON_PROBATION);
    }

    #[test]
    fn a_good_source_among_stray_packets_goes_on() {
        let mut packets = Vec::new();
        for n in 0..100_u16 {
            packets.push((7, n, u64::from(n) * 40));
            packets.push((1000 + u32::from(n), n, u64::from(n) * 40 + 1));
        }
        let (given, refused) = run(&mut Sources::default(), &packets);
        assert_eq!(given.len(), 100);
        assert!(given.iter().all(|(ssrc, _)| *ssrc == 7));
        assert_eq!(refused, 99, "the last one may still become a source");
    }

    #[test]
    fn of_two_sources_the_one_that_is_named_first_is_taken() {
        let two = |from: u64, count: u16| -> Vec<(u32, u16, u64)> {
            let pairs = (0..count).flat_map(|n| {
                let ms = from + u64::from(n) * 40;
                // The second one's packets come first.
                [
                    (2, 500 + 2 * n, ms),
                    (2, 501 + 2 * n, ms),
                    (1, 2 * n, ms + 1),
                    (1, 2 * n + 1, ms + 1),
                ]
            });
            pairs.collect()
        };
        let mut sources = Sources::default();
        sources.declare(vec![Ssrc(1), Ssrc(2)]);
        let (given, _) = run(&mut sources, &two(0, 50));
        assert_eq!(sources.main(), Some(Ssrc(1)));
        let first = given.iter().position(|(ssrc, _)| *ssrc == 1).unwrap();
        assert!(
            first <= 2 && given[first..].iter().all(|(ssrc, _)| *ssrc == 1),
            "{given:?}"
        );
        assert_eq!(given[first..].len(), 100, "and all of it");
        // Without a description it is the one that comes first, and it stays.
        let mut sources = Sources::default();
        let (given, refused) = run(&mut sources, &two(0, 50));
        assert!(given.iter().all(|(ssrc, _)| *ssrc == 2) && given.len() == 100);
        assert_eq!(refused, 98);
    }

    #[test]
    fn a_sender_that_restarts_loses_nothing_of_its_new_source() {
        let mut packets: Vec<_> = (0..300_u16).map(|n| (1, n, u64::from(n) * 40)).collect();
        // The new one begins at once.
        packets.extend((0..40_u16).map(|n| (2, 900 + n, 12_000 + u64::from(n) * 20)));
        let (given, refused) = run(&mut Sources::default(), &packets);
        assert_eq!(refused, 0);
        assert_eq!(given.len(), 340);
        assert_eq!(given[300], (2, 900));
    }

    #[test]
    fn a_pause_of_the_whole_link_changes_nothing() {
        // The second one is the last before the pause, or the first, and comes first after it.
        for (offset, gap) in [(1, 300), (39, 300), (1, 249), (1, 900), (1, 5_000)] {
            let mut packets = Vec::new();
            for n in 0..600_u16 {
                let ms = u64::from(n) * 40 + if n >= 300 { gap } else { 0 };
                packets.push((1, n, ms));
                packets.push((2, n, ms - u64::from(n >= 300) * 20 + offset));
            }
            packets.sort_by_key(|(_, _, ms)| *ms);
            let after = packets.iter().position(|(_, n, _)| *n == 300);
            let first = packets[after.unwrap()].0;
            let mut sources = Sources::default();
            let (given, _) = run(&mut sources, &packets);
            assert!(given.iter().all(|(ssrc, _)| *ssrc == 1), "{offset} {gap}");
            assert_eq!(given.len(), 600, "{offset} {gap}");
            assert!(offset > 20 || first == 2, "{first}");
        }
    }

    #[test]
    fn a_slow_source_takes_the_place_of_one_that_is_gone() {
        for pause in [40, 200, 400, 1_000, 3_000] {
            let mut packets: Vec<_> = (0..300_u16).map(|n| (1, n, u64::from(n) * 40)).collect();
            packets.extend((0..10_u16).map(|n| (2, n, 12_000 + u64::from(n) * pause)));
            let (given, refused) = run(&mut Sources::default(), &packets);
            assert_eq!((given.len(), refused), (310, 0), "{pause}");
        }
    }

    #[test]
    fn a_fast_source_takes_the_place_of_one_that_is_gone() {
        // More than is held for it until then.
        let mut packets: Vec<_> = (0..300_u16).map(|n| (1, n, u64::from(n) * 40)).collect();
        packets.extend((0..8_000_u16).map(|n| (2, n, 12_000 + u64::from(n) / 10)));
        let mut sources = Sources::default();
        run(&mut sources, &packets);
        assert_eq!(sources.main(), Some(Ssrc(2)));
    }

    #[test]
    fn a_goodbye_makes_room_at_once() {
        let mut sources = Sources::default();
        run(&mut sources, &[(1, 0, 0), (1, 1, 0)]);
        sources.goodbye(Ssrc(1));
        assert_eq!(sources.main(), None);
        let (given, _) = run(&mut sources, &[(2, 5, 1), (2, 6, 1)]);
        assert_eq!(given, [(2, 5), (2, 6)]);
    }

    #[test]
    fn a_slow_source_is_not_silent_between_its_pictures() {
        let mut packets: Vec<(u32, u16, u64)> =
            (0..10_u16).map(|n| (1, n, u64::from(n) * 400)).collect();
        packets.extend((0..180_u16).map(|n| (2, n, u64::from(n) * 20 + 1)));
        packets.sort_by_key(|(_, _, ms)| *ms);
        let mut sources = Sources::default();
        sources.declare(vec![Ssrc(1)]);
        let (given, _) = run(&mut sources, &packets);
        let of_main = given.iter().filter(|(ssrc, _)| *ssrc == 1).count();
        assert!(of_main >= 9, "{of_main} {given:?}");
    }

    proptest! {
        #[test]
        fn every_packet_is_given_refused_or_held(
            packets in prop::collection::vec((0_u32..12, 0_u16..20, 0_u64..400), 0..300),
            declared in prop::collection::vec(0_u32..12, 0..3),
        ) {
            let mut sources = Sources::default();
            sources.declare(declared.into_iter().map(Ssrc).collect());
            let mut ms = 0;
            let packets: Vec<_> = packets.into_iter().map(|(ssrc, sequence, pause)| {
                ms += pause;
                (ssrc, sequence, ms)
            }).collect();
            let (given, refused) = run(&mut sources, &packets);
            let held: usize = sources.probation.iter().map(|source| source.held.len()).sum();
            prop_assert!(sources.probation.len() <= MAX_ON_PROBATION);
            prop_assert_eq!(given.len() as u64 + refused + held as u64, packets.len() as u64);
        }
    }
}
