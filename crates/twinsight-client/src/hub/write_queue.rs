//! Frames on their way to the socket: those of the session and of handles in a queue, and the pong, which overtakes them.

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot};

use super::error::HubError;

/// Frames that may wait for the socket. Handles' frames wait with their callers once a quarter of the places is
/// taken. Once half of them are, nothing more is read: a hub that asks for acknowledgements has to take them.
/// The other half is for what one frame or a tick can cause, which is two subscriptions for each of the
/// calls that may be pending.
pub(super) const WRITE_QUEUE: usize = 8192;

/// A frame on its way to the socket and who waits for it.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) text: String,
    pub(super) done: Option<oneshot::Sender<Result<(), HubError>>>,
    /// Gives its bytes back when the frame is written or dropped.
    pub(super) _reserved: Option<OwnedSemaphorePermit>,
}

/// The pong that waits for the socket. Only the latest counts, so that a hub that pings without end fills nothing.
#[derive(Debug, Default)]
pub(super) struct PongSlot {
    text: Mutex<Option<String>>,
    put: Notify,
}

impl PongSlot {
    /// Replaces the pong; true if it took the place of one that was not written yet.
    pub(super) fn put(&self, text: String) -> bool {
        let replaced = self.text.lock().replace(text).is_some();
        self.put.notify_one();
        replaced
    }

    pub(super) async fn next(&self) -> String {
        loop {
            if let Some(text) = self.text.lock().take() {
                return text;
            }
            self.put.notified().await;
        }
    }
}

/// Where the frames of the session go: the queue, or the place of the pong.
#[derive(Debug, Clone, Copy)]
pub(super) struct WriteQueue<'a> {
    pub(super) queue: &'a mpsc::Sender<Outgoing>,
    pub(super) pong: &'a PongSlot,
}

impl WriteQueue<'_> {
    pub(super) fn taken(self) -> usize {
        WRITE_QUEUE - self.queue.capacity()
    }

    /// Puts a frame of the session's into the queue; false if it is full.
    pub(super) fn enqueue(self, text: String) -> bool {
        let outgoing = Outgoing {
            text,
            done: None,
            _reserved: None,
        };
        self.queue.try_send(outgoing).is_ok()
    }
}

/// Puts a frame of a handle into the queue; gives it back if there is no place, or no socket.
pub(super) fn refused(writes: Option<WriteQueue<'_>>, outgoing: Outgoing) -> Option<Outgoing> {
    match writes {
        Some(writes) => writes
            .queue
            .try_send(outgoing)
            .err()
            .map(|error| error.into_inner()),
        None => Some(outgoing),
    }
}
