//! The state that the handles of a data channel share with its task. The task stores the connection that messages go through
//! while there is one; handles send over it, and register the handlers that the task calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::attempt::EndReason;
use super::channel::{PeerChannel, Refused};
use super::data_options::DataChannelOptions;
use super::message::{Message, Wire};
use crate::hub::handlers::Handlers;

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no connection right now. The message is dropped and counted; the channel goes on trying.
    #[error("the data channel is not open: the message was dropped")]
    NotOpen,
    /// The other side does not keep up. Wait with [`DataChannel::writable`](super::DataChannel::writable), or drop the message.
    #[error(
        "{buffered_bytes} bytes are not acknowledged, and {limit_bytes} may be: wait until the channel is writable"
    )]
    Full {
        /// Bytes that were sent and not acknowledged.
        buffered_bytes: usize,
        /// The high-water mark.
        limit_bytes: usize,
    },
    /// The other side does not take messages of this size. The channel goes on.
    #[error(
        "a message of {bytes} bytes is larger than the {limit_bytes} that the other side takes: send it in pieces"
    )]
    TooLarge {
        /// The size of the message.
        bytes: usize,
        /// The largest size that the other side accepts.
        limit_bytes: usize,
    },
    /// The channel was closed for good: here, or because the peer that an acceptor had taken is gone.
    #[error("the data channel was closed")]
    Closed,
}

/// The state of a data channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelState {
    /// There is no connection; one is made or waited for.
    Connecting,
    /// Messages flow.
    Open,
    /// It was closed for good.
    Closed,
}

/// Why an open channel or stream has closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The other side closed it.
    ByPeer,
    /// The network path broke, or the other side vanished.
    Lost,
    /// The other side began anew.
    Replaced,
    /// It was closed here, or an acceptor gave its place to a new connection of the same peer.
    Here,
}

impl From<EndReason> for CloseReason {
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::Closed => Self::ByPeer,
            EndReason::Replaced => Self::Replaced,
            EndReason::Changed => Self::Here,
            _ => Self::Lost,
        }
    }
}

/// The state that handles share with the task.
pub(super) struct ChannelShared {
    twin_id: Arc<str>,
    name: Arc<str>,
    /// Ends the task.
    pub(super) stop: CancellationToken,
    peer_id: Mutex<Option<String>>,
    /// Why the last attempt failed.
    last_error: Mutex<&'static str>,
    high_water_bytes: usize,
    pub(super) state: watch::Sender<ChannelState>,
    open: Mutex<Option<Arc<OpenChannel>>>,
    pub(super) messages: Handlers<Message>,
    pub(super) closes: Handlers<CloseReason>,
    /// How many messages were sent while there was no connection.
    dropped: AtomicU64,
    /// Notified when a sender finds the channel closed, since its task may not know that yet.
    pub(super) broken: Notify,
}

/// The connection that messages go through.
pub(super) struct OpenChannel {
    pub(super) channel: PeerChannel,
    pub(super) max_message_bytes: usize,
}

impl ChannelShared {
    pub(super) fn new(
        twin_id: Arc<str>,
        options: &DataChannelOptions,
        stop: CancellationToken,
    ) -> Self {
        Self {
            twin_id,
            name: options.name.as_str().into(),
            stop,
            peer_id: Mutex::new(None),
            last_error: Mutex::new("nothing was tried yet"),
            high_water_bytes: options.high_water_bytes,
            state: watch::Sender::new(ChannelState::Connecting),
            open: Mutex::new(None),
            messages: Handlers::new(),
            closes: Handlers::new(),
            dropped: AtomicU64::new(0),
            broken: Notify::new(),
        }
    }

    /// Has messages go through this connection from now on.
    pub(super) fn opened(&self, channel: PeerChannel, max_message_bytes: usize) {
        *self.open.lock() = Some(Arc::new(OpenChannel {
            channel,
            max_message_bytes,
        }));
        self.state.send_replace(ChannelState::Open);
    }

    /// Ends the connection that messages went through; false if there was none.
    pub(super) fn lost(&self, state: ChannelState) -> bool {
        let was_open = self.open.lock().take().is_some();
        self.state.send_replace(state);
        was_open
    }

    pub(super) fn twin_id(&self) -> &str {
        &self.twin_id
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn peer_id(&self) -> Option<String> {
        self.peer_id.lock().clone()
    }

    pub(super) fn last_error(&self) -> &'static str {
        *self.last_error.lock()
    }

    pub(super) fn set_last_error(&self, reason: EndReason) {
        *self.last_error.lock() = reason.as_str();
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn set_peer_id(&self, peer_id: Option<&str>) {
        *self.peer_id.lock() = peer_id.map(str::to_owned);
    }

    /// Waits until everything that was sent is acknowledged, or the connection is gone.
    pub(super) async fn flushed(&self) {
        if let Some(open) = self.open() {
            let _ = open.channel.drained_to(0).await;
        }
    }

    pub(super) fn open(&self) -> Option<Arc<OpenChannel>> {
        self.open.lock().clone()
    }

    pub(super) async fn send(&self, open: &OpenChannel, wire: &Wire) -> Result<(), SendError> {
        let too_large = SendError::TooLarge {
            bytes: wire.len(),
            limit_bytes: open.max_message_bytes,
        };
        if wire.len() > open.max_message_bytes {
            return Err(too_large);
        }
        let sent = match wire {
            Wire::Text(text) => open.channel.try_send_text(text).await,
            Wire::Binary(data) => open.channel.try_send(data).await,
        };
        match sent {
            Ok(()) => Ok(()),
            Err(Refused::Full) => Err(SendError::Full {
                buffered_bytes: open.channel.outstanding_bytes().await,
                limit_bytes: self.high_water_bytes,
            }),
            Err(Refused::TooLarge) => Err(too_large),
            Err(Refused::Closed) => {
                self.broken.notify_one();
                Err(self.not_open())
            }
        }
    }

    /// Waits until half of the bytes that may be unacknowledged are free, and a message of any size fits.
    pub(super) async fn drained(&self, open: &OpenChannel) -> Result<(), SendError> {
        // The largest message that the other side accepts fits then, so a sender that tries again is not refused again.
        let room_for_any = self.high_water_bytes.saturating_sub(open.max_message_bytes);
        let low_water_bytes = room_for_any.min(self.high_water_bytes / 2);
        let drained = open.channel.drained_to(low_water_bytes).await;
        drained.map_err(|_| {
            self.broken.notify_one();
            SendError::NotOpen
        })
    }

    pub(super) fn not_open(&self) -> SendError {
        if *self.state.borrow() == ChannelState::Closed {
            return SendError::Closed;
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
        SendError::NotOpen
    }
}
