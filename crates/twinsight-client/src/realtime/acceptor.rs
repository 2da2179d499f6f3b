//! Accepts whoever dials. The signals of all peers that dial one twin come in, and the signals of each peer go out to a link of
//! its own, over which one channel or stream is served. An [`Acceptor`] owns the task that sorts them;
//! [`Instance::accept_data_channels`] and [`Instance::accept_media_streams`] start it.
//!
//! What must stay true:
//! - Peers make up their ids, so everything that is kept for a peer is bounded: peers, connections that are being closed,
//!   candidates that come before an offer, and signals that wait.
//! - A peer keeps its slot until its task has ended or a newer connection of its own takes it; one `peerId` (or twin, where
//!   there is none) has one slot at most.
//! - An offer that was sent before is refused by its ICE generation; a new generation replaces the peer's connection.
//! - When the acceptor stops, the tasks of all peers end before [`Acceptor::close`] returns.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::description_task::ContentOf;
use super::link::{Link, malformed};
use super::link_mailbox::MAILBOX;
use super::link_options::LinkOptions;
use super::names::MAX_NAME_BYTES;
use super::pending_candidates::PendingCandidates;
use super::signal::{ChannelKind, Signal, SignalEnvelope, SignalNames};
use super::warnings::allowed;
use crate::dialect::Dialect;
use crate::hub::message::TwinMessage;
use crate::hub::{HubClient, HubError, HubStatus, Instance, MessageReceiver};
use crate::telemetry::{Malformed, SignalRefusal};

/// At most this many signals of all peers wait to be sorted.
const ACCEPTOR_MAILBOX: usize = 256;

/// The pause before the hub is asked again for the room of a peripheral.
const SUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

/// Accepts the channels or streams of everybody who dials, for as long as it lives.
#[derive(Debug)]
#[must_use = "dropping it closes the channels or streams of all peers"]
pub struct Acceptor {
    counts: Arc<AcceptorCounts>,
    listening: watch::Receiver<bool>,
    stop: DropGuard,
    task: JoinHandle<()>,
}

/// The counters of an acceptor.
#[derive(Debug, Default)]
struct AcceptorCounts {
    peers: AtomicUsize,
    refused: AtomicU64,
    /// How many signals found the mailbox full.
    overflowed: AtomicU64,
}

/// A peer's place in an acceptor: what its link is made of.
pub(crate) struct PeerSlot {
    hub: HubClient,
    own: String,
    options: LinkOptions,
    signals: mpsc::Receiver<TwinMessage>,
    /// It is cancelled when the peer is to be served no more: by the acceptor, or when the channel or stream is closed.
    pub(crate) stop: CancellationToken,
}

/// Serves a peer until its slot's token is cancelled or its connection is over. The slot is free when the future ends.
pub(crate) type Serve = Box<dyn FnMut(PeerSlot) -> BoxFuture<'static, ()> + Send>;

/// Sorts the signals of all peers.
struct AcceptorTask {
    hub: HubClient,
    /// True once the room of the peripheral was entered that the acceptor answers as.
    subscribed: bool,
    /// The options of each peer's link, except for its target.
    options: LinkOptions,
    max_peers: usize,
    counts: Arc<AcceptorCounts>,
    listening: watch::Sender<bool>,
    /// The peers by their `peerId`, or by the twin that signed the offer where there is none.
    peers: HashMap<String, Peer>,
    /// A task for each peer, and one for each connection that was replaced and is not closed yet.
    tasks: JoinSet<()>,
    pending: PendingCandidates<TwinMessage>,
    serve: Serve,
    /// The parent of the peers' tokens.
    stop: CancellationToken,
}

/// What an acceptor knows of a peer that has a slot.
struct Peer {
    signals: mpsc::Sender<TwinMessage>,
    ufrag: String,
    task: Id,
    stop: CancellationToken,
}

impl Acceptor {
    /// Starts to answer as a twin. `options` are those of each peer's link, except for its target.
    pub(crate) fn start(
        instance: &Instance,
        options: LinkOptions,
        max_peers: usize,
        serve: Serve,
    ) -> Self {
        let counts = Arc::<AcceptorCounts>::default();
        let stop = CancellationToken::new();
        let (is_listening, listening) = watch::channel(false);
        let task = AcceptorTask {
            hub: instance.client().clone(),
            subscribed: false,
            options,
            max_peers,
            counts: Arc::clone(&counts),
            listening: is_listening,
            peers: HashMap::new(),
            tasks: JoinSet::new(),
            pending: PendingCandidates::default(),
            serve,
            stop: stop.clone(),
        };
        Self {
            counts,
            listening,
            stop: stop.drop_guard(),
            task: tokio::spawn(task.run(instance.ownership_lost())),
        }
    }

    /// How many peers have a place: they are connected or about to be.
    ///
    /// ```no_run
    /// # async fn example(acceptor: twinsight_client::realtime::DataChannelAcceptor) -> Result<(), Box<dyn std::error::Error>> {
    /// println!("{} peers, {} signals refused", acceptor.peers(), acceptor.refused());
    /// # Ok(())
    /// # }
    /// ```
    pub fn peers(&self) -> usize {
        self.counts.peers.load(Ordering::Relaxed)
    }

    /// How many signals were not used: offers for which there was no place, candidates beyond the limit, signals that cannot be
    /// read, and signals that came faster than they were sorted.
    pub fn refused(&self) -> u64 {
        let counts = &self.counts;
        counts.refused.load(Ordering::Relaxed) + counts.overflowed.load(Ordering::Relaxed)
    }

    /// Waits until the twin can be dialled: the hub is joined, and offers come in. It never returns if that does not come about.
    ///
    /// ```no_run
    /// # async fn example(acceptor: twinsight_client::realtime::DataChannelAcceptor) {
    /// acceptor.listening().await;
    /// println!("dial me");
    /// # }
    /// ```
    pub async fn listening(&self) {
        let mut listening = self.listening.clone();
        if listening.wait_for(|listening| *listening).await.is_err() {
            std::future::pending().await
        }
    }

    /// Closes the channels or streams of all peers, and returns when that is done.
    ///
    /// ```no_run
    /// # async fn example(acceptor: twinsight_client::realtime::DataChannelAcceptor) -> Result<(), Box<dyn std::error::Error>> {
    /// acceptor.close().await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn close(self) {
        drop(self.stop);
        // An error would mean that the task panicked: it has ended then, too.
        let _ = self.task.await;
    }
}

impl PeerSlot {
    /// The twin that dials, as its offer says.
    pub(crate) fn target(&self) -> Arc<str> {
        Arc::clone(&self.options.target)
    }

    /// The link with the peer. It stores the number of its current attempt in `current_attempt`.
    pub(crate) fn link(self, current_attempt: Arc<AtomicU32>, content: ContentOf) -> Link {
        Link::fed(
            self.hub,
            self.options,
            &self.own,
            self.signals,
            current_attempt,
            content,
        )
    }
}

impl AcceptorTask {
    /// Runs until the acceptor is stopped, or another app takes its twin over.
    async fn run(mut self, ownership_lost: BoxFuture<'static, ()>) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = ownership_lost => {}
            () = self.sort_signals() => {}
        }
        stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.counts.peers.store(0, Ordering::Relaxed);
        if let Some(own) = self.options.own.as_ref().filter(|_| self.subscribed) {
            self.hub.unsubscribe(own).await;
        }
    }

    async fn sort_signals(&mut self) {
        let Some(own) = self.own_twin().await else {
            return;
        };
        let names = self.names(&own, &own);
        let filter = names.clone();
        let mut mailbox: MessageReceiver = self.hub.messages(ACCEPTOR_MAILBOX, move |message| {
            filter.matches(&message.data)
        });
        self.listening.send_replace(true);
        loop {
            tokio::select! {
                message = mailbox.recv() => match message {
                    Some(message) => self.message(&own, &names, message),
                    None => return,
                },
                Some(ended) = self.tasks.join_next_with_id() => self.task_ended(ended),
            }
            let counts = &self.counts;
            counts.peers.store(self.peers.len(), Ordering::Relaxed);
            // A full mailbox has a next message, after which this is up to date.
            counts.overflowed.store(mailbox.missed(), Ordering::Relaxed);
        }
    }

    /// Waits until signals to the twin that is dialled come in, and gives its id.
    async fn own_twin(&mut self) -> Option<String> {
        let mut status = self.hub.status();
        let own = loop {
            if let HubStatus::Joined { twin_id } = &*status.borrow_and_update() {
                break twin_id.clone();
            }
            status.changed().await.ok()?;
        };
        let Some(peripheral) = self.options.own.clone() else {
            return Some(own);
        };
        while let Err(error) = self.hub.subscribe(&peripheral).await {
            if let Some(suppressed) = allowed("cannot listen to a twin") {
                tracing::warn!(twin = %peripheral, %error, suppressed, "cannot listen to a twin yet");
            }
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
        let options = &self.options;
        SignalNames::new(
            options.kind,
            options.dialect,
            &options.name,
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
                return self.malformed(malformed(&error), &error);
            }
            None => return,
        };
        let message = slim(&message, &envelope);
        let source = &message.source_twin_id;
        let SignalEnvelope { signal, peer_id } = envelope;
        // The word in front keeps a `peerId` from being the key of a twin.
        let key = match peer_id {
            Some(id) => format!("peer {id}"),
            None => format!("twin {source}"),
        };
        match signal {
            // It is our own answer, seen in a room that the peers sign as.
            Signal::Answer { .. } => {}
            Signal::Ice(_) => {
                let now = Instant::now();
                let refused = match self.peers.get(&key) {
                    Some(peer) => peer.signals.try_send(message).is_err(),
                    None => !self.pending.keep(now, key, message),
                };
                if refused {
                    self.refused(SignalRefusal::Overflow, "there are too many candidates");
                }
            }
            Signal::Offer { sdp } => self.offer(own, key, sdp.ice_ufrag().to_owned(), message),
        }
    }

    fn offer(&mut self, own: &str, key: String, ufrag: String, message: TwinMessage) {
        if let Some(peer) = self.peers.get_mut(&key) {
            if peer.ufrag == ufrag {
                return self.refused(SignalRefusal::Unexpected, "it was sent before");
            }
            if self.options.dialect == Dialect::Legacy && self.options.kind == ChannelKind::Data {
                // The peer's link replaces the connection, because it knows when it may close that of an npm client; see
                // `Link::close_peer`.
                peer.ufrag = ufrag;
                if peer.signals.try_send(message).is_err() {
                    self.refused(SignalRefusal::Overflow, "there are too many offers");
                }
                return;
            }
            // A peer that begins anew faster than its connections close must not pile them up.
            while let Some(ended) = self.tasks.try_join_next_with_id() {
                self.task_ended(ended);
            }
            if self.tasks.len() - self.peers.len() >= self.max_peers {
                return self.refused(SignalRefusal::Overflow, "it begins anew too often");
            }
            // The peer has begun anew, so its connection so far is closed.
            if let Some(peer) = self.peers.remove(&key) {
                peer.stop.cancel();
            }
        }
        if self.peers.len() >= self.max_peers {
            return self.refused(SignalRefusal::Overflow, "all places are taken");
        }
        let (signals, mailbox) = mpsc::channel(MAILBOX);
        let pending = self.pending.take(Instant::now(), &key);
        let target: Arc<str> = message.source_twin_id.as_str().into();
        for signal in std::iter::once(message).chain(pending) {
            // There is room: the mailbox is new, and larger than the number of candidates that are kept.
            let _ = signals.try_send(signal);
        }
        let stop = self.stop.child_token();
        let serving = (self.serve)(PeerSlot {
            hub: self.hub.clone(),
            own: own.to_owned(),
            options: LinkOptions {
                target,
                ..self.options.clone()
            },
            signals: mailbox,
            stop: stop.clone(),
        });
        let peer = Peer {
            signals,
            ufrag,
            task: self.tasks.spawn(serving).id(),
            stop,
        };
        self.peers.insert(key, peer);
    }

    /// A task that serves a peer has ended: the peer's slot is free.
    fn task_ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => error.id(),
        };
        self.peers.retain(|_, peer| peer.task != id);
    }

    fn refused(&self, reason: SignalRefusal, why: &'static str) {
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
        if let Some(metrics) = self.hub.metrics() {
            metrics.signal_refused(reason);
        }
        if let Some(suppressed) = self.hub.warn_about("refused signals", Instant::now()) {
            tracing::warn!(
                kind = self.options.kind.as_str(),
                name = %self.options.name,
                why,
                suppressed,
                "a signal of a peer that dials was not used"
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
                kind = self.options.kind.as_str(),
                name = %self.options.name,
                %why,
                suppressed,
                "a signal of a peer that dials cannot be read"
            );
        }
    }
}

/// A signal with only the fields that are read later, so that signals that wait are no larger than necessary.
fn slim(message: &TwinMessage, envelope: &SignalEnvelope) -> TwinMessage {
    let content = match &envelope.signal {
        Signal::Offer { sdp } | Signal::Answer { sdp } => json!({ "sdp": sdp.as_str() }),
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
