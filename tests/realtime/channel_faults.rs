//! What goes wrong around data channels: peers that are killed, a hub that is restarted, and what a
//! malicious or broken peer sends through the hub.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::ports::unused_address;
use crate::common::{DEADLINE, Program};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use twinsight::dev::hub::{DevHubError, DevHubOptions};
use twinsight_client::hub::{ConnectionChange, HubClient, HubOptions, HubStatus, Items};
use twinsight_client::realtime::ice::IceSettings;
use twinsight_client::realtime::peer::Peer;
use twinsight_client::realtime::{
    AcceptOptions, DataChannel, DataChannelAcceptor, DataChannelOptions, Message,
};

/// Kills of a peer with an open channel.
const KILLS: u32 = 20;

/// From the peer's being ready to the channel's being open.
const BACK_WITHIN: Duration = Duration::from_secs(5);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(DEADLINE, future).await else {
        panic!("{what}: not within {DEADLINE:?}");
    };
    value
}

/// Waits until so many signals were refused.
async fn refused(acceptor: &DataChannelAcceptor, count: u64) {
    let started = Instant::now();
    while acceptor.refused() < count {
        assert!(
            started.elapsed() < DEADLINE,
            "{} of {count} signals were refused",
            acceptor.refused()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn loopback() -> IceSettings {
    IceSettings {
        interfaces: vec!["lo".to_owned()],
        ..IceSettings::default()
    }
}

fn options(name: &str) -> DataChannelOptions {
    DataChannelOptions::from(name).with_connect_limit(DEADLINE)
}

async fn client(url: &str, twin: &str) -> HubClient {
    let connecting = HubClient::connect(HubOptions::simulator(url, twin));
    soon("joining", connecting).await.unwrap()
}

/// The example `echo`, ready.
async fn echo(url: &str, name: &str) -> Program {
    let mut command = Command::new(crate::common::example("echo"));
    command.args(["--twin", "echo", "--name", name]);
    let mut echo = Program::start(command, &[("PHYSTACK_SIMULATOR_URL", url)], false);
    echo.until("ready").await;
    echo
}

/// Sends until the message comes back: right after a reconnect some are dropped.
async fn round_trip(channel: &DataChannel, messages: &mut Items<Message>, number: u32) {
    let message = Message::from(json!({ "round": number }));
    let trip = async {
        channel.opened().await.unwrap();
        channel.send(message.clone()).await.unwrap();
        while messages.recv().await.unwrap() != message {}
    };
    soon("a round trip", trip).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_killed_and_restarted_is_met_again_and_nothing_grows() {
    let url = crate::common::start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let mut peer = echo(&url, "kept").await;
    let instance = rust.instance();
    let channel = instance.get_data_channel("echo", options("kept")).await;
    let channel = channel.unwrap();
    let mut messages = channel.messages();
    let mut events = rust.connection_events();
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let mut slowest = Duration::ZERO;
    let mut tasks_before = 0;
    for number in 0..KILLS {
        round_trip(&channel, &mut messages, number).await;
        if number == 1 {
            tasks_before = tasks();
        }
        drop(peer);
        peer = echo(&url, "kept").await;
        let armed = Instant::now();
        let back = async {
            while !matches!(
                events.recv().await.unwrap().change,
                ConnectionChange::Reconnected { .. }
            ) {}
            channel.opened().await.unwrap();
        };
        soon("the channel", back).await;
        slowest = slowest.max(armed.elapsed());
        assert!(
            slowest < BACK_WITHIN,
            "back after {slowest:?}, round {number}"
        );
    }
    round_trip(&channel, &mut messages, KILLS).await;
    println!("back within {slowest:?} at most, {KILLS} times");
    let tasks_after = tasks();
    assert!(
        tasks_after <= tasks_before + 4,
        "{tasks_before} tasks have become {tasks_after}"
    );
}

/// A hub on an address of its own that can be stopped.
struct Hub {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), DevHubError>>,
}

impl Hub {
    async fn start(address: SocketAddr) -> (Self, SocketAddr) {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(twinsight::dev::hub::run(
            listener,
            DevHubOptions::default(),
            async {
                let _ = stopped.await;
            },
        ));
        (Self { stop, task }, address)
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_carries_on_while_the_hub_restarts() {
    let (hub, address) = Hub::start(unused_address()).await;
    let url = format!("http://{address}");
    let rust = client(&url, "rust").await;
    let peer = echo(&url, "kept").await;
    let instance = rust.instance();
    let channel = instance.get_data_channel("echo", options("kept")).await;
    let channel = channel.unwrap();
    let mut messages = channel.messages();
    round_trip(&channel, &mut messages, 0).await;
    let mut events = rust.connection_events();
    let mut status = rust.status();
    hub.stop().await;
    let away = status.wait_for(|status| !matches!(status, HubStatus::Joined { .. }));
    soon("the hub's absence", away).await.unwrap();
    round_trip(&channel, &mut messages, 1).await;
    let (_hub, _) = Hub::start(address).await;
    soon("the hub's return", rust.joined()).await.unwrap();
    round_trip(&channel, &mut messages, 2).await;
    // The connection that is used now came through the first hub; the next one has only the second.
    drop(peer);
    let _peer = echo(&url, "kept").await;
    let first = soon("an event", events.recv()).await.unwrap();
    assert_eq!(first.change, ConnectionChange::Disconnected);
    loop {
        let event = soon("the return", events.recv()).await.unwrap();
        if matches!(event.change, ConnectionChange::Reconnected { .. }) {
            break;
        }
    }
    round_trip(&channel, &mut messages, 3).await;
}

/// The signal of a peer as the hub carries it.
async fn signal(from: &HubClient, kind: &str, data: Value, peer_id: &Value) {
    let mut signal = json!({ "type": format!("dc-victim-victim:{kind}"), "data": data });
    if !peer_id.is_null() {
        signal["peerId"] = peer_id.clone();
    }
    from.send("victim", signal).await.unwrap();
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_malicious_peer_sends_is_counted_and_bounded() {
    let url = crate::common::start_hub(DevHubOptions::default()).await;
    let (victim, attacker, friend) = (
        client(&url, "victim").await,
        client(&url, "attacker").await,
        client(&url, "friend").await,
    );
    let answer = |channel: DataChannel| async move {
        let mut messages = channel.messages();
        while let Some(message) = messages.recv().await {
            channel.send(message).await.unwrap();
        }
    };
    let acceptor = victim
        .instance()
        .accept_data_channels(AcceptOptions::from(options("victim")), answer);
    let acceptor = acceptor.unwrap();
    // The acceptor is armed when it counts what cannot be read.
    while acceptor.refused() == 0 {
        signal(&attacker, "offer", json!("nonsense"), &Value::Null).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let wrong = [
        ("offer", json!({"sdp": "", "type": "offer"}), json!("a")),
        ("offer", json!({"sdp": 7}), json!("a")),
        (
            "offer",
            json!({"sdp": "a=ice-ufrag:x\r\n".repeat(10_000), "type": "offer"}),
            json!("a"),
        ),
        (
            "offer",
            json!({"sdp": "a=ice-ufrag:x", "type": "answer"}),
            json!("a"),
        ),
        ("ice", json!({"candidate": 7}), json!("a")),
        ("ice", json!("text"), json!("a")),
        ("hello", json!({}), json!("a")),
        (
            "offer",
            json!({"sdp": "a=ice-ufrag:x", "type": "offer"}),
            json!("x".repeat(900_000)),
        ),
        (
            "offer",
            json!({"sdp": "a=ice-ufrag:x", "type": "offer"}),
            json!(7),
        ),
    ];
    let before = acceptor.refused();
    for (kind, data, peer_id) in &wrong {
        signal(&attacker, kind, data.clone(), peer_id).await;
    }
    refused(&acceptor, before + wrong.len() as u64).await;
    // Descriptions that look like some, and break the stack's parser one by one.
    for broken in [
        "v=0",
        "v=0\r\no=- 0 0 IN IP4 0\r\ns=-\r\nt=0 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    ] {
        let sdp = format!("{broken}\r\na=ice-ufrag:x\r\n");
        signal(
            &attacker,
            "offer",
            json!({"sdp": sdp, "type": "offer"}),
            &json!(broken),
        )
        .await;
    }

    let memory = resident_bytes();
    // A thousand candidates for an offer that never comes, and one each from a thousand peers.
    let candidate = json!({"candidate": "candidate:1 1 udp 1 127.0.0.1 9 typ host", "sdpMid": "0"});
    let before = acceptor.refused();
    for number in 0..1000 {
        signal(&attacker, "ice", candidate.clone(), &json!("one")).await;
        signal(
            &attacker,
            "ice",
            candidate.clone(),
            &json!(format!("p{number}")),
        )
        .await;
        // More of them at once would be dropped before the acceptor sees them, and not count here.
        if number % 50 == 49 {
            let sent: u64 = number + 1;
            let of_one = sent.saturating_sub(32);
            refused(&acceptor, before + of_one + sent.saturating_sub(63)).await;
        }
    }

    // Offers that are good in all but that nobody is there.
    let (peer, _events) = Peer::for_messages(&loopback(), &[], 0).await.unwrap();
    let _channel = peer.create_channel("dc-victim-victim").await.unwrap();
    let sdp = peer.offer().await.unwrap();
    peer.close().await;
    let offer = json!({"sdp": sdp.as_str(), "type": "offer"});
    let before = acceptor.refused();
    for number in 0..10_000 {
        signal(
            &attacker,
            "offer",
            offer.clone(),
            &json!(format!("q{number}")),
        )
        .await;
        assert!(acceptor.peers() <= 8);
    }
    println!(
        "{} of 10000 offers were refused, {} have places",
        acceptor.refused() - before,
        acceptor.peers()
    );
    let grown = resident_bytes().saturating_sub(memory);
    println!("{} MB more are resident", grown >> 20);
    assert!(grown < 100 << 20, "{grown} bytes");

    // Their places are free again when they have not connected in time.
    let instance = friend.instance();
    let channel = instance.get_data_channel("victim", options("victim")).await;
    let channel = channel.unwrap();
    let mut messages = channel.messages();
    round_trip(&channel, &mut messages, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dialler_is_not_led_astray_by_others_signals() {
    let url = crate::common::start_hub(DevHubOptions {
        echo: true,
        ..DevHubOptions::default()
    })
    .await;
    let (rust, attacker) = (client(&url, "rust").await, client(&url, "attacker").await);
    let instance = rust.instance();
    let channel = instance.open_data_channel("echo", options("kept")).unwrap();
    let mut messages = channel.messages();
    let answer = json!({"sdp": "v=0\r\na=ice-ufrag:x\r\n", "type": "answer"});
    for peer_id in [json!("another"), Value::Null] {
        for number in 0..1000 {
            let mut signal = json!({"type": "dc-kept-rust:answer", "data": answer});
            if !peer_id.is_null() {
                signal["peerId"] = peer_id.clone();
            }
            attacker.send("rust", signal).await.unwrap();
            if number % 10 == 0 {
                let ice = json!({"type": "dc-kept-rust:ice", "data": {"candidate": "x"}});
                attacker.send("rust", ice).await.unwrap();
            }
        }
    }
    assert!(channel.is_connecting());
    let _peer = echo(&url, "kept").await;
    round_trip(&channel, &mut messages, 0).await;
}
