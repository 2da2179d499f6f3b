//! The hub client: a handle that is cheap to clone, whose task keeps a socket to the hub for as long
//! as a handle lives. Calls, subscriptions and messages go in; twin messages, twin updates and the
//! status come out.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot, watch};

use super::connection::{Command, Connection};
use super::connection_events::{ConnectionEvent, EVENT_QUEUE};
use super::engine_io::MAX_PACKET_BYTES;
use super::handlers::{HandlerId, HandlerTasks, call};
use super::message::{IceServer, Twin, TwinMessage, TwinUpdate};
use super::namesake::{SentDescriptions, Sightings, is_foreign};
use super::options::HubOptions;
use super::session::{AwayReason, CallError, CallResult, encode_call, failed, hub_message};
use super::text::brief;
use super::twin::{ActionResult, Instance, until};
use crate::rate_limit::{RATE_LIMIT, RateLimit};
use crate::secret::Secret;
use crate::telemetry::{ClientSink, Malformed, SignalRefusal};

/// Commands that may wait for the task; more wait with their callers.
const COMMAND_QUEUE: usize = 64;

/// Bytes that may wait for the socket; more wait with their callers.
const QUEUED_BYTES: usize = 4 << 20;

/// Twin updates that a receiver may lag behind before the oldest go. One that is large takes several places.
const UPDATE_QUEUE: usize = 64;

/// The bytes of a twin update that one place is for, as the hub sent them.
const UPDATE_BYTES: usize = 32 << 10;

/// Bytes of messages that may wait for one receiver, as the hub sent them. Read into memory they may be some
/// thirty times as large.
const RECEIVER_BYTES: usize = 2 << 20;

/// What a call's frame has beside method, own twin and payload.
const CALL_OVERHEAD_BYTES: usize = 64;

/// Requests to other twins that may await their answers at once.
const MAX_REQUESTS: usize = 1024;

/// How long the answer of a hub that has no ICE servers, or gives none, is believed.
const ICE_RETRY: Duration = Duration::from_secs(30);

/// The longest time to live of ICE servers that is believed.
const MAX_ICE_TTL: Duration = Duration::from_secs(24 * 3600);

/// Where the connection to the hub stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubStatus {
    /// An attempt is under way.
    Connecting {
        /// Its number since the hub was last joined, from 1.
        attempt: u32,
    },
    /// Messages flow.
    Joined {
        /// The own twin.
        twin_id: String,
    },
    /// The next attempt waits, or the client was closed.
    Away {
        /// When the hub went, or could not be reached for the first time.
        since: Instant,
        /// Why the last attempt or connection ended.
        reason: AwayReason,
    },
    /// The hub refused the credentials. Nothing more is tried.
    Refused {
        /// The hub's words.
        reason: String,
    },
}

/// Why the hub did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// The hub is away.
    #[error("the hub is not joined: wait for it and try again")]
    Disconnected,
    /// The hub refused this client.
    #[error("the hub refused this device: {reason}: check the device id and its access key")]
    Refused {
        /// The hub's words.
        reason: String,
    },
    /// The client was closed.
    #[error("the hub client was closed")]
    Closed,
    /// Nobody answered in time.
    #[error("`{what}` was not answered within {limit:?}")]
    Expired {
        /// The method, or the type of the request.
        what: String,
        /// The limit.
        limit: Duration,
    },
    /// The hub said no.
    #[error("the hub answered `{method}` with `{message}`")]
    Rejected {
        /// The method.
        method: String,
        /// The hub's words.
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
        /// Its length on the wire.
        bytes: usize,
        /// What the hub takes.
        limit: usize,
    },
    /// The payload is not what can be sent.
    #[error(
        "a payload must be a JSON object with at least one field: the official clients lose anything else"
    )]
    Payload,
    /// The peripheral twin belongs to somebody else now.
    #[error(
        "the peripheral twin `{twin_id}` is owned by {new_owner} now: create it again to take it back"
    )]
    OwnershipLost {
        /// The peripheral.
        twin_id: String,
        /// Who has it, in words.
        new_owner: String,
    },
    /// Too many calls or requests await their answers.
    #[error("too many calls await the hub's answers: wait for some")]
    TooManyCalls,
    /// What was sent before still waits for the hub's socket.
    #[error("the hub's socket takes no more for now: try again in a moment")]
    Busy,
}

/// A connection to the hub, shared by all clones; it ends with the last of them.
#[derive(Debug, Clone)]
pub struct HubClient {
    pub(super) shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<HubStatus>,
}

/// A client that ends when its other handles are gone.
#[derive(Debug, Clone)]
pub(super) struct WeakHubClient {
    shared: Weak<Shared>,
    commands: mpsc::WeakSender<Command>,
    status: watch::Receiver<HubStatus>,
}

/// Twin messages that a filter lets through, in order, bounded.
#[derive(Debug)]
pub struct MessageReceiver {
    receiver: mpsc::Receiver<Received>,
    waiting_bytes: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

/// A message and its length as the hub sent it.
type Received = (TwinMessage, usize);

/// Changes of the subscribed twins, in order; whoever lags too far behind loses the oldest.
#[derive(Debug)]
pub struct TwinUpdates {
    receiver: broadcast::Receiver<FeedItem>,
    /// The number of the next update.
    next: u64,
    missed: u64,
}

/// What stands in the queue of updates.
#[derive(Debug, Clone)]
pub(super) enum FeedItem {
    /// An update and its number.
    Update(u64, Box<TwinUpdate>),
    /// Takes a place in the stead of an update that is larger than its own.
    Filler,
}

/// What the handles and the task have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: HubOptions,
    pub(super) metrics: Option<Arc<dyn ClientSink>>,
    own: RwLock<OwnTwin>,
    /// The longest frame that the hub takes, in bytes.
    pub(super) max_message: AtomicUsize,
    listeners: Mutex<Vec<Arc<Listener>>>,
    updates: broadcast::Sender<FeedItem>,
    /// Updates so far.
    updates_told: AtomicU64,
    pub(super) handlers: HandlerTasks,
    pub(super) connections: broadcast::Sender<ConnectionEvent>,
    requests: Mutex<HashMap<String, oneshot::Sender<ActionResult>>>,
    ice: tokio::sync::Mutex<Option<IceCache>>,
    queued_bytes: Arc<Semaphore>,
    /// The key that is in use; a rotated one replaces it.
    access_key: Mutex<Option<Secret>>,
    wants: Mutex<Wants>,
    /// There is a change of what is listened to.
    pub(super) wants_changed: Notify,
    sent: Mutex<SentDescriptions>,
    namesake: OnceLock<Namesake>,
    pub(super) warnings: RateLimit<&'static str>,
}

/// Changes of what is listened to, on their way to the task. They never wait for the socket, so that a
/// subscription and its end keep their order. One entry for each twin that the app names.
#[derive(Debug, Default)]
struct Wants {
    changes: BTreeMap<String, WantChange>,
    /// The task has ended.
    closed: bool,
}

/// What is new about one twin.
#[derive(Debug, Default)]
pub(super) struct WantChange {
    /// Who wants to listen, and awaits the hub's answer.
    pub(super) subscribers: Vec<oneshot::Sender<CallResult>>,
    /// How many listen no more.
    pub(super) unsubscribed: usize,
}

/// Whether somebody else has our twin id.
#[derive(Debug)]
struct Namesake {
    run_id: String,
    sightings: Mutex<Sightings>,
}

#[derive(Debug, Default)]
struct OwnTwin {
    id: String,
    twin: Option<Twin>,
}

struct Listener {
    wants: Box<dyn Fn(&TwinMessage) -> bool + Send + Sync>,
    sender: mpsc::Sender<Received>,
    waiting_bytes: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
struct IceCache {
    fresh_until: Instant,
    servers: Vec<IceServer>,
}

/// Takes a request off the list when its caller stops waiting.
#[derive(Debug)]
pub(super) struct PendingRequest<'a> {
    shared: &'a Shared,
    id: String,
}

impl HubClient {
    /// Connects, waits until the hub is joined, and stays connected for as long as a clone of the client
    /// lives. Needs a tokio runtime.
    ///
    /// A hub that cannot be reached is tried for ever: put a time limit around it where that is not
    /// wanted, or use [`HubClient::start`] and go on without the hub.
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
    /// If the hub refuses this client.
    pub async fn connect(options: HubOptions) -> Result<Self, HubError> {
        let client = Self::start(options);
        client.joined().await?;
        Ok(client)
    }

    /// Starts the task that connects, and connects again for ever. Needs a tokio runtime.
    pub fn start(options: HubOptions) -> Self {
        Self::start_counting(options, None)
    }

    /// As [`HubClient::start`], and tells a sink what there is to count.
    pub fn start_counting(options: HubOptions, metrics: Option<Arc<dyn ClientSink>>) -> Self {
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (status_sender, status) = watch::channel(HubStatus::Connecting { attempt: 1 });
        let shared = Arc::new(Shared {
            own: RwLock::new(OwnTwin {
                id: options.twin_id.clone(),
                twin: None,
            }),
            access_key: Mutex::new(options.access_key.clone()),
            options,
            metrics,
            max_message: AtomicUsize::new(MAX_PACKET_BYTES),
            listeners: Mutex::default(),
            updates: broadcast::channel(UPDATE_QUEUE).0,
            updates_told: AtomicU64::new(0),
            handlers: HandlerTasks::default(),
            connections: broadcast::channel(EVENT_QUEUE).0,
            requests: Mutex::default(),
            ice: tokio::sync::Mutex::default(),
            queued_bytes: Arc::new(Semaphore::new(QUEUED_BYTES)),
            wants: Mutex::default(),
            wants_changed: Notify::new(),
            sent: Mutex::default(),
            namesake: OnceLock::new(),
            warnings: RateLimit::new(RATE_LIMIT),
        });
        let connection = Connection::new(Arc::clone(&shared), command_queue, status_sender);
        tokio::spawn(connection.run());
        Self {
            shared,
            commands,
            status,
        }
    }

    /// The status, and its changes.
    pub fn status(&self) -> watch::Receiver<HubStatus> {
        self.status.clone()
    }

    /// Where the hub is, as it may be shown: without a user, a password, a path and a query.
    pub fn hub_url(&self) -> String {
        self.shared.options.shown_url()
    }

    /// Warns from now on when somebody else is connected with the own twin's id. `run_id` is what tells our own
    /// `detections` from others'.
    pub fn watch_for_namesakes(&self, run_id: &str) {
        // A second call changes nothing: a client has one run.
        let _ = self.shared.namesake.set(Namesake {
            run_id: run_id.to_owned(),
            sightings: Mutex::default(),
        });
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
    /// If the hub refuses this client, or the client is closed.
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

    /// The own twin.
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

    /// What the hub says of the device that this app runs on: `deviceId`, `tenantId`, `spaceId`, `ip` and
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

    /// What the hub knows about a twin.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// let twin = client.get_twin("camera-yard").await?;
    /// println!("{} of type {} is {}", twin.id, twin.r#type, twin.status);
    /// # Ok(())
    /// # }
    /// ```
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

    /// The ICE servers of the hub, then the operator's own; only the latter if the hub gives none
    /// in time. Cached for as long as the hub says.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// for server in client.ice_servers().await {
    ///     println!("{:?}", server.urls);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn ice_servers(&self) -> Vec<IceServer> {
        let mut cache = self.shared.ice.lock().await;
        let fresh = cache
            .as_ref()
            .filter(|cache| Instant::now() < cache.fresh_until)
            .map(|cache| cache.servers.clone());
        let mut servers = match fresh {
            Some(servers) => servers,
            None => self.fetch_ice_servers(&mut cache).await,
        };
        servers.extend(self.shared.options.static_ice_servers());
        servers
    }

    /// The operator's own ICE servers, which need no hub.
    pub fn static_ice_servers(&self) -> Vec<IceServer> {
        self.shared.options.static_ice_servers()
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
            .want(twin_id, |change| change.subscribers.push(done));
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

    /// Leaves a twin's room.
    pub async fn unsubscribe(&self, twin_id: &str) {
        // A closed client listens to nothing anyway.
        self.shared.want(twin_id, |change| change.unsubscribed += 1);
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
    /// # Errors
    /// At once if the hub is away or the message is too long; later if the hub goes before it is
    /// written.
    pub async fn send(&self, target: &str, data: Value) -> Result<(), HubError> {
        let own = self.joined_twin_id()?;
        self.send_as(&own, target, data).await
    }

    /// As [`HubClient::send`], signed with another twin of this app's.
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

    /// Calls a method of the hub's and waits for the acknowledgement.
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
    /// If the hub is away, does not answer in time, or answers with `status: "error"`.
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
    /// comes when all places are taken is dropped and counted. `wants` runs on the hub's task: it
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
        self.listen(capacity, Box::new(wants))
    }

    fn listen(
        &self,
        capacity: usize,
        wants: Box<dyn Fn(&TwinMessage) -> bool + Send + Sync>,
    ) -> MessageReceiver {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let dropped = Arc::new(AtomicU64::new(0));
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let listener = Listener {
            wants,
            sender,
            waiting_bytes: Arc::clone(&waiting_bytes),
            dropped: Arc::clone(&dropped),
        };
        let mut listeners = self.shared.listeners.lock();
        listeners.retain(|listener| !listener.sender.is_closed());
        listeners.push(Arc::new(listener));
        MessageReceiver {
            receiver,
            waiting_bytes,
            dropped,
        }
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
        TwinUpdates {
            receiver: self.shared.updates.subscribe(),
            next: self.shared.updates_told.load(Ordering::Relaxed),
            missed: 0,
        }
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

    async fn fetch_ice_servers(&self, cache: &mut Option<IceCache>) -> Vec<IceServer> {
        let payload = json!({ "data": { "useCase": "media" } });
        let limit = self.shared.options.timers.ice_servers;
        let answer = tokio::time::timeout(limit, self.call("getIceServers", payload)).await;
        let (servers, fresh_for) = match answer {
            Ok(Ok(answer)) => match IceServer::list_from_value(&answer) {
                Some(servers) => (servers, ice_lifetime(&answer)),
                None => {
                    self.shared
                        .malformed("a getIceServers answer without a list");
                    (Vec::new(), ICE_RETRY)
                }
            },
            // The next caller may find the hub joined.
            Ok(Err(HubError::Disconnected | HubError::Closed)) => return Vec::new(),
            Ok(Err(_)) | Err(_) => (Vec::new(), ICE_RETRY),
        };
        *cache = Some(IceCache {
            fresh_until: Instant::now() + fresh_for,
            servers: servers.clone(),
        });
        servers
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

impl MessageReceiver {
    /// The next message; `None` once the client is gone.
    pub async fn recv(&mut self) -> Option<TwinMessage> {
        let received = self.receiver.recv().await?;
        Some(self.taken(received))
    }

    /// The next message if one waits.
    pub fn try_recv(&mut self) -> Option<TwinMessage> {
        let received = self.receiver.try_recv().ok()?;
        Some(self.taken(received))
    }

    fn taken(&self, (message, bytes): Received) -> TwinMessage {
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        message
    }

    /// Messages that found all places taken.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl TwinUpdates {
    /// The next change; `None` once the client is gone.
    pub async fn recv(&mut self) -> Option<TwinUpdate> {
        loop {
            match self.receiver.recv().await {
                Ok(FeedItem::Update(number, update)) => {
                    self.missed += number.saturating_sub(self.next);
                    self.next = number + 1;
                    return Some(*update);
                }
                // The next update's number tells how many were missed.
                Ok(FeedItem::Filler) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// Changes that were lost because this receiver lagged behind.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

impl Shared {
    /// The own twin's id; empty in direct mode until the hub has told it.
    pub(super) fn own_twin_id(&self) -> String {
        self.read_own(|own| own.id.clone())
    }

    /// What the hub last told about the own twin.
    pub(super) fn own_twin(&self) -> Option<Twin> {
        self.read_own(|own| own.twin.clone())
    }

    /// The type of the own twin, where the hub told it.
    pub(super) fn own_twin_type(&self) -> Option<String> {
        self.read_own(|own| own.twin.as_ref().map(|twin| twin.r#type.clone()))
    }

    /// True for the own twin's id.
    pub(super) fn is_own(&self, twin_id: &str) -> bool {
        self.read_own(|own| own.id == twin_id)
    }

    /// The device of the own twin, as it signs events.
    pub(super) fn own_device_id(&self) -> String {
        self.read_own(|own| match &own.twin {
            Some(twin) if !twin.device_id.is_empty() => twin.device_id.clone(),
            _ => self.options.device_id.clone(),
        })
    }

    pub(super) fn set_own_id(&self, id: &str) {
        let mut own = self.own.write();
        id.clone_into(&mut own.id);
    }

    pub(super) fn set_own_twin(&self, twin: Twin) {
        let mut own = self.own.write();
        own.twin = Some(twin);
    }

    /// The key that is in use.
    pub(super) fn access_key(&self) -> Option<Secret> {
        self.access_key.lock().clone()
    }

    pub(super) fn set_access_key(&self, key: Secret) {
        *self.access_key.lock() = Some(key);
    }

    /// Tells an update of so many bytes to whoever listens.
    pub(super) fn tell_update(&self, update: TwinUpdate, bytes: usize) {
        let number = self.updates_told.fetch_add(1, Ordering::Relaxed);
        // An error means that nobody listens.
        if self
            .updates
            .send(FeedItem::Update(number, Box::new(update)))
            .is_ok()
        {
            for _ in 0..(bytes / UPDATE_BYTES).min(UPDATE_QUEUE - 1) {
                let _ = self.updates.send(FeedItem::Filler);
            }
        }
    }

    /// Notes a change of what is listened to; false if the client has ended.
    fn want(&self, twin_id: &str, change: impl FnOnce(&mut WantChange)) -> bool {
        let mut wants = self.wants.lock();
        if wants.closed {
            return false;
        }
        change(wants.changes.entry(twin_id.to_owned()).or_default());
        drop(wants);
        self.wants_changed.notify_one();
        true
    }

    /// One of the changes of what is listened to.
    pub(super) fn next_want(&self) -> Option<(String, WantChange)> {
        self.wants.lock().changes.pop_first()
    }

    /// Looks whether a message proves that somebody else has our twin id.
    fn look_for_namesake(&self, message: &TwinMessage) {
        let Some(namesake) = self.namesake.get() else {
            return;
        };
        let foreign = self.read_own(|own| {
            !own.id.is_empty()
                && message.source_twin_id == own.id
                && is_foreign(message, &own.id, &namesake.run_id, &self.sent.lock())
        });
        if !foreign {
            return;
        }
        if let Some(metrics) = &self.metrics {
            metrics.twin_id_conflict();
        }
        let now = Instant::now();
        if namesake.sightings.lock().proved(now)
            && let Some(suppressed) = self.warnings.allow("namesake", now)
        {
            tracing::warn!(
                twin_id = self.own_twin_id(),
                suppressed,
                "another program is connected with this node's twin id, and they take each other's cameras away: stop one of them, or give it a twin id of its own (TWIN_ID or `hub.twin_id`)"
            );
        }
    }

    /// Hands a message of so many bytes to whoever wants it; false if nobody does.
    pub(super) fn deliver(&self, message: &TwinMessage, bytes: usize) -> bool {
        self.look_for_namesake(message);
        let mut wanted = self.settle_request(message);
        let listeners = self.listeners.lock().clone();
        let mut any_closed = false;
        for listener in &listeners {
            any_closed |= listener.sender.is_closed();
            if !(listener.wants)(message) {
                continue;
            }
            wanted = true;
            if !listener.give(message, bytes) {
                listener.dropped.fetch_add(1, Ordering::Relaxed);
                if let Some(metrics) = &self.metrics {
                    metrics.signal_refused(SignalRefusal::Overflow);
                }
            }
        }
        if any_closed {
            self.listeners
                .lock()
                .retain(|listener| !listener.sender.is_closed());
        }
        wanted
    }

    /// Ends the streams of messages and updates, when the task ends.
    pub(super) fn hang_up(&self) {
        self.listeners.lock().clear();
        self.requests.lock().clear();
        let mut wants = self.wants.lock();
        wants.closed = true;
        wants.changes.clear();
        drop(wants);
        self.handlers.clear();
    }

    /// Counts a malformed input and logs it, at most once in 10 s.
    pub(super) fn malformed(&self, what: &str) {
        if let Some(metrics) = &self.metrics {
            metrics.malformed_input(Malformed::HubMessage);
        }
        let Some(suppressed) = self.warnings.allow("malformed", Instant::now()) else {
            return;
        };
        let what = brief(what);
        tracing::warn!(
            what,
            suppressed,
            "the hub sent something that cannot be read"
        );
    }

    /// Puts a request on the list of those that await an answer.
    pub(super) fn expect_answer(
        &self,
        id: String,
    ) -> Result<(PendingRequest<'_>, oneshot::Receiver<ActionResult>), HubError> {
        let (sender, receiver) = oneshot::channel();
        let mut requests = self.requests.lock();
        if requests.len() >= MAX_REQUESTS {
            return Err(HubError::TooManyCalls);
        }
        requests.insert(id.clone(), sender);
        Ok((PendingRequest { shared: self, id }, receiver))
    }

    /// True if the message answered a request.
    fn settle_request(&self, message: &TwinMessage) -> bool {
        let Some((id, result)) = ActionResult::of_response(message) else {
            return false;
        };
        let Some(sender) = self.requests.lock().remove(id) else {
            return false;
        };
        // The caller may just have stopped waiting.
        let _ = sender.send(result);
        true
    }

    fn read_own<R>(&self, read: impl FnOnce(&OwnTwin) -> R) -> R {
        read(&self.own.read())
    }
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        self.shared.requests.lock().remove(&self.id);
    }
}

impl Listener {
    /// False if there is no place for the message. Whoever went away needs none.
    fn give(&self, message: &TwinMessage, bytes: usize) -> bool {
        let waiting = self.waiting_bytes.load(Ordering::Relaxed);
        // One has a place at any length.
        if waiting > 0 && waiting.saturating_add(bytes) > RECEIVER_BYTES {
            return false;
        }
        // Counted first: whoever takes it may be quicker than this thread.
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let Err(error) = self.sender.try_send((message.clone(), bytes)) else {
            return true;
        };
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        matches!(error, mpsc::error::TrySendError::Closed(_))
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

/// How long an answer to `getIceServers` may be used: to shortly before it expires.
fn ice_lifetime(answer: &Value) -> Duration {
    let ttl = answer
        .get("ttlSeconds")
        .and_then(Value::as_f64)
        .filter(|ttl| *ttl > 0.0)
        .and_then(|ttl| Duration::try_from_secs_f64(ttl).ok());
    match ttl {
        Some(ttl) => {
            let ttl = ttl.min(MAX_ICE_TTL);
            ttl - (ttl / 2).min(Duration::from_secs(30))
        }
        None => ICE_RETRY,
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ice_servers_are_renewed_before_they_expire() {
        let lifetime = |ttl: Value| ice_lifetime(&json!({ "ttlSeconds": ttl })).as_secs();
        assert_eq!(lifetime(json!(3600)), 3570);
        assert_eq!(lifetime(json!(40)), 20);
        assert_eq!(lifetime(json!(0)), 30);
        assert_eq!(lifetime(json!(null)), 30);
        assert_eq!(lifetime(json!(-5)), 30);
        assert_eq!(lifetime(json!("60")), 30);
        assert_eq!(lifetime(json!(1e300)), 30);
        assert_eq!(lifetime(json!(1e15)), 24 * 3600 - 30);
    }
}
