//! What is still under way of a camera that is about to be another node's, and what is told of it.

use super::*;

/// Waits until nothing of the camera is on its way any more.
async fn until_all_is_out(publisher: &Publisher, twin_id: &str) {
    let all_is_out = async {
        while publisher.has_waiting(twin_id) {
            tokio::task::yield_now().await;
        }
    };
    let limit = Duration::from_secs(10);
    let ended = tokio::time::timeout(limit, all_is_out).await;
    ended.expect("nothing is under way within 10 s");
}

/// A share that holds this camera, and publishes it.
fn holding(twin_id: &str) -> Share {
    let share = Share::by_hand();
    share.renew(Duration::from_secs(600));
    share.open(twin_id);
    share.set_begun(&twin_id.into(), share.epoch(twin_id));
    share
}

#[tokio::test]
async fn that_a_camera_moved_is_under_way_until_it_was_written_or_lost() {
    let mut rig = rig(4, None);
    rig.verdicts.send(Ok(())).unwrap();
    rig.publisher
        .set_status(status("a", CameraState::Receiving));
    rig.event().await;
    for verdict in [Ok(()), Err(HubAway)] {
        until_all_is_out(&rig.publisher, "a").await;
        rig.publisher.tell_moved("a", "b");
        let (kind, event) = rig.event().await;
        assert_eq!((kind, &event["state"]), (CAMERA_STATUS, &"removed".into()));
        // It is being written, and the hub has not taken it yet.
        assert!(rig.publisher.has_waiting("a"), "{verdict:?}");
        assert!(!rig.publisher.has_waiting("c"));
        rig.verdicts.send(verdict).unwrap();
    }
    until_all_is_out(&rig.publisher, "a").await;
    rig.task.shutdown(ms(1000), async {}).await;
}

#[tokio::test]
async fn a_state_that_is_another_nodes_to_tell_by_now_is_not_under_way() {
    let mut rig = rig(4, None);
    let share = holding("a");
    rig.publisher = rig.publisher.with_share(&share);
    rig.publish(frame("b"), true);
    rig.publish(frame("a"), true);
    // The hub is slow, and the camera goes while its state waits.
    let (_, event) = rig.event().await;
    assert_eq!(event["camera"]["twinId"], "a", "the other is not held");
    rig.publisher
        .set_status(status("a", CameraState::Receiving));
    assert!(rig.publisher.has_waiting("a"));
    share.close("a");
    rig.verdicts.send(Ok(())).unwrap();
    until_all_is_out(&rig.publisher, "a").await;
    assert!(rig.events.try_recv().is_err(), "nobody is told of it");
    rig.task.shutdown(ms(1000), async {}).await;
}

#[tokio::test]
async fn an_event_that_a_sink_has_in_hand_is_under_way() {
    let metrics = Arc::new(Metrics::with_sinks(["home".to_owned()]));
    let lane = SinkLane::new(0, EventKind::ALL.to_vec(), "8f1c", Arc::clone(&metrics));
    let mut rig = rig_with(Arc::clone(&metrics), 4, None);
    rig.publisher = rig.publisher.with_lanes([lane.clone()]);
    rig.verdicts.send(Ok(())).unwrap();
    rig.publish(frame("a"), true);
    rig.event().await;
    let event = lane.next().await.unwrap();
    assert!(rig.publisher.has_waiting("a"));
    assert!(!rig.publisher.has_waiting("b"));
    lane.settled(event, Ok(()));
    until_all_is_out(&rig.publisher, "a").await;
    // Nobody waits for a sink that is not reached.
    rig.publish(frame("a"), true);
    rig.verdicts.send(Ok(())).unwrap();
    rig.event().await;
    let event = lane.next().await.unwrap();
    lane.metrics().set_trouble(Some("it is away".to_owned()));
    until_all_is_out(&rig.publisher, "a").await;
    lane.settled(event, Err(EventDrop::SinkUnreachable));
    rig.task.shutdown(ms(1000), async {}).await;
}

#[tokio::test]
async fn of_a_sink_that_is_away_the_moves_of_a_camera_fill_no_memory() {
    let metrics = Arc::new(Metrics::with_sinks(["home".to_owned()]));
    let lane = SinkLane::new(0, EventKind::ALL.to_vec(), "8f1c", Arc::clone(&metrics));
    let mut rig = rig_with(Arc::clone(&metrics), 4, None);
    rig.publisher = rig.publisher.with_lanes([lane.clone()]);
    rig.publisher
        .set_status(status("a", CameraState::Receiving));
    for _ in 0..100 {
        rig.publisher.tell_moved("a", "b");
    }
    lane.close();
    let mut told = 0;
    while let Some(event) = lane.next().await {
        told += 1;
        lane.settled(event, Ok(()));
    }
    assert_eq!(told, 8);
    let dropped = "twinsight_sink_events_total{result=\"outbox_full\",sink=\"home\",type=\"cameraStatus\"} 93";
    assert!(metrics.encode().contains(dropped));
    rig.task.shutdown(ms(10), async {}).await;
}
