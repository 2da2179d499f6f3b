//! The verdict finds what is wrong, and nothing where all is right.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::verdict::{Heard, Record, Rules, What};

const RULES: Rules = Rules {
    frame_interval: Duration::from_millis(500),
    pause: Duration::from_secs(2),
    overlap: Duration::from_secs(1),
};

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Events `detections` of camera `c`: the node, which has one run, and the time in milliseconds. The numbers of each node are right.
fn record(events: &[(&str, u64)]) -> Record {
    let mut record = Record::new(RULES);
    let mut sequences: BTreeMap<&str, u64> = BTreeMap::new();
    for (node, ms) in events {
        let sequence = sequences.entry(node).or_default();
        *sequence += 1;
        record.push(heard(node, *ms, *sequence));
    }
    record
}

fn heard(node: &str, ms: u64, sequence: u64) -> Heard {
    Heard {
        at: at(ms),
        node: node.into(),
        camera: "c".into(),
        what: What::Detections {
            run: format!("run-of-{node}").into(),
            sequence,
        },
    }
}

fn status(node: &str, ms: u64, state: &str) -> Heard {
    Heard {
        what: What::Status {
            state: state.to_owned(),
            reason: String::new(),
        },
        ..heard(node, ms, 0)
    }
}

#[test]
fn a_camera_that_goes_over_and_back_is_no_overlap() {
    let record = record(&[
        ("a", 0),
        ("a", 500),
        ("b", 1000),
        ("b", 1500),
        ("b", 2000),
        ("b", 2500),
        ("b", 3000),
        ("a", 3500),
        ("a", 4000),
    ]);
    assert_eq!(record.overlaps(), []);
    assert_eq!(record.breaks(), []);
    let changes = record.changes((at(0), at(9000)));
    let moves: Vec<_> = changes.iter().map(|c| (&*c.from, &*c.to, c.at)).collect();
    assert_eq!(moves, [("a", "b", at(1000)), ("b", "a", at(3500))]);
    assert!(changes.iter().all(|change| change.gap == Duration::ZERO));
}

#[test]
fn nodes_that_publish_in_turns_overlap_for_as_long_as_they_do() {
    let turns: Vec<(&str, u64)> = (0..10)
        .map(|n| (["a", "b"][usize::from(n % 2 == 1)], 250 * n))
        .collect();
    let record = record(&turns);
    let overlaps = record.overlaps();
    assert_eq!(overlaps.len(), 1);
    // The first event is not between two of the other node, and neither is the last.
    assert_eq!((overlaps[0].from, overlaps[0].to), (at(250), at(2000)));
    assert_eq!(overlaps[0].doubles, 8);
    assert_eq!(record.faults(), overlaps);
    assert_eq!(overlaps[0].nodes, ["a".into(), "b".into()].into());
}

#[test]
fn one_event_of_another_node_is_an_overlap_without_length() {
    // A node that thaws writes what it had begun to write.
    let record = record(&[("a", 0), ("b", 8000), ("b", 8500), ("a", 8600), ("b", 9000)]);
    let overlaps = record.overlaps();
    assert_eq!(overlaps.len(), 1);
    assert_eq!((overlaps[0].from, overlaps[0].doubles), (at(8600), 1));
    assert_eq!(record.faults(), []);
    let changes = record.changes((at(0), at(9000)));
    assert_eq!(changes.len(), 1, "a double is no change: {changes:?}");
    assert_eq!(changes[0].gap, at(7500));
}

#[test]
fn a_late_last_event_is_a_short_overlap() {
    let record = record(&[
        ("a", 0),
        ("a", 500),
        ("b", 900),
        ("a", 1000),
        ("b", 1400),
        ("b", 1900),
    ]);
    let overlaps = record.overlaps();
    assert_eq!(overlaps.len(), 1);
    assert_eq!((overlaps[0].from, overlaps[0].to), (at(900), at(1000)));
}

#[test]
fn a_node_that_comes_back_after_a_pause_did_not_publish_meanwhile() {
    let record = record(&[("a", 0), ("b", 1500), ("a", 3000)]);
    assert_eq!(record.overlaps(), []);
}

#[test]
fn a_gap_is_what_goes_beyond_the_interval_of_frames() {
    let record = record(&[("a", 0), ("a", 500), ("b", 2000)]);
    let worst = record.worst_gap((at(0), at(2000)), |_| true).unwrap();
    assert_eq!((worst.from, worst.length), (at(500), at(1000)));
    assert_eq!(worst.nodes.1.as_deref(), Some("b"));
    // Nothing came since, so the gap still grows.
    let worst = record.worst_gap((at(2100), at(9000)), |_| true).unwrap();
    assert_eq!((worst.from, worst.length), (at(2000), at(6500)));
    assert_eq!(worst.nodes.1, None);
    assert_eq!(
        record.worst_gap((at(0), at(9000)), |camera| camera != "c"),
        None
    );
}

#[test]
fn who_took_over_is_another_than_the_victim() {
    let record = record(&[("a", 0), ("a", 500), ("b", 4500)]);
    let cameras = ["c".into(), "d".into()].into();
    let taken = record.taken_over(&cameras, "a", at(400));
    assert_eq!(taken, BTreeMap::from([("c".into(), at(4100))]));
    assert!(!record.each_has_one_of(&["a", "b"], &cameras, at(0)));
    let cameras = ["c".into()].into();
    assert!(!record.each_has_one_of(&["a", "b"], &cameras, at(0)));
    assert!(record.each_has_one_of(&["a", "b"], &cameras, at(1000)));
    assert!(!record.each_has_one_of(&["a"], &cameras, at(1000)));
    assert!(!record.each_has_one_of(&["b"], &cameras, at(5000)));
    assert_eq!(record.cameras_of("b"), cameras);
}

#[test]
fn numbers_begin_with_one_and_have_no_gap() {
    let mut record = record(&[("a", 0), ("b", 100), ("a", 500)]);
    let track = json!({"runId": "run-of-a", "sequence": 3, "camera": {"twinId": "c"}});
    record.push(Heard::parse(at(600), "a", "track", &track).unwrap());
    assert_eq!(record.breaks(), []);
    record.push(heard("a", 1000, 5));
    record.push(heard("z", 1000, 2));
    // One was lost with a lease, and one comes again.
    record.push(heard("a", 9000, 7));
    record.push(heard("a", 19000, 7));
    let breaks = record.breaks();
    let found: Vec<_> = breaks
        .iter()
        .map(|b| (&*b.node, b.expected, b.found, b.is_fault))
        .collect();
    let expected = [
        ("a", 4, 5, true),
        ("z", 1, 2, true),
        ("a", 6, 7, false),
        ("a", 8, 7, true),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_state_of_a_camera_that_another_node_publishes_is_foreign() {
    let mut record = Record::new(RULES);
    record.push(status("a", 0, "connecting"));
    record.push(heard("a", 100, 1));
    record.push(status("b", 200, "receiving"));
    record.push(status("b", 300, "removed"));
    record.push(heard("a", 600, 2));
    // It goes over: before its first result the new node says what it sees.
    record.push(status("b", 1000, "receiving"));
    record.push(heard("b", 1100, 1));
    let states = record.foreign_states();
    assert_eq!(states.len(), 1, "{states:?}");
    assert_eq!(states[0].at, at(200));
}

#[test]
fn events_are_read_as_the_nodes_write_them() {
    let event = json!({"runId": "r", "sequence": 7, "camera": {"twinId": "c", "name": "C", "stream": "default"}});
    let run = || "r".into();
    for (kind, what) in [
        (
            "detections",
            What::Detections {
                run: run(),
                sequence: 7,
            },
        ),
        (
            "track",
            What::Track {
                run: run(),
                sequence: 7,
            },
        ),
        (
            "lineCrossed",
            What::Track {
                run: run(),
                sequence: 7,
            },
        ),
    ] {
        let heard = Heard::parse(at(1), "n", kind, &event).unwrap();
        assert_eq!((heard.what, &*heard.camera, &*heard.node), (what, "c", "n"));
    }
    let event = json!({"camera": {"twinId": "c"}, "state": "stalled"});
    let heard = Heard::parse(at(1), "n", "cameraStatus", &event).unwrap();
    assert_eq!(
        heard.what,
        What::Status {
            state: "stalled".to_owned(),
            reason: String::new()
        }
    );
    assert!(Heard::parse(at(1), "n", "other", &event).is_none());
}
