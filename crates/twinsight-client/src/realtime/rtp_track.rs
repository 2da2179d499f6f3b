//! A track that sends over a peer connection: RTP payloads come in, and go out as packets of the track's media section. A task
//! of each `LocalTrack`'s attachment calls it.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use rtc::media_stream::MediaStreamTrack;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use webrtc::media_stream::track_local::TrackLocal as _;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::rtp_transceiver::RtpSender;

use super::codecs;
use super::h264_profile::ProfileLevelId;
use super::peer_error::PeerError;
use super::sender_reports::SenderClocks;

/// The kind of media that a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TrackKind {
    /// Pictures.
    Video,
    /// Sound, as Opus packets.
    Audio,
}

impl TrackKind {
    /// Both kinds, in the order of their sections in an offer.
    pub const ALL: [Self; 2] = [Self::Video, Self::Audio];

    /// `video` or `audio`, as in a description's `m=` line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Audio => "audio",
        }
    }

    pub(super) fn of_stack(self) -> RtpCodecKind {
        match self {
            Self::Video => RtpCodecKind::Video,
            Self::Audio => RtpCodecKind::Audio,
        }
    }
}

impl fmt::Display for TrackKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A track as a description is to name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SentTrack {
    pub(crate) kind: TrackKind,
    /// The other side's tools show it.
    pub(crate) id: String,
    /// Which H.264 it is, if that is known.
    pub(crate) profile: Option<ProfileLevelId>,
}

/// A track that is sent as RTP payloads: video as H.264, audio as Opus.
#[derive(Clone)]
pub struct TrackSender {
    kind: TrackKind,
    track: Arc<TrackLocalStaticRTP>,
    sender: Arc<dyn RtpSender>,
    ssrc: u32,
    clocks: SenderClocks,
}

impl TrackSender {
    pub(super) fn new(
        kind: TrackKind,
        track: Arc<TrackLocalStaticRTP>,
        sender: Arc<dyn RtpSender>,
        ssrc: u32,
        clocks: SenderClocks,
    ) -> Self {
        Self {
            kind,
            track,
            sender,
            ssrc,
            clocks,
        }
    }

    /// Says which moment a timestamp stands for, for sender reports. It is to be called before the first packet that has it.
    pub fn note_clock(&self, timestamp: u32, at: Instant) {
        self.clocks.note(self.ssrc, timestamp, at);
    }

    /// The payload type that the two sides have agreed on; it is known after the answer.
    ///
    /// # Errors
    /// When the connection is gone, or the other side does not accept such a track.
    pub async fn payload_type(&self) -> Result<u8, PeerError> {
        let parameters = self
            .sender
            .get_parameters()
            .await
            .map_err(|source| PeerError::Local {
                what: "read what was agreed on",
                source,
            })?;
        parameters
            .rtp_parameters
            .codecs
            .iter()
            .find(|codec| codecs::is_sent_as(self.kind, &codec.rtp_codec.mime_type))
            .map(|codec| codec.payload_type)
            .ok_or(PeerError::NotTaken(self.kind))
    }

    /// Sends one RTP packet; waits while the connection is busy.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&self, packet: OutboundRtp) -> Result<(), PeerError> {
        let mut header = rtc::rtp::header::Header {
            version: 2,
            ..Default::default()
        };
        header.payload_type = packet.payload_type;
        header.sequence_number = packet.sequence;
        header.timestamp = packet.timestamp;
        header.marker = packet.marker;
        header.ssrc = self.ssrc;
        self.track
            .write_rtp(rtc::rtp::Packet {
                header,
                payload: packet.payload,
            })
            .await
            .map_err(|source| PeerError::Local {
                what: "send a packet",
                source,
            })
    }
}

impl fmt::Debug for TrackSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackSender")
            .field("kind", &self.kind)
            .field("ssrc", &self.ssrc)
            .finish_non_exhaustive()
    }
}

/// An RTP packet to send.
#[derive(Debug, Clone)]
pub struct OutboundRtp {
    /// The payload type that was agreed on: [`TrackSender::payload_type`].
    pub payload_type: u8,
    /// The sequence number, one more than that of the packet before.
    pub sequence: u16,
    /// The time in ticks of 90 kHz for video, of 48 kHz for audio.
    pub timestamp: u32,
    /// True for the last packet of an access unit, and for the first packet after a pause of sound.
    pub marker: bool,
    /// The payload (RFC 6184, RFC 7587).
    pub payload: bytes::Bytes,
}

/// Makes the stack's own track, and gives it with its SSRC. All tracks of a connection have the same stream id, so the other side
/// sees one stream.
pub(super) fn stack_track(kind: TrackKind, id: &str) -> (Arc<TrackLocalStaticRTP>, u32) {
    let ssrc = rand::random::<u32>();
    let track = TrackLocalStaticRTP::new(MediaStreamTrack::new(
        "camera".to_owned(),
        id.to_owned(),
        id.to_owned(),
        kind.of_stack(),
        vec![RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(ssrc),
                ..Default::default()
            },
            codec: codecs::sent_as(kind),
            ..Default::default()
        }],
    ));
    (Arc::new(track), ssrc)
}
