//! What passes the lane of a sink, for one that tells more than single events, such as whether somebody is there at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::{CameraStatus, Inferred, SeenObject};
use twinsight_client::stream_id::StreamId;

/// What passes a lane, whether the sink takes it or not: for a sink that tells more than single events. Frames in which nothing was
/// seen are among it, even where they make no event.
#[derive(Debug, Clone)]
pub enum Observed {
    /// A frame went through the model.
    Frame(ObservedFrame),
    /// A camera stream came into a state.
    Status(CameraStatus),
    /// A camera stream has another name for people.
    Renamed(StreamId, Arc<str>),
    /// A camera stream was removed long ago.
    Forgotten(StreamId),
}

/// What was seen in a frame.
#[derive(Debug, Clone)]
pub struct ObservedFrame {
    /// The camera stream.
    pub id: StreamId,
    /// The camera's name for people.
    pub name: Arc<str>,
    /// When the frame came.
    pub at: Instant,
    /// Under the motion gate, so much time may pass until the next one although the camera is seen: what was seen holds as long.
    pub max_skip: Option<Duration>,
    /// Label and score of each object; where things are followed, of each whose track is confirmed.
    pub objects: Vec<(Arc<str>, f32)>,
}

impl ObservedFrame {
    pub(super) fn of(inferred: &Inferred) -> Self {
        // Where things are followed, what was seen once is none yet.
        let is_there = |object: &&SeenObject| {
            let following = object.following.as_ref();
            following.is_none_or(|following| following.id.is_some())
        };
        let objects = inferred.objects.iter().filter(is_there);
        Self {
            id: inferred.id.clone(),
            name: Arc::clone(&inferred.name),
            at: inferred.timing.received_at,
            max_skip: inferred.max_skip,
            objects: objects
                .map(|object| (Arc::clone(&object.label), object.score))
                .collect(),
        }
    }
}
