//! `twinsight discover` against cameras in the manner of several makers, which check what they are asked by the schemas of ONVIF, and
//! who asks by WS-Security and HTTP Digest of their own. The search itself is in `tests/network/discover.rs`.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use serde_json::Value;

use crate::common::ports::unused_address;
use crate::common::{Outcome, Program, twinsight};

const PASSWORD: &str = "correct horse battery";

/// A camera of a maker; gives it and its address.
async fn camera(args: &[&str]) -> (Program, String) {
    let mut camera = Program::python("onvif.py", args, &[]);
    let line = camera.until("listening ").await;
    (camera, line.replace("listening ", "127.0.0.1:"))
}

fn discover(address: &str, args: &[&str], env: &[(&str, &str)]) -> Outcome {
    let mut all = vec!["discover", "--address", address];
    all.extend(args);
    twinsight(&all, env)
}

/// What is found with the right password.
fn found(address: &str) -> Value {
    let env = [
        ("TWINSIGHT_RTSP_USER", "admin"),
        ("TWINSIGHT_RTSP_PASSWORD", PASSWORD),
    ];
    let outcome = discover(address, &["--json"], &env);
    assert_eq!(outcome.code, Some(0), "{}", outcome.log);
    assert!(!outcome.out.contains(PASSWORD));
    serde_json::from_str(&outcome.out).expect("a line of JSON")
}

/// The camera was asked these in this order, each in the way of the schema, and got the password from nobody.
async fn was_asked(camera: &mut Program, questions: &[&str]) {
    for question in questions {
        let line = camera.line().await;
        assert_eq!(line, Some(format!("asked {question}")));
    }
}

fn stream(found: &Value, n: usize) -> (&str, &str, &Value, bool) {
    let stream = &found["streams"][n];
    (
        stream["codec"].as_str().unwrap(),
        stream["rtsp"].as_str().unwrap(),
        &stream["gop"],
        stream["forDetection"].as_bool().unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_takes_tokens_by_its_own_clock_tells_its_streams() {
    let (mut camera, address) = camera(&[
        "hikvision",
        "--password",
        PASSWORD,
        "--clock-offset",
        "-86400",
    ])
    .await;
    let found = found(&address);
    assert_eq!(found["name"], "HIKVISION DS-2CD2042WD-I");
    assert_eq!(found["manufacturer"], "HIKVISION");
    assert_eq!(found["serial"], "DS-2CD2042WD-I-0815");
    let offset = found["clockOffsetSeconds"].as_i64().unwrap();
    assert!((-86_402..-86_397).contains(&offset), "{offset}");
    let main =
        "rtsp://127.0.0.1:554/Streaming/Channels/101?transportmode=unicast&profile=Profile_1";
    assert_eq!(stream(&found, 0), ("H.265", main, &40.into(), false));
    let (codec, url, gop, right) = stream(&found, 1);
    assert_eq!((codec, gop, right), ("H.264", &50.into(), true));
    assert!(url.contains("/Streaming/Channels/102?"), "{url}");
    assert_eq!(found["problem"], Value::Null);
    assert!(found["advice"][0].as_str().unwrap().contains("(GOP) to 10"));
    was_asked(
        &mut camera,
        &[
            "GetSystemDateAndTime",
            "GetServices",
            "GetDeviceInformation",
            "GetScopes",
            "GetProfiles",
            "GetStreamUri",
            "GetStreamUri",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_wants_digest_by_http_gets_it_once_for_all_questions() {
    let (mut camera, address) = camera(&["axis", "--password", PASSWORD, "--auth", "digest"]).await;
    let found = found(&address);
    let url = "rtsp://127.0.0.1/onvif-media/media.amp?profile=profile_1_h264&sessiontimeout=60&streamtype=unicast";
    assert_eq!(stream(&found, 0), ("H.264", url, &32.into(), true));
    assert_eq!(stream(&found, 1).0, "JPEG");
    was_asked(
        &mut camera,
        &[
            "GetSystemDateAndTime",
            "GetServices",
            // It is refused once, with the challenge.
            "GetDeviceInformation",
            "GetDeviceInformation",
            "GetScopes",
            "GetProfiles",
            "GetStreamUri",
            "GetStreamUri",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_camera_behind_a_router_is_asked_where_it_answers() {
    let (_camera, address) = camera(&[
        "dahua",
        "--password",
        PASSWORD,
        "--own-host",
        "192.168.1.108",
    ])
    .await;
    let found = found(&address);
    let url = "rtsp://127.0.0.1:554/cam/realmonitor?channel=1&subtype=1&unicast=true&proto=Onvif";
    assert_eq!(stream(&found, 1), ("H.264", url, &15.into(), true));
    let advice = found["advice"][0].as_str().unwrap();
    assert!(advice.contains("it calls itself 192.168.1.108"), "{advice}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_with_h265_alone_and_without_get_services_is_told_with_the_setting() {
    let (mut camera, address) = camera(&["reolink", "--auth", "none"]).await;
    let outcome = discover(&address, &[], &[]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.log);
    let out = &outcome.out;
    assert!(out.contains("Reolink RLC-810A"), "{out}");
    assert!(out.contains("H.265  3840x2160"), "{out}");
    assert!(
        out.contains("it has only H.265, and H.264 is needed: set the encoding"),
        "{out}"
    );
    was_asked(
        &mut camera,
        &["GetSystemDateAndTime", "GetServices", "GetCapabilities"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_does_not_know_who_asks_is_told_with_what_to_do() {
    let (mut camera, address) = camera(&["hikvision", "--password", PASSWORD]).await;
    let outcome = discover(&address, &["--json"], &[]);
    let found: Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(found["problem"], "needsCredentials");
    let advice = found["advice"][0].as_str().unwrap();
    assert!(
        advice.contains(&format!(
            "run `twinsight discover --address {address} --user"
        )),
        "{advice}"
    );
    assert_eq!(outcome.code, Some(0));
    was_asked(
        &mut camera,
        &[
            "GetSystemDateAndTime",
            "GetServices",
            "GetDeviceInformation",
            "GetScopes",
            "GetProfiles",
        ],
    )
    .await;

    // A wrong password is tried once, because several attempts lock accounts.
    let env = [
        ("TWINSIGHT_RTSP_USER", "admin"),
        ("TWINSIGHT_RTSP_PASSWORD", "wrong-password"),
    ];
    let outcome = discover(&address, &["--json"], &env);
    let found: Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(found["problem"], "wrongCredentials");
    was_asked(
        &mut camera,
        &[
            "GetSystemDateAndTime",
            "GetServices",
            "GetDeviceInformation",
        ],
    )
    .await;
    let outcome = discover(&address, &["--json"], &env[..1]);
    outcome.failed(1, "there is a user and no password: give it with --password-file, or in TWINSIGHT_RTSP_PASSWORD");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_wants_the_password_in_the_clear_does_not_get_it() {
    let (mut camera, address) = camera(&["axis", "--password", PASSWORD, "--auth", "basic"]).await;
    assert_eq!(found(&address)["problem"], "basicOnly");
    was_asked(
        &mut camera,
        &[
            "GetSystemDateAndTime",
            "GetServices",
            "GetDeviceInformation",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorder_gives_a_section_for_each_of_its_cameras() {
    let (_camera, address) = camera(&["recorder", "--password", PASSWORD]).await;
    let env = [("TWINSIGHT_RTSP_PASSWORD", PASSWORD)];
    let outcome = discover(&address, &["--config", "--user", "admin"], &env);
    assert_eq!(outcome.code, Some(0), "{}", outcome.log);
    let config: toml::Table = outcome.out.parse().unwrap();
    let cameras = config["cameras"].as_array().unwrap();
    let texts = |key: &str| -> Vec<&str> {
        let values = cameras.iter().map(|camera| camera[key].as_str().unwrap());
        values.collect()
    };
    assert_eq!(
        texts("twin_id"),
        [
            "dahua-nvr4108-00000",
            "dahua-nvr4108-00001",
            "dahua-nvr4108-00002"
        ]
    );
    // The camera writes its own user and password into its addresses, which are left out.
    assert_eq!(
        texts("rtsp")[2],
        "rtsp://127.0.0.1:554/cam/realmonitor?channel=3&subtype=1"
    );
    assert!(!outcome.out.contains("hush") && !outcome.out.contains(PASSWORD));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_an_end_is_cut_and_the_camera_is_told_all_the_same() {
    let (_camera, address) = camera(&["hostile", "--auth", "none"]).await;
    let outcome = discover(&address, &["--json"], &[]);
    let found: Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(found["problem"], "other");
    let advice = found["advice"][0].as_str().unwrap();
    assert!(advice.contains("longer than 524288 bytes"), "{advice}");
    assert_eq!(found["model"], "IPC-HDW2431T-ZS-S2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_no_camera_is_an_error_that_says_what_it_is() {
    let address = unused_address().to_string();
    let outcome = discover(&address, &[], &[]);
    outcome.failed(1, &format!(
        "http://{address} refuses connections: nothing listens there, or a firewall says no: see that ONVIF is turned on in the camera, and which port it has (`--address HOST:PORT`)"
    ));
}
