//! The configuration changes while the node runs: by its file, by SIGHUP and by the settings of its twin.
//! Cameras that did not change lose nothing; what is wrong is refused whole. Cameras, hub and node are
//! ours and real; the detector is a fake but for the node that is a process of its own.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

mod file;
mod models;
mod process;
mod settings;
mod tracks;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::common::{DEADLINE, fake, start_hub};
use twinsight::config::{ConfigSource, Env, Settings};
use twinsight::detect::manifest::ModelError;
use twinsight::detect::{BBox, Detector, FakeDetector, Object};
use twinsight::dev::hub::DevHubOptions;
use twinsight::node::models::{ModelLoader, Models};
use twinsight::node::reload::Reloaded;
use twinsight::node::{Node, NodeParts};
use twinsight::telemetry::metrics::StreamMetrics;
use twinsight_client::hub::{HubClient, MessageReceiver};
use twinsight_client::stream_id::StreamId;
use twinsight_media::decode::decoder::DecoderKind;

/// A model that sees two objects; the others see one.
const TWO: &str = "two";

/// A model that cannot be loaded.
const BROKEN: &str = "broken";

/// A model that is loaded once a test opens its gate.
const SLOW: &str = "slow";

/// A node that follows its file, with a fake detector.
struct Follower {
    node: Node,
    /// Lets one load of the slow model go on.
    gate: std::sync::mpsc::Sender<()>,
    /// Models that were asked for, by each worker.
    loads: Arc<std::sync::atomic::AtomicUsize>,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Follower {
    async fn start(url: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        std::fs::write(&file, text).unwrap();
        let env: Env = [
            ("PHYSTACK_SIMULATOR_URL", url),
            ("TWIN_ID", fake::NODE),
            ("TWINSIGHT_ICE__INTERFACES", "lo"),
        ]
        .into_iter()
        .collect();
        let source = ConfigSource::read(Some(&file), &env).unwrap();
        let config = source.resolve(&Settings::default()).unwrap();
        let person = Object {
            class_id: 0,
            score: 0.9,
            bbox: BBox {
                x: 1.0,
                y: 2.0,
                width: 3.0,
                height: 4.0,
            },
            keypoints: Vec::new(),
            outline: Vec::new(),
        };
        let (gate, opened) = std::sync::mpsc::channel();
        let opened = std::sync::Mutex::new(opened);
        let loads = Arc::<std::sync::atomic::AtomicUsize>::default();
        let counted = Arc::clone(&loads);
        let loader: ModelLoader = Arc::new(move |name| {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if name == SLOW {
                // The gate is gone at the test's end.
                let _ = opened.lock().unwrap().recv();
            }
            let objects = match name {
                BROKEN => return Err(ModelError::Name(name.to_owned())),
                TWO => vec![person.clone(), person.clone()],
                _ => vec![person.clone()],
            };
            let detector = FakeDetector::new(Duration::from_millis(2), objects);
            Ok(Box::new(detector) as Box<dyn Detector>)
        });
        let mut names: Vec<String> = config.cameras.iter().map(|c| c.model.clone()).collect();
        names.dedup();
        let mut node = Node::start(NodeParts {
            inference: twinsight::http::api::InferenceFacts::default(),
            config,
            models: Box::new(move |_| Models::new(names, loader)),
            workers: 2,
            decoder: DecoderKind::Software,
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        })
        .await
        .unwrap();
        node.follow(source, None);
        Self {
            node,
            gate,
            loads,
            file,
            _folder: folder,
        }
    }

    async fn reload(&self, text: &str) -> Reloaded {
        std::fs::write(&self.file, text).unwrap();
        tokio::time::timeout(DEADLINE, self.node.reload())
            .await
            .expect("a reload comes to its end")
    }

    fn stream(&self, twin: &str) -> Arc<StreamMetrics> {
        self.node.metrics().stream(&StreamId::new(twin, "default"))
    }

    /// Waits until the node's cameras are these.
    async fn until_cameras(&self, expected: &[&str]) {
        let there = async {
            loop {
                let cameras: Vec<String> = self
                    .node
                    .cameras()
                    .iter()
                    .map(|camera| camera.status.id.twin_id.to_string())
                    .collect();
                if cameras == expected {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(DEADLINE, there)
            .await
            .unwrap_or_else(|_| {
                panic!("the cameras become {expected:?}: {:?}", self.node.cameras())
            });
    }
}

/// Waits for a detection of a camera and gives it.
async fn detection(messages: &mut MessageReceiver, twin: &str) -> Value {
    let found = async {
        loop {
            let message = messages.recv().await.expect("the app stays on the hub");
            if message.message_type() == Some("edgeInstance:detections")
                && message.data["data"]["camera"]["twinId"] == twin
            {
                return message.data["data"].clone();
            }
        }
    };
    tokio::time::timeout(DEADLINE, found)
        .await
        .unwrap_or_else(|_| panic!("a detection of {twin} did not come"))
}

/// Sets the settings of the node's twin, as an operator does.
async fn set(app: &HubClient, settings: Value) {
    let payload = json!({"twinId": fake::NODE, "data": {"settings": settings}});
    app.call("updatePeripheralTwinDesired", payload)
        .await
        .unwrap();
}

/// Waits until the node reports this as wrong with its settings.
async fn until_reported(app: &HubClient, expected: Value) {
    let reported = async {
        loop {
            let twin = app.get_twin(fake::NODE).await.unwrap();
            let twinsight = twin.properties.reported.get("twinsight");
            if twinsight.is_some_and(|told| told["settingsError"] == expected) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, reported)
        .await
        .unwrap_or_else(|_| panic!("{expected} is reported"));
}
