//! The parameter sets of a stream, by their ids: complete NAL units come in, and the sets that a slice refers to go out.
//! The depacketizer, clips and the decoder each keep their own. Their number and bytes are bounded.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::nal::NalType;
use super::pps::PpsIds;
use super::sps::{Sps, SpsError};

/// The latest parameter set of each id.
#[derive(Debug, Clone, Default)]
pub struct ParameterSets {
    sequence: BTreeMap<u8, (Bytes, Sps)>,
    picture: BTreeMap<u8, (Bytes, PpsIds)>,
    bytes: usize,
}

/// The parameter sets that a slice needs, as NAL units and read.
#[derive(Debug, Clone)]
#[cfg_attr(
    not(feature = "openh264"),
    allow(dead_code, reason = "only the decoder openh264 needs it")
)]
pub(crate) struct SliceSets {
    pub(crate) sps: Sps,
    pub(crate) sps_nal: Bytes,
    pub(crate) pps_nal: Bytes,
}

/// The most bytes of all sets together. Those of real streams have less than 100.
const MAX_BYTES: usize = 64 * 1024;

impl ParameterSets {
    /// Keeps a complete NAL unit of type 7 or 8 in place of the one with the same id. Other types are ignored, and so are
    /// sets with which all together would have more than 64 KiB.
    ///
    /// # Errors
    /// If the set cannot be read.
    pub fn remember(&mut self, nal: &[u8]) -> Result<(), SpsError> {
        // The same sets come again with every keyframe.
        if self.nals().any(|known| known == nal) {
            return Ok(());
        }
        let kind = nal.first().map(|&header| NalType::of(header));
        let old_bytes = match kind {
            Some(NalType::Sps) => {
                let sps = Sps::parse(nal)?;
                if self.fits(self.sequence.get(&sps.id).map(|(old, _)| old), nal) {
                    let new = (Bytes::copy_from_slice(nal), sps);
                    self.sequence.insert(sps.id, new).map(|(old, _)| old.len())
                } else {
                    return Ok(());
                }
            }
            Some(NalType::Pps) => {
                let ids = PpsIds::parse(nal)?;
                if self.fits(self.picture.get(&ids.id).map(|(old, _)| old), nal) {
                    let new = (Bytes::copy_from_slice(nal), ids);
                    self.picture.insert(ids.id, new).map(|(old, _)| old.len())
                } else {
                    return Ok(());
                }
            }
            _ => return Ok(()),
        };
        self.bytes = self.bytes + nal.len() - old_bytes.unwrap_or(0);
        Ok(())
    }

    /// False if there is no room for the set.
    fn fits(&self, old: Option<&Bytes>, nal: &[u8]) -> bool {
        self.bytes + nal.len() - old.map_or(0, Bytes::len) <= MAX_BYTES
    }

    /// The NAL units of all sets, sequence parameter sets first.
    pub fn nals(&self) -> impl Iterator<Item = &[u8]> {
        let sequence = self.sequence.values().map(|(nal, _)| nal.as_ref());
        sequence.chain(self.picture.values().map(|(nal, _)| nal.as_ref()))
    }

    /// How many sets are known.
    pub fn len(&self) -> usize {
        self.sequence.len() + self.picture.len()
    }

    /// True if no set is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The parameter sets of a slice that uses this picture parameter set, if both are known.
    #[cfg_attr(
        not(feature = "openh264"),
        allow(dead_code, reason = "only the decoder openh264 needs it")
    )]
    pub(crate) fn of_slice(&self, pps_id: u32) -> Option<SliceSets> {
        let (pps_nal, ids) = self.picture.get(&u8::try_from(pps_id).ok()?)?;
        let (sps_nal, sps) = self.sequence.get(&ids.sps_id)?;
        Some(SliceSets {
            sps: *sps,
            sps_nal: sps_nal.clone(),
            pps_nal: pps_nal.clone(),
        })
    }

    /// The sequence parameter set of a slice that uses this picture parameter set.
    pub(crate) fn active(&self, pps_id: u32) -> Option<Sps> {
        let (_, ids) = self.picture.get(&u8::try_from(pps_id).ok()?)?;
        self.sequence.get(&ids.sps_id).map(|(_, sps)| *sps)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sps::tests::{baseline_sps, pps};
    use super::*;

    #[test]
    fn a_slice_finds_its_size() {
        let mut sets = ParameterSets::default();
        sets.remember(&baseline_sps(0, 640, 480)).unwrap();
        sets.remember(&baseline_sps(1, 320, 240)).unwrap();
        sets.remember(&pps(0, 0)).unwrap();
        sets.remember(&pps(5, 1)).unwrap();
        assert_eq!(sets.active(0).unwrap().size.width_px, 640);
        assert_eq!(sets.active(5).unwrap().size.width_px, 320);
        assert_eq!(sets.active(1), None);
        sets.remember(&baseline_sps(1, 160, 120)).unwrap();
        assert_eq!(sets.active(5).unwrap().size.width_px, 160);
        let kinds: Vec<u8> = sets.nals().map(|nal| nal[0] & 0x1f).collect();
        assert_eq!(kinds, [7, 7, 8, 8]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut sets = ParameterSets::default();
        for id in 0..200 {
            let mut nal = pps(id, 0);
            nal.resize(1000, 0xff);
            sets.remember(&nal).unwrap();
        }
        assert!(
            sets.bytes <= MAX_BYTES && sets.len() == 65,
            "{}",
            sets.len()
        );
        assert_eq!(sets.bytes, sets.nals().map(<[u8]>::len).sum::<usize>());
    }
}
