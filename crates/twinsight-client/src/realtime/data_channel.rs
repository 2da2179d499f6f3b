//! `DataChannel`: messages to and from one peer, for as long as a handle lives. Connections come and go
//! beneath it: handlers stay, and what is sent while there is none is dropped and counted.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};

use super::channel::{PeerChannel, Refused};
use super::ice::IceSettings;
use super::message::{Message, Wire};
use crate::dialect::Dialect;
use crate::hub::HubError;
use crate::hub::handlers::{HandlerId, Handlers, Items};

/// The pieces in which [`DataChannel::send_in_pieces`] sends: what every client takes.
pub const PIECE_BYTES: usize = 16 * 1024;

/// How a data channel is called and connected.
///
/// A name alone is enough, `"control"`, and `None` is the name `default`, as in the official clients.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DataChannelOptions {
    /// Its name, the same on both sides. Several channels to one peer differ by it.
    pub name: String,
    /// The other side's client.
    pub dialect: Dialect,
    /// As responder: take offers too that are signed with the own twin, as those of web clients and of npm
    /// clients before 6.15 are. They say nothing about who sends them.
    pub allow_unsigned: bool,
    /// How connections find their way; `None`: all ways, or only relays if the operator named one
    /// (`PHYSTACK_TURN_URL`).
    pub ice: Option<IceSettings>,
    /// How long the first connection may take for those that wait for it.
    pub connect_limit: Duration,
    /// [`DataChannel::send`] takes nothing while so many bytes are not acknowledged by the other side. A
    /// message larger than that is taken when nothing else is on its way.
    pub high_water_bytes: usize,
    /// Log the path of every connection: the pair of candidates.
    pub verbose: bool,
}

impl Default for DataChannelOptions {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            dialect: Dialect::Current,
            allow_unsigned: false,
            ice: None,
            connect_limit: Duration::from_secs(15),
            high_water_bytes: 1 << 20,
            verbose: false,
        }
    }
}

impl From<&str> for DataChannelOptions {
    fn from(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }
}

impl From<String> for DataChannelOptions {
    fn from(name: String) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }
}

/// Why there is no data channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The other side cannot be dialled or awaited.
    #[error("no data channel with `{twin_id}` can be made: {why}")]
    Target {
        /// The twin that was given, shortened.
        twin_id: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The hub is in the way.
    #[error("no data channel with `{twin_id}` can be made: {source}")]
    Hub {
        /// The twin at the other end.
        twin_id: String,
        /// What the hub said.
        source: HubError,
    },
    /// Only relays may be used, and there is none that can be. Told by `get_data_channel`; the others warn,
    /// and go on trying.
    #[error(
        "no data channel with `{twin_id}` can be made: only relays are allowed, and no server offers TURN over UDP{}: set PHYSTACK_TURN_URL to `turn:HOST:3478`",
        refused_servers(refused)
    )]
    NoRelay {
        /// The twin at the other end.
        twin_id: String,
        /// Servers that the stack cannot use: TURN over TCP or TLS.
        refused: Vec<String>,
    },
    /// It was not open in time. Nothing is tried any more.
    #[error(
        "the data channel `{name}` to `{twin_id}` was not open within {limit:?} ({reason}): see that the twin's app runs and accepts this channel by this name"
    )]
    NotOpened {
        /// The twin at the other end.
        twin_id: String,
        /// The channel's name.
        name: String,
        /// How long it was waited for.
        limit: Duration,
        /// Why the last attempt failed.
        reason: &'static str,
    },
}

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no connection right now. The message is dropped and counted; the channel goes on trying.
    #[error("the data channel is not open: the message was dropped")]
    NotOpen,
    /// The other side does not keep up. Wait with [`DataChannel::writable`], or drop the message.
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
        /// Its size.
        bytes: usize,
        /// What the other side takes.
        limit_bytes: usize,
    },
    /// The channel was closed for good: here, or because the peer that an acceptor had taken is gone.
    #[error("the data channel was closed")]
    Closed,
}

/// Where a channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelState {
    /// There is no connection; one is made or waited for.
    Connecting,
    /// Messages flow.
    Open,
    /// It was closed for good.
    Closed,
}

/// Why a channel that was open is not any more.
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

/// How far [`DataChannel::send_in_pieces`] has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that were handed over.
    pub sent_bytes: usize,
    /// Bytes in all.
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
    pub(super) core: Arc<Core>,
    handles: Arc<Handles>,
}

/// What handles and the task have in common.
pub(super) struct Core {
    twin_id: Arc<str>,
    name: Arc<str>,
    peer_id: Mutex<Option<String>>,
    high_water_bytes: usize,
    pub(super) state: watch::Sender<ChannelState>,
    open: Mutex<Option<Arc<Open>>>,
    pub(super) messages: Handlers<Message>,
    pub(super) closes: Handlers<CloseReason>,
    /// Messages that were sent while there was no connection.
    dropped: AtomicU64,
    /// A sender found the channel closed, of which nobody may have told its task.
    pub(super) broken: Notify,
}

/// The connection that messages go through.
struct Open {
    channel: PeerChannel,
    max_message_bytes: usize,
}

/// Ends the channel with the last handle.
struct Handles {
    stop: Mutex<Option<oneshot::Sender<()>>>,
}

/// A channel that ends when its handles are gone.
pub(super) struct WeakDataChannel {
    core: Arc<Core>,
    handles: Weak<Handles>,
}

impl DataChannel {
    /// A channel without a task, and what tells the task to end.
    pub(super) fn new(
        twin_id: Arc<str>,
        options: &DataChannelOptions,
    ) -> (Self, oneshot::Receiver<()>) {
        let (stop, stopped) = oneshot::channel();
        let core = Arc::new(Core {
            twin_id,
            name: options.name.as_str().into(),
            peer_id: Mutex::new(None),
            high_water_bytes: options.high_water_bytes,
            state: watch::Sender::new(ChannelState::Connecting),
            open: Mutex::new(None),
            messages: Handlers::new(),
            closes: Handlers::new(),
            dropped: AtomicU64::new(0),
            broken: Notify::new(),
        });
        let handles = Arc::new(Handles {
            stop: Mutex::new(Some(stop)),
        });
        (Self { core, handles }, stopped)
    }

    pub(super) fn downgrade(&self) -> WeakDataChannel {
        WeakDataChannel {
            core: Arc::clone(&self.core),
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

    /// Waits until half of what may be unacknowledged is free again, and a message of any size fits; also for
    /// the next connection.
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
        let mut state = self.core.state.subscribe();
        loop {
            self.opened().await?;
            if let Some(open) = self.core.open()
                && self.core.drained(&open).await.is_ok()
            {
                return Ok(());
            }
            // The connection has just ended, and the state follows.
            state.changed().await.map_err(|_| SendError::Closed)?;
        }
    }

    /// Sends bytes as binary messages of [`PIECE_BYTES`], waiting for the other side where need be. It gets
    /// the pieces in order; what tells it where the whole ends is between the two apps. `progress` is
    /// called after each piece.
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
        let open = self.core.open().ok_or_else(|| self.not_open())?;
        let piece_bytes = PIECE_BYTES.min(open.max_message_bytes).max(1);
        let mut sent_bytes = 0;
        while sent_bytes < data.len() {
            let end = data.len().min(sent_bytes + piece_bytes);
            let piece = Wire::Binary(data.slice(sent_bytes..end));
            loop {
                // Another connection would not have what came before.
                match self.core.send(&open, &piece).await {
                    Err(SendError::Full { .. }) => {
                        self.core.drained(&open).await?;
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
        self.core.messages.add("a data channel's message", handler)
    }

    /// Takes a handler off; false if it is not registered.
    ///
    /// ```no_run
    /// # async fn example(channel: twinsight_client::realtime::DataChannel) -> Result<(), Box<dyn std::error::Error>> {
    /// let handler = channel.on_message(|message| async move { println!("{message:?}") });
    /// assert!(channel.off_message(handler));
    /// # Ok(())
    /// # }
    /// ```
    pub fn off_message(&self, handler: HandlerId) -> bool {
        self.core.messages.remove(handler)
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
        self.core.messages.stream()
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
        self.core.closes.add("a data channel's end", handler)
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
        self.core.closes.remove(handler)
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
        if let Some(stop) = self.handles.stop.lock().take() {
            // An error means that the task has ended, which is what was asked for.
            let _ = stop.send(());
        }
        let mut state = self.core.state.subscribe();
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
        *self.core.state.borrow()
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
        let mut state = self.core.state.subscribe();
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
        &self.core.twin_id
    }

    /// The channel's name.
    pub fn channel_name(&self) -> &str {
        &self.core.name
    }

    /// The id under which the initiator keeps the channel, where it is known.
    pub fn peer_id(&self) -> Option<String> {
        self.core.peer_id.lock().clone()
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
        self.core.dropped.load(Ordering::Relaxed)
    }

    /// Messages that handlers and streams lost because they did not keep up.
    pub fn lost_messages(&self) -> u64 {
        self.core.messages.lost()
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
        match self.core.open() {
            Some(open) => open.channel.outstanding_bytes().await,
            None => 0,
        }
    }

    async fn send_wire(&self, wire: &Wire) -> Result<(), SendError> {
        match self.core.open() {
            Some(open) => self.core.send(&open, wire).await,
            None => Err(self.not_open()),
        }
    }

    fn not_open(&self) -> SendError {
        self.core.not_open()
    }
}

impl Core {
    /// Messages go through this from now on.
    pub(super) fn opened(&self, channel: PeerChannel, max_message_bytes: usize) {
        *self.open.lock() = Some(Arc::new(Open {
            channel,
            max_message_bytes,
        }));
        self.state.send_replace(ChannelState::Open);
    }

    /// Nothing goes through any more; false if nothing did.
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

    pub(super) fn set_peer_id(&self, peer_id: Option<&str>) {
        *self.peer_id.lock() = peer_id.map(str::to_owned);
    }

    /// Waits until everything that was sent is acknowledged, or the connection is gone.
    pub(super) async fn flushed(&self) {
        if let Some(open) = self.open() {
            let _ = open.channel.drained_to(0).await;
        }
    }

    fn open(&self) -> Option<Arc<Open>> {
        self.open.lock().clone()
    }

    async fn send(&self, open: &Open, wire: &Wire) -> Result<(), SendError> {
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

    /// Waits until enough of what may be unacknowledged is free.
    async fn drained(&self, open: &Open) -> Result<(), SendError> {
        // Whatever the other side takes fits then: who tries again after it is not refused again.
        let room_for_any = self.high_water_bytes.saturating_sub(open.max_message_bytes);
        let low_water_bytes = room_for_any.min(self.high_water_bytes / 2);
        let drained = open.channel.drained_to(low_water_bytes).await;
        drained.map_err(|_| {
            self.broken.notify_one();
            SendError::NotOpen
        })
    }

    fn not_open(&self) -> SendError {
        if *self.state.borrow() == ChannelState::Closed {
            return SendError::Closed;
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
        SendError::NotOpen
    }
}

impl WeakDataChannel {
    pub(super) fn upgrade(&self) -> Option<DataChannel> {
        Some(DataChannel {
            core: Arc::clone(&self.core),
            handles: self.handles.upgrade()?,
        })
    }
}

impl fmt::Debug for DataChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataChannel")
            .field("twin_id", &self.core.twin_id)
            .field("name", &self.core.name)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// The servers that an error about relays names.
pub(crate) fn refused_servers(refused: &[String]) -> String {
    if refused.is_empty() {
        return String::new();
    }
    format!(
        " (TURN over TCP or TLS, which the WebRTC stack of this build does not have: {})",
        refused.join(", ")
    )
}

impl From<Option<&str>> for DataChannelOptions {
    fn from(name: Option<&str>) -> Self {
        name.map_or_else(Self::default, Self::from)
    }
}

impl DataChannelOptions {
    /// The same under another name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Says which client the other side has.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Takes offers too that are signed with the own twin.
    #[must_use]
    pub fn with_allow_unsigned(mut self, allow_unsigned: bool) -> Self {
        self.allow_unsigned = allow_unsigned;
        self
    }

    /// Says how connections find their way.
    #[must_use]
    pub fn with_ice(mut self, ice: IceSettings) -> Self {
        self.ice = Some(ice);
        self
    }

    /// Says how long the first connection may take.
    #[must_use]
    pub fn with_connect_limit(mut self, connect_limit: Duration) -> Self {
        self.connect_limit = connect_limit;
        self
    }

    /// Says how many bytes may be on their way.
    #[must_use]
    pub fn with_high_water_bytes(mut self, high_water_bytes: usize) -> Self {
        self.high_water_bytes = high_water_bytes;
        self
    }

    /// Logs the path of every connection.
    #[must_use]
    pub fn with_verbose(mut self, verbose: bool) -> Self {
        self.verbose = verbose;
        self
    }
}
