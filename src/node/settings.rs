//! Reads the settings of the node's own twin, whenever the hub was joined and at every update of the twin. Twins come in from
//! the hub client, and settings go out as the hub told them to the reload, which checks them.

use std::time::Duration;

use futures_util::FutureExt;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use twinsight_client::hub::{HubClient, HubStatus, TwinUpdates};

/// If the hub did not tell the twin, it is asked again after this time.
const RETRY: Duration = Duration::from_secs(5);

/// Updates of the twin that do not have its settings come in bursts. One read after this time is for all of them.
const SETTLE: Duration = Duration::from_secs(1);

/// Runs until the hub client is closed. `told` holds `None` until the hub has told the twin once. Then it holds the twin's
/// settings, which are null if it has none.
pub(super) async fn run(hub: HubClient, told: watch::Sender<Option<Value>>) {
    let mut status = hub.status();
    let mut updates = hub.twin_updates();
    let mut missed = 0;
    let mut own = None;
    // When the twin is to be read. It is `None` while the hub is not joined.
    let mut read_at: Option<Instant> = None;
    loop {
        let joined = match &*status.borrow_and_update() {
            HubStatus::Joined { twin_id } => Some(twin_id.clone()),
            _ => None,
        };
        if joined != own {
            read_at = joined.is_some().then(Instant::now);
            own = joined;
        }
        let due = async {
            match read_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let settings = tokio::select! {
            changed = status.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
            update = updates.recv() => {
                let Some(update) = update else { return };
                let is_own = own.as_ref() == Some(&update.twin_id);
                let mut newest = own_settings(&own, update);
                newest = newest_waiting(&mut updates, &own).or(newest);
                // An update may be a part of the twin. Only an answer to a question says that there are no settings.
                if newest.is_none() && is_own {
                    read_at = Some(Instant::now() + SETTLE);
                }
                newest
            }
            () = due => {
                let Some(twin_id) = &own else {
                    read_at = None;
                    continue;
                };
                match hub.get_twin(twin_id).await {
                    Ok(mut twin) => {
                        read_at = None;
                        let settings = twin.properties.desired.remove("settings");
                        // Updates that came meanwhile are at least as new as the answer.
                        newest_waiting(&mut updates, &own).or(Some(settings.unwrap_or_default()))
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the node's settings were not read: they are asked for again");
                        read_at = Some(Instant::now() + RETRY);
                        None
                    }
                }
            }
        };
        if updates.missed() != missed {
            missed = updates.missed();
            read_at = own.is_some().then(Instant::now);
        }
        if let Some(settings) = settings {
            told.send_if_modified(|told| {
                let new = told.as_ref() != Some(&settings);
                *told = Some(settings);
                new
            });
        }
    }
}

/// Takes all updates that wait, and returns the settings of the newest one of the own twin.
fn newest_waiting(updates: &mut TwinUpdates, own: &Option<String>) -> Option<Value> {
    let waiting = std::iter::from_fn(|| updates.recv().now_or_never().flatten());
    waiting
        .filter_map(|update| own_settings(own, update))
        .last()
}

fn own_settings(
    own: &Option<String>,
    mut update: twinsight_client::hub::message::TwinUpdate,
) -> Option<Value> {
    let is_own = own.as_ref() == Some(&update.twin_id);
    is_own
        .then(|| update.twin.properties.desired.remove("settings"))
        .flatten()
}
