//! Session descriptions (RFC 8866) are read only here: a text comes in, a [`Description`] goes out, and whoever wants to know
//! something of a description asks that. `normalise` makes the text that the WebRTC stack is given from it, so the stack never
//! sees the other side's text.
//!
//! Only the lines `v=`, `m=` and `a=` are read. The others say nothing about a WebRTC connection, so a description with a broken
//! `b=` or a second `s=` is accepted. The parsers of other crates (`sdp-types`, the stack's own) refuse such lines, do not know
//! the defaults of the attributes, and have no bounds; so this one is our own.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use twinsight_media::codec::Codec;

use super::sdp_section::{
    Attribute, Direction, Format, Section, SectionKind, direction_of, section, value_of,
};

/// A description with more bytes than this is refused; a browser's with everything in it has 10 KiB.
pub const MAX_BYTES: usize = 64 * 1024;

/// A description with more lines than this is refused.
const MAX_LINES: usize = 2048;

/// A description with more media sections than this is refused.
const MAX_SECTIONS: usize = 32;

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

/// A description that was read. It is cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Description(Arc<Parsed>);

#[derive(PartialEq, Eq)]
struct Parsed {
    text: String,
    session: Vec<Attribute>,
    sections: Vec<Section>,
    ice_ufrag: String,
}

/// What a description says about video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoAnswer {
    /// It has no section of video.
    NoVideo,
    /// Its sections of video are all closed (port 0).
    Refused,
    /// The codecs that it names, perhaps none; retransmission and repair are left out.
    Codecs(Vec<String>),
}

/// At most this many codecs are named to a person.
const MAX_CODECS: usize = 8;

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

    /// The ICE generation (RFC 8839 section 5.4): a description of a new one begins a new attempt.
    pub(super) fn ice_ufrag(&self) -> &str {
        &self.0.ice_ufrag
    }

    pub(super) fn session_attributes(&self) -> &[Attribute] {
        &self.0.session
    }

    pub(super) fn sections(&self) -> &[Section] {
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

    /// What the description says about video, for a sentence to a person: the names of codecs are printable, short and few.
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

    /// The payload types of the video sections that are not refused, each with its codec.
    pub(super) fn video_payload_types(&self) -> Vec<(u8, Codec)> {
        self.open(SectionKind::Video)
            .flat_map(Section::codecs)
            .filter_map(|format| Some((format.payload_type, format.codec()?)))
            .collect()
    }

    /// The payload types of Opus in the audio sections that are not refused.
    pub(super) fn opus_payload_types(&self) -> Vec<u8> {
        self.open(SectionKind::Audio)
            .flat_map(Section::codecs)
            .filter(Format::is_opus)
            .map(|format| format.payload_type)
            .collect()
    }

    /// Those of the wanted codecs that the video sections name, in the order in which they are wanted.
    pub(super) fn usable_video(&self, wanted: &[Codec]) -> Vec<Codec> {
        let named = self.video_payload_types();
        let wanted = wanted.iter().copied();
        wanted
            .filter(|codec| named.iter().any(|(_, named)| named == codec))
            .collect()
    }

    /// True when there is an audio section that is not refused and names Opus.
    pub(super) fn has_opus(&self) -> bool {
        !self.opus_payload_types().is_empty()
    }

    /// True when there is a section for data channels that is not refused.
    pub(super) fn has_data_channels(&self) -> bool {
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
    pub(super) fn with_candidates(&self, mut replace: impl FnMut(&str) -> Vec<String>) -> String {
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

/// Shows only the size of the text, which has addresses and keys in it.
impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Description")
            .field("ice_ufrag", &self.0.ice_ufrag)
            .field("sections", &self.0.sections.len())
            .field("bytes", &self.0.text.len())
            .finish()
    }
}

#[cfg(test)]
#[path = "sdp_tests.rs"]
mod tests;
