//! Servers that are late, frozen, killed, busy or broken: what it costs, and when they are used again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use tonic::Code;

use super::super::Availability;
use super::server::{Answer, Running, Script, start, start_at, start_to_return};
use super::{BOTH, Node, config, failure, node, until, url};
use crate::config::ServerProtocol;
use crate::telemetry::ledger::InferenceFailure;

#[test]
fn what_is_late_is_given_up_at_its_deadline_and_what_comes_next_goes_on_at_once() {
    for protocol in BOTH {
        let server = start(protocol);
        let url = url(&server, protocol);
        let mut node = node(&config(vec![url.clone()]));
        node.meet().unwrap();
        node.detect().unwrap();
        server
            .fake
            .set(|script| script.delay = Duration::from_secs(5));
        let started = Instant::now();
        let (kind, text) = failure(node.detect());
        let took = started.elapsed();
        assert!((600..3000).contains(&took.as_millis()), "{took:?}");
        assert_eq!(kind, InferenceFailure::Deadline);
        assert_eq!(
            text,
            format!("model far: {url} has not answered within 600 ms")
        );
        server.fake.set(|script| script.delay = Duration::ZERO);
        node.detect().unwrap();
        assert_eq!(node.requests(&url, "deadline"), 1);
        // The server sees that nobody waits for the late answer.
        until("the server sees it", || {
            server.fake.given_up.load(Ordering::Relaxed) > 0
        });
    }
}

#[test]
fn a_server_that_is_frozen_is_left_and_used_again_within_two_seconds_of_its_return() {
    for protocol in BOTH {
        let server = start(protocol);
        let mut node = node(&config(vec![url(&server, protocol)]));
        node.meet().unwrap();
        node.detect().unwrap();
        let freeze = |is_frozen| server.fake.set(|script| script.is_frozen = is_frozen);
        freeze(true);
        for _ in 0..3 {
            assert_eq!(failure(node.detect()).0, InferenceFailure::Deadline);
        }
        assert!(
            node.away().contains("3 requests in a row"),
            "{}",
            node.away()
        );
        let started = Instant::now();
        assert_eq!(failure(node.detect()).0, InferenceFailure::Unavailable);
        assert!(
            started.elapsed() < node.model().config().deadline,
            "it waits for nobody"
        );
        node.is_away_since("it has not said within 1 s");
        freeze(false);
        node.detect_again();
    }
}

#[test]
fn a_server_that_is_killed_is_used_within_two_seconds_of_its_return() {
    for protocol in BOTH {
        let server = start_to_return(protocol);
        let (address, fake) = (server.address, Arc::clone(&server.fake));
        let mut node = node(&config(vec![url(&server, protocol)]));
        node.meet().unwrap();
        node.detect().unwrap();
        drop(server);
        failure(node.detect());
        // It has been away for so long that it is asked seldom.
        for _ in 0..4 {
            let planned = node.model().ask_at(0);
            until("the server is asked again", || {
                node.model().ask_at(0) != planned
            });
        }
        assert_eq!(failure(node.detect()).0, InferenceFailure::Unavailable);
        let _server = start_at(protocol, address, fake, None);
        node.detect_again();
    }
}

#[test]
fn of_two_servers_one_goes_on_when_the_other_dies_and_both_are_used_when_it_is_back() {
    for protocol in BOTH {
        let (first, second) = (start_to_return(protocol), start(protocol));
        let urls = [url(&first, protocol), url(&second, protocol)];
        let mut node = node(&config(urls.to_vec()));
        // A server has requests if the other one takes longer.
        let slow = |server: &Running, delay_ms| {
            let delay = Duration::from_millis(delay_ms);
            server.fake.set(|script| script.delay = delay);
        };
        let is_used = |node: &mut Node, server: &Running, other: &Running| {
            slow(other, 100);
            let before = server.fake.seen.lock().len();
            until("a server is used", || {
                node.detect().unwrap();
                server.fake.seen.lock().len() > before
            });
            slow(other, 0);
        };
        node.meet().unwrap();
        is_used(&mut node, &first, &second);
        is_used(&mut node, &second, &first);
        let (address, fake) = (first.address, Arc::clone(&first.fake));
        drop(first);
        let failed = (0..60)
            .filter(|_| {
                std::thread::sleep(Duration::from_millis(5));
                node.detect().is_err()
            })
            .count();
        assert!(failed <= 1, "{failed}");
        assert_eq!(node.model().availability(), Availability::Ready);
        let first = start_at(protocol, address, fake, None);
        // It has seen a request as soon as it is tried, and has frames only when it has answered.
        until("the first server is ready", || {
            node.model().facts().servers[0].state == "ready"
        });
        is_used(&mut node, &first, &second);
        drop(second);
        // With the second one gone as well, what is left has all.
        slow(&first, 100);
        until("the second server is away", || {
            let _ = node.detect();
            node.model().facts().servers[1].state == "away"
        });
        slow(&first, 0);
        node.detect().unwrap();
    }
}

#[test]
fn a_server_that_is_ready_and_fails_never_gets_a_frame() {
    for protocol in BOTH {
        let server = start(protocol);
        let fails = Answer::Error(
            Code::Internal,
            StatusCode::INTERNAL_SERVER_ERROR,
            "out of memory",
        );
        server.fake.set(|script| script.answer = fails);
        let url = url(&server, protocol);
        let mut node = node(&config(vec![url.clone()]));
        until("the server is tried for the third time", || {
            assert_eq!(failure(node.detect()).0, InferenceFailure::Unavailable);
            server.fake.seen.lock().len() >= 3
        });
        node.is_away_since("out of memory");
        assert_eq!(node.requests(&url, "answer"), 0);
        server.fake.set(|script| *script = Script::default());
        node.detect_again();
    }
}

#[test]
fn a_server_that_has_too_much_to_do_is_not_left_for_that_at_once() {
    for protocol in BOTH {
        let server = start(protocol);
        let mut node = node(&config(vec![url(&server, protocol)]));
        node.meet().unwrap();
        node.detect().unwrap();
        let busy = Answer::Error(
            Code::ResourceExhausted,
            StatusCode::TOO_MANY_REQUESTS,
            "later",
        );
        for _ in 0..2 {
            server.fake.set(|script| script.answer = busy.clone());
            let (kind, text) = failure(node.detect());
            assert_eq!(kind, InferenceFailure::Unavailable);
            assert!(text.contains("later"), "{text}");
            assert_eq!(node.model().availability(), Availability::Ready);
            server.fake.set(|script| *script = Script::default());
            node.detect().unwrap();
        }
        server.fake.set(|script| script.answer = busy);
        for _ in 0..3 {
            failure(node.detect());
        }
        assert!(node.away().contains("later"));
    }
}

#[test]
fn workers_in_parallel_are_bounded_by_the_slots_that_are_measured() {
    let server = start(ServerProtocol::Grpc);
    server
        .fake
        .set(|script| script.delay = Duration::from_millis(30));
    let node = node(&config(vec![url(&server, ServerProtocol::Grpc)]));
    node.meet().unwrap();
    assert_eq!(node.model().slots(), 1);
    let until = Instant::now() + Duration::from_secs(20);
    let most = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut worker = Node {
                    model: node.model.clone(),
                    detector: node.model.as_ref().unwrap().detector(),
                    metrics: Arc::clone(&node.metrics),
                    runtime: None,
                };
                while Instant::now() < until && most.load(Ordering::Relaxed) < 3 {
                    let (facts, slots) = (worker.model().facts(), worker.model().slots());
                    if facts.in_flight >= slots {
                        std::thread::sleep(Duration::from_micros(300));
                        continue;
                    }
                    worker.detect().unwrap();
                    most.fetch_max(slots, Ordering::Relaxed);
                }
            });
        }
    });
    // The server takes any number at once, so that more slots are worth it.
    assert!(most.load(Ordering::Relaxed) >= 3);
}
