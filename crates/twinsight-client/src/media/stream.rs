//! `MediaStream`, the handle of a media stream: an app's handlers and tracks come in, the peer's frames and tracks go out. The
//! app's own tasks call it. Connections come and go while it stays, and its handlers get the frames and tracks of the next one.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use tokio_util::sync::DropGuard;

use super::frames::Frames;
use super::local_track::LocalTrack;
use super::remote_track::RemoteTrack;
use super::shared::{MediaState, StreamShared};
use crate::hub::handlers::{HandlerId, Items};
use crate::realtime::CloseReason;
use crate::realtime::dial::Dialled;
use twinsight_media::picture::Frame;

/// The tracks of a stream's peer connection.
#[derive(Debug, Clone)]
pub struct StreamTracks {
    /// The tracks that are sent.
    pub local: Vec<LocalTrack>,
    /// The tracks that come over the connection that is up.
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
    pub(super) shared: Arc<StreamShared>,
    /// Stops the stream's task when the last handle is dropped.
    handles: Arc<DropGuard>,
}

/// A stream for its own task, which must not keep it open.
pub(super) struct WeakMediaStream {
    shared: Arc<StreamShared>,
    handles: Weak<DropGuard>,
}

impl WeakMediaStream {
    pub(super) fn upgrade(&self) -> Option<MediaStream> {
        Some(MediaStream {
            shared: Arc::clone(&self.shared),
            handles: self.handles.upgrade()?,
        })
    }
}

impl Dialled for MediaStream {
    async fn connected(&self) -> bool {
        Self::connected(self).await
    }

    fn last_error(&self) -> &'static str {
        self.shared.last_error()
    }
}

impl MediaStream {
    /// A stream without a task. Dropping the last handle stops the task, as [`close`](Self::close) does.
    pub(super) fn new(shared: Arc<StreamShared>) -> Self {
        let handles = Arc::new(shared.stop.clone().drop_guard());
        Self { shared, handles }
    }

    pub(super) fn downgrade(&self) -> WeakMediaStream {
        WeakMediaStream {
            shared: Arc::clone(&self.shared),
            handles: Arc::downgrade(&self.handles),
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
            local: self.shared.local_tracks(),
            remote: self.shared.remote_tracks(),
        }
    }

    /// The tracks that come over the connection that is up, in the order in which their first packets came.
    pub fn tracks(&self) -> Vec<RemoteTrack> {
        self.shared.remote_tracks()
    }

    /// Adds a track that is sent. Before the first connection the track simply becomes part of it. Later the connection is made
    /// anew, since the official clients accept no second offer over one that is up; media pauses meanwhile. A stream that was
    /// awaited closes its connection, and the peer dials again. A stream that an acceptor handed over sends the acceptor's tracks
    /// and no others.
    ///
    /// ```no_run
    /// # use twinsight_client::media::{LocalTrack, MediaStream};
    /// # fn example(stream: MediaStream) {
    /// stream.add_track(LocalTrack::audio("microphone"));
    /// # }
    /// ```
    pub fn add_track(&self, track: LocalTrack) {
        self.shared.add_track(track);
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
        // Each call has a task of its own, because a handler may read its track as long as that lives.
        self.shared.on_track(move |track| {
            let handled = handler(track);
            async move {
                tokio::spawn(handled);
            }
        })
    }

    /// Takes a handler of tracks off. False if it is not registered.
    pub fn off_track(&self, handler: HandlerId) -> bool {
        self.shared.tracks.remove(handler)
    }

    /// Calls a handler with the freshest frame whenever it is ready for one: of the frames that come while it runs, only the last
    /// is kept. The video is decoded from the first handler on. The handler runs on a task of its own.
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
        let id = self.shared.frames.on_frame(handler);
        self.shared.ask();
        id
    }

    /// Takes a handler of frames off. False if it is not registered.
    pub fn off_frame(&self, handler: HandlerId) -> bool {
        self.shared.frames.off_frame(handler)
    }

    /// The frames from now on, as a stream: [`Frames::recv`].
    pub fn frames(&self) -> Frames {
        let frames = self.shared.frames.frames();
        self.shared.ask();
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
        self.shared.closes.add("the end of a stream", handler)
    }

    /// Takes a handler of ends off. False if it is not registered.
    pub fn off_close(&self, handler: HandlerId) -> bool {
        self.shared.closes.remove(handler)
    }

    /// The ends of connections, as a stream.
    pub fn closes(&self) -> Items<CloseReason> {
        self.shared.closes.stream()
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
        self.shared.stop.cancel();
        // An error would mean that the state is gone, and this handle holds it.
        let _ = self
            .shared
            .state
            .subscribe()
            .wait_for(|state| *state == MediaState::Closed)
            .await;
    }

    /// True while frames come: the last is younger than 5 s. Packets count where nobody wants frames. False
    /// where no video is received at all.
    pub fn is_receiving_frames(&self) -> bool {
        self.shared.receiving.load(Ordering::Relaxed)
    }

    /// True while there is no connection, and one is being made or waited for.
    pub fn is_connecting(&self) -> bool {
        self.state() == MediaState::Connecting
    }

    /// Whether it is connecting, connected or closed.
    pub fn state(&self) -> MediaState {
        *self.shared.state.borrow()
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
        let mut state = self.shared.state.subscribe();
        let settled = state
            .wait_for(|state| *state != MediaState::Connecting)
            .await;
        settled.is_ok_and(|state| *state == MediaState::Connected)
    }

    /// The twin at the other end.
    pub fn target_twin_id(&self) -> &str {
        &self.shared.twin_id
    }

    /// The stream's name.
    pub fn channel_name(&self) -> &str {
        &self.shared.name
    }

    /// The id under which the initiator keeps the stream, once it is known.
    pub fn peer_id(&self) -> Option<String> {
        self.shared.peer_id()
    }
}

impl fmt::Debug for MediaStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaStream")
            .field("target", &self.shared.twin_id)
            .field("name", &self.shared.name)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
