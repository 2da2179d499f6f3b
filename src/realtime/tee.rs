//! The RTP tee: an interceptor in the peer connection's chain. Every inbound RTP packet and every sender
//! report of video go, stamped with the socket's arrival time, to a [`TeeSink`]; keyframe requests and
//! reports from the other side go to it too. Runs under the connection's lock, so the sink never blocks.
//!
//! The stack's own remote track gets no media: its queue is short, drops with a log line a packet and
//! loses the arrival time.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::sansio::Protocol;

use super::rtp_track::TrackKind;
use crate::config::Codec;
use crate::rtp::RtpPacket;

/// What the tee sees.
#[derive(Debug)]
pub enum Inbound {
    /// An RTP packet of a video stream.
    Rtp(RtpPacket),
    /// An RTP packet of an audio stream.
    Audio(AudioPacket),
    /// A sender report of a video stream (RFC 3550 §6.4.1).
    SenderReport {
        /// The stream's source.
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
}

/// An RTP packet of sound: one Opus packet (RFC 7587).
#[derive(Debug, Clone)]
pub struct AudioPacket {
    /// Sequence number.
    pub sequence: u16,
    /// Media time at 48 kHz.
    pub timestamp: u32,
    /// The first packet after a pause.
    pub marker: bool,
    /// The source.
    pub ssrc: u32,
    /// The Opus packet.
    pub payload: Bytes,
    /// When the socket gave it to us.
    pub arrived_at: Instant,
}

/// Takes what the tee sees; must return at once.
pub type TeeSink = Arc<dyn Fn(Inbound) + Send + Sync>;

/// What the payload types of a connection's video stand for, once its description is made.
#[derive(Debug, Clone, Default)]
pub(super) struct PayloadTypes {
    known: Arc<Mutex<Vec<(u8, Codec)>>>,
}

impl PayloadTypes {
    pub(super) fn set(&self, known: impl Iterator<Item = (u8, Codec)>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known.collect();
    }

    fn codec(&self, payload_type: u8) -> Option<Codec> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().find(|(known, _)| *known == payload_type)?;
        Some(found.1)
    }
}

/// Sources of one peer that are taken.
const MAX_STREAMS: usize = 64;

/// Position in the chain: behind the report generators, before a jitter buffer would change times.
pub(super) const TEE_SLOT: usize = 12_500;

/// The interceptor.
pub(super) struct Tee {
    sink: TeeSink,
    /// SSRCs of bound remote streams, [`MAX_STREAMS`] at most: a peer may bring new ones without a description.
    streams: HashMap<u32, TrackKind>,
    payload_types: PayloadTypes,
    read_queue: VecDeque<TaggedPacket>,
    write_queue: VecDeque<TaggedPacket>,
}

impl Tee {
    pub(super) fn new(sink: TeeSink, payload_types: PayloadTypes) -> Self {
        Self {
            sink,
            streams: HashMap::new(),
            payload_types,
            read_queue: VecDeque::new(),
            write_queue: VecDeque::new(),
        }
    }

    fn observe(&self, message: &TaggedPacket) {
        match &message.message.packet {
            Packet::Rtp(packet) => {
                let header = &packet.header;
                let codec = self.payload_types.codec(header.payload_type);
                match (self.streams.get(&header.ssrc), codec) {
                    (Some(TrackKind::Audio), _) => (self.sink)(Inbound::Audio(AudioPacket {
                        sequence: header.sequence_number,
                        timestamp: header.timestamp,
                        marker: header.marker,
                        ssrc: header.ssrc,
                        payload: packet.payload.clone(),
                        arrived_at: message.now,
                    })),
                    (Some(TrackKind::Video), Some(codec)) => (self.sink)(Inbound::Rtp(RtpPacket {
                        sequence: header.sequence_number,
                        timestamp: header.timestamp,
                        marker: header.marker,
                        ssrc: header.ssrc,
                        codec,
                        payload: packet.payload.clone(),
                        arrived_at: message.now,
                    })),
                    // A payload type that was not agreed on, or a source that no description knows.
                    (Some(TrackKind::Video), None) | (None, _) => {}
                }
            }
            Packet::Rtcp(packets) => {
                for packet in packets {
                    let packet = packet.as_any();
                    if let Some(report) = packet.downcast_ref::<SenderReport>() {
                        if self.streams.get(&report.ssrc) == Some(&TrackKind::Video) {
                            (self.sink)(Inbound::SenderReport {
                                ssrc: report.ssrc,
                                ntp: report.ntp_time,
                                rtp_timestamp: report.rtp_time,
                                arrived_at: message.now,
                            });
                        }
                        (self.sink)(Inbound::Report);
                    } else if packet.is::<ReceiverReport>() {
                        (self.sink)(Inbound::Report);
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
            .field("streams", &self.streams)
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
        // Media goes no further: behind this there is only the remote track that nobody reads, and passing a packet
        // through it costs as much again as taking it in.
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

impl Interceptor for Tee {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}

    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        if self.streams.len() >= MAX_STREAMS {
            return;
        }
        let mime_type = info.mime_type.to_ascii_lowercase();
        if mime_type.starts_with("video/") {
            self.streams.insert(info.ssrc, TrackKind::Video);
        } else if mime_type.starts_with("audio/opus") {
            self.streams.insert(info.ssrc, TrackKind::Audio);
        }
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.streams.remove(&info.ssrc);
    }
}
