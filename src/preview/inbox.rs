//! The pictures that wait for one watcher: of each camera the newest, in the order in which the cameras had one.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Picture;

/// What waits for a watcher. The encoder puts in, the watcher takes out.
#[derive(Debug)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug)]
struct Waiting {
    /// The newest picture of each of the watcher's cameras.
    newest: Vec<Option<Picture>>,
    /// Which of them have one, the one that waits for the longest first.
    order: VecDeque<usize>,
}

impl Inbox {
    /// For a watcher of so many cameras.
    pub(super) fn new(cameras: usize) -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                newest: vec![None; cameras],
                order: VecDeque::with_capacity(cameras),
            }),
            arrived: Notify::new(),
        }
    }

    /// Puts a picture of the watcher's camera `at`. True means that the watcher had not taken the one before.
    pub(super) fn put(&self, at: usize, picture: Picture) -> bool {
        let mut waiting = self.waiting.lock();
        let Some(newest) = waiting.newest.get_mut(at) else {
            return false;
        };
        let was_replaced = newest.replace(picture).is_some();
        if !was_replaced {
            waiting.order.push_back(at);
        }
        drop(waiting);
        self.arrived.notify_one();
        was_replaced
    }

    /// Waits for the next picture. Dropping the future loses none.
    pub(super) async fn next(&self) -> Picture {
        loop {
            {
                let mut waiting = self.waiting.lock();
                if let Some(picture) = waiting
                    .order
                    .pop_front()
                    .and_then(|at| waiting.newest[at].take())
                {
                    return picture;
                }
            }
            self.arrived.notified().await;
        }
    }
}
