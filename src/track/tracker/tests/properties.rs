//! The same scene at other rates, and with frames missing, gives the same tracks.

use proptest::prelude::*;

use super::scenes::assert_true;
use super::*;

/// People on lanes that are two heights apart, so that nobody can be taken for somebody who went away. Each walks less than a width
/// between two looks.
fn people() -> impl Strategy<Value = Vec<(f32, f32, f32, f32)>> {
    let person = (0.0_f32..3.0, 2.0_f32..6.0, 0.1_f32..0.9, -0.08_f32..0.08);
    proptest::collection::vec(person, 1..=4)
}

fn scene(people: &[(f32, f32, f32, f32)]) -> Vec<Thing> {
    let lanes = [0.12_f32, 0.37, 0.62, 0.87];
    people
        .iter()
        .zip(lanes)
        .map(|(&(from, lasts, x, speed), y)| {
            let end = (x + speed * lasts).clamp(0.05, 0.95);
            Thing {
                size: (0.05, 0.12),
                ..walker(from, from + lasts, (x, y), (end, y))
            }
        })
        .collect()
}

/// Middle, size, score and label of what is seen at a look.
type Anything = (f32, f32, f32, f32, f32, u16);

fn any_observation((x, y, w, h, score, label): Anything) -> Option<Observation> {
    let seen = observation(x, y, w, h, score)?;
    Some(Observation {
        label: LabelId(label),
        ..seen
    })
}

/// Looks with the milliseconds before each: with few places and sizes, so that there is much to confuse.
fn looks() -> impl Strategy<Value = Vec<(u64, Vec<Anything>)>> {
    let place = || (0_u8..12).prop_map(|n| f32::from(n) / 10.0 - 0.05);
    let size = || (1_u8..5).prop_map(|n| f32::from(n) / 15.0);
    let seen = (place(), place(), size(), size(), -0.1_f32..1.1, 0_u16..3);
    let step = prop_oneof![Just(0), Just(33), Just(100), Just(500), 0_u64..5000];
    proptest::collection::vec((step, proptest::collection::vec(seen, 0..12)), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_same_at_every_rate(people in people()) {
        let things = scene(&people);
        for fps in RATES {
            let tracks = follow(&things, &at_rate(fps, 12.0));
            assert_true(&things, &tracks, 1.0 / fps, &format!("{fps} fps"));
        }
    }

    #[test]
    fn the_same_with_a_detector_that_errs(people in people(), seed in any::<u32>()) {
        // Each edge of a box is off by up to 4 % of its size, and scores go from weak to strong once there is a track.
        let mut things = scene(&people);
        for (n, thing) in things.iter_mut().enumerate() {
            thing.noise = Some((seed.wrapping_add(u32::try_from(n).unwrap()), 0.04));
        }
        for fps in RATES {
            let tracks = follow(&things, &at_rate(fps, 12.0));
            assert_true(&things, &tracks, 1.0 / fps, &format!("{fps} fps"));
        }
    }

    #[test]
    fn whatever_comes_in_the_books_are_right(looks in looks(), lost_ms in 0_u64..3000, confirm_ms in 0_u64..1000, min_score in 0.0_f32..1.0) {
        let settings = TrackerSettings {
            confirm: Duration::from_millis(confirm_ms),
            lost: Duration::from_millis(lost_ms),
            min_score,
        };
        let (mut tracker, ids) = (Tracker::new(settings), TrackIds::default());
        let (mut now, mut alive, mut over) = (0, BTreeMap::new(), BTreeMap::new());
        for (step, seen) in looks {
            now += step;
            let seen: Vec<_> = seen.into_iter().filter_map(any_observation).collect();
            let looked = tracker.look(Duration::from_millis(now), &seen, &ids);
            let belongings = looked.belongings.to_vec();
            prop_assert_eq!(belongings.len(), seen.len());
            for (track, _) in looked.ended {
                let id = track.id.unwrap();
                prop_assert_eq!(alive.remove(&id), Some(track.serial), "an end for each start, and one alone");
                prop_assert!(track.confirmed_at.unwrap() >= track.first_seen + settings.confirm);
                prop_assert!(track.confirmed_at.unwrap() <= track.last_seen);
                over.insert(id, track.serial);
            }
            for pair in tracker.tracks().windows(2) {
                prop_assert!(pair[0].serial < pair[1].serial);
            }
            for track in tracker.tracks() {
                let RelativeBox { x1, y1, x2, y2 } = track.bbox;
                prop_assert!(0.0 <= x1 && x1 < x2 && x2 <= 1.0 && 0.0 <= y1 && y1 < y2 && y2 <= 1.0);
                prop_assert!(track.velocity.iter().all(|speed| speed.is_finite()));
                prop_assert!(track.score <= track.top_score);
                if let Some(id) = track.id {
                    prop_assert!(!over.contains_key(&id));
                    let before = alive.insert(id, track.serial);
                    prop_assert!(before.is_none_or(|serial| serial == track.serial));
                }
                if let Some(number) = track.observation {
                    prop_assert_eq!(belongings[number], Belonging::Track(track.serial));
                    prop_assert_eq!(track.last_seen, Duration::from_millis(now));
                }
            }
            for belonging in &belongings {
                match belonging {
                    Belonging::None => {}
                    Belonging::Double(better) => {
                        prop_assert!(!matches!(belongings[*better], Belonging::Double(_)));
                    }
                    Belonging::Track(serial) => {
                        let of = tracker.tracks().iter().filter(|track| track.serial == *serial);
                        prop_assert_eq!(of.filter(|track| track.observation.is_some()).count(), 1);
                    }
                }
            }
        }
        let rest = tracker.end_all().into_iter();
        let rest: BTreeMap<_, _> = rest.map(|track| (track.id.unwrap(), track.serial)).collect();
        prop_assert_eq!(rest, alive);
    }

    #[test]
    fn the_same_with_frames_missing(people in people(), kept in proptest::collection::vec(0_u8..10, 400)) {
        let things = scene(&people);
        for fps in [5.0, 10.0, 30.0] {
            // Three of ten frames are missing, and never so many at a time that more than half a second goes by.
            let mut times: Vec<f32> = Vec::new();
            for (t, kept) in at_rate(fps, 12.0).into_iter().zip(&kept) {
                if *kept >= 3 || times.last().is_some_and(|last| t + 1.0 / fps - last > 0.5) {
                    times.push(t);
                }
            }
            let gap = times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f32::max);
            let tracks = follow(&things, &times);
            assert_true(&things, &tracks, gap.max(times[0]), &format!("{fps} fps with gaps of {gap}"));
        }
    }
}
