//! The settings of the node's twin change.

use super::*;
use crate::common::ports::unused_address;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_the_hub_change_rates_and_cameras_and_bad_ones_are_refused() {
    let url = start_hub(DevHubOptions::default()).await;
    let (app, mut messages) = fake::listen(&url).await;
    for twin in ["cam-a", "cam-b"] {
        fake::camera(&url, twin, "default", None, 10.0);
    }
    // A detection in 1000 s: what comes after the first one comes by the hub's rate.
    let text = "[defaults]\nmax_fps = 0.001\n[[cameras]]\ntwin_id = \"cam-a\"\nname = \"A\"\n";
    let follower = Follower::start(&url, text).await;
    detection(&mut messages, "cam-a").await;
    set(&app, json!({"maxFps": 20})).await;
    for _ in 0..5 {
        detection(&mut messages, "cam-a").await;
    }
    set(
        &app,
        json!({"maxFps": 20, "cameras": ["cam-a", {"twinId": "cam-b", "name": "B"}]}),
    )
    .await;
    assert_eq!(
        detection(&mut messages, "cam-b").await["camera"]["name"],
        "B"
    );
    let data = detection(&mut messages, "cam-a").await;
    assert_eq!(
        data["camera"]["name"], "A",
        "what the file says of it stays"
    );

    set(&app, json!({"maxFps": -1, "cameras": []})).await;
    let sentence =
        "setting maxFps of the hub: `defaults.max_fps` is -1.0: give a number from 0 to 1000";
    until_reported(&app, sentence.into()).await;
    follower.until_cameras(&["cam-a", "cam-b"]).await;
    // The file changes under refused settings, and the last good ones stay over it.
    let text = text.replace("\"A\"", "\"Renamed\"");
    assert_eq!(
        follower.reload(&text).await,
        Reloaded::Refused(sentence.to_owned())
    );
    let renamed =
        async { while detection(&mut messages, "cam-a").await["camera"]["name"] != "Renamed" {} };
    tokio::time::timeout(DEADLINE, renamed).await.unwrap();
    detection(&mut messages, "cam-b").await;

    set(&app, json!({"model": BROKEN})).await;
    let broken = ModelError::Name(BROKEN.to_owned()).to_string();
    until_reported(&app, broken.into()).await;
    follower.until_cameras(&["cam-a", "cam-b"]).await;
    set(&app, json!({"cameras": ["cam-b"]})).await;
    follower.until_cameras(&["cam-b"]).await;
    until_reported(&app, Value::Null).await;
    assert_eq!(follower.stream("cam-b").camera_reconnects.get(), 0);
    follower.node.shutdown().await;
}

/// A hub that makes up cameras costs the one that sends nothing, and leaves next to nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cameras_without_end_from_the_hub_do_not_hold_up_the_one_that_sends() {
    const ROUNDS: usize = 8;
    const CAMERAS: usize = 100;
    let url = start_hub(DevHubOptions::default()).await;
    let (app, mut messages) = fake::listen(&url).await;
    fake::camera(&url, "cam-a", "default", None, 10.0);
    let text = "[defaults]\nmax_fps = 0\n[[cameras]]\ntwin_id = \"cam-a\"\n";
    let follower = Follower::start(&url, text).await;
    detection(&mut messages, "cam-a").await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let listening = tokio::spawn(async move {
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        loop {
            let message = tokio::select! {
                _ = &mut stopped => return longest.max(last.elapsed()),
                message = messages.recv() => message.expect("the app stays on the hub"),
            };
            if message.message_type() == Some("edgeInstance:detections") {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
        }
    });
    let scraping = {
        let metrics = Arc::clone(follower.node.metrics());
        std::thread::Builder::new()
            .name("scrape".to_owned())
            .spawn(move || {
                let mut longest = Duration::ZERO;
                while Arc::strong_count(&metrics) > 1 {
                    let begun = Instant::now();
                    metrics.encode();
                    longest = longest.max(begun.elapsed());
                    std::thread::sleep(Duration::from_millis(500));
                }
                longest
            })
            .unwrap()
    };
    for round in 0..ROUNDS {
        let new: Vec<String> = (0..CAMERAS).map(|n| format!("cam-{round}-{n}")).collect();
        let all: Vec<&str> = std::iter::once("cam-a")
            .chain(new.iter().map(String::as_str))
            .collect();
        let begun = Instant::now();
        set(&app, json!({"cameras": all})).await;
        follower.until_cameras(&all).await;
        println!("round {round}: {:?}", begun.elapsed());
    }
    set(&app, json!({"cameras": ["cam-a"]})).await;
    follower.until_cameras(&["cam-a"]).await;
    let few = async {
        while follower.node.metrics().all_streams().len() > 257 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, few)
        .await
        .expect("at most 256 removed ones are remembered");
    let _ = stop.send(());
    let longest = listening.await.unwrap();
    println!(
        "{} series, longest gap {longest:?}",
        follower.node.metrics().encode().lines().count()
    );
    assert!(longest < Duration::from_secs(20), "{longest:?}");
    follower.node.shutdown().await;
    println!("longest encoding {:?}", scraping.join().unwrap());
}

/// A hub that knows the node's twin with these settings.
fn hub_with(settings: Value) -> DevHubOptions {
    DevHubOptions {
        twins: vec![json!({
            "id": fake::NODE, "deviceId": "d", "tenantId": "t", "type": "Edge",
            "properties": {"desired": {"settings": settings}, "reported": {}},
        })],
        ..DevHubOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_read_when_the_hub_is_joined_and_after_it_returned() {
    let address = unused_address();
    let listener = TcpListener::bind(address).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let hub = tokio::spawn(twinsight::dev::hub::run(
        listener,
        hub_with(json!({"cameras": ["cam-a", "cam-b"]})),
        async { drop(stopped.await) },
    ));
    let text = "[[cameras]]\ntwin_id = \"cam-of-the-file\"\n";
    let follower = Follower::start(&format!("http://{address}"), text).await;
    follower.until_cameras(&["cam-a", "cam-b"]).await;
    let _ = stop.send(());
    hub.await.unwrap().unwrap();
    // While it is away its last settings hold over the file, which may change.
    let outcome = follower
        .reload(&format!("{text}[defaults]\nmax_fps = 1\n"))
        .await;
    assert_eq!(outcome, Reloaded::Applied);
    assert_eq!(follower.node.cameras().len(), 2);
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(twinsight::dev::hub::run(
        listener,
        hub_with(json!({"cameras": ["cam-c"]})),
        std::future::pending(),
    ));
    follower.until_cameras(&["cam-c"]).await;
    follower.node.shutdown().await;
}
