//! What a kind of outputs implies: the keys that it has, and their values where they are not given. The check of a manifest asks it, and
//! so does the reference of manifests.

use crate::detect::manifest::file::{Activation, BoxFormat, BoxUnits, Column, Kind};

impl Kind {
    /// The keys of `[output]` that a manifest of this kind must have, and those that it may have.
    pub const fn keys(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Ssd => (
                &["boxes", "scores"],
                &[
                    "box_format",
                    "box_units",
                    "activation",
                    "background",
                    "anchors",
                    "variances",
                ],
            ),
            Self::Rows => (
                &["predictions"],
                &[
                    "box_format",
                    "box_units",
                    "activation",
                    "background",
                    "columns",
                ],
            ),
            Self::Yolo | Self::YoloObjectness => (
                &["predictions"],
                &["box_format", "box_units", "activation", "columns"],
            ),
            Self::Yolox => (&["predictions"], &["activation", "columns", "strides"]),
            Self::Detr => (
                &["boxes", "logits"],
                &["box_format", "box_units", "activation", "background"],
            ),
            Self::BoxesLabelsScores => (
                &["boxes", "labels"],
                &[
                    "scores",
                    "count",
                    "box_format",
                    "box_units",
                    "activation",
                    "background",
                ],
            ),
            Self::Centerface => (&["heatmap", "size", "offset"], &["landmarks", "activation"]),
            Self::YoloPose => (
                &["predictions", "keypoints"],
                &[
                    "keypoint_numbers",
                    "box_format",
                    "box_units",
                    "activation",
                    "columns",
                ],
            ),
            Self::YoloSeg => (
                &["predictions", "prototypes"],
                &["box_format", "box_units", "activation", "columns"],
            ),
        }
    }

    /// What `[output]` holds for a key that is not given.
    pub const fn defaults(self) -> (BoxFormat, BoxUnits, Activation) {
        use {Activation as A, BoxFormat as F, BoxUnits as U};
        match self {
            Self::Ssd => (F::Yxyx, U::Shares, A::None),
            Self::Rows | Self::BoxesLabelsScores => (F::Xyxy, U::Pixels, A::None),
            Self::Detr => (F::Cxcywh, U::Shares, A::Sigmoid),
            Self::Yolo
            | Self::YoloObjectness
            | Self::Yolox
            | Self::Centerface
            | Self::YoloPose
            | Self::YoloSeg => (F::Cxcywh, U::Pixels, A::None),
        }
    }

    /// The order of a candidate's numbers where `columns` is not given.
    pub const fn columns(self) -> &'static [Column] {
        use Column as C;
        match self {
            Self::Rows => &[C::Box, C::Score, C::Class],
            Self::YoloObjectness | Self::Yolox => &[C::Box, C::Objectness, C::Scores],
            Self::YoloPose => &[C::Box, C::Scores, C::Keypoints],
            Self::YoloSeg => &[C::Box, C::Scores, C::Coefficients],
            Self::Yolo | Self::Ssd | Self::Detr | Self::BoxesLabelsScores | Self::Centerface => {
                &[C::Box, C::Scores]
            }
        }
    }
}
