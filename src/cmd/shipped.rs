//! Finds the files that are shipped with the program.

use std::path::{Path, PathBuf};

use crate::config::Env;

/// A file that is shipped with the program. It is looked for in the working directory, then beside each ancestor of the
/// program's own file, where builds and containers have it.
pub(super) fn shipped(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    let beside_program = std::env::current_exe().ok().and_then(|exe| {
        exe.ancestors()
            .skip(1)
            .map(|folder| folder.join(path))
            .find(|candidate| candidate.exists())
    });
    let here = PathBuf::from(path);
    if here.exists() {
        here
    } else {
        beside_program.unwrap_or(here)
    }
}

/// The folder of the models for a command without a configuration: an argument names it, else the variable that stands for
/// `runtime.models_dir`, else the shipped one is taken.
pub(super) fn models_dir(argument: Option<PathBuf>, env: &Env) -> PathBuf {
    argument
        .unwrap_or_else(|| shipped(env.get("TWINSIGHT_RUNTIME__MODELS_DIR").unwrap_or("models")))
}

/// The execution providers for a command without a configuration: the variable that stands for `runtime.execution_providers`
/// lists them. Without it there are none, and the CPU is taken.
pub(super) fn execution_providers(env: &Env) -> Vec<String> {
    let listed = env.get("TWINSIGHT_RUNTIME__EXECUTION_PROVIDERS");
    let names = listed.unwrap_or("").split(',').map(str::trim);
    let names = names.filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

/// The clip that cameras play unless the user names another.
pub(super) fn demo_clip() -> PathBuf {
    shipped("media/pedestrians.h264")
}
