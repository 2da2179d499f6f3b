//! What wins where a value is given in several places.

use std::time::Duration;

use super::super::*;
use super::{NODE, env, hub, load};
use crate::config::values::Connect;
use twinsight_client::hub::HubMode;

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
