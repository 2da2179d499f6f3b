use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::tests::{Bench, CAMERA};
use super::*;
use crate::bridge::source::{SourceFacts, SourceUnit};
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::CameraState;
use twinsight_media::decode::decoder::DecoderKind;
use twinsight_media::h264::clip::Clip;

/// A source that plays the shipped clip, or refuses everybody if its camera is called `gone`.
fn playing(camera: &str, _: SourceConfig, mut handler: SourceHandler) -> Source {
    let refuses = camera.starts_with("gone");
    Source::spawn(camera, move |stop| async move {
        let mut stop = std::pin::pin!(stop);
        handler(SourceEvent::State(SourceState::Connecting { attempt: 1 }));
        if refuses {
            handler(SourceEvent::State(SourceState::Down {
                reason: "it refuses the password".into(),
                attempt: 1,
                retry_in: Duration::from_secs(60),
                refused: true,
            }));
            return stop.await;
        }
        let facts = SourceFacts {
            size: None,
            profile_level_id: None,
            fps: None,
        };
        handler(SourceEvent::State(SourceState::Receiving(facts)));
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("media/pedestrians.h264");
        let clip = Clip::read(&path).unwrap();
        for (n, unit) in (0_u32..).zip(clip.units().iter().cycle()) {
            if n == 20 {
                handler(SourceEvent::Dropped(UnitLoss::PacketsLost, 3));
            }
            let now = Instant::now();
            handler(SourceEvent::Unit(SourceUnit {
                data: unit.data.clone(),
                is_keyframe: unit.is_idr,
                timestamp_90k: n.wrapping_mul(3000),
                received_at: now,
                completed_at: now,
            }));
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
            }
        }
    })
}

/// Cameras of a node without a hub, whose sources play the clip.
fn bench() -> Bench {
    let mut bench = Bench::new();
    let context = &mut bench.cameras.context;
    context.stream = None;
    context.open_source = playing;
    context.decoder = DecoderKind::Software;
    bench
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_hub_units_go_straight_to_decoding_and_every_one_is_counted() {
    let mut bench = bench();
    let camera = |twin: &str| format!("[[cameras]]\ntwin_id = \"{twin}\"\nrtsp = \"rtsp://c/\"\n");
    let both = camera("a") + &camera("gone");
    assert_eq!(bench.apply(&both).await.added, 2);
    let (_, mut state) = bench.identity("a");
    let wanted = |wanted| move |state: &StreamState| state.state == wanted;
    let limit = Duration::from_secs(20);
    let receiving = state.wait_for(wanted(CameraState::Receiving));
    assert!(tokio::time::timeout(limit, receiving).await.is_ok());
    let (_, mut gone) = bench.identity("gone");
    let rejected = gone
        .wait_for(wanted(CameraState::Rejected))
        .await
        .unwrap()
        .clone();
    assert_eq!(rejected.reason.as_deref(), Some("it refuses the password"));
    let metrics = Arc::clone(&bench.cameras.context.metrics);
    let stream = metrics.stream(&StreamId::new("a", "default"));
    let begun = Instant::now();
    while stream.frames_decoded.get() < 60 && begun.elapsed() < limit {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Another address is another source.
    let changed = both.replacen("rtsp://c/", "rtsp://d/", 1);
    assert_eq!(bench.apply(&changed).await.reopened, 1);
    assert_eq!(bench.apply("cameras = []\n").await.removed, 2);
    let ledger = stream.ledger();
    assert!(ledger.frames_decoded >= 60, "{ledger:?}");
    assert_eq!(ledger.in_flight()[0], 0, "{ledger:?}");
    assert!(ledger.units_dropped >= 3, "{ledger:?}");
    assert_eq!(stream.keyframe_requests.get(), 0, "nobody can be asked");
    assert!(stream.rtp_packets_received.get() >= ledger.frames_decoded);
    let error = bench.try_apply(CAMERA).await.unwrap_err().to_string();
    assert!(error.contains("without one"), "{error}");
    bench.cameras.shutdown().await;
}
