//! `twinsight model list`: the manifests of a folder come in, a line for each goes out. A model that cannot be used has its reason in
//! place of what it is, since the list is also where one looks for that.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{looked_at, megabytes};
use crate::detect::manifest::{Manifest, installed};

/// Why models are not listed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    #[error("{}: cannot be listed: {reason}; name the folder of models with `--models DIR`", path.display())]
    Folder { path: PathBuf, reason: io::Error },
    #[error("results cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// Prints a line for each model. `default` is marked.
///
/// # Errors
/// If the folder cannot be read, or `out` is closed.
pub(crate) fn run(models: &Path, default: &str, out: &mut dyn Write) -> Result<(), ListError> {
    fs::read_dir(models).map_err(|reason| ListError::Folder {
        path: models.to_owned(),
        reason,
    })?;
    let names = installed(models);
    if names.is_empty() {
        writeln!(
            out,
            "{} holds no models; `twinsight model add FILE.onnx --models {}` installs one",
            models.display(),
            models.display()
        )?;
        return Ok(out.flush()?);
    }
    let width = names
        .iter()
        .map(|name| name.len() + 1)
        .max()
        .unwrap_or(0)
        .max(5);
    writeln!(
        out,
        "{:width$}  {:19}  {:9}  {:>7}  {:>7}  licence",
        "model", "kind", "input", "classes", "size"
    )?;
    let mut is_default_there = false;
    for name in &names {
        let mark = if name == default { "*" } else { "" };
        is_default_there |= name == default;
        let shown = format!("{name}{mark}");
        match Manifest::load(models, name) {
            Ok((manifest, path)) => {
                let bytes = fs::metadata(&path).map_or(0, |found| found.len());
                let classes = manifest.labels.iter().filter(|label| *label != "-").count();
                writeln!(
                    out,
                    "{shown:width$}  {:19}  {:9}  {classes:>7}  {:>7}  {}",
                    manifest.output.kind.word(),
                    format!("{}x{}", manifest.tensor.width, manifest.tensor.height),
                    megabytes(bytes),
                    manifest.licence
                )?;
            }
            Err(error) => writeln!(out, "{shown:width$}  cannot be used: {}", looked_at(&error))?,
        }
    }
    if is_default_there {
        writeln!(out, "\n* is the default")?;
    }
    Ok(out.flush()?)
}
