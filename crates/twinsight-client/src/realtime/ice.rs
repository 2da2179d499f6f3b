//! The paths of connections: which addresses, ports and servers they may use, and which kind of path they have. `peer` and
//! `connect` call it; the settings come from an app's options or the node's configuration.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::hub::connection_events::ConnectionType;
use crate::hub::message::IceServer;

/// Which addresses and ports connections use, and which addresses the other side is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceSettings {
    /// Use only candidates of TURN servers.
    pub relay_only: bool,
    /// Names of the network interfaces to bind; empty: all but loopback.
    pub interfaces: Vec<String>,
    /// Local UDP ports to use, one for each connection; `None`: the system's choice.
    pub udp_ports: Option<RangeInclusive<u16>>,
    /// Public addresses of a one-to-one NAT in front of this machine.
    pub nat_1to1_ips: Vec<IpAddr>,
    /// Resolve the `.local` candidates that browsers send.
    pub mdns: bool,
    /// The receive buffer that the system is asked for, for each UDP socket.
    pub recv_buffer_bytes: usize,
}

impl Default for IceSettings {
    fn default() -> Self {
        Self {
            relay_only: false,
            interfaces: Vec::new(),
            udp_ports: None,
            nat_1to1_ips: Vec::new(),
            mdns: false,
            recv_buffer_bytes: 1 << 20,
        }
    }
}

/// The pair of candidates that a connection uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CandidatePair {
    /// Type, address and port on this side.
    pub(super) local: String,
    /// Type, address and port on the other side.
    pub(super) remote: String,
    /// The kind of path that the two make.
    pub(super) connection_type: ConnectionType,
}

/// The kind of path that candidates of these two types make (RFC 8839 §5.1). A peer-reflexive candidate is an address that was
/// learned from the path itself; on the other side it may be a host address that a browser hides.
pub(super) fn connection_type(local: &str, remote: &str) -> ConnectionType {
    match (local, remote) {
        ("relay", _) | (_, "relay") => ConnectionType::Relay,
        ("srflx" | "prflx", _) | (_, "srflx") => ConnectionType::Srflx,
        _ => ConnectionType::Host,
    }
}

/// At most this many characters of a server's URL are shown.
const MAX_SHOWN: usize = 256;

/// What a server's URL asks for (RFC 7064, RFC 7065).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    /// STUN over UDP.
    Stun,
    /// TURN over UDP.
    TurnUdp,
    /// TURN over TCP or TLS, which the stack does not have.
    TurnTcp,
    /// STUN over TLS, which the stack does not have.
    StunTls,
    /// Neither STUN nor TURN.
    Unknown,
}

/// Gives the kind of server that a URL names.
pub fn server_kind(url: &str) -> ServerKind {
    let url = url.trim().to_ascii_lowercase();
    let (address, query) = url.split_once('?').unwrap_or((&url, ""));
    let tcp = query.split('&').any(|each| each == "transport=tcp");
    match address.split_once(':') {
        Some((_, "")) | None => ServerKind::Unknown,
        Some(("stun", _)) => ServerKind::Stun,
        Some(("stuns", _)) => ServerKind::StunTls,
        Some(("turns", _)) => ServerKind::TurnTcp,
        Some(("turn", _)) if tcp => ServerKind::TurnTcp,
        Some(("turn", _)) => ServerKind::TurnUdp,
        Some(_) => ServerKind::Unknown,
    }
}

/// A server's URL as it may be shown, without the user name and password that some people put there although RFC 7065 has no
/// place for them.
pub fn shown_url(url: &str) -> String {
    let (before, after) = url.split_once(':').unwrap_or(("", url));
    let (address, query) = after.split_once('?').unwrap_or((after, ""));
    let address = match address.rsplit_once('@') {
        Some((_, address)) => format!("…@{address}"),
        None => address.to_owned(),
    };
    let mut transport = query.split('&').filter(|each| {
        let name = each.split('=').next().unwrap_or_default();
        name.eq_ignore_ascii_case("transport")
    });
    let query = transport.next().map(|each| format!("?{each}"));
    let shown = format!("{before}:{address}{}", query.unwrap_or_default());
    let printable = shown.chars().filter(|c| !c.is_control());
    printable.take(MAX_SHOWN).collect()
}

/// Takes the URLs that the stack cannot use out of `servers`, and gives them.
pub(crate) fn take_out_unusable(servers: &mut Vec<IceServer>) -> Vec<String> {
    let mut refused = Vec::new();
    servers.retain_mut(|server| {
        server.urls.retain(|url| {
            let usable = matches!(server_kind(url), ServerKind::Stun | ServerKind::TurnUdp);
            if !usable {
                refused.push(url.clone());
            }
            usable
        });
        !server.urls.is_empty()
    });
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_what_they_ask_for() {
        for (url, expected) in [
            ("stun:s:3478", ServerKind::Stun),
            ("stuns:s", ServerKind::StunTls),
            ("turn:t", ServerKind::TurnUdp),
            ("turn:t:3478?transport=udp", ServerKind::TurnUdp),
            ("TURN:t?Transport=TCP", ServerKind::TurnTcp),
            ("turns:t:443", ServerKind::TurnTcp),
            ("turns:t?transport=udp", ServerKind::TurnTcp),
            ("turn:", ServerKind::Unknown),
            ("https://t", ServerKind::Unknown),
            ("", ServerKind::Unknown),
        ] {
            assert_eq!(server_kind(url), expected, "{url}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        for (url, shown) in [
            ("turn:t:3478?transport=tcp", "turn:t:3478?transport=tcp"),
            ("turns:node:secret@t:443", "turns:…@t:443"),
            (
                "turn:t?password=secret&transport=udp",
                "turn:t?transport=udp",
            ),
            ("https://a:secret@t", "https:…@t"),
            ("secret\n", ":secret"),
        ] {
            assert_eq!(shown_url(url), shown);
        }
    }

    #[test]
    fn what_the_stack_cannot_do_is_taken_out_by_name() {
        let server = |urls: &[&str]| IceServer {
            urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            username: None,
            credential: None,
        };
        let mut servers = vec![
            server(&["stun:a", "turns:a"]),
            server(&["turn:b?transport=tcp"]),
            server(&["turn:c?transport=udp", "turn:c"]),
            server(&["stuns:d", "http://e"]),
        ];
        let refused = take_out_unusable(&mut servers);
        assert_eq!(
            refused,
            ["turns:a", "turn:b?transport=tcp", "stuns:d", "http://e"]
        );
        assert_eq!(
            servers,
            [
                server(&["stun:a"]),
                server(&["turn:c?transport=udp", "turn:c"])
            ]
        );
    }

    #[test]
    fn a_path_is_named_by_its_most_distant_part() {
        let of = |local, remote| connection_type(local, remote).as_str();
        assert_eq!(of("host", "host"), "host");
        assert_eq!(of("host", "prflx"), "host");
        assert_eq!(of("host", "srflx"), "srflx");
        assert_eq!(of("prflx", "host"), "srflx");
        assert_eq!(of("srflx", "relay"), "relay");
        assert_eq!(of("relay", "host"), "relay");
    }
}
