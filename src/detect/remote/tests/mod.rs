//! Remote models against servers of ours, by both protocols. Whether real servers give the boxes of local inference is tested with
//! Triton and MLServer.

mod server;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use bytes::Bytes;
use tokio::runtime::Runtime;
use tonic::Code;
use tonic::transport::Identity;
use twinsight_client::secret::Secret;
use twinsight_media::picture::PictureSize;

use self::server::{Answer, Running, start, start_at};
use super::client::{CallError, Clients, InferRequest};
use super::protocol::{Datatype, InputTensor};
use super::{Availability, RemoteModel};
use crate::config::{RemoteModelConfig, ServerProtocol, ServerUrl};
use crate::detect::detector::{DetectError, DetectSettings, Detections, Detector};
use crate::preprocess::Picture;
use crate::telemetry::ledger::InferenceFailure;
use crate::telemetry::metrics::Metrics;

const BOTH: [ServerProtocol; 2] = [ServerProtocol::Grpc, ServerProtocol::Http];

const MANIFEST: &str = r#"licence = "MIT"
source = "made here"
labels = ["person", "car"]
nms_iou = 0.5
[input]
name = "images"
width = 32
height = 16
layout = "nchw"
color_order = "rgb"
scale = 0.5
resize = "stretch"
[output]
kind = "yolo"
predictions = "out"
"#;

/// A model on these servers, and all that it lives in.
struct Node {
    model: Option<Arc<RemoteModel>>,
    detector: Box<dyn Detector>,
    metrics: Arc<Metrics>,
    runtime: Option<Runtime>,
}

fn url(server: &Running, protocol: ServerProtocol) -> ServerUrl {
    ServerUrl {
        protocol,
        tls: false,
        authority: server.address.to_string(),
        path: match protocol {
            ServerProtocol::Grpc => String::new(),
            ServerProtocol::Http => "/below".to_owned(),
        },
    }
}

fn config(servers: Vec<ServerUrl>) -> RemoteModelConfig {
    RemoteModelConfig {
        name: "far".to_owned(),
        manifest: "net".to_owned(),
        servers,
        model: "net".to_owned(),
        version: None,
        deadline: Duration::from_millis(600),
        max_in_flight: 4,
        fallback: None,
        ca_file: None,
        token: None,
    }
}

fn node(config: &RemoteModelConfig) -> Node {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("net.toml"), MANIFEST).unwrap();
    let metrics = Arc::new(Metrics::new());
    let model = RemoteModel::open(config, dir.path(), runtime.handle(), &metrics).unwrap();
    Node {
        detector: model.detector(),
        model: Some(model),
        metrics,
        runtime: Some(runtime),
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.model.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Node {
    fn model(&self) -> &RemoteModel {
        self.model.as_ref().unwrap()
    }

    fn meet(&self) -> Result<(), String> {
        self.meet_within(Duration::from_secs(10))
    }

    fn meet_within(&self, limit: Duration) -> Result<(), String> {
        let runtime = self.runtime.as_ref().unwrap();
        runtime.block_on(self.model().first_contact(limit))
    }

    /// Detects in a picture whose pixels all have this colour.
    fn detect(&mut self) -> Result<Detections, DetectError> {
        let rgb = [200, 100, 50].repeat(64 * 32);
        let size = PictureSize {
            width_px: 64,
            height_px: 32,
        };
        let picture = Picture::Rgb { data: &rgb, size };
        self.detector.detect(picture, &DetectSettings::default())
    }

    /// Detects until there is a result, and says how long that took.
    fn detect_within(&mut self, limit: Duration) -> Duration {
        let started = Instant::now();
        loop {
            match self.detect() {
                Ok(_) => return started.elapsed(),
                Err(error) => assert!(started.elapsed() < limit, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn away(&self) -> String {
        match self.model().availability() {
            Availability::Away { reason } => reason,
            Availability::Ready => panic!("a server is there"),
        }
    }

    fn count(&self, series: &str) -> u64 {
        let text = self.metrics.encode();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0, |number| number.parse().unwrap())
    }

    fn requests(&self, server: &ServerUrl, result: &str) -> u64 {
        self.count(&format!(
            "twinsight_remote_requests_total{{model=\"far\",result=\"{result}\",server=\"{server}\"}}"
        ))
    }
}

fn failure<T>(result: Result<T, DetectError>) -> (InferenceFailure, String) {
    match result {
        Ok(_) => panic!("it should have failed"),
        Err(error) => (error.failure(), error.to_string()),
    }
}

#[test]
fn boxes_come_back_in_the_pixels_of_the_picture() {
    for protocol in BOTH {
        let server = start(protocol);
        let url = url(&server, protocol);
        let with_version = RemoteModelConfig {
            version: Some("3".to_owned()),
            ..config(vec![url.clone()])
        };
        let mut node = node(&with_version);
        node.meet().unwrap();
        assert_eq!(node.model().info().sha256, None);
        assert_eq!(&*node.model().info().name, "far");
        let found = node.detect().unwrap();
        let object = &found.objects[0];
        assert_eq!((object.class_id, object.score), (1, 0.9));
        let bbox = object.bbox;
        assert_eq!(
            (bbox.x, bbox.y, bbox.width, bbox.height),
            (0.0, 0.0, 32.0, 16.0)
        );
        let seen = server.fake.seen.lock().pop().unwrap();
        assert_eq!((seen.model.as_str(), seen.version.as_str()), ("net", "3"));
        assert_eq!(
            (seen.datatype.as_str(), seen.shape),
            ("FP32", vec![1, 3, 16, 32])
        );
        assert_eq!(seen.data[..4], 100f32.to_le_bytes());
        assert_eq!(seen.data.len(), 6144);
        let version = concat!("twinsight/", env!("CARGO_PKG_VERSION"));
        assert!(seen.user_agent.starts_with(version), "{}", seen.user_agent);
        assert_eq!(node.requests(&url, "ok"), 1);
        assert_eq!(
            node.count("twinsight_remote_request_bytes_total{model=\"far\"}"),
            6144
        );
        let ready = format!("twinsight_remote_server_ready{{model=\"far\",server=\"{url}\"}}");
        assert_eq!(node.count(&ready), 1);
        let facts = node.model().facts();
        assert_eq!(facts.servers[0].state, "ready");
        assert_eq!((facts.in_flight, facts.slots), (0, 1));
        let input = facts.input.unwrap();
        assert_eq!((input.datatype, input.frame_bytes), ("FP32", 6144));

        let explained = {
            let rgb = [0; 3 * 64 * 32];
            let size = PictureSize {
                width_px: 64,
                height_px: 32,
            };
            let picture = Picture::Rgb { data: &rgb, size };
            let settings = DetectSettings {
                min_score: 0.95,
                classes: vec![],
            };
            node.detector.explain(picture, &settings, 0.2).unwrap()
        };
        assert!(explained.detections.objects.is_empty());
        assert_eq!(explained.candidates.len(), 1);
    }
}

#[test]
fn what_is_late_is_given_up_at_its_deadline_and_what_comes_next_goes_on_at_once() {
    for protocol in BOTH {
        let server = start(protocol);
        let url = url(&server, protocol);
        let mut node = node(&config(vec![url.clone()]));
        node.meet().unwrap();
        node.detect().unwrap();
        server
            .fake
            .set(|script| script.delay = Duration::from_secs(5));
        let started = Instant::now();
        let (kind, text) = failure(node.detect());
        let took = started.elapsed();
        assert!((600..1200).contains(&took.as_millis()), "{took:?}");
        assert_eq!(kind, InferenceFailure::Deadline);
        assert_eq!(
            text,
            format!("model far: {url} has not answered within 600 ms")
        );
        server.fake.set(|script| script.delay = Duration::ZERO);
        node.detect().unwrap();
        assert_eq!(node.requests(&url, "deadline"), 1);
        // The server sees that nobody waits for the late answer.
        let until = Instant::now() + Duration::from_secs(2);
        while server.fake.given_up.load(Ordering::Relaxed) == 0 {
            assert!(Instant::now() < until, "{protocol:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_server_that_is_frozen_is_left_and_used_again_within_two_seconds_of_its_return() {
    for protocol in BOTH {
        let server = start(protocol);
        let mut node = node(&config(vec![url(&server, protocol)]));
        node.meet().unwrap();
        node.detect().unwrap();
        let freeze = |is_frozen| server.fake.set(|script| script.is_frozen = is_frozen);
        freeze(true);
        for _ in 0..3 {
            assert_eq!(failure(node.detect()).0, InferenceFailure::Deadline);
        }
        assert!(
            node.away().contains("3 requests in a row"),
            "{}",
            node.away()
        );
        let started = Instant::now();
        assert_eq!(failure(node.detect()).0, InferenceFailure::Unavailable);
        assert!(
            started.elapsed() < Duration::from_millis(100),
            "it waits for nobody"
        );
        let until = Instant::now() + Duration::from_secs(5);
        while !node.away().contains("it has not said within 1 s") {
            assert!(Instant::now() < until, "{}", node.away());
            std::thread::sleep(Duration::from_millis(20));
        }
        freeze(false);
        node.detect_within(Duration::from_secs(2));
    }
}

#[test]
fn a_wrong_shape_or_type_is_an_error_and_the_server_is_left() {
    for protocol in BOTH {
        let server = start(protocol);
        let url = url(&server, protocol);
        let mut node = node(&config(vec![url.clone()]));
        node.meet().unwrap();
        let answers = [
            (vec![1, 1, 9], 9, "its output `out` is f32 [1, 1, 9]"),
            (
                vec![1, 2, 6],
                6,
                "its output `out` has the shape [1, 2, 6], and its data are 24 bytes of FP32",
            ),
        ];
        for (shape, count, expected) in answers {
            let values = vec![0.0; count];
            node.detect_within(Duration::from_secs(2));
            server
                .fake
                .set(|script| script.answer = Answer::Numbers { shape, values });
            let (kind, text) = failure(node.detect());
            assert_eq!(kind, InferenceFailure::Answer);
            assert!(text.contains(expected), "{text}");
            assert!(node.away().contains(expected), "{}", node.away());
            // It says that it is ready, and no frame is lost to that.
            std::thread::sleep(Duration::from_millis(1200));
            assert_eq!(failure(node.detect()).0, InferenceFailure::Unavailable);
            server
                .fake
                .set(|script| *script = server::Script::default());
        }
        node.detect_within(Duration::from_secs(2));
        server.fake.set(|script| script.answer = Answer::Integers);
        let (kind, text) = failure(node.detect());
        assert_eq!(kind, InferenceFailure::Answer);
        let expected = "its output `out` is i32 ";
        assert!(text.contains(expected), "{text}");
        assert_eq!(node.requests(&url, "answer"), 3);
        server
            .fake
            .set(|script| *script = server::Script::default());
        node.detect_within(Duration::from_secs(2));
    }
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    for protocol in BOTH {
        let server = start(protocol);
        let slow = RemoteModelConfig {
            deadline: Duration::from_secs(20),
            ..config(vec![url(&server, protocol)])
        };
        let mut node = node(&slow);
        node.meet().unwrap();
        server.fake.set(|script| script.answer = Answer::Huge);
        let (kind, text) = failure(node.detect());
        assert_eq!(kind, InferenceFailure::Answer, "{text}");
    }
}

#[test]
fn a_model_that_is_unloaded_and_loaded_again_is_noticed() {
    for protocol in BOTH {
        let server = start(protocol);
        server.fake.set(|script| script.is_ready = false);
        let mut node = node(&config(vec![url(&server, protocol)]));
        let error = node.meet_within(Duration::from_millis(700)).unwrap_err();
        let expected = match protocol {
            ServerProtocol::Grpc => "it does not have the model `net` ready",
            ServerProtocol::Http => "it answered 400 Bad Request",
        };
        assert!(error.contains(expected), "{error}");
        server.fake.set(|script| script.is_ready = true);
        node.meet_within(Duration::from_secs(2)).unwrap();
        node.detect().unwrap();

        let gone = Answer::Error(
            Code::Unavailable,
            StatusCode::SERVICE_UNAVAILABLE,
            "unknown model",
        );
        server.fake.set(|script| {
            script.is_ready = false;
            script.answer = gone;
        });
        let (kind, text) = failure(node.detect());
        assert_eq!(kind, InferenceFailure::Unavailable);
        assert!(text.contains("unknown model"), "{text}");
        assert_eq!(failure(node.detect()).0, InferenceFailure::Unavailable);
        assert_eq!(
            server.fake.seen.lock().len(),
            3,
            "a trial and two frames are all that it was asked"
        );
        server
            .fake
            .set(|script| *script = server::Script::default());
        node.detect_within(Duration::from_secs(2));
    }
}

#[test]
fn a_model_that_takes_something_else_is_away_with_what_is_wrong() {
    for protocol in BOTH {
        let server = start(protocol);
        server
            .fake
            .set(|script| script.input = ("INT64", vec![1, 3, 16, 32]));
        let mut node = node(&config(vec![url(&server, protocol)]));
        let wrong: [(&str, Vec<i64>, &str); 2] = [
            (
                "INT64",
                vec![1, 3, 16, 32],
                "and is `images` i64 [1, 3, 16, 32]",
            ),
            (
                "FP32",
                vec![1, 3, 64, 64],
                "correct `input.height` in the manifest net",
            ),
        ];
        for (datatype, shape, expected) in wrong {
            server.fake.set(|script| script.input = (datatype, shape));
            let until = Instant::now() + Duration::from_secs(4);
            while !node.model().facts().servers[0]
                .reason
                .as_ref()
                .is_some_and(|reason| reason.contains(expected))
            {
                assert!(Instant::now() < until, "{:?}", node.model().facts());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        // It comes back with a model that takes another type, which is then sent.
        server
            .fake
            .set(|script| script.input = ("UINT8", vec![-1, 3, 16, 32]));
        node.meet().unwrap();
        node.detect().unwrap();
        let seen = server.fake.seen.lock().pop().unwrap();
        assert_eq!(
            (seen.datatype.as_str(), seen.data.len(), seen.data[0]),
            ("UINT8", 1536, 200)
        );
    }
}

#[test]
fn of_two_servers_one_goes_on_when_the_other_dies_and_both_are_used_when_it_is_back() {
    for protocol in BOTH {
        let (first, second) = (start(protocol), start(protocol));
        let urls = [url(&first, protocol), url(&second, protocol)];
        let mut node = node(&config(urls.to_vec()));
        let is_used = |node: &mut Node, server: &Running| {
            let before = server.fake.seen.lock().len();
            let until = Instant::now() + Duration::from_secs(2);
            while server.fake.seen.lock().len() == before {
                assert!(Instant::now() < until, "{:?}", node.model().facts());
                node.detect().unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        node.meet().unwrap();
        is_used(&mut node, &first);
        is_used(&mut node, &second);
        let (address, fake) = (first.address, Arc::clone(&first.fake));
        drop(first);
        let failed = (0..60)
            .filter(|_| {
                std::thread::sleep(Duration::from_millis(5));
                node.detect().is_err()
            })
            .count();
        assert!(failed <= 1, "{failed}");
        assert_eq!(node.model().availability(), Availability::Ready);
        let first = start_at(protocol, address, fake, None);
        // It has seen a request as soon as it is tried, and has frames only when it has answered.
        let until = Instant::now() + Duration::from_secs(10);
        while node.model().facts().servers[0].state != "ready" {
            assert!(Instant::now() < until, "{:?}", node.model().facts());
            std::thread::sleep(Duration::from_millis(5));
        }
        is_used(&mut node, &first);
        drop(second);
        // With the second one gone as well, what is left has all.
        let until = Instant::now() + Duration::from_secs(2);
        while node.model().facts().servers[1].state != "away" {
            assert!(Instant::now() < until);
            let _ = node.detect();
        }
        node.detect().unwrap();
    }
}

#[test]
fn a_server_that_is_killed_is_used_within_two_seconds_of_its_return() {
    for protocol in BOTH {
        let server = start(protocol);
        let (address, fake) = (server.address, Arc::clone(&server.fake));
        let mut node = node(&config(vec![url(&server, protocol)]));
        node.meet().unwrap();
        node.detect().unwrap();
        drop(server);
        failure(node.detect());
        std::thread::sleep(Duration::from_millis(2500));
        assert_eq!(failure(node.detect()).0, InferenceFailure::Unavailable);
        let _server = start_at(protocol, address, fake, None);
        node.detect_within(Duration::from_secs(2));
    }
}

#[test]
fn a_token_is_sent_and_never_told() {
    for protocol in BOTH {
        let server = start(protocol);
        let wanted = Some("Bearer right-token".to_owned());
        server.fake.set(|script| script.token = wanted);
        let with_token = |token: &str| RemoteModelConfig {
            token: Some(Secret::new(token)),
            ..config(vec![url(&server, protocol)])
        };
        let mut right = node(&with_token("right-token"));
        right.meet().unwrap();
        right.detect().unwrap();
        let wrong = node(&with_token("wrong-token"));
        let error = wrong.meet_within(Duration::from_millis(700)).unwrap_err();
        assert!(error.contains("not with this"), "{error}");
        let debug = format!("{:?} {:?} {error}", wrong.model(), wrong.model().facts());
        assert!(!debug.contains("wrong-token"), "{debug}");
    }
}

#[test]
fn a_token_that_is_rotated_is_taken_when_the_old_one_is_refused() {
    let server = start(ServerProtocol::Grpc);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "first-token").unwrap();
    let set = |token: &str| {
        let wanted = Some(format!("Bearer {token}"));
        server.fake.set(|script| script.token = wanted);
    };
    set("first-token");
    let mut node = node(&RemoteModelConfig {
        token: Secret::of_file(file.path(), "first-token"),
        ..config(vec![url(&server, ServerProtocol::Grpc)])
    });
    node.meet().unwrap();
    node.detect().unwrap();
    set("second-token");
    std::fs::write(file.path(), "second-token").unwrap();
    failure(node.detect());
    node.detect_within(Duration::from_secs(2));
}

#[test]
fn tls_trusts_the_authority_of_the_file_and_no_other() {
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let identity = Identity::from_pem(issued.cert.pem(), issued.signing_key.serialize_pem());
    let any = "127.0.0.1:0".parse().unwrap();
    let server = start_at(ServerProtocol::Grpc, any, Arc::default(), Some(identity));
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, issued.cert.pem()).unwrap();
    let with = |ca_file: Option<&Path>| RemoteModelConfig {
        ca_file: ca_file.map(Path::to_owned),
        ..config(vec![ServerUrl {
            protocol: ServerProtocol::Grpc,
            tls: true,
            authority: format!("localhost:{}", server.address.port()),
            path: String::new(),
        }])
    };
    let mut trusting = node(&with(Some(&ca_file)));
    trusting.meet().unwrap();
    trusting.detect().unwrap();
    let error = node(&with(None))
        .meet_within(Duration::from_secs(1))
        .unwrap_err();
    assert!(error.contains("certificate"), "{error}");

    let metrics = Arc::new(Metrics::new());
    let runtime = Runtime::new().unwrap();
    std::fs::write(folder.path().join("net.toml"), MANIFEST).unwrap();
    let missing = folder.path().join("none.pem");
    let error = RemoteModel::open(
        &with(Some(&missing)),
        folder.path(),
        runtime.handle(),
        &metrics,
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("model `far`: ") && error.contains("none.pem cannot be used"),
        "{error}"
    );
}

#[test]
fn workers_in_parallel_are_bounded_by_the_slots_that_are_measured() {
    let server = start(ServerProtocol::Grpc);
    server
        .fake
        .set(|script| script.delay = Duration::from_millis(30));
    let node = node(&config(vec![url(&server, ServerProtocol::Grpc)]));
    node.meet().unwrap();
    assert_eq!(node.model().slots(), 1);
    let until = Instant::now() + Duration::from_secs(20);
    let most = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut worker = Node {
                    model: node.model.clone(),
                    detector: node.model.as_ref().unwrap().detector(),
                    metrics: Arc::clone(&node.metrics),
                    runtime: None,
                };
                while Instant::now() < until && most.load(Ordering::Relaxed) < 3 {
                    let (facts, slots) = (worker.model().facts(), worker.model().slots());
                    if facts.in_flight >= slots {
                        std::thread::sleep(Duration::from_micros(300));
                        continue;
                    }
                    worker.detect().unwrap();
                    most.fetch_max(slots, Ordering::Relaxed);
                }
            });
        }
    });
    // The server takes any number at once, so that more slots are worth it.
    assert!(most.load(Ordering::Relaxed) >= 3);
}

#[test]
fn a_server_that_takes_no_bytes_over_http_is_told_from_one_that_fails() {
    let server = start(ServerProtocol::Http);
    let fails = Answer::Error(Code::Internal, StatusCode::INTERNAL_SERVER_ERROR, "no JSON");
    server.fake.set(|script| script.answer = fails);
    let node = node(&config(vec![url(&server, ServerProtocol::Http)]));
    let error = node.meet_within(Duration::from_secs(1)).unwrap_err();
    assert!(
        error.ends_with("ready, but it answered 500 Internal Server Error (no JSON)"),
        "{error}"
    );
    server.fake.set(|script| script.takes_bytes = false);
    let until = Instant::now() + Duration::from_secs(4);
    while !node
        .away()
        .contains("cannot be sent over HTTP: use grpc://")
    {
        assert!(Instant::now() < until, "{}", node.away());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_server_that_is_ready_and_fails_never_gets_a_frame() {
    for protocol in BOTH {
        let server = start(protocol);
        let fails = Answer::Error(
            Code::Internal,
            StatusCode::INTERNAL_SERVER_ERROR,
            "out of memory",
        );
        server.fake.set(|script| script.answer = fails);
        let url = url(&server, protocol);
        let mut node = node(&config(vec![url.clone()]));
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            assert_eq!(failure(node.detect()).0, InferenceFailure::Unavailable);
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(node.away().contains("out of memory"), "{}", node.away());
        assert_eq!(node.requests(&url, "answer"), 0);
        server
            .fake
            .set(|script| *script = server::Script::default());
        node.detect_within(Duration::from_secs(2));
    }
}

#[test]
fn a_server_that_has_too_much_to_do_is_not_left_for_that_at_once() {
    for protocol in BOTH {
        let server = start(protocol);
        let mut node = node(&config(vec![url(&server, protocol)]));
        node.meet().unwrap();
        node.detect().unwrap();
        let busy = Answer::Error(
            Code::ResourceExhausted,
            StatusCode::TOO_MANY_REQUESTS,
            "later",
        );
        for _ in 0..2 {
            server.fake.set(|script| script.answer = busy.clone());
            let (kind, text) = failure(node.detect());
            assert_eq!(kind, InferenceFailure::Unavailable);
            assert!(text.contains("later"), "{text}");
            assert_eq!(node.model().availability(), Availability::Ready);
            server
                .fake
                .set(|script| *script = server::Script::default());
            node.detect().unwrap();
        }
        server.fake.set(|script| script.answer = busy);
        for _ in 0..3 {
            failure(node.detect());
        }
        assert!(node.away().contains("later"));
    }
}

#[test]
fn an_answer_that_is_found_too_late_by_a_program_that_did_not_run_is_not_used() {
    for protocol in BOTH {
        let server = start(protocol);
        let url = url(&server, protocol);
        let config = config(vec![url.clone()]);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let answer = runtime.block_on(async {
            let client = Clients::new(&config).unwrap().client(&url, &config);
            let client = client.unwrap();
            client.ask().await.unwrap();
            let input = InputTensor {
                name: "images".to_owned(),
                datatype: Datatype::Uint8,
                shape: vec![1],
                data: Bytes::from_static(&[1]),
            };
            let request = InferRequest {
                inputs: &[input],
                outputs: &["out".to_owned()],
                most_answer_bytes: 1 << 20,
                limit: Duration::from_millis(300),
            };
            // The answer comes while nothing of the program runs.
            server
                .fake
                .set(|script| script.delay = Duration::from_millis(100));
            let stopped = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                std::thread::sleep(Duration::from_millis(600));
            };
            tokio::join!(client.infer(&request), stopped).0
        });
        assert_eq!(answer, Err(CallError::Deadline));
    }
}
