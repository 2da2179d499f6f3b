//! A track of an IP camera, whose keyframes are 10 s apart and come when they come, between two clients of this crate.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use crate::common::streams::{IpCamera, SIZE, client, growing, number, soon};
use crate::common::{DEADLINE, start_hub};
use twinsight::dev::hub::DevHubOptions;
use twinsight_client::hub::HubClient;
use twinsight_client::media::{
    AcceptStreamsOptions, MediaStream, MediaStreamAcceptor, MediaStreamOptions,
};
use twinsight_client::realtime::ice::IceSettings;

/// Keyframes are this many pictures apart: 10 s.
const GOP: usize = 250;

/// How soon the first picture is to come: long before the next keyframe.
const SOON: Duration = Duration::from_secs(5);

fn local(options: impl Into<MediaStreamOptions>) -> MediaStreamOptions {
    let ice = IceSettings {
        interfaces: vec!["lo".to_owned()],
        ..IceSettings::default()
    };
    options.into().with_ice(ice).with_connect_limit(DEADLINE)
}

/// A camera that has been sending for 4 s, and a client that may look on.
async fn camera() -> (IpCamera, MediaStreamAcceptor, HubClient, HubClient) {
    let url = start_hub(DevHubOptions::default()).await;
    let (bridge, viewer) = (client(&url, "bridge").await, client(&url, "viewer").await);
    let made = tokio::task::spawn_blocking(|| IpCamera::new(SIZE, 400, GOP));
    let camera = made.await.unwrap();
    let options = local(MediaStreamOptions::sending([camera.track.clone()]));
    let options = AcceptStreamsOptions::from(options);
    let instance = bridge.instance();
    let acceptor = instance.accept_media_streams(options, |_stream| async {});
    camera.has_sent(0..100);
    (camera, acceptor.unwrap(), bridge, viewer)
}

async fn dial(viewer: &HubClient) -> MediaStream {
    let instance = viewer.instance();
    let dialled = instance.get_media_stream("bridge", local("default"));
    soon("the stream", dialled).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_joins_between_keyframes_has_a_picture_at_once_and_no_gap() {
    let (camera, _acceptor, _bridge, viewer) = camera().await;
    let sending = camera.sends(100..400);
    let stream = dial(&viewer).await;
    let joined = Instant::now();
    let mut frames = stream.frames();
    let frame = soon("a picture", frames.recv()).await.unwrap();
    assert!(joined.elapsed() < SOON, "{:?}", joined.elapsed());
    let first = number(&frame);
    assert!(first < 100, "{first}");
    // It sees what is newest long before the next keyframe.
    let newest = loop {
        let number = number(&soon("a picture", frames.recv()).await.unwrap());
        if number >= 100 {
            break number;
        }
    };
    assert!(newest < u32::try_from(GOP).unwrap(), "{newest}");
    growing(&mut frames, 20).await;
    assert_eq!(camera.track.dropped(), 0, "nothing was left out");
    drop(stream);
    sending.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_asks_for_a_keyframe_gets_what_is_kept_again() {
    let (camera, _acceptor, _bridge, viewer) = camera().await;
    let stream = dial(&viewer).await;
    // It decodes only later, so what it was sent at first is gone and its decoder asks for a keyframe.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut frames = stream.frames();
    let asked = Instant::now();
    let sending = camera.sends(100..140);
    let frame = soon("a picture", frames.recv()).await.unwrap();
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    assert!(number(&frame) < 100);
    while number(&soon("a picture", frames.recv()).await.unwrap()) < 139 {}
    assert_eq!(camera.track.dropped(), 0);
    sending.join().unwrap();
}
