//! How media streams come to be: dialled ([`Instance::get_media_stream`]), awaited from one twin
//! ([`Instance::on_media_stream`]), or sent to whoever dials ([`Instance::accept_media_streams`]).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tracing::Instrument;

use super::core::Core;
use super::local_track::LocalTrack;
use super::session::{InboundRouter, Lifetime, Parts, Session, sink};
use super::stream::{Direction, MediaError, MediaStream, MediaStreamOptions};
use super::stream_state::StreamStateMachine;
use crate::clock::SystemClock;
use crate::hub::client::HubClient;
use crate::hub::{HubError, Instance};
use crate::media::worker::DecodeConfig;
use crate::realtime::acceptor::{Acceptor, AcceptorCounts, PeerService};
use crate::realtime::connect::{Content, MediaContent};
use crate::realtime::ice::IceSettings;
use crate::realtime::link::{ContentOf, Link, LinkOptions};
use crate::realtime::names::{Unreachable, check_name, check_twin, reach, shortened};
use crate::realtime::negotiation::{Attempt, Role};
use crate::realtime::rtp_track::TrackKind;
use crate::realtime::sdp::{Description, SectionKind};
use crate::realtime::signal::ChannelKind;
use crate::stream_id::StreamId;
use crate::telemetry::CameraState;
use twinsight_media::decode::decoder::DecoderKind;
use twinsight_media::decode::keyframes::KeyframeBudget;

/// Longer limits than this are no limits, and instants have an end.
const LONGEST_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// Whom an acceptor takes, and how many at once.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AcceptStreamsOptions {
    /// The stream, its tracks those that each viewer gets; its `allow_unsigned` means nothing here, since
    /// anybody is taken.
    pub stream: MediaStreamOptions,
    /// Peers at once; the offers of more are left unanswered and counted.
    pub max_peers: usize,
    /// A peer that is not connected by then loses its place. One of which nothing is heard for 20 s, not even
    /// a report of what it receives, does too.
    pub connect_limit: Duration,
}

impl AcceptStreamsOptions {
    /// To send these tracks to whoever dials.
    pub fn sending(tracks: impl IntoIterator<Item = LocalTrack>) -> Self {
        MediaStreamOptions::sending(tracks).into()
    }
}

impl From<MediaStreamOptions> for AcceptStreamsOptions {
    fn from(stream: MediaStreamOptions) -> Self {
        Self {
            stream,
            max_peers: 8,
            connect_limit: Duration::from_secs(45),
        }
    }
}

/// Awaits one twin's stream for as long as it lives.
#[derive(Debug)]
#[must_use = "dropping it ends the waiting, and closes the stream unless somebody holds it"]
pub struct MediaStreamListener {
    stream: MediaStream,
}

/// Accepts streams for as long as it lives.
#[must_use = "dropping it closes the streams of all peers"]
pub struct MediaStreamAcceptor {
    counts: Arc<AcceptorCounts>,
    ended: watch::Receiver<()>,
    stop: Option<oneshot::Sender<()>>,
}

/// A twin that offers a stream. Dropping it turns the offer down; the next one is asked about again.
pub struct Incoming {
    stream: Option<MediaStream>,
    offered: Vec<TrackKind>,
    decision: watch::Sender<Decision>,
}

/// What became of an [`Incoming`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// Nobody was asked, or it was turned down.
    None,
    /// Somebody was asked.
    Asked,
    /// This stream is taken, and all its later connections.
    Accepted,
}

/// Asks somebody about an offer.
type Ask = Box<dyn FnMut(Incoming) -> BoxFuture<'static, ()> + Send>;

impl Instance {
    /// Dials a twin and waits until the stream is connected and a packet of each of its `kinds` has come.
    ///
    /// Each call makes a stream of its own; two to one peer differ by their names. It connects again by itself
    /// for as long as a handle lives: when the path breaks, when the peer says goodbye, when the first frame does
    /// not come within 15 s or the next one within 5 s, and when nothing at all is heard of the peer for 20 s.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// let stream = client.instance().get_media_stream("camera-1", "front").await?;
    /// let mut frames = stream.frames();
    /// if let Some(frame) = frames.recv().await {
    ///     frame.to_rgb_image().save("front.png")?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`MediaError`]; then nothing is tried any more.
    pub async fn get_media_stream(
        &self,
        target: &str,
        options: impl Into<MediaStreamOptions>,
    ) -> Result<MediaStream, MediaError> {
        let options = options.into();
        let limit = options.connect_limit;
        let deadline = tokio::time::Instant::now() + limit.min(LONGEST_LIMIT);
        let (name, kinds) = (options.name.clone(), options.received());
        let in_time = |reason| MediaError::NotConnected {
            twin_id: shortened(target),
            name: name.clone(),
            limit,
            reason,
        };
        self.check(target, &options)?;
        match reach(self.client(), target, deadline, &self.media_ice(&options)).await {
            Ok(()) => {}
            Err(Unreachable::Hub(source)) => return Err(hub_error(target, source)),
            Err(Unreachable::InTime(reason)) => return Err(in_time(reason)),
            Err(Unreachable::NoRelay { refused }) => {
                return Err(MediaError::NoRelay {
                    twin_id: shortened(target),
                    refused,
                });
            }
        }
        let stream = self.media_stream(target, options, Role::Initiator, None)?;
        match tokio::time::timeout_at(deadline, stream.connected()).await {
            Ok(true) => {}
            Ok(false) => return Err(hub_error(target, HubError::Closed)),
            Err(_) => return Err(in_time(*stream.core.last_error.borrow())),
        }
        let mut arrived = stream.core.arrived.subscribe();
        let all = arrived.wait_for(|arrived| kinds.iter().all(|kind| arrived.contains(kind)));
        if tokio::time::timeout_at(deadline, all).await.is_ok() {
            return Ok(stream);
        }
        let arrived = stream.core.arrived.borrow().clone();
        let missing = kinds.iter().filter(|kind| !arrived.contains(kind));
        Err(MediaError::MissingMediaTrack {
            twin_id: shortened(target),
            name,
            missing: missing.copied().collect(),
            limit,
        })
    }

    /// Dials a twin and returns at once: the stream connects as soon as the twin answers.
    ///
    /// ```no_run
    /// # use twinsight_client::media::{LocalTrack, MediaStreamOptions};
    /// # fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// let video = LocalTrack::video("screen");
    /// let options = MediaStreamOptions::two_way([video.clone()]).named("call");
    /// let stream = client.instance().open_media_stream("desk-1", options)?;
    /// assert!(stream.is_connecting());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the twin's id or the options cannot be used, or this peripheral was taken over.
    pub fn open_media_stream(
        &self,
        target: &str,
        options: impl Into<MediaStreamOptions>,
    ) -> Result<MediaStream, MediaError> {
        let options = options.into();
        self.check(target, &options)?;
        self.media_stream(target, options, Role::Initiator, None)
    }

    /// Awaits the stream that one twin dials, and asks the handler about its offer (in the legacy dialect,
    /// which says not who dials, about anybody's in this twin's room). Once it was accepted the twin may come
    /// again: the stream stays the same, and so do the handlers that are registered on it. The tracks are what
    /// [`Incoming::accept`] is given; those of the options mean nothing here. An offer about which nothing was
    /// decided for 9 s is left unanswered; a decision that comes later is for the next one.
    ///
    /// ```no_run
    /// # use twinsight_client::hub::HubClient;
    /// # fn example(client: HubClient) -> Result<(), twinsight_client::media::MediaError> {
    /// let listener = client.instance().on_media_stream("camera-1", "default", |incoming| async move {
    ///     let stream = incoming.accept([]);
    ///     stream.on_frame(|frame| async move { println!("{}x{}", frame.width(), frame.height()) });
    /// })?;
    /// # drop(listener);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the twin's id or the options cannot be used, or this peripheral was taken over.
    pub fn on_media_stream<F, R>(
        &self,
        source: &str,
        options: impl Into<MediaStreamOptions>,
        mut handler: F,
    ) -> Result<MediaStreamListener, MediaError>
    where
        F: FnMut(Incoming) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let options = MediaStreamOptions {
            tracks: Vec::new(),
            ..options.into()
        };
        check_names(source, &options.name, &self.twin_id())?;
        let ask: Ask = Box::new(move |incoming| Box::pin(handler(incoming)));
        let stream = self.media_stream(source, options, Role::Responder, Some(ask))?;
        Ok(MediaStreamListener { stream })
    }

    /// Accepts the stream of everybody who dials this twin, and hands each over when it is connected. Each peer
    /// has its own place in the tracks of the options: it begins with a keyframe, and one that does not keep up
    /// harms no other. A peer whose connection ends is gone: when it comes back, it is handed over as a new one.
    ///
    /// ```no_run
    /// # use twinsight_client::media::{AcceptStreamsOptions, LocalTrack};
    /// # fn example(client: twinsight_client::hub::HubClient) -> Result<(), twinsight_client::media::MediaError> {
    /// let video = LocalTrack::video("camera");
    /// let options = AcceptStreamsOptions::sending([video.clone()]);
    /// let acceptor = client.instance().accept_media_streams(options, |stream| async move {
    ///     println!("{} looks on", stream.target_twin_id());
    /// })?;
    /// println!("{} viewers", acceptor.peers());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the options cannot be used, or this peripheral was taken over.
    pub fn accept_media_streams<F, R>(
        &self,
        options: impl Into<AcceptStreamsOptions>,
        mut handler: F,
    ) -> Result<MediaStreamAcceptor, MediaError>
    where
        F: FnMut(MediaStream) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let AcceptStreamsOptions {
            stream: options,
            max_peers,
            connect_limit,
        } = options.into();
        check_name(&options.name).map_err(|why| wrong("", why))?;
        check_tracks("", &options)?;
        self.assert_owned()
            .map_err(|source| hub_error("", source))?;
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = watch::channel(());
        let counts = Arc::<AcceptorCounts>::default();
        let hub = self.client().clone();
        let link_options = self.media_link("", &options, Role::Responder);
        let handler = Arc::new(Mutex::new(move |stream| {
            let handled = handler(stream);
            tokio::spawn(handled);
        }));
        let acceptor = Acceptor::new(
            self.client().clone(),
            link_options,
            max_peers,
            Arc::clone(&counts),
            Box::new(move |place| {
                let target = place.target();
                let lifetime = Lifetime::OneConnection(
                    tokio::time::Instant::now() + connect_limit.min(LONGEST_LIMIT),
                );
                let made = NewStream::new(&hub, &options, Arc::clone(&target), None);
                let link = place.link(made.current_attempt, made.content);
                let running = run(Running {
                    link,
                    role: Role::Responder,
                    options: &options,
                    core: Arc::clone(&made.core),
                    router: made.router,
                    lifetime,
                    stopped: made.stopped,
                    // The acceptor closes it when its twin is lost.
                    ownership_lost: Box::pin(std::future::pending()),
                });
                let (stream, handler) = (made.stream, Arc::clone(&handler));
                let handed_over = stream.clone();
                tokio::spawn(async move {
                    if handed_over.connected().await {
                        let mut handler = handler.lock();
                        handler(handed_over);
                    }
                });
                PeerService {
                    running,
                    close: Box::new(move || Box::pin(async move { stream.close().await })),
                }
            }),
        );
        let ownership_lost = self.ownership_lost();
        tokio::spawn(async move {
            acceptor.run(stopped, ownership_lost).await;
            drop(end);
        });
        Ok(MediaStreamAcceptor {
            counts,
            ended,
            stop: Some(stop),
        })
    }

    /// A stream and its task.
    fn media_stream(
        &self,
        target: &str,
        options: MediaStreamOptions,
        role: Role,
        ask: Option<Ask>,
    ) -> Result<MediaStream, MediaError> {
        self.assert_owned()
            .map_err(|source| hub_error(target, source))?;
        let made = NewStream::new(self.client(), &options, target.into(), ask);
        let link = Link::new(
            self.client().clone(),
            self.media_link(target, &options, role),
            made.current_attempt,
            made.content,
        );
        run(Running {
            link,
            role,
            options: &options,
            core: made.core,
            router: made.router,
            lifetime: Lifetime::Handles,
            stopped: made.stopped,
            ownership_lost: self.ownership_lost(),
        });
        Ok(made.stream)
    }

    fn media_link(&self, target: &str, options: &MediaStreamOptions, role: Role) -> LinkOptions {
        LinkOptions {
            kind: ChannelKind::Media,
            name: options.name.as_str().into(),
            target: target.into(),
            // As the official clients: a peripheral answers as itself, and its owner dials for it.
            own: match role {
                Role::Initiator => None,
                Role::Responder => self.peripheral_id().cloned(),
            },
            role,
            dialect: options.dialect,
            allow_unsigned: options.allow_unsigned,
            ice: self.media_ice(options),
            verbose: options.verbose,
            receives: !options.received().is_empty(),
        }
    }

    /// How connections find their way unless the caller said.
    fn media_ice(&self, options: &MediaStreamOptions) -> IceSettings {
        options.ice.clone().unwrap_or_else(|| IceSettings {
            relay_only: self.client().prefers_relay(),
            ..IceSettings::default()
        })
    }

    fn check(&self, target: &str, options: &MediaStreamOptions) -> Result<(), MediaError> {
        check_names(target, &options.name, &self.twin_id())?;
        check_tracks(target, options)
    }
}

/// A stream without a task.
struct NewStream {
    stream: MediaStream,
    core: Arc<Core>,
    router: Arc<InboundRouter>,
    current_attempt: Arc<AtomicU32>,
    content: ContentOf,
    stopped: oneshot::Receiver<()>,
}

impl NewStream {
    fn new(
        hub: &HubClient,
        options: &MediaStreamOptions,
        target: Arc<str>,
        ask: Option<Ask>,
    ) -> Self {
        let core = Arc::new(Core::new(target, &options.name, options.tracks.clone()));
        let current_attempt = Arc::new(AtomicU32::new(0));
        let router = Arc::new(InboundRouter::new(
            Arc::clone(&current_attempt),
            Some(Arc::clone(&core)),
            hub.shared_metrics(),
            span(&core),
        ));
        let (stream, stopped) = MediaStream::new(Arc::clone(&core));
        let content = content(options, &stream, Arc::clone(&router), ask);
        Self {
            stream,
            core,
            router,
            current_attempt,
            content,
            stopped,
        }
    }
}

/// What each attempt carries. With somebody to ask it waits for a yes.
fn content(
    options: &MediaStreamOptions,
    stream: &MediaStream,
    router: Arc<InboundRouter>,
    ask: Option<Ask>,
) -> ContentOf {
    let (codecs, receives) = (options.codecs.clone(), options.received());
    let core = Arc::clone(&stream.core);
    let describe = Arc::new(move |attempt: Attempt| {
        let sends = core.offer_tracks(attempt);
        Content::Media(MediaContent {
            sink: sink(attempt, Arc::clone(&router)),
            codecs: codecs.clone(),
            receives: receives.clone(),
            sends: sends
                .iter()
                .map(|track| (track.kind(), track.id().to_owned()))
                .collect(),
        })
    });
    let Some(ask) = ask else {
        return Box::new(move |attempt, _| Box::pin(std::future::ready(Some(describe(attempt)))));
    };
    let (ask, weak) = (Arc::new(Mutex::new(ask)), stream.downgrade());
    let decision = watch::Sender::new(Decision::None);
    Box::new(move |attempt, offer| {
        let first = decision.send_if_modified(|decision| {
            let first = *decision == Decision::None;
            if first {
                *decision = Decision::Asked;
            }
            first
        });
        if first && let Some(stream) = weak.upgrade() {
            let incoming = Incoming {
                stream: Some(stream),
                offered: offer.map(offered_kinds).unwrap_or_default(),
                decision: decision.clone(),
            };
            let ask = Arc::clone(&ask);
            // On a task of its own: one that panics or blocks turns this offer down, and no more.
            tokio::spawn(async move {
                let asking = {
                    let mut ask = ask.lock();
                    ask(incoming)
                };
                asking.await;
            });
        }
        let (mut decided, describe) = (decision.subscribe(), Arc::clone(&describe));
        Box::pin(async move {
            let decided = decided.wait_for(|decision| *decision != Decision::Asked);
            let accepted = decided.await.is_ok_and(|d| *d == Decision::Accepted);
            accepted.then(|| describe(attempt))
        })
    })
}

/// What a stream's task is begun with.
struct Running<'a> {
    link: Link,
    role: Role,
    options: &'a MediaStreamOptions,
    core: Arc<Core>,
    router: Arc<InboundRouter>,
    lifetime: Lifetime,
    stopped: oneshot::Receiver<()>,
    ownership_lost: BoxFuture<'static, ()>,
}

/// Of a stream's task.
fn span(core: &Core) -> tracing::Span {
    tracing::info_span!("media", twin = %core.twin_id, stream = %core.name)
}

fn run(running: Running<'_>) -> tokio::task::JoinHandle<()> {
    let (options, core) = (running.options, running.core);
    let id = StreamId {
        twin_id: Arc::clone(&core.twin_id),
        stream: Arc::clone(&core.name),
    };
    let watches = options.received().contains(&TrackKind::Video);
    let (frames, states) = (Arc::clone(&core), Arc::clone(&core));
    let session = Session::new(Parts {
        link: running.link,
        role: running.role,
        state_machine: watches.then(|| StreamStateMachine::new(Instant::now(), running.role)),
        router: running.router,
        keyframes: Arc::new(KeyframeBudget::new(Instant::now())),
        metrics: None,
        decode: DecodeConfig::new(Arc::default(), Arc::new(SystemClock), DecoderKind::Software),
        id,
        on_frame: Box::new(move |frame| frames.frames.give(frame)),
        on_state: Box::new(move |state| {
            let receiving = state.state == CameraState::Receiving;
            states.receiving.store(receiving, Ordering::Relaxed);
        }),
        lifetime: running.lifetime,
    });
    let span = span(&core);
    let (stopped, ownership_lost) = (running.stopped, running.ownership_lost);
    let (stop, told) = oneshot::channel::<()>();
    let work = async move {
        let watch = async move {
            tokio::select! {
                _ = stopped => {}
                () = ownership_lost => {}
            }
            drop(stop);
        };
        let watching = tokio::spawn(watch);
        session.run(told).await;
        watching.abort();
    };
    tokio::spawn(work.instrument(span))
}

impl MediaStreamListener {
    /// The stream, connected or not.
    pub fn stream(&self) -> &MediaStream {
        &self.stream
    }

    /// Ends the waiting and closes the stream.
    pub async fn close(self) {
        self.stream.close().await;
    }
}

impl MediaStreamAcceptor {
    /// Peers that have a place, connected or about to be.
    pub fn peers(&self) -> usize {
        self.counts.peers.load(Ordering::Relaxed)
    }

    /// Signals that were not used: offers for which there was no place, candidates too many, what cannot be
    /// read, and what came faster than it was sorted.
    pub fn refused(&self) -> u64 {
        let counts = &self.counts;
        counts.refused.load(Ordering::Relaxed) + counts.overflowed.load(Ordering::Relaxed)
    }

    /// Closes the streams of all peers.
    pub async fn close(mut self) {
        drop(self.stop.take());
        // An error means that it has ended.
        let _ = self.ended.changed().await;
    }
}

impl fmt::Debug for MediaStreamAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaStreamAcceptor")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Incoming {
    /// The twin that dials.
    pub fn source_twin_id(&self) -> &str {
        self.stream.as_ref().map_or("", MediaStream::target_twin_id)
    }

    /// The kinds of tracks that its offer has sections for, whichever way they go.
    pub fn offered(&self) -> &[TrackKind] {
        &self.offered
    }

    /// Takes the offer, sending these tracks, and every later one of the same twin.
    pub fn accept(mut self, tracks: impl IntoIterator<Item = LocalTrack>) -> MediaStream {
        let stream = self
            .stream
            .take()
            .expect("the stream is there until it is accepted or dropped");
        stream.core.set_tracks(tracks.into_iter().collect());
        self.decision.send_replace(Decision::Accepted);
        stream
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.stream.is_some() {
            self.decision.send_replace(Decision::None);
        }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("source", &self.source_twin_id())
            .field("offered", &self.offered)
            .finish_non_exhaustive()
    }
}

fn hub_error(target: &str, source: HubError) -> MediaError {
    MediaError::Hub {
        twin_id: shortened(target),
        source,
    }
}

fn wrong(target: &str, why: &'static str) -> MediaError {
    MediaError::Options {
        twin_id: shortened(target),
        why,
    }
}

fn check_names(target: &str, name: &str, own: &str) -> Result<(), MediaError> {
    check_name(name).map_err(|why| wrong("", why))?;
    check_twin(target, own).map_err(|why| wrong(target, why))
}

fn check_tracks(target: &str, options: &MediaStreamOptions) -> Result<(), MediaError> {
    let why = match options.direction {
        Direction::SendOnly if options.tracks.is_empty() => {
            "it is to send only, and has no track to send"
        }
        Direction::RecvOnly if !options.tracks.is_empty() => {
            "it has tracks to send, and is to receive only"
        }
        Direction::RecvOnly if options.kinds.is_empty() => {
            "it is to receive only, and `kinds` is empty"
        }
        _ if options.codecs.is_empty() => "its list of codecs is empty",
        _ => return Ok(()),
    };
    Err(wrong(target, why))
}

/// The kinds of a description's sections.
fn offered_kinds(offer: &Description) -> Vec<TrackKind> {
    let has = |kind: &TrackKind| match kind {
        TrackKind::Video => offer.has(SectionKind::Video),
        TrackKind::Audio => offer.has(SectionKind::Audio),
    };
    TrackKind::ALL.into_iter().filter(has).collect()
}

impl AcceptStreamsOptions {
    /// Says how many peers are taken at once.
    #[must_use]
    pub fn with_max_peers(mut self, max_peers: usize) -> Self {
        self.max_peers = max_peers;
        self
    }

    /// Says by when a peer must be connected.
    #[must_use]
    pub fn with_connect_limit(mut self, connect_limit: Duration) -> Self {
        self.connect_limit = connect_limit;
        self
    }
}
