//! A node posts its events to a webhook beside its hub. Hub, node, camera and receiver are real, the detector is a fake.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::ports::unused_address;
use crate::common::{DEADLINE, NodeProcess, Program, fake, http_get, root, start_hub};
use serde_json::Value;
use twinsight::dev::hub::DevHubOptions;
use twinsight_client::stream_id::StreamId;

const INFERENCE: Duration = Duration::from_millis(5);

/// Starts the receiver, which checks signatures as the guide says.
async fn receiver(port: u16, secret: &Path) -> Program {
    let guide = root().join("docs/guide/webhooks.md");
    let args = [
        port.to_string(),
        guide.to_str().unwrap().to_owned(),
        secret.to_str().unwrap().to_owned(),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut program = Program::python("webhook.py", &args, &[]);
    program.until("listening").await;
    program
}

/// The receiver's next event of this kind. What comes is genuine.
async fn posted(receiver: &mut Program, kind: &str) -> Value {
    loop {
        let line = receiver.line().await.expect("the receiver goes on");
        let post: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(post["genuine"], true, "{line}");
        assert_eq!(post["fooled"], false, "{line}");
        if post["event"] == kind {
            return post;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_dies_five_times_gets_what_is_fresh_and_holds_up_nobody() {
    let url = start_hub(DevHubOptions::default()).await;
    let address = unused_address();
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "an-example-secret\n").unwrap();
    let config = format!(
        r#"
        [[sinks]]
        type = "webhook"
        url = "http://{address}/hook?key=1"
        secret_file = "{}"
        events = ["detections", "cameraStatus"]
        max_age_ms = 2000
        [[sinks]]
        type = "webhook"
        name = "nobody"
        url = "http://127.0.0.1:9/"
        max_age_ms = 300
        [[cameras]]
        twin_id = "cam-a"
        [[cameras]]
        twin_id = "cam-b"
        "#,
        secret.display()
    );
    let node = fake::node(&url, &config, INFERENCE).await;
    let metrics = Arc::clone(node.metrics());
    let streams = ["cam-a", "cam-b"].map(|twin| StreamId::new(twin, "default"));
    for id in &streams {
        fake::camera(&url, &id.twin_id, "default", None, 10.0);
    }
    let (mut deliveries, mut last) = (BTreeSet::new(), BTreeMap::new());
    for round in 0..5 {
        let mut hook = receiver(address.port(), &secret).await;
        let started = Instant::now();
        // The states that were told while nobody was there are told again, or are those of the start.
        for _ in 0..20 {
            let post = posted(&mut hook, "detections").await;
            assert_eq!(post["path"], "/hook?key=1");
            assert!(deliveries.insert(post["delivery"].as_str().unwrap().to_owned()));
            let camera = post["data"]["camera"]["twinId"]
                .as_str()
                .unwrap()
                .to_owned();
            let sequence = post["data"]["sequence"].as_u64().unwrap();
            let before = last.insert(camera.clone(), sequence).unwrap_or(0);
            assert!(before < sequence, "{camera}: {before}, {sequence}");
        }
        println!("round {round}: 20 events after {:?}", started.elapsed());
        hook.signal("KILL");
        hook.ended().await;
        let sink = metrics.sink(0);
        assert_eq!(sink.name(), "webhook");
        let published = || -> u64 {
            let streams = streams.iter().map(|id| metrics.stream(id));
            streams.map(|stream| stream.events_published.get()).sum()
        };
        let gone = async {
            while sink.connected.get() == 1 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // Meanwhile the hub gets everything.
            let before = published();
            while published() < before + 20 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(DEADLINE, gone).await.unwrap();
    }
    assert!(metrics.sink(0).reconnects.get() >= 4);
    node.shutdown().await;
    for id in &streams {
        let ledger = metrics.stream(id).ledger();
        assert!(
            ledger.balances() && ledger.sink_events_in_flight == 0,
            "{ledger:?}"
        );
        assert_eq!(
            ledger.events_dropped, 0,
            "the hub lost nothing to the webhook"
        );
    }
    let text = metrics.encode();
    for sink in ["webhook", "hub"] {
        let line = format!(
            "twinsight_events_published_total{{camera=\"cam-a\",sink=\"{sink}\",stream=\"default\"}}"
        );
        assert!(text.contains(&line), "{line}:\n{text}");
    }
    // The other sink does not want detections, and nobody took its states.
    let lines = [
        "twinsight_events_dropped_total{camera=\"cam-a\",reason=\"suppressed\",sink=\"nobody\",stream=\"default\"} ",
        "twinsight_sink_connected{sink=\"nobody\"} 0",
        "twinsight_sink_events_total{result=\"sink_unreachable\",sink=\"nobody\",type=\"cameraStatus\"} ",
    ];
    for line in lines {
        assert!(text.contains(line), "{line}:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_the_log_nor_the_api_shows_the_address_or_the_secret() {
    let url = start_hub(DevHubOptions::default()).await;
    let address = unused_address();
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "hush-this-signs\n").unwrap();
    let config = format!(
        r#"
        [[sinks]]
        type = "webhook"
        name = "alarms"
        url = "http://{address}/services/hush-in-the-path?token=hush-in-the-query"
        secret_file = "{}"
        max_age_ms = 700
        [[cameras]]
        twin_id = "cam-a"
        "#,
        secret.display()
    );
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url.as_str()),
        ("TWIN_ID", "node-1"),
        ("RUST_LOG", "trace"),
    ];
    let mut node = NodeProcess::start(&config, &env).await;
    let mut log = Vec::new();
    loop {
        let line = node.program.line().await.unwrap();
        let is_ours = line.contains("the webhook does not take events");
        log.push(line);
        if is_ours {
            break;
        }
    }
    let warning: Value = serde_json::from_str(log.last().unwrap()).unwrap();
    assert_eq!(warning["sink"], "alarms");
    let said = warning["message"].as_str().unwrap();
    assert!(
        said.contains(&format!("http://{address} refuses connections")),
        "{said}"
    );
    // The configuration is shown once the node has applied it.
    while http_get(node.http, "/api/config").contains("\"appliedAt\":null") {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for path in ["/api/config", "/api/node", "/metrics"] {
        let answer = http_get(node.http, path);
        assert!(answer.contains("alarms"), "{path}: {answer}");
        assert!(!answer.contains("hush"), "{path}: {answer}");
    }
    node.program.signal("TERM");
    while let Some(line) = node.program.line().await {
        log.push(line);
    }
    assert!(node.program.ended().await.success());
    let shown: Vec<_> = log.iter().filter(|line| line.contains("hush")).collect();
    assert!(shown.is_empty(), "{shown:#?}");
}
