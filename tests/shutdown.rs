//! How a node ends: on the first signal in good order and soon, on the second at once, whatever it is
//! doing; and that a hub that is away does not end it.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]
#![cfg(all(feature = "webrtc", feature = "ort", feature = "openh264"))]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{DEADLINE, NodeProcess, root};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};
use twinsight::dev::camera::{self, CameraOptions};
use twinsight::dev::hub::{self, DevHubError, DevHubOptions};
use twinsight::h264::clip::Clip;
use twinsight::hub::{HubClient, HubOptions};
use twinsight::realtime::ice::IceSettings;

/// The longest that a graceful stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(5);

const CONFIG: &str = "[ice]\ninterfaces = [\"lo\"]\n[defaults]\nmodel = \"ssdlite_mobilenet_v2_coco\"\n[[cameras]]\ntwin_id = \"cam\"\n";

/// A hub that can be stopped.
struct Hub {
    url: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), DevHubError>>,
}

impl Hub {
    async fn start(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(hub::run(listener, DevHubOptions::default(), async {
            drop(stopped.await);
        }));
        Self { url, stop, task }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

/// A camera of ten frames a second; ends with its handle's `abort`.
fn start_camera(url: &str) -> AbortHandle {
    let clip = Arc::new(Clip::read(&root().join("media/pedestrians.h264")).unwrap());
    let options = CameraOptions {
        stream: "default".to_owned(),
        dial: None,
        fps: 10.0,
        start: 0,
        ice: IceSettings {
            interfaces: vec!["lo".to_owned()],
            ..IceSettings::default()
        },
    };
    let client = HubClient::start(HubOptions::simulator(url, "cam"));
    tokio::spawn(camera::run(client, clip, options)).abort_handle()
}

async fn start_node(url: &str) -> NodeProcess {
    let env = [("PHYSTACK_SIMULATOR_URL", url), ("TWIN_ID", "node-1")];
    NodeProcess::start(CONFIG, &env).await
}

/// Waits until the node has published events of the camera.
async fn until_busy(node: &NodeProcess) {
    let deadline = Instant::now() + DEADLINE;
    while node.metric("events_published_total", "cam") < 5.0 {
        assert!(Instant::now() < deadline, "no events are published");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Sends the signal; the node ends with exit code 0 in time.
async fn stops(node: &mut NodeProcess, signal: &str) {
    let asked = Instant::now();
    node.program.signal(signal);
    let status = node.program.ended().await;
    let took = asked.elapsed();
    println!("{signal}: ended within {took:?}");
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(took < STOP_LIMIT, "{took:?}");
}

/// Status and body.
fn get(node: &NodeProcess, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(node.http).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// Asks until the answer is this one; what explains it may follow.
async fn until_answer(node: &NodeProcess, path: &str, wanted: (u16, &str)) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (status, body) = get(node, path);
        if status == wanted.0 && body.starts_with(wanted.1) {
            return;
        }
        assert!(Instant::now() < deadline, "{path} says {status} {body}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_by_either_signal() {
    let hub = Hub::start("127.0.0.1:0").await;
    let camera = start_camera(&hub.url);
    for signal in ["TERM", "INT"] {
        let mut node = start_node(&hub.url).await;
        until_busy(&node).await;
        stops(&mut node, signal).await;
    }
    camera.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_hub_gone() {
    let hub = Hub::start("127.0.0.1:0").await;
    let camera = start_camera(&hub.url);
    let mut node = start_node(&hub.url).await;
    until_busy(&node).await;
    hub.stop().await;
    until_answer(&node, "/readyz", (503, "the hub is not joined: ")).await;
    stops(&mut node, "TERM").await;
    camera.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_models_are_loaded() {
    let mut node = start_node("http://127.0.0.1:9").await;
    stops(&mut node, "TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_once_by_the_second_signal() {
    let hub = Hub::start("127.0.0.1:0").await;
    let camera = start_camera(&hub.url);
    let mut node = start_node(&hub.url).await;
    until_busy(&node).await;
    // Half a request: a graceful stop waits a second for the other half.
    let mut half = TcpStream::connect(node.http).unwrap();
    half.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    node.program.signal("TERM");
    node.program.until("\"stopping\"").await;
    let asked = Instant::now();
    node.program.signal("TERM");
    node.program.until("stopped at once").await;
    let status = node.program.ended().await;
    let took = asked.elapsed();
    println!("ended within {took:?}");
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(took < Duration::from_millis(800), "{took:?}");
    camera.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_away_at_the_start_is_waited_for() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let mut node = start_node(&format!("http://{address}")).await;
    until_answer(&node, "/readyz", (503, "the hub is not joined: ")).await;
    assert_eq!(get(&node, "/healthz").0, 200);
    let hub = Hub::start(&address).await;
    until_answer(&node, "/readyz", (200, "ok\n")).await;
    stops(&mut node, "TERM").await;
    hub.stop().await;
}
