//! A model that runs on servers, beside one of this machine: who infers its frames while its servers are there, slow, away and back.

use super::*;
use crate::detect::engine::RemoteEngine;
use crate::detect::remote::{Availability, RemoteFacts};
use crate::telemetry::ledger::InferenceFailure;

/// The servers of a model, and the index of what takes its place.
pub(super) type Servers = (Arc<FakeServers>, Option<usize>);

/// Servers whose answers are those of a fake model.
pub(super) struct FakeServers {
    pub(super) model: Arc<Model>,
    state: Mutex<(Availability, usize)>,
}

impl RemoteEngine for FakeServers {
    fn detector(&self) -> Box<dyn Detector> {
        self.model.load().unwrap()
    }

    fn availability(&self) -> Availability {
        self.state.lock().0.clone()
    }

    fn slots(&self) -> usize {
        self.state.lock().1
    }

    fn max_slots(&self) -> usize {
        3
    }

    fn deadline(&self) -> Duration {
        Duration::from_millis(500)
    }

    fn facts(&self) -> RemoteFacts {
        RemoteFacts {
            protocol: "grpc",
            servers: Vec::new(),
            input: None,
            slots: self.slots(),
            in_flight: 0,
        }
    }

    fn close(&self) {}
}

/// A pool of one worker with the model m0 of this machine and the model m1 of servers, which has three workers.
struct RemoteBench {
    bench: Bench,
    servers: Arc<FakeServers>,
    /// Which model inferred a frame of which camera.
    inferred: Receiver<(StreamId, Arc<str>)>,
}

impl RemoteBench {
    fn new(cameras: &[usize], fallback: Option<usize>) -> Self {
        let models = ["m0", "m1"].map(Model::new).to_vec();
        let servers = Arc::new(FakeServers {
            model: Arc::clone(&models[1]),
            state: Mutex::new((Availability::Ready, 2)),
        });
        let (sender, inferred) = channel();
        let sender = Mutex::new(sender);
        let (_, events) = channel();
        let sink: InferenceSink = Arc::new(move |inference| {
            let seen = (
                inference.job.work.id.clone(),
                Arc::clone(&inference.model.name),
            );
            let _ = sender.lock().send(seen);
        });
        let bench = Bench::with_sink(
            1,
            (models, Some((Arc::clone(&servers), fallback))),
            cameras,
            events,
            sink,
        );
        Self {
            bench,
            servers,
            inferred,
        }
    }

    fn goes_away(&self) {
        let reason = "grpc://a:1 does not answer".to_owned();
        self.servers.state.lock().0 = Availability::Away { reason };
    }

    fn returns(&self) {
        self.servers.state.lock().0 = Availability::Ready;
    }

    /// Offers a frame of a camera, and gives the model that inferred it.
    fn infer(&self, camera: usize) -> String {
        self.bench.offer(camera);
        let (id, model) = self
            .inferred
            .recv_timeout(PATIENCE)
            .expect("it is inferred");
        assert_eq!(id, self.bench.cameras[camera].id);
        self.bench
            .wait("it is done", |bench| !bench.is_in_flight(camera));
        model.to_string()
    }

    fn fallback_is_told(&self) -> bool {
        let text = self.bench.metrics.encode();
        text.contains("twinsight_model_fallback{model=\"m1\"} 1")
    }
}

#[test]
fn a_server_that_is_slow_keeps_nobody_elses_frames_waiting() {
    let mut remote = RemoteBench::new(&[0, 1, 1, 1], None);
    assert_eq!(remote.infer(1), "m1");
    remote.bench.way(1, Way::Hangs);
    for camera in [1, 2, 3] {
        remote.bench.offer(camera);
    }
    remote.bench.wait("two slots are taken", |bench| {
        (1..=3).filter(|n| bench.is_in_flight(*n)).count() == 2
    });
    for _ in 0..20 {
        assert_eq!(remote.infer(0), "m0", "the worker of this machine is free");
    }
    let in_flight = (1..=3).filter(|n| remote.bench.is_in_flight(*n)).count();
    assert_eq!(in_flight, 2, "a third request waits for a slot");
    remote.servers.state.lock().1 = 3;
    remote.bench.step();
    remote.bench.wait("the third slot is taken", |bench| {
        (1..=3).all(|n| bench.is_in_flight(n))
    });
    remote.bench.way(1, Way::Good);
    remote.bench.models[1].change(|_| {});
    for _ in 0..3 {
        remote.inferred.recv_timeout(PATIENCE).unwrap();
    }
    remote.bench.close();
}

#[test]
fn without_a_fallback_cameras_are_blind_while_no_server_can_be_used() {
    let mut remote = RemoteBench::new(&[0, 1], None);
    assert_eq!(remote.infer(1), "m1");
    remote.goes_away();
    remote.bench.step();
    assert_eq!(remote.bench.state(1), Some(ModelState::Away));
    let blind = remote.bench.blind(1, 1);
    let sentence = "model m1 is away: grpc://a:1 does not answer";
    assert_eq!(blind.as_deref(), Some(sentence));
    assert_eq!(remote.bench.pool().models().last_errors(), [sentence]);
    remote.bench.offer(1);
    assert_eq!(remote.bench.failed(1), 1, "it is counted at once");
    assert!(!remote.fallback_is_told());
    assert_eq!(remote.infer(0), "m0");
    remote.returns();
    remote.bench.step();
    assert_eq!(remote.bench.state(1), Some(ModelState::Probing));
    assert!(remote.bench.blind(1, 1).is_some(), "nothing is proved yet");
    assert_eq!(remote.infer(1), "m1");
    assert_eq!(remote.bench.blind(1, 1), None);
    assert_eq!(remote.bench.state(1), Some(ModelState::Working));
    remote.bench.close();
}

#[test]
fn a_server_that_says_that_it_is_ready_and_fails_is_told_once() {
    use crate::telemetry::logging::capture;

    let mut remote = RemoteBench::new(&[1, 1], None);
    let lines = capture::text("info", || {
        remote.goes_away();
        remote.bench.step();
        remote.bench.way(1, Way::Unreachable);
        for n in 1..=5 {
            remote.returns();
            remote.bench.step();
            remote.bench.offer(0);
            remote.bench.wait("it fails", |bench| bench.failed(0) == n);
            assert!(remote.bench.blind(0, 1).unwrap().contains("is away"));
            remote.goes_away();
            remote.bench.step();
        }
    });
    let away = lines.iter().filter(|line| line.contains("no server"));
    assert_eq!(away.count(), 1, "{lines:?}");
    remote.bench.way(1, Way::Good);
    remote.returns();
    remote.bench.step();
    assert_eq!(remote.infer(0), "m1");
    remote.bench.close();
}

#[test]
fn a_fallback_infers_until_a_server_is_back() {
    let mut remote = RemoteBench::new(&[1, 1, 0], Some(0));
    assert_eq!(remote.infer(0), "m1");
    // One request is under way and a frame of another camera waits, when the servers go.
    remote.servers.state.lock().1 = 1;
    remote.bench.step();
    remote.bench.way(1, Way::Hangs);
    remote.bench.offer(0);
    remote
        .bench
        .wait("it is asked", |bench| bench.is_in_flight(0));
    remote.bench.offer(1);
    remote.goes_away();
    remote.bench.step();
    let (id, model) = remote.inferred.recv_timeout(PATIENCE).unwrap();
    assert_eq!((&id, &*model), (&remote.bench.cameras[1].id, "m0"));
    assert!(remote.fallback_is_told());
    assert_eq!(remote.bench.blind(1, 1), None, "it is not blind");
    let healthy = remote.bench.pool().models().last_errors();
    assert!(healthy.is_empty(), "{healthy:?}");
    // What was under way fails, and the next frame of its camera is the fallback's.
    remote.bench.way(1, Way::Unreachable);
    remote.bench.wait("it fails", |bench| bench.failed(0) == 1);
    assert_eq!(remote.infer(0), "m0");
    assert_eq!(remote.infer(2), "m0");
    remote.bench.way(1, Way::Good);
    remote.returns();
    remote.bench.step();
    assert_eq!(remote.bench.blind(1, 1), None, "a trial blinds nobody");
    assert_eq!(remote.infer(0), "m1");
    remote.bench.step();
    assert_eq!(remote.infer(1), "m1");
    assert!(!remote.fallback_is_told());
    assert_eq!(remote.bench.state(1), Some(ModelState::Working));
    remote.bench.close();
}

#[test]
fn a_server_that_comes_back_with_a_model_that_gives_nonsense_is_no_reason_to_say_that_all_is_well()
{
    let mut remote = RemoteBench::new(&[1], Some(0));
    assert_eq!(remote.infer(0), "m1");
    remote.goes_away();
    remote.bench.step();
    assert_eq!(remote.infer(0), "m0");
    remote.bench.way(1, Way::Lies);
    remote.returns();
    remote.bench.step();
    for n in 1..=3 {
        remote.bench.offer(0);
        remote.bench.wait("it fails", |bench| {
            bench.failed(0) == n && !bench.is_in_flight(0)
        });
        remote.bench.step();
    }
    remote.bench.wait("the last failure is noted", |bench| {
        bench.state(1) == Some(ModelState::Failing)
    });
    assert!(!remote.fallback_is_told(), "nobody infers in its place");
    let blind = remote.bench.blind(0, 1).unwrap();
    assert!(blind.contains("scores"), "{blind}");
    let errors = remote.bench.pool().models().last_errors();
    assert!(
        errors[0].contains("model m1 gives no results"),
        "{errors:?}"
    );
    remote.bench.close();
}

#[test]
fn a_fallback_infers_from_the_moment_at_which_a_model_of_servers_is_set_aside() {
    let mut remote = RemoteBench::new(&[1, 1], Some(0));
    assert_eq!(remote.infer(0), "m1");
    remote.bench.way(1, Way::Panics);
    remote.bench.offer(0);
    remote.bench.wait("it panics", |bench| {
        bench.failed(0) == 1 && !bench.is_in_flight(0)
    });
    assert_eq!(remote.infer(1), "m0", "without a look in between");
    assert_eq!(remote.bench.state(1), Some(ModelState::SetAside));
    assert!(remote.fallback_is_told());
    assert_eq!(remote.bench.blind(1, 1), None);
    assert!(remote.bench.pool().models().last_errors().is_empty());
    remote.bench.way(1, Way::Good);
    remote.bench.until("it is tried and infers", |bench| {
        bench.offer(0);
        bench.state(1) == Some(ModelState::Working)
    });
    assert!(!remote.fallback_is_told());
    remote.bench.close();
}

#[test]
fn a_fallback_that_panics_is_tried_again_although_no_camera_names_it() {
    let mut remote = RemoteBench::new(&[1], Some(0));
    remote.bench.way(0, Way::Panics);
    remote.goes_away();
    remote.bench.step();
    remote.bench.offer(0);
    remote.bench.wait("it panics", |bench| bench.failed(0) == 1);
    remote.bench.step();
    assert!(!remote.fallback_is_told());
    assert!(remote.bench.blind(0, 1).unwrap().contains("is away"));
    remote.bench.offer(0);
    assert_eq!(remote.bench.failed(0), 2, "nobody is there for it");
    remote.bench.way(0, Way::Good);
    let metrics = Arc::clone(&remote.bench.cameras[0].metrics);
    remote.bench.until("it is tried again", |bench| {
        bench.offer(0);
        metrics.frames_inferred.get() > 0
    });
    remote.bench.step();
    assert_eq!(remote.bench.blind(0, 1), None);
    assert!(remote.fallback_is_told());
    let text = remote.bench.metrics.encode();
    let worker = InferenceFailure::Worker.as_str();
    assert!(
        text.contains(&format!(
            "inference_failures_total{{reason=\"{worker}\"}} 1"
        )),
        "{text}"
    );
    remote.bench.close();
}
