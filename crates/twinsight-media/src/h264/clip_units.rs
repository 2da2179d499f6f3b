//! The access units of a clip: NAL units come in from a byte stream or an MP4 file, access units with which decoding can
//! begin at each keyframe go out. [`Clip`](super::clip::Clip) runs it once for a file.

use std::rc::Rc;

use bytes::Bytes;

use super::mp4::PictureTime;
use super::nal::{NalType, START_CODE, SliceStart};
use super::parameter_sets::ParameterSets;
use super::pps::PpsIds;

/// The most bytes of units, with the parameter sets that are put before them. Only a hostile file gets there.
const MAX_UNITS_BYTES: usize = 512 * 1024 * 1024;

/// `nal_unit_type` 14: a prefix belongs to the slice behind it.
const PREFIX: NalType = NalType::Other(14);

/// An access unit of a clip.
#[derive(Debug, Clone)]
pub struct ClipUnit {
    /// Its NAL units as a byte stream (Annex B).
    pub data: Bytes,
    /// True for an IDR picture, with which decoding can begin.
    pub is_idr: bool,
    /// When its picture is shown; none where the file does not say, as byte streams never do.
    pub time: Option<PictureTime>,
}

fn kind(nal: &[u8]) -> Option<NalType> {
    nal.first().map(|header| NalType::of(*header))
}

/// Collects units from the first keyframe on, and the parameter sets that stood before.
#[derive(Debug, Default)]
pub(super) struct Units<'a> {
    units: Vec<ClipUnit>,
    bytes: usize,
    sets: ParameterSets,
    /// The sets outside of units that were taken last.
    outside: Option<Rc<[&'a [u8]]>>,
    /// Something is missing, so that units are left out up to the next keyframe.
    closed: bool,
    too_large: bool,
}

impl<'a> Units<'a> {
    /// Takes the parameter sets that stand outside of the next unit. Units that share them take them once, since sets in
    /// one of those units hold for the units behind it.
    pub(super) fn begin(&mut self, sets: &Rc<[&'a [u8]]>) {
        let same = |last| Rc::ptr_eq(last, sets);
        if self.too_large || self.outside.as_ref().is_some_and(same) {
            return;
        }
        self.outside = Some(Rc::clone(sets));
        // A hostile file may change between two sets with each unit, so reading them is counted, too.
        self.count(sets.iter().map(|set| set.len()).sum());
        for set in sets.iter() {
            let _ = self.sets.remember(set);
        }
    }

    /// Counts what is written or read beside the file itself.
    fn count(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.too_large |= self.bytes > MAX_UNITS_BYTES;
    }

    /// Something is missing here: what comes next is left out as far as the next keyframe.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Takes the NAL units of one access unit.
    pub(super) fn push_sample(&mut self, nals: &[&[u8]], time: Option<PictureTime>) {
        let mut unit = UnitBuilder {
            time,
            ..UnitBuilder::default()
        };
        nals.iter().for_each(|nal| unit.push(nal));
        self.push(unit);
    }

    /// Takes the NAL units of a byte stream, and finds where its access units end.
    pub(super) fn push_stream<'b>(&mut self, nals: impl Iterator<Item = &'b [u8]>) {
        let mut unit = UnitBuilder::default();
        let mut prefixes = Vec::new();
        for nal in nals {
            if kind(nal) == Some(PREFIX) {
                prefixes.push(nal);
                continue;
            }
            if unit.is_complete_before(nal) {
                self.push(std::mem::take(&mut unit));
            }
            prefixes.drain(..).for_each(|prefix| unit.push(prefix));
            unit.push(nal);
        }
        self.push(unit);
    }

    /// More was written than is held in memory, and the rest was left out.
    pub(super) fn is_too_large(&self) -> bool {
        self.too_large
    }

    /// The units from the first keyframe on.
    pub(super) fn finish(self) -> Vec<ClipUnit> {
        self.units
    }

    fn push(&mut self, unit: UnitBuilder<'_>) {
        // Else all sets would be written before each further keyframe.
        if self.too_large {
            return;
        }
        // The sets of a unit that is left out hold from there on, too.
        let Some(unit) = unit.finish(&mut self.sets) else {
            return;
        };
        self.closed &= !unit.is_idr;
        if self.closed || (self.units.is_empty() && !unit.is_idr) {
            return;
        }
        self.count(unit.data.len());
        if !self.too_large {
            self.units.push(unit);
        }
    }
}

/// Collects the NAL units of one access unit. H.264 clause 7.4.1.2.3 says where it ends; redundant pictures are not known
/// here.
#[derive(Debug, Default)]
struct UnitBuilder<'a> {
    nals: Vec<&'a [u8]>,
    has_slice: bool,
    is_idr: bool,
    time: Option<PictureTime>,
}

impl<'a> UnitBuilder<'a> {
    fn is_complete_before(&self, nal: &[u8]) -> bool {
        let begins_a_unit = match kind(nal) {
            Some(NalType::Delimiter | NalType::Sps | NalType::Pps | NalType::Sei) => true,
            Some(kind) if kind.is_slice() => {
                SliceStart::parse(nal).is_some_and(|slice| slice.first_mb == 0)
            }
            _ => false,
        };
        self.has_slice && begins_a_unit
    }

    fn push(&mut self, nal: &'a [u8]) {
        self.has_slice |= kind(nal).is_some_and(NalType::is_slice);
        self.is_idr |= kind(nal) == Some(NalType::IdrSlice);
        self.nals.push(nal);
    }

    /// The unit, if it has a picture. All sets that are known by then, its own among them, are put before a keyframe.
    fn finish(self, sets: &mut ParameterSets) -> Option<ClipUnit> {
        let mut others = self.nals.clone();
        others.retain(|nal| {
            let is_set = matches!(kind(nal), Some(NalType::Sps | NalType::Pps));
            // A set that cannot be read stays where it is, since the decoder may know more.
            !is_set || sets.remember(nal).is_err()
        });
        if !self.has_slice {
            return None;
        }
        let mut data = Vec::with_capacity(self.nals.iter().map(|nal| nal.len() + 4).sum());
        let mut write = |nal: &[u8]| {
            data.extend_from_slice(&START_CODE);
            data.extend_from_slice(nal);
        };
        if self.is_idr {
            let mut others = others.into_iter().peekable();
            // An access unit delimiter stays the first NAL unit.
            if let Some(first) = others.next_if(|nal| kind(nal) == Some(NalType::Delimiter)) {
                write(first);
            }
            sets.nals()
                .filter(|set| is_usable(set, sets))
                .for_each(&mut write);
            others.for_each(write);
        } else {
            self.nals.into_iter().for_each(write);
        }
        Some(ClipUnit {
            data: data.into(),
            is_idr: self.is_idr,
            time: self.time,
        })
    }
}

/// False for a picture parameter set whose sequence parameter set never came, which decoders refuse.
fn is_usable(set: &[u8], sets: &ParameterSets) -> bool {
    kind(set) != Some(NalType::Pps)
        || PpsIds::parse(set).is_ok_and(|ids| sets.active(u32::from(ids.id)).is_some())
}

#[cfg(test)]
mod tests {
    use super::super::sps::tests::{baseline_sps, pps};
    use super::*;

    #[test]
    fn behind_what_is_too_large_nothing_is_written_nor_read() {
        let (sps, pps) = (baseline_sps(0, 64, 48), pps(0, 0));
        let idr: &[u8] = &[0x65, 0x88, 0x80, 0x10];
        let outside: Rc<[&[u8]]> = [&sps[..]].into();
        let mut units = Units {
            bytes: MAX_UNITS_BYTES - 8,
            ..Units::default()
        };
        units.push_sample(&[&sps, &pps, idr], None);
        assert!(units.too_large && units.units.is_empty());
        units.sets = ParameterSets::default();
        units.begin(&outside);
        units.push_sample(&[&pps, idr], None);
        assert!(units.sets.is_empty() && units.units.is_empty());
    }
}
