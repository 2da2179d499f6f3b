//! Making one peer connection and its description: ICE servers, sockets and an offer or its answer come
//! in, a connection and its local description go out. A link's task runs it beside itself.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::channel::PeerChannel;
use super::ice::{IceSettings, take_out_unusable};
use super::peer::{Peer, PeerError, PeerEvent};
use super::tee::TeeSink;
use crate::hub::client::HubClient;
use crate::hub::message::IceServer;

/// The hub has this long to name ICE servers before an attempt goes on without them.
const ICE_SERVERS_LIMIT: Duration = Duration::from_secs(3);

/// Attempts to make one description, and the pause between two.
const DESCRIBE_TRIES: u32 = 3;
const DESCRIBE_PAUSE: Duration = Duration::from_millis(50);

/// What a connection is made for.
#[derive(Clone)]
pub(crate) enum Content {
    /// Video that is received: packets go to the sink.
    Video(TeeSink),
    /// A data channel.
    Messages {
        /// What the initiator calls it.
        label: String,
        /// See [`Peer::for_messages`].
        high_water_bytes: usize,
    },
}

/// A connection whose local description is ready.
pub(crate) struct Description {
    pub(crate) peer: Peer,
    pub(crate) events: mpsc::Receiver<PeerEvent>,
    /// The channel that the offer opens.
    pub(crate) channel: Option<PeerChannel>,
    pub(crate) sdp: String,
}

/// The hub's ICE servers if it gives them soon, else the operator's own. The call goes on and fills
/// the cache for the next attempt. Without STUN only relays are left. What the stack cannot use is left
/// out and named in the log.
pub(crate) async fn ice_servers(hub: HubClient, with_stun: bool) -> Vec<IceServer> {
    let asked = hub.clone();
    let fetch = tokio::spawn(async move { asked.ice_servers().await });
    let mut servers = match tokio::time::timeout(ICE_SERVERS_LIMIT, fetch).await {
        Ok(Ok(servers)) => servers,
        _ => hub.static_ice_servers(),
    };
    let refused = take_out_unusable(&mut servers);
    if !refused.is_empty()
        && let Some(suppressed) = hub.warn_about("ICE servers", Instant::now())
    {
        tracing::warn!(
            servers = refused.join(" "),
            suppressed,
            "the WebRTC stack of this build has neither TURN over TCP or TLS nor STUN over TLS: these servers are not used; \
             offer TURN over UDP"
        );
    }
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
    content: &Content,
    offer: Option<String>,
) -> Result<Description, PeerError> {
    let mut tries = 1;
    loop {
        match describe_once(ice, servers, content.clone(), offer.clone()).await {
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
    content: Content,
    offer: Option<String>,
) -> Result<Description, PeerError> {
    let (peer, events, label) = match content {
        Content::Video(sink) => {
            let (peer, events) = Peer::new(ice, servers, sink).await?;
            (peer, events, None)
        }
        Content::Messages {
            label,
            high_water_bytes,
        } => {
            let (peer, events) = Peer::for_messages(ice, servers, high_water_bytes).await?;
            (peer, events, Some(label))
        }
    };
    let mut channel = None;
    let sdp = match (offer, label) {
        (None, Some(label)) => {
            channel = Some(peer.create_channel(&label).await?);
            peer.offer().await?
        }
        (None, None) => {
            peer.receive_video().await?;
            peer.offer().await?
        }
        (Some(offer), _) => peer.answer(offer).await?,
    };
    Ok(Description {
        peer,
        events,
        channel,
        sdp,
    })
}
