//! The peer connections of a link: made, watched and closed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::super::attempt::{Attempt, EndReason, Role};
use super::super::description_task::{DescriptionOutcome, DescriptionRequest, DescriptionResult};
use super::super::negotiation::Input;
use super::super::peer::{Peer, PeerError, PeerEvent};
use super::super::sdp::Description;
use super::super::signal::ChannelKind;
use super::super::socket::{says_out_of_files, why_unbound};
use super::{Link, LinkEvent};
use crate::dialect::Dialect;
use crate::telemetry::{Malformed, SignalRefusal};

/// At most this many replaced connections of the legacy dialect are left open; see [`Link::close_peer`].
const MAX_REPLACED_PEERS: usize = 2;

/// Closing a connection may take this long; then it goes on in the background.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// The peer connection of the current attempt.
pub(super) struct Connection {
    pub(super) attempt: Attempt,
    pub(super) peer: Arc<Peer>,
    pub(super) events: mpsc::Receiver<PeerEvent>,
}

impl Link {
    pub(super) fn peer_event(&mut self, event: Option<PeerEvent>) {
        let Some(attempt) = self
            .connection
            .as_ref()
            .map(|connection| connection.attempt)
        else {
            return;
        };
        let input = match event {
            Some(PeerEvent::Candidate(candidate)) => Input::LocalCandidate(attempt, candidate),
            Some(PeerEvent::Connected) => Input::Connected(attempt),
            Some(PeerEvent::Channel(channel)) => {
                return self.events.push_back(LinkEvent::Channel(attempt, channel));
            }
            // Only the initiator of a data channel acts on this at once. The owner of a stream sees by its frames whether the
            // path is dead, and a responder waits for its peer to offer anew.
            Some(PeerEvent::Disconnected)
                if self.options.kind == ChannelKind::Data
                    && self.options.role == Role::Initiator =>
            {
                Input::Ended(attempt, EndReason::Lost)
            }
            Some(PeerEvent::Disconnected) => {
                return self.events.push_back(LinkEvent::Disconnected);
            }
            Some(PeerEvent::Ended) | None => Input::Ended(attempt, EndReason::Lost),
        };
        self.negotiation.handle(Instant::now(), input);
    }

    /// Makes a peer connection and its description beside this task, which goes on with its signals.
    pub(super) fn describe(&mut self, attempt: Attempt, offer: Option<Description>) {
        self.current_attempt.store(attempt.0, Ordering::Release);
        let request = DescriptionRequest {
            attempt,
            content: (self.content)(attempt, offer.as_ref()),
            offer,
            ice: self.options.ice.clone(),
            with_stun: self.negotiation.with_stun(),
        };
        self.descriptions.start(self.hub.clone(), request);
    }

    pub(super) async fn described(&mut self, (attempt, result): DescriptionResult) {
        let now = Instant::now();
        match result {
            Ok(DescriptionOutcome::Offer(sdp)) => {
                self.negotiation.handle(now, Input::Described(attempt, sdp))
            }
            Ok(DescriptionOutcome::Declined) => {
                tracing::debug!("an offer was not accepted");
                let input = Input::Ended(attempt, EndReason::Declined);
                self.negotiation.handle(now, input);
            }
            Ok(DescriptionOutcome::Connection(description)) => {
                if self.current_attempt.load(Ordering::Acquire) != attempt.0 {
                    // A newer attempt has replaced it while it was being made.
                    return say_goodbye(&description.peer).await;
                }
                self.count_candidates(&description.peer);
                self.connection = Some(Connection {
                    attempt,
                    peer: Arc::new(description.peer),
                    events: description.events,
                });
                if !description.senders.is_empty() {
                    let senders = LinkEvent::Senders(attempt, description.senders);
                    self.events.push_back(senders);
                }
                if let Some(channel) = description.channel {
                    self.events.push_back(LinkEvent::Channel(attempt, channel));
                }
                self.negotiation
                    .handle(now, Input::Described(attempt, description.sdp));
            }
            Err(error) => {
                let reason = self.reason_of(&error);
                if let Some(suppressed) = self.may_say(reason.as_str()) {
                    tracing::warn!(%error, suppressed, "an attempt to connect failed");
                }
                self.negotiation.handle(now, Input::Ended(attempt, reason));
            }
        }
    }

    pub(super) fn reason_of(&self, error: &PeerError) -> EndReason {
        match error {
            PeerError::NoCodec { .. }
            | PeerError::NotTaken(_)
            | PeerError::NoDataChannels
            | PeerError::Stack => EndReason::Unusable,
            PeerError::Remote { .. } | PeerError::Unusable(_) => {
                self.malformed(Malformed::Sdp, error);
                EndReason::Unusable
            }
            PeerError::Local { source, .. } if says_out_of_files(source) => EndReason::NoFiles,
            PeerError::Local { .. } | PeerError::Own(_) => EndReason::Local,
            PeerError::Candidate | PeerError::TooManyCandidates => EndReason::Unusable,
            PeerError::Bind(error) => why_unbound(error),
        }
    }

    /// Closes the connection of the attempt that is over.
    ///
    /// An npm 4.x client that dials offers twice after a loss. It takes the end of the connection that its second offer has
    /// replaced for another loss and so begins anew for ever. A connection that such a client has replaced therefore stays open
    /// until [`MAX_REPLACED_PEERS`] newer ones were replaced too.
    pub(super) async fn close_peer(&mut self, reason: EndReason) {
        let Some(peer) = self.closing_peer.take() else {
            return;
        };
        let is_npm =
            self.options.dialect == Dialect::Legacy && self.options.kind == ChannelKind::Data;
        let over = if is_npm && reason == EndReason::Replaced {
            self.replaced_peers.push_back(peer);
            if self.replaced_peers.len() <= MAX_REPLACED_PEERS {
                return;
            }
            self.replaced_peers.pop_front()
        } else {
            Some(peer)
        };
        if let Some(peer) = over {
            say_goodbye(&peer).await;
        }
    }

    /// Counts the candidates that were left out of the other side's description.
    pub(super) fn count_candidates(&self, peer: &Peer) {
        let left_out = peer.take_candidates_left_out();
        let Some(metrics) = self.hub.metrics() else {
            return;
        };
        for _ in 0..left_out.overflowed {
            metrics.signal_refused(SignalRefusal::Overflow);
        }
        for _ in 0..left_out.malformed {
            metrics.malformed_input(Malformed::Candidate);
        }
    }

    pub(super) fn peer_of(&self, attempt: Attempt) -> Option<Arc<Peer>> {
        self.connection
            .as_ref()
            .filter(|connection| connection.attempt == attempt)
            .map(|connection| Arc::clone(&connection.peer))
    }
}

/// Says goodbye to a connection's other side and closes it.
pub(super) async fn say_goodbye(peer: &Peer) {
    // On a timeout the peer's `Drop` goes on in the background.
    let _ = tokio::time::timeout(CLOSE_LIMIT, peer.close()).await;
}

pub(super) async fn next_event(connection: Option<&mut Connection>) -> Option<PeerEvent> {
    match connection {
        Some(connection) => connection.events.recv().await,
        None => std::future::pending().await,
    }
}
