//! Writes H.264 in MP4 (ISO/IEC 14496-12 and -15): access units of one size come in with how long each is shown, a file goes out
//! whose table of contents stands before the pictures, so that it plays while it is still being loaded. The caller's thread runs
//! it.
//!
//! The pictures are written as they come. Room for the table is left before them, which is known to suffice because the caller
//! says how many there will be at most.

use std::io::{self, Seek, SeekFrom, Write};
use std::time::Duration;

use super::super::nal::{NalType, annex_b};
use crate::picture::PictureSize;

/// Ticks a second of the file's times. All usual frame rates have a whole number of them in a frame.
const TICKS_PER_SECOND: u32 = 90_000;

/// Bytes of the table of contents without its rows, and of the box that fills what is left of its room.
const FIXED_ROOM_BYTES: u64 = 4096;

/// Bytes of a picture's rows: 8 in `stts`, 4 in `stsz` and 4 in `stss`.
const ROOM_BYTES_PER_PICTURE: u64 = 16;

/// Tables of more rows would not fit boxes of 32 bits; at 30 pictures a second it is half a year.
const MAX_PICTURES: usize = 1 << 27;

/// The header of `mdat` with a size of 64 bits.
const MDAT_HEADER_BYTES: u64 = 16;

/// Why a file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The first access unit is no keyframe with its parameter sets.
    #[error("the video does not begin with a keyframe and its parameter sets")]
    NoParameterSets,
    /// Parameter sets changed, a picture or table is too large, or there are more pictures than announced.
    #[error("{0}, which this MP4 file cannot hold")]
    Unfit(&'static str),
}

/// A file that is being written. It is not whole before [`finish`](Self::finish).
#[derive(Debug)]
pub struct Mp4Writer<W> {
    out: W,
    size: PictureSize,
    room_bytes: u64,
    max_pictures: usize,
    sets: Option<Sets>,
    /// The bytes of each sample.
    sizes: Vec<u32>,
    /// How long each sample is shown, in ticks: runs of a count and a duration.
    durations: Vec<(u32, u32)>,
    /// The numbers of the samples that are keyframes, from 1.
    keyframes: Vec<u32>,
    /// The time up to the end of the last sample. Ticks are counted from here, so that rounding does not add up.
    shown: Duration,
    ticks: u64,
    data_bytes: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Sets {
    sps: Vec<u8>,
    pps: Vec<u8>,
}

impl<W: Write + Seek> Mp4Writer<W> {
    /// Begins a file of at most this many pictures.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(mut out: W, size: PictureSize, max_pictures: usize) -> Result<Self, WriteError> {
        if max_pictures > MAX_PICTURES {
            return Err(TOO_LARGE);
        }
        let rows = u64::try_from(max_pictures).map_err(|_| TOO_LARGE)?;
        let room_bytes = rows * ROOM_BYTES_PER_PICTURE + FIXED_ROOM_BYTES;
        out.seek(SeekFrom::Start(room_bytes))?;
        // Sizes of 64 bits, since how much comes is not known.
        out.write_all(&[0, 0, 0, 1])?;
        out.write_all(b"mdat")?;
        out.write_all(&[0; 8])?;
        Ok(Self {
            out,
            size,
            room_bytes,
            max_pictures,
            sets: None,
            sizes: Vec::new(),
            durations: Vec::new(),
            keyframes: Vec::new(),
            shown: Duration::ZERO,
            ticks: 0,
            data_bytes: 0,
        })
    }

    /// Writes an access unit (Annex B), which is shown for this long. The first has parameter sets, and all others the same or none.
    ///
    /// # Errors
    /// When it cannot be written, or is not as described.
    pub fn push(&mut self, unit: &[u8], is_idr: bool, lasts: Duration) -> Result<(), WriteError> {
        if self.sizes.len() >= self.max_pictures {
            return Err(WriteError::Unfit("there are more pictures than announced"));
        }
        let mut sets = Sets {
            sps: Vec::new(),
            pps: Vec::new(),
        };
        let mut bytes = 0_u64;
        for nal in annex_b(unit) {
            match nal.first().map(|header| NalType::of(*header)) {
                None | Some(NalType::Delimiter) => {}
                Some(NalType::Sps) => sets.sps = nal.to_vec(),
                Some(NalType::Pps) => sets.pps = nal.to_vec(),
                Some(_) => {
                    let length = u32::try_from(nal.len()).map_err(|_| TOO_LARGE)?;
                    self.out.write_all(&length.to_be_bytes())?;
                    self.out.write_all(nal)?;
                    bytes += 4 + u64::from(length);
                }
            }
        }
        let has_sets = !sets.sps.is_empty() && !sets.pps.is_empty();
        match &self.sets {
            None if has_sets && is_idr => self.sets = Some(sets),
            None => return Err(WriteError::NoParameterSets),
            Some(known) if has_sets && *known != sets => {
                return Err(WriteError::Unfit("the parameter sets change"));
            }
            Some(_) => {}
        }
        self.sizes
            .push(u32::try_from(bytes).map_err(|_| TOO_LARGE)?);
        self.data_bytes += bytes;
        if is_idr {
            self.keyframes.push(count(self.sizes.len())?);
        }
        let lasts = self.take_ticks(lasts)?;
        match self.durations.last_mut() {
            Some((count, known)) if *known == lasts => *count += 1,
            _ => self.durations.push((1, lasts)),
        }
        Ok(())
    }

    /// Writes the table of contents, and gives back what was written to.
    ///
    /// # Errors
    /// When it cannot be written, or no access unit came.
    pub fn finish(mut self) -> Result<W, WriteError> {
        let head = [self.file_type(), self.movie()?].concat();
        let head_bytes = u64::try_from(head.len()).unwrap_or(u64::MAX);
        let left = self.room_bytes.checked_sub(head_bytes);
        let free = left.filter(|left| *left >= 8).ok_or(TOO_LARGE)?;
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&head)?;
        let free = u32::try_from(free).map_err(|_| TOO_LARGE)?;
        self.out.write_all(&free.to_be_bytes())?;
        self.out.write_all(b"free")?;
        let size = MDAT_HEADER_BYTES + self.data_bytes;
        self.out.seek(SeekFrom::Start(self.room_bytes + 8))?;
        self.out.write_all(&size.to_be_bytes())?;
        self.out.seek(SeekFrom::End(0))?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn take_ticks(&mut self, lasts: Duration) -> Result<u32, WriteError> {
        self.shown = self.shown.saturating_add(lasts);
        let end = self.shown.as_nanos() * u128::from(TICKS_PER_SECOND);
        let end = u64::try_from((end + 500_000_000) / 1_000_000_000).unwrap_or(u64::MAX);
        // A picture of no duration would not be shown at all.
        let ticks = u32::try_from(end.saturating_sub(self.ticks).max(1));
        let ticks = ticks.map_err(|_| WriteError::Unfit("a picture is shown for hours"))?;
        self.ticks += u64::from(ticks);
        Ok(ticks)
    }

    fn file_type(&self) -> Vec<u8> {
        boxed(b"ftyp", &[b"isom", &[0, 0, 2, 0], b"isomiso2avc1mp41"])
    }

    fn movie(&self) -> Result<Vec<u8>, WriteError> {
        let sets = self.sets.as_ref().ok_or(WriteError::NoParameterSets)?;
        let duration = self.ticks.to_be_bytes();
        let scale = TICKS_PER_SECOND.to_be_bytes();
        let matrix = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];
        let matrix: Vec<u8> = matrix
            .iter()
            .flat_map(|word: &u32| word.to_be_bytes())
            .collect();
        let side = |px: usize| u16::try_from(px).map_err(|_| TOO_LARGE);
        let (width, height) = (side(self.size.width_px)?, side(self.size.height_px)?);
        let (width, height) = (width.to_be_bytes(), height.to_be_bytes());
        // Version 1 has times of 64 bits; nobody asks when the file was made.
        let mvhd = full(
            b"mvhd",
            1,
            0,
            &[
                &[0; 16],
                &scale,
                &duration,
                &[0, 1, 0, 0, 1, 0],
                &[0; 10],
                &matrix,
                &[0; 24],
                &[0, 0, 0, 2],
            ],
        );
        let tkhd = full(
            b"tkhd",
            1,
            3,
            &[
                &[0; 16],
                &[0, 0, 0, 1, 0, 0, 0, 0],
                &duration,
                &[0; 16],
                &matrix,
                &width,
                &[0; 2],
                &height,
                &[0; 2],
            ],
        );
        // 0x55c4 is the language `und`.
        let mdhd = full(
            b"mdhd",
            1,
            0,
            &[&[0; 16], &scale, &duration, &[0x55, 0xc4, 0, 0]],
        );
        let hdlr = full(b"hdlr", 0, 0, &[&[0; 4], b"vide", &[0; 12], b"video\0"]);
        let dref = full(b"dref", 0, 0, &[&[0, 0, 0, 1], &full(b"url ", 0, 1, &[])]);
        let minf = boxed(
            b"minf",
            &[
                &full(b"vmhd", 0, 1, &[&[0; 8]]),
                &boxed(b"dinf", &[&dref]),
                &self.sample_table(sets, [width, height])?,
            ],
        );
        let mdia = boxed(b"mdia", &[&mdhd, &hdlr, &minf]);
        Ok(boxed(b"moov", &[&mvhd, &boxed(b"trak", &[&tkhd, &mdia])]))
    }

    fn sample_table(
        &self,
        sets: &Sets,
        [width, height]: [[u8; 2]; 2],
    ) -> Result<Vec<u8>, WriteError> {
        let length = |set: &[u8]| u16::try_from(set.len()).map_err(|_| TOO_LARGE);
        let profile = sets.sps.get(1..4).ok_or(WriteError::NoParameterSets)?;
        // Lengths of four bytes, and one set of each kind.
        let config = boxed(
            b"avcC",
            &[
                &[1],
                profile,
                &[0xff, 0xe1],
                &length(&sets.sps)?.to_be_bytes(),
                &sets.sps,
                &[1],
                &length(&sets.pps)?.to_be_bytes(),
                &sets.pps,
            ],
        );
        // What `rgb_to_i420` makes: BT.601 of limited range. Without it players guess by the size.
        let color = boxed(b"colr", &[b"nclx", &[0, 6, 0, 6, 0, 6, 0]]);
        let entry = boxed(
            b"avc1",
            &[
                &[0, 0, 0, 0, 0, 0, 0, 1],
                &[0; 16],
                &width,
                &height,
                // 72 dots an inch, a reserved word, one picture a sample, no name of a compressor, 24 bits.
                &[0, 72, 0, 0, 0, 72, 0, 0, 0, 0, 0, 0, 0, 1],
                &[0; 32],
                &[0, 24, 0xff, 0xff],
                &config,
                &color,
            ],
        );
        let samples = count(self.sizes.len())?;
        let offset = self.room_bytes + MDAT_HEADER_BYTES;
        let durations = self
            .durations
            .iter()
            .flat_map(|(count, ticks)| [*count, *ticks]);
        Ok(boxed(
            b"stbl",
            &[
                &full(b"stsd", 0, 0, &[&[0, 0, 0, 1], &entry]),
                &table(b"stts", count(self.durations.len())?, durations),
                &table(
                    b"stss",
                    count(self.keyframes.len())?,
                    self.keyframes.iter().copied(),
                ),
                // All samples lie in one chunk.
                &table(b"stsc", 1, [1, samples, 1]),
                &full(
                    b"stsz",
                    0,
                    0,
                    &[
                        &[0; 4],
                        &samples.to_be_bytes(),
                        &words(self.sizes.iter().copied()),
                    ],
                ),
                &full(b"co64", 0, 0, &[&[0, 0, 0, 1], &offset.to_be_bytes()]),
            ],
        ))
    }
}

const TOO_LARGE: WriteError = WriteError::Unfit("it is too large");

fn count(length: usize) -> Result<u32, WriteError> {
    u32::try_from(length).map_err(|_| TOO_LARGE)
}

fn boxed(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let bytes = 8 + parts.iter().map(|part| part.len()).sum::<usize>();
    let size =
        u32::try_from(bytes).expect("tables are below 2^32 bytes because pictures are few enough");
    let mut out = Vec::with_capacity(bytes);
    out.extend(size.to_be_bytes());
    out.extend(kind);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// A box that begins with a version and flags.
fn full(kind: &[u8; 4], version: u8, flags: u32, parts: &[&[u8]]) -> Vec<u8> {
    let head = (u32::from(version) << 24 | flags).to_be_bytes();
    boxed(kind, &[&[&head[..]], parts].concat())
}

/// A full box of a count and rows of words.
fn table(kind: &[u8; 4], rows: u32, values: impl IntoIterator<Item = u32>) -> Vec<u8> {
    full(kind, 0, 0, &[&rows.to_be_bytes(), &words(values)])
}

fn words(values: impl IntoIterator<Item = u32>) -> Vec<u8> {
    values.into_iter().flat_map(u32::to_be_bytes).collect()
}

#[cfg(test)]
#[cfg(feature = "openh264")]
mod tests {
    use std::io::Cursor;

    use super::super::super::clip::Clip;
    use super::super::super::encode::{Encoder, Rate};
    use super::super::boxes::boxes;
    use super::*;
    use crate::picture::{Color, I420};

    const SIZE: PictureSize = PictureSize {
        width_px: 64,
        height_px: 48,
    };

    /// So many grey pictures, of which the first and the third are keyframes.
    fn units(pictures: u8, size: PictureSize) -> Vec<(Vec<u8>, bool)> {
        let mut encoder = Encoder::new(size, 25.0, Rate::Quality).unwrap();
        (0..pictures)
            .map(|n| {
                let planes = vec![40 + 20 * n; size.i420_bytes()];
                let picture = I420::from_packed(&planes, size, Color::default());
                let encoded = encoder.encode(&picture, n == 2).unwrap();
                (encoded.data, encoded.is_idr)
            })
            .collect()
    }

    fn writer(max_pictures: usize) -> Mp4Writer<Cursor<Vec<u8>>> {
        Mp4Writer::new(Cursor::default(), SIZE, max_pictures).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again_with_its_times() {
        let units = units(5, SIZE);
        let mut writer = writer(9);
        // 1/29.97 s is no whole number of nanoseconds, but of ticks.
        let frame = Duration::from_nanos(33_366_667);
        let lasts = [frame, frame, Duration::from_secs(7), frame, frame];
        for ((data, is_idr), lasts) in units.iter().zip(lasts) {
            writer.push(data, *is_idr, lasts).unwrap();
        }
        let file = writer.finish().unwrap().into_inner();
        let top: Vec<[u8; 4]> = boxes(&file).map(|found| found.kind).collect();
        assert_eq!(top, [*b"ftyp", *b"moov", *b"free", *b"mdat"]);
        assert!(boxes(&file).all(|found| found.whole));

        let clip = Clip::from_bytes(&file).unwrap();
        assert!(clip.damage().is_none());
        let read: Vec<_> = clip.units().iter().map(|unit| unit.is_idr).collect();
        assert_eq!(read, [true, false, true, false, false]);
        for (unit, (data, _)) in clip.units().iter().zip(&units) {
            assert!(annex_b(&unit.data).eq(annex_b(data)));
        }
        let times = clip.picture_times().unwrap();
        let ticks = |time: Duration| (time.as_nanos() * 90_000 + 500_000_000) / 1_000_000_000;
        let read: Vec<_> = times
            .iter()
            .map(|time| (ticks(time.shown_at), ticks(time.lasts)))
            .collect();
        let long = 7 * 90_000;
        assert_eq!(
            read,
            [
                (0, 3003),
                (3003, 3003),
                (6006, long),
                (6006 + long, 3003),
                (9009 + long, 3003)
            ]
        );
    }

    #[test]
    fn rounding_does_not_add_up_and_every_picture_is_shown() {
        let units = units(1, SIZE);
        let mut writer = writer(3001);
        let third = Duration::from_secs(1) / 77;
        for _ in 0..3000 {
            writer.push(&units[0].0, true, third).unwrap();
        }
        assert!(
            writer.ticks.abs_diff(3000 * 90_000 / 77) <= 1,
            "{}",
            writer.ticks
        );
        writer.push(&units[0].0, true, Duration::ZERO).unwrap();
        let times = Clip::from_bytes(&writer.finish().unwrap().into_inner())
            .unwrap()
            .picture_times()
            .unwrap();
        assert_eq!(times.len(), 3001);
        assert!(times.iter().all(|time| !time.lasts.is_zero()));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let units = units(2, SIZE);
        let frame = Duration::from_millis(40);
        let refused = |result: Result<(), WriteError>| result.unwrap_err().to_string();
        let mut writer = writer(2);
        let error = refused(writer.push(&units[1].0, false, frame));
        assert!(error.contains("does not begin with a keyframe"), "{error}");
        assert!(super::tests::writer(2).finish().is_err(), "no pictures");

        let mut writer = super::tests::writer(2);
        writer.push(&units[0].0, true, frame).unwrap();
        let larger = PictureSize {
            width_px: 128,
            ..SIZE
        };
        let error = refused(writer.push(&super::tests::units(1, larger)[0].0, true, frame));
        assert!(error.contains("parameter sets change"), "{error}");
        let mut writer = super::tests::writer(1);
        writer.push(&units[0].0, true, frame).unwrap();
        let error = refused(writer.push(&units[1].0, false, frame));
        assert!(error.contains("more pictures"), "{error}");
    }
}
