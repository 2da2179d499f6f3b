//! Where results go. An inference comes in on a worker's thread and goes to the publisher as an event's contents; the
//! publisher's events go to the node's own twin on the hub, if there is a hub.

use std::sync::Arc;

use serde_json::Value;

use crate::detect::worker::Inference;
use crate::preview::{Previews, Seen};
use crate::publish::event::{Inferred, ModelRef, SeenObject};
use crate::publish::publisher::{EventSink, HubAway, Publisher};
use twinsight_client::hub::Instance;

/// Where the publisher's events go.
pub(super) enum NodeSink {
    /// To the node's own twin on the hub.
    Hub(Instance),
    /// Nowhere: without a hub an event is out once the publisher has given it to those who watch by HTTP.
    Local,
}

impl EventSink for NodeSink {
    async fn emit(&mut self, event: &'static str, data: Value) -> Result<(), HubAway> {
        match self {
            Self::Hub(instance) => instance.emit(event, data).await.map_err(|_| HubAway),
            Self::Local => Ok(()),
        }
    }
}

/// Shapes results into events, and offers their frames to whoever looks; runs on the inference workers.
pub(super) fn inference_sink(
    publisher: Publisher,
    previews: Previews,
) -> Arc<dyn Fn(Inference<'_>) + Send + Sync> {
    Arc::new(move |inference| {
        let Inference {
            job,
            detections,
            model,
            started_at,
            finished_at,
        } = inference;
        let objects = detections
            .objects
            .iter()
            .map(|object| SeenObject::of(object, model))
            .collect();
        let inferred = Inferred {
            id: job.work.id.clone(),
            name: Arc::clone(&job.work.name),
            size: job.frame.size(),
            timing: job.frame.timing(),
            started_at,
            preprocess: detections.preprocess.wall,
            inference: detections.inference.wall,
            postprocess: detections.postprocess.wall,
            finished_at,
            objects,
            model: Arc::new(ModelRef {
                name: model.name.to_string(),
                sha256: model.sha256.to_string(),
                keypoint_names: Arc::clone(&model.keypoints),
            }),
            skipped_frames: job.skipped_frames,
            trace: None,
        };
        let sequence = publisher.publish(inferred, job.work.emit_empty);
        previews.offer(&job.work.id, &job.frame, sequence, || Seen {
            objects: detections.objects,
            model: model.clone(),
        });
    })
}
