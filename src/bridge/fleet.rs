//! All bridges of a program. The cameras of the configuration come in, and the running bridges are made those: the start from nothing,
//! additions, changes and removals are one code path, and the bridge of a camera that did not change is not touched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::Notify;

use super::camera::{BridgeContext, BridgedCamera};
use super::hub::BridgeHub;
use super::status::BridgeStatus;
use crate::config::{CameraConfig, SourceConfig};
use twinsight_client::stream_id::StreamId;

/// The bridges that run.
#[derive(Debug)]
pub struct Bridges {
    context: Arc<BridgeContext>,
    running: BTreeMap<StreamId, RunningBridge>,
}

#[derive(Debug)]
struct RunningBridge {
    config: CameraConfig,
    camera: BridgedCamera,
}

/// How many bridges a reconciliation touched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BridgeChanges {
    /// Bridges that are new.
    pub added: usize,
    /// Bridges that were begun anew, because their change needs it.
    pub restarted: usize,
    /// Bridges whose camera is no longer configured.
    pub removed: usize,
}

impl Bridges {
    /// No bridges yet.
    pub fn new(context: BridgeContext) -> Self {
        Self {
            context: Arc::new(context),
            running: BTreeMap::new(),
        }
    }

    /// Makes the running bridges those of the cameras that have a source. Whoever calls this must let it finish.
    pub async fn apply(&mut self, cameras: &[CameraConfig]) -> BridgeChanges {
        let wanted: BTreeMap<&StreamId, (&CameraConfig, &SourceConfig)> = cameras
            .iter()
            .filter_map(|camera| Some((&camera.id, (camera, camera.source.as_ref()?))))
            .collect();
        let is_wanted = |bridge: &RunningBridge| {
            let wanted = wanted.get(&bridge.config.id);
            wanted.is_some_and(|(wanted, _)| !must_restart(&bridge.config, wanted))
        };
        let gone: Vec<StreamId> = self
            .running
            .iter()
            .filter(|(_, bridge)| !is_wanted(bridge))
            .map(|(id, _)| id.clone())
            .collect();
        let mut changes = BridgeChanges::default();
        let gone: Vec<(StreamId, RunningBridge)> = gone
            .into_iter()
            .filter_map(|id| Some((id.clone(), self.running.remove(&id)?)))
            .collect();
        let ids: Vec<StreamId> = gone.iter().map(|(id, _)| id.clone()).collect();
        join_all(gone.into_iter().map(|(_, bridge)| bridge.camera.close())).await;
        for id in ids {
            if wanted.contains_key(&id) {
                changes.restarted += 1;
            } else {
                changes.removed += 1;
                self.context.metrics.forget_bridge(&id);
            }
        }
        for (id, (config, source)) in &wanted {
            if let Some(bridge) = self.running.get_mut(*id) {
                bridge.config = (*config).clone();
                continue;
            }
            let camera = BridgedCamera::open(&self.context, (*config).clone(), (*source).clone());
            let config = (*config).clone();
            self.running
                .insert((*id).clone(), RunningBridge { config, camera });
            changes.added += 1;
        }
        changes.added -= changes.restarted;
        let twins: BTreeSet<Arc<str>> = wanted.keys().map(|id| Arc::clone(&id.twin_id)).collect();
        self.context.hub.retain(&twins).await;
        changes
    }

    /// Where each bridge stands.
    pub fn statuses(&self) -> impl Iterator<Item = (&StreamId, BridgeStatus)> {
        let running = self.running.iter();
        running.map(|(id, bridge)| (id, bridge.camera.status().borrow().clone()))
    }

    /// Why a viewer of the camera gets no pictures, as the bridge's own sentence. `None` if it knows no reason.
    pub fn trouble(&self, id: &StreamId) -> Option<Arc<str>> {
        let status = self.running.get(id)?.camera.status();
        status.borrow().reason.clone()
    }

    /// It is notified whenever the camera can be dialled anew. `None` for a camera that is not bridged.
    pub fn listens(&self, id: &StreamId) -> Option<Arc<Notify>> {
        let bridge = self.running.get(id)?;
        Some(Arc::clone(bridge.camera.listens()))
    }

    /// The hub that they are on.
    pub fn hub(&self) -> &BridgeHub {
        &self.context.hub
    }

    /// Ends all bridges, and leaves the hub.
    pub async fn shutdown(&mut self) {
        let running = std::mem::take(&mut self.running);
        join_all(running.into_values().map(|bridge| bridge.camera.close())).await;
        self.context.hub.retain(&BTreeSet::new()).await;
    }
}

/// True when a change needs a new bridge. The camera's name and what a node does with its pictures do not.
fn must_restart(old: &CameraConfig, new: &CameraConfig) -> bool {
    old.source != new.source || old.connect != new.connect || old.dialect != new.dialect
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigSource, Env};

    fn camera(text: &str) -> CameraConfig {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bridge.toml");
        let text = format!("[[cameras]]\ntwin_id = \"yard\"\n{text}");
        std::fs::write(&file, text).unwrap();
        let env: Env = [
            ("PHYSTACK_SIMULATOR_URL", "http://127.0.0.1:9"),
            ("TWIN_ID", "node-1"),
        ]
        .into_iter()
        .collect();
        let source = ConfigSource::read(Some(&file), &env).unwrap();
        source.resolve_for_bridge().unwrap().cameras.remove(0)
    }

    #[test]
    fn what_the_camera_or_its_viewers_would_notice_needs_a_new_bridge() {
        let address = "rtsp = \"rtsp://ann:one@cam/\"\n";
        let old = camera(address);
        assert!(!must_restart(&old, &old));
        assert!(!must_restart(
            &old,
            &camera(&format!("{address}name = \"Yard\"\n"))
        ));
        for changed in [
            "rtsp = \"rtsp://ann:one@other/\"\n",
            "rtsp = \"rtsp://ann:two@cam/\"\n",
            "rtsp = \"rtsp://ann:one@cam/\"\nrtsp_transport = \"udp\"\n",
            "rtsp = \"rtsp://ann:one@cam/\"\nconnect = \"accept\"\n",
            "rtsp = \"rtsp://ann:one@cam/\"\ndialect = \"legacy\"\n",
            "device = \"/dev/video0\"\n",
        ] {
            assert!(must_restart(&old, &camera(changed)), "{changed}");
        }
    }
}
