//! The examples of media streams as programs, with each other and with the development camera.

use std::process::Command;

use crate::common::{Program, example, start_hub};
use twinsight::dev::hub::DevHubOptions;
use twinsight_client::hub::{HubClient, HubOptions};

fn start(name: &str, url: &str, twin: &str, args: &[&str]) -> Program {
    let mut command = Command::new(example(name));
    command.args(args).current_dir(crate::common::root());
    let env = [("PHYSTACK_SIMULATOR_URL", url), ("TWIN_ID", twin)];
    Program::start(command, &env, false)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sends_and_one_receives() {
    let url = start_hub(DevHubOptions::default()).await;
    let mut sender = start("media_send", &url, "sender", &[]);
    sender.until("ready").await;
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("frame.png");
    let args = ["sender", picture.to_str().unwrap()];
    let mut receiver = start("media_receive", &url, "receiver", &args);
    sender.until("receiver looks on").await;
    receiver.until("a track of").await;
    receiver.until("packets of sound").await;
    assert!(receiver.ended().await.success());
    let picture = image::open(picture).unwrap().into_rgb8();
    assert_eq!(picture.dimensions(), (640, 360));
    let [red, green, blue] = picture.get_pixel(2, 2).0.map(i32::from);
    assert!(
        (red - 30).abs() < 12 && (green - 60).abs() < 12 && (blue - 120).abs() < 12,
        "the background is {red} {green} {blue}, and was 30 60 120"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_see_each_other() {
    let url = start_hub(DevHubOptions::default()).await;
    let mut answers = start("media_two_way", &url, "desk-1", &["answer", "desk-2"]);
    answers.until("ready").await;
    let mut calls = start("media_two_way", &url, "desk-2", &["call", "desk-1"]);
    let of_caller = answers.until("the other side's green is").await;
    let of_answerer = calls.until("the other side's green is").await;
    let green = |line: &str| line.rsplit(' ').next().unwrap().parse::<i32>().unwrap();
    assert!((green(&of_caller) - 200).abs() < 12, "{of_caller}");
    assert!((green(&of_answerer) - 60).abs() < 12, "{of_answerer}");
    assert!(calls.ended().await.success() && answers.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_names_at_once() {
    let url = start_hub(DevHubOptions::default()).await;
    let _cameras: Vec<_> = ["front", "back"]
        .into_iter()
        .map(|name| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_twinsight"));
            command.args(["camera", "--twin", "camera", "--pattern"]);
            command.args(["--stream", name]);
            Program::start(command, &[("PHYSTACK_SIMULATOR_URL", &url)], false)
        })
        .collect();
    let mut viewer = start("media_named", &url, "viewer", &["camera", "front", "back"]);
    viewer.until("back: frame 5").await;
    viewer.until("front: frame").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_app_meets_a_robot_and_a_camera() {
    let url = start_hub(DevHubOptions::default()).await;
    let listener = HubClient::connect(HubOptions::simulator(&url, "listener"))
        .await
        .unwrap();
    let mut messages =
        listener.messages(64, |message| message.data["type"] == "edgeInstance:started");
    listener.subscribe("app").await.unwrap();
    let mut robot = start("data_channel_in", &url, "robot", &[]);
    robot.until("ready").await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinsight"));
    command.args(["camera", "--twin", "camera", "--pattern"]);
    let _camera = Program::start(command, &[("PHYSTACK_SIMULATOR_URL", &url)], false);
    let mut app = start("app", &url, "app", &["robot", "camera"]);
    app.until("joined the hub as app").await;
    assert_eq!(messages.recv().await.unwrap().data["data"]["by"], "app");
    app.until("the robot answers").await;
    app.until("a frame of").await;
    assert!(app.ended().await.success());
}

/// The persons of the shipped clip, found by the example's own session and told to whoever listens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_of_ones_own_sees_the_pedestrians() {
    let url = start_hub(DevHubOptions::default()).await;
    let listener = HubClient::connect(HubOptions::simulator(&url, "listener"))
        .await
        .unwrap();
    let mut messages = listener.messages(64, |message| {
        message.data["type"] == "edgeInstance:detections"
    });
    listener.subscribe("vision").await.unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinsight"));
    command.args(["camera", "--twin", "camera", "--clip"]);
    command.arg(crate::common::root().join("media/pedestrians.h264"));
    let _camera = Program::start(command, &[("PHYSTACK_SIMULATOR_URL", &url)], false);
    let _vision = start("computer_vision", &url, "vision", &["camera"]);
    loop {
        let told = tokio::time::timeout(crate::common::DEADLINE, messages.recv()).await;
        let message = told.expect("an event in time").unwrap();
        let event = &message.data["data"];
        assert_eq!(event["camera"], "camera");
        let objects = event["objects"].as_array().unwrap();
        if let Some(object) = objects.first() {
            assert_eq!(object["label"], "person");
            let side = |name: &str| object["box"][name].as_f64().unwrap();
            assert!(
                side("width") > 5.0 && side("height") > side("width"),
                "{object}"
            );
            return;
        }
    }
}
