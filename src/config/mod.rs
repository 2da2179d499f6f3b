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
mod sections;
mod settings;
mod shown;
mod syntax;
mod values;

pub use env::Env;
pub use error::{ConfigError, Place};
pub use resolve::ConfigSource;
pub use settings::Settings;
pub(crate) use shown::shown;
pub use values::{CameraConfig, Config, Connect, HttpConfig, RuntimeConfig};
