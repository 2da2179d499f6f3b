//! The history of a link's connection as apps see it: the progress of attempts comes in, the changes that apps are told of go
//! out. The link's task runs it.

use super::attempt::{EndReason, Progress};
use crate::hub::connection_events::{ConnectionChange, ConnectionType};

/// What has become of a link's connection so far.
#[derive(Debug, Default)]
pub(super) struct ConnectionHistory {
    was_connected: bool,
    is_connected: bool,
    /// How many attempts there were since the connection was lost.
    attempts: u32,
}

impl ConnectionHistory {
    /// Gives the change that apps are told of, if progress is one for them. `connection_type` is the kind of path of a
    /// connection that has come up.
    pub(super) fn progress(
        &mut self,
        progress: Progress,
        connection_type: Option<ConnectionType>,
    ) -> Option<ConnectionChange> {
        match progress {
            Progress::Attempting(_) if self.was_connected => {
                self.attempts += 1;
                let attempt = self.attempts;
                Some(ConnectionChange::Reconnecting { attempt })
            }
            Progress::Attempting(_) => None,
            Progress::Connected(_) => {
                self.attempts = 0;
                self.is_connected = true;
                Some(if std::mem::replace(&mut self.was_connected, true) {
                    ConnectionChange::Reconnected { connection_type }
                } else {
                    ConnectionChange::Connected { connection_type }
                })
            }
            Progress::Over(_, reason) => self.closed().or_else(|| {
                let reason = (reason != EndReason::Replaced).then_some(reason.as_str())?;
                Some(ConnectionChange::Error { reason })
            }),
        }
    }

    /// Notes that the connection is over. Gives the change that apps are told of, if it was up.
    pub(super) fn closed(&mut self) -> Option<ConnectionChange> {
        std::mem::take(&mut self.is_connected).then_some(ConnectionChange::Disconnected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::realtime::attempt::Attempt;

    #[test]
    fn a_loss_is_told_once_and_what_follows_are_attempts_to_reconnect() {
        let mut history = ConnectionHistory::default();
        let mut told = |progress| history.progress(progress, None);
        let of = Attempt(1);
        let failed = ConnectionChange::Error {
            reason: "no answer to the offer",
        };
        let connection_type = None;
        let unanswered = Progress::Over(of, EndReason::Unanswered);
        assert_eq!(told(Progress::Attempting(of)), None);
        assert_eq!(told(unanswered), Some(failed));
        assert_eq!(
            told(Progress::Connected(of)),
            Some(ConnectionChange::Connected { connection_type })
        );
        assert_eq!(
            told(Progress::Over(of, EndReason::Lost)),
            Some(ConnectionChange::Disconnected)
        );
        for attempt in 1..=2 {
            assert_eq!(
                told(Progress::Attempting(of)),
                Some(ConnectionChange::Reconnecting { attempt })
            );
            assert_eq!(told(unanswered), Some(failed));
        }
        assert_eq!(
            told(Progress::Connected(of)),
            Some(ConnectionChange::Reconnected { connection_type })
        );
        assert_eq!(history.closed(), Some(ConnectionChange::Disconnected));
        assert_eq!(history.closed(), None);
        let replaced = Progress::Over(of, EndReason::Replaced);
        assert_eq!(history.progress(replaced, None), None);
    }
}
