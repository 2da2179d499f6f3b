//! The hub's settings as a layer: what they win over, what wins over them, and the sentence of each
//! mistake.

use std::fs;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::super::values::{CameraConfig, Config, Connect};
use super::super::{ConfigSource, Env};
use super::*;

const FILE: &str = r#"
[defaults]
max_fps = 5
min_score = 0.5
[[cameras]]
twin_id = "a"
name = "Door"
[[cameras]]
twin_id = "a"
stream = "zoom"
max_fps = 2
[[cameras]]
twin_id = "b"
connect = "accept"
"#;

fn resolve(
    text: &str,
    settings: &Value,
    variables: &[(&str, &str)],
) -> Result<Config, ConfigError> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("node.toml");
    fs::write(&path, text).unwrap();
    let env: Env = [("TWIN_ID", "node-1")]
        .iter()
        .chain(variables)
        .copied()
        .collect();
    ConfigSource::read(Some(&path), &env)?.resolve(&Settings::read(Some(settings))?)
}

fn cameras(text: &str, settings: &Value, variables: &[(&str, &str)]) -> Vec<CameraConfig> {
    resolve(text, settings, variables).unwrap().cameras
}

/// `twin/stream name max_fps` of each camera.
fn listed(cameras: &[CameraConfig]) -> Vec<String> {
    cameras
        .iter()
        .map(|camera| format!("{} {} {}", camera.id, camera.name, camera.max_fps))
        .collect()
}

#[test]
fn settings_win_over_the_files_defaults_and_variables_win_over_them() {
    let settings = json!({
        "maxFps": 3, "maxAgeMs": 250, "minScore": 0.25, "classes": ["person"],
        "emitEmpty": false, "model": "other",
    });
    let all = cameras(FILE, &settings, &[]);
    assert_eq!(
        listed(&all),
        ["a/default Door 3", "a/zoom a 2", "b/default b 3"],
        "a camera's own value in the file stays"
    );
    let camera = &all[0];
    assert_eq!(camera.max_age, Duration::from_millis(250));
    assert_eq!((camera.min_score, camera.emit_empty), (0.25, false));
    assert_eq!(camera.classes, ["person"]);
    assert_eq!(camera.model, "other");
    let variables = [
        ("TWINSIGHT_DEFAULTS__MAX_FPS", "7"),
        ("TWINSIGHT_CAMERAS", "b,c"),
    ];
    let settings = json!({"maxFps": 3, "minScore": 0.25, "cameras": ["a"]});
    let all = cameras(FILE, &settings, &variables);
    assert_eq!(
        listed(&all),
        ["b/default b 7", "c/default c 7"],
        "of a twin that the hub does not list, nothing is known"
    );
    assert_eq!(all[0].connect, Connect::Dial);
    assert_eq!(all[0].min_score, 0.25);
}

#[test]
fn no_settings_change_nothing() {
    let without = cameras(FILE, &json!({}), &[]);
    for settings in [json!(null), json!({"maxFps": null, "cameras": null})] {
        assert_eq!(cameras(FILE, &settings, &[]), without);
    }
    assert_eq!(Settings::read(None).unwrap(), Settings::default());
    assert!(cameras(FILE, &json!({"cameras": []}), &[]).is_empty());
}

#[test]
fn a_list_of_cameras_replaces_the_files_and_keeps_what_it_says_of_the_same_streams() {
    let all = cameras(FILE, &json!({"cameras": ["c", "a"]}), &[]);
    assert_eq!(
        listed(&all),
        ["c/default c 5", "a/default Door 5", "a/zoom a 2"]
    );
    let settings = json!({"cameras": [
        {"twinId": "a", "stream": "zoom", "name": "Zoom", "minScore": 0.9},
        {"twinId": "b", "connect": "dial", "maxFps": null},
        {"twinId": "b", "stream": "new", "allowUnsigned": true},
    ]});
    let all = cameras(FILE, &settings, &[]);
    assert_eq!(
        listed(&all),
        ["a/zoom Zoom 2", "b/default b 5", "b/new b 5"]
    );
    assert_eq!((all[0].min_score, all[1].min_score), (0.9, 0.5));
    assert_eq!(all[1].connect, Connect::Dial, "the hub wins over the file");
    assert!(all[2].allow_unsigned);
}

#[test]
fn a_camera_that_the_hub_lists_keeps_the_address_that_the_file_has_for_it() {
    let file = "[[cameras]]\ntwin_id = \"a\"\nrtsp = \"rtsp://10.0.0.1/one\"\n";
    let from_file = cameras(file, &json!(null), &[]);
    assert!(from_file[0].source.is_some());
    for listed in [json!(["a", "b"]), json!([{"twinId": "a"}, {"twinId": "b"}])] {
        let all = cameras(file, &json!({"cameras": listed}), &[]);
        assert_eq!(all[0].source, from_file[0].source);
        assert_eq!(all[1].source, None);
    }
}

#[test]
fn every_mistake_has_its_sentence() {
    let table = [
        (
            json!(["maxFps"]),
            "setting settings of the hub: `settings` takes an object, and this is a list: correct it",
        ),
        (
            json!({"maxFsp": 3}),
            "setting maxFsp of the hub: there is no such setting, the nearest is `maxFps`: correct or remove it",
        ),
        (
            json!({"max_fps": 3}),
            "setting max_fps of the hub: there is no such setting, the nearest is `maxFps`: correct or remove it",
        ),
        (
            json!({"connect": "accept"}),
            "setting connect of the hub: a hub does not set this for a node: remove it, and set `defaults.connect` in the node's file",
        ),
        (
            json!({"hub": {"url": "http://elsewhere"}}),
            "setting hub of the hub: a hub does not set this for a node: remove it, and set `hub` in the node's file",
        ),
        (
            json!({"maxFps": "fast"}),
            "setting maxFps of the hub: `defaults.max_fps` takes a number, and this is the text \"fast\": correct it",
        ),
        (
            json!({"maxAgeMs": 0.5}),
            "setting maxAgeMs of the hub: `defaults.max_age_ms` takes a whole number, and this is the number 0.5: correct it",
        ),
        (
            json!({"classes": ["person", 7]}),
            "setting classes of the hub: `defaults.classes` takes a list of texts, and this is a list: correct it",
        ),
        (
            json!({"maxFps": -1}),
            "setting maxFps of the hub: `defaults.max_fps` is -1.0: give a number from 0 to 1000",
        ),
        (
            json!({"model": "../../etc/passwd"}),
            "setting model of the hub: `defaults.model` is \"../../etc/passwd\": give a name of letters, digits, `_`, `-` and `.`, without folder and ending",
        ),
        (
            json!({"cameras": "a"}),
            "setting cameras of the hub: `cameras` takes a list of twin ids or objects, and this is the text \"a\": correct it",
        ),
        (
            json!({"cameras": ["a", 7]}),
            "setting cameras[1] of the hub: `cameras` takes a twin id or an object, and this is the number 7: correct it",
        ),
        (
            json!({"cameras": ["c", {"twinId": "d", "maxFps": 5000}]}),
            "setting cameras[1].maxFps of the hub: `cameras.max_fps` is 5000.0: give a number from 0 to 1000",
        ),
        (
            json!({"cameras": [{"twin_id": "d"}]}),
            "setting cameras[0].twin_id of the hub: there is no such setting, the nearest is `twinId`: correct or remove it",
        ),
        (
            json!({"cameras": [{"twinId": "d", "fps": 3}]}),
            "setting cameras[0].fps of the hub: there is no such setting, the nearest is `maxFps`: correct or remove it",
        ),
        (
            json!({"cameras": [{"name": "Door"}]}),
            "setting cameras[0] of the hub: this camera has no `twin_id`: add the id of the camera's twin",
        ),
        (
            json!({"cameras": ["c", "c"]}),
            "setting cameras[1] of the hub: twin \"c\" with stream \"default\" is already configured at setting cameras[0] of the hub: remove one, or give one another `stream`",
        ),
        (
            json!({"cameras": ["node-1"]}),
            "setting cameras[0] of the hub: `cameras.twin_id` is \"node-1\": give the camera's twin, because this is the node's own",
        ),
        (
            json!({"cameras": [{"twinId": "d", "rtsp": "rtsp://admin:hush@10.0.0.1/"}]}),
            "setting cameras[0].rtsp of the hub: a hub does not set this for a node: remove it, and set `cameras.rtsp` in the node's file",
        ),
        (
            json!({"cameras": ["c", {"twinId": "d", "device": "/dev/video0"}]}),
            "setting cameras[1].device of the hub: a hub does not set this for a node: remove it, and set `cameras.device` in the node's file",
        ),
        (
            json!({"cameras": [{"twinId": "a", "rtspPasswordFile": "/etc/shadow"}]}),
            "setting cameras[0].rtspPasswordFile of the hub: a hub does not set this for a node: remove it, and set `cameras.rtsp_password_file` in the node's file",
        ),
        (
            json!({"cameras": [{"twinId": "a", "rtspUser": "admin"}]}),
            "setting cameras[0].rtspUser of the hub: a hub does not set this for a node: remove it, and set `cameras.rtsp_user` in the node's file",
        ),
        (
            json!({"rtspTransport": "udp"}),
            "setting rtspTransport of the hub: a hub does not set this for a node: remove it, and set `defaults.rtsp_transport` in the node's file",
        ),
        (
            json!({"sinks": [{"type": "webhook", "url": "http://elsewhere/"}]}),
            "setting sinks of the hub: a hub does not set this for a node: remove it, and set `sinks` in the node's file",
        ),
        (
            json!({"cameras": vec!["c"; 257]}),
            "setting cameras of the hub: these are 257 cameras, and a node takes 256 from its hub: remove some",
        ),
    ];
    for (settings, sentence) in table {
        match resolve(FILE, &settings, &[]) {
            Ok(_) => panic!("{settings} should be refused"),
            Err(error) => assert_eq!(error.to_string(), sentence),
        }
    }
}

#[test]
fn whatever_a_hub_sends_the_sentence_is_short_and_one_line() {
    let long = "x".repeat(900_000);
    let forged = "max\n2026-01-01 ERROR \u{1b}[31mforged";
    for settings in [
        json!({long.clone(): 1}),
        json!({forged: 1}),
        json!({"maxFps": long}),
        json!({"maxFps": forged}),
        json!({"model": long.clone() + "/"}),
        json!({"model": long}),
        json!({"classes": [long]}),
        json!({"classes": [forged.repeat(100)]}),
        json!({"classes": vec!["person"; 10_000]}),
        json!({"cameras": [long]}),
        json!({"cameras": [{"twinId": long}]}),
        json!({"cameras": [{"twinId": "a", "name": forged}]}),
        json!({"cameras": [{long.clone(): 1}]}),
        json!({"cameras": [{forged: 1}]}),
        json!({"cameras": [{"twinId": "rtsp://admin:hush@10.0.0.1/"}]}),
        json!({"cameras": [
            {"twinId": "a".repeat(256), "stream": "s".repeat(200)},
            {"twinId": "a".repeat(256), "stream": "s".repeat(200) + "-2"},
        ]}),
        json!({"unknown": vec![long.as_str(); 2]}),
    ] {
        let begun = std::time::Instant::now();
        let error = resolve(FILE, &settings, &[]).unwrap_err().to_string();
        let took = begun.elapsed();
        assert!(error.len() < 1024, "{} bytes", error.len());
        assert!(!error.contains(char::is_control), "{error:?}");
        assert!(!error.contains("hush"), "{error}");
        assert!(took < Duration::from_millis(500), "{took:?} for {error}");
    }
}

#[test]
fn settings_of_any_size_and_depth_are_refused_without_being_read() {
    let mut deep = json!(1);
    for _ in 0..10_000 {
        deep = Value::Array(vec![deep]);
    }
    let wide = Value::Array(vec![json!(1); 1 << 20]);
    for settings in [json!({"classes": wide}), json!({"x": "y".repeat(2 << 20)})] {
        let error = Settings::read(Some(&settings)).unwrap_err().to_string();
        assert_eq!(
            error,
            "setting settings of the hub: these are more than 1048576 bytes of settings: remove what is not needed"
        );
    }
    assert!(Settings::read(Some(&deep)).is_err());
    // Dropping it level by level needs no stack.
    while let Value::Array(mut items) = deep {
        deep = items.pop().unwrap_or_default();
    }
}

mod any {
    use proptest::prelude::*;
    use serde_json::Map;

    use super::*;

    /// What might be credentials behind a blank of several bytes.
    const BLANKS_AND_AN_AT: &str = "[\u{a0}\u{3000} ]?[a-z:]{0,4}@[a-z]{0,4}";

    /// Keys that exist, nearly exist, or do not.
    fn key() -> impl Strategy<Value = String> {
        let known: Vec<String> = DefaultsSection::KEYS
            .iter()
            .chain(CameraSection::KEYS)
            .map(|key| camel_case(key.name))
            .chain(["cameras", "hub", "max_fps"].map(str::to_owned))
            .collect();
        prop_oneof![
            4 => proptest::sample::select(known),
            1 => any::<String>(),
            1 => "[a-zA-Z_]{0,80}",
            1 => BLANKS_AND_AN_AT,
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            BLANKS_AND_AN_AT.prop_map(Value::from),
            Just(json!("a")),
            Just(json!("rtsp://admin:hush@h")),
        ];
        leaf.prop_recursive(3, 24, 6, |inner| {
            let fields = proptest::collection::vec((key(), inner.clone()), 0..6);
            prop_oneof![
                proptest::collection::vec(inner, 0..6).prop_map(Value::Array),
                fields.prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    fn settings() -> impl Strategy<Value = Value> {
        let fields = proptest::collection::vec((key(), value()), 0..5);
        fields.prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>()))
    }

    /// What holds of every sentence.
    fn check(result: Result<Config, ConfigError>) -> Result<(), TestCaseError> {
        if let Err(error) = result {
            let error = error.to_string();
            prop_assert!(error.len() < 1024 + 512, "{} bytes", error.len());
            prop_assert!(!error.contains(char::is_control), "{:?}", error);
            prop_assert!(!error.contains("hush"), "{}", error);
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn settings_never_panic(settings in settings()) {
            let begun = std::time::Instant::now();
            check(resolve(FILE, &settings, &[]))?;
            prop_assert!(begun.elapsed() < Duration::from_secs(1));
        }

        #[test]
        fn a_mutated_file_never_panics(
            at in 0_usize..4096, cut in 0_usize..40,
            piece in prop_oneof![any::<String>(), "[\\[\\]\"=a-z_\n0-9.]{0,20}"],
        ) {
            let text = include_str!("../../config/node.toml");
            let floor = |mut at: usize| {
                at = at.min(text.len());
                while !text.is_char_boundary(at) {
                    at -= 1;
                }
                at
            };
            let mutated = format!("{}{piece}{}", &text[..floor(at)], &text[floor(at + cut)..]);
            let begun = std::time::Instant::now();
            check(resolve(&mutated, &json!(null), &[]))?;
            prop_assert!(begun.elapsed() < Duration::from_secs(1));
        }
    }
}

#[test]
fn names_are_those_of_the_file_in_camel_case() {
    let keys = DefaultsSection::KEYS.iter().chain(CameraSection::KEYS);
    for key in keys {
        assert_eq!(snake_case(&camel_case(key.name)), key.name);
    }
    for key in DEFAULTS {
        assert!(DefaultsSection::KEYS.iter().any(|known| known.name == *key));
    }
}

#[test]
fn keys_that_need_a_restart_are_named() {
    let config =
        |text: &str, variables: &[(&str, &str)]| resolve(text, &json!(null), variables).unwrap();
    let started = config("", &[]);
    let cameras = config("[defaults]\nmax_fps = 1\n[[cameras]]\ntwin_id = \"a\"", &[]);
    assert!(cameras.keys_for_a_restart(&started).is_empty());
    let dir = TempDir::new().unwrap();
    let with_key = |key: &str| {
        let file = dir.path().join("key");
        fs::write(&file, key).unwrap();
        config(&format!("[hub]\naccess_key_file = {file:?}"), &[])
    };
    let rotated = with_key("new").keys_for_a_restart(&with_key("old"));
    assert!(rotated.is_empty(), "the hub client follows it: {rotated:?}");
    assert_eq!(
        with_key("new").keys_for_a_restart(&started),
        ["hub.access_key_file"]
    );
    let headers = dir.path().join("headers");
    fs::write(&headers, "X-Team: a").unwrap();
    let headers = headers.to_str().unwrap().to_owned();
    let all = config(
        "[hub]\nmode = \"simulator\"\nurl = \"http://h\"\ntwin_id = \"n\"\ndevice_id = \"d\"\nca_file = \"c\"\n\
         [ice]\npolicy = \"relay\"\ninterfaces = [\"e\"]\nudp_ports = \"5000\"\nnat_1to1_ips = [\"10.0.0.1\"]\n\
         mdns = true\nrecv_buffer_bytes = 65536\n[http]\nlisten = \"127.0.0.1:1\"\nedit = true\n\
         [runtime]\nlibrary = \"l\"\nexecution_providers = [\"cuda\"]\nthreads = 2\nmodels_dir = \"m\"\n\
         [telemetry]\ntrace_sample_ratio = 1.0\notlp_ca_file = \"c\"\n\
         [models.m]\nbackend = \"kserve\"\nurl = \"grpc://s\"\n[node]\ncapacity = 20\n\
         [[sinks]]\ntype = \"mqtt\"\nurl = \"mqtt://b\"\n",
        &[
            ("TWIN_ID", "node-2"),
            ("TWINSIGHT_HTTP__TOKEN", "hush"),
            ("ACCESS_KEY", "hush"),
            ("TWINSIGHT_TELEMETRY__OTLP_HEADERS_FILE", &headers),
            // Only a build with the feature takes an endpoint.
            (
                "TWINSIGHT_TELEMETRY__OTLP_ENDPOINT",
                if cfg!(feature = "otlp") {
                    "http://c"
                } else {
                    ""
                },
            ),
        ],
    );
    let keys = all.keys_for_a_restart(&started);
    let missing: Vec<_> = super::super::file::keys()
        .filter(|key| {
            let section = key.section.split('.').next().unwrap();
            !["defaults", "cameras", "models", "node", "sinks"].contains(&section)
        })
        .map(|key| format!("{}.{}", key.section, key.name))
        // These hold as a whole.
        .chain(["models", "node", "sinks"].map(str::to_owned))
        // The region is a way to give the url.
        .filter(|key| cfg!(feature = "otlp") || key != "telemetry.otlp_endpoint")
        .filter(|key| key != "hub.region" && !keys.contains(&key.as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
