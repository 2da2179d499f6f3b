//! `twinsight model list`: the manifests of a folder come in, a line for each goes out. A model that cannot be used has its reason in
//! place of what it is, since the list is also where one looks for that.

use std::io::{self, Write};
use std::path::Path;

use super::{looked_at, megabytes};
use crate::detect::manifest::{Manifest, installed};

/// Prints a line for each model. `default` is marked.
///
/// # Errors
/// If `out` is closed.
pub(crate) fn run(models: &Path, default: &str, out: &mut dyn Write) -> io::Result<()> {
    let names = installed(models);
    if names.is_empty() {
        writeln!(
            out,
            "{} holds no models; `twinsight model add FILE.onnx --models {}` installs one",
            models.display(),
            models.display()
        )?;
        return out.flush();
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
                let bytes = std::fs::metadata(&path).map_or(0, |found| found.len());
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
    out.flush()
}
