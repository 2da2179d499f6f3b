//! WS-Discovery of April 2005, which ONVIF uses: the question that goes out to all, and the answers that come in.

use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use roxmltree::Node;
use twinsight_client::hub::text::brief;
use url::Url;

use super::xml;

/// What is looked for: cameras, and all devices of ONVIF, since some cameras answer only to one of the two.
pub(super) const TYPES: [(&str, &str); 2] = [
    (
        "NetworkVideoTransmitter",
        "http://www.onvif.org/ver10/network/wsdl",
    ),
    ("Device", "http://www.onvif.org/ver10/device/wsdl"),
];

/// An answer may tell of this many devices. Each tells of itself, and proxies of others.
const MAX_MATCHES: usize = 16;

/// A device may have this many addresses.
const MAX_ADDRESSES: usize = 16;

/// What scopes of ONVIF begin with.
const SCOPE: &str = "onvif://www.onvif.org/";

/// A device as it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announced {
    /// The name of the device that stays the same, usually `urn:uuid:…`. Some have none.
    pub(super) endpoint: Option<String>,
    /// Where its device service is, by HTTP or HTTPS; it may be that others cannot reach these.
    pub(super) addresses: Vec<Url>,
    /// What its scopes say.
    pub(super) scopes: Scopes,
}

/// What scopes say of a device, for people to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scopes {
    pub(super) name: Option<String>,
    pub(super) hardware: Option<String>,
    pub(super) location: Option<String>,
}

/// What came in place of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// It is of WS-Discovery, and of no camera: a printer, a hello, a question of somebody else.
    Other,
    /// It cannot be read, and this is why.
    Unreadable(String),
}

/// The question for devices of a type, with an id of its own.
pub(super) fn probe(message_id: u128, (name, namespace): (&str, &str)) -> String {
    let id = uuid(message_id);
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope" xmlns:w="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery" xmlns:dn="{namespace}"><e:Header><w:MessageID>uuid:{id}</w:MessageID><w:To e:mustUnderstand="true">urn:schemas-xmlsoap-org:ws:2005:04:discovery</w:To><w:Action e:mustUnderstand="true">http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</w:Action></e:Header><e:Body><d:Probe><d:Types>dn:{name}</d:Types></d:Probe></e:Body></e:Envelope>"#
    )
}

/// A random number as a UUID of version 4 (RFC 9562).
fn uuid(random: u128) -> String {
    let bits = random & !(0xf << 76) & !(0b11 << 62) | (4 << 76) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

/// Reads an answer. Whose question it answers is not looked at: it came to the port that asked, and cameras are known that write
/// the id in another way than it was written.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Announced>, NoAnswer> {
    let text = xml::text(bytes);
    let document = xml::parse(&text).map_err(NoAnswer::Unreadable)?;
    let body = xml::find(document.root(), &["Envelope", "Body"])
        .ok_or_else(|| NoAnswer::Unreadable("it is no SOAP message".to_owned()))?;
    // Some leave the list around the devices out.
    let matches = xml::find(body, &["ProbeMatches"]).unwrap_or(body);
    let mut announced = Vec::new();
    for found in xml::children(matches, "ProbeMatch").take(MAX_MATCHES) {
        let scopes = xml::string(found, &["Scopes"]).unwrap_or_default();
        if !is_onvif(found, scopes) {
            continue;
        }
        announced.push(Announced {
            endpoint: xml::shown(found, &["EndpointReference", "Address"]),
            addresses: addresses(xml::string(found, &["XAddrs"]).unwrap_or_default()),
            scopes: Scopes::parse(scopes),
        });
    }
    // An empty answer is what a device gives that has nothing of the type.
    match announced.is_empty() {
        true => Err(NoAnswer::Other),
        false => Ok(announced),
    }
}

/// True for what says by its types or its scopes that it speaks ONVIF. Some cameras leave the types empty.
fn is_onvif(found: Node<'_, '_>, scopes: &str) -> bool {
    let types = xml::string(found, &["Types"]).unwrap_or_default();
    let mut names = types
        .split_whitespace()
        .map(|name| name.rsplit(':').next().unwrap_or(name));
    scopes.contains("onvif://") || names.any(|name| TYPES.iter().any(|(known, _)| name == *known))
}

/// The addresses of a list that are of the web. A scheme that is none of it is not followed, whatever it may be.
fn addresses(list: &str) -> Vec<Url> {
    list.split_whitespace()
        .take(MAX_ADDRESSES)
        .filter_map(|text| Url::parse(text).ok())
        .filter(|url| ["http", "https"].contains(&url.scheme()) && url.host().is_some())
        .collect()
}

impl Scopes {
    /// Reads scopes with blanks between them.
    pub(super) fn parse(list: &str) -> Self {
        let mut scopes = Self::default();
        // A blank ends a scope, and some cameras have blanks in their names all the same: what is no address goes on with the one before.
        let mut words: Vec<String> = Vec::new();
        for word in list.split_whitespace() {
            match words.last_mut() {
                Some(scope) if !word.contains("://") => *scope += &format!(" {word}"),
                _ => words.push(word.to_owned()),
            }
        }
        for scope in &words {
            let Some((kind, value)) = scope
                .strip_prefix(SCOPE)
                .and_then(|rest| rest.split_once('/'))
            else {
                continue;
            };
            let value = percent_decode_str(value).decode_utf8_lossy();
            let value = value.trim_matches(['/', ' ']);
            let place = match kind.to_ascii_lowercase().as_str() {
                "name" => &mut scopes.name,
                "hardware" => &mut scopes.hardware,
                // A place has several parts, such as `country/china` and `city/hangzhou`.
                "location" => &mut scopes.location,
                _ => continue,
            };
            if value.is_empty() {
                continue;
            }
            match place {
                Some(_) if kind != "location" => {}
                Some(before) => *before = brief(&format!("{before}, {value}")),
                None => *place = Some(brief(value)),
            }
        }
        scopes
    }
}

/// The address by which a device that answered from `from` is asked: the first of its own that has this host, else the first, in
/// either case with the host that answered. What a camera says of its own address may be that behind a router, or none at all
/// (`0.0.0.0`), and it may be that of somebody else.
pub(super) fn reachable(addresses: &[Url], from: IpAddr) -> Option<Url> {
    let is_plain = |url: &&Url| url.scheme() == "http";
    let own = || addresses.iter().filter(|url| is_host(url, from));
    let chosen = own()
        .find(is_plain)
        .or_else(|| own().next())
        .or_else(|| addresses.iter().find(is_plain))
        .or_else(|| addresses.first())?;
    let mut url = chosen.clone();
    set_host(&mut url, from);
    Some(url)
}

/// True if the host of an address is this one.
pub(super) fn is_host(url: &Url, host: IpAddr) -> bool {
    // Read as a text, because the type of a host is only known of schemes of the web, and not of `rtsp`.
    let text = url.host_str().unwrap_or_default();
    text.trim_matches(['[', ']']).parse() == Ok(host)
}

/// Puts this host into an address, and takes out who asks: no address of a camera's own says that.
pub(super) fn set_host(url: &mut Url, host: IpAddr) {
    let done = url.set_ip_host(host).is_ok()
        && url.set_username("").is_ok()
        && url.set_password(None).is_ok();
    debug_assert!(done, "{url} has a host");
}

#[cfg(test)]
#[path = "probe_tests.rs"]
pub(super) mod tests;
