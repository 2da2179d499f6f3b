//! What scenarios share: a development hub, programs with their lines of output, the node as its
//! users start it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "each program of tests uses a part of it"
)]

pub mod ip_camera;
pub mod ports;
pub mod streams;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use twinsight::dev::hub::DevHubOptions;

/// No wait of a test is longer.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The clone that is tested.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Python that has the official client.
pub fn python() -> PathBuf {
    let path = std::env::var_os("TWINSIGHT_TEST_PYTHON")
        .map_or_else(|| root().join(".venv/bin/python"), PathBuf::from);
    assert!(
        path.exists(),
        "there is no {}: run scripts/setup --test, which installs the official Python client",
        path.display()
    );
    path
}

/// An example of the crate, which `cargo test` builds beside the tests.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap();
    let path = path.join("examples").join(name);
    assert!(
        path.exists(),
        "there is no {}: run cargo build --examples",
        path.display()
    );
    path
}

/// A hub for the test's life; returns its URL.
pub async fn start_hub(options: DevHubOptions) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(twinsight::dev::hub::run(
        listener,
        options,
        std::future::pending(),
    ));
    url
}

/// A child process whose lines are read as they come; killed with its handle.
pub struct Program {
    name: String,
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Program {
    /// Starts it without the environment's own choice of a hub. Reads standard output, or standard
    /// error where `log` is asked for.
    pub fn start(mut command: Command, env: &[(&str, &str)], log: bool) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        for variable in [
            "PHYHUB_DIRECT",
            "PHYHUB_URL",
            "PHYSTACK_SIMULATOR_URL",
            "TWIN_ID",
            "RUST_LOG",
            "TWINSIGHT_TEST_PYTHON",
            "TWINSIGHT_TEST_HOME_ASSISTANT",
            "TWINSIGHT_TEST_TRITON",
            "TWINSIGHT_TEST_MLSERVER",
        ] {
            command.env_remove(variable);
        }
        command.envs(env.iter().copied());
        if log {
            command.stderr(Stdio::piped())
        } else {
            command.stdout(Stdio::piped())
        };
        let mut child = command.spawn().unwrap();
        let output: Box<dyn Read + Send> = if log {
            Box::new(child.stderr.take().unwrap())
        } else {
            Box::new(child.stdout.take().unwrap())
        };
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::Builder::new()
            .name("lines".to_owned())
            .spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            })
            .unwrap();
        Self { name, child, lines }
    }

    /// A Python script of `tests/interop`.
    pub fn python(script: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(python());
        command
            .arg(root().join("tests/interop").join(script))
            .args(args)
            .current_dir(root());
        Self::start(command, env, false)
    }

    /// A program of `tests/interop` with the official npm client.
    pub fn npm(script: &str, args: &[&str], url: &str, twin: &str) -> Self {
        let modules = root().join(".npm/node_modules");
        assert!(
            modules.join("@phygrid/hub-client").exists(),
            "there is no {}: run scripts/setup --test, which installs the official npm client",
            modules.display()
        );
        let mut command = Command::new("node");
        command
            .arg(root().join("tests/interop").join(script))
            .args(args)
            // It tells its whole progress there.
            .stderr(Stdio::null())
            .current_dir(root());
        let env = [
            ("PHYSTACK_SIMULATOR_URL", url),
            ("TWIN_ID", twin),
            ("TWINSIGHT_NODE_MODULES", modules.to_str().unwrap()),
        ];
        Self::start(command, &env, false)
    }

    /// The next line; `None` at the end of the output.
    pub async fn line(&mut self) -> Option<String> {
        match tokio::time::timeout(DEADLINE, self.lines.recv()).await {
            Ok(line) => line,
            Err(_) => panic!("{} said nothing for {DEADLINE:?}", self.name),
        }
    }

    /// Reads on until a line has `text` in it.
    pub async fn until(&mut self, text: &str) -> String {
        let mut before = String::new();
        loop {
            match self.line().await {
                Some(line) if line.contains(text) => return line,
                Some(line) => before = before + &line + "\n",
                None => panic!("{} ended before it said `{text}`:\n{before}", self.name),
            }
        }
    }

    /// The lines that were said and not yet read.
    pub fn said(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.lines.try_recv().ok()).collect()
    }

    /// What it has said and nobody has read so far.
    pub fn unread(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.lines.try_recv().ok()).collect()
    }

    /// Its standard input, which its command has to pipe.
    pub fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal of `kill`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "{} does not end", self.name);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came of a command.
pub struct Outcome {
    /// Its exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub log: String,
}

impl Outcome {
    /// It failed with this code, and said this at last.
    #[track_caller]
    pub fn failed(&self, code: i32, sentence: &str) {
        let last = self.log.lines().last().unwrap_or_default();
        assert_eq!(last, format!("twinsight: {sentence}"), "{}", self.log);
        assert_eq!(self.code, Some(code), "{}", self.log);
    }
}

/// Runs the program to its end with no variables but these.
pub fn twinsight(args: &[&str], env: &[(&str, &str)]) -> Outcome {
    let mut child = Command::new(env!("CARGO_BIN_EXE_twinsight"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = read(child.stdout.take().unwrap());
    let log = read(child.stderr.take().unwrap());
    let texts = log
        .recv_timeout(DEADLINE)
        .and_then(|log| Ok((out.recv_timeout(DEADLINE)?, log)));
    if texts.is_err() {
        let _ = child.kill();
    }
    let code = child.wait().unwrap().code();
    let Ok((out, log)) = texts else {
        panic!("{args:?} does not end");
    };
    Outcome { code, out, log }
}

/// All of an output, once it has ended.
fn read(mut output: impl Read + Send + 'static) -> std::sync::mpsc::Receiver<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let reading = move || {
        let mut text = String::new();
        let _ = output.read_to_string(&mut text);
        let _ = sender.send(text);
    };
    std::thread::Builder::new()
        .name("output".to_owned())
        .spawn(reading)
        .unwrap();
    receiver
}

/// `twinsight run` as a process of its own.
pub struct NodeProcess {
    /// Its log.
    pub program: Program,
    /// Where its metrics are.
    pub http: SocketAddr,
    /// Its configuration.
    pub config: PathBuf,
    _folder: tempfile::TempDir,
}

impl NodeProcess {
    /// Starts the node with a configuration; it listens on a port of its own.
    pub async fn start(config: &str, env: &[(&str, &str)]) -> Self {
        Self::start_command("run", config, env).await
    }

    /// Starts `twinsight bridge` in place of a node.
    pub async fn start_bridge(config: &str, env: &[(&str, &str)]) -> Self {
        Self::start_command("bridge", config, env).await
    }

    async fn start_command(name: &str, config: &str, env: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        std::fs::write(&file, format!("[http]\nlisten = \"127.0.0.1:0\"\n{config}")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_twinsight"));
        command
            .args(["--log-format", "json", name, "--config"])
            .arg(&file)
            .current_dir(root());
        let mut program = Program::start(command, env, true);
        let line = program.until("metrics and probes are served").await;
        let address = serde_json::from_str::<serde_json::Value>(&line).unwrap()["address"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        Self {
            program,
            http: address,
            config: file,
            _folder: folder,
        }
    }

    /// The sum of a metric's values over all its labels that contain `labels`.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        sum_of(&http_get(self.http, "/metrics"), name, labels)
    }

    /// A metric without labels, by its whole name.
    pub fn plain_metric(&self, name: &str) -> f64 {
        let text = http_get(self.http, "/metrics");
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
            .unwrap_or_else(|| panic!("no metric {name} in:\n{text}"))
    }
}

/// The sum of the series of a metric that have these labels, in the text that a node gives to Prometheus.
pub fn sum_of(metrics: &str, name: &str, labels: &str) -> f64 {
    let prefix = format!("twinsight_{name}{{");
    metrics
        .lines()
        .filter(|line| line.starts_with(&prefix) && line.contains(labels))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

/// The answer's body.
pub fn http_get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
        .split_once("\r\n\r\n")
        .map_or_else(String::new, |(_, body)| body.to_owned())
}

/// A node in this process whose detector is a fake: everything before and after it is real.
pub mod fake {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tokio::task::AbortHandle;
    use twinsight::config::Config;
    use twinsight::detect::{BBox, Detector, FakeDetector, Object};
    use twinsight::dev::camera::{self, CameraOptions};
    use twinsight::node::models::Models;
    use twinsight::node::{Node, NodeParts};
    use twinsight_client::hub::{HubClient, HubOptions, MessageReceiver};
    use twinsight_client::realtime::ice::IceSettings;
    use twinsight_media::decode::decoder::DecoderKind;
    use twinsight_media::h264::clip::Clip;

    /// The node's twin.
    pub const NODE: &str = "node-1";

    /// Starts a node with the cameras of a configuration; its detector takes `inference` and sees one person.
    pub async fn node(url: &str, config: &str, inference: Duration) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        node_at(url, NODE, config, inference, listener).await
    }

    /// The same for a node with another twin, which serves HTTP by this listener.
    pub async fn node_at(
        url: &str,
        twin: &str,
        config: &str,
        inference: Duration,
        listener: TcpListener,
    ) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        std::fs::write(&file, config).unwrap();
        let env = BTreeMap::from([
            ("PHYSTACK_SIMULATOR_URL".to_owned(), url.to_owned()),
            ("TWIN_ID".to_owned(), twin.to_owned()),
            ("TWINSIGHT_ICE__INTERFACES".to_owned(), "lo".to_owned()),
        ]);
        let config = Config::load(Some(&file), &env.into_iter().collect()).unwrap();
        let models = vec![config.cameras[0].model.clone()];
        let person = Object {
            class_id: 0,
            score: 0.9,
            bbox: BBox {
                x: 1.0,
                y: 2.0,
                width: 3.0,
                height: 4.0,
            },
            keypoints: Vec::new(),
            outline: Vec::new(),
        };
        Node::start(NodeParts {
            inference: twinsight::http::api::InferenceFacts::default(),
            config,
            models: Box::new(move |_| {
                let detector = FakeDetector::new(inference, vec![person]);
                Models::new(
                    models,
                    Arc::new(move |_| Ok(Box::new(detector.clone()) as Box<dyn Detector>)),
                )
            }),
            workers: 1,
            decoder: DecoderKind::Software,
            listener,
        })
        .await
        .unwrap()
    }

    /// The shipped clip.
    pub fn clip() -> Arc<Clip> {
        Arc::new(Clip::read(&super::root().join("media/pedestrians.h264")).unwrap())
    }

    /// A camera twin of our own; aborting it is a camera that loses its power.
    pub fn camera(
        url: &str,
        twin: &str,
        stream: &str,
        dial: Option<&str>,
        fps: f64,
    ) -> AbortHandle {
        let options = CameraOptions {
            stream: stream.to_owned(),
            dial: dial.map(str::to_owned),
            fps,
            start: 0,
            ice: IceSettings {
                interfaces: vec!["lo".to_owned()],
                ..IceSettings::default()
            },
        };
        let hub = HubClient::start(HubOptions::simulator(url, twin));
        tokio::spawn(camera::run(hub, clip(), options)).abort_handle()
    }

    /// An app's view of the node: all messages in its room.
    pub async fn listen(url: &str) -> (HubClient, MessageReceiver) {
        let app = HubClient::start(HubOptions::simulator(url, "app"));
        app.joined().await.unwrap();
        app.subscribe(NODE).await.unwrap();
        let messages = app.messages(1024, |message| {
            message
                .message_type()
                .is_some_and(|kind| kind.starts_with("edgeInstance:"))
        });
        (app, messages)
    }
}

/// A page of `tests/interop` in Chromium. Ends with its handle, and its profile with it.
pub struct Browser {
    child: std::process::Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Opens a page; what follows the hub's address in its query is `query`.
    pub fn open(page: &str, url: &str, query: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let page = root().join("tests/interop").join(page);
        let child = Command::new("chromium")
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                // A page that nobody sees is not to be slowed down.
                "--disable-background-timer-throttling",
                "--disable-backgrounding-occluded-windows",
                "--disable-renderer-backgrounding",
                "--autoplay-policy=no-user-gesture-required",
                // It asks for its maker's hosts all the same: no name is to be looked up.
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE *.local",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!(
                "file://{}?hub={}&{query}",
                page.display(),
                url.replace("http", "ws")
            ))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium starts: scripts/setup --test installs it");
        Self {
            child,
            _profile: profile,
        }
    }
}

impl Browser {
    /// Ends it without a word.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.kill();
    }
}
