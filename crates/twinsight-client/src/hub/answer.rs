//! The hub's answers to calls: whether they say yes, and in which words they say no.

use serde_json::Value;

use super::text::brief_without;
use crate::secret::Secret;

/// What came of a call.
pub type CallResult = Result<Value, CallError>;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// The hub was not joined, or went away before it answered.
    Disconnected,
    /// The hub did not answer in time.
    Expired,
    /// Too many calls await their answers.
    TooMany,
}

pub(super) fn succeeded(answer: &Value) -> bool {
    answer.get("status").and_then(Value::as_str) == Some("success")
}

/// True for an answer that says so; one without a status is taken as a success.
pub(super) fn failed(answer: &Value) -> bool {
    answer.get("status").and_then(Value::as_str) == Some("error")
}

/// The hub's own words in an answer, in one short line and without the key.
pub(super) fn hub_message(answer: &Value, key: Option<&Secret>) -> String {
    text_of(answer).map_or_else(
        || "no reason given".to_owned(),
        |text| brief_without(text, key),
    )
}

/// The hub's own words in an answer, if there are any.
pub(super) fn text_of(answer: &Value) -> Option<&str> {
    match answer {
        Value::String(text) => Some(text.as_str()),
        other => other.get("message").and_then(Value::as_str),
    }
}
