//! One time of asking a video device: an open device comes in, its access units go out, until it fails or is not wanted any more.
//! The device's thread runs it.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::capture::{Capture, PictureFormat, PixelFormat};
use super::error::DeviceError;
use super::pictures::{Pictures, ticks};
use crate::bridge::source::{
    KeyframeWish, SourceEvent, SourceFacts, SourceHandler, SourceState, SourceUnit, UnitLoss,
};
use crate::config::DeviceConfig;
use twinsight_media::picture::PictureSize;

/// What is asked for unless the configuration says otherwise.
const SIZE: PictureSize = PictureSize {
    width_px: 1280,
    height_px: 720,
};
const FPS: f64 = 15.0;

/// A device that gave no picture for this long does not work.
const SILENCE: Duration = Duration::from_secs(10);

/// How long one call waits for a picture, and so how soon the thread ends when it is to.
const WAIT: Duration = Duration::from_millis(200);

/// What a session needs of the thread that runs it.
pub(super) struct Session<'a> {
    pub(super) config: &'a DeviceConfig,
    pub(super) wish: &'a KeyframeWish,
    pub(super) handler: &'a mut SourceHandler,
    /// When the source began: the beginning of its clock.
    pub(super) begun: Instant,
    /// True once there was a picture.
    pub(super) has_received: bool,
}

impl Session<'_> {
    /// Takes pictures until the device fails, or until `stopped` says so.
    ///
    /// # Errors
    /// Why there are no more pictures.
    pub(super) fn run(
        &mut self,
        device: &mut dyn Capture,
        stopped: &dyn Fn() -> bool,
    ) -> Result<(), DeviceError> {
        let path = self.config.path.as_path();
        let call = |what| move |error| DeviceError::of(path, what, error);
        if !device.is_camera().map_err(call("ask what it is"))? {
            return Err(DeviceError::NotACamera(path.to_owned()));
        }
        let (format, pixels) = agree(device, path, self.config.size.unwrap_or(SIZE))?;
        let wanted = self.config.fps.unwrap_or(FPS);
        let told = device
            .set_rate(wanted)
            .map_err(call("set its frame rate"))?;
        let mut pictures = Pictures::new(format, pixels, told.unwrap_or(wanted));
        device.start().map_err(call("begin"))?;
        tracing::debug!(?format, fps = told, "a video device begins");

        let mut last_unit = Instant::now();
        while !stopped() {
            let wants_keyframe = self.wish.take();
            if wants_keyframe && pixels == PixelFormat::H264 {
                device.force_keyframe();
            }
            let mut made = Ok(false);
            let mut was_given = false;
            let came = device.next(WAIT, &mut |picture| {
                was_given = true;
                made = self.pass(&mut pictures, &picture, wants_keyframe, told);
            });
            came.map_err(call("take a picture"))?;
            if made? {
                last_unit = Instant::now();
            } else if wants_keyframe && !was_given {
                self.wish.ask();
            }
            if last_unit.elapsed() > SILENCE {
                return Err(DeviceError::Silent {
                    path: path.to_owned(),
                    limit: SILENCE,
                });
            }
        }
        Ok(())
    }

    /// Passes on what becomes of a picture. True if that is a unit.
    fn pass(
        &mut self,
        pictures: &mut Pictures,
        picture: &super::capture::RawPicture<'_>,
        wants_keyframe: bool,
        fps: Option<f64>,
    ) -> Result<bool, DeviceError> {
        let made = pictures.take(picture, wants_keyframe)?;
        if made.is_malformed {
            (self.handler)(SourceEvent::Dropped(UnitLoss::Malformed, 1));
        }
        let is_encoded_here = pictures.is_encoded_here();
        if wants_keyframe && is_encoded_here && !made.units.iter().any(|unit| unit.is_keyframe) {
            // The picture was broken, or left out to save bits.
            self.wish.ask();
        }
        if made.awaiting_keyframe > 0 {
            let units = made.awaiting_keyframe;
            (self.handler)(SourceEvent::Dropped(UnitLoss::AwaitingKeyframe, units));
        }
        let has_units = !made.units.is_empty();
        if has_units && !self.has_received {
            self.has_received = true;
            (self.handler)(SourceEvent::State(SourceState::Receiving(SourceFacts {
                size: Some(pictures.size()),
                profile_level_id: pictures.profile_level_id(),
                fps,
            })));
        }
        for unit in made.units {
            (self.handler)(SourceEvent::Unit(SourceUnit {
                data: unit.data,
                is_keyframe: unit.is_keyframe,
                timestamp_90k: ticks(self.begun, picture.taken_at),
                received_at: picture.taken_at,
                completed_at: Instant::now(),
            }));
        }
        Ok(has_units)
    }
}

/// Agrees with a device on a format: the first of ours that it has in the wanted size, else the first that it has.
fn agree(
    device: &mut dyn Capture,
    path: &Path,
    size: PictureSize,
) -> Result<(PictureFormat, PixelFormat), DeviceError> {
    let names = device
        .formats()
        .map_err(|error| DeviceError::of(path, "ask for its formats", error))?;
    let known: Vec<PixelFormat> = names.iter().copied().filter_map(PixelFormat::of).collect();
    let ours = PixelFormat::ALL.into_iter();
    let ours: Vec<PixelFormat> = ours.filter(|format| known.contains(format)).collect();
    let mut set = |pixels| -> Result<Option<(PictureFormat, PixelFormat)>, DeviceError> {
        let agreed: io::Result<PictureFormat> = device.set_format(pixels, size);
        let agreed = agreed.map_err(|error| DeviceError::of(path, "set its format", error))?;
        Ok((agreed.pixels == Some(pixels)).then_some((agreed, pixels)))
    };
    let mut first = None;
    for pixels in ours {
        let agreed = set(pixels)?;
        if let Some((format, _)) = agreed
            && format.size == size
        {
            return Ok((format, pixels));
        }
        first = first.or(agreed.map(|(_, pixels)| pixels));
    }
    // The last that was tried is set now.
    if let Some(pixels) = first
        && let Some(agreed) = set(pixels)?
    {
        return Ok(agreed);
    }
    let shown: Vec<String> = names
        .iter()
        .map(|name| String::from_utf8_lossy(name).escape_debug().to_string())
        .collect();
    Err(DeviceError::NoFormat {
        path: path.to_owned(),
        offered: if shown.is_empty() {
            "none".to_owned()
        } else {
            shown.join(", ")
        },
    })
}
