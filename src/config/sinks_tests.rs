//! Sinks and the sources of cameras as the file gives them: what they come to, and the sentence of each mistake.

use std::fs;

use tempfile::TempDir;

use super::super::resolve::tests::{NODE, load, sentence};
use super::super::source::{RtspTransport, SourceConfig};
use super::*;
use twinsight_client::secret::concealed;

const HOOK: &str = "[[sinks]]\ntype = \"webhook\"\nurl = \"https://host/hook\"\n";
const BROKER: &str = "[[sinks]]\ntype = \"mqtt\"\nurl = \"mqtt://broker\"\n";
const CAMERA: &str = "[[cameras]]\ntwin_id = \"a\"\n";

/// Compares the sentences of texts, each after its beginning.
fn check(table: &[(&str, &str, &str)]) {
    let mut wrong = String::new();
    for (beginning, text, expected) in table {
        let text = format!("{beginning}{text}");
        let found = sentence(&text, NODE);
        if found != *expected {
            wrong += &format!("\n{text}\n  expected: {expected}\n  found:    {found}\n");
        }
        assert!(!found.contains("hush"), "{found}");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_mistake_in_a_sink_has_its_sentence() {
    check(&[
        (
            "",
            "[[sinks]]\nurl = \"mqtt://broker\"",
            "node.toml line 1: this sink has no `type`: add \"mqtt\" or \"webhook\"",
        ),
        (
            "",
            "[[sinks]]\ntype = \"mqtt\"",
            "node.toml line 1: this sink has no `url`: add the address of the broker or of the webhook",
        ),
        (
            "",
            "[[sinks]]\ntype = \"kafka\"",
            "node.toml line 2: `sinks.type` is \"kafka\": give \"mqtt\" or \"webhook\"",
        ),
        (
            "",
            "[sinks]\ntype = \"mqtt\"",
            "node.toml line 1: `sinks` takes [[sinks]] tables, and this is a table: correct it",
        ),
        (
            BROKER,
            "topc = \"x\"",
            "node.toml line 4: there is no key `sinks.topc`, the nearest is `sinks.topic`: correct or remove it",
        ),
        (
            HOOK,
            HOOK,
            "node.toml line 4: another sink is called \"webhook\": give one of them another `name`",
        ),
        (
            BROKER,
            "name = \"hub\"",
            "node.toml line 4: `sinks.name` is \"hub\": give another name, this one is taken",
        ),
        (
            HOOK,
            "qos = 1",
            "node.toml line 4: `sinks.qos` is for sinks of the type \"mqtt\", and this is a webhook: remove it",
        ),
        (
            BROKER,
            "max_age_ms = 1000",
            "node.toml line 4: `sinks.max_age_ms` is for sinks of the type \"webhook\", and this is a mqtt: remove it",
        ),
        (
            HOOK,
            "max_age_ms = 1",
            "node.toml line 4: `sinks.max_age_ms` is 1: give a whole number from 100 to 600000",
        ),
        (
            BROKER,
            "qos = 3",
            "node.toml line 4: `sinks.qos` is 3: give a whole number from 0 to 2",
        ),
        (
            BROKER,
            "topic = \"a/#\"",
            "node.toml line 4: `sinks.topic` is \"a/#\": give a topic of 1 to 128 characters without `+`, `#` and blanks, which neither begins nor ends with `/`",
        ),
        (
            HOOK,
            "events = [\"faces\"]",
            "node.toml line 4: `sinks.events` is [\"faces\"]: give a list of detections, cameraStatus, track, lineCrossed",
        ),
        (
            HOOK,
            "events = []",
            "node.toml line 4: `sinks.events` is []: give a list of detections, cameraStatus, track, lineCrossed",
        ),
        (
            HOOK,
            "secret_file = \"/nonexistent/hook\"",
            "node.toml line 4: the file /nonexistent/hook of `sinks.secret_file` cannot be read (No such file or directory (os error 2)): create it, readable by the node",
        ),
        (
            HOOK,
            "ca_file = \"\"",
            "node.toml line 4: `sinks.ca_file` is \"\": give a path",
        ),
        (
            HOOK,
            "secret = \"hush\"",
            "node.toml line 4: `sinks.secret` does not belong in this file: write the secret into a file of its own, and the path to that into `sinks.secret_file`",
        ),
        (
            BROKER,
            "password = \"hush\"",
            "node.toml line 4: `sinks.password` does not belong in this file: write the secret into a file of its own, and the path to that into `sinks.password_file`",
        ),
        (
            "[[sinks]]\ntype = \"webhook\"\n",
            "url = \"ftp://host/hush?hush\"",
            "node.toml line 3: `sinks.url` is \"ftp://host\": give an address like \"https://host/path\" without user and password",
        ),
        (
            "[[sinks]]\ntype = \"webhook\"\n",
            "url = \"https://hush:hush@host/hush\"",
            "node.toml line 3: `sinks.url` is \"https://***@host\": give an address like \"https://host/path\" without user and password",
        ),
        (
            "[[sinks]]\ntype = \"webhook\"\n",
            "url = \"host/hush\"",
            "node.toml line 3: `sinks.url` is \"host\": give an address like \"https://host/path\" without user and password",
        ),
    ]);
    for url in [
        "mqtt://node:hush@broker",
        "http://broker",
        "broker:1883",
        "mqtt://broker/topic",
    ] {
        let text = format!("[[sinks]]\ntype = \"mqtt\"\nurl = \"{url}\"");
        let found = sentence(&text, NODE);
        assert!(!found.contains("hush"), "{found}");
        assert!(
            found.contains("with the user in `username` and the password in `password_file`"),
            "{found}"
        );
    }
    let sinks = |count: usize| -> String {
        let sink =
            |n| format!("[[sinks]]\ntype = \"webhook\"\nname = \"s{n}\"\nurl = \"http://h/\"\n");
        (0..count).map(sink).collect()
    };
    assert_eq!(load(&sinks(8), NODE).unwrap().sinks.len(), 8);
    assert_eq!(
        sentence(&sinks(9), NODE),
        "node.toml line 33: these are 9 sinks, and a node takes 8: remove some"
    );
}

#[test]
fn what_a_sink_does_not_say_has_a_default() {
    let config = load(&format!("{BROKER}{HOOK}"), NODE).unwrap();
    let [broker, hook] = &config.sinks[..] else {
        panic!("{:?}", config.sinks);
    };
    assert_eq!(
        (broker.name.as_str(), hook.name.as_str()),
        ("mqtt", "webhook")
    );
    assert_eq!(broker.events, EventKind::ALL);
    assert_eq!(
        hook.events,
        [
            EventKind::CameraStatus,
            EventKind::Track,
            EventKind::LineCrossed
        ]
    );
    let SinkTarget::Mqtt(mqtt) = &broker.target else {
        panic!("{broker:?}");
    };
    assert_eq!((mqtt.port, mqtt.tls, mqtt.qos), (1883, false, 1));
    assert_eq!(
        (mqtt.topic.as_str(), mqtt.home_assistant),
        ("twinsight", true)
    );
    let SinkTarget::Webhook(webhook) = &hook.target else {
        panic!("{hook:?}");
    };
    assert_eq!(webhook.max_age, Duration::from_secs(10));
    assert_eq!(webhook.secret, None);
}

#[test]
fn every_mistake_in_the_source_of_a_camera_has_its_sentence() {
    check(&[
        (
            CAMERA,
            "rtsp = \"rtsp://host/\"\ndevice = \"/dev/video0\"",
            "node.toml line 1: this camera has both `rtsp` and `device`: remove one",
        ),
        (
            CAMERA,
            "rtsp_user = \"admin\"",
            "node.toml line 3: `rtsp_user` is for a camera with `rtsp`, and this one has none: add it, or remove the key",
        ),
        (
            CAMERA,
            "device = \"/dev/video0\"\nrtsp_transport = \"udp\"",
            "node.toml line 4: `rtsp_transport` is for a camera with `rtsp`, and this one has none: add it, or remove the key",
        ),
        (
            CAMERA,
            "device = \"\"",
            "node.toml line 3: `cameras.device` is \"\": give a path",
        ),
        (
            CAMERA,
            "rtsp = \"http://admin:hush@host/\"",
            "node.toml line 3: `cameras.rtsp` is \"http://***@host/\": give a camera's address like \"rtsp://192.168.1.20:554/stream1\", in which special characters of a password are written as %23 and the like, or stand in `rtsp_password_file`",
        ),
        (
            CAMERA,
            "rtsp = \"rtsp://host/\"\nrtsp_transport = \"quic\"",
            "node.toml line 4: `cameras.rtsp_transport` is \"quic\": give \"tcp\" or \"udp\"",
        ),
        (
            CAMERA,
            "rtsp = \"rtsp://host/\"\nrtsp_password_file = \"/nonexistent\"",
            "node.toml line 4: this password is of nobody: add who asks the camera as `rtsp_user`, or remove `rtsp_password_file`",
        ),
        (
            CAMERA,
            "rtsp = \"rtsp://host/\"\nrtsp_user = \"admin\"",
            "node.toml line 4: this user has no password: add its file as `rtsp_password_file`, or write a user without a password into `rtsp`",
        ),
        (
            CAMERA,
            "rtsp = \"rtsp://admin:hush@host/\"\nrtsp_user = \"admin\"",
            "node.toml line 4: `rtsp_user` and the user in `rtsp` say both who asks this camera: remove one of them",
        ),
        (
            CAMERA,
            "rtsp = \"rtsp://host/\"\nrtsp_user = \"admin\"\nrtsp_password_file = \"/nonexistent\"",
            "node.toml line 5: the file /nonexistent of `cameras.rtsp_password_file` cannot be read (No such file or directory (os error 2)): create it, readable by the node",
        ),
        (
            CAMERA,
            "rtsp_password = \"hush\"",
            "node.toml line 3: `cameras.rtsp_password` does not belong in this file: write the secret into a file of its own, and the path to that into `cameras.rtsp_password_file`",
        ),
        (
            CAMERA,
            "rstp = \"rtsp://host/\"",
            "node.toml line 3: there is no key `cameras.rstp`, the nearest is `cameras.rtsp`: correct or remove it",
        ),
    ]);
}

#[test]
fn who_asks_a_camera_is_in_its_address_or_beside_it_and_never_shown() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "hush-beside-it\n").unwrap();
    let text = format!(
        "[defaults]\nrtsp_user = \"viewer\"\nrtsp_password_file = {file:?}\nrtsp_transport = \"udp\"\n\
         {CAMERA}rtsp = \"rtsp://admin:hush-in-%69t@host/one\"\n\
         [[cameras]]\ntwin_id = \"b\"\nrtsp = \"rtsp://host/two\"\n\
         [[cameras]]\ntwin_id = \"c\"\nrtsp = \"rtsp://guest@host/three\"\nrtsp_transport = \"tcp\"\n\
         [[cameras]]\ntwin_id = \"d\"\ndevice = \"/dev/video0\"\n\
         [[cameras]]\ntwin_id = \"e\"\n"
    );
    let config = load(&text, NODE).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("hush"), "{shown}");
    let asked: Vec<_> = config
        .cameras
        .iter()
        .map(|camera| match &camera.source {
            Some(SourceConfig::Rtsp(rtsp)) => {
                let who = rtsp.credentials.as_ref().unwrap();
                let udp = rtsp.transport == RtspTransport::Udp;
                format!("{} {} {} {udp}", rtsp.url, who.user, who.password.expose())
            }
            Some(SourceConfig::Device(path)) => path.display().to_string(),
            None => "a twin".to_owned(),
        })
        .collect();
    assert_eq!(
        asked,
        [
            "rtsp://host/one admin hush-in-it true",
            "rtsp://host/two viewer hush-beside-it true",
            "rtsp://host/three guest  false",
            "/dev/video0",
            "a twin",
        ]
    );
    // No line of the log shows them either.
    let concealed = concealed();
    for secret in ["hush-in-it", "hush-beside-it"] {
        assert!(concealed.iter().any(|each| each == secret), "{secret}");
    }
}

#[test]
fn the_address_of_a_webhook_is_a_secret() {
    let text = "[[sinks]]\ntype = \"webhook\"\nurl = \"https://host/hush-in-a-path\"\n";
    let config = load(text, NODE).unwrap();
    assert!(!format!("{config:?}").contains("hush"));
    let concealed = concealed();
    let mut all = concealed.iter();
    assert!(all.any(|each| each == "https://host/hush-in-a-path"));
}
