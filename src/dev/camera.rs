//! A camera twin for development: sends a clip's H.264 as it is, over and over, to every viewer that
//! dials it, or dials one node itself. Each viewer has its own place in the clip, and a keyframe
//! request takes it to the next keyframe at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::backoff::Backoff;
use crate::config::Dialect;
use crate::h264::clip::Clip;
use crate::h264::packetize::packetize;
use crate::hub::client::{HubClient, HubStatus};
use crate::realtime::negotiation::{ANSWER_LIMIT, CONNECT_LIMIT};
use crate::realtime::peer::{IceSettings, OutboundRtp, Peer, PeerError, PeerEvent, VideoSender};
use crate::realtime::signal::{
    Candidate, ChannelKind, Signal, SignalEnvelope, SignalNames, ice_ufrag, mint_peer_id,
};
use crate::realtime::tee::{Inbound, TeeSink};

/// Viewers at once, as with the official clients' fan-out.
const MAX_VIEWERS: usize = 8;

/// A viewer that has not connected by then is given up.
const VIEWER_CONNECT_LIMIT: Duration = Duration::from_secs(45);

/// Signals of one viewer that wait.
const MAILBOX: usize = 64;

/// Largest RTP payload: with headers and SRTP it stays below any path's MTU.
const MAX_PAYLOAD_BYTES: usize = 1150;

/// While frames go out, the viewer is asked this often whether it has said goodbye.
const GOODBYE_EVERY: Duration = Duration::from_secs(1);

/// What a camera twin sends, and to whom.
#[derive(Debug, Clone)]
pub struct CameraOptions {
    /// The stream's name.
    pub stream: String,
    /// The node to dial; none: wait for viewers.
    pub dial: Option<String>,
    /// Frames a second.
    pub fps: f64,
    /// Access unit to begin with, so that several cameras show different scenes.
    pub start: usize,
    /// How connections find their way.
    pub ice: IceSettings,
}

/// Plays the clip until the hub refuses the camera or the future is dropped.
///
/// # Errors
/// When the hub refuses the camera's twin.
pub async fn run(hub: HubClient, clip: Arc<Clip>, options: CameraOptions) -> Result<()> {
    if !(options.fps > 0.0 && options.fps <= 240.0) {
        bail!(
            "--fps {}: a camera sends between 0 and 240 frames a second",
            options.fps
        );
    }
    hub.joined().await?;
    let HubStatus::Joined { twin_id: own } = hub.status().borrow().clone() else {
        bail!("the hub went away while the camera joined it");
    };
    let source = Source {
        hub,
        clip,
        options,
        own,
    };
    match source.options.dial.clone() {
        Some(node) => source.dial(&node).await,
        None => source.answer().await,
    }
}

/// One camera twin.
#[derive(Clone)]
struct Source {
    hub: HubClient,
    clip: Arc<Clip>,
    options: CameraOptions,
    own: String,
}

/// A viewer that is being served: where its signals go.
struct Viewer {
    signals: mpsc::Sender<SignalEnvelope>,
    task: tokio::task::AbortHandle,
    ufrag: Option<String>,
}

impl Source {
    /// The fan-out: an answer and a track of its own for each viewer, told apart by `peerId`.
    async fn answer(self) -> Result<()> {
        let names = self.names_to(&self.own);
        let filter = names.clone();
        let mut messages = self.hub.messages(MAILBOX, move |message| {
            filter.parse(&message.data).is_some()
        });
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
                    let ufrag = ice_ufrag(sdp);
                    if let Some(viewer) = viewers.get(&key) {
                        if viewer.ufrag == ufrag {
                            continue;
                        }
                        // A new attempt of the same viewer replaces its old one.
                        viewer.task.abort();
                    } else if viewers.len() >= MAX_VIEWERS {
                        tracing::warn!(
                            viewer = message.source_twin_id,
                            "too many viewers: an offer is left unanswered"
                        );
                        continue;
                    }
                    let (signals, mailbox) = mpsc::channel(MAILBOX);
                    let (source, room, peer_id) = (
                        self.clone(),
                        message.source_twin_id.clone(),
                        envelope.peer_id.clone(),
                    );
                    let offer = sdp.clone();
                    let task = tasks.spawn(async move {
                        if let Err(error) = source.serve(&room, peer_id, offer, mailbox).await {
                            tracing::warn!(viewer = room, %error, "a viewer was lost");
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

    /// One viewer, from its offer to its goodbye.
    async fn serve(
        &self,
        room: &str,
        peer_id: Option<String>,
        offer: String,
        mut mailbox: mpsc::Receiver<SignalEnvelope>,
    ) -> Result<(), PeerError> {
        let session = self.open().await?;
        let video = session.peer.send_video().await?;
        let sdp = session.peer.answer(offer).await?;
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
        let mut messages = self.hub.messages(MAILBOX, move |message| {
            filter.parse(&message.data).is_some()
        });
        self.hub.subscribe(node).await?;
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        loop {
            let mut hub = self.hub.status();
            if hub
                .wait_for(|status| matches!(status, HubStatus::Joined { .. }))
                .await
                .is_err()
            {
                return Ok(());
            }
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
                () = forward => return Ok(()),
            };
            match result {
                Ok(true) => backoff.reset(),
                // Nobody answered: a fresh offer at once, so that a node that starts later is met.
                Ok(false) => continue,
                Err(error) => tracing::warn!(node, %error, "the node was lost"),
            }
            tokio::time::sleep(backoff.next_delay(rand::random())).await;
        }
    }

    /// One attempt; false when the node does not answer.
    async fn dial_once(
        &self,
        names: &SignalNames,
        peer_id: &str,
        mailbox: &mut mpsc::Receiver<SignalEnvelope>,
    ) -> Result<bool, PeerError> {
        let session = self.open().await?;
        let video = session.peer.send_video().await?;
        let sdp = session.peer.offer().await?;
        let data = names.encode(&Signal::Offer { sdp }, Some(peer_id));
        if let Err(error) = self.hub.send(names.room(), data).await {
            tracing::debug!(%error, "an offer was not sent");
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
            return Ok(false);
        };
        session.peer.accept_answer(answer).await?;
        for candidate in early {
            session.peer.add_candidate(candidate).await?;
        }
        self.play(session, video, CONNECT_LIMIT, mailbox).await?;
        Ok(true)
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

    async fn open(&self) -> Result<Session, PeerError> {
        let keyframe = Arc::new(Notify::new());
        let wanted = Arc::clone(&keyframe);
        let sink: TeeSink = Arc::new(move |inbound| {
            if matches!(inbound, Inbound::KeyframeRequest) {
                wanted.notify_one();
            }
        });
        let servers = crate::media::describe::ice_servers(self.hub.clone(), true).await;
        let (peer, events) = Peer::new(&self.options.ice, &servers, sink).await?;
        Ok(Session {
            peer,
            events,
            keyframe,
        })
    }

    /// Sends the clip until the viewer is gone.
    async fn play(
        &self,
        mut session: Session,
        video: VideoSender,
        connect_limit: Duration,
        mailbox: &mut mpsc::Receiver<SignalEnvelope>,
    ) -> Result<(), PeerError> {
        let connected = async {
            loop {
                tokio::select! {
                    event = session.events.recv() => match event {
                        Some(PeerEvent::Connected) => return true,
                        Some(PeerEvent::Ended) | None => return false,
                        Some(_) => {}
                    },
                    Some(envelope) = mailbox.recv() => {
                        if let Signal::Ice(candidate) = envelope.signal
                            && let Err(error) = session.peer.add_candidate(candidate).await
                        {
                            tracing::debug!(%error, "a viewer's candidate was left out");
                        }
                    }
                }
            }
        };
        let up = tokio::time::timeout(connect_limit, connected)
            .await
            .unwrap_or(false);
        if up {
            let mut player = Player::new(&self.clip, self.options.start, video).await?;
            let sent = player.run(&mut session, self.options.fps).await;
            session.peer.close().await;
            return sent;
        }
        session.peer.close().await;
        Ok(())
    }
}

/// A viewer's connection.
struct Session {
    peer: Peer,
    events: mpsc::Receiver<PeerEvent>,
    keyframe: Arc<Notify>,
}

/// A viewer's place in the clip.
struct Player<'a> {
    clip: &'a Clip,
    video: VideoSender,
    payload_type: u8,
    next: usize,
    sequence: u16,
    timestamp: u32,
}

impl<'a> Player<'a> {
    async fn new(clip: &'a Clip, start: usize, video: VideoSender) -> Result<Self, PeerError> {
        Ok(Self {
            clip,
            payload_type: video.payload_type().await?,
            video,
            next: clip.keyframe_from(start),
            sequence: rand::random(),
            timestamp: rand::random(),
        })
    }

    async fn run(&mut self, session: &mut Session, fps: f64) -> Result<(), PeerError> {
        let mut frame_due = tokio::time::interval(Duration::from_secs_f64(1.0 / fps));
        frame_due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut goodbye = tokio::time::interval(GOODBYE_EVERY);
        let begun = Instant::now();
        let first_timestamp = self.timestamp;
        loop {
            tokio::select! {
                at = frame_due.tick() => {
                    let elapsed = at.into_std().saturating_duration_since(begun);
                    self.timestamp = first_timestamp.wrapping_add(to_90khz(elapsed));
                    self.send_unit().await?;
                }
                () = session.keyframe.notified() => self.next = self.clip.keyframe_from(self.next),
                _ = goodbye.tick() => if session.peer.closed_by_peer().await { return Ok(()) },
                event = session.events.recv() => if matches!(event, Some(PeerEvent::Ended) | None) { return Ok(()) },
            }
        }
    }

    async fn send_unit(&mut self) -> Result<(), PeerError> {
        let unit = &self.clip.units()[self.next];
        let payloads = packetize(&unit.data, MAX_PAYLOAD_BYTES);
        let last = payloads.len().saturating_sub(1);
        for (n, payload) in payloads.into_iter().enumerate() {
            let packet = OutboundRtp {
                payload_type: self.payload_type,
                sequence: self.sequence,
                timestamp: self.timestamp,
                marker: n == last,
                payload,
            };
            self.video.send(packet).await?;
            self.sequence = self.sequence.wrapping_add(1);
        }
        // The end of the clip is followed by its beginning, which is a keyframe.
        self.next = (self.next + 1) % self.clip.units().len();
        Ok(())
    }
}

/// A duration on a 90 kHz clock, which wraps.
fn to_90khz(elapsed: Duration) -> u32 {
    let ticks = elapsed.as_micros() * 9 / 100;
    u32::try_from(ticks & u128::from(u32::MAX)).expect("32 bits were kept")
}
