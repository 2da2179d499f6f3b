//! The sink against receivers of a few lines, which answer as the test says.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::CameraState;

use super::*;
use crate::config::EventKind;
use crate::publish::event::CameraStatus;
use crate::publish::event::tests::inferred;
use crate::shard::Share;
use crate::telemetry::metrics::Metrics;
use crate::test_ports;

const DEADLINE: Duration = Duration::from_secs(30);

/// What a receiver got.
#[derive(Debug)]
struct Post {
    headers: HeaderMap,
    body: Value,
}

impl Post {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

type Answer = dyn Fn(usize) -> (Duration, Response) + Send + Sync;

struct Served {
    posts: mpsc::UnboundedSender<Post>,
    answer: Box<Answer>,
    count: std::sync::atomic::AtomicUsize,
}

/// A receiver that gives its posts on and answers each by its number, after a while.
async fn receiver_at(
    listener: TcpListener,
    answer: impl Fn(usize) -> (Duration, Response) + Send + Sync + 'static,
) -> (SocketAddr, mpsc::UnboundedReceiver<Post>) {
    let (sender, posts) = mpsc::unbounded_channel();
    let served = Arc::new(Served {
        posts: sender,
        answer: Box::new(answer),
        count: 0.into(),
    });
    let take = |State(served): State<Arc<Served>>, headers: HeaderMap, body: Bytes| async move {
        let body = serde_json::from_slice(&body).unwrap();
        let _ = served.posts.send(Post { headers, body });
        let n = served
            .count
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (wait, answer) = (served.answer)(n);
        tokio::time::sleep(wait).await;
        answer
    };
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(take).with_state(served);
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, posts)
}

async fn receiver(
    answer: impl Fn(usize) -> (Duration, Response) + Send + Sync + 'static,
) -> (SocketAddr, mpsc::UnboundedReceiver<Post>) {
    receiver_at(TcpListener::bind("127.0.0.1:0").await.unwrap(), answer).await
}

fn status(code: u16) -> Response {
    StatusCode::from_u16(code).unwrap().into_response()
}

struct Rig {
    lane: SinkLane,
    metrics: Arc<Metrics>,
    task: JoinHandle<()>,
    offered: u64,
}

impl Rig {
    fn start(url: &str, max_age: Duration, change: impl FnOnce(&mut Webhook)) -> Self {
        let metrics = Arc::new(Metrics::with_sinks(["home".to_owned()]));
        let lane = SinkLane::new(0, EventKind::ALL.to_vec(), "8f1c", Arc::clone(&metrics));
        let config = WebhookConfig {
            url: Secret::new(url),
            secret: Some(Secret::new("an-example-secret")),
            max_age,
            ca_file: None,
        };
        let mut webhook = Webhook::new(config, lane.clone());
        change(&mut webhook);
        Self {
            task: tokio::spawn(webhook.run()),
            lane,
            metrics,
            offered: 0,
        }
    }

    fn detection(&mut self, twin_id: &str) {
        self.offered += 1;
        let frame = inferred(twin_id, Instant::now());
        let stream = self.metrics.stream(&frame.id);
        // The other parts of the ledger are not looked at here.
        stream.access_units_received.inc();
        stream.frames_decoded.inc();
        stream.frames_inferred.inc();
        stream.events_published.inc();
        self.lane.offer(self.offered, &frame.into());
    }

    fn state(&self, twin_id: &str, state: CameraState) {
        self.lane.set_status(&CameraStatus {
            id: StreamId::new(twin_id, "default"),
            name: twin_id.into(),
            state,
            // Long ago, as that of a state that is told again.
            since: Instant::now().checked_sub(Duration::from_secs(60)).unwrap(),
            reason: None,
            attempt: 1,
        });
    }

    /// How many events of a type came to this.
    fn results(&self, event_type: &str, result: &str) -> u64 {
        let labels = format!("{{result=\"{result}\",sink=\"home\",type=\"{event_type}\"}} ");
        self.metrics
            .encode()
            .lines()
            .find_map(|line| line.strip_prefix(&format!("twinsight_sink_events_total{labels}")))
            .map_or(0, |count| count.parse().unwrap())
    }

    async fn until(&self, event_type: &str, result: &str, count: u64) {
        let reached = async {
            while self.results(event_type, result) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(DEADLINE, reached).await.is_err() {
            panic!("{event_type} {result}:\n{}", self.metrics.encode());
        }
    }

    fn connected(&self) -> i64 {
        self.lane.metrics().connected.get()
    }

    /// Ends it as the node does, and sees that everything is accounted for.
    async fn stop(self, twins: &[&str]) {
        self.lane.close();
        let mut task = self.task;
        if tokio::time::timeout(Duration::from_secs(1), &mut task)
            .await
            .is_err()
        {
            task.abort();
            let _ = task.await;
        }
        self.lane.abandon(EventDrop::SinkUnreachable);
        for twin in twins {
            let stream = self.metrics.stream(&StreamId::new(*twin, "default"));
            let ledger = stream.ledger();
            assert!(
                ledger.balances() && ledger.sink_events_in_flight == 0,
                "{ledger:?}"
            );
        }
    }
}

async fn next(posts: &mut mpsc::UnboundedReceiver<Post>) -> Post {
    tokio::time::timeout(DEADLINE, posts.recv())
        .await
        .unwrap()
        .unwrap()
}

const AGE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn events_come_one_after_the_other_in_their_order_and_are_told_apart() {
    let (address, mut posts) = receiver(|_| (Duration::ZERO, status(202))).await;
    let mut rig = Rig::start(&format!("http://{address}/hook?key=1"), AGE, |_| {});
    rig.state("a", CameraState::Receiving);
    for n in 0..20 {
        rig.detection(if n % 2 == 0 { "a" } else { "b" });
    }
    let first = next(&mut posts).await;
    assert_eq!(first.header("twinsight-event"), "cameraStatus");
    assert_eq!(first.body["state"], "receiving");
    let mut ids = vec![first.header("twinsight-delivery").to_owned()];
    for n in 1..=20 {
        let post = next(&mut posts).await;
        assert_eq!(post.header("twinsight-event"), "detections");
        assert_eq!(post.body["sequence"], n);
        let t = post.header("twinsight-timestamp");
        let signature = post.header("twinsight-signature");
        assert!(signature.starts_with(&format!("t={t},v1=")), "{signature}");
        ids.push(post.header("twinsight-delivery").to_owned());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 21);
    rig.until("detections", "published", 20).await;
    assert_eq!(rig.connected(), 1);
    rig.stop(&["a", "b"]).await;
}

#[tokio::test]
async fn a_try_that_failed_is_made_again_with_the_same_event() {
    let (address, mut posts) = receiver(|n| {
        let code = [503, 429, 200, 200][n.min(3)];
        (Duration::ZERO, status(code))
    })
    .await;
    let mut rig = Rig::start(&format!("http://{address}/"), AGE, |_| {});
    rig.detection("a");
    rig.detection("a");
    let first = next(&mut posts).await;
    for _ in 0..2 {
        let again = next(&mut posts).await;
        assert_eq!(
            again.header("twinsight-delivery"),
            first.header("twinsight-delivery")
        );
        assert_eq!(again.body, first.body);
    }
    assert_eq!(next(&mut posts).await.body["sequence"], 2);
    rig.until("detections", "published", 2).await;
    assert_eq!(rig.connected(), 1);
    rig.stop(&["a"]).await;
}

#[tokio::test]
async fn an_event_whose_camera_becomes_another_nodes_is_not_tried_again() {
    let share = Share::by_hand();
    share.renew(Duration::from_secs(600));
    share.open("a");
    share.open("b");
    let goes = share.clone();
    let (address, mut posts) = receiver(move |_| {
        goes.close("a");
        (Duration::ZERO, status(503))
    })
    .await;
    let mut rig = Rig::start(&format!("http://{address}/"), AGE, |webhook| {
        webhook.lane.set_share(share);
    });
    rig.detection("a");
    assert_eq!(next(&mut posts).await.body["camera"]["twinId"], "a");
    rig.detection("b");
    assert_eq!(next(&mut posts).await.body["camera"]["twinId"], "b");
    let dropped = "twinsight_events_dropped_total{camera=\"a\",reason=\"not_held\",sink=\"home\",stream=\"default\"} 1";
    assert!(rig.metrics.encode().contains(dropped));
    rig.stop(&["a", "b"]).await;
}

#[tokio::test]
async fn what_is_refused_is_dropped_at_once_and_a_redirect_leads_nowhere() {
    let (elsewhere, mut stray) = receiver(|_| (Duration::ZERO, status(200))).await;
    let (address, mut posts) = receiver(move |n| {
        let mut answer = status([410, 400, 301, 307, 200][n]);
        let location = format!("http://{elsewhere}/").parse().unwrap();
        answer.headers_mut().insert("location", location);
        (Duration::ZERO, answer)
    })
    .await;
    let mut rig = Rig::start(&format!("http://{address}/"), AGE, |_| {});
    for n in 1..=5 {
        rig.detection("a");
        assert_eq!(next(&mut posts).await.body["sequence"], n);
        if n < 5 {
            rig.until("detections", "refused", n).await;
            assert_eq!(rig.connected(), 0);
        }
    }
    rig.until("detections", "published", 1).await;
    assert_eq!(rig.connected(), 1);
    assert!(posts.try_recv().is_err() && stray.try_recv().is_err());
    rig.stop(&["a"]).await;
}

#[tokio::test]
async fn events_for_a_receiver_that_is_away_end_with_their_age() {
    let address = test_ports::unused_address();
    let max_age = Duration::from_millis(900);
    let mut rig = Rig::start(&format!("http://{address}/"), max_age, |_| {});
    let started = Instant::now();
    for _ in 0..10 {
        rig.detection("a");
    }
    rig.until("detections", "sink_unreachable", 10).await;
    assert!(started.elapsed() < DEADLINE / 2);
    assert_eq!(rig.connected(), 0);
    // It comes to that address, and gets what is told from then on.
    let listener = TcpListener::bind(address).await.unwrap();
    let (_, mut posts) = receiver_at(listener, |_| (Duration::ZERO, status(200))).await;
    let back = async {
        while rig.connected() == 0 {
            rig.detection("a");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(DEADLINE, back).await.unwrap();
    assert!(next(&mut posts).await.body["sequence"].as_u64().unwrap() > 10);
    rig.stop(&["a"]).await;
}

#[tokio::test]
async fn states_that_a_receiver_missed_are_told_again_even_if_nothing_happens() {
    let address = test_ports::unused_address();
    let max_age = Duration::from_millis(400);
    let rig = Rig::start(&format!("http://{address}/"), max_age, |webhook| {
        webhook.restate_every = Duration::from_millis(600);
    });
    rig.state("a", CameraState::Stalled);
    rig.state("b", CameraState::Receiving);
    rig.until("cameraStatus", "sink_unreachable", 2).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let (_, mut posts) = receiver_at(listener, |_| (Duration::ZERO, status(200))).await;
    let mut told = Vec::new();
    while told.len() < 2 {
        let post = next(&mut posts).await;
        let camera = post.body["camera"]["twinId"].as_str().unwrap().to_owned();
        told.push((camera, post.body["state"].as_str().unwrap().to_owned()));
    }
    told.sort();
    assert_eq!(told[0], ("a".to_owned(), "stalled".to_owned()));
    assert_eq!(told[1], ("b".to_owned(), "receiving".to_owned()));
    // Now it has them, and is not told again.
    rig.until("cameraStatus", "published", 2).await;
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert_eq!(rig.results("cameraStatus", "published"), 2);
    rig.stop(&[]).await;
}

#[tokio::test]
async fn a_receiver_that_hangs_costs_a_time_limit_and_not_the_end_of_the_node() {
    let (address, mut posts) = receiver(|n| {
        let hang = [Duration::from_secs(600), Duration::ZERO, DEADLINE][n.min(2)];
        (hang, status(200))
    })
    .await;
    let mut rig = Rig::start(&format!("http://{address}/"), AGE, |webhook| {
        webhook.try_limit = Duration::from_millis(300);
    });
    rig.detection("a");
    let first = next(&mut posts).await;
    let second = next(&mut posts).await;
    assert_eq!(
        first.header("twinsight-delivery"),
        second.header("twinsight-delivery")
    );
    rig.until("detections", "published", 1).await;
    rig.stop(&["a"]).await;

    // The node stops while a try is out: the event counts as dropped, and so does what waits behind it.
    let mut rig = Rig::start(&format!("http://{address}/"), AGE, |_| {});
    for _ in 0..5 {
        rig.detection("a");
    }
    next(&mut posts).await;
    let metrics = Arc::clone(&rig.metrics);
    let started = Instant::now();
    rig.stop(&["a"]).await;
    assert!(started.elapsed() < Duration::from_secs(3));
    let line = "twinsight_sink_events_total{result=\"sink_unreachable\",sink=\"home\",type=\"detections\"} 5";
    assert!(metrics.encode().contains(line));
}

#[tokio::test]
async fn a_slow_receiver_loses_the_oldest_and_what_grew_too_old() {
    let slow = Duration::from_millis(150);
    let (address, mut posts) = receiver(move |_| (slow, status(200))).await;
    let mut rig = Rig::start(
        &format!("http://{address}/"),
        Duration::from_millis(400),
        |_| {},
    );
    for _ in 0..80 {
        rig.detection("a");
    }
    next(&mut posts).await;
    rig.until("detections", "stale", 1).await;
    assert!(rig.results("detections", "outbox_full") >= 15);
    assert!(rig.results("detections", "published") >= 1);
    assert_eq!(rig.connected(), 1);
    rig.stop(&["a"]).await;
}

#[tokio::test]
async fn what_waits_when_the_node_stops_is_tried_once() {
    // Before its end the receiver is away, and the sink has paused.
    let (address, mut posts) = receiver(|n| (Duration::ZERO, status([503, 200, 500][n % 3]))).await;
    let mut rig = Rig::start(&format!("http://{address}/"), AGE, |webhook| {
        let away = Verdict::later("it is away".to_owned());
        for _ in 0..6 {
            webhook.schedule.tried(&away, Instant::now(), 1.0);
        }
    });
    for _ in 0..3 {
        rig.detection("a");
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(posts.try_recv().is_err(), "the receiver is left in peace");
    let metrics = Arc::clone(&rig.metrics);
    rig.stop(&["a"]).await;
    for n in 1..=3 {
        assert_eq!(posts.try_recv().unwrap().body["sequence"], n);
    }
    assert!(posts.try_recv().is_err());
    let text = metrics.encode();
    for (result, count) in [("published", 1), ("sink_unreachable", 2)] {
        let line = format!(
            "twinsight_sink_events_total{{result=\"{result}\",sink=\"home\",type=\"detections\"}} {count}"
        );
        assert!(text.contains(&line), "{line}:\n{text}");
    }
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_a_reason_and_are_looked_at_again() {
    let (address, mut posts) = receiver(|_| (Duration::ZERO, status(200))).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let ca_file = Some(file.clone());
    let mut rig = Rig::start(&format!("http://{address}/"), AGE, |webhook| {
        webhook.client = Client::Unmade { ca_file };
    });
    rig.detection("a");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(rig.connected(), 0);
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&file, issued.cert.pem()).unwrap();
    next(&mut posts).await;
    rig.until("detections", "published", 1).await;
    rig.stop(&["a"]).await;
}
