//! The picture that models are tried on: it is a part of the program, and goes out as it is and mirrored. The judgement runs models on
//! it, and `twinsight model add` on other pictures, too.

use std::io::Cursor;

use crate::preprocess::Picture;
use twinsight_media::picture::PictureSize;

/// A footballer with a ball on a lawn, wider than high: OpenCV's sample `messi5.jpg` of Debian's `opencv-doc` 4.6.0 (Apache-2.0 and
/// BSD-3-Clause), scaled to 416 pixels and darkened. See `tests/data/pictures/README.md`.
const PICTURE: &[u8] = include_bytes!("footballer.jpg");

/// The picture that models are tried on.
pub(crate) struct TestPicture {
    pixels: Vec<u8>,
    flipped: Vec<u8>,
    size: PictureSize,
}

impl TestPicture {
    pub(crate) fn new() -> Self {
        let mut reader = image::ImageReader::new(Cursor::new(PICTURE));
        reader.set_format(image::ImageFormat::Jpeg);
        let image = reader
            .decode()
            .expect("the picture is a part of the program, and a test decodes it")
            .into_rgb8();
        Self::of(image)
    }

    /// Another picture to try a model on.
    pub(crate) fn of(mut image: image::RgbImage) -> Self {
        let size = PictureSize {
            width_px: image.width() as usize,
            height_px: image.height() as usize,
        };
        let pixels = image.as_raw().clone();
        image::imageops::flip_horizontal_in_place(&mut image);
        Self {
            pixels,
            flipped: image.into_raw(),
            size,
        }
    }

    pub(crate) fn as_it_is(&self) -> Picture<'_> {
        Picture::Rgb {
            data: &self.pixels,
            size: self.size,
        }
    }

    pub(crate) fn mirrored(&self) -> Picture<'_> {
        Picture::Rgb {
            data: &self.flipped,
            size: self.size,
        }
    }

    /// The pixels, three bytes each, row after row.
    pub(crate) fn pixels(&self) -> (&[u8], PictureSize) {
        (&self.pixels, self.size)
    }
}
