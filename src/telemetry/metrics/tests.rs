//! Series that come and go with their cameras, and the sums that stay.

use super::*;
use crate::telemetry::ledger::{EventDrop, FrameDrop};
use twinsight_client::telemetry::CameraState;
use twinsight_media::ledger::{ShedLevel, UnitDrop};

fn id(n: usize) -> StreamId {
    StreamId::new(format!("cam-{n}"), "default")
}

/// A camera that came, gave an event and went.
fn visit(metrics: &Metrics, n: usize) {
    let stream = metrics.stream(&id(n));
    stream.access_units_received.inc_by(3);
    stream.unit_dropped(UnitDrop::Incomplete);
    stream.frames_decoded.inc_by(2);
    stream.frame_dropped(FrameDrop::Stale);
    stream.frames_inferred.inc();
    stream.events_published.inc();
    stream.object_detected("person");
    stream.set_state(CameraState::Removed);
}

fn value(text: &str, series: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn four_thousand_cameras_that_came_and_went_leave_nothing_but_their_sums() {
    let metrics = Metrics::new();
    let before = metrics.encode().lines().count();
    for n in 0..4000 {
        visit(&metrics, n);
        assert_eq!(metrics.forget(&id(n)), ForgetOutcome::Yes);
    }
    let text = metrics.encode();
    assert!(!text.contains("cam-"), "series of a camera are left");
    assert_eq!(text.lines().count(), before);
    for (series, sum) in [
        ("twinsight_node_access_units_received_total", 12_000),
        (
            "twinsight_node_access_units_dropped_total{reason=\"incomplete\"}",
            4000,
        ),
        ("twinsight_node_frames_decoded_total", 8000),
        (
            "twinsight_node_frames_dropped_total{reason=\"stale\"}",
            4000,
        ),
        ("twinsight_node_frames_inferred_total", 4000),
        ("twinsight_node_events_published_total", 4000),
    ] {
        assert_eq!(value(&text, series), Some(sum), "{series}");
    }
}

#[test]
fn the_totals_are_those_of_the_cameras_that_are_there_and_of_those_that_are_gone() {
    let metrics = Metrics::new();
    let total = || {
        value(
            &metrics.encode(),
            "twinsight_node_access_units_received_total",
        )
    };
    visit(&metrics, 1);
    visit(&metrics, 2);
    assert_eq!(total(), Some(6));
    assert_eq!(metrics.forget(&id(1)), ForgetOutcome::Yes);
    assert_eq!(total(), Some(6), "nothing is counted twice or lost");
    visit(&metrics, 1);
    assert_eq!(total(), Some(9), "it is back, and counts from 0");
    assert_eq!(metrics.stream(&id(1)).access_units_received.get(), 3);
}

#[test]
fn what_may_still_be_counted_is_not_forgotten() {
    let metrics = Metrics::new();
    visit(&metrics, 1);
    let held = metrics.stream(&id(1));
    assert_eq!(metrics.forget(&id(1)), ForgetOutcome::InUse);
    held.frames_inferred.inc();
    held.frames_decoded.inc();
    held.access_units_received.inc();
    drop(held);
    assert!(matches!(metrics.forget(&id(1)), ForgetOutcome::Open(_)));
    metrics
        .stream(&id(1))
        .event_dropped(EventDrop::HubDisconnected);
    assert_eq!(metrics.forget(&id(1)), ForgetOutcome::Yes);
    assert!(metrics.known_stream(&id(1)).is_none());
}

#[test]
fn a_camera_has_one_series_with_its_name_and_model_and_none_once_it_is_forgotten() {
    let metrics = Metrics::new();
    let infos = || -> Vec<String> {
        let text = metrics.encode();
        text.lines()
            .filter_map(|line| line.strip_prefix("twinsight_camera_info{"))
            .map(str::to_owned)
            .collect()
    };
    let stream = metrics.stream(&id(1));
    assert_eq!(infos(), [""; 0], "nothing is said of it yet");
    for (name, model) in [("Door", "a"), ("Door", "a"), ("Gate", "a"), ("Gate", "b")] {
        stream.set_info(name, model);
        let series =
            format!("camera=\"cam-1\",model=\"{model}\",name=\"{name}\",stream=\"default\"}} 1");
        assert_eq!(infos(), [series]);
    }
    drop(stream);
    assert_eq!(metrics.forget(&id(1)), ForgetOutcome::Yes);
    assert_eq!(infos(), [""; 0]);
}

#[test]
fn a_camera_stream_has_104_series_and_one_for_each_label_it_saw() {
    let metrics = Metrics::new();
    let series = || {
        let text = metrics.encode();
        text.lines().filter(|line| line.contains("cam-")).count()
    };
    let stream = metrics.stream(&id(1));
    stream.set_info("Door", "a");
    assert_eq!(series(), 104);
    stream.object_detected("person");
    assert_eq!(series(), 105);
}

#[test]
fn the_level_of_shedding_is_the_highest_of_all_streams() {
    let metrics = Arc::new(Metrics::new());
    let level = || value(&metrics.encode(), "twinsight_shed_level");
    let (one, other) = (metrics.stream(&id(1)), metrics.stream(&id(2)));
    one.set_shed_level(ShedLevel::KeyframesOnly);
    other.set_shed_level(ShedLevel::InferLess);
    assert_eq!(level(), Some(3));
    one.set_shed_level(ShedLevel::None);
    assert_eq!(level(), Some(1));
    other.set_shed_level(ShedLevel::None);
    assert_eq!(level(), Some(0));
}

#[test]
fn a_stream_that_shed_when_it_was_forgotten_sheds_no_more() {
    let metrics = Metrics::new();
    let stream = metrics.stream(&id(1));
    stream.set_shed_level(ShedLevel::KeyframesOnly);
    drop(stream);
    assert_eq!(metrics.forget(&id(1)), ForgetOutcome::Yes);
    assert_eq!(value(&metrics.encode(), "twinsight_shed_level"), Some(0));
}
