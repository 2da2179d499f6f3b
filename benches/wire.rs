//! Measures the codecs of the hub's socket: an event becomes a frame of the WebSocket, and the text that the hub sends back becomes
//! packets.
//! `cargo bench --bench wire`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use twinsight::clock::WallClock;
use twinsight::publish::event::{DETECTIONS, Inferred, ModelRef, SeenObject};
use twinsight_client::hub::engine_io;
use twinsight_client::hub::message::TwinMessage;
use twinsight_client::hub::options::HubMode;
use twinsight_client::hub::session::encode_call;
use twinsight_client::hub::socket_io::{Assembler, Packet};
use twinsight_client::stream_id::StreamId;
use twinsight_media::picture::{FrameTiming, PictureSize};

/// A frame in which a model found this many persons.
fn inferred(clock: &WallClock, persons: u8) -> Inferred {
    let before = |ms| clock.instant() - Duration::from_millis(ms);
    let person = |n: u8| SeenObject {
        label: "person".into(),
        class_id: 0,
        score: 0.9 - f32::from(n) / 100.0,
        x: 44.12 + 100.0 * f32::from(n),
        y: 398.03,
        width: 189.16,
        height: 505.34,
        keypoints: Vec::new(),
        outline: Vec::new(),
        following: None,
    };
    Inferred {
        id: StreamId::new("6b8f4ac0-8f4e-4a7e-9c0e-5d1f2a3b4c5d", "default"),
        name: "Front door".into(),
        size: PictureSize {
            width_px: 1280,
            height_px: 720,
        },
        timing: FrameTiming {
            received_at: before(47),
            completed_at: before(35),
            decoded_at: before(33),
            rtp_timestamp: 3_123_456_789.into(),
            captured_at_unix_ms: Some(1_795_359_600_500),
        },
        started_at: before(30),
        preprocess: Duration::from_micros(412),
        inference: Duration::from_micros(28_633),
        postprocess: Duration::from_micros(287),
        finished_at: before(1),
        objects: (0..persons).map(person).collect(),
        model: Arc::new(ModelRef {
            name: "nanodet_g_coco".to_owned(),
            sha256: Some(
                "5738eed7f40c55258ecd1118d79a0aee9f7f47622ff9030b100089b49cca82fb".to_owned(),
            ),
            keypoint_names: Arc::new([]),
        }),
        skipped_frames: 2,
        max_skip: None,
        trace: None,
    }
}

/// Encodes the event that the node's twin emits as a frame of the WebSocket.
fn encode(inferred: &Inferred, clock: &WallClock) -> String {
    let twin_id = "0d9c2f7e-3c1b-4f64-8d8e-7a6b5c4d3e2f";
    let event = inferred.event("8f1c0d2e4b6a48c0a2f4e6d8c0b2a496", 1834, clock);
    let event = serde_json::to_value(event).expect("the event serialises");
    let data = json!({
        "type": format!("edgeInstance:{DETECTIONS}"),
        "sourceTwinId": twin_id,
        "sourceDeviceId": "device-17",
        "data": event,
    });
    let message = TwinMessage {
        twin_id: twin_id.to_owned(),
        source_twin_id: twin_id.to_owned(),
        source_device_id: "device-17".to_owned(),
        data,
    };
    let payload = message.into_value();
    encode_call(HubMode::Direct, twin_id, "twinMessage", payload, None)
}

fn decode(assembler: &mut Assembler, text: &str) -> Option<Packet> {
    match engine_io::Packet::decode_text(text) {
        Ok(engine_io::Packet::Message(text)) => assembler.text(&text).ok().flatten(),
        _ => None,
    }
}

fn out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    let clock = WallClock::read();
    for persons in [0, 5, 50] {
        let inferred = inferred(&clock, persons);
        group.bench_function(format!("detections of {persons} objects"), |bench| {
            bench.iter(|| encode(black_box(&inferred), &clock));
        });
    }
    group.finish();
}

fn back(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    let mut assembler = Assembler::default();
    let clock = WallClock::read();
    let event = encode(&inferred(&clock, 5), &clock);
    let ack = r#"434711[{"status":"success"}]"#;
    for (name, text) in [
        ("acknowledgement", ack),
        ("detections of 5 objects", &event),
    ] {
        assert!(decode(&mut assembler, text).is_some(), "{text}");
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bench| {
            bench.iter(|| decode(&mut assembler, black_box(text)));
        });
    }
    group.finish();
}

criterion_group!(benches, out, back);
criterion_main!(benches);
