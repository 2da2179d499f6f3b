//! Bridges: IP cameras (GStreamer's RTSP server) that are twins by `twinsight bridge` or within the node. Hub, bridge, node and cameras
//! are processes of their own, as their users start them.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::ip_camera::IpCamera;
use crate::common::ports::unused_address;
use crate::common::{DEADLINE, NodeProcess, fake, http_get, start_hub, twinsight};
use serde_json::Value;
use tokio::net::TcpListener;
use twinsight::bridge::source::{Source, SourceEvent, SourceFacts, SourceState, SourceUnit};
use twinsight::bridge_service::{BridgeParts, BridgeService};
use twinsight::config::{ConfigSource, Env};
use twinsight::dev::hub::DevHubOptions;
use twinsight_client::hub::{HubClient, HubOptions, MessageReceiver};
use twinsight_client::media::{MediaStream, MediaStreamOptions};
use twinsight_client::realtime::ice::IceSettings;

const SETTINGS: &str = "[defaults]\nmodel = \"ssdlite_mobilenet_v2_coco\"\nmax_fps = 4.0\n";

/// Pictures come again within this time after the camera is back.
const RETURN_LIMIT: Duration = Duration::from_secs(20);

fn bridged(twin: &str, url: &str) -> String {
    format!("[[cameras]]\ntwin_id = \"{twin}\"\nrtsp = \"{url}\"\n")
}

async fn until(what: &str, wanted: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !wanted() {
        assert!(begun.elapsed() < DEADLINE, "this did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    begun.elapsed()
}

fn is_in_state(program: &NodeProcess, metric: &str, camera: &str, state: &str) -> bool {
    let labels = format!("camera=\"{camera}\",state=\"{state}\"");
    program.metric(metric, &labels) > 0.5
}

fn of_camera(program: &NodeProcess, metric: &str, camera: &str) -> f64 {
    program.metric(metric, &format!("camera=\"{camera}\""))
}

/// Waits for an event of a camera that is as wanted.
async fn event(
    messages: &mut MessageReceiver,
    camera: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let found = async {
        loop {
            let message = messages.recv().await.expect("the app stays on the hub");
            let event = &message.data["data"];
            let is_of = event["camera"]["twinId"] == camera || event["twinId"] == camera;
            if is_of && wanted(event) {
                return event.clone();
            }
        }
    };
    tokio::time::timeout(DEADLINE, found)
        .await
        .unwrap_or_else(|_| panic!("{camera}: {what}"))
}

fn sees_a_person(event: &Value) -> bool {
    let objects = event["objects"].as_array();
    objects.is_some_and(|objects| objects.iter().any(|object| object["label"] == "person"))
}

/// A viewer of our own.
async fn viewer(url: &str, twin: &str, camera: &str) -> (HubClient, MediaStream) {
    let hub = HubClient::connect(HubOptions::simulator(url, twin))
        .await
        .unwrap();
    let options = MediaStreamOptions::default().with_ice(IceSettings {
        interfaces: vec!["lo".to_owned()],
        ..IceSettings::default()
    });
    let stream = hub.instance().open_media_stream(camera, options).unwrap();
    (hub, stream)
}

/// How often a stream's connection ended.
fn ends_of(stream: &MediaStream) -> Arc<AtomicUsize> {
    let ends = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&ends);
    stream.on_close(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::ready(())
    });
    ends
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridged_camera_is_seen_by_the_node_beside_it() {
    let url = start_hub(DevHubOptions::default()).await;
    let hub = ("PHYSTACK_SIMULATOR_URL", url.as_str());
    let lo = ("TWINSIGHT_ICE__INTERFACES", "lo");
    let ip = IpCamera::playing(unused_address()).await;
    let mut bridge = NodeProcess::start_bridge(&bridged("yard", &ip.url()), &[hub, lo]).await;
    let (_app, mut messages) = fake::listen(&url).await;
    let config = format!("{SETTINGS}[[cameras]]\ntwin_id = \"yard\"\n");
    let node = NodeProcess::start(&config, &[hub, lo, ("TWIN_ID", fake::NODE)]).await;

    let seen = event(&mut messages, "yard", "a person", sees_a_person).await;
    assert_eq!(seen["frame"]["width"], 768);
    assert!(is_in_state(&bridge, "bridge_state", "yard", "receiving"));
    assert!(of_camera(&bridge, "bridge_units_received_total", "yard") > 0.0);
    until("one viewer", || {
        (of_camera(&bridge, "bridge_viewers", "yard") - 1.0).abs() < 0.1
    })
    .await;
    assert_eq!(http_get(bridge.http, "/readyz"), "ok\n");
    assert_eq!(http_get(bridge.http, "/healthz"), "ok\n");
    assert!(http_get(bridge.http, "/").contains("a Twinsight bridge"));
    let metrics = http_get(bridge.http, "/metrics");
    assert!(metrics.contains("\ntwinsight_hub_connected 1\n"));
    assert!(!metrics.contains("twinsight_frames"), "{metrics}");
    assert!(!http_get(node.http, "/metrics").contains("twinsight_bridge"));
    let asker = HubClient::connect(HubOptions::simulator(&url, "asker"))
        .await
        .unwrap();
    let told = async {
        loop {
            let twin = asker.get_twin("yard").await.unwrap();
            let bridge = twin.properties.reported.get("bridge").cloned();
            if let Some(bridge) = bridge.filter(|bridge| bridge["state"] == "receiving") {
                return bridge;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let told = tokio::time::timeout(DEADLINE, told).await.unwrap();
    assert_eq!(told["source"], ip.url());
    assert!(told["reason"].is_null(), "{told}");
    bridge.program.signal("TERM");
    assert!(bridge.program.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_sees_a_camera_that_it_bridges_as_soon_as_it_listens() {
    let url = start_hub(DevHubOptions::default()).await;
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url.as_str()),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
        ("TWIN_ID", fake::NODE),
    ];
    let ip = IpCamera::playing(unused_address()).await;
    let config = format!("{SETTINGS}{}", bridged("yard", &ip.url()));
    let node = NodeProcess::start(&config, &env).await;
    let took = until("a frame", || {
        is_in_state(&node, "camera_state", "yard", "receiving")
    })
    .await;
    println!("the first frame after the node's start: {took:.2?}");
    let again = of_camera(&node, "camera_reconnects_total", "yard");
    assert!(again < 0.5, "the first offer is answered: {again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_bridges_its_own_cameras_and_says_what_the_camera_says() {
    let url = start_hub(DevHubOptions::default()).await;
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url.as_str()),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
        ("TWIN_ID", fake::NODE),
    ];
    let address = unused_address();
    let clip = crate::common::root().join("media/pedestrians.h264");
    let protected = [
        "--play",
        clip.to_str().unwrap(),
        "--auth",
        "digest",
        "--password",
        "right",
    ];
    let ip = IpCamera::start_at(address, &protected).await;
    let (_app, mut messages) = fake::listen(&url).await;
    let secrets = tempfile::tempdir().unwrap();
    let password = secrets.path().join("password");
    std::fs::write(&password, "wrong").unwrap();
    let config = |user: &str| {
        format!(
            "{SETTINGS}rtsp_user = \"{user}\"\nrtsp_password_file = \"{}\"\n{}",
            password.display(),
            bridged("yard", &ip.url())
        )
    };
    let node = NodeProcess::start(&config("admin"), &env).await;
    let refused = event(&mut messages, "yard", "the camera's own reason", |event| {
        let reason = event["reason"].as_str();
        reason.is_some_and(|reason| reason.contains("refuses the user or the password (401)"))
    })
    .await;
    assert_ne!(refused["state"], "receiving");
    assert!(is_in_state(&node, "bridge_state", "yard", "rejected"));

    // The file names another user's password file by then; here the text changes, and with it the source.
    std::fs::write(&password, "right").unwrap();
    let other = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n{}name = \"Yard\"\nrtsp_transport = \"tcp\"\n",
        config("admin")
    );
    std::fs::write(&node.config, other).unwrap();
    event(&mut messages, "yard", "a person", sees_a_person).await;
    assert!(is_in_state(&node, "bridge_state", "yard", "receiving"));

    let url_of_camera = ip.url();
    ip.die().await;
    let gone = event(&mut messages, "yard", "a camera that is gone", |event| {
        let reason = event["reason"].as_str();
        reason.is_some_and(|reason| reason.contains("cannot be reached"))
    })
    .await;
    assert!(
        gone["reason"].as_str().unwrap().contains(&url_of_camera),
        "{gone}"
    );
    let _ip = IpCamera::start_at(address, &protected).await;
    let returned = Instant::now();
    event(&mut messages, "yard", "a person again", sees_a_person).await;
    println!(
        "detections after the camera's return: {:.2?}",
        returned.elapsed()
    );
    assert!(returned.elapsed() < RETURN_LIMIT + Duration::from_secs(10));
    assert!(of_camera(&node, "bridge_reconnects_total", "yard") >= 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_follows_its_file_and_what_did_not_change_loses_nothing() {
    let url = start_hub(DevHubOptions::default()).await;
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url.as_str()),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
    ];
    let stays = IpCamera::start(&[]).await;
    let other = IpCamera::start(&[]).await;
    let head = "[http]\nlisten = \"127.0.0.1:0\"\n";
    let mut bridge = NodeProcess::start_bridge(&bridged("stays", &stays.url()), &env).await;
    let write = |path: &Path, text: &str| std::fs::write(path, format!("{head}{text}")).unwrap();
    let (_hub, viewer) = viewer(&url, "app-1", "stays").await;
    let (ends, mut frames) = (ends_of(&viewer), viewer.frames());
    tokio::time::timeout(DEADLINE, frames.recv()).await.unwrap();
    let reconnects = || of_camera(&bridge, "bridge_reconnects_total", "stays");
    assert!(reconnects() < 0.5);

    // One more.
    let two = bridged("stays", &stays.url()) + &bridged("comes", &other.url());
    write(&bridge.config, &two);
    until("the second camera", || {
        is_in_state(&bridge, "bridge_state", "comes", "receiving")
    })
    .await;
    // It changes.
    let changed = bridged("stays", &stays.url())
        + &bridged("comes", &other.url())
        + "rtsp_transport = \"udp\"\n";
    write(&bridge.config, &changed);
    bridge.program.until("\"restarted\":1").await;
    until("the second camera by UDP", || {
        is_in_state(&bridge, "bridge_state", "comes", "receiving")
    })
    .await;
    // A mistake is told, and the last good one stays.
    write(
        &bridge.config,
        &format!("{changed}[runtime]\nthreads = 2\n"),
    );
    let refused = bridge.program.until("the configuration was refused").await;
    assert!(
        refused.contains("`runtime.threads` means nothing to a bridge"),
        "{refused}"
    );
    assert!(is_in_state(&bridge, "bridge_state", "comes", "receiving"));
    // It goes, by SIGHUP, and so do its series.
    write(&bridge.config, &bridged("stays", &stays.url()));
    bridge.program.signal("HUP");
    until("the second camera is gone", || {
        !http_get(bridge.http, "/metrics").contains("camera=\"comes\"")
    })
    .await;
    assert!(of_camera(&bridge, "bridge_reconnects_total", "stays") < 0.5);
    assert_eq!(
        ends.load(Ordering::Relaxed),
        0,
        "its viewer's connection was not touched"
    );
    tokio::time::timeout(DEADLINE, frames.recv()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_direct_mode_cameras_are_peripherals_of_the_device() {
    let url = start_hub(DevHubOptions {
        direct: twinsight::dev::hub::DirectAccess::Any,
        ..DevHubOptions::default()
    })
    .await;
    let ip = IpCamera::start(&[]).await;
    let direct = [
        ("PHYHUB_DIRECT", "true"),
        ("PHYHUB_URL", url.as_str()),
        ("DEVICE_ID", "device-1"),
        ("ACCESS_KEY", "key-1"),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
    ];
    let mut bridge = NodeProcess::start_bridge(&bridged("yard", &ip.url()), &direct).await;
    let line = bridge
        .program
        .until("another id for the peripheral twin")
        .await;
    let line: Value = serde_json::from_str(&line).unwrap();
    let twin = line["twin"].as_str().unwrap().to_owned();
    let (_hub, stream) = viewer(&url, "app-1", &twin).await;
    let frame = tokio::time::timeout(DEADLINE, stream.frames().recv())
        .await
        .expect("a frame of the peripheral");
    assert_eq!(frame.unwrap().width(), 320);
    bridge.program.signal("TERM");
    assert!(bridge.program.ended().await.success());

    // With the id that the hub has for it, it is the same twin.
    let bridge = NodeProcess::start_bridge(&bridged(&twin, &ip.url()), &direct).await;
    until("the peripheral is bridged again", || {
        is_in_state(&bridge, "bridge_state", &twin, "receiving")
    })
    .await;
    until("the viewer is back", || {
        of_camera(&bridge, "bridge_viewers", &twin) > 0.5
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridged_camera_dials_the_node_that_the_file_names() {
    let url = start_hub(DevHubOptions::default()).await;
    let hub = ("PHYSTACK_SIMULATOR_URL", url.as_str());
    let lo = ("TWINSIGHT_ICE__INTERFACES", "lo");
    let ip = IpCamera::playing(unused_address()).await;
    let camera = bridged("yard", &ip.url()) + "connect = \"accept\"\n";
    let env = [hub, lo, ("TWIN_ID", fake::NODE)];
    let _bridge = NodeProcess::start_bridge(&camera, &env).await;
    let (_app, mut messages) = fake::listen(&url).await;
    let config = format!("{SETTINGS}[[cameras]]\ntwin_id = \"yard\"\nconnect = \"accept\"\n");
    let _node = NodeProcess::start(&config, &env).await;
    event(&mut messages, "yard", "a person", sees_a_person).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_says_what_each_camera_sends_or_why_it_does_not() {
    let url = start_hub(DevHubOptions::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bridge.toml");
    let good = IpCamera::start(&["--profile", "main"]).await;
    let run = |text: String, command: &'static [&'static str]| {
        std::fs::write(&file, format!("[http]\nlisten = \"127.0.0.1:0\"\n{text}")).unwrap();
        let (path, url) = (file.to_str().unwrap().to_owned(), url.clone());
        tokio::task::spawn_blocking(move || {
            let args: Vec<&str> = command
                .iter()
                .copied()
                .chain(["--config", path.as_str()])
                .collect();
            twinsight(&args, &[("PHYSTACK_SIMULATOR_URL", &url)])
        })
    };
    let checked = run(bridged("yard", &good.url()), &["bridge", "--check"]);
    let checked = checked.await.unwrap();
    assert_eq!(checked.code, Some(0), "{}{}", checked.out, checked.log);
    let line = |out: &str, part: &str| {
        let line = out.lines().find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("{part}: {out}")).to_owned()
    };
    let joined = line(&checked.out, "camera yard joining the hub");
    assert!(joined.starts_with("ok"), "{joined}");
    let source = line(&checked.out, "camera yard/default source");
    for part in [" profile, level ", "320x240", "no B frames", " frames/s"] {
        assert!(source.contains(part), "{part}: {source}");
    }
    let with_b = IpCamera::start(&["--profile", "main", "--bframes", "2"]).await;
    let other = IpCamera::start(&["--streams", "h265"]).await;
    let text = bridged("a", &with_b.url())
        + &bridged("b", &other.url())
        + &bridged("c", &format!("rtsp://{}/stream", unused_address()));
    let failed = run(text, &["bridge", "--check", "--json"]).await.unwrap();
    assert_eq!(failed.code, Some(1), "{}", failed.out);
    let findings: Vec<Value> = failed
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (camera, found, remedy) in [
        ("a", "B frames", "set the number of B frames to 0"),
        ("b", "H.265", "set the video encoding"),
        ("c", "cannot be reached", "see that it is on"),
    ] {
        let subject = format!("camera {camera}/default source");
        let finding = findings.iter().find(|each| each["subject"] == subject);
        let finding = finding.unwrap_or_else(|| panic!("{subject}: {findings:#?}"));
        assert_eq!(finding["severity"], "fail", "{finding}");
        let text = finding.to_string();
        assert!(text.contains(found) && text.contains(remedy), "{text}");
    }
    let node = run(
        format!(
            "[hub]\ntwin_id = \"node-1\"\n{}",
            bridged("yard", &good.url())
        ),
        &["check"],
    );
    let node = node.await.unwrap();
    let source = line(&node.out, "camera yard/default source");
    assert!(source.contains("320x240"), "{source}");
    assert!(line(&node.out, "camera yard/default:").contains("the node makes it a twin itself"));
}

#[test]
fn what_means_nothing_to_a_bridge_is_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bridge.toml");
    std::fs::write(&file, "[[cameras]]\ntwin_id = \"yard\"\nmax_fps = 2.0\n").unwrap();
    let path = file.to_str().unwrap();
    let outcome = twinsight(
        &["bridge", "--config", path],
        &[("PHYSTACK_SIMULATOR_URL", "http://127.0.0.1:1")],
    );
    assert_eq!(outcome.code, Some(78));
    for sentence in [
        format!(
            "{path} line 1: this camera has neither `rtsp` nor `device`, and a bridge makes a twin of a camera that is none: add \
             one of them, or leave this camera to the file of the node"
        ),
        format!(
            "{path} line 3: `cameras.max_fps` means nothing to a bridge, which does not detect: leave it to the file of the node, \
             and remove it from this one"
        ),
    ] {
        assert!(
            outcome.log.contains(&sentence),
            "{sentence}\n{}",
            outcome.log
        );
    }
}

/// A source that plays a clip at 15 frames a second, or panics at its first picture.
fn open_fake(
    panics: &Arc<AtomicUsize>,
    camera: &str,
    mut handler: Box<dyn FnMut(SourceEvent) + Send>,
) -> Source {
    let (is_broken, panics) = (camera.starts_with("broken"), Arc::clone(panics));
    Source::spawn(camera, move |ended| async move {
        let clip = fake::clip();
        handler(SourceEvent::State(SourceState::Receiving(SourceFacts {
            size: None,
            profile_level_id: None,
            fps: None,
        })));
        let playing = async {
            let mut tick = tokio::time::interval(Duration::from_millis(66));
            for n in (0..clip.units().len()).cycle() {
                let at = tick.tick().await.into_std();
                if is_broken {
                    panics.fetch_add(1, Ordering::Relaxed);
                    panic!("as a bug would");
                }
                handler(SourceEvent::Unit(SourceUnit {
                    data: clip.units()[n].data.clone(),
                    is_keyframe: clip.keyframe_from(n) == n,
                    timestamp_90k: u32::try_from(n).unwrap() * 6000,
                    received_at: at,
                    completed_at: at,
                }));
            }
        };
        tokio::select! {
            () = playing => {}
            () = ended => {}
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_that_panics_begins_anew_and_harms_no_other() {
    let url = start_hub(DevHubOptions::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bridge.toml");
    let text = bridged("broken", "rtsp://127.0.0.1/a") + &bridged("sound", "rtsp://127.0.0.1/b");
    std::fs::write(&file, text).unwrap();
    let env: Env = [
        ("PHYSTACK_SIMULATOR_URL", url.as_str()),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
    ]
    .into_iter()
    .collect();
    let source = ConfigSource::read(Some(&file), &env).unwrap();
    let panics = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&panics);
    let service = BridgeService::start(BridgeParts {
        config: source.resolve_for_bridge().unwrap(),
        listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        open: Arc::new(move |camera: &str, _, handler| open_fake(&counted, camera, handler)),
    })
    .await
    .unwrap();
    let (_hub, stream) = viewer(&url, "app-1", "sound").await;
    let (ends, mut frames) = (ends_of(&stream), stream.frames());
    tokio::time::timeout(DEADLINE, frames.recv()).await.unwrap();
    until("three panics", || panics.load(Ordering::Relaxed) >= 3).await;
    let text = service.metrics().encode();
    let restarts = text
        .lines()
        .find_map(|line| {
            line.strip_prefix(
                "twinsight_bridge_restarts_total{camera=\"broken\",stream=\"default\"} ",
            )
        })
        .unwrap();
    assert!(restarts.parse::<u32>().unwrap() >= 2, "{restarts}");
    tokio::time::timeout(DEADLINE, frames.recv()).await.unwrap();
    assert_eq!(ends.load(Ordering::Relaxed), 0);
    service.shutdown().await;
}
