//! The pictures that models are compared on: a clip or picture files come in; pictures in memory go out, and what a frame's decoding costs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::detect::Picture;
use crate::dev::{frames, picture};
use crate::telemetry::cpu::Stopwatch;
use twinsight_media::decode::decoder::DecoderError;
use twinsight_media::h264::clip::{Clip, ClipError, ReadError, read_bounded};
use twinsight_media::picture::{Color, I420, PictureSize};

/// As many frames of a clip are looked at, evenly spread.
const MOST_FRAMES: usize = 40;

/// Why there are no pictures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PicturesError {
    #[error("{}: cannot be read: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: ReadError },
    #[error("{}: is not a whole picture: {reason}", path.display())]
    Picture {
        path: PathBuf,
        reason: image::ImageError,
    },
    #[error(transparent)]
    Clip(#[from] ClipError),
    #[error("{}: none of its frames can be decoded", .0.display())]
    NoFrame(PathBuf),
    #[error(transparent)]
    Decoder(#[from] DecoderError),
}

/// A picture in memory.
enum Kept {
    Rgb(image::RgbImage),
    Frame {
        bytes: Vec<u8>,
        size: PictureSize,
        color: Color,
    },
}

/// Pictures in memory.
pub(super) struct Pictures {
    kept: Vec<Kept>,
    source: String,
    /// The CPU of decoding a frame, if they are of a clip.
    pub(super) decode_cpu: Option<Duration>,
}

impl Pictures {
    /// Reads a clip, else pictures, else the shipped clip.
    pub(super) fn read(
        clip: Option<&Path>,
        pictures: &[PathBuf],
        shipped: &Path,
    ) -> Result<Self, PicturesError> {
        match (clip, pictures) {
            (Some(clip), _) => Self::of_clip(clip),
            (None, []) => Self::of_clip(shipped),
            (None, pictures) => Self::of_files(pictures),
        }
    }

    fn of_files(files: &[PathBuf]) -> Result<Self, PicturesError> {
        let mut kept = Vec::new();
        for path in files {
            let bytes = read_bounded(path).map_err(|reason| PicturesError::Unreadable {
                path: path.clone(),
                reason,
            })?;
            let image = picture::decode(&bytes).map_err(|reason| PicturesError::Picture {
                path: path.clone(),
                reason,
            })?;
            kept.push(Kept::Rgb(image));
        }
        let source = match kept.len() {
            1 => "1 picture".to_owned(),
            count => format!("{count} pictures"),
        };
        Ok(Self {
            kept,
            source,
            decode_cpu: None,
        })
    }

    fn of_clip(path: &Path) -> Result<Self, PicturesError> {
        let clip = Clip::read(path)?;
        let units = clip.units().len().max(1);
        let every = units.div_ceil(MOST_FRAMES);
        let mut kept = Vec::new();
        let mut copying = Duration::ZERO;
        let mut decoded = 0u32;
        let mut watch = Stopwatch::start();
        frames::decode(&clip, |planes, place| -> Result<(), PicturesError> {
            let mut copy = Stopwatch::start();
            if place % every == 0 {
                kept.push(Kept::of(&planes));
            }
            decoded += 1;
            copying += copy.lap().cpu;
            Ok(())
        })?;
        let all = watch.lap().cpu.saturating_sub(copying);
        if kept.is_empty() {
            return Err(PicturesError::NoFrame(path.to_owned()));
        }
        Ok(Self {
            source: format!("{} frames of {}", kept.len(), path.display()),
            kept,
            decode_cpu: Some(all / decoded.max(1)),
        })
    }

    pub(super) fn count(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn described(&self) -> &str {
        &self.source
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Picture<'_>> {
        self.kept.iter().map(|kept| match kept {
            Kept::Rgb(image) => Picture::Rgb {
                data: image.as_raw(),
                size: PictureSize {
                    width_px: image.width() as usize,
                    height_px: image.height() as usize,
                },
            },
            Kept::Frame { bytes, size, color } => {
                Picture::I420(I420::from_packed(bytes, *size, *color))
            }
        })
    }
}

impl Kept {
    fn of(planes: &I420<'_>) -> Self {
        let size = planes.size;
        let (width, height) = (size.chroma_width_px(), size.chroma_height_px());
        let mut bytes = Vec::with_capacity(size.i420_bytes());
        for (plane, width, height) in [
            (planes.y, size.width_px, size.height_px),
            (planes.u, width, height),
            (planes.v, width, height),
        ] {
            for row in 0..height {
                let start = row * plane.stride;
                bytes.extend_from_slice(&plane.data[start..start + width]);
            }
        }
        Self::Frame {
            bytes,
            size,
            color: planes.color,
        }
    }
}
