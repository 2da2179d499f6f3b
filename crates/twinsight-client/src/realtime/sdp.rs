//! Session descriptions (RFC 8866), read in this one place: a text comes in, a [`Description`] with types goes out,
//! and everything that is asked of a description is asked of that. What the WebRTC stack is given is made of it by
//! `normalise`, so the stack never sees the other side's text.
//!
//! Only `v=`, `m=` and `a=` lines are read: the rest says nothing about a WebRTC connection, so a broken `b=` or a
//! second `s=` refuses nobody. That is why this is no parser of a crate (`sdp-types`, the stack's own): those refuse
//! such lines, and know neither the defaults of the attributes nor a bound.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use twinsight_media::codec::Codec;

/// A description larger than this is refused; a browser's with everything in it has 10 KiB.
pub const MAX_BYTES: usize = 64 * 1024;

/// So is one with more lines,
pub const MAX_LINES: usize = 2048;

/// or with more media sections.
pub const MAX_SECTIONS: usize = 32;

/// Sources that are read of a section.
const MAX_SOURCES: usize = 16;

/// Why a description cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// It is too long.
    #[error("it has {0} bytes, and {MAX_BYTES} are the most")]
    Bytes(usize),
    /// It has too many lines.
    #[error("it has more than {MAX_LINES} lines")]
    Lines,
    /// It has too many media sections.
    #[error("it has more than {MAX_SECTIONS} media sections")]
    Sections,
    /// It does not begin as a description does.
    #[error("it does not begin with the line `v=0`")]
    Version,
    /// A line is not of the form `x=…`.
    #[error("its line {0} is not of the form `x=value`")]
    Line(usize),
    /// A section's first line cannot be read.
    #[error("its line {0} is no media section: `m=KIND PORT PROTOCOL FORMAT…` is one")]
    Section(usize),
    /// Nothing can be connected without it.
    #[error("it has no ice-ufrag")]
    IceUfrag,
}

/// A description that was read. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Description(Arc<Parsed>);

#[derive(PartialEq, Eq)]
struct Parsed {
    text: String,
    session: Vec<Attribute>,
    sections: Vec<Section>,
    ice_ufrag: String,
}

/// An attribute: `a=name` or `a=name:value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attribute {
    /// In small letters.
    pub(crate) name: String,
    /// Empty where there is none, without white space around it.
    pub(crate) value: String,
}

/// What a section is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SectionKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
    /// Data channels (RFC 8841).
    Data,
    /// Anything else.
    Other,
}

/// Which way media goes, as the side whose description it is sees it (RFC 8866 section 6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    fn of(name: &str) -> Option<Self> {
        match name {
            "sendrecv" => Some(Self::SendRecv),
            "sendonly" => Some(Self::SendOnly),
            "recvonly" => Some(Self::RecvOnly),
            "inactive" => Some(Self::Inactive),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    pub(crate) fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    pub(crate) fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// A media section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) kind: SectionKind,
    /// The word after `m=`.
    pub(crate) media: String,
    pub(crate) protocol: String,
    /// Payload types of RTP, or what stands in their place.
    pub(crate) formats: Vec<String>,
    /// Its port is 0.
    pub(crate) is_refused: bool,
    /// Its own, else the session's, else `sendrecv`.
    pub(crate) direction: Direction,
    pub(crate) attributes: Vec<Attribute>,
}

/// What a description says of video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoAnswer {
    /// It has no section of video.
    NoVideo,
    /// Its sections of video are all closed (port 0).
    Refused,
    /// The codecs that it names, those of retransmission and repair left out; perhaps none.
    Codecs(Vec<String>),
}

/// Codecs of an answer that are named.
const MAX_CODECS: usize = 8;

/// A codec of a section, with what its payload type stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) payload_type: u8,
    /// Of the `rtpmap`, in capitals.
    pub(crate) name: String,
    pub(crate) clock_rate: u32,
    /// What follows the clock rate: the channels of sound.
    pub(crate) encoding: Option<String>,
    pub(crate) parameters: Vec<Parameter>,
}

/// A parameter of an `fmtp` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameter {
    /// As written.
    pub(crate) name: String,
    /// As written; none for a parameter without `=`.
    pub(crate) value: Option<String>,
}

impl Format {
    /// The value of a parameter, whose name is compared without case (RFC 6838 section 4.3).
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self
            .parameters
            .iter()
            .find(|parameter| parameter.name.eq_ignore_ascii_case(name))?;
        found.value.as_deref()
    }

    /// The codec that it is, if it is one of those that a build may decode.
    pub(crate) fn codec(&self) -> Option<Codec> {
        match (self.name.as_str(), self.clock_rate) {
            // Interleaved packets (mode 2) are another format, which nobody here reads.
            ("H264", 90_000) if self.packetization_mode() <= 1 => Some(Codec::H264),
            ("VP8", 90_000) => Some(Codec::Vp8),
            _ => None,
        }
    }

    pub(crate) fn is_opus(&self) -> bool {
        self.name == "OPUS" && self.clock_rate == 48_000
    }

    /// RFC 6184 section 8.1: single NAL units are the default.
    pub(crate) fn packetization_mode(&self) -> u8 {
        match self.parameter("packetization-mode").map(str::trim) {
            None => 0,
            Some(mode) => mode.parse().unwrap_or(0),
        }
    }

    /// `profile_idc` and the constraint flags, if they are given and can be read.
    pub(crate) fn profile(&self) -> Option<(u8, u8)> {
        let text = self.parameter("profile-level-id")?.trim();
        let is_read = text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = is_read.then(|| u32::from_str_radix(text, 16).ok())??;
        let [_, profile, flags, _] = number.to_be_bytes();
        Some((profile, flags))
    }
}

impl Section {
    /// The value of the first attribute of that name.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        value_of(&self.attributes, name)
    }

    /// The codecs of its formats that an `rtpmap` names, in the order of its first line.
    pub(crate) fn codecs(&self) -> Vec<Format> {
        let codecs = self.payload_types();
        codecs.filter_map(|each| self.format(each)).collect()
    }

    /// The payload types of its first line, each once: what they stand for is looked for in all attributes, and the
    /// other side may repeat one thousands of times.
    fn payload_types(&self) -> impl Iterator<Item = u8> {
        let mut known = [false; 256];
        let payload_types = self.formats.iter().filter_map(|text| text.parse().ok());
        payload_types.filter(move |payload_type: &u8| {
            !std::mem::replace(&mut known[usize::from(*payload_type)], true)
        })
    }

    fn format(&self, payload_type: u8) -> Option<Format> {
        let map = self.of_payload_type("rtpmap", payload_type).next()?;
        let mut parts = map.splitn(3, '/').map(str::trim);
        let name = parts.next()?.to_ascii_uppercase();
        let clock_rate = parts.next().and_then(|rate| rate.parse().ok()).unwrap_or(0);
        let encoding = parts.next().map(str::to_owned);
        let parameters = self
            .of_payload_type("fmtp", payload_type)
            .flat_map(|line| line.split(';'))
            .map(str::trim)
            .filter(|parameter| !parameter.is_empty())
            .map(|parameter| match parameter.split_once('=') {
                Some((name, value)) => Parameter {
                    name: name.trim().to_owned(),
                    value: Some(value.trim().to_owned()),
                },
                None => Parameter {
                    name: parameter.to_owned(),
                    value: None,
                },
            })
            .collect();
        Some(Format {
            payload_type,
            name,
            clock_rate,
            encoding,
            parameters,
        })
    }

    /// What attributes of this name say of a payload type.
    pub(crate) fn of_payload_type<'a>(
        &'a self,
        name: &'a str,
        payload_type: u8,
    ) -> impl Iterator<Item = &'a str> {
        self.attributes
            .iter()
            .filter(move |attribute| attribute.name == name)
            .filter_map(move |attribute| {
                let (of, value) = attribute.value.split_once([' ', '\t'])?;
                (of.parse() == Ok(payload_type)).then_some(value.trim())
            })
    }

    /// The sources that it names, but for those that only repair another one (RFC 5576).
    pub(crate) fn sources(&self) -> Vec<u32> {
        let repairs: Vec<u32> = self
            .attributes
            .iter()
            .filter(|attribute| attribute.name == "ssrc-group")
            .filter_map(|attribute| {
                let mut words = attribute.value.split_ascii_whitespace();
                let semantics = words.next()?;
                let repairs = matches!(semantics, "FID" | "FEC" | "FEC-FR");
                repairs.then_some(words.skip(1))
            })
            .flatten()
            .filter_map(|ssrc| ssrc.parse().ok())
            .collect();
        let mut sources = Vec::new();
        let named = self.attributes.iter().filter(|a| a.name == "ssrc");
        for attribute in named {
            let ssrc = attribute.value.split_ascii_whitespace().next();
            if let Some(ssrc) = ssrc.and_then(|ssrc| ssrc.parse().ok())
                && !repairs.contains(&ssrc)
                && !sources.contains(&ssrc)
                && sources.len() < MAX_SOURCES
            {
                sources.push(ssrc);
            }
        }
        sources
    }

    fn is_for_data_channels(&self) -> bool {
        self.kind == SectionKind::Data && !self.is_refused
    }
}

impl Description {
    /// Reads a description, whatever its line ends are.
    ///
    /// # Errors
    /// [`SdpError`] when it is too large, is no description, or nothing can be connected with it.
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        if text.len() > MAX_BYTES {
            return Err(SdpError::Bytes(text.len()));
        }
        let lines = text.lines().flat_map(|line| line.split('\r'));
        let lines = lines.map(str::trim_end).enumerate();
        let mut lines = lines.filter(|(_, line)| !line.is_empty());
        if lines.clone().take(MAX_LINES + 1).count() > MAX_LINES {
            return Err(SdpError::Lines);
        }
        match lines.next() {
            Some((_, "v=0")) => {}
            _ => return Err(SdpError::Version),
        }
        let mut session = Vec::new();
        let mut sections: Vec<Section> = Vec::new();
        for (index, line) in lines {
            let number = index + 1;
            let mut characters = line.chars();
            let (Some(kind), Some('=')) = (characters.next(), characters.next()) else {
                return Err(SdpError::Line(number));
            };
            let value = characters.as_str().trim();
            match kind {
                'm' if sections.len() >= MAX_SECTIONS => return Err(SdpError::Sections),
                'm' => sections.push(section(value).ok_or(SdpError::Section(number))?),
                'a' => {
                    let (name, value) = value.split_once(':').unwrap_or((value, ""));
                    let attribute = Attribute {
                        name: name.trim().to_ascii_lowercase(),
                        value: value.trim().to_owned(),
                    };
                    match sections.last_mut() {
                        Some(section) => section.attributes.push(attribute),
                        None => session.push(attribute),
                    }
                }
                _ => {}
            }
        }
        let default = direction_of(&session).unwrap_or(Direction::SendRecv);
        for section in &mut sections {
            section.direction = direction_of(&section.attributes).unwrap_or(default);
        }
        let of_sections = sections.iter().map(|section| &section.attributes);
        let ice_ufrag = std::iter::once(&session)
            .chain(of_sections)
            .find_map(|attributes| value_of(attributes, "ice-ufrag"))
            .filter(|ufrag| !ufrag.is_empty())
            .ok_or(SdpError::IceUfrag)?
            .to_owned();
        Ok(Self(Arc::new(Parsed {
            text: text.to_owned(),
            session,
            sections,
            ice_ufrag,
        })))
    }

    /// The text as it came.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The ICE generation (RFC 8839 section 5.4): a new one is a new attempt.
    pub fn ice_ufrag(&self) -> &str {
        &self.0.ice_ufrag
    }

    pub(crate) fn session_attributes(&self) -> &[Attribute] {
        &self.0.session
    }

    pub(crate) fn sections(&self) -> &[Section] {
        &self.0.sections
    }

    fn open(&self, kind: SectionKind) -> impl Iterator<Item = &Section> {
        let sections = self.0.sections.iter();
        sections.filter(move |section| section.kind == kind && !section.is_refused)
    }

    /// True when there is a section of a kind, refused or not.
    pub(crate) fn has(&self, kind: SectionKind) -> bool {
        self.0.sections.iter().any(|section| section.kind == kind)
    }

    /// What a description says of video, for people: names of codecs are printable, short and few.
    pub fn video_codec_names(&self) -> VideoAnswer {
        let videos = || {
            let sections = self.0.sections.iter();
            sections.filter(|section| section.kind == SectionKind::Video)
        };
        if videos().next().is_none() {
            return VideoAnswer::NoVideo;
        }
        if videos().all(|section| section.is_refused) {
            return VideoAnswer::Refused;
        }
        let mut codecs: Vec<String> = Vec::new();
        for format in videos().flat_map(Section::codecs) {
            let name = format.name.chars().filter(char::is_ascii_graphic);
            let name: String = name.take(16).collect();
            let helper = ["RTX", "RED", "ULPFEC"].contains(&name.as_str());
            if !helper && !codecs.contains(&name) && codecs.len() < MAX_CODECS {
                codecs.push(name);
            }
        }
        VideoAnswer::Codecs(codecs)
    }

    /// What the payload types of the video sections that are not refused stand for.
    pub(crate) fn video_payload_types(&self) -> Vec<(u8, Codec)> {
        self.open(SectionKind::Video)
            .flat_map(Section::codecs)
            .filter_map(|format| Some((format.payload_type, format.codec()?)))
            .collect()
    }

    /// What the payload types of Opus are.
    pub(crate) fn opus_payload_types(&self) -> Vec<u8> {
        self.open(SectionKind::Audio)
            .flat_map(Section::codecs)
            .filter(Format::is_opus)
            .map(|format| format.payload_type)
            .collect()
    }

    /// The codecs that the video sections name, of those that are wanted and in that order.
    pub(crate) fn usable_video(&self, wanted: &[Codec]) -> Vec<Codec> {
        let named = self.video_payload_types();
        let wanted = wanted.iter().copied();
        wanted
            .filter(|codec| named.iter().any(|(_, named)| named == codec))
            .collect()
    }

    /// True when there is an audio section that is not refused and names Opus.
    pub(crate) fn has_opus(&self) -> bool {
        !self.opus_payload_types().is_empty()
    }

    /// True when there is a section for data channels that is not refused.
    pub(crate) fn has_data_channels(&self) -> bool {
        self.0.sections.iter().any(Section::is_for_data_channels)
    }

    /// True when every section of media is refused or goes the other way only.
    pub fn sends_nothing(&self) -> bool {
        let sections = &self.0.sections;
        !sections.is_empty()
            && sections
                .iter()
                .all(|section| section.is_refused || !section.direction.sends())
    }

    /// All candidates, without a prefix.
    pub fn candidates(&self) -> impl Iterator<Item = &str> {
        let of_sections = self.0.sections.iter().flat_map(|s| &s.attributes);
        let all = self.0.session.iter().chain(of_sections);
        all.filter(|attribute| attribute.name == "candidate")
            .map(|attribute| attribute.value.as_str())
    }

    /// The text with each candidate replaced by what is given for it.
    pub(crate) fn with_candidates(&self, mut replace: impl FnMut(&str) -> Vec<String>) -> String {
        let text = &self.0.text;
        let mut out = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            let content = line.trim_end_matches(['\r', '\n']);
            match content.strip_prefix("a=candidate:") {
                Some(candidate) => {
                    for candidate in replace(candidate) {
                        out.push_str("a=candidate:");
                        out.push_str(&candidate);
                        out.push_str(&line[content.len()..]);
                    }
                }
                None => out.push_str(line),
            }
        }
        out
    }
}

impl FromStr for Description {
    type Err = SdpError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// The text says more than its parts.
impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Description")
            .field("ice_ufrag", &self.0.ice_ufrag)
            .field("sections", &self.0.sections.len())
            .field("bytes", &self.0.text.len())
            .finish()
    }
}

/// The first value of an attribute.
pub(crate) fn value_of<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.name == name)?;
    Some(&found.value)
}

fn direction_of(attributes: &[Attribute]) -> Option<Direction> {
    attributes
        .iter()
        .find_map(|attribute| Direction::of(&attribute.name))
}

/// A section without attributes.
fn section(value: &str) -> Option<Section> {
    let mut words = value.split_ascii_whitespace();
    let (media, port, protocol) = (words.next()?, words.next()?, words.next()?);
    let port: u16 = port.split('/').next()?.parse().ok()?;
    let formats: Vec<String> = words.map(str::to_owned).collect();
    let is_data = formats
        .iter()
        .any(|format| format.eq_ignore_ascii_case("webrtc-datachannel"));
    let media = media.to_ascii_lowercase();
    let kind = match media.as_str() {
        "audio" => SectionKind::Audio,
        "video" => SectionKind::Video,
        "application" if is_data => SectionKind::Data,
        _ => SectionKind::Other,
    };
    Some(Section {
        kind,
        media,
        protocol: protocol.to_owned(),
        formats,
        is_refused: port == 0,
        direction: Direction::SendRecv,
        attributes: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(rest: &str) -> Description {
        Description::parse(&format!("v=0\r\na=ice-ufrag:x\r\n{rest}")).unwrap()
    }

    #[test]
    fn a_description_without_h264_is_known() {
        let vp8 = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 VP8/90000\r\n";
        let refused = "m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 H264/90000\r\n";
        let interleaved = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=2\r\n";
        let good = "m=audio 9 X 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 h264/90000\r\n";
        assert_eq!(
            [vp8, refused, interleaved, good]
                .map(|sdp| parse(sdp).usable_video(&[Codec::H264]).len()),
            [0, 0, 0, 1]
        );
        assert_eq!(parse(good).video_payload_types(), [(96, Codec::H264)]);
    }

    #[test]
    fn a_description_with_opus_is_known() {
        let sdp = "m=audio 9 X 111\r\na=rtpmap:111 opus/48000/2\r\nm=video 9 X 96\r\n";
        assert!(parse(sdp).has_opus());
        assert!(!parse(&sdp.replace("audio 9", "audio 0")).has_opus());
    }

    #[test]
    fn a_description_without_data_channels_is_known() {
        let good = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n";
        let refused = "m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n";
        let video = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n";
        assert_eq!(
            [good, refused, video].map(|sdp| parse(sdp).has_data_channels()),
            [true, false, false]
        );
    }

    #[test]
    fn the_direction_is_the_sections_or_the_sessions_or_both_ways() {
        let video = "m=video 9 X 96\r\n";
        let all = |sdp: &str| parse(sdp).sections()[0].direction;
        assert_eq!(all(video), Direction::SendRecv);
        assert_eq!(all(&format!("a=sendonly\r\n{video}")), Direction::SendOnly);
        assert_eq!(
            all(&format!("a=sendonly\r\n{video}a=inactive\r\n")),
            Direction::Inactive
        );
        assert!(parse(&format!("a=recvonly\r\n{video}")).sends_nothing());
        assert!(!parse(video).sends_nothing());
        assert!(parse("m=video 0 X 96\r\n").sends_nothing());
        assert!(!parse("").sends_nothing(), "there is nothing to send it in");
    }

    #[test]
    fn line_ends_case_and_white_space_mean_nothing() {
        for end in ["\r\n", "\n", "\r"] {
            let lines = [
                "v=0",
                "A",
                "m=VIDEO  9  UDP/TLS/RTP/SAVPF  96 ",
                "a=RTPMAP:96 h264/90000",
                "a=fmtp:96  Packetization-Mode=1 ; profile-level-id=42C01F;",
                "a=ice-ufrag: abcd ",
                "b=whatever",
                "s=twice",
                "s=twice",
                "",
            ];
            let text = lines.join(end).replace(&format!("A{end}"), "");
            let sdp = Description::parse(&text).unwrap();
            assert_eq!(sdp.ice_ufrag(), "abcd");
            let format = &sdp.sections()[0].codecs()[0];
            assert_eq!(format.packetization_mode(), 1);
            assert_eq!(format.profile(), Some((0x42, 0xc0)));
            assert_eq!(format.codec(), Some(Codec::H264));
        }
    }

    #[test]
    fn sources_that_repair_are_none_of_their_own() {
        let sdp = parse(
            "m=video 9 X 96\r\na=ssrc-group:FID 1 2\r\na=ssrc:1 cname:a\r\na=ssrc:2 cname:a\r\na=ssrc:3 cname:a\r\na=ssrc:1 msid:a b\r\na=ssrc:x\r\n",
        );
        assert_eq!(sdp.sections()[0].sources(), [1, 3]);
    }

    #[test]
    fn a_payload_type_is_looked_for_once_however_often_it_is_named() {
        // As large as a description may be, with nothing in it that could be found.
        let mut text = "v=0\r\na=ice-ufrag:x\r\n".to_owned();
        text += &format!("m=video 9 X{}\r\n", " 7 96 300".repeat(6000));
        text += &"a=x\r\n".repeat(MAX_LINES - 4);
        text += "a=rtpmap:96 VP8/90000\r\n";
        assert!(text.len() > MAX_BYTES - 4096, "{}", text.len());
        let sdp = Description::parse(&text).unwrap();
        let section = &sdp.sections()[0];
        assert_eq!(section.payload_types().collect::<Vec<_>>(), [7, 96]);
        assert_eq!(sdp.video_payload_types(), [(96, Codec::Vp8)]);
    }

    #[test]
    fn what_is_no_description_is_refused_with_its_reason() {
        let error = |text: &str| Description::parse(text).unwrap_err();
        let begin = "v=0\r\na=ice-ufrag:x\r\n";
        assert_eq!(error(""), SdpError::Version);
        assert_eq!(error("garbage"), SdpError::Version);
        assert_eq!(error("v=0\r\ngarbage"), SdpError::Line(2));
        assert_eq!(error(&format!("{begin}m=video\r\n")), SdpError::Section(3));
        assert_eq!(
            error(&format!("{begin}m=video 99999 X 96\r\n")),
            SdpError::Section(3)
        );
        assert_eq!(error("v=0\r\na=ice-ufrag:\r\n"), SdpError::IceUfrag);
        assert_eq!(
            error(&format!(
                "{begin}{}",
                "m=video 9 X 96\r\n".repeat(MAX_SECTIONS + 1)
            )),
            SdpError::Sections
        );
        assert_eq!(
            error(&format!("{begin}{}", "a=x\r\n".repeat(MAX_LINES))),
            SdpError::Lines
        );
        assert_eq!(
            error(&format!("{begin}a={}", "x".repeat(MAX_BYTES))),
            SdpError::Bytes(MAX_BYTES + begin.len() + 2)
        );
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(v=0\r\na=ice-ufrag:x\r\n)?(([a-z]=)?(video|[ -~]{0,12})(\r|\n)?){0,30}") {
            if let Ok(sdp) = Description::parse(&text) {
                let _ = (sdp.video_payload_types(), sdp.has_opus(), sdp.sends_nothing());
                let _: Vec<_> = sdp.sections().iter().map(Section::sources).collect();
                prop_assert_eq!(sdp.as_str(), text);
            }
        }
    }
}
