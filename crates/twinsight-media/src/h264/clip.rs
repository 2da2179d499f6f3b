//! Clips: a file with an H.264 byte stream (Annex B) or with H.264 in MP4 comes in, its access units in memory go out.
//! Development cameras play them, the command `detect` decodes them.
//!
//! Decoding can begin at every keyframe of a clip, because all parameter sets that came before it stand before it, sequence
//! parameter sets first.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use super::clip_units::ClipUnit;
use super::clip_units::Units;
pub use super::mp4::PictureTime;
use super::mp4::{self, Mp4Error, Turn};
use super::nal::{NalType, annex_b};
use super::sps::Sps;

/// Larger files are refused, because clips are held in memory.
pub const MAX_CLIP_BYTES: u64 = 256 * 1024 * 1024;

/// The access units of a clip.
#[derive(Debug, Clone)]
pub struct Clip {
    units: Vec<ClipUnit>,
    turn: Turn,
    damage: Option<NotAClip>,
}

/// Why a file cannot be read into memory.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is too large.
    #[error("it has more than the {MAX_CLIP_BYTES} bytes that are held in memory")]
    TooLarge,
}

/// Why a clip cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClipError {
    /// The file cannot be read.
    #[error("cannot read the clip {} ({source}): name an H.264 byte stream or an MP4 file that is there and readable", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is too large to be held in memory.
    #[error("the clip {} has more than the {MAX_CLIP_BYTES} bytes that are held in memory: cut it", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// There is no keyframe in it.
    #[error(
        "{} is neither an H.264 byte stream (Annex B) with a keyframe nor an MP4 file: make one with `ffmpeg -i FILE -c:v libx264 -profile:v baseline -bf 0 -g 20 -f h264 CLIP.h264`",
        path.display()
    )]
    NoKeyframe {
        /// The file.
        path: PathBuf,
    },
    /// An MP4 file that gives no clip.
    #[error(
        "{} {problem}: make one that can be used with `ffmpeg -i FILE -c:v libx264 -profile:v baseline -bf 0 -g 20 CLIP.mp4`",
        path.display()
    )]
    Mp4 {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: Mp4Error,
    },
}

/// Why bytes are not a clip, or not a whole one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAClip {
    /// There is no keyframe to begin with.
    #[error("is an H.264 byte stream without a keyframe")]
    NoKeyframe,
    /// An MP4 file without a keyframe in its video track.
    #[error("is an MP4 file whose H.264 has no keyframe")]
    NoKeyframeInMp4,
    /// An MP4 file that gives no or not all access units.
    #[error(transparent)]
    Mp4(#[from] Mp4Error),
    /// Its parameter sets would fill the memory, since they are put before each keyframe.
    #[error("has parameter sets of a size that no encoder makes")]
    TooLarge,
}

/// Reads a file, pipe or device into memory, if it is not larger than [`MAX_CLIP_BYTES`].
///
/// # Errors
/// When it cannot be read or is larger.
pub fn read_bounded(path: &Path) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    let mut file = std::fs::File::open(path)?.take(MAX_CLIP_BYTES + 1);
    file.read_to_end(&mut bytes)?;
    if file.limit() == 0 {
        return Err(ReadError::TooLarge);
    }
    Ok(bytes)
}

impl Clip {
    /// Reads a byte stream or an MP4 file, from its first keyframe on.
    ///
    /// # Errors
    /// When the file cannot be read, is too large, or holds no keyframe.
    pub fn read(path: &Path) -> Result<Self, ClipError> {
        let path = || path.to_owned();
        let bytes = read_bounded(&path()).map_err(|error| match error {
            ReadError::Io(source) => ClipError::Read {
                path: path(),
                source,
            },
            ReadError::TooLarge => ClipError::TooLarge { path: path() },
        })?;
        let clip = Self::from_bytes(&bytes).map_err(|error| match error {
            NotAClip::Mp4(problem) => ClipError::Mp4 {
                path: path(),
                problem,
            },
            NotAClip::NoKeyframe | NotAClip::NoKeyframeInMp4 => {
                ClipError::NoKeyframe { path: path() }
            }
            NotAClip::TooLarge => ClipError::TooLarge { path: path() },
        })?;
        if let Some(damage) = clip.damage() {
            tracing::warn!(clip = %path().display(), "the clip {damage}: what is whole of it is used");
        }
        Ok(clip)
    }

    /// The access units of a byte stream or MP4 file, from the first keyframe on.
    ///
    /// # Errors
    /// When it is neither, or has no keyframe.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAClip> {
        if !mp4::is_mp4(bytes) {
            return Self::from_annex_b(bytes).ok_or(NotAClip::NoKeyframe);
        }
        let track = mp4::track(bytes)?;
        let mut units = Units::default();
        for sample in &track.samples {
            if sample.nals.is_empty() {
                units.close();
                continue;
            }
            units.begin(&sample.sets);
            units.push_sample(&sample.nals, sample.time);
        }
        let damage = track.damage.map(NotAClip::Mp4);
        let clip = Self::of(units, track.turn, damage.clone());
        clip.ok_or(damage.unwrap_or(NotAClip::NoKeyframeInMp4))
    }

    /// The access units of a byte stream from its first keyframe on, or none if it has no keyframe.
    pub fn from_annex_b(stream: &[u8]) -> Option<Self> {
        let mut units = Units::default();
        units.push_stream(annex_b(stream));
        Self::of(units, Turn::default(), None)
    }

    /// A clip of these units, if there are any: they begin with a keyframe.
    fn of(units: Units<'_>, turn: Turn, damage: Option<NotAClip>) -> Option<Self> {
        let too_large = units.is_too_large().then_some(NotAClip::TooLarge);
        let units = units.finish();
        (!units.is_empty()).then_some(Self {
            units,
            turn,
            damage: too_large.or(damage),
        })
    }

    /// How its pictures have to be turned to be upright.
    pub fn turn(&self) -> Turn {
        self.turn
    }

    /// What is wrong with its file, if anything. Its units are those that are whole.
    pub fn damage(&self) -> Option<&NotAClip> {
        self.damage.as_ref()
    }

    /// The access units. There is at least one, and the first is a keyframe.
    pub fn units(&self) -> &[ClipUnit] {
        &self.units
    }

    /// When each picture is shown, in the order in which they are shown; none where the file does not say.
    pub fn picture_times(&self) -> Option<Vec<PictureTime>> {
        let times: Option<Vec<PictureTime>> = self.units.iter().map(|unit| unit.time).collect();
        let mut times = times?;
        times.sort_by_key(|time| time.shown_at);
        // Times that are all the same tell nothing.
        let [first, .., last] = &times[..] else {
            return Some(times).filter(|times| times.iter().any(|time| !time.lasts.is_zero()));
        };
        let told = first.shown_at < last.shown_at;
        told.then_some(times)
    }

    /// The time from one picture to the next by the parameter sets of the video, where those say it.
    pub fn picture_interval(&self) -> Option<Duration> {
        let first = self.units.first()?;
        let is_sps = |nal: &&[u8]| {
            let header = nal.first();
            header.map(|header| NalType::of(*header)) == Some(NalType::Sps)
        };
        let mut sets = annex_b(&first.data).filter(is_sps);
        sets.find_map(|nal| Sps::parse(nal).ok()?.picture_interval)
    }

    /// The index of the first keyframe at or after `index`, wrapping around.
    pub fn keyframe_from(&self, index: usize) -> usize {
        let from = index % self.units.len();
        let ahead = self.units[from..].iter().position(|unit| unit.is_idr);
        ahead.map_or(0, |distance| from + distance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_clip_has_795_pictures_and_a_keyframe_every_30() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../media/pedestrians.h264");
        let clip = Clip::read(&path).unwrap();
        assert_eq!(clip.units().len(), 795);
        assert_eq!(clip.picture_interval(), Some(Duration::from_millis(100)));
        let keyframes: Vec<usize> = (0..795).filter(|n| clip.units()[*n].is_idr).collect();
        assert!(
            keyframes.windows(2).all(|pair| pair[1] - pair[0] <= 30),
            "{keyframes:?}"
        );
        assert_eq!(
            (clip.keyframe_from(1), clip.keyframe_from(794)),
            (keyframes[1], 0)
        );
    }

    #[test]
    fn what_is_no_clip_is_said() {
        assert!(Clip::from_annex_b(b"not a clip").is_none());
        let error = Clip::read(Path::new("no/such/clip.h264"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("no/such/clip.h264"), "{error}");
    }

    /// What is in each unit of a fault file: the letter of each NAL unit's type.
    fn kinds(clip: &Clip) -> Vec<String> {
        let letter = |nal: &[u8]| match NalType::of(nal[0]) {
            NalType::Sps => 'S',
            NalType::Pps => 'P',
            NalType::IdrSlice => 'I',
            NalType::NonIdrSlice => 'n',
            _ => '.',
        };
        let units = clip.units().iter();
        units
            .map(|unit| annex_b(&unit.data).map(letter).collect())
            .collect()
    }

    /// An IDR picture, or another one, of which nobody reads more than the first bytes.
    const IDR: &[u8] = &[0, 0, 1, 0x65, 0x88, 0x80, 0x10];
    const OTHER: &[u8] = &[0, 0, 1, 0x41, 0x9a, 0x22];

    fn sets() -> (Vec<u8>, Vec<u8>) {
        let with_code = |nal: Vec<u8>| [&[0, 0, 1][..], &nal].concat();
        (
            with_code(super::super::sps::tests::baseline_sps(0, 64, 48)),
            with_code(super::super::sps::tests::pps(0, 0)),
        )
    }

    fn kinds_of(parts: &[&[u8]]) -> Vec<String> {
        kinds(&Clip::from_annex_b(&parts.concat()).unwrap())
    }

    #[test]
    fn sets_before_what_is_left_out_stand_before_every_keyframe() {
        let (sps, pps) = sets();
        assert_eq!(
            kinds_of(&[&sps, &pps, OTHER, OTHER, IDR, OTHER, IDR]),
            ["SPI", "n", "SPI"]
        );
        // The other way round, with zeros between and garbage before them.
        assert_eq!(
            kinds_of(&[
                b"garbage", &pps, &[0; 9], &sps, &[0; 5], IDR, &[0; 7], OTHER
            ]),
            ["SPI", "n"]
        );
    }

    #[test]
    fn a_picture_set_without_its_sequence_is_not_repeated() {
        let (sps, pps) = sets();
        let stray = [&[0, 0, 1][..], &super::super::sps::tests::pps(3, 7)].concat();
        assert_eq!(kinds_of(&[&stray, &sps, &pps, IDR]), ["SPI"]);
    }

    fn boxed(kind: &[u8; 4], body: &[&[u8]]) -> Vec<u8> {
        let body = body.concat();
        let size = u32::try_from(8 + body.len()).unwrap();
        [&size.to_be_bytes()[..], kind, &body].concat()
    }

    /// A full box of words.
    fn table(kind: &[u8; 4], words: &[u32]) -> Vec<u8> {
        let words: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        boxed(kind, &[&[0; 4], &words])
    }

    /// A NAL unit behind its length of four bytes.
    fn with_length(nal: &[u8]) -> Vec<u8> {
        let length = u32::try_from(nal.len()).unwrap();
        [&length.to_be_bytes()[..], nal].concat()
    }

    /// A file whose descriptions have an SPS and a PPS each, and whose samples name theirs, from 1 on.
    fn mp4(descriptions: &[[Vec<u8>; 2]], samples: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let entry = |[sps, pps]: &[Vec<u8>; 2]| {
            let length = |set: &[u8]| u16::try_from(set.len()).unwrap().to_be_bytes();
            let config = [
                &[1, 66, 0, 31, 0xff, 0xe1][..],
                &length(sps),
                sps,
                &[1],
                &length(pps),
                pps,
            ];
            boxed(b"avc1", &[&[0; 78], &boxed(b"avcC", &config)])
        };
        let entries: Vec<u8> = descriptions.iter().flat_map(entry).collect();
        let count = u32::try_from(samples.len()).unwrap();
        let (mut sizes, mut chunks, mut places) = (vec![0, count], vec![count], vec![count]);
        let (mut data, mut at) = (Vec::new(), 8);
        for (chunk, (description, sample)) in (1..).zip(samples) {
            let bytes = u32::try_from(sample.len()).unwrap();
            sizes.push(bytes);
            chunks.extend([chunk, 1, *description]);
            places.push(at);
            at += bytes;
            data.extend(sample);
        }
        let tables = [
            boxed(b"stsd", &[&[0; 8], &entries]),
            table(b"stsz", &sizes),
            table(b"stsc", &chunks),
            table(b"stco", &places),
        ];
        let stbl = boxed(b"stbl", &[&tables.concat()]);
        let mdia = boxed(b"mdia", &[&boxed(b"minf", &[&stbl])]);
        let moov = boxed(b"moov", &[&boxed(b"trak", &[&mdia])]);
        [boxed(b"mdat", &[&data]), moov].concat()
    }

    #[test]
    fn each_recording_of_a_joined_file_has_its_own_sets() {
        use super::super::sps::tests::{baseline_sps, pps};
        let [small, large] = [(64, 48), (128, 96)]
            .map(|(width, height)| [baseline_sps(0, width, height), pps(0, 0)]);
        let idr = with_length(&IDR[3..]);
        let other = with_length(&OTHER[3..]);
        let samples = [
            (1, idr.clone()),
            (1, other.clone()),
            (2, idr.clone()),
            (2, other),
            (1, idr),
        ];
        let clip = Clip::from_bytes(&mp4(&[small.clone(), large.clone()], &samples)).unwrap();
        assert_eq!(kinds(&clip), ["SPI", "n", "SPI", "n", "SPI"]);
        for (unit, expected) in [(0, &small), (2, &large), (4, &small)] {
            let first = annex_b(&clip.units()[unit].data).next();
            assert_eq!(first, Some(&expected[0][..]), "unit {unit}");
        }
        assert!(clip.damage().is_none());
    }

    #[test]
    fn a_sample_of_nothing_leaves_no_gap() {
        let (sps, pps) = sets();
        let sets = [[sps[3..].to_vec(), pps[3..].to_vec()]];
        let idr = with_length(&IDR[3..]);
        let other = with_length(&OTHER[3..]);
        for nothing in [&[0; 4][..], &[0; 11], &[0, 0, 0, 3, 0, 0, 0], &[0; 3]] {
            let samples = [idr.clone(), nothing.to_vec(), other.clone()].map(|data| (1, data));
            let clip = Clip::from_bytes(&mp4(&sets, &samples)).unwrap();
            assert_eq!(kinds(&clip), ["SPI", "n"], "{nothing:?}");
            assert!(clip.damage().is_none(), "{nothing:?}");
        }
        // What is neither nothing nor whole is missing, and said.
        for broken in [&[7][..], &[0, 0, 7], &[0, 0, 0, 9, 0x41]] {
            let samples = [&idr, broken, &other, &idr].map(|data| (1, data.to_vec()));
            let clip = Clip::from_bytes(&mp4(&sets, &samples)).unwrap();
            assert_eq!(kinds(&clip), ["SPI", "SPI"], "{broken:?}");
            assert!(clip.damage().is_some(), "{broken:?}");
        }
    }

    #[test]
    fn a_prefix_belongs_to_the_slice_behind_it() {
        let (sps, pps) = sets();
        let prefix = [0, 0, 1, 0x6e, 0xc0, 0x80, 7];
        let second_slice = [0, 0, 1, 0x41, 0x46, 0x22];
        assert_eq!(
            kinds_of(&[
                &sps,
                &pps,
                &prefix,
                IDR,
                &prefix,
                OTHER,
                &prefix,
                &second_slice
            ]),
            ["SP.I", ".n.n"]
        );
    }

    #[test]
    fn a_device_without_end_is_too_large() {
        let error = Clip::read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(error.contains("held in memory"), "{error}");
    }
}
