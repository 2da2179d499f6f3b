//! The task against a sink of channels: what it writes, what it counts, how it ends.

use tokio::sync::mpsc;

use super::super::event::tests::{inferred, ms};
use super::*;
use crate::config::EventKind;
use crate::telemetry::health::Health;
use twinsight_client::telemetry::CameraState;

/// Tells each event and waits for the word to be done with it.
struct ChannelSink {
    events: mpsc::UnboundedSender<(&'static str, Value)>,
    verdicts: mpsc::UnboundedReceiver<Result<(), HubAway>>,
}

impl EventSink for ChannelSink {
    async fn emit(&mut self, event: &'static str, data: Value) -> Result<(), HubAway> {
        let _ = self.events.send((event, data));
        match self.verdicts.recv().await {
            Some(verdict) => verdict,
            None => std::future::pending().await,
        }
    }
}

struct Rig {
    publisher: Publisher,
    task: PublisherTask,
    metrics: Arc<Metrics>,
    events: mpsc::UnboundedReceiver<(&'static str, Value)>,
    verdicts: mpsc::UnboundedSender<Result<(), HubAway>>,
}

fn rig(capacity: usize, heartbeat: Option<Heartbeat>) -> Rig {
    rig_with(Arc::new(Metrics::new()), capacity, heartbeat)
}

fn rig_with(metrics: Arc<Metrics>, capacity: usize, heartbeat: Option<Heartbeat>) -> Rig {
    let (event_tx, events) = mpsc::unbounded_channel();
    let (verdicts, verdict_rx) = mpsc::unbounded_channel();
    let sink = ChannelSink {
        events: event_tx,
        verdicts: verdict_rx,
    };
    let (publisher, task) = Publisher::spawn(
        sink,
        EventFeed::new("8f1c"),
        capacity,
        Arc::clone(&metrics),
        heartbeat,
        None,
    );
    Rig {
        publisher,
        task,
        metrics,
        events,
        verdicts,
    }
}

impl Rig {
    /// Publishes as the inference stage does, counting the frame as inferred.
    fn publish(&self, frame: Inferred, emit_empty: bool) -> Option<u64> {
        self.metrics.stream(&frame.id).frames_inferred.inc();
        let emit = emit_empty || !frame.objects.is_empty();
        self.publisher.publish(frame, emit)
    }

    /// The next event that the task writes; a test that waits in vain fails.
    async fn event(&mut self) -> (&'static str, Value) {
        let limit = Duration::from_secs(10);
        let event = tokio::time::timeout(limit, self.events.recv()).await;
        event.expect("an event within 10 s").expect("a sink")
    }

    fn balances(&self, twin_id: &str) -> bool {
        let metrics = self.metrics.stream(&StreamId::new(twin_id, "default"));
        metrics.ledger().in_flight()[2] == 0
    }

    fn dropped(&self, twin_id: &str, reason: EventDrop) -> u64 {
        let id = StreamId::new(twin_id, "default");
        self.metrics.stream(&id).events_dropped(reason)
    }
}

fn frame(twin_id: &str) -> Inferred {
    inferred(twin_id, Instant::now() - ms(100))
}

fn status(twin_id: &str, state: CameraState) -> CameraStatus {
    CameraStatus {
        id: StreamId::new(twin_id, "default"),
        name: twin_id.into(),
        state,
        since: Instant::now(),
        reason: None,
        attempt: 1,
    }
}

#[tokio::test]
async fn a_written_event_is_published_and_its_age_observed() {
    let mut rig = rig(4, None);
    rig.verdicts.send(Ok(())).unwrap();
    rig.publish(frame("a"), true);
    let (kind, event) = rig.event().await;
    assert_eq!(kind, "detections");
    assert_eq!(
        (&event["runId"], &event["sequence"]),
        (&"8f1c".into(), &1.into())
    );
    assert!(event["latencyMs"]["total"].as_f64().unwrap() >= 100.0);
    let publisher = rig.publisher.clone();
    let metrics = rig.metrics.stream(&StreamId::new("a", "default"));
    rig.task.shutdown(ms(1000), async {}).await;
    assert_eq!(metrics.events_published.get(), 1);
    assert_eq!(metrics.frame_age.get_sample_count(), 1);
    assert!(metrics.frame_age.get_sample_sum() >= 0.1);
    assert!(publisher.last_published(metrics.id()).is_some());
    assert!(rig.metrics.encode().contains(
        "twinsight_stage_duration_seconds_count{camera=\"a\",stage=\"publish\",stream=\"default\"} 1"
    ));
}

#[tokio::test]
async fn what_was_seen_last_is_kept_of_each_stream_until_it_is_forgotten() {
    let mut rig = rig(4, None);
    let a = StreamId::new("a", "default");
    assert_eq!(rig.publisher.last_seen(&a), None);
    let mut two = frame("a");
    two.objects.push(two.objects[0].clone());
    for (frame, verdict) in [
        (frame("a"), Ok(())),
        (frame("b"), Ok(())),
        (two, Err(HubAway)),
    ] {
        rig.verdicts.send(verdict).unwrap();
        rig.publish(frame, true);
        rig.event().await;
    }
    let (publisher, seen) = (rig.publisher.clone(), |publisher: &Publisher| {
        publisher.last_seen(&a).map(|seen| seen.objects)
    });
    let mut empty = frame("a");
    empty.objects.clear();
    rig.publish(empty, true);
    // The task has written the second event of the camera when it writes the third.
    rig.event().await;
    assert_eq!(
        seen(&publisher),
        Some([("person".into(), 2)].into()),
        "of an event that the hub did not take"
    );
    let written = publisher.last_published(&a).unwrap();
    let second = publisher.last_published(&StreamId::new("b", "default"));
    assert!(written <= second.unwrap(), "only what was written counts");
    rig.verdicts.send(Ok(())).unwrap();
    rig.task.shutdown(ms(1000), async {}).await;
    assert_eq!(seen(&publisher), Some([].into()));
    publisher.forget(&a);
    assert_eq!(seen(&publisher), None);
    assert_eq!(publisher.remembered(), 1);
}

#[tokio::test]
async fn with_the_hub_away_events_are_dropped_and_counted() {
    let mut rig = rig(4, None);
    for _ in 0..3 {
        rig.verdicts.send(Err(HubAway)).unwrap();
        rig.publish(frame("a"), true);
        rig.event().await;
    }
    rig.verdicts.send(Ok(())).unwrap();
    rig.publish(frame("a"), true);
    let (_, event) = rig.event().await;
    assert_eq!(event["sequence"], 4, "the gap tells of the loss");
    let metrics = Arc::clone(&rig.metrics);
    rig.task.shutdown(ms(1000), async {}).await;
    let a = metrics.stream(&StreamId::new("a", "default"));
    assert_eq!(a.events_dropped(EventDrop::HubDisconnected), 3);
    assert_eq!(a.ledger().in_flight()[2], 0);
}

#[tokio::test]
async fn a_slow_hub_costs_the_oldest_frames_and_the_books_balance() {
    let mut rig = rig(2, None);
    rig.publish(frame("a"), true);
    rig.event().await;
    for _ in 0..5 {
        rig.publish(frame("b"), true);
    }
    assert_eq!(rig.dropped("b", EventDrop::OutboxFull), 3);
    for _ in 0..3 {
        rig.verdicts.send(Ok(())).unwrap();
    }
    let sequences = [rig.event().await, rig.event().await]
        .map(|(_, event)| event["sequence"].as_u64().unwrap());
    assert_eq!(sequences, [4, 5]);
    let metrics = Arc::clone(&rig.metrics);
    rig.task.shutdown(ms(1000), async {}).await;
    for twin_id in ["a", "b"] {
        let stream = metrics.stream(&StreamId::new(twin_id, "default"));
        assert_eq!(stream.ledger().in_flight()[2], 0, "{twin_id}");
    }
}

#[tokio::test]
async fn a_frame_without_objects_is_suppressed_only_where_configured() {
    let mut rig = rig(4, None);
    let empty = || Inferred {
        objects: Vec::new(),
        ..frame("a")
    };
    assert_eq!(rig.publish(empty(), false), None);
    assert_eq!(rig.dropped("a", EventDrop::Suppressed), 1);
    assert!(rig.balances("a"));
    assert_eq!(rig.publish(frame("a"), false), Some(1), "as in its event");
    rig.verdicts.send(Ok(())).unwrap();
    let (_, event) = rig.event().await;
    assert_eq!(
        (&event["sequence"], &event["skippedFrames"]),
        (&1.into(), &4.into())
    );
    rig.publish(empty(), true);
    let (_, event) = rig.event().await;
    assert_eq!(event["objects"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn states_lost_with_the_hub_are_sent_again_when_it_returns() {
    let mut rig = rig(4, None);
    rig.verdicts.send(Err(HubAway)).unwrap();
    rig.publisher
        .set_status(status("a", CameraState::Receiving));
    rig.event().await;
    rig.verdicts.send(Ok(())).unwrap();
    rig.publisher.resend_statuses();
    let (kind, event) = rig.event().await;
    assert_eq!(
        (kind, &event["state"]),
        ("cameraStatus", &"receiving".into())
    );
}

#[tokio::test]
async fn shutdown_sends_what_waits() {
    let mut rig = rig(8, None);
    rig.publisher.set_status(status("a", CameraState::Removed));
    for _ in 0..3 {
        rig.publish(frame("a"), true);
        rig.verdicts.send(Ok(())).unwrap();
    }
    rig.verdicts.send(Ok(())).unwrap();
    let publisher = rig.publisher.clone();
    let metrics = rig.metrics.stream(&StreamId::new("a", "default"));
    rig.task.shutdown(Duration::from_secs(5), async {}).await;
    assert_eq!(metrics.events_published.get(), 3);
    assert_eq!(rig.events.try_recv().unwrap().0, "cameraStatus");

    metrics.frames_inferred.inc();
    publisher.publish(frame("a"), true);
    assert_eq!(
        metrics.events_dropped(EventDrop::HubDisconnected),
        1,
        "too late"
    );
    assert_eq!(metrics.ledger().in_flight()[2], 0);
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_hangs_ends_the_drain_at_its_deadline_with_balanced_books() {
    let mut rig = rig(8, None);
    for _ in 0..3 {
        rig.publish(frame("a"), true);
    }
    rig.event().await;
    let metrics = rig.metrics.stream(&StreamId::new("a", "default"));
    rig.task.shutdown(Duration::from_secs(2), async {}).await;
    assert_eq!(metrics.events_dropped(EventDrop::HubDisconnected), 3);
    assert_eq!(metrics.ledger().in_flight()[2], 0);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_written_after_the_deadline_counts_as_published() {
    let mut rig = rig(8, None);
    for _ in 0..3 {
        rig.publish(frame("a"), true);
    }
    rig.event().await;
    let metrics = rig.metrics.stream(&StreamId::new("a", "default"));
    let verdicts = rig.verdicts;
    // The hub client writes what it has when it is closed.
    let leave = async move {
        verdicts.send(Ok(())).unwrap();
    };
    rig.task.shutdown(Duration::from_secs(2), leave).await;
    assert_eq!(metrics.events_published.get(), 1);
    assert_eq!(metrics.events_dropped(EventDrop::HubDisconnected), 2);
    assert_eq!(metrics.ledger().in_flight()[2], 0);
    assert!(rig.events.try_recv().is_err(), "nothing else is written");
}

#[tokio::test(start_paused = true)]
async fn an_idle_publisher_beats() {
    let health = Health::default();
    let long_ago = Instant::now() - ms(500);
    let heartbeat = health.register("publisher", ms(400), long_ago);
    let now = Instant::now();
    assert_eq!(health.silent(now).len(), 1);
    let rig = rig(8, Some(heartbeat));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(health.silent(now).is_empty());
    rig.task.shutdown(ms(100), async {}).await;
}

#[test]
fn run_ids_are_32_hex_digits_and_differ() {
    let (a, b) = (new_run_id(), new_run_id());
    assert!(a.len() == 32 && a.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_ne!(a, b);
}

#[tokio::test]
async fn a_sink_gets_the_hubs_events_with_their_numbers_though_the_hub_takes_none() {
    let metrics = Arc::new(Metrics::with_sinks(["home".to_owned()]));
    let lane = SinkLane::new(0, EventKind::ALL.to_vec(), "8f1c", Arc::clone(&metrics));
    let mut rig = rig_with(Arc::clone(&metrics), 2, None);
    rig.publisher = rig.publisher.with_lanes([lane.clone()]);
    // The hub says nothing, so that its outbox overflows.
    let numbers: Vec<_> = (0..5).map(|_| rig.publish(frame("a"), true)).collect();
    let empty = Inferred {
        objects: Vec::new(),
        ..frame("a")
    };
    assert_eq!(rig.publish(empty, false), None);
    for number in numbers {
        let event = lane.next().await.unwrap();
        let json = lane.json(&event, &WallClock::read());
        assert_eq!(json["sequence"].as_u64(), number);
        lane.settled(event, Ok(()));
    }
    let publisher = rig.publisher.clone();
    rig.task.shutdown(ms(10), async {}).await;
    // A worker that hung comes back while the node stops: its frame is lost for all.
    let stream = metrics.stream(&StreamId::new("a", "default"));
    stream.frames_inferred.inc();
    publisher.publish(frame("a"), true);
    let ledger = stream.ledger();
    assert_eq!(
        (ledger.in_flight()[2], ledger.sink_events_in_flight),
        (0, 0)
    );
    let text = metrics.encode();
    for (reason, count) in [("suppressed", 1), ("sink_unreachable", 1)] {
        let line = format!(
            "twinsight_events_dropped_total{{camera=\"a\",reason=\"{reason}\",sink=\"home\",stream=\"default\"}} {count}"
        );
        assert!(text.contains(&line), "{line}");
    }
}

#[path = "publisher_share_tests.rs"]
mod share;
#[path = "publisher_track_tests.rs"]
mod tracks;
