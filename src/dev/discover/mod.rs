//! `twinsight discover`: looks for cameras that speak ONVIF, by WS-Discovery on the networks of this machine or at addresses that are
//! given, and asks each for its streams. `probe` and `found` make cameras of what is answered to the search, which `socket` carries;
//! `device` asks one of them by `soap` and `messages`; `camera` says which stream is right for detection, and `report` and
//! `config_text` write what was found. Nothing is changed on a camera.

mod camera;
mod config_text;
mod device;
mod found;
mod messages;
mod probe;
mod report;
mod soap;
mod socket;
mod xml;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use twinsight_client::hub::text::brief;
use url::{Host, Url};

use self::camera::{Camera, Trouble};
pub(crate) use self::config_text::Asker;
use self::found::{Findings, Found, MAX_DEVICES};
use self::socket::Target;
use crate::config::RtspCredentials;
use crate::web_client::WebClient;

/// So many cameras are asked at once.
const AT_ONCE: usize = 8;

/// Where most cameras have their device service.
const USUAL_PATH: &str = "/onvif/device_service";

/// What to look for and how.
#[derive(Debug)]
pub(crate) struct DiscoverOptions {
    /// The interfaces whose networks are asked; none for all, unless there are addresses.
    pub(crate) interfaces: Vec<String>,
    /// Hosts that are asked.
    pub(crate) addresses: Vec<CameraAddress>,
    /// Answers to the search are waited for this long.
    pub(crate) wait: Duration,
    /// Who asks.
    pub(crate) credentials: Option<RtspCredentials>,
    /// What sends the questions after the search.
    pub(crate) web: WebClient,
}

/// A host that may be a camera, with the port of its web server if it is not the usual one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CameraAddress {
    host: Host,
    port: Option<u16>,
}

/// Why no camera was looked for, or none was found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiscoverError {
    /// There is no such interface.
    #[error(
        "the interface `{name}` cannot be used ({source}): `ip address` lists those of this machine"
    )]
    Interface {
        /// Its name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A name has no address.
    #[error("`{host}` has no address ({source}): correct it, or give the camera's IP address")]
    Name {
        /// The name.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody answered to the search.
    #[error(
        "no camera answered within {} s: the search (multicast to 239.255.255.250, UDP port 3702) does not cross routers and VLANs, and \
         leaves a container only with `--network host`; see that ONVIF is turned on in the cameras, or ask one by `--address HOST`",
        wait.as_secs_f64()
    )]
    NoAnswer {
        /// How long was waited.
        wait: Duration,
    },
    /// The hosts that were given do not speak ONVIF.
    #[error("{}: see that ONVIF is turned on in the camera, and which port it has (`--address HOST:PORT`)", .0.join("; "))]
    NoCamera(Vec<String>),
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Discovered {
    cameras: Vec<Camera>,
}

impl Discovered {
    /// Lines for people.
    pub(crate) fn lines(&self) -> Vec<String> {
        report::lines(&self.cameras)
    }

    /// A line of JSON for each camera.
    pub(crate) fn json_lines(&self) -> Vec<String> {
        let lines = self
            .cameras
            .iter()
            .map(|camera| report::json(camera).to_string());
        lines.collect()
    }

    /// A configuration with a section for each camera.
    pub(crate) fn configuration(&self, asker: &Asker) -> String {
        config_text::text(&self.cameras, asker)
    }
}

/// Looks for cameras and asks them.
pub(crate) async fn run(options: DiscoverOptions) -> Result<Discovered, DiscoverError> {
    let mut targets: Vec<Target> = options
        .interfaces
        .iter()
        .cloned()
        .map(Target::Interface)
        .collect();
    if targets.is_empty() && options.addresses.is_empty() {
        targets = socket::interfaces();
    }
    let mut hosts = Vec::new();
    for address in &options.addresses {
        hosts.push((address, address.resolve().await?));
    }
    // Whose port is known is asked there, without a search.
    let searched = hosts.iter().filter(|(address, _)| address.port.is_none());
    targets.extend(searched.map(|(_, host)| Target::Host(*host)));
    let findings = Mutex::new(Findings::default());
    let failures = socket::search(&targets, options.wait, &findings).await;
    let mut findings = findings.into_inner();
    if let Some((Target::Interface(name), source)) = failures
        .into_iter()
        .find(|(target, _)| is_named(target, &options.interfaces))
    {
        return Err(DiscoverError::Interface { name, source });
    }
    let mut given = Vec::new();
    for (address, host) in hosts {
        if address.port.is_some() || !findings.has(host) {
            given.extend(
                address
                    .usual_place(host)
                    .map(|url| Found::by_address(host, url)),
            );
        }
    }
    let given_count = given.len();
    let (found, unreadable, surplus) = std::mem::take(&mut findings).into_parts();
    if unreadable.count > 0 {
        let reasons = unreadable.reasons.iter();
        let reasons: Vec<String> = reasons
            .map(|(host, reason)| format!("{host}: {reason}"))
            .collect();
        let (count, reasons) = (unreadable.count, reasons.join("; "));
        tracing::warn!(
            count,
            reasons,
            "some answers to the search for cameras cannot be read and are left out"
        );
    }
    if surplus > 0 {
        tracing::warn!(
            surplus,
            most = MAX_DEVICES,
            "more answers came to the search for cameras than are taken: name an interface with `--interface`, or hosts with `--address`"
        );
    }
    given.extend(found);
    let asked = given
        .iter()
        .map(|found| device::ask(&options.web, options.credentials.as_ref(), found));
    let mut cameras: Vec<Camera> = futures_util::stream::iter(asked)
        .buffered(AT_ONCE)
        .collect()
        .await;
    let silent = take_silent(&mut cameras, given_count);
    match (cameras.is_empty(), silent.is_empty()) {
        (true, true) => Err(DiscoverError::NoAnswer { wait: options.wait }),
        (true, false) => Err(DiscoverError::NoCamera(silent)),
        (false, _) => {
            for sentence in silent {
                tracing::warn!(
                    reason = sentence,
                    "an address that was given with `--address` is no camera that speaks ONVIF, and is left out"
                );
            }
            Ok(Discovered { cameras })
        }
    }
}

fn is_named(target: &Target, interfaces: &[String]) -> bool {
    matches!(target, Target::Interface(name) if interfaces.contains(name))
}

/// Takes out hosts among the first so many, which the operator gave, that have answered nothing of ONVIF, and says so of each.
fn take_silent(cameras: &mut Vec<Camera>, given: usize) -> Vec<String> {
    let mut silent = Vec::new();
    let mut n = 0;
    cameras.retain(|camera| {
        n += 1;
        let reason = match &camera.trouble {
            Some(Trouble::Unreachable(reason)) => reason.clone(),
            Some(Trouble::Other(reason)) if !camera.has_told() => {
                format!("{} does not speak ONVIF: {reason}", camera.host)
            }
            _ => return true,
        };
        if n <= given {
            silent.push(reason);
        }
        n > given
    });
    silent
}

impl CameraAddress {
    /// Reads `HOST` or `HOST:PORT`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        // The scheme is only there to have the rest read; it is one that has no usual port.
        let url = Url::parse(&format!("camera://{text}")).ok()?;
        let is_bare = url.username().is_empty()
            && url.password().is_none()
            && ["", "/"].contains(&url.path())
            && url.query().is_none()
            && url.fragment().is_none();
        let host = Host::parse(url.host_str()?).ok()?;
        (is_bare && text.len() <= 300).then_some(Self {
            host,
            port: url.port(),
        })
    }

    async fn resolve(&self) -> Result<IpAddr, DiscoverError> {
        let name = match &self.host {
            Host::Ipv4(address) => return Ok((*address).into()),
            Host::Ipv6(address) => return Ok((*address).into()),
            Host::Domain(name) => name,
        };
        let failed = |source| DiscoverError::Name {
            host: brief(name),
            source,
        };
        let found = tokio::net::lookup_host((name.as_str(), socket::PORT)).await;
        let found: Vec<IpAddr> = found.map_err(failed)?.map(|address| address.ip()).collect();
        // Cameras are more likely to be reached by IPv4 where they have both.
        let best = found.iter().find(|ip| ip.is_ipv4()).or(found.first());
        best.copied()
            .ok_or_else(|| failed(io::Error::from(io::ErrorKind::NotFound)))
    }

    fn usual_place(&self, host: IpAddr) -> Option<Url> {
        let mut url = Url::parse(&format!("http://camera{USUAL_PATH}")).ok()?;
        url.set_ip_host(host).ok()?;
        url.set_port(self.port).ok()?;
        Some(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_maybe_a_port() {
        let host = IpAddr::from([192, 168, 1, 64]);
        for (text, place) in [
            ("192.168.1.64", "http://192.168.1.64/onvif/device_service"),
            (
                "192.168.1.64:8000",
                "http://192.168.1.64:8000/onvif/device_service",
            ),
            (
                "camera.local:80",
                "http://192.168.1.64/onvif/device_service",
            ),
        ] {
            let address = CameraAddress::parse(text).unwrap();
            assert_eq!(address.usual_place(host).unwrap().as_str(), place, "{text}");
        }
        let six = CameraAddress::parse("[fe80::1]:8000").unwrap();
        assert_eq!(
            (six.host, six.port),
            (Host::Ipv6("fe80::1".parse().unwrap()), Some(8000))
        );
        for wrong in [
            "",
            "http://a/",
            "a b",
            "a/path",
            "a:99999",
            "user@a",
            "user:pw@a",
            "a?b",
        ] {
            assert_eq!(CameraAddress::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn hosts_that_were_given_and_say_nothing_are_no_cameras() {
        let told = |trouble: Option<Trouble>| {
            let mut camera = camera::tests::camera(&[]);
            camera.trouble = trouble;
            camera
        };
        let mut cameras = vec![
            told(Some(Trouble::Unreachable("gone".to_owned()))),
            told(Some(Trouble::Other("it answered 404 Not Found".to_owned()))),
            told(Some(Trouble::NeedsCredentials)),
            told(Some(Trouble::Unreachable("gone".to_owned()))),
        ];
        let silent = take_silent(&mut cameras, 3);
        assert_eq!(
            silent,
            [
                "gone",
                "192.168.1.64 does not speak ONVIF: it answered 404 Not Found"
            ]
        );
        assert_eq!(cameras.len(), 2, "what answered to the search stays");
    }
}
