//! VP8 from packets to pictures: those of ffmpeg, hidden frames, sizes that are too large, and a sender that changes
//! from one codec to the other.
#![cfg(all(feature = "openh264", feature = "vp8"))]
#![allow(
    clippy::unwrap_used,
    reason = "a test's helper has nobody to tell but the test"
)]

use std::sync::Arc;

use crate::recording::{KEYFRAME_INTERVAL, Recording, Simulation, sha256};
use bytes::Bytes;
use twinsight_media::codec::Codec;
use twinsight_media::decode::decoder::DecoderError;
use twinsight_media::decode::gate::KeyframeReason;
use twinsight_media::decode::path::{PathError, PathErrorKind};
use twinsight_media::ledger::UnitDrop;
use twinsight_media::rtp::RtpPacket;

#[test]
fn each_picture_is_that_of_ffmpeg_and_hidden_frames_are_counted() {
    // Recording, size, hidden frames.
    for (name, size, hidden) in [("vp8", (384, 288), 0), ("vp8_altref", (255, 191), 6)] {
        let recording = Recording::load(name);
        let mut simulation = Simulation::new();
        let mut pictures = Vec::new();
        simulation.play(&recording.packets, &mut |frame| {
            assert_eq!((frame.size().width_px, frame.size().height_px), size);
            pictures.push(sha256(&frame));
        });
        assert_eq!(pictures, recording.sha256, "{name}");
        assert_eq!(simulation.errors, []);
        assert_eq!(simulation.requests, []);
        let ledger = Arc::clone(&simulation.config.ledger);
        let shown = u64::try_from(pictures.len()).unwrap();
        assert_eq!(simulation.close(), (shown + hidden, shown));
        assert_eq!(ledger.units_dropped(UnitDrop::NoPicture), hidden);
    }
}

/// One sequence of packets, as one sender numbers them.
fn one_after_the_other(parts: &[&[RtpPacket]]) -> Vec<RtpPacket> {
    let mut all: Vec<RtpPacket> = Vec::new();
    for part in parts {
        let (sequence, timestamp) = all.last().map_or_else(Default::default, |last| {
            (
                last.sequence.wrapping_add(1),
                last.timestamp.wrapping_add(3000),
            )
        });
        let first = &part[0];
        all.extend(part.iter().map(|packet| {
            RtpPacket {
                sequence: sequence.wrapping_add(
                    packet
                        .sequence
                        .packets_since(first.sequence)
                        .cast_unsigned(),
                ),
                timestamp: timestamp.wrapping_add(
                    packet
                        .timestamp
                        .ticks_since(first.timestamp)
                        .cast_unsigned(),
                ),
                ..packet.clone()
            }
        }));
    }
    all
}

fn packets(recording: &Recording, units: std::ops::Range<usize>) -> Vec<RtpPacket> {
    recording.units()[units].concat()
}

#[test]
fn a_sender_may_change_its_codec_at_a_keyframe() {
    let (h264, vp8) = (Recording::load("pedestrians"), Recording::load("vp8"));
    let next = KEYFRAME_INTERVAL;
    // Each ends in the middle of an interval; the third and the fourth begin there too.
    let parts = [
        packets(&h264, 0..25),
        packets(&vp8, 0..30),
        packets(&h264, 25..next * 2 + 5),
        packets(&vp8, 30..next * 2 + 5),
    ];
    let sent = one_after_the_other(&parts.each_ref().map(Vec::as_slice));
    let mut simulation = Simulation::new();
    let mut pictures = Vec::new();
    simulation.play(&sent, &mut |frame| pictures.push(sha256(&frame)));
    let mut expected = h264.sha256[0..25].to_vec();
    expected.extend_from_slice(&vp8.sha256[0..30]);
    expected.extend_from_slice(&h264.sha256[next * 2..next * 2 + 5]);
    expected.extend_from_slice(&vp8.sha256[next * 2..next * 2 + 5]);
    assert_eq!(pictures, expected);
    assert!(!simulation.requests.is_empty());
    assert!(
        simulation
            .requests
            .iter()
            .all(|(_, reason)| *reason == KeyframeReason::Loss)
    );
    assert_eq!(simulation.errors, []);
    let ledger = Arc::clone(&simulation.config.ledger);
    assert_eq!(simulation.close(), (25 + 30 + 20 + 15, 25 + 30 + 5 + 5));
    assert_eq!(ledger.units_dropped(UnitDrop::AwaitingKeyframe), 15 + 10);
}

/// A frame that began with the one codec does not go on with the other.
#[test]
fn a_change_in_the_middle_of_a_unit_spoils_it() {
    let (h264, vp8) = (Recording::load("pedestrians"), Recording::load("vp8"));
    let keyframe = packets(&h264, 0..1);
    assert!(keyframe.len() > 2);
    let sent = one_after_the_other(&[
        &packets(&h264, 0..1),
        &keyframe[..keyframe.len() - 1],
        &packets(&vp8, 0..2),
    ]);
    let mut simulation = Simulation::new();
    let mut pictures = Vec::new();
    simulation.play(&sent, &mut |frame| pictures.push(sha256(&frame)));
    assert_eq!(
        pictures,
        [&h264.sha256[..1], &vp8.sha256[..2]].concat(),
        "the open unit gave no picture"
    );
    let ledger = Arc::clone(&simulation.config.ledger);
    assert_eq!(simulation.close(), (4, 3));
    assert_eq!(ledger.units_dropped(UnitDrop::Incomplete), 1);
}

#[test]
fn a_picture_that_is_too_large_is_refused_and_a_keyframe_asked_for() {
    let recording = Recording::load("vp8");
    let mut simulation = Simulation::new();
    let mut large = packets(&recording, 0..1);
    let mut payload = large[0].payload.to_vec();
    // Behind the descriptor of 4 bytes and the 6 of tag and start code: 16383 × 16383.
    payload[10..14].fill(0xff);
    large[0].payload = Bytes::from(payload);
    simulation.play(&large, &mut |_| panic!("it is refused"));
    assert!(matches!(
        simulation.errors[..],
        [PathError {
            kind: PathErrorKind::Decoder(DecoderError::TooLarge(_)),
            ..
        }]
    ));
    assert_eq!(simulation.requests.len(), 1);
}

/// Whole by its packets, and cut by its sender: in its first partition, which libvpx refuses, or behind it, where
/// libvpx decodes what there is.
#[test]
fn a_frame_that_its_sender_cut_gives_no_picture() {
    let recording = Recording::load("vp8");
    for (unit, keep) in [(2, 8), (KEYFRAME_INTERVAL, 100)] {
        let mut simulation = Simulation::new();
        let mut sent = packets(&recording, 0..unit + 1);
        let last = sent.len() - 1;
        sent[last].payload.truncate(keep);
        let mut pictures = Vec::new();
        simulation.play(&sent, &mut |frame| pictures.push(sha256(&frame)));
        assert_eq!(pictures, recording.sha256[..unit], "unit {unit}");
        assert!(matches!(
            simulation.errors[..],
            [PathError { kind: PathErrorKind::Decoder(DecoderError::Refused(_)), packet }]
                if packet.sequence == sent[last].sequence
        ));
        assert_eq!(simulation.requests[0].1, KeyframeReason::DecodeError);
    }
}

/// No packet of it comes: only the next frame can tell.
#[test]
fn after_a_frame_that_is_lost_whole_nothing_passes_until_a_keyframe() {
    let recording = Recording::load("vp8");
    for lost in 1..KEYFRAME_INTERVAL {
        let mut simulation = Simulation::new();
        let sent = [
            packets(&recording, 0..lost),
            packets(&recording, lost + 1..KEYFRAME_INTERVAL + 2),
        ]
        .concat();
        let mut pictures = Vec::new();
        simulation.play(&sent, &mut |frame| pictures.push(sha256(&frame)));
        let expected = [
            &recording.sha256[..lost],
            &recording.sha256[KEYFRAME_INTERVAL..KEYFRAME_INTERVAL + 2],
        ]
        .concat();
        assert_eq!(pictures, expected, "unit {lost}");
        assert_eq!(simulation.errors, []);
    }
}

#[test]
fn malformed_payloads_are_counted_as_those_of_vp8() {
    let recording = Recording::load("vp8");
    let mut simulation = Simulation::new();
    let mut sent = packets(&recording, 0..2);
    let last = sent.len() - 1;
    sent[last].payload = Bytes::from_static(&[0x90, 0x80]);
    simulation.play(&sent, &mut |_| {});
    let count = |kind| simulation.config.ledger.malformed_payloads(kind);
    assert_eq!((count(Codec::Vp8), count(Codec::H264)), (1, 0));
    assert!(matches!(
        simulation.errors[..],
        [PathError {
            kind: PathErrorKind::Vp8(_),
            ..
        }]
    ));
}
