//! What has answered so far: datagrams come in, devices go out, each once, within bounds however much comes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use url::Url;

use super::probe::{self, Announced, NoAnswer, Scopes};

/// So many devices are taken; a network of cameras that are asked one by one is seldom larger.
pub(super) const MAX_DEVICES: usize = 256;

/// So many answers are read. Each device sends some for each question and each interface.
const MAX_ANSWERS: usize = 10_000;

/// So many hosts are named whose answers cannot be read.
const MAX_NAMED: usize = 8;

/// A device that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Who answered.
    pub(super) host: IpAddr,
    /// Where its device service is, with this host.
    pub(super) url: Url,
    /// The name of the device that stays the same.
    pub(super) endpoint: Option<String>,
    /// What its scopes say.
    pub(super) scopes: Scopes,
    /// What it calls its addresses itself.
    own: Vec<Url>,
}

/// All that has come.
#[derive(Debug, Default)]
pub(super) struct Findings {
    devices: Vec<Found>,
    unreadable: Unreadable,
    answers: usize,
    surplus: usize,
}

/// Answers that could not be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// How many there were.
    pub(super) count: usize,
    /// What was wrong with that of each host; some hosts at most.
    pub(super) reasons: BTreeMap<IpAddr, String>,
}

impl Findings {
    /// Takes a datagram.
    pub(super) fn take(&mut self, host: IpAddr, bytes: &[u8]) {
        self.answers += 1;
        if self.answers > MAX_ANSWERS {
            self.surplus += 1;
            return;
        }
        match probe::parse(bytes) {
            Ok(announced) => {
                for device in announced {
                    self.take_device(host, device);
                }
            }
            Err(NoAnswer::Other) => {}
            Err(NoAnswer::Unreadable(reason)) => self.note_unreadable(host, reason),
        }
    }

    fn take_device(&mut self, host: IpAddr, device: Announced) {
        let Some(url) = probe::reachable(&device.addresses, host) else {
            let reason = "it names no address of its own that begins with http:// or https://";
            return self.note_unreadable(host, reason.to_owned());
        };
        let found = Found {
            host,
            url,
            endpoint: device.endpoint,
            scopes: device.scopes,
            own: device.addresses,
        };
        if self.devices.iter().any(|known| known.is_same(&found)) {
            return;
        }
        match self.devices.len() < MAX_DEVICES {
            true => self.devices.push(found),
            false => self.surplus += 1,
        }
    }

    fn note_unreadable(&mut self, host: IpAddr, reason: String) {
        let Unreadable { count, reasons } = &mut self.unreadable;
        *count += 1;
        if reasons.len() < MAX_NAMED {
            reasons.entry(host).or_insert(reason);
        }
    }

    /// True if this host has answered.
    pub(super) fn has(&self, host: IpAddr) -> bool {
        self.devices.iter().any(|device| device.host == host)
    }

    /// The devices, those that were asked by their address first as they are, ordered by their addresses; what could not be read;
    /// and how much came beyond what is taken.
    pub(super) fn into_parts(self) -> (Vec<Found>, Unreadable, usize) {
        let mut devices = self.devices;
        devices.sort_by(|a, b| (a.host, a.url.as_str()).cmp(&(b.host, b.url.as_str())));
        (devices, self.unreadable, self.surplus)
    }
}

impl Found {
    /// A device whose address the operator gave, which has not answered to a question for devices.
    pub(super) fn by_address(host: IpAddr, url: Url) -> Self {
        Self {
            host,
            url,
            endpoint: None,
            scopes: Scopes::default(),
            own: Vec::new(),
        }
    }

    /// True for another answer of the same device. The same name alone is not enough: there are cameras that have all the same,
    /// since their maker copied it.
    fn is_same(&self, other: &Self) -> bool {
        let has_common = self.own.iter().any(|url| other.own.contains(url));
        let same_name = self.endpoint.is_some() && self.endpoint == other.endpoint;
        self.url == other.url || same_name && (has_common || self.host == other.host)
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe::tests::answer;
    use super::*;

    fn host(n: u8) -> IpAddr {
        IpAddr::from([192, 168, 1, n])
    }

    #[test]
    fn a_device_that_answers_often_is_one() {
        let mut findings = Findings::default();
        let first = answer("urn:uuid:1", "http://192.168.1.7/onvif/device_service");
        for _ in 0..6 {
            findings.take(host(7), first.as_bytes());
        }
        // The same camera by its second address, and with another id of the same firmware.
        let both =
            "http://192.168.1.7/onvif/device_service http://192.168.1.8/onvif/device_service";
        findings.take(host(8), answer("urn:uuid:1", both).as_bytes());
        let renamed = answer("urn:uuid:2", "http://192.168.1.7/onvif/device_service");
        findings.take(host(7), renamed.as_bytes());
        // Another camera of a maker who gave all the same id.
        let copy = answer("urn:uuid:1", "http://192.168.1.9/onvif/device_service");
        findings.take(host(9), copy.as_bytes());
        assert!(findings.has(host(9)) && !findings.has(host(10)));
        let (devices, unreadable, surplus) = findings.into_parts();
        let urls: Vec<&str> = devices.iter().map(|device| device.url.as_str()).collect();
        assert_eq!(
            urls,
            [
                "http://192.168.1.7/onvif/device_service",
                "http://192.168.1.9/onvif/device_service"
            ]
        );
        assert_eq!((unreadable, surplus), (Unreadable::default(), 0));
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_named() {
        let mut findings = Findings::default();
        findings.take(host(3), b"GET / HTTP/1.1");
        findings.take(host(3), b"<a/>");
        let strange = answer("urn:uuid:1", "file:///etc/passwd gopher://x/");
        findings.take(host(4), strange.as_bytes());
        for n in 10..100 {
            findings.take(host(n), b"");
        }
        let (devices, unreadable, _) = findings.into_parts();
        assert_eq!(devices, []);
        assert_eq!(
            (unreadable.count, unreadable.reasons.len()),
            (93, MAX_NAMED)
        );
        assert!(
            unreadable.reasons[&host(4)].contains("no address"),
            "{unreadable:?}"
        );
    }

    #[test]
    fn however_much_comes_a_bounded_number_is_kept() {
        let mut findings = Findings::default();
        for n in 0..MAX_ANSWERS + 5 {
            let url = format!("http://192.168.1.7:{}/", n % 60_000 + 1);
            findings.take(host(7), answer(&format!("urn:uuid:{n}"), &url).as_bytes());
        }
        let (devices, _, surplus) = findings.into_parts();
        assert_eq!(devices.len(), MAX_DEVICES);
        assert_eq!(surplus, MAX_ANSWERS - MAX_DEVICES + 5);
    }
}
