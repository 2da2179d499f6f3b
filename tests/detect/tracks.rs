//! How well tracks fit the persons of the shipped clip, as annotated in `tests/data/pedestrians_tracks.csv`: a floor, below which
//! something is broken. `benches/mot.py` measures it in full.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use twinsight::dev::replay::run;

use crate::replay::{first_frames, lines, options, root};

/// Looks are at every second of these frames: 30 seconds, in which people meet at the sign.
const FRAMES: u64 = 300;

#[derive(Debug, Clone, Copy)]
struct Bounds {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl Bounds {
    fn iou(&self, other: &Self) -> f64 {
        let width = (self.x + self.width).min(other.x + other.width) - self.x.max(other.x);
        let height = (self.y + self.height).min(other.y + other.height) - self.y.max(other.y);
        let shared = width.max(0.0) * height.max(0.0);
        shared / (self.width * self.height + other.width * other.height - shared)
    }

    /// A part of the way to another.
    fn towards(&self, other: &Self, part: f64) -> Self {
        let between = |from: f64, to: f64| from + (to - from) * part;
        Self {
            x: between(self.x, other.x),
            y: between(self.y, other.y),
            width: between(self.width, other.width),
            height: between(self.height, other.height),
        }
    }
}

/// Where each person is in each frame. Between its rows, a person goes straight.
fn annotated() -> BTreeMap<u64, BTreeMap<u64, Bounds>> {
    let file = root().join("tests/data/pedestrians_tracks.csv");
    let text = std::fs::read_to_string(file).expect("the annotation");
    let mut rows: BTreeMap<u64, Vec<(u64, Bounds)>> = BTreeMap::new();
    for row in text.lines().skip(1) {
        let numbers: Vec<u32> = row
            .split(',')
            .map(|number| number.parse().expect("a number"))
            .collect();
        let [frame, id, x, y, width, height] = numbers[..] else {
            panic!("{row} has not six numbers");
        };
        let [x, y, width, height] = [x, y, width, height].map(f64::from);
        let bounds = Bounds {
            x,
            y,
            width,
            height,
        };
        let rows = rows.entry(id.into()).or_default();
        rows.push((frame.into(), bounds));
    }
    let mut frames: BTreeMap<u64, BTreeMap<u64, Bounds>> = BTreeMap::new();
    for (id, rows) in rows {
        for pair in rows.windows(2) {
            let [(first, from), (last, to)] = pair else {
                unreachable!("windows of two have two")
            };
            let steps = f64::from(u32::try_from(last - first).expect("few frames"));
            for (step, frame) in (*first..=*last).enumerate() {
                let part = f64::from(u32::try_from(step).expect("few frames")) / steps;
                let persons = frames.entry(frame).or_default();
                persons.insert(id, from.towards(to, part));
            }
        }
    }
    frames
}

/// The confirmed tracks that were seen in a frame.
fn seen(line: &Value) -> BTreeMap<String, Bounds> {
    let tracks = line["tracks"].as_array().expect("tracks").iter();
    let seen = tracks.filter(|track| track["seen"] == true && track["label"] == "person");
    seen.map(|track| {
        let number = |field: &str| track["box"][field].as_f64().expect("a number");
        let bounds = Bounds {
            x: number("x"),
            y: number("y"),
            width: number("width"),
            height: number("height"),
        };
        (track["id"].as_str().expect("an id").to_owned(), bounds)
    })
    .collect()
}

/// The errors that MOTA counts (Bernardin and Stiefelhagen 2008, at IoU 0.5).
#[derive(Debug, Default)]
struct Clear {
    persons: usize,
    misses: usize,
    false_boxes: usize,
    switches: usize,
    /// The track that each person was matched with last.
    known_as: HashMap<u64, String>,
}

impl Clear {
    fn take(&mut self, persons: &BTreeMap<u64, Bounds>, mut tracks: BTreeMap<String, Bounds>) {
        self.persons += persons.len();
        let mut missing = persons.clone();
        // Who is still with its track stays with it; others take what fits best.
        missing.retain(|person, bounds| {
            let track = self.known_as.get(person);
            let is_kept = track.is_some_and(|track| {
                let is_near = tracks
                    .get(track)
                    .is_some_and(|other| other.iou(bounds) >= 0.5);
                is_near && tracks.remove(track).is_some()
            });
            !is_kept
        });
        loop {
            let pairs = missing.iter().flat_map(|(person, bounds)| {
                let tracks = tracks.iter();
                tracks.map(move |(track, other)| (bounds.iou(other), *person, track.clone()))
            });
            let best = pairs.max_by(|a, b| a.0.total_cmp(&b.0));
            let Some((_, person, track)) = best.filter(|(iou, ..)| *iou >= 0.5) else {
                break;
            };
            missing.remove(&person);
            tracks.remove(&track);
            let before = self.known_as.insert(person, track.clone());
            self.switches += usize::from(before.is_some_and(|before| before != track));
        }
        self.misses += missing.len();
        self.false_boxes += tracks.len();
    }

    fn mota(&self) -> f64 {
        let number = |count: usize| f64::from(u32::try_from(count).expect("few"));
        1.0 - number(self.misses + self.false_boxes + self.switches) / number(self.persons)
    }
}

#[test]
fn tracks_fit_the_annotated_persons() {
    let folder = tempfile::tempdir().expect("a folder");
    let frames = usize::try_from(FRAMES).expect("few");
    let clip = first_frames(folder.path(), frames);
    let mut options = options(clip, "[[cameras]]\ntwin_id = \"square\"\nmax_fps = 5\n");
    options.fps = Some(10.0);
    options.floor = 1.0;
    let mut out = Vec::new();
    run(&options, &mut out).expect("the clip is replayed");
    let annotated = annotated();
    let mut clear = Clear::default();
    let mut looks = 0;
    for line in lines(&out).iter().filter(|line| line["looked"] == true) {
        looks += 1;
        let frame = line["frame"].as_u64().expect("a number");
        clear.take(&annotated[&frame], seen(line));
    }
    // The last one waits until it is due, and nothing replaces it.
    assert_eq!(looks, FRAMES / 2 + 1);
    // Measured: 0.85 and 9 switches.
    assert!(clear.mota() >= 0.8, "MOTA {:.3}: {clear:?}", clear.mota());
    assert!(clear.switches <= 18, "{clear:?}");
}
