//! Picture files: the bytes of a JPEG, PNG, WebP or BMP come in, RGB goes out; and annotated pictures are written. The commands `detect`,
//! `camera` and `model add` run it.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::error::DecodingError;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage};

/// Decodes a picture and turns it as its EXIF data says. A JPEG that was cut short is an error here, since the library would fill
/// what is missing with grey, and detection on that tells nothing.
pub(super) fn decode(bytes: &[u8]) -> image::ImageResult<RgbImage> {
    if bytes.starts_with(&[0xff, 0xd8]) && !is_whole_jpeg(bytes) {
        return Err(ImageError::Decoding(DecodingError::new(
            ImageFormat::Jpeg.into(),
            "the file ends before its picture",
        )));
    }
    let mut decoder = ImageReader::new(std::io::Cursor::new(bytes))
        .with_guessed_format()?
        .into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// Writes a picture as PNG where the file's name ends so, else as JPEG.
pub(super) fn save(image: &RgbImage, path: &Path) -> image::ImageResult<()> {
    if path.extension().is_some_and(|extension| extension == "png") {
        return image.save(path);
    }
    let file = BufWriter::new(File::create(path)?);
    image.write_with_encoder(JpegEncoder::new_with_quality(file, 90))
}

/// True if the marker of the image's end follows the last scan (ITU-T T.81, annex B). Segments are skipped by their length, so
/// that the end of a preview inside one is not taken for the end of the image.
fn is_whole_jpeg(bytes: &[u8]) -> bool {
    const END: u8 = 0xd9;
    let mut at = 2;
    loop {
        // What is no marker is the data of a scan, or padding that decoders skip as well.
        let Some(found) = bytes.get(at..).and_then(next_marker) else {
            return false;
        };
        let marker = bytes[at + found];
        at += found + 1;
        match marker {
            END => return true,
            // These markers have no segment.
            0x01 | 0xd0..=0xd8 => {}
            _ => {
                let Some(&[high, low]) = bytes.get(at..at + 2) else {
                    return false;
                };
                at += usize::from(u16::from_be_bytes([high, low])).max(2);
            }
        }
    }
}

/// Finds the code of the next marker: it follows 0xff, and is neither a stuffed zero nor a fill byte.
fn next_marker(bytes: &[u8]) -> Option<usize> {
    let pairs = bytes.iter().zip(bytes.get(1..)?);
    let marker = |(_, (first, second)): &(usize, (&u8, &u8))| {
        **first == 0xff && !matches!(**second, 0x00 | 0xff)
    };
    pairs.enumerate().find(marker).map(|(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jpeg(width: u32, height: u32) -> Vec<u8> {
        let picture = RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([x, y, x ^ y].map(|value| u8::try_from(value % 256).unwrap()))
        });
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn what_is_cut_off_is_no_whole_picture() {
        let whole = jpeg(64, 48);
        assert!(decode(&whole).is_ok());
        for cut in (0..whole.len()).step_by(7) {
            assert!(decode(&whole[..cut]).is_err(), "{cut} of {}", whole.len());
        }
        assert!(decode(&whole[..whole.len() - 1]).is_err());
        // What comes behind the end is nobody's business.
        assert!(decode(&[&whole[..], &[0, 1, 2]].concat()).is_ok());
    }

    #[test]
    fn webp_and_bmp_are_decoded_and_have_to_be_whole() {
        let picture = RgbImage::from_fn(31, 20, |x, y| {
            image::Rgb([x, 7 * y, x ^ y].map(|value| u8::try_from(value % 256).unwrap()))
        });
        for format in [ImageFormat::WebP, ImageFormat::Bmp] {
            let mut bytes = std::io::Cursor::new(Vec::new());
            picture.write_to(&mut bytes, format).unwrap();
            let bytes = bytes.into_inner();
            assert!(decode(&bytes).unwrap() == picture, "{format:?}");
            for cut in (0..bytes.len()).step_by(7) {
                assert!(
                    decode(&bytes[..cut]).is_err(),
                    "{format:?}: {cut} of {}",
                    bytes.len()
                );
            }
        }
    }

    #[test]
    fn the_end_of_a_preview_is_not_the_picture_s() {
        let (preview, whole) = (jpeg(16, 16), jpeg(64, 48));
        let mut with_preview = whole[..2].to_vec();
        with_preview.extend([0xff, 0xe1]);
        with_preview.extend(u16::try_from(preview.len() + 2).unwrap().to_be_bytes());
        with_preview.extend(&preview);
        with_preview.extend(&whole[2..]);
        assert!(decode(&with_preview).is_ok());
        let half = with_preview.len() - whole.len() / 2;
        assert!(decode(&with_preview[..half]).is_err());
    }
}
