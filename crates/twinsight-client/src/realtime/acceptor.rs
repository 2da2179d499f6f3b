//! The task of an acceptor: the signals of all who dial one twin come in, each peer's go to a link of its own.
//! Started by [`Instance::accept_data_channels`](crate::hub::Instance) and its sister for media.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, join_all};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinHandle, JoinSet};

use super::link::{ContentOf, Link, LinkOptions, MAILBOX};
use super::names::MAX_NAME_BYTES;
use super::pending_candidates::PendingCandidates;
use super::signal::{ChannelKind, Signal, SignalEnvelope, SignalError, SignalNames};
use super::warnings::allowed;
use crate::dialect::Dialect;
use crate::hub::HubError;
use crate::hub::message::TwinMessage;
use crate::hub::{HubClient, HubStatus, MessageReceiver};
use crate::telemetry::{Malformed, SignalRefusal};

/// Signals of all peers of an acceptor that wait to be sorted.
const ACCEPTOR_MAILBOX: usize = 256;

/// The pause before the own room is asked for again.
const SUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

/// What an acceptor counts.
#[derive(Debug, Default)]
pub(crate) struct AcceptorCounts {
    pub(crate) peers: AtomicUsize,
    pub(crate) refused: AtomicU64,
    /// Signals that found the mailbox full.
    pub(crate) overflowed: AtomicU64,
}

/// A peer's place: what its link is made of.
pub(crate) struct Place {
    hub: HubClient,
    own: String,
    options: LinkOptions,
    signals: mpsc::Receiver<TwinMessage>,
}

impl Place {
    /// The twin that dials, as its offer says.
    pub(crate) fn target(&self) -> Arc<str> {
        Arc::clone(&self.options.target)
    }

    /// The link with it. `current_attempt` is kept at the number of the attempt that counts.
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

/// What serves a peer.
pub(crate) struct PeerService {
    /// Its task; the place is free when it ends.
    pub(crate) running: JoinHandle<()>,
    /// Ends it, and waits for that.
    pub(crate) close: Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>,
}

/// Begins to serve a peer.
pub(crate) type Serve = Box<dyn FnMut(Place) -> PeerService + Send>;

/// The task of an acceptor: sorts the signals of all peers.
pub(crate) struct Acceptor {
    hub: HubClient,
    /// The room of the peripheral that it answers as was entered.
    subscribed: bool,
    /// Of each peer's link, but for its target.
    options: LinkOptions,
    max_peers: usize,
    counts: Arc<AcceptorCounts>,
    /// By `peerId`, or by the twin that signed where there is none.
    peers: HashMap<String, Peer>,
    tasks: JoinSet<()>,
    /// Ends of connections that were replaced: as many as there may be peers.
    closing: JoinSet<()>,
    early: PendingCandidates<TwinMessage>,
    serve: Serve,
}

/// A peer that has a place.
struct Peer {
    signals: mpsc::Sender<TwinMessage>,
    ufrag: String,
    task: Id,
    close: Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>,
}

impl Acceptor {
    /// A task without peers. `options` are those of each peer's link, but for its target.
    pub(crate) fn new(
        hub: HubClient,
        options: LinkOptions,
        max_peers: usize,
        counts: Arc<AcceptorCounts>,
        serve: Serve,
    ) -> Self {
        Self {
            hub,
            subscribed: false,
            options,
            max_peers,
            counts,
            peers: HashMap::new(),
            tasks: JoinSet::new(),
            closing: JoinSet::new(),
            early: PendingCandidates::default(),
            serve,
        }
    }

    /// Until it is stopped, or its twin is taken over.
    pub(crate) async fn run(
        mut self,
        mut stopped: oneshot::Receiver<()>,
        ownership_lost: BoxFuture<'static, ()>,
    ) {
        tokio::select! {
            _ = &mut stopped => {}
            () = ownership_lost => {}
            () = self.serve() => {}
        }
        join_all(self.peers.drain().map(|(_, peer)| (peer.close)())).await;
        self.closing.detach_all();
        self.counts.peers.store(0, Ordering::Relaxed);
        if let Some(own) = self.options.own.as_ref().filter(|_| self.subscribed) {
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
            filter.matches(&message.data)
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
            counts.overflowed.store(mailbox.missed(), Ordering::Relaxed);
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
                let kind = match error {
                    SignalError::Candidate => Malformed::Candidate,
                    SignalError::Description | SignalError::Sdp(_) => Malformed::Sdp,
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
            Signal::Offer { sdp } => self.offer(own, key, sdp.ice_ufrag().to_owned(), message),
        }
    }

    fn offer(&mut self, own: &str, key: String, ufrag: String, message: TwinMessage) {
        if let Some(peer) = self.peers.get_mut(&key) {
            if peer.ufrag == ufrag {
                return self.refused(SignalRefusal::Unexpected, "it was sent before");
            }
            if self.options.dialect == Dialect::Legacy && self.options.kind == ChannelKind::Data {
                // An npm client does not bear the goodbye of what it has replaced: its link knows.
                peer.ufrag = ufrag;
                if peer.signals.try_send(message).is_err() {
                    self.refused(SignalRefusal::Overflow, "there are too many offers");
                }
                return;
            }
            // A peer that begins anew faster than its connections close would pile them up.
            while self.closing.try_join_next().is_some() {}
            if self.closing.len() >= self.max_peers {
                return self.refused(SignalRefusal::Overflow, "it begins anew too often");
            }
            // It began anew: what it had is over.
            if let Some(peer) = self.peers.remove(&key) {
                self.closing.spawn((peer.close)());
            }
        }
        if self.peers.len() >= self.max_peers {
            return self.refused(SignalRefusal::Overflow, "all places are taken");
        }
        let (signals, mailbox) = mpsc::channel(MAILBOX);
        let early = self.early.take(Instant::now(), &key);
        let target: Arc<str> = message.source_twin_id.as_str().into();
        for signal in std::iter::once(message).chain(early) {
            // The mailbox is new, and has more places than candidates are kept.
            let _ = signals.try_send(signal);
        }
        let PeerService { running, close } = (self.serve)(Place {
            hub: self.hub.clone(),
            own: own.to_owned(),
            options: LinkOptions {
                target,
                ..self.options.clone()
            },
            signals: mailbox,
        });
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
                close,
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

/// A signal with nothing but what is used of it: what waits is to be no larger than it has to be.
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
