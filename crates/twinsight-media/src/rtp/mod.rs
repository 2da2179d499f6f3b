//! RTP (RFC 3550) after decryption: packets come in with the time at which the socket gave them, and go out in order, with
//! each loss named. Whoever has the connection runs `sources`, the stream's decode thread runs the rest.

pub mod reorder;
pub mod sources;
pub(crate) mod timeline;
mod units;

use std::fmt;
use std::time::Instant;

use bytes::Bytes;

pub use self::units::{RtpTimestamp, SequenceNumber, Ssrc, VIDEO_CLOCK_HZ};
use crate::codec::Codec;

/// An RTP packet, of video unless `C` is another codec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpPacket<C = Codec> {
    /// Its number among the packets of its source.
    pub sequence: SequenceNumber,
    /// Media time: at 90 kHz for video, at 48 kHz for Opus.
    pub timestamp: RtpTimestamp,
    /// Video: the last packet of an access unit (RFC 6184 section 5.1, RFC 7741 section 4.1). Opus: the first packet after a
    /// pause (RFC 7587 section 4.1).
    pub marker: bool,
    /// The source that sent it.
    pub ssrc: Ssrc,
    /// What its payload type stands for, as negotiated.
    pub codec: C,
    /// The payload, without padding.
    pub payload: Bytes,
    /// When the socket gave it to us.
    pub arrived_at: Instant,
}

/// The codec of packets of sound: each payload is one Opus packet (RFC 7587).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opus;

/// Which packet it was: enough to find it in a capture of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketId {
    /// The source that sent it.
    pub ssrc: Ssrc,
    /// Its number among the packets of the source.
    pub sequence: SequenceNumber,
    /// When the socket gave it to us.
    pub arrived_at: Instant,
}

impl RtpPacket {
    /// What tells it from all others.
    pub(crate) fn id(&self) -> PacketId {
        PacketId {
            ssrc: self.ssrc,
            sequence: self.sequence,
            arrived_at: self.arrived_at,
        }
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SSRC {}, sequence number {}", self.ssrc, self.sequence)
    }
}

/// What arrives of a stream.
#[derive(Debug, Clone)]
pub enum Arrival {
    /// A packet of the stream.
    Rtp(RtpPacket),
    /// A sender report of the stream's source.
    SenderReport {
        /// Wall-clock time of the sender, 32.32 fixed point since 1900.
        ntp: u64,
        /// The RTP timestamp of the same moment.
        rtp_timestamp: RtpTimestamp,
        /// When the socket gave it to us.
        arrived_at: Instant,
    },
}
