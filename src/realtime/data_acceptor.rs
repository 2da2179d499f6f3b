//! The task of an acceptor of data channels: the signals of all who dial one twin come in, each peer's go to a
//! channel of its own. Started by [`Instance::accept_data_channels`](crate::hub::Instance).

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, join_all};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinSet};

use super::data_channel::DataChannel;
use super::data_listener::{AcceptOptions, MAX_NAME_BYTES};
use super::data_session::{OpenHandler, Session, Span};
use super::describe::Content;
use super::early::EarlyCandidates;
use super::ice::IceSettings;
use super::link::{Link, LinkOptions, MAILBOX};
use super::negotiation::Role;
use super::signal::{ChannelKind, Signal, SignalEnvelope, SignalError, SignalNames, ice_ufrag};
use crate::config::Dialect;
use crate::hub::HubError;
use crate::hub::client::{HubClient, HubStatus, MessageReceiver};
use crate::hub::message::TwinMessage;
use crate::telemetry::ledger::{Malformed, SignalRefusal};

/// Signals of all peers of an acceptor that wait to be sorted.
const ACCEPTOR_MAILBOX: usize = 256;

/// The pause before the own room is asked for again.
const SUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

/// What an acceptor counts.
#[derive(Debug, Default)]
pub(super) struct AcceptorCounts {
    pub(super) peers: AtomicUsize,
    pub(super) refused: AtomicU64,
    /// Signals that found the mailbox full.
    pub(super) overflowed: AtomicU64,
}

pub(super) type PeerHandler = Box<dyn FnMut(DataChannel) -> BoxFuture<'static, ()> + Send>;

/// The task of an acceptor: sorts the signals of all peers.
pub(super) struct Acceptor {
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
    /// A task without peers.
    pub(super) fn new(
        hub: HubClient,
        own: Option<Arc<str>>,
        options: AcceptOptions,
        ice: IceSettings,
        counts: Arc<AcceptorCounts>,
        handler: PeerHandler,
    ) -> Self {
        Self {
            hub,
            own,
            subscribed: false,
            ice,
            options,
            counts,
            peers: HashMap::new(),
            tasks: JoinSet::new(),
            early: EarlyCandidates::default(),
            handler: Arc::new(Mutex::new(handler)),
        }
    }

    /// Until it is stopped, or its twin is taken over.
    pub(super) async fn run(
        mut self,
        mut stopped: oneshot::Receiver<()>,
        disowned: BoxFuture<'static, ()>,
    ) {
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
