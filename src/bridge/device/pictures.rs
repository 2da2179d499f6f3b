//! Pictures of a device to access units: H.264 is passed through, everything else is encoded. Plain state; the device's thread owns
//! it.

use std::time::Instant;

use super::capture::{PictureFormat, PixelFormat, RawPicture};
use super::h264::{DeviceUnit, UnitSplitter};
use super::pixels::{from_mjpeg, from_yuyv};
use twinsight_media::h264::encode::{EncodeError, Encoder, Rate};
use twinsight_media::picture::{Color, I420, PictureSize};

/// Bits of a pixel, which is good quality for what a webcam sees: 1.4 Mbit/s for 720p at 15 frames a second.
const BITS_A_PIXEL: f64 = 0.1;

/// The least and the most bits a second.
const BITS_A_SECOND: (f64, f64) = (200_000.0, 20_000_000.0);

/// What became of a picture.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) units: Vec<DeviceUnit>,
    /// True if the picture was broken.
    pub(super) is_malformed: bool,
    /// So many units were left out since the stream has not begun with a keyframe yet.
    pub(super) awaiting_keyframe: u64,
}

/// Makes access units of the pictures of one session.
pub(super) struct Pictures {
    format: PictureFormat,
    pixels: PixelFormat,
    fps: f64,
    splitter: UnitSplitter,
    encoder: Option<(PictureSize, Encoder)>,
    planes: Vec<u8>,
    has_begun: bool,
    profile_level_id: Option<[u8; 3]>,
}

impl Pictures {
    pub(super) fn new(format: PictureFormat, pixels: PixelFormat, fps: f64) -> Self {
        Self {
            format,
            pixels,
            fps,
            splitter: UnitSplitter::default(),
            encoder: None,
            planes: Vec::new(),
            has_begun: false,
            profile_level_id: None,
        }
    }

    /// The size of the pictures as they are sent.
    pub(super) fn size(&self) -> PictureSize {
        self.encoder
            .as_ref()
            .map_or(self.format.size, |(size, _)| *size)
    }

    /// True unless the device encodes.
    pub(super) fn is_encoded_here(&self) -> bool {
        self.pixels != PixelFormat::H264
    }

    pub(super) fn profile_level_id(&self) -> Option<[u8; 3]> {
        self.profile_level_id
    }

    /// Takes a picture; a keyframe is made of it if one is wanted and it is encoded here.
    ///
    /// # Errors
    /// When the encoder fails.
    pub(super) fn take(
        &mut self,
        picture: &RawPicture<'_>,
        wants_keyframe: bool,
    ) -> Result<Made, EncodeError> {
        let mut made = Made::default();
        // Drivers also give empty buffers, for pictures that they have lost.
        if picture.is_broken || picture.data.is_empty() {
            made.is_malformed = true;
            return Ok(made);
        }
        if self.pixels == PixelFormat::H264 {
            made.units = self.splitter.push(picture.data);
            self.profile_level_id = self.splitter.profile_level_id();
        } else {
            match self.encode(picture, wants_keyframe)? {
                Some(unit) => made.units.extend(unit),
                None => made.is_malformed = true,
            }
        }
        if !self.has_begun {
            let all = made.units.len();
            let from = made.units.iter().position(|unit| unit.is_keyframe);
            made.units.drain(..from.unwrap_or(all));
            made.awaiting_keyframe = (all - made.units.len()) as u64;
            self.has_begun = !made.units.is_empty();
        }
        Ok(made)
    }

    /// Encodes a picture. None if it is broken, no unit if the encoder left it out to save bits.
    fn encode(
        &mut self,
        picture: &RawPicture<'_>,
        wants_keyframe: bool,
    ) -> Result<Option<Option<DeviceUnit>>, EncodeError> {
        let planes = &mut self.planes;
        let size = match self.pixels {
            PixelFormat::Yuyv => {
                let PictureFormat {
                    size, row_bytes, ..
                } = self.format;
                from_yuyv(picture.data, size, row_bytes, planes)
            }
            PixelFormat::Mjpeg | PixelFormat::H264 => from_mjpeg(picture.data, planes),
        };
        let Some(size) = size else {
            return Ok(None);
        };
        if self.encoder.as_ref().is_none_or(|(of, _)| *of != size) {
            let rate = Rate::BitsPerSecond(bits_a_second(size, self.fps));
            self.encoder = Some((size, Encoder::new(size, self.fps, rate)?));
        }
        let Some((_, encoder)) = &mut self.encoder else {
            return Ok(None);
        };
        let i420 = I420::from_packed(&self.planes, size, Color::default());
        let encoded = encoder.encode(&i420, wants_keyframe)?;
        if encoded.is_idr {
            self.profile_level_id = profile_of(&encoded.data);
        }
        Ok(Some((!encoded.data.is_empty()).then(|| DeviceUnit {
            is_keyframe: encoded.is_idr,
            data: encoded.data.into(),
        })))
    }
}

/// Profile, constraints and level of a keyframe's sequence parameter set.
fn profile_of(unit: &[u8]) -> Option<[u8; 3]> {
    let mut splitter = UnitSplitter::default();
    splitter.push(unit);
    splitter.profile_level_id()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the number is limited before, and a size has less bits than a float"
)]
fn bits_a_second(size: PictureSize, fps: f64) -> u32 {
    let pixels = (size.width_px * size.height_px) as f64;
    let (least, most) = BITS_A_SECOND;
    (pixels * fps * BITS_A_PIXEL).clamp(least, most) as u32
}

/// The time of a picture in ticks of 90 kHz, which wrap.
pub(super) fn ticks(begun: Instant, taken_at: Instant) -> u32 {
    let micros = taken_at.saturating_duration_since(begun).as_micros();
    u32::try_from((micros * 9 / 100) & u128::from(u32::MAX)).expect("32 bits were kept")
}
