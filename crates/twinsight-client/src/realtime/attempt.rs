//! The attempts of a link to connect with its peer: who offers, how an attempt goes and why it ended. `negotiation` makes
//! them; the link, the owners of streams and channels, and the log read them.

/// The side of the negotiation that a link is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We offer.
    Initiator,
    /// We answer.
    Responder,
}

/// The number of a link's attempt to connect, from 1. What comes from an attempt that is over is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Attempt(pub(crate) u32);

/// What has become of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// An attempt has begun.
    Attempting(Attempt),
    /// The connection is up.
    Connected(Attempt),
    /// The attempt is over.
    Over(Attempt, EndReason),
}

/// Why an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum EndReason {
    /// No answer came to the offer.
    Unanswered,
    /// The descriptions were exchanged, and no path was found in time.
    NoPath,
    /// No description could be made here.
    Local,
    /// No UDP port is free here.
    NoSocket,
    /// The interfaces that are configured have no usable address.
    NoAddress,
    /// This process has as many files open as it may.
    NoFiles,
    /// The other side's description cannot be used.
    Unusable,
    /// The other side closed the connection.
    Closed,
    /// The network path broke.
    Lost,
    /// The connection is up, and no media comes.
    NoMedia,
    /// The other side began anew.
    Replaced,
    /// The tracks that are sent have changed: the next connection carries the new ones.
    Changed,
    /// Nobody here wanted what was offered.
    Declined,
}

impl EndReason {
    /// A clause for logs and events.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unanswered => "no answer to the offer",
            Self::NoPath => "no network path was found in time",
            Self::Local => "the connection could not be set up here",
            Self::NoSocket => {
                "no UDP port is free here: see ice.interfaces and ice.udp_ports, and the log"
            }
            Self::NoAddress => {
                "the interfaces of ice.interfaces have no usable address here: see `ip address`, and the log"
            }
            Self::NoFiles => {
                "too many open files here: raise `ulimit -n` or the service's LimitNOFILE"
            }
            Self::Unusable => "the other side's description cannot be used",
            Self::Closed => "the other side closed the connection",
            Self::Lost => "the network path broke",
            Self::NoMedia => "connected, but no video comes",
            Self::Replaced => "the other side began anew",
            Self::Declined => "the offer was not accepted here",
            Self::Changed => "the tracks that are sent have changed",
        }
    }
}
