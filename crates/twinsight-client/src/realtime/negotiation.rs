//! Who offers, who answers, when to give up and when to try renegotiation: the signalling of one link with
//! one peer, without sockets. Signals, descriptions and the connection's fate come in as [`Input`];
//! what to do comes out as [`Output`]. The link's owner runs it.
//!
//! An offer is never sent twice: an attempt that stays unanswered is replaced by a fresh one (a new
//! peer connection with the same `peerId`), so a peer that arms late is met at once.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::sdp::Description;
use super::signal::{Candidate, Signal, SignalEnvelope, mint_peer_id};
use crate::backoff::Backoff;
use crate::telemetry::SignalRefusal;

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

/// A peer that may have nothing to send yet is offered again over the same connection after this, and
/// then every so often. Its app adds tracks when it hears that the connection is up.
pub const OFFER_AGAIN: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];

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

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Open a peer connection and make an offer; answer with [`Input::Described`].
    Offer(Attempt),
    /// Open a peer connection and answer this offer; answer with [`Input::Described`].
    Answer(Attempt, Description),
    /// Make another offer over the attempt's connection; answer with [`Input::Described`].
    OfferAgain(Attempt),
    /// Give the peer's answer to the connection.
    AcceptAnswer(Attempt, Description),
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
    /// No UDP port could be had here.
    NoSocket,
    /// The interfaces that are configured have no usable address.
    NoAddress,
    /// This process may have no more sockets.
    NoFiles,
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
    /// What is sent here has changed: the next connection has it.
    Changed,
    /// Nobody here wanted what was offered.
    Declined,
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
            Self::NoAddress => {
                "the interfaces of ice.interfaces have no usable address here: see `ip address`, and the log"
            }
            Self::NoFiles => {
                "too many open files here: raise `ulimit -n` or the service's LimitNOFILE"
            }
            Self::Unusable => "the other side's description cannot be used",
            Self::Closed => "the other side closed the connection",
            Self::Lost => "the network path broke",
            Self::NoMedia => "connected, but no video comes",
            Self::Replaced => "the other side began anew",
            Self::Declined => "the offer was not accepted here",
            Self::Changed => "the tracks that are sent have changed",
        }
    }
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
    /// None is needed.
    No,
    /// The next is made then.
    At(Instant),
    /// It is being made, or out, and waits for its answer until then.
    Offered(Instant),
}

/// The machine.
#[derive(Debug)]
pub struct Negotiation {
    role: Role,
    /// An answer that sends nothing is asked for again over the same connection: as npm 4.x needs it, whose
    /// apps can add tracks only to a connection that is up.
    insists: bool,
    /// The last answer sends nothing.
    is_silent: bool,
    state: NegotiationState,
    hub_joined: bool,
    attempts: u32,
    /// The initiator's own for life; the responder's is that of the last offer.
    peer_id: Option<String>,
    /// The ICE generation of the offer that we answered, or of the answer that we took.
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
            insists: false,
            is_silent: false,
            state: NegotiationState::Idle { until: None },
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

    /// The peer is offered again, over the same connection, while its answers send nothing.
    #[must_use]
    pub fn renegotiating(mut self) -> Self {
        self.insists = true;
        self
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::HubJoined => {
                let was_away = !std::mem::replace(&mut self.hub_joined, true);
                match (self.role, &self.state) {
                    (Role::Initiator, NegotiationState::Idle { .. }) => self.begin_offer(now),
                    // The hub that forgot its rooms has lost the offer, or the answer to it.
                    (Role::Initiator, NegotiationState::Offered { attempt, .. }) if was_away => {
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
                let renegotiation = if self.insists && self.is_silent {
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
    pub fn deadline(&self) -> Option<Instant> {
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
        self.early.clear();
        let attempt = self.next_attempt(now);
        self.outputs.push_back(Output::Offer(attempt));
    }

    fn described(&mut self, now: Instant, attempt: Attempt, sdp: Description) {
        let peer_id = self.peer_id.clone();
        if matches!(self.state, NegotiationState::Connected { .. }) {
            // Another offer over the same connection.
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
                self.release_early(attempt);
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
                self.release_early(attempt);
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
                    NegotiationState::Connecting { attempt, .. }
                    | NegotiationState::Connected { attempt, .. } => {
                        self.outputs
                            .push_back(Output::AddCandidate(attempt, candidate));
                    }
                    NegotiationState::Idle { .. }
                    | NegotiationState::Describing { .. }
                    | NegotiationState::Offered { .. } => {
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
