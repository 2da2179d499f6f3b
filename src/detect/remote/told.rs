//! What the log says of a server: its state comes in each time that it may have changed, and a line goes out when there is something
//! new. A server that comes and goes each second has a line a minute.

use std::time::{Duration, Instant};

use super::servers::ServerState;

/// The next line about a server that is away still comes after this long at the earliest.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What the log has of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Told {
    /// Nothing yet.
    #[default]
    Nothing,
    /// That requests go to it.
    Used,
    /// That none do, and why.
    Away { reason: String, at: Instant },
}

impl Told {
    /// Says what is new.
    pub(super) fn tell(&mut self, model: &str, server: &str, state: &ServerState) {
        match state {
            ServerState::Ready { .. } if *self != Self::Used => {
                *self = Self::Used;
                tracing::info!(model, server, "requests for inference go to the server");
            }
            ServerState::Away { reason, .. } if self.is_news(reason) => {
                *self = Self::Away {
                    reason: reason.clone(),
                    at: Instant::now(),
                };
                tracing::warn!(
                    model,
                    server,
                    reason,
                    "no requests for inference go to the server until it has the model ready"
                );
            }
            ServerState::Ready { .. } | ServerState::Away { .. } | ServerState::Trial { .. } => {}
        }
    }

    fn is_news(&self, reason: &str) -> bool {
        match self {
            // It has not been asked yet, and its state says that.
            Self::Nothing | Self::Used => true,
            Self::Away { reason: told, at } => reason != told && at.elapsed() >= AGAIN_AFTER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_and_another_one_not_before_a_minute() {
        let now = Instant::now();
        let away = |reason: &str| ServerState::Away {
            reason: reason.to_owned(),
            ask_at: now,
        };
        let mut told = Told::default();
        told.tell("net", "grpc://a:1", &away("refused"));
        let first = told.clone();
        assert!(matches!(&first, Told::Away { reason, .. } if reason == "refused"));
        told.tell("net", "grpc://a:1", &away("silent"));
        assert_eq!(told, first);
        let ready = ServerState::Ready {
            deadlines: 0,
            heard_at: now,
        };
        told.tell("net", "grpc://a:1", &ready);
        assert_eq!(told, Told::Used);
    }
}
