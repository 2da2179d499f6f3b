//! What the answers are made from. The node fills it as it starts, so that probes are answered before there are models.

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use procfs::FromRead;
use procfs::process::StatM;

use super::api::node::{ConfigSummary, MemoryView, NodeView, SheddingView, SinkView, WatchersView};
use super::api::tracks::SceneView;
use super::api::{CameraFacts, CameraHub, CameraView, ConfigFacts, Detail, NodeFacts};
use super::scene_edit::SceneEditor;
use crate::clock::{WallClock, unix_ms};
use crate::preview::Previews;
use crate::publish::feed::EventFeed;
use crate::telemetry::health::{Health, Readiness};
use crate::telemetry::metrics::Metrics;
use crate::track::directory::TrackDirectory;
use twinsight_client::stream_id::StreamId;

/// What the answers are made from. Clones share it.
#[derive(Clone)]
pub struct HttpState {
    /// Answers `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Answers `/healthz`.
    pub health: Health,
    /// Answers `/readyz`.
    pub readiness: Arc<Readiness>,
    /// What is known of the cameras.
    pub cameras: Arc<Mutex<Vec<CameraFacts>>>,
    /// What is known of the node.
    pub node: Arc<Mutex<NodeFacts>>,
    /// The configuration in force.
    pub config: Arc<Mutex<ConfigFacts>>,
    /// The events.
    pub feed: EventFeed,
    /// The pictures.
    pub previews: Previews,
    /// What the cameras follow.
    pub tracks: Arc<TrackDirectory>,
    /// Who changes zones, lines and masks for those who ask for it.
    pub editor: SceneEditor,
    /// When the node began.
    pub started_at: SystemTime,
}

impl fmt::Debug for HttpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpState").finish_non_exhaustive()
    }
}

impl HttpState {
    /// The state of a node that has just begun: what is not given here is filled in as it becomes known.
    pub fn new(metrics: Arc<Metrics>, feed: EventFeed, previews: Previews) -> Self {
        Self {
            metrics,
            health: Health::default(),
            readiness: Arc::default(),
            cameras: Arc::default(),
            node: Arc::default(),
            config: Arc::default(),
            feed,
            previews,
            tracks: Arc::default(),
            editor: SceneEditor::default(),
            started_at: SystemTime::now(),
        }
    }

    /// The cameras, in the order of the configuration.
    pub(super) fn camera_views(&self, detail: Detail) -> Vec<CameraView> {
        let facts = self.cameras.lock().clone();
        facts
            .into_iter()
            .filter_map(|facts| self.camera_view(facts, detail))
            .collect()
    }

    /// One camera; `None` if there is none of this name.
    pub(super) fn camera(&self, twin_id: &str, stream: &str) -> Option<CameraView> {
        let facts = self.facts_of(twin_id, stream)?;
        let edit_refusal = self.editor.refusal();
        let scene = match self.tracks.get(&facts.status.id) {
            Some(tracks) => {
                let reading = tracks.reading();
                let shots = tracks.shot_numbers(reading.live.iter().map(|track| track.id));
                SceneView::new(&reading, &shots, edit_refusal)
            }
            None => SceneView::of_config(&facts.settings.scene, edit_refusal),
        };
        let view = self.camera_view(facts, Detail::History)?;
        Some(view.with_scene(scene))
    }

    /// What is known of the camera of this name.
    pub(super) fn facts_of(&self, twin_id: &str, stream: &str) -> Option<CameraFacts> {
        self.facts(|id| *id.twin_id == *twin_id && *id.stream == *stream)
    }

    /// What is known of the first camera that `is_it` says yes to.
    pub(super) fn facts(&self, is_it: impl Fn(&StreamId) -> bool) -> Option<CameraFacts> {
        let cameras = self.cameras.lock();
        cameras
            .iter()
            .find(|facts| is_it(&facts.status.id))
            .cloned()
    }

    fn camera_view(&self, facts: CameraFacts, detail: Detail) -> Option<CameraView> {
        let metrics = self.metrics.known_stream(&facts.status.id)?;
        let hub = self.node.lock().hub.clone();
        let hub = match hub.is_none() {
            true => CameraHub::None,
            false if hub.state == "joined" => CameraHub::Joined,
            false => CameraHub::Away,
        };
        let clock = WallClock::read();
        Some(CameraView::new(facts, &metrics, detail, hub, &clock))
    }

    /// The node.
    pub(super) fn node_view(&self) -> NodeView {
        let clock = WallClock::read();
        let problems = self.readiness.missing();
        // One lock at a time, so that the order in which others take them does not matter.
        let models_of_cameras: Vec<_> = {
            let cameras = self.cameras.lock();
            let settings = cameras.iter().map(|facts| Arc::clone(&facts.settings));
            settings.collect()
        };
        let uses = |name: &str| {
            let using = models_of_cameras.iter().filter(|each| each.model == name);
            using.count()
        };
        let config = self.config.lock().clone();
        let watchers = WatchersView::new(self.previews.watches(), self.feed.watchers());
        let states = self.feed.states();
        let unhealthy = self.health.complaints(Instant::now());
        let resident_bytes = resident_bytes();
        let node = self.node.lock();
        let streams = self.metrics.all_streams();
        let shed_levels = streams.iter().map(|stream| stream.shed_level() as u8);
        NodeView {
            version: env!("CARGO_PKG_VERSION"),
            run_id: self.feed.run_id().to_owned(),
            started_at: unix_ms(self.started_at),
            now: clock.unix_ms(clock.instant()),
            ready: problems.is_empty(),
            problems,
            unhealthy,
            hub: node.hub(&self.metrics, &clock),
            sinks: SinkView::all(&self.metrics),
            models: node.models(uses),
            inference: node.inference(&self.metrics),
            cpu: node.cpu(),
            memory: MemoryView { resident_bytes },
            shedding: SheddingView {
                level: shed_levels.max().unwrap_or(0),
            },
            watchers,
            config: ConfigSummary {
                applied_at: config.applied_at.map(unix_ms),
                reload_ok: config.last_refusal.is_none(),
                last_refusal: config.last_refusal,
            },
            share: node.share.clone(),
            states,
        }
    }
}

/// The memory of this process that is in RAM; 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let pages = StatM::from_file("/proc/self/statm").map_or(0, |memory| memory.resident);
    pages * procfs::page_size()
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinsight_media::ledger::ShedLevel;

    #[test]
    fn the_node_sheds_as_much_as_the_camera_that_sheds_most() {
        let metrics = Arc::new(Metrics::new());
        let state = HttpState::new(
            Arc::clone(&metrics),
            EventFeed::new("run"),
            Previews::new(Arc::clone(&metrics)),
        );
        assert_eq!(state.node_view().shedding.level, 0);
        for (twin, level) in [
            ("a", ShedLevel::InferLess),
            ("b", ShedLevel::KeyframesOnly),
            ("c", ShedLevel::None),
        ] {
            let id = StreamId::new(twin, "default");
            metrics.stream(&id).set_shed_level(level);
        }
        assert_eq!(state.node_view().shedding.level, 3);
    }
}
