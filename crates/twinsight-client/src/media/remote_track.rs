//! A track that the other side sends: packets come in on the WebRTC stack's task, and go out unchanged to the app's readers.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::realtime::attempt::Attempt;
use crate::realtime::rtp_track::TrackKind;
use twinsight_media::rtp::RtpPacket;

/// At most this many packets wait for one reader; beyond that it loses the oldest.
const PACKETS: usize = 512;

/// A packet of a track.
#[derive(Debug, Clone)]
pub struct MediaPacket {
    /// The payload. Audio: one Opus packet (RFC 7587). Video: one RTP payload in the codec that was agreed on.
    pub payload: Bytes,
    /// Media time in ticks of 48 kHz for audio, of 90 kHz for video. It wraps.
    pub rtp_timestamp: u32,
    /// The sequence number, one more than that of the packet before unless one was lost. It wraps. Packets come in the order in
    /// which they arrive, which need not be the order of their numbers.
    pub sequence: u16,
    /// True for the last packet of a picture, and for the first packet of sound after a pause.
    pub marker: bool,
    /// When the socket received it.
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
    /// The packets that came before the first reader.
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

    /// The kind of media that it carries.
    pub fn kind(&self) -> TrackKind {
        self.inner.kind
    }

    /// The SSRC of its source in RTP (RFC 3550).
    pub fn ssrc(&self) -> u32 {
        self.inner.ssrc
    }

    /// True once its connection is over.
    pub fn is_ended(&self) -> bool {
        self.inner.packets.lock().is_none()
    }

    /// A reader of its packets from now on; the first reader also gets those that came before, up to 512. A reader that lags
    /// behind by more loses the oldest.
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

    /// How many packets this reader has lost because it did not take them in time.
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
