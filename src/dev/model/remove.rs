//! `twinsight model remove`: the name of a model comes in; its manifest goes, and those of its files that no other manifest names.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::add::Ask;
use crate::detect::manifest::file::{Labels, ManifestFile};
use crate::detect::manifest::{Manifest, ModelError, installed, is_plain, read_text};

/// Why a model is not removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoveError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(
        "{0} is the default model, which commands take when none is named: say `--yes` if it is to go all the same"
    )]
    Default(String),
    #[error("{0} is not removed, since nobody said yes")]
    Refused(String),
    #[error("{}: cannot be removed: {reason}; its folder has to be writable for you", path.display())]
    Remove { path: PathBuf, reason: io::Error },
    #[error("results cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// The files that a manifest names, without itself.
fn named(models: &Path, name: &str) -> BTreeSet<PathBuf> {
    let path = models.join(format!("{name}.toml"));
    let parsed = read_text(&path).and_then(|text| ManifestFile::parse(&text, &path));
    let Ok(file) = parsed else {
        return BTreeSet::new();
    };
    let mut names: Vec<String> = file.file.into_iter().collect();
    if let Labels::File(labels) = file.labels {
        names.push(labels);
    }
    names.extend(file.output.anchors);
    names
        .into_iter()
        .filter(|name| is_plain(name))
        .map(|name| models.join(name))
        .collect()
}

/// Removes a model. `ask` is asked first, if there is somebody to ask.
///
/// # Errors
/// If there is no such model, it is the default one, nobody says yes, or a file cannot be removed.
pub(crate) fn run(
    models: &Path,
    name: &str,
    default: &str,
    is_sure: bool,
    ask: Option<Ask<'_>>,
    out: &mut dyn Write,
) -> Result<(), RemoveError> {
    let manifest = models.join(format!("{name}.toml"));
    // A manifest that is wrong can be removed too; for one that is not there this names those that are.
    if !is_plain(name) || !manifest.exists() {
        Manifest::load(models, name)?;
    }
    if name == default && !is_sure {
        return Err(RemoveError::Default(name.to_owned()));
    }
    let others: BTreeSet<PathBuf> = installed(models)
        .iter()
        .filter(|other| *other != name)
        .flat_map(|other| named(models, other))
        .collect();
    let (kept, gone): (Vec<PathBuf>, Vec<PathBuf>) = named(models, name)
        .into_iter()
        .filter(|path| path.exists())
        .partition(|path| others.contains(path));
    let shown = |paths: &[PathBuf]| {
        let all: Vec<String> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        all.join(", ")
    };
    let all: Vec<PathBuf> = std::iter::once(manifest).chain(gone).collect();
    if let (false, Some(ask)) = (is_sure, ask) {
        let answer = ask(&format!("Remove {}? [y/N] ", shown(&all))).unwrap_or_default();
        if !["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
            return Err(RemoveError::Refused(name.to_owned()));
        }
    }
    for path in &all {
        fs::remove_file(path).map_err(|reason| RemoveError::Remove {
            path: path.clone(),
            reason,
        })?;
    }
    writeln!(out, "Removed: {}", shown(&all))?;
    if !kept.is_empty() {
        writeln!(out, "Kept, since another model needs it: {}", shown(&kept))?;
    }
    out.flush()?;
    Ok(())
}
