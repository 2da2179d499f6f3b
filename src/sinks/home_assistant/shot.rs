//! Takes a picture of a camera stream: the next frame that goes through the model, with what was found drawn on it.

use std::time::Duration;

use bytes::Bytes;

use crate::preview::{Previews, WatchOptions};
use twinsight_client::stream_id::StreamId;

/// A picture that has not come by then does not come: the camera has stopped.
const LIMIT: Duration = Duration::from_secs(3);

/// Wide enough to tell who is at the door.
const WIDTH_PX: u32 = 640;

/// A longer picture is not sent. Of this width, none is by far.
const MAX_BYTES: usize = 512 << 10;

/// Takes a picture. `None` means that there is none to be had.
pub(super) async fn take(previews: Previews, id: StreamId) -> (StreamId, Option<Bytes>) {
    let options = WatchOptions {
        width_px: Some(WIDTH_PX),
        boxes: true,
        ..WatchOptions::default()
    };
    // All places may be taken by people who look at the node, who come first.
    let Ok(mut watch) = previews.watch(&id, options) else {
        return (id, None);
    };
    let picture = tokio::time::timeout(LIMIT, watch.next()).await;
    let jpeg = picture.ok().flatten().map(|picture| picture.jpeg);
    (id, jpeg.filter(|jpeg| jpeg.len() <= MAX_BYTES))
}
