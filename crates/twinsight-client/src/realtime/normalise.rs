//! Rewrites the other side's description for the WebRTC stack: a [`Description`] comes in, and a text goes out that says the same
//! in the only form that the stack reads correctly. `peer` calls it. Nothing that the other side wrote reaches the stack except
//! words that were checked here.
//!
//! What the stack (`rtc` 0.21) would get wrong, for its maintainers:
//! - a section without a direction is left out, though `sendrecv` is the default, and a direction of the session
//!   counts for all sections (RFC 8866 section 6.7);
//! - the case of the name of a fingerprint's hash matters (RFC 8122 section 5 says that it does not), and only the first
//!   fingerprint of a section is read;
//! - `setup` at session level is not read (RFC 8842 section 5.1 allows it);
//! - `fmtp` lines with white space are dropped; H.264 without `packetization-mode` or `profile-level-id` matches
//!   nothing, though both have defaults (RFC 6184 section 8.1), and constraint flags are compared as text, so that
//!   `42c01f` is not constrained baseline;
//! - an offer without `a=group:BUNDLE` is answered with port 0 (RFC 9143 does not ask for the group);
//! - the whole description is refused for one candidate, `extmap` or static payload type that it cannot read;
//! - of two sources of a section that are not in one group, it waits for the last; an answer with two sections and no source is
//!   refused;
//! - passive TCP candidates are dialled, whatever the application asked for.

use std::collections::HashSet;

use super::candidate::{LeftOut, usable};
use super::h264_profile::ProfileLevelId;
use super::normalise_formats::{Rewritten, StackFormat, feedback, formats};
use super::sdp::Description;
use super::sdp_section::{Attribute, Format, Section, SectionKind, value_of};
use super::sdp_text::{is_token, is_words, line};
use twinsight_media::codec::Codec;

/// What a connection is to carry, and so looks for in a description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Tracks of video, of sound, or of both.
    Media {
        /// The video codecs; empty for no video.
        video: Vec<Codec>,
        /// True for sound as Opus.
        audio: bool,
        /// True if we receive, so that of an offer's sections those are preferred that send.
        receives: bool,
        /// Which H.264 we send, if that is known.
        sent_profile: Option<ProfileLevelId>,
    },
    /// Data channels.
    Messages,
}

/// Which of the two descriptions is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The other side's offer. Our answer refuses the sections that are not taken.
    Offer,
    /// The other side's answer to our offer.
    Answer,
}

/// A description as the stack is given it, and what is known of the other side's.
#[derive(Debug)]
pub(super) struct Normalised {
    /// The text for the stack.
    pub(super) text: String,
    /// How many candidates are in the text.
    pub(super) candidates: usize,
    /// How many candidates were left out because there was no more room.
    pub(super) overflowed: u64,
    /// How many candidates cannot be read.
    pub(super) malformed: u64,
    /// The sources that are named by the video section that is taken.
    pub(super) sources: Vec<u32>,
    /// How many video sections there are beyond the one that is taken.
    pub(super) further_videos: usize,
    /// For each section of an offer, the formats that were rewritten, or none if the section is not taken.
    sections: Vec<Option<Vec<Rewritten>>>,
    had_bundle: bool,
}

/// Why a description that can be read cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// No section is of what a connection is to carry.
    #[error("it has no section of what is wanted here")]
    Nothing,
    /// There is no SHA-256 fingerprint, so nobody would know who is at the other end.
    #[error("it has no SHA-256 fingerprint")]
    Fingerprint,
    /// There is no ICE password, which the stack needs.
    #[error("it has no ice-pwd")]
    IcePassword,
}

/// A refused section repeats words of the offer only up to this length, in bytes.
const MAX_REFUSED_WORD: usize = 64;

/// Rewrites a description. At most `room` candidates are kept; those with the name of a host only with `mdns`.
pub(super) fn normalise(
    description: &Description,
    side: Side,
    wanted: &Wanted,
    room: usize,
    mdns: bool,
) -> Result<Normalised, Unusable> {
    let session = description.session_attributes();
    let sections = description.sections();
    let taken = taken(sections, side, wanted);
    if !taken.contains(&true) {
        return Err(Unusable::Nothing);
    }
    let transport = Transport::of(session, sections, &taken)?;
    let candidates = candidates(description, room, mdns);

    let mut text = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n".to_owned();
    let mids = mids(sections, &taken);
    let open = || {
        let indexed = taken.iter().enumerate();
        indexed.filter(|(index, is_taken)| **is_taken && !sections[*index].is_refused)
    };
    let mut group = "a=group:BUNDLE".to_owned();
    for (index, _) in open() {
        group.push(' ');
        group.push_str(&mids[index]);
    }
    line(&mut text, &group);
    for flag in ["ice-lite", "extmap-allow-mixed"] {
        if value_of(session, flag).is_some() {
            line(&mut text, &format!("a={flag}"));
        }
    }
    let options = |attributes| value_of(attributes, "ice-options").filter(|value| is_words(value));
    if let Some(options) = options(session) {
        line(&mut text, &format!("a=ice-options:{options}"));
    }
    // With one section the stack accepts whatever source comes; with several, each section has to name one. A section that the
    // other side has refused counts too, since it has its place among the stack's transceivers.
    let rtp_sections = sections
        .iter()
        .zip(&taken)
        .filter(|(section, is_taken)| **is_taken && section.kind != SectionKind::Data)
        .count();
    let first_open = open().next().map(|(index, _)| index);
    let mut rewritten = Vec::with_capacity(sections.len());
    for (index, section) in sections.iter().enumerate() {
        if !taken[index] {
            rewritten.push(None);
            continue;
        }
        let formats = match wanted {
            Wanted::Media {
                video,
                audio,
                sent_profile,
                ..
            } => formats(section, video, *audio, *sent_profile),
            Wanted::Messages => Vec::new(),
        };
        write_section(&mut text, section, &formats, &mids[index]);
        transport.write(&mut text);
        if rtp_sections > 1 && section.direction.sends() {
            // The stack binds only the source that is named here. If the section names none, 1 is named, which nobody sends
            // with: the RTP tap accepts packets by their payload type, and `nack` binds their source.
            let source = section.sources().first().copied().unwrap_or(1);
            line(&mut text, &format!("a=ssrc:{source} cname:peer"));
        }
        if first_open == Some(index) {
            for candidate in &candidates.usable {
                line(&mut text, &format!("a=candidate:{candidate}"));
            }
        }
        let changed = formats.into_iter().filter_map(|format| format.rewritten);
        rewritten.push(Some(changed.collect()));
    }
    let open_videos = sections
        .iter()
        .filter(|section| section.kind == SectionKind::Video && !section.is_refused)
        .count();
    let sources = open()
        .map(|(index, _)| &sections[index])
        .find(|section| section.kind == SectionKind::Video)
        .map_or_else(Vec::new, Section::sources);
    Ok(Normalised {
        text,
        sources,
        candidates: candidates.usable.len(),
        overflowed: candidates.overflowed,
        malformed: candidates.malformed,
        further_videos: match wanted {
            Wanted::Media { video, .. } if !video.is_empty() => open_videos.saturating_sub(1),
            _ => 0,
        },
        sections: rewritten,
        had_bundle: session.iter().any(|a| {
            a.name == "group" && a.value.split_ascii_whitespace().next() == Some("BUNDLE")
        }),
    })
}

impl Normalised {
    /// Makes the answer for the other side from the stack's: sections that are not taken are refused, and rewritten parameters
    /// are again as they were offered. RFC 6184 section 8.2.2 wants `packetization-mode` and the profile back unchanged.
    pub(super) fn complete(&self, offer: &Description, answer: &str) -> String {
        let has_changed = self
            .sections
            .iter()
            .any(|section| section.as_ref().is_none_or(|changed| !changed.is_empty()));
        if !has_changed && self.had_bundle {
            return answer.to_owned();
        }
        // Only `m=` at the beginning of a line begins a section: the line of the group has names in it that the other side chose.
        let (head, rest) = match answer.find("\nm=") {
            Some(at) => answer.split_at(at + 1),
            None => (answer, ""),
        };
        let mut out = String::with_capacity(answer.len());
        for text in head.split_inclusive('\n') {
            if self.had_bundle || !text.starts_with("a=group:") {
                out.push_str(text);
            }
        }
        let mut answered = sections_of(rest).into_iter();
        for (section, taken) in offer.sections().iter().zip(&self.sections) {
            match taken {
                Some(changed) => {
                    if let Some(section) = answered.next() {
                        restore(&mut out, section, changed);
                    }
                }
                None => refuse(&mut out, section),
            }
        }
        out.extend(answered);
        out
    }
}

/// The sections that the stack is given: the first usable one of each kind. Of an offer's sections the first one is preferred
/// that goes our way, since the other side may have the section of its own track in front.
fn taken(sections: &[Section], side: Side, wanted: &Wanted) -> Vec<bool> {
    let mut taken = vec![false; sections.len()];
    let kinds: &[SectionKind] = match wanted {
        Wanted::Media { .. } => &[SectionKind::Video, SectionKind::Audio],
        Wanted::Messages => &[SectionKind::Data],
    };
    for kind in kinds {
        let of_kind = sections.iter().enumerate();
        let usable: Vec<(usize, &Section)> = of_kind
            .filter(|(_, section)| section.kind == *kind)
            .filter(|(_, section)| match side {
                Side::Offer => !section.is_refused && is_wanted(section, wanted),
                // Every section of an answer belongs to one of our offer, also one that it refuses.
                Side::Answer => section.is_refused || is_wanted(section, wanted),
            })
            .collect();
        let ours = |(_, section): &&(usize, &Section)| match (side, wanted) {
            (Side::Offer, Wanted::Media { receives: true, .. }) => section.direction.sends(),
            (Side::Offer, Wanted::Media { .. }) => section.direction.receives(),
            (Side::Offer, Wanted::Messages) | (Side::Answer, _) => true,
        };
        if let Some((index, _)) = usable.iter().find(ours).or_else(|| usable.first()) {
            taken[*index] = true;
        }
    }
    taken
}

/// True for a section that has something of what the connection is to carry.
fn is_wanted(section: &Section, wanted: &Wanted) -> bool {
    match (wanted, section.kind) {
        (Wanted::Media { video, .. }, SectionKind::Video) => {
            let has_one = |format: &Format| format.codec().is_some_and(|c| video.contains(&c));
            section.codecs().iter().any(has_one)
        }
        (Wanted::Media { audio, .. }, SectionKind::Audio) => {
            *audio && section.codecs().iter().any(Format::is_opus)
        }
        (Wanted::Messages, SectionKind::Data) => true,
        _ => false,
    }
}

/// The `mid` of each section: its own, or its index, which is what JSEP's implementations use.
fn mids(sections: &[Section], taken: &[bool]) -> Vec<String> {
    let mut used: HashSet<String> = HashSet::new();
    let indexed = sections.iter().zip(taken).enumerate();
    let named = indexed.map(|(index, (section, is_taken))| {
        let own = section.attribute("mid").filter(|mid| is_token(mid));
        let mut mid = own.map_or_else(|| index.to_string(), str::to_owned);
        while *is_taken && !used.insert(mid.clone()) {
            mid.push('x');
        }
        mid
    });
    named.collect()
}

/// The attributes of the one transport that all sections share.
struct Transport<'a> {
    ice_ufrag: &'a str,
    ice_pwd: &'a str,
    fingerprint: String,
    setup: Option<&'static str>,
}

impl<'a> Transport<'a> {
    /// Finds each attribute in the sections that are taken, else in the session, else in any section.
    fn of(
        session: &'a [Attribute],
        sections: &'a [Section],
        taken: &[bool],
    ) -> Result<Self, Unusable> {
        let open = sections.iter().zip(taken);
        let mut order: Vec<&'a [Attribute]> = open
            .filter(|(section, is_taken)| **is_taken && !section.is_refused)
            .map(|(section, _)| section.attributes.as_slice())
            .collect();
        order.push(session);
        order.extend(sections.iter().map(|section| section.attributes.as_slice()));
        let find = |name: &str| {
            let mut values = order
                .iter()
                .filter_map(|attributes| value_of(attributes, name));
            values.find(|value| !value.is_empty() && is_words(value))
        };
        let fingerprint = order
            .iter()
            .flat_map(|attributes| attributes.iter())
            .filter(|attribute| attribute.name == "fingerprint")
            .find_map(|attribute| sha256(&attribute.value))
            .ok_or(Unusable::Fingerprint)?;
        let setup = find("setup").and_then(|setup| {
            let known = ["active", "passive", "actpass", "holdconn"];
            known
                .into_iter()
                .find(|known| known.eq_ignore_ascii_case(setup))
        });
        Ok(Self {
            ice_ufrag: find("ice-ufrag").unwrap_or_default(),
            ice_pwd: find("ice-pwd").ok_or(Unusable::IcePassword)?,
            fingerprint,
            setup,
        })
    }

    fn write(&self, text: &mut String) {
        line(text, &format!("a=ice-ufrag:{}", self.ice_ufrag));
        line(text, &format!("a=ice-pwd:{}", self.ice_pwd));
        line(text, &format!("a=fingerprint:sha-256 {}", self.fingerprint));
        if let Some(setup) = self.setup {
            line(text, &format!("a=setup:{setup}"));
        }
    }
}

/// The digits of a fingerprint, if it is one of SHA-256.
fn sha256(value: &str) -> Option<String> {
    let mut words = value.split_ascii_whitespace();
    let (hash, digits) = (words.next()?, words.next()?);
    let is_one = hash.eq_ignore_ascii_case("sha-256") || hash.eq_ignore_ascii_case("sha256");
    let pairs: Vec<&str> = digits.split(':').collect();
    let is_byte = |pair: &&str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
    (is_one && pairs.len() == 32 && pairs.iter().all(is_byte)).then(|| digits.to_ascii_uppercase())
}

/// The candidates of a description.
struct Candidates {
    usable: Vec<String>,
    overflowed: u64,
    malformed: u64,
}

fn candidates(description: &Description, room: usize, mdns: bool) -> Candidates {
    let mut candidates = Candidates {
        usable: Vec::new(),
        overflowed: 0,
        malformed: 0,
    };
    for candidate in description.candidates() {
        match usable(candidate, mdns) {
            Ok(usable) if candidates.usable.contains(&usable) => {}
            Ok(_) if candidates.usable.len() >= room => candidates.overflowed += 1,
            Ok(usable) => candidates.usable.push(usable),
            Err(LeftOut::Malformed) => candidates.malformed += 1,
            // Browsers also send candidates that are of no use here.
            Err(_) => {}
        }
    }
    candidates
}

fn write_section(text: &mut String, section: &Section, formats: &[StackFormat], mid: &str) {
    let (media, protocol, named) = match section.kind {
        SectionKind::Data => (
            "application",
            "UDP/DTLS/SCTP",
            vec!["webrtc-datachannel".to_owned()],
        ),
        SectionKind::Audio | SectionKind::Video | SectionKind::Other => {
            let mut named: Vec<String> = formats
                .iter()
                .map(|format| format.payload_type.to_string())
                .collect();
            if named.is_empty() {
                // The grammar wants a format also in a section that is refused.
                named.push("0".to_owned());
            }
            let media = if section.kind == SectionKind::Audio {
                "audio"
            } else {
                "video"
            };
            (media, "UDP/TLS/RTP/SAVPF", named)
        }
    };
    let port = if section.is_refused { 0 } else { 9 };
    line(
        text,
        &format!("m={media} {port} {protocol} {}", named.join(" ")),
    );
    line(text, "c=IN IP4 0.0.0.0");
    line(text, &format!("a=mid:{mid}"));
    let direction = if section.is_refused {
        "inactive"
    } else {
        section.direction.as_str()
    };
    line(text, &format!("a={direction}"));
    for format in formats {
        let StackFormat {
            payload_type,
            map,
            parameters,
            ..
        } = format;
        line(text, &format!("a=rtpmap:{payload_type} {map}"));
        if !parameters.is_empty() {
            line(text, &format!("a=fmtp:{payload_type} {parameters}"));
        }
        for feedback in feedback(section, *payload_type) {
            line(text, &format!("a=rtcp-fb:{payload_type} {feedback}"));
        }
    }
    for attribute in &section.attributes {
        let Attribute { name, value } = attribute;
        let kept = match name.as_str() {
            "rtcp-mux" | "rtcp-rsize" | "extmap-allow-mixed" | "end-of-candidates" => String::new(),
            "msid" | "rid" | "simulcast" | "ice-options" if is_words(value) => value.clone(),
            "sctp-port" | "max-message-size" if value.parse::<u64>().is_ok() => value.clone(),
            "extmap" => match extension(value) {
                Some(value) => value,
                None => continue,
            },
            _ => continue,
        };
        let colon = if kept.is_empty() { "" } else { ":" };
        line(text, &format!("a={name}{colon}{kept}"));
    }
}

/// A header extension that the stack can read: `ID[/DIRECTION] URI`.
fn extension(value: &str) -> Option<String> {
    let mut words = value.split_ascii_whitespace();
    let (id, uri) = (words.next()?, words.next()?);
    let id: u8 = id.split('/').next()?.parse().ok()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":/._-".contains(&byte);
    let is_known = uri.starts_with("urn:ietf:") || uri.starts_with("http://www.");
    (id > 0 && is_known && uri.bytes().all(allowed)).then(|| format!("{id} {uri}"))
}

/// The sections of an answer, each with its line ends.
fn sections_of(rest: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = rest.match_indices("\nm=").map(|(at, _)| at + 1).collect();
    if rest.starts_with("m=") {
        starts.insert(0, 0);
    }
    let ends = starts.iter().skip(1).copied().chain([rest.len()]);
    let pairs = starts.iter().copied().zip(ends);
    pairs.map(|(start, end)| &rest[start..end]).collect()
}

/// Writes a section with the parameters of its formats as they were offered.
fn restore(out: &mut String, section: &str, changed: &[Rewritten]) {
    for text in section.split_inclusive('\n') {
        let of = text.strip_prefix("a=fmtp:").and_then(|rest| {
            let payload_type: u8 = rest.split(' ').next()?.parse().ok()?;
            changed
                .iter()
                .find(|each| each.payload_type == payload_type)
        });
        match of {
            None => out.push_str(text),
            Some(Rewritten { parameters, .. }) if parameters.is_empty() => {}
            Some(Rewritten {
                payload_type,
                parameters,
            }) => line(out, &format!("a=fmtp:{payload_type} {parameters}")),
        }
    }
}

/// Writes the refusal of a section that is not taken (RFC 3264 section 6). The formats of a refused section mean nothing, so one
/// is enough, and no offer can make its answer longer than a description may be.
fn refuse(out: &mut String, section: &Section) {
    let is_short = |text: &&str| is_token(text) && text.len() <= MAX_REFUSED_WORD;
    let format = section.formats.iter().map(String::as_str).find(is_short);
    let protocol = Some(section.protocol.as_str()).filter(is_short);
    let media = Some(section.media.as_str()).filter(is_short);
    line(
        out,
        &format!(
            "m={} 0 {} {}",
            media.unwrap_or("video"),
            protocol.unwrap_or("RTP/AVP"),
            format.unwrap_or("0")
        ),
    );
    line(out, "c=IN IP4 0.0.0.0");
    line(out, "a=inactive");
    if let Some(mid) = section.attribute("mid").filter(|mid| is_token(mid)) {
        line(out, &format!("a=mid:{mid}"));
    }
}

#[cfg(test)]
#[path = "normalise_tests.rs"]
mod tests;
