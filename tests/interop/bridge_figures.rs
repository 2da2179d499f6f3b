//! What a bridged 1080p15 stream costs, and by how much it is later than the camera: `make long` prints it. The camera plays a clip of
//! 4 Mbit/s that ffmpeg makes, and viewers take packets without decoding them.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::ip_camera::IpCamera;
use crate::common::ports::unused_address;
use crate::common::{DEADLINE, NodeProcess, start_hub};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use twinsight::bridge::source::{Source, SourceEvent};
use twinsight::bridge_service::{BridgeParts, BridgeService};
use twinsight::config::{ConfigSource, Env};
use twinsight::dev::hub::DevHubOptions;
use twinsight_client::hub::{HubClient, HubOptions};
use twinsight_client::media::MediaStreamOptions;
use twinsight_client::realtime::ice::IceSettings;

const YARD: &str = "yard";
const VIEWERS: [usize; 3] = [1, 4, 8];

/// How long each number of viewers is watched.
const WATCHED: Duration = Duration::from_secs(12);

/// When pictures began, by the clock that all in this process share.
type Begun = Arc<Mutex<Vec<Instant>>>;

fn make_clip(path: &str) {
    let made = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-f", "lavfi"])
        .args(["-i", "testsrc2=size=1920x1080:rate=15", "-t", "20"])
        .args(["-pix_fmt", "yuv420p", "-c:v", "libx264"])
        .args(["-profile:v", "baseline", "-preset", "superfast"])
        .args(["-x264-params", "keyint=15:slices=1:threads=1"])
        .args(["-b:v", "4M", "-maxrate", "4M", "-bufsize", "2M"])
        .args(["-f", "h264", path])
        .status()
        .expect("ffmpeg starts: Debian's package has its name");
    assert!(made.success());
}

/// Looks at the camera until the set is dropped, and notes when each picture began to come.
async fn look_on(viewers: &mut JoinSet<()>, url: String, n: usize, begun: Begun) {
    let hub = HubClient::connect(HubOptions::simulator(&url, format!("viewer-{n}")))
        .await
        .unwrap();
    let options = MediaStreamOptions::default()
        .with_connect_limit(DEADLINE)
        .with_ice(IceSettings {
            interfaces: vec!["lo".to_owned()],
            ..IceSettings::default()
        });
    let instance = hub.instance();
    let stream = instance.get_media_stream(YARD, options).await.unwrap();
    viewers.spawn(async move {
        let track = stream.tracks().remove(0);
        let mut packets = track.packets();
        let mut is_first = false;
        while let Some(packet) = packets.recv().await {
            if is_first {
                begun.lock().push(packet.received_at);
            }
            is_first = packet.marker;
        }
        drop(hub);
    });
}

/// The median and the 99th percentile of how much later pictures come than they came from the camera.
fn delays(sent: &[Instant], seen: &[Instant], since: Instant) -> (Duration, Duration) {
    let mut delays: Vec<Duration> = seen
        .iter()
        .filter(|at| **at > since)
        .filter_map(|at| {
            let last = sent.iter().rev().find(|sent| *sent <= at)?;
            Some(at.duration_since(*last))
        })
        .collect();
    delays.sort_unstable();
    assert!(delays.len() > 100, "{} pictures", delays.len());
    let at = |share: usize| delays[delays.len() * share / 100];
    (at(50), at(99))
}

/// The processor time of a process in seconds, to a hundredth. Its metric has whole seconds only.
fn cpu_seconds(process: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name in parentheses may have blanks in it. After it come the state and ten numbers, and then the two times.
    let (_, numbers) = text.rsplit_once(") ").unwrap();
    let ticks = numbers.split(' ').skip(11).take(2);
    let ticks: f64 = ticks.map(|ticks| ticks.parse::<f64>().unwrap()).sum();
    ticks / 100.0
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make long"]
async fn what_a_bridged_1080p15_stream_costs() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.h264");
    make_clip(clip.to_str().unwrap());
    let url = start_hub(DevHubOptions::default()).await;
    let play = ["--play", clip.to_str().unwrap()];
    let ip = IpCamera::start_at(unused_address(), &play).await;
    let config = format!(
        "[[cameras]]\ntwin_id = \"{YARD}\"\nrtsp = \"{}\"\n",
        ip.url()
    );
    let env = [
        ("PHYSTACK_SIMULATOR_URL", url.as_str()),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
    ];

    // Processor time, of a process that does nothing else.
    let bridge = NodeProcess::start_bridge(&config, &env).await;
    let mut viewers = JoinSet::new();
    for count in VIEWERS {
        for n in viewers.len()..count {
            look_on(&mut viewers, url.clone(), n, Begun::default()).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = cpu_seconds(bridge.program.id());
        tokio::time::sleep(WATCHED).await;
        let used = cpu_seconds(bridge.program.id()) - before;
        println!(
            "{count} viewers: {:.1} % of a core",
            100.0 * used / WATCHED.as_secs_f64()
        );
    }
    viewers.shutdown().await;
    drop(bridge);

    // Delay, of a bridge in this process, whose clock is the viewers'.
    let file = folder.path().join("bridge.toml");
    std::fs::write(&file, config).unwrap();
    let env: Env = env.into_iter().collect();
    let source = ConfigSource::read(Some(&file), &env).unwrap();
    let sent = Begun::default();
    let noted = Arc::clone(&sent);
    let service = BridgeService::start(BridgeParts {
        config: source.resolve_for_bridge().unwrap(),
        listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        open: Arc::new(move |camera: &str, config, mut handler| {
            let noted = Arc::clone(&noted);
            let noting = move |event| {
                if let SourceEvent::Unit(unit) = &event {
                    noted.lock().push(unit.received_at);
                }
                handler(event);
            };
            Source::open(camera, config, Box::new(noting))
        }),
    })
    .await
    .unwrap();
    for count in VIEWERS {
        let mut viewers = JoinSet::new();
        let seen = Begun::default();
        let started = Instant::now();
        for n in 0..count {
            look_on(&mut viewers, url.clone(), n, Arc::clone(&seen)).await;
        }
        let ready = started.elapsed();
        // What a new viewer gets at once is older.
        let since = Instant::now() + Duration::from_secs(2);
        tokio::time::sleep(WATCHED).await;
        let (p50, p99) = delays(&sent.lock(), &seen.lock(), since);
        println!(
            "{count} viewers: {p50:.2?} later at the median, {p99:.2?} at the 99th percentile; all connected after {ready:.2?}"
        );
        viewers.shutdown().await;
    }
    service.shutdown().await;
}
