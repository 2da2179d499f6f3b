use serde_json::json;

use super::super::env::Env;
use super::super::resolve::ConfigSource;
use super::*;

const FILE: &str = r#"# The node of the yard.
[hub]
mode = "none"   # no hub

[defaults]
max_fps = 5.0

# The door.
[[cameras]]
twin_id = "door"
rtsp = "rtsp://192.0.2.1/1"

# Who is in here stands before the door.
[[cameras.zones]]
name = "step"      # as on the plan
points = [[0.1, 0.5], [0.90, 0.5], [0.9, 1], [0.1, 1.0]] # the whole step
labels = ["person"]

[[cameras.zones]]
name = "path"
points = [[0.0, 0.0], [0.2, 0.0], [0.2, 0.2]]
min_dwell_ms = 500

# The yard has two streams.
[[cameras]]
twin_id = "yard"
name = "Yard"

[[cameras]]
twin_id = "yard"
stream = "wide"
[cameras.track]
lost_ms = 3000
# The end.
"#;

fn scene(value: serde_json::Value) -> SceneJson {
    serde_json::from_value(value).unwrap()
}

/// The scene that [`FILE`] gives the door.
fn of_the_door() -> serde_json::Value {
    json!({
        "zones": [
            {"name": "step", "points": [[0.1, 0.5], [0.9, 0.5], [0.9, 1.0], [0.1, 1.0]], "labels": ["person"], "minDwellMs": 0},
            {"name": "path", "points": [[0.0, 0.0], [0.2, 0.0], [0.2, 0.2]], "labels": [], "minDwellMs": 500},
        ],
        "lines": [],
        "masks": [],
    })
}

fn edited(text: &str, twin: &str, stream: &str, value: serde_json::Value) -> String {
    edit_scene(text, &StreamId::new(twin, stream), &scene(value)).unwrap()
}

/// The lines that went and those that came.
fn difference(old: &str, new: &str) -> (Vec<String>, Vec<String>) {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let first = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old[first..].iter().rev().zip(new[first..].iter().rev());
    let last = rest.take_while(|(a, b)| a == b).count();
    let part = |lines: &[&str]| {
        let lines = &lines[first..lines.len() - last];
        lines.iter().map(ToString::to_string).collect()
    };
    (part(&old), part(&new))
}

#[test]
fn what_is_there_already_changes_nothing() {
    assert_eq!(edited(FILE, "door", "default", of_the_door()), FILE);
    let empty = json!({"zones": [], "lines": [], "masks": []});
    assert_eq!(edited(FILE, "yard", "wide", empty), FILE);
    // A number that was written with more decimals than a page draws stays.
    let fine = FILE.replace("0.90,", "0.900041,");
    assert_eq!(edited(&fine, "door", "default", of_the_door()), fine);
}

#[test]
fn a_zone_that_changes_keeps_its_comments() {
    let mut value = of_the_door();
    value["zones"][0]["points"][1] = json!([0.8, 0.45]);
    value["zones"][0]["labels"] = json!(["person", "dog"]);
    let (went, came) = difference(FILE, &edited(FILE, "door", "default", value));
    assert_eq!(went.len(), 2);
    assert_eq!(
        came,
        [
            "points = [[0.1, 0.5], [0.8, 0.45], [0.9, 1.0], [0.1, 1.0]] # the whole step",
            r#"labels = ["person", "dog"]"#
        ]
    );
    let mut value = of_the_door();
    value["zones"][0]["name"] = json!("before the \"door\"");
    value["zones"][0]["labels"] = json!([]);
    value["zones"][1]["minDwellMs"] = json!(0);
    let (went, came) = difference(FILE, &edited(FILE, "door", "default", value));
    assert_eq!(went.len(), 8);
    assert_eq!(
        came[0],
        r#"name = 'before the "door"'      # as on the plan"#
    );
    assert!(!came.iter().any(|line| line.starts_with("labels")));
}

#[test]
fn new_parts_come_under_their_camera() {
    let mut value = of_the_door();
    value["zones"].as_array_mut().unwrap().insert(
        1,
        json!({"name": "mat", "points": [[0, 0], [1, 0], [0.5, 0.25]], "labels": ["cat"], "minDwellMs": 1500}),
    );
    value["lines"] =
        json!([{"name": "sill", "from": [0.25, 0.5], "to": [0.75, 0.5], "labels": []}]);
    value["masks"] = json!([{"points": [[0, 0], [0.3, 0], [0.3, 0.1]]}]);
    let new = edited(FILE, "door", "default", value);
    for line in FILE.lines() {
        assert!(
            new.lines().any(|each| each == line),
            "{line} is gone:\n{new}"
        );
    }
    let expected = r#"[[cameras.zones]]
name = "mat"
points = [[0.0, 0.0], [1.0, 0.0], [0.5, 0.25]]
labels = ["cat"]
min_dwell_ms = 1500

[[cameras.zones]]
name = "path"
points = [[0.0, 0.0], [0.2, 0.0], [0.2, 0.2]]
min_dwell_ms = 500

[[cameras.lines]]
name = "sill"
from = [0.25, 0.5]
to = [0.75, 0.5]

[[cameras.masks]]
points = [[0.0, 0.0], [0.3, 0.0], [0.3, 0.1]]
"#;
    assert!(new.contains(expected), "{new}");
    assert!(new.ends_with("# The end.\n"), "{new}");
}

#[test]
fn a_camera_of_a_later_section_and_of_another_stream_is_found() {
    let zone = json!({"zones": [{"name": "z", "points": [[0, 0], [1, 0], [1, 1]]}], "lines": [], "masks": []});
    let new = edited(FILE, "yard", "wide", zone.clone());
    let (_, came) = difference(FILE, &new);
    assert_eq!(came.len(), 4, "{came:?}");
    assert!(
        new.contains("lost_ms = 3000\n\n[[cameras.zones]]\nname = \"z\"\n"),
        "{new}"
    );
    let new = edited(FILE, "yard", "default", zone.clone());
    assert!(
        new.contains("name = \"Yard\"\n\n[[cameras.zones]]\nname = \"z\"\n"),
        "{new}"
    );
    // The name of the stream may come from elsewhere.
    assert_eq!(edited(FILE, "yard", "main", zone), new);
}

#[test]
fn parts_go_and_their_order_is_that_of_the_request() {
    let mut value = of_the_door();
    let zones = value["zones"].as_array_mut().unwrap();
    zones.swap(0, 1);
    let new = edited(FILE, "door", "default", value.clone());
    let (path, step) = (new.find("\"path\"").unwrap(), new.find("\"step\"").unwrap());
    assert!(path < step, "{new}");
    assert!(
        new.contains(
            "# Who is in here stands before the door.\n[[cameras.zones]]\nname = \"step\""
        )
    );
    value["zones"].as_array_mut().unwrap().pop();
    let new = edited(FILE, "door", "default", value.clone());
    assert!(new.contains("path") && !new.contains("step"), "{new}");
    value["zones"] = json!([]);
    let new = edited(FILE, "door", "default", value);
    assert!(!new.contains("zones"), "{new}");
    assert!(new.contains("# The yard has two streams."));
}

#[test]
fn masks_are_known_by_what_they_cover() {
    let text = "[[cameras]]\ntwin_id = \"a\"\n# tree\n[[cameras.masks]]\npoints = [[0, 0], [1, 0], [1, 1]]\n# street\n[[cameras.masks]]\npoints = [[0, 0], [0.5, 0], [1, 1]]\n";
    let masks =
        json!({"zones": [], "lines": [], "masks": [{"points": [[0, 0], [0.5, 0], [1, 1]]}]});
    let new = edited(text, "a", "default", masks);
    assert!(new.contains("# street") && !new.contains("# tree"), "{new}");
    let masks = json!({"zones": [], "lines": [], "masks": [{"points": [[0, 0], [1, 0], [1, 1]]}, {"points": [[0, 0], [0.25, 0], [1, 1]]}]});
    let new = edited(text, "a", "default", masks);
    assert!(
        new.contains("# street") && new.contains("# tree") && new.contains("0.25"),
        "{new}"
    );
}

#[test]
fn inline_tables_stay_inline() {
    let text = "cameras = [{ twin_id = \"a\" }, { twin_id = \"b\", zones = [{ name = \"z\", points = [[0, 0], [1, 0], [1, 1]] }] }] # both\n";
    let zones = |names: &[&str]| {
        let zones = names
            .iter()
            .map(|name| json!({"name": name, "points": [[0, 0], [1, 0], [1, 1]]}));
        json!({"zones": zones.collect::<Vec<_>>(), "lines": [], "masks": []})
    };
    let new = edited(text, "a", "default", zones(&["y"]));
    let added = text.replace(
        "{ twin_id = \"a\" }",
        "{ twin_id = \"a\" , zones = [{ name = \"y\", points = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]] }] }",
    );
    assert_eq!(new.replace("\" ,", "\","), added.replace("\" ,", "\","));
    let new = edited(text, "b", "default", zones(&["z", "y"]));
    assert!(
        new.starts_with(text.split("] }] }]").next().unwrap()),
        "{new}"
    );
    assert!(
        new.ends_with(
            "{ name = \"y\", points = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]] }] }] # both\n"
        ),
        "{new}"
    );
    assert_eq!(edited(text, "b", "default", zones(&["z"])), text);
    let parsed: toml::Table = new.parse().unwrap();
    assert_eq!(parsed["cameras"][1]["zones"].as_array().unwrap().len(), 2);

    // A list of inline tables under an own header.
    let text = "[[cameras]]\ntwin_id = \"a\"\nzones = [\n  { name = \"z\", points = [[0, 0], [1, 0], [1, 1]] }, # first\n]\ntrack.enabled = true\n";
    let new = edited(text, "a", "default", zones(&["z", "y"]));
    let parsed: toml::Table = new.parse().unwrap();
    assert_eq!(parsed["cameras"][0]["zones"][1]["name"].as_str(), Some("y"));
    assert!(new.contains("track.enabled = true\n"), "{new}");
}

#[test]
fn line_ends_and_the_mark_of_the_text_stay() {
    let windows = format!("\u{feff}{}", FILE.replace('\n', "\r\n"));
    assert_eq!(edited(&windows, "door", "default", of_the_door()), windows);
    let mut value = of_the_door();
    value["lines"] = json!([{"name": "sill", "from": [0.25, 0.5], "to": [0.75, 0.5]}]);
    let new = edited(&windows, "door", "default", value.clone());
    assert_eq!(new.matches('\n').count(), new.matches("\r\n").count());
    assert_eq!(
        new.replace('\r', "").trim_start_matches('\u{feff}'),
        edited(FILE, "door", "default", value.clone())
    );
    // One line that ends otherwise does not change because another place does.
    let mixed = FILE.replacen('\n', "\r\n", 1);
    let new = edited(&mixed, "door", "default", value.clone());
    assert_eq!(new.matches("\r\n").count(), 1);
    // No line end at the end of the text.
    let open = FILE.trim_end();
    let new = edited(open, "door", "default", value);
    assert!(new.ends_with("# The end."), "{new}");
    let bare = "[[cameras]]\ntwin_id = \"a\"";
    let zone = json!({"zones": [{"name": "z", "points": [[0, 0], [1, 0], [1, 1]]}], "lines": [], "masks": []});
    let parsed: toml::Table = edited(bare, "a", "default", zone).parse().unwrap();
    assert_eq!(parsed["cameras"][0]["zones"][0]["name"].as_str(), Some("z"));
}

#[test]
fn a_text_in_which_the_camera_is_not_clear_is_refused() {
    let empty = scene(json!({"zones": [], "lines": [], "masks": []}));
    let error = |text: &str, twin: &str, stream: &str| {
        edit_scene(text, &StreamId::new(twin, stream), &empty).unwrap_err()
    };
    assert!(matches!(
        error("[[cameras]", "a", "default"),
        EditError::Syntax(_)
    ));
    let none = error(FILE, "gate", "default");
    assert!(
        none.to_string().contains("twin \"gate\"")
            && none.to_string().contains("TWINSIGHT_CAMERAS"),
        "{none}"
    );
    assert!(matches!(
        error("", "a", "default"),
        EditError::NoSection { .. }
    ));
    assert!(matches!(
        error("cameras = 3", "a", "default"),
        EditError::NoSection { .. }
    ));
    assert!(matches!(
        error("[cameras]\ntwin_id = \"a\"", "a", "default"),
        EditError::NoSection { .. }
    ));
    let twice = "[[cameras]]\ntwin_id = \"a\"\n[[cameras]]\ntwin_id = \"a\"\n";
    let several = error(twice, "a", "default");
    assert!(several.to_string().contains("2 sections"), "{several}");
    let odd = "[[cameras]]\ntwin_id = \"a\"\nzones = 3\n";
    let wanted = scene(json!({"zones": [{"name": "z", "points": []}], "lines": [], "masks": []}));
    let error = edit_scene(odd, &StreamId::new("a", "default"), &wanted).unwrap_err();
    assert_eq!(
        error,
        EditError::NoTables {
            key: "cameras.zones"
        }
    );
}

#[test]
fn a_text_that_a_node_would_not_read_again_is_not_written() {
    let wanted = scene(
        json!({"zones": [], "lines": [{"name": "l", "from": [0, 0], "to": [1, 0]}], "masks": []}),
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    let camera = "[[cameras]]\ntwin_id = \"a\"\n";
    let edited = |bytes: usize| {
        let comment = format!("#{}\n", "x".repeat(bytes - camera.len() - 2));
        std::fs::write(&file, format!("{comment}{camera}")).unwrap();
        let source = ConfigSource::read(Some(&file), &Env::default()).unwrap();
        source.edited(&StreamId::new("a", "default"), &wanted)
    };
    assert!(edited((1 << 20) - 200).is_ok());
    let error = edited(1 << 20).unwrap_err().to_string();
    assert!(
        error.contains("a node reads 1048576") && error.contains("remove"),
        "{error}"
    );
}

#[test]
fn numbers_are_rounded_and_unknown_keys_refused() {
    let value = json!({"zones": [], "lines": [{"name": "l", "from": [0.123_456, 1.0 / 3.0], "to": [1, 0]}], "masks": []});
    let rounded = scene(value.clone()).rounded();
    assert_eq!(
        (rounded.lines[0].from, rounded.lines[0].to),
        ([0.1235, 0.3333], [1.0, 0.0])
    );
    for (key, with) in [("objects", json!({})), ("min_dwell_ms", json!(1))] {
        let mut zone = json!({"name": "z", "points": []});
        zone[key] = with;
        let value = json!({"zones": [zone], "lines": [], "masks": []});
        assert!(serde_json::from_value::<SceneJson>(value).is_err(), "{key}");
    }
    assert!(serde_json::from_value::<SceneJson>(json!({"zones": [], "lines": []})).is_err());
}
