//! What becomes of a client's peer connections: the links of channels and streams tell it, whoever
//! listens is told. A listener that lags behind loses the oldest.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio::sync::broadcast;

use super::client::HubClient;
use crate::wakeup::{Wakeup, broadcast_arrival};

/// Events that a listener may lag behind.
pub(super) const EVENT_QUEUE: usize = 256;

/// What the channel between two peers carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChannelKind {
    /// Tracks of video and sound: a media stream.
    Media,
    /// Messages: a data channel.
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

/// A change of a connection with a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionEvent {
    /// The id of the twin at the other end.
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

/// The events of a client's connections, in order: [`HubClient::connection_events`]. Whoever lags 256 events behind loses the
/// oldest.
#[derive(Debug)]
pub struct ConnectionEvents {
    wakeup: Wakeup,
    receiver: broadcast::Receiver<ConnectionEvent>,
    missed: u64,
}

impl ConnectionType {
    /// The word of the official guide: `host`, `srflx` or `relay`.
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
    /// The next event; `None` once the client is gone. It may be cancelled without losing an event.
    pub async fn recv(&mut self) -> Option<ConnectionEvent> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(count)) => self.missed += count,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    fn poll_waiting(&mut self) -> Poll<Option<ConnectionEvent>> {
        loop {
            match self.receiver.try_recv() {
                Ok(event) => return Poll::Ready(Some(event)),
                Err(broadcast::error::TryRecvError::Lagged(count)) => self.missed += count,
                Err(broadcast::error::TryRecvError::Empty) => return Poll::Pending,
                Err(broadcast::error::TryRecvError::Closed) => return Poll::Ready(None),
            }
        }
    }

    /// Events that were lost because this listener lagged behind.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

impl Stream for ConnectionEvents {
    type Item = ConnectionEvent;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<ConnectionEvent>> {
        let mut wakeup = std::mem::take(&mut self.wakeup);
        let arrival = |events: &Self| broadcast_arrival(&events.receiver);
        let polled = wakeup.poll(&mut *self, Self::poll_waiting, arrival, context);
        self.wakeup = wakeup;
        polled
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
            wakeup: Wakeup::default(),
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
