//! `twinsight watch`: the events of one node or several as lines and as JSON, what is said of a hub that goes and of a twin that is none,
//! and its ends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::common::{Program, python, root, start_hub, twinsight};
use twinsight::dev::hub::{self, DevHubOptions};
use twinsight_client::hub::{HubClient, HubOptions, HubStatus};

/// 2026-11-29 12:03:04 UTC.
const AT: u64 = 1_795_953_784_000;

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinsight"));
    command
        .arg("watch")
        .args(args)
        .env("TZ", "UTC")
        .stdin(Stdio::null());
    command
}

fn watch(url: &str, args: &[&str], log: bool) -> Program {
    Program::start(command(args), &[("PHYSTACK_SIMULATOR_URL", url)], log)
}

/// The twin of a node, which sends what the test says.
struct FakeNode(HubClient);

impl FakeNode {
    async fn start(url: &str, twin: &str) -> Self {
        let client = HubClient::start(HubOptions::simulator(url, twin));
        client.joined().await.unwrap();
        Self(client)
    }

    async fn sends(&self, kind: &str, event: Value) {
        self.0.instance().emit(kind, event).await.unwrap();
    }

    async fn detects(&self, run: &str, sequence: u64, objects: Value) {
        let event = json!({
            "schemaVersion": 1, "runId": run, "sequence": sequence, "timestamp": AT,
            "camera": {"twinId": "camera-1", "name": "front-door", "stream": "default"},
            "objects": objects, "latencyMs": {"total": 46.4}
        });
        self.sends("detections", event).await;
    }
}

/// A hub that can be stopped and started again at the same address.
struct RestartableHub {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl RestartableHub {
    async fn start(address: &str) -> (Self, String) {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            hub::run(listener, DevHubOptions::default(), stopped)
                .await
                .unwrap();
        });
        (Self { stop, task }, address)
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_lines_and_what_is_missing_is_said() {
    let (hub, address) = RestartableHub::start("127.0.0.1:0").await;
    let url = format!("http://{address}");
    let node = FakeNode::start(&url, "node-1").await;
    let mut watch = watch(&url, &["node-1"], false);
    let first = watch.line().await.unwrap();
    assert!(first.contains("node-1 is watched, by watch-"), "{first}");

    let two = json!([{"label": "person", "score": 0.81}, {"label": "person", "score": 0.76}]);
    node.detects("8f1c", 1, two).await;
    node.detects("8f1c", 5, json!([])).await;
    // Others speak in the node's room, too.
    let other = HubClient::start(HubOptions::simulator(&url, "other"));
    other.joined().await.unwrap();
    let to_node = other.instance().to("node-1");
    to_node
        .emit("detections", json!({"objects": []}))
        .await
        .unwrap();
    let crossed = json!({"camera": {"name": "front-door"}, "timestamp": AT, "line": "gate", "direction": "in",
                         "counts": {"in": 3, "out": 1}, "track": {"id": "7", "label": "person"}});
    node.sends("lineCrossed", crossed).await;
    node.detects("77aa", 1, json!([{"label": "\u{1b}[2Jcar", "score": 0.5}]))
        .await;
    for expected in [
        "12:03:04 front-door  2 person 0.81 0.76 · 46 ms",
        "12:03:04 front-door  3 events missed",
        "12:03:04 front-door  nothing · 46 ms",
        "12:03:04 front-door  person 7 crossed gate, in (3 in, 1 out)",
        "12:03:04 the node began anew: its run is 77aa",
        r"12:03:04 front-door  1 \u{1b}[2Jcar 0.50 · 46 ms",
    ] {
        assert_eq!(watch.line().await.unwrap(), expected);
    }
    let status = json!({"camera": {"twinId": "camera-1", "name": "front-door"}, "state": "unreachable",
                        "since": AT, "reason": "no answer to the offer", "attempt": 3});
    node.sends("cameraStatus", status).await;
    let line = watch.line().await.unwrap();
    let (_, line) = line.split_once(' ').unwrap();
    assert!(
        line.starts_with("front-door  unreachable: no answer to the offer (attempt 3"),
        "{line}"
    );

    hub.stop().await;
    let away = watch.until("the hub is away").await;
    assert!(
        away.ends_with("events are missed until it is back"),
        "{away}"
    );
    // What the node sent before it noticed that the hub is away would be lost, and its old status would be taken for the new one.
    let mut status = node.0.status();
    status
        .wait_for(|status| !matches!(status, HubStatus::Joined { .. }))
        .await
        .unwrap();
    let (_hub, _) = RestartableHub::start(&address).await;
    watch.until("the hub is back after").await;
    status
        .wait_for(|status| matches!(status, HubStatus::Joined { .. }))
        .await
        .unwrap();
    node.detects("77aa", 4, json!([])).await;
    let missed = watch.line().await.unwrap();
    assert_eq!(missed, "12:03:04 front-door  2 events missed");

    watch.signal("INT");
    assert_eq!(watch.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_nodes_each_line_names_its_node_also_when_a_camera_moves() {
    let url = start_hub(DevHubOptions::default()).await;
    let one = FakeNode::start(&url, "node-1").await;
    let other = FakeNode::start(&url, "node-2b").await;
    let mut watch = watch(&url, &["node-1", "node-2b"], false);
    let first = watch.line().await.unwrap();
    assert!(
        first.contains("node-1 and node-2b are watched, by watch-"),
        "{first}"
    );

    // What two clients send may come in any order, so each line is awaited before somebody else speaks.
    one.detects("8f1c", 41, json!([])).await;
    assert_eq!(
        watch.line().await.unwrap(),
        "12:03:04 node-1   front-door  nothing · 46 ms"
    );
    let camera = json!({"twinId": "camera-1", "name": "front-door"});
    let moved = json!({"camera": camera, "state": "removed",
                       "reason": "the camera has moved to node node-2b of the pool"});
    one.sends("cameraStatus", moved).await;
    let line = watch.line().await.unwrap();
    let (_, line) = line.split_once(' ').unwrap();
    assert_eq!(
        line,
        "node-1   front-door  removed: the camera has moved to node node-2b of the pool"
    );
    let receiving = json!({"camera": camera, "state": "receiving"});
    other.sends("cameraStatus", receiving).await;
    // The other node has a run and numbers of its own. A gap in them is one, and what it says in the first one's room is not of that one.
    other.detects("77aa", 1, json!([])).await;
    let to_one = other.0.instance().to("node-1");
    to_one
        .emit("detections", json!({"objects": []}))
        .await
        .unwrap();
    other.detects("77aa", 4, json!([])).await;
    let line = watch.line().await.unwrap();
    let (_, line) = line.split_once(' ').unwrap();
    assert_eq!(line, "node-2b  front-door  receiving");
    for expected in [
        "12:03:04 node-2b  front-door  nothing · 46 ms",
        "12:03:04 node-2b  front-door  2 events missed",
        "12:03:04 node-2b  front-door  nothing · 46 ms",
    ] {
        assert_eq!(watch.line().await.unwrap(), expected);
    }
    // The camera comes back, and then the first node is started again.
    one.detects("8f1c", 42, json!([])).await;
    one.detects("20be", 1, json!([])).await;
    for expected in [
        "12:03:04 node-1   front-door  nothing · 46 ms",
        "12:03:04 node-1   began anew: its run is 20be",
        "12:03:04 node-1   front-door  nothing · 46 ms",
    ] {
        assert_eq!(watch.line().await.unwrap(), expected);
    }
    watch.signal("INT");
    assert_eq!(watch.ended().await.code(), Some(0));
}

#[test]
fn each_node_is_named_once_and_there_are_not_too_many() {
    twinsight(&["watch", "node-1", "node-2", "node-1"], &[])
        .failed(1, "`node-1` is named twice: name each node once");
    let nodes: Vec<String> = (0..65).map(|n| format!("node-{n}")).collect();
    let arguments: Vec<&str> = std::iter::once("watch")
        .chain(nodes.iter().map(String::as_str))
        .collect();
    let outcome = twinsight(&arguments, &[]);
    assert_eq!(outcome.code, Some(2), "{}", outcome.log);
    assert!(
        outcome
            .log
            .contains("unexpected value 'node-64' for '<TWIN>...'"),
        "{}",
        outcome.log
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_json_an_event_is_a_line_as_it_came() {
    let url = start_hub(DevHubOptions::default()).await;
    let node = FakeNode::start(&url, "node-1").await;
    let mut command = command(&["node-1", "--json"]);
    // The node's own id, as in the shell where the node was started: it is not taken.
    command.env("TWIN_ID", "node-1").stderr(Stdio::null());
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url.as_str()),
        ("TWIN_ID", "node-1"),
    ];
    let mut watch = Program::start(command, &env, false);
    let event = json!({"runId": "8f1c", "sequence": 1, "text": "\u{9b}31m\u{7f}\n", "deep": {"x": [1.5, null]}});
    // It says nothing before the first event, so that is sent until it has come.
    let sending = async {
        loop {
            node.sends("detections", event.clone()).await;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let line = tokio::select! {
        line = watch.line() => line.unwrap(),
        () = sending => unreachable!("it goes on for ever"),
    };
    assert!(!line.contains(char::is_control), "{line:?}");
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), event);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_twin_that_there_is_not_is_said() {
    let url = start_hub(DevHubOptions {
        strict: true,
        ..DevHubOptions::default()
    })
    .await;
    let outcome = tokio::task::spawn_blocking(move || {
        twinsight(&["watch", "nobody"], &[("PHYSTACK_SIMULATOR_URL", &url)])
    });
    outcome.await.unwrap().failed(
        1,
        "the hub knows no twin `nobody` (Twin not found): name the node's twin, which its log calls `twin_id`; a device id is none",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_twin_that_sends_nothing_is_explained() {
    let url = start_hub(DevHubOptions::default()).await;
    let node = FakeNode::start(&url, "node-1").await;
    let cameras =
        json!({"version": "0.1.0", "cameras": [{"twinId": "camera-1", "state": "unreachable"}]});
    let Value::Object(reported) = json!({ "twinsight": cameras }) else {
        unreachable!("it is an object");
    };
    node.0.instance().update_reported(reported).await.unwrap();
    let mut blind = watch(&url, &["node-1"], true);
    let mut none = watch(&url, &["camera-1"], true);
    let other = FakeNode::start(&url, "node-2").await;
    let mut one_of_two = watch(&url, &["node-2", "camera-1"], true);
    // That one node sends all the time does not speak for the other one.
    let sending = async {
        loop {
            other.detects("8f1c", 1, json!([])).await;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    let line = tokio::select! {
        line = one_of_two.until("nothing came from") => line,
        () = sending => unreachable!("it goes on for ever"),
    };
    assert!(
        line.contains("`camera-1` for 10 s, and it is no node's twin"),
        "{line}"
    );
    let line = none.until("nothing came from").await;
    assert!(
        line.contains("`camera-1` for 10 s, and it is no node's twin"),
        "{line}"
    );
    let line = blind.until("nothing came from").await;
    assert!(
        line.contains("none of its cameras sends video (camera-1 is unreachable)"),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_that_closes_ends_it_quietly() {
    let url = start_hub(DevHubOptions::default()).await;
    let node = FakeNode::start(&url, "node-1").await;
    let mut child = command(&["node-1"])
        .env("PHYSTACK_SIMULATOR_URL", &url)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    tokio::pin!(ended);
    let output = loop {
        node.detects("8f1c", 1, json!([])).await;
        tokio::select! {
            output = &mut ended => break output.unwrap(),
            () = tokio::time::sleep(std::time::Duration::from_millis(50)) => {}
        }
    };
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn colours_are_for_terminals() {
    let url = start_hub(DevHubOptions::default()).await;
    for (variable, coloured) in [("TERM", true), ("NO_COLOR", false)] {
        let mut command = Command::new(python());
        command
            .arg(root().join("tests/common/terminal.py"))
            .args([
                "80",
                "24",
                env!("CARGO_BIN_EXE_twinsight"),
                "watch",
                "node-1",
            ])
            .env(variable, "xterm");
        let mut watch = Program::start(command, &[("PHYSTACK_SIMULATOR_URL", &url)], false);
        let line = watch.until("node-1 is watched").await;
        assert_eq!(line.contains("\u{1b}[2m"), coloured, "{line:?}");
        watch.signal("INT");
        assert_eq!(watch.ended().await.code(), Some(0));
    }
}
