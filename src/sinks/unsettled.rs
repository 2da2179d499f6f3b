//! An event that a sink has taken out of its lane and has not counted yet. Whatever becomes of the sink's task, it is counted.

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

    /// The event.
    pub(super) fn event(&self) -> &SinkEvent {
        self.event
            .as_ref()
            .expect("it is there until it is settled, which takes the whole")
    }

    /// Counts what became of it.
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
