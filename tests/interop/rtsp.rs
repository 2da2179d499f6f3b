//! IP cameras as GStreamer's RTSP server plays them, and what is none: what comes of each is what a source tells. The program
//! that makes a twin of one is tested in `rtsp_twin`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::common::DEADLINE;
use crate::common::ip_camera::IpCamera;
use crate::common::ports::unused_address;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use twinsight::bridge::source::{
    Source, SourceEvent, SourceFacts, SourceState, SourceUnit, UnitLoss,
};
use twinsight::config::{RtspConfig, RtspCredentials, RtspTransport, RtspUrl, SourceConfig};
use twinsight_client::secret::Secret;
use twinsight_media::h264::nal::{NalType, annex_b};

/// What the camera sends unless it is asked for something else.
const SIZE: (usize, usize) = (320, 240);

/// Rounds in which the camera dies.
const ROUNDS: u32 = 5;

/// What a source tells.
struct Told {
    events: mpsc::UnboundedReceiver<SourceEvent>,
    /// Why there were no pictures, in the order in which it was told.
    reasons: Vec<(String, Duration)>,
    facts: Option<SourceFacts>,
    dropped: Vec<UnitLoss>,
    _source: Source,
}

impl Told {
    fn by(url: &str, credentials: Option<RtspCredentials>, transport: RtspTransport) -> Self {
        let (url, in_url) = RtspUrl::parse(url).unwrap();
        let config = SourceConfig::Rtsp(RtspConfig {
            url,
            credentials: credentials.or(in_url),
            transport,
        });
        let (sender, events) = mpsc::unbounded_channel();
        let handler = move |event| {
            let _ = sender.send(event);
        };
        Self {
            events,
            reasons: Vec::new(),
            facts: None,
            dropped: Vec::new(),
            _source: Source::open("camera", config, Box::new(handler)),
        }
    }

    fn of(url: &str) -> Self {
        Self::by(url, None, RtspTransport::Tcp)
    }

    /// The next unit, or `None` when it is told that there are no pictures.
    async fn next(&mut self) -> Option<SourceUnit> {
        loop {
            let event = tokio::time::timeout(DEADLINE, self.events.recv()).await;
            match event.expect("the source tells something").unwrap() {
                SourceEvent::Unit(unit) => return Some(unit),
                SourceEvent::Dropped(loss, count) => {
                    self.dropped
                        .extend(std::iter::repeat_n(loss, usize::try_from(count).unwrap()));
                }
                SourceEvent::State(SourceState::Receiving(facts)) => self.facts = Some(facts),
                SourceEvent::State(SourceState::Down {
                    reason, retry_in, ..
                }) => {
                    self.reasons.push((reason.to_string(), retry_in));
                    return None;
                }
                SourceEvent::State(SourceState::Connecting { .. }) => {}
            }
        }
    }

    async fn unit(&mut self) -> SourceUnit {
        loop {
            if let Some(unit) = self.next().await {
                return unit;
            }
        }
    }

    async fn units(&mut self, count: usize) -> Vec<SourceUnit> {
        let mut units = Vec::new();
        while units.len() < count {
            units.push(self.unit().await);
        }
        units
    }

    /// The sentence that says why there are no pictures.
    async fn reason(&mut self) -> (String, Duration) {
        while self.next().await.is_some() {}
        self.reasons.last().unwrap().clone()
    }
}

fn kinds(unit: &SourceUnit) -> Vec<NalType> {
    annex_b(&unit.data).map(|nal| NalType::of(nal[0])).collect()
}

/// What has to hold of the units of any camera that sends 15 frames a second with a keyframe each second.
fn check(units: &[SourceUnit], what: &str) {
    assert!(units[0].is_keyframe, "{what}");
    let keyframes = units.iter().filter(|unit| unit.is_keyframe).count();
    assert!((2..=4).contains(&keyframes), "{keyframes} {what}");
    for unit in units {
        let kinds = kinds(unit);
        let slices = kinds.iter().filter(|kind| kind.is_slice()).count();
        assert!(slices > 0, "{what}: {kinds:?}");
        assert_eq!(
            unit.is_keyframe,
            kinds.contains(&NalType::IdrSlice),
            "{what}"
        );
        if unit.is_keyframe {
            assert_eq!(kinds[..2], [NalType::Sps, NalType::Pps], "{what}");
            assert!(
                kinds[2..].iter().all(|kind| kind.is_slice()),
                "{what}: {kinds:?}"
            );
        }
        assert!(unit.received_at <= unit.completed_at);
    }
    for pair in units.windows(2) {
        let ticks = pair[1]
            .timestamp_90k
            .wrapping_sub(pair[0].timestamp_90k)
            .cast_signed();
        assert!((3000..=9000).contains(&ticks), "{ticks} ticks: {what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_profile_comes_with_its_parameter_sets_before_each_idr_picture() {
    for (profile, profile_idc, sdp_only, transport) in [
        ("constrained-baseline", 66, false, RtspTransport::Tcp),
        ("main", 77, false, RtspTransport::Udp),
        ("high", 100, false, RtspTransport::Tcp),
        ("high", 100, true, RtspTransport::Udp),
    ] {
        let what = format!("{profile} by {transport}, sets in the description alone: {sdp_only}");
        let mut args = vec!["--profile", profile];
        if sdp_only {
            args.push("--sets-in-sdp");
        }
        let camera = IpCamera::start(&args).await;
        let mut told = Told::by(&camera.url(), None, transport);
        check(&told.units(40).await, &what);
        let facts = told.facts.unwrap();
        let size = facts
            .size
            .map(|size| (size.width_px, size.height_px))
            .unwrap();
        assert_eq!(size, SIZE, "{what}");
        assert_eq!(facts.profile_level_id.unwrap()[0], profile_idc, "{what}");
        assert!(told.dropped.is_empty(), "{:?}: {what}", told.dropped);
        assert!(told.reasons.is_empty(), "{:?}: {what}", told.reasons);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_sound_and_h265_the_h264_is_taken() {
    let camera = IpCamera::start(&["--streams", "sound,h265,h264"]).await;
    check(&Told::of(&camera.url()).units(32).await, "the third stream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_asks_who_one_is_is_told() {
    for way in ["basic", "digest"] {
        let args = ["--auth", way, "--user", "ann", "--password", "right-word"];
        let camera = IpCamera::start(&args).await;
        let ask = |user: &str, password: Secret| {
            let credentials = RtspCredentials {
                user: user.to_owned(),
                password,
            };
            Told::by(&camera.url(), Some(credentials), RtspTransport::Tcp)
        };
        check(
            &ask("ann", Secret::new("right-word")).units(32).await,
            "with the password",
        );

        let (reason, _) = Told::of(&camera.url()).reason().await;
        assert!(reason.contains("asks who you are (401)"), "{reason}");

        let mut wrong = ask("ann", Secret::new("wrong-word"));
        let (first, soon) = wrong.reason().await;
        let (second, late) = wrong.reason().await;
        for reason in [first, second] {
            assert!(
                reason.contains("refuses the user or the password (401)"),
                "{reason}"
            );
            assert!(!reason.contains("wrong-word"), "{reason}");
        }
        assert!(soon <= Duration::from_secs(1), "{soon:?}");
        assert!(
            late >= Duration::from_mins(1),
            "no camera locks the user for this: {late:?}"
        );

        // A password that is changed in its file counts the next time.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "wrong-word").unwrap();
        let mut rotated = ask("ann", Secret::of_file(file.path(), "wrong-word").unwrap());
        rotated.reason().await;
        std::fs::write(file.path(), "right-word\n").unwrap();
        check(&rotated.units(32).await, "with the new password");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_shown_is_said_with_the_setting_to_change() {
    for (args, path, sentence) in [
        (
            "--streams h265",
            "",
            "sends H.265 (HEVC) and no H.264 there: set the video encoding",
        ),
        (
            "--streams jpeg",
            "",
            "sends MJPEG and no H.264 there: set the video encoding",
        ),
        (
            "--streams sound",
            "",
            "has no video there (it has audio as PCMA)",
        ),
        (
            "--profile main --bframes 2",
            "",
            "sends B frames, which cannot be shown as they come: set the number",
        ),
        (
            "--profile main --interlaced",
            "",
            "sends interlaced video, which the decoder cannot take",
        ),
        (
            "--profile high-10",
            "",
            "sends H.264 of profile 110 with more than 8 bits a sample",
        ),
        (
            "--profile high-4:4:4",
            "",
            "sends H.264 of profile 244 with 4:4:4 chroma",
        ),
        ("", "s", "has no such stream (404): see the path"),
        (
            "--transport udp",
            "",
            "does not send that way (461): take the other transport",
        ),
    ] {
        let camera = IpCamera::start(&args.split_whitespace().collect::<Vec<_>>()).await;
        let mut told = Told::of(&format!("{}{path}", camera.url()));
        let (reason, _) = told.reason().await;
        let begin = format!("the camera at {}{path} {sentence}", camera.url());
        assert!(reason.starts_with(&begin), "{args}: {reason}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_frames_are_refused_until_the_setting_is_changed() {
    let b_frames = ["--profile", "main", "--bframes", "2"];
    let camera = IpCamera::start(&b_frames).await;
    let mut told = Told::of(&camera.url());
    for _ in 0..3 {
        // The parameter sets of x264 say that frames are reordered, so that not even the first picture is shown.
        assert!(told.next().await.is_none());
        assert!(told.reasons.last().unwrap().0.contains("sends B frames"));
    }
    let address = camera.die().await;
    let camera = IpCamera::start_at(address, &["--profile", "main"]).await;
    check(&told.units(32).await, "without B frames");
    drop(camera);
}

/// Answers each connection on a port by what `answer` gives, and keeps it open for a while.
async fn no_camera(answer: &'static [u8], ends: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer).await;
                if !ends {
                    tokio::time::sleep(DEADLINE).await;
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_no_camera_it_is_said() {
    // A TLS alert, as a port for rtsps answers.
    const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 10];
    const HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    for (address, sentence) in [
        (
            unused_address(),
            "cannot be reached (Connection refused (os error 111))",
        ),
        (no_camera(HTTP, false).await, "does not speak RTSP there ("),
        (no_camera(ALERT, true).await, "does not speak RTSP there ("),
        (no_camera(b"", true).await, "does not speak RTSP there ("),
        (
            no_camera(b"", false).await,
            "did not answer DESCRIBE within 10 s",
        ),
    ] {
        let (reason, retry_in) = Told::of(&format!("rtsp://{address}/")).reason().await;
        let begin = format!("the camera at rtsp://{address}/ {sentence}");
        assert!(reason.starts_with(&begin), "{reason}");
        assert!(
            (0.5..=1.0).contains(&retry_in.as_secs_f64()),
            "{retry_in:?}"
        );
    }
    let (reason, _) = Told::of("rtsp://camera.invalid/").reason().await;
    assert!(
        reason.contains("cannot be reached (failed to lookup"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_dies_again_and_again_is_back_by_itself() {
    for transport in [RtspTransport::Tcp, RtspTransport::Udp] {
        let mut camera = IpCamera::start(&["--profile", "main"]).await;
        let mut told = Told::by(&camera.url(), None, transport);
        let mut back = Vec::new();
        for _ in 0..ROUNDS {
            told.units(10).await;
            let address = camera.die().await;
            while told.next().await.is_some() {}
            camera = IpCamera::start_at(address, &["--profile", "main"]).await;
            let since = Instant::now();
            assert!(
                told.unit().await.is_keyframe,
                "it begins anew with a keyframe"
            );
            back.push(since.elapsed());
        }
        println!(
            "back by {transport} after {back:?}; reasons: {:?}",
            told.reasons
        );
        assert!(
            told.reasons
                .iter()
                .all(|(reason, _)| !reason.contains("bug"))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_loss_units_are_left_out_up_to_the_next_keyframe() {
    let camera =
        IpCamera::start(&["--profile", "main", "--loss", "0.01", "--size", "640x480"]).await;
    let mut told = Told::of(&camera.url());
    let (mut dropped, mut losses) = (0, 0);
    for _ in 0..150 {
        let unit = told.unit().await;
        if told.dropped.len() > dropped {
            dropped = told.dropped.len();
            losses += 1;
            assert!(unit.is_keyframe, "what builds on a lost unit is left out");
        }
    }
    println!("{losses} losses, left out: {:?}", told.dropped);
    assert!(losses > 0, "packets were lost");
    assert!(told.reasons.is_empty(), "{:?}", told.reasons);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_goes_silent_is_asked_anew_after_45_s() {
    let camera = IpCamera::start(&["--profile", "main"]).await;
    let mut told = Told::of(&camera.url());
    told.units(10).await;
    camera.program.signal("USR1");
    let since = Instant::now();
    let (reason, _) = told.reason().await;
    let silent = since.elapsed().as_secs_f64();
    assert!(
        reason.contains("was silent for 45 s: see whether"),
        "{reason}"
    );
    assert!((44.0..50.0).contains(&silent), "{silent}");
    camera.program.signal("USR2");
    assert!(told.unit().await.is_keyframe);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bytes_of_a_camera_are_a_bug() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (told_session, mut sessions) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for seed in 1_u64.. {
            let (stream, _) = listener.accept().await.unwrap();
            broken_camera(stream, address, seed).await;
            if told_session.send(()).is_err() {
                return;
            }
        }
    });
    let mut tellers: Vec<_> = (0..8)
        .map(|_| Told::of(&format!("rtsp://{address}/stream")))
        .collect();
    for _ in 0..40 {
        tokio::time::timeout(DEADLINE, sessions.recv())
            .await
            .unwrap()
            .unwrap();
    }
    for told in &mut tellers {
        told.reason().await;
        println!("{:?}", told.reasons);
        assert!(
            told.reasons
                .iter()
                .all(|(reason, _)| !reason.contains("bug"))
        );
    }
}

/// Answers as a camera would, and sends what no camera should.
async fn broken_camera(mut stream: tokio::net::TcpStream, address: SocketAddr, seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let sdp = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
               a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z01AH42NQCgC3/gLcBAQFAAAD6AAAw1BgyxI,aO44gA==\r\na=control:0\r\n";
    for cseq in 1..=3 {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read_exact(&mut byte).await.is_err() {
                return;
            }
            request.push(byte[0]);
        }
        let rest = match cseq {
            1 => format!(
                "Content-Type: application/sdp\r\nContent-Base: rtsp://{address}/stream/\r\nContent-Length: {}\r\n\r\n{sdp}",
                sdp.len()
            ),
            2 => "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n".to_owned(),
            _ => "Session: 1\r\n\r\n".to_owned(),
        };
        let mut answer = format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{rest}").into_bytes();
        if random() % 8 == 0 {
            let place = usize::try_from(random()).unwrap() % answer.len();
            answer[place] = random().to_le_bytes()[0];
        }
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
    let mut sequence = 0_u16;
    for _ in 0..400 {
        let length = u16::try_from(random() % 60).unwrap();
        sequence = sequence.wrapping_add(u16::from(random() % 10 != 0));
        let mut packet = vec![0x80, 96 | (0x80 * u8::from(random() % 3 == 0))];
        packet.extend(sequence.to_be_bytes());
        packet.extend((u32::from(sequence) / 3 * 6000).to_be_bytes());
        packet.extend([0, 0, 0, 9]);
        // The types of NAL units and payloads that mean something, and random bytes behind them.
        packet.push(
            [0x65, 0x41, 0x67, 0x68, 0x78, 0x7c, 0x1c, 0x06]
                [usize::try_from(random() % 8).unwrap()],
        );
        packet.extend((0..length).map(|_| random().to_le_bytes()[3]));
        let is_garbage = random() % 200 == 0;
        let channel = if random() % 20 == 0 {
            random().to_le_bytes()[1] % 4
        } else {
            0
        };
        let mut frame = vec![b'$', channel];
        frame.extend(u16::try_from(packet.len()).unwrap().to_be_bytes());
        frame.extend(packet);
        if is_garbage {
            frame = (0..64).map(|_| random().to_le_bytes()[0]).collect();
        }
        if stream.write_all(&frame).await.is_err() {
            return;
        }
    }
}
