//! The development hub's own manners, seen through the hub client.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use twinsight::dev::hub::{DevHubOptions, DirectAccess, read_twins, run};
use twinsight_client::hub::AwayReason;
use twinsight_client::hub::{HubClient, HubError, HubOptions, HubStatus, PeripheralOptions};

const DEADLINE: Duration = Duration::from_secs(20);

async fn start(options: DevHubOptions) -> (String, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(run(listener, options, async {
        let _ = stopped.await;
    }));
    (url, stop)
}

async fn join(options: HubOptions) -> HubClient {
    let client = HubClient::start(options);
    let joined = tokio::time::timeout(DEADLINE, client.joined()).await;
    joined.unwrap().unwrap();
    client
}

#[tokio::test]
async fn a_message_comes_back_to_its_sender_only_with_echo() {
    for echo in [false, true] {
        let options = DevHubOptions {
            echo,
            ..DevHubOptions::default()
        };
        let (url, _stop) = start(options).await;
        let client = join(HubOptions::simulator(url, "a")).await;
        let mut own = client.messages(10, |_| true);
        client.send("a", json!({ "type": "x" })).await.unwrap();
        // The hub answers after it has delivered.
        client.get_twin("a").await.unwrap();
        assert_eq!(own.try_recv().is_some(), echo);
    }
}

#[tokio::test]
async fn peripherals_live_and_change_hands() {
    let (url, _stop) = start(DevHubOptions::default()).await;
    let one = join(HubOptions::simulator(url.clone(), "edge-1")).await;
    let two = join(HubOptions::simulator(url, "edge-2")).await;
    let create = |instance: &str| {
        json!({ "data": {
            "deviceId": null, "tenantId": null, "instanceId": instance, "peripheralName": "lens",
            "hardwareId": "g:1", "desiredProperties": { "zoom": 2 }, "descriptors": null,
        }})
    };
    let created = one
        .call("createPeripheralTwin", create("edge-1"))
        .await
        .unwrap();
    assert_eq!(
        (&created["created"], created.get("handover")),
        (&json!(true), None)
    );
    let id = created["twin"]["id"].as_str().unwrap().to_owned();
    let twin = two.get_twin(&id).await.unwrap();
    assert_eq!(
        (twin.r#type.as_str(), &twin.properties.desired["zoom"]),
        ("Peripheral", &json!(2))
    );

    let taken = two
        .call("createPeripheralTwin", create("edge-2"))
        .await
        .unwrap();
    assert_eq!(taken["created"], false);
    assert_eq!(taken["handover"], json!({ "previousInstanceId": "edge-1" }));
    let list = json!({ "data": { "instanceId": "edge-1" } });
    let mine = one.call("getPeripheralTwins", list).await.unwrap();
    assert_eq!(mine["twins"], json!([]));

    let delete = json!({ "data": { "twinId": id } });
    two.call("deletePeripheralTwin", delete.clone())
        .await
        .unwrap();
    let again = two.call("deletePeripheralTwin", delete).await;
    assert!(matches!(again, Err(HubError::Rejected { .. })));
}

#[tokio::test]
async fn a_twin_is_online_while_its_client_is_connected() {
    let options = DevHubOptions {
        twins: vec![json!({ "id": "told", "type": "Edge", "status": "Sleeping" })],
        ..DevHubOptions::default()
    };
    let (url, _stop) = start(options).await;
    let node = join(HubOptions::simulator(url.clone(), "node")).await;
    let status = async |twin_id: &str| node.get_twin(twin_id).await.unwrap().status;
    assert_eq!(status("node").await, "Online");
    assert_eq!(status("nobody").await, "Offline");
    assert_eq!(status("told").await, "Sleeping");

    let camera = join(HubOptions::simulator(url.clone(), "camera")).await;
    let again = join(HubOptions::simulator(url.clone(), "camera")).await;
    let options = PeripheralOptions::new("", "lens");
    let lens = camera.instance().create_peripheral(options).await.unwrap();
    assert_eq!(lens.twin.status, "Online");
    let device = join(HubOptions::direct(url, "dev", "key".to_owned())).await;
    assert_eq!(status("device-dev").await, "Online");
    assert_eq!(status("camera").await, "Online");
    camera.close().await;
    // Its goodbye is taken on another connection than the next question.
    let until_offline = async |twin_id: &str| {
        let offline = async {
            while node.get_twin(twin_id).await.unwrap().status != "Offline" {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, offline).await.unwrap();
    };
    again.get_twin("camera").await.unwrap();
    assert_eq!(status("camera").await, "Online", "one of two has left");
    again.close().await;
    until_offline("camera").await;
    until_offline(&lens.twin.id).await;
    device.close().await;
    until_offline("device-dev").await;
}

#[tokio::test]
async fn everything_is_acknowledged_nonsense_too() {
    let (url, _stop) = start(DevHubOptions::default()).await;
    let client = join(HubOptions::simulator(url, "a")).await;
    for method in [
        "getDeviceStatus",
        "getDeviceInstance",
        "getDeviceNetworks",
        "twinUnsubscribe",
    ] {
        client.call(method, json!({})).await.unwrap();
    }
    for method in [
        "makeCoffee",
        "twinMessage",
        "twinSubscribe",
        "reportEdgeTwinProperties",
    ] {
        let answer = client
            .call(method, json!({ "twinId": 7, "data": [] }))
            .await;
        assert!(
            matches!(answer, Err(HubError::Rejected { .. })),
            "{method}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn direct_mode_can_be_closed() {
    let (url, _stop) = start(DevHubOptions {
        direct: DirectAccess::Nobody,
        ..DevHubOptions::default()
    })
    .await;
    let client = HubClient::start(HubOptions::direct(url, "dev", "key".to_owned()));
    let mut status = client.status();
    let away = status.wait_for(|status| matches!(status, HubStatus::Away { .. }));
    let status = tokio::time::timeout(DEADLINE, away).await.unwrap().unwrap();
    assert!(
        matches!(&*status, HubStatus::Away { reason: AwayReason::Rejected { message, .. }, .. } if message.contains("direct")),
        "{status:?}"
    );
}

#[tokio::test]
async fn stopping_lets_the_clients_go() {
    let (url, stop) = start(DevHubOptions::default()).await;
    let client = join(HubOptions::simulator(url, "a")).await;
    stop.send(()).unwrap();
    let mut status = client.status();
    let away = status.wait_for(|status| matches!(status, HubStatus::Away { .. }));
    tokio::time::timeout(DEADLINE, away).await.unwrap().unwrap();
}

#[test]
fn a_file_of_twins_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("twins.json");
    let error = |text: &str| {
        std::fs::write(&path, text).unwrap();
        read_twins(&path).unwrap_err().to_string()
    };
    assert!(error("{").contains("twins.json"));
    assert!(error("{}").contains("no JSON array"));
    assert!(error(r#"[{"id": "a"}, {"id": 1}]"#).contains("entry 1"));
    std::fs::write(&path, r#"[{"id": "a"}]"#).unwrap();
    assert_eq!(read_twins(&path).unwrap().len(), 1);
    assert!(
        read_twins(&folder.path().join("none"))
            .unwrap_err()
            .to_string()
            .contains("none")
    );
}
