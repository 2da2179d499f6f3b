//! Data channels with every client that exists, through the development hub: the official Python client,
//! the official npm client on Node.js, and a plain page in Chromium; and the official communication suite.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::Command;

use crate::common::{Browser, DEADLINE, Program, root};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use twinsight::dev::hub::DevHubOptions;
use twinsight_client::dialect::Dialect;
use twinsight_client::hub::{EventReceiver, HubClient, HubOptions};
use twinsight_client::realtime::{
    AcceptOptions, DataChannel, DataChannelAcceptor, DataChannelOptions, Message, SendError,
};

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(DEADLINE, future).await else {
        panic!("{what}: not within {DEADLINE:?}");
    };
    value
}

async fn client(url: &str, twin: &str) -> HubClient {
    let connecting = HubClient::connect(HubOptions::simulator(url, twin));
    soon("joining", connecting).await.unwrap()
}

fn options(name: &str) -> DataChannelOptions {
    DataChannelOptions::from(name).with_connect_limit(DEADLINE)
}

/// A program that plays a twin: see the arguments of `tests/interop/channel.py`.
enum Peer {
    /// It says its lines on standard output.
    Program(Program),
    /// A browser, whose page says its lines through the hub.
    Browser {
        lines: EventReceiver,
        _browser: Browser,
    },
}

impl Peer {
    fn python(url: &str, twin: &str, role: &str, peer: &str, names: &str) -> Self {
        let args = ["--role", role, "--peer", peer, "--names", names];
        let env = [("PHYSTACK_SIMULATOR_URL", url), ("TWIN_ID", twin)];
        Self::Program(Program::python("channel.py", &args, &env))
    }

    fn npm(url: &str, twin: &str, role: &str, peer: &str) -> Self {
        let args = ["--role", role, "--peer", peer];
        Self::Program(Program::npm("channel.mjs", &args, url, twin))
    }

    /// A page that reports to `reader`, which is the other side.
    fn browser(url: &str, twin: &str, role: &str, reader: &HubClient, names: &str) -> Self {
        // It reports from its start on.
        let lines = reader.instance().events("page", 256);
        let other = reader.instance().twin_id();
        let query = format!("twin={twin}&peer={other}&role={role}&names={names}");
        let browser = Browser::open("channel.html", url, &query);
        Self::Browser {
            lines,
            _browser: browser,
        }
    }

    async fn line(&mut self) -> Value {
        match self {
            Self::Program(program) => {
                let line = program.line().await.expect("the program runs on");
                serde_json::from_str(&line).unwrap()
            }
            Self::Browser { lines, .. } => {
                soon("a line of the page", lines.recv()).await.unwrap().data
            }
        }
    }

    /// Its next line that says `what`.
    async fn says(&mut self, what: &str) -> Value {
        loop {
            let line = self.line().await;
            assert_ne!(line["what"], "error", "{line}");
            if line["what"] == what {
                return line;
            }
        }
    }

    /// It gets back what an initiator sends, on each channel in order.
    async fn gets_its_echoes(&mut self, names: &[&str], expected: impl Fn(&str) -> Vec<Value>) {
        let mut missing: Vec<(String, Value)> = names
            .iter()
            .flat_map(|name| {
                expected(name)
                    .into_iter()
                    .map(|line| ((*name).to_owned(), line))
            })
            .collect();
        while !missing.is_empty() {
            let line = self.says("message").await;
            let next = missing.iter().position(|(name, _)| line["name"] == **name);
            let (_, expected) = missing.remove(next.expect("a message of a known channel"));
            assert_eq!(
                (&line["kind"], &line["value"]),
                (&expected["kind"], &expected["value"])
            );
        }
    }
}

/// Sends back what comes, objects as `{"echo": …}`.
async fn echo(channel: DataChannel) {
    let mut messages = channel.messages();
    while let Some(message) = messages.recv().await {
        let answer = match message {
            Message::Json(value @ Value::Object(_)) => json!({ "echo": value }).into(),
            other => other,
        };
        while let Err(SendError::Full { .. }) = channel.send(answer.clone()).await {
            if channel.writable().await.is_err() {
                return;
            }
        }
    }
}

fn accept(client: &HubClient, name: &str) -> DataChannelAcceptor {
    let options = AcceptOptions::from(options(name));
    client
        .instance()
        .accept_data_channels(options, echo)
        .unwrap()
}

/// What an initiator sees come back from us.
fn echoes_of(name: &str) -> Vec<Value> {
    vec![
        json!({"kind": "text", "value": format!("hello from {name}")}),
        json!({"kind": "json", "value": {"echo": {"n": 1, "name": name}}}),
        json!({"kind": "binary", "value": "000102ff"}),
    ]
}

/// Dials a peer and sees text, JSON and bytes come back.
async fn converse(channel: &DataChannel) {
    let mut messages = channel.messages();
    let object = json!({"n": 1.25, "text": "ä \u{1f600}"});
    let sent: [(Message, Message); 4] = [
        ("hello".into(), "hello".into()),
        (object.clone().into(), json!({ "echo": object }).into()),
        (vec![0, 1, 2, 255].into(), vec![0, 1, 2, 255].into()),
        (vec![7; 100_000].into(), vec![7; 100_000].into()),
    ];
    for (message, expected) in sent {
        channel.send(message).await.unwrap();
        let came = soon("the echo", messages.recv()).await;
        assert!(came == Some(expected), "another message came back");
    }
}

async fn dial(client: &HubClient, peer: &str, name: &str) -> DataChannel {
    let dialling = client
        .instance()
        .get_data_channel(peer, options(name))
        .await;
    dialling.unwrap()
}

/// Two names at once: we dial.
async fn converse_on(client: &HubClient, peer: &str, names: [&str; 2]) {
    let (a, b) = tokio::join!(dial(client, peer, names[0]), dial(client, peer, names[1]));
    tokio::join!(converse(&a), converse(&b));
    tokio::join!(a.close(), b.close());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_dials_us_on_two_names() {
    let url = crate::common::start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let (_a, _b) = (accept(&rust, "a"), accept(&rust, "b"));
    let mut python = Peer::python(&url, "python", "initiator", "rust", "a,b");
    python.gets_its_echoes(&["a", "b"], echoes_of).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_dials_the_one_who_awaits_it() {
    let url = crate::common::start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let instance = rust.instance();
    let _listener = instance
        .on_data_channel("python", options("a"), echo)
        .unwrap();
    let mut python = Peer::python(&url, "python", "initiator", "rust", "a");
    python.gets_its_echoes(&["a"], echoes_of).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_dial_pythons_plain_responder_on_two_names() {
    let url = crate::common::start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let mut python = Peer::python(&url, "python", "responder", "rust", "a,b");
    python.says("armed").await;
    converse_on(&rust, "python", ["a", "b"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_dial_pythons_fan_out_with_three_clients_at_once() {
    let url = crate::common::start_hub(DevHubOptions::default()).await;
    let clients = [
        client(&url, "rust-1").await,
        client(&url, "rust-2").await,
        client(&url, "rust-3").await,
    ];
    let mut python = Peer::python(&url, "python", "fanout", "", "a");
    python.says("armed").await;
    let channels =
        futures_util::future::join_all(clients.iter().map(|rust| dial(rust, "python", "a")));
    let channels = channels.await;
    futures_util::future::join_all(channels.iter().map(converse)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_pythons_dial_our_fan_out() {
    let url = crate::common::start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let acceptor = accept(&rust, "a");
    let mut peers: Vec<Peer> = (1..=3)
        .map(|n| Peer::python(&url, &format!("python-{n}"), "initiator", "rust", "a"))
        .collect();
    for python in &mut peers {
        python.gets_its_echoes(&["a"], echoes_of).await;
    }
    assert_eq!(acceptor.peers(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_dials_us_on_two_names() {
    let url = crate::common::start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let (_a, _b) = (accept(&rust, "a"), accept(&rust, "b"));
    let mut page = Peer::browser(&url, "page", "initiator", &rust, "a,b");
    page.gets_its_echoes(&["a", "b"], echoes_of).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_dial_a_browser_on_two_names() {
    let url = crate::common::start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let mut page = Peer::browser(&url, "page", "responder", &rust, "a,b");
    page.says("armed").await;
    converse_on(&rust, "page", ["a", "b"]).await;
}

fn legacy() -> DataChannelOptions {
    options("default").with_dialect(Dialect::Legacy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_npm_client_dials_us() {
    let url = crate::common::start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let instance = rust.instance();
    let _listener = instance.on_data_channel("npm", legacy(), echo).unwrap();
    let mut npm = Peer::npm(&url, "npm", "initiator", "rust");
    let echoes = |name: &str| {
        let mut echoes = echoes_of(name);
        // The client sends bytes as the JSON of what holds them.
        let bytes = json!({"0": 0, "1": 1, "2": 2, "3": 255});
        echoes[2] = json!({"kind": "json", "value": {"echo": bytes}});
        echoes
    };
    npm.gets_its_echoes(&["default"], echoes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_dial_the_npm_client() {
    let url = crate::common::start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let mut npm = Peer::npm(&url, "npm", "responder", "rust");
    npm.says("armed").await;
    let dialling = rust.instance().get_data_channel("npm", legacy()).await;
    let channel = dialling.unwrap();
    let mut messages = channel.messages();
    channel.send("hello").await.unwrap();
    assert_eq!(soon("echo", messages.recv()).await, Some("hello".into()));
    channel.send(json!({"n": 1})).await.unwrap();
    let echo = json!({"echo": {"n": 1}});
    assert_eq!(soon("echo", messages.recv()).await, Some(echo.into()));
}

/// The suite's own file, out of the source distribution of the official client.
fn suite() -> PathBuf {
    let file = root().join(".tools/suite/test_communication.py");
    assert!(
        file.exists(),
        "there is no {}: run scripts/setup --test, which takes it out of the source distribution",
        file.display()
    );
    file
}

/// The suite in one role, and our example in the other.
async fn run_the_suite(suite_role: &str, our_role: &str) {
    let url = crate::common::start_hub(DevHubOptions::default()).await;
    let mut ours = Command::new(crate::common::example("communication"));
    ours.args(["--role", our_role, "--peer", "suite"]);
    let env = [("PHYSTACK_SIMULATOR_URL", &*url), ("TWIN_ID", "rust")];
    let mut ours = Program::start(ours, &env, false);
    ours.until("ready").await;
    let mut suite_command = Command::new(crate::common::python());
    suite_command.arg("-u").arg(suite());
    let env = [
        ("PHYSTACK_SIMULATOR_URL", &*url),
        ("TWIN_ID", "suite"),
        ("PEER_TWIN_ID", "rust"),
        ("ROLE", suite_role),
    ];
    let mut suite = Program::start(suite_command, &env, false);
    let (lines, mut summary) = mpsc::unbounded_channel();
    let reading = async {
        while let Some(line) = suite.line().await {
            lines.send(line).unwrap();
        }
        suite.ended().await
    };
    let of_suite = reading.await;
    let mut said = String::new();
    while let Ok(line) = summary.try_recv() {
        said = said + &line + "\n";
    }
    assert!(said.contains("Total: 5 passed, 0 failed"), "{said}");
    assert!(of_suite.success(), "{said}");
    let passed = ["events", "actions", "default", "named", "media"];
    for part in passed {
        let line = ours.line().await.unwrap();
        assert!(line.starts_with("passed ") && line.contains(part), "{line}");
    }
    assert!(ours.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_suite_passes_as_initiator() {
    run_the_suite("initiator", "responder").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_suite_passes_as_responder() {
    run_the_suite("responder", "initiator").await;
}
