//! The path before inference on a recorded stream: reorder and depacketizer alone, and with decoding.
//! `cargo bench --bench path --no-default-features --features openh264,vp8`

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prometheus::IntCounter;
use twinsight::config::Codec;
use twinsight::decode::unit::AccessUnit;
use twinsight::h264;
use twinsight::h264::parameter_sets::ParameterSets;
use twinsight::rtp::RtpPacket;
use twinsight::rtp::reorder::Reorder;
use twinsight::vp8;

/// Frames of a recording that a pass takes: five keyframe intervals.
const FRAMES: usize = 100;

fn load(name: &str, codec: Codec) -> Vec<RtpPacket> {
    let file = format!("tests/data/rtp_{name}.bin");
    let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file))
        .expect("the recording is in the repository");
    let mut packets = Vec::new();
    let mut rest = &bytes[..];
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let (packet, behind) = behind.split_at(usize::from(u16::from_be_bytes(*length)));
        rest = behind;
        packets.push(RtpPacket {
            sequence: u16::from_be_bytes([packet[2], packet[3]]),
            timestamp: u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]),
            marker: packet[1] & 0x80 != 0,
            ssrc: 1,
            codec,
            payload: Bytes::copy_from_slice(&packet[12..]),
            arrived_at: Instant::now(),
        });
    }
    packets
}

fn units(packets: &[RtpPacket]) -> Vec<AccessUnit> {
    let counter = IntCounter::new("malformed", "malformed").expect("the name is valid");
    let mut of_h264 =
        h264::depacketize::Depacketizer::new(counter.clone(), ParameterSets::default());
    let mut of_vp8 = vp8::depacketize::Depacketizer::new(counter);
    let codec = packets[0].codec;
    let mut reorder = Reorder::new(Duration::from_millis(20));
    let mut units = Vec::new();
    for packet in packets {
        let now = packet.arrived_at;
        reorder.push(packet.clone());
        while let Some(ordered) = reorder.pop(now) {
            match codec {
                Codec::H264 => units.extend(of_h264.push(ordered)),
                Codec::Vp8 => units.extend(of_vp8.push(ordered)),
            }
        }
        if units.len() == FRAMES {
            break;
        }
    }
    units
}

fn packets_to_units(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packets_to_units");
    group.throughput(Throughput::Elements(FRAMES as u64));
    for (name, codec) in [("pedestrians", Codec::H264), ("vp8", Codec::Vp8)] {
        let packets = load(name, codec);
        assert_eq!(units(&packets).len(), FRAMES);
        group.bench_function(name, |bench| {
            bench.iter(|| black_box(units(&packets)));
        });
    }
    group.finish();
}

#[cfg(feature = "openh264")]
fn units_to_frames(criterion: &mut Criterion) {
    use twinsight::config::StreamId;
    use twinsight::decode::decoder::DecoderKind;
    use twinsight::decode::stream::DecodeStream;
    use twinsight::telemetry::metrics::Metrics;

    let mut group = criterion.benchmark_group("units_to_frames");
    group.throughput(Throughput::Elements(FRAMES as u64));
    group.sample_size(10);
    let recordings = [
        ("pedestrians", Codec::H264),
        ("high", Codec::H264),
        ("high_b", Codec::H264),
        ("vp8", Codec::Vp8),
    ];
    let built_in = |(_, codec): &(&str, Codec)| Codec::built_in().contains(codec);
    for (name, codec) in recordings.into_iter().filter(built_in) {
        let units = units(&load(name, codec));
        let metrics = Metrics::new().stream(&StreamId::new("camera", "default"));
        let backlog = Duration::from_secs(3600);
        let mut stream = DecodeStream::new(metrics, DecoderKind::Software, backlog);
        group.bench_function(name, |bench| {
            bench.iter(|| {
                for unit in &units {
                    stream.push(unit.clone(), unit.completed_at, &mut |frame| {
                        black_box(frame);
                    });
                }
            });
        });
    }
    group.finish();
}

#[cfg(not(feature = "openh264"))]
fn units_to_frames(_: &mut Criterion) {}

criterion_group!(benches, packets_to_units, units_to_frames);
criterion_main!(benches);
