//! The traces of the node. The configuration comes in, and the publisher gets the tracer, if there is to be one. The node ends
//! its task after the publisher.

use std::sync::Arc;

use anyhow::Result;

use crate::config::Config;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::Tracer;
use twinsight_client::hub::HubClient;

/// At the node's end, traces that wait have this long to be sent.
#[cfg(feature = "otlp")]
const TRACES_LIMIT: std::time::Duration = std::time::Duration::from_secs(1);

/// The tracer and the task that sends its traces. In a build without the feature `otlp` there is neither.
#[derive(Debug)]
pub(super) struct Traces {
    pub(super) tracer: Option<Tracer>,
    #[cfg(feature = "otlp")]
    task: Option<crate::telemetry::traces::TraceTask>,
}

impl Traces {
    /// Starts the task if the configuration names a collector.
    #[cfg(feature = "otlp")]
    pub(super) fn start(
        config: &Config,
        hub: Option<&HubClient>,
        run_id: &str,
        metrics: &Arc<Metrics>,
        health: &Health,
    ) -> Result<Self> {
        use crate::telemetry::traces::{CollectorOptions, TraceOptions};
        use twinsight_client::hub::Instance;

        let telemetry = &config.telemetry;
        let Some(endpoint) = telemetry.otlp_endpoint.clone() else {
            return Ok(Self {
                tracer: None,
                task: None,
            });
        };
        let sample_ratio = telemetry.trace_sample_ratio;
        tracing::info!(endpoint, sample_ratio, "frames are traced");
        let instance = hub.map(HubClient::instance);
        let options = TraceOptions {
            collector: CollectorOptions {
                endpoint,
                headers: telemetry.otlp_headers.clone(),
                ca_file: telemetry.otlp_ca_file.clone(),
            },
            sample_ratio,
            run_id: run_id.to_owned(),
            twin_id: Box::new(move || {
                // Without a hub the node has no twin.
                let instance = instance.as_ref();
                instance.map_or_else(String::new, Instance::twin_id)
            }),
        };
        let (tracer, task) = Tracer::spawn(options, Arc::clone(metrics), health)?;
        Ok(Self {
            tracer: Some(tracer),
            task: Some(task),
        })
    }

    /// Starts nothing, since this build traces nothing.
    #[cfg(not(feature = "otlp"))]
    #[expect(clippy::unnecessary_wraps, reason = "builds that trace may fail here")]
    pub(super) fn start(
        _: &Config,
        _: Option<&HubClient>,
        _: &str,
        _: &Arc<Metrics>,
        _: &Health,
    ) -> Result<Self> {
        Ok(Self { tracer: None })
    }

    /// Sends what waits, within a limit.
    pub(super) async fn shutdown(self) {
        #[cfg(feature = "otlp")]
        if let Some(task) = self.task {
            task.shutdown(TRACES_LIMIT).await;
        }
    }
}
