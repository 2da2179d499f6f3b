//! An annotated clip: RGB pictures come in with the time at which each is shown, and an MP4 file with H.264 goes out. It has its
//! name only once it is whole; until then, and if it never gets so far, it is a file beside it.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::time::Duration;

use image::RgbImage;
use image::imageops::{self, FilterType};

use twinsight_media::color::rgb_to_i420;
use twinsight_media::h264::clip::PictureTime;
use twinsight_media::h264::encode::{
    EncodeError, EncodedPicture, Encoder, MAX_SIDES, MIN_SIDE, Rate,
};
use twinsight_media::h264::mp4::writer::{Mp4Writer, WriteError};
use twinsight_media::picture::{Color, I420, PictureSize};

/// Frames a second of a clip that does not say its own.
const DEFAULT_FPS: f64 = 30.0;

/// A player can begin at a keyframe, so there is one at least this often.
const KEYFRAME_INTERVAL: Duration = Duration::from_secs(2);

/// Why an annotated clip cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClipWriteError {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The encoder does not take pictures of this size.
    #[error("it would have {}x{} pixels, and {MIN_SIDE}x{MIN_SIDE} to {}x{} can be encoded", .0.width_px, .0.height_px, MAX_SIDES.0, MAX_SIDES.1)]
    Size(PictureSize),
    /// The encoder failed.
    #[error("the H.264 encoder failed: {0}")]
    Encoder(#[from] EncodeError),
    /// The file cannot be written, or cannot hold the video.
    #[error(transparent)]
    Mp4(#[from] WriteError),
}

/// When the pictures of a clip are shown.
#[derive(Debug, Clone)]
pub(super) enum Pace {
    /// As the clip says, by place in the order in which pictures are shown.
    Own(Vec<PictureTime>),
    /// So many a second.
    Fps(f64),
}

/// A clip that is being written.
#[derive(Debug)]
pub(super) struct AnnotatedClip {
    path: PathBuf,
    pace: Pace,
    max_pictures: usize,
    /// None before the first picture, which decides the size.
    video: Option<Video>,
}

#[derive(Debug)]
struct Video {
    part: PartFile,
    encoder: Encoder,
    writer: Mp4Writer<BufWriter<File>>,
    size: PictureSize,
    planes: Vec<u8>,
    /// The latest picture, and when it is shown. How long follows from the next one.
    held: Option<(EncodedPicture, PictureTime)>,
    keyframe_at: Duration,
}

/// The file beside the one that is wanted. It is deleted unless it is given its name.
#[derive(Debug)]
struct PartFile {
    path: PathBuf,
    is_named: bool,
}

impl Pace {
    /// The rate that is asked for; else the clip's own times, where it has them.
    pub(super) fn of(fps: Option<f64>, own: Option<Vec<PictureTime>>) -> Self {
        match (fps, own) {
            (None, Some(own)) => Self::Own(own),
            (fps, _) => Self::Fps(fps.unwrap_or(DEFAULT_FPS)),
        }
    }

    /// When the picture of this place is shown, and for how long.
    pub(super) fn time(&self, place: usize) -> PictureTime {
        match self {
            Self::Own(times) => times.get(place).copied().unwrap_or(PictureTime {
                shown_at: times
                    .last()
                    .map_or(Duration::ZERO, |last| last.shown_at + last.lasts),
                lasts: Duration::ZERO,
            }),
            Self::Fps(fps) => {
                let place = u32::try_from(place).unwrap_or(u32::MAX);
                PictureTime {
                    shown_at: Duration::from_secs_f64(f64::from(place) / fps),
                    lasts: Duration::from_secs_f64(1.0 / fps),
                }
            }
        }
    }
}

impl AnnotatedClip {
    /// A clip of at most this many pictures.
    pub(super) fn new(path: &Path, pace: Pace, max_pictures: usize) -> Self {
        Self {
            path: path.to_owned(),
            pace,
            max_pictures,
            video: None,
        }
    }

    /// Adds a picture, which has this place in the order in which pictures are shown.
    pub(super) fn push(&mut self, image: &RgbImage, place: usize) -> Result<(), ClipWriteError> {
        let time = self.pace.time(place);
        let video = match &mut self.video {
            Some(video) => video,
            None => self
                .video
                .insert(Video::begin(&self.path, size_of(image), self.max_pictures)?),
        };
        video.push(image, time)
    }

    /// Gives the file its name. Without a picture there is no file.
    pub(super) fn finish(self) -> Result<(), ClipWriteError> {
        match self.video {
            Some(video) => video.finish(&self.path),
            None => Ok(()),
        }
    }
}

impl Video {
    fn begin(
        path: &Path,
        picture: PictureSize,
        max_pictures: usize,
    ) -> Result<Self, ClipWriteError> {
        // Chroma planes have half the sides, so an odd side loses its last row or column.
        let size = PictureSize {
            width_px: picture.width_px & !1,
            height_px: picture.height_px & !1,
        };
        let (long, short) = (
            size.width_px.max(size.height_px),
            size.width_px.min(size.height_px),
        );
        if long > MAX_SIDES.0 || short > MAX_SIDES.1 || short < MIN_SIDE {
            return Err(ClipWriteError::Size(picture));
        }
        let (part, file) = PartFile::create(path)?;
        Ok(Self {
            part,
            // The rate does not matter to an encoder whose pictures all have the same quality.
            encoder: Encoder::new(size, DEFAULT_FPS, Rate::Quality)?,
            writer: Mp4Writer::new(BufWriter::new(file), size, max_pictures)?,
            size,
            planes: vec![0; size.i420_bytes()],
            held: None,
            keyframe_at: Duration::ZERO,
        })
    }

    fn push(&mut self, image: &RgbImage, time: PictureTime) -> Result<(), ClipWriteError> {
        let size = size_of(image);
        let is_ours =
            size.width_px & !1 == self.size.width_px && size.height_px & !1 == self.size.height_px;
        if is_ours {
            rgb_to_i420(image, size.width_px, self.size, &mut self.planes);
        } else {
            let fitted = fitted(image, self.size);
            rgb_to_i420(&fitted, self.size.width_px, self.size, &mut self.planes);
        }
        let is_due = time.shown_at.saturating_sub(self.keyframe_at) >= KEYFRAME_INTERVAL;
        let planes = I420::from_packed(&self.planes, self.size, Color::default());
        let encoded = self.encoder.encode(&planes, is_due)?;
        if encoded.is_idr {
            self.keyframe_at = time.shown_at;
        }
        if let Some((before, shown)) = self.held.replace((encoded, time)) {
            let lasts = time.shown_at.saturating_sub(shown.shown_at);
            self.writer.push(&before.data, before.is_idr, lasts)?;
        }
        Ok(())
    }

    fn finish(mut self, path: &Path) -> Result<(), ClipWriteError> {
        if let Some((last, time)) = self.held.take() {
            self.writer.push(&last.data, last.is_idr, time.lasts)?;
        }
        let file = self.writer.finish()?;
        drop(file.into_inner().map_err(io::IntoInnerError::into_error)?);
        self.part.name(path)?;
        Ok(())
    }
}

impl PartFile {
    fn create(path: &Path) -> io::Result<(Self, File)> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let path = path.with_file_name(name);
        let file = File::create(&path)?;
        let part = Self {
            path,
            is_named: false,
        };
        Ok((part, file))
    }

    fn name(mut self, path: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, path)?;
        self.is_named = true;
        Ok(())
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.is_named {
            // There is nobody left to tell, and the error that led here is told already.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn size_of(image: &RgbImage) -> PictureSize {
    PictureSize {
        width_px: image.width() as usize,
        height_px: image.height() as usize,
    }
}

/// A picture of another size as large as fits, in the middle of black: a clip has one size, and the first picture decided it.
fn fitted(image: &RgbImage, size: PictureSize) -> RgbImage {
    let side = |px: usize| u32::try_from(px).unwrap_or(u32::MAX);
    let (width, height) = (side(size.width_px), side(size.height_px));
    let scaled = |length: u32, by: u32, of: u32| {
        let scaled = u64::from(length) * u64::from(by) / u64::from(of.max(1));
        u32::try_from(scaled).unwrap_or(u32::MAX).max(1)
    };
    let (own_width, own_height) = image.dimensions();
    // The side that would stick out first decides.
    let by_width =
        u64::from(own_width) * u64::from(height) > u64::from(own_height) * u64::from(width);
    let (new_width, new_height) = if by_width {
        (width, scaled(own_height, width, own_width))
    } else {
        (scaled(own_width, height, own_height), height)
    };
    let small = imageops::resize(image, new_width, new_height, FilterType::Triangle);
    let mut whole = RgbImage::new(width, height);
    let (left, top) = ((width - new_width) / 2, (height - new_height) / 2);
    imageops::replace(&mut whole, &small, left.into(), top.into());
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_of_another_size_keeps_its_shape() {
        let white = |width, height| RgbImage::from_pixel(width, height, image::Rgb([255; 3]));
        let size = PictureSize {
            width_px: 64,
            height_px: 48,
        };
        let is_white = |image: &RgbImage, x, y| image.get_pixel(x, y).0 == [255; 3];
        let wide = fitted(&white(200, 50), size);
        assert_eq!(wide.dimensions(), (64, 48));
        assert!(is_white(&wide, 0, 24) && is_white(&wide, 63, 24));
        assert!(!is_white(&wide, 32, 10) && !is_white(&wide, 32, 38));
        let high = fitted(&white(3, 5), size);
        assert!(is_white(&high, 32, 0) && is_white(&high, 32, 47));
        assert!(!is_white(&high, 10, 24) && !is_white(&high, 53, 24));
    }

    #[test]
    fn a_rate_that_is_asked_for_counts_more_than_the_clip_s_times() {
        let ms = Duration::from_millis;
        let own = || {
            let time = |at| PictureTime {
                shown_at: ms(at),
                lasts: ms(70),
            };
            Some(vec![time(0), time(100)])
        };
        let times =
            |pace: Pace| [0, 1].map(|place| (pace.time(place).shown_at, pace.time(place).lasts));
        assert_eq!(
            times(Pace::of(None, own())),
            [(ms(0), ms(70)), (ms(100), ms(70))]
        );
        assert_eq!(
            times(Pace::of(Some(4.0), own())),
            [(ms(0), ms(250)), (ms(250), ms(250))]
        );
        assert_eq!(Pace::of(None, None).time(30).shown_at, ms(1000));
    }

    #[test]
    fn a_clip_that_is_given_up_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let mut clip = AnnotatedClip::new(&path, Pace::Fps(30.0), 1);
        let picture = RgbImage::new(64, 48);
        clip.push(&picture, 0).unwrap();
        assert!(folder.path().join("clip.mp4.part").exists());
        clip.push(&picture, 1).unwrap();
        let error = clip.push(&picture, 2).unwrap_err().to_string();
        assert!(error.contains("more pictures"), "{error}");
        drop(clip);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn odd_sides_lose_a_row_and_a_column() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let mut clip = AnnotatedClip::new(&path, Pace::Fps(30.0), 3);
        clip.push(&RgbImage::new(65, 49), 0).unwrap();
        clip.push(&RgbImage::new(64, 48), 1).unwrap();
        clip.push(&RgbImage::new(30, 31), 2).unwrap();
        clip.finish().unwrap();
        let clip = twinsight_media::h264::clip::Clip::read(&path).unwrap();
        let mut sizes = Vec::new();
        let decoded = crate::dev::frames::decode(&clip, |planes, _| {
            sizes.push((planes.size.width_px, planes.size.height_px));
            Ok::<(), twinsight_media::decode::decoder::DecoderError>(())
        });
        assert!(decoded.unwrap().is_none());
        assert_eq!(sizes, [(64, 48); 3]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn pictures_that_cannot_be_encoded_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (width, height) in [(15, 64), (64, 17 - 2), (3842, 16), (2162, 2162)] {
            let mut clip = AnnotatedClip::new(&folder.path().join("a.mp4"), Pace::Fps(30.0), 1);
            let error = clip.push(&RgbImage::new(width, height), 0).unwrap_err();
            assert!(matches!(error, ClipWriteError::Size(_)), "{error}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
