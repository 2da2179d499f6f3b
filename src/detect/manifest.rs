//! The manifest of a model, `NAME.toml` beside `NAME.onnx`: the folder and the name come in; a checked [`Manifest`] and the bytes of
//! the model that it describes go out. Whatever does not fit is refused with a sentence that says what was expected, what was
//! found and what to do. The detector runs it when it loads a model.

mod check;
mod error;
pub mod file;
mod outlets;
mod write;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

pub use self::error::ModelError;
use self::file::{Extra, Layout, ManifestFile};
pub(crate) use self::outlets::{Element, ExtraInput, Misfit, Outlet, Plug};
use super::detector::ModelInfo;
use super::onnx_file;
use super::output::Output;
use crate::preprocess::TensorSpec;
use twinsight_client::secret_file::read_small_file;

/// A checked manifest.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manifest {
    /// The name that the configuration uses.
    pub(crate) name: Arc<str>,
    /// The SHA-256 of the model file, in lower-case hexadecimal digits. The manifest of a model on a server has none.
    pub(crate) sha256: Option<Arc<str>>,
    /// The licence, as an SPDX expression.
    pub(crate) licence: String,
    /// Where the model comes from.
    pub(crate) source: String,
    /// The labels of the classes, in the order of their numbers.
    pub(crate) labels: Arc<[String]>,
    /// The names of the keypoints, if it has them and says them.
    pub(crate) keypoints: Arc<[String]>,
    /// Boxes of one class whose intersection over union is larger than this are one object.
    pub(crate) nms_iou: f32,
    /// The name of the model's input.
    pub(crate) input: String,
    /// The tensor that the input takes.
    pub(crate) tensor: TensorSpec,
    /// The order of that tensor's dimensions.
    pub(crate) layout: Layout,
    /// The further inputs, and what they take.
    pub(crate) extra: BTreeMap<String, Extra>,
    /// How the outputs are read.
    pub(crate) output: Output,
}

/// What `licence` and `source` are when nobody said them.
pub(crate) const UNKNOWN: &str = "unknown";

/// A manifest has at most this many bytes; one with thousands of labels has a tenth.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// A model file has at most this many bytes, since ONNX cannot keep more in one file.
const MAX_MODEL_BYTES: u64 = 1 << 31;

impl Manifest {
    /// Reads `dir/NAME.toml`. Also gives the path of the model file, after a look whether it is there.
    ///
    /// # Errors
    /// If there is no such manifest, its values are wrong, or the model file is missing.
    pub(crate) fn load(dir: &Path, name: &str) -> Result<(Self, PathBuf), ModelError> {
        let (file, path) = Self::read(dir, name)?;
        let missing = |key| ModelError::LocalKey {
            path: path.clone(),
            key,
        };
        let model = dir.join(file.file.as_ref().ok_or_else(|| missing("file"))?);
        if file.sha256.is_none() {
            return Err(missing("sha256"));
        }
        let manifest = file.check(name, &path)?;
        match std::fs::metadata(&model) {
            Ok(_) => Ok((manifest, model)),
            Err(reason) => Err(ModelError::Unreadable {
                path: model,
                reason,
            }),
        }
    }

    /// Reads `dir/NAME.toml` for a model that runs on a server. Also gives the path of the manifest. Whether there is a model file beside
    /// it does not matter, and neither does its hash.
    ///
    /// # Errors
    /// If there is no such manifest, or its values are wrong.
    pub(crate) fn load_remote(dir: &Path, name: &str) -> Result<(Self, PathBuf), ModelError> {
        let (file, path) = Self::read(dir, name)?;
        let manifest = file.check(name, &path)?;
        let of_a_server = Self {
            sha256: None,
            ..manifest
        };
        Ok((of_a_server, path))
    }

    /// Reads the keys of `dir/NAME.toml`, and gives its path.
    fn read(dir: &Path, name: &str) -> Result<(ManifestFile, PathBuf), ModelError> {
        if !is_plain(name) {
            return Err(ModelError::Name(name.to_owned()));
        }
        let path = dir.join(format!("{name}.toml"));
        // A file that may not be looked at exists, and the error of reading it says more.
        let looked = std::fs::metadata(&path);
        if looked.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return Err(ModelError::NotInstalled {
                name: name.to_owned(),
                installed: installed_clause(dir),
                path,
            });
        }
        let text = read_text(&path)?;
        Ok((ManifestFile::parse(&text, &path)?, path))
    }

    /// Reads the whole model file, and checks that it is the one that the manifest describes.
    ///
    /// # Errors
    /// If it cannot be read, has another hash, or keeps weights in other files.
    pub(crate) fn read_model(&self, path: &Path) -> Result<Vec<u8>, ModelError> {
        let (bytes, found) = read_onnx(path)?;
        if let Some(expected) = self.sha256.as_ref().filter(|hash| found != ***hash) {
            return Err(ModelError::Hash {
                path: path.to_owned(),
                expected: expected.clone(),
                found,
            });
        }
        refuse_external_data(path, &bytes)?;
        Ok(bytes)
    }

    /// What events say about the model.
    pub(crate) fn info(&self) -> ModelInfo {
        ModelInfo {
            name: self.name.clone(),
            sha256: self.sha256.clone(),
            labels: self.labels.clone(),
            keypoints: self.keypoints.clone(),
        }
    }
}

/// Reads a model file, and gives its bytes and their hash.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn read_onnx(path: &Path) -> Result<(Vec<u8>, String), ModelError> {
    let bytes =
        read_small_file(path, MAX_MODEL_BYTES).map_err(|reason| ModelError::Unreadable {
            path: path.to_owned(),
            reason,
        })?;
    let hash = hex(&Sha256::digest(&bytes));
    Ok((bytes, hash))
}

/// Refuses a model file that keeps weights in other files, and one that is none.
///
/// # Errors
/// If it is such a file.
pub(crate) fn refuse_external_data(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    match onnx_file::has_external_data(bytes) {
        Ok(false) => Ok(()),
        Ok(true) => Err(ModelError::ExternalData {
            path: path.to_owned(),
        }),
        Err(onnx_file::NotProtobuf) => Err(ModelError::Session {
            path: path.to_owned(),
            reason: "the bytes are no protobuf".to_owned(),
        }),
    }
}

/// The names of the manifests in a folder, sorted.
pub(crate) fn installed(dir: &Path) -> Vec<String> {
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

/// True for a plain file name, with which a configuration from elsewhere cannot leave the folder.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

pub(crate) fn read_text(path: &Path) -> Result<String, ModelError> {
    let unreadable = |reason| ModelError::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let bytes = read_small_file(path, MAX_MANIFEST_BYTES).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|_| unreadable(std::io::Error::other("it is no UTF-8 text")))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::onnx_file::testing;
    use crate::preprocess::affine::ChannelAffine;
    use crate::preprocess::tensor::{Align, ChannelOrder, Fit};

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
            sentence_of("nchw", "chw"),
            "m.toml, line 11: unknown variant `chw`, expected `nchw` or `nhwc`"
        );
        assert_eq!(
            sentence_of("kind = \"yolo\"", "kind = \"yolov9\""),
            "m.toml, line 19: unknown variant `yolov9`, expected one of `ssd`, `rows`, `yolo`, `yolo_objectness`, `yolox`, `detr`, `boxes_labels_scores`, `centerface`, `yolo_pose`, `yolo_seg`"
        );
        assert_eq!(
            sentence_of(
                "predictions = \"out\"",
                "predictions = \"out\"\nboxes = \"b\""
            ),
            "m.toml: `output.boxes` is given, and the keys of the kind `yolo` are `predictions`, `box_format`, `box_units`, `activation`, `columns`"
        );
        assert_eq!(
            sentence_of("kind = \"yolo\"", "kind = \"detr\""),
            "m.toml: `output.boxes` is missing, and the keys of the kind `detr` are `boxes`, `logits`, `box_format`, `box_units`, `activation`, `background`"
        );
        assert_eq!(
            sentence_of(
                "predictions = \"out\"",
                "predictions = \"out\"\ncolumns = [\"box\"]"
            ),
            "m.toml: `output.columns` should be a list with `box`, and `scores` or both `score` and `class`, each once, and is [\"box\"]"
        );
        assert_eq!(
            sentence_of(
                "predictions = \"out\"",
                "predictions = \"out\"\nactivation = \"softmax\""
            ),
            "m.toml: `output.activation` should be `none` or `sigmoid`, since the classes have none for \"nothing\", and is `softmax`"
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
            "m.toml: `labels` should be a list with a label for each class, none of them empty, and is an empty list"
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

    fn outlet(name: &str, element: Element, dims: &[i64]) -> Outlet {
        Outlet {
            name: name.to_owned(),
            element,
            dims: dims.to_vec(),
        }
    }

    #[test]
    fn inputs_and_outputs_must_fit() {
        use crate::preprocess::FormElement;

        let dir = folder(&[], b"");
        let (mut manifest, path) = Manifest::load(dir.path(), "m").unwrap();
        let images = outlet("images", Element::F32, &[-1, 3, 16, 32]);
        let out = outlet("out", Element::F16, &[1, 6, -1]);
        let check = |manifest: &Manifest, inputs: &[Outlet], outputs: &[Outlet]| {
            manifest
                .check_outlets(&path, inputs, outputs)
                .map_err(|error| sentence(&dir, &error))
        };
        let ins = std::slice::from_ref(&images);
        let outs = std::slice::from_ref(&out);
        let plug = check(&manifest, ins, outs).unwrap();
        assert_eq!(plug.shape, [1, 3, 16, 32]);
        assert_eq!(plug.form.element, FormElement::F32);
        let batchless = outlet("images", Element::F16, &[3, -1, -1]);
        let plug = check(&manifest, &[batchless], outs).unwrap();
        assert_eq!(plug.shape, [3, 16, 32]);
        assert_eq!(plug.form.element, FormElement::F16);
        let refusal =
            |inputs: &[Outlet], outputs: &[Outlet]| check(&manifest, inputs, outputs).unwrap_err();
        assert_eq!(
            refusal(&[outlet("images", Element::F32, &[1, 3, 32, 32])], outs),
            "m.onnx: its input should be `images` f32, f16 or u8 [1, 3, 16, 32] and is `images` f32 [1, 3, 32, 32]; correct `input.height` in the manifest or install the file that it describes"
        );
        assert_eq!(
            refusal(&[outlet("images", Element::F32, &[1, 16, 32, 3])], outs),
            "m.onnx: its input should be `images` f32, f16 or u8 [1, 3, 16, 32] and is `images` f32 [1, 16, 32, 3]; correct `input.layout` in the manifest or install the file that it describes"
        );
        assert_eq!(
            refusal(&[outlet("images", Element::U8, &[1, 3, 16, 32])], outs),
            "m.onnx: its input should be given bytes as they are, since it is u8 (`scale` 1, `mean` 0, `std` 1), and is given others; correct `input.scale` in the manifest or install the file that it describes"
        );
        let sizes = outlet("sizes", Element::I64, &[-1, 2]);
        assert_eq!(
            refusal(&[images.clone(), sizes.clone()], outs),
            "m.onnx: its further input should be named in `input.extra` with what it takes, as in `extra = { \"sizes\" = \"height_width\" }`, and is `sizes` i64 [N, 2]; correct `input.extra` in the manifest or install the file that it describes"
        );
        assert_eq!(
            refusal(ins, &[outlet("scores", Element::F32, &[1, 6, 9])]),
            "m.onnx: its output should be `out` of numbers and is `scores` f32 [1, 6, 9]; correct `output.predictions` in the manifest or install the file that it describes"
        );
        manifest
            .extra
            .insert("sizes".to_owned(), Extra::HeightWidth);
        let plug = check(&manifest, &[images, sizes], outs).unwrap();
        assert_eq!(plug.extra[0].values, [16, 32]);
        assert_eq!(plug.extra[0].shape, [1, 2]);
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
