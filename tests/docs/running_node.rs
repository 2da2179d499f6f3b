//! A node with a camera that sends and one that never answers: each of its events has to
//! fit the schemas under `docs/reference/schema/`, and its metrics are those of `docs/reference/metrics.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::Stdio;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};
use twinsight::dev::hub::DevHubOptions;
use twinsight_client::hub::MessageReceiver;
use twinsight_client::telemetry::CameraState;

use crate::common::{DEADLINE, NodeProcess, fake, http_get, start_hub};
use crate::operations::prometheus_program;
use crate::read;

const METRICS: &str = "docs/reference/metrics.md";

const CONFIG: &str = r#"
[defaults]
max_fps = 4.0
[[cameras]]
twin_id = "cam-1"
name = "Front door"
[[cameras.zones]]
name = "left half"
points = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]
[[cameras.lines]]
name = "middle"
from = [0.5, 1.0]
to = [0.5, 0.0]
[[cameras]]
twin_id = "cam-nobody"
[[cameras]]
twin_id = "cam-bridged"
rtsp = "rtsp://127.0.0.1:9/stream"
[[sinks]]
type = "webhook"
url = "http://127.0.0.1:9/"
max_age_ms = 100
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_fit_their_schemas_and_metrics_their_page() {
    let url = start_hub(DevHubOptions::default()).await;
    fake::camera(&url, "cam-1", "default", None, 10.0);
    let (_app, mut messages) = fake::listen(&url).await;
    let node = NodeProcess::start(
        CONFIG,
        &[
            ("PHYSTACK_SIMULATOR_URL", &url),
            ("TWIN_ID", fake::NODE),
            ("TWINSIGHT_ICE__INTERFACES", "lo"),
        ],
    )
    .await;
    let detections = Schema::read("detections");
    let status = Schema::read("cameraStatus");
    let [track, crossed] = ["track", "lineCrossed"].map(Schema::read);

    let mut phases = BTreeSet::new();
    let mut crossings = 0;
    let mut seen = Vec::new();
    let mut states = BTreeSet::new();
    let wanted = BTreeSet::from(["connecting", "receiving", "unreachable"]);
    while seen.len() < 3 || !states.is_superset(&wanted) || phases.len() < 3 || crossings == 0 {
        let (kind, event) = next_event(
            &mut messages,
            &format!(
                "{states:?}, {} detections, {phases:?}, {crossings} crossings",
                seen.len()
            ),
        )
        .await;
        if kind == "detections" {
            detections.check(&event);
            if !event["objects"].as_array().unwrap().is_empty() {
                seen.push(event);
            }
        } else if kind == "track" {
            track.check(&event);
            let phase = event["phase"].as_str().unwrap().to_owned();
            if phases.insert(phase) {
                track.refuses_what_is_broken(&event);
            }
        } else if kind == "lineCrossed" {
            crossed.check(&event);
            if crossings == 0 {
                crossed.refuses_what_is_broken(&event);
            }
            crossings += 1;
        } else {
            assert_eq!(
                kind, "cameraStatus",
                "docs/reference/events.md knows four events"
            );
            status.check(&event);
            let state = event["state"].as_str().unwrap();
            states.extend(wanted.get(state));
            if state == "unreachable" || state == "connecting" {
                status.refuses_what_is_broken(&event);
            }
        }
    }
    detections.refuses_what_is_broken(&seen[0]);
    let text = http_get(node.http, "/metrics");
    let page = Page::read().without_fleet();
    page.compare(&text);
    promtool(&text);
}

#[test]
fn the_schema_knows_the_states_of_a_camera() {
    let schema: Value =
        serde_json::from_str(&read("docs/reference/schema/cameraStatus.schema.json")).unwrap();
    let states: Vec<_> = CameraState::ALL
        .iter()
        .map(|state| state.as_str())
        .collect();
    assert_eq!(schema["properties"]["state"]["enum"], json!(states));
}

#[test]
fn the_examples_of_the_page_fit_the_schemas() {
    let page = read("docs/reference/events.md");
    let examples = page.split("```json\n").skip(1);
    let [detections, object, start, crossing, status]: [Value; 5] = examples
        .map(|example| serde_json::from_str(example.split("```").next().unwrap()).unwrap())
        .collect::<Vec<_>>()
        .try_into()
        .expect("an example of each event, and of an object with keypoints and an outline");
    Schema::read("cameraStatus").check(&status);
    Schema::read("track").check(&start);
    Schema::read("lineCrossed").check(&crossing);
    let schema = Schema::read("detections");
    schema.check(&detections);
    let mut detections = detections;
    detections["objects"] = json!([object]);
    schema.check(&detections);
    for (traceparent, fits) in [
        (
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            true,
        ),
        (
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            false,
        ),
        ("0af7651916cd43dd8448eb211c80319c", false),
    ] {
        let mut event = detections.clone();
        event["traceparent"] = json!(traceparent);
        assert_eq!(schema.fits(&event), fits, "{traceparent}");
    }
    let breaks: [(&str, Value); 8] = [
        ("/keypoints", json!([])),
        ("/keypoints/0/name", json!("")),
        ("/keypoints/0/x", json!("371.2")),
        ("/keypoints/1/score", json!(1.1)),
        ("/keypoints/1", json!({"name": "left_eye", "x": 1, "y": 2})),
        ("/outline", json!([[1, 2], [3, 4]])),
        ("/outline", json!(vec![[1.5, 2.5]; 33])),
        ("/outline/0", json!([1, 2, 3])),
    ];
    for (place, broken) in breaks {
        let mut event = detections.clone();
        let field = event.pointer_mut(&format!("/objects/0{place}"));
        *field.expect("the example has it") = broken;
        assert!(!schema.fits(&event), "{event:#}");
    }
}

async fn next_event(messages: &mut MessageReceiver, so_far: &str) -> (String, Value) {
    let message = tokio::time::timeout(DEADLINE, messages.recv())
        .await
        .unwrap_or_else(|_| panic!("no more events after {so_far}"))
        .unwrap();
    let kind = message.message_type().unwrap();
    let kind = kind.strip_prefix("edgeInstance:").unwrap().to_owned();
    (kind, message.data["data"].clone())
}

/// A compiled schema of `docs/reference/schema/`.
struct Schema {
    name: String,
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    fn read(name: &str) -> Self {
        let file = format!("{name}.schema.json");
        let schema = serde_json::from_str(&read(&format!("docs/reference/schema/{file}"))).unwrap();
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        let place = format!("urn:test:{file}");
        compiler.add_resource(&place, schema).unwrap();
        let index = compiler
            .compile(&place, &mut schemas)
            .unwrap_or_else(|error| panic!("{file}: {error:#}"));
        Self {
            name: name.to_owned(),
            schemas,
            index,
        }
    }

    fn fits(&self, event: &Value) -> bool {
        self.schemas.validate(event, self.index).is_ok()
    }

    fn check(&self, event: &Value) {
        if let Err(error) = self.schemas.validate(event, self.index) {
            panic!("{}: {error:#}\n{event:#}", self.name);
        }
    }

    /// Breaks a good event in every single place.
    fn refuses_what_is_broken(&self, good: &Value) {
        let mut paths = Vec::new();
        collect_paths(good, String::new(), &mut paths);
        assert!(paths.len() > 5, "{good:#}");
        for pointer in paths {
            let mut broken = good.clone();
            *broken.pointer_mut(&pointer).unwrap() = json!([["another type"]]);
            assert!(
                !self.fits(&broken),
                "{}: {pointer} of another type fits",
                self.name
            );
            // A velocity has a direction, and zones have the names that people give them.
            let is_signed = pointer.starts_with("/track/velocity/");
            let is_free = pointer == "/track/dwellMs";
            let is_of_free = pointer.starts_with("/track/dwellMs/");
            // Where nothing is followed, objects have neither.
            let is_optional = pointer.starts_with("/objects/")
                && (pointer.ends_with("/trackId") || pointer.ends_with("/zones"));
            if good.pointer(&pointer).unwrap().is_number() && !is_signed {
                let mut broken = good.clone();
                *broken.pointer_mut(&pointer).unwrap() = json!(-1);
                assert!(!self.fits(&broken), "{}: {pointer} = -1 fits", self.name);
            }
            if let Some(Value::Object(_)) = good.pointer(&pointer)
                && !is_free
            {
                let mut broken = good.clone();
                broken.pointer_mut(&pointer).unwrap()["another"] = json!(1);
                assert!(
                    !self.fits(&broken),
                    "{}: a new field in {pointer} fits",
                    self.name
                );
            }
            if let Some((parent, field)) = pointer.rsplit_once('/')
                && let Some(Value::Object(fields)) = good.clone().pointer_mut(parent)
                && !(is_of_free || is_optional)
            {
                fields.remove(field).unwrap();
                let mut broken = good.clone();
                *broken.pointer_mut(parent).unwrap() = Value::Object(fields.clone());
                assert!(
                    !self.fits(&broken),
                    "{}: without {pointer} it fits",
                    self.name
                );
            }
        }
    }
}

fn collect_paths(value: &Value, pointer: String, paths: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                collect_paths(field, format!("{pointer}/{name}"), paths);
            }
        }
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                collect_paths(item, format!("{pointer}/{n}"), paths);
            }
        }
        _ => {}
    }
    paths.push(pointer);
}

/// Builds without the feature `otlp` have no metrics of traces.
fn is_built(metric: &str) -> bool {
    cfg!(feature = "otlp") || !metric.starts_with("twinsight_traces_")
}

/// What `docs/reference/metrics.md` says: types and labels by metric, and the values of labels that have a list.
#[derive(Debug, Default)]
struct Page {
    metrics: BTreeMap<String, (String, BTreeSet<String>)>,
    values: BTreeMap<(String, String), BTreeSet<String>>,
}

impl Page {
    /// Metrics are rows `| name | type | labels | meaning |`; values are rows under a heading that names
    /// label and metrics.
    fn read() -> Self {
        let mut page = Self::default();
        let mut label_of: Vec<(String, String)> = Vec::new();
        for line in read(METRICS).lines() {
            if line.starts_with('#') {
                let quoted: Vec<_> = line.split('`').skip(1).step_by(2).collect();
                label_of = match &quoted[..] {
                    [label, metrics @ ..] => metrics
                        .iter()
                        .map(|metric| ((*metric).to_owned(), (*label).to_owned()))
                        .collect(),
                    [] => Vec::new(),
                };
                continue;
            }
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let Some(name) = cells
                .get(1)
                .and_then(|cell| cell.strip_prefix('`')?.strip_suffix('`'))
            else {
                continue;
            };
            for key in &label_of {
                page.values
                    .entry(key.clone())
                    .or_default()
                    .insert(name.to_owned());
            }
            if label_of.is_empty() {
                let labels = cells[3].split('`').skip(1).step_by(2).map(str::to_owned);
                let described = (cells[2].to_owned(), labels.collect());
                assert!(
                    page.metrics.insert(name.to_owned(), described).is_none(),
                    "{name} is twice on the page"
                );
            }
        }
        page.metrics.retain(|metric, _| is_built(metric));
        page.values.retain(|(metric, _), _| is_built(metric));
        page
    }

    /// Leaves out what a node alone and without inference servers does not serve. The sources have to have the names.
    fn without_fleet(mut self) -> Self {
        let sources = ["mod", "remote", "shard"]
            .map(|file| read(&format!("src/telemetry/metrics/{file}.rs")))
            .concat();
        self.metrics.retain(|metric, _| {
            if !is_of_fleet(metric) {
                return true;
            }
            let name = metric.trim_start_matches("twinsight_");
            assert!(
                sources.contains(&format!("\"{name}\"")),
                "{METRICS} has {metric}, and no source has"
            );
            false
        });
        self.values.retain(|(metric, _), _| !is_of_fleet(metric));
        self
    }

    fn compare(&self, text: &str) {
        let mut served = served(text);
        served.retain(|metric, _| !is_of_fleet(metric));
        let types =
            |metrics: &BTreeMap<String, (String, BTreeSet<String>)>| -> BTreeMap<String, String> {
                metrics
                    .iter()
                    .map(|(name, (kind, _))| (name.clone(), kind.clone()))
                    .collect()
            };
        let on_node: BTreeMap<_, _> = served
            .iter()
            .map(|(name, metric)| (name.clone(), metric.kind.clone()))
            .collect();
        assert_eq!(
            types(&self.metrics),
            on_node,
            "{METRICS} (left) and /metrics differ in names or types"
        );
        for (name, metric) in &served {
            let labels: BTreeSet<_> = metric.labels.keys().cloned().collect();
            assert_eq!(
                self.metrics[name].1, labels,
                "{METRICS} (left) and /metrics differ in the labels of {name}"
            );
            for (label, values) in &metric.labels {
                if let Some(listed) = self.values.get(&(name.clone(), label.clone())) {
                    // Its series come with the first event that each counts.
                    if name == "twinsight_track_events_dropped_total" {
                        assert!(values.is_subset(listed), "{values:?}");
                        continue;
                    }
                    assert_eq!(
                        listed, values,
                        "{METRICS} (left) and /metrics differ in `{label}` of {name}"
                    );
                } else {
                    assert!(
                        !["reason", "stage", "state", "kind"].contains(&label.as_str()),
                        "{METRICS} has no section \"`{label}` of `{name}`\" that lists its values"
                    );
                }
            }
        }
        for (metric, label) in self.values.keys() {
            assert!(
                served
                    .get(metric)
                    .is_some_and(|metric| metric.labels.contains_key(label)),
                "{METRICS} lists values of `{label}` of {metric}, which has no such label"
            );
        }
    }
}

/// True for what nodes serve that belong to a pool or have models on servers.
fn is_of_fleet(metric: &str) -> bool {
    metric == "twinsight_model_fallback"
        || ["twinsight_pool_", "twinsight_remote_"]
            .iter()
            .any(|prefix| metric.starts_with(prefix))
}

/// A metric as the node serves it.
#[derive(Default)]
struct Served {
    kind: String,
    labels: BTreeMap<String, BTreeSet<String>>,
}

fn served(text: &str) -> BTreeMap<String, Served> {
    let mut metrics: BTreeMap<String, Served> = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (of, kind) = rest.split_once(' ').unwrap();
            of.clone_into(&mut name);
            metrics.entry(name.clone()).or_default().kind = kind.to_owned();
        } else if !line.starts_with('#') && !line.is_empty() {
            let metric = metrics.get_mut(&name).expect("a type before the samples");
            let Some((_, labels)) = line.split_once('{') else {
                continue;
            };
            for label in labels.rsplit_once('}').unwrap().0.split("\",") {
                let (label, value) = label.split_once("=\"").unwrap();
                if label != "le" {
                    let values = metric.labels.entry(label.to_owned()).or_default();
                    values.insert(value.trim_end_matches('"').to_owned());
                }
            }
        }
    }
    metrics
}

/// Prometheus' own check of names, types and help.
fn promtool(text: &str) {
    let mut check = prometheus_program("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("promtool cannot be started ({error}): run scripts/setup --test")
        });
    check
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.trim().is_empty(),
        "promtool: {said}"
    );
}
