//! Twin messages on their way to whoever asked for them: the client's task puts them into the queue of each filter that
//! lets them through, and the receiver takes them out.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use tokio::sync::mpsc;

use super::message::TwinMessage;

/// Bytes of messages that may wait for one receiver, as the hub sent them. Read into memory they may be some
/// thirty times as large.
const RECEIVER_BYTES: usize = 2 << 20;

/// Whether a receiver wants a message. It runs on the client's task.
pub(super) type Filter = Box<dyn Fn(&TwinMessage) -> bool + Send + Sync>;

/// Twin messages that a filter lets through, in order: [`HubClient::messages`](super::HubClient::messages).
///
/// A bounded number of them waits to be read, and 2 MiB of their JSON at most. What comes when there is no place is
/// counted by [`MessageReceiver::missed`]; the messages that wait stay.
#[derive(Debug)]
pub struct MessageReceiver {
    receiver: mpsc::Receiver<Received>,
    waiting_bytes: Arc<AtomicUsize>,
    missed: Arc<AtomicU64>,
}

/// A message and its length as the hub sent it.
type Received = (TwinMessage, usize);

/// The client task's end of a receiver.
pub(super) struct Listener {
    wants: Filter,
    sender: mpsc::Sender<Received>,
    waiting_bytes: Arc<AtomicUsize>,
    missed: Arc<AtomicU64>,
}

/// A listener of which `capacity` messages wait at most, and its receiver.
pub(super) fn message_channel(capacity: usize, wants: Filter) -> (Listener, MessageReceiver) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    let missed = Arc::new(AtomicU64::new(0));
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    let listener = Listener {
        wants,
        sender,
        waiting_bytes: Arc::clone(&waiting_bytes),
        missed: Arc::clone(&missed),
    };
    let receiver = MessageReceiver {
        receiver,
        waiting_bytes,
        missed,
    };
    (listener, receiver)
}

impl MessageReceiver {
    /// The next message; `None` once the client is gone. It may be cancelled without losing a message.
    pub async fn recv(&mut self) -> Option<TwinMessage> {
        let received = self.receiver.recv().await?;
        Some(self.taken(received))
    }

    /// The next message if one waits.
    pub fn try_recv(&mut self) -> Option<TwinMessage> {
        let received = self.receiver.try_recv().ok()?;
        Some(self.taken(received))
    }

    fn taken(&self, (message, bytes): Received) -> TwinMessage {
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        message
    }

    /// Messages that were lost because they found all places taken.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl Stream for MessageReceiver {
    type Item = TwinMessage;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<TwinMessage>> {
        let received = ready!(self.receiver.poll_recv(context));
        Poll::Ready(received.map(|received| self.taken(received)))
    }
}

impl Listener {
    /// True once nobody holds the receiver any more.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(super) fn wants(&self, message: &TwinMessage) -> bool {
        (self.wants)(message)
    }

    /// Puts a message into the queue; false, and counted as missed, if there is no place for it.
    pub(super) fn give(&self, message: &TwinMessage, bytes: usize) -> bool {
        let has_place = self.enqueue(message, bytes);
        if !has_place {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
        has_place
    }

    /// False if there is no place for the message. Whoever went away needs none.
    fn enqueue(&self, message: &TwinMessage, bytes: usize) -> bool {
        let waiting = self.waiting_bytes.load(Ordering::Relaxed);
        // One has a place at any length.
        if waiting > 0 && waiting.saturating_add(bytes) > RECEIVER_BYTES {
            return false;
        }
        // Counted first: whoever takes it may be quicker than this thread.
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let Err(error) = self.sender.try_send((message.clone(), bytes)) else {
            return true;
        };
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        matches!(error, mpsc::error::TrySendError::Closed(_))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("missed", &self.missed)
            .finish_non_exhaustive()
    }
}
