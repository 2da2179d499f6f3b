//! Sends an app's pictures over a track: pictures come in and are encoded once, and H.264 goes out to all viewers. The app's own
//! thread runs it.

#[cfg(feature = "image")]
use image::RgbImage;

use super::local_track::LocalTrack;
use crate::realtime::rtp_track::TrackKind;
#[cfg(feature = "image")]
use twinsight_media::color::rgb_to_i420;
use twinsight_media::h264::encode::{EncodeError, Encoder, MAX_SIDES, MIN_SIDE, Rate};
use twinsight_media::picture::{Frame, I420, PictureSize};

/// The size, rate and quality with which pictures are encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct EncoderOptions {
    /// Pixels from left to right: even, 16 to 3840.
    pub width_px: usize,
    /// Pixels from top to bottom: even, 16 to 2160 (or 3840, if the width is 2160 at most).
    pub height_px: usize,
    /// How many pictures a second the encoder's rate control expects.
    pub fps: f64,
    /// Bits a second in the long run. The encoder skips pictures if they do not suffice.
    pub bits_per_second: u32,
}

/// Why pictures are not sent.
#[derive(Debug, thiserror::Error)]
pub enum VideoEncoderError {
    /// The size cannot be encoded.
    #[error(
        "{width_px}x{height_px} pixels at {fps} a second cannot be encoded: sides are even, 16x16 to 3840x2160, and the rate is above 0"
    )]
    Options {
        /// The width that was given.
        width_px: usize,
        /// The height that was given.
        height_px: usize,
        /// The rate that was given.
        fps: f64,
    },
    /// A picture of another size than the encoder's.
    #[error("a picture of {got_px:?} pixels does not fit an encoder of {want_px:?}: resize it")]
    Size {
        /// The picture's width and height.
        got_px: (usize, usize),
        /// The encoder's.
        want_px: (usize, usize),
    },
    /// A plane is shorter than its rows, each of `stride` bytes.
    #[error("a plane is shorter than its rows: each has `stride` bytes, and all of them are there")]
    Planes,
    /// A track of audio.
    #[error("a track of audio carries no pictures")]
    NotVideo,
    /// The encoder failed.
    #[error("the H.264 encoder failed: {0}")]
    Encoder(#[from] EncodeError),
}

/// Encodes pictures as H.264 into a [`LocalTrack`], with keyframes when viewers need them. Encoding takes some
/// milliseconds a picture: call it on a thread of its own, not on the runtime's.
///
/// ```no_run
/// # use twinsight_client::media::{EncoderOptions, LocalTrack, VideoEncoder};
/// # fn example(next_picture: impl Fn() -> image::RgbImage) -> Result<(), Box<dyn std::error::Error>> {
/// let track = LocalTrack::video("screen");
/// let options = EncoderOptions::new(1280, 720).with_fps(15.0).with_bits_per_second(2_000_000);
/// let mut encoder = VideoEncoder::new(track.clone(), options)?;
/// encoder.send_rgb(&next_picture())?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct VideoEncoder {
    track: LocalTrack,
    encoder: Encoder,
    size: PictureSize,
    /// The buffer into which RGB pictures are converted.
    #[cfg(feature = "image")]
    planes: Vec<u8>,
}

impl VideoEncoder {
    /// An encoder whose first picture is a keyframe.
    ///
    /// # Errors
    /// When the track is of audio, or the options cannot be encoded.
    pub fn new(track: LocalTrack, options: EncoderOptions) -> Result<Self, VideoEncoderError> {
        if track.kind() != TrackKind::Video {
            return Err(VideoEncoderError::NotVideo);
        }
        let EncoderOptions {
            width_px,
            height_px,
            fps,
            bits_per_second,
        } = options;
        let (long, short) = (width_px.max(height_px), width_px.min(height_px));
        let fits = long <= MAX_SIDES.0 && short <= MAX_SIDES.1 && short >= MIN_SIDE;
        let is_even = width_px.is_multiple_of(2) && height_px.is_multiple_of(2);
        if !(fits && is_even && fps > 0.0 && fps.is_finite()) {
            return Err(VideoEncoderError::Options {
                width_px,
                height_px,
                fps,
            });
        }
        let size = PictureSize {
            width_px,
            height_px,
        };
        Ok(Self {
            track,
            encoder: Encoder::new(size, fps, Rate::BitsPerSecond(bits_per_second))?,
            size,
            #[cfg(feature = "image")]
            planes: vec![0; size.i420_bytes()],
        })
    }

    /// Encodes and sends a picture of RGB bytes. It does nothing without a viewer.
    ///
    /// # Errors
    /// When it has another size, or the encoder fails.
    #[cfg(feature = "image")]
    pub fn send_rgb(&mut self, picture: &RgbImage) -> Result<(), VideoEncoderError> {
        let got = PictureSize {
            width_px: picture.width() as usize,
            height_px: picture.height() as usize,
        };
        self.fitting(got)?;
        if self.track.viewers() == 0 {
            return Ok(());
        }
        let mut planes = std::mem::take(&mut self.planes);
        rgb_to_i420(picture.as_raw(), self.size.width_px, self.size, &mut planes);
        let sent = self.encode(&I420::from_packed(
            &planes,
            self.size,
            twinsight_media::picture::Color::default(),
        ));
        self.planes = planes;
        sent
    }

    /// Encodes and sends the planes of a picture: `y` is height × width, `u` and `v` half of that each way, BT.601
    /// limited range. It does nothing without a viewer.
    ///
    /// # Errors
    /// When it has another size, or the encoder fails.
    pub fn send_planes(&mut self, picture: &I420<'_>) -> Result<(), VideoEncoderError> {
        self.fitting(picture.size)?;
        let size = picture.size;
        let chroma = (size.chroma_width_px(), size.chroma_height_px());
        let luma = (size.width_px, size.height_px);
        let whole = [(picture.y, luma), (picture.u, chroma), (picture.v, chroma)]
            .iter()
            .all(|(plane, (width, height))| {
                plane.stride >= *width && plane.data.len() >= plane.stride * height
            });
        if !whole {
            return Err(VideoEncoderError::Planes);
        }
        if self.track.viewers() == 0 {
            return Ok(());
        }
        self.encode(picture)
    }

    /// Encodes and sends a frame that came from somebody else. See [`send_planes`](Self::send_planes).
    ///
    /// # Errors
    /// When it has another size, or the encoder fails.
    pub fn send_frame(&mut self, frame: &Frame) -> Result<(), VideoEncoderError> {
        self.send_planes(&frame.planes())
    }

    fn fitting(&self, got: PictureSize) -> Result<(), VideoEncoderError> {
        let sides = |size: PictureSize| (size.width_px, size.height_px);
        if got == self.size {
            return Ok(());
        }
        Err(VideoEncoderError::Size {
            got_px: sides(got),
            want_px: sides(self.size),
        })
    }

    fn encode(&mut self, picture: &I420<'_>) -> Result<(), VideoEncoderError> {
        let idr = self.track.take_keyframe_request();
        let encoded = self.encoder.encode(picture, idr)?;
        self.track.send_unit(encoded.data);
        Ok(())
    }
}

impl EncoderOptions {
    /// Pictures of a size in pixels, 15 a second, with 1 Mb/s.
    pub fn new(width_px: usize, height_px: usize) -> Self {
        Self {
            width_px,
            height_px,
            fps: 15.0,
            bits_per_second: 1_000_000,
        }
    }

    /// Says how many pictures come in a second.
    #[must_use]
    pub fn with_fps(mut self, fps: f64) -> Self {
        self.fps = fps;
        self
    }

    /// Says how many bits a second may go out in the long run.
    #[must_use]
    pub fn with_bits_per_second(mut self, bits_per_second: u32) -> Self {
        self.bits_per_second = bits_per_second;
        self
    }
}
