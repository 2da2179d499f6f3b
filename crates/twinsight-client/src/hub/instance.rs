//! A twin as its owner holds it: events out and in, requests to other twins and answers to theirs,
//! reported and desired properties. Everything travels as twin messages of the hub client.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::client::{HubClient, HubError, MessageReceiver, TwinUpdates, WeakHubClient};
use super::handlers::{HandlerId, call};
use super::message::{Twin, TwinMessage};
use super::peripheral::Ownership;

/// Events and updates that wait for one handler.
const HANDLER_QUEUE: usize = 64;

/// A twin to speak as.
#[derive(Debug, Clone)]
pub struct Instance {
    client: HubClient,
    identity: Identity,
}

/// Which twin an instance is.
#[derive(Debug, Clone)]
enum Identity {
    /// The one that the client connects as; in direct mode its id comes from the hub.
    Own,
    /// A peripheral of it.
    Peripheral(Arc<Ownership>),
}

/// A twin to speak to.
#[derive(Debug, Clone)]
pub struct Target {
    instance: Instance,
    twin_id: String,
}

/// An instance that does not keep its client alive.
#[derive(Debug, Clone)]
struct WeakInstance {
    client: WeakHubClient,
    identity: Identity,
}

/// Events of one type in a twin's room, in order, bounded.
#[derive(Debug)]
pub struct EventReceiver {
    instance: WeakInstance,
    messages: MessageReceiver,
}

/// An event, or an action if it can be answered.
#[derive(Debug)]
pub struct TwinEvent {
    /// What it carries, without the `requestId`.
    pub data: Value,
    /// Who says it sent it.
    pub source_twin_id: String,
    /// The sender's device, often empty.
    pub source_device_id: String,
    instance: Instance,
    request_id: Option<String>,
}

/// How an action went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionStatus {
    /// Done.
    Success,
    /// Done, with reservations.
    Warning,
    /// Not done.
    Error,
}

/// The answer to an action.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionResult {
    /// How it went.
    pub status: ActionStatus,
    /// In words.
    pub message: String,
    /// What it gave.
    pub data: Option<Value>,
}

/// One side of a twin's properties, each time it changes.
#[derive(Debug)]
pub struct PropertyUpdates {
    instance: WeakInstance,
    updates: TwinUpdates,
    side: Side,
    last: Option<Map<String, Value>>,
}

/// A side of a twin's properties.
#[derive(Debug, Clone, Copy)]
enum Side {
    /// What its operator wants.
    Desired,
    /// What the twin says.
    Reported,
}

impl Instance {
    pub(super) fn own(client: HubClient) -> Self {
        Self {
            client,
            identity: Identity::Own,
        }
    }

    pub(super) fn peripheral(client: HubClient, ownership: Arc<Ownership>) -> Self {
        Self {
            client,
            identity: Identity::Peripheral(ownership),
        }
    }

    /// Who owns a peripheral; none for the own twin.
    pub(super) fn ownership(&self) -> Option<&Arc<Ownership>> {
        match &self.identity {
            Identity::Own => None,
            Identity::Peripheral(ownership) => Some(ownership),
        }
    }

    /// The id of a peripheral; none for the own twin, whose id the hub may still have to tell.
    #[cfg(feature = "webrtc")]
    pub(crate) fn peripheral_id(&self) -> Option<&Arc<str>> {
        self.ownership().map(|ownership| ownership.twin_id())
    }

    fn downgrade(&self) -> WeakInstance {
        WeakInstance {
            client: self.client.downgrade(),
            identity: self.identity.clone(),
        }
    }

    /// The twin's id; in direct mode empty until the hub was joined for the first time.
    pub fn twin_id(&self) -> String {
        match &self.identity {
            Identity::Own => self.client.shared.own_twin_id(),
            Identity::Peripheral(ownership) => ownership.twin_id().to_string(),
        }
    }

    /// What the hub last told about the own twin; `None` for peripherals.
    pub fn twin(&self) -> Option<Twin> {
        match &self.identity {
            Identity::Own => self.client.shared.own_twin(),
            Identity::Peripheral(_) => None,
        }
    }

    /// The client that the twin speaks through.
    pub fn client(&self) -> &HubClient {
        &self.client
    }

    /// Sends an event to whoever listens to this twin. Returns once it is written to the socket.
    ///
    /// ```no_run
    /// # async fn example(instance: twinsight_client::hub::Instance) -> Result<(), Box<dyn std::error::Error>> {
    /// instance.emit("opened", serde_json::json!({ "door": 1 })).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the payload is no object with a field in it, or as [`HubClient::send`].
    pub async fn emit(&self, event_type: &str, payload: Value) -> Result<(), HubError> {
        self.send(&self.twin_id(), event_type, payload).await
    }

    /// A twin to send events and requests to.
    ///
    /// ```no_run
    /// # async fn example(instance: twinsight_client::hub::Instance) -> Result<(), Box<dyn std::error::Error>> {
    /// instance.to("lamp-1").emit("blink", serde_json::json!({ "times": 3 })).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn to(&self, twin_id: impl Into<String>) -> Target {
        Target {
            instance: self.clone(),
            twin_id: twin_id.into(),
        }
    }

    /// Calls a handler for every event and action of a type in this twin's room, one after the other on
    /// a task of its own. Of events that come while 64 wait for it, it gets none.
    ///
    /// The handler stays until [`Instance::off`] or until the client ends; it does not keep the client.
    ///
    /// ```no_run
    /// # use serde_json::json;
    /// # use twinsight_client::hub::{ActionResult, HubClient, HubOptions};
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = HubClient::connect(HubOptions::from_env()?).await?;
    /// let instance = client.instance();
    /// let handler = instance.on("double", |action| async move {
    ///     let twice = action.data["value"].as_f64().unwrap_or(0.0) * 2.0;
    ///     let result = ActionResult::success("doubled", Some(json!({ "value": twice })));
    ///     if let Err(error) = action.respond(result).await {
    ///         eprintln!("not answered: {error}");
    ///     }
    /// });
    /// instance.off(handler);
    /// # Ok(())
    /// # }
    /// ```
    pub fn on<F, R>(&self, event_type: impl Into<String>, mut handler: F) -> HandlerId
    where
        F: FnMut(TwinEvent) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let mut events = self.events(event_type, HANDLER_QUEUE);
        self.client.shared.handlers.start(|mut stopped| async move {
            while let Some(event) = until(&mut stopped, events.recv()).await {
                call("an event", &mut handler, event).await;
            }
        })
    }

    /// Takes off a handler that was registered with this client; false if it is not registered.
    ///
    /// ```no_run
    /// # async fn example(instance: twinsight_client::hub::Instance) -> Result<(), Box<dyn std::error::Error>> {
    /// let handler = instance.on("opened", |event| async move { println!("{}", event.data) });
    /// assert!(instance.off(handler));
    /// # Ok(())
    /// # }
    /// ```
    pub fn off(&self, handler: HandlerId) -> bool {
        self.client.off(handler)
    }

    /// The events of a type in this twin's room, `capacity` of them waiting at most: one that comes
    /// when all places are taken is dropped and counted.
    ///
    /// ```no_run
    /// # async fn example(instance: twinsight_client::hub::Instance) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut events = instance.events("opened", 16);
    /// while let Some(event) = events.recv().await {
    ///     println!("{} says {}", event.source_twin_id, event.data);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn events(&self, event_type: impl Into<String>, capacity: usize) -> EventReceiver {
        let event_type = event_type.into();
        // The client holds the filter, so the filter must not hold the client.
        let shared = Arc::downgrade(&self.client.shared);
        let identity = self.identity.clone();
        let messages = self.client.messages(capacity, move |message| {
            let in_room = match &identity {
                Identity::Own => shared
                    .upgrade()
                    .is_some_and(|shared| shared.is_own(&message.twin_id)),
                Identity::Peripheral(ownership) => {
                    **ownership.twin_id() == *message.twin_id && ownership.loss().is_none()
                }
            };
            in_room && bare_type(message) == Some(event_type.as_str())
        });
        EventReceiver {
            instance: self.downgrade(),
            messages,
        }
    }

    /// Reports properties of this twin; the twin as it is then, if the hub tells it.
    ///
    /// ```no_run
    /// # async fn example(instance: twinsight_client::hub::Instance) -> Result<(), Box<dyn std::error::Error>> {
    /// let properties = serde_json::json!({ "version": "1.2" });
    /// instance.update_reported(properties.as_object().cloned().unwrap_or_default()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn update_reported(
        &self,
        properties: Map<String, Value>,
    ) -> Result<Option<Twin>, HubError> {
        let twin_type = match &self.identity {
            Identity::Own => self.client.shared.own_twin_type(),
            Identity::Peripheral(_) => None,
        };
        let method = match (&self.identity, twin_type.as_deref()) {
            (Identity::Peripheral(_), _) | (_, Some("Peripheral")) => {
                "reportPeripheralTwinProperties"
            }
            (_, Some("Screen")) => "reportScreenTwinProperties",
            _ => "reportEdgeTwinProperties",
        };
        let payload = json!({ "twinId": self.twin_id(), "data": properties });
        Ok(self
            .call_owned(method, payload)
            .await?
            .get_mut("twin")
            .map(Value::take)
            .and_then(Twin::from_value))
    }

    /// Calls a method that only the owner may; learns of a loss by the answer.
    pub(super) async fn call_owned(&self, method: &str, payload: Value) -> Result<Value, HubError> {
        self.assert_owned()?;
        let answer = self.client.call(method, payload).await;
        if let (Err(HubError::OwnershipLost { .. }), Some(ownership)) = (&answer, self.ownership())
        {
            ownership.lose(&self.client, None).await;
        }
        answer
    }

    /// Calls a handler with the desired properties each time they change; the first update counts as a
    /// change. It stays until [`Instance::off`] or until the client ends.
    ///
    /// ```no_run
    /// # fn example(instance: twinsight_client::hub::Instance) {
    /// instance.on_update_desired(|desired| async move {
    ///     println!("settings are now {:?}", desired.get("settings"));
    /// });
    /// # }
    /// ```
    pub fn on_update_desired<F, R>(&self, handler: F) -> HandlerId
    where
        F: FnMut(Map<String, Value>) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.on_update(self.desired_updates(), handler)
    }

    /// As [`Instance::on_update_desired`], for what the twin reports.
    ///
    /// ```no_run
    /// # async fn example(instance: twinsight_client::hub::Instance) -> Result<(), Box<dyn std::error::Error>> {
    /// instance.on_update_reported(|reported| async move { println!("{reported:?}") });
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_update_reported<F, R>(&self, handler: F) -> HandlerId
    where
        F: FnMut(Map<String, Value>) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.on_update(self.reported_updates(), handler)
    }

    /// The desired properties, each time they change; the first update counts as a change.
    ///
    /// ```no_run
    /// # async fn example(instance: twinsight_client::hub::Instance) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut updates = instance.desired_updates();
    /// while let Some(desired) = updates.recv().await {
    ///     println!("{desired:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn desired_updates(&self) -> PropertyUpdates {
        self.property_updates(Side::Desired)
    }

    /// The reported properties, each time they change; the first update counts as a change.
    pub fn reported_updates(&self) -> PropertyUpdates {
        self.property_updates(Side::Reported)
    }

    fn property_updates(&self, side: Side) -> PropertyUpdates {
        PropertyUpdates {
            instance: self.downgrade(),
            updates: self.client.twin_updates(),
            side,
            last: None,
        }
    }

    fn on_update<F, R>(&self, mut updates: PropertyUpdates, mut handler: F) -> HandlerId
    where
        F: FnMut(Map<String, Value>) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.client.shared.handlers.start(|mut stopped| async move {
            while let Some(properties) = until(&mut stopped, updates.recv()).await {
                call("an update of properties", &mut handler, properties).await;
            }
        })
    }

    /// Ends when somebody else has taken this peripheral over; never for the own twin.
    #[cfg(feature = "webrtc")]
    pub(crate) fn ownership_lost(&self) -> futures_util::future::BoxFuture<'static, ()> {
        match self.ownership().map(Arc::clone) {
            Some(ownership) => Box::pin(async move { ownership.lost().await }),
            None => Box::pin(std::future::pending()),
        }
    }

    pub(crate) fn assert_owned(&self) -> Result<(), HubError> {
        match self.ownership().and_then(|ownership| ownership.loss()) {
            Some(loss) => Err(HubError::OwnershipLost {
                twin_id: self.twin_id(),
                new_owner: loss.to_string(),
            }),
            None => Ok(()),
        }
    }

    async fn send(&self, target: &str, event_type: &str, payload: Value) -> Result<(), HubError> {
        if payload.as_object().is_none_or(Map::is_empty) {
            return Err(HubError::Payload);
        }
        self.assert_owned()?;
        let twin_id = self.twin_id();
        let prefix = match &self.identity {
            Identity::Own => "edgeInstance".to_owned(),
            Identity::Peripheral(_) => format!("peripheralInstance:{twin_id}"),
        };
        let mut data = json!({
            "type": format!("{prefix}:{event_type}"),
            "sourceTwinId": twin_id,
            "sourceDeviceId": self.client.shared.own_device_id(),
        });
        // Moved, where `json!` would copy it.
        data["data"] = payload;
        self.client.send(target, data).await
    }
}

impl Target {
    /// Sends an event to the twin.
    ///
    /// # Errors
    /// As [`Instance::emit`].
    pub async fn emit(&self, event_type: &str, payload: Value) -> Result<(), HubError> {
        self.instance.send(&self.twin_id, event_type, payload).await
    }

    /// Asks the twin to do something and waits for its answer, 10 s at most.
    ///
    /// ```no_run
    /// # async fn example(instance: twinsight_client::hub::Instance) -> Result<(), Box<dyn std::error::Error>> {
    /// let answer = instance.to("lamp-1").request("switch", serde_json::json!({ "on": true })).await?;
    /// println!("{}: {}", answer.status.as_str(), answer.message);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the payload is neither an object nor null, nobody answers, or as [`HubClient::send`].
    pub async fn request(
        &self,
        event_type: &str,
        payload: Value,
    ) -> Result<ActionResult, HubError> {
        let mut fields = match payload {
            Value::Object(fields) => fields,
            Value::Null => Map::new(),
            _ => return Err(HubError::Payload),
        };
        let id = format!("{:032x}", rand::random::<u128>());
        fields.insert("requestId".to_owned(), id.as_str().into());
        let shared = &self.instance.client.shared;
        let limit = shared.options.timers.request;
        let (_pending, answer) = shared.expect_answer(id)?;
        self.emit(event_type, Value::Object(fields)).await?;
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) => Err(HubError::Closed),
            Err(_) => Err(HubError::Expired {
                what: event_type.to_owned(),
                limit,
            }),
        }
    }
}

impl EventReceiver {
    /// The next event; `None` once the client is closed.
    pub async fn recv(&mut self) -> Option<TwinEvent> {
        let message = self.messages.recv().await?;
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

    /// Events that found all places taken.
    pub fn dropped(&self) -> u64 {
        self.messages.dropped()
    }
}

impl TwinEvent {
    /// True for an action, whose sender awaits an answer.
    pub fn is_request(&self) -> bool {
        self.request_id.is_some()
    }

    /// Answers an action; nothing for an event.
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

impl ActionStatus {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl ActionResult {
    /// Done.
    pub fn success(message: impl Into<String>, data: Option<Value>) -> Self {
        Self {
            status: ActionStatus::Success,
            message: message.into(),
            data,
        }
    }

    /// Not done.
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

impl PropertyUpdates {
    /// The properties after their next change; `None` once the client is gone.
    pub async fn recv(&mut self) -> Option<Map<String, Value>> {
        loop {
            let update = self.updates.recv().await?;
            if update.twin_id != self.instance.upgrade()?.twin_id() {
                continue;
            }
            let properties = match self.side {
                Side::Desired => update.twin.properties.desired,
                Side::Reported => update.twin.properties.reported,
            };
            if self.last.as_ref() != Some(&properties) {
                self.last = Some(properties.clone());
                return Some(properties);
            }
        }
    }
}

impl WeakInstance {
    fn upgrade(&self) -> Option<Instance> {
        Some(Instance {
            client: self.client.upgrade()?,
            identity: self.identity.clone(),
        })
    }
}

/// What `work` gives, unless the handler is taken off before.
pub(super) async fn until<T>(
    stopped: &mut oneshot::Receiver<()>,
    work: impl Future<Output = Option<T>>,
) -> Option<T> {
    tokio::select! {
        biased;
        _ = stopped => None,
        item = work => item,
    }
}

/// The type of a message without the prefix that tells the kind of its sender.
fn bare_type(message: &TwinMessage) -> Option<&str> {
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
