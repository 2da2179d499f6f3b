use super::*;

fn yard() -> ZoneConfig {
    zone("yard", &[[0.3, 0.3], [0.7, 0.3], [0.7, 0.7], [0.3, 0.7]])
}

/// How long the track was in each zone, in ms.
fn dwell(scene: &Scene) -> Vec<(String, u128)> {
    let visited = &scene.place(1).unwrap().visited;
    visited
        .iter()
        .map(|(name, time)| (name.to_string(), time.as_millis()))
        .collect()
}

#[test]
fn a_visit_is_entered_once_and_left_once_at_every_rate() {
    // In the yard from 2.0 s to 6.0 s.
    let walk = Walk::new(&[(0.0, [0.1, 0.5]), (8.0, [0.9, 0.5]), (9.0, [0.9, 0.5])]);
    for fps in FPS {
        let look = 1000 / u128::from(fps);
        let mut scene = of_zones(&[yard()]);
        let told = visits(&mut scene, &walk.looks(fps, &mut Wobble::none()));
        assert_eq!(told.len(), 2, "{fps} {told:?}");
        assert_eq!(
            (&*told[0].1, &*told[1].1),
            (&["yard".to_owned()][..], &[][..])
        );
        assert!((2000..=2000 + look).contains(&told[0].0), "{fps} {told:?}");
        assert!(
            (6500..=6500 + 2 * look).contains(&told[1].0),
            "{fps} {told:?}"
        );
        let (_, time) = &dwell(&scene)[0];
        assert!(time.abs_diff(4000) <= look, "{fps} {time}");
    }
}

#[test]
fn a_box_that_wobbles_at_the_edge_enters_once() {
    // Up to the edge, two minutes of standing on it, and on.
    let walk = Walk::new(&[
        (0.0, [0.1, 0.5]),
        (2.0, [0.3, 0.5]),
        (122.0, [0.3, 0.5]),
        (125.0, [0.6, 0.5]),
        (129.0, [0.9, 0.5]),
    ]);
    for fps in FPS {
        for seed in 1..20 {
            let mut scene = of_zones(&[yard()]);
            let told = visits(&mut scene, &walk.looks(fps, &mut Wobble::new(0.04, seed)));
            // Of two looks a second, six in a row show on one side now and then. Nobody can tell that from leaving.
            let most = if fps == 2 { 8 } else { 2 };
            assert!(told.len() <= most, "{fps} {seed} {told:?}");
        }
    }
}

#[test]
fn who_stops_just_outside_has_left() {
    let walk = Walk::new(&[(0.0, [0.5, 0.5]), (2.0, [0.5, 0.71]), (12.0, [0.5, 0.71])]);
    for fps in FPS {
        let mut scene = of_zones(&[yard()]);
        let told = visits(&mut scene, &walk.looks(fps, &mut Wobble::none()));
        assert_eq!(told.len(), 2, "{fps}");
        assert!((4800..6100).contains(&told[1].0), "{fps} {told:?}");
        let (_, time) = &dwell(&scene)[0];
        assert!((1900..=2500).contains(time), "{fps} {time}");
    }
}

#[test]
fn a_short_excursion_neither_leaves_nor_enters_again() {
    let inside = person(at(0.5, 0.5), 0.2);
    let outside = person(at(0.9, 0.5), 0.2);
    let looks = |changes: &[(u64, RelativeBox)], end: u64| -> Vec<(Duration, RelativeBox)> {
        let bbox = |now: u64| {
            changes
                .iter()
                .rev()
                .find(|(from, _)| *from <= now)
                .unwrap()
                .1
        };
        (0..=end / 100)
            .map(|n| (ms(n * 100), bbox(n * 100)))
            .collect()
    };
    // 400 ms outside.
    let mut scene = of_zones(&[yard()]);
    let told = visits(
        &mut scene,
        &looks(&[(0, inside), (1000, outside), (1400, inside)], 3000),
    );
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(dwell(&scene), [("yard".to_owned(), 3000)]);
    // 600 ms outside, and inside again for 400 ms: left, and not entered again.
    let mut scene = of_zones(&[yard()]);
    let told = visits(
        &mut scene,
        &looks(
            &[
                (0, inside),
                (1000, outside),
                (1600, inside),
                (2000, outside),
            ],
            3000,
        ),
    );
    let times: Vec<u128> = told.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [0, 1500]);
    assert_eq!(dwell(&scene), [("yard".to_owned(), 1000)]);
    // Inside again for longer: entered again after half a second, and the time since it came counts.
    let mut scene = of_zones(&[yard()]);
    let told = visits(
        &mut scene,
        &looks(&[(0, inside), (1000, outside), (2000, inside)], 4000),
    );
    let times: Vec<u128> = told.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [0, 1500, 2500]);
    assert_eq!(dwell(&scene), [("yard".to_owned(), 3000)]);
}

#[test]
fn who_stays_long_enough_is_in_the_zone_since_it_came() {
    let mut slow = yard();
    slow.min_dwell = ms(1500);
    let crosses = Walk::new(&[(0.0, [0.1, 0.5]), (2.0, [0.9, 0.5]), (4.0, [0.9, 0.5])]);
    let stays = Walk::new(&[(0.0, [0.1, 0.5]), (1.0, [0.5, 0.5]), (6.0, [0.5, 0.5])]);
    for fps in FPS {
        let look = 1000 / u128::from(fps);
        let mut scene = of_zones(&[slow.clone()]);
        // It crosses in one second.
        assert!(
            visits(&mut scene, &crosses.looks(fps, &mut Wobble::none())).is_empty(),
            "{fps}"
        );
        assert!(dwell(&scene).is_empty());
        let mut scene = of_zones(&[slow.clone()]);
        let told = visits(&mut scene, &stays.looks(fps, &mut Wobble::none()));
        assert_eq!(told.len(), 1, "{fps}");
        assert!(
            (2000..=2000 + 2 * look).contains(&told[0].0),
            "{fps} {told:?}"
        );
        let (_, time) = &dwell(&scene)[0];
        assert!(time.abs_diff(5500) <= look, "{fps} {time}");
    }
}

#[test]
fn who_is_lost_stays_in_the_zone_and_unseen_time_counts_for_a_second() {
    let mut scene = of_zones(&[yard()]);
    let inside = person(at(0.5, 0.5), 0.2);
    scene.seen(ms(0), &track(1, inside), "person");
    scene.seen(ms(2000), &track(1, inside), "person");
    assert_eq!(dwell(&scene), [("yard".to_owned(), 1000)]);
    assert_eq!(scene.place(1).unwrap().zones.len(), 1);
    // The camera stalled for ten minutes.
    let change = scene.seen(ms(602_000), &track(1, inside), "person");
    assert!(!change.zones);
    assert_eq!(dwell(&scene), [("yard".to_owned(), 2000)]);
    // The picture did not change for ten seconds, which was looked at.
    let seen = track(1, inside);
    for n in 1..=100 {
        scene.seen(ms(602_000 + n * 100), &seen, "person");
    }
    assert_eq!(dwell(&scene), [("yard".to_owned(), 12_000)]);
    assert!(scene.place(1).unwrap().stationary);
}

#[test]
fn zones_are_told_in_the_order_of_the_configuration_and_visits_in_their_own() {
    let left = zone("left", &[[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]);
    let right = zone("right", &[[0.4, 0.0], [1.0, 0.0], [1.0, 1.0], [0.4, 1.0]]);
    let mut scene = of_zones(&[left, right]);
    let walk = Walk::new(&[(0.0, [0.9, 0.5]), (8.0, [0.1, 0.5])]);
    let told: Vec<Vec<String>> = visits(&mut scene, &walk.looks(10, &mut Wobble::none()))
        .into_iter()
        .map(|(_, zones)| zones)
        .collect();
    assert_eq!(
        told,
        [
            vec!["right".to_owned()],
            vec!["left".into(), "right".into()],
            vec!["left".into()]
        ]
    );
    let order: Vec<String> = dwell(&scene).into_iter().map(|(name, _)| name).collect();
    assert_eq!(order, ["right", "left"]);
}

#[test]
fn a_zone_has_its_labels_only() {
    let mut people = yard();
    people.labels = vec!["person".into(), "dog".into()];
    let mut scene = of_zones(&[people]);
    let inside = person(at(0.5, 0.5), 0.2);
    assert!(!scene.seen(ms(0), &track(1, inside), "car").zones);
    assert!(scene.seen(ms(0), &track(2, inside), "dog").zones);
    // What was taken for a car turns out to be a person.
    assert!(scene.seen(ms(100), &track(1, inside), "person").zones);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Random stays in and out of the yard, each a second at least: the same visits at each rate, and time within a look for each.
    #[test]
    fn each_rate_has_the_same_visits(stays in prop::collection::vec(11..60u32, 1..7)) {
        let mut corners = Vec::new();
        let mut time = 0.0;
        let mut truth = 0.0;
        for (n, tenths) in stays.iter().enumerate() {
            let x = if n % 2 == 0 { 0.1 } else { 0.5 };
            let length = f64::from(*tenths) / 10.0 + 0.013;
            corners.extend([(time, [x, 0.5]), (time + length - 0.001, [x, 0.5])]);
            time += length;
            truth += if n % 2 == 0 { 0.0 } else { length };
        }
        corners.push((time, [0.1, 0.5]));
        corners.push((time + 2.0, [0.1, 0.5]));
        let walk = Walk::new(&corners);
        for fps in FPS {
            let mut scene = of_zones(&[yard()]);
            let told = visits(&mut scene, &walk.looks(fps, &mut Wobble::none()));
            let visits = stays.len() / 2;
            prop_assert_eq!(told.len(), visits * 2, "{} {:?}", fps, told);
            let spent: u128 = dwell(&scene).iter().map(|(_, time)| *time).sum();
            let off = (f64::from(u32::try_from(spent).unwrap()) / 1000.0 - truth).abs();
            prop_assert!(off <= 0.01 + f64::from(u32::try_from(visits).unwrap()) / f64::from(fps), "{} {} {}", fps, spent, truth);
        }
    }
}
