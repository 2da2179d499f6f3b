//! Four cameras at 15 frames a second before a detector that takes 500 ms: the real path up to it,
//! over WebRTC and openh264. Nothing piles up, no frame is inferred that is older than `max_age_ms`,
//! and the ledger is exact at the end.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{DEADLINE, fake, start_hub};
use twinsight::dev::hub::DevHubOptions;
use twinsight::telemetry::ledger::FrameDrop;
use twinsight_client::stream_id::StreamId;

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

/// Two cameras whose model hangs and one whose model lies, beside one with a good model, in a node as its users run it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_that_hang_and_lie_leave_the_camera_of_a_good_one_alone_and_are_said() {
    use crate::common::{NodeProcess, http_get};

    let url = start_hub(DevHubOptions::default()).await;
    for id in ["hangs-1", "hangs-2", "lies", "good"] {
        fake::camera(&url, id, "default", None, 5.0);
    }
    let (_app, mut events) = fake::listen(&url).await;
    let models = tempfile::tempdir().unwrap();
    let [cx, cy, width, height, _] = crate::made_models::PERSON;
    for (name, model) in [
        ("endless", crate::made_models::endless()),
        (
            "liar",
            crate::made_models::liar([cx, cy, width, height, 5.0]),
        ),
        (
            "good",
            crate::made_models::constant(crate::made_models::PERSON),
        ),
    ] {
        crate::made_models::install(models.path(), name, &model);
    }
    let config = format!(
        r#"
        [ice]
        interfaces = ["lo"]
        [runtime]
        threads = 2
        models_dir = "{}"
        [[cameras]]
        twin_id = "hangs-1"
        model = "endless"
        [[cameras]]
        twin_id = "hangs-2"
        model = "endless"
        [[cameras]]
        twin_id = "lies"
        model = "liar"
        [[cameras]]
        twin_id = "good"
        model = "good"
        "#,
        models.path().display()
    );
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url.as_str()),
        ("TWIN_ID", fake::NODE),
    ];
    let node = NodeProcess::start(&config, &env).await;

    let mut blind: BTreeMap<String, String> = BTreeMap::new();
    let mut good = Vec::new();
    let started = Instant::now();
    while blind.len() < 3 || good.len() < 60 {
        let message = tokio::time::timeout(DEADLINE, events.recv())
            .await
            .expect("events go on")
            .unwrap();
        assert!(
            started.elapsed() < DEADLINE,
            "{blind:?}, {} events",
            good.len()
        );
        let data = &message.data["data"];
        let twin = data["camera"]["twinId"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        match message.message_type() {
            Some("edgeInstance:detections") => {
                assert_eq!(twin, "good", "{data}");
                good.push(Instant::now());
            }
            Some("edgeInstance:cameraStatus") if data["state"] == "receiving" => {
                if let Some(reason) = data["reason"].as_str() {
                    blind.insert(twin, reason.to_owned());
                }
            }
            _ => {}
        }
    }
    let gaps = good.windows(2).map(|pair| pair[1] - pair[0]);
    let longest = gaps.max().unwrap();
    println!(
        "{} events of the good camera in {:.1} s, the longest gap {longest:?}; {blind:?}",
        good.len(),
        started.elapsed().as_secs_f64()
    );
    assert!(longest < Duration::from_secs(15), "{longest:?}");
    let hangs = "model endless is set aside: a run did not end in time";
    assert_eq!(blind["hangs-1"], hangs);
    assert_eq!(blind["hangs-2"], hangs);
    assert!(blind["lies"].contains("has 5 as a score"), "{blind:?}");
    let ready = http_get(node.http, "/readyz");
    assert!(
        ready.contains(hangs)
            && ready.contains("model liar gives no results")
            && !ready.contains("model good"),
        "{ready}"
    );
    assert_eq!(http_get(node.http, "/healthz"), "ok\n");
    assert!(node.metric("model_state", "model=\"endless\",state=\"set_aside\"") > 0.5);
    assert!(node.metric("model_state", "model=\"liar\",state=\"failing\"") > 0.5);
    let mut program = node.program;
    program.signal("TERM");
    assert_eq!(program.ended().await.code(), Some(0));
}

/// Resident memory of another process in MB.
fn resident_mb_of(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kb: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kb / 1024.0
}

/// Runs that ignore their end: a thread each, for minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "two minutes of work on two cores: make long"]
async fn runs_that_cannot_be_ended_cost_a_bounded_number_of_threads() {
    use crate::common::{NodeProcess, http_get};

    let url = start_hub(DevHubOptions::default()).await;
    for id in ["stuck-1", "stuck-2", "good"] {
        fake::camera(&url, id, "default", None, 5.0);
    }
    let (_app, mut events) = fake::listen(&url).await;
    let models = tempfile::tempdir().unwrap();
    crate::made_models::install(models.path(), "stuck", &crate::made_models::stuck());
    crate::made_models::install(
        models.path(),
        "good",
        &crate::made_models::constant(crate::made_models::PERSON),
    );
    let cameras: String = [("stuck-1", "stuck"), ("stuck-2", "stuck"), ("good", "good")]
        .iter()
        .map(|(twin, model)| format!("[[cameras]]\ntwin_id = \"{twin}\"\nmodel = \"{model}\"\n"))
        .collect();
    let folder = models.path().display();
    let config = format!(
        "[ice]\ninterfaces = [\"lo\"]\n[runtime]\nthreads = 2\nmodels_dir = \"{folder}\"\n{cameras}"
    );
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url.as_str()),
        ("TWIN_ID", fake::NODE),
    ];
    let node = NodeProcess::start(&config, &env).await;
    let (started, mut good) = (Instant::now(), Vec::new());
    let mut before = None;
    while started.elapsed() < Duration::from_secs(110) {
        let message = tokio::time::timeout(DEADLINE, events.recv())
            .await
            .expect("events go on")
            .unwrap();
        if message.message_type() == Some("edgeInstance:detections") {
            good.push(Instant::now());
            before.get_or_insert_with(|| resident_mb_of(node.program.id()));
        }
    }
    let longest = good.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    let (before, after) = (before.unwrap(), resident_mb_of(node.program.id()));
    let given_up = node.plain_metric("twinsight_workers_given_up");
    println!(
        "{} events of the good camera in 110 s, the longest gap {longest:?}, {given_up} given up, {before:.0} MB, later {after:.0} MB",
        good.len()
    );
    println!("{}", http_get(node.http, "/readyz"));
    assert!(longest < Duration::from_secs(15), "{longest:?}");
    assert!((1.0..=2.0).contains(&given_up), "{given_up}");
    assert!(
        after - before < 400.0,
        "{before:.0} MB, later {after:.0} MB"
    );
}
