//! The state of a stream whose access units come by another way than a peer connection, as its operator sees it. What their source
//! tells and the arrival of frames come in with the time, the state goes out. The stream's task and its source run it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use super::stream_state::{FIRST_FRAME_LIMIT, NO_THREAD, STALL_LIMIT, StreamState};
use crate::telemetry::CameraState;

/// Where a source of access units stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceProgress {
    /// The camera is asked.
    Connecting,
    /// It has said yes, and its access units come.
    Connected,
    /// None come any more, or none could be had.
    Lost {
        /// Why, with what to do about it.
        reason: Arc<str>,
        /// The camera has said no, or sends what cannot be used: to ask again does not help.
        refused: bool,
    },
}

/// The state machine of one such stream.
#[derive(Debug)]
pub(super) struct DirectStateMachine {
    current: StreamState,
    attempt: u32,
    /// Since when the source is connected.
    connected: Option<Instant>,
    /// By when the next frame must come.
    deadline: Option<Instant>,
    last_frame: Option<Instant>,
    no_thread: bool,
}

impl DirectStateMachine {
    /// The state of a stream that begins to connect.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            current: StreamState {
                state: CameraState::Connecting,
                since: now,
                reason: None,
                attempt: 0,
            },
            attempt: 0,
            connected: None,
            deadline: None,
            last_frame: None,
            no_thread: false,
        }
    }

    /// The state of now.
    pub(super) fn state(&self) -> &StreamState {
        &self.current
    }

    /// The number of the attempt that is under way, from 1.
    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Takes in what the source tells.
    pub(super) fn source(&mut self, now: Instant, progress: SourceProgress) {
        match progress {
            SourceProgress::Connecting => {
                self.attempt = self.attempt.saturating_add(1);
                self.disconnected();
                // Other states stay while the camera is asked again, since they say what is wrong.
                if self.current.state == CameraState::Receiving {
                    self.enter(now, CameraState::Connecting, None);
                }
            }
            SourceProgress::Connected => {
                self.connected = Some(now);
                self.deadline = Some(now + FIRST_FRAME_LIMIT);
            }
            SourceProgress::Lost { reason, refused } => {
                self.disconnected();
                let state = match self.current.state {
                    _ if refused => CameraState::Rejected,
                    // A camera that was seen just now may be there again at once.
                    CameraState::Receiving => CameraState::Connecting,
                    _ => CameraState::Unreachable,
                };
                self.enter(now, state, Some(Cow::Owned(reason.to_string())));
            }
        }
    }

    /// Takes the news whether there is a thread to decode on. Without it nothing else matters.
    pub(super) fn decoder(&mut self, now: Instant, granted: bool) {
        if granted && self.no_thread {
            self.no_thread = false;
            self.enter(now, CameraState::Connecting, None);
            self.deadline = self.connected.map(|_| now + FIRST_FRAME_LIMIT);
        } else if !granted {
            self.enter(now, CameraState::Unreachable, Some(NO_THREAD.into()));
            self.no_thread = true;
        }
    }

    /// Takes the news that a frame was decoded at `at`. The same one may be told again and again.
    pub(super) fn frame(&mut self, at: Instant) {
        let is_new = self.last_frame.is_none_or(|last| at > last);
        // One that comes from before belongs to the connection before.
        let is_of_connection = self.connected.is_some_and(|since| at >= since);
        if is_new && is_of_connection {
            self.last_frame = Some(at);
            self.deadline = Some(at + STALL_LIMIT);
            self.enter(at, CameraState::Receiving, None);
        }
    }

    /// Does what is due by now.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.take_if(|deadline| *deadline <= now).is_none() {
            return;
        }
        // The source looks itself after a camera that sends nothing any more, and asks it again.
        if self.current.state == CameraState::Receiving {
            self.enter(now, CameraState::Stalled, Some("no frame for 5 s".into()));
        } else if self.current.state == CameraState::Connecting {
            let reason = "it answers, and no frame comes of what it sends";
            self.enter(now, CameraState::Unreachable, Some(reason.into()));
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn disconnected(&mut self) {
        self.connected = None;
        self.deadline = None;
    }

    fn enter(&mut self, now: Instant, state: CameraState, reason: Option<Cow<'static, str>>) {
        let same = self.current.state == state;
        if self.no_thread || (same && self.current.reason == reason) {
            return;
        }
        self.current = StreamState {
            state,
            since: if same { self.current.since } else { now },
            reason,
            attempt: self.attempt,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lost(reason: &str) -> SourceProgress {
        SourceProgress::Lost {
            reason: reason.into(),
            refused: false,
        }
    }

    fn told(machine: &DirectStateMachine) -> (CameraState, Option<&str>, u32) {
        let StreamState {
            state,
            reason,
            attempt,
            ..
        } = machine.state();
        (*state, reason.as_deref(), *attempt)
    }

    fn receiving(now: Instant) -> DirectStateMachine {
        let mut machine = DirectStateMachine::new(now);
        machine.source(now, SourceProgress::Connecting);
        machine.source(now, SourceProgress::Connected);
        assert_eq!(told(&machine).0, CameraState::Connecting);
        machine.frame(now);
        assert_eq!(told(&machine), (CameraState::Receiving, None, 1));
        machine
    }

    #[test]
    fn a_camera_that_goes_is_connected_to_again_and_then_unreachable() {
        let now = Instant::now();
        let mut machine = receiving(now);
        machine.source(now + SECOND, lost("ended"));
        assert_eq!(told(&machine), (CameraState::Connecting, Some("ended"), 1));
        // A frame that was still being decoded brings nobody back.
        machine.frame(now + SECOND);
        machine.source(now + SECOND, SourceProgress::Connecting);
        assert_eq!(told(&machine), (CameraState::Connecting, Some("ended"), 1));
        machine.source(now + 2 * SECOND, lost("refused"));
        machine.source(now + 3 * SECOND, SourceProgress::Connecting);
        machine.source(now + 3 * SECOND, lost("no answer"));
        let unreachable = CameraState::Unreachable;
        assert_eq!(told(&machine), (unreachable, Some("no answer"), 3));
        assert_eq!(machine.state().since, now + 2 * SECOND);
        machine.source(now + 4 * SECOND, SourceProgress::Connecting);
        machine.source(now + 4 * SECOND, SourceProgress::Connected);
        assert_eq!(told(&machine).0, unreachable, "until a frame comes");
        machine.frame(now + 5 * SECOND);
        assert_eq!(told(&machine), (CameraState::Receiving, None, 4));
    }

    #[test]
    fn a_camera_that_says_no_is_rejected() {
        let now = Instant::now();
        let mut machine = DirectStateMachine::new(now);
        machine.source(now, SourceProgress::Connecting);
        machine.source(
            now,
            SourceProgress::Lost {
                reason: "wrong password".into(),
                refused: true,
            },
        );
        let rejected = (CameraState::Rejected, Some("wrong password"), 1);
        assert_eq!(told(&machine), rejected);
    }

    #[test]
    fn five_seconds_without_a_frame_are_a_stall_and_the_next_frame_ends_it() {
        let now = Instant::now();
        let mut machine = receiving(now);
        machine.frame(now + 4 * SECOND);
        machine.handle_timeout(now + 8 * SECOND);
        assert_eq!(told(&machine).0, CameraState::Receiving);
        assert_eq!(machine.deadline(), Some(now + 9 * SECOND));
        machine.handle_timeout(now + 9 * SECOND);
        assert_eq!(told(&machine).0, CameraState::Stalled);
        // The last frame is told again and again.
        machine.frame(now + 4 * SECOND);
        assert_eq!(
            (told(&machine).0, machine.deadline()),
            (CameraState::Stalled, None)
        );
        machine.source(now + 45 * SECOND, lost("was silent for 45 s"));
        assert_eq!(told(&machine).0, CameraState::Unreachable);
        machine.source(now + 46 * SECOND, SourceProgress::Connected);
        machine.frame(now + 47 * SECOND);
        assert_eq!(told(&machine).0, CameraState::Receiving);
    }

    #[test]
    fn a_camera_none_of_whose_units_gives_a_frame_is_unreachable() {
        let now = Instant::now();
        let mut machine = DirectStateMachine::new(now);
        machine.source(now, SourceProgress::Connecting);
        machine.source(now, SourceProgress::Connected);
        machine.handle_timeout(now + FIRST_FRAME_LIMIT);
        assert_eq!(told(&machine).0, CameraState::Unreachable);
        machine.frame(now + 2 * FIRST_FRAME_LIMIT);
        assert_eq!(told(&machine).0, CameraState::Receiving);
    }

    #[test]
    fn without_a_thread_nothing_else_is_said() {
        let now = Instant::now();
        let mut machine = DirectStateMachine::new(now);
        machine.decoder(now, false);
        machine.source(now, SourceProgress::Connecting);
        machine.source(now, SourceProgress::Connected);
        machine.handle_timeout(now + FIRST_FRAME_LIMIT);
        assert_eq!(told(&machine).1, Some(NO_THREAD));
        machine.decoder(now + 20 * SECOND, true);
        assert_eq!(told(&machine), (CameraState::Connecting, None, 1));
        assert!(machine.deadline().is_some());
    }
}
