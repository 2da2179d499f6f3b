//! Four cameras at 15 frames a second before a detector that takes 500 ms: the real path up to it,
//! over WebRTC and openh264. Nothing piles up, no frame is inferred that is older than `max_age_ms`,
//! and the ledger is exact at the end.
#![cfg(all(feature = "webrtc", feature = "openh264"))]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{DEADLINE, root, start_hub};
use tokio::net::TcpListener;
use twinsight::config::{Config, StreamId};
use twinsight::decode::decoder::DecoderKind;
use twinsight::detect::{
    BBox, DetectError, DetectSettings, Detections, Detector, FakeDetector, ModelInfo, Object,
    Picture,
};
use twinsight::dev::camera::{self, CameraOptions};
use twinsight::dev::hub::DevHubOptions;
use twinsight::h264::clip::Clip;
use twinsight::hub::{HubClient, HubOptions};
use twinsight::node::models::Models;
use twinsight::node::{Node, NodeParts};
use twinsight::realtime::peer::IceSettings;
use twinsight::telemetry::ledger::FrameDrop;

const CAMERAS: usize = 4;
const INFERENCE: Duration = Duration::from_millis(500);
const MAX_AGE_MS: f64 = 500.0;

/// Events that are looked at; two a second come. `make long` looks at more.
const EVENTS: usize = 40;

/// Slow, and sees one person.
struct Slow(FakeDetector);

impl Detector for Slow {
    fn model(&self) -> &ModelInfo {
        self.0.model()
    }

    fn detect(
        &mut self,
        picture: Picture<'_>,
        settings: &DetectSettings,
    ) -> Result<Detections, DetectError> {
        self.0.detect(picture, settings)
    }
}

fn person() -> Object {
    Object {
        class_id: 0,
        score: 0.9,
        bbox: BBox {
            x: 1.0,
            y: 2.0,
            width: 3.0,
            height: 4.0,
        },
    }
}

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
    let clip = Arc::new(Clip::read(&root().join("media/pedestrians.h264")).unwrap());
    let ids: Vec<String> = (0..CAMERAS).map(|n| format!("cam-{n}")).collect();
    let ice = IceSettings {
        interfaces: vec!["lo".to_owned()],
        ..IceSettings::default()
    };
    for (n, id) in ids.iter().enumerate() {
        let options = CameraOptions {
            stream: "default".to_owned(),
            dial: None,
            fps: 15.0,
            start: n * 150,
            ice: ice.clone(),
        };
        tokio::spawn(camera::run(
            HubClient::start(HubOptions::simulator(&url, id)),
            Arc::clone(&clip),
            options,
        ));
    }
    let app = HubClient::start(HubOptions::simulator(&url, "app"));
    app.joined().await.unwrap();
    app.subscribe("node-1").await.unwrap();
    let mut events = app.messages(256, |message| {
        message.message_type() == Some("edgeInstance:detections")
    });

    let env = BTreeMap::from([
        ("PHYSTACK_SIMULATOR_URL".to_owned(), url.clone()),
        ("TWIN_ID".to_owned(), "node-1".to_owned()),
        ("TWINSIGHT_CAMERAS".to_owned(), ids.join(",")),
        ("TWINSIGHT_ICE__INTERFACES".to_owned(), "lo".to_owned()),
        ("TWINSIGHT_DEFAULTS__MAX_FPS".to_owned(), "0".to_owned()),
    ]);
    let config = Config::load(None, &env.into_iter().collect()).unwrap();
    let models = vec![config.cameras[0].model.clone()];
    let node = Node::start(NodeParts {
        config,
        models: Box::new(move || {
            let factory = Arc::new(|| {
                Ok(vec![
                    Box::new(Slow(FakeDetector::new(INFERENCE, vec![person()])))
                        as Box<dyn Detector>,
                ])
            });
            Models::new(models, factory)
        }),
        workers: 1,
        decoder: DecoderKind::OpenH264,
        listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
    })
    .await
    .unwrap();

    let memory = Arc::new(Mutex::new(Vec::new()));
    let mut by_camera: BTreeMap<String, usize> = BTreeMap::new();
    let started = Instant::now();
    for n in 0..events_wanted {
        let message = tokio::time::timeout(DEADLINE, events.recv())
            .await
            .expect("events go on")
            .unwrap();
        let event = &message.data["data"];
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
            memory.lock().unwrap().push(resident_mb());
        }
    }
    let elapsed = started.elapsed().as_secs_f64();
    let memory = memory.lock().unwrap().clone();
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
