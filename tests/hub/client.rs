//! The hub client against the development hub, and against hubs that misbehave.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::ports::unused_address;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use twinsight::dev::hub::{DevHubOptions, DirectAccess};
use twinsight::telemetry::metrics::Metrics;
use twinsight_client::hub::AwayReason;
use twinsight_client::hub::{
    ActionResult, ActionStatus, HubClient, HubError, HubOptions, HubStatus, Secret, TurnServer,
    TwinMessage,
};

/// Long enough for a busy machine; nothing waits for it to pass.
const DEADLINE: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}

/// A development hub on a runtime of its own, so that it can be killed like a process.
struct Hub {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Hub {
    async fn start(options: DevHubOptions) -> Self {
        Self::start_at(unused_address(), options).await
    }

    async fn start_at(address: SocketAddr, options: DevHubOptions) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let bound = runtime.spawn(async move {
            let listener = TcpListener::bind(address).await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move {
                twinsight::dev::hub::run(listener, options, std::future::pending()).await
            });
            address
        });
        Self {
            address: bound.await.unwrap(),
            runtime: Some(runtime),
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn options(&self, twin_id: &str) -> HubOptions {
        quick(HubOptions::simulator(self.url(), twin_id))
    }

    async fn client(&self, twin_id: &str) -> HubClient {
        let client = HubClient::start(self.options(twin_id));
        soon("joining", client.joined()).await.unwrap();
        client
    }

    /// Ends the hub without a word to its clients.
    async fn kill(mut self) -> SocketAddr {
        let runtime = self.runtime.take().unwrap();
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(DEADLINE))
            .await
            .unwrap();
        self.address
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// With delays that suit a test.
fn quick(mut options: HubOptions) -> HubOptions {
    options.timers.connect = DEADLINE;
    options.timers.refusal = Duration::from_millis(200);
    options.timers.backoff_first = Duration::from_millis(20);
    options.timers.backoff_cap = Duration::from_millis(100);
    options
}

async fn status(client: &HubClient, wanted: impl Fn(&HubStatus) -> bool) -> HubStatus {
    let mut status = client.status();
    let reached = soon("the status", status.wait_for(|status| wanted(status))).await;
    reached.unwrap().clone()
}

async fn away(client: &HubClient) -> AwayReason {
    match status(client, |status| matches!(status, HubStatus::Away { .. })).await {
        HubStatus::Away { reason, .. } => reason,
        other => panic!("not away: {other:?}"),
    }
}

type Peer = WebSocketStream<TcpStream>;

/// A hub that is played by hand.
struct Rogue {
    listener: TcpListener,
}

impl Rogue {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener }
    }

    fn options(&self) -> HubOptions {
        let url = format!("http://{}", self.listener.local_addr().unwrap());
        quick(HubOptions::simulator(url, "node"))
    }

    /// Takes the next client to the point where it wants to join.
    async fn greet(&self, handshake: Value) -> Peer {
        let (stream, _) = soon("a client", self.listener.accept()).await.unwrap();
        let mut peer = tokio_tungstenite::accept_async(stream).await.unwrap();
        say(&mut peer, &format!("0{handshake}")).await;
        assert_eq!(hear(&mut peer).await, r#"40{"instanceId":"node"}"#);
        say(&mut peer, r#"40{"sid":"x"}"#).await;
        peer
    }

    /// Takes the next client to the point where it is joined.
    async fn join(&self, handshake: Value) -> Peer {
        let mut peer = self.greet(handshake).await;
        for _ in 0..2 {
            let (id, _) = heard_call(&mut peer).await;
            say(&mut peer, &format!(r#"43{id}[{{"status":"success"}}]"#)).await;
        }
        peer
    }
}

fn handshake() -> Value {
    json!({"sid": "s", "upgrades": [], "pingInterval": 25000, "pingTimeout": 20000, "maxPayload": 1_000_000})
}

async fn say(peer: &mut Peer, text: &str) {
    peer.send(Message::text(text)).await.unwrap();
}

async fn hear(peer: &mut Peer) -> String {
    loop {
        match soon("a frame", peer.next()).await {
            Some(Ok(Message::Text(text))) => return text.to_string(),
            Some(Ok(_)) => {}
            other => panic!("the client left: {other:?}"),
        }
    }
}

/// The acknowledgement id and payload of the client's next call.
async fn heard_call(peer: &mut Peer) -> (u64, Value) {
    let text = hear(peer).await;
    let (id, json) = text
        .strip_prefix("42")
        .unwrap()
        .split_at(text.find('[').unwrap() - 2);
    let call: Value = serde_json::from_str(json).unwrap();
    (id.parse().unwrap(), call[1].clone())
}

fn to_twin(twin_id: &str) -> impl Fn(&TwinMessage) -> bool + Send + Sync + 'static {
    let twin_id = twin_id.to_owned();
    move |message| message.twin_id == twin_id
}

#[tokio::test]
async fn messages_go_both_ways_in_order() {
    let hub = Hub::start(DevHubOptions::default()).await;
    let (a, b) = (hub.client("a").await, hub.client("b").await);
    let (mut at_a, mut at_b) = (a.messages(200, to_twin("a")), b.messages(200, to_twin("b")));
    for n in 0..100 {
        a.send("b", json!({ "type": "count", "data": n }))
            .await
            .unwrap();
    }
    for n in 0..100 {
        let message = soon("a message", at_b.recv()).await.unwrap();
        assert_eq!(message.source_twin_id, "a");
        assert_eq!(message.data["data"], n);
    }
    b.send("a", json!({ "type": "back" })).await.unwrap();
    let message = soon("a message", at_a.recv()).await.unwrap();
    assert_eq!(message.message_type(), Some("back"));
}

#[tokio::test]
async fn events_reach_those_who_listen_to_the_twin() {
    let hub = Hub::start(DevHubOptions::default()).await;
    let (camera, viewer) = (hub.client("camera").await, hub.client("viewer").await);
    let mut seen = viewer.messages(10, to_twin("camera"));
    viewer.subscribe("camera").await.unwrap();
    camera
        .instance()
        .emit("seen", json!({ "n": 1 }))
        .await
        .unwrap();
    let message = soon("the event", seen.recv()).await.unwrap();
    assert_eq!(
        message.data,
        json!({
            "type": "edgeInstance:seen", "sourceTwinId": "camera",
            "sourceDeviceId": "dev-device", "data": { "n": 1 },
        })
    );
    viewer.unsubscribe("camera").await;
    // The hub handles what one client sends in order: this call is answered after the other.
    viewer.get_twin("camera").await.unwrap();
    camera
        .instance()
        .emit("seen", json!({ "n": 2 }))
        .await
        .unwrap();
    camera
        .send("viewer", json!({ "type": "end" }))
        .await
        .unwrap();
    let mut direct = viewer.messages(10, to_twin("viewer"));
    camera
        .send("viewer", json!({ "type": "end" }))
        .await
        .unwrap();
    soon("the end", direct.recv()).await.unwrap();
    assert_eq!(seen.try_recv(), None);
}

#[tokio::test]
async fn the_client_of_a_peripheral_speaks_as_it() {
    let hub = Hub::start(DevHubOptions::default()).await;
    let (edge, viewer) = (hub.client("edge").await, hub.client("viewer").await);
    let mut seen = viewer.messages(10, to_twin("lens"));
    viewer.subscribe("lens").await.unwrap();
    edge.peripheral_instance("lens")
        .await
        .unwrap()
        .emit("seen", json!({ "n": 1 }))
        .await
        .unwrap();
    let message = soon("the event", seen.recv()).await.unwrap();
    assert_eq!(message.source_twin_id, "edge");
    assert_eq!(message.data["type"], "peripheralInstance:lens:seen");
    assert_eq!(message.data["sourceTwinId"], "lens");
    edge.send_as("lens", "viewer", json!({ "type": "signal" }))
        .await
        .unwrap();
}

#[tokio::test]
async fn actions_are_answered_or_expire() {
    let hub = Hub::start(DevHubOptions::default()).await;
    let server = hub.client("server").await;
    let mut options = hub.options("impatient");
    options.timers.request = Duration::from_millis(300);
    let impatient = HubClient::start(options);
    soon("joining", impatient.joined()).await.unwrap();
    let asker = hub.client("asker").await;
    let mut actions = server.instance().events("add", 10);
    let answering = tokio::spawn(async move {
        let action = actions.recv().await.unwrap();
        assert!(action.is_request());
        assert_eq!(action.data, json!({ "a": 2, "b": 3 }));
        let result = ActionResult::success("added", Some(json!({ "sum": 5 })));
        action.respond(result).await.unwrap();
    });
    let target = asker.instance().to("server");
    let result = soon(
        "the answer",
        target.request("add", json!({ "a": 2, "b": 3 })),
    )
    .await;
    let result = result.unwrap();
    assert_eq!(result.status, ActionStatus::Success);
    assert_eq!(
        (result.message.as_str(), result.data),
        ("added", Some(json!({ "sum": 5 })))
    );
    answering.await.unwrap();
    let target = impatient.instance().to("server");
    let unheard = soon("the expiry", target.request("subtract", Value::Null)).await;
    assert!(matches!(unheard, Err(HubError::Expired { what, .. }) if what == "subtract"));
}

#[tokio::test]
async fn payloads_that_the_official_clients_lose_are_refused() {
    let hub = Hub::start(DevHubOptions::default()).await;
    let client = hub.client("a").await;
    for payload in [json!({}), json!([1]), json!("text"), json!(7), Value::Null] {
        let sent = client.instance().emit("x", payload).await;
        assert_eq!(sent, Err(HubError::Payload));
    }
    let long = json!({ "type": "x".repeat(1 << 20) });
    assert!(matches!(
        client.send("b", long).await,
        Err(HubError::TooLong { .. })
    ));
}

#[tokio::test]
async fn properties_are_reported_and_desired_ones_arrive() {
    let hub = Hub::start(DevHubOptions::default()).await;
    let client = hub.client("node").await;
    let mut updates = client.twin_updates();
    let mut desired = client.instance().desired_updates();
    let properties = json!({ "version": "1" }).as_object().unwrap().clone();
    let twin = client
        .instance()
        .update_reported(properties)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(twin.properties.reported["version"], "1");
    let update = soon("the update", updates.recv()).await.unwrap();
    assert_eq!((update.twin_id.as_str(), update.twin), ("node", twin));
    let first = soon("the first update", desired.recv()).await.unwrap();
    assert_eq!(first["settings"], json!({}));
    let operator = hub.client("operator").await;
    let payload = json!({ "twinId": "node", "data": { "settings": { "max_fps": 5 } } });
    operator
        .call("updatePeripheralTwinDesired", payload)
        .await
        .unwrap();
    let settings = soon("the settings", desired.recv()).await.unwrap();
    assert_eq!(settings["settings"], json!({ "max_fps": 5 }));
    let own = client.instance().twin().unwrap();
    assert_eq!(own.settings().unwrap()["max_fps"], 5);
}

#[tokio::test]
async fn twins_are_looked_up() {
    let hub = Hub::start(DevHubOptions {
        twins: vec![
            json!({ "id": "node", "type": "Edge" }),
            json!({ "id": "cam", "type": "Screen" }),
        ],
        strict: true,
        ..DevHubOptions::default()
    })
    .await;
    let client = hub.client("node").await;
    assert_eq!(client.get_twin("cam").await.unwrap().r#type, "Screen");
    let missing = client.get_twin("other").await;
    assert!(
        matches!(missing, Err(HubError::Rejected { .. })),
        "{missing:?}"
    );
}

#[tokio::test]
async fn a_restarted_hub_is_joined_again_and_messages_flow_again() {
    let hub = Hub::start(DevHubOptions::default()).await;
    let metrics = Arc::new(Metrics::new());
    let node = HubClient::start_counting(hub.options("node"), Some(Arc::clone(&metrics) as _));
    soon("joining", node.joined()).await.unwrap();
    assert_eq!(metrics.hub_connected.get(), 1);
    let mut seen = node.messages(10, to_twin("camera"));
    node.subscribe("camera").await.unwrap();
    let address = hub.kill().await;
    away(&node).await;
    assert_eq!(metrics.hub_connected.get(), 0);
    assert_eq!(
        node.send("camera", json!({ "type": "x" })).await,
        Err(HubError::Disconnected)
    );
    assert_eq!(node.get_twin("camera").await, Err(HubError::Disconnected));
    // Remembered although the hub is away.
    node.subscribe("late").await.unwrap();
    let mut late = node.messages(10, to_twin("late"));

    let hub = Hub::start_at(address, DevHubOptions::default()).await;
    soon("joining again", node.joined()).await.unwrap();
    assert_eq!(
        (metrics.hub_connected.get(), metrics.hub_reconnects.get()),
        (1, 1)
    );
    // Subscriptions are written before anything else: this answer comes after them.
    node.get_twin("node").await.unwrap();
    let camera = hub.client("other").await;
    camera
        .send("camera", json!({ "type": "seen" }))
        .await
        .unwrap();
    camera
        .send("late", json!({ "type": "seen" }))
        .await
        .unwrap();
    soon("a message", seen.recv()).await.unwrap();
    soon("a message", late.recv()).await.unwrap();
}

#[tokio::test]
async fn a_hub_that_disconnects_the_client_is_joined_again() {
    let rogue = Rogue::start().await;
    let client = HubClient::start(rogue.options());
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    say(&mut peer, "41").await;
    let mut peer = rogue.join(handshake()).await;
    soon("joining again", client.joined()).await.unwrap();
    client.send("x", json!({ "type": "t" })).await.unwrap();
    assert!(hear(&mut peer).await.contains("twinMessage"));
}

#[tokio::test]
async fn direct_mode_joins_as_the_device_twin() {
    let hub = Hub::start(DevHubOptions {
        direct: DirectAccess::Keys([("dev-1".to_owned(), "key-1".to_owned().into())].into()),
        ..DevHubOptions::default()
    })
    .await;
    let device = HubClient::start(quick(HubOptions::direct(
        hub.url(),
        "dev-1",
        "key-1".to_owned(),
    )));
    soon("joining", device.joined()).await.unwrap();
    assert_eq!(device.instance().twin_id(), "device-dev-1");
    assert_eq!(device.instance().twin().unwrap().r#type, "Device");
    let twin = hub.client("twin").await;
    let mut at_device = device.messages(10, to_twin("device-dev-1"));
    let mut at_twin = twin.messages(10, to_twin("twin"));
    device
        .send("twin", json!({ "type": "hello" }))
        .await
        .unwrap();
    let message = soon("a message", at_twin.recv()).await.unwrap();
    assert_eq!(message.source_twin_id, "device-dev-1");
    assert_eq!(message.source_device_id, "dev-1");
    twin.send("device-dev-1", json!({ "type": "hello" }))
        .await
        .unwrap();
    soon("a message", at_device.recv()).await.unwrap();
}

#[tokio::test]
async fn a_refused_key_is_final() {
    let hub = Hub::start(DevHubOptions {
        direct: DirectAccess::Keys([("dev-1".to_owned(), "key-1".to_owned().into())].into()),
        ..DevHubOptions::default()
    })
    .await;
    let options = quick(HubOptions::direct(hub.url(), "dev-1", "key-2".to_owned()));
    let metrics = Arc::new(Metrics::new());
    let client = HubClient::start_counting(options, Some(Arc::clone(&metrics) as _));
    let refused = soon("the refusal", client.joined()).await;
    let text = metrics.encode();
    let counted = |line: &&str| line.starts_with("twinsight_hub_losses_total{reason=\"key\"}");
    let counted = text.lines().find(counted).unwrap();
    assert!(!counted.ends_with(" 0"), "{counted}");
    assert!(
        matches!(refused, Err(HubError::Refused { .. })),
        "{refused:?}"
    );
    let sent = client.send("x", json!({ "type": "t" })).await;
    assert!(matches!(sent, Err(HubError::Refused { .. })), "{sent:?}");
    client.subscribe("x").await.unwrap();
    soon("closing", client.close()).await;
    assert!(matches!(
        &*client.status().borrow(),
        HubStatus::Refused { .. }
    ));
}

/// Takes the next client in direct mode to the point where it wants to know whether its key is good.
async fn greet_device(rogue: &Rogue) -> Peer {
    let (stream, _) = soon("a client", rogue.listener.accept()).await.unwrap();
    let mut peer = tokio_tungstenite::accept_async(stream).await.unwrap();
    say(&mut peer, &format!("0{}", handshake())).await;
    assert!(hear(&mut peer).await.starts_with("40{"));
    peer
}

#[tokio::test]
async fn a_hub_whose_auth_service_restarts_is_tried_until_it_is_back() {
    let rogue = Rogue::start().await;
    let url = format!("http://{}", rogue.listener.local_addr().unwrap());
    let mut options = quick(HubOptions::direct(url, "dev", "the-access-key".to_owned()));
    options.timers.refusal = Duration::from_millis(50);
    let client = HubClient::start(options);
    // Much more often than a refusal would need, and with a refusal now and then.
    for n in 0..12 {
        let mut peer = greet_device(&rogue).await;
        if n % 3 == 0 {
            say(&mut peer, r#"44{"message":"auth service is restarting"}"#).await;
            continue;
        }
        say(&mut peer, "40").await;
        hear(&mut peer).await;
        let answer = match n % 3 {
            1 => r#"42["deviceAuthenticated"]"#,
            _ => {
                r#"42["deviceAuthenticated",{"status":"error","message":"key the-access-key is unknown"}]"#
            }
        };
        say(&mut peer, answer).await;
    }
    let reason = away(&client).await.to_string();
    assert!(!reason.contains("the-access-key"), "{reason}");
    let mut peer = greet_device(&rogue).await;
    say(&mut peer, "40").await;
    hear(&mut peer).await;
    say(
        &mut peer,
        r#"42["deviceAuthenticated",{"status":"success"}]"#,
    )
    .await;
    hear(&mut peer).await;
    say(
        &mut peer,
        r#"430[{"status":"success","twins":[{"id":"d"}]}]"#,
    )
    .await;
    hear(&mut peer).await;
    say(&mut peer, "431[{}]").await;
    soon("joining", client.joined()).await.unwrap();
}

#[tokio::test]
async fn bursts_of_pings_and_of_wishes_for_acknowledgements_end_nothing() {
    const BURST: usize = 20_000;
    let rogue = Rogue::start().await;
    let metrics = Arc::new(Metrics::new());
    let client = HubClient::start_counting(rogue.options(), Some(Arc::clone(&metrics) as _));
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let _messages = client.messages(10, |message| message.twin_id == "node");
    // All of it is on the way before the first answer is read.
    let (mut sink, mut stream) = peer.split();
    let burst = async {
        for n in 0..BURST {
            for frame in [
                Message::text("2"),
                Message::Ping(vec![7; 100].into()),
                Message::text("6"),
                Message::text("439999999[1]"),
                Message::text("499999999999-[]"),
                Message::text(format!("42{n}[\"news\",1]")),
            ] {
                sink.feed(frame).await.unwrap();
            }
        }
        sink.send(Message::text("2last")).await.unwrap();
    };
    let answers = async {
        let (mut acks, mut is_last) = (0, false);
        while acks < BURST || !is_last {
            match soon("an answer", stream.next()).await {
                Some(Ok(Message::Text(text))) => {
                    acks += usize::from(text.starts_with("43"));
                    is_last |= text.as_str() == "3last";
                }
                Some(Ok(_)) => {}
                other => panic!("the client left: {other:?}"),
            }
        }
    };
    tokio::join!(burst, answers);
    peer = sink.reunite(stream).unwrap();
    let (answer, ()) = tokio::join!(soon("the answer", client.get_twin("x")), async {
        let (id, _) = loop {
            let text = hear(&mut peer).await;
            if let Some(call) = text.strip_prefix("42") {
                let (id, call) = call.split_at(call.find('[').unwrap());
                break (id.parse::<u64>().unwrap(), call.to_owned());
            }
        };
        say(&mut peer, &format!(r#"43{id}[{{"twin":{{"id":"x"}}}}]"#)).await;
    });
    assert_eq!(answer.unwrap().id, "x");
    assert_eq!(metrics.hub_reconnects.get(), 0);
    let malformed = metrics.encode();
    let counted = malformed
        .lines()
        .find_map(|line| {
            line.strip_prefix("twinsight_malformed_input_total{kind=\"hub_message\"} ")
        })
        .and_then(|count| count.parse::<usize>().ok());
    assert!(counted >= Some(2 * BURST), "{counted:?}");
}

#[tokio::test]
async fn a_hub_that_wants_acknowledgements_and_takes_none_is_left_with_a_reason() {
    let rogue = Rogue::start().await;
    let mut options = rogue.options();
    options.timers.write = Duration::from_millis(500);
    let client = HubClient::start(options);
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let flood = tokio::spawn(async move {
        // Nothing is read; it ends when the client is gone.
        for n in 0_u64.. {
            let text = format!("42{n}[\"news\",1]");
            if peer.send(Message::text(text)).await.is_err() {
                return;
            }
        }
    });
    assert_eq!(away(&client).await, AwayReason::Stuck);
    soon("the end of the flood", flood).await.unwrap();
}

#[tokio::test]
async fn a_frame_that_is_far_too_long_ends_the_connection_with_a_reason() {
    let rogue = Rogue::start().await;
    let client = HubClient::start(rogue.options());
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let long = Message::text("4".repeat(5 << 20));
    let (reason, _) = tokio::join!(away(&client), peer.send(long));
    assert!(
        matches!(&reason, AwayReason::Socket(why) if why.contains("too long")),
        "{reason:?}"
    );
    rogue.join(handshake()).await;
}

#[tokio::test]
async fn calls_and_messages_share_the_bytes_that_may_wait() {
    let rogue = Rogue::start().await;
    let mut options = rogue.options();
    options.timers.write = DEADLINE;
    let client = HubClient::start(options);
    let peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    client
        .try_send_as("node", "x", json!({ "type": "t" }))
        .unwrap();
    // The hub reads nothing, so that these fill the socket and then what may wait.
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let payload = json!({ "data": "x".repeat(900_000) });
                client.call("reportEdgeTwinProperties", payload).await
            })
        })
        .collect();
    // This runtime has one thread: each time around every call goes as far as it can.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let sent = client.try_send_as("node", "x", json!({ "type": "x".repeat(900_000) }));
    assert_eq!(sent, Err(HubError::Busy));
    drop(peer);
    for call in calls {
        let outcome = soon("the end of a call", call).await.unwrap();
        assert!(outcome.is_err(), "{outcome:?}");
    }
    // What they held is given back.
    let _peer = rogue.join(handshake()).await;
    soon("joining again", client.joined()).await.unwrap();
    soon(
        "a message",
        client.send("x", json!({ "type": "x".repeat(900_000) })),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_subscription_that_ends_before_it_was_awaited_is_taken_back() {
    let rogue = Rogue::start().await;
    let client = HubClient::start(rogue.options());
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let subscribing = client.subscribe("cam");
    client.unsubscribe("cam").await;
    let subscribing = tokio::spawn(subscribing);
    let (id, call) = heard_call(&mut peer).await;
    assert_eq!(
        (&call["method"], &call["twinId"]),
        (&json!("twinSubscribe"), &json!("cam"))
    );
    assert!(hear(&mut peer).await.contains("twinUnsubscribe"));
    say(&mut peer, &format!(r#"43{id}[{{"status":"success"}}]"#)).await;
    soon("the subscription", subscribing)
        .await
        .unwrap()
        .unwrap();
    // Nothing is left of it: it does not come back with the hub.
    drop(peer);
    let mut peer = rogue.join(handshake()).await;
    soon("joining again", client.joined()).await.unwrap();
    client.send("x", json!({ "type": "t" })).await.unwrap();
    assert!(hear(&mut peer).await.contains("twinMessage"));
}

#[tokio::test]
async fn a_second_client_with_our_twin_id_is_noticed_and_our_own_echo_is_not() {
    let hub = Hub::start(DevHubOptions {
        echo: true,
        ..DevHubOptions::default()
    })
    .await;
    let counted = |metrics: &Metrics| metrics.twin_id_conflicts.get();
    let node = |run_id: &'static str| {
        let metrics = Arc::new(Metrics::new());
        let client =
            HubClient::start_counting(hub.options("node"), Some(Arc::clone(&metrics) as _));
        client.watch_for_namesakes(run_id);
        (client, metrics)
    };
    let (one, counted_by_one) = node("run-1");
    soon("joining", one.joined()).await.unwrap();
    one.subscribe("cam").await.unwrap();
    let offer = |sdp: &str| json!({ "type": "media-default-cam:offer", "data": { "sdp": sdp, "type": "offer" }, "peerId": sdp });
    let seen = |run: &str| json!({ "runId": run, "sequence": 1 });
    one.send("cam", offer("one")).await.unwrap();
    one.instance()
        .emit("detections", seen("run-1"))
        .await
        .unwrap();
    // Answered after the echo of both.
    one.get_twin("node").await.unwrap();
    assert_eq!(counted(&counted_by_one), 0);

    let (two, counted_by_two) = node("run-2");
    soon("joining", two.joined()).await.unwrap();
    two.subscribe("cam").await.unwrap();
    two.send("cam", offer("two")).await.unwrap();
    two.instance()
        .emit("detections", seen("run-2"))
        .await
        .unwrap();
    two.get_twin("node").await.unwrap();
    soon("the sightings", async {
        while counted(&counted_by_one) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(counted(&counted_by_two), 0);
}

#[tokio::test]
async fn large_messages_wait_for_a_receiver_up_to_a_limit_in_bytes() {
    let rogue = Rogue::start().await;
    let client = HubClient::start(rogue.options());
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let mut slow = client.messages(64, |message| message.twin_id == "node");
    let mut end = client.messages(1, |message| message.twin_id == "end");
    let numbers = "0,".repeat(450_000);
    for n in 0..8 {
        let text = format!(r#"42["twinMessage",{{"twinId":"node","data":[{numbers}{n}]}}]"#);
        say(&mut peer, &text).await;
    }
    say(&mut peer, r#"42["twinMessage",{"twinId":"end","data":1}]"#).await;
    soon("the end", end.recv()).await.unwrap();
    assert_eq!(slow.missed(), 6);
    for n in 0..2 {
        let message = soon("a message", slow.recv()).await.unwrap();
        assert_eq!(message.data[450_000], n);
    }
    assert_eq!(slow.try_recv(), None);
    say(
        &mut peer,
        r#"42["twinMessage",{"twinId":"node","data":"again"}]"#,
    )
    .await;
    assert_eq!(soon("a message", slow.recv()).await.unwrap().data, "again");
}

#[tokio::test]
async fn large_updates_of_twins_wait_in_the_places_of_several() {
    let rogue = Rogue::start().await;
    let client = HubClient::start(rogue.options());
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let mut updates = client.twin_updates();
    let mut end = client.messages(1, |message| message.twin_id == "end");
    let text = "x".repeat(500_000);
    for n in 0..20 {
        let update = json!({ "id": "cam", "type": n.to_string(), "status": text });
        say(&mut peer, &format!(r#"42["twinUpdated",{update}]"#)).await;
    }
    for n in 20..24 {
        let update = json!({ "id": "cam", "type": n.to_string() });
        say(&mut peer, &format!(r#"42["twinUpdated",{update}]"#)).await;
    }
    say(&mut peer, r#"42["twinMessage",{"twinId":"end","data":1}]"#).await;
    soon("the end", end.recv()).await.unwrap();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "23") {
        seen.push(soon("an update", updates.recv()).await.unwrap().twin.r#type);
    }
    // Sixteen places for each of the large ones, one for each of the small ones, of 64.
    assert_eq!(seen, ["17", "18", "19", "20", "21", "22", "23"]);
    assert_eq!(updates.missed(), 17);
}

/// Frames that mean something, with pieces of them replaced by what readers stumble over.
fn mutated(random: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
    const SEEDS: &[&str] = &[
        r#"0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#,
        "2probe",
        "6",
        r#"43{}[{"status":"success","twin":{"id":"node","type":"Edge"}}]"#,
        r#"4217["twinMessage",{"twinId":"node","sourceTwinId":"cam","data":{"type":"media-default-node:offer","data":{"sdp":"v=0","type":"offer"},"peerId":"p"}}]"#,
        r#"42["twinMessage",{"twinId":"node","sourceTwinId":"node","data":{"type":"edgeInstance:detections","data":{"runId":"x"}}}]"#,
        r#"42["twinMessage",{"twinId":"node","sourceTwinId":"cam","data":{"type":"edgeInstance:response","data":{"requestId":"7","status":"success"}}}]"#,
        r#"4218["twinUpdated",{"twinId":"node","data":{"id":"node","type":"Edge","properties":{"desired":{"settings":{}}}}}]"#,
        r#"452-19["twinMessage",{"twinId":"node","data":{"_placeholder":true,"num":0}}]"#,
    ];
    let pieces: [Vec<u8>; 10] = [
        b"[".repeat(3000),
        br#"{"a":"#.repeat(3000),
        b"9".repeat(400),
        b"-1e999999".to_vec(),
        b"18446744073709551616".to_vec(),
        b"null".to_vec(),
        br#""\ud800""#.to_vec(),
        b"x".repeat(900_000),
        Vec::new(),
        vec![0xff, 0x00, 0x1b],
    ];
    let mut frame = SEEDS[random(SEEDS.len())].as_bytes().to_vec();
    for _ in 0..random(3) {
        let from = random(frame.len() + 1);
        let end = (from + random(12)).min(frame.len());
        let piece = if random(40) == 0 {
            7
        } else {
            [0, 1, 2, 3, 4, 5, 6, 8, 9][random(9)]
        };
        frame.splice(from..end, pieces[piece].iter().copied());
    }
    frame
}

#[tokio::test]
async fn no_frame_of_a_hub_ends_the_client_or_fills_its_memory() {
    const FRAMES: usize = 4000;
    let rogue = Rogue::start().await;
    let metrics = Arc::new(Metrics::new());
    let client = HubClient::start_counting(rogue.options(), Some(Arc::clone(&metrics) as _));
    client.watch_for_namesakes("run");
    let mut messages = client.messages(8, |_| true);
    let _updates = client.twin_updates();
    let _events = client.instance().events("seen", 8);
    // A fixed seed: what fails fails again.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let mut left = FRAMES;
    while left > 0 {
        let mut peer = rogue.join(handshake()).await;
        soon("joining", client.joined()).await.unwrap();
        while left > 0 {
            left -= 1;
            let frame = mutated(&mut random);
            let message = match String::from_utf8(frame) {
                Ok(text) if random(8) > 0 => Message::text(text),
                Ok(text) => Message::binary(text.into_bytes()),
                Err(error) => Message::binary(error.into_bytes()),
            };
            if soon("a frame", peer.send(message)).await.is_err() {
                break;
            }
            while messages.try_recv().is_some() {}
        }
    }
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    while messages.try_recv().is_some() {}
    say(
        &mut peer,
        r#"42["twinMessage",{"twinId":"node","data":"well"}]"#,
    )
    .await;
    assert_eq!(
        soon("a message", messages.recv()).await.unwrap().data,
        "well"
    );
}

#[tokio::test]
async fn a_hub_that_does_not_acknowledge_lets_calls_expire() {
    let rogue = Rogue::start().await;
    let mut options = rogue.options();
    options.timers.ack = Duration::from_millis(300);
    let client = HubClient::start(options);
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let (answer, ()) = tokio::join!(soon("the expiry", client.get_twin("x")), async {
        heard_call(&mut peer).await;
    });
    assert!(matches!(answer, Err(HubError::Expired { what, .. }) if what == "getTwinById"));
    // It is still joined: the next call is answered.
    let (answer, ()) = tokio::join!(soon("the answer", client.get_twin("x")), async {
        let (id, _) = heard_call(&mut peer).await;
        say(&mut peer, &format!(r#"43{id}[{{"twin":{{"id":"x"}}}}]"#)).await;
    });
    assert_eq!(answer.unwrap().id, "x");
}

#[tokio::test]
async fn a_mute_hub_is_left() {
    let rogue = Rogue::start().await;
    let client = HubClient::start(rogue.options());
    let mut terms = handshake();
    // The time counts from the handshake on, and joining has to be over by then.
    terms["pingInterval"] = 1000.into();
    terms["pingTimeout"] = 1000.into();
    let _peer = rogue.join(terms).await;
    soon("joining", client.joined()).await.unwrap();
    let limit = Duration::from_secs(2);
    assert_eq!(away(&client).await, AwayReason::PingTimeout(limit));
    // And dialled again.
    rogue.join(handshake()).await;
}

#[tokio::test]
async fn malformed_frames_are_counted_and_the_stream_goes_on() {
    let rogue = Rogue::start().await;
    let metrics = Arc::new(Metrics::new());
    let client = HubClient::start_counting(rogue.options(), Some(Arc::clone(&metrics) as _));
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let mut messages = client.messages(10, to_twin("node"));
    let nonsense = [
        "",
        "x",
        "42",
        "42[",
        "42[7]",
        r#"42["twinMessage",[]]"#,
        "451-[\"a\"]",
        "40",
    ];
    for text in nonsense {
        say(&mut peer, text).await;
    }
    peer.send(Message::binary(vec![0xff, 0xfe])).await.unwrap();
    peer.send(Message::text("4".repeat(2 << 20))).await.unwrap();
    say(
        &mut peer,
        r#"42["twinMessage",{"twinId":"node","data":{"type":"t"}}]"#,
    )
    .await;
    soon("the message", messages.recv()).await.unwrap();
    // The packet that announces an attachment is counted when the next one cuts it short.
    let text = metrics.encode();
    let counted = format!(
        "malformed_input_total{{kind=\"hub_message\"}} {}",
        nonsense.len() + 2
    );
    assert!(text.contains(&counted), "{text}");
    assert!(matches!(
        &*client.status().borrow(),
        HubStatus::Joined { .. }
    ));
}

#[tokio::test]
async fn the_hub_gets_the_acknowledgements_that_it_asks_for() {
    let rogue = Rogue::start().await;
    let client = HubClient::start(rogue.options());
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let _messages = client.messages(10, |message| message.twin_id == "node");
    say(
        &mut peer,
        r#"425["twinMessage",{"twinId":"node","data":{"type":"t"}}]"#,
    )
    .await;
    let answer = r#"435[{"message":"Action completed","status":"success"}]"#;
    assert_eq!(hear(&mut peer).await, answer);
    say(
        &mut peer,
        r#"426["twinMessage",{"twinId":"other","data":{"type":"t"}}]"#,
    )
    .await;
    assert!(
        hear(&mut peer)
            .await
            .starts_with(r#"436[{"message":"No listeners"#)
    );
    say(&mut peer, "2probe").await;
    assert_eq!(hear(&mut peer).await, "3probe");
}

#[tokio::test]
async fn a_hub_that_takes_nothing_is_left_and_senders_are_told() {
    let rogue = Rogue::start().await;
    let mut options = rogue.options();
    options.timers.write = Duration::from_millis(300);
    let client = HubClient::start(options);
    let peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let sends = (0..40).map(|_| {
        let client = client.clone();
        async move {
            client
                .send("x", json!({ "type": "x".repeat(900_000) }))
                .await
        }
    });
    let outcomes = soon(
        "the end of all sends",
        futures_util::future::join_all(sends),
    )
    .await;
    assert!(
        outcomes.contains(&Err(HubError::Disconnected)),
        "{outcomes:?}"
    );
    drop(peer);
}

#[tokio::test]
async fn what_a_receiver_does_not_take_is_dropped_and_counted() {
    let rogue = Rogue::start().await;
    let metrics = Arc::new(Metrics::new());
    let client = HubClient::start_counting(rogue.options(), Some(Arc::clone(&metrics) as _));
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let mut slow = client.messages(2, |message| message.twin_id == "node");
    let mut other = client.messages(10, |message| message.twin_id == "end");
    for n in 0..5 {
        let text = format!(r#"42["twinMessage",{{"twinId":"node","data":{n}}}]"#);
        say(&mut peer, &text).await;
    }
    say(&mut peer, r#"42["twinMessage",{"twinId":"end","data":1}]"#).await;
    soon("the last message", other.recv()).await.unwrap();
    assert_eq!(slow.missed(), 3);
    assert_eq!(slow.recv().await.unwrap().data, 0);
    assert_eq!(slow.recv().await.unwrap().data, 1);
    assert_eq!(slow.try_recv(), None);
    assert!(
        metrics
            .encode()
            .contains("signals_refused_total{reason=\"overflow\"} 3")
    );
}

#[tokio::test]
async fn ice_servers_come_from_the_hub_then_from_the_operator() {
    let hub = Hub::start(DevHubOptions {
        ice_servers: vec![json!({ "urls": "turn:hub", "username": "u", "credential": "c" })],
        ..DevHubOptions::default()
    })
    .await;
    let mut options = hub.options("node");
    options.stun_url = Some("stun:operator".to_owned());
    options.turn = Some(TurnServer {
        url: "turn:operator".to_owned(),
        username: "u".to_owned(),
        credential: "c".to_owned().into(),
    });
    let client = HubClient::start(options);
    let urls = async || -> Vec<String> {
        let servers = soon("the servers", client.ice_servers()).await;
        servers.into_iter().flat_map(|server| server.urls).collect()
    };
    soon("joining", client.joined()).await.unwrap();
    assert_eq!(urls().await, ["turn:hub", "stun:operator", "turn:operator"]);
    hub.kill().await;
    away(&client).await;
    // Still fresh.
    assert_eq!(urls().await, ["turn:hub", "stun:operator", "turn:operator"]);
}

#[tokio::test]
async fn a_twin_that_the_hub_does_not_know_yet_is_waited_for() {
    let rogue = Rogue::start().await;
    let client = HubClient::start(rogue.options());
    let mut peer = rogue.greet(handshake()).await;
    for _ in 0..2 {
        let (id, _) = heard_call(&mut peer).await;
        let unknown = r#"{"status":"error","message":"Twin not found"}"#;
        say(&mut peer, &format!("43{id}[{unknown}]")).await;
    }
    let reason = away(&client).await;
    assert!(matches!(reason, AwayReason::Rejected { .. }), "{reason:?}");
    let _peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_key_that_is_rotated_in_its_file_is_taken_at_the_next_connection() {
    let with_key = |key: &str| DevHubOptions {
        direct: DirectAccess::Keys([("dev-1".to_owned(), key.to_owned().into())].into()),
        ..DevHubOptions::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "old\n").unwrap();
    let hub = Hub::start(with_key("old")).await;
    let key = Secret::of_file(&file, "old\n").unwrap();
    let client = HubClient::start(quick(HubOptions::direct(hub.url(), "dev-1", key.clone())));
    soon("joining", client.joined()).await.unwrap();

    // First at the hub, then in the file: refused meanwhile, and not given up.
    let address = hub.kill().await;
    let hub = Hub::start_at(address, with_key("new")).await;
    let refused = |status: &HubStatus| {
        let reason = match status {
            HubStatus::Away { reason, .. } => reason,
            _ => return false,
        };
        matches!(reason, AwayReason::KeyRefused(_))
    };
    status(&client, refused).await;
    std::fs::write(&file, "new\n").unwrap();
    soon("joining with the new key", client.joined())
        .await
        .unwrap();

    // A client whose key never is good is refused in the end.
    let stranger = HubClient::start(quick(HubOptions::direct(
        hub.url(),
        "dev-1",
        "wrong".to_owned(),
    )));
    assert!(matches!(
        soon("the refusal", stranger.joined()).await,
        Err(HubError::Refused { .. })
    ));
}

#[tokio::test]
async fn without_a_hubs_answer_the_operators_ice_servers_are_alone() {
    let rogue = Rogue::start().await;
    let mut options = rogue.options();
    options.timers.ice_servers = Duration::from_millis(300);
    options.stun_url = Some("stun:operator".to_owned());
    let client = HubClient::start(options);
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let (servers, ()) = tokio::join!(soon("the servers", client.ice_servers()), async {
        let (_, payload) = heard_call(&mut peer).await;
        assert_eq!(payload["data"], json!({ "useCase": "media" }));
    });
    assert_eq!(servers.len(), 1);
    assert_eq!(servers[0].urls, ["stun:operator"]);
}

#[tokio::test]
async fn closing_writes_what_was_sent_and_says_goodbye() {
    let rogue = Rogue::start().await;
    let client = HubClient::start(rogue.options());
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let mut messages = client.messages(1, |_| true);
    client.send("x", json!({ "type": "last" })).await.unwrap();
    let closer = client.clone();
    let closing = tokio::spawn(async move { closer.close().await });
    assert!(hear(&mut peer).await.contains("last"));
    assert_eq!(hear(&mut peer).await, "41");
    soon("closing", closing).await.unwrap();
    assert_eq!(away(&client).await, AwayReason::ClosedHere);
    assert_eq!(
        client.send("x", json!({ "type": "t" })).await,
        Err(HubError::Closed)
    );
    assert_eq!(soon("the end of messages", messages.recv()).await, None);
}

#[tokio::test]
async fn a_hub_that_cannot_be_reached_is_tried_again() {
    let address = unused_address();
    let client = HubClient::start(quick(HubOptions::simulator(
        format!("http://{address}"),
        "node",
    )));
    assert!(matches!(away(&client).await, AwayReason::Socket(_)));
    status(&client, |status| {
        matches!(status, HubStatus::Connecting { attempt: 3.. })
    })
    .await;
    let _hub = Hub::start_at(address, DevHubOptions::default()).await;
    soon("joining", client.joined()).await.unwrap();
}
