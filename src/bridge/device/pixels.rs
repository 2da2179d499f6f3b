//! Raw pictures of a device to planes: Motion JPEG and YUYV come in, packed I420 goes out. Plain functions; `pictures` calls them.

use std::borrow::Cow;
use std::io::Cursor;

use image::codecs::jpeg::JpegDecoder;
use image::{DynamicImage, ImageDecoder};

use super::huffman::USUAL_TABLES;
use twinsight_media::color::rgb_to_i420;
use twinsight_media::h264::encode::{MAX_SIDES, MIN_SIDE};
use twinsight_media::picture::PictureSize;

/// Markers of JPEG (ITU-T T.81, table B.1).
const START_OF_IMAGE: [u8; 2] = [0xff, 0xd8];
const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];
const HUFFMAN_TABLES: u8 = 0xc4;
const START_OF_SCAN: u8 = 0xda;

/// Decodes a picture of Motion JPEG, and gives its size. `None` if it is broken, of a size that cannot be encoded, or no JPEG.
pub(super) fn from_mjpeg(data: &[u8], planes: &mut Vec<u8>) -> Option<PictureSize> {
    let jpeg = complete(data)?;
    let decoder = JpegDecoder::new(Cursor::new(&*jpeg)).ok()?;
    let (width, height) = decoder.dimensions();
    let size = even(PictureSize {
        width_px: usize::try_from(width).ok()?,
        height_px: usize::try_from(height).ok()?,
    })?;
    let rgb = DynamicImage::from_decoder(decoder).ok()?.into_rgb8();
    planes.resize(size.i420_bytes(), 0);
    let row_px = usize::try_from(width).ok()?;
    rgb_to_i420(rgb.as_raw(), row_px, size, planes);
    Some(size)
}

/// A whole JPEG with Huffman tables; `None` for what is not one. The decoder would fill what is missing with grey.
fn complete(data: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut at = START_OF_IMAGE.len();
    if data.get(..at)? != START_OF_IMAGE {
        return None;
    }
    let mut has_tables = false;
    loop {
        let &[0xff, marker, high, low] = data.get(at..at + 4)? else {
            return None;
        };
        if marker == START_OF_SCAN {
            break;
        }
        has_tables |= marker == HUFFMAN_TABLES;
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
    // Nothing else in a scan looks like this marker. What follows it is padding.
    let end = data[at..].windows(2).rposition(|two| two == END_OF_IMAGE)?;
    let data = &data[..at + end + END_OF_IMAGE.len()];
    Some(if has_tables {
        Cow::Borrowed(data)
    } else {
        Cow::Owned([&data[..at], &USUAL_TABLES, &data[at..]].concat())
    })
}

/// Makes planes of YUYV, whose rows lie so many bytes apart. `None` if the picture is too short, or of a size that cannot be
/// encoded. Chroma is the mean of two rows.
pub(super) fn from_yuyv(
    data: &[u8],
    size: PictureSize,
    row_bytes: usize,
    planes: &mut Vec<u8>,
) -> Option<PictureSize> {
    let size = even(size)?;
    let row_bytes = row_bytes.max(2 * size.width_px);
    let rows: Vec<&[u8]> = data
        .chunks(row_bytes)
        .filter_map(|row| row.get(..2 * size.width_px))
        .take(size.height_px)
        .collect();
    if rows.len() < size.height_px {
        return None;
    }
    planes.resize(size.i420_bytes(), 0);
    let (y_plane, chroma) = planes.split_at_mut(size.width_px * size.height_px);
    let chroma_width = size.chroma_width_px();
    let (u_plane, v_plane) = chroma.split_at_mut(chroma_width * size.chroma_height_px());
    for (row, ys) in rows.iter().zip(y_plane.chunks_exact_mut(size.width_px)) {
        for (pair, ys) in row.as_chunks::<4>().0.iter().zip(ys.as_chunks_mut::<2>().0) {
            *ys = [pair[0], pair[2]];
        }
    }
    let us = u_plane.chunks_exact_mut(chroma_width);
    let vs = v_plane.chunks_exact_mut(chroma_width);
    for (two, (us, vs)) in rows.as_chunks::<2>().0.iter().zip(us.zip(vs)) {
        let [upper, lower] = two.map(|row| row.as_chunks::<4>().0);
        let pairs = upper.iter().zip(lower);
        for ((upper, lower), (u, v)) in pairs.zip(us.iter_mut().zip(vs)) {
            *u = upper[1].midpoint(lower[1]);
            *v = upper[3].midpoint(lower[3]);
        }
    }
    Some(size)
}

/// A size with even sides, since two pixels share a chroma sample each way. `None` if the encoder does not take it.
fn even(size: PictureSize) -> Option<PictureSize> {
    let size = PictureSize {
        width_px: size.width_px & !1,
        height_px: size.height_px & !1,
    };
    let (long, short) = (
        size.width_px.max(size.height_px),
        size.width_px.min(size.height_px),
    );
    (short >= MIN_SIDE && long <= MAX_SIDES.0 && short <= MAX_SIDES.1).then_some(size)
}

#[cfg(test)]
pub(super) mod tests {
    use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

    use super::*;

    pub(in crate::bridge::device) const SIZE: PictureSize = PictureSize {
        width_px: 64,
        height_px: 48,
    };

    /// A grey picture as a JPEG with colours as webcams have them, one sample for two pixels of a row.
    pub(in crate::bridge::device) fn jpeg(grey: u8) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out, 90);
        encoder.set_sampling_factor(SamplingFactor::R_4_2_2);
        let rgb = vec![grey; SIZE.width_px * SIZE.height_px * 3];
        encoder.encode(&rgb, 64, 48, ColorType::Rgb).unwrap();
        out
    }

    /// Takes the Huffman tables out.
    pub(in crate::bridge::device) fn without_tables(jpeg: &[u8]) -> Vec<u8> {
        let mut out = jpeg[..2].to_vec();
        let mut at = 2;
        while jpeg[at + 1] != START_OF_SCAN {
            let next = at + 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
            if jpeg[at + 1] != HUFFMAN_TABLES {
                out.extend_from_slice(&jpeg[at..next]);
            }
            at = next;
        }
        out.extend_from_slice(&jpeg[at..]);
        out
    }

    /// The luma of a grey of full range, in limited range.
    fn luma(grey: u8) -> u8 {
        16 + u8::try_from(u32::from(grey) * 219 / 255).unwrap()
    }

    fn decoded(data: &[u8]) -> Option<u8> {
        let mut planes = Vec::new();
        let size = from_mjpeg(data, &mut planes)?;
        assert_eq!((size, planes.len()), (SIZE, SIZE.i420_bytes()));
        let chroma = &planes[SIZE.width_px * SIZE.height_px..];
        assert!(chroma.iter().all(|value| value.abs_diff(128) < 3));
        Some(planes[SIZE.width_px * 20 + 30])
    }

    #[test]
    fn a_jpeg_of_422_is_decoded_also_without_tables_and_with_padding() {
        for grey in [0, 90, 255] {
            let whole = jpeg(grey);
            let bare = without_tables(&whole);
            assert!(bare.len() + 400 < whole.len());
            let padded = [&whole[..], &[0; 1000]].concat();
            for data in [&whole, &bare, &padded] {
                let got = decoded(data).unwrap();
                assert!(got.abs_diff(luma(grey)) < 4, "{grey}: {got}");
            }
        }
    }

    #[test]
    fn a_broken_jpeg_is_none() {
        let whole = jpeg(100);
        for end in 0..whole.len() - 2 {
            assert_eq!(decoded(&whole[..end]), None, "{end}");
        }
        assert_eq!(decoded(b"\xff\xd8\xff\xd9"), None);
        let mut other = whole.clone();
        other[0] = 0;
        assert_eq!(decoded(&other), None);
        // Sides that need gigabytes.
        let at = whole
            .windows(2)
            .position(|two| two == [0xff, 0xc0])
            .unwrap();
        let mut huge = whole;
        huge[at + 5..at + 9].fill(0xff);
        assert_eq!(decoded(&huge), None);
    }

    #[test]
    fn yuyv_has_a_chroma_sample_for_two_rows_and_may_be_padded() {
        let size = PictureSize {
            width_px: 17,
            height_px: 17,
        };
        // Rows of 40 bytes: 17 pixels take 34 or 36.
        let mut data = vec![0xee; 40 * 17];
        for (n, row) in data.chunks_exact_mut(40).enumerate() {
            for (x, pair) in row[..32].as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let chroma = if n % 2 == 0 { 100 } else { 120 };
                let x = u8::try_from(x).unwrap();
                *pair = [2 * x, chroma, 2 * x + 1, chroma + 50];
            }
        }
        let mut planes = Vec::new();
        let even = from_yuyv(&data, size, 40, &mut planes).unwrap();
        assert_eq!((even.width_px, even.height_px), (16, 16));
        let row: Vec<u8> = (0..16).collect();
        assert!(planes[..256].chunks(16).all(|ys| ys == row));
        assert!(planes[256..320].iter().all(|u| *u == 110));
        assert!(planes[320..].iter().all(|v| *v == 160));
        assert_eq!(from_yuyv(&data[..40 * 15], size, 40, &mut planes), None);
        assert_eq!(from_yuyv(&[], size, 0, &mut planes), None);
    }
}
