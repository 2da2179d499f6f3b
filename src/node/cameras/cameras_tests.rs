use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::super::models::{ModelLoader, Models};
use super::status::{SLOW_REASON, slowness_handler};
use super::*;
use crate::bridge::source::Source;
use crate::config::{Config, ConfigSource, Env, EventKind, Settings};
use crate::detect::FakeDetector;
use crate::publish::event::tests::inferred;
use crate::publish::feed::EventFeed;
use crate::publish::lane::SinkLane;
use crate::publish::publisher::{EventSink, HubAway, PublisherTask};
use crate::telemetry::ledger::EventDrop;
use twinsight_client::hub::client::HubClient;
use twinsight_client::hub::options::HubOptions;
use twinsight_client::media::stream_state::StreamState;
use twinsight_media::decode::keyframes::KeyframeBudget;
use twinsight_media::picture::PictureSize;

#[test]
fn no_rate_is_too_small_for_a_duration() {
    assert_eq!(min_interval(0.0), Duration::ZERO);
    assert_eq!(min_interval(4.0), Duration::from_millis(250));
    for tiny in [1e-9, 1e-30, f64::MIN_POSITIVE] {
        assert_eq!(min_interval(tiny), Duration::from_secs(24 * 3600));
    }
}

/// A hub that is away until it is told otherwise.
struct Hub {
    is_there: Arc<AtomicBool>,
    events: mpsc::UnboundedSender<Value>,
}

impl EventSink for Hub {
    async fn emit(&mut self, _event: &'static str, data: Value) -> Result<(), HubAway> {
        if !self.is_there.load(Ordering::Relaxed) {
            return Err(HubAway);
        }
        self.events.send(data).map_err(|_| HubAway)
    }
}

pub(super) struct Bench {
    pub(super) cameras: Cameras,
    catalog: Catalog,
    hub_is_there: Arc<AtomicBool>,
    events: mpsc::UnboundedReceiver<Value>,
    _publisher: PublisherTask,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(Arc::new(Metrics::new()), None)
    }

    /// A bench whose publisher has a sink, which takes nothing.
    fn with_sink() -> (Self, SinkLane) {
        let metrics = Arc::new(Metrics::with_sinks(["home".to_owned()]));
        let lane = SinkLane::new(0, EventKind::ALL.to_vec(), "run", Arc::clone(&metrics));
        (Self::with(metrics, Some(lane.clone())), lane)
    }

    fn with(metrics: Arc<Metrics>, lane: Option<SinkLane>) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let hub_is_there = Arc::new(AtomicBool::new(false));
        let hub = Hub {
            is_there: Arc::clone(&hub_is_there),
            events: sender,
        };
        let (publisher, task) = Publisher::spawn(
            hub,
            EventFeed::new("run"),
            8,
            Arc::clone(&metrics),
            None,
            None,
        );
        let context = CameraContext {
            stream: Some(StreamContext {
                hub: HubClient::start(HubOptions::simulator("http://127.0.0.1:9", "node-1")),
                keyframes: Arc::new(KeyframeBudget::new(Instant::now())),
            }),
            open_source: Source::open,
            scheduler: Arc::new(CameraScheduler::default()),
            metrics,
            publisher: publisher.with_lanes(lane),
            tracks: Arc::default(),
            ice: IceSettings::default(),
            decoder: DecoderKind::Fake(PictureSize {
                width_px: 16,
                height_px: 16,
            }),
            cpu_pressure: Arc::default(),
            changed: Arc::default(),
            share: Share::all(),
        };
        let detector = FakeDetector::new(Duration::ZERO, Vec::new());
        let loader: ModelLoader = Arc::new(move |_| Ok(Box::new(detector.clone())));
        let names = [crate::config::DEFAULT_MODEL, "other"]
            .map(str::to_owned)
            .to_vec();
        Self {
            cameras: Cameras::new(context),
            catalog: Models::new(names, loader).unwrap().catalog().clone(),
            hub_is_there,
            events,
            _publisher: task,
        }
    }

    pub(super) async fn apply(&mut self, text: &str) -> Changes {
        self.try_apply(text).await.unwrap()
    }

    pub(super) async fn try_apply(&mut self, text: &str) -> Result<Changes> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        std::fs::write(&file, text).unwrap();
        let env: Env = [("TWIN_ID", "node-1")].into_iter().collect();
        let source = ConfigSource::read(Some(&file), &env).unwrap();
        let config: Config = source.resolve(&Settings::default()).unwrap();
        self.cameras.apply(&self.catalog, &config.cameras).await
    }

    fn hub_returns(&self) {
        self.hub_is_there.store(true, Ordering::Relaxed);
        self.cameras.context.publisher.resend_statuses();
    }

    /// The twins of the next events that say `removed`.
    async fn removed(&mut self, count: usize) -> std::collections::BTreeSet<String> {
        let mut twins = std::collections::BTreeSet::new();
        let facts = async {
            while twins.len() < count {
                let event = self.events.recv().await.expect("the publisher runs");
                if event["state"] == "removed" {
                    assert!(
                        twins.insert(event["camera"]["twinId"].to_string()),
                        "told twice"
                    );
                }
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(30), facts).await;
        assert!(in_time.is_ok(), "{} of {count} were told", twins.len());
        twins
    }

    /// The identity of a running camera: its source at the scheduler and its stream's state.
    pub(super) fn identity(&self, twin: &str) -> (SourceId, watch::Receiver<StreamState>) {
        let camera = &self.cameras.running[&StreamId::new(twin, "default")];
        (camera.source, camera.input.state())
    }
}

pub(super) const CAMERA: &str = "[[cameras]]\ntwin_id = \"a\"\n";

#[tokio::test]
async fn what_needs_no_connection_keeps_source_and_stream() {
    let mut bench = Bench::new();
    let added = Changes {
        added: 1,
        ..Changes::default()
    };
    assert_eq!(bench.apply(CAMERA).await, added);
    let (source, state) = bench.identity("a");
    assert_eq!(bench.apply(CAMERA).await, Changes::default());
    for setting in [
        "name = \"Door\"",
        "max_fps = 1",
        "max_age_ms = 100",
        "min_score = 0.9",
        "classes = [\"person\"]",
        "emit_empty = false",
        "model = \"other\"",
    ] {
        let changes = bench.apply(&format!("{CAMERA}{setting}\n")).await;
        let changed = Changes {
            changed: 1,
            ..Changes::default()
        };
        assert_eq!(changes, changed, "{setting}");
        let (source_now, state_now) = bench.identity("a");
        assert_eq!(source, source_now, "{setting}");
        assert!(state.same_channel(&state_now), "{setting}");
    }
    let info = |bench: &Bench| {
        let text = bench.cameras.context.metrics.encode();
        let mut lines = text.lines().map(str::to_owned);
        lines.find(|line| line.starts_with("twinsight_camera_info{"))
    };
    let labels = "{camera=\"a\",model=\"other\",name=\"a\",stream=\"default\"} 1";
    assert_eq!(
        info(&bench),
        Some(format!("twinsight_camera_info{labels}")),
        "of the last setting"
    );
    bench.apply(&format!("{CAMERA}name = \"Gate\"\n")).await;
    let named = info(&bench).unwrap();
    assert!(named.contains("name=\"Gate\""), "{named}");
    assert!(!named.contains("other"), "{named}");
    assert_eq!(*bench.cameras.facts()[0].status.name, *"Gate");
    let camera = &bench.cameras.running[&StreamId::new("a", "default")];
    assert_eq!(&*camera.name.get(), "Gate", "states have the new name too");
    bench.cameras.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_camera_without_a_thread_says_so_and_is_tried_again_and_others_go_on() {
    let refusal = twinsight_client::thread::refusal::of("dec-threadless");
    let mut bench = Bench::new();
    let threadless = "[[cameras]]\ntwin_id = \"threadless\"\n";
    let added = Changes {
        added: 2,
        ..Changes::default()
    };
    assert_eq!(bench.apply(&format!("{CAMERA}{threadless}")).await, added);
    let (_, mut state) = bench.identity("threadless");
    let refused = state
        .wait_for(|state| state.state == CameraState::Unreachable)
        .await
        .unwrap()
        .reason
        .clone()
        .unwrap();
    assert!(refused.contains("no thread to decode"), "{refused}");
    let (_, other) = bench.identity("a");
    assert_eq!(other.borrow().state, CameraState::Connecting);
    // Changes go on being applied.
    let changes = bench
        .apply(&format!("{CAMERA}max_fps = 1\n{threadless}"))
        .await;
    assert_eq!(changes.changed, 1);
    drop(refusal);
    state
        .wait_for(|state| state.state == CameraState::Connecting && state.reason.is_none())
        .await
        .unwrap();
    bench.cameras.shutdown().await;
}

#[tokio::test]
async fn cameras_that_came_and_went_leave_nothing_after_ten_minutes() {
    let mut bench = Bench::new();
    let lines = |bench: &Bench| {
        let text = bench.cameras.context.metrics.encode();
        text.lines()
            .filter(|line| line.contains("camera=\"gone-"))
            .count()
    };
    bench.apply(CAMERA).await;
    for n in 0..3 {
        let more = format!("[[cameras]]\ntwin_id = \"gone-{n}\"\n");
        bench.apply(&format!("{CAMERA}{more}")).await;
    }
    let removed = Instant::now();
    bench.apply(CAMERA).await;
    bench.cameras.forget(removed + Duration::from_secs(590));
    assert!(lines(&bench) > 300, "{}", lines(&bench));
    // Of one that is back all is remembered.
    bench
        .apply(&format!("{CAMERA}[[cameras]]\ntwin_id = \"gone-1\"\n"))
        .await;
    let later = Instant::now() + Duration::from_secs(601);
    bench.cameras.forget(later);
    let metrics = Arc::clone(&bench.cameras.context.metrics);
    let known = |twin: &str| {
        metrics
            .known_stream(&StreamId::new(twin, "default"))
            .is_some()
    };
    assert_eq!(
        [
            known("a"),
            known("gone-0"),
            known("gone-1"),
            known("gone-2")
        ],
        [true, false, true, false]
    );
    assert!(bench.cameras.context.publisher.remembered() <= 2);
    bench.cameras.shutdown().await;
}

#[tokio::test]
async fn a_sink_that_is_away_keeps_nothing_of_a_camera_that_is_gone() {
    let (mut bench, lane) = Bench::with_sink();
    bench
        .apply(&format!("{CAMERA}[[cameras]]\ntwin_id = \"gone\"\n"))
        .await;
    let frame = inferred("gone", Instant::now());
    let id = frame.id.clone();
    let metrics = Arc::clone(&bench.cameras.context.metrics);
    let stream = metrics.stream(&id);
    stream.access_units_received.inc();
    stream.frames_decoded.inc();
    stream.frames_inferred.inc();
    bench.cameras.context.publisher.publish(frame, true);
    bench.apply(CAMERA).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(stream.ledger().sink_events_in_flight, 1);
    drop(stream);
    bench
        .cameras
        .forget(Instant::now() + Duration::from_secs(601));
    assert!(metrics.known_stream(&id).is_none());
    // What the sink would take now is of the other camera, so that nothing brings the series back.
    lane.close();
    lane.abandon(EventDrop::SinkUnreachable);
    assert!(metrics.known_stream(&id).is_none());
    bench.cameras.shutdown().await;
}

#[tokio::test]
async fn of_cameras_that_all_go_at_once_each_sink_is_told_to_the_last() {
    let (mut bench, lane) = Bench::with_sink();
    bench.hub_returns();
    bench.apply(&many_cameras(300, "x")).await;
    bench.apply("cameras = []\n").await;
    bench.removed(300).await;
    tokio::task::yield_now().await;
    bench.cameras.forget(Instant::now());
    lane.close();
    let mut told = 0;
    while let Some(event) = lane.next().await {
        let is_removed = |status: &CameraStatus| status.state == CameraState::Removed;
        told += usize::from(event.status().is_some_and(is_removed));
        lane.settled(event, Ok(()));
    }
    assert_eq!(told, 300);
    bench.cameras.shutdown().await;
}

#[tokio::test]
async fn however_many_cameras_come_and_go_so_many_are_remembered() {
    let mut bench = Bench::new();
    bench.hub_returns();
    for round in 0..6 {
        bench.apply(&many_cameras(100, &round.to_string())).await;
    }
    bench.removed(500).await;
    // The sink has them, and the publisher knows it as soon as its task goes on.
    tokio::task::yield_now().await;
    bench.cameras.forget(Instant::now());
    let streams = bench.cameras.context.metrics.all_streams().len();
    assert!(streams <= 100 + 256, "{streams}");
    assert!(bench.cameras.context.publisher.remembered() <= 100 + 256);
    bench.cameras.shutdown().await;
}

#[tokio::test]
async fn of_cameras_that_all_go_at_once_each_is_told_to_be_removed_though_the_hub_is_away() {
    let mut bench = Bench::new();
    bench.apply(&many_cameras(300, "x")).await;
    let removed = bench.apply("cameras = []\n").await;
    assert_eq!(removed.removed, 300);
    bench.cameras.forget(Instant::now());
    bench.hub_returns();
    assert_eq!(bench.removed(300).await.len(), 300);
    bench.cameras.shutdown().await;
}

#[tokio::test]
async fn a_camera_that_is_too_slow_to_be_inferred_says_so_in_its_status() {
    let mut bench = Bench::new();
    bench.hub_returns();
    bench.apply(CAMERA).await;
    let status = Arc::clone(&bench.cameras.running.values().next().unwrap().status);
    let context = &bench.cameras.context;
    let changed = Arc::clone(&context.changed);
    let tell_slow = slowness_handler(Arc::clone(&status), Arc::clone(&changed));
    let mut state = bench.identity("a").1.borrow().clone();
    state.state = CameraState::Receiving;
    status.set_state(state.clone());
    for slow in [true, true, false] {
        tell_slow(slow);
    }
    let mut reasons = Vec::new();
    while reasons.len() < 3 {
        let event = bench.events.recv().await.unwrap();
        if event["state"] == "receiving" {
            reasons.push(event["reason"].clone());
        }
    }
    assert_eq!(reasons, [Value::Null, SLOW_REASON.into(), Value::Null]);
    status.set_slow(true);
    assert_eq!(status.read(&state).reason.as_deref(), Some(SLOW_REASON));
    state.state = CameraState::Stalled;
    assert_eq!(
        status.read(&state).reason.as_deref(),
        state.reason.as_deref()
    );
    bench.cameras.shutdown().await;
}

#[tokio::test]
async fn a_hub_that_takes_nothing_makes_no_memory_grow() {
    let mut bench = Bench::new();
    for round in 0..3 {
        bench.apply(&many_cameras(600, &round.to_string())).await;
    }
    bench.cameras.forget(Instant::now());
    let streams = bench.cameras.context.metrics.all_streams().len();
    assert!(streams <= 600 + 1024, "{streams}");
    assert!(bench.cameras.context.publisher.remembered() <= 600 + 1024);
    bench.cameras.shutdown().await;
}

fn many_cameras(count: usize, prefix: &str) -> String {
    (0..count)
        .map(|n| format!("[[cameras]]\ntwin_id = \"cam-{prefix}-{n}\"\n"))
        .collect()
}

#[tokio::test]
async fn what_needs_a_connection_opens_the_camera_again_and_touches_no_other() {
    let mut bench = Bench::new();
    let other = "[[cameras]]\ntwin_id = \"b\"\n";
    bench.apply(&format!("{other}{CAMERA}")).await;
    let (source_b, state_b) = bench.identity("b");
    for setting in [
        "connect = \"accept\"",
        "dialect = \"legacy\"",
        "allow_unsigned = true",
    ] {
        let (source, state) = bench.identity("a");
        let changes = bench.apply(&format!("{other}{CAMERA}{setting}\n")).await;
        let reopened = Changes {
            reopened: 1,
            ..Changes::default()
        };
        assert_eq!(changes, reopened, "{setting}");
        let (source_now, state_now) = bench.identity("a");
        assert_ne!(source, source_now, "{setting}");
        assert!(!state.same_channel(&state_now), "{setting}");
    }
    let removed = Changes {
        removed: 1,
        ..Changes::default()
    };
    assert_eq!(bench.apply(other).await, removed);
    let (source_now, state_now) = bench.identity("b");
    assert_eq!(source_b, source_now);
    assert!(state_b.same_channel(&state_now));
    bench.cameras.shutdown().await;
}
