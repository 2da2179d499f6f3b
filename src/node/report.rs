//! The properties that the node reports to the hub: its version, its models, what is wrong with the settings, and the state
//! of each camera. They are sent when something changed and after the hub returned, at most once in five seconds. A report
//! that failed is sent again.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, watch};

use super::apply::ActiveConfig;
use crate::http::api::CameraFacts;
use twinsight_client::hub::{HubClient, HubStatus};

/// Time between two reports.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long a report waits after a change, until the copy of the cameras' facts has it.
const SETTLE: Duration = Duration::from_secs(1);

/// Runs until it is aborted.
pub(super) async fn run(
    hub: HubClient,
    facts: Arc<Mutex<Vec<CameraFacts>>>,
    mut active_config: watch::Receiver<ActiveConfig>,
    changed: Arc<Notify>,
) {
    let mut status = hub.status();
    let mut reported: Option<Map<String, Value>> = None;
    let mut failed = false;
    loop {
        tokio::select! {
            () = changed.notified() => {}
            // The sender ends with the node, and so does this task.
            Ok(()) = active_config.changed() => {}
            joined = status.changed() => {
                if joined.is_err() {
                    return;
                }
                // The hub may have forgotten what it was told.
                reported = None;
            }
            () = tokio::time::sleep(INTERVAL), if failed => {}
        }
        tokio::time::sleep(SETTLE).await;
        // If the hub is away, it is told when it returns.
        failed = false;
        if !matches!(*status.borrow(), HubStatus::Joined { .. }) {
            continue;
        }
        let properties = properties(&facts.lock(), &active_config.borrow_and_update());
        if reported.as_ref() == Some(&properties) {
            continue;
        }
        match hub.instance().update_reported(properties.clone()).await {
            Ok(_) => reported = Some(properties),
            Err(error) => {
                tracing::debug!(%error, "the node's properties were not reported");
                failed = true;
            }
        }
        tokio::time::sleep(INTERVAL - SETTLE).await;
    }
}

fn properties(facts: &[CameraFacts], active_config: &ActiveConfig) -> Map<String, Value> {
    let cameras: Vec<Value> = facts
        .iter()
        .map(|CameraFacts { status, .. }| json!({"twinId": status.id.twin_id.as_ref(), "stream": status.id.stream.as_ref(), "state": status.state.as_str()}))
        .collect();
    let properties = json!({
        "twinsight": {
            "version": env!("CARGO_PKG_VERSION"),
            "models": active_config.models,
            "cameras": cameras,
            // This is null when all is well, so that a hub that merges reports forgets what was wrong.
            "settingsError": active_config.settings_error,
        },
    });
    match properties {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
