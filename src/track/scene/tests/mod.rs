//! Scenes with known truth: feet follow a path, a camera looks at it now and then, and a detector puts boxes on it that wobble.

mod lines;
mod reload;
mod stationary;
mod zones;

use proptest::prelude::*;

use super::*;
use crate::config::{MaskConfig, Point, Polygon};
use crate::track::LabelId;
use crate::track::tracker::TrackState;

pub(super) const FPS: [u32; 4] = [2, 5, 10, 30];

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn at(x: f64, y: f64) -> Point {
    Point { x, y }
}

pub(super) fn line(name: &str, from: [f64; 2], to: [f64; 2]) -> LineConfig {
    LineConfig {
        name: name.into(),
        from: at(from[0], from[1]),
        to: at(to[0], to[1]),
        labels: Vec::new(),
    }
}

pub(super) fn zone(name: &str, corners: &[[f64; 2]]) -> ZoneConfig {
    let corners = corners.iter().map(|[x, y]| at(*x, *y)).collect();
    ZoneConfig {
        name: name.into(),
        polygon: Polygon::new(corners).unwrap(),
        labels: Vec::new(),
        min_dwell: Duration::ZERO,
    }
}

pub(super) fn of_lines(lines: &[LineConfig]) -> Scene {
    let config = SceneConfig {
        lines: lines.to_vec(),
        ..SceneConfig::default()
    };
    Scene::new(&config, ms(10_000))
}

pub(super) fn of_zones(zones: &[ZoneConfig]) -> Scene {
    let config = SceneConfig {
        zones: zones.to_vec(),
        ..SceneConfig::default()
    };
    Scene::new(&config, ms(10_000))
}

pub(super) fn track(serial: u64, bbox: RelativeBox) -> Track {
    Track {
        serial,
        id: Some(serial),
        state: TrackState::Confirmed,
        label: LabelId(0),
        score: 0.9,
        top_score: 0.9,
        bbox,
        velocity: [0.0; 2],
        first_seen: Duration::ZERO,
        confirmed_at: Some(Duration::ZERO),
        last_seen: Duration::ZERO,
        observation: Some(0),
    }
}

/// A person of this height with the feet here.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the test gives parts of a picture"
)]
pub(super) fn person(foot: Point, height: f64) -> RelativeBox {
    let half = height * 0.2;
    let edges = [foot.x - half, foot.y - height, foot.x + half, foot.y];
    let [x1, y1, x2, y2] = edges.map(|edge| edge as f32);
    RelativeBox::new(x1, y1, x2, y2).unwrap()
}

/// Somebody who goes from corner to corner, each of which has its time in seconds.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    pub(super) corners: Vec<(f64, Point)>,
    pub(super) height: f64,
    /// From and until when nobody sees them, in seconds.
    pub(super) hidden: Vec<[f64; 2]>,
}

impl Walk {
    pub(super) fn new(corners: &[(f64, [f64; 2])]) -> Self {
        Self {
            corners: corners
                .iter()
                .map(|(time, [x, y])| (*time, at(*x, *y)))
                .collect(),
            height: 0.3,
            hidden: Vec::new(),
        }
    }

    pub(super) fn foot(&self, time: f64) -> Point {
        let after = self.corners.iter().position(|(at, _)| *at > time);
        let after = after.unwrap_or(self.corners.len() - 1).max(1);
        let [(from, a), (to, b)] = [self.corners[after - 1], self.corners[after]];
        let part = ((time - from) / (to - from)).clamp(0.0, 1.0);
        at(a.x + (b.x - a.x) * part, a.y + (b.y - a.y) * part)
    }

    pub(super) fn end(&self) -> f64 {
        self.corners[self.corners.len() - 1].0
    }

    /// The times at which a camera of so many pictures a second sees them, and the box that a detector makes.
    pub(super) fn looks(&self, fps: u32, wobble: &mut Wobble) -> Vec<(Duration, RelativeBox)> {
        let step = 1.0 / f64::from(fps);
        let times = (0..)
            .map(|n| f64::from(n) * step)
            .take_while(|time| *time <= self.end());
        times
            .filter(|time| {
                !self
                    .hidden
                    .iter()
                    .any(|[from, to]| from <= time && time < to)
            })
            .map(|time| {
                let bbox = wobble.bbox(self.foot(time), self.height);
                (Duration::from_secs_f64(time), bbox)
            })
            .collect()
    }
}

/// How far a detector's boxes are off: the standard deviation of each edge, in parts of the height.
#[derive(Debug, Clone)]
pub(super) struct Wobble {
    pub(super) of_height: f64,
    state: u64,
}

impl Wobble {
    pub(super) fn none() -> Self {
        Self::new(0.0, 1)
    }

    pub(super) fn new(of_height: f64, seed: u64) -> Self {
        Self {
            of_height,
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// About normal: the sum of twelve equal ones.
    fn next(&mut self) -> f64 {
        let mut one = || {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            f64::from(u32::try_from(self.state >> 33).unwrap()) / f64::from(1u32 << 31)
        };
        (0..12).map(|_| one()).sum::<f64>() - 6.0
    }

    fn bbox(&mut self, foot: Point, height: f64) -> RelativeBox {
        let off = self.of_height * height;
        let foot = at(
            foot.x + self.next() * off * 0.5,
            (foot.y + self.next() * off).clamp(0.02, 1.0),
        );
        person(foot, height * (1.0 + self.next() * self.of_height))
    }
}

/// What happened in a scene, with times in ms.
pub(super) fn crossings(
    scene: &mut Scene,
    serial: u64,
    looks: &[(Duration, RelativeBox)],
) -> Vec<(u128, String)> {
    let mut crossed = Vec::new();
    for (now, bbox) in looks {
        let change = scene.seen(*now, &track(serial, *bbox), "person");
        for crossing in change.crossings {
            let what = format!("{} {}", crossing.counts.line, crossing.direction.as_str());
            crossed.push((now.as_millis(), what));
        }
    }
    crossed
}

pub(super) fn names(crossings: Vec<(u128, String)>) -> Vec<String> {
    crossings.into_iter().map(|(_, what)| what).collect()
}

/// Each change of the zones that a track is in.
pub(super) fn visits(
    scene: &mut Scene,
    looks: &[(Duration, RelativeBox)],
) -> Vec<(u128, Vec<String>)> {
    let mut visits = Vec::new();
    for (now, bbox) in looks {
        let change = scene.seen(*now, &track(1, *bbox), "person");
        if change.zones {
            let zones = &scene.place(1).unwrap().zones;
            visits.push((
                now.as_millis(),
                zones.iter().map(ToString::to_string).collect(),
            ));
        }
    }
    visits
}

#[test]
fn a_mask_drops_what_stands_in_it_and_has_its_label() {
    let corners = [[0.0, 0.0], [0.5, 0.0], [0.5, 0.5], [0.0, 0.5]];
    let mask = MaskConfig {
        polygon: zone("", &corners).polygon,
        labels: vec!["tree".into()],
    };
    let config = SceneConfig {
        masks: vec![mask],
        ..SceneConfig::default()
    };
    let scene = Scene::new(&config, ms(10_000));
    assert!(scene.is_masked(&person(at(0.2, 0.4), 0.2), "tree"));
    assert!(!scene.is_masked(&person(at(0.2, 0.4), 0.2), "person"));
    // The box reaches into the mask, and the feet are below it.
    assert!(!scene.is_masked(&person(at(0.2, 0.6), 0.3), "tree"));
}

#[test]
fn a_box_that_the_lower_edge_cuts_stands_on_the_edge() {
    let corners = [[0.0, 0.5], [1.0, 0.5], [1.0, 1.0], [0.0, 1.0]];
    let mut scene = of_zones(&[zone("yard", &corners)]);
    let cut = RelativeBox::new(0.4, 0.6, 0.6, 1.3).unwrap();
    assert!(scene.seen(ms(0), &track(1, cut), "person").zones);
    assert_eq!(&*scene.place(1).unwrap().zones[0], "yard");
}

/// Whatever comes, in whatever order of time.
fn anything() -> impl Strategy<Value = Vec<(u64, u64, [f32; 4])>> {
    let bbox = prop::array::uniform4(0.0..=1.0f32);
    prop::collection::vec((0..6u64, 0..100_000u64, bbox), 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nothing_panics_and_every_change_is_told(looks in anything()) {
        let zones = vec![
            zone("a", &[[0.0, 0.0], [0.6, 0.0], [0.6, 0.6], [0.0, 0.6]]),
            zone("b", &[[0.4, 0.4], [1.0, 0.4], [1.0, 1.0], [0.4, 1.0]]),
        ];
        let lines = vec![line("l", [0.1, 0.1], [0.9, 0.9]), line("none", [0.5, 0.5], [0.5, 0.5])];
        let config = SceneConfig { zones, lines, masks: Vec::new() };
        let mut scene = Scene::new(&config, ms(1000));
        let mut told: BTreeMap<u64, (Vec<Arc<str>>, bool)> = BTreeMap::new();
        let mut crossed = [0u64; 2];
        for (serial, time, [x1, y1, x2, y2]) in looks {
            let Some(bbox) = RelativeBox::new(x1, y1, x2, y2) else {
                scene.ended(serial);
                told.remove(&serial);
                continue;
            };
            let change = scene.seen(ms(time), &track(serial, bbox), "person");
            let place = scene.place(serial).unwrap();
            let known = told.entry(serial).or_default();
            prop_assert_eq!(change.zones, known.0 != *place.zones);
            prop_assert_eq!(change.stationary, known.1 != place.stationary);
            *known = (place.zones.to_vec(), place.stationary);
            prop_assert!(place.zones.iter().all(|zone| place.visited.iter().any(|(name, _)| name == zone)));
            for crossing in change.crossings {
                crossed[usize::from(crossing.direction == Direction::Out)] += 1;
                prop_assert_eq!(&*crossing.counts.line, "l");
                prop_assert_eq!([crossing.counts.r#in, crossing.counts.out], crossed);
            }
            let _ = scene.reach(ms(time));
        }
        prop_assert!(scene.places.len() <= 6);
        prop_assert_eq!([scene.counts()[0].r#in, scene.counts()[0].out], crossed);
    }
}
