//! A configuration that cannot be used is told in one sentence with file, line, key and remedy.

use std::path::Path;

use twinsight::config::{Config, ConfigError, Env};

fn env(variables: &[(&str, &str)]) -> Env {
    variables.iter().copied().collect()
}

#[test]
fn the_shipped_file_loads_and_is_what_the_defaults_are() {
    let node = env(&[("TWIN_ID", "node-1")]);
    let shipped = Config::load(Some(Path::new("config/node.toml")), &node).unwrap();
    let mut built_in = Config::load(None, &node).unwrap();
    assert_eq!(shipped.cameras.len(), 1);
    built_in.cameras.clone_from(&shipped.cameras);
    assert_eq!(shipped, built_in, "but for its camera");

    let listed = env(&[
        ("TWIN_ID", "node-1"),
        ("TWINSIGHT_CAMERAS", "camera-front-door"),
    ]);
    let mut built_in = Config::load(None, &listed).unwrap();
    built_in.cameras[0]
        .name
        .clone_from(&shipped.cameras[0].name);
    assert_eq!(shipped.cameras, built_in.cameras);
}

#[test]
fn the_shipped_file_shows_every_key() {
    let text = std::fs::read_to_string("config/node.toml").unwrap();
    for key in twinsight::config::file::keys().filter(|key| key.section != "cameras") {
        let line = text.lines().find(|line| {
            let line = line.trim_start_matches("# ");
            line.strip_prefix(key.name)
                .is_some_and(|rest| rest.trim_start().starts_with('='))
        });
        assert!(line.is_some(), "{}.{}", key.section, key.name);
    }
}

// A build without the feature refuses the leases.
#[cfg(feature = "etcd")]
#[test]
fn what_the_shipped_file_has_commented_out_loads_too() {
    let text = std::fs::read_to_string("config/node.toml").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "hush\n").unwrap();
    let headers = dir.path().join("headers");
    std::fs::write(&headers, "X-Key: hush\n").unwrap();
    let uncommented: Vec<_> = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            // A camera has one source, a sink is one of two kinds, and a node shares cameras in one way, with leases in one place.
            Some(setting)
                if [
                    "device",
                    "secret_file",
                    "max_age_ms",
                    "index",
                    "count",
                    "namespace",
                ]
                .iter()
                .any(|key| setting.starts_with(key)) =>
            {
                line
            }
            Some(setting)
                if is_setting(setting)
                    || ["[[", "[models."]
                        .iter()
                        .any(|table| setting.starts_with(table)) =>
            {
                setting
            }
            _ => line,
        })
        .map(|line| match line.split_once("_file = ") {
            Some(("otlp_headers", _)) => {
                format!("otlp_headers_file = {:?}", headers.display().to_string())
            }
            // A build without the feature refuses it.
            None if cfg!(not(feature = "otlp")) && line.starts_with("otlp_endpoint") => {
                String::new()
            }
            Some((key, _)) if key != "ca" => {
                format!("{key}_file = {:?}", secret.display().to_string())
            }
            _ => line.to_owned(),
        })
        .collect();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, uncommented.join("\n")).unwrap();
    Config::load(Some(&path), &Env::default()).unwrap();
}

#[test]
fn a_mistake_is_told_with_file_line_key_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(
        &path,
        "[http]\nlisten = \"127.0.0.1:9464\"\n[defaults]\nmax_fsp = 5\n",
    )
    .unwrap();
    let error = Config::load(Some(&path), &Env::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{} line 4: there is no key `defaults.max_fsp`, the nearest is `defaults.max_fps`: correct or remove it",
            path.display()
        )
    );
    assert_eq!(ConfigError::EXIT_CODE, 78);
}

/// `key = value`, and not a sentence that has one in it.
fn is_setting(line: &str) -> bool {
    line.split_once(" = ")
        .is_some_and(|(key, _)| !key.contains(' '))
}
