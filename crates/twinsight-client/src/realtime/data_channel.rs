//! `DataChannel`, the handle of a data channel: an app's messages come in, and go to the channel's connection if there is one;
//! the peer's messages go out to the app's handlers. The app's own tasks call it. Connections come and go while it stays, and
//! a message that is sent while there is none is dropped and counted.

use std::fmt;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use super::data_options::{ChannelError, DataChannelOptions};
use super::data_shared::ChannelShared;
pub use super::data_shared::{ChannelState, CloseReason, SendError};
use super::dial::Dialled;
use super::message::{Message, Wire};
use crate::hub::handlers::{HandlerId, Items};

/// The size of the pieces in which [`DataChannel::send_in_pieces`] sends; every official client accepts messages of this size.
pub const PIECE_BYTES: usize = 16 * 1024;

/// How far [`DataChannel::send_in_pieces`] has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How many bytes were handed over so far.
    pub sent_bytes: usize,
    /// How many bytes there are in all.
    pub total_bytes: usize,
}

/// Messages to and from one peer.
///
/// Handles are cheap to clone. The last one to be dropped closes the channel, as [`DataChannel::close`]
/// does; a handler that holds one keeps it open until then.
///
/// ```no_run
/// # use serde_json::json;
/// # use twinsight_client::hub::{HubClient, HubOptions};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = HubClient::connect(HubOptions::from_env()?).await?;
/// let channel = client.instance().get_data_channel("robot-1", "control").await?;
/// channel.on_message(|message| async move { println!("{message:?}") });
/// channel.send(json!({ "move": "left" })).await?;
/// channel.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct DataChannel {
    pub(super) shared: Arc<ChannelShared>,
    /// Stops the channel's task when the last handle is dropped.
    handles: Arc<DropGuard>,
}

/// A channel for its own task, which must not keep it open.
pub(super) struct WeakDataChannel {
    shared: Arc<ChannelShared>,
    handles: Weak<DropGuard>,
}

impl Dialled for DataChannel {
    async fn connected(&self) -> bool {
        self.opened().await.is_ok()
    }

    fn last_error(&self) -> &'static str {
        self.shared.last_error()
    }
}

impl DataChannel {
    /// A channel without a task. Dropping the last handle cancels `stop`, as [`close`](Self::close) does.
    pub(super) fn new(
        twin_id: Arc<str>,
        options: &DataChannelOptions,
        stop: CancellationToken,
    ) -> Self {
        Self {
            shared: Arc::new(ChannelShared::new(twin_id, options, stop.clone())),
            handles: Arc::new(stop.drop_guard()),
        }
    }

    pub(super) fn downgrade(&self) -> WeakDataChannel {
        WeakDataChannel {
            shared: Arc::clone(&self.shared),
            handles: Arc::downgrade(&self.handles),
        }
    }

    /// Sends text, a JSON value or bytes. Returns when the stack has taken it; it never waits for the
    /// other side.
    ///
    /// ```no_run
    /// # async fn example(channel: twinsight_client::realtime::DataChannel) -> Result<(), Box<dyn std::error::Error>> {
    /// use twinsight_client::realtime::SendError;
    /// match channel.send("hello").await {
    ///     // It is old by the time that there is room: the next one will do.
    ///     Err(SendError::Full { .. } | SendError::NotOpen) => {}
    ///     other => other?,
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`SendError`]: each leaves the channel as it is.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.send_wire(&message.into().into_wire()).await
    }

    /// Waits until half of the bytes that may be unacknowledged are free again and a message of any size fits. Without a
    /// connection it waits for the next one.
    ///
    /// ```no_run
    /// # async fn example(channel: twinsight_client::realtime::DataChannel) -> Result<(), Box<dyn std::error::Error>> {
    /// use twinsight_client::realtime::SendError;
    /// while let Err(SendError::Full { .. }) = channel.send("every one counts").await {
    ///     channel.writable().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SendError::Closed`].
    pub async fn writable(&self) -> Result<(), SendError> {
        let mut state = self.shared.state.subscribe();
        loop {
            self.opened().await?;
            if let Some(open) = self.shared.open()
                && self.shared.drained(&open).await.is_ok()
            {
                return Ok(());
            }
            // The connection has just ended, and the state is about to say so.
            state.changed().await.map_err(|_| SendError::Closed)?;
        }
    }

    /// Sends bytes as binary messages of [`PIECE_BYTES`], waiting for the other side where need be. The other
    /// side gets the pieces in order, and the two apps have to agree on how it knows where the whole ends. `progress` is called
    /// after each piece.
    ///
    /// ```no_run
    /// # async fn example(channel: twinsight_client::realtime::DataChannel) -> Result<(), Box<dyn std::error::Error>> {
    /// let picture = std::fs::read("picture.jpg")?;
    /// channel.send(serde_json::json!({ "file": "picture.jpg", "bytes": picture.len() })).await?;
    /// channel.send_in_pieces(picture, |progress| {
    ///     println!("{} of {} bytes", progress.sent_bytes, progress.total_bytes);
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SendError::NotOpen`] if the connection ends meanwhile: the rest is not sent, and the app decides
    /// whether it begins anew.
    pub async fn send_in_pieces(
        &self,
        data: impl Into<Bytes>,
        mut progress: impl FnMut(Progress),
    ) -> Result<(), SendError> {
        let data = data.into();
        let open = self.shared.open().ok_or_else(|| self.not_open())?;
        let piece_bytes = PIECE_BYTES.min(open.max_message_bytes).max(1);
        let mut sent_bytes = 0;
        while sent_bytes < data.len() {
            let end = data.len().min(sent_bytes + piece_bytes);
            let piece = Wire::Binary(data.slice(sent_bytes..end));
            loop {
                // All pieces go over one connection, since the peer has lost the earlier ones when the next comes up.
                match self.shared.send(&open, &piece).await {
                    Err(SendError::Full { .. }) => {
                        self.shared.drained(&open).await?;
                    }
                    other => break other?,
                }
            }
            sent_bytes = end;
            progress(Progress {
                sent_bytes,
                total_bytes: data.len(),
            });
        }
        Ok(())
    }

    /// Calls a handler for every message, one after the other on a task of its own. It stays until
    /// [`off_message`](Self::off_message) or the end of the channel, also across connections.
    ///
    /// Messages wait for the first handler or stream. Later, a handler that is slow slows the other side
    /// down; one that takes nothing for a second loses messages: see
    /// [`lost_messages`](Self::lost_messages).
    ///
    /// ```no_run
    /// # use twinsight_client::realtime::{DataChannel, Message};
    /// # fn example(channel: DataChannel) {
    /// channel.on_message(|message| async move {
    ///     match message {
    ///         Message::Json(value) => println!("JSON: {value}"),
    ///         Message::Text(text) => println!("text: {text}"),
    ///         Message::Binary(data) => println!("{} bytes", data.len()),
    ///     }
    /// });
    /// # }
    /// ```
    pub fn on_message<F, R>(&self, handler: F) -> HandlerId
    where
        F: FnMut(Message) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.shared
            .messages
            .add("a data channel's message", handler)
    }

    /// Takes a handler of messages off; false if it is not registered.
    ///
    /// ```no_run
    /// # async fn example(channel: twinsight_client::realtime::DataChannel) -> Result<(), Box<dyn std::error::Error>> {
    /// let handler = channel.on_message(|message| async move { println!("{message:?}") });
    /// assert!(channel.off_message(handler));
    /// # Ok(())
    /// # }
    /// ```
    pub fn off_message(&self, handler: HandlerId) -> bool {
        self.shared.messages.remove(handler)
    }

    /// The messages from now on, as a stream that ends with the channel.
    ///
    /// ```no_run
    /// # async fn example(channel: twinsight_client::realtime::DataChannel) {
    /// let mut messages = channel.messages();
    /// while let Some(message) = messages.recv().await {
    ///     println!("{message:?}");
    /// }
    /// # }
    /// ```
    pub fn messages(&self) -> Items<Message> {
        self.shared.messages.stream()
    }

    /// Calls a handler each time that the open channel closes, for whatever reason.
    ///
    /// ```no_run
    /// # async fn example(channel: twinsight_client::realtime::DataChannel) -> Result<(), Box<dyn std::error::Error>> {
    /// let handler = channel.on_close(|reason| async move { println!("closed: {reason:?}") });
    /// channel.off_close(handler);
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_close<F, R>(&self, handler: F) -> HandlerId
    where
        F: FnMut(CloseReason) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.shared.closes.add("a data channel's end", handler)
    }

    /// Takes a handler off; false if it is not registered.
    ///
    /// ```no_run
    /// # async fn example(channel: twinsight_client::realtime::DataChannel) -> Result<(), Box<dyn std::error::Error>> {
    /// let handler = channel.on_close(|reason| async move { println!("{reason:?}") });
    /// assert!(channel.off_close(handler));
    /// # Ok(())
    /// # }
    /// ```
    pub fn off_close(&self, handler: HandlerId) -> bool {
        self.shared.closes.remove(handler)
    }

    /// Closes the channel for good, after what was sent has arrived or a second has passed. Handlers are
    /// taken off.
    ///
    /// ```no_run
    /// # async fn example(channel: twinsight_client::realtime::DataChannel) -> Result<(), Box<dyn std::error::Error>> {
    /// channel.send("the last words").await?;
    /// channel.close().await;
    /// assert!(!channel.is_open() && !channel.is_connecting());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn close(&self) {
        self.shared.stop.cancel();
        let mut state = self.shared.state.subscribe();
        // An error would mean that the state is gone, and this handle holds it.
        let _ = state.wait_for(|state| *state == ChannelState::Closed).await;
    }

    /// True while messages flow.
    ///
    /// ```no_run
    /// # async fn example(channel: twinsight_client::realtime::DataChannel) -> Result<(), Box<dyn std::error::Error>> {
    /// if channel.is_open() {
    ///     channel.send("now").await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_open(&self) -> bool {
        self.state() == ChannelState::Open
    }

    /// True while a connection is made or waited for.
    pub fn is_connecting(&self) -> bool {
        self.state() == ChannelState::Connecting
    }

    /// Where the channel stands.
    ///
    /// ```no_run
    /// # async fn example(channel: twinsight_client::realtime::DataChannel) -> Result<(), Box<dyn std::error::Error>> {
    /// println!("{:?}", channel.state());
    /// # Ok(())
    /// # }
    /// ```
    pub fn state(&self) -> ChannelState {
        *self.shared.state.borrow()
    }

    /// Waits until the channel is open.
    ///
    /// ```no_run
    /// # async fn example(client: twinsight_client::hub::HubClient) -> Result<(), Box<dyn std::error::Error>> {
    /// let channel = client.instance().open_data_channel("robot-1", "control")?;
    /// channel.opened().await?;
    /// println!("{} on {}", channel.channel_name(), channel.target_twin_id());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SendError::Closed`] if it is closed for good.
    pub async fn opened(&self) -> Result<(), SendError> {
        let mut state = self.shared.state.subscribe();
        let settled = state
            .wait_for(|state| *state != ChannelState::Connecting)
            .await;
        match settled.as_deref() {
            Ok(ChannelState::Open) => Ok(()),
            _ => Err(SendError::Closed),
        }
    }

    /// The twin at the other end.
    pub fn target_twin_id(&self) -> &str {
        self.shared.twin_id()
    }

    /// The channel's name.
    pub fn channel_name(&self) -> &str {
        self.shared.name()
    }

    /// The id under which the initiator keeps the channel, where it is known.
    pub fn peer_id(&self) -> Option<String> {
        self.shared.peer_id()
    }

    /// Messages that were dropped because they were sent without a connection.
    ///
    /// ```no_run
    /// # async fn example(channel: twinsight_client::realtime::DataChannel) -> Result<(), Box<dyn std::error::Error>> {
    /// println!("{} dropped, {} lost", channel.dropped_messages(), channel.lost_messages());
    /// # Ok(())
    /// # }
    /// ```
    pub fn dropped_messages(&self) -> u64 {
        self.shared.dropped()
    }

    /// Messages that handlers and streams lost because they did not keep up.
    pub fn lost_messages(&self) -> u64 {
        self.shared.messages.lost()
    }

    /// Bytes that were sent and are not acknowledged.
    ///
    /// ```no_run
    /// # async fn example(channel: twinsight_client::realtime::DataChannel) -> Result<(), Box<dyn std::error::Error>> {
    /// println!("{} bytes are on their way", channel.buffered_bytes().await);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn buffered_bytes(&self) -> usize {
        match self.shared.open() {
            Some(open) => open.channel.outstanding_bytes().await,
            None => 0,
        }
    }

    async fn send_wire(&self, wire: &Wire) -> Result<(), SendError> {
        match self.shared.open() {
            Some(open) => self.shared.send(&open, wire).await,
            None => Err(self.not_open()),
        }
    }

    fn not_open(&self) -> SendError {
        self.shared.not_open()
    }
}

impl WeakDataChannel {
    pub(super) fn upgrade(&self) -> Option<DataChannel> {
        Some(DataChannel {
            shared: Arc::clone(&self.shared),
            handles: self.handles.upgrade()?,
        })
    }
}

impl fmt::Debug for DataChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataChannel")
            .field("twin_id", &self.shared.twin_id())
            .field("name", &self.shared.name())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
