//! Events and actions in a twin's room: twin messages of one type come in, what they carry goes out.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::action::ActionResult;
use super::error::HubError;
use super::instance::{Instance, WeakInstance};
use super::message::TwinMessage;
use super::message_receiver::MessageReceiver;

/// Events of one type in a twin's room, in order: [`Instance::events`]. So many wait as it was made with; what comes when
/// there is no place is counted by [`EventReceiver::missed`].
#[derive(Debug)]
pub struct EventReceiver {
    instance: WeakInstance,
    messages: MessageReceiver,
}

/// An event, or an action if it can be answered.
#[derive(Debug)]
pub struct TwinEvent {
    /// What it carries, any JSON, without the `requestId` of an action. [`TwinEvent::parse`] reads it as a type of yours.
    pub data: Value,
    /// The twin that says it sent it; nothing proves it, and it may be empty.
    pub source_twin_id: String,
    /// The device of the sender, as it says; often empty.
    pub source_device_id: String,
    instance: Instance,
    request_id: Option<String>,
}

impl EventReceiver {
    pub(super) fn new(instance: WeakInstance, messages: MessageReceiver) -> Self {
        Self { instance, messages }
    }

    /// The next event; `None` once the client is closed or its last handle is gone.
    pub async fn recv(&mut self) -> Option<TwinEvent> {
        let message = self.messages.recv().await?;
        self.event(message)
    }

    /// The event that a message is; `None` once the client is gone.
    fn event(&self, message: TwinMessage) -> Option<TwinEvent> {
        let instance = self.instance.upgrade()?;
        let mut data = match message.data {
            Value::Object(mut fields) => fields.remove("data").unwrap_or(Value::Null),
            other => other,
        };
        let request_id = match data.as_object_mut().and_then(|f| f.remove("requestId")) {
            Some(Value::String(id)) if !message.source_twin_id.is_empty() => Some(id),
            _ => None,
        };
        Some(TwinEvent {
            data,
            source_twin_id: message.source_twin_id,
            source_device_id: message.source_device_id,
            instance,
            request_id,
        })
    }

    /// Events that were lost because they found all places taken.
    pub fn missed(&self) -> u64 {
        self.messages.missed()
    }
}

impl Stream for EventReceiver {
    type Item = TwinEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<TwinEvent>> {
        let message = ready!(self.messages.poll_next_unpin(context));
        Poll::Ready(message.and_then(|message| self.event(message)))
    }
}

impl TwinEvent {
    /// What it carries, as a value of your own.
    ///
    /// ```no_run
    /// # use twinsight_client::hub::TwinEvent;
    /// #[derive(serde::Deserialize)]
    /// struct Opened {
    ///     door: u32,
    /// }
    ///
    /// # fn example(event: TwinEvent) -> Result<(), serde_json::Error> {
    /// let opened: Opened = event.parse()?;
    /// println!("door {} was opened", opened.door);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the data has another shape.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.data)
    }

    /// True for an action, whose sender awaits an answer.
    pub fn is_request(&self) -> bool {
        self.request_id.is_some()
    }

    /// Answers an action; does nothing for an event.
    ///
    /// # Errors
    /// As [`HubClient::send`](super::HubClient::send), and [`HubError::OwnershipLost`] if a peripheral was asked that was taken over since.
    pub async fn respond(&self, result: ActionResult) -> Result<(), HubError> {
        let Some(id) = &self.request_id else {
            return Ok(());
        };
        let mut payload = json!({
            "status": result.status.as_str(),
            "message": result.message,
            "requestId": id,
        });
        if let Some(data) = result.data {
            payload["data"] = data;
        }
        self.instance
            .send(&self.source_twin_id, "response", payload)
            .await
    }
}

/// The type of a message without the prefix that tells the kind of its sender.
pub(super) fn bare_type(message: &TwinMessage) -> Option<&str> {
    let full = message.message_type()?;
    if let Some(bare) = full.strip_prefix("edgeInstance:") {
        return Some(bare);
    }
    let Some(rest) = full.strip_prefix("peripheralInstance:") else {
        return Some(full);
    };
    // An id may hold colons: the inner source says where it ends.
    let by_source = message
        .data
        .get("sourceTwinId")
        .and_then(Value::as_str)
        .filter(|id| !id.is_empty())
        .and_then(|id| rest.strip_prefix(id)?.strip_prefix(':'));
    match (by_source, rest.split_once(':')) {
        (Some(bare), _) => Some(bare),
        (None, Some((id, bare))) if !id.is_empty() => Some(bare),
        _ => Some(full),
    }
}

#[cfg(test)]
mod tests {
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
    fn the_prefix_of_the_sender_is_stripped_once() {
        let bare = |full: &str, source: &str| {
            let message = message(json!({ "type": full, "sourceTwinId": source }));
            bare_type(&message).map(str::to_owned)
        };
        assert_eq!(bare("edgeInstance:seen", "").unwrap(), "seen");
        assert_eq!(
            bare("edgeInstance:edgeInstance:x", "").unwrap(),
            "edgeInstance:x"
        );
        assert_eq!(bare("peripheralInstance:p1:seen", "p1").unwrap(), "seen");
        assert_eq!(bare("peripheralInstance:p1:a:b", "other").unwrap(), "a:b");
        assert_eq!(bare("peripheralInstance:p:1:seen", "p:1").unwrap(), "seen");
        assert_eq!(
            bare("peripheralInstance::x", "").unwrap(),
            "peripheralInstance::x"
        );
        assert_eq!(bare("plain", "").unwrap(), "plain");
        assert_eq!(bare_type(&message(json!([1]))), None);
    }
}
