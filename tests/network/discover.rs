//! The search of `twinsight discover`, in networks of its own: a responder that others wrote answers to it.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says why it does not run"
)]

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::common::{Program, python, root};
use crate::namespaces::Namespace;

/// Says why a test cannot run here.
macro_rules! needs_networks {
    () => {
        if let Some(reason) = crate::namespaces::missing() {
            println!("not run: {reason}");
            return;
        }
    };
}

/// A camera that is found by the package WSDiscovery, in a namespace.
async fn camera(network: &Namespace, shape: &str, host: &str, more: &[&str]) -> Program {
    let mut command = network.command(python().to_str().unwrap());
    command
        .arg(root().join("tests/interop/onvif.py"))
        .args([shape, "--host", host, "--auth", "none", "--announce"])
        .args(more)
        // The package's thread for IPv6 fails at answers to IPv4, and says so at length.
        .stderr(Stdio::null());
    let mut camera = Program::start(command, &[], false);
    camera.until("listening ").await;
    camera
}

fn discover(network: &Namespace, args: &[&str]) -> Output {
    let mut command: Command = network.command(env!("CARGO_BIN_EXE_twinsight"));
    command.arg("discover").args(args);
    command.output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

fn log(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cameras_of_all_networks_are_found_once_each_and_strange_answers_are_named() {
    needs_networks!();
    let (host, yard, house) = (
        Namespace::new("host"),
        Namespace::new("yard"),
        Namespace::new("house"),
    );
    host.cable(("eth0", "10.9.0.1/24"), &yard, ("eth0", "10.9.0.2/24"));
    host.cable(("eth1", "10.9.1.1/24"), &house, ("eth0", "10.9.1.2/24"));
    let mut yard_camera = camera(&yard, "hikvision", "10.9.0.2", &[]).await;
    let _house_camera = camera(
        &house,
        "dahua",
        "10.9.1.2",
        &["--own-host", "192.168.1.108"],
    )
    .await;
    // Somebody in the house answers to everything with what is no answer.
    let stranger = house.enter(|| {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        let any: std::net::SocketAddr = "239.255.255.250:3702".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        let group = "239.255.255.250".parse().unwrap();
        socket
            .join_multicast_v4(&group, &"10.9.1.2".parse().unwrap())
            .unwrap();
        let socket: std::net::UdpSocket = socket.into();
        let answering = std::thread::Builder::new().spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(
                    b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
                    from,
                );
            }
        });
        drop(answering.unwrap());
    });
    stranger.join().unwrap();

    let output = discover(&host, &["--json"]);
    let found = lines(&output);
    let addresses: Vec<&str> = found
        .iter()
        .map(|it| it["address"].as_str().unwrap())
        .collect();
    assert_eq!(addresses, ["10.9.0.2", "10.9.1.2"], "{}", log(&output));
    assert_eq!(found[0]["name"], "HIKVISION DS-2CD2042WD-I");
    assert_eq!(found[0]["location"], "country/china");
    assert!(
        found[0]["endpoint"]
            .as_str()
            .unwrap()
            .starts_with("urn:uuid:")
    );
    assert_eq!(found[0]["streams"].as_array().unwrap().len(), 2);
    // It names an address behind a router, and is asked at its own.
    let address = found[1]["deviceService"].as_str().unwrap();
    assert!(address.starts_with("http://10.9.1.2:"), "{address}");
    assert_eq!(found[1]["streams"][1]["forDetection"], true);
    assert_eq!(output.status.code(), Some(0));
    let log = log(&output);
    assert!(
        log.contains("some answers to the search for cameras cannot be read"),
        "{log}"
    );
    assert!(
        log.contains("10.9.1.2: ") && log.contains("count=6"),
        "{log}"
    );

    // Each question is in the way of the schema, and is sent three times.
    for kind in ["dn:NetworkVideoTransmitter", "dn:Device"] {
        let line = yard_camera.line().await.unwrap();
        assert_eq!(line, format!("asked Probe {kind}"));
    }
    let output = discover(&host, &["--json", "--interface", "eth1", "--wait", "1.5"]);
    assert_eq!(lines(&output).len(), 1);
    let output = discover(&host, &["--interface", "wlan7"]);
    assert_eq!(output.status.code(), Some(1));
    let sentence = self::log(&output);
    assert!(
        sentence.contains("twinsight: the interface `wlan7` cannot be used ("),
        "{sentence}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_host_can_be_asked_without_a_search_and_silence_is_explained() {
    needs_networks!();
    let (host, yard) = (Namespace::new("host"), Namespace::new("yard"));
    host.cable(("eth0", "10.9.0.1/24"), &yard, ("eth0", "10.9.0.2/24"));
    let output = discover(&host, &["--wait", "0.5"]);
    assert_eq!(output.status.code(), Some(1));
    let log = log(&output);
    for part in [
        "no camera answered within 0.5 s",
        "`--network host`",
        "VLANs",
        "`--address HOST`",
    ] {
        assert!(log.contains(part), "{log}");
    }
    let _camera = camera(&yard, "axis", "10.9.0.2", &[]).await;
    let output = discover(&host, &["--json", "--address", "10.9.0.2"]);
    let found = lines(&output);
    assert_eq!(found.len(), 1, "{}", self::log(&output));
    assert_eq!(found[0]["name"], "AXIS M3045-V");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_others_wrote_is_found_and_tells_its_streams_to_who_knows_the_password() {
    needs_networks!();
    let (host, yard) = (Namespace::new("host"), Namespace::new("yard"));
    host.cable(("eth0", "10.9.0.1/24"), &yard, ("eth0", "10.9.0.2/24"));
    let mut command = yard.command(python().to_str().unwrap());
    command
        .arg(root().join("tests/interop/ipycam_camera.py"))
        .args(["10.9.0.2", "admin", "correct-horse"])
        .current_dir(std::env::temp_dir());
    let mut camera = Program::start(command, &[], false);
    camera.until("listening").await;
    let password = tempfile::NamedTempFile::new().unwrap();
    let file = password.path().to_str().unwrap();

    let found = &lines(&discover(&host, &["--json", "--wait", "2"]))[0];
    assert_eq!(found["problem"], "needsCredentials");
    assert_eq!(found["name"], "Virtual Camera");
    std::fs::write(&password, "wrong-horse\n").unwrap();
    let user = ["--user", "admin", "--password-file", file];
    let all = |more: &[&'static str]| -> Vec<String> {
        let words = ["--wait", "2"].iter().chain(&user).chain(more);
        words.map(|word| (*word).to_owned()).collect()
    };
    let run = |more: &[&'static str]| {
        let words = all(more);
        discover(&host, &words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(lines(&run(&["--json"]))[0]["problem"], "wrongCredentials");

    std::fs::write(&password, "correct-horse\n").unwrap();
    let found = &lines(&run(&["--json"]))[0];
    assert_eq!(found["problem"], Value::Null, "{found}");
    assert_eq!(found["model"], "VirtualCam-1");
    let sub = &found["streams"][1];
    assert_eq!(sub["rtsp"], "rtsp://10.9.0.2:8554/video_sub");
    assert_eq!(
        (&sub["width"], &sub["forDetection"]),
        (&640.into(), &true.into())
    );

    let output = run(&["--config"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let config: toml::Table = text.parse().unwrap();
    let camera = &config["cameras"][0];
    assert_eq!(camera["twin_id"].as_str(), Some("virtual-camera"));
    assert_eq!(camera["rtsp_password_file"].as_str(), Some(file));
    assert!(!text.contains("correct-horse"));

    let output = run(&[]);
    let table = String::from_utf8_lossy(&output.stdout);
    let row = table
        .lines()
        .find(|line| line.contains("* SubStream"))
        .unwrap();
    assert!(row.contains("H.264  640x360"), "{table}");
}
