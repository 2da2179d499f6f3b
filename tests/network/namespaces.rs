//! Networks of a test's own: namespaces with cables between them, programs and threads inside. All of
//! it goes with the handle. Needs root and iproute2.
#![allow(
    clippy::unwrap_used,
    reason = "a test's helper has nobody to tell but the test"
)]

use std::net::UdpSocket;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace with its loopback up.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) name: String,
}

/// Why networks cannot be made here; none when they can.
pub(crate) fn missing() -> Option<&'static str> {
    static MISSING: OnceLock<Option<&'static str>> = OnceLock::new();
    *MISSING.get_or_init(find_missing)
}

fn find_missing() -> Option<&'static str> {
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    if !root {
        return Some("network namespaces need root");
    }
    for tool in ["ip", "ss", "nft", "turnserver"] {
        let mut which = Command::new("which");
        if !which
            .arg(tool)
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
        {
            return Some("`ip`, `ss`, `nft` or `turnserver` is missing: run scripts/setup --test");
        }
    }
    let probe = format!("tw-{}-probe", std::process::id());
    let made = Command::new("ip").args(["netns", "add", &probe]).output();
    let _ = Command::new("ip").args(["netns", "del", &probe]).output();
    if !made.is_ok_and(|output| output.status.success()) {
        return Some("this system refuses network namespaces, as containers do");
    }
    None
}

/// Runs a command that has to succeed.
pub(crate) fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    checked(line, &output)
}

fn checked(line: &str, output: &Output) -> String {
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Namespace {
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tw-{}-{count}-{name}", std::process::id());
        run(&format!("ip netns add {name}"));
        let namespace = Self { name };
        namespace.run("ip link set lo up");
        namespace
    }

    /// Runs a command inside that has to succeed.
    pub(crate) fn run(&self, line: &str) -> String {
        run(&format!("ip netns exec {} {line}", self.name))
    }

    /// A program that is started inside.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// A cable to another namespace: the interface and address (with prefix) at either end.
    pub(crate) fn cable(&self, end: (&str, &str), other: &Self, other_end: (&str, &str)) {
        let ((interface, address), (other_interface, other_address)) = (end, other_end);
        run(&format!(
            "ip link add {interface} netns {} type veth peer name {other_interface} netns {}",
            self.name, other.name
        ));
        for (namespace, interface, address) in [
            (self, interface, address),
            (other, other_interface, other_address),
        ] {
            if !address.is_empty() {
                namespace.run(&format!("ip address add {address} dev {interface}"));
            }
            namespace.run(&format!("ip link set {interface} up"));
        }
    }

    /// A rule set of nftables, replacing all others.
    pub(crate) fn firewall(&self, rules: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), rules).unwrap();
        self.run(&format!("nft -f {}", file.path().display()));
    }

    /// Runs work on a thread inside; sockets that it opens belong there.
    pub(crate) fn enter<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let path = format!("/run/netns/{}", self.name);
        let thread = std::thread::Builder::new().name("inside".to_owned());
        let work = move || {
            let file = std::fs::File::open(path).unwrap();
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), network).unwrap();
            work()
        };
        thread.spawn(work).unwrap()
    }

    /// A socket inside that keeps a port from others.
    pub(crate) fn take_port(&self, address: &'static str) -> UdpSocket {
        self.enter(move || UdpSocket::bind(address).unwrap())
            .join()
            .unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .output();
    }
}
