//! The official Python client as camera and as listener: a camera that answers and one that dials
//! publish the pedestrian clip at 15 frames a second through aiortc; a listener made with the same
//! client receives the node's detections. And the official npm client as a camera that sends VP8.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::common::{NodeProcess, Program, root, start_hub};
use serde_json::Value;
use twinsight::dev::hub::DevHubOptions;

const WATCHED: Duration = Duration::from_secs(20);
/// A fifth of what a stream's limit allows: how fast it is on an idle machine is for benches.
const EVENTS_A_SECOND: f64 = 1.0;

const SETTINGS: &str = "[defaults]\nmodel = \"ssdlite_mobilenet_v2_coco\"\n";

fn camera(args: &[&str], env: &[(&str, &str)]) -> Program {
    let clip = root().join("media/pedestrians.h264");
    let args: Vec<&str> = std::iter::once(clip.to_str().unwrap())
        .chain(args.iter().copied())
        .collect();
    Program::python("camera.py", &args, env)
}

/// Events by camera during `WATCHED`, from the first one of each camera on.
async fn watch(listener: &mut Program, cameras: &[&str]) -> HashMap<String, Vec<Value>> {
    let mut events: HashMap<String, Vec<Value>> = HashMap::new();
    let mut until = None;
    while until.is_none_or(|until| Instant::now() < until) {
        let line = listener.line().await.expect("the listener goes on");
        let Ok(event) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        if let Some(camera) = event["camera"]["twinId"].as_str() {
            events
                .entry(camera.to_owned())
                .or_default()
                .push(event.clone());
        }
        if until.is_none() && cameras.iter().all(|camera| events.contains_key(*camera)) {
            events.clear();
            until = Some(Instant::now() + WATCHED);
        }
    }
    events
}

fn check(all: &[Value]) {
    for pair in all.windows(2) {
        assert_eq!(
            pair[1]["sequence"].as_u64(),
            pair[0]["sequence"].as_u64().map(|n| n + 1),
            "no event is lost"
        );
        assert_eq!(pair[0]["runId"], pair[1]["runId"]);
    }
    // Those of tracks share the numbers.
    let of_frames = all.iter().filter(|event| event["frame"].is_object());
    let events: Vec<&Value> = of_frames.collect();
    let rate = events.len() as f64 / WATCHED.as_secs_f64();
    assert!(rate >= EVENTS_A_SECOND, "{rate} events a second");
    let is_person = |object: &Value| object["label"] == "person";
    let with_persons = events
        .iter()
        .filter(|event| event["objects"].as_array().unwrap().iter().any(is_person))
        .count();
    assert!(
        with_persons * 10 >= events.len() * 9,
        "persons in {with_persons} of {} frames",
        events.len()
    );
    for event in events {
        assert_eq!(
            (
                event["frame"]["width"].as_u64(),
                event["frame"]["height"].as_u64()
            ),
            (Some(768), Some(576))
        );
        let latency = event["latencyMs"].as_object().unwrap();
        let parts: f64 = latency
            .iter()
            .filter(|(part, _)| *part != "total")
            .map(|(_, ms)| ms.as_f64().unwrap())
            .sum();
        let total = latency["total"].as_f64().unwrap();
        assert!((parts - total).abs() < 0.05, "{latency:?}");
        let aged =
            event["timestamp"].as_f64().unwrap() - event["frame"]["receivedAt"].as_f64().unwrap();
        assert!((aged - total).abs() <= 1.0, "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_that_answers_and_one_that_dials_are_detected_on() {
    let url = start_hub(DevHubOptions::default()).await;
    let hub = ("PHYSTACK_SIMULATOR_URL", url.as_str());
    let config = format!(
        "{SETTINGS}[[cameras]]\ntwin_id = \"cam-answers\"\n[[cameras]]\ntwin_id = \"cam-dials\"\nconnect = \"accept\"\n"
    );
    let mut node = NodeProcess::start(&config, &[hub, ("TWIN_ID", "node-1")]).await;
    node.program.until("the hub is joined").await;
    let mut answers = camera(&[], &[hub, ("TWIN_ID", "cam-answers")]);
    let mut dials = camera(&["--dial", "node-1"], &[hub, ("TWIN_ID", "cam-dials")]);
    let mut stranger = camera(&["--dial", "node-1"], &[hub, ("TWIN_ID", "cam-unknown")]);
    answers.until("armed").await;
    dials.until("armed").await;
    stranger.until("armed").await;
    let mut listener = Program::python(
        "listener.py",
        &["node-1", "--tracks"],
        &[hub, ("TWIN_ID", "app-1")],
    );
    listener.until("ready").await;

    while node.metric("signals_refused_total", "unknown_twin") < 1.0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(stranger);
    let events = watch(&mut listener, &["cam-answers", "cam-dials"]).await;
    assert_eq!(
        events.len(),
        2,
        "only the configured cameras: {:?}",
        events.keys()
    );
    check(&events["cam-answers"]);
    check(&events["cam-dials"]);
    assert_eq!(node.metric("malformed_input_total", ""), 0.0);

    node.program.signal("TERM");
    assert!(node.program.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_in_direct_mode() {
    let url = start_hub(DevHubOptions::default()).await;
    let as_device = |id: &'static str| {
        vec![
            ("PHYHUB_DIRECT", "1"),
            ("PHYHUB_URL", url.as_str()),
            ("DEVICE_ID", id),
            ("ACCESS_KEY", "key"),
        ]
    };
    let mut answers = camera(&[], &as_device("device-camera"));
    answers.until("armed").await;
    let config = format!(
        "{SETTINGS}[[cameras]]\ntwin_id = \"{}\"\n",
        direct_twin("device-camera")
    );
    let node = NodeProcess::start(&config, &as_device("device-node")).await;
    let twin = direct_twin("device-node");
    let mut listener = Program::python(
        "listener.py",
        &[&twin, "--tracks"],
        &as_device("device-app"),
    );
    listener.until("ready").await;
    let events = watch(&mut listener, &[&direct_twin("device-camera")]).await;
    check(&events[&direct_twin("device-camera")]);
    drop(node);
}

/// The official npm client 4.x has no H.264, and no track before it is connected.
#[cfg(feature = "vp8")]
#[tokio::test(flavor = "multi_thread")]
async fn a_camera_on_the_npm_client_that_sends_vp8_is_detected_on() {
    let url = start_hub(DevHubOptions::default()).await;
    let hub = ("PHYSTACK_SIMULATOR_URL", url.as_str());
    let config = format!("{SETTINGS}[[cameras]]\ntwin_id = \"cam-npm\"\ndialect = \"legacy\"\n");
    let mut node = NodeProcess::start(&config, &[hub, ("TWIN_ID", "node-1")]).await;
    node.program.until("the hub is joined").await;
    let clip = root().join("media/pedestrians.h264");
    let mut camera = Program::npm(
        "media.mjs",
        &["--send", clip.to_str().unwrap()],
        &url,
        "cam-npm",
    );
    camera.until("sending").await;
    let mut listener = Program::python(
        "listener.py",
        &["node-1", "--tracks"],
        &[hub, ("TWIN_ID", "app-1")],
    );
    listener.until("ready").await;
    let events = watch(&mut listener, &["cam-npm"]).await;
    check(&events["cam-npm"]);
    assert_eq!(node.metric("malformed_input_total", ""), 0.0);
    node.program.signal("TERM");
    assert!(node.program.ended().await.success());
}

/// The twin that the development hub makes up for a device.
fn direct_twin(device: &str) -> String {
    format!("device-{device}")
}
