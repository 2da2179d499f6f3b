//! Which unit a picture belongs to, in streams of High profile without and with B slices; resolution
//! changes; no picture buffer leaks in a long run.
#![cfg(feature = "openh264")]
#![allow(
    clippy::unwrap_used,
    reason = "a test's helper has nobody to tell but the test"
)]

use std::time::Duration;

use crate::recording::{FRAME_TIME, KEYFRAME_INTERVAL, Recording, Simulation, sha256};
use twinsight_media::decode::gate::KeyframeReason;
use twinsight_media::h264::bits::{BitReader, BitWriter};
use twinsight_media::h264::nal::unescape;
use twinsight_media::h264::sps::Sps;
use twinsight_media::ledger::UnitDrop;
use twinsight_media::rtp::{RtpPacket, RtpTimestamp, SequenceNumber};

#[test]
fn without_b_slices_unit_n_gives_picture_n_at_once() {
    for name in ["high", "high_poc", "main", "pedestrians"] {
        let mut recording = Recording::load(name);
        if name == "high_poc" {
            // It declares B slices that never come; here it says nothing.
            let patched = recording
                .packets
                .iter_mut()
                .filter_map(|packet| remove_vui(packet).then_some(()))
                .count();
            assert_eq!(patched, 5);
        }
        let mut simulation = Simulation::new();
        for (i, unit) in recording.units().into_iter().take(60).enumerate() {
            let mut came = Vec::new();
            for packet in unit {
                simulation.arrive(packet, &mut |frame| came.push(frame));
            }
            assert_eq!(came.len(), 1, "{name}: pictures of unit {i}");
            assert_eq!(came[0].timing().rtp_timestamp, unit[0].timestamp);
            assert_eq!(sha256(&came[0]), recording.sha256[i], "{name}: picture {i}");
            assert_eq!(simulation.path.held(), 0);
            simulation.now += FRAME_TIME;
        }
        assert_eq!(simulation.close(), (60, 60));
    }
}

#[test]
fn a_long_high_stream_keeps_giving_pictures() {
    let recording = Recording::load("high");
    let mut simulation = Simulation::new();
    let mut pictures = 0;
    let (mut sequence, mut timestamp) = (SequenceNumber(0), RtpTimestamp(0));
    for _ in 0..15 {
        for unit in recording.units() {
            timestamp = timestamp.wrapping_add(9000);
            for packet in unit {
                sequence = sequence.wrapping_add(1);
                let packet = RtpPacket {
                    sequence,
                    timestamp,
                    ..packet.clone()
                };
                simulation.arrive(&packet, &mut |frame| {
                    assert_eq!(frame.timing().rtp_timestamp, timestamp);
                    pictures += 1;
                });
            }
            simulation.now += FRAME_TIME;
        }
    }
    assert_eq!(pictures, 1500);
    assert_eq!(simulation.close(), (1500, 1500));
}

#[test]
fn declared_b_slices_come_out_in_display_order() {
    let recording = Recording::load("high_b");
    let mut simulation = Simulation::new();
    let mut order = Vec::new();
    let mut most_held = 0;
    for unit in recording.units() {
        simulation.play(unit, &mut |frame| order.push(check(&recording, &frame)));
        most_held = most_held.max(simulation.path.held());
    }
    assert!(order.is_sorted() && order.len() >= 96, "{order:?}");
    assert!(most_held <= 4, "{most_held} pictures were held");
    assert!(simulation.requests.is_empty());
    let held = 100 - order.len();
    let ledger = simulation.config.ledger.clone();
    let (received, decoded) = simulation.close();
    assert_eq!(
        (received, decoded),
        (100, u64::try_from(order.len()).unwrap())
    );
    assert_eq!(
        ledger.units_dropped(UnitDrop::Shutdown),
        u64::try_from(held).unwrap()
    );
}

#[test]
fn undeclared_b_slices_are_found_and_come_right_from_the_next_keyframe_on() {
    let mut recording = Recording::load("high_b");
    let mut patched = 0;
    for packet in &mut recording.packets {
        patched += usize::from(remove_vui(packet));
    }
    assert_eq!(patched, 5, "every keyframe has parameter sets");
    let mut simulation = Simulation::new();
    let mut came = Vec::new();
    for unit in recording.units() {
        simulation.play(unit, &mut |frame| came.push(check(&recording, &frame)));
    }
    assert_eq!(simulation.requests[0].1, KeyframeReason::Reordering);
    let from_keyframe: Vec<usize> = came
        .iter()
        .copied()
        .filter(|&i| i >= KEYFRAME_INTERVAL)
        .collect();
    assert!(
        from_keyframe.is_sorted() && from_keyframe.len() >= 76,
        "{came:?}"
    );
    assert_eq!(from_keyframe[0], KEYFRAME_INTERVAL);
    simulation.close();
}

#[test]
fn the_resolution_changes_in_mid_stream() {
    let large = Recording::load("pedestrians");
    let small = Recording::load("high");
    let mut simulation = Simulation::new();
    let mut sizes = Vec::new();
    let (mut sequence, mut base) = (SequenceNumber(0), RtpTimestamp(0));
    for (recording, frames) in [(&large, 30), (&small, 30), (&large, 25)] {
        let first = recording.packets[0].timestamp;
        for unit in recording.units().into_iter().take(frames) {
            for packet in unit {
                sequence = sequence.wrapping_add(1);
                let ticks = packet.timestamp.ticks_since(first).cast_unsigned();
                let timestamp = base.wrapping_add(ticks);
                let packet = RtpPacket {
                    sequence,
                    timestamp,
                    ..packet.clone()
                };
                simulation.arrive(&packet, &mut |frame| {
                    let ticks = frame.timing().rtp_timestamp.ticks_since(base);
                    let index = recording.index[&first.wrapping_add(ticks.cast_unsigned())];
                    assert_eq!(sha256(&frame), recording.sha256[index]);
                    sizes.push((frame.size().width_px, frame.size().height_px));
                });
            }
            simulation.now += FRAME_TIME;
        }
        base = base.wrapping_add(1_000_000);
    }
    let runs: Vec<_> = sizes
        .chunk_by(|a, b| a == b)
        .map(|run| (run[0], run.len()))
        .collect();
    assert_eq!(runs, [((768, 576), 30), ((384, 288), 30), ((768, 576), 25)]);
    assert!(simulation.requests.is_empty());
    assert_eq!(simulation.close(), (85, 85));
}

#[test]
fn scaling_lists_cost_a_unit_of_delay_and_nothing_else() {
    let mut recording = Recording::load("high_scaling");
    for packet in &mut recording.packets {
        add_scaling_lists(packet);
    }
    let mut simulation = Simulation::new();
    let mut came = Vec::new();
    for (i, unit) in recording.units().into_iter().enumerate() {
        simulation.play(unit, &mut |frame| came.push(check(&recording, &frame)));
        // One is held because the stream announces B slices.
        assert!(came.len() + 1 >= i, "at most two pictures are held");
    }
    assert!(came.is_sorted());
    assert!(simulation.requests.is_empty());
    simulation.close();
}

#[test]
fn a_loss_lets_out_what_is_decoded_already() {
    let recording = Recording::load("high_b");
    let mut simulation = Simulation::new();
    let mut came = Vec::new();
    let units = recording.units();
    for (i, unit) in units.iter().take(30).enumerate() {
        if i != 10 {
            simulation.play(unit, &mut |frame| came.push(check(&recording, &frame)));
        }
        if i == 11 {
            simulation.advance_to(simulation.now + Duration::from_secs(1), &mut |frame| {
                came.push(check(&recording, &frame))
            });
            assert_eq!(simulation.path.held(), 0);
            assert_eq!(came.len(), 10, "{came:?}");
        }
    }
    assert_eq!(simulation.requests[0].1, KeyframeReason::Loss);
    assert!(came.contains(&KEYFRAME_INTERVAL));
    simulation.close();
}

fn check(recording: &Recording, frame: &twinsight_media::picture::Frame) -> usize {
    let index = recording.index[&frame.timing().rtp_timestamp];
    let found = recording.sha256.iter().position(|h| *h == sha256(frame));
    eprintln!("picture {index} found {found:?}");
    index
}

/// Cuts the VUI off an x264 High SPS, as encoders send it that do not say how many frames they reorder.
fn remove_vui(packet: &mut RtpPacket) -> bool {
    edit_sps(packet, |bits, new| {
        copy(bits, new, 24);
        // id, chroma format, two depths.
        copy_ue(bits, new, 4);
        copy(bits, new, 2);
        // frame_num, order count type 0 and its length, reference frames.
        copy_ue(bits, new, 4);
        copy(bits, new, 1);
        copy_ue(bits, new, 2);
        // Frames only, direct 8x8, no cropping; then the flag of the VUI.
        assert_eq!(bits.clone().bits(4), Ok(0b1101));
        copy(bits, new, 3);
        new.u(1, 0);
    })
}

/// Says in the SPS what holds without: the default scaling lists of the standard. x264 says it in the PPS.
fn add_scaling_lists(packet: &mut RtpPacket) -> bool {
    edit_sps(packet, |bits, new| {
        copy(bits, new, 24);
        copy_ue(bits, new, 4);
        copy(bits, new, 1);
        assert_eq!(bits.flag(), Ok(false));
        new.u(1, 1).u(8, 0);
        // What is left, up to the stop bit.
        let mut rest = Vec::new();
        while let Ok(bit) = bits.flag() {
            rest.push(u32::from(bit));
        }
        while rest.pop() == Some(0) {}
        for bit in rest {
            new.u(1, bit);
        }
    })
}

/// Edits the SPS that leads a STAP-A; false for other packets.
fn edit_sps(packet: &mut RtpPacket, edit: fn(&mut BitReader<'_>, &mut BitWriter)) -> bool {
    let payload = packet.payload.clone();
    if payload[0] & 0x1f != 24 || payload[3] & 0x1f != 7 {
        return false;
    }
    let size = usize::from(u16::from_be_bytes([payload[1], payload[2]]));
    let (sps, rest) = payload[3..].split_at(size);
    let plain = unescape(&sps[1..]);
    let mut new = BitWriter::default();
    edit(&mut BitReader::new(&plain), &mut new);
    let sps = new.nal(sps[0]);
    assert!(Sps::parse(&sps).is_ok());
    let mut edited = vec![payload[0]];
    edited.extend(u16::try_from(sps.len()).unwrap().to_be_bytes());
    edited.extend(sps);
    edited.extend(rest);
    packet.payload = edited.into();
    true
}

fn copy(bits: &mut BitReader<'_>, new: &mut BitWriter, count: u32) {
    new.u(count, bits.bits(count).unwrap());
}

fn copy_ue(bits: &mut BitReader<'_>, new: &mut BitWriter, codes: usize) {
    for _ in 0..codes {
        new.ue(bits.ue().unwrap());
    }
}
