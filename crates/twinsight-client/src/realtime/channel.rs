//! One data channel of a peer connection: what is sent goes in, what came comes out. It lives as long as its
//! connection; what outlives that is the `DataChannel` of `data_channel.rs`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rtc::shared::error::Error;
use webrtc::data_channel::{DataChannel as StackChannel, DataChannelEvent, RTCDataChannelState};

/// While a sender waits, the stack is asked this often how much is unacknowledged.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A data channel of the stack's.
#[derive(Clone)]
pub struct PeerChannel {
    stack: Arc<dyn StackChannel>,
}

/// What a channel tells, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelEvent {
    /// Messages can be sent.
    Open,
    /// A message came.
    Message {
        /// Sent as text (RFC 8831 §6.6).
        is_text: bool,
        /// Its bytes.
        data: Bytes,
    },
    /// The other side has closed it, or the connection has ended.
    Closed,
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// What the other side has not acknowledged has reached the limit.
    Full,
    /// It is larger than the other side takes.
    TooLarge,
    /// The channel is closed, or not open yet.
    Closed,
}

impl PeerChannel {
    pub(super) fn new(stack: Arc<dyn StackChannel>) -> Self {
        Self { stack }
    }

    /// The name that the two stacks agreed on.
    pub async fn label(&self) -> Option<String> {
        self.stack.label().await.ok()
    }

    /// The next event; [`ChannelEvent::Closed`] for ever after the last.
    ///
    /// While nobody asks, the other side's sends are held up by the window of SCTP.
    pub async fn next(&self) -> ChannelEvent {
        loop {
            match self.stack.poll().await {
                Some(DataChannelEvent::OnOpen) => return ChannelEvent::Open,
                Some(DataChannelEvent::OnMessage(message)) => {
                    return ChannelEvent::Message {
                        is_text: message.is_string,
                        data: message.data.freeze(),
                    };
                }
                Some(DataChannelEvent::OnClose) | None => return ChannelEvent::Closed,
                Some(_) => {}
            }
        }
    }

    /// Hands a message to the stack, at once or not at all.
    pub(crate) async fn try_send_text(&self, text: &str) -> Result<(), Refused> {
        self.stack.try_send_text(text).await.map_err(refused)
    }

    /// As [`try_send_text`](Self::try_send_text), for bytes.
    pub(crate) async fn try_send(&self, data: &[u8]) -> Result<(), Refused> {
        let sent = self.stack.try_send(BytesMut::from(data)).await;
        sent.map_err(refused)
    }

    /// Waits until no more than so many bytes are unacknowledged.
    ///
    /// The stack tells it by an event that comes in line with the messages, and so not to one who does not
    /// read while he waits; its own waiting ends where a message does not yet fit.
    pub(crate) async fn drained_to(&self, low_water_bytes: usize) -> Result<(), Refused> {
        loop {
            self.stack.writable().await.map_err(refused)?;
            let outstanding = self.stack.outstanding_bytes().await.map_err(refused)?;
            if outstanding <= low_water_bytes {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// True when nothing goes through any more.
    pub(crate) async fn is_closed(&self) -> bool {
        use RTCDataChannelState::{Connecting, Open};
        !matches!(self.stack.ready_state().await, Ok(Connecting | Open))
    }

    /// Bytes that were sent and not yet acknowledged.
    pub(crate) async fn outstanding_bytes(&self) -> usize {
        self.stack.outstanding_bytes().await.unwrap_or(0)
    }
}

impl fmt::Debug for PeerChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerChannel")
            .field("id", &self.stack.id())
            .finish_non_exhaustive()
    }
}

fn refused(error: Error) -> Refused {
    match error {
        Error::ErrSendBufferFull => Refused::Full,
        Error::ErrOutboundPacketTooLarge => Refused::TooLarge,
        _ => Refused::Closed,
    }
}
