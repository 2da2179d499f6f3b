//! Display order: the access units of a clip come in, in the order of decoding, and the place of each one's picture in
//! the order of display goes out. It is the picture order count (H.264 clause 8.2.1) that says it: a file has all of
//! its units at hand, so nothing has to be guessed from timestamps nor from how many pictures a decoder may hold back.

use std::collections::BTreeMap;

use super::bits::{BitError, BitReader};
use super::nal::{NalType, annex_b, unescape};
use super::sps::skip_scaling_list;

/// A slice header with all of its tables is shorter.
const MAX_HEADER_BYTES: usize = 4096;

/// Which picture is shown before which, within what lies between two points at which counting begins anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// IDR pictures and memory resets so far: nothing is shown across one.
    period: u64,
    /// The picture order count.
    count: i64,
}

/// Of each unit (Annex B), at which place its picture is shown, from 0 on; as many as there are units. A unit whose
/// header cannot be read keeps its place behind the one before it.
pub fn display_order<'a>(units: impl IntoIterator<Item = &'a [u8]>) -> Vec<usize> {
    let mut counter = Counter::default();
    let mut last = Place::default();
    let places: Vec<Place> = units
        .into_iter()
        .map(|unit| {
            last = counter.unit(unit).unwrap_or(last);
            last
        })
        .collect();
    let mut shown: Vec<usize> = (0..places.len()).collect();
    // It is a stable sort: units of one place stay as they are.
    shown.sort_by_key(|&unit| places[unit]);
    let mut order = vec![0; places.len()];
    for (place, unit) in shown.into_iter().enumerate() {
        order[unit] = place;
    }
    order
}

/// What of a sequence parameter set says how pictures are ordered, and what is read on the way there in slice headers.
#[derive(Debug, Clone)]
struct Sequence {
    separate_planes: bool,
    monochrome: bool,
    frame_num_bits: u32,
    frames_only: bool,
    kind: CountKind,
}

/// `pic_order_cnt_type`.
#[derive(Debug, Clone)]
enum CountKind {
    /// 0: the low bits of the count are in each slice header.
    Lsb { bits: u32 },
    /// 1: it follows from the frame number by a cycle of offsets.
    Cycle {
        always_zero: bool,
        for_non_reference: i64,
        for_bottom: i64,
        offsets: Vec<i64>,
    },
    /// 2: pictures are shown in the order of decoding.
    Decoding,
}

/// What of a picture parameter set is needed to read a slice header.
#[derive(Debug, Clone, Copy)]
struct PictureSet {
    sequence: u32,
    bottom_field_order: bool,
    default_references: [u32; 2],
    weighted: bool,
    weighted_bipred: bool,
    redundant_count: bool,
}

/// What of a slice header says where its picture is shown.
#[derive(Debug, Clone, Copy, Default)]
struct Header {
    is_idr: bool,
    is_reference: bool,
    field: bool,
    bottom: bool,
    frame_num: i64,
    lsb: i64,
    delta_bottom: i64,
    deltas: [i64; 2],
    /// `memory_management_control_operation` 5: as after an IDR picture.
    resets: bool,
}

/// Follows the count from unit to unit.
#[derive(Debug, Default)]
struct Counter {
    sequences: BTreeMap<u32, Sequence>,
    pictures: BTreeMap<u32, PictureSet>,
    period: u64,
    /// Of the reference picture before.
    msb: i64,
    lsb: i64,
    /// Of the picture before.
    frame_num: i64,
    frame_num_offset: i64,
    decoded: i64,
}

impl Counter {
    /// The place of a unit's picture; none when its header cannot be read.
    fn unit(&mut self, unit: &[u8]) -> Option<Place> {
        for nal in annex_b(unit) {
            let (&first, rest) = nal.split_first()?;
            let kind = NalType::of(first);
            match kind {
                NalType::Sps => {
                    if let Ok((id, sequence)) = Sequence::parse(rest) {
                        self.sequences.insert(id, sequence);
                    }
                }
                NalType::Pps => {
                    if let Ok((id, set)) = PictureSet::parse(rest) {
                        self.pictures.insert(id, set);
                    }
                }
                _ if kind.is_slice() => {
                    let payload = unescape(&rest[..rest.len().min(MAX_HEADER_BYTES)]);
                    let (header, sequence) = self.header(first, &payload)?;
                    return Some(self.count(header, &sequence));
                }
                _ => {}
            }
        }
        None
    }

    fn header(&self, first: u8, payload: &[u8]) -> Option<(Header, Sequence)> {
        let mut bits = BitReader::new(payload);
        let (_first_mb, slice_type, set) = (bits.ue().ok()?, bits.ue().ok()? % 5, bits.ue().ok()?);
        let set = self.pictures.get(&set)?;
        let sequence = self.sequences.get(&set.sequence)?;
        let header = Header::parse(first, slice_type, &mut bits, set, sequence).ok()?;
        Some((header, sequence.clone()))
    }

    /// Clause 8.2.1. What hostile headers make of it is of no meaning and does no harm: sums do not wrap.
    fn count(&mut self, header: Header, sequence: &Sequence) -> Place {
        if header.is_idr {
            self.period += 1;
            (self.msb, self.lsb) = (0, 0);
            (self.frame_num, self.frame_num_offset) = (0, 0);
        }
        if !header.is_idr && self.frame_num > header.frame_num {
            self.frame_num_offset = self
                .frame_num_offset
                .saturating_add(1 << sequence.frame_num_bits);
        }
        self.frame_num = header.frame_num;
        self.decoded = self.decoded.saturating_add(1);
        let (top, bottom) = match &sequence.kind {
            CountKind::Lsb { bits } => {
                let range = 1_i64 << bits;
                let msb = if header.lsb < self.lsb && self.lsb - header.lsb >= range / 2 {
                    self.msb.saturating_add(range)
                } else if header.lsb > self.lsb && header.lsb - self.lsb > range / 2 {
                    self.msb.saturating_sub(range)
                } else {
                    self.msb
                };
                if header.is_reference {
                    (self.msb, self.lsb) = (msb, header.lsb);
                }
                let top = msb.saturating_add(header.lsb);
                (top, top.saturating_add(header.delta_bottom))
            }
            CountKind::Cycle {
                for_non_reference,
                for_bottom,
                offsets,
                ..
            } => {
                let expected = self.expected(header, *for_non_reference, offsets);
                let top = expected.saturating_add(header.deltas[0]);
                let bottom = if header.field {
                    expected.saturating_add(*for_bottom)
                } else {
                    top.saturating_add(*for_bottom)
                };
                let delta = header.deltas[usize::from(!header.field)];
                (top, bottom.saturating_add(delta))
            }
            CountKind::Decoding => (self.decoded, self.decoded),
        };
        let count = match (header.field, header.bottom) {
            (false, _) => top.min(bottom),
            (true, false) => top,
            (true, true) => bottom,
        };
        if header.resets {
            self.period += 1;
            (self.frame_num, self.frame_num_offset) = (0, 0);
            let kept = if header.bottom {
                0
            } else {
                top.saturating_sub(count)
            };
            (self.msb, self.lsb) = (0, kept);
            return Place {
                period: self.period,
                count: 0,
            };
        }
        Place {
            period: self.period,
            count,
        }
    }

    /// `expectedPicOrderCnt` of type 1 (clause 8.2.1.2).
    fn expected(&self, header: Header, for_non_reference: i64, offsets: &[i64]) -> i64 {
        let cycle = i64::try_from(offsets.len()).unwrap_or(0);
        let mut number = match cycle {
            0 => 0,
            _ => self.frame_num_offset.saturating_add(header.frame_num),
        };
        if !header.is_reference && number > 0 {
            number -= 1;
        }
        let mut expected = 0_i64;
        if number > 0 && cycle > 0 {
            let (rounds, within) = ((number - 1) / cycle, (number - 1) % cycle);
            let round: i64 = offsets.iter().sum();
            let part = usize::try_from(within + 1).unwrap_or(0);
            let part: i64 = offsets.iter().take(part).sum();
            expected = rounds.saturating_mul(round).saturating_add(part);
        }
        if header.is_reference {
            expected
        } else {
            expected.saturating_add(for_non_reference)
        }
    }
}

impl Sequence {
    /// The id and what is needed of a set without its first byte (clause 7.3.2.1.1).
    fn parse(escaped: &[u8]) -> Result<(u32, Self), BitError> {
        let payload = unescape(escaped);
        let mut bits = BitReader::new(&payload);
        let profile_idc = bits.bits(8)?;
        bits.bits(16)?;
        let id = bits.ue()?;
        let (mut chroma_format, mut separate_planes) = (1, false);
        if matches!(
            profile_idc,
            100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
        ) {
            chroma_format = bits.ue()?;
            separate_planes = chroma_format == 3 && bits.flag()?;
            bits.ue()?;
            bits.ue()?;
            bits.flag()?;
            if bits.flag()? {
                for list in 0..if chroma_format == 3 { 12 } else { 8 } {
                    if bits.flag()? {
                        skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        let log2 = |minus4: u32| minus4.saturating_add(4).min(16);
        let frame_num_bits = log2(bits.ue()?);
        let kind = match bits.ue()? {
            0 => CountKind::Lsb {
                bits: log2(bits.ue()?),
            },
            1 => CountKind::Cycle {
                always_zero: bits.flag()?,
                for_non_reference: bits.se()?.into(),
                for_bottom: bits.se()?.into(),
                offsets: (0..bits.ue()?.min(255))
                    .map(|_| bits.se().map(i64::from))
                    .collect::<Result<_, _>>()?,
            },
            _ => CountKind::Decoding,
        };
        bits.ue()?; // max_num_ref_frames
        bits.flag()?; // gaps_in_frame_num_value_allowed_flag
        bits.ue()?; // pic_width_in_mbs_minus1
        bits.ue()?; // pic_height_in_map_units_minus1
        let sequence = Self {
            separate_planes,
            monochrome: separate_planes || chroma_format == 0,
            frame_num_bits,
            frames_only: bits.flag()?,
            kind,
        };
        Ok((id, sequence))
    }
}

impl PictureSet {
    /// The id and what is needed of a set without its first byte (clause 7.3.2.2).
    fn parse(escaped: &[u8]) -> Result<(u32, Self), BitError> {
        let payload = unescape(escaped);
        let mut bits = BitReader::new(&payload);
        let id = bits.ue()?;
        let sequence = bits.ue()?;
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
            sequence,
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

impl Header {
    /// From behind `pic_parameter_set_id` on (clause 7.3.3), as far as `dec_ref_pic_marking`.
    fn parse(
        first: u8,
        slice_type: u32,
        bits: &mut BitReader<'_>,
        set: &PictureSet,
        sequence: &Sequence,
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
        match sequence.kind {
            CountKind::Lsb { bits: count } => {
                header.lsb = bits.bits(count)?.into();
                if two_fields {
                    header.delta_bottom = bits.se()?.into();
                }
            }
            CountKind::Cycle {
                always_zero: false, ..
            } => {
                header.deltas[0] = bits.se()?.into();
                if two_fields {
                    header.deltas[1] = bits.se()?.into();
                }
            }
            _ => {}
        }
        // An IDR picture begins a period whatever its marking says, and what no other refers to has none.
        if header.is_idr || !header.is_reference {
            return Ok(header);
        }
        // What follows is only of use for a memory reset; the place of the picture is known.
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

/// `pred_weight_table` (clause 7.3.3.2).
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

/// `dec_ref_pic_marking` (clause 7.3.3.3) of a picture that is no IDR picture: true if operation 5 is among its.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::bits::BitWriter;
    use super::super::nal::START_CODE;
    use super::*;

    /// A sequence of 64 by 48 with eight bits of frame number; `kind` writes what orders it.
    fn sets(kind: impl FnOnce(&mut BitWriter)) -> Vec<u8> {
        let mut sps = BitWriter::default();
        sps.u(8, 77).u(8, 0).u(8, 10).ue(0).ue(4);
        kind(&mut sps);
        sps.ue(4).u(1, 0).ue(3).ue(2).u(1, 1).u(3, 0);
        let mut pps = BitWriter::default();
        pps.ue(0).ue(0).u(2, 0).ue(0).ue(0).ue(0).u(3, 0);
        pps.ue(0).ue(0).ue(0).u(3, 0);
        stream(&[sps.nal(0x67), pps.nal(0x68)])
    }

    fn stream(nals: &[Vec<u8>]) -> Vec<u8> {
        let with_codes = nals.iter().flat_map(|nal| START_CODE.iter().chain(nal));
        with_codes.copied().collect()
    }

    /// A slice of a P picture, or of an IDR picture; `rest` writes what follows the frame number.
    fn slice(header: u8, frame_num: u32, rest: impl FnOnce(&mut BitWriter)) -> Vec<u8> {
        let mut bits = BitWriter::default();
        let is_idr = header & 0x1f == 5;
        bits.ue(0)
            .ue(if is_idr { 7 } else { 5 })
            .ue(0)
            .u(8, frame_num);
        if is_idr {
            bits.ue(0);
        }
        rest(&mut bits);
        stream(&[bits.nal(header)])
    }

    fn order(sets: Vec<u8>, mut units: Vec<Vec<u8>>) -> Vec<usize> {
        units[0].splice(0..0, sets);
        display_order(units.iter().map(Vec::as_slice))
    }

    #[test]
    fn the_low_bits_of_the_count_wrap() {
        let lsb_of_4_bits = |bits: &mut BitWriter| {
            bits.ue(0).ue(0);
        };
        let picture = |header, lsb| {
            slice(header, 0, |bits| {
                bits.u(4, lsb).u(8, 0);
            })
        };
        // Shown: 0, 2 and 4 (B), 6, 8 and 10, 12, 14 and 16 (which is 0 again), 18.
        let lsbs = [
            (0x65, 0),
            (0x41, 6),
            (0x01, 2),
            (0x01, 4),
            (0x41, 12),
            (0x01, 8),
            (0x01, 10),
        ];
        let wrapped = [
            (0x41, 2),
            (0x01, 14),
            (0x01, 0),
            (0x65, 0),
            (0x41, 4),
            (0x01, 2),
        ];
        let units = lsbs.iter().chain(&wrapped);
        let units = units.map(|&(header, lsb)| picture(header, lsb)).collect();
        assert_eq!(
            order(sets(lsb_of_4_bits), units),
            [0, 3, 1, 2, 6, 4, 5, 9, 7, 8, 10, 12, 11]
        );
    }

    #[test]
    fn a_memory_reset_begins_a_period() {
        let picture = |header, frame_num, lsb, resets: bool| {
            slice(header, frame_num, |bits| {
                bits.u(4, lsb);
                if header == 0x41 {
                    bits.u(2, 0).u(1, u32::from(resets));
                    if resets {
                        bits.ue(5).ue(0);
                    }
                }
                bits.u(8, 0);
            })
        };
        let units = vec![
            picture(0x65, 0, 0, false),
            picture(0x41, 1, 6, false),
            // Without the reset it would be shown between the two before it.
            picture(0x41, 2, 3, true),
            picture(0x41, 1, 4, false),
            picture(0x01, 2, 2, false),
        ];
        let lsb_of_4_bits = |bits: &mut BitWriter| {
            bits.ue(0).ue(0);
        };
        assert_eq!(order(sets(lsb_of_4_bits), units), [0, 1, 2, 4, 3]);
    }

    #[test]
    fn a_cycle_of_offsets_orders_by_frame_number() {
        // offset_for_non_ref_pic -3, one reference frame in the cycle, 4 apart.
        let cycle = |bits: &mut BitWriter| {
            bits.ue(1).u(1, 1).ue(6).ue(0).ue(1).ue(7);
        };
        let picture = |header, frame_num| {
            slice(header, frame_num, |bits| {
                bits.u(8, 0);
            })
        };
        let units = [(0x65, 0), (0x41, 1), (0x01, 2), (0x41, 2), (0x01, 3)];
        let units = units
            .iter()
            .map(|&(header, number)| picture(header, number));
        assert_eq!(order(sets(cycle), units.collect()), [0, 2, 1, 4, 3]);
    }

    #[test]
    fn without_counts_the_order_is_that_of_decoding() {
        let none = |bits: &mut BitWriter| {
            bits.ue(2);
        };
        let picture = |header| {
            slice(header, 0, |bits| {
                bits.u(8, 0);
            })
        };
        let units = [0x65, 0x41, 0x01, 0x41, 0x65].map(picture).to_vec();
        assert_eq!(order(sets(none), units), [0, 1, 2, 3, 4]);
        // Nor with sets that are not there.
        let units = [0x65, 0x41, 0x01].map(picture).to_vec();
        assert_eq!(order(Vec::new(), units), [0, 1, 2]);
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_place_each(
            units in prop::collection::vec(
                prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0x67), Just(0x41), any::<u8>()], 0..60),
                0..20,
            )
        ) {
            let mut places = display_order(units.iter().map(Vec::as_slice));
            places.sort_unstable();
            prop_assert_eq!(places, (0..units.len()).collect::<Vec<_>>());
        }

        #[test]
        fn any_headers_give_a_place_each(
            kind in 0_u32..3,
            tails in prop::collection::vec((prop_oneof![Just(0x65_u8), Just(0x41), Just(0x01)], any::<[u8; 12]>()), 1..20),
        ) {
            let mut units: Vec<Vec<u8>> = tails
                .iter()
                .map(|(header, tail)| [&START_CODE[..], &[*header, 0xb8], tail].concat())
                .collect();
            let count = units.len();
            let set = sets(|bits| match kind {
                0 => { bits.ue(0).ue(12); }
                1 => { bits.ue(1).u(1, 0).ue(u32::MAX / 2).ue(u32::MAX / 2).ue(2).ue(u32::MAX / 2).ue(5); }
                _ => { bits.ue(2); }
            });
            units[0].splice(0..0, set);
            let mut places = display_order(units.iter().map(Vec::as_slice));
            places.sort_unstable();
            prop_assert_eq!(places, (0..count).collect::<Vec<_>>());
        }
    }
}
