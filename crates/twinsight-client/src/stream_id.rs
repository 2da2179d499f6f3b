//! Which stream of which camera.

use std::fmt;
use std::sync::Arc;

/// A stream of a camera twin: the unit that is configured, counted, scheduled and published.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    /// The twin id of the camera.
    pub twin_id: Arc<str>,
    /// The name of the stream, `default` unless configured.
    pub stream: Arc<str>,
}

impl StreamId {
    /// A stream of a camera twin.
    pub fn new(twin_id: impl Into<Arc<str>>, stream: impl Into<Arc<str>>) -> Self {
        Self {
            twin_id: twin_id.into(),
            stream: stream.into(),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.twin_id, self.stream)
    }
}
