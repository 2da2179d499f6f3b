//! What the task does with events of tracks, beside those of frames.

use super::super::super::track_event::tests::{crossed, track_event};
use super::*;
use crate::track::news::{Happening, UpdateReason};

/// Some starts of tracks.
fn starts(count: usize) -> impl Iterator<Item = TrackEvent> {
    (0..count).map(|_| track_event("a", Happening::Start))
}

fn track_events_in_flight(metrics: &Metrics) -> i64 {
    let stream = metrics.stream(&StreamId::new("a", "default"));
    stream.ledger().track_events_in_flight
}

#[track_caller]
fn assert_dropped(metrics: &Metrics, sink: &str, event_type: &str, reason: &str, count: u64) {
    let line = format!(
        "twinsight_track_events_dropped_total{{camera=\"a\",reason=\"{reason}\",sink=\"{sink}\",stream=\"default\",type=\"{event_type}\"}} {count}\n"
    );
    let text = metrics.encode();
    assert!(text.contains(&line), "{line} is not in {text}");
}

#[track_caller]
fn assert_published(metrics: &Metrics, sink: &str, event_type: &str, count: u64) {
    let line = format!(
        "twinsight_track_events_published_total{{camera=\"a\",sink=\"{sink}\",stream=\"default\",type=\"{event_type}\"}} {count}\n"
    );
    let text = metrics.encode();
    assert!(text.contains(&line), "{line} is not in {text}");
}

#[tokio::test]
async fn of_the_events_of_a_frame_its_own_is_first_and_all_count_in_one_row() {
    let mut rig = rig(4, None);
    for frame_number in 0..2 {
        rig.publish(frame("a"), true);
        let events = [Happening::Start, crossed()].map(|what| track_event("a", what));
        rig.publisher.publish_tracks(events);
        for (n, expected) in [DETECTIONS, "track", "lineCrossed"].into_iter().enumerate() {
            rig.verdicts.send(Ok(())).unwrap();
            let (kind, event) = rig.event().await;
            assert_eq!(kind, expected);
            assert_eq!(event["sequence"], frame_number * 3 + n + 1);
        }
    }
    let metrics = Arc::clone(&rig.metrics);
    rig.task.shutdown(ms(1000), async {}).await;
    assert_published(&metrics, "hub", "track", 2);
    assert_published(&metrics, "hub", "lineCrossed", 2);
    assert_eq!(track_events_in_flight(&metrics), 0);
}

#[tokio::test]
async fn events_of_tracks_that_a_hub_which_is_away_does_not_get_are_counted() {
    let mut rig = rig(4, None);
    rig.publisher
        .publish_tracks(starts(1).chain([track_event("a", crossed())]));
    assert_eq!(track_events_in_flight(&rig.metrics), 2);
    for _ in 0..2 {
        rig.verdicts.send(Err(HubAway)).unwrap();
        rig.event().await;
    }
    let (publisher, metrics) = (rig.publisher.clone(), Arc::clone(&rig.metrics));
    rig.task.shutdown(ms(1000), async {}).await;
    for event_type in ["track", "lineCrossed"] {
        assert_dropped(&metrics, "hub", event_type, "hub_disconnected", 1);
    }
    assert_eq!(track_events_in_flight(&metrics), 0);
    let a = StreamId::new("a", "default");
    assert_eq!(publisher.last_published(&a), None, "nothing was written");
}

#[tokio::test(start_paused = true)]
async fn events_of_tracks_are_all_counted_when_a_hub_hangs_at_the_end() {
    for is_written_late in [true, false] {
        let mut rig = rig(4, None);
        rig.publisher.publish_tracks(starts(3));
        rig.event().await;
        let (publisher, metrics) = (rig.publisher.clone(), Arc::clone(&rig.metrics));
        let verdicts = rig.verdicts.clone();
        // The hub client writes what it has when it is closed.
        let leave = async move {
            if is_written_late {
                verdicts.send(Ok(())).unwrap();
            }
        };
        rig.task.shutdown(Duration::from_secs(2), leave).await;
        let lost = if is_written_late { 2 } else { 3 };
        assert_dropped(&metrics, "hub", "track", "hub_disconnected", lost);
        assert_eq!(track_events_in_flight(&metrics), 0);
        // The tracks end with the node, when nothing is sent any more.
        publisher.publish_tracks(starts(1));
        assert_dropped(&metrics, "hub", "track", "hub_disconnected", lost + 1);
        assert_eq!(track_events_in_flight(&metrics), 0);
        assert!(rig.events.try_recv().is_err(), "nothing else is written");
    }
}

#[tokio::test]
async fn events_of_tracks_that_wait_are_sent_at_the_end() {
    let mut rig = rig(4, None);
    rig.publisher.publish_tracks(starts(3));
    for _ in 0..3 {
        rig.verdicts.send(Ok(())).unwrap();
    }
    let metrics = Arc::clone(&rig.metrics);
    rig.task.shutdown(Duration::from_secs(5), async {}).await;
    assert_published(&metrics, "hub", "track", 3);
    assert_eq!(track_events_in_flight(&metrics), 0);
    assert_eq!(rig.events.try_recv().unwrap().0, "track");
}

#[tokio::test]
async fn a_sink_that_wants_crossings_gets_nothing_else() {
    let metrics = Arc::new(Metrics::with_sinks(["home".to_owned()]));
    let wanted = vec![EventKind::LineCrossed];
    let lane = SinkLane::new(0, wanted, "8f1c", Arc::clone(&metrics));
    let mut rig = rig_with(Arc::clone(&metrics), 4, None);
    rig.publisher = rig.publisher.with_lanes([lane.clone()]);
    for _ in 0..5 {
        rig.verdicts.send(Ok(())).unwrap();
    }
    rig.publisher
        .set_status(status("a", CameraState::Receiving));
    rig.publish(frame("a"), true);
    let update = Happening::Update(UpdateReason::Interval);
    let events = [Happening::Start, crossed(), update].map(|what| track_event("a", what));
    rig.publisher.publish_tracks(events);
    rig.task.shutdown(Duration::from_secs(5), async {}).await;
    lane.close();
    let event = lane.next().await.unwrap();
    assert_eq!(event.kind(), EventKind::LineCrossed);
    assert_eq!(lane.json(&event, &WallClock::read())["sequence"], 3);
    lane.settled(event, Ok(()));
    assert!(lane.next().await.is_none());
    assert_published(&metrics, "home", "lineCrossed", 1);
    assert_dropped(&metrics, "home", "track", "suppressed", 2);
    assert_published(&metrics, "hub", "track", 2);
    assert_eq!(track_events_in_flight(&metrics), 0);
}

#[tokio::test]
async fn without_detections_the_tracks_of_a_frame_are_published_all_the_same() {
    let mut rig = rig(4, None);
    let a = StreamId::new("a", "default");
    rig.metrics.stream(&a).frames_inferred.inc();
    assert_eq!(rig.publisher.publish(frame("a"), false), None);
    rig.publisher.publish_tracks(starts(1));
    rig.verdicts.send(Ok(())).unwrap();
    let (kind, event) = rig.event().await;
    assert_eq!((kind, &event["sequence"]), ("track", &1.into()));
    let (publisher, metrics) = (rig.publisher.clone(), Arc::clone(&rig.metrics));
    rig.task.shutdown(ms(1000), async {}).await;
    assert!(publisher.last_published(&a).is_some());
    assert_eq!(metrics.stream(&a).ledger().in_flight()[2], 0);
    assert_eq!(track_events_in_flight(&metrics), 0);
}

#[tokio::test]
async fn a_crowd_that_begins_at_once_loses_nothing_behind_a_slow_hub() {
    let mut rig = rig(2, None);
    rig.publisher.publish_tracks(starts(1));
    rig.event().await;
    rig.publish(frame("a"), true);
    rig.publisher.publish_tracks(starts(299));
    for _ in 0..301 {
        rig.verdicts.send(Ok(())).unwrap();
    }
    for sequence in 2..=301 {
        let (kind, event) = rig.event().await;
        assert_eq!(kind, if sequence == 2 { DETECTIONS } else { "track" });
        assert_eq!(event["sequence"], sequence);
    }
    let metrics = Arc::clone(&rig.metrics);
    rig.task.shutdown(ms(1000), async {}).await;
    assert_published(&metrics, "hub", "track", 300);
    assert_eq!(track_events_in_flight(&metrics), 0);
}
