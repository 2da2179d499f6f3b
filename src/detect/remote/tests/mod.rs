//! Remote models against servers of ours, by both protocols. Whether real servers give the boxes of local inference is tested with
//! Triton, MLServer and KServe.

mod access;
mod answers;
mod offers;
mod server;
mod trouble;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use twinsight_media::picture::PictureSize;

use self::server::Running;
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

/// What a test waits for comes within this time on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(20);

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

    /// Waits until its server can be used.
    fn meet(&self) -> Result<(), String> {
        let runtime = self.runtime.as_ref().unwrap();
        runtime.block_on(self.model().first_contact(PATIENCE))
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

    /// Detects until there is a result. How soon a server that is back is asked is a matter of the plain state that decides it.
    fn detect_again(&mut self) {
        until("there is a result again", || self.detect().is_ok());
    }

    fn away(&self) -> String {
        match self.model().availability() {
            Availability::Away { reason } => reason,
            Availability::Ready => panic!("a server is there"),
        }
    }

    /// Waits until its server is away for a reason with these words, and gives all of the reason.
    fn is_away_since(&self, words: &str) -> String {
        let limit = Instant::now() + PATIENCE;
        loop {
            let availability = self.model().availability();
            match &availability {
                Availability::Away { reason } if reason.contains(words) => return reason.clone(),
                _ => assert!(Instant::now() < limit, "{availability:?}, and not: {words}"),
            }
            std::thread::sleep(Duration::from_millis(5));
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

/// Waits until this holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < limit, "this does not happen: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
