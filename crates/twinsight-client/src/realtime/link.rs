//! The connection with one peer, kept and made anew for as long as it is wanted. The peer's signals come in from the hub;
//! our signals and [`LinkEvent`]s go out. The task of a channel or stream runs it (`link_task`): it hands what
//! [`Link::wait`] returns to [`Link::take`], and then calls [`Link::poll`] until that returns nothing.
//!
//! What must stay true:
//! - Only [`Link::wait`] is cancel-safe. When the task is stopped, `link_task::drive` drops `take` and `poll` at whatever
//!   `await` they have reached; after that the link may only be closed.
//! - [`Link::close`] must be called: there is no `Drop`, so a link that is only dropped stays subscribed to the rooms.
//! - The task waits for the hub to let it into rooms (once, 3 s at most), for a connection to close ([`CLOSE_LIMIT`] at most),
//!   and for the WebRTC stack to take an answer or a candidate or to name a path; nothing else holds it up.
//!   Descriptions are made and signals are sent on tasks of their own.
//! - One description at a time is in the making; a newer one ends the older.
//! - `current_attempt` is stored before the content of an attempt is made, and is 0 from [`Output::Close`] on: packets and
//!   signals of any other attempt are then ignored.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::{Notify, mpsc, watch};

use super::attempt::{Attempt, EndReason, Progress, Role};
use super::channel::PeerChannel;
use super::connect::guarded;
use super::connection_history::ConnectionHistory;
use super::deadline::sleep_until;
use super::description_task::{
    ContentOf, DescriptionOutcome, DescriptionRequest, DescriptionResult, DescriptionTask,
};
use super::link_mailbox::{Mailbox, enter};
use super::link_options::{Lifetime, LinkOptions};
use super::negotiation::{Input, Negotiation, Output};
use super::peer::{Peer, PeerError, PeerEvent};
use super::rtp_track::TrackSender;
use super::sdp::Description;
use super::signal::{ChannelKind, Signal, SignalError, SignalNames};
use super::signal_outbox::{Outgoing, SignalOutbox};
use super::socket::{says_out_of_files, why_unbound};
use super::source_filter::SourceFilter;
use super::warnings::allowed;
use crate::dialect::Dialect;
use crate::hub::connection_events::{ConnectionChange, ConnectionEvent, ConnectionType};
use crate::hub::message::TwinMessage;
use crate::hub::{HubClient, HubStatus};
use crate::rate_limit::{RATE_LIMIT, RateLimit};
use crate::telemetry::{Malformed, SignalRefusal};

/// At most this many replaced connections of the legacy dialect are left open; see [`Link::close_peer`].
const MAX_REPLACED_PEERS: usize = 2;

/// Closing a connection may take this long; then it goes on in the background.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

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

/// The peer connection of the current attempt.
struct Connection {
    attempt: Attempt,
    peer: Arc<Peer>,
    events: mpsc::Receiver<PeerEvent>,
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
    /// Connections that were replaced and are left open; see [`Link::close_peer`].
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

    fn names_to(&self, own: &str, other: &str) -> SignalNames {
        let responder = match self.options.role {
            Role::Initiator => other,
            Role::Responder => own,
        };
        SignalNames::new(
            self.options.kind,
            self.options.dialect,
            &self.options.name,
            own,
            other,
            responder,
        )
    }

    /// Opens the mailbox. Signals that come before are lost, so this is done before the first offer goes out.
    async fn open_mailbox(&mut self, own_twin: &str) {
        let target = Arc::clone(&self.options.target);
        let names = self.names_to(own_twin, &target);
        let sources = match (self.options.dialect, self.options.role) {
            (Dialect::Legacy, _) => SourceFilter::Anybody,
            (Dialect::Current, Role::Responder) => SourceFilter::Camera {
                camera: Arc::clone(&target),
                or_unsigned: self.options.allow_unsigned.then(|| own_twin.to_owned()),
            },
            (Dialect::Current, Role::Initiator) => SourceFilter::Answering {
                camera: Arc::clone(&target),
                peer_id: self.negotiation.peer_id().map(str::to_owned),
            },
        };
        self.mailbox = Mailbox::in_rooms(&self.hub, names.clone(), sources);
        self.names = Some(names);
        own_twin.clone_into(&mut self.own_twin);
        if self.subscribed {
            return;
        }
        self.subscribed = true;
        let own_room = self.options.own.clone();
        // Signals of the current dialect come to our own room, which the hub client is always in unless it is a peripheral's;
        // those of the legacy dialect come to the room of the twin that answers.
        let needed = self.options.dialect == Dialect::Legacy || own_room.is_some();
        enter(&self.hub, own_room.into_iter().chain([target]), needed).await;
    }

    fn message(&mut self, message: &TwinMessage) {
        let Some(names) = &self.names else { return };
        match names.parse(&message.data) {
            Some(Ok(envelope)) => {
                if matches!(envelope.signal, Signal::Offer { .. })
                    && self.options.role == Role::Responder
                {
                    self.reply = Some(self.names_to(&self.own_twin, &message.source_twin_id));
                }
                self.negotiation
                    .handle(Instant::now(), Input::Signal(envelope));
            }
            Some(Err(error)) => {
                self.malformed(malformed(&error), &error);
            }
            None => {}
        }
    }

    fn malformed(&self, kind: Malformed, error: &dyn fmt::Display) {
        if let Some(metrics) = self.hub.metrics() {
            metrics.malformed_input(kind);
        }
        if let Some(suppressed) = self.may_say(kind.as_str()) {
            tracing::warn!(%error, suppressed, "a signal of the peer cannot be used and was left out");
        }
    }

    /// `Some` when a warning may be logged now, with the number of those that were suppressed before it. Peers of an acceptor
    /// make up who they are, so all of them share one limit.
    fn may_say(&self, what: &'static str) -> Option<u64> {
        match self.mailbox {
            Mailbox::Fed(_) => allowed(what),
            _ => self.warn.allow(what, Instant::now()),
        }
    }

    fn peer_event(&mut self, event: Option<PeerEvent>) {
        let Some(attempt) = self
            .connection
            .as_ref()
            .map(|connection| connection.attempt)
        else {
            return;
        };
        let input = match event {
            Some(PeerEvent::Candidate(candidate)) => Input::LocalCandidate(attempt, candidate),
            Some(PeerEvent::Connected) => Input::Connected(attempt),
            Some(PeerEvent::Channel(channel)) => {
                return self.events.push_back(LinkEvent::Channel(attempt, channel));
            }
            // Only the initiator of a data channel acts on this at once. The owner of a stream sees by its frames whether the
            // path is dead, and a responder waits for its peer to offer anew.
            Some(PeerEvent::Disconnected)
                if self.options.kind == ChannelKind::Data
                    && self.options.role == Role::Initiator =>
            {
                Input::Ended(attempt, EndReason::Lost)
            }
            Some(PeerEvent::Disconnected) => {
                return self.events.push_back(LinkEvent::Disconnected);
            }
            Some(PeerEvent::Ended) | None => Input::Ended(attempt, EndReason::Lost),
        };
        self.negotiation.handle(Instant::now(), input);
    }

    async fn described(&mut self, (attempt, result): DescriptionResult) {
        let now = Instant::now();
        match result {
            Ok(DescriptionOutcome::Offer(sdp)) => {
                self.negotiation.handle(now, Input::Described(attempt, sdp))
            }
            Ok(DescriptionOutcome::Declined) => {
                tracing::debug!("an offer was not accepted");
                let input = Input::Ended(attempt, EndReason::Declined);
                self.negotiation.handle(now, input);
            }
            Ok(DescriptionOutcome::Connection(description)) => {
                if self.current_attempt.load(Ordering::Acquire) != attempt.0 {
                    // A newer attempt has replaced it while it was being made.
                    return say_goodbye(&description.peer).await;
                }
                self.count_candidates(&description.peer);
                self.connection = Some(Connection {
                    attempt,
                    peer: Arc::new(description.peer),
                    events: description.events,
                });
                if !description.senders.is_empty() {
                    let senders = LinkEvent::Senders(attempt, description.senders);
                    self.events.push_back(senders);
                }
                if let Some(channel) = description.channel {
                    self.events.push_back(LinkEvent::Channel(attempt, channel));
                }
                self.negotiation
                    .handle(now, Input::Described(attempt, description.sdp));
            }
            Err(error) => {
                let reason = self.reason_of(&error);
                if let Some(suppressed) = self.may_say(reason.as_str()) {
                    tracing::warn!(%error, suppressed, "an attempt to connect failed");
                }
                self.negotiation.handle(now, Input::Ended(attempt, reason));
            }
        }
    }

    fn reason_of(&self, error: &PeerError) -> EndReason {
        match error {
            PeerError::NoCodec { .. }
            | PeerError::NotTaken(_)
            | PeerError::NoDataChannels
            | PeerError::Stack => EndReason::Unusable,
            PeerError::Remote { .. } | PeerError::Unusable(_) => {
                self.malformed(Malformed::Sdp, error);
                EndReason::Unusable
            }
            PeerError::Local { source, .. } if says_out_of_files(source) => EndReason::NoFiles,
            PeerError::Local { .. } | PeerError::Own(_) => EndReason::Local,
            PeerError::Candidate | PeerError::TooManyCandidates => EndReason::Unusable,
            PeerError::Bind(error) => why_unbound(error),
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

    /// Closes the connection of the attempt that is over.
    ///
    /// An npm 4.x client that dials offers twice after a loss. It takes the end of the connection that its second offer has
    /// replaced for another loss and so begins anew for ever. A connection that such a client has replaced therefore stays open
    /// until [`MAX_REPLACED_PEERS`] newer ones were replaced too.
    async fn close_peer(&mut self, reason: EndReason) {
        let Some(peer) = self.closing_peer.take() else {
            return;
        };
        let is_npm =
            self.options.dialect == Dialect::Legacy && self.options.kind == ChannelKind::Data;
        let over = if is_npm && reason == EndReason::Replaced {
            self.replaced_peers.push_back(peer);
            if self.replaced_peers.len() <= MAX_REPLACED_PEERS {
                return;
            }
            self.replaced_peers.pop_front()
        } else {
            Some(peer)
        };
        if let Some(peer) = over {
            say_goodbye(&peer).await;
        }
    }

    /// Counts the candidates that were left out of the other side's description.
    fn count_candidates(&self, peer: &Peer) {
        let left_out = peer.take_candidates_left_out();
        let Some(metrics) = self.hub.metrics() else {
            return;
        };
        for _ in 0..left_out.overflowed {
            metrics.signal_refused(SignalRefusal::Overflow);
        }
        for _ in 0..left_out.malformed {
            metrics.malformed_input(Malformed::Candidate);
        }
    }

    fn refused(&self, reason: SignalRefusal) {
        tracing::debug!(%reason, "a signal was refused");
        if let Some(metrics) = self.hub.metrics() {
            metrics.signal_refused(reason);
        }
    }

    /// Sends a signal on a task of its own: the hub's socket may take seconds, and this task must not wait that long.
    fn send(&mut self, outgoing: Outgoing) {
        let (hub, current) = (&self.hub, &self.current_attempt);
        let outbox = self.outbox.get_or_insert_with(|| {
            let hub = hub.clone();
            SignalOutbox::start(Arc::clone(current), move |outgoing| {
                let hub = hub.clone();
                async move {
                    let Outgoing {
                        own, room, data, ..
                    } = outgoing;
                    if let Err(error) = hub.send_as(&own, &room, data).await {
                        tracing::debug!(%error, "a signal was not sent");
                    }
                }
            })
        });
        outbox.send(outgoing);
    }

    fn peer_of(&self, attempt: Attempt) -> Option<Arc<Peer>> {
        self.connection
            .as_ref()
            .filter(|connection| connection.attempt == attempt)
            .map(|connection| Arc::clone(&connection.peer))
    }

    /// Makes a peer connection and its description beside this task, which goes on with its signals.
    fn describe(&mut self, attempt: Attempt, offer: Option<Description>) {
        self.current_attempt.store(attempt.0, Ordering::Release);
        let request = DescriptionRequest {
            attempt,
            content: (self.content)(attempt, offer.as_ref()),
            offer,
            ice: self.options.ice.clone(),
            with_stun: self.negotiation.with_stun(),
        };
        self.descriptions.start(self.hub.clone(), request);
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

/// The kind of malformed input that a signal is counted as.
pub(super) fn malformed(error: &SignalError) -> Malformed {
    match error {
        SignalError::Candidate => Malformed::Candidate,
        SignalError::Description | SignalError::Sdp(_) => Malformed::Sdp,
        SignalError::Kind | SignalError::PeerId => Malformed::HubMessage,
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

/// Says goodbye to a connection's other side and closes it.
async fn say_goodbye(peer: &Peer) {
    // On a timeout the peer's `Drop` goes on in the background.
    let _ = tokio::time::timeout(CLOSE_LIMIT, peer.close()).await;
}

async fn next_event(connection: Option<&mut Connection>) -> Option<PeerEvent> {
    match connection {
        Some(connection) => connection.events.recv().await,
        None => std::future::pending().await,
    }
}
