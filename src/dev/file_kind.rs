//! What kind of file `twinsight detect` or `replay` was given: the bytes of a file come in, a [`FileKind`] goes out.

use image::ImageFormat;

use twinsight_media::h264::clip::Clip;
use twinsight_media::h264::mp4::is_mp4;
use twinsight_media::h264::nal::{NalType, annex_b};
use twinsight_media::h264::sps::Sps;

/// The kind of a file, which its bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Picture(ImageFormat),
    Clip,
    /// Video in a container that is not read, with the name of that.
    OtherContainer(&'static str),
    Unknown,
}

impl FileKind {
    pub(super) fn of(bytes: &[u8]) -> Self {
        const TS_PACKET: usize = 188;
        let is_sync = |at: usize| bytes.get(at) == Some(&0x47);
        // Any number of zero bytes may come before the first start code.
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        if let Some(format) = picture_format(bytes) {
            Self::Picture(format)
        } else if is_mp4(bytes) {
            Self::Clip
        } else if bytes.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]) {
            Self::OtherContainer("a Matroska or WebM file")
        } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"AVI ") {
            Self::OtherContainer("an AVI file")
        } else if bytes.starts_with(b"FLV\x01") {
            Self::OtherContainer("an FLV file")
        } else if (0..3).all(|packet| is_sync(packet * TS_PACKET)) {
            Self::OtherContainer("an MPEG transport stream")
        } else if bytes.starts_with(&[0, 0, 1, 0xba]) {
            Self::OtherContainer("an MPEG program stream")
        } else if zeros >= 2 && bytes.get(zeros) == Some(&1) || has_h264(bytes) {
            Self::Clip
        } else {
            Self::Unknown
        }
    }
}

fn picture_format(bytes: &[u8]) -> Option<ImageFormat> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some(ImageFormat::Png)
    } else if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        Some(ImageFormat::Jpeg)
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Some(ImageFormat::WebP)
    } else if is_bmp(bytes) {
        Some(ImageFormat::Bmp)
    } else {
        None
    }
}

/// Two letters would be any text that begins with them, so the size of the second header has to be one that there is.
fn is_bmp(bytes: &[u8]) -> bool {
    let size = bytes.get(14..18).and_then(|size| size.try_into().ok());
    let size = size.map(u32::from_le_bytes);
    bytes.starts_with(b"BM") && matches!(size, Some(12 | 16 | 40 | 52 | 56 | 64 | 108 | 124))
}

/// True for a byte stream that does not begin with a start code, as if a recording was joined in the middle.
fn has_h264(bytes: &[u8]) -> bool {
    let is_sps = |nal: &[u8]| {
        nal.first().map(|header| NalType::of(*header)) == Some(NalType::Sps)
            && Sps::parse(nal).is_ok()
    };
    annex_b(bytes).any(is_sps) && Clip::from_annex_b(bytes).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_tell_pictures_from_what_begins_like_them() {
        let bmp = [b"BM", &[0; 12][..], &40_u32.to_le_bytes(), &[0; 36]].concat();
        assert_eq!(FileKind::of(&bmp), FileKind::Picture(ImageFormat::Bmp));
        assert_eq!(
            FileKind::of(b"BMW and other makers of cars, with their models"),
            FileKind::Unknown
        );
        assert_eq!(
            FileKind::of(b"RIFF\x10\0\0\0WEBPVP8 "),
            FileKind::Picture(ImageFormat::WebP)
        );
        assert_eq!(
            FileKind::of(b"RIFF\x10\0\0\0AVI LIST"),
            FileKind::OtherContainer("an AVI file")
        );
        assert_eq!(FileKind::of(b"RIFF\x10\0\0\0WAVEfmt "), FileKind::Unknown);
    }
}
