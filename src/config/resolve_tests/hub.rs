//! Which hub is the node's, or that it has none, and what only that hub is told.

use std::fs;

use tempfile::TempDir;

use super::super::*;
use super::{NODE, env, hub, load, sentence};
use twinsight_client::hub::HubMode;

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
