//! The configuration. A TOML file, the environment and settings of the hub come in, and one checked [`Config`] goes out.
//! `file` mirrors the file, `settings` reads what the hub says into the same mirror, and `resolve` merges and checks. The
//! stages get `values`: they never parse a string of the configuration or read the environment. `origins` says of each value
//! where it came from, which `in_force` holds for the API.

mod bridge;
mod cameras;
mod difference;
mod edit;
mod env;
mod error;
pub mod file;
mod in_force;
mod listen;
mod models;
mod node;
mod origins;
mod polygon;
mod replay;
mod resolve;
mod scene;
mod scene_json;
mod sections;
mod settings;
mod shown;
mod sinks;
mod source;
mod syntax;
mod telemetry;
mod track;
mod values;

pub use edit::{EditError, edit_scene};
pub use env::Env;
pub use error::{ConfigError, PartOfCamera, Place};
pub use in_force::{
    ConfigInForce, EntryInForce, Level, Refusal, RefusalSource, SectionInForce, ValueSource,
};
pub use models::{RemoteModelConfig, ServerProtocol, ServerUrl};
pub use node::{
    ClientCertificate, EtcdConfig, LeaseEngineConfig, NodeConfig, PoolConfig, ShareConfig,
};
pub(crate) use polygon::GridPoint;
pub use polygon::{Point, Polygon, PolygonError};
pub use replay::ReplayConfig;
pub use resolve::ConfigSource;
pub use scene::{LineConfig, MaskConfig, SceneConfig, ZoneConfig};
pub use scene_json::{LineJson, MaskJson, SceneJson, ZoneJson};
pub(crate) use sections::WITHOUT_HUB;
pub use settings::Settings;
pub(crate) use shown::shown;
pub use sinks::{EventKind, MqttConfig, SinkConfig, SinkTarget, WebhookConfig};
pub(crate) use source::without_passwords;
pub use source::{DeviceConfig, RtspConfig, RtspCredentials, RtspTransport, RtspUrl, SourceConfig};
pub use track::{MotionConfig, MotionMode, TrackConfig};
pub use values::{
    CameraConfig, Config, Connect, DEFAULT_MODEL, Detections, HttpConfig, RuntimeConfig,
    TelemetryConfig,
};
