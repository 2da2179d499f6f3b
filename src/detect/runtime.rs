//! ONNX Runtime: the library is found and loaded once a process.
//! A path or the lack of one comes in, a [`Runtime`] that sessions are built from goes out.

use std::path::{Path, PathBuf};

use ort::environment::Environment;
use parking_lot::Mutex;

use super::telemetry_off;

/// The oldest ONNX Runtime that works: 1.`OLDEST_MINOR`.
pub const OLDEST_MINOR: u32 = ort::MINOR_VERSION;

/// Where the library is and how many threads it gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// `runtime.library`: this file and no other.
    pub library: Option<PathBuf>,
    /// The value of `ORT_DYLIB_PATH`: as good as `library`, but asked after it.
    pub dylib_path: Option<PathBuf>,
    /// Threads within each session that is built from it. 0: all cores.
    pub threads: usize,
}

/// The loaded library, and how sessions use the cores. Cloning shares it; it stays for the life of the process.
#[derive(Debug, Clone)]
pub struct Runtime {
    environment: Environment,
    library: PathBuf,
    threads: usize,
}

/// Why there is no ONNX Runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// It is nowhere.
    #[error("ONNX Runtime not found at {searched}; run scripts/setup or set `runtime.library`")]
    NotFound {
        /// The places, separated by commas.
        searched: String,
    },
    /// It is there and the loader refuses it.
    #[error("ONNX Runtime at {}: cannot be loaded: {reason}; run scripts/setup or set `runtime.library`", path.display())]
    Unloadable {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// It is too old.
    #[error("ONNX Runtime at {}: its version should be 1.{OLDEST_MINOR} or newer and is {found}; run scripts/setup or set `runtime.library`", path.display())]
    TooOld {
        /// The library.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// A process has one.
    #[error("ONNX Runtime at {} is loaded already, so {} cannot be: restart with one of them", loaded.display(), asked.display())]
    OtherLoaded {
        /// The first.
        loaded: PathBuf,
        /// The second.
        asked: PathBuf,
    },
    /// Its telemetry would be on: it would look up and call a host of its maker.
    #[error("ONNX Runtime is not loaded, because it would collect telemetry: start the program with {variable}=1", variable = telemetry_off::VARIABLE)]
    Telemetry,
    /// It was loaded and does not start.
    #[error("ONNX Runtime at {}: does not start: {reason}", path.display())]
    Start {
        /// The library.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
}

/// The one of this process. Never dropped: sessions and the library's own threads need it to the end.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Finds and loads the library, or gives the one that is loaded.
    ///
    /// # Errors
    /// When it is not there, cannot be loaded, is too old, or another one is loaded; or when its telemetry could not be
    /// turned off before `main`.
    pub fn load(options: &RuntimeOptions) -> Result<Self, RuntimeError> {
        let library = find_library(options)?;
        let mut loaded = LOADED.lock();
        if let Some(runtime) = &*loaded {
            return runtime.again(&library, options);
        }
        let environment = start(&library)?;
        let runtime = Self {
            environment,
            library,
            threads: options.threads,
        };
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }

    fn again(&self, library: &Path, options: &RuntimeOptions) -> Result<Self, RuntimeError> {
        if self.library != library {
            return Err(RuntimeError::OtherLoaded {
                loaded: self.library.clone(),
                asked: library.to_owned(),
            });
        }
        Ok(Self {
            threads: options.threads,
            ..self.clone()
        })
    }

    /// The library that was loaded.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// The x of its version 1.x.
    pub fn minor_version(&self) -> Option<u32> {
        ort::util::probe(&self.library)
    }

    /// Threads within a session; 0: all cores.
    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// To build sessions with.
    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }
}

fn start(library: &Path) -> Result<Environment, RuntimeError> {
    if !telemetry_off::is_off() {
        return Err(RuntimeError::Telemetry);
    }
    let builder = ort::init_from(library).map_err(|error| match error {
        ort::LoadDynamicError::BadVersion { version_str, path } => RuntimeError::TooOld {
            path,
            found: version_str,
        },
        other => RuntimeError::Unloadable {
            path: library.to_owned(),
            reason: other.to_string().replace('\n', " "),
        },
    })?;
    builder
        .with_name("twinsight")
        // It was off before the library was loaded; this is for versions that have another switch.
        .with_telemetry(false)
        .build()
        .map_err(|error| RuntimeError::Start {
            path: library.to_owned(),
            reason: error.to_string(),
        })
}

/// The library to load: the one configured, else `ORT_DYLIB_PATH`, else where set-up or a package puts it.
///
/// # Errors
/// When there is none; a configured one that is missing is not replaced by another.
pub fn find_library(options: &RuntimeOptions) -> Result<PathBuf, RuntimeError> {
    let asked = options.library.as_ref().or(options.dylib_path.as_ref());
    if let Some(path) = asked {
        return if path.is_file() {
            Ok(path.clone())
        } else {
            Err(RuntimeError::NotFound {
                searched: path.display().to_string(),
            })
        };
    }
    let folders = standard_folders();
    folders
        .iter()
        .find_map(|folder| library_in(folder))
        .ok_or_else(|| RuntimeError::NotFound {
            searched: folders
                .iter()
                .map(|folder| folder.display().to_string())
                .collect::<Vec<_>>()
                .join(", "),
        })
}

/// Beside the executable as packages install it; where `scripts/setup` puts it, seen from the current folder, from
/// every folder above the executable, and from the source tree that built it.
fn standard_folders() -> Vec<PathBuf> {
    let exe = std::env::current_exe().ok();
    let above_exe = exe.iter().flat_map(|exe| exe.ancestors().skip(1));
    let packaged = above_exe.clone().take(1).map(|bin| bin.join("../lib"));
    let set_up = std::env::current_dir()
        .ok()
        .into_iter()
        .chain(above_exe.map(Path::to_owned))
        .chain([PathBuf::from(env!("CARGO_MANIFEST_DIR"))])
        .map(|root| root.join(".runtime/onnxruntime"));
    let mut folders: Vec<PathBuf> = Vec::new();
    for folder in packaged.chain(set_up) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// `libonnxruntime.so*` in a folder or its `lib`; of several the last by name, which is the newest.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let in_one = |folder: &Path| {
        let entries = std::fs::read_dir(folder).ok()?;
        let is_library = |path: &PathBuf| {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or("");
            name.starts_with("libonnxruntime.so") && path.is_file()
        };
        entries
            .flatten()
            .map(|entry| entry.path())
            .filter(is_library)
            .max()
    };
    in_one(folder).or_else(|| in_one(&folder.join("lib")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_library_that_is_missing_is_not_replaced() {
        let options = RuntimeOptions {
            library: Some("/nowhere/libonnxruntime.so".into()),
            dylib_path: std::env::current_exe().ok(),
            threads: 0,
        };
        assert_eq!(
            find_library(&options).unwrap_err().to_string(),
            "ONNX Runtime not found at /nowhere/libonnxruntime.so; run scripts/setup or set `runtime.library`"
        );
    }

    #[test]
    fn a_file_that_is_no_library_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("libonnxruntime.so.1.2.3");
        std::fs::write(&path, "not a library").unwrap();
        assert_eq!(library_in(dir.path()), Some(path.clone()));
        let error = start(&path).unwrap_err().to_string();
        assert!(
            error.contains("cannot be loaded") && error.contains("scripts/setup"),
            "{error}"
        );
    }

    #[test]
    fn the_places_are_named_when_it_is_nowhere() {
        let folders = standard_folders();
        assert!(folders[0].ends_with("../lib"), "{folders:?}");
        assert!(
            folders
                .iter()
                .any(|folder| folder.starts_with(env!("CARGO_MANIFEST_DIR")))
        );
    }
}
