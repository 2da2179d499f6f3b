//! What is asked of a camera, and what its answers say: bodies of SOAP messages go out, values come in. Nothing that is asked
//! changes anything.

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use roxmltree::Node;
use twinsight_client::hub::text::brief;

use super::xml;

/// A camera may have this many profiles; a recorder has some for each of its cameras.
const MAX_PROFILES: usize = 64;

/// A camera may have this many scopes.
const MAX_SCOPES: usize = 64;

/// The longest name of a profile that is sent back; the standard has 64.
const MAX_TOKEN_BYTES: usize = 256;

/// A question: what it is called, its namespace and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) name: &'static str,
    pub(super) namespace: &'static str,
    inner: String,
}

/// The two services of ONVIF that know of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// `ver10`, which nearly all cameras have, and which knows no H.265.
    One,
    /// `ver20` of Profile T.
    Two,
}

/// Where the services of a camera are, as it says itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Services {
    pub(super) media: Option<String>,
    pub(super) media2: Option<String>,
}

/// What a camera is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DeviceInformation {
    pub(super) manufacturer: Option<String>,
    pub(super) model: Option<String>,
    pub(super) firmware: Option<String>,
    pub(super) serial: Option<String>,
}

/// A stream of a camera, without its address.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Profile {
    /// What the camera calls it in messages.
    pub(super) token: String,
    /// What it calls it for people.
    pub(super) name: String,
    /// Which of its lenses or inputs it shows.
    pub(super) source: Option<String>,
    /// How it is encoded.
    pub(super) codec: Codec,
    /// Pixels: width and height.
    pub(super) size: Option<(u32, u32)>,
    /// Frames a second, at most.
    pub(super) fps: Option<f64>,
    /// Frames from one keyframe to the next.
    pub(super) gop: Option<u32>,
    /// Kilobits a second, at most.
    pub(super) bitrate_kbps: Option<u32>,
}

/// How a stream is encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Codec {
    H264,
    H265,
    /// Another one, as the camera calls it.
    Other(String),
}

impl Question {
    fn device(name: &'static str, inner: &str) -> Self {
        Self {
            name,
            namespace: "http://www.onvif.org/ver10/device/wsdl",
            inner: inner.to_owned(),
        }
    }

    /// What time it is, which everybody may ask.
    pub(super) fn time() -> Self {
        Self::device("GetSystemDateAndTime", "")
    }

    /// Where the services are, which everybody may ask.
    pub(super) fn services() -> Self {
        Self::device(
            "GetServices",
            "<IncludeCapability>false</IncludeCapability>",
        )
    }

    /// The same, of cameras that have no `GetServices`.
    pub(super) fn capabilities() -> Self {
        Self::device("GetCapabilities", "<Category>All</Category>")
    }

    /// What the camera is.
    pub(super) fn device_information() -> Self {
        Self::device("GetDeviceInformation", "")
    }

    /// What a search would have told of the camera.
    pub(super) fn scopes() -> Self {
        Self::device("GetScopes", "")
    }

    /// Which streams there are.
    pub(super) fn profiles(media: Media) -> Self {
        Self {
            name: "GetProfiles",
            namespace: media.namespace(),
            inner: match media {
                Media::One => String::new(),
                Media::Two => "<Type>VideoSource</Type><Type>VideoEncoder</Type>".to_owned(),
            },
        }
    }

    /// Where one of them is.
    pub(super) fn stream_uri(media: Media, token: &str) -> Self {
        let token = xml::escaped(token);
        let inner = match media {
            Media::One => format!(
                r#"<StreamSetup><Stream xmlns="http://www.onvif.org/ver10/schema">RTP-Unicast</Stream><Transport xmlns="http://www.onvif.org/ver10/schema"><Protocol>RTSP</Protocol></Transport></StreamSetup><ProfileToken>{token}</ProfileToken>"#
            ),
            Media::Two => {
                format!("<Protocol>RtspUnicast</Protocol><ProfileToken>{token}</ProfileToken>")
            }
        };
        Self {
            name: "GetStreamUri",
            namespace: media.namespace(),
            inner,
        }
    }

    /// The body of its message.
    pub(super) fn body(&self) -> String {
        let Self {
            name,
            namespace,
            inner,
        } = self;
        format!(r#"<{name} xmlns="{namespace}">{inner}</{name}>"#)
    }

    /// What the element that answers is called.
    pub(super) fn answer(&self) -> String {
        format!("{}Response", self.name)
    }
}

impl Media {
    pub(super) fn namespace(self) -> &'static str {
        match self {
            Self::One => "http://www.onvif.org/ver10/media/wsdl",
            Self::Two => "http://www.onvif.org/ver20/media/wsdl",
        }
    }
}

/// The time of a camera. None if it does not tell it as UTC, or tells what is no time.
pub(super) fn read_time(answer: Node<'_, '_>) -> Option<Timestamp> {
    let utc = xml::find(answer, &["SystemDateAndTime", "UTCDateTime"])?;
    let number = |path: &[&str]| xml::string(utc, path)?.parse::<i16>().ok();
    let small = |path: &[&str]| i8::try_from(number(path)?).ok();
    let date = Date::new(
        number(&["Date", "Year"])?,
        small(&["Date", "Month"])?,
        small(&["Date", "Day"])?,
    );
    let time = Time::new(
        small(&["Time", "Hour"])?,
        small(&["Time", "Minute"])?,
        small(&["Time", "Second"])?,
        0,
    );
    let there = date.ok()?.to_datetime(time.ok()?);
    Some(there.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Where the services are, of an answer to `GetServices`.
pub(super) fn read_services(answer: Node<'_, '_>) -> Services {
    let address = |media: Media| {
        xml::children(answer, "Service")
            .find(|service| xml::string(*service, &["Namespace"]) == Some(media.namespace()))
            .and_then(|service| xml::string(service, &["XAddr"]))
            .map(str::to_owned)
    };
    Services {
        media: address(Media::One),
        media2: address(Media::Two),
    }
}

/// Where the services are, of an answer to `GetCapabilities`, which knows only the older one.
pub(super) fn read_capabilities(answer: Node<'_, '_>) -> Services {
    let media = xml::string(answer, &["Capabilities", "Media", "XAddr"]);
    Services {
        media: media.map(str::to_owned),
        media2: None,
    }
}

/// What a camera is.
pub(super) fn read_device_information(answer: Node<'_, '_>) -> DeviceInformation {
    DeviceInformation {
        manufacturer: xml::shown(answer, &["Manufacturer"]),
        model: xml::shown(answer, &["Model"]),
        firmware: xml::shown(answer, &["FirmwareVersion"]),
        serial: xml::shown(answer, &["SerialNumber"]),
    }
}

/// The scopes of a camera, with blanks between them.
pub(super) fn read_scopes(answer: Node<'_, '_>) -> String {
    let items = xml::children(answer, "Scopes").take(MAX_SCOPES);
    let items = items.filter_map(|scope| xml::string(scope, &["ScopeItem"]));
    items.collect::<Vec<_>>().join(" ")
}

/// The profiles with video that is encoded. Those for pictures alone or for sound have none.
pub(super) fn read_profiles(media: Media, answer: Node<'_, '_>) -> Vec<Profile> {
    xml::children(answer, "Profiles")
        .take(MAX_PROFILES)
        .filter_map(|profile| read_profile(media, profile))
        .collect()
}

fn read_profile(media: Media, profile: Node<'_, '_>) -> Option<Profile> {
    let token = profile.attribute("token")?;
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let (encoder, source) = match media {
        Media::One => (
            xml::find(profile, &["VideoEncoderConfiguration"])?,
            xml::string(profile, &["VideoSourceConfiguration", "SourceToken"]),
        ),
        Media::Two => (
            xml::find(profile, &["Configurations", "VideoEncoder"])?,
            xml::string(profile, &["Configurations", "VideoSource", "SourceToken"]),
        ),
    };
    let number = |path: &[&str]| xml::string(encoder, path)?.parse::<u32>().ok();
    let codec = Codec::of_name(xml::string(encoder, &["Encoding"])?);
    let gop = match media {
        Media::One => number(&["H264", "GovLength"]),
        Media::Two => encoder
            .attribute("GovLength")
            .and_then(|text| text.trim().parse().ok()),
    };
    let fps = xml::string(encoder, &["RateControl", "FrameRateLimit"]);
    let fps = fps.and_then(|text| text.parse().ok());
    Some(Profile {
        token: token.to_owned(),
        name: xml::shown(profile, &["Name"]).unwrap_or_else(|| brief(token)),
        source: source.map(str::to_owned),
        codec,
        size: number(&["Resolution", "Width"]).zip(number(&["Resolution", "Height"])),
        fps: fps.filter(|fps: &f64| fps.is_finite() && (0.0..=1000.0).contains(fps)),
        gop: gop.filter(|gop| *gop > 0),
        bitrate_kbps: number(&["RateControl", "BitrateLimit"]).filter(|rate| *rate > 0),
    })
}

/// The address of a stream, as the camera says it.
pub(super) fn read_stream_uri<'a>(media: Media, answer: Node<'a, '_>) -> Option<&'a str> {
    match media {
        Media::One => xml::string(answer, &["MediaUri", "Uri"]),
        Media::Two => xml::string(answer, &["Uri"]),
    }
}

impl Codec {
    fn of_name(name: &str) -> Self {
        match name.to_ascii_uppercase().as_str() {
            "H264" | "H.264" => Self::H264,
            "H265" | "H.265" | "HEVC" => Self::H265,
            _ => Self::Other(brief(name)),
        }
    }

    /// What people call it.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::H264 => "H.264",
            Self::H265 => "H.265",
            Self::Other(name) => name,
        }
    }
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
