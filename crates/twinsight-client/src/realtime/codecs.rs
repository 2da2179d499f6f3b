//! The codecs of media connections: the codecs that an app wants come in, what the stack offers, answers and sends goes out.
//! `peer` and `rtp_track` call it.

use rtc::peer_connection::configuration::media_engine::{
    MIME_TYPE_H264, MIME_TYPE_OPUS, MIME_TYPE_VP8, MediaEngine,
};
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind};

use super::h264_profile::ProfileLevelId;
use super::normalise_formats::h264_parameters;
use super::rtp_track::TrackKind;
use super::sdp::Description;
use twinsight_media::codec::Codec;

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

/// Registers the codecs that an offer names and an answer may name, in this order. `sent` is the H.264 that is sent, if that
/// is known.
pub(super) fn register(
    media: &mut MediaEngine,
    video: &[Codec],
    audio: bool,
    sent: Option<ProfileLevelId>,
) -> Result<(), rtc::shared::error::Error> {
    for codec in video {
        match codec {
            Codec::H264 => {
                // The profile of what is sent is named first, where it is known; peers without it choose among the others.
                let mut profiles = H264_PROFILES.to_vec();
                profiles.sort_by_key(|(profile, _)| {
                    sent.map(ProfileLevelId::registered) != Some(*profile)
                });
                for (profile, payload_type) in &profiles {
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

/// The codec that a track is sent with before the other side has chosen one.
pub(super) fn sent_as(kind: TrackKind) -> RTCRtpCodec {
    match kind {
        TrackKind::Video => {
            let (profile, payload_type) = H264_PROFILES[0];
            h264(profile, payload_type).rtp_codec
        }
        TrackKind::Audio => opus(),
    }
}

/// True if tracks of this kind are sent with this codec.
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
            sdp_fmtp_line: h264_parameters(profile_level_id),
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

/// True when a description has a section with the codec that tracks of this kind are sent with.
pub(super) fn takes(description: &Description, kind: TrackKind) -> bool {
    match kind {
        TrackKind::Video => !description.usable_video(&[Codec::H264]).is_empty(),
        TrackKind::Audio => description.has_opus(),
    }
}
