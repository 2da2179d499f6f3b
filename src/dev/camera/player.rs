//! One viewer: its connection and its place in what the camera sends come in, RTP goes out, until the
//! viewer says goodbye or is gone without one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::{Notify, mpsc};

use super::source::Feed;
use twinsight_client::realtime::peer::{Peer, PeerEvent};
use twinsight_client::realtime::rtp_track::{OutboundRtp, TrackSender};
use twinsight_client::realtime::signal::{Signal, SignalEnvelope};
use twinsight_media::h264::packetize::packetize;

/// Largest RTP payload: with headers and SRTP it stays below any path's MTU.
const MAX_PAYLOAD_BYTES: usize = 1150;

/// While frames go out, the viewer is asked this often whether it has said goodbye.
const GOODBYE_EVERY: Duration = Duration::from_secs(1);

/// A viewer whose path is lost has this long to come back. Together with the five seconds after which
/// the loss is noticed it is well below the 25 s of the official clients: a node that was killed is
/// dialled again soon.
const LOST_LIMIT: Duration = Duration::from_secs(5);

/// A viewer's connection.
pub(super) struct Session {
    pub(super) peer: Peer,
    pub(super) events: mpsc::Receiver<PeerEvent>,
    pub(super) keyframe: Arc<Notify>,
}

/// Why a viewer is no longer served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parting {
    /// It never connected.
    NotConnected,
    /// It said goodbye.
    Goodbye,
    /// Its path was lost.
    Lost,
}

impl Session {
    /// Waits until the connection is up; false when it ended or took too long.
    pub(super) async fn connected(
        &mut self,
        limit: Duration,
        mailbox: &mut mpsc::Receiver<SignalEnvelope>,
    ) -> bool {
        let connected = async {
            loop {
                tokio::select! {
                    event = self.events.recv() => match event {
                        Some(PeerEvent::Connected) => return true,
                        Some(PeerEvent::Ended) | None => return false,
                        Some(_) => {}
                    },
                    Some(envelope) = mailbox.recv() => {
                        if let Signal::Ice(candidate) = envelope.signal
                            && let Err(error) = self.peer.add_candidate(candidate).await
                        {
                            tracing::debug!(%error, "a viewer's candidate was left out");
                        }
                    }
                }
            }
        };
        tokio::time::timeout(limit, connected)
            .await
            .unwrap_or(false)
    }

    /// Sends what the feed gives until the viewer is gone.
    pub(super) async fn play(
        &mut self,
        feed: &mut Feed,
        video: TrackSender,
        fps: f64,
    ) -> Result<Parting> {
        let mut packets = Packets {
            payload_type: video.payload_type().await?,
            video,
            sequence: rand::random(),
        };
        let mut frame_due = tokio::time::interval(Duration::from_secs_f64(1.0 / fps));
        frame_due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut goodbye = tokio::time::interval(GOODBYE_EVERY);
        let begun = Instant::now();
        let first_timestamp: u32 = rand::random();
        let mut keyframe = true;
        let mut lost_since: Option<Instant> = None;
        loop {
            tokio::select! {
                at = frame_due.tick() => {
                    let elapsed = at.into_std().saturating_duration_since(begun);
                    let unit = feed.next(std::mem::take(&mut keyframe)).await?;
                    packets
                        .send(&unit, first_timestamp.wrapping_add(to_90khz(elapsed)))
                        .await?;
                }
                () = self.keyframe.notified() => keyframe = true,
                _ = goodbye.tick() => {
                    if self.peer.closed_by_peer().await {
                        return Ok(Parting::Goodbye);
                    }
                    if lost_since.is_some_and(|since| since.elapsed() >= LOST_LIMIT) {
                        return Ok(Parting::Lost);
                    }
                }
                event = self.events.recv() => match event {
                    Some(PeerEvent::Disconnected) => lost_since = lost_since.or_else(|| Some(Instant::now())),
                    Some(PeerEvent::Connected) => lost_since = None,
                    Some(PeerEvent::Ended) | None => return Ok(Parting::Lost),
                    Some(PeerEvent::Candidate(_) | PeerEvent::Channel(_)) => {}
                },
            }
        }
    }
}

/// The stream's packets.
struct Packets {
    video: TrackSender,
    payload_type: u8,
    sequence: u16,
}

impl Packets {
    async fn send(&mut self, unit: &[u8], timestamp: u32) -> Result<()> {
        let payloads = packetize(unit, MAX_PAYLOAD_BYTES);
        let last = payloads.len().saturating_sub(1);
        for (n, payload) in payloads.into_iter().enumerate() {
            let packet = OutboundRtp {
                payload_type: self.payload_type,
                sequence: self.sequence,
                timestamp,
                marker: n == last,
                payload,
            };
            self.video.send(packet).await?;
            self.sequence = self.sequence.wrapping_add(1);
        }
        Ok(())
    }
}

/// A duration on a 90 kHz clock, which wraps.
fn to_90khz(elapsed: Duration) -> u32 {
    let ticks = elapsed.as_micros() * 9 / 100;
    u32::try_from(ticks & u128::from(u32::MAX)).expect("32 bits were kept")
}
