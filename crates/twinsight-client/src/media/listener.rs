//! The ways in which media streams are made: a name and options come in, a [`MediaStream`] goes out. It is dialled
//! ([`Instance::get_media_stream`]), awaited from one twin ([`Instance::on_media_stream`]), or accepted from whoever dials
//! ([`Instance::accept_media_streams`]). The caller's own task runs this; each stream then has a task of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::inbound_router::InboundRouter;
use super::incoming::{Ask, Incoming, content};
use super::local_track::LocalTrack;
use super::options::{MediaError, MediaStreamOptions};
use super::shared::StreamShared;
use super::stream::MediaStream;
use super::stream_state::StreamStateMachine;
use super::stream_task::{StreamTask, StreamTaskParts};
use super::worker::DecodeConfig;
use crate::clock::SystemClock;
use crate::hub::Instance;
use crate::hub::client::HubClient;
use crate::realtime::acceptor::{Acceptor, Serve};
use crate::realtime::attempt::Role;
use crate::realtime::deadline::deadline_of;
use crate::realtime::description_task::ContentOf;
use crate::realtime::dial::dial;
use crate::realtime::link::Link;
use crate::realtime::link_task::stopped;
use crate::realtime::names::shortened;
use crate::realtime::rtp_track::TrackKind;
use crate::stream_id::StreamId;
use crate::telemetry::CameraState;
use twinsight_media::decode::decoder::DecoderKind;
use twinsight_media::decode::keyframes::KeyframeBudget;

/// Whom an acceptor takes, and how many at once.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AcceptStreamsOptions {
    /// The options of each stream; every viewer gets its tracks. Its `allow_unsigned` means nothing here, since everybody is
    /// accepted.
    pub stream: MediaStreamOptions,
    /// How many peers may be connected at once; the offers of further ones are left unanswered and counted.
    pub max_peers: usize,
    /// A peer that is not connected within this time loses its place. So does a peer from which nothing comes for 20 s, not even
    /// a report of what it receives.
    pub connect_limit: Duration,
}

impl AcceptStreamsOptions {
    /// The options that send these tracks to whoever dials.
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

/// Accepts media streams for as long as it lives.
pub type MediaStreamAcceptor = Acceptor;

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
        options.check_tracks(target)?;
        let (limit, kinds) = (options.connect_limit, options.received());
        let deadline = deadline_of(limit);
        let open = || self.media_stream(target, &options, Role::Initiator, None);
        let stream = dial(self, target, &options.request(), deadline, open).await?;
        let mut arrived = stream.shared.arrived.subscribe();
        let all = arrived.wait_for(|arrived| kinds.iter().all(|kind| arrived.contains(kind)));
        if tokio::time::timeout_at(deadline, all).await.is_ok() {
            return Ok(stream);
        }
        let arrived = stream.shared.arrived.borrow().clone();
        let missing = kinds.iter().filter(|kind| !arrived.contains(kind));
        Err(MediaError::MissingMediaTrack {
            twin_id: shortened(target),
            name: options.name,
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
        options.check_tracks(target)?;
        self.media_stream(target, &options, Role::Initiator, None)
    }

    /// Awaits the stream that one twin dials, and asks the handler about its offer (in the legacy dialect,
    /// which does not say who dials, about anybody's in this twin's room). Once it was accepted the twin may come
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
        let ask: Ask = Box::new(move |incoming| Box::pin(handler(incoming)));
        let stream = self.media_stream(source, &options, Role::Responder, Some(ask))?;
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
        options.check_tracks("")?;
        let link_options = options.request().accepting(self, connect_limit)?;
        let hub = self.client().clone();
        let handler = Arc::new(Mutex::new(move |stream| {
            let handled = handler(stream);
            tokio::spawn(handled);
        }));
        let serve: Serve = Box::new(move |slot| {
            let stop = slot.stop.clone();
            let shared = StreamShared::new(slot.target(), &options, stop.clone());
            let new = NewStream::new(shared, &options, Role::Responder, &hub, None);
            let link = slot.link(new.current_attempt, new.content);
            let (handed_over, handler) = (new.stream.clone(), Arc::clone(&handler));
            tokio::spawn(async move {
                if handed_over.connected().await {
                    let mut handler = handler.lock();
                    handler(handed_over);
                }
            });
            Box::pin(async move {
                new.task.run(link, stop.cancelled()).await;
                // The stream is open as long as it is served, whether or not the handler keeps its handle.
                drop(new.stream);
            })
        });
        Ok(Acceptor::start(self, link_options, max_peers, serve))
    }

    /// Makes a stream and starts its task.
    fn media_stream(
        &self,
        target: &str,
        options: &MediaStreamOptions,
        role: Role,
        ask: Option<Ask>,
    ) -> Result<MediaStream, MediaError> {
        let link_options = options.request().link(self, target, role)?;
        let hub = self.client();
        let stop = CancellationToken::new();
        let shared = StreamShared::new(target.into(), options, stop.clone());
        let new = NewStream::new(shared, options, role, hub, ask);
        let link = Link::new(hub.clone(), link_options, new.current_attempt, new.content);
        tokio::spawn(new.task.run(link, stopped(stop, self.ownership_lost())));
        Ok(new.stream)
    }
}

/// A stream whose task does not run yet, with what its link is made of.
struct NewStream {
    stream: MediaStream,
    task: StreamTask,
    current_attempt: Arc<AtomicU32>,
    content: ContentOf,
}

impl NewStream {
    fn new(
        shared: StreamShared,
        options: &MediaStreamOptions,
        role: Role,
        hub: &HubClient,
        ask: Option<Ask>,
    ) -> Self {
        let shared = Arc::new(shared);
        let id = StreamId {
            twin_id: Arc::clone(&shared.twin_id),
            stream: Arc::clone(&shared.name),
        };
        let current_attempt = Arc::new(AtomicU32::new(0));
        let router = Arc::new(InboundRouter::new(
            Arc::clone(&current_attempt),
            Some(Arc::clone(&shared)),
            hub.shared_metrics(),
            tracing::info_span!("media", twin = %id.twin_id, stream = %id.stream),
        ));
        let stream = MediaStream::new(Arc::clone(&shared));
        let content = content(options, &stream, Arc::clone(&router), ask);
        let receives_video = options.received().contains(&TrackKind::Video);
        let frames = Arc::clone(&shared);
        let task = StreamTask::new(StreamTaskParts {
            state_machine: receives_video.then(|| StreamStateMachine::new(Instant::now(), role)),
            router,
            keyframes: Arc::new(KeyframeBudget::new(Instant::now())),
            metrics: None,
            decode: DecodeConfig::new(Arc::default(), Arc::new(SystemClock), DecoderKind::Software),
            id,
            on_frame: Box::new(move |frame| frames.frames.give(frame)),
            on_state: Box::new(move |state| {
                let receiving = state.state == CameraState::Receiving;
                shared.receiving.store(receiving, Ordering::Relaxed);
            }),
        });
        Self {
            stream,
            task,
            current_attempt,
            content,
        }
    }
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
