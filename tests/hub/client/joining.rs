//! A hub is joined, left and joined again.

use super::*;
use twinsight::dev::hub::DirectAccess;
use twinsight_client::hub::Secret;

#[tokio::test]
async fn a_restarted_hub_is_joined_again_and_messages_flow_again() {
    let hub = Hub::start(DevHubOptions::default()).await;
    let metrics = Arc::new(Metrics::new());
    let node = HubClient::start_counting(hub.options("node"), Some(Arc::clone(&metrics) as _));
    soon("joining", node.joined()).await.unwrap();
    assert_eq!(metrics.hub_connected.get(), 1);
    let mut seen = node.messages(10, to_twin("camera"));
    node.subscribe("camera").await.unwrap();
    let address = hub.kill().await;
    away(&node).await;
    assert_eq!(metrics.hub_connected.get(), 0);
    assert_eq!(
        node.send("camera", json!({ "type": "x" })).await,
        Err(HubError::Disconnected)
    );
    assert_eq!(node.get_twin("camera").await, Err(HubError::Disconnected));
    // Remembered although the hub is away.
    node.subscribe("late").await.unwrap();
    let mut late = node.messages(10, to_twin("late"));

    let hub = Hub::start_at(address, DevHubOptions::default()).await;
    soon("joining again", node.joined()).await.unwrap();
    assert_eq!(
        (metrics.hub_connected.get(), metrics.hub_reconnects.get()),
        (1, 1)
    );
    // Subscriptions are written before anything else: this answer comes after them.
    node.get_twin("node").await.unwrap();
    let camera = hub.client("other").await;
    camera
        .send("camera", json!({ "type": "seen" }))
        .await
        .unwrap();
    camera
        .send("late", json!({ "type": "seen" }))
        .await
        .unwrap();
    soon("a message", seen.recv()).await.unwrap();
    soon("a message", late.recv()).await.unwrap();
}

#[tokio::test]
async fn a_hub_that_disconnects_the_client_is_joined_again() {
    let rogue = Rogue::start().await;
    let client = HubClient::start(rogue.options());
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    say(&mut peer, "41").await;
    let mut peer = rogue.join(handshake()).await;
    soon("joining again", client.joined()).await.unwrap();
    client.send("x", json!({ "type": "t" })).await.unwrap();
    assert!(hear(&mut peer).await.contains("twinMessage"));
}

#[tokio::test]
async fn direct_mode_joins_as_the_device_twin() {
    let hub = Hub::start(DevHubOptions {
        direct: DirectAccess::Keys([("dev-1".to_owned(), "key-1".to_owned().into())].into()),
        ..DevHubOptions::default()
    })
    .await;
    let device = HubClient::start(quick(HubOptions::direct(
        hub.url(),
        "dev-1",
        "key-1".to_owned(),
    )));
    soon("joining", device.joined()).await.unwrap();
    assert_eq!(device.instance().twin_id(), "device-dev-1");
    assert_eq!(device.instance().twin().unwrap().r#type, "Device");
    let twin = hub.client("twin").await;
    let mut at_device = device.messages(10, to_twin("device-dev-1"));
    let mut at_twin = twin.messages(10, to_twin("twin"));
    device
        .send("twin", json!({ "type": "hello" }))
        .await
        .unwrap();
    let message = soon("a message", at_twin.recv()).await.unwrap();
    assert_eq!(message.source_twin_id, "device-dev-1");
    assert_eq!(message.source_device_id, "dev-1");
    twin.send("device-dev-1", json!({ "type": "hello" }))
        .await
        .unwrap();
    soon("a message", at_device.recv()).await.unwrap();
}

#[tokio::test]
async fn a_refused_key_is_final() {
    let hub = Hub::start(DevHubOptions {
        direct: DirectAccess::Keys([("dev-1".to_owned(), "key-1".to_owned().into())].into()),
        ..DevHubOptions::default()
    })
    .await;
    let options = quick(HubOptions::direct(hub.url(), "dev-1", "key-2".to_owned()));
    let metrics = Arc::new(Metrics::new());
    let client = HubClient::start_counting(options, Some(Arc::clone(&metrics) as _));
    let refused = soon("the refusal", client.joined()).await;
    let text = metrics.encode();
    let counted = |line: &&str| line.starts_with("twinsight_hub_losses_total{reason=\"key\"}");
    let counted = text.lines().find(counted).unwrap();
    assert!(!counted.ends_with(" 0"), "{counted}");
    assert!(
        matches!(refused, Err(HubError::Refused { .. })),
        "{refused:?}"
    );
    let sent = client.send("x", json!({ "type": "t" })).await;
    assert!(matches!(sent, Err(HubError::Refused { .. })), "{sent:?}");
    client.subscribe("x").await.unwrap();
    soon("closing", client.close()).await;
    assert!(matches!(
        &*client.status().borrow(),
        HubStatus::Refused { .. }
    ));
}

/// Takes the next client in direct mode to the point where it wants to know whether its key is good.
async fn greet_device(rogue: &Rogue) -> Peer {
    let (stream, _) = soon("a client", rogue.listener.accept()).await.unwrap();
    let mut peer = tokio_tungstenite::accept_async(stream).await.unwrap();
    say(&mut peer, &format!("0{}", handshake())).await;
    assert!(hear(&mut peer).await.starts_with("40{"));
    peer
}

#[tokio::test]
async fn a_hub_whose_auth_service_restarts_is_tried_until_it_is_back() {
    let rogue = Rogue::start().await;
    let url = format!("http://{}", rogue.listener.local_addr().unwrap());
    let mut options = quick(HubOptions::direct(url, "dev", "the-access-key".to_owned()));
    options.timers.refusal = Duration::from_millis(50);
    let client = HubClient::start(options);
    // Much more often than a refusal would need, and with a refusal now and then.
    for n in 0..12 {
        let mut peer = greet_device(&rogue).await;
        if n % 3 == 0 {
            say(&mut peer, r#"44{"message":"auth service is restarting"}"#).await;
            continue;
        }
        say(&mut peer, "40").await;
        hear(&mut peer).await;
        let answer = match n % 3 {
            1 => r#"42["deviceAuthenticated"]"#,
            _ => {
                r#"42["deviceAuthenticated",{"status":"error","message":"key the-access-key is unknown"}]"#
            }
        };
        say(&mut peer, answer).await;
    }
    let reason = away(&client).await.to_string();
    assert!(!reason.contains("the-access-key"), "{reason}");
    let mut peer = greet_device(&rogue).await;
    say(&mut peer, "40").await;
    hear(&mut peer).await;
    say(
        &mut peer,
        r#"42["deviceAuthenticated",{"status":"success"}]"#,
    )
    .await;
    hear(&mut peer).await;
    say(
        &mut peer,
        r#"430[{"status":"success","twins":[{"id":"d"}]}]"#,
    )
    .await;
    hear(&mut peer).await;
    say(&mut peer, "431[{}]").await;
    soon("joining", client.joined()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_key_that_is_rotated_in_its_file_is_taken_at_the_next_connection() {
    let with_key = |key: &str| DevHubOptions {
        direct: DirectAccess::Keys([("dev-1".to_owned(), key.to_owned().into())].into()),
        ..DevHubOptions::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "old\n").unwrap();
    let hub = Hub::start(with_key("old")).await;
    let key = Secret::of_file(&file, "old\n").unwrap();
    let client = HubClient::start(quick(HubOptions::direct(hub.url(), "dev-1", key.clone())));
    soon("joining", client.joined()).await.unwrap();

    // First at the hub, then in the file: refused meanwhile, and not given up.
    let address = hub.kill().await;
    let hub = Hub::start_at(address, with_key("new")).await;
    let refused = |status: &HubStatus| {
        let reason = match status {
            HubStatus::Away { reason, .. } => reason,
            _ => return false,
        };
        matches!(reason, AwayReason::KeyRefused(_))
    };
    status(&client, refused).await;
    std::fs::write(&file, "new\n").unwrap();
    soon("joining with the new key", client.joined())
        .await
        .unwrap();

    // A client whose key never is good is refused in the end.
    let stranger = HubClient::start(quick(HubOptions::direct(
        hub.url(),
        "dev-1",
        "wrong".to_owned(),
    )));
    assert!(matches!(
        soon("the refusal", stranger.joined()).await,
        Err(HubError::Refused { .. })
    ));
}

#[tokio::test]
async fn a_second_client_with_our_twin_id_is_noticed_and_our_own_echo_is_not() {
    let hub = Hub::start(DevHubOptions {
        echo: true,
        ..DevHubOptions::default()
    })
    .await;
    let counted = |metrics: &Metrics| metrics.twin_id_conflicts.get();
    let node = |run_id: &'static str| {
        let metrics = Arc::new(Metrics::new());
        let client =
            HubClient::start_counting(hub.options("node"), Some(Arc::clone(&metrics) as _));
        client.watch_for_namesakes(run_id);
        (client, metrics)
    };
    let (one, counted_by_one) = node("run-1");
    soon("joining", one.joined()).await.unwrap();
    one.subscribe("cam").await.unwrap();
    let offer = |sdp: &str| json!({ "type": "media-default-cam:offer", "data": { "sdp": sdp, "type": "offer" }, "peerId": sdp });
    let seen = |run: &str| json!({ "runId": run, "sequence": 1 });
    one.send("cam", offer("one")).await.unwrap();
    one.instance()
        .emit("detections", seen("run-1"))
        .await
        .unwrap();
    // Answered after the echo of both.
    one.get_twin("node").await.unwrap();
    assert_eq!(counted(&counted_by_one), 0);

    let (two, counted_by_two) = node("run-2");
    soon("joining", two.joined()).await.unwrap();
    two.subscribe("cam").await.unwrap();
    two.send("cam", offer("two")).await.unwrap();
    two.instance()
        .emit("detections", seen("run-2"))
        .await
        .unwrap();
    two.get_twin("node").await.unwrap();
    soon("the sightings", async {
        while counted(&counted_by_one) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(counted(&counted_by_two), 0);
}

#[tokio::test]
async fn closing_writes_what_was_sent_and_says_goodbye() {
    let rogue = Rogue::start().await;
    let client = HubClient::start(rogue.options());
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let mut messages = client.messages(1, |_| true);
    client.send("x", json!({ "type": "last" })).await.unwrap();
    let closer = client.clone();
    let closing = tokio::spawn(async move { closer.close().await });
    assert!(hear(&mut peer).await.contains("last"));
    assert_eq!(hear(&mut peer).await, "41");
    soon("closing", closing).await.unwrap();
    assert_eq!(away(&client).await, AwayReason::ClosedHere);
    assert_eq!(
        client.send("x", json!({ "type": "t" })).await,
        Err(HubError::Closed)
    );
    assert_eq!(soon("the end of messages", messages.recv()).await, None);
}

#[tokio::test]
async fn a_hub_that_cannot_be_reached_is_tried_again() {
    let address = unused_address();
    let client = HubClient::start(quick(HubOptions::simulator(
        format!("http://{address}"),
        "node",
    )));
    assert!(matches!(away(&client).await, AwayReason::Socket(_)));
    status(&client, |status| {
        matches!(status, HubStatus::Connecting { attempt: 3.. })
    })
    .await;
    let _hub = Hub::start_at(address, DevHubOptions::default()).await;
    soon("joining", client.joined()).await.unwrap();
}
