//! What is looked at before a twin is dialled or awaited: its id, the name of the channel or stream, and whether
//! the hub knows it and a relay can be had.

use crate::hub::HubError;
use crate::hub::client::HubClient;

use super::ice::{IceSettings, ServerKind, server_kind, take_out_unusable};

/// The longest twin id and name of a channel or stream, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 256;

/// Why a twin is not dialled.
pub(crate) enum Unreachable {
    /// The hub refuses.
    Hub(HubError),
    /// Not before the deadline, for this reason.
    InTime(&'static str),
    /// Only relays may be used, and there is none; these servers cannot be.
    NoRelay { refused: Vec<String> },
}

/// A subscription for as long as it is looked whether the hub grants one; the link makes its own.
struct Visit {
    hub: HubClient,
    room: String,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let (hub, room) = (self.hub.clone(), std::mem::take(&mut self.room));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { hub.unsubscribe(&room).await });
        }
    }
}

/// What is wrong with a twin's id, if anything is.
pub(crate) fn check_twin(twin_id: &str, own: &str) -> Result<(), &'static str> {
    if twin_id.is_empty() {
        return Err("the twin's id is empty");
    }
    if twin_id.len() > MAX_NAME_BYTES {
        return Err("no twin's id is longer than 256 bytes");
    }
    if twin_id == own {
        return Err("it is this app's own twin");
    }
    Ok(())
}

/// What is wrong with the name of a channel or stream, if anything is.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err("a channel's name has 1 to 256 bytes");
    }
    Ok(())
}

/// Gets the hub's word on a twin before anything is offered to it.
pub(crate) async fn reach(
    hub: &HubClient,
    target: &str,
    deadline: tokio::time::Instant,
    ice: &IceSettings,
) -> Result<(), Unreachable> {
    tokio::time::timeout_at(deadline, hub.joined())
        .await
        .map_err(|_| Unreachable::InTime("the hub is away"))?
        .map_err(Unreachable::Hub)?;
    let visit = Visit {
        hub: hub.clone(),
        room: target.to_owned(),
    };
    tokio::time::timeout_at(deadline, hub.subscribe(&visit.room))
        .await
        .map_err(|_| Unreachable::InTime("the hub does not answer"))?
        .map_err(Unreachable::Hub)?;
    if !ice.relay_only {
        return Ok(());
    }
    // Without an answer in time the attempt itself will tell.
    match tokio::time::timeout_at(deadline, missing_relay(hub)).await {
        Ok(Some(refused)) => Err(Unreachable::NoRelay { refused }),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// The servers that cannot be used, if there is no relay that can.
async fn missing_relay(hub: &HubClient) -> Option<Vec<String>> {
    let mut servers = hub.ice_servers().await;
    let refused = take_out_unusable(&mut servers);
    let usable = servers
        .iter()
        .flat_map(|server| &server.urls)
        .any(|url| server_kind(url) == ServerKind::TurnUdp);
    (!usable).then_some(refused)
}

/// A twin's id as it stands in a sentence.
pub fn shortened(twin_id: &str) -> String {
    twin_id.chars().take(64).collect()
}
