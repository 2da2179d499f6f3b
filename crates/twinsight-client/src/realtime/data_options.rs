//! What an app says of a data channel that it wants, and the errors that it gets when there is none.

use std::time::Duration;

use super::dial::{DialError, DialFailure, LinkRequest, refused_servers};
use super::ice::IceSettings;
use super::signal::ChannelKind;
use crate::dialect::Dialect;
use crate::hub::HubError;

/// How a data channel is called and connected.
///
/// A name alone is enough, `"control"`, and `None` is the name `default`, as in the official clients.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DataChannelOptions {
    /// Its name, the same on both sides. Several channels to one peer differ by it.
    pub name: String,
    /// The other side's client.
    pub dialect: Dialect,
    /// A responder then also accepts offers that are signed with its own twin, as web clients and npm clients before 6.15 sign
    /// them. Such an offer does not say who sends it.
    pub allow_unsigned: bool,
    /// Which paths connections may use. `None` allows all paths, or only relays if the operator has named one
    /// (`PHYSTACK_TURN_URL`).
    pub ice: Option<IceSettings>,
    /// How long a caller that waits for the first connection waits at most.
    pub connect_limit: Duration,
    /// [`DataChannel::send`](super::DataChannel::send) accepts no message while the other side has not acknowledged this many
    /// bytes. A message that is larger is accepted when nothing else is on its way.
    pub high_water_bytes: usize,
    /// Log the path of every connection: the pair of candidates.
    pub verbose: bool,
}

impl Default for DataChannelOptions {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            dialect: Dialect::Current,
            allow_unsigned: false,
            ice: None,
            connect_limit: Duration::from_secs(15),
            high_water_bytes: 1 << 20,
            verbose: false,
        }
    }
}

impl From<&str> for DataChannelOptions {
    fn from(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }
}

impl From<String> for DataChannelOptions {
    fn from(name: String) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }
}

/// Why there is no data channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The other side cannot be dialled or awaited.
    #[error("no data channel with `{twin_id}` can be made: {why}")]
    Target {
        /// The twin that was given, shortened.
        twin_id: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The hub is in the way.
    #[error("no data channel with `{twin_id}` can be made: {source}")]
    Hub {
        /// The twin at the other end.
        twin_id: String,
        /// The error of the hub's client.
        source: HubError,
    },
    /// Only relays may be used, and there is none that the stack can use. `get_data_channel` gives this error; the other ways to
    /// make a channel log a warning and go on trying.
    #[error(
        "no data channel with `{twin_id}` can be made: only relays are allowed, and no server offers TURN over UDP{}: set PHYSTACK_TURN_URL to `turn:HOST:3478`",
        refused_servers(refused)
    )]
    NoRelay {
        /// The twin at the other end.
        twin_id: String,
        /// Servers that the stack cannot use: TURN over TCP or TLS.
        refused: Vec<String>,
    },
    /// It was not open in time. Nothing is tried any more.
    #[error(
        "the data channel `{name}` to `{twin_id}` was not open within {limit:?} ({reason}): see that the twin's app runs and accepts this channel by this name"
    )]
    NotOpened {
        /// The twin at the other end.
        twin_id: String,
        /// The channel's name.
        name: String,
        /// How long it was waited for.
        limit: Duration,
        /// Why the last attempt failed.
        reason: &'static str,
    },
}

impl DataChannelOptions {
    pub(super) fn request(&self) -> LinkRequest<'_> {
        LinkRequest {
            kind: ChannelKind::Data,
            name: &self.name,
            dialect: self.dialect,
            allow_unsigned: self.allow_unsigned,
            ice: self.ice.as_ref(),
            connect_limit: self.connect_limit,
            verbose: self.verbose,
            receives: false,
        }
    }
}

impl From<DialError> for ChannelError {
    fn from(error: DialError) -> Self {
        let DialError {
            twin_id,
            name,
            limit,
            failure,
        } = error;
        match failure {
            DialFailure::Invalid(why) => Self::Target { twin_id, why },
            DialFailure::Hub(source) => Self::Hub { twin_id, source },
            DialFailure::NoRelay { refused } => Self::NoRelay { twin_id, refused },
            DialFailure::NotConnected { reason } => Self::NotOpened {
                twin_id,
                name,
                limit,
                reason,
            },
        }
    }
}

impl From<Option<&str>> for DataChannelOptions {
    fn from(name: Option<&str>) -> Self {
        name.map_or_else(Self::default, Self::from)
    }
}

impl DataChannelOptions {
    /// The same under another name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Says which client the other side has.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Takes offers too that are signed with the own twin.
    #[must_use]
    pub fn with_allow_unsigned(mut self, allow_unsigned: bool) -> Self {
        self.allow_unsigned = allow_unsigned;
        self
    }

    /// Says how connections find their way.
    #[must_use]
    pub fn with_ice(mut self, ice: IceSettings) -> Self {
        self.ice = Some(ice);
        self
    }

    /// Says how long the first connection may take.
    #[must_use]
    pub fn with_connect_limit(mut self, connect_limit: Duration) -> Self {
        self.connect_limit = connect_limit;
        self
    }

    /// Says how many bytes may be on their way.
    #[must_use]
    pub fn with_high_water_bytes(mut self, high_water_bytes: usize) -> Self {
        self.high_water_bytes = high_water_bytes;
        self
    }

    /// Logs the path of every connection.
    #[must_use]
    pub fn with_verbose(mut self, verbose: bool) -> Self {
        self.verbose = verbose;
        self
    }
}
