//! NAL units: their types, the byte stream format of Annex B, emulation prevention, and the first syntax elements of a
//! slice header. Bytes come in, parts of them go out. The depacketizer, the packetizer, clips and the decoder call it.

use super::bits::BitReader;

/// The start code before every NAL unit that we write.
pub(crate) const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// `nal_unit_type` (H.264 table 7-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NalType {
    /// Slice of a picture that is not an IDR picture.
    NonIdrSlice,
    /// Data partition A, B or C (Extended profile).
    Partition,
    /// Slice of an IDR picture.
    IdrSlice,
    /// Supplemental enhancement information.
    Sei,
    /// Sequence parameter set.
    Sps,
    /// Picture parameter set.
    Pps,
    /// Access unit delimiter.
    Delimiter,
    /// Filler data.
    Filler,
    /// Any other type, 0 to 31.
    Other(u8),
}

/// The first syntax elements of a slice header (clause 7.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SliceStart {
    /// `first_mb_in_slice`, which is 0 in a picture's first slice.
    pub(crate) first_mb: u32,
    /// It is a B slice.
    pub(crate) bidirectional: bool,
    /// `pic_parameter_set_id`.
    pub(crate) pps_id: u32,
}

impl NalType {
    /// The type in a NAL unit's first byte.
    pub fn of(header: u8) -> Self {
        match header & 0x1f {
            1 => Self::NonIdrSlice,
            2..=4 => Self::Partition,
            5 => Self::IdrSlice,
            6 => Self::Sei,
            7 => Self::Sps,
            8 => Self::Pps,
            9 => Self::Delimiter,
            12 => Self::Filler,
            other => Self::Other(other),
        }
    }

    /// True for coded slice data of the primary picture.
    pub fn is_slice(self) -> bool {
        matches!(self, Self::NonIdrSlice | Self::Partition | Self::IdrSlice)
    }

    /// True for slices and parameter sets, which are all that a decoder of the base view and layer needs. The other types
    /// change no picture, or belong to extensions (14, 15, 20, 21), or are reserved or unspecified (0, 16 to 18, 22 to 31).
    /// Decoders are to ignore those (clause 7.4.1), and openh264 refuses pictures because of them.
    #[cfg_attr(
        not(feature = "openh264"),
        allow(dead_code, reason = "only the decoder openh264 needs it")
    )]
    pub(crate) fn is_for_base_decoder(self) -> bool {
        self.is_slice() || matches!(self, Self::Sps | Self::Pps)
    }
}

impl SliceStart {
    /// Reads the start of a slice NAL unit; `None` for other types and for broken headers.
    pub(crate) fn parse(nal: &[u8]) -> Option<Self> {
        let (&header, rest) = nal.split_first()?;
        if !NalType::of(header).is_slice() {
            return None;
        }
        // These are three codes of at most 63 bits each, with emulation prevention bytes in between.
        let mut payload = [0; 40];
        let mut length = 0;
        for (place, byte) in payload
            .iter_mut()
            .zip(unescaped(&rest[..rest.len().min(40)]))
        {
            *place = byte;
            length += 1;
        }
        let mut bits = BitReader::new(&payload[..length]);
        let first_mb = bits.ue().ok()?;
        let slice_type = bits.ue().ok()?;
        let pps_id = bits.ue().ok()?;
        (slice_type <= 9 && pps_id <= 255).then_some(Self {
            first_mb,
            bidirectional: slice_type % 5 == 1,
            pps_id,
        })
    }
}

/// False for a slice of a picture to which no other picture refers: `nal_ref_idc` is 0 in all of its slices.
pub(crate) fn is_referred_to(nal: &[u8]) -> bool {
    nal.first().is_none_or(|header| header & 0x60 != 0)
}

/// The NAL units of a byte stream (Annex B), without start codes and trailing zeros.
pub fn annex_b(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let units = after_start_code(stream).map(|start| split_at_start_codes(&stream[start..]));
    units.into_iter().flatten()
}

/// The NAL units in what was sent as one, without start codes and trailing zeros. It is one NAL unit, since none has a
/// start code inside, unless the sender put a byte stream where a NAL unit belongs.
pub(crate) fn split_at_start_codes(nal: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(nal);
    std::iter::from_fn(move || {
        loop {
            let current = rest?;
            let piece = match after_start_code(current) {
                Some(next) => {
                    rest = Some(&current[next..]);
                    &current[..next - 3]
                }
                None => {
                    rest = None;
                    current
                }
            };
            let end = piece
                .iter()
                .rposition(|&byte| byte != 0)
                .map_or(0, |i| i + 1);
            if end > 0 {
                return Some(&piece[..end]);
            }
        }
    })
}

/// The index behind the first start code (`00 00 01`) in `data`.
fn after_start_code(data: &[u8]) -> Option<usize> {
    let mut i = 0;
    while let Some(&third) = data.get(i + 2) {
        match third {
            1 if data[i] == 0 && data[i + 1] == 0 => return Some(i + 3),
            0 => i += 1,
            _ => i += 3,
        }
    }
    None
}

/// The payload without emulation prevention bytes (clause 7.4.1): `00 00 03` becomes `00 00`.
pub fn unescape(escaped: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(escaped.len());
    payload.extend(unescaped(escaped));
    payload
}

fn unescaped(escaped: &[u8]) -> impl Iterator<Item = u8> {
    let mut zeros = 0;
    let kept = escaped.iter().filter(move |&&byte| {
        let prevention = zeros >= 2 && byte == 3;
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        !prevention
    });
    kept.copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(stream: &[u8]) -> Vec<&[u8]> {
        annex_b(stream).collect()
    }

    #[test]
    fn start_codes_of_three_and_four_bytes() {
        let stream = [
            0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 0, 1, 0x65, 3, 0, 0,
        ];
        assert_eq!(split(&stream), [&[0x67, 1][..], &[0x68, 2], &[0x65, 3]]);
        assert!(split(&[]).is_empty());
        assert!(split(&[0, 0, 1]).is_empty());
        assert!(split(&[1, 2, 3, 4]).is_empty());
        assert_eq!(split(&[0, 0, 1, 0, 0, 1, 9]), [&[9][..]]);
    }

    #[test]
    fn what_was_sent_as_one_nal_is_split() {
        let pieces = |nal| split_at_start_codes(nal).collect::<Vec<_>>();
        assert_eq!(pieces(&[0x67, 1, 2]), [[0x67, 1, 2]]);
        assert_eq!(
            pieces(&[0x67, 1, 0, 0, 0, 1, 0x68, 2, 0, 0, 1, 0x65, 3, 0, 0]),
            [[0x67, 1], [0x68, 2], [0x65, 3]]
        );
        assert_eq!(pieces(&[0, 0, 0, 1, 0x65, 7]), [[0x65, 7]]);
        assert_eq!(pieces(&[0, 0, 0, 0, 0, 0, 1, 0x65, 7]), [[0x65, 7]]);
        assert!(pieces(&[0, 0, 0, 1]).is_empty() && pieces(&[0, 0]).is_empty());
    }

    #[test]
    fn a_base_decoder_needs_slices_and_sets_alone() {
        let needed = (0..32).filter(|&header| NalType::of(header).is_for_base_decoder());
        assert_eq!(needed.collect::<Vec<_>>(), [1, 2, 3, 4, 5, 7, 8]);
    }

    #[test]
    fn emulation_prevention_goes() {
        assert_eq!(unescape(&[1, 0, 0, 3, 1]), [1, 0, 0, 1]);
        assert_eq!(unescape(&[0, 0, 3, 0, 0, 3]), [0, 0, 0, 0]);
        assert_eq!(unescape(&[0, 3, 0, 3]), [0, 3, 0, 3]);
    }

    #[test]
    fn slice_headers() {
        // first_mb 0, slice_type 7 (I), pps 0: 1 0001000 1
        assert_eq!(
            SliceStart::parse(&[0x65, 0b1000_1000, 0b1000_0000]),
            Some(SliceStart {
                first_mb: 0,
                bidirectional: false,
                pps_id: 0
            })
        );
        // slice_type 6 (B): 1 00111 1
        let b = SliceStart::parse(&[0x01, 0b1001_1110]).unwrap();
        assert!(b.bidirectional);
        assert_eq!(SliceStart::parse(&[0x65]), None);
        assert_eq!(SliceStart::parse(&[0x67, 0xff]), None);
    }

    proptest! {
        #[test]
        fn nals_come_back(nals in prop::collection::vec(prop::collection::vec(1_u8..=255, 1..50), 0..8)) {
            let mut stream = Vec::new();
            for nal in &nals {
                stream.extend_from_slice(&START_CODE);
                stream.extend_from_slice(nal);
            }
            prop_assert_eq!(annex_b(&stream).map(<[u8]>::to_vec).collect::<Vec<_>>(), nals);
        }

        #[test]
        fn any_bytes_end_without_panic(stream in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..200)) {
            let total: usize = annex_b(&stream).map(|nal| { SliceStart::parse(nal); nal.len() }).sum();
            prop_assert!(total <= stream.len());
        }
    }
}
