//! One data channel of a peer connection: messages to send come in, [`ChannelEvent`]s go out. It lives as long as its
//! connection, whereas the `DataChannel` of `data_channel.rs` outlives that. The handles of that send through it, and the
//! reader task of `data_task.rs` takes its events.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rtc::shared::error::Error;
use webrtc::data_channel::{DataChannel as StackChannel, DataChannelEvent, RTCDataChannelState};

/// While a sender waits for room, the stack is asked this often how many bytes are unacknowledged.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A data channel of one connection.
#[derive(Clone)]
pub struct PeerChannel {
    stack: Arc<dyn StackChannel>,
}

/// What happens on a channel, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelEvent {
    /// Messages can be sent.
    Open,
    /// A message came.
    Message {
        /// True if it was sent as text (RFC 8831 §6.6).
        is_text: bool,
        /// The bytes of the message.
        data: Bytes,
    },
    /// The other side has closed it, or the connection has ended.
    Closed,
}

/// Why the stack did not accept a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The bytes that the other side has not acknowledged have reached the limit.
    Full,
    /// The message is larger than the other side accepts.
    TooLarge,
    /// The channel is closed, or not open yet.
    Closed,
}

impl PeerChannel {
    pub(super) fn new(stack: Arc<dyn StackChannel>) -> Self {
        Self { stack }
    }

    /// The label with which the channel was opened; none once the connection is gone.
    pub async fn label(&self) -> Option<String> {
        self.stack.label().await.ok()
    }

    /// Waits for the next event; [`ChannelEvent::Closed`] comes again and again after the last.
    ///
    /// While nobody calls it, the window of SCTP holds the other side's messages up.
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

    /// Hands a message of text to the stack, at once or not at all.
    pub(crate) async fn try_send_text(&self, text: &str) -> Result<(), Refused> {
        self.stack.try_send_text(text).await.map_err(refused)
    }

    /// Hands a message of bytes to the stack, at once or not at all.
    pub(crate) async fn try_send(&self, data: &[u8]) -> Result<(), Refused> {
        let sent = self.stack.try_send(BytesMut::from(data)).await;
        sent.map_err(refused)
    }

    /// Waits until no more than this many bytes are unacknowledged.
    ///
    /// The stack is polled, since neither of its own ways does: its event comes in line with the messages, so it does not reach
    /// an app that sends without reading, and its `writable` already returns when the next message does not fit yet.
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

    /// True when no message goes through any more.
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
