//! The one place where the other side's description is put right before the WebRTC stack sees it: a
//! [`Description`] comes in, a text goes out that says the same in the only way that the stack reads. Nothing that
//! the other side wrote reaches the stack but words that were looked at here.
//!
//! What the stack (`rtc` 0.21) would get wrong, for its maintainers:
//! - a section without a direction is left out, though `sendrecv` is the default, and a direction of the session
//!   counts for all sections (RFC 8866 section 6.7);
//! - the name of a fingerprint's hash is compared with case (RFC 8122 section 5 has it without), and any fingerprint
//!   but the first of a section is not looked at;
//! - `setup` at session level is not read (RFC 8842 section 5.1 allows it);
//! - `fmtp` lines with white space are dropped; H.264 without `packetization-mode` or `profile-level-id` matches
//!   nothing, though both have defaults (RFC 6184 section 8.1), and constraint flags are compared as text, so that
//!   `42c01f` is not constrained baseline;
//! - an offer without `a=group:BUNDLE` is answered with port 0 (RFC 9143 does not ask for the group);
//! - one candidate, `extmap` or static payload type that it cannot read refuses the whole description;
//! - of two sources of a section that are no group the last is waited for; with none named and two sections the
//!   answer is refused;
//! - passive TCP candidates are dialled, whatever the application asked for.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::candidate::{LeftOut, usable};
use super::sdp::{Attribute, Description, Format, Section, SectionKind, value_of};
use twinsight_media::codec::Codec;

/// What a connection takes of a description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Tracks: the video codecs, and whether sound.
    Media {
        /// Empty for no video.
        video: Vec<Codec>,
        audio: bool,
        /// What the other side sends; else only what it takes.
        receives: bool,
    },
    /// Data channels.
    Messages,
}

/// Which of the two descriptions it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The other side's offer: sections that are not taken are refused in the answer.
    Offer,
    /// The other side's answer to our offer.
    Answer,
}

/// What the stack is given.
#[derive(Debug)]
pub(super) struct Normalised {
    /// The description.
    pub(super) text: String,
    /// Candidates in it.
    pub(super) candidates: usize,
    /// Candidates that there was no more room for.
    pub(super) overflowed: u64,
    /// Candidates that cannot be read.
    pub(super) malformed: u64,
    /// The sources that the video section that is taken names.
    pub(super) sources: Vec<u32>,
    /// Video sections of the other side beyond the one that is taken.
    pub(super) further_videos: usize,
    /// For each section of an offer whether it is taken, and what its formats say.
    sections: Vec<Option<Vec<Rewritten>>>,
    had_bundle: bool,
}

/// A format whose parameters the stack is told in other words.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rewritten {
    payload_type: u8,
    /// What the answer is to say; empty for nothing.
    parameters: String,
}

/// Why a description that can be read cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Then there is nothing to connect.
    #[error("it has no section of what is wanted here")]
    Nothing,
    /// Without it nobody knows who is at the other end.
    #[error("it has no SHA-256 fingerprint")]
    Fingerprint,
    /// The stack needs it.
    #[error("it has no ice-pwd")]
    IcePassword,
}

/// Formats of a section that the stack is told of; browsers write a dozen.
const MAX_FORMATS: usize = 32;
/// Kinds of feedback of a format, and the bytes of one. What holds for all formats is written anew for each of them.
const MAX_FEEDBACK: usize = 16;
const MAX_FEEDBACK_BYTES: usize = 64;

/// H.264 as the stack knows it: what is registered there, by the profile that it stands for.
const BASELINE: &str = "42001f";
const CONSTRAINED_BASELINE: &str = "42e01f";
const MAIN: &str = "4d001f";
const CONSTRAINED_HIGH: &str = "640c1f";
const HIGH: &str = "64001f";

/// A word that a refused section repeats is no longer than this.
const MAX_REFUSED_WORD: usize = 64;

/// The parameters of H.264 with which the stack matches a registered profile.
pub(super) fn h264_parameters(profile_level_id: &str) -> String {
    format!("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={profile_level_id}")
}

/// Puts a description right. `room` is for so many candidates; names of hosts are taken with `mdns`.
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
    // With one section the stack takes whatever source comes; with several it has to be told of one each.
    // One that the other side refused counts: it has its place among the stack's transceivers.
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
        let formats = formats(section, wanted);
        write_section(&mut text, section, &formats, &mids[index]);
        transport.write(&mut text);
        if rtp_sections > 1 && section.direction.sends() {
            // The stack tells of no other source than this one. Where none is named it stands for nobody: the tee takes
            // what comes by its payload type, and `nack` asks for what it lacks.
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
    /// The stack's answer as the other side is to see it: with the sections that are not taken refused, and with
    /// its own words for what was put in others. RFC 6184 section 8.2.2 wants `packetization-mode` and the profile
    /// back as they were offered.
    pub(super) fn complete(&self, offer: &Description, answer: &str) -> String {
        let has_changed = self
            .sections
            .iter()
            .any(|section| section.as_ref().is_none_or(|changed| !changed.is_empty()));
        if !has_changed && self.had_bundle {
            return answer.to_owned();
        }
        // At the begin of a line: the other side's names stand in the group's.
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

/// The sections that the stack is told of: of each kind the first that can be used, and of an offer's sooner one that
/// goes our way. A side may well have its own track's section in front.
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
                // An answer's section is one of our offer's, also where it refuses it.
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

/// True for a section that has something of what is wanted.
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

/// The name of each section: its own, or its number as JSEP's implementations give them.
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

/// What all sections have in common, since they share one transport.
struct Transport<'a> {
    ice_ufrag: &'a str,
    ice_pwd: &'a str,
    fingerprint: String,
    setup: Option<&'static str>,
}

impl<'a> Transport<'a> {
    /// That of the first section that is taken and says so, else the session's, else any section's.
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
            // What browsers send beside what is of use here.
            Err(_) => {}
        }
    }
    candidates
}

/// A format as the stack is told of it.
struct StackFormat {
    payload_type: u8,
    map: String,
    parameters: String,
    rewritten: Option<Rewritten>,
}

/// What is kept of a section's formats.
fn formats(section: &Section, wanted: &Wanted) -> Vec<StackFormat> {
    let Wanted::Media { video, audio, .. } = wanted else {
        return Vec::new();
    };
    let all = section.codecs();
    let is_h264 = |format: &&Format| format.codec() == Some(Codec::H264);
    // The packets of mode 1 are what is preferred; those of mode 0 are read as well.
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
            (SectionKind::Audio, _) if *audio && format.is_opus() => joined(format, |_| true),
            _ => continue,
        };
        // Parameter sets that the offer names are those of its own stream.
        let offered = joined(format, |name| {
            !name.to_ascii_lowercase().starts_with("sprop-")
        });
        let offered = answered(format, offered);
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
    kept
}

/// The profile of those that are registered with the stack which stands for a format's. Compared by what the
/// bits mean (RFC 6184 section 8.1, table 5), not as text. The level says nothing: decoding does not depend on it.
fn registered(format: &Format) -> &'static str {
    match format.profile() {
        // The default is the baseline profile.
        None => BASELINE,
        Some((0x42, flags)) if flags & 0x40 != 0 => CONSTRAINED_BASELINE,
        Some((0x42 | 0x58, _)) => BASELINE,
        Some((0x4d, flags)) if flags & 0x80 != 0 => CONSTRAINED_BASELINE,
        Some((0x4d, _)) => MAIN,
        Some((0x64, flags)) if flags & 0x0c == 0x0c => CONSTRAINED_HIGH,
        Some(_) => HIGH,
    }
}

/// What an answer says of a format: what was offered (RFC 6184 section 8.2.2). Where the mode of packets is left out,
/// the answer names the one that is read here as well: who leaves it out sends fragments all the same, as a rule, and
/// the official client drops an answer without it.
fn answered(format: &Format, offered: String) -> String {
    let is_left_out =
        format.codec() == Some(Codec::H264) && format.parameter("packetization-mode").is_none();
    match (is_left_out, offered.is_empty()) {
        (false, _) => offered,
        (true, true) => "packetization-mode=1".to_owned(),
        (true, false) => format!("{offered};packetization-mode=1"),
    }
}

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
                // A section that is refused names one all the same.
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

/// The feedback of a payload type, also what is said of all of them (RFC 4585 section 4.2).
fn feedback(section: &Section, payload_type: u8) -> Vec<&str> {
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

/// A header extension that the stack can read: `ID[/DIRECTION] URI`.
fn extension(value: &str) -> Option<String> {
    let mut words = value.split_ascii_whitespace();
    let (id, uri) = (words.next()?, words.next()?);
    let id: u8 = id.split('/').next()?.parse().ok()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":/._-".contains(&byte);
    let is_known = uri.starts_with("urn:ietf:") || uri.starts_with("http://www.");
    (id > 0 && is_known && uri.bytes().all(allowed)).then(|| format!("{id} {uri}"))
}

/// An answer's sections, each with its line ends.
fn sections_of(rest: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = rest.match_indices("\nm=").map(|(at, _)| at + 1).collect();
    if rest.starts_with("m=") {
        starts.insert(0, 0);
    }
    let ends = starts.iter().skip(1).copied().chain([rest.len()]);
    let pairs = starts.iter().copied().zip(ends);
    pairs.map(|(start, end)| &rest[start..end]).collect()
}

/// A section with the parameters of its formats as they were offered.
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

/// A section of an offer that is not taken, refused (RFC 3264 section 6). Its formats say nothing then, so one is
/// enough, and no offer makes its answer longer than a description may be.
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

fn line(text: &mut String, content: &str) {
    // Writing into a string does not fail.
    let _ = write!(text, "{content}\r\n");
}

fn is_graphic(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && is_graphic(text)
}

fn is_words(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 1024
        && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}

#[cfg(test)]
#[path = "normalise_tests.rs"]
mod tests;
