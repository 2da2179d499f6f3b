//! The end of the path: inferred frames and states of cameras come in from the stages, events go out on the node's own
//! twin. `event` gives them their JSON, with that of `object` inside, `track_event` those of tracks and lines theirs, `outbox` keeps what waits within bounds, and `publisher` is
//! the task that sends. `feed` has a copy of what was sent, for those who watch over HTTP. `lane` is
//! the way to a sink beside the hub: it gives `sink_event`s, and tells `observed` what makes no event.

pub mod event;
pub mod feed;
pub mod lane;
pub(crate) mod object;
mod observed;
mod outbox;
pub(crate) mod publisher;
mod sink_event;
#[cfg(feature = "otlp")]
mod trace;
pub mod track_event;
mod track_queue;
