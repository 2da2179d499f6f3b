//! The configuration changes while the node runs: by its file, by SIGHUP and by the settings of its twin.
//! Cameras that did not change lose nothing; what is wrong is refused whole. Cameras, hub and node are
//! ours and real; the detector is a fake but for the node that is a process of its own.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::ports::unused_address;
use crate::common::{DEADLINE, NodeProcess, fake, http_get, start_hub};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use twinsight::config::{ConfigSource, Env, Settings};
use twinsight::detect::manifest::ModelError;
use twinsight::detect::{BBox, Detector, FakeDetector, Object};
use twinsight::dev::hub::DevHubOptions;
use twinsight::node::models::{ModelLoader, Models};
use twinsight::node::reload::Reloaded;
use twinsight::node::{Node, NodeParts};
use twinsight::telemetry::ledger::FrameDrop;
use twinsight::telemetry::metrics::StreamMetrics;
use twinsight_client::hub::{HubClient, MessageReceiver};
use twinsight_client::stream_id::StreamId;
use twinsight_media::decode::decoder::DecoderKind;
use twinsight_media::ledger::UnitDrop;

/// A model that sees two objects; the others see one.
const TWO: &str = "two";

/// A model that cannot be loaded.
const BROKEN: &str = "broken";

/// A model that is loaded once a test opens its gate.
const SLOW: &str = "slow";

/// A node that follows its file, with a fake detector.
struct Follower {
    node: Node,
    /// Lets one load of the slow model go on.
    gate: std::sync::mpsc::Sender<()>,
    /// Models that were asked for, by each worker.
    loads: Arc<std::sync::atomic::AtomicUsize>,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Follower {
    async fn start(url: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        std::fs::write(&file, text).unwrap();
        let env: Env = [
            ("PHYSTACK_SIMULATOR_URL", url),
            ("TWIN_ID", fake::NODE),
            ("TWINSIGHT_ICE__INTERFACES", "lo"),
        ]
        .into_iter()
        .collect();
        let source = ConfigSource::read(Some(&file), &env).unwrap();
        let config = source.resolve(&Settings::default()).unwrap();
        let person = Object {
            class_id: 0,
            score: 0.9,
            bbox: BBox {
                x: 1.0,
                y: 2.0,
                width: 3.0,
                height: 4.0,
            },
            keypoints: Vec::new(),
            outline: Vec::new(),
        };
        let (gate, opened) = std::sync::mpsc::channel();
        let opened = std::sync::Mutex::new(opened);
        let loads = Arc::<std::sync::atomic::AtomicUsize>::default();
        let counted = Arc::clone(&loads);
        let loader: ModelLoader = Arc::new(move |name| {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if name == SLOW {
                // The gate is gone at the test's end.
                let _ = opened.lock().unwrap().recv();
            }
            let objects = match name {
                BROKEN => return Err(ModelError::Name(name.to_owned())),
                TWO => vec![person.clone(), person.clone()],
                _ => vec![person.clone()],
            };
            let detector = FakeDetector::new(Duration::from_millis(2), objects);
            Ok(Box::new(detector) as Box<dyn Detector>)
        });
        let mut names: Vec<String> = config.cameras.iter().map(|c| c.model.clone()).collect();
        names.dedup();
        let mut node = Node::start(NodeParts {
            inference: twinsight::http::api::InferenceFacts::default(),
            config,
            models: Box::new(move |_| Models::new(names, loader)),
            workers: 2,
            decoder: DecoderKind::Software,
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        })
        .await
        .unwrap();
        node.follow(source, None);
        Self {
            node,
            gate,
            loads,
            file,
            _folder: folder,
        }
    }

    async fn reload(&self, text: &str) -> Reloaded {
        std::fs::write(&self.file, text).unwrap();
        tokio::time::timeout(DEADLINE, self.node.reload())
            .await
            .expect("a reload comes to its end")
    }

    fn stream(&self, twin: &str) -> Arc<StreamMetrics> {
        self.node.metrics().stream(&StreamId::new(twin, "default"))
    }

    /// Waits until the node's cameras are these.
    async fn until_cameras(&self, expected: &[&str]) {
        let there = async {
            loop {
                let cameras: Vec<String> = self
                    .node
                    .cameras()
                    .iter()
                    .map(|camera| camera.status.id.twin_id.to_string())
                    .collect();
                if cameras == expected {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(DEADLINE, there)
            .await
            .unwrap_or_else(|_| {
                panic!("the cameras become {expected:?}: {:?}", self.node.cameras())
            });
    }
}

/// Waits for a detection of a camera and gives it.
async fn detection(messages: &mut MessageReceiver, twin: &str) -> Value {
    let found = async {
        loop {
            let message = messages.recv().await.expect("the app stays on the hub");
            if message.message_type() == Some("edgeInstance:detections")
                && message.data["data"]["camera"]["twinId"] == twin
            {
                return message.data["data"].clone();
            }
        }
    };
    tokio::time::timeout(DEADLINE, found)
        .await
        .unwrap_or_else(|_| panic!("a detection of {twin} did not come"))
}

/// Sets the settings of the node's twin, as an operator does.
async fn set(app: &HubClient, settings: Value) {
    let payload = json!({"twinId": fake::NODE, "data": {"settings": settings}});
    app.call("updatePeripheralTwinDesired", payload)
        .await
        .unwrap();
}

/// Waits until the node reports this as wrong with its settings.
async fn until_reported(app: &HubClient, expected: Value) {
    let reported = async {
        loop {
            let twin = app.get_twin(fake::NODE).await.unwrap();
            let twinsight = twin.properties.reported.get("twinsight");
            if twinsight.is_some_and(|told| told["settingsError"] == expected) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, reported)
        .await
        .unwrap_or_else(|_| panic!("{expected} is reported"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_cost_the_untouched_camera_nothing() {
    let url = start_hub(DevHubOptions::default()).await;
    let (_app, mut messages) = fake::listen(&url).await;
    for twin in ["cam-a", "cam-b", "cam-c"] {
        fake::camera(&url, twin, "default", None, 30.0);
    }
    let base = "[defaults]\nmax_fps = 0\n[[cameras]]\ntwin_id = \"cam-a\"\nname = \"A\"\n[[cameras]]\ntwin_id = \"cam-b\"\n";
    let follower = Follower::start(&url, base).await;
    for twin in ["cam-a", "cam-b"] {
        detection(&mut messages, twin).await;
    }
    let (a, b) = (follower.stream("cam-a"), follower.stream("cam-b"));
    let dropped = |stream: &StreamMetrics| -> BTreeMap<&str, u64> {
        let units = UnitDrop::ALL
            .iter()
            .map(|reason| (reason.as_str(), stream.units_dropped(*reason)));
        let removed = FrameDrop::CameraRemoved;
        units
            .chain([(removed.as_str(), stream.frames_dropped(removed))])
            .collect()
    };
    let before = [dropped(&a), dropped(&b)];
    let received_before = a.access_units_received.get();
    let connections = |stream: &StreamMetrics| stream.camera_reconnects.get();
    let connections_before = [connections(&a), connections(&b)];

    // What the app hears of each camera: the numbers of its detections, and its states.
    let listening = tokio::spawn(async move {
        let mut sequences: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut states: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut objects_of_b = BTreeMap::new();
        while let Some(message) = messages.recv().await {
            let data = &message.data["data"];
            if data["end"] == true {
                break;
            }
            let Some(twin) = data["camera"]["twinId"].as_str().map(str::to_owned) else {
                continue;
            };
            if let Some(sequence) = data["sequence"].as_u64() {
                if twin == "cam-b"
                    && let Some(objects) = data["objects"].as_array()
                {
                    *objects_of_b.entry(objects.len()).or_insert(0) += 1;
                }
                sequences.entry(twin).or_default().push(sequence);
            } else if let Some(state) = data["state"].as_str() {
                states.entry(twin).or_default().push(state.to_owned());
            }
        }
        (sequences, states, objects_of_b, messages.missed())
    });

    let settings_of_b = [
        "max_fps = 5",
        "name = \"B\"",
        "min_score = 0.2",
        "model = \"two\"",
        "max_age_ms = 400",
        "emit_empty = false",
        "classes = [\"person\"]",
    ];
    let (mut applied, mut longest) = (0, Duration::ZERO);
    let started = Instant::now();
    for n in 0..100 {
        let mut text = format!("{base}{}\n", settings_of_b[n % settings_of_b.len()]);
        // The third camera comes for ten reloads and goes for ten.
        if n / 10 % 2 == 0 {
            text += "[[cameras]]\ntwin_id = \"cam-c\"\n";
        }
        let begun = Instant::now();
        let outcome = follower.reload(&text).await;
        longest = longest.max(begun.elapsed());
        assert_eq!(outcome, Reloaded::Applied, "reload {n}");
        applied += 1;
        // Some frames between two reloads.
        let decoded = a.frames_decoded.get();
        let goes_on = async {
            while a.frames_decoded.get() < decoded + 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, goes_on)
            .await
            .expect("the untouched camera goes on");
    }
    let elapsed = started.elapsed();
    // A reload that changes nothing, and two that are refused.
    let text = format!("{base}max_fps = 1\n");
    assert_eq!(follower.reload(&text).await, Reloaded::Applied);
    assert_eq!(follower.reload(&text).await, Reloaded::Unchanged);
    let refused = follower
        .reload(&format!("{base}model = \"broken\"\n"))
        .await;
    assert!(
        matches!(&refused, Reloaded::Refused(reason) if reason.contains("broken")),
        "{refused:?}"
    );
    let refused = follower
        .reload(&format!(
            "{base}model = \"third\"\nclasses = [\"unheard-of\"]\n"
        ))
        .await;
    assert!(
        matches!(&refused, Reloaded::Refused(reason) if reason.contains("has no class `unheard-of`")),
        "{refused:?}"
    );

    let ledger = a.ledger();
    println!(
        "{applied} reloads in {:.1} s, the longest {longest:?}; cam-a meanwhile: {} units, now {ledger:?}",
        elapsed.as_secs_f64(),
        a.access_units_received.get() - received_before
    );
    // The counters are not read at one moment, and a decoder that waits for a processor holds more for a while.
    let settled = async {
        while !(0..=3).contains(&a.ledger().in_flight()[0]) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, settled)
        .await
        .expect("received = decoded + dropped + held");
    assert_eq!(
        [connections(&a), connections(&b)],
        connections_before,
        "both keep their connections"
    );
    for (twin, stream, before) in [("cam-a", &a, &before[0]), ("cam-b", &b, &before[1])] {
        let now = dropped(stream);
        let more: BTreeMap<&str, u64> = now
            .iter()
            .map(|(reason, count)| (*reason, count - before[reason]))
            .filter(|(_, count)| *count > 0)
            .collect();
        for reason in [
            "reset",
            "shutdown",
            "camera_removed",
            "oversize",
            "decode_error",
        ] {
            assert!(!more.contains_key(reason), "{twin}: {more:?}");
        }
        // A machine at its limit may lose a packet, and then waits for a keyframe; a reload does not.
        if ["incomplete", "decode_backlog"]
            .iter()
            .all(|reason| !more.contains_key(reason))
        {
            assert!(more.is_empty(), "{twin}: {more:?}");
        } else {
            println!("{twin} lost for other reasons than the reloads: {more:?}");
        }
    }
    assert!(
        follower.stream("cam-c").frames_decoded.get() > 0,
        "the third camera was there in between"
    );
    follower.until_cameras(&["cam-a", "cam-b"]).await;

    let metrics = Arc::clone(follower.node.metrics());
    let hub = follower.node.hub().unwrap().clone();
    hub.instance()
        .emit("end", json!({"end": true}))
        .await
        .unwrap();
    let (sequences, states, objects_of_b, lost_by_the_app) =
        tokio::time::timeout(DEADLINE, listening)
            .await
            .unwrap()
            .unwrap();
    assert_eq!(lost_by_the_app, 0);
    for twin in ["cam-a", "cam-b"] {
        let gaps: Vec<_> = sequences[twin]
            .windows(2)
            .filter(|pair| pair[1] != pair[0] + 1)
            .collect();
        assert!(gaps.is_empty(), "{twin}: {gaps:?}");
        // That it began to receive may be told after its first detections.
        let disturbed = |told: &Vec<String>| told.iter().any(|state| state != "receiving");
        assert!(
            !states.get(twin).is_some_and(disturbed),
            "{twin}: {states:?}"
        );
    }
    assert!(
        objects_of_b[&1] > 0 && objects_of_b[&2] > 0,
        "both models of cam-b worked: {objects_of_b:?}"
    );
    let told_of_c = &states["cam-c"];
    assert_eq!(
        told_of_c.iter().filter(|state| *state == "removed").count(),
        5,
        "{told_of_c:?}"
    );
    follower.node.shutdown().await;
    for twin in ["cam-a", "cam-b", "cam-c"] {
        let ledger = metrics.stream(&StreamId::new(twin, "default")).ledger();
        assert!(ledger.balances(), "{twin}: {ledger:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_the_hub_change_rates_and_cameras_and_bad_ones_are_refused() {
    let url = start_hub(DevHubOptions::default()).await;
    let (app, mut messages) = fake::listen(&url).await;
    for twin in ["cam-a", "cam-b"] {
        fake::camera(&url, twin, "default", None, 10.0);
    }
    // A detection in 1000 s: what comes after the first one comes by the hub's rate.
    let text = "[defaults]\nmax_fps = 0.001\n[[cameras]]\ntwin_id = \"cam-a\"\nname = \"A\"\n";
    let follower = Follower::start(&url, text).await;
    detection(&mut messages, "cam-a").await;
    set(&app, json!({"maxFps": 20})).await;
    for _ in 0..5 {
        detection(&mut messages, "cam-a").await;
    }
    set(
        &app,
        json!({"maxFps": 20, "cameras": ["cam-a", {"twinId": "cam-b", "name": "B"}]}),
    )
    .await;
    assert_eq!(
        detection(&mut messages, "cam-b").await["camera"]["name"],
        "B"
    );
    let data = detection(&mut messages, "cam-a").await;
    assert_eq!(
        data["camera"]["name"], "A",
        "what the file says of it stays"
    );

    set(&app, json!({"maxFps": -1, "cameras": []})).await;
    let sentence =
        "setting maxFps of the hub: `defaults.max_fps` is -1.0: give a number from 0 to 1000";
    until_reported(&app, sentence.into()).await;
    follower.until_cameras(&["cam-a", "cam-b"]).await;
    // The file changes under refused settings, and the last good ones stay over it.
    let text = text.replace("\"A\"", "\"Renamed\"");
    assert_eq!(
        follower.reload(&text).await,
        Reloaded::Refused(sentence.to_owned())
    );
    let renamed =
        async { while detection(&mut messages, "cam-a").await["camera"]["name"] != "Renamed" {} };
    tokio::time::timeout(DEADLINE, renamed).await.unwrap();
    detection(&mut messages, "cam-b").await;

    set(&app, json!({"model": BROKEN})).await;
    let broken = ModelError::Name(BROKEN.to_owned()).to_string();
    until_reported(&app, broken.into()).await;
    follower.until_cameras(&["cam-a", "cam-b"]).await;
    set(&app, json!({"cameras": ["cam-b"]})).await;
    follower.until_cameras(&["cam-b"]).await;
    until_reported(&app, Value::Null).await;
    assert_eq!(follower.stream("cam-b").camera_reconnects.get(), 0);
    follower.node.shutdown().await;
}

/// A hub that makes up cameras costs the one that sends nothing, and leaves next to nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cameras_without_end_from_the_hub_do_not_hold_up_the_one_that_sends() {
    const ROUNDS: usize = 8;
    const CAMERAS: usize = 100;
    let url = start_hub(DevHubOptions::default()).await;
    let (app, mut messages) = fake::listen(&url).await;
    fake::camera(&url, "cam-a", "default", None, 10.0);
    let text = "[defaults]\nmax_fps = 0\n[[cameras]]\ntwin_id = \"cam-a\"\n";
    let follower = Follower::start(&url, text).await;
    detection(&mut messages, "cam-a").await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let listening = tokio::spawn(async move {
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        loop {
            let message = tokio::select! {
                _ = &mut stopped => return longest.max(last.elapsed()),
                message = messages.recv() => message.expect("the app stays on the hub"),
            };
            if message.message_type() == Some("edgeInstance:detections") {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
        }
    });
    let scraping = {
        let metrics = Arc::clone(follower.node.metrics());
        std::thread::Builder::new()
            .name("scrape".to_owned())
            .spawn(move || {
                let mut longest = Duration::ZERO;
                while Arc::strong_count(&metrics) > 1 {
                    let begun = Instant::now();
                    metrics.encode();
                    longest = longest.max(begun.elapsed());
                    std::thread::sleep(Duration::from_millis(500));
                }
                longest
            })
            .unwrap()
    };
    for round in 0..ROUNDS {
        let new: Vec<String> = (0..CAMERAS).map(|n| format!("cam-{round}-{n}")).collect();
        let all: Vec<&str> = std::iter::once("cam-a")
            .chain(new.iter().map(String::as_str))
            .collect();
        let begun = Instant::now();
        set(&app, json!({"cameras": all})).await;
        follower.until_cameras(&all).await;
        println!("round {round}: {:?}", begun.elapsed());
    }
    set(&app, json!({"cameras": ["cam-a"]})).await;
    follower.until_cameras(&["cam-a"]).await;
    let few = async {
        while follower.node.metrics().all_streams().len() > 257 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, few)
        .await
        .expect("at most 256 removed ones are remembered");
    let _ = stop.send(());
    let longest = listening.await.unwrap();
    println!(
        "{} series, longest gap {longest:?}",
        follower.node.metrics().encode().lines().count()
    );
    assert!(longest < Duration::from_secs(20), "{longest:?}");
    follower.node.shutdown().await;
    println!("longest encoding {:?}", scraping.join().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_loads_for_long_holds_up_no_other_change() {
    let url = start_hub(DevHubOptions::default()).await;
    let (app, _messages) = fake::listen(&url).await;
    let camera = |twin: &str| format!("[[cameras]]\ntwin_id = \"{twin}\"\n");
    let follower = Follower::start(&url, &camera("cam-a")).await;
    follower.until_cameras(&["cam-a"]).await;
    // The slow model is asked for by the file, and its request is answered once it is there.
    let slow = format!("{}model = \"{SLOW}\"\n", camera("cam-a"));
    std::fs::write(&follower.file, &slow).unwrap();
    let mut asked = tokio::spawn(follower.node.reload());
    // Meanwhile the hub's settings and a newer file are applied.
    set(&app, json!({"maxFps": 3, "cameras": ["cam-a", "cam-b"]})).await;
    follower.until_cameras(&["cam-a", "cam-b"]).await;
    assert!(!asked.is_finished(), "it waits for its model");
    set(&app, json!({"maxFps": 3})).await;
    follower.until_cameras(&["cam-a"]).await;
    let newer = camera("cam-a") + &camera("cam-c");
    assert_eq!(follower.reload(&newer).await, Reloaded::Applied);
    follower.until_cameras(&["cam-a", "cam-c"]).await;
    // The newest wins: the slow model is there, and nobody wants it any more.
    for _ in 0..2 {
        follower.gate.send(()).unwrap();
    }
    let outcome = tokio::time::timeout(DEADLINE, &mut asked).await.unwrap();
    assert_eq!(outcome.unwrap(), Reloaded::Unchanged);
    follower.until_cameras(&["cam-a", "cam-c"]).await;
    // And where it is still wanted it is used.
    for _ in 0..2 {
        follower.gate.send(()).unwrap();
    }
    assert_eq!(follower.reload(&slow).await, Reloaded::Applied);
    let model = || follower.node.cameras()[0].settings.model.clone();
    let used = async {
        while model() != SLOW {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, used).await.unwrap();
    follower.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_that_are_of_no_use_are_loaded_once_for_a_change() {
    let url = start_hub(DevHubOptions::default()).await;
    let (app, _messages) = fake::listen(&url).await;
    let text = "[[cameras]]\ntwin_id = \"cam-a\"\n";
    let follower = Follower::start(&url, text).await;
    follower.until_cameras(&["cam-a"]).await;
    // The file needs a model of its own; the hub's settings one without the class that they ask for, then a broken one.
    let with =
        |model: &str| format!("{text}[[cameras]]\ntwin_id = \"cam-b\"\nmodel = \"{model}\"\n");
    set(&app, json!({"model": "third", "classes": ["unheard-of"]})).await;
    let sentence =
        "camera cam-a/default: model `third` has no class `unheard-of`; correct `classes`";
    until_reported(&app, sentence.into()).await;
    let loads = |follower: &Follower| follower.loads.load(std::sync::atomic::Ordering::Relaxed);
    let refused = follower.reload(&with(TWO)).await;
    assert!(
        matches!(&refused, Reloaded::Refused(reason) if reason.contains(sentence)),
        "{refused:?}"
    );
    follower.until_cameras(&["cam-a", "cam-b"]).await;
    set(&app, json!({"model": BROKEN})).await;
    let broken = ModelError::Name(BROKEN.to_owned()).to_string();
    until_reported(&app, broken.into()).await;
    let refused = follower.reload(&with("fourth")).await;
    assert!(matches!(&refused, Reloaded::Refused(_)), "{refused:?}");
    follower.until_cameras(&["cam-a", "cam-b"]).await;
    let used = async {
        while follower.node.cameras()[1].settings.model != "fourth" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, used).await.unwrap();
    // Two workers, a handful of models, each tried a few times.
    assert!(loads(&follower) < 60, "{} loads", loads(&follower));
    follower.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_file_removes_nothing_and_what_came_of_a_reload_is_counted() {
    let url = start_hub(DevHubOptions::default()).await;
    let text = "[[cameras]]\ntwin_id = \"cam-a\"\n";
    let follower = Follower::start(&url, text).await;
    follower.until_cameras(&["cam-a"]).await;
    let metric = |name: &str| {
        let text = follower.node.metrics().encode();
        text.lines()
            .find_map(|line| {
                line.strip_prefix(&format!("twinsight_{name} "))?
                    .parse::<f64>()
                    .ok()
            })
            .unwrap()
    };
    let started = metric("config_reload_timestamp_seconds");
    assert!(started > 1.7e9, "{started}");
    assert_eq!(metric("config_reload_ok"), 1.0);
    for empty in ["", " \n\n"] {
        let refused = follower.reload(empty).await;
        assert!(
            matches!(&refused, Reloaded::Refused(reason) if reason.contains("the file is empty")),
            "{refused:?}"
        );
        assert_eq!(follower.node.cameras().len(), 1);
    }
    assert_eq!(metric("config_reload_ok"), 0.0);
    assert!(metric("config_reloads_total{result=\"refused\"}") >= 2.0);
    let applied = metric("config_reloads_total{result=\"applied\"}");
    let before = metric("config_reload_timestamp_seconds");
    assert_eq!(follower.reload("cameras = []\n").await, Reloaded::Applied);
    follower.until_cameras(&[]).await;
    assert_eq!(metric("config_reload_ok"), 1.0);
    assert!(metric("config_reloads_total{result=\"applied\"}") > applied);
    assert!(metric("config_reload_timestamp_seconds") > before);
    follower.node.shutdown().await;
}

/// A hub that knows the node's twin with these settings.
fn hub_with(settings: Value) -> DevHubOptions {
    DevHubOptions {
        twins: vec![json!({
            "id": fake::NODE, "deviceId": "d", "tenantId": "t", "type": "Edge",
            "properties": {"desired": {"settings": settings}, "reported": {}},
        })],
        ..DevHubOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_read_when_the_hub_is_joined_and_after_it_returned() {
    let address = unused_address();
    let listener = TcpListener::bind(address).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let hub = tokio::spawn(twinsight::dev::hub::run(
        listener,
        hub_with(json!({"cameras": ["cam-a", "cam-b"]})),
        async { drop(stopped.await) },
    ));
    let text = "[[cameras]]\ntwin_id = \"cam-of-the-file\"\n";
    let follower = Follower::start(&format!("http://{address}"), text).await;
    follower.until_cameras(&["cam-a", "cam-b"]).await;
    let _ = stop.send(());
    hub.await.unwrap().unwrap();
    // While it is away its last settings hold over the file, which may change.
    let outcome = follower
        .reload(&format!("{text}[defaults]\nmax_fps = 1\n"))
        .await;
    assert_eq!(outcome, Reloaded::Applied);
    assert_eq!(follower.node.cameras().len(), 2);
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(twinsight::dev::hub::run(
        listener,
        hub_with(json!({"cameras": ["cam-c"]})),
        std::future::pending(),
    ));
    follower.until_cameras(&["cam-c"]).await;
    follower.node.shutdown().await;
}

/// Puts a file in the place of another, as editors do.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, file).unwrap();
}

/// `twin model` of each camera, as the node's API has it.
fn cameras(node: &NodeProcess) -> Vec<String> {
    let list: Value = serde_json::from_str(&http_get(node.http, "/api/cameras")).unwrap();
    let list = list.as_array().or_else(|| list["cameras"].as_array());
    list.unwrap()
        .iter()
        .map(|camera| {
            let text = |key: &str| camera[key].as_str().unwrap_or_default().to_owned();
            format!("{} {}", text("twinId"), text("model"))
        })
        .collect()
}

async fn until_cameras(node: &NodeProcess, expected: &[&str]) {
    let deadline = Instant::now() + DEADLINE;
    while cameras(node) != expected {
        assert!(Instant::now() < deadline, "{:?}", cameras(node));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_follows_its_file_and_its_signal() {
    const FAST: &str = "ssdlite_mobilenet_v2_coco";
    let base =
        "[http]\nlisten = \"127.0.0.1:0\"\n[defaults]\nmodel = \"ssdlite_mobilenet_v2_coco\"\n";
    let camera = |twin: &str| format!("[[cameras]]\ntwin_id = \"{twin}\"\n");
    let hub = [
        ("TWIN_ID", "node-1"),
        ("PHYSTACK_SIMULATOR_URL", "http://127.0.0.1:9"),
    ];
    let text = format!("[defaults]\nmodel = \"{FAST}\"\n{}", camera("cam-a"));
    let mut node = NodeProcess::start(&text, &hub).await;
    let on = |twin: &str| format!("{twin} {FAST}");
    let (a, b, c) = (on("cam-a"), on("cam-b"), on("cam-c"));
    until_cameras(&node, &[&a]).await;

    node.program.signal("HUP");
    node.program.until("no camera changes").await;
    // Replaced by a rename, noticed without a signal.
    let two = format!("{base}{}{}", camera("cam-a"), camera("cam-b"));
    replace(&node.config, &two);
    let line = node
        .program
        .until("the cameras are as configured now")
        .await;
    assert!(
        line.contains("\"added\":1") && line.contains("\"by\":\"file\""),
        "{line}"
    );
    until_cameras(&node, &[&a, &b]).await;

    // What is wrong is told once, with its place, and changes nothing.
    replace(
        &node.config,
        &format!("{base}{}max_fsp = 5\n", camera("cam-c")),
    );
    let sentence = format!(
        "{} line 7: there is no key `cameras.max_fsp`, the nearest is `cameras.max_fps`: correct or remove it",
        node.config.display()
    );
    let line = node.program.until("the last good one stays").await;
    assert!(line.contains(&sentence) && line.contains("ERROR"), "{line}");
    assert_eq!(cameras(&node), [a.as_str(), &b]);

    // A file that is taken away is told too; the rest is applied when it is back, but for what needs a restart.
    std::fs::remove_file(&node.config).unwrap();
    let line = node.program.until("the last good one stays").await;
    assert!(
        line.contains("cannot be read"),
        "told once, and this is next: {line}"
    );
    let listen = two.replace("127.0.0.1:0", "127.0.0.1:9465") + &camera("cam-c");
    std::fs::write(&node.config, listen).unwrap();
    node.program.signal("HUP");
    let line = node.program.until("these keys hold until a restart").await;
    assert!(line.contains("\"keys\":\"http.listen\""), "{line}");
    until_cameras(&node, &[&a, &b, &c]).await;

    // A symlink behind the file's own turns, as ConfigMaps do it.
    let folder = node.config.parent().unwrap().to_owned();
    for (version, text) in [("1", &two), ("2", &format!("{base}{}", camera("cam-b")))] {
        std::fs::create_dir(folder.join(version)).unwrap();
        std::fs::write(folder.join(version).join("node.toml"), text).unwrap();
    }
    let turn = |version: &str| {
        std::os::unix::fs::symlink(version, folder.join("turning")).unwrap();
        std::fs::rename(folder.join("turning"), folder.join("data")).unwrap();
    };
    turn("1");
    std::os::unix::fs::symlink("data/node.toml", folder.join("link")).unwrap();
    std::fs::rename(folder.join("link"), &node.config).unwrap();
    until_cameras(&node, &[&a, &b]).await;
    turn("2");
    until_cameras(&node, &[&b]).await;

    // A model that no camera used is loaded beside the others; one that is not there is refused.
    let with = |model: &str| format!("{base}{}model = \"{model}\"\n", camera("cam-b"));
    replace(&node.config, &with("nanodet_g_coco"));
    until_cameras(&node, &["cam-b nanodet_g_coco"]).await;
    replace(&node.config, &with("yolo99"));
    node.program
        .until("model `yolo99` is not installed: there is no models/yolo99.toml; installed are")
        .await;
    assert_eq!(cameras(&node), ["cam-b nanodet_g_coco"]);
    node.program.signal("TERM");
    assert!(node.program.ended().await.success());
}

/// What the app hears of tracks until it has heard that `cam-a` is gone and that its track is over.
async fn heard_tracks(messages: &mut MessageReceiver) -> Vec<Value> {
    let mut heard = Vec::new();
    let (mut is_removed, mut is_over) = (false, false);
    while !is_removed || !is_over {
        let message = tokio::time::timeout(DEADLINE, messages.recv()).await;
        let message = message.expect("the end is told").unwrap();
        let data = &message.data["data"];
        let is_of_a = data["camera"]["twinId"] == "cam-a";
        is_removed |= is_of_a && data["state"] == "removed";
        is_over |= is_of_a && data["phase"] == "end";
        if data["type"] == "track" || data["type"] == "lineCrossed" {
            heard.push(data.clone());
        }
    }
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_of_zones_end_no_track() {
    let url = start_hub(DevHubOptions::default()).await;
    let (_app, mut messages) = fake::listen(&url).await;
    for twin in ["cam-a", "cam-b"] {
        fake::camera(&url, twin, "default", None, 30.0);
    }
    let defaults = "[defaults]\nmax_fps = 0\ntrack.confirm_ms = 100\n";
    let b = "[[cameras]]\ntwin_id = \"cam-b\"\n";
    let with_zone = |name: &str, side: f64| {
        let points = format!("[[0.0, 0.0], [{side}, 0.0], [{side}, {side}], [0.0, {side}]]");
        format!(
            "{defaults}{b}[[cameras]]\ntwin_id = \"cam-a\"\n[[cameras.zones]]\nname = \"{name}\"\npoints = {points}\n\
             [[cameras.lines]]\nname = \"gate\"\nfrom = [0.5, 0.1]\nto = [0.5, {side}]\n"
        )
    };
    let follower = Follower::start(&url, &with_zone("corner", 0.4)).await;
    let followed = async {
        while detection(&mut messages, "cam-a").await["objects"][0]["trackId"].is_null() {}
    };
    tokio::time::timeout(DEADLINE, followed).await.unwrap();
    let first = detection(&mut messages, "cam-a").await;
    for n in 0..100 {
        let side = 0.405 + 0.005 * f64::from(n);
        let name = if n % 2 == 0 { "corner" } else { "other corner" };
        let reloaded = follower.reload(&with_zone(name, side)).await;
        assert!(matches!(reloaded, Reloaded::Applied), "{n}: {reloaded:?}");
        if n % 10 == 0 {
            // Frames come between the reloads.
            detection(&mut messages, "cam-a").await;
        }
    }
    // A connection that is made anew is no end either.
    let accept = with_zone("corner", 0.8).replace("cam-a\"\n", "cam-a\"\nmax_fps = 20\n");
    follower.reload(&accept).await;
    let last = async {
        loop {
            let seen = detection(&mut messages, "cam-a").await;
            if seen["objects"][0]["zones"] == json!(["corner"]) {
                return seen;
            }
        }
    };
    let last = tokio::time::timeout(DEADLINE, last).await.unwrap();
    assert_eq!(
        last["objects"][0]["trackId"],
        first["objects"][0]["trackId"]
    );
    let metrics = Arc::clone(follower.node.metrics());
    follower.reload(&format!("{defaults}{b}")).await;
    let heard = heard_tracks(&mut messages).await;
    let of_a = heard
        .iter()
        .filter(|event| event["camera"]["twinId"] == "cam-a");
    let ends: Vec<_> = of_a.filter(|event| event["phase"] == "end").collect();
    assert_eq!(ends.len(), 1, "{ends:?}");
    assert_eq!(ends[0]["reason"], "cameraRemoved");
    let of_b = heard
        .iter()
        .filter(|event| event["camera"]["twinId"] == "cam-b");
    assert!(of_b.clone().all(|event| event["phase"] != "end"));
    follower.node.shutdown().await;
    for twin in ["cam-a", "cam-b"] {
        let ledger = metrics.stream(&StreamId::new(twin, "default")).ledger();
        assert!(ledger.balances(), "{twin}: {ledger:?}");
    }
    assert!(metrics.encode().contains(
        "twinsight_tracks_started_total{camera=\"cam-b\",label=\"person\",stream=\"default\"} 1"
    ));
}
