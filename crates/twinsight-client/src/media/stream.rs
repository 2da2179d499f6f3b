//! `MediaStream`: tracks to and from one peer, for as long as a handle lives. Connections come and go beneath
//! it: handlers stay, and get the frames and tracks of the next one.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::core::{Core, MediaState};
use super::frames::Frames;
use super::local_track::LocalTrack;
use super::remote_track::RemoteTrack;
use crate::dialect::Dialect;
use crate::hub::HubError;
use crate::hub::handlers::{HandlerId, Items};
use crate::realtime::CloseReason;
use crate::realtime::data_channel::refused_servers;
use crate::realtime::ice::IceSettings;
use crate::realtime::rtp_track::TrackKind;
use twinsight_media::codec::Codec;
use twinsight_media::picture::Frame;

/// Which way media goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// From here only.
    SendOnly,
    /// To here only.
    #[default]
    RecvOnly,
    /// Both ways over one connection.
    SendRecv,
}

impl Direction {
    pub(super) fn receives(self) -> bool {
        self != Self::SendOnly
    }
}

/// How a stream is called and connected, and what it carries.
///
/// A name alone is enough to receive video, `"front"`, and `None` is the name `default`, as in the official clients.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MediaStreamOptions {
    /// Its name, the same on both sides. Several streams to one peer differ by it, and none is another one's
    /// plus `-…`: the official clients would take one for the other.
    pub name: String,
    /// Which way media goes. What is sent are `tracks`.
    pub direction: Direction,
    /// What is sent.
    pub tracks: Vec<LocalTrack>,
    /// Kinds that are received, if the direction has it. [`Instance::get_media_stream`](crate::hub::Instance::get_media_stream) waits for
    /// the first packet of each.
    pub kinds: Vec<TrackKind>,
    /// Video codecs that are taken, the preferred first. Video is sent as H.264.
    pub codecs: Vec<Codec>,
    /// The other side's client.
    pub dialect: Dialect,
    /// As responder: take offers too that are signed with the own twin, as those of web clients and of npm
    /// clients before 6.15 are. They say nothing about who sends them.
    pub allow_unsigned: bool,
    /// How connections find their way; `None`: all ways, or only relays if the operator named one
    /// (`PHYSTACK_TURN_URL`).
    pub ice: Option<IceSettings>,
    /// How long the first connection, and the first packets of its `kinds`, may take for those that wait.
    pub connect_limit: Duration,
    /// Log the path of every connection: the pair of candidates.
    pub verbose: bool,
}

impl Default for MediaStreamOptions {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            direction: Direction::RecvOnly,
            tracks: Vec::new(),
            kinds: vec![TrackKind::Video],
            codecs: Codec::built_in().to_vec(),
            dialect: Dialect::Current,
            allow_unsigned: false,
            ice: None,
            connect_limit: Duration::from_secs(15),
            verbose: false,
        }
    }
}

impl MediaStreamOptions {
    /// For a stream that only sends these tracks.
    pub fn sending(tracks: impl IntoIterator<Item = LocalTrack>) -> Self {
        Self {
            direction: Direction::SendOnly,
            tracks: tracks.into_iter().collect(),
            ..Self::default()
        }
    }

    /// For a stream that sends these tracks and receives video over the same connection.
    pub fn two_way(tracks: impl IntoIterator<Item = LocalTrack>) -> Self {
        Self {
            direction: Direction::SendRecv,
            ..Self::sending(tracks)
        }
    }

    /// The same under another name.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..self
        }
    }

    /// The kinds that come.
    pub(super) fn received(&self) -> Vec<TrackKind> {
        if self.direction.receives() {
            self.kinds.clone()
        } else {
            Vec::new()
        }
    }
}

impl From<&str> for MediaStreamOptions {
    fn from(name: &str) -> Self {
        Self::default().named(name)
    }
}

impl From<String> for MediaStreamOptions {
    fn from(name: String) -> Self {
        Self::default().named(name)
    }
}

/// Why there is no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// The other side cannot be dialled or awaited, or the options contradict each other.
    #[error("no media stream with `{twin_id}` can be made: {why}")]
    Options {
        /// The twin that was given, shortened.
        twin_id: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The hub is in the way.
    #[error("no media stream with `{twin_id}` can be made: {source}")]
    Hub {
        /// The twin at the other end.
        twin_id: String,
        /// What the hub said.
        source: HubError,
    },
    /// Only relays may be used, and there is none that can be.
    #[error(
        "no media stream with `{twin_id}` can be made: only relays are allowed, and no server offers TURN over UDP{}: set PHYSTACK_TURN_URL to `turn:HOST:3478`",
        refused_servers(refused)
    )]
    NoRelay {
        /// The twin at the other end.
        twin_id: String,
        /// Servers that the stack cannot use: TURN over TCP or TLS.
        refused: Vec<String>,
    },
    /// It was not connected in time. Nothing is tried any more.
    #[error(
        "the media stream `{name}` with `{twin_id}` was not connected within {limit:?} ({reason}): see that the twin's app runs and has this stream by this name"
    )]
    NotConnected {
        /// The twin at the other end.
        twin_id: String,
        /// The stream's name.
        name: String,
        /// How long it was waited for.
        limit: Duration,
        /// Why the last attempt failed.
        reason: &'static str,
    },
    /// It was connected, and no packet of these kinds came in time. Nothing is tried any more.
    #[error(
        "the media stream `{name}` with `{twin_id}` is connected, and no {} came within {limit:?}: see that the twin's app sends it, or leave it out of `kinds`",
        listed(missing)
    )]
    MissingMediaTrack {
        /// The twin at the other end.
        twin_id: String,
        /// The stream's name.
        name: String,
        /// What did not come.
        missing: Vec<TrackKind>,
        /// How long it was waited for.
        limit: Duration,
    },
}

/// The tracks of a stream's peer connection.
#[derive(Debug, Clone)]
pub struct StreamTracks {
    /// What is sent.
    pub local: Vec<LocalTrack>,
    /// What comes over the connection that is up.
    pub remote: Vec<RemoteTrack>,
}

/// Tracks to and from one peer.
///
/// Handles are cheap to clone. The last one to be dropped closes the stream, as [`MediaStream::close`] does; a
/// handler that holds one keeps it open until then.
///
/// ```no_run
/// # use twinsight_client::hub::{HubClient, HubOptions};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = HubClient::connect(HubOptions::from_env()?).await?;
/// let stream = client.instance().get_media_stream("camera-1", "default").await?;
/// stream.on_frame(|frame| async move { println!("{}x{}", frame.width(), frame.height()) });
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MediaStream {
    pub(super) core: Arc<Core>,
    life: Arc<Handles>,
}

/// Ends the stream with the last handle.
struct Handles {
    stop: Mutex<Option<oneshot::Sender<()>>>,
}

/// A stream that ends when its handles are gone.
pub(super) struct WeakMediaStream {
    core: Arc<Core>,
    life: Weak<Handles>,
}

impl WeakMediaStream {
    pub(super) fn upgrade(&self) -> Option<MediaStream> {
        Some(MediaStream {
            core: Arc::clone(&self.core),
            life: self.life.upgrade()?,
        })
    }
}

impl MediaStream {
    /// A stream without a task, and what tells the task to end.
    pub(super) fn new(core: Arc<Core>) -> (Self, oneshot::Receiver<()>) {
        let (stop, stopped) = oneshot::channel();
        let life = Arc::new(Handles {
            stop: Mutex::new(Some(stop)),
        });
        (Self { core, life }, stopped)
    }

    pub(super) fn downgrade(&self) -> WeakMediaStream {
        WeakMediaStream {
            core: Arc::clone(&self.core),
            life: Arc::downgrade(&self.life),
        }
    }

    /// The tracks of the peer connection, both ways: the guide's `getStream`.
    ///
    /// ```no_run
    /// # fn example(stream: twinsight_client::media::MediaStream) {
    /// let tracks = stream.stream();
    /// println!("{} sent, {} received", tracks.local.len(), tracks.remote.len());
    /// # }
    /// ```
    pub fn stream(&self) -> StreamTracks {
        StreamTracks {
            local: self.core.local_tracks(),
            remote: self.core.remote_tracks(),
        }
    }

    /// The tracks that come over the connection that is up, in the order in which their first packets came.
    pub fn tracks(&self) -> Vec<RemoteTrack> {
        self.core.remote_tracks()
    }

    /// Sends another track too. Before the first connection it is simply part of it; afterwards a connection
    /// is made anew, since the official clients take no second offer over one that is up: media pauses for
    /// it. One who answers lets go of the connection, and the peer dials again. A stream that an acceptor handed
    /// over has the acceptor's tracks, and no others.
    ///
    /// ```no_run
    /// # use twinsight_client::media::{LocalTrack, MediaStream};
    /// # fn example(stream: MediaStream) {
    /// stream.add_track(LocalTrack::audio("microphone"));
    /// # }
    /// ```
    pub fn add_track(&self, track: LocalTrack) {
        self.core.add_track(track);
    }

    /// Calls a handler with each track that comes: those that are there already first, and those of the next
    /// connections. Runs on a task of its own; see the guide on slow handlers.
    ///
    /// ```no_run
    /// # use twinsight_client::media::{MediaStream, TrackKind};
    /// # fn example(stream: MediaStream) {
    /// let id = stream.on_track(|track| async move {
    ///     if track.kind() == TrackKind::Audio {
    ///         let mut packets = track.packets();
    ///         while let Some(packet) = packets.recv().await {
    ///             println!("{} bytes of Opus", packet.payload.len());
    ///         }
    ///     }
    /// });
    /// stream.off_track(id);
    /// # }
    /// ```
    pub fn on_track<F, R>(&self, mut handler: F) -> HandlerId
    where
        F: FnMut(RemoteTrack) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        // A handler may stay with its track for as long as that lives: each call has a task.
        self.core.on_track(move |track| {
            let handled = handler(track);
            async move {
                tokio::spawn(handled);
            }
        })
    }

    /// Takes a handler of tracks off. False if it is not registered.
    pub fn off_track(&self, handler: HandlerId) -> bool {
        self.core.tracks.remove(handler)
    }

    /// Calls a handler with the freshest frame whenever it is ready for one: what comes while it runs is left
    /// out but for the last. The video is decoded from the first handler on. Runs on a task of its own.
    ///
    /// ```no_run
    /// # async fn example(stream: twinsight_client::media::MediaStream, instance: twinsight_client::hub::Instance) {
    /// use serde_json::json;
    /// let id = stream.on_frame(move |frame| {
    ///     let instance = instance.clone();
    ///     async move {
    ///         let objects = 0; // what your model finds in `frame.to_ndarray()`
    ///         let _ = instance.emit("detections", json!({ "objects": objects })).await;
    ///     }
    /// });
    /// stream.off_frame(id);
    /// # }
    /// ```
    pub fn on_frame<F, R>(&self, handler: F) -> HandlerId
    where
        F: FnMut(Frame) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let id = self.core.frames.on_frame(handler);
        self.core.ask();
        id
    }

    /// Takes a handler of frames off. False if it is not registered.
    pub fn off_frame(&self, handler: HandlerId) -> bool {
        self.core.frames.off_frame(handler)
    }

    /// The frames from now on, as a stream: [`Frames::recv`].
    pub fn frames(&self) -> Frames {
        let frames = self.core.frames.frames();
        self.core.ask();
        frames
    }

    /// Calls a handler with the reason whenever a connection that was up is over. Another one follows unless the
    /// stream was closed, or its peer was one of an acceptor's.
    ///
    /// ```no_run
    /// # fn example(stream: twinsight_client::media::MediaStream) {
    /// let id = stream.on_close(|reason| async move { println!("over: {reason:?}") });
    /// stream.off_close(id);
    /// # }
    /// ```
    pub fn on_close<F, R>(&self, handler: F) -> HandlerId
    where
        F: FnMut(CloseReason) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.core.closes.add("the end of a stream", handler)
    }

    /// Takes a handler of ends off. False if it is not registered.
    pub fn off_close(&self, handler: HandlerId) -> bool {
        self.core.closes.remove(handler)
    }

    /// The ends of connections, as a stream.
    pub fn closes(&self) -> Items<CloseReason> {
        self.core.closes.stream()
    }

    /// Closes the stream for good and says so to the other side. Returns when that is done.
    ///
    /// ```no_run
    /// # async fn example(stream: twinsight_client::media::MediaStream) {
    /// stream.close().await;
    /// assert!(!stream.is_receiving_frames());
    /// # }
    /// ```
    pub async fn close(&self) {
        let stop = &self.life.stop;
        drop(stop.lock().take());
        // An error would mean that the core is gone, and this holds it.
        let _ = self
            .core
            .state
            .subscribe()
            .wait_for(|state| *state == MediaState::Closed)
            .await;
    }

    /// True while frames come: the last is younger than 5 s. Packets count where nobody wants frames. False
    /// where no video is received at all.
    pub fn is_receiving_frames(&self) -> bool {
        self.core.receiving.load(Ordering::Relaxed)
    }

    /// True while there is no connection and one is made or waited for.
    pub fn is_connecting(&self) -> bool {
        self.state() == MediaState::Connecting
    }

    /// Where it stands.
    pub fn state(&self) -> MediaState {
        *self.core.state.borrow()
    }

    /// Waits until it is connected; at once if it is.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// let stream = client.instance().open_media_stream("camera-1", "default")?;
    /// if stream.connected().await {
    ///     println!("connected with {}", stream.target_twin_id());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// False once it was closed for good.
    pub async fn connected(&self) -> bool {
        let mut state = self.core.state.subscribe();
        let settled = state
            .wait_for(|state| *state != MediaState::Connecting)
            .await;
        settled.is_ok_and(|state| *state == MediaState::Connected)
    }

    /// The twin at the other end.
    pub fn target_twin_id(&self) -> &str {
        &self.core.twin_id
    }

    /// The stream's name.
    pub fn channel_name(&self) -> &str {
        &self.core.name
    }

    /// The id of the connection that the initiator made up, once known.
    pub fn peer_id(&self) -> Option<String> {
        self.core.peer_id()
    }
}

impl fmt::Debug for MediaStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaStream")
            .field("target", &self.core.twin_id)
            .field("name", &self.core.name)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

fn listed(kinds: &[TrackKind]) -> String {
    let names: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
    names.join(" and no ")
}

impl From<Option<&str>> for MediaStreamOptions {
    fn from(name: Option<&str>) -> Self {
        name.map_or_else(Self::default, Self::from)
    }
}

impl MediaStreamOptions {
    /// Says which way media goes.
    #[must_use]
    pub fn with_direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// Says what is sent.
    #[must_use]
    pub fn with_tracks(mut self, tracks: Vec<LocalTrack>) -> Self {
        self.tracks = tracks;
        self
    }

    /// Says which kinds are received.
    #[must_use]
    pub fn with_kinds(mut self, kinds: Vec<TrackKind>) -> Self {
        self.kinds = kinds;
        self
    }

    /// Says which video codecs are taken, the preferred first.
    #[must_use]
    pub fn with_codecs(mut self, codecs: Vec<Codec>) -> Self {
        self.codecs = codecs;
        self
    }

    /// Says which client the other side has.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Takes offers too that are signed with the own twin.
    #[must_use]
    pub fn with_allow_unsigned(mut self, allow_unsigned: bool) -> Self {
        self.allow_unsigned = allow_unsigned;
        self
    }

    /// Says how connections find their way.
    #[must_use]
    pub fn with_ice(mut self, ice: IceSettings) -> Self {
        self.ice = Some(ice);
        self
    }

    /// Says how long the first connection may take.
    #[must_use]
    pub fn with_connect_limit(mut self, connect_limit: Duration) -> Self {
        self.connect_limit = connect_limit;
        self
    }

    /// Logs the path of every connection.
    #[must_use]
    pub fn with_verbose(mut self, verbose: bool) -> Self {
        self.verbose = verbose;
        self
    }
}
