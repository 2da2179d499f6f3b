//! The state of a camera's stream as its operator sees it, and the rules by which a connection that looks alive is given up. The
//! progress of attempts and the arrival of frames come in with the time; the state, and the reason to begin anew, go out. The
//! stream's task runs it.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use crate::realtime::attempt::{EndReason, Progress, Role};
use crate::telemetry::CameraState;

/// A stream without a frame for this long, after frames have come, is stalled.
pub(super) const STALL_LIMIT: Duration = Duration::from_secs(5);

/// A connection that is up has this long to bring its first frame.
pub(super) const FIRST_FRAME_LIMIT: Duration = Duration::from_secs(15);

/// While the packets of one large unit keep coming over a slow link, a connection is kept this much longer: a new one would
/// begin with such a unit, too.
const SLOW_UNIT_LIMIT: Duration = Duration::from_secs(25);

/// How often it is checked whether the packets of a large unit still come.
const SLOW_UNIT_CHECK: Duration = Duration::from_secs(1);

/// A camera that is to dial us has this long while the hub is there. The official client dials again
/// about 31 s after a node vanished.
const DIAL_LIMIT: Duration = Duration::from_secs(45);

/// Attempts that may fail before a camera counts as unreachable.
const FAILURES_UNTIL_UNREACHABLE: u32 = 2;

/// Why a camera is not even asked for its video.
pub(super) const NO_THREAD: &str =
    "the system grants the node no thread to decode it: raise the limit of processes and threads";

/// A stream's state with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// Whether the camera connects, sends, stalls or cannot be reached.
    pub state: CameraState,
    /// When it began.
    pub since: Instant,
    /// The reason as a clause; none if the state says enough.
    pub reason: Option<Cow<'static, str>>,
    /// The number of the attempt that was under way then, from 1.
    pub attempt: u32,
}

/// The state machine of one stream.
#[derive(Debug)]
pub(super) struct StreamStateMachine {
    role: Role,
    hub_joined: bool,
    current: StreamState,
    attempt: u32,
    failures: u32,
    watch: Watch,
    /// If the time of `watch` is over while the packets of a large unit come, the unit is waited for until this instant.
    unit_awaited_until: Option<Instant>,
}

/// What must happen next, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    /// No connection is up.
    Nothing,
    /// The camera must dial us by this instant.
    Dial(Instant),
    /// The connection is up, and its first frame must come by this instant.
    FirstFrame(Instant),
    /// Frames come, and the next one must come by this instant.
    NextFrame(Instant),
}

impl StreamStateMachine {
    /// The state of a stream that begins to connect.
    pub(super) fn new(now: Instant, role: Role) -> Self {
        Self {
            role,
            hub_joined: false,
            current: StreamState {
                state: CameraState::Connecting,
                since: now,
                reason: None,
                attempt: 0,
            },
            attempt: 0,
            failures: 0,
            watch: Watch::Nothing,
            unit_awaited_until: None,
        }
    }

    /// The state of now.
    pub(super) fn state(&self) -> StreamState {
        self.current.clone()
    }

    /// Takes the news whether the hub is joined: without it nobody can dial.
    pub(super) fn hub(&mut self, now: Instant, joined: bool) {
        self.hub_joined = joined;
        match self.watch {
            Watch::Nothing if joined => self.await_dial(now),
            Watch::Dial(_) if !joined => self.watch = Watch::Nothing,
            _ => {}
        }
    }

    /// Takes the news whether there is a thread to decode on: without it the camera is not connected to.
    pub(super) fn decoder(&mut self, now: Instant, granted: bool) {
        if !granted {
            self.enter(now, CameraState::Unreachable, Some(NO_THREAD));
        } else if self.current.reason.as_deref() == Some(NO_THREAD) {
            self.enter(now, CameraState::Connecting, None);
        }
    }

    /// Takes the negotiation's progress.
    pub(super) fn progress(&mut self, now: Instant, progress: Progress) {
        self.unit_awaited_until = None;
        match progress {
            Progress::Attempting(attempt) => {
                self.attempt = attempt.0;
                self.watch = Watch::Nothing;
            }
            Progress::Connected(_) => self.watch = Watch::FirstFrame(now + FIRST_FRAME_LIMIT),
            Progress::Over(_, reason) => {
                let had_frames = matches!(self.watch, Watch::NextFrame(_));
                self.watch = Watch::Nothing;
                self.await_dial(now);
                self.over(now, reason, had_frames);
            }
        }
    }

    /// Takes the news that a frame was decoded.
    pub(super) fn frame(&mut self, now: Instant) {
        match self.watch {
            Watch::Nothing | Watch::Dial(_) => return,
            // The frame belongs to the connection before.
            Watch::FirstFrame(deadline) if now + FIRST_FRAME_LIMIT < deadline => return,
            // The frame was reported before.
            Watch::NextFrame(deadline) if now + STALL_LIMIT <= deadline => return,
            Watch::FirstFrame(_) | Watch::NextFrame(_) => {}
        }
        self.watch = Watch::NextFrame(now + STALL_LIMIT);
        self.unit_awaited_until = None;
        self.failures = 0;
        self.enter(now, CameraState::Receiving, None);
    }

    /// Does what is due by now. If it gives a reason, the connection is to be given up and made anew. `unit_is_coming` is true
    /// while packets of one large unit keep coming.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        unit_is_coming: bool,
    ) -> Option<EndReason> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        match self.watch {
            Watch::Nothing => None,
            Watch::FirstFrame(deadline) => self.give_up(now, deadline, unit_is_coming),
            Watch::NextFrame(deadline) => {
                self.enter(now, CameraState::Stalled, Some("no frame for 5 s"));
                self.give_up(now, deadline, unit_is_coming)
            }
            Watch::Dial(_) => {
                self.watch = Watch::Nothing;
                let reason = "the camera has not dialled this node";
                self.enter(now, CameraState::Unreachable, Some(reason));
                None
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.watch {
            Watch::Nothing => None,
            Watch::Dial(deadline) | Watch::FirstFrame(deadline) | Watch::NextFrame(deadline) => {
                Some(
                    self.unit_awaited_until
                        .map_or(deadline, |at| at.max(deadline)),
                )
            }
        }
    }

    /// Handles that no frame has come until `deadline`.
    fn give_up(
        &mut self,
        now: Instant,
        deadline: Instant,
        unit_is_coming: bool,
    ) -> Option<EndReason> {
        if unit_is_coming && now < deadline + SLOW_UNIT_LIMIT {
            self.unit_awaited_until = Some(now + SLOW_UNIT_CHECK);
            return None;
        }
        Some(EndReason::NoMedia)
    }

    fn await_dial(&mut self, now: Instant) {
        if self.role == Role::Responder && self.hub_joined {
            self.watch = Watch::Dial(now + DIAL_LIMIT);
        }
    }

    fn over(&mut self, now: Instant, reason: EndReason, had_frames: bool) {
        if reason == EndReason::Replaced {
            return;
        }
        if !had_frames {
            self.failures = self.failures.saturating_add(1);
        }
        let reason_text = Some(reason.as_str());
        if reason == EndReason::Unusable {
            self.enter(now, CameraState::Rejected, reason_text);
        } else if self.failures >= FAILURES_UNTIL_UNREACHABLE {
            self.enter(now, CameraState::Unreachable, reason_text);
        } else if self.current.state == CameraState::Receiving {
            self.enter(now, CameraState::Connecting, reason_text);
        }
    }

    fn enter(&mut self, now: Instant, state: CameraState, reason: Option<&'static str>) {
        let same = self.current.state == state;
        if !same || self.current.reason.as_deref() != reason {
            self.current = StreamState {
                state,
                since: if same { self.current.since } else { now },
                reason: reason.map(Cow::Borrowed),
                attempt: self.attempt,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::realtime::attempt::Attempt;

    const SECOND: Duration = Duration::from_secs(1);

    fn receiving(now: Instant) -> StreamStateMachine {
        let mut state_machine = StreamStateMachine::new(now, Role::Initiator);
        state_machine.progress(now, Progress::Attempting(Attempt(1)));
        state_machine.progress(now, Progress::Connected(Attempt(1)));
        assert_eq!(
            state_machine.state().state,
            CameraState::Connecting,
            "connected is not yet receiving"
        );
        state_machine.frame(now);
        assert_eq!(state_machine.state().state, CameraState::Receiving);
        state_machine
    }

    #[test]
    fn five_seconds_without_a_frame_are_a_stall_and_a_new_beginning() {
        let now = Instant::now();
        let mut state_machine = receiving(now);
        assert_eq!(state_machine.handle_timeout(now + 4 * SECOND, false), None);
        state_machine.frame(now + 4 * SECOND);
        assert_eq!(state_machine.handle_timeout(now + 8 * SECOND, false), None);
        assert_eq!(
            state_machine.handle_timeout(now + 9 * SECOND, false),
            Some(EndReason::NoMedia)
        );
        assert_eq!(state_machine.state().state, CameraState::Stalled);
        state_machine.progress(
            now + 9 * SECOND,
            Progress::Over(Attempt(1), EndReason::NoMedia),
        );
        assert_eq!(
            state_machine.state().state,
            CameraState::Stalled,
            "the stall is what the operator must know"
        );
        state_machine.progress(now + 9 * SECOND, Progress::Connected(Attempt(2)));
        state_machine.frame(now + 10 * SECOND);
        assert_eq!(state_machine.state().state, CameraState::Receiving);
    }

    #[test]
    fn a_camera_that_never_answers_is_unreachable_after_two_attempts() {
        let now = Instant::now();
        let mut state_machine = StreamStateMachine::new(now, Role::Initiator);
        for n in 1..=2 {
            assert_eq!(state_machine.state().state, CameraState::Connecting);
            state_machine.progress(now, Progress::Attempting(Attempt(n)));
            state_machine.progress(now, Progress::Over(Attempt(n), EndReason::Unanswered));
        }
        assert_eq!(state_machine.state().state, CameraState::Unreachable);
        assert_eq!(
            (
                state_machine.state().reason.as_deref(),
                state_machine.state().attempt
            ),
            (Some("no answer to the offer"), 2)
        );
        // It answers, and now something else is the matter.
        let unreachable_since = state_machine.state().since;
        let later = now + 20 * SECOND;
        state_machine.progress(later, Progress::Attempting(Attempt(3)));
        state_machine.progress(later, Progress::Over(Attempt(3), EndReason::NoPath));
        assert_eq!(
            (
                state_machine.state().reason.as_deref(),
                state_machine.state().attempt,
                state_machine.state().since
            ),
            (
                Some("no network path was found in time"),
                3,
                unreachable_since
            )
        );
    }

    #[test]
    fn a_camera_without_h264_is_rejected() {
        let mut state_machine = StreamStateMachine::new(Instant::now(), Role::Initiator);
        state_machine.progress(
            Instant::now(),
            Progress::Over(Attempt(1), EndReason::Unusable),
        );
        assert_eq!(state_machine.state().state, CameraState::Rejected);
    }

    #[test]
    fn a_camera_that_does_not_dial_is_unreachable_while_the_hub_is_there() {
        let now = Instant::now();
        let mut state_machine = StreamStateMachine::new(now, Role::Responder);
        assert_eq!(
            state_machine.deadline(),
            None,
            "without the hub nobody can dial"
        );
        state_machine.hub(now, true);
        state_machine.hub(now + SECOND, false);
        assert_eq!(
            state_machine.handle_timeout(now + 2 * DIAL_LIMIT, false),
            None
        );
        assert_eq!(state_machine.state().state, CameraState::Connecting);
        let now = now + 2 * DIAL_LIMIT;
        state_machine.hub(now, true);
        assert_eq!(state_machine.handle_timeout(now + DIAL_LIMIT, false), None);
        assert_eq!(state_machine.state().state, CameraState::Unreachable);
        state_machine.progress(now, Progress::Attempting(Attempt(1)));
        state_machine.progress(now, Progress::Connected(Attempt(1)));
        state_machine.frame(now + SECOND);
        assert_eq!(state_machine.state().state, CameraState::Receiving);
        state_machine.progress(now, Progress::Over(Attempt(1), EndReason::Closed));
        assert_eq!(state_machine.state().state, CameraState::Connecting);
        assert_eq!(state_machine.deadline(), Some(now + DIAL_LIMIT));
    }

    #[test]
    fn a_connection_without_a_first_frame_is_given_up() {
        let now = Instant::now();
        let mut state_machine = StreamStateMachine::new(now, Role::Initiator);
        state_machine.progress(now, Progress::Connected(Attempt(1)));
        assert_eq!(state_machine.deadline(), Some(now + FIRST_FRAME_LIMIT));
        assert_eq!(
            state_machine.handle_timeout(now + FIRST_FRAME_LIMIT, false),
            Some(EndReason::NoMedia)
        );
        assert_eq!(state_machine.state().state, CameraState::Connecting);
    }

    #[test]
    fn a_large_unit_over_a_slow_link_is_waited_for_and_the_stall_is_said() {
        let now = Instant::now();
        let mut state_machine = receiving(now);
        for s in 5..12 {
            assert_eq!(state_machine.deadline(), Some(now + s * SECOND));
            // The last frame is told again and again.
            state_machine.frame(now);
            assert_eq!(state_machine.handle_timeout(now + s * SECOND, true), None);
            assert_eq!(state_machine.state().state, CameraState::Stalled);
            assert_eq!(state_machine.state().since, now + 5 * SECOND);
        }
        state_machine.frame(now + 12 * SECOND);
        assert_eq!(state_machine.state().state, CameraState::Receiving);
        assert_eq!(state_machine.deadline(), Some(now + 17 * SECOND));
        // It stops coming, or goes on for ever.
        assert_eq!(state_machine.handle_timeout(now + 17 * SECOND, true), None);
        assert_eq!(
            state_machine.handle_timeout(now + 18 * SECOND, false),
            Some(EndReason::NoMedia)
        );
        assert_eq!(
            state_machine.handle_timeout(now + 17 * SECOND + SLOW_UNIT_LIMIT, true),
            Some(EndReason::NoMedia)
        );
        // The first frame has the same.
        let mut state_machine = StreamStateMachine::new(now, Role::Initiator);
        state_machine.progress(now, Progress::Connected(Attempt(1)));
        assert_eq!(
            state_machine.handle_timeout(now + FIRST_FRAME_LIMIT, true),
            None
        );
        assert_eq!(state_machine.state().state, CameraState::Connecting);
        state_machine.frame(now + FIRST_FRAME_LIMIT + 3 * SECOND);
        assert_eq!(state_machine.state().state, CameraState::Receiving);
    }

    #[test]
    fn a_camera_that_closes_is_being_connected_to_again() {
        let now = Instant::now();
        let mut state_machine = receiving(now);
        state_machine.progress(now, Progress::Over(Attempt(1), EndReason::Closed));
        assert_eq!(state_machine.state().state, CameraState::Connecting);
        assert_eq!(
            state_machine.state().reason.as_deref(),
            Some("the other side closed the connection")
        );
    }
}
