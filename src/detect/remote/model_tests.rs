//! What the state of a model makes of how requests end, in simulated time.

use super::*;

const DEADLINE: Duration = Duration::from_secs(1);

fn state(servers: usize, now: Instant) -> State {
    State {
        servers: Servers::new(servers, now),
        limit: Limit::new(16, DEADLINE),
        fits: vec![None; servers],
        told: vec![Told::default(); servers],
        frame_bytes: 0,
    }
}

/// Starts so many requests, and gives them with their servers.
fn start(state: &mut State, count: usize, now: Instant) -> Vec<Ticket> {
    let start = |_| {
        state.limit.started(now);
        state.servers.pick().expect("a server is there")
    };
    (0..count).map(start).collect()
}

/// All slots of the first server are used until there are so many, since each answer takes as long with more of them.
fn climb(state: &mut State, slots: usize, mut now: Instant) -> Instant {
    let latency = Duration::from_millis(25);
    state.servers.asked(0, Ok(Proof::Tried), now);
    for _ in 0..1000 {
        let fetched = state.limit.fetch(now);
        if fetched >= slots {
            return now;
        }
        let tickets = start(state, fetched, now);
        let started_at = now;
        now += latency;
        for ticket in tickets {
            state.done(ticket, Outcome::Answered { latency }, started_at, now);
        }
    }
    panic!("there are only {} slots", state.limit.slots());
}

#[test]
fn a_server_that_comes_and_goes_takes_nothing_from_the_one_that_works() {
    let busy = || Outcome::Busy {
        reason: "too many".to_owned(),
    };
    let late = || Outcome::Deadline { limit: DEADLINE };
    for outcome in [&busy as &dyn Fn() -> Outcome, &late] {
        let begin = Instant::now();
        let mut state = state(2, begin);
        let mut now = climb(&mut state, 4, begin);
        for _ in 0..10 {
            state.servers.asked(1, Ok(Proof::Tried), now);
            let started_at = now;
            let tickets = start(&mut state, 4, now);
            let picked: Vec<usize> = tickets.iter().map(|ticket| ticket.server).collect();
            assert_eq!(picked, [1, 0, 0, 0], "one frame decides");
            now += Duration::from_millis(25);
            let latency = now - started_at;
            for ticket in &tickets[1..] {
                state.done(*ticket, Outcome::Answered { latency }, started_at, now);
            }
            now += DEADLINE;
            state.done(tickets[0], outcome(), started_at, now);
            assert!(state.servers.is_away(1));
            assert!(state.limit.fetch(now) >= 4, "{}", state.limit.slots());
        }
    }
}

#[test]
fn what_was_under_way_at_a_server_that_was_left_takes_no_slots_away() {
    let begin = Instant::now();
    let mut state = state(1, begin);
    let now = climb(&mut state, 4, begin);
    let tickets = start(&mut state, 4, now);
    let reason = "the connection broke".to_owned();
    state.done(tickets[0], Outcome::Failed { reason }, now, now);
    let later = now + DEADLINE;
    for ticket in &tickets[1..] {
        state.done(*ticket, Outcome::Deadline { limit: DEADLINE }, now, later);
    }
    assert!(state.limit.slots() >= 4, "{}", state.limit.slots());
    // That of a server which works does.
    state.servers.asked(0, Ok(Proof::Tried), later);
    let tickets = start(&mut state, 2, later);
    let latency = Duration::from_millis(25);
    let answered = Outcome::Answered { latency };
    state.done(tickets[0], answered, later, later + latency);
    let before = state.limit.fetch(later);
    let late = Outcome::Deadline { limit: DEADLINE };
    state.done(tickets[1], late, later, later + DEADLINE);
    assert!(state.limit.slots() < before);
}
