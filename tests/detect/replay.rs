//! `twinsight replay`: the lines of a clip fit their schema, each candidate has one fate, the same clip gives the same lines, and
//! what cannot be used has its sentence.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};

use twinsight::config::{ConfigSource, Env, ReplayConfig};
use twinsight::detect::{BBox, FakeDetector, Object};
use twinsight::dev::replay::{ReplayError, ReplayOptions, run, run_with};
use twinsight_media::h264::clip::Clip;

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The configuration of this text.
fn config(text: &str) -> ReplayConfig {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("node.toml");
    std::fs::write(&path, text).expect("a file");
    let source = ConfigSource::read(Some(&path), &Env::default()).expect("a file");
    let mut config = source.resolve_for_replay().expect("a configuration");
    config.runtime.models_dir = root().join("models");
    config
}

pub(crate) fn options(clip: PathBuf, text: &str) -> ReplayOptions {
    ReplayOptions {
        clip,
        config: config(text),
        config_file: None,
        camera: None,
        out: None,
        fps: None,
        floor: 0.1,
        json: true,
        dylib_path: std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from),
    }
}

/// The shipped clip's first frames.
pub(crate) fn first_frames(folder: &Path, frames: usize) -> PathBuf {
    let whole = Clip::read(&root().join("media/pedestrians.h264")).expect("the shipped clip");
    let units = whole.units()[..frames].iter();
    let bytes: Vec<u8> = units.flat_map(|unit| unit.data.to_vec()).collect();
    let path = folder.join("walk.h264");
    std::fs::write(&path, bytes).expect("a file");
    path
}

pub(crate) fn lines(out: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(out).expect("UTF-8");
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

/// The schema of the lines.
struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    fn read() -> Self {
        let file = root().join("docs/reference/schema/replay.schema.json");
        let text = std::fs::read_to_string(file).expect("the schema");
        let mut compiler = Compiler::new();
        let place = "urn:test:replay";
        let schema = serde_json::from_str(&text).expect("JSON");
        compiler.add_resource(place, schema).expect("a schema");
        let mut schemas = Schemas::new();
        let index = compiler.compile(place, &mut schemas).expect("a schema");
        Self { schemas, index }
    }

    fn fits(&self, line: &Value) -> bool {
        self.schemas.validate(line, self.index).is_ok()
    }

    fn check(&self, line: &Value) {
        if let Err(error) = self.schemas.validate(line, self.index) {
            panic!("{error:#}\n{line:#}");
        }
    }
}

/// Two zones, a line and a mask over the square of the shipped clip.
const SQUARE: &str = r#"
[[cameras]]
twin_id = "square"
classes = ["person"]
[[cameras.zones]]
name = "left"
points = [[0.0, 0.2], [0.5, 0.2], [0.5, 1.0], [0.0, 1.0]]
[[cameras.zones]]
name = "right"
points = [[0.5, 0.2], [1.0, 0.2], [1.0, 1.0], [0.5, 1.0]]
[[cameras.lines]]
name = "middle"
from = [0.5, 1.0]
to = [0.5, 0.2]
[[cameras.masks]]
points = [[0.8, 0.0], [1.0, 0.0], [1.0, 0.3], [0.8, 0.3]]
"#;

fn array<'a>(line: &'a Value, field: &str) -> &'a Vec<Value> {
    line[field].as_array().expect(field)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().expect(field)
}

/// Checks a line that was looked at against itself: each object is one candidate with the same track.
fn assert_consistent(line: &Value, min_score: f64) {
    let candidates = array(line, "candidates");
    let live: BTreeSet<&str> = array(line, "tracks")
        .iter()
        .map(|track| text(track, "id"))
        .collect();
    let mut reported = Vec::new();
    for (n, candidate) in candidates.iter().enumerate() {
        let score = candidate["score"].as_f64().expect("a score");
        let fate = text(candidate, "fate");
        if let Some(by) = candidate["by"].as_u64() {
            let by = usize::try_from(by).expect("an index");
            assert!(by < n, "{candidate:#}");
            let better = &candidates[by];
            assert!(better["score"].as_f64() >= candidate["score"].as_f64());
            let better = text(better, "fate");
            assert!(better != "suppressed" && better != fate, "{candidate:#}");
        }
        let track = candidate["trackId"].as_str();
        assert_eq!(track.is_some(), fate == "tracked");
        if let Some(track) = track {
            assert!(live.contains(track), "{candidate:#}");
        }
        match fate {
            "belowScore" => assert!(score < min_score, "{candidate:#}"),
            "classNotAsked" => assert_ne!(text(candidate, "label"), "person"),
            "unclaimed" | "tentative" | "tracked" | "double" if score >= min_score => {
                reported.push((&candidate["box"], &candidate["score"], track));
            }
            _ => {}
        }
    }
    let objects: Vec<_> = array(line, "objects")
        .iter()
        .map(|object| (&object["box"], &object["score"], object["trackId"].as_str()))
        .collect();
    assert_eq!(objects, reported, "frame {}", line["frame"]);
}

#[test]
fn the_clip_s_first_seconds_are_told_frame_by_frame() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = options(first_frames(folder.path(), 40), SQUARE);
    options.out = Some(folder.path().join("out"));
    let mut out = Vec::new();
    run(&options, &mut out).expect("a replay");
    let all = lines(&out);
    assert_eq!(all.len(), 40);
    let schema = Schema::read();
    let mut fates: BTreeMap<&str, usize> = BTreeMap::new();
    let mut phases: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (n, line) in all.iter().enumerate() {
        schema.check(line);
        assert_eq!(
            (&line["frame"], &line["timeMs"], &line["looked"]),
            (&json!(n + 1), &json!(100 * n), &json!(true))
        );
        assert_consistent(line, 0.4);
        for candidate in array(line, "candidates") {
            *fates.entry(text(candidate, "fate")).or_default() += 1;
        }
        for event in array(line, "events") {
            if event["type"] == "track" {
                let track = text(&event["track"], "id");
                phases.entry(track).or_default().push(text(event, "phase"));
            }
            let confirmed = event["track"]["confirmedAt"].as_u64().expect("a time");
            assert!(confirmed <= line["timeMs"].as_u64().expect("a time"));
        }
    }
    for fate in [
        "belowScore",
        "classNotAsked",
        "suppressed",
        "tentative",
        "tracked",
    ] {
        assert!(fates.contains_key(fate), "{fate}: {fates:?}");
    }
    assert!(phases.len() >= 3, "{phases:?}");
    for (track, phases) in &phases {
        let starts = phases.iter().filter(|phase| **phase == "start").count();
        assert_eq!((phases[0], starts), ("start", 1), "track {track}");
    }
    // All tracks that live have begun, and somebody is in a zone.
    let last = all.last().expect("a line");
    for track in array(last, "tracks") {
        assert!(phases.contains_key(text(track, "id")), "{track:#}");
    }
    let zones = all.iter().flat_map(|line| array(line, "objects"));
    let zones: BTreeSet<&str> = zones
        .flat_map(|object| array(object, "zones"))
        .filter_map(Value::as_str)
        .collect();
    assert!(!zones.is_empty());

    // The files have the same lines, and a picture for each.
    let written = std::fs::read(folder.path().join("out/walk.jsonl")).expect("the lines");
    assert!(written == out, "the file has the lines of standard output");
    let annotated = Clip::read(&folder.path().join("out/walk.mp4")).expect("the annotated clip");
    assert_eq!(annotated.units().len(), 40);
    let times = annotated.picture_times().expect("times");
    assert_eq!(times[39].shown_at, Duration::from_millis(3900));

    options.out = None;
    let mut again = Vec::new();
    run(&options, &mut again).expect("a replay");
    assert!(again == out, "the same clip gives the same lines");

    let mut broken = all[20].clone();
    broken["candidates"][0]["fate"] = json!("gone");
    assert!(!schema.fits(&broken));
    let mut broken = all[20].clone();
    broken["reason"] = json!("unchanged");
    assert!(!schema.fits(&broken));
}

fn person(x: f32) -> Object {
    Object {
        class_id: 0,
        score: 0.9,
        bbox: BBox {
            x,
            y: 4.0,
            width: 12.0,
            height: 30.0,
        },
        keypoints: Vec::new(),
        outline: Vec::new(),
    }
}

/// Seven pictures of 64x48.
fn seven() -> PathBuf {
    root().join("tests/data/faults/ctrl.mp4")
}

/// Replays with a detector that sees the same in each frame.
fn fake(options: &ReplayOptions, objects: Vec<Object>) -> (Result<(), ReplayError>, String) {
    let mut out = Vec::new();
    let detector = Box::new(FakeDetector::new(Duration::ZERO, objects));
    let result = run_with(detector, options, &mut out);
    (result, String::from_utf8(out).expect("UTF-8"))
}

#[test]
fn frames_that_the_camera_is_not_due_for_are_told_as_such() {
    let text = "[[cameras]]\ntwin_id = \"a\"\nmax_fps = 2.0\n[cameras.track]\nconfirm_ms = 0";
    let mut options = options(seven(), text);
    options.fps = Some(6.0);
    let (result, out) = fake(&options, vec![person(10.0)]);
    result.expect("a replay");
    let schema = Schema::read();
    let all = lines(out.as_bytes());
    all.iter().for_each(|line| schema.check(line));
    let looked: Vec<(u64, bool)> = all
        .iter()
        .map(|line| {
            (
                line["timeMs"].as_u64().expect("a time"),
                line["looked"] == true,
            )
        })
        .collect();
    assert_eq!(
        looked,
        [
            (0, true),
            (167, false),
            (333, false),
            (500, true),
            (667, false),
            (833, false),
            (1000, true)
        ]
    );
    assert_eq!(all[1]["reason"], "rate_limited");
    // A track is shown for a moment after it was seen.
    let shown = |line: &Value| -> Vec<(bool, bool)> {
        array(line, "tracks")
            .iter()
            .map(|track| (track["seen"] == true, track["coasting"] == true))
            .collect()
    };
    assert_eq!(shown(&all[3]), [(true, false)]);
    assert_eq!(shown(&all[4]), [(false, true)]);
    assert_eq!(shown(&all[5]), [(false, false)], "not for longer");
}

#[test]
fn the_motion_gate_leaves_out_what_does_not_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let clip = folder.path().join("still.mp4");
    let status = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=s=320x240:r=10,loop=29:1",
        ])
        .args("-frames:v 30 -pix_fmt yuv420p -c:v libx264 -bf 0".split(' '))
        .arg(&clip)
        .status();
    assert!(status.expect("ffmpeg").success());
    let text = "[[cameras]]\ntwin_id = \"a\"\nmotion = \"gate\"\nmotion_max_skip_ms = 1000\n[cameras.track]\nenabled = false";
    let (result, out) = fake(&options(clip, text), vec![person(10.0)]);
    result.expect("a replay");
    let schema = Schema::read();
    let all = lines(out.as_bytes());
    all.iter().for_each(|line| schema.check(line));
    let looked: Vec<&Value> = all
        .iter()
        .filter(|line| line["looked"] == true)
        .map(|line| &line["timeMs"])
        .collect();
    assert_eq!(looked, [&json!(0), &json!(1000), &json!(2000)]);
    assert_eq!(all[1]["reason"], "unchanged");
}

#[test]
fn masks_drop_what_stands_in_them_and_the_summary_counts_fates() {
    let text = "[[cameras]]\ntwin_id = \"a\"\nclasses = [\"person\"]\n[cameras.track]\nconfirm_ms = 100\n[[cameras.zones]]\nname = \"yard\"\n\
                points = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]\n\
                [[cameras.masks]]\npoints = [[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]]";
    let mut options = options(seven(), text);
    options.fps = Some(10.0);
    let car = Object {
        class_id: 1,
        ..person(20.0)
    };
    let weak = Object {
        score: 0.2,
        ..person(5.0)
    };
    let seen = vec![person(10.0), person(40.0), car, weak];
    let (result, out) = fake(&options, seen.clone());
    result.expect("a replay");
    let all = lines(out.as_bytes());
    let fates = |line: &Value| -> Vec<String> {
        let candidates = array(line, "candidates").iter();
        candidates
            .map(|candidate| text_of(candidate, "fate"))
            .collect()
    };
    assert_eq!(
        fates(&all[0]),
        ["tentative", "masked", "classNotAsked", "belowScore"]
    );
    assert_eq!(fates(&all[6])[0], "tracked");
    assert_eq!(array(&all[6], "objects").len(), 1);
    assert_eq!(all[6]["objects"][0]["zones"], json!(["yard"]));

    options.json = false;
    let (result, out) = fake(&options, seen);
    result.expect("a replay");
    for part in [
        "ctrl.mp4 (64x48, 7 frames, 0:00.6): 7 looked at\n",
        "\ntracks: 1\n",
        "\n  1      person  0:00.0  0:00.6  -    yard ",
        "\n  masked               7  in one of the masks\n",
        "\n  classNotAsked        7  of another class than `classes`: person\n",
        "\n  belowScore           7  below 0.3",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }

    // Without tracks, objects are reported as they are.
    options.json = true;
    let text = "[[cameras]]\ntwin_id = \"a\"\n[cameras.track]\nenabled = false";
    options.config = config(text);
    let (_, out) = fake(&options, vec![person(10.0)]);
    let line = &lines(out.as_bytes())[3];
    Schema::read().check(line);
    assert_eq!(fates(line), ["reported"]);
    assert!(line["objects"][0].get("trackId").is_none(), "{line:#}");
}

fn text_of(value: &Value, field: &str) -> String {
    text(value, field).to_owned()
}

#[test]
fn what_cannot_be_used_has_its_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = |change: &dyn Fn(&mut ReplayOptions)| {
        let mut options = options(seven(), SQUARE);
        change(&mut options);
        let (result, _) = fake(&options, Vec::new());
        result.expect_err("an error").to_string()
    };
    let camera = told(&|options| options.camera = Some("sqare".to_owned()));
    assert_eq!(
        camera,
        "the environment has no camera `sqare`; is `square` meant? It has `square/default`"
    );
    let clip = told(&|options| options.clip = "no/such.h264".into());
    assert!(
        clip.starts_with("cannot read the clip no/such.h264"),
        "{clip}"
    );
    let picture = told(&|options| options.clip = root().join("tests/data/pictures/messi5.jpg"));
    assert!(picture.contains("is a picture, and a clip is"), "{picture}");
    assert!(
        picture.ends_with(": use `twinsight detect` for pictures, or record a clip"),
        "{picture}"
    );
    let class = told(&|options| options.config.cameras[0].classes = vec!["persn".to_owned()]);
    assert!(class.contains("did you mean `person`?"), "{class}");
    let file = told(&|options| options.out = Some(folder.path().join("seen.mp4")));
    assert!(
        file.contains("seen.mp4` is a file: name a folder"),
        "{file}"
    );
    let copy = folder.path().join("ctrl.mp4");
    std::fs::copy(seven(), &copy).expect("a clip");
    let itself = told(&|options| {
        options.clip.clone_from(&copy);
        options.out = Some(folder.path().to_owned());
    });
    assert!(itself.contains("name another folder"), "{itself}");
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("a folder").count(),
        1
    );
}

#[test]
fn of_a_damaged_clip_what_is_whole_is_replayed() {
    for (name, frames, sentence) in [
        ("faststart_cut.mp4", 5, "what is whole of it was looked at"),
        (
            "interlaced.h264",
            0,
            "7 of its 7 access units could not be decoded",
        ),
    ] {
        let clip = root().join("tests/data/faults").join(name);
        let (result, out) = fake(&options(clip, SQUARE), Vec::new());
        let error = result.expect_err("an error").to_string();
        assert!(error.contains(sentence), "{error}");
        assert_eq!(out.lines().count(), frames, "{name}");
    }
}

fn twinsight(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinsight"));
    command.current_dir(root()).args(["replay"]).args(arguments);
    command.output().expect("the program")
}

#[test]
fn the_command_says_whose_settings_it_uses_and_how_it_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let clip = "tests/data/faults/ctrl.mp4";
    let output = twinsight(&[clip, "--config", &path("node.toml", SQUARE)]);
    let (told, result) = (
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout),
    );
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(
        told.contains("the settings are those of camera square/default in "),
        "{told}"
    );
    assert!(told.contains("2 zones, 1 line, 1 mask"), "{told}");
    assert!(
        result.starts_with("tests/data/faults/ctrl.mp4 (64x48, 7 frames"),
        "{result}"
    );
    let wrong = twinsight(&[
        clip,
        "--config",
        &path("wrong.toml", "[defaults]\nmin_scor = 1"),
    ]);
    assert_eq!(wrong.status.code(), Some(78));
    let missing = twinsight(&["no/such.h264"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&missing.stderr)
            .contains("that a camera has for which nothing is configured"),
        "{missing:?}"
    );
    assert_eq!(twinsight(&[]).status.code(), Some(2));
}
