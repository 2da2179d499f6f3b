//! Addresses behind a 1:1 NAT: candidates with this machine's own addresses come in, candidates that the other side can reach
//! go out. The stack's own setting for this does nothing, so the text of the candidates is changed here, before it is sent.

use std::net::IpAddr;

use super::sdp::Description;

/// A description whose host candidates name the public addresses.
pub(super) fn announce_in_description(description: &Description, public: &[IpAddr]) -> String {
    if public.is_empty() {
        return description.as_str().to_owned();
    }
    description.with_candidates(|candidate| announce(candidate, public))
}

/// The candidates that are sent in place of one: a host candidate becomes one for each public address of its family, any other
/// stays as it is. Ports stay, because a 1:1 NAT keeps them.
pub(super) fn announce(candidate: &str, public: &[IpAddr]) -> Vec<String> {
    // foundation component transport priority address port "typ" type … (RFC 8839 section 5.1)
    let mut words: Vec<&str> = candidate.split(' ').collect();
    let own = match words[..] {
        [_, _, _, _, address, _, "typ", "host", ..] => address.parse::<IpAddr>().ok(),
        _ => None,
    };
    let outside: Vec<String> = public
        .iter()
        .filter(|ip| own.is_some_and(|own| own.is_ipv4() == ip.is_ipv4()))
        .map(IpAddr::to_string)
        .collect();
    if outside.is_empty() {
        return vec![candidate.to_owned()];
    }
    let mut announced = Vec::with_capacity(outside.len());
    for address in &outside {
        words[4] = address;
        announced.push(words.join(" "));
    }
    announced
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "1 1 udp 2130706431 10.0.0.2 50000 typ host ufrag x";
    const RELAY: &str = "2 1 udp 16777215 192.0.2.9 40000 typ relay raddr 10.0.0.2 rport 50000";

    #[test]
    fn a_host_candidate_is_replaced_and_a_relayed_one_stays() {
        let public: Vec<IpAddr> = ["198.51.100.7", "2001:db8::7"]
            .map(|ip| ip.parse().unwrap())
            .into();
        let sdp = format!(
            "v=0\r\na=ice-ufrag:x\r\na=candidate:{HOST}\r\na=candidate:{RELAY}\r\na=candidate:3 1 udp 1 fd00::2 50001 typ host\r\n"
        );
        let expected = format!(
            "v=0\r\na=ice-ufrag:x\r\na=candidate:1 1 udp 2130706431 198.51.100.7 50000 typ host ufrag x\r\na=candidate:{RELAY}\r\na=candidate:3 1 udp 1 2001:db8::7 50001 typ host\r\n"
        );
        let description = Description::parse(&sdp).unwrap();
        assert_eq!(announce_in_description(&description, &public), expected);
        assert_eq!(announce_in_description(&description, &[]), sdp);
    }

    #[test]
    fn each_public_address_of_the_family_is_announced_and_nothing_else_is_touched() {
        let public: Vec<IpAddr> = ["198.51.100.7", "198.51.100.8"]
            .map(|ip| ip.parse().unwrap())
            .into();
        assert_eq!(announce(HOST, &public).len(), 2);
        for odd in ["", "1 1 udp", "1 1 udp 1 x.local 5 typ host"] {
            assert_eq!(announce(odd, &public), [odd]);
        }
    }
}
