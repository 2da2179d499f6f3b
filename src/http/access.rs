//! Who may use the API and the dashboard. A request's headers come in; whether it is served, or why not, comes out. With a token
//! it has to be borne, as a header or by a session that the login page gave for it. Without one only this machine is served,
//! and only by names of this machine, so that no web page can point a name of its own at the node and read it.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use twinsight_client::secret::Secret;

/// The cookie that holds a session.
pub(super) const COOKIE: &str = "twinsight_session";

/// A session that is not used for this long ends.
const SESSION_IDLE: Duration = Duration::from_secs(7 * 24 * 3600);

/// So many sessions there may be. The one that was not used for the longest makes room.
const SESSIONS: usize = 64;

/// After a wrong token nobody at the same address may try another one for this long.
const LOGIN_PAUSE: Duration = Duration::from_secs(1);

/// So many addresses may have tried a wrong token a moment ago. With more of them everybody has to wait.
const MAX_REFUSED: usize = 1024;

/// Who may use what needs the token.
#[derive(Debug)]
pub(super) enum Access {
    /// This machine, since the listener is on loopback and there is no token.
    Local,
    /// Whoever bears this token.
    Token(Box<TokenAccess>),
    /// Nobody, since other machines can connect and there is no token.
    Closed,
}

/// The token, and the sessions of those who gave it.
#[derive(Debug)]
pub(super) struct TokenAccess {
    token: Secret,
    state: Mutex<LoginState>,
}

#[derive(Debug, Default)]
struct LoginState {
    /// The digests of the cookies, the one that was used last at the end.
    sessions: VecDeque<(Instant, [u8; 32])>,
    /// Who gave a wrong token a moment ago, and when.
    refused: HashMap<IpAddr, Instant>,
}

/// The address that a request came from. The server puts it into the request's extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

impl Peer {
    /// Whose guesses are counted together. Of IPv6, a site has a whole network of 64 bits.
    fn origin(self) -> IpAddr {
        match self.0.to_canonical() {
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
            v4 @ IpAddr::V4(_) => v4,
        }
    }
}

/// Why a request is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It bears no token, or another one.
    NoToken,
    /// There is no token, and the listener is open to other machines.
    Closed,
    /// There is no token, and the request names another host than this machine.
    ForeignHost,
}

/// What came of an attempt to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// The token is right. This is the value of the cookie.
    Session(String),
    /// The token is wrong.
    Wrong,
    /// Somebody at this address gave a wrong one a moment ago.
    TooSoon,
}

impl Access {
    /// The rule for a listener on this address.
    pub(super) fn new(address: IpAddr, token: Option<Secret>) -> Self {
        match token {
            Some(token) => Self::Token(Box::new(TokenAccess {
                token,
                state: Mutex::default(),
            })),
            None if address.is_loopback() => Self::Local,
            None => Self::Closed,
        }
    }

    /// Whether a request with these headers is served.
    pub(super) fn check(&self, headers: &HeaderMap, now: Instant) -> Result<(), Refusal> {
        match self {
            Self::Local if names_this_machine(headers) => Ok(()),
            Self::Local => Err(Refusal::ForeignHost),
            Self::Closed => Err(Refusal::Closed),
            Self::Token(access) if access.is_borne(headers, now) => Ok(()),
            Self::Token(_) => Err(Refusal::NoToken),
        }
    }

    /// Gives a session for the token.
    pub(super) fn log_in(&self, token: &str, peer: Peer, now: Instant) -> Login {
        match self {
            Self::Token(access) => access.log_in(token, peer, now),
            // Without a token there is nothing to log in for.
            Self::Local | Self::Closed => Login::Wrong,
        }
    }

    /// Ends the session of a request.
    pub(super) fn log_out(&self, headers: &HeaderMap) {
        if let (Self::Token(access), Some(cookie)) = (self, session_cookie(headers)) {
            let digest = digest(cookie);
            let mut state = access.state.lock();
            state.sessions.retain(|(_, each)| *each != digest);
        }
    }
}

impl TokenAccess {
    fn is_borne(&self, headers: &HeaderMap, now: Instant) -> bool {
        bearer(headers).is_some_and(|given| same(given, self.token.expose()))
            || session_cookie(headers).is_some_and(|cookie| self.is_session(cookie, now))
    }

    fn is_session(&self, cookie: &str, now: Instant) -> bool {
        let digest = digest(cookie);
        let mut state = self.state.lock();
        state
            .sessions
            .retain(|(used, _)| now.saturating_duration_since(*used) < SESSION_IDLE);
        // The cookie is random, so that the time of comparing its digest tells nothing.
        let Some(at) = state.sessions.iter().position(|(_, each)| *each == digest) else {
            return false;
        };
        state.sessions.remove(at);
        state.sessions.push_back((now, digest));
        true
    }

    fn log_in(&self, token: &str, peer: Peer, now: Instant) -> Login {
        let mut state = self.state.lock();
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < LOGIN_PAUSE;
        state.refused.retain(|_, at| is_recent(at));
        let origin = peer.origin();
        if state.refused.contains_key(&origin) || state.refused.len() >= MAX_REFUSED {
            return Login::TooSoon;
        }
        if !same(token.trim(), self.token.expose()) {
            state.refused.insert(origin, now);
            return Login::Wrong;
        }
        let cookie = format!(
            "{:032x}{:032x}",
            rand::random::<u128>(),
            rand::random::<u128>()
        );
        if state.sessions.len() == SESSIONS {
            state.sessions.pop_front();
        }
        state.sessions.push_back((now, digest(&cookie)));
        Login::Session(cookie)
    }
}

/// The token of `Authorization: Bearer` (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, given) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(given.trim())
}

fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value)
}

/// True if the request's host is an address or `localhost`. A name of somebody else's that leads here is neither.
fn names_this_machine(headers: &HeaderMap) -> bool {
    // Without the header no browser asks.
    let Some(host) = headers.get(header::HOST) else {
        return true;
    };
    let Ok(host) = host.to_str() else {
        return false;
    };
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    host.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
}

/// Compares the digests of two texts, so that the time that it takes tells neither what they are nor how long.
fn same(a: &str, b: &str) -> bool {
    digest(a).as_slice().ct_eq(digest(b).as_slice()).into()
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    const PEER: Peer = Peer(LOOPBACK);

    fn with(name: header::HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn without_a_token_this_machine_is_served_by_its_own_names() {
        let (access, now) = (Access::new(LOOPBACK, None), Instant::now());
        for host in [
            "localhost:9464",
            "127.0.0.1:9464",
            "[::1]:9464",
            "10.0.0.7",
            "node.localhost",
        ] {
            assert_eq!(
                access.check(&with(header::HOST, host), now),
                Ok(()),
                "{host}"
            );
        }
        for host in ["evil.example", "localhost.evil.example:9464", "", "[evil]"] {
            let refused = access.check(&with(header::HOST, host), now);
            assert_eq!(refused, Err(Refusal::ForeignHost), "{host}");
        }
        let open = Access::new([0, 0, 0, 0].into(), None);
        assert_eq!(open.check(&HeaderMap::new(), now), Err(Refusal::Closed));
    }

    #[test]
    fn the_token_is_borne_as_a_header_or_by_a_session() {
        let access = Access::new(LOOPBACK, Some(Secret::new("s3cret")));
        let now = Instant::now();
        let check = |name, value: &str, now| access.check(&with(name, value), now).is_ok();
        assert!(check(header::AUTHORIZATION, "Bearer s3cret", now));
        assert!(check(header::AUTHORIZATION, "bearer  s3cret ", now));
        for wrong in [
            "Bearer other",
            "Bearer",
            "Basic s3cret",
            "s3cret",
            "Bearer s3cret2",
        ] {
            assert!(!check(header::AUTHORIZATION, wrong, now), "{wrong}");
        }
        assert_eq!(access.check(&HeaderMap::new(), now), Err(Refusal::NoToken));
        let Login::Session(cookie) = access.log_in("s3cret", PEER, now) else {
            panic!("the token is right");
        };
        let cookies = format!("other=1; {COOKIE}={cookie}");
        assert!(check(header::COOKIE, &cookies, now));
        assert!(check(header::COOKIE, &cookies, now + SESSION_IDLE / 2));
        assert!(!check(header::COOKIE, &format!("{COOKIE}=s3cret"), now));
        assert!(!check(header::COOKIE, &cookies, now + 2 * SESSION_IDLE));
    }

    #[test]
    fn a_session_ends_by_logging_out_and_the_oldest_makes_room() {
        let access = Access::new(LOOPBACK, Some(Secret::new("s3cret")));
        let now = Instant::now();
        let log_in = || match access.log_in("s3cret", PEER, now) {
            Login::Session(cookie) => with(header::COOKIE, &format!("{COOKIE}={cookie}")),
            other => panic!("{other:?}"),
        };
        let first = log_in();
        access.log_out(&HeaderMap::new());
        assert_eq!(access.check(&first, now), Ok(()));
        access.log_out(&first);
        assert_eq!(access.check(&first, now), Err(Refusal::NoToken));
        let oldest = log_in();
        let all: Vec<_> = (0..SESSIONS).map(|_| log_in()).collect();
        assert_eq!(access.check(&oldest, now), Err(Refusal::NoToken));
        assert!(all.iter().all(|each| access.check(each, now).is_ok()));
    }

    #[test]
    fn tokens_cannot_be_tried_one_after_the_other() {
        let access = Access::new(LOOPBACK, Some(Secret::new("s3cret")));
        let now = Instant::now();
        assert_eq!(access.log_in("guess", PEER, now), Login::Wrong);
        assert_eq!(access.log_in("s3cret", PEER, now), Login::TooSoon);
        let session = access.log_in(" s3cret\n", PEER, now + LOGIN_PAUSE);
        assert!(matches!(session, Login::Session(_)));
    }

    #[test]
    fn who_guesses_locks_out_nobody_elsewhere() {
        let access = Access::new(LOOPBACK, Some(Secret::new("s3cret")));
        let now = Instant::now();
        let log_in =
            |token: &str, peer: &str| access.log_in(token, Peer(peer.parse().unwrap()), now);
        assert_eq!(log_in("guess", "192.0.2.1"), Login::Wrong);
        assert_eq!(log_in("s3cret", "::ffff:192.0.2.1"), Login::TooSoon);
        assert!(matches!(log_in("s3cret", "192.0.2.2"), Login::Session(_)));
        assert_eq!(log_in("guess", "2001:db8::1"), Login::Wrong);
        assert_eq!(log_in("s3cret", "2001:db8::2:2"), Login::TooSoon);
        assert!(matches!(
            log_in("s3cret", "2001:db8:0:1::1"),
            Login::Session(_)
        ));
        // Whoever has thousands of addresses makes everybody wait, and no memory is used up.
        let mut wrong = 2;
        for n in 0..5000_u32 {
            let peer = Peer(std::net::Ipv4Addr::from_bits(n).into());
            wrong += usize::from(access.log_in("guess", peer, now) == Login::Wrong);
        }
        assert_eq!(wrong, MAX_REFUSED);
        assert_eq!(log_in("s3cret", "192.0.2.2"), Login::TooSoon);
        let session = access.log_in("s3cret", PEER, now + LOGIN_PAUSE);
        assert!(matches!(session, Login::Session(_)));
    }
}
