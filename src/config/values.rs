//! The resolved configuration: plain values for the stages, all of them checked. What the client needs is in its own types.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::models::RemoteModelConfig;
use super::node::NodeConfig;
use super::scene::SceneConfig;
use super::sinks::SinkConfig;
use super::source::SourceConfig;
use super::track::{MotionConfig, TrackConfig};
use twinsight_client::dialect::Dialect;
use twinsight_client::hub::HubOptions;
use twinsight_client::realtime::ice::IceSettings;
use twinsight_client::secret::Secret;
use twinsight_client::stream_id::StreamId;
use twinsight_media::codec::Codec;
use twinsight_media::label_enum;

/// The name of the model that looks at a camera unless another is configured. The commands without a configuration take it too.
pub const DEFAULT_MODEL: &str = "nanodet_g_coco_int8";

/// Everything that the node is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The hub, and how the node introduces itself to it. `None` for a node without any hub: that is no mode of the client's,
    /// which would have to ask in each place that has a hub whether there is one.
    pub hub: Option<HubOptions>,
    /// Which addresses and ports connections with cameras use.
    pub ice: IceSettings,
    /// The node's own HTTP server.
    pub http: HttpConfig,
    /// The node among others.
    pub node: NodeConfig,
    /// ONNX Runtime and models.
    pub runtime: RuntimeConfig,
    /// The models that run on servers. No two have the same name.
    pub models: Vec<RemoteModelConfig>,
    /// What is told to a collector of OpenTelemetry.
    pub telemetry: TelemetryConfig,
    /// Where events go besides the hub.
    pub sinks: Vec<SinkConfig>,
    /// The camera streams in the order of the file. No two have the same id.
    pub cameras: Vec<CameraConfig>,
}

/// The node's own HTTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where to listen. Port 0 leaves the choice to the system.
    pub listen: SocketAddr,
    /// What a client of the API must bear. Without one the API is for loopback only.
    pub token: Option<Secret>,
    /// Whether zones, lines and masks may be changed over HTTP.
    pub edit: bool,
}

/// ONNX Runtime and models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// The library of ONNX Runtime. `None` means the one that `scripts/setup` puts in its place.
    pub library: Option<PathBuf>,
    /// Names of execution providers in lower case, the preferred one first. There is at least one.
    pub execution_providers: Vec<String>,
    /// Threads of inference. 0 means as many as there are cores.
    pub threads: usize,
    /// Folder with `NAME.onnx` and `NAME.toml`.
    pub models_dir: PathBuf,
}

/// What is told to a collector of OpenTelemetry.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetryConfig {
    /// Where it listens for OTLP over HTTP, without `/v1/traces`. `None` means that nothing is traced.
    pub otlp_endpoint: Option<String>,
    /// The part of the frames with an event that have a trace, from 0 to 1.
    pub trace_sample_ratio: f64,
    /// Names and values of HTTP headers that the collector asks for.
    pub otlp_headers: Vec<(String, Secret)>,
    /// Certificates to trust beside the built-in roots.
    pub otlp_ca_file: Option<PathBuf>,
}

/// One stream of one camera.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraConfig {
    /// The camera's twin and the name of the stream.
    pub id: StreamId,
    /// The camera's name for people, which is the twin id where none is configured.
    pub name: String,
    /// Name of the model in the models folder.
    pub model: String,
    /// Who makes the offer.
    pub connect: Connect,
    /// Codecs to offer, the preferred one first. There is at least one.
    pub codecs: Vec<Codec>,
    /// The most detections a second. 0 takes every frame.
    pub max_fps: f64,
    /// A frame that is older is not inferred.
    pub max_age: Duration,
    /// Objects with a lower score are left out. It goes from 0 to 1.
    pub min_score: f32,
    /// Labels to report. None means all.
    pub classes: Vec<String>,
    /// Whether an event is published for a frame in which nothing was seen.
    pub emit_empty: bool,
    /// Whether an event is published for each frame that was inferred.
    pub detections: Detections,
    /// Whether pictures that do not change are inferred.
    pub motion: MotionConfig,
    /// How what is seen is followed.
    pub track: TrackConfig,
    /// What its picture is divided into.
    pub scene: SceneConfig,
    /// How the camera's signals are named.
    pub dialect: Dialect,
    /// Whether offers are accepted that are signed with the node's own twin, which do not say who sends them.
    pub allow_unsigned: bool,
    /// Where its pictures come from, for a camera that this program makes a twin of. `None` for one that is a twin by itself.
    pub source: Option<SourceConfig>,
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

label_enum! {
    /// Which events `detections` a camera stream publishes.
    pub enum Detections {
        /// One for each frame that was inferred.
        All = "all",
        /// None: its tracks tell enough.
        None = "none",
    }
}
