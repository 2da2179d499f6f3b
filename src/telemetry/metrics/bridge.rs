//! The metrics of bridges, each of which makes a twin of a camera that is none. A bridge's tasks hold those of its stream. A node
//! without bridges has none of these series.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::register::Register;
use twinsight_client::stream_id::StreamId;
use twinsight_client::telemetry::CameraState;

/// The states that a bridge can be in.
const STATES: &[CameraState] = &[
    CameraState::Connecting,
    CameraState::Receiving,
    CameraState::Stalled,
    CameraState::Unreachable,
    CameraState::Rejected,
];

/// The metrics that have a series for each bridged stream.
#[derive(Debug)]
pub(super) struct BridgeVectors {
    // `remove` must take off the series of each.
    units_received: IntCounterVec,
    units_dropped: IntCounterVec,
    state: IntGaugeVec,
    reconnects: IntCounterVec,
    viewers: IntGaugeVec,
    restarts: IntCounterVec,
}

/// The metrics of one bridged stream.
#[derive(Debug)]
pub struct BridgeMetrics {
    id: StreamId,
    units_dropped: IntCounterVec,
    drop_reasons: Vec<&'static str>,
    state: Vec<IntGauge>,
    /// Access units that the camera sent and that were passed on.
    pub units_received: IntCounter,
    /// Times the camera was asked again.
    pub reconnects: IntCounter,
    /// Connections that carry the camera's pictures now.
    pub viewers: IntGauge,
    /// Times the bridge was begun anew after a panic.
    pub restarts: IntCounter,
}

impl BridgeVectors {
    pub(super) fn register(register: &Register<'_>) -> Self {
        let stream = &["camera", "stream"];
        Self {
            units_received: register.counters(
                "bridge_units_received_total",
                "Access units of a bridged camera that were passed on",
                stream,
            ),
            units_dropped: register.counters(
                "bridge_units_dropped_total",
                "Access units of a bridged camera that were not passed on",
                &["camera", "stream", "reason"],
            ),
            state: register.gauges(
                "bridge_state",
                "1 for the state the bridge of a camera is in",
                &["camera", "stream", "state"],
            ),
            reconnects: register.counters(
                "bridge_reconnects_total",
                "Times a bridged camera was asked again for its pictures",
                stream,
            ),
            viewers: register.gauges(
                "bridge_viewers",
                "Connections that carry the pictures of a bridged camera",
                stream,
            ),
            restarts: register.counters(
                "bridge_restarts_total",
                "Times the bridge of a camera was begun anew after a panic",
                stream,
            ),
        }
    }

    /// Makes the series of a stream. `drop_reasons` are all values that the label `reason` can have.
    pub(super) fn stream(&self, id: &StreamId, drop_reasons: &[&'static str]) -> BridgeMetrics {
        let labels = [id.twin_id.as_ref(), id.stream.as_ref()];
        let with = |third| [labels[0], labels[1], third];
        for reason in drop_reasons {
            self.units_dropped.with_label_values(&with(reason));
        }
        BridgeMetrics {
            id: id.clone(),
            units_dropped: self.units_dropped.clone(),
            drop_reasons: drop_reasons.to_vec(),
            state: STATES
                .iter()
                .map(|state| self.state.with_label_values(&with(state.as_str())))
                .collect(),
            units_received: self.units_received.with_label_values(&labels),
            reconnects: self.reconnects.with_label_values(&labels),
            viewers: self.viewers.with_label_values(&labels),
            restarts: self.restarts.with_label_values(&labels),
        }
    }

    /// Takes the series of a stream off the list.
    pub(super) fn remove(&self, stream: &BridgeMetrics) {
        let id = &stream.id;
        let labels = [id.twin_id.as_ref(), id.stream.as_ref()];
        let with = |third| [labels[0], labels[1], third];
        // An error means that there is no such series, which is fine.
        let _ = self.units_received.remove_label_values(&labels);
        let _ = self.reconnects.remove_label_values(&labels);
        let _ = self.viewers.remove_label_values(&labels);
        let _ = self.restarts.remove_label_values(&labels);
        for reason in &stream.drop_reasons {
            let _ = self.units_dropped.remove_label_values(&with(reason));
        }
        for state in STATES {
            let _ = self.state.remove_label_values(&with(state.as_str()));
        }
    }
}

impl BridgeMetrics {
    /// Counts units that were not passed on, for one of the reasons that the series were made with.
    pub fn units_dropped(&self, reason: &'static str, count: u64) {
        let (twin, stream) = (self.id.twin_id.as_ref(), self.id.stream.as_ref());
        self.units_dropped
            .with_label_values(&[twin, stream, reason])
            .inc_by(count);
    }

    /// Sets the state of the bridge.
    pub fn set_state(&self, state: CameraState) {
        for (gauge, each) in self.state.iter().zip(STATES) {
            gauge.set(i64::from(*each == state));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    #[test]
    fn the_series_of_a_bridge_are_there_as_long_as_it_is_configured() {
        let metrics = Metrics::new();
        let id = StreamId::new("cam-1", "default");
        let lines = || {
            let text = metrics.encode();
            let bridges = text.lines().filter(|line| line.contains("bridge"));
            bridges.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lines(), [""; 0]);
        let bridge = metrics.bridge(&id, &["packets_lost"]);
        bridge.units_received.inc();
        bridge.units_dropped("packets_lost", 2);
        bridge.set_state(CameraState::Receiving);
        let labels = "camera=\"cam-1\"";
        for series in [
            format!("bridge_state{{{labels},state=\"receiving\",stream=\"default\"}} 1"),
            format!("bridge_state{{{labels},state=\"connecting\",stream=\"default\"}} 0"),
            format!("units_dropped_total{{{labels},reason=\"packets_lost\",stream=\"default\"}} 2"),
        ] {
            assert!(
                lines().iter().any(|line| line.contains(&series)),
                "{series}"
            );
        }
        assert_eq!(
            metrics.bridge(&id, &["packets_lost"]).units_received.get(),
            1
        );
        metrics.forget_bridge(&id);
        assert_eq!(lines(), [""; 0]);
    }
}
