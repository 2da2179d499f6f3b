//! Slice headers (H.264 clause 7.3.3) as far as they say where a picture is shown: the bits of a header come in with the
//! parameter sets that it uses, frame number, picture order count and memory resets go out. The display order of clips
//! calls it; what a stream needs of slices is [`SliceStart`](super::nal::SliceStart).

use super::bits::{BitError, BitReader};
use super::nal::NalType;
use super::pps::Pps;
use super::sps::{PicOrderCntType, SliceFormat};

/// The fields of a slice header that say where its picture is shown.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SliceHeader {
    pub(super) is_idr: bool,
    pub(super) is_reference: bool,
    /// The picture is a field, and not a frame.
    pub(super) field: bool,
    /// It is the bottom field.
    pub(super) bottom: bool,
    pub(super) frame_num: i64,
    /// `pic_order_cnt_lsb`.
    pub(super) lsb: i64,
    /// `delta_pic_order_cnt_bottom`.
    pub(super) delta_bottom: i64,
    /// `delta_pic_order_cnt`.
    pub(super) deltas: [i64; 2],
    /// `memory_management_control_operation` 5: counting begins anew, as after an IDR picture.
    pub(super) resets: bool,
}

impl SliceHeader {
    /// Reads on behind `pic_parameter_set_id` (clause 7.3.3), as far as `dec_ref_pic_marking`. `first` is the NAL unit's
    /// first byte.
    pub(super) fn parse(
        first: u8,
        slice_type: u32,
        bits: &mut BitReader<'_>,
        set: &Pps,
        sequence: &SliceFormat,
    ) -> Result<Self, BitError> {
        const P: u32 = 0;
        const B: u32 = 1;
        const SP: u32 = 3;
        let mut header = Self {
            is_idr: NalType::of(first) == NalType::IdrSlice,
            is_reference: first & 0x60 != 0,
            ..Self::default()
        };
        if sequence.separate_planes {
            bits.bits(2)?; // colour_plane_id
        }
        header.frame_num = bits.bits(sequence.frame_num_bits)?.into();
        if !sequence.frames_only && bits.flag()? {
            header.field = true;
            header.bottom = bits.flag()?;
        }
        if header.is_idr {
            bits.ue()?; // idr_pic_id
        }
        let two_fields = set.bottom_field_order && !header.field;
        match sequence.count {
            PicOrderCntType::Lsb { bits: count } => {
                header.lsb = bits.bits(count)?.into();
                if two_fields {
                    header.delta_bottom = bits.se()?.into();
                }
            }
            PicOrderCntType::Cycle {
                always_zero: false, ..
            } => {
                header.deltas[0] = bits.se()?.into();
                if two_fields {
                    header.deltas[1] = bits.se()?.into();
                }
            }
            _ => {}
        }
        // An IDR picture begins a period whatever its marking says, and a picture to which no other refers has no marking.
        if header.is_idr || !header.is_reference {
            return Ok(header);
        }
        // The place of the picture is known by now; the rest only says whether memory is reset.
        let marking = |bits: &mut BitReader<'_>| -> Result<bool, BitError> {
            if set.redundant_count {
                bits.ue()?;
            }
            if slice_type == B {
                bits.flag()?; // direct_spatial_mv_pred_flag
            }
            let lists = match slice_type {
                P | SP => 1,
                B => 2,
                _ => 0,
            };
            let mut references = set.default_references;
            if lists > 0 && bits.flag()? {
                for count in references.iter_mut().take(lists) {
                    *count = bits.ue()?.saturating_add(1).min(32);
                }
            }
            for _ in 0..lists {
                if bits.flag()? {
                    while bits.ue()? != 3 {
                        bits.ue()?;
                    }
                }
            }
            let weighted = match slice_type {
                B => set.weighted_bipred,
                P | SP => set.weighted,
                _ => false,
            };
            if weighted {
                skip_weights(bits, sequence.monochrome, &references[..lists])?;
            }
            resets_memory(bits)
        };
        header.resets = marking(bits).unwrap_or(false);
        Ok(header)
    }
}

/// Skips `pred_weight_table` (clause 7.3.3.2).
fn skip_weights(
    bits: &mut BitReader<'_>,
    monochrome: bool,
    references: &[u32],
) -> Result<(), BitError> {
    bits.ue()?; // luma_log2_weight_denom
    if !monochrome {
        bits.ue()?;
    }
    for _ in 0..references.iter().sum::<u32>() {
        if bits.flag()? {
            bits.se()?;
            bits.se()?;
        }
        if !monochrome && bits.flag()? {
            for _ in 0..4 {
                bits.se()?;
            }
        }
    }
    Ok(())
}

/// Reads `dec_ref_pic_marking` (clause 7.3.3.3) of a picture that is not an IDR picture. True if operation 5 is in it.
fn resets_memory(bits: &mut BitReader<'_>) -> Result<bool, BitError> {
    if !bits.flag()? {
        return Ok(false);
    }
    let mut resets = false;
    loop {
        match bits.ue()? {
            0 => return Ok(resets),
            1 | 2 | 4 | 6 => {
                bits.ue()?;
            }
            3 => {
                bits.ue()?;
                bits.ue()?;
            }
            5 => resets = true,
            _ => return Ok(false),
        }
    }
}
