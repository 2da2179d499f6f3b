//! Sequence parameter sets (H.264 clause 7.3.2.1.1): a NAL unit comes in, and out go the size after cropping, the colours
//! and how far pictures are reordered, and beside them the format of slice headers, for whoever reads on in those.

use std::ops::Range;
use std::time::Duration;

use thiserror::Error;

use super::bits::{BitError, BitReader};
use super::nal::unescape;
use super::vui::Vui;
use crate::access_unit::{OutputOrder, Sequence};
use crate::codec::Codec;
use crate::picture::{Color, PictureSize, Unsupported};

/// The fields of a sequence parameter set that a receiver needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sps {
    /// `profile_idc`: 66 baseline, 77 Main, 100 High.
    pub profile_idc: u8,
    /// The constraint flags, with `constraint_set0_flag` in the highest bit.
    pub constraints: u8,
    /// `level_idc`: 31 is level 3.1.
    pub level_idc: u8,
    /// `seq_parameter_set_id`, 0 to 31.
    pub id: u8,
    /// `chroma_format_idc`: 0 is monochrome, 1 is 4:2:0, 2 is 4:2:2, 3 is 4:4:4.
    pub chroma_format_idc: u8,
    /// Bits of a sample: of luma or of chroma, whichever has more.
    pub bit_depth: u8,
    /// Macroblocks may bypass the transform (`qpprime_y_zero_transform_bypass_flag`).
    pub lossless: bool,
    /// `frame_mbs_only_flag`: false if the stream may have fields.
    pub frames_only: bool,
    /// Size after cropping.
    pub size: PictureSize,
    /// Macroblocks of a frame, before cropping.
    pub macroblocks: u32,
    /// How YUV maps to RGB.
    pub color: Color,
    /// `max_num_reorder_frames`, if the set says it: how many frames may precede another in decoding order and follow it in
    /// output order.
    pub max_num_reorder_frames: Option<u32>,
    /// The time from one picture to the next, if the set says one that is possible.
    pub picture_interval: Option<Duration>,
    /// The syntax of Baseline can say all of it, so that the decoder may be told that it is Baseline.
    pub(crate) fits_baseline: bool,
}

/// Why a parameter set cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SpsError {
    /// It ends too early, or a code is too long.
    #[error("the parameter set cannot be read: {0}")]
    Bits(#[from] BitError),
    /// A value is outside of what the standard allows.
    #[error("the parameter set has {element} = {value}, which H.264 does not allow")]
    Range {
        /// Name of the syntax element.
        element: &'static str,
        /// Its value.
        value: u32,
    },
}

/// The most macroblocks along an edge at level 6.2: sqrt(139264 * 8).
const MAX_EDGE_MBS: u32 = 1055;

/// A sequence parameter set and what is read beside it.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "openh264"),
    allow(dead_code, reason = "only the decoder openh264 needs it")
)]
pub(super) struct ParsedSps {
    pub(super) sps: Sps,
    pub(super) slices: SliceFormat,
    /// Bits that only profiles above Main have: from `chroma_format_idc` to the scaling lists.
    pub(super) high: Range<usize>,
    /// Bits from `log2_max_frame_num_minus4` to before the cropping.
    pub(super) body: Range<usize>,
    pub(super) crop: Crop,
}

/// What slice headers of a sequence look like, and how its pictures are counted.
#[derive(Debug, Clone)]
pub(super) struct SliceFormat {
    /// The three colour planes are coded apart (`separate_colour_plane_flag`).
    pub(super) separate_planes: bool,
    /// `ChromaArrayType` is 0.
    pub(super) monochrome: bool,
    /// Length of `frame_num`.
    pub(super) frame_num_bits: u32,
    pub(super) frames_only: bool,
    pub(super) count: PicOrderCntType,
}

/// How the picture order count is known (`pic_order_cnt_type`, clause 8.2.1).
#[derive(Debug, Clone)]
pub(super) enum PicOrderCntType {
    /// Type 0: its low bits are in each slice header.
    Lsb {
        /// Length of `pic_order_cnt_lsb`.
        bits: u32,
    },
    /// Type 1: it follows from the frame number by a cycle of offsets.
    Cycle {
        /// `delta_pic_order_always_zero_flag`.
        always_zero: bool,
        /// `offset_for_non_ref_pic`.
        for_non_reference: i64,
        /// `offset_for_top_to_bottom_field`.
        for_bottom: i64,
        /// `offset_for_ref_frame`.
        offsets: Vec<i64>,
    },
    /// Type 2: pictures are shown in the order of decoding.
    Decoding,
}

impl Sps {
    /// Reads a NAL unit of type 7, with its header byte and emulation prevention.
    ///
    /// # Errors
    /// If it ends too early or has values that the standard does not allow.
    pub fn parse(nal: &[u8]) -> Result<Self, SpsError> {
        let payload = unescape(nal.get(1..).unwrap_or_default());
        ParsedSps::read(&payload).map(|parsed| parsed.sps)
    }

    /// What the decoder of the sequence needs to know.
    pub(super) fn sequence(&self) -> Sequence {
        Sequence {
            codec: Codec::H264,
            size: self.size,
            macroblocks: usize::try_from(self.macroblocks).unwrap_or(usize::MAX),
            color: self.color,
            output: match self.max_num_reorder_frames {
                _ if self.is_baseline() => OutputOrder::Decoding,
                Some(frames) => OutputOrder::Reordered { frames },
                None => OutputOrder::Undeclared,
            },
            delays_output: !self.fits_baseline,
        }
    }

    /// Why the decoder cannot decode the sequence, if it cannot: openh264 takes progressive 4:2:0 and grey of 8 bits.
    #[cfg_attr(
        not(feature = "openh264"),
        allow(dead_code, reason = "only the decoder openh264 needs it")
    )]
    pub(crate) fn unsupported(&self) -> Option<Unsupported> {
        let profile_idc = self.profile_idc;
        if !self.frames_only {
            Some(Unsupported::Interlaced)
        } else if self.chroma_format_idc > 1 {
            let chroma = if self.chroma_format_idc == 2 {
                "4:2:2"
            } else {
                "4:4:4"
            };
            Some(Unsupported::Chroma {
                chroma,
                profile_idc,
            })
        } else if self.bit_depth > 8 {
            Some(Unsupported::BitDepth {
                bits: self.bit_depth,
                profile_idc,
            })
        } else if self.lossless {
            Some(Unsupported::Lossless { profile_idc })
        } else {
            None
        }
    }

    /// True if there is only luma.
    #[cfg_attr(
        not(feature = "openh264"),
        allow(dead_code, reason = "only the decoder openh264 needs it")
    )]
    pub(crate) fn is_grey(&self) -> bool {
        self.chroma_format_idc == 0
    }

    /// True if the profile has no B slices.
    fn is_baseline(&self) -> bool {
        matches!(self.profile_idc, 66 | 83)
    }
}

impl ParsedSps {
    /// Reads a payload, without header byte and emulation prevention.
    pub(super) fn read(payload: &[u8]) -> Result<Self, SpsError> {
        let mut bits = BitReader::new(payload);
        let profile_idc = byte(&mut bits)?;
        let constraints = byte(&mut bits)?;
        let level_idc = byte(&mut bits)?;
        let id = ranged("seq_parameter_set_id", bits.ue()?, 31)?;
        let (mut chroma_format_idc, mut separate_planes, mut bit_depth) = (1, false, 8);
        let (mut lossless, mut scaling_lists) = (false, false);
        let high_begins = bits.position_bits();
        if matches!(
            profile_idc,
            100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
        ) {
            chroma_format_idc = ranged("chroma_format_idc", bits.ue()?, 3)?;
            if chroma_format_idc == 3 {
                separate_planes = bits.flag()?;
            }
            let luma = ranged("bit_depth_luma_minus8", bits.ue()?, 6)?;
            let chroma = ranged("bit_depth_chroma_minus8", bits.ue()?, 6)?;
            bit_depth = 8 + luma.max(chroma);
            lossless = bits.flag()?;
            scaling_lists = bits.flag()?;
            if scaling_lists {
                let lists = if chroma_format_idc == 3 { 12 } else { 8 };
                for list in 0..lists {
                    if bits.flag()? {
                        skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        let body_begins = bits.position_bits();
        let frame_num_bits = 4 + u32::from(ranged("log2_max_frame_num_minus4", bits.ue()?, 12)?);
        let count = PicOrderCntType::read(&mut bits)?;
        ranged("max_num_ref_frames", bits.ue()?, 16)?;
        bits.flag()?; // gaps_in_frame_num_value_allowed_flag
        let width_mbs = edge("pic_width_in_mbs_minus1", bits.ue()?)?;
        let map_units = edge("pic_height_in_map_units_minus1", bits.ue()?)?;
        let frames_only = bits.flag()?;
        if !frames_only {
            bits.flag()?; // mb_adaptive_frame_field_flag
        }
        bits.flag()?; // direct_8x8_inference_flag
        let height_mbs = map_units * if frames_only { 1 } else { 2 };
        let body_ends = bits.position_bits();
        let crop = if bits.flag()? {
            Crop {
                left: bits.ue()?,
                right: bits.ue()?,
                top: bits.ue()?,
                bottom: bits.ue()?,
            }
        } else {
            Crop::default()
        };
        let chroma_array_type = if separate_planes {
            0
        } else {
            chroma_format_idc
        };
        let size = crop.apply(width_mbs, height_mbs, chroma_array_type, frames_only)?;
        // A VUI that breaks off is common enough, and what it would have said has defaults.
        let mut vui = Vui::default();
        if bits.flag().unwrap_or(false) {
            let _ = vui.read(&mut bits);
        }
        let sps = Sps {
            profile_idc,
            constraints,
            level_idc,
            id,
            chroma_format_idc,
            bit_depth,
            lossless,
            frames_only,
            size,
            macroblocks: width_mbs * height_mbs,
            color: vui.color,
            max_num_reorder_frames: vui.max_num_reorder_frames,
            picture_interval: vui.picture_interval,
            fits_baseline: chroma_format_idc == 1 && bit_depth == 8 && !lossless && !scaling_lists,
        };
        let slices = SliceFormat {
            separate_planes,
            monochrome: chroma_array_type == 0,
            frame_num_bits,
            frames_only,
            count,
        };
        Ok(Self {
            sps,
            slices,
            high: high_begins..body_begins,
            body: body_begins..body_ends,
            crop,
        })
    }
}

impl PicOrderCntType {
    fn read(bits: &mut BitReader<'_>) -> Result<Self, SpsError> {
        Ok(match ranged("pic_order_cnt_type", bits.ue()?, 2)? {
            0 => {
                let log2 = ranged("log2_max_pic_order_cnt_lsb_minus4", bits.ue()?, 12)?;
                Self::Lsb {
                    bits: 4 + u32::from(log2),
                }
            }
            1 => {
                let always_zero = bits.flag()?;
                let for_non_reference = bits.se()?.into();
                let for_bottom = bits.se()?.into();
                let cycle = ranged("num_ref_frames_in_pic_order_cnt_cycle", bits.ue()?, 255)?;
                let offsets = (0..cycle).map(|_| bits.se().map(i64::from));
                Self::Cycle {
                    always_zero,
                    for_non_reference,
                    for_bottom,
                    offsets: offsets.collect::<Result<_, _>>()?,
                }
            }
            _ => Self::Decoding,
        })
    }
}

/// How much is cut off at each edge, in units of the chroma format.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Crop {
    pub(super) left: u32,
    pub(super) right: u32,
    pub(super) top: u32,
    pub(super) bottom: u32,
}

impl Crop {
    /// The size that is left, by equations 7-19 to 7-22.
    fn apply(
        &self,
        width_mbs: u32,
        height_mbs: u32,
        chroma_array_type: u8,
        frames_only: bool,
    ) -> Result<PictureSize, SpsError> {
        let (unit_x, unit_y) = match chroma_array_type {
            1 => (2, 2),
            2 => (2, 1),
            _ => (1, 1),
        };
        let unit_y = unit_y * if frames_only { 1 } else { 2 };
        let cut = |element, edge_px: u32, first: u32, second: u32, unit: u32| {
            let value = first.saturating_add(second).saturating_mul(unit);
            match edge_px.checked_sub(value) {
                Some(rest) if rest > 0 => Ok(rest as usize),
                _ => Err(SpsError::Range { element, value }),
            }
        };
        Ok(PictureSize {
            width_px: cut(
                "frame_crop_right_offset",
                width_mbs * 16,
                self.left,
                self.right,
                unit_x,
            )?,
            height_px: cut(
                "frame_crop_bottom_offset",
                height_mbs * 16,
                self.top,
                self.bottom,
                unit_y,
            )?,
        })
    }
}

fn skip_scaling_list(bits: &mut BitReader<'_>, entries: u32) -> Result<(), BitError> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..entries {
        if next != 0 {
            next = (last + bits.se()?.clamp(-128, 127)).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Ok(())
}

fn byte(bits: &mut BitReader<'_>) -> Result<u8, SpsError> {
    ranged("u(8)", bits.bits(8)?, 255)
}

pub(super) fn ranged(element: &'static str, value: u32, max: u8) -> Result<u8, SpsError> {
    match u8::try_from(value) {
        Ok(small) if small <= max => Ok(small),
        _ => Err(SpsError::Range { element, value }),
    }
}

fn edge(element: &'static str, minus1: u32) -> Result<u32, SpsError> {
    if minus1 < MAX_EDGE_MBS {
        Ok(minus1 + 1)
    } else {
        Err(SpsError::Range {
            element,
            value: minus1,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::super::bits::BitWriter;
    use super::super::pps::PpsIds;
    use super::super::sps_for_decoder::sps_for_decoder;
    use super::*;
    use crate::picture::Matrix;

    /// A baseline SPS of a size in pixels (even), with crop.
    pub(crate) fn baseline_sps(id: u32, width_px: u32, height_px: u32) -> Vec<u8> {
        let mut bits = BitWriter::default();
        let (mbs_x, mbs_y) = (width_px.div_ceil(16), height_px.div_ceil(16));
        bits.u(8, 66).u(8, 0xc0).u(8, 31).ue(id);
        bits.ue(0).ue(2).ue(1).u(1, 0).ue(mbs_x - 1).ue(mbs_y - 1);
        bits.u(1, 1).u(1, 1);
        bits.u(1, 1).ue(0).ue((mbs_x * 16 - width_px) / 2);
        bits.ue(0).ue((mbs_y * 16 - height_px) / 2);
        bits.u(1, 0);
        bits.nal(0x67)
    }

    /// A PPS as far as its ids.
    pub(crate) fn pps(id: u32, sps_id: u32) -> Vec<u8> {
        let mut bits = BitWriter::default();
        bits.ue(id).ue(sps_id).u(8, 0xff);
        bits.nal(0x68)
    }

    #[test]
    fn cropping_gives_1080_rows() {
        let sps = Sps::parse(&baseline_sps(3, 1920, 1080)).unwrap();
        assert_eq!((sps.size.width_px, sps.size.height_px), (1920, 1080));
        assert_eq!(
            (sps.id, sps.profile_idc, sps.macroblocks),
            (3, 66, 120 * 68)
        );
        assert_eq!(sps.color, Color::default());
        assert_eq!(sps.max_num_reorder_frames, None);
        assert_eq!(sps.picture_interval, None);
    }

    #[test]
    fn x264_high_profile_with_vui() {
        // libx264, 768x576 High, -bf 2, -color_range pc -colorspace bt709.
        let mut bits = BitWriter::default();
        bits.u(8, 100).u(8, 0).u(8, 31).ue(0);
        bits.ue(1).ue(0).ue(0).u(1, 0).u(1, 0);
        bits.ue(0).ue(0).ue(4).ue(4).u(1, 0).ue(47).ue(35);
        bits.u(1, 1).u(1, 1).u(1, 0);
        bits.u(1, 1); // VUI
        bits.u(1, 1).u(8, 255).u(16, 1).u(16, 1).u(1, 0);
        bits.u(1, 1).u(3, 5).u(1, 1).u(1, 1).u(8, 1).u(8, 1).u(8, 1);
        bits.u(1, 0).u(1, 1).u(32, 1).u(32, 50).u(1, 1);
        bits.u(1, 0).u(1, 0).u(1, 0);
        bits.u(1, 1).u(1, 1).ue(0).ue(0).ue(11).ue(11).ue(2).ue(4);
        let sps = Sps::parse(&bits.nal(0x67)).unwrap();
        assert_eq!((sps.size.width_px, sps.size.height_px), (768, 576));
        assert_eq!(sps.color.matrix, Matrix::Bt709);
        assert!(sps.color.full_range);
        assert_eq!(sps.max_num_reorder_frames, Some(2));
        assert_eq!(sps.picture_interval, Some(Duration::from_millis(40)));
    }

    /// `profile_idc` and `level_idc`, the flags of High with these values, 640 × 480, and then `rest`.
    pub(crate) fn sps_of(
        profile: u32,
        level: u32,
        high: Option<(u32, u32, u32)>,
        rest: &[u32],
    ) -> Vec<u8> {
        let mut bits = BitWriter::default();
        bits.u(8, profile).u(8, 0).u(8, level).ue(2);
        if let Some((chroma, luma_bits, bypass)) = high {
            bits.ue(chroma).ue(luma_bits - 8).ue(0).u(1, bypass).u(1, 0);
        }
        bits.ue(0).ue(2).ue(1).u(1, 0).ue(39).ue(29).u(3, 0b110);
        for &bit in rest {
            bits.u(1, bit);
        }
        bits.nal(0x67)
    }

    pub(crate) const HIGH: Option<(u32, u32, u32)> = Some((1, 8, 0));

    #[test]
    fn what_cannot_be_decoded_is_named() {
        let of = |profile, high| Sps::parse(&sps_of(profile, 31, Some(high), &[0])).unwrap();
        let said = |sps: Sps| sps.unsupported().map(|what| what.to_string());
        let ten_bits = said(of(110, (1, 10, 0))).unwrap();
        assert!(
            ten_bits.contains("10 bits a sample (profile_idc 110)"),
            "{ten_bits}"
        );
        let chroma = said(of(122, (2, 8, 0))).unwrap();
        assert!(
            chroma.contains("4:2:2 chroma (profile_idc 122)"),
            "{chroma}"
        );
        let lossless = said(of(244, (1, 8, 1))).unwrap();
        assert!(lossless.contains("lossless"), "{lossless}");
        let mut interlaced = of(100, (1, 8, 0));
        interlaced.frames_only = false;
        assert!(said(interlaced).unwrap().contains("interlaced"));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Sps::parse(&[]).is_err());
        assert!(Sps::parse(&[0x67, 66, 0, 30]).is_err());
        let mut huge = BitWriter::default();
        huge.u(8, 66)
            .u(8, 0)
            .u(8, 31)
            .ue(0)
            .ue(0)
            .ue(2)
            .ue(1)
            .u(1, 0);
        huge.ue(100_000).ue(100_000).u(8, 0xff);
        assert!(matches!(
            Sps::parse(&huge.nal(0x67)),
            Err(SpsError::Range {
                element: "pic_width_in_mbs_minus1",
                value: 100_000
            })
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer(nal: Vec<u8>) {
            if let Ok(sps) = Sps::parse(&nal) {
                prop_assert!(sps.size.width_px > 0 && sps.size.height_px > 0);
                prop_assert!(sps.size.width_px <= 1055 * 16 && sps.size.height_px <= 1055 * 32);
            }
            let _ = PpsIds::parse(&nal);
            let _ = sps_for_decoder(&nal);
        }

        #[test]
        fn a_mutilated_set_is_an_answer(cut in 0_usize..20, at in 0_usize..20, value: u8) {
            let mut nal = baseline_sps(0, 1280, 720);
            if let Some(byte) = nal.get_mut(at) { *byte = value; }
            nal.truncate(nal.len().saturating_sub(cut));
            let _ = Sps::parse(&nal);
        }

        #[test]
        fn sizes_come_back(width in 1_u32..1000, height in 1_u32..1000) {
            let sps = Sps::parse(&baseline_sps(0, width * 2, height * 2)).unwrap();
            prop_assert_eq!(sps.size, PictureSize { width_px: width as usize * 2, height_px: height as usize * 2 });
        }
    }
}
