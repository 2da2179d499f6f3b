//! H.264 of a device that encodes: what lies in its buffers comes in, access units go out, a keyframe with its parameter sets in
//! front. Plain state; `pictures` owns it.

use bytes::Bytes;

use twinsight_media::h264::nal::{NalType, annex_b};
use twinsight_media::h264::parameter_sets::ParameterSets;

/// A unit without its end. No device has one that is larger.
const MAX_UNIT_BYTES: usize = 8 << 20;

const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// Splits buffers into access units. A buffer usually has one, but parameter sets may come in one of their own, and some devices
/// put several units into one.
#[derive(Debug, Default)]
pub(super) struct UnitSplitter {
    /// What comes before the first slice of a unit.
    prefix: Vec<u8>,
    sets: ParameterSets,
}

/// An access unit of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeviceUnit {
    pub(super) data: Bytes,
    pub(super) is_keyframe: bool,
}

impl UnitSplitter {
    /// Gives the units of a buffer. A buffer ends a unit.
    pub(super) fn push(&mut self, buffer: &[u8]) -> Vec<DeviceUnit> {
        let mut units = Vec::new();
        let mut unit: Option<DeviceUnitParts> = None;
        for nal in annex_b(buffer) {
            let kind = NalType::of(nal[0]);
            // The first slice of a picture begins at its first macroblock: the number 0 is a single bit that is set.
            let begins = kind.is_slice() && nal.get(1).is_some_and(|byte| byte & 0x80 != 0);
            let is_before = !kind.is_slice();
            if begins || is_before {
                units.extend(
                    unit.take_if(|_| begins || opens(kind))
                        .map(|unit| unit.finish(&self.sets)),
                );
            }
            if matches!(kind, NalType::Sps | NalType::Pps) {
                // One that cannot be read is passed on all the same.
                let _ = self.sets.remember(nal);
            }
            let bytes = match &mut unit {
                Some(unit) => &mut unit.data,
                None if kind.is_slice() => {
                    let new = DeviceUnitParts {
                        is_keyframe: kind == NalType::IdrSlice,
                        data: std::mem::take(&mut self.prefix),
                    };
                    &mut unit.insert(new).data
                }
                None => &mut self.prefix,
            };
            if bytes.len() + nal.len() <= MAX_UNIT_BYTES {
                bytes.extend_from_slice(&START_CODE);
                bytes.extend_from_slice(nal);
            }
        }
        units.extend(unit.map(|unit| unit.finish(&self.sets)));
        units
    }

    /// Profile, constraints and level of the newest sequence parameter set.
    pub(super) fn profile_level_id(&self) -> Option<[u8; 3]> {
        let is_sps = |nal: &&[u8]| NalType::of(nal[0]) == NalType::Sps;
        let sps = self.sets.nals().find(is_sps)?;
        sps.get(1..4)?.try_into().ok()
    }
}

/// True for what stands before the first slice of a picture (clause 7.4.1.2.3).
fn opens(kind: NalType) -> bool {
    matches!(
        kind,
        NalType::Sps | NalType::Pps | NalType::Delimiter | NalType::Sei
    )
}

struct DeviceUnitParts {
    is_keyframe: bool,
    data: Vec<u8>,
}

impl DeviceUnitParts {
    fn finish(self, sets: &ParameterSets) -> DeviceUnit {
        let has_sps = annex_b(&self.data).any(|nal| NalType::of(nal[0]) == NalType::Sps);
        let data = if self.is_keyframe && !has_sps {
            let sets = sets.nals().flat_map(|nal| [&START_CODE[..], nal]);
            let sets: Vec<&[u8]> = sets.collect();
            [sets.concat(), self.data].concat()
        } else {
            self.data
        };
        DeviceUnit {
            data: data.into(),
            is_keyframe: self.is_keyframe,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0x95, 0xa0, 0x50, 0x16, 0xe4];
    const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];
    const IDR: &[u8] = &[0x65, 0x88, 0x80, 0x11];
    const SECOND_SLICE: &[u8] = &[0x65, 0x08, 0x80, 0x22];
    const NEXT: &[u8] = &[0x41, 0x9a, 0x22, 0x33];
    const DELIMITER: &[u8] = &[0x09, 0xf0];

    fn stream(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter()
            .flat_map(|nal| [&START_CODE[..], nal])
            .collect::<Vec<_>>()
            .concat()
    }

    fn unit(nals: &[&[u8]], is_keyframe: bool) -> DeviceUnit {
        DeviceUnit {
            data: stream(nals).into(),
            is_keyframe,
        }
    }

    #[test]
    fn a_buffer_with_one_unit_is_that_unit() {
        let mut splitter = UnitSplitter::default();
        let whole: &[&[u8]] = &[DELIMITER, SPS, PPS, IDR, SECOND_SLICE];
        assert_eq!(splitter.push(&stream(whole)), [unit(whole, true)]);
        assert_eq!(splitter.push(&stream(&[NEXT])), [unit(&[NEXT], false)]);
        assert_eq!(splitter.profile_level_id(), Some([0x42, 0xc0, 0x1f]));
    }

    #[test]
    fn several_units_of_a_buffer_are_told_apart() {
        let mut splitter = UnitSplitter::default();
        let buffer = stream(&[SPS, PPS, IDR, SECOND_SLICE, NEXT, DELIMITER, NEXT]);
        let units = [
            unit(&[SPS, PPS, IDR, SECOND_SLICE], true),
            unit(&[NEXT], false),
            unit(&[DELIMITER, NEXT], false),
        ];
        assert_eq!(splitter.push(&buffer), units);
    }

    #[test]
    fn parameter_sets_of_another_buffer_are_put_in_front() {
        let mut splitter = UnitSplitter::default();
        assert_eq!(splitter.push(&stream(&[SPS, PPS])), []);
        let whole = unit(&[SPS, PPS, IDR], true);
        let expected = [whole];
        assert_eq!(splitter.push(&stream(&[IDR])), expected);
        assert_eq!(splitter.push(&stream(&[IDR])), expected, "and again");
        assert_eq!(splitter.push(b""), []);
        assert_eq!(splitter.push(b"no start code"), []);
    }
}
