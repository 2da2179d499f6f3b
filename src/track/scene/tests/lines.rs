use geo::Intersects;

use super::*;

/// From left to right over the middle of the picture, so that `in` is from above to below... of an arrow that points left.
fn gate() -> LineConfig {
    line("gate", [0.8, 0.5], [0.2, 0.5])
}

#[test]
fn in_is_from_the_left_of_the_arrow_to_its_right() {
    // Who walks along an arrow that points to the right of the picture has the lower part of the picture on the right.
    let down = Walk::new(&[(0.0, [0.5, 0.2]), (4.0, [0.5, 0.8])]);
    let up = Walk::new(&[(0.0, [0.5, 0.8]), (4.0, [0.5, 0.2])]);
    for (walk, from, to, is) in [
        (&down, [0.2, 0.5], [0.8, 0.5], "in"),
        (&up, [0.2, 0.5], [0.8, 0.5], "out"),
        (&down, [0.8, 0.5], [0.2, 0.5], "out"),
    ] {
        let mut scene = of_lines(&[line("gate", from, to)]);
        let looks = walk.looks(10, &mut Wobble::none());
        assert_eq!(
            names(crossings(&mut scene, 1, &looks)),
            [format!("gate {is}")]
        );
    }
}

#[test]
fn each_crossing_counts_once_at_every_rate() {
    // Down, up again after a while, and down once more.
    let walk = Walk::new(&[
        (0.0, [0.5, 0.3]),
        (3.0, [0.5, 0.8]),
        (5.0, [0.6, 0.8]),
        (8.0, [0.5, 0.25]),
        (11.0, [0.4, 0.8]),
    ]);
    for fps in FPS {
        for seed in 1..40 {
            let mut scene = of_lines(&[gate()]);
            let looks = walk.looks(fps, &mut Wobble::new(0.05, seed));
            let crossed = crossings(&mut scene, 1, &looks);
            assert_eq!(
                names(crossed.clone()),
                ["gate out", "gate in", "gate out"],
                "{fps} {seed}"
            );
            let counts = &scene.counts()[0];
            assert_eq!([counts.r#in, counts.out], [1, 2]);
            // It is told within a second of when the feet were on the line.
            for ((told, _), truth) in crossed.iter().zip([1200, 6636, 9364]) {
                assert!(
                    (truth..truth + 1000).contains(told),
                    "{fps} {seed} {told} {truth}"
                );
            }
        }
    }
}

#[test]
fn who_stands_on_the_line_or_walks_along_it_is_not_counted() {
    let standing = Walk::new(&[(0.0, [0.5, 0.3]), (2.0, [0.5, 0.5]), (120.0, [0.5, 0.5])]);
    let along = Walk::new(&[
        (0.0, [0.25, 0.3]),
        (2.0, [0.25, 0.5]),
        (12.0, [0.75, 0.5]),
        (14.0, [0.75, 0.3]),
    ]);
    for fps in FPS {
        for seed in 1..30 {
            for walk in [&standing, &along] {
                let mut scene = of_lines(&[gate()]);
                let looks = walk.looks(fps, &mut Wobble::new(0.04, seed));
                assert!(crossings(&mut scene, 1, &looks).is_empty(), "{fps} {seed}");
            }
        }
    }
}

#[test]
fn who_goes_on_after_standing_on_the_line_is_counted_once() {
    for (end, expected) in [([0.5, 0.8], vec!["gate out"]), ([0.5, 0.2], vec![])] {
        let walk = Walk::new(&[
            (0.0, [0.5, 0.3]),
            (2.0, [0.5, 0.5]),
            (32.0, [0.5, 0.5]),
            (35.0, end),
        ]);
        for fps in FPS {
            for seed in 1..30 {
                let mut scene = of_lines(&[gate()]);
                let looks = walk.looks(fps, &mut Wobble::new(0.04, seed));
                assert_eq!(
                    names(crossings(&mut scene, 1, &looks)),
                    expected,
                    "{fps} {seed}"
                );
            }
        }
    }
}

#[test]
fn who_turns_back_on_the_line_or_passes_its_ends_is_not_counted() {
    let turns = Walk::new(&[(0.0, [0.5, 0.25]), (2.5, [0.5, 0.5]), (5.0, [0.5, 0.25])]);
    let passes = Walk::new(&[
        (0.0, [0.1, 0.2]),
        (4.0, [0.1, 0.8]),
        (5.0, [0.9, 0.8]),
        (9.0, [0.9, 0.2]),
    ]);
    // Onto the line, along it beyond its end, and off on the other side: round the end, not through the gate.
    let round = Walk::new(&[
        (0.0, [0.7, 0.3]),
        (2.0, [0.7, 0.48]),
        (5.0, [0.9, 0.48]),
        (8.0, [0.9, 0.8]),
    ]);
    for fps in FPS {
        for walk in [&turns, &passes, &round] {
            let mut scene = of_lines(&[gate()]);
            let looks = walk.looks(fps, &mut Wobble::none());
            assert!(
                crossings(&mut scene, 1, &looks).is_empty(),
                "{fps} {walk:?}"
            );
        }
        for seed in 1..30 {
            for walk in [&turns, &passes] {
                let mut scene = of_lines(&[gate()]);
                let looks = walk.looks(fps, &mut Wobble::new(0.04, seed));
                assert!(
                    crossings(&mut scene, 1, &looks).is_empty(),
                    "{fps} {seed} {walk:?}"
                );
            }
        }
    }
}

#[test]
fn who_goes_round_the_end_and_through_again_is_counted_each_time() {
    let circle = [
        (0.0, [0.6, 0.2]),
        (3.0, [0.6, 0.8]),
        (5.0, [0.95, 0.8]),
        (8.0, [0.95, 0.2]),
        (10.0, [0.6, 0.2]),
        (13.0, [0.6, 0.8]),
    ];
    for fps in FPS {
        let mut scene = of_lines(&[gate()]);
        let looks = Walk::new(&circle).looks(fps, &mut Wobble::new(0.02, 7));
        assert_eq!(
            names(crossings(&mut scene, 1, &looks)),
            ["gate out", "gate out"],
            "{fps}"
        );
    }
}

#[test]
fn who_is_hidden_while_crossing_is_counted_once() {
    let mut walk = Walk::new(&[(0.0, [0.5, 0.3]), (4.0, [0.5, 0.7])]);
    walk.hidden.push([1.2, 3.1]);
    for fps in FPS {
        let mut scene = of_lines(&[gate()]);
        let looks = walk.looks(fps, &mut Wobble::none());
        let crossed = crossings(&mut scene, 1, &looks);
        assert_eq!(crossed.len(), 1, "{fps} {crossed:?}");
        // At the very look at which it is found again.
        assert!(crossed[0].0 < 3700, "{fps} {crossed:?}");
    }
}

#[test]
fn a_large_box_crosses_a_line_near_the_edge_of_the_picture() {
    let mut walk = Walk::new(&[
        (0.0, [0.5, 0.8]),
        (2.0, [0.5, 1.0]),
        (4.0, [0.5, 1.0]),
        (6.0, [0.5, 0.8]),
    ]);
    walk.height = 0.7;
    for fps in FPS {
        let mut scene = of_lines(&[line("door", [0.2, 0.96], [0.8, 0.96])]);
        let looks = walk.looks(fps, &mut Wobble::none());
        assert_eq!(
            names(crossings(&mut scene, 1, &looks)),
            ["door in", "door out"],
            "{fps}"
        );
    }
}

#[test]
fn one_wrong_box_is_no_crossing() {
    let above = person(at(0.5, 0.42), 0.3);
    let below = person(at(0.5, 0.56), 0.3);
    let mut scene = of_lines(&[gate()]);
    let mut looks: Vec<_> = (0..30).map(|n| (ms(n * 100), above)).collect();
    looks[10].1 = below;
    looks[20].1 = below;
    assert!(crossings(&mut scene, 1, &looks).is_empty());
}

#[test]
fn a_line_counts_its_labels_only() {
    let mut people = gate();
    people.labels = vec!["person".into()];
    let mut cars = gate();
    cars.name = "cars".into();
    cars.labels = vec!["car".into()];
    let mut scene = of_lines(&[people, cars]);
    let walk = Walk::new(&[(0.0, [0.5, 0.3]), (4.0, [0.5, 0.7])]);
    let looks = walk.looks(10, &mut Wobble::none());
    assert_eq!(names(crossings(&mut scene, 1, &looks)), ["gate out"]);
}

#[test]
fn two_who_cross_each_others_paths_are_counted_each() {
    let down = Walk::new(&[(0.0, [0.3, 0.3]), (4.0, [0.7, 0.7])]);
    let up = Walk::new(&[(0.0, [0.7, 0.7]), (4.0, [0.3, 0.3])]);
    for fps in FPS {
        let mut scene = of_lines(&[gate()]);
        let both = [
            down.looks(fps, &mut Wobble::none()),
            up.looks(fps, &mut Wobble::none()),
        ];
        for (one, other) in both[0].iter().zip(&both[1]) {
            scene.seen(one.0, &track(1, one.1), "person");
            scene.seen(other.0, &track(2, other.1), "person");
        }
        let counts = &scene.counts()[0];
        assert_eq!([counts.r#in, counts.out], [1, 1], "{fps}");
    }
}

#[test]
fn a_gate_with_a_bend_is_crossed_once_at_the_bend_too() {
    for (first, second) in [
        ([0.2, 0.5], [0.8, 0.6]),
        ([0.2, 0.6], [0.8, 0.6]),
        ([0.2, 0.4], [0.8, 0.3]),
    ] {
        let bend = [line("a", first, [0.5, 0.5]), line("b", [0.5, 0.5], second)];
        for x in [0.45, 0.5, 0.55] {
            let mut scene = of_lines(&bend);
            let walk = Walk::new(&[(0.0, [x, 0.15]), (5.0, [x, 0.9])]);
            let crossed = crossings(&mut scene, 1, &walk.looks(10, &mut Wobble::none()));
            assert_eq!(crossed.len(), 1, "{x} {second:?} {crossed:?}");
            assert!(crossed[0].1.ends_with("in"), "{crossed:?}");
        }
    }
}

/// A number of hundredths.
fn hundredths() -> impl Strategy<Value = f64> {
    (0..=100i32).prop_map(|n| f64::from(n) / 100.0)
}

fn place() -> impl Strategy<Value = [f64; 2]> {
    [hundredths(), hundredths()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// What `geo` says of the way and the segment decides, where the way begins and ends off the line.
    #[test]
    fn a_straight_way_is_counted_as_geo_sees_it(from in place(), to in place(), start in place(), end in place(), fps in 0..4usize) {
        let shape = LineShape::new(&line("l", from, to));
        let sides = [start, end].map(|[x, y]| shape.side(at(x, y).on_grid(), &person(at(x, y.max(0.01)), 0.02)));
        prop_assume!(from != to && sides.iter().all(|side| side.is_some_and(|(_, is_far)| is_far)));
        prop_assume!(start[1] > 0.0 && end[1] > 0.0);
        let coordinates = |[x, y]: [f64; 2]| geo::coord! { x: x, y: y };
        let way = geo::Line::new(coordinates(start), coordinates(end));
        let segment = geo::Line::new(coordinates(from), coordinates(to));
        // Through an end of the line is a matter of taste, and steps meet the way only nearly.
        let near_an_end = [from, to].iter().any(|end| {
            use geo::{Distance, Euclidean};
            Euclidean.distance(&geo::Point(coordinates(*end)), &way) < 1e-3
        });
        prop_assume!(!near_an_end);
        let mut walk = Walk::new(&[(0.0, start), (5.0, end), (6.0, end)]);
        walk.height = 0.02;
        let mut scene = of_lines(&[line("l", from, to)]);
        let crossed = crossings(&mut scene, 1, &walk.looks(FPS[fps], &mut Wobble::none()));
        let is_counted = way.intersects(&segment);
        prop_assert_eq!(crossed.len(), usize::from(is_counted), "{:?}", crossed);
    }

    /// Any walk of long ways gives the same crossings at each rate.
    #[test]
    fn each_rate_counts_the_same(corners in prop::collection::vec(place(), 2..6), seed in 1..1000u64) {
        let corners: Vec<(f64, [f64; 2])> = (0u32..)
            .zip(corners)
            .flat_map(|(n, [x, y])| {
                // Whoever turns, stays there for a second, well away from the line.
                let time = f64::from(n) * 5.0;
                let y = if y < 0.5 { 0.3 + y * 0.2 } else { 0.6 + y * 0.2 };
                [(time, [x, y]), (time + 1.0, [x, y])]
            })
            .collect();
        let mut walk = Walk::new(&corners);
        walk.height = 0.15;
        let line = line("l", [0.0, 0.5], [1.0, 0.5]);
        let mut truth = Vec::new();
        for pair in corners.windows(2) {
            let [was, is] = [pair[0].1[1], pair[1].1[1]].map(|y| y > 0.5);
            if was != is {
                truth.push(if is { "l in" } else { "l out" });
            }
        }
        for fps in FPS {
            let mut scene = of_lines(std::slice::from_ref(&line));
            let looks = walk.looks(fps, &mut Wobble::new(0.04, seed));
            prop_assert_eq!(names(crossings(&mut scene, 1, &looks)), &*truth, "{}", fps);
        }
    }
}
