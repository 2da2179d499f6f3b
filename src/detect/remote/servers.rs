//! Which server a request goes to: what became of requests and of questions for readiness comes in, with the time, and the next server
//! and the time of the next question go out. It is plain state; the model's tasks and workers run it.
//!
//! A server that fails is left at once. It is asked whether it has the model ready, and when it says so, one request is the trial:
//! others follow only once that one was answered.

use std::time::{Duration, Instant};

/// A server is left after so many deadlines in a row.
const DEADLINES_IN_A_ROW: u32 = 3;

/// A server that was left is first asked after this long.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// It is asked at least this often, so that it is used again soon after it is back.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

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
    /// How often it was left. What becomes of a request from before says nothing of the server as it is now.
    era: u64,
    /// How often it failed since it last answered.
    failures: u32,
}

/// How a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServerState {
    /// Nothing goes to it until it was asked whether it has the model ready.
    Away {
        /// Why.
        reason: String,
        /// When it is to be asked.
        ask_at: Instant,
    },
    /// It says that it has the model ready, and the next request decides.
    Trial {
        /// Whether that request is under way.
        is_under_way: bool,
        /// When it said so.
        since: Instant,
    },
    /// Requests go to it.
    Ready {
        /// How many deadlines have passed since its last answer.
        deadlines: u32,
        /// When it last answered.
        heard_at: Instant,
    },
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    /// To this server. [`Servers::done`] takes it when it is known what became of the request.
    To(Ticket),
    /// To none before the trial is over that is under way.
    AfterTrial,
    /// To none: all are away.
    Nowhere,
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
            era: 0,
            failures: 0,
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

    /// How many requests may be under way where each server in trial takes one and a server that is ready any number: `None` means
    /// any number.
    pub(super) fn trials(&self) -> Option<usize> {
        let is_ready = |server: &Server| matches!(server.state, ServerState::Ready { .. });
        let is_trial = |server: &&Server| matches!(server.state, ServerState::Trial { .. });
        match self.servers.iter().any(is_ready) {
            true => None,
            false => Some(self.servers.iter().filter(is_trial).count()),
        }
    }

    /// True if there is a server that a request can go to, now or after a trial.
    pub(super) fn any_usable(&self) -> bool {
        self.trials() != Some(0)
    }

    /// Picks the server for a request: the one with the fewest under way, and of those the fastest. A server that has not answered yet
    /// counts as the fastest, so that its trial comes soon.
    pub(super) fn pick(&mut self) -> Pick {
        let can_take = |server: &Server| match server.state {
            ServerState::Ready { .. } => true,
            ServerState::Trial { is_under_way, .. } => !is_under_way,
            ServerState::Away { .. } => false,
        };
        let usable = self.servers.iter().enumerate();
        let best = usable
            .filter(|(_, server)| can_take(server))
            .min_by_key(|(_, server)| (server.in_flight, server.latency));
        let Some((index, _)) = best else {
            return match self.any_usable() {
                true => Pick::AfterTrial,
                false => Pick::Nowhere,
            };
        };
        let server = &mut self.servers[index];
        server.in_flight += 1;
        if let ServerState::Trial { is_under_way, .. } = &mut server.state {
            *is_under_way = true;
        }
        Pick::To(Ticket {
            server: index,
            era: server.era,
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
        match (outcome, &mut server.state) {
            (Outcome::Answered { latency }, _) => server.answered(latency, now),
            (Outcome::Failed { reason }, _) => server.leave(reason, now),
            (Outcome::Deadline { limit }, ServerState::Ready { deadlines, .. }) => {
                *deadlines += 1;
                if *deadlines >= DEADLINES_IN_A_ROW {
                    let reason = format!(
                        "it has left {DEADLINES_IN_A_ROW} requests in a row without an answer for {} ms",
                        limit.as_millis()
                    );
                    server.leave(reason, now);
                }
            }
            (Outcome::Deadline { limit }, _) => {
                let reason = format!(
                    "it says that the model is ready, and has not answered within {} ms",
                    limit.as_millis()
                );
                server.leave(reason, now);
            }
            (Outcome::Abandoned, ServerState::Trial { is_under_way, .. }) => *is_under_way = false,
            (Outcome::Abandoned, _) => {}
        }
    }

    /// When a server is to be asked next, and whether it is away until then.
    pub(super) fn ask_at(&self, index: usize) -> Instant {
        match self.servers[index].state {
            ServerState::Away { ask_at, .. } => ask_at,
            ServerState::Trial { since, .. } => since + CHECK_AFTER,
            ServerState::Ready { heard_at, .. } => heard_at + CHECK_AFTER,
        }
    }

    /// Takes what a server answered to the question whether the model is ready, and what it takes; the error is a sentence.
    pub(super) fn asked(&mut self, index: usize, answer: Result<(), String>, now: Instant) {
        let server = &mut self.servers[index];
        match (answer, &mut server.state) {
            (Ok(()), ServerState::Away { .. }) => {
                server.state = ServerState::Trial {
                    is_under_way: false,
                    since: now,
                };
            }
            (Ok(()), ServerState::Trial { since, .. }) => *since = now,
            (Ok(()), ServerState::Ready { heard_at, .. }) => *heard_at = now,
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

    fn answered(&mut self, latency: Duration, now: Instant) {
        self.failures = 0;
        self.latency = Some(match self.latency {
            None => latency,
            Some(old) => old.mul_f64(1.0 - LATENCY_SHARE) + latency.mul_f64(LATENCY_SHARE),
        });
        self.state = ServerState::Ready {
            deadlines: 0,
            heard_at: now,
        };
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
