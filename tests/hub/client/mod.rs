//! The hub client against the development hub, and against hubs that misbehave.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bounds;
mod faults;
mod ice_servers;
mod joining;
mod messages;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::ports::unused_address;
use twinsight::dev::hub::DevHubOptions;
use twinsight::telemetry::metrics::Metrics;
use twinsight_client::hub::{AwayReason, HubClient, HubError, HubOptions, HubStatus, TwinMessage};

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
