//! Which of a camera's streams is taken. What its session description (SDP, RFC 8866) says comes in; the one stream that is set
//! up goes out, with the parameter sets that stand in the description: there are cameras that send them nowhere else.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::error::RtspError;
use crate::config::shown;
use twinsight_media::h264::parameter_sets::ParameterSets;

/// Cameras leave the padding out, or write too much of it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A stream that a camera has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offered<'a> {
    /// `video`, `audio` or `application`.
    pub(super) media: &'a str,
    /// The encoding in lower case, such as `h264`.
    pub(super) encoding: &'a str,
    pub(super) payload_type: u8,
}

/// The first video in H.264, by its place. Sound and metadata are not asked for.
///
/// # Errors
/// When there is none, with what there is in its place.
pub(super) fn choose(streams: &[Offered<'_>]) -> Result<usize, RtspError> {
    let is_video = |stream: &&Offered<'_>| stream.media == "video";
    let wanted = streams
        .iter()
        .position(|stream| is_video(&stream) && stream.encoding == "h264");
    if let Some(place) = wanted {
        return Ok(place);
    }
    if let Some(video) = streams.iter().find(is_video) {
        return Err(RtspError::OtherCodec(name(video.encoding)));
    }
    let others: Vec<_> = streams
        .iter()
        .map(|stream| format!("{} as {}", shown(stream.media), name(stream.encoding)))
        .collect();
    Err(RtspError::NoVideo(if others.is_empty() {
        "it has no stream at all".to_owned()
    } else {
        format!("it has {}", others[..others.len().min(4)].join(", "))
    }))
}

/// What people call an encoding.
fn name(encoding: &str) -> String {
    match encoding {
        "h265" => "H.265 (HEVC)".to_owned(),
        "jpeg" => "MJPEG".to_owned(),
        "mp4v-es" => "MPEG-4".to_owned(),
        other => shown(&other.to_uppercase()),
    }
}

/// The parameter sets that the description has for the chosen stream (`sprop-parameter-sets`, RFC 6184 section 8.1). What cannot
/// be read of them is left out, since most cameras send them in band, too.
pub(super) fn declared_sets(sdp: &str, streams: &[Offered<'_>], chosen: usize) -> ParameterSets {
    let mut sets = ParameterSets::default();
    let Some(&Offered { payload_type, .. }) = streams.get(chosen) else {
        return sets;
    };
    // Cameras give several streams the same payload type, so that only the order tells them apart.
    let earlier = streams[..chosen]
        .iter()
        .filter(|stream| stream.media == "video" && stream.payload_type == payload_type)
        .count();
    let mut sections = sdp.split("m=").skip(1).filter(|section| {
        let mut words = section.split_whitespace();
        words.next() == Some("video") && words.nth(2) == Some(&payload_type.to_string())
    });
    let Some(section) = sections.nth(earlier) else {
        return sets;
    };
    let parameters = section
        .lines()
        .filter_map(|line| line.trim().strip_prefix("a=fmtp:"))
        .filter_map(|value| value.split_once(char::is_whitespace))
        .filter(|(of, _)| *of == payload_type.to_string())
        .flat_map(|(_, parameters)| parameters.split(';'))
        .filter_map(|parameter| parameter.trim().strip_prefix("sprop-parameter-sets="));
    for encoded in parameters.flat_map(|value| value.split(',')) {
        let Ok(decoded) = BASE64.decode(encoded.trim()) else {
            continue;
        };
        // Some cameras put a byte stream there in place of a NAL unit.
        let mut pieces = twinsight_media::h264::nal::annex_b(&decoded).peekable();
        let whole = pieces.peek().is_none().then_some(decoded.as_slice());
        for nal in whole.into_iter().chain(pieces) {
            if let Err(error) = sets.remember(nal) {
                tracing::debug!(%error, "a parameter set of the description is left out");
            }
        }
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    const H264: Offered<'_> = Offered {
        media: "video",
        encoding: "h264",
        payload_type: 96,
    };
    const H265: Offered<'_> = Offered {
        encoding: "h265",
        ..H264
    };
    const SOUND: Offered<'_> = Offered {
        media: "audio",
        encoding: "pcmu",
        payload_type: 0,
    };

    #[test]
    fn the_first_h264_is_taken() {
        assert_eq!(choose(&[SOUND, H265, H264, H264]), Ok(2));
        let h265 = choose(&[H265, SOUND]).unwrap_err().to_string();
        assert!(
            h265.contains("H.265 (HEVC)") && h265.contains("video encoding"),
            "{h265}"
        );
        let none = choose(&[SOUND]).unwrap_err();
        assert_eq!(none, RtspError::NoVideo("it has audio as PCMU".to_owned()));
        assert!(choose(&[]).is_err());
    }

    #[test]
    fn parameter_sets_stand_in_the_description() {
        let sdp = "v=0\r\ns=m=video\r\nm=audio 0 RTP/AVP 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\n\
                   m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
                   a=fmtp:96 packetization-mode=1;profile-level-id=4D401F; sprop-parameter-sets=Z01AH42NQCgC3/gLcBAQFAAAD6AAAw1BgyxI,aO44gA\r\n";
        let sets = declared_sets(sdp, &[SOUND, H265, H264], 2);
        let kinds: Vec<u8> = sets.nals().map(|nal| nal[0] & 0x1f).collect();
        assert_eq!(kinds, [7, 8]);
        assert!(declared_sets(sdp, &[SOUND, H265], 1).is_empty());
        for broken in [
            "",
            "m=",
            "m=video 0 RTP/AVP 96\na=fmtp:96 sprop-parameter-sets=%,,Zw,",
        ] {
            assert!(declared_sets(broken, &[H264], 0).is_empty());
        }
        assert!(declared_sets(sdp, &[], 0).is_empty());
    }
}
