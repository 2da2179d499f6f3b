//! The order of display: all access units of a clip come in, in the order of decoding, and the place of each picture in the
//! order of display goes out. The picture order count says it (H.264 clause 8.2.1), so that nothing has to be concluded
//! from timestamps or from how many pictures a decoder may hold back.

use std::collections::BTreeMap;

use super::bits::BitReader;
use super::nal::{NalType, annex_b, unescape};
use super::pps::Pps;
use super::slice_header::SliceHeader;
use super::sps::{ParsedSps, PicOrderCntType, SliceFormat};

/// No slice header is longer, even with all of its tables.
const MAX_HEADER_BYTES: usize = 4096;

/// Where a picture is shown: places are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct DisplayPosition {
    /// IDR pictures and memory resets so far. The count begins anew at each, and no picture is shown across one.
    period: u64,
    /// The picture order count.
    count: i64,
}

/// For each unit (Annex B) the place of its picture in the order of display, from 0 on. A unit whose header cannot be read
/// keeps its place behind the one before it.
pub fn display_order<'a>(units: impl IntoIterator<Item = &'a [u8]>) -> Vec<usize> {
    let mut counter = Counter::default();
    let mut last = DisplayPosition::default();
    let places: Vec<DisplayPosition> = units
        .into_iter()
        .map(|unit| {
            last = counter.unit(unit).unwrap_or(last);
            last
        })
        .collect();
    let mut shown: Vec<usize> = (0..places.len()).collect();
    // The sort is stable, so that units with equal places stay in the order of decoding.
    shown.sort_by_key(|&unit| places[unit]);
    let mut order = vec![0; places.len()];
    for (place, unit) in shown.into_iter().enumerate() {
        order[unit] = place;
    }
    order
}

/// Follows the count from unit to unit.
#[derive(Debug, Default)]
struct Counter {
    sequences: BTreeMap<u8, SliceFormat>,
    pictures: BTreeMap<u32, Pps>,
    period: u64,
    /// `prevPicOrderCntMsb` and `prevPicOrderCntLsb`.
    msb: i64,
    lsb: i64,
    /// `prevFrameNum` and `prevFrameNumOffset`.
    frame_num: i64,
    frame_num_offset: i64,
    /// Pictures decoded so far.
    decoded: i64,
}

impl Counter {
    /// The place of a unit's picture; none if its header cannot be read.
    fn unit(&mut self, unit: &[u8]) -> Option<DisplayPosition> {
        for nal in annex_b(unit) {
            let (&first, rest) = nal.split_first()?;
            let kind = NalType::of(first);
            match kind {
                NalType::Sps => {
                    if let Ok(parsed) = ParsedSps::read(&unescape(rest)) {
                        self.sequences.insert(parsed.sps.id, parsed.slices);
                    }
                }
                NalType::Pps => {
                    if let Ok((id, set)) = Pps::parse(rest) {
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

    fn header(&self, first: u8, payload: &[u8]) -> Option<(SliceHeader, SliceFormat)> {
        let mut bits = BitReader::new(payload);
        let (_first_mb, slice_type, set) = (bits.ue().ok()?, bits.ue().ok()? % 5, bits.ue().ok()?);
        let set = self.pictures.get(&set)?;
        let sequence = self.sequences.get(&u8::try_from(set.sps_id).ok()?)?;
        let header = SliceHeader::parse(first, slice_type, &mut bits, set, sequence).ok()?;
        Some((header, sequence.clone()))
    }

    /// Clause 8.2.1. Hostile headers lead to places that mean nothing, but do no harm, since sums saturate.
    fn count(&mut self, header: SliceHeader, sequence: &SliceFormat) -> DisplayPosition {
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
        let (top, bottom) = match &sequence.count {
            PicOrderCntType::Lsb { bits } => {
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
            PicOrderCntType::Cycle {
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
            PicOrderCntType::Decoding => (self.decoded, self.decoded),
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
            return DisplayPosition {
                period: self.period,
                count: 0,
            };
        }
        DisplayPosition {
            period: self.period,
            count,
        }
    }

    /// `expectedPicOrderCnt` of type 1 (clause 8.2.1.2).
    fn expected(&self, header: SliceHeader, for_non_reference: i64, offsets: &[i64]) -> i64 {
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
