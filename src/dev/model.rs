//! `twinsight model`: the detectors that are installed in a folder. Each subcommand has a file, with its options, what it prints and why
//! it fails.

pub(crate) mod add;
pub(crate) mod compare;
pub(crate) mod list;
pub(crate) mod remove;
pub(crate) mod show;
mod summary;

use std::path::PathBuf;

/// A model's name from that of its file: what cannot stand in a name becomes `_`.
fn name_of_file(file: &std::path::Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let clean: String = stem
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    clean.trim_start_matches('.').to_owned()
}

/// Why a model cannot be used, in one line.
fn looked_at(error: &crate::detect::ModelError) -> String {
    error.to_string().replace('\n', " ")
}

/// A size in bytes for people.
fn megabytes(bytes: u64) -> String {
    #[expect(
        clippy::cast_precision_loss,
        reason = "one digit behind the point is shown"
    )]
    let megabytes = bytes as f64 / 1e6;
    format!("{megabytes:.1} MB")
}

/// Where files of a model are in a folder.
#[derive(Debug, Clone)]
struct Files {
    manifest: PathBuf,
    model: PathBuf,
    labels: PathBuf,
    anchors: PathBuf,
}

impl Files {
    fn of(folder: &std::path::Path, name: &str) -> Self {
        Self {
            manifest: folder.join(format!("{name}.toml")),
            model: folder.join(format!("{name}.onnx")),
            labels: folder.join(format!("{name}.txt")),
            anchors: folder.join(format!("{name}-anchors.txt")),
        }
    }

    fn all(&self) -> [&PathBuf; 4] {
        // The manifest is last, since the others are nothing without it.
        [&self.labels, &self.anchors, &self.model, &self.manifest]
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn names_are_clean() {
        let name = |file: &str| name_of_file(Path::new(file));
        assert_eq!(name("a/yolo11n.onnx"), "yolo11n");
        assert_eq!(name("my model (2).onnx"), "my_model__2_");
        assert_eq!(name("..x.onnx"), "x");
    }
}
