//! What an app says of a media stream that it wants, and the errors that it gets when there is none.

use std::time::Duration;

use super::local_track::LocalTrack;
use crate::dialect::Dialect;
use crate::hub::HubError;
use crate::realtime::dial::{DialError, DialFailure, LinkRequest, refused_servers};
use crate::realtime::ice::IceSettings;
use crate::realtime::names::shortened;
use crate::realtime::rtp_track::TrackKind;
use crate::realtime::signal::ChannelKind;
use twinsight_media::codec::Codec;

/// Which way media goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// We send and do not receive.
    SendOnly,
    /// We receive and do not send.
    #[default]
    RecvOnly,
    /// We send and receive over one connection.
    SendRecv,
}

impl Direction {
    pub(super) fn receives(self) -> bool {
        self != Self::SendOnly
    }
}

/// How a stream is called and connected, and what it carries.
///
/// A name alone is enough to receive video, `"front"`, and `None` is the name `default`, as in the official clients.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MediaStreamOptions {
    /// Its name, the same on both sides. Several streams to one peer differ by it. No name may be that of another stream with
    /// `-…` behind it, because the official clients would mistake one for the other.
    pub name: String,
    /// Which way media goes.
    pub direction: Direction,
    /// The tracks that are sent, if the direction allows it.
    pub tracks: Vec<LocalTrack>,
    /// The kinds of tracks that are received, if the direction allows it.
    /// [`Instance::get_media_stream`](crate::hub::Instance::get_media_stream) waits for the first packet of each.
    pub kinds: Vec<TrackKind>,
    /// The video codecs that are received, the preferred first. Video is sent as H.264.
    pub codecs: Vec<Codec>,
    /// The other side's client.
    pub dialect: Dialect,
    /// A responder then also accepts offers that are signed with its own twin, as web clients and npm clients before 6.15 sign
    /// them. Such an offer does not say who sends it.
    pub allow_unsigned: bool,
    /// Which paths connections may use. `None` allows all paths, or only relays if the operator has named one
    /// (`PHYSTACK_TURN_URL`).
    pub ice: Option<IceSettings>,
    /// How long a caller that waits for the first connection, and the first packets of its `kinds`, waits at most.
    pub connect_limit: Duration,
    /// Log the path of every connection: the pair of candidates.
    pub verbose: bool,
}

impl Default for MediaStreamOptions {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            direction: Direction::RecvOnly,
            tracks: Vec::new(),
            kinds: vec![TrackKind::Video],
            codecs: Codec::built_in().to_vec(),
            dialect: Dialect::Current,
            allow_unsigned: false,
            ice: None,
            connect_limit: Duration::from_secs(15),
            verbose: false,
        }
    }
}

impl MediaStreamOptions {
    /// The options of a stream that only sends these tracks.
    pub fn sending(tracks: impl IntoIterator<Item = LocalTrack>) -> Self {
        Self {
            direction: Direction::SendOnly,
            tracks: tracks.into_iter().collect(),
            ..Self::default()
        }
    }

    /// The options of a stream that sends these tracks and receives video over the same connection.
    pub fn two_way(tracks: impl IntoIterator<Item = LocalTrack>) -> Self {
        Self {
            direction: Direction::SendRecv,
            ..Self::sending(tracks)
        }
    }

    /// The same options with another name.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..self
        }
    }

    pub(super) fn request(&self) -> LinkRequest<'_> {
        LinkRequest {
            kind: ChannelKind::Media,
            name: &self.name,
            dialect: self.dialect,
            allow_unsigned: self.allow_unsigned,
            ice: self.ice.as_ref(),
            connect_limit: self.connect_limit,
            verbose: self.verbose,
            receives: !self.received().is_empty(),
        }
    }

    /// Gives an error if the options contradict each other.
    pub(super) fn check_tracks(&self, target: &str) -> Result<(), MediaError> {
        let why = match self.direction {
            Direction::SendOnly if self.tracks.is_empty() => {
                "it is to send only, and has no track to send"
            }
            Direction::RecvOnly if !self.tracks.is_empty() => {
                "it has tracks to send, and is to receive only"
            }
            Direction::RecvOnly if self.kinds.is_empty() => {
                "it is to receive only, and `kinds` is empty"
            }
            _ if self.codecs.is_empty() => "its list of codecs is empty",
            _ => return Ok(()),
        };
        Err(MediaError::Options {
            twin_id: shortened(target),
            why,
        })
    }

    /// The kinds of tracks that are received.
    pub(super) fn received(&self) -> Vec<TrackKind> {
        if self.direction.receives() {
            self.kinds.clone()
        } else {
            Vec::new()
        }
    }
}

impl From<&str> for MediaStreamOptions {
    fn from(name: &str) -> Self {
        Self::default().named(name)
    }
}

impl From<String> for MediaStreamOptions {
    fn from(name: String) -> Self {
        Self::default().named(name)
    }
}

/// Why there is no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// The other side cannot be dialled or awaited, or the options contradict each other.
    #[error("no media stream with `{twin_id}` can be made: {why}")]
    Options {
        /// The twin that was given, shortened.
        twin_id: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The hub is in the way.
    #[error("no media stream with `{twin_id}` can be made: {source}")]
    Hub {
        /// The twin at the other end.
        twin_id: String,
        /// The error of the hub's client.
        source: HubError,
    },
    /// Only relays may be used, and there is none that the stack can use.
    #[error(
        "no media stream with `{twin_id}` can be made: only relays are allowed, and no server offers TURN over UDP{}: set PHYSTACK_TURN_URL to `turn:HOST:3478`",
        refused_servers(refused)
    )]
    NoRelay {
        /// The twin at the other end.
        twin_id: String,
        /// Servers that the stack cannot use: TURN over TCP or TLS.
        refused: Vec<String>,
    },
    /// It was not connected in time. Nothing is tried any more.
    #[error(
        "the media stream `{name}` with `{twin_id}` was not connected within {limit:?} ({reason}): see that the twin's app runs and has this stream by this name"
    )]
    NotConnected {
        /// The twin at the other end.
        twin_id: String,
        /// The stream's name.
        name: String,
        /// How long it was waited for.
        limit: Duration,
        /// Why the last attempt failed.
        reason: &'static str,
    },
    /// It was connected, and no packet of these kinds came in time. Nothing is tried any more.
    #[error(
        "the media stream `{name}` with `{twin_id}` is connected, and no {} came within {limit:?}: see that the twin's app sends it, or leave it out of `kinds`",
        listed(missing)
    )]
    MissingMediaTrack {
        /// The twin at the other end.
        twin_id: String,
        /// The stream's name.
        name: String,
        /// The kinds of which no packet came.
        missing: Vec<TrackKind>,
        /// How long it was waited for.
        limit: Duration,
    },
}

impl From<DialError> for MediaError {
    fn from(error: DialError) -> Self {
        let DialError {
            twin_id,
            name,
            limit,
            failure,
        } = error;
        match failure {
            DialFailure::Invalid(why) => Self::Options { twin_id, why },
            DialFailure::Hub(source) => Self::Hub { twin_id, source },
            DialFailure::NoRelay { refused } => Self::NoRelay { twin_id, refused },
            DialFailure::NotConnected { reason } => Self::NotConnected {
                twin_id,
                name,
                limit,
                reason,
            },
        }
    }
}

fn listed(kinds: &[TrackKind]) -> String {
    let names: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
    names.join(" and no ")
}

impl From<Option<&str>> for MediaStreamOptions {
    fn from(name: Option<&str>) -> Self {
        name.map_or_else(Self::default, Self::from)
    }
}

impl MediaStreamOptions {
    /// Says which way media goes.
    #[must_use]
    pub fn with_direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// Says what is sent.
    #[must_use]
    pub fn with_tracks(mut self, tracks: Vec<LocalTrack>) -> Self {
        self.tracks = tracks;
        self
    }

    /// Says which kinds are received.
    #[must_use]
    pub fn with_kinds(mut self, kinds: Vec<TrackKind>) -> Self {
        self.kinds = kinds;
        self
    }

    /// Says which video codecs are taken, the preferred first.
    #[must_use]
    pub fn with_codecs(mut self, codecs: Vec<Codec>) -> Self {
        self.codecs = codecs;
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

    /// Logs the path of every connection.
    #[must_use]
    pub fn with_verbose(mut self, verbose: bool) -> Self {
        self.verbose = verbose;
        self
    }
}
