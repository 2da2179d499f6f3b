//! Why a connection to the hub ended, and what its operator can do about it.

use std::time::Duration;

use super::options::HubMode;
use crate::telemetry::HubLoss;

/// The TLS stack's words for a certificate that it does not accept, which the WebSocket layer hands on as text.
const BAD_CERTIFICATE: &str = "invalid peer certificate";

/// How the sentence of the WebSocket begins that says that the operator's certificates cannot be used.
pub(super) const CA_FILE: &str = "the hub's ca_file ";

/// Why a connection ended. Every one of these leads to another attempt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AwayReason {
    /// The socket could not be opened, or broke.
    #[error("the connection failed: {0}")]
    Socket(String),
    /// The name of the hub's host has no address that is known here.
    #[error(transparent)]
    Name(Box<UnknownHost>),
    /// The hub closed the socket.
    #[error("the hub closed the connection")]
    Closed,
    /// The hub left the namespace (packet `41`).
    #[error("the hub disconnected this client")]
    Disconnected,
    /// The hub was silent for longer than its ping interval and time-out.
    #[error("the hub was silent for {0:?}")]
    PingTimeout(Duration),
    /// The connection was not granted in time.
    #[error("the hub did not grant the connection within {0:?}")]
    ConnectTimeout(Duration),
    /// The hub did not answer a step of joining.
    #[error("the hub did not answer `{0}` in time")]
    NoAnswer(&'static str),
    /// The hub answered a step of joining with an error.
    #[error("the hub answered `{step}` with `{message}`")]
    Rejected {
        /// The method of the hub that was called.
        step: &'static str,
        /// What the hub said about it, cut and without secrets.
        message: String,
    },
    /// The credentials were refused. That is believed once it was said for a minute.
    #[error(
        "the hub refused the device id and access key ({0}): they are tried for a minute, and another key as soon as its file holds one"
    )]
    KeyRefused(String),
    /// The socket takes no more data.
    #[error("the hub does not take what is sent to it")]
    Stuck,
    /// This client was closed.
    #[error("the client was closed")]
    ClosedHere,
}

/// The name of a host that has no address, boxed in [`AwayReason`] so that errors stay small.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the host name `{host}` cannot be resolved ({reason})")]
pub struct UnknownHost {
    /// The host's name, cut if it is long.
    pub host: String,
    /// What the system said.
    pub reason: String,
    /// Which hub it is, on which it depends what is to be corrected.
    pub mode: HubMode,
}

impl AwayReason {
    /// What an operator can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            // `explain_io` of `os_error` begins its sentence with these words.
            Self::Socket(what) if what.starts_with("too many open files") => {
                "raise the limit of open files: it is no fault of the hub"
            }
            Self::Name(unknown) => name_remedy(unknown.mode),
            Self::Socket(_) => {
                "see that the hub runs and that its address, the way there and its certificate are right"
            }
            Self::Closed | Self::Disconnected | Self::PingTimeout(_) | Self::Stuck => {
                "see what the hub logs, and look at proxies that end long connections"
            }
            Self::ConnectTimeout(_) | Self::NoAnswer(_) => {
                "restart the hub if it hangs, or correct the address"
            }
            Self::Rejected { .. } => "see that the hub knows this device or twin, and what it logs",
            Self::KeyRefused(_) => "check the device id and its access key",
            Self::ClosedHere => "",
        }
    }

    /// Under which reason it is counted.
    pub(super) fn loss(&self) -> HubLoss {
        match self {
            Self::Socket(what) if what.contains(BAD_CERTIFICATE) || what.starts_with(CA_FILE) => {
                HubLoss::Certificate
            }
            Self::Socket(_) | Self::Name(_) => HubLoss::Socket,
            Self::KeyRefused(_) => HubLoss::Key,
            Self::Rejected { .. } => HubLoss::Rejected,
            Self::PingTimeout(_) | Self::ConnectTimeout(_) | Self::NoAnswer(_) | Self::Stuck => {
                HubLoss::Silent
            }
            Self::Closed | Self::Disconnected | Self::ClosedHere => HubLoss::Closed,
        }
    }
}

/// What an operator can do about a host name that is not known.
pub fn name_remedy(mode: HubMode) -> &'static str {
    match mode {
        HubMode::Phyos => {
            "that is the hub of a PhyOS device: elsewhere set PHYSTACK_SIMULATOR_URL, or PHYHUB_DIRECT with PHYHUB_URL or PHYHUB_REGION"
        }
        HubMode::Direct | HubMode::Simulator => {
            "correct the address (PHYHUB_URL, PHYSTACK_SIMULATOR_URL or `hub.url`), or this machine's DNS"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_not_trusted_is_no_broken_socket() {
        let socket = |what: &str| AwayReason::Socket(what.to_owned()).loss();
        for certificate in [
            "IO error: invalid peer certificate: UnknownIssuer",
            "the hub's ca_file /run/ca.pem cannot be used: it holds no certificate in PEM form",
        ] {
            assert_eq!(socket(certificate), HubLoss::Certificate, "{certificate}");
        }
        for other in [
            "IO error: Connection refused (os error 111)",
            "too many open files, and 8 is the limit of this process",
        ] {
            assert_eq!(socket(other), HubLoss::Socket, "{other}");
        }
        assert_eq!(AwayReason::KeyRefused(String::new()).loss(), HubLoss::Key);
    }
}
