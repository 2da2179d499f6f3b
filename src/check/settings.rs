//! Checks settings that are right one by one and do not go together. The configuration comes in, a finding for each contradiction goes
//! out.

use super::finding::{Finding, Report};
use crate::config::{CameraConfig, Config, Detections};

/// Checks the settings of the node and of all its cameras.
pub(super) fn check(config: &Config, report: &mut Report<'_>) {
    if config.http.edit && config.http.token.is_none() {
        report.add(Finding::warn(
            "http.edit",
            "it is true, and there is no token, so every change of zones, lines and masks over HTTP is refused",
            "set `http.token_file`, or remove `http.edit`",
        ));
    }
    for finding in config.cameras.iter().flat_map(of_camera) {
        report.add(finding);
    }
}

fn of_camera(camera: &CameraConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    let track = &camera.track;
    if !track.enabled {
        if camera.detections == Detections::None {
            findings.push(Finding::warn(
                format!("camera {} events", camera.id),
                "it publishes no `detections`, and nothing is followed, so what it sees is never told",
                "remove `detections = \"none\"`, or let the camera follow what it sees (`enabled = true` in its `track`)",
            ));
        }
        return findings;
    }
    if track.confirm >= track.lost {
        findings.push(Finding::warn(
            format!("camera {} tracks", camera.id),
            format!(
                "`confirm_ms` ({}) is not below `lost_ms` ({}), so who was out of sight for that long is new, and has to be seen for at least as long again before it is told",
                track.confirm.as_millis(),
                track.lost.as_millis()
            ),
            "give a smaller `confirm_ms` (300 does for most cameras), or a larger `lost_ms`",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of the configuration with these lines.
    fn told(lines: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        let token = folder.path().join("token");
        std::fs::write(&token, "0123456789abcdef0123456789abcdef").unwrap();
        std::fs::write(&file, lines.replace("TOKEN", token.to_str().unwrap())).unwrap();
        let env = [
            ("PHYSTACK_SIMULATOR_URL", "http://127.0.0.1:1"),
            ("TWIN_ID", "node"),
        ];
        let config = Config::load(Some(&file), &env.into_iter().collect()).unwrap();
        let mut told = Vec::new();
        let mut tell = |finding: &Finding| told.push(finding.to_string());
        check(&config, &mut Report::new(&mut tell));
        told
    }

    #[test]
    fn changes_over_http_need_a_token() {
        let without = told("[http]\nedit = true\n");
        assert_eq!(without.len(), 1);
        assert!(
            without[0].starts_with("warn  http.edit: it is true, and there is no token"),
            "{without:?}"
        );
        assert!(
            without[0].contains("; set `http.token_file`"),
            "{without:?}"
        );
        assert_eq!(
            told("[http]\nedit = true\ntoken_file = \"TOKEN\"\n"),
            [""; 0]
        );
        assert_eq!(told("[http]\nedit = false\n"), [""; 0]);
    }

    #[test]
    fn a_camera_that_tells_nothing_is_told() {
        let mute = told(
            "[[cameras]]\ntwin_id = \"yard\"\ndetections = \"none\"\n[cameras.track]\nenabled = false\n\
             [[cameras]]\ntwin_id = \"gate\"\ndetections = \"none\"\n\
             [[cameras]]\ntwin_id = \"door\"\n[cameras.track]\nenabled = false\n",
        );
        assert_eq!(mute.len(), 1, "{mute:?}");
        assert!(
            mute[0].starts_with("warn  camera yard/default events: it publishes no `detections`"),
            "{mute:?}"
        );
        assert!(
            mute[0].contains("; remove `detections = \"none\"`"),
            "{mute:?}"
        );
    }

    #[test]
    fn tracks_that_are_confirmed_later_than_given_up_are_told() {
        let camera = |track: &str| {
            told(&format!(
                "[[cameras]]\ntwin_id = \"yard\"\n[cameras.track]\n{track}\n"
            ))
        };
        let late = camera("confirm_ms = 2000\nlost_ms = 2000");
        assert_eq!(late.len(), 1, "{late:?}");
        assert!(
            late[0].starts_with(
                "warn  camera yard/default tracks: `confirm_ms` (2000) is not below `lost_ms` (2000)"
            ),
            "{late:?}"
        );
        assert!(
            late[0].contains("; give a smaller `confirm_ms`"),
            "{late:?}"
        );
        assert_eq!(camera("confirm_ms = 1999\nlost_ms = 2000"), [""; 0]);
        let off = camera("enabled = false\nconfirm_ms = 2000\nlost_ms = 2000");
        assert_eq!(off, [""; 0]);
    }
}
