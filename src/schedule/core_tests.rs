use super::*;
use crate::telemetry::metrics::Metrics;
use twinsight_client::stream_id::StreamId;
use twinsight_media::picture::{Color, FrameTiming, PictureSize, PlanePool};

pub(super) const MS: Duration = Duration::from_millis(1);

pub(super) struct Bench {
    pub(super) core: SchedulerCore<usize>,
    metrics: Metrics,
    pool: PlanePool,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self {
            core: SchedulerCore::default(),
            metrics: Metrics::new(),
            pool: PlanePool::new(4),
        }
    }

    pub(super) fn add(&mut self, name: usize, min_interval: Duration) -> SourceId {
        self.add_of_model(name, 0, min_interval)
    }

    fn add_of_model(&mut self, name: usize, model: usize, min_interval: Duration) -> SourceId {
        let metrics = self
            .metrics
            .stream(&StreamId::new(name.to_string(), "default"));
        self.core.add(SourceSettings {
            min_interval,
            max_age: 500 * MS,
            metrics,
            model,
            work: name,
        })
    }

    fn frame(&self, at: Instant) -> Frame {
        let size = PictureSize {
            width_px: 2,
            height_px: 2,
        };
        let timing = FrameTiming {
            received_at: at,
            completed_at: at,
            decoded_at: at,
            rtp_timestamp: 0.into(),
            captured_at_unix_ms: None,
        };
        Frame::new(
            self.pool.acquire(size.i420_bytes()),
            size,
            Color::default(),
            timing,
        )
    }

    fn offer(&mut self, now: Instant, id: SourceId) {
        self.offer_received_at(now, now, id);
    }

    pub(super) fn offer_received_at(&mut self, at: Instant, now: Instant, id: SourceId) -> bool {
        self.metrics_of(id).frames_decoded.inc();
        let frame = self.frame(at);
        self.core.offer(now, id, frame)
    }

    pub(super) fn metrics_of(&self, id: SourceId) -> Arc<StreamMetrics> {
        Arc::clone(&self.core.sources[&id].settings.metrics)
    }

    pub(super) fn run(&mut self, now: Instant) -> Option<Job<usize>> {
        match self.core.pick(now, EngineId::LOCAL) {
            Pick::Run(job) => Some(job),
            _ => None,
        }
    }

    fn finish(&mut self, job: Job<usize>) {
        self.metrics_of(job.source).frames_inferred.inc();
        self.core
            .finished(job.source, JobEnd::Inferred, job.skipped_frames);
    }
}

#[test]
fn the_one_that_waited_longest_is_served() {
    let (mut bench, now) = (Bench::new(), Instant::now());
    let ids = [
        bench.add(0, Duration::ZERO),
        bench.add(1, Duration::ZERO),
        bench.add(2, Duration::ZERO),
    ];
    let mut served = Vec::new();
    for round in 0..6 {
        let now = now + round * 10 * MS;
        for id in ids {
            bench.offer(now, id);
        }
        let job = bench.run(now).unwrap();
        served.push(job.work);
        bench.finish(job);
    }
    assert_eq!(served, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn one_frame_of_a_stream_is_in_flight() {
    let (mut bench, now) = (Bench::new(), Instant::now());
    let id = bench.add(0, Duration::ZERO);
    bench.offer(now, id);
    let job = bench.run(now).unwrap();
    bench.offer(now, id);
    assert!(bench.run(now).is_none());
    bench.finish(job);
    assert!(bench.run(now).is_some());
}

#[test]
fn a_replaced_frame_is_rate_limited_only_before_its_stream_is_due() {
    let (mut bench, start) = (Bench::new(), Instant::now());
    let id = bench.add(0, 100 * MS);
    bench.offer(start, id);
    let job = bench.run(start).unwrap();
    bench.finish(job);
    for ms in [30, 60, 90] {
        bench.offer(start + ms * MS, id);
    }
    assert!(
        matches!(bench.core.pick(start + 90 * MS, EngineId::LOCAL), Pick::WaitUntil(at) if at == start + 100 * MS)
    );
    bench.offer(start + 120 * MS, id);
    let job = bench.run(start + 120 * MS).unwrap();
    assert_eq!(
        job.skipped_frames, 1,
        "only the one that was replaced although due"
    );
    let metrics = bench.metrics_of(id);
    assert_eq!(metrics.frames_dropped(FrameDrop::RateLimited), 2);
    assert_eq!(metrics.frames_dropped(FrameDrop::Replaced), 1);
}

#[test]
fn the_cadence_holds_when_frames_come_a_little_late() {
    let (mut bench, start) = (Bench::new(), Instant::now());
    let id = bench.add(0, 100 * MS);
    let mut served = 0;
    // The camera sends 10 frames a second with up to 30 ms of jitter, and 10 a second are allowed, so each is inferred.
    for n in 0..50_u32 {
        let at = start + n * 100 * MS + (n * 7 % 4) * 10 * MS;
        bench.offer(at, id);
        if let Some(job) = bench.run(at + 40 * MS) {
            served += 1;
            bench.finish(job);
        }
    }
    assert_eq!(served, 50);
}

#[test]
fn another_rate_holds_at_once_and_keeps_the_waiting_frame() {
    let (mut bench, start) = (Bench::new(), Instant::now());
    let id = bench.add(0, 10_000 * MS);
    bench.offer(start, id);
    let job = bench.run(start).unwrap();
    bench.finish(job);
    bench.offer(start + 10 * MS, id);
    assert!(bench.run(start + 150 * MS).is_none());
    let settings = |bench: &Bench, min_interval| SourceSettings {
        min_interval,
        ..bench.core.sources[&id].settings.clone()
    };
    let raised = settings(&bench, 100 * MS);
    bench.core.update(id, raised);
    let job = bench.run(start + 150 * MS).unwrap();
    bench.finish(job);
    let lowered = settings(&bench, 300 * MS);
    bench.core.update(id, lowered);
    bench.offer(start + 260 * MS, id);
    assert!(
        matches!(bench.core.pick(start + 260 * MS, EngineId::LOCAL), Pick::WaitUntil(at) if at == start + 450 * MS)
    );
    let unlimited = settings(&bench, Duration::ZERO);
    bench.core.update(id, unlimited);
    assert!(bench.run(start + 260 * MS).is_some());
    let ledger = bench.metrics_of(id).ledger();
    assert_eq!(ledger.frames_dropped, 0, "an update drops nothing");
}

#[test]
fn an_old_frame_is_not_inferred() {
    let (mut bench, now) = (Bench::new(), Instant::now());
    let id = bench.add(0, Duration::ZERO);
    bench.offer(now, id);
    assert!(bench.run(now + 501 * MS).is_none());
    assert_eq!(bench.metrics_of(id).frames_dropped(FrameDrop::Stale), 1);
    bench.offer(now + 501 * MS, id);
    assert_eq!(bench.run(now + 501 * MS).unwrap().skipped_frames, 1);
}

#[test]
fn a_failed_job_is_told_with_the_next_event() {
    let (mut bench, now) = (Bench::new(), Instant::now());
    let id = bench.add(0, Duration::ZERO);
    bench.offer(now, id);
    let job = bench.run(now).unwrap();
    bench.core.finished(id, JobEnd::Failed, job.skipped_frames);
    bench.offer(now, id);
    assert_eq!(bench.run(now).unwrap().skipped_frames, 1);
}

#[test]
fn an_unchanged_frame_keeps_the_cadence_and_is_told_with_the_next_event() {
    let (mut bench, start) = (Bench::new(), Instant::now());
    let id = bench.add(0, 100 * MS);
    bench.offer(start, id);
    let job = bench.run(start).unwrap();
    bench.finish(job);
    for n in 1..10 {
        // Of two frames the older one is rate-limited.
        let due_at = start + n * 100 * MS;
        bench.offer(due_at - 60 * MS, id);
        bench.offer(due_at - 10 * MS, id);
        assert!(bench.run(due_at - MS).is_none(), "{n}");
        let job = bench.run(due_at).unwrap();
        assert_eq!(job.skipped_frames, u64::from(n - 1));
        if n < 9 {
            bench.metrics_of(id).frame_dropped(FrameDrop::Unchanged);
            bench
                .core
                .finished(id, JobEnd::Unchanged, job.skipped_frames);
        } else {
            bench.finish(job);
        }
    }
    bench.offer(start + 1000 * MS, id);
    let job = bench.run(start + 1000 * MS).unwrap();
    assert_eq!(job.skipped_frames, 0, "they were told with the one before");
    bench.finish(job);
    let metrics = bench.metrics_of(id);
    assert_eq!(metrics.frames_dropped(FrameDrop::RateLimited), 9);
    assert_eq!(metrics.frames_dropped(FrameDrop::Unchanged), 8);
    assert_eq!(metrics.ledger().in_flight()[1], 0);
}

#[test]
fn the_books_are_closed_at_the_end() {
    let (mut bench, start) = (Bench::new(), Instant::now());
    let ids: Vec<_> = (0..5).map(|n| bench.add(n, 70 * MS)).collect();
    for step in 0..400_u32 {
        let now = start + step * 11 * MS;
        bench.offer(now, ids[step as usize % 5]);
        if step % 3 == 0
            && let Some(job) = bench.run(now)
        {
            bench.finish(job);
        }
    }
    let metrics: Vec<_> = ids.iter().map(|id| bench.metrics_of(*id)).collect();
    bench.core.remove(ids[0], FrameDrop::CameraRemoved);
    bench.core.drain(FrameDrop::Shutdown);
    for metrics in metrics {
        assert_eq!(metrics.ledger().in_flight()[1], 0);
    }
}

#[test]
fn an_old_frame_is_counted_as_stale_once_when_its_turn_or_a_newer_one_comes() {
    let (mut bench, start) = (Bench::new(), Instant::now());
    let [first, second] = [0, 1].map(|name| bench.add(name, Duration::ZERO));
    bench.offer(start, first);
    bench.offer(start, second);
    let late = start + 600 * MS;
    bench.offer(late, second);
    let stale = |bench: &Bench, id| bench.metrics_of(id).frames_dropped(FrameDrop::Stale);
    assert_eq!((stale(&bench, first), stale(&bench, second)), (0, 1));
    assert_eq!(bench.run(late).unwrap().source, second, "no turn is spent");
    assert!(matches!(bench.core.pick(late, EngineId::LOCAL), Pick::Idle));
    assert_eq!((stale(&bench, first), stale(&bench, second)), (1, 1));
}

#[test]
fn the_last_frame_of_a_rate_limited_stream_that_stopped_goes_when_it_is_due() {
    let (mut bench, start) = (Bench::new(), Instant::now());
    let id = bench.add(0, 2000 * MS);
    bench.offer(start, id);
    let job = bench.run(start).unwrap();
    bench.finish(job);
    bench.offer(start + 100 * MS, id);
    let due_at = start + 2000 * MS;
    assert!(
        matches!(bench.core.pick(start + 900 * MS, EngineId::LOCAL), Pick::WaitUntil(at) if at == due_at)
    );
    assert!(matches!(
        bench.core.pick(due_at, EngineId::LOCAL),
        Pick::Idle
    ));
    assert_eq!(bench.metrics_of(id).frames_dropped(FrameDrop::Stale), 1);
    bench.offer(due_at, id);
    assert!(bench.run(due_at).is_some());
}

#[test]
fn a_worker_is_woken_only_by_a_frame_that_gets_in_line() {
    let (mut bench, now) = (Bench::new(), Instant::now());
    let id = bench.add(0, Duration::ZERO);
    assert!(bench.offer_received_at(now, now, id));
    assert!(
        !bench.offer_received_at(now, now, id),
        "the worker woken for the first takes it"
    );
    let job = bench.run(now).unwrap();
    assert!(!bench.offer_received_at(now, now, id), "one at a time");
    bench.finish(job);
    assert!(bench.run(now).is_some());
}

#[test]
fn at_half_the_pace_a_stream_is_due_half_as_often_and_what_that_costs_is_not_its_rate_limit() {
    for (usual, halved) in [(100 * MS, 200 * MS), (Duration::ZERO, 200 * MS)] {
        let (mut bench, start) = (Bench::new(), Instant::now());
        let id = bench.add(0, usual);
        bench.offer(start, id);
        let job = bench.run(start).unwrap();
        bench.finish(job);
        bench.core.set_pace(id, Pace::Halved);
        for ms in [60, 90, 120, 150] {
            bench.offer(start + ms * MS, id);
            assert!(
                matches!(bench.core.pick(start + ms * MS, EngineId::LOCAL), Pick::WaitUntil(at) if at == start + halved)
            );
        }
        let limited = if usual.is_zero() { 0 } else { 1 };
        let metrics = bench.metrics_of(id);
        assert_eq!(metrics.frames_dropped(FrameDrop::RateLimited), limited);
        assert_eq!(metrics.frames_dropped(FrameDrop::Replaced), 3 - limited);
        bench.core.set_pace(id, Pace::Usual);
        let job = bench.run(start + 150 * MS).unwrap();
        assert_eq!(job.skipped_frames, 3 - limited);
    }
}

fn rules(admission: Admission) -> ModelRules {
    ModelRules {
        admission,
        suspect_after: 500 * MS,
    }
}

#[test]
fn a_model_not_seen_to_work_is_given_one_frame_at_a_time() {
    let (mut bench, now) = (Bench::new(), Instant::now());
    let [a, b] = [0, 1].map(|name| bench.add_of_model(name, 0, Duration::ZERO));
    let other = bench.add_of_model(2, 1, Duration::ZERO);
    bench.core.set_model(0, rules(Admission::OneAtATime));
    for id in [a, b, other] {
        bench.offer(now, id);
    }
    let first = bench.run(now).unwrap();
    assert_eq!(first.source, a);
    assert_eq!(bench.run(now).unwrap().source, other);
    assert!(bench.run(now).is_none());
    bench.finish(first);
    assert_eq!(bench.run(now).unwrap().source, b);
}

#[test]
fn what_was_held_back_goes_on_when_its_model_is_seen_to_work() {
    let (mut bench, now) = (Bench::new(), Instant::now());
    let ids = [0, 1, 2].map(|name| bench.add_of_model(name, 0, Duration::ZERO));
    bench.core.set_model(0, rules(Admission::OneAtATime));
    for id in ids {
        bench.offer(now, id);
    }
    let first = bench.run(now).unwrap();
    assert!(bench.run(now).is_none());
    bench.core.set_model(0, rules(Admission::Open));
    assert_eq!(bench.run(now).unwrap().source, ids[1]);
    assert_eq!(bench.run(now).unwrap().source, ids[2]);
    bench.finish(first);
}

#[test]
fn one_probe_runs_of_all_models() {
    // By the time that its run has ended, the model may have failed, have succeeded, or be set aside again.
    for ended in [Admission::Probe, Admission::Open, Admission::Closed] {
        let (mut bench, now) = (Bench::new(), Instant::now());
        let [a, b] = [0, 1].map(|name| bench.add_of_model(name, name, Duration::ZERO));
        for (model, id) in [(0, a), (1, b)] {
            bench.core.set_model(model, rules(Admission::Probe));
            bench.offer(now, id);
        }
        let first = bench.run(now).unwrap();
        assert!(bench.run(now).is_none());
        if ended != Admission::Probe {
            bench.core.set_model(0, rules(ended));
        }
        bench.core.finished(first.source, JobEnd::Failed, 0);
        assert_eq!(bench.run(now).map(|job| job.source), Some(b), "{ended:?}");
    }
}

#[test]
fn a_model_whose_run_takes_long_keeps_its_workers_and_gets_no_more_while_others_are_there() {
    let (mut bench, start) = (Bench::new(), Instant::now());
    let [a, b] = [0, 1].map(|name| bench.add_of_model(name, 0, Duration::ZERO));
    bench.core.set_model(0, rules(Admission::Open));
    bench.offer(start, a);
    let hangs = bench.run(start).unwrap();
    let late = start + 501 * MS;
    bench.offer(late, b);
    let job = bench.run(late).unwrap();
    assert_eq!(job.source, b, "no other model is there");
    bench.finish(job);
    let other = bench.add_of_model(2, 1, Duration::ZERO);
    bench.offer(late, b);
    bench.offer(late, other);
    assert_eq!(bench.run(late).unwrap().source, other);
    assert!(bench.run(late).is_none());
    bench.finish(hangs);
    assert_eq!(bench.run(late).unwrap().source, b);
}

#[test]
fn frames_of_a_model_that_is_set_aside_are_counted_at_the_rate_of_their_stream() {
    let (mut bench, start) = (Bench::new(), Instant::now());
    let id = bench.add_of_model(0, 3, 100 * MS);
    bench.offer(start, id);
    bench.core.set_model(3, rules(Admission::Closed));
    assert!(bench.run(start).is_none(), "the one that waited is dropped");
    for n in 0..20 {
        bench.offer(start + n * 50 * MS, id);
    }
    let metrics = bench.metrics_of(id);
    assert_eq!(metrics.frames_dropped(FrameDrop::InferenceFailed), 10);
    assert_eq!(metrics.frames_dropped(FrameDrop::RateLimited), 11);
    assert_eq!(metrics.ledger().in_flight()[1], 0);
    bench.core.set_model(3, rules(Admission::Open));
    let now = start + 2000 * MS;
    bench.offer(now, id);
    assert_eq!(bench.run(now).unwrap().skipped_frames, 10);
}

proptest::proptest! {
    /// Whatever is offered, picked, ended, held back, moved to another model and removed, each rule is kept, no frame is lost, and
    /// nothing is held back for ever.
    #[test]
    fn models_are_held_back_and_no_frame_is_lost(
        steps in proptest::collection::vec((0..9_u8, 0..6_usize, 0..3_usize, 0..300_u32), 0..300),
    ) {
        let (mut bench, mut now) = (Bench::new(), Instant::now());
        let all: Vec<_> = (0..6).map(|n| bench.add_of_model(n, n % 3, Duration::ZERO)).collect();
        let metrics: Vec<_> = all.iter().map(|id| bench.metrics_of(*id)).collect();
        let mut admissions = [Admission::Open; 3];
        let mut running: Vec<(Job<usize>, usize)> = Vec::new();
        for (what, n, model, ms) in steps {
            now += ms * MS;
            let there = bench.core.sources.contains_key(&all[n]);
            match what {
                0..=3 if there => { bench.offer(now, all[n]); }
                4 | 5 => if let Some(job) = bench.run(now) {
                    let of = bench.core.sources[&job.source].settings.model;
                    let same = |other: &&(Job<usize>, usize)| other.1 == of;
                    match admissions[of] {
                        Admission::Closed => proptest::prop_assert!(false, "given out though set aside"),
                        Admission::OneAtATime => proptest::prop_assert!(!running.iter().any(|run| same(&run))),
                        Admission::Probe => proptest::prop_assert!(
                            !running.iter().any(|run| admissions[run.1] == Admission::Probe)
                        ),
                        Admission::Open => {}
                    }
                    running.push((job, of));
                },
                6 if !running.is_empty() => {
                    let (job, _) = running.swap_remove(n % running.len());
                    metrics[job.work].frames_inferred.inc();
                    bench.core.finished(job.source, JobEnd::Inferred, job.skipped_frames);
                },
                7 => {
                    let admission = [
                        Admission::Open, Admission::OneAtATime, Admission::Probe, Admission::Closed,
                    ][ms as usize % 4];
                    admissions[model] = admission;
                    bench.core.set_model(model, rules(admission));
                }
                8 if there && ms < 30 => bench.core.remove(all[n], FrameDrop::CameraRemoved),
                8 if there => {
                    let settings = bench.core.sources[&all[n]].settings.clone();
                    bench.core.update(all[n], SourceSettings { model, ..settings });
                }
                _ => {}
            }
        }
        for (job, _) in running {
            metrics[job.work].frames_inferred.inc();
            bench.core.finished(job.source, JobEnd::Inferred, job.skipped_frames);
        }
        for model in 0..3 {
            bench.core.set_model(model, rules(Admission::Open));
        }
        while let Some(job) = bench.run(now) {
            bench.finish(job);
        }
        for metrics in &metrics {
            proptest::prop_assert_eq!(metrics.ledger().in_flight()[1], 0);
        }
    }
}

#[test]
fn a_doubtful_frame_waits_until_the_next_one_tells() {
    let mut bench = Bench::new();
    let id = bench.add(0, Duration::ZERO);
    let start = Instant::now();
    let doubtful = |bench: &mut Bench, now| {
        bench.metrics_of(id).frames_decoded.inc();
        let frame = bench.frame(now);
        bench.core.offer_doubtful(now, id, frame)
    };
    // The next one is of the past, and so was the first.
    assert!(doubtful(&mut bench, start));
    assert!(bench.run(start + 10 * MS).is_none());
    bench.metrics_of(id).frames_decoded.inc();
    bench.core.skip(id);
    assert!(bench.run(start + DOUBT).is_none());
    assert_eq!(bench.metrics_of(id).frames_dropped(FrameDrop::Stale), 2);

    // The next one is of the present.
    let start = start + 1000 * MS;
    assert!(doubtful(&mut bench, start));
    bench.offer(start + 60 * MS, id);
    let job = bench.run(start + DOUBT).unwrap();
    assert_eq!(job.frame.timing().received_at, start + 60 * MS);
    bench.finish(job);

    // There is none, as of a camera with a picture now and then.
    let start = start + 1000 * MS;
    assert!(doubtful(&mut bench, start));
    assert!(bench.run(start + DOUBT - MS).is_none());
    let job = bench.run(start + DOUBT).unwrap();
    // What comes while it is inferred waits behind it, and one that waits there is dropped as well.
    assert!(!doubtful(&mut bench, start + DOUBT));
    bench.metrics_of(id).frames_decoded.inc();
    bench.core.skip(id);
    bench.finish(job);
    assert!(bench.run(start + 1000 * MS).is_none());
    assert_eq!(bench.metrics_of(id).ledger().in_flight()[1], 0);
}

#[test]
fn a_doubtful_frame_does_not_wait_until_it_is_too_old() {
    let mut bench = Bench::new();
    let id = bench.core.add(SourceSettings {
        min_interval: Duration::ZERO,
        max_age: 100 * MS,
        metrics: bench.metrics.stream(&StreamId::new("strict", "default")),
        model: 0,
        work: 0,
    });
    let start = Instant::now();
    let frame = bench.frame(start);
    assert!(bench.core.offer_doubtful(start, id, frame));
    assert!(bench.run(start + 49 * MS).is_none());
    assert!(bench.run(start + 50 * MS).is_some());
}

#[test]
fn engines_have_queues_of_their_own_and_a_substitute_takes_what_waits() {
    let (mut bench, start) = (Bench::new(), Instant::now());
    let remote = EngineId::of_remote(1);
    bench.core.set_engine(1, remote);
    bench.core.set_slots(remote, 1);
    let local = bench.add_of_model(0, 0, Duration::ZERO);
    let [a, b] = [1, 2].map(|name| bench.add_of_model(name, 1, Duration::ZERO));
    for id in [local, a, b] {
        bench.offer(start, id);
    }
    let Pick::Run(first) = bench.core.pick(start, remote) else {
        panic!("nothing for the servers");
    };
    assert_eq!((first.source, first.model), (a, 1));
    // The only slot is taken.
    assert!(matches!(bench.core.pick(start, remote), Pick::Idle));
    assert_eq!(bench.run(start).unwrap().source, local);
    assert!(bench.run(start).is_none(), "the other is for the servers");
    bench.core.set_substitute(1, Some(0));
    let moved = bench.run(start).unwrap();
    assert_eq!((moved.source, moved.model), (b, 0));
    // Where the frame was, there is room; what comes now goes to the substitute.
    bench.finish(first);
    assert!(matches!(bench.core.pick(start, remote), Pick::Idle));
    bench.offer(start + MS, a);
    bench.core.set_substitute(1, None);
    assert!(bench.run(start + MS).is_none());
    let Pick::Run(back) = bench.core.pick(start + MS, remote) else {
        panic!("it went back");
    };
    assert_eq!((back.source, back.model), (a, 1));
}

#[test]
fn a_stream_that_changes_its_model_changes_its_queue() {
    let (mut bench, start) = (Bench::new(), Instant::now());
    let remote = EngineId::of_remote(1);
    bench.core.set_engine(1, remote);
    let id = bench.add_of_model(0, 0, 100 * MS);
    bench.offer(start, id);
    let settings = SourceSettings {
        model: 1,
        min_interval: 50 * MS,
        ..bench.core.sources[&id].settings.clone()
    };
    bench.core.update(id, settings);
    assert!(bench.run(start).is_none());
    assert!(matches!(bench.core.pick(start, remote), Pick::Run(_)));
    assert!(matches!(bench.core.pick(start, remote), Pick::Idle));
}

#[test]
fn what_is_wanted_counts_turns_and_no_idle_time() {
    let (mut bench, start) = (Bench::new(), Instant::now());
    let id = bench.add(0, 100 * MS);
    let turn = |bench: &mut Bench, offered: u32, taken: u32| {
        let before = bench.core.demand(EngineId::LOCAL);
        bench.offer(start + offered * MS, id);
        let job = bench.run(start + taken * MS).unwrap();
        bench.finish(job);
        let after = bench.core.demand(EngineId::LOCAL);
        assert_eq!(after.taken, before.taken + 1);
        after.wanted - before.wanted
    };
    assert!((turn(&mut bench, 0, 0) - 1.0).abs() < 1e-9);
    // A camera that sends seldom waits for nobody.
    assert!((turn(&mut bench, 1000, 1000) - 1.0).abs() < 1e-9);
    // It was due at 1100, and its frame was taken one turn later.
    assert!((turn(&mut bench, 1050, 1200) - 2.0).abs() < 1e-9);
    // Without a rate limit, what was replaced while it waited was wanted.
    let free = bench.add(1, Duration::ZERO);
    for ms in [0, 30, 60] {
        bench.offer(start + ms * MS, free);
    }
    let before = bench.core.demand(EngineId::LOCAL);
    bench.run(start + 70 * MS).unwrap();
    let wanted = bench.core.demand(EngineId::LOCAL).wanted - before.wanted;
    assert!((wanted - 3.0).abs() < 1e-9, "{wanted}");
}

#[test]
fn a_camera_that_was_silent_has_not_waited_since_its_last_frame_became_too_old() {
    let (mut bench, start) = (Bench::new(), Instant::now());
    let id = bench.add(0, 1000 * MS);
    let wanted = |bench: &mut Bench| bench.core.demand(EngineId::LOCAL).wanted;
    let hour = 3_600_000;
    bench.offer(start, id);
    let job = bench.run(start).unwrap();
    bench.finish(job);
    // The last frame before it falls silent is too old when it would be due, at 1000 ms. No worker was missing.
    bench.offer(start + 300 * MS, id);
    assert!(bench.run(start + 1000 * MS).is_none());
    assert!((wanted(&mut bench) - 1.0).abs() < 1e-9);
    bench.offer(start + hour * MS, id);
    let job = bench.run(start + hour * MS).unwrap();
    bench.finish(job);
    let now = wanted(&mut bench);
    assert!((now - 2.0).abs() < 1e-9, "{now}");

    // The same if its next frame comes before a worker finds the old one, as after the program was stopped. That one was due, and
    // nobody took it.
    let start = start + 2 * hour * MS;
    bench.offer(start, id);
    bench.offer(start + hour * MS, id);
    let job = bench.run(start + hour * MS).unwrap();
    bench.finish(job);
    let now = wanted(&mut bench);
    assert!((now - 4.0).abs() < 1e-9, "{now}");

    // And if it was doubtful, and dropped with the one that told it to be of the past.
    let start = start + 2 * hour * MS;
    let frame = bench.frame(start);
    assert!(bench.core.offer_doubtful(start, id, frame));
    bench.core.skip(id);
    bench.offer(start + hour * MS, id);
    bench.run(start + hour * MS).unwrap();
    let now = wanted(&mut bench);
    assert!((now - 5.0).abs() < 1e-9, "{now}");
}

#[test]
fn frames_that_become_too_old_because_nobody_has_time_were_wanted() {
    let (mut bench, start) = (Bench::new(), Instant::now());
    let id = bench.add(0, 1000 * MS);
    bench.offer(start, id);
    let job = bench.run(start).unwrap();
    bench.finish(job);
    for second in 1..=10 {
        bench.offer(start + second * 1000 * MS, id);
    }
    assert!(bench.run(start + 10_900 * MS).is_none());
    let demand = bench.core.demand(EngineId::LOCAL);
    assert_eq!(demand.taken, 1);
    assert!((demand.wanted - 11.0).abs() < 1e-9, "{}", demand.wanted);
}

#[test]
fn a_model_that_may_hang_leaves_workers_to_one_that_stands_in() {
    let (mut bench, start) = (Bench::new(), Instant::now());
    bench.core.set_engine(1, EngineId::of_remote(1));
    bench.core.set_model(
        2,
        ModelRules {
            admission: Admission::Open,
            suspect_after: 100 * MS,
        },
    );
    // Model 0 has no camera of its own, and stands in for model 1.
    let away = bench.add_of_model(0, 1, Duration::ZERO);
    let [a, b] = [1, 2].map(|name| bench.add_of_model(name, 2, Duration::ZERO));
    bench.offer(start, a);
    assert_eq!(bench.run(start).unwrap().source, a);
    let late = start + 200 * MS;
    bench.core.set_substitute(1, Some(0));
    bench.offer(late, b);
    assert!(
        bench.run(late).is_none(),
        "the other workers are not for it"
    );
    bench.offer(late, away);
    assert_eq!(bench.run(late).unwrap().source, away);
    // Without anybody to stand in for, it may have them.
    bench.core.set_substitute(1, None);
    bench.offer(late, b);
    bench.core.set_model(2, ModelRules::default());
    assert_eq!(bench.run(late).unwrap().source, b);
}
