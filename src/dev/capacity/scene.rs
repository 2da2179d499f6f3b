//! What the cameras see: the clip, or a place in which nothing moves. The first picture of the clip comes in, and a clip of it goes
//! out that is as hard for the motion gate as a real camera's: with noise, steps of exposure, and keyframes.

use anyhow::{Context, Result};

use super::super::frames;
use twinsight_media::decode::decoder::DecoderError;
use twinsight_media::h264::clip::Clip;
use twinsight_media::h264::encode::{Encoder, Rate};
use twinsight_media::picture::{Color, I420, PictureSize};

/// What the cameras of a measurement see, with the motion gate on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scene {
    /// The first picture of the clip, in which nothing moves.
    Still,
    /// The clip.
    Clip,
}

impl Scene {
    /// As the command line names them.
    pub(crate) const NAMES: [&str; 2] = ["still", "clip"];

    /// The one of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "still" => Some(Self::Still),
            "clip" => Some(Self::Clip),
            _ => None,
        }
    }
}

/// The clip of a still place has so many seconds, and begins again then.
const SECONDS: f64 = 20.0;

/// And never fewer or more pictures than these.
const PICTURES: (usize, usize) = (40, 400);

/// The exposure of each part of it.
const GAINS: [f32; 4] = [1.0, 1.06, 0.96, 1.03];

/// Luma of a pixel differs by up to this from picture to picture.
const NOISE: i16 = 6;

/// Keyframes come every two seconds.
const KEYFRAME_SECONDS: f64 = 2.0;

/// Makes a clip of the first picture of another one.
///
/// # Errors
/// If that has no picture, or the encoder does not take it.
pub(super) fn still(clip: &Clip, fps: f64) -> Result<Clip> {
    paint(clip, fps, |_, _, _| {})
}

/// As [`still`], with something drawn into the luma of each picture by its number.
fn paint(
    clip: &Clip,
    fps: f64,
    mut draw: impl FnMut(usize, PictureSize, &mut [u8]),
) -> Result<Clip> {
    let (size, place) = first_picture(clip)?;
    let pictures = whole(SECONDS * fps).clamp(PICTURES.0, PICTURES.1);
    let keyframes = whole(KEYFRAME_SECONDS * fps).max(1);
    let luma = size.width_px * size.height_px;
    let noise = noise();
    let mut encoder = Encoder::new(size, fps, Rate::Quality)?;
    let mut stream = Vec::new();
    let mut planes = place.clone();
    for n in 0..pictures {
        planes.copy_from_slice(&place);
        draw(n, size, &mut planes[..luma]);
        let exposed = exposure(GAINS[n * GAINS.len() / pictures]);
        // Each picture begins elsewhere in the row of noise.
        let noise = noise.iter().cycle().skip(n * 1237 % noise.len());
        for (luma, noise) in planes[..luma].iter_mut().zip(noise) {
            let noisy = i16::from(exposed[usize::from(*luma)]) + noise;
            *luma = u8::try_from(noisy.clamp(0, 255)).unwrap_or(u8::MAX);
        }
        let picture = I420::from_packed(&planes, size, Color::default());
        let encoded = encoder.encode(&picture, n % keyframes == 0)?;
        stream.extend_from_slice(&encoded.data);
    }
    Clip::from_annex_b(&stream).context("the encoder made no keyframe")
}

/// The first picture of a clip, with even sides.
fn first_picture(clip: &Clip) -> Result<(PictureSize, Vec<u8>)> {
    let first = clip.units().first().context("a clip without pictures")?;
    let first = Clip::from_annex_b(&first.data).context("the clip begins without a keyframe")?;
    let mut packed = None;
    frames::decode(&first, |picture, _| {
        packed.get_or_insert_with(|| pack(&picture));
        Ok::<(), DecoderError>(())
    })?;
    packed.context("the first picture of the clip cannot be decoded: name another for --clip")
}

/// The planes of a picture without padding. Odd sides lose their last row or column.
fn pack(picture: &I420<'_>) -> (PictureSize, Vec<u8>) {
    let size = PictureSize {
        width_px: picture.size.width_px & !1,
        height_px: picture.size.height_px & !1,
    };
    let mut packed = Vec::with_capacity(size.i420_bytes());
    for (plane, halves) in [(picture.y, 1), (picture.u, 2), (picture.v, 2)] {
        let rows = plane.data.chunks(plane.stride);
        for row in rows.take(size.height_px / halves) {
            packed.extend_from_slice(&row[..size.width_px / halves]);
        }
    }
    (size, packed)
}

/// What becomes of each luma by a gain.
fn exposure(gain: f32) -> [u8; 256] {
    std::array::from_fn(|luma| {
        let luma = f32::from(u8::try_from(luma).unwrap_or(u8::MAX));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float becomes the nearest number that the type has"
        )]
        let exposed = (gain * luma).round() as u8;
        exposed
    })
}

/// A row of noise whose length has nothing to do with that of a picture.
fn noise() -> Vec<i16> {
    let mut state = 1_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        i16::try_from(state >> 24).unwrap_or_default() - 128
    };
    // The sum of two is near to what a sensor has.
    let two = || random() + random();
    std::iter::repeat_with(two)
        .map(|random| NOISE * random / 256)
        .take(10_007)
        .collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float becomes the nearest number that the type has"
)]
fn whole(number: f64) -> usize {
    number.round() as usize
}

#[cfg(test)]
#[path = "scene_tests.rs"]
mod tests;
