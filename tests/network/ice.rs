//! The keys of `[ice]` in networks as containers have them: namespaces with cables, a bridge, a
//! router that translates addresses, a relay between two networks. Node, camera and hub are programs
//! inside; video flows in each, and the descriptions that they send are looked at.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Stdio;

use crate::common::{DEADLINE, Program, root};
use crate::namespaces::Namespace;
use serde_json::Value;
use tokio::sync::mpsc;
use twinsight::dev::hub::DevHubOptions;
use twinsight_client::hub::{HubClient, HubOptions};

const TWINSIGHT: &str = env!("CARGO_BIN_EXE_twinsight");
const HUB_PORT: u16 = 55_000;

/// The settings of `docs/guide/networking.md`, word by word.
const CHOSEN: &str = "[ice]\ninterfaces = [\"eth0\"]\nudp_ports = \"50000-50100\"\n";
const PUBLISHED: &str = "[ice]\nudp_ports = \"50000-50100\"\nnat_1to1_ips = [\"192.0.2.1\"]\n";
const RELAY: &str = "[ice]\npolicy = \"relay\"\n";
const TURN: &str = "listening-ip=172.20.0.1
listening-port=3478
relay-ip=172.21.0.1
min-port=40000
max-port=40100
realm=test
user=node:secret
lt-cred-mech
no-cli
no-tls
no-dtls
";
const PORTS: std::ops::RangeInclusive<u16> = 50_000..=50_100;

#[test]
fn the_page_has_the_very_settings_that_are_tested() {
    let page = std::fs::read_to_string(root().join("docs/guide/networking.md")).unwrap();
    for settings in [CHOSEN, PUBLISHED, RELAY, TURN] {
        assert!(
            page.contains(settings),
            "docs/guide/networking.md lacks\n{settings}"
        );
    }
}

/// Says why a test cannot run here.
macro_rules! needs_networks {
    () => {
        if let Some(reason) = crate::namespaces::missing() {
            println!("not run: {reason}");
            return;
        }
    };
}

/// A hub in a namespace, and what an app there sees in the rooms of the node and the camera.
struct Watched {
    messages: mpsc::UnboundedReceiver<Value>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Watched {
    async fn start(namespace: &Namespace) -> Self {
        let (sender, messages) = mpsc::unbounded_channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (ready, is_ready) = tokio::sync::oneshot::channel::<()>();
        namespace.enter(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind(("0.0.0.0", HUB_PORT))
                    .await
                    .unwrap();
                let hub = twinsight::dev::hub::run(listener, DevHubOptions::default(), async {
                    drop(stopped.await);
                });
                let watch = async {
                    let url = format!("http://127.0.0.1:{HUB_PORT}");
                    let app = HubClient::start(HubOptions::simulator(&url, "app"));
                    app.joined().await.unwrap();
                    app.subscribe("node-1").await.unwrap();
                    app.subscribe("cam").await.unwrap();
                    let mut received = app.messages(1024, |_| true);
                    let _ = ready.send(());
                    while let Some(message) = received.recv().await {
                        let _ = sender.send(message.data);
                    }
                };
                let _ = tokio::join!(hub, async {
                    tokio::select! {
                        () = watch => {}
                        () = tokio::time::sleep(3 * DEADLINE) => {}
                    }
                });
            });
        });
        is_ready.await.unwrap();
        Self {
            messages,
            _stop: stop,
        }
    }

    /// The data of the next message that is asked for.
    async fn next(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                let data = self.messages.recv().await.expect("the hub goes on");
                if wanted(&data) {
                    return data;
                }
            }
        };
        tokio::time::timeout(DEADLINE, found)
            .await
            .unwrap_or_else(|_| panic!("{what} did not come"))
    }

    /// The candidates of the node's next offer: address, port and type.
    async fn offered(&mut self) -> Vec<(String, u16, String)> {
        let is_offer = |data: &Value| data["type"] == "media-default-cam:offer";
        let offer = self.next("an offer", is_offer).await;
        let sdp = offer["data"]["sdp"].as_str().unwrap();
        assert!(!sdp.contains(".local"), "{sdp}");
        // Each is there for RTP and for RTCP, which share a port.
        let candidates: BTreeSet<_> = sdp
            .lines()
            .filter_map(|line| line.strip_prefix("a=candidate:"))
            .map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                (words[4].into(), words[5].parse().unwrap(), words[7].into())
            })
            .collect();
        candidates.into_iter().collect()
    }

    async fn detections(&mut self, count: usize) {
        for _ in 0..count {
            self.next("a detection", |data| {
                data["type"] == "edgeInstance:detections"
            })
            .await;
        }
    }

    /// The reason in the camera's next state of a kind.
    async fn reason(&mut self, state: &str) -> String {
        let is_state = |data: &Value| {
            data["type"] == "edgeInstance:cameraStatus" && data["data"]["state"] == state
        };
        let status = self.next(state, is_state).await;
        status["data"]["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// A node in a namespace; its log's last lines are told if a test fails.
fn node(
    namespace: &Namespace,
    hub: &str,
    ice: &str,
    env: &[(&str, &str)],
) -> (Program, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    let config =
        format!("{ice}\n[http]\nlisten = \"127.0.0.1:0\"\n[[cameras]]\ntwin_id = \"cam\"\n");
    std::fs::write(&file, config).unwrap();
    let mut command = namespace.command(TWINSIGHT);
    command
        .args(["run", "--config"])
        .arg(&file)
        .current_dir(root());
    let url = format!("http://{hub}:{HUB_PORT}");
    let mut all = vec![
        ("PHYSTACK_SIMULATOR_URL", url.as_str()),
        ("TWIN_ID", "node-1"),
    ];
    all.extend_from_slice(env);
    (Program::start(command, &all, true), folder)
}

fn camera(namespace: &Namespace, hub: &str) -> Program {
    let mut command = namespace.command(TWINSIGHT);
    command
        .args(["camera", "--twin", "cam", "--fps", "10", "--clip"])
        .arg(root().join("media/pedestrians.h264"))
        .current_dir(root());
    let url = format!("http://{hub}:{HUB_PORT}");
    Program::start(command, &[("PHYSTACK_SIMULATOR_URL", &url)], true)
}

/// UDP sockets in a namespace: local addresses, and the receive buffer of each.
fn udp_sockets(namespace: &Namespace) -> Vec<(SocketAddr, u64)> {
    let out = namespace.run("ss -uanmOH");
    out.lines()
        .filter_map(|line| {
            let local = line.split_whitespace().nth(3)?.parse().ok()?;
            let buffer = line.split_once(",rb")?.1.split(',').next()?.parse().ok()?;
            Some((local, buffer))
        })
        .collect()
}

/// A container in a bridge network: the host has the bridge and the hub, node and camera an address
/// on it. The node has a second network that it is told not to use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_bridge_only_the_chosen_interface_and_ports_are_used() {
    needs_networks!();
    let [host, inside, outside] = ["host", "node", "cam"].map(Namespace::new);
    host.run("ip link add br0 type bridge");
    host.run("ip address add 172.20.0.1/24 dev br0");
    host.run("ip link set br0 up");
    inside.cable(("eth0", "172.20.0.2/24"), &host, ("veth-n", ""));
    outside.cable(("eth0", "172.20.0.3/24"), &host, ("veth-c", ""));
    host.run("ip link set veth-n master br0");
    host.run("ip link set veth-c master br0");
    inside.cable(
        ("eth1", "172.21.0.2/24"),
        &host,
        ("veth-x", "172.21.0.1/24"),
    );

    let mut hub = Watched::start(&host).await;
    let ice = format!("{CHOSEN}recv_buffer_bytes = 131072\n");
    let (_node, _folder) = node(&inside, "172.20.0.1", &ice, &[]);
    let candidates = hub.offered().await;
    let [(address, port, kind)] = &candidates[..] else {
        panic!("one candidate: {candidates:?}");
    };
    assert_eq!((address.as_str(), kind.as_str()), ("172.20.0.2", "host"));
    assert!(PORTS.contains(port), "{port}");

    let _camera = camera(&outside, "172.20.0.1");
    hub.detections(3).await;
    let sockets = udp_sockets(&inside);
    assert!(!sockets.is_empty());
    for (local, buffer) in &sockets {
        assert!(PORTS.contains(&local.port()), "{sockets:?}");
        // The kernel doubles what is asked for.
        assert_eq!(*buffer, 2 * 131_072, "{sockets:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taken_ports_are_told_and_used_as_soon_as_they_are_free() {
    needs_networks!();
    let [host, inside] = ["host", "node"].map(Namespace::new);
    inside.cable(("eth0", "172.20.0.2/24"), &host, ("eth0", "172.20.0.1/24"));
    let taken = inside.take_port("172.20.0.2:50000");
    let mut hub = Watched::start(&host).await;
    let ice = "[ice]\nudp_ports = \"50000\"\n";
    let (mut node, _folder) = node(&inside, "172.20.0.1", ice, &[]);
    node.until("all UDP ports 50000-50000 of [ice] udp_ports are taken on 172.20.0.2")
        .await;
    let reason = hub.reason("unreachable").await;
    assert!(reason.contains("no UDP port is free here"), "{reason}");
    drop(taken);
    let _camera = camera(&host, "172.20.0.1");
    hub.detections(3).await;
}

/// No network at all but the machine's own: neither mDNS nor the absence of an address is in the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_loopback_alone_video_flows_and_nothing_listens_for_mdns() {
    needs_networks!();
    let alone = Namespace::new("alone");
    let mut hub = Watched::start(&alone).await;
    let (_node, _folder) = node(&alone, "127.0.0.1", "[ice]\nmdns = false\n", &[]);
    let candidates = hub.offered().await;
    assert!(
        !candidates.is_empty()
            && candidates
                .iter()
                .all(|c| c.0 == "127.0.0.1" && c.2 == "host"),
        "{candidates:?}"
    );
    let _camera = camera(&alone, "127.0.0.1");
    hub.detections(3).await;
    let sockets = udp_sockets(&alone);
    assert!(
        !sockets.is_empty() && sockets.iter().all(|(local, _)| local.port() != 5353),
        "{sockets:?}"
    );
}

/// A published port range, as `docker run -p 50000-50100:50000-50100/udp` sets it up: the host
/// translates what comes to its own address, and here it lets no other UDP out of the container. The
/// camera can only reach the announced address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_nat_the_announced_address_is_reached_through_the_published_ports() {
    needs_networks!();
    let [host, inside, outside] = ["host", "node", "cam"].map(Namespace::new);
    inside.cable(
        ("eth0", "172.20.0.2/24"),
        &host,
        ("docker0", "172.20.0.1/24"),
    );
    outside.cable(("eth0", "192.0.2.2/24"), &host, ("lan", "192.0.2.1/24"));
    inside.run("ip route add default via 172.20.0.1");
    host.run("sysctl -qw net.ipv4.ip_forward=1");
    host.firewall(
        "table ip docker {
            chain prerouting {
                type nat hook prerouting priority dstnat;
                iifname lan udp dport 50000-50100 dnat to 172.20.0.2
            }
            chain postrouting {
                type nat hook postrouting priority srcnat;
                oifname lan ip saddr 172.20.0.0/24 masquerade
            }
            chain forward {
                type filter hook forward priority filter;
                iifname docker0 meta l4proto udp ct state new drop
            }
        }",
    );
    let mut hub = Watched::start(&outside).await;
    let (_node, _folder) = node(&inside, "192.0.2.2", PUBLISHED, &[]);
    let candidates = hub.offered().await;
    assert!(
        candidates.len() == 1 && candidates[0].0 == "192.0.2.1" && candidates[0].2 == "host",
        "{candidates:?}"
    );
    assert!(PORTS.contains(&candidates[0].1), "{candidates:?}");
    let _camera = camera(&outside, "192.0.2.2");
    hub.detections(3).await;
}

/// Node and camera in two networks that have no way to each other but a TURN server in both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_two_networks_video_takes_the_relay() {
    needs_networks!();
    let [middle, left, right] = ["turn", "node", "cam"].map(Namespace::new);
    left.cable(
        ("eth0", "172.20.0.2/24"),
        &middle,
        ("left", "172.20.0.1/24"),
    );
    right.cable(
        ("eth0", "172.21.0.2/24"),
        &middle,
        ("right", "172.21.0.1/24"),
    );

    let _turn = turn_server(&middle, "");

    let mut hub = Watched::start(&middle).await;
    // A TURN server in the environment alone would do: it makes `relay` the default.
    let env = [
        ("PHYSTACK_TURN_URL", "turn:172.20.0.1:3478?transport=udp"),
        ("PHYSTACK_TURN_USERNAME", "node"),
        ("PHYSTACK_TURN_CREDENTIAL", "secret"),
    ];
    let (_node, _folder) = node(&left, "172.20.0.1", RELAY, &env);
    // The first offers may come before the server listens.
    let candidates = loop {
        let candidates = hub.offered().await;
        if !candidates.is_empty() {
            break candidates;
        }
    };
    assert!(
        candidates
            .iter()
            .all(|c| c.0 == "172.21.0.1" && c.2 == "relay"),
        "{candidates:?}"
    );
    let _camera = camera(&right, "172.21.0.1");
    hub.detections(3).await;
}

/// Two networks that have no way to each other but a TURN server in both, which is in the programs'
/// environment: that makes relays the only way.
struct Relayed {
    left: Namespace,
    right: Namespace,
    _middle: Namespace,
    _turn: (KilledAtEnd, tempfile::TempDir),
    _hub: Watched,
}

impl Relayed {
    async fn new(names: [&str; 3]) -> Self {
        let [middle, left, right] = names.map(Namespace::new);
        left.cable(
            ("eth0", "172.20.0.2/24"),
            &middle,
            ("left", "172.20.0.1/24"),
        );
        right.cable(
            ("eth0", "172.21.0.2/24"),
            &middle,
            ("right", "172.21.0.1/24"),
        );
        Self {
            _turn: turn_server(&middle, "listening-ip=172.21.0.1\n"),
            _hub: Watched::start(&middle).await,
            left,
            right,
            _middle: middle,
        }
    }

    fn start_left(&self, example: &str, twin: &str, args: &[&str]) -> Program {
        start_relayed(&self.left, "172.20.0.1", example, twin, args)
    }

    fn start_right(&self, example: &str, twin: &str, args: &[&str]) -> Program {
        start_relayed(&self.right, "172.21.0.1", example, twin, args)
    }
}

fn start_relayed(
    namespace: &Namespace,
    server: &str,
    example: &str,
    twin: &str,
    args: &[&str],
) -> Program {
    let program = crate::common::example(example);
    let mut command = namespace.command(program.to_str().unwrap());
    command.args(args);
    let hub = format!("http://{server}:{HUB_PORT}");
    let turn = format!("turn:{server}:3478");
    let env = [
        ("PHYSTACK_SIMULATOR_URL", &*hub),
        ("TWIN_ID", twin),
        ("PHYSTACK_TURN_URL", &*turn),
        ("PHYSTACK_TURN_USERNAME", "node"),
        ("PHYSTACK_TURN_CREDENTIAL", "secret"),
    ];
    Program::start(command, &env, false)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_peers_that_cannot_reach_each_other_meet_through_the_relay() {
    needs_networks!();
    let networks = Relayed::new(["turn", "echo", "ping"]).await;
    let mut echo = networks.start_left("echo", "echo", &["--twin", "echo"]);
    echo.until("ready").await;
    let args = [
        "--twin", "ping", "--peer", "echo", "--count", "20", "--mb", "1",
    ];
    let mut ping = networks.start_right("ping", "ping", &args);
    let line = ping.line().await.expect("the channel was open in time");
    let measured: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(measured["received"], 20, "{line}");
    println!("through the relay: {line}");
}

/// Pictures and sound of the one reach the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_media_stream_takes_the_relay() {
    needs_networks!();
    let networks = Relayed::new(["mturn", "send", "receive"]).await;
    let mut sender = networks.start_left("media_send", "sender", &[]);
    sender.until("ready").await;
    let mut receiver = networks.start_right("media_receive", "receiver", &["sender"]);
    receiver.until("packets of sound").await;
    let line = receiver.until("a frame of 640x360").await;
    println!("through the relay: {line}");
    assert!(receiver.ended().await.success());
}

/// The TURN server of `docs/guide/networking.md` in a namespace, with further settings.
fn turn_server(namespace: &Namespace, further: &str) -> (KilledAtEnd, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("turnserver.conf");
    let files = folder.path().display();
    let settings = format!(
        "{TURN}{further}userdb={files}/turn.db\npidfile={files}/turn.pid\nlog-file={files}/turn.log\nsimple-log\n"
    );
    std::fs::write(&config, settings).unwrap();
    let mut command = namespace.command("turnserver");
    command
        .arg("-c")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    (KilledAtEnd(command.spawn().unwrap()), folder)
}

struct KilledAtEnd(std::process::Child);

impl Drop for KilledAtEnd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
