//! The command line as its users meet it: what is wrong is told in one sentence on standard error,
//! with file or key and remedy, and by the exit code.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::common::{DEADLINE, NodeProcess, Outcome, http_get, root, start_hub, twinsight};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use twinsight::config::DEFAULT_MODEL;
use twinsight::dev::hub::{DevHubOptions, DirectAccess};

const FAST: &str = "ssdlite_mobilenet_v2_coco";

/// A hub that nobody listens at.
const SIMULATOR: &[(&str, &str)] = &[
    ("TWIN_ID", "node-1"),
    ("PHYSTACK_SIMULATOR_URL", "http://127.0.0.1:9"),
];

/// `run` with a configuration that listens on any port.
fn run(config: &str) -> (Outcome, String, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    fs::write(&file, format!("[http]\nlisten = \"127.0.0.1:0\"\n{config}")).unwrap();
    let file = file.display().to_string();
    (
        twinsight(&["run", "--config", &file], SIMULATOR),
        file,
        folder,
    )
}

/// The fast model in a folder of its own.
fn own_model() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        format!("{FAST}.onnx"),
        format!("{FAST}.toml"),
        "coco_90.txt".to_owned(),
        "coco_80.txt".to_owned(),
    ] {
        fs::copy(root().join("models").join(&name), folder.path().join(&name)).unwrap();
    }
    let model = folder.path().join(format!("{FAST}.onnx"));
    (folder, model)
}

fn with_models(folder: &Path) -> String {
    format!(
        "[runtime]\nmodels_dir = {folder:?}\n[[cameras]]\ntwin_id = \"cam\"\nmodel = \"{FAST}\"\n"
    )
}

#[test]
fn an_unknown_key() {
    let (outcome, file, _folder) = run("[defaults]\nmax_fsp = 5\n");
    outcome.failed(
        78,
        &format!(
            "{file} line 4: there is no key `defaults.max_fsp`, the nearest is `defaults.max_fps`: \
             correct or remove it"
        ),
    );
}

#[test]
fn a_value_of_the_wrong_type() {
    let (outcome, file, _folder) = run("[defaults]\nmax_fps = \"ten\"\n");
    outcome.failed(
        78,
        &format!(
            "{file} line 4: `defaults.max_fps` takes a number, and this is the text \"ten\": correct it"
        ),
    );
}

#[test]
fn a_camera_twice() {
    let (outcome, file, _folder) =
        run("[[cameras]]\ntwin_id = \"cam\"\n[[cameras]]\ntwin_id = \"cam\"\n");
    outcome.failed(
        78,
        &format!(
            "{file} line 5: twin \"cam\" with stream \"default\" is already configured at {file} line 3: \
             remove one, or give one another `stream`"
        ),
    );
}

#[test]
fn a_configuration_that_is_not_there() {
    twinsight(&["run", "--config", "/nowhere/node.toml"], SIMULATOR).failed(
        78,
        "/nowhere/node.toml: cannot be read (No such file or directory (os error 2)): \
         name an existing file with --config, such as config/node.toml",
    );
}

#[test]
fn a_model_that_is_not_installed() {
    let (outcome, ..) = run("[[cameras]]\ntwin_id = \"cam\"\nmodel = \"yolo99\"\n");
    outcome.failed(
        1,
        "model `yolo99` is not installed: there is no models/yolo99.toml; installed are \
         centernet_mobilenet_v3_coco, nanodet_g_coco, nanodet_g_coco_int8, ssdlite_mobilenet_v2_coco",
    );
}

#[test]
fn a_model_file_that_was_changed() {
    let (folder, model) = own_model();
    let mut bytes = fs::read(&model).unwrap();
    let hash = |bytes: &[u8]| -> String {
        let digest = Sha256::digest(bytes);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let expected = hash(&bytes);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&model, &bytes).unwrap();
    let (outcome, ..) = run(&with_models(folder.path()));
    outcome.failed(
        1,
        &format!(
            "{}: its SHA-256 should be {expected} and is {}; fetch the file again, or correct the \
             manifest if it was meant to change",
            model.display(),
            hash(&bytes)
        ),
    );
}

#[test]
fn a_model_whose_output_does_not_fit_its_manifest() {
    let (folder, model) = own_model();
    let manifest = folder.path().join(format!("{FAST}.toml"));
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("coco_90", "coco_80")).unwrap();
    let (outcome, ..) = run(&with_models(folder.path()));
    outcome.failed(
        1,
        &format!(
            "{}: output `scores` should have numbers for 80 classes, as many as there are labels, and has numbers for 90; \
             correct `labels` in the manifest or install the file that it describes",
            model.display()
        ),
    );
}

#[test]
fn an_onnx_runtime_that_is_not_there() {
    let (outcome, ..) = run(
        "[runtime]\nlibrary = \"/nowhere/libonnxruntime.so\"\n[[cameras]]\ntwin_id = \"cam\"\n",
    );
    outcome.failed(
        1,
        "ONNX Runtime not found at /nowhere/libonnxruntime.so; run scripts/setup or set `runtime.library`",
    );
}

#[test]
fn a_fallback_with_other_labels_than_the_model_that_it_stands_in_for() {
    let far = format!(
        "[models.far]\nbackend = \"kserve\"\nmanifest = \"{FAST}\"\nfallback = \"{DEFAULT_MODEL}\"\n"
    );
    let camera = "[[cameras]]\ntwin_id = \"cam\"\nmodel = \"far\"\n";
    let (outcome, ..) = run(&format!("{far}url = \"grpc://127.0.0.1:1\"\n{camera}"));
    outcome.failed(
        78,
        &format!(
            "camera cam/default: model `far` has other labels than `{DEFAULT_MODEL}`, which is to take its place: name one with the \
             same labels in `models.far.fallback`"
        ),
    );
    let (outcome, ..) = run(&format!(
        "{far}url = \"grpcs://127.0.0.1:1\"\nca_file = \"/nowhere/ca.pem\"\n{camera}"
    ));
    assert_eq!(outcome.code, Some(78), "{}", outcome.log);
    assert!(outcome.log.contains("/nowhere/ca.pem"), "{}", outcome.log);
}

#[test]
fn a_class_that_the_model_does_not_have() {
    let (outcome, ..) = run(&format!(
        "[[cameras]]\ntwin_id = \"cam\"\nmodel = \"{FAST}\"\nclasses = [\"persn\"]\n"
    ));
    outcome.failed(
        78,
        &format!(
            "camera cam/default: model `{FAST}` has no class `persn`; did you mean `person`?; correct `classes`"
        ),
    );
    let (outcome, ..) = run(&format!(
        "[[cameras]]\ntwin_id = \"cam\"\nmodel = \"{FAST}\"\nclasses = [\"person\"]\n\
         [[cameras.lines]]\nname = \"gate\"\nfrom = [0, 0]\nto = [1, 1]\nlabels = [\"car\"]\n"
    ));
    outcome.failed(
        78,
        "camera cam/default: line \"gate\" has the label `car`, which `classes` leaves out, so that it is never seen: add it to \
         `classes`, or remove it from its `labels`",
    );
    twinsight(
        &["detect", "--model", FAST, "--class", "persn", "Cargo.toml"],
        &[],
    )
    .failed(
        1,
        &format!("class `persn` is none of the model {FAST}'s; is `person` meant?"),
    );
}

#[test]
fn a_port_that_is_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut env = SIMULATOR.to_vec();
    env.push(("TWINSIGHT_HTTP__LISTEN", &address));
    twinsight(&["run"], &env).failed(
        1,
        &format!(
            "{address} is in use: stop what listens there, or set `http.listen` to another port"
        ),
    );
    twinsight(&["hub", "--listen", &address], &[]).failed(
        1,
        &format!(
            "the development hub cannot listen on {address}: name another address with --listen: \
             Address already in use (os error 98)"
        ),
    );
}

#[test]
fn changes_over_http_that_nobody_may_make() {
    // The port is taken, so that the program ends by itself after it has said what is odd.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let warning = "`http.edit` is true and there is no token, so every change over HTTP is refused: set `http.token_file`, or remove `http.edit`";
    let mut env = SIMULATOR.to_vec();
    env.push(("TWINSIGHT_HTTP__LISTEN", &address));
    let log = twinsight(&["run"], &env).log;
    assert!(!log.contains(warning), "{log}");
    env.push(("TWINSIGHT_HTTP__EDIT", "true"));
    let log = twinsight(&["run"], &env).log;
    assert_eq!(log.matches(warning).count(), 1, "{log}");
}

#[test]
fn a_clip_that_cannot_be_played() {
    twinsight(
        &["camera", "--twin", "cam", "--clip", "/nowhere/clip.h264"],
        SIMULATOR,
    )
    .failed(
        1,
        "cannot read the clip /nowhere/clip.h264 (No such file or directory (os error 2)): \
         name an H.264 byte stream or an MP4 file that is there and readable",
    );
    twinsight(
        &["camera", "--twin", "cam", "--clip", "Cargo.toml"],
        SIMULATOR,
    )
    .failed(
        1,
        "Cargo.toml is neither an H.264 byte stream (Annex B) with a keyframe nor an MP4 file: make one with \
         `ffmpeg -i FILE -c:v libx264 -profile:v baseline -bf 0 -g 20 -f h264 CLIP.h264`",
    );
}

#[test]
fn files_that_are_no_pictures_do_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    image::RgbImage::new(64, 48)
        .save(path("whole.png"))
        .unwrap();
    let bytes = fs::read(path("whole.png")).unwrap();
    fs::write(path("torn.png"), &bytes[..bytes.len() / 2]).unwrap();
    let (missing, torn, whole) = (path("missing.jpg"), path("torn.png"), path("whole.png"));
    let outcome = twinsight(
        &[
            "detect",
            "--json",
            "--model",
            FAST,
            &missing,
            &torn,
            "Cargo.toml",
            &whole,
        ],
        &[],
    );
    outcome.failed(1, "3 of 4 files could not be used");
    for sentence in [
        format!("{missing}: cannot be read: No such file or directory (os error 2)"),
        format!("{torn}: is not a whole picture: "),
        "Cargo.toml: is neither a JPEG, PNG, WebP or BMP picture nor an H.264 byte stream (Annex B)"
            .to_owned(),
    ] {
        assert!(
            outcome.log.contains(&sentence),
            "{sentence}\n{}",
            outcome.log
        );
    }
    let lines: Vec<serde_json::Value> = outcome
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 1, "{}", outcome.out);
    assert_eq!(
        (&lines[0]["file"], &lines[0]["width"]),
        (&whole.into(), &64.into())
    );
}

#[test]
fn an_option_that_does_not_exist() {
    let outcome = twinsight(&["run", "--confg", "node.toml"], SIMULATOR);
    assert_eq!(outcome.code, Some(2));
    assert!(
        outcome
            .log
            .starts_with("error: unexpected argument '--confg' found"),
        "{}",
        outcome.log
    );
    assert!(outcome.log.contains("'--config'"), "{}", outcome.log);
}

#[test]
fn a_number_out_of_range() {
    let camera = ["camera", "--twin", "cam", "--pattern"];
    let fps = "a camera sends 0.001 to 240 frames a second";
    let cases: &[(&[&str], &str, &[&str], &str)] = &[
        (
            &["demo"],
            "--cameras",
            &["0", "65", "-1", "1.5", "x", "99999999999999999999"],
            "the demo takes 1 to 64 cameras",
        ),
        (
            &["demo"],
            "--seconds",
            &["0", "-1", "1e3", "18446744073709551615"],
            "",
        ),
        (
            &["demo"],
            "--fps",
            &["0", "241", "-1", "NaN", "inf", "1e-30"],
            fps,
        ),
        (
            &["capacity"],
            "--fps",
            &["0", "-0", "1e9", "nan", "-inf"],
            fps,
        ),
        (
            &["capacity"],
            "--max-fps",
            &["-1", "NaN", "inf", "1001"],
            "it takes a number from 0 to 1000",
        ),
        (
            &["capacity"],
            "--max-fps",
            &["0.00001", "0.099"],
            "it takes 0, or 0.1 and more",
        ),
        (
            &["capacity"],
            "--fps",
            &["0.001", "0.0999"],
            "it takes 0.1 frames a second at least",
        ),
        (
            &["camera", "--pattern"],
            "--twin",
            &[" ", "front door"],
            "it takes 1 to 256 characters without blanks",
        ),
        (
            &camera,
            "--dial",
            &["", "front door"],
            "it takes 1 to 256 characters without blanks",
        ),
        (
            &camera,
            "--stream",
            &["", "a:b", "a b"],
            "it takes 1 to 256 characters without blanks and colons",
        ),
        (
            &["capacity"],
            "--step-seconds",
            &["0", "21", "-5", "2.5"],
            "",
        ),
        (&camera, "--fps", &["0", "0.0000001", "1e308", "NaN"], fps),
        (&camera, "--fps", &["ten", ""], "it is no number"),
        (
            &camera,
            "--size",
            &["0x0", "16x16", "100000x100000"],
            "a camera sends from",
        ),
        (
            &camera,
            "--size",
            &["-1x5", "1e3x5", "640"],
            "as in 1280x720",
        ),
        (
            &["detect", "Cargo.toml"],
            "--min-score",
            &["40", "-0.1", "NaN", "inf", "0,4"],
            "it takes a number from 0 to 1",
        ),
        (
            &["detect", "Cargo.toml"],
            "--min-score",
            &["40"],
            "it takes a number from 0 to 1; is 0.4 meant?",
        ),
        (
            &["detect", "Cargo.toml", "--out", "seen.mp4"],
            "--fps",
            &["0", "0.05", "-25", "241", "NaN", "inf", "25fps"],
            "it takes a number from 0",
        ),
        (&["hub"], "--listen", &["0", "127.0.0.1:65536"], ""),
    ];
    for (command, option, values, sentence) in cases {
        for value in *values {
            let given = format!("{option}={value}");
            let outcome = twinsight(&[command, &[given.as_str()][..]].concat(), SIMULATOR);
            assert_eq!(outcome.code, Some(2), "{given}: {}", outcome.log);
            let start = format!("error: invalid value '{value}' for '{option} <");
            let is_named = outcome.log.starts_with(&start) || value.is_empty();
            assert!(
                is_named && outcome.log.contains(sentence),
                "{given}: {}",
                outcome.log
            );
        }
    }
}

#[test]
fn the_folder_of_models_is_the_variable_s_for_commands_without_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display().to_string();
    let env = [("TWINSIGHT_RUNTIME__MODELS_DIR", dir.as_str())];
    for command in [
        &["detect", "Cargo.toml"][..],
        &["demo", "--seconds", "1"],
        &["capacity", "--step-seconds", "1"],
    ] {
        let outcome = twinsight(command, &env);
        let there = format!("is not installed: there is no {dir}/{DEFAULT_MODEL}.toml");
        assert_eq!(outcome.code, Some(1), "{command:?}: {}", outcome.log);
        assert!(outcome.log.contains(&there), "{command:?}: {}", outcome.log);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_refuses_the_access_key_is_asked_again_and_said() {
    let url = start_hub(DevHubOptions {
        direct: DirectAccess::Keys(BTreeMap::from([(
            "device-1".to_owned(),
            "the-right-key".to_owned().into(),
        )])),
        ..DevHubOptions::default()
    })
    .await;
    let with_password = url.replace("http://", "http://user:hunter2@") + "/?token=hunter2";
    let env = [
        ("PHYHUB_DIRECT", "true"),
        ("PHYHUB_URL", with_password.as_str()),
        ("DEVICE_ID", "device-1"),
        ("ACCESS_KEY", "a-wrong-key"),
    ];
    let mut node = NodeProcess::start("", &env).await;
    let line = node.program.until("the hub is away").await;
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    let reason = "the hub refused the device id and access key (the access key is not valid for this device): \
                  they are tried for a minute, and another key as soon as its file holds one";
    assert_eq!(
        (said["hub"].as_str(), said["reason"].as_str()),
        (Some(&*url), Some(reason))
    );
    assert_eq!(said["remedy"], "check the device id and its access key");
    // The line comes a little earlier than the probe's sentence, and between two attempts the hub is dialled.
    let wanted = format!("the hub is not joined: {url} is away since ");
    let deadline = Instant::now() + DEADLINE;
    let ready = loop {
        let ready = http_get(node.http, "/readyz");
        if ready.contains(&wanted) {
            break ready;
        }
        assert!(Instant::now() < deadline, "{ready}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(ready.contains(reason), "{ready}");
    for text in [line, ready] {
        assert!(
            !text.contains("a-wrong-key") && !text.contains("hunter2"),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_of_a_node_and_of_none() {
    let mut node = NodeProcess::start("", SIMULATOR).await;
    let address = node.http.to_string();
    let mut env = SIMULATOR.to_vec();
    env.push(("TWINSIGHT_HTTP__LISTEN", &address));
    let healthy = twinsight(&["health"], &env);
    assert_eq!((healthy.code, healthy.log.as_str()), (Some(0), ""));
    node.program.signal("TERM");
    node.program.ended().await;
    twinsight(&["health"], &env).failed(
        1,
        &format!(
            "the node cannot be asked at {address} (Connection refused (os error 111)): \
             is it running, with this `http.listen`?"
        ),
    );
}
