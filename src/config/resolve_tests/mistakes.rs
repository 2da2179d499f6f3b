//! What is refused: all of it at once, in bounds, and without repeating a password.

use std::fs;

use super::super::*;
use super::{NODE, env, load, sentence};
use tempfile::TempDir;

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
