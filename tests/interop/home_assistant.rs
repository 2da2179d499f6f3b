//! Home Assistant itself on the other side of a broker: by its REST API, entities of a node's cameras appear, change, become unavailable
//! and go.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use twinsight::dev::hub::DevHubOptions;

use super::mqtt::{Broker, CAMERA, Manner};
use crate::common::ports::unused_address;
use crate::common::{DEADLINE, Program, fake, root, start_hub};

/// A home that listens to a broker.
struct Home {
    address: SocketAddr,
    token: String,
    _program: Program,
    _folder: TempDir,
}

impl Home {
    /// Starts it. `None` means that it is not installed.
    async fn start(broker: &Broker) -> Option<Self> {
        let python = std::env::var_os("TWINSIGHT_TEST_HOME_ASSISTANT").map_or_else(
            || root().join(".tools/home-assistant/bin/python"),
            PathBuf::from,
        );
        if !python.exists() {
            println!(
                "not run: there is no {}: run scripts/setup --test with Python 3.11 or 3.12",
                python.display()
            );
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let address = unused_address();
        let mut command = Command::new(python);
        command
            .arg(root().join("tests/interop/home_assistant.py"))
            .arg(folder.path())
            .arg(address.port().to_string())
            .arg(broker.address.port().to_string())
            .stdin(Stdio::piped());
        let mut program = Program::start(command, &[], false);
        let line = program.until("token ").await;
        Some(Self {
            address,
            token: line.trim_start_matches("token ").to_owned(),
            _program: program,
            _folder: folder,
        })
    }

    /// Status and body of an answer.
    fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let token = &self.token;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap();
        let head = str::from_utf8(&answer[..end]).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer[end + 4..].to_vec())
    }

    fn entity(&self, entity: &str) -> Option<Value> {
        let (status, body) = self.get(&format!("/api/states/{entity}"));
        (status == 200).then(|| serde_json::from_slice(&body).unwrap())
    }

    /// Waits until an entity is in a state; without one, until it is gone.
    async fn until(&self, entity: &str, state: Option<&str>) {
        self.until_one_of(entity, &[state]).await;
    }

    /// A camera that nobody plays is unreachable after the second offer, if Home Assistant takes that long to know the entity.
    async fn until_not_yet_seen(&self, entity: &str) {
        let states = [Some("connecting"), Some("unreachable")];
        self.until_one_of(entity, &states).await;
    }

    async fn until_one_of(&self, entity: &str, states: &[Option<&str>]) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let there = self.entity(entity);
            let is = there.as_ref().map(|there| there["state"].as_str().unwrap());
            if states.contains(&is) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{entity} is {is:?}, not one of {states:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entities_of_a_camera_appear_change_and_go() {
    let url = start_hub(DevHubOptions::default()).await;
    let mut broker = Broker::start(Manner::Open).await;
    let Some(home) = Home::start(&broker).await else {
        return;
    };
    let started = Instant::now();
    let node = fake::node(&url, &(broker.sink("") + CAMERA), Duration::from_millis(5)).await;
    home.until_not_yet_seen("sensor.front_door_state").await;
    home.until("binary_sensor.front_door_connection", Some("off"))
        .await;
    let camera = fake::camera(&url, "cam", "default", None, 15.0);
    home.until("binary_sensor.front_door_person", Some("on"))
        .await;
    println!("a person was there after {:?}", started.elapsed());
    home.until("sensor.front_door_person_count", Some("1"))
        .await;
    home.until("sensor.front_door_state", Some("receiving"))
        .await;
    home.until("binary_sensor.front_door_connection", Some("on"))
        .await;
    home.until("binary_sensor.twinsight_node_1_connection", Some("on"))
        .await;
    let person = home.entity("binary_sensor.front_door_person").unwrap();
    assert_eq!(person["attributes"]["device_class"], "occupancy");

    // The best shot is a picture.
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (status, body) = home.get("/api/image_proxy/image.front_door_best_shot");
        if status == 200 && body.starts_with(&[0xFF, 0xD8]) {
            break;
        }
        assert!(Instant::now() < deadline, "{status}: there is no picture");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // A broker that forgot everything is told of all again.
    broker.kill().await;
    home.until("binary_sensor.front_door_person", Some("unavailable"))
        .await;
    broker.restart().await;
    home.until("binary_sensor.front_door_person", Some("on"))
        .await;

    // Nobody knows what is before a camera that is not received.
    camera.abort();
    home.until("binary_sensor.front_door_person", Some("unavailable"))
        .await;
    home.until("binary_sensor.front_door_connection", Some("off"))
        .await;
    let state = home.entity("sensor.front_door_state").unwrap();
    assert_ne!(state["state"], "unavailable");
    assert!(state["attributes"].get("attempt").is_some(), "{state}");

    node.shutdown().await;
    home.until("sensor.front_door_state", Some("unavailable"))
        .await;
    home.until("binary_sensor.twinsight_node_1_connection", Some("off"))
        .await;

    // The next run has another camera in its place.
    let other = CAMERA
        .replace("\"cam\"", "\"other\"")
        .replace("Front door", "Yard");
    let node = fake::node(&url, &(broker.sink("") + &other), Duration::from_millis(5)).await;
    home.until_not_yet_seen("sensor.yard_state").await;
    for entity in [
        "sensor.front_door_state",
        "binary_sensor.front_door_person",
        "sensor.front_door_person_count",
        "image.front_door_best_shot",
    ] {
        home.until(entity, None).await;
    }
    node.shutdown().await;
}
