//! What a node tells of a camera that comes and goes. The pool's task is played by hand, and so are the camera's pictures.

use serde_json::Value;
use tokio::sync::mpsc;

use super::super::cameras::{CameraContext, SharedName, StatusLine};
use super::*;
use crate::bridge::source::Source;
use crate::config::{SceneConfig, TrackConfig};
use crate::detect::worker::CameraScheduler;
use crate::detect::{BBox, ModelInfo, Object};
use crate::publish::event::CameraStatus;
use crate::publish::feed::EventFeed;
use crate::publish::publisher::{EventSink, HubAway, PublisherTask};
use crate::telemetry::metrics::Metrics;
use crate::track::stage::{Look, StageSettings};
use twinsight_client::media::stream_state::StreamState;
use twinsight_client::realtime::ice::IceSettings;
use twinsight_client::telemetry::CameraState;
use twinsight_media::decode::decoder::DecoderKind;
use twinsight_media::picture::{FrameTiming, PictureSize};

const SIZE: PictureSize = PictureSize {
    width_px: 1000,
    height_px: 1000,
};

struct Hub(mpsc::UnboundedSender<Value>);

impl EventSink for Hub {
    async fn emit(&mut self, _event: &'static str, data: Value) -> Result<(), HubAway> {
        self.0.send(data).map_err(|_| HubAway)
    }
}

/// A node of a pool with one camera, `a`, which sees who stands in its picture.
struct Rig {
    parts: ShareParts,
    metrics: Arc<Metrics>,
    camera: Arc<CameraTracks>,
    events: mpsc::UnboundedReceiver<Value>,
    task: PublisherTask,
    /// The cameras' clock begins here.
    begin: Instant,
}

impl Rig {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::new());
        let (sender, events) = mpsc::unbounded_channel();
        let feed = EventFeed::new("8f1c");
        let (publisher, task) =
            Publisher::spawn(Hub(sender), feed, 8, Arc::clone(&metrics), None, None);
        let share = Share::by_hand();
        let tracks = Arc::new(TrackDirectory::default());
        let settings = StageSettings {
            track: TrackConfig::default(),
            scene: SceneConfig::default(),
            min_score: 0.4,
        };
        let stream = metrics.stream(&Self::id());
        let camera = tracks.open(&stream, &"Yard".into(), &settings);
        let parts = ShareParts {
            publisher: publisher.with_share(&share),
            statuses: StatusLines::new(share.clone(), Arc::default()),
            share,
            tracks,
            ends: Arc::default(),
        };
        Self {
            parts,
            metrics,
            camera,
            events,
            task,
            begin: Instant::now()
                .checked_sub(Duration::from_secs(20))
                .expect("this machine runs for longer"),
        }
    }

    fn id() -> StreamId {
        StreamId::new("a", "default")
    }

    fn twin() -> Arc<str> {
        "a".into()
    }

    /// Renews the lease with which the node holds the camera. Gives the time of being open that follows.
    fn renew(&self) -> u64 {
        self.parts.share.renew(Duration::from_secs(600));
        self.parts.share.open("a");
        self.parts.share.epoch("a").unwrap()
    }

    /// Opens the camera, and begins it as its holder does.
    fn hold(&self) -> u64 {
        let epoch = self.renew();
        self.parts.begin(&Self::twin(), epoch);
        epoch
    }

    /// Looks ten times a second in these seconds, and sees somebody at each of these places.
    fn look(&self, seconds: std::ops::Range<u32>, places: &[f32]) {
        let model = ModelInfo {
            name: "fake".into(),
            sha256: None,
            labels: ["person".to_owned()].into(),
            keypoints: Arc::default(),
        };
        let person = |x: &f32| Object {
            class_id: 0,
            score: 0.8,
            bbox: BBox {
                x: *x,
                y: 400.0,
                width: 100.0,
                height: 200.0,
            },
            keypoints: Vec::new(),
            outline: Vec::new(),
        };
        let objects: Vec<Object> = places.iter().map(person).collect();
        for tenth in seconds.start * 10..seconds.end * 10 {
            let at = self.begin + Duration::from_millis(u64::from(tenth) * 100);
            let timing = FrameTiming {
                received_at: at,
                completed_at: at,
                decoded_at: at,
                rtp_timestamp: (tenth * 9000).into(),
                captured_at_unix_ms: None,
            };
            let look = Look {
                timing,
                size: SIZE,
                objects: &objects,
                model: &model,
            };
            let _order = self.camera.in_order();
            let news = self.camera.look(look).expect("it is open").news;
            let (id, name) = (Self::id(), self.camera.name());
            let events = track_events(&id, &name, at, news);
            self.parts.publisher.publish_tracks(events);
        }
    }

    fn status(state: CameraState) -> CameraStatus {
        CameraStatus {
            id: Self::id(),
            name: "Yard".into(),
            state,
            since: Instant::now(),
            reason: None,
            attempt: 1,
        }
    }

    /// All that was told, but for updates: `state`, or the number of a track and what became of it.
    async fn told(mut self) -> Vec<String> {
        self.task.shutdown(Duration::from_secs(10), async {}).await;
        let mut told = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            match (event["state"].as_str(), event["phase"].as_str()) {
                (Some(state), _) => told.push(state.to_owned()),
                (None, Some("update")) => {}
                (None, phase) => told.push(format!(
                    "{} {}",
                    event["track"]["id"].as_str().unwrap(),
                    phase.unwrap()
                )),
            }
        }
        let stream = self.metrics.stream(&Self::id());
        assert_eq!(stream.ledger().track_events_in_flight, 0);
        told
    }

    /// Waits for something that another task does.
    async fn until(&self, what: &str, is_so: impl Fn(&Share) -> bool) {
        let waiting = async {
            while !is_so(&self.parts.share) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        assert!(waited.is_ok(), "this did not happen: {what}");
    }
}

/// Cameras of a node without a hub and without a configuration.
fn cameras(parts: &ShareParts, metrics: &Arc<Metrics>) -> Arc<tokio::sync::Mutex<Cameras>> {
    let cameras = Cameras::new(CameraContext {
        stream: None,
        open_source: Source::open,
        scheduler: Arc::new(CameraScheduler::default()),
        metrics: Arc::clone(metrics),
        publisher: parts.publisher.clone(),
        tracks: Arc::clone(&parts.tracks),
        ice: IceSettings::default(),
        decoder: DecoderKind::Fake(SIZE),
        cpu_pressure: Arc::default(),
        changed: Arc::default(),
        share: parts.share.clone(),
    });
    Arc::new(tokio::sync::Mutex::new(cameras))
}

#[tokio::test]
async fn a_camera_that_is_given_away_is_told_to_its_end() {
    let rig = Rig::new();
    let epoch = rig.hold();
    rig.parts
        .publisher
        .set_status(Rig::status(CameraState::Receiving));
    rig.look(0..2, &[100.0]);
    let parting = rig.parts.share.give_away("a", "b");
    rig.parts.part(&parting);
    rig.parts.pause(&Rig::twin(), epoch);
    let told = rig.told().await;
    let (states, tracks): (Vec<_>, Vec<_>) = told.into_iter().partition(|told| !told.contains(' '));
    assert_eq!(states, ["receiving", "removed"]);
    assert_eq!(tracks, ["1 start", "1 end"]);
}

#[tokio::test]
async fn one_that_is_given_away_as_soon_as_the_lease_is_renewed_too_late_is_told_to_its_end() {
    for pauses_first in [true, false] {
        let rig = Rig::new();
        let epoch = rig.hold();
        rig.parts
            .publisher
            .set_status(Rig::status(CameraState::Receiving));
        rig.look(0..2, &[100.0]);
        // The node stands still for longer than its lease, and another one has pictures of the camera.
        rig.parts.share.run_out(Duration::ZERO);
        assert_ne!(rig.renew(), epoch);
        let parting = rig.parts.share.give_away("a", "b");
        if pauses_first {
            rig.parts.pause(&Rig::twin(), epoch);
        }
        rig.parts.part(&parting);
        rig.parts.pause(&Rig::twin(), epoch);
        // Its beginning comes too late.
        rig.parts.begin(&Rig::twin(), parting.epoch);
        assert!(!rig.parts.share.admits("a"));
        assert!(rig.parts.ends.lock().values().all(Vec::is_empty));
        let told = rig.told().await;
        let (states, tracks): (Vec<_>, Vec<_>) =
            told.into_iter().partition(|told| !told.contains(' '));
        assert_eq!(states, ["receiving", "removed"], "{pauses_first}");
        assert_eq!(tracks, ["1 start", "1 end"], "{pauses_first}");
    }
}

#[tokio::test]
async fn one_that_was_opened_anew_is_not_told_to_be_gone() {
    let rig = Rig::new();
    rig.hold();
    rig.parts
        .publisher
        .set_status(Rig::status(CameraState::Receiving));
    let parting = rig.parts.share.give_away("a", "b");
    rig.parts.share.open("a");
    rig.parts.part(&parting);
    assert_eq!(rig.told().await, ["receiving"]);
}

#[tokio::test]
async fn a_track_that_began_between_lease_and_renewal_does_not_end_either() {
    let rig = Rig::new();
    let first = rig.hold();
    rig.look(0..5, &[100.0]);
    // The lease ran out before the second one came, and it is renewed before anybody notices.
    rig.parts.share.run_out(Duration::from_secs(14));
    rig.look(5..10, &[100.0]);
    rig.look(10..15, &[100.0, 600.0]);
    let second = rig.renew();
    assert_ne!(first, second);
    // As the follower does it: what was held first, what is held now last.
    rig.parts.pause(&Rig::twin(), first);
    rig.parts.begin(&Rig::twin(), second);
    rig.look(15..18, &[100.0]);
    let told = rig.told().await;
    assert_eq!(told, ["1 start", "1 end", "3 start"]);
}

#[tokio::test]
async fn a_camera_begins_and_ceases_to_be_published_while_the_cameras_are_busy() {
    let mut rig = Rig::new();
    let share = rig.parts.share.clone();
    let cameras = cameras(&rig.parts, &rig.metrics);
    // Another camera's connection is being closed.
    let busy = Arc::clone(&cameras).lock_owned().await;
    let status = StatusLine::new(
        Rig::id(),
        SharedName::new(&"Yard".into()),
        rig.parts.publisher.clone(),
    );
    status.set_state(StreamState {
        state: CameraState::Receiving,
        since: Instant::now(),
        reason: None,
        attempt: 1,
    });
    rig.parts.statuses.add(&Arc::new(status));
    let stop = CancellationToken::new();
    let following = follow_duties(rig.parts.clone(), cameras, stop.clone());
    let following = tokio::spawn(following);
    let epoch = rig.renew();
    share.set_duty("a", Duty::Hold { epoch });
    rig.until("its events are let in", |share| share.admits("a"))
        .await;
    share.run_out(Duration::ZERO);
    share.set_duty("a", Duty::Warm);
    rig.until("it is paused", |share| share.begun("a").is_none())
        .await;
    let fenced = async {
        while let Some(event) = rig.events.recv().await {
            if event["reason"]
                .as_str()
                .is_some_and(|r| r.contains("lease"))
            {
                return;
            }
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(10), fenced).await;
    told.expect("it is told that nothing of it is published");
    drop(busy);
    stop.cancel();
    following.await.unwrap();
    rig.task.shutdown(Duration::from_secs(10), async {}).await;
}
