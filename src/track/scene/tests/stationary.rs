use super::*;

/// When it became stationary and when it moved again, in ms.
fn changes(looks: &[(Duration, RelativeBox)]) -> Vec<u128> {
    let mut scene = of_lines(&[]);
    let changed = |(now, bbox): &(Duration, RelativeBox)| {
        let change = scene.seen(*now, &track(1, *bbox), "car");
        change.stationary.then_some(now.as_millis())
    };
    looks.iter().filter_map(changed).collect()
}

#[test]
fn who_stays_is_stationary_until_it_moves() {
    // It comes for three seconds, parks for a minute, and goes.
    let walk = Walk::new(&[
        (0.0, [0.1, 0.5]),
        (3.0, [0.5, 0.6]),
        (63.0, [0.5, 0.6]),
        (66.0, [0.9, 0.5]),
    ]);
    for fps in FPS {
        for seed in 1..30 {
            let told = changes(&walk.looks(fps, &mut Wobble::new(0.04, seed)));
            assert_eq!(told.len(), 2, "{fps} {seed} {told:?}");
            // Where exactly it stopped being on its way is known to half a box, and a box that was far off begins anew.
            assert!(
                (12_000..=20_000).contains(&told[0]),
                "{fps} {seed} {told:?}"
            );
            assert!(
                (63_000..=64_500).contains(&told[1]),
                "{fps} {seed} {told:?}"
            );
        }
    }
}

#[test]
fn who_walks_is_never_stationary() {
    let across = Walk::new(&[(0.0, [0.05, 0.5]), (30.0, [0.95, 0.5])]);
    // Straight to the camera, so that the middle of the box stays.
    let looks: Vec<_> = (0..300u32)
        .map(|n| {
            let height = 0.1 * 1.008f64.powf(f64::from(n));
            (
                ms(u64::from(n) * 100),
                person(at(0.5, 0.5 + height / 2.0), height),
            )
        })
        .collect();
    assert_eq!(changes(&looks), Vec::<u128>::new());
    for fps in FPS {
        assert_eq!(
            changes(&across.looks(fps, &mut Wobble::new(0.04, 3))),
            Vec::<u128>::new(),
            "{fps}"
        );
    }
}

#[test]
fn what_is_hidden_in_part_does_not_move() {
    let whole = RelativeBox::new(0.4, 0.4, 0.6, 0.6).unwrap();
    let upper = RelativeBox::new(0.4, 0.4, 0.6, 0.48).unwrap();
    let left = RelativeBox::new(0.4, 0.4, 0.47, 0.6).unwrap();
    let bbox = |n: u64| match n {
        150..170 => upper,
        200..220 => left,
        250 => RelativeBox::new(0.48, 0.4, 0.68, 0.6).unwrap(),
        _ => whole,
    };
    let looks: Vec<_> = (0..400).map(|n| (ms(n * 100), bbox(n))).collect();
    assert_eq!(changes(&looks), [10_000]);
}

#[test]
fn what_leaves_its_place_is_told_at_once() {
    let bbox = |n: u64| match n {
        0..150 => RelativeBox::new(0.4, 0.4, 0.6, 0.6).unwrap(),
        _ => RelativeBox::new(0.6, 0.4, 0.8, 0.6).unwrap(),
    };
    let looks: Vec<_> = (0..200).map(|n| (ms(n * 100), bbox(n))).collect();
    assert_eq!(changes(&looks), [10_000, 15_000]);
    // Slowly, a tenth of its width a second.
    let creeping: Vec<_> = (0..400u32)
        .map(|n| {
            let shift = f64::from(n.saturating_sub(150)) * 0.0012;
            (ms(u64::from(n) * 100), person(at(0.3 + shift, 0.6), 0.3))
        })
        .collect();
    let told = changes(&creeping);
    assert_eq!(told.len(), 2);
    assert!((15_000..20_000).contains(&told[1]), "{told:?}");
}
