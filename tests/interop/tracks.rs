//! A node with the shipped model and a camera that plays the clip, and an app with the official Python client that listens to it: what a
//! person who walks through a zone and over a line makes of it is the sequence of events of docs/guide/tracks.md.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeMap;

use serde_json::Value;

use crate::common::{NodeProcess, Program, fake, start_hub};
use twinsight::dev::hub::DevHubOptions;

/// The zone is the middle of the picture, through which most people walk, and the line is within.
const CONFIG: &str = r#"
[[cameras]]
twin_id = "cam-1"
name = "Square"
[[cameras.zones]]
name = "middle"
points = [[0.35, 0.1], [0.65, 0.1], [0.65, 1.0], [0.35, 1.0]]
labels = ["person"]
[[cameras.lines]]
name = "across"
from = [0.5, 1.0]
to = [0.5, 0.1]
labels = ["person"]
"#;

/// What was told of one track.
#[derive(Debug, Default)]
struct Told {
    events: Vec<Value>,
}

impl Told {
    /// True once the track came into the zone and left it, crossed the line in between, and ended.
    fn is_whole(&self) -> bool {
        let zones = |event: &&Value| event["phase"] == "update" && event["reason"] == "zones";
        let moves: Vec<usize> = self
            .events
            .iter()
            .filter(zones)
            .map(|event| event["track"]["zones"].as_array().unwrap().len())
            .collect();
        let crossed = self
            .events
            .iter()
            .any(|event| event["type"] == "lineCrossed");
        moves.starts_with(&[1, 0])
            && crossed
            && self
                .events
                .last()
                .is_some_and(|last| last["phase"] == "end")
    }

    fn summary(&self) -> Vec<String> {
        let word = |event: &Value| match event["type"].as_str() {
            Some("lineCrossed") => format!("crossed {}", event["direction"].as_str().unwrap()),
            _ => format!(
                "{} {} {}",
                event["phase"].as_str().unwrap(),
                event["reason"].as_str().unwrap(),
                event["track"]["zones"]
            ),
        };
        self.events.iter().map(word).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_who_walks_through_a_zone_makes_the_events_of_the_guide() {
    let url = start_hub(DevHubOptions::default()).await;
    fake::camera(&url, "cam-1", "default", None, 10.0);
    let hub = ("PHYSTACK_SIMULATOR_URL", url.as_str());
    let mut listener = Program::python(
        "listener.py",
        &["node-1", "--tracks"],
        &[hub, ("TWIN_ID", "app-1")],
    );
    listener.until("ready").await;
    let node = NodeProcess::start(
        CONFIG,
        &[
            hub,
            ("TWIN_ID", fake::NODE),
            ("TWINSIGHT_ICE__INTERFACES", "lo"),
        ],
    )
    .await;

    let mut tracks: BTreeMap<String, Told> = BTreeMap::new();
    let mut sequence = 0;
    let mut followed = 0;
    let whole = loop {
        let event: Value = serde_json::from_str(&listener.until("\"sequence\"").await).unwrap();
        let number = event["sequence"].as_u64().unwrap();
        assert_eq!(
            number,
            sequence + 1,
            "detections and tracks share their numbers"
        );
        sequence = number;
        let Some(id) = event["track"]["id"].as_str().map(str::to_owned) else {
            let objects = event["objects"].as_array().unwrap();
            for object in objects {
                if let Some(id) = object["trackId"].as_str() {
                    // The start comes behind the first detections that name the track.
                    followed += usize::from(tracks.contains_key(id));
                }
            }
            continue;
        };
        let told = tracks.entry(id.clone()).or_default();
        told.events.push(event);
        if told.is_whole() {
            break id;
        }
    };
    assert!(followed > 10, "detections name the tracks");
    for (id, told) in &tracks {
        let phases: Vec<&str> = told
            .events
            .iter()
            .filter_map(|event| event["phase"].as_str())
            .collect();
        assert_eq!(phases[0], "start", "{id}: {:?}", told.summary());
        let others = &phases[1..];
        assert!(!others.contains(&"start"), "{id}: {:?}", told.summary());
        let end = others.iter().position(|phase| *phase == "end");
        assert!(
            end.is_none_or(|end| end + 1 == others.len()),
            "{id}: {:?}",
            told.summary()
        );
    }
    let told = &tracks[&whole];
    let last = &told.events.last().unwrap()["track"];
    assert_eq!(last["visitedZones"], serde_json::json!(["middle"]));
    assert!(last["dwellMs"]["middle"].as_u64().unwrap() > 500, "{last}");
    let position = |wanted: &str| {
        let summary = told.summary();
        summary
            .iter()
            .position(|line| line.starts_with(wanted))
            .unwrap_or_else(|| panic!("{wanted}: {summary:?}"))
    };
    let enters = position("update zones [\"middle\"]");
    let crosses = position("crossed");
    let leaves = position("update zones []");
    assert!(enters < crosses && crosses < leaves, "{:?}", told.summary());
    drop(node);
}
