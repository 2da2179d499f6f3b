//! Media streams with every client that exists, through the development hub: the official Python client both
//! ways, the official npm client on Node.js as a camera, and a page in Chromium both ways. What is sent are
//! numbered pictures, so that order and tears are seen.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use crate::common::streams::{IpCamera, Numbers, SIZE, client, numbers_of_another, soon};
use crate::common::{Browser, DEADLINE, Program, start_hub};
use serde_json::Value;
use tokio::sync::mpsc;
use twinsight::dev::hub::DevHubOptions;
use twinsight_client::hub::{EventReceiver, HubClient};
use twinsight_client::media::{
    AcceptStreamsOptions, LocalTrack, MediaStream, MediaStreamListener, MediaStreamOptions,
    TrackKind,
};
use twinsight_client::realtime::CloseReason;
use twinsight_media::picture::PictureSize;

/// Waited for as long as the test may take.
fn patient(options: impl Into<MediaStreamOptions>) -> MediaStreamOptions {
    options.into().with_connect_limit(DEADLINE)
}

fn python(url: &str, twin: &str, args: &[&str]) -> Program {
    let env = [("PHYSTACK_SIMULATOR_URL", url), ("TWIN_ID", twin)];
    Program::python("media.py", args, &env)
}

/// So many pictures that a program has decoded: in order, and none torn.
async fn sees_numbers(program: &mut Program, stream: &str, count: usize) -> Vec<u32> {
    let (mut numbers, mut unreadable): (Vec<u32>, usize) = (Vec::new(), 0);
    while numbers.len() < count {
        let line = program.line().await.expect("the program runs on");
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["torn", of, ..] if of == stream => panic!("a torn picture after {numbers:?}"),
            // Its first pictures may be of before its first keyframe.
            ["unreadable", of, ..] if of == stream && numbers.is_empty() => unreadable += 1,
            ["unreadable", of, ..] if of == stream => panic!("unreadable after {numbers:?}"),
            ["frame", of, number, ..] if of == stream => {
                let number = number.parse().unwrap();
                let last = numbers.last().copied().unwrap_or(0);
                assert!(last <= number, "{number} came after {numbers:?}");
                numbers.push(number);
            }
            _ => {}
        }
    }
    assert!(unreadable < 50, "{unreadable} pictures could not be read");
    numbers
}

/// Awaits a twin's streams and accepts them with these tracks.
fn accepting(
    client: &HubClient,
    source: &str,
    options: MediaStreamOptions,
    tracks: Vec<LocalTrack>,
) -> (MediaStreamListener, mpsc::UnboundedReceiver<MediaStream>) {
    let (taken, streams) = mpsc::unbounded_channel();
    let listener = client
        .instance()
        .on_media_stream(source, options, move |incoming| {
            let (taken, tracks) = (taken.clone(), tracks.clone());
            async move {
                let _ = taken.send(incoming.accept(tracks));
            }
        });
    (listener.unwrap(), streams)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_dial_pythons_fan_out_on_two_names() {
    let url = start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let args = [
        "--listen", "--fanout", "--send", "--stream", "front", "--stream", "back",
    ];
    let mut camera = python(&url, "python", &args);
    camera.until("armed").await;
    let instance = rust.instance();
    let (front, back) = tokio::join!(
        instance.get_media_stream("python", patient("front")),
        instance.get_media_stream("python", patient("back"))
    );
    let (front, back) = (front.unwrap(), back.unwrap());
    tokio::join!(
        numbers_of_another(&front, 30),
        numbers_of_another(&back, 30)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_dial_pythons_plain_responder_and_video_goes_both_ways() {
    let url = start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let mut other = python(&url, "python", &["--listen", "--send", "--receive"]);
    other.until("armed").await;
    let numbers = Numbers::start(1_000_000);
    let two_way = patient(MediaStreamOptions::two_way([numbers.track.clone()]));
    let stream = rust
        .instance()
        .get_media_stream("python", two_way)
        .await
        .unwrap();
    assert!(numbers_of_another(&stream, 30).await[0] < 1_000_000);
    assert!(sees_numbers(&mut other, "default", 30).await[0] >= 1_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_dials_us_and_sends() {
    let url = start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let (_listener, mut streams) = accepting(&rust, "python", patient("default"), Vec::new());
    let _camera = python(&url, "python", &["--dial", "rust", "--send"]);
    let stream = soon("the offer", streams.recv()).await.unwrap();
    numbers_of_another(&stream, 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_dials_us_and_video_goes_both_ways() {
    let url = start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let numbers = Numbers::start(1_000_000);
    let tracks = vec![numbers.track.clone()];
    let (_listener, mut streams) = accepting(&rust, "python", patient("default"), tracks);
    let mut other = python(&url, "python", &["--dial", "rust", "--send", "--receive"]);
    let stream = soon("the offer", streams.recv()).await.unwrap();
    assert!(numbers_of_another(&stream, 30).await[0] < 1_000_000);
    assert!(sees_numbers(&mut other, "default", 30).await[0] >= 1_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_pythons_look_on_at_our_fan_out() {
    let url = start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let numbers = Numbers::start(0);
    let options = AcceptStreamsOptions::sending([numbers.track.clone()]);
    let acceptor = rust
        .instance()
        .accept_media_streams(options, |_stream| async {})
        .unwrap();
    let mut viewers: Vec<Program> = (1..=3)
        .map(|n| {
            python(
                &url,
                &format!("python-{n}"),
                &["--dial", "rust", "--receive"],
            )
        })
        .collect();
    for viewer in &mut viewers {
        sees_numbers(viewer, "default", 30).await;
    }
    assert_eq!((acceptor.peers(), numbers.track.viewers()), (3, 3));
}

/// Who only sends has no frames whose absence would tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_is_killed_is_dialled_again_by_the_one_who_sends() {
    let url = start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let mut viewer = python(&url, "python", &["--listen", "--receive"]);
    viewer.until("armed").await;
    let numbers = Numbers::start(0);
    let sending = patient(MediaStreamOptions::sending([numbers.track.clone()]));
    let stream = rust
        .instance()
        .get_media_stream("python", sending)
        .await
        .unwrap();
    let mut closes = stream.closes();
    sees_numbers(&mut viewer, "default", 10).await;
    viewer.signal("KILL");
    viewer.ended().await;
    let killed = Instant::now();
    assert_eq!(
        soon("the loss", closes.recv()).await,
        Some(CloseReason::Lost)
    );
    println!("noticed after {:?}", killed.elapsed());
    let mut viewer = python(&url, "python", &["--listen", "--receive"]);
    viewer.until("armed").await;
    sees_numbers(&mut viewer, "default", 10).await;
}

/// The tone of one Python goes through us to another, as Opus packets, and is measured there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sound_of_one_python_reaches_another_through_us() {
    let url = start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let both = |name: &str| patient(name).with_kinds(vec![TrackKind::Video, TrackKind::Audio]);
    let (_listener, mut streams) = accepting(&rust, "source", both("default"), Vec::new());
    let _source = python(&url, "source", &["--dial", "rust", "--send", "--audio"]);
    let stream = soon("the offer", streams.recv()).await.unwrap();
    let (sound, numbers) = (LocalTrack::audio("tone"), Numbers::start(0));
    let onwards = sound.clone();
    stream.on_track(move |track| {
        let onwards = onwards.clone();
        async move {
            if track.kind() == TrackKind::Audio {
                let mut packets = track.packets();
                while let Some(packet) = packets.recv().await {
                    onwards.send_opus(packet.payload, Duration::from_millis(20));
                }
            }
        }
    });
    let options = AcceptStreamsOptions::sending([numbers.track.clone(), sound.clone()]);
    let _acceptor = rust
        .instance()
        .accept_media_streams(options, |_stream| async {})
        .unwrap();
    let mut hearer = python(&url, "hearer", &["--dial", "rust", "--receive", "--audio"]);
    sees_numbers(&mut hearer, "default", 10).await;
    // The first second may have gaps.
    hearer.until("audio default 100 ").await;
    let line = hearer.until("audio default ").await;
    let hertz: i32 = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((hertz - 440).abs() < 20, "{line}");
}

/// A page, which reports to us.
struct Page {
    lines: EventReceiver,
    _browser: Browser,
}

impl Page {
    fn open(url: &str, reader: &HubClient, query: &str) -> Self {
        let lines = reader.instance().events("page", 1024);
        let query = format!("twin=page&peer={}&{query}", reader.instance().twin_id());
        Self {
            lines,
            _browser: Browser::open("media.html", url, &query),
        }
    }

    /// Its next line that says `what`.
    async fn says(&mut self, what: &str) -> Value {
        loop {
            let line = soon("a line of the page", self.lines.recv())
                .await
                .unwrap()
                .data;
            let said = line["what"].as_str().unwrap();
            assert!(!["error", "torn"].contains(&said), "{line}");
            if said == what {
                return line;
            }
        }
    }

    /// So many numbers that it has read from the pixels of its `<video>`: in order, and none torn.
    async fn sees_numbers(&mut self, count: usize) -> Vec<u64> {
        let mut numbers: Vec<u64> = Vec::new();
        while numbers.len() < count {
            let number = self.says("frame").await["number"].as_u64().unwrap();
            let last = numbers.last().copied().unwrap_or(0);
            assert!(last <= number, "{number} came after {numbers:?}");
            numbers.push(number);
        }
        numbers
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_shows_our_h264() {
    let url = start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let numbers = Numbers::start(0);
    let options = AcceptStreamsOptions::sending([numbers.track.clone()]);
    let _acceptor = rust
        .instance()
        .accept_media_streams(options, |_stream| async {})
        .unwrap();
    let mut page = Page::open(&url, &rust, "role=initiator&mode=receive");
    page.sees_numbers(30).await;
    let stats = page.says("stats").await;
    assert!(stats["codec"].as_str().unwrap().contains("H264"), "{stats}");
}

/// High at level 4.0, with keyframes 10 s apart: each viewer joins in the middle, begins at once and sees what is newest soon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_and_python_show_an_ip_cameras_high_1080p() {
    let url = start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let size = PictureSize {
        width_px: 1920,
        height_px: 1080,
    };
    let camera = tokio::task::spawn_blocking(move || IpCamera::new(size, 500, 250));
    let camera = camera.await.unwrap();
    let options = AcceptStreamsOptions::sending([camera.track.clone()]);
    let _acceptor = rust
        .instance()
        .accept_media_streams(options, |_stream| async {})
        .unwrap();
    camera.has_sent(0..60);
    let mut page = Page::open(&url, &rust, "role=initiator&mode=receive");
    soon("the page", camera.track.viewer_joined()).await;
    camera.sends(60..500);
    let joined = Instant::now();
    // Python takes a while to start, and both have to have seen enough before the camera ends.
    let mut viewer = python(&url, "python", &["--dial", "rust", "--receive"]);
    let numbers = page.sees_numbers(40).await;
    println!("40 pictures after {:?}: {numbers:?}", joined.elapsed());
    let stats = page.says("stats").await;
    println!("{stats}");
    assert!(stats["codec"].as_str().unwrap().contains("H264"), "{stats}");

    let numbers = sees_numbers(&mut viewer, "default", 30).await;
    println!("Python sees {numbers:?}");
    println!("{}", page.says("stats").await);
}

/// Our offer begins with High, which neither knows by that name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_and_python_answer_an_offer_that_begins_with_high() {
    let url = start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let camera = tokio::task::spawn_blocking(move || IpCamera::new(SIZE, 400, 100));
    let camera = camera.await.unwrap();
    let mut viewer = python(&url, "python", &["--listen", "--receive"]);
    viewer.until("armed").await;
    let mut page = Page::open(&url, &rust, "role=responder&mode=receive");
    page.says("armed").await;
    let sending = || patient(MediaStreamOptions::sending([camera.track.clone()]));
    let instance = rust.instance();
    let to_python = instance
        .get_media_stream("python", sending())
        .await
        .unwrap();
    let to_page = instance.get_media_stream("page", sending()).await.unwrap();
    camera.sends(0..400);
    sees_numbers(&mut viewer, "default", 20).await;
    page.sees_numbers(20).await;
    assert_eq!(camera.track.viewers(), 2);
    drop((to_python, to_page));
}

/// Its canvas is read from our frames; it dials us, its candidates trickled.
async fn a_browser_sends(codec: &str) {
    let url = start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let (_listener, mut streams) = accepting(&rust, "page", patient("default"), Vec::new());
    let query = format!("role=initiator&mode=send&codec={codec}");
    let mut page = Page::open(&url, &rust, &query);
    let stream = soon("the offer", streams.recv()).await.unwrap();
    numbers_of_another(&stream, 30).await;
    let stats = page.says("stats").await;
    assert!(stats["codec"].as_str().unwrap().contains(codec), "{stats}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_sends_us_its_canvas_as_h264() {
    a_browser_sends("H264").await;
}

#[cfg(feature = "vp8")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_sends_us_its_canvas_as_vp8() {
    a_browser_sends("VP8").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_dial_a_browser_and_video_goes_both_ways() {
    let url = start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let numbers = Numbers::start(1_000_000);
    let mut page = Page::open(&url, &rust, "role=responder&mode=both");
    page.says("armed").await;
    let two_way = patient(MediaStreamOptions::two_way([numbers.track.clone()]));
    let stream = rust
        .instance()
        .get_media_stream("page", two_way)
        .await
        .unwrap();
    assert!(numbers_of_another(&stream, 30).await[0] < 1_000_000);
    assert!(page.sees_numbers(30).await[0] >= 1_000_000);
}

/// It has no H.264, and its first answer sends nothing: it takes an offer over the connection that is up.
#[cfg(feature = "vp8")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_npm_camera_sends_vp8_once_it_was_offered_again() {
    use twinsight_client::dialect::Dialect;
    use twinsight_media::codec::Codec;
    let url = start_hub(DevHubOptions::default()).await;
    let rust = client(&url, "rust").await;
    let clip = crate::common::root().join("media/pedestrians.h264");
    let mut camera = Program::npm(
        "media.mjs",
        &["--send", clip.to_str().unwrap()],
        &url,
        "npm",
    );
    camera.until("armed").await;
    let options = patient("default")
        .with_dialect(Dialect::Legacy)
        .with_codecs(vec![Codec::H264, Codec::Vp8]);
    let stream = rust
        .instance()
        .get_media_stream("npm", options)
        .await
        .unwrap();
    let mut frames = stream.frames();
    for _ in 0..30 {
        let frame = soon("a frame", frames.recv()).await.unwrap();
        assert_eq!((frame.width(), frame.height()), (768, 576));
    }
}
