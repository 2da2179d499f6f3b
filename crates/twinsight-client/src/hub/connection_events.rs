//! What becomes of a client's peer connections: the links of channels and streams tell it, whoever
//! listens is told. A listener that lags behind loses the oldest.

use std::fmt;

use tokio::sync::broadcast;

use super::client::HubClient;

/// Events that a listener may lag behind.
pub(super) const EVENT_QUEUE: usize = 256;

/// What the channel between two peers carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChannelKind {
    /// Tracks.
    Media,
    /// A data channel.
    Data,
}

impl ChannelKind {
    /// `media` or `data`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Media => "media",
            Self::Data => "data",
        }
    }
}

/// What a path between two peers is made of, by its most distant part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionType {
    /// Both sides reach each other's own addresses.
    Host,
    /// Through an address translation that STUN found out.
    Srflx,
    /// Through a TURN server.
    Relay,
}

/// Something became of a connection with a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionEvent {
    /// The twin at the other end.
    pub target_twin_id: String,
    /// What the connection carries.
    pub kind: ChannelKind,
    /// The name of the channel or stream.
    pub name: String,
    /// The id under which the initiator keeps the connection, where it is known.
    pub peer_id: Option<String>,
    /// What became of it.
    pub change: ConnectionChange,
}

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionChange {
    /// It is up for the first time.
    Connected {
        /// Its path; none if it went before it could be looked at.
        connection_type: Option<ConnectionType>,
    },
    /// It was up, and is no more.
    Disconnected,
    /// It was up before, and is being made anew.
    Reconnecting {
        /// Attempts since it was lost, from 1.
        attempt: u32,
    },
    /// It is up again.
    Reconnected {
        /// Its path; none if it went before it could be looked at.
        connection_type: Option<ConnectionType>,
    },
    /// An attempt failed. Whoever dials goes on: at once where nobody answered, else with growing pauses.
    Error {
        /// Why, as a clause.
        reason: &'static str,
    },
}

/// The events of a client's connections, in order.
#[derive(Debug)]
pub struct ConnectionEvents {
    receiver: broadcast::Receiver<ConnectionEvent>,
    missed: u64,
}

impl ConnectionType {
    /// As the guide writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Srflx => "srflx",
            Self::Relay => "relay",
        }
    }
}

impl fmt::Display for ConnectionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ConnectionEvents {
    /// The next event; `None` once the client is gone.
    pub async fn recv(&mut self) -> Option<ConnectionEvent> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(count)) => self.missed += count,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// Events that were lost because this listener lagged behind.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

impl HubClient {
    /// What becomes of all connections of this client's channels and streams, from now on.
    ///
    /// ```no_run
    /// # use twinsight_client::hub::{ConnectionChange, HubClient};
    /// # async fn watch(client: HubClient) {
    /// let mut events = client.connection_events();
    /// while let Some(event) = events.recv().await {
    ///     if let ConnectionChange::Connected { connection_type: Some(path) } = event.change {
    ///         println!("{} is connected through {path}", event.target_twin_id);
    ///     }
    /// }
    /// # }
    /// ```
    pub fn connection_events(&self) -> ConnectionEvents {
        ConnectionEvents {
            receiver: self.shared.connections.subscribe(),
            missed: 0,
        }
    }

    #[cfg(feature = "webrtc")]
    pub(crate) fn tell_connection(&self, event: ConnectionEvent) {
        // An error means that nobody listens.
        let _ = self.shared.connections.send(event);
    }
}
