//! H.264 on a peer connection: which profiles are offered, what in a description can be used, and a
//! track that sends RTP packets. A peer connection puts it into its media section.

use std::fmt;
use std::sync::Arc;

use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_H264, MediaEngine};
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind};
use webrtc::media_stream::track_local::TrackLocal as _;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::rtp_transceiver::RtpSender;

use super::peer::PeerError;

/// H.264 profiles in order of offer (`profile-level-id`, payload type). Constrained baseline is
/// first: some peers answer nothing to an offer that does not begin with a baseline profile.
const H264_PROFILES: &[(&str, u8)] = &[
    ("42e01f", 102),
    ("42001f", 104),
    ("4d001f", 106),
    ("640c1f", 108),
    ("64001f", 112),
];

/// A video track that is sent as RTP payloads.
#[derive(Clone)]
pub struct VideoSender {
    track: Arc<TrackLocalStaticRTP>,
    sender: Arc<dyn RtpSender>,
    ssrc: u32,
}

impl VideoSender {
    pub(super) fn new(
        track: Arc<TrackLocalStaticRTP>,
        sender: Arc<dyn RtpSender>,
        ssrc: u32,
    ) -> Self {
        Self {
            track,
            sender,
            ssrc,
        }
    }

    /// The payload type that the two sides agreed on. After the answer.
    ///
    /// # Errors
    /// When the connection is gone or no codec was agreed on.
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
            .first()
            .map(|codec| codec.payload_type)
            .ok_or(PeerError::NoH264)
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

impl fmt::Debug for VideoSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VideoSender")
            .field("ssrc", &self.ssrc)
            .finish_non_exhaustive()
    }
}

/// An RTP packet to send.
#[derive(Debug, Clone)]
pub struct OutboundRtp {
    /// As agreed on: [`VideoSender::payload_type`].
    pub payload_type: u8,
    /// One more than that of the packet before.
    pub sequence: u16,
    /// At 90 kHz.
    pub timestamp: u32,
    /// Last packet of an access unit.
    pub marker: bool,
    /// The payload (RFC 6184).
    pub payload: bytes::Bytes,
}

/// Registers what is offered.
pub(super) fn register(media: &mut MediaEngine) -> Result<(), rtc::shared::error::Error> {
    for (profile, payload_type) in H264_PROFILES {
        media.register_codec(h264(profile, *payload_type), RtpCodecKind::Video)?;
    }
    Ok(())
}

/// What a track is sent as before the other side has chosen.
pub(super) fn preferred_codec() -> RTCRtpCodec {
    let (profile, payload_type) = H264_PROFILES[0];
    h264(profile, payload_type).rtp_codec
}

fn h264(profile_level_id: &str, payload_type: u8) -> RTCRtpCodecParameters {
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: MIME_TYPE_H264.to_owned(),
            clock_rate: 90_000,
            channels: 0,
            sdp_fmtp_line: format!(
                "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={profile_level_id}"
            ),
            rtcp_feedback: Vec::new(),
        },
        payload_type,
    }
}

/// True when a description has a video section that is not refused and names H.264.
pub(super) fn has_usable_h264(sdp: &str) -> bool {
    let mut in_video = false;
    for line in sdp.lines() {
        if let Some(media) = line.strip_prefix("m=") {
            in_video = media.starts_with("video ") && media.split(' ').nth(1) != Some("0");
        } else if in_video
            && line.starts_with("a=rtpmap:")
            && line.to_ascii_uppercase().contains(" H264/90000")
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_without_h264_is_known() {
        let vp8 = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 VP8/90000\r\n";
        let refused = "v=0\r\nm=video 0 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 H264/90000\r\n";
        let good =
            "v=0\r\nm=audio 9 X 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 H264/90000\r\n";
        assert_eq!(
            [vp8, refused, good].map(has_usable_h264),
            [false, false, true]
        );
    }
}
