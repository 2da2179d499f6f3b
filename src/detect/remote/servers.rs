//! Which server a request goes to: what became of requests and of questions for readiness comes in, with the time, and the next server
//! and the time of the next question go out. It is plain state; the model's tasks and workers run it.
//!
//! A server that fails is left at once. It is asked whether it has the model ready, and is tried with a picture of nothing, so that no
//! camera's frame is lost to a server that says that it is ready and is not.

use std::time::{Duration, Instant};

/// A server is left after so many requests in a row that it did not answer in time, or that were too many for it.
const STRIKES: u32 = 3;

/// A server that was left is first asked after this long.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// It is asked at least this often, so that it is used again soon after it is back. Two small questions a second are what that costs.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// A server that nothing was heard of for this long is asked, so that it is known how it is although there are no frames.
const CHECK_AFTER: Duration = Duration::from_secs(5);

/// How much of a server's latency is of its last answer.
const LATENCY_SHARE: f64 = 0.2;

/// The servers of one model.
#[derive(Debug)]
pub(super) struct Servers {
    servers: Vec<Server>,
}

#[derive(Debug)]
pub(super) struct Server {
    state: ServerState,
    /// Requests that are under way, also those of earlier eras.
    in_flight: usize,
    /// How long its answers take, from the last ones most. `None` until it has answered since it came back.
    latency: Option<Duration>,
    /// True if that is so long ago that it says nothing of the server as it is now.
    is_latency_old: bool,
    /// How often it was left. What becomes of a request from before says nothing of the server as it is now.
    era: u64,
    /// How often it failed since it last answered.
    failures: u32,
    /// Whether it has been asked at all.
    is_known: bool,
}

/// How a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServerState {
    /// Nothing goes to it until it was asked whether it has the model ready, and has answered a trial.
    Away {
        /// Why.
        reason: String,
        /// When it is to be asked.
        ask_at: Instant,
    },
    /// It has answered a trial, and requests go to it. The first that ends decides, since a server may be in time with a picture of nothing
    /// and late with a frame, for which cameras wait.
    Returned {
        /// When it answered the trial.
        heard_at: Instant,
        /// Whether that request is under way.
        is_deciding: bool,
    },
    /// Requests go to it.
    Ready {
        /// How many requests since its last answer were late, or too many for it.
        strikes: u32,
        /// When it last answered.
        heard_at: Instant,
    },
}

/// What a server that has the model ready has shown for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// It said that it has the model ready, and nothing was asked of the model.
    Said,
    /// It said so, and the model has answered for a blank picture.
    Tried,
}

/// A request that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    /// The server, as an index in the configuration.
    pub(super) server: usize,
    era: u64,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was answered well.
    Answered {
        /// How long that took.
        latency: Duration,
    },
    /// There was no answer by the deadline.
    Deadline {
        /// The time that it had.
        limit: Duration,
    },
    /// The server was not reached, or answered what cannot be used.
    Failed {
        /// In a sentence.
        reason: String,
    },
    /// The server has too many of them, and says so.
    Busy {
        /// In a sentence.
        reason: String,
    },
    /// It was given up for a reason that has nothing to do with the server.
    Abandoned,
}

impl Servers {
    /// So many servers, all to be asked at once.
    pub(super) fn new(count: usize, now: Instant) -> Self {
        let server = || Server {
            state: ServerState::Away {
                reason: "it has not been asked yet".to_owned(),
                ask_at: now,
            },
            in_flight: 0,
            latency: None,
            is_latency_old: false,
            era: 0,
            failures: 0,
            is_known: false,
        };
        Self {
            servers: (0..count).map(|_| server()).collect(),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.servers.iter().map(|server| server.in_flight).sum()
    }

    /// True if there is a server that requests go to.
    pub(super) fn any_usable(&self) -> bool {
        self.servers.iter().any(|server| !server.is_away())
    }

    /// True once each of them has been asked.
    pub(super) fn all_known(&self) -> bool {
        self.servers.iter().all(|server| server.is_known)
    }

    pub(super) fn is_away(&self, index: usize) -> bool {
        self.servers[index].is_away()
    }

    /// Picks the server for a request: the one with the fewest under way, and of those the fastest. One of which it is not known how fast
    /// it is goes first, so that it becomes known. One that has returned gets a second request only if there is no other, until it is known
    /// what became of the first. `None` if all are away.
    /// [`done`](Self::done) takes the ticket when it is known what became of the request.
    pub(super) fn pick(&mut self) -> Option<Ticket> {
        let servers = self.servers.iter_mut().enumerate();
        let (index, server) =
            servers
                .filter(|(_, server)| !server.is_away())
                .min_by_key(|(_, server)| {
                    let is_deciding = server.is_deciding();
                    (is_deciding, server.in_flight, server.expected_latency())
                })?;
        server.in_flight += 1;
        if let ServerState::Returned { is_deciding, .. } = &mut server.state {
            *is_deciding = true;
        }
        Some(Ticket {
            server: index,
            era: server.era,
        })
    }

    /// True if a request went to a server that has answered one since it came back, and that was not left since. If it is late, or too
    /// much for the server, it says something of how many requests the servers can take at once.
    pub(super) fn is_of_ready(&self, ticket: Ticket) -> bool {
        self.servers.get(ticket.server).is_some_and(|server| {
            server.era == ticket.era && matches!(server.state, ServerState::Ready { .. })
        })
    }

    /// Takes what became of a request.
    pub(super) fn done(&mut self, ticket: Ticket, outcome: Outcome, now: Instant) {
        let Some(server) = self.servers.get_mut(ticket.server) else {
            return;
        };
        server.in_flight = server.in_flight.saturating_sub(1);
        if server.era != ticket.era {
            return;
        }
        match outcome {
            Outcome::Answered { latency } => server.answered(latency, now),
            Outcome::Failed { reason } => server.leave(reason, now),
            Outcome::Deadline { limit } => {
                let which = match server.state {
                    ServerState::Returned { .. } => "the first request after a trial".to_owned(),
                    _ => format!("{STRIKES} requests in a row"),
                };
                let limit_ms = limit.as_millis();
                let reason = format!("it has left {which} without an answer for {limit_ms} ms");
                server.strike(reason, now);
            }
            Outcome::Busy { reason } => server.strike(reason, now),
            Outcome::Abandoned => {
                // It has decided nothing, so that another one has to.
                if let ServerState::Returned { is_deciding, .. } = &mut server.state {
                    *is_deciding = false;
                }
            }
        }
    }

    /// When a server is to be asked next.
    pub(super) fn ask_at(&self, index: usize) -> Instant {
        match self.servers[index].state {
            ServerState::Away { ask_at, .. } => ask_at,
            ServerState::Returned { heard_at, .. } | ServerState::Ready { heard_at, .. } => {
                heard_at + CHECK_AFTER
            }
        }
    }

    /// Takes what came of asking a server whether the model is ready, and of the trial if there was one; the error is a sentence.
    pub(super) fn asked(&mut self, index: usize, answer: Result<Proof, String>, now: Instant) {
        let server = &mut self.servers[index];
        server.is_known = true;
        match (answer, &mut server.state) {
            (
                Ok(_),
                ServerState::Returned { heard_at, .. } | ServerState::Ready { heard_at, .. },
            ) => {
                server.is_latency_old |= now.saturating_duration_since(*heard_at) >= CHECK_AFTER;
                *heard_at = now;
            }
            (Ok(Proof::Tried), ServerState::Away { .. }) => {
                server.state = ServerState::Returned {
                    heard_at: now,
                    is_deciding: false,
                };
            }
            // It was left since it was asked, so that it is to be asked again and tried.
            (Ok(Proof::Said), ServerState::Away { .. }) => {}
            (Err(reason), _) => server.leave(reason, now),
        }
    }
}

impl Server {
    pub(super) fn state(&self) -> &ServerState {
        &self.state
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// How long an answer will take, if that is known.
    fn expected_latency(&self) -> Option<Duration> {
        self.latency.filter(|_| !self.is_latency_old)
    }

    fn is_away(&self) -> bool {
        matches!(self.state, ServerState::Away { .. })
    }

    /// True while the request is under way that decides whether more of them go to it.
    fn is_deciding(&self) -> bool {
        matches!(
            self.state,
            ServerState::Returned {
                is_deciding: true,
                ..
            }
        )
    }

    fn answered(&mut self, latency: Duration, now: Instant) {
        self.failures = 0;
        self.latency = Some(match self.expected_latency() {
            None => latency,
            Some(old) => old.mul_f64(1.0 - LATENCY_SHARE) + latency.mul_f64(LATENCY_SHARE),
        });
        self.is_latency_old = false;
        self.state = ServerState::Ready {
            strikes: 0,
            heard_at: now,
        };
    }

    fn strike(&mut self, reason: String, now: Instant) {
        match &mut self.state {
            ServerState::Away { .. } => {}
            ServerState::Returned { .. } => self.leave(reason, now),
            ServerState::Ready { strikes, .. } => {
                *strikes += 1;
                if *strikes >= STRIKES {
                    self.leave(reason, now);
                }
            }
        }
    }

    fn leave(&mut self, reason: String, now: Instant) {
        let wait = FIRST_WAIT * 2u32.pow(self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        self.era += 1;
        self.latency = None;
        self.state = ServerState::Away {
            reason,
            ask_at: now + wait.min(LONGEST_WAIT),
        };
    }
}

#[cfg(test)]
#[path = "servers_tests.rs"]
mod tests;
