use futures_util::FutureExt;

use super::*;
use twinsight_client::thread::refusal;
use twinsight_media::picture::{Color, FrameTiming, PlanePool};

const SIZE: PictureSize = PictureSize {
    width_px: 320,
    height_px: 180,
};

fn frame() -> Frame {
    let at = Instant::now();
    let timing = FrameTiming {
        received_at: at,
        completed_at: at,
        decoded_at: at,
        rtp_timestamp: 0.into(),
        captured_at_unix_ms: None,
    };
    let planes = PlanePool::new(1).acquire(SIZE.i420_bytes());
    Frame::new(planes, SIZE, Color::default(), timing)
}

fn stream(n: usize) -> StreamId {
    StreamId::new(format!("cam-{n}"), "default")
}

fn seen() -> Seen {
    Seen {
        objects: Vec::new(),
        model: ModelInfo {
            name: "m".into(),
            sha256: Some("0".into()),
            labels: Arc::new([]),
            keypoints: Arc::new([]),
        },
    }
}

fn previews() -> (Previews, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    (Previews::new(Arc::clone(&metrics)), metrics)
}

#[test]
fn a_frame_that_nobody_looks_at_is_not_touched() {
    let (previews, metrics) = previews();
    let offer = || {
        previews.offer(&stream(1), &frame(), Some(1), || {
            unreachable!("nobody looks")
        })
    };
    // Whoever took the lock would be counted as having found it busy.
    let locked = previews.owner.shared.state();
    offer();
    drop(locked);
    let watch = previews.watch(&stream(1), WatchOptions::default()).unwrap();
    drop(watch);
    let locked = previews.owner.shared.state();
    offer();
    drop(locked);
    for result in PreviewResult::ALL {
        assert_eq!(metrics.preview_pictures(*result), 0, "{result}");
    }
}

#[tokio::test]
async fn a_watcher_gets_the_picture_of_an_event() {
    let (previews, metrics) = previews();
    let mut watch = previews.watch(&stream(1), WatchOptions::default()).unwrap();
    assert_eq!(metrics.preview_watchers.get(), 1);
    previews.offer(&stream(1), &frame(), Some(41), || unreachable!("no boxes"));
    previews.offer(&stream(1), &frame(), Some(42), || unreachable!("no boxes"));
    let picture = watch.next().await.unwrap();
    assert_eq!(picture.stream, stream(1));
    assert_eq!((picture.sequence, picture.frame_size), (Some(42), SIZE));
    assert_eq!(picture.jpeg[..2], [0xff, 0xd8]);
    drop(watch);
    assert_eq!((previews.watches(), metrics.preview_watchers.get()), (0, 0));
    assert_eq!(metrics.preview_pictures(PreviewResult::Encoded), 1);
}

#[tokio::test]
async fn a_thread_of_the_runtime_does_not_wait_while_another_has_the_lock() {
    let (previews, _) = previews();
    let mut watch = previews.watch(&stream(1), WatchOptions::default()).unwrap();
    let locked = previews.owner.shared.state();
    assert!(
        watch.next().now_or_never().is_none(),
        "it gives the thread back"
    );
    assert_eq!(previews.watches(), 1);
    drop(locked);
    previews.offer(&stream(1), &frame(), Some(1), || unreachable!("no boxes"));
    assert_eq!(watch.next().await.unwrap().sequence, Some(1));
}

#[tokio::test]
async fn one_watch_sees_many_streams() {
    let (previews, _) = previews();
    let options = WatchOptions {
        boxes: true,
        ..WatchOptions::default()
    };
    let streams: Vec<_> = (0..3).map(stream).collect();
    let mut watch = previews.watch_many(streams.clone(), options).unwrap();
    for stream in &streams {
        previews.offer(stream, &frame(), None, seen);
    }
    let mut got = Vec::new();
    for _ in 0..3 {
        got.push(watch.next().await.unwrap().stream);
    }
    got.sort();
    assert_eq!(got, streams);
}

#[tokio::test]
async fn a_panic_in_the_encoder_costs_one_picture() {
    let metrics = Arc::new(Metrics::new());
    let previews = Previews::with_encoder(Arc::clone(&metrics), "preview-panics", || {
        let mut encoder = PictureEncoder::default();
        Box::new(move |offered, form| {
            assert_ne!(offered.sequence, Some(1), "as the test wants it");
            encoder.encode(offered, form)
        })
    });
    let mut watch = previews.watch(&stream(1), WatchOptions::default()).unwrap();
    previews.offer(&stream(1), &frame(), Some(1), seen);
    let second = async {
        while metrics.preview_pictures(PreviewResult::Failed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        previews.offer(&stream(1), &frame(), Some(2), seen);
    };
    let (picture, ()) = tokio::join!(watch.next(), second);
    assert_eq!(picture.unwrap().sequence, Some(2));
    assert_eq!(metrics.preview_pictures(PreviewResult::Failed), 1);
}

#[test]
fn there_is_room_for_so_many_watchers() {
    let (previews, metrics) = previews();
    let watch = || previews.watch(&stream(1), WatchOptions::default());
    let mut watches: Vec<_> = (0..MAX_WATCHES).map(|_| watch().unwrap()).collect();
    assert!(matches!(watch(), Err(WatchError::TooManyWatches)));
    assert_eq!(metrics.preview_watchers_refused.get(), 1);
    watches.pop();
    watches.push(watch().unwrap());
    let many = (0..=MAX_STREAMS).map(stream).collect();
    let refused = previews.watch_many(many, WatchOptions::default());
    assert!(matches!(refused, Err(WatchError::TooManyStreams)));
}

#[tokio::test]
async fn the_end_of_the_node_is_the_end_of_watches() {
    let (previews, _) = previews();
    let mut watch = previews.watch(&stream(1), WatchOptions::default()).unwrap();
    let stopped = previews.clone();
    let stop = tokio::task::spawn_blocking(move || stopped.stop());
    assert!(watch.next().await.is_none());
    stop.await.unwrap();
    previews.offer(&stream(1), &frame(), None, || unreachable!("the node ends"));
    assert!(watch.next().await.is_none());
    let refused = previews.watch(&stream(1), WatchOptions::default());
    assert!(matches!(refused, Err(WatchError::Stopped)));
    previews.stop();
}

#[test]
fn without_a_thread_there_is_no_watch() {
    let _refusal = refusal::of("preview-refused");
    let previews = Previews::with_encoder(Arc::new(Metrics::new()), "preview-refused", || {
        Box::new(|_, _| Err(EncodeError::Empty))
    });
    let refused = previews.watch(&stream(1), WatchOptions::default());
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("`preview-refused`"), "{error}");
    assert_eq!(previews.watches(), 0);
}
