//! Scenes with known truth go through the whole stage, at each rate: exactly these tracks begin and end, in exactly these zones, and
//! exactly these lines are crossed.

use super::*;
use crate::config::{LineConfig, Point, Polygon, ZoneConfig};
use crate::detect::BBox;
use crate::track::news::UpdateReason;
use twinsight_media::rtp::RtpTimestamp;

const WIDTH: f64 = 1280.0;
const HEIGHT: f64 = 720.0;
const FPS: [u32; 4] = [2, 5, 10, 30];

/// Somebody who goes from corner to corner, each with its time in seconds and the place of the feet.
struct Person {
    corners: Vec<(f64, [f64; 2])>,
    /// From and until when nobody sees them.
    hidden: [f64; 2],
}

fn person(corners: &[(f64, [f64; 2])]) -> Person {
    Person {
        corners: corners.to_vec(),
        hidden: [0.0, 0.0],
    }
}

impl Person {
    /// What a detector sees of them.
    #[expect(clippy::cast_possible_truncation, reason = "pixels of a picture")]
    fn object(&self, time: f64, wobble: f64) -> Option<Object> {
        let first = self.corners[0].0;
        let last = self.corners[self.corners.len() - 1].0;
        if !(first..=last).contains(&time) || (self.hidden[0]..self.hidden[1]).contains(&time) {
            return None;
        }
        let after = self.corners.iter().position(|(at, _)| *at > time);
        let after = after.unwrap_or(self.corners.len() - 1).max(1);
        let [(from, a), (to, b)] = [self.corners[after - 1], self.corners[after]];
        let part = ((time - from) / (to - from)).clamp(0.0, 1.0);
        let [x, y] = [0, 1].map(|n| a[n] + (b[n] - a[n]) * part);
        let (height, width) = (0.25 * HEIGHT, 0.1 * HEIGHT);
        let (left, right) = (x * WIDTH - width / 2.0, x * WIDTH + width / 2.0);
        let (left, right) = (left.max(0.0), right.min(WIDTH));
        let foot = y * HEIGHT + wobble * height;
        (right - left > 12.0).then(|| Object {
            class_id: 0,
            score: 0.8,
            bbox: BBox {
                x: left as f32,
                y: (foot - height) as f32,
                width: (right - left) as f32,
                height: height as f32,
            },
            keypoints: Vec::new(),
            outline: Vec::new(),
        })
    }
}

fn scene() -> SceneConfig {
    let corner = |[x, y]: [f64; 2]| Point { x, y };
    let yard = [[0.35, 0.3], [0.65, 0.3], [0.65, 0.95], [0.35, 0.95]];
    SceneConfig {
        zones: vec![ZoneConfig {
            name: "yard".into(),
            polygon: Polygon::new(yard.map(corner).to_vec()).unwrap(),
            labels: Vec::new(),
            min_dwell: Duration::ZERO,
        }],
        // Its arrow points up, so to the right is `in`.
        lines: vec![LineConfig {
            name: "gate".into(),
            from: corner([0.5, 0.95]),
            to: corner([0.5, 0.3]),
            labels: Vec::new(),
        }],
        masks: Vec::new(),
    }
}

fn stage() -> Stage {
    let settings = StageSettings {
        track: TrackConfig::default(),
        scene: scene(),
        min_score: 0.4,
    };
    Stage::new(settings, Arc::default())
}

fn model() -> ModelInfo {
    ModelInfo {
        name: "model".into(),
        sha256: None,
        labels: ["person".to_owned()].into(),
        keypoints: Arc::new([]),
    }
}

/// What is told of all tracks in these seconds, without updates that only say that time went by.
fn told(
    stage: &mut Stage,
    people: &[Person],
    seconds: f64,
    fps: u32,
    wobble: &[f64],
) -> Vec<String> {
    watched(stage, people, (seconds, fps), wobble, |_, _| {})
}

/// The same, where something is done to the stage after each look.
fn watched(
    stage: &mut Stage,
    people: &[Person],
    (seconds, fps): (f64, u32),
    wobble: &[f64],
    mut after: impl FnMut(&mut Stage, u32),
) -> Vec<String> {
    let (begin, model, step) = (Instant::now(), model(), 1.0 / f64::from(fps));
    let mut told = Vec::new();
    let mut ticks = 0u32;
    for n in 0u32.. {
        let time = f64::from(n) * step;
        if time > seconds {
            break;
        }
        let wobble = wobble[n as usize % wobble.len()];
        let objects: Vec<Object> = people
            .iter()
            .filter_map(|one| one.object(time, wobble))
            .collect();
        let now = begin + Duration::from_secs_f64(time);
        let look = Look {
            timing: FrameTiming {
                received_at: now,
                completed_at: now,
                decoded_at: now,
                rtp_timestamp: RtpTimestamp(ticks),
                captured_at_unix_ms: None,
            },
            size: PictureSize {
                width_px: 1280,
                height_px: 720,
            },
            objects: &objects,
            model: &model,
        };
        ticks += 90_000 / fps;
        for TrackNews { what, track } in stage.look(look).news {
            let zones: Vec<&str> = track.zones.iter().map(|zone| &**zone).collect();
            let what = match what {
                Happening::Start => format!("start {zones:?}"),
                Happening::Update(UpdateReason::Zones) => format!("zones {zones:?}"),
                Happening::Update(UpdateReason::Interval) => continue,
                Happening::Update(reason) => reason.as_str().to_owned(),
                Happening::Crossed(crossing) => format!(
                    "{} {} {} {}",
                    crossing.counts.line,
                    crossing.direction.as_str(),
                    crossing.counts.r#in,
                    crossing.counts.out
                ),
                Happening::End(end) => format!("end {}", end.as_str()),
            };
            told.push(format!("{} {what}", track.id));
        }
        after(stage, n);
    }
    told
}

/// A detector's boxes go up and down by a twentieth of their height.
const WOBBLE: [f64; 7] = [0.02, -0.05, 0.04, 0.0, 0.05, -0.03, -0.01];

#[test]
fn a_person_walks_through_the_zone_and_over_the_line() {
    let walker = person(&[(0.0, [0.02, 0.6]), (10.0, [0.98, 0.6])]);
    for fps in FPS {
        assert_eq!(
            told(
                &mut stage(),
                std::slice::from_ref(&walker),
                16.0,
                fps,
                &WOBBLE
            ),
            [
                "1 start []",
                "1 zones [\"yard\"]",
                "1 gate in 1 0",
                "1 zones []",
                "1 end left"
            ],
            "{fps}"
        );
    }
}

#[test]
fn two_who_meet_keep_their_numbers_and_cross_the_line_each() {
    // They pass each other on the line itself, one a step before the other.
    let people = [
        person(&[(0.0, [0.1, 0.55]), (10.0, [0.9, 0.55]), (12.0, [0.9, 0.55])]),
        person(&[(0.0, [0.9, 0.7]), (10.0, [0.1, 0.7]), (12.0, [0.1, 0.7])]),
    ];
    for fps in FPS {
        let told = told(&mut stage(), &people, 12.0, fps, &WOBBLE);
        let of = |id: &str| -> Vec<String> {
            let own = told.iter().filter_map(|what| what.strip_prefix(id));
            own.map(|what| {
                what.split_whitespace()
                    .take(2)
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect()
        };
        assert_eq!(
            of("1 "),
            ["start []", "zones [\"yard\"]", "gate in", "zones []"],
            "{fps} {told:?}"
        );
        assert_eq!(
            of("2 "),
            ["start []", "zones [\"yard\"]", "gate out", "zones []"],
            "{fps} {told:?}"
        );
        assert_eq!(told.len(), 8, "{fps} {told:?}");
    }
}

#[test]
fn who_stands_on_the_line_crosses_nothing_whatever_the_box_does() {
    let stands = person(&[
        (0.0, [0.2, 0.6]),
        (4.0, [0.5, 0.6]),
        (64.0, [0.5, 0.6]),
        (68.0, [0.2, 0.6]),
    ]);
    for fps in FPS {
        assert_eq!(
            told(
                &mut stage(),
                std::slice::from_ref(&stands),
                68.0,
                fps,
                &WOBBLE
            ),
            [
                "1 start []",
                "1 zones [\"yard\"]",
                "1 stationary",
                "1 stationary",
                "1 zones []"
            ],
            "{fps}"
        );
    }
}

#[test]
fn who_is_hidden_while_crossing_is_one_track_with_one_crossing() {
    let mut walker = person(&[(0.0, [0.1, 0.6]), (8.0, [0.9, 0.6])]);
    walker.hidden = [3.4, 4.6];
    for fps in FPS {
        let told = told(
            &mut stage(),
            std::slice::from_ref(&walker),
            8.0,
            fps,
            &WOBBLE,
        );
        assert_eq!(
            told,
            [
                "1 start []",
                "1 zones [\"yard\"]",
                "1 gate in 1 0",
                "1 zones []"
            ],
            "{fps}"
        );
    }
}

#[test]
fn a_hundred_changes_of_zones_end_no_track() {
    let stands = person(&[(0.0, [0.45, 0.6]), (31.0, [0.45, 0.6])]);
    let mut stage = stage();
    let change = |stage: &mut Stage, n: u32| {
        let mut scene = scene();
        if n.is_multiple_of(2) {
            scene.zones[0].name = "other".into();
        }
        if n.is_multiple_of(3) {
            let settings = StageSettings {
                track: TrackConfig::default(),
                scene,
                min_score: 0.4,
            };
            assert!(stage.set(settings).is_empty());
        }
    };
    let told = watched(&mut stage, &[stands], (30.0, 10), &WOBBLE, change);
    assert!(told.iter().all(|what| what.starts_with("1 ")), "{told:?}");
    let count = |word: &str| told.iter().filter(|what| what.contains(word)).count();
    assert_eq!(
        [count("start"), count("end"), count("stationary")],
        [1, 0, 1],
        "{told:?}"
    );
    assert_eq!(stage.facts().count(), 1);
}
