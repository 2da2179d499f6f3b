//! `twinsight model show`: the name of a model comes in; its manifest with everything filled in, what its file says of itself and
//! whether it can be used go out.

use std::io::{self, Write};
use std::path::Path;

use super::{Files, looked_at, megabytes};
use crate::detect::manifest::file::{Labels, ManifestFile};
use crate::detect::manifest::{Manifest, ModelError, read_onnx, read_text};
use crate::detect::probe::Probe;
use crate::detect::recognize::{Notes, describe};
use crate::detect::{OnnxDetector, Runtime, RuntimeError, RuntimeOptions};

/// Longer metadata is cut off.
const LONGEST_VALUE: usize = 60;

/// Why a model cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShowError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("model {0} cannot be used; the sentence above says why")]
    Unusable(String),
    #[error("results cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// Prints all that is known of a model.
///
/// # Errors
/// If there is no such model, or it cannot be used.
pub(crate) fn run(
    models: &Path,
    name: &str,
    runtime: &RuntimeOptions,
    out: &mut dyn Write,
) -> Result<(), ShowError> {
    // This says which models there are, if there is none of this name.
    let (_, path) = Manifest::load(models, name)?;
    let files = Files::of(models, name);
    let manifest = ManifestFile::parse(&read_text(&files.manifest)?, &files.manifest)?;
    let manifest = manifest.filled_in();
    writeln!(out, "{}:", files.manifest.display())?;
    for line in manifest.write(&Notes::default(), &[]).lines() {
        writeln!(out, "{}{line}", if line.is_empty() { "" } else { "  " })?;
    }
    if let Labels::File(file) = &manifest.labels {
        let text = read_text(&files.manifest.with_file_name(file))?;
        let some: Vec<&str> = text.lines().filter(|label| *label != "-").take(4).collect();
        let count = text.lines().filter(|label| *label != "-").count();
        writeln!(out, "  ({file} has {count} labels: {}, …)", some.join(", "))?;
    }
    let (bytes, hash) = read_onnx(&path)?;
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    writeln!(
        out,
        "\n{}: {}, sha256 {hash}",
        path.display(),
        megabytes(size)
    )?;
    let runtime = Runtime::load(runtime)?;
    match Probe::new(&runtime, &path, &bytes) {
        Ok(probe) => {
            let inspected = probe.inspected();
            writeln!(out, "  inputs\n{}", describe(&inspected.inputs))?;
            writeln!(out, "  outputs\n{}", describe(&inspected.outputs))?;
            if !inspected.producer.is_empty() {
                writeln!(out, "  made by {}", inspected.producer)?;
            }
            for (key, value) in &inspected.metadata {
                let value: String = value.split_whitespace().collect::<Vec<_>>().join(" ");
                let short: String = value.chars().take(LONGEST_VALUE).collect();
                let more = if short.len() < value.len() { "…" } else { "" };
                writeln!(out, "  metadata {key}: {short}{more}")?;
            }
        }
        Err(error) => writeln!(out, "  {}", looked_at(&error))?,
    }
    drop(bytes);
    match OnnxDetector::load(&runtime, models, name, &[]) {
        Ok(_) => {
            writeln!(
                out,
                "\nIt loads, and its results on the test picture can be those of a detector."
            )?;
            out.flush()?;
            Ok(())
        }
        Err(error) => {
            writeln!(out, "\nIt cannot be used: {}", looked_at(&error))?;
            out.flush()?;
            Err(ShowError::Unusable(name.to_owned()))
        }
    }
}
