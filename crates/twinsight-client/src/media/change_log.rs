//! Which changes of a stream's state the log has: states come in, with time; what is to be said comes out. A peer that
//! offers and offers causes some with each, and what the log says last has to be true.

use std::time::{Duration, Instant};

use super::stream_state::StreamState;
use crate::rate_limit::RateLimit;
use crate::telemetry::CameraState;

/// The same change of a stream's state is said this often at most.
const CHANGE_LIMIT: Duration = Duration::from_secs(1);

/// What a line about a change of state says.
pub(super) type Change = (CameraState, Option<&'static str>);

pub(super) fn change_of(state: StreamState) -> Change {
    (state.state, state.reason)
}

/// Decides which changes are said.
pub(super) struct ChangeLog {
    limit: RateLimit<Change>,
    /// What was said last.
    said: Option<Change>,
    /// When what was left out is said if it still holds.
    pub(super) look_at: Option<Instant>,
}

impl ChangeLog {
    pub(super) fn new() -> Self {
        Self {
            limit: RateLimit::new(CHANGE_LIMIT),
            said: None,
            look_at: None,
        }
    }

    /// `Some` to say a change now, and how many were left out before.
    pub(super) fn change(&mut self, change: Change, now: Instant) -> Option<u64> {
        let suppressed = self.limit.allow(change, now);
        if suppressed.is_some() {
            self.said = Some(change);
            self.look_at = None;
        } else {
            self.look_at.get_or_insert(now + CHANGE_LIMIT);
        }
        suppressed
    }

    /// The same of a change that was left out, once its time has come; of nothing else.
    pub(super) fn later(&mut self, current: Change, now: Instant) -> Option<u64> {
        self.look_at.take_if(|at| *at <= now)?;
        if self.said == Some(current) {
            return None;
        }
        self.change(current, now)
    }
}

pub(super) fn say_state(state: StreamState, suppressed: Option<u64>) {
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
