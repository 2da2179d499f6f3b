//! Picture parameter sets (H.264 clause 7.3.2.2): a NAL unit comes in, its ids or what slice headers depend on go out.

use super::bits::{BitError, BitReader};
use super::nal::unescape;
use super::sps::{SpsError, ranged};

/// The ids at the beginning of a picture parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PpsIds {
    /// `pic_parameter_set_id`, 0 to 255.
    pub(super) id: u8,
    /// `seq_parameter_set_id`: the sequence parameter set that it refers to, 0 to 31.
    pub(super) sps_id: u8,
}

/// The fields of a picture parameter set without which a slice header cannot be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pps {
    /// `seq_parameter_set_id`.
    pub(super) sps_id: u32,
    /// `bottom_field_pic_order_in_frame_present_flag`.
    pub(super) bottom_field_order: bool,
    /// Reference pictures in each list, unless the slice says otherwise.
    pub(super) default_references: [u32; 2],
    pub(super) weighted: bool,
    pub(super) weighted_bipred: bool,
    /// `redundant_pic_cnt_present_flag`.
    pub(super) redundant_count: bool,
}

impl PpsIds {
    /// Reads a NAL unit of type 8 as far as its ids.
    pub(super) fn parse(nal: &[u8]) -> Result<Self, SpsError> {
        let payload = nal.get(1..).unwrap_or_default();
        let payload = unescape(&payload[..payload.len().min(20)]);
        let mut bits = BitReader::new(&payload);
        Ok(Self {
            id: ranged("pic_parameter_set_id", bits.ue()?, 255)?,
            sps_id: ranged("seq_parameter_set_id", bits.ue()?, 31)?,
        })
    }
}

impl Pps {
    /// Reads a NAL unit of type 8 without its first byte, and gives its id, too.
    pub(super) fn parse(escaped: &[u8]) -> Result<(u32, Self), BitError> {
        let payload = unescape(escaped);
        let mut bits = BitReader::new(&payload);
        let id = bits.ue()?;
        let sps_id = bits.ue()?;
        bits.flag()?; // entropy_coding_mode_flag
        let bottom_field_order = bits.flag()?;
        skip_slice_groups(&mut bits)?;
        let mut references = || Ok(bits.ue()?.saturating_add(1).min(32));
        let default_references = [references()?, references()?];
        let weighted = bits.flag()?;
        let weighted_bipred = bits.bits(2)? == 1;
        for _ in 0..3 {
            bits.se()?; // pic_init_qp_minus26, pic_init_qs_minus26, chroma_qp_index_offset
        }
        bits.bits(2)?; // deblocking_filter_control_present_flag, constrained_intra_pred_flag
        let set = Self {
            sps_id,
            bottom_field_order,
            default_references,
            weighted,
            weighted_bipred,
            redundant_count: bits.flag()?,
        };
        Ok((id, set))
    }
}

fn skip_slice_groups(bits: &mut BitReader<'_>) -> Result<(), BitError> {
    let groups_minus1 = bits.ue()?.min(7);
    if groups_minus1 == 0 {
        return Ok(());
    }
    match bits.ue()? {
        0 => {
            for _ in 0..=groups_minus1 {
                bits.ue()?;
            }
        }
        2 => {
            for _ in 0..2 * groups_minus1 {
                bits.ue()?;
            }
        }
        3..=5 => {
            bits.flag()?;
            bits.ue()?;
        }
        6 => {
            let id_bits = u32::BITS - groups_minus1.leading_zeros();
            for _ in 0..=bits.ue()? {
                bits.bits(id_bits)?;
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::sps::tests::pps;
    use super::*;

    #[test]
    fn pps_ids() {
        assert_eq!(PpsIds::parse(&pps(7, 3)), Ok(PpsIds { id: 7, sps_id: 3 }));
        assert!(PpsIds::parse(&[0x68]).is_err());
    }
}
