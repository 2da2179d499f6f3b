//! What the stage tells while its settings or the picture do not stay as they are, and what holds for the news of every track.

use proptest::prelude::*;

use super::*;

#[test]
fn a_track_has_the_label_that_it_had_for_most_of_its_life() {
    let mut camera = Camera::new(settings(Vec::new(), Vec::new()), 10);
    let seen = |class_id| Object {
        class_id,
        ..person(300.0, 600.0, 0.8)
    };
    camera.look(5_000, |t| {
        let is_mistaken = t > 1.0 && (t * 10.0).round() % 4.0 < 0.5;
        vec![seen(if is_mistaken { CAR } else { PERSON })]
    });
    assert_eq!(camera.told(), ["1 start"]);
    camera.look(9_500, |_| vec![seen(CAR)]);
    assert_eq!(camera.told(), ["1 label"]);
    assert_eq!(&*camera.stage.facts().next().unwrap().label, "car");
}

#[test]
fn a_reload_changes_zones_and_ends_tracks_only_where_nothing_is_followed() {
    let mut camera = Camera::new(settings(vec![yard(ms(0))], Vec::new()), 10);
    let stands = |_| vec![person(400.0, 600.0, 0.8)];
    camera.look(2_000, stands);
    assert_eq!(camera.told(), ["1 start"]);
    let street = ZoneConfig {
        name: "street".into(),
        ..yard(ms(0))
    };
    camera.set(settings(vec![street], Vec::new()));
    camera.look(3_000, stands);
    assert_eq!(camera.told(), ["1 zones street"]);
    camera.set(settings(Vec::new(), Vec::new()));
    camera.look(4_000, stands);
    assert_eq!(camera.told(), ["1 zones"]);

    let mut off = settings(Vec::new(), Vec::new());
    off.track.enabled = false;
    camera.set(off);
    assert_eq!(camera.told(), ["1 end cameraRemoved"]);
    camera.look(5_000, stands);
    camera.unchanged(6_000);
    assert_eq!(camera.told(), [""; 0]);
    assert_eq!(camera.stage.facts().count(), 0);
    camera.set(settings(vec![yard(ms(0))], Vec::new()));
    camera.look(7_000, stands);
    assert_eq!(camera.told(), ["2 start"]);
    assert_eq!(camera.stage.end(TrackEnd::Shutdown).len(), 1);
}

#[test]
fn time_goes_on_in_pictures_that_do_not_change() {
    let mut camera = Camera::new(settings(vec![yard(ms(5000))], Vec::new()), 10);
    camera.look(1_000, |_| vec![person(400.0, 600.0, 0.8)]);
    camera.unchanged(20_000);
    let times: Vec<u64> = camera.told.iter().map(|(at, _)| *at).collect();
    assert_eq!(
        camera.told(),
        ["1 start", "1 zones yard", "1 stationary yard"]
    );
    // Both count from the look that confirmed it.
    assert!((5_000..=5_600).contains(&times[1]), "{times:?}");
    assert!((10_000..=10_600).contains(&times[2]), "{times:?}");
    let track = camera.stage.facts().next().unwrap();
    let dwell = track.visited[0].1;
    assert!(dwell > ms(19_000) && dwell < ms(20_000), "{dwell:?}");
}

#[test]
fn who_stands_still_beside_a_zone_has_left_it_though_nothing_changes() {
    let mut camera = Camera::new(settings(vec![yard(ms(0))], Vec::new()), 10);
    camera.look(4_500, |t| {
        let x = 400.0 + 100.0 * (t - 3.0).max(0.0);
        vec![person(x, 600.0, 0.8)]
    });
    assert_eq!(camera.told(), ["1 start"]);
    camera.unchanged(10_000);
    let times: Vec<u64> = camera.told.iter().map(|(at, _)| *at).collect();
    assert_eq!(camera.told(), ["1 zones"]);
    assert!((4_500..=5_200).contains(&times[0]), "{times:?}");
}

#[test]
fn events_of_a_track_agree_on_when_it_began_though_frames_arrive_late() {
    let mut often = settings(Vec::new(), vec![gate(0.5)]);
    often.track.update = ms(100);
    let mut camera = Camera::new(often, 10);
    camera.late_ms = 90;
    camera.look(8_000, |t| vec![person(200.0 + 60.0 * t, 600.0, 0.8)]);
    camera.look(12_000, |_| Vec::new());
    let first = &camera.told[0].1.track;
    let began = (first.first_seen_at, first.confirmed_at);
    assert!(began.0 < began.1);
    assert!(camera.told.len() > 50);
    for (at, news) in &camera.told {
        let track = &news.track;
        assert_eq!((track.first_seen_at, track.confirmed_at), began, "at {at}");
        assert!(track.last_seen_at >= began.1);
    }
}

#[test]
fn stages_of_one_node_share_no_id() {
    let ids = Arc::<TrackIds>::default();
    let mut cameras = [10, 5].map(|fps| {
        let settings = settings(Vec::new(), Vec::new());
        Camera::with_ids(settings, fps, Arc::clone(&ids))
    });
    for people in 1..=3_u8 {
        for camera in &mut cameras {
            camera.look(u64::from(people) * 1000, |_| {
                (0..people)
                    .map(|n| person(100.0 + 200.0 * f32::from(n), 600.0, 0.8))
                    .collect()
            });
        }
    }
    let mut all: Vec<u64> = cameras
        .iter()
        .flat_map(|camera| camera.stage.facts().map(|track| track.id))
        .collect();
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3, 4, 5, 6]);
}

/// Somebody who walks from one place to another, and is hidden in between.
fn any_walker() -> impl Strategy<Value = [f32; 6]> {
    [
        -50.0..1050.0_f32,
        150.0..1000.0_f32,
        -50.0..1050.0_f32,
        150.0..1000.0_f32,
        0.0..8.0_f32,
        0.0..4.0_f32,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn of_every_track_start_is_first_and_end_is_last(
        walkers in prop::collection::vec(any_walker(), 1..6),
        fps in prop::sample::select(vec![2_u64, 5, 10]),
        pauses in any::<bool>(),
    ) {
        let zones = vec![yard(ms(0))];
        let mut often = settings(zones, vec![gate(0.5)]);
        often.track.update = ms(500);
        let mut camera = Camera::new(often, fps);
        camera.late_ms = 60;
        let seen = |t: f32| -> Vec<Object> {
            let part = t / 10.0;
            let is_seen = |walker: &&[f32; 6]| !(walker[4]..walker[4] + walker[5]).contains(&t);
            let at = |[x1, y1, x2, y2, ..]: &[f32; 6]| {
                person(x1 + (x2 - x1) * part, y1 + (y2 - y1) * part, 0.8)
            };
            walkers.iter().filter(is_seen).map(at).collect()
        };
        camera.look(5_000, seen);
        if pauses {
            camera.unchanged(6_000);
        }
        camera.look(10_000, seen);
        let news = camera.stage.end(TrackEnd::Shutdown);
        camera.note(news);
        prop_assert!(camera.stage.told.is_empty() && camera.stage.facts().next().is_none());
        let mut tracks: BTreeMap<u64, Vec<&TrackNews>> = BTreeMap::new();
        for (_, news) in &camera.told {
            tracks.entry(news.track.id).or_default().push(news);
        }
        for (id, news) in tracks {
            let starts = news.iter().filter(|news| news.what == Happening::Start).count();
            let is_end = |news: &&&TrackNews| matches!(news.what, Happening::End(_));
            let ends = news.iter().filter(is_end).count();
            prop_assert_eq!((starts, ends), (1, 1), "of {}", id);
            prop_assert_eq!(&news[0].what, &Happening::Start);
            prop_assert!(is_end(&news.last().unwrap()));
            for one in &news {
                prop_assert_eq!(one.track.first_seen_at, news[0].track.first_seen_at);
                prop_assert_eq!(one.track.confirmed_at, news[0].track.confirmed_at);
            }
        }
    }
}
