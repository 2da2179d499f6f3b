//! The end of the path: inferred frames and states of cameras come in from the stages, events go out on the node's own
//! twin. `event` gives them their JSON, with that of `object` inside, `track_event` those of tracks and lines theirs, `outbox` keeps what waits within bounds, and `publisher` is
//! the task that sends. `feed` has a copy of what was sent, for those who watch over HTTP.

pub mod event;
pub mod feed;
pub mod lane;
pub(crate) mod object;
mod outbox;
pub(crate) mod publisher;
#[cfg(feature = "otlp")]
mod trace;
pub mod track_event;
mod track_queue;
