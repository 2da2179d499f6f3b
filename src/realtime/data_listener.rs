//! How data channels come to be: dialled ([`Instance::get_data_channel`]), awaited from one twin
//! ([`Instance::on_data_channel`]), or accepted from whoever dials ([`Instance::accept_data_channels`]).

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, join_all};
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinSet};

use super::data_channel::{ChannelError, DataChannel, DataChannelOptions};
use super::data_session::{LONGEST_LIMIT, OpenHandler, Session, Span};
use super::describe::Content;
use super::early::EarlyCandidates;
use super::ice::{IceSettings, ServerKind, server_kind, take_out_unusable};
use super::link::{Link, LinkOptions, MAILBOX};
use super::negotiation::Role;
use super::signal::{ChannelKind, Signal, SignalEnvelope, SignalError, SignalNames, ice_ufrag};
use crate::config::Dialect;
use crate::hub::client::{HubClient, HubStatus, MessageReceiver};
use crate::hub::message::TwinMessage;
use crate::hub::{HubError, Instance};
use crate::telemetry::ledger::{Malformed, SignalRefusal};

/// The longest twin id and channel name, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// Signals of all peers of an acceptor that wait to be sorted.
const ACCEPTOR_MAILBOX: usize = 256;

/// The pause before the own room is asked for again.
const SUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

/// Whom an acceptor takes, and how many at once.
#[derive(Debug, Clone)]
pub struct AcceptOptions {
    /// The channel; its `allow_unsigned` means nothing here, since anybody is taken.
    pub channel: DataChannelOptions,
    /// Peers at once; the offers of more are left unanswered and counted.
    pub max_peers: usize,
    /// A peer that has not opened its channel by then loses its place.
    pub open_limit: Duration,
}

impl Default for AcceptOptions {
    fn default() -> Self {
        Self {
            channel: DataChannelOptions::default(),
            max_peers: 8,
            open_limit: Duration::from_secs(45),
        }
    }
}

impl From<String> for AcceptOptions {
    fn from(name: String) -> Self {
        name.as_str().into()
    }
}

impl From<&str> for AcceptOptions {
    fn from(name: &str) -> Self {
        Self {
            channel: name.into(),
            ..Self::default()
        }
    }
}

/// Awaits one twin's channel for as long as it lives.
#[derive(Debug)]
#[must_use = "dropping it ends the waiting, and closes the channel unless a handler holds it"]
pub struct DataChannelListener {
    channel: DataChannel,
}

/// Accepts channels for as long as it lives.
#[must_use = "dropping it closes the channels of all peers"]
pub struct DataChannelAcceptor {
    shared: Arc<AcceptorCounts>,
    ended: watch::Receiver<()>,
    stop: Option<oneshot::Sender<()>>,
}

/// A subscription for as long as it is looked whether the hub grants one; the link makes its own.
struct Visit {
    hub: HubClient,
    room: String,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let (hub, room) = (self.hub.clone(), std::mem::take(&mut self.room));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { hub.unsubscribe(&room).await });
        }
    }
}

/// What an acceptor counts.
#[derive(Debug, Default)]
struct AcceptorCounts {
    peers: AtomicUsize,
    refused: AtomicU64,
    /// Signals that found the mailbox full.
    overflowed: AtomicU64,
}

impl Instance {
    /// Dials a twin and waits until the channel is open.
    ///
    /// Each call makes a channel of its own; two to one peer differ by their names. The channel connects
    /// again by itself for as long as a handle lives.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use twinsight::realtime::DataChannelOptions;
    /// let options = DataChannelOptions {
    ///     connect_limit: Duration::from_secs(60),
    ///     ..DataChannelOptions::from("control")
    /// };
    /// let channel = client.instance().get_data_channel("robot-1", options).await?;
    /// channel.send("hello").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ChannelError`]; then nothing is tried any more.
    pub async fn get_data_channel(
        &self,
        target: &str,
        options: impl Into<DataChannelOptions>,
    ) -> Result<DataChannel, ChannelError> {
        let options = options.into();
        let limit = options.connect_limit;
        let deadline = tokio::time::Instant::now() + limit.min(LONGEST_LIMIT);
        let name = options.name.clone();
        let in_time = |reason| ChannelError::NotOpened {
            twin_id: shortened(target),
            name: name.clone(),
            limit,
            reason,
        };
        check(target, &options.name, &self.twin_id())?;
        // The hub's word on the twin, before anything is offered to it.
        let hub = self.client().clone();
        let hub_error = |source| ChannelError::Hub {
            twin_id: shortened(target),
            source,
        };
        tokio::time::timeout_at(deadline, hub.joined())
            .await
            .map_err(|_| in_time("the hub is away"))?
            .map_err(hub_error)?;
        let visit = Visit {
            hub: hub.clone(),
            room: target.to_owned(),
        };
        tokio::time::timeout_at(deadline, hub.subscribe(&visit.room))
            .await
            .map_err(|_| in_time("the hub does not answer"))?
            .map_err(hub_error)?;
        let relays = check_relays(&hub, target, self.ice(&options).relay_only);
        if let Ok(Err(error)) = tokio::time::timeout_at(deadline, relays).await {
            return Err(error);
        }
        let (channel, trouble) = self.channel(target, options, Role::Initiator, None)?;
        match tokio::time::timeout_at(deadline, channel.opened()).await {
            Ok(Ok(())) => Ok(channel),
            Ok(Err(_)) => Err(hub_error(HubError::Closed)),
            Err(_) => Err(in_time(*trouble.borrow())),
        }
    }

    /// Dials a twin and returns at once: the channel opens as soon as the twin answers.
    ///
    /// ```no_run
    /// # use twinsight::hub::HubClient;
    /// # fn example(client: HubClient) -> Result<(), twinsight::realtime::ChannelError> {
    /// let channel = client.instance().open_data_channel("robot-1", "telemetry")?;
    /// assert!(channel.is_connecting());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the twin's id or the name cannot be one.
    pub fn open_data_channel(
        &self,
        target: &str,
        options: impl Into<DataChannelOptions>,
    ) -> Result<DataChannel, ChannelError> {
        let options = options.into();
        check(target, &options.name, &self.twin_id())?;
        Ok(self.channel(target, options, Role::Initiator, None)?.0)
    }

    /// Awaits the channel that one twin dials, and hands it over when it is open for the first time (in the
    /// legacy dialect, which says not who dials, anybody's in this twin's room). The twin may come again: the channel stays the same, and so do the handlers that are registered on it.
    ///
    /// ```no_run
    /// # use twinsight::hub::HubClient;
    /// # fn example(client: HubClient) -> Result<(), twinsight::realtime::ChannelError> {
    /// let listener = client.instance().on_data_channel("app-1", "control", |channel| async move {
    ///     let answers = channel.clone();
    ///     channel.on_message(move |message| {
    ///         let answers = answers.clone();
    ///         async move {
    ///             // A channel that is not open drops what is sent.
    ///             let _ = answers.send(message).await;
    ///         }
    ///     });
    /// })?;
    /// # drop(listener);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the twin's id or the name cannot be one.
    pub fn on_data_channel<F, R>(
        &self,
        source: &str,
        options: impl Into<DataChannelOptions>,
        handler: F,
    ) -> Result<DataChannelListener, ChannelError>
    where
        F: FnOnce(DataChannel) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let options = options.into();
        check(source, &options.name, &self.twin_id())?;
        let on_open: OpenHandler = Box::new(move |channel| Box::pin(handler(channel)));
        let (channel, _) = self.channel(source, options, Role::Responder, Some(on_open))?;
        Ok(DataChannelListener { channel })
    }

    /// Accepts the channel of everybody who dials this twin, and hands each over when it is open. A peer
    /// whose connection ends is gone: when it comes back, it is handed over as a new one.
    ///
    /// ```no_run
    /// # use serde_json::json;
    /// # use twinsight::hub::HubClient;
    /// # fn example(client: HubClient) -> Result<(), twinsight::realtime::ChannelError> {
    /// let acceptor = client.instance().accept_data_channels("readings", |channel| async move {
    ///     println!("{} reads along", channel.target_twin_id());
    ///     let _ = channel.send(json!({ "celsius": 21.5 })).await;
    /// })?;
    /// println!("{} peers", acceptor.peers());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the name cannot be one.
    pub fn accept_data_channels<F, R>(
        &self,
        options: impl Into<AcceptOptions>,
        mut handler: F,
    ) -> Result<DataChannelAcceptor, ChannelError>
    where
        F: FnMut(DataChannel) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let options = options.into();
        check_name(&options.channel.name)?;
        self.assert_owned().map_err(|source| ChannelError::Hub {
            twin_id: String::new(),
            source,
        })?;
        let shared = Arc::new(AcceptorCounts::default());
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = watch::channel(());
        let acceptor = Acceptor {
            hub: self.client().clone(),
            own: self.peripheral_id().cloned(),
            subscribed: false,
            ice: self.ice(&options.channel),
            options,
            counts: Arc::clone(&shared),
            peers: HashMap::new(),
            tasks: JoinSet::new(),
            early: EarlyCandidates::default(),
            handler: Arc::new(Mutex::new(Box::new(move |channel| {
                Box::pin(handler(channel))
            }))),
        };
        let disowned = self.disowned();
        tokio::spawn(async move {
            acceptor.run(stopped, disowned).await;
            drop(end);
        });
        Ok(DataChannelAcceptor {
            shared,
            ended,
            stop: Some(stop),
        })
    }

    /// How connections find their way unless the caller said.
    fn ice(&self, options: &DataChannelOptions) -> IceSettings {
        options.ice.clone().unwrap_or_else(|| IceSettings {
            relay_only: self.client().prefers_relay(),
            ..IceSettings::default()
        })
    }

    /// A channel and its task; also why the last attempt failed.
    fn channel(
        &self,
        target: &str,
        options: DataChannelOptions,
        role: Role,
        on_open: Option<OpenHandler>,
    ) -> Result<(DataChannel, watch::Receiver<&'static str>), ChannelError> {
        let target: Arc<str> = target.into();
        let label = label(options.dialect, &options.name, &target);
        self.assert_owned().map_err(|source| ChannelError::Hub {
            twin_id: shortened(&target),
            source,
        })?;
        // None would be no limit to the stack.
        let high_water_bytes = options.high_water_bytes.max(1);
        let link = Link::new(
            self.client().clone(),
            LinkOptions {
                kind: ChannelKind::Data,
                name: options.name.as_str().into(),
                target: Arc::clone(&target),
                // As the official clients: a peripheral answers as itself, and its owner dials for it.
                own: match role {
                    Role::Initiator => None,
                    Role::Responder => self.peripheral_id().cloned(),
                },
                role,
                dialect: options.dialect,
                allow_unsigned: options.allow_unsigned,
                ice: self.ice(&options),
                verbose: options.verbose,
            },
            Arc::default(),
            Box::new(move |_| Content::Messages {
                label: label.clone(),
                high_water_bytes,
            }),
        );
        let (channel, stopped) = DataChannel::new(target, &options);
        let session = Session::new(link, &channel, Span::Handles, on_open);
        let trouble = session.trouble();
        session.spawn(stopped, self.disowned());
        Ok((channel, trouble))
    }
}

impl DataChannelListener {
    /// The channel, open or not.
    pub fn channel(&self) -> &DataChannel {
        &self.channel
    }

    /// Ends the waiting and closes the channel.
    pub async fn close(self) {
        self.channel.close().await;
    }
}

impl DataChannelAcceptor {
    /// Peers that have a place, open or about to be.
    pub fn peers(&self) -> usize {
        self.shared.peers.load(Ordering::Relaxed)
    }

    /// Signals that were not used: offers for which there was no place, candidates too many, what cannot
    /// be read, and what came faster than it was sorted.
    pub fn refused(&self) -> u64 {
        let counts = &self.shared;
        counts.refused.load(Ordering::Relaxed) + counts.overflowed.load(Ordering::Relaxed)
    }

    /// Closes the channels of all peers.
    pub async fn close(mut self) {
        drop(self.stop.take());
        // An error means that it has ended.
        let _ = self.ended.changed().await;
    }
}

impl fmt::Debug for DataChannelAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataChannelAcceptor")
            .field("counts", &self.shared)
            .finish_non_exhaustive()
    }
}

type PeerHandler = Box<dyn FnMut(DataChannel) -> BoxFuture<'static, ()> + Send>;

/// The task of an acceptor: sorts the signals of all peers.
struct Acceptor {
    hub: HubClient,
    /// The peripheral twin that it answers as; none: the own twin.
    own: Option<Arc<str>>,
    /// The room of that peripheral was entered.
    subscribed: bool,
    options: AcceptOptions,
    ice: IceSettings,
    counts: Arc<AcceptorCounts>,
    /// By `peerId`, or by the twin that signed where there is none.
    peers: HashMap<String, Peer>,
    tasks: JoinSet<()>,
    early: EarlyCandidates<TwinMessage>,
    handler: Arc<Mutex<PeerHandler>>,
}

/// A peer that has a place.
struct Peer {
    signals: mpsc::Sender<TwinMessage>,
    ufrag: Option<String>,
    task: Id,
    channel: DataChannel,
}

impl Acceptor {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>, disowned: BoxFuture<'static, ()>) {
        tokio::select! {
            _ = &mut stopped => {}
            () = disowned => {}
            () = self.serve() => {}
        }
        let peers: Vec<Peer> = self.peers.drain().map(|(_, peer)| peer).collect();
        join_all(peers.iter().map(|peer| peer.channel.close())).await;
        self.counts.peers.store(0, Ordering::Relaxed);
        if let Some(own) = self.own.as_ref().filter(|_| self.subscribed) {
            self.hub.unsubscribe(own).await;
        }
    }

    async fn serve(&mut self) {
        let Some(own) = self.own_twin().await else {
            return;
        };
        let names = self.names(&own, &own);
        let filter = names.clone();
        let mut mailbox: MessageReceiver = self.hub.messages(ACCEPTOR_MAILBOX, move |message| {
            filter.parse(&message.data).is_some()
        });
        loop {
            tokio::select! {
                message = mailbox.recv() => match message {
                    Some(message) => self.message(&own, &names, message),
                    None => return,
                },
                Some(ended) = self.tasks.join_next_with_id() => {
                    let id = match ended {
                        Ok((id, ())) => id,
                        Err(error) => error.id(),
                    };
                    self.peers.retain(|_, peer| peer.task != id);
                }
            }
            let counts = &self.counts;
            counts.peers.store(self.peers.len(), Ordering::Relaxed);
            // A full mailbox has a next message, after which this is up to date.
            counts
                .overflowed
                .store(mailbox.dropped(), Ordering::Relaxed);
        }
    }

    /// The twin that is dialled, once its room is listened to.
    async fn own_twin(&mut self) -> Option<String> {
        let mut status = self.hub.status();
        let own = loop {
            if let HubStatus::Joined { twin_id } = &*status.borrow_and_update() {
                break twin_id.clone();
            }
            status.changed().await.ok()?;
        };
        let Some(peripheral) = self.own.clone() else {
            return Some(own);
        };
        while let Err(error) = self.hub.subscribe(&peripheral).await {
            tracing::warn!(twin = %peripheral, %error, "cannot listen to a twin yet");
            if error == HubError::Closed {
                return None;
            }
            self.hub.unsubscribe(&peripheral).await;
            tokio::time::sleep(SUBSCRIBE_PAUSE).await;
        }
        self.subscribed = true;
        Some(peripheral.to_string())
    }

    fn names(&self, own: &str, other: &str) -> SignalNames {
        let channel = &self.options.channel;
        SignalNames::new(
            ChannelKind::Data,
            channel.dialect,
            &channel.name,
            own,
            other,
            own,
        )
    }

    fn message(&mut self, own: &str, names: &SignalNames, message: TwinMessage) {
        let source = &message.source_twin_id;
        let envelope = match names.parse(&message.data) {
            Some(Ok(envelope)) if !source.is_empty() && source.len() <= MAX_NAME_BYTES => envelope,
            Some(Ok(_)) => return self.malformed(Malformed::HubMessage, "it says not who sent it"),
            Some(Err(error)) => {
                let kind = match error {
                    SignalError::Candidate => Malformed::Candidate,
                    SignalError::Description => Malformed::Sdp,
                    SignalError::Kind | SignalError::PeerId => Malformed::HubMessage,
                };
                return self.malformed(kind, &error);
            }
            None => return,
        };
        let message = slim(&message, &envelope);
        let source = &message.source_twin_id;
        let SignalEnvelope { signal, peer_id } = envelope;
        // Tagged, so that no `peerId` can be the key of a twin.
        let key = match peer_id {
            Some(id) => format!("peer {id}"),
            None => format!("twin {source}"),
        };
        match signal {
            // Our own, in a room that those who dial it sign as.
            Signal::Answer { .. } => {}
            Signal::Ice(_) => {
                let now = Instant::now();
                let refused = match self.peers.get(&key) {
                    Some(peer) => peer.signals.try_send(message).is_err(),
                    None => !self.early.keep(now, key, message),
                };
                if refused {
                    self.refused(SignalRefusal::Overflow, "there are too many candidates");
                }
            }
            Signal::Offer { sdp } => self.offer(own, key, ice_ufrag(&sdp), message),
        }
    }

    fn offer(&mut self, own: &str, key: String, ufrag: Option<String>, message: TwinMessage) {
        if let Some(peer) = self.peers.get_mut(&key) {
            if peer.ufrag == ufrag {
                return self.refused(SignalRefusal::Unexpected, "it was sent before");
            }
            if self.options.channel.dialect == Dialect::Legacy {
                // An npm client does not bear the goodbye of what it has replaced: its link knows.
                peer.ufrag = ufrag;
                if peer.signals.try_send(message).is_err() {
                    self.refused(SignalRefusal::Overflow, "there are too many offers");
                }
                return;
            }
            // It began anew: what it had is over.
            if let Some(peer) = self.peers.remove(&key) {
                tokio::spawn(async move { peer.channel.close().await });
            }
        }
        if self.peers.len() >= self.options.max_peers {
            return self.refused(SignalRefusal::Overflow, "all places are taken");
        }
        let (signals, mailbox) = mpsc::channel(MAILBOX);
        let early = self.early.take(Instant::now(), &key);
        let target: Arc<str> = message.source_twin_id.as_str().into();
        for signal in std::iter::once(message).chain(early) {
            // The mailbox is new, and has more places than candidates are kept.
            let _ = signals.try_send(signal);
        }
        let channel_options = &self.options.channel;
        let high_water_bytes = channel_options.high_water_bytes.max(1);
        let link = Link::fed(
            self.hub.clone(),
            LinkOptions {
                kind: ChannelKind::Data,
                name: channel_options.name.as_str().into(),
                target: Arc::clone(&target),
                own: self.own.clone(),
                role: Role::Responder,
                dialect: channel_options.dialect,
                allow_unsigned: true,
                ice: self.ice.clone(),
                verbose: channel_options.verbose,
            },
            own,
            mailbox,
            Box::new(move |_| Content::Messages {
                label: String::new(),
                high_water_bytes,
            }),
        );
        let (channel, stopped) = DataChannel::new(target, channel_options);
        let handler = Arc::clone(&self.handler);
        let on_open: OpenHandler = Box::new(move |channel| {
            let mut handler = handler.lock().unwrap_or_else(PoisonError::into_inner);
            handler(channel)
        });
        let session = Session::new(
            link,
            &channel,
            Span::OneConnection(self.options.open_limit),
            Some(on_open),
        );
        // The acceptor closes it when its twin is lost.
        let running = session.spawn(stopped, Box::pin(std::future::pending()));
        let task = self
            .tasks
            .spawn(async move {
                let _ = running.await;
            })
            .id();
        self.peers.insert(
            key,
            Peer {
                signals,
                ufrag,
                task,
                channel,
            },
        );
    }

    fn refused(&self, reason: SignalRefusal, why: &'static str) {
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
        if let Some(metrics) = self.hub.metrics() {
            metrics.signal_refused(reason);
        }
        if let Some(suppressed) = self.hub.warn_about("refused signals", Instant::now()) {
            tracing::warn!(
                name = self.options.channel.name,
                why,
                suppressed,
                "a signal for a data channel was not used"
            );
        }
    }

    fn malformed(&self, kind: Malformed, why: impl fmt::Display) {
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
        if let Some(metrics) = self.hub.metrics() {
            metrics.malformed_input(kind);
        }
        if let Some(suppressed) = self.hub.warn_about("malformed signals", Instant::now()) {
            tracing::warn!(
                name = self.options.channel.name,
                %why,
                suppressed,
                "a signal for a data channel cannot be read"
            );
        }
    }
}

/// A signal with nothing but what is used of it: what waits is to be no larger than it has to be.
fn slim(message: &TwinMessage, envelope: &SignalEnvelope) -> TwinMessage {
    let content = match &envelope.signal {
        Signal::Offer { sdp } | Signal::Answer { sdp } => json!({ "sdp": sdp }),
        Signal::Ice(candidate) => json!(candidate),
    };
    TwinMessage {
        twin_id: message.twin_id.clone(),
        source_twin_id: message.source_twin_id.clone(),
        source_device_id: String::new(),
        data: json!({
            "type": message.data["type"], "data": content, "peerId": envelope.peer_id,
        }),
    }
}

/// What the initiator calls its channel.
fn label(dialect: Dialect, name: &str, target: &str) -> String {
    match dialect {
        Dialect::Current => format!("dc-{name}-{target}"),
        Dialect::Legacy => format!("channel-{target}"),
    }
}

fn check(twin_id: &str, name: &str, own: &str) -> Result<(), ChannelError> {
    let wrong = |why| {
        Err(ChannelError::Target {
            twin_id: shortened(twin_id),
            why,
        })
    };
    check_name(name)?;
    if twin_id.is_empty() {
        return wrong("the twin's id is empty");
    }
    if twin_id.len() > MAX_NAME_BYTES {
        return wrong("no twin's id is longer than 256 bytes");
    }
    if twin_id == own {
        return wrong("it is this app's own twin");
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), ChannelError> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(ChannelError::Target {
            twin_id: String::new(),
            why: "a channel's name has 1 to 256 bytes",
        });
    }
    Ok(())
}

/// If only relays may be used, there must be one that the stack can use.
async fn check_relays(hub: &HubClient, target: &str, relay_only: bool) -> Result<(), ChannelError> {
    if !relay_only {
        return Ok(());
    }
    let mut servers = hub.ice_servers().await;
    let refused = take_out_unusable(&mut servers);
    let usable = servers
        .iter()
        .flat_map(|server| &server.urls)
        .any(|url| server_kind(url) == ServerKind::TurnUdp);
    if usable {
        return Ok(());
    }
    Err(ChannelError::NoRelay {
        twin_id: shortened(target),
        refused,
    })
}

/// A twin's id as it stands in a sentence.
fn shortened(twin_id: &str) -> String {
    twin_id.chars().take(64).collect()
}
