//! RTP (RFC 3550) behind SRTP: packets with their arrival time come in from the tap, and go out in
//! order with every loss said.

pub mod reorder;
pub mod sources;
pub mod timeline;
mod units;

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
