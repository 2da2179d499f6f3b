//! Where the samples of a track are in the file: the tables of the movie box and the fragments come in, extents go out in
//! the order of decoding. Counts and offsets of a file may be wrong, so each is checked where it is used.

use std::collections::BTreeMap;

use super::Mp4Error;
use super::boxes::{Boxed, Fields, boxes, find};

/// The most samples of a file that are read: three days at 30 frames a second.
const MAX_SAMPLES: usize = 8 << 20;

/// Where a sample is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) bytes: u32,
    /// Which of the track's descriptions holds for it, from 1 on.
    pub(super) description: u32,
    /// None where the file does not say when its pictures are shown.
    pub(super) time: Option<SampleTime>,
}

/// When a sample's picture is shown, in ticks of its track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SampleTime {
    pub(super) shown_at: i64,
    /// How long after its decoding the next sample is decoded.
    pub(super) lasts: u32,
}

/// The extents found so far.
#[derive(Debug, Default)]
pub(super) struct Extents {
    pub(super) found: Vec<Extent>,
    /// The first thing that is wrong with the tables.
    pub(super) damage: Option<Mp4Error>,
    /// How many samples there were, empty ones included.
    seen: usize,
    /// When the next sample is decoded, in ticks.
    decode_at: i64,
}

/// The defaults of a track's fragments (`trex`).
#[derive(Debug, Clone, Copy)]
pub(super) struct FragmentDefaults {
    description: u32,
    lasts: u32,
    bytes: u32,
}

impl Extents {
    /// Keeps the extent unless it is empty. False if there are too many samples.
    fn push(&mut self, extent: Extent) -> bool {
        if extent.bytes > 0 {
            self.found.push(extent);
        }
        self.count()
    }

    /// Counts a sample, also an empty one or one of another track, so that no file takes long. False if there are too many.
    fn count(&mut self) -> bool {
        self.seen += 1;
        let few = self.seen < MAX_SAMPLES;
        if !few {
            self.damaged("it claims to have millions of pictures");
        }
        few
    }

    /// The time of the next sample, which is shown this much later than decoded.
    fn take_time(&mut self, lasts: u32, shown_later: i32) -> SampleTime {
        let shown_at = self.decode_at.saturating_add(i64::from(shown_later));
        self.decode_at = self.decode_at.saturating_add(i64::from(lasts));
        SampleTime { shown_at, lasts }
    }

    fn damaged(&mut self, what: &'static str) {
        self.damage.get_or_insert(Mp4Error::Damaged(what));
    }

    /// Finds the samples that the movie box lists (ISO/IEC 14496-12, 8.7): it has a size for each sample, says how many
    /// samples are in each chunk, and has an offset for each chunk.
    pub(super) fn of_tables(&mut self, stbl: &[u8]) {
        let mut sizes = Sizes::of(stbl);
        let mut durations = Runs::of(find(stbl, b"stts"));
        let mut delays = Runs::of(find(stbl, b"ctts"));
        let mut runs = Table::of(find(stbl, b"stsc"), 12);
        let mut run = runs.next();
        let (mut each, mut description) = (0, 1);
        let short = Table::of(find(stbl, b"stco"), 4).map(|mut f| f.u32().map(u64::from));
        let long = Table::of(find(stbl, b"co64"), 8).map(|mut f| f.u64());
        for (chunk, offset) in (1_u32..).zip(short.chain(long).flatten()) {
            while let Some(mut fields) = run {
                let first_chunk = fields.u32();
                if first_chunk.is_none_or(|first| first > chunk) {
                    break;
                }
                each = fields.u32().unwrap_or(0);
                description = fields.u32().unwrap_or(1);
                run = runs.next();
            }
            let mut offset = offset;
            for _ in 0..each {
                let Some(bytes) = sizes.next() else {
                    return sizes.tell(self);
                };
                let lasts = durations.next();
                // Both versions of the table have negative delays in practice.
                let shown_later = delays.next().map_or(0, u32::cast_signed);
                let extent = Extent {
                    offset,
                    bytes,
                    description,
                    time: lasts.map(|lasts| self.take_time(lasts, shown_later)),
                };
                if !self.push(extent) {
                    return;
                }
                offset = offset.saturating_add(u64::from(bytes));
            }
        }
        sizes.tell(self);
    }

    /// Finds the samples of the track in a fragment (8.8). Their sizes are in the run, or are the default of the fragment
    /// or of the track.
    pub(super) fn of_fragment(
        &mut self,
        moof: &Boxed<'_>,
        track_id: u32,
        defaults: &BTreeMap<u32, FragmentDefaults>,
    ) {
        let start = u64::try_from(moof.at).unwrap_or(u64::MAX);
        // Where the data of the previous track fragment ends.
        let mut behind = start;
        if !moof.whole {
            self.damaged("a fragment of it is cut off");
        }
        for traf in boxes(moof.body).filter(|found| found.kind == *b"traf") {
            if let Some(end) = self.of_track_fragment(&traf, start, behind, track_id, defaults) {
                behind = end;
            } else {
                self.damaged("a fragment of it is cut off");
            }
        }
    }

    /// Gives where the data of the track fragment ends, or none if the fragment is cut off.
    fn of_track_fragment(
        &mut self,
        traf: &Boxed<'_>,
        start: u64,
        behind: u64,
        track_id: u32,
        defaults: &BTreeMap<u32, FragmentDefaults>,
    ) -> Option<u64> {
        const BASE: u32 = 0x1;
        const DESCRIPTION: u32 = 0x2;
        const DURATION: u32 = 0x8;
        const SIZE: u32 = 0x10;
        const BASE_IS_START: u32 = 0x2_0000;
        let mut tfhd = Fields(find(traf.body, b"tfhd")?);
        let (_, flags) = tfhd.version()?;
        let id = tfhd.u32()?;
        let is_ours = id == track_id;
        // Other tracks are read, too, because where the data of the next one begins follows from them.
        let defaults = defaults.get(&id);
        let base = match flags {
            _ if flags & BASE != 0 => tfhd.u64()?,
            _ if flags & BASE_IS_START != 0 => start,
            _ => behind,
        };
        let mut description = defaults.map(|defaults| defaults.description);
        if flags & DESCRIPTION != 0 {
            description = Some(tfhd.u32()?);
        }
        let mut lasts = defaults.map_or(0, |defaults| defaults.lasts);
        if flags & DURATION != 0 {
            lasts = tfhd.u32()?;
        }
        let mut size = defaults.map(|defaults| defaults.bytes);
        if flags & SIZE != 0 {
            size = Some(tfhd.u32()?);
        }
        let begins_at = find(traf.body, b"tfdt").and_then(decode_time);
        if let (true, Some(decode_at)) = (is_ours, begins_at) {
            self.decode_at = decode_at;
        }
        let mut offset = base;
        for run in boxes(traf.body).filter(|found| found.kind == *b"trun") {
            let mut fields = Fields(run.body);
            let (_, flags) = fields.version()?;
            let count = fields.u32()?;
            if flags & 0x1 != 0 {
                offset = base.saturating_add_signed(i64::from(fields.i32()?));
            }
            if flags & 0x4 != 0 {
                fields.u32()?; // first_sample_flags
            }
            for _ in 0..count {
                let mut lasts = lasts;
                if flags & 0x100 != 0 {
                    lasts = fields.u32()?;
                }
                let bytes = if flags & 0x200 != 0 {
                    fields.u32()?
                } else if let Some(size) = size {
                    size
                } else {
                    if is_ours {
                        self.damaged("a fragment does not say how large its pictures are");
                    }
                    return Some(offset);
                };
                if flags & 0x400 != 0 {
                    fields.u32()?; // sample_flags
                }
                let mut shown_later = 0;
                if flags & 0x800 != 0 {
                    shown_later = fields.i32()?;
                }
                let extent = Extent {
                    offset,
                    bytes,
                    description: description.unwrap_or(1),
                    time: is_ours.then(|| self.take_time(lasts, shown_later)),
                };
                let few = if is_ours {
                    self.push(extent)
                } else {
                    self.count()
                };
                if !few {
                    return Some(offset);
                }
                offset = offset.saturating_add(u64::from(bytes));
            }
        }
        Some(offset)
    }
}

impl FragmentDefaults {
    /// The defaults of all tracks of a movie box, by track id.
    pub(super) fn of(moov: &[u8]) -> BTreeMap<u32, Self> {
        let extends = find(moov, b"mvex").unwrap_or_default();
        let mut defaults = BTreeMap::new();
        for trex in boxes(extends).filter(|found| found.kind == *b"trex") {
            if let Some((track_id, of_track)) = Self::read(Fields(trex.body)) {
                defaults.entry(track_id).or_insert(of_track);
            }
        }
        defaults
    }

    fn read(mut trex: Fields<'_>) -> Option<(u32, Self)> {
        trex.version()?;
        let track_id = trex.u32()?;
        let description = trex.u32()?;
        let lasts = trex.u32()?;
        let bytes = trex.u32()?;
        let of_track = Self {
            description,
            lasts,
            bytes,
        };
        Some((track_id, of_track))
    }
}

/// The rows of a table, which follow its version and count: as many as are really there.
#[derive(Debug)]
struct Table<'a> {
    rows: u32,
    row_bytes: usize,
    rest: Fields<'a>,
}

impl<'a> Table<'a> {
    fn of(body: Option<&'a [u8]>, row_bytes: usize) -> Self {
        let mut rest = Fields(body.unwrap_or_default());
        let rows = rest.version().and_then(|_| rest.u32()).unwrap_or(0);
        Self {
            rows,
            row_bytes,
            rest,
        }
    }
}

impl<'a> Iterator for Table<'a> {
    type Item = Fields<'a>;

    fn next(&mut self) -> Option<Fields<'a>> {
        self.rows = self.rows.checked_sub(1)?;
        self.rest.bytes(self.row_bytes).map(Fields)
    }
}

/// When the first sample of a track fragment is decoded (8.8.12).
fn decode_time(tfdt: &[u8]) -> Option<i64> {
    let mut fields = Fields(tfdt);
    let (version, _) = fields.version()?;
    let ticks = match version {
        1 => fields.u64()?,
        _ => fields.u32()?.into(),
    };
    i64::try_from(ticks).ok()
}

/// The values of a table of runs (8.6.1): each row has a count and the value of so many samples. Samples behind the last row have
/// its value, too.
#[derive(Debug)]
struct Runs<'a> {
    rows: Table<'a>,
    left: u32,
    value: Option<u32>,
}

impl<'a> Runs<'a> {
    fn of(body: Option<&'a [u8]>) -> Self {
        Self {
            rows: Table::of(body, 8),
            left: 0,
            value: None,
        }
    }

    /// The next sample's value; none if the table is not there or empty.
    fn next(&mut self) -> Option<u32> {
        while self.left == 0 {
            let Some(mut row) = self.rows.next() else {
                return self.value;
            };
            self.left = row.u32()?;
            self.value = row.u32();
        }
        self.left -= 1;
        self.value
    }
}

/// The sizes of samples (8.7.3): one for all, or 4, 8, 16 or 32 bits each.
#[derive(Debug)]
struct Sizes<'a> {
    left: u32,
    kind: SizeKind,
    rest: Fields<'a>,
    /// The second size of a byte that holds two.
    half: Option<u8>,
}

#[derive(Debug, Clone, Copy)]
enum SizeKind {
    Same(u32),
    Bits4,
    Bits8,
    Bits16,
    Bits32,
}

impl<'a> Sizes<'a> {
    fn of(stbl: &'a [u8]) -> Self {
        let compact = find(stbl, b"stz2");
        let body = find(stbl, b"stsz").or(compact).unwrap_or_default();
        let is_compact = find(stbl, b"stsz").is_none();
        let mut rest = Fields(body);
        let head = rest
            .version()
            .and_then(|_| Some((rest.u32()?, rest.u32()?)));
        let (kind, left) = match (head, is_compact) {
            (None, _) => (SizeKind::Bits32, 0),
            (Some((0, count)), false) => (SizeKind::Bits32, count),
            (Some((size, count)), false) => (SizeKind::Same(size), count),
            (Some((size, count)), true) => match size & 0xff {
                4 => (SizeKind::Bits4, count),
                8 => (SizeKind::Bits8, count),
                _ => (SizeKind::Bits16, count),
            },
        };
        Self {
            left,
            kind,
            rest,
            half: None,
        }
    }

    /// Reports it if there are sizes without places, or fewer sizes than announced.
    fn tell(&self, extents: &mut Extents) {
        if self.left > 0 {
            extents.damaged("its table of contents is not whole");
        }
    }
}

impl Iterator for Sizes<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let left = self.left.checked_sub(1)?;
        let size = match self.kind {
            SizeKind::Same(size) => size,
            SizeKind::Bits4 => match self.half.take() {
                Some(half) => half.into(),
                None => {
                    let both = self.rest.u8()?;
                    self.half = Some(both & 0xf);
                    (both >> 4).into()
                }
            },
            SizeKind::Bits8 => self.rest.u8()?.into(),
            SizeKind::Bits16 => self.rest.u16()?.into(),
            SizeKind::Bits32 => self.rest.u32()?,
        };
        self.left = left;
        Some(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(kind: &[u8; 4], words: &[u32]) -> Vec<u8> {
        let size = u32::try_from(12 + 4 * words.len()).unwrap();
        let mut bytes = size.to_be_bytes().to_vec();
        bytes.extend(kind);
        bytes.extend([0; 4]);
        bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        bytes
    }

    fn of_tables(tables: &[Vec<u8>]) -> Extents {
        let mut extents = Extents::default();
        extents.of_tables(&tables.concat());
        extents
    }

    #[test]
    fn chunks_hold_as_many_samples_as_their_run_says() {
        let extents = of_tables(&[
            full(b"stsz", &[0, 5, 10, 20, 30, 40, 50]),
            full(b"stsc", &[2, 1, 2, 1, 3, 1, 2]),
            full(b"stco", &[3, 1000, 2000, 3000]),
        ]);
        let found: Vec<_> = extents
            .found
            .iter()
            .map(|e| (e.offset, e.bytes, e.description))
            .collect();
        assert_eq!(
            found,
            [
                (1000, 10, 1),
                (1010, 20, 1),
                (2000, 30, 1),
                (2030, 40, 1),
                (3000, 50, 2)
            ]
        );
        assert_eq!(extents.damage, None);
    }

    #[test]
    fn times_come_from_their_tables() {
        let extents = of_tables(&[
            full(b"stsz", &[10, 5]),
            full(b"stsc", &[1, 1, 5, 1]),
            full(b"stco", &[1, 1000]),
            // An empty run, and one sample fewer than there are.
            full(b"stts", &[3, 1, 40, 0, 7, 3, 50]),
            full(b"ctts", &[3, 1, 80, 1, (-10_i32).cast_unsigned(), 2, 0]),
        ]);
        let times = extents.found.iter().map(|extent| extent.time);
        let expected = [(80, 40), (30, 50), (90, 50), (140, 50), (190, 50)];
        let expected = expected.map(|(shown_at, lasts)| Some(SampleTime { shown_at, lasts }));
        assert!(times.eq(expected), "{:?}", extents.found);
        let without = of_tables(&[
            full(b"stsz", &[10, 2]),
            full(b"stsc", &[1, 1, 2, 1]),
            full(b"stco", &[1, 1000]),
        ]);
        assert!(without.found.iter().all(|extent| extent.time.is_none()));
    }

    #[test]
    fn sizes_of_four_bits() {
        let extents = of_tables(&[
            full(b"stz2", &[4, 3, 0x1230_0000]),
            full(b"stsc", &[1, 1, 3, 1]),
            full(b"co64", &[1, 1, 0]),
        ]);
        let sizes: Vec<u32> = extents.found.iter().map(|e| e.bytes).collect();
        assert_eq!((sizes, extents.damage), (vec![1, 2, 3], None));
        assert_eq!(extents.found[0].offset, 1 << 32);
    }

    #[test]
    fn fragments_inherit_from_their_own_track() {
        // Sound of 100 bytes a sample lies before the pictures of 10, and neither fragment says more than how many.
        let with_header = |kind: &[u8; 4], body: &[u8]| {
            let size = u32::try_from(8 + body.len()).unwrap();
            [&size.to_be_bytes()[..], kind, body].concat()
        };
        let trex = [
            full(b"trex", &[1, 1, 40, 10, 0]),
            full(b"trex", &[2, 1, 0, 100, 0]),
        ];
        let moov = with_header(b"mvex", &trex.concat());
        let traf = |track, samples| {
            let parts = [full(b"tfhd", &[track]), full(b"trun", &[samples])];
            with_header(b"traf", &parts.concat())
        };
        let moof = with_header(b"moof", &[traf(2, 3), traf(1, 2)].concat());
        let mut extents = Extents::default();
        let moof = boxes(&moof).next().unwrap();
        extents.of_fragment(&moof, 1, &FragmentDefaults::of(&moov));
        let found: Vec<_> = extents.found.iter().map(|e| (e.offset, e.bytes)).collect();
        assert_eq!(found, [(300, 10), (310, 10)]);
        let shown_at = extents.found.iter().map(|e| e.time.unwrap().shown_at);
        assert!(shown_at.eq([0, 40]));
        assert_eq!(extents.damage, None);
    }

    #[test]
    fn what_a_table_claims_is_not_believed() {
        // Sizes without places, places without sizes, counts of millions.
        for tables in [
            [
                full(b"stsz", &[0, 3, 1, 2, 3]),
                full(b"stsc", &[1, 1, 1, 1]),
                full(b"stco", &[1, 8]),
            ],
            [
                full(b"stsz", &[0, u32::MAX, 1]),
                full(b"stsc", &[1, 1, u32::MAX, 1]),
                full(b"stco", &[u32::MAX, 8]),
            ],
            [
                full(b"stsz", &[1, u32::MAX]),
                full(b"stsc", &[1, 1, u32::MAX, 1]),
                full(b"stco", &[1, 8]),
            ],
        ] {
            let extents = of_tables(&tables);
            assert!(extents.damage.is_some());
            assert!(extents.found.len() <= MAX_SAMPLES);
        }
    }
}
