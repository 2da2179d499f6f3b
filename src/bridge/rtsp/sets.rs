//! Parameter sets in a camera's keyframes. Some cameras send them several times, and before each slice of a picture, where H.264
//! has a new picture begin (clause 7.4.1.2.3): a unit comes in, the same one with each of its sets once goes out.

use bytes::Bytes;

use twinsight_media::h264::nal::{NalType, annex_b};

const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The unit without the sets that it has already had.
pub(super) fn without_repeated_sets(unit: Bytes) -> Bytes {
    let mut seen: Vec<&[u8]> = Vec::new();
    let mut repeats = false;
    for nal in annex_b(&unit).filter(|nal| is_set(nal)) {
        if seen.contains(&nal) {
            repeats = true;
        } else {
            seen.push(nal);
        }
    }
    if !repeats {
        return unit;
    }
    seen.clear();
    let mut cleaned = Vec::with_capacity(unit.len());
    for nal in annex_b(&unit) {
        if is_set(nal) {
            if seen.contains(&nal) {
                continue;
            }
            seen.push(nal);
        }
        cleaned.extend_from_slice(&START_CODE);
        cleaned.extend_from_slice(nal);
    }
    cleaned.into()
}

fn is_set(nal: &[u8]) -> bool {
    matches!(NalType::of(nal[0]), NalType::Sps | NalType::Pps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(nals: &[&[u8]]) -> Bytes {
        let mut unit = Vec::new();
        for nal in nals {
            unit.extend_from_slice(&START_CODE);
            unit.extend_from_slice(nal);
        }
        unit.into()
    }

    #[test]
    fn each_set_stays_once() {
        let (sps, pps, other): (&[u8], &[u8], &[u8]) = (&[0x67, 1], &[0x68, 2], &[0x68, 3]);
        let (first, second): (&[u8], &[u8]) = (&[0x65, 4], &[0x65, 4]);
        let repeated = unit(&[sps, pps, sps, pps, other, first, sps, pps, second]);
        let cleaned = without_repeated_sets(repeated);
        assert_eq!(cleaned, unit(&[sps, pps, other, first, second]));
        assert_eq!(without_repeated_sets(cleaned.clone()), cleaned);
        assert_eq!(without_repeated_sets(Bytes::new()), Bytes::new());
    }
}
