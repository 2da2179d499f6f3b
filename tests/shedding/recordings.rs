//! Real streams under shedding: every picture that comes out is ffmpeg's.

#[path = "../decode_recording/mod.rs"]
mod decode_recording;

use std::collections::HashMap;
use std::time::Duration;

use decode_recording::{FRAME_TIME, Recording, Simulation, sha256};
use twinsight::rtp::RtpPacket;
use twinsight::telemetry::ledger::{ShedLevel, UnitDrop};

/// More than is late, less than the gate's backlog.
const LATE: Duration = Duration::from_millis(200);

#[test]
fn pictures_that_no_other_needs_are_left_out_and_the_others_are_right() {
    let recording = Recording::load("high_b");
    let mut simulation = Simulation::new();
    let mut came = 0;
    for unit in recording.units() {
        let sheds = simulation.config.metrics.shed_level() >= ShedLevel::ReferencesOnly;
        let late = if sheds { Duration::ZERO } else { LATE };
        let mut check = |frame: twinsight::decode::frame::Frame| {
            let index = recording.index[&frame.timing().rtp_timestamp];
            assert_eq!(sha256(&frame), recording.sha256[index], "picture {index}");
            came += 1;
        };
        for packet in unit {
            simulation.arrive_late(packet, late, &mut check);
        }
        simulation.advance_to(simulation.now + FRAME_TIME, &mut check);
    }
    let metrics = simulation.config.metrics.clone();
    assert_eq!(metrics.shed_level(), ShedLevel::ReferencesOnly);
    let shed = metrics.units_dropped(UnitDrop::Shed);
    assert!(shed >= 20 && came >= 40, "{shed} left out, {came} came");
    assert!(simulation.requests.is_empty(), "no keyframe is missed");
    simulation.close();
}

#[test]
fn keyframes_alone_come_out_and_afterwards_everything_without_a_broken_picture() {
    let recording = Recording::load("pedestrians");
    let mut simulation = Simulation::new();
    let (mut sequence, mut timestamp) = (0_u16, 0_u32);
    let mut sent = HashMap::new();
    let mut levels = Vec::new();
    let mut came = HashMap::new();
    for _ in 0..25 {
        for (index, unit) in recording.units().into_iter().enumerate() {
            timestamp += 3000;
            sent.insert(timestamp, index);
            let level = simulation.config.metrics.shed_level();
            if levels.last() != Some(&level) {
                levels.push(level);
            }
            // Late until nothing but keyframes is decoded; from then on there is time.
            let late = if levels.contains(&ShedLevel::KeyframesOnly) {
                Duration::ZERO
            } else {
                LATE
            };
            let mut check = |frame: twinsight::decode::frame::Frame| {
                let index = sent[&frame.timing().rtp_timestamp];
                assert_eq!(sha256(&frame), recording.sha256[index], "picture {index}");
                came.entry(level).or_insert_with(Vec::new).push(index);
            };
            for packet in unit {
                sequence = sequence.wrapping_add(1);
                let packet = RtpPacket {
                    sequence,
                    timestamp,
                    ..packet.clone()
                };
                simulation.arrive_late(&packet, late, &mut check);
            }
            simulation.advance_to(simulation.now + FRAME_TIME, &mut check);
        }
    }
    use ShedLevel::{InferLess, KeyframesOnly, None};
    assert_eq!(levels, [None, InferLess, KeyframesOnly, InferLess, None]);
    let keyframes = &came[&KeyframesOnly];
    assert!(
        keyframes.iter().all(|index| index % 20 == 0) && keyframes.len() >= 5,
        "{keyframes:?}"
    );
    assert_eq!(
        simulation.config.metrics.shed_level(),
        None,
        "there is time"
    );
    let shed = simulation.config.metrics.units_dropped(UnitDrop::Shed);
    assert!(shed >= 95, "{shed} left out");
    simulation.close();
}
