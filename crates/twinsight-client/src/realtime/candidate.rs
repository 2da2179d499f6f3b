//! The other side's ICE candidates (RFC 8839 section 5.1): the text of a candidate comes in; the text that the WebRTC stack is
//! given goes out, or the reason why the candidate is left out. `peer` and `normalise` call it.
//!
//! Media goes only over UDP. The stack would open a TCP connection to whatever address a passive TCP candidate names, so such
//! candidates are left out here; the runtime that the stack is given refuses TCP too.

use std::net::IpAddr;

/// A connection accepts at most this many candidates of its peer, those in its descriptions included.
pub(crate) const MAX_CANDIDATES: usize = 64;

/// Why a candidate is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LeftOut {
    /// It is not of the grammar's form.
    #[error("it is no candidate of RFC 8839")]
    Malformed,
    /// It is for another transport than UDP.
    #[error("it is not for UDP")]
    Transport,
    /// It has a host name, and `ice.mdns` is off or the name is not a local one.
    #[error("it has a host name in place of an address")]
    HostName,
    /// It is for a port of RTCP's own, and RTCP shares the port of RTP here.
    #[error("it is for RTCP alone")]
    Component,
    /// No packet can be sent to its address.
    #[error("its address is none that packets can be sent to")]
    Address,
}

/// The text of a candidate without its prefix, with only the fields that the stack needs.
pub(crate) fn usable(text: &str, mdns: bool) -> Result<String, LeftOut> {
    let text = text.strip_prefix("a=").unwrap_or(text);
    let text = text.strip_prefix("candidate:").unwrap_or(text);
    let mut words = text.split_ascii_whitespace();
    let mut next = || words.next().ok_or(LeftOut::Malformed);
    let (foundation, component, transport, priority) = (next()?, next()?, next()?, next()?);
    let (address, port, typ, kind) = (next()?, next()?, next()?, next()?);
    let component: u16 = component.parse().map_err(|_| LeftOut::Malformed)?;
    let priority: u32 = priority.parse().map_err(|_| LeftOut::Malformed)?;
    let port: u16 = port.parse().map_err(|_| LeftOut::Malformed)?;
    let kind = kind.to_ascii_lowercase();
    let is_known = matches!(kind.as_str(), "host" | "srflx" | "prflx" | "relay");
    if typ != "typ" || !is_known || !is_ice_text(foundation) {
        return Err(LeftOut::Malformed);
    }
    if !transport.eq_ignore_ascii_case("udp") {
        return Err(LeftOut::Transport);
    }
    if component != 1 {
        return Err(LeftOut::Component);
    }
    let address = match address.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() || is_broadcast(ip) => {
            return Err(LeftOut::Address);
        }
        Ok(ip) => ip.to_string(),
        Err(_) if is_local_name(address) => {
            if !mdns || kind != "host" {
                return Err(LeftOut::HostName);
            }
            address.to_owned()
        }
        Err(_) => return Err(LeftOut::HostName),
    };
    if port == 0 {
        return Err(LeftOut::Address);
    }
    let mut usable = format!("{foundation} 1 udp {priority} {address} {port} typ {kind}");
    let (mut related, mut related_port) = (None, None);
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        match name {
            "raddr" => related = value.parse::<IpAddr>().ok(),
            "rport" => related_port = value.parse::<u16>().ok(),
            _ => {}
        }
    }
    if kind != "host"
        && let (Some(ip), Some(port)) = (related, related_port)
    {
        usable.push_str(&format!(" raddr {ip} rport {port}"));
    }
    Ok(usable)
}

/// True for a foundation: RFC 8839 allows letters, digits, `+` and `/`, up to 32 of them. Twice as many are accepted, and `-`.
fn is_ice_text(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-');
    text.len() <= 64 && text.bytes().all(allowed)
}

/// True for a name that is resolved by multicast DNS.
fn is_local_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    text.len() <= 255 && text.bytes().all(allowed) && text.ends_with(".local")
}

fn is_broadcast(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_udp_candidates_with_an_address_are_taken() {
        let host = "candidate:1 1 UDP 2130706431 10.0.0.2 50000 typ host generation 0 ufrag x";
        assert_eq!(
            usable(host, false),
            Ok("1 1 udp 2130706431 10.0.0.2 50000 typ host".to_owned())
        );
        let relay = "2 1 udp 16777215 192.0.2.9 40000 typ relay raddr 10.0.0.2 rport 50000";
        assert_eq!(usable(relay, false), Ok(relay.to_owned()));
        for (text, why) in [
            (
                "1 1 tcp 1 10.0.0.2 9 typ host tcptype active",
                LeftOut::Transport,
            ),
            (
                "1 1 TCP 1 10.0.0.2 5 typ host tcptype passive",
                LeftOut::Transport,
            ),
            ("1 1 ssltcp 1 10.0.0.2 443 typ host", LeftOut::Transport),
            ("1 2 udp 1 10.0.0.2 9 typ host", LeftOut::Component),
            ("1 1 udp 1 ab-cd.local 9 typ host", LeftOut::HostName),
            ("1 1 udp 1 example.com 9 typ host", LeftOut::HostName),
            ("1 1 udp 1 0.0.0.0 9 typ host", LeftOut::Address),
            ("1 1 udp 1 239.0.0.1 9 typ host", LeftOut::Address),
            ("1 1 udp 1 255.255.255.255 9 typ host", LeftOut::Address),
            ("1 1 udp 1 10.0.0.2 0 typ host", LeftOut::Address),
            ("1 1 udp 1 10.0.0.2 70000 typ host", LeftOut::Malformed),
            ("1 1 udp x 10.0.0.2 9 typ host", LeftOut::Malformed),
            ("1 1 udp 1 10.0.0.2 9 typ odd", LeftOut::Malformed),
            ("1 1 udp 1 10.0.0.2 9", LeftOut::Malformed),
            ("", LeftOut::Malformed),
        ] {
            assert_eq!(usable(text, false), Err(why), "{text}");
        }
        let local = "1 1 udp 1 ab-cd.local 9 typ host";
        assert_eq!(usable(local, true), Ok(local.to_owned()));
        assert_eq!(
            usable("1 1 udp 1 example.com 9 typ host", true),
            Err(LeftOut::HostName)
        );
    }

    proptest! {
        #[test]
        fn any_text_is_survived_and_what_is_taken_is_for_udp(text in "(candidate:)?[ -~]{0,80}", mdns: bool) {
            if let Ok(taken) = usable(&text, mdns) {
                prop_assert!(taken.contains(" udp ") && usable(&taken, mdns) == Ok(taken.clone()));
            }
        }

        #[test]
        fn mutated_candidates_are_survived(at in 0_usize..60, with in any::<char>(), mdns: bool) {
            let mut text: Vec<char> = "1 1 udp 16777215 192.0.2.9 40000 typ relay raddr 10.0.0.2 rport 5".chars().collect();
            text[at] = with;
            let text: String = text.into_iter().collect();
            if let Ok(taken) = usable(&text, mdns) {
                prop_assert_eq!(usable(&taken, mdns), Ok(taken.clone()));
            }
        }
    }
}
