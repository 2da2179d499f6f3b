//! What development cameras send, checked by its content: the pattern's numbers after a decoder of
//! another make and after a connection, keyframes when they are asked for, pictures in their colours,
//! MP4 as the byte stream it was made from; and the sentences for what cannot be sent.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says what it measured"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{DEADLINE, Program, root, start_hub};
use tokio::sync::mpsc;
use tokio::time::timeout;
use twinsight::dev::camera::encode::{PictureEncoder, Pictures};
use twinsight::dev::camera::{self, CameraOptions, pattern};
use twinsight::dev::hub::DevHubOptions;
use twinsight_client::clock::SystemClock;
use twinsight_client::dialect::Dialect;
use twinsight_client::hub::{HubClient, HubOptions};
use twinsight_client::realtime::ice::IceSettings;
use twinsight_client::realtime::peer::Peer;
use twinsight_client::realtime::rtp_tap::Inbound;
use twinsight_client::realtime::rtp_track::TrackKind;
use twinsight_client::realtime::signal::{ChannelKind, Signal, SignalNames, mint_peer_id};
use twinsight_media::codec::Codec;
use twinsight_media::decode::decoder::{Decoder, DecoderKind};
use twinsight_media::decode::path::{DecodeConfig, ReceivePath};
use twinsight_media::h264::clip::Clip;
use twinsight_media::h264::nal::{NalType, annex_b};
use twinsight_media::picture::{Color, I420, PictureSize};
use twinsight_media::rtp::Arrival;

const SIZE: PictureSize = PictureSize {
    width_px: 640,
    height_px: 360,
};

fn kinds(unit: &[u8]) -> Vec<NalType> {
    annex_b(unit).map(|nal| NalType::of(nal[0])).collect()
}

/// ffmpeg's decoder: packed I420 pictures of a byte stream.
fn ffmpeg_decode(stream: &[u8], size: PictureSize) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.h264");
    std::fs::write(&file, stream).unwrap();
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(&file)
        .args(["-f", "rawvideo", "-pix_fmt", "yuv420p", "-"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    output
        .stdout
        .chunks(size.i420_bytes())
        .map(<[u8]>::to_vec)
        .collect()
}

#[test]
fn the_patterns_numbers_survive_and_a_request_is_answered_with_the_next_frame() {
    let mut encoder = PictureEncoder::new(Pictures::pattern(SIZE).unwrap(), 30.0).unwrap();
    let asked = [0, 7, 8, 31];
    let (mut stream, mut keyframes) = (Vec::new(), Vec::new());
    for n in 0..60 {
        let picture = encoder.next(asked.contains(&n)).unwrap();
        if picture.is_idr {
            keyframes.push(n);
            let kinds = kinds(&picture.data);
            assert_eq!(kinds[..2], [NalType::Sps, NalType::Pps], "{kinds:?}");
            let sps = annex_b(&picture.data).next().unwrap();
            assert_eq!(sps[1..3], [0x42, 0xc0], "constrained baseline");
        }
        stream.extend(picture.data);
    }
    assert_eq!(keyframes, asked);
    let pictures = ffmpeg_decode(&stream, SIZE);
    let numbers: Vec<Option<u32>> = pictures
        .iter()
        .map(|planes| pattern::read(&I420::from_packed(planes, SIZE, Color::default())).whole())
        .collect();
    assert_eq!(numbers, (0..60).map(Some).collect::<Vec<_>>());
    println!("{} bytes for 60 frames", stream.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_connection_numbers_are_in_order_and_a_pli_gives_a_keyframe_within_a_frame() {
    let url = start_hub(DevHubOptions::default()).await;
    let ice = IceSettings {
        interfaces: vec!["lo".to_owned()],
        ..IceSettings::default()
    };
    let options = CameraOptions {
        stream: "default".to_owned(),
        dial: None,
        fps: 8.0,
        start: 0,
        ice: ice.clone(),
    };
    let camera_hub = HubClient::start(HubOptions::simulator(&url, "cam"));
    let source = camera::CameraSource::Pictures(Pictures::pattern(SIZE).unwrap());
    tokio::spawn(camera::run(camera_hub.clone(), source, options));

    let hub = HubClient::start(HubOptions::simulator(&url, "viewer"));
    hub.joined().await.unwrap();
    camera_hub.joined().await.unwrap();
    let names = SignalNames::new(
        ChannelKind::Media,
        Dialect::Current,
        "default",
        "viewer",
        "cam",
        "cam",
    );
    let filter = names.clone();
    let mut messages = hub.messages(16, move |message| filter.parse(&message.data).is_some());
    let (packets, mut arrived) = mpsc::unbounded_channel();
    let sink = Arc::new(move |inbound| {
        if let Inbound::Rtp(packet) = inbound {
            let _ = packets.send(packet);
        }
    });
    let (peer, _events) = Peer::for_h264(&ice, &[], sink).await.unwrap();
    peer.receive(TrackKind::Video).await.unwrap();
    let sdp = peer.offer().await.unwrap();
    let offer = names.encode(&Signal::Offer { sdp }, Some(&mint_peer_id()));
    hub.send("cam", offer).await.unwrap();
    let message = timeout(DEADLINE, messages.recv()).await.unwrap().unwrap();
    let Some(Ok(envelope)) = names.parse(&message.data) else {
        panic!("an answer: {message:?}");
    };
    let Signal::Answer { sdp } = envelope.signal else {
        panic!("an answer: {envelope:?}");
    };
    peer.accept_answer(&sdp).await.unwrap();

    let config = DecodeConfig::new(Arc::default(), Arc::new(SystemClock), DecoderKind::Software);
    let mut path = ReceivePath::new(&config);
    let (mut numbers, mut unit_is_idr, mut keyframes) = (Vec::new(), false, Vec::new());
    let asked_after = [5, 6, 12];
    let mut units = 0;
    while units < 20 {
        let packet = timeout(DEADLINE, arrived.recv()).await.unwrap().unwrap();
        let kind = match packet.payload[0] & 0x1f {
            28 => packet.payload[1] & 0x1f,
            kind => kind,
        };
        unit_is_idr |= kind == 5;
        let marker = packet.marker;
        path.take(Arrival::Rtp(packet));
        while path.step(Instant::now(), &mut |frame| {
            numbers.push(pattern::read(&frame.planes()));
        }) {}
        if marker {
            if std::mem::take(&mut unit_is_idr) {
                keyframes.push(units);
            }
            units += 1;
            if asked_after.contains(&units) {
                assert!(peer.request_keyframe().await);
            }
        }
    }
    let whole: Vec<u32> = numbers.iter().filter_map(|n| n.whole()).collect();
    assert_eq!(
        whole.len(),
        numbers.len(),
        "no picture is torn: {numbers:?}"
    );
    assert!(
        whole.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{whole:?}"
    );
    assert!(whole.len() >= 19, "{whole:?}");
    for asked in asked_after {
        assert!(
            keyframes.iter().any(|at| (asked..=asked + 2).contains(at)),
            "asked for after {asked} units; keyframes: {keyframes:?}"
        );
    }
}

#[test]
fn a_picture_keeps_its_colours_and_an_odd_size_is_made_even() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flag.png");
    // Red, green and blue beside each other.
    image::RgbImage::from_fn(301, 123, |x, _| match x / 101 {
        0 => image::Rgb([220, 20, 20]),
        1 => image::Rgb([20, 200, 20]),
        _ => image::Rgb([20, 20, 210]),
    })
    .save(&file)
    .unwrap();
    let pictures = Pictures::still(&file).unwrap();
    let size = pictures.size();
    assert_eq!((size.width_px, size.height_px), (300, 122));
    let mut encoder = PictureEncoder::new(pictures, 5.0).unwrap();
    let stream: Vec<u8> = (0..3)
        .flat_map(|_| encoder.next(false).unwrap().data)
        .collect();
    let decoded = ffmpeg_decode(&stream, size);
    assert_eq!(decoded.len(), 3);
    let mut rgb = Vec::new();
    let planes = I420::from_packed(&decoded[2], size, Color::default());
    twinsight_media::color::to_rgb8(&planes, &mut rgb);
    for (x, expected) in [
        (50, [220, 20, 20]),
        (150, [20, 200, 20]),
        (250, [20, 20, 210]),
    ] {
        let at = 3 * (60 * size.width_px + x);
        let seen = &rgb[at..at + 3];
        let off = seen.iter().zip(expected).map(|(a, b)| a.abs_diff(b)).max();
        assert!(off < Some(12), "{seen:?} for {expected:?}");
    }
}

/// A file that ffmpeg makes of the shipped clip, or of its own test picture.
fn made(folder: &Path, name: &str, arguments: &str) -> std::path::PathBuf {
    let file = folder.join(name);
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(arguments.split(' '))
        .arg(&file)
        .current_dir(root())
        .status()
        .unwrap();
    assert!(status.success());
    file
}

#[test]
fn mp4_gives_the_access_units_that_it_was_made_from() {
    let folder = tempfile::tempdir().unwrap();
    let original = Clip::read(&root().join("media/pedestrians.h264")).unwrap();
    let copy = "-f h264 -r 10 -i media/pedestrians.h264 -c copy";
    let variants = [
        ("plain.mp4", copy.to_owned()),
        ("faststart.mp4", format!("{copy} -movflags +faststart")),
        (
            "fragments.mp4",
            format!("{copy} -movflags +frag_keyframe+empty_moov"),
        ),
        (
            "base.mp4",
            format!("{copy} -movflags +frag_keyframe+empty_moov+default_base_moof"),
        ),
        ("quicktime.mov", copy.to_owned()),
    ];
    for (name, arguments) in variants {
        let clip = Clip::read(&made(folder.path(), name, &arguments)).unwrap();
        assert_eq!(clip.units().len(), original.units().len(), "{name}");
        for (n, time) in (0_u32..).zip(clip.picture_times().unwrap()) {
            let expected = n * Duration::from_millis(100);
            assert!(
                time.shown_at.abs_diff(expected) < Duration::from_micros(100),
                "{name} {n}: {time:?}"
            );
        }
        for (n, (from_mp4, from_stream)) in clip.units().iter().zip(original.units()).enumerate() {
            let nals = |data| annex_b(data).map(<[u8]>::to_vec).collect::<Vec<_>>();
            assert_eq!(from_mp4.is_idr, from_stream.is_idr, "{name} unit {n}");
            assert!(
                nals(&from_mp4.data) == nals(&from_stream.data),
                "{name} unit {n}: {:?} for {:?}",
                kinds(&from_mp4.data),
                kinds(&from_stream.data)
            );
        }
    }
    // Without parameter sets in the samples, they come from the file's head, before every keyframe.
    let stripped = made(
        folder.path(),
        "stripped.mp4",
        &format!("{copy} -bsf:v filter_units=remove_types=7-8"),
    );
    for unit in Clip::read(&stripped).unwrap().units() {
        let sets = kinds(&unit.data).contains(&NalType::Sps);
        assert_eq!(sets, unit.is_idr, "{:?}", kinds(&unit.data));
    }
}

#[test]
fn an_mp4_that_cannot_be_used_is_told_and_never_breaks_the_reader() {
    let folder = tempfile::tempdir().unwrap();
    let said = |file: &Path| Clip::read(file).unwrap_err().to_string();
    let test_picture = "-f lavfi -i testsrc=size=64x48:rate=5:duration=1";
    let other = made(
        folder.path(),
        "mpeg4.mp4",
        &format!("{test_picture} -c:v mpeg4"),
    );
    assert!(
        said(&other).contains("mpeg4.mp4 is an MP4 file with "),
        "{}",
        said(&other)
    );
    let sound = made(
        folder.path(),
        "sound.m4a",
        "-f lavfi -i sine=duration=1 -c:a aac",
    );
    assert!(
        said(&sound).contains("without a video track"),
        "{}",
        said(&sound)
    );

    let short = made(
        folder.path(),
        "short.mp4",
        &format!("{test_picture} -c:v libx264 -movflags +faststart"),
    );
    let good = std::fs::read(&short).unwrap();
    assert!(Clip::from_bytes(&good).is_ok());
    let sentences: BTreeSet<String> = (0..good.len())
        .filter_map(|length| Clip::from_bytes(&good[..length]).err())
        .map(|error| error.to_string())
        .collect();
    assert!(
        sentences.iter().any(|text| text.contains("damaged")),
        "{sentences:?}"
    );
    // Every byte of the head turned round, one at a time: an error or a clip, nothing else.
    for at in 0..good.len() {
        for mask in [0xff, 0x01, 0x80] {
            let mut damaged = good.clone();
            damaged[at] ^= mask;
            drop(Clip::from_bytes(&damaged));
        }
    }
}

#[test]
fn a_recording_that_was_cut_off_is_played_as_far_as_it_is_whole() {
    let cut = root().join("tests/data/faults/faststart_cut.mp4");
    let clip = Clip::read(&cut).unwrap();
    assert_eq!(clip.units().len(), 5);
    let damage = clip.damage().unwrap().to_string();
    assert!(damage.contains("ends before its last picture"), "{damage}");
    // B frames are sent in the order of decoding, as any camera does.
    let sent = |name| {
        let clip = Clip::read(&root().join("tests/data/faults").join(name)).unwrap();
        let units = clip.units().iter();
        let units: Vec<Vec<Vec<u8>>> = units
            .map(|unit| annex_b(&unit.data).map(<[u8]>::to_vec).collect())
            .collect();
        units
    };
    let stream = std::fs::read(root().join("tests/data/faults/b_order.h264")).unwrap();
    let nals: Vec<&[u8]> = annex_b(&stream).collect();
    assert_eq!(sent("b_order.h264").concat(), nals);
}

#[test]
fn what_cannot_be_sent_is_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = folder.path().join("tiny.png");
    image::RgbImage::new(8, 8).save(&tiny).unwrap();
    let tiny = tiny.to_str().unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (
            &[],
            2,
            "<--clip <FILE>|--image <FILE>|--pattern|--rtsp <URL>|--device <PATH>>",
        ),
        (&["--pattern", "--clip", "x.h264"], 2, "cannot be used with"),
        (
            &["--image", "no/such.jpg"],
            1,
            "cannot read the picture no/such.jpg",
        ),
        (
            &["--image", "Cargo.toml"],
            1,
            "Cargo.toml is not a whole JPEG, PNG, WebP or BMP picture",
        ),
        (
            &["--image", tiny],
            1,
            "is 8x8 pixels: a camera sends from 16x16 to 3840x2160",
        ),
        (
            &["--clip", "no/such.mp4"],
            1,
            "cannot read the clip no/such.mp4",
        ),
        (
            &["--clip", "Cargo.toml"],
            1,
            "Cargo.toml is neither an H.264 byte stream",
        ),
        (&["--pattern", "--size", "large"], 2, "as in 1280x720"),
        (
            &["--pattern", "--size", "64x64"],
            2,
            "the pattern is 64x64 pixels: a camera sends from 256x96",
        ),
        (&["--clip", "x.h264", "--size", "640x480"], 2, "--pattern"),
    ];
    for (arguments, code, sentence) in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_twinsight"))
            .args(["camera", "--twin", "cam"])
            .args(*arguments)
            .env_remove("TWINSIGHT_TEST_PYTHON")
            .current_dir(root())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {said}");
        assert!(said.contains(sentence), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_detects_on_a_camera_that_sends_a_picture() {
    let url = start_hub(DevHubOptions::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("street.png");
    // A picture of the shipped clip: there are persons in it.
    let clip = Clip::read(&root().join("media/pedestrians.h264")).unwrap();
    let mut decoder = Decoder::new(DecoderKind::Software, Codec::H264).unwrap();
    let pool = twinsight_media::picture::PlanePool::new(1);
    let mut pictures = Vec::new();
    decoder
        .decode(&clip.units()[0].data, 0, &pool, &SystemClock, &mut pictures)
        .unwrap();
    let picture = &pictures[0];
    let mut rgb = Vec::new();
    let planes = I420::from_packed(picture.planes.bytes(), picture.size, Color::default());
    twinsight_media::color::to_rgb8(&planes, &mut rgb);
    let side = |length: usize| u32::try_from(length).unwrap();
    image::RgbImage::from_raw(
        side(picture.size.width_px),
        side(picture.size.height_px),
        rgb,
    )
    .unwrap()
    .save(&file)
    .unwrap();

    let mut command = Command::new(env!("CARGO_BIN_EXE_twinsight"));
    command
        .args(["camera", "--twin", "cam", "--fps", "5", "--image"])
        .arg(&file);
    let env = [
        ("PHYSTACK_SIMULATOR_URL", &*url),
        ("TWINSIGHT_ICE__INTERFACES", "lo"),
    ];
    let _camera = Program::start(command, &env, true);
    let node_env = [env[0], env[1], ("TWIN_ID", "node-1")];
    let config = "[[cameras]]\ntwin_id = \"cam\"\n";
    let node = crate::common::NodeProcess::start(config, &node_env).await;
    let seen = async {
        while node.metric("objects_detected_total", "label=\"person\"") < 5.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(DEADLINE, seen).await.expect("persons are seen");
}
