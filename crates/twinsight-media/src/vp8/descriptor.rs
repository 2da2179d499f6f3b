//! The descriptor at the beginning of each RTP payload of VP8 (RFC 7741 section 4.2). The depacketizer splits it off.

/// X: the octet of extensions follows.
const EXTENDED: u8 = 0x80;
/// S: the payload begins with the beginning of a partition.
const STARTS_PARTITION: u8 = 0x10;
/// N: no other frame refers to this one.
const NON_REFERENCE: u8 = 0x20;
/// PID: the partition's index.
const PARTITION: u8 = 0x07;
/// I: a picture id follows. It has 15 bits if its own first bit is set, and else 7.
const PICTURE_ID: u8 = 0x80;
const LONG_PICTURE_ID: u8 = 0x80;
/// L: TL0PICIDX follows.
const TL0_PICTURE_INDEX: u8 = 0x40;
/// T and K: an octet with TID, Y and KEYIDX follows if one of them is set.
const LAYER_OR_KEY_INDEX: u8 = 0x20 | 0x10;

/// The fields of a descriptor that matter here. Picture ids and layers do not, since sequence numbers tell each loss and
/// all layers are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// A frame begins with this payload: S is set and the partition is 0.
    pub(super) starts_frame: bool,
    /// N is set: the sender says that no other frame refers to this one.
    pub(super) non_reference: bool,
}

impl Descriptor {
    /// Splits a payload into its descriptor and a piece of a frame; none if the payload ends before that. Reserved bits are
    /// ignored.
    pub(super) fn split(payload: &[u8]) -> Option<(Self, &[u8])> {
        let (&first, mut rest) = payload.split_first()?;
        if first & EXTENDED != 0 {
            let (&extensions, behind) = rest.split_first()?;
            rest = behind;
            if extensions & PICTURE_ID != 0 {
                let long = rest.first()? & LONG_PICTURE_ID != 0;
                rest = rest.get(1 + usize::from(long)..)?;
            }
            let others = [TL0_PICTURE_INDEX, LAYER_OR_KEY_INDEX];
            let octets = others.iter().filter(|&bits| extensions & bits != 0);
            rest = rest.get(octets.count()..)?;
        }
        let starts_frame = first & STARTS_PARTITION != 0 && first & PARTITION == 0;
        let descriptor = Self {
            starts_frame,
            non_reference: first & NON_REFERENCE != 0,
        };
        (!rest.is_empty()).then_some((descriptor, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(payload: &[u8]) -> Option<(bool, &[u8])> {
        Descriptor::split(payload).map(|(descriptor, rest)| (descriptor.starts_frame, rest))
    }

    #[test]
    fn extensions_are_skipped() {
        let payloads: [&[u8]; 9] = [
            &[0x10, 7, 8],
            &[0x90, 0x00, 7, 8],
            &[0x90, 0x80, 0x11, 7, 8],
            &[0x90, 0x80, 0x91, 0x22, 7, 8],
            &[0x90, 0x40, 0x05, 7, 8],
            &[0x90, 0x20, 0x60, 7, 8],
            &[0x90, 0x10, 0x03, 7, 8],
            &[0x90, 0xf0, 0x91, 0x22, 0x05, 0x63, 7, 8],
            &[0xf8, 0xff, 0x91, 0x22, 0x05, 0x63, 7, 8], // with N and the reserved bits
        ];
        for payload in payloads {
            assert_eq!(split(payload), Some((true, &[7, 8][..])), "{payload:02x?}");
        }
    }

    #[test]
    fn only_the_start_of_partition_0_starts_a_frame() {
        for first in [0x00, 0x11, 0x01, 0x17, 0x20] {
            assert_eq!(split(&[first, 7]), Some((false, &[7][..])), "{first:#04x}");
        }
    }

    #[test]
    fn a_sender_says_which_frames_no_other_needs() {
        for (first, says) in [(0x30, true), (0x10, false)] {
            let (descriptor, _) = Descriptor::split(&[first, 7]).unwrap();
            assert_eq!(descriptor.non_reference, says);
        }
    }

    #[test]
    fn a_payload_without_a_piece_of_a_frame_is_none() {
        let whole = [0x90, 0xf0, 0x91, 0x22, 0x05, 0x63];
        for length in 0..=whole.len() {
            assert_eq!(split(&whole[..length]), None, "{length}");
        }
    }
}
