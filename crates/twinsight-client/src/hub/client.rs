//! The hub client: a handle that is cheap to clone, whose task keeps a socket to the hub for as long
//! as a handle lives. Calls, subscriptions and messages go in; twin messages, twin updates and the
//! status come out.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
#[cfg(feature = "webrtc")]
use std::time::Instant;

use serde_json::{Map, Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::answer::{CallError, CallResult, failed, hub_message};
use super::away_reason::AwayReason;
use super::client_state::ClientState;
use super::connection::{Command, Connection};
use super::error::HubError;
use super::handlers::{HandlerId, call, until};
use super::instance::Instance;
use super::message::{Twin, TwinMessage};
use super::message_receiver::{MessageReceiver, message_channel};
use super::options::HubOptions;
use super::session::encode_call;
use super::status::HubStatus;
use super::text::brief;
use super::twin_updates::TwinUpdates;
use crate::secret::Secret;
use crate::telemetry::ClientSink;

/// Commands that may wait for the task; more wait with their callers.
const COMMAND_QUEUE: usize = 64;

/// What a call's frame has beside method, own twin and payload.
const CALL_OVERHEAD_BYTES: usize = 64;

/// A connection to the hub, shared by all clones. It ends with the last clone, [`Instance`]s included.
#[derive(Debug, Clone)]
pub struct HubClient {
    pub(super) shared: Arc<ClientState>,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<HubStatus>,
}

/// A client that ends when its other handles are gone.
#[derive(Debug, Clone)]
pub(super) struct WeakHubClient {
    shared: Weak<ClientState>,
    commands: mpsc::WeakSender<Command>,
    status: watch::Receiver<HubStatus>,
}

impl HubClient {
    /// Connects, waits until the hub is joined, and stays connected for as long as a clone of the client
    /// lives. Needs a tokio runtime.
    ///
    /// It waits for [`Timers::join`](super::Timers::join), 90 s unless the options say otherwise. To go on without
    /// the hub until it is there, use [`HubClient::start`], which tries for ever.
    ///
    /// ```no_run
    /// # use twinsight_client::hub::{HubClient, HubOptions};
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = HubClient::connect(HubOptions::from_env()?).await?;
    /// println!("joined as {}", client.instance().twin_id());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`HubError::Refused`] if the hub refuses this client, which is believed after a minute of refusals;
    /// [`HubError::NotJoined`], with the reason of the last failure, if the hub was not joined in time. Nothing is tried
    /// any more after either.
    pub async fn connect(options: HubOptions) -> Result<Self, HubError> {
        let limit = options.timers.join;
        let client = Self::start(options);
        let mut last_failure = None;
        let mut status = client.status();
        let joining = async {
            loop {
                match &*status.borrow_and_update() {
                    HubStatus::Joined { .. } => return Ok(()),
                    HubStatus::Refused { reason } => {
                        return Err(HubError::Refused {
                            reason: reason.clone(),
                        });
                    }
                    HubStatus::Away { reason, .. } => last_failure = Some(reason.clone()),
                    HubStatus::Connecting { .. } => {}
                }
                status.changed().await.map_err(|_| HubError::Closed)?;
            }
        };
        match tokio::time::timeout(limit, joining).await {
            Ok(joined) => joined.map(|()| client),
            Err(_) => Err(HubError::NotJoined {
                limit,
                reason: last_failure,
            }),
        }
    }

    /// Starts the task that connects, and connects again for as long as a clone of the client lives. Returns at once. Needs
    /// a tokio runtime.
    pub fn start(options: HubOptions) -> Self {
        Self::start_counting(options, None)
    }

    /// Like [`HubClient::start`], and tells a sink what there is to count.
    pub fn start_counting(options: HubOptions, metrics: Option<Arc<dyn ClientSink>>) -> Self {
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (status_sender, status) = watch::channel(HubStatus::Connecting { attempt: 1 });
        let shared = Arc::new(ClientState::new(options, metrics));
        let connection = Connection::new(Arc::clone(&shared), command_queue, status_sender);
        tokio::spawn(connection.run());
        Self {
            shared,
            commands,
            status,
        }
    }

    /// Where the connection stands now, and each change of it.
    pub fn status(&self) -> watch::Receiver<HubStatus> {
        self.status.clone()
    }

    /// The URL of the hub as it may be shown: without a user, a password, a path and a query.
    pub fn hub_url(&self) -> String {
        self.shared.options.shown_url()
    }

    /// Warns from now on when somebody else is connected with the own twin's id. `run_id` is what tells our own
    /// `detections` from others'.
    pub fn watch_for_namesakes(&self, run_id: &str) {
        self.shared.watch_for_namesakes(run_id);
    }

    /// Waits until the hub is joined.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// client.joined().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`HubError::Refused`] if the hub refuses this client, [`HubError::Closed`] if the client is closed.
    pub async fn joined(&self) -> Result<(), HubError> {
        let mut status = self.status.clone();
        let settled = status
            .wait_for(|status| {
                matches!(status, HubStatus::Joined { .. } | HubStatus::Refused { .. })
            })
            .await
            .map_err(|_| HubError::Closed)?;
        match &*settled {
            HubStatus::Refused { reason } => Err(HubError::Refused {
                reason: reason.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// The twin that this client connects as, to speak as it.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// println!("{}", client.instance().twin_id());
    /// # Ok(())
    /// # }
    /// ```
    pub fn instance(&self) -> Instance {
        Instance::own(self.clone())
    }

    /// The settings of this app: `desired.settings` of its twin, as the hub has them now.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// println!("{:?}", client.settings().await?.get("color"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`HubClient::call`].
    pub async fn settings(&self) -> Result<Map<String, Value>, HubError> {
        let twin = self.get_twin(&self.joined_twin_id()?).await?;
        Ok(twin.settings().cloned().unwrap_or_default())
    }

    /// What the hub says of the device that this app runs on: an object with `deviceId`, `tenantId`, `spaceId`, `ip` and
    /// others.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// println!("{}", client.device_status().await?["deviceId"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`HubClient::call`].
    pub async fn device_status(&self) -> Result<Value, HubError> {
        self.call("getDeviceStatus", json!({})).await
    }

    /// Calls a handler each time that a twin changes, for as long as the client lives or until
    /// [`HubClient::off`]. Listens to the twin's room.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), twinsight_client::hub::HubError> {
    /// let handler = client.on_twin_update("camera-yard", |twin| async move {
    ///     println!("{} is {}", twin.id, twin.status);
    /// }).await?;
    /// client.off(handler);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`HubClient::subscribe`].
    pub async fn on_twin_update<F, R>(
        &self,
        twin_id: &str,
        mut handler: F,
    ) -> Result<HandlerId, HubError>
    where
        F: FnMut(Twin) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        if let Err(error) = self.subscribe(twin_id).await {
            // One that was refused would be asked for again.
            self.unsubscribe(twin_id).await;
            return Err(error);
        }
        let mut updates = self.twin_updates();
        let (client, twin_id) = (self.downgrade(), twin_id.to_owned());
        Ok(self.shared.handlers.start(|mut stopped| async move {
            while let Some(update) = until(&mut stopped, updates.recv()).await {
                if update.twin_id == twin_id {
                    call("an update of a twin", &mut handler, update.twin).await;
                }
            }
            if let Some(client) = client.upgrade() {
                client.unsubscribe(&twin_id).await;
            }
        }))
    }

    /// Takes off a handler that was registered with this client or one of its instances; false if it is
    /// not registered.
    pub fn off(&self, handler: HandlerId) -> bool {
        self.shared.handlers.stop(handler)
    }

    /// What the hub knows about a twin, asked of the hub at each call.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// let twin = client.get_twin("camera-yard").await?;
    /// println!("{} of type {} is {}", twin.id, twin.r#type, twin.status);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`HubError::NoSuchTwin`] if the hub answers without a twin, or as [`HubClient::call`].
    pub async fn get_twin(&self, twin_id: &str) -> Result<Twin, HubError> {
        let payload = json!({ "data": { "twinId": twin_id } });
        let mut answer = self.call("getTwinById", payload).await?;
        answer
            .get_mut("twin")
            .map(Value::take)
            .and_then(Twin::from_value)
            .ok_or_else(|| HubError::NoSuchTwin {
                twin_id: twin_id.to_owned(),
            })
    }

    /// Listens to a twin's room, and again after every reconnect, until [`HubClient::unsubscribe`].
    /// While the hub is away the subscription is remembered and this succeeds. It counts from the call on,
    /// whether its answer is awaited or not.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// client.subscribe("camera-yard").await?;
    /// client.unsubscribe("camera-yard").await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe(
        &self,
        twin_id: &str,
    ) -> impl Future<Output = Result<(), HubError>> + Send + use<> {
        const METHOD: &str = "twinSubscribe";
        let (done, answer) = oneshot::channel();
        let is_open = self
            .shared
            .change_subscription(twin_id, |change| change.subscribers.push(done));
        let limit = self.shared.options.timers.ack;
        let shared = Arc::downgrade(&self.shared);
        async move {
            if !is_open {
                return Err(HubError::Closed);
            }
            let answer = outcome(METHOD, answer, limit).await?;
            let key = shared.upgrade().and_then(|shared| shared.access_key());
            accepted(METHOD, answer, key.as_ref()).map(drop)
        }
    }

    /// Takes back one [`HubClient::subscribe`]. The last one of a twin leaves its room.
    pub async fn unsubscribe(&self, twin_id: &str) {
        // A closed client listens to nothing anyway.
        self.shared
            .change_subscription(twin_id, |change| change.unsubscribed += 1);
    }

    /// Sends a message to a twin's room, signed with the own twin. Returns once it is written to
    /// the socket.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// client.send("app-1", serde_json::json!({ "type": "greeting", "data": { "n": 1 } })).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// `data` is what the official clients call the message: an object with a `type` and `data`. [`Instance::emit`] makes one
    /// of a payload.
    ///
    /// # Errors
    /// [`HubError::Disconnected`] if the hub is away, or goes before the message is written; [`HubError::TooLong`] if it is
    /// longer than the hub takes; [`HubError::Refused`] or [`HubError::Closed`] once nothing is tried any more.
    pub async fn send(&self, target: &str, data: Value) -> Result<(), HubError> {
        let own = self.joined_twin_id()?;
        self.send_as(&own, target, data).await
    }

    /// Like [`HubClient::send`], signed with `source`, another twin of this app's.
    ///
    /// # Errors
    /// As [`HubClient::send`].
    pub async fn send_as(&self, source: &str, target: &str, data: Value) -> Result<(), HubError> {
        let text = self.encode_message(source, target, data)?;
        let reserved = self.reserve(text.len()).await?;
        let (done, outcome) = oneshot::channel();
        self.command(Command::Write {
            text,
            reserved,
            done: Some(done),
        })
        .await?;
        outcome.await.map_err(|_| HubError::Disconnected)?
    }

    /// As [`HubClient::send_as`], without waiting: the message is on its way to the socket, or this fails.
    ///
    /// # Errors
    /// As [`HubClient::send`], and with [`HubError::Busy`] if too much waits for the socket.
    pub fn try_send_as(&self, source: &str, target: &str, data: Value) -> Result<(), HubError> {
        let text = self.encode_message(source, target, data)?;
        self.check_length(text.len())?;
        let permits = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let reserved = Arc::clone(&self.shared.queued_bytes)
            .try_acquire_many_owned(permits)
            .map_err(|_| HubError::Busy)?;
        let command = Command::Write {
            text,
            reserved,
            done: None,
        };
        self.commands
            .try_send(command)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => HubError::Busy,
                mpsc::error::TrySendError::Closed(_) => HubError::Closed,
            })
    }

    fn encode_message(&self, source: &str, target: &str, data: Value) -> Result<String, HubError> {
        let own = self.joined_twin_id()?;
        self.shared.sent.lock().remember(&data);
        let message = TwinMessage {
            twin_id: target.to_owned(),
            source_twin_id: source.to_owned(),
            source_device_id: self.shared.options.device_id.clone(),
            data,
        };
        let payload = message.into_value();
        let mode = self.shared.options.mode;
        Ok(encode_call(mode, &own, "twinMessage", payload, None))
    }

    /// Calls a method of the hub and waits for its answer, 20 s at most. The payload is an object, or null for none.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// let networks = client.call("getDeviceNetworks", serde_json::json!({})).await?;
    /// println!("{networks}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`HubError::Disconnected`] if the hub is away, [`HubError::Expired`] if it does not answer in time,
    /// [`HubError::Rejected`] if it answers with `status: "error"`, [`HubError::Payload`] if the payload is no object.
    pub async fn call(&self, method: &str, payload: Value) -> Result<Value, HubError> {
        let own = self.joined_twin_id()?;
        let payload = match payload {
            Value::Object(map) => map,
            Value::Null => Map::new(),
            _ => return Err(HubError::Payload),
        };
        let bytes = serde_json::to_string(&payload).map_or(0, |text| text.len());
        let bytes = bytes + method.len() + own.len() + CALL_OVERHEAD_BYTES;
        let reserved = self.reserve(bytes).await?;
        let (done, answer) = oneshot::channel();
        self.command(Command::Call {
            method: method.to_owned(),
            payload,
            reserved,
            done,
        })
        .await?;
        let answer = outcome(method, answer, self.shared.options.timers.ack).await?;
        accepted(method, answer, self.shared.access_key().as_ref())
    }

    /// The twin messages that `wants` lets through, `capacity` of them waiting at most: one that
    /// comes when all places are taken is lost, and counted as missed. `wants` runs on the hub's task: it
    /// must not wait.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut messages = client.messages(16, |message| message.twin_id == "camera-yard");
    /// while let Some(message) = messages.recv().await {
    ///     println!("{}", message.data);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn messages(
        &self,
        capacity: usize,
        wants: impl Fn(&TwinMessage) -> bool + Send + Sync + 'static,
    ) -> MessageReceiver {
        let (listener, receiver) = message_channel(capacity, Box::new(wants));
        self.shared.add_listener(listener);
        receiver
    }

    /// The changes of all subscribed twins, the own one included.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut updates = client.twin_updates();
    /// while let Some(update) = updates.recv().await {
    ///     println!("{} has changed", update.twin_id);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn twin_updates(&self) -> TwinUpdates {
        self.shared.updates.subscribe()
    }

    /// Leaves the hub; everything that was sent before is written first, within a second.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// client.close().await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.command(Command::Close { done }).await.is_ok() {
            // An error means that the task is gone, which is what was asked for.
            let _ = closed.await;
        }
    }

    pub(super) fn downgrade(&self) -> WeakHubClient {
        WeakHubClient {
            shared: Arc::downgrade(&self.shared),
            commands: self.commands.downgrade(),
            status: self.status.clone(),
        }
    }

    /// True when only relays are to be used unless the user says otherwise.
    #[cfg(feature = "webrtc")]
    pub(crate) fn prefers_relay(&self) -> bool {
        self.shared.options.prefers_relay()
    }

    /// Where inputs of peers are counted; nowhere outside of a node.
    #[cfg(feature = "webrtc")]
    pub(crate) fn metrics(&self) -> Option<&dyn ClientSink> {
        self.shared.metrics.as_deref()
    }

    /// The same, to be kept.
    #[cfg(feature = "webrtc")]
    pub(crate) fn shared_metrics(&self) -> Option<Arc<dyn ClientSink>> {
        self.shared.metrics.clone()
    }

    /// `Some` if a line about this may be logged now, with how many were left out.
    #[cfg(feature = "webrtc")]
    pub(crate) fn warn_about(&self, what: &'static str, now: Instant) -> Option<u64> {
        self.shared.warnings.allow(what, now)
    }

    /// The own twin while the hub is joined.
    pub(super) fn joined_twin_id(&self) -> Result<String, HubError> {
        match &*self.status.borrow() {
            HubStatus::Joined { twin_id } => Ok(twin_id.clone()),
            HubStatus::Refused { reason } => Err(HubError::Refused {
                reason: reason.clone(),
            }),
            HubStatus::Away {
                reason: AwayReason::ClosedHere,
                ..
            } => Err(HubError::Closed),
            HubStatus::Connecting { .. } | HubStatus::Away { .. } => Err(HubError::Disconnected),
        }
    }

    fn check_length(&self, bytes: usize) -> Result<(), HubError> {
        let limit = self.shared.max_message.load(Ordering::Relaxed);
        if bytes > limit {
            return Err(HubError::TooLong { bytes, limit });
        }
        Ok(())
    }

    async fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, HubError> {
        self.check_length(bytes)?;
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        Arc::clone(&self.shared.queued_bytes)
            .acquire_many_owned(permits)
            .await
            .map_err(|_| HubError::Closed)
    }

    async fn command(&self, command: Command) -> Result<(), HubError> {
        self.commands
            .send(command)
            .await
            .map_err(|_| HubError::Closed)
    }
}

/// What came of a call that had `limit` to be answered.
async fn outcome(
    method: &str,
    answer: oneshot::Receiver<CallResult>,
    limit: Duration,
) -> Result<Value, HubError> {
    match answer.await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(CallError::Disconnected)) | Err(_) => Err(HubError::Disconnected),
        Ok(Err(CallError::TooMany)) => Err(HubError::TooManyCalls),
        Ok(Err(CallError::Expired)) => Err(HubError::Expired {
            what: method.to_owned(),
            limit,
        }),
    }
}

impl WeakHubClient {
    pub(super) fn upgrade(&self) -> Option<HubClient> {
        Some(HubClient {
            shared: self.shared.upgrade()?,
            commands: self.commands.upgrade()?,
            status: self.status.clone(),
        })
    }
}

/// The answer, unless it is an error.
fn accepted(method: &str, answer: Value, key: Option<&Secret>) -> Result<Value, HubError> {
    let error_type = answer.get("errorType").and_then(Value::as_str);
    if failed(&answer) && error_type == Some("PeripheralOwnershipError") {
        let twin_id = answer.get("twinId").and_then(Value::as_str);
        return Err(HubError::OwnershipLost {
            twin_id: brief(twin_id.unwrap_or_default()),
            new_owner: "another owner".to_owned(),
        });
    }
    if failed(&answer) {
        return Err(HubError::Rejected {
            method: method.to_owned(),
            message: hub_message(&answer, key),
        });
    }
    Ok(answer)
}
