//! The media sections of a session description (RFC 8866): `sdp` reads the lines and builds them; they answer what their
//! attributes say, with the defaults of the standards.

use super::h264_profile::ProfileLevelId;
use twinsight_media::codec::Codec;

/// At most this many sources of a section are read.
const MAX_SOURCES: usize = 16;

/// An attribute: `a=name` or `a=name:value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attribute {
    /// The name in small letters.
    pub(super) name: String,
    /// The value without white space around it; empty if there is none.
    pub(super) value: String,
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
    /// A section that WebRTC does not know.
    Other,
}

/// Which way media goes, as seen by the side that has written the description (RFC 8866 section 6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
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

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    pub(super) fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    pub(super) fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// A media section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) kind: SectionKind,
    /// The word after `m=`.
    pub(super) media: String,
    pub(super) protocol: String,
    /// The payload types of RTP, or the words that stand in their place.
    pub(super) formats: Vec<String>,
    /// True if its port is 0.
    pub(super) is_refused: bool,
    /// The section's own direction, else the session's, else `sendrecv`.
    pub(super) direction: Direction,
    pub(super) attributes: Vec<Attribute>,
}

/// A payload type of a section, and the codec that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) payload_type: u8,
    /// The name of the codec in its `rtpmap`, in capitals.
    pub(super) name: String,
    pub(super) clock_rate: u32,
    /// What follows the clock rate in the `rtpmap`: the number of channels of sound.
    pub(super) encoding: Option<String>,
    pub(super) parameters: Vec<Parameter>,
}

/// A parameter of an `fmtp` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameter {
    /// The name as it was written.
    pub(super) name: String,
    /// The value as it was written; none for a parameter without `=`.
    pub(super) value: Option<String>,
}

impl Format {
    /// The value of a parameter, whose name is compared without case (RFC 6838 section 4.3).
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self
            .parameters
            .iter()
            .find(|parameter| parameter.name.eq_ignore_ascii_case(name))?;
        found.value.as_deref()
    }

    /// The codec, if it is one that a build of this crate may decode.
    pub(super) fn codec(&self) -> Option<Codec> {
        match (self.name.as_str(), self.clock_rate) {
            // Interleaved packets (mode 2) have another format, which cannot be read here.
            ("H264", 90_000) if self.packetization_mode() <= 1 => Some(Codec::H264),
            ("VP8", 90_000) => Some(Codec::Vp8),
            _ => None,
        }
    }

    pub(super) fn is_opus(&self) -> bool {
        self.name == "OPUS" && self.clock_rate == 48_000
    }

    /// The packetization mode of H.264; the default is 0, single NAL units (RFC 6184 section 8.1).
    pub(super) fn packetization_mode(&self) -> u8 {
        match self.parameter("packetization-mode").map(str::trim) {
            None => 0,
            Some(mode) => mode.parse().unwrap_or(0),
        }
    }

    /// The profile of H.264, if it is given and can be read.
    pub(super) fn profile(&self) -> Option<ProfileLevelId> {
        ProfileLevelId::parse(self.parameter("profile-level-id")?)
    }
}

impl Section {
    /// The value of the first attribute of that name.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        value_of(&self.attributes, name)
    }

    /// The codecs of its formats that an `rtpmap` names, in the order of its first line.
    pub(super) fn codecs(&self) -> Vec<Format> {
        let codecs = self.payload_types();
        codecs.filter_map(|each| self.format(each)).collect()
    }

    /// The payload types of its first line, each once: all attributes are searched for the codec of each, and the other side may
    /// repeat one thousands of times.
    pub(super) fn payload_types(&self) -> impl Iterator<Item = u8> {
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

    /// The values of the attributes of this name for a payload type.
    pub(super) fn of_payload_type<'a>(
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

    /// The sources that it names, except for those that only repair another one (RFC 5576).
    pub(super) fn sources(&self) -> Vec<u32> {
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

    pub(super) fn is_for_data_channels(&self) -> bool {
        self.kind == SectionKind::Data && !self.is_refused
    }
}

/// The first value of an attribute.
pub(super) fn value_of<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.name == name)?;
    Some(&found.value)
}

pub(super) fn direction_of(attributes: &[Attribute]) -> Option<Direction> {
    attributes
        .iter()
        .find_map(|attribute| Direction::of(&attribute.name))
}

/// Reads the first line of a section, without its `m=`.
pub(super) fn section(value: &str) -> Option<Section> {
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
