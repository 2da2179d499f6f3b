//! The official Python client and ours, through the development hub: events, actions, properties,
//! ICE servers, in simulator mode and in direct mode.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use twinsight::dev::hub::{DevHubOptions, DirectAccess};
use twinsight_client::hub::{ActionResult, ActionStatus, HubClient, HubOptions};

const DEADLINE: Duration = Duration::from_secs(60);

/// The Python that has the official client.
fn python() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let python = match std::env::var_os("TWINSIGHT_TEST_PYTHON") {
        Some(path) => PathBuf::from(path),
        None => root.join(".venv/bin/python"),
    };
    assert!(
        python.exists(),
        "there is no {}: run scripts/setup --test, which installs the official Python client",
        python.display()
    );
    python
}

/// A twin that runs the official client.
struct Python {
    child: Child,
    lines: mpsc::Receiver<Value>,
}

impl Python {
    fn start(env: &[(&str, &str)]) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop/hub_python.py");
        let mut child = Command::new(python())
            .arg(script)
            .env_remove("PHYHUB_DIRECT")
            .env_remove("PHYSTACK_SIMULATOR_URL")
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel(64);
        tokio::task::spawn_blocking(move || {
            for line in output.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap();
                if sender.blocking_send(value).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Its next line, which must say `what`.
    async fn said(&mut self, what: &str) -> Value {
        let line = tokio::time::timeout(DEADLINE, self.lines.recv()).await;
        let line = line.unwrap_or_else(|_| panic!("Python did not say {what}"));
        let line = line.unwrap_or_else(|| panic!("Python ended before it said {what}"));
        assert_eq!(line["what"], what, "{line}");
        line
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn start_hub(options: DevHubOptions) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(twinsight::dev::hub::run(
        listener,
        options,
        std::future::pending(),
    ));
    format!("http://{address}")
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(DEADLINE, future).await else {
        panic!("{what}: not within {DEADLINE:?}");
    };
    value
}

/// Everything that the two clients do with each other; Python is ready for it.
async fn converse(rust: &HubClient, python: &mut Python, python_twin: &str) {
    let own = rust.instance();
    let to_python = own.to(python_twin);
    rust.subscribe(python_twin).await.unwrap();

    to_python
        .emit("rust-event", json!({ "n": 7 }))
        .await
        .unwrap();
    let event = python.said("event").await;
    assert_eq!(
        (&event["data"], &event["action"]),
        (&json!({ "n": 7 }), &json!(false))
    );
    own.emit("rust-event", json!({ "n": 8 })).await.unwrap();

    let request = to_python.request("python-action", json!({ "value": 21 }));
    let result = soon("Python's answer", request).await.unwrap();
    assert_eq!(result.status, ActionStatus::Success);
    assert_eq!(
        (result.message.as_str(), result.data),
        ("doubled", Some(json!({ "value": 42 })))
    );
    assert_eq!(python.said("action").await["data"], json!({ "value": 21 }));

    let python_room = python_twin.to_owned();
    let mut broadcast = rust.messages(10, move |message| {
        message.twin_id == python_room
            && message.message_type() == Some("edgeInstance:python-event")
    });
    let mut events = own.events("python-event", 10);
    let mut actions = own.events("rust-action", 10);
    to_python.emit("go", json!({ "now": true })).await.unwrap();
    let message = soon("the broadcast", broadcast.recv()).await.unwrap();
    assert_eq!(message.data["data"], json!({ "n": 1 }));
    let event = soon("the event", events.recv()).await.unwrap();
    assert_eq!(
        (event.data.clone(), event.is_request()),
        (json!({ "n": 2 }), false)
    );
    assert_eq!(event.source_twin_id, python_twin);
    let action = soon("the action", actions.recv()).await.unwrap();
    assert_eq!(
        (action.data.clone(), action.is_request()),
        (json!({ "value": 20 }), true)
    );
    let result = ActionResult {
        status: ActionStatus::Warning,
        message: "almost".to_owned(),
        data: Some(json!({ "value": 19 })),
    };
    action.respond(result).await.unwrap();
    let answer = python.said("answer").await;
    assert_eq!(
        (&answer["status"], &answer["message"]),
        (&json!("warning"), &json!("almost"))
    );
    assert_eq!(answer["data"], json!({ "value": 19 }));

    let mut updates = rust.twin_updates();
    to_python
        .emit("report", json!({ "now": true }))
        .await
        .unwrap();
    assert_eq!(
        python.said("reported").await["reported"],
        json!({ "color": "green" })
    );
    let update = soon("the update", updates.recv()).await.unwrap();
    assert_eq!(update.twin_id, python_twin);
    assert_eq!(update.twin.properties.reported["color"], "green");
    assert_eq!(
        python.said("ice").await["servers"],
        json!([{ "urls": "stun:hub" }])
    );

    to_python.emit("end", json!({ "now": true })).await.unwrap();
    python.said("end").await;
}

fn options() -> DevHubOptions {
    DevHubOptions {
        ice_servers: vec![json!({ "urls": "stun:hub" })],
        ..DevHubOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_client_in_simulator_mode() {
    let url = start_hub(options()).await;
    let rust = HubClient::start(HubOptions::simulator(url.clone(), "rust"));
    soon("joining", rust.joined()).await.unwrap();
    let mut python = Python::start(&[
        ("PHYSTACK_SIMULATOR_URL", &url),
        ("TWIN_ID", "python"),
        ("PEER_TWIN_ID", "rust"),
    ]);
    let ready = python.said("ready").await;
    assert_eq!(ready["twin"], "python");
    // It begins with long-polling: this is the upgrade.
    assert_eq!(ready["transport"], "websocket");
    converse(&rust, &mut python, "python").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_client_in_direct_mode() {
    let keys = [("rust-device", "rust-key"), ("python-device", "python-key")];
    let keys = keys.map(|(id, key)| (id.to_owned(), key.to_owned().into()));
    let url = start_hub(DevHubOptions {
        direct: DirectAccess::Keys(keys.into()),
        ..options()
    })
    .await;
    let rust = HubClient::start(HubOptions::direct(
        url.clone(),
        "rust-device",
        "rust-key".to_owned(),
    ));
    soon("joining", rust.joined()).await.unwrap();
    let rust_twin = rust.instance().twin_id();
    let mut python = Python::start(&[
        ("PHYHUB_DIRECT", "1"),
        ("PHYHUB_URL", &url),
        ("DEVICE_ID", "python-device"),
        ("ACCESS_KEY", "python-key"),
        ("PEER_TWIN_ID", &rust_twin),
    ]);
    let ready = python.said("ready").await;
    assert_eq!(
        (&ready["twin"], &ready["type"]),
        (&json!("device-python-device"), &json!("Device"))
    );
    converse(&rust, &mut python, "device-python-device").await;
}
