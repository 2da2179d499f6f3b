//! Where results go. An inference comes in on a worker's thread and goes to the publisher as an event's contents; the
//! publisher's events go to the node's own twin on the hub, if there is a hub.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::config::Detections;
use crate::detect::still::{LastResult, MotionWork};
use crate::detect::worker::{Inference, UnchangedSink};
use crate::preview::{Previews, Seen};
use crate::publish::event::{Following, Inferred, ModelRef, SeenObject};
use crate::publish::publisher::{EventSink, HubAway, Publisher};
use crate::publish::track_event::TrackEvent;
use crate::track::directory::TrackDirectory;
use crate::track::news::TrackNews;
use crate::track::stage::{Look, ObjectFate};
use twinsight_client::hub::Instance;
use twinsight_client::stream_id::StreamId;

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
    tracks: Arc<TrackDirectory>,
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
        let (work, timing, size) = (&job.work, job.frame.timing(), job.frame.size());
        let mut objects = detections.objects;
        let mut news = Vec::new();
        let mut followings = Vec::new();
        let tracks = tracks.get(&work.id);
        let order = tracks.as_ref().map(|tracks| tracks.in_order());
        let look = Look {
            timing,
            size,
            objects: &objects,
            model,
        };
        let staged = tracks.as_ref().and_then(|tracks| tracks.look(look));
        // There is no stage when the camera was removed while its frame was in inference. Nobody is told of such a frame.
        let is_there = staged.is_some();
        if let Some(staged) = staged {
            let mut fates = staged.fates.into_iter();
            news = staged.news;
            let is_followed = staged.is_followed;
            objects.retain(|object| {
                let fate = fates.next().unwrap_or(ObjectFate::Unclaimed);
                let stays = fate != ObjectFate::Masked && object.score >= work.min_score;
                if stays {
                    followings.push(is_followed.then(|| following(fate)));
                }
                stays
            });
        } else {
            objects.clear();
        }
        if let (Some(motion), Some(tracks)) = (&work.motion, &tracks) {
            motion.set_settled(tracks.is_settled());
        }
        for object in &objects {
            work.metrics.object_detected(model.label(object.class_id));
        }
        followings.resize(objects.len(), None);
        let seen = objects.iter().zip(followings);
        let inferred = Inferred {
            id: work.id.clone(),
            name: Arc::clone(&work.name),
            size,
            timing,
            started_at,
            preprocess: detections.preprocess.wall,
            inference: detections.inference.wall,
            postprocess: detections.postprocess.wall,
            finished_at,
            objects: seen
                .map(|(object, following)| SeenObject {
                    following,
                    ..SeenObject::of(object, model)
                })
                .collect(),
            model: Arc::new(ModelRef {
                name: model.name.to_string(),
                sha256: model.sha256.as_deref().map(str::to_owned),
                keypoint_names: Arc::clone(&model.keypoints),
            }),
            skipped_frames: job.skipped_frames,
            max_skip: work.motion.as_ref().map(MotionWork::max_skip),
            trace: None,
        };
        let emit = match work.detections {
            Detections::All => is_there && (work.emit_empty || !objects.is_empty()),
            Detections::None => false,
        };
        let sequence = publisher.publish(inferred, emit);
        publisher.publish_tracks(track_events(&work.id, &work.name, timing.received_at, news));
        drop(order);
        if let Some(motion) = &work.motion {
            motion.keep(LastResult {
                sequence,
                objects: objects.clone(),
                model: model.clone(),
            });
        }
        previews.offer(&work.id, &job.frame, sequence, || Seen {
            objects,
            model: model.clone(),
        });
        // Events do not wait for pictures.
        if let Some(tracks) = tracks {
            tracks.take_shots(&job.frame);
        }
    })
}

/// Takes frames that did not go through the model, because they show what was inferred last. Time goes on for the tracks in them, and
/// whoever looks sees them with what was found then, which still holds, and with the number of that event. Runs on the inference
/// workers.
pub(super) fn unchanged_sink(
    publisher: Publisher,
    tracks: Arc<TrackDirectory>,
    previews: Previews,
) -> UnchangedSink {
    Arc::new(move |job| {
        let (work, timing) = (&job.work, job.frame.timing());
        if let Some(tracks) = tracks.get(&work.id) {
            let _order = tracks.in_order();
            let news = tracks.unchanged(timing);
            let events = track_events(&work.id, &work.name, timing.received_at, news);
            publisher.publish_tracks(events);
        }
        if let Some(motion) = &job.work.motion {
            motion.with_last(|last| {
                previews.offer(&job.work.id, &job.frame, last.sequence, || Seen {
                    objects: last.objects.clone(),
                    model: last.model.clone(),
                });
            });
        }
    })
}

/// Events of what there is to tell of a camera stream's tracks.
pub(super) fn track_events(
    id: &StreamId,
    name: &Arc<str>,
    at: Instant,
    news: Vec<TrackNews>,
) -> impl Iterator<Item = TrackEvent> {
    news.into_iter().map(move |news| TrackEvent {
        id: id.clone(),
        name: Arc::clone(name),
        at,
        news,
    })
}

/// How an object of this fate is followed, as its event says.
pub(crate) fn following(fate: ObjectFate) -> Following {
    match fate {
        ObjectFate::Tracked { id, zones } => Following {
            id: Some(id),
            zones,
        },
        ObjectFate::Masked
        | ObjectFate::Unclaimed
        | ObjectFate::Double(_)
        | ObjectFate::Tentative => Following {
            id: None,
            zones: Arc::from([]),
        },
    }
}
