//! What `/api/config` says: the configuration in force with where each value came from, and what was refused last.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use crate::clock::unix_ms;
use crate::config::{ConfigInForce, Refusal};

/// The configuration in force, as the node hands it over.
#[derive(Debug, Clone, Default)]
pub struct ConfigFacts {
    /// Every key with its value and where that came from. Secrets are left out.
    pub in_force: Arc<ConfigInForce>,
    /// When it was applied. `None` before the first one is.
    pub applied_at: Option<SystemTime>,
    /// What was refused last, until the same source is good again.
    pub last_refusal: Option<Refusal>,
}

/// The JSON of the configuration.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConfigView<'a> {
    in_force: &'a ConfigInForce,
    applied_at: Option<u64>,
    last_refusal: Option<&'a Refusal>,
}

impl ConfigFacts {
    pub(crate) fn view(&self) -> ConfigView<'_> {
        ConfigView {
            in_force: &self.in_force,
            applied_at: self.applied_at.map(unix_ms),
            last_refusal: self.last_refusal.as_ref(),
        }
    }
}
