use proptest::prelude::*;

use super::*;

const LIMIT: Duration = Duration::from_millis(500);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn ticket(servers: &mut Servers) -> Ticket {
    servers.pick().expect("a server is there")
}

fn answered(latency: u64) -> Outcome {
    Outcome::Answered {
        latency: ms(latency),
    }
}

fn is_away(servers: &Servers, index: usize) -> bool {
    matches!(servers.servers[index].state, ServerState::Away { .. })
}

/// Servers that have all answered a trial.
fn ready(count: usize, now: Instant) -> Servers {
    let mut servers = Servers::new(count, now);
    for index in 0..count {
        servers.asked(index, Ok(Proof::Tried), now);
        let ticket = ticket(&mut servers);
        servers.done(ticket, answered(20), now);
    }
    servers
}

#[test]
fn nothing_goes_to_a_server_before_it_has_the_model_ready() {
    let now = Instant::now();
    let mut servers = Servers::new(2, now);
    assert_eq!(servers.ask_at(0), now);
    assert_eq!(servers.pick(), None);
    servers.asked(0, Err("no such model".to_owned()), now);
    assert_eq!(servers.ask_at(0), now + ms(250));
    assert!(!servers.any_usable() && !servers.all_known());
    servers.asked(0, Ok(Proof::Tried), now);
    assert!(servers.any_usable() && !servers.all_known());
    let two = [ticket(&mut servers), ticket(&mut servers)];
    assert_eq!((two[0].server, two[1].server), (0, 0));
    assert_eq!(servers.in_flight(), 2);
    for ticket in two {
        servers.done(ticket, answered(20), now);
    }
    assert_eq!(servers.in_flight(), 0);
    servers.asked(1, Ok(Proof::Tried), now);
    assert!(servers.all_known());
}

#[test]
fn a_server_that_has_too_much_to_do_is_left_only_if_it_says_so_three_times() {
    let now = Instant::now();
    let mut servers = ready(1, now);
    let busy = || Outcome::Busy {
        reason: "too many".to_owned(),
    };
    for outcome in [busy(), busy(), answered(20), busy(), busy()] {
        let ticket = ticket(&mut servers);
        servers.done(ticket, outcome, now);
        assert!(!is_away(&servers, 0));
    }
    let ticket = ticket(&mut servers);
    servers.done(ticket, busy(), now);
    assert!(is_away(&servers, 0));
}

#[test]
fn requests_go_where_the_fewest_are_and_then_where_it_is_fastest() {
    let now = Instant::now();
    let mut servers = ready(3, now);
    servers.servers[1].latency = Some(ms(10));
    let picked: Vec<usize> = (0..4).map(|_| ticket(&mut servers).server).collect();
    assert_eq!(picked, [1, 0, 2, 1]);
}

#[test]
fn a_server_that_fails_is_left_at_once_and_one_that_is_late_after_three_times() {
    let now = Instant::now();
    let mut servers = ready(2, now);
    let late = |servers: &mut Servers| {
        let ticket = Ticket {
            server: 0,
            era: servers.servers[0].era,
        };
        servers.servers[0].in_flight += 1;
        servers.done(ticket, Outcome::Deadline { limit: LIMIT }, now);
    };
    late(&mut servers);
    late(&mut servers);
    assert!(!is_away(&servers, 0));
    late(&mut servers);
    assert!(is_away(&servers, 0));
    let on_the_way = ticket(&mut servers);
    let fails = ticket(&mut servers);
    assert_eq!((on_the_way.server, fails.server), (1, 1));
    let reason = "the connection broke".to_owned();
    servers.done(
        fails,
        Outcome::Failed {
            reason: reason.clone(),
        },
        now,
    );
    assert!(is_away(&servers, 1));
    // What was under way says nothing any more, good or bad.
    servers.done(on_the_way, answered(20), now);
    assert_eq!(servers.pick(), None);
    assert_eq!(servers.in_flight(), 0);
    assert!(
        matches!(&servers.servers[1].state, ServerState::Away { reason: told, .. } if *told == reason)
    );
}

#[test]
fn it_is_asked_more_and_more_seldom_down_to_twice_a_second_and_soon_again_after_an_answer() {
    let now = Instant::now();
    let mut servers = ready(1, now);
    let waits: Vec<Duration> = (0..5)
        .map(|_| {
            servers.asked(0, Err("refused".to_owned()), now);
            servers.ask_at(0) - now
        })
        .collect();
    assert_eq!(waits, [250, 500, 500, 500, 500].map(ms));
    servers.asked(0, Ok(Proof::Tried), now);
    let trial = ticket(&mut servers);
    servers.done(trial, answered(20), now);
    assert_eq!(servers.ask_at(0), now + CHECK_AFTER);
    servers.asked(0, Err("unloaded".to_owned()), now);
    assert_eq!(servers.ask_at(0) - now, ms(250));
}

#[test]
fn a_server_that_is_in_time_with_trials_and_late_with_frames_costs_one_frame_each_time() {
    let now = Instant::now();
    let mut servers = ready(1, now);
    servers.asked(0, Err("refused".to_owned()), now);
    let waits: Vec<Duration> = (0..4)
        .map(|_| {
            servers.asked(0, Ok(Proof::Tried), now);
            let first = ticket(&mut servers);
            servers.done(first, Outcome::Deadline { limit: LIMIT }, now);
            assert!(is_away(&servers, 0), "nobody waits for a second one");
            servers.ask_at(0) - now
        })
        .collect();
    assert_eq!(
        waits,
        [500, 500, 500, 500].map(ms),
        "a trial proves too little to ask sooner"
    );
    let ServerState::Away { reason, .. } = &servers.servers[0].state else {
        unreachable!();
    };
    assert_eq!(
        reason,
        "it has left the first request after a trial without an answer for 500 ms"
    );
    // The same for one that says that it has too much to do; and one that answers has the patience of all again.
    servers.asked(0, Ok(Proof::Tried), now);
    let first = ticket(&mut servers);
    let busy = Outcome::Busy {
        reason: "too many".to_owned(),
    };
    servers.done(first, busy, now);
    assert!(is_away(&servers, 0));
    servers.asked(0, Ok(Proof::Tried), now);
    let first = ticket(&mut servers);
    servers.done(first, answered(20), now);
    let late = ticket(&mut servers);
    servers.done(late, Outcome::Deadline { limit: LIMIT }, now);
    assert!(!is_away(&servers, 0));
}

#[test]
fn one_frame_decides_on_a_server_that_returns_while_another_is_there() {
    let now = Instant::now();
    let mut servers = ready(2, now);
    servers.asked(1, Err("refused".to_owned()), now);
    servers.asked(1, Ok(Proof::Tried), now);
    let four = [(); 4].map(|()| ticket(&mut servers));
    assert_eq!(four.map(|ticket| ticket.server), [1, 0, 0, 0]);
    assert!(!servers.is_of_ready(four[0]) && servers.is_of_ready(four[1]));
    // One that was given up has decided nothing.
    servers.done(four[0], Outcome::Abandoned, now);
    let again = ticket(&mut servers);
    assert_eq!((again.server, ticket(&mut servers).server), (1, 0));
    // Where no other is left, all go there.
    servers.asked(0, Err("refused".to_owned()), now);
    assert_eq!(ticket(&mut servers).server, 1);
    assert!(!servers.is_of_ready(four[1]), "it was left");
    servers.done(again, answered(20), now);
    assert!(servers.is_of_ready(again));
}

#[test]
fn a_server_that_was_left_while_it_said_that_it_is_ready_has_to_answer_a_trial() {
    let now = Instant::now();
    let mut servers = ready(1, now);
    // The question is under way while a frame fails.
    let fails = ticket(&mut servers);
    servers.done(
        fails,
        Outcome::Failed {
            reason: "the connection broke".to_owned(),
        },
        now,
    );
    servers.asked(0, Ok(Proof::Said), now);
    assert!(is_away(&servers, 0));
    assert_eq!(servers.ask_at(0), now + ms(250));
    servers.asked(0, Ok(Proof::Tried), now);
    assert!(!is_away(&servers, 0));
}

#[test]
fn a_server_that_was_slow_is_tried_again_once_that_is_long_ago() {
    let mut now = Instant::now();
    let mut servers = ready(2, now);
    servers.servers[1].latency = Some(ms(400));
    let serve = |servers: &mut Servers, latency, now| {
        let ticket = ticket(servers);
        servers.done(ticket, answered(latency), now);
        ticket.server
    };
    for _ in 0..60 {
        now += ms(100);
        assert_eq!(serve(&mut servers, 20, now), 0);
        if servers.ask_at(1) <= now {
            break;
        }
    }
    servers.asked(1, Ok(Proof::Said), now);
    // What is told of it stays until there is something new, of which what was is no part.
    assert_eq!(servers.servers[1].latency(), Some(ms(400)));
    assert_eq!(serve(&mut servers, 10, now), 1);
    assert_eq!(servers.servers[1].latency(), Some(ms(10)));
    assert_eq!(serve(&mut servers, 10, now), 1);
    // One of which something was heard while it was asked is known well enough.
    servers.asked(0, Ok(Proof::Said), now);
    assert_eq!(serve(&mut servers, 10, now), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Pick,
    Done(usize, u8),
    Asked(usize, bool),
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Pick),
        4 => (any::<usize>(), 0..4u8).prop_map(|(which, how)| Step::Done(which, how)),
        2 => (0..3usize, any::<bool>()).prop_map(|(index, ok)| Step::Asked(index, ok)),
        1 => (0..2000u16).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_no_request_goes_to_a_server_that_is_away_and_every_one_is_counted(
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let mut now = Instant::now();
        let mut servers = Servers::new(3, now);
        let mut open: Vec<Ticket> = Vec::new();
        for step in steps {
            match step {
                Step::Pick => {
                    let is_away: Vec<bool> = (0..3).map(|index| servers.is_away(index)).collect();
                    match servers.pick() {
                        Some(ticket) => {
                            prop_assert!(!is_away[ticket.server]);
                            open.push(ticket);
                        }
                        None => prop_assert!(!servers.any_usable()),
                    }
                }
                Step::Done(which, how) if !open.is_empty() => {
                    let ticket = open.swap_remove(which % open.len());
                    let outcome = match how {
                        0 => answered(20),
                        1 => Outcome::Deadline { limit: LIMIT },
                        2 => Outcome::Failed { reason: "x".to_owned() },
                        _ => Outcome::Abandoned,
                    };
                    servers.done(ticket, outcome, now);
                }
                Step::Done(..) => {}
                Step::Asked(index, ok) => {
                    servers.asked(index, if ok { Ok(Proof::Tried) } else { Err("y".to_owned()) }, now);
                }
                Step::Wait(time) => now += ms(u64::from(time)),
            }
            prop_assert_eq!(servers.in_flight(), open.len());
            for server in servers.all() {
                if let ServerState::Away { ask_at, .. } = server.state {
                    prop_assert!(ask_at <= now + LONGEST_WAIT);
                }
            }
        }
    }

    /// A worker sends a frame each 50 ms; a server goes and comes back at any times, and is asked when it is due.
    #[test]
    fn a_server_that_is_back_is_used_within_two_seconds(
        changes in proptest::collection::vec(100..5000u64, 1..20),
    ) {
        let start = Instant::now();
        let mut servers = ready(1, start);
        let (mut is_up, mut now, mut back_at) = (true, start, None);
        let mut next_change = start + ms(changes[0]);
        let mut changes = changes[1..].iter();
        loop {
            now += ms(50);
            if now >= next_change {
                is_up = !is_up;
                back_at = is_up.then_some(now);
                match changes.next() {
                    Some(&wait) => next_change = now + ms(wait),
                    None => break,
                }
            }
            if servers.ask_at(0) <= now {
                servers.asked(0, if is_up { Ok(Proof::Tried) } else { Err("refused".to_owned()) }, now);
            }
            if let Some(ticket) = servers.pick() {
                let outcome = match is_up {
                    true => answered(20),
                    false => Outcome::Failed { reason: "refused".to_owned() },
                };
                servers.done(ticket, outcome, now);
                if is_up {
                    back_at = None;
                }
            }
            prop_assert!(back_at.is_none_or(|back_at| now < back_at + Duration::from_secs(2)));
        }
    }
}
