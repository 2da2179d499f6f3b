//! The HTTP server over real sockets: what is open, what is guarded, how it starts and stops.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use twinsight::config::{Secret, StreamId};
use twinsight::http::api::{CameraFacts, CameraView};
use twinsight::http::probe::{self, ProbeError};
use twinsight::http::server::{self, HttpError, HttpState};
use twinsight::telemetry::health::{Health, Heartbeat, Readiness};
use twinsight::telemetry::ledger::CameraState;
use twinsight::telemetry::metrics::Metrics;

const LIMIT: Duration = Duration::from_secs(10);

struct Node {
    port: u16,
    health: Health,
    readiness: Arc<Readiness>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), HttpError>>,
}

async fn start(listen: &str, token: Option<&str>) -> Node {
    let listener = server::bind(listen.parse().unwrap()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let metrics = Arc::new(Metrics::new());
    let id = StreamId::new("cam", "default");
    let stream = metrics.stream(&id);
    stream.frames_decoded.inc_by(3);
    let cameras = move || {
        let facts = CameraFacts {
            id: id.clone(),
            name: "Yard".to_owned(),
            model: "m".to_owned(),
            state: CameraState::Receiving,
            since: Instant::now(),
            reason: None,
            attempt: 0,
            last_event_at: None,
        };
        vec![CameraView::new(facts, &stream, Instant::now())]
    };
    let state = HttpState {
        metrics,
        health: Health::default(),
        readiness: Arc::default(),
        cameras: Arc::new(cameras),
    };
    let (stop, stopped) = oneshot::channel();
    let (health, readiness) = (state.health.clone(), Arc::clone(&state.readiness));
    let token = token.map(Secret::new);
    let task = tokio::spawn(server::serve(listener, state, token, async {
        let _ = stopped.await;
    }));
    Node {
        port,
        health,
        readiness,
        stop,
        task,
    }
}

impl Node {
    /// A GET over loopback: status, head and body.
    async fn get(&self, path: &str, header: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head[9..12].parse().unwrap();
        (status, head.to_owned(), body.to_owned())
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
        body.starts_with("scheduler has not gone round for 0."),
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
        assert!(body.starts_with("the API needs the header `Authorization: Bearer TOKEN`"));
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
        "the API is closed: `http.listen` is not loopback and there is no `http.token_file`, set one\n"
    );
    assert_eq!(node.get("/healthz", "").await.0, 200);
}

#[tokio::test]
async fn another_path_is_not_found() {
    let node = start("127.0.0.1:0", None).await;
    assert_eq!(node.get("/api/secret", "").await.0, 404);
    assert_eq!(node.get("/", "").await.0, 404);
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
