//! Every mistake has its whole sentence.

use super::super::*;
use super::{NODE, env, sentence};
use twinsight_media::codec::Codec;

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
