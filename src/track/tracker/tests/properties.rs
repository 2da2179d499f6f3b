//! The same scene at other rates, and with frames missing, gives the same tracks.

use proptest::prelude::*;

use super::scenes::assert_true;
use super::*;

/// People on lanes that do not touch, each of whom walks less than a width between two looks.
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
            walker(from, from + lasts, (x, y), (end, y))
        })
        .collect()
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
