//! A node without any hub: its cameras are real RTSP servers (GStreamer's), its results go to whoever asks. Sources come and go,
//! are added and removed while it runs, and what is wrong with its configuration is a sentence.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::common::ip_camera::IpCamera;
use crate::common::ports::unused_address;
use crate::common::{DEADLINE, NodeProcess, http_get, root, twinsight};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// What all cameras have in common. What is seen matters little here, and other tests need the processors.
const NODE: &str =
    "[hub]\nmode = \"none\"\n[defaults]\nmodel = \"ssdlite_mobilenet_v2_coco\"\nmax_fps = 4.0\n";

/// How often the camera dies.
const ROUNDS: u32 = 5;

/// Starts a camera that plays the shipped clip, with further arguments of `tests/interop/rtsp.py`.
async fn ip_camera(address: SocketAddr, args: &[&str]) -> IpCamera {
    let clip = root().join("media/pedestrians.h264");
    let play = ["--play", clip.to_str().unwrap()];
    IpCamera::start_at(address, &[&play, args].concat()).await
}

fn camera(twin: &str, address: SocketAddr) -> String {
    format!("[[cameras]]\ntwin_id = \"{twin}\"\nrtsp = \"rtsp://{address}/stream\"\n")
}

async fn until(what: &str, wanted: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !wanted() {
        assert!(begun.elapsed() < DEADLINE, "this did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    begun.elapsed()
}

fn is_in_state(node: &NodeProcess, camera: &str, state: &str) -> bool {
    let labels = format!("camera=\"{camera}\",state=\"{state}\"");
    (node.metric("camera_state", &labels) - 1.0).abs() < f64::EPSILON
}

/// Stops the node, whose ledgers then balance.
async fn end(node: &mut NodeProcess) {
    node.program.signal("TERM");
    loop {
        let line = node.program.line().await.expect("it says that it ends");
        assert!(!line.contains("does not balance"), "{line}");
        if line.contains("the books are closed") {
            break;
        }
    }
    assert!(node.program.ended().await.success());
}

fn json(node: &NodeProcess, path: &str) -> Value {
    serde_json::from_str(&http_get(node.http, path)).unwrap()
}

/// The events that come until `wanted` is true of one, that one at the end.
fn events(http: SocketAddr, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut stream = TcpStream::connect(http).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(
        stream,
        "GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    .unwrap();
    let mut seen = Vec::new();
    for line in BufReader::new(stream).lines() {
        let Some(event) = line.unwrap().strip_prefix("data: ").map(str::to_owned) else {
            continue;
        };
        let event: Value = serde_json::from_str(&event).unwrap();
        let done = wanted(&event);
        seen.push(event);
        if done {
            return seen;
        }
    }
    panic!("the stream of events ended after {seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cameras_are_seen_without_a_hub_and_come_and_go() {
    let ip = ip_camera(unused_address(), &[]).await;
    let (yard, door) = (camera("yard", ip.address), camera("door", ip.address));
    let mut node = NodeProcess::start(&format!("{NODE}{yard}"), &[]).await;
    node.program.until("there is no hub").await;
    until("the camera is seen", || {
        is_in_state(&node, "yard", "receiving")
    })
    .await;

    let http = node.http;
    let is_seen = |event: &Value| {
        let objects = event["objects"].as_array();
        objects.is_some_and(|objects| objects.iter().any(|object| object["label"] == "person"))
    };
    let seen = tokio::task::spawn_blocking(move || events(http, is_seen));
    let seen = seen.await.unwrap();
    let last = seen.last().unwrap();
    assert_eq!(last["camera"]["twinId"], "yard");
    let parts = last["latencyMs"].as_object().unwrap();
    let total = parts["total"].as_f64().unwrap();
    println!("{parts:?}");
    assert!(total > 0.0 && total < 5000.0, "{parts:?}");

    assert_eq!(http_get(node.http, "/readyz"), "ok\n");
    let facts = json(&node, "/api/node");
    assert_eq!(
        (&facts["ready"], &facts["problems"]),
        (&true.into(), &Value::Array(Vec::new()))
    );
    let hub = &facts["hub"];
    assert_eq!(
        (&hub["mode"], &hub["state"]),
        (&"none".into(), &"none".into())
    );
    assert_eq!((&hub["url"], &hub["twinId"]), (&Value::Null, &Value::Null));
    until("the configuration is told", || {
        json(&node, "/api/config")["inForce"]["hub"]["mode"]["value"] == "none"
    })
    .await;
    let metrics = http_get(node.http, "/metrics");
    assert!(
        !metrics.contains("twinsight_hub_connected"),
        "an alert would take a 0 for a hub that is away"
    );
    assert!(node.metric("events_published_total", "sink=\"local\"") > 0.0);
    assert!(!metrics.contains("sink=\"hub\""));
    assert!(
        !metrics
            .contains("twinsight_keyframe_requests_total{camera=\"yard\",stream=\"default\"} 1")
    );

    // A second camera comes, and goes again.
    let write = |text: &str| {
        let listen = "[http]\nlisten = \"127.0.0.1:0\"\n";
        std::fs::write(&node.config, format!("{listen}{NODE}{text}")).unwrap();
    };
    write(&format!("{yard}{door}"));
    until("the second camera is seen", || {
        is_in_state(&node, "door", "receiving")
    })
    .await;
    assert!(is_in_state(&node, "yard", "receiving"));
    write(&yard);
    until("the second camera is gone", || {
        is_in_state(&node, "door", "removed")
    })
    .await;
    // A camera that only a hub could bring is refused, and the others go on.
    write(&format!("{yard}[[cameras]]\ntwin_id = \"twin\"\n"));
    node.program.until("the configuration was refused").await;
    assert!(is_in_state(&node, "yard", "receiving"));
    write(&yard);

    // The camera goes, and what is wrong is said.
    let address = ip.die().await;
    until("it is unreachable", || {
        is_in_state(&node, "yard", "unreachable")
    })
    .await;
    let problem = || {
        let camera = json(&node, "/api/cameras/yard/default");
        camera["problem"].as_str().unwrap_or_default().to_owned()
    };
    // What is told of cameras is up to half a second old.
    until("it is said why", || {
        let problem = problem();
        problem.contains("gives no pictures") && problem.contains("cannot be reached")
    })
    .await;
    let ip = ip_camera(address, &[]).await;
    until("it is seen again", || {
        is_in_state(&node, "yard", "receiving")
    })
    .await;
    assert!(node.metric("camera_reconnects_total", "camera=\"yard\"") >= 1.0);

    end(&mut node).await;
    drop(ip);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_a_rejection_and_a_right_one_is_taken() {
    let args = ["--auth", "digest", "--password", "right"];
    let ip = ip_camera(unused_address(), &args).await;
    let address = ip.address;
    let with = |password: &str| {
        format!(
            "{NODE}[[cameras]]\ntwin_id = \"yard\"\nrtsp = \"rtsp://admin:{password}@{address}/stream\"\n"
        )
    };
    let node = NodeProcess::start(&with("wrong"), &[]).await;
    until("it is rejected", || is_in_state(&node, "yard", "rejected")).await;
    assert_eq!(
        http_get(node.http, "/readyz"),
        "ok\n",
        "one bad camera does not count"
    );
    let text = format!("[http]\nlisten = \"127.0.0.1:0\"\n{}", with("right"));
    std::fs::write(&node.config, text).unwrap();
    until("it is seen", || is_in_state(&node, "yard", "receiving")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_dies_again_and_again_leaves_nothing_behind() {
    let mut ip = ip_camera(unused_address(), &[]).await;
    let config = format!("{NODE}{}", camera("yard", ip.address));
    let node = NodeProcess::start(&config, &[]).await;
    let held = || {
        [
            "twinsight_tasks",
            "process_threads",
            "process_open_fds",
            "process_resident_memory_bytes",
        ]
        .map(|name| node.plain_metric(name))
    };
    let seen = || is_in_state(&node, "yard", "receiving");
    until("it is seen", seen).await;
    let mut first = [0.0; 4];
    for round in 0..ROUNDS {
        let address = ip.die().await;
        until("its loss is noticed", || !seen()).await;
        ip = ip_camera(address, &[]).await;
        let took = until("it is seen again", seen).await;
        println!("round {round}: seen again after {took:?}");
        if round == 0 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            first = held();
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let last = held();
    println!("tasks, threads, descriptors, memory: {first:?}, then {last:?}");
    for (first, last) in first.iter().zip(&last).take(3) {
        assert!((last - first).abs() <= 2.0, "{first}, then {last}");
    }
    assert!(
        last[3] < first[3] * 1.2,
        "{} MB, then {} MB",
        first[3] / 1e6,
        last[3] / 1e6
    );
}

#[test]
fn what_is_wrong_without_a_hub_is_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    let run = |text: &str, env: &[(&str, &str)]| {
        std::fs::write(&file, text).unwrap();
        twinsight(&["run", "--config", file.to_str().unwrap()], env)
    };
    let path = file.display();
    run("[hub]\nmode = \"none\"\n[[cameras]]\ntwin_id = \"yard\"\n", &[]).failed(
        78,
        &format!(
            "{path} line 3: camera \"yard\" has neither `rtsp` nor `device`, and without a hub (`hub.mode = \"none\"`) no pictures \
             come in another way: add one of them, or choose another mode"
        ),
    );
    let text =
        "[hub]\nmode = \"none\"\n[[cameras]]\ntwin_id = \"yard\"\nrtsp = \"rtsp://127.0.0.1/\"\n";
    run(text, &[("PHYSTACK_SIMULATOR_URL", "http://127.0.0.1:9")]).failed(
        78,
        &format!(
            "{path} line 2: `hub.mode` is \"none\", and the variable PHYSTACK_SIMULATOR_URL chooses a hub: unset the variable, or \
             set TWINSIGHT_HUB__MODE, which decides"
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_asks_the_cameras_and_no_hub() {
    let ip = ip_camera(unused_address(), &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    let dead = unused_address();
    let text = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n{NODE}{}{}",
        camera("yard", ip.address),
        camera("dead", dead)
    );
    std::fs::write(&file, text).unwrap();
    let checked = tokio::task::spawn_blocking(move || {
        twinsight(&["check", "--config", file.to_str().unwrap()], &[])
    });
    let checked = checked.await.unwrap();
    println!("{}", checked.out);
    assert_eq!(checked.code, Some(1), "{}", checked.log);
    // The program may lie in a folder of any name.
    assert!(!checked.out.contains(" hub"), "{}", checked.out);
    let line = |camera: &str| {
        checked
            .out
            .lines()
            .find(|line| line.contains(camera))
            .unwrap()
    };
    assert!(line("camera yard").contains("H.264 video comes"));
    assert!(line("camera dead").contains("cannot be reached"));
}

/// A server that takes what is posted to it, and gives each body.
async fn receiver() -> (SocketAddr, mpsc::UnboundedReceiver<Value>) {
    let (sender, bodies) = mpsc::unbounded_channel();
    let take = axum::routing::post(move |body: axum::Json<Value>| {
        let _ = sender.send(body.0);
        std::future::ready(())
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().route("/hook", take);
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, bodies)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_hub_events_go_to_the_sinks() {
    let ip = ip_camera(unused_address(), &[]).await;
    let (address, mut bodies) = receiver().await;
    let hook = format!(
        "[[sinks]]\ntype = \"webhook\"\nurl = \"http://{address}/hook\"\nevents = [\"detections\", \"cameraStatus\"]\n"
    );
    let config = format!("{NODE}{}{hook}", camera("yard", ip.address));
    let mut node = NodeProcess::start(&config, &[]).await;
    let (mut seen, mut receiving) = (false, false);
    while !(seen && receiving) {
        let body = tokio::time::timeout(DEADLINE, bodies.recv())
            .await
            .expect("an event in time")
            .unwrap();
        let text = body.to_string();
        assert!(text.contains("yard"), "{text}");
        seen |= text.contains("\"objects\":[{");
        receiving |= text.contains("\"state\":\"receiving\"");
    }
    until("it is counted for both", || {
        let of_sink =
            |sink: &str| node.metric("events_published_total", &format!("sink=\"{sink}\""));
        of_sink("webhook") > 0.0 && of_sink("local") > 0.0
    })
    .await;
    end(&mut node).await;
}
