//! Encodes pictures with openh264, on the caller's thread: I420 planes come in, access units of constrained Baseline, which
//! every viewer decodes, go out.

use std::fmt;

pub use openh264::Error as EncodeError;
use openh264::OpenH264API;
use openh264::encoder::{
    BitRate, Encoder as OpenH264, EncoderConfig, FrameRate, FrameType, Profile, RateControlMode,
    UsageType,
};
use openh264::formats::YUVSlices;

use crate::picture::{I420, PictureSize};

/// The largest sides that the encoder takes, as width and height or as height and width.
pub const MAX_SIDES: (usize, usize) = (3840, 2160);

/// The shortest side that the encoder takes.
pub const MIN_SIDE: usize = 16;

/// How many bits a picture may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Every picture has the same quality and as many bits as that takes. No picture is left out.
    Quality,
    /// This many bits a second in the long run. Pictures are left out where they would take more.
    BitsPerSecond(u32),
}

/// An encoder of one stream.
pub struct Encoder {
    encoder: OpenH264,
    size: PictureSize,
    begun: bool,
}

/// An encoded picture.
#[derive(Debug, Clone)]
pub struct EncodedPicture {
    /// The access unit as a byte stream (Annex B); empty where the picture was left out.
    pub data: Vec<u8>,
    /// True for an IDR picture, which has its parameter sets before it.
    pub is_idr: bool,
}

impl Encoder {
    /// An encoder whose first picture is an IDR picture. Both sides of `size` are even.
    ///
    /// # Errors
    /// When there is no memory for it, or the size is beyond [`MIN_SIDE`] and [`MAX_SIDES`].
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the encoder takes its frame rate in 32 bits"
    )]
    pub fn new(size: PictureSize, fps: f64, rate: Rate) -> Result<Self, EncodeError> {
        let config = EncoderConfig::new()
            .profile(Profile::Baseline)
            .usage_type(UsageType::CameraVideoRealTime)
            .skip_frames(matches!(rate, Rate::BitsPerSecond(_)))
            .max_frame_rate(FrameRate::from_hz(fps as f32))
            .num_threads(1)
            .debug(false);
        let config = match rate {
            Rate::Quality => config.rate_control_mode(RateControlMode::Off),
            Rate::BitsPerSecond(bits) => config
                .rate_control_mode(RateControlMode::Bitrate)
                .bitrate(BitRate::from_bps(bits)),
        };
        let encoder = OpenH264::with_api_config(OpenH264API::from_source(), config)?;
        Ok(Self {
            encoder,
            size,
            begun: false,
        })
    }

    /// Encodes a picture of the encoder's size; as an IDR picture if it is asked for.
    ///
    /// # Errors
    /// When the encoder fails.
    ///
    /// # Panics
    /// When the picture has another size, or a plane is too short for it.
    pub fn encode(&mut self, picture: &I420<'_>, idr: bool) -> Result<EncodedPicture, EncodeError> {
        assert_eq!(picture.size, self.size, "an encoder has one size");
        // The first picture is an IDR picture without being asked, and cannot be forced.
        if idr && self.begun {
            self.encoder.force_intra_frame();
        }
        let planes = [picture.y, picture.u, picture.v];
        let rows = [
            self.size.height_px,
            self.size.chroma_height_px(),
            self.size.chroma_height_px(),
        ];
        // The wrapper takes slices that end with their last row.
        let [y, u, v] = std::array::from_fn(|n| &planes[n].data[..planes[n].stride * rows[n]]);
        let [y_stride, u_stride, v_stride] = planes.map(|plane| plane.stride);
        let size = (self.size.width_px, self.size.height_px);
        let source = YUVSlices::new((y, u, v), size, (y_stride, u_stride, v_stride));
        let encoded = self.encoder.encode(&source)?;
        self.begun = true;
        Ok(EncodedPicture {
            is_idr: encoded.frame_type() == FrameType::IDR,
            data: encoded.to_vec(),
        })
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
