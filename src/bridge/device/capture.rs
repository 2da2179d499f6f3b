//! What is asked of a video device. `V4l2Device` asks the kernel; the tests have a device that gives files. The device's thread
//! calls it.

use std::io;
use std::time::{Duration, Instant};

use twinsight_media::picture::PictureSize;

/// How a device gives its pictures, the preferred first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PixelFormat {
    /// Encoded already, as a byte stream.
    H264,
    /// A JPEG for each picture.
    Mjpeg,
    /// Two pixels in four bytes: Y, U, Y, V.
    Yuyv,
}

impl PixelFormat {
    pub(super) const ALL: [Self; 3] = [Self::H264, Self::Mjpeg, Self::Yuyv];

    /// The name by which V4L2 knows it.
    pub(super) fn four_cc(self) -> [u8; 4] {
        *match self {
            Self::H264 => b"H264",
            Self::Mjpeg => b"MJPG",
            Self::Yuyv => b"YUYV",
        }
    }

    /// The format of that name. Some drivers call Motion JPEG just JPEG.
    pub(super) fn of(four_cc: [u8; 4]) -> Option<Self> {
        if four_cc == *b"JPEG" {
            return Some(Self::Mjpeg);
        }
        Self::ALL
            .into_iter()
            .find(|format| format.four_cc() == four_cc)
    }
}

/// What a device has agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PictureFormat {
    /// None if it gives something else than any of ours.
    pub(super) pixels: Option<PixelFormat>,
    pub(super) size: PictureSize,
    /// Bytes from one row to the next; 0 for formats without rows.
    pub(super) row_bytes: usize,
}

/// A picture as the device gives it.
#[derive(Debug)]
pub(super) struct RawPicture<'a> {
    pub(super) data: &'a [u8],
    pub(super) taken_at: Instant,
    /// True if the device itself says that it is not whole.
    pub(super) is_broken: bool,
}

/// A video device that is open.
pub(super) trait Capture {
    /// True for a device that gives a stream of pictures.
    fn is_camera(&self) -> io::Result<bool>;

    /// The names of its formats.
    fn formats(&self) -> io::Result<Vec<[u8; 4]>>;

    /// Asks for a format and a size. Gives what the device makes of it.
    fn set_format(&mut self, pixels: PixelFormat, size: PictureSize) -> io::Result<PictureFormat>;

    /// Asks for a number of frames a second. Gives what the device makes of it, if it says so.
    fn set_rate(&mut self, fps: f64) -> io::Result<Option<f64>>;

    /// Begins to take pictures.
    fn start(&mut self) -> io::Result<()>;

    /// Waits for the next picture, for so long at most. False if there was none.
    fn next(&mut self, limit: Duration, take: &mut dyn FnMut(RawPicture<'_>)) -> io::Result<bool>;

    /// Asks a device that encodes for a keyframe. Most do not listen.
    fn force_keyframe(&mut self);
}
