//! Actions: what a twin answers to what another one asked of it.

use serde::Serialize;
use serde_json::Value;

use super::error::{HubError, to_json};
use super::event::bare_type;
use super::message::TwinMessage;

/// How an action went. On the wire it is the answer's `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionStatus {
    /// The twin did what was asked.
    Success,
    /// The twin did it, and there is something to know about it.
    Warning,
    /// The twin did not do it.
    Error,
}

/// The answer to an action: what [`Target::request`](super::Target::request) gives and
/// [`TwinEvent::respond`](super::TwinEvent::respond) sends.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionResult {
    /// Whether it was done.
    pub status: ActionStatus,
    /// What people are told about it; may be empty.
    pub message: String,
    /// The value that the action gave, any JSON; `None` where it gave none.
    pub data: Option<Value>,
}

impl ActionStatus {
    /// The word on the wire: `success`, `warning` or `error`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl ActionResult {
    /// The answer of a twin that did what was asked.
    pub fn success(message: impl Into<String>, data: Option<Value>) -> Self {
        Self {
            status: ActionStatus::Success,
            message: message.into(),
            data,
        }
    }

    /// This answer with a value in it.
    ///
    /// # Errors
    /// [`HubError::NotJson`] if the value is none in JSON.
    pub fn with_data(mut self, data: impl Serialize) -> Result<Self, HubError> {
        self.data = Some(to_json(data)?);
        Ok(self)
    }

    /// The answer of a twin that did not do it, with the reason.
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            status: ActionStatus::Error,
            message: message.into(),
            data: None,
        }
    }

    /// Reads a response and the id of the request that it answers. No status means success, an
    /// unknown one an error.
    pub(super) fn of_response(message: &TwinMessage) -> Option<(&str, Self)> {
        if bare_type(message) != Some("response") {
            return None;
        }
        let fields = message.data.get("data")?;
        let id = fields.get("requestId")?.as_str()?;
        let status = match fields.get("status").map(Value::as_str) {
            None | Some(Some("success")) => ActionStatus::Success,
            Some(Some("warning")) => ActionStatus::Warning,
            Some(_) => ActionStatus::Error,
        };
        let text = fields.get("message").and_then(Value::as_str);
        let data = fields.get("data").filter(|data| !data.is_null());
        let result = Self {
            status,
            message: text.unwrap_or_default().to_owned(),
            data: data.cloned(),
        };
        Some((id, result))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(data: Value) -> TwinMessage {
        TwinMessage {
            twin_id: "room".into(),
            source_twin_id: "sender".into(),
            source_device_id: String::new(),
            data,
        }
    }

    #[test]
    fn responses_are_read_leniently() {
        let read = |data| {
            let message = message(json!({ "type": "edgeInstance:response", "data": data }));
            ActionResult::of_response(&message).map(|(id, result)| (id.to_owned(), result))
        };
        let (id, result) = read(json!({"requestId": "7", "data": {"a": 1}})).unwrap();
        assert_eq!((id.as_str(), result.status), ("7", ActionStatus::Success));
        assert_eq!(result.data, Some(json!({"a": 1})));
        let status = |status: Value| {
            read(json!({"requestId": "7", "status": status}))
                .unwrap()
                .1
                .status
        };
        assert_eq!(status(json!("warning")), ActionStatus::Warning);
        assert_eq!(status(json!("error")), ActionStatus::Error);
        assert_eq!(status(json!("?")), ActionStatus::Error);
        assert_eq!(read(json!({"status": "success"})), None);
        assert_eq!(read(json!("text")), None);
    }
}
