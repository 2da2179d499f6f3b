//! Debian's etcd, of one member or more, each of which can be killed and started again with what it stored.

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::common::ports::unused_address;
use crate::common::{DEADLINE, Program, http_get};

/// The members of a cluster; killed with its handle.
pub(super) struct Store {
    pub(super) members: Vec<Member>,
    _folder: TempDir,
}

/// A member of the cluster.
pub(super) struct Member {
    /// Where clients reach it.
    pub(super) address: SocketAddr,
    args: Vec<String>,
    process: Option<Program>,
}

impl Store {
    /// Starts a cluster and waits until it takes requests. `None` means that etcd is not installed.
    pub(super) async fn start(members: usize) -> Option<Self> {
        let installed = Command::new("etcd")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if installed.is_err() {
            println!(
                "not run: there is no etcd: run scripts/setup --test, which installs Debian's etcd-server"
            );
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let addresses: Vec<_> = (0..members)
            .map(|_| (unused_address(), unused_address()))
            .collect();
        let peers = addresses.iter().enumerate();
        let cluster: Vec<String> = peers
            .map(|(n, (_, peer))| format!("m{n}=http://{peer}"))
            .collect();
        let cluster = cluster.join(",");
        let member = |(n, (client, peer)): (usize, &(SocketAddr, SocketAddr))| Member {
            address: *client,
            args: [
                ("--name", format!("m{n}")),
                (
                    "--data-dir",
                    folder.path().join(n.to_string()).display().to_string(),
                ),
                ("--listen-client-urls", format!("http://{client}")),
                ("--advertise-client-urls", format!("http://{client}")),
                ("--listen-peer-urls", format!("http://{peer}")),
                ("--initial-advertise-peer-urls", format!("http://{peer}")),
                ("--initial-cluster", cluster.clone()),
                (
                    "--initial-cluster-token",
                    folder.path().display().to_string(),
                ),
                ("--logger", "zap".to_owned()),
                ("--log-level", "error".to_owned()),
            ]
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value])
            .collect(),
            process: None,
        };
        let members = addresses.iter().enumerate().map(member).collect();
        let mut store = Self {
            members,
            _folder: folder,
        };
        for member in &mut store.members {
            member.start();
        }
        store.answers().await;
        Some(store)
    }

    /// Waits until all members that run take requests.
    pub(super) async fn answers(&self) {
        let deadline = Instant::now() + DEADLINE;
        let mut members = self.members.iter();
        while let Some(member) = members.find(|member| member.process.is_some()) {
            while !member.is_healthy() {
                assert!(Instant::now() < deadline, "etcd takes no requests");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Ends all members without a word.
    pub(super) async fn kill(&mut self) {
        for member in &mut self.members {
            member.kill().await;
        }
    }

    /// Starts the members that do not run.
    pub(super) async fn restart(&mut self) {
        for member in &mut self.members {
            member.start();
        }
        self.answers().await;
    }

    /// Their processes.
    pub(super) fn ids(&self) -> Vec<u32> {
        let processes = self
            .members
            .iter()
            .filter_map(|member| member.process.as_ref());
        processes.map(Program::id).collect()
    }
}

impl Member {
    fn start(&mut self) {
        if self.process.is_none() {
            let mut command = Command::new("etcd");
            command.args(&self.args).stdout(Stdio::null());
            self.process = Some(Program::start(command, &[], true));
        }
    }

    pub(super) async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal("KILL");
            process.ended().await;
        }
    }

    /// Whether it has a leader and answers.
    fn is_healthy(&self) -> bool {
        TcpStream::connect(self.address).is_ok()
            && http_get(self.address, "/health").contains("\"health\":\"true\"")
    }

    /// Whether it leads the others.
    pub(super) fn leads(&self) -> bool {
        let metrics = http_get(self.address, "/metrics");
        metrics
            .lines()
            .any(|line| line == "etcd_server_is_leader 1")
    }
}
