//! Where the connection to the hub stands, as the client's task tells it to all handles.

use std::time::Instant;

use super::away_reason::AwayReason;

/// Where the connection to the hub stands: [`HubClient::status`](super::HubClient::status).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubStatus {
    /// An attempt to join is under way.
    Connecting {
        /// Its number since the hub was last joined, from 1.
        attempt: u32,
    },
    /// The hub is joined: messages go out and come in.
    Joined {
        /// The id of the own twin.
        twin_id: String,
    },
    /// The next attempt waits, or the client was closed.
    Away {
        /// When the hub went, or could not be reached for the first time.
        since: Instant,
        /// Why the last attempt or connection ended.
        reason: AwayReason,
    },
    /// The hub refused the credentials. Nothing more is tried.
    Refused {
        /// What the hub said, in one line without the credentials.
        reason: String,
    },
}
