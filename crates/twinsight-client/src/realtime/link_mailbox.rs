//! The mailbox of a link: signals of its peer come in from the hub's rooms, or from an acceptor that sorts those of many
//! peers; the link's task takes them out.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tracing::Instrument;

use super::signal::SignalNames;
use super::source_filter::SourceFilter;
use crate::hub::message::TwinMessage;
use crate::hub::{HubClient, MessageReceiver};

/// At most this many signals wait for a link's task. A peer sends a description and a dozen candidates.
pub(crate) const MAILBOX: usize = 64;

/// A link whose signals come to another room than its own twin's waits this long for the hub to let it in.
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(3);

/// The source of a link's signals.
#[derive(Debug)]
pub(super) enum Mailbox {
    /// It is opened when the own twin is known.
    Unopened,
    /// The link takes its signals out of the hub's rooms by itself.
    Hub(MessageReceiver),
    /// An acceptor, which has many peers, sorts the signals.
    Fed(mpsc::Receiver<TwinMessage>),
    /// No signal comes any more.
    Closed,
}

impl Mailbox {
    /// Takes the signals of these names and sources out of the rooms that the hub client is in.
    pub(super) fn in_rooms(hub: &HubClient, names: SignalNames, sources: SourceFilter) -> Self {
        Self::Hub(hub.messages(MAILBOX, move |message| {
            sources.include(message) && names.matches(&message.data)
        }))
    }

    /// The next signal; waits for ever where none can come. Cancel-safe.
    pub(super) async fn receive(&mut self) -> Option<TwinMessage> {
        match self {
            Self::Hub(receiver) => receiver.recv().await,
            Self::Fed(receiver) => receiver.recv().await,
            Self::Unopened | Self::Closed => std::future::pending().await,
        }
    }
}

/// Enters rooms of the hub, side by side, and waits for that if it is `needed`.
pub(super) async fn enter(hub: &HubClient, rooms: impl Iterator<Item = Arc<str>>, needed: bool) {
    // The hub client is asked before anything is awaited, so a `close` that comes soon finds what it has to take back.
    let rooms = rooms.map(|room| {
        let subscribed = hub.subscribe(&room);
        async move {
            if let Err(error) = subscribed.await {
                tracing::warn!(twin = %room, %error, "cannot listen to a twin yet");
            }
        }
    });
    let subscribe = join_all(rooms.collect::<Vec<_>>()).map(drop);
    let subscribing = tokio::spawn(subscribe.in_current_span());
    if needed {
        let _ = tokio::time::timeout(SUBSCRIBE_LIMIT, subscribing).await;
    }
}
