//! What the handles of a client and its task have in common: the own twin, who listens, who awaits an answer.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore, broadcast, oneshot};

use super::action::ActionResult;
use super::answer::CallResult;
use super::connection_events::{ConnectionEvent, EVENT_QUEUE};
use super::engine_io::MAX_PACKET_BYTES;
use super::error::HubError;
use super::handlers::HandlerTasks;
use super::ice_servers::IceCache;
use super::message::{Twin, TwinMessage};
use super::message_receiver::Listener;
use super::namesake::{SentDescriptions, Sightings, is_foreign};
use super::options::HubOptions;
use super::text::brief;
use super::twin_updates::UpdateFeed;
use crate::rate_limit::{RATE_LIMIT, RateLimit};
use crate::secret::Secret;
use crate::telemetry::{ClientSink, Malformed, SignalRefusal};

/// Bytes that may wait for the socket; more wait with their callers.
const QUEUED_BYTES: usize = 4 << 20;

/// Requests to other twins that may await their answers at once.
const MAX_REQUESTS: usize = 1024;

/// What the handles and the task have in common.
#[derive(Debug)]
pub(super) struct ClientState {
    pub(super) options: HubOptions,
    pub(super) metrics: Option<Arc<dyn ClientSink>>,
    own: RwLock<OwnTwin>,
    /// The longest frame that the hub takes, in bytes.
    pub(super) max_message: AtomicUsize,
    listeners: Mutex<Vec<Arc<Listener>>>,
    pub(super) updates: UpdateFeed,
    pub(super) handlers: HandlerTasks,
    pub(super) connections: broadcast::Sender<ConnectionEvent>,
    requests: Mutex<HashMap<String, oneshot::Sender<ActionResult>>>,
    pub(super) ice: tokio::sync::Mutex<Option<IceCache>>,
    pub(super) queued_bytes: Arc<Semaphore>,
    /// The key that is in use; a rotated one replaces it.
    access_key: Mutex<Option<Secret>>,
    subscription_changes: Mutex<SubscriptionChanges>,
    /// There is a change of what is listened to.
    pub(super) subscriptions_changed: Notify,
    pub(super) sent: Mutex<SentDescriptions>,
    namesake: OnceLock<Namesake>,
    pub(super) warnings: RateLimit<&'static str>,
}

/// Changes of what is listened to, on their way to the task. They never wait for the socket, so that a
/// subscription and its end keep their order. One entry for each twin that the app names.
#[derive(Debug, Default)]
struct SubscriptionChanges {
    changes: BTreeMap<String, SubscriptionChange>,
    /// The task has ended, and nobody carries changes out any more.
    closed: bool,
}

/// Who began and who ceased to listen to one twin since the task last looked.
#[derive(Debug, Default)]
pub(super) struct SubscriptionChange {
    /// Who wants to listen, and awaits the hub's answer.
    pub(super) subscribers: Vec<oneshot::Sender<CallResult>>,
    /// How many ceased to listen.
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

/// Takes a request off the list when its caller stops waiting.
#[derive(Debug)]
pub(super) struct PendingRequest<'a> {
    shared: &'a ClientState,
    id: String,
}

impl ClientState {
    pub(super) fn new(options: HubOptions, metrics: Option<Arc<dyn ClientSink>>) -> Self {
        Self {
            own: RwLock::new(OwnTwin {
                id: options.twin_id.clone(),
                twin: None,
            }),
            access_key: Mutex::new(options.access_key.clone()),
            options,
            metrics,
            max_message: AtomicUsize::new(MAX_PACKET_BYTES),
            listeners: Mutex::default(),
            updates: UpdateFeed::new(),
            handlers: HandlerTasks::default(),
            connections: broadcast::channel(EVENT_QUEUE).0,
            requests: Mutex::default(),
            ice: tokio::sync::Mutex::default(),
            queued_bytes: Arc::new(Semaphore::new(QUEUED_BYTES)),
            subscription_changes: Mutex::default(),
            subscriptions_changed: Notify::new(),
            sent: Mutex::default(),
            namesake: OnceLock::new(),
            warnings: RateLimit::new(RATE_LIMIT),
        }
    }

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

    /// Warns from now on when somebody else has our twin id. A second call changes nothing: a client has one run.
    pub(super) fn watch_for_namesakes(&self, run_id: &str) {
        let _ = self.namesake.set(Namesake {
            run_id: run_id.to_owned(),
            sightings: Mutex::default(),
        });
    }

    /// Adds a receiver of messages.
    pub(super) fn add_listener(&self, listener: Listener) {
        let mut listeners = self.listeners.lock();
        listeners.retain(|listener| !listener.is_closed());
        listeners.push(Arc::new(listener));
    }

    /// Notes a change of what is listened to; false if the client has ended.
    pub(super) fn change_subscription(
        &self,
        twin_id: &str,
        change: impl FnOnce(&mut SubscriptionChange),
    ) -> bool {
        let mut pending = self.subscription_changes.lock();
        if pending.closed {
            return false;
        }
        change(pending.changes.entry(twin_id.to_owned()).or_default());
        drop(pending);
        self.subscriptions_changed.notify_one();
        true
    }

    /// One of the changes of what is listened to.
    pub(super) fn next_subscription_change(&self) -> Option<(String, SubscriptionChange)> {
        self.subscription_changes.lock().changes.pop_first()
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
            any_closed |= listener.is_closed();
            if !listener.wants(message) {
                continue;
            }
            wanted = true;
            if !listener.give(message, bytes)
                && let Some(metrics) = &self.metrics
            {
                metrics.signal_refused(SignalRefusal::Overflow);
            }
        }
        if any_closed {
            self.listeners
                .lock()
                .retain(|listener| !listener.is_closed());
        }
        wanted
    }

    /// Ends the streams of messages and updates, when the task ends.
    pub(super) fn hang_up(&self) {
        self.listeners.lock().clear();
        self.requests.lock().clear();
        let mut pending = self.subscription_changes.lock();
        pending.closed = true;
        pending.changes.clear();
        drop(pending);
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
