//! The uncompressed header at the beginning of a frame (RFC 6386 section 9.1): the bytes of a frame come in, what kind of
//! frame it is and the size of a key frame go out. The depacketizer reads it.

use crate::picture::PictureSize;

/// Length of the frame tag.
const TAG_BYTES: usize = 3;
/// Follows the tag of a key frame.
const START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];
/// Width and height have 14 bits. The two bits above ask for scaling, which is up to whoever shows the picture.
const SIZE_BITS: u16 = 0x3fff;

/// The fields of a frame's header that a receiver needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameHeader {
    /// A key frame, from which decoding can begin.
    Key {
        /// The size of all pictures up to the next key frame.
        size: PictureSize,
        /// `show_frame`.
        shown: bool,
    },
    /// An interframe.
    Inter {
        /// `show_frame`.
        shown: bool,
    },
}

impl FrameHeader {
    /// Reads the header of a whole frame; none if it is cut off or not a header of VP8.
    pub(super) fn parse(frame: &[u8]) -> Option<Self> {
        let (tag, rest) = frame.split_first_chunk::<TAG_BYTES>()?;
        let shown = tag[0] & 0x10 != 0;
        if !is_key(tag[0]) {
            return Some(Self::Inter { shown });
        }
        let (start_code, rest) = rest.split_first_chunk::<3>()?;
        let (size, _) = rest.split_first_chunk::<4>()?;
        let px = |low, high| usize::from(u16::from_le_bytes([low, high]) & SIZE_BITS);
        let size = PictureSize {
            width_px: px(size[0], size[1]),
            height_px: px(size[2], size[3]),
        };
        let valid = *start_code == START_CODE && size.width_px > 0 && size.height_px > 0;
        valid.then_some(Self::Key { size, shown })
    }
}

/// True if the frame that begins with this byte is a key frame.
pub(super) fn is_key(first: u8) -> bool {
    first & 1 == 0
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The start of a key frame: version 0, shown, first partition of 16 bytes.
    pub(crate) fn key_header(width: u16, height: u16) -> Vec<u8> {
        let mut header = vec![0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a];
        header.extend(width.to_le_bytes());
        header.extend(height.to_le_bytes());
        header
    }

    #[test]
    fn a_key_frame_has_a_size_without_its_scaling() {
        let size = PictureSize {
            width_px: 1280,
            height_px: 719,
        };
        let header = FrameHeader::Key { size, shown: true };
        assert_eq!(
            FrameHeader::parse(&key_header(1280, 719 | 0x8000)),
            Some(header)
        );
    }

    #[test]
    fn an_interframe_is_shown_or_not() {
        let header = |shown| Some(FrameHeader::Inter { shown });
        assert_eq!(FrameHeader::parse(&[0x11, 0, 0]), header(true));
        assert_eq!(FrameHeader::parse(&[0x01, 0, 0, 9]), header(false));
    }

    #[test]
    fn what_is_cut_or_has_no_start_code_or_no_size_is_none() {
        let whole = key_header(64, 48);
        for length in 0..whole.len() {
            assert_eq!(FrameHeader::parse(&whole[..length]), None, "{length}");
        }
        let mut other = whole;
        other[4] = 2;
        assert_eq!(FrameHeader::parse(&other), None);
        assert_eq!(FrameHeader::parse(&key_header(0, 48)), None);
        assert_eq!(FrameHeader::parse(&key_header(64, 0xc000)), None);
    }
}
