//! The router of a stream's inbound packets. What the RTP tap of each connection sees comes in; the packets of the main
//! video source go to the decode thread's queue, and those of every track go to its readers. It runs on the WebRTC stack's
//! task, and the stream's task reads from it whether media still comes.
//!
//! What must stay true:
//! - Nothing here waits: a connection stands still while one of its packets is routed.
//! - Packets of an attempt that is over are ignored: each attempt has its own sink, and `current_attempt` decides.
//! - SSRCs mean nothing beyond their connection, so each attempt begins with new [`Sources`].
//! - Only packets of the main source count as video: what other sources send must not keep a dead stream alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::remote_track::MediaPacket;
use super::shared::StreamShared;
use super::worker::ArrivalQueue;
use crate::rate_limit::{RATE_LIMIT, RateLimit};
use crate::realtime::attempt::Attempt;
use crate::realtime::rtp_tap::{Inbound, RtpSink};
use crate::realtime::rtp_track::TrackKind;
use crate::telemetry::{ClientSink, PacketRefusal};
use twinsight_media::rtp::sources::Sources;
use twinsight_media::rtp::{Arrival, RtpPacket, Ssrc};

/// Hands the packets of a stream's connections on.
pub(super) struct InboundRouter {
    current_attempt: Arc<AtomicU32>,
    pub(super) queue: Arc<ArrivalQueue>,
    /// True once somebody wants frames and the decode thread runs.
    pub(super) decodes: AtomicBool,
    pub(super) activity: Arc<MediaActivity>,
    /// The state of an app's stream that its handles see; none for a camera of the node.
    pub(super) shared: Option<Arc<StreamShared>>,
    /// Chooses the main source of the connection's video.
    sources: Mutex<AttemptSources>,
    /// Counts packets that are not used.
    metrics: Option<Arc<dyn ClientSink>>,
    warn: RateLimit<&'static str>,
    /// The span of the stream's task, in which lines are logged here.
    pub(super) span: tracing::Span,
}

/// The sources of an attempt's connection.
#[derive(Default)]
struct AttemptSources {
    attempt: u32,
    sources: Sources,
}

impl InboundRouter {
    /// A router for packets of the attempt whose number is in `current_attempt`.
    pub(super) fn new(
        current_attempt: Arc<AtomicU32>,
        shared: Option<Arc<StreamShared>>,
        metrics: Option<Arc<dyn ClientSink>>,
        span: tracing::Span,
    ) -> Self {
        Self {
            current_attempt,
            queue: Arc::default(),
            decodes: AtomicBool::new(false),
            activity: Arc::new(MediaActivity::new()),
            shared,
            sources: Mutex::default(),
            metrics,
            warn: RateLimit::new(RATE_LIMIT),
            span,
        }
    }

    fn take(&self, attempt: Attempt, inbound: Inbound) {
        if self.current_attempt.load(Ordering::Acquire) != attempt.0 {
            return;
        }
        self.activity.packet();
        self.activity.heard.store(true, Ordering::Relaxed);
        match inbound {
            Inbound::Rtp(packet) => {
                if let Some(shared) = &self.shared {
                    let given = MediaPacket::of(&packet);
                    shared.packet(attempt, TrackKind::Video, packet.ssrc.0, given);
                }
                self.take_video(attempt, packet);
            }
            Inbound::Audio(packet) => {
                if let Some(shared) = &self.shared {
                    let (ssrc, given) = (packet.ssrc.0, MediaPacket::of(&packet));
                    shared.packet(attempt, TrackKind::Audio, ssrc, given);
                }
            }
            Inbound::SenderReport {
                ssrc,
                ntp,
                rtp_timestamp,
                arrived_at,
            } => {
                if self.sources_of(attempt, |sources| sources.main()) == Some(ssrc.into()) {
                    self.push(Arrival::SenderReport {
                        ntp,
                        rtp_timestamp: rtp_timestamp.into(),
                        arrived_at,
                    });
                }
            }
            Inbound::KeyframeRequest => {
                if let Some(shared) = &self.shared {
                    shared.keyframe_wanted();
                }
            }
            Inbound::Report => {}
            Inbound::Goodbye { ssrc } => {
                self.sources_of(attempt, |sources| sources.goodbye(ssrc.into()))
            }
            Inbound::Described {
                sources,
                further_videos,
            } => {
                let sources = sources.into_iter().map(Ssrc).collect();
                self.sources_of(attempt, |known| known.declare(sources));
                if further_videos > 0 {
                    self.log("sections", |suppressed| {
                        tracing::warn!(
                            further_videos,
                            suppressed,
                            "the peer describes several video sections: the first that can be used is taken"
                        );
                    });
                }
            }
            Inbound::Refused(reason) => self.refuse(reason, 1),
        }
    }

    /// Takes a packet of video if it comes from the main source.
    fn take_video(&self, attempt: Attempt, packet: RtpPacket) {
        let taken = self.sources_of(attempt, |sources| {
            sources.take(packet, |packet| self.push(Arrival::Rtp(packet)))
        });
        if taken.changed {
            self.log("source", |suppressed| {
                tracing::info!(suppressed, "the video comes from another source (SSRC) now");
            });
        }
        self.refuse(PacketRefusal::OtherSource, taken.refused);
    }

    /// Counts packets that are not used, and logs a warning.
    pub(super) fn refuse(&self, reason: PacketRefusal, count: u64) {
        if count == 0 {
            return;
        }
        if let Some(metrics) = &self.metrics {
            metrics.rtp_packets_refused(reason, count);
        }
        self.log(reason.as_str(), |suppressed| {
            tracing::warn!(
                %reason,
                suppressed,
                "the peer sends packets that are not used here"
            );
        });
    }

    fn log(&self, what: &'static str, line: impl FnOnce(u64)) {
        if let Some(suppressed) = self.warn.allow(what, Instant::now()) {
            self.span.in_scope(|| line(suppressed));
        }
    }

    /// The main source of an attempt's video, once it is known.
    pub(super) fn main_source(&self, attempt: Attempt) -> Option<u32> {
        self.sources_of(attempt, |sources| sources.main())
            .map(|main| main.0)
    }

    /// Calls `with` with the sources of an attempt; those of an older attempt are dropped first.
    fn sources_of<T>(&self, attempt: Attempt, with: impl FnOnce(&mut Sources) -> T) -> T {
        let mut of = self.sources.lock();
        if of.attempt != attempt.0 {
            *of = AttemptSources {
                attempt: attempt.0,
                sources: Sources::default(),
            };
        }
        with(&mut of.sources)
    }

    /// Hands on a packet or report of the main source.
    fn push(&self, arrival: Arrival) {
        if matches!(arrival, Arrival::Rtp(_)) {
            self.activity.video();
        }
        if self.decodes.load(Ordering::Acquire) {
            // A full queue counts what it drops.
            self.queue.push(arrival);
        } else if matches!(arrival, Arrival::Rtp(_)) {
            // A packet counts as a frame where nobody wants frames, so that the stream still counts as receiving.
            self.activity.frame();
        }
    }
}

/// The sink through which the packets of one attempt come into the router.
pub(super) fn sink(attempt: Attempt, router: Arc<InboundRouter>) -> RtpSink {
    Arc::new(move |inbound| router.take(attempt, inbound))
}

/// The times at which frames and packets were last seen. The decode thread and the WebRTC stack's task store them, and the
/// stream's task reads them.
#[derive(Debug)]
pub(super) struct MediaActivity {
    epoch: Instant,
    frame_ms: AtomicU64,
    packet_ms: AtomicU64,
    video_ms: AtomicU64,
    pub(super) awaits_frame: AtomicBool,
    /// True once something has come over the connection that is up.
    pub(super) heard: AtomicBool,
    pub(super) first_frame: Notify,
}

impl MediaActivity {
    fn new() -> Self {
        Self {
            epoch: Instant::now(),
            frame_ms: AtomicU64::new(0),
            packet_ms: AtomicU64::new(0),
            video_ms: AtomicU64::new(0),
            awaits_frame: AtomicBool::new(true),
            heard: AtomicBool::new(false),
            first_frame: Notify::new(),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn frame(&self) {
        self.frame_ms.store(self.now_ms(), Ordering::Release);
        if self.awaits_frame.swap(false, Ordering::AcqRel) {
            self.first_frame.notify_one();
        }
    }

    pub(super) fn packet(&self) {
        self.packet_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    pub(super) fn last_frame(&self) -> Option<Instant> {
        match self.frame_ms.load(Ordering::Acquire) {
            0 => None,
            ms => Some(self.epoch + Duration::from_millis(ms)),
        }
    }

    pub(super) fn video(&self) {
        self.video_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    pub(super) fn silent_for(&self) -> Duration {
        self.since(&self.packet_ms)
    }

    pub(super) fn without_video_for(&self) -> Duration {
        self.since(&self.video_ms)
    }

    fn since(&self, seen_ms: &AtomicU64) -> Duration {
        let seen_ms = seen_ms.load(Ordering::Relaxed);
        Duration::from_millis(self.now_ms().saturating_sub(seen_ms))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use twinsight_media::codec::Codec;
    use twinsight_media::rtp::SequenceNumber;

    #[test]
    fn packets_that_are_refused_are_no_unit_that_is_coming() {
        let router = InboundRouter::new(
            Arc::new(AtomicU32::new(1)),
            None,
            None,
            tracing::Span::none(),
        );
        let is_video = |ssrc, sequence| {
            // No time that is ever stored.
            router.activity.video_ms.store(u64::MAX, Ordering::Relaxed);
            let packet = RtpPacket {
                sequence: SequenceNumber(sequence),
                timestamp: 0.into(),
                marker: false,
                ssrc: Ssrc(ssrc),
                codec: Codec::H264,
                payload: Bytes::from_static(b"x"),
                arrived_at: Instant::now(),
            };
            router.take(Attempt(1), Inbound::Rtp(packet));
            router.activity.video_ms.load(Ordering::Relaxed) != u64::MAX
        };
        assert!(!is_video(7, 0), "a stray packet");
        assert!(is_video(7, 1), "a source from its second packet on");
        for sequence in 0..100 {
            assert!(!is_video(8, sequence), "another source");
            assert!(is_video(7, 2 + sequence));
        }
    }
}
