//! Four cameras at 15 frames a second before a detector that takes 500 ms: the real path up to it,
//! over WebRTC and openh264. Nothing piles up, no frame is inferred that is older than `max_age_ms`,
//! and the ledger is exact at the end.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]
#![cfg(all(feature = "webrtc", feature = "openh264"))]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{DEADLINE, fake, start_hub};
use twinsight::config::StreamId;
use twinsight::dev::hub::DevHubOptions;
use twinsight::telemetry::ledger::FrameDrop;

const CAMERAS: usize = 4;
const INFERENCE: Duration = Duration::from_millis(500);
const MAX_AGE_MS: f64 = 500.0;

/// Events that are looked at; two a second come. `make long` looks at more.
const EVENTS: usize = 40;

/// Resident memory of this process in MB.
fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<f64>()
        .unwrap()
        / 1024.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_flat_frames_are_fresh_and_the_ledger_is_exact() {
    overload(EVENTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten minutes: make long"]
async fn the_same_for_ten_minutes() {
    overload(1200).await;
}

async fn overload(events_wanted: usize) {
    let url = start_hub(DevHubOptions::default()).await;
    let ids: Vec<String> = (0..CAMERAS).map(|n| format!("cam-{n}")).collect();
    for id in &ids {
        fake::camera(&url, id, "default", None, 15.0);
    }
    let (_app, mut events) = fake::listen(&url).await;
    let cameras: String = ids
        .iter()
        .map(|id| format!("[[cameras]]\ntwin_id = \"{id}\"\n"))
        .collect();
    let node = fake::node(
        &url,
        &format!("[defaults]\nmax_fps = 0\n{cameras}"),
        INFERENCE,
    )
    .await;

    let mut memory = Vec::new();
    let mut by_camera: BTreeMap<String, usize> = BTreeMap::new();
    let started = Instant::now();
    for n in 0..events_wanted {
        let event = loop {
            let message = tokio::time::timeout(DEADLINE, events.recv())
                .await
                .expect("events go on")
                .unwrap();
            if message.message_type() == Some("edgeInstance:detections") {
                break message.data["data"].clone();
            }
        };
        let latency = &event["latencyMs"];
        let part = |name: &str| latency[name].as_f64().unwrap();
        let age_at_start = part("receive") + part("decode") + part("wait");
        assert!(
            age_at_start <= MAX_AGE_MS + 1.0,
            "inference began at an age of {age_at_start} ms: {latency}"
        );
        *by_camera
            .entry(event["camera"]["twinId"].as_str().unwrap().to_owned())
            .or_default() += 1;
        if n >= events_wanted / 4 {
            memory.push(resident_mb());
        }
    }
    let elapsed = started.elapsed().as_secs_f64();
    let (first, last) = (memory[0], memory[memory.len() - 1]);
    println!(
        "{events_wanted} events in {elapsed:.1} s, {by_camera:?}, resident {first:.1} MB, later {last:.1} MB"
    );
    assert!(
        last - first < 8.0,
        "resident memory grew from {first:.1} to {last:.1} MB"
    );
    let (fewest, most) = (
        by_camera.values().min().unwrap(),
        by_camera.values().max().unwrap(),
    );
    assert!(
        by_camera.len() == CAMERAS && most - fewest <= 3,
        "every camera is served alike: {by_camera:?}"
    );

    let metrics = Arc::clone(node.metrics());
    node.shutdown().await;
    for id in &ids {
        let stream = metrics.stream(&StreamId::new(id.as_str(), "default"));
        let ledger = stream.ledger();
        assert!(ledger.balances(), "{id}: {ledger:?}");
        assert!(
            ledger.frames_decoded > 0 && stream.frames_dropped(FrameDrop::Replaced) > 0,
            "{id}: {ledger:?}"
        );
    }
}
