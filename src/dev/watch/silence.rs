//! Why nothing comes from a node. What the hub answered about the node's twin comes in; a sentence with what to do goes out.

use std::time::Duration;

use serde_json::Value;

use twinsight_client::hub::HubError;
use twinsight_client::hub::message::Twin;
use twinsight_client::hub::text::brief;

/// Why there is nothing to watch.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoNode {
    /// The hub does not know it.
    #[error(
        "the hub knows no twin `{twin}` ({said}): name the node's twin, which its log calls `twin_id`; a device id is none"
    )]
    Unknown { twin: String, said: String },
    /// The hub knows it as a device.
    #[error("`{given}` is the id of a device: watch its twin `{twin}`")]
    Device { given: String, twin: String },
}

/// Why nothing comes, as far as the hub knows it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Silence {
    /// It reports what no node leaves out.
    #[error(
        "nothing came from `{twin}` for {seconds} s, and it is no node's twin, since it reports no `twinsight` properties: name the twin that the node's log calls `twin_id`, or start the node"
    )]
    NotANode { twin: String, seconds: u64 },
    /// The node is not connected with the hub.
    #[error(
        "nothing came from node `{twin}` for {seconds} s, and the hub says that it is {status}: start it, or see in its log why it does not join the hub"
    )]
    Offline {
        twin: String,
        seconds: u64,
        status: String,
    },
    /// It reports no camera.
    #[error(
        "nothing came from node `{twin}` for {seconds} s: it has no cameras; add one to its configuration (`[[cameras]]`), unless other nodes of its pool have them all"
    )]
    NoCameras { twin: String, seconds: u64 },
    /// None of its cameras sends.
    #[error(
        "nothing came from node `{twin}` for {seconds} s: none of its cameras sends video ({cameras}); see what the node's log says about them, or run `twinsight check` with its configuration"
    )]
    Blind {
        twin: String,
        seconds: u64,
        cameras: String,
    },
    /// At least one of its cameras sends video, and still no event came.
    #[error(
        "nothing came from node `{twin}` for {seconds} s, although its cameras send video: with `emit_empty = false` it is silent while it sees nothing, and with `motion = \"gate\"` while nothing moves; else see its log"
    )]
    Unknown { twin: String, seconds: u64 },
    /// The hub does not answer.
    #[error(
        "nothing came from `{twin}` for {seconds} s, and the hub does not say why ({said}): see what the hub logs"
    )]
    NoAnswer {
        twin: String,
        seconds: u64,
        said: String,
    },
}

/// True if the hub knows the twin, false if it did not say.
pub(super) fn known(twin: &str, answer: Result<Twin, HubError>) -> Result<bool, NoNode> {
    let unknown = |said: String| {
        Err(NoNode::Unknown {
            twin: twin.to_owned(),
            said,
        })
    };
    match answer {
        Ok(found) if found.id != twin => Err(NoNode::Device {
            given: twin.to_owned(),
            twin: brief(&found.id),
        }),
        Ok(_) => Ok(true),
        Err(HubError::NoSuchTwin { .. }) => unknown("its answer holds none".to_owned()),
        Err(HubError::Rejected { message, .. }) => unknown(message),
        Err(_) => Ok(false),
    }
}

/// Why nothing comes from the node's twin, of which the hub gave this answer.
pub(super) fn silence(twin: &str, quiet: Duration, answer: Result<Twin, HubError>) -> Silence {
    let (twin, seconds) = (twin.to_owned(), quiet.as_secs());
    let found = match answer {
        Ok(found) => found,
        Err(error) => {
            let said = error.to_string();
            return Silence::NoAnswer {
                twin,
                seconds,
                said,
            };
        }
    };
    let Some(reported) = found.properties.reported.get("twinsight") else {
        return Silence::NotANode { twin, seconds };
    };
    if found.status.eq_ignore_ascii_case("offline") {
        return Silence::Offline {
            twin,
            seconds,
            status: brief(&found.status),
        };
    }
    let cameras = reported["cameras"].as_array();
    let cameras: &[Value] = cameras.map(Vec::as_slice).unwrap_or_default();
    if cameras.is_empty() {
        return Silence::NoCameras { twin, seconds };
    }
    if cameras.iter().any(|camera| camera["state"] == "receiving") {
        return Silence::Unknown { twin, seconds };
    }
    let camera = |camera: &Value| {
        let text = |key: &str| camera[key].as_str().unwrap_or("?").to_owned();
        format!("{} is {}", text("twinId"), text("state"))
    };
    let cameras: Vec<String> = cameras.iter().take(8).map(camera).collect();
    Silence::Blind {
        twin,
        seconds,
        cameras: brief(&cameras.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};
    use twinsight_client::hub::message::TwinProperties;

    use super::*;

    fn twin(status: &str, reported: Value) -> Twin {
        let reported: Map<String, Value> = reported.as_object().cloned().unwrap_or_default();
        Twin {
            id: "node-1".to_owned(),
            status: status.to_owned(),
            properties: TwinProperties {
                reported,
                ..TwinProperties::default()
            },
            ..Twin::default()
        }
    }

    fn said(found: Result<Twin, HubError>) -> String {
        silence("node-1", Duration::from_secs(10), found).to_string()
    }

    #[test]
    fn silence_is_explained_by_what_the_hub_knows() {
        let cases = [
            (twin("Online", json!({})), "it is no node's twin"),
            (
                twin("Offline", json!({"twinsight": {}})),
                "the hub says that it is Offline: start it",
            ),
            (
                twin("Online", json!({"twinsight": {"cameras": []}})),
                "it has no cameras",
            ),
            (
                twin(
                    "Online",
                    json!({"twinsight": {"cameras": [{"twinId": "cam", "state": "stalled"}]}}),
                ),
                "none of its cameras sends video (cam is stalled)",
            ),
            (
                twin(
                    "Online",
                    json!({"twinsight": {"cameras": [{"twinId": "cam", "state": "receiving"}]}}),
                ),
                "`emit_empty = false`",
            ),
        ];
        for (twin, sentence) in cases {
            let said = said(Ok(twin));
            assert!(said.contains(sentence), "{sentence}\n{said}");
        }
        let said = said(Err(HubError::Disconnected));
        assert!(said.contains("the hub does not say why"), "{said}");
    }

    #[test]
    fn a_twin_that_there_is_not_ends_it_and_a_hub_that_says_nothing_does_not() {
        assert!(known("node-1", Ok(twin("Online", json!({})))).unwrap());
        assert!(!known("node-1", Err(HubError::Disconnected)).unwrap());
        let error = known("device-9", Ok(twin("Online", json!({})))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`device-9` is the id of a device: watch its twin `node-1`"
        );
        let rejected = HubError::Rejected {
            method: "getTwinById".to_owned(),
            message: "Twin not found".to_owned(),
        };
        let error = known("nobody", Err(rejected)).unwrap_err().to_string();
        assert!(
            error.starts_with("the hub knows no twin `nobody` (Twin not found): name"),
            "{error}"
        );
    }
}
