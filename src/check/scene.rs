//! Checks whether zones and lines are where they can tell something. The cameras of the configuration come in. What they saw in the last
//! minute only a node knows that runs, so that one is asked; findings go out.

use std::time::Duration;

use serde::Deserialize;

use super::finding::{Finding, Report};
use super::host::Neighbour;
use crate::config::{CameraConfig, Config};
use crate::http::probe;

/// The node has this long to tell of a camera.
const LIMIT: Duration = Duration::from_secs(3);

/// What is read of what the node says of a camera.
#[derive(Debug, Default, Deserialize)]
struct Facts {
    #[serde(default)]
    zones: Vec<ZoneFacts>,
    #[serde(default)]
    lines: Vec<LineFacts>,
}

#[derive(Debug, Deserialize)]
struct ZoneFacts {
    name: String,
    /// `None` if too little was seen to tell.
    #[serde(default, rename = "smallerThanABox")]
    smaller_than_a_box: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct LineFacts {
    name: String,
    /// `None` if too little was seen to tell.
    #[serde(default)]
    reached: Option<bool>,
}

/// Checks the zones and lines of all cameras that have any.
pub(super) async fn check(config: &Config, neighbour: Neighbour, report: &mut Report<'_>) {
    for camera in &config.cameras {
        if camera.scene.zones.is_empty() && camera.scene.lines.is_empty() {
            continue;
        }
        let subject = format!("camera {} zones and lines", camera.id);
        if !camera.track.enabled {
            report.add(Finding::warn(
                subject,
                "nothing is followed, so they tell nothing",
                "let the camera follow what it sees (`enabled = true` in its `track`), or remove them",
            ));
            continue;
        }
        if neighbour == Neighbour::Nobody {
            report.add(Finding::skip(
                subject,
                "no node runs here that knows where things were; check again while it runs",
            ));
            continue;
        }
        let token = config.http.token.as_ref();
        let answer = probe::camera_facts(config.http.listen, token, &camera.id, LIMIT).await;
        match answer {
            Ok(json) => {
                let facts = serde_json::from_str(&json).unwrap_or_default();
                for finding in findings(&subject, camera, &facts) {
                    report.add(finding);
                }
            }
            Err(error) => report.add(Finding::skip(subject, error.to_string())),
        }
    }
}

/// What the node knows of the zones and lines that the camera has here and there.
fn findings(subject: &str, camera: &CameraConfig, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (mut known, mut judged) = (0, 0);
    for zone in &camera.scene.zones {
        let Some(facts) = facts.zones.iter().find(|facts| facts.name == *zone.name) else {
            continue;
        };
        known += 1;
        judged += usize::from(facts.smaller_than_a_box.is_some());
        if facts.smaller_than_a_box == Some(true) {
            findings.push(Finding::warn(
                format!("camera {} zone `{}`", camera.id, zone.name),
                "it covers less of the picture than the box of most who stand there, so who passes is hardly ever in it",
                "draw it larger: what counts is the middle of a box's lower edge, which wobbles by some hundredths of its height",
            ));
        }
    }
    for line in &camera.scene.lines {
        let Some(facts) = facts.lines.iter().find(|facts| facts.name == *line.name) else {
            continue;
        };
        known += 1;
        judged += usize::from(facts.reached.is_some());
        if facts.reached == Some(false) {
            findings.push(Finding::warn(
                format!("camera {} line `{}`", camera.id, line.name),
                "nothing that was seen in the last minute could cross it: the feet of all were on one side of it, or beyond its ends",
                "draw it across the ground where they walk, with room for their feet on both sides",
            ));
        }
    }
    let all = camera.scene.zones.len() + camera.scene.lines.len();
    findings.push(if known < all {
        Finding::warn(
            subject,
            format!("the node that runs here knows {known} of {all}"),
            "let it read the configuration again (`systemctl reload`, SIGHUP)",
        )
    } else if judged == 0 {
        Finding::skip(
            subject,
            "too little moved before the camera in the last minute to judge them; check again when somebody has walked there",
        )
    } else if findings.is_empty() {
        Finding::ok(
            subject,
            format!("{all}, of which {judged} were judged by what was seen in the last minute"),
        )
    } else {
        return findings;
    });
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera() -> CameraConfig {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        let text = "[hub]\nurl = \"http://127.0.0.1:1\"\ntwin_id = \"node\"\n[[cameras]]\ntwin_id = \"yard\"\n[[cameras.zones]]\nname = \
            \"mat\"\npoints = [[0.1, 0.1], [0.2, 0.1], [0.2, 0.2]]\n[[cameras.lines]]\nname = \"gate\"\nfrom = [0.1, 0.5]\nto = [0.9, 0.5]\n";
        std::fs::write(&file, text).unwrap();
        let env = [("PHYSTACK_SIMULATOR_URL", "http://127.0.0.1:1")];
        let config = Config::load(Some(&file), &env.into_iter().collect()).unwrap();
        config.cameras[0].clone()
    }

    fn lines(json: &str) -> Vec<String> {
        let facts: Facts = serde_json::from_str(json).unwrap();
        let findings = findings("camera yard/default zones and lines", &camera(), &facts);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_line_out_of_reach_and_a_small_zone_are_told_with_what_to_do() {
        let told = lines(
            r#"{"state": "receiving", "zones": [{"name": "mat", "objects": {}, "smallerThanABox": true}],
                "lines": [{"name": "gate", "in": 0, "out": 0, "reached": false}]}"#,
        );
        assert_eq!(told.len(), 2);
        assert!(
            told[0].starts_with("warn  camera yard/default zone `mat`: it covers less of"),
            "{told:?}"
        );
        assert!(told[0].contains("; draw it larger"), "{told:?}");
        assert!(
            told[1].starts_with("warn  camera yard/default line `gate`: nothing that was seen in the last minute could cross it"),
            "{told:?}"
        );
        assert!(told[1].contains("; draw it across the ground"), "{told:?}");
    }

    #[test]
    fn what_is_fine_what_cannot_be_told_and_what_the_node_does_not_know() {
        let fine = r#"{"zones": [{"name": "mat", "smallerThanABox": false}], "lines": [{"name": "gate", "reached": true}]}"#;
        assert_eq!(
            lines(fine),
            [
                "ok    camera yard/default zones and lines: 2, of which 2 were judged by what was seen in the last minute"
            ]
        );
        let quiet = r#"{"zones": [{"name": "mat", "smallerThanABox": null}], "lines": [{"name": "gate", "reached": null}]}"#;
        assert_eq!(
            lines(quiet),
            [
                "skip  camera yard/default zones and lines: skipped, because too little moved before the camera in the last minute to \
              judge them; check again when somebody has walked there"
            ]
        );
        let other = r#"{"zones": [], "lines": [{"name": "gate", "reached": true}]}"#;
        assert_eq!(
            lines(other),
            [
                "warn  camera yard/default zones and lines: the node that runs here knows 1 of 2; let it read the configuration again \
              (`systemctl reload`, SIGHUP)"
            ]
        );
    }
}
