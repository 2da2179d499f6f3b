//! What kind of file `twinsight detect` was given: the bytes of a file come in, a [`FileKind`] goes out.

use twinsight_media::h264::clip::Clip;
use twinsight_media::h264::mp4::is_mp4;
use twinsight_media::h264::nal::{NalType, annex_b};
use twinsight_media::h264::sps::Sps;

/// The kind of a file, which its bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Picture,
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
        if bytes.starts_with(b"\x89PNG\r\n\x1a\n") || bytes.starts_with(&[0xff, 0xd8, 0xff]) {
            Self::Picture
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

/// True for a byte stream that does not begin with a start code, as if a recording was joined in the middle.
fn has_h264(bytes: &[u8]) -> bool {
    let is_sps = |nal: &[u8]| {
        nal.first().map(|header| NalType::of(*header)) == Some(NalType::Sps)
            && Sps::parse(nal).is_ok()
    };
    annex_b(bytes).any(is_sps) && Clip::from_annex_b(bytes).is_some()
}
