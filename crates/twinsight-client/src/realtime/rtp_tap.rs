//! The RTP tap: an interceptor in the peer connection's chain. Inbound RTP and RTCP packets come in; an [`Inbound`] for each,
//! stamped with the time at which the socket received it, goes out to a [`RtpSink`]. The WebRTC stack's task runs it under the
//! connection's lock, so the sink must not wait.
//!
//! The stack's own remote track gets no media: its queue is short, it logs a line for each packet that it drops, and it loses
//! the time of arrival.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::goodbye::Goodbye;
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::sansio::Protocol;

use super::sdp::Description;
use crate::telemetry::PacketRefusal;
use twinsight_media::codec::Codec;
use twinsight_media::rtp::{Opus, RtpPacket};

/// What comes over a connection that carries media.
#[derive(Debug)]
pub enum Inbound {
    /// An RTP packet of a video stream.
    Rtp(RtpPacket),
    /// An RTP packet of an audio stream.
    Audio(RtpPacket<Opus>),
    /// A sender report of any source (RFC 3550 §6.4.1); the router of packets picks the main source's.
    SenderReport {
        /// The source that reports.
        ssrc: u32,
        /// 64 bits of NTP time: seconds since 1900 and their fraction.
        ntp: u64,
        /// The same moment on the stream's RTP clock.
        rtp_timestamp: u32,
        /// When the report came.
        arrived_at: Instant,
    },
    /// The other side lost a picture and asks for a keyframe (PLI or FIR).
    KeyframeRequest,
    /// The other side has reported what it receives: it is there.
    Report,
    /// A source has ended (BYE, RFC 3550 section 6.6).
    Goodbye {
        /// The source that has ended.
        ssrc: u32,
    },
    /// A description of the other side was taken.
    Described {
        /// The sources that are named by the section of video that we take.
        sources: Vec<u32>,
        /// How many further sections of video the description has.
        further_videos: usize,
    },
    /// A packet that was not used.
    Refused(PacketRefusal),
}

/// Takes what comes over a connection. It must return at once.
pub type RtpSink = Arc<dyn Fn(Inbound) + Send + Sync>;

/// The codecs that the payload types of a connection stand for; empty until its description is made.
#[derive(Debug, Clone, Default)]
pub(super) struct PayloadTypes {
    known: Arc<Mutex<Vec<(u8, PacketContent)>>>,
}

/// What the payload of a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PacketContent {
    Video(Codec),
    Opus,
}

impl PayloadTypes {
    /// Takes the payload types of our own description, since they are what the other side may send.
    pub(super) fn set(&self, own: &Description) {
        let video = own.video_payload_types().into_iter();
        let video = video.map(|(payload_type, codec)| (payload_type, PacketContent::Video(codec)));
        let opus = own.opus_payload_types().into_iter();
        let opus = opus.map(|payload_type| (payload_type, PacketContent::Opus));
        *self.known.lock() = video.chain(opus).collect();
    }

    /// True for a payload type that our description names for video.
    pub(super) fn is_video(&self, payload_type: u8) -> bool {
        matches!(self.content(payload_type), Some(PacketContent::Video(_)))
    }

    fn content(&self, payload_type: u8) -> Option<PacketContent> {
        let known = self.known.lock();
        let found = known.iter().find(|(known, _)| *known == payload_type)?;
        Some(found.1)
    }
}

/// Packets and reports of at most this many sources of one connection are accepted. No description has to name a source, and
/// the stack keeps 0.4 KB for each as long as the connection is up.
pub(super) const MAX_SOURCES: usize = 64;

/// After this many packets of further sources the connection is ended. The sockets let such packets through only if they come
/// over a relay in a form that the gate does not know.
const MAX_REFUSED: u64 = 1024;

/// The tap's position in the chain: behind the generators of reports, and before a jitter buffer could change times.
pub(super) const TAP_SLOT: usize = 12_500;

/// Called when the other side goes on to send with ever new sources.
pub(super) type Overrun = Box<dyn Fn() + Send + Sync>;

/// The interceptor that hands inbound packets to the sink.
pub(super) struct RtpTap {
    sink: RtpSink,
    payload_types: PayloadTypes,
    gate: Arc<SourceGate>,
    /// How many packets came from sources beyond the limit.
    refused: u64,
    overrun: Overrun,
    read_queue: VecDeque<TaggedPacket>,
    write_queue: VecDeque<TaggedPacket>,
}

impl RtpTap {
    pub(super) fn new(
        sink: RtpSink,
        payload_types: PayloadTypes,
        gate: Arc<SourceGate>,
        overrun: Overrun,
    ) -> Self {
        Self {
            sink,
            payload_types,
            gate,
            refused: 0,
            overrun,
            read_queue: VecDeque::new(),
            write_queue: VecDeque::new(),
        }
    }

    /// False for a source beyond the limit, whose packet is counted.
    fn admits(&mut self, ssrc: u32) -> bool {
        if self.gate.admit(ssrc) {
            return true;
        }
        self.refused += 1;
        (self.sink)(Inbound::Refused(PacketRefusal::TooManySources));
        if self.refused == MAX_REFUSED {
            (self.overrun)();
        }
        false
    }

    fn observe(&mut self, message: &TaggedPacket) {
        match &message.message.packet {
            Packet::Rtp(packet) => {
                let header = &packet.header;
                if !self.admits(header.ssrc) {
                    return;
                }
                // A packet is accepted by its payload type and not by its source: a sender that restarts has a new source that
                // no description names.
                let inbound = match self.payload_types.content(header.payload_type) {
                    Some(PacketContent::Opus) => Inbound::Audio(RtpPacket {
                        sequence: header.sequence_number.into(),
                        timestamp: header.timestamp.into(),
                        marker: header.marker,
                        ssrc: header.ssrc.into(),
                        codec: Opus,
                        payload: packet.payload.clone(),
                        arrived_at: message.now,
                    }),
                    Some(PacketContent::Video(codec)) => Inbound::Rtp(RtpPacket {
                        sequence: header.sequence_number.into(),
                        timestamp: header.timestamp.into(),
                        marker: header.marker,
                        ssrc: header.ssrc.into(),
                        codec,
                        payload: packet.payload.clone(),
                        arrived_at: message.now,
                    }),
                    None => Inbound::Refused(PacketRefusal::NotAgreed),
                };
                (self.sink)(inbound);
            }
            Packet::Rtcp(packets) => {
                for packet in packets {
                    let packet = packet.as_any();
                    if let Some(report) = packet.downcast_ref::<SenderReport>() {
                        if !self.admits(report.ssrc) {
                            continue;
                        }
                        (self.sink)(Inbound::SenderReport {
                            ssrc: report.ssrc,
                            ntp: report.ntp_time,
                            rtp_timestamp: report.rtp_time,
                            arrived_at: message.now,
                        });
                        (self.sink)(Inbound::Report);
                    } else if let Some(report) = packet.downcast_ref::<ReceiverReport>() {
                        if self.admits(report.ssrc) {
                            (self.sink)(Inbound::Report);
                        }
                    } else if let Some(goodbye) = packet.downcast_ref::<Goodbye>() {
                        for ssrc in goodbye.sources.iter().take(MAX_SOURCES) {
                            (self.sink)(Inbound::Goodbye { ssrc: *ssrc });
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

/// The sources that a connection has had, shared by its tap and its sockets. Once there are [`MAX_SOURCES`], the sockets throw
/// away packets of other sources before the stack decrypts them and keeps state for each.
#[derive(Debug, Default)]
pub(super) struct SourceGate {
    is_full: AtomicBool,
    known: Mutex<HashSet<u32>>,
    thrown_away: AtomicU64,
}

impl SourceGate {
    /// Admits a source if there is room, and says so. It is called only for packets that were authenticated.
    fn admit(&self, ssrc: u32) -> bool {
        let mut known = self.known.lock();
        if known.contains(&ssrc) {
            return true;
        }
        if known.len() >= MAX_SOURCES {
            self.is_full.store(true, Ordering::Release);
            return false;
        }
        known.insert(ssrc);
        true
    }

    /// Makes a datagram from the network unreadable if it is a packet of an unknown source and there is no more room.
    pub(super) fn filter(&self, datagram: &mut [u8]) {
        if !self.is_full.load(Ordering::Acquire) {
            return;
        }
        // A relay's channel data has four bytes in front (RFC 8656 section 12.4).
        let at = match datagram.first() {
            Some(64..=79) => 4,
            _ => 0,
        };
        let Some(packet) = datagram.get(at..) else {
            return;
        };
        // RTCP shares the port, and has its sender's source elsewhere (RFC 5761 section 4).
        let ssrc = match packet {
            [128..=191, 192..=223, ..] => packet.get(4..8),
            [128..=191, ..] => packet.get(8..12),
            _ => return,
        };
        let Some(ssrc) = ssrc.and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()) else {
            return;
        };
        let known = self.known.lock();
        if !known.contains(&u32::from_be_bytes(ssrc)) {
            self.thrown_away.fetch_add(1, Ordering::Relaxed);
            // No protocol of RFC 7983 begins with this byte, so the stack drops the datagram.
            datagram[0] = 10;
        }
    }

    /// How many packets were thrown away since the last call.
    pub(super) fn take_thrown_away(&self) -> u64 {
        self.thrown_away.swap(0, Ordering::Relaxed)
    }
}

impl fmt::Debug for RtpTap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RtpTap")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for RtpTap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = rtc::shared::error::Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Result<(), Self::Error> {
        self.observe(&message);
        // Media goes no further. Only the remote track is behind the tap, nobody reads that, and to pass a packet through it
        // costs as much again as to receive it.
        if !matches!(message.message.packet, Packet::Rtp(_)) {
            self.read_queue.push_back(message);
        }
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

impl Interceptor for RtpTap {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}

    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}

    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}

    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rtc::rtp::Packet as RtpOfStack;
    use rtc::rtp::header::Header;
    use rtc::shared::TransportContext;

    use super::*;

    const H264: u8 = 102;

    fn own() -> Description {
        let text = "v=0\r\na=ice-ufrag:x\r\nm=video 9 UDP/TLS/RTP/SAVPF 102\r\na=rtpmap:102 H264/90000\r\n";
        Description::parse(text).unwrap()
    }

    fn packet(ssrc: u32, payload_type: u8) -> TaggedPacket {
        let packet = RtpOfStack {
            header: Header {
                version: 2,
                payload_type,
                ssrc,
                ..Header::default()
            },
            payload: Bytes::from_static(b"x"),
        };
        TaggedPacket {
            now: Instant::now(),
            transport: TransportContext::default(),
            message: Packet::Rtp(packet).into(),
        }
    }

    /// A datagram of SRTP, or of SRTCP with one of its packet types.
    fn datagram(second: u8, ssrc: u32) -> Vec<u8> {
        let mut datagram = vec![0x80, second, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2];
        let at = if second >= 192 { 4 } else { 8 };
        datagram[at..at + 4].copy_from_slice(&ssrc.to_be_bytes());
        datagram
    }

    #[test]
    fn ever_new_sources_are_refused_counted_and_end_the_connection() {
        let seen = Arc::new(Mutex::new([0_u64; 3]));
        let ended = Arc::new(AtomicU64::new(0));
        let gate = Arc::<SourceGate>::default();
        let payload_types = PayloadTypes::default();
        payload_types.set(&own());
        let sink: RtpSink = {
            let seen = Arc::clone(&seen);
            Arc::new(move |inbound| {
                let at = match inbound {
                    Inbound::Rtp(_) => 0,
                    Inbound::Refused(PacketRefusal::NotAgreed) => 1,
                    Inbound::Refused(PacketRefusal::TooManySources) => 2,
                    _ => return,
                };
                seen.lock()[at] += 1;
            })
        };
        let overrun = Arc::clone(&ended);
        let overrun = move || {
            overrun.fetch_add(1, Ordering::Relaxed);
        };
        let mut tap = RtpTap::new(sink, payload_types, Arc::clone(&gate), Box::new(overrun));
        tap.handle_read(packet(7, H264)).unwrap();
        for ssrc in 1000..3000 {
            tap.handle_read(packet(ssrc, 99)).unwrap();
            // The one that was there before goes on.
            tap.handle_read(packet(7, H264)).unwrap();
        }
        assert_eq!(*seen.lock(), [2001, 63, 2000 - 63]);
        assert_eq!(ended.load(Ordering::Relaxed), 1, "once");
        assert_eq!(gate.known.lock().len(), MAX_SOURCES);
        assert!(tap.read_queue.is_empty(), "media goes no further");
    }

    #[test]
    fn a_full_gate_lets_through_what_is_known_and_what_is_no_media() {
        let gate = SourceGate::default();
        let mut first = datagram(H264, 5);
        gate.filter(&mut first);
        assert_eq!(first[0], 0x80, "nothing is thrown away before");
        for ssrc in 0..=64 {
            assert_eq!(gate.admit(ssrc), ssrc < 64);
        }
        let passes = |mut datagram: Vec<u8>| {
            let before = datagram[0];
            gate.filter(&mut datagram);
            datagram[0] == before
        };
        assert!(passes(datagram(H264, 5)) && passes(datagram(200, 5)));
        assert!(!passes(datagram(H264, 500)) && !passes(datagram(200, 500)));
        let relayed = |ssrc| [vec![0x40, 1, 0, 14], datagram(H264, ssrc)].concat();
        assert!(passes(relayed(5)) && !passes(relayed(500)));
        for other in [vec![0, 1, 0, 0], vec![22, 0, 0, 0], vec![0x80], vec![0x40]] {
            assert!(passes(other));
        }
        gate.filter(&mut []);
        assert_eq!(gate.take_thrown_away(), 3);
        assert_eq!(gate.take_thrown_away(), 0);
    }
}
