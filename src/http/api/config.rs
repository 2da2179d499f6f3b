//! What `/api/config` says: the configuration in force with where each value came from, and what was refused last.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::Value;

use super::node::unix_ms;

/// The configuration in force, as the node hands it over.
#[derive(Debug, Clone, Default)]
pub struct ConfigFacts {
    /// Every key with its value and where that came from. Secrets are left out.
    pub in_force: Arc<Value>,
    /// When it was applied.
    pub applied_at: Option<SystemTime>,
    /// What was refused since, and not taken back.
    pub last_refusal: Option<ConfigRefusal>,
}

/// A configuration that was refused. The one before stays in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRefusal {
    /// When.
    pub at: SystemTime,
    /// `file` or `hub`.
    pub source: &'static str,
    /// What is wrong with it, and what to do.
    pub reason: String,
}

/// The JSON of a refusal.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RefusalView {
    at: u64,
    source: &'static str,
    reason: String,
}

/// The JSON of the configuration.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConfigView {
    in_force: Value,
    applied_at: Option<u64>,
    last_refusal: Option<RefusalView>,
}

impl From<ConfigRefusal> for RefusalView {
    fn from(refusal: ConfigRefusal) -> Self {
        Self {
            at: unix_ms(refusal.at),
            source: refusal.source,
            reason: refusal.reason,
        }
    }
}

impl From<ConfigFacts> for ConfigView {
    fn from(facts: ConfigFacts) -> Self {
        Self {
            in_force: Value::clone(&facts.in_force),
            applied_at: facts.applied_at.map(unix_ms),
            last_refusal: facts.last_refusal.map(RefusalView::from),
        }
    }
}
