//! The signals of a link: those of the peer come in, its own go out.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::super::attempt::Role;
use super::super::link_mailbox::{Mailbox, enter};
use super::super::negotiation::Input;
use super::super::signal::{Signal, SignalError, SignalNames};
use super::super::signal_outbox::{Outgoing, SignalOutbox};
use super::super::source_filter::SourceFilter;
use super::super::warnings::allowed;
use super::Link;
use crate::dialect::Dialect;
use crate::hub::message::TwinMessage;
use crate::telemetry::{Malformed, SignalRefusal};

impl Link {
    pub(super) fn names_to(&self, own: &str, other: &str) -> SignalNames {
        let responder = match self.options.role {
            Role::Initiator => other,
            Role::Responder => own,
        };
        SignalNames::new(
            self.options.kind,
            self.options.dialect,
            &self.options.name,
            own,
            other,
            responder,
        )
    }

    /// Opens the mailbox. Signals that come before are lost, so this is done before the first offer goes out.
    pub(super) async fn open_mailbox(&mut self, own_twin: &str) {
        let target = Arc::clone(&self.options.target);
        let names = self.names_to(own_twin, &target);
        let sources = match (self.options.dialect, self.options.role) {
            (Dialect::Legacy, _) => SourceFilter::Anybody,
            (Dialect::Current, Role::Responder) => SourceFilter::Camera {
                camera: Arc::clone(&target),
                or_unsigned: self.options.allow_unsigned.then(|| own_twin.to_owned()),
            },
            (Dialect::Current, Role::Initiator) => SourceFilter::Answering {
                camera: Arc::clone(&target),
                peer_id: self.negotiation.peer_id().map(str::to_owned),
            },
        };
        self.mailbox = Mailbox::in_rooms(&self.hub, names.clone(), sources);
        self.names = Some(names);
        own_twin.clone_into(&mut self.own_twin);
        if self.subscribed {
            return;
        }
        self.subscribed = true;
        let own_room = self.options.own.clone();
        // Signals of the current dialect come to our own room, which the hub client is always in unless it is a peripheral's;
        // those of the legacy dialect come to the room of the twin that answers.
        let needed = self.options.dialect == Dialect::Legacy || own_room.is_some();
        enter(&self.hub, own_room.into_iter().chain([target]), needed).await;
    }

    pub(super) fn message(&mut self, message: &TwinMessage) {
        let Some(names) = &self.names else { return };
        match names.parse(&message.data) {
            Some(Ok(envelope)) => {
                if matches!(envelope.signal, Signal::Offer { .. })
                    && self.options.role == Role::Responder
                {
                    self.reply = Some(self.names_to(&self.own_twin, &message.source_twin_id));
                }
                self.negotiation
                    .handle(Instant::now(), Input::Signal(envelope));
            }
            Some(Err(error)) => {
                self.malformed(malformed(&error), &error);
            }
            None => {}
        }
    }

    pub(super) fn malformed(&self, kind: Malformed, error: &dyn fmt::Display) {
        if let Some(metrics) = self.hub.metrics() {
            metrics.malformed_input(kind);
        }
        if let Some(suppressed) = self.may_say(kind.as_str()) {
            tracing::warn!(%error, suppressed, "a signal of the peer cannot be used and was left out");
        }
    }

    /// `Some` when a warning may be logged now, with the number of those that were suppressed before it. Peers of an acceptor
    /// make up who they are, so all of them share one limit.
    pub(super) fn may_say(&self, what: &'static str) -> Option<u64> {
        match self.mailbox {
            Mailbox::Fed(_) => allowed(what),
            _ => self.warn.allow(what, Instant::now()),
        }
    }

    pub(super) fn refused(&self, reason: SignalRefusal) {
        tracing::debug!(%reason, "a signal was refused");
        if let Some(metrics) = self.hub.metrics() {
            metrics.signal_refused(reason);
        }
    }

    /// Sends a signal on a task of its own: the hub's socket may take seconds, and this task must not wait that long.
    pub(super) fn send(&mut self, outgoing: Outgoing) {
        let (hub, current) = (&self.hub, &self.current_attempt);
        let outbox = self.outbox.get_or_insert_with(|| {
            let hub = hub.clone();
            SignalOutbox::start(Arc::clone(current), move |outgoing| {
                let hub = hub.clone();
                async move {
                    let Outgoing {
                        own, room, data, ..
                    } = outgoing;
                    if let Err(error) = hub.send_as(&own, &room, data).await {
                        tracing::debug!(%error, "a signal was not sent");
                    }
                }
            })
        });
        outbox.send(outgoing);
    }
}

/// The kind of malformed input that a signal is counted as.
pub(in crate::realtime) fn malformed(error: &SignalError) -> Malformed {
    match error {
        SignalError::Candidate => Malformed::Candidate,
        SignalError::Description | SignalError::Sdp(_) => Malformed::Sdp,
        SignalError::Kind | SignalError::PeerId => Malformed::HubMessage,
    }
}
