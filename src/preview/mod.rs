//! Pictures for people who look at the node: inferred frames come in from the workers, JPEGs go out to watchers. Nothing is encoded,
//! copied or kept while nobody looks. A thread of the lowest priority encodes, and a watcher always gets the newest picture.

mod core;
mod encoder;
mod watch;

pub use self::core::{MAX_FPS, MAX_STREAMS, MAX_WATCHES};
pub(crate) use self::encoder::shot_jpeg;
pub use self::watch::{Picture, Previews, Seen, Watch, WatchError, WatchOptions};
