//! Losses at every place of a frame, malformed payloads, and senders that mark nothing.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::header::tests::key_header;
use super::*;
use crate::rtp::{SequenceNumber, Ssrc};

/// Descriptors with a picture id of 15 bits: of the first payload of a frame, and of the others.
const FIRST: [u8; 4] = [0x90, 0x80, 0x81, 0x02];
const NEXT: [u8; 4] = [0x80, 0x80, 0x81, 0x02];

struct Sender {
    sequence: u16,
    now: Instant,
    depacketizer: Depacketizer,
}

impl Sender {
    fn new() -> Self {
        Self {
            sequence: 0,
            now: Instant::now(),
            depacketizer: Depacketizer::default(),
        }
    }

    fn send(&mut self, timestamp: u32, marker: bool, payload: &[u8]) -> Vec<AccessUnit> {
        self.sequence += 1;
        self.now += Duration::from_millis(1);
        let packet = RtpPacket {
            sequence: SequenceNumber(self.sequence),
            timestamp: RtpTimestamp(timestamp),
            marker,
            ssrc: Ssrc(1),
            codec: Codec::Vp8,
            payload: Bytes::copy_from_slice(payload),
            arrived_at: self.now,
        };
        let units = self.depacketizer.push(Ordered::Packet(packet)).collect();
        self.depacketizer.check_invariants();
        units
    }

    fn lose(&mut self, count: u16) {
        let first = SequenceNumber(self.sequence + 1);
        self.sequence += count;
        assert_eq!(
            self.depacketizer
                .push(Ordered::Lost { first, count })
                .count(),
            0
        );
    }

    fn keyframe(&mut self, timestamp: u32) -> Vec<AccessUnit> {
        let units = self.send(timestamp, false, &first(&key_header(64, 48)));
        assert_eq!(units.len(), 0);
        self.send(timestamp, true, &next(&[7; 20]))
    }
}

fn first(piece: &[u8]) -> Vec<u8> {
    [&FIRST, piece].concat()
}

fn next(piece: &[u8]) -> Vec<u8> {
    [&NEXT, piece].concat()
}

/// An interframe that is shown.
const INTER: [u8; 5] = [0x11, 0, 0, 8, 9];

fn facts(units: &[AccessUnit]) -> Vec<(u32, Completeness, bool)> {
    units
        .iter()
        .map(|unit| (unit.rtp_timestamp.0, unit.completeness, unit.after_loss))
        .collect()
}

use Completeness::{Complete, Incomplete, Oversize};

#[test]
fn a_unit_has_its_bytes_times_and_size() {
    let mut sender = Sender::new();
    let start = sender.now;
    let units = sender.keyframe(7);
    assert_eq!(facts(&units), [(7, Complete, true)]);
    let unit = &units[0];
    assert!(unit.is_keyframe() && unit.gives_picture());
    let size = unit.sequence.unwrap().size;
    assert_eq!((size.width_px, size.height_px), (64, 48));
    assert_eq!(unit.received_at, start + Duration::from_millis(1));
    assert_eq!(unit.completed_at, start + Duration::from_millis(2));
    assert_eq!(unit.data[..], [key_header(64, 48), vec![7; 20]].concat());
    let units = sender.send(8, true, &first(&INTER));
    assert_eq!(facts(&units), [(8, Complete, false)]);
    assert_eq!(units[0].picture, PictureKind::Forward);
    assert_eq!(units[0].sequence, None);
    assert_eq!(units[0].data[..], INTER);
}

#[test]
fn a_hidden_frame_has_its_own_unit_at_the_timestamp_of_the_next() {
    let mut sender = Sender::new();
    sender.keyframe(1);
    let hidden = sender.send(2, true, &first(&[0x01, 0, 0, 5]));
    let shown = sender.send(2, true, &first(&INTER));
    assert_eq!(facts(&hidden), [(2, Complete, false)]);
    assert!(hidden[0].hidden && !hidden[0].gives_picture());
    assert_eq!(facts(&shown), [(2, Complete, false)]);
    assert!(!shown[0].hidden);
}

#[test]
fn a_frame_that_its_sender_says_no_other_needs_is_disposable() {
    let mut sender = Sender::new();
    assert!(!sender.keyframe(1)[0].disposable);
    let says_so = |piece: &[u8]| [&[FIRST[0] | 0x20], &FIRST[1..], piece].concat();
    assert!(sender.send(2, true, &says_so(&INTER))[0].disposable);
    assert!(!sender.send(3, true, &first(&INTER))[0].disposable);
    assert!(!sender.send(4, true, &says_so(&key_header(64, 48)))[0].disposable);
}

#[test]
fn losses_at_start_middle_and_end() {
    let mut sender = Sender::new();
    sender.keyframe(1);
    // Middle.
    sender.send(2, false, &first(&INTER));
    sender.lose(1);
    let units = sender.send(2, true, &next(&[1]));
    assert_eq!(facts(&units), [(2, Incomplete, false)]);
    assert!(units[0].data.is_empty());
    // End: the next frame is whole, and follows a loss.
    sender.send(3, false, &first(&INTER));
    sender.lose(1);
    let units = sender.send(4, true, &first(&INTER));
    assert_eq!(facts(&units), [(3, Incomplete, false), (4, Complete, true)]);
    // Start, and with it whole frames perhaps.
    sender.lose(2);
    sender.send(5, false, &next(&[1]));
    let units = sender.send(5, true, &next(&[1]));
    assert_eq!(facts(&units), [(5, Incomplete, true)]);
    // End and start.
    sender.send(6, false, &first(&INTER));
    sender.lose(2);
    let units = sender.send(7, true, &next(&[1]));
    assert_eq!(
        facts(&units),
        [(6, Incomplete, false), (7, Incomplete, true)]
    );
    // Whole frames between.
    sender.lose(7);
    let units = sender.send(9, true, &first(&INTER));
    assert_eq!(facts(&units), [(9, Complete, true)]);
    assert_eq!(
        facts(&sender.send(10, true, &first(&INTER))),
        [(10, Complete, false)]
    );
    assert_eq!(sender.depacketizer.malformed, 0);
}

#[test]
fn a_damaged_keyframe_is_known_as_one() {
    let mut sender = Sender::new();
    sender.send(1, false, &first(&key_header(64, 48)));
    sender.lose(1);
    let units = sender.send(1, true, &next(&[1]));
    assert_eq!(facts(&units), [(1, Incomplete, true)]);
    assert!(units[0].is_keyframe());
    assert_eq!(units[0].sequence, None);
}

#[test]
fn padding_between_and_within_frames_is_nothing() {
    let mut sender = Sender::new();
    sender.keyframe(1);
    assert!(sender.send(1, false, &[]).is_empty());
    sender.send(2, false, &first(&INTER));
    assert!(sender.send(2, false, &[]).is_empty());
    let units = sender.send(2, true, &next(&[4]));
    assert_eq!(facts(&units), [(2, Complete, false)]);
    assert_eq!(units[0].data[..], [&INTER[..], &[4]].concat());
    assert_eq!(sender.depacketizer.malformed, 0);
}

#[test]
fn later_partitions_go_on_with_the_frame() {
    let mut sender = Sender::new();
    sender.keyframe(1);
    sender.send(2, false, &first(&INTER));
    sender.send(2, false, &[0x11, 1]);
    sender.send(2, false, &[0x01, 2]);
    // The ninth partition, whose index has one bit too many.
    let units = sender.send(2, true, &[0x10, 3]);
    assert_eq!(facts(&units), [(2, Complete, false)]);
    assert_eq!(units[0].data[..], [&INTER[..], &[1, 2, 3]].concat());
}

#[test]
fn senders_without_markers_close_by_timestamp() {
    let mut sender = Sender::new();
    sender.send(1, false, &first(&key_header(64, 48)));
    assert_eq!(
        facts(&sender.send(2, false, &first(&INTER))),
        [(1, Complete, true)]
    );
    assert_eq!(
        facts(&sender.send(3, false, &first(&INTER))),
        [(2, Complete, false)]
    );
    sender.lose(1);
    assert_eq!(
        facts(&sender.send(4, false, &first(&INTER))),
        [(3, Incomplete, false)]
    );
    assert_eq!(
        facts(&sender.depacketizer.finish().into_iter().collect::<Vec<_>>()),
        [(4, Complete, true)]
    );
}

#[test]
fn after_a_restart_everything_may_be_missing() {
    let mut sender = Sender::new();
    sender.keyframe(1);
    sender.send(2, false, &first(&INTER));
    let open: Vec<_> = sender.depacketizer.push(Ordered::Restart).collect();
    assert_eq!(facts(&open), [(2, Incomplete, false)]);
    assert_eq!(
        facts(&sender.send(3, true, &first(&INTER))),
        [(3, Complete, true)]
    );
    assert_eq!(sender.depacketizer.push(Ordered::Restart).count(), 0);
    assert_eq!(
        facts(&sender.send(4, true, &next(&INTER))),
        [(4, Incomplete, true)]
    );
    assert_eq!(sender.depacketizer.malformed, 0);
}

#[test]
fn malformed_payloads_are_counted_and_spoil_their_unit() {
    let no_start_code = [0x10, 0, 0, 1, 2, 3, 64, 0, 48, 0];
    let payloads: [(&[u8], PayloadError); 6] = [
        (&[0x90], PayloadError::Short),
        (&[0x90, 0x80, 0x81], PayloadError::Short),
        (&[0x10], PayloadError::Short),
        (&[0x00, 0x11, 0, 0], PayloadError::Start),
        (&first(&[0x11]), PayloadError::Header),
        (&first(&no_start_code), PayloadError::Header),
    ];
    for (payload, error) in payloads {
        let mut sender = Sender::new();
        sender.keyframe(1);
        let units = sender.send(2, true, payload);
        assert_eq!(facts(&units), [(2, Incomplete, false)], "{payload:02x?}");
        assert_eq!(sender.depacketizer.malformed, 1, "{payload:02x?}");
        let (found, packet) = sender.depacketizer.take_error().unwrap();
        assert_eq!((found, packet.sequence.0), (error, sender.sequence));
        assert_eq!(
            facts(&sender.send(3, true, &first(&INTER))),
            [(3, Complete, false)]
        );
    }
}

#[test]
fn memory_is_bounded() {
    let mut sender = Sender::new();
    sender.send(1, false, &first(&INTER));
    let payload = next(&[1; 60_000]);
    for _ in 0..=MAX_UNIT_BYTES / 60_000 {
        sender.send(1, false, &payload);
        let held = sender.depacketizer.open.as_ref().unwrap().data.len();
        assert!(held <= MAX_UNIT_BYTES);
    }
    let units = sender.send(1, true, &payload);
    assert_eq!(facts(&units), [(1, Oversize, true)]);
    assert!(units[0].data.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Any one packet lost: the unit is known to be incomplete, or the next one to follow a loss.
    #[test]
    fn any_lost_packet_is_known(pieces in 1_usize..12, victim: prop::sample::Index) {
        let victim = victim.index(pieces);
        let mut sender = Sender::new();
        sender.keyframe(1);
        let mut units = Vec::new();
        for i in 0..pieces {
            let payload = if i == 0 { first(&INTER) } else { next(&[6; 9]) };
            if i == victim {
                sender.lose(1);
            } else {
                units.extend(sender.send(2, i + 1 == pieces, &payload));
            }
        }
        units.extend(sender.send(3, true, &first(&INTER)));
        for unit in &units {
            match unit.rtp_timestamp.0 {
                2 => prop_assert_eq!(unit.completeness, Incomplete),
                _ => prop_assert_eq!(unit.after_loss, victim + 1 == pieces),
            }
        }
        prop_assert_eq!(sender.depacketizer.malformed, 0);
    }

    #[test]
    fn any_payloads_are_survived(packets in prop::collection::vec(
        (0_u32..4, any::<bool>(), prop::collection::vec(prop_oneof![Just(0x90_u8), Just(0x80), Just(0x10), Just(0), any::<u8>()], 0..30), 0_u16..3),
        0..60,
    )) {
        let mut sender = Sender::new();
        for (timestamp, marker, payload, lost) in packets {
            if lost == 1 {
                sender.lose(1);
            }
            for unit in sender.send(timestamp, marker, &payload) {
                prop_assert!(unit.completeness == Complete || unit.data.is_empty());
                prop_assert!(unit.completeness != Complete || unit.is_keyframe() == unit.sequence.is_some());
            }
        }
        sender.depacketizer.finish();
    }
}
