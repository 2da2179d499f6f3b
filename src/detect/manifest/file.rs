//! The format of a manifest: the text of `NAME.toml` comes in, and its keys go out as they are written. [`Manifest::load`] parses it
//! and checks the values, `twinsight model add` fills it, and a test renders the reference of its keys from the comments here.
//!
//! [`Manifest::load`]: super::Manifest::load

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::ModelError;

/// A key of the manifest, for the reference.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The table that it is in; empty for the top of the file.
    pub table: &'static str,
    /// The name of the key.
    pub name: &'static str,
    /// The Rust type of its value, as in `Option < Vec < Column > >`, which tells the words that it takes.
    pub takes: &'static str,
    /// What it means, lines of Markdown.
    pub doc: &'static str,
}

/// All keys, in the order of the file.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    [ManifestFile::KEYS, InputTable::KEYS, OutputTable::KEYS]
        .into_iter()
        .flatten()
}

/// A table of the manifest, together with the list of its keys.
macro_rules! table {
    ($(#[doc = $about:literal])+ pub struct $name:ident = $table:literal {
        $($(#[doc = $doc:literal])+ $(#[serde($attribute:meta)])? $field:ident: $type:ty,)+
    }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[doc = $doc])+ $(#[serde($attribute)])? pub $field: $type,)+ }

        impl $name {
            /// The keys of the table.
            pub const KEYS: &'static [Key] = &[$(Key {
                table: $table,
                name: stringify!($field),
                takes: stringify!($type),
                doc: concat!($($doc, "\n"),+),
            },)+];
        }
    };
}

table! {
    /// A manifest as it is written, before its values are checked.
    pub struct ManifestFile = "" {
        /// The name of the ONNX file, which lies beside the manifest and has its weights inside. The manifest of a model that runs on a
        /// server alone does without.
        file: Option<String>,
        /// The SHA-256 of that file in 64 hexadecimal digits, as `sha256sum` prints it. A file with another hash is refused.
        sha256: Option<String>,
        /// The licence of the model, as an SPDX expression such as `Apache-2.0`. `unknown` makes `twinsight check` warn.
        licence: String,
        /// Where the model comes from, for whoever has to find it again. `unknown` makes `twinsight check` warn.
        source: String,
        /// The labels of the classes in the order of their numbers: a list, or the name of a file beside the manifest with a label on
        /// each line. `-` stands for a number that the model never uses. A background class has no label here.
        labels: Labels,
        /// How much two boxes of one class may overlap (intersection over union, 0 to 1) before only the better one is kept. 1 keeps
        /// them all, for models that leave no duplicates.
        nms_iou: f32,
        /// The table `[input]`, which says what the model takes.
        input: InputTable,
        /// The table `[output]`, which says what the model gives.
        output: OutputTable,
    }
}

table! {
    /// The tensor that the model takes.
    pub struct InputTable = "input" {
        /// The name of the input that takes the picture. Its elements may be f32, f16 or u8: the ONNX file says which.
        name: String,
        /// The width of the input in pixels. Where the file leaves it open, this sets it.
        width: usize,
        /// The height of the input in pixels. Where the file leaves it open, this sets it.
        height: usize,
        /// The order of the tensor's dimensions. N is 1, and an input of three dimensions has no N.
        layout: Layout,
        /// The order of the colours.
        color_order: ColorOrder,
        /// What a byte of the picture, 0 to 255, is multiplied by. Then `mean` is taken off, and the rest is divided by `std`. An input
        /// of u8 takes bytes as they are, with a scale of 1.
        scale: f32,
        /// One number for each colour, in the order of `color_order`. `[0, 0, 0]` unless given.
        #[serde(default = "zeros")]
        mean: [f32; 3],
        /// One number for each colour, in the order of `color_order`. `[1, 1, 1]` unless given.
        #[serde(default = "ones")]
        std: [f32; 3],
        /// How a picture is fitted to the input.
        resize: Resize,
        /// Where a letterboxed picture lies in the input. `center` unless given.
        align: Option<Align>,
        /// The value of what a letterboxed picture leaves free, 0 to 255. 0 unless given.
        pad: Option<u8>,
        /// What the model's further inputs take, by their names, as in `extra = { orig_target_sizes = "width_height" }`. Boxes then come
        /// back in pixels of the input.
        #[serde(default)]
        extra: BTreeMap<String, Extra>,
    }
}

table! {
    /// What the model's outputs hold, and their names.
    pub struct OutputTable = "output" {
        /// What the outputs hold: one of the kinds above.
        kind: Kind,
        /// The name of the output that has all numbers of each candidate. It may be either way round, `[1, N, numbers]` or
        /// `[1, numbers, N]`. Older manifests call this key `rows`.
        #[serde(alias = "rows")]
        predictions: Option<String>,
        /// The name of the output that has the boxes.
        boxes: Option<String>,
        /// The name of the output that has the scores. `boxes_labels_scores` does without where boxes have five numbers: the fifth is
        /// then the score.
        scores: Option<String>,
        /// The name of the output that has a logit for each class, which is its score before the activation.
        logits: Option<String>,
        /// The name of the output that has the number of each box's class.
        labels: Option<String>,
        /// The name of the output that says how many of the boxes are filled, if the model has one.
        count: Option<String>,
        /// The name of the output that has the prototypes, the pictures of which each object's mask is a sum.
        prototypes: Option<String>,
        /// The name of the output that has the score of each place.
        heatmap: Option<String>,
        /// The name of the output that has the logarithms of heights and widths, in this order.
        size: Option<String>,
        /// The name of the output that has the shifts of the centres, y before x.
        offset: Option<String>,
        /// The name of the output that has five points of each face, if they are wanted.
        landmarks: Option<String>,
        /// What the four numbers of a box are. With `anchors`, `yxyx` says that y comes before x and height before width.
        box_format: Option<BoxFormat>,
        /// What a box is measured in.
        box_units: Option<BoxUnits>,
        /// What makes scores of the model's numbers.
        activation: Option<Activation>,
        /// Where the model's classes include one for "nothing". It is `last` for `detr` with `softmax`, and otherwise `none`, unless
        /// given.
        background: Option<Background>,
        /// The order of a candidate's numbers in `predictions`, as a list of these words.
        columns: Option<Vec<Column>>,
        /// The boxes that the model's offsets start from: the name of a file beside the manifest that has one on each line, as centre x,
        /// centre y, width and height in shares of the input. A model that decodes its boxes itself has none.
        anchors: Option<String>,
        /// What offsets from `anchors` are multiplied by, for centres and for sizes. `[0.1, 0.2]` unless given.
        variances: Option<[f32; 2]>,
        /// The sides of the cells of each grid in pixels, in the order of the candidates. `[8, 16, 32]` unless given.
        strides: Option<Vec<u16>>,
        /// How many keypoints an object has, or a list of their names.
        keypoints: Option<Keypoints>,
        /// How many numbers a keypoint has: 3 (x, y, and how sure it is seen) unless given, or 2.
        keypoint_numbers: Option<u8>,
    }
}

fn zeros() -> [f32; 3] {
    [0.0; 3]
}

fn ones() -> [f32; 3] {
    [1.0; 3]
}

/// The labels of a model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Labels {
    /// The name of a file beside the manifest, with one label in each line.
    File(String),
    /// The labels themselves.
    Inline(Vec<String>),
}

/// The keypoints of a model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Keypoints {
    /// How many there are, where they have no names.
    Count(usize),
    /// Their names.
    Names(Vec<String>),
}

/// An enum whose variants have one word each in the manifest.
macro_rules! words {
    ($(#[doc = $about:literal])+ pub enum $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+ }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        pub enum $name { $($(#[doc = $doc])+ #[serde(rename = $word)] $variant,)+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word that stands for it in a manifest.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// What it is, for the reference, in Markdown.
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc, "\n"),+)),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

words! {
    /// What a model's outputs hold.
    pub enum Kind {
        /// Scores `[1, N, C]` and boxes `[1, N, 4]` or `[1, N, 1, 4]`, before NMS: SSDs of PyTorch and TensorFlow.
        Ssd = "ssd",
        /// One output of `[1, N, 6]` after NMS: YOLOv10, YOLO26, exports with NMS inside ("end2end"), PP-YOLOE.
        Rows = "rows",
        /// One output of `[1, 4 + C, N]`: YOLOv8 to YOLO12, and RT-DETR from Ultralytics, whose boxes are in `shares`.
        Yolo = "yolo",
        /// One output of `[1, N, 5 + C]`, where an objectness multiplies the scores: YOLOv5 to YOLOv7.
        YoloObjectness = "yolo_objectness",
        /// One output of `[1, N, 5 + C]` on grids, which is decoded here: YOLOX.
        Yolox = "yolox",
        /// Boxes `[1, N, 4]` and logits `[1, N, C]`, without duplicates: DETR, RT-DETR, D-FINE, RF-DETR.
        Detr = "detr",
        /// Lists of boxes, class numbers and scores after NMS: torchvision, TensorFlow's Object Detection API, MMDetection, and RT-DETR
        /// and D-FINE as their authors export them.
        BoxesLabelsScores = "boxes_labels_scores",
        /// Maps of scores, sizes and offsets with a face at each peak: CenterFace.
        Centerface = "centerface",
        /// As `yolo`, with keypoints behind the scores: YOLOv8-pose and its successors.
        YoloPose = "yolo_pose",
        /// As `yolo`, with mask coefficients behind the scores, and an output of prototypes: YOLOv8-seg and its successors.
        YoloSeg = "yolo_seg",
    }
}

words! {
    /// The order of a tensor's dimensions.
    pub enum Layout {
        /// The channels come first.
        Nchw = "nchw",
        /// The channels come last.
        Nhwc = "nhwc",
    }
}

words! {
    /// The order of channels.
    pub enum ColorOrder {
        /// Red comes first.
        Rgb = "rgb",
        /// Blue comes first.
        Bgr = "bgr",
    }
}

words! {
    /// How a picture is fitted to the input.
    pub enum Resize {
        /// The picture fills the input, whatever its proportions.
        Stretch = "stretch",
        /// The picture keeps its proportions, and the rest is padded.
        Letterbox = "letterbox",
    }
}

words! {
    /// Where a letterboxed picture lies.
    pub enum Align {
        /// It lies in the middle.
        Center = "center",
        /// It lies at the top left, and the rest is right of it or below.
        TopLeft = "top_left",
    }
}

words! {
    /// What a further input of the model takes.
    pub enum Extra {
        /// The width, then the height of the input in pixels.
        WidthHeight = "width_height",
        /// The height, then the width of the input in pixels.
        HeightWidth = "height_width",
        /// The factor by which the picture was scaled, as 1.
        Ones = "ones",
    }
}

words! {
    /// What the four numbers of a box are.
    pub enum BoxFormat {
        /// Left, top, right and bottom.
        Xyxy = "xyxy",
        /// Top, left, bottom and right.
        Yxyx = "yxyx",
        /// The x and y of the centre, width and height.
        Cxcywh = "cxcywh",
        /// Left, top, width and height.
        Xywh = "xywh",
    }
}

words! {
    /// What a box is measured in.
    pub enum BoxUnits {
        /// Boxes are in pixels of the input.
        Pixels = "pixels",
        /// Boxes are in shares of the input's width and height, 0 to 1.
        Shares = "shares",
    }
}

words! {
    /// What makes scores of a model's numbers.
    pub enum Activation {
        /// The numbers are scores already.
        None = "none",
        /// The logistic function of each number is its score.
        Sigmoid = "sigmoid",
        /// The exponentials of a candidate's numbers, divided by their sum, are its scores.
        Softmax = "softmax",
    }
}

words! {
    /// Where the class for "nothing" is.
    pub enum Background {
        /// All classes are of objects.
        None = "none",
        /// The first class is "nothing", so class number 1 has the first label.
        First = "first",
        /// The last class is "nothing".
        Last = "last",
    }
}

words! {
    /// What stands in a candidate's numbers.
    pub enum Column {
        /// The four numbers of the box.
        Box = "box",
        /// How sure the model is that there is any object.
        Objectness = "objectness",
        /// A score for each class.
        Scores = "scores",
        /// The score of the class that `class` names.
        Score = "score",
        /// The number of the class.
        Class = "class",
        /// The numbers of all keypoints.
        Keypoints = "keypoints",
        /// The factors that the prototypes are multiplied by.
        Coefficients = "coefficients",
        /// A number that is not needed, such as that of the picture in its batch.
        Ignore = "ignore",
    }
}

impl ManifestFile {
    /// Reads the text of the manifest at `path`.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, ModelError> {
        toml::from_str(text).map_err(|error| syntax(path, text, &error))
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
