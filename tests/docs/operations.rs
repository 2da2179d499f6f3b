//! What `deploy/` has is whole: promtool takes the rules and their tests, each alert is tested both ways and has its section in the
//! runbook, Grafana can read the dashboard, systemd the unit, and what compose mounts is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::links::headings;
use crate::{path, read};

pub(crate) const DASHBOARD: &str = "deploy/grafana/dashboards/twinsight.json";
const RUNBOOK: &str = "deploy/README.md";

/// A program of Debian's package prometheus.
pub(crate) fn prometheus_program(name: &str) -> Command {
    let own = path(".tools/bin").join(name);
    Command::new(if own.exists() {
        own
    } else {
        PathBuf::from(name)
    })
}

#[test]
fn promtool_takes_the_configurations_and_the_tests_of_the_rules_pass() {
    for arguments in [
        ["check", "config", "deploy/prometheus/prometheus.yml"],
        ["check", "config", "config/prometheus.yml"],
        ["check", "rules", "deploy/prometheus/recording.yml"],
        ["check", "rules", "deploy/prometheus/alerts.yml"],
        ["test", "rules", "deploy/prometheus/alerts_test.yml"],
    ] {
        let output = prometheus_program("promtool")
            .args(arguments)
            .current_dir(path(""))
            .output()
            .unwrap_or_else(|error| {
                panic!("promtool cannot be started ({error}): run scripts/setup --test")
            });
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
}

#[test]
fn each_alert_is_tested_both_ways_and_leads_to_its_section_of_the_runbook() {
    let alerts = alerts();
    assert!(alerts.len() >= 10, "{alerts:?}");
    let sections = headings(&read(RUNBOOK));
    for (alert, text) in &alerts {
        for annotation in ["summary", "description", "remedy"] {
            let key = format!("\n          {annotation}: \"");
            assert!(text.contains(&key), "{alert} has no {annotation}");
        }
        let section = alert.to_lowercase();
        let link = format!("          runbook: \"{RUNBOOK}#{section}\"");
        assert!(text.contains(&link), "{alert} has no line `{link}`");
        assert!(
            sections.contains(&section),
            "{RUNBOOK} has no `### {alert}`"
        );
    }

    let mut tested: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
    let text = read("deploy/prometheus/alerts_test.yml");
    for case in text.split("alertname: ").skip(1) {
        let alert = case.lines().next().unwrap().to_owned();
        let fires = !case.lines().nth(1).unwrap().ends_with("exp_alerts: []");
        tested.entry(alert).or_default().insert(fires);
    }
    assert!(tested.keys().eq(alerts.keys()), "of {:?}", tested.keys());
    for (alert, ways) in tested {
        assert_eq!(
            ways.len(),
            2,
            "{alert} must have a case in which it fires, and one in which it does not"
        );
    }
}

/// The text of each alert, by its name.
fn alerts() -> BTreeMap<String, String> {
    read("deploy/prometheus/alerts.yml")
        .split("- alert: ")
        .skip(1)
        .map(|text| (text.lines().next().unwrap().to_owned(), text.to_owned()))
        .collect()
}

#[test]
fn grafana_can_read_the_dashboard() {
    let board: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    assert_eq!(board["uid"], "twinsight");
    assert!(board["schemaVersion"].as_u64().unwrap() >= 36);
    assert!(board["id"].is_null(), "Grafana gives ids of its own");
    let variables: BTreeSet<_> = board["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    assert_eq!(variables, ["camera", "datasource", "instance"].into());

    let panels = panels(&board);
    let mut ids = BTreeSet::new();
    let mut titles = BTreeSet::new();
    for panel in &panels {
        let title = panel["title"].as_str().unwrap();
        assert!(
            ids.insert(panel["id"].as_u64().unwrap()),
            "{title}: its id is another's too"
        );
        assert!(titles.insert(title), "two panels are called {title}");
        let [x, w] = ["x", "w"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(x + w <= 24, "{title} is beyond the right edge");
        if panel["type"] == "row" {
            continue;
        }
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title} asks nothing");
        let names: BTreeSet<_> = targets
            .iter()
            .map(|target| target["refId"].as_str())
            .collect();
        assert_eq!(
            names.len(),
            targets.len(),
            "{title} has two queries of one name"
        );
        for asks in targets.iter().chain([*panel]) {
            assert_eq!(asks["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
    let open = board["panels"].as_array().unwrap();
    for (n, one) in open.iter().enumerate() {
        for other in &open[..n] {
            assert!(
                !overlap(one, other),
                "{} lies on {}",
                one["title"],
                other["title"]
            );
        }
    }
}

/// True when two panels take the same place.
fn overlap(one: &Value, other: &Value) -> bool {
    [("x", "w"), ("y", "h")].into_iter().all(|(at, length)| {
        let number = |panel: &Value, key: &str| panel["gridPos"][key].as_u64().unwrap();
        let end = |panel| number(panel, at) + number(panel, length);
        number(one, at) < end(other) && number(other, at) < end(one)
    })
}

/// All panels, those in closed rows included.
pub(crate) fn panels(board: &Value) -> Vec<&Value> {
    let outer = board["panels"].as_array().unwrap();
    outer
        .iter()
        .flat_map(|panel| {
            let inner = panel["panels"].as_array().into_iter().flatten();
            std::iter::once(panel).chain(inner)
        })
        .collect()
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("twinsight.service");
    let text = read("deploy/systemd/twinsight.service");
    let program = "/opt/twinsight/bin/twinsight";
    assert!(text.contains(program));
    std::fs::write(
        &unit,
        text.replace(program, env!("CARGO_BIN_EXE_twinsight")),
    )
    .unwrap();
    let Ok(output) = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&unit)
        .output()
    else {
        println!("not run: there is no systemd-analyze, which Debian's package systemd has");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !said.contains("twinsight.service"),
        "{said}"
    );
}

#[test]
fn what_compose_mounts_is_there() {
    for (file, folder) in [("compose.yaml", ""), ("deploy/compose.yaml", "deploy")] {
        let text = read(file);
        let mounted: Vec<_> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- "))
            .filter_map(|mount| {
                let default = mount
                    .split_once(":-")
                    .map(|(_, rest)| rest.split('}').next().unwrap());
                default.or_else(|| mount.split_once(':').map(|(from, _)| from))
            })
            .filter(|from| from.starts_with('.'))
            .collect();
        assert!(mounted.len() >= 2, "{file}: {mounted:?}");
        for from in mounted {
            assert!(path(folder).join(from).exists(), "{file} mounts {from}");
        }
    }
    // Grafana's own files name what compose mounts.
    let compose = read("deploy/compose.yaml");
    let provider = read("deploy/grafana/provisioning/dashboards/twinsight.yml");
    let dashboards = "/etc/grafana/dashboards";
    assert!(provider.contains(&format!("path: {dashboards}\n")));
    assert!(compose.contains(&format!(":{dashboards}:ro")));
    let source = read("deploy/grafana/provisioning/datasources/prometheus.yml");
    assert!(
        source.contains("url: http://prometheus:9090\n") && compose.contains("\n  prometheus:\n")
    );
}
