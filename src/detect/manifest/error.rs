//! Why a model cannot be used, in sentences that say what was expected, what was found and what to do.

use std::path::PathBuf;
use std::sync::Arc;

use crate::detect::postprocess::Mismatch;
use crate::detect::runtime::RuntimeError;

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The name is empty, or a path.
    #[error("model name `{0}` should be the plain name of a manifest, without folder and `.toml`")]
    Name(String),
    /// ONNX Runtime cannot be used.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// There is no manifest of this name.
    #[error("model `{name}` is not installed: there is no {}; {installed}", path.display())]
    NotInstalled {
        /// The name that is asked for.
        name: String,
        /// Where its manifest would be.
        path: PathBuf,
        /// A clause that lists the models that are installed.
        installed: String,
    },
    /// A file cannot be read.
    #[error("{}: cannot be read: {reason}; see that it is there and readable", path.display())]
    Unreadable {
        /// The manifest, the labels or the model file.
        path: PathBuf,
        /// The system's error.
        reason: std::io::Error,
    },
    /// The manifest is not TOML, or a key is unknown, missing or of the wrong type.
    #[error("{}, line {line}: {message}", path.display())]
    Syntax {
        /// The manifest.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong in this line.
        message: String,
    },
    /// The manifest lacks a key that every model of this machine needs.
    #[error("{}: `{key}` is missing, which only the manifest of a model on a server (`[models.NAME]` of the configuration) does without", path.display())]
    LocalKey {
        /// The manifest.
        path: PathBuf,
        /// The name of the key.
        key: &'static str,
    },
    /// A value is out of its range.
    #[error("{}: `{key}` should be {expected} and is {found}", path.display())]
    Value {
        /// The manifest.
        path: PathBuf,
        /// The name of the key.
        key: &'static str,
        /// What its value should be.
        expected: String,
        /// The value that it has.
        found: String,
    },
    /// A key of `[output]` is missing, or is none of its kind's.
    #[error("{}: `output.{key}` {problem}, and the keys of the kind `{kind}` are {keys}", path.display())]
    OutputKey {
        /// The manifest.
        path: PathBuf,
        /// The name of the key.
        key: String,
        /// Whether it is given or missing.
        problem: &'static str,
        /// The kind of the outputs.
        kind: &'static str,
        /// The keys of the kind.
        keys: String,
    },
    /// The model file is not the one that the manifest describes.
    #[error("{}: its SHA-256 should be {expected} and is {found}; fetch the file again, or correct the manifest if it was meant to change", path.display())]
    Hash {
        /// The model file.
        path: PathBuf,
        /// The hash in the manifest.
        expected: Arc<str>,
        /// The hash of the file.
        found: String,
    },
    /// The model keeps weights in other files, for which the manifest has no hash.
    #[error("{}: keeps weights in other files; export it again with its weights inside", path.display())]
    ExternalData {
        /// The model file.
        path: PathBuf,
    },
    /// ONNX Runtime refused the file, or its warm-up run failed.
    #[error("{}: not usable as an ONNX model: {reason}", path.display())]
    Session {
        /// The model file.
        path: PathBuf,
        /// The error message.
        reason: String,
    },
    /// The model file is too new for this ONNX Runtime.
    #[error("{}: is too new for this ONNX Runtime: it is of {found}, and the newest that is known is {newest}; install a newer ONNX Runtime and set `runtime.library`, or export the model again with an older opset", path.display())]
    TooNew {
        /// The model file.
        path: PathBuf,
        /// The version of the file.
        found: String,
        /// The newest version that this ONNX Runtime knows.
        newest: String,
    },
    /// An input or output does not fit the manifest.
    #[error("{}: its {what} should be {expected} and is {found}; correct `{key}` in the manifest or install the file that it describes", path.display())]
    Outlet {
        /// The model file.
        path: PathBuf,
        /// `input` or `output`.
        what: &'static str,
        /// The key of the manifest that says what is expected.
        key: &'static str,
        /// What the manifest says.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// An output has another shape than the manifest says.
    #[error("{}: {mismatch}; correct `{}` in the manifest or install the file that it describes", path.display(), mismatch.key)]
    Shape {
        /// The model file.
        path: PathBuf,
        /// The output, and both shapes.
        mismatch: Mismatch,
    },
    /// The results on a test picture cannot be those of a detector that is read rightly.
    #[error("{}: {seen}; correct `{key}` in the manifest{remedy}", path.display())]
    Judged {
        /// The model file.
        path: PathBuf,
        /// What was seen.
        seen: String,
        /// The key of the manifest that is most likely wrong.
        key: &'static str,
        /// What it should most likely be, as a clause, or nothing.
        remedy: String,
    },
    /// There can be no client for a model on a server.
    #[error("model `{model}`: {reason}")]
    Client {
        /// The name of the model.
        model: String,
        /// What is in the way, and what to do.
        reason: String,
    },
    /// An execution provider that is asked for cannot run.
    #[error("execution provider `{asked}` is not available: {reason}; available here: {available}")]
    Provider {
        /// The name in the configuration.
        asked: String,
        /// Why it is not available, and what to do.
        reason: String,
        /// The execution providers that this program and its ONNX Runtime have.
        available: String,
    },
}
