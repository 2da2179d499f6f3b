//! Handlers that a user of the crate registers: each runs on a task of its own, one call after the other,
//! behind a bounded queue. One that is slow or panics harms nobody else: when its queue has been full for
//! a second it loses what comes, counted, until there is a place for it again.

#![cfg_attr(
    not(feature = "webrtc"),
    expect(dead_code, reason = "data channels use what events do not")
)]

use std::collections::HashMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::{FutureExt, Stream};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use crate::rate_limit::{RATE_LIMIT, RateLimit};

/// How many items wait for one handler or stream.
const QUEUE: usize = 64;

/// A handler whose queue is full holds up everything behind the item for so long, then loses it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Names a registered handler, so that it can be taken off again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandlerId(u64);

impl HandlerId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The handlers and streams that all get every item.
pub(crate) struct Handlers<T> {
    entries: Mutex<Arc<[Arc<Entry<T>>]>>,
    /// Whether there ever was one.
    any: watch::Sender<bool>,
    /// Items that any of them lost.
    lost: AtomicU64,
    /// Nothing comes any more. Changed under the lock of the entries.
    closed: AtomicBool,
    warn: RateLimit<&'static str>,
}

struct Entry<T> {
    id: HandlerId,
    queue: mpsc::Sender<T>,
    /// Its queue was full for too long: it is not waited for.
    lags: AtomicBool,
    is_on: Arc<AtomicBool>,
    lost: Arc<AtomicU64>,
}

/// Messages, tracks or other items as a stream: 64 of them wait. Dropping it takes it off.
pub struct Items<T> {
    queue: mpsc::Receiver<T>,
    lost: Arc<AtomicU64>,
}

impl<T: Clone + Send + 'static> Handlers<T> {
    pub(crate) fn new() -> Self {
        Self {
            entries: Mutex::new(Arc::new([])),
            any: watch::Sender::new(false),
            lost: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            warn: RateLimit::new(RATE_LIMIT),
        }
    }

    /// Registers a handler; `what` names it in the log. Needs a tokio runtime.
    pub(crate) fn add<F, R>(&self, what: &'static str, handler: F) -> HandlerId
    where
        F: FnMut(T) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.add_after(Vec::new, what, handler)
    }

    /// As [`add`](Self::add), and it is called first with what is there once it is registered.
    pub(crate) fn add_after<F, R>(
        &self,
        first: impl FnOnce() -> Vec<T>,
        what: &'static str,
        mut handler: F,
    ) -> HandlerId
    where
        F: FnMut(T) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let is_on = Arc::new(AtomicBool::new(true));
        let (id, mut queue, _) = self.insert(Arc::clone(&is_on));
        let mut first = first().into_iter();
        let handling = async move {
            while let Some(item) = match first.next() {
                Some(item) => Some(item),
                None => queue.recv().await,
            } {
                if !is_on.load(Ordering::Acquire) {
                    return;
                }
                call(what, &mut handler, item).await;
            }
        };
        // Boxed, so that not every handler of a program makes it compile the code of a task anew.
        tokio::spawn(handling.boxed());
        id
    }

    /// The items from now on.
    pub(crate) fn stream(&self) -> Items<T> {
        let (_, queue, lost) = self.insert(Arc::new(AtomicBool::new(true)));
        Items { queue, lost }
    }

    fn insert(&self, is_on: Arc<AtomicBool>) -> (HandlerId, mpsc::Receiver<T>, Arc<AtomicU64>) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let entry = Arc::new(Entry {
            id: HandlerId::next(),
            queue: sender,
            lags: AtomicBool::new(false),
            is_on,
            lost: Arc::clone(&lost),
        });
        let id = entry.id;
        self.change(|entries| {
            // One that comes too late ends at once.
            if !self.closed.load(Ordering::Relaxed) {
                entries.push(entry);
            }
        });
        self.any.send_replace(true);
        (id, queue, lost)
    }

    /// True when a handler or a stream is there, or has been.
    pub(crate) fn is_heard(&self) -> bool {
        *self.any.borrow()
    }

    /// Waits until a handler or a stream is there, or has been.
    pub(crate) async fn first_was_added(&self) {
        if *self.any.borrow() {
            return;
        }
        // An error would mean that the sender is gone, and this holds it.
        let _ = self.any.subscribe().wait_for(|any| *any).await;
    }

    /// Takes a handler off: no call of it begins any more. False if it is not registered.
    pub(crate) fn remove(&self, id: HandlerId) -> bool {
        let mut found = false;
        self.change(|entries| {
            entries.retain(|entry| {
                if entry.id == id {
                    entry.is_on.store(false, Ordering::Release);
                    found = true;
                }
                entry.id != id
            });
        });
        found
    }

    /// Takes all off, and whatever comes later. What waits is still handled.
    pub(crate) fn close(&self) {
        self.change(|entries| {
            self.closed.store(true, Ordering::Relaxed);
            entries.clear();
        });
    }

    /// Gives an item to all. Waits for a handler whose queue is full, a second at most.
    pub(crate) async fn give(&self, item: T) {
        let entries = Arc::clone(&self.entries.lock());
        for entry in entries.iter() {
            match entry.queue.try_send(item.clone()) {
                Ok(()) => entry.lags.store(false, Ordering::Relaxed),
                Err(mpsc::error::TrySendError::Closed(_)) => self.sweep(),
                Err(mpsc::error::TrySendError::Full(item)) => {
                    let waits = !entry.lags.load(Ordering::Relaxed);
                    if waits
                        && tokio::time::timeout(PATIENCE, entry.queue.send(item))
                            .await
                            .is_ok()
                    {
                        continue;
                    }
                    entry.lags.store(true, Ordering::Relaxed);
                    entry.lost.fetch_add(1, Ordering::Relaxed);
                    self.lost.fetch_add(1, Ordering::Relaxed);
                    if let Some(suppressed) = self.warn.allow("lagging", Instant::now()) {
                        tracing::warn!(
                            suppressed,
                            "a handler does not keep up and loses messages: let it hand long work to a task"
                        );
                    }
                }
            }
        }
    }

    /// Items that handlers and streams lost because they did not keep up.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Takes streams off that were dropped.
    fn sweep(&self) {
        self.change(|entries| entries.retain(|entry| !entry.queue.is_closed()));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Entry<T>>>)) {
        let mut entries = self.entries.lock();
        let mut list = entries.to_vec();
        change(&mut list);
        *entries = list.into();
    }
}

impl<T> fmt::Debug for Handlers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handlers").finish_non_exhaustive()
    }
}

impl<T> Items<T> {
    /// The next item; `None` after the last.
    pub async fn recv(&mut self) -> Option<T> {
        self.queue.recv().await
    }

    /// The next item if one waits.
    pub fn try_recv(&mut self) -> Option<T> {
        self.queue.try_recv().ok()
    }

    /// Items that were lost because this stream was not read in time.
    pub fn missed(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl<T> Stream for Items<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.queue.poll_recv(context)
    }
}

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items")
            .field("missed", &self.lost)
            .finish_non_exhaustive()
    }
}

/// Runs a handler once; a panic of it is logged and ends there.
pub(crate) async fn call<T, F, R>(what: &'static str, handler: &mut F, item: T)
where
    F: FnMut(T) -> R,
    R: Future<Output = ()>,
{
    let calling = AssertUnwindSafe(async { handler(item).await });
    if calling.catch_unwind().await.is_err() {
        tracing::error!(
            what,
            "a handler panicked: it is called again for what comes next"
        );
    }
}

/// Handlers that take what they handle from a receiver of their own.
#[derive(Debug, Default)]
pub(crate) struct HandlerTasks {
    running: Mutex<HashMap<HandlerId, oneshot::Sender<()>>>,
}

impl HandlerTasks {
    /// Runs `work` until it ends or the handler is taken off; `work` gets what it is to watch for the
    /// latter.
    pub(crate) fn start<R>(&self, work: impl FnOnce(oneshot::Receiver<()>) -> R) -> HandlerId
    where
        R: Future<Output = ()> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let id = HandlerId::next();
        let mut running = self.running.lock();
        running.retain(|_, stop| !stop.is_closed());
        running.insert(id, stop);
        tokio::spawn(work(stopped).boxed());
        id
    }

    /// Takes a handler off; false if it is not registered.
    pub(crate) fn stop(&self, id: HandlerId) -> bool {
        self.running
            .lock()
            .remove(&id)
            .is_some_and(|stop| !stop.is_closed())
    }

    /// Takes all handlers off.
    pub(crate) fn clear(&self) {
        self.running.lock().clear();
    }
}

/// What `work` gives, unless the handler is taken off before.
pub(super) async fn until<T>(
    stopped: &mut oneshot::Receiver<()>,
    work: impl Future<Output = Option<T>>,
) -> Option<T> {
    tokio::select! {
        biased;
        _ = stopped => None,
        item = work => item,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_handler_that_panics_or_hangs_harms_no_other() {
        let handlers = Handlers::new();
        handlers.add("a test", |_: u32| async { panic!("as tested") });
        handlers.add("a test", |_| std::future::pending());
        let (sender, mut got) = mpsc::unbounded_channel();
        handlers.add("a test", move |item| {
            let sender = sender.clone();
            async move {
                let _ = sender.send(item);
            }
        });
        let count = u32::try_from(QUEUE).unwrap() * 3;
        for item in 0..count {
            handlers.give(item).await;
        }
        for item in 0..count {
            let next = tokio::time::timeout(DEADLINE, got.recv()).await;
            assert_eq!(next.unwrap(), Some(item));
        }
        // It had one in hand and a queue full of them.
        assert_eq!(handlers.lost(), u64::from(count) - QUEUE as u64 - 1);
    }

    #[tokio::test]
    async fn a_handler_that_was_taken_off_is_not_called() {
        let handlers = Handlers::new();
        let (sender, mut got) = mpsc::unbounded_channel();
        let other = sender.clone();
        let id = handlers.add("a test", move |item: u32| {
            let sender = sender.clone();
            async move {
                let _ = sender.send(item);
            }
        });
        handlers.give(1).await;
        assert_eq!(got.recv().await, Some(1));
        assert!(handlers.remove(id) && !handlers.remove(id));
        handlers.give(2).await;
        other.send(3).unwrap();
        assert_eq!(got.recv().await, Some(3));
    }

    #[tokio::test]
    async fn a_stream_gets_all_and_ends() {
        let handlers = Handlers::new();
        let mut items = handlers.stream();
        handlers.give("a").await;
        handlers.close();
        assert_eq!(items.recv().await, Some("a"));
        assert_eq!(items.recv().await, None);
        assert_eq!(handlers.stream().recv().await, None);
        drop(items);
        assert_eq!(handlers.lost(), 0);
    }
}
