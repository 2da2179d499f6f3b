//! `twinsight check` and `twinsight health` as an operator meets them: each mistake has its line with what was found
//! and what to do, and the exit code says whether there is one. The program, hub and cameras are real.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::common::ports::unused_address;
use crate::common::{NodeProcess, Outcome, fake, root, start_hub, twinsight};
use crate::made_models;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use twinsight::dev::hub::{DevHubOptions, DirectAccess};
use twinsight::http::server::serve;
use twinsight::http::state::HttpState;
use twinsight::preview::Previews;
use twinsight::publish::feed::EventFeed;
use twinsight::telemetry::metrics::Metrics;
use twinsight_client::hub::{HubClient, HubOptions, TwinMessage};
use twinsight_client::realtime::ice::IceSettings;
use twinsight_client::realtime::peer::Peer;
use twinsight_client::realtime::rtp_track::TrackKind;

const FAST: &str = "ssdlite_mobilenet_v2_coco";

const WHERE: &str = "twin ids are found in the console beside the device id, and in what the twin's own app gets as TWIN_ID";

/// A camera of the configuration.
fn camera(twin_id: &str, more: &str) -> String {
    format!("[[cameras]]\ntwin_id = \"{twin_id}\"\nmodel = \"{FAST}\"\n{more}")
}

fn twin(id: &str, device_id: &str, tenant_id: &str) -> Value {
    json!({"id": id, "deviceId": device_id, "tenantId": tenant_id, "type": "Edge", "status": "Online"})
}

/// A hub that knows these twins and no other.
async fn strict_hub(twins: Vec<Value>) -> String {
    start_hub(DevHubOptions {
        twins,
        strict: true,
        ..DevHubOptions::default()
    })
    .await
}

/// The outcome of a check.
struct Check(Outcome);

impl Check {
    /// Checks `config` as `node-1` in simulator mode, on loopback.
    fn run(url: &str, config: &str, more: &[(&str, &str)]) -> Self {
        let listen = unused_address();
        let config = format!("[http]\nlisten = \"{listen}\"\n{config}");
        Self::of(url, &config, more)
    }

    /// As `run`, with the whole configuration.
    fn of(url: &str, config: &str, more: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        fs::write(&file, config).unwrap();
        let mut env = BTreeMap::from([
            ("PHYSTACK_SIMULATOR_URL", url),
            ("TWIN_ID", fake::NODE),
            ("TWINSIGHT_ICE__INTERFACES", "lo"),
        ]);
        env.extend(more.iter().copied());
        let env: Vec<_> = env.into_iter().collect();
        let outcome = twinsight(&["check", "--config", &file.display().to_string()], &env);
        println!("{}{}", outcome.out, outcome.log);
        Self(outcome)
    }

    /// The line about a subject.
    #[track_caller]
    fn line(&self, subject: &str) -> &str {
        self.0
            .out
            .lines()
            .find(|line| {
                line.get(6..)
                    .is_some_and(|rest| rest.starts_with(&format!("{subject}: ")))
            })
            .unwrap_or_else(|| panic!("no line about {subject}:\n{}", self.0.out))
    }

    /// A line is exactly this one.
    #[track_caller]
    fn says(&self, severity: &str, subject: &str, rest: &str) {
        assert_eq!(
            self.line(subject),
            format!("{severity:<4}  {subject}: {rest}"),
            "{}",
            self.0.out
        );
    }

    /// A line begins like this.
    #[track_caller]
    fn begins(&self, severity: &str, subject: &str, rest: &str) {
        let expected = format!("{severity:<4}  {subject}: {rest}");
        assert!(
            self.line(subject).starts_with(&expected),
            "{expected}\n{}",
            self.0.out
        );
    }

    /// So many lines begin with `fail`, and the exit code says so.
    #[track_caller]
    fn fails(&self, failures: usize) {
        let lines = self.0.out.lines();
        let found = lines.filter(|line| line.starts_with("fail ")).count();
        assert_eq!(found, failures, "{}", self.0.out);
        assert_eq!(self.0.code, Some(i32::from(failures > 0)), "{}", self.0.log);
        if failures > 0 {
            let last = self.0.log.lines().last().unwrap_or_default();
            assert!(
                last.contains(&format!(": {failures} failed, "))
                    && last
                        .ends_with("do what the lines that begin with `fail` say, and check again"),
                "{last}"
            );
        } else {
            assert_eq!(self.0.log, "");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_is_well() {
    let url = strict_hub(vec![
        twin(fake::NODE, "dev-node", "home"),
        twin("cam-a", "dev-a", "home"),
        twin("cam-b", "dev-b", "home"),
    ])
    .await;
    fake::camera(&url, "cam-a", "default", None, 10.0);
    let config = camera("cam-a", "") + &camera("cam-b", "connect = \"accept\"");
    let check = Check::run(&url, &config, &[("DEVICE_ID", "dev-node")]);
    check.fails(0);
    let address = url.trim_start_matches("http://");
    check.says(
        "ok",
        &format!("hub {url}"),
        &format!("a hub answers at {address}"),
    );
    check.says("ok", "clock", "agrees with the hub's");
    check.says("ok", "joining the hub", "joined as twin node-1");
    check.says(
        "ok",
        "own twin node-1",
        "the hub knows it, type Edge, tenant home, status Online",
    );
    check.begins("ok", "ONNX Runtime", "version 1.");
    check.begins(
        "ok",
        &format!("model {FAST}"),
        "loaded, and one inference ran on CPUExecutionProvider (all ",
    );
    check.says("ok", "ICE servers", "STUN: 0, TURN over UDP: 0, policy all");
    check.begins("ok", "camera cam-a/default", "answered after ");
    assert!(
        check
            .line("camera cam-a/default")
            .ends_with(" ms, H.264 video comes")
    );
    check.says(
        "ok",
        "camera cam-b/default",
        "it dials this node (connect = \"accept\"), so it was only looked up",
    );
    let last = check.0.out.lines().last().unwrap();
    assert!(
        last.ends_with(" things looked at: 0 failed, 0 to be aware of, 0 skipped"),
        "{last}"
    );
}

#[test]
fn findings_as_json() {
    let outcome = twinsight(
        &["check", "--json"],
        &[
            ("TWIN_ID", "node-1"),
            ("PHYSTACK_SIMULATOR_URL", "http://127.0.0.1:9"),
        ],
    );
    assert_eq!(outcome.code, Some(1));
    let findings: Vec<Value> = outcome
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let hub = findings
        .iter()
        .find(|finding| finding["subject"] == "hub http://127.0.0.1:9")
        .unwrap();
    assert_eq!(hub["severity"], "fail");
    assert_eq!(hub["found"], "nothing listens at 127.0.0.1:9");
    assert!(!hub["remedy"].as_str().unwrap().is_empty());
}

#[test]
fn a_failing_finding_counts_when_its_reader_has_gone() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_twinsight"))
        .arg("check")
        .env_clear()
        .env("TWIN_ID", fake::NODE)
        .env("PHYSTACK_SIMULATOR_URL", "http://127.0.0.1:9")
        .current_dir(root())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // As `grep -q` does at the first line that it looks for.
    let mut first = String::new();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut first).unwrap();
    drop(reader);
    let outcome = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert_eq!(outcome.status.code(), Some(1), "{first}{said}");
    assert!(
        said.ends_with("do what the lines that begin with `fail` say, and check again\n"),
        "{first}{said}"
    );
}

#[test]
fn a_bad_configuration() {
    let outcome = Check::run("http://127.0.0.1:9", "[defaults]\nmax_fsp = 5\n", &[]).0;
    assert_eq!(outcome.code, Some(78));
    assert!(
        outcome
            .log
            .contains("there is no key `defaults.max_fsp`, the nearest is `defaults.max_fps`"),
        "{}",
        outcome.log
    );
}

#[test]
fn no_hub_listens() {
    let address = unused_address();
    let url = format!("http://{address}");
    let config = camera("cam", "");
    let check = Check::run(&url, &config, &[]);
    check.fails(1);
    check.says(
        "fail",
        &format!("hub {url}"),
        &format!(
            "nothing listens at {address}; start the hub, or correct the address (PHYHUB_URL, PHYSTACK_SIMULATOR_URL or `hub.url`)"
        ),
    );
    check.says(
        "skip",
        "clock",
        "skipped, because the hub has told no time to compare with",
    );
    check.says(
        "skip",
        "joining the hub",
        "skipped, because it was not reached",
    );
    check.says(
        "skip",
        "own twin node-1",
        "skipped, because the hub is not joined",
    );
    check.says(
        "skip",
        "camera cam/default",
        "skipped, because the hub is not joined",
    );
    // What does not need the hub was looked at all the same.
    check.begins("ok", &format!("model {FAST}"), "loaded, ");
}

#[test]
fn a_hub_whose_name_nobody_knows() {
    let check = Check::run("http://hub.invalid:55000", "", &[]);
    check.fails(1);
    check.begins(
        "fail",
        "hub http://hub.invalid:55000",
        "the host name `hub.invalid` cannot be resolved (",
    );
    assert!(check.line("hub http://hub.invalid:55000").ends_with(
        "; correct the address (PHYHUB_URL, PHYSTACK_SIMULATOR_URL or `hub.url`), or this machine's DNS"
    ));
}

#[test]
fn a_hub_that_never_answers() {
    // The kernel takes the connection, nobody reads it.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = mute.local_addr().unwrap();
    let url = format!("http://{address}");
    let check = Check::run(&url, "", &[]);
    check.fails(1);
    check.says(
        "fail",
        &format!("hub {url}"),
        &format!(
            "{address} took the connection and did not answer within 3 s; restart the hub if it hangs; \
             else correct the address, or let the proxy before it pass WebSockets"
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn something_that_is_no_hub() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let check = Check::run(&url, "", &[]);
    check.fails(1);
    check.says(
        "fail",
        &format!("hub {url}"),
        &format!(
            "what answers at {address} is not a hub (HTTP status 404 Not Found); correct the address, \
             or let the proxy before the hub pass WebSockets (/socket.io/)"
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_opens_the_socket_and_says_no_more() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            open.push(tokio_tungstenite::accept_async(stream).await.unwrap());
        }
    });
    let check = Check::run(&url, "", &[]);
    check.fails(1);
    check.says(
        "fail",
        "joining the hub",
        "the hub did not grant the connection within 3s; restart the hub if it hangs, or correct the \
         address: what is there speaks WebSocket and no Socket.IO",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_access_key_that_the_hub_refuses() {
    let url = start_hub(DevHubOptions {
        direct: DirectAccess::Keys(BTreeMap::from([(
            "device-1".to_owned(),
            "the-right-key".to_owned().into(),
        )])),
        ..DevHubOptions::default()
    })
    .await;
    let check = Check::run(
        "",
        "",
        &[
            ("PHYHUB_DIRECT", "true"),
            ("PHYHUB_URL", &url),
            ("DEVICE_ID", "device-1"),
            ("ACCESS_KEY", "a-wrong-key"),
        ],
    );
    check.fails(1);
    check.says(
        "fail",
        "joining the hub",
        "the hub refuses this device (the access key is not valid for this device); check DEVICE_ID and \
         ACCESS_KEY, or `hub.device_id` and `hub.access_key_file`",
    );
    assert!(!check.0.out.contains("a-wrong-key") && !check.0.log.contains("a-wrong-key"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_that_are_not_those_of_camera_twins() {
    let url = strict_hub(vec![
        twin(fake::NODE, "dev-node", "home"),
        twin("cam-a", "dev-a", "home"),
        twin("cam-t", "dev-t", "elsewhere"),
        json!({"id": "lens", "type": "Peripheral"}),
    ])
    .await;
    let config = ["cam-a", "nobody", "dev-a", "dev-node", "cam-t", "lens"]
        .map(|id| camera(id, "connect = \"accept\"\n"))
        .concat();
    let check = Check::run(&url, &config, &[]);
    check.fails(4);
    check.begins("ok", "camera cam-a/default twin", "the hub knows it");
    check.says(
        "fail",
        "camera nobody/default twin",
        &format!(
            "the hub knows no such twin (Twin not found); correct the camera's `twin_id`: it may be a device id, \
             or a twin of another tenant; {WHERE}"
        ),
    );
    check.says(
        "fail",
        "camera dev-a/default twin",
        &format!(
            "the hub knows no such twin: it is the device id of twin cam-a; if cam-a is meant, write that; {WHERE}"
        ),
    );
    check.says(
        "fail",
        "camera dev-node/default twin",
        &format!(
            "the hub knows no such twin: it is the device id of twin node-1; if node-1 is meant, write that; {WHERE}"
        ),
    );
    check.says(
        "fail",
        "camera cam-t/default twin",
        "it is of tenant elsewhere, and this node is of tenant home: the hub passes nothing between tenants; \
         move the camera or the node into one tenant, or correct the camera's `twin_id`",
    );
    check.says(
        "warn",
        "camera lens/default twin",
        "the hub knows it, type Peripheral; a peripheral that dials signs with its app's Edge twin, and would be \
         refused; set the camera's `twin_id` to the Edge twin of its app, or `connect` to \"dial\"",
    );
    check.says(
        "skip",
        "camera nobody/default",
        "skipped, because its twin cannot be used",
    );
    check.says(
        "skip",
        "camera cam-t/default",
        "skipped, because its twin cannot be used",
    );
    check.begins("ok", "camera cam-a/default", "it dials this node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_own_twin_id_that_is_not_one() {
    let url = strict_hub(vec![twin("cam-a", "dev-a", "home")]).await;
    let config = camera("cam-a", "connect = \"accept\"\n");
    let unknown = Check::run(&url, &config, &[("TWIN_ID", "nobody")]);
    unknown.fails(1);
    unknown.says(
        "fail",
        "own twin nobody",
        &format!(
            "the hub knows no such twin (Twin not found); correct TWIN_ID (`hub.twin_id`): it may be a device id, \
             or a twin of another tenant; {WHERE}"
        ),
    );
    unknown.begins("ok", "camera cam-a/default twin", "the hub knows it");
    let device = [("TWIN_ID", "dev-1"), ("DEVICE_ID", "dev-1")];
    let own_device = format!(
        "it is DEVICE_ID, the id of the device, and no twin's; set TWIN_ID (`hub.twin_id`) to the id of this \
         app's own twin; {WHERE}"
    );
    let configured = Check::run(&url, &config, &device);
    configured.fails(1);
    configured.says("fail", "own twin dev-1", &own_device);
    // Without DEVICE_ID the hub tells the device that it runs on.
    let told = Check::run(&url, &config, &[("TWIN_ID", "dev-device")]);
    told.fails(1);
    told.says(
        "fail",
        "own twin dev-device",
        &format!(
            "the hub knows no such twin: it is the id of the device that this node runs on; write the twin id \
             instead of the device id; {WHERE}"
        ),
    );
    let other = Check::run(&url, "", &[("TWIN_ID", "cam-a"), ("DEVICE_ID", "dev-1")]);
    other.fails(0);
    other.says(
        "warn",
        "own twin cam-a",
        "the hub knows it, on device dev-a, and DEVICE_ID is dev-1; correct the one that is wrong: TWIN_ID or DEVICE_ID",
    );
    // In direct mode only the hub knows which twin is the own one.
    let direct = Check::run(
        "",
        &camera("device-dev-1", "connect = \"accept\"\n"),
        &[
            ("PHYHUB_DIRECT", "true"),
            ("PHYHUB_URL", &url),
            ("DEVICE_ID", "dev-1"),
            ("ACCESS_KEY", "any"),
        ],
    );
    direct.fails(1);
    direct.says(
        "ok",
        "joining the hub",
        "joined as device dev-1, twin device-dev-1",
    );
    direct.says(
        "fail",
        "camera device-dev-1/default twin",
        "it is the node's own twin; set the camera's `twin_id` to the camera's twin",
    );
    // It is known also where there is no hub to ask.
    let away = Check::run(&format!("http://{}", unused_address()), "", &device);
    away.fails(2);
    away.says("fail", "own twin dev-1", &own_device);
}

/// A camera twin that answers every offer with what `answer` makes of it.
async fn answering<F>(url: &str, twin: &str, answer: impl Fn(String) -> F + Send + 'static)
where
    F: Future<Output = String> + Send,
{
    let hub = HubClient::start(HubOptions::simulator(url, twin));
    hub.joined().await.unwrap();
    let offer_to = format!("media-default-{twin}:offer");
    let mut offers = hub.messages(8, move |message: &TwinMessage| {
        message.message_type() == Some(&offer_to)
    });
    tokio::spawn(async move {
        while let Some(offer) = offers.recv().await {
            let sdp = answer(offer.data["data"]["sdp"].as_str().unwrap().to_owned()).await;
            let data = json!({
                "type": format!("media-default-{}:answer", fake::NODE),
                "data": {"sdp": sdp, "type": "answer"},
                "peerId": offer.data["peerId"],
            });
            hub.send(fake::NODE, data).await.unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cameras_that_give_no_video() {
    let url = start_hub(DevHubOptions {
        twins: vec![json!({"id": "mute", "deviceId": "d", "tenantId": "dev-tenant", "type": "Edge", "status": "Offline"})],
        ..DevHubOptions::default()
    })
    .await;
    let sdp = |media: &'static str| {
        move |_| async move {
            format!("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\n{media}")
        }
    };
    answering(
        &url,
        "vp8",
        sdp("m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 VP8/90000\r\n"),
    )
    .await;
    answering(
        &url,
        "closed",
        sdp("m=video 0 UDP/TLS/RTP/SAVPF 102\r\na=rtpmap:102 H264/90000\r\n"),
    )
    .await;
    answering(
        &url,
        "broken",
        sdp("m=video 9 UDP/TLS/RTP/SAVPF 102\r\na=rtpmap:102 H264/90000\r\na=mid:7\r\n"),
    )
    .await;
    answering(&url, "gone", |offer| async move {
        let ice = IceSettings {
            interfaces: vec!["lo".to_owned()],
            ..IceSettings::default()
        };
        let (peer, _events) = Peer::for_h264(&ice, &[], Arc::new(|_| {})).await.unwrap();
        let answer = peer.answer(&offer.parse().unwrap()).await.unwrap();
        peer.close().await;
        answer.as_str().to_owned()
    })
    .await;
    answering(&url, "still", |offer| async move {
        let ice = IceSettings {
            interfaces: vec!["lo".to_owned()],
            ..IceSettings::default()
        };
        let (peer, _events) = Peer::for_h264(&ice, &[], Arc::new(|_| {})).await.unwrap();
        let _sender = peer.send(TrackKind::Video, "video").await.unwrap();
        let answer = peer.answer(&offer.parse().unwrap()).await.unwrap();
        // It stays open for the rest of the test.
        std::mem::forget(peer);
        answer.as_str().to_owned()
    })
    .await;
    let config = ["mute", "vp8", "closed", "broken", "gone", "still"]
        .map(|id| camera(id, "codecs = [\"h264\"]\n"))
        .concat();
    let started = Instant::now();
    let check = Check::run(&url, &config, &[]);
    println!("took {:?}", started.elapsed());
    check.fails(6);
    check.says(
        "fail",
        "camera mute/default",
        "no answer to the offer within 10 s (the hub says that it is Offline); start the camera's app; see that it \
         streams as twin mute, stream \"default\", in the `dialect` that is configured (now \"current\"), has a \
         place for one more viewer, and takes H.264; a camera that dials by itself needs `connect = \"accept\"`",
    );
    check.says(
        "fail",
        "camera vp8/default",
        "it has no H.264: its answer names VP8; let the camera send H.264 (baseline, \
         packetization-mode=1): its `codecs` and this build allow nothing else",
    );
    check.says(
        "fail",
        "camera closed/default",
        "it refuses H.264 video: its answer closes the video section (port 0); let the camera send H.264 \
         (baseline, packetization-mode=1): its `codecs` and this build allow nothing else",
    );
    check.begins(
        "fail",
        "camera broken/default",
        "the other side's description cannot be used: ",
    );
    check.says(
        "fail",
        "camera gone/default",
        "it answered, and no network path was found within 15 s; see that UDP passes between this machine and \
         the camera (in a container: the network, `ice.udp_ports` and `ice.nat_1to1_ips`), or set up TURN over UDP",
    );
    check.says(
        "fail",
        "camera still/default",
        "connected, but no video came within 10 s; see that the camera's source gives pictures, and what its app logs",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turn_over_tcp() {
    let lacks = "it asks for TURN over TCP or TLS, which the WebRTC stack of this build does not have: it is left \
                 out; offer TURN over UDP: `turn:HOST:3478` without `?transport=tcp`";
    let url = start_hub(DevHubOptions {
        ice_servers: vec![
            json!({"urls": ["turn:turn.example:3478?transport=udp", "turn:turn.example:3478?transport=tcp"], "username": "u", "credential": "hunter2"}),
            json!({"urls": "stun:stun.example:3478"}),
        ],
        ..DevHubOptions::default()
    })
    .await;
    let both = Check::run(&url, "", &[]);
    both.fails(0);
    both.says(
        "warn",
        "ICE server turn:turn.example:3478?transport=tcp of the hub",
        lacks,
    );
    both.says("ok", "ICE servers", "STUN: 1, TURN over UDP: 1, policy all");
    assert!(!both.0.out.contains("hunter2"));

    let url = start_hub(DevHubOptions::default()).await;
    let own = Check::run(
        &url,
        "",
        &[
            ("PHYSTACK_TURN_URL", "turns:turn.example:443"),
            ("PHYSTACK_TURN_USERNAME", "u"),
            ("PHYSTACK_TURN_CREDENTIAL", "hunter2"),
        ],
    );
    own.fails(2);
    own.says(
        "fail",
        "ICE server turns:turn.example:443 of PHYSTACK_TURN_URL or PHYSTACK_STUN_URL",
        lacks,
    );
    own.says(
        "fail",
        "ice.policy relay",
        "there is no usable TURN server over UDP, so no camera can be connected; set PHYSTACK_TURN_URL to one \
         (`turn:HOST:3478`), or `ice.policy` to \"all\" where cameras are reached directly",
    );
    assert!(!own.0.out.contains("hunter2"));

    // A TURN server that takes UDP, by its URL, and is not there.
    let gone = unused_address();
    let absent = Check::run(
        &url,
        &camera("cam", ""),
        &[
            ("PHYSTACK_TURN_URL", &format!("turn:{gone}")),
            ("PHYSTACK_TURN_USERNAME", "u"),
            ("PHYSTACK_TURN_CREDENTIAL", "hunter2"),
        ],
    );
    absent.fails(1);
    absent.begins(
        "fail",
        "camera cam/default",
        "no TURN server gave this node an address, and `ice.policy` is \"relay\"; see that the TURN server runs, ",
    );
    let anonymous = Check::run(&url, "", &[("PHYSTACK_TURN_URL", "turn:turn.example")]);
    anonymous.fails(1);
    anonymous.says(
        "warn",
        "ICE server turn:turn.example of PHYSTACK_TURN_URL or PHYSTACK_STUN_URL",
        "it has no user name or no credential; set PHYSTACK_TURN_USERNAME and PHYSTACK_TURN_CREDENTIAL, or correct \
         what the hub gives",
    );
}

/// A shared library of C source.
fn library(folder: &Path, source: &str) -> PathBuf {
    let (code, library) = (folder.join("code.c"), folder.join("libonnxruntime.so"));
    fs::write(&code, source).unwrap();
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &code])
        .status()
        .unwrap();
    assert!(status.success());
    library
}

#[test]
fn an_onnx_runtime_that_cannot_be_used() {
    let url = format!("http://{}", unused_address());
    let check = |library: &Path| {
        let config = format!("[runtime]\nlibrary = {library:?}\n{}", camera("cam", ""));
        let check = Check::run(&url, &config, &[]);
        check.fails(2);
        check.says(
            "skip",
            &format!("model {FAST}"),
            "skipped, because ONNX Runtime is not loaded",
        );
        check
    };
    check(Path::new("/nowhere/libonnxruntime.so")).says(
        "fail",
        "ONNX Runtime",
        "ONNX Runtime not found at /nowhere/libonnxruntime.so; run scripts/setup or set `runtime.library`",
    );
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.so");
    fs::write(&text, "not a library").unwrap();
    let remedy = "; run scripts/setup or set `runtime.library`";
    let refused = check(&text);
    refused.begins(
        "fail",
        "ONNX Runtime",
        &format!(
            "ONNX Runtime at {}: cannot be loaded: failed to load from `",
            text.display()
        ),
    );
    assert!(refused.line("ONNX Runtime").ends_with(remedy));
    let other = library(folder.path(), "int other;");
    check(&other).says(
        "fail",
        "ONNX Runtime",
        &format!(
            "ONNX Runtime at {0}: cannot be loaded: {0} does not export `OrtGetApiBase`{remedy}",
            other.display()
        ),
    );
    let old = library(
        folder.path(),
        "static const void *api(unsigned v) { return 0; }\n\
         static const char *version(void) { return \"1.9.0\"; }\n\
         static const struct { const void *(*api)(unsigned); const char *(*version)(void); } base = { api, version };\n\
         const void *OrtGetApiBase(void) { return &base; }\n",
    );
    check(&old).says(
        "fail",
        "ONNX Runtime",
        &format!(
            "ONNX Runtime at {}: its version should be 1.24 or newer and is 1.9.0{remedy}",
            old.display()
        ),
    );
}

/// A folder with one model and its manifest.
fn models(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tiny.onnx");
    fs::write(&file, bytes).unwrap();
    let digest = Sha256::digest(bytes);
    let sha256: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let manifest = format!(
        r#"
        file = "tiny.onnx"
        sha256 = "{sha256}"
        licence = "MIT"
        source = "this test"
        labels = ["person"]
        nms_iou = 0.5
        [input]
        name = "images"
        width = 8
        height = 8
        layout = "nchw"
        color_order = "rgb"
        scale = 1.0
        mean = [0.0, 0.0, 0.0]
        std = [1.0, 1.0, 1.0]
        resize = "stretch"
        [output]
        kind = "ssd"
        scores = "scores"
        boxes = "boxes"
        "#
    );
    fs::write(folder.path().join("tiny.toml"), manifest).unwrap();
    (folder, file)
}

#[test]
fn a_model_that_gets_other_pixels_than_it_was_trained_with() {
    let folder = tempfile::tempdir().unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let name = "ssdlite_mobilenet_v2_coco";
    for file in [format!("{name}.onnx"), "coco_90.txt".to_owned()] {
        fs::copy(models.join(&file), folder.path().join(&file)).unwrap();
    }
    let manifest = fs::read_to_string(models.join(format!("{name}.toml"))).unwrap();
    let dark = manifest.replace("scale = 1.0", "scale = 0.0001");
    assert_ne!(dark, manifest);
    fs::write(folder.path().join(format!("{name}.toml")), dark).unwrap();
    let config = format!(
        "[runtime]\nmodels_dir = {:?}\n[[cameras]]\ntwin_id = \"cam\"\nmodel = \"{name}\"\n",
        folder.path()
    );
    let check = Check::run(&format!("http://{}", unused_address()), &config, &[]);
    let subject = format!("model {name}");
    check.begins("warn", &subject, "loaded, and one inference ran on ");
    assert!(
        check.line(&subject).contains(", and it sees nothing on a picture of a footballer, although it has labels for it; compare scale"),
        "{}",
        check.line(&subject)
    );
}

#[test]
fn a_model_whose_licence_nobody_said() {
    let folder = tempfile::tempdir().unwrap();
    let model = made_models::constant(made_models::PERSON);
    made_models::install(folder.path(), "tiny", &model);
    let manifest = folder.path().join("tiny.toml");
    let said = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, said.replace("\"MIT\"", "\"unknown\"")).unwrap();
    let config = format!(
        "[runtime]\nmodels_dir = {:?}\n[[cameras]]\ntwin_id = \"cam\"\nmodel = \"tiny\"\n",
        folder.path()
    );
    let check = Check::run(&format!("http://{}", unused_address()), &config, &[]);
    check.begins("warn", "model tiny", "loaded, and one inference ran on ");
    assert!(
        check.line("model tiny").ends_with(
            ", and its manifest does not know its licence; see whether the licence allows what you do with it, and write it into the manifest"
        ),
        "{}",
        check.line("model tiny")
    );
}

#[test]
fn a_model_that_cannot_be_used() {
    let url = format!("http://{}", unused_address());
    let check = |bytes: &[u8]| {
        let (folder, file) = models(bytes);
        let config = format!(
            "[runtime]\nmodels_dir = {:?}\n[[cameras]]\ntwin_id = \"cam\"\nmodel = \"tiny\"\n",
            folder.path()
        );
        let check = Check::run(&url, &config, &[]);
        check.fails(2);
        (check, file.display().to_string())
    };
    let newest_remedy = "; install a newer ONNX Runtime and set `runtime.library`, or export the model again with an older opset";
    for (bytes, version) in [
        (made_models::identity(99, 13), "IR version 99"),
        (made_models::identity(8, 99), "opset 99"),
    ] {
        let (too_new, file) = check(&bytes);
        too_new.begins(
            "fail",
            "model tiny",
            &format!("{file}: is too new for this ONNX Runtime: it is of {version}, and the newest that is known is "),
        );
        assert!(too_new.line("model tiny").ends_with(newest_remedy));
    }
    let (other, file) = check(&made_models::identity(8, 13));
    other.begins(
        "fail",
        "model tiny",
        &format!("{file}: its output should be `boxes` of numbers and is "),
    );
    assert!(other.line("model tiny").ends_with(
        "`logits` f32 [1, 3, 8, 8]; correct `output.boxes` in the manifest or install the file that it describes"
    ));
    let (garbage, file) = check(b"<html>not found</html>");
    garbage.begins(
        "fail",
        "model tiny",
        &format!("{file}: not usable as an ONNX model: "),
    );
    let missing = Check::run(
        &url,
        "[[cameras]]\ntwin_id = \"cam\"\nmodel = \"yolo99\"\n",
        &[],
    );
    missing.begins(
        "fail",
        "model yolo99",
        "model `yolo99` is not installed: there is no models/yolo99.toml; ",
    );
}

#[test]
fn a_class_that_the_model_does_not_have() {
    let url = format!("http://{}", unused_address());
    let check = Check::run(&url, &camera("cam", "classes = [\"persn\"]\n"), &[]);
    check.fails(2);
    check.says(
        "fail",
        "camera cam/default",
        &format!("model `{FAST}` has no class `persn`; did you mean `person`?; correct `classes`"),
    );
    let zone = "[[cameras.zones]]\nname = \"path\"\npoints = [[0, 0], [1, 0], [1, 1]]\nlabels = [\"persn\"]\n";
    let check = Check::run(&url, &camera("cam", zone), &[]);
    check.fails(2);
    check.says(
        "fail",
        "camera cam/default",
        &format!("zone \"path\": model `{FAST}` has no class `persn`; did you mean `person`?; correct its `labels`"),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_ports_that_others_have() {
    let url = start_hub(DevHubOptions::default()).await;
    // Two neighbouring ports on every address of loopback.
    let (first, _held) = (20_000..40_000)
        .step_by(2)
        .find_map(|port| {
            let mut held = Vec::new();
            for port in [port, port + 1] {
                held.push(UdpSocket::bind(("127.0.0.1", port)).ok()?);
                held.extend(UdpSocket::bind(("::1", port)));
            }
            Some((port, held))
        })
        .unwrap();
    let range = format!("{first}-{}", first + 1);
    let config = format!(
        "[ice]\nudp_ports = \"{range}\"\n{}{}",
        camera("cam-a", ""),
        camera("cam-b", "connect = \"accept\"\n")
    );
    let check = Check::run(&url, &config, &[]);
    check.fails(1);
    check.says(
        "fail",
        &format!("ice.udp_ports {range}"),
        "0 of 2 ports are free, and 2 are needed, one for each camera stream; stop what has the others \
         (`ss -lunp` lists it), or widen the range",
    );
    check.says(
        "skip",
        "camera cam-a/default",
        "skipped, because there is no free UDP port",
    );
    let interfaces = Check::run(&url, "", &[("TWINSIGHT_ICE__INTERFACES", "eth99")]);
    interfaces.fails(1);
    interfaces.begins(
        "fail",
        "ice.interfaces",
        "no usable address on the interfaces",
    );
}

/// A hub behind a proxy that tells another time.
async fn hub_with_clock(behind_seconds: u64) -> String {
    let hub = start_hub(DevHubOptions::default()).await;
    let hub = hub.trim_start_matches("http://").to_owned();
    let front = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", front.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut client, _) = front.accept().await.unwrap();
            let mut server = tokio::net::TcpStream::connect(&hub).await.unwrap();
            tokio::spawn(async move {
                let request = head(&mut client).await;
                server.write_all(request.as_bytes()).await.unwrap();
                let mut answer = String::new();
                for line in head(&mut server).await.split_inclusive("\r\n") {
                    if line.to_ascii_lowercase().starts_with("date:") {
                        let date = SystemTime::now() - Duration::from_secs(behind_seconds);
                        answer += &format!("date: {}\r\n", httpdate::fmt_http_date(date));
                    } else {
                        answer += line;
                    }
                }
                client.write_all(answer.as_bytes()).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    url
}

/// The head of a request or an answer, with the empty line.
async fn head(stream: &mut tokio::net::TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_wrong() {
    let remedy = "set it by NTP (`timedatectl set-ntp true`; a container has its host's clock): certificates, TURN \
                  credentials and the times of events depend on it";
    let wrong = Check::run(&hub_with_clock(7200).await, "", &[]);
    wrong.fails(1);
    let line = wrong.line("clock");
    assert!(
        ["7199", "7200", "7201"]
            .iter()
            .any(|s| line == format!("fail  clock: {s} s ahead of the hub's; {remedy}")),
        "{line}"
    );
    // A little wrong is said and is no failure.
    let drifting = Check::run(&hub_with_clock(30).await, "", &[]);
    drifting.fails(0);
    let line = drifting.line("clock");
    assert!(
        line.starts_with("warn  clock: ")
            && line.ends_with(&format!(" s ahead of the hub's; {remedy}")),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_of_the_node_that_is_taken() {
    let url = start_hub(DevHubOptions::default()).await;
    let node = NodeProcess::start(
        "",
        &[("TWIN_ID", "node-1"), ("PHYSTACK_SIMULATOR_URL", &url)],
    )
    .await;
    let listening = |address: SocketAddr| format!("[http]\nlisten = \"{address}\"\n");
    let running = Check::of(&url, &listening(node.http), &[]);
    running.fails(0);
    running.says(
        "warn",
        &format!("http.listen {}", node.http),
        "a node runs here already, and it is healthy; stop it before you start another with this address; its \
         UDP ports count as taken below",
    );
    // The hub's own port: what answers there is no node.
    let hub: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
    let other = Check::of(&url, &listening(hub), &[]);
    other.fails(1);
    other.says(
        "fail",
        &format!("http.listen {hub}"),
        "in use by something that is not a node; stop what listens there, or set `http.listen` to another port",
    );
    let elsewhere = Check::of(&url, "[http]\nlisten = \"192.0.2.1:9464\"\n", &[]);
    elsewhere.fails(1);
    elsewhere.begins(
        "fail",
        "http.listen 192.0.2.1:9464",
        "cannot listen on 192.0.2.1:9464 (",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_health_of_a_node() {
    // No twin id, no hub: the address is all that it needs.
    let health = |address: SocketAddr| {
        twinsight(
            &["health"],
            &[("TWINSIGHT_HTTP__LISTEN", &address.to_string())],
        )
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Arc::new(Metrics::new());
    let previews = Previews::new(Arc::clone(&metrics));
    let state = HttpState::new(metrics, EventFeed::new("run"), previews);
    let node_health = state.health.clone();
    let node = tokio::spawn(serve(listener, state, None, std::future::pending()));
    let healthy = health(address);
    assert_eq!((healthy.code, healthy.log.as_str()), (Some(0), ""));
    assert_eq!(healthy.out, format!("the node at {address} is healthy\n"));

    // By the file too, whatever else is wrong with it.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml").display().to_string();
    fs::write(
        &file,
        format!("nonsense = 1\n[http]\nlisten = \"{address}\"\n"),
    )
    .unwrap();
    assert_eq!(twinsight(&["health", "--config", &file], &[]).code, Some(0));

    let _silent = node_health.register("publisher", Duration::ZERO, Instant::now());
    tokio::time::sleep(Duration::from_millis(60)).await;
    let unhealthy = health(address);
    assert_eq!(unhealthy.code, Some(1));
    assert!(
        unhealthy
            .log
            .starts_with("twinsight: the node is not healthy: publisher has not gone round for ")
            && unhealthy
                .log
                .trim_end()
                .ends_with(" s, and 0.0 s is the most"),
        "{}",
        unhealthy.log
    );
    node.abort();

    let nobody = unused_address();
    health(nobody).failed(
        1,
        &format!(
            "the node cannot be asked at {nobody} (Connection refused (os error 111)): is it running, with this `http.listen`?"
        ),
    );
    let hub = start_hub(DevHubOptions::default()).await;
    let hub: SocketAddr = hub.trim_start_matches("http://").parse().unwrap();
    health(hub).failed(
        1,
        &format!("what answers at {hub} is not the node: is `http.listen` right?"),
    );
    let banner = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = banner.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = banner.accept().await.unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_10.0\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    health(address).failed(
        1,
        &format!("what answers at {address} is not the node: is `http.listen` right?"),
    );
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = mute.local_addr().unwrap();
    health(address).failed(
        1,
        &format!("the node has not answered at {address} within 3 s: restart it"),
    );
    health("127.0.0.1:0".parse().unwrap()).failed(
        1,
        "the node's port is the system's choice (`http.listen` is 127.0.0.1:0), so it cannot be asked: give it a port",
    );
    let wrong = twinsight(&["health"], &[("TWINSIGHT_HTTP__LISTEN", "here")]);
    wrong.failed(
        78,
        "variable TWINSIGHT_HTTP__LISTEN: `http.listen` is \"here\": give address and port as in \"127.0.0.1:9464\"",
    );
}

/// It has no track before it is connected, and is offered again then, as by the node.
#[cfg(feature = "vp8")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_on_the_npm_client() {
    let url = start_hub(DevHubOptions::default()).await;
    let clip = crate::common::root().join("media/pedestrians.h264");
    let args = ["--send", clip.to_str().unwrap()];
    let mut camera_program = crate::common::Program::npm("media.mjs", &args, &url, "npm");
    camera_program.until("armed").await;
    let config = camera("npm", "dialect = \"legacy\"\n");
    let check = Check::run(&url, &config, &[]);
    check.fails(0);
    assert!(
        check
            .line("camera npm/default")
            .ends_with(" ms, VP8 video comes"),
        "{}",
        check.line("camera npm/default")
    );
}
