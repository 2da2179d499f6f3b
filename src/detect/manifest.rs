//! What a model is: `NAME.toml` beside `NAME.onnx`. The manifest comes in, is checked once, and everything that
//! does not fit it is refused with a sentence that says what was expected, what was found and what to do.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::detector::ModelInfo;
use super::onnx_file;
use crate::preprocess::TensorSpec;
use crate::preprocess::affine::ChannelAffine;
use crate::preprocess::tensor::{Align, ChannelOrder, Fit};
use twinsight_client::secret_file::read_small_file;

/// A checked manifest.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manifest {
    /// The name that configuration uses.
    pub(crate) name: Arc<str>,
    /// Hash of the model file, lower-case hex.
    pub(crate) sha256: Arc<str>,
    /// SPDX expression.
    pub(crate) licence: String,
    /// Where the model comes from.
    pub(crate) source: String,
    /// The label of each class.
    pub(crate) labels: Arc<[String]>,
    /// Boxes of one class that overlap by more than this are one object.
    pub(crate) nms_iou: f32,
    /// The name of the input.
    pub(crate) input: String,
    /// The input tensor.
    pub(crate) tensor: TensorSpec,
    /// What the outputs are.
    pub(crate) output: OutputKind,
}

/// What a model's outputs are, with their names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum OutputKind {
    /// Scores `[1, N, C]` and boxes `[1, N, 1, 4]`: see [`ssd`](super::postprocess::ssd).
    Ssd {
        /// The name of the scores.
        scores: String,
        /// The name of the boxes.
        boxes: String,
    },
    /// `[1, N, 6]`: see [`rows`](super::postprocess::rows).
    Rows {
        /// The name of the rows.
        rows: String,
    },
    /// `[1, 4 + C, N]`: see [`yolo`](super::postprocess::yolo).
    Yolo {
        /// The name of the predictions.
        predictions: String,
    },
}

/// An input or output of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outlet {
    /// Its name.
    pub(crate) name: String,
    /// The type of its elements, `f32` or as ONNX Runtime calls it.
    pub(crate) element: String,
    /// Its dimensions; a negative one is free.
    pub(crate) dims: Vec<i64>,
}

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The name is a path or empty.
    #[error("model name `{0}` should be the plain name of a manifest, without folder and `.toml`")]
    Name(String),
    /// There is no manifest of that name.
    #[error("model `{name}` is not installed: there is no {}; {installed}", path.display())]
    NotInstalled {
        /// The name asked for.
        name: String,
        /// Where its manifest would be.
        path: PathBuf,
        /// A clause that lists what there is.
        installed: String,
    },
    /// A file cannot be read.
    #[error("{}: cannot be read: {reason}; see that it is there and readable", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The manifest is not TOML, or a key is unknown, missing or of the wrong type.
    #[error("{}, line {line}: {message}", path.display())]
    Syntax {
        /// The manifest.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A value is out of its range.
    #[error("{}: `{key}` should be {expected} and is {found}", path.display())]
    Value {
        /// The manifest.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// The file is another one.
    #[error("{}: its SHA-256 should be {expected} and is {found}; fetch the file again, or correct the manifest if it was meant to change", path.display())]
    Hash {
        /// The model file.
        path: PathBuf,
        /// By the manifest.
        expected: Arc<str>,
        /// Of the file.
        found: String,
    },
    /// Weights in other files have no hash.
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
        /// What was said.
        reason: String,
    },
    /// The file was made for a newer ONNX Runtime.
    #[error("{}: is too new for this ONNX Runtime: it is of {found}, and the newest that is known is {newest}; install a newer ONNX Runtime and set `runtime.library`, or export the model again with an older opset", path.display())]
    TooNew {
        /// The model file.
        path: PathBuf,
        /// Its version.
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
        /// The manifest's key.
        key: &'static str,
        /// By the manifest.
        expected: String,
        /// In the file.
        found: String,
    },
    /// An execution provider that this build or library does not have.
    #[error("execution provider `{asked}` is not available: {reason}; available here: {available}")]
    Provider {
        /// The name in the configuration.
        asked: String,
        /// Why not.
        reason: &'static str,
        /// What there is.
        available: String,
    },
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestFile {
    file: String,
    sha256: String,
    licence: String,
    source: String,
    labels: Labels,
    nms_iou: f32,
    input: InputTable,
    output: OutputKind,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Labels {
    /// A file beside the manifest, a label a line.
    File(String),
    Inline(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InputTable {
    name: String,
    width: usize,
    height: usize,
    #[serde(rename = "layout")]
    _layout: Layout,
    color_order: ColorOrder,
    scale: f32,
    mean: [f32; 3],
    std: [f32; 3],
    resize: Resize,
    align: Option<AlignKey>,
    pad: Option<u8>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Layout {
    Nchw,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ColorOrder {
    Rgb,
    Bgr,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Resize {
    Stretch,
    Letterbox,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AlignKey {
    Center,
    TopLeft,
}

/// The longest manifest, in bytes: thousands of labels have a tenth of it.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// The longest model file, in bytes: what ONNX can keep in one file.
const MAX_MODEL_BYTES: u64 = 1 << 31;

/// Largest side of an input, so that a typing error does not ask for gigabytes.
const MAX_SIDE: usize = 4096;

impl Manifest {
    /// Reads `dir/NAME.toml`; also gives the path of the model file, which is there.
    ///
    /// # Errors
    /// When there is none, or it does not hold what it must.
    pub(crate) fn load(dir: &Path, name: &str) -> Result<(Self, PathBuf), ModelError> {
        if !is_plain(name) {
            return Err(ModelError::Name(name.to_owned()));
        }
        let path = dir.join(format!("{name}.toml"));
        // One that may not be looked at is there, and reading it says why.
        let looked = std::fs::metadata(&path);
        if looked.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return Err(ModelError::NotInstalled {
                name: name.to_owned(),
                installed: installed_clause(dir),
                path,
            });
        }
        let text = read_text(&path)?;
        let file: ManifestFile =
            toml::from_str(&text).map_err(|error| syntax(&path, &text, &error))?;
        let model = dir.join(&file.file);
        let manifest = file.check(name, &path)?;
        match std::fs::metadata(&model) {
            Ok(_) => Ok((manifest, model)),
            Err(reason) => Err(ModelError::Unreadable {
                path: model,
                reason,
            }),
        }
    }

    /// Reads the model file, whole, if it is the one that the manifest means.
    ///
    /// # Errors
    /// When it cannot be read, has another hash, or keeps weights in other files.
    pub(crate) fn read_model(&self, path: &Path) -> Result<Vec<u8>, ModelError> {
        let bytes =
            read_small_file(path, MAX_MODEL_BYTES).map_err(|reason| ModelError::Unreadable {
                path: path.to_owned(),
                reason,
            })?;
        let found = hex(&Sha256::digest(&bytes));
        if found != *self.sha256 {
            return Err(ModelError::Hash {
                path: path.to_owned(),
                expected: self.sha256.clone(),
                found,
            });
        }
        match onnx_file::has_external_data(&bytes) {
            Ok(false) => Ok(bytes),
            Ok(true) => Err(ModelError::ExternalData {
                path: path.to_owned(),
            }),
            Err(onnx_file::NotProtobuf) => Err(ModelError::Session {
                path: path.to_owned(),
                reason: "the bytes are no protobuf".to_owned(),
            }),
        }
    }

    /// Name, hash and labels.
    pub(crate) fn info(&self) -> ModelInfo {
        ModelInfo {
            name: self.name.clone(),
            sha256: self.sha256.clone(),
            labels: self.labels.clone(),
        }
    }

    /// Checks a session's inputs and outputs.
    ///
    /// # Errors
    /// When one is missing, has another type or shape, or there is a second input.
    pub(crate) fn check_outlets(
        &self,
        path: &Path,
        inputs: &[Outlet],
        outputs: &[Outlet],
    ) -> Result<(), ModelError> {
        let side = |length: usize| i64::try_from(length).ok();
        let classes = side(self.labels.len());
        let (width, height) = (side(self.tensor.width), side(self.tensor.height));
        let input = [&[Some(1), Some(3), height, width][..]];
        let fail = |what, key, expected, found| ModelError::Outlet {
            path: path.to_owned(),
            what,
            key,
            expected,
            found,
        };
        check(inputs, &self.input, &input)
            .map_err(|(expected, found)| fail("input", "input", expected, found))?;
        if inputs.len() > 1 {
            let expected = format!("only `{}`", self.input);
            return Err(fail("input", "input", expected, describe(inputs)));
        }
        let check_output = |name: &str, shapes: &[&[Option<i64>]]| {
            check(outputs, name, shapes)
                .map_err(|(expected, found)| fail("output", "output", expected, found))
        };
        match &self.output {
            OutputKind::Ssd { scores, boxes } => {
                check_output(scores, &[&[Some(1), None, classes]])?;
                check_output(
                    boxes,
                    &[
                        &[Some(1), None, Some(1), Some(4)],
                        &[Some(1), None, Some(4)],
                    ],
                )
            }
            OutputKind::Rows { rows } => check_output(rows, &[&[Some(1), None, Some(6)]]),
            OutputKind::Yolo { predictions } => {
                check_output(predictions, &[&[Some(1), classes.map(|n| n + 4), None]])
            }
        }
    }
}

impl ManifestFile {
    fn check(self, name: &str, path: &Path) -> Result<Manifest, ModelError> {
        let refuse = |key, expected, found: String| {
            Err(ModelError::Value {
                path: path.to_owned(),
                key,
                expected,
                found,
            })
        };
        if !is_plain(&self.file) {
            return refuse("file", "a file name without folder", self.file);
        }
        let sha256 = self.sha256.to_ascii_lowercase();
        if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return refuse("sha256", "64 hexadecimal digits", self.sha256);
        }
        if !(0.0..=1.0).contains(&self.nms_iou) {
            return refuse("nms_iou", "between 0 and 1", self.nms_iou.to_string());
        }
        let labels = self.labels.read(path)?;
        if labels.is_empty() || labels.iter().any(String::is_empty) {
            return refuse(
                "labels",
                "a label a class, none of them empty",
                format!("{} labels", labels.len()),
            );
        }
        let input = &self.input;
        for (key, side) in [("input.width", input.width), ("input.height", input.height)] {
            if !(1..=MAX_SIDE).contains(&side) {
                return refuse(key, "between 1 and 4096", side.to_string());
            }
        }
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        if !finite(&input.std) || input.std.contains(&0.0) {
            return refuse(
                "input.std",
                "three numbers other than 0",
                format!("{:?}", input.std),
            );
        }
        if !finite(&input.mean) || !input.scale.is_finite() {
            return refuse(
                "input.mean",
                "finite, as `input.scale`",
                format!("{:?}", input.mean),
            );
        }
        if matches!(input.resize, Resize::Stretch) && (input.align.is_some() || input.pad.is_some())
        {
            return refuse(
                "input.resize",
                "`letterbox` where `align` or `pad` is given",
                "`stretch`".to_owned(),
            );
        }
        Ok(Manifest {
            name: name.into(),
            sha256: sha256.into(),
            licence: self.licence,
            source: self.source,
            labels: labels.into(),
            nms_iou: self.nms_iou,
            tensor: self.input.tensor(),
            input: self.input.name,
            output: self.output,
        })
    }
}

impl InputTable {
    fn tensor(&self) -> TensorSpec {
        // mean and std are in the order of the tensor's channels, the spec's are red, green, blue.
        let mut affine: [ChannelAffine; 3] = std::array::from_fn(|channel| ChannelAffine {
            gain: self.scale / self.std[channel],
            bias: -self.mean[channel] / self.std[channel],
        });
        let order = match self.color_order {
            ColorOrder::Rgb => ChannelOrder::Rgb,
            ColorOrder::Bgr => {
                affine.reverse();
                ChannelOrder::Bgr
            }
        };
        let fit = match self.resize {
            Resize::Stretch => Fit::Stretch,
            Resize::Letterbox => Fit::Letterbox {
                align: match self.align {
                    Some(AlignKey::TopLeft) => Align::TopLeft,
                    Some(AlignKey::Center) | None => Align::Center,
                },
                pad: self.pad.unwrap_or(0),
            },
        };
        TensorSpec {
            width: self.width,
            height: self.height,
            order,
            affine,
            fit,
        }
    }
}

impl Labels {
    fn read(self, manifest: &Path) -> Result<Vec<String>, ModelError> {
        match self {
            Self::Inline(labels) => Ok(labels),
            Self::File(file) if is_plain(&file) => {
                let text = read_text(&manifest.with_file_name(file))?;
                Ok(text.lines().map(|line| line.trim().to_owned()).collect())
            }
            Self::File(file) => Err(ModelError::Value {
                path: manifest.to_owned(),
                key: "labels",
                expected: "a list, or a file name without folder",
                found: file,
            }),
        }
    }
}

/// The names of the manifests in a folder, sorted.
pub fn installed(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_suffix(".toml")
                .map(str::to_owned)
        })
        .collect();
    names.sort();
    names
}

fn installed_clause(dir: &Path) -> String {
    let names = installed(dir);
    if names.is_empty() {
        format!("{} holds no models", dir.display())
    } else {
        format!("installed are {}", names.join(", "))
    }
}

/// A name without path: nothing that configuration from elsewhere could leave the folder with.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn read_text(path: &Path) -> Result<String, ModelError> {
    let unreadable = |reason| ModelError::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let bytes = read_small_file(path, MAX_MANIFEST_BYTES).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|_| unreadable(std::io::Error::other("it is no UTF-8 text")))
}

fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> ModelError {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    ModelError::Syntax {
        path: path.to_owned(),
        line: 1 + text.as_bytes()[..at]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count(),
        message: error.message().trim().replace('\n', ", "),
    }
}

/// Looks for an outlet of that name, of `f32`, with one of the shapes; `None` in a shape is any length.
fn check(
    outlets: &[Outlet],
    name: &str,
    shapes: &[&[Option<i64>]],
) -> Result<(), (String, String)> {
    let fits = |outlet: &Outlet, shape: &[Option<i64>]| {
        outlet.dims.len() == shape.len()
            && outlet
                .dims
                .iter()
                .zip(shape)
                .all(|(&dim, &want)| dim < 0 || want.is_none_or(|want| want == dim))
    };
    let named = outlets.iter().find(|outlet| outlet.name == name);
    let fine = named.is_some_and(|outlet| {
        outlet.element == "f32" && shapes.iter().any(|shape| fits(outlet, shape))
    });
    if fine {
        return Ok(());
    }
    let shapes: Vec<String> = shapes.iter().map(|shape| shape_text(shape)).collect();
    let expected = format!("`{name}` f32 {}", shapes.join(" or "));
    Err((
        expected,
        named.map_or_else(|| describe(outlets), Outlet::text),
    ))
}

fn shape_text(shape: &[Option<i64>]) -> String {
    let dims: Vec<String> = shape
        .iter()
        .map(|dim| dim.map_or_else(|| "N".to_owned(), |dim| dim.to_string()))
        .collect();
    format!("[{}]", dims.join(", "))
}

fn describe(outlets: &[Outlet]) -> String {
    let all: Vec<String> = outlets.iter().map(Outlet::text).collect();
    all.join(" and ")
}

impl Outlet {
    fn text(&self) -> String {
        let dims: Vec<Option<i64>> = self
            .dims
            .iter()
            .map(|&dim| (dim >= 0).then_some(dim))
            .collect();
        format!("`{}` {} {}", self.name, self.element, shape_text(&dims))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::onnx_file::testing;

    const GOOD: &str = r#"file = "m.onnx"
sha256 = "HASH"
licence = "MIT"
source = "made here"
labels = ["person", "car"]
nms_iou = 0.5
[input]
name = "images"
width = 32
height = 16
layout = "nchw"
color_order = "bgr"
scale = 1.0
mean = [1.0, 2.0, 3.0]
std = [1.0, 2.0, 4.0]
resize = "letterbox"
pad = 114
[output]
kind = "yolo"
predictions = "out"
"#;

    #[test]
    fn manifests_and_models_that_have_no_end_are_refused_at_once() {
        let dir = folder(&[], b"model");
        let fifo = |name: &str| {
            let path = dir.path().join(name);
            let _ = std::fs::remove_file(&path);
            rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
            path
        };
        let (manifest, _) = Manifest::load(dir.path(), "m").unwrap();
        let error = manifest.read_model(&fifo("m.onnx")).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
        fifo("m.toml");
        let error = Manifest::load(dir.path(), "m").unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }

    /// A folder with a manifest, changed by `replace`, and a model file of those bytes.
    fn folder(replace: &[(&str, &str)], model: &[u8]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut text = GOOD.to_owned();
        for (from, to) in replace {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        let text = text.replace("HASH", &hex(&Sha256::digest(model)));
        std::fs::write(dir.path().join("m.toml"), text).unwrap();
        std::fs::write(dir.path().join("m.onnx"), model).unwrap();
        dir
    }

    /// The sentence of the error, with the folder's path taken out.
    fn sentence(dir: &tempfile::TempDir, error: &ModelError) -> String {
        error
            .to_string()
            .replace(&format!("{}/", dir.path().display()), "")
            .replace(&dir.path().display().to_string(), "DIR")
    }

    fn refusal(replace: &[(&str, &str)], model: &[u8]) -> String {
        let dir = folder(replace, model);
        let error = Manifest::load(dir.path(), "m")
            .and_then(|(manifest, path)| manifest.read_model(&path))
            .unwrap_err();
        sentence(&dir, &error)
    }

    #[test]
    fn a_good_manifest_is_read_and_its_channels_ordered() {
        let dir = folder(&[], &testing::model(false));
        let (manifest, path) = Manifest::load(dir.path(), "m").unwrap();
        assert_eq!(manifest.read_model(&path).unwrap(), testing::model(false));
        assert_eq!(manifest.tensor.order, ChannelOrder::Bgr);
        // The first of mean and std is blue's.
        assert_eq!(
            manifest.tensor.affine[2],
            ChannelAffine {
                gain: 1.0,
                bias: -1.0
            }
        );
        assert_eq!(
            manifest.tensor.affine[0],
            ChannelAffine {
                gain: 0.25,
                bias: -0.75
            }
        );
        let fit = Fit::Letterbox {
            align: Align::Center,
            pad: 114,
        };
        assert_eq!(manifest.tensor.fit, fit);
        assert_eq!(manifest.info().class_id("car"), Some(1));
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        let model = testing::model(false);
        let sentence_of = |from: &str, to: &str| refusal(&[(from, to)], &model);
        assert_eq!(
            sentence_of("nms_iou", "nms"),
            "m.toml, line 6: unknown field `nms`, expected one of `file`, `sha256`, `licence`, `source`, `labels`, `nms_iou`, `input`, `output`"
        );
        assert_eq!(
            sentence_of("width = 32", "width = \"32\""),
            "m.toml, line 9: invalid type: string \"32\", expected usize"
        );
        assert_eq!(
            sentence_of("nchw", "nhwc"),
            "m.toml, line 11: unknown variant `nhwc`, expected `nchw`"
        );
        assert_eq!(
            sentence_of("kind = \"yolo\"", "kind = \"detr\""),
            "m.toml, line 19: unknown variant `detr`, expected one of `ssd`, `rows`, `yolo`"
        );
        assert_eq!(
            sentence_of(
                "predictions = \"out\"",
                "predictions = \"out\"\nboxes = \"b\""
            ),
            "m.toml, line 18: unknown field `boxes`, expected `predictions`"
        );
        assert_eq!(
            sentence_of("0.5", "1.5"),
            "m.toml: `nms_iou` should be between 0 and 1 and is 1.5"
        );
        assert_eq!(
            sentence_of("m.onnx", "../m.onnx"),
            "m.toml: `file` should be a file name without folder and is ../m.onnx"
        );
        assert_eq!(
            sentence_of("HASH", "5738"),
            "m.toml: `sha256` should be 64 hexadecimal digits and is 5738"
        );
        assert_eq!(
            sentence_of("width = 32", "width = 0"),
            "m.toml: `input.width` should be between 1 and 4096 and is 0"
        );
        assert_eq!(
            sentence_of("std = [1.0", "std = [0.0"),
            "m.toml: `input.std` should be three numbers other than 0 and is [0.0, 2.0, 4.0]"
        );
        assert_eq!(
            sentence_of("letterbox", "stretch"),
            "m.toml: `input.resize` should be `letterbox` where `align` or `pad` is given and is `stretch`"
        );
        assert_eq!(
            sentence_of("[\"person\", \"car\"]", "[]"),
            "m.toml: `labels` should be a label a class, none of them empty and is 0 labels"
        );
        assert!(
            sentence_of("[\"person\", \"car\"]", "\"names.txt\"")
                .starts_with("names.txt: cannot be read: No such file")
        );
        assert!(
            sentence_of("m.onnx", "n.onnx").starts_with("n.onnx: cannot be read: No such file")
        );
    }

    #[test]
    fn another_file_and_weights_elsewhere_are_refused() {
        let zeros = "0".repeat(64);
        let found = hex(&Sha256::digest(testing::model(false)));
        assert_eq!(
            refusal(&[("HASH", &zeros)], &testing::model(false)),
            format!(
                "m.onnx: its SHA-256 should be {zeros} and is {found}; fetch the file again, or correct the manifest if it was meant to change"
            )
        );
        assert_eq!(
            refusal(&[], &testing::model(true)),
            "m.onnx: keeps weights in other files; export it again with its weights inside"
        );
        assert_eq!(
            refusal(&[], b"hello"),
            "m.onnx: not usable as an ONNX model: the bytes are no protobuf"
        );
    }

    #[test]
    fn a_missing_model_names_those_that_are_there() {
        let dir = folder(&[], b"");
        let error = Manifest::load(dir.path(), "nanodet").unwrap_err();
        assert_eq!(
            sentence(&dir, &error),
            "model `nanodet` is not installed: there is no nanodet.toml; installed are m"
        );
        let error = Manifest::load(dir.path(), "../m").unwrap_err();
        assert_eq!(
            error.to_string(),
            "model name `../m` should be the plain name of a manifest, without folder and `.toml`"
        );
    }

    fn outlet(name: &str, element: &str, dims: &[i64]) -> Outlet {
        Outlet {
            name: name.to_owned(),
            element: element.to_owned(),
            dims: dims.to_vec(),
        }
    }

    #[test]
    fn inputs_and_outputs_must_fit() {
        let dir = folder(&[], b"");
        let (manifest, path) = Manifest::load(dir.path(), "m").unwrap();
        let images = outlet("images", "f32", &[-1, 3, 16, 32]);
        let out = outlet("out", "f32", &[1, 6, -1]);
        let check = |inputs: &[Outlet], outputs: &[Outlet]| {
            manifest
                .check_outlets(&path, inputs, outputs)
                .map_err(|error| sentence(&dir, &error))
        };
        let ins = std::slice::from_ref(&images);
        let outs = std::slice::from_ref(&out);
        assert_eq!(check(ins, outs), Ok(()));
        assert_eq!(
            check(&[outlet("images", "f32", &[1, 3, 32, 32])], outs).unwrap_err(),
            "m.onnx: its input should be `images` f32 [1, 3, 16, 32] and is `images` f32 [1, 3, 32, 32]; correct `input` in the manifest or install the file that it describes"
        );
        assert_eq!(
            check(&[outlet("images", "u8", &[1, 3, 16, 32])], outs).unwrap_err(),
            "m.onnx: its input should be `images` f32 [1, 3, 16, 32] and is `images` u8 [1, 3, 16, 32]; correct `input` in the manifest or install the file that it describes"
        );
        assert_eq!(
            check(&[images.clone(), outlet("sizes", "i64", &[1, 2])], outs).unwrap_err(),
            "m.onnx: its input should be only `images` and is `images` f32 [N, 3, 16, 32] and `sizes` i64 [1, 2]; correct `input` in the manifest or install the file that it describes"
        );
        assert_eq!(
            check(ins, &[outlet("out", "f32", &[1, 84, 3549])]).unwrap_err(),
            "m.onnx: its output should be `out` f32 [1, 6, N] and is `out` f32 [1, 84, 3549]; correct `output` in the manifest or install the file that it describes"
        );
        assert_eq!(
            check(ins, &[outlet("scores", "f32", &[1, 6, 9])]).unwrap_err(),
            "m.onnx: its output should be `out` f32 [1, 6, N] and is `scores` f32 [1, 6, 9]; correct `output` in the manifest or install the file that it describes"
        );
    }

    #[test]
    fn the_shipped_manifests_hold() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let names = installed(&dir);
        assert!(names.len() >= 3, "{names:?}");
        for name in names {
            let (manifest, path) = Manifest::load(&dir, &name).unwrap();
            manifest.read_model(&path).unwrap();
            assert_eq!(manifest.labels[0], "person");
        }
    }
}
