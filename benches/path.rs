//! The path before inference on a recorded stream: reorder and depacketizer alone, and with decoding.
//! `cargo bench --bench path --no-default-features --features openh264`

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prometheus::IntCounter;
use twinsight::config::Codec;
use twinsight::decode::unit::AccessUnit;
use twinsight::h264::depacketize::Depacketizer;
use twinsight::h264::parameter_sets::ParameterSets;
use twinsight::rtp::RtpPacket;
use twinsight::rtp::reorder::Reorder;

/// Frames of a recording that a pass takes: five keyframe intervals.
const FRAMES: usize = 100;

fn load(name: &str) -> Vec<RtpPacket> {
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
            codec: Codec::H264,
            payload: Bytes::copy_from_slice(&packet[12..]),
            arrived_at: Instant::now(),
        });
    }
    packets
}

fn units(packets: &[RtpPacket]) -> Vec<AccessUnit> {
    let counter = IntCounter::new("malformed", "malformed").expect("the name is valid");
    let mut depacketizer = Depacketizer::new(counter, ParameterSets::default());
    let mut reorder = Reorder::new(Duration::from_millis(20));
    let mut units = Vec::new();
    for packet in packets {
        let now = packet.arrived_at;
        reorder.push(packet.clone());
        while let Some(ordered) = reorder.pop(now) {
            units.extend(depacketizer.push(ordered));
        }
        if units.len() == FRAMES {
            break;
        }
    }
    units
}

fn packets_to_units(criterion: &mut Criterion) {
    let packets = load("pedestrians");
    assert_eq!(units(&packets).len(), FRAMES);
    let mut group = criterion.benchmark_group("packets_to_units");
    group.throughput(Throughput::Elements(FRAMES as u64));
    group.bench_function("pedestrians", |bench| {
        bench.iter(|| black_box(units(&packets)));
    });
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
    for name in ["pedestrians", "high", "high_b"] {
        let units = units(&load(name));
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
