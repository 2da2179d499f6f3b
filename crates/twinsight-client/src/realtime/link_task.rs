//! The loop that every channel's and stream's task runs: it drives the link, hands what comes of it and what happens
//! elsewhere to the link's [`Owner`], and ends when it is stopped or the link's lifetime is over.

use std::time::Instant;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::dial::deadline_of;
use super::link::{Lifetime, Link, LinkEvent};
use super::negotiation::{EndReason, Progress};

/// Whom a link is driven for: a data channel or a media stream.
pub(crate) trait Owner: Send {
    /// What happens to it beside its link.
    type Event: Send;

    /// Called before the link is driven.
    fn begin(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Waits for what happens beside the link. Nothing is lost when the future is dropped.
    fn next_event(&mut self) -> impl Future<Output = Self::Event> + Send;

    /// Takes what [`next_event`](Self::next_event) gave.
    fn event(&mut self, link: &mut Link, event: Self::Event) -> impl Future<Output = ()> + Send;

    /// Takes what the link tells.
    fn link_event(&mut self, link: &mut Link, event: LinkEvent) -> impl Future<Output = ()> + Send;

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    fn deadline(&self, _link: &Link) -> Option<Instant> {
        None
    }

    /// Lets time pass. Called whenever something has happened, too.
    fn handle_timeout(&mut self, _link: &mut Link) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// True when a peer with a limit has done what it has to do until then.
    fn is_established(&self, link: &Link) -> bool;

    /// Says that the peer has not done it in time.
    fn warn_of_late_peer(&self);

    /// Closes what is left. `ended`: why the one connection of the link's lifetime is over, if that is why.
    fn end(self, link: Link, ended: Option<EndReason>) -> impl Future<Output = ()> + Send;
}

/// Drives a link until `stop` is over, whatever it waits for then, or until the link's lifetime is.
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

/// Waits until a handle stops the task, or what it speaks as is somebody else's.
pub(crate) async fn stopped(stop: CancellationToken, ownership_lost: BoxFuture<'static, ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = ownership_lost => {}
    }
}

/// Gives why the one connection is over; none when it never came, or the hub client is gone.
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

/// Hands over what the link tells. Gives why the connection is over, if it is.
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

/// Sleeps until a deadline, or for ever if there is none.
pub(crate) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
