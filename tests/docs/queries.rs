//! Every query of the Grafana dashboard and of the page of metrics, asked of a Prometheus that runs with the configuration of `deploy/`
//! and scrapes a node. The node has a camera that sends, one that never answers, and one that was removed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use twinsight::dev::hub::DevHubOptions;

use crate::common::ports::unused_address;
use crate::common::{DEADLINE, NodeProcess, Program, fake, start_hub};
use crate::operations::{DASHBOARD, panels, prometheus_program};
use crate::{path, read};

const CAMERAS: &str = "[[cameras]]\ntwin_id = \"cam-1\"\nname = \"Front door\"\n[[cameras]]\ntwin_id = \"cam-nobody\"\n";
const GONE: &str = "[[cameras]]\ntwin_id = \"cam-gone\"\n";

/// What a question of the page of metrics is answered with.
enum Answer {
    /// Series of these cameras and no others.
    Cameras(&'static [&'static str]),
    /// Something.
    Some,
    /// Nothing, as all is well.
    Nothing,
    /// Whatever a machine that is busy with other tests gives.
    Either,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_queries_have_their_answers_in_a_prometheus_that_scraped_a_node() {
    let url = start_hub(DevHubOptions::default()).await;
    fake::camera(&url, "cam-1", "default", None, 10.0);
    let node = NodeProcess::start(
        &format!("{CAMERAS}{GONE}"),
        &[
            ("PHYSTACK_SIMULATOR_URL", &url),
            ("TWIN_ID", fake::NODE),
            ("TWINSIGHT_ICE__INTERFACES", "lo"),
        ],
    )
    .await;
    let prometheus = Prometheus::start(node.http);
    let config = std::fs::read_to_string(&node.config).unwrap();
    prometheus.until("count(twinsight_camera_info) == 3").await;
    std::fs::write(&node.config, config.replace(GONE, "")).unwrap();
    prometheus
        .until("twinsight_camera_state{camera=\"cam-gone\", state=\"removed\"} == 1")
        .await;
    prometheus
        .until("rate(twinsight_objects_detected_total{label=\"person\"}[5m]) > 0")
        .await;
    prometheus
        .until("camera:twinsight_frame_age_seconds:p99_rate5m > 0")
        .await;

    // The rules are worked out after a scrape.
    prometheus
        .until("absent(camera:twinsight_blind:bool{camera=\"cam-gone\"})")
        .await;

    the_page_of_metrics(&prometheus);
    what_the_page_warns_of(&prometheus);
    the_dashboard(&prometheus);
    the_rules(&prometheus);
}

fn the_page_of_metrics(prometheus: &Prometheus) {
    let mut expected = BTreeMap::from([
        (
            "Which cameras give no picture?",
            Answer::Cameras(&["cam-nobody"]),
        ),
        (
            "Which cameras are blind because their model fails?",
            Answer::Nothing,
        ),
        (
            "Of which cameras was nothing looked at for five minutes?",
            Answer::Cameras(&["cam-nobody"]),
        ),
        (
            "What are the cameras called that send?",
            Answer::Cameras(&["cam-1"]),
        ),
        (
            "How old are results, at the 99th percentile?",
            Answer::Cameras(&["cam-1"]),
        ),
        ("In which stage does the time go?", Answer::Some),
        (
            "How many processors does each camera take?",
            Answer::Cameras(&["cam-1"]),
        ),
        (
            "For which cameras is the node too slow, by more than a tenth?",
            Answer::Either,
        ),
        (
            "How much of the network's packets is lost?",
            Answer::Cameras(&["cam-1"]),
        ),
        ("Was a configuration refused?", Answer::Nothing),
        ("Why was the hub lost within the hour?", Answer::Nothing),
        ("Which sinks are not reached?", Answer::Nothing),
        ("What is lost on the way to sinks?", Answer::Nothing),
        ("Are results lost on their way to the hub?", Answer::Either),
    ]);
    for (question, query) in questions() {
        let answer = expected
            .remove(question.as_str())
            .unwrap_or_else(|| panic!("say here what `{question}` is answered with"));
        let series = prometheus.ask(&query);
        match answer {
            Answer::Cameras(cameras) => {
                assert_eq!(
                    cameras_of(&series),
                    cameras.iter().copied().collect(),
                    "{question}"
                );
            }
            Answer::Some => assert!(!series.is_empty(), "{question}"),
            Answer::Nothing => assert!(series.is_empty(), "{question} {series:?}"),
            Answer::Either => {}
        }
        if question.contains("called") {
            assert_eq!(series[0]["metric"]["name"], "Front door");
        }
    }
    assert!(
        expected.is_empty(),
        "the page has no longer {:?}",
        expected.keys()
    );
}

/// The rows of the page's table of questions.
fn questions() -> Vec<(String, String)> {
    let page = read("docs/reference/metrics.md");
    let (_, table) = page
        .split_once("| question | query |\n|---|---|\n")
        .unwrap();
    table
        .lines()
        .map_while(|line| {
            line.strip_prefix("| ")?
                .strip_suffix("` |")?
                .split_once(" | `")
        })
        .map(|(question, query)| (question.to_owned(), query.replace("\\|", "|")))
        .collect()
}

/// Queries that look right, and once stood on the page.
fn what_the_page_warns_of(prometheus: &Prometheus) {
    let removed = prometheus.ask("twinsight_camera_state{state=\"receiving\"} == 0");
    assert_eq!(
        cameras_of(&removed),
        ["cam-gone", "cam-nobody"].into(),
        "a removed camera counts as not receiving"
    );
    let summed = prometheus.ask("sum(rate(twinsight_frames_inferred_total[5m])) > 0");
    assert_eq!(summed.len(), 1, "one healthy camera hides the blind one");
}

fn the_dashboard(prometheus: &Prometheus) {
    let board: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let mut asked = 0;
    let titles = panels(&board).into_iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(move |target| (&panel["title"], &target["expr"]))
    });
    let alerts = board["annotations"]["list"].as_array().unwrap();
    let alerts = alerts.iter().map(|each| (&each["name"], &each["expr"]));
    for (title, query) in titles.chain(alerts) {
        let query = with_variables(query.as_str().unwrap());
        let series = prometheus.ask(&query);
        // What is only shown when something is wrong may be empty, and this node is in no pool.
        let may_be_empty = query.ends_with("> 0")
            || query.starts_with("ALERTS")
            || query.contains("twinsight_pool_");
        assert!(
            may_be_empty || !series.is_empty(),
            "{title}: nothing for {query}"
        );
        asked += 1;
    }
    assert!(asked > 30, "{asked} queries");
    for variable in board["templating"]["list"].as_array().unwrap() {
        let Some(query) = variable["definition"].as_str() else {
            continue;
        };
        let (selector, label) = query
            .strip_prefix("label_values(")
            .and_then(|rest| rest.strip_suffix(')')?.rsplit_once(", "))
            .unwrap();
        let values = prometheus.get(&format!(
            "/api/v1/label/{label}/values?match[]={}",
            encoded(&with_variables(selector))
        ));
        assert!(!values.as_array().unwrap().is_empty(), "{query}");
    }
}

/// A query as Grafana sends it when everything is chosen.
fn with_variables(query: &str) -> String {
    let query = query
        .replace("$__rate_interval", "1m")
        .replace("$instance", ".+")
        .replace("$camera", ".+");
    assert!(!query.contains('$'), "a variable is not known: {query}");
    query
}

fn the_rules(prometheus: &Prometheus) {
    let blind: BTreeMap<_, _> = prometheus
        .ask("camera:twinsight_blind:bool")
        .iter()
        .map(|series| {
            let value = series["value"][1].as_str().unwrap().to_owned();
            (
                series["metric"]["camera"].as_str().unwrap().to_owned(),
                value,
            )
        })
        .collect();
    let expected = [("cam-1", "0"), ("cam-nobody", "1")];
    assert_eq!(
        blind,
        expected
            .map(|(camera, value)| (camera.to_owned(), value.to_owned()))
            .into()
    );
    let groups = prometheus.get("/api/v1/rules");
    let rules: Vec<_> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .collect();
    assert!(rules.len() > 20, "{}", rules.len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule:#}");
        let names: BTreeSet<_> = ["pending", "firing"].into();
        let state = rule["state"].as_str().unwrap_or_default();
        // A camera that never answers is the only thing that is wrong, unless the machine is busy.
        let slow = [
            "TwinsightInferenceOverloaded",
            "TwinsightDecodingOverloaded",
            "TwinsightResultsOld",
            "TwinsightEventsDropped",
            "TwinsightCapacityUsedUp",
        ];
        let name = rule["name"].as_str().unwrap();
        let may = name == "TwinsightCameraBlind"
            || name == "TwinsightCameraUnsteady"
            || slow.contains(&name);
        assert!(may || !names.contains(state), "{name} is {state}");
    }
}

fn cameras_of(series: &[Value]) -> BTreeSet<&str> {
    series
        .iter()
        .map(|series| series["metric"]["camera"].as_str().unwrap())
        .collect()
}

/// A Prometheus with the configuration of `deploy/`, but for the node that it scrapes and how often.
struct Prometheus {
    address: SocketAddr,
    _program: Program,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(node: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(path("deploy/prometheus")).unwrap() {
            let file = entry.unwrap();
            let text = std::fs::read_to_string(file.path()).unwrap();
            let text = text
                .replace("node:9464", &node.to_string())
                .replace("_interval: 15s", "_interval: 500ms");
            std::fs::write(folder.path().join(file.file_name()), text).unwrap();
        }
        let address = unused_address();
        let mut command = prometheus_program("prometheus");
        command
            .arg(format!(
                "--config.file={}",
                folder.path().join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error");
        let program = Program::start(command, &[], false);
        Self {
            address,
            _program: program,
            _folder: folder,
        }
    }

    /// Asks until there is an answer with a series in it.
    async fn until(&self, query: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            // It may not listen yet.
            if TcpStream::connect(self.address).is_ok() && !self.ask(query).is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "Prometheus never has {query}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The series that a query gives now, without those that are no number: a quantile of nothing.
    fn ask(&self, query: &str) -> Vec<Value> {
        let data = self.get(&format!("/api/v1/query?query={}", encoded(query)));
        let series = data["result"].as_array().unwrap().iter();
        series
            .filter(|series| series["value"][1] != "NaN")
            .cloned()
            .collect()
    }

    /// The data of an answer of its API.
    fn get(&self, path: &str) -> Value {
        let mut stream = TcpStream::connect(self.address).unwrap();
        // Version 1.0 knows no chunks.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: test\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let Ok(mut answer) = serde_json::from_str::<Value>(body) else {
            // It says so in plain words while it starts.
            assert!(body.contains("Service Unavailable"), "{path}: {body}");
            return serde_json::json!({"result": []});
        };
        assert_eq!(answer["status"], "success", "{path}: {answer:#}");
        answer["data"].take()
    }
}

/// Text as a part of a query of a URL.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
