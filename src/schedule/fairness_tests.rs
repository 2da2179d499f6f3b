//! Many cameras and few workers in simulated time: the tests check how many turns each camera gets.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;

use super::tests::{Bench, MS};
use super::*;

/// How a camera behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Camera {
    /// It sends far more often than its turn comes, so that a frame of it always waits.
    Waiting,
    /// It sends one frame a second, up to 0.1 s late.
    OneFps,
    /// Like `Waiting`, with at most one inference in 2 s.
    RateLimited,
    /// Like `Waiting`, but it stops after 2 s.
    Stopping,
    /// Like `Waiting`, but it is removed and added again every 0.7 s.
    Flapping,
    /// Like `Waiting`, but all of its jobs fail.
    Failing,
    /// Like `Waiting`, but all of its frames are too old when they come.
    Stale,
}

/// What happens next. Of events at the same moment, frames come before workers that are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The camera with this index sends its frame of this number.
    Frame(usize, u32),
    /// A job of the camera with this index ends: its source, its skipped frames.
    Done(usize, SourceId, u64),
    /// A stream becomes due.
    Due,
}

/// What a camera got.
struct Outcome {
    sent: u32,
    turns: u32,
    metrics: Arc<StreamMetrics>,
}

impl Camera {
    fn frame_at(self, n: usize, frame: u32) -> Duration {
        let interval = if self == Self::OneFps {
            1000 * MS
        } else {
            30 * MS
        };
        let jitter = if self == Self::OneFps {
            frame * 37 % 11 * 10
        } else {
            0
        };
        // The cameras do not send at the same moments.
        let phase = u32::try_from(n * 7919 % 997).unwrap() * interval / 997;
        phase + frame * interval + jitter * MS
    }

    fn min_interval(self) -> Duration {
        match self {
            Self::RateLimited => 2000 * MS,
            _ => Duration::ZERO,
        }
    }
}

/// Runs cameras for a time. `round` is how long a turn of each takes with all workers together.
fn simulate(cameras: &[Camera], workers: usize, round: Duration, length: Duration) -> Vec<Outcome> {
    let inference = round * u32::try_from(workers).unwrap() / u32::try_from(cameras.len()).unwrap();
    let (mut bench, start) = (Bench::new(), Instant::now());
    let mut ids = Vec::new();
    let mut outcomes = Vec::new();
    let mut events = BinaryHeap::new();
    for (n, camera) in cameras.iter().enumerate() {
        let id = bench.add(n, camera.min_interval());
        outcomes.push(Outcome {
            sent: 0,
            turns: 0,
            metrics: bench.metrics_of(id),
        });
        ids.push(id);
        events.push(Reverse((start + camera.frame_at(n, 0), Event::Frame(n, 0))));
    }
    let mut free = workers;
    while let Some(Reverse((now, event))) = events.pop()
        && now < start + length
    {
        match event {
            Event::Frame(n, frame) => {
                let camera = cameras[n];
                let next = start + camera.frame_at(n, frame + 1);
                if camera == Camera::Flapping && frame % 23 == 22 {
                    bench.core.remove(ids[n], FrameDrop::CameraRemoved);
                    ids[n] = bench.add(n, camera.min_interval());
                }
                let received_at = match camera {
                    Camera::Stale => now - 501 * MS,
                    _ => now,
                };
                bench.offer_received_at(received_at, now, ids[n]);
                outcomes[n].sent += 1;
                if camera != Camera::Stopping || next < start + 2000 * MS {
                    events.push(Reverse((next, Event::Frame(n, frame + 1))));
                }
            }
            Event::Done(n, source, skipped_frames) => {
                free += 1;
                let metrics = &outcomes[n].metrics;
                let end = if cameras[n] == Camera::Failing {
                    metrics.frame_dropped(FrameDrop::InferenceFailed);
                    JobEnd::Failed
                } else {
                    metrics.frames_inferred.inc();
                    JobEnd::Inferred
                };
                bench.core.finished(source, end, skipped_frames);
            }
            Event::Due => {}
        }
        while free > 0 {
            match bench.core.pick(now, EngineId::LOCAL) {
                Pick::Run(job) => {
                    free -= 1;
                    outcomes[job.work].turns += 1;
                    let done = Event::Done(job.work, job.source, job.skipped_frames);
                    events.push(Reverse((now + inference, done)));
                }
                Pick::WaitUntil(due_at) => {
                    events.push(Reverse((due_at, Event::Due)));
                    break;
                }
                Pick::Idle => break,
            }
        }
    }
    outcomes
}

/// Each promise is checked with these numbers of cameras and workers.
const SCALES: [(usize, usize); 4] = [(10, 1), (10, 3), (1000, 1), (1000, 4)];

/// Jain's index of fairness: 1 if all got the same, 1/n if one got everything.
fn jain(turns: &[u32]) -> f64 {
    let sum: f64 = turns.iter().map(|&turns| f64::from(turns)).sum();
    let squares: f64 = turns.iter().map(|&turns| f64::from(turns).powi(2)).sum();
    sum * sum / (turns.len() as f64 * squares)
}

fn turns_of(kind: Camera, cameras: &[Camera], outcomes: &[Outcome]) -> Vec<u32> {
    let both = cameras.iter().zip(outcomes);
    both.filter(|(camera, _)| **camera == kind)
        .map(|(_, outcome)| outcome.turns)
        .collect()
}

#[test]
fn cameras_that_always_wait_get_the_same_whatever_the_others_do() {
    let mix = [
        Camera::Waiting,
        Camera::OneFps,
        Camera::RateLimited,
        Camera::Waiting,
        Camera::Stopping,
        Camera::Flapping,
        Camera::Waiting,
        Camera::Failing,
        Camera::Stale,
        Camera::Waiting,
    ];
    for (count, workers) in SCALES {
        let cameras: Vec<_> = mix.into_iter().cycle().take(count).collect();
        let outcomes = simulate(&cameras, workers, 400 * MS, 8000 * MS);
        let turns = turns_of(Camera::Waiting, &cameras, &outcomes);
        let (most, least) = (turns.iter().max().unwrap(), turns.iter().min().unwrap());
        let jain = jain(&turns);
        assert!(
            jain >= 0.99 && most - least <= 1,
            "{count} cameras, {workers} workers: {jain}, {least} to {most}"
        );
        assert!(*least >= 20, "others take no more than a turn a round each");
        let limited = turns_of(Camera::RateLimited, &cameras, &outcomes);
        assert!(limited.iter().all(|&turns| turns == 4), "{limited:?}");
    }
}

/// In overload a frame waits for one round: until the jobs that the workers have in hand end, and each other camera that waits has
/// had at most one turn. So no frame is lost of a camera whose next frame comes after more than a round, if a round is shorter than
/// `max_age_ms`. A camera without a frame for a round is the one that was served longest ago, so its next frame waits only for a free
/// worker.
#[test]
fn a_camera_of_one_frame_a_second_gets_each_inferred_if_a_round_is_shorter() {
    let overloaded = |count: usize| {
        let slow = count / 5;
        let mut cameras = vec![Camera::Waiting; count - slow];
        cameras.extend(vec![Camera::OneFps; slow]);
        cameras
    };
    // First there are four cameras that send 33 frames a second each, and one more; then there are many.
    for (count, workers) in [(5, 1), (10, 1), (10, 3), (1000, 1), (1000, 4)] {
        for round in [100, 450] {
            let cameras = overloaded(count);
            let outcomes = simulate(&cameras, workers, round * MS, 8000 * MS);
            let rows = cameras.iter().zip(&outcomes);
            for (_, outcome) in rows.filter(|(camera, _)| **camera == Camera::OneFps) {
                let ledger = outcome.metrics.ledger();
                assert_eq!(
                    (ledger.frames_dropped, outcome.sent - outcome.turns <= 1),
                    (0, true),
                    "{count} cameras, {workers} workers, a round of {round} ms: {ledger:?}"
                );
            }
            let fast = turns_of(Camera::Waiting, &cameras, &outcomes);
            let lost: u64 = outcomes
                .iter()
                .map(|outcome| outcome.metrics.frames_dropped(FrameDrop::Replaced))
                .sum();
            assert!(lost > 0 && jain(&fast) >= 0.99, "it was overloaded");
        }
    }
    // The condition is needed, since with rounds of 3 s the camera gets its share of the turns and no more.
    let outcomes = simulate(&overloaded(5), 1, 3000 * MS, 30_000 * MS);
    let ledger = outcomes[4].metrics.ledger();
    assert!(ledger.frames_dropped > 0, "{ledger:?}");
}

#[test]
fn a_broken_camera_costs_the_others_no_turn_beyond_its_own() {
    for (count, workers) in SCALES {
        let turns_with = |broken| {
            let mut cameras = vec![Camera::Waiting; count];
            cameras[count / 2] = broken;
            let outcomes = simulate(&cameras, workers, 400 * MS, 4000 * MS);
            let turns: Vec<_> = outcomes.iter().map(|outcome| outcome.turns).collect();
            (turns[count / 2], turns)
        };
        let (own, whole) = turns_with(Camera::Waiting);
        let (failing, with_failing) = turns_with(Camera::Failing);
        assert_eq!(failing, own, "a job that failed was a turn");
        assert_eq!(with_failing, whole, "nothing changes for the others");
        let (stale, with_stale) = turns_with(Camera::Stale);
        assert_eq!(stale, 0);
        let total: u32 = with_stale.iter().sum();
        assert!(
            total.abs_diff(whole.iter().sum()) <= 1,
            "no worker was idle: its turns went to the others"
        );
        let others = with_stale.iter().filter(|&&turns| turns > 0);
        assert!(others.clone().max().unwrap() - others.min().unwrap() <= 1);
    }
}

/// The same decision as a plain walk over all streams.
#[derive(Debug, Default)]
struct Walk {
    streams: Vec<(SourceId, WalkedStream)>,
}

#[derive(Debug, Default)]
struct WalkedStream {
    min_interval: Duration,
    received_at: Option<Instant>,
    in_flight: bool,
    served_at: Option<Instant>,
    due_at: Option<Instant>,
}

impl Walk {
    fn stream(&mut self, id: SourceId) -> &mut WalkedStream {
        let mut streams = self.streams.iter_mut();
        &mut streams.find(|(other, _)| *other == id).unwrap().1
    }

    fn pick(&mut self, now: Instant) -> Option<SourceId> {
        let ready = self.streams.iter_mut().filter(|(_, stream)| {
            !stream.in_flight
                && stream.due_at.is_none_or(|due_at| due_at <= now)
                && stream.received_at.is_some_and(|at| now - at <= 500 * MS)
        });
        let (id, stream) = ready.min_by_key(|(id, stream)| (stream.served_at, *id))?;
        let interval = stream.min_interval;
        stream.due_at = (!interval.is_zero()).then(|| match stream.due_at {
            Some(due_at) if now - due_at < interval => due_at + interval,
            _ => now + interval,
        });
        stream.served_at = Some(now);
        stream.received_at = None;
        stream.in_flight = true;
        Some(*id)
    }
}

proptest! {
    /// Whatever happens, the ready queue decides as a walk over all streams does, and the ledgers balance.
    #[test]
    fn decisions_are_those_of_a_walk(steps in prop::collection::vec((0..12_u8, 0..6_usize, 0..200_u32), 0..300)) {
        let mut bench = Bench::new();
        let mut walk = Walk::default();
        let mut now = Instant::now();
        let mut jobs = Vec::new();
        let mut books = Vec::new();
        for (step, which, ms) in steps {
            now += ms / 4 * MS;
            let interval = [0, 0, 70, 150, 900, 0][which] * MS;
            let known = walk.streams.get(which).map(|(id, _)| *id);
            match (step, known) {
                (0..=4, Some(id)) => {
                    bench.offer_received_at(now, now, id);
                    walk.stream(id).received_at = Some(now);
                }
                (5..=7, _) => {
                    let job = bench.run(now);
                    prop_assert_eq!(job.as_ref().map(|job| job.source), walk.pick(now));
                    jobs.extend(job.map(|job| (bench.metrics_of(job.source), job)));
                }
                (8 | 9, _) if !jobs.is_empty() => {
                    let (metrics, job) = jobs.swap_remove(which % jobs.len());
                    metrics.frames_inferred.inc();
                    if walk.streams.iter().any(|(id, _)| *id == job.source) {
                        walk.stream(job.source).in_flight = false;
                    }
                    bench.core.finished(job.source, JobEnd::Inferred, job.skipped_frames);
                }
                (10, Some(id)) => {
                    let settings = bench.core.sources[&id].settings.clone();
                    let stream = walk.stream(id);
                    if stream.min_interval != interval {
                        stream.min_interval = interval;
                        stream.due_at = stream.served_at.filter(|_| !interval.is_zero()).map(|at| at + interval);
                    }
                    bench.core.update(id, SourceSettings { min_interval: interval, ..settings });
                }
                (11, Some(id)) if which == 5 => {
                    bench.core.remove(id, FrameDrop::CameraRemoved);
                    walk.streams.remove(which);
                }
                (_, None) => {
                    let id = bench.add(which + 10 * books.len(), interval);
                    let min_interval = interval;
                    walk.streams.push((id, WalkedStream { min_interval, ..WalkedStream::default() }));
                    books.push(bench.metrics_of(id));
                }
                _ => {}
            }
        }
        bench.core.drain(FrameDrop::Shutdown);
        let in_flight: i64 = books.iter().map(|metrics| metrics.ledger().in_flight()[1]).sum();
        prop_assert_eq!(in_flight, i64::try_from(jobs.len()).unwrap());
    }
}
