//! Polls receivers that can only be awaited, those of tokio's `broadcast` and `watch`: what a `Stream` needs of them.

use std::fmt;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::broadcast;

/// Wakes the task that polls a receiver when something arrives. It costs an allocation each time that the task waits.
#[derive(Default)]
pub(crate) struct Wakeup {
    /// Never locked: the mutex makes whoever holds a receiver `Sync`, as it would be without this.
    arrival: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl Wakeup {
    /// The next item of a receiver. `take` gives it without waiting, or `Pending`; the future of `arrival` ends when
    /// something arrives after it was made.
    pub(crate) fn poll<R, T>(
        &mut self,
        receiver: &mut R,
        take: impl Fn(&mut R) -> Poll<Option<T>>,
        arrival: impl Fn(&R) -> BoxFuture<'static, ()>,
        context: &mut Context<'_>,
    ) -> Poll<Option<T>> {
        let waiting = self.arrival.get_mut();
        loop {
            if let Poll::Ready(item) = take(receiver) {
                *waiting = None;
                return Poll::Ready(item);
            }
            match waiting {
                // What arrived before the future was made does not end it, so the next round looks again.
                None => *waiting = Some(arrival(receiver)),
                Some(future) => {
                    if future.poll_unpin(context).is_pending() {
                        return Poll::Pending;
                    }
                    *waiting = None;
                }
            }
        }
    }
}

impl fmt::Debug for Wakeup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wakeup").finish_non_exhaustive()
    }
}

/// Ends when the next item after this call arrives, or when none can arrive any more.
pub(crate) fn broadcast_arrival<T: Clone + Send + 'static>(
    receiver: &broadcast::Receiver<T>,
) -> BoxFuture<'static, ()> {
    let mut from_now_on = receiver.resubscribe();
    async move {
        // A lag is an arrival too.
        let _ = from_now_on.recv().await;
    }
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that a broadcast gives to a task that polls.
    struct Numbers {
        receiver: broadcast::Receiver<u32>,
        wakeup: Wakeup,
    }

    impl Numbers {
        async fn next(&mut self) -> Option<u32> {
            std::future::poll_fn(|context| {
                let take = |receiver: &mut broadcast::Receiver<u32>| match receiver.try_recv() {
                    Ok(number) => Poll::Ready(Some(number)),
                    Err(broadcast::error::TryRecvError::Empty) => Poll::Pending,
                    Err(_) => Poll::Ready(None),
                };
                self.wakeup
                    .poll(&mut self.receiver, take, broadcast_arrival, context)
            })
            .await
        }
    }

    #[tokio::test]
    async fn whoever_polls_is_woken_by_each_arrival_and_by_the_end() {
        let (sender, receiver) = broadcast::channel(4);
        let mut numbers = Numbers {
            receiver,
            wakeup: Wakeup::default(),
        };
        sender.send(0).unwrap();
        let reading = tokio::spawn(async move {
            let mut got = Vec::new();
            while let Some(number) = numbers.next().await {
                got.push(number);
            }
            got
        });
        for number in 1..100 {
            // Lets the reader wait every now and then.
            if number % 3 == 0 {
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
            }
            while sender.len() == 4 {
                tokio::task::yield_now().await;
            }
            sender.send(number).unwrap();
        }
        drop(sender);
        let got = tokio::time::timeout(std::time::Duration::from_secs(60), reading).await;
        assert_eq!(got.unwrap().unwrap(), (0..100).collect::<Vec<_>>());
    }
}
