//! How a node ends: on the first signal in good order and soon, on the second at once, whatever it is
//! doing; and that a hub that is away does not end it, nor a log that nobody reads, nor clients that hold its connections.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::ports::unused_address;
use crate::common::{DEADLINE, NodeProcess, Program, root};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};
use twinsight::dev::camera::{self, CameraOptions};
use twinsight::dev::hub::{self, DevHubError, DevHubOptions, DirectAccess};
use twinsight_client::hub::{HubClient, HubOptions};
use twinsight_client::realtime::ice::IceSettings;
use twinsight_media::h264::clip::Clip;

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
        Self::with(address, DevHubOptions::default()).await
    }

    async fn with(address: &str, options: DevHubOptions) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(hub::run(listener, options, async {
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
    try_get(node.http, path).unwrap()
}

fn try_get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok((status, body.to_owned()))
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
    camera.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_away_at_the_start_is_waited_for() {
    let address = unused_address().to_string();
    let mut node = start_node(&format!("http://{address}")).await;
    until_answer(&node, "/readyz", (503, "the hub is not joined: ")).await;
    assert_eq!(get(&node, "/healthz").0, 200);
    let hub = Hub::start(&address).await;
    until_answer(&node, "/readyz", (200, "ok\n")).await;
    stops(&mut node, "TERM").await;
    hub.stop().await;
}

/// A node whose standard error is the test's; on a port that was free.
struct Unheard {
    child: Child,
    http: SocketAddr,
}

impl Unheard {
    async fn start(mut command: Command, log: Stdio, env: &[(&str, &str)]) -> Self {
        let http = unused_address();
        let child = command
            .env_clear()
            .env("TWINSIGHT_HTTP__LISTEN", http.to_string())
            .env("TWINSIGHT_ICE__INTERFACES", "lo")
            .env("PHYSTACK_SIMULATOR_URL", "http://127.0.0.1:9")
            .env("TWIN_ID", "node-1")
            .env("RUST_LOG", "trace")
            .envs(env.iter().copied())
            .current_dir(root())
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let node = Self { child, http };
        // The model is loaded then, and the hub is tried again and again.
        node.until("/readyz", (503, "the hub is not joined")).await;
        node
    }

    async fn until(&self, path: &str, wanted: (u16, &str)) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let said = try_get(self.http, path);
            if said
                .as_ref()
                .is_ok_and(|(status, body)| *status == wanted.0 && body.starts_with(wanted.1))
            {
                return;
            }
            assert!(Instant::now() < deadline, "{path} says {said:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn stops(mut self) {
        let asked = Instant::now();
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .unwrap()
                .success()
        );
        let status = ended(&mut self.child).await;
        let took = asked.elapsed();
        println!("ended within {took:?}");
        assert_eq!(status.code(), Some(0), "{status}");
        assert!(took < STOP_LIMIT, "{took:?}");
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn ended(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "it does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinsight"));
    command.args(args);
    command
}

/// By way of a shell, which first does this.
fn program_after(shell: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{shell} exec \"$0\" \"$@\""));
    command.arg(env!("CARGO_BIN_EXE_twinsight")).args(args);
    command
}

fn full_disk() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// A pipe in which there is no room, with whoever could read it.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&[b'.'; 65536]).unwrap();
    (reader, writer)
}

fn closed_pipe() -> PipeWriter {
    std::io::pipe().unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_log_that_cannot_be_written() {
    let (hanging, full) = full_pipe();
    let (_reader, impatient) = full_pipe();
    rustix::io::ioctl_fionbio(&impatient, true).unwrap();
    let logs = [
        (
            "the disk is full",
            program(&["run"]),
            Stdio::from(full_disk()),
            true,
        ),
        (
            "the reader is gone",
            program(&["run"]),
            closed_pipe().into(),
            true,
        ),
        ("the reader hangs", program(&["run"]), full.into(), false),
        (
            "a pipe that does not wait",
            program(&["run"]),
            impatient.into(),
            false,
        ),
        (
            "no standard error",
            program_after("exec 2>&- 1>&- 0<&-;", &["run"]),
            Stdio::null(),
            false,
        ),
    ];
    for (what, command, log, drops) in logs {
        println!("{what}");
        let node = Unheard::start(command, log, &[]).await;
        assert_eq!(
            try_get(node.http, "/healthz").unwrap(),
            (200, "ok\n".to_owned())
        );
        let metrics = try_get(node.http, "/metrics").unwrap().1;
        let dropped = metrics
            .lines()
            .find_map(|line| line.strip_prefix("twinsight_log_lines_dropped_total "))
            .unwrap();
        assert_eq!(dropped != "0", drops, "{dropped}");
        node.stops().await;
    }
    drop(hanging);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_ends_with_its_code_though_nobody_hears_its_words() {
    for (args, code) in [
        (&["run", "--config", "/nowhere/node.toml"][..], 78),
        (&["detect", "/nowhere/picture.jpg"], 1),
        (&["health", "--bogus"], 2),
    ] {
        let (hanging, full) = full_pipe();
        let mut logs = vec![Stdio::from(closed_pipe()), full_disk().into()];
        // The parser of arguments writes by itself, and a pipe that was full before would hold it up.
        if code != 2 {
            logs.push(full.into());
        }
        for log in logs {
            let asked = Instant::now();
            let mut child = program(args)
                .stdout(Stdio::null())
                .stderr(log)
                .current_dir(root())
                .spawn()
                .unwrap();
            assert_eq!(ended(&mut child).await.code(), Some(code), "{args:?}");
            assert!(asked.elapsed() < DEADLINE / 2);
        }
        drop(hanging);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_the_results_that_goes_is_no_failure_and_a_full_disk_is_one() {
    let picture = root().join("media/pedestrians.h264");
    let picture = picture.to_str().unwrap();
    let commands: [&[&str]; 3] = [
        &["detect", "--json", picture],
        &["demo", "--cameras", "1", "--seconds", "3"],
        &["capacity", "--step-seconds", "1"],
    ];
    for args in commands {
        let run = |output: Stdio| {
            let output = program(args)
                .env_remove("RUST_LOG")
                .stdin(Stdio::null())
                .stdout(output)
                .stderr(Stdio::piped())
                .current_dir(root())
                .output()
                .unwrap();
            (
                output.status.code(),
                String::from_utf8(output.stderr).unwrap(),
            )
        };
        let (code, said) = run(closed_pipe().into());
        assert_eq!(code, Some(0), "{args:?}: {said}");
        assert!(
            !said.contains("panicked") && !said.contains("twinsight: "),
            "{args:?}: {said}"
        );
        let (code, said) = run(full_disk().into());
        assert_eq!(code, Some(1), "{args:?}: {said}");
        assert!(
            said.contains("No space left") && !said.contains("panicked"),
            "{args:?}: {said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn few_files_and_many_half_requests_cost_no_camera() {
    let address = unused_address().to_string();
    let url = format!("http://{address}");
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url.as_str()),
        ("TWINSIGHT_CAMERAS", "cam"),
        ("RUST_LOG", "warn"),
    ];
    let mut command = program_after("ulimit -n 128;", &["run"]);
    command.env("TWINSIGHT_DEFAULTS__MODEL", "ssdlite_mobilenet_v2_coco");
    let node = Unheard::start(command, Stdio::inherit(), &env).await;
    let mut held = Vec::new();
    for _ in 0..300 {
        let mut half = TcpStream::connect(node.http).unwrap();
        half.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
        held.push(half);
    }
    let asked = Instant::now();
    assert_eq!(try_get(node.http, "/healthz").unwrap().0, 200);
    println!("a probe was answered within {:?}", asked.elapsed());
    let hub = Hub::start(&address).await;
    let camera = start_camera(&hub.url);
    node.until("/readyz", (200, "ok\n")).await;
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (_, metrics) = try_get(node.http, "/metrics").unwrap();
        let published = metrics.lines().find_map(|line| {
            let rest = line.strip_prefix("twinsight_events_published_total{")?;
            rest.rsplit_once(' ')?.1.parse::<u64>().ok()
        });
        if published.is_some_and(|events| events >= 3) {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "no events are published:\n{metrics}"
        );
        held.push(TcpStream::connect(node.http).unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    node.stops().await;
    camera.abort();
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_finest_log_tells_no_secret() {
    let (key, credential) = ("the-access-key-of-device-1", "the-credential-of-turn");
    let hub = Hub::with(
        "127.0.0.1:0",
        DevHubOptions {
            direct: DirectAccess::Keys(BTreeMap::from([(
                "device-1".to_owned(),
                key.to_owned().into(),
            )])),
            ice_servers: vec![
                json!({"urls": "turn:127.0.0.1:9", "username": "user-1", "credential": credential}),
            ],
            ..DevHubOptions::default()
        },
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(&["--log-format", "json", "run"]);
    command.env_clear().current_dir(root());
    let env = [
        ("PHYHUB_DIRECT", "true"),
        ("PHYHUB_URL", hub.url.as_str()),
        ("DEVICE_ID", "device-1"),
        ("ACCESS_KEY", key),
        ("TWINSIGHT_CAMERAS", "cam"),
        ("TWINSIGHT_HTTP__LISTEN", "127.0.0.1:0"),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
        ("TWINSIGHT_DEFAULTS__MODEL", "ssdlite_mobilenet_v2_coco"),
    ];
    // Set after the variables that a program of the tests starts without.
    command
        .args(["--config"])
        .arg(folder.path().join("none.toml"));
    std::fs::write(folder.path().join("none.toml"), "").unwrap();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "RUST_LOG=trace exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args());
    shell.current_dir(root());
    let mut node = Program::start(shell, &env, true);
    let served = node.until("metrics and probes are served").await;
    let served: serde_json::Value = serde_json::from_str(&served).unwrap();
    let http: SocketAddr = served["address"].as_str().unwrap().parse().unwrap();
    assert!(served["connections"].is_number(), "{served}");
    let deadline = Instant::now() + DEADLINE;
    // A second attempt: an offer with the hub's servers was made before.
    while !try_get(http, "/metrics")
        .unwrap()
        .1
        .lines()
        .any(|line| line.starts_with("twinsight_camera_reconnects_total{") && !line.ends_with(" 0"))
    {
        assert!(Instant::now() < deadline, "no second attempt");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    node.signal("TERM");
    let (mut lines, mut traces) = (0, 0);
    while let Some(line) = node.line().await {
        lines += 1;
        traces += usize::from(line.contains("\"level\":\"TRACE\""));
        assert!(!line.contains(key) && !line.contains(credential), "{line}");
        assert!(line.len() < 4096, "{}", line.len());
        assert!(
            serde_json::from_str::<serde_json::Value>(&line).is_ok(),
            "{line}"
        );
    }
    println!("{lines} lines, {traces} of them at trace");
    assert!(traces > 10, "{lines} lines, {traces} of them at trace");
    hub.stop().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_hangs_in_a_write_is_ended_by_force() {
    const TERM: u32 = 15;
    let (hanging, full) = full_pipe();
    let mut child = program(&["demo", "--cameras", "1", "--seconds", "60"])
        .stdout(full)
        .stderr(Stdio::piped())
        .current_dir(root())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let catches_signals = || {
        let status = std::fs::read_to_string(&status).unwrap();
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))
            .unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() >> (TERM - 1) & 1 == 1
    };
    let deadline = Instant::now() + DEADLINE;
    while !catches_signals() {
        assert!(Instant::now() < deadline, "it takes no signal");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let id = child.id().to_string();
    let kill = Command::new("kill").args(["-TERM", &id]).status();
    assert!(kill.unwrap().success());
    let mut said = String::new();
    let status = ended(&mut child).await;
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    // Until the process is gone, its other threads may still log something.
    assert!(
        said.contains("twinsight: ended by force, since it did not stop\n"),
        "{said}"
    );
    drop(hanging);
}
