//! The life of single tracks: confirmation, labels, gaps between looks, settings.

use super::*;

const STANDING: (f32, f32, f32, f32) = (0.5, 0.5, 0.05, 0.2);

fn standing(score: f32) -> Observation {
    let (x, y, w, h) = STANDING;
    observation(x, y, w, h, score).unwrap()
}

struct Eye {
    tracker: Tracker,
    ids: TrackIds,
}

impl Eye {
    fn new() -> Self {
        Self {
            tracker: Tracker::new(SETTINGS),
            ids: TrackIds::default(),
        }
    }

    /// Looks, and gives the ends.
    fn look(&mut self, ms: u64, observations: &[Observation]) -> Vec<(Track, EndReason)> {
        let now = Duration::from_millis(ms);
        self.tracker
            .look(now, observations, &self.ids)
            .ended
            .to_vec()
    }

    fn state(&self) -> Option<TrackState> {
        self.tracker.tracks().first().map(|track| track.state)
    }
}

#[test]
fn confirmed_when_seen_twice_and_old_enough() {
    let mut eye = Eye::new();
    eye.look(0, &[standing(0.8)]);
    assert_eq!(eye.state(), Some(TrackState::Tentative));
    eye.look(299, &[standing(0.8)]);
    assert_eq!(eye.state(), Some(TrackState::Tentative));
    eye.look(300, &[standing(0.8)]);
    assert_eq!(eye.state(), Some(TrackState::Confirmed));
    let track = &eye.tracker.tracks()[0];
    assert_eq!(track.id, Some(1));
    assert_eq!(track.first_seen, Duration::ZERO);
    assert_eq!(track.confirmed_at, Some(Duration::from_millis(300)));
}

#[test]
fn the_second_sighting_confirms_at_a_low_rate() {
    let mut eye = Eye::new();
    eye.look(0, &[standing(0.8)]);
    eye.look(1000, &[standing(0.8)]);
    assert_eq!(eye.state(), Some(TrackState::Confirmed));
}

#[test]
fn nothing_is_confirmed_at_a_look_that_misses_it() {
    let mut eye = Eye::new();
    eye.look(0, &[standing(0.8)]);
    eye.look(100, &[standing(0.8)]);
    eye.look(400, &[]);
    assert_eq!(eye.state(), Some(TrackState::Tentative));
    eye.look(500, &[standing(0.8)]);
    assert_eq!(eye.state(), Some(TrackState::Confirmed));
}

#[test]
fn what_was_seen_once_is_nobody() {
    let mut eye = Eye::new();
    eye.look(0, &[standing(0.8)]);
    let ends: Vec<_> = (1..20).flat_map(|n| eye.look(n * 100, &[])).collect();
    assert!(ends.is_empty());
    assert_eq!(eye.state(), None);
}

#[test]
fn weak_observations_carry_on_and_begin_nothing() {
    let mut eye = Eye::new();
    eye.look(0, &[standing(0.58)]);
    assert_eq!(eye.state(), None, "too weak to begin");
    eye.look(100, &[standing(0.7)]);
    for n in 2..30 {
        eye.look(n * 100, &[standing(0.36)]);
    }
    assert_eq!(eye.state(), Some(TrackState::Confirmed));
    let track = &eye.tracker.tracks()[0];
    assert!((track.score - 0.36).abs() < 1e-6 && (track.top_score - 0.7).abs() < 1e-6);
}

#[test]
fn a_stalled_camera_ends_no_track() {
    let mut eye = Eye::new();
    eye.look(0, &[standing(0.8)]);
    eye.look(500, &[standing(0.8)]);
    // An hour without a picture is one second of looking.
    assert!(eye.look(3_600_000, &[]).is_empty());
    assert_eq!(eye.state(), Some(TrackState::Lost));
    assert!(eye.look(3_600_900, &[]).is_empty());
    eye.look(3_600_950, &[standing(0.8)]);
    assert_eq!(eye.state(), Some(TrackState::Confirmed));
    assert_eq!(eye.tracker.tracks()[0].id, Some(1));
    // And then it is gone for as long as it may not be.
    assert!(eye.look(3_601_900, &[]).is_empty());
    assert!(eye.look(3_602_900, &[]).is_empty());
    let ends = eye.look(3_602_950, &[]);
    assert_eq!(ends.len(), 1);
    assert_eq!(ends[0].1, EndReason::Lost);
    assert_eq!(ends[0].0.last_seen, Duration::from_millis(3_600_950));
}

#[test]
fn the_label_is_that_of_most_of_its_life() {
    let mut eye = Eye::new();
    let mut bus = standing(0.9);
    bus.label = LabelId(5);
    eye.look(0, &[bus]);
    assert_eq!(eye.tracker.tracks()[0].label, LabelId(5));
    for n in 1..20 {
        let seen = if u64::is_multiple_of(n, 4) {
            bus
        } else {
            standing(0.7)
        };
        eye.look(n * 200, &[seen]);
    }
    assert_eq!(eye.tracker.tracks().len(), 1, "one thing of two labels");
    assert_eq!(eye.tracker.tracks()[0].label, PERSON);
}

#[test]
fn settings_change_and_tracks_live_on() {
    let mut eye = Eye::new();
    eye.look(0, &[standing(0.8)]);
    eye.look(500, &[standing(0.8)]);
    eye.tracker.set(TrackerSettings {
        lost: Duration::from_secs(10),
        ..SETTINGS
    });
    for n in 1..10 {
        assert!(eye.look(500 + n * 1000, &[]).is_empty());
    }
    assert_eq!(eye.look(10_500, &[]).len(), 1);
}

#[test]
fn the_end_of_all() {
    let mut eye = Eye::new();
    let other = observation(0.2, 0.5, 0.05, 0.2, 0.8).unwrap();
    eye.look(0, &[standing(0.8)]);
    eye.look(500, &[standing(0.8), other]);
    let ended = eye.tracker.end_all();
    assert_eq!(
        ended.iter().map(|track| track.id).collect::<Vec<_>>(),
        [Some(1)]
    );
    assert!(eye.tracker.tracks().is_empty());
    eye.look(600, &[standing(0.8)]);
    assert_eq!(eye.tracker.tracks()[0].serial, 3, "no number is used again");
}

#[test]
fn the_same_time_again_and_a_time_that_goes_backwards() {
    let mut eye = Eye::new();
    for ms in [0, 500, 500, 400, 0, 600] {
        assert!(eye.look(ms, &[standing(0.8)]).is_empty());
    }
    assert_eq!(eye.tracker.tracks().len(), 1);
    assert_eq!(
        eye.tracker.tracks()[0].last_seen,
        Duration::from_millis(600)
    );
}

#[test]
fn the_foot_has_a_velocity() {
    let mut eye = Eye::new();
    let mut at = 0.2;
    for n in 0_u8..20 {
        at = 0.2 + 0.001 * f32::from(n) * 5.0;
        let seen = observation(at, 0.5, 0.05, 0.2, 0.8).unwrap();
        eye.look(u64::from(n) * 100, &[seen]);
    }
    let [x, y] = eye.tracker.tracks()[0].velocity;
    assert!((x - 0.05).abs() < 0.01 && y.abs() < 0.01, "{x} {y}");
    // It is expected to go on.
    eye.look(2400, &[]);
    let bbox = eye.tracker.tracks()[0].bbox;
    let middle = f32::midpoint(bbox.x1, bbox.x2);
    assert!((middle - (at + 0.025)).abs() < 0.01, "{middle}");
}
