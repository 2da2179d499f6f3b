//! The metrics of models that run on servers. A remote model holds those of its own. A node without such models has none of these
//! series.

use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::register::Register;
use twinsight_media::label_enum;

label_enum! {
    /// What became of a request to a server.
    pub enum RemoteResult {
        /// It was answered, and the answer fits the manifest.
        Ok = "ok",
        /// It was not answered by the deadline.
        Deadline = "deadline",
        /// The server was not reached, or it does not do inference now.
        Unavailable = "unavailable",
        /// The answer is an error, or does not fit the manifest.
        Answer = "answer",
    }
}

/// The upper bounds of what requests take, in seconds.
const DURATIONS: [f64; 11] = [0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 10.0];

/// The metrics that have series for each remote model.
#[derive(Debug)]
pub(super) struct RemoteVectors {
    requests: IntCounterVec,
    request_bytes: IntCounterVec,
    in_flight: IntGaugeVec,
    slots: IntGaugeVec,
    server_ready: IntGaugeVec,
    duration: HistogramVec,
}

/// The metrics of one remote model.
#[derive(Debug)]
pub struct RemoteMetrics {
    servers: Vec<ServerMetrics>,
    duration: Histogram,
    /// Bytes of tensors that were sent.
    pub request_bytes: IntCounter,
    /// Requests that are under way.
    pub in_flight: IntGauge,
    /// Requests that may be under way at once.
    pub slots: IntGauge,
}

#[derive(Debug)]
struct ServerMetrics {
    requests: Vec<IntCounter>,
    ready: IntGauge,
}

impl RemoteVectors {
    pub(super) fn register(register: &Register<'_>) -> Self {
        Self {
            requests: register.counters(
                "remote_requests_total",
                "Requests for inference to servers, by what became of them",
                &["model", "server", "result"],
            ),
            request_bytes: register.counters(
                "remote_request_bytes_total",
                "Bytes of tensors that were sent to servers",
                &["model"],
            ),
            in_flight: register.gauges(
                "remote_in_flight",
                "Requests for inference that are under way",
                &["model"],
            ),
            slots: register.gauges(
                "remote_slots",
                "Requests for inference that may be under way at once, as it was measured",
                &["model"],
            ),
            server_ready: register.gauges(
                "remote_server_ready",
                "1 while the server has the model ready and requests go to it",
                &["model", "server"],
            ),
            duration: register.histograms(
                "remote_request_duration_seconds",
                "How long requests for inference took that were answered",
                &["model"],
                &DURATIONS,
            ),
        }
    }

    /// Makes the series of a model that has these servers.
    pub(super) fn model(&self, model: &str, servers: &[String]) -> RemoteMetrics {
        let server = |server: &String| ServerMetrics {
            requests: RemoteResult::ALL
                .iter()
                .map(|result| {
                    self.requests
                        .with_label_values(&[model, server.as_str(), result.as_str()])
                })
                .collect(),
            ready: self
                .server_ready
                .with_label_values(&[model, server.as_str()]),
        };
        RemoteMetrics {
            servers: servers.iter().map(server).collect(),
            duration: self.duration.with_label_values(&[model]),
            request_bytes: self.request_bytes.with_label_values(&[model]),
            in_flight: self.in_flight.with_label_values(&[model]),
            slots: self.slots.with_label_values(&[model]),
        }
    }
}

impl RemoteMetrics {
    /// Counts a request to the server of this index, which took so long.
    pub fn request(&self, server: usize, result: RemoteResult, took: Duration) {
        if let Some(server) = self.servers.get(server) {
            server.requests[result as usize].inc();
        }
        if matches!(result, RemoteResult::Ok | RemoteResult::Answer) {
            self.duration.observe(took.as_secs_f64());
        }
    }

    /// Says whether requests go to the server of this index.
    pub fn set_ready(&self, server: usize, ready: bool) {
        if let Some(server) = self.servers.get(server) {
            server.ready.set(i64::from(ready));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    #[test]
    fn a_model_has_its_series_from_the_start_and_a_node_without_one_has_none() {
        let metrics = Metrics::new();
        let lines = || {
            let text = metrics.encode();
            let remote = text.lines().filter(|line| line.contains("remote_"));
            remote.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lines(), [""; 0]);
        let model = metrics.remote("net", &["grpc://a:1".to_owned(), "grpc://b:1".to_owned()]);
        model.request(1, RemoteResult::Deadline, Duration::from_secs(1));
        model.request(1, RemoteResult::Ok, Duration::from_millis(25));
        model.set_ready(0, true);
        let labels = "model=\"net\"";
        for series in [
            format!(
                "remote_requests_total{{{labels},result=\"deadline\",server=\"grpc://b:1\"}} 1"
            ),
            format!("remote_requests_total{{{labels},result=\"answer\",server=\"grpc://a:1\"}} 0"),
            format!("remote_server_ready{{{labels},server=\"grpc://a:1\"}} 1"),
            format!("remote_request_duration_seconds_count{{{labels}}} 1"),
            format!("remote_request_duration_seconds_bucket{{{labels},le=\"0.03\"}} 1"),
        ] {
            assert!(
                lines().iter().any(|line| line.contains(&series)),
                "{series}"
            );
        }
    }
}
