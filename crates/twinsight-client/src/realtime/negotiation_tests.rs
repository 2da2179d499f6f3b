//! The negotiation with simulated time.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn drain(machine: &mut Negotiation) -> Vec<Output> {
    std::iter::from_fn(|| machine.poll()).collect()
}

fn envelope(signal: Signal, peer_id: Option<&str>) -> Input {
    Input::Signal(SignalEnvelope {
        signal,
        peer_id: peer_id.map(str::to_owned),
    })
}

/// A description, or one of an ICE generation and nothing else.
fn sdp(text: &str) -> Description {
    if text.starts_with("v=0") {
        return Description::parse(text).unwrap();
    }
    Description::parse(&format!("v=0\r\na=ice-ufrag:{text}\r\n")).unwrap()
}

fn offer(ufrag: &str) -> Signal {
    Signal::Offer { sdp: sdp(ufrag) }
}

fn answer() -> Signal {
    Signal::Answer { sdp: sdp("0") }
}

fn candidate(n: usize) -> Signal {
    let candidate = format!("candidate:{n}");
    Signal::Ice(Candidate {
        candidate,
        sdp_mid: None,
        sdp_mline_index: None,
        username_fragment: None,
    })
}

/// An initiator whose first offer is out, and its `peerId`.
fn offered(now: Instant) -> (Negotiation, String) {
    let mut machine = Negotiation::new(Role::Initiator);
    machine.handle(now, Input::HubJoined);
    assert_eq!(
        drain(&mut machine),
        [
            Output::Progress(Progress::Attempting(Attempt(1))),
            Output::Offer(Attempt(1))
        ]
    );
    machine.handle(now, Input::Described(Attempt(1), sdp("0")));
    let outputs = drain(&mut machine);
    let [Output::Send(Signal::Offer { .. }, Some(peer_id))] = outputs.as_slice() else {
        panic!("{outputs:?}")
    };
    (machine, peer_id.clone())
}

/// Lets the next attempt begin and brings its offer out.
fn offer_again(machine: &mut Negotiation, now: Instant, attempt: Attempt) {
    machine.handle_timeout(now);
    assert!(
        drain(machine).contains(&Output::Offer(attempt)),
        "{attempt:?}"
    );
    machine.handle(now, Input::Described(attempt, sdp("0")));
    drain(machine);
}

fn answer_of(text: &str) -> Signal {
    Signal::Answer { sdp: sdp(text) }
}

#[test]
fn a_camera_that_answers_late_is_given_more_time() {
    let start = Instant::now();
    let (mut machine, peer_id) = offered(start);
    let second = start + ANSWER_LIMIT;
    machine.handle_timeout(second);
    offer_again(&mut machine, second, Attempt(2));
    // The answer to the first attempt is taken for the second's, until the second's own comes.
    let at = start + 6 * SECOND;
    machine.handle(at, envelope(answer_of("first"), Some(&peer_id)));
    machine.handle(at, envelope(answer_of("first"), Some(&peer_id)));
    assert_eq!(
        drain(&mut machine),
        [
            Output::AcceptAnswer(Attempt(2), sdp("first")),
            Output::Refused(SignalRefusal::Unexpected),
        ],
        "an echo is no second answer"
    );
    let at = start + 10 * SECOND;
    machine.handle(at, envelope(answer_of("second"), Some(&peer_id)));
    assert!(
        drain(&mut machine).contains(&Output::Progress(Progress::Over(
            Attempt(2),
            EndReason::Unanswered
        )))
    );
    offer_again(&mut machine, at, Attempt(3));
    let answered = at + 6 * SECOND;
    machine.handle_timeout(answered);
    machine.handle(answered, envelope(answer_of("third"), Some(&peer_id)));
    assert_eq!(
        drain(&mut machine),
        [Output::AcceptAnswer(Attempt(3), sdp("third"))],
        "six seconds are within the new limit"
    );
    machine.handle(answered, Input::Connected(Attempt(3)));
    assert_eq!(machine.answer_limit, 2 * ANSWER_LIMIT, "still slow");
    // Quick renegotiation: the limit is the usual one, so that it is met at once when it returns.
    machine.handle(answered, Input::Ended(Attempt(3), EndReason::Closed));
    drain(&mut machine);
    let at = answered + 10 * SECOND;
    offer_again(&mut machine, at, Attempt(4));
    machine.handle(at + SECOND, envelope(answer_of("fourth"), Some(&peer_id)));
    machine.handle(at + SECOND, Input::Connected(Attempt(4)));
    assert_eq!(machine.answer_limit, ANSWER_LIMIT);
}

#[test]
fn two_cameras_with_one_twin_id_do_not_begin_anew_for_ever() {
    let now = Instant::now();
    let (mut machine, peer_id) = offered(now);
    let mut ended = 0;
    for n in 1..=10 {
        for sdp in ["one", "two"] {
            machine.handle(now, envelope(answer_of(sdp), Some(&peer_id)));
        }
        let over = Output::Progress(Progress::Over(Attempt(n), EndReason::Unanswered));
        if !drain(&mut machine).contains(&over) {
            break;
        }
        ended += 1;
        offer_again(&mut machine, now, Attempt(n + 1));
    }
    assert_eq!(ended, 2);
}

#[test]
fn a_hub_that_returns_gets_a_fresh_offer_at_once() {
    let now = Instant::now();
    let (mut machine, _) = offered(now);
    machine.handle(now, Input::HubAway);
    machine.handle(now + SECOND, Input::HubJoined);
    drain(&mut machine);
    machine.handle_timeout(now + SECOND);
    assert!(drain(&mut machine).contains(&Output::Offer(Attempt(2))));
}

#[test]
fn a_peer_that_begins_to_listen_gets_a_fresh_offer_at_once() {
    let now = Instant::now();
    let (mut machine, peer_id) = offered(now);
    machine.handle(now + SECOND, Input::PeerListens);
    drain(&mut machine);
    offer_again(&mut machine, now + SECOND, Attempt(2));
    // The pause after a failure is over, too.
    machine.handle(now + SECOND, envelope(answer_of("a"), Some(&peer_id)));
    machine.handle(now + SECOND, Input::Ended(Attempt(2), EndReason::Lost));
    drain(&mut machine);
    machine.handle(now + SECOND, Input::PeerListens);
    offer_again(&mut machine, now + SECOND, Attempt(3));
    // An offer that was answered was not lost.
    machine.handle(now + SECOND, envelope(answer_of("b"), Some(&peer_id)));
    machine.handle(now + SECOND, Input::PeerListens);
    machine.handle(now + SECOND, Input::Connected(Attempt(3)));
    machine.handle(now + SECOND, Input::PeerListens);
    assert!(machine.is_connected());
    assert!(drain(&mut machine).contains(&Output::Progress(Progress::Connected(Attempt(3)))));
    // Neither was one that is not out yet.
    let mut early = Negotiation::new(Role::Initiator);
    early.handle(now, Input::PeerListens);
    assert_eq!(drain(&mut early), [], "the hub is not joined yet");
    early.handle(now, Input::HubJoined);
    early.handle(now, Input::PeerListens);
    let begun = Output::Progress(Progress::Attempting(Attempt(1)));
    assert_eq!(drain(&mut early), [begun, Output::Offer(Attempt(1))]);
}

#[test]
fn stun_is_left_out_after_an_attempt_without_a_path() {
    let now = Instant::now();
    let (mut machine, peer_id) = offered(now);
    assert!(machine.with_stun());
    machine.handle_timeout(now + ANSWER_LIMIT);
    assert!(machine.with_stun(), "nobody answered: not STUN's fault");
    offer_again(&mut machine, now + ANSWER_LIMIT, Attempt(2));
    machine.handle(now, envelope(answer(), Some(&peer_id)));
    machine.handle_timeout(now + CONNECT_LIMIT);
    assert!(!machine.with_stun());
    let now = now + 2 * CONNECT_LIMIT;
    offer_again(&mut machine, now, Attempt(3));
    machine.handle(now, envelope(answer(), Some(&peer_id)));
    machine.handle_timeout(now + CONNECT_LIMIT);
    assert!(machine.with_stun(), "in turns");
}

#[test]
fn an_unanswered_offer_is_replaced_by_a_fresh_one_with_the_same_peer_id() {
    let now = Instant::now();
    let (mut machine, peer_id) = offered(now);
    machine.handle_timeout(now + ANSWER_LIMIT - Duration::from_millis(1));
    assert_eq!(drain(&mut machine), []);
    let now = now + ANSWER_LIMIT;
    machine.handle_timeout(now);
    machine.handle_timeout(now);
    let outputs = drain(&mut machine);
    assert_eq!(outputs[0], Output::Close(Attempt(1)));
    assert_eq!(outputs.last(), Some(&Output::Offer(Attempt(2))));
    machine.handle(now, Input::Described(Attempt(2), sdp("1")));
    assert_eq!(
        drain(&mut machine),
        [Output::Send(Signal::Offer { sdp: sdp("1") }, Some(peer_id))]
    );
}

#[test]
fn an_answer_with_another_peer_id_is_refused_and_one_without_is_taken() {
    let now = Instant::now();
    let (mut machine, _) = offered(now);
    machine.handle(now, envelope(answer(), Some("somebody else's")));
    assert_eq!(
        drain(&mut machine),
        [Output::Refused(SignalRefusal::PeerId)]
    );
    machine.handle(now, envelope(answer(), None));
    assert_eq!(
        drain(&mut machine),
        [Output::AcceptAnswer(Attempt(1), sdp("0"))]
    );
    machine.handle(now, envelope(answer(), None));
    assert_eq!(
        drain(&mut machine),
        [Output::Refused(SignalRefusal::Unexpected)]
    );
}

#[test]
fn candidates_before_the_answer_wait_for_it_up_to_a_limit() {
    let now = Instant::now();
    let (mut machine, peer_id) = offered(now);
    for n in 0..MAX_PENDING_CANDIDATES + 1 {
        machine.handle(now, envelope(candidate(n), Some(&peer_id)));
    }
    assert_eq!(
        drain(&mut machine),
        [Output::Refused(SignalRefusal::Overflow)]
    );
    machine.handle(now, envelope(answer(), Some(&peer_id)));
    let outputs = drain(&mut machine);
    assert_eq!(outputs.len(), 1 + MAX_PENDING_CANDIDATES);
    assert!(matches!(outputs[0], Output::AcceptAnswer(..)));
    assert!(
        outputs[1..]
            .iter()
            .all(|output| matches!(output, Output::AddCandidate(Attempt(1), _)))
    );
}

#[test]
fn a_connection_that_does_not_come_up_is_tried_again_after_a_back_off() {
    let now = Instant::now();
    let (mut machine, _) = offered(now);
    machine.handle(now, envelope(answer(), None));
    let now = now + CONNECT_LIMIT;
    machine.handle_timeout(now);
    assert!(
        drain(&mut machine).contains(&Output::Progress(Progress::Over(
            Attempt(1),
            EndReason::NoPath
        )))
    );
    let until = machine.deadline().expect("there is a next attempt");
    assert!(
        until > now && until <= now + SECOND,
        "the first back-off is at most a second"
    );
}

#[test]
fn a_peer_that_has_worked_is_never_waited_for_longer_than_five_seconds() {
    let mut now = Instant::now();
    let (mut machine, _) = offered(now);
    machine.handle(now, envelope(answer(), None));
    machine.handle(now, Input::Connected(Attempt(1)));
    for _ in 0..10 {
        let attempt = machine.attempt().expect("an attempt is under way");
        machine.handle(now, Input::Ended(attempt, EndReason::Lost));
        let until = machine.deadline().expect("there is a next attempt");
        assert!(until <= now + BACKOFF_CAPS[1]);
        now = until;
        machine.handle_timeout(now);
    }
}

#[test]
fn without_the_hub_a_connection_carries_on_and_no_attempt_begins() {
    let now = Instant::now();
    let (mut machine, _) = offered(now);
    machine.handle(now, envelope(answer(), None));
    machine.handle(now, Input::Connected(Attempt(1)));
    machine.handle(now, Input::HubAway);
    assert!(machine.is_connected());
    machine.handle(now, Input::Ended(Attempt(1), EndReason::Closed));
    drain(&mut machine);
    machine.handle_timeout(now + 60 * SECOND);
    assert_eq!((drain(&mut machine), machine.deadline()), (vec![], None));
    machine.handle(now + 60 * SECOND, Input::HubJoined);
    assert!(drain(&mut machine).contains(&Output::Offer(Attempt(2))));
}

#[test]
fn a_responder_echoes_the_peer_id_and_keeps_early_candidates() {
    let now = Instant::now();
    let mut machine = Negotiation::new(Role::Responder);
    machine.handle(now, Input::HubJoined);
    machine.handle(now, envelope(offer("a"), Some("p")));
    machine.handle(now, envelope(candidate(1), Some("p")));
    machine.handle(now, envelope(candidate(2), Some("q")));
    machine.handle(now, Input::Described(Attempt(1), sdp("0")));
    let outputs = drain(&mut machine);
    assert!(outputs.contains(&Output::Refused(SignalRefusal::PeerId)));
    assert!(outputs.contains(&Output::Send(answer(), Some("p".to_owned()))));
    let added: Vec<_> = outputs
        .iter()
        .filter(|output| matches!(output, Output::AddCandidate(..)))
        .collect();
    assert_eq!(added.len(), 1);
}

#[test]
fn a_new_generation_replaces_the_session_and_the_same_one_is_ignored() {
    let now = Instant::now();
    let mut machine = Negotiation::new(Role::Responder);
    machine.handle(now, envelope(offer("a"), Some("p")));
    machine.handle(now, Input::Described(Attempt(1), sdp("0")));
    machine.handle(now, Input::Connected(Attempt(1)));
    drain(&mut machine);
    machine.handle(now, envelope(offer("a"), Some("p")));
    assert_eq!(
        drain(&mut machine),
        [Output::Refused(SignalRefusal::Unexpected)]
    );
    machine.handle(now, envelope(offer("b"), Some("p")));
    let outputs = drain(&mut machine);
    assert_eq!(outputs[0], Output::Close(Attempt(1)));
    assert!(matches!(
        outputs.last(),
        Some(Output::Answer(Attempt(2), _))
    ));
}

#[test]
fn what_comes_from_an_old_attempt_is_ignored() {
    let now = Instant::now();
    let (mut machine, _) = offered(now);
    machine.handle(now, Input::Restart(EndReason::NoMedia));
    machine.handle_timeout(now + 2 * SECOND);
    drain(&mut machine);
    machine.handle(now, Input::Connected(Attempt(1)));
    machine.handle(now, Input::Ended(Attempt(1), EndReason::Lost));
    assert_eq!(drain(&mut machine), []);
}

fn silent(ufrag: &str) -> String {
    format!("v=0\r\na=ice-ufrag:{ufrag}\r\nm=video 9 X 96\r\na=inactive\r\n")
}

/// An renegotiating initiator whose connection is up, and whose peer's answer sends nothing.
fn connected_to_a_silent_peer(now: Instant) -> Negotiation {
    let (machine, _) = offered(now);
    let mut machine = machine.renegotiating();
    machine.handle(now, envelope(answer_of(&silent("a")), None));
    machine.handle(now, Input::Connected(Attempt(1)));
    drain(&mut machine);
    machine
}

#[test]
fn a_silent_peer_is_offered_again_over_the_same_connection_until_it_sends() {
    let start = Instant::now();
    let mut machine = connected_to_a_silent_peer(start);
    let first = start + OFFER_AGAIN[0];
    assert_eq!(machine.deadline(), Some(first));
    machine.handle_timeout(first);
    assert_eq!(drain(&mut machine), [Output::OfferAgain(Attempt(1))]);
    machine.handle(first, Input::Described(Attempt(1), sdp("0")));
    assert!(matches!(
        drain(&mut machine)[..],
        [Output::Send(Signal::Offer { .. }, Some(_))]
    ));
    // Still nothing: once more.
    machine.handle(first, envelope(answer_of(&silent("a")), None));
    assert!(matches!(
        drain(&mut machine)[..],
        [Output::AcceptAnswer(Attempt(1), _)]
    ));
    let second = first + OFFER_AGAIN[1];
    assert_eq!(machine.deadline(), Some(second));
    machine.handle_timeout(second);
    assert_eq!(drain(&mut machine), [Output::OfferAgain(Attempt(1))]);
    // An answer to another attempt is of another ICE generation, and would end the connection.
    machine.handle(second, envelope(answer_of(&silent("b")), None));
    assert_eq!(
        drain(&mut machine),
        [Output::Refused(SignalRefusal::Unexpected)]
    );
    let sends = silent("a").replace("inactive", "sendonly");
    machine.handle(second, envelope(answer_of(&sends), None));
    assert_eq!(
        drain(&mut machine),
        [Output::AcceptAnswer(Attempt(1), sdp(&sends))]
    );
    assert_eq!((machine.deadline(), machine.is_connected()), (None, true));
}

#[test]
fn an_offer_over_the_same_connection_that_stays_unanswered_is_made_again() {
    let start = Instant::now();
    let mut machine = connected_to_a_silent_peer(start);
    let first = start + OFFER_AGAIN[0];
    machine.handle_timeout(first);
    drain(&mut machine);
    machine.handle_timeout(first + ANSWER_LIMIT - Duration::from_millis(1));
    assert_eq!(drain(&mut machine), []);
    machine.handle_timeout(first + ANSWER_LIMIT);
    assert_eq!(drain(&mut machine), [Output::OfferAgain(Attempt(1))]);
    // Without the hub it would get lost.
    machine.handle(first, Input::HubAway);
    machine.handle_timeout(first + 2 * ANSWER_LIMIT);
    assert_eq!(drain(&mut machine), []);
    assert!(machine.is_connected());
}

#[test]
fn who_does_not_insist_lets_a_silent_peer_be() {
    let now = Instant::now();
    let (mut machine, _) = offered(now);
    machine.handle(now, envelope(answer_of(&silent("a")), None));
    machine.handle(now, Input::Connected(Attempt(1)));
    assert_eq!(machine.deadline(), None);
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    /// What a hub and a peer may say, in any order.
    fn input() -> impl Strategy<Value = (u64, u8, u8)> {
        (0_u64..20_000, 0_u8..9, 0_u8..6)
    }

    proptest! {
        /// Nothing panics, what waits is bounded, and each input causes a few things at most.
        #[test]
        fn any_signals_are_survived(
            inputs in prop::collection::vec(input(), 0..200),
            initiates: bool,
            offers_again: bool,
        ) {
            let role = if initiates { Role::Initiator } else { Role::Responder };
            let mut machine = Negotiation::new(role);
            if offers_again {
                machine = machine.renegotiating();
            }
            let mut now = Instant::now();
            let mut waiting = 0;
            for (pause, kind, which) in inputs {
                now += Duration::from_millis(pause);
                let peer_id = (which % 3 == 0).then(|| format!("p{which}"));
                let attempt = Attempt(machine.attempts.saturating_sub(u32::from(which % 2)));
                let input = match kind {
                    0 => Input::HubJoined,
                    1 => Input::HubAway,
                    2 => envelope(offer(&format!("u{which}")), peer_id.as_deref()),
                    3 => envelope(answer_of(&silent(&format!("u{which}"))), peer_id.as_deref()),
                    4 => envelope(Signal::Ice(Candidate {
                        candidate: format!("c{which}"),
                        sdp_mid: None,
                        sdp_mline_index: None,
                        username_fragment: None,
                    }), peer_id.as_deref()),
                    5 => Input::Described(attempt, sdp("0")),
                    6 => Input::Connected(attempt),
                    7 => Input::Ended(attempt, EndReason::Lost),
                    _ => Input::Restart(EndReason::NoMedia),
                };
                if kind == 4 {
                    waiting += 1;
                }
                machine.handle(now, input);
                machine.handle_timeout(now);
                prop_assert!(machine.pending.len() <= MAX_PENDING_CANDIDATES);
                let outputs = drain(&mut machine);
                prop_assert!(outputs.len() <= 8 + waiting, "{outputs:?}");
                if outputs.iter().any(|output| matches!(output, Output::AddCandidate(..))) {
                    waiting = 0;
                }
            }
        }
    }
}
