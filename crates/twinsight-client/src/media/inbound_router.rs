//! Where the packets of a stream's connections go: what the tap of a connection gives comes in, on the tap's task;
//! packets of the video that is taken go to the decode thread, and those of all tracks to whoever reads them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::remote_track::MediaPacket;
use super::shared::StreamShared;
use super::worker::ArrivalQueue;
use crate::rate_limit::{RATE_LIMIT, RateLimit};
use crate::realtime::negotiation::Attempt;
use crate::realtime::rtp_tap::{Inbound, RtpSink};
use crate::realtime::rtp_track::TrackKind;
use crate::telemetry::{ClientSink, PacketRefusal};
use twinsight_media::rtp::sources::Sources;
use twinsight_media::rtp::{Arrival, RtpPacket, Ssrc};

/// Where the packets of a stream's connections go.
pub(super) struct InboundRouter {
    current_attempt: Arc<AtomicU32>,
    pub(super) queue: Arc<ArrivalQueue>,
    /// Somebody wants frames.
    pub(super) decodes: AtomicBool,
    pub(super) activity: Arc<MediaActivity>,
    /// Of a user's stream: what its handles see.
    pub(super) shared: Option<Arc<StreamShared>>,
    /// Which source of the connection's video is taken.
    sources: Mutex<AttemptSources>,
    /// Where packets that are not used are counted.
    metrics: Option<Arc<dyn ClientSink>>,
    warn: RateLimit<&'static str>,
    /// Of the stream's task, for what is said here.
    pub(super) span: tracing::Span,
}

/// The sources of an attempt's connection.
#[derive(Default)]
struct AttemptSources {
    attempt: u32,
    sources: Sources,
}

impl InboundRouter {
    /// One for the packets of the attempt that counts.
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
                    self.say("sections", |suppressed| {
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

    /// Takes the packet if it is of the source that is taken.
    fn take_video(&self, attempt: Attempt, packet: RtpPacket) {
        let taken = self.sources_of(attempt, |sources| {
            sources.take(packet, |packet| self.push(Arrival::Rtp(packet)))
        });
        if taken.changed {
            self.say("source", |suppressed| {
                tracing::info!(suppressed, "the video comes from another source (SSRC) now");
            });
        }
        self.refuse(PacketRefusal::OtherSource, taken.refused);
    }

    /// Counts packets that are not used, and says so.
    pub(super) fn refuse(&self, reason: PacketRefusal, count: u64) {
        if count == 0 {
            return;
        }
        if let Some(metrics) = &self.metrics {
            metrics.rtp_packets_refused(reason, count);
        }
        self.say(reason.as_str(), |suppressed| {
            tracing::warn!(
                %reason,
                suppressed,
                "the peer sends packets that are not used here"
            );
        });
    }

    fn say(&self, what: &'static str, line: impl FnOnce(u64)) {
        if let Some(suppressed) = self.warn.allow(what, Instant::now()) {
            self.span.in_scope(|| line(suppressed));
        }
    }

    /// The source that is taken of an attempt's connection.
    pub(super) fn main_source(&self, attempt: Attempt) -> Option<u32> {
        self.sources_of(attempt, |sources| sources.main())
            .map(|main| main.0)
    }

    /// An attempt has its own: SSRCs of another connection mean nothing.
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

    /// Takes what is of the source that is taken: what others send makes no unit.
    fn push(&self, arrival: Arrival) {
        if matches!(arrival, Arrival::Rtp(_)) {
            self.activity.video();
        }
        if self.decodes.load(Ordering::Acquire) {
            // A full queue counts what it drops.
            self.queue.push(arrival);
        } else if matches!(arrival, Arrival::Rtp(_)) {
            // What would be decoded if anybody looked.
            self.activity.frame();
        }
    }
}

/// Lets the packets of one attempt into the router.
pub(super) fn sink(attempt: Attempt, router: Arc<InboundRouter>) -> RtpSink {
    Arc::new(move |inbound| router.take(attempt, inbound))
}

/// When frames and packets were last seen, told by the threads that see them.
#[derive(Debug)]
pub(super) struct MediaActivity {
    epoch: Instant,
    frame_ms: AtomicU64,
    packet_ms: AtomicU64,
    video_ms: AtomicU64,
    pub(super) awaits_frame: AtomicBool,
    /// Something came over the connection that is up.
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

    fn video(&self) {
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
