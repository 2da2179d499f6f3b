//! How decoding sheds load: levels settle, nothing flaps, what is left out is counted, and the pictures that remain are
//! those that come out without shedding.
#![allow(
    clippy::unwrap_used,
    reason = "a test's helper has nobody to tell but the test"
)]

mod machine;
#[cfg(feature = "openh264")]
mod recordings;

use std::time::Duration;

use machine::{FRAME_TIME, Machine, Stream};
use twinsight::telemetry::ledger::ShedLevel;

const MINUTE: Duration = Duration::from_secs(60);

/// A stream whose units take as much time as comes between them, divided by `capacity`.
fn stream(capacity: f64, disposable: bool) -> Stream {
    Stream {
        keyframe_interval: None,
        disposable,
        cost: FRAME_TIME.div_f64(capacity),
    }
}

#[test]
fn levels_settle_whatever_is_missing_and_go_back_when_the_load_goes() {
    for capacity in [0.3, 0.6, 0.95, 1.05, 1.5] {
        for disposable in [false, true] {
            let name = format!("capacity {capacity}, disposable units {disposable}");
            let mut machine = Machine::new(1.0, 1, stream(capacity, disposable));
            machine.run(10 * MINUTE);
            let changes = machine.cameras[0].changes.len();
            let level = machine.cameras[0].level();
            assert!(changes <= 16, "{name}: {changes} changes");
            match capacity {
                0.3 => assert_eq!(level, ShedLevel::KeyframesOnly, "{name}"),
                1.5 => assert_eq!((level, changes), (ShedLevel::None, 0), "{name}"),
                _ => {}
            }
            machine.cameras[0].stream.cost = FRAME_TIME / 8;
            machine.run(15 * MINUTE);
            assert_eq!(machine.cameras[0].level(), ShedLevel::None, "{name}");
            machine.close();
        }
    }
}

#[test]
fn what_skipping_alone_can_carry_is_carried_without_keyframes_alone() {
    // Half of the units may be left out.
    let mut machine = Machine::new(1.0, 1, stream(0.75, true));
    machine.run(10 * MINUTE);
    assert_eq!(machine.cameras[0].level(), ShedLevel::ReferencesOnly);
    assert_eq!(machine.gauge(), 2);
    machine.close();
}

#[test]
fn fifty_high_streams_on_two_processors_settle_and_all_stay_fresh() {
    let cost = Duration::from_micros(8_700);
    let high = Stream {
        keyframe_interval: None,
        disposable: false,
        cost,
    };
    let mut machine = Machine::new(2.0, 50, high);
    machine.run(8 * MINUTE);
    let settled = machine.now;
    machine.run(4 * MINUTE);
    let changes: usize = machine
        .cameras
        .iter()
        .map(|camera| camera.changes_since(settled))
        .sum();
    assert!(changes <= 50, "{changes} changes");
    for camera in &machine.cameras {
        let frames = camera.frames_since(settled);
        // The budget of keyframe requests, 8 a second, has to do for all fifty.
        assert!(frames >= 24, "{frames} frames in 4 minutes");
        let oldest = camera
            .shown
            .iter()
            .filter(|shown| shown.at >= settled)
            .map(|shown| shown.age)
            .max()
            .unwrap();
        assert!(oldest < Duration::from_secs(1), "{oldest:?}");
    }
    machine.close();
}
