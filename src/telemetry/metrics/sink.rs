//! The metrics of the sinks beside the hub. A sink's task holds those of its sink.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::register::Register;
use crate::telemetry::ledger::EventDrop;
use twinsight_media::label_enum;

/// How the hub is called where sinks have names.
pub(super) const HUB: &str = "hub";

/// How the sink is called that takes the hub's place where there is no hub: those who watch by HTTP.
pub(super) const LOCAL: &str = "local";

label_enum! {
    /// What became of an event for a sink.
    pub enum SinkResult {
        /// The sink took it.
        Published = "published",
        /// A newer event took its place in the outbox.
        OutboxFull = "outbox_full",
        /// The sink is not reached.
        Unreachable = "sink_unreachable",
        /// It was too old when the sink could have taken it.
        Stale = "stale",
        /// The sink does not want it.
        Refused = "refused",
    }
}

impl SinkResult {
    /// The result that stands for a reason.
    pub fn of(reason: EventDrop) -> Self {
        match reason {
            EventDrop::OutboxFull => Self::OutboxFull,
            EventDrop::Stale => Self::Stale,
            EventDrop::Refused | EventDrop::Suppressed => Self::Refused,
            EventDrop::SinkUnreachable | EventDrop::HubDisconnected | EventDrop::Failed => {
                Self::Unreachable
            }
        }
    }
}

/// The metrics that have a series for each sink.
#[derive(Debug)]
pub(super) struct SinkVectors {
    connected: IntGaugeVec,
    reconnects: IntCounterVec,
    events: IntCounterVec,
}

/// The metrics of one sink.
#[derive(Debug)]
pub struct SinkMetrics {
    name: String,
    events: IntCounterVec,
    /// 1 while the sink is reached.
    pub connected: IntGauge,
    /// Times the sink was reached again after it had gone.
    pub reconnects: IntCounter,
}

impl SinkVectors {
    pub(super) fn register(register: &Register<'_>) -> Self {
        Self {
            connected: register.gauges(
                "sink_connected",
                "1 while a sink beside the hub is reached",
                &["sink"],
            ),
            reconnects: register.counters(
                "sink_reconnects_total",
                "Times a sink was reached again after it had gone",
                &["sink"],
            ),
            events: register.counters(
                "sink_events_total",
                "Events of all types for a sink beside the hub, by what became of them",
                &["sink", "type", "result"],
            ),
        }
    }

    pub(super) fn of(self, names: impl IntoIterator<Item = String>) -> Vec<SinkMetrics> {
        names
            .into_iter()
            .map(|name| SinkMetrics {
                connected: self.connected.with_label_values(&[&name]),
                reconnects: self.reconnects.with_label_values(&[&name]),
                events: self.events.clone(),
                name,
            })
            .collect()
    }
}

impl SinkMetrics {
    /// The sink's name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts what became of an event of this type.
    pub fn event(&self, event_type: &str, result: SinkResult) {
        self.events
            .with_label_values(&[self.name.as_str(), event_type, result.as_str()])
            .inc();
    }
}
