//! Decides which changes of a stream's state are logged: states come in with the time, and the changes to log go out. A peer can
//! cause several changes with each offer, so their rate is limited; yet the last line of the log must name the state in which
//! the stream stays. The stream's task runs it.

use std::time::{Duration, Instant};

use super::stream_state::StreamState;
use crate::rate_limit::RateLimit;
use crate::telemetry::CameraState;

/// The same change of a stream's state is logged once in this time at most.
const CHANGE_LIMIT: Duration = Duration::from_secs(1);

/// The state and the reason that a line of the log names.
pub(super) type Change = (CameraState, Option<&'static str>);

pub(super) fn change_of(state: StreamState) -> Change {
    (state.state, state.reason)
}

/// Decides which changes are logged.
pub(super) struct ChangeLog {
    limit: RateLimit<Change>,
    /// The change that was logged last.
    logged: Option<Change>,
    /// When a change that was not logged is logged after all, if the state is still the same.
    pub(super) look_at: Option<Instant>,
}

impl ChangeLog {
    pub(super) fn new() -> Self {
        Self {
            limit: RateLimit::new(CHANGE_LIMIT),
            logged: None,
            look_at: None,
        }
    }

    /// `Some` when a change is to be logged now, with the number of those that were suppressed before it.
    pub(super) fn change(&mut self, change: Change, now: Instant) -> Option<u64> {
        let suppressed = self.limit.allow(change, now);
        if suppressed.is_some() {
            self.logged = Some(change);
            self.look_at = None;
        } else {
            self.look_at.get_or_insert(now + CHANGE_LIMIT);
        }
        suppressed
    }

    /// As [`change`](Self::change), for a change that was not logged and whose time has come.
    pub(super) fn later(&mut self, current: Change, now: Instant) -> Option<u64> {
        self.look_at.take_if(|at| *at <= now)?;
        if self.logged == Some(current) {
            return None;
        }
        self.change(current, now)
    }
}

/// Logs a state, unless its line is suppressed.
pub(super) fn log_state(state: StreamState, suppressed: Option<u64>) {
    if let Some(suppressed) = suppressed {
        tracing::info!(
            state = %state.state,
            attempt = state.attempt,
            reason = state.reason,
            suppressed,
            "the camera's state changed"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_change_of_several_is_said_in_the_end() {
        let (a, b) = (
            (CameraState::Connecting, None),
            (CameraState::Receiving, None),
        );
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut log = ChangeLog::new();
        assert_eq!(log.change(a, at(0)), Some(0));
        assert_eq!(log.change(b, at(100)), Some(0));
        assert_eq!(log.look_at, None);
        assert_eq!(log.change(a, at(200)), None, "it was said just now");
        assert_eq!(log.look_at, Some(at(1200)));
        assert_eq!(log.later(a, at(1199)), None, "its time has not come");
        assert_eq!(log.later(a, at(1200)), Some(1));
        assert_eq!((log.look_at, log.later(a, at(1300))), (None, None));
        // What was left out and no longer holds is not said.
        assert_eq!(log.change(b, at(1400)), Some(0));
        assert_eq!(log.change(a, at(1500)), None);
        assert_eq!(log.change(b, at(1600)), None);
        assert_eq!(log.later(b, at(2500)), None);
        assert_eq!(log.look_at, None);
    }
}
