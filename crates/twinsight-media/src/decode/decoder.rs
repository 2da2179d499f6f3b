//! The decoder as the stream sees it: a complete access unit goes in with a tag, pictures come out with the tag of their
//! unit. There are openh264, libvpx, and a fake that gives pictures without decoding, for tests of all that is around it.

use std::time::Duration;

use thiserror::Error;

#[cfg(feature = "vp8")]
use super::libvpx::Libvpx;
#[cfg(feature = "openh264")]
use super::openh264::OpenH264;
use crate::clock::Clock;
use crate::codec::Codec;
use crate::picture::{PictureSize, PlaneBuffer, PlanePool, Unsupported};

/// Which decoders to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecoderKind {
    /// The software decoder of the stream's codec, where this build has it: openh264 for H.264, libvpx for VP8.
    Software,
    /// Grey pictures of this size, one for each unit.
    Fake(PictureSize),
}

/// A picture that came out of a decoder.
#[derive(Debug)]
pub struct Picture {
    /// The tag of its access unit.
    pub tag: u64,
    /// Y, U and V without padding.
    pub planes: PlaneBuffer,
    /// Size after cropping.
    pub size: PictureSize,
    /// Processor time that the copy out of the decoder's memory took.
    pub copy_cpu: Duration,
}

/// A decoder of one stream.
#[derive(Debug)]
pub enum Decoder {
    /// Cisco's software decoder.
    #[cfg(feature = "openh264")]
    OpenH264(OpenH264),
    /// The WebM project's software decoder.
    #[cfg(feature = "vp8")]
    Libvpx(Libvpx),
    /// It gives pictures without decoding.
    Fake(FakeDecoder),
}

/// Gives a picture of a fixed size for each unit.
#[derive(Debug)]
pub struct FakeDecoder {
    size: PictureSize,
}

/// Why a unit gave no picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecoderError {
    /// The decoder could not be made.
    #[error("the decoder of {codec} cannot be made (code {code}): is memory exhausted?")]
    Create {
        /// What it was to decode.
        codec: Codec,
        /// The library's reason.
        code: i64,
    },
    /// This build was made without the decoder's feature. Such a codec is not negotiated.
    #[error("this build has no decoder of {0}")]
    NotBuilt(Codec),
    /// The stream is whole, but of a kind that the decoder does not know.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The decoder says that the stream is broken.
    #[error("the decoder refused an access unit (state {0:#x}): the stream is broken")]
    Refused(i32),
    /// The picture has more macroblocks than 4096 × 2304, which is the most at level 5.2 of H.264.
    #[error("pictures of {0:?} are larger than 4096 × 2304: lower the camera's resolution")]
    TooLarge(PictureSize),
    /// There was no error and no picture.
    #[error("the decoder gave no picture for a complete access unit")]
    NoPicture,
    /// The decoder gave a picture whose planes make no sense.
    #[error("the decoder gave a picture without valid planes")]
    Planes,
}

impl Decoder {
    /// A decoder that has seen no unit.
    ///
    /// # Errors
    /// If it cannot be made, or this build has none for the codec.
    pub fn new(kind: DecoderKind, codec: Codec) -> Result<Self, DecoderError> {
        match (kind, codec) {
            (DecoderKind::Fake(size), _) => Ok(Self::Fake(FakeDecoder { size })),
            #[cfg(feature = "openh264")]
            (DecoderKind::Software, Codec::H264) => Ok(Self::OpenH264(OpenH264::new()?)),
            #[cfg(feature = "vp8")]
            (DecoderKind::Software, Codec::Vp8) => Ok(Self::Libvpx(Libvpx::new()?)),
            #[cfg(not(all(feature = "openh264", feature = "vp8")))]
            (DecoderKind::Software, codec) => Err(DecoderError::NotBuilt(codec)),
        }
    }

    /// Decodes a complete access unit, and appends the pictures that come out.
    ///
    /// # Errors
    /// If the decoder refuses the unit. Pictures of earlier units may have been appended all the same.
    pub fn decode(
        &mut self,
        unit: &[u8],
        tag: u64,
        pool: &PlanePool,
        clock: &dyn Clock,
        pictures: &mut Vec<Picture>,
    ) -> Result<(), DecoderError> {
        match self {
            #[cfg(feature = "openh264")]
            Self::OpenH264(decoder) => decoder.decode(unit, tag, pool, clock, pictures),
            #[cfg(feature = "vp8")]
            Self::Libvpx(decoder) => decoder.decode(unit, tag, pool, clock, pictures),
            Self::Fake(_) if unit.is_empty() => Err(DecoderError::NoPicture),
            Self::Fake(fake) => {
                // It takes no time.
                let _ = clock;
                let mut planes = pool.acquire(fake.size.i420_bytes());
                planes.bytes_mut().fill(128);
                pictures.push(Picture {
                    tag,
                    planes,
                    size: fake.size,
                    copy_cpu: Duration::ZERO,
                });
                Ok(())
            }
        }
    }

    /// Appends the pictures that the decoder still holds. Afterwards it must not be used any more.
    ///
    /// # Errors
    /// If the decoder fails to give them.
    pub fn drain(
        &mut self,
        pool: &PlanePool,
        clock: &dyn Clock,
        pictures: &mut Vec<Picture>,
    ) -> Result<(), DecoderError> {
        match self {
            #[cfg(feature = "openh264")]
            Self::OpenH264(decoder) => decoder.drain(pool, clock, pictures),
            // Its pictures have all come out with their units.
            #[cfg(feature = "vp8")]
            Self::Libvpx(_) => Ok(()),
            Self::Fake(_) => {
                let _ = (pool, clock, pictures);
                Ok(())
            }
        }
    }
}
