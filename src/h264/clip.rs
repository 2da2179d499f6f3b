//! A clip: the access units of an H.264 byte stream (Annex B) or of H.264 in MP4, in memory.
//! Development cameras play them, `detect` decodes them.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::mp4::{self, Mp4Error};
use super::nal::{NalType, START_CODE, SliceStart, annex_b};

/// A clip larger than this is refused: it is held in memory.
const MAX_CLIP_BYTES: u64 = 256 * 1024 * 1024;

/// The access units of a clip.
#[derive(Debug, Clone)]
pub struct Clip {
    units: Vec<ClipUnit>,
}

/// An access unit of a clip.
#[derive(Debug, Clone)]
pub struct ClipUnit {
    /// Its NAL units as a byte stream (Annex B).
    pub data: Bytes,
    /// True when decoding can begin with it.
    pub is_idr: bool,
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
    #[error("the clip {} has {bytes} bytes, more than the {MAX_CLIP_BYTES} that are held in memory: cut it", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
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

/// Why bytes are no clip.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAClip {
    /// There is no keyframe to begin with.
    #[error("is an H.264 byte stream without a keyframe")]
    NoKeyframe,
    /// An MP4 file that gives no access units.
    #[error(transparent)]
    Mp4(#[from] Mp4Error),
}

impl Clip {
    /// Reads a byte stream or an MP4 file. What comes before the first keyframe is left out.
    ///
    /// # Errors
    /// When the file cannot be read, is too large, or holds no keyframe.
    pub fn read(path: &Path) -> Result<Self, ClipError> {
        let read = |source| ClipError::Read {
            path: path.to_owned(),
            source,
        };
        let bytes = std::fs::metadata(path).map_err(read)?.len();
        if bytes > MAX_CLIP_BYTES {
            return Err(ClipError::TooLarge {
                path: path.to_owned(),
                bytes,
            });
        }
        Self::from_bytes(&std::fs::read(path).map_err(read)?).map_err(|error| {
            let path = path.to_owned();
            match error {
                NotAClip::NoKeyframe => ClipError::NoKeyframe { path },
                NotAClip::Mp4(problem) => ClipError::Mp4 { path, problem },
            }
        })
    }

    /// The access units of a byte stream or MP4 file from the first keyframe on.
    ///
    /// # Errors
    /// When it is neither, or has no keyframe.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAClip> {
        if !mp4::is_mp4(bytes) {
            return Self::from_annex_b(bytes).ok_or(NotAClip::NoKeyframe);
        }
        let units = mp4::access_units(bytes)?.into_iter().map(|unit| ClipUnit {
            data: unit.data.into(),
            is_idr: unit.is_idr,
        });
        let units: Vec<ClipUnit> = units.skip_while(|unit| !unit.is_idr).collect();
        if units.is_empty() {
            return Err(NotAClip::NoKeyframe);
        }
        Ok(Self { units })
    }

    /// The access units of a byte stream from its first keyframe on; `None` without one.
    pub fn from_annex_b(stream: &[u8]) -> Option<Self> {
        let mut units = Vec::new();
        let mut unit = UnitBuilder::default();
        for nal in annex_b(stream) {
            if unit.is_complete_before(nal) {
                units.extend(std::mem::take(&mut unit).finish());
            }
            unit.push(nal);
        }
        units.extend(unit.finish());
        let first = units.iter().position(|unit: &ClipUnit| unit.is_idr)?;
        units.drain(..first);
        Some(Self { units })
    }

    /// The access units; never empty, and the first is a keyframe.
    pub fn units(&self) -> &[ClipUnit] {
        &self.units
    }

    /// The index of the first keyframe at or after `index`, wrapping around.
    pub fn keyframe_from(&self, index: usize) -> usize {
        let from = index % self.units.len();
        let ahead = self.units[from..].iter().position(|unit| unit.is_idr);
        ahead.map_or(0, |distance| from + distance)
    }
}

/// Collects the NAL units of one access unit (H.264 clause 7.4.1.2.3, without redundant pictures).
#[derive(Default)]
struct UnitBuilder {
    data: Vec<u8>,
    has_slice: bool,
    is_idr: bool,
}

impl UnitBuilder {
    fn is_complete_before(&self, nal: &[u8]) -> bool {
        let begins_a_unit = match nal.first().map(|header| NalType::of(*header)) {
            Some(NalType::Delimiter | NalType::Sps | NalType::Pps | NalType::Sei) => true,
            Some(kind) if kind.is_slice() => {
                SliceStart::parse(nal).is_some_and(|slice| slice.first_mb == 0)
            }
            _ => false,
        };
        self.has_slice && begins_a_unit
    }

    fn push(&mut self, nal: &[u8]) {
        let kind = nal.first().map(|header| NalType::of(*header));
        self.has_slice |= kind.is_some_and(NalType::is_slice);
        self.is_idr |= kind == Some(NalType::IdrSlice);
        self.data.extend_from_slice(&START_CODE);
        self.data.extend_from_slice(nal);
    }

    fn finish(self) -> Option<ClipUnit> {
        self.has_slice.then(|| ClipUnit {
            data: self.data.into(),
            is_idr: self.is_idr,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_clip_has_795_pictures_and_a_keyframe_every_30() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("media/pedestrians.h264");
        let clip = Clip::read(&path).unwrap();
        assert_eq!(clip.units().len(), 795);
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
}
