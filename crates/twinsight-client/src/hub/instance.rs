//! A twin as its owner holds it: events out and in, requests to other twins and answers to theirs,
//! reported and desired properties. Everything travels as twin messages of the hub client.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::action::ActionResult;
use super::client::{HubClient, WeakHubClient};
use super::error::{HubError, to_json};
use super::event::{EventReceiver, TwinEvent, bare_type};
use super::handlers::{HandlerId, call, until};
use super::message::Twin;
use super::peripheral::Ownership;
use super::property_updates::{PropertyUpdates, Side};

/// Events and updates that wait for one handler.
const HANDLER_QUEUE: usize = 64;

/// A twin to speak as: the own one ([`HubClient::instance`]) or a peripheral ([`HubClient::peripheral_instance`]). Clones
/// are cheap and keep the client alive.
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

/// A twin to speak to, as an [`Instance`]: [`Instance::to`].
#[derive(Debug, Clone)]
pub struct Target {
    instance: Instance,
    twin_id: String,
}

/// An instance that does not keep its client alive.
#[derive(Debug, Clone)]
pub(super) struct WeakInstance {
    client: WeakHubClient,
    identity: Identity,
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
    /// The payload is whatever serde writes as a JSON object: a struct, a map, a `serde_json::Value`.
    ///
    /// ```no_run
    /// # use twinsight_client::hub::{HubError, Instance};
    /// #[derive(serde::Serialize)]
    /// struct Opened {
    ///     door: u32,
    /// }
    ///
    /// # async fn example(instance: Instance) -> Result<(), HubError> {
    /// instance.emit("opened", Opened { door: 1 }).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`HubError::Payload`] if the payload is no object with a field in it, [`HubError::NotJson`] if it is no JSON,
    /// or as [`HubClient::send`].
    pub async fn emit(&self, event_type: &str, payload: impl Serialize) -> Result<(), HubError> {
        let payload = to_json(payload)?;
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
    /// when all places are taken is lost, and counted as missed.
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
        EventReceiver::new(self.downgrade(), messages)
    }

    /// Reports properties of this twin; the twin as it is then, if the hub tells it.
    ///
    /// ```no_run
    /// # async fn example(instance: twinsight_client::hub::Instance) -> Result<(), Box<dyn std::error::Error>> {
    /// instance.update_reported(serde_json::json!({ "version": "1.2" })).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`HubError::Payload`] if the properties are no JSON object, or as [`HubClient::call`].
    pub async fn update_reported(
        &self,
        properties: impl Serialize,
    ) -> Result<Option<Twin>, HubError> {
        let properties = to_properties(properties)?;
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

    /// The reported properties, each time they change; the first update after this call counts as a change.
    pub fn reported_updates(&self) -> PropertyUpdates {
        self.property_updates(Side::Reported)
    }

    fn property_updates(&self, side: Side) -> PropertyUpdates {
        PropertyUpdates::new(self.downgrade(), self.client.twin_updates(), side)
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

    pub(super) async fn send(
        &self,
        target: &str,
        event_type: &str,
        payload: Value,
    ) -> Result<(), HubError> {
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
    /// Sends an event into the twin's room. The payload is as that of [`Instance::emit`].
    ///
    /// # Errors
    /// As [`Instance::emit`].
    pub async fn emit(&self, event_type: &str, payload: impl Serialize) -> Result<(), HubError> {
        let payload = to_json(payload)?;
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
    /// The payload is whatever serde writes as a JSON object, or `()` for none.
    ///
    /// # Errors
    /// [`HubError::Payload`] if the payload is neither an object nor null, [`HubError::Expired`] if nobody answers, or as
    /// [`HubClient::send`].
    pub async fn request(
        &self,
        event_type: &str,
        payload: impl Serialize,
    ) -> Result<ActionResult, HubError> {
        let mut fields = match to_json(payload)? {
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

impl WeakInstance {
    pub(super) fn upgrade(&self) -> Option<Instance> {
        Some(Instance {
            client: self.client.upgrade()?,
            identity: self.identity.clone(),
        })
    }
}

/// Properties as a JSON object.
pub(super) fn to_properties(properties: impl Serialize) -> Result<Map<String, Value>, HubError> {
    match to_json(properties)? {
        Value::Object(properties) => Ok(properties),
        _ => Err(HubError::Payload),
    }
}
