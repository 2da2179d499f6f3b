//! The codecs of a media section as the WebRTC stack is to see them, for `normalise`: a section of the other side's
//! description comes in; the formats that are kept, each with parameters that the stack matches, go out.

use super::h264_profile::{BASELINE, ProfileLevelId};
use super::sdp_section::{Format, Section, SectionKind};
use super::sdp_text::{is_graphic, is_token, is_words};
use twinsight_media::codec::Codec;

/// The stack is given at most this many formats of a section; browsers write a dozen.
const MAX_FORMATS: usize = 32;
/// At most this many kinds of feedback of a format are kept, each up to this many bytes. The limits are needed because feedback
/// for all formats is written again for each of them.
const MAX_FEEDBACK: usize = 16;
const MAX_FEEDBACK_BYTES: usize = 64;

/// A format whose parameters are rewritten for the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rewritten {
    pub(super) payload_type: u8,
    /// The parameters that our answer has to name; empty for none.
    pub(super) parameters: String,
}

/// The parameters of H.264 that the stack matches with a registered profile.
pub(super) fn h264_parameters(profile_level_id: &str) -> String {
    format!("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={profile_level_id}")
}

/// A format as the stack is given it.
pub(super) struct StackFormat {
    pub(super) payload_type: u8,
    /// The value of its `rtpmap`.
    pub(super) map: String,
    /// The value of its `fmtp`; empty for none.
    pub(super) parameters: String,
    /// What the answer has to say of it in place of the stack's own parameters.
    pub(super) rewritten: Option<Rewritten>,
}

/// The formats of a section that are kept, with one payload type for each profile of H.264. The profile that is sent, if it is
/// known and among them, is the first.
pub(super) fn formats(
    section: &Section,
    video: &[Codec],
    audio: bool,
    sent: Option<ProfileLevelId>,
) -> Vec<StackFormat> {
    let all = section.codecs();
    let is_h264 = |format: &&Format| format.codec() == Some(Codec::H264);
    // Packetization mode 1 is preferred; mode 0 is kept only where nothing else is offered.
    let has_mode_1 = all
        .iter()
        .filter(is_h264)
        .any(|format| format.packetization_mode() == 1);
    let mut profiles: Vec<&str> = Vec::new();
    let mut kept = Vec::new();
    for format in &all {
        if kept.len() >= MAX_FORMATS {
            break;
        }
        let parameters = match (section.kind, format.codec()) {
            (SectionKind::Video, Some(Codec::H264)) if video.contains(&Codec::H264) => {
                let profile = registered(format);
                if (has_mode_1 && format.packetization_mode() != 1) || profiles.contains(&profile) {
                    continue;
                }
                profiles.push(profile);
                h264_parameters(profile)
            }
            (SectionKind::Video, Some(Codec::Vp8)) if video.contains(&Codec::Vp8) => {
                joined(format, |_| true)
            }
            (SectionKind::Audio, _) if audio && format.is_opus() => joined(format, |_| true),
            _ => continue,
        };
        // The answer does not repeat parameter sets (`sprop-…`), which are those of the other side's own stream.
        let offered = joined(format, |name| {
            !name.to_ascii_lowercase().starts_with("sprop-")
        });
        let offered = answered(format, offered);
        let offered = match sent {
            Some(sent) if format.codec() == Some(Codec::H264) => with_level(format, offered, sent),
            _ => offered,
        };
        let is_same = offered == parameters;
        let mut map = format!("{}/{}", format.name, format.clock_rate);
        if let Some(encoding) = format.encoding.as_deref().filter(|text| is_token(text)) {
            map.push('/');
            map.push_str(encoding);
        } else if format.is_opus() {
            map.push_str("/2");
        }
        kept.push(StackFormat {
            payload_type: format.payload_type,
            map,
            parameters,
            rewritten: (!is_same).then_some(Rewritten {
                payload_type: format.payload_type,
                parameters: offered,
            }),
        });
    }
    if let Some(sent) = sent {
        // An answer's first format is the one that is sent with, and the stack answers in the order of the offer. Sorting keeps
        // the order of the others.
        let of_sent = h264_parameters(sent.registered());
        kept.sort_by_key(|format| format.parameters != of_sent);
    }
    kept
}

/// The registered profile that stands for the profile of a format, which has the default, the baseline profile, if it names none.
fn registered(format: &Format) -> &'static str {
    format
        .profile()
        .map_or(BASELINE, ProfileLevelId::registered)
}

/// The parameters of an answer with the level of what is sent, where that is higher than the offered one and may differ from it
/// (RFC 6184 section 8.2.2).
fn with_level(format: &Format, parameters: String, sent: ProfileLevelId) -> String {
    let may_differ = format.parameter("level-asymmetry-allowed") == Some("1");
    let (Some(ProfileLevelId([profile, flags, level])), true) = (format.profile(), may_differ)
    else {
        return parameters;
    };
    let raised = ProfileLevelId([profile, flags, level.max(sent.named_level())]);
    match format.parameter("profile-level-id") {
        Some(offered) => parameters.replace(offered, &raised.to_string()),
        None => parameters,
    }
}

/// The parameters that an answer names for a format: those that were offered (RFC 6184 section 8.2.2). If the offer does not name
/// `packetization-mode`, the answer names mode 1, since such a peer usually sends fragments all the same, and the official client
/// drops an answer without a mode.
fn answered(format: &Format, offered: String) -> String {
    let is_left_out =
        format.codec() == Some(Codec::H264) && format.parameter("packetization-mode").is_none();
    match (is_left_out, offered.is_empty()) {
        (false, _) => offered,
        (true, true) => "packetization-mode=1".to_owned(),
        (true, false) => format!("{offered};packetization-mode=1"),
    }
}

/// The parameters of a format whose names are to be kept, as the value of an `fmtp`.
fn joined(format: &Format, keep: impl Fn(&str) -> bool) -> String {
    let parameters = format
        .parameters
        .iter()
        .filter(|parameter| keep(&parameter.name) && is_graphic(&parameter.name))
        .filter(|parameter| parameter.value.as_deref().is_none_or(is_graphic))
        .map(|parameter| match &parameter.value {
            Some(value) => format!("{}={value}", parameter.name),
            None => parameter.name.clone(),
        });
    parameters.collect::<Vec<_>>().join(";")
}

/// The kinds of feedback that a section names for a payload type or for all of them (RFC 4585 section 4.2).
pub(super) fn feedback(section: &Section, payload_type: u8) -> Vec<&str> {
    let own = section.of_payload_type("rtcp-fb", payload_type);
    let all = section
        .attributes
        .iter()
        .filter(|attribute| attribute.name == "rtcp-fb")
        .filter_map(|attribute| attribute.value.strip_prefix("* "));
    own.chain(all)
        .map(str::trim)
        .filter(|value| is_words(value) && value.len() <= MAX_FEEDBACK_BYTES)
        .take(MAX_FEEDBACK)
        .collect()
}
