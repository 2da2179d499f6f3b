//! Each source of a value, no secret in the text of the JSON, and every key of the file.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::super::env::Env;
use super::super::file;
use super::super::resolve::ConfigSource;
use super::super::settings::Settings;
use super::*;

/// What is in force with a file, variables and settings of the hub.
fn in_force(text: &str, variables: &[(&str, &str)], settings: Value) -> ConfigInForce {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("node.toml");
    fs::write(&path, text).unwrap();
    let (source, settings) = (source(&path, variables), settings_of(settings));
    let config = source.resolve(&settings).unwrap();
    source.in_force(&settings, &config)
}

fn source(path: &Path, variables: &[(&str, &str)]) -> ConfigSource {
    let env: Env = [("TWIN_ID", "node-1")]
        .iter()
        .chain(variables)
        .copied()
        .collect();
    ConfigSource::read(Some(path), &env).unwrap()
}

fn settings_of(settings: Value) -> Settings {
    Settings::read(Some(&settings)).unwrap()
}

fn entry(section: &SectionInForce, key: &str) -> Value {
    serde_json::to_value(section.get(key).unwrap()).unwrap()
}

#[test]
fn every_key_of_the_file_is_there_in_its_order() {
    let all = in_force("[[cameras]]\ntwin_id = \"cam\"", &[], Value::Null);
    let extra = [
        "access_key",
        "token",
        "stun_url",
        "turn_url",
        "turn_username",
        "turn_credential",
    ];
    for (section, keys) in [
        ("hub", &all.hub),
        ("ice", &all.ice),
        ("http", &all.http),
        ("node", &all.node),
        ("runtime", &all.runtime),
        ("telemetry", &all.telemetry),
        ("defaults", &all.defaults),
        ("cameras", &all.cameras[0]),
    ] {
        let mut known: Vec<String> = file::keys()
            .filter(|key| key.section == section)
            .map(|key| key.name.to_owned())
            .collect();
        if ["defaults", "cameras"].contains(&section) {
            let track = file::keys().filter(|key| key.section == "defaults.track");
            known.extend(track.map(|key| format!("track.{}", key.name)));
        }
        if section == "node" {
            for table in ["shard", "lease"] {
                let inner = format!("node.{table}");
                let keys = file::keys().filter(|key| key.section == inner);
                known.extend(keys.map(|key| format!("{table}.{}", key.name)));
            }
        }
        if section == "cameras" {
            known.extend(["zones", "lines", "masks"].map(str::to_owned));
        }
        let shown: Vec<&str> = keys.keys().filter(|key| !extra.contains(key)).collect();
        assert_eq!(shown, known, "{section}");
    }
    let json = serde_json::to_value(&all).unwrap();
    let sections: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(sections.len(), file::File::SECTIONS.len());
    for section in file::File::SECTIONS {
        assert!(json.get(section).is_some(), "{section}");
    }
}

#[test]
fn each_value_says_where_it_came_from() {
    let text = "[hub]\nurl = \"http://hub.example:1\"\n\n[defaults]\nmax_age_ms = 250\nmin_score = 0.3\n\
                [[cameras]]\ntwin_id = \"cam\"\nmax_fps = 3.0\n[[cameras]]\ntwin_id = \"other\"\n";
    let variables = [
        (
            "PHYSTACK_SIMULATOR_URL",
            "http://user:hush@sim.example:2/?token=hush",
        ),
        ("TWINSIGHT_RUNTIME__THREADS", "3"),
        ("ORT_DYLIB_PATH", "/lib/ort.so"),
    ];
    let all = in_force(text, &variables, json!({"minScore": 0.6, "maxFps": 5}));
    assert_eq!(
        entry(&all.hub, "url"),
        json!({"value": "http://***@sim.example:2/?***", "source": "env", "where": "PHYSTACK_SIMULATOR_URL"})
    );
    assert_eq!(
        entry(&all.hub, "mode"),
        json!({"value": "simulator", "source": "env", "where": "PHYSTACK_SIMULATOR_URL"})
    );
    assert_eq!(
        entry(&all.hub, "twin_id"),
        json!({"value": "node-1", "source": "env", "where": "TWIN_ID"})
    );
    assert_eq!(
        entry(&all.runtime, "threads"),
        json!({"value": 3, "source": "env", "where": "TWINSIGHT_RUNTIME__THREADS"})
    );
    assert_eq!(
        entry(&all.runtime, "library"),
        json!({"value": "/lib/ort.so", "source": "env", "where": "ORT_DYLIB_PATH"})
    );
    assert_eq!(
        entry(&all.http, "listen"),
        json!({"value": "127.0.0.1:9464", "source": "default", "where": null})
    );
    assert_eq!(
        entry(&all.defaults, "max_age_ms"),
        json!({"value": 250, "source": "file", "where": "line 5"})
    );
    assert_eq!(
        entry(&all.defaults, "min_score"),
        json!({"value": 0.6, "source": "hub", "where": "minScore"})
    );
    let [cam, other] = all.cameras.as_slice() else {
        panic!("{:?}", all.cameras)
    };
    assert_eq!(
        entry(cam, "max_fps"),
        json!({"value": 3.0, "source": "file", "where": "line 9", "from": "camera"})
    );
    assert_eq!(
        entry(other, "max_fps"),
        json!({"value": 5.0, "source": "hub", "where": "maxFps", "from": "defaults"})
    );
    assert_eq!(
        entry(other, "max_age_ms"),
        json!({"value": 250, "source": "file", "where": "line 5", "from": "defaults"})
    );
    assert_eq!(
        entry(other, "emit_empty"),
        json!({"value": true, "source": "default", "where": null, "from": "builtIn"})
    );
    assert_eq!(entry(other, "name")["value"], "other");
}

#[test]
fn cameras_that_the_hub_or_a_variable_lists_say_so() {
    let text = "[hub]\nmode = \"phyos\"\n[[cameras]]\ntwin_id = \"cam\"\nmax_fps = 3.0\n";
    let listed = json!({"cameras": ["cam", {"twinId": "new", "maxFps": 2, "stream": "wide"}]});
    let all = in_force(text, &[], listed.clone());
    let [cam, new] = all.cameras.as_slice() else {
        panic!("{:?}", all.cameras)
    };
    assert_eq!(
        entry(cam, "twin_id"),
        json!({"value": "cam", "source": "hub", "where": "cameras[0]", "from": "camera"})
    );
    assert_eq!(entry(cam, "max_fps")["where"], "line 5");
    assert_eq!(
        entry(new, "max_fps"),
        json!({"value": 2.0, "source": "hub", "where": "cameras[1].maxFps", "from": "camera"})
    );
    assert_eq!(entry(new, "stream")["value"], "wide");
    let all = in_force(text, &[("TWINSIGHT_CAMERAS", "third,cam")], listed);
    assert_eq!(
        entry(&all.cameras[0], "twin_id"),
        json!({"value": "third", "source": "env", "where": "TWINSIGHT_CAMERAS", "from": "camera"})
    );
    assert_eq!(all.cameras.len(), 2);
}

#[test]
fn no_secret_is_in_the_json() {
    let folder = TempDir::new().unwrap();
    let (key, token) = (folder.path().join("key"), folder.path().join("token"));
    fs::write(&key, "hush-of-the-device\n").unwrap();
    fs::write(&token, "hush-of-the-api\n").unwrap();
    let path = folder.path().join("node.toml");
    let text = format!(
        "[hub]\nmode = \"direct\"\nregion = \"eu\"\ndevice_id = \"dev\"\naccess_key_file = \"{}\"\n[http]\ntoken_file = \"{}\"\n\
         [[cameras]]\ntwin_id = \"cam\"\nname = \"rtsp://admin:hush@10.0.0.1/\"\n",
        key.display(),
        token.display()
    );
    fs::write(&path, &text).unwrap();
    let turn = [
        ("PHYSTACK_TURN_URL", "turn:turn.example:3478"),
        ("PHYSTACK_TURN_USERNAME", "hush-name"),
        ("PHYSTACK_TURN_CREDENTIAL", "hush-word"),
    ];
    let read = |variables: &[(&str, &str)]| {
        let (source, settings) = (source(&path, variables), Settings::default());
        let all = source.in_force(&settings, &source.resolve(&settings).unwrap());
        let json = serde_json::to_string(&all).unwrap();
        assert!(!json.contains("hush"), "{json}");
        all
    };
    let all = read(&turn);
    assert_eq!(
        entry(&all.hub, "access_key_file"),
        json!({"value": key.to_str(), "source": "file", "where": "line 5"})
    );
    assert_eq!(
        entry(&all.hub, "access_key"),
        json!({"value": null, "source": "file", "where": "line 5", "secret": true, "set": true})
    );
    assert_eq!(entry(&all.hub, "region")["value"], "eu");
    assert_eq!(entry(&all.hub, "url")["where"], "line 3");
    // In direct mode the hub says which twin the node is.
    assert_eq!(
        entry(&all.hub, "twin_id"),
        json!({"value": null, "source": "default", "where": null})
    );
    assert_eq!(entry(&all.http, "token")["set"], true);
    assert_eq!(
        entry(&all.ice, "turn_credential"),
        json!({"value": null, "source": "env", "where": "PHYSTACK_TURN_CREDENTIAL", "secret": true, "set": true})
    );
    assert_eq!(
        entry(&all.ice, "policy"),
        json!({"value": "relay", "source": "env", "where": "PHYSTACK_TURN_URL"})
    );
    assert_eq!(
        entry(&all.cameras[0], "name")["value"],
        "rtsp://***@10.0.0.1/"
    );

    let all = read(&[
        ("ACCESS_KEY", "hush-too"),
        ("TWINSIGHT_HTTP__TOKEN", "hush-more"),
    ]);
    assert_eq!(
        entry(&all.hub, "access_key"),
        json!({"value": null, "source": "env", "where": "ACCESS_KEY", "secret": true, "set": true})
    );
    assert_eq!(
        entry(&all.hub, "access_key_file"),
        json!({"value": null, "source": "default", "where": null})
    );
    assert_eq!(entry(&all.http, "token")["where"], "TWINSIGHT_HTTP__TOKEN");
    assert_eq!(
        entry(&all.ice, "turn_credential"),
        json!({"value": null, "source": "default", "where": null, "secret": true, "set": false})
    );
}

#[test]
fn sinks_and_ip_cameras_are_shown_without_their_secrets() {
    let folder = TempDir::new().unwrap();
    let secret = |name: &str| {
        let file = folder.path().join(name);
        fs::write(&file, format!("hush-of-{name}\n")).unwrap();
        file.display().to_string()
    };
    let (broker, hook, camera) = (secret("broker"), secret("hook"), secret("camera"));
    let text = format!(
        "[[sinks]]\ntype = \"mqtt\"\nurl = \"mqtts://broker\"\nusername = \"node\"\npassword_file = \"{broker}\"\n\
         [[sinks]]\ntype = \"webhook\"\nurl = \"https://host/hush-in-the-path?t=hush\"\nsecret_file = \"{hook}\"\n\
         [defaults]\nrtsp_user = \"viewer\"\nrtsp_password_file = \"{camera}\"\n\
         [[cameras]]\ntwin_id = \"one\"\nrtsp = \"rtsp://admin:hush-of-one@10.0.0.1/s\"\n\
         [[cameras]]\ntwin_id = \"two\"\nrtsp = \"rtsp://10.0.0.2/s\"\nrtsp_transport = \"udp\"\n"
    );
    let all = in_force(&text, &[], Value::Null);
    let json = serde_json::to_string(&all).unwrap();
    assert!(!json.contains("hush"), "{json}");
    assert_eq!(
        entry(&all.sinks[0], "url"),
        json!({"value": "mqtts://broker:8883", "source": "file", "where": "line 3"})
    );
    assert_eq!(entry(&all.sinks[0], "password_file")["value"], broker);
    assert_eq!(
        entry(&all.sinks[0], "qos"),
        json!({"value": 1, "source": "default", "where": null})
    );
    assert_eq!(entry(&all.sinks[1], "name")["value"], "webhook");
    assert_eq!(
        entry(&all.sinks[1], "url"),
        json!({"value": null, "source": "file", "where": "line 8", "secret": true, "set": true})
    );
    assert_eq!(entry(&all.sinks[1], "secret_file")["value"], hook);
    // Each has the keys of its type, and both together have all.
    let mut shown: Vec<&str> = all.sinks.iter().flat_map(SectionInForce::keys).collect();
    let mut known: Vec<&str> = file::keys()
        .filter(|key| key.section == "sinks")
        .map(|key| key.name)
        .collect();
    shown.sort_unstable();
    shown.dedup();
    known.sort_unstable();
    assert_eq!(shown, known);

    let of_camera = |n: usize, key: &str| entry(&all.cameras[n], key)["value"].clone();
    assert_eq!(of_camera(0, "rtsp"), "rtsp://10.0.0.1/s");
    assert_eq!(of_camera(0, "rtsp_user"), "admin");
    assert_eq!(of_camera(0, "rtsp_transport"), "tcp");
    assert_eq!(of_camera(1, "rtsp_user"), "viewer");
    assert_eq!(of_camera(1, "rtsp_password_file"), camera);
    assert_eq!(
        entry(&all.cameras[1], "rtsp_transport"),
        json!({"value": "udp", "source": "file", "where": "line 19", "from": "camera"})
    );
}

#[test]
fn sinks_stay_as_they_were_until_a_restart() {
    let sink = |name: &str| {
        format!("[[sinks]]\ntype = \"webhook\"\nname = \"{name}\"\nurl = \"http://host/\"\n")
    };
    let then = in_force(&sink("then"), &[], Value::Null);
    let now = in_force(&(sink("now") + &sink("more")), &[], Value::Null);
    let held = now.until_a_restart(&then, &["sinks"]);
    assert_eq!(held.sinks.len(), 1);
    let name = entry(&held.sinks[0], "name");
    assert_eq!(
        (&name["value"], &name["pendingRestart"]),
        (&json!("then"), &json!(true))
    );
}

#[test]
fn a_key_that_needs_a_restart_stays_as_it_was_and_is_marked() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("node.toml");
    let settings = Settings::default();
    let read = |text: &str| {
        fs::write(&path, text).unwrap();
        let source = source(&path, &[]);
        let config = source.resolve(&settings).unwrap();
        (source.in_force(&settings, &config), config)
    };
    let (then, started) = read("[hub]\nurl = \"http://one:1\"\n[defaults]\nmax_fps = 3.0\n");
    let (now, config) =
        read("[hub]\nurl = \"http://two:2\"\n[runtime]\nthreads = 2\n[defaults]\nmax_fps = 4.0\n");
    let now = now.until_a_restart(&then, &config.keys_for_a_restart(&started));
    assert_eq!(
        entry(&now.hub, "url"),
        json!({"value": "http://one:1", "source": "file", "where": "line 2", "pendingRestart": true})
    );
    assert_eq!(
        entry(&now.runtime, "threads"),
        json!({"value": 0, "source": "default", "where": null, "pendingRestart": true})
    );
    assert!(entry(&now.hub, "region").get("pendingRestart").is_none());
    assert_eq!(entry(&now.defaults, "max_fps")["value"], 4.0);
}

#[test]
fn a_refusal_says_when_in_milliseconds() {
    let refusal = Refusal {
        at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_348_123_837),
        source: RefusalSource::Hub,
        reason: "setting maxFps of the hub: no".to_owned(),
    };
    assert_eq!(
        serde_json::to_value(refusal).unwrap(),
        json!({"at": 1_795_348_123_837_u64, "source": "hub", "reason": "setting maxFps of the hub: no"})
    );
}
