//! Homes: what is on the board after frames, states and what the broker kept.

use super::*;
use crate::publish::event::CameraStatus;
use crate::publish::lane::ObservedFrame;

fn config() -> MqttConfig {
    MqttConfig {
        host: "broker".to_owned(),
        port: 1883,
        tls: false,
        ca_file: None,
        username: None,
        password: None,
        topic: "twinsight".to_owned(),
        node: None,
        qos: 1,
        home_assistant: true,
        discovery_prefix: "homeassistant".to_owned(),
    }
}

struct Fixture {
    home: Home,
    board: Arc<Board>,
    now: Instant,
    max_skip: Option<Duration>,
}

impl Fixture {
    fn new() -> Self {
        let (home, link, _) = Home::new(&config(), "shop", &[]);
        Self {
            home,
            board: link.board,
            now: Instant::now(),
            max_skip: None,
        }
    }

    fn id() -> StreamId {
        StreamId::new("door", "default")
    }

    fn frame(&mut self, labels: &[&str]) -> bool {
        self.now += Duration::from_millis(100);
        let frame = ObservedFrame {
            id: Self::id(),
            name: "Front door".into(),
            at: self.now,
            max_skip: self.max_skip,
            objects: labels.iter().map(|label| ((*label).into(), 0.8)).collect(),
        };
        self.home
            .observe(Observed::Frame(frame), self.now)
            .is_some()
    }

    fn state(&mut self, state: CameraState) {
        let status = CameraStatus {
            id: Self::id(),
            name: "Front door".into(),
            state,
            since: self.now,
            reason: None,
            attempt: 1,
        };
        self.home.observe(Observed::Status(status), self.now);
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.home.pass(self.now);
    }

    /// What is wanted on a topic of the camera.
    fn at(&self, leaf: &str) -> Option<String> {
        self.board
            .wanted(&format!("twinsight/shop/door/default/{leaf}"))
    }

    fn has_entity(&self, component: &str, object: &str) -> bool {
        self.board.has(&format!(
            "homeassistant/{component}/twinsight_shop/door_default_{object}/config"
        ))
    }

    fn kept(&mut self, topic: &str, payload: &str) {
        self.home.broker_said(FromBroker::Kept {
            topic: topic.to_owned(),
            payload: Bytes::from(payload.to_owned()),
        });
    }
}

#[test]
fn a_person_who_is_seen_twice_makes_entities_and_a_picture_and_goes_again() {
    let mut home = Fixture::new();
    home.state(CameraState::Receiving);
    assert!(home.has_entity("sensor", "state") && home.has_entity("image", "best_shot"));
    assert!(!home.frame(&["person"]));
    assert!(!home.has_entity("binary_sensor", "occupancy_person"));
    assert!(home.frame(&["person", "person"]), "a picture is wanted");
    assert!(home.has_entity("binary_sensor", "occupancy_person"));
    assert!(home.has_entity("sensor", "count_person"));
    assert_eq!(home.at("occupancy/person").as_deref(), Some("ON"));
    assert_eq!(home.at("count/person").as_deref(), Some("2"));
    assert!(!home.frame(&["person"]), "the next one is not");
    for _ in 0..110 {
        home.frame(&[]);
    }
    assert_eq!(home.at("occupancy/person").as_deref(), Some("OFF"));
    assert_eq!(home.at("count/person").as_deref(), Some("0"));
    assert!(home.has_entity("binary_sensor", "occupancy_person"));
}

#[test]
fn a_single_false_detection_makes_no_entity() {
    let mut home = Fixture::new();
    home.state(CameraState::Receiving);
    home.frame(&["toaster"]);
    for _ in 0..20 {
        home.frame(&[]);
    }
    home.frame(&["toaster"]);
    assert!(!home.has_entity("binary_sensor", "occupancy_toaster"));
    assert_eq!(home.at("occupancy/toaster"), None);
}

#[test]
fn what_a_blind_camera_shows_is_not_known_and_nothing_is_free_for_that() {
    let mut home = Fixture::new();
    home.state(CameraState::Receiving);
    home.frame(&["person"]);
    home.frame(&["person"]);
    assert_eq!(home.at("availability").as_deref(), Some("online"));
    home.state(CameraState::Stalled);
    assert_eq!(home.at("availability").as_deref(), Some("offline"));
    // A frame that was on its way does not bring it back.
    home.frame(&[]);
    assert_eq!(home.at("availability").as_deref(), Some("offline"));
    home.wait(60);
    assert_eq!(home.at("occupancy/person").as_deref(), Some("ON"));
    home.state(CameraState::Receiving);
    home.frame(&["person"]);
    assert_eq!(home.at("availability").as_deref(), Some("online"));
    home.frame(&["person"]);
    // A model that gives no results makes blind, too.
    home.wait(16);
    assert_eq!(home.at("availability").as_deref(), Some("offline"));
}

#[test]
fn a_camera_that_is_removed_takes_its_entities_and_states_with_it() {
    let mut home = Fixture::new();
    home.state(CameraState::Receiving);
    home.frame(&["person"]);
    home.frame(&["person"]);
    home.home
        .shot_taken(&Fixture::id(), Some(Bytes::from_static(b"jpeg")));
    home.state(CameraState::Removed);
    // Frames that were on their way do not bring it back.
    home.frame(&["person"]);
    home.frame(&["person"]);
    for leaf in [
        "availability",
        "bestShot",
        "occupancy/person",
        "count/person",
    ] {
        assert_eq!(home.at(leaf).as_deref(), Some(""), "{leaf}");
    }
    for (component, object) in [
        ("sensor", "state"),
        ("binary_sensor", "connection"),
        ("image", "best_shot"),
        ("binary_sensor", "occupancy_person"),
        ("sensor", "count_person"),
    ] {
        assert!(!home.has_entity(component, object), "{object}");
    }
}

#[test]
fn a_new_name_is_told_and_the_ids_stay() {
    let mut home = Fixture::new();
    home.state(CameraState::Receiving);
    let topic = "homeassistant/sensor/twinsight_shop/door_default_state/config";
    let before = home.board.wanted(topic).unwrap();
    home.home
        .observe(Observed::Renamed(Fixture::id(), "Yard".into()), home.now);
    let after = home.board.wanted(topic).unwrap();
    assert_eq!(before.replace("Front door", "Yard"), after);
}

#[test]
fn the_next_run_goes_on_where_this_one_ended_and_tidies_up() {
    let mut home = Fixture::new();
    home.state(CameraState::Connecting);
    home.kept(
        "homeassistant/binary_sensor/twinsight_shop/door_default_occupancy_traffic_light/config",
        "{\"name\": \"traffic light\"}",
    );
    let states = "twinsight/shop/door/default";
    home.kept(&format!("{states}/cameraStatus"), "{}");
    home.kept(&format!("{states}/occupancy/traffic_light"), "ON");
    // A camera that was removed while the node was down.
    let gone = "homeassistant/sensor/twinsight_shop/gone_default_state/config";
    home.kept(gone, "{\"name\": \"state\"}");
    home.kept("twinsight/shop/gone/default/cameraStatus", "{}");
    home.home.broker_said(FromBroker::AllKeptTold);

    assert!(home.has_entity("binary_sensor", "occupancy_traffic_light"));
    assert_eq!(home.at("occupancy/traffic_light").as_deref(), Some("OFF"));
    assert_eq!(home.at("cameraStatus"), None, "that is the lane's to send");
    for topic in [
        gone,
        "twinsight/shop/gone/default/cameraStatus",
        "twinsight/shop/gone/default/bestShot",
    ] {
        assert_eq!(home.board.wanted(topic).as_deref(), Some(""), "{topic}");
    }
}

#[test]
fn labels_without_end_are_not_told_without_end() {
    let mut home = Fixture::new();
    home.state(CameraState::Receiving);
    for n in 0..200 {
        let label = format!("label {n}");
        home.frame(&[&label]);
        home.frame(&[&label]);
    }
    let listed = (0..200)
        .filter(|n| home.has_entity("binary_sensor", &format!("occupancy_label_{n}")))
        .count();
    assert_eq!(listed, camera::MAX_LABELS);
}

#[test]
fn what_does_not_move_under_the_motion_gate_is_there_as_before() {
    let mut home = Fixture::new();
    home.max_skip = Some(Duration::from_secs(60));
    home.state(CameraState::Receiving);
    home.frame(&["person"]);
    home.frame(&["person"]);
    home.wait(70);
    assert_eq!(home.at("availability").as_deref(), Some("online"));
    assert_eq!(home.at("occupancy/person").as_deref(), Some("ON"));
    // One frame misses it, and nothing moves.
    home.frame(&[]);
    home.wait(50);
    assert_eq!(home.at("occupancy/person").as_deref(), Some("ON"));
    // It goes, which several frames show.
    home.frame(&["person"]);
    home.frame(&[]);
    home.frame(&[]);
    home.wait(11);
    assert_eq!(home.at("occupancy/person").as_deref(), Some("OFF"));
    // Beyond its pause, a camera that gives nothing is not seen.
    home.wait(70);
    assert_eq!(home.at("availability").as_deref(), Some("offline"));
}
