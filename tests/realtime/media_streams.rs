//! Media streams between two clients of this crate, through the development hub: what travels each way, what is
//! independent of what, what is bounded, and what survives.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::streams::{Numbers, SIZE, client, growing, number, numbers_of, soon};
use crate::common::{DEADLINE, start_hub};
use bytes::Bytes;
use tokio::sync::mpsc;
use twinsight::dev::hub::DevHubOptions;
use twinsight_client::hub::{HubClient, HubError, Instance};
use twinsight_client::media::{
    AcceptStreamsOptions, Direction, Incoming, LocalTrack, MediaError, MediaState, MediaStream,
    MediaStreamAcceptor, MediaStreamListener, MediaStreamOptions, TrackKind,
};
use twinsight_client::realtime::CloseReason;
use twinsight_client::realtime::ice::IceSettings;

/// Over the loopback interface, waited for as long as the test may take.
fn local(options: impl Into<MediaStreamOptions>) -> MediaStreamOptions {
    let ice = IceSettings {
        interfaces: vec!["lo".to_owned()],
        ..IceSettings::default()
    };
    options.into().with_ice(ice).with_connect_limit(DEADLINE)
}

async fn pair() -> (HubClient, HubClient) {
    let url = start_hub(DevHubOptions::default()).await;
    (client(&url, "a").await, client(&url, "b").await)
}

/// Sends to everybody who dials.
fn fan_out(
    client: &HubClient,
    stream: MediaStreamOptions,
    max_peers: usize,
) -> (MediaStreamAcceptor, mpsc::UnboundedReceiver<MediaStream>) {
    let (taken, peers) = mpsc::unbounded_channel();
    let options = AcceptStreamsOptions::from(stream).with_max_peers(max_peers);
    let acceptor = client
        .instance()
        .accept_media_streams(options, move |stream| {
            let taken = taken.clone();
            async move {
                let _ = taken.send(stream);
            }
        });
    (acceptor.unwrap(), peers)
}

/// Awaits one twin's stream and accepts it with these tracks; gives what was offered too.
fn accepting(
    instance: &Instance,
    source: &str,
    options: MediaStreamOptions,
    tracks: Vec<LocalTrack>,
) -> (
    MediaStreamListener,
    mpsc::UnboundedReceiver<(MediaStream, Vec<TrackKind>)>,
) {
    let (taken, streams) = mpsc::unbounded_channel();
    let listener = instance.on_media_stream(source, options, move |incoming: Incoming| {
        let (taken, tracks) = (taken.clone(), tracks.clone());
        async move {
            let offered = incoming.offered().to_vec();
            let _ = taken.send((incoming.accept(tracks), offered));
        }
    });
    (listener.unwrap(), streams)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn video_is_received_from_a_fan_out() {
    let (a, b) = pair().await;
    let numbers = Numbers::start(0);
    let (acceptor, mut peers) = fan_out(
        &b,
        local(MediaStreamOptions::sending([numbers.track.clone()])),
        8,
    );
    let stream = a
        .instance()
        .get_media_stream("b", local("default"))
        .await
        .unwrap();
    assert_eq!(
        (stream.target_twin_id(), stream.channel_name()),
        ("b", "default")
    );
    assert!(!stream.is_connecting() && stream.state() == MediaState::Connected);
    let mut frames = stream.frames();
    growing(&mut frames, 20).await;
    assert!(stream.is_receiving_frames());
    let frame = soon("a frame", frames.recv()).await.unwrap();
    assert_eq!(
        (frame.width(), frame.height()),
        (SIZE.width_px, SIZE.height_px)
    );
    assert_eq!(frame.to_ndarray().dim(), (SIZE.height_px, SIZE.width_px, 3));
    let image = frame.to_rgb_image();
    let pixel = [image.get_pixel(3, 5).0, image.get_pixel(200, 100).0];
    let rgb = frame.to_ndarray();
    let of_array = |x: usize, y: usize| [0, 1, 2].map(|c| rgb[[y, x, c]]);
    assert_eq!(pixel, [of_array(3, 5), of_array(200, 100)]);
    assert!(frame.received_at().elapsed() < DEADLINE);
    let tracks = stream.tracks();
    assert_eq!(
        tracks.iter().map(|t| t.kind()).collect::<Vec<_>>(),
        [TrackKind::Video]
    );
    let peer = soon("the peer", peers.recv()).await.unwrap();
    assert_eq!((peer.target_twin_id(), acceptor.peers()), ("a", 1));
    assert_eq!(peer.stream().local.len(), 1);
    assert_eq!(numbers.track.viewers(), 1);
    let mut closes = peer.closes();
    stream.close().await;
    assert_eq!(stream.state(), MediaState::Closed);
    assert_eq!(
        soon("the end", frames.recv()).await.map(|f| number(&f)),
        None
    );
    assert_eq!(
        soon("the end", closes.recv()).await,
        Some(CloseReason::ByPeer)
    );
    acceptor.close().await;
    assert_eq!(numbers.track.viewers(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn video_goes_both_ways_over_one_connection() {
    let (a, b) = pair().await;
    let (of_a, of_b) = (Numbers::start(0), Numbers::start(1_000_000));
    let options = local(MediaStreamOptions::default());
    let (listener, mut taken) = accepting(&b.instance(), "a", options, vec![of_b.track.clone()]);
    let two_way = local(MediaStreamOptions::two_way([of_a.track.clone()]));
    let stream = a.instance().get_media_stream("b", two_way).await.unwrap();
    let (other, offered) = soon("the offer", taken.recv()).await.unwrap();
    assert_eq!(offered, [TrackKind::Video]);
    let (mut here, mut there) = (stream.frames(), other.frames());
    let (here, there) = tokio::join!(growing(&mut here, 20), growing(&mut there, 20));
    assert!(
        here[0] >= 1_000_000 && there[0] < 1_000_000,
        "{here:?} {there:?}"
    );
    assert_eq!(stream.peer_id(), other.peer_id());
    listener.close().await;
    assert_eq!(other.state(), MediaState::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_dials_may_only_send() {
    let (a, b) = pair().await;
    let numbers = Numbers::start(0);
    let (_listener, mut taken) = accepting(&b.instance(), "a", local("default"), Vec::new());
    let sending = local(MediaStreamOptions::sending([numbers.track.clone()]));
    let stream = a.instance().get_media_stream("b", sending).await.unwrap();
    let (other, _) = soon("the offer", taken.recv()).await.unwrap();
    numbers_of(&other, 20).await;
    assert!(stream.tracks().is_empty(), "nothing is sent back");
    assert!(!stream.is_receiving_frames() && other.is_receiving_frames());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn named_streams_to_one_peer_are_independent() {
    let (a, b) = pair().await;
    let (front, back) = (Numbers::start(0), Numbers::start(1_000_000));
    let sending = |numbers: &Numbers, name: &str| {
        local(MediaStreamOptions::sending([numbers.track.clone()]).named(name))
    };
    let (_front, _) = fan_out(&b, sending(&front, "front"), 8);
    let (of_back, _) = fan_out(&b, sending(&back, "back"), 8);
    let instance = a.instance();
    let (one, two) = tokio::join!(
        instance.get_media_stream("b", local("front")),
        instance.get_media_stream("b", local("back"))
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    let (mut frames, mut others) = (one.frames(), two.frames());
    assert!(growing(&mut frames, 10).await[0] < 1_000_000);
    assert!(growing(&mut others, 10).await[0] >= 1_000_000);
    let mut closes = two.closes();
    of_back.close().await;
    assert_eq!(
        soon("the end", closes.recv()).await,
        Some(CloseReason::ByPeer)
    );
    growing(&mut frames, 10).await;
    assert!(one.state() == MediaState::Connected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fan_out_serves_three_viewers_and_no_more_than_it_has_places() {
    let url = start_hub(DevHubOptions::default()).await;
    let camera = client(&url, "camera").await;
    let numbers = Numbers::start(0);
    let sending = local(MediaStreamOptions::sending([numbers.track.clone()]));
    let (acceptor, _peers) = fan_out(&camera, sending, 3);
    let mut viewers = Vec::new();
    for n in 0..3 {
        let viewer = client(&url, &format!("viewer-{n}")).await;
        let instance = viewer.instance();
        let stream = instance.get_media_stream("camera", local("default")).await;
        viewers.push((viewer, stream.unwrap()));
    }
    for (_, stream) in &viewers {
        numbers_of(stream, 10).await;
    }
    assert_eq!((acceptor.peers(), numbers.track.viewers()), (3, 3));
    let fourth = client(&url, "viewer-3").await;
    let waiting = fourth
        .instance()
        .open_media_stream("camera", local("default"))
        .unwrap();
    while acceptor.refused() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(waiting.is_connecting());
    viewers.pop().unwrap().1.close().await;
    assert!(soon("a place", waiting.connected()).await);
    numbers_of(&waiting, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sound_goes_along_as_opus_packets() {
    let (a, b) = pair().await;
    let numbers = Numbers::start(0);
    let sound = LocalTrack::audio("tone");
    let options = local("default").with_kinds(vec![TrackKind::Video, TrackKind::Audio]);
    let tracks = vec![numbers.track.clone(), sound.clone()];
    let (_listener, mut taken) = accepting(&b.instance(), "a", options.clone(), tracks);
    let sent = sound.clone();
    let ticking = tokio::spawn(async move {
        let mut due = tokio::time::interval(Duration::from_millis(20));
        for n in 0_u32.. {
            due.tick().await;
            sent.send_opus(
                Bytes::copy_from_slice(&n.to_be_bytes()),
                Duration::from_millis(20),
            );
        }
    });
    let stream = a.instance().get_media_stream("b", options).await.unwrap();
    let (_other, offered) = soon("the offer", taken.recv()).await.unwrap();
    assert_eq!(offered, TrackKind::ALL);
    let track = stream
        .tracks()
        .into_iter()
        .find(|track| track.kind() == TrackKind::Audio);
    let mut packets = track.unwrap().packets();
    let first = soon("sound", packets.recv()).await.unwrap();
    for n in 1..50_u32 {
        let next = soon("sound", packets.recv()).await.unwrap();
        let counted = u32::from_be_bytes(next.payload[..].try_into().unwrap());
        let from = u32::from_be_bytes(first.payload[..].try_into().unwrap());
        assert_eq!(counted, from + n);
        assert_eq!(
            next.rtp_timestamp,
            first.rtp_timestamp.wrapping_add(960 * n)
        );
        assert_eq!(
            next.sequence,
            first.sequence.wrapping_add(u16::try_from(n).unwrap())
        );
    }
    numbers_of(&stream, 10).await;
    ticking.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_does_not_come_is_a_typed_error() {
    let (a, b) = pair().await;
    let numbers = Numbers::start(0);
    let (_acceptor, _peers) = fan_out(
        &b,
        local(MediaStreamOptions::sending([numbers.track.clone()])),
        8,
    );
    let options = local("default")
        .with_kinds(vec![TrackKind::Video, TrackKind::Audio])
        .with_connect_limit(Duration::from_secs(3));
    let error = a
        .instance()
        .get_media_stream("b", options)
        .await
        .unwrap_err();
    let MediaError::MissingMediaTrack { missing, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(missing, &[TrackKind::Audio]);
    assert_eq!(
        error.to_string(),
        "the media stream `default` with `b` is connected, and no audio came within 3s: see that the twin's app sends it, or leave it out of `kinds`"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_dialled_is_a_typed_error() {
    let (a, _b) = pair().await;
    let instance = a.instance();
    let none = MediaStreamOptions::default().with_direction(Direction::SendOnly);
    let error = instance.open_media_stream("b", none).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no media stream with `b` can be made: it is to send only, and has no track to send"
    );
    let own = instance.open_media_stream("a", "default").unwrap_err();
    assert!(matches!(own, MediaError::Options { .. }), "{own}");
    let soon = local("default").with_connect_limit(Duration::from_millis(500));
    let error = instance
        .get_media_stream("b", soon.clone())
        .await
        .unwrap_err();
    assert!(matches!(error, MediaError::NotConnected { .. }), "{error}");
    a.close().await;
    let error = instance.get_media_stream("b", soon).await.unwrap_err();
    assert!(
        matches!(
            error,
            MediaError::Hub {
                source: HubError::Closed,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_track_that_is_added_later_comes_with_a_new_connection() {
    let (a, b) = pair().await;
    let (of_a, of_b) = (Numbers::start(0), Numbers::start(1_000_000));
    let (_listener, mut taken) = accepting(&b.instance(), "a", local("default"), Vec::new());
    let sending = local(MediaStreamOptions::sending([of_a.track.clone()]));
    let sending = sending.with_direction(Direction::SendRecv);
    let stream = a.instance().open_media_stream("b", sending).unwrap();
    let (other, _) = soon("the offer", taken.recv()).await.unwrap();
    let (seen, mut told) = mpsc::unbounded_channel();
    let (never, mut never_told) = mpsc::unbounded_channel();
    stream.on_track(move |track| {
        let _ = seen.send(track.kind());
        async {}
    });
    let taken_off = stream.on_track(move |_track| {
        let _ = never.send("a track");
        async {}
    });
    assert!(stream.off_track(taken_off) && !stream.off_track(taken_off));
    let (closed, mut reasons) = mpsc::unbounded_channel();
    let on_close = other.on_close(move |reason| {
        let _ = closed.send(reason);
        async {}
    });
    let mut frames = other.frames();
    growing(&mut frames, 5).await;
    other.add_track(of_b.track.clone());
    let mut received = stream.frames();
    assert!(growing(&mut received, 10).await[0] >= 1_000_000);
    assert_eq!(soon("the track", told.recv()).await, Some(TrackKind::Video));
    // What was there before goes on.
    growing(&mut frames, 5).await;
    assert_eq!(
        soon("the end", reasons.recv()).await,
        Some(CloseReason::Here)
    );
    assert!(other.off_close(on_close) && !other.off_close(on_close));
    other.close().await;
    assert_eq!(soon("no more ends", reasons.recv()).await, None);
    assert_eq!(never_told.recv().await, None, "its handler is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_is_turned_down_is_asked_about_again() {
    let (a, b) = pair().await;
    let numbers = Numbers::start(0);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let (taken, mut streams) = mpsc::unbounded_channel();
    let _listener = b
        .instance()
        .on_media_stream("a", local("default"), move |incoming| {
            let (n, taken) = (count.fetch_add(1, Ordering::SeqCst), taken.clone());
            async move {
                assert_eq!(incoming.source_twin_id(), "a");
                if n > 0 {
                    let _ = taken.send(incoming.accept([]));
                }
            }
        })
        .unwrap();
    let sending = local(MediaStreamOptions::sending([numbers.track.clone()]));
    let _stream = a.instance().open_media_stream("b", sending).unwrap();
    let stream = soon("the second offer", streams.recv()).await.unwrap();
    numbers_of(&stream, 5).await;
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_survive_the_camera_and_a_slow_one_gets_the_freshest_frame() {
    let url = start_hub(DevHubOptions::default()).await;
    let (a, b) = (client(&url, "a").await, client(&url, "b").await);
    let numbers = Numbers::start(0);
    let sending = local(MediaStreamOptions::sending([numbers.track.clone()]));
    let (acceptor, _peers) = fan_out(&b, sending.clone(), 8);
    let stream = a
        .instance()
        .get_media_stream("b", local("default"))
        .await
        .unwrap();
    let (seen, mut frames) = mpsc::unbounded_channel();
    let handler = stream.on_frame(move |frame| {
        let seen = seen.clone();
        async move {
            let _ = seen.send((number(&frame), frame.received_at().elapsed()));
            tokio::time::sleep(Duration::from_millis(1200)).await;
        }
    });
    let mut last = 0;
    for _ in 0..5 {
        let (number, age) = soon("a frame", frames.recv()).await.unwrap();
        assert!(
            last == 0 || number > last + 1,
            "{number} after {last}: none was left out"
        );
        assert!(age < Duration::from_secs(1), "a stale frame: {age:?}");
        last = number;
    }
    let mut closes = stream.closes();
    acceptor.close().await;
    assert_eq!(
        soon("the end", closes.recv()).await,
        Some(CloseReason::ByPeer)
    );
    let (_acceptor, _peers) = fan_out(&b, sending, 8);
    let away = Instant::now();
    while frames.try_recv().is_ok() {}
    soon("frames after the camera's return", frames.recv())
        .await
        .unwrap();
    println!(
        "frames again {:?} after the camera's return",
        away.elapsed()
    );
    assert!(stream.off_frame(handler) && !stream.off_frame(handler));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_freezes_is_connected_to_anew() {
    let (a, b) = pair().await;
    let numbers = Numbers::start(0);
    let sending = local(MediaStreamOptions::sending([numbers.track.clone()]));
    let (_acceptor, mut peers) = fan_out(&b, sending, 8);
    let stream = a
        .instance()
        .get_media_stream("b", local("default"))
        .await
        .unwrap();
    let mut frames = stream.frames();
    growing(&mut frames, 5).await;
    soon("the first connection", peers.recv()).await.unwrap();
    let (mut closes, frozen_at) = (stream.closes(), Instant::now());
    numbers.freeze(true);
    assert_eq!(
        soon("the stall", closes.recv()).await,
        Some(CloseReason::Lost)
    );
    let noticed = frozen_at.elapsed();
    assert!(noticed > Duration::from_secs(4), "too soon: {noticed:?}");
    soon("another connection", peers.recv()).await.unwrap();
    assert!(!stream.is_receiving_frames());
    numbers.freeze(false);
    growing(&mut frames, 5).await;
    assert!(stream.is_receiving_frames());
}

/// The log of this thread's tasks.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// On one thread, so that its log is that of all tasks.
#[tokio::test]
async fn bad_offers_without_end_are_said_at_a_rate_and_the_good_one_is_met() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_max_level(tracing::Level::INFO)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let (a, b) = pair().await;
    let numbers = Numbers::start(0);
    let (_one, mut streams) = accepting(&a.instance(), "b", local("one"), Vec::new());
    let (_all, _viewers) = fan_out(
        &a,
        local(MediaStreamOptions::sending([numbers.track.clone()]).named("all")),
        4,
    );
    let section = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\na=rtpmap:96 H264/90000\r\n";
    let bad = |number: usize| match number % 4 {
        // It has no fingerprint, no codec, no media, or is no description.
        0 => format!("v=0\r\na=ice-ufrag:{number}\r\na=ice-pwd:x\r\n{section}"),
        1 => format!("v=0\r\na=ice-ufrag:{number}\r\nm=video 9 X 96\r\na=rtpmap:96 AV1/90000\r\n"),
        2 => format!("v=0\r\na=ice-ufrag:{number}\r\n"),
        _ => format!("garbage {number}"),
    };
    for number in 0..400 {
        for (stream, peer_id) in [("one", "p".to_owned()), ("all", format!("p{number}"))] {
            let signal = serde_json::json!({
                "type": format!("media-{stream}-a:offer"),
                "data": {"sdp": bad(number), "type": "offer"},
                "peerId": peer_id,
            });
            b.send("a", signal).await.unwrap();
        }
    }
    let sending = local(MediaStreamOptions::sending([numbers.track.clone()]).named("one"));
    let _stream = b.instance().open_media_stream("a", sending).unwrap();
    let (stream, _) = soon("the good offer", streams.recv()).await.unwrap();
    numbers_of(&stream, 5).await;
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    println!("{} lines for 800 offers", lines.len());
    for sentence in [
        "an attempt to connect failed",
        "a signal of the peer cannot be used",
        "a signal of a peer that dials",
        "the camera's state changed",
    ] {
        let said = lines.iter().filter(|line| line.contains(sentence)).count();
        assert!(said <= 24, "{said} times: {sentence}\n{text}");
    }
    assert!(lines.len() <= 60, "{}\n{text}", lines.len());
}
