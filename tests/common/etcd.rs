//! A real etcd (Debian's), which a test kills, freezes and starts again. It ends with its handle.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::ports::unused_address;
use crate::common::{DEADLINE, http_get};

/// A running etcd with a folder of its own.
pub(crate) struct Etcd {
    child: Option<Child>,
    folder: tempfile::TempDir,
    client: SocketAddr,
    peer: SocketAddr,
}

impl Etcd {
    /// Starts one and waits until it answers.
    pub(crate) async fn start() -> Self {
        let mut etcd = Self {
            child: None,
            folder: tempfile::tempdir().expect("a folder can be made"),
            client: unused_address(),
            peer: unused_address(),
        };
        etcd.restart().await;
        etcd
    }

    /// Where it is reached.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.client)
    }

    /// Starts it with what it kept, after it was killed.
    pub(crate) async fn restart(&mut self) {
        let (client, peer) = (self.url(), format!("http://{}", self.peer));
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.folder.path().join("data"))
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--unsafe-no-fsync"])
            .args(["--log-level", "error"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is installed (Debian's etcd-server)");
        self.child = Some(child);
        let begun = Instant::now();
        while TcpStream::connect(self.client).is_err()
            || !http_get(self.client, "/health").contains("true")
        {
            assert!(begun.elapsed() < DEADLINE, "etcd does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}
