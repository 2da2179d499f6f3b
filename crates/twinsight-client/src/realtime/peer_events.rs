//! The stack's callbacks of a peer connection, as events of our own: they come in on the WebRTC stack's task and go out
//! through a bounded queue to the task of the link. The stack awaits a callback on the task that also keeps the connection
//! alive, so none of them waits.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::sync::{mpsc, watch};
use webrtc::data_channel::DataChannel as StackChannel;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{
    PeerConnectionEventHandler, RTCIceGatheringState, RTCPeerConnectionIceEvent,
    RTCPeerConnectionState,
};

use super::channel::PeerChannel;
use super::nack::KeyframeAsks;
use super::nat::announce;
use super::rtp_tap::{PayloadTypes, RtpSink, SourceGate};
use super::sender_reports::SenderClocks;
use super::signal::Candidate;

/// At most this many video tracks of one peer are asked for keyframes.
const MAX_VIDEO_TRACKS: usize = 16;

/// What happens to a peer connection.
#[derive(Debug, Clone)]
pub enum PeerEvent {
    /// The other side has opened a data channel.
    Channel(PeerChannel),
    /// A local candidate that came after the description had gone out.
    Candidate(Candidate),
    /// DTLS is up: media flows.
    Connected,
    /// The path is lost for now; ICE looks for another.
    Disconnected,
    /// The connection is over: failed, or closed by the other side.
    Ended,
}

/// State that the callbacks share with the [`Peer`](super::peer::Peer).
pub(super) struct PeerShared {
    pub(super) events: mpsc::Sender<PeerEvent>,
    pub(super) gathered: watch::Sender<bool>,
    /// The video tracks that the other side sends.
    pub(super) video: Mutex<Vec<RemoteVideo>>,
    /// What the payload types of our description stand for, for the RTP tap.
    pub(super) payload_types: PayloadTypes,
    /// The source that the NACK interceptor is to ask for a keyframe.
    pub(super) keyframe_asks: KeyframeAsks,
    /// Where the senders of tracks say which moment a timestamp stands for.
    pub(super) sender_clocks: SenderClocks,
    /// Takes what the tap sees; none on a connection for messages.
    pub(super) rtp_sink: Option<RtpSink>,
    pub(super) gate: Arc<SourceGate>,
    /// True once the local description has gone out: later candidates are trickled.
    pub(super) trickle: AtomicBool,
    /// The addresses that candidates name in place of this machine's own.
    pub(super) public_ips: Vec<IpAddr>,
}

#[derive(Clone)]
pub(super) struct RemoteVideo {
    pub(super) track: Arc<dyn TrackRemote>,
    pub(super) ssrc: u32,
}

/// The callbacks that the stack is given. Each only stores something or queues an event.
pub(super) struct Callbacks {
    pub(super) shared: Arc<PeerShared>,
}

impl Callbacks {
    fn queue(&self, event: PeerEvent) {
        // The queue is full only while the link's task hangs; it finds out later that the connection has ended.
        if self.shared.events.try_send(event).is_err() {
            tracing::debug!("an event of a peer connection was dropped: nobody takes them");
        }
    }
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Callbacks {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        if !self.shared.trickle.load(Ordering::Acquire) {
            return;
        }
        if let Ok(init) = event.candidate.to_json() {
            let (prefix, text) = init
                .candidate
                .strip_prefix("candidate:")
                .map_or(("", &*init.candidate), |text| ("candidate:", text));
            for candidate in announce(text, &self.shared.public_ips) {
                self.queue(PeerEvent::Candidate(Candidate {
                    candidate: format!("{prefix}{candidate}"),
                    sdp_mid: init.sdp_mid.clone(),
                    sdp_mline_index: init.sdp_mline_index,
                    username_fragment: init.username_fragment.clone(),
                }));
            }
        }
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.shared.gathered.send_replace(true);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        match state {
            RTCPeerConnectionState::Connected => self.queue(PeerEvent::Connected),
            RTCPeerConnectionState::Disconnected => self.queue(PeerEvent::Disconnected),
            RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed => {
                self.queue(PeerEvent::Ended)
            }
            _ => {}
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn StackChannel>) {
        self.queue(PeerEvent::Channel(PeerChannel::new(channel)));
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        if track.kind().await == RtpCodecKind::Video
            && let Some(ssrc) = track.ssrcs().await.first().copied()
        {
            let video = RemoteVideo {
                track: Arc::clone(&track),
                ssrc,
            };
            let videos = &self.shared.video;
            let mut videos = videos.lock();
            // Nobody writes a description with more video sections than this.
            if videos.len() < MAX_VIDEO_TRACKS {
                videos.push(video);
            }
        }
        // The RTP tap takes all media, so only reports reach the track. They are taken out and dropped, since the stack
        // logs a line for each that finds the queue full.
        tokio::spawn(async move { while track.poll().await.is_some() {} });
    }
}
