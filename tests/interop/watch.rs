//! The examples that consume a node's events with the official clients, run as their readers would run them, against a node with a
//! camera. Only the address of the npm client's hub is set for it, since that client has no way to set it.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::{Program, fake, python, root, start_hub};
use twinsight::dev::hub::DevHubOptions;

const CONFIG: &str = "[[cameras]]\ntwin_id = \"cam-1\"\nname = \"Front door\"\n";

/// Starts a hub with a node and its camera; gives the hub's URL.
async fn watched() -> (String, twinsight::node::Node, tokio::task::AbortHandle) {
    let url = start_hub(DevHubOptions::default()).await;
    let camera = fake::camera(&url, "cam-1", "default", None, 10.0);
    let node = fake::node(&url, CONFIG, Duration::from_millis(5)).await;
    (url, node, camera)
}

/// It prints detections, and then that the camera is gone.
async fn consumes(mut example: Program, detection: &str, camera: &tokio::task::AbortHandle) {
    for _ in 0..3 {
        example.until(detection).await;
    }
    camera.abort();
    let line = example.until("Front door is unreachable").await;
    assert_eq!(line, "Front door is unreachable no answer to the offer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_example_prints_detections_and_states() {
    let (url, node, camera) = watched().await;
    let mut command = Command::new(python());
    command
        .arg(root().join("examples/watch.py"))
        .arg(fake::NODE);
    let env = [("PHYSTACK_SIMULATOR_URL", url.as_str()), ("TWIN_ID", "app")];
    let example = Program::start(command, &env, false);
    consumes(example, "Front door [('person', 0.9)]", &camera).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_javascript_example_prints_detections_and_states() {
    let (url, node, camera) = watched().await;
    let modules = root().join(".npm/node_modules");
    assert!(
        modules.join("@phygrid/hub-client").exists(),
        "there is no {}: run scripts/setup --test, which installs the official npm client",
        modules.display()
    );
    // A program finds packages in the folders above its own.
    let project = tempfile::tempdir().unwrap();
    let program = project.path().join("watch.mjs");
    std::fs::copy(root().join("examples/watch.mjs"), &program).unwrap();
    std::os::unix::fs::symlink(&modules, project.path().join("node_modules")).unwrap();
    let mut command = Command::new("node");
    command
        .arg("--import")
        .arg(root().join("tests/interop/npm_hub.mjs"))
        .arg(program)
        .arg(fake::NODE)
        .stderr(Stdio::null());
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url.as_str()),
        ("TWIN_ID", "app"),
        ("TWINSIGHT_NODE_MODULES", modules.to_str().unwrap()),
    ];
    let example = Program::start(command, &env, false);
    consumes(example, "Front door person 0.9", &camera).await;
    node.shutdown().await;
}
