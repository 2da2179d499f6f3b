//! The check of a manifest's values: a [`ManifestFile`] as it is written comes in, a [`Manifest`] goes out, with the files of labels and
//! anchors read and everything filled in that a kind of output implies.

mod kind;
mod output;

use std::path::Path;

use super::file::{Align as AlignKey, ColorOrder, InputTable, Labels, ManifestFile, Resize};
use super::{Manifest, ModelError, is_plain, read_text};
use crate::preprocess::TensorSpec;
use crate::preprocess::affine::ChannelAffine;
use crate::preprocess::tensor::{Align, ChannelOrder, Fit};

/// The largest side of an input tensor, so that a typing error does not ask for gigabytes.
const MAX_SIDE: usize = 4096;

/// Makes refusals that name the manifest.
#[derive(Clone, Copy)]
struct Refuse<'a>(&'a Path);

impl Refuse<'_> {
    fn because(
        self,
        key: &'static str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> ModelError {
        ModelError::Value {
            path: self.0.to_owned(),
            key,
            expected: expected.into(),
            found: found.into(),
        }
    }
}

impl ManifestFile {
    /// Checks all values, and reads the labels and anchors that are in files of their own. `path` is that of the manifest.
    pub(crate) fn check(self, name: &str, path: &Path) -> Result<Manifest, ModelError> {
        let refuse = Refuse(path);
        if let Some(file) = self.file.filter(|file| !is_plain(file)) {
            return Err(refuse.because("file", "a file name without folder", file));
        }
        let is_hash =
            |hash: &str| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(found) = self.sha256.as_ref().filter(|hash| !is_hash(hash)) {
            return Err(refuse.because("sha256", "64 hexadecimal digits", found));
        }
        if !(0.0..=1.0).contains(&self.nms_iou) {
            return Err(refuse.because("nms_iou", "between 0 and 1", self.nms_iou.to_string()));
        }
        let labels = self.labels.read(path)?;
        if labels.is_empty() || labels.iter().any(String::is_empty) {
            let empty = labels.iter().position(String::is_empty);
            let found = empty.map_or("an empty list".to_owned(), |number| {
                format!("a list whose number {number} is empty")
            });
            return Err(refuse.because(
                "labels",
                "a list with a label for each class, none of them empty,",
                found,
            ));
        }
        self.input.check(refuse)?;
        let output = self.output.resolve(path, labels.len())?;
        Ok(Manifest {
            name: name.into(),
            sha256: self.sha256.map(|hash| hash.to_ascii_lowercase().into()),
            licence: self.licence,
            source: self.source,
            labels: labels.into(),
            keypoints: self.output.keypoint_names().into(),
            nms_iou: self.nms_iou,
            tensor: self.input.tensor(),
            layout: self.input.layout,
            input: self.input.name,
            extra: self.input.extra,
            output,
        })
    }
}

impl InputTable {
    fn check(&self, refuse: Refuse<'_>) -> Result<(), ModelError> {
        for (key, side) in [("input.width", self.width), ("input.height", self.height)] {
            if !(1..=MAX_SIDE).contains(&side) {
                return Err(refuse.because(key, "between 1 and 4096", side.to_string()));
            }
        }
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        if !finite(&self.std) || self.std.contains(&0.0) {
            let found = format!("{:?}", self.std);
            return Err(refuse.because("input.std", "three numbers other than 0", found));
        }
        if !finite(&self.mean) || !self.scale.is_finite() {
            let found = format!("{:?}", self.mean);
            return Err(refuse.because("input.mean", "finite, as `input.scale`", found));
        }
        if self.scale == 0.0 {
            return Err(refuse.because("input.scale", "other than 0", "0"));
        }
        if self.resize == Resize::Stretch && (self.align.is_some() || self.pad.is_some()) {
            let expected = "`letterbox` where `align` or `pad` is given";
            return Err(refuse.because("input.resize", expected, "`stretch`"));
        }
        Ok(())
    }

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
            Self::File(file) => Err(Refuse(manifest).because(
                "labels",
                "a list, or a file name without folder",
                file,
            )),
        }
    }
}
