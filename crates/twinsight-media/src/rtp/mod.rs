//! RTP (RFC 3550) behind SRTP: packets with their arrival time come in from the tap, and go out in
//! order with every loss said.

pub mod reorder;
pub mod sources;
pub mod timeline;

use std::time::Instant;

use bytes::Bytes;

use crate::codec::Codec;

/// An RTP packet as the decode path needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpPacket {
    /// Sequence number.
    pub sequence: u16,
    /// Media time at 90 kHz.
    pub timestamp: u32,
    /// The last packet of an access unit.
    pub marker: bool,
    /// The source: another one is another stream of packets.
    pub ssrc: u32,
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
        rtp_timestamp: u32,
        /// When the socket gave it to us.
        arrived_at: Instant,
    },
}

/// Ticks of the RTP clock of video in a second.
pub const VIDEO_CLOCK_HZ: u32 = 90_000;

/// `later − earlier` of two RTP timestamps, across the wrap.
pub fn ticks_between(earlier: u32, later: u32) -> i32 {
    later.wrapping_sub(earlier).cast_signed()
}
