//! Finds and loads ONNX Runtime, once in a process. The configured path, or none, comes in; a [`Runtime`] that sessions are
//! built with goes out. The node and the commands that detect run it at their start.

use std::path::{Path, PathBuf};

use ort::environment::Environment;
use parking_lot::Mutex;

use super::telemetry_off;

/// The oldest ONNX Runtime that works is 1.`OLDEST_MINOR`.
pub(crate) const OLDEST_MINOR: u32 = ort::MINOR_VERSION;

/// Where the library is and how many threads it gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// `runtime.library`: if it is given, this file and no other is loaded.
    pub library: Option<PathBuf>,
    /// The value of `ORT_DYLIB_PATH`, which counts if `library` is not given.
    pub dylib_path: Option<PathBuf>,
    /// How many threads each session has that is built with it; 0 stands for all cores.
    pub threads: usize,
}

/// The loaded library, and how sessions use the cores. Clones share the library, which stays loaded for the life of the process.
#[derive(Debug, Clone)]
pub struct Runtime {
    environment: Environment,
    library: PathBuf,
    threads: usize,
}

/// Why there is no ONNX Runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// There is no library at any of the usual places, or none at the configured path.
    #[error("ONNX Runtime not found at {searched}; run scripts/setup or set `runtime.library`")]
    NotFound {
        /// The places, separated by commas.
        searched: String,
    },
    /// The dynamic loader refuses the file.
    #[error("ONNX Runtime at {}: cannot be loaded: {reason}; run scripts/setup or set `runtime.library`", path.display())]
    Unloadable {
        /// The library.
        path: PathBuf,
        /// The loader's message.
        reason: String,
    },
    /// The library is too old.
    #[error("ONNX Runtime at {}: its version should be 1.{OLDEST_MINOR} or newer and is {found}; run scripts/setup or set `runtime.library`", path.display())]
    TooOld {
        /// The library.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// The process has loaded another one already, and can have only one.
    #[error("ONNX Runtime at {} is loaded already, so {} cannot be: restart with one of them", loaded.display(), asked.display())]
    OtherLoaded {
        /// The path of the first.
        loaded: PathBuf,
        /// The path of the second.
        asked: PathBuf,
    },
    /// Its telemetry would be on, and call a host of its maker.
    #[error("ONNX Runtime is not loaded, because it would collect telemetry: start the program with {variable}=1", variable = telemetry_off::VARIABLE)]
    Telemetry,
    /// The library was loaded and does not start.
    #[error("ONNX Runtime at {}: does not start: {reason}", path.display())]
    Start {
        /// The library.
        path: PathBuf,
        /// Its error message.
        reason: String,
    },
}

/// The runtime of this process. It is never dropped, since sessions and the library's own threads need it to the end.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Finds and loads the library, or gives the one that is loaded already.
    ///
    /// # Errors
    /// If the library is not there, cannot be loaded or is too old; if another one is loaded; or if its telemetry could not be
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

    /// The path of the library that was loaded.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// The `x` of the library's version 1.x, if it tells one.
    pub(crate) fn minor_version(&self) -> Option<u32> {
        ort::util::probe(&self.library)
    }

    pub(super) fn threads(&self) -> usize {
        self.threads
    }

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
        // Telemetry was switched off before the library was loaded; this is for versions that have another switch.
        .with_telemetry(false)
        .build()
        .map_err(|error| RuntimeError::Start {
            path: library.to_owned(),
            reason: error.to_string(),
        })
}

/// Finds the library to load: the configured one, else `ORT_DYLIB_PATH`, else the one that a set-up or a package has installed.
///
/// # Errors
/// If there is none. A configured one that is missing is not replaced by another.
pub(crate) fn find_library(options: &RuntimeOptions) -> Result<PathBuf, RuntimeError> {
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

/// The folders that are searched: the one beside the executable where packages install libraries, then the one that
/// `scripts/setup` makes, seen from the current folder, from every folder above the executable, and from the source tree.
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

/// Finds `libonnxruntime.so*` in a folder or its `lib`; of several, the last by name, which is the newest.
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
