//! What each family of detectors does to a picture before its network sees it: a family comes in, the ways to prepare a picture go out,
//! the likeliest first. No file says this, so it is known here, and `twinsight model add` tries what is open.

use crate::detect::manifest::file::{Align, ColorOrder, Resize};

/// A family of detectors, as far as pictures are prepared alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// YOLOv5 to 13 and YOLO26.
    Yolo,
    /// YOLOX.
    Yolox,
    /// RT-DETR and D-FINE.
    RtDetr,
    /// DETR and what has its interface at Hugging Face; RF-DETR.
    Detr,
    /// The detectors of torchvision.
    Torchvision,
    /// TensorFlow's Object Detection API.
    TfDetection,
    /// `MMDetection`.
    MmDetection,
    /// `PaddleDetection`.
    Paddle,
    /// `CenterFace`.
    Centerface,
    /// Boxes and scores of many anchors, from `PyTorch`.
    Ssd,
    /// The same from TensorFlow.
    TfSsd,
    /// Any other one.
    Other,
}

/// A way to prepare a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Style {
    pub(crate) color_order: ColorOrder,
    pub(crate) scale: f32,
    pub(crate) mean: [f32; 3],
    pub(crate) std: [f32; 3],
    pub(crate) resize: Resize,
    pub(crate) align: Option<Align>,
    pub(crate) pad: Option<u8>,
}

/// What turns a byte into a share.
pub(crate) const SHARE: f32 = 1.0 / 255.0;

/// Red, green and blue from 0 to 1, stretched.
pub(crate) const UNIT: Style = Style {
    color_order: ColorOrder::Rgb,
    scale: SHARE,
    mean: [0.0; 3],
    std: [1.0; 3],
    resize: Resize::Stretch,
    align: None,
    pad: None,
};

/// Red, green and blue from 0 to 255, stretched.
pub(crate) const BYTES: Style = Style { scale: 1.0, ..UNIT };

/// Red, green and blue from 0 to 1 in the middle of grey.
const LETTERBOX: Style = Style {
    resize: Resize::Letterbox,
    align: Some(Align::Center),
    pad: Some(114),
    ..UNIT
};

const LETTERBOX_BYTES: Style = Style {
    scale: 1.0,
    ..LETTERBOX
};

const YOLOX: Style = Style {
    color_order: ColorOrder::Bgr,
    scale: 1.0,
    align: Some(Align::TopLeft),
    ..LETTERBOX
};

/// What networks that began with `ImageNet`'s weights expect.
const IMAGENET: Style = Style {
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
    ..UNIT
};

/// Torchvision scales a picture itself and pads it with black.
const TORCHVISION: Style = Style {
    align: Some(Align::TopLeft),
    pad: Some(0),
    ..LETTERBOX
};

const MMDETECTION: Style = Style {
    scale: 1.0,
    mean: [123.675, 116.28, 103.53],
    std: [58.395, 57.12, 57.375],
    align: Some(Align::TopLeft),
    pad: Some(0),
    ..LETTERBOX
};

const RTMDET: Style = Style {
    color_order: ColorOrder::Bgr,
    mean: [103.53, 116.28, 123.675],
    std: [57.375, 57.12, 58.395],
    pad: Some(114),
    ..MMDETECTION
};

/// Bytes about 0, from -1 to 1.
const SIGNED: Style = Style {
    mean: [127.0; 3],
    std: [128.0; 3],
    ..BYTES
};

impl Style {
    /// This way as far as it goes with what the user set: only a letterbox has a place and a value beside the picture.
    pub(crate) fn fitted(self, set: &[(String, toml::Value)]) -> Self {
        let find = |wanted: &str| set.iter().rev().find(|(key, _)| key == wanted);
        let resize = find("input.resize").and_then(|(_, value)| value.as_str());
        let is_letterbox = match resize {
            Some(word) => word == Resize::Letterbox.word(),
            None => find("input.pad").or(find("input.align")).is_some(),
        };
        match (self.resize, resize, is_letterbox) {
            (Resize::Letterbox, Some(_), false) => Self {
                resize: Resize::Stretch,
                align: None,
                pad: None,
                ..self
            },
            (Resize::Stretch, _, true) => Self {
                resize: Resize::Letterbox,
                align: LETTERBOX.align,
                pad: LETTERBOX.pad,
                ..self
            },
            _ => self,
        }
    }
}

impl Family {
    /// The ways to prepare a picture, the likeliest first. More than one means that files of this family differ in it.
    pub(crate) fn styles(self) -> &'static [Style] {
        match self {
            Self::Yolo => &[LETTERBOX],
            Self::Yolox => &[YOLOX],
            Self::RtDetr => &[UNIT, IMAGENET],
            Self::Detr => &[IMAGENET, UNIT],
            Self::Torchvision => &[TORCHVISION],
            Self::TfDetection | Self::Centerface => &[BYTES],
            Self::MmDetection => &[MMDETECTION, RTMDET, YOLOX],
            Self::Paddle => &[IMAGENET, UNIT],
            Self::Ssd => &[SIGNED, UNIT, BYTES],
            Self::TfSsd => &[BYTES, UNIT, SIGNED],
            Self::Other => &[LETTERBOX, LETTERBOX_BYTES, UNIT, BYTES, SIGNED],
        }
    }

    /// Whose way it is, as in "as … take it".
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Yolo => "YOLOv5 and its successors",
            Self::Yolox => "YOLOX's exports",
            Self::RtDetr => "RT-DETR and D-FINE",
            Self::Detr => "DETR and RF-DETR",
            Self::Ssd => "most SSDs of PyTorch",
            Self::TfSsd => "most SSDs of TensorFlow",
            Self::Torchvision => "torchvision's models",
            Self::TfDetection => "TensorFlow's detection models",
            Self::MmDetection => "MMDetection's models",
            Self::Paddle => "PaddleDetection's models",
            Self::Centerface => "CenterFace's exports",
            Self::Other => "most models",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_go_with_what_was_set() {
        let set = |key: &str, value: toml::Value| [(key.to_owned(), value)];
        let padded = UNIT.fitted(&set("input.pad", 7.into()));
        assert_eq!(padded.resize, Resize::Letterbox);
        assert_eq!(
            LETTERBOX.fitted(&set("input.resize", "stretch".into())),
            UNIT
        );
        assert_eq!(UNIT.fitted(&set("input.scale", 1.into())), UNIT);
        assert_eq!(YOLOX.fitted(&set("input.align", "center".into())), YOLOX);
    }
}
