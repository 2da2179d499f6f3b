//! Pictures to H.264: a still picture or the test pattern goes in, access units come out, constrained
//! baseline as every viewer takes it. Each viewer has an encoder of its own, so that what one of them
//! asks for is no other's business.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;
use openh264::OpenH264API;
use openh264::encoder::{
    Encoder, EncoderConfig, FrameRate, FrameType, Profile, RateControlMode, UsageType,
};
use openh264::formats::YUVSlices;

use super::pattern;
use crate::decode::frame::PictureSize;
use crate::dev::picture;

/// What the encoder takes at most, as width and height or the other way round.
const MAX_SIDES: (usize, usize) = (3840, 2160);

/// Below this the encoder refuses.
const MIN_SIDE: usize = 16;

/// Why pictures cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The file cannot be read.
    #[error("cannot read the picture {} ({source}): name a JPEG or PNG file that is there and readable", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no picture.
    #[error("{} is not a whole JPEG or PNG picture ({source}): name another for --image, or a clip for --clip", path.display())]
    NotAPicture {
        /// The file.
        path: PathBuf,
        /// Why.
        source: image::ImageError,
    },
    /// Its size.
    #[error("{what} is {}x{} pixels: a camera sends from {}x{} to {}x{}", size.width_px, size.height_px, min.width_px, min.height_px, MAX_SIDES.0, MAX_SIDES.1)]
    Size {
        /// The file, or the pattern.
        what: String,
        /// What it has.
        size: PictureSize,
        /// What is needed.
        min: PictureSize,
    },
    /// The encoder failed.
    #[error("the H.264 encoder failed ({0}): try another size")]
    Encoder(openh264::Error),
}

/// What is encoded. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Pictures {
    subject: Subject,
    size: PictureSize,
}

#[derive(Debug, Clone)]
enum Subject {
    /// One picture, over and over: packed planes.
    Still(Arc<Vec<u8>>),
    /// The numbered pattern.
    Pattern,
}

impl Pictures {
    /// A JPEG or PNG file, turned as its EXIF data says; odd sides lose their last row or column.
    ///
    /// # Errors
    /// When the file is not there, is no picture or is too small or large.
    pub fn still(path: &Path) -> Result<Self, PictureError> {
        let bytes = std::fs::read(path).map_err(|source| PictureError::Read {
            path: path.to_owned(),
            source,
        })?;
        let image = picture::decode(&bytes).map_err(|source| PictureError::NotAPicture {
            path: path.to_owned(),
            source,
        })?;
        let size = even(PictureSize {
            width_px: image.width() as usize,
            height_px: image.height() as usize,
        });
        let min = PictureSize {
            width_px: MIN_SIDE,
            height_px: MIN_SIDE,
        };
        checked(&path.display().to_string(), size, min)?;
        Ok(Self {
            subject: Subject::Still(Arc::new(to_i420(&image, size))),
            size,
        })
    }

    /// The moving, numbered test pattern; odd sides are made even.
    ///
    /// # Errors
    /// When it is too small to carry its number, or too large.
    pub fn pattern(size: PictureSize) -> Result<Self, PictureError> {
        let size = even(size);
        checked("the pattern", size, pattern::MIN_SIZE)?;
        Ok(Self {
            subject: Subject::Pattern,
            size,
        })
    }

    /// Width and height as they are sent.
    pub fn size(&self) -> PictureSize {
        self.size
    }
}

/// Encodes the pictures for one viewer, numbered from 0.
pub struct PictureEncoder {
    pictures: Pictures,
    encoder: Encoder,
    planes: Vec<u8>,
    number: u32,
}

/// An encoded picture.
#[derive(Debug, Clone)]
pub struct EncodedPicture {
    /// The access unit as a byte stream (Annex B).
    pub data: Vec<u8>,
    /// True for an IDR picture, which brings its parameter sets.
    pub is_idr: bool,
}

impl PictureEncoder {
    /// An encoder that begins with an IDR picture.
    ///
    /// # Errors
    /// When there is no memory for it.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the encoder takes its frame rate in 32 bits"
    )]
    pub fn new(pictures: Pictures, fps: f64) -> Result<Self, PictureError> {
        let size = pictures.size;
        let config = EncoderConfig::new()
            .profile(Profile::Baseline)
            .usage_type(UsageType::CameraVideoRealTime)
            // The same quality in every picture, and every picture is sent: a number that is missing
            // is a loss on the way.
            .rate_control_mode(RateControlMode::Off)
            .skip_frames(false)
            .max_frame_rate(FrameRate::from_hz(fps as f32))
            .num_threads(1)
            .debug(false);
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), config)
            .map_err(PictureError::Encoder)?;
        let planes = match &pictures.subject {
            Subject::Still(planes) => planes.to_vec(),
            Subject::Pattern => vec![0; size.i420_bytes()],
        };
        Ok(Self {
            pictures,
            encoder,
            planes,
            number: 0,
        })
    }

    /// The next picture; an IDR picture if it is asked for.
    ///
    /// # Errors
    /// When the encoder fails.
    pub fn next(&mut self, idr: bool) -> Result<EncodedPicture, PictureError> {
        let size = self.pictures.size;
        if matches!(self.pictures.subject, Subject::Pattern) {
            pattern::draw(self.number, size, &mut self.planes);
        }
        // Before the first picture there is nothing to force, and it is an IDR picture by itself.
        if idr && self.number > 0 {
            self.encoder.force_intra_frame();
        }
        let (y, chroma) = self.planes.split_at(size.width_px * size.height_px);
        let (u, v) = chroma.split_at(size.chroma_width_px() * size.chroma_height_px());
        let strides = (
            size.width_px,
            size.chroma_width_px(),
            size.chroma_width_px(),
        );
        let source = YUVSlices::new((y, u, v), (size.width_px, size.height_px), strides);
        let encoded = self
            .encoder
            .encode(&source)
            .map_err(PictureError::Encoder)?;
        self.number = self.number.wrapping_add(1);
        Ok(EncodedPicture {
            is_idr: encoded.frame_type() == FrameType::IDR,
            data: encoded.to_vec(),
        })
    }
}

impl fmt::Debug for PictureEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PictureEncoder")
            .field("size", &self.pictures.size)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// Chroma planes have half the sides: an odd side loses one pixel.
fn even(size: PictureSize) -> PictureSize {
    PictureSize {
        width_px: size.width_px & !1,
        height_px: size.height_px & !1,
    }
}

fn checked(what: &str, size: PictureSize, min: PictureSize) -> Result<(), PictureError> {
    let sides = (
        size.width_px.max(size.height_px),
        size.width_px.min(size.height_px),
    );
    let fits = sides.0 <= MAX_SIDES.0 && sides.1 <= MAX_SIDES.1;
    if fits && size.width_px >= min.width_px && size.height_px >= min.height_px {
        return Ok(());
    }
    Err(PictureError::Size {
        what: what.to_owned(),
        size,
        min,
    })
}

/// BT.601, limited range, which is what a stream means that does not say.
fn to_i420(image: &RgbImage, size: PictureSize) -> Vec<u8> {
    let pixel = |x: usize, y: usize| {
        let at = 3 * (y * image.width() as usize + x);
        let rgb = &image.as_raw()[at..at + 3];
        [f32::from(rgb[0]), f32::from(rgb[1]), f32::from(rgb[2])]
    };
    let mut planes = Vec::with_capacity(size.i420_bytes());
    for y in 0..size.height_px {
        for x in 0..size.width_px {
            let [r, g, b] = pixel(x, y);
            planes.push(to_byte(16.0 + 0.256_79 * r + 0.504_13 * g + 0.097_91 * b));
        }
    }
    for [red, green, blue] in [
        [-0.148_22, -0.290_99, 0.439_22],
        [0.439_22, -0.367_79, -0.071_43],
    ] {
        for y in (0..size.height_px).step_by(2) {
            for x in (0..size.width_px).step_by(2) {
                let square = [(x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1)];
                let sum: f32 = square
                    .into_iter()
                    .map(|(x, y)| pixel(x, y))
                    .map(|[r, g, b]| red * r + green * g + blue * b)
                    .sum();
                planes.push(to_byte(128.0 + sum / 4.0));
            }
        }
    }
    planes
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is limited to a byte"
)]
fn to_byte(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}
