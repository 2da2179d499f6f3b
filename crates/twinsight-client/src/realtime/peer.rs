//! One peer connection, behind types of our own. Descriptions and candidates come in and go out; inbound media goes to the
//! sink of the RTP tap, messages to a [`PeerChannel`], and everything else to the queue of [`PeerEvent`]s. The tasks of the
//! link and of its description call it; the WebRTC stack runs the connection on a task of its own.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rtc::peer_connection::configuration::RTCIceTransportPolicy;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::transport::RTCDtlsTransportState;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use tokio::sync::{mpsc, watch};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::peer_connection::transport::DtlsTransport;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, RTCConfigurationBuilder, RTCIceCandidate,
    RTCIceCandidateInit, RTCSessionDescription, Registry,
};
use webrtc::runtime::default_runtime;

use super::candidate::{LeftOut, MAX_CANDIDATES, usable};
use super::channel::PeerChannel;
use super::codecs;
pub use super::h264_profile::ProfileLevelId;
use super::ice::{CandidatePair, IceSettings, connection_type};
use super::nack::{KeyframeAsks, SourceNacks};
use super::nat::announce_in_description;
use super::normalise::{Normalised, Side, Wanted, normalise};
pub use super::peer_error::PeerError;
pub use super::peer_events::PeerEvent;
use super::peer_events::{Callbacks, PeerShared, RemoteVideo};
use super::peer_setup::{engine, ice_server, interceptors};
use super::rtp_tap::{Inbound, PayloadTypes, RtpSink, RtpTap, SourceGate};
use super::rtp_track::{TrackKind, TrackSender, stack_track};
use super::sdp::Description;
use super::sender_reports::{SenderClocks, SenderReports};
use super::signal::Candidate;
use super::socket::{MediaRuntime, bind_addresses};
use super::warnings::allowed;
use crate::hub::message::IceServer;
use twinsight_media::codec::Codec;

/// A description waits this long for local candidates; those that are missing then follow one by one.
const GATHER_LIMIT: Duration = Duration::from_secs(2);

/// At most this many events wait for the link's task: two dozen candidates and a few states fit.
const EVENT_CAPACITY: usize = 64;

/// What a media connection can carry.
#[derive(Clone)]
pub struct MediaSetup {
    /// Takes the packets and reports that come.
    pub sink: RtpSink,
    /// Video codecs to offer, the preferred first; an answer takes the first that the offer has.
    pub video: Vec<Codec>,
    /// True if sound is carried as well.
    pub audio: bool,
    /// False if nothing is taken of what the other side's offer would send.
    pub receives: bool,
    /// Which H.264 is sent, if that is known. Descriptions name it first.
    pub sent_profile: Option<ProfileLevelId>,
}

impl fmt::Debug for MediaSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaSetup")
            .field("video", &self.video)
            .field("audio", &self.audio)
            .finish_non_exhaustive()
    }
}

/// What a connection is for.
enum Carries {
    /// Tracks: the packets that come go to the sink of the setup.
    Media(MediaSetup),
    /// Messages: a channel accepts no more while this many bytes are not acknowledged.
    Messages { high_water_bytes: usize },
}

/// One peer connection. Dropping it closes it in the background; [`close`](Self::close) waits.
pub struct Peer {
    connection: Arc<dyn PeerConnection>,
    gathered: watch::Receiver<bool>,
    shared: Arc<PeerShared>,
    /// What is looked for in the other side's descriptions.
    wanted: Wanted,
    /// Candidates with a host name (`….local`) are accepted.
    mdns: bool,
    /// How many candidates of the other side were accepted, [`MAX_CANDIDATES`] at most.
    candidates: AtomicUsize,
    overflowed_candidates: AtomicU64,
    malformed_candidates: AtomicU64,
}

/// How many candidates of the other side's descriptions were left out, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CandidatesLeftOut {
    /// Candidates beyond the limit of a connection.
    pub overflowed: u64,
    /// Candidates that cannot be read.
    pub malformed: u64,
}

impl Peer {
    /// Opens a connection for tracks, which has none yet, and gives the queue of its events.
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

    /// Opens a connection that receives H.264 and nothing else; see [`for_media`](Self::for_media).
    ///
    /// # Errors
    /// When no socket can be bound or the stack refuses its configuration.
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
            sent_profile: None,
        };
        Self::for_media(settings, servers, setup).await
    }

    /// Opens a connection for data channels, and gives the queue of its events. A channel accepts no more while the other
    /// side has not acknowledged `high_water_bytes`.
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
        let sender_clocks = SenderClocks::default();
        let gate = Arc::<SourceGate>::default();
        let (events, receiver) = mpsc::channel(EVENT_CAPACITY);
        let mut rtp_sink = None;
        let (wanted, registry) = match carries {
            Carries::Media(MediaSetup {
                sink,
                video,
                audio,
                receives,
                sent_profile,
            }) => {
                codecs::register(&mut media, &video, audio, sent_profile)
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
                rtp_sink = Some(Arc::clone(&sink));
                let tap = RtpTap::new(
                    sink,
                    payload_types.clone(),
                    Arc::clone(&gate),
                    Box::new(overrun),
                );
                let nacks = SourceNacks::new(payload_types.clone(), keyframe_asks.clone());
                let reports = SenderReports::new(sender_clocks.clone());
                let registry = interceptors(&mut media, nacks, reports, tap)
                    .map_err(local("set up the interceptors"))?;
                let wanted = Wanted::Media {
                    video,
                    audio,
                    receives,
                    sent_profile,
                };
                (wanted, registry)
            }
            Carries::Messages { high_water_bytes } => {
                high_water = high_water_bytes;
                (Wanted::Messages, Registry::new())
            }
        };
        let for_media = matches!(wanted, Wanted::Media { .. });
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
        let shared = Arc::new(PeerShared {
            events,
            gathered: gathered_sender,
            video: Mutex::default(),
            payload_types,
            keyframe_asks,
            sender_clocks,
            rtp_sink,
            gate: Arc::clone(&gate),
            trickle: AtomicBool::new(false),
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
                wanted,
                mdns: settings.mdns,
                candidates: AtomicUsize::new(0),
                overflowed_candidates: AtomicU64::new(0),
                malformed_candidates: AtomicU64::new(0),
            },
            receiver,
        ))
    }

    /// Opens a data channel: reliable, in order, without a sub-protocol. Call it before [`offer`](Self::offer).
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

    /// The size in bytes of the largest message that both sides accept; none before they have agreed on it.
    pub(super) async fn max_message_bytes(&self) -> Option<usize> {
        let sctp = self.connection.sctp().await?;
        usize::try_from(sctp.max_message_size().await.ok()?).ok()
    }

    /// The path that the connection uses; none before it is up.
    pub(super) async fn selected_pair(&self) -> Option<CandidatePair> {
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

    /// Adds a section that only receives. Call it before [`offer`](Self::offer).
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

    /// Adds a track to send; its section also receives if the other side sends. Call it before [`offer`](Self::offer) or
    /// [`answer`](Self::answer).
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
        let clocks = self.shared.sender_clocks.clone();
        Ok(TrackSender::new(kind, track, sender, ssrc, clocks))
    }

    /// Makes the sections that send do nothing else. Call it before [`offer`](Self::offer).
    ///
    /// # Errors
    /// When the stack refuses.
    pub(super) async fn send_only(&self) -> Result<(), PeerError> {
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
        if let Wanted::Media {
            receives: false, ..
        } = self.wanted
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

    /// Gives the other side's answer to the stack.
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

    /// Adds a candidate of the other side, whose description must be known. Browsers also send candidates that are of no use
    /// here (for TCP, or with the name of a host): those are left out without a warning.
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

    /// Asks all senders of video for a keyframe (PLI). False when there is no video yet.
    pub async fn request_keyframe(&self) -> bool {
        self.request_keyframe_of(None).await
    }

    /// Asks one source for a keyframe, or all senders of video where none is named. False when nobody could be asked.
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
            // The source has no track of the stack to ask through: with several sections the stack binds only the sources
            // that the other side's description names. The NACK interceptor sends the request then.
            Some(source) if !asked => {
                self.shared.keyframe_asks.ask(source);
                true
            }
            _ => asked,
        }
    }

    /// How many packets were thrown away since the last call because the connection has had too many sources.
    pub(crate) fn take_thrown_away(&self) -> u64 {
        self.shared.gate.take_thrown_away()
    }

    /// True when the other side has closed the connection (DTLS close_notify). On a connection without data channels the stack
    /// has no event for that, so the stream's task asks while nothing comes.
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

    /// How many candidates were left out of descriptions since the last call.
    pub fn take_candidates_left_out(&self) -> CandidatesLeftOut {
        CandidatesLeftOut {
            overflowed: self.overflowed_candidates.swap(0, Ordering::Relaxed),
            malformed: self.malformed_candidates.swap(0, Ordering::Relaxed),
        }
    }

    /// Makes the text of a description that the stack is given, and counts its candidates.
    fn normalised(&self, description: &Description, side: Side) -> Result<Normalised, PeerError> {
        let taken = self.candidates.load(Ordering::Relaxed);
        let room = MAX_CANDIDATES.saturating_sub(taken);
        let normalised = normalise(description, side, &self.wanted, room, self.mdns)?;
        self.candidates
            .fetch_add(normalised.candidates, Ordering::Relaxed);
        self.overflowed_candidates
            .fetch_add(normalised.overflowed, Ordering::Relaxed);
        self.malformed_candidates
            .fetch_add(normalised.malformed, Ordering::Relaxed);
        if let Some(sink) = &self.shared.rtp_sink {
            sink(Inbound::Described {
                sources: normalised.sources.clone(),
                further_videos: normalised.further_videos,
            });
        }
        Ok(normalised)
    }

    fn check_content(&self, sdp: &Description) -> Result<(), PeerError> {
        match &self.wanted {
            Wanted::Media { video, audio, .. } => check_media(sdp, video, *audio),
            Wanted::Messages if sdp.has_data_channels() => Ok(()),
            Wanted::Messages => Err(PeerError::NoDataChannels),
        }
    }

    /// Waits for candidates and gives the local description. An answer names codec parameters as the offer does, also where
    /// the stack was given other ones.
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
        self.shared.trickle.store(true, Ordering::Release);
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
            None => match self.wanted {
                Wanted::Media {
                    sent_profile: Some(profile),
                    ..
                } => profile.announce_in_offer(&description.sdp),
                _ => description.sdp,
            },
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

fn direction(direction: RTCRtpTransceiverDirection) -> RTCRtpTransceiverInit {
    RTCRtpTransceiverInit {
        direction,
        streams: Vec::new(),
        send_encodings: Vec::new(),
    }
}

/// Gives an error unless a description has a codec of ours.
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
