//! The resolved configuration: plain, checked values for the stages.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use twinsight_client::dialect::Dialect;
use twinsight_client::hub::HubOptions;
use twinsight_client::realtime::ice::IceSettings;
use twinsight_client::secret::Secret;
use twinsight_client::stream_id::StreamId;
use twinsight_media::codec::Codec;
use twinsight_media::label_enum;

/// Everything the node is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The hub and how the node presents itself to it.
    pub hub: HubOptions,
    /// How peer connections find their way.
    pub ice: IceSettings,
    /// The node's own HTTP server.
    pub http: HttpConfig,
    /// ONNX Runtime and models.
    pub runtime: RuntimeConfig,
    /// The camera streams, in the order of the file; no two have the same id.
    pub cameras: Vec<CameraConfig>,
}

/// The node's own HTTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where to listen; port 0 is the system's choice.
    pub listen: SocketAddr,
    /// What a client of the API must bear; without it the API is for loopback only.
    pub token: Option<Secret>,
}

/// ONNX Runtime and models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// The runtime's library; `None`: where `scripts/setup` puts it.
    pub library: Option<PathBuf>,
    /// Execution providers, the preferred first, lower case; never empty.
    pub execution_providers: Vec<String>,
    /// Threads of the one pool; 0: all cores.
    pub threads: usize,
    /// Folder with `NAME.onnx` and `NAME.toml`.
    pub models_dir: PathBuf,
}

/// One stream of one camera.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraConfig {
    /// Twin and stream.
    pub id: StreamId,
    /// For people; the twin id where it is not configured.
    pub name: String,
    /// Name of the model in the models folder.
    pub model: String,
    /// Who makes the offer.
    pub connect: Connect,
    /// Codecs to offer, the preferred first; never empty.
    pub codecs: Vec<Codec>,
    /// Detections a second at most; 0: every frame.
    pub max_fps: f64,
    /// Age of a frame from which it is no longer inferred.
    pub max_age: Duration,
    /// Objects below are left out, 0 to 1.
    pub min_score: f32,
    /// Labels to report; empty: all.
    pub classes: Vec<String>,
    /// Publish an event also when nothing was seen.
    pub emit_empty: bool,
    /// Names of the signals.
    pub dialect: Dialect,
    /// Accept offers that are signed with the node's own twin.
    pub allow_unsigned: bool,
}

label_enum! {
    /// Who makes the offer.
    pub enum Connect {
        /// The node.
        Dial = "dial",
        /// The camera.
        Accept = "accept",
    }
}
