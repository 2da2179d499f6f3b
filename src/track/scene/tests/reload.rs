use super::*;

fn yard() -> ZoneConfig {
    zone("yard", &[[0.3, 0.3], [0.7, 0.3], [0.7, 0.7], [0.3, 0.7]])
}

fn gate() -> LineConfig {
    line("gate", [0.2, 0.5], [0.8, 0.5])
}

fn config(zones: &[ZoneConfig], lines: &[LineConfig]) -> SceneConfig {
    SceneConfig {
        zones: zones.to_vec(),
        lines: lines.to_vec(),
        masks: Vec::new(),
    }
}

fn counts(scene: &Scene) -> Vec<(String, u64, u64)> {
    let counts = scene.counts().iter();
    counts
        .map(|counts| (counts.line.to_string(), counts.r#in, counts.out))
        .collect()
}

#[test]
fn a_line_that_stays_keeps_its_counts_and_who_is_about_to_cross() {
    let mut scene = Scene::new(&config(&[], &[gate()]), ms(10_000));
    let down = Walk::new(&[(0.0, [0.5, 0.2]), (4.0, [0.5, 0.8])]);
    let looks = down.looks(10, &mut Wobble::none());
    crossings(&mut scene, 1, &looks);
    assert_eq!(counts(&scene), [("gate".into(), 1, 0)]);
    // Another line comes before it while somebody is on the line, and its labels change.
    let mut people = gate();
    people.labels = vec!["person".into()];
    let other = line("other", [0.1, 0.1], [0.2, 0.1]);
    let (first, second) = looks.split_at(20);
    crossings(&mut scene, 2, first);
    scene.set(&config(&[], &[other, people]), ms(10_000));
    assert_eq!(names(crossings(&mut scene, 2, second)), ["gate in"]);
    assert_eq!(
        counts(&scene),
        [("other".into(), 0, 0), ("gate".into(), 2, 0)]
    );
    // A line that was moved or turned is another line, and begins at 0; nobody crosses it by that.
    let last = looks.last().unwrap();
    for (n, moved) in (1..).zip([
        line("gate", [0.2, 0.9], [0.8, 0.9]),
        line("gate", [0.8, 0.9], [0.2, 0.9]),
    ]) {
        scene.set(&config(&[], &[moved]), ms(10_000));
        assert_eq!(counts(&scene), [("gate".into(), 0, 0)]);
        let later: Vec<_> = (1..10)
            .map(|look| (ms(10_000 * n + look * 100), last.1))
            .collect();
        assert!(crossings(&mut scene, 2, &later).is_empty());
    }
}

#[test]
fn who_is_in_a_zone_that_stays_is_in_it_with_the_time_spent_there() {
    let mut scene = Scene::new(&config(&[yard()], &[]), ms(10_000));
    let inside = track(1, person(at(0.5, 0.5), 0.2));
    for n in 0..=20 {
        scene.seen(ms(n * 100), &inside, "person");
    }
    // One before it, and the zone itself longer on one side.
    let longer = zone("yard", &[[0.3, 0.3], [0.9, 0.3], [0.9, 0.7], [0.3, 0.7]]);
    let mut strict = longer;
    strict.min_dwell = ms(60_000);
    let before = zone("before", &[[0.0, 0.0], [0.1, 0.0], [0.1, 0.1]]);
    scene.set(&config(&[before, strict], &[]), ms(10_000));
    let change = scene.seen(ms(2100), &inside, "person");
    assert_eq!(change, SceneChange::default());
    let place = scene.place(1).unwrap();
    assert_eq!(*place.zones, ["yard".into()]);
    assert_eq!(place.visited, [("yard".into(), ms(2100))]);
}

#[test]
fn who_is_no_longer_in_a_zone_that_was_changed_is_out_at_once_and_it_is_told() {
    let away = zone("yard", &[[0.0, 0.0], [0.2, 0.0], [0.2, 0.2]]);
    for changed in [config(&[away], &[]), config(&[], &[])] {
        let mut scene = Scene::new(&config(&[yard()], &[]), ms(10_000));
        let inside = track(1, person(at(0.5, 0.5), 0.2));
        for n in 0..=20 {
            scene.seen(ms(n * 100), &inside, "person");
        }
        scene.set(&changed, ms(10_000));
        assert!(scene.place(1).unwrap().zones.is_empty());
        // Two changes before it is seen are told once.
        scene.set(&changed, ms(10_000));
        assert!(scene.seen(ms(2100), &inside, "person").zones);
        assert!(!scene.seen(ms(2200), &inside, "person").zones);
        // It comes back: entered again as by anybody who left, and the time goes on.
        scene.set(&config(&[yard()], &[]), ms(10_000));
        let told: Vec<u64> = (23..=40)
            .filter(|n| scene.seen(ms(n * 100), &inside, "person").zones)
            .collect();
        assert_eq!(told, [28]);
        assert_eq!(
            scene.place(1).unwrap().visited,
            [("yard".into(), ms(2000 + 1700))]
        );
    }
}

#[test]
fn many_names_are_not_remembered_for_ever() {
    let mut scene = of_zones(&[]);
    let inside = track(1, person(at(0.5, 0.5), 0.2));
    for n in 0..500u64 {
        let mut zone = yard();
        zone.name = format!("zone {n}").into();
        scene.set(&config(&[zone], &[]), ms(10_000));
        assert!(scene.seen(ms(n * 100), &inside, "person").zones);
    }
    assert_eq!(scene.place(1).unwrap().visited.len(), MOST_VISITED);
}

#[test]
fn the_last_minute_tells_which_line_nobody_can_cross_and_which_zone_is_small() {
    let lines = [
        gate(),
        line("roof", [0.1, 0.1], [0.9, 0.1]),
        line("beside", [0.0, 0.5], [0.1, 0.5]),
    ];
    let mat = zone(
        "mat",
        &[[0.45, 0.5], [0.55, 0.5], [0.55, 0.55], [0.45, 0.55]],
    );
    let far = zone("far", &[[0.0, 0.0], [0.1, 0.0], [0.1, 0.1]]);
    let mut scene = Scene::new(&config(&[yard(), mat, far], &lines), ms(10_000));
    let nothing = Reach {
        lines: vec![None; 3],
        smaller_than_a_box: vec![None; 3],
    };
    assert_eq!(scene.reach(ms(0)), nothing);
    let walk = Walk::new(&[(0.0, [0.5, 0.3]), (4.0, [0.5, 0.8])]);
    crossings(&mut scene, 1, &walk.looks(10, &mut Wobble::none()));
    let expected = Reach {
        lines: vec![Some(true), Some(false), Some(false)],
        smaller_than_a_box: vec![Some(false), Some(true), Some(true)],
    };
    assert_eq!(scene.reach(ms(10_000)), expected);
    assert_eq!(scene.reach(ms(70_000)), nothing);
}

#[test]
fn what_a_zone_or_a_line_does_not_count_tells_nothing_of_it() {
    let of = |label: &str| vec![label.into()];
    let mut street = gate();
    street.labels = of("car");
    let mut path = zone(
        "path",
        &[[0.35, 0.2], [0.65, 0.2], [0.65, 0.9], [0.35, 0.9]],
    );
    path.labels = of("person");
    let mut all = path.clone();
    (all.name, all.labels) = ("all".into(), Vec::new());
    let mut scene = Scene::new(&config(&[path, all], &[gate(), street]), ms(10_000));
    let walk = Walk::new(&[(0.0, [0.5, 0.3]), (4.0, [0.5, 0.8])]);
    // A lorry stands wherever a person was, and comes after them: it fills half of the picture.
    for (time, person) in walk.looks(10, &mut Wobble::none()) {
        scene.seen(time, &track(1, person), "person");
        let lorry = super::person(person.bottom_center(), 2.0);
        scene.seen(time, &track(2, lorry), "lorry");
    }
    let expected = Reach {
        lines: vec![Some(true), None],
        smaller_than_a_box: vec![Some(false), Some(true)],
    };
    assert_eq!(scene.reach(ms(10_000)), expected);
}

#[test]
fn what_is_remembered_of_sightings_is_bounded() {
    let mut scene = Scene::new(&config(&[yard()], &[gate()]), ms(10_000));
    for n in 0..20_000u32 {
        let x = 0.1 + 0.8 * f64::from(n % 61) / 61.0;
        let y = 0.3 + 0.6 * f64::from(n % 37) / 37.0;
        let label = format!("label {}", n % 700);
        scene.seen(ms(u64::from(n)), &track(1, person(at(x, y), 0.2)), &label);
    }
    assert!(
        scene.sightings.len() <= 1296,
        "{} sightings",
        scene.sightings.len()
    );
    assert_eq!(scene.reach(ms(20_000)).lines, [Some(true)]);
}
