//! Cameras come and go, and so does the hub; the node goes on. Cameras, hub and node are ours and
//! real, the detector is a fake.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::common::ports::unused_address;
use crate::common::{DEADLINE, fake, start_hub};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use twinsight::dev::hub::DevHubOptions;
use twinsight::telemetry::ledger::EventDrop;
use twinsight_client::hub::MessageReceiver;
use twinsight_client::stream_id::StreamId;

const INFERENCE: Duration = Duration::from_millis(5);

/// Waits for an event that is asked for.
async fn event(
    messages: &mut MessageReceiver,
    what: &str,
    wanted: impl Fn(&str, &Value) -> bool,
) -> Value {
    let found = async {
        loop {
            let message = messages.recv().await.expect("the app stays on the hub");
            let kind = message
                .message_type()
                .unwrap_or_default()
                .trim_start_matches("edgeInstance:")
                .to_owned();
            let data = message.data["data"].clone();
            if wanted(&kind, &data) {
                return data;
            }
        }
    };
    tokio::time::timeout(DEADLINE, found)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come"))
}

fn is_state(kind: &str, data: &Value, twin: &str, state: &str) -> bool {
    kind == "cameraStatus" && data["camera"]["twinId"] == twin && data["state"] == state
}

fn is_detection(kind: &str, data: &Value, twin: &str) -> bool {
    kind == "detections" && data["camera"]["twinId"] == twin
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_cameras_and_several_streams_of_one() {
    let url = start_hub(DevHubOptions::default()).await;
    let (_app, mut messages) = fake::listen(&url).await;
    let config = r#"
        [[cameras]]
        twin_id = "cam-a"
        [[cameras]]
        twin_id = "cam-a"
        stream = "zoom"
        [[cameras]]
        twin_id = "cam-b"
        connect = "accept"
        [[cameras]]
        twin_id = "cam-c"
    "#;
    let node = fake::node(&url, config, INFERENCE).await;
    fake::camera(&url, "cam-a", "default", None, 10.0);
    fake::camera(&url, "cam-a", "zoom", None, 10.0);
    fake::camera(&url, "cam-b", "default", Some(fake::NODE), 10.0);
    let mut seen = BTreeSet::new();
    while seen.len() < 3 {
        let data = event(&mut messages, "a detection of each stream", |kind, _| {
            kind == "detections"
        })
        .await;
        seen.insert((
            data["camera"]["twinId"].as_str().unwrap().to_owned(),
            data["camera"]["stream"].as_str().unwrap().to_owned(),
        ));
    }
    let expected = [
        ("cam-a", "default"),
        ("cam-a", "zoom"),
        ("cam-b", "default"),
    ];
    assert_eq!(
        seen,
        expected
            .map(|(twin, stream)| (twin.to_owned(), stream.to_owned()))
            .into()
    );
    let status = event(&mut messages, "the absent camera's state", |kind, data| {
        is_state(kind, data, "cam-c", "unreachable")
    })
    .await;
    assert_eq!(status["reason"], "no answer to the offer");

    let metrics = Arc::clone(node.metrics());
    node.shutdown().await;
    for (twin, stream) in expected {
        let ledger = metrics.stream(&StreamId::new(twin, stream)).ledger();
        assert!(
            ledger.balances() && ledger.events_published > 0,
            "{twin}/{stream}: {ledger:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_loses_its_power_comes_back_and_the_other_never_notices() {
    let url = start_hub(DevHubOptions::default()).await;
    let (_app, mut messages) = fake::listen(&url).await;
    let config = "[[cameras]]\ntwin_id = \"cam-a\"\n[[cameras]]\ntwin_id = \"cam-b\"\n";
    let node = fake::node(&url, config, INFERENCE).await;
    let first = fake::camera(&url, "cam-a", "default", None, 10.0);
    fake::camera(&url, "cam-b", "default", None, 10.0);
    // A state may come after the first detections.
    let mut missing: BTreeSet<(&str, &str)> = ["cam-a", "cam-b"]
        .into_iter()
        .flat_map(|twin| ["detections", "receiving"].map(|what| (twin, what)))
        .collect();
    while !missing.is_empty() {
        let data = event(&mut messages, "both are seen, and said to be", |kind, _| {
            matches!(kind, "detections" | "cameraStatus")
        })
        .await;
        let twin = data["camera"]["twinId"].as_str().unwrap();
        let what = data["state"].as_str().unwrap_or("detections");
        missing.retain(|missing| *missing != (twin, what));
    }
    let mut last_of_b = None;
    first.abort();
    let mut states = BTreeMap::new();
    fake::camera(&url, "cam-a", "default", None, 10.0);
    // The connection ends with a goodbye or falls silent; either way frames come again.
    let back = async {
        loop {
            let message = messages.recv().await.unwrap();
            let (kind, data) = (
                message.message_type().unwrap_or_default(),
                &message.data["data"],
            );
            if kind.ends_with("cameraStatus") {
                let twin = data["camera"]["twinId"].as_str().unwrap().to_owned();
                let state = data["state"].as_str().unwrap().to_owned();
                assert_ne!(twin, "cam-b", "cam-b's state does not change: {state}");
                states
                    .entry(twin)
                    .or_insert_with(Vec::new)
                    .push(state.clone());
                if state == "receiving" {
                    return;
                }
            } else if is_detection("detections", data, "cam-b") {
                let sequence = data["sequence"].as_u64().unwrap();
                assert!(
                    last_of_b.is_none_or(|last| sequence == last + 1),
                    "cam-b goes on without a gap"
                );
                last_of_b = Some(sequence);
            }
        }
    };
    tokio::time::timeout(DEADLINE, back)
        .await
        .expect("cam-a comes back");
    event(&mut messages, "cam-a's detections", |kind, data| {
        is_detection(kind, data, "cam-a")
    })
    .await;
    let stream = node.metrics().stream(&StreamId::new("cam-a", "default"));
    assert!(stream.camera_reconnects.get() >= 1, "{states:?}");
    let metrics = Arc::clone(node.metrics());
    node.shutdown().await;
    assert!(
        metrics
            .stream(&StreamId::new("cam-a", "default"))
            .ledger()
            .balances()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_hub_is_away_video_goes_on_and_events_are_counted() {
    let address = unused_address();
    let listener = TcpListener::bind(address).await.unwrap();
    let url = format!("http://{address}");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let hub = tokio::spawn(twinsight::dev::hub::run(
        listener,
        DevHubOptions::default(),
        async { drop(stopped.await) },
    ));
    let (_app, mut messages) = fake::listen(&url).await;
    let node = fake::node(&url, "[[cameras]]\ntwin_id = \"cam-a\"\n", INFERENCE).await;
    fake::camera(&url, "cam-a", "default", None, 10.0);
    event(&mut messages, "the first detection", |kind, data| {
        is_detection(kind, data, "cam-a")
    })
    .await;

    let stream = node.metrics().stream(&StreamId::new("cam-a", "default"));
    let _ = stop.send(());
    hub.await.unwrap().unwrap();
    let (inferred, attempts) = (stream.frames_inferred.get(), stream.camera_reconnects.get());
    let goes_on = async {
        while stream.frames_inferred.get() < inferred + 10
            || stream.events_dropped(EventDrop::HubDisconnected) < 5
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, goes_on)
        .await
        .expect("video goes on without the hub");

    // All rooms are forgotten: the node and the app subscribe again by themselves. (The state that the
    // node sends again is for apps that are back before it; see the publisher's tests.)
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(twinsight::dev::hub::run(
        listener,
        DevHubOptions::default(),
        std::future::pending(),
    ));
    event(&mut messages, "detections", |kind, data| {
        is_detection(kind, data, "cam-a")
    })
    .await;
    assert_eq!(
        stream.camera_reconnects.get(),
        attempts,
        "the connection to the camera never broke"
    );
    assert_eq!(node.metrics().hub_reconnects.get(), 1);
    node.shutdown().await;
    assert!(stream.ledger().balances(), "{:?}", stream.ledger());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_from_the_hub_is_counted_and_the_streams_go_on() {
    let url = start_hub(DevHubOptions::default()).await;
    let (app, mut messages) = fake::listen(&url).await;
    let config = "[[cameras]]\ntwin_id = \"cam-a\"\n[[cameras]]\ntwin_id = \"cam-b\"\nconnect = \"accept\"\n";
    let node = fake::node(&url, config, INFERENCE).await;
    fake::camera(&url, "cam-a", "default", None, 10.0);
    fake::camera(&url, "cam-b", "default", Some(fake::NODE), 10.0);
    for twin in ["cam-a", "cam-b"] {
        event(&mut messages, "a detection", |kind, data| {
            is_detection(kind, data, twin)
        })
        .await;
    }
    let reconnects = |twin: &str| {
        node.metrics()
            .stream(&StreamId::new(twin, "default"))
            .camera_reconnects
            .get()
    };
    let before = ["cam-a", "cam-b"].map(reconnects);
    let garbage = [
        json!({"type": "media-default-node-1:answer", "data": {"sdp": "garbage", "type": "answer"}}),
        json!({"type": "media-default-node-1:offer", "data": {"sdp": "v=0\r\n", "type": "offer"}, "peerId": "p"}),
        json!({"type": "media-default-node-1:offer", "data": 7}),
        json!({"type": "media-default-node-1:ice", "data": {"candidate": {"a": []}}}),
        json!({"type": "media-default-node-1:ice", "data": {"candidate": "candidate:x y z"}}),
        json!({"type": "media-default-node-1:hello", "peerId": 12}),
        json!({"type": ["edgeInstance"], "data": "text"}),
        json!({}),
    ];
    for data in garbage {
        app.send_as("cam-b", fake::NODE, data).await.unwrap();
    }
    let metrics = Arc::clone(node.metrics());
    let counted = async {
        loop {
            let text = metrics.encode();
            let count = |kind: &str| {
                let name = format!("twinsight_malformed_input_total{{kind=\"{kind}\"}} ");
                text.lines()
                    .find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok())
                    .unwrap_or_default()
            };
            if count("sdp") >= 3 && count("candidate") >= 2 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, counted)
        .await
        .expect("what is malformed is counted");
    for twin in ["cam-a", "cam-b"] {
        let stream = metrics.stream(&StreamId::new(twin, "default"));
        let published = stream.events_published.get();
        event(&mut messages, "a detection", |kind, data| {
            is_detection(kind, data, twin) && data["sequence"].as_u64() > Some(published)
        })
        .await;
    }
    assert_eq!(
        ["cam-a", "cam-b"].map(reconnects),
        before,
        "no stream was disturbed"
    );
    node.shutdown().await;
}
