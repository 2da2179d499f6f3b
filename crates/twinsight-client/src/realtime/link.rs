//! One connection with one peer, for as long as it is wanted: signals are taken out of the hub's rooms,
//! connections are made, kept and made anew. Whoever owns a link drives it on its own task: what
//! [`Link::wait`] gives goes to [`Link::take`], then [`Link::poll`] tells what came of it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::channel::PeerChannel;
use super::connect::{Content, Description, describe, guarded, ice_servers};
use super::connection_history::ConnectionHistory;
use super::ice::IceSettings;
use super::link_task::sleep_until;
use super::negotiation::{Attempt, EndReason, Input, Negotiation, Output, Progress, Role};
use super::outbox::{Outbox, Outgoing};
use super::peer::{Peer, PeerError, PeerEvent};
use super::rtp_track::TrackSender;
use super::sdp::Description as Sdp;
use super::signal::{ChannelKind, Signal, SignalError, SignalNames};
use super::socket::{says_out_of_files, why_unbound};
use super::source_filter::SourceFilter;
use super::warnings::allowed;
use crate::dialect::Dialect;
use crate::hub::connection_events::{ConnectionChange, ConnectionEvent, ConnectionType};
use crate::hub::message::TwinMessage;
use crate::hub::{HubClient, HubStatus, MessageReceiver};
use crate::rate_limit::{RATE_LIMIT, RateLimit};
use crate::telemetry::{Malformed, SignalRefusal};

/// Signals of a link that wait for its task. A peer sends a description and a dozen candidates.
pub(crate) const MAILBOX: usize = 64;

/// The legacy dialect waits this long for the peer's room.
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(3);

/// Replaced connections of the legacy dialect that are left alone.
const MAX_RETIRED: usize = 2;

/// Whoever is asked about an offer has this long: less than the description that waits for it.
const ACCEPT_LIMIT: Duration = Duration::from_secs(9);

/// A connection's goodbye may take this long.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// How long a link is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Until it is stopped: connections come and go.
    UntilStopped,
    /// As long as its connection, which has so long to come up. A peer that begins anew keeps it alive.
    OneConnection(Duration),
}

/// Whom to connect with, as whom and how.
#[derive(Debug, Clone)]
pub(crate) struct LinkOptions {
    pub(crate) kind: ChannelKind,
    /// The name of the channel or stream.
    pub(crate) name: Arc<str>,
    /// The twin at the other end.
    pub(crate) target: Arc<str>,
    /// The peripheral twin that we speak as; none: the own twin.
    pub(crate) own: Option<Arc<str>>,
    pub(crate) role: Role,
    pub(crate) lifetime: Lifetime,
    pub(crate) dialect: Dialect,
    /// As responder: take offers that are signed with our own twin too.
    pub(crate) allow_unsigned: bool,
    pub(crate) ice: IceSettings,
    /// Log the paths that connections use.
    pub(crate) verbose: bool,
    /// Something is to come: a legacy peer whose answer sends nothing is offered again.
    pub(crate) receives: bool,
}

/// What a link's owner is told.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// The hub was joined, or went away.
    Hub { joined: bool },
    /// How the negotiation goes.
    Progress(Progress),
    /// The data channel of an attempt; it may not be open yet.
    Channel(Attempt, PeerChannel),
    /// What an attempt sends, in the order of its content.
    Senders(Attempt, Vec<Option<TrackSender>>),
    /// The path of the connection, which carries media, is lost for now; ICE looks for another.
    Disconnected,
}

/// What woke a link.
pub(crate) enum Wake {
    /// The hub's status changed.
    Hub,
    /// The hub client is gone, and the link of no use.
    Gone,
    Message(Option<TwinMessage>),
    Peer(Option<PeerEvent>),
    Described(Described),
    Timer,
}

/// What came of making a description.
type Described = (Attempt, Result<DescribeOutcome, PeerError>);

/// A description, and the connection that it is of.
pub(crate) enum DescribeOutcome {
    /// A new one.
    Connection(Box<Description>),
    /// Another offer over the one that there is.
    Offer(Sdp),
    /// None: nobody wants what the peer offers.
    Declined,
}

/// Where signals come from.
#[derive(Debug)]
enum Mailbox {
    /// To be opened when the own twin is known.
    Unopened,
    /// Taken out of the hub's rooms by this link.
    Hub(MessageReceiver),
    /// Sorted by a responder with many peers.
    Fed(mpsc::Receiver<TwinMessage>),
    /// Nothing comes any more.
    Closed,
}

/// The peer connection of the current attempt.
struct Connection {
    attempt: Attempt,
    peer: Arc<Peer>,
    events: mpsc::Receiver<PeerEvent>,
}

/// Makes the content of an attempt's connection; a responder's may depend on the offer, and on somebody who
/// says yes. None: the offer is not answered.
pub(crate) type ContentOf =
    Box<dyn Fn(Attempt, Option<&Sdp>) -> BoxFuture<'static, Option<Content>> + Send + Sync>;

/// Content that is known at once.
pub(crate) fn content_of(
    content: impl Fn(Attempt) -> Content + Send + Sync + 'static,
) -> ContentOf {
    Box::new(move |attempt, _offer| Box::pin(std::future::ready(Some(content(attempt)))))
}

/// One connection with one peer.
pub(crate) struct Link {
    hub: HubClient,
    status: watch::Receiver<HubStatus>,
    options: LinkOptions,
    content: ContentOf,
    negotiation: Negotiation,
    mailbox: Mailbox,
    own_twin: String,
    /// Known once the own twin is.
    names: Option<SignalNames>,
    /// Where the answer to the last offer goes: to whoever signed it.
    reply: Option<SignalNames>,
    /// The rooms were asked for.
    subscribed: bool,
    /// The description in the making; a newer one ends it.
    describing: Option<JoinHandle<()>>,
    /// Signals that are to be sent, once there was one.
    outbox: Option<Outbox>,
    described: (mpsc::Sender<Described>, mpsc::Receiver<Described>),
    connection: Option<Connection>,
    /// The connection that is over, until it is told why.
    parting: Option<Arc<Peer>>,
    /// Connections of the legacy dialect that were replaced; see [`Link::part`].
    retired: VecDeque<Arc<Peer>>,
    /// The attempt that counts; 0 for none.
    current_attempt: Arc<AtomicU32>,
    events: VecDeque<LinkEvent>,
    warn: RateLimit<&'static str>,
    history: ConnectionHistory,
}

impl Link {
    /// A link that takes its signals out of the hub's rooms. `current_attempt` is kept at the number of
    /// the attempt that counts.
    pub(crate) fn new(
        hub: HubClient,
        options: LinkOptions,
        current_attempt: Arc<AtomicU32>,
        content: ContentOf,
    ) -> Self {
        let mut status = hub.status();
        // What is there from the start counts as a change.
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
            describing: None,
            outbox: None,
            described: mpsc::channel(4),
            connection: None,
            parting: None,
            retired: VecDeque::new(),
            current_attempt,
            events: VecDeque::new(),
            warn: RateLimit::new(RATE_LIMIT),
            history: ConnectionHistory::default(),
        }
    }

    /// A link whose signals somebody else sorts. It answers as `own_twin`.
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

    /// Waits for something to happen. Nothing is lost when it is dropped.
    pub(crate) async fn wait(&mut self) -> Wake {
        let deadline = self.negotiation.deadline();
        tokio::select! {
            changed = self.status.changed() => if changed.is_ok() { Wake::Hub } else { Wake::Gone },
            message = self.mailbox.receive() => Wake::Message(message),
            event = next_event(self.connection.as_mut()) => Wake::Peer(event),
            Some(result) = self.described.1.recv() => Wake::Described(result),
            () = sleep_until(deadline) => Wake::Timer,
        }
    }

    /// Takes what [`wait`](Self::wait) gave; false when the link is of no use any more.
    pub(crate) async fn take(&mut self, wake: Wake) -> bool {
        match wake {
            Wake::Gone => return false,
            Wake::Hub => self.hub_changed().await,
            Wake::Message(Some(message)) => self.message(&message),
            Wake::Message(None) => self.mailbox = Mailbox::Closed,
            Wake::Peer(event) => self.peer_event(event),
            Wake::Described(result) => self.described(result).await,
            Wake::Timer => self.negotiation.handle_timeout(Instant::now()),
        }
        true
    }

    /// Carries out what the negotiation wants, up to the next thing that the owner is to know.
    pub(crate) async fn poll(&mut self) -> Option<LinkEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let output = self.negotiation.poll()?;
            self.execute(output).await;
        }
    }

    /// The connection looks alive, and what runs over it is dead.
    pub(crate) fn restart(&mut self, reason: EndReason) {
        self.negotiation
            .handle(Instant::now(), Input::Restart(reason));
    }

    pub(crate) fn role(&self) -> Role {
        self.options.role
    }

    /// How long it is wanted.
    pub(crate) fn lifetime(&self) -> Lifetime {
        self.options.lifetime
    }

    /// True when it is wanted beyond a connection that is over for this reason.
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

    /// The same, and which attempt's it is.
    pub(crate) fn connection(&self) -> Option<(Attempt, &Arc<Peer>)> {
        let connection = self.connection.as_ref()?;
        Some((connection.attempt, &connection.peer))
    }

    /// The initiator's own id, or that of the last offer.
    pub(crate) fn peer_id(&self) -> Option<&str> {
        self.negotiation.peer_id()
    }

    /// Says goodbye.
    pub(crate) async fn close(&mut self) {
        self.current_attempt.store(0, Ordering::Release);
        if let Some(describing) = &self.describing {
            describing.abort();
        }
        if self.subscribed {
            self.hub.unsubscribe(&self.options.target).await;
            if let Some(own) = &self.options.own {
                self.hub.unsubscribe(own).await;
            }
        }
        self.mailbox = Mailbox::Closed;
        let current = self.connection.take().map(|connection| connection.peer);
        let peers = current.into_iter().chain(self.parting.take());
        let closing = peers.chain(self.retired.drain(..)).map(async |peer| {
            let _ = tokio::time::timeout(CLOSE_LIMIT, peer.close()).await;
        });
        join_all(closing).await;
        if let Some(change) = self.history.closed() {
            self.tell(change);
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
                // Ready by the time that an attempt needs them.
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

    /// Signals that came before are lost, so it is opened before the first offer.
    async fn open_mailbox(&mut self, own_twin: &str) {
        let target = Arc::clone(&self.options.target);
        let names = self.names_to(own_twin, &target);
        let filter = names.clone();
        let senders = match (self.options.dialect, self.options.role) {
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
        self.names = Some(names);
        own_twin.clone_into(&mut self.own_twin);
        self.mailbox = Mailbox::Hub(self.hub.messages(MAILBOX, move |message| {
            senders.include(message) && filter.matches(&message.data)
        }));
        if self.subscribed {
            return;
        }
        self.subscribed = true;
        let hub = self.hub.clone();
        let own_room = self.options.own.clone();
        // Signals of the current dialect come to our own room; the legacy one needs the peer's.
        let needed = self.options.dialect == Dialect::Legacy || own_room.is_some();
        // Asked for now, and side by side: a `close` that comes soon finds what it has to take back.
        let rooms = own_room.into_iter().chain([target]).map(|room| {
            let subscribed = hub.subscribe(&room);
            async move {
                if let Err(error) = subscribed.await {
                    tracing::warn!(twin = %room, %error, "cannot listen to a twin yet");
                }
            }
        });
        let subscribe = join_all(rooms.collect::<Vec<_>>()).map(drop);
        let subscribing = tokio::spawn(subscribe.in_current_span());
        if needed {
            let _ = tokio::time::timeout(SUBSCRIBE_LIMIT, subscribing).await;
        }
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

    /// `Some`: say it now, and so many were left out before. A peer of an acceptor makes up who it is, so all of them
    /// have one limit.
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
            // Video has its frames to tell. A responder waits: its peer offers anew if it has to.
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

    async fn described(&mut self, (attempt, result): Described) {
        let now = Instant::now();
        match result {
            Ok(DescribeOutcome::Offer(sdp)) => {
                self.negotiation.handle(now, Input::Described(attempt, sdp))
            }
            Ok(DescribeOutcome::Declined) => {
                tracing::debug!("an offer was not accepted");
                let input = Input::Ended(attempt, EndReason::Declined);
                self.negotiation.handle(now, input);
            }
            Ok(DescribeOutcome::Connection(description)) => {
                if self.current_attempt.load(Ordering::Acquire) != attempt.0 {
                    // Replaced while it was being made.
                    return description.peer.close().await;
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
            Output::OfferAgain(attempt) => self.offer_again(attempt),
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
                    self.parting = Some(connection.peer);
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
                    self.part(reason).await;
                }
                self.tell_progress(progress).await;
                self.events.push_back(LinkEvent::Progress(progress));
            }
            Output::Refused(reason) => self.refused(reason),
        }
    }

    /// Says goodbye to the connection that is over.
    ///
    /// An npm 4.x client that dials offers twice after a loss, and takes the goodbye of the connection that
    /// it has replaced by itself for another loss, for ever: that one is left alone until it is old.
    async fn part(&mut self, reason: EndReason) {
        let Some(peer) = self.parting.take() else {
            return;
        };
        let is_npm =
            self.options.dialect == Dialect::Legacy && self.options.kind == ChannelKind::Data;
        let over = if is_npm && reason == EndReason::Replaced {
            self.retired.push_back(peer);
            if self.retired.len() <= MAX_RETIRED {
                return;
            }
            self.retired.pop_front()
        } else {
            Some(peer)
        };
        if let Some(peer) = over {
            let _ = tokio::time::timeout(CLOSE_LIMIT, peer.close()).await;
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

    /// The hub's socket may take its time, and this task has keyframes to ask for meanwhile.
    fn send(&mut self, outgoing: Outgoing) {
        let (hub, current) = (&self.hub, &self.current_attempt);
        let outbox = self.outbox.get_or_insert_with(|| {
            let hub = hub.clone();
            Outbox::start(Arc::clone(current), move |outgoing| {
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
    fn describe(&mut self, attempt: Attempt, offer: Option<Sdp>) {
        self.current_attempt.store(attempt.0, Ordering::Release);
        let content = (self.content)(attempt, offer.as_ref());
        let with_stun = self.negotiation.with_stun();
        let (hub, ice, described) = (
            self.hub.clone(),
            self.options.ice.clone(),
            self.described.0.clone(),
        );
        // One at a time: a peer that sends offer after offer costs no more than one connection.
        let older = self.describing.take();
        if let Some(older) = &older {
            older.abort();
        }
        let work = async move {
            if let Some(older) = older {
                let _ = older.await;
            }
            let content = tokio::time::timeout(ACCEPT_LIMIT, content).await;
            let Ok(Some(content)) = content else {
                let _ = described
                    .send((attempt, Ok(DescribeOutcome::Declined)))
                    .await;
                return;
            };
            let servers = ice_servers(hub, with_stun).await;
            let result = describe(&ice, &servers, &content, offer).await;
            let made = result.map(|description| DescribeOutcome::Connection(Box::new(description)));
            let _ = described.send((attempt, made)).await;
        };
        self.describing = Some(tokio::spawn(work.in_current_span()));
    }

    /// Another offer over the connection that there is.
    fn offer_again(&mut self, attempt: Attempt) {
        let Some(peer) = self.peer_of(attempt) else {
            return;
        };
        let described = self.described.0.clone();
        let work = async move {
            let made = peer.offer().await.map(DescribeOutcome::Offer);
            let _ = described.send((attempt, made)).await;
        };
        self.describing = Some(tokio::spawn(work.in_current_span()));
    }

    /// Turns progress into the events of the guide.
    async fn tell_progress(&mut self, progress: Progress) {
        let connection_type = match progress {
            Progress::Connected(attempt) => self.path_of(attempt).await,
            Progress::Attempting(_) | Progress::Over(..) => None,
        };
        if let Some(change) = self.history.progress(progress, connection_type) {
            self.tell(change);
        }
    }

    /// The path of a connection that has come up.
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

    fn tell(&self, change: ConnectionChange) {
        self.hub.tell_connection(ConnectionEvent {
            target_twin_id: self.options.target.to_string(),
            kind: self.options.kind,
            name: self.options.name.to_string(),
            peer_id: self.peer_id().map(str::to_owned),
            change,
        });
    }
}

/// What a signal that cannot be used counts as.
pub(super) fn malformed(error: &SignalError) -> Malformed {
    match error {
        SignalError::Candidate => Malformed::Candidate,
        SignalError::Description | SignalError::Sdp(_) => Malformed::Sdp,
        SignalError::Kind | SignalError::PeerId => Malformed::HubMessage,
    }
}

/// A camera on npm 4.x has tracks only after it is connected.
fn negotiation(options: &LinkOptions) -> Negotiation {
    let negotiation = Negotiation::new(options.role);
    if options.receives && options.dialect == Dialect::Legacy {
        negotiation.renegotiating()
    } else {
        negotiation
    }
}

impl Mailbox {
    async fn receive(&mut self) -> Option<TwinMessage> {
        match self {
            Self::Hub(receiver) => receiver.recv().await,
            Self::Fed(receiver) => receiver.recv().await,
            Self::Unopened | Self::Closed => std::future::pending().await,
        }
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

async fn next_event(connection: Option<&mut Connection>) -> Option<PeerEvent> {
    match connection {
        Some(connection) => connection.events.recv().await,
        None => std::future::pending().await,
    }
}
