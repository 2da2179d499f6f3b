//! What is wrong with a camera that is not looked at now, in whole sentences with what to do about it. The dashboard, the API and
//! the probe of the cameras say the same.

use crate::config::{CameraConfig, Connect};
use crate::publish::event::CameraStatus;
use twinsight_client::telemetry::CameraState;

/// The hub, as far as cameras are met by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CameraHub {
    /// It is joined.
    Joined,
    /// It is not joined.
    Away,
    /// There is none: cameras are asked themselves.
    None,
}

/// What is wrong and what to do. `None` means that the camera's pictures are looked at.
pub(super) fn problem(
    status: &CameraStatus,
    settings: &CameraConfig,
    hub: CameraHub,
) -> Option<String> {
    if hub == CameraHub::Away
        && matches!(
            status.state,
            CameraState::Connecting | CameraState::Unreachable
        )
    {
        return Some("It waits for the hub, by which cameras are met.".to_owned());
    }
    let because = status
        .reason
        .as_ref()
        .map_or_else(String::new, |reason| format!(" ({reason})"));
    if hub == CameraHub::None {
        return without_hub(status.state, &because).or_else(|| blind(status));
    }
    let dials = settings.connect == Connect::Dial;
    let problem = match status.state {
        CameraState::Receiving => blind(status)?,
        CameraState::Connecting if dials => format!(
            "It is being dialled, and no picture comes{because}. If this stays so, check that the camera is on and joined to the hub."
        ),
        CameraState::Connecting => format!(
            "It has to dial this node (connect = \"accept\"), and no picture comes{because}. Check that the camera is on and knows this node's twin."
        ),
        CameraState::Stalled => format!(
            "Its frames have stopped coming{because}. Check the camera's power and network; the node connects again by itself."
        ),
        CameraState::Unreachable if dials => format!(
            "It does not answer{because}. Check that the camera is on and joined to the hub, and its twin id: `twinsight check` tries it. The node goes on dialling."
        ),
        CameraState::Unreachable => format!(
            "It has not dialled this node{because}. Check that the camera is on and joined to the hub, and that it dials this node's twin."
        ),
        CameraState::Rejected => format!(
            "The connection is refused{because}. Check `codecs`, `connect` and `dialect` of the camera in the configuration; `twinsight check` tries it."
        ),
        CameraState::Removed => REMOVED.to_owned(),
    };
    Some(problem)
}

const REMOVED: &str = "It is no longer configured.";

/// What the reason begins with where frames are looked at and their events are withheld.
const WITHHELD: &str = "nothing is published";

/// Why the frames of a camera that sends are not looked at, if they are not.
fn blind(status: &CameraStatus) -> Option<String> {
    let reason = status.reason.as_ref()?;
    if reason.starts_with(WITHHELD) {
        return Some(format!("Its frames are looked at, and {reason}."));
    }
    Some(format!(
        "Its frames come, and none is looked at: {reason}. See the node's log and the state of its model."
    ))
}

/// What is wrong with a camera that is asked itself. Its reason often has a remedy of its own.
fn without_hub(state: CameraState, because: &str) -> Option<String> {
    let problem = match state {
        CameraState::Receiving => return None,
        CameraState::Connecting => format!(
            "It is being asked for its pictures, and none comes{because}. If this stays so, check that the camera is on."
        ),
        CameraState::Stalled => format!(
            "Its frames have stopped coming{because}. Check the camera's power and network; the node asks again by itself."
        ),
        CameraState::Unreachable => format!(
            "It gives no pictures{because}. Check that the camera is on, and its address: `twinsight check` tries it. The node goes on asking."
        ),
        CameraState::Rejected => format!(
            "It does not give its pictures to this node, or not such that they can be used{because}. `twinsight check` tries it."
        ),
        CameraState::Removed => REMOVED.to_owned(),
    };
    Some(problem)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::config::{Config, Env};
    use twinsight_client::stream_id::StreamId;

    #[test]
    fn a_camera_that_is_asked_itself_is_not_said_to_wait_for_a_hub() {
        let env: Env = [("TWIN_ID", "node"), ("TWINSIGHT_CAMERAS", "yard")]
            .into_iter()
            .collect();
        let settings = Config::load(None, &env).unwrap().cameras.remove(0);
        let told = |state, reason: Option<&str>, hub| {
            let status = CameraStatus {
                id: StreamId::new("yard", "default"),
                name: "Yard".into(),
                state,
                since: Instant::now(),
                reason: reason.map(str::to_owned),
                attempt: 1,
            };
            problem(&status, &settings, hub)
        };
        let connecting = |hub| told(CameraState::Connecting, None, hub).unwrap();
        assert!(connecting(CameraHub::Away).contains("waits for the hub"));
        assert!(connecting(CameraHub::Joined).contains("being dialled"));
        assert!(connecting(CameraHub::None).contains("being asked"));
        for state in [
            CameraState::Connecting,
            CameraState::Stalled,
            CameraState::Unreachable,
            CameraState::Rejected,
        ] {
            let told = told(state, Some("it is off"), CameraHub::None).unwrap();
            assert!(told.contains("(it is off)"), "{told}");
            assert!(!told.contains("hub"), "{told}");
        }
        let receiving = |reason| told(CameraState::Receiving, reason, CameraHub::None);
        assert_eq!(receiving(None), None);
        assert!(
            receiving(Some("slow"))
                .unwrap()
                .contains("none is looked at")
        );
    }
}
