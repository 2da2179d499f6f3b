//! The HTTP server over real sockets: what is open, what is guarded, how it starts and stops.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use twinsight::config::{Config, Env};
use twinsight::http::api::{CameraFacts, ModelFacts};
use twinsight::http::connections::ConnectionLimits;
use twinsight::http::probe::{self, ProbeError};
use twinsight::http::server::{self, HttpError};
use twinsight::http::state::HttpState;
use twinsight::preview::Previews;
use twinsight::publish::event::CameraStatus;
use twinsight::publish::feed::EventFeed;
use twinsight::telemetry::health::{Health, Heartbeat, Readiness};
use twinsight::telemetry::metrics::Metrics;
use twinsight_client::secret::Secret;
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::CameraState;
use twinsight_media::picture::{Color, Frame, FrameTiming, PictureSize, PlanePool};

const LIMIT: Duration = Duration::from_secs(10);

/// A server of its own, with a node's state of which a test may do what it likes.
pub(crate) struct Node {
    pub(crate) port: u16,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) state: HttpState,
    health: Health,
    readiness: Arc<Readiness>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), HttpError>>,
}

pub(crate) async fn start(listen: &str, token: Option<&str>) -> Node {
    start_within(listen, token, ConnectionLimits::new(64)).await
}

pub(crate) async fn start_within(
    listen: &str,
    token: Option<&str>,
    limits: ConnectionLimits,
) -> Node {
    let listener = server::bind(listen.parse().unwrap()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let metrics = Arc::new(Metrics::new());
    let id = StreamId::new("cam", "default");
    metrics.stream(&id).frames_decoded.inc_by(3);
    let env: Env = [
        ("TWINSIGHT_CAMERAS", "cam"),
        ("TWIN_ID", "node-1"),
        ("PHYSTACK_SIMULATOR_URL", "http://127.0.0.1:1"),
    ]
    .into_iter()
    .collect();
    let config = Config::load(None, &env).unwrap();
    let previews = Previews::new(Arc::clone(&metrics));
    let feed = EventFeed::new("0".repeat(32));
    let state = HttpState::new(Arc::clone(&metrics), feed, previews);
    *state.cameras.lock() = vec![CameraFacts {
        status: CameraStatus {
            id,
            name: "Yard".into(),
            state: CameraState::Receiving,
            since: Instant::now(),
            reason: None,
            attempt: 0,
        },
        settings: Arc::new(config.cameras[0].clone()),
        last_event_at: None,
        last_seen: None,
    }];
    let given = state.clone();
    let (stop, stopped) = oneshot::channel();
    let (health, readiness) = (state.health.clone(), Arc::clone(&state.readiness));
    let token = token.map(Secret::new);
    let task = tokio::spawn(server::serve_within(
        listener,
        given,
        token,
        limits,
        async {
            let _ = stopped.await;
        },
    ));
    Node {
        port,
        metrics,
        state,
        health,
        readiness,
        stop,
        task,
    }
}

impl Node {
    /// A GET over loopback: status, head and body.
    pub(crate) async fn get(&self, path: &str, header: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head[9..12].parse().unwrap();
        (status, head.to_owned(), body.to_owned())
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    /// The value of a metric.
    pub(crate) fn metric(&self, name: &str) -> i64 {
        let text = self.metrics.encode();
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap().trim().parse().unwrap()
    }

    /// A probe is answered, and soon.
    pub(crate) async fn answers_probes(&self) {
        let asked = Instant::now();
        let status = tokio::time::timeout(LIMIT, self.get("/healthz", "")).await;
        assert_eq!(status.unwrap().0, 200);
        let took = asked.elapsed();
        assert!(took < LIMIT / 2, "{took:?}");
    }

    fn silent_loop(&self) -> Heartbeat {
        let long_ago = Instant::now() - Duration::from_millis(200);
        self.health
            .register("scheduler", Duration::from_millis(50), long_ago)
    }
}

#[tokio::test]
async fn metrics_are_in_the_text_format() {
    let node = start("127.0.0.1:0", None).await;
    let (status, head, body) = node.get("/metrics", "").await;
    assert_eq!(status, 200);
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(body.contains("twinsight_frames_decoded_total{camera=\"cam\",stream=\"default\"} 3\n"));
}

#[tokio::test]
async fn healthz_names_the_loop_that_stands_still() {
    let node = start("127.0.0.1:0", None).await;
    assert_eq!(node.get("/healthz", "").await.0, 200);
    let heartbeat = node.silent_loop();
    let (status, _, body) = node.get("/healthz", "").await;
    assert_eq!(status, 503);
    assert!(
        body.starts_with("scheduler has not gone round for "),
        "{body}"
    );
    heartbeat.beat(Instant::now() + LIMIT);
    assert_eq!(node.get("/healthz", "").await.0, 200);
}

#[tokio::test]
async fn readyz_names_what_is_missing() {
    let node = start("127.0.0.1:0", None).await;
    let (status, _, body) = node.get("/readyz", "").await;
    assert_eq!(
        (status, body.as_str()),
        (503, "the model is not warm yet\nthe hub is not joined\n")
    );
    node.readiness.set_model_warm(true);
    node.readiness.set_hub_joined(true);
    let (status, _, body) = node.get("/readyz", "").await;
    assert_eq!((status, body.as_str()), (200, "ok\n"));
}

#[tokio::test]
async fn on_loopback_without_a_token_the_api_is_open() {
    let node = start("127.0.0.1:0", None).await;
    let (status, head, body) = node.get("/api/cameras", "").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/json"), "{head}");
    let cameras: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(cameras[0]["twinId"], "cam");
    let model = ModelFacts::working;
    let used = cameras[0]["model"].as_str().unwrap();
    node.state.node.lock().models = vec![model(used), model("other")];
    let (_, _, body) = node.get("/api/node", "").await;
    let view: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(view["models"][0]["cameras"], 1, "{body}");
    assert_eq!(view["models"][1]["cameras"], 0, "{body}");
    assert_eq!(cameras[0]["counters"]["framesDecoded"], 3);
}

#[tokio::test]
async fn elsewhere_the_api_needs_the_token_and_the_rest_does_not() {
    let node = start("0.0.0.0:0", Some("hush-hush")).await;
    for header in [
        "",
        "Authorization: Bearer hush\r\n",
        "Authorization: Bearer hush-hush-hush\r\n",
        "Authorization: Basic hush-hush\r\n",
        "Authorization: hush-hush\r\n",
        "Authorization: Bearer \r\n",
    ] {
        let (status, head, body) = node.get("/api/cameras", header).await;
        assert_eq!(status, 401, "with {header:?}");
        assert!(head.contains("www-authenticate: Bearer"), "{head}");
        assert!(
            body.starts_with("{\"error\":\"the API needs the header `Authorization: Bearer TOKEN`"),
            "{body}"
        );
    }
    let bearing = "Authorization: bearer hush-hush\r\n";
    assert_eq!(node.get("/api/cameras", bearing).await.0, 200);
    for path in ["/metrics", "/healthz"] {
        assert_eq!(node.get(path, "").await.0, 200, "{path}");
    }
    assert_eq!(node.get("/readyz", "").await.0, 503);
}

#[tokio::test]
async fn elsewhere_without_a_token_the_api_is_closed() {
    let node = start("0.0.0.0:0", None).await;
    let (status, _, body) = node.get("/api/cameras", "Authorization: Bearer \r\n").await;
    assert_eq!(status, 403);
    assert_eq!(
        body,
        "{\"error\":\"the dashboard and the API are closed: `http.listen` is not loopback and there is no `http.token_file`, set one\"}"
    );
    assert_eq!(node.get("/healthz", "").await.0, 200);
}

#[tokio::test]
async fn another_path_is_not_found() {
    let node = start("127.0.0.1:0", None).await;
    assert_eq!(node.get("/api/secret", "").await.0, 404);
    assert_eq!(node.get("/nothing", "").await.0, 404);
}

#[tokio::test]
async fn a_port_in_use_is_told_with_address_and_remedy() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap();
    let error = server::bind(address).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{address} is in use: stop what listens there, or set `http.listen` to another port"
        )
    );
    let foreign: SocketAddr = "192.0.2.1:80".parse().unwrap();
    let error = server::bind(foreign).await.unwrap_err().to_string();
    assert!(
        error.starts_with("cannot listen on 192.0.2.1:80 ("),
        "{error}"
    );
}

#[tokio::test]
async fn the_server_stops_though_a_client_holds_its_connection() {
    let node = start("127.0.0.1:0", None).await;
    let mut idle = TcpStream::connect(("127.0.0.1", node.port)).await.unwrap();
    idle.write_all(b"GET /metrics HTT").await.unwrap();
    assert_eq!(node.get("/healthz", "").await.0, 200);
    node.stop.send(()).unwrap();
    tokio::time::timeout(LIMIT, node.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(("127.0.0.1", node.port)).await.is_err());
}

#[tokio::test]
async fn the_server_stops_at_once_though_streams_are_open() {
    let node = start("127.0.0.1:0", None).await;
    let mut open = Vec::new();
    for path in [
        "/api/events",
        "/api/events?type=detections",
        "/api/live?camera=cam/default",
        "/api/cameras/cam/default/live",
        "/api/cameras/cam/default/live?fps=1",
        "/healthz",
    ] {
        let mut stream = node.connect().await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200", "{path}");
        open.push((path, stream));
    }
    // Browsers open connections in advance.
    let _unused = node.connect().await;
    let asked = Instant::now();
    node.stop.send(()).unwrap();
    node.task.await.unwrap().unwrap();
    let took = asked.elapsed();
    println!("the server stopped after {took:?}");
    // Whoever is waited for has a second.
    assert!(took < Duration::from_millis(900), "{took:?}");
    for (path, mut stream) in open {
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        if path.contains("live") {
            assert!(rest.contains("\r\n\r\n7\r\n--frame\r\n"), "{rest}");
            assert!(rest.ends_with("4\r\n--\r\n\r\n0\r\n\r\n"), "{path}: {rest}");
        } else if path.contains("events") {
            assert!(rest.ends_with("0\r\n\r\n"), "{path}: {rest}");
        }
    }
}

#[tokio::test]
async fn a_picture_after_an_event_is_that_of_a_later_one() {
    let node = start("127.0.0.1:0", None).await;
    let at = Instant::now();
    let timing = FrameTiming {
        received_at: at,
        completed_at: at,
        decoded_at: at,
        rtp_timestamp: 0.into(),
        captured_at_unix_ms: None,
    };
    let size = PictureSize {
        width_px: 64,
        height_px: 48,
    };
    let planes = PlanePool::new(1).acquire(size.i420_bytes());
    let frame = Frame::new(planes, size, Color::default(), timing);
    let id = StreamId::new("cam", "default");
    let offers = async {
        // Frames without an event, those of events that are known, and at last that of a later one.
        for sequence in [None, Some(3), None, Some(5), Some(5)] {
            for _ in 0..5 {
                node.state
                    .previews
                    .offer(&id, &frame, sequence, || unreachable!("no boxes"));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        loop {
            node.state
                .previews
                .offer(&id, &frame, Some(6), || unreachable!("no boxes"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut stream = node.connect().await;
    let request = "GET /api/cameras/cam/default/frame.jpg?after=5 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::select! {
        read = stream.read_to_end(&mut answer) => assert!(read.unwrap() > 0),
        () = offers => {}
    }
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\r\nx-sequence: 6\r\n"), "{answer}");
}

#[tokio::test]
async fn the_probe_tells_health_through_a_node_that_listens_everywhere() {
    let node = start("0.0.0.0:0", None).await;
    let listen = SocketAddr::from(([0, 0, 0, 0], node.port));
    probe::health(listen, LIMIT).await.unwrap();
    let _heartbeat = node.silent_loop();
    let error = probe::health(listen, LIMIT).await.unwrap_err().to_string();
    assert!(
        error.starts_with("the node is not healthy: scheduler has not gone round"),
        "{error}"
    );
}

#[tokio::test]
async fn the_probe_tells_a_node_that_does_not_answer() {
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = mute.local_addr().unwrap();
    let error = probe::health(address, Duration::from_millis(50))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the node has not answered at {address} within 0.05 s: restart it")
    );
    drop(mute);
    let error = probe::health(address, LIMIT).await.unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("the node cannot be asked at {address} (")),
        "{error}"
    );
}

#[tokio::test]
async fn the_probe_tells_that_something_else_answers() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap();
    let answer = tokio::spawn(async move {
        let (mut stream, _) = other.accept().await.unwrap();
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        stream.write_all(b"SSH-2.0\r\n").await.unwrap();
    });
    let error = probe::health(address, LIMIT).await.unwrap_err();
    assert!(matches!(error, ProbeError::NotTheNode(_)), "{error:?}");
    answer.await.unwrap();
}

const REPLACED: &str = "twinsight_http_connections_closed_total{reason=\"replaced\"}";
const NO_REQUEST: &str = "twinsight_http_connections_closed_total{reason=\"request\"}";
const NOT_TAKEN: &str = "twinsight_http_connections_closed_total{reason=\"answer\"}";

#[tokio::test]
async fn probes_are_answered_however_many_hold_half_a_request() {
    let node = start_within("127.0.0.1:0", None, ConnectionLimits::new(16)).await;
    let mut held = Vec::new();
    for n in 0..400 {
        let mut stream = node.connect().await;
        let half = if n % 2 == 0 {
            "GET /metrics HTTP/1.1\r\nHost: a\r\n"
        } else {
            ""
        };
        stream.write_all(half.as_bytes()).await.unwrap();
        held.push(stream);
        let open = node.metric("twinsight_http_connections");
        assert!(open <= 16, "{open}");
        if n % 50 == 49 {
            node.answers_probes().await;
        }
    }
    assert!(node.metric("twinsight_http_connections") <= 16);
    // All but those that are there, and the probes ended by themselves.
    assert!(
        node.metric(REPLACED) >= 400 - 16,
        "{}",
        node.metric(REPLACED)
    );
}

#[tokio::test]
async fn a_request_that_comes_too_slowly_is_not_waited_for() {
    let limits = ConnectionLimits {
        request: Duration::from_millis(200),
        idle: Duration::from_millis(300),
        ..ConnectionLimits::new(16)
    };
    let node = start_within("127.0.0.1:0", None, limits).await;
    // A byte at a time, for ever.
    let mut slow = node.connect().await;
    let drip = async {
        loop {
            let sent = slow.write_all(b"G").await;
            if sent.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, drip).await.unwrap();
    assert_eq!(node.metric(NO_REQUEST), 1);
    // One request, and then nothing.
    let mut idle = node.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(LIMIT, idle.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    let reason = "twinsight_http_connections_closed_total{reason=\"idle\"}";
    assert_eq!(node.metric(reason), 1);
}

#[tokio::test]
async fn clients_that_never_take_the_metrics_hold_up_nobody() {
    let limits = ConnectionLimits {
        stuck: Duration::from_millis(500),
        ..ConnectionLimits::new(32)
    };
    let node = start_within("127.0.0.1:0", None, limits).await;
    for n in 0..500 {
        node.metrics
            .stream(&StreamId::new(&*format!("camera-{n}"), "default"));
    }
    let size = node.metrics.encode().len();
    println!("a scrape has {size} bytes");
    let address = SocketAddr::from(([127, 0, 0, 1], node.port));
    let mut mute = Vec::new();
    for _ in 0..40 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        mute.push(stream);
    }
    node.answers_probes().await;
    let deadline = Instant::now() + 3 * LIMIT;
    while node.metric(NOT_TAKEN) < 8 {
        assert!(Instant::now() < deadline, "{}", node.metric(NOT_TAKEN));
        node.answers_probes().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (status, _, body) = node.get("/metrics", "").await;
    assert!(
        status == 200 && body.len() > size / 2 || status == 503,
        "{status}"
    );
}

#[tokio::test]
async fn ten_thousand_requests_in_one_go_are_answered_in_order() {
    const REQUESTS: usize = 10_000;
    let node = start("127.0.0.1:0", None).await;
    let (mut reading, mut writing) = node.connect().await.into_split();
    let mut all = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".repeat(REQUESTS - 1);
    all += "GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let writing = tokio::spawn(async move { writing.write_all(all.as_bytes()).await });
    let mut answers = String::new();
    let read = reading.read_to_string(&mut answers);
    tokio::time::timeout(3 * LIMIT, read)
        .await
        .unwrap()
        .unwrap();
    writing.await.unwrap().unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), REQUESTS - 1);
    let last = &answers[answers.len() - 200..];
    assert!(last.ends_with("the hub is not joined\n"), "{last:?}");
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_leaves_nothing_behind() {
    let node = start("0.0.0.0:0", Some("hush-hush")).await;
    let line = "GET /healthz HTTP/1.1\r\nHost: a\r\n";
    let oddities: Vec<Vec<u8>> = vec![
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
        b"\0\0\0\0\r\n\r\n".to_vec(),
        format!("{line}X: {}\r\n\r\n", "a".repeat(1024 * 1024)).into_bytes(),
        format!("{line}{}\r\n", "X: a\r\n".repeat(100_000)).into_bytes(),
        format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000)).into_bytes(),
        format!("{line}Content-Length: 4\r\nContent-Length: 400\r\n\r\nabcd").into_bytes(),
        format!("{line}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n").into_bytes(),
        format!("{line}Content-Length: -1\r\n\r\n").into_bytes(),
        format!("{line}Content-Length: 18446744073709551616\r\n\r\n").into_bytes(),
        format!("{line}X\0: a\r\n\r\n").into_bytes(),
        format!("{line} folded: a\r\n\r\n").into_bytes(),
        format!("{line}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n").into_bytes(),
    ];
    for oddity in &oddities {
        let stream = node.connect().await;
        let (mut reading, mut writing) = stream.into_split();
        let (sent, shown) = (
            oddity.clone(),
            String::from_utf8_lossy(&oddity[..oddity.len().min(60)]),
        );
        // The server may close before all is sent.
        let writing = tokio::spawn(async move {
            let _ = writing.write_all(&sent).await;
            writing
        });
        let mut answer = Vec::new();
        // A reset comes where something was left unread.
        let _ = tokio::time::timeout(LIMIT, reading.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        println!("{shown:?}: {:?}", answer.lines().next());
        let refused = answer.is_empty()
            || answer.starts_with("HTTP/1.1 4")
            || answer.starts_with("HTTP/1.1 5");
        // A body that is wrong is never read, since no route takes one.
        assert!(
            refused || answer.matches("HTTP/1.1 ").count() == 1,
            "{shown:?}: {answer}"
        );
        drop(writing.await);
        node.answers_probes().await;
    }
    // What comes behind a body of two lengths is no request of its own.
    let mut stream = node.connect().await;
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /api/cameras HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(smuggled.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(!answer.contains("twinId"), "{answer}");
}

#[tokio::test]
async fn a_task_that_panicked_is_told_by_healthz_and_by_the_probe() {
    let node = start("127.0.0.1:0", None).await;
    let task = node
        .health
        .watch("the reload", async { panic!("as a bug would") });
    assert!(
        tokio::spawn(task)
            .await
            .is_err_and(|error| error.is_panic())
    );
    let sentence = "the reload ended by a panic (as a bug would): restart the node, this is a bug in Twinsight";
    let (status, _, body) = node.get("/healthz", "").await;
    assert_eq!((status, body), (503, format!("{sentence}\n")));
    let listen = SocketAddr::from(([127, 0, 0, 1], node.port));
    let error = probe::health(listen, LIMIT).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the node is not healthy: {sentence}")
    );
}
