//! One peer connection, behind types of our own. Descriptions and candidates come in and go out as
//! text; inbound video goes to the tap's sink, messages to a [`PeerChannel`]; everything else is a
//! [`PeerEvent`]. The stack's callbacks only put events into a bounded queue: they are awaited on the
//! task that also keeps the connection alive, so none of them waits.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::{ReceiverReportBuilder, Slot};
use rtc::peer_connection::configuration::RTCIceTransportPolicy;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::configuration::setting_engine::{SctpMaxMessageSize, SettingEngine};
use rtc::peer_connection::transport::RTCDtlsTransportState;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use tokio::sync::{mpsc, watch};
use webrtc::data_channel::DataChannel as StackChannel;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::transport::DtlsTransport;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCIceCandidate, RTCIceCandidateInit, RTCIceGatheringState, RTCIceServer,
    RTCPeerConnectionIceEvent, RTCPeerConnectionState, RTCSessionDescription, Registry,
    SettingEngineBuilder, register_default_interceptors,
};
use webrtc::runtime::default_runtime;

use super::candidate::{LeftOut, MAX_CANDIDATES, usable};
use super::channel::PeerChannel;
use super::codecs;
use super::ice::{CandidatePair, IceSettings, connection_type};
use super::nack::{KeyframeAsks, SourceNacks};
use super::nat::{announce, announce_in_description};
use super::normalise::{Normalised, Side, Unusable, Wanted, normalise};
use super::rtp_tap::{Inbound, PayloadTypes, RtpSink, RtpTap, SourceGate, TEE_SLOT};
use super::rtp_track::{TrackKind, TrackSender, stack_track};
use super::sdp::{Description, SdpError};
use super::signal::Candidate;
use super::socket::{MediaRuntime, bind_addresses};
use super::warnings::allowed;
use crate::hub::message::IceServer;
use crate::os_error::explain_io;
use twinsight_media::codec::Codec;

/// Candidates are waited for this long before a description goes out without the missing ones.
const GATHER_LIMIT: Duration = Duration::from_secs(2);

/// Events of a peer that nobody has looked at yet. Two dozen candidates and a few states fit.
const EVENT_CAPACITY: usize = 64;

/// Video tracks of one peer that are asked for keyframes.
const MAX_VIDEO_TRACKS: usize = 16;

/// SRTP's replay window: retransmissions of a burst's first packets must still be inside.
const REPLAY_WINDOW_PACKETS: usize = 2048;

/// The largest message that we take, as the official clients' libraries do.
const MAX_MESSAGE_BYTES: u32 = 262_144;

/// A connection that carries messages has no frames whose absence would tell that the other side is
/// gone, so it is asked for more often: by then without an answer it counts as disconnected,
const DISCONNECTED_AFTER: Duration = Duration::from_secs(2);

/// after so much more as failed,
const FAILED_AFTER: Duration = Duration::from_secs(18);

/// and it is asked this often.
const KEEP_ALIVE: Duration = Duration::from_millis(400);

/// What a peer connection tells.
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

/// Why a peer could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The other side's description or candidate is not usable.
    #[error("the other side's {what} cannot be used: {source}")]
    Remote {
        /// Which input it was.
        what: &'static str,
        /// What the stack says.
        source: rtc::shared::error::Error,
    },
    /// The other side's description lacks what a connection needs.
    #[error("the other side's description cannot be used: {0}")]
    Unusable(#[from] Unusable),
    /// The other side's candidate is none.
    #[error("the other side's candidate cannot be used: it is no candidate of RFC 8839")]
    Candidate,
    /// The other side has sent more candidates than a connection takes.
    #[error("the other side has sent more than {MAX_CANDIDATES} candidates: the rest is left out")]
    TooManyCandidates,
    /// Our own description cannot be read.
    #[error(
        "the description that was made here cannot be read ({0}): this is a bug, please report it"
    )]
    Own(#[from] SdpError),
    /// The connection could not be set up here.
    #[error("cannot {what}: {source}")]
    Local {
        /// What was tried.
        what: &'static str,
        /// What the stack says.
        source: rtc::shared::error::Error,
    },
    /// No socket could be bound.
    #[error("cannot bind a socket for media: {}", explain_io(.0))]
    Bind(#[from] std::io::Error),
    /// The stack broke over the other side's text.
    #[error("the other side's text broke the WebRTC stack: this is a bug, please report it")]
    Stack,
    /// The description has no section with a codec that both sides know.
    #[error(
        "the other side's description has no {wanted} that both sides know (of H.264 not packetization-mode=2)"
    )]
    NoCodec {
        /// What was looked for.
        wanted: String,
    },
    /// The other side takes no track of ours of this kind.
    #[error("the other side takes no {0} as this side sends it (H.264, Opus)")]
    NotTaken(TrackKind),
    /// The description has no section for data channels.
    #[error("the other side's description has no data channels")]
    NoDataChannels,
}

/// What a media connection can carry.
#[derive(Clone)]
pub struct MediaSetup {
    /// Takes what comes.
    pub sink: RtpSink,
    /// Video codecs to offer, the preferred first; an answer takes the first that the offer has.
    pub video: Vec<Codec>,
    /// True for sound as well.
    pub audio: bool,
    /// False to take nothing of what an offer would send.
    pub receives: bool,
}

impl fmt::Debug for MediaSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaSetup")
            .field("video", &self.video)
            .field("audio", &self.audio)
            .finish_non_exhaustive()
    }
}

/// What is looked for in the other side's descriptions.
#[derive(Debug, Clone)]
enum Content {
    Media {
        video: Vec<Codec>,
        audio: bool,
        receives: bool,
    },
    Messages,
}

/// What a connection is for.
enum Carries {
    /// Tracks. What comes goes to the sink.
    Media(MediaSetup),
    /// Messages. A channel takes no more than so many bytes that are not yet acknowledged.
    Messages { high_water_bytes: usize },
}

/// One peer connection. Dropping it closes it in the background; [`close`](Self::close) waits.
pub struct Peer {
    connection: Arc<dyn PeerConnection>,
    gathered: watch::Receiver<bool>,
    shared: Arc<Shared>,
    content: Content,
    /// Names of hosts are taken for candidates.
    mdns: bool,
    /// Candidates of the other side that were taken, [`MAX_CANDIDATES`] at most.
    candidates: AtomicUsize,
    overflowed_candidates: AtomicU64,
    malformed_candidates: AtomicU64,
}

/// Candidates of descriptions that were left out since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CandidatesLeftOut {
    /// There were too many.
    pub overflowed: u64,
    /// They cannot be read.
    pub malformed: u64,
}

/// What the callbacks and the handle share.
struct Shared {
    events: mpsc::Sender<PeerEvent>,
    gathered: watch::Sender<bool>,
    /// Video tracks that the other side sends.
    video: Mutex<Vec<RemoteVideo>>,
    /// What the tap is told of the description.
    payload_types: PayloadTypes,
    /// Keyframes to ask for without a track.
    keyframe_asks: KeyframeAsks,
    /// What the tap tells; none for messages.
    sink: Option<RtpSink>,
    gate: Arc<SourceGate>,
    /// True once the local description has gone out: later candidates are trickled.
    trickle: std::sync::atomic::AtomicBool,
    /// Announced in place of this machine's own addresses.
    public_ips: Vec<IpAddr>,
}

#[derive(Clone)]
struct RemoteVideo {
    track: Arc<dyn TrackRemote>,
    ssrc: u32,
}

impl Peer {
    /// A connection for tracks that has nothing to send or receive yet, and the queue of its events.
    ///
    /// # Errors
    /// When no socket can be bound or the stack refuses its configuration.
    pub async fn for_media(
        settings: &IceSettings,
        servers: &[IceServer],
        setup: MediaSetup,
    ) -> Result<(Self, mpsc::Receiver<PeerEvent>), PeerError> {
        Self::open(settings, servers, Carries::Media(setup)).await
    }

    /// One for H.264 alone; see [`for_media`](Self::for_media).
    ///
    /// # Errors
    /// As `for_media`.
    pub async fn for_h264(
        settings: &IceSettings,
        servers: &[IceServer],
        sink: RtpSink,
    ) -> Result<(Self, mpsc::Receiver<PeerEvent>), PeerError> {
        let setup = MediaSetup {
            sink,
            video: vec![Codec::H264],
            audio: false,
            receives: true,
        };
        Self::for_media(settings, servers, setup).await
    }

    /// A connection for data channels, and the queue of its events. A channel takes no more than
    /// `high_water_bytes` that the other side has not acknowledged.
    ///
    /// # Errors
    /// When no socket can be bound or the stack refuses its configuration.
    pub async fn for_messages(
        settings: &IceSettings,
        servers: &[IceServer],
        high_water_bytes: usize,
    ) -> Result<(Self, mpsc::Receiver<PeerEvent>), PeerError> {
        let carries = Carries::Messages { high_water_bytes };
        Self::open(settings, servers, carries).await
    }

    async fn open(
        settings: &IceSettings,
        servers: &[IceServer],
        carries: Carries,
    ) -> Result<(Self, mpsc::Receiver<PeerEvent>), PeerError> {
        let local = |what| move |source| PeerError::Local { what, source };
        let mut media = MediaEngine::default();
        let mut high_water = 0;
        let payload_types = PayloadTypes::default();
        let keyframe_asks = KeyframeAsks::default();
        let gate = Arc::<SourceGate>::default();
        let (events, receiver) = mpsc::channel(EVENT_CAPACITY);
        let mut told = None;
        let (content, registry) = match carries {
            Carries::Media(MediaSetup {
                sink,
                video,
                audio,
                receives,
            }) => {
                codecs::register(&mut media, &video, audio)
                    .map_err(local("register the codecs"))?;
                let overrun = {
                    let events = events.clone();
                    move || {
                        if let Some(suppressed) = allowed("ever new sources") {
                            tracing::warn!(
                                suppressed,
                                "the other side sends with ever new sources: its connection is ended"
                            );
                        }
                        let _ = events.try_send(PeerEvent::Ended);
                    }
                };
                told = Some(Arc::clone(&sink));
                let tap = RtpTap::new(
                    sink,
                    payload_types.clone(),
                    Arc::clone(&gate),
                    Box::new(overrun),
                );
                let nacks = SourceNacks::new(payload_types.clone(), keyframe_asks.clone());
                let registry = interceptors(&mut media, nacks, tap)
                    .map_err(local("set up the interceptors"))?;
                let content = Content::Media {
                    video,
                    audio,
                    receives,
                };
                (content, registry)
            }
            Carries::Messages { high_water_bytes } => {
                high_water = high_water_bytes;
                (Content::Messages, Registry::new())
            }
        };
        let for_media = matches!(content, Content::Media { .. });
        let configuration = RTCConfigurationBuilder::new()
            .with_ice_servers(servers.iter().map(ice_server).collect())
            .with_ice_transport_policy(if settings.relay_only {
                RTCIceTransportPolicy::Relay
            } else {
                RTCIceTransportPolicy::All
            })
            .build();
        let addresses: Vec<SocketAddr> =
            bind_addresses(&settings.interfaces, settings.udp_ports.as_ref())?;
        let runtime =
            default_runtime().expect("the stack has a runtime, because it is built with tokio's");

        let (gathered_sender, gathered) = watch::channel(false);
        let shared = Arc::new(Shared {
            events,
            gathered: gathered_sender,
            video: Mutex::default(),
            payload_types,
            keyframe_asks,
            sink: told,
            gate: Arc::clone(&gate),
            trickle: std::sync::atomic::AtomicBool::new(false),
            public_ips: settings.nat_1to1_ips.clone(),
        });
        let connection = PeerConnectionBuilder::new()
            .with_configuration(configuration)
            .with_media_engine(media)
            .with_setting_engine(engine(settings, for_media))
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(Callbacks {
                shared: Arc::clone(&shared),
            }))
            .with_runtime(Arc::new(MediaRuntime {
                inner: runtime,
                recv_buffer_bytes: settings.recv_buffer_bytes,
                gate: Arc::clone(&gate),
            }))
            .with_udp_addrs(addresses)
            .with_data_channel_send_buffer_limit(high_water)
            .build()
            .await
            .map_err(local("open a peer connection"))?;
        Ok((
            Self {
                connection: Arc::new(connection),
                gathered,
                shared,
                content,
                mdns: settings.mdns,
                candidates: AtomicUsize::new(0),
                overflowed_candidates: AtomicU64::new(0),
                malformed_candidates: AtomicU64::new(0),
            },
            receiver,
        ))
    }

    /// Opens a data channel: reliable, in order, without a sub-protocol. Before [`offer`](Self::offer).
    ///
    /// # Errors
    /// When the stack refuses.
    pub async fn create_channel(&self, label: &str) -> Result<PeerChannel, PeerError> {
        let created = self.connection.create_data_channel(label, None).await;
        created
            .map(PeerChannel::new)
            .map_err(|source| PeerError::Local {
                what: "open a data channel",
                source,
            })
    }

    /// The largest message that both sides take, in bytes; none before they agreed.
    pub async fn max_message_bytes(&self) -> Option<usize> {
        let sctp = self.connection.sctp().await?;
        usize::try_from(sctp.max_message_size().await.ok()?).ok()
    }

    /// The path that the connection uses; none before it is up.
    pub async fn selected_pair(&self) -> Option<CandidatePair> {
        let dtls = match self.connection.sctp().await {
            Some(sctp) => sctp.transport(),
            None => self.media_transport().await?,
        };
        let pair = dtls.ice_transport().get_selected_candidate_pair().await;
        let pair = pair.ok()??;
        let name = |candidate: &RTCIceCandidate| {
            let address = IpAddr::from_str(&candidate.address).map_or_else(
                |_| format!("{}:{}", candidate.address, candidate.port),
                |ip| SocketAddr::new(ip, candidate.port).to_string(),
            );
            format!("{} {address}", candidate.typ)
        };
        let kinds = (pair.local().typ.to_string(), pair.remote().typ.to_string());
        Some(CandidatePair {
            local: name(pair.local()),
            remote: name(pair.remote()),
            connection_type: connection_type(&kinds.0, &kinds.1),
        })
    }

    /// Adds a section that only receives. Before [`offer`](Self::offer).
    ///
    /// # Errors
    /// When the stack refuses.
    pub async fn receive(&self, kind: TrackKind) -> Result<(), PeerError> {
        self.connection
            .add_transceiver_from_kind(
                kind.of_stack(),
                Some(direction(RTCRtpTransceiverDirection::Recvonly)),
            )
            .await
            .map_err(|source| PeerError::Local {
                what: "add a section that receives",
                source,
            })?;
        Ok(())
    }

    /// Adds a track to send; its section also receives if the other side sends. Before
    /// [`offer`](Self::offer) or [`answer`](Self::answer).
    ///
    /// # Errors
    /// When the stack refuses.
    pub async fn send(&self, kind: TrackKind, id: &str) -> Result<TrackSender, PeerError> {
        let (track, ssrc) = stack_track(kind, id);
        let sender = self
            .connection
            .add_track(Arc::clone(&track) as Arc<dyn TrackLocal>)
            .await
            .map_err(|source| PeerError::Local {
                what: "add a track",
                source,
            })?;
        Ok(TrackSender::new(kind, track, sender, ssrc))
    }

    /// Makes the sections that send do nothing else. Before [`offer`](Self::offer).
    ///
    /// # Errors
    /// When the stack refuses.
    pub async fn send_only(&self) -> Result<(), PeerError> {
        for transceiver in self.connection.get_transceivers().await {
            let local = |source| PeerError::Local {
                what: "set a section's direction",
                source,
            };
            if transceiver.direction().await.map_err(local)? == RTCRtpTransceiverDirection::Sendrecv
            {
                let only = RTCRtpTransceiverDirection::Sendonly;
                transceiver.set_direction(only).await.map_err(local)?;
            }
        }
        Ok(())
    }

    /// The local offer, with the candidates that could be gathered in time.
    ///
    /// # Errors
    /// When the stack refuses.
    pub async fn offer(&self) -> Result<Description, PeerError> {
        let local = |source| PeerError::Local {
            what: "make an offer",
            source,
        };
        let offer = self.connection.create_offer(None).await.map_err(local)?;
        self.connection
            .set_local_description(offer)
            .await
            .map_err(local)?;
        self.gathered_description(None).await
    }

    /// The answer to an offer, with the candidates that could be gathered in time.
    ///
    /// # Errors
    /// [`PeerError::NoCodec`] or [`PeerError::NoDataChannels`] when the offer has nothing that can be used,
    /// [`PeerError::Remote`] when it cannot be read.
    pub async fn answer(&self, offer: &Description) -> Result<Description, PeerError> {
        self.check_content(offer)?;
        let normalised = self.normalised(offer, Side::Offer)?;
        let remote = |source| PeerError::Remote {
            what: "offer",
            source,
        };
        let text = normalised.text.clone();
        let description = RTCSessionDescription::offer(text).map_err(remote)?;
        self.connection
            .set_remote_description(description)
            .await
            .map_err(remote)?;
        if let Content::Media {
            receives: false, ..
        } = self.content
        {
            self.send_only().await?;
        }
        let local = |source| PeerError::Local {
            what: "make an answer",
            source,
        };
        let answer = self.connection.create_answer(None).await.map_err(local)?;
        self.connection
            .set_local_description(answer)
            .await
            .map_err(local)?;
        self.gathered_description(Some((offer, &normalised))).await
    }

    /// Takes the other side's answer.
    ///
    /// # Errors
    /// [`PeerError::Remote`] when it cannot be read or does not fit the offer, [`PeerError::NoCodec`] or
    /// [`PeerError::NoDataChannels`] when it takes nothing of what was offered.
    pub async fn accept_answer(&self, answer: &Description) -> Result<(), PeerError> {
        self.check_content(answer)?;
        let normalised = self.normalised(answer, Side::Answer)?;
        let remote = |source| PeerError::Remote {
            what: "answer",
            source,
        };
        let answer = RTCSessionDescription::answer(normalised.text).map_err(remote)?;
        self.connection
            .set_remote_description(answer)
            .await
            .map_err(remote)
    }

    /// Takes a candidate of the other side; after its description. One that is of no use here (for TCP, with the
    /// name of a host) is left out without a word, since browsers send them.
    ///
    /// # Errors
    /// [`PeerError::Candidate`] when it cannot be read, [`PeerError::TooManyCandidates`] when there is no more room.
    pub async fn add_candidate(&self, candidate: Candidate) -> Result<(), PeerError> {
        if candidate.candidate.is_empty() {
            return Ok(());
        }
        let text = match usable(&candidate.candidate, self.mdns) {
            Ok(usable) => format!("candidate:{usable}"),
            Err(LeftOut::Malformed) => return Err(PeerError::Candidate),
            Err(reason) => {
                tracing::trace!(%reason, "a candidate of the other side is left out");
                return Ok(());
            }
        };
        if self.candidates.fetch_add(1, Ordering::Relaxed) >= MAX_CANDIDATES {
            self.candidates.store(MAX_CANDIDATES, Ordering::Relaxed);
            return Err(PeerError::TooManyCandidates);
        }
        self.connection
            .add_ice_candidate(RTCIceCandidateInit {
                candidate: text,
                sdp_mid: candidate.sdp_mid,
                sdp_mline_index: candidate.sdp_mline_index,
                username_fragment: candidate.username_fragment,
                url: None,
            })
            .await
            .map_err(|source| PeerError::Remote {
                what: "candidate",
                source,
            })
    }

    /// Asks the senders of video for a keyframe (PLI). False when there is no video yet.
    pub async fn request_keyframe(&self) -> bool {
        self.request_keyframe_of(None).await
    }

    /// As [`request_keyframe`](Self::request_keyframe), of one source if it is named.
    pub async fn request_keyframe_of(&self, source: Option<u32>) -> bool {
        let videos = self.shared.video.lock().clone();
        let mut asked = false;
        let all = if source.is_some() { 1 } else { videos.len() };
        for RemoteVideo { track, ssrc } in videos.into_iter().take(all) {
            let pli = PictureLossIndication {
                sender_ssrc: 0,
                media_ssrc: source.unwrap_or(ssrc),
            };
            asked |= track.write_rtcp(vec![Box::new(pli)]).await.is_ok();
        }
        match source {
            // The stack makes a track of what it binds, and with several sections binds those sources alone that the
            // other side names.
            Some(source) if !asked => {
                self.shared.keyframe_asks.ask(source);
                true
            }
            _ => asked,
        }
    }

    /// Packets that were thrown away since the last look, because their connection has had too many sources.
    pub fn take_thrown_away(&self) -> u64 {
        self.shared.gate.take_thrown_away()
    }

    /// True when the other side has said goodbye (DTLS close_notify). The stack tells it by no event
    /// on a connection without data channels, so its owner asks while nothing comes.
    pub async fn closed_by_peer(&self) -> bool {
        match self.media_transport().await {
            Some(transport) => matches!(transport.state().await, Ok(RTCDtlsTransportState::Closed)),
            None => false,
        }
    }

    /// Closes the connection and says so to the other side (DTLS close_notify).
    pub async fn close(&self) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "a peer connection did not close cleanly");
        }
    }

    async fn media_transport(&self) -> Option<Arc<dyn DtlsTransport>> {
        for receiver in self.connection.get_receivers().await {
            if let Ok(Some(transport)) = receiver.transport().await {
                return Some(transport);
            }
        }
        for sender in self.connection.get_senders().await {
            if let Ok(Some(transport)) = sender.transport().await {
                return Some(transport);
            }
        }
        None
    }

    /// Candidates that were left out of descriptions, once.
    pub fn take_candidates_left_out(&self) -> CandidatesLeftOut {
        CandidatesLeftOut {
            overflowed: self.overflowed_candidates.swap(0, Ordering::Relaxed),
            malformed: self.malformed_candidates.swap(0, Ordering::Relaxed),
        }
    }

    /// A description as the stack is given it.
    fn normalised(&self, description: &Description, side: Side) -> Result<Normalised, PeerError> {
        let wanted = match &self.content {
            Content::Media {
                video,
                audio,
                receives,
            } => Wanted::Media {
                video: video.clone(),
                audio: *audio,
                receives: *receives,
            },
            Content::Messages => Wanted::Messages,
        };
        let taken = self.candidates.load(Ordering::Relaxed);
        let room = MAX_CANDIDATES.saturating_sub(taken);
        let normalised = normalise(description, side, &wanted, room, self.mdns)?;
        self.candidates
            .fetch_add(normalised.candidates, Ordering::Relaxed);
        self.overflowed_candidates
            .fetch_add(normalised.overflowed, Ordering::Relaxed);
        self.malformed_candidates
            .fetch_add(normalised.malformed, Ordering::Relaxed);
        if let Some(sink) = &self.shared.sink {
            sink(Inbound::Described {
                sources: normalised.sources.clone(),
                further_videos: normalised.further_videos,
            });
        }
        Ok(normalised)
    }

    fn check_content(&self, sdp: &Description) -> Result<(), PeerError> {
        match &self.content {
            Content::Media { video, audio, .. } => check_media(sdp, video, *audio),
            Content::Messages if sdp.has_data_channels() => Ok(()),
            Content::Messages => Err(PeerError::NoDataChannels),
        }
    }

    /// The local description, with what is the stack's alone put in the words of the offer that it answers.
    async fn gathered_description(
        &self,
        answers: Option<(&Description, &Normalised)>,
    ) -> Result<Description, PeerError> {
        let mut gathered = self.gathered.clone();
        if tokio::time::timeout(GATHER_LIMIT, gathered.wait_for(|done| *done))
            .await
            .is_err()
        {
            tracing::debug!("some candidates are late: they follow one by one");
        }
        self.shared
            .trickle
            .store(true, std::sync::atomic::Ordering::Release);
        let description = self
            .connection
            .local_description()
            .await
            .ok_or(PeerError::Local {
                what: "read the local description",
                source: rtc::shared::error::Error::ErrConnectionClosed,
            })?;
        let description = match answers {
            Some((offer, normalised)) => normalised.complete(offer, &description.sdp),
            None => description.sdp,
        };
        let description = Description::parse(&description)?;
        let public_ips = &self.shared.public_ips;
        self.shared.payload_types.set(&description);
        if public_ips.is_empty() {
            return Ok(description);
        }
        let announced = announce_in_description(&description, public_ips);
        Ok(Description::parse(&announced)?)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").finish_non_exhaustive()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let connection = Arc::clone(&self.connection);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { connection.close().await });
        }
    }
}

/// The stack's callbacks. Each only stores or queues.
struct Callbacks {
    shared: Arc<Shared>,
}

impl Callbacks {
    fn tell(&self, event: PeerEvent) {
        // A full queue means that the owner does not look: it will find the connection's end.
        if self.shared.events.try_send(event).is_err() {
            tracing::debug!("an event of a peer connection was dropped: nobody takes them");
        }
    }
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Callbacks {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        if !self
            .shared
            .trickle
            .load(std::sync::atomic::Ordering::Acquire)
        {
            return;
        }
        if let Ok(init) = event.candidate.to_json() {
            let (prefix, text) = init
                .candidate
                .strip_prefix("candidate:")
                .map_or(("", &*init.candidate), |text| ("candidate:", text));
            for candidate in announce(text, &self.shared.public_ips) {
                self.tell(PeerEvent::Candidate(Candidate {
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
            RTCPeerConnectionState::Connected => self.tell(PeerEvent::Connected),
            RTCPeerConnectionState::Disconnected => self.tell(PeerEvent::Disconnected),
            RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed => {
                self.tell(PeerEvent::Ended)
            }
            _ => {}
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn StackChannel>) {
        self.tell(PeerEvent::Channel(PeerChannel::new(channel)));
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
            // Bounded: a description with more sections than this is none that anybody writes.
            if videos.len() < MAX_VIDEO_TRACKS {
                videos.push(video);
            }
        }
        // Media ends at the tap; what is left are reports, and this queue is emptied so that it does not fill and log.
        tokio::spawn(async move { while track.poll().await.is_some() {} });
    }
}

fn ice_server(server: &IceServer) -> RTCIceServer {
    RTCIceServer {
        urls: server.urls.clone(),
        username: server.username.clone().unwrap_or_default(),
        credential: server.credential.clone().unwrap_or_default(),
    }
}

fn direction(direction: RTCRtpTransceiverDirection) -> RTCRtpTransceiverInit {
    RTCRtpTransceiverInit {
        direction,
        streams: Vec::new(),
        send_encodings: Vec::new(),
    }
}

/// An error unless a description has something of what is wanted.
pub(super) fn check_media(
    sdp: &Description,
    video: &[Codec],
    audio: bool,
) -> Result<(), PeerError> {
    if !sdp.usable_video(video).is_empty() || (audio && sdp.has_opus()) {
        return Ok(());
    }
    let video = video.iter().map(|codec| codec.as_str());
    let wanted: Vec<_> = video.chain(audio.then_some("opus")).collect();
    Err(PeerError::NoCodec {
        wanted: wanted.join(" or "),
    })
}

/// What the chain of interceptors does for media.
fn interceptors(
    media: &mut MediaEngine,
    nacks: SourceNacks,
    tap: RtpTap,
) -> Result<Registry, rtc::shared::error::Error> {
    let registry = register_default_interceptors(Registry::new(), media)?
        .with(Slot::NackGenerator, nacks)
        // The official fan-outs drop a viewer that sends no report; the first goes out at once.
        .with(
            Slot::ReceiverReport,
            ReceiverReportBuilder::new()
                .with_interval(Duration::from_secs(1))
                .build(),
        );
    debug_assert!(
        registry
            .slots()
            .iter()
            .all(|(slot, _)| slot.slot() != TEE_SLOT),
        "a slot holds one interceptor"
    );
    Ok(registry.with(Slot::from(TEE_SLOT), tap))
}

fn engine(settings: &IceSettings, for_media: bool) -> SettingEngine {
    let engine = SettingEngineBuilder::new()
        .with_multicast_dns_mode(if settings.mdns {
            MulticastDnsMode::QueryOnly
        } else {
            MulticastDnsMode::Disabled
        })
        .with_srtp_replay_protection_window(REPLAY_WINDOW_PACKETS)
        .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(MAX_MESSAGE_BYTES))
        .with_include_loopback_candidate(true);
    if for_media {
        return engine.build();
    }
    engine
        .with_ice_timeouts(
            Some(DISCONNECTED_AFTER),
            Some(FAILED_AFTER),
            Some(KEEP_ALIVE),
        )
        .build()
}
