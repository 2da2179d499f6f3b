//! A track that the other side sends: packets come in on the WebRTC stack's task, and go out unchanged to the app's readers.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_util::{FutureExt, Stream};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::realtime::attempt::Attempt;
use crate::realtime::rtp_track::TrackKind;
use crate::wakeup::{Wakeup, broadcast_arrival};
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
    missed: u64,
    wakeup: Wakeup,
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
        TrackPackets {
            packets,
            missed: 0,
            wakeup: Wakeup::default(),
        }
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
                Err(broadcast::error::RecvError::Lagged(count)) => self.missed += count,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    fn poll_waiting(&mut self) -> Poll<Option<MediaPacket>> {
        let Some(packets) = &mut self.packets else {
            return Poll::Ready(None);
        };
        loop {
            match packets.try_recv() {
                Ok(packet) => return Poll::Ready(Some(packet)),
                Err(broadcast::error::TryRecvError::Lagged(count)) => self.missed += count,
                Err(broadcast::error::TryRecvError::Empty) => return Poll::Pending,
                Err(broadcast::error::TryRecvError::Closed) => return Poll::Ready(None),
            }
        }
    }

    /// Packets that were lost because they were not taken in time.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

impl Stream for TrackPackets {
    type Item = MediaPacket;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<MediaPacket>> {
        let mut wakeup = std::mem::take(&mut self.wakeup);
        let arrival = |packets: &Self| match &packets.packets {
            Some(packets) => broadcast_arrival(packets),
            None => std::future::ready(()).boxed(),
        };
        let polled = wakeup.poll(&mut *self, Self::poll_waiting, arrival, context);
        self.wakeup = wakeup;
        polled
    }
}

impl fmt::Debug for TrackPackets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackPackets")
            .field("missed", &self.missed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    fn packet(sequence: u16) -> MediaPacket {
        MediaPacket {
            payload: Bytes::new(),
            rtp_timestamp: Default::default(),
            sequence,
            marker: false,
            received_at: Instant::now(),
        }
    }

    #[tokio::test]
    async fn packets_are_a_stream_that_counts_what_it_missed() {
        let track = RemoteTrack::new(TrackKind::Audio, Attempt(1), Default::default());
        let sent = u16::try_from(PACKETS).unwrap() + 3;
        for sequence in 0..sent {
            track.give(packet(sequence));
        }
        let mut packets = track.packets();
        assert_eq!(packets.next().await.unwrap().sequence, 3);
        assert_eq!(packets.missed(), 3);
        track.end();
        let rest: Vec<u16> = packets.map(|packet| packet.sequence).collect().await;
        assert_eq!(rest, (4..sent).collect::<Vec<_>>());
    }
}
