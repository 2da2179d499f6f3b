//! The codecs of video that are decoded.

label_enum! {
    /// A video codec. Which of them a build decodes is up to its features.
    pub enum Codec {
        /// RFC 6184.
        H264 = "h264",
        /// RFC 7741.
        Vp8 = "vp8",
    }
}

impl Codec {
    /// As people write it.
    pub fn title(self) -> &'static str {
        match self {
            Self::H264 => "H.264",
            Self::Vp8 => "VP8",
        }
    }

    /// What this build decodes, the preferred first. H.264 always counts: a build without the
    /// feature `openh264` is given a decoder by its user, or decodes nothing.
    pub fn built_in() -> &'static [Self] {
        if cfg!(feature = "vp8") {
            &[Self::H264, Self::Vp8]
        } else {
            &[Self::H264]
        }
    }
}
