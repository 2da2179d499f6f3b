//! The metrics of the sinks beside the hub. A sink's task holds those of its sink.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
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
        /// The camera is another node's, or it is not sure that it is this one's.
        NotHeld = "not_held",
    }
}

impl SinkResult {
    /// The result that stands for a reason.
    pub fn of(reason: EventDrop) -> Self {
        match reason {
            EventDrop::OutboxFull => Self::OutboxFull,
            EventDrop::Stale => Self::Stale,
            EventDrop::Refused | EventDrop::Suppressed => Self::Refused,
            EventDrop::NotHeld => Self::NotHeld,
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
    published: AtomicU64,
    dropped: AtomicU64,
    /// Why events are not taken, with what to do. `None` while they are.
    trouble: Mutex<Option<String>>,
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
                trouble: Mutex::default(),
                published: AtomicU64::new(0),
                dropped: AtomicU64::new(0),
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

    /// The events of all types that the sink took.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// The events of all types that were for the sink and were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Notes why the sink takes no events, or that it does again.
    pub fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock() = trouble;
    }

    /// Why the sink takes no events.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// Counts what became of an event of this type.
    pub fn event(&self, event_type: &str, result: SinkResult) {
        let sum = match result {
            SinkResult::Published => &self.published,
            SinkResult::OutboxFull
            | SinkResult::Unreachable
            | SinkResult::Stale
            | SinkResult::Refused
            | SinkResult::NotHeld => &self.dropped,
        };
        sum.fetch_add(1, Ordering::Relaxed);
        self.events
            .with_label_values(&[self.name.as_str(), event_type, result.as_str()])
            .inc();
    }
}
