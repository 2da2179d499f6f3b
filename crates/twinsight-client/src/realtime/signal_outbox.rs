//! The outbox of a link's signals. They come in from the link's task, which never waits, and go out to the hub one after the
//! other from a task of the outbox, since the hub's socket may take seconds. A signal of an attempt that is over is not sent:
//! the peer would answer an old offer in place of the fresh one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::mpsc;
use tracing::Instrument;

/// At most this many signals wait. Further ones are dropped, and their attempt ends by its time limit.
const CAPACITY: usize = 64;

/// A signal that is to be sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The number of the attempt that it belongs to.
    pub(super) attempt: u32,
    /// The twin that signs it.
    pub(super) own: String,
    /// The twin that it is sent to.
    pub(super) room: String,
    pub(super) data: serde_json::Value,
}

/// The sending end of the outbox. When it is dropped, its task sends what still waits and ends.
#[derive(Debug)]
pub(super) struct SignalOutbox {
    waiting: mpsc::Sender<Outgoing>,
}

impl SignalOutbox {
    /// Starts the task. `current_attempt` holds the number of the link's current attempt.
    pub(super) fn start<F>(
        current_attempt: Arc<AtomicU32>,
        send: impl Fn(Outgoing) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let (waiting, mut signals) = mpsc::channel::<Outgoing>(CAPACITY);
        let work = async move {
            while let Some(signal) = signals.recv().await {
                if current_attempt.load(Ordering::Acquire) == signal.attempt {
                    send(signal).await;
                }
            }
        };
        tokio::spawn(work.in_current_span());
        Self { waiting }
    }

    /// Queues a signal. It never waits.
    pub(super) fn send(&self, signal: Outgoing) {
        if self.waiting.try_send(signal).is_err() {
            tracing::debug!("a signal was not sent: the hub does not take those before it");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    fn signal(attempt: u32, room: &str) -> Outgoing {
        Outgoing {
            attempt,
            own: "node".to_owned(),
            room: room.to_owned(),
            data: serde_json::Value::Null,
        }
    }

    #[tokio::test]
    async fn whoever_sends_does_not_wait_for_a_hub_that_hangs_and_old_signals_are_not_sent() {
        let (hub, current) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(1)));
        let (sent, mut seen) = mpsc::unbounded_channel();
        let outbox = {
            let hub = Arc::clone(&hub);
            SignalOutbox::start(Arc::clone(&current), move |signal| {
                let (hub, sent) = (Arc::clone(&hub), sent.clone());
                async move {
                    hub.acquire().await.unwrap().forget();
                    sent.send(signal.room).unwrap();
                }
            })
        };
        // More than there is room for: this task goes on all the same.
        for number in 0..1000 {
            outbox.send(signal(1, &number.to_string()));
        }
        tokio::task::yield_now().await;
        current.store(2, Ordering::Release);
        hub.add_permits(1000);
        assert_eq!(
            seen.recv().await.unwrap(),
            "0",
            "the one that was being sent"
        );
        outbox.send(signal(2, "fresh"));
        assert_eq!(seen.recv().await.unwrap(), "fresh");
        drop(outbox);
        assert_eq!(seen.recv().await, None);
    }
}
