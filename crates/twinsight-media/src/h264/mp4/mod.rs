//! H.264 in MP4 and QuickTime: a file in memory comes in, the samples of its video track go out in the order of decoding,
//! with their parameter sets and how their pictures have to be turned. Clips call it.
//!
//! Only the boxes that are needed are read, so that a mistake in others refuses no file. Of a file that is damaged or cut
//! off the whole samples go out, and the damage is reported beside them. The stream itself says in which order pictures are
//! shown (`order.rs`); the times of samples only say for how long. Edit lists are not followed, so that pictures go out
//! which a player would cut off. `writer` makes such files.

mod boxes;
mod samples;
pub mod writer;

use std::rc::Rc;
use std::time::Duration;

use self::boxes::{Fields, boxes, find, find_in};
use self::samples::{Extents, FragmentDefaults, SampleTime};
use super::nal::{annex_b, split_at_start_codes};

/// Samples may share bytes (a picture that is shown again), but together they have at most this many times the file's
/// bytes.
const MAX_OVERLAP: usize = 4;

/// Why a file gives no or not all access units.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mp4Error {
    /// It ends too early, or a size or offset in it leads nowhere.
    #[error("is a damaged MP4 file: {0}")]
    Damaged(&'static str),
    /// It has no video track.
    #[error("is an MP4 file without a video track")]
    NoVideo,
    /// Its video has another codec.
    #[error(
        "is an MP4 file with {codec} video, and only H.264 (`avc1`, `avc3`) is sent and decoded"
    )]
    OtherCodec {
        /// The codec's name, or the four letters of its box.
        codec: String,
    },
}

/// The video track of a file.
#[derive(Debug)]
pub(super) struct Track<'a> {
    /// Its samples, in the order of decoding.
    pub(super) samples: Vec<Sample<'a>>,
    pub(super) turn: Turn,
    /// Why samples are missing, if any are.
    pub(super) damage: Option<Mp4Error>,
}

/// A sample: the coded data of one picture.
#[derive(Debug)]
pub(super) struct Sample<'a> {
    /// Its NAL units. There are none if the sample is damaged or the file ends before it.
    pub(super) nals: Vec<&'a [u8]>,
    /// Parameter sets that hold unless the sample has its own.
    pub(super) sets: Rc<[&'a [u8]]>,
    pub(super) time: Option<PictureTime>,
}

/// When a picture is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureTime {
    /// Since the clip's first picture.
    pub shown_at: Duration,
    /// How long it is shown if no other picture follows.
    pub lasts: Duration,
}

/// How a picture is turned: first its axes are exchanged, then it is mirrored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    /// Rows become columns.
    pub transpose: bool,
    /// After that, left and right are exchanged.
    pub mirror_x: bool,
    /// After that, top and bottom are exchanged.
    pub mirror_y: bool,
}

/// An entry of the table of sample descriptions.
#[derive(Debug)]
enum Description<'a> {
    H264(Config<'a>),
    Other(String),
}

/// `avcC` (ISO/IEC 14496-15, 5.3.3.1).
#[derive(Debug)]
struct Config<'a> {
    length_bytes: usize,
    sets: Rc<[&'a [u8]]>,
}

/// True for an MP4 or QuickTime file: it consists of boxes, and one of them belongs to a movie.
pub fn is_mp4(file: &[u8]) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ' || *byte == 0xa9;
    let (mut is_movie, mut has_meta) = (false, false);
    for found in boxes(file).take_while(|found| found.kind.iter().all(is_letter)) {
        match &found.kind {
            b"moov" | b"moof" | b"mdat" | b"ftyp" | b"styp" => is_movie = true,
            b"meta" => has_meta = true,
            _ => {}
        }
    }
    // HEIC and AVIF pictures are files of boxes, too.
    is_movie && (!has_meta || file_has_movie(file))
}

fn file_has_movie(file: &[u8]) -> bool {
    find(file, b"moov")
        .or_else(|| find(file, b"moof"))
        .is_some()
}

/// The first H.264 track that is meant to be shown. An error where there is no table of contents, or no track of H.264.
pub(super) fn track(file: &[u8]) -> Result<Track<'_>, Mp4Error> {
    let moov = boxes(file)
        .find(|found| found.kind == *b"moov")
        .ok_or(Mp4Error::Damaged(
            "it has no table of contents (`moov`), as when a recording was cut off",
        ))?;
    let (trak, descriptions) = h264_track(moov.body)?;
    let head = find(trak, b"tkhd").and_then(TrackHead::read);
    let mut extents = Extents::default();
    if !moov.whole {
        extents.damage = Some(Mp4Error::Damaged("its table of contents is cut off"));
    }
    let stbl = find_in(trak, &[b"mdia", b"minf", b"stbl"]).unwrap_or_default();
    extents.of_tables(stbl);
    if let Some(head) = &head {
        let defaults = FragmentDefaults::of(moov.body);
        for moof in boxes(file).filter(|found| found.kind == *b"moof") {
            extents.of_fragment(&moof, head.id, &defaults);
        }
    }
    let ticks = Ticks::of(trak, &extents);
    let mut track = Track {
        samples: Vec::new(),
        turn: turn(moov.body, head.as_ref()),
        damage: extents.damage,
    };
    let mut bytes_left = file.len().saturating_mul(MAX_OVERLAP);
    for extent in extents.found {
        let bytes = usize::try_from(extent.bytes).unwrap_or(usize::MAX);
        let Some(left) = bytes_left.checked_sub(bytes) else {
            track.damaged(Mp4Error::Damaged("its pictures lie over each other"));
            break;
        };
        bytes_left = left;
        let sample = usize::try_from(extent.offset)
            .ok()
            .and_then(|from| file.get(from..from.checked_add(bytes)?))
            .ok_or(Mp4Error::Damaged(
                "it ends before its last picture: copy it again",
            ))
            .and_then(|sample| descriptions.split(extent.description, sample))
            .map(|sample| Sample {
                time: ticks
                    .as_ref()
                    .zip(extent.time)
                    .map(|(ticks, time)| ticks.time(time)),
                ..sample
            });
        match sample {
            // An empty sample means that the picture before it is shown on; none is missing.
            Ok(sample) if sample.nals.is_empty() => {}
            Ok(sample) => track.samples.push(sample),
            Err(error) => {
                track.damaged(error);
                track.samples.push(Sample {
                    nals: Vec::new(),
                    sets: Rc::default(),
                    time: None,
                });
            }
        }
    }
    Ok(track)
}

impl Track<'_> {
    fn damaged(&mut self, error: Mp4Error) {
        self.damage.get_or_insert(error);
    }
}

/// What the times of a track count in.
#[derive(Debug)]
struct Ticks {
    per_second: u32,
    /// When the first picture is shown.
    first: i64,
}

impl Ticks {
    /// None if the track does not say (8.4.2), or has no times.
    fn of(trak: &[u8], extents: &Extents) -> Option<Self> {
        let mut fields = Fields(find_in(trak, &[b"mdia", b"mdhd"])?);
        let (version, _) = fields.version()?;
        fields.bytes(if version == 1 { 16 } else { 8 })?; // creation and modification time
        let shown_at = extents.found.iter().filter_map(|extent| extent.time);
        Some(Self {
            per_second: fields.u32().filter(|per_second| *per_second > 0)?,
            first: shown_at.map(|time| time.shown_at).min()?,
        })
    }

    fn time(&self, time: SampleTime) -> PictureTime {
        PictureTime {
            shown_at: self.duration(time.shown_at.saturating_sub(self.first).unsigned_abs()),
            lasts: self.duration(time.lasts.into()),
        }
    }

    fn duration(&self, ticks: u64) -> Duration {
        let per_second = u64::from(self.per_second);
        let nanos = (ticks % per_second) * 1_000_000_000 / per_second;
        Duration::from_secs(ticks / per_second) + Duration::from_nanos(nanos)
    }
}

#[derive(Debug)]
struct Descriptions<'a>(Vec<Description<'a>>);

impl<'a> Descriptions<'a> {
    fn of(trak: &'a [u8]) -> Self {
        let stsd = find_in(trak, &[b"mdia", b"minf", b"stbl", b"stsd"]);
        // The entries stand behind version, flags and count.
        let entries = stsd.and_then(|stsd| stsd.get(8..)).unwrap_or_default();
        Self(
            boxes(entries)
                .map(|entry| Description::of(entry.kind, entry.body))
                .collect(),
        )
    }

    fn has_h264(&self) -> bool {
        let is_h264 = |description| matches!(description, &Description::H264(_));
        self.0.iter().any(is_h264)
    }

    /// Splits a sample into its NAL units, by the description with this index, which counts from 1.
    fn split(&self, index: u32, sample: &'a [u8]) -> Result<Sample<'a>, Mp4Error> {
        let at = usize::try_from(index).unwrap_or(0).saturating_sub(1);
        match self.0.get(at).or(self.0.first()) {
            Some(Description::H264(config)) => Ok(Sample {
                nals: split(sample, config.length_bytes)?,
                sets: Rc::clone(&config.sets),
                time: None,
            }),
            Some(Description::Other(codec)) => Err(Mp4Error::OtherCodec {
                codec: codec.clone(),
            }),
            None => Err(Mp4Error::NoVideo),
        }
    }
}

/// The track with H.264 that is for video and enabled, else the first with H.264.
fn h264_track(moov: &[u8]) -> Result<(&[u8], Descriptions<'_>), Mp4Error> {
    let mut other = None;
    let mut best: Option<((bool, bool), &[u8], Descriptions<'_>)> = None;
    for trak in boxes(moov).filter(|found| found.kind == *b"trak") {
        let descriptions = Descriptions::of(trak.body);
        let is_video = find_in(trak.body, &[b"mdia", b"hdlr"])
            .and_then(|handler| handler.get(8..12))
            .is_some_and(|kind| kind == b"vide");
        if !descriptions.has_h264() {
            let first = descriptions.0.into_iter().next();
            if let (true, Some(Description::Other(codec))) = (is_video, first) {
                other.get_or_insert(codec);
            }
            continue;
        }
        let head = find(trak.body, b"tkhd").and_then(TrackHead::read);
        let fitness = (is_video, head.is_some_and(|head| head.enabled));
        if best.as_ref().is_none_or(|(known, ..)| fitness > *known) {
            best = Some((fitness, trak.body, descriptions));
        }
    }
    match (best, other) {
        (Some((_, trak, descriptions)), _) => Ok((trak, descriptions)),
        (None, Some(codec)) => Err(Mp4Error::OtherCodec { codec }),
        (None, None) => Err(Mp4Error::NoVideo),
    }
}

impl<'a> Description<'a> {
    /// Reads an entry. In visual ones 78 bytes come before the boxes (ISO/IEC 14496-12, 12.1.3).
    fn of(kind: [u8; 4], body: &'a [u8]) -> Self {
        match &kind {
            b"avc1" | b"avc2" | b"avc3" | b"avc4" | b"dva1" | b"dvav" => {
                let config = body.get(78..).and_then(|inner| find(inner, b"avcC"));
                Self::H264(config.map(Config::read).unwrap_or_default())
            }
            b"hev1" | b"hvc1" | b"dvh1" | b"dvhe" => Self::Other("H.265".to_owned()),
            b"vp08" => Self::Other("VP8".to_owned()),
            b"vp09" => Self::Other("VP9".to_owned()),
            b"av01" => Self::Other("AV1".to_owned()),
            b"mp4v" => Self::Other("MPEG-4".to_owned()),
            b"jpeg" | b"mjpa" | b"mjpb" => Self::Other("Motion JPEG".to_owned()),
            b"encv" => Self::Other("encrypted".to_owned()),
            kind => Self::Other(format!("`{}`", kind.escape_ascii())),
        }
    }
}

impl Default for Config<'_> {
    /// Lengths of four bytes, as nearly all files have, and parameter sets in the samples.
    fn default() -> Self {
        Self {
            length_bytes: 4,
            sets: Rc::default(),
        }
    }
}

impl<'a> Config<'a> {
    /// Reads it as far as possible. What follows the sets is not needed.
    fn read(body: &'a [u8]) -> Self {
        let mut config = Self::default();
        let mut sets = Vec::new();
        let mut fields = Fields(body);
        let mut read = || {
            fields.bytes(4)?; // version, profile, constraints, level
            config.length_bytes = usize::from(fields.u8()? & 3) + 1;
            for mask in [0x1f, 0xff] {
                for _ in 0..fields.u8()? & mask {
                    let length = fields.u16()?.into();
                    sets.extend(split_at_start_codes(fields.bytes(length)?));
                }
            }
            Some(())
        };
        let _ = read();
        config.sets = sets.into();
        config
    }
}

/// Splits a sample into its NAL units, before each of which stands its length. What has start codes inside is several NAL
/// units, and a sample without valid lengths may be a byte stream. Zeros at the end are padding.
fn split(sample: &[u8], length_bytes: usize) -> Result<Vec<&[u8]>, Mp4Error> {
    let mut nals = Vec::new();
    let mut rest = sample;
    while let Some((length, behind)) = rest.split_at_checked(length_bytes) {
        let length = length
            .iter()
            .fold(0_usize, |value, byte| value << 8 | usize::from(*byte));
        let Some((nal, behind)) = behind.split_at_checked(length) else {
            break;
        };
        nals.extend(split_at_start_codes(nal));
        rest = behind;
    }
    if rest.iter().all(|byte| *byte == 0) {
        Ok(nals)
    } else if sample.starts_with(&[0, 0, 1]) || sample.starts_with(&[0, 0, 0, 1]) {
        Ok(annex_b(sample).collect())
    } else {
        Err(Mp4Error::Damaged("a picture in it is shorter than it says"))
    }
}

/// The fields of `tkhd` (8.3.2) that are needed.
#[derive(Debug)]
struct TrackHead {
    id: u32,
    enabled: bool,
    matrix: Option<Matrix>,
}

impl TrackHead {
    fn read(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let (version, flags) = fields.version()?;
        let is_long = version == 1;
        fields.bytes(if is_long { 16 } else { 8 })?; // creation and modification time
        let id = fields.u32()?;
        // A reserved word, the duration, 16 bytes of layer, group, volume and reserved ones.
        let before_matrix = fields.bytes(4 + if is_long { 8 } else { 4 } + 16);
        Some(Self {
            id,
            enabled: flags & 1 != 0,
            matrix: before_matrix.and_then(|_| Matrix::read(fields)),
        })
    }
}

/// The part of a transformation matrix (6.2.2) that turns: the directions of a picture's axes, as -1, 0 or 1.
#[derive(Debug, Clone, Copy)]
struct Matrix {
    /// The direction of rows: the signs of a and b.
    x: [i8; 2],
    /// The direction of columns: the signs of c and d.
    y: [i8; 2],
}

impl Matrix {
    fn read(mut fields: Fields<'_>) -> Option<Self> {
        let mut axis = || {
            let axis = [fields.i32()?.signum(), fields.i32()?.signum()];
            fields.i32()?;
            Some(axis.map(|sign| i8::try_from(sign).unwrap_or(0)))
        };
        Some(Self {
            x: axis()?,
            y: axis()?,
        })
    }

    /// Applies this matrix and then the other one.
    fn then(self, other: Self) -> Self {
        let through =
            |axis: [i8; 2]| [0, 1].map(|at| axis[0] * other.x[at] + axis[1] * other.y[at]);
        Self {
            x: through(self.x),
            y: through(self.y),
        }
    }

    /// How it turns pictures, if it is made of quarter turns and mirrors. Others leave pictures as they are.
    fn turn(self) -> Option<Turn> {
        match (self.x, self.y) {
            ([a, 0], [0, d]) if a != 0 && d != 0 => Some(Turn {
                transpose: false,
                mirror_x: a < 0,
                mirror_y: d < 0,
            }),
            ([0, b], [c, 0]) if b != 0 && c != 0 => Some(Turn {
                transpose: true,
                mirror_x: c < 0,
                mirror_y: b < 0,
            }),
            _ => None,
        }
    }
}

/// How the matrices of the track and of the movie turn pictures together.
fn turn(moov: &[u8], head: Option<&TrackHead>) -> Turn {
    let of_movie = find(moov, b"mvhd").and_then(|mvhd| {
        let mut fields = Fields(mvhd);
        let (version, _) = fields.version()?;
        // Skips times, scale and duration, then rate, volume and reserved bytes.
        fields.bytes(if version == 1 { 28 } else { 16 } + 16)?;
        Matrix::read(fields)
    });
    let of_track = head.and_then(|head| head.matrix);
    let both = match (of_track, of_movie.filter(|matrix| matrix.turn().is_some())) {
        (Some(of_track), Some(of_movie)) => Some(of_track.then(of_movie)),
        (matrix, other) => matrix.or(other),
    };
    both.and_then(Matrix::turn).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_mp4_is_an_error() {
        assert!(!is_mp4(b"\0\0\0\x01\x67\x42\0\x1f"));
        assert!(!is_mp4(b"Once upon a time there was a file of text."));
        let only_a_brand = b"\0\0\0\x10ftypisom\0\0\0\0";
        assert!(is_mp4(only_a_brand));
        assert!(matches!(track(only_a_brand), Err(Mp4Error::Damaged(_))));
        assert!(track(b"").is_err());
        let picture = b"\0\0\0\x10ftypheic\0\0\0\0\0\0\0\x0cmeta\0\0\0\0";
        assert!(!is_mp4(picture));
    }

    #[test]
    fn a_file_of_many_small_boxes_is_walked_a_few_times() {
        let metas = b"\0\0\0\x08meta".repeat(40_000);
        let began = std::time::Instant::now();
        assert!(!is_mp4(&metas));
        assert!(is_mp4(&[&metas[..], b"\0\0\0\x08moov"].concat()));
        // Once for each of them takes a minute.
        assert!(began.elapsed() < std::time::Duration::from_secs(5));
    }

    #[test]
    fn a_picture_that_is_shorter_than_it_says_is_damage() {
        assert_eq!(
            split(&[0, 2, 0x65, 1, 0, 1, 0x41], 2),
            Ok(vec![&[0x65, 1][..], &[0x41]])
        );
        assert!(split(&[0, 9, 0x65], 2).is_err());
        // Also where the length itself is cut off, but not where zeros fill a sample up, or are all of it.
        assert!(split(&[0, 2, 0x65, 1, 7], 2).is_err());
        assert!(split(&[7], 2).is_err() && split(&[0, 7, 0], 3).is_err());
        assert_eq!(split(&[0, 2, 0x65, 1, 0], 2), Ok(vec![&[0x65, 1][..]]));
        for nothing in [&[0; 2][..], &[0; 7], &[0], &[0, 2, 0, 0]] {
            assert_eq!(split(nothing, 2), Ok(Vec::new()));
        }
    }

    #[test]
    fn byte_streams_in_samples_are_split() {
        let inside = [0, 8, 0x67, 1, 0, 0, 0, 1, 0x68, 2];
        assert_eq!(split(&inside, 2), Ok(vec![&[0x67, 1][..], &[0x68, 2]]));
        let instead = [0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x65, 9];
        assert_eq!(split(&instead, 4), Ok(vec![&[0x67, 1][..], &[0x65, 9]]));
    }

    #[test]
    fn quarter_turns_and_mirrors() {
        let matrix = |x, y| Matrix { x, y };
        let right = matrix([0, 1], [-1, 0]);
        let turned = |transpose, mirror_x, mirror_y| {
            Some(Turn {
                transpose,
                mirror_x,
                mirror_y,
            })
        };
        assert_eq!(right.turn(), turned(true, true, false));
        assert_eq!(right.then(right).turn(), turned(false, true, true));
        assert_eq!(
            right.then(right).then(right).turn(),
            turned(true, false, true)
        );
        assert_eq!(matrix([-1, 0], [0, 1]).turn(), turned(false, true, false));
        assert_eq!(matrix([1, 1], [-1, 1]).turn(), None);
        assert_eq!(matrix([0, 0], [0, 0]).turn(), None);
    }
}
