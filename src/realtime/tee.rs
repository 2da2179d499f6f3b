//! The RTP tee: an interceptor in the peer connection's chain. Every inbound RTP packet of video and
//! every sender report go, stamped with the socket's arrival time, to a [`TeeSink`]; keyframe requests
//! from the other side go to it too. Runs under the connection's lock, so the sink never blocks.
//!
//! The stack's own remote track is not read: its queue is short, drops with a log line a packet and
//! loses the arrival time.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::sansio::Protocol;

use crate::config::Codec;
use crate::rtp::RtpPacket;

/// What the tee sees.
#[derive(Debug)]
pub enum Inbound {
    /// An RTP packet of a video stream.
    Rtp(RtpPacket),
    /// A sender report of a video stream (RFC 3550 §6.4.1).
    SenderReport {
        /// 64 bits of NTP time: seconds since 1900 and their fraction.
        ntp: u64,
        /// The same moment on the stream's RTP clock.
        rtp_timestamp: u32,
        /// When the report came.
        arrived_at: Instant,
    },
    /// The other side lost a picture and asks for a keyframe (PLI or FIR).
    KeyframeRequest,
}

/// Takes what the tee sees; must return at once.
pub type TeeSink = Arc<dyn Fn(Inbound) + Send + Sync>;

/// Position in the chain: behind the report generators, before a jitter buffer would change times.
pub(super) const TEE_SLOT: usize = 12_500;

/// The interceptor.
pub(super) struct Tee {
    sink: TeeSink,
    /// SSRCs of bound remote video streams. Bounded by the descriptions that were negotiated.
    video: HashSet<u32>,
    read_queue: VecDeque<TaggedPacket>,
    write_queue: VecDeque<TaggedPacket>,
}

impl Tee {
    pub(super) fn new(sink: TeeSink) -> Self {
        Self {
            sink,
            video: HashSet::new(),
            read_queue: VecDeque::new(),
            write_queue: VecDeque::new(),
        }
    }

    fn observe(&self, message: &TaggedPacket) {
        match &message.message.packet {
            Packet::Rtp(packet) if self.video.contains(&packet.header.ssrc) => {
                (self.sink)(Inbound::Rtp(RtpPacket {
                    sequence: packet.header.sequence_number,
                    timestamp: packet.header.timestamp,
                    marker: packet.header.marker,
                    ssrc: packet.header.ssrc,
                    codec: Codec::H264,
                    payload: packet.payload.clone(),
                    arrived_at: message.now,
                }));
            }
            Packet::Rtcp(packets) => {
                for packet in packets {
                    let packet = packet.as_any();
                    if let Some(report) = packet.downcast_ref::<SenderReport>() {
                        if self.video.contains(&report.ssrc) {
                            (self.sink)(Inbound::SenderReport {
                                ntp: report.ntp_time,
                                rtp_timestamp: report.rtp_time,
                                arrived_at: message.now,
                            });
                        }
                    } else if packet.is::<PictureLossIndication>()
                        || packet.is::<FullIntraRequest>()
                    {
                        (self.sink)(Inbound::KeyframeRequest);
                    }
                }
            }
            _ => {}
        }
    }
}

impl fmt::Debug for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tee")
            .field("video", &self.video)
            .finish_non_exhaustive()
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Tee {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = rtc::shared::error::Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Result<(), Self::Error> {
        self.observe(&message);
        self.read_queue.push_back(message);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<Self::Rout> {
        self.read_queue.pop_front()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Result<(), Self::Error> {
        self.write_queue.push_back(message);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<Self::Wout> {
        self.write_queue.pop_front()
    }
}

impl Interceptor for Tee {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}

    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        if info
            .mime_type
            .to_ascii_lowercase()
            .starts_with("video/h264")
        {
            self.video.insert(info.ssrc);
        }
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.video.remove(&info.ssrc);
    }
}
