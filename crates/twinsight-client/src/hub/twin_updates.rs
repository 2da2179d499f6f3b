//! Changes of twins on their way to whoever listens. They are numbered, so that each listener knows how many it missed.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio::sync::broadcast;

use super::message::TwinUpdate;
use crate::wakeup::{Wakeup, broadcast_arrival};

/// Twin updates that a receiver may lag behind before the oldest go. One that is large takes several places.
const UPDATE_QUEUE: usize = 64;

/// The bytes of a twin update that one place is for, as the hub sent them.
const UPDATE_BYTES: usize = 32 << 10;

/// The queue that all listeners read.
#[derive(Debug)]
pub(super) struct UpdateFeed {
    sender: broadcast::Sender<FeedEntry>,
    /// Updates so far.
    count: AtomicU64,
}

/// Changes of the subscribed twins, in order: [`HubClient::twin_updates`](super::HubClient::twin_updates).
///
/// Whoever lags 64 updates of up to 32 KiB behind loses the oldest; a larger update takes the place of several.
#[derive(Debug)]
pub struct TwinUpdates {
    wakeup: Wakeup,
    receiver: broadcast::Receiver<FeedEntry>,
    /// The number of the next update.
    next: u64,
    missed: u64,
}

/// A place in the queue of updates.
#[derive(Debug, Clone)]
enum FeedEntry {
    /// An update and its number.
    Update(u64, Box<TwinUpdate>),
    /// Belongs to the update before it, which is too large for one place.
    Padding,
}

impl UpdateFeed {
    pub(super) fn new() -> Self {
        Self {
            sender: broadcast::channel(UPDATE_QUEUE).0,
            count: AtomicU64::new(0),
        }
    }

    /// The updates from now on.
    pub(super) fn subscribe(&self) -> TwinUpdates {
        TwinUpdates {
            wakeup: Wakeup::default(),
            receiver: self.sender.subscribe(),
            next: self.count.load(Ordering::Relaxed),
            missed: 0,
        }
    }

    /// Gives an update, which the hub sent in so many bytes, to whoever listens.
    pub(super) fn give(&self, update: TwinUpdate, bytes: usize) {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        // An error means that nobody listens.
        if self
            .sender
            .send(FeedEntry::Update(number, Box::new(update)))
            .is_ok()
        {
            for _ in 0..(bytes / UPDATE_BYTES).min(UPDATE_QUEUE - 1) {
                let _ = self.sender.send(FeedEntry::Padding);
            }
        }
    }
}

impl TwinUpdates {
    /// The next change; `None` once the client is gone. It may be cancelled without losing a change.
    pub async fn recv(&mut self) -> Option<TwinUpdate> {
        loop {
            match self.receiver.recv().await {
                Ok(FeedEntry::Update(number, update)) => return Some(self.taken(number, *update)),
                // The next update's number tells how many were missed.
                Ok(FeedEntry::Padding) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    fn poll_waiting(&mut self) -> Poll<Option<TwinUpdate>> {
        loop {
            match self.receiver.try_recv() {
                Ok(FeedEntry::Update(number, update)) => {
                    return Poll::Ready(Some(self.taken(number, *update)));
                }
                Ok(FeedEntry::Padding) | Err(broadcast::error::TryRecvError::Lagged(_)) => {}
                Err(broadcast::error::TryRecvError::Empty) => return Poll::Pending,
                Err(broadcast::error::TryRecvError::Closed) => return Poll::Ready(None),
            }
        }
    }

    fn taken(&mut self, number: u64, update: TwinUpdate) -> TwinUpdate {
        self.missed += number.saturating_sub(self.next);
        self.next = number + 1;
        update
    }

    /// Changes that were lost because this receiver lagged behind.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

impl Stream for TwinUpdates {
    type Item = TwinUpdate;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<TwinUpdate>> {
        let mut wakeup = std::mem::take(&mut self.wakeup);
        let arrival = |updates: &Self| broadcast_arrival(&updates.receiver);
        let polled = wakeup.poll(&mut *self, Self::poll_waiting, arrival, context);
        self.wakeup = wakeup;
        polled
    }
}
