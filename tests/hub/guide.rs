//! What the official guide promises of messaging, by its names: handlers, properties, settings, peripherals.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use crate::ports::unused_address;
use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use twinsight::dev::hub::{DevHubOptions, DirectAccess};
use twinsight_client::hub::{
    ActionResult, ActionStatus, HubClient, HubError, HubOptions, PeripheralOptions, TwinEvent,
};

const DEADLINE: Duration = Duration::from_secs(60);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(DEADLINE, future).await else {
        panic!("{what}: not within {DEADLINE:?}");
    };
    value
}

async fn start_hub(options: DevHubOptions) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(twinsight::dev::hub::run(
        listener,
        options,
        std::future::pending(),
    ));
    url
}

async fn client(url: &str, twin: &str) -> HubClient {
    let connecting = HubClient::connect(HubOptions::simulator(url, twin));
    soon("joining", connecting).await.unwrap()
}

fn fields(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// What a handler was called with.
fn collector<T: Send + 'static>() -> (
    impl FnMut(T) -> std::future::Ready<()> + Send + 'static,
    mpsc::UnboundedReceiver<T>,
) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let handler = move |item| {
        // An error means that the test has ended.
        let _ = sender.send(item);
        std::future::ready(())
    };
    (handler, receiver)
}

#[tokio::test]
async fn connecting_waits_for_the_hub_and_tells_a_refusal() {
    let url = start_hub(DevHubOptions {
        direct: DirectAccess::Keys([("dev".to_owned(), "key".to_owned().into())].into()),
        ..DevHubOptions::default()
    })
    .await;
    let connect = async |key: &str| {
        let mut options = HubOptions::direct(url.clone(), "dev", key.to_owned());
        options.timers.refusal = Duration::from_millis(100);
        options.timers.backoff_first = Duration::from_millis(20);
        soon("an answer", HubClient::connect(options)).await
    };
    assert_eq!(
        connect("key").await.unwrap().instance().twin_id(),
        "device-dev"
    );
    let refused = connect("wrong").await.unwrap_err();
    assert!(matches!(refused, HubError::Refused { .. }), "{refused}");
}

#[tokio::test]
async fn connecting_gives_up_in_time_and_says_why() {
    let url = format!("http://{}", unused_address());
    let mut options = HubOptions::simulator(url, "app");
    options.timers.join = Duration::from_secs(3);
    let error = soon("an answer", HubClient::connect(options)).await;
    let error = error.unwrap_err();
    assert!(
        matches!(
            &error,
            HubError::NotJoined {
                reason: Some(_),
                ..
            }
        ),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.starts_with("the hub was not joined within 3s: the connection failed: "),
        "{text}"
    );
}

/// What a sensor of the tests says.
#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Reading {
    celsius: f64,
    door: Option<u32>,
}

#[tokio::test]
async fn payloads_are_whatever_serde_writes_as_an_object() {
    let url = start_hub(DevHubOptions::default()).await;
    let (a, b) = (client(&url, "a").await, client(&url, "b").await);
    let mut events = b.instance().events("measured", 4);
    let reading = Reading {
        celsius: 21.5,
        door: None,
    };
    let to_b = a.instance().to("b");
    to_b.emit("measured", &reading).await.unwrap();
    let event = soon("the event", events.recv()).await.unwrap();
    assert_eq!(event.parse::<Reading>().unwrap(), reading);
    assert!(event.parse::<String>().is_err());

    assert_eq!(to_b.emit("measured", ()).await, Err(HubError::Payload));
    let pairs = std::collections::HashMap::from([((1, 2), 3)]);
    let error = to_b.emit("measured", pairs).await.unwrap_err();
    assert!(matches!(error, HubError::NotJson { .. }), "{error}");

    let twin = a.instance().update_reported(&reading).await.unwrap();
    assert_eq!(twin.unwrap().properties.reported["celsius"], 21.5);
    let refused = a.instance().update_reported([1]).await;
    assert_eq!(refused, Err(HubError::Payload));
    let done = ActionResult::success("done", None).with_data(&reading);
    assert_eq!(done.unwrap().data.unwrap()["celsius"], 21.5);
}

#[tokio::test]
async fn handlers_of_events_are_called_until_they_are_taken_off() {
    let url = start_hub(DevHubOptions::default()).await;
    let (a, b) = (client(&url, "a").await, client(&url, "b").await);
    let instance = b.instance();
    let (handler, mut events) = collector::<TwinEvent>();
    let id = instance.on("seen", handler);
    instance.on("seen", |_| async { panic!("as tested") });
    instance.on("double", |action| async move {
        let twice = action.data["value"].as_i64().unwrap() * 2;
        let result = ActionResult::success("doubled", Some(json!({ "value": twice })));
        action.respond(result).await.unwrap();
    });
    let to_b = a.instance().to("b");
    for number in 0..3 {
        to_b.emit("seen", json!({ "n": number })).await.unwrap();
        let event = soon("the event", events.recv()).await.unwrap();
        assert_eq!(
            (&event.data["n"], &*event.source_twin_id),
            (&json!(number), "a")
        );
    }
    assert!(instance.off(id) && !instance.off(id));
    to_b.emit("seen", json!({ "n": 4 })).await.unwrap();
    // In order behind the event that nobody takes.
    let answer = to_b.request("double", json!({ "value": 21 })).await;
    let answer = answer.unwrap();
    assert_eq!(
        (answer.status, answer.data),
        (ActionStatus::Success, Some(json!({ "value": 42 })))
    );
    assert!(events.try_recv().is_err());
    // Handlers do not keep the client: it ends with the last handle, and they with it.
    drop((instance, b));
    assert!(soon("the end", events.recv()).await.is_none());
}

#[tokio::test]
async fn settings_and_the_device_are_told() {
    let url = start_hub(DevHubOptions {
        twins: vec![json!({"id": "a", "type": "Edge", "properties": {"desired": {"settings": {"color": "red"}}}})],
        ..DevHubOptions::default()
    })
    .await;
    let a = client(&url, "a").await;
    let settings = soon("the settings", a.settings()).await.unwrap();
    assert_eq!(settings, fields(json!({"color": "red"})));
    let status = soon("the status", a.device_status()).await.unwrap();
    assert_eq!(status["deviceId"], "dev-device");
}

#[tokio::test]
async fn a_twin_that_changes_is_told() {
    let url = start_hub(DevHubOptions::default()).await;
    let (a, b) = (client(&url, "a").await, client(&url, "b").await);
    let (handler, mut twins) = collector();
    let id = a.on_twin_update("b", handler).await.unwrap();
    let reported = fields(json!({"level": 3}));
    b.instance().update_reported(reported).await.unwrap();
    let twin = soon("the update", twins.recv()).await.unwrap();
    assert_eq!(
        (&*twin.id, &twin.properties.reported["level"]),
        ("b", &json!(3))
    );
    assert!(a.off(id));
}

#[tokio::test]
async fn receivers_are_streams() {
    let url = start_hub(DevHubOptions::default()).await;
    let (a, b) = (client(&url, "a").await, client(&url, "b").await);
    let mut events = b.instance().events("seen", 4);
    let mut messages = b.messages(4, |message| message.source_twin_id == "a");
    let (mut updates, mut reported) = (b.twin_updates(), b.instance().reported_updates());
    // They wait before anything comes.
    let reading = tokio::spawn(async move {
        let event = events.next().await.unwrap();
        let message = messages.next().await.unwrap();
        let update = updates.next().await.unwrap();
        let properties = reported.next().await.unwrap();
        let lost = [
            events.missed(),
            messages.missed(),
            updates.missed(),
            reported.missed(),
        ];
        drop(event.data);
        (message, update, properties, lost)
    });
    let to_b = a.instance().to("b");
    to_b.emit("seen", json!({ "n": 1 })).await.unwrap();
    let level = json!({ "level": 3 });
    b.instance().update_reported(&level).await.unwrap();
    let (message, update, properties, lost) = soon("the items", reading).await.unwrap();
    assert_eq!(message.data["data"], json!({ "n": 1 }));
    assert_eq!(update.twin_id, "b");
    assert_eq!(properties, fields(level));
    assert_eq!(lost, [0; 4]);
}

#[tokio::test]
async fn properties_call_their_handlers() {
    let url = start_hub(DevHubOptions::default()).await;
    let (a, operator) = (client(&url, "a").await, client(&url, "operator").await);
    let instance = a.instance();
    let ((on_desired, mut desired), (on_reported, mut reported)) = (collector(), collector());
    instance.on_update_desired(on_desired);
    instance.on_update_reported(on_reported);
    instance
        .update_reported(fields(json!({"level": 1})))
        .await
        .unwrap();
    let first = soon("what is reported", reported.recv()).await.unwrap();
    assert_eq!(first, fields(json!({"level": 1})));
    let first = soon("what is desired", desired.recv()).await.unwrap();
    assert_eq!(first, fields(json!({"settings": {}})));
    let change = json!({"twinId": "a", "data": {"settings": {"level": 2}}});
    operator
        .call("updatePeripheralTwinDesired", change)
        .await
        .unwrap();
    let next = soon("the change", desired.recv()).await.unwrap();
    assert_eq!(next["settings"], json!({"level": 2}));
    // What is reported is the same as before, which is no change.
    assert!(reported.try_recv().is_err());
}

fn sensor() -> PeripheralOptions {
    PeripheralOptions::new("Sensor", "hw-1").with_desired(fields(json!({"rate": 5})))
}

#[tokio::test]
async fn a_peripheral_is_created_listed_changed_and_removed() {
    let url = start_hub(DevHubOptions::default()).await;
    let (edge, viewer) = (client(&url, "edge").await, client(&url, "viewer").await);
    let created = edge.instance().create_peripheral(sensor()).await.unwrap();
    assert!(created.created && created.handover.is_none());
    let (id, peripheral) = (created.twin.id.clone(), created.instance);
    assert_eq!(
        (
            peripheral.twin_id(),
            &created.twin.properties.desired["rate"]
        ),
        (id.clone(), &json!(5))
    );
    let again = edge.instance().create_peripheral(sensor()).await.unwrap();
    assert!(!again.created && again.handover.is_none() && again.twin.id == id);
    let listed = edge.instance().peripherals().await.unwrap();
    assert_eq!(
        listed.iter().map(|twin| &twin.id).collect::<Vec<_>>(),
        [&id]
    );
    let changed = peripheral.update_desired(fields(json!({"rate": 9}))).await;
    assert_eq!(changed.unwrap().unwrap().properties.desired["rate"], 9);
    let reported = peripheral
        .update_reported(fields(json!({"ok": true})))
        .await;
    assert_eq!(reported.unwrap().unwrap().properties.reported["ok"], true);

    // Others hold it too, to listen to what is said in its room and to ask it.
    let (handler, mut actions) = collector::<TwinEvent>();
    peripheral.on("measure", handler);
    let asking = viewer.instance().to(&*id);
    let asked = tokio::spawn(async move { asking.request("measure", json!({"now": true})).await });
    let action = soon("the action", actions.recv()).await.unwrap();
    action
        .respond(ActionResult::success("measured", None))
        .await
        .unwrap();
    let answer = soon("the answer", asked).await.unwrap().unwrap();
    assert_eq!(answer.message, "measured");
    assert!(peripheral.remove().await.unwrap().is_some());
    assert_eq!(edge.instance().peripherals().await.unwrap(), []);
}

#[tokio::test]
async fn a_peripheral_that_is_taken_over_falls_silent() {
    let url = start_hub(DevHubOptions::default()).await;
    let (old, new) = (client(&url, "old").await, client(&url, "new").await);
    let lost = old.instance().create_peripheral(sensor()).await.unwrap();
    let id = lost.twin.id.clone();
    let lost = lost.instance;
    let (told, mut losses) = mpsc::unbounded_channel();
    let told_first = told.clone();
    lost.on_ownership_lost(move |loss| told_first.send(loss).unwrap());
    // Held by somebody whose it never was.
    let other = new.peripheral_instance(&id).await.unwrap();
    other.on_ownership_lost(|_| panic!("it was not its own"));

    let taken = new.instance().create_peripheral(sensor()).await.unwrap();
    let handover = taken.handover.unwrap();
    assert_eq!(handover.previous_instance_id.as_deref(), Some("old"));
    assert_eq!(taken.twin.id, id);
    let loss = soon("the loss", losses.recv()).await.unwrap();
    assert_eq!(loss.new_instance_id.as_deref(), Some("new"));
    lost.on_ownership_lost(move |loss| told.send(loss).unwrap());
    assert!(
        losses.try_recv().is_ok(),
        "told at once when it has happened"
    );

    let event = json!({"n": 1});
    let error = lost.emit("seen", event.clone()).await.unwrap_err();
    assert!(
        matches!(&error, HubError::OwnershipLost { twin_id, .. } if *twin_id == id),
        "{error}"
    );
    let desired = lost.update_desired(fields(event.clone())).await;
    assert!(matches!(desired, Err(HubError::OwnershipLost { .. })));
    taken.instance.emit("seen", event).await.unwrap();

    let back = old.instance().create_peripheral(sensor()).await.unwrap();
    back.instance.emit("seen", json!({"n": 2})).await.unwrap();
}
