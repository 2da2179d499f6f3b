//! Messages between the client and the broker. Each event that was handed to the client is counted exactly once: as published when it
//! was written (quality of service 0) or acknowledged, and as dropped when the broker refuses it, or when the connection
//! ends before.

use bytes::Bytes;
use rumqttc::PublishNotice;

use super::board::Board;
use super::trouble::refusal;
use crate::publish::lane::{SinkEvent, SinkLane};
use crate::telemetry::ledger::EventDrop;

/// An event whose end is not known yet. Dropping it counts it as lost, so that none is forgotten, however a connection ends.
pub(super) struct Unsettled<'a> {
    lane: &'a SinkLane,
    event: Option<SinkEvent>,
}

impl<'a> Unsettled<'a> {
    pub(super) fn new(lane: &'a SinkLane, event: SinkEvent) -> Self {
        Self {
            lane,
            event: Some(event),
        }
    }

    pub(super) fn settle(mut self, result: Result<(), EventDrop>) {
        if let Some(event) = self.event.take() {
            self.lane.settled(event, result);
        }
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        if let Some(event) = self.event.take() {
            self.lane.settled(event, Err(EventDrop::SinkUnreachable));
        }
    }
}

/// What a message is about, for what is done when its end is known.
pub(super) enum Cargo<'a> {
    /// An event of the lane.
    Event(Unsettled<'a>),
    /// A retained message of the board.
    State(&'a Board, Bytes),
    /// A message of the sink itself.
    Own,
}

/// Waits for the end of a message, and gives what the broker said if it refused it.
pub(super) async fn land(
    cargo: Cargo<'_>,
    topic: String,
    notice: PublishNotice,
) -> Option<Refused> {
    let result = notice.wait_completion_async().await;
    let refused = result.as_ref().err().and_then(refusal);
    match cargo {
        Cargo::Event(unsettled) => unsettled.settle(match (&result, &refused) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(_)) => Err(EventDrop::Refused),
            (Err(_), None) => Err(EventDrop::SinkUnreachable),
        }),
        Cargo::State(board, payload) => {
            if result.is_ok() {
                board.taken(&topic, &payload);
            }
        }
        Cargo::Own => {}
    }
    refused.map(|reason| Refused { topic, reason })
}

/// A message that the broker did not take.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) topic: String,
    pub(super) reason: String,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::EventKind;
    use crate::publish::lane::tests::{ledger, offer};
    use crate::telemetry::metrics::Metrics;

    #[tokio::test]
    async fn an_event_whose_connection_ends_is_counted_once() {
        let metrics = Arc::new(Metrics::with_sinks(["home".to_owned()]));
        let lane = SinkLane::new(0, EventKind::ALL.to_vec(), "r", Arc::clone(&metrics));
        for n in 1..=2 {
            offer(&lane, &metrics, Some(n));
        }
        let lost = Unsettled::new(&lane, lane.next().await.unwrap());
        let written = Unsettled::new(&lane, lane.next().await.unwrap());
        assert_eq!(ledger(&metrics).sink_events_in_flight, 2);
        drop(lost);
        written.settle(Ok(()));
        assert!(ledger(&metrics).balances());
        let text = metrics.encode();
        assert!(text.contains(
            "twinsight_events_dropped_total{camera=\"a\",reason=\"sink_unreachable\",sink=\"home\",stream=\"default\"} 1"
        ));
    }
}
