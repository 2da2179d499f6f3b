//! `twinsight camera` outlives what it talks to: the hub and the node are killed and started again, one
//! by one and together, and a camera that answers and one that dials are both back by themselves.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::ports::unused_address;
use crate::common::{DEADLINE, NodeProcess, Program};

const CONFIG: &str = r#"
    [[cameras]]
    twin_id = "cam-answers"
    [[cameras]]
    twin_id = "cam-dials"
    connect = "accept"
"#;

fn twinsight(arguments: &[&str], url: &str) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinsight"));
    command.args(arguments);
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
    ];
    Program::start(command, &env, true)
}

async fn hub(address: &str) -> Program {
    let mut hub = twinsight(&["hub", "--listen", address], "http://127.0.0.1:1");
    hub.until("the development hub listens").await;
    hub
}

async fn node(url: &str) -> NodeProcess {
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url),
        ("TWIN_ID", "node-1"),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
    ];
    NodeProcess::start(CONFIG, &env).await
}

/// Waits until the node publishes more of both cameras.
async fn both_are_seen(node: &NodeProcess, when: &str) {
    let begun = Instant::now();
    for camera in ["cam-answers", "cam-dials"] {
        let label = format!("camera=\"{camera}\"");
        let published = || node.metric("events_published_total", &label);
        let before = published();
        let more = async {
            while published() < before + 3.0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(DEADLINE, more)
            .await
            .unwrap_or_else(|_| panic!("{camera} is not seen {when}"));
    }
    println!("{when}: both cameras after {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cameras_come_back_after_the_hub_the_node_and_both() {
    // The hub has to come back on it.
    let address = unused_address().to_string();
    let url = format!("http://{address}");
    let camera = [
        "camera",
        "--fps",
        "10",
        "--pattern",
        "--size",
        "320x240",
        "--twin",
    ];
    let answers = [&camera[..], &["cam-answers"]].concat();
    let dials = [&camera[..], &["cam-dials", "--dial", "node-1"]].concat();
    // The hub comes last: nobody minds.
    let mut cameras = [twinsight(&answers, &url), twinsight(&dials, &url)];
    let mut first_node = node(&url).await;
    let mut first_hub = hub(&address).await;
    both_are_seen(&first_node, "at the start").await;

    first_hub.signal("KILL");
    first_hub.ended().await;
    let mut second_hub = hub(&address).await;
    both_are_seen(&first_node, "after the hub was killed").await;

    first_node.program.signal("KILL");
    first_node.program.ended().await;
    let mut second_node = node(&url).await;
    both_are_seen(&second_node, "after the node was killed").await;

    second_node.program.signal("KILL");
    second_hub.signal("KILL");
    second_node.program.ended().await;
    second_hub.ended().await;
    let third_node = node(&url).await;
    let _third_hub = hub(&address).await;
    both_are_seen(&third_node, "after both were killed").await;

    for camera in &mut cameras {
        camera.signal("TERM");
        assert_eq!(camera.ended().await.code(), Some(0));
    }
}
