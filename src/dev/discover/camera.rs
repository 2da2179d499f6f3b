//! What is known of a camera that was found, and which of its streams is right for detection.

use std::net::IpAddr;

use url::Url;

use super::found::Found;
use super::messages::{Codec, DeviceInformation, Profile};
use super::probe::Scopes;
use crate::config::RtspUrl;

/// Pictures of this width are enough for detectors, and cheap to decode.
const WIDTHS_PX: std::ops::RangeInclusive<u32> = 640..=1280;

/// A viewer waits for a keyframe, and after a loss everybody does; this long is still bearable.
const MAX_GOP_S: f64 = 2.0;

/// A camera, as far as it has told.
#[derive(Debug, Clone)]
pub(super) struct Camera {
    /// Who answered.
    pub(super) host: IpAddr,
    /// Where its device service is.
    pub(super) device_service: Url,
    /// The name that stays the same, usually `urn:uuid:…`.
    pub(super) endpoint: Option<String>,
    pub(super) scopes: Scopes,
    pub(super) device: DeviceInformation,
    /// By how many seconds its clock is ahead of ours.
    pub(super) clock_offset_s: Option<i64>,
    /// The host that it says it has, if that is not the one that answers.
    pub(super) calls_itself: Option<String>,
    pub(super) streams: Vec<Stream>,
    /// Why some or all is missing.
    pub(super) trouble: Option<Trouble>,
}

/// A stream, and where it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stream {
    pub(super) profile: Profile,
    /// The address, or why there is none.
    pub(super) address: Result<RtspUrl, String>,
}

/// Why a camera has not told everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It lets nobody ask whom it does not know, and nobody was named.
    NeedsCredentials,
    /// It does not believe the user and the password.
    WrongCredentials,
    /// It wants the password in the clear.
    BasicOnly,
    /// It does not answer to ONVIF at all.
    Unreachable(String),
    /// It says no to something, or what cannot be read.
    Other(String),
}

impl Camera {
    pub(super) fn new(found: &Found) -> Self {
        Self {
            host: found.host,
            device_service: found.url.clone(),
            endpoint: found.endpoint.clone(),
            scopes: found.scopes.clone(),
            device: DeviceInformation::default(),
            clock_offset_s: None,
            calls_itself: None,
            streams: Vec::new(),
            trouble: None,
        }
    }

    /// True once it has told anything by ONVIF.
    pub(super) fn has_told(&self) -> bool {
        self.clock_offset_s.is_some() || self.device != DeviceInformation::default()
    }

    /// The host that answered, with its port if that is not the usual one, as `--address` takes it.
    pub(super) fn address(&self) -> String {
        let host = self.device_service.host_str().unwrap_or_default();
        match self.device_service.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// What people call it.
    pub(super) fn name(&self) -> Option<&str> {
        self.scopes.name.as_deref()
    }

    /// Who made it and what it is.
    pub(super) fn make(&self) -> Option<String> {
        let model = self
            .device
            .model
            .as_ref()
            .or(self.scopes.hardware.as_ref())?;
        Some(match &self.device.manufacturer {
            // Some models begin with their maker.
            Some(maker) if !model.to_lowercase().starts_with(&maker.to_lowercase()) => {
                format!("{maker} {model}")
            }
            _ => model.clone(),
        })
    }

    /// The streams that are right for detection, by their places: one for each lens or input of the camera. It is the one of H.264
    /// whose width is nearest to 640 to 1280 pixels, and of several of such width the smallest, since it costs the least.
    pub(super) fn for_detection(&self) -> Vec<usize> {
        let mut chosen: Vec<usize> = Vec::new();
        for (n, stream) in self.streams.iter().enumerate() {
            if stream.profile.codec != Codec::H264 || stream.address.is_err() {
                continue;
            }
            let source = &stream.profile.source;
            match chosen
                .iter_mut()
                .find(|n| self.streams[**n].profile.source == *source)
            {
                Some(best) => {
                    if stream.profile.is_better(&self.streams[*best].profile) {
                        *best = n;
                    }
                }
                None => chosen.push(n),
            }
        }
        chosen
    }

    /// What is to be done about this camera, a sentence each.
    pub(super) fn advice(&self) -> Vec<String> {
        let address = self.address();
        let trouble = self.trouble.iter();
        let mut advice: Vec<String> = trouble.map(|trouble| trouble.sentence(&address)).collect();
        let chosen = self.for_detection();
        if chosen.is_empty() && !self.streams.is_empty() {
            advice.push(self.without_h264());
        }
        for n in chosen {
            advice.extend(self.streams[n].profile.advice());
        }
        if let Some(own) = &self.calls_itself {
            advice.push(format!(
                "it calls itself {own}, and its streams are written with the address that answered: see that they can be reached there"
            ));
        }
        if self
            .streams
            .iter()
            .any(|stream| stream.address.as_ref().is_ok_and(tells_password))
        {
            advice.push(
                "the addresses of its streams have a password in them: keep them as secret as one"
                    .to_owned(),
            );
        }
        advice
    }

    fn without_h264(&self) -> String {
        let mut codecs: Vec<&str> = Vec::new();
        for stream in &self.streams {
            if stream.profile.codec == Codec::H264 {
                let reason = stream.address.as_ref().err();
                let reason = reason.map_or("it has no address", String::as_str);
                return format!("its streams of H.264 cannot be used ({reason})");
            }
            let codec = stream.profile.codec.as_str();
            if !codecs.contains(&codec) {
                codecs.push(codec);
            }
        }
        format!(
            "it has only {}, and H.264 is needed: set the encoding of its substream to H.264 in the camera's settings for video, and turn \
             H.264+, H.265+ or \"smart codec\" off",
            codecs.join(" and ")
        )
    }
}

impl Profile {
    fn is_better(&self, other: &Self) -> bool {
        let (own, others) = (self.distance(), other.distance());
        own < others || own <= others && self.size < other.size
    }

    /// How far the width is from those that are right: by how much it would have to be multiplied or divided.
    fn distance(&self) -> f64 {
        let (least, most) = (f64::from(*WIDTHS_PX.start()), f64::from(*WIDTHS_PX.end()));
        match self.size {
            None | Some((0, _)) => f64::INFINITY,
            Some((width, _)) => {
                let width = f64::from(width);
                (least / width).max(width / most).max(1.0)
            }
        }
    }

    fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        match self.size {
            Some((width, height)) if width < *WIDTHS_PX.start() => advice.push(format!(
                "{width}x{height} is little for detection: set a substream of H.264 to 640x360 or more"
            )),
            Some((width, height)) if width > *WIDTHS_PX.end() => advice.push(format!(
                "{width}x{height} takes more to decode than detection needs: set a substream of H.264 to a width of 640 to 1280"
            )),
            _ => {}
        }
        if let (Some(gop), Some(fps)) = (self.gop, self.fps.filter(|fps| *fps > 0.0)) {
            let seconds = f64::from(gop) / fps;
            if seconds > MAX_GOP_S {
                advice.push(format!(
                    "{} has a keyframe every {seconds:.1} s, and a viewer waits for one: set its I-frame interval (GOP) to {fps}, which is 1 s",
                    self.name
                ));
            }
        }
        advice
    }
}

impl Trouble {
    /// What is wrong and what to do.
    fn sentence(&self, address: &str) -> String {
        match self {
            Self::NeedsCredentials => format!(
                "it tells its streams only to users that it knows: run `twinsight discover --address {address} --user USER --password-file FILE`"
            ),
            Self::WrongCredentials => {
                "it does not believe this user and password: correct them (on many cameras users of ONVIF are others than those of the web page, and ONVIF has to be turned on), and see that the account is not locked"
                    .to_owned()
            }
            Self::BasicOnly => {
                "it wants the password in the clear (HTTP Basic), which is not sent: turn on Digest in its settings, or write its `rtsp` address by hand"
                    .to_owned()
            }
            Self::Unreachable(reason) => format!("it answered to the search and to nothing else: {reason}"),
            Self::Other(reason) => format!("it does not tell everything: {reason}"),
        }
    }

    /// A word for programs.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::NeedsCredentials => "needsCredentials",
            Self::WrongCredentials => "wrongCredentials",
            Self::BasicOnly => "basicOnly",
            Self::Unreachable(_) => "unreachable",
            Self::Other(_) => "other",
        }
    }
}

/// True for an address with a password in its path, as cameras with the firmware of Xiongmai have them.
fn tells_password(url: &RtspUrl) -> bool {
    url.to_string().to_ascii_lowercase().contains("password=")
}

#[cfg(test)]
#[path = "camera_tests.rs"]
pub(super) mod tests;
