//! Whole sentences of every error, precedence, and what a full file comes to.

use std::fs;
use std::time::Duration;

use tempfile::TempDir;

use twinsight_media::codec::Codec;

use super::super::values::Connect;
use super::*;
use twinsight_client::hub::{HubMode, HubOptions};

pub(in crate::config) const NODE: &[(&str, &str)] = &[("TWIN_ID", "node-1")];

pub(in crate::config) fn env(variables: &[(&str, &str)]) -> Env {
    variables.iter().copied().collect()
}

/// Loads a file with the given text under the name `node.toml`.
pub(in crate::config) fn load(
    text: &str,
    variables: &[(&str, &str)],
) -> Result<Config, ConfigError> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("node.toml");
    fs::write(&path, text).unwrap();
    Config::load(Some(&path), &env(variables))
}

/// The error's sentence, without the folder of the test.
pub(in crate::config) fn sentence(text: &str, variables: &[(&str, &str)]) -> String {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("node.toml");
    fs::write(&path, text).unwrap();
    match Config::load(Some(&path), &env(variables)) {
        Ok(config) => panic!("loads, but should not:\n{text}\n{config:?}"),
        Err(error) => error
            .to_string()
            .replace(&format!("{}/", dir.path().display()), ""),
    }
}

#[test]
fn every_mistake_in_the_file_has_its_sentence() {
    let table = [
        (
            "[http]\nlisten = ",
            "node.toml line 2: this is not TOML (string values must be quoted, expected literal string): correct the line",
        ),
        (
            "[http]\nlisten = \"a\"\nlisten = \"b\"",
            "node.toml line 3: this is not TOML (duplicate key): correct the line",
        ),
        (
            "[http]\n\nlisen = \"127.0.0.1:1\"",
            "node.toml line 3: there is no key `http.lisen`, the nearest is `http.listen`: correct or remove it",
        ),
        (
            "[htpp]\nlisten = \"127.0.0.1:1\"",
            "node.toml line 1: there is no key `htpp`, the nearest is `http`: correct or remove it",
        ),
        (
            "max_fps = 3",
            "node.toml line 1: there is no key `max_fps`, the nearest is `defaults.max_fps`: correct or remove it",
        ),
        (
            "[[cameras]]\ntwin_id = \"a\"\n[[cameras]]\ntwin_id = \"b\"\nmaxfps = 3",
            "node.toml line 5: there is no key `cameras.maxfps`, the nearest is `cameras.max_fps`: correct or remove it",
        ),
        (
            "[[cameras]]\ntwin_id = \"a\"\n[[cameras.masks]]\nname = \"tree\"",
            "node.toml line 4: there is no key `cameras.masks.name`, since a mask has no name: remove it",
        ),
        (
            "[[cameras]]\ntwin_id = \"a\"\n[[cameras.lines]]\ntopic = \"x\"",
            "node.toml line 4: there is no key `cameras.lines.topic`: correct or remove it",
        ),
        (
            "[[cameras]]\ntwin_id = \"a\"\n[[cameras.lines]]\npoints = [[0, 0], [1, 1]]",
            "node.toml line 4: there is no key `cameras.lines.points`, the nearest is `cameras.zones.points`: correct or remove it",
        ),
        (
            "[hub]\nlisten = \"x\"",
            "node.toml line 2: there is no key `hub.listen`: correct or remove it",
        ),
        (
            "[[cameras]]\ntwin_id = \"a\"\ntrack.confrm_ms = 5",
            "node.toml line 3: there is no key `cameras.track.confrm_ms`, the nearest is `cameras.track.confirm_ms`: correct or remove it",
        ),
        (
            "[[cameras]]\ntwin_id = \"a\"\n[cameras.track]\nconfirm_ms = \"soon\"",
            "node.toml line 4: `cameras.track.confirm_ms` takes a whole number, and this is the text \"soon\": correct it",
        ),
        (
            "[defaults.track]\nmax_fps = 3",
            "node.toml line 2: there is no key `defaults.track.max_fps`, the nearest is `defaults.max_fps`: correct or remove it",
        ),
        (
            "[hub]\naccess_key = \"hush\"",
            "node.toml line 2: `hub.access_key` does not belong in this file: write the secret into a file of its own, and the path to that into `hub.access_key_file`",
        ),
        (
            "[http]\ntoken = \"hush\"",
            "node.toml line 2: `http.token` does not belong in this file: write the secret into a file of its own, and the path to that into `http.token_file`",
        ),
        (
            "[defaults]\nmax_fps = \"fast\"",
            "node.toml line 2: `defaults.max_fps` takes a number, and this is the text \"fast\": correct it",
        ),
        (
            "[defaults]\nmax_age_ms = 0.5",
            "node.toml line 2: `defaults.max_age_ms` takes a whole number, and this is the number 0.5: correct it",
        ),
        (
            "[defaults]\nemit_empty = 1",
            "node.toml line 2: `defaults.emit_empty` takes true or false, and this is the number 1: correct it",
        ),
        (
            "[defaults]\nclasses = \"person\"",
            "node.toml line 2: `defaults.classes` takes a list of texts, and this is the text \"person\": correct it",
        ),
        (
            "[defaults]\nclasses = [\n\"person\",\n7]",
            "node.toml line 4: `defaults.classes` takes a list of texts, and this is the number 7: correct it",
        ),
        (
            "[defaults]\nmodel = true",
            "node.toml line 2: `defaults.model` takes a text, and this is true: correct it",
        ),
        (
            "[defaults]\nmodel = [1]",
            "node.toml line 2: `defaults.model` takes a text, and this is a list: correct it",
        ),
        (
            "hub = 3",
            "node.toml line 1: `hub` takes a [table], and this is the number 3: correct it",
        ),
        (
            "[cameras]\ntwin_id = \"a\"",
            "node.toml line 1: `cameras` takes [[cameras]] tables, and this is a table: correct it",
        ),
        (
            "[defaults]\nmax_fps = -1",
            "node.toml line 2: `defaults.max_fps` is -1.0: give a number from 0 to 1000",
        ),
        (
            "[defaults]\nmax_fps = nan",
            "node.toml line 2: `defaults.max_fps` is NaN: give a number from 0 to 1000",
        ),
        (
            "[defaults]\nmax_age_ms = -5",
            "node.toml line 2: `defaults.max_age_ms` is -5: give a whole number from 1 to 60000",
        ),
        (
            "[defaults]\nmin_score = 40",
            "node.toml line 2: `defaults.min_score` is 40.0: give a number from 0 to 1",
        ),
        (
            "[defaults]\nconnect = \"both\"",
            "node.toml line 2: `defaults.connect` is \"both\": give \"dial\" or \"accept\"",
        ),
        (
            "[defaults]\ndialect = \"old\"",
            "node.toml line 2: `defaults.dialect` is \"old\": give \"current\" or \"legacy\"",
        ),
        (
            "[defaults]\nclasses = [\"\"]",
            "node.toml line 2: `defaults.classes` is [\"\"]: give a list of the model's labels",
        ),
        (
            "[defaults]\nmodel = \"../secret\"",
            "node.toml line 2: `defaults.model` is \"../secret\": give a name of letters, digits, `_`, `-` and `.`, without folder and ending",
        ),
        (
            "[defaults]\nstream = \"a:b\"",
            "node.toml line 2: `defaults.stream` is \"a:b\": give 1 to 256 characters without blanks and colons",
        ),
        (
            "[[cameras]]\ntwin_id = \"a\"\nmin_score = 1.5",
            "node.toml line 3: `cameras.min_score` is 1.5: give a number from 0 to 1",
        ),
        (
            "[[cameras]]\ntwin_id = \"front door\"",
            "node.toml line 2: `cameras.twin_id` is \"front door\": give 1 to 256 characters without blanks",
        ),
        (
            "[[cameras]]\ntwin_id = \"node-1\"",
            "node.toml line 2: `cameras.twin_id` is \"node-1\": give the camera's twin, because this is the node's own",
        ),
        (
            "[[cameras]]\ntwin_id = \"a\"\nname = \" \"",
            "node.toml line 3: `cameras.name` is \" \": give 1 to 256 characters in one line",
        ),
        (
            "\n[[cameras]]\nname = \"Yard\"",
            "node.toml line 2: this camera has no `twin_id`: add the id of the camera's twin",
        ),
        (
            "[[cameras]]\ntwin_id = \"a\"\n\n[[cameras]]\ntwin_id = \"a\"",
            "node.toml line 4: twin \"a\" with stream \"default\" is already configured at node.toml line 1: remove one, or give one another `stream`",
        ),
        (
            "[[cameras]]\ntwin_id = \"a\"\nstream = \"default-2\"\n[[cameras]]\ntwin_id = \"a\"",
            "node.toml line 4: stream \"default-2\" of twin \"a\" begins with \"default-\", and a camera armed for \"default\" would answer both: rename one",
        ),
        (
            "[http]\nlisten = \"9464\"",
            "node.toml line 2: `http.listen` is \"9464\": give address and port as in \"127.0.0.1:9464\"",
        ),
        (
            "[http]\ntoken_file = \"/nonexistent/token\"",
            "node.toml line 2: the file /nonexistent/token of `http.token_file` cannot be read (No such file or directory (os error 2)): create it, readable by the node",
        ),
        (
            "[http]\ntoken_file = \"\"",
            "node.toml line 2: `http.token_file` is \"\": give a path",
        ),
        (
            "[http]\ntoken_file = \"/dev/null\"",
            "node.toml line 2: the file /dev/null of `http.token_file` is not one line of visible ASCII: write only the secret into it",
        ),
        (
            "[http]\ntoken_file = \"/dev/zero\"",
            "node.toml line 2: the file /dev/zero of `http.token_file` cannot be read (it is not a regular file): create it, readable by the node",
        ),
        (
            "[hub]\nca_file = \"\"",
            "node.toml line 2: `hub.ca_file` is \"\": give a path",
        ),
        (
            "[hub]\nmode = \"cloud\"",
            "node.toml line 2: `hub.mode` is \"cloud\": give \"direct\" or \"simulator\" or \"phyos\" or \"none\"",
        ),
        (
            "[hub]\nurl = \"phyos:55000\"",
            "node.toml line 2: `hub.url` is \"phyos:55000\": give an address like \"https://hub.example\"",
        ),
        (
            "[hub]\nmode = \"direct\"\nregion = \"mars\"",
            "node.toml line 3: `hub.region` is \"mars\": give one of eu, us, uae, au, in, qa, dev, local; the node has no device id, and direct mode needs one: set DEVICE_ID, TWINSIGHT_HUB__DEVICE_ID or `hub.device_id`; the node has no access key, and direct mode needs one: set ACCESS_KEY, or name its file with `hub.access_key_file`",
        ),
        (
            "[hub]\nmode = \"direct\"",
            "the hub has no address, and direct mode needs one: set PHYHUB_URL, TWINSIGHT_HUB__URL or `hub.url`; the node has no device id, and direct mode needs one: set DEVICE_ID, TWINSIGHT_HUB__DEVICE_ID or `hub.device_id`; the node has no access key, and direct mode needs one: set ACCESS_KEY, or name its file with `hub.access_key_file`",
        ),
        (
            "[hub]\nmode = \"simulator\"",
            "the hub has no address, and simulator mode needs one: set PHYSTACK_SIMULATOR_URL, TWINSIGHT_HUB__URL or `hub.url`",
        ),
        (
            "[hub]\nmode = \"direct\"\nregion = \"eu\"\naccess_key_file = \"Cargo.toml\"",
            "node.toml line 4: the file Cargo.toml of `hub.access_key_file` is not one line of visible ASCII: write only the secret into it; the node has no device id, and direct mode needs one: set DEVICE_ID, TWINSIGHT_HUB__DEVICE_ID or `hub.device_id`",
        ),
        (
            "[hub]\nmode = \"direct\"\nregion = \"eu\"\ndevice_id = \"d\"",
            "the node has no access key, and direct mode needs one: set ACCESS_KEY, or name its file with `hub.access_key_file`",
        ),
        (
            "[ice]\npolicy = \"none\"",
            "node.toml line 2: `ice.policy` is \"none\": give \"all\" or \"relay\"",
        ),
        (
            "[ice]\nudp_ports = \"50100-50000\"",
            "node.toml line 2: `ice.udp_ports` is \"50100-50000\": give first and last port as in \"50000-50100\"",
        ),
        (
            "[ice]\nudp_ports = \"50000\"\n[[cameras]]\ntwin_id = \"a\"\n[[cameras]]\ntwin_id = \"b\"",
            "node.toml line 2: `ice.udp_ports` has 1 ports for 2 camera streams, and each needs one: widen it",
        ),
        (
            "[ice]\nnat_1to1_ips = [\"home\"]",
            "node.toml line 2: `ice.nat_1to1_ips` is [\"home\"]: give a list of IP addresses",
        ),
        (
            "[ice]\nrecv_buffer_bytes = 1",
            "node.toml line 2: `ice.recv_buffer_bytes` is 1: give a whole number from 65536 to 67108864",
        ),
        (
            "[runtime]\nthreads = 2000",
            "node.toml line 2: `runtime.threads` is 2000: give a whole number from 0 to 1024",
        ),
        (
            "[runtime]\nexecution_providers = [\"gpu\"]",
            "node.toml line 2: `runtime.execution_providers` is [\"gpu\"]: give a list of cpu, cuda, tensorrt, openvino, xnnpack, coreml",
        ),
        (
            "[runtime]\nlibrary = \"\"",
            "node.toml line 2: `runtime.library` is \"\": give a path",
        ),
    ];
    let mut wrong = String::new();
    for (text, expected) in table {
        let found = sentence(text, NODE);
        if found != expected {
            wrong += &format!("\n{text}\n  expected: {expected}\n  found:    {found}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn codecs_are_what_the_build_decodes() {
    let (all, list) = if cfg!(feature = "vp8") {
        (&[Codec::H264, Codec::Vp8][..], "[\"h264\", \"vp8\"]")
    } else {
        (&[Codec::H264][..], "[\"h264\"]")
    };
    let refused = |codecs: &str| sentence(&format!("[defaults]\ncodecs = {codecs}"), NODE);
    for codecs in ["[\"h264\", \"vp9\"]", "[]"] {
        assert_eq!(
            refused(codecs),
            format!(
                "node.toml line 2: `defaults.codecs` is {codecs}: give {list}, what this build decodes"
            )
        );
    }
    let loaded = |codecs: &str| {
        let given = [
            ("TWINSIGHT_CAMERAS", "a"),
            ("TWINSIGHT_DEFAULTS__CODECS", codecs),
        ];
        let variables = [NODE, &given].concat();
        let config = Config::load(None, &env(&variables)).unwrap();
        config.cameras[0].codecs.clone()
    };
    assert_eq!(loaded(""), all);
    assert_eq!(loaded("h264"), [Codec::H264]);
    if cfg!(feature = "vp8") {
        assert_eq!(loaded("vp8,h264"), [Codec::Vp8, Codec::H264]);
    } else {
        assert_eq!(
            refused("[\"vp8\"]"),
            "node.toml line 2: `defaults.codecs` is [\"vp8\"]: give [\"h264\"], what this build decodes; for `vp8` build it with the feature `vp8`"
        );
    }
}

#[test]
fn every_mistake_in_a_variable_has_its_sentence() {
    let table: [(&[(&str, &str)], &str); 9] = [
        (
            &[("TWINSIGHT_HTP__LISTEN", "x")],
            "variable TWINSIGHT_HTP__LISTEN: there is no such setting, the nearest is `TWINSIGHT_HTTP__LISTEN`: correct or unset it",
        ),
        (
            &[("TWINSIGHT_CAMERA", "a")],
            "variable TWINSIGHT_CAMERA: there is no such setting, the nearest is `TWINSIGHT_CAMERAS`: correct or unset it",
        ),
        (
            &[("TWINSIGHT_DEFAULTS__MAX_FPS", "fast")],
            "variable TWINSIGHT_DEFAULTS__MAX_FPS: `defaults.max_fps` takes a number, and this is the text \"fast\": correct it",
        ),
        (
            &[("TWINSIGHT_DEFAULTS__MAX_FPS", "2000")],
            "variable TWINSIGHT_DEFAULTS__MAX_FPS: `defaults.max_fps` is 2000.0: give a number from 0 to 1000",
        ),
        (
            &[("TWINSIGHT_CAMERAS", "a, b,a")],
            "variable TWINSIGHT_CAMERAS: twin \"a\" with stream \"default\" is already configured at variable TWINSIGHT_CAMERAS: remove one, or give one another `stream`",
        ),
        (
            &[("PHYSTACK_SIMULATOR_URL", "hub:3000")],
            "variable PHYSTACK_SIMULATOR_URL: `hub.url` is \"hub:3000\": give an address like \"https://hub.example\"",
        ),
        (
            &[("PHYSTACK_TURN_URL", "https://turn.example")],
            "variable PHYSTACK_TURN_URL: `PHYSTACK_TURN_URL` is \"https://turn.example\": give an address like \"turn:server.example:3478\"",
        ),
        (
            &[("ACCESS_KEY", "two words")],
            "variable ACCESS_KEY: this is not one line of visible ASCII: set only the secret",
        ),
        (
            &[("TWINSIGHT_HTTP__TOKEN_FILE", "/nonexistent")],
            "variable TWINSIGHT_HTTP__TOKEN_FILE: the file /nonexistent of `http.token_file` cannot be read (No such file or directory (os error 2)): create it, readable by the node",
        ),
    ];
    for (variables, expected) in table {
        let all: Vec<_> = NODE.iter().chain(variables).copied().collect();
        assert_eq!(sentence("", &all), expected);
    }
}

#[test]
fn a_missing_file_and_a_missing_twin_id_have_their_sentences() {
    let error = Config::load(Some(Path::new("/nonexistent/node.toml")), &env(NODE)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/nonexistent/node.toml: cannot be read (No such file or directory (os error 2)): name an existing file with --config, such as config/node.toml"
    );
    let error = Config::load(None, &Env::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the node has no twin id, and phyos mode needs one: set TWIN_ID, TWINSIGHT_HUB__TWIN_ID or `hub.twin_id`"
    );
}

#[test]
fn the_environment_alone_is_enough() {
    let config = Config::load(
        None,
        &env(&[("INSTANCE_ID", "node-1"), ("TWINSIGHT_CAMERAS", "a, b")]),
    )
    .unwrap();
    let hub = config.hub.unwrap();
    assert_eq!(hub.mode, HubMode::Phyos);
    assert_eq!(hub.url, "http://phyos:55000");
    assert_eq!(hub.twin_id, "node-1");
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:9464");
    assert_eq!(config.ice.recv_buffer_bytes, 1 << 20);
    assert_eq!(config.runtime.models_dir, Path::new("models"));
    let ids: Vec<_> = config.cameras.iter().map(|c| c.id.to_string()).collect();
    assert_eq!(ids, ["a/default", "b/default"]);
    assert_eq!(config.cameras[0].name, "a");
    assert_eq!(config.cameras[0].max_age, Duration::from_millis(500));
}

#[test]
fn a_camera_overrides_the_defaults_and_the_defaults_what_is_built_in() {
    let config = load(
        "[defaults]\nmax_fps = 5\nmin_score = 0.5\nclasses = [\"person\"]\n\
         [[cameras]]\ntwin_id = \"a\"\nname = \"Yard\"\nmax_fps = 0\nstream = \"hd\"\nconnect = \"accept\"\n\
         [[cameras]]\ntwin_id = \"a\"",
        NODE,
    )
    .unwrap();
    let [hd, plain] = &config.cameras[..] else {
        panic!("two cameras");
    };
    assert_eq!(
        (hd.max_fps, hd.min_score, hd.connect),
        (0.0, 0.5, Connect::Accept)
    );
    assert_eq!((&*hd.id.stream, hd.name.as_str()), ("hd", "Yard"));
    assert_eq!((plain.max_fps, &*plain.id.stream), (5.0, "default"));
    assert_eq!(plain.classes, ["person"]);
    assert!(plain.emit_empty);
}

#[test]
fn listed_cameras_keep_what_the_file_says_of_them() {
    let config = load(
        "[[cameras]]\ntwin_id = \"a\"\nname = \"Yard\"\n[[cameras]]\ntwin_id = \"b\"",
        &[("TWIN_ID", "n"), ("TWINSIGHT_CAMERAS", "c,a")],
    )
    .unwrap();
    let names: Vec<_> = config.cameras.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["c", "Yard"]);
}

fn hub(config: Result<Config, ConfigError>) -> HubOptions {
    config.unwrap().hub.unwrap()
}

const CAMERA: &str = "[[cameras]]\ntwin_id = \"yard\"\nrtsp = \"rtsp://192.168.1.20/s\"\n";

#[test]
fn a_node_without_a_hub_needs_its_cameras_and_nothing_else() {
    let file = format!(
        "[hub]\nmode = \"none\"\n[ice]\nudp_ports = \"1\"\n{CAMERA}{}",
        CAMERA.replace("yard", "door")
    );
    let config = load(&file, &[]).unwrap();
    assert_eq!((config.hub, config.cameras.len()), (None, 2));
    let own = [("TWINSIGHT_HUB__MODE", "none"), ("PHYHUB_DIRECT", "1")];
    assert_eq!(
        load(CAMERA, &own).unwrap().hub,
        None,
        "nothing wins over this variable"
    );
    let away = [("TWINSIGHT_HUB__MODE", "phyos"), ("TWIN_ID", "n")];
    assert_eq!(
        hub(load(&file.replace("\"1\"", "\"1-2\""), &away)).mode,
        HubMode::Phyos
    );
    // The camera may have the id that a node would have, since there is no such node.
    assert!(load(&file, &[("TWIN_ID", "yard")]).is_ok());
}

#[test]
fn no_variable_leads_a_node_without_a_hub_to_one_unasked() {
    let file = format!("[hub]\nmode = \"none\"\n{CAMERA}");
    for variable in [
        ("PHYHUB_DIRECT", "true"),
        ("PHYSTACK_SIMULATOR_URL", "http://sim"),
    ] {
        let error = load(&file, &[variable]).unwrap_err();
        let ConfigError::HubAndNone { variable: told, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(*told, variable.0);
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}

#[test]
fn a_camera_without_a_hub_has_a_source() {
    let file = "[hub]\nmode = \"none\"\n[[cameras]]\ntwin_id = \"yard\"\n";
    let error = load(file, &[]).unwrap_err().to_string();
    assert!(
        error.contains("line 3") && error.contains("neither `rtsp` nor `device`"),
        "{error}"
    );
    let error = load(
        "",
        &[("TWINSIGHT_HUB__MODE", "none"), ("TWINSIGHT_CAMERAS", "a")],
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains("TWINSIGHT_CAMERAS"), "{error}");
    let misspelt = file.to_owned() + "rstp = \"rtsp://a/\"\n";
    let error = load(&misspelt, &[]).unwrap_err().to_string();
    assert!(
        error.contains("rstp") && !error.contains("neither"),
        "{error}"
    );
}

#[test]
fn own_variables_win_over_official_ones_and_those_over_the_file() {
    let file = "[hub]\nmode = \"simulator\"\nurl = \"http://file\"\ntwin_id = \"file\"";
    let twin_id = |variables: &[(&str, &str)]| hub(load(file, variables)).twin_id;
    assert_eq!(twin_id(&[]), "file");
    assert_eq!(twin_id(&[("INSTANCE_ID", "instance")]), "instance");
    let two = [("INSTANCE_ID", "instance"), ("TWIN_ID", "twin")];
    assert_eq!(twin_id(&two), "twin");
    let three = [("TWIN_ID", "twin"), ("TWINSIGHT_HUB__TWIN_ID", "own")];
    assert_eq!(twin_id(&three), "own");
    assert_eq!(twin_id(&[("TWIN_ID", "")]), "file", "empty is not set");

    let url = |variables: &[(&str, &str)]| hub(load(file, variables)).url;
    assert_eq!(url(&[]), "http://file");
    assert_eq!(
        url(&[("PHYSTACK_SIMULATOR_URL", "http://sim")]),
        "http://sim"
    );
    let both = [
        ("PHYSTACK_SIMULATOR_URL", "http://sim"),
        ("TWINSIGHT_HUB__URL", "http://own"),
    ];
    assert_eq!(url(&both), "http://own");
}

#[test]
fn the_mode_is_chosen_as_by_the_official_clients() {
    let mode = |text: &str, variables: &[(&str, &str)]| {
        let base = [
            ("DEVICE_ID", "d"),
            ("ACCESS_KEY", "k"),
            ("PHYHUB_REGION", "EU"),
            ("TWIN_ID", "t"),
        ];
        let all: Vec<_> = base.iter().chain(variables).copied().collect();
        let hub = hub(load(text, &all));
        (hub.mode, hub.url, hub.twin_id)
    };
    let eu = "https://phyhub.eu.omborigrid.net".to_owned();
    let simulator = ("PHYSTACK_SIMULATOR_URL", "http://sim");
    assert_eq!(
        mode("", &[("PHYHUB_DIRECT", "TRUE"), simulator]),
        (HubMode::Direct, eu.clone(), String::new())
    );
    assert_eq!(
        mode("", &[("PHYHUB_DIRECT", "no"), simulator]).0,
        HubMode::Simulator
    );
    assert_eq!(mode("", &[]).0, HubMode::Phyos);
    assert_eq!(mode("[hub]\nmode = \"direct\"", &[]).1, eu);
    assert_eq!(
        mode("[hub]\nmode = \"phyos\"", &[simulator]).0,
        HubMode::Simulator
    );
    let own = [simulator, ("TWINSIGHT_HUB__MODE", "phyos")];
    assert_eq!(mode("", &own).0, HubMode::Phyos);
}

#[test]
fn credentials_never_go_to_the_address_of_another_mode() {
    let text = "[hub]\nmode = \"simulator\"\nurl = \"http://sim\"";
    let direct = [
        ("PHYHUB_DIRECT", "1"),
        ("DEVICE_ID", "d"),
        ("ACCESS_KEY", "k"),
    ];
    assert_eq!(
        sentence(text, &direct),
        "the hub has no address, and direct mode needs one: set PHYHUB_URL, TWINSIGHT_HUB__URL or `hub.url`"
    );
}

#[test]
fn a_turn_server_makes_relay_the_default_policy() {
    let turn = [
        ("TWIN_ID", "n"),
        ("PHYSTACK_TURN_URL", "turn:t.example:3478"),
        ("PHYSTACK_TURN_USERNAME", "u"),
        ("PHYSTACK_TURN_CREDENTIAL", "hush"),
    ];
    let config = load("", &turn).unwrap();
    assert!(config.ice.relay_only);
    assert_eq!(
        config.hub.unwrap().turn.unwrap().credential.expose(),
        "hush"
    );
    let config = load("[ice]\npolicy = \"all\"", &turn).unwrap();
    assert!(!config.ice.relay_only);
}

#[test]
fn only_a_cameras_twin_is_told_how_a_camera_with_an_address_is_reached() {
    for (text, key) in [
        (
            "[[cameras]]\ntwin_id = \"a\"\nstream = \"rtsp://u:hush@h/1\"",
            "cameras.stream",
        ),
        (
            "[[cameras]]\ntwin_id = \"rtsp://u:hush@h/1\"",
            "cameras.twin_id",
        ),
        (
            "[defaults]\nstream = \"rtsp://u:hush@h/1\"\n[[cameras]]\ntwin_id = \"a\"",
            "defaults.stream",
        ),
        (
            "[hub]\nmode = \"direct\"\nurl = \"http://h\"\ndevice_id = \"http://u:hush@h\"",
            "hub.device_id",
        ),
        ("[hub]\ntwin_id = \"http://u:hush@h\"", "hub.twin_id"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        let error = Config::load(Some(&path), &Env::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("`{key}` takes")), "{error}");
        assert_eq!(
            error.contains("`rtsp`"),
            key == "cameras.twin_id",
            "{error}"
        );
        assert!(!error.contains("hush"), "{error}");
    }
}

#[test]
fn secrets_come_from_files_and_variables_and_are_never_shown() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("key");
    fs::write(&path, "from-a-file\n").unwrap();
    let file = format!("[hub]\naccess_key_file = {:?}", path.display().to_string());
    let key = |variables: &[(&str, &str)]| {
        let all: Vec<_> = NODE.iter().chain(variables).copied().collect();
        let config = load(&file, &all).unwrap();
        let shown = format!("{config:?} {:?}", env(&all));
        assert!(!shown.contains("from-"), "{shown}");
        config.hub.unwrap().access_key.unwrap().expose().to_owned()
    };
    assert_eq!(key(&[]), "from-a-file");
    assert_eq!(key(&[("PHYGRID_DEVICE_KEY", "from-device")]), "from-device");
    let two = [
        ("PHYGRID_DEVICE_KEY", "from-device"),
        ("ACCESS_KEY", "from-key"),
    ];
    assert_eq!(key(&two), "from-key");
    let own = [
        ("ACCESS_KEY", "from-key"),
        ("TWINSIGHT_HUB__ACCESS_KEY", "from-own"),
    ];
    assert_eq!(key(&own), "from-own");
}

#[test]
fn variables_reach_every_type_of_key() {
    let config = load(
        "[defaults]\nclasses = [\"car\"]\n[[cameras]]\ntwin_id = \"a\"",
        &[
            ("TWIN_ID", "n"),
            ("TWINSIGHT_HTTP__LISTEN", "[::]:80"),
            ("TWINSIGHT_HTTP__TOKEN", "hush"),
            ("TWINSIGHT_DEFAULTS__MAX_FPS", "2.5"),
            ("TWINSIGHT_DEFAULTS__MAX_AGE_MS", "250"),
            ("TWINSIGHT_DEFAULTS__EMIT_EMPTY", "False"),
            ("TWINSIGHT_DEFAULTS__CLASSES", "person, dog"),
            ("TWINSIGHT_ICE__UDP_PORTS", "50000-50100"),
            ("ORT_DYLIB_PATH", "/opt/ort.so"),
        ],
    )
    .unwrap();
    assert_eq!(config.http.listen.to_string(), "[::]:80");
    assert_eq!(config.http.token, Some(Secret::new("hush")));
    assert_eq!(config.ice.udp_ports, Some(50_000..=50_100));
    assert_eq!(
        config.runtime.library.as_deref(),
        Some(Path::new("/opt/ort.so"))
    );
    let camera = &config.cameras[0];
    assert_eq!((camera.max_fps, camera.emit_empty), (2.5, false));
    assert_eq!(camera.max_age, Duration::from_millis(250));
    assert_eq!(camera.classes, ["person", "dog"]);
}

#[test]
fn every_key_is_documented_once() {
    let mut seen = std::collections::HashSet::new();
    for key in file::keys() {
        assert!(
            seen.insert((key.section, key.name)),
            "{}.{} twice",
            key.section,
            key.name
        );
        assert!(
            key.doc.trim().ends_with('.'),
            "{}.{}",
            key.section,
            key.name
        );
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let text = "\
[runtime]
threds = 2
[defaults]
max_fps = \"fast\"
password = \"x\"
min_score = 40
[[cameras]]
twinid = \"a\"
[[cameras]]
twin_id = \"b\"
max_age = 5
max_age_ms = 0
[http]
listen = 9464
[hubb]
url = \"http://hub\"
";
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("node.toml");
    fs::write(&path, text).unwrap();
    let error = Config::load(Some(&path), &env(NODE)).unwrap_err();
    let found: Vec<String> = error
        .sentences()
        .iter()
        .map(|sentence| sentence.replace(&format!("{}/node.toml line ", dir.path().display()), ""))
        .collect();
    assert_eq!(
        found,
        [
            "2: there is no key `runtime.threds`, the nearest is `runtime.threads`: correct or remove it",
            "4: `defaults.max_fps` takes a number, and this is the text \"fast\": correct it",
            "5: there is no key `defaults.password`, the nearest is `defaults.rtsp_password_file`: correct or remove it",
            "6: `defaults.min_score` is 40.0: give a number from 0 to 1",
            "8: there is no key `cameras.twinid`, the nearest is `cameras.twin_id`: correct or remove it",
            "11: there is no key `cameras.max_age`, the nearest is `cameras.max_age_ms`: correct or remove it",
            "12: `cameras.max_age_ms` is 0: give a whole number from 1 to 60000",
            "14: `http.listen` takes a text, and this is the number 9464: correct it",
            "15: there is no key `hubb`, the nearest is `hub`: correct or remove it",
        ]
    );
    let whole = error.to_string();
    assert!(whole.len() < 1100 && whole.contains("; and "), "{whole}");
}

#[test]
fn an_address_is_no_twin_and_its_password_is_not_repeated() {
    for key in ["[[cameras]]\ntwin_id", "[hub]\ntwin_id", "[hub]\ndevice_id"] {
        let found = sentence(
            &format!("{key} = \"rtsp://admin:hush@10.0.0.7:554/stream1\""),
            if key.contains("hub") { &[] } else { NODE },
        );
        assert!(found.contains(", and this is an address"), "{found}");
        assert!(
            !found.contains("hush") && !found.contains("admin"),
            "{found}"
        );
    }
    let found = sentence("[hub]\nurl = \"htps://node:hush@hub.example\"", NODE);
    assert!(!found.contains("hush"), "{found}");
    for good in [
        "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
        "a/b.c:d@e_f~g",
        "kamera-тест-門",
    ] {
        let text = format!("[[cameras]]\ntwin_id = {good:?}");
        assert_eq!(&*load(&text, NODE).unwrap().cameras[0].id.twin_id, good);
    }
}

#[test]
fn a_file_that_is_no_regular_one_or_is_too_long_is_refused_at_once() {
    let dir = TempDir::new().unwrap();
    let fifo = dir.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    let long = dir.path().join("long");
    fs::File::create(&long).unwrap().set_len(8 << 30).unwrap();
    for (path, why) in [
        (fifo.as_path(), "it is not a regular file"),
        (Path::new("/dev/zero"), "it is not a regular file"),
        (dir.path(), "it is not a regular file"),
        (&long, "it is longer than 1048576 bytes"),
    ] {
        for error in [
            Config::load(Some(path), &env(NODE)).unwrap_err(),
            Config::listen(Some(path), &env(NODE)).unwrap_err(),
        ] {
            assert!(error.to_string().contains(why), "{error}");
        }
    }
    let found = sentence(&format!("[http]\ntoken_file = {fifo:?}"), NODE);
    assert!(
        found.contains("cannot be read (it is not a regular file)"),
        "{found}"
    );
}

#[test]
fn more_streams_than_a_node_takes_are_refused() {
    let text: String = (0..1025)
        .map(|n| format!("[[cameras]]\ntwin_id = \"cam-{n}\"\n"))
        .collect();
    assert_eq!(
        sentence(&text, NODE),
        "node.toml line 2049: these are 1025 camera streams, and a node takes 1024: remove some"
    );
}
