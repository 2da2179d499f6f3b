//! Dials one camera as the node does, up to its first packets of video, and hangs up. A camera's
//! configuration comes in; how long it took, or what stands in the way, goes out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::finding::Failure;
use crate::config::CameraConfig;
use twinsight_client::dialect::Dialect;
use twinsight_client::hub::message::{IceServer, TwinMessage};
use twinsight_client::hub::{HubClient, MessageReceiver};
use twinsight_client::realtime::ice::IceSettings;
use twinsight_client::realtime::negotiation::{CONNECT_LIMIT, OFFER_AGAIN};
use twinsight_client::realtime::peer::{MediaSetup, Peer, PeerError, PeerEvent};
use twinsight_client::realtime::rtp_tap::Inbound;
use twinsight_client::realtime::rtp_track::TrackKind;
use twinsight_client::realtime::sdp::{Description, VideoAnswer};
use twinsight_client::realtime::signal::{
    Candidate, ChannelKind, Signal, SignalEnvelope, SignalNames, mint_peer_id,
};
use twinsight_media::codec::Codec;

/// The offer waits this long for its answer. There is no second offer, since it could not be told which of them a slow camera
/// answers.
const CHECK_ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// To subscribe, make an offer, send a signal or hang up may each take this long.
const STEP_LIMIT: Duration = Duration::from_secs(5);

/// Once the connection is up, the first packet of video has this long to come.
const VIDEO_LIMIT: Duration = Duration::from_secs(10);

/// At most this many signals of the camera wait to be read.
const MAILBOX: usize = 64;

/// At most this many candidates are kept that come before the answer.
const MAX_EARLY: usize = 32;

/// What is needed to dial a camera.
#[derive(Debug)]
pub(super) struct Dialler {
    pub(super) hub: HubClient,
    pub(super) own_twin: String,
    pub(super) camera: CameraConfig,
    pub(super) ice: IceSettings,
    pub(super) servers: Vec<IceServer>,
}

/// What is known of a camera that sends video.
#[derive(Debug, Clone, Copy)]
pub(super) struct DialResult {
    /// The time from the offer to the answer.
    pub(super) answered: Duration,
    /// The time from the offer to the connection.
    pub(super) connected: Duration,
    /// The codec of its video.
    pub(super) codec: Codec,
}

/// How far a call has come.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// The offer was sent.
    Offered,
    /// The answer came, this long after the offer.
    Answered(Duration),
    /// The connection is up.
    Connected {
        answered: Duration,
        connected: Duration,
    },
}

impl Dialler {
    /// Sends an offer and waits for the answer, the connection and the first packet of video.
    pub(super) async fn dial(self) -> Result<DialResult, Failure> {
        let (own, id) = (&self.own_twin, &self.camera.id);
        let names = SignalNames::new(
            ChannelKind::Media,
            self.camera.dialect,
            &id.stream,
            own,
            &id.twin_id,
            &id.twin_id,
        );
        let peer_id = mint_peer_id();
        let mut mailbox = self.mailbox(&names, &peer_id);
        let subscribed = tokio::time::timeout(STEP_LIMIT, self.hub.subscribe(&id.twin_id)).await;
        if let Ok(Err(error)) = subscribed {
            return Err(Failure::new(
                format!("the hub does not let this node listen to it ({error})"),
                "see that the camera's twin is of the node's tenant",
            ));
        }
        self.call(&names, &peer_id, &mut mailbox).await
    }

    fn unanswered(&self) -> Failure {
        let id = &self.camera.id;
        Failure::new(
            format!(
                "no answer to the offer within {} s",
                CHECK_ANSWER_LIMIT.as_secs()
            ),
            format!(
                "start the camera's app; see that it streams as twin {}, stream \"{}\", in the `dialect` that is configured (now \"{}\"), \
                 has a place for one more viewer, and takes {}; a camera that dials by itself needs `connect = \"accept\"`",
                id.twin_id,
                id.stream,
                self.camera.dialect,
                named(&self.camera.codecs)
            ),
        )
    }

    /// Receives the camera's signals to this call.
    fn mailbox(&self, names: &SignalNames, peer_id: &str) -> MessageReceiver {
        let (names, peer_id) = (names.clone(), peer_id.to_owned());
        let legacy = self.camera.dialect == Dialect::Legacy;
        let camera = Arc::clone(&self.camera.id.twin_id);
        self.hub.messages(MAILBOX, move |message: &TwinMessage| {
            let theirs = message.data.get("peerId").and_then(|id| id.as_str());
            let from_it = match theirs {
                Some(theirs) => theirs == peer_id,
                None => legacy || *message.source_twin_id == *camera,
            };
            from_it && names.matches(&message.data)
        })
    }

    async fn call(
        &self,
        names: &SignalNames,
        peer_id: &str,
        mailbox: &mut MessageReceiver,
    ) -> Result<DialResult, Failure> {
        let (came, video) = watch::channel(None);
        let sink = Arc::new(move |inbound| {
            if let Inbound::Rtp(packet) = inbound {
                came.send_replace(Some(packet.codec));
            }
        });
        let described = async {
            let setup = MediaSetup {
                sink,
                video: self.camera.codecs.clone(),
                audio: false,
                receives: true,
                sent_profile: None,
            };
            let (peer, events) = Peer::for_media(&self.ice, &self.servers, setup).await?;
            peer.receive(TrackKind::Video).await?;
            let sdp = peer.offer().await?;
            Ok::<_, PeerError>((peer, events, sdp))
        };
        let (peer, mut events, sdp) = match tokio::time::timeout(STEP_LIMIT, described).await {
            Ok(Ok(described)) => described,
            Ok(Err(error)) => {
                return Err(Failure::here(
                    format!("no offer could be made here ({error})"),
                    "see `[ice]` of the configuration: `interfaces` and `udp_ports`",
                ));
            }
            Err(_) => {
                return Err(Failure::here(
                    format!(
                        "no offer could be made here within {} s",
                        STEP_LIMIT.as_secs()
                    ),
                    "check again when this machine has less to do",
                ));
            }
        };
        let result = if self.ice.relay_only && sdp.candidates().next().is_none() {
            Err(Failure::here(
                "no TURN server gave this node an address, and `ice.policy` is \"relay\"",
                "see that the TURN server runs, takes UDP on its port, and accepts the user name and credential (PHYSTACK_TURN_USERNAME, PHYSTACK_TURN_CREDENTIAL, or the hub's)",
            ))
        } else {
            let call = Call {
                dialler: self,
                names,
                peer_id,
                peer: &peer,
            };
            call.run(sdp, mailbox, &mut events, video).await
        };
        // This tells the camera that the call is over, so that it may take another one.
        let _ = tokio::time::timeout(STEP_LIMIT, peer.close()).await;
        result
    }
}

/// One call: an offer and what follows it.
struct Call<'a> {
    dialler: &'a Dialler,
    names: &'a SignalNames,
    peer_id: &'a str,
    peer: &'a Peer,
}

impl Call<'_> {
    async fn run(
        &self,
        sdp: Description,
        mailbox: &mut MessageReceiver,
        events: &mut mpsc::Receiver<PeerEvent>,
        mut video: watch::Receiver<Option<Codec>>,
    ) -> Result<DialResult, Failure> {
        let started = Instant::now();
        self.send(Signal::Offer { sdp }).await?;
        let mut stage = Stage::Offered;
        let mut early: Vec<Candidate> = Vec::new();
        let mut deadline = Instant::now() + CHECK_ANSWER_LIMIT;
        // A camera on npm 4.x has tracks only after it is connected, and needs another offer then.
        let (mut is_silent, mut renegotiation) = (false, Renegotiation::No);
        loop {
            tokio::select! {
                message = mailbox.recv() => {
                    let Some(message) = message else {
                        return Err(Failure::new("the hub went away meanwhile", "check again when it stays"));
                    };
                    match self.names.parse(&message.data) {
                        Some(Ok(SignalEnvelope { signal: Signal::Answer { sdp }, .. })) => {
                            if renegotiation == Renegotiation::Offered {
                                renegotiation = Renegotiation::No;
                                self.take_answer(&sdp).await?;
                            } else if matches!(stage, Stage::Offered) {
                                is_silent = sdp.sends_nothing();
                                self.take_answer(&sdp).await?;
                                for candidate in early.drain(..) {
                                    self.take_candidate(candidate).await;
                                }
                                stage = Stage::Answered(started.elapsed());
                                deadline = Instant::now() + CONNECT_LIMIT;
                            }
                        }
                        Some(Ok(SignalEnvelope { signal: Signal::Ice(candidate), .. })) => {
                            if !matches!(stage, Stage::Offered) {
                                self.take_candidate(candidate).await;
                            } else if early.len() < MAX_EARLY {
                                early.push(candidate);
                            }
                        }
                        Some(Err(error)) => return Err(Failure::new(
                            format!("its signal cannot be used: {error}"),
                            "update the camera's app: it speaks another dialect of the hub's signalling",
                        )),
                        Some(Ok(_)) | None => {}
                    }
                }
                event = events.recv() => match (event, stage) {
                    (Some(PeerEvent::Candidate(candidate)), _) => self.send(Signal::Ice(candidate)).await?,
                    (Some(PeerEvent::Connected), Stage::Answered(answered)) => {
                        stage = Stage::Connected { answered, connected: started.elapsed() };
                        deadline = Instant::now() + VIDEO_LIMIT;
                        if is_silent && self.dialler.camera.dialect == Dialect::Legacy {
                            renegotiation = Renegotiation::At(Instant::now() + OFFER_AGAIN[0]);
                        }
                    }
                    (Some(PeerEvent::Ended) | None, _) => return Err(match stage {
                        Stage::Connected { .. } => Failure::new(
                            "connected, and the camera hung up before video came",
                            "see what the camera's app logs about it",
                        ),
                        Stage::Offered | Stage::Answered(_) => no_path(),
                    }),
                    (
                        Some(PeerEvent::Connected | PeerEvent::Disconnected | PeerEvent::Channel(_)),
                        _,
                    ) => {}
                },
                Ok(codec) = first(&mut video) => {
                    // A packet proves that the connection is up, even if its state has not been reported yet.
                    let connected = started.elapsed();
                    let (answered, connected) = match stage {
                        Stage::Connected { answered, connected } => (answered, connected),
                        Stage::Answered(answered) => (answered, connected),
                        Stage::Offered => (connected, connected),
                    };
                    return Ok(DialResult { answered, connected, codec });
                }
                () = tokio::time::sleep_until(renegotiation.at().unwrap_or(deadline).into()), if renegotiation.at().is_some() => {
                    renegotiation = Renegotiation::Offered;
                    let sdp = self.peer.offer().await.map_err(|error| Failure::new(
                        error.to_string(),
                        "this is a bug: please report it with the camera's make",
                    ))?;
                    self.send(Signal::Offer { sdp }).await?;
                }
                () = tokio::time::sleep_until(deadline.into()) => return Err(match stage {
                    Stage::Offered => self.dialler.unanswered(),
                    Stage::Answered(_) => no_path(),
                    Stage::Connected { .. } => Failure::new(
                        format!("connected, but no video came within {} s", VIDEO_LIMIT.as_secs()),
                        "see that the camera's source gives pictures, and what its app logs",
                    ),
                }),
            }
        }
    }

    async fn send(&self, signal: Signal) -> Result<(), Failure> {
        let data = self.names.encode(&signal, Some(self.peer_id));
        let sending = self.dialler.hub.send(self.names.room(), data);
        match tokio::time::timeout(STEP_LIMIT, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::new(
                format!("the offer could not be sent ({error})"),
                "check again when the hub stays",
            )),
            Err(_) => Err(Failure::new(
                "the hub does not take the offer",
                "check again when the hub has less to do",
            )),
        }
    }

    async fn take_answer(&self, sdp: &Description) -> Result<(), Failure> {
        let wanted = &self.dialler.camera.codecs;
        let codecs = video_codecs(sdp, wanted);
        let accepting = self.peer.accept_answer(sdp);
        match tokio::time::timeout(STEP_LIMIT, accepting).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(PeerError::NoCodec { .. })) => Err(Failure::new(
                codecs,
                format!(
                    "let the camera send {}: its `codecs` and this build allow nothing else",
                    named(wanted).replace("H.264", "H.264 (baseline, packetization-mode=1)")
                ),
            )),
            Ok(Err(error)) => Err(Failure::new(
                error.to_string(),
                "update the camera's app, and report it with the camera's make if that does not help",
            )),
            Err(_) => Err(Failure::new(
                format!("its answer was not taken within {} s", STEP_LIMIT.as_secs()),
                "check again when this machine has less to do",
            )),
        }
    }

    async fn take_candidate(&self, candidate: Candidate) {
        let adding = self.peer.add_candidate(candidate);
        if let Ok(Err(error)) = tokio::time::timeout(STEP_LIMIT, adding).await {
            // Another candidate may work.
            tracing::debug!(%error, "a candidate of the camera cannot be used");
        }
    }
}

/// Waits for the first packet of video and gives its codec.
async fn first(
    video: &mut watch::Receiver<Option<Codec>>,
) -> Result<Codec, watch::error::RecvError> {
    let first = video.wait_for(Option::is_some).await?;
    Ok(first.unwrap_or(Codec::H264))
}

/// Whether another offer is sent over the same connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renegotiation {
    No,
    At(Instant),
    Offered,
}

impl Renegotiation {
    fn at(self) -> Option<Instant> {
        match self {
            Self::At(at) => Some(at),
            Self::No | Self::Offered => None,
        }
    }
}

fn no_path() -> Failure {
    Failure::new(
        format!(
            "it answered, and no network path was found within {} s",
            CONNECT_LIMIT.as_secs()
        ),
        "see that UDP passes between this machine and the camera (in a container: the network, `ice.udp_ports` and `ice.nat_1to1_ips`), or set up TURN over UDP",
    )
}

/// The codecs that an answer names instead of those that are wanted, as a clause.
fn video_codecs(answer: &Description, wanted: &[Codec]) -> String {
    let wanted = named(wanted);
    let mut codecs = match answer.video_codec_names() {
        VideoAnswer::NoVideo => return "it answers without video".to_owned(),
        VideoAnswer::Refused => {
            return format!(
                "it refuses {wanted} video: its answer closes the video section (port 0)"
            );
        }
        VideoAnswer::Codecs(codecs) => codecs,
    };
    if codecs.is_empty() {
        codecs.push("no codec".to_owned());
    }
    format!("it has no {wanted}: its answer names {}", codecs.join(", "))
}

/// Lists codecs by the names that people know.
fn named(codecs: &[Codec]) -> String {
    let names: Vec<_> = codecs.iter().map(|codec| codec.title()).collect();
    names.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::{Description, video_codecs as described};
    use twinsight_media::codec::Codec;

    fn video_codecs(sdp: &str) -> String {
        let sdp = format!("v=0\r\na=ice-ufrag:x\r\n{sdp}");
        described(&Description::parse(&sdp).unwrap(), &[Codec::H264])
    }

    #[test]
    fn an_answer_without_h264_is_described() {
        let vp8 = "m=audio 9 X 111\r\na=rtpmap:111 opus/48000/2\r\nm=video 9 X 96 97\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\n";
        assert_eq!(video_codecs(vp8), "it has no H.264: its answer names VP8");
        let refused = "m=video 0 UDP/TLS/RTP/SAVPF 102\r\na=rtpmap:102 H264/90000\r\n";
        assert!(video_codecs(refused).contains("port 0"));
        assert_eq!(video_codecs(""), "it answers without video");
        assert_eq!(
            video_codecs("m=video 9 X 96"),
            "it has no H.264: its answer names no codec"
        );
    }
}
