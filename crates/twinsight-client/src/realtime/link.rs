//! The connection with one peer, kept and made anew for as long as it is wanted. The peer's signals come in from the hub;
//! our signals and [`LinkEvent`]s go out. The task of a channel or stream runs it (`link_task`): it hands what
//! [`Link::wait`] returns to [`Link::take`], and then calls [`Link::poll`] until that returns nothing.
//!
//! What must stay true:
//! - Only [`Link::wait`] is cancel-safe. When the task is stopped, `link_task::drive` drops `take` and `poll` at whatever
//!   `await` they have reached; after that the link may only be closed.
//! - [`Link::close`] must be called: there is no `Drop`, so a link that is only dropped stays subscribed to the rooms.
//! - The task waits for the hub to let it into rooms (once, 3 s at most), for a connection to close (`CLOSE_LIMIT` at most),
//!   and for the WebRTC stack to take an answer or a candidate or to name a path; nothing else holds it up.
//!   Descriptions are made and signals are sent on tasks of their own.
//! - One description at a time is in the making; a newer one ends the older.
//! - `current_attempt` is stored before the content of an attempt is made, and is 0 from [`Output::Close`] on: packets and
//!   signals of any other attempt are then ignored.

mod peer_connection;
mod signals;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use tokio::sync::{Notify, mpsc, watch};

use self::peer_connection::{Connection, next_event, say_goodbye};
pub(super) use self::signals::malformed;
use super::attempt::{Attempt, EndReason, Progress, Role};
use super::channel::PeerChannel;
use super::connect::guarded;
use super::connection_history::ConnectionHistory;
use super::deadline::sleep_until;
use super::description_task::{ContentOf, DescriptionResult, DescriptionTask};
use super::link_mailbox::Mailbox;
use super::link_options::{Lifetime, LinkOptions};
use super::negotiation::{Input, Negotiation, Output};
use super::peer::{Peer, PeerError, PeerEvent};
use super::rtp_track::TrackSender;
use super::signal::SignalNames;
use super::signal_outbox::{Outgoing, SignalOutbox};
use crate::dialect::Dialect;
use crate::hub::connection_events::{ConnectionChange, ConnectionEvent, ConnectionType};
use crate::hub::message::TwinMessage;
use crate::hub::{HubClient, HubStatus};
use crate::rate_limit::{RATE_LIMIT, RateLimit};
use crate::telemetry::{Malformed, SignalRefusal};

/// What a link reports to its owner.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// The hub was joined, or went away.
    Hub { joined: bool },
    /// An attempt has begun, is connected or is over.
    Progress(Progress),
    /// The data channel of an attempt; it may not be open yet.
    Channel(Attempt, PeerChannel),
    /// The senders of an attempt's tracks, in the order of its content; none for a track that the peer does not accept.
    Senders(Attempt, Vec<Option<TrackSender>>),
    /// The path of a connection for media, or of a responder's, is lost for now; ICE looks for another.
    Disconnected,
}

/// What woke a link.
pub(crate) enum Wake {
    /// The hub's status changed.
    Hub,
    /// The hub client is gone, so the link is of no use any more.
    Gone,
    Message(Option<TwinMessage>),
    Peer(Option<PeerEvent>),
    Described(DescriptionResult),
    /// The peer has just begun to listen.
    PeerListens,
    Timer,
}

/// The connection with one peer; see the head of this file for what its owner must keep to.
pub(crate) struct Link {
    hub: HubClient,
    status: watch::Receiver<HubStatus>,
    options: LinkOptions,
    content: ContentOf,
    negotiation: Negotiation,
    mailbox: Mailbox,
    own_twin: String,
    /// The names of the signals; none until the own twin is known.
    names: Option<SignalNames>,
    /// The names with which the last offer is answered: the answer goes to the twin that signed it.
    reply: Option<SignalNames>,
    /// True once the hub was asked for the rooms, which `close` then leaves.
    subscribed: bool,
    descriptions: DescriptionTask,
    /// The task that sends signals; it is started with the first one.
    outbox: Option<SignalOutbox>,
    connection: Option<Connection>,
    /// The connection of an attempt that is over. It is closed as soon as the reason is known.
    closing_peer: Option<Arc<Peer>>,
    /// Connections that were replaced and are left open; see `Link::close_peer`.
    replaced_peers: VecDeque<Arc<Peer>>,
    /// The number of the current attempt, or 0; sinks and the outbox ignore what belongs to any other.
    current_attempt: Arc<AtomicU32>,
    events: VecDeque<LinkEvent>,
    warn: RateLimit<&'static str>,
    history: ConnectionHistory,
    /// It is notified when the peer begins to listen, by whoever knows that.
    peer_listens: Arc<Notify>,
}

impl Link {
    /// A link that takes its signals out of the hub's rooms. It stores the number of its current attempt in
    /// `current_attempt`.
    pub(crate) fn new(
        hub: HubClient,
        options: LinkOptions,
        current_attempt: Arc<AtomicU32>,
        content: ContentOf,
    ) -> Self {
        let mut status = hub.status();
        // The status of now counts as a change, so that the first `wait` reports it.
        status.mark_changed();
        Self {
            negotiation: negotiation(&options),
            hub,
            status,
            options,
            content,
            mailbox: Mailbox::Unopened,
            own_twin: String::new(),
            names: None,
            reply: None,
            subscribed: false,
            descriptions: DescriptionTask::new(),
            outbox: None,
            connection: None,
            closing_peer: None,
            replaced_peers: VecDeque::new(),
            current_attempt,
            events: VecDeque::new(),
            warn: RateLimit::new(RATE_LIMIT),
            history: ConnectionHistory::default(),
            peer_listens: Arc::default(),
        }
    }

    /// Makes an offer anew that was lost, whenever this is notified.
    #[must_use]
    pub(crate) fn told_when_peer_listens(mut self, peer_listens: Arc<Notify>) -> Self {
        self.peer_listens = peer_listens;
        self
    }

    /// A link whose signals an acceptor sorts. It answers as `own_twin`.
    pub(crate) fn fed(
        hub: HubClient,
        options: LinkOptions,
        own_twin: &str,
        signals: mpsc::Receiver<TwinMessage>,
        current_attempt: Arc<AtomicU32>,
        content: ContentOf,
    ) -> Self {
        let mut link = Self::new(hub, options, current_attempt, content);
        link.own_twin = own_twin.to_owned();
        link.names = Some(link.names_to(own_twin, &link.options.target));
        link.mailbox = Mailbox::Fed(signals);
        link
    }

    /// Waits for something to happen. Cancel-safe: nothing is lost when the future is dropped.
    pub(crate) async fn wait(&mut self) -> Wake {
        let deadline = self.negotiation.deadline();
        tokio::select! {
            changed = self.status.changed() => if changed.is_ok() { Wake::Hub } else { Wake::Gone },
            message = self.mailbox.receive() => Wake::Message(message),
            event = next_event(self.connection.as_mut()) => Wake::Peer(event),
            result = self.descriptions.next() => Wake::Described(result),
            () = self.peer_listens.notified() => Wake::PeerListens,
            () = sleep_until(deadline) => Wake::Timer,
        }
    }

    /// Handles what [`wait`](Self::wait) returned; false when the link is of no use any more. Not cancel-safe.
    pub(crate) async fn take(&mut self, wake: Wake) -> bool {
        match wake {
            Wake::Gone => return false,
            Wake::Hub => self.hub_changed().await,
            Wake::Message(Some(message)) => self.message(&message),
            Wake::Message(None) => self.mailbox = Mailbox::Closed,
            Wake::Peer(event) => self.peer_event(event),
            Wake::Described(result) => self.described(result).await,
            Wake::PeerListens => self.negotiation.handle(Instant::now(), Input::PeerListens),
            Wake::Timer => self.negotiation.handle_timeout(Instant::now()),
        }
        true
    }

    /// Carries out what the negotiation wants until there is an event for the owner, or nothing left to do. Not cancel-safe.
    pub(crate) async fn poll(&mut self) -> Option<LinkEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let output = self.negotiation.poll()?;
            self.execute(output).await;
        }
    }

    /// Gives the current attempt up, because what runs over its connection is dead although the connection looks alive.
    pub(crate) fn restart(&mut self, reason: EndReason) {
        self.negotiation
            .handle(Instant::now(), Input::Restart(reason));
    }

    pub(crate) fn role(&self) -> Role {
        self.options.role
    }

    pub(crate) fn lifetime(&self) -> Lifetime {
        self.options.lifetime
    }

    /// True when the link is still wanted after a connection has ended for this reason.
    pub(crate) fn outlives(&self, reason: EndReason) -> bool {
        self.options.lifetime == Lifetime::UntilStopped || reason == EndReason::Replaced
    }

    /// True while the connection is up.
    pub(crate) fn is_connected(&self) -> bool {
        self.negotiation.is_connected()
    }

    /// The connection of the current attempt.
    pub(crate) fn peer(&self) -> Option<&Arc<Peer>> {
        self.connection.as_ref().map(|connection| &connection.peer)
    }

    /// The connection of the current attempt, and the attempt's number.
    pub(crate) fn connection(&self) -> Option<(Attempt, &Arc<Peer>)> {
        let connection = self.connection.as_ref()?;
        Some((connection.attempt, &connection.peer))
    }

    /// The `peerId` of the signals: an initiator's own, or that of the last offer.
    pub(crate) fn peer_id(&self) -> Option<&str> {
        self.negotiation.peer_id()
    }

    /// Leaves the rooms and closes all connections. Every link must be closed, or its subscriptions remain.
    pub(crate) async fn close(&mut self) {
        self.current_attempt.store(0, Ordering::Release);
        self.descriptions.abort();
        if self.subscribed {
            self.hub.unsubscribe(&self.options.target).await;
            if let Some(own) = &self.options.own {
                self.hub.unsubscribe(own).await;
            }
        }
        self.mailbox = Mailbox::Closed;
        let current = self.connection.take().map(|connection| connection.peer);
        let peers = current.into_iter().chain(self.closing_peer.take());
        let closing = peers
            .chain(self.replaced_peers.drain(..))
            .map(|peer| async move { say_goodbye(&peer).await });
        join_all(closing).await;
        if let Some(change) = self.history.closed() {
            self.report(change);
        }
    }

    async fn hub_changed(&mut self) {
        let status = self.status.borrow_and_update().clone();
        let now = Instant::now();
        if let HubStatus::Joined { twin_id } = &status {
            if matches!(self.mailbox, Mailbox::Unopened) {
                let own = match &self.options.own {
                    Some(own) => own.to_string(),
                    None => twin_id.clone(),
                };
                self.open_mailbox(&own).await;
                // The ICE servers are then in the cache by the time that an attempt needs them.
                let hub = self.hub.clone();
                tokio::spawn(async move { hub.ice_servers().await });
            }
            self.events.push_back(LinkEvent::Hub { joined: true });
            self.negotiation.handle(now, Input::HubJoined);
        } else {
            self.events.push_back(LinkEvent::Hub { joined: false });
            self.negotiation.handle(now, Input::HubAway);
        }
    }

    async fn execute(&mut self, output: Output) {
        match output {
            Output::Offer(attempt) => self.describe(attempt, None),
            Output::Answer(attempt, offer) => self.describe(attempt, Some(offer)),
            Output::OfferAgain(attempt) => {
                if let Some(peer) = self.peer_of(attempt) {
                    self.descriptions.offer_again(attempt, peer);
                }
            }
            Output::AcceptAnswer(attempt, sdp) => {
                let Some(peer) = self.peer_of(attempt) else {
                    return;
                };
                let accepting = Arc::clone(&peer);
                let accepted = guarded(async move { accepting.accept_answer(&sdp).await }).await;
                self.count_candidates(&peer);
                if let Err(error) = accepted {
                    let reason = self.reason_of(&error);
                    if let Some(suppressed) = self.may_say("the peer's answer was not taken") {
                        tracing::warn!(%error, suppressed, "the peer's answer was not taken");
                    }
                    self.negotiation
                        .handle(Instant::now(), Input::Ended(attempt, reason));
                }
            }
            Output::AddCandidate(attempt, candidate) => {
                let Some(peer) = self.peer_of(attempt) else {
                    return;
                };
                if let Err(error) =
                    guarded(async move { peer.add_candidate(candidate).await }).await
                {
                    if matches!(error, PeerError::TooManyCandidates) {
                        self.refused(SignalRefusal::Overflow);
                    } else {
                        self.malformed(Malformed::Candidate, &error);
                    }
                }
            }
            Output::Close(attempt) => {
                self.current_attempt.store(0, Ordering::Release);
                if let Some(connection) = self
                    .connection
                    .take_if(|connection| connection.attempt == attempt)
                {
                    self.closing_peer = Some(connection.peer);
                }
            }
            Output::Send(signal, peer_id) => {
                let Some(names) = self.reply.as_ref().or(self.names.as_ref()) else {
                    return;
                };
                let outgoing = Outgoing {
                    attempt: self.current_attempt.load(Ordering::Acquire),
                    own: self.own_twin.clone(),
                    room: names.room().to_owned(),
                    data: names.encode(&signal, peer_id.as_deref()),
                };
                self.send(outgoing);
            }
            Output::Progress(progress) => {
                if let Progress::Over(_, reason) = progress {
                    self.close_peer(reason).await;
                }
                self.report_progress(progress).await;
                self.events.push_back(LinkEvent::Progress(progress));
            }
            Output::Refused(reason) => self.refused(reason),
        }
    }

    /// Reports what progress means to apps as events of the hub client.
    async fn report_progress(&mut self, progress: Progress) {
        let connection_type = match progress {
            Progress::Connected(attempt) => self.path_of(attempt).await,
            Progress::Attempting(_) | Progress::Over(..) => None,
        };
        if let Some(change) = self.history.progress(progress, connection_type) {
            self.report(change);
        }
    }

    /// The kind of path that a connection uses, which has just come up.
    async fn path_of(&self, attempt: Attempt) -> Option<ConnectionType> {
        let pair = self.peer_of(attempt)?.selected_pair().await?;
        if self.options.verbose {
            tracing::info!(
                target_twin = %self.options.target,
                name = %self.options.name,
                local = pair.local,
                remote = pair.remote,
                connection_type = %pair.connection_type,
                "a path to the peer was chosen"
            );
        }
        Some(pair.connection_type)
    }

    fn report(&self, change: ConnectionChange) {
        self.hub.tell_connection(ConnectionEvent {
            target_twin_id: self.options.target.to_string(),
            kind: self.options.kind,
            name: self.options.name.to_string(),
            peer_id: self.peer_id().map(str::to_owned),
            change,
        });
    }
}

/// A link that receives in the legacy dialect renegotiates: a camera on npm 4.x adds its tracks only after it is connected.
fn negotiation(options: &LinkOptions) -> Negotiation {
    let negotiation = Negotiation::new(options.role);
    if options.receives && options.dialect == Dialect::Legacy {
        negotiation.renegotiating()
    } else {
        negotiation
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("options", &self.options)
            .field("negotiation", &self.negotiation)
            .finish_non_exhaustive()
    }
}
