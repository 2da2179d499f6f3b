//! A lane between a publisher and a sink that is there, slow or away: numbers, losses and the ledger.

use super::super::event::tests::inferred;
use super::*;
use twinsight_client::telemetry::CameraState;

fn lane(events: &[EventKind]) -> (SinkLane, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::with_sinks(["home".to_owned()]));
    let lane = SinkLane::new(0, events.to_vec(), "8f1c", Arc::clone(&metrics));
    (lane, metrics)
}

pub(crate) fn offer(lane: &SinkLane, metrics: &Metrics, sequence: Option<u64>) {
    let frame = inferred("a", Instant::now());
    let stream = metrics.stream(&frame.id);
    // The other parts of the ledger are not looked at here.
    stream.access_units_received.inc();
    stream.frames_decoded.inc();
    stream.frames_inferred.inc();
    stream.events_published.inc();
    match sequence {
        Some(sequence) => lane.offer(sequence, &frame.into()),
        None => lane.pass(&frame, EventDrop::Suppressed),
    }
}

fn status(state: CameraState) -> CameraStatus {
    CameraStatus {
        id: StreamId::new("a", "default"),
        name: "a".into(),
        state,
        since: Instant::now(),
        reason: None,
        attempt: 1,
    }
}

pub(crate) fn ledger(metrics: &Metrics) -> crate::telemetry::metrics::LedgerReading {
    metrics.stream(&StreamId::new("a", "default")).ledger()
}

#[tokio::test]
async fn an_event_has_the_number_and_the_json_that_the_hub_gets() {
    let (lane, metrics) = lane(EventKind::ALL);
    offer(&lane, &metrics, Some(1834));
    assert_eq!(ledger(&metrics).sink_events_in_flight, 1);
    let event = lane.next().await.unwrap();
    assert_eq!(event.kind(), EventKind::Detections);
    let json = lane.json(&event, &WallClock::read());
    assert_eq!(
        (&json["runId"], &json["sequence"]),
        (&"8f1c".into(), &1834.into())
    );
    lane.settled(event, Ok(()));
    assert!(ledger(&metrics).balances());
    let text = metrics.encode();
    for line in [
        "twinsight_events_published_total{camera=\"a\",sink=\"home\",stream=\"default\"} 1",
        "twinsight_sink_events_total{result=\"published\",sink=\"home\",type=\"detections\"} 1",
    ] {
        assert!(text.contains(line), "{line}");
    }
}

#[tokio::test]
async fn a_sink_that_takes_nothing_loses_the_oldest_frames_and_counts_them() {
    let (lane, metrics) = lane(EventKind::ALL);
    for n in 0..FRAMES as u64 + 3 {
        offer(&lane, &metrics, Some(n + 1));
    }
    assert_eq!(ledger(&metrics).sink_events_in_flight, 64);
    lane.close();
    let first = lane.next().await.unwrap();
    assert_eq!(lane.json(&first, &WallClock::read())["sequence"], 4);
    lane.settled(first, Err(EventDrop::Stale));
    lane.abandon(EventDrop::SinkUnreachable);
    assert!(lane.next().await.is_none());
    assert!(ledger(&metrics).balances());
    // What comes after the end is counted too.
    offer(&lane, &metrics, Some(100));
    assert!(ledger(&metrics).balances());
}

#[tokio::test]
async fn that_a_camera_was_removed_is_due_until_the_sink_took_or_refused_it() {
    let (lane, _metrics) = lane(EventKind::ALL);
    let id = StreamId::new("a", "default");
    for (result, is_due) in [
        (Err(EventDrop::SinkUnreachable), true),
        (Err(EventDrop::Refused), false),
        (Ok(()), false),
    ] {
        lane.set_status(&status(CameraState::Removed));
        let event = lane.next().await.unwrap();
        lane.settled(event, result);
        assert_eq!(lane.is_due(&id), is_due, "{result:?}");
    }
}

#[tokio::test]
async fn what_waits_of_a_camera_that_is_gone_is_let_go_and_nothing_else() {
    let (lane, metrics) = lane(EventKind::ALL);
    for n in 1..=3 {
        offer(&lane, &metrics, Some(n));
    }
    let other = inferred("b", Instant::now());
    metrics.stream(&other.id).frames_inferred.inc();
    lane.offer(1, &other.into());
    lane.let_go(&StreamId::new("a", "default"));
    assert!(ledger(&metrics).balances());
    let text = metrics.encode();
    let dropped = "twinsight_events_dropped_total{camera=\"a\",reason=\"stale\",sink=\"home\",stream=\"default\"} 3";
    assert!(text.contains(dropped), "{text}");
    assert_eq!(&*lane.next().await.unwrap().stream().twin_id, "b");
}

#[tokio::test]
async fn what_the_sink_does_not_get_is_counted_for_events_of_all_types() {
    let (lane, metrics) = lane(EventKind::ALL);
    for _ in 1..=10 {
        lane.set_status(&status(CameraState::Connecting));
    }
    lane.close();
    offer(&lane, &metrics, Some(1));
    let frame = inferred("a", Instant::now());
    metrics.stream(&frame.id).frames_inferred.inc();
    metrics.stream(&frame.id).events_published.inc();
    lane.pass(&frame, EventDrop::SinkUnreachable);
    assert_eq!(ledger(&metrics).sink_events_in_flight, 0);
    let text = metrics.encode();
    for line in [
        "twinsight_sink_events_total{result=\"outbox_full\",sink=\"home\",type=\"cameraStatus\"} 2",
        "twinsight_sink_events_total{result=\"sink_unreachable\",sink=\"home\",type=\"detections\"} 2",
    ] {
        assert!(text.contains(line), "{line}");
    }
    assert_eq!(lane.metrics().dropped(), 4);
}

#[tokio::test]
async fn whoever_taps_a_lane_sees_frames_that_make_no_event_and_all_states() {
    let metrics = Arc::new(Metrics::with_sinks(["home".to_owned()]));
    let (lane, mut observed) = SinkLane::tapped(0, vec![], "8f1c", Arc::clone(&metrics));
    offer(&lane, &metrics, None);
    let Some(Observed::Frame(frame)) = observed.recv().await else {
        panic!("no frame");
    };
    assert_eq!(frame.objects, [("person".into(), 0.93)]);
    let id = StreamId::new("a", "default");
    lane.rename(&id, &"Yard".into());
    assert!(matches!(observed.recv().await, Some(Observed::Renamed(..))));
    lane.forget(&id);
    assert!(matches!(
        observed.recv().await,
        Some(Observed::Forgotten(_))
    ));
    // Nobody takes it, and nothing waits for that.
    for _ in 0..2 * OBSERVATIONS {
        offer(&lane, &metrics, None);
    }
    assert!(ledger(&metrics).balances());
}

#[tokio::test]
async fn a_sink_gets_what_it_is_configured_for_and_the_rest_is_suppressed() {
    let (lane, metrics) = lane(&[EventKind::CameraStatus]);
    offer(&lane, &metrics, Some(1));
    offer(&lane, &metrics, None);
    assert!(ledger(&metrics).balances());
    lane.set_status(&status(CameraState::Receiving));
    let event = lane.next().await.unwrap();
    assert_eq!(event.event_type(), "cameraStatus");
    lane.settled(event, Err(EventDrop::SinkUnreachable));
    lane.resend_statuses();
    assert!(lane.next().await.unwrap().status().is_some());
}
