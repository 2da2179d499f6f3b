//! Whether there is a hub at all: one WebSocket handshake, step by step, so that what fails has its own
//! name. Options come in, how far it came and the hub's clock go out. `twinsight check` asks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, http};
use tokio_tungstenite::{Connector, client_async_tls_with_config};

use super::options::{HubConfigError, HubOptions};
use super::text::brief;
use super::websocket::tls_config;

/// Looking up the name, and opening the TCP connection, may each take this long.
const STEP_LIMIT: Duration = Duration::from_secs(5);

/// What stands in the way, in the order of the steps.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The URL is none.
    #[error(transparent)]
    Url(#[from] HubConfigError),
    /// The operator's certificates cannot be used.
    #[error("{0}")]
    Certificates(String),
    /// The host's name is not known.
    #[error("the host name `{host}` cannot be resolved ({reason})")]
    Name {
        /// The name.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// Nothing listens.
    #[error("nothing listens at {0}")]
    Refused(SocketAddr),
    /// The host does not answer.
    #[error("{address} cannot be connected to ({reason})")]
    Unreachable {
        /// The last address that was tried.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// TLS was not agreed on.
    #[error("TLS was not agreed on with {address} ({reason})")]
    Tls {
        /// The address.
        address: SocketAddr,
        /// What the library said.
        reason: String,
    },
    /// The other side took the connection and said nothing.
    #[error("{address} took the connection and did not answer within {} s", limit.as_secs_f64())]
    Silent {
        /// The address.
        address: SocketAddr,
        /// The time that it had.
        limit: Duration,
    },
    /// Something else answers.
    #[error("what answers at {address} is not a hub ({reason})")]
    NotAHub {
        /// The address.
        address: SocketAddr,
        /// What came instead.
        reason: String,
    },
}

/// What was learnt on the way.
#[derive(Debug)]
pub struct Probe {
    /// The address that was connected to, or why there is no hub.
    pub result: Result<SocketAddr, ProbeError>,
    /// The clock of what answered.
    pub clock: Option<RemoteClock>,
}

/// What another machine's clock said, to the second.
#[derive(Debug, Clone, Copy)]
pub struct RemoteClock {
    /// The `Date` of its answer.
    pub date: SystemTime,
    /// Our own time when the request went out.
    pub asked_at: SystemTime,
    /// Our own time when the answer was there.
    pub answered_at: SystemTime,
}

impl RemoteClock {
    /// How far our clock is ahead of the other, in seconds; negative when it is behind. What the second
    /// that `Date` is rounded to and the way there leave open counts as agreement.
    pub fn ahead_seconds(&self) -> f64 {
        let after = |a: SystemTime, b: SystemTime| match a.duration_since(b) {
            Ok(ahead) => ahead.as_secs_f64(),
            Err(behind) => -behind.duration().as_secs_f64(),
        };
        // The date was read between the two, and is up to a second younger than it says.
        let most = after(self.answered_at, self.date);
        let least = after(self.asked_at, self.date) - 1.0;
        if least > 0.0 {
            least
        } else if most < 0.0 {
            most
        } else {
            0.0
        }
    }
}

/// Opens a WebSocket to the hub and lets it go again.
pub async fn probe(options: &HubOptions) -> Probe {
    let mut clock = None;
    let result = steps(options, &mut clock).await;
    Probe { result, clock }
}

async fn steps(
    options: &HubOptions,
    clock: &mut Option<RemoteClock>,
) -> Result<SocketAddr, ProbeError> {
    let url = options.websocket_url()?;
    let tls = url.starts_with("wss:");
    let connector = if tls {
        Connector::Rustls(Arc::new(
            tls_config(options).map_err(ProbeError::Certificates)?,
        ))
    } else {
        Connector::Plain
    };
    let uri: http::Uri = url.parse().map_err(|_| HubConfigError::Url {
        url: options.shown_url(),
    })?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let addresses = lookup(host, port, STEP_LIMIT).await;
    let addresses = addresses.map_err(|reason| ProbeError::Name {
        host: brief(host),
        reason,
    })?;
    let (stream, address) = connect(&addresses).await?;

    let limit = options.timers.connect;
    let asked_at = SystemTime::now();
    let opening = client_async_tls_with_config(url, stream, None, Some(connector));
    let opened = tokio::time::timeout(limit, opening)
        .await
        .map_err(|_| ProbeError::Silent { address, limit })?;
    let answered_at = SystemTime::now();
    let mut note = |headers: &http::HeaderMap| {
        *clock = headers
            .get(http::header::DATE)
            .and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok())
            .map(|date| RemoteClock {
                date,
                asked_at,
                answered_at,
            });
    };
    match opened {
        Ok((_socket, response)) => {
            note(response.headers());
            Ok(address)
        }
        Err(tungstenite::Error::Http(response)) => {
            note(response.headers());
            Err(ProbeError::NotAHub {
                address,
                reason: format!("HTTP status {}", response.status()),
            })
        }
        Err(tungstenite::Error::Tls(error)) => Err(ProbeError::Tls {
            address,
            reason: brief(&error.to_string()),
        }),
        // rustls speaks through the stream's errors.
        Err(tungstenite::Error::Io(error)) if tls => Err(ProbeError::Tls {
            address,
            reason: brief(&error.to_string()),
        }),
        Err(error) => Err(ProbeError::NotAHub {
            address,
            reason: brief(&error.to_string()),
        }),
    }
}

/// The addresses of a host, one at least. The error is what the system says, or that it said nothing in time.
pub(super) async fn lookup(
    host: &str,
    port: u16,
    limit: Duration,
) -> Result<Vec<SocketAddr>, String> {
    let found = tokio::time::timeout(limit, tokio::net::lookup_host((host, port))).await;
    let addresses: Vec<SocketAddr> = match found {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Err(brief(&crate::os_error::explain_io(&error))),
        Err(_) => return Err(format!("no answer within {} s", limit.as_secs_f64())),
    };
    if addresses.is_empty() {
        return Err("it has no address".to_owned());
    }
    Ok(addresses)
}

/// The first of the addresses that takes a connection.
async fn connect(addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), ProbeError> {
    let mut failure = None;
    for &address in addresses {
        let opened = tokio::time::timeout(STEP_LIMIT, TcpStream::connect(address)).await;
        failure = Some(match opened {
            Ok(Ok(stream)) => return Ok((stream, address)),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                ProbeError::Refused(address)
            }
            Ok(Err(error)) => ProbeError::Unreachable {
                address,
                reason: error.to_string(),
            },
            Err(_) => ProbeError::Unreachable {
                address,
                reason: format!("no answer within {} s", STEP_LIMIT.as_secs()),
            },
        });
    }
    Err(failure.expect("there is an address, because `lookup` gives at least one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_rounding_leaves_open_is_agreement() {
        let at = |ms: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        let ahead = |asked, answered, date| {
            let clock = RemoteClock {
                date: at(date),
                asked_at: at(asked),
                answered_at: at(answered),
            };
            clock.ahead_seconds()
        };
        assert!(ahead(10_100, 10_200, 10_000).abs() < 1e-9);
        assert!(ahead(10_900, 11_300, 11_000).abs() < 1e-9);
        assert!((ahead(70_500, 70_600, 10_000) - 59.5).abs() < 1e-9);
        assert!((ahead(10_500, 10_600, 70_000) + 59.4).abs() < 1e-9);
    }
}
