//! Anything as packets: random bytes, and real payloads with flipped bits, cut short or swapped. Nothing
//! panics, and every unit is accounted for.
#![cfg(feature = "openh264")]
#![allow(
    clippy::unwrap_used,
    reason = "a test's helper has nobody to tell but the test"
)]

use std::sync::LazyLock;
use std::time::Duration;

use crate::recording::{Recording, Simulation};
use bytes::Bytes;
use proptest::prelude::*;
use twinsight_media::codec::Codec;
use twinsight_media::rtp::{RtpPacket, RtpTimestamp, SequenceNumber, Ssrc};

static H264: LazyLock<Recording> = LazyLock::new(|| Recording::load("high_b"));
#[cfg(feature = "vp8")]
static VP8: LazyLock<Recording> = LazyLock::new(|| Recording::load("vp8_altref"));

/// What is done to a packet.
#[derive(Debug, Clone)]
enum Damage {
    None,
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Replace(Vec<u8>),
    Header {
        sequence: u16,
        timestamp: u32,
        marker: bool,
        ssrc: u32,
    },
    Codec(Codec),
    Drop,
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        30 => Just(Damage::None),
        3 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        1 => any::<prop::sample::Index>().prop_map(Damage::Cut),
        1 => prop::collection::vec(any::<u8>(), 0..100).prop_map(Damage::Replace),
        1 => (any::<u16>(), any::<u32>(), any::<bool>(), 0_u32..3)
            .prop_map(|(sequence, timestamp, marker, ssrc)| Damage::Header { sequence, timestamp, marker, ssrc }),
        1 => prop::sample::select(Codec::ALL).prop_map(Damage::Codec),
        1 => Just(Damage::Drop),
    ]
}

/// Plays any payloads with these headers; units and pictures are counted.
fn play_random(recording: &Recording, packets: Vec<(u32, bool, Vec<u8>, u64)>) {
    let mut simulation = Simulation::new();
    let mut pictures = 0_u64;
    for (i, (timestamp, marker, payload, pause)) in (0_u16..).zip(packets) {
        let packet = RtpPacket {
            sequence: SequenceNumber(i).wrapping_add(65_500),
            timestamp: RtpTimestamp(timestamp),
            marker,
            payload: Bytes::from(payload),
            ..recording.packets[0].clone()
        };
        simulation.advance_to(simulation.now + Duration::from_millis(pause), &mut |_| {
            pictures += 1;
        });
        simulation.arrive(&packet, &mut |_| pictures += 1);
    }
    let (_, decoded) = simulation.close();
    assert_eq!(decoded, pictures);
}

/// Plays a recording's packets after something was done to each.
fn play_damaged(recording: &Recording, damages: Vec<Damage>) {
    let mut simulation = Simulation::new();
    let mut pictures = 0_u64;
    for (packet, damage) in recording.packets.iter().zip(damages) {
        let mut packet = packet.clone();
        let mut payload = packet.payload.to_vec();
        match damage {
            Damage::None => {}
            Damage::Flip(at, bits) => {
                let at = at.index(payload.len());
                payload[at] ^= bits;
            }
            Damage::Cut(at) => {
                let at = at.index(payload.len());
                payload.truncate(at);
            }
            Damage::Replace(bytes) => payload = bytes,
            Damage::Header {
                sequence,
                timestamp,
                marker,
                ssrc,
            } => {
                packet = RtpPacket {
                    sequence: SequenceNumber(sequence),
                    timestamp: RtpTimestamp(timestamp),
                    marker,
                    ssrc: Ssrc(ssrc),
                    ..packet
                };
            }
            Damage::Codec(codec) => packet.codec = codec,
            Damage::Drop => continue,
        }
        packet.payload = payload.into();
        simulation.arrive(&packet, &mut |_| pictures += 1);
        simulation.advance_to(simulation.now + Duration::from_millis(30), &mut |_| {
            pictures += 1;
        });
    }
    let (_, decoded) = simulation.close();
    assert_eq!(decoded, pictures);
}

fn random_packets() -> impl Strategy<Value = Vec<(u32, bool, Vec<u8>, u64)>> {
    let payload = prop::collection::vec(any::<u8>(), 0..200);
    prop::collection::vec((0_u32..5, any::<bool>(), payload, 0_u64..60), 1..100)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_payloads(packets in random_packets()) {
        play_random(&H264, packets);
    }

    #[test]
    fn damaged_packets(damages in prop::collection::vec(damage(), 182)) {
        play_damaged(&H264, damages);
    }
}

#[cfg(feature = "vp8")]
proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_payloads_of_vp8(packets in random_packets()) {
        play_random(&VP8, packets);
    }

    #[test]
    fn damaged_packets_of_vp8(damages in prop::collection::vec(damage(), 182)) {
        play_damaged(&VP8, damages);
    }
}
