//! A stand-in for the API server: lists, watches, writes and deletes of `Lease` objects, with versions as the real one has them. No
//! real one has been met here.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex as SyncMutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::super::store::HolderSeen;
use super::super::{Duty, Share, ShareTask};
use super::*;
use crate::config::{LeaseEngineConfig, NodeConfig, ShareConfig};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;
use twinsight_client::stream_id::StreamId;

const DURATION: Duration = Duration::from_secs(2);

#[derive(Default)]
struct ApiServer {
    state: SyncMutex<ApiState>,
    changed: Notify,
    /// While it is true, no request is answered.
    is_away: std::sync::atomic::AtomicBool,
}

#[derive(Default)]
struct ApiState {
    version: u64,
    leases: BTreeMap<String, Value>,
    /// The version of each event, and what a watch is told.
    events: Vec<(u64, Value)>,
    writes: u64,
}

type Server = Arc<ApiServer>;

impl ApiState {
    fn put(&mut self, name: &str, mut lease: Value) -> Value {
        self.version += 1;
        self.writes += 1;
        let there = self
            .leases
            .get(name)
            .map(|lease| lease["metadata"]["uid"].clone());
        let kind = if there.is_some() { "MODIFIED" } else { "ADDED" };
        lease["apiVersion"] = json!("coordination.k8s.io/v1");
        lease["kind"] = json!("Lease");
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        lease["metadata"]["uid"] = there.unwrap_or_else(|| json!(format!("uid-{}", self.version)));
        self.leases.insert(name.to_owned(), lease.clone());
        self.events
            .push((self.version, json!({"type": kind, "object": lease})));
        lease
    }

    fn delete(&mut self, name: &str) {
        self.version += 1;
        if let Some(mut lease) = self.leases.remove(name) {
            lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.events
                .push((self.version, json!({"type": "DELETED", "object": lease})));
        }
    }
}

fn status(code: StatusCode, reason: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code.as_u16()});
    (code, axum::Json(body)).into_response()
}

async fn list(
    State(server): State<Server>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    assert_eq!(query["labelSelector"], "twinsight/pool=test");
    if query.get("watch").is_none_or(|watch| watch != "true") {
        let state = server.state.lock();
        let items: Vec<Value> = state.leases.values().cloned().collect();
        let body = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "LeaseList", "metadata": {"resourceVersion": state.version.to_string()}, "items": items});
        return axum::Json(body).into_response();
    }
    let from: u64 = query["resourceVersion"].parse().unwrap();
    let lines = futures_util::stream::unfold((server, from), |(server, seen)| async move {
        loop {
            let next = {
                let state = server.state.lock();
                state
                    .events
                    .iter()
                    .find(|(version, _)| *version > seen)
                    .cloned()
            };
            let is_away = server.is_away.load(std::sync::atomic::Ordering::Relaxed);
            if let Some((version, event)) = next.filter(|_| !is_away) {
                let line = Ok::<_, Infallible>(Bytes::from(format!("{event}\n")));
                return Some((line, (server, version)));
            }
            let _ =
                tokio::time::timeout(Duration::from_millis(20), server.changed.notified()).await;
        }
    });
    Body::from_stream(lines).into_response()
}

async fn create(State(server): State<Server>, body: Bytes) -> Response {
    let lease: Value = serde_json::from_slice(&body).unwrap();
    let name = lease["metadata"]["name"].as_str().unwrap().to_owned();
    let mut state = server.state.lock();
    if state.leases.contains_key(&name) {
        return status(StatusCode::CONFLICT, "AlreadyExists");
    }
    let written = state.put(&name, lease);
    server.changed.notify_waiters();
    axum::Json(written).into_response()
}

async fn read(State(server): State<Server>, Path((_, name)): Path<(String, String)>) -> Response {
    match server.state.lock().leases.get(&name) {
        Some(lease) => axum::Json(lease.clone()).into_response(),
        None => status(StatusCode::NOT_FOUND, "NotFound"),
    }
}

async fn replace(
    State(server): State<Server>,
    Path((_, name)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let lease: Value = serde_json::from_slice(&body).unwrap();
    let mut state = server.state.lock();
    // A lease may be made by an update; only the id of the object that is meant keeps the server from it.
    let (uid, version) = match state.leases.get(&name) {
        Some(there) => (
            there["metadata"]["uid"].clone(),
            there["metadata"]["resourceVersion"].clone(),
        ),
        None => (Value::Null, Value::Null),
    };
    let given = &lease["metadata"];
    if !given["uid"].is_null() && given["uid"] != uid {
        return status(StatusCode::CONFLICT, "Conflict");
    }
    if !version.is_null() && given["resourceVersion"] != version {
        return status(StatusCode::CONFLICT, "Conflict");
    }
    let written = state.put(&name, lease);
    server.changed.notify_waiters();
    axum::Json(written).into_response()
}

async fn delete(
    State(server): State<Server>,
    Path((_, name)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let options: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut state = server.state.lock();
    let Some(there) = state.leases.get(&name) else {
        return status(StatusCode::NOT_FOUND, "NotFound");
    };
    let conditions = &options["preconditions"];
    for key in ["resourceVersion", "uid"] {
        if !conditions[key].is_null() && conditions[key] != there["metadata"][key] {
            return status(StatusCode::CONFLICT, "Conflict");
        }
    }
    state.delete(&name);
    server.changed.notify_waiters();
    axum::Json(json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 200}))
        .into_response()
}

async fn hold_back(
    State(server): State<Server>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    while server.is_away.load(std::sync::atomic::Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    next.run(request).await
}

async fn start() -> (Server, Client) {
    let server = Server::default();
    let leases = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases";
    let router = Router::new()
        .route(leases, get(list).post(create))
        .route(
            &format!("{leases}/{{name}}"),
            get(read).put(replace).delete(delete),
        )
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&server),
            hold_back,
        ))
        .with_state(Arc::clone(&server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config = kube::Config::new(url.parse().unwrap());
    (server, Client::try_from(config).unwrap())
}

fn pool() -> PoolConfig {
    PoolConfig {
        name: "test".to_owned(),
        lease_duration: DURATION,
        engine: LeaseEngineConfig::Kubernetes { namespace: None },
    }
}

fn record(name: &str) -> MemberRecord {
    MemberRecord {
        name: name.into(),
        capacity: 10,
        started_at: 1,
        leaving: false,
        ready: BTreeSet::new(),
        configured: super::super::store::Configured::default(),
    }
}

fn write(expected: Option<Version>, holder: Option<&Session>) -> Write {
    Write {
        camera: "cam".into(),
        expected,
        holder: holder.cloned(),
    }
}

#[tokio::test]
async fn who_writes_must_name_the_version_that_is_there() {
    let (server, client) = start().await;
    let store = KubernetesStore::with_client(client.clone(), &pool());
    let other = KubernetesStore::with_client(client, &pool());
    let one = store.join(record("one")).await.unwrap();
    let two = other.join(record("two")).await.unwrap();
    let taken = store.write(write(None, Some(&one))).await.unwrap();
    let Written::Yes(version) = taken else {
        panic!("{taken:?}");
    };
    let names: Vec<String> = server.state.lock().leases.keys().cloned().collect();
    assert_eq!(names[0], "twinsight.test.camera.707a3c64c7c00e52");
    assert_eq!(names[1], format!("twinsight.test.node.{one}"));
    for stale in [None, Some(version - 1), Some(version + 1)] {
        let refused = other.write(write(stale, Some(&two))).await.unwrap();
        assert_eq!(refused, Written::Outdated);
    }
    let given = store.write(write(Some(version), Some(&two))).await.unwrap();
    assert!(matches!(given, Written::Yes(newer) if newer > version));
    // Renewals go on from the version that they wrote, and tell what is new.
    for ready in [Some("cam"), None] {
        let mut news = record("two");
        news.ready.extend(ready.map(Arc::from));
        let renewed = other.renew(Session::clone(&two), Some(news)).await;
        assert_eq!(renewed, Ok(Renewal::Renewed));
    }
    assert_eq!(store.leave(two.clone()).await, Ok(()));
    assert_eq!(other.renew(two.clone(), None).await, Ok(Renewal::Lost));
    assert_eq!(other.renew(two, None).await, Ok(Renewal::Lost));
    assert_eq!(
        server.state.lock().leases.len(),
        2,
        "a renewal does not bring it back"
    );
}

#[tokio::test]
async fn a_renewal_whose_answer_was_lost_is_no_end() {
    let (server, client) = start().await;
    let store = KubernetesStore::with_client(client, &pool());
    let one = store.join(record("one")).await.unwrap();
    let name = store.member_name(&one);
    // It was written, and the node has not heard of it.
    let lease = server.state.lock().leases[&name].clone();
    server.state.lock().put(&name, lease);
    assert_eq!(store.renew(one, None).await, Ok(Renewal::Renewed));
}

#[tokio::test]
async fn what_a_dead_member_held_is_free_once_its_lease_was_deleted() {
    let (_server, client) = start().await;
    let (dead, store) = (
        KubernetesStore::with_client(client.clone(), &pool()),
        Arc::new(KubernetesStore::with_client(client, &pool())),
    );
    let one = dead.join(record("one")).await.unwrap();
    let Written::Yes(version) = dead.write(write(None, Some(&one))).await.unwrap() else {
        panic!("it was free");
    };
    let two = store.join(record("two")).await.unwrap();
    let (sender, mut seen) = mpsc::channel(64);
    let watching = Arc::clone(&store);
    tokio::spawn(async move { watching.watch(sender).await });
    let begun = std::time::Instant::now();
    let mut is_free = false;
    while !is_free {
        let next = tokio::time::timeout(Duration::from_millis(200), seen.recv()).await;
        // The one that watches lives.
        assert_eq!(store.renew(two.clone(), None).await, Ok(Renewal::Renewed));
        let Ok(Some(batch)) = next else {
            assert!(begun.elapsed() < DURATION * 10, "it was never buried");
            continue;
        };
        is_free = batch.contains(&Seen::Holder(HolderSeen {
            camera: "cam".into(),
            version,
            exists: true,
            holder: None,
        }));
    }
    let took = begun.elapsed();
    assert!(took >= DURATION && took < DURATION * 10, "{took:?}");
    assert_eq!(dead.renew(one, None).await, Ok(Renewal::Lost));
    let taken = store.write(write(Some(version), Some(&two))).await.unwrap();
    assert!(matches!(taken, Written::Yes(_)));
}

#[tokio::test]
async fn after_a_silence_nobody_is_dead_who_could_not_renew_a_lease() {
    let (server, client) = start().await;
    let store = KubernetesStore::with_client(client, &pool());
    store.join(record("one")).await.unwrap();
    let leases = server.state.lock().leases.clone();
    let leases = leases.into_values().map(serde_json::from_value::<Lease>);
    let leases: Vec<Lease> = leases.map(Result::unwrap).collect();
    let (begun, moment) = (LeaseTime::now(), Duration::from_millis(1));
    // How many are dead so long after a silence, before which the member had not renewed its lease for a while.
    let dead_after = |age: Duration, silence: Duration, later: Duration| {
        let mut view = View::default();
        let mut hears = |after: Duration| drop(view.read_all(1, leases.clone(), begun + after));
        hears(Duration::ZERO);
        hears(age);
        let mut heard = Duration::ZERO;
        while heard <= later {
            hears(age + silence + heard);
            heard += DURATION / 4;
        }
        view.dead(begun + age + silence + later).len()
    };
    let third = DURATION / 3;
    // A watch that began anew soon found it as it was.
    assert_eq!(dead_after(Duration::ZERO, third, 2 * third), 0);
    assert_eq!(dead_after(Duration::ZERO, third, 2 * third + moment), 1);
    for silence in [DURATION * 4 / 5, DURATION * 3] {
        assert_eq!(dead_after(third, silence, Duration::ZERO), 0);
        assert_eq!(dead_after(third, silence, DURATION), 0);
        assert_eq!(dead_after(third, silence, DURATION + moment), 1);
    }
    // Nobody is taken for dead by a node that hears nothing.
    let mut view = View::default();
    view.read_all(1, leases.clone(), begun);
    assert_eq!(view.dead(begun + 2 * DURATION).len(), 0);
}

/// A node of which only the share is there.
struct Member {
    share: Share,
    task: ShareTask,
}

impl Member {
    fn start(name: &str, client: &Client, cameras: &BTreeSet<Arc<str>>) -> Self {
        let config = NodeConfig {
            name: name.to_owned(),
            capacity: 10,
            share: ShareConfig::Pool(pool()),
        };
        let share = Share::of_pool(&config, &pool());
        let store = KubernetesStore::with_client(client.clone(), &pool());
        let (metrics, health) = (Arc::new(Metrics::new()), Health::default());
        let task = ShareTask::spawn(store, share.clone(), &config, &pool(), &metrics, &health);
        let stream = |twin: &Arc<str>| StreamId::new(Arc::clone(twin), "default");
        share.set_cameras(cameras.iter().map(stream));
        // It has a picture of each camera as soon as it is connected to it.
        let sees = share.clone();
        tokio::spawn(async move {
            let mut duties = sees.duties();
            loop {
                let now = Arc::clone(&duties.borrow_and_update());
                if let super::super::Duties::These(duties) = &*now {
                    for (twin, duty) in duties {
                        match duty {
                            Duty::Warm => {
                                sees.inferred(&StreamId::new(Arc::clone(twin), "default"));
                            }
                            Duty::Hold { epoch } => sees.set_begun(twin, Some(*epoch)),
                        }
                    }
                }
                tokio::select! {
                    _ = duties.changed() => {}
                    partings = sees.next_partings() => {
                        partings.iter().for_each(|parting| sees.parted(&parting.twin));
                    }
                }
            }
        });
        Self { share, task }
    }

    fn held(&self, cameras: &BTreeSet<Arc<str>>) -> usize {
        cameras
            .iter()
            .filter(|camera| self.share.admits(camera))
            .count()
    }
}

async fn until(what: &str, wanted: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !wanted() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "this did not happen: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_share_cameras_hand_them_over_and_take_them_from_the_dead() {
    let (server, client) = start().await;
    let cameras: BTreeSet<Arc<str>> = (0..20).map(|n| format!("camera-{n}").into()).collect();
    let one = Member::start("one", &client, &cameras);
    until("one has all", || one.held(&cameras) == 20).await;
    let two = Member::start("two", &client, &cameras);
    let share = std::cell::Cell::new(0);
    until("two has its share", || {
        share.set(two.held(&cameras));
        share.get() > 4 && one.held(&cameras) + share.get() == 20
    })
    .await;
    let share = share.get();
    // The server is away for longer than the lease: nobody publishes anything, and then everybody the same as before.
    server
        .is_away
        .store(true, std::sync::atomic::Ordering::Relaxed);
    until("both fences are closed", || {
        one.held(&cameras) + two.held(&cameras) == 0
    })
    .await;
    assert!(one.share.fenced().is_some());
    server
        .is_away
        .store(false, std::sync::atomic::Ordering::Relaxed);
    until("all is as before", || {
        two.held(&cameras) == share && one.held(&cameras) == 20 - share
    })
    .await;
    // One dies without a word.
    let begun = std::time::Instant::now();
    one.task.kill();
    until("two has all", || two.held(&cameras) == 20).await;
    let took = begun.elapsed();
    println!("the cameras of the dead were taken after {took:?}");
    assert!(took < DURATION * 10);
    assert_eq!(one.held(&cameras), 0);
    // It comes back, and gets what is meant for it.
    let one = Member::start("one", &client, &cameras);
    until("one has its share again", || {
        two.held(&cameras) == share && one.held(&cameras) == 20 - share
    })
    .await;
    // And goes in good order.
    one.task.leave().await;
    assert_eq!(one.share.facts().held, 0);
    until("two has all", || two.held(&cameras) == 20).await;
    two.task.leave().await;
    // Its goodbye may be carried out a moment after it stopped to wait for the answer.
    until("no node has a lease", || {
        let left = server.state.lock();
        left.leases.keys().all(|name| name.contains(".camera."))
    })
    .await;
    println!("{} writes", server.state.lock().writes);
}
