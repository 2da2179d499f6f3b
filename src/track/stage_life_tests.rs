//! Scenes with known truth through the whole stage: people walk in pixels of a picture of 1000 by 1000, and what is told of them is
//! compared line by line.

use super::*;
use crate::config::{LineConfig, MaskConfig, Point, Polygon, ZoneConfig};
use crate::detect::BBox;

const PERSON: usize = 0;
const CAR: usize = 1;

/// No scene lasts for so long, so that nothing is told because it is time.
const NEVER: Duration = Duration::from_secs(3600);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn model() -> ModelInfo {
    ModelInfo {
        name: "fake".into(),
        sha256: None,
        labels: ["person".to_owned(), "car".to_owned()].into(),
        keypoints: Arc::default(),
    }
}

fn rectangle(x1: f64, y1: f64, x2: f64, y2: f64) -> Polygon {
    let corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)];
    Polygon::new(corners.map(|(x, y)| Point { x, y }).to_vec()).unwrap()
}

/// A zone from 300 to 500 pixels across.
fn yard(min_dwell: Duration) -> ZoneConfig {
    ZoneConfig {
        name: "yard".into(),
        polygon: rectangle(0.3, 0.4, 0.5, 0.8),
        labels: Vec::new(),
        min_dwell,
    }
}

/// An upright line whose arrow points up: who walks to the right over it goes in.
fn gate(x: f64) -> LineConfig {
    LineConfig {
        name: "gate".into(),
        from: Point { x, y: 0.95 },
        to: Point { x, y: 0.05 },
        labels: Vec::new(),
    }
}

fn settings(zones: Vec<ZoneConfig>, lines: Vec<LineConfig>) -> StageSettings {
    StageSettings {
        track: TrackConfig {
            update: NEVER,
            ..TrackConfig::default()
        },
        scene: SceneConfig {
            zones,
            lines,
            masks: Vec::new(),
        },
        min_score: 0.4,
    }
}

/// Somebody who stands there, by the middle of the lower edge.
fn person(x: f32, y: f32, score: f32) -> Object {
    Object {
        class_id: PERSON,
        score,
        bbox: BBox {
            x: x - 30.0,
            y: y - 200.0,
            width: 60.0,
            height: 200.0,
        },
        keypoints: Vec::new(),
        outline: Vec::new(),
    }
}

/// By how many pixels a detector is off, which differs from look to look.
fn wobble(n: u64, most: f32) -> f32 {
    let hash = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    f32::from(u16::try_from(hash % 1000).unwrap()) / 500.0 * most - most
}

/// A camera and what its stage tells.
struct Camera {
    stage: Stage,
    begin: Instant,
    every_ms: u64,
    now_ms: u64,
    /// Frames arrive late by up to this much.
    late_ms: u64,
    told: Vec<(u64, TrackNews)>,
    fates: Vec<Vec<ObjectFate>>,
}

impl Camera {
    fn new(settings: StageSettings, fps: u64) -> Self {
        Self::with_ids(settings, fps, Arc::default())
    }

    fn with_ids(settings: StageSettings, fps: u64, ids: Arc<TrackIds>) -> Self {
        Self {
            stage: Stage::new(settings, ids),
            begin: Instant::now(),
            every_ms: 1000 / fps,
            now_ms: 0,
            late_ms: 0,
            told: Vec::new(),
            fates: Vec::new(),
        }
    }

    fn timing(&self) -> FrameTiming {
        let late = match self.late_ms {
            0 => 0,
            most => self.now_ms.wrapping_mul(7919) % most,
        };
        let at = self.begin + ms(self.now_ms + late);
        let ticks = u32::try_from(self.now_ms * 90).unwrap();
        FrameTiming {
            received_at: at,
            completed_at: at,
            decoded_at: at,
            // It begins shortly before the timestamps start again at 0.
            rtp_timestamp: ticks.wrapping_sub(90_000).into(),
            captured_at_unix_ms: None,
        }
    }

    /// Looks until a time, at what is there at each time in seconds.
    fn look(&mut self, until_ms: u64, seen: impl Fn(f32) -> Vec<Object>) {
        let model = model();
        while self.now_ms < until_ms {
            let mut objects = seen(ms(self.now_ms).as_secs_f32());
            for (n, object) in objects.iter_mut().enumerate() {
                let n = self.now_ms * 31 + n as u64;
                object.bbox.x += wobble(n, 1.0);
                object.bbox.y += wobble(n + 7, 2.0);
                object.bbox.height += wobble(n + 13, 2.0);
            }
            objects.sort_by(|a, b| b.score.total_cmp(&a.score));
            let staged = self.stage.look(Look {
                timing: self.timing(),
                size: PictureSize {
                    width_px: 1000,
                    height_px: 1000,
                },
                objects: &objects,
                model: &model,
            });
            self.fates.push(staged.fates);
            self.note(staged.news);
            self.now_ms += self.every_ms;
        }
    }

    /// The picture does not change until a time.
    fn unchanged(&mut self, until_ms: u64) {
        while self.now_ms < until_ms {
            let news = self.stage.unchanged(self.timing());
            self.note(news);
            self.now_ms += self.every_ms;
        }
    }

    fn set(&mut self, settings: StageSettings) {
        let news = self.stage.set(settings);
        self.note(news);
    }

    fn note(&mut self, news: Vec<TrackNews>) {
        let at = self.now_ms;
        self.told.extend(news.into_iter().map(|news| (at, news)));
    }

    /// What was told since the last time that this was asked, in words.
    fn told(&mut self) -> Vec<String> {
        self.told.drain(..).map(|(_, news)| words(&news)).collect()
    }

    /// Where a track is, in pixels across.
    fn x_of(&self, id: u64) -> f64 {
        let track = self.stage.facts().find(|track| track.id == id).unwrap();
        track.bbox.bottom_center().x * 1000.0
    }
}

fn words(news: &TrackNews) -> String {
    let id = news.track.id;
    match &news.what {
        Happening::Start => format!("{id} start"),
        Happening::Update(reason) => {
            format!("{id} {} {}", reason.as_str(), news.track.zones.join("+"))
                .trim_end()
                .to_owned()
        }
        Happening::End(reason) => format!("{id} end {}", reason.as_str()),
        Happening::Crossed(crossing) => format!(
            "{id} {} {} {}/{}",
            crossing.counts.line,
            crossing.direction.as_str(),
            crossing.counts.r#in,
            crossing.counts.out
        ),
    }
}

#[test]
fn who_walks_through_a_zone_and_over_a_line_is_told_of_once_each() {
    for fps in [10, 2] {
        let mut camera = Camera::new(settings(vec![yard(ms(0))], vec![gate(0.7)]), fps);
        camera.look(16_000, |t| vec![person(100.0 + 50.0 * t, 600.0, 0.8)]);
        camera.look(20_000, |_| Vec::new());
        let told = camera.told.clone();
        assert_eq!(
            camera.told(),
            [
                "1 start",
                "1 zones yard",
                "1 zones",
                "1 gate in 1/0",
                "1 end lost"
            ],
            "at {fps} fps"
        );
        let end = &told.last().unwrap().1.track;
        let [(zone, dwell)] = &end.visited[..] else {
            panic!("one zone: {:?}", end.visited);
        };
        let off = dwell.as_secs_f64() - 4.0;
        assert!(
            &**zone == "yard" && off.abs() < 0.8,
            "{dwell:?} at {fps} fps"
        );
        assert!(
            told[4].0 >= 17_500 && told[4].0 <= 18_500,
            "at {}",
            told[4].0
        );
    }
}

#[test]
fn two_whose_paths_cross_keep_their_ids() {
    for fps in [10, 2] {
        let mut camera = Camera::new(settings(Vec::new(), vec![gate(0.5)]), fps);
        camera.look(12_000, |t| {
            vec![
                person(200.0 + 50.0 * t, 560.0, 0.9),
                person(850.0 - 50.0 * t, 640.0, 0.8),
            ]
        });
        assert_eq!(
            camera.told(),
            ["1 start", "2 start", "1 gate in 1/0", "2 gate out 1/1"],
            "at {fps} fps"
        );
        assert!(camera.x_of(1) > 700.0 && camera.x_of(2) < 350.0);
    }
}

#[test]
fn two_who_swap_places_keep_their_ids() {
    for fps in [10, 2] {
        let mut camera = Camera::new(settings(Vec::new(), Vec::new()), fps);
        camera.look(16_000, |t| {
            let part = ((t - 3.0) / 8.0).clamp(0.0, 1.0);
            vec![
                person(300.0 + 400.0 * part, 560.0, 0.9),
                person(700.0 - 400.0 * part, 640.0, 0.8),
            ]
        });
        assert_eq!(camera.told(), ["1 start", "2 start"], "at {fps} fps");
        assert!(camera.x_of(1) > 680.0 && camera.x_of(2) < 320.0);
    }
}

#[test]
fn who_is_hidden_for_less_than_lost_ms_is_the_same_and_for_more_another() {
    for fps in [10, 2] {
        for (hidden, expected) in [
            (1.5, vec!["1 start"]),
            (4.0, vec!["1 start", "1 end lost", "2 start"]),
        ] {
            let mut camera = Camera::new(settings(Vec::new(), Vec::new()), fps);
            camera.look(12_000, |t| match (4.0..4.0 + hidden).contains(&t) {
                true => Vec::new(),
                false => vec![person(300.0 + 20.0 * t, 600.0, 0.8)],
            });
            assert_eq!(camera.told(), expected, "{hidden} s at {fps} fps");
        }
    }
}

#[test]
fn who_walks_out_of_the_picture_has_left() {
    for fps in [10, 2] {
        let mut camera = Camera::new(settings(Vec::new(), Vec::new()), fps);
        camera.look(18_000, |t| match -10.0 + 80.0 * t {
            x if x < 1012.0 => vec![person(x, 600.0, 0.8)],
            _ => Vec::new(),
        });
        assert_eq!(camera.told(), ["1 start", "1 end left"], "at {fps} fps");
    }
}

#[test]
fn who_stands_on_a_line_crosses_it_never() {
    for fps in [10, 2] {
        let mut camera = Camera::new(settings(Vec::new(), vec![gate(0.5)]), fps);
        camera.look(60_000, |t| {
            let off = wobble(t.to_bits().into(), 8.0);
            vec![person(500.0 + off, 600.0, 0.8)]
        });
        assert_eq!(camera.told(), ["1 start", "1 stationary"], "at {fps} fps");
    }
}

#[test]
fn a_parked_car_is_told_of_rarely() {
    for fps in [10, 2] {
        let mut with_updates = settings(Vec::new(), Vec::new());
        with_updates.track.update = ms(1000);
        let mut camera = Camera::new(with_updates, fps);
        camera.look(60_000, |_| {
            let car = Object {
                class_id: CAR,
                bbox: BBox {
                    x: 300.0,
                    y: 500.0,
                    width: 200.0,
                    height: 120.0,
                },
                ..person(0.0, 0.0, 0.9)
            };
            vec![car]
        });
        let times: Vec<u64> = camera.told.iter().map(|(at, _)| *at).collect();
        let told = camera.told();
        let still = told.iter().position(|told| told == "1 stationary").unwrap();
        assert_eq!(told[0], "1 start");
        assert!(told[1..still].iter().all(|told| told == "1 interval"));
        assert!((8..=10).contains(&(still - 1)), "{told:?}");
        assert!((9_900..=11_000).contains(&times[still]), "{times:?}");
        let rare = &told[still + 1..];
        assert!(rare.len() == 4 && rare.iter().all(|told| told == "1 interval"));
        for pair in times[still..].windows(2) {
            assert!(
                (10_000..=10_500).contains(&(pair[1] - pair[0])),
                "{times:?}"
            );
        }
    }
}

#[test]
fn what_is_in_a_mask_is_dropped_whether_anything_is_followed_or_not() {
    for enabled in [true, false] {
        let mut masked = settings(Vec::new(), Vec::new());
        masked.track.enabled = enabled;
        masked.scene.masks.push(MaskConfig {
            polygon: rectangle(0.6, 0.0, 1.0, 1.0),
            labels: vec!["person".into()],
        });
        let mut camera = Camera::new(masked, 10);
        camera.look(3_000, |_| {
            let car = Object {
                class_id: CAR,
                ..person(900.0, 600.0, 0.7)
            };
            vec![person(800.0, 600.0, 0.9), person(200.0, 600.0, 0.8), car]
        });
        let last = camera.fates.last().unwrap();
        assert_eq!(last[0], ObjectFate::Masked);
        let is_tracked = |fate: &ObjectFate| matches!(fate, ObjectFate::Tracked { .. });
        let followed = last.iter().filter(|fate| is_tracked(fate)).count();
        assert_eq!(followed, if enabled { 2 } else { 0 });
        let expected: &[&str] = if enabled {
            &["1 start", "2 start"]
        } else {
            &[]
        };
        assert_eq!(camera.told(), expected);
    }
}

#[test]
fn a_weak_object_continues_a_track_but_begins_none() {
    let mut camera = Camera::new(settings(Vec::new(), Vec::new()), 10);
    camera.look(8_000, |t| {
        let score = if t < 3.0 { 0.8 } else { 0.37 };
        vec![person(300.0, 600.0, score), person(700.0, 600.0, 0.36)]
    });
    assert_eq!(camera.told(), ["1 start"]);
    let last = camera.fates.last().unwrap();
    assert!(matches!(last[0], ObjectFate::Tracked { id: 1, .. }));
    assert_eq!(last[1], ObjectFate::Unclaimed);
}

#[path = "stage_news_tests.rs"]
mod news;
