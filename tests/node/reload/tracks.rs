//! Reloads of zones.

use super::*;

/// What the app hears of tracks until it has heard that `cam-a` is gone and that its track is over.
async fn heard_tracks(messages: &mut MessageReceiver) -> Vec<Value> {
    let mut heard = Vec::new();
    let (mut is_removed, mut is_over) = (false, false);
    while !is_removed || !is_over {
        let message = tokio::time::timeout(DEADLINE, messages.recv()).await;
        let message = message.expect("the end is told").unwrap();
        let data = &message.data["data"];
        let is_of_a = data["camera"]["twinId"] == "cam-a";
        is_removed |= is_of_a && data["state"] == "removed";
        is_over |= is_of_a && data["phase"] == "end";
        if data["type"] == "track" || data["type"] == "lineCrossed" {
            heard.push(data.clone());
        }
    }
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_of_zones_end_no_track() {
    let url = start_hub(DevHubOptions::default()).await;
    let (_app, mut messages) = fake::listen(&url).await;
    for twin in ["cam-a", "cam-b"] {
        fake::camera(&url, twin, "default", None, 30.0);
    }
    let defaults = "[defaults]\nmax_fps = 0\ntrack.confirm_ms = 100\n";
    let b = "[[cameras]]\ntwin_id = \"cam-b\"\n";
    let with_zone = |name: &str, side: f64| {
        let points = format!("[[0.0, 0.0], [{side}, 0.0], [{side}, {side}], [0.0, {side}]]");
        format!(
            "{defaults}{b}[[cameras]]\ntwin_id = \"cam-a\"\n[[cameras.zones]]\nname = \"{name}\"\npoints = {points}\n\
             [[cameras.lines]]\nname = \"gate\"\nfrom = [0.5, 0.1]\nto = [0.5, {side}]\n"
        )
    };
    let follower = Follower::start(&url, &with_zone("corner", 0.4)).await;
    let followed = async {
        while detection(&mut messages, "cam-a").await["objects"][0]["trackId"].is_null() {}
    };
    tokio::time::timeout(DEADLINE, followed).await.unwrap();
    let first = detection(&mut messages, "cam-a").await;
    for n in 0..100 {
        let side = 0.405 + 0.005 * f64::from(n);
        let name = if n % 2 == 0 { "corner" } else { "other corner" };
        let reloaded = follower.reload(&with_zone(name, side)).await;
        assert!(matches!(reloaded, Reloaded::Applied), "{n}: {reloaded:?}");
        if n % 10 == 0 {
            // Frames come between the reloads.
            detection(&mut messages, "cam-a").await;
        }
    }
    // A connection that is made anew is no end either.
    let accept = with_zone("corner", 0.8).replace("cam-a\"\n", "cam-a\"\nmax_fps = 20\n");
    follower.reload(&accept).await;
    let last = async {
        loop {
            let seen = detection(&mut messages, "cam-a").await;
            if seen["objects"][0]["zones"] == json!(["corner"]) {
                return seen;
            }
        }
    };
    let last = tokio::time::timeout(DEADLINE, last).await.unwrap();
    assert_eq!(
        last["objects"][0]["trackId"],
        first["objects"][0]["trackId"]
    );
    let metrics = Arc::clone(follower.node.metrics());
    follower.reload(&format!("{defaults}{b}")).await;
    let heard = heard_tracks(&mut messages).await;
    let of_a = heard
        .iter()
        .filter(|event| event["camera"]["twinId"] == "cam-a");
    let ends: Vec<_> = of_a.filter(|event| event["phase"] == "end").collect();
    assert_eq!(ends.len(), 1, "{ends:?}");
    assert_eq!(ends[0]["reason"], "cameraRemoved");
    let of_b = heard
        .iter()
        .filter(|event| event["camera"]["twinId"] == "cam-b");
    assert!(of_b.clone().all(|event| event["phase"] != "end"));
    follower.node.shutdown().await;
    for twin in ["cam-a", "cam-b"] {
        let ledger = metrics.stream(&StreamId::new(twin, "default")).ledger();
        assert!(ledger.balances(), "{twin}: {ledger:?}");
    }
    assert!(metrics.encode().contains(
        "twinsight_tracks_started_total{camera=\"cam-b\",label=\"person\",stream=\"default\"} 1"
    ));
}
