//! Anything as packets: random bytes, and real payloads with flipped bits, cut short or swapped. Nothing
//! panics, and every unit is accounted for.
#![cfg(feature = "openh264")]
#![allow(
    clippy::unwrap_used,
    reason = "a test's helper has nobody to tell but the test"
)]

mod decode_recording;

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use decode_recording::{Recording, Simulation};
use proptest::prelude::*;
use twinsight::rtp::RtpPacket;

static RECORDING: LazyLock<Recording> = LazyLock::new(|| Recording::load("high_b"));

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
        1 => Just(Damage::Drop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_payloads(packets in prop::collection::vec(
        (0_u32..5, any::<bool>(), prop::collection::vec(any::<u8>(), 0..200), 0_u64..60),
        1..100,
    )) {
        let mut simulation = Simulation::new();
        let mut pictures = 0_u64;
        for (i, (timestamp, marker, payload, pause)) in (0_u16..).zip(packets) {
            let sequence = i.wrapping_add(65_500);
            let packet = RtpPacket { sequence, timestamp, marker, payload: Bytes::from(payload), ..RECORDING.packets[0].clone() };
            simulation.advance_to(simulation.now + Duration::from_millis(pause), &mut |_| pictures += 1);
            simulation.arrive(&packet, &mut |_| pictures += 1);
        }
        let (_, decoded) = simulation.close();
        prop_assert_eq!(decoded, pictures);
    }

    #[test]
    fn damaged_packets(damages in prop::collection::vec(damage(), 182)) {
        let mut simulation = Simulation::new();
        let mut pictures = 0_u64;
        for (packet, damage) in RECORDING.packets.iter().zip(damages) {
            let mut packet = packet.clone();
            let mut payload = packet.payload.to_vec();
            match damage {
                Damage::None => {}
                Damage::Flip(at, bits) => { let at = at.index(payload.len()); payload[at] ^= bits; }
                Damage::Cut(at) => { let at = at.index(payload.len()); payload.truncate(at); }
                Damage::Replace(bytes) => payload = bytes,
                Damage::Header { sequence, timestamp, marker, ssrc } => {
                    packet = RtpPacket { sequence, timestamp, marker, ssrc, ..packet };
                }
                Damage::Drop => continue,
            }
            packet.payload = payload.into();
            simulation.arrive(&packet, &mut |_| pictures += 1);
            simulation.advance_to(simulation.now + Duration::from_millis(30), &mut |_| pictures += 1);
        }
        let (_, decoded) = simulation.close();
        prop_assert_eq!(decoded, pictures);
    }
}
