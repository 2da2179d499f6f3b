//! The state that the handles of a stream share with its task. The task stores whether it is connected and which tracks come;
//! handles register handlers, and name the tracks that are sent. Packets come in on the WebRTC stack's task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::frames::FrameFeed;
use super::local_track::{LocalTrack, Resend};
use super::options::MediaStreamOptions;
use super::remote_track::{MediaPacket, RemoteTrack};
use crate::hub::handlers::{HandlerId, Handlers};
use crate::realtime::CloseReason;
use crate::realtime::attempt::{Attempt, EndReason};
use crate::realtime::rtp_track::TrackKind;

/// At most this many tracks of one connection are received.
const MAX_TRACKS: usize = 16;

/// The state of a media stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaState {
    /// There is no connection; one is made or waited for.
    Connecting,
    /// The connection is up.
    Connected,
    /// It was closed for good.
    Closed,
}

/// The state that handles share with the task.
pub(super) struct StreamShared {
    pub(super) twin_id: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) state: watch::Sender<MediaState>,
    /// True while frames come.
    pub(super) receiving: AtomicBool,
    pub(super) frames: FrameFeed,
    pub(super) tracks: Handlers<RemoteTrack>,
    pub(super) closes: Handlers<CloseReason>,
    /// The kinds of tracks of which packets have come over the connection that is up.
    pub(super) arrived: watch::Sender<Vec<TrackKind>>,
    /// Ends the task.
    pub(super) stop: CancellationToken,
    /// Why the last attempt failed.
    last_error: Mutex<&'static str>,
    peer_id: Mutex<Option<String>>,
    local: Mutex<LocalTracks>,
    remote: Mutex<RemoteTracks>,
    /// Notified when handles or new tracks give the task something to do.
    asked: Notify,
}

/// The tracks that are sent.
#[derive(Default)]
struct LocalTracks {
    tracks: Vec<LocalTrack>,
    /// True if they are no longer those that the connection was made with.
    changed: bool,
    /// The tracks that an attempt was described with.
    offered: Option<(Attempt, Vec<LocalTrack>)>,
    /// Sends again what the tracks of the connection keep.
    resends: Vec<Resend>,
}

/// The tracks that are received.
#[derive(Default)]
struct RemoteTracks {
    /// The tracks of the current connection.
    tracks: Vec<RemoteTrack>,
    /// The tracks that the handlers do not know yet.
    unreported: Vec<RemoteTrack>,
}

impl StreamShared {
    pub(super) fn new(
        twin_id: Arc<str>,
        options: &MediaStreamOptions,
        stop: CancellationToken,
    ) -> Self {
        Self {
            twin_id,
            name: options.name.as_str().into(),
            stop,
            state: watch::Sender::new(MediaState::Connecting),
            receiving: AtomicBool::new(false),
            frames: FrameFeed::new(),
            tracks: Handlers::new(),
            closes: Handlers::new(),
            arrived: watch::Sender::new(Vec::new()),
            last_error: Mutex::new("nothing was tried yet"),
            peer_id: Mutex::new(None),
            local: Mutex::new(LocalTracks {
                tracks: options.tracks.clone(),
                ..LocalTracks::default()
            }),
            remote: Mutex::default(),
            asked: Notify::new(),
        }
    }

    /// Waits until there is something for the task to do.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Wakes the task, since there is something for it to do.
    pub(super) fn ask(&self) {
        self.asked.notify_one();
    }

    pub(super) fn wants_frames(&self) -> bool {
        self.frames.is_wanted()
    }

    /// The tracks that are sent.
    pub(super) fn local_tracks(&self) -> Vec<LocalTrack> {
        self.local.lock().tracks.clone()
    }

    /// The tracks of the current connection.
    pub(super) fn remote_tracks(&self) -> Vec<RemoteTrack> {
        self.remote.lock().tracks.clone()
    }

    pub(super) fn last_error(&self) -> &'static str {
        *self.last_error.lock()
    }

    pub(super) fn peer_id(&self) -> Option<String> {
        self.peer_id.lock().clone()
    }

    /// Adds a track that is sent from the next description on.
    pub(super) fn add_track(&self, track: LocalTrack) {
        let mut local = self.local.lock();
        local.tracks.push(track);
        local.changed = local.offered.is_some();
        drop(local);
        self.ask();
    }

    /// Sets the tracks that are sent, before any connection was described.
    pub(super) fn set_tracks(&self, tracks: Vec<LocalTrack>) {
        self.local.lock().tracks = tracks;
    }

    /// True if the tracks have changed since the connection was described; it is true once for each change.
    pub(super) fn take_changed_tracks(&self) -> bool {
        std::mem::take(&mut self.local.lock().changed)
    }

    /// The tracks that an attempt is described with.
    pub(super) fn offer_tracks(&self, attempt: Attempt) -> Vec<LocalTrack> {
        let mut local = self.local.lock();
        let tracks = local.tracks.clone();
        local.offered = Some((attempt, tracks.clone()));
        local.changed = false;
        tracks
    }

    /// The tracks that an attempt was described with.
    pub(super) fn offered_tracks(&self, attempt: Attempt) -> Vec<LocalTrack> {
        match &self.local.lock().offered {
            Some((of, tracks)) if *of == attempt => tracks.clone(),
            _ => Vec::new(),
        }
    }

    /// Sets what the connection that is up can be sent again.
    pub(super) fn set_resends(&self, resends: Vec<Resend>) {
        self.local.lock().resends = resends;
    }

    /// The peer wants a keyframe. It gets again what its tracks keep, and the sources of the tracks are asked for one.
    pub(super) fn keyframe_wanted(&self) {
        let local = self.local.lock();
        for track in &local.tracks {
            track.want_keyframe();
        }
        for resend in &local.resends {
            resend.keyframe_wanted();
        }
    }

    /// Gives a packet of the current attempt to whoever reads its track.
    pub(super) fn packet(&self, attempt: Attempt, kind: TrackKind, ssrc: u32, packet: MediaPacket) {
        let mut remote = self.remote.lock();
        let known = remote.tracks.iter().find(|track| track.is(attempt, ssrc));
        match known {
            Some(track) => track.give(packet),
            // No peer sends that many tracks, so its packets are dropped.
            None if remote.tracks.len() >= MAX_TRACKS => {}
            None => {
                let track = RemoteTrack::new(kind, attempt, ssrc);
                remote.tracks.push(track.clone());
                // The packet is kept for the first reader, so that a handler of the track still gets it.
                track.give(packet);
                remote.unreported.push(track);
                self.ask();
            }
        }
    }

    /// Calls a handler with the tracks that are there, and with those that come.
    pub(super) fn on_track<F, R>(&self, mut handler: F) -> HandlerId
    where
        F: FnMut(RemoteTrack) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        // A track that comes at this moment may be among those that are there and among those that come.
        let mut seen: Vec<RemoteTrack> = Vec::new();
        let once = move |track: RemoteTrack| {
            seen.retain(|track| !track.is_ended());
            let is_new = !seen.iter().any(|other| other.is_same(&track));
            let handled = is_new.then(|| {
                seen.push(track.clone());
                handler(track)
            });
            async move {
                if let Some(handled) = handled {
                    handled.await;
                }
            }
        };
        self.tracks
            .add_after(|| self.remote_tracks(), "tracks", once)
    }

    /// Gives the handlers the tracks that have come.
    pub(super) async fn tell_tracks(&self) {
        let unreported = std::mem::take(&mut self.remote.lock().unreported);
        for track in unreported {
            let kind = track.kind();
            self.tracks.give(track).await;
            self.arrived.send_if_modified(|kinds| {
                let is_new = !kinds.contains(&kind);
                if is_new {
                    kinds.push(kind);
                }
                is_new
            });
        }
    }

    /// Notes that the connection is up.
    pub(super) fn connected(&self, peer_id: Option<&str>) {
        *self.peer_id.lock() = peer_id.map(str::to_owned);
        self.state.send_replace(MediaState::Connected);
    }

    /// Notes that an attempt or its connection is over. Another one follows.
    pub(super) async fn lost(&self, reason: EndReason) {
        *self.last_error.lock() = reason.as_str();
        let was_up = self.disconnected(MediaState::Connecting);
        if was_up {
            self.closes.give(reason.into()).await;
        }
    }

    /// Closes the stream for good. `ended` is why its connection is over, or none if it was closed here.
    pub(super) async fn closed(&self, ended: Option<EndReason>) {
        let was_up = self.disconnected(MediaState::Closed);
        if was_up {
            let reason = ended.map_or(CloseReason::Here, CloseReason::from);
            self.closes.give(reason).await;
        }
        self.end();
    }

    /// Ends everything that handles wait for.
    pub(super) fn end(&self) {
        self.disconnected(MediaState::Closed);
        self.frames.close();
        self.tracks.close();
        self.closes.close();
    }

    fn disconnected(&self, state: MediaState) -> bool {
        for track in std::mem::take(&mut *self.remote.lock()).tracks {
            track.end();
        }
        self.receiving.store(false, Ordering::Relaxed);
        self.arrived.send_replace(Vec::new());
        let before = self.state.send_replace(state);
        before == MediaState::Connected
    }
}
