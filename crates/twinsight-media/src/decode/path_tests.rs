//! Whole receive paths on the small streams of `tests/data/faults`, packed into RTP as this or that sender does it.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::clock::ManualClock;
use crate::decode::decoder::Decoder;
use crate::h264::nal::{NalType, SliceStart, annex_b};
use crate::h264::sps::Sps;
use crate::ledger::UnitDrop;
use crate::picture::{Color, I420, PlanePool, Unsupported};
use crate::rtp::{RtpPacket, RtpTimestamp, SequenceNumber, Ssrc};

macro_rules! stream {
    ($name:literal) => {{
        let bytes: &'static [u8] =
            include_bytes!(concat!("../../../../tests/data/faults/", $name, ".h264"));
        ($name, bytes)
    }};
}

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

#[test]
fn streams_that_a_base_decoder_can_decode_are_decoded() {
    for (name, stream) in SAME {
        let mut camera = Camera::new();
        camera.play(&units(stream), normal);
        // A grey stream's pictures come one unit late.
        let keyframe = units(CTRL.1)[0].clone();
        camera.unit(&normal(&keyframe));
        assert_greys(name, &camera.greys[..7], &GREYS);
        assert_eq!(
            (camera.malformed(), &camera.errors[..]),
            (0, &[][..]),
            "{name}"
        );
        camera.close();
    }
}

#[test]
fn pictures_of_a_file_need_no_sender() {
    for (name, stream) in SAME {
        let mut decoder = Decoder::new(DecoderKind::Software, Codec::H264).unwrap();
        let (pool, mut pictures) = (PlanePool::new(1), Vec::new());
        let clock = ManualClock::at(Instant::now());
        let mut color = Color::default();
        for unit in units(stream) {
            let mut sets = unit.iter().filter(|nal| nal[0] & 31 == 7);
            color = sets
                .next()
                .map_or(color, |sps| Sps::parse(sps).unwrap().color);
            let unit: Vec<u8> = unit
                .iter()
                .flat_map(|nal| [&CODE, &nal[..]].concat())
                .collect();
            decoder
                .decode(&unit, 0, &pool, &clock, &mut pictures)
                .unwrap();
        }
        decoder.drain(&pool, &clock, &mut pictures).unwrap();
        let greys: Vec<i32> = pictures
            .iter()
            .map(|picture| {
                grey(&I420::from_packed(
                    picture.planes.bytes(),
                    picture.size,
                    color,
                ))
            })
            .collect();
        assert_greys(name, &greys, &GREYS);
        // What holds nothing for the decoder is no end of the stream.
        for nothing in [&[][..], &[0, 0, 0, 1, 0x6e, 0xc0, 0x80, 7], &[1, 2, 3]] {
            assert_eq!(
                decoder.decode(nothing, 0, &pool, &clock, &mut pictures),
                Ok(())
            );
        }
    }
}

#[test]
fn any_level_is_decoded() {
    for level in [0, 9, 14, 62, 255] {
        let mut stream = CTRL.1.to_vec();
        let places: Vec<usize> = (0..stream.len() - 4)
            .filter(|&at| stream[at..].starts_with(&[0, 0, 1, 0x67]))
            .collect();
        for at in places {
            stream[at + 6] = level;
        }
        let mut camera = Camera::new();
        camera.play(&units(&stream), normal);
        assert_greys(&format!("level {level}"), &camera.greys, &GREYS);
    }
}

#[test]
fn odd_payloads_whose_meaning_is_clear_are_decoded() {
    for (name, stream) in SAME.iter().filter(|(name, _)| *name != "mono400") {
        for (how_name, how) in ODD {
            let mut camera = Camera::new();
            camera.play(&units(stream), *how);
            camera.play(&units(stream)[..1], *how);
            let name = format!("{name}, {how_name}");
            let greys: Vec<i32> = camera.greys.iter().copied().take(7).collect();
            assert_greys(&name, &greys, &GREYS);
            let nobody_s = how_name.contains("type 0") || how_name.contains("nobody");
            assert_eq!(camera.malformed() > 0, nobody_s, "{name}");
            assert_eq!(camera.requests.len(), 0, "{name}");
            camera.close();
        }
    }
}

#[test]
fn a_sender_that_marks_each_nal_is_learnt_and_unlearnt() {
    let units = units(SLICED.1);
    let mut camera = Camera::new();
    camera.play(&units, marker_per_nal);
    // The first group is lost, since its first part went out as a whole picture.
    camera.play(&units[..1], marker_per_nal);
    assert_greys("each NAL marked", &camera.greys, &GREYS[4..]);
    assert_eq!(camera.malformed(), 0);
    // From the next two units on it marks as it should: each picture comes with its last packet again.
    camera.play(&units[1..], normal);
    let before = camera.greys.len();
    for payloads in units.iter().map(|unit| normal(unit)) {
        let came = camera.greys.len();
        for (payload, marker) in &payloads {
            camera.packet(payload, *marker);
        }
        assert_eq!(camera.greys.len(), came + 1);
        camera.timestamp = camera.timestamp.wrapping_add(7200);
    }
    assert_greys("marked as it should be", &camera.greys[before..], &GREYS);
    camera.close();

    let mut camera = Camera::new();
    for _ in 0..2 {
        camera.play(&units, marker_per_packet);
    }
    camera.play(&units[..1], marker_per_packet);
    assert_greys("each packet marked", &camera.greys[3..], &GREYS);
    camera.close();
}

#[test]
fn sets_that_came_once_are_remembered_when_the_first_picture_is_lost() {
    let stream = units(stream!("sets_once_first_idr_lost").1);
    let mut camera = Camera::new();
    camera.play(&stream, normal);
    assert_greys("the picture never came", &camera.greys, &GREYS[4..]);
    camera.close();
    // Lost on the way, whole or in part, with the sets in its unit.
    for lost in [3, 4] {
        let mut camera = Camera::new();
        let all = units(CTRL.1);
        for (i, payload) in all_fragments(&all[0]).iter().enumerate() {
            if i >= lost {
                camera.sequence = camera.sequence.wrapping_add(1);
            } else {
                camera.packet(payload, false);
            }
        }
        camera.timestamp = camera.timestamp.wrapping_add(7200);
        camera.play(&all[1..4], normal);
        let without_sets: Nals = all[4].iter().filter(|nal| !is_set(nal)).cloned().collect();
        camera.play(&[without_sets], normal);
        camera.play(&all[5..], normal);
        assert_greys("the picture was lost", &camera.greys, &GREYS[4..]);
        camera.close();
    }
}

#[test]
fn what_cannot_be_decoded_is_named() {
    for ((name, stream), expected) in [
        (stream!("interlaced"), Unsupported::Interlaced),
        (
            stream!("hi10"),
            Unsupported::BitDepth {
                bits: 10,
                profile_idc: 110,
            },
        ),
        (
            stream!("yuv422"),
            Unsupported::Chroma {
                chroma: "4:2:2",
                profile_idc: 122,
            },
        ),
        (
            stream!("yuv444"),
            Unsupported::Chroma {
                chroma: "4:4:4",
                profile_idc: 244,
            },
        ),
        (
            stream!("lossless"),
            Unsupported::Lossless { profile_idc: 244 },
        ),
    ] {
        let expected = DecoderError::Unsupported(expected);
        let mut camera = Camera::new();
        camera.play(&units(stream), normal);
        assert_eq!(
            camera.errors.first().map(|error| error.kind),
            Some(PathErrorKind::Decoder(expected)),
            "{name}"
        );
        assert!(camera.dropped(UnitDrop::DecodeError) >= 1, "{name}");
        // Another stream of the same camera is another matter.
        camera.play(&units(CTRL.1), normal);
        assert_greys(name, &camera.greys, &GREYS);
        camera.close();
    }
    let mut partitions = units(CTRL.1);
    for nal in &mut partitions[1] {
        nal[0] = nal[0] & 0xe0 | 2;
    }
    let mut camera = Camera::new();
    camera.play(&partitions, normal);
    let expected = PathErrorKind::Decoder(Unsupported::Partitions.into());
    let kinds: Vec<_> = camera.errors.iter().map(|error| error.kind).collect();
    assert_eq!(kinds, [expected]);
}

#[test]
fn a_keyframe_that_takes_its_time_is_decoded_and_nobody_is_late() {
    for how in [normal as How, no_marker] {
        let mut camera = Camera::new();
        let all = units(CTRL.1);
        // The stream begins in the middle, so that a keyframe is asked for.
        camera.play(&all[1..2], how);
        let mut expected = Vec::new();
        for _ in 0..3 {
            for (unit, grey) in all.iter().zip(GREYS) {
                // A keyframe has five packets here, and takes 800 ms.
                let payloads = how(unit);
                for (payload, marker) in payloads {
                    camera.packet(&payload, marker);
                    camera.pause(if is_key(unit) { 2 * FRAME } else { FRAME / 4 });
                }
                camera.timestamp = camera.timestamp.wrapping_add(7200);
                expected.push(grey);
            }
        }
        camera.play(&all[..1], how);
        let came = camera.greys.len();
        assert_greys("slow", &camera.greys[..21], &expected);
        assert!(came <= 22);
        assert!(
            camera.ages.iter().any(|age| *age > MAX_BACKLOG),
            "{:?}",
            camera.ages
        );
        assert_eq!(camera.dropped(UnitDrop::DecodeBacklog), 0);
        assert!(camera.shed.is_empty(), "{:?}", camera.shed);
        // While the keyframe came, no other one was asked for.
        assert_eq!(camera.requests.len(), 1);
        camera.close();
    }
}

#[test]
fn a_keyframe_that_stops_coming_is_asked_for_again() {
    let mut camera = Camera::new();
    let all = units(CTRL.1);
    camera.play(&all[1..2], normal);
    assert_eq!(camera.requests.len(), 1);
    let payloads = normal(&all[0]);
    let began = camera.now;
    for (payload, _) in &payloads[..payloads.len() - 1] {
        camera.packet(payload, false);
    }
    camera.pause(Duration::from_secs(1));
    assert_eq!(camera.requests[1], began + KEYFRAME_PAUSE);
    // One that goes on for ever is no keyframe.
    let asked = camera.requests.len();
    for _ in 0..150 {
        camera.packet(&[0x7c, 5, 9], false);
        camera.pause(Duration::from_millis(100));
    }
    assert!(camera.requests.len() > asked);
    camera.close();
}

#[test]
fn a_source_that_was_silent_and_begins_anew_is_not_late() {
    for ssrc_changes in [true, false] {
        let mut camera = Camera::new();
        let all = units(CTRL.1);
        camera.play(&all, normal);
        camera.packet(&normal(&all[0])[0].0, false);
        camera.pause(Duration::from_secs(4));
        if ssrc_changes {
            camera.sequence = camera.sequence.wrapping_add(20_000);
        }
        camera.timestamp = camera.timestamp.wrapping_add(360_000);
        camera.play(&all, normal);
        assert!(camera.shed.is_empty(), "{:?}", camera.shed);
        assert_eq!(camera.greys.len(), 14);
        camera.close();
    }
}

/// What is done to a packet of a fault stream.
#[derive(Debug, Clone)]
enum Damage {
    None,
    Kind(u8),
    StartCode(prop::sample::Index),
    Marker(bool),
    Cut(prop::sample::Index),
    Glue,
    Twice,
    Drop,
    Bits(prop::sample::Index, u8),
    FragmentFlags(u8),
    SameTimestamp,
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        12 => Just(Damage::None),
        1 => (0_u8..32).prop_map(Damage::Kind),
        1 => at().prop_map(Damage::StartCode),
        1 => any::<bool>().prop_map(Damage::Marker),
        1 => at().prop_map(Damage::Cut),
        1 => Just(Damage::Glue),
        1 => Just(Damage::Twice),
        1 => Just(Damage::Drop),
        1 => (at(), 1_u8..=255).prop_map(|(at, bits)| Damage::Bits(at, bits)),
        1 => any::<u8>().prop_map(Damage::FragmentFlags),
        1 => Just(Damage::SameTimestamp),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done to a stream and however it is packed: nothing panics, all units are accounted for, and a clean
    /// stream decodes again, at its second keyframe at the latest.
    #[test]
    fn after_any_damage_a_clean_stream_is_decoded(
        stream in prop::sample::select(SAME),
        how in prop::sample::select(ODD),
        each_nal: bool,
        damages in prop::collection::vec(damage(), 1..60),
    ) {
        let mut camera = Camera::new();
        camera.damaged = true;
        let how = if each_nal { marker_per_nal } else { how.1 };
        let mut damages = damages.into_iter();
        'damaged: for _ in 0..4 {
            for unit in units(stream.1) {
                let mut glued = Vec::new();
                for (mut payload, mut marker) in how(&unit) {
                    let Some(damage) = damages.next() else { break 'damaged };
                    let mut times = 1;
                    match damage {
                        Damage::None => {}
                        Damage::Kind(kind) => payload[0] = payload[0] & 0xe0 | kind,
                        Damage::StartCode(at) => {
                            let at = at.index(payload.len());
                            payload.splice(at..at, [0, 0, 1]);
                        }
                        Damage::Marker(set) => marker = set,
                        Damage::Cut(at) => payload.truncate(at.index(payload.len())),
                        Damage::Glue => {
                            glued.extend_from_slice(&payload);
                            glued.extend_from_slice(&CODE);
                            continue;
                        }
                        Damage::Twice => times = 2,
                        Damage::Drop => {
                            camera.sequence = camera.sequence.wrapping_add(1);
                            continue;
                        }
                        Damage::Bits(at, bits) => {
                            let at = at.index(payload.len());
                            payload[at] ^= bits;
                        }
                        Damage::FragmentFlags(flags) if payload.len() > 1 => payload[1] = flags,
                        Damage::FragmentFlags(_) => {}
                        Damage::SameTimestamp => camera.timestamp = camera.timestamp.wrapping_add(7200_u32.wrapping_neg()),
                    }
                    let payload = [std::mem::take(&mut glued), payload].concat();
                    for _ in 0..times {
                        camera.packet(&payload, marker);
                    }
                }
                camera.pause(FRAME);
                camera.timestamp = camera.timestamp.wrapping_add(7200);
            }
        }
        camera.pause(Duration::from_secs(1));
        camera.timestamp = camera.timestamp.wrapping_add(720_000);
        camera.greys.clear();
        // What a damaged grey stream left in the decoder may still come out.
        for _ in 0..2 {
            camera.play(&units(CTRL.1), normal);
        }
        camera.play(&units(CTRL.1)[..1], normal);
        // The last one may still be open.
        let whole = camera.greys.len() - usize::from(camera.greys.last().is_some_and(|grey| *grey < 30));
        prop_assert!(whole >= 10, "{:?}", camera.greys);
        assert_greys("after the damage", &camera.greys[whole - 7..whole], &GREYS);
        camera.close();
    }
}
