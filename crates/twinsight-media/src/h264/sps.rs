//! Parameter sets: resolution after cropping, colour and reordering depth out of a sequence
//! parameter set (H.264 clause 7.3.2.1 and Annex E), and the ids of a picture parameter set.

use std::ops::Range;

use thiserror::Error;

use super::bits::{BitError, BitReader, BitWriter};
use super::nal::unescape;
use crate::picture::{Color, Matrix, PictureSize, Unsupported};

/// What a receiver needs of a sequence parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sps {
    /// `profile_idc`: 66 baseline, 77 Main, 100 High.
    pub profile_idc: u8,
    /// The constraint flags, `constraint_set0_flag` in the highest bit.
    pub constraints: u8,
    /// `level_idc`: 31 is level 3.1.
    pub level_idc: u8,
    /// `seq_parameter_set_id`, 0 to 31.
    pub id: u8,
    /// 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format_idc: u8,
    /// Bits of a sample, of luma or chroma, whichever has more.
    pub bit_depth: u8,
    /// Macroblocks may bypass the transform (`qpprime_y_zero_transform_bypass_flag`).
    pub lossless: bool,
    /// False for streams that may hold fields.
    pub frames_only: bool,
    /// Size after cropping.
    pub size: PictureSize,
    /// Macroblocks of a frame, before cropping.
    pub macroblocks: u32,
    /// How YUV maps to RGB.
    pub color: Color,
    /// Frames that precede another in decoding order and follow it in output order, if it says.
    pub max_num_reorder_frames: Option<u32>,
    /// Baseline's syntax can say all of it (see [`for_decoder`]).
    pub fits_baseline: bool,
}

/// The ids of a picture parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PpsIds {
    /// `pic_parameter_set_id`, 0 to 255.
    pub id: u8,
    /// The sequence parameter set that it refers to, 0 to 31.
    pub sps_id: u8,
}

/// Why a parameter set could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SpsError {
    /// Too short, or a code too long.
    #[error("the parameter set cannot be read: {0}")]
    Bits(#[from] BitError),
    /// A value outside of what the standard allows.
    #[error("the parameter set has {element} = {value}, which H.264 does not allow")]
    Range {
        /// Name of the syntax element.
        element: &'static str,
        /// Its value.
        value: u32,
    },
}

/// Macroblocks along an edge that level 6.2 allows: sqrt(139264 * 8).
const MAX_EDGE_MBS: u32 = 1055;

/// Where parts of a sequence parameter set lie in its payload, in bits.
#[derive(Debug)]
struct Layout {
    /// What profiles above Main have more: from `chroma_format_idc` to the scaling lists.
    high: Range<usize>,
    /// From `log2_max_frame_num_minus4` to before the cropping.
    body: Range<usize>,
    crop: Crop,
}

impl Sps {
    /// Parses a NAL unit of type 7, header byte and emulation prevention included.
    pub fn parse(nal: &[u8]) -> Result<Self, SpsError> {
        let payload = unescape(nal.get(1..).unwrap_or_default());
        Self::read(&payload).map(|(sps, _)| sps)
    }

    fn read(payload: &[u8]) -> Result<(Self, Layout), SpsError> {
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
        ranged("log2_max_frame_num_minus4", bits.ue()?, 12)?;
        match ranged("pic_order_cnt_type", bits.ue()?, 2)? {
            0 => {
                ranged("log2_max_pic_order_cnt_lsb_minus4", bits.ue()?, 12)?;
            }
            1 => {
                bits.flag()?;
                bits.se()?;
                bits.se()?;
                let cycle = ranged("num_ref_frames_in_pic_order_cnt_cycle", bits.ue()?, 255)?;
                for _ in 0..cycle {
                    bits.se()?;
                }
            }
            _ => {}
        }
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
        let layout = Layout {
            high: high_begins..body_begins,
            body: body_begins..body_ends,
            crop,
        };
        // A VUI that breaks off is common enough; what it would have said has defaults.
        let mut vui = Vui::default();
        if bits.flag().unwrap_or(false) {
            let _ = vui.read(&mut bits);
        }
        let sps = Self {
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
            fits_baseline: chroma_format_idc == 1 && bit_depth == 8 && !lossless && !scaling_lists,
        };
        Ok((sps, layout))
    }

    /// What of it our decoder has no means for, if anything: openh264 takes progressive 4:2:0 and grey of 8 bits.
    pub fn unsupported(&self) -> Option<Unsupported> {
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

    /// True when there is luma alone.
    pub fn is_grey(&self) -> bool {
        self.chroma_format_idc == 0
    }

    /// True when the profile has no B slices.
    pub fn is_baseline(&self) -> bool {
        matches!(self.profile_idc, 66 | 83)
    }
}

impl PpsIds {
    /// Parses a NAL unit of type 8 as far as its ids.
    pub fn parse(nal: &[u8]) -> Result<Self, SpsError> {
        let payload = nal.get(1..).unwrap_or_default();
        let payload = unescape(&payload[..payload.len().min(20)]);
        let mut bits = BitReader::new(&payload);
        Ok(Self {
            id: ranged("pic_parameter_set_id", bits.ue()?, 255)?,
            sps_id: ranged("seq_parameter_set_id", bits.ue()?, 31)?,
        })
    }
}

/// A sequence parameter set as openh264 is to see it; `None` for one that cannot be read. What it decodes stays the same:
/// - `profile_idc` is 66, since the decoder delays the pictures of other profiles; 100 where baseline has no syntax for what
///   is said (grey, scaling lists);
/// - a level that the decoder does not know is told as 5.2, its highest;
/// - there is no VUI: the decoder does not need it, and refuses a broken one;
/// - it takes the cropping of grey pictures for pairs of samples, as of others: what is odd of it is left in.
pub fn for_decoder(nal: &[u8]) -> Option<Vec<u8>> {
    let (&header, escaped) = nal.split_first()?;
    let payload = unescape(escaped);
    let (sps, layout) = Sps::read(&payload).ok()?;
    let profile = match sps.unsupported() {
        _ if sps.fits_baseline => 66,
        None => 100,
        // It is refused, and says why.
        Some(_) => u32::from(sps.profile_idc),
    };
    let level = match sps.level_idc {
        known @ (9..=13 | 20..=22 | 30..=32 | 40..=42 | 50..=52) => u32::from(known),
        _ => 52,
    };
    let mut told = BitWriter::default();
    told.u(8, profile)
        .u(8, u32::from(sps.constraints))
        .u(8, level)
        .ue(u32::from(sps.id));
    let mut copy = |range: Range<usize>| {
        let mut bits = BitReader::new(&payload);
        bits.skip_bits(range.start);
        for _ in range {
            told.u(1, u32::from(bits.flag().ok()?));
        }
        Some(())
    };
    if profile != 66 {
        copy(layout.high)?;
    }
    copy(layout.body)?;
    let Crop {
        left,
        right,
        top,
        bottom,
    } = layout.crop;
    let unit = if sps.is_grey() { 2 } else { 1 };
    let crop = [left, right, top, bottom].map(|offset| offset / unit);
    told.u(1, u32::from(crop != [0; 4]));
    if crop != [0; 4] {
        crop.into_iter().for_each(|offset| {
            told.ue(offset);
        });
    }
    told.u(1, 0); // vui_parameters_present_flag
    Some(told.nal(header))
}

#[derive(Debug, Clone, Copy, Default)]
struct Crop {
    left: u32,
    right: u32,
    top: u32,
    bottom: u32,
}

impl Crop {
    /// The size that is left (equations 7-19 to 7-22).
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

#[derive(Debug, Default)]
struct Vui {
    color: Color,
    max_num_reorder_frames: Option<u32>,
}

impl Vui {
    /// Clause E.1.1; what was read before an error stays.
    fn read(&mut self, bits: &mut BitReader<'_>) -> Result<(), SpsError> {
        const EXTENDED_SAR: u32 = 255;
        if bits.flag()? && bits.bits(8)? == EXTENDED_SAR {
            bits.bits(32)?;
        }
        if bits.flag()? {
            bits.flag()?; // overscan_appropriate_flag
        }
        if bits.flag()? {
            bits.bits(3)?; // video_format
            self.color.full_range = bits.flag()?;
            if bits.flag()? {
                bits.bits(16)?; // colour_primaries, transfer_characteristics
                self.color.matrix = match bits.bits(8)? {
                    // SMPTE 240M and BT.2020 are nearer to BT.709 than to BT.601.
                    1 | 7 | 9 | 10 => Matrix::Bt709,
                    _ => Matrix::Bt601,
                };
            }
        }
        if bits.flag()? {
            bits.ue()?; // chroma_sample_loc_type_top_field
            bits.ue()?;
        }
        if bits.flag()? {
            bits.bits(32)?; // num_units_in_tick
            bits.bits(32)?; // time_scale
            bits.flag()?;
        }
        let nal_hrd = bits.flag()?;
        if nal_hrd {
            skip_hrd(bits)?;
        }
        let vcl_hrd = bits.flag()?;
        if vcl_hrd {
            skip_hrd(bits)?;
        }
        if nal_hrd || vcl_hrd {
            bits.flag()?; // low_delay_hrd_flag
        }
        bits.flag()?; // pic_struct_present_flag
        if bits.flag()? {
            bits.flag()?; // motion_vectors_over_pic_boundaries_flag
            for _ in 0..4 {
                bits.ue()?; // max_bytes_per_pic_denom to log2_max_mv_length_vertical
            }
            self.max_num_reorder_frames = Some(bits.ue()?);
        }
        Ok(())
    }
}

fn skip_hrd(bits: &mut BitReader<'_>) -> Result<(), SpsError> {
    let count = ranged("cpb_cnt_minus1", bits.ue()?, 31)?;
    bits.bits(8)?; // bit_rate_scale, cpb_size_scale
    for _ in 0..=count {
        bits.ue()?;
        bits.ue()?;
        bits.flag()?;
    }
    bits.bits(20)?; // four lengths of 5 bits
    Ok(())
}

pub(super) fn skip_scaling_list(bits: &mut BitReader<'_>, entries: u32) -> Result<(), BitError> {
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

fn ranged(element: &'static str, value: u32, max: u8) -> Result<u8, SpsError> {
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

    use super::*;

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
    }

    /// `profile_idc` and `level_idc`, the flags of High with these values, 640 × 480, and then `rest`.
    fn sps_of(profile: u32, level: u32, high: Option<(u32, u32, u32)>, rest: &[u32]) -> Vec<u8> {
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

    const HIGH: Option<(u32, u32, u32)> = Some((1, 8, 0));

    #[test]
    fn the_decoder_sees_baseline_with_all_else_as_it_was() {
        for (profile, high) in [(66, None), (77, None), (88, None), (100, HIGH), (110, HIGH)] {
            let nal = sps_of(profile, 31, high, &[0]);
            let sps = Sps::parse(&nal).unwrap();
            assert_eq!(u32::from(sps.profile_idc), profile);
            assert!(sps.fits_baseline && sps.unsupported().is_none());
            let told = for_decoder(&nal).unwrap();
            let expected = Sps {
                profile_idc: 66,
                ..sps
            };
            assert_eq!(Sps::parse(&told), Ok(expected));
            assert_eq!(for_decoder(&told), Some(told));
        }
    }

    #[test]
    fn grey_and_scaling_lists_stay_high() {
        let grey = sps_of(100, 31, Some((0, 8, 0)), &[0]);
        let sps = Sps::parse(&grey).unwrap();
        assert!(sps.is_grey() && !sps.fits_baseline && sps.unsupported().is_none());
        assert_eq!(for_decoder(&grey), Some(grey));
        // Eight flags of scaling lists that fall back.
        let mut lists = BitWriter::default();
        lists.u(8, 100).u(8, 0).u(8, 62).ue(0).ue(1).ue(0).ue(0);
        lists.u(2, 1).u(8, 0);
        lists.ue(0).ue(2).ue(1).u(1, 0).ue(39).ue(29).u(4, 0b1100);
        let sps = Sps::parse(&lists.nal(0x67)).unwrap();
        assert!(!sps.fits_baseline && sps.unsupported().is_none());
        let told = for_decoder(&lists.nal(0x67)).unwrap();
        let expected = Sps {
            level_idc: 52,
            ..sps
        };
        assert_eq!(Sps::parse(&told), Ok(expected));
    }

    #[test]
    fn the_decoder_crops_grey_pictures_by_pairs() {
        // Of 640 × 480 four columns and eight rows, which are eight units where there is no chroma.
        let mut bits = BitWriter::default();
        bits.u(8, 100).u(8, 0).u(8, 31).ue(2);
        bits.ue(0).ue(0).ue(0).u(2, 0);
        bits.ue(0).ue(2).ue(1).u(1, 0).ue(39).ue(29).u(2, 0b11);
        let cropped = |bits: &mut BitWriter, columns, rows| {
            bits.u(1, 1).ue(0).ue(columns).ue(0).ue(rows).u(1, 0);
            bits.nal(0x67)
        };
        let grey = cropped(&mut bits, 4, 8);
        let size = Sps::parse(&grey).unwrap().size;
        assert_eq!((size.width_px, size.height_px), (636, 472));
        let told = Sps::parse(&for_decoder(&grey).unwrap()).unwrap().size;
        assert_eq!((told.width_px, told.height_px), (638, 476));
    }

    #[test]
    fn levels_that_the_decoder_does_not_know_and_broken_vuis_are_not_told() {
        let plain = sps_of(66, 52, None, &[0]);
        for level in [0, 14, 60, 62, 255] {
            assert_eq!(
                for_decoder(&sps_of(66, level, None, &[0])),
                Some(plain.clone())
            );
        }
        // The flag of a VUI and nothing behind it; one that ends in its timing; no flag at all.
        let mut timing = vec![1, 0, 0, 0, 0, 1];
        timing.extend([0; 40]);
        for rest in [&[1][..], &timing, &[]] {
            let broken = sps_of(66, 52, None, rest);
            assert!(Sps::parse(&broken).is_ok());
            assert_eq!(for_decoder(&broken), Some(plain.clone()));
        }
    }

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

    #[test]
    fn pps_ids() {
        assert_eq!(PpsIds::parse(&pps(7, 3)), Ok(PpsIds { id: 7, sps_id: 3 }));
        assert!(PpsIds::parse(&[0x68]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer(nal: Vec<u8>) {
            if let Ok(sps) = Sps::parse(&nal) {
                prop_assert!(sps.size.width_px > 0 && sps.size.height_px > 0);
                prop_assert!(sps.size.width_px <= 1055 * 16 && sps.size.height_px <= 1055 * 32);
            }
            let _ = PpsIds::parse(&nal);
            let _ = for_decoder(&nal);
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
