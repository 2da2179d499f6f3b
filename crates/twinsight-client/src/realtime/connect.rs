//! Makes one peer connection and its local description. ICE servers, the content that the connection is for, and for an answer
//! the other side's offer come in; a [`DescribedConnection`] goes out. A `DescriptionTask` runs it beside the task of the link.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::channel::PeerChannel;
use super::codecs;
use super::ice::{IceSettings, shown_url, take_out_unusable};
use super::peer::{MediaSetup, Peer, PeerError, PeerEvent, check_media};
use super::rtp_tap::RtpSink;
use super::rtp_track::{SentTrack, TrackKind, TrackSender};
use super::sdp::Description;
use super::warnings::allowed;
use crate::hub::client::HubClient;
use crate::hub::message::IceServer;
use twinsight_media::codec::Codec;

/// The hub has this long to name ICE servers; then an attempt goes on with those of the configuration.
const ICE_SERVERS_LIMIT: Duration = Duration::from_secs(3);

/// A description is tried this often while only this machine is in the way.
const DESCRIBE_TRIES: u32 = 3;
/// The pause between two tries.
const DESCRIBE_PAUSE: Duration = Duration::from_millis(50);

/// What a connection is to carry.
#[derive(Clone)]
pub(crate) enum ConnectionContent {
    /// Tracks.
    Media(MediaContent),
    /// A data channel.
    Messages {
        /// The label with which the initiator opens the channel.
        label: String,
        /// See [`Peer::for_messages`].
        high_water_bytes: usize,
    },
}

/// The tracks of a connection.
#[derive(Clone)]
pub(crate) struct MediaContent {
    /// Takes the packets and reports that come.
    pub(crate) sink: RtpSink,
    /// The video codecs that are received, the preferred first.
    pub(crate) codecs: Vec<Codec>,
    /// The kinds of tracks that are received.
    pub(crate) receives: Vec<TrackKind>,
    /// The tracks that are sent.
    pub(crate) sends: Vec<SentTrack>,
}

impl MediaContent {
    fn sends(&self, kind: TrackKind) -> bool {
        self.sends.iter().any(|track| track.kind == kind)
    }

    fn carries(&self, kind: TrackKind) -> bool {
        self.receives.contains(&kind) || self.sends(kind)
    }

    /// What the stack is to offer or answer. An answer names one codec of the offer's, so that it is clear which one comes.
    fn setup(&self, offer: Option<&Description>) -> Result<MediaSetup, PeerError> {
        let audio = self.carries(TrackKind::Audio);
        let mut video = if self.receives.contains(&TrackKind::Video) {
            self.codecs.clone()
        } else {
            Vec::new()
        };
        if self.sends(TrackKind::Video) && !video.contains(&Codec::H264) {
            video.push(Codec::H264);
        }
        if let Some(offer) = offer {
            check_media(offer, &video, audio)?;
            video = offer.usable_video(&video);
            // One section has one codec for both directions, and pictures leave as H.264.
            match video.iter().find(|codec| **codec == Codec::H264) {
                Some(h264) if self.sends(TrackKind::Video) => video = vec![*h264],
                _ => video.truncate(1),
            }
        }
        Ok(MediaSetup {
            sink: self.sink.clone(),
            video,
            audio,
            receives: !self.receives.is_empty(),
            sent_profile: self.sends.iter().find_map(|track| track.profile),
        })
    }

    /// Adds the tracks that are sent to the connection, and for an offer the sections that only receive; those of an answer
    /// are the offer's. Gives the sender of each track, or none for a track that the offer has no section for: the others are
    /// sent all the same.
    async fn add_to(
        &self,
        peer: &Peer,
        offer: Option<&Description>,
    ) -> Result<Vec<Option<TrackSender>>, PeerError> {
        let mut senders = Vec::new();
        for SentTrack { kind, id, .. } in &self.sends {
            if offer.is_none_or(|offer| codecs::takes(offer, *kind)) {
                senders.push(Some(peer.send(*kind, id).await?));
            } else {
                let error = PeerError::NotTaken(*kind);
                if let Some(suppressed) = allowed("a track is not sent") {
                    tracing::warn!(%error, suppressed, "a track is not sent");
                }
                senders.push(None);
            }
        }
        if offer.is_some() {
            return Ok(senders);
        }
        if self.receives.is_empty() {
            peer.send_only().await?;
        }
        for kind in TrackKind::ALL {
            if self.receives.contains(&kind) && !self.sends(kind) {
                peer.receive(kind).await?;
            }
        }
        Ok(senders)
    }
}

/// A connection whose local description is ready.
pub(crate) struct DescribedConnection {
    pub(crate) peer: Peer,
    pub(crate) events: mpsc::Receiver<PeerEvent>,
    /// The channel that the offer opens.
    pub(crate) channel: Option<PeerChannel>,
    /// The senders of its tracks, in the order of [`MediaContent::sends`].
    pub(crate) senders: Vec<Option<TrackSender>>,
    pub(crate) sdp: Description,
}

/// Gives the hub's ICE servers, or those of the operator if the hub does not answer in time; its late answer fills the cache for
/// the next attempt. Without `with_stun` only relays are given. Servers that the stack cannot use are left out, and a warning
/// names them.
pub(super) async fn ice_servers(hub: HubClient, with_stun: bool) -> Vec<IceServer> {
    let asked = hub.clone();
    let fetch = tokio::spawn(async move { asked.ice_servers().await });
    let mut servers = match tokio::time::timeout(ICE_SERVERS_LIMIT, fetch).await {
        Ok(Ok(servers)) => servers,
        _ => hub.static_ice_servers(),
    };
    let refused = take_out_unusable(&mut servers);
    let shown: Vec<String> = refused.iter().map(|url| shown_url(url)).collect();
    if !refused.is_empty()
        && let Some(suppressed) = hub.warn_about("ICE servers", Instant::now())
    {
        tracing::warn!(
            servers = shown.join(" "),
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

/// Runs work that gives the other side's text to the stack on a task of its own, so that a panic of the stack ends one attempt
/// and not the task of the link.
pub(super) async fn guarded(
    work: impl Future<Output = Result<(), PeerError>> + Send + 'static,
) -> Result<(), PeerError> {
    tokio::spawn(work).await.unwrap_or(Err(PeerError::Stack))
}

/// Makes a connection and its description. It is tried again where only this machine was in the way, since the offer is still
/// good.
pub(super) async fn describe(
    ice: &IceSettings,
    servers: &[IceServer],
    content: &ConnectionContent,
    offer: Option<Description>,
) -> Result<DescribedConnection, PeerError> {
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
    content: ConnectionContent,
    offer: Option<Description>,
) -> Result<DescribedConnection, PeerError> {
    let (mut channel, mut senders) = (None, Vec::new());
    let (peer, events) = match content {
        ConnectionContent::Media(content) => {
            let setup = content.setup(offer.as_ref())?;
            let (peer, events) = Peer::for_media(ice, servers, setup).await?;
            senders = content.add_to(&peer, offer.as_ref()).await?;
            (peer, events)
        }
        ConnectionContent::Messages {
            label,
            high_water_bytes,
        } => {
            let (peer, events) = Peer::for_messages(ice, servers, high_water_bytes).await?;
            if offer.is_none() {
                channel = Some(peer.create_channel(&label).await?);
            }
            (peer, events)
        }
    };
    let sdp = match offer {
        Some(offer) => peer.answer(&offer).await?,
        None => peer.offer().await?,
    };
    Ok(DescribedConnection {
        peer,
        events,
        channel,
        senders,
        sdp,
    })
}
