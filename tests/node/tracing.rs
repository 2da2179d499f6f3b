//! Traces of frames, as a collector of OpenTelemetry gets them: what they say, and that a collector that is away, refuses or
//! hangs harms nothing. What the node sends is decoded by OpenTelemetry's own Python package.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::serve::Listener;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use twinsight::dev::hub::{self, DevHubOptions};
use twinsight_client::hub::MessageReceiver;
use twinsight_client::stream_id::StreamId;

use crate::common::ports::unused_address;
use crate::common::{DEADLINE, NodeProcess, fake, python, root, start_hub};

const STAGES: [&str; 7] = [
    "receive",
    "decode",
    "wait",
    "preprocess",
    "inference",
    "postprocess",
    "publish",
];

const CAMERA: &str = "[[cameras]]\ntwin_id = \"cam\"\nmax_fps = 10\n";

/// A collector that answers with the status that it is told, and hands on the bodies that it took.
struct Collector {
    endpoint: String,
    status: Arc<AtomicU16>,
    requests: mpsc::UnboundedReceiver<(u16, HeaderMap, Bytes)>,
}

type Told = (
    Arc<AtomicU16>,
    mpsc::UnboundedSender<(u16, HeaderMap, Bytes)>,
);

/// The socket of a collector that speaks TLS.
struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            // A client that does not trust the certificate goes away.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl TlsListener {
    /// Listens as `localhost`, with a certificate of its own, which is returned.
    async fn bind() -> (Self, String) {
        let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], key)
            .unwrap();
        let listener = Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
        };
        (listener, issued.cert.pem())
    }
}

impl Collector {
    async fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on("http://127.0.0.1", listener, status)
    }

    fn on<L: Listener<Addr = SocketAddr>>(host: &str, listener: L, status: u16) -> Self {
        let (sender, requests) = mpsc::unbounded_channel();
        let status = Arc::new(AtomicU16::new(status));
        let take = async |State((status, sender)): State<Told>, headers: HeaderMap, body: Bytes| {
            let status = status.load(Ordering::Relaxed);
            let _ = sender.send((status, headers, body));
            StatusCode::from_u16(status).unwrap()
        };
        let app = Router::new()
            .route("/otlp/v1/traces", post(take))
            .with_state((Arc::clone(&status), sender));
        let endpoint = format!("{host}:{}/otlp", listener.local_addr().unwrap().port());
        tokio::spawn(async { axum::serve(listener, app).await });
        Self {
            endpoint,
            status,
            requests,
        }
    }

    async fn request(&mut self) -> (u16, HeaderMap, Bytes) {
        let request = tokio::time::timeout(DEADLINE, self.requests.recv()).await;
        request
            .expect("a request comes")
            .expect("the collector runs")
    }

    /// The next request that it takes, decoded.
    async fn taken(&mut self) -> Value {
        loop {
            let (status, headers, body) = self.request().await;
            if status == 200 {
                assert_eq!(headers["content-type"], "application/x-protobuf");
                return decode(&body);
            }
        }
    }
}

/// What OpenTelemetry's Python package makes of a request.
fn decode(body: &[u8]) -> Value {
    let mut child = Command::new(python())
        .arg(root().join("tests/interop/otlp.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(body).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The attribute of a span or a resource.
fn attribute<'a>(of: &'a Value, key: &str) -> &'a Value {
    let attributes = of["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|each| each["key"] == key);
    let value = found.unwrap_or_else(|| panic!("no attribute {key}: {of:#}"))["value"]
        .as_object()
        .unwrap();
    value.values().next().unwrap()
}

fn nanoseconds(of: &Value, key: &str) -> u64 {
    of[key].as_str().unwrap().parse().unwrap()
}

fn duration(span: &Value) -> u64 {
    nanoseconds(span, "endTimeUnixNano") - nanoseconds(span, "startTimeUnixNano")
}

fn spans(request: &Value) -> Vec<Value> {
    request["resourceSpans"][0]["scopeSpans"][0]["spans"]
        .as_array()
        .unwrap()
        .clone()
}

async fn detection(messages: &mut MessageReceiver) -> Value {
    let found = async {
        loop {
            let message = messages.recv().await.expect("the app stays on the hub");
            if message.message_type() == Some("edgeInstance:detections") {
                return message.data["data"].clone();
            }
        }
    };
    let found = tokio::time::timeout(DEADLINE, found).await;
    found.expect("an event comes")
}

fn telemetry(endpoint: &str, ratio: f64) -> String {
    format!(
        "[telemetry]\notlp_endpoint = \"{endpoint}\"\ntrace_sample_ratio = {ratio:.1}\n{CAMERA}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sampled_frame_is_one_tree_from_its_first_packet_to_its_event() {
    let url = start_hub(DevHubOptions::default()).await;
    let (_app, mut messages) = fake::listen(&url).await;
    let mut collector = Collector::start(200).await;
    let config = telemetry(&collector.endpoint, 1.0);
    let node = fake::node(&url, &config, Duration::from_millis(20)).await;
    fake::camera(&url, "cam", "default", None, 10.0);
    let event = detection(&mut messages).await;
    let request = collector.taken().await;

    let resource = &request["resourceSpans"][0]["resource"];
    assert_eq!(attribute(resource, "service.name"), fake::NODE);
    assert_eq!(attribute(resource, "service.instance.id"), &event["runId"]);

    let traceparent = event["traceparent"].as_str().unwrap();
    let ["00", trace_id, root_id, "01"] = traceparent.split('-').collect::<Vec<_>>()[..] else {
        panic!("{traceparent}");
    };
    let tree: Vec<_> = spans(&request)
        .into_iter()
        .filter(|span| span["traceId"] == trace_id)
        .collect();
    assert_eq!(tree.len(), 8, "{request:#}");
    let (roots, children): (Vec<_>, Vec<_>) = tree
        .into_iter()
        .partition(|span| span["parentSpanId"].is_null());
    let [root] = &roots[..] else {
        panic!("{roots:#?}");
    };
    assert_eq!(
        (&root["name"], &root["spanId"]),
        (&"frame".into(), &root_id.into())
    );
    assert!(root["status"].is_null(), "{root:#}");
    for (key, value) in [
        ("twinsight.camera.twin_id", "cam"),
        ("twinsight.camera.stream", "default"),
        (
            "twinsight.model.name",
            event["model"]["name"].as_str().unwrap(),
        ),
    ] {
        assert_eq!(attribute(root, key), value);
    }
    for (key, value) in [
        ("twinsight.event.sequence", &event["sequence"]),
        (
            "twinsight.frame.rtp_timestamp",
            &event["frame"]["rtpTimestamp"],
        ),
        ("twinsight.frame.width", &event["frame"]["width"]),
        ("twinsight.frame.height", &event["frame"]["height"]),
        ("twinsight.objects.count", &1.into()),
    ] {
        assert_eq!(attribute(root, key), &value.to_string(), "{key}");
    }

    // The children are the stages, one after the other, each as long as the event says, and within the root.
    let names: Vec<_> = children
        .iter()
        .map(|span| span["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, STAGES);
    let mut at = nanoseconds(root, "startTimeUnixNano");
    let tenth = 100_000.0;
    for span in &children {
        assert_eq!(span["parentSpanId"], root_id);
        assert_eq!(nanoseconds(span, "startTimeUnixNano"), at);
        at = nanoseconds(span, "endTimeUnixNano");
        let name = span["name"].as_str().unwrap();
        let told = event["latencyMs"][name].as_f64().unwrap() * 1e6;
        if name != "publish" {
            assert!(
                (duration(span) as f64 - told).abs() <= tenth,
                "{span:#} {event:#}"
            );
        }
    }
    assert_eq!(at, nanoseconds(root, "endTimeUnixNano"));
    // The event tells the time until it was made, and the trace also how long writing it took.
    let made = nanoseconds(&children[6]["events"][0], "timeUnixNano");
    let total = event["latencyMs"]["total"].as_f64().unwrap() * 1e6;
    let until_made = (made - nanoseconds(root, "startTimeUnixNano")) as f64;
    assert!((until_made - total).abs() <= tenth, "{until_made} {total}");
    let sum: u64 = children.iter().map(duration).sum();
    println!(
        "stages {sum} ns, latency {total} ns, writing {} ns",
        at - made
    );
    assert_eq!(sum, duration(root));
    assert_eq!(made / 1_000_000, event["timestamp"].as_u64().unwrap());

    node.shutdown().await;
    let rest = collector.taken().await;
    assert_eq!(spans(&rest).len() % 8, 0, "what waited is sent at the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_ratio_no_event_names_a_trace() {
    let url = start_hub(DevHubOptions::default()).await;
    let (_app, mut messages) = fake::listen(&url).await;
    let mut collector = Collector::start(200).await;
    let config = telemetry(&collector.endpoint, 0.0);
    let node = fake::node(&url, &config, Duration::ZERO).await;
    fake::camera(&url, "cam", "default", None, 10.0);
    let event = detection(&mut messages).await;
    assert!(event.get("traceparent").is_none(), "{event:#}");
    node.shutdown().await;
    assert!(collector.requests.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_dropped_is_an_error_of_its_trace() {
    let mut collector = Collector::start(200).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let hub = tokio::spawn(hub::run(listener, DevHubOptions::default(), async {
        drop(stopped.await);
    }));
    let config = telemetry(&collector.endpoint, 1.0);
    let node = fake::node(&url, &config, Duration::ZERO).await;
    fake::camera(&url, "cam", "default", None, 10.0);
    let first = collector.taken().await;
    assert!(spans(&first).iter().all(|span| span["status"].is_null()));
    // The camera's connection goes on without the hub.
    let _ = stop.send(());
    hub.await.unwrap().unwrap();
    let failed = async {
        loop {
            let request = collector.taken().await;
            let spans = spans(&request);
            if let Some(span) = spans.iter().find(|span| !span["status"].is_null()) {
                return (span.clone(), spans);
            }
        }
    };
    let (root, spans) = tokio::time::timeout(DEADLINE, failed).await.unwrap();
    assert_eq!(
        (&root["name"], &root["status"]["code"]),
        (&"frame".into(), &"STATUS_CODE_ERROR".into())
    );
    assert_eq!(attribute(&root, "error.type"), "hub_disconnected");
    let is_publish =
        |span: &&Value| span["name"] == "publish" && span["traceId"] == root["traceId"];
    let publish = spans.iter().find(is_publish).unwrap();
    assert_eq!(attribute(publish, "error.type"), "hub_disconnected");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_overloaded_gets_the_traces_when_it_recovers() {
    let mut collector = Collector::start(503).await;
    let url = start_hub(DevHubOptions::default()).await;
    let config = telemetry(&collector.endpoint, 1.0);
    let node = fake::node(&url, &config, Duration::ZERO).await;
    fake::camera(&url, "cam", "default", None, 10.0);
    for _ in 0..2 {
        assert_eq!(collector.request().await.0, 503);
    }
    collector.status.store(200, Ordering::Relaxed);
    let request = collector.taken().await;
    let sequences: Vec<_> = spans(&request)
        .iter()
        .filter(|span| span["name"] == "frame")
        .map(|span| attribute(span, "twinsight.event.sequence").clone())
        .collect();
    assert_eq!(sequences[0], "1", "nothing was lost: {sequences:?}");
    let metrics = Arc::clone(node.metrics());
    node.shutdown().await;
    assert!(metrics.traces.exported.get() >= sequences.len() as u64);
    let text = metrics.encode();
    for reason in ["queue_full", "refused", "shutdown"] {
        let series = format!("twinsight_traces_dropped_total{{reason=\"{reason}\"}} 0");
        assert!(text.contains(&series), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_refuses_never_answers_or_is_away_harms_nothing() {
    let refusing = Collector::start(400).await;
    // The system accepts connections for it, and nobody reads from them.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_endpoint = format!("http://{}", silent.local_addr().unwrap());
    let away = format!("http://{}", unused_address());
    for endpoint in [&refusing.endpoint, &silent_endpoint, &away] {
        let url = start_hub(DevHubOptions::default()).await;
        let (_app, mut messages) = fake::listen(&url).await;
        // Tracks would take numbers of their own.
        let config = telemetry(endpoint, 1.0) + "track.enabled = false\n";
        let node = fake::node(&url, &config, Duration::ZERO).await;
        fake::camera(&url, "cam", "default", None, 10.0);
        let mut last = 0;
        while last < 40 {
            let event = detection(&mut messages).await;
            let sequence = event["sequence"].as_u64().unwrap();
            assert_eq!(sequence, last + 1, "no event is lost");
            last = sequence;
        }
        let metrics = Arc::clone(node.metrics());
        let asked = Instant::now();
        node.shutdown().await;
        let took = asked.elapsed();
        println!("{endpoint}: stopped within {took:?}");
        assert!(took < Duration::from_secs(4), "{took:?}");
        for stream in metrics.all_streams() {
            assert!(stream.ledger().balances(), "{:?}", stream.ledger());
            // Each event has its trace, and each trace is counted as dropped.
            let text = metrics.encode();
            let dropped: f64 = text
                .lines()
                .filter(|line| line.starts_with("twinsight_traces_dropped_total{"))
                .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
                .sum();
            assert_eq!(metrics.traces.exported.get(), 0);
            let [_, _, in_flight] = stream.ledger().in_flight();
            assert_eq!(in_flight, 0);
            assert!(dropped >= 40.0, "{dropped}: {text}");
        }
    }
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_behind_tls_is_believed_by_the_operators_certificate_alone() {
    let (listener, certificate) = TlsListener::bind().await;
    let mut collector = Collector::on("https://localhost", listener, 200);
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("collector.pem");
    std::fs::write(&ca_file, certificate).unwrap();
    let url = start_hub(DevHubOptions::default()).await;
    fake::camera(&url, "cam", "default", None, 10.0);

    let config = telemetry(&collector.endpoint, 1.0);
    let node = fake::node(&url, &config, Duration::ZERO).await;
    let stream = node.metrics().stream(&StreamId::new("cam", "default"));
    let deadline = Instant::now() + DEADLINE;
    while stream.events_published.get() < 10 {
        assert!(Instant::now() < deadline, "no events");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    node.shutdown().await;
    assert!(collector.requests.try_recv().is_err(), "it is not trusted");

    let trusting = config.replace(
        "[telemetry]",
        &format!("[telemetry]\notlp_ca_file = {ca_file:?}"),
    );
    let node = fake::node(&url, &trusting, Duration::ZERO).await;
    assert_eq!(spans(&collector.taken().await).len() % 8, 0);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_wants_a_header_gets_it_and_the_log_never_does() {
    let url = start_hub(DevHubOptions::default()).await;
    let mut collector = Collector::start(503).await;
    let mut headers = tempfile::NamedTempFile::new().unwrap();
    writeln!(headers, "Authorization: Bearer hush-hush-hush").unwrap();
    let config = format!(
        "[defaults]\nmodel = \"ssdlite_mobilenet_v2_coco\"\n{}",
        telemetry(&collector.endpoint, 1.0)
    );
    let mut node = NodeProcess::start(
        &config,
        &[
            ("PHYSTACK_SIMULATOR_URL", &url),
            ("TWIN_ID", fake::NODE),
            ("TWINSIGHT_ICE__INTERFACES", "lo"),
            (
                "TWINSIGHT_TELEMETRY__OTLP_HEADERS_FILE",
                headers.path().to_str().unwrap(),
            ),
            ("RUST_LOG", "debug"),
        ],
    )
    .await;
    fake::camera(&url, "cam", "default", None, 10.0);
    let (_, head, _) = collector.request().await;
    assert_eq!(head["authorization"], "Bearer hush-hush-hush");
    collector.request().await;
    node.program.signal("TERM");
    let mut warnings = 0;
    while let Some(line) = node.program.line().await {
        assert!(!line.contains("hush-hush"), "{line}");
        warnings += usize::from(line.contains("the collector does not take traces"));
    }
    assert_eq!(warnings, 1, "it is told once");
    assert_eq!(node.program.ended().await.code(), Some(0));
}
