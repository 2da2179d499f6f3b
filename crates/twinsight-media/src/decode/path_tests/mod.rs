//! Whole receive paths on the small streams of `tests/data/faults`, packed into RTP as this or that sender does it.

use bytes::Bytes;

use super::*;
use crate::clock::ManualClock;
use crate::h264::nal::{NalType, SliceStart, annex_b};
use crate::h264::sps::Sps;
use crate::ledger::UnitDrop;
use crate::picture::I420;
use crate::rtp::{RtpPacket, RtpTimestamp, SequenceNumber, Ssrc};

macro_rules! stream {
    ($name:literal) => {{
        let bytes: &'static [u8] =
            include_bytes!(concat!("../../../../../tests/data/faults/", $name, ".h264"));
        ($name, bytes)
    }};
}

mod damage;
mod keyframes;
mod payloads;

const CTRL: (&str, &[u8]) = stream!("ctrl");
const SLICED: (&str, &[u8]) = stream!("sliced");

/// Streams of the same seven pictures.
const SAME: &[(&str, &[u8])] = &[
    CTRL,
    SLICED,
    stream!("prefix14_nopayload"),
    stream!("sub_sps15_nal20"),
    stream!("sps_vui_trunc_flag"),
    stream!("sps_vui_trunc_hrd"),
    stream!("sps_level62"),
    stream!("many_zero"),
    stream!("pps_before_sps"),
    stream!("mono400"),
];

/// What each picture's grey is, in RGB.
const GREYS: [i32; 7] = [16, 51, 86, 121, 156, 191, 225];

type Nals = Vec<Vec<u8>>;

/// A payload and its marker.
type Payload = (Vec<u8>, bool);

/// How a unit becomes payloads.
type How = fn(&[Vec<u8>]) -> Vec<Payload>;

/// Payloads are cut at this size, so that these small units have several.
const MTU: usize = 14;

const FRAME: Duration = Duration::from_millis(80);

/// The access units of a byte stream.
fn units(stream: &[u8]) -> Vec<Nals> {
    let mut units: Vec<Nals> = vec![Vec::new()];
    let mut has_slice = false;
    for nal in annex_b(stream) {
        let kind = NalType::of(nal[0]);
        let begins = match kind {
            NalType::Sps | NalType::Pps | NalType::Other(14) => true,
            _ => SliceStart::parse(nal).is_some_and(|start| start.first_mb == 0),
        };
        let after_prefix = units
            .last()
            .and_then(|unit| unit.last())
            .is_some_and(|nal| nal[0] & 31 == 14);
        if has_slice && begins && !after_prefix {
            units.push(Vec::new());
            has_slice = false;
        }
        has_slice |= kind.is_slice();
        units.last_mut().unwrap().push(nal.to_vec());
    }
    units
}

fn is_key(unit: &[Vec<u8>]) -> bool {
    unit.iter().any(|nal| nal[0] & 31 == 5)
}

fn mean(plane: &[u8]) -> i32 {
    let sum: usize = plane.iter().map(|&sample| usize::from(sample)).sum();
    i32::try_from(sum / plane.len()).unwrap()
}

/// The grey of a picture that has no colour.
fn grey(planes: &I420<'_>) -> i32 {
    for plane in [planes.u, planes.v] {
        let chroma = mean(plane.data);
        assert!((125..=131).contains(&chroma), "it has a colour: {chroma}");
    }
    brightness(planes)
}

fn brightness(planes: &I420<'_>) -> i32 {
    let luma = mean(planes.y.data);
    if planes.color.full_range {
        luma
    } else {
        (luma - 16) * 255 / 219
    }
}

fn assert_greys(name: &str, found: &[i32], expected: &[i32]) {
    let near = found.len() == expected.len()
        && found
            .iter()
            .zip(expected)
            .all(|(found, expected)| (found - expected).abs() <= 4);
    assert!(near, "{name}: {found:?} instead of {expected:?}");
}

/// A camera whose clock the test moves, and the path behind it.
struct Camera {
    path: ReceivePath,
    config: DecodeConfig,
    now: Instant,
    sequence: SequenceNumber,
    timestamp: RtpTimestamp,
    greys: Vec<i32>,
    /// Its pictures may be anything.
    damaged: bool,
    ages: Vec<Duration>,
    errors: Vec<PathError>,
    requests: Vec<Instant>,
    shed: Vec<ShedChange>,
}

impl Camera {
    fn new() -> Self {
        let now = Instant::now();
        let clock = Arc::new(ManualClock::at(now));
        let config = DecodeConfig::new(Arc::default(), clock, DecoderKind::Software);
        Self {
            path: ReceivePath::new(&config),
            config,
            now,
            sequence: SequenceNumber(65_500),
            timestamp: RtpTimestamp(u32::MAX - 20_000),
            greys: Vec::new(),
            damaged: false,
            ages: Vec::new(),
            errors: Vec::new(),
            requests: Vec::new(),
            shed: Vec::new(),
        }
    }

    fn work(&mut self) {
        let (greys, ages, now) = (&mut self.greys, &mut self.ages, self.now);
        let look = if self.damaged { brightness } else { grey };
        while self.path.step(now, &mut |frame| {
            greys.push(look(&frame.planes()));
            ages.push(frame.age(now));
        }) {}
        self.errors.extend(self.path.take_error());
        self.shed.extend(self.path.take_shed_change());
        if self.path.keyframe_request(now).is_some() {
            self.requests.push(now);
        }
    }

    /// Time passes, and what is due on the way is done.
    fn pause(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(deadline) = self.path.deadline()
            && deadline <= until
        {
            assert!(deadline >= self.now, "it is done what was due");
            self.now = deadline;
            self.work();
            assert!(self.path.deadline().is_none_or(|next| next > deadline));
        }
        self.now = until;
    }

    fn packet(&mut self, payload: &[u8], marker: bool) {
        self.path.take(Arrival::Rtp(RtpPacket {
            sequence: self.sequence,
            timestamp: self.timestamp,
            marker,
            ssrc: Ssrc(1),
            codec: Codec::H264,
            payload: Bytes::copy_from_slice(payload),
            arrived_at: self.now,
        }));
        self.sequence = self.sequence.wrapping_add(1);
        self.work();
    }

    fn unit(&mut self, payloads: &[Payload]) {
        for (payload, marker) in payloads {
            self.packet(payload, *marker);
        }
        self.pause(FRAME);
        self.timestamp = self.timestamp.wrapping_add(7200);
    }

    fn play(&mut self, units: &[Nals], how: How) {
        for unit in units {
            self.unit(&how(unit));
        }
    }

    fn malformed(&self) -> u64 {
        self.config.ledger.malformed_payloads(Codec::H264)
    }

    fn dropped(&self, reason: UnitDrop) -> u64 {
        self.config.ledger.units_dropped(reason)
    }

    /// Closes the books, which have to balance.
    fn close(mut self) -> (u64, u64) {
        self.path.finish(self.now);
        let ledger = &self.config.ledger;
        assert_eq!(ledger.units_held(), 0, "the ledger balances");
        (ledger.units_received(), ledger.frames_decoded())
    }
}

/// FU-A where a NAL unit is larger than a payload may be.
fn fragments(nal: &[u8]) -> Nals {
    if nal.len() <= MTU {
        return vec![nal.to_vec()];
    }
    let pieces: Vec<&[u8]> = nal[1..].chunks(MTU - 2).collect();
    let last = pieces.len() - 1;
    let fragment = |(i, piece): (usize, &&[u8])| {
        let flags = if i == 0 { 0x80 } else { 0 } | if i == last { 0x40 } else { 0 };
        [&[nal[0] & 0xe0 | 28, flags | nal[0] & 31], *piece].concat()
    };
    pieces.iter().enumerate().map(fragment).collect()
}

fn all_fragments(nals: &[Vec<u8>]) -> Nals {
    nals.iter().flat_map(|nal| fragments(nal)).collect()
}

/// The marker on the last.
fn marked(payloads: Nals) -> Vec<Payload> {
    let last = payloads.len() - 1;
    let payloads = payloads.into_iter().enumerate();
    payloads.map(|(i, payload)| (payload, i == last)).collect()
}

fn normal(unit: &[Vec<u8>]) -> Vec<Payload> {
    marked(all_fragments(unit))
}

fn no_marker(unit: &[Vec<u8>]) -> Vec<Payload> {
    normal(unit).into_iter().map(|(p, _)| (p, false)).collect()
}

fn marker_per_nal(unit: &[Vec<u8>]) -> Vec<Payload> {
    unit.iter().flat_map(|nal| marked(fragments(nal))).collect()
}

fn marker_per_packet(unit: &[Vec<u8>]) -> Vec<Payload> {
    normal(unit).into_iter().map(|(p, _)| (p, true)).collect()
}

fn aggregated(nals: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = vec![0x78];
    for nal in nals {
        payload.extend(u16::try_from(nal.len()).unwrap().to_be_bytes());
        payload.extend(nal);
    }
    payload
}

fn is_set(nal: &[u8]) -> bool {
    matches!(nal[0] & 31, 7 | 8)
}

const CODE: [u8; 4] = [0, 0, 0, 1];

/// Payloads that break the format, in ways whose meaning is clear.
const ODD: &[(&str, How)] = &[
    ("normal", normal),
    ("no marker", no_marker),
    ("each packet marked", |unit| {
        // What several slices come to has its own test.
        if unit.iter().filter(|nal| !is_set(nal)).count() == 1 {
            marker_per_packet(unit)
        } else {
            normal(unit)
        }
    }),
    ("a byte stream in one NAL unit", |unit| {
        marked(fragments(&unit.join(&CODE[..])))
    }),
    (
        "a byte stream in one NAL unit, from its start code on",
        |unit| marked(fragments(&[&CODE, &unit.join(&CODE[1..])[..]].concat())),
    ),
    ("sets with a start code between", |unit| {
        let (sets, slices): (Nals, Nals) = unit.iter().cloned().partition(|nal| is_set(nal));
        let mut payloads = all_fragments(&slices);
        if !sets.is_empty() {
            payloads.insert(0, sets.join(&CODE[..]));
        }
        marked(payloads)
    }),
    ("start codes before NAL units", |unit| {
        let with_code = |nal: &Vec<u8>| [&CODE, &nal[..]].concat();
        marked(unit.iter().map(with_code).collect())
    }),
    ("start codes within an aggregate", |unit| {
        marked(vec![aggregated(&[unit.join(&CODE[..])])])
    }),
    ("zeros behind NAL units", |unit| {
        let with_zeros = |nal: &Vec<u8>| [&nal[..], &[0; 5]].concat();
        marked(all_fragments(
            &unit.iter().map(with_zeros).collect::<Nals>(),
        ))
    }),
    ("a NAL unit of type 0 first", |unit| {
        let mut payloads = all_fragments(unit);
        payloads.insert(0, vec![0, 0, 0]);
        marked(payloads)
    }),
    ("NAL units of types that nobody uses", |unit| {
        let mut payloads = all_fragments(unit);
        payloads.insert(0, vec![0x7e, 1, 2]);
        payloads.push(vec![0x7f, 1, 2]);
        payloads.push(aggregated(&[vec![0x7e, 1], vec![0x1f, 1]]));
        payloads.push(vec![0x1c, 0xc0, 9, 9]);
        marked(payloads)
    }),
    ("NAL units of extensions and reserved types", |unit| {
        let mut payloads = Vec::new();
        for nal in unit {
            payloads.extend(
                [14, 15, 20, 21, 16, 17, 18, 22, 23].map(|kind| vec![0x60 | kind, 0xc0, 0x80, 7]),
            );
            payloads.extend(fragments(nal));
            payloads.extend(fragments(&[&[0x74, 0xc0, 0x90, 7], &nal[..]].concat()));
        }
        marked(payloads)
    }),
    ("messages and delimiters everywhere", |unit| {
        let mut payloads = Vec::new();
        for nal in unit {
            payloads.push(vec![0x09, 0xf0]);
            payloads.extend(fragments(nal));
            payloads.extend([
                vec![0x06, 5, 3, 1, 2, 3, 0x80],
                vec![0x0c, 0xff, 0x80],
                vec![0x0a],
            ]);
        }
        marked(payloads)
    }),
    ("later fragments of a wrong type", |unit| {
        let wrong = |mut payload: Vec<u8>| {
            if payload[0] & 31 == 28 && payload[1] & 0x80 == 0 {
                let other = if payload[1] & 31 == 5 { 1 } else { 5 };
                payload[1] = payload[1] & 0xe0 | other;
            }
            payload
        };
        marked(all_fragments(unit).into_iter().map(wrong).collect())
    }),
    ("fragments without an end", |unit| {
        let endless = |mut payload: Vec<u8>| {
            if payload[0] & 31 == 28 {
                payload[1] &= 0xbf;
            }
            payload
        };
        marked(all_fragments(unit).into_iter().map(endless).collect())
    }),
    ("empty fragments", |unit| {
        let with_empty = |payload: Vec<u8>| {
            let begins = payload[0] & 31 == 28 && payload[1] & 0x80 != 0;
            let empty = begins.then(|| vec![payload[0], payload[1] & 0x1f]);
            [payload].into_iter().chain(empty)
        };
        marked(
            all_fragments(unit)
                .into_iter()
                .flat_map(with_empty)
                .collect(),
        )
    }),
];
