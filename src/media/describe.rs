//! Making one peer connection and its description: ICE servers, sockets and an offer or its answer come
//! in, a connection and its local description go out. A stream's task runs it beside itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::hub::client::HubClient;
use crate::hub::message::IceServer;
use crate::realtime::peer::{IceSettings, Peer, PeerError, PeerEvent};
use crate::realtime::tee::TeeSink;

/// The hub has this long to name ICE servers before an attempt goes on without them.
const ICE_SERVERS_LIMIT: Duration = Duration::from_secs(3);

/// Attempts to make one description, and the pause between two.
const DESCRIBE_TRIES: u32 = 3;
const DESCRIBE_PAUSE: Duration = Duration::from_millis(50);

/// The hub's ICE servers if it gives them soon, else the operator's own. The call goes on and fills
/// the cache for the next attempt. Without STUN only relays are left.
pub(crate) async fn ice_servers(hub: HubClient, with_stun: bool) -> Vec<IceServer> {
    let asked = hub.clone();
    let fetch = tokio::spawn(async move { asked.ice_servers().await });
    let mut servers = match tokio::time::timeout(ICE_SERVERS_LIMIT, fetch).await {
        Ok(Ok(servers)) => servers,
        _ => hub.static_ice_servers(),
    };
    if !with_stun {
        servers.retain_mut(|server| {
            server.urls.retain(|url| !url.starts_with("stun"));
            !server.urls.is_empty()
        });
    }
    servers
}

/// Gives the network's text to the stack on a task of its own: a panic there ends the attempt.
pub(super) async fn guarded(
    work: impl Future<Output = Result<(), PeerError>> + Send + 'static,
) -> Result<(), PeerError> {
    tokio::spawn(work).await.unwrap_or(Err(PeerError::Stack))
}

/// Tries again where only this machine was in the way: the offer is still good.
pub(super) async fn describe(
    ice: &IceSettings,
    servers: &[IceServer],
    sink: &TeeSink,
    offer: Option<String>,
) -> Result<(Peer, mpsc::Receiver<PeerEvent>, String), PeerError> {
    let mut tries = 1;
    loop {
        match describe_once(ice, servers, Arc::clone(sink), offer.clone()).await {
            Err(PeerError::Local { .. } | PeerError::Bind(_)) if tries < DESCRIBE_TRIES => {
                tries += 1
            }
            result => return result,
        }
        tokio::time::sleep(DESCRIBE_PAUSE).await;
    }
}

async fn describe_once(
    ice: &IceSettings,
    servers: &[IceServer],
    sink: TeeSink,
    offer: Option<String>,
) -> Result<(Peer, mpsc::Receiver<PeerEvent>, String), PeerError> {
    let (peer, events) = Peer::new(ice, servers, sink).await?;
    let sdp = match offer {
        None => {
            peer.receive_video().await?;
            peer.offer().await?
        }
        Some(offer) => peer.answer(offer).await?,
    };
    Ok((peer, events, sdp))
}
