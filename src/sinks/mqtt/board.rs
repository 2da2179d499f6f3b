//! Retained messages as they should be on the broker. Whoever knows a state writes it here, and the connection brings the broker into
//! line: a state that changes faster than the broker takes it is sent once, as it is by then, and all are sent again to a
//! broker that has come back.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The retained messages. An empty one removes what the broker has.
#[derive(Debug, Default)]
pub(crate) struct Board {
    state: Mutex<BoardState>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct BoardState {
    wanted: BTreeMap<String, Bytes>,
    /// What the broker may not have yet.
    due: BTreeSet<String>,
}

impl Board {
    /// Wants this message on the topic.
    pub(crate) fn set(&self, topic: String, payload: Bytes) {
        let mut state = self.state.lock();
        if state.wanted.get(&topic) == Some(&payload) {
            return;
        }
        state.due.insert(topic.clone());
        state.wanted.insert(topic, payload);
        drop(state);
        self.wake.notify_one();
    }

    /// Wants no message on the topic.
    pub(crate) fn clear(&self, topic: String) {
        self.set(topic, Bytes::new());
    }

    /// True if a message is wanted on the topic.
    pub(crate) fn has(&self, topic: &str) -> bool {
        let state = self.state.lock();
        state
            .wanted
            .get(topic)
            .is_some_and(|payload| !payload.is_empty())
    }

    /// What is wanted on the topic: nothing if it is empty.
    #[cfg(test)]
    pub(crate) fn wanted(&self, topic: &str) -> Option<String> {
        let state = self.state.lock();
        let payload = state.wanted.get(topic)?;
        Some(String::from_utf8(payload.to_vec()).unwrap())
    }

    /// Sends everything again.
    pub(crate) fn resend(&self) {
        let mut state = self.state.lock();
        let BoardState { wanted, due } = &mut *state;
        due.extend(wanted.keys().cloned());
        drop(state);
        self.wake.notify_one();
    }

    /// How many messages there are that the broker may not have.
    pub(super) fn due(&self) -> usize {
        self.state.lock().due.len()
    }

    /// The next message that the broker may not have.
    pub(super) async fn next(&self) -> (String, Bytes) {
        loop {
            // Made before the board is looked at, so that what comes in between wakes it.
            let woken = self.wake.notified();
            {
                let mut state = self.state.lock();
                if let Some(topic) = state.due.pop_first() {
                    let payload = state.wanted.get(&topic).cloned().unwrap_or_default();
                    return (topic, payload);
                }
            }
            woken.await;
        }
    }

    /// Notes that the broker took a message.
    pub(super) fn taken(&self, topic: &str, payload: &Bytes) {
        let mut state = self.state.lock();
        if payload.is_empty() && state.wanted.get(topic).is_some_and(Bytes::is_empty) {
            state.wanted.remove(topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn next(board: &Board) -> Option<(String, Bytes)> {
        tokio::time::timeout(Duration::from_millis(10), board.next())
            .await
            .ok()
    }

    fn message(topic: &str, payload: &'static str) -> (String, Bytes) {
        (topic.to_owned(), Bytes::from_static(payload.as_bytes()))
    }

    #[tokio::test]
    async fn a_state_is_sent_once_as_it_is_and_again_to_a_broker_that_comes_back() {
        let board = Board::default();
        for payload in ["1", "2", "3"] {
            board.set("count".to_owned(), Bytes::from_static(payload.as_bytes()));
        }
        assert_eq!(next(&board).await, Some(message("count", "3")));
        board.set("count".to_owned(), Bytes::from_static(b"3"));
        assert_eq!(next(&board).await, None, "nothing has changed");
        board.resend();
        assert_eq!(next(&board).await, Some(message("count", "3")));
    }

    #[tokio::test]
    async fn what_is_cleared_is_remembered_until_the_broker_took_that() {
        let board = Board::default();
        board.set("a".to_owned(), Bytes::from_static(b"1"));
        board.clear("a".to_owned());
        assert!(!board.has("a"));
        let (topic, payload) = next(&board).await.unwrap();
        assert_eq!(payload, Bytes::new());
        board.resend();
        assert_eq!(next(&board).await, Some(message("a", "")));
        board.taken(&topic, &payload);
        board.resend();
        assert_eq!(next(&board).await, None);
    }
}
