//! Losses at every place of a unit, malformed payloads, parameter sets, and the way back from the
//! packetizer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::super::nal::annex_b;
use super::super::packetize::packetize;
use super::super::sps::tests::{baseline_sps, pps};
use super::*;
use crate::access_unit::MAX_UNIT_BYTES;
use crate::codec::Codec;
use crate::rtp::SequenceNumber;

/// A slice NAL that begins at a macroblock: first_mb, slice_type 2 (I), pps 0.
fn slice(header: u8, first_mb_zero: bool, bytes: usize) -> Vec<u8> {
    let start = if first_mb_zero {
        0b1011_1000
    } else {
        0b0100_1110
    };
    let mut nal = vec![header, start];
    nal.extend((0..bytes).map(|i| u8::try_from(i % 250 + 5).unwrap()));
    nal
}

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
            depacketizer: Depacketizer::new(ParameterSets::default()),
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
            codec: Codec::H264,
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

    /// An IDR picture with its own parameter sets, in one packet each.
    fn keyframe(&mut self, timestamp: u32) -> Vec<AccessUnit> {
        let mut units = self.send(timestamp, false, &baseline_sps(0, 64, 64));
        units.extend(self.send(timestamp, false, &pps(0, 0)));
        units.extend(self.send(timestamp, true, &slice(0x65, true, 20)));
        units
    }
}

fn facts(units: &[AccessUnit]) -> Vec<(u32, Completeness, bool)> {
    units
        .iter()
        .map(|unit| (unit.rtp_timestamp.0, unit.completeness, unit.after_loss))
        .collect()
}

use Completeness::{Complete, Incomplete, Oversize};

#[test]
fn a_unit_has_its_nals_times_and_size() {
    let mut sender = Sender::new();
    let start = sender.now;
    let units = sender.keyframe(7);
    assert_eq!(facts(&units), [(7, Complete, true)]);
    let unit = &units[0];
    assert!(unit.is_keyframe());
    assert_eq!(unit.sequence.unwrap().size.width_px, 64);
    assert_eq!(unit.received_at, start + Duration::from_millis(1));
    assert_eq!(unit.completed_at, start + Duration::from_millis(3));
    let nals: Vec<Vec<u8>> = annex_b(&unit.data).map(<[u8]>::to_vec).collect();
    assert_eq!(
        nals,
        [baseline_sps(0, 64, 64), pps(0, 0), slice(0x65, true, 20)]
    );
    assert!(unit.data.starts_with(&START_CODE));
    assert_eq!(
        facts(&sender.send(8, true, &slice(0x41, true, 9))),
        [(8, Complete, false)]
    );
}

#[test]
fn a_unit_to_whose_slices_no_other_refers_is_disposable() {
    let mut sender = Sender::new();
    sender.send(1, false, &baseline_sps(0, 640, 480));
    sender.send(1, false, &pps(0, 0));
    assert!(!sender.send(1, true, &slice(0x65, true, 9))[0].disposable);
    assert!(!sender.send(2, true, &slice(0x41, true, 9))[0].disposable);
    assert!(sender.send(3, true, &slice(0x01, true, 9))[0].disposable);
    // In fragments, behind a message, in two slices.
    let nal = slice(0x01, true, 9);
    let fragment = |fu: u8, data: &[u8]| [&[0x1c, fu | 1][..], data].concat();
    sender.send(4, false, &[0x06, 5, 1, 1, 0x80]);
    sender.send(4, false, &fragment(0x80, &nal[1..5]));
    sender.send(4, false, &fragment(0x40, &nal[5..]));
    assert!(sender.send(4, true, &slice(0x01, false, 9))[0].disposable);
    // Parameter sets that come with it are needed all the same; what has no slice is not a picture.
    sender.send(5, false, &pps(0, 0));
    assert!(!sender.send(5, true, &slice(0x01, true, 9))[0].disposable);
    assert!(!sender.send(6, true, &[0x06, 5, 1, 1, 0x80])[0].disposable);
}

#[test]
fn losses_at_start_middle_and_end() {
    let mut sender = Sender::new();
    sender.keyframe(1);
    // Middle.
    sender.send(2, false, &slice(0x41, true, 9));
    sender.lose(1);
    assert_eq!(
        facts(&sender.send(2, true, &slice(0x41, false, 9))),
        [(2, Incomplete, false)]
    );
    // End, in the middle of a fragmented unit: the next unit is whole, and follows a loss.
    sender.send(3, false, &[0x7c, 0x81, 0b1011_1000, 1, 2]);
    sender.lose(1);
    let units = sender.send(4, true, &slice(0x41, true, 9));
    assert_eq!(facts(&units), [(3, Incomplete, false), (4, Complete, true)]);
    // Start, behind a marker: a later slice tells.
    sender.lose(1);
    assert_eq!(
        facts(&sender.send(5, true, &slice(0x41, false, 9))),
        [(5, Incomplete, true)]
    );
    // Start, with the first fragment gone.
    sender.lose(1);
    sender.send(6, false, &[0x7c, 0x01, 1, 2]);
    assert_eq!(
        facts(&sender.send(6, true, &[0x7c, 0x41, 1, 2])),
        [(6, Incomplete, true)]
    );
    assert_eq!(sender.depacketizer.malformed, 0);
    // Whole units between.
    sender.lose(7);
    assert_eq!(
        facts(&sender.send(9, true, &slice(0x41, true, 9))),
        [(9, Complete, true)]
    );
    assert_eq!(
        facts(&sender.send(10, true, &slice(0x41, true, 9))),
        [(10, Complete, false)]
    );
}

#[test]
fn an_idr_behind_a_loss_needs_the_sets_that_its_sender_puts_before_it() {
    let mut sender = Sender::new();
    sender.keyframe(1);
    sender.lose(2);
    assert_eq!(
        facts(&sender.send(2, true, &slice(0x65, true, 9))),
        [(2, Incomplete, true)]
    );
    sender.lose(2);
    assert_eq!(facts(&sender.keyframe(3)), [(3, Complete, true)]);
    // Whole or not, a keyframe with sets says that its sender puts them there.
    let mut other = Sender::new();
    other.send(1, false, &baseline_sps(0, 64, 64));
    other.send(1, false, &pps(0, 0));
    other.lose(1);
    assert_eq!(
        facts(&other.send(1, true, &slice(0x65, false, 9))),
        [(1, Incomplete, true)]
    );
    other.lose(1);
    assert_eq!(
        facts(&other.send(2, true, &slice(0x65, true, 9))),
        [(2, Incomplete, true)]
    );
    // The one packet that is missing had the marker of the unit before: this one is whole.
    sender.send(4, false, &slice(0x41, true, 9));
    sender.lose(1);
    let units = sender.send(5, true, &slice(0x65, true, 9));
    assert_eq!(facts(&units), [(4, Incomplete, false), (5, Complete, true)]);
}

#[test]
fn remembered_sets_go_before_an_idr_without_its_own() {
    let mut sender = Sender::new();
    sender.send(1, false, &baseline_sps(0, 64, 64));
    sender.send(1, true, &pps(0, 0));
    let units = sender.send(2, true, &slice(0x65, true, 9));
    let nals: Vec<Vec<u8>> = annex_b(&units[0].data).map(<[u8]>::to_vec).collect();
    assert_eq!(
        nals,
        [baseline_sps(0, 64, 64), pps(0, 0), slice(0x65, true, 9)]
    );
    assert_eq!(units[0].sequence.unwrap().size.height_px, 64);
}

#[test]
fn another_source_has_other_sets_but_keeps_the_declared_ones() {
    let mut declared = ParameterSets::default();
    declared.remember(&baseline_sps(0, 32, 32)).unwrap();
    declared.remember(&pps(0, 0)).unwrap();
    let mut sender = Sender::new();
    sender.depacketizer = Depacketizer::new(declared);
    let units = sender.send(1, true, &slice(0x65, true, 9));
    assert_eq!(units[0].sequence.unwrap().size.width_px, 32);
    assert_eq!(sender.keyframe(2)[0].sequence.unwrap().size.width_px, 64);
    assert_eq!(sender.depacketizer.push(Ordered::Restart).count(), 0);
    sender.depacketizer.ssrc = Some(Ssrc(99));
    let units = sender.send(3, true, &slice(0x65, true, 9));
    assert_eq!(units[0].sequence.unwrap().size.width_px, 32);
    assert_eq!(facts(&units), [(3, Complete, true)]);
}

#[test]
fn senders_without_markers_close_by_timestamp() {
    let mut sender = Sender::new();
    for payload in [baseline_sps(0, 64, 64), pps(0, 0), slice(0x65, true, 9)] {
        assert!(sender.send(1, false, &payload).is_empty());
    }
    assert_eq!(
        facts(&sender.send(2, false, &slice(0x41, true, 9))),
        [(1, Complete, true)]
    );
    assert_eq!(
        facts(&sender.send(3, false, &slice(0x41, true, 9))),
        [(2, Complete, false)]
    );
    sender.lose(1);
    let units = sender.send(4, false, &slice(0x41, true, 9));
    assert_eq!(facts(&units), [(3, Incomplete, false)]);
    assert_eq!(
        facts(&sender.depacketizer.finish().into_iter().collect::<Vec<_>>()),
        [(4, Complete, true)]
    );
}

#[test]
fn malformed_payloads_are_counted_and_spoil_their_unit() {
    let payloads: [&[u8]; 11] = [
        &[0x78, 0, 2, 0x06, 5, 0],
        &[0x78, 0x00, 0x01, 0x65, 0x00], // the STAP-A that panics elsewhere
        &[0x78],
        &[0x78, 0, 0],
        &[0x78, 0, 5, 1],
        &[0x7c],
        &[0x7c, 0x45, 1, 2],
        &[0x7c, 0x9c, 1],
        &[0x79, 1, 2, 3],
        &[0xe5, 1, 2],
        &[0x67, 1],
    ];
    for payload in payloads {
        let mut sender = Sender::new();
        sender.keyframe(1);
        sender.send(2, false, &slice(0x41, true, 9));
        let units = sender.send(2, true, payload);
        assert_eq!(facts(&units), [(2, Incomplete, false)], "{payload:02x?}");
        assert_eq!(sender.depacketizer.malformed, 1, "{payload:02x?}");
        let (_, packet) = sender.depacketizer.take_error().unwrap();
        assert_eq!((packet.ssrc.0, packet.sequence.0), (1, sender.sequence));
        assert_eq!(packet.arrived_at, sender.now);
        assert_eq!(
            facts(&sender.send(3, true, &slice(0x41, true, 9))),
            [(3, Complete, false)]
        );
    }
}

#[test]
fn what_nobody_uses_is_counted_and_spoils_nothing() {
    let payloads: [&[u8]; 8] = [
        &[0x00, 1],
        &[0, 0, 0],
        &[0, 0, 0, 1],
        &[0x7e, 1, 2],
        &[0x1f],
        &[0x78, 0, 1, 0x1f],
        &[0x1c, 0xc0, 1],
        &[0x1c, 0xdf, 1],
    ];
    for payload in payloads {
        let mut sender = Sender::new();
        sender.keyframe(1);
        sender.send(2, false, &slice(0x41, true, 9));
        let units = sender.send(2, true, payload);
        assert_eq!(facts(&units), [(2, Complete, false)], "{payload:02x?}");
        assert_eq!(sender.depacketizer.malformed, 1, "{payload:02x?}");
        assert_eq!(sender.depacketizer.take_error(), None);
        let nals: Vec<&[u8]> = annex_b(&units[0].data).collect();
        assert_eq!(nals, [slice(0x41, true, 9)], "{payload:02x?}");
    }
}

#[test]
fn a_fragment_without_an_end_ends_with_what_follows() {
    let mut sender = Sender::new();
    sender.keyframe(1);
    sender.send(2, false, &[0x7c, 0x81, 0b1011_1000, 1, 2]);
    let units = sender.send(2, true, &slice(0x41, false, 9));
    assert_eq!(facts(&units), [(2, Complete, false)]);
    let nals: Vec<&[u8]> = annex_b(&units[0].data).collect();
    assert_eq!(
        nals,
        [&[0x61, 0b1011_1000, 1, 2], &slice(0x41, false, 9)[..]]
    );
    // Its marker may be in the middle: the next timestamp tells.
    assert!(
        sender
            .send(3, true, &[0x7c, 0x81, 0b1011_1000, 1, 2])
            .is_empty()
    );
    let units = sender.send(4, true, &slice(0x41, true, 9));
    assert_eq!(facts(&units), [(3, Complete, false), (4, Complete, false)]);
    // What follows does not end it if something is missing in between, nor does the end of the source.
    sender.send(5, false, &[0x7c, 0x81, 0b1011_1000, 1, 2]);
    sender.lose(1);
    let units = sender.send(5, true, &slice(0x41, false, 9));
    assert_eq!(facts(&units), [(5, Incomplete, false)]);
    sender.send(6, true, &[0x7c, 0x81, 0b1011_1000, 1, 2]);
    let units: Vec<_> = sender.depacketizer.push(Ordered::Restart).collect();
    assert_eq!(facts(&units), [(6, Incomplete, false)]);
    assert_eq!(sender.depacketizer.malformed, 0);
}

#[test]
fn the_same_timestamp_on_every_picture_keeps_markers_in_force() {
    let mut sender = Sender::new();
    for _ in 0..3 {
        assert_eq!(facts(&sender.keyframe(1)).len(), 1);
    }
    // The first slice of a picture is lost: what is left of it is no reason to wait for another timestamp.
    sender.lose(1);
    let units = sender.send(1, true, &slice(0x41, false, 9));
    assert_eq!(facts(&units), [(1, Incomplete, true)]);
    assert_eq!(facts(&sender.keyframe(1)), [(1, Complete, false)]);
}

#[test]
fn markers_on_each_nal_unit_are_learnt_by_their_second_slice() {
    let mut sender = Sender::new();
    sender.keyframe(1);
    let picture = |sender: &mut Sender, timestamp, each: bool| {
        let mut units = sender.send(timestamp, each, &slice(0x41, true, 9));
        units.extend(sender.send(timestamp, each, &slice(0x41, false, 9)));
        units.extend(sender.send(timestamp, true, &slice(0x41, false, 9)));
        facts(&units)
    };
    assert_eq!(
        picture(&mut sender, 2, true),
        [(2, Complete, false)],
        "the rest of it is open"
    );
    assert_eq!(picture(&mut sender, 3, true), [(2, Incomplete, false)]);
    assert_eq!(picture(&mut sender, 4, true), [(3, Complete, false)]);
    // Its last packet is lost, and may as well be the first of the next picture.
    sender.lose(1);
    assert_eq!(picture(&mut sender, 5, true), [(4, Incomplete, false)]);
    // It marks the last packet alone again, and is believed after one such picture.
    assert_eq!(picture(&mut sender, 6, false), [(5, Complete, true)]);
    assert_eq!(
        picture(&mut sender, 7, false),
        [(6, Complete, false), (7, Complete, false)]
    );
}

#[test]
fn memory_is_bounded() {
    let mut sender = Sender::new();
    let nal = slice(0x41, true, 60_000);
    for _ in 0..=MAX_UNIT_BYTES / 60_000 {
        sender.send(1, false, &nal);
        let held = sender.depacketizer.open.as_ref().unwrap().data.len();
        assert!(held <= MAX_UNIT_BYTES);
    }
    let units = sender.send(1, true, &nal);
    assert_eq!(facts(&units), [(1, Oversize, true)]);
    assert!(units[0].data.is_empty());
}

fn nal_strategy() -> impl Strategy<Value = Vec<u8>> {
    // No zeros: start codes and emulation prevention are the encoder's business.
    let body = prop::collection::vec(1_u8..=255, 1..4000);
    (
        prop_oneof![Just(0x41_u8), Just(0x65), Just(0x06), Just(0x01)],
        body,
    )
        .prop_map(|(header, body)| {
            let mut nal = slice(header, true, 0);
            nal.extend(body);
            nal
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What the packetizer cuts, the depacketizer puts together again.
    #[test]
    fn round_trip(nals in prop::collection::vec(nal_strategy(), 1..5), max in 60_usize..1300, sets: bool) {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        if sets {
            expected.extend([baseline_sps(0, 64, 64), pps(0, 0)]);
        }
        expected.extend(nals);
        let mut for_decoder = Vec::new();
        for nal in &expected {
            stream.extend_from_slice(&START_CODE);
            stream.extend_from_slice(nal);
            if nal[0] & 0x1f != 6 {
                for_decoder.extend_from_slice(&START_CODE);
                for_decoder.extend_from_slice(nal);
            }
        }
        let payloads = packetize(&stream, max);
        prop_assert!(payloads.iter().all(|payload| payload.len() <= max));
        let mut sender = Sender::new();
        let last = payloads.len() - 1;
        let mut units = Vec::new();
        for (i, payload) in payloads.iter().enumerate() {
            units.extend(sender.send(5, i == last, payload));
        }
        prop_assert_eq!(facts(&units), [(5, Complete, true)]);
        prop_assert_eq!(&units[0].data[..], &for_decoder[..]);
        prop_assert_eq!(sender.depacketizer.malformed, 0);
    }

    /// Any one packet lost: the unit is known to be incomplete, or all of it came.
    #[test]
    fn any_lost_packet_is_known(nal in nal_strategy(), max in 60_usize..300, victim: prop::sample::Index) {
        let mut stream = START_CODE.to_vec();
        stream.extend_from_slice(&nal);
        let payloads = packetize(&stream, max);
        let victim = victim.index(payloads.len());
        let mut sender = Sender::new();
        sender.keyframe(1);
        let mut units = Vec::new();
        for (i, payload) in payloads.iter().enumerate() {
            if i == victim {
                sender.lose(1);
            } else {
                units.extend(sender.send(2, i + 1 == payloads.len(), payload));
            }
        }
        units.extend(sender.send(3, true, &slice(0x41, true, 9)));
        let after_loss = victim + 1 == payloads.len();
        for unit in &units {
            match unit.rtp_timestamp.0 {
                2 => prop_assert_eq!(unit.completeness, Incomplete),
                // Between the units, or in the one before: one of them says so.
                _ => prop_assert_eq!(unit.after_loss, after_loss),
            }
        }
    }

    #[test]
    fn any_payloads_are_survived(packets in prop::collection::vec(
        (0_u32..4, any::<bool>(), prop::collection::vec(prop_oneof![Just(0x7c_u8), Just(0x78), Just(0x65), Just(0x67), Just(0), any::<u8>()], 0..30), 0_u16..3),
        0..60,
    )) {
        let mut sender = Sender::new();
        for (timestamp, marker, payload, lost) in packets {
            if lost == 1 {
                sender.lose(1);
            }
            for unit in sender.send(timestamp, marker, &payload) {
                prop_assert!(unit.completeness == Complete || unit.data.is_empty());
            }
        }
        sender.depacketizer.finish();
    }
}
