//! The codecs of media connections: which are offered, what in a description can be used, and which
//! payload type stands for which.

use rtc::peer_connection::configuration::media_engine::{
    MIME_TYPE_H264, MIME_TYPE_OPUS, MIME_TYPE_VP8, MediaEngine,
};
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind};

use super::rtp_track::TrackKind;
use crate::config::Codec;

/// H.264 profiles in order of offer (`profile-level-id`, payload type). Constrained baseline is
/// first: some peers answer nothing to an offer that does not begin with a baseline profile.
const H264_PROFILES: &[(&str, u8)] = &[
    ("42e01f", 102),
    ("42001f", 104),
    ("4d001f", 106),
    ("640c1f", 108),
    ("64001f", 112),
];

/// Payload type of VP8 in our offers.
const VP8: u8 = 96;

/// Payload type of Opus in our offers.
const OPUS: u8 = 111;

/// Registers what is offered, or may be answered, in this order.
pub(super) fn register(
    media: &mut MediaEngine,
    video: &[Codec],
    audio: bool,
) -> Result<(), rtc::shared::error::Error> {
    for codec in video {
        match codec {
            Codec::H264 => {
                for (profile, payload_type) in H264_PROFILES {
                    media.register_codec(h264(profile, *payload_type), RtpCodecKind::Video)?;
                }
            }
            Codec::Vp8 => media.register_codec(vp8(), RtpCodecKind::Video)?,
        }
    }
    if audio {
        let opus = RTCRtpCodecParameters {
            rtp_codec: opus(),
            payload_type: OPUS,
        };
        media.register_codec(opus, RtpCodecKind::Audio)?;
    }
    Ok(())
}

/// What a track is sent as before the other side has chosen.
pub(super) fn sent_as(kind: TrackKind) -> RTCRtpCodec {
    match kind {
        TrackKind::Video => {
            let (profile, payload_type) = H264_PROFILES[0];
            h264(profile, payload_type).rtp_codec
        }
        TrackKind::Audio => opus(),
    }
}

/// True for the codec that tracks of this kind are sent as.
pub(super) fn is_sent_as(kind: TrackKind, mime_type: &str) -> bool {
    let ours = match kind {
        TrackKind::Video => MIME_TYPE_H264,
        TrackKind::Audio => MIME_TYPE_OPUS,
    };
    mime_type.eq_ignore_ascii_case(ours)
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

fn vp8() -> RTCRtpCodecParameters {
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: MIME_TYPE_VP8.to_owned(),
            clock_rate: 90_000,
            channels: 0,
            sdp_fmtp_line: String::new(),
            rtcp_feedback: Vec::new(),
        },
        payload_type: VP8,
    }
}

fn opus() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_OPUS.to_owned(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
        rtcp_feedback: Vec::new(),
    }
}

/// The codecs that a description's video sections name, of those that are wanted and in that order.
pub(super) fn usable_video(sdp: &str, wanted: &[Codec]) -> Vec<Codec> {
    let named: Vec<Codec> = payload_types(sdp).map(|(_, codec)| codec).collect();
    let wanted = wanted.iter().copied();
    wanted.filter(|codec| named.contains(codec)).collect()
}

/// True when a description has an audio section that is not refused and names Opus.
pub(super) fn has_opus(sdp: &str) -> bool {
    rtpmaps(sdp, TrackKind::Audio).any(|(_, codec)| codec.starts_with("OPUS/48000"))
}

/// True when a description has a section for a track of this kind as it is sent.
pub(super) fn takes(sdp: &str, kind: TrackKind) -> bool {
    match kind {
        TrackKind::Video => !usable_video(sdp, &[Codec::H264]).is_empty(),
        TrackKind::Audio => has_opus(sdp),
    }
}

/// What the payload types of a description's video sections stand for.
pub(super) fn payload_types(sdp: &str) -> impl Iterator<Item = (u8, Codec)> {
    rtpmaps(sdp, TrackKind::Video).filter_map(|(payload_type, codec)| {
        let codec = match codec.as_str() {
            "H264/90000" => Codec::H264,
            "VP8/90000" => Codec::Vp8,
            _ => return None,
        };
        Some((payload_type, codec))
    })
}

/// Payload type and codec in capitals of the sections of a kind that are not refused.
fn rtpmaps(sdp: &str, kind: TrackKind) -> impl Iterator<Item = (u8, String)> {
    let mut in_section = false;
    sdp.lines().filter_map(move |line| {
        if let Some(media) = line.strip_prefix("m=") {
            in_section = section_kind(media) == Some(kind);
            return None;
        }
        let map = line.strip_prefix("a=rtpmap:").filter(|_| in_section)?;
        let (payload_type, codec) = map.trim_end().split_once(' ')?;
        Some((payload_type.parse().ok()?, codec.to_ascii_uppercase()))
    })
}

/// The kind of an `m=` line, unless its section is refused (port 0).
fn section_kind(media: &str) -> Option<TrackKind> {
    let mut words = media.split(' ');
    let kind = match words.next()? {
        "video" => TrackKind::Video,
        "audio" => TrackKind::Audio,
        _ => return None,
    };
    (words.next() != Some("0")).then_some(kind)
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
            [vp8, refused, good].map(|sdp| usable_video(sdp, &[Codec::H264]).len()),
            [0, 0, 1]
        );
        assert_eq!(payload_types(good).next(), Some((96, Codec::H264)));
    }

    #[test]
    fn a_description_with_opus_is_known() {
        let sdp = "v=0\r\nm=audio 9 X 111\r\na=rtpmap:111 opus/48000/2\r\nm=video 9 X 96\r\n";
        assert!(has_opus(sdp));
        assert!(!has_opus(&sdp.replace("audio 9", "audio 0")));
    }
}
