//! Packets that are lost, late, repeated and changed.

use proptest::prelude::*;

use super::*;

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
