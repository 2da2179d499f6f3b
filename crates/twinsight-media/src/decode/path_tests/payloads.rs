//! Which streams are decoded, and in which payloads they may come.

use super::*;
use crate::decode::decoder::Decoder;
use crate::picture::{Color, PlanePool, Unsupported};

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
