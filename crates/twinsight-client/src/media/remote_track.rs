//! A track of the other side: packets come in from the tap, readers get them as they are.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::realtime::negotiation::Attempt;
use crate::realtime::rtp_track::TrackKind;
use twinsight_media::rtp::RtpPacket;

/// Packets that wait for one reader; the oldest are left out beyond it.
const PACKETS: usize = 512;

/// A packet of a track.
#[derive(Debug, Clone)]
pub struct MediaPacket {
    /// Audio: one Opus packet (RFC 7587). Video: one RTP payload in the codec that was agreed on.
    pub payload: Bytes,
    /// Media time: at 48 kHz for audio, 90 kHz for video. It wraps.
    pub rtp_timestamp: u32,
    /// One more than that of the packet before unless one was lost. It wraps. Packets come as they arrive,
    /// which need not be their order.
    pub sequence: u16,
    /// Video: the last packet of a picture. Audio: the first after a pause.
    pub marker: bool,
    /// When the socket gave it to us.
    pub received_at: Instant,
}

impl MediaPacket {
    pub(super) fn of<C>(packet: &RtpPacket<C>) -> Self {
        Self {
            payload: packet.payload.clone(),
            rtp_timestamp: packet.timestamp.0,
            sequence: packet.sequence.0,
            marker: packet.marker,
            received_at: packet.arrived_at,
        }
    }
}

/// A track that the other side sends, for as long as its connection lives. Cloning shares it.
///
/// A stream that connects again brings new ones: [`MediaStream::on_track`](super::MediaStream::on_track).
#[derive(Clone)]
pub struct RemoteTrack {
    inner: Arc<Inner>,
}

struct Inner {
    kind: TrackKind,
    attempt: Attempt,
    ssrc: u32,
    /// None once the connection is over.
    packets: Mutex<Option<broadcast::Sender<MediaPacket>>>,
    /// Those that came before the first reader.
    early: Mutex<Option<broadcast::Receiver<MediaPacket>>>,
}

/// The packets of a track, in the order in which they arrive.
pub struct TrackPackets {
    packets: Option<broadcast::Receiver<MediaPacket>>,
    lost: u64,
}

impl RemoteTrack {
    pub(super) fn new(kind: TrackKind, attempt: Attempt, ssrc: u32) -> Self {
        let (packets, early) = broadcast::channel(PACKETS);
        Self {
            inner: Arc::new(Inner {
                kind,
                attempt,
                ssrc,
                packets: Mutex::new(Some(packets)),
                early: Mutex::new(Some(early)),
            }),
        }
    }

    /// What it carries.
    pub fn kind(&self) -> TrackKind {
        self.inner.kind
    }

    /// Its source in RTP (SSRC, RFC 3550).
    pub fn ssrc(&self) -> u32 {
        self.inner.ssrc
    }

    /// True once its connection is over.
    pub fn is_ended(&self) -> bool {
        self.inner.packets.lock().is_none()
    }

    /// Its packets from now on; the first call also gives those that came before it, up to 512. A reader that
    /// lags behind by more loses the oldest.
    ///
    /// ```no_run
    /// # use twinsight_client::media::{RemoteTrack, TrackKind};
    /// # async fn example(track: RemoteTrack) {
    /// assert_eq!(track.kind(), TrackKind::Audio);
    /// let mut packets = track.packets();
    /// while let Some(packet) = packets.recv().await {
    ///     println!("{} bytes of Opus", packet.payload.len());
    /// }
    /// # }
    /// ```
    pub fn packets(&self) -> TrackPackets {
        let early = self.inner.early.lock().take();
        let packets = early.or_else(|| {
            let packets = self.inner.packets.lock();
            packets.as_ref().map(broadcast::Sender::subscribe)
        });
        TrackPackets { packets, lost: 0 }
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(super) fn is(&self, attempt: Attempt, ssrc: u32) -> bool {
        self.inner.attempt == attempt && self.inner.ssrc == ssrc
    }

    pub(super) fn give(&self, packet: MediaPacket) {
        if let Some(packets) = &*self.inner.packets.lock() {
            // An error means that nobody reads.
            let _ = packets.send(packet);
        }
    }

    pub(super) fn end(&self) {
        self.inner.packets.lock().take();
    }
}

impl fmt::Debug for RemoteTrack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteTrack")
            .field("kind", &self.inner.kind)
            .field("ssrc", &self.inner.ssrc)
            .finish_non_exhaustive()
    }
}

impl TrackPackets {
    /// The next packet; `None` once the connection is over.
    pub async fn recv(&mut self) -> Option<MediaPacket> {
        loop {
            match self.packets.as_mut()?.recv().await {
                Ok(packet) => return Some(packet),
                Err(broadcast::error::RecvError::Lagged(lost)) => self.lost += lost,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// Packets that were left out because they were not taken in time.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

impl fmt::Debug for TrackPackets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackPackets")
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}
