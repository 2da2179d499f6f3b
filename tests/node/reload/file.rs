//! The file changes.

use std::collections::BTreeMap;

use super::*;
use twinsight::telemetry::ledger::FrameDrop;
use twinsight_media::ledger::UnitDrop;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_cost_the_untouched_camera_nothing() {
    let url = start_hub(DevHubOptions::default()).await;
    let (_app, mut messages) = fake::listen(&url).await;
    for twin in ["cam-a", "cam-b", "cam-c"] {
        fake::camera(&url, twin, "default", None, 30.0);
    }
    let base = "[defaults]\nmax_fps = 0\n[[cameras]]\ntwin_id = \"cam-a\"\nname = \"A\"\n[[cameras]]\ntwin_id = \"cam-b\"\n";
    let follower = Follower::start(&url, base).await;
    for twin in ["cam-a", "cam-b"] {
        detection(&mut messages, twin).await;
    }
    let (a, b) = (follower.stream("cam-a"), follower.stream("cam-b"));
    let dropped = |stream: &StreamMetrics| -> BTreeMap<&str, u64> {
        let units = UnitDrop::ALL
            .iter()
            .map(|reason| (reason.as_str(), stream.units_dropped(*reason)));
        let removed = FrameDrop::CameraRemoved;
        units
            .chain([(removed.as_str(), stream.frames_dropped(removed))])
            .collect()
    };
    let before = [dropped(&a), dropped(&b)];
    let received_before = a.access_units_received.get();
    let connections = |stream: &StreamMetrics| stream.camera_reconnects.get();
    let connections_before = [connections(&a), connections(&b)];

    // What the app hears of each camera: the numbers of its detections, and its states.
    let listening = tokio::spawn(async move {
        let mut sequences: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut states: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut objects_of_b = BTreeMap::new();
        while let Some(message) = messages.recv().await {
            let data = &message.data["data"];
            if data["end"] == true {
                break;
            }
            let Some(twin) = data["camera"]["twinId"].as_str().map(str::to_owned) else {
                continue;
            };
            if let Some(sequence) = data["sequence"].as_u64() {
                if twin == "cam-b"
                    && let Some(objects) = data["objects"].as_array()
                {
                    *objects_of_b.entry(objects.len()).or_insert(0) += 1;
                }
                sequences.entry(twin).or_default().push(sequence);
            } else if let Some(state) = data["state"].as_str() {
                states.entry(twin).or_default().push(state.to_owned());
            }
        }
        (sequences, states, objects_of_b, messages.missed())
    });

    let settings_of_b = [
        "max_fps = 5",
        "name = \"B\"",
        "min_score = 0.2",
        "model = \"two\"",
        "max_age_ms = 400",
        "emit_empty = false",
        "classes = [\"person\"]",
    ];
    let (mut applied, mut longest) = (0, Duration::ZERO);
    let started = Instant::now();
    for n in 0..100 {
        let mut text = format!("{base}{}\n", settings_of_b[n % settings_of_b.len()]);
        // The third camera comes for ten reloads and goes for ten.
        if n / 10 % 2 == 0 {
            text += "[[cameras]]\ntwin_id = \"cam-c\"\n";
        }
        let begun = Instant::now();
        let outcome = follower.reload(&text).await;
        longest = longest.max(begun.elapsed());
        assert_eq!(outcome, Reloaded::Applied, "reload {n}");
        applied += 1;
        // Some frames between two reloads.
        let decoded = a.frames_decoded.get();
        let goes_on = async {
            while a.frames_decoded.get() < decoded + 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, goes_on)
            .await
            .expect("the untouched camera goes on");
    }
    let elapsed = started.elapsed();
    // A reload that changes nothing, and two that are refused.
    let text = format!("{base}max_fps = 1\n");
    assert_eq!(follower.reload(&text).await, Reloaded::Applied);
    assert_eq!(follower.reload(&text).await, Reloaded::Unchanged);
    let refused = follower
        .reload(&format!("{base}model = \"broken\"\n"))
        .await;
    assert!(
        matches!(&refused, Reloaded::Refused(reason) if reason.contains("broken")),
        "{refused:?}"
    );
    let refused = follower
        .reload(&format!(
            "{base}model = \"third\"\nclasses = [\"unheard-of\"]\n"
        ))
        .await;
    assert!(
        matches!(&refused, Reloaded::Refused(reason) if reason.contains("has no class `unheard-of`")),
        "{refused:?}"
    );

    let ledger = a.ledger();
    println!(
        "{applied} reloads in {:.1} s, the longest {longest:?}; cam-a meanwhile: {} units, now {ledger:?}",
        elapsed.as_secs_f64(),
        a.access_units_received.get() - received_before
    );
    // The counters are not read at one moment, and a decoder that waits for a processor holds more for a while.
    let settled = async {
        while !(0..=3).contains(&a.ledger().in_flight()[0]) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, settled)
        .await
        .expect("received = decoded + dropped + held");
    assert_eq!(
        [connections(&a), connections(&b)],
        connections_before,
        "both keep their connections"
    );
    for (twin, stream, before) in [("cam-a", &a, &before[0]), ("cam-b", &b, &before[1])] {
        let now = dropped(stream);
        let more: BTreeMap<&str, u64> = now
            .iter()
            .map(|(reason, count)| (*reason, count - before[reason]))
            .filter(|(_, count)| *count > 0)
            .collect();
        for reason in [
            "reset",
            "shutdown",
            "camera_removed",
            "oversize",
            "decode_error",
        ] {
            assert!(!more.contains_key(reason), "{twin}: {more:?}");
        }
        // A machine at its limit may lose a packet, and then waits for a keyframe; a reload does not.
        if ["incomplete", "decode_backlog"]
            .iter()
            .all(|reason| !more.contains_key(reason))
        {
            assert!(more.is_empty(), "{twin}: {more:?}");
        } else {
            println!("{twin} lost for other reasons than the reloads: {more:?}");
        }
    }
    assert!(
        follower.stream("cam-c").frames_decoded.get() > 0,
        "the third camera was there in between"
    );
    follower.until_cameras(&["cam-a", "cam-b"]).await;

    let metrics = Arc::clone(follower.node.metrics());
    let hub = follower.node.hub().unwrap().clone();
    hub.instance()
        .emit("end", json!({"end": true}))
        .await
        .unwrap();
    let (sequences, states, objects_of_b, lost_by_the_app) =
        tokio::time::timeout(DEADLINE, listening)
            .await
            .unwrap()
            .unwrap();
    assert_eq!(lost_by_the_app, 0);
    for twin in ["cam-a", "cam-b"] {
        let gaps: Vec<_> = sequences[twin]
            .windows(2)
            .filter(|pair| pair[1] != pair[0] + 1)
            .collect();
        assert!(gaps.is_empty(), "{twin}: {gaps:?}");
        // That it began to receive may be told after its first detections.
        let disturbed = |told: &Vec<String>| told.iter().any(|state| state != "receiving");
        assert!(
            !states.get(twin).is_some_and(disturbed),
            "{twin}: {states:?}"
        );
    }
    assert!(
        objects_of_b[&1] > 0 && objects_of_b[&2] > 0,
        "both models of cam-b worked: {objects_of_b:?}"
    );
    let told_of_c = &states["cam-c"];
    assert_eq!(
        told_of_c.iter().filter(|state| *state == "removed").count(),
        5,
        "{told_of_c:?}"
    );
    follower.node.shutdown().await;
    for twin in ["cam-a", "cam-b", "cam-c"] {
        let ledger = metrics.stream(&StreamId::new(twin, "default")).ledger();
        assert!(ledger.balances(), "{twin}: {ledger:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_file_removes_nothing_and_what_came_of_a_reload_is_counted() {
    let url = start_hub(DevHubOptions::default()).await;
    let text = "[[cameras]]\ntwin_id = \"cam-a\"\n";
    let follower = Follower::start(&url, text).await;
    follower.until_cameras(&["cam-a"]).await;
    let metric = |name: &str| {
        let text = follower.node.metrics().encode();
        text.lines()
            .find_map(|line| {
                line.strip_prefix(&format!("twinsight_{name} "))?
                    .parse::<f64>()
                    .ok()
            })
            .unwrap()
    };
    let started = metric("config_reload_timestamp_seconds");
    assert!(started > 1.7e9, "{started}");
    assert_eq!(metric("config_reload_ok"), 1.0);
    for empty in ["", " \n\n"] {
        let refused = follower.reload(empty).await;
        assert!(
            matches!(&refused, Reloaded::Refused(reason) if reason.contains("the file is empty")),
            "{refused:?}"
        );
        assert_eq!(follower.node.cameras().len(), 1);
    }
    assert_eq!(metric("config_reload_ok"), 0.0);
    assert!(metric("config_reloads_total{result=\"refused\"}") >= 2.0);
    let applied = metric("config_reloads_total{result=\"applied\"}");
    let before = metric("config_reload_timestamp_seconds");
    assert_eq!(follower.reload("cameras = []\n").await, Reloaded::Applied);
    follower.until_cameras(&[]).await;
    assert_eq!(metric("config_reload_ok"), 1.0);
    assert!(metric("config_reloads_total{result=\"applied\"}") > applied);
    assert!(metric("config_reload_timestamp_seconds") > before);
    follower.node.shutdown().await;
}
