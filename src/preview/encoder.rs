//! Makes JPEGs of frames: a frame and the form in which it is wanted come in, the bytes of a picture go out. The thread of
//! [`Previews`](super::Previews) runs it.

use bytes::Bytes;
use jpeg_encoder::{ColorType, EncodingError, SamplingFactor};

use super::core::Form;
use super::watch::{Offered, Seen};
use crate::annotate::draw_objects;
use crate::detect::{BBox, Keypoint, Object};
use crate::scale::{Scaler, scaled_size};
use twinsight_media::picture::{I420, PictureSize};

/// From 1 to 100. Above it files grow faster than pictures get better.
const QUALITY: u8 = 78;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    #[error("the frame has no pixels")]
    Empty,
    #[error("a side of the picture does not fit a JPEG")]
    Size,
    #[error(transparent)]
    Jpeg(#[from] EncodingError),
}

/// Encodes pictures, and keeps its buffers between them.
#[derive(Debug, Default)]
pub(super) struct PictureEncoder {
    scaler: Scaler,
    rgb: Vec<u8>,
    /// The length of the last JPEG, which the next one will be like.
    last_bytes: usize,
}

impl PictureEncoder {
    /// Encodes a frame.
    pub(super) fn encode(&mut self, offered: &Offered, form: Form) -> Result<Bytes, EncodeError> {
        let frame = offered.frame.size();
        if frame.width_px == 0 || frame.height_px == 0 {
            return Err(EncodeError::Empty);
        }
        let size = scaled_size(frame, form.width_px);
        self.scaler
            .scale(&offered.frame.planes(), size, &mut self.rgb);
        if form.boxes
            && let Some(seen) = &offered.seen
        {
            let objects = scaled_objects(seen, frame, size);
            draw_objects(&mut self.rgb, size, &objects, &seen.model);
        }
        let jpeg = jpeg(&self.rgb, size, self.last_bytes + self.last_bytes / 4)?;
        self.last_bytes = jpeg.len();
        Ok(jpeg.into())
    }
}

/// The JPEG of a small picture, which takes less than a millisecond.
pub(crate) fn shot_jpeg(picture: &I420<'_>) -> Result<Vec<u8>, EncodeError> {
    let mut rgb = Vec::new();
    Scaler::default().scale(picture, picture.size, &mut rgb);
    jpeg(&rgb, picture.size, 0)
}

/// The JPEG of these pixels, which is expected to have about so many bytes.
fn jpeg(rgb: &[u8], size: PictureSize, expected_bytes: usize) -> Result<Vec<u8>, EncodeError> {
    let side = |px: usize| u16::try_from(px).map_err(|_| EncodeError::Size);
    let (width, height) = (side(size.width_px)?, side(size.height_px)?);
    let mut jpeg = Vec::with_capacity(expected_bytes);
    let mut encoder = jpeg_encoder::Encoder::new(&mut jpeg, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.encode(rgb, width, height, ColorType::Rgb)?;
    Ok(jpeg)
}

/// The objects of a frame where they are in its smaller picture.
#[expect(
    clippy::cast_precision_loss,
    reason = "a side of a picture is far below 2^24"
)]
fn scaled_objects(seen: &Seen, frame: PictureSize, size: PictureSize) -> Vec<Object> {
    let x_scale = size.width_px as f32 / frame.width_px as f32;
    let y_scale = size.height_px as f32 / frame.height_px as f32;
    let scaled = |object: &Object| Object {
        class_id: object.class_id,
        score: object.score,
        bbox: BBox {
            x: object.bbox.x * x_scale,
            y: object.bbox.y * y_scale,
            width: object.bbox.width * x_scale,
            height: object.bbox.height * y_scale,
        },
        keypoints: object
            .keypoints
            .iter()
            .map(|point| Keypoint {
                x: point.x * x_scale,
                y: point.y * y_scale,
                score: point.score,
            })
            .collect(),
        outline: object
            .outline
            .iter()
            .map(|[x, y]| [x * x_scale, y * y_scale])
            .collect(),
    };
    seen.objects.iter().map(scaled).collect()
}

#[cfg(test)]
#[path = "encoder_tests.rs"]
mod tests;
