//! The signalling of one link with one peer, sans-IO. Signals, descriptions and what becomes of the connection come in as
//! `Input`; what is to be done comes out as `Output`. The task of the link runs it. Which side offers is given by the
//! [`Role`]; the machine decides when to offer, when to give an attempt up and when to try again.
//!
//! What must stay true:
//! - No offer is sent twice. An attempt that nobody answers is replaced by a fresh one (a new peer connection with the
//!   same `peerId`), so that a peer that begins to listen late is met with an offer that it can answer.
//! - Inputs of an attempt that is over change nothing.
//! - An initiator keeps its `peerId` for life; a responder takes that of each offer.
//! - Every `Output::Close` is followed by `Progress::Over` with the reason.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use super::attempt::Role;
use super::attempt::{Attempt, EndReason, Progress};
use super::sdp::Description;
use super::signal::{Candidate, Signal, SignalEnvelope, mint_peer_id};
use crate::backoff::Backoff;
use crate::telemetry::SignalRefusal;

/// An offer without an answer for this long is replaced by a fresh one.
const ANSWER_LIMIT: Duration = Duration::from_secs(4);

/// A peer whose answers come too late is given more and more time, up to this.
const LATE_ANSWER_LIMIT: Duration = Duration::from_secs(16);

/// After the descriptions are exchanged, the connection has this long to come up.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// Making a local description may take this long.
const DESCRIBE_LIMIT: Duration = Duration::from_secs(10);

/// At most this many candidates are kept until the description comes that they belong to.
const MAX_PENDING_CANDIDATES: usize = 32;

/// When a peer that has nothing to send yet is offered again over the same connection: after the first duration, and then
/// whenever the second has passed. Its app adds tracks when it hears that the connection is up.
pub const OFFER_AGAIN: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];

/// The longest back-off for a peer that has never been connected, and for one that has.
const BACKOFF_CAPS: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(5)];

/// What happens to the link.
#[derive(Debug, Clone)]
pub(super) enum Input {
    /// The hub is joined: signals can be sent, and answers come.
    HubJoined,
    /// The hub is away. A connection that is up carries on without it.
    HubAway,
    /// The peer has just begun to listen, so that an offer which it has not answered yet was lost.
    PeerListens,
    /// A signal of this link's peer came.
    Signal(SignalEnvelope),
    /// The local description that was asked for is ready.
    Described(Attempt, Description),
    /// A local candidate came after the description.
    LocalCandidate(Attempt, Candidate),
    /// The connection is up.
    Connected(Attempt),
    /// The attempt failed or its connection ended.
    Ended(Attempt, EndReason),
    /// What runs over the connection is dead although the connection looks alive.
    Restart(EndReason),
}

/// What the machine wants the link to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Output {
    /// Open a peer connection and make an offer; [`Input::Described`] is to follow.
    Offer(Attempt),
    /// Open a peer connection and make an answer to this offer; [`Input::Described`] is to follow.
    Answer(Attempt, Description),
    /// Make another offer over the attempt's connection; [`Input::Described`] is to follow.
    OfferAgain(Attempt),
    /// Give the peer's answer to the connection.
    AcceptAnswer(Attempt, Description),
    /// Give the peer's candidate to the connection.
    AddCandidate(Attempt, Candidate),
    /// Close the attempt's connection.
    Close(Attempt),
    /// Send a signal with this `peerId`.
    Send(Signal, Option<String>),
    /// The link's owner may want to know this.
    Progress(Progress),
    /// A signal was not used.
    Refused(SignalRefusal),
}

/// Where the negotiation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NegotiationState {
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
        answer: Option<Description>,
    },
    /// The connection is up.
    Connected {
        attempt: Attempt,
        renegotiation: Renegotiation,
    },
}

/// Offers over a connection that is up, to a peer whose answer sends nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renegotiation {
    /// No further offer is needed.
    No,
    /// The next offer is made at this instant.
    At(Instant),
    /// An offer is being made or is out; if it has no answer by this instant, another one is made.
    Offered(Instant),
}

/// The state machine of a link's signalling.
#[derive(Debug)]
pub(super) struct Negotiation {
    role: Role,
    /// A peer whose answer sends nothing is offered again over the same connection. Cameras on npm 4.x need this: their apps can
    /// add tracks only to a connection that is up.
    offers_again: bool,
    /// True if the last answer sends nothing.
    is_silent: bool,
    state: NegotiationState,
    hub_joined: bool,
    attempts: u32,
    /// The initiator's own for life; the responder's is that of the last offer.
    peer_id: Option<String>,
    /// The ICE generation of the offer that we answered, or of the answer that we took.
    remote_ufrag: Option<String>,
    /// Candidates that came before the description.
    pending: Vec<Candidate>,
    /// The pause between failed attempts.
    backoff: Backoff,
    /// How long an offer waits for its answer.
    answer_limit: Duration,
    /// How long the last accepted answer had been awaited.
    answered_after: Duration,
    /// How many attempts in a row were answered and found no path.
    pathless: u32,
    outputs: VecDeque<Output>,
}

impl Negotiation {
    /// A machine that waits for [`Input::HubJoined`], or for a responder's first offer.
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            offers_again: false,
            is_silent: false,
            state: NegotiationState::Idle { until: None },
            hub_joined: false,
            attempts: 0,
            peer_id: (role == Role::Initiator).then(mint_peer_id),
            remote_ufrag: None,
            pending: Vec::new(),
            backoff: Backoff::new(Duration::from_secs(1), BACKOFF_CAPS[0]),
            answer_limit: ANSWER_LIMIT,
            answered_after: Duration::ZERO,
            pathless: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Has the peer offered again over the same connection while its answers send nothing.
    #[must_use]
    pub(super) fn renegotiating(mut self) -> Self {
        self.offers_again = true;
        self
    }

    /// Handles an input. What is to be done then comes from [`poll`](Self::poll).
    pub(super) fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::HubJoined => {
                let was_away = !std::mem::replace(&mut self.hub_joined, true);
                match (self.role, &self.state) {
                    (Role::Initiator, NegotiationState::Idle { .. }) => self.begin_offer(now),
                    // A hub that was away has forgotten its rooms, and lost the offer or the answer to it.
                    (Role::Initiator, NegotiationState::Offered { attempt, .. }) if was_away => {
                        let attempt = *attempt;
                        self.end(now, attempt, EndReason::Unanswered);
                    }
                    _ => {}
                }
            }
            Input::HubAway => self.hub_joined = false,
            Input::PeerListens => match self.state {
                NegotiationState::Offered { attempt, .. } => {
                    self.end(now, attempt, EndReason::Unanswered);
                }
                NegotiationState::Idle { until: Some(_) } => {
                    self.state = NegotiationState::Idle { until: Some(now) };
                }
                _ => {}
            },
            Input::Signal(envelope) => self.signal(now, envelope),
            Input::Described(attempt, sdp) if self.is_current(attempt) => {
                self.described(now, attempt, sdp)
            }
            Input::LocalCandidate(attempt, candidate) if self.is_current(attempt) => {
                // A responder sends no candidates but those in its answer: in the shared room of the legacy dialect its
                // `ice` signals would look like the peer's.
                if self.role == Role::Initiator {
                    self.outputs
                        .push_back(Output::Send(Signal::Ice(candidate), self.peer_id.clone()));
                }
            }
            Input::Connected(attempt) if self.is_current(attempt) => {
                let renegotiation = if self.offers_again && self.is_silent {
                    Renegotiation::At(now + OFFER_AGAIN[0])
                } else {
                    Renegotiation::No
                };
                self.state = NegotiationState::Connected {
                    attempt,
                    renegotiation,
                };
                self.pathless = 0;
                if self.answered_after < ANSWER_LIMIT {
                    // The peer was slow for a while, and no longer is.
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

    /// Does what is due by now.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            NegotiationState::Idle { until: Some(until) } if until <= now => {
                if self.hub_joined {
                    self.begin_offer(now);
                } else {
                    // The hub's return begins the next attempt.
                    self.state = NegotiationState::Idle { until: None };
                }
            }
            NegotiationState::Describing { attempt, deadline } if deadline <= now => {
                self.end(now, attempt, EndReason::Local)
            }
            NegotiationState::Offered { attempt, deadline } if deadline <= now => {
                self.end(now, attempt, EndReason::Unanswered)
            }
            NegotiationState::Connecting {
                attempt, deadline, ..
            } if deadline <= now => self.end(now, attempt, EndReason::NoPath),
            NegotiationState::Connected {
                attempt,
                renegotiation: Renegotiation::At(at) | Renegotiation::Offered(at),
            } if at <= now => {
                let renegotiation = if self.hub_joined {
                    self.outputs.push_back(Output::OfferAgain(attempt));
                    Renegotiation::Offered(now + ANSWER_LIMIT)
                } else {
                    Renegotiation::At(now + OFFER_AGAIN[1])
                };
                self.state = NegotiationState::Connected {
                    attempt,
                    renegotiation,
                };
            }
            _ => {}
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            NegotiationState::Idle { until } => until,
            NegotiationState::Describing { deadline, .. }
            | NegotiationState::Offered { deadline, .. }
            | NegotiationState::Connecting { deadline, .. } => Some(deadline),
            NegotiationState::Connected {
                renegotiation: Renegotiation::At(at) | Renegotiation::Offered(at),
                ..
            } => Some(at),
            NegotiationState::Connected { .. } => None,
        }
    }

    /// The next thing to do.
    pub(super) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The initiator's own id, or that of the last offer.
    pub(super) fn peer_id(&self) -> Option<&str> {
        self.peer_id.as_deref()
    }

    /// True when the attempt is to gather candidates through STUN servers. After an attempt that found no path the next one goes
    /// without them, and so on in turns, so that a STUN server that misleads or does not answer hinders only every other one.
    pub(super) fn with_stun(&self) -> bool {
        self.pathless.is_multiple_of(2)
    }

    /// True while the connection is up.
    pub(super) fn is_connected(&self) -> bool {
        matches!(self.state, NegotiationState::Connected { .. })
    }

    fn attempt(&self) -> Option<Attempt> {
        match self.state {
            NegotiationState::Idle { .. } => None,
            NegotiationState::Describing { attempt, .. }
            | NegotiationState::Offered { attempt, .. }
            | NegotiationState::Connecting { attempt, .. }
            | NegotiationState::Connected { attempt, .. } => Some(attempt),
        }
    }

    fn is_current(&self, attempt: Attempt) -> bool {
        self.attempt() == Some(attempt)
    }

    fn next_attempt(&mut self, now: Instant) -> Attempt {
        self.attempts = self.attempts.saturating_add(1);
        let attempt = Attempt(self.attempts);
        self.state = NegotiationState::Describing {
            attempt,
            deadline: now + DESCRIBE_LIMIT,
        };
        self.outputs
            .push_back(Output::Progress(Progress::Attempting(attempt)));
        attempt
    }

    fn begin_offer(&mut self, now: Instant) {
        self.pending.clear();
        let attempt = self.next_attempt(now);
        self.outputs.push_back(Output::Offer(attempt));
    }

    fn described(&mut self, now: Instant, attempt: Attempt, sdp: Description) {
        let peer_id = self.peer_id.clone();
        if matches!(self.state, NegotiationState::Connected { .. }) {
            // This is another offer over the same connection.
            self.outputs
                .push_back(Output::Send(Signal::Offer { sdp }, peer_id));
            return;
        }
        match self.role {
            Role::Initiator => {
                self.outputs
                    .push_back(Output::Send(Signal::Offer { sdp }, peer_id));
                self.state = NegotiationState::Offered {
                    attempt,
                    deadline: now + self.answer_limit,
                };
            }
            Role::Responder => {
                self.outputs
                    .push_back(Output::Send(Signal::Answer { sdp }, peer_id));
                self.release_pending(attempt);
                self.state = NegotiationState::Connecting {
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
                if let NegotiationState::Connected {
                    attempt,
                    renegotiation: Renegotiation::Offered(_),
                } = self.state
                    && self.remote_ufrag.as_deref() == Some(sdp.ice_ufrag())
                {
                    let renegotiation = if sdp.sends_nothing() {
                        Renegotiation::At(now + OFFER_AGAIN[1])
                    } else {
                        Renegotiation::No
                    };
                    self.state = NegotiationState::Connected {
                        attempt,
                        renegotiation,
                    };
                    return self.outputs.push_back(Output::AcceptAnswer(attempt, sdp));
                }
                let NegotiationState::Offered { attempt, deadline } = self.state else {
                    self.outputs
                        .push_back(Output::Refused(SignalRefusal::Unexpected));
                    return self.late_answer(now, &sdp);
                };
                let remaining = deadline.saturating_duration_since(now);
                self.answered_after = self.answer_limit.saturating_sub(remaining);
                self.is_silent = sdp.sends_nothing();
                self.remote_ufrag = Some(sdp.ice_ufrag().to_owned());
                self.outputs
                    .push_back(Output::AcceptAnswer(attempt, sdp.clone()));
                self.release_pending(attempt);
                self.state = NegotiationState::Connecting {
                    attempt,
                    deadline: now + CONNECT_LIMIT,
                    answer: Some(sdp),
                };
            }
            (Role::Responder, Signal::Offer { sdp }) => {
                let ufrag = Some(sdp.ice_ufrag().to_owned());
                if self.attempt().is_some() {
                    if ufrag == self.remote_ufrag {
                        return self
                            .outputs
                            .push_back(Output::Refused(SignalRefusal::Unexpected));
                    }
                    // The peer restarts ICE or has begun anew: its offer replaces the attempt.
                    if let Some(attempt) = self.attempt() {
                        self.close(attempt, EndReason::Replaced);
                    }
                }
                // Candidates that came before belong to this offer unless another peer sent them.
                if self.peer_id != peer_id {
                    self.pending.clear();
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
                    NegotiationState::Connecting { attempt, .. }
                    | NegotiationState::Connected { attempt, .. } => {
                        self.outputs
                            .push_back(Output::AddCandidate(attempt, candidate));
                    }
                    NegotiationState::Idle { .. }
                    | NegotiationState::Describing { .. }
                    | NegotiationState::Offered { .. } => {
                        if self.pending.len() < MAX_PENDING_CANDIDATES {
                            self.pending.push(candidate);
                        } else {
                            self.outputs
                                .push_back(Output::Refused(SignalRefusal::Overflow));
                        }
                    }
                }
            }
            // In a camera's room we also see the offers of other viewers, and must never answer those.
            (Role::Initiator, Signal::Offer { .. }) | (Role::Responder, Signal::Answer { .. }) => {
                self.outputs
                    .push_back(Output::Refused(SignalRefusal::Unexpected));
            }
        }
    }

    /// Handles an answer that comes while none is awaited. An answer does not name its offer, so this one belongs to an attempt
    /// that was given up: the peer needs more time. If another answer was accepted meanwhile, that one was late too, and the
    /// attempt that accepted it cannot connect.
    fn late_answer(&mut self, now: Instant, sdp: &Description) {
        let stale = match &self.state {
            NegotiationState::Idle { .. } | NegotiationState::Describing { .. } => None,
            NegotiationState::Connecting {
                attempt,
                answer: Some(taken),
                ..
            } if taken != sdp => Some(*attempt),
            NegotiationState::Connecting { .. }
            | NegotiationState::Offered { .. }
            | NegotiationState::Connected { .. } => return,
        };
        // A second camera with the same twin id makes every answer come twice, so the limit does not grow for ever.
        if self.answer_limit >= LATE_ANSWER_LIMIT {
            return;
        }
        self.answer_limit = (self.answer_limit * 2).min(LATE_ANSWER_LIMIT);
        if let Some(attempt) = stale {
            self.end(now, attempt, EndReason::Unanswered);
        }
    }

    /// True for our `peerId`, and for a missing one, since plain responders and the legacy dialect send none.
    fn is_ours(&self, peer_id: Option<&String>) -> bool {
        peer_id.is_none() || peer_id == self.peer_id.as_ref()
    }

    /// Gives the kept candidates to the connection, once that has a description.
    fn release_pending(&mut self, attempt: Attempt) {
        let pending = self
            .pending
            .drain(..)
            .map(|candidate| Output::AddCandidate(attempt, candidate));
        self.outputs.extend(pending);
    }

    /// Has the connection of an attempt closed, and reports why.
    fn close(&mut self, attempt: Attempt, reason: EndReason) {
        self.outputs.push_back(Output::Close(attempt));
        self.outputs
            .push_back(Output::Progress(Progress::Over(attempt, reason)));
    }

    /// Ends an attempt; an initiator plans the next one.
    fn end(&mut self, now: Instant, attempt: Attempt, reason: EndReason) {
        self.close(attempt, reason);
        self.pending.clear();
        self.remote_ufrag = None;
        if matches!(reason, EndReason::NoPath | EndReason::Local) {
            self.pathless = self.pathless.saturating_add(1);
        }
        let until = match self.role {
            Role::Responder => None,
            // A peer that is not there yet is met with a fresh offer at once.
            Role::Initiator if matches!(reason, EndReason::Unanswered | EndReason::Changed) => {
                Some(now)
            }
            Role::Initiator => Some(now + self.backoff.next_delay(rand::random())),
        };
        self.state = NegotiationState::Idle { until };
    }
}

#[cfg(test)]
#[path = "negotiation_tests.rs"]
mod tests;
