//! An IP camera: GStreamer's RTSP server, which plays the shipped clip unless it is told otherwise.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::ports::unused_address;
use super::{Program, root};

/// A camera that runs as a process of its own.
pub struct IpCamera {
    /// Where it listens.
    pub address: SocketAddr,
    /// It says `asked` whenever somebody wants pictures and nobody had them before.
    pub program: Program,
    commands: std::process::ChildStdin,
}

impl IpCamera {
    /// Starts one at a port of its own, with these arguments of `tests/interop/rtsp.py`.
    pub async fn start(args: &[&str]) -> Self {
        Self::start_at(unused_address(), args).await
    }

    /// Starts one that plays the clip.
    pub async fn playing(address: SocketAddr) -> Self {
        let clip = root().join("media/pedestrians.h264");
        Self::start_at(address, &["--play", clip.to_str().unwrap()]).await
    }

    /// Starts one at this address.
    pub async fn start_at(address: SocketAddr, args: &[&str]) -> Self {
        // The bindings of GStreamer are packages of the system, which a virtual environment does not have.
        let python = "/usr/bin/python3";
        assert!(
            Path::new(python).exists(),
            "there is no {python}: run scripts/setup --test, which installs GStreamer's RTSP server"
        );
        let mut command = Command::new(python);
        command
            .arg(root().join("tests/interop/rtsp.py"))
            .arg(address.port().to_string())
            .args(args)
            .stdin(Stdio::piped());
        let mut program = Program::start(command, &[], false);
        let commands = program.stdin();
        program.until("listening").await;
        Self {
            address,
            program,
            commands,
        }
    }

    /// Where its stream is.
    pub fn url(&self) -> String {
        format!("rtsp://{}/stream", self.address)
    }

    /// It holds its pictures back, or does no longer.
    pub fn mute(&mut self, muted: bool) {
        let command = if muted { "mute" } else { "unmute" };
        writeln!(self.commands, "{command}").unwrap();
        self.commands.flush().unwrap();
    }

    /// It is gone without a word.
    pub async fn die(mut self) -> SocketAddr {
        self.program.signal("KILL");
        self.program.ended().await;
        self.address
    }
}
