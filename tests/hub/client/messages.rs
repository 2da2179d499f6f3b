//! What clients say to each other by way of the hub: messages, events, actions, properties.

use super::*;
use twinsight_client::hub::{ActionResult, ActionStatus};

#[tokio::test]
async fn messages_go_both_ways_in_order() {
    let hub = Hub::start(DevHubOptions::default()).await;
    let (a, b) = (hub.client("a").await, hub.client("b").await);
    let (mut at_a, mut at_b) = (a.messages(200, to_twin("a")), b.messages(200, to_twin("b")));
    for n in 0..100 {
        a.send("b", json!({ "type": "count", "data": n }))
            .await
            .unwrap();
    }
    for n in 0..100 {
        let message = soon("a message", at_b.recv()).await.unwrap();
        assert_eq!(message.source_twin_id, "a");
        assert_eq!(message.data["data"], n);
    }
    b.send("a", json!({ "type": "back" })).await.unwrap();
    let message = soon("a message", at_a.recv()).await.unwrap();
    assert_eq!(message.message_type(), Some("back"));
}

#[tokio::test]
async fn events_reach_those_who_listen_to_the_twin() {
    let hub = Hub::start(DevHubOptions::default()).await;
    let (camera, viewer) = (hub.client("camera").await, hub.client("viewer").await);
    let mut seen = viewer.messages(10, to_twin("camera"));
    viewer.subscribe("camera").await.unwrap();
    camera
        .instance()
        .emit("seen", json!({ "n": 1 }))
        .await
        .unwrap();
    let message = soon("the event", seen.recv()).await.unwrap();
    assert_eq!(
        message.data,
        json!({
            "type": "edgeInstance:seen", "sourceTwinId": "camera",
            "sourceDeviceId": "dev-device", "data": { "n": 1 },
        })
    );
    viewer.unsubscribe("camera").await;
    // The hub handles what one client sends in order: this call is answered after the other.
    viewer.get_twin("camera").await.unwrap();
    camera
        .instance()
        .emit("seen", json!({ "n": 2 }))
        .await
        .unwrap();
    camera
        .send("viewer", json!({ "type": "end" }))
        .await
        .unwrap();
    let mut direct = viewer.messages(10, to_twin("viewer"));
    camera
        .send("viewer", json!({ "type": "end" }))
        .await
        .unwrap();
    soon("the end", direct.recv()).await.unwrap();
    assert_eq!(seen.try_recv(), None);
}

#[tokio::test]
async fn the_client_of_a_peripheral_speaks_as_it() {
    let hub = Hub::start(DevHubOptions::default()).await;
    let (edge, viewer) = (hub.client("edge").await, hub.client("viewer").await);
    let mut seen = viewer.messages(10, to_twin("lens"));
    viewer.subscribe("lens").await.unwrap();
    edge.peripheral_instance("lens")
        .await
        .unwrap()
        .emit("seen", json!({ "n": 1 }))
        .await
        .unwrap();
    let message = soon("the event", seen.recv()).await.unwrap();
    assert_eq!(message.source_twin_id, "edge");
    assert_eq!(message.data["type"], "peripheralInstance:lens:seen");
    assert_eq!(message.data["sourceTwinId"], "lens");
    edge.send_as("lens", "viewer", json!({ "type": "signal" }))
        .await
        .unwrap();
}

#[tokio::test]
async fn actions_are_answered_or_expire() {
    let hub = Hub::start(DevHubOptions::default()).await;
    let server = hub.client("server").await;
    let mut options = hub.options("impatient");
    options.timers.request = Duration::from_millis(300);
    let impatient = HubClient::start(options);
    soon("joining", impatient.joined()).await.unwrap();
    let asker = hub.client("asker").await;
    let mut actions = server.instance().events("add", 10);
    let answering = tokio::spawn(async move {
        let action = actions.recv().await.unwrap();
        assert!(action.is_request());
        assert_eq!(action.data, json!({ "a": 2, "b": 3 }));
        let result = ActionResult::success("added", Some(json!({ "sum": 5 })));
        action.respond(result).await.unwrap();
    });
    let target = asker.instance().to("server");
    let result = soon(
        "the answer",
        target.request("add", json!({ "a": 2, "b": 3 })),
    )
    .await;
    let result = result.unwrap();
    assert_eq!(result.status, ActionStatus::Success);
    assert_eq!(
        (result.message.as_str(), result.data),
        ("added", Some(json!({ "sum": 5 })))
    );
    answering.await.unwrap();
    let target = impatient.instance().to("server");
    let unheard = soon("the expiry", target.request("subtract", Value::Null)).await;
    assert!(matches!(unheard, Err(HubError::Expired { what, .. }) if what == "subtract"));
}

#[tokio::test]
async fn payloads_that_the_official_clients_lose_are_refused() {
    let hub = Hub::start(DevHubOptions::default()).await;
    let client = hub.client("a").await;
    for payload in [json!({}), json!([1]), json!("text"), json!(7), Value::Null] {
        let sent = client.instance().emit("x", payload).await;
        assert_eq!(sent, Err(HubError::Payload));
    }
    let long = json!({ "type": "x".repeat(1 << 20) });
    assert!(matches!(
        client.send("b", long).await,
        Err(HubError::TooLong { .. })
    ));
}

#[tokio::test]
async fn properties_are_reported_and_desired_ones_arrive() {
    let hub = Hub::start(DevHubOptions::default()).await;
    let client = hub.client("node").await;
    let mut updates = client.twin_updates();
    let mut desired = client.instance().desired_updates();
    let properties = json!({ "version": "1" }).as_object().unwrap().clone();
    let twin = client
        .instance()
        .update_reported(properties)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(twin.properties.reported["version"], "1");
    let update = soon("the update", updates.recv()).await.unwrap();
    assert_eq!((update.twin_id.as_str(), update.twin), ("node", twin));
    let first = soon("the first update", desired.recv()).await.unwrap();
    assert_eq!(first["settings"], json!({}));
    let operator = hub.client("operator").await;
    let payload = json!({ "twinId": "node", "data": { "settings": { "max_fps": 5 } } });
    operator
        .call("updatePeripheralTwinDesired", payload)
        .await
        .unwrap();
    let settings = soon("the settings", desired.recv()).await.unwrap();
    assert_eq!(settings["settings"], json!({ "max_fps": 5 }));
    let own = client.instance().twin().unwrap();
    assert_eq!(own.settings().unwrap()["max_fps"], 5);
}

#[tokio::test]
async fn twins_are_looked_up() {
    let hub = Hub::start(DevHubOptions {
        twins: vec![
            json!({ "id": "node", "type": "Edge" }),
            json!({ "id": "cam", "type": "Screen" }),
        ],
        strict: true,
        ..DevHubOptions::default()
    })
    .await;
    let client = hub.client("node").await;
    assert_eq!(client.get_twin("cam").await.unwrap().r#type, "Screen");
    let missing = client.get_twin("other").await;
    assert!(
        matches!(missing, Err(HubError::Rejected { .. })),
        "{missing:?}"
    );
}

#[tokio::test]
async fn a_subscription_that_ends_before_it_was_awaited_is_taken_back() {
    let rogue = Rogue::start().await;
    let client = HubClient::start(rogue.options());
    let mut peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
    let subscribing = client.subscribe("cam");
    client.unsubscribe("cam").await;
    let subscribing = tokio::spawn(subscribing);
    let (id, call) = heard_call(&mut peer).await;
    assert_eq!(
        (&call["method"], &call["twinId"]),
        (&json!("twinSubscribe"), &json!("cam"))
    );
    assert!(hear(&mut peer).await.contains("twinUnsubscribe"));
    say(&mut peer, &format!(r#"43{id}[{{"status":"success"}}]"#)).await;
    soon("the subscription", subscribing)
        .await
        .unwrap()
        .unwrap();
    // Nothing is left of it: it does not come back with the hub.
    drop(peer);
    let mut peer = rogue.join(handshake()).await;
    soon("joining again", client.joined()).await.unwrap();
    client.send("x", json!({ "type": "t" })).await.unwrap();
    assert!(hear(&mut peer).await.contains("twinMessage"));
}

#[tokio::test]
async fn a_twin_that_the_hub_does_not_know_yet_is_waited_for() {
    let rogue = Rogue::start().await;
    let client = HubClient::start(rogue.options());
    let mut peer = rogue.greet(handshake()).await;
    for _ in 0..2 {
        let (id, _) = heard_call(&mut peer).await;
        let unknown = r#"{"status":"error","message":"Twin not found"}"#;
        say(&mut peer, &format!("43{id}[{unknown}]")).await;
    }
    let reason = away(&client).await;
    assert!(matches!(reason, AwayReason::Rejected { .. }), "{reason:?}");
    let _peer = rogue.join(handshake()).await;
    soon("joining", client.joined()).await.unwrap();
}
