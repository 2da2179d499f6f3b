//! `twinsight camera --rtsp` between an IP camera, which is GStreamer's RTSP server, and what looks at its twin: a node and a
//! viewer of this crate. Pictures are those that the camera sent, everything dies and comes back, and no log has the password.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::common::ip_camera::IpCamera;
use crate::common::{DEADLINE, NodeProcess, Program, root, start_hub};
use twinsight::dev::camera::encode::{PictureEncoder, Pictures};
use twinsight::dev::camera::pattern;
use twinsight::dev::hub::DevHubOptions;
use twinsight_client::hub::{HubClient, HubOptions};
use twinsight_client::media::{MediaStream, MediaStreamOptions};
use twinsight_client::realtime::ice::IceSettings;
use twinsight_media::picture::PictureSize;

const SIZE: PictureSize = PictureSize {
    width_px: 640,
    height_px: 360,
};

/// Pictures of the clip that the camera plays, numbered from 0.
pub(crate) const PICTURES: u32 = 150;

/// Rounds in which the IP camera dies, and the program that makes a twin of it.
const ROUNDS: u32 = 5;

const PASSWORD: &str = "hush-hush-4711";

/// `twinsight camera --rtsp` of the twin `cam-1`.
pub(crate) fn twin_of(camera: &IpCamera, args: &[&str], url: &str) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinsight"));
    command
        .args(["camera", "--twin", "cam-1", "--rtsp", &camera.url()])
        .args(args);
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
    ];
    Program::start(command, &env, true)
}

/// A clip of the numbered pattern with a keyframe each second.
pub(crate) fn numbered_clip(folder: &Path, size: PictureSize) -> String {
    let mut encoder = PictureEncoder::new(Pictures::pattern(size).unwrap(), 15.0).unwrap();
    let clip: Vec<u8> = (0..PICTURES)
        .flat_map(|n| encoder.next(n % 15 == 0).unwrap().data)
        .collect();
    let file = folder.join("numbers.h264");
    std::fs::write(&file, clip).unwrap();
    file.to_str().unwrap().to_owned()
}

pub(crate) async fn viewer(url: &str, twin: &str) -> (HubClient, MediaStream) {
    let hub = HubClient::connect(HubOptions::simulator(url, twin))
        .await
        .unwrap();
    let ice = IceSettings {
        interfaces: vec!["lo".to_owned()],
        ..IceSettings::default()
    };
    let options = MediaStreamOptions::default().with_ice(ice);
    let stream = hub.instance().get_media_stream("cam-1", options).await;
    (hub, stream.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_get_the_pictures_that_the_camera_sent() {
    let folder = tempfile::tempdir().unwrap();
    let clip = numbered_clip(folder.path(), SIZE);
    for transport in ["tcp", "udp"] {
        let url = start_hub(DevHubOptions::default()).await;
        let camera = IpCamera::start(&["--play", &clip]).await;
        let mut twin = twin_of(&camera, &["--rtsp-transport", transport], &url);
        twin.until("pictures come from the camera").await;
        let asked = Instant::now();
        let (_hub, stream) = viewer(&url, "viewer").await;
        let mut frames = stream.frames();
        let mut numbers = Vec::new();
        while numbers.len() < 60 {
            let frame = tokio::time::timeout(DEADLINE, frames.recv()).await;
            let frame = frame.expect("frames come").expect("the stream goes on");
            if numbers.is_empty() {
                println!(
                    "the first picture by {transport} after {:?}",
                    asked.elapsed()
                );
            }
            let number = pattern::read(&frame.planes()).whole();
            numbers.push(number.expect("the picture is whole"));
        }
        // A viewer that is slower than the camera gets the freshest picture, and no older one.
        let steps: Vec<u32> = numbers
            .windows(2)
            .map(|pair| (pair[1] + PICTURES - pair[0]) % PICTURES)
            .collect();
        assert!(
            steps.iter().all(|step| (1..=20).contains(step)),
            "{numbers:?}"
        );
        twin.signal("TERM");
        assert!(twin.ended().await.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_sees_the_camera_again_whoever_dies() {
    let clip = root().join("media/pedestrians.h264");
    let args = ["--play", clip.to_str().unwrap()];
    let url = start_hub(DevHubOptions::default()).await;
    let mut camera = IpCamera::start(&args).await;
    let address = camera.address;
    let mut twin = twin_of(&camera, &[], &url);
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url.as_str()),
        ("TWIN_ID", "node-1"),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
    ];
    let config = "[defaults]\nmodel = \"ssdlite_mobilenet_v2_coco\"\nmax_fps = 2.0\n[[cameras]]\ntwin_id = \"cam-1\"\n";
    let node = NodeProcess::start(config, &env).await;
    let sees = async |when: &str| {
        let detections = || node.metric("events_published_total", "camera=\"cam-1\"");
        let before = detections();
        let since = Instant::now();
        while detections() < before + 3.0 {
            assert!(since.elapsed() < DEADLINE, "nothing is seen {when}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        since.elapsed()
    };
    sees("at first").await;
    let mut back = Vec::new();
    for round in 0..ROUNDS {
        camera.program.signal("KILL");
        camera.program.ended().await;
        twin.until("the camera gives no pictures").await;
        camera = IpCamera::start_at(address, &args).await;
        back.push(sees("after the IP camera died").await);
        if round % 2 == 0 {
            twin.signal("KILL");
            twin.ended().await;
            twin = twin_of(&camera, &[], &url);
            back.push(sees("after its twin died").await);
        }
    }
    println!("seen again after {back:?}");
    twin.signal("TERM");
    assert!(twin.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_log_and_no_list_of_processes_has_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let (right, wrong) = (folder.path().join("right"), folder.path().join("wrong"));
    std::fs::write(&right, PASSWORD).unwrap();
    std::fs::write(&wrong, format!("{PASSWORD}-wrong")).unwrap();
    let url = start_hub(DevHubOptions::default()).await;
    for way in ["basic", "digest"] {
        let camera = IpCamera::start(&["--auth", way, "--password", PASSWORD]).await;
        for (file, line) in [
            (&right, "pictures come from the camera"),
            (&wrong, "refuses the user or the password"),
        ] {
            let log = log_until(&url, line, |command| {
                command
                    .args(["--rtsp", &camera.url(), "--rtsp-user", "admin"])
                    .arg("--rtsp-password-file")
                    .arg(file);
            });
            secret_is_not_in(&log);
            let log = log_until(&url, line, |command| {
                command
                    .args(["--rtsp", &camera.url()])
                    .env("TWINSIGHT_RTSP_USER", "admin")
                    .env(
                        "TWINSIGHT_RTSP_PASSWORD",
                        std::fs::read_to_string(file).unwrap(),
                    );
            });
            secret_is_not_in(&log);
            let password = std::fs::read_to_string(file).unwrap();
            let with_password = camera
                .url()
                .replace("rtsp://", &format!("rtsp://admin:{password}@"));
            let mut log = log_until(&url, line, |command| {
                command.args(["--rtsp", &with_password]);
            });
            assert!(log.starts_with("cmdline"), "{log}");
            // Who gives it there is told that `ps` shows it.
            let (command_line, rest) = log.split_once('\n').unwrap();
            assert!(command_line.contains(PASSWORD), "{command_line}");
            assert!(
                rest.contains("the password in the address of --rtsp is shown"),
                "{rest}"
            );
            log = rest.to_owned();
            secret_is_not_in(&log);
        }
    }
}

/// The command line as `ps` shows it, and what the program logs at its most talkative until a line has `text` and a while after.
fn log_until(url: &str, text: &str, arguments: impl FnOnce(&mut Command)) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinsight"));
    command
        .args(["camera", "--twin", "cam-1"])
        .env_clear()
        .env("PHYSTACK_SIMULATOR_URL", url)
        .env("RUST_LOG", "debug,retina=trace,twinsight=trace")
        .stderr(Stdio::piped());
    arguments(&mut command);
    let mut child = command.spawn().unwrap();
    let shown = || std::fs::read_to_string(format!("/proc/{}/cmdline", child.id())).unwrap();
    // For a moment after its start a process shows nothing.
    while shown().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut log = format!("cmdline {}\n", shown().replace('\0', " "));
    let pid = child.id().to_string();
    let mut found = false;
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if !found && line.contains(text) {
            found = true;
            Command::new("kill").arg(&pid).status().unwrap();
        }
        log += &line;
        log.push('\n');
    }
    child.wait().unwrap();
    assert!(found, "it never said `{text}`:\n{log}");
    log
}

#[track_caller]
fn secret_is_not_in(log: &str) {
    for password in [PASSWORD.to_owned(), format!("{PASSWORD}-wrong")] {
        for secret in [&password, &STANDARD.encode(format!("admin:{password}"))] {
            let told = log.lines().find(|line| line.contains(secret));
            assert_eq!(told, None);
        }
    }
}
