//! Who the program talks to and what it writes, by its system calls: its hub, its cameras, and nobody else. ONNX Runtime
//! would look up a host of its maker some nine seconds after it was loaded, so the node and the demo run for longer.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    reason = "a test's helper has nobody to tell but the test"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{DEADLINE, Program, fake, root, start_hub};
use twinsight::dev::hub::DevHubOptions;

/// Longer than what was seen to pass before the first look-up.
const RUN_SECONDS: u64 = 13;

/// A command whose system calls are written down.
struct Traced {
    program: Program,
    folder: tempfile::TempDir,
}

/// What it did.
struct Calls {
    name: String,
    text: String,
    folder: PathBuf,
}

impl Traced {
    /// Starts `twinsight` with these arguments; `log`: its standard error is read, else its output.
    fn start(args: &[&str], env: &[(&str, &str)], log: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        std::fs::create_dir(&home).unwrap();
        let strace = Command::new("strace")
            .arg("-V")
            .stdout(Stdio::null())
            .status();
        assert!(
            strace.is_ok_and(|status| status.success()),
            "there is no strace: run scripts/setup --test"
        );
        let mut command = Command::new("strace");
        command
            // The program is the child, and the tracer its grandchild: signals go to the program.
            .args(["-D", "-f", "-q", "--seccomp-bpf", "-s", "256"])
            .args(["-e", "trace=%network,%file", "-e", "signal=none", "-o"])
            .arg(folder.path().join("calls"))
            .arg(env!("CARGO_BIN_EXE_twinsight"))
            .args(args)
            .current_dir(root())
            .stdin(Stdio::null());
        for variable in [
            "ORT_DISABLE_TELEMETRY",
            "XDG_CACHE_HOME",
            "XDG_DATA_HOME",
            "CI",
            "GITHUB_ACTIONS",
        ] {
            command.env_remove(variable);
        }
        command.env("HOME", &home).env("TMPDIR", folder.path());
        let other = if log { "stdout" } else { "stderr" };
        match other {
            "stdout" => command.stdout(Stdio::null()),
            _ => command.stderr(Stdio::null()),
        };
        let program = Program::start(command, env, log);
        Self { program, folder }
    }

    /// Waits for its end, in success, and for the last of the trace.
    async fn ended(mut self, name: &str) -> (Calls, tempfile::TempDir) {
        // Read on, so that a full pipe holds up nobody.
        while self.program.line().await.is_some() {}
        assert_eq!(self.program.ended().await.code(), Some(0), "{name}");
        let until = Instant::now() + DEADLINE;
        let text = loop {
            let text = std::fs::read_to_string(self.folder.path().join("calls")).unwrap();
            let first = text.split_whitespace().next().unwrap_or("-").to_owned();
            let is_last = |line: &str| line.starts_with(&first) && line.contains("+++ exited with");
            if text.lines().any(is_last) {
                break text;
            }
            assert!(Instant::now() < until, "{name}: the trace has no end");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let calls = Calls {
            name: name.to_owned(),
            text,
            folder: self.folder.path().to_owned(),
        };
        (calls, self.folder)
    }
}

impl Calls {
    /// Lines of system calls with one of these names.
    fn of<'a>(&'a self, names: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
        self.text.lines().filter(move |line| {
            let call = line.split_whitespace().nth(1).unwrap_or_default();
            names.iter().any(|name| {
                call.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with('('))
            })
        })
    }

    /// It sent nothing anywhere but on this machine, over IP or to a service of the system.
    fn stays_here(&self) {
        let sending = ["connect", "sendto", "sendmsg", "sendmmsg"];
        let mut addresses = BTreeSet::new();
        for line in self.of(&sending) {
            for part in line.split("sa_family=").skip(1) {
                let part = part.split('}').next().unwrap_or_default();
                assert!(
                    !part.starts_with("AF_UNIX"),
                    "{}: a service of the system was asked: {line}",
                    self.name
                );
                if part.starts_with("AF_INET") {
                    let quoted = part.split('"').nth(1).unwrap_or_default();
                    addresses.insert(quoted.to_owned());
                    assert!(
                        !part.contains("htons(53)"),
                        "{}: a name is looked up: {line}",
                        self.name
                    );
                }
            }
        }
        let away: Vec<&String> = addresses
            .iter()
            .filter(|address| {
                address
                    .parse::<std::net::IpAddr>()
                    .map_or(true, |address| !address.is_loopback())
            })
            .collect();
        assert!(away.is_empty(), "{}: it talks to {away:?}", self.name);
    }

    /// It asked no resolver, nor read what a resolver needs.
    fn looks_no_name_up(&self) {
        let files = [
            "/etc/resolv.conf",
            "/etc/nsswitch.conf",
            "/etc/hosts",
            "/etc/gai.conf",
            "nscd",
        ];
        for line in self.text.lines() {
            assert!(
                !files.iter().any(|file| line.contains(file)),
                "{}: a name is looked up: {line}",
                self.name
            );
        }
    }

    /// It made, changed and removed no file but below these folders.
    fn writes_only_below(&self, folders: &[&Path]) {
        let changing = [
            "mkdir",
            "mkdirat",
            "rename",
            "renameat",
            "renameat2",
            "unlink",
            "unlinkat",
            "rmdir",
            "symlink",
            "symlinkat",
            "link",
            "linkat",
            "creat",
            "chmod",
            "fchmodat",
            "truncate",
            "mknod",
            "mknodat",
            "utimensat",
            "chown",
            "fchownat",
            "open",
            "openat",
            "openat2",
        ];
        for line in self.of(&changing) {
            let reads = line.contains("open")
                && !["O_WRONLY", "O_RDWR", "O_CREAT"]
                    .iter()
                    .any(|flag| line.contains(flag));
            if reads || line.contains(" = -1 ") {
                continue;
            }
            let path = line.split('"').nth(1).unwrap_or_default();
            let allowed = path == "/dev/null"
                || folders
                    .iter()
                    .any(|folder| Path::new(path).starts_with(folder));
            assert!(allowed, "{}: a file outside: {line}", self.name);
        }
    }

    /// It did something at all, and nothing of the above.
    fn is_air_gapped(&self, writes: &[&Path]) {
        assert!(
            self.text.contains("libonnxruntime"),
            "{}: ONNX Runtime was not loaded",
            self.name
        );
        self.stays_here();
        self.looks_no_name_up();
        self.writes_only_below(writes);
        let home = std::fs::read_dir(self.folder.join("home")).unwrap();
        assert_eq!(home.count(), 0, "{}: its home is not empty", self.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_demo_detect_and_check_talk_to_nobody_else_and_write_nothing() {
    let url = start_hub(DevHubOptions::default()).await;
    fake::camera(&url, "cam", "default", None, 5.0);
    let (_app, mut events) = fake::listen(&url).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    std::fs::write(
        &file,
        "[http]\nlisten = \"127.0.0.1:0\"\n[ice]\ninterfaces = [\"lo\"]\n[defaults]\nmax_fps = 2\n[[cameras]]\ntwin_id = \"cam\"\n",
    )
    .unwrap();
    let config = file.to_str().unwrap();
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url.as_str()),
        ("TWIN_ID", fake::NODE),
    ];

    let seconds = RUN_SECONDS.to_string();
    let demo = Traced::start(
        &["demo", "--cameras", "1", "--seconds", &seconds],
        &[],
        false,
    );
    let mut node = Traced::start(&["run", "--config", config], &env, true);
    node.program.until("model is warm").await;
    let loaded_at = Instant::now();
    // What it is for works.
    loop {
        let message = tokio::time::timeout(DEADLINE, events.recv())
            .await
            .expect("an event comes")
            .unwrap();
        if message.message_type() == Some("edgeInstance:detections") {
            break;
        }
    }

    let out = folder.path().join("out");
    let picture = root().join("tests/data/pictures/messi5.jpg");
    let (picture, out_dir) = (picture.to_str().unwrap(), out.to_str().unwrap());
    let detect = Traced::start(&["detect", picture, "--out", out_dir], &[], false);
    let (calls, _kept) = detect.ended("detect").await;
    calls.is_air_gapped(&[&out]);

    let other = start_hub(DevHubOptions::default()).await;
    fake::camera(&other, "cam", "default", None, 5.0);
    let check = Traced::start(
        &["check", "--config", config],
        &[
            ("PHYSTACK_SIMULATOR_URL", other.as_str()),
            ("TWIN_ID", fake::NODE),
        ],
        false,
    );
    let (calls, _kept) = check.ended("check").await;
    calls.is_air_gapped(&[]);

    let (calls, _kept) = demo.ended("demo").await;
    calls.is_air_gapped(&[]);

    let wanted = Duration::from_secs(RUN_SECONDS);
    tokio::time::sleep(wanted.saturating_sub(loaded_at.elapsed())).await;
    node.program.signal("TERM");
    let (calls, _kept) = node.ended("node").await;
    calls.is_air_gapped(&[]);
}
