//! Pictures of files, for whoever detects on them or sends them: the bytes of a JPEG or PNG come in, RGB
//! comes out.

use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage};

/// Decodes a picture, turned as its EXIF data says.
pub(super) fn decode(bytes: &[u8]) -> image::ImageResult<RgbImage> {
    let mut decoder = ImageReader::new(std::io::Cursor::new(bytes))
        .with_guessed_format()?
        .into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}
