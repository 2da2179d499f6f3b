//! Where a bridged camera stands. What its source and its twin tell, and the time, come in; a [`BridgeStatus`] goes out whenever it is
//! another one. It is plain state with `now` passed in; the bridge's tasks share it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::source::{SourceFacts, SourceState};
use twinsight_client::telemetry::CameraState;

/// A camera that has sent pictures is stalled after this time without one, as for the node.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(5);

/// Where a bridged camera stands.
#[derive(Debug, Clone, PartialEq)]
pub struct BridgeStatus {
    /// The state. `Removed` never occurs.
    pub state: CameraState,
    /// Since when it is in this state.
    pub since: Instant,
    /// Why there are no pictures, as a sentence with its remedy.
    pub reason: Option<Arc<str>>,
    /// What the camera says of its pictures. `None` until they came for the first time.
    pub facts: Option<SourceFacts>,
}

/// Why a camera is not to be seen as its twin, though its pictures may come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TwinTrouble {
    /// A sentence with its remedy.
    pub(super) reason: Arc<str>,
    /// True if it will not get better by itself.
    pub(super) is_lasting: bool,
}

/// What a status is made of.
#[derive(Debug)]
pub(super) struct StatusMachine {
    source: SourceState,
    /// Why there were no pictures last, and the state that this is. `None` while they come.
    last_reason: Option<(CameraState, Arc<str>)>,
    last_unit: Instant,
    facts: Option<SourceFacts>,
    twin: Option<TwinTrouble>,
    status: BridgeStatus,
}

impl StatusMachine {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            source: SourceState::Connecting { attempt: 1 },
            last_reason: None,
            last_unit: now,
            facts: None,
            twin: None,
            status: BridgeStatus {
                state: CameraState::Connecting,
                since: now,
                reason: None,
                facts: None,
            },
        }
    }

    pub(super) fn status(&self) -> &BridgeStatus {
        &self.status
    }

    /// The source is in another state. `Some` is the new status, if that is another one.
    pub(super) fn source(&mut self, state: SourceState, now: Instant) -> Option<BridgeStatus> {
        match &state {
            SourceState::Connecting { .. } => {}
            SourceState::Receiving(facts) => {
                self.last_unit = now;
                self.last_reason = None;
                self.facts = Some(facts.clone());
            }
            SourceState::Down {
                reason, refused, ..
            } => {
                let state = match refused {
                    true => CameraState::Rejected,
                    false => CameraState::Unreachable,
                };
                self.last_reason = Some((state, Arc::clone(reason)));
            }
        }
        self.source = state;
        self.look(now)
    }

    /// An access unit came.
    pub(super) fn unit(&mut self, now: Instant) -> Option<BridgeStatus> {
        self.last_unit = now;
        if self.status.state == CameraState::Stalled {
            return self.look(now);
        }
        None
    }

    /// The camera's twin is in trouble, or is not any more.
    pub(super) fn twin(
        &mut self,
        trouble: Option<TwinTrouble>,
        now: Instant,
    ) -> Option<BridgeStatus> {
        self.twin = trouble;
        self.look(now)
    }

    /// Time has passed.
    pub(super) fn look(&mut self, now: Instant) -> Option<BridgeStatus> {
        let (state, reason) = self.derived(now);
        let is_same_state = state == self.status.state;
        if is_same_state && reason == self.status.reason && self.facts == self.status.facts {
            return None;
        }
        self.status = BridgeStatus {
            state,
            since: if is_same_state {
                self.status.since
            } else {
                now
            },
            reason,
            facts: self.facts.clone(),
        };
        Some(self.status.clone())
    }

    fn derived(&self, now: Instant) -> (CameraState, Option<Arc<str>>) {
        if let Some(twin) = self.twin.as_ref().filter(|twin| twin.is_lasting) {
            return (CameraState::Rejected, Some(Arc::clone(&twin.reason)));
        }
        let of_twin = self.twin.as_ref().map(|twin| Arc::clone(&twin.reason));
        match (&self.source, &self.last_reason) {
            // One that is asked again is as unreachable as before until it answers.
            (SourceState::Down { .. } | SourceState::Connecting { .. }, Some((state, reason))) => {
                (*state, Some(Arc::clone(reason)))
            }
            (SourceState::Down { .. } | SourceState::Connecting { .. }, None) => {
                (CameraState::Connecting, of_twin)
            }
            (SourceState::Receiving(_), _) => {
                let silence = now.saturating_duration_since(self.last_unit);
                if silence >= STALLED_AFTER {
                    (CameraState::Stalled, Some("the camera sends no pictures, though it is connected: see whether it shows any elsewhere, and restart it if not".into()))
                } else {
                    (CameraState::Receiving, of_twin)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> SourceFacts {
        SourceFacts {
            size: None,
            profile_level_id: None,
            fps: Some(15.0),
        }
    }

    fn down(reason: &str, attempt: u32) -> SourceState {
        SourceState::Down {
            reason: reason.into(),
            attempt,
            retry_in: Duration::from_secs(1),
            refused: reason.contains("password"),
        }
    }

    #[test]
    fn a_camera_that_is_asked_again_stays_unreachable_until_it_answers() {
        let t = Instant::now();
        let s = Duration::from_secs;
        let mut machine = StatusMachine::new(t);
        let connecting = SourceState::Connecting { attempt: 1 };
        assert_eq!(machine.source(connecting, t), None);
        let status = machine.source(down("no way", 1), t + s(1)).unwrap();
        assert_eq!(status.state, CameraState::Unreachable);
        assert_eq!(status.reason.as_deref(), Some("no way"));
        let again = SourceState::Connecting { attempt: 2 };
        assert_eq!(machine.source(again, t + s(2)), None);
        let other = machine.source(down("wrong password", 2), t + s(3)).unwrap();
        assert_eq!(
            (other.state, other.since),
            (CameraState::Rejected, t + s(3))
        );
        let status = machine
            .source(SourceState::Receiving(facts()), t + s(4))
            .unwrap();
        assert_eq!(
            (status.state, status.reason),
            (CameraState::Receiving, None)
        );
        assert_eq!(status.facts, Some(facts()));
    }

    #[test]
    fn a_camera_that_falls_silent_is_stalled_until_its_next_picture() {
        let t = Instant::now();
        let s = Duration::from_secs;
        let mut machine = StatusMachine::new(t);
        machine.source(SourceState::Receiving(facts()), t);
        machine.unit(t + s(1));
        assert_eq!(machine.look(t + s(5)), None);
        let status = machine.look(t + s(6)).unwrap();
        assert_eq!(status.state, CameraState::Stalled);
        assert!(status.reason.unwrap().contains("sends no pictures"));
        assert_eq!(machine.look(t + s(60)), None);
        let status = machine.unit(t + s(61)).unwrap();
        assert_eq!(status.state, CameraState::Receiving);
    }

    #[test]
    fn a_twin_that_cannot_be_had_is_said_though_pictures_come() {
        let t = Instant::now();
        let mut machine = StatusMachine::new(t);
        machine.source(SourceState::Receiving(facts()), t);
        let trouble = |is_lasting| TwinTrouble {
            reason: "no such twin".into(),
            is_lasting,
        };
        let status = machine.twin(Some(trouble(false)), t).unwrap();
        assert_eq!(status.state, CameraState::Receiving);
        assert_eq!(status.reason.as_deref(), Some("no such twin"));
        let status = machine.twin(Some(trouble(true)), t).unwrap();
        assert_eq!(status.state, CameraState::Rejected);
        assert_eq!(machine.twin(None, t).unwrap().reason, None);
    }
}
