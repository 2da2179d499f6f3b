//! Nothing grows, whatever comes in, and nothing that is no number gets in.

use super::*;

#[test]
fn ten_thousand_candidates_a_look_grow_nothing() {
    let mut tracker = Tracker::new(SETTINGS);
    let (ids, mut numbers) = (TrackIds::default(), Numbers(1));
    for n in 0..40_u64 {
        let candidates: Vec<_> = (0..10_000).map(|_| numbers.observation(0.01)).collect();
        let looked = tracker.look(Duration::from_millis(n * 100), &candidates, &ids);
        assert_eq!(looked.belongings.len(), candidates.len());
        let taken = looked
            .belongings
            .iter()
            .filter(|of| **of != Belonging::None)
            .count();
        assert!(taken <= MOST_OBSERVATIONS);
        assert!(tracker.tracks().len() <= MOST_TRACKS);
    }
    assert!(tracker.tracks().len() > 1000, "there is a lot to follow");
    for track in tracker.tracks() {
        let RelativeBox { x1, y1, x2, y2 } = track.bbox;
        assert!(0.0 <= x1 && x1 < x2 && x2 <= 1.0 && 0.0 <= y1 && y1 < y2 && y2 <= 1.0);
        assert!(track.velocity.iter().all(|speed| speed.is_finite()));
    }
}

#[test]
fn all_at_one_place_is_bounded_too() {
    let mut tracker = Tracker::new(SETTINGS);
    let (ids, mut numbers) = (TrackIds::default(), Numbers(2));
    for n in 0..5_u64 {
        let candidates: Vec<_> = (0..10_000)
            .map(|_| {
                let (dx, dy) = (numbers.next() * 0.2, numbers.next() * 0.2);
                observation(0.4 + dx, 0.4 + dy, 0.3, 0.3, 0.9).unwrap()
            })
            .collect();
        let looked = tracker.look(Duration::from_millis(n * 100), &candidates, &ids);
        let doubles = looked.belongings.iter();
        let doubles = doubles
            .filter(|of| matches!(of, Belonging::Double(_)))
            .count();
        assert!(doubles > 1000);
        assert!(tracker.tracks().len() < 20);
    }
}

#[test]
fn the_weakest_newcomer_makes_room() {
    let mut tracker = Tracker::new(SETTINGS);
    let ids = TrackIds::default();
    // Boxes beside each other, in columns of 64.
    let grid = |from: u16, score: f32| -> Vec<_> {
        (from..from + 1024)
            .map(|n| {
                let (column, row) = (n / 64, n % 64);
                let (x, y) = (f32::from(column) / 64.0, f32::from(row) / 64.0);
                observation(x + 0.008, y + 0.008, 0.005, 0.005, score).unwrap()
            })
            .collect()
    };
    tracker.look(Duration::ZERO, &grid(0, 0.9), &ids);
    tracker.look(Duration::from_millis(10), &grid(1024, 0.7), &ids);
    assert_eq!(tracker.tracks().len(), MOST_TRACKS);
    let better = tracker.look(Duration::from_millis(20), &grid(2048, 0.8), &ids);
    assert!(
        better
            .belongings
            .iter()
            .all(|of| matches!(of, Belonging::Track(_)))
    );
    assert_eq!(tracker.tracks().len(), MOST_TRACKS);
    assert!(tracker.tracks().iter().all(|track| track.score > 0.75));
    let worse = tracker.look(Duration::from_millis(30), &grid(3072, 0.7), &ids);
    assert!(worse.belongings.iter().all(|of| *of == Belonging::None));
    assert_eq!(tracker.tracks().len(), MOST_TRACKS);
}

#[test]
fn what_is_no_number_does_not_get_in() {
    let good = observation(0.5, 0.5, 0.05, 0.2, 0.8).unwrap();
    let with = |change: &dyn Fn(&mut Observation)| {
        let mut bad = good;
        change(&mut bad);
        bad
    };
    let all = [
        with(&|bad| bad.score = f32::NAN),
        with(&|bad| bad.score = f32::INFINITY),
        with(&|bad| bad.bbox.x1 = f32::NAN),
        with(&|bad| bad.bbox.x2 = f32::INFINITY),
        with(&|bad| bad.bbox.y1 = f32::NEG_INFINITY),
        with(&|bad| (bad.bbox.y1, bad.bbox.y2) = (0.5, 0.5)),
        with(&|bad| (bad.bbox.x1, bad.bbox.x2) = (0.6, 0.4)),
    ];
    let mut tracker = Tracker::new(SETTINGS);
    let ids = TrackIds::default();
    for n in 0..10_u64 {
        let looked = tracker.look(Duration::from_millis(n * 200), &all, &ids);
        assert!(looked.belongings.iter().all(|of| *of == Belonging::None));
    }
    assert!(tracker.tracks().is_empty());
    let numbers = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    for bad in numbers {
        assert_eq!(RelativeBox::new(bad, 0.0, 1.0, 1.0), None);
        assert_eq!(RelativeBox::new(0.0, 0.0, 1.0, bad), None);
    }
    tracker.look(Duration::from_secs(3), &[good], &ids);
    tracker.look(Duration::from_secs(4), &[good], &ids);
    assert_eq!(tracker.tracks().len(), 1);
    assert!(
        tracker.tracks()[0]
            .velocity
            .iter()
            .all(|speed| speed.is_finite())
    );
}

#[test]
fn a_track_has_a_size() {
    let bytes = size_of::<Track>() + size_of::<Life>();
    assert!(bytes <= 640, "{bytes} bytes a track");
}
