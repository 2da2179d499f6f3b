//! What the depacketizers hand to the decoder, whatever the codec: an access unit, in H.264's words, is
//! all that was coded of one picture; with VP8 it is a frame.

use std::time::Instant;

use bytes::Bytes;

use super::frame::{Color, PictureSize};
use crate::config::Codec;
use crate::h264::sps::Sps;

/// The most bytes of an access unit; what is larger goes out as [`Completeness::Oversize`].
pub const MAX_UNIT_BYTES: usize = 8 * 1024 * 1024;
/// Luma samples along the edge of a macroblock, in both codecs.
const MACROBLOCK_PX: usize = 16;

/// All that was coded of one picture.
#[derive(Debug, Clone)]
pub struct AccessUnit {
    /// What the decoder takes: NAL units behind start codes of four bytes (H.264 Annex B), or a frame
    /// (RFC 6386 section 9.1); empty unless the unit is complete.
    pub data: Bytes,
    /// Media time at 90 kHz.
    pub rtp_timestamp: u32,
    /// Arrival of the packet that came first.
    pub received_at: Instant,
    /// Arrival of the packet that came last.
    pub completed_at: Instant,
    /// What kind of picture it holds.
    pub picture: PictureKind,
    /// It is decoded for the sake of later ones and never shown: an alternate reference frame of VP8.
    pub hidden: bool,
    /// The sequence that it belongs to, where that is known.
    pub sequence: Option<Sequence>,
    /// Whether all of it came.
    pub completeness: Completeness,
    /// Packets were lost between the unit before and this one, or the source began anew.
    pub after_loss: bool,
}

/// What an access unit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureKind {
    /// No slice: parameter sets or messages alone.
    None,
    /// An IDR picture or a key frame, from which decoding can begin.
    Key,
    /// A picture that refers to earlier ones: of P or I slices, or an interframe.
    Forward,
    /// A picture with B slices: it may go out later than it came.
    Bidirectional,
}

/// Whether all of an access unit came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// All packets came.
    Complete,
    /// A packet is missing or malformed, or may be missing.
    Incomplete,
    /// Larger than [`MAX_UNIT_BYTES`].
    Oversize,
}

/// What holds from one keyframe to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequence {
    /// The sequence parameter set of the picture's first slice.
    H264(Sps),
    /// The header of a key frame, which says no more than this. Interframes have none.
    Vp8 {
        /// Size of the pictures.
        size: PictureSize,
    },
}

impl AccessUnit {
    /// True for a picture from which decoding can begin.
    pub fn is_keyframe(&self) -> bool {
        self.picture == PictureKind::Key
    }

    /// True where the decoder owes a picture for it.
    pub fn gives_picture(&self) -> bool {
        self.picture != PictureKind::None && !self.hidden
    }
}

impl Sequence {
    /// What decodes it.
    pub fn codec(self) -> Codec {
        match self {
            Self::H264(_) => Codec::H264,
            Self::Vp8 { .. } => Codec::Vp8,
        }
    }

    /// Size after cropping.
    pub fn size(self) -> PictureSize {
        match self {
            Self::H264(sps) => sps.size,
            Self::Vp8 { size } => size,
        }
    }

    /// Macroblocks of a frame, before cropping.
    pub fn macroblocks(self) -> usize {
        match self {
            Self::H264(sps) => usize::try_from(sps.macroblocks).unwrap_or(usize::MAX),
            Self::Vp8 { size } => {
                size.width_px.div_ceil(MACROBLOCK_PX) * size.height_px.div_ceil(MACROBLOCK_PX)
            }
        }
    }

    /// How YUV maps to RGB. VP8 knows BT.601 alone (RFC 6386 section 9.2; the other value of `color_space` is
    /// reserved), and its decoders take samples as limited range; `clamping_type` is about rounding.
    pub fn color(self) -> Color {
        match self {
            Self::H264(sps) => sps.color,
            Self::Vp8 { .. } => Color::default(),
        }
    }
}
