//! What a camera's pictures come from if it is no twin of its own: an IP camera or a video device, which this program makes a
//! twin of.

use std::fmt;
use std::path::PathBuf;

use twinsight_client::secret::Secret;
use twinsight_media::label_enum;
use url::Url;

/// Where the pictures of a camera come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceConfig {
    /// An IP camera.
    Rtsp(RtspConfig),
    /// A video device of this machine, such as `/dev/video0`.
    Device(PathBuf),
}

/// How an IP camera is asked for its pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtspConfig {
    /// Where the stream is.
    pub url: RtspUrl,
    /// Who asks. `None` for a camera that lets everybody look.
    pub credentials: Option<RtspCredentials>,
    /// What the pictures come by.
    pub transport: RtspTransport,
}

/// The address of a stream, which never has a user or a password in it.
#[derive(Clone, PartialEq, Eq)]
pub struct RtspUrl(Url);

/// Who asks a camera for its pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtspCredentials {
    /// The user's name. Cameras know it in the clear.
    pub user: String,
    /// The password.
    pub password: Secret,
}

label_enum! {
    /// What the pictures of an IP camera come by.
    pub enum RtspTransport {
        /// Interleaved with the commands: nothing is lost, and firewalls let it through.
        Tcp = "tcp",
        /// Datagrams of their own, which are lost on a bad network and never late.
        Udp = "udp",
    }
}

impl RtspUrl {
    /// Takes an `rtsp://` address apart: without user and password, and these beside it if it had any. `None` for another text.
    pub fn parse(text: &str) -> Option<(Self, Option<RtspCredentials>)> {
        let mut url = Url::parse(text).ok()?;
        if url.scheme() != "rtsp" || url.host().is_none() {
            return None;
        }
        let decoded = |part: &str| {
            percent_encoding::percent_decode_str(part)
                .decode_utf8()
                .ok()
                .map(std::borrow::Cow::into_owned)
        };
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some(RtspCredentials {
                user: decoded(user)?,
                password: Secret::new(decoded(password.unwrap_or_default())?),
            }),
        };
        url.set_username("").ok()?;
        url.set_password(None).ok()?;
        Some((Self(url), credentials))
    }

    /// The address as the RTSP client takes it.
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for RtspUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RtspUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_parted_from_who_asks() {
        let (url, credentials) =
            RtspUrl::parse("rtsp://admin:p%40ss%2Fword@192.168.1.20:8554/Streaming/1?a=b").unwrap();
        assert_eq!(url.to_string(), "rtsp://192.168.1.20:8554/Streaming/1?a=b");
        let credentials = credentials.unwrap();
        assert_eq!(
            (credentials.user.as_str(), credentials.password.expose()),
            ("admin", "p@ss/word")
        );
        assert_eq!(RtspUrl::parse("rtsp://[fe80::1]/s").unwrap().1, None);
        for wrong in ["192.168.1.20", "http://camera/", "rtsp://", "rtsp:camera"] {
            assert_eq!(RtspUrl::parse(wrong), None, "{wrong}");
        }
    }
}
