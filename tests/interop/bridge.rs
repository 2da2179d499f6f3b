//! A bridged IP camera (GStreamer's RTSP server) and all who look at it: the official Python client, a page in Chromium and a node, at
//! the same time. And what dies of these, again and again: the bridge lives through it, and holds what it held before.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::ip_camera::IpCamera;
use crate::common::ports::unused_address;
use crate::common::{Browser, DEADLINE, NodeProcess, Program, root};
use twinsight_client::hub::{EventReceiver, HubClient, HubOptions};

/// The camera.
const YARD: &str = "yard";

/// Rounds in which each of the others dies.
const ROUNDS: u32 = 3;

/// The same in `make long`.
const LONG_ROUNDS: u32 = 15;

/// Pictures come again within this time after a source is back, or a viewer.
const RETURN_LIMIT: Duration = Duration::from_secs(20);

/// Everything that runs.
struct Bench {
    port: String,
    hub: Program,
    bridge: NodeProcess,
    ip: Option<IpCamera>,
    viewer: Program,
}

/// What the bridge's process holds.
#[derive(Debug)]
struct Held {
    resident_bytes: f64,
    tasks: f64,
    threads: f64,
    descriptors: f64,
}

async fn start_hub(port: &str) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinsight"));
    command
        .args(["hub", "--listen", &format!("127.0.0.1:{port}")])
        .current_dir(root());
    let mut hub = Program::start(command, &[], true);
    hub.until("the development hub listens").await;
    hub
}

/// The official Python client, which looks at the camera.
async fn start_viewer(url: &str) -> Program {
    let env = [("PHYSTACK_SIMULATOR_URL", url), ("TWIN_ID", "python")];
    Program::python("media.py", &["--dial", YARD, "--receive"], &env)
}

/// Waits until the viewer has decoded so many pictures. The clip has no numbers in it, which the viewer says of each of them.
async fn sees(viewer: &mut Program, pictures: u32) {
    for _ in 0..pictures {
        viewer.until("unreadable default").await;
    }
}

impl Bench {
    async fn start() -> Self {
        let port = unused_address().port().to_string();
        let url = format!("http://127.0.0.1:{port}");
        let hub = start_hub(&port).await;
        let ip = IpCamera::playing(unused_address()).await;
        let config = format!(
            "[[cameras]]\ntwin_id = \"{YARD}\"\nrtsp = \"{}\"\n",
            ip.url()
        );
        let env = [("PHYSTACK_SIMULATOR_URL", url.as_str())];
        let bridge = NodeProcess::start_bridge(&config, &env).await;
        let mut bench = Self {
            port,
            hub,
            bridge,
            ip: Some(ip),
            viewer: start_viewer(&url).await,
        };
        sees(&mut bench.viewer, 10).await;
        bench
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn of_camera(&self, metric: &str) -> f64 {
        self.bridge.metric(metric, &format!("camera=\"{YARD}\""))
    }

    fn is_in_state(&self, state: &str) -> bool {
        let labels = format!("camera=\"{YARD}\",state=\"{state}\"");
        self.bridge.metric("bridge_state", &labels) > 0.5
    }

    /// Waits until a reading of the bridge's metrics is as wanted; how long that took.
    async fn until(&self, what: &str, wanted: impl Fn(&Self) -> bool) -> Duration {
        let begun = Instant::now();
        while !wanted(self) {
            assert!(
                begun.elapsed() < DEADLINE,
                "this did not happen: {what}; {:?}",
                self.held()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        begun.elapsed()
    }

    fn held(&self) -> Held {
        Held {
            resident_bytes: self.bridge.plain_metric("process_resident_memory_bytes"),
            tasks: self.bridge.plain_metric("twinsight_tasks"),
            threads: self.bridge.plain_metric("process_threads"),
            descriptors: self.bridge.plain_metric("process_open_fds"),
        }
    }

    /// The viewer sees the camera again. The official client gives its connection up after 5 s without a picture, and on a busy
    /// machine it has happened that it did not come back: then it is started anew.
    async fn is_seen_again(&mut self) {
        let seen = tokio::time::timeout(Duration::from_secs(20), sees(&mut self.viewer, 10)).await;
        if seen.is_err() {
            println!("the official client does not come back, and another one is started");
            self.viewer.signal("KILL");
            self.viewer.ended().await;
            self.viewer = start_viewer(&self.url()).await;
            sees(&mut self.viewer, 10).await;
        }
    }

    /// The camera loses its power. Its viewer keeps its connection, and sees it again when it is back.
    async fn camera_dies(&mut self) -> Duration {
        let address = self.ip.take().unwrap().die().await;
        self.until("the loss", |bench| bench.is_in_state("unreachable"))
            .await;
        self.until("the viewer that stays", |bench| {
            bench.of_camera("bridge_viewers") > 0.5
        })
        .await;
        self.ip = Some(IpCamera::playing(address).await);
        let returned = Instant::now();
        self.until("the return", |bench| bench.is_in_state("receiving"))
            .await;
        let took = returned.elapsed();
        self.is_seen_again().await;
        took
    }

    /// The camera freezes: its connection stays, and nothing comes.
    async fn camera_freezes(&mut self) {
        self.ip.as_ref().unwrap().program.signal("STOP");
        self.until("the stall", |bench| bench.is_in_state("stalled"))
            .await;
        self.ip.as_ref().unwrap().program.signal("CONT");
        self.until("the thaw", |bench| bench.is_in_state("receiving"))
            .await;
        self.is_seen_again().await;
    }

    /// The hub dies: pictures go on. The bridge joins again by itself.
    async fn hub_dies(&mut self) {
        self.hub.signal("KILL");
        self.hub.ended().await;
        self.until("the bridge notices", |bench| {
            bench.bridge.plain_metric("twinsight_hub_connected") < 0.5
        })
        .await;
        sees(&mut self.viewer, 20).await;
        self.hub = start_hub(&self.port).await;
        self.until("the bridge joins again", |bench| {
            bench.bridge.plain_metric("twinsight_hub_connected") > 0.5
        })
        .await;
        assert!(self.is_in_state("receiving"));
    }

    /// A viewer dies. Another one is served, and nothing of the first is left.
    async fn viewer_dies(&mut self) -> Duration {
        self.viewer.signal("KILL");
        self.viewer.ended().await;
        let started = Instant::now();
        self.viewer = start_viewer(&self.url()).await;
        sees(&mut self.viewer, 10).await;
        let seen = started.elapsed();
        self.until("the place of the one that died", |bench| {
            (bench.of_camera("bridge_viewers") - 1.0).abs() < 0.5
        })
        .await;
        seen
    }

    /// What the bridge holds is what it held after the first rounds.
    async fn leaves_nothing_behind(mut self, first: Held) {
        // Threads for work that blocks end when they were idle for ten seconds, and each reading wakes one of them.
        const IDLE_THREADS: f64 = 3.0;
        let begun = Instant::now();
        loop {
            let last = self.held();
            let grown = last.threads > first.threads + IDLE_THREADS
                || [
                    (first.resident_bytes, last.resident_bytes),
                    (first.tasks, last.tasks),
                    (first.descriptors, last.descriptors),
                ]
                .iter()
                .any(|(first, last)| *last > first * 1.1);
            if !grown {
                println!("first {first:?}\nlast  {last:?}");
                break;
            }
            assert!(
                begun.elapsed() < DEADLINE,
                "the bridge holds more than after the first rounds:\nfirst {first:?}\nlast  {last:?}"
            );
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        self.bridge.program.signal("TERM");
        assert!(self.bridge.program.ended().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_dies_beside_a_bridge_it_goes_on_and_holds_what_it_held() {
    all_die(ROUNDS).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make long"]
async fn all_beside_a_bridge_die_often() {
    all_die(LONG_ROUNDS).await;
}

async fn all_die(rounds: u32) {
    let mut bench = Bench::start().await;
    let mut first = None;
    let (mut cameras, mut viewers) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        cameras.push(bench.camera_dies().await);
        bench.camera_freezes().await;
        viewers.push(bench.viewer_dies().await);
        bench.hub_dies().await;
        // The official client stays mute after a hub's restart, so that this one is replaced.
        viewers.push(bench.viewer_dies().await);
        if first.is_none() {
            first = Some(bench.held());
        }
    }
    println!("receiving after the camera's return: {cameras:.2?}");
    println!("ten pictures after a viewer's start: {viewers:.2?}");
    for took in cameras {
        assert!(took < RETURN_LIMIT, "{took:?}");
    }
    bench.leaves_nothing_behind(first.unwrap()).await;
}

/// Reads what a page in Chromium says until it has shown so many pictures.
async fn shows(lines: &mut EventReceiver, pictures: u32) {
    let mut shown = 0;
    while shown < pictures {
        let line = tokio::time::timeout(DEADLINE, lines.recv()).await;
        let line = line.expect("the page says something").unwrap().data;
        let what = line["what"].as_str().unwrap();
        assert_ne!(what, "error", "{line}");
        shown += u32::from(what == "unreadable");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_chromium_and_a_node_look_at_one_bridged_camera() {
    let mut bench = Bench::start().await;
    let url = bench.url();
    let reader = HubClient::connect(HubOptions::simulator(&url, "reader"))
        .await
        .unwrap();
    let mut lines = reader.instance().events("page", 1024);
    let query = format!("twin=page&peer={YARD}&report=reader&role=initiator&mode=receive");
    let _browser = Browser::open("media.html", &url, &query);
    let node = NodeProcess::start(
        &format!(
            "[defaults]\nmodel = \"ssdlite_mobilenet_v2_coco\"\nmax_fps = 2.0\n[[cameras]]\ntwin_id = \"{YARD}\"\n"
        ),
        &[("PHYSTACK_SIMULATOR_URL", &url), ("TWIN_ID", "node-1")],
    )
    .await;
    shows(&mut lines, 30).await;
    sees(&mut bench.viewer, 30).await;
    bench
        .until("the node sees persons", |_| {
            node.metric("objects_detected_total", "label=\"person\"") > 3.0
        })
        .await;
    bench
        .until("three viewers", |bench| {
            (bench.of_camera("bridge_viewers") - 3.0).abs() < 0.5
        })
        .await;
    assert!(bench.of_camera("bridge_reconnects_total") < 0.5);
}
