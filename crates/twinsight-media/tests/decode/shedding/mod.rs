//! How decoding sheds load: levels settle, nothing flaps, what is left out is counted, and the pictures that remain are
//! those that come out without shedding.
#![allow(
    clippy::unwrap_used,
    reason = "a test's helper has nobody to tell but the test"
)]

mod machine;
#[cfg(feature = "openh264")]
mod recording;

use std::time::Duration;

use self::machine::{FRAME_TIME, Machine, Stream};
use twinsight_media::ledger::{ShedLevel, UnitDrop};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A stream of which a processor can decode that many times what it sends.
fn stream(capacity: f64) -> Stream {
    Stream {
        keyframe_interval: None,
        disposable: false,
        cost: FRAME_TIME.div_f64(capacity),
    }
}

#[test]
fn a_stream_settles_and_comes_back_when_the_load_has_gone() {
    for capacity in [0.1, 0.3, 0.6, 0.95, 1.05, 1.5] {
        for (disposable, keyframe_interval) in [
            (false, None),
            (false, Some(60)),
            (true, None),
            (true, Some(60)),
        ] {
            for seed in 0..3 {
                let kind = Stream {
                    keyframe_interval,
                    disposable,
                    ..stream(capacity)
                };
                let name = format!("{capacity} {disposable} {keyframe_interval:?} {seed}");
                settles_and_comes_back(&name, capacity, kind, seed);
            }
        }
    }
}

fn settles_and_comes_back(name: &str, capacity: f64, kind: Stream, seed: u64) {
    let mut machine = Machine::new(1.0, 1, kind, seed);
    machine.run(10 * MINUTE);
    let (start, now) = (machine.start, machine.now);
    let camera = &machine.cameras[0];
    let levels = match (capacity, kind.disposable) {
        (..=0.5, _) | (..=0.95, false) => ShedLevel::KeyframesOnly..=ShedLevel::KeyframesOnly,
        (..=0.95, true) => ShedLevel::ReferencesOnly..=ShedLevel::KeyframesOnly,
        // What fits narrowly may be late now and then.
        (..1.1, _) => ShedLevel::None..=ShedLevel::KeyframesOnly,
        _ => ShedLevel::None..=ShedLevel::None,
    };
    let level = camera.level();
    assert!(levels.contains(&level), "{name}: {level}");
    assert_eq!(machine.highest_level(), level, "{name}");
    let changes = camera.changes.len();
    assert!(changes <= 8, "{name}: {changes} changes in 10 minutes");
    let late = camera.changes_since(now - 5 * MINUTE);
    assert!(late <= 4, "{name}: {late} changes in the last 5 minutes");
    if capacity >= 0.6 {
        let backlogs = camera.ledger.units_dropped(UnitDrop::DecodeBacklog);
        assert_eq!(backlogs, 0, "{name}: the ladder is faster than the gate");
    }
    // Fresh frames all the time: at keyframes alone one is asked for.
    let gap = camera.longest_gap_since(start + SECOND * 10);
    assert!(gap < 3 * SECOND, "{name}: {gap:?} without a frame");

    machine.cameras[0].stream.cost = FRAME_TIME / 8;
    machine.run(5 * MINUTE);
    let camera = &machine.cameras[0];
    assert_eq!(camera.level(), ShedLevel::None, "{name}");
    let after = camera.changes_since(now + 2 * MINUTE);
    assert_eq!(after, 0, "{name}: it is back within 2 minutes, for good");
    let frames = camera.frames_since(machine.now - MINUTE);
    assert!(frames >= 899, "{name}: {frames} frames in the last minute");
    machine.close();
}

#[test]
fn a_load_that_comes_and_goes_is_followed_less_and_less() {
    for period in [5, 20, 45, 90] {
        let mut machine = Machine::new(1.0, 1, stream(4.0), 1);
        for round in 0..1200 / period {
            machine.cameras[0].stream.cost = match round % 2 {
                0 => FRAME_TIME.mul_f64(1.5),
                _ => FRAME_TIME / 4,
            };
            machine.run(SECOND * period);
        }
        let camera = &machine.cameras[0];
        let changes = camera.changes.len();
        assert!(changes <= 24, "{period} s: {changes} changes in 20 minutes");
        let late = camera.changes_since(machine.now - 10 * MINUTE);
        assert!(
            late <= 8,
            "{period} s: {late} changes in the last 10 minutes"
        );
        machine.close();
    }
}

#[test]
fn one_camera_s_trouble_is_its_own() {
    let mut machine = Machine::new(4.0, 3, stream(8.0), 1);
    machine.cameras[1].stream.cost = FRAME_TIME * 2;
    machine.run(5 * MINUTE);
    assert_eq!(machine.cameras[1].level(), ShedLevel::KeyframesOnly);
    assert_eq!(
        machine.highest_level(),
        ShedLevel::KeyframesOnly,
        "the highest of all"
    );
    for index in [0, 2] {
        let camera = &machine.cameras[index];
        assert!(camera.changes.is_empty());
        assert!(camera.shown.len() >= 4498);
        assert!(camera.oldest_since(machine.start) < FRAME_TIME);
    }
    machine.close();
}

#[test]
fn a_pause_of_the_whole_machine_costs_no_pictures() {
    let mut machine = Machine::new(1.0, 1, stream(2.0), 1);
    machine.run(MINUTE);
    let camera = &mut machine.cameras[0];
    let usual = std::mem::replace(&mut camera.stream.cost, Duration::from_millis(350));
    machine.run(FRAME_TIME);
    machine.cameras[0].stream.cost = usual;
    machine.run(MINUTE);
    let camera = &machine.cameras[0];
    assert_eq!(camera.level(), ShedLevel::None);
    assert_eq!(camera.ledger.units_dropped(UnitDrop::Shed), 0);
    machine.close();
}

/// 50 cameras of 1080p15 in High profile, 8.7 ms a unit, on 2 processors: more than three times what fits.
#[test]
fn a_node_over_its_head_settles_and_every_camera_goes_on() {
    for seed in 0..3 {
        let kind = Stream {
            cost: Duration::from_micros(8_700),
            ..stream(1.0)
        };
        let mut machine = Machine::new(2.0, 50, kind, seed);
        machine.run(10 * MINUTE);
        let (start, now) = (machine.start, machine.now);
        let mut frames = 0;
        for camera in &machine.cameras {
            let changes = camera.changes.len();
            assert!(changes <= 18, "seed {seed}: {changes} changes");
            let late = camera.changes_since(now - 5 * MINUTE);
            assert!(late <= 8, "seed {seed}: {late} late changes");
            let gap = camera.longest_gap_since(start + SECOND * 10);
            assert!(gap < 10 * SECOND, "seed {seed}: {gap:?} without a frame");
            let oldest = camera.oldest_since(start + MINUTE);
            let limit = Duration::from_millis(600);
            assert!(oldest < limit, "seed {seed}: a frame of {oldest:?}");
            frames += camera.frames_since(start + MINUTE);
        }
        let backlogs = machine.cameras.iter().map(|camera| camera.backlogs());
        let backlogs: u64 = backlogs.sum();
        // What the gate had to throw away is from the first seconds, when all came at once.
        assert!(backlogs < 2000, "seed {seed}: {backlogs}");
        // 13 700 a minute would take all of both processors.
        assert!(frames / 9 > 12_000, "seed {seed}: {frames} frames");
        // The load goes, and all come back.
        for camera in &mut machine.cameras {
            camera.stream.cost = Duration::from_millis(1);
        }
        machine.run(15 * MINUTE);
        let full = machine.cameras.iter();
        let full = full.filter(|camera| camera.level() == ShedLevel::None);
        assert_eq!(full.count(), 50, "seed {seed}");
        machine.close();
    }
}
