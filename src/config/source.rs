//! What a camera's pictures come from if it is no twin of its own: an IP camera or a video device, which this program makes a
//! twin of.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use twinsight_client::secret::{Secret, conceal};
use twinsight_media::label_enum;
use twinsight_media::picture::PictureSize;
use url::Url;

/// Where the pictures of a camera come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceConfig {
    /// An IP camera.
    Rtsp(RtspConfig),
    /// A video device of this machine, such as `/dev/video0`.
    Device(DeviceConfig),
}

/// A video device, and what is asked of it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceConfig {
    /// Such as `/dev/video0`.
    pub path: PathBuf,
    /// The size of its pictures, 1280 x 720 unless given. A device that has no such size gives another one.
    pub size: Option<PictureSize>,
    /// Frames a second, 15 unless given. A device that has no such rate gives another one.
    pub fps: Option<f64>,
}

impl DeviceConfig {
    /// The device's path, for people.
    pub fn display(&self) -> std::path::Display<'_> {
        self.path.display()
    }
}

impl<P: Into<PathBuf>> From<P> for DeviceConfig {
    fn from(path: P) -> Self {
        Self {
            path: path.into(),
            size: None,
            fps: None,
        }
    }
}

// A rate comes from the configuration or the command line, which refuse what is no number.
impl Eq for DeviceConfig {}

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
        for secret in in_path(url.as_str()) {
            conceal(&url.as_str()[secret]);
        }
        Some((Self(url), credentials))
    }

    /// The path, without passwords that it may have.
    pub fn shown_path(&self) -> String {
        without_passwords(self.0.path())
    }

    /// The address as the RTSP client takes it.
    pub fn url(&self) -> &Url {
        &self.0
    }
}

/// Takes out of a text what [`in_path`] finds there.
pub(crate) fn without_passwords(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = 0;
    for secret in in_path(text) {
        shown.push_str(&text[rest..secret.start]);
        shown.push_str("***");
        rest = secret.end;
    }
    shown.push_str(&text[rest..]);
    shown
}

/// Where an address, or a text that repeats one, has passwords behind its host: cheap cameras have them in the path, as in `/user=admin&password=…`.
fn in_path(url: &str) -> Vec<Range<usize>> {
    const KEYS: &[&str] = &[
        "password", "passwd", "pass", "pwd", "psw", "token", "auth", "key", "secret",
    ];
    let lower = url.to_ascii_lowercase();
    let mut found: Vec<Range<usize>> = Vec::new();
    for (equals, _) in lower.match_indices('=') {
        let from = equals + 1;
        if KEYS.iter().any(|key| lower[..equals].ends_with(key)) {
            let is_end = |c: char| c.is_whitespace() || "&/?#;\"'`()<>".contains(c);
            let length = url[from..].find(is_end);
            let to = length.map_or(url.len(), |length| from + length);
            if found.last().is_none_or(|last| last.end <= from) {
                found.push(from..to);
            }
        }
    }
    found
}

impl fmt::Display for RtspUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_passwords(self.0.as_str()))
    }
}

impl fmt::Debug for RtspUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
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

    #[test]
    fn passwords_in_the_path_are_not_shown() {
        for (given, shown) in [
            (
                "rtsp://cam:554/user=admin&password=hush&channel=1.sdp?real_stream",
                "rtsp://cam:554/user=admin&password=***&channel=1.sdp?real_stream",
            ),
            (
                "rtsp://cam/live?user=admin&Pwd=hush",
                "rtsp://cam/live?user=admin&Pwd=***",
            ),
            (
                "rtsp://cam/user=admin_password=hush_channel=1/s?token=hush",
                "rtsp://cam/user=admin_password=***/s?token=***",
            ),
            ("rtsp://cam/a=b", "rtsp://cam/a=b"),
        ] {
            let (url, _) = RtspUrl::parse(given).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("{shown:?}"));
            assert_eq!(url.url().as_str(), given);
        }
        let (url, _) = RtspUrl::parse("rtsp://cam/user=admin&password=hush&channel=1?a=b").unwrap();
        assert_eq!(url.shown_path(), "/user=admin&password=***&channel=1");
        assert_eq!(
            without_passwords(
                "no base \"rtsp://cam/password=hush\" (rtsp://cam/?pwd=hush): ask (auth=it)"
            ),
            "no base \"rtsp://cam/password=***\" (rtsp://cam/?pwd=***): ask (auth=***)"
        );
    }
}
