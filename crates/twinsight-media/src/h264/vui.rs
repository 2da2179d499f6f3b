//! Video usability information (H.264 Annex E): the bits behind `vui_parameters_present_flag` come in from the parser of
//! sequence parameter sets, colours, the rate of pictures and how far they are reordered go out.

use std::time::Duration;

use super::bits::BitReader;
use super::sps::{SpsError, ranged};
use crate::picture::{Color, Matrix};

#[derive(Debug, Default)]
pub(super) struct Vui {
    pub(super) color: Color,
    pub(super) max_num_reorder_frames: Option<u32>,
    pub(super) picture_interval: Option<Duration>,
}

impl Vui {
    /// Reads clause E.1.1. What was read before an error stays.
    pub(super) fn read(&mut self, bits: &mut BitReader<'_>) -> Result<(), SpsError> {
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
                    // SMPTE 240M and BT.2020 are closer to BT.709 than to BT.601.
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
            let num_units_in_tick = bits.bits(32)?;
            let time_scale = bits.bits(32)?;
            self.picture_interval = interval(num_units_in_tick, time_scale);
            bits.flag()?; // fixed_frame_rate_flag
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

/// The time from one picture to the next. A tick is the time of a field, and a picture has two (clause E.2.1).
fn interval(num_units_in_tick: u32, time_scale: u32) -> Option<Duration> {
    let seconds = 2.0 * f64::from(num_units_in_tick) / f64::from(time_scale);
    // Some encoders leave 0 there, or what means nothing.
    let is_possible = (0.001..=100.0).contains(&seconds);
    is_possible.then(|| Duration::from_secs_f64(seconds))
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
