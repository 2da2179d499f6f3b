//! RTP (RFC 3550) behind SRTP: packets with their arrival time come in from the tap, and go out in
//! order with every loss said.

pub mod reorder;
pub mod sources;
pub mod timeline;
mod units;

use std::fmt;
use std::time::Instant;

use bytes::Bytes;

pub use self::units::{RtpTimestamp, SequenceNumber, Ssrc, VIDEO_CLOCK_HZ};
use crate::codec::Codec;

/// An RTP packet as the decode path needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpPacket {
    /// Sequence number.
    pub sequence: SequenceNumber,
    /// Media time at 90 kHz.
    pub timestamp: RtpTimestamp,
    /// The last packet of an access unit.
    pub marker: bool,
    /// The source: another one is another stream of packets.
    pub ssrc: Ssrc,
    /// What the payload type stands for, as negotiated.
    pub codec: Codec,
    /// What follows the header and its extensions, without padding.
    pub payload: Bytes,
    /// When the socket gave it to us.
    pub arrived_at: Instant,
}

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
