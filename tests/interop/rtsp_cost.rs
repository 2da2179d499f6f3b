//! What a bridged camera of 1920x1080 and 15 frames a second costs: the delay from a picture's first packet by RTSP to its first
//! packet at a viewer, where the node's `receivedAt` is read, and the processor time of the program between them. It also sees
//! that each picture is, bit for bit, one that the camera sent.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::collections::HashMap;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::common::ip_camera::IpCamera;
use crate::common::{DEADLINE, start_hub};
use crate::rtsp_twin::{PICTURES, numbered_clip, twin_of, viewer};
use twinsight::bridge::source::{Source, SourceEvent};
use twinsight::config::{RtspConfig, RtspTransport, RtspUrl, SourceConfig};
use twinsight::dev::hub::DevHubOptions;
use twinsight_client::media::MediaStream;
use twinsight_media::codec::Codec;
use twinsight_media::h264::clip::Clip;
use twinsight_media::h264::depacketize::Depacketizer;
use twinsight_media::h264::nal::annex_b;
use twinsight_media::h264::parameter_sets::ParameterSets;
use twinsight_media::picture::PictureSize;
use twinsight_media::rtp::RtpPacket;
use twinsight_media::rtp::reorder::Ordered;

const FULL_HD: PictureSize = PictureSize {
    width_px: 1920,
    height_px: 1080,
};

/// How long each number of viewers is watched.
const WATCHED: Duration = Duration::from_secs(20);

/// The first pictures that a viewer gets are those that were kept for it.
const BEGINS_AFTER: Duration = Duration::from_secs(2);

/// When a picture came.
#[derive(Debug, Clone, Copy)]
struct Came {
    number: u32,
    first: Instant,
    whole: Instant,
}

/// A clip of 4 Mbit/s, as a camera makes it of what moves and is noisy, and which picture has which slice.
fn clip(folder: &std::path::Path) -> (String, HashMap<Vec<u8>, u32>) {
    let drawn = numbered_clip(folder, FULL_HD);
    let file = folder.join("noisy.h264");
    let encoded = Command::new("ffmpeg")
        .args(["-v", "error", "-r", "15", "-i", &drawn])
        .args([
            "-vf",
            "noise=alls=12:allf=t",
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-tune",
            "zerolatency",
        ])
        .args([
            "-b:v",
            "4M",
            "-maxrate",
            "4M",
            "-bufsize",
            "1M",
            "-g",
            "15",
            "-sc_threshold",
            "0",
        ])
        .args(["-x264-params", "sliced-threads=0:slices=1"])
        .arg(&file)
        .status()
        .unwrap();
    assert!(encoded.success());
    let bytes = std::fs::read(&file).unwrap();
    let mbit_s = bytes.len() as f64 * 8.0 / 1e6 / (f64::from(PICTURES) / 15.0);
    println!("1920x1080 at 15 frames a second, {mbit_s:.1} Mbit/s");
    let clip = Clip::from_annex_b(&bytes).unwrap();
    let numbers = (0..)
        .zip(clip.units())
        .map(|(n, unit)| (slice(&unit.data), n))
        .collect();
    (file.to_str().unwrap().to_owned(), numbers)
}

fn slice(unit: &[u8]) -> Vec<u8> {
    annex_b(unit).last().unwrap().to_vec()
}

/// The pictures as another session with the same camera gets them.
fn by_rtsp(
    camera: &IpCamera,
    numbers: HashMap<Vec<u8>, u32>,
) -> (Source, mpsc::UnboundedReceiver<Came>) {
    let config = RtspConfig {
        url: RtspUrl::parse(&camera.url()).unwrap().0,
        credentials: None,
        transport: RtspTransport::Tcp,
    };
    let (sender, came) = mpsc::unbounded_channel();
    let handler = move |event| {
        if let SourceEvent::Unit(unit) = event {
            let _ = sender.send(Came {
                number: numbers[&slice(&unit.data)],
                first: unit.received_at,
                whole: unit.completed_at,
            });
        }
    };
    let config = SourceConfig::Rtsp(config);
    (Source::open("same", config, Box::new(handler)), came)
}

/// The pictures as a viewer's socket gets them.
async fn by_webrtc(stream: &MediaStream, numbers: &HashMap<Vec<u8>, u32>) -> Vec<Came> {
    let track = loop {
        if let Some(track) = stream.tracks().into_iter().next() {
            break track;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let (mut packets, mut depacketizer) =
        (track.packets(), Depacketizer::new(ParameterSets::default()));
    let (mut came, since) = (Vec::new(), Instant::now());
    while since.elapsed() < WATCHED {
        let packet = tokio::time::timeout(DEADLINE, packets.recv())
            .await
            .unwrap()
            .unwrap();
        let packet = RtpPacket {
            sequence: packet.sequence.into(),
            timestamp: packet.rtp_timestamp.into(),
            marker: packet.marker,
            ssrc: 0.into(),
            codec: Codec::H264,
            payload: packet.payload,
            arrived_at: packet.received_at,
        };
        for unit in depacketizer.push(Ordered::Packet(packet)) {
            if since.elapsed() > BEGINS_AFTER {
                came.push(Came {
                    number: numbers[&slice(&unit.data)],
                    first: unit.received_at,
                    whole: unit.completed_at,
                });
            }
        }
    }
    came
}

/// Half of the delays are not longer than the first number of milliseconds, and 99 % not than the second.
fn delays(sent: &[Came], came: &[Came], at: fn(&Came) -> Instant) -> (f64, f64) {
    let mut delays: Vec<f64> = came
        .iter()
        .filter_map(|picture| {
            // A picture comes again with each round of the clip, and the two sessions may be some time apart either way.
            let same = sent.iter().filter(|sent| sent.number == picture.number);
            let delays = same.map(|sent| signed_ms(at(sent), at(picture)));
            delays.min_by(|a, b| a.abs().total_cmp(&b.abs()))
        })
        .collect();
    delays.sort_by(f64::total_cmp);
    (delays[delays.len() / 2], delays[delays.len() * 99 / 100])
}

fn signed_ms(from: Instant, to: Instant) -> f64 {
    let later = to.saturating_duration_since(from).as_secs_f64();
    (later - from.saturating_duration_since(to).as_secs_f64()) * 1e3
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes a minute: make long runs it"]
async fn what_a_bridged_camera_costs() {
    let folder = tempfile::tempdir().unwrap();
    let (file, numbers) = clip(folder.path());
    for viewers in [1, 4, 8] {
        let url = start_hub(DevHubOptions::default()).await;
        let camera = IpCamera::start(&["--play", &file]).await;
        let (source, mut sent) = by_rtsp(&camera, numbers.clone());
        let mut twin = twin_of(&camera, &[], &url);
        twin.until("pictures come from the camera").await;
        let mut watching = Vec::new();
        for n in 0..viewers {
            watching.push(viewer(&url, &format!("viewer-{n}")).await);
        }
        for (_, stream) in &watching {
            assert!(stream.connected().await);
        }
        let (before, since) = (processor_time(twin.id()), Instant::now());
        let came = by_webrtc(&watching[0].1, &numbers).await;
        let share = (processor_time(twin.id()) - before) / since.elapsed().as_secs_f64();
        let sent: Vec<Came> = std::iter::from_fn(|| sent.try_recv().ok()).collect();
        let first = delays(&sent, &came, |came| came.first);
        let whole = delays(&sent, &came, |came| came.whole);
        println!(
            "{viewers} viewers, {} pictures: first packet to first packet p50 {:.2} ms, p99 {:.2} ms; whole to whole p50 {:.2} ms, \
             p99 {:.2} ms; the bridge takes {:.1} % of a core",
            came.len(),
            first.0,
            first.1,
            whole.0,
            whole.1,
            share * 100.0
        );
        assert!(came.len() > 200, "pictures come");
        assert!(first.0 < 100.0, "{first:?}");
        source.close().await;
    }
}

/// Seconds of processor time that a process has taken.
fn processor_time(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    // Linux counts in hundredths of a second for all programs.
    [fields[11], fields[12]]
        .iter()
        .map(|ticks| ticks.parse::<f64>().unwrap() / 100.0)
        .sum()
}
