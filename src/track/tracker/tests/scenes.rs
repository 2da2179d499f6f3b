//! Whole scenes: exactly these tracks, from then to then, at every rate.

use super::*;

/// One track for each thing and no other, no observation of anybody else in it, and its times are true within a look.
#[track_caller]
fn assert_one_each(things: &[Thing], until: f32) {
    for fps in RATES {
        let tracks = follow(things, &at_rate(fps, until));
        assert_true(things, &tracks, 1.0 / fps, &format!("{fps} fps"));
    }
}

/// The same with the longest time between two looks.
#[track_caller]
pub(super) fn assert_true(
    things: &[Thing],
    tracks: &BTreeMap<u64, Followed>,
    gap: f32,
    what: &str,
) {
    assert_eq!(tracks.len(), things.len(), "{what}: {tracks:#?}");
    let ids: Vec<_> = tracks.keys().copied().collect();
    let expected: Vec<_> = (1..).take(things.len()).collect();
    assert_eq!(ids, expected, "{what}: ids go up from 1");
    for (number, thing) in things.iter().enumerate() {
        let own: Vec<_> = tracks
            .values()
            .filter(|track| track.thing == number)
            .collect();
        let [track] = own[..] else {
            panic!("{what}: thing {number} has the tracks {own:#?}");
        };
        assert_eq!(track.strangers, 0, "{what}: {track:?}");
        let visible: Vec<f32> = at_rate(1000.0, thing.to)
            .into_iter()
            .filter(|t| thing.seen(*t).is_some())
            .collect();
        let (first, last) = (visible[0], visible[visible.len() - 1]);
        let near = |time: Duration, truth: f32| (time.as_secs_f32() - truth).abs() <= gap + 0.002;
        assert!(near(track.first_seen, first), "{what}: {first} {track:?}");
        assert!(near(track.last_seen, last), "{what}: {last} {track:?}");
        let age = track.confirmed_at - track.first_seen;
        assert!(age >= SETTINGS.confirm, "{what}: {track:?}");
        let confirmed = first + SETTINGS.confirm.as_secs_f32();
        assert!(
            track.confirmed_at.as_secs_f32() <= confirmed + 2.0 * gap + 0.01,
            "{what}: {track:?}"
        );
        if let Some((at, _)) = track.ended {
            let lost = at - track.last_seen;
            assert!(lost >= SETTINGS.lost, "{what}: {track:?}");
            assert!(
                lost <= SETTINGS.lost + seconds(gap + 0.01),
                "{what}: {track:?}"
            );
        }
    }
}

fn reason(tracks: &BTreeMap<u64, Followed>, thing: usize) -> Option<EndReason> {
    let of_thing = |track: &&Followed| track.thing == thing;
    let ended = tracks.values().find(of_thing).unwrap().ended;
    ended.map(|(_, reason)| reason)
}

#[test]
fn two_who_cross() {
    let there = walker(0.0, 8.0, (0.1, 0.5), (0.9, 0.5));
    let back = walker(0.0, 8.0, (0.9, 0.52), (0.1, 0.52));
    assert_one_each(&[there, back], 12.0);
}

#[test]
fn four_who_cross_in_the_middle() {
    let things = [
        walker(0.0, 8.0, (0.1, 0.5), (0.9, 0.5)),
        walker(1.0, 9.0, (0.9, 0.5), (0.1, 0.5)),
        walker(0.5, 8.5, (0.1, 0.2), (0.9, 0.8)),
        walker(1.5, 9.5, (0.1, 0.8), (0.9, 0.2)),
    ];
    assert_one_each(&things, 13.0);
}

#[test]
fn two_who_swap_places() {
    // They stand for three seconds, walk past each other within four, and stand again.
    let swap = |from: f32, to: f32, y: f32| Thing {
        path: Box::new(move |t| {
            let part = ((t - 3.0) / 4.0).clamp(0.0, 1.0);
            (from + (to - from) * part, y)
        }),
        ..walker(0.0, 10.0, (0.0, 0.0), (0.0, 0.0))
    };
    assert_one_each(&[swap(0.45, 0.6, 0.5), swap(0.6, 0.45, 0.51)], 14.0);
}

#[test]
fn one_who_walks_behind_a_post() {
    let mut walker = walker(0.0, 8.0, (0.1, 0.5), (0.9, 0.5));
    walker.hidden = vec![(3.0, 4.5)];
    assert_one_each(&[walker], 12.0);
}

#[test]
fn one_who_is_hidden_for_too_long_is_somebody_new() {
    let mut walker = walker(0.0, 12.0, (0.1, 0.5), (0.9, 0.5));
    walker.hidden = vec![(4.0, 8.0)];
    for fps in RATES {
        let tracks = follow(std::slice::from_ref(&walker), &at_rate(fps, 12.0));
        let ended: Vec<_> = tracks
            .values()
            .map(|track| track.ended.map(|end| end.1))
            .collect();
        assert_eq!(ended, [Some(EndReason::Lost), None], "{fps}");
    }
}

#[test]
fn those_who_leave_by_each_edge_have_left() {
    let things = [
        walker(0.0, 6.0, (0.3, 0.4), (-0.2, 0.4)),
        walker(0.0, 6.0, (0.7, 0.4), (1.2, 0.4)),
        walker(0.0, 6.0, (0.4, 0.2), (0.4, -0.4)),
        walker(0.0, 6.0, (0.6, 0.7), (0.6, 1.4)),
    ];
    assert_one_each(&things, 12.0);
    for fps in RATES {
        let tracks = follow(&things, &at_rate(fps, 12.0));
        for thing in 0..things.len() {
            assert_eq!(
                reason(&tracks, thing),
                Some(EndReason::Left),
                "{thing} at {fps}"
            );
        }
    }
}

#[test]
fn those_who_vanish_are_lost() {
    let things = [
        // In the middle, on the way in, and standing at the edge.
        walker(0.0, 4.0, (0.3, 0.5), (0.5, 0.5)),
        walker(0.0, 4.0, (0.0, 0.2), (0.2, 0.2)),
        walker(0.0, 4.0, (0.98, 0.8), (0.98, 0.8)),
    ];
    assert_one_each(&things, 8.0);
    for fps in RATES {
        let tracks = follow(&things, &at_rate(fps, 8.0));
        for thing in 0..things.len() {
            assert_eq!(
                reason(&tracks, thing),
                Some(EndReason::Lost),
                "{thing} at {fps}"
            );
        }
    }
}

#[test]
fn those_who_come_in_by_each_edge_are_one_each() {
    let things = [
        walker(0.0, 6.0, (-0.1, 0.4), (0.3, 0.4)),
        walker(0.0, 6.0, (1.1, 0.4), (0.7, 0.4)),
        walker(0.0, 6.0, (0.45, -0.2), (0.45, 0.4)),
        walker(0.0, 6.0, (0.55, 1.2), (0.55, 0.6)),
    ];
    assert_one_each(&things, 9.0);
}

#[test]
fn two_side_by_side_stay_two() {
    let things = [
        walker(0.0, 8.0, (0.2, 0.5), (0.6, 0.5)),
        walker(0.0, 8.0, (0.25, 0.52), (0.65, 0.52)),
    ];
    assert_one_each(&things, 12.0);
}

#[test]
fn one_who_turns_back() {
    let turn = Thing {
        path: Box::new(|t| (0.2 + 0.08 * if t < 4.0 { t } else { 8.0 - t }, 0.5)),
        ..walker(0.0, 8.0, (0.0, 0.0), (0.0, 0.0))
    };
    assert_one_each(&[turn], 12.0);
}

#[test]
fn a_rider_and_the_bicycle_are_two() {
    let rider = Thing {
        size: (0.06, 0.2),
        ..walker(0.0, 8.0, (0.2, 0.5), (0.7, 0.5))
    };
    let bicycle = Thing {
        size: (0.1, 0.15),
        label: LabelId(1),
        ..walker(0.0, 8.0, (0.2, 0.55), (0.7, 0.55))
    };
    assert_one_each(&[rider, bicycle], 12.0);
}

#[test]
fn who_gets_out_of_a_car_is_not_the_car() {
    // The car cannot be told from its driver's door for a second.
    let car = Thing {
        size: (0.3, 0.2),
        label: LabelId(2),
        hidden: vec![(3.0, 4.0)],
        ..walker(0.0, 9.0, (0.5, 0.5), (0.5, 0.5))
    };
    let driver = walker(3.0, 9.0, (0.55, 0.5), (0.85, 0.55));
    assert_one_each(&[car, driver], 12.0);
}
