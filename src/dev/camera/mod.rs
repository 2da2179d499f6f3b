//! A camera twin for development: sends a clip as it is, a picture or a test pattern, to every viewer
//! that dials it, or dials one node itself. Each viewer has its own place in it, and a keyframe request
//! is answered with the next frame. It outlives the hub and its viewers: it goes on where they come back.

pub mod encode;
pub mod pattern;
mod player;
mod source;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use self::player::{Parting, Session};
pub use self::source::CameraSource;
use self::source::Feed;
use twinsight_client::backoff::Backoff;
use twinsight_client::dialect::Dialect;
use twinsight_client::hub::{HubClient, HubError, HubStatus};
use twinsight_client::realtime::ice::IceSettings;
use twinsight_client::realtime::names::shortened;
use twinsight_client::realtime::negotiation::{ANSWER_LIMIT, CONNECT_LIMIT};
use twinsight_client::realtime::peer::Peer;
use twinsight_client::realtime::rtp_tap::{Inbound, RtpSink};
use twinsight_client::realtime::rtp_track::{TrackKind, TrackSender};
use twinsight_client::realtime::sdp::Description;
use twinsight_client::realtime::signal::{
    Candidate, ChannelKind, Signal, SignalEnvelope, SignalNames, mint_peer_id,
};
use twinsight_client::realtime::warnings::allowed;

/// Viewers at once, as with the official clients' fan-out.
const MAX_VIEWERS: usize = 8;

/// A viewer that has not connected by then is given up.
const VIEWER_CONNECT_LIMIT: Duration = Duration::from_secs(45);

/// The slowest camera, with a frame in a quarter of an hour, and the fastest.
const MIN_FPS: f64 = 0.001;
const MAX_FPS: f64 = 240.0;

/// Signals of one viewer that wait.
const MAILBOX: usize = 64;

/// A node that was lost is dialled again after this, and after ever longer up to the second.
const REDIAL_FIRST: Duration = Duration::from_secs(1);
const REDIAL_MAX: Duration = Duration::from_secs(5);

/// What a camera twin sends, and to whom.
#[derive(Debug, Clone)]
pub struct CameraOptions {
    /// The stream's name.
    pub stream: String,
    /// The node to dial; none: wait for viewers.
    pub dial: Option<String>,
    /// Frames a second.
    pub fps: f64,
    /// Access unit of a clip to begin with, so that several cameras show different scenes.
    pub start: usize,
    /// How connections find their way.
    pub ice: IceSettings,
}

/// Sends until the hub refuses the camera, or the future is dropped. The hub may be away at the start
/// and later.
///
/// # Errors
/// When the hub refuses the camera's twin, or the client was closed.
pub async fn run(
    hub: HubClient,
    source: impl Into<CameraSource>,
    options: CameraOptions,
) -> Result<()> {
    send(hub, source.into(), options).await
}

async fn send(hub: HubClient, source: CameraSource, options: CameraOptions) -> Result<()> {
    check_fps(options.fps)?;
    let own = own_twin(&hub).await?;
    let refused = hub.clone();
    let camera = Camera {
        hub,
        source,
        options,
        own,
    };
    let work = async {
        match camera.options.dial.clone() {
            Some(node) => camera.dial(&node).await,
            None => camera.answer().await,
        }
    };
    tokio::select! {
        result = work => result,
        error = refusal(refused) => Err(error.into()),
    }
}

/// Refuses what no camera sends.
///
/// # Errors
/// For anything but a number from 0.001 to 240.
pub fn check_fps(fps: f64) -> Result<()> {
    if !(MIN_FPS..=MAX_FPS).contains(&fps) {
        bail!("a camera sends {MIN_FPS} to {MAX_FPS} frames a second");
    }
    Ok(())
}

/// The twin that the hub knows this camera by, as soon as the hub is joined.
async fn own_twin(hub: &HubClient) -> Result<String, HubError> {
    loop {
        hub.joined().await?;
        if let HubStatus::Joined { twin_id } = hub.status().borrow().clone() {
            return Ok(twin_id);
        }
    }
}

/// Waits for the hub's refusal, which may come at any reconnect.
async fn refusal(hub: HubClient) -> HubError {
    let mut status = hub.status();
    let refused = status
        .wait_for(|status| matches!(status, HubStatus::Refused { .. }))
        .await;
    match refused.as_deref() {
        Ok(HubStatus::Refused { reason }) => HubError::Refused {
            reason: reason.clone(),
        },
        _ => HubError::Closed,
    }
}

/// One camera twin.
#[derive(Clone)]
struct Camera {
    hub: HubClient,
    source: CameraSource,
    options: CameraOptions,
    own: String,
}

/// A viewer that is being served: where its signals go.
struct Viewer {
    signals: mpsc::Sender<SignalEnvelope>,
    task: tokio::task::AbortHandle,
    ufrag: String,
}

impl Camera {
    /// The fan-out: an answer and a track of its own for each viewer, told apart by `peerId`.
    async fn answer(self) -> Result<()> {
        let names = self.names_to(&self.own);
        let filter = names.clone();
        let mut messages = self
            .hub
            .messages(MAILBOX, move |message| filter.matches(&message.data));
        let mut viewers: HashMap<String, Viewer> = HashMap::new();
        let mut tasks = JoinSet::new();
        while let Some(message) = messages.recv().await {
            while tasks.try_join_next().is_some() {}
            viewers.retain(|_, viewer| !viewer.task.is_finished());
            let Some(Ok(envelope)) = names.parse(&message.data) else {
                continue;
            };
            let key = envelope
                .peer_id
                .clone()
                .unwrap_or_else(|| message.source_twin_id.clone());
            match &envelope.signal {
                Signal::Offer { sdp } => {
                    let ufrag = sdp.ice_ufrag().to_owned();
                    if let Some(viewer) = viewers.get(&key) {
                        if viewer.ufrag == ufrag {
                            continue;
                        }
                        // A new attempt of the same viewer replaces its old one.
                        viewer.task.abort();
                    } else if viewers.len() >= MAX_VIEWERS {
                        if let Some(suppressed) = allowed("too many viewers") {
                            tracing::warn!(
                                viewer = shortened(&message.source_twin_id),
                                suppressed,
                                "too many viewers: an offer is left unanswered"
                            );
                        }
                        continue;
                    }
                    let (signals, mailbox) = mpsc::channel(MAILBOX);
                    let (camera, room, peer_id) = (
                        self.clone(),
                        message.source_twin_id.clone(),
                        envelope.peer_id.clone(),
                    );
                    let offer = sdp.clone();
                    let task = tasks.spawn(async move {
                        match camera.serve(&room, peer_id, offer, mailbox).await {
                            Ok(parting) => {
                                if let Some(suppressed) = allowed("a viewer is gone") {
                                    let viewer = shortened(&room);
                                    tracing::info!(
                                        viewer,
                                        ?parting,
                                        suppressed,
                                        "a viewer is gone"
                                    );
                                }
                            }
                            Err(error) => {
                                if let Some(suppressed) = allowed("a viewer was lost") {
                                    let viewer = shortened(&room);
                                    tracing::warn!(viewer, %error, suppressed, "a viewer was lost");
                                }
                            }
                        }
                    });
                    viewers.insert(
                        key,
                        Viewer {
                            signals,
                            task,
                            ufrag,
                        },
                    );
                }
                Signal::Ice(_) => {
                    if let Some(viewer) = viewers.get(&key) {
                        // A viewer with more candidates than fit has enough of them.
                        let _ = viewer.signals.try_send(envelope);
                    }
                }
                Signal::Answer { .. } => {}
            }
        }
        Ok(())
    }

    /// One viewer, from its offer to its end.
    async fn serve(
        &self,
        room: &str,
        peer_id: Option<String>,
        offer: Description,
        mut mailbox: mpsc::Receiver<SignalEnvelope>,
    ) -> Result<Parting> {
        let session = self.open().await?;
        let video = session.peer.send(TrackKind::Video, "video").await?;
        let sdp = session.peer.answer(&offer).await?;
        let data = self
            .names_to(room)
            .encode(&Signal::Answer { sdp }, peer_id.as_deref());
        if let Err(error) = self.hub.send(room, data).await {
            tracing::debug!(%error, "an answer was not sent");
        }
        self.play(session, video, VIEWER_CONNECT_LIMIT, &mut mailbox)
            .await
    }

    /// Dials a node, and again whenever the connection ends.
    async fn dial(self, node: &str) -> Result<()> {
        let peer_id = mint_peer_id();
        let names = SignalNames::new(
            ChannelKind::Media,
            Dialect::Current,
            &self.options.stream,
            &self.own,
            node,
            node,
        );
        let filter = names.clone();
        let mut messages = self
            .hub
            .messages(MAILBOX, move |message| filter.matches(&message.data));
        let mut backoff = Backoff::new(REDIAL_FIRST, REDIAL_MAX);
        let mut subscribed = false;
        loop {
            self.hub.joined().await?;
            // Once is enough: the client subscribes again after every reconnect.
            if !subscribed {
                match self.hub.subscribe(node).await {
                    Ok(()) => subscribed = true,
                    Err(error) => {
                        tracing::warn!(node, %error, "the node's room cannot be joined");
                        tokio::time::sleep(backoff.next_delay(rand::random())).await;
                        continue;
                    }
                }
            }
            // What the node said to an earlier attempt, which is over.
            while messages.try_recv().is_some() {}
            let (signals, mut mailbox) = mpsc::channel(MAILBOX);
            let attempt = self.dial_once(&names, &peer_id, &mut mailbox);
            let forward = async {
                while let Some(message) = messages.recv().await {
                    if let Some(Ok(envelope)) = names.parse(&message.data) {
                        let _ = signals.try_send(envelope);
                    }
                }
            };
            let result = tokio::select! {
                result = attempt => result,
                () = forward => return Err(HubError::Closed.into()),
            };
            match result {
                // Nobody answered: a fresh offer at once, so that a node that starts later is met.
                Ok(None) => continue,
                Ok(Some(Parting::NotConnected)) => {
                    tracing::warn!(node, "the node answered and no path to it was found");
                }
                Ok(Some(parting)) => {
                    tracing::info!(node, ?parting, "the node is gone: it is dialled again");
                    backoff.reset();
                }
                Err(error) => tracing::warn!(node, %error, "the node was not reached"),
            }
            tokio::time::sleep(backoff.next_delay(rand::random())).await;
        }
    }

    /// One attempt; none when the node does not answer.
    async fn dial_once(
        &self,
        names: &SignalNames,
        peer_id: &str,
        mailbox: &mut mpsc::Receiver<SignalEnvelope>,
    ) -> Result<Option<Parting>> {
        let session = self.open().await?;
        let video = session.peer.send(TrackKind::Video, "video").await?;
        let sdp = session.peer.offer().await?;
        let data = names.encode(&Signal::Offer { sdp }, Some(peer_id));
        if let Err(error) = self.hub.send(names.room(), data).await {
            // The hub went just now: there is no answer to wait for.
            session.peer.close().await;
            return Err(error.into());
        }
        let mut early: Vec<Candidate> = Vec::new();
        let answer = async {
            while let Some(envelope) = mailbox.recv().await {
                match envelope.signal {
                    Signal::Answer { sdp }
                        if envelope.peer_id.as_deref().is_none_or(|id| id == peer_id) =>
                    {
                        return Some(sdp);
                    }
                    Signal::Ice(candidate) if early.len() < MAILBOX => early.push(candidate),
                    _ => {}
                }
            }
            None
        };
        let Ok(Some(answer)) = tokio::time::timeout(ANSWER_LIMIT, answer).await else {
            session.peer.close().await;
            return Ok(None);
        };
        session.peer.accept_answer(&answer).await?;
        for candidate in early {
            session.peer.add_candidate(candidate).await?;
        }
        self.play(session, video, CONNECT_LIMIT, mailbox)
            .await
            .map(Some)
    }

    fn names_to(&self, other: &str) -> SignalNames {
        SignalNames::new(
            ChannelKind::Media,
            Dialect::Current,
            &self.options.stream,
            &self.own,
            other,
            &self.own,
        )
    }

    async fn open(&self) -> Result<Session> {
        let keyframe = Arc::new(Notify::new());
        let wanted = Arc::clone(&keyframe);
        let sink: RtpSink = Arc::new(move |inbound| {
            if matches!(inbound, Inbound::KeyframeRequest) {
                wanted.notify_one();
            }
        });
        let servers =
            twinsight_client::realtime::connect::ice_servers(self.hub.clone(), true).await;
        let (peer, events) = Peer::for_h264(&self.options.ice, &servers, sink).await?;
        Ok(Session {
            peer,
            events,
            keyframe,
        })
    }

    /// Sends until the viewer is gone.
    async fn play(
        &self,
        mut session: Session,
        video: TrackSender,
        connect_limit: Duration,
        mailbox: &mut mpsc::Receiver<SignalEnvelope>,
    ) -> Result<Parting> {
        let parting = if session.connected(connect_limit, mailbox).await {
            let mut feed = Feed::new(&self.source, self.options.start, self.options.fps)?;
            session.play(&mut feed, video, self.options.fps).await
        } else {
            Ok(Parting::NotConnected)
        };
        session.peer.close().await;
        parting
    }
}
