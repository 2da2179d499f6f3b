//! The loop that the task of every channel and stream runs. Events of the link and of the handles come in and go to the link's
//! [`Owner`]; the loop ends when the task is stopped or the link's lifetime is over.
//!
//! What must stay true:
//! - [`Owner::end`] is called once, however the loop ended, with the link to close.
//! - When the task is stopped, whatever the loop awaits is dropped: only [`Link::wait`] and [`Owner::next_event`] are
//!   cancel-safe, so `end` must cope with a link and an owner that stopped in the middle of a step.
//! - After each event the link is polled until it has nothing to report, before the loop waits again.

use std::time::Instant;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::attempt::{EndReason, Progress};
use super::deadline::{deadline_of, sleep_until};
use super::link::{Link, LinkEvent};
use super::link_options::Lifetime;

/// The owner of a link, for which the loop drives it: the `ChannelTask` of a data channel or the
/// `StreamTask` of a media stream.
pub(crate) trait Owner: Send {
    /// Events that do not come from the link.
    type Event: Send;

    /// Prepares the owner before the link is driven.
    fn begin(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Waits for an event that does not come from the link. It must be cancel-safe.
    fn next_event(&mut self) -> impl Future<Output = Self::Event> + Send;

    /// Handles what [`next_event`](Self::next_event) returned.
    fn event(&mut self, link: &mut Link, event: Self::Event) -> impl Future<Output = ()> + Send;

    /// Handles an event of the link.
    fn link_event(&mut self, link: &mut Link, event: LinkEvent) -> impl Future<Output = ()> + Send;

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    fn deadline(&self, _link: &Link) -> Option<Instant> {
        None
    }

    /// Does what is due by now. It is also called after every event.
    fn handle_timeout(&mut self, _link: &mut Link) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// True when the peer has done what [`Lifetime::OneConnection`] sets a limit for: it has connected, or opened its channel.
    fn is_established(&self, link: &Link) -> bool;

    /// Logs that the peer was too late.
    fn warn_of_late_peer(&self);

    /// Closes the link and the handles. `ended` is why the one connection of the link's lifetime is over, or none if the task
    /// ends for another reason.
    fn end(self, link: Link, ended: Option<EndReason>) -> impl Future<Output = ()> + Send;
}

/// Drives a link until `stop` completes or the link's lifetime is over.
pub(crate) async fn drive<O: Owner>(
    mut link: Link,
    mut owner: O,
    stop: impl Future<Output = ()> + Send,
) {
    let ended = tokio::select! {
        () = stop => None,
        ended = run(&mut link, &mut owner) => ended,
    };
    owner.end(link, ended).await;
}

/// Waits until a handle stops the task, or until another app takes over the twin that it speaks as.
pub(crate) async fn stopped(stop: CancellationToken, ownership_lost: BoxFuture<'static, ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = ownership_lost => {}
    }
}

/// Runs the loop. Gives why the link's one connection is over; none when the peer was too late or the hub client is gone.
async fn run<O: Owner>(link: &mut Link, owner: &mut O) -> Option<EndReason> {
    let evicted_at = match link.lifetime() {
        Lifetime::UntilStopped => None,
        Lifetime::OneConnection(limit) => Some(deadline_of(limit).into_std()),
    };
    owner.begin().await;
    loop {
        let eviction = evicted_at.filter(|_| !owner.is_established(link));
        let deadline = owner.deadline(link).into_iter().chain(eviction).min();
        tokio::select! {
            wake = link.wait() => if !link.take(wake).await {
                return None;
            },
            event = owner.next_event() => owner.event(link, event).await,
            () = sleep_until(deadline) => {}
        }
        let mut over = poll(link, owner).await;
        owner.handle_timeout(link).await;
        over = poll(link, owner).await.or(over);
        let is_late = evicted_at.is_some_and(|at| at <= Instant::now());
        if is_late && !owner.is_established(link) {
            owner.warn_of_late_peer();
            return None;
        }
        if let Some(reason) = over
            && !link.outlives(reason)
        {
            return over;
        }
    }
}

/// Hands the link's events to the owner. Gives why the connection is over, if it is.
async fn poll<O: Owner>(link: &mut Link, owner: &mut O) -> Option<EndReason> {
    let mut over = None;
    while let Some(event) = link.poll().await {
        if let LinkEvent::Progress(Progress::Over(_, reason)) = &event {
            over = Some(*reason);
        }
        owner.link_event(link, event).await;
    }
    over
}
