//! Sequence parameter sets as openh264 is to see them: the sender's comes in, one of the same pictures that the decoder
//! takes goes out. The decoder's edge calls it for each new set.

use std::ops::Range;

use super::bits::{BitReader, BitWriter};
use super::nal::unescape;
use super::sps::{Crop, ParsedSps};

/// A sequence parameter set as openh264 is to see it, or none if the set cannot be read. The pictures stay the same:
/// - `profile_idc` is 66, because the decoder delays the pictures of other profiles. It is 100 where Baseline has no syntax
///   for what the set says (grey, scaling lists).
/// - A level that the decoder does not know becomes 5.2, its highest.
/// - There is no VUI, which the decoder does not need, and which it refuses if it is broken.
/// - Cropping is halved for grey pictures, because the decoder counts it in pairs of samples there, too. An odd sample stays.
pub(crate) fn sps_for_decoder(nal: &[u8]) -> Option<Vec<u8>> {
    let (&header, escaped) = nal.split_first()?;
    let payload = unescape(escaped);
    let parsed = ParsedSps::read(&payload).ok()?;
    let sps = parsed.sps;
    let profile = match sps.unsupported() {
        _ if sps.fits_baseline => 66,
        None => 100,
        // The decoder's edge refuses it and says why.
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
        copy(parsed.high)?;
    }
    copy(parsed.body)?;
    let Crop {
        left,
        right,
        top,
        bottom,
    } = parsed.crop;
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

#[cfg(test)]
mod tests {
    use super::super::sps::Sps;
    use super::super::sps::tests::{HIGH, sps_of};
    use super::*;

    #[test]
    fn the_decoder_sees_baseline_with_all_else_as_it_was() {
        for (profile, high) in [(66, None), (77, None), (88, None), (100, HIGH), (110, HIGH)] {
            let nal = sps_of(profile, 31, high, &[0]);
            let sps = Sps::parse(&nal).unwrap();
            assert_eq!(u32::from(sps.profile_idc), profile);
            assert!(sps.fits_baseline && sps.unsupported().is_none());
            let told = sps_for_decoder(&nal).unwrap();
            let expected = Sps {
                profile_idc: 66,
                ..sps
            };
            assert_eq!(Sps::parse(&told), Ok(expected));
            assert_eq!(sps_for_decoder(&told), Some(told));
        }
    }

    #[test]
    fn grey_and_scaling_lists_stay_high() {
        let grey = sps_of(100, 31, Some((0, 8, 0)), &[0]);
        let sps = Sps::parse(&grey).unwrap();
        assert!(sps.is_grey() && !sps.fits_baseline && sps.unsupported().is_none());
        assert_eq!(sps_for_decoder(&grey), Some(grey));
        // Eight flags of scaling lists that fall back.
        let mut lists = BitWriter::default();
        lists.u(8, 100).u(8, 0).u(8, 62).ue(0).ue(1).ue(0).ue(0);
        lists.u(2, 1).u(8, 0);
        lists.ue(0).ue(2).ue(1).u(1, 0).ue(39).ue(29).u(4, 0b1100);
        let sps = Sps::parse(&lists.nal(0x67)).unwrap();
        assert!(!sps.fits_baseline && sps.unsupported().is_none());
        let told = sps_for_decoder(&lists.nal(0x67)).unwrap();
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
        let told = Sps::parse(&sps_for_decoder(&grey).unwrap()).unwrap().size;
        assert_eq!((told.width_px, told.height_px), (638, 476));
    }

    #[test]
    fn levels_that_the_decoder_does_not_know_and_broken_vuis_are_not_told() {
        let plain = sps_of(66, 52, None, &[0]);
        for level in [0, 14, 60, 62, 255] {
            assert_eq!(
                sps_for_decoder(&sps_of(66, level, None, &[0])),
                Some(plain.clone())
            );
        }
        // The flag of a VUI and nothing behind it; one that ends in its timing; no flag at all.
        let mut timing = vec![1, 0, 0, 0, 0, 1];
        timing.extend([0; 40]);
        for rest in [&[1][..], &timing, &[]] {
            let broken = sps_of(66, 52, None, rest);
            assert!(Sps::parse(&broken).is_ok());
            assert_eq!(sps_for_decoder(&broken), Some(plain.clone()));
        }
    }
}
