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
                doc: concat!($($doc, "\n"),+),
            },)+];
        }
    };
}

table! {
    /// A manifest as it is written, before its values are checked.
    pub struct ManifestFile = "" {
        /// The ONNX file beside the manifest, with its weights inside.
        file: String,
        /// The SHA-256 that the file must have, 64 hexadecimal digits, as `sha256sum` prints it.
        sha256: String,
        /// The licence of the model, as an SPDX expression. `unknown` makes `check` warn.
        licence: String,
        /// Where the model comes from. `unknown` makes `check` warn.
        source: String,
        /// The labels of the classes, in the order of their numbers: a list, or the name of a file beside the manifest with a label on
        /// each line. `-` stands for a number that the model never uses. A background class has no label here.
        labels: Labels,
        /// Boxes of one class that overlap by more than this (intersection over union, 0 to 1) count as one object. 1 switches it
        /// off, for models that leave no duplicates.
        nms_iou: f32,
        /// The table `[input]`.
        input: InputTable,
        /// The table `[output]`.
        output: OutputTable,
    }
}

table! {
    /// The tensor that the model takes.
    pub struct InputTable = "input" {
        /// The name of the model's input that takes the picture. Its elements may be f32, f16 or u8; the file says which.
        name: String,
        /// The width of the input in pixels. Where the file leaves it open, this sets it.
        width: usize,
        /// The height of the input in pixels. Where the file leaves it open, this sets it.
        height: usize,
        /// The order of the tensor's dimensions: `nchw` (channels first) or `nhwc` (channels last). A file whose input has three
        /// dimensions has no N.
        layout: Layout,
        /// The order of the channels: `rgb` or `bgr`.
        color_order: ColorOrder,
        /// What a byte of the picture, 0 to 255, is multiplied by. Then `mean` is taken off, and the rest is divided by `std`.
        scale: f32,
        /// One number for each channel, in the order of `color_order`. `[0, 0, 0]` unless given.
        #[serde(default = "zeros")]
        mean: [f32; 3],
        /// One number for each channel, in the order of `color_order`. `[1, 1, 1]` unless given.
        #[serde(default = "ones")]
        std: [f32; 3],
        /// How a picture is fitted: `stretch` fills the input whatever the proportions, `letterbox` keeps them and pads.
        resize: Resize,
        /// For `letterbox`: whether the picture lies in the `center` (unless given) or at the `top_left`.
        align: Option<Align>,
        /// For `letterbox`: the value of the rest, 0 to 255, 0 unless given.
        pad: Option<u8>,
        /// The model's further inputs by their names, as in `extra = { orig_target_sizes = "width_height" }`. Each takes the size of the
        /// input in pixels, as `width_height` or `height_width`, or the factor by which it was scaled, `ones`. Boxes then come back in
        /// pixels of the input.
        #[serde(default)]
        extra: BTreeMap<String, Extra>,
    }
}

table! {
    /// What the model's outputs hold, and their names.
    pub struct OutputTable = "output" {
        /// What the outputs hold; see the table of output kinds.
        kind: Kind,
        /// The name of the output with all numbers of each candidate: `rows`, `yolo`, `yolo_objectness`, `yolox`, `yolo_pose` and
        /// `yolo_seg`. It may be either way round, `[1, N, numbers]` or `[1, numbers, N]`.
        #[serde(alias = "rows")]
        predictions: Option<String>,
        /// The name of the output with the boxes: `ssd`, `detr` and `boxes_labels_scores`.
        boxes: Option<String>,
        /// The name of the output with the scores: `ssd` and `boxes_labels_scores`. The latter does without where the boxes have the
        /// score as their fifth number.
        scores: Option<String>,
        /// The name of the output with a number for each class before the activation: `detr`.
        logits: Option<String>,
        /// The name of the output with the number of each box's class: `boxes_labels_scores`.
        labels: Option<String>,
        /// The name of the output that says how many boxes there are, if the model has one: `boxes_labels_scores`.
        count: Option<String>,
        /// The name of the output with the masks that outlines are made of: `yolo_seg`.
        prototypes: Option<String>,
        /// The name of the output with the score of each place: `centerface`.
        heatmap: Option<String>,
        /// The name of the output with the logarithms of heights and widths: `centerface`.
        size: Option<String>,
        /// The name of the output with the shifts of the centres, y before x: `centerface`.
        offset: Option<String>,
        /// The name of the output with the five points of each face, if they are wanted: `centerface`.
        landmarks: Option<String>,
        /// What the four numbers of a box are: `xyxy` (left, top, right, bottom), `yxyx` (top, left, bottom, right), `cxcywh` (centre,
        /// width, height) or `xywh` (left, top, width, height). With `anchors`, `yxyx` says that y comes before x and height before width.
        box_format: Option<BoxFormat>,
        /// What a box is measured in: `pixels` of the input, or `shares` of it, 0 to 1.
        box_units: Option<BoxUnits>,
        /// What makes scores of the numbers: `none` (they are scores), `sigmoid` or `softmax` (over the classes of a candidate).
        activation: Option<Activation>,
        /// Where the numbers of the classes have one for "nothing", which has no label: `none`, `first` or `last`. With `first`, class
        /// number 1 has the first label.
        background: Option<Background>,
        /// The order of a candidate's numbers in `predictions`. `box` are four, `scores` one for each class, `keypoints` as many as
        /// there are, `coefficients` those of an outline; `objectness`, `score`, `class` and `ignore` are one.
        columns: Option<Vec<Column>>,
        /// The boxes that the model's offsets start from: the name of a file beside the manifest with one on each line, as centre x,
        /// centre y, width and height in shares of the input: `ssd`.
        anchors: Option<String>,
        /// What offsets are multiplied by, for centres and for sizes: `[0.1, 0.2]` unless given: `ssd` with `anchors`.
        variances: Option<[f32; 2]>,
        /// The sides of the cells of the grids in pixels, in the order of the candidates; `[8, 16, 32]` unless given: `yolox`.
        strides: Option<Vec<u16>>,
        /// How many keypoints an object has, or a list of their names: `yolo_pose`.
        keypoints: Option<Keypoints>,
        /// How many numbers a keypoint has: 3 (x, y and how sure it is seen) unless given, or 2: `yolo_pose`.
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
        /// A score for each class and a box for each candidate, in two outputs: the SSDs of TensorFlow and PyTorch. `scores` `[1, N, C]`,
        /// `boxes` `[1, N, 4]` or `[1, N, 1, 4]`; with `anchors` the boxes are offsets from them.
        Ssd = "ssd",
        /// NMS in the graph, `[1, N, 6]`: YOLOv10, YOLO26, "end2end" exports, PP-YOLOE.
        Rows = "rows",
        /// `[1, 4 + C, N]`, either way round: YOLOv8 to 13, RT-DETR of the same exporter.
        Yolo = "yolo",
        /// `[1, N, 5 + C]`, either way round: YOLOv5 and v7, whose scores are multiplied by an objectness.
        YoloObjectness = "yolo_objectness",
        /// `[1, N, 5 + C]` on a grid, to be decoded: YOLOX.
        Yolox = "yolox",
        /// Boxes and logits in two outputs, without duplicates: DETR, RT-DETR, D-FINE, RF-DETR. `boxes` `[1, N, 4]`, `logits` `[1, N, C]`.
        Detr = "detr",
        /// Boxes, class numbers and scores in lists, with NMS in the graph: torchvision, TensorFlow's Object Detection API, MMDetection, and
        /// the DETRs that take the size of the picture.
        BoxesLabelsScores = "boxes_labels_scores",
        /// Heatmaps of faces: CenterFace.
        Centerface = "centerface",
        /// As `yolo`, with keypoints: YOLOv8-pose and its successors.
        YoloPose = "yolo_pose",
        /// As `yolo`, with the coefficients of an outline: YOLOv8-seg and its successors.
        YoloSeg = "yolo_seg",
    }
}

words! {
    /// The order of a tensor's dimensions.
    pub enum Layout {
        /// Channels come first.
        Nchw = "nchw",
        /// Channels come last.
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
        /// Width and height are scaled each by its own factor.
        Stretch = "stretch",
        /// The proportions are kept.
        Letterbox = "letterbox",
    }
}

words! {
    /// Where a letterboxed picture lies.
    pub enum Align {
        /// It lies in the middle.
        Center = "center",
        /// It lies at the top left.
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
        /// The factor by which the picture was scaled, which is 1: boxes then come in pixels of the input.
        Ones = "ones",
    }
}

words! {
    /// What the four numbers of a box are.
    pub enum BoxFormat {
        /// Left, top, right, bottom.
        Xyxy = "xyxy",
        /// Top, left, bottom, right.
        Yxyx = "yxyx",
        /// Centre x, centre y, width, height.
        Cxcywh = "cxcywh",
        /// Left, top, width, height.
        Xywh = "xywh",
    }
}

words! {
    /// What a box is measured in.
    pub enum BoxUnits {
        /// Pixels of the input.
        Pixels = "pixels",
        /// Shares of the input's width and height.
        Shares = "shares",
    }
}

words! {
    /// What makes scores of a model's numbers.
    pub enum Activation {
        /// They are scores.
        None = "none",
        /// The logistic function of each number.
        Sigmoid = "sigmoid",
        /// The exponentials of a candidate's numbers, divided by their sum.
        Softmax = "softmax",
    }
}

words! {
    /// Where the class for "nothing" is.
    pub enum Background {
        /// There is none.
        None = "none",
        /// It has the first number.
        First = "first",
        /// It has the last number.
        Last = "last",
    }
}

words! {
    /// What stands in a candidate's numbers.
    pub enum Column {
        /// The four numbers of its box.
        Box = "box",
        /// How sure the model is that there is any object.
        Objectness = "objectness",
        /// A score for each class.
        Scores = "scores",
        /// The score of its class.
        Score = "score",
        /// The number of its class.
        Class = "class",
        /// The numbers of its keypoints.
        Keypoints = "keypoints",
        /// The factors of the prototypes, whose sum is its mask.
        Coefficients = "coefficients",
        /// A number that says nothing, as that of the picture in its batch.
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
