//! Who offers, who answers, when to give up and when to try again: the signalling of one stream with
//! one peer, without sockets. Signals, descriptions and the connection's fate come in as [`Input`];
//! what to do comes out as [`Output`]. The stream's task runs it.
//!
//! An offer is never sent twice: an attempt that stays unanswered is replaced by a fresh one (a new
//! peer connection with the same `peerId`), so a peer that arms late is met at once.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::signal::{Candidate, Signal, SignalEnvelope, ice_ufrag, mint_peer_id};
use crate::backoff::Backoff;
use crate::telemetry::ledger::SignalRefusal;

/// An offer without an answer for this long is replaced by a fresh one.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(4);

/// A peer whose answers came too late is given more time, up to this.
const LATE_ANSWER_LIMIT: Duration = Duration::from_secs(16);

/// After the descriptions are exchanged, the connection has this long to come up.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// Making a local description may take this long.
const DESCRIBE_LIMIT: Duration = Duration::from_secs(10);

/// Candidates kept until the description that they belong to.
const MAX_EARLY_CANDIDATES: usize = 32;

/// The longest back-off before a peer has ever been connected, and after.
const BACKOFF_CAPS: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(5)];

/// Which side of the negotiation this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We offer.
    Initiator,
    /// We answer.
    Responder,
}

/// Counts the attempts of a stream, from 1. What comes from an attempt that is over is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u32);

/// What the machine is told.
#[derive(Debug, Clone)]
pub enum Input {
    /// The hub is joined: signals can be sent, and answers come.
    HubJoined,
    /// The hub is away. A connection that is up carries on without it.
    HubAway,
    /// A signal of this stream came.
    Signal(SignalEnvelope),
    /// The local description that was asked for is ready.
    Described(Attempt, String),
    /// A local candidate came after the description.
    LocalCandidate(Attempt, Candidate),
    /// The connection is up.
    Connected(Attempt),
    /// The attempt failed or its connection ended.
    Ended(Attempt, EndReason),
    /// What runs over the connection is dead although the connection looks alive.
    Restart(EndReason),
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Open a peer connection and make an offer; answer with [`Input::Described`].
    Offer(Attempt),
    /// Open a peer connection and answer this offer; answer with [`Input::Described`].
    Answer(Attempt, String),
    /// Give the peer's answer to the connection.
    AcceptAnswer(Attempt, String),
    /// Give the peer's candidate to the connection.
    AddCandidate(Attempt, Candidate),
    /// Close the attempt's connection.
    Close(Attempt),
    /// Send a signal with this `peerId`.
    Send(Signal, Option<String>),
    /// Something that the stream's owner may want to know.
    Progress(Progress),
    /// A signal was not used.
    Refused(SignalRefusal),
}

/// How the negotiation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// An attempt has begun.
    Attempting(Attempt),
    /// The connection is up.
    Connected(Attempt),
    /// The attempt is over.
    Over(Attempt, EndReason),
}

/// Why an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// No answer came to the offer.
    Unanswered,
    /// The descriptions were exchanged, and no path was found in time.
    NoPath,
    /// No description could be made here.
    Local,
    /// No address or UDP port could be had here.
    NoSocket,
    /// The other side's description cannot be used.
    Unusable,
    /// The other side closed.
    Closed,
    /// The path broke.
    Lost,
    /// The connection is up, and no media comes.
    NoMedia,
    /// The other side began anew.
    Replaced,
}

impl EndReason {
    /// A clause for logs and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unanswered => "no answer to the offer",
            Self::NoPath => "no network path was found in time",
            Self::Local => "the connection could not be set up here",
            Self::NoSocket => {
                "no UDP port is free here: see ice.interfaces and ice.udp_ports, and the log"
            }
            Self::Unusable => "the camera's description cannot be used",
            Self::Closed => "the camera closed the connection",
            Self::Lost => "the network path broke",
            Self::NoMedia => "connected, but no video comes",
            Self::Replaced => "the camera began anew",
        }
    }
}

/// Where the negotiation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// An initiator between attempts, or a responder without an offer (`until` is `None`).
    Idle {
        /// When to try again.
        until: Option<Instant>,
    },
    /// The local description is in the making.
    Describing { attempt: Attempt, deadline: Instant },
    /// The offer is out.
    Offered { attempt: Attempt, deadline: Instant },
    /// Both descriptions are known; an initiator knows the answer.
    Connecting {
        attempt: Attempt,
        deadline: Instant,
        answer: Option<String>,
    },
    /// The connection is up.
    Connected { attempt: Attempt },
}

/// The machine.
#[derive(Debug)]
pub struct Negotiation {
    role: Role,
    state: State,
    hub_joined: bool,
    attempts: u32,
    /// The initiator's own for life; the responder's is that of the last offer.
    peer_id: Option<String>,
    /// The ICE generation of the offer that we answered.
    remote_ufrag: Option<String>,
    /// Candidates that came before the description.
    early: Vec<Candidate>,
    /// Between failed attempts.
    backoff: Backoff,
    /// How long an offer waits for its answer.
    answer_limit: Duration,
    /// How long the last answer that was taken had been awaited.
    answered_after: Duration,
    /// Answered attempts that found no path since a connection was up.
    pathless: u32,
    outputs: VecDeque<Output>,
}

impl Negotiation {
    /// A machine at rest; it begins with [`Input::HubJoined`].
    pub fn new(role: Role) -> Self {
        Self {
            role,
            state: State::Idle { until: None },
            hub_joined: false,
            attempts: 0,
            peer_id: (role == Role::Initiator).then(mint_peer_id),
            remote_ufrag: None,
            early: Vec::new(),
            backoff: Backoff::new(Duration::from_secs(1), BACKOFF_CAPS[0]),
            answer_limit: ANSWER_LIMIT,
            answered_after: Duration::ZERO,
            pathless: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::HubJoined => {
                let was_away = !std::mem::replace(&mut self.hub_joined, true);
                match (self.role, &self.state) {
                    (Role::Initiator, State::Idle { .. }) => self.begin_offer(now),
                    // The hub that forgot its rooms has lost the offer, or the answer to it.
                    (Role::Initiator, State::Offered { attempt, .. }) if was_away => {
                        let attempt = *attempt;
                        self.end(now, attempt, EndReason::Unanswered);
                    }
                    _ => {}
                }
            }
            Input::HubAway => self.hub_joined = false,
            Input::Signal(envelope) => self.signal(now, envelope),
            Input::Described(attempt, sdp) if self.is_current(attempt) => {
                self.described(now, attempt, sdp)
            }
            Input::LocalCandidate(attempt, candidate) if self.is_current(attempt) => {
                // A responder's own candidates are all in its answer: in a shared room its `ice`
                // would look like the peer's.
                if self.role == Role::Initiator {
                    self.outputs
                        .push_back(Output::Send(Signal::Ice(candidate), self.peer_id.clone()));
                }
            }
            Input::Connected(attempt) if self.is_current(attempt) => {
                self.state = State::Connected { attempt };
                self.pathless = 0;
                if self.answered_after < ANSWER_LIMIT {
                    // It was late for a while, and is no more.
                    self.answer_limit = ANSWER_LIMIT;
                }
                self.backoff.reset();
                self.backoff.set_cap(BACKOFF_CAPS[1]);
                self.outputs
                    .push_back(Output::Progress(Progress::Connected(attempt)));
            }
            Input::Ended(attempt, reason) if self.is_current(attempt) => {
                self.end(now, attempt, reason)
            }
            Input::Restart(reason) => {
                if let Some(attempt) = self.attempt() {
                    self.end(now, attempt, reason);
                }
            }
            Input::Described(..)
            | Input::LocalCandidate(..)
            | Input::Connected(_)
            | Input::Ended(..) => {}
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Idle { until: Some(until) } if until <= now => {
                if self.hub_joined {
                    self.begin_offer(now);
                } else {
                    // The hub's return begins the next attempt.
                    self.state = State::Idle { until: None };
                }
            }
            State::Describing { attempt, deadline } if deadline <= now => {
                self.end(now, attempt, EndReason::Local)
            }
            State::Offered { attempt, deadline } if deadline <= now => {
                self.end(now, attempt, EndReason::Unanswered)
            }
            State::Connecting {
                attempt, deadline, ..
            } if deadline <= now => self.end(now, attempt, EndReason::NoPath),
            _ => {}
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Idle { until } => until,
            State::Describing { deadline, .. }
            | State::Offered { deadline, .. }
            | State::Connecting { deadline, .. } => Some(deadline),
            State::Connected { .. } => None,
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The initiator's own id, or that of the last offer.
    pub fn peer_id(&self) -> Option<&str> {
        self.peer_id.as_deref()
    }

    /// True when the attempt is to gather through STUN servers. After one that found no path the next
    /// goes without, and so on in turns: a STUN server that misleads or is not there hinders less.
    pub fn with_stun(&self) -> bool {
        self.pathless.is_multiple_of(2)
    }

    /// True while the connection is up.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected { .. })
    }

    fn attempt(&self) -> Option<Attempt> {
        match self.state {
            State::Idle { .. } => None,
            State::Describing { attempt, .. }
            | State::Offered { attempt, .. }
            | State::Connecting { attempt, .. }
            | State::Connected { attempt } => Some(attempt),
        }
    }

    fn is_current(&self, attempt: Attempt) -> bool {
        self.attempt() == Some(attempt)
    }

    fn next_attempt(&mut self, now: Instant) -> Attempt {
        self.attempts = self.attempts.saturating_add(1);
        let attempt = Attempt(self.attempts);
        self.state = State::Describing {
            attempt,
            deadline: now + DESCRIBE_LIMIT,
        };
        self.outputs
            .push_back(Output::Progress(Progress::Attempting(attempt)));
        attempt
    }

    fn begin_offer(&mut self, now: Instant) {
        self.early.clear();
        let attempt = self.next_attempt(now);
        self.outputs.push_back(Output::Offer(attempt));
    }

    fn described(&mut self, now: Instant, attempt: Attempt, sdp: String) {
        let peer_id = self.peer_id.clone();
        match self.role {
            Role::Initiator => {
                self.outputs
                    .push_back(Output::Send(Signal::Offer { sdp }, peer_id));
                self.state = State::Offered {
                    attempt,
                    deadline: now + self.answer_limit,
                };
            }
            Role::Responder => {
                self.outputs
                    .push_back(Output::Send(Signal::Answer { sdp }, peer_id));
                self.release_early(attempt);
                self.state = State::Connecting {
                    attempt,
                    deadline: now + CONNECT_LIMIT,
                    answer: None,
                };
            }
        }
    }

    fn signal(&mut self, now: Instant, SignalEnvelope { signal, peer_id }: SignalEnvelope) {
        match (self.role, signal) {
            (Role::Initiator, Signal::Answer { sdp }) => {
                if !self.is_ours(peer_id.as_ref()) {
                    return self
                        .outputs
                        .push_back(Output::Refused(SignalRefusal::PeerId));
                }
                let State::Offered { attempt, deadline } = self.state else {
                    self.outputs
                        .push_back(Output::Refused(SignalRefusal::Unexpected));
                    return self.late_answer(now, &sdp);
                };
                let remaining = deadline.saturating_duration_since(now);
                self.answered_after = self.answer_limit.saturating_sub(remaining);
                self.outputs
                    .push_back(Output::AcceptAnswer(attempt, sdp.clone()));
                self.release_early(attempt);
                self.state = State::Connecting {
                    attempt,
                    deadline: now + CONNECT_LIMIT,
                    answer: Some(sdp),
                };
            }
            (Role::Responder, Signal::Offer { sdp }) => {
                let ufrag = ice_ufrag(&sdp);
                if self.attempt().is_some() {
                    if ufrag.is_some() && ufrag == self.remote_ufrag {
                        return self
                            .outputs
                            .push_back(Output::Refused(SignalRefusal::Unexpected));
                    }
                    // A new generation, or a peer that was started anew: it replaces the session.
                    if let Some(attempt) = self.attempt() {
                        self.close(attempt, EndReason::Replaced);
                    }
                }
                // Candidates that came early belong to this offer unless another peer sent them.
                if self.peer_id != peer_id {
                    self.early.clear();
                }
                self.peer_id = peer_id;
                self.remote_ufrag = ufrag;
                let attempt = self.next_attempt(now);
                self.outputs.push_back(Output::Answer(attempt, sdp));
            }
            (_, Signal::Ice(candidate)) => {
                if !self.is_ours(peer_id.as_ref()) && self.peer_id.is_some() {
                    return self
                        .outputs
                        .push_back(Output::Refused(SignalRefusal::PeerId));
                }
                match self.state {
                    State::Connecting { attempt, .. } | State::Connected { attempt } => {
                        self.outputs
                            .push_back(Output::AddCandidate(attempt, candidate));
                    }
                    State::Idle { .. } | State::Describing { .. } | State::Offered { .. } => {
                        if self.early.len() < MAX_EARLY_CANDIDATES {
                            self.early.push(candidate);
                        } else {
                            self.outputs
                                .push_back(Output::Refused(SignalRefusal::Overflow));
                        }
                    }
                }
            }
            // In a camera's room one also sees other viewers' offers: never answer those.
            (Role::Initiator, Signal::Offer { .. }) | (Role::Responder, Signal::Answer { .. }) => {
                self.outputs
                    .push_back(Output::Refused(SignalRefusal::Unexpected));
            }
        }
    }

    /// An answer says nothing about the offer that it is for. One that comes when none is awaited is
    /// for an attempt that was given up: the peer needs more time. If another answer was taken
    /// meanwhile, that one was late too, and its attempt cannot connect.
    fn late_answer(&mut self, now: Instant, sdp: &str) {
        let stale = match &self.state {
            State::Idle { .. } | State::Describing { .. } => None,
            State::Connecting {
                attempt,
                answer: Some(taken),
                ..
            } if taken != sdp => Some(*attempt),
            State::Connecting { .. } | State::Offered { .. } | State::Connected { .. } => return,
        };
        // A second camera with the same twin id answers twice for ever: that is not followed.
        if self.answer_limit >= LATE_ANSWER_LIMIT {
            return;
        }
        self.answer_limit = (self.answer_limit * 2).min(LATE_ANSWER_LIMIT);
        if let Some(attempt) = stale {
            self.end(now, attempt, EndReason::Unanswered);
        }
    }

    /// A missing `peerId` is accepted: plain responders and the legacy dialect send none.
    fn is_ours(&self, peer_id: Option<&String>) -> bool {
        peer_id.is_none() || peer_id == self.peer_id.as_ref()
    }

    fn release_early(&mut self, attempt: Attempt) {
        let early = self
            .early
            .drain(..)
            .map(|candidate| Output::AddCandidate(attempt, candidate));
        self.outputs.extend(early);
    }

    fn close(&mut self, attempt: Attempt, reason: EndReason) {
        self.outputs.push_back(Output::Close(attempt));
        self.outputs
            .push_back(Output::Progress(Progress::Over(attempt, reason)));
    }

    fn end(&mut self, now: Instant, attempt: Attempt, reason: EndReason) {
        self.close(attempt, reason);
        self.early.clear();
        self.remote_ufrag = None;
        if matches!(reason, EndReason::NoPath | EndReason::Local) {
            self.pathless = self.pathless.saturating_add(1);
        }
        let until = match self.role {
            Role::Responder => None,
            // A peer that is not there yet is asked again at once, with a fresh offer.
            Role::Initiator if reason == EndReason::Unanswered => Some(now),
            Role::Initiator => Some(now + self.backoff.next_delay(rand::random())),
        };
        self.state = State::Idle { until };
    }
}

#[cfg(test)]
mod tests {
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

    fn offer(ufrag: &str) -> Signal {
        Signal::Offer {
            sdp: format!("v=0\r\na=ice-ufrag:{ufrag}\r\n"),
        }
    }

    fn answer() -> Signal {
        Signal::Answer {
            sdp: "v=0".to_owned(),
        }
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
        machine.handle(now, Input::Described(Attempt(1), "v=0".to_owned()));
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
        machine.handle(now, Input::Described(attempt, "v=0".to_owned()));
        drain(machine);
    }

    fn answer_of(sdp: &str) -> Signal {
        Signal::Answer {
            sdp: sdp.to_owned(),
        }
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
                Output::AcceptAnswer(Attempt(2), "first".to_owned()),
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
            [Output::AcceptAnswer(Attempt(3), "third".to_owned())],
            "six seconds are within the new limit"
        );
        machine.handle(answered, Input::Connected(Attempt(3)));
        assert_eq!(machine.answer_limit, 2 * ANSWER_LIMIT, "still slow");
        // Quick again: the limit is the usual one, so that it is met at once when it returns.
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
        machine.handle(now, Input::Described(Attempt(2), "v=1".to_owned()));
        assert_eq!(
            drain(&mut machine),
            [Output::Send(
                Signal::Offer {
                    sdp: "v=1".to_owned()
                },
                Some(peer_id)
            )]
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
            [Output::AcceptAnswer(Attempt(1), "v=0".to_owned())]
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
        for n in 0..MAX_EARLY_CANDIDATES + 1 {
            machine.handle(now, envelope(candidate(n), Some(&peer_id)));
        }
        assert_eq!(
            drain(&mut machine),
            [Output::Refused(SignalRefusal::Overflow)]
        );
        machine.handle(now, envelope(answer(), Some(&peer_id)));
        let outputs = drain(&mut machine);
        assert_eq!(outputs.len(), 1 + MAX_EARLY_CANDIDATES);
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
        machine.handle(now, Input::Described(Attempt(1), "v=0".to_owned()));
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
        machine.handle(now, Input::Described(Attempt(1), "v=0".to_owned()));
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
}
