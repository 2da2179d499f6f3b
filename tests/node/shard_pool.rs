//! Nodes that share cameras by leases in a real etcd. Hub, cameras and nodes are ours and real, the detectors are fakes; a listener on
//! the hub hears what all nodes publish, and says whether a camera ever had two of them.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::common::{DEADLINE, fake, http_get, start_hub, twinsight};
use crate::etcd::Etcd;
use serde_json::Value;
use tokio::net::TcpListener;
use twinsight::dev::hub::DevHubOptions;
use twinsight::node::Node;
use twinsight_client::hub::{HubClient, HubOptions};

pub(crate) const CAMERAS: usize = 6;

/// The usual one: a shorter one runs out where other tests have the processors for a moment.
const LEASE: Duration = Duration::from_secs(6);

/// A camera that moves is not seen for at most this long: five times what is expected, and less than the lease, without whose end
/// nobody takes a camera from a node that does not give it.
const GAP: Duration = Duration::from_millis(2500);

pub(crate) struct TestNode {
    name: &'static str,
    node: Node,
    pub(crate) http: SocketAddr,
}

impl TestNode {
    async fn start(name: &'static str, hub: &str, etcd: &str) -> Self {
        let pool = format!(
            "[node]\nname = \"{name}\"\npool = \"test\"\n[node.lease]\nengine = \"etcd\"\nurl = \"{etcd}\"\nduration_ms = {}\n",
            LEASE.as_millis()
        );
        Self::start_with(name, hub, &pool).await
    }

    pub(crate) async fn start_with(name: &'static str, hub: &str, node: &str) -> Self {
        let mut config = format!(
            "[hub]\ntwin_id = \"{name}\"\n{node}[defaults]\nmax_fps = 0.0\n[defaults.track]\nconfirm_ms = 0\n"
        );
        for n in 0..CAMERAS {
            config += &format!("[[cameras]]\ntwin_id = \"cam-{n}\"\n");
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        let inference = Duration::from_millis(1);
        let node = fake::node_at(hub, name, &config, inference, listener).await;
        Self { name, node, http }
    }

    pub(crate) fn share(&self) -> Value {
        let node: Value = serde_json::from_str(&http_get(self.http, "/api/node")).unwrap();
        node["share"].clone()
    }

    pub(crate) fn held(&self) -> u64 {
        self.share()["held"].as_u64().unwrap()
    }

    /// Ends the node, whose ledgers must balance then.
    pub(crate) async fn end(self) {
        let metrics = Arc::clone(self.node.metrics());
        self.node.shutdown().await;
        for stream in metrics.all_streams() {
            let ledger = stream.ledger();
            assert!(
                ledger.balances(),
                "{} of {}: {ledger:?}",
                stream.id(),
                self.name
            );
        }
    }
}

/// What all nodes publish, as it comes.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<HeardEvent>>>);

/// When it came, which node sent it, what it is called, and what is in it.
type HeardEvent = (Instant, String, String, Value);

impl Heard {
    async fn listen(hub: &str, nodes: &[&str]) -> (HubClient, Self) {
        let app = HubClient::start(HubOptions::simulator(hub, "app"));
        app.joined().await.unwrap();
        for node in nodes {
            app.subscribe(node).await.unwrap();
        }
        let mut messages = app.messages(8192, |message| {
            message
                .message_type()
                .is_some_and(|kind| kind.starts_with("edgeInstance:"))
        });
        let heard = Self::default();
        let all = heard.clone();
        tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                let kind = message.message_type().unwrap_or_default();
                let kind = kind.trim_start_matches("edgeInstance:").to_owned();
                let data = message.data["data"].clone();
                all.0
                    .lock()
                    .unwrap()
                    .push((Instant::now(), message.source_twin_id, kind, data));
            }
        });
        (app, heard)
    }

    /// Each time that a camera had another publisher than before: camera, the one before, the one after, and the time between.
    fn moves(&self, since: Instant) -> Vec<(String, String, String, Duration)> {
        let mut last: BTreeMap<String, (Instant, String)> = BTreeMap::new();
        let mut moves = Vec::new();
        for (at, node, kind, data) in self.0.lock().unwrap().iter() {
            if kind != "detections" || *at < since {
                continue;
            }
            let camera = data["camera"]["twinId"].as_str().unwrap().to_owned();
            if let Some((before_at, before)) = last.get(&camera)
                && before != node
            {
                let gap = at.duration_since(*before_at);
                moves.push((camera.clone(), before.clone(), node.clone(), gap));
            }
            last.insert(camera, (*at, node.clone()));
        }
        moves
    }

    /// Who published each camera lately.
    fn publishers(&self, since: Instant) -> BTreeMap<String, BTreeSet<String>> {
        let mut publishers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (at, node, kind, data) in self.0.lock().unwrap().iter() {
            if kind == "detections" && *at >= since {
                let camera = data["camera"]["twinId"].as_str().unwrap().to_owned();
                publishers.entry(camera).or_default().insert(node.clone());
            }
        }
        publishers
    }

    fn events(&self, kind: &str, wanted: impl Fn(&str, &Value) -> bool) -> Vec<(Instant, Value)> {
        let heard = self.0.lock().unwrap();
        let events = heard
            .iter()
            .filter(|(_, node, is, data)| is == kind && wanted(node, data));
        events.map(|(at, _, _, data)| (*at, data.clone())).collect()
    }
}

pub(crate) async fn until(what: &str, wanted: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !wanted() {
        assert!(begun.elapsed() < DEADLINE, "this did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}

pub(crate) fn cameras(hub: &str) {
    for n in 0..CAMERAS {
        fake::camera(hub, &format!("cam-{n}"), "default", None, 10.0);
    }
}

/// Waits until each camera is published, and by one node alone.
async fn until_all_are_seen(heard: &Heard) {
    until("every camera is published by one node", || {
        let lately = Instant::now()
            .checked_sub(Duration::from_millis(600))
            .unwrap();
        let publishers = heard.publishers(lately);
        publishers.len() == CAMERAS && publishers.values().all(|nodes| nodes.len() == 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cameras_go_to_a_node_that_comes_and_back_when_it_leaves() {
    let (hub, etcd) = tokio::join!(start_hub(DevHubOptions::default()), Etcd::start());
    let (_app, heard) = Heard::listen(&hub, &["node-a", "node-b"]).await;
    cameras(&hub);
    let one = TestNode::start("node-a", &hub, &etcd.url()).await;
    until_all_are_seen(&heard).await;
    // What the API says of a node is brought up to date twice in a second.
    until("node-a says that it holds all", || {
        one.held() == CAMERAS as u64
    })
    .await;

    let before = Instant::now();
    let other = TestNode::start("node-b", &hub, &etcd.url()).await;
    let came = until("node-b has its share", || {
        other.held() > 0
            && other.share()["warm"] == 0
            && one.held() + other.held() == CAMERAS as u64
    });
    let came = came.await;
    until_all_are_seen(&heard).await;
    until(
        "each moves once, and nobody publishes it with another",
        || heard.moves(before).len() as u64 == other.held(),
    )
    .await;
    until("node-b has tracks of all that it took", || {
        heard.moves(before).iter().all(|(camera, ..)| {
            let started = heard.events("track", |node, data| {
                node == "node-b"
                    && data["camera"]["twinId"] == camera.as_str()
                    && data["phase"] == "start"
            });
            !started.is_empty()
        })
    })
    .await;
    let moves = heard.moves(before);
    println!("after {came:?} these had moved: {moves:?}");
    for (camera, from, to, gap) in &moves {
        assert_eq!((from.as_str(), to.as_str()), ("node-a", "node-b"));
        assert!(*gap < GAP, "{camera} was not seen for {gap:?}");
        // The one that gives it says so, and then the one that takes it speaks.
        let of_camera = |data: &Value| data["camera"]["twinId"] == camera.as_str();
        let removed = heard.events("cameraStatus", |node, data| {
            node == "node-a" && of_camera(data) && data["state"] == "removed"
        });
        assert_eq!(removed.len(), 1, "{removed:?}");
        let (removed_at, removed) = &removed[0];
        assert_eq!(
            removed["reason"],
            "the camera has moved to node node-b of the pool"
        );
        let first = heard.events("detections", |node, data| {
            node == "node-b" && of_camera(data)
        });
        assert!(first[0].0 > *removed_at, "{camera}");
        let told = heard.events("cameraStatus", |node, data| {
            node == "node-b" && of_camera(data)
        });
        assert_eq!(told[0].1["state"], "receiving", "{told:?}");
        // Each node tells the tracks of a camera from their beginning to their end.
        for node in ["node-a", "node-b"] {
            let tracks = heard.events("track", |by, data| by == node && of_camera(data));
            let mut live = BTreeSet::new();
            for (_, event) in &tracks {
                let id = event["track"]["id"].as_str().unwrap();
                match event["phase"].as_str().unwrap() {
                    "start" => assert!(live.insert(id)),
                    "end" => assert!(live.remove(id), "{event}"),
                    _ => assert!(live.contains(id), "{event}"),
                }
            }
            assert_eq!(live.is_empty(), node == "node-a", "{node}: {live:?}");
        }
    }
    let share = other.share();
    assert_eq!(share["members"].as_array().unwrap().len(), 2, "{share}");
    assert_eq!(
        (share["mode"].as_str(), share["engine"].as_str()),
        (Some("pool"), Some("etcd"))
    );
    let metrics = http_get(other.http, "/metrics");
    let taken = format!(
        "twinsight_pool_moves_total{{direction=\"taken\"}} {}\n",
        moves.len()
    );
    assert!(metrics.contains(&taken), "{taken} is not in:\n{metrics}");

    // The check of a third one sees both, and no camera moves for it.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    let config = format!(
        "[hub]\nmode = \"none\"\n[node]\nname = \"node-c\"\npool = \"test\"\n[node.lease]\nengine = \"etcd\"\nurl = \"{}\"\n",
        etcd.url()
    );
    std::fs::write(&file, config).unwrap();
    let path = file.to_str().unwrap().to_owned();
    let checked =
        tokio::task::spawn_blocking(move || twinsight(&["check", "--config", &path], &[]));
    let checked = checked.await.unwrap();
    let found = "etcd is reached and can be written; 2 nodes of the pool live (node-a, node-b)";
    assert!(
        checked.out.contains(found),
        "{}{}",
        checked.out,
        checked.log
    );
    // Its configuration has no cameras.
    let differs = "node node-a does not have the configuration that is checked here: it has 6 cameras in its configuration, and this node \
                   has 0";
    let said = checked.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(differs), "{said}");
    for member in share["members"].as_array().unwrap() {
        assert_eq!(member["cameras"], CAMERAS, "{member}");
        assert_eq!(member["leaseDurationMs"], 6000, "{member}");
        assert!(member["differs"].is_null(), "{member}");
    }
    assert_eq!(heard.moves(before).len(), moves.len());

    let before = Instant::now();
    other.end().await;
    let took = before.elapsed();
    until("all that node-b had are node-a's", || {
        heard.moves(before).len() == moves.len()
    })
    .await;
    let back = heard.moves(before);
    println!("node-b left within {took:?}: {back:?}");
    for (camera, from, to, gap) in &back {
        assert_eq!((from.as_str(), to.as_str()), ("node-b", "node-a"));
        assert!(*gap < GAP, "{camera} was not seen for {gap:?}");
    }
    one.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_etcd_nothing_is_published_and_all_goes_on_when_it_answers() {
    let (hub, mut etcd) = tokio::join!(start_hub(DevHubOptions::default()), Etcd::start());
    let (_app, heard) = Heard::listen(&hub, &["node-a", "node-b"]).await;
    cameras(&hub);
    let url = etcd.url();
    let (one, other) = tokio::join!(
        TestNode::start("node-a", &hub, &url),
        TestNode::start("node-b", &hub, &url)
    );
    until("both have their share", || {
        one.held() > 0 && other.held() > 0 && one.held() + other.held() == CAMERAS as u64
    })
    .await;
    until_all_are_seen(&heard).await;

    etcd.kill();
    let killed = Instant::now();
    let killed_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let killed_at = u64::try_from(killed_at.as_millis()).unwrap();
    until("nothing is held any more", || {
        one.held() + other.held() == 0
    })
    .await;
    let closed = killed.elapsed();
    println!("the fences closed after {closed:?}");
    assert!(closed < 3 * LEASE, "{closed:?}");
    // The cameras stay connected meanwhile, and why nothing is published is said.
    until("the node says why it is not ready", || {
        let ready = http_get(one.http, "/readyz");
        ready.contains("etcd does not answer")
    })
    .await;
    until("the node says that the members are those of before", || {
        let share = one.share();
        share["membersStaleSince"].is_u64() && share["members"].as_array().unwrap().len() == 2
    })
    .await;
    until("the cameras say it", || {
        let read = |node: &TestNode| -> Vec<Value> {
            serde_json::from_str(&http_get(node.http, "/api/cameras")).unwrap()
        };
        [&one, &other]
            .iter()
            .flat_map(|node| read(node))
            .all(|camera| {
                let reason = camera["reason"].as_str().unwrap_or_default();
                camera["state"] == "receiving"
                    && reason.contains("the node's lease in the pool has run out")
            })
    })
    .await;
    // Nothing was sent after the lease may have run out, by the clock that all of these have.
    tokio::time::sleep_until((killed + LEASE + Duration::from_secs(1)).into()).await;
    let last = heard.events("detections", |_, _| true);
    let last = last.iter().map(|(_, event)| event["timestamp"].as_u64());
    let last = last.max().flatten().unwrap();
    let limit = killed_at + u64::try_from(LEASE.as_millis()).unwrap();
    assert!(last <= limit, "{last} is later than {limit}");

    etcd.restart().await;
    let restarted = Instant::now();
    until_all_are_seen(&heard).await;
    println!(
        "all was published again {:?} after etcd was back",
        restarted.elapsed()
    );
    until("the node is ready", || {
        http_get(one.http, "/readyz") == "ok\n"
    })
    .await;
    let dropped = http_get(one.http, "/metrics");
    assert!(dropped.contains("reason=\"not_held\""));
    tokio::join!(one.end(), other.end());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_runs_its_part_alone() {
    let hub = start_hub(DevHubOptions::default()).await;
    let (_app, heard) = Heard::listen(&hub, &["shard-a", "shard-b"]).await;
    cameras(&hub);
    let shard = |index: usize| format!("[node.shard]\nindex = {index}\ncount = 2\n");
    let (first, second) = (shard(0), shard(1));
    let (one, other) = tokio::join!(
        TestNode::start_with("shard-a", &hub, &first),
        TestNode::start_with("shard-b", &hub, &second)
    );
    until_all_are_seen(&heard).await;
    until("each says what it has", || {
        one.held() > 0 && other.held() > 0 && one.held() + other.held() == CAMERAS as u64
    })
    .await;
    assert_eq!(one.share()["mode"], "shard");
    let publishers = heard.publishers(Instant::now().checked_sub(Duration::from_secs(5)).unwrap());
    assert!(
        publishers.values().all(|nodes| nodes.len() == 1),
        "{publishers:?}"
    );
    let metrics = http_get(one.http, "/metrics");
    assert!(!metrics.contains("twinsight_pool_"));
    // What is another node's has no series here.
    let series = |n: usize| metrics.contains(&format!("camera=\"cam-{n}\""));
    assert_eq!(
        (0..CAMERAS).filter(|n| series(*n)).count() as u64,
        one.held()
    );
    tokio::join!(one.end(), other.end());
}
