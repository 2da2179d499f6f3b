//! The task that makes a link's descriptions, so that the link's own task goes on with its signals: what an attempt is to
//! carry comes in, a connection with its description or another offer goes out to the link's task.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::attempt::Attempt;
use super::connect::{ConnectionContent, DescribedConnection, describe, ice_servers};
use super::ice::IceSettings;
use super::peer::Peer;
use super::peer_error::PeerError;
use super::sdp::Description;
use crate::hub::client::HubClient;

/// Somebody who is asked whether an offer is accepted has this long. It is less than the time that a description may take, so
/// that the negotiation hears of the refusal.
const ACCEPT_LIMIT: Duration = Duration::from_secs(9);

/// The attempt that a description was to be made for, and what was made.
pub(crate) type DescriptionResult = (Attempt, Result<DescriptionOutcome, PeerError>);

/// What was made for an attempt.
pub(crate) enum DescriptionOutcome {
    /// A new connection and its description.
    Connection(Box<DescribedConnection>),
    /// Another offer over the connection that the attempt has.
    Offer(Description),
    /// Nothing was made, because nobody here wants what the peer offers.
    Declined,
}

/// Makes the content of an attempt's connection. That of a responder may depend on the offer, and on somebody who accepts it;
/// `None` leaves the offer without an answer.
pub(crate) type ContentOf = Box<
    dyn Fn(Attempt, Option<&Description>) -> BoxFuture<'static, Option<ConnectionContent>>
        + Send
        + Sync,
>;

/// Content that depends on neither an offer nor a person.
pub(crate) fn content_of(
    content: impl Fn(Attempt) -> ConnectionContent + Send + Sync + 'static,
) -> ContentOf {
    Box::new(move |attempt, _offer| Box::pin(std::future::ready(Some(content(attempt)))))
}

/// Makes descriptions, each on a task; a newer attempt's ends that of the older one.
pub(super) struct DescriptionTask {
    task: Option<JoinHandle<()>>,
    results: mpsc::Receiver<DescriptionResult>,
    sender: mpsc::Sender<DescriptionResult>,
}

/// What a description is made with.
pub(super) struct DescriptionRequest {
    pub(super) attempt: Attempt,
    pub(super) offer: Option<Description>,
    pub(super) content: BoxFuture<'static, Option<ConnectionContent>>,
    pub(super) ice: IceSettings,
    pub(super) with_stun: bool,
}

impl DescriptionTask {
    pub(super) fn new() -> Self {
        let (sender, results) = mpsc::channel(4);
        Self {
            task: None,
            results,
            sender,
        }
    }

    /// The next result. Cancel-safe.
    pub(super) async fn next(&mut self) -> DescriptionResult {
        let result = self.results.recv().await;
        result.expect("the channel is open, because its sender lives in this struct")
    }

    /// Makes a peer connection and its description.
    pub(super) fn start(&mut self, hub: HubClient, request: DescriptionRequest) {
        let sender = self.sender.clone();
        let older = self.task.take();
        if let Some(older) = &older {
            older.abort();
        }
        let work = async move {
            // A peer that sends offer after offer must cost no more than one connection at a time.
            if let Some(older) = older {
                let _ = older.await;
            }
            let DescriptionRequest {
                attempt,
                offer,
                content,
                ice,
                with_stun,
            } = request;
            let content = tokio::time::timeout(ACCEPT_LIMIT, content).await;
            let result = match content {
                Ok(Some(content)) => {
                    let servers = ice_servers(hub, with_stun).await;
                    let described = describe(&ice, &servers, &content, offer).await;
                    described.map(|connection| DescriptionOutcome::Connection(Box::new(connection)))
                }
                Ok(None) | Err(_) => Ok(DescriptionOutcome::Declined),
            };
            let _ = sender.send((attempt, result)).await;
        };
        self.task = Some(tokio::spawn(work.in_current_span()));
    }

    /// Makes another offer over a connection that is up.
    pub(super) fn offer_again(&mut self, attempt: Attempt, peer: Arc<Peer>) {
        let sender = self.sender.clone();
        let work = async move {
            let made = peer.offer().await.map(DescriptionOutcome::Offer);
            let _ = sender.send((attempt, made)).await;
        };
        self.task = Some(tokio::spawn(work.in_current_span()));
    }

    /// Ends the task that runs.
    pub(super) fn abort(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
