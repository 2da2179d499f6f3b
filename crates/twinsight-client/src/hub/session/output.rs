//! What comes out of a session: frames to write, and what its owner is told.

use super::super::answer::CallResult;
use super::super::away_reason::AwayReason;
use super::super::message::{Twin, TwinMessage, TwinUpdate};

/// One thing that its owner does, or is told, in the order in which [`Session::poll`](super::Session::poll) gives them.
#[derive(Debug, PartialEq)]
pub enum Output<T> {
    /// Write this text frame.
    Write(String),
    /// Write this text frame before all that waits; it replaces one that is not written yet.
    Pong(String),
    /// Subscriptions are made: messages flow from now on. In direct mode this tells the own twin.
    Joined {
        /// The twin that the client speaks as. In direct mode it is the device's.
        twin_id: String,
    },
    /// What the hub knows about the own twin.
    OwnTwin(Twin),
    /// A twin message; one with `ack` is to be answered through [`Session::acknowledge`](super::Session::acknowledge).
    Message {
        /// What was said, by which twin, and to whom.
        message: TwinMessage,
        /// The id under which the hub awaits an acknowledgement.
        ack: Option<u64>,
    },
    /// What the hub knows of a twin that has changed.
    TwinUpdated(TwinUpdate),
    /// The hub has answered a call, or its time is over.
    Answer {
        /// What the caller gave.
        token: T,
        /// What came of the call.
        result: CallResult,
    },
    /// A subscription that was repeated by itself was not granted.
    SubscriptionFailed {
        /// The twin that is not listened to.
        twin_id: String,
        /// The hub's words, or that there were none.
        reason: String,
    },
    /// The hub sent something that breaks the protocol; the connection goes on.
    Malformed(String),
    /// The connection is of no use any more: close the socket and connect again.
    Lost(AwayReason),
    /// The hub refused the credentials explicitly: the connection is of no use any more.
    Refused(String),
}
