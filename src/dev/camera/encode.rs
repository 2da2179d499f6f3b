//! Pictures to H.264: a still picture or the test pattern goes in, access units come out, constrained
//! baseline as every viewer takes it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::pattern;
use crate::dev::picture;
use twinsight_media::color::rgb_to_i420;
pub use twinsight_media::h264::encode::EncodedPicture;
use twinsight_media::h264::encode::{Encoder, MAX_SIDES, MIN_SIDE, Rate};
use twinsight_media::picture::{Color, I420, PictureSize};

/// Why pictures cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The file cannot be read.
    #[error("cannot read the picture {} ({source}): name a JPEG, PNG, WebP or BMP file that is there and readable", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no picture.
    #[error("{} is not a whole JPEG, PNG, WebP or BMP picture ({source}): name another for --image, or a clip for --clip", path.display())]
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
    Encoder(twinsight_media::h264::encode::EncodeError),
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
    /// A JPEG, PNG, WebP or BMP file, turned as its EXIF data says; odd sides lose their last row or column.
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
            subject: {
                let mut planes = vec![0; size.i420_bytes()];
                rgb_to_i420(image.as_raw(), image.width() as usize, size, &mut planes);
                Subject::Still(Arc::new(planes))
            },
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

/// Encodes the pictures, numbered from 0.
pub struct PictureEncoder {
    pictures: Pictures,
    encoder: Encoder,
    planes: Vec<u8>,
    number: u32,
}

impl PictureEncoder {
    /// An encoder that begins with an IDR picture.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(pictures: Pictures, fps: f64) -> Result<Self, PictureError> {
        let size = pictures.size;
        // Every picture is sent: a number that is missing is a loss on the way.
        let encoder = Encoder::new(size, fps, Rate::Quality).map_err(PictureError::Encoder)?;
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
        let picture = I420::from_packed(&self.planes, size, Color::default());
        let encoded = self
            .encoder
            .encode(&picture, idr)
            .map_err(PictureError::Encoder)?;
        self.number = self.number.wrapping_add(1);
        Ok(encoded)
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
