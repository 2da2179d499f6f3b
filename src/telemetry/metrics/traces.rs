//! What becomes of the traces of sampled frames.

use prometheus::IntCounter;

use super::register::Register;
use twinsight_media::label_enum;

label_enum! {
    /// Why a trace was not delivered.
    pub enum TraceDrop {
        /// Newer ones took its place while the collector did not take any.
        QueueFull = "queue_full",
        /// The collector does not want it.
        Refused = "refused",
        /// The node ended before it was delivered.
        Shutdown = "shutdown",
    }
}

/// What became of the traces of sampled frames.
#[derive(Debug)]
pub struct TraceMetrics {
    /// Traces that the collector took.
    pub exported: IntCounter,
    dropped: Vec<IntCounter>,
}

impl TraceMetrics {
    pub(super) fn register(register: &Register<'_>) -> Self {
        let dropped = register.counters(
            "traces_dropped_total",
            "Traces of sampled frames that were not delivered",
            &["reason"],
        );
        Self {
            exported: register.counter(
                "traces_exported_total",
                "Traces of sampled frames that the collector took",
            ),
            dropped: TraceDrop::ALL
                .iter()
                .map(|reason| dropped.with_label_values(&[reason.as_str()]))
                .collect(),
        }
    }

    /// Counts traces that were not delivered.
    pub fn dropped(&self, reason: TraceDrop, count: u64) {
        self.dropped[reason as usize].inc_by(count);
    }
}
