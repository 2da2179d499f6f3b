//! The configuration. A TOML file, the environment and settings of the hub come in, and one checked [`Config`] goes out.
//! `file` mirrors the file, `settings` reads what the hub says into the same mirror, and `resolve` merges and checks. The
//! stages get `values`: they never parse a string of the configuration or read the environment.

mod cameras;
mod difference;
mod env;
mod error;
pub mod file;
mod listen;
mod resolve;
mod sections;
mod settings;
mod shown;
mod syntax;
mod telemetry;
mod values;

pub use env::Env;
pub use error::{ConfigError, Place};
pub use resolve::ConfigSource;
pub use settings::Settings;
pub(crate) use shown::shown;
pub use values::{
    CameraConfig, Config, Connect, DEFAULT_MODEL, HttpConfig, RuntimeConfig, TelemetryConfig,
};
