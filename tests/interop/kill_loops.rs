//! Cameras and hubs die without a word, again and again, alone and together; the node lives through all
//! of it. The camera that dies and the listener are the official Python client's, or the camera is one on the
//! official npm client or a page in Chromium; hub, node and the camera that stays are the program as its users
//! start it, each in a process of its own.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::process::Command;
use std::time::{Duration, Instant};

#[cfg(feature = "vp8")]
use crate::common::Browser;
use crate::common::ports::unused_address;
use crate::common::{DEADLINE, NodeProcess, Program, root};
use serde_json::Value;
#[cfg(feature = "vp8")]
use twinsight_client::hub::{HubClient, HubOptions};

/// Rounds in which the camera dies, the hub dies, and both.
const ROUNDS: [u32; 3] = [5, 4, 2];

/// The same in `make long`; there cameras on every client die as often.
const LONG_ROUNDS: [u32; 3] = [20, 10, 3];

/// Rounds in which a camera on another client dies.
#[cfg(feature = "vp8")]
const OTHER_ROUNDS: u32 = 3;

/// How long the hub is frozen: longer than its ping interval and time-out.
const FROZEN: Duration = Duration::from_secs(60);

/// From a camera's return to its detections.
const CAMERA_LIMIT: Duration = Duration::from_secs(10);

/// From the hub's return to the node's, and from there to its next event.
const HUB_LIMIT: Duration = Duration::from_secs(6);

const DIES: &str = "cam-dies";
const STAYS: &str = "cam-stays";

/// The client of the camera that dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Python,
    /// In the legacy dialect; sends VP8.
    #[cfg(feature = "vp8")]
    Npm,
    /// Chromium; sends its canvas in this codec.
    #[cfg(feature = "vp8")]
    Browser(&'static str),
}

/// The camera that dies.
enum Dying {
    Program(Program),
    #[cfg(feature = "vp8")]
    Page(Browser),
}

impl Dying {
    async fn die(&mut self) {
        match self {
            Self::Program(program) => {
                program.signal("KILL");
                program.ended().await;
            }
            #[cfg(feature = "vp8")]
            Self::Page(browser) => browser.kill(),
        }
    }
}

/// Everything that runs. What dies is started anew in its place.
struct Bench {
    port: String,
    hub: Program,
    node: NodeProcess,
    client: Client,
    camera: Dying,
    stays: Program,
    listener: Program,
    reached: Times,
}

/// What the node's process holds.
#[derive(Debug)]
struct Held {
    resident_bytes: f64,
    tasks: f64,
    threads: f64,
    descriptors: f64,
}

#[derive(Debug, Default)]
struct Times {
    camera: Vec<Duration>,
    rejoined: Vec<Duration>,
    published: Vec<Duration>,
    both: Vec<Duration>,
}

fn twinsight(args: &[&str], env: &[(&str, &str)], log: bool) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinsight"));
    command.args(args).current_dir(root());
    Program::start(command, env, log)
}

async fn start_hub(port: &str) -> Program {
    let mut hub = twinsight(
        &["hub", "--listen", &format!("127.0.0.1:{port}")],
        &[],
        true,
    );
    hub.until("the development hub listens").await;
    hub
}

/// A camera, ready for viewers.
async fn start_camera(url: &str, client: Client) -> Dying {
    let clip = root().join("media/pedestrians.h264");
    let clip = clip.to_str().unwrap();
    match client {
        Client::Python => {
            let env = [("PHYSTACK_SIMULATOR_URL", url), ("TWIN_ID", DIES)];
            let mut camera = Program::python("camera.py", &[clip], &env);
            camera.until("armed").await;
            Dying::Program(camera)
        }
        #[cfg(feature = "vp8")]
        Client::Npm => {
            let mut camera = Program::npm("media.mjs", &["--send", clip], url, DIES);
            camera.until("armed").await;
            Dying::Program(camera)
        }
        #[cfg(feature = "vp8")]
        Client::Browser(codec) => {
            let reader = HubClient::connect(HubOptions::simulator(url, "reader"))
                .await
                .unwrap();
            let mut lines = reader.instance().events("page", 64);
            let query = format!(
                "twin={DIES}&peer=reader&report=reader&role=responder&mode=send&codec={codec}"
            );
            let browser = Browser::open("media.html", url, &query);
            let armed = async { while lines.recv().await.unwrap().data["what"] != "armed" {} };
            tokio::time::timeout(DEADLINE, armed).await.unwrap();
            reader.close().await;
            Dying::Page(browser)
        }
    }
}

async fn start_listener(url: &str) -> Program {
    let env = [("PHYSTACK_SIMULATOR_URL", url), ("TWIN_ID", "app-1")];
    let mut listener = Program::python("listener.py", &["node-1", "--statuses"], &env);
    listener.until("ready").await;
    listener
}

/// What a camera on this client needs beside its twin.
fn settings_for(client: Client) -> &'static str {
    match client {
        Client::Python => "",
        #[cfg(feature = "vp8")]
        Client::Npm => "dialect = \"legacy\"\n",
        #[cfg(feature = "vp8")]
        Client::Browser(_) => "",
    }
}

impl Bench {
    async fn start(client: Client) -> Self {
        let port = unused_address().port().to_string();
        let url = format!("http://127.0.0.1:{port}");
        let hub = start_hub(&port).await;
        let env = [
            ("PHYSTACK_SIMULATOR_URL", url.as_str()),
            ("TWIN_ID", "node-1"),
        ];
        // What dies is met again no matter how often the detector runs, and other tests need the processors.
        let config = format!(
            "[defaults]\nmodel = \"ssdlite_mobilenet_v2_coco\"\nmax_fps = 2.0\n\
             [[cameras]]\ntwin_id = \"{STAYS}\"\n[[cameras]]\ntwin_id = \"{DIES}\"\n{}",
            settings_for(client)
        );
        let mut node = NodeProcess::start(&config, &env).await;
        node.program.until("the hub is joined").await;
        let clip = root().join("media/pedestrians.h264");
        let args = ["camera", "--twin", STAYS, "--clip", clip.to_str().unwrap()];
        let stays = twinsight(&args, &env[..1], true);
        let mut bench = Self {
            camera: start_camera(&url, client).await,
            client,
            listener: start_listener(&url).await,
            port,
            hub,
            node,
            stays,
            reached: Times::default(),
        };
        bench.detection(DIES).await;
        bench.detection(STAYS).await;
        bench
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The next event of a camera, detections or state, that `wanted` takes.
    async fn event(&mut self, what: &str, camera: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let search = async {
            loop {
                let line = self.listener.line().await.expect("the listener goes on");
                let event: Value = serde_json::from_str(&line).unwrap();
                if event["camera"]["twinId"] == camera && wanted(&event) {
                    return event;
                }
            }
        };
        match tokio::time::timeout(DEADLINE, search).await {
            Ok(event) => event,
            Err(_) => panic!("no {what} of {camera} came"),
        }
    }

    async fn detection(&mut self, camera: &str) -> Value {
        self.event("detection", camera, |event| event["objects"].is_array())
            .await
    }

    fn of_camera(&self, metric: &str, camera: &str) -> f64 {
        self.node.metric(metric, &format!("camera=\"{camera}\""))
    }

    /// Waits until a reading of the node's metrics is as wanted; how long that took.
    async fn until(&self, what: &str, wanted: impl Fn(&Self) -> bool) -> Duration {
        let begun = Instant::now();
        while !wanted(self) {
            assert!(
                begun.elapsed() < DEADLINE,
                "this did not happen: {what}; {:?}",
                self.held()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        begun.elapsed()
    }

    fn is_in_state(&self, camera: &str, state: &str) -> bool {
        let labels = format!("camera=\"{camera}\",state=\"{state}\"");
        self.node.metric("camera_state", &labels) == 1.0
    }

    fn held(&self) -> Held {
        Held {
            resident_bytes: self.node.plain_metric("process_resident_memory_bytes"),
            tasks: self.node.plain_metric("twinsight_tasks"),
            threads: self.node.plain_metric("process_threads"),
            descriptors: self.node.plain_metric("process_open_fds"),
        }
    }

    /// The camera's process is killed and started again; the listener hears of it.
    async fn camera_dies(&mut self, wait_for_stall: bool) {
        self.camera.die().await;
        if wait_for_stall {
            let lost = self
                .event("change of state", DIES, |event| event["state"].is_string())
                .await;
            assert_ne!(lost["state"], "receiving", "nobody sends");
            self.until("the state in the metrics", |bench| {
                !bench.is_in_state(DIES, "receiving")
            })
            .await;
        }
        self.camera = start_camera(&self.url(), self.client).await;
        let returned = Instant::now();
        self.event("state `receiving`", DIES, |event| {
            event["state"] == "receiving"
        })
        .await;
        self.detection(DIES).await;
        self.reached.camera.push(returned.elapsed());
        assert!(self.is_in_state(DIES, "receiving"));
        assert!(self.is_in_state(STAYS, "receiving"));
    }

    /// Units of both cameras that are up go on while the hub is away, and events are counted as dropped.
    async fn carries_on_without_hub(&self) {
        let units = |bench: &Self| {
            [DIES, STAYS].map(|camera| bench.of_camera("access_units_received_total", camera))
        };
        let dropped = |bench: &Self| {
            bench
                .node
                .metric("events_dropped_total", "hub_disconnected")
        };
        let (before, dropped_before) = (units(self), dropped(self));
        self.until("video goes on without the hub", |bench| {
            let now = units(bench);
            now[0] >= before[0] + 10.0
                && now[1] >= before[1] + 10.0
                && dropped(bench) > dropped_before
        })
        .await;
    }

    /// The node is back within the limit, and its events flow.
    async fn hub_is_back(&mut self) {
        let rejoined = self
            .until("the node joins again", |bench| {
                bench.node.plain_metric("twinsight_hub_connected") == 1.0
            })
            .await;
        let published = self.node.metric("events_published_total", "");
        let flows = self
            .until("events flow again", |bench| {
                bench.node.metric("events_published_total", "") > published
            })
            .await;
        self.reached.rejoined.push(rejoined);
        self.reached.published.push(flows);
    }

    async fn hub_dies(&mut self, round: u32) {
        let attempts = self.node.metric("camera_reconnects_total", "");
        self.hub.signal("KILL");
        self.hub.ended().await;
        self.until("the node notices", |bench| {
            bench.node.plain_metric("twinsight_hub_connected") == 0.0
        })
        .await;
        self.carries_on_without_hub().await;
        // Sometimes it is away for longer than the first attempts take.
        tokio::time::sleep(Duration::from_millis(u64::from(round % 4) * 700)).await;
        self.hub = start_hub(&self.port).await;
        self.hub_is_back().await;
        // The official client stays mute after a hub's restart.
        self.listener = start_listener(&self.url()).await;
        self.detection(DIES).await;
        self.detection(STAYS).await;
        assert_eq!(
            self.node.metric("camera_reconnects_total", ""),
            attempts,
            "no connection to a camera was touched"
        );
    }

    async fn hub_freezes(&mut self) {
        let attempts = self.node.metric("camera_reconnects_total", "");
        self.hub.signal("STOP");
        let thawed_at = Instant::now() + FROZEN;
        self.until("the node notices", |bench| {
            bench.node.plain_metric("twinsight_hub_connected") == 0.0
        })
        .await;
        self.carries_on_without_hub().await;
        tokio::time::sleep_until(thawed_at.into()).await;
        self.hub.signal("CONT");
        self.hub_is_back().await;
        assert_eq!(
            self.node.metric("camera_reconnects_total", ""),
            attempts,
            "no connection to a camera was touched"
        );
        self.listener = start_listener(&self.url()).await;
        // The hub's other clients are away for longer: the official camera has to be restarted.
        self.detection(STAYS).await;
        self.detection(DIES).await;
    }

    async fn both_die(&mut self) {
        self.hub.signal("KILL");
        self.hub.ended().await;
        self.camera.die().await;
        self.until("the stall", |bench| !bench.is_in_state(DIES, "receiving"))
            .await;
        assert!(self.is_in_state(STAYS, "receiving"));
        self.hub = start_hub(&self.port).await;
        self.hub_is_back().await;
        self.listener = start_listener(&self.url()).await;
        self.camera = start_camera(&self.url(), self.client).await;
        let returned = Instant::now();
        self.detection(DIES).await;
        self.reached.both.push(returned.elapsed());
        assert!(self.is_in_state(DIES, "receiving"));
    }

    /// All cameras gone, everything that came in is accounted for.
    async fn ledger_balances(&self) {
        let open = |bench: &Self, camera: &str| {
            let of = |metric| bench.of_camera(metric, camera);
            [
                of("access_units_received_total")
                    - of("frames_decoded_total")
                    - of("access_units_dropped_total"),
                of("frames_decoded_total")
                    - of("frames_inferred_total")
                    - of("frames_dropped_total"),
                of("frames_inferred_total")
                    - of("events_published_total")
                    - of("events_dropped_total"),
            ]
        };
        self.until("the ledger balances", |bench| {
            [DIES, STAYS]
                .iter()
                .all(|camera| open(bench, camera) == [0.0; 3])
        })
        .await;
    }
}

fn check(what: &str, times: &mut [Duration], limit: Duration) {
    times.sort_unstable();
    let (p50, max) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{what}: p50 {p50:.2?}, max {max:.2?} of {}", times.len());
    assert!(max <= limit, "{what}: {times:.2?}");
}

/// What the node holds is what it held after the first round, and everything that came in is accounted for.
async fn leaves_nothing_behind(mut bench: Bench, first: Held) {
    // What closes its connection may still be at it. Threads for work that blocks end when they were idle for ten seconds, and
    // each reading wakes one of them, so that readings are seldom and a few more of these threads are no growth.
    const IDLE_THREADS: f64 = 3.0;
    let begun = Instant::now();
    loop {
        let last = bench.held();
        let grown = last.threads > first.threads + IDLE_THREADS
            || [
                (first.resident_bytes, last.resident_bytes),
                (first.tasks, last.tasks),
                (first.descriptors, last.descriptors),
            ]
            .iter()
            .any(|(first, last)| *last > first * 1.1);
        if !grown {
            break;
        }
        assert!(
            begun.elapsed() < DEADLINE,
            "the node holds more than after the first round:\nfirst {first:?}\nlast  {last:?}"
        );
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    println!("first {first:?}\nlast  {:?}", bench.held());
    bench.camera.die().await;
    bench.stays.signal("KILL");
    bench.ledger_balances().await;
    bench.node.program.signal("TERM");
    assert!(bench.node.program.ended().await.success());
}

// The two run side by side: a machine with something else to do is part of the test.

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_that_dies_again_and_again_is_met_whenever_it_returns() {
    a_camera_dies(Client::Python, ROUNDS[0]).await;
}

async fn a_camera_dies(client: Client, rounds: u32) {
    let mut bench = Bench::start(client).await;
    bench.camera_dies(true).await;
    let first = bench.held();
    for round in 1..rounds {
        bench.camera_dies(round % 2 == 0).await;
    }
    let what = format!("detections after the return of a camera on {client:?}");
    check(&what, &mut bench.reached.camera, CAMERA_LIMIT);
    leaves_nothing_behind(bench, first).await;
}

#[cfg(feature = "vp8")]
#[tokio::test(flavor = "multi_thread")]
async fn so_is_one_on_the_npm_client() {
    a_camera_dies(Client::Npm, OTHER_ROUNDS).await;
}

#[cfg(feature = "vp8")]
#[tokio::test(flavor = "multi_thread")]
async fn so_is_a_browser_that_sends_h264() {
    a_camera_dies(Client::Browser("H264"), OTHER_ROUNDS).await;
}

#[cfg(feature = "vp8")]
#[tokio::test(flavor = "multi_thread")]
async fn so_is_a_browser_that_sends_vp8() {
    a_camera_dies(Client::Browser("VP8"), OTHER_ROUNDS).await;
}

#[cfg(feature = "vp8")]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make long"]
async fn cameras_on_every_client_die_often() {
    let browsers = [Client::Browser("H264"), Client::Browser("VP8")];
    for client in [Client::Python, Client::Npm].into_iter().chain(browsers) {
        a_camera_dies(client, LONG_ROUNDS[0]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hubs_that_die_or_freeze_are_joined_again_while_video_goes_on() {
    hubs_die_or_freeze(ROUNDS).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make long"]
async fn hubs_die_often() {
    hubs_die_or_freeze(LONG_ROUNDS).await;
}

async fn hubs_die_or_freeze(rounds: [u32; 3]) {
    let mut bench = Bench::start(Client::Python).await;
    bench.hub_dies(0).await;
    let first = bench.held();
    for round in 1..rounds[1] {
        bench.hub_dies(round).await;
    }
    bench.hub_freezes().await;
    // Mute since the hub went: the official client is started again.
    bench.camera_dies(true).await;
    for _ in 0..rounds[2] {
        bench.both_die().await;
    }
    let Times {
        rejoined,
        published,
        both,
        ..
    } = &mut bench.reached;
    check("joined after the hub's return", rejoined, HUB_LIMIT);
    check("an event after joining", published, HUB_LIMIT);
    check("detections after both returned", both, CAMERA_LIMIT);
    leaves_nothing_behind(bench, first).await;
}
