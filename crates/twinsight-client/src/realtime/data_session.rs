//! The task behind a data channel: drives the link, reads the connection's channel and tells the handle's
//! core. One that dials or awaits one twin goes on for as long as a handle lives; one that serves a peer
//! of an acceptor ends with its connection.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::Instrument;

use super::channel::{ChannelEvent, PeerChannel};
use super::data_channel::{ChannelState, CloseReason, Core, DataChannel, WeakDataChannel};
use super::link::{Link, LinkEvent, Wake};
use super::message::Message;
use super::negotiation::{Attempt, EndReason, Progress};
use super::warnings::allowed;
use crate::hub::handlers::call;

/// What was sent has this long to arrive when the channel is closed.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Longer limits than this are no limits, and instants have an end.
pub(super) const LONGEST_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// What came before a connection's end has this long to reach handlers that are slow.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// What a channel of two is told in the SDP if it says nothing (RFC 8841 §6.1).
const DEFAULT_MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Called with the channel when it is open for the first time.
pub(super) type OpenHandler = Box<dyn FnOnce(DataChannel) -> BoxFuture<'static, ()> + Send>;

/// How long a task goes on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lifetime {
    /// As long as a handle lives.
    Handles,
    /// As long as the first connection, which has so long to open the channel.
    OneConnection(Duration),
}

/// The task's state.
pub(super) struct Session {
    link: Link,
    channel: WeakDataChannel,
    core: std::sync::Arc<Core>,
    lifetime: Lifetime,
    on_open: Option<OpenHandler>,
    reader: Option<Reader>,
    told: (mpsc::Sender<ReaderEvent>, mpsc::Receiver<ReaderEvent>),
    /// Why the last attempt failed.
    last_error: tokio::sync::watch::Sender<&'static str>,
}

/// The task that reads one connection's channel.
struct Reader {
    attempt: Attempt,
    channel: PeerChannel,
    task: JoinHandle<()>,
}

impl Reader {
    /// Lets what came before the end reach the handlers.
    async fn drained(mut self) {
        let _ = tokio::time::timeout(DRAIN_LIMIT, &mut self.task).await;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a reader tells.
enum ReaderEvent {
    Open(Attempt),
    Closed(Attempt),
}

impl Session {
    /// The task of a channel.
    pub(super) fn new(
        link: Link,
        channel: &DataChannel,
        lifetime: Lifetime,
        on_open: Option<OpenHandler>,
    ) -> Self {
        Self {
            link,
            core: std::sync::Arc::clone(&channel.core),
            channel: channel.downgrade(),
            lifetime,
            on_open,
            reader: None,
            told: mpsc::channel(4),
            last_error: tokio::sync::watch::Sender::new("nothing was tried yet"),
        }
    }

    /// Why the last attempt failed, and the one before; changes as attempts do.
    pub(super) fn last_error(&self) -> tokio::sync::watch::Receiver<&'static str> {
        self.last_error.subscribe()
    }

    /// Until the last handle is gone, or its lifetime is over.
    ///
    /// It ends too when `ownership_lost` does: what it speaks as is somebody else's then.
    pub(super) fn spawn(
        self,
        stopped: oneshot::Receiver<()>,
        ownership_lost: BoxFuture<'static, ()>,
    ) -> JoinHandle<()> {
        let span =
            tracing::info_span!("channel", twin = %self.core.twin_id(), name = %self.core.name());
        tokio::spawn(self.run(stopped, ownership_lost).instrument(span))
    }

    async fn run(
        mut self,
        mut stopped: oneshot::Receiver<()>,
        mut ownership_lost: BoxFuture<'static, ()>,
    ) {
        let evicted_at = match self.lifetime {
            Lifetime::Handles => None,
            Lifetime::OneConnection(limit) => Some(Instant::now() + limit.min(LONGEST_LIMIT)),
        };
        let mut reason = CloseReason::Here;
        let core = std::sync::Arc::clone(&self.core);
        loop {
            let never_opened = self.on_open.is_some();
            let woke = tokio::select! {
                _ = &mut stopped => break,
                () = &mut ownership_lost => break,
                wake = self.link.wait() => Woke::Link(wake),
                Some(told) = self.told.1.recv() => Woke::ReaderEvent(told),
                () = core.broken.notified() => Woke::Broken,
                () = until(evicted_at), if never_opened => {
                    if let Some(suppressed) = allowed("a peer opened no data channel") {
                        tracing::warn!(
                            suppressed,
                            "a peer opened no data channel in time: its place is free again"
                        );
                    }
                    break;
                }
            };
            match woke {
                Woke::Link(wake) => {
                    if !self.link.take(wake).await {
                        break;
                    }
                }
                Woke::ReaderEvent(told) => self.told(told).await,
                Woke::Broken => self.broken().await,
            }
            let mut over = None;
            while let Some(event) = self.link.poll().await {
                over = self.link_event(event).await.or(over);
            }
            if let (Some(end), Lifetime::OneConnection(_)) = (over, self.lifetime)
                && end != CloseReason::Replaced
            {
                reason = end;
                break;
            }
        }
        self.end(reason).await;
    }

    /// The other side has closed the channel and not the connection, and nobody reads what tells so.
    async fn broken(&mut self) {
        if let Some(reader) = &self.reader
            && reader.channel.is_closed().await
        {
            self.link.restart(EndReason::Closed);
        }
    }

    async fn told(&mut self, told: ReaderEvent) {
        let (ReaderEvent::Open(attempt) | ReaderEvent::Closed(attempt)) = told;
        let Some(reader) = &self.reader else { return };
        if reader.attempt != attempt {
            return;
        }
        if matches!(told, ReaderEvent::Closed(_)) {
            self.link.restart(EndReason::Closed);
            return;
        }
        let limit = match self.link.peer() {
            Some(peer) => peer.max_message_bytes().await,
            None => None,
        };
        self.core.set_peer_id(self.link.peer_id());
        self.core.opened(
            reader.channel.clone(),
            limit.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES),
        );
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

    /// Why the connection is over, if it is.
    async fn link_event(&mut self, event: LinkEvent) -> Option<CloseReason> {
        match event {
            LinkEvent::Hub { .. } | LinkEvent::Progress(Progress::Connected(_)) => None,
            LinkEvent::Progress(Progress::Attempting(_)) => {
                self.core.set_peer_id(self.link.peer_id());
                None
            }
            LinkEvent::Progress(Progress::Over(attempt, end)) => {
                self.last_error.send_replace(end.as_str());
                let reason = match end {
                    EndReason::Closed => CloseReason::ByPeer,
                    EndReason::Replaced => CloseReason::Replaced,
                    _ => CloseReason::Lost,
                };
                if let Some(reader) = self.reader.take_if(|reader| reader.attempt == attempt) {
                    let was_open = self.core.lost(ChannelState::Connecting);
                    let goes_on =
                        matches!(self.lifetime, Lifetime::Handles) || end == EndReason::Replaced;
                    if was_open && !goes_on {
                        // Its handler may have to be registered yet, and this is the last chance.
                        let heard = self.core.messages.first_was_added();
                        let _ = tokio::time::timeout(DRAIN_LIMIT, heard).await;
                    }
                    // One that was replaced may still be open, and the peer waits for its answer.
                    if self.core.messages.is_heard() && end != EndReason::Replaced {
                        reader.drained().await;
                    }
                    if was_open && goes_on {
                        self.core.closes.give(reason).await;
                    }
                }
                Some(reason)
            }
            // A channel has no tracks; one that answers waits for its peer.
            LinkEvent::Senders(..) | LinkEvent::Disconnected => None,
            LinkEvent::Channel(attempt, channel) => {
                // One is what was agreed on; what a peer opens beyond it is not read.
                if self
                    .reader
                    .as_ref()
                    .is_none_or(|reader| reader.attempt != attempt)
                {
                    self.reader = Some(self.read(attempt, channel));
                }
                None
            }
        }
    }

    fn read(&self, attempt: Attempt, channel: PeerChannel) -> Reader {
        let (core, told, source) = (
            std::sync::Arc::clone(&self.core),
            self.told.0.clone(),
            channel.clone(),
        );
        let task = tokio::spawn(async move {
            loop {
                let told_of = match source.next().await {
                    ChannelEvent::Open => ReaderEvent::Open(attempt),
                    ChannelEvent::Message { is_text, data } => {
                        // Those that come before anybody listens wait in the stack, and then at the peer.
                        core.messages.first_was_added().await;
                        core.messages.give(Message::read(is_text, data)).await;
                        continue;
                    }
                    ChannelEvent::Closed => ReaderEvent::Closed(attempt),
                };
                let closed = matches!(told_of, ReaderEvent::Closed(_));
                if told.send(told_of).await.is_err() || closed {
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

    async fn end(mut self, reason: CloseReason) {
        if reason == CloseReason::Here {
            let _ = tokio::time::timeout(FLUSH_LIMIT, self.core.flushed()).await;
        }
        self.reader = None;
        self.link.close().await;
        let was_open = self.core.lost(ChannelState::Closed);
        // The connection of a lifetime that is over was lost before.
        if was_open || reason != CloseReason::Here {
            self.core.closes.give(reason).await;
        }
    }
}

/// Also after a panic nobody is to wait for what cannot come.
impl Drop for Session {
    fn drop(&mut self) {
        self.core.lost(ChannelState::Closed);
        self.core.messages.close();
        self.core.closes.close();
    }
}

/// What woke the task.
enum Woke {
    Link(Wake),
    ReaderEvent(ReaderEvent),
    /// A sender found the channel closed.
    Broken,
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
