//! Configuration: a TOML file, the environment and settings of the hub come in, one checked [`Config`]
//! goes out. `file` mirrors the file, `settings` reads what the hub says into the same mirror, `resolve`
//! merges and checks, `values` is what the stages get: values, never strings to parse or the environment.

mod cameras;
mod difference;
mod env;
mod error;
pub mod file;
mod listen;
mod resolve;
pub mod secret_file;
mod sections;
mod settings;
mod syntax;
mod values;

use std::fmt;
use std::sync::Arc;

pub use env::Env;
#[cfg(feature = "webrtc")]
pub(crate) use error::shown;
pub use error::{ConfigError, Place};
pub use resolve::ConfigSource;
pub use settings::Settings;
pub use values::{
    CameraConfig, Config, Connect, Dialect, HttpConfig, HubConfig, HubMode, IceConfig, IcePolicy,
    RuntimeConfig, Secret, TurnServer,
};

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
