//! The format of a manifest: the text of `NAME.toml` comes in, and a checked [`Manifest`] goes out. [`Manifest::load`] runs it.

use std::path::Path;

use serde::Deserialize;

use super::{Manifest, ModelError, OutputKind, is_plain, read_text};
use crate::preprocess::TensorSpec;
use crate::preprocess::affine::ChannelAffine;
use crate::preprocess::tensor::{Align, ChannelOrder, Fit};

/// The largest side of an input tensor, so that a typing error does not ask for gigabytes.
const MAX_SIDE: usize = 4096;

/// A manifest as it is written, before its values are checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManifestFile {
    /// The file name of the model.
    pub(super) file: String,
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
    /// The name of a file beside the manifest, with one label in each line.
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

impl ManifestFile {
    /// Reads the text of the manifest at `path`.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, ModelError> {
        toml::from_str(text).map_err(|error| syntax(path, text, &error))
    }

    /// Checks all values, and reads the labels if they are in a file of their own.
    pub(super) fn check(self, name: &str, path: &Path) -> Result<Manifest, ModelError> {
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
        // `mean` and `std` are in the order of the tensor's channels; the spec wants red, green, blue.
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
