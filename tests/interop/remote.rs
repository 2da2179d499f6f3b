//! Models on real inference servers, looked at from outside: the node is the program as its users start it, and what it sends is heard by
//! the official Python client. The boxes are those of local inference; a server that dies, hangs, is late or answers nonsense makes no
//! result old, costs nothing but its own frames, and is used again as soon as it is back.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::AbortHandle;
use twinsight::dev::camera::{self, CameraOptions};
use twinsight::dev::hub::DevHubOptions;
use twinsight_client::hub::{HubClient, HubOptions};
use twinsight_client::realtime::ice::IceSettings;
use twinsight_media::h264::clip::Clip;

use crate::common::{DEADLINE, NodeProcess, Program, http_get, root, start_hub, sum_of, twinsight};
use crate::serving::{InferenceServer, Make};

/// Frames a second of the cameras.
const CAMERA_FPS: f64 = 10.0;

/// From the return of a server to the first result that is its own.
const RETURN_LIMIT: Duration = Duration::from_secs(2);

/// On a machine that is busy with other tests, a server that is back may be late for its first requests, and is asked again after a second.
const WORST_RETURN: Duration = Duration::from_secs(8);

/// Everything that a listener has heard of the node, with the time at which it came.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<(Instant, Value)>>>);

impl Heard {
    /// Starts the official Python client, which listens from then on.
    async fn listen(url: &str) -> Self {
        let env = [("PHYSTACK_SIMULATOR_URL", url), ("TWIN_ID", "app-1")];
        let mut listener = Program::python("listener.py", &["node-1", "--statuses"], &env);
        listener.until("ready").await;
        let heard = Self::default();
        let into = heard.clone();
        tokio::spawn(async move {
            while let Some(line) = listener.line().await {
                let event = serde_json::from_str(&line).unwrap();
                into.0.lock().unwrap().push((Instant::now(), event));
            }
        });
        heard
    }

    fn detections_of(&self, camera: &str, since: Instant) -> Vec<(Instant, Value)> {
        let all = self.0.lock().unwrap();
        all.iter()
            .filter(|(at, event)| {
                *at >= since && event["camera"]["twinId"] == camera && event["objects"].is_array()
            })
            .cloned()
            .collect()
    }

    /// Waits for detections of a camera by this model of frames that came after `since`, and says how long after it they came.
    async fn until(&self, camera: &str, model: &str, since: Instant) -> Duration {
        self.until_number(1, camera, model, since).await
    }

    async fn until_number(
        &self,
        count: usize,
        camera: &str,
        model: &str,
        since: Instant,
    ) -> Duration {
        let begun = Instant::now();
        loop {
            let found = self.detections_of(camera, since);
            let mut by_model = found
                .iter()
                .filter(|(_, event)| event["model"]["name"] == model);
            if let Some((at, _)) = by_model.nth(count - 1) {
                return at.duration_since(since);
            }
            assert!(
                begun.elapsed() < DEADLINE,
                "no detections of {camera} by {model} come"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The first frames of the shipped clip, as a byte stream.
fn first_frames(count: usize) -> Vec<u8> {
    let bytes = std::fs::read(root().join("media/pedestrians.h264")).unwrap();
    let mut frames = 0;
    let starts = (0..bytes.len() - 4).filter(|&at| bytes[at..at + 3] == [0, 0, 1]);
    for at in starts {
        // A slice whose first macroblock is number 0 begins a picture: an Exp-Golomb 0 is a single bit.
        let is_slice = matches!(bytes[at + 3] & 0x1f, 1 | 5);
        if is_slice && bytes[at + 4] & 0x80 != 0 {
            frames += 1;
            if frames > count {
                return bytes[..at].to_vec();
            }
        }
    }
    panic!("the clip has no {count} frames");
}

fn start_camera(url: &str, twin: &str, clip: &Arc<Clip>) -> AbortHandle {
    let options = CameraOptions {
        stream: "default".to_owned(),
        dial: None,
        fps: CAMERA_FPS,
        start: 0,
        ice: IceSettings {
            interfaces: vec!["lo".to_owned()],
            ..IceSettings::default()
        },
    };
    let hub = HubClient::start(HubOptions::simulator(url, twin));
    tokio::spawn(camera::run(hub, Arc::clone(clip), options)).abort_handle()
}

async fn start_node(url: &str, config: &str) -> NodeProcess {
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url),
        ("TWIN_ID", "node-1"),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
    ];
    let mut node = NodeProcess::start(config, &env).await;
    node.program.until("the hub is joined").await;
    node
}

/// How much of what came in is not accounted for yet: units, frames, events.
fn open(node: &NodeProcess, camera: &str) -> [f64; 3] {
    // All are of one moment, so that nothing that happens between two readings is taken for a loss.
    let text = http_get(node.http, "/metrics");
    let labels = format!("camera=\"{camera}\"");
    let of = |metric| sum_of(&text, metric, &labels);
    [
        of("access_units_received_total")
            - of("frames_decoded_total")
            - of("access_units_dropped_total"),
        of("frames_decoded_total") - of("frames_inferred_total") - of("frames_dropped_total"),
        of("frames_inferred_total") - of("events_published_total") - of("events_dropped_total"),
    ]
}

/// All cameras gone, everything that came in is accounted for.
async fn is_at_rest(node: &NodeProcess, cameras: &[&str]) {
    let begun = Instant::now();
    while cameras.iter().any(|camera| open(node, camera) != [0.0; 3]) {
        let left: Vec<_> = cameras.iter().map(|camera| open(node, camera)).collect();
        assert!(
            begun.elapsed() < DEADLINE,
            "the ledger does not balance: {left:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The same, and then the node ends as it is told to.
async fn ends_with_an_exact_ledger(node: &mut NodeProcess, cameras: &[&str]) {
    is_at_rest(node, cameras).await;
    node.program.signal("TERM");
    assert!(node.program.ended().await.success());
}

mod boxes;
mod check;
mod faults;
mod pair;
