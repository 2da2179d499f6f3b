//! The video codecs that can be decoded.

label_enum! {
    /// A video codec. Which of them a build decodes is up to its features.
    pub enum Codec {
        /// H.264, whose RTP payload format is RFC 6184.
        H264 = "h264",
        /// VP8, whose RTP payload format is RFC 7741.
        Vp8 = "vp8",
    }
}

impl Codec {
    /// The name as people write it: `H.264`, `VP8`.
    pub fn title(self) -> &'static str {
        match self {
            Self::H264 => "H.264",
            Self::Vp8 => "VP8",
        }
    }

    /// The codecs that this build decodes, the preferred one first. H.264 is always among them: a build without the feature
    /// `openh264` only makes pictures with [`DecoderKind::Fake`](crate::decode::decoder::DecoderKind::Fake).
    pub fn built_in() -> &'static [Self] {
        if cfg!(feature = "vp8") {
            &[Self::H264, Self::Vp8]
        } else {
            &[Self::H264]
        }
    }
}
