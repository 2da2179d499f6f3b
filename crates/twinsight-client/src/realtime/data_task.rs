//! The task behind a data channel: events of its link and of the connection's channel come in, messages and changes of state
//! go out to the handles. The task of a channel that dials or awaits one twin runs as long as a handle lives; the task that
//! serves a peer of an acceptor ends with the peer's connection.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::attempt::{Attempt, EndReason, Progress};
use super::channel::{ChannelEvent, PeerChannel};
use super::data_channel::{DataChannel, WeakDataChannel};
use super::data_shared::{ChannelShared, ChannelState, CloseReason};
use super::link::{Link, LinkEvent};
use super::link_task::{Owner, drive};
use super::message::Message;
use super::warnings::allowed;
use crate::hub::handlers::call;

/// When the channel is closed, messages that were sent have this long to arrive.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Messages that came before the end of a connection have this long to reach slow handlers.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// The largest message of a peer whose description does not name one (RFC 8841 §6.1).
const DEFAULT_MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Called with the channel when it is open for the first time.
pub(super) type OpenHandler = Box<dyn FnOnce(DataChannel) -> BoxFuture<'static, ()> + Send>;

/// The owner of a data channel's link.
pub(super) struct ChannelTask {
    channel: WeakDataChannel,
    shared: Arc<ChannelShared>,
    on_open: Option<OpenHandler>,
    reader: Option<Reader>,
    readers: (
        mpsc::Sender<ChannelTaskEvent>,
        mpsc::Receiver<ChannelTaskEvent>,
    ),
    /// Why the channel has closed, while its handlers do not know yet.
    unreported: Option<CloseReason>,
}

/// The task that reads one connection's channel.
struct Reader {
    attempt: Attempt,
    channel: PeerChannel,
    task: JoinHandle<()>,
}

impl Reader {
    /// Waits until the handlers have the messages that came before the end.
    async fn drained(mut self) {
        let _ = tokio::time::timeout(DRAIN_LIMIT, &mut self.task).await;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An event of a channel that does not come from its link.
pub(super) enum ChannelTaskEvent {
    /// The reader of an attempt found its channel open.
    Open(Attempt),
    /// The reader of an attempt found its channel closed.
    Closed(Attempt),
    /// A sender found the channel closed.
    Broken,
}

impl ChannelTask {
    /// The task of a channel.
    pub(super) fn new(channel: &DataChannel, on_open: Option<OpenHandler>) -> Self {
        Self {
            shared: Arc::clone(&channel.shared),
            channel: channel.downgrade(),
            on_open,
            reader: None,
            readers: mpsc::channel(4),
            unreported: None,
        }
    }

    /// Runs until `stop` completes or the link's lifetime is over.
    pub(super) async fn run(self, link: Link, stop: impl Future<Output = ()> + Send) {
        let span = tracing::info_span!(
            "channel",
            twin = %self.shared.twin_id(),
            name = %self.shared.name()
        );
        drive(link, self, stop).instrument(span).await;
    }

    /// Gives the connection up if the other side has closed the channel alone. The reader does not see that while a handler holds
    /// it up.
    async fn broken(&mut self, link: &mut Link) {
        if let Some(reader) = &self.reader
            && reader.channel.is_closed().await
        {
            link.restart(EndReason::Closed);
        }
    }

    async fn opened(&mut self, link: &Link, attempt: Attempt) {
        let Some(reader) = self.reader_of(attempt) else {
            return;
        };
        let channel = reader.channel.clone();
        let limit = match link.peer() {
            Some(peer) => peer.max_message_bytes().await,
            None => None,
        };
        self.shared.set_peer_id(link.peer_id());
        self.shared
            .opened(channel, limit.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES));
        tracing::debug!("the data channel is open");
        if let Some(handler) = self.on_open.take()
            && let Some(channel) = self.channel.upgrade()
        {
            let mut handler = Some(handler);
            let mut once = move |channel| {
                let handler = handler.take();
                async move {
                    if let Some(handler) = handler {
                        handler(channel).await;
                    }
                }
            };
            tokio::spawn(async move { call("a new data channel", &mut once, channel).await });
        }
    }

    fn reader_of(&self, attempt: Attempt) -> Option<&Reader> {
        let reader = self.reader.as_ref();
        reader.filter(|reader| reader.attempt == attempt)
    }

    /// Handles the end of an attempt's connection.
    async fn over(&mut self, link: &Link, attempt: Attempt, end: EndReason) {
        self.shared.set_last_error(end);
        let Some(reader) = self.reader.take_if(|reader| reader.attempt == attempt) else {
            return;
        };
        if self.shared.lost(ChannelState::Connecting) {
            self.unreported = Some(end.into());
        }
        let goes_on = link.outlives(end);
        if self.unreported.is_some() && !goes_on {
            // The app may still be about to register a handler, and nothing more comes after this.
            let heard = self.shared.messages.first_was_added();
            let _ = tokio::time::timeout(DRAIN_LIMIT, heard).await;
        }
        // A replaced connection is not drained: it may still be open, so its reader would not end, and the peer waits for an
        // answer.
        if self.shared.messages.is_heard() && end != EndReason::Replaced {
            reader.drained().await;
        }
        if goes_on && let Some(reason) = self.unreported.take() {
            self.shared.closes.give(reason).await;
        }
    }

    fn read(&self, attempt: Attempt, channel: PeerChannel) -> Reader {
        let (shared, events, source) = (
            Arc::clone(&self.shared),
            self.readers.0.clone(),
            channel.clone(),
        );
        let task = tokio::spawn(async move {
            loop {
                let event = match source.next().await {
                    ChannelEvent::Open => ChannelTaskEvent::Open(attempt),
                    ChannelEvent::Message { is_text, data } => {
                        // Until the app listens, messages wait in the stack, and then at the peer.
                        shared.messages.first_was_added().await;
                        shared.messages.give(Message::read(is_text, data)).await;
                        continue;
                    }
                    ChannelEvent::Closed => ChannelTaskEvent::Closed(attempt),
                };
                let closed = matches!(event, ChannelTaskEvent::Closed(_));
                if events.send(event).await.is_err() || closed {
                    return;
                }
            }
        });
        Reader {
            attempt,
            channel,
            task,
        }
    }
}

impl Owner for ChannelTask {
    type Event = ChannelTaskEvent;

    async fn next_event(&mut self) -> ChannelTaskEvent {
        let broken = self.shared.broken.notified();
        tokio::select! {
            Some(event) = self.readers.1.recv() => event,
            () = broken => ChannelTaskEvent::Broken,
        }
    }

    async fn event(&mut self, link: &mut Link, event: ChannelTaskEvent) {
        match event {
            ChannelTaskEvent::Open(attempt) => self.opened(link, attempt).await,
            ChannelTaskEvent::Closed(attempt) => {
                if self.reader_of(attempt).is_some() {
                    link.restart(EndReason::Closed);
                }
            }
            ChannelTaskEvent::Broken => self.broken(link).await,
        }
    }

    async fn link_event(&mut self, link: &mut Link, event: LinkEvent) {
        match event {
            LinkEvent::Progress(Progress::Attempting(_)) => {
                self.shared.set_peer_id(link.peer_id());
            }
            LinkEvent::Progress(Progress::Over(attempt, end)) => {
                self.over(link, attempt, end).await;
            }
            LinkEvent::Channel(attempt, channel) => {
                // A connection has one channel; further channels that a peer opens are not read.
                if self.reader_of(attempt).is_none() {
                    self.reader = Some(self.read(attempt, channel));
                }
            }
            // A data channel has no tracks, and a responder waits for its peer.
            LinkEvent::Hub { .. }
            | LinkEvent::Progress(Progress::Connected(_))
            | LinkEvent::Senders(..)
            | LinkEvent::Disconnected => {}
        }
    }

    /// True once the channel has been open.
    fn is_established(&self, _link: &Link) -> bool {
        self.on_open.is_none()
    }

    fn warn_of_late_peer(&self) {
        if let Some(suppressed) = allowed("a peer opened no data channel") {
            tracing::warn!(
                suppressed,
                "a peer opened no data channel in time: its place is free again"
            );
        }
    }

    async fn end(mut self, mut link: Link, ended: Option<EndReason>) {
        // This returns at once when the connection is over.
        let _ = tokio::time::timeout(FLUSH_LIMIT, self.shared.flushed()).await;
        self.reader = None;
        link.close().await;
        let was_open = self.shared.lost(ChannelState::Closed);
        let ended = self.unreported.take().or(ended.map(CloseReason::from));
        if let Some(reason) = ended.or(was_open.then_some(CloseReason::Here)) {
            self.shared.closes.give(reason).await;
        }
    }
}

/// The handles are closed here, so that nobody waits for ever after a panic of the task.
impl Drop for ChannelTask {
    fn drop(&mut self) {
        self.shared.lost(ChannelState::Closed);
        self.shared.messages.close();
        self.shared.closes.close();
    }
}
