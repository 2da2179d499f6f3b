//! MQTT as a sink, with Mosquitto as the broker and its own programs on the other side: events and states on their topics, a broker
//! that is killed, frozen or strict, and the ledger, which balances through all of it.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use twinsight::dev::hub::DevHubOptions;
use twinsight::node::Node;

use crate::common::ports::unused_address;
use crate::common::{DEADLINE, NodeProcess, Program, fake, start_hub};

const USER: &str = "twinsight";
const PASSWORD: &str = "hush-hush-1";

/// How the broker is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It lets everybody in, without encryption.
    Open,
    /// It is encrypted, and asks for the password.
    Strict,
    /// It asks for the password, and nobody may write states of cameras.
    Closed,
    /// It takes small packets only.
    Small,
}

/// A broker with a folder of its own, which can be killed and started again on the same port.
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    manner: Manner,
    folder: TempDir,
    program: Option<Program>,
}

impl Broker {
    pub(crate) async fn start(manner: Manner) -> Self {
        let address = unused_address();
        let folder = tempfile::tempdir().unwrap();
        let mut broker = Self {
            address,
            manner,
            folder,
            program: None,
        };
        broker.set_up();
        broker.restart().await;
        broker
    }

    fn set_up(&self) {
        let mut text = format!("listener {} 127.0.0.1\n", self.address.port());
        // As root, it would become another user, who may not read its folder.
        text += "user root\nlog_type all\n";
        if self.manner == Manner::Small {
            text += "max_packet_size 400\n";
        }
        if self.is_open() {
            text += "allow_anonymous true\n";
        } else {
            let status = Command::new("mosquitto_passwd")
                .args(["-c", "-b"])
                .arg(self.file("passwords"))
                .args([USER, PASSWORD])
                .status()
                .unwrap();
            assert!(status.success());
            text += &format!(
                "allow_anonymous false\npassword_file {}\n",
                self.shown("passwords")
            );
        }
        if self.manner == Manner::Strict {
            let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            std::fs::write(self.file("ca.pem"), issued.cert.pem()).unwrap();
            std::fs::write(self.file("key.pem"), issued.signing_key.serialize_pem()).unwrap();
            text += &format!(
                "certfile {}\nkeyfile {}\n",
                self.shown("ca.pem"),
                self.shown("key.pem")
            );
        }
        if self.manner == Manner::Closed {
            let rules = "topic read #\ntopic write twinsight/+/status\ntopic write twinsight/+/+/+/detections\n";
            std::fs::write(self.file("acl"), format!("user {USER}\n{rules}")).unwrap();
            text += &format!("acl_file {}\n", self.shown("acl"));
        }
        std::fs::write(self.file("broker.conf"), text).unwrap();
        std::fs::write(self.file("password"), PASSWORD).unwrap();
    }

    fn is_open(&self) -> bool {
        matches!(self.manner, Manner::Open | Manner::Small)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn shown(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    pub(crate) async fn restart(&mut self) {
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(self.file("broker.conf"));
        let mut program = Program::start(command, &[], true);
        program.until("running").await;
        self.program = Some(program);
    }

    pub(crate) async fn kill(&mut self) {
        let mut program = self.program.take().unwrap();
        program.signal("KILL");
        program.ended().await;
    }

    fn signal(&self, name: &str) {
        self.program.as_ref().unwrap().signal(name);
    }

    /// The section of a configuration that makes this broker a sink.
    pub(crate) fn sink(&self, more: &str) -> String {
        let (scheme, port) = match self.manner {
            Manner::Strict => ("mqtts", self.address.port()),
            Manner::Open | Manner::Closed | Manner::Small => ("mqtt", self.address.port()),
        };
        let mut text = format!(
            "[[sinks]]\ntype = \"mqtt\"\nname = \"home\"\nurl = \"{scheme}://localhost:{port}\"\n"
        );
        if !self.is_open() {
            text += &format!(
                "username = \"{USER}\"\npassword_file = \"{}\"\n",
                self.shown("password")
            );
        }
        if self.manner == Manner::Strict {
            text += &format!("ca_file = \"{}\"\n", self.shown("ca.pem"));
        }
        text + more + "\n"
    }

    /// What comes on these topics.
    pub(crate) fn listen(&self, topics: &[&str]) -> Listener {
        let mut command = Command::new("mosquitto_sub");
        let port = self.address.port().to_string();
        command.args([
            "-V",
            "5",
            "-q",
            "2",
            "-h",
            "localhost",
            "-p",
            &port,
            "-F",
            "%r %q %t %p",
        ]);
        if !self.is_open() {
            command.args(["-u", USER, "-P", PASSWORD]);
        }
        if self.manner == Manner::Strict {
            command.arg("--cafile").arg(self.file("ca.pem"));
        }
        for topic in topics {
            command.args(["-t", topic]);
        }
        Listener(Program::start(command, &[], false))
    }
}

/// A message as a listener got it.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) retained: bool,
    pub(crate) qos: u8,
    pub(crate) topic: String,
    pub(crate) payload: String,
}

impl Message {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.payload).unwrap()
    }
}

pub(crate) struct Listener(Program);

impl Listener {
    /// Reads on until a message on a topic with this end fits.
    pub(crate) async fn until(&mut self, topic: &str, fits: impl Fn(&Message) -> bool) -> Message {
        let deadline = Instant::now() + DEADLINE;
        let mut seen = Vec::new();
        while Instant::now() < deadline {
            let line = self.0.line().await.unwrap();
            let mut parts = line.splitn(4, ' ');
            let mut part = || parts.next().unwrap_or_default().to_owned();
            let (retained, qos) = (part() == "1", part().parse().unwrap());
            let (topic_there, payload) = (part(), part());
            let message = Message {
                retained,
                qos,
                topic: topic_there,
                payload,
            };
            if message.topic.ends_with(topic) && fits(&message) {
                return message;
            }
            seen.push(message.topic);
        }
        panic!("nothing fits on {topic} among {seen:?}");
    }
}

pub(crate) const CAMERA: &str =
    "[[cameras]]\ntwin_id = \"cam\"\nname = \"Front door\"\nmax_fps = 0.0\n";

/// Waits until something holds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} does not hold");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_connected(node: &Node) -> bool {
    node.metrics()
        .encode()
        .contains("twinsight_sink_connected{sink=\"home\"} 1")
}

fn counted(node: &Node, name: &str, labels: &str) -> f64 {
    let text = node.metrics().encode();
    let prefix = format!("twinsight_{name}{{");
    text.lines()
        .filter(|line| line.starts_with(&prefix) && line.contains(labels))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

fn published(node: &Node) -> f64 {
    counted(node, "events_published_total", "sink=\"home\"")
}

/// Stops the node and checks that each of its ledgers balances.
async fn balances(node: Node) {
    let metrics = std::sync::Arc::clone(node.metrics());
    node.shutdown().await;
    for stream in metrics.all_streams() {
        assert!(stream.ledger().balances(), "{:?}", stream.ledger());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_states_go_to_their_topics_with_encryption_and_password() {
    let url = start_hub(DevHubOptions::default()).await;
    let broker = Broker::start(Manner::Strict).await;
    let mut listener = broker.listen(&["twinsight/#"]);
    let config = broker.sink("home_assistant = false") + CAMERA;
    let node = fake::node(&url, &config, Duration::from_millis(5)).await;
    let online = listener.until("twinsight/node-1/status", |_| true).await;
    assert_eq!((online.payload.as_str(), online.qos), ("online", 1));

    let camera = fake::camera(&url, "cam", "default", None, 15.0);
    let receiving = listener
        .until("cam/default/cameraStatus", |message| {
            message.json()["state"] == "receiving"
        })
        .await;
    assert_eq!(receiving.json()["camera"]["name"], "Front door");
    let first = listener.until("cam/default/detections", |_| true).await;
    assert_eq!((first.qos, first.retained), (0, false));
    let (first, second) = (
        first.json(),
        listener
            .until("cam/default/detections", |_| true)
            .await
            .json(),
    );
    assert_eq!(first["objects"][0]["label"], "person");
    assert!(second["sequence"].as_u64().unwrap() > first["sequence"].as_u64().unwrap());
    // Who comes later finds the states, and no detections of before.
    let mut late = broker.listen(&["twinsight/#"]);
    let kept = late
        .until("cam/default/cameraStatus", |message| message.retained)
        .await;
    assert_eq!(kept.json()["state"], "receiving");
    assert!(
        !late
            .until("cam/default/detections", |_| true)
            .await
            .retained
    );

    camera.abort();
    balances(node).await;
    let offline = listener
        .until("twinsight/node-1/status", |message| {
            message.payload == "offline"
        })
        .await;
    assert_eq!(offline.qos, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_broker_kept_of_before_is_put_right_before_the_node_is_online() {
    let url = start_hub(DevHubOptions::default()).await;
    let broker = Broker::start(Manner::Open).await;
    // An earlier run was killed while somebody was there.
    let port = broker.address.port().to_string();
    let topic = "twinsight/node-1/cam/default/occupancy/person";
    let kept = Command::new("mosquitto_pub")
        .args(["-V", "5", "-r", "-q", "1", "-h", "localhost", "-p", &port])
        .args(["-t", topic, "-m", "ON"])
        .status()
        .unwrap();
    assert!(kept.success());
    let mut listener = broker.listen(&["twinsight/#"]);
    listener
        .until("occupancy/person", |message| message.payload == "ON")
        .await;
    let config = broker.sink("") + CAMERA + "classes = [\"person\"]\n";
    let node = fake::node(&url, &config, Duration::from_millis(5)).await;
    listener
        .until("occupancy/person", |message| message.payload == "OFF")
        .await;
    // Whoever acts on `online` would take what comes before it for news.
    listener
        .until("node-1/status", |message| message.payload == "online")
        .await;
    node.shutdown().await;
}

/// Kills the broker so many times while events flow.
async fn killed(rounds: usize) {
    let url = start_hub(DevHubOptions::default()).await;
    let mut broker = Broker::start(Manner::Open).await;
    let node = fake::node(&url, &(broker.sink("") + CAMERA), Duration::from_millis(5)).await;
    let _camera = fake::camera(&url, "cam", "default", None, 15.0);
    for round in 0..rounds {
        until("the broker is reached", || is_connected(&node)).await;
        let before = published(&node);
        until("events come", || published(&node) > before + 45.0).await;
        let hub_before = counted(&node, "events_published_total", "sink=\"hub\"");
        broker.kill().await;
        until("its end is noticed", || !is_connected(&node)).await;
        until("the hub has its events", || {
            counted(&node, "events_published_total", "sink=\"hub\"") > hub_before + 3.0
        })
        .await;
        broker.restart().await;
        // The picture, which comes before it, is no line of text.
        let mut listener = broker.listen(&["twinsight/+/+/+/cameraStatus"]);
        listener
            .until("cam/default/cameraStatus", |message| {
                message.json()["state"] == "receiving"
            })
            .await;
        let reconnects = counted(&node, "sink_reconnects_total", "home");
        println!("round {round}: {reconnects} reconnects");
    }
    assert!(counted(&node, "sink_reconnects_total", "home") >= rounds as f64);
    balances(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_again_and_again_loses_no_event_from_the_ledger() {
    killed(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes minutes: make long runs it"]
async fn a_broker_that_is_killed_twenty_times_loses_no_event_from_the_ledger() {
    killed(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_is_noticed_while_events_flow_and_harms_nobody() {
    let url = start_hub(DevHubOptions::default()).await;
    let broker = Broker::start(Manner::Open).await;
    let node = fake::node(&url, &(broker.sink("") + CAMERA), Duration::from_millis(5)).await;
    let _camera = fake::camera(&url, "cam", "default", None, 15.0);
    until("events come", || published(&node) > 10.0).await;
    broker.signal("STOP");
    let frozen = Instant::now();
    until("it is noticed", || !is_connected(&node)).await;
    println!("a frozen broker was noticed after {:?}", frozen.elapsed());
    assert!(frozen.elapsed() < Duration::from_secs(30));
    let before = counted(&node, "events_published_total", "sink=\"hub\"");
    until("the hub has its events", || {
        counted(&node, "events_published_total", "sink=\"hub\"") > before + 10.0
    })
    .await;
    broker.signal("CONT");
    until("it is reached again", || is_connected(&node)).await;
    balances(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_broker_does_not_take_is_counted_as_refused() {
    let url = start_hub(DevHubOptions::default()).await;
    let broker = Broker::start(Manner::Closed).await;
    let node = fake::node(&url, &(broker.sink("") + CAMERA), Duration::from_millis(5)).await;
    let _camera = fake::camera(&url, "cam", "default", None, 15.0);
    until("events come", || published(&node) > 10.0).await;
    until("a state is refused", || {
        let labels = "result=\"refused\",sink=\"home\",type=\"cameraStatus\"";
        counted(&node, "sink_events_total", labels) > 0.0
    })
    .await;
    assert!(
        is_connected(&node),
        "one message that is refused ends nothing"
    );
    balances(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_larger_than_the_broker_takes_does_not_end_the_connection() {
    let url = start_hub(DevHubOptions::default()).await;
    let broker = Broker::start(Manner::Small).await;
    let config = broker.sink("home_assistant = false") + CAMERA;
    let node = fake::node(&url, &config, Duration::from_millis(5)).await;
    let _camera = fake::camera(&url, "cam", "default", None, 15.0);
    until("events are too large", || {
        let labels = "result=\"refused\",sink=\"home\",type=\"detections\"";
        counted(&node, "sink_events_total", labels) > 10.0
    })
    .await;
    assert!(is_connected(&node));
    assert!(counted(&node, "sink_reconnects_total", "home") < 1.0);
    balances(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_and_a_foreign_certificate_are_told_with_their_remedies() {
    let url = start_hub(DevHubOptions::default()).await;
    let broker = Broker::start(Manner::Strict).await;
    let mut listener = broker.listen(&["twinsight/#"]);
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url.as_str()),
        ("TWIN_ID", "node-2"),
    ];
    let mut node = NodeProcess::start(&(broker.sink("") + CAMERA), &env).await;
    listener
        .until("node-2/status", |message| message.payload == "online")
        .await;
    // Nobody says goodbye: the broker does, by the last will.
    node.program.signal("KILL");
    listener
        .until("node-2/status", |message| message.payload == "offline")
        .await;

    std::fs::write(broker.file("password"), "wrong-password-1").unwrap();
    node = NodeProcess::start(&(broker.sink("") + CAMERA), &env).await;
    let line = node
        .program
        .until("the MQTT broker refuses this node")
        .await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert!(
        line["reason"].as_str().unwrap().contains("`password_file`"),
        "{line}"
    );
    assert!(line["retry_in_ms"].as_u64().unwrap() >= 60_000, "{line}");
    assert!(!line.to_string().contains("wrong-password-1"));

    let foreign = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(broker.file("foreign.pem"), foreign.cert.pem()).unwrap();
    let sink = broker.sink("").replace("ca.pem", "foreign.pem");
    node = NodeProcess::start(&(sink + CAMERA), &env).await;
    let line = node.program.until("the MQTT broker is not reached").await;
    assert!(
        line.contains("foreign.pem") && line.contains("certificate"),
        "{line}"
    );
}
