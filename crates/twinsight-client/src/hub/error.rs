//! Why the hub did not do what was asked: errors for the program that asked, with what its operator can do.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::away_reason::AwayReason;

/// Why the hub did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// The hub is not joined right now.
    #[error("the hub is not joined: wait for it and try again")]
    Disconnected,
    /// The hub refused this client.
    #[error("the hub refused this device: {reason}: check the device id and its access key")]
    Refused {
        /// What the hub said, in one line without the credentials.
        reason: String,
    },
    /// The client was closed, with [`HubClient::close`](super::HubClient::close).
    #[error("the hub client was closed")]
    Closed,
    /// Nobody answered in time.
    #[error("`{what}` was not answered within {limit:?}")]
    Expired {
        /// The method of the hub, or the type of the action.
        what: String,
        /// How long the answer was waited for.
        limit: Duration,
    },
    /// The hub answered a call with an error.
    #[error("the hub answered `{method}` with `{message}`")]
    Rejected {
        /// The method that was called.
        method: String,
        /// What the hub said, in one line without the credentials.
        message: String,
    },
    /// The hub knows no such twin.
    #[error(
        "the hub knows no twin `{twin_id}`: check that it is a twin id (not a device id) of the same tenant"
    )]
    NoSuchTwin {
        /// The id that was asked for.
        twin_id: String,
    },
    /// The message is larger than the hub takes.
    #[error("a message of {bytes} bytes is longer than the {limit} that the hub takes: send less")]
    TooLong {
        /// The length of its frame, in bytes.
        bytes: usize,
        /// The longest frame that the hub takes, in bytes.
        limit: usize,
    },
    /// The payload is no JSON object, or an empty one.
    #[error(
        "a payload must be a JSON object with at least one field: the official clients lose anything else"
    )]
    Payload,
    /// The peripheral twin belongs to somebody else now.
    #[error(
        "the peripheral twin `{twin_id}` is owned by {new_owner} now: create it again to take it back"
    )]
    OwnershipLost {
        /// The id of the peripheral.
        twin_id: String,
        /// Who has it: `device …`, `instance …` or `another owner`.
        new_owner: String,
    },
    /// Too many calls or requests await their answers.
    #[error("too many calls await the hub's answers: wait for some")]
    TooManyCalls,
    /// What was sent before still waits for the hub's socket.
    #[error("the hub's socket takes no more for now: try again in a moment")]
    Busy,
    /// [`HubClient::connect`](super::HubClient::connect) gave up: the hub was not joined in time.
    #[error("the hub was not joined within {limit:?}: {}", last_failure(reason.as_ref()))]
    NotJoined {
        /// How long it was waited for: [`Timers::join`](super::Timers::join).
        limit: Duration,
        /// Why the last attempt failed; `None` while the first one is still under way.
        reason: Option<AwayReason>,
    },
    /// A value that was to be sent cannot be written as JSON.
    #[error(
        "the payload cannot be written as JSON ({reason}): JSON has no maps whose keys are not texts"
    )]
    NotJson {
        /// What the serializer said.
        reason: String,
    },
}

/// The end of the sentence that tells that the hub was not joined.
fn last_failure(reason: Option<&AwayReason>) -> String {
    match reason {
        Some(reason) => format!("{reason}: {}", reason.remedy()),
        None => "it did not answer the first attempt yet: give it more time".to_owned(),
    }
}

/// A payload as JSON.
pub(super) fn to_json(payload: impl Serialize) -> Result<Value, HubError> {
    serde_json::to_value(payload).map_err(|error| HubError::NotJson {
        reason: error.to_string(),
    })
}
