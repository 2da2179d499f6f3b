//! What the log says of a server: its state comes in each time that it may have changed, and what is to be said goes out when there is
//! something new. A server that comes and goes each second has two lines in ten.

use std::time::{Duration, Instant};

use super::servers::ServerState;

/// That a server is left is said again after this long at the earliest.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// That it is away for another reason than before is said after this long at the earliest.
const OTHER_REASON_AFTER: Duration = Duration::from_secs(60);

/// What the log has of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Told {
    /// True if the last line says that requests go to it.
    is_used: bool,
    /// What the last line says that says that none do, and when that was.
    away: Option<(String, Instant)>,
}

/// What the log is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// Requests go to the server.
    Used,
    /// None do, for this reason.
    Away(String),
}

impl Told {
    /// What is new.
    pub(super) fn news(&mut self, state: &ServerState, now: Instant) -> Option<Line> {
        match state {
            ServerState::Returned { .. } | ServerState::Ready { .. } if !self.is_used => {
                self.is_used = true;
                Some(Line::Used)
            }
            ServerState::Away { reason, .. } if self.is_news(reason, now) => {
                self.is_used = false;
                self.away = Some((reason.clone(), now));
                Some(Line::Away(reason.clone()))
            }
            ServerState::Returned { .. } | ServerState::Ready { .. } | ServerState::Away { .. } => {
                None
            }
        }
    }

    fn is_news(&self, reason: &str, now: Instant) -> bool {
        let Some((told, at)) = &self.away else {
            return true;
        };
        let since = now.saturating_duration_since(*at);
        match self.is_used {
            true => since >= AGAIN_AFTER,
            false => reason != told && since >= OTHER_REASON_AFTER,
        }
    }
}

impl Line {
    /// Writes it to the log.
    pub(super) fn write(&self, model: &str, server: &str) {
        match self {
            Self::Used => tracing::info!(model, server, "requests for inference go to the server"),
            Self::Away(reason) => tracing::warn!(
                model,
                server,
                reason,
                "no requests for inference go to the server until it has the model ready"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_comes_and_goes_each_second_has_two_lines_in_ten() {
        let start = Instant::now();
        let mut told = Told::default();
        let mut lines = 0;
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            let state = match second % 2 {
                0 => ServerState::Away {
                    reason: format!("reason {second}"),
                    ask_at: now,
                },
                _ => ServerState::Ready {
                    strikes: 0,
                    heard_at: now,
                },
            };
            lines += usize::from(told.news(&state, now).is_some());
        }
        assert_eq!(lines, 12);
        // What is so at the end is said in the end.
        let now = start + Duration::from_secs(75);
        let away = ServerState::Away {
            reason: "refused".to_owned(),
            ask_at: now,
        };
        assert_eq!(
            told.news(&away, now),
            Some(Line::Away("refused".to_owned()))
        );
        assert_eq!(told.news(&away, now + Duration::from_secs(100)), None);
    }
}
