//! The node's ledger over all camera streams that there were. The books of each stream come in; the counters that
//! [`Metrics`](super::Metrics) brings up to date whenever somebody reads them go out.

use prometheus::IntCounter;

use super::register::Register;
use crate::telemetry::ledger::{EventDrop, FrameDrop};
use twinsight_media::ledger::UnitDrop;

/// Adds the counts of a stream to the sums, which are empty before the first stream.
pub(super) fn add(sums: &mut Vec<u64>, books: impl Iterator<Item = u64>) {
    for (at, count) in books.enumerate() {
        match sums.get_mut(at) {
            Some(sum) => *sum += count,
            None => sums.push(count),
        }
    }
}

/// Registers the counters of the node's ledger. They are in the order of the books of [`StreamMetrics`](super::StreamMetrics).
pub(super) fn register(register: &Register<'_>) -> Vec<IntCounter> {
    let plain = |name: &str, help: &str| vec![register.counter(name, help)];
    let by_reason = |name: &str, help: &str, reasons: Vec<&'static str>| -> Vec<IntCounter> {
        let vector = register.counters(name, help, &["reason"]);
        reasons
            .into_iter()
            .map(|reason| vector.with_label_values(&[reason]))
            .collect()
    };
    [
        plain(
            "node_access_units_received_total",
            "Access units of all cameras, those that are gone included",
        ),
        by_reason(
            "node_access_units_dropped_total",
            "Access units of all cameras that gave no frame",
            UnitDrop::ALL.iter().map(|r| r.as_str()).collect(),
        ),
        plain(
            "node_frames_decoded_total",
            "Pictures that the decoders of all cameras gave",
        ),
        by_reason(
            "node_frames_dropped_total",
            "Decoded frames of all cameras that were not inferred",
            FrameDrop::ALL.iter().map(|r| r.as_str()).collect(),
        ),
        plain(
            "node_frames_inferred_total",
            "Frames of all cameras that went through the model",
        ),
        plain(
            "node_events_published_total",
            "Detection events of all cameras written to the hub's socket",
        ),
        by_reason(
            "node_events_dropped_total",
            "Detection events of all cameras that were not published",
            EventDrop::OF_HUB.iter().map(|r| r.as_str()).collect(),
        ),
    ]
    .concat()
}
