//! What runs on other machines in real use: a hub, cameras, and an app that receives the node's events. The clip comes in, the
//! ages of events go out. It has a runtime of its own, so that the CPU time of its threads can be told apart from the node's.

use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

use super::super::loopback::{LoopbackHub, camera, camera_client};
use twinsight_client::hub::client::HubClient;
use twinsight_client::hub::options::HubOptions;
use twinsight_media::h264::clip::Clip;

/// The name of all threads of the runtime.
pub(super) const THREADS: &str = "cameras";

/// The twin id of the node.
pub(super) const NODE: &str = "twinsight-capacity";

/// At most this many events wait for the app.
const EVENT_QUEUE: usize = 4096;

/// At most this many ages of one step are kept.
const MAX_AGES: usize = 1_000_000;

/// The hub, the cameras and the app. Dropping it ends them.
pub(super) struct Testbed {
    /// `None` only while it is being dropped.
    runtime: Option<Runtime>,
    handle: Handle,
    hub: LoopbackHub,
    clip: Arc<Clip>,
    fps: f64,
    cameras: usize,
    ages_ms: Arc<Mutex<Vec<f64>>>,
}

impl Testbed {
    /// Starts the hub and the app, without cameras.
    pub(super) async fn start(clip: Arc<Clip>, fps: f64) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .thread_name(THREADS)
            .enable_all()
            .build()
            .context("cannot start the runtime of the cameras")?;
        let ages_ms: Arc<Mutex<Vec<f64>>> = Arc::default();
        let noted = Arc::clone(&ages_ms);
        let started = runtime.spawn(async move {
            let hub = LoopbackHub::start().await?;
            let app = HubClient::start(HubOptions::simulator(&hub.url, "capacity-app"));
            app.joined().await?;
            app.subscribe(NODE).await?;
            tokio::spawn(note_ages(app, noted));
            anyhow::Ok(hub)
        });
        let hub = started.await.context("the hub broke")??;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            hub,
            clip,
            fps,
            cameras: 0,
            ages_ms,
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.hub.url
    }

    /// The twin ids of the first `count` cameras, which wait to be dialled from now on.
    pub(super) fn cameras(&mut self, count: usize) -> Vec<String> {
        let ids: Vec<String> = (1..=count).map(|n| format!("camera-{n}")).collect();
        for id in ids.iter().skip(self.cameras) {
            let (url, id, clip) = (self.hub.url.clone(), id.clone(), Arc::clone(&self.clip));
            // Each camera shows another scene: it is five eighths of the clip ahead of the one before.
            let start = self.cameras * clip.units().len() * 5 / 8;
            let fps = self.fps;
            self.handle
                .spawn(async move { camera(camera_client(&url, &id), clip, fps, start).await });
            self.cameras += 1;
        }
        ids
    }

    /// The ages of the events since the last call, sorted.
    pub(super) fn take_ages_ms(&self) -> Vec<f64> {
        let mut noted = self.ages_ms.lock();
        let mut ages = std::mem::take(&mut *noted);
        drop(noted);
        ages.sort_by(f64::total_cmp);
        ages
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // No task has anything to finish.
            runtime.shutdown_background();
        }
    }
}

/// Notes the age of each event, for the life of the app.
async fn note_ages(app: HubClient, noted: Arc<Mutex<Vec<f64>>>) {
    let mut events = app.messages(EVENT_QUEUE, |message| {
        message.message_type() == Some("edgeInstance:detections")
    });
    while let Some(message) = events.recv().await {
        if let Some(age_ms) = message.data["data"]["latencyMs"]["total"].as_f64() {
            let mut noted = noted.lock();
            if noted.len() < MAX_AGES {
                noted.push(age_ms);
            }
        }
    }
}
