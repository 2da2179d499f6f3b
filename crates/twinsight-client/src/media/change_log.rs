//! Decides which changes of a stream's state are logged, and how loud: states come in with the time, and the changes to log go out. A
//! peer can cause several changes with each offer, so their rate is limited; yet the last line of the log must name the state in which
//! the stream stays. A state in which nothing is seen is a warning, and the line of the next frame tells how long that was. The stream's
//! task runs it.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::stream_state::StreamState;
use crate::rate_limit::{RATE_LIMIT, RateLimit};
use crate::telemetry::CameraState;

/// The same change of a stream's state is logged once in this time at most.
const CHANGE_LIMIT: Duration = Duration::from_secs(1);

/// The state and the reason that a line of the log names.
type Change = (CameraState, Option<Cow<'static, str>>);

fn change_of(state: &StreamState) -> Change {
    (state.state, state.reason.clone())
}

/// True for a state in which an operator has to act, or at least to know that nothing is seen.
fn is_trouble(state: CameraState) -> bool {
    match state {
        CameraState::Stalled | CameraState::Unreachable | CameraState::Rejected => true,
        CameraState::Connecting | CameraState::Receiving | CameraState::Removed => false,
    }
}

/// Decides which changes are logged.
pub(super) struct ChangeLog {
    limit: RateLimit<Change>,
    /// Warnings are repeated less often.
    trouble_limit: RateLimit<Change>,
    /// The change that was logged last.
    logged: Option<Change>,
    /// When a change that was not logged is logged after all, if the state is still the same.
    pub(super) look_at: Option<Instant>,
    blindness: Blindness,
}

/// For how long nothing was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blindness {
    /// The stream has only just begun to connect.
    NotYet,
    /// Frames come, and what was before is said.
    Over,
    /// Frames came until then, or have not come since.
    Since(Instant),
    /// Frames come again after this time, which is not said yet.
    Unsaid(Duration),
}

/// A line of the log that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DueLine {
    /// So many lines like it were left out before.
    pub(super) suppressed: u64,
    /// Frames come again after nothing was seen for this long.
    pub(super) blind_for: Option<Duration>,
}

impl ChangeLog {
    pub(super) fn new() -> Self {
        Self {
            limit: RateLimit::new(CHANGE_LIMIT),
            trouble_limit: RateLimit::new(RATE_LIMIT),
            logged: None,
            look_at: None,
            blindness: Blindness::NotYet,
        }
    }

    /// `Some` when the change to this state is to be logged now.
    pub(super) fn change(&mut self, state: &StreamState, now: Instant) -> Option<DueLine> {
        self.note(state);
        let change = change_of(state);
        let (limit, interval) = match is_trouble(state.state) {
            true => (&self.trouble_limit, RATE_LIMIT),
            false => (&self.limit, CHANGE_LIMIT),
        };
        let Some(suppressed) = limit.allow(change.clone(), now) else {
            let at = now + interval;
            // The line of a state that is left out for long must not hold up that of the next one.
            self.look_at = Some(self.look_at.map_or(at, |planned| planned.min(at)));
            return None;
        };
        self.logged = Some(change);
        self.look_at = None;
        let blind_for = match self.blindness {
            Blindness::Unsaid(blind_for) if state.state == CameraState::Receiving => {
                self.blindness = Blindness::Over;
                Some(blind_for)
            }
            _ => None,
        };
        Some(DueLine {
            suppressed,
            blind_for,
        })
    }

    /// As [`change`](Self::change), for a change that was not logged and whose time has come.
    pub(super) fn later(&mut self, current: &StreamState, now: Instant) -> Option<DueLine> {
        self.look_at.take_if(|at| *at <= now)?;
        if self.logged == Some(change_of(current)) {
            return None;
        }
        self.change(current, now)
    }

    /// Notes since when nothing is seen. A stream that connects for the first time has nothing to report until that fails.
    fn note(&mut self, state: &StreamState) {
        let is_receiving = state.state == CameraState::Receiving;
        self.blindness = match self.blindness {
            Blindness::NotYet if is_receiving => Blindness::Over,
            Blindness::NotYet | Blindness::Over if is_trouble(state.state) => {
                Blindness::Since(state.since)
            }
            Blindness::Over if !is_receiving => Blindness::Since(state.since),
            Blindness::Since(since) if is_receiving => {
                Blindness::Unsaid(state.since.saturating_duration_since(since))
            }
            // It was not said that frames had come again, so the time goes on.
            Blindness::Unsaid(before) if !is_receiving => {
                let since = state.since.checked_sub(before);
                Blindness::Since(since.unwrap_or(state.since))
            }
            unchanged => unchanged,
        };
    }
}

/// Logs a state, unless its line is suppressed.
pub(super) fn log_state(state: &StreamState, due: Option<DueLine>) {
    let Some(due) = due else {
        return;
    };
    if is_trouble(state.state) {
        tracing::warn!(
            state = %state.state,
            attempt = state.attempt,
            reason = state.reason.as_deref(),
            suppressed = due.suppressed,
            "the camera's state changed"
        );
    } else {
        tracing::info!(
            state = %state.state,
            attempt = state.attempt,
            reason = state.reason.as_deref(),
            blind_for_s = due.blind_for.map(|blind| blind.as_secs()),
            suppressed = due.suppressed,
            "the camera's state changed"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use CameraState::{Connecting, Receiving, Stalled, Unreachable};

    const NOT_BLIND: Option<Duration> = None;

    fn due(suppressed: u64, blind_for: Option<Duration>) -> Option<DueLine> {
        Some(DueLine {
            suppressed,
            blind_for,
        })
    }

    fn in_state(state: CameraState, since: Instant) -> StreamState {
        StreamState {
            state,
            since,
            reason: None,
            attempt: 1,
        }
    }

    #[test]
    fn the_last_change_of_several_is_said_in_the_end() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (a, b) = (
            in_state(CameraState::Connecting, start),
            in_state(CameraState::Removed, start),
        );
        let mut log = ChangeLog::new();
        assert_eq!(log.change(&a, at(0)), due(0, NOT_BLIND));
        assert_eq!(log.change(&b, at(100)), due(0, NOT_BLIND));
        assert_eq!(log.look_at, None);
        assert_eq!(log.change(&a, at(200)), None, "it was said just now");
        assert_eq!(log.look_at, Some(at(1200)));
        assert_eq!(log.later(&a, at(1199)), None, "its time has not come");
        assert_eq!(log.later(&a, at(1200)), due(1, NOT_BLIND));
        assert_eq!((log.look_at, log.later(&a, at(1300))), (None, None));
        // What was left out and no longer holds is not said.
        assert_eq!(log.change(&b, at(1400)), due(0, NOT_BLIND));
        assert_eq!(log.change(&a, at(1500)), None);
        assert_eq!(log.change(&b, at(1600)), None);
        assert_eq!(log.later(&b, at(2500)), None);
        assert_eq!(log.look_at, None);
    }

    #[test]
    fn a_camera_that_comes_and_goes_warns_once_in_ten_seconds_and_the_last_line_is_right() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let state = |state, seconds| in_state(state, at(seconds));
        let (stalled, receiving) = (CameraState::Stalled, CameraState::Receiving);
        let mut log = ChangeLog::new();
        assert!(log.change(&state(receiving, 0), at(0)).is_some());
        assert!(log.change(&state(stalled, 2), at(2)).is_some());
        assert!(log.change(&state(receiving, 4), at(4)).is_some());
        assert_eq!(
            log.change(&state(stalled, 6), at(6)),
            None,
            "4 s after the last"
        );
        assert!(log.change(&state(receiving, 8), at(8)).is_some());
        assert_eq!(log.change(&state(stalled, 10), at(10)), None);
        assert_eq!(log.look_at, Some(at(20)));
        assert_eq!(log.later(&state(stalled, 10), at(20)), due(2, NOT_BLIND));
        assert_eq!(log.look_at, None);
    }

    #[test]
    fn the_line_of_the_next_frame_tells_how_long_nothing_was_seen() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let blind = |seconds| Some(Duration::from_secs(seconds));
        let mut log = ChangeLog::new();
        let mut change = |state, seconds| {
            let due = log.change(&in_state(state, at(seconds)), at(seconds));
            due.expect("these are far apart").blind_for
        };
        assert_eq!(change(Connecting, 0), None);
        assert_eq!(change(Receiving, 2), None, "it has only just begun");
        assert_eq!(change(Stalled, 20), None);
        assert_eq!(change(Unreachable, 40), None);
        assert_eq!(change(Receiving, 100), blind(80));
        assert_eq!(change(Connecting, 200), None);
        assert_eq!(change(Receiving, 203), blind(3));
    }

    #[test]
    fn a_time_without_frames_that_was_not_said_is_added_to_the_next() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut log = ChangeLog::new();
        let mut change = |state, ms| log.change(&in_state(state, at(ms)), at(ms));
        assert!(change(Receiving, 0).is_some());
        assert!(change(Connecting, 20_000).is_some());
        assert!(change(Receiving, 30_000).is_some());
        assert!(change(Stalled, 30_100).is_some());
        assert_eq!(change(Receiving, 30_500), None, "it was said just now");
        assert_eq!(
            change(Connecting, 30_600).map(|due| due.blind_for),
            Some(None)
        );
        let blind = Duration::from_millis(2400 + 400);
        assert_eq!(change(Receiving, 33_000), due(1, Some(blind)));
    }
}
