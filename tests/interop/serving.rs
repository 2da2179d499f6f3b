//! Real inference servers as processes of a test: NVIDIA's Triton, MLServer and KServe's own, each with models that `serving/serve.py` lays out.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it cannot do"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::common::ports::unused_address;
use crate::common::{DEADLINE, Program, python, root};

/// Who wrote the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Make {
    Triton,
    MlServer,
    KServe,
}

impl Make {
    fn word(self) -> &'static str {
        match self {
            Self::Triton => "triton",
            Self::MlServer => "mlserver",
            Self::KServe => "kserve",
        }
    }

    /// Where it is installed.
    fn folder(self) -> PathBuf {
        std::env::var_os(self.variable())
            .map_or_else(|| root().join(".tools").join(self.word()), PathBuf::from)
    }

    fn variable(self) -> &'static str {
        match self {
            Self::Triton => "TWINSIGHT_TEST_TRITON",
            Self::MlServer => "TWINSIGHT_TEST_MLSERVER",
            Self::KServe => "TWINSIGHT_TEST_KSERVE",
        }
    }
}

/// A server with a folder of its own, which can be killed and started again on the same ports.
pub(crate) struct InferenceServer {
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    make: Make,
    models: Vec<&'static str>,
    folder: TempDir,
    program: Option<Program>,
}

impl InferenceServer {
    /// Starts one, and waits until all of its models are ready. `None` means that it is not installed.
    pub(crate) async fn start(make: Make, models: &[&'static str]) -> Option<Self> {
        let folder = make.folder();
        if !folder.join("bin/python").exists() {
            println!(
                "not run: there is no {}: run scripts/setup --test with Python 3.11 or 3.12",
                folder.display()
            );
            return None;
        }
        let mut server = Self {
            http: unused_address(),
            grpc: unused_address(),
            make,
            models: models.to_vec(),
            // Its name is that of what Triton leaves in shared memory.
            folder: tempfile::Builder::new()
                .prefix("twinsight-serving-")
                .tempdir()
                .unwrap(),
            program: None,
        };
        server.launch();
        server.until_ready().await;
        Some(server)
    }

    /// Starts its process.
    pub(crate) fn launch(&mut self) {
        let mut command = Command::new(python());
        command
            .arg(root().join("tests/interop/serving/serve.py"))
            .arg(self.make.word())
            .arg(self.folder.path())
            .args(["--http", &self.http.port().to_string()])
            .arg("--environment")
            .arg(self.make.folder())
            .args(["--grpc", &self.grpc.port().to_string()])
            .arg("--models")
            .args(&self.models)
            .stdout(Stdio::null());
        self.program = Some(Program::start(command, &[], true));
    }

    /// Waits until all of its models are ready; says when that was.
    pub(crate) async fn until_ready(&self) -> Instant {
        let begun = Instant::now();
        while !self.models.iter().all(|model| self.is_ready(model)) {
            assert!(
                begun.elapsed() < DEADLINE,
                "{:?} has not got ready",
                self.make
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Instant::now()
    }

    fn is_ready(&self, model: &str) -> bool {
        self.ask("GET", &format!("/v2/models/{model}/ready")) == Some(200)
    }

    /// Takes a model away from it, or brings it back. A server that is still at the one may refuse the other.
    pub(crate) async fn set_loaded(&self, model: &str, loaded: bool) {
        let what = if loaded { "load" } else { "unload" };
        let path = format!("/v2/repository/models/{model}/{what}");
        let begun = Instant::now();
        while self.ask("POST", &path) != Some(200) {
            assert!(begun.elapsed() < DEADLINE, "{what} {model}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The status of an answer; none if nobody answers for a while.
    fn ask(&self, method: &str, path: &str) -> Option<u16> {
        let mut stream = TcpStream::connect(self.http).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).ok()?;
        std::str::from_utf8(&answer[9..]).ok()?.parse().ok()
    }

    /// What a model does wrong from now on, in the words of `serving/network.py`; nothing where there are none.
    pub(crate) fn set_fault(&self, model: &str, words: &str) {
        let file = self.folder.path().join("faults").join(model);
        if words.is_empty() {
            std::fs::remove_file(file).unwrap();
        } else {
            // A file that is written in place is empty for a moment.
            let new = self.folder.path().join("new-fault");
            std::fs::write(&new, words).unwrap();
            std::fs::rename(new, file).unwrap();
        }
    }

    /// Stops it in its tracks, or lets it go on: its first process alone. Triton takes a Python backend for dead that was stopped together
    /// with it, and makes another.
    pub(crate) fn set_frozen(&self, frozen: bool) {
        let name = if frozen { "STOP" } else { "CONT" };
        self.program.as_ref().unwrap().signal(name);
    }

    /// Sends a signal to all of its processes.
    fn signal(&self, name: &str) {
        let program = self.program.as_ref().unwrap();
        let status = Command::new("kill")
            .args([&format!("-{name}"), "--", &format!("-{}", program.id())])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Ends it without a word.
    pub(crate) async fn kill(&mut self) {
        self.signal("KILL");
        self.program.take().unwrap().ended().await;
        self.sweep();
    }

    /// Removes what its Python backend leaves in shared memory when it is killed.
    fn sweep(&self) {
        let name = self.folder.path().file_name().unwrap().to_str().unwrap();
        let Ok(entries) = std::fs::read_dir("/dev/shm") else {
            return;
        };
        let left = entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(name));
        for entry in left {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

impl Drop for InferenceServer {
    fn drop(&mut self) {
        if let Some(program) = self.program.take() {
            let group = format!("-{}", program.id());
            let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
            drop(program);
            self.sweep();
        }
    }
}
