//! The limit against simulated servers, in simulated time.

use proptest::prelude::*;

use super::*;

const DEADLINE: Duration = Duration::from_secs(5);

/// How often the pool fetches the number of slots, if the node has time for it, and if it is busy.
const FETCHES_MS: [f64; 2] = [250.0, 700.0];

/// How a simulated server works.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// So many requests at once, each of which takes so many milliseconds.
    Places { places: usize, each_ms: f64 },
    /// One batch at a time of what waits, up to so many. A batch takes `base_ms` and `each_ms` for each request.
    Batches {
        most: usize,
        base_ms: f64,
        each_ms: f64,
    },
}

/// A server, requests that wait at it, those that it works on with their ends, and the pool that makes them.
struct Simulation {
    kind: Kind,
    now_ms: f64,
    /// How often the pool fetches the number of slots, when it does next, and what it has.
    fetch_each_ms: f64,
    fetch_at_ms: f64,
    slots: usize,
    waiting: Vec<f64>,
    /// The end and the start of each.
    working: Vec<(f64, f64)>,
    random: u64,
    answers: usize,
}

impl Simulation {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            now_ms: 0.0,
            fetch_each_ms: FETCHES_MS[0],
            fetch_at_ms: 0.0,
            slots: 1,
            waiting: Vec::new(),
            working: Vec::new(),
            random: 1,
            answers: 0,
        }
    }

    /// A number from 0.9 to 1.1.
    fn jitter(&mut self) -> f64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        0.9 + 0.2 * (u32::try_from(self.random >> 33).unwrap() as f64 / f64::from(u32::MAX >> 1))
    }

    fn work(&mut self) {
        match self.kind {
            Kind::Places { places, each_ms } => {
                while self.working.len() < places && !self.waiting.is_empty() {
                    let started = self.waiting.remove(0);
                    let takes = each_ms * self.jitter();
                    self.working.push((self.now_ms + takes, started));
                }
            }
            Kind::Batches {
                most,
                base_ms,
                each_ms,
            } => {
                if self.working.is_empty() && !self.waiting.is_empty() {
                    let batch: Vec<f64> =
                        self.waiting.drain(..self.waiting.len().min(most)).collect();
                    let takes = (base_ms + each_ms * batch.len() as f64) * self.jitter();
                    self.working.extend(
                        batch
                            .into_iter()
                            .map(|started| (self.now_ms + takes, started)),
                    );
                }
            }
        }
    }

    /// Goes on to the next answer, and says how long that took from the request.
    fn next_answer(&mut self) -> f64 {
        self.work();
        let ends = self.working.iter().enumerate();
        let (index, _) = ends.min_by(|a, b| a.1.0.total_cmp(&b.1.0)).unwrap();
        let (end, started) = self.working.remove(index);
        self.now_ms = self.now_ms.max(end);
        self.answers += 1;
        end - started
    }
}

fn at(start: Instant, ms: f64) -> Instant {
    start + Duration::from_secs_f64(ms / 1000.0)
}

/// Runs with all slots in use for so long.
fn run(limit: &mut Limit, simulation: &mut Simulation, start: Instant, for_ms: f64) {
    run_with(usize::MAX, limit, simulation, start, for_ms);
}

/// The same with so many cameras, each of which has one request under way at most.
fn run_with(
    cameras: usize,
    limit: &mut Limit,
    simulation: &mut Simulation,
    start: Instant,
    for_ms: f64,
) {
    let until = simulation.now_ms + for_ms;
    while simulation.now_ms < until {
        if simulation.now_ms >= simulation.fetch_at_ms {
            simulation.slots = limit.fetch(at(start, simulation.now_ms));
            simulation.fetch_at_ms += simulation.fetch_each_ms;
        }
        while limit.in_flight < simulation.slots.min(cameras) {
            limit.started(at(start, simulation.now_ms));
            simulation.waiting.push(simulation.now_ms);
        }
        let latency = simulation.next_answer();
        limit.answered(
            Duration::from_secs_f64(latency / 1000.0),
            at(start, simulation.now_ms),
        );
    }
}

/// Answers a second with a fixed number under way.
fn rate(kind: Kind, slots: usize) -> f64 {
    let mut simulation = Simulation::new(kind);
    let mut in_flight = 0;
    while simulation.now_ms < 60_000.0 {
        for _ in in_flight..slots {
            simulation.waiting.push(simulation.now_ms);
        }
        simulation.next_answer();
        in_flight = slots - 1;
    }
    simulation.answers as f64 / 60.0
}

/// The number that is mostly found, and what is enough of the most by a long measurement. A single search may be misled by chance until
/// the next comparison.
fn found(kind: Kind, most: usize) -> (usize, usize) {
    let rates: Vec<f64> = (1..=most).map(|slots| rate(kind, slots)).collect();
    let best = rates.iter().copied().fold(0.0, f64::max);
    let smallest = 1 + rates.iter().position(|rate| *rate >= 0.95 * best).unwrap();
    let mut found = [1, 2, 3, 4, 5].map(|random| {
        let mut limit = Limit::new(most, DEADLINE);
        let mut simulation = Simulation {
            random,
            ..Simulation::new(kind)
        };
        run(&mut limit, &mut simulation, Instant::now(), 60_000.0);
        let slots = limit.slots();
        assert!(
            rates[slots - 1] >= 0.93 * best,
            "{kind:?}: {slots} slots give {} of {best}",
            rates[slots - 1]
        );
        slots
    });
    found.sort_unstable();
    (found[2], smallest)
}

#[test]
fn as_many_as_the_server_has_places() {
    for places in [1, 2, 3, 4, 7, 11] {
        let (slots, smallest) = found(
            Kind::Places {
                places,
                each_ms: 25.0,
            },
            16,
        );
        assert!(
            slots.abs_diff(smallest) <= 1,
            "{places} places: {slots}, and {smallest} would do"
        );
    }
}

#[test]
fn as_many_as_fill_the_batches() {
    for (most, base_ms, each_ms) in [
        (8, 20.0, 5.0),
        (4, 10.0, 1.0),
        (1, 10.0, 10.0),
        (16, 40.0, 1.0),
    ] {
        let (slots, smallest) = found(
            Kind::Batches {
                most,
                base_ms,
                each_ms,
            },
            16,
        );
        assert!(
            slots <= smallest + 2,
            "batches of {most}: {slots}, and {smallest} would do"
        );
    }
}

#[test]
fn a_server_that_becomes_another_is_measured_anew() {
    let start = Instant::now();
    let mut limit = Limit::new(16, DEADLINE);
    let mut simulation = Simulation::new(Kind::Places {
        places: 6,
        each_ms: 25.0,
    });
    run(&mut limit, &mut simulation, start, 60_000.0);
    assert!((5..=7).contains(&limit.slots()), "{}", limit.slots());
    simulation.kind = Kind::Places {
        places: 2,
        each_ms: 25.0,
    };
    run(&mut limit, &mut simulation, start, 60_000.0);
    assert!((2..=3).contains(&limit.slots()), "{}", limit.slots());
    simulation.kind = Kind::Places {
        places: 6,
        each_ms: 25.0,
    };
    run(&mut limit, &mut simulation, start, 120_000.0);
    assert!((5..=7).contains(&limit.slots()), "{}", limit.slots());
}

#[test]
fn more_slots_than_cameras_do_not_stay() {
    let slots = |cameras: usize, places: usize| {
        let mut limit = Limit::new(16, DEADLINE);
        let each_ms = 25.0;
        let mut simulation = Simulation::new(Kind::Places { places, each_ms });
        run_with(
            cameras,
            &mut limit,
            &mut simulation,
            Instant::now(),
            60_000.0,
        );
        limit.slots()
    };
    // More than the places would wait at the server, although there are cameras for it.
    for cameras in [3, 4, 5, 7] {
        assert!(
            (2..=3).contains(&slots(cameras, 2)),
            "{cameras}: {}",
            slots(cameras, 2)
        );
    }
    // And all that the cameras have may be under way where the server has the places.
    assert!(slots(5, 8) >= 5, "{}", slots(5, 8));
}

#[test]
fn nothing_is_measured_while_cameras_want_less_than_the_server_gives() {
    let start = Instant::now();
    let mut limit = Limit::new(16, DEADLINE);
    limit.fetch(start);
    // One request of 25 ms in each 100 ms.
    for n in 0..1000 {
        let begin = f64::from(n) * 100.0;
        limit.started(at(start, begin));
        limit.answered(Duration::from_millis(25), at(start, begin + 25.0));
    }
    assert_eq!(limit.slots(), 1);
}

#[test]
fn a_deadline_takes_slots_away_at_once_and_once_for_all_that_were_under_way() {
    let start = Instant::now();
    let mut limit = Limit::new(16, DEADLINE);
    run(
        &mut limit,
        &mut Simulation::new(Kind::Places {
            places: 8,
            each_ms: 25.0,
        }),
        start,
        60_000.0,
    );
    let before = limit.slots();
    assert!(before >= 7, "{before}");
    let now = at(start, 61_000.0);
    for _ in 0..before {
        limit.deadline(at(start, 60_500.0), now);
    }
    assert_eq!(limit.slots(), before * 3 / 4);
    // Those that were started by a pool that does not know of it yet say nothing either.
    limit.deadline(now, at(start, 61_100.0));
    assert_eq!(limit.fetch(at(start, 61_200.0)), before * 3 / 4);
    limit.deadline(at(start, 61_100.0), at(start, 61_700.0));
    assert_eq!(limit.slots(), before * 3 / 4);
    // Those that were started with fewer slots count again.
    limit.deadline(at(start, 61_200.0), at(start, 62_000.0));
    assert_eq!(limit.slots(), before * 3 / 4 * 3 / 4);
    for n in 0..20 {
        let now = at(start, 63_000.0 + f64::from(n));
        limit.fetch(now);
        limit.deadline(now, now);
    }
    assert_eq!(limit.slots(), 1);
}

#[test]
fn a_deadline_takes_slots_from_the_number_that_was_obeyed() {
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let obeying = |slots| {
        let mut limit = Limit::new(16, DEADLINE);
        limit.set(slots);
        assert_eq!(limit.fetch(now), slots);
        limit
    };
    // It was about to be more.
    let mut limit = obeying(8);
    limit.set(12);
    limit.deadline(now, later);
    assert_eq!(limit.slots(), 6);
    assert_eq!(limit.ceiling.map(|(slots, _)| slots), Some(6));
    let mut limit = obeying(1);
    limit.set(2);
    limit.deadline(now, later);
    assert_eq!((limit.slots(), limit.ceiling), (1, None));
    // It was about to be fewer, which may be few enough.
    let mut limit = obeying(12);
    limit.set(6);
    limit.deadline(now, later);
    assert_eq!(limit.fetch(later), 6);
    limit.deadline(now, later);
    assert_eq!(limit.slots(), 6, "one of the twelve");
    limit.deadline(later, later + DEADLINE);
    assert_eq!(limit.slots(), 4, "one of the six");
}

#[test]
fn a_server_whose_answers_come_near_to_the_deadline_gets_fewer() {
    // With 8 under way, of which one is worked on at a time, an answer takes 8 times 60 ms.
    let mut limit = Limit::new(16, Duration::from_millis(400));
    let kind = Kind::Batches {
        most: 16,
        base_ms: 10.0,
        each_ms: 50.0,
    };
    run(
        &mut limit,
        &mut Simulation::new(kind),
        Instant::now(),
        120_000.0,
    );
    assert!(limit.slots() <= 3, "{}", limit.slots());
}

#[test]
fn a_number_is_measured_from_when_the_pool_has_it() {
    let start = Instant::now();
    let mut limit = Limit::new(16, Duration::from_millis(400));
    assert_eq!(limit.fetch(start), 1);
    let mut now_ms = 0.0;
    // So many requests under way, whose answers come one after the other.
    let rounds = |limit: &mut Limit, now_ms: &mut f64, under_way: usize, latency_ms: f64| {
        for _ in 0..100 {
            while limit.in_flight < under_way {
                limit.started(at(start, *now_ms));
            }
            *now_ms += latency_ms / f64::from(u32::try_from(under_way).unwrap());
            let latency = Duration::from_secs_f64(latency_ms / 1000.0);
            limit.answered(latency, at(start, *now_ms));
        }
    };
    rounds(&mut limit, &mut now_ms, 1, 25.0);
    assert_eq!(limit.slots(), 2);
    // The pool has one request under way at a time, which is not for want of cameras.
    rounds(&mut limit, &mut now_ms, 1, 25.0);
    assert_eq!(limit.search, Search::Climbing { misses: 0 });
    assert_eq!(limit.fetch(at(start, now_ms)), 2);
    rounds(&mut limit, &mut now_ms, 2, 25.0);
    assert_eq!(limit.slots(), 3);
    assert_eq!(limit.fetch(at(start, now_ms)), 3);
    // With three of them the answers come near to the deadline, which takes slots away once: the pool goes on with three for a while.
    rounds(&mut limit, &mut now_ms, 3, 300.0);
    assert_eq!(limit.slots(), 2);
    assert_eq!(limit.fetch(at(start, now_ms)), 2);
    for _ in 0..2 {
        limit.answered(Duration::from_millis(300), at(start, now_ms));
    }
    rounds(&mut limit, &mut now_ms, 2, 25.0);
    let ceiling = limit.ceiling.map(|(slots, _)| slots);
    assert_eq!(ceiling, Some(2), "no answer from before it counts");
}

#[test]
fn a_pool_that_fetches_the_number_late_gets_the_same() {
    for fetch_each_ms in FETCHES_MS {
        for places in [1, 4, 8] {
            let (mut limit, start) = (Limit::new(16, DEADLINE), Instant::now());
            let each_ms = 25.0;
            let mut simulation = Simulation::new(Kind::Places { places, each_ms });
            simulation.fetch_each_ms = fetch_each_ms;
            run(&mut limit, &mut simulation, start, 40_000.0);
            assert!(
                limit.slots().abs_diff(places) <= 1,
                "{places} places, fetched each {fetch_each_ms} ms: {}",
                limit.slots()
            );
        }
    }
}

proptest! {
    #[test]
    fn after_a_deadline_there_are_no_more_slots_than_there_were(
        steps in proptest::collection::vec((0..4u8, 1..=16usize), 0..100),
    ) {
        let mut now = Instant::now();
        let mut limit = Limit::new(16, DEADLINE);
        for (step, slots) in steps {
            let started = now;
            now += Duration::from_millis(100);
            match step {
                // The search may go to any number.
                0 => limit.set(slots),
                1 => {
                    limit.fetch(now);
                }
                2 => limit.deadline(started, now),
                _ => {
                    limit.deadline(now, now);
                    prop_assert!(limit.slots() <= limit.fetched);
                }
            }
            prop_assert!((1..=16).contains(&limit.slots()));
        }
    }

    #[test]
    fn whatever_happens_there_is_one_slot_at_least_and_no_more_than_the_most(
        most in 1usize..20,
        steps in proptest::collection::vec((0..5u8, 0..300u64), 0..400),
    ) {
        let mut now = Instant::now();
        let mut limit = Limit::new(most, Duration::from_millis(200));
        for (step, ms) in steps {
            let started = now;
            now += Duration::from_millis(ms);
            match step {
                0 => limit.started(now),
                1 => limit.answered(Duration::from_millis(ms), now),
                2 => limit.failed(now),
                3 => {
                    limit.fetch(now);
                }
                _ => limit.deadline(started, now),
            }
            prop_assert!((1..=most).contains(&limit.slots()));
        }
    }
}
