//! What runs a model, as the [pool](super::pool) sees it: the workers of this machine, with a detector for each, or servers. A server's
//! model has workers of its own, which mostly wait for answers.

use std::sync::Arc;
use std::time::Duration;

use super::detector::Detector;
use super::remote::{Availability, RemoteFacts, RemoteModel};

/// A model for the pool.
pub(crate) struct PoolModel {
    /// The name by which cameras ask for it.
    pub(crate) name: Arc<str>,
    pub(crate) engine: ModelEngine,
}

/// What runs a model.
pub(crate) enum ModelEngine {
    /// The workers of this machine, each with a detector of its own.
    Local(Vec<Box<dyn Detector>>),
    /// Servers.
    Remote {
        /// What asks them.
        remote: Arc<dyn RemoteEngine>,
        /// The index of the local model that takes its place while none of them can be used.
        fallback: Option<usize>,
    },
}

/// What asks a model's servers: `RemoteModel`, and a fake in the pool's tests.
pub(crate) trait RemoteEngine: Send + Sync {
    /// Makes a detector for one more worker. It costs nothing worth speaking of.
    fn detector(&self) -> Box<dyn Detector>;

    /// Whether any server can be used now.
    fn availability(&self) -> Availability;

    /// How many frames may be under way at once, by what was measured last. At least 1. Whoever asks is to go by it.
    fn slots(&self) -> usize;

    /// How many there may ever be.
    fn max_slots(&self) -> usize;

    /// A frame that is not answered by then is given up.
    fn deadline(&self) -> Duration;

    /// What the API tells of it.
    fn facts(&self) -> RemoteFacts;

    /// Ends what watches the servers.
    fn close(&self);
}

impl RemoteEngine for Arc<RemoteModel> {
    fn detector(&self) -> Box<dyn Detector> {
        RemoteModel::detector(self)
    }

    fn availability(&self) -> Availability {
        RemoteModel::availability(self)
    }

    fn slots(&self) -> usize {
        RemoteModel::slots(self)
    }

    fn max_slots(&self) -> usize {
        self.config().max_in_flight
    }

    fn deadline(&self) -> Duration {
        self.config().deadline
    }

    fn facts(&self) -> RemoteFacts {
        RemoteModel::facts(self)
    }

    fn close(&self) {
        RemoteModel::close(self);
    }
}

impl PoolModel {
    /// The detector of the first worker, or one that asks servers.
    #[cfg(test)]
    pub(crate) fn local(detectors: Vec<Box<dyn Detector>>) -> Self {
        let first = detectors.first().expect("a test gives one at least");
        Self {
            name: Arc::clone(&first.model().name),
            engine: ModelEngine::Local(detectors),
        }
    }
}
