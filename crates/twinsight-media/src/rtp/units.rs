//! The numbers in an RTP header (RFC 3550 section 5.1), each a type of its own. Sequence numbers and timestamps wrap
//! around, so they have differences and no order.

use std::fmt;

/// Ticks of the RTP clock of video in a second, of H.264 (RFC 6184 section 8.2.1) and of VP8 (RFC 7741 section 6.1).
pub const VIDEO_CLOCK_HZ: u32 = 90_000;

/// A synchronization source: one stream of packets, with sequence numbers and a clock of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ssrc(pub u32);

/// A packet's sequence number: that of the packet before plus one, in 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SequenceNumber(pub u16);

/// Media time in ticks of the source's clock, in 32 bits and from a random beginning on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RtpTimestamp(pub u32);

impl SequenceNumber {
    /// The sequence number so many packets later.
    #[must_use]
    pub fn wrapping_add(self, packets: u16) -> Self {
        Self(self.0.wrapping_add(packets))
    }

    /// How many packets later than `earlier` this one was sent, by the shorter way around: negative if it was sent
    /// before.
    pub fn packets_since(self, earlier: Self) -> i16 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }

    /// True if the packet was sent after the one with `other`, by the shorter way around.
    pub fn is_after(self, other: Self) -> bool {
        self.packets_since(other) > 0
    }
}

impl RtpTimestamp {
    /// The timestamp so many ticks later.
    #[must_use]
    pub fn wrapping_add(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks))
    }

    /// Ticks from `earlier` to this timestamp, by the shorter way around: negative if it is the earlier one.
    pub fn ticks_since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }

    /// True if it is later than `other`, by the shorter way around.
    pub fn is_after(self, other: Self) -> bool {
        self.ticks_since(other) > 0
    }

    /// Seconds of video from `earlier` to this timestamp, by the shorter way around: negative if it is the earlier one.
    pub fn video_seconds_since(self, earlier: Self) -> f64 {
        f64::from(self.ticks_since(earlier)) / f64::from(VIDEO_CLOCK_HZ)
    }
}

impl From<u32> for Ssrc {
    fn from(ssrc: u32) -> Self {
        Self(ssrc)
    }
}

impl From<u16> for SequenceNumber {
    fn from(number: u16) -> Self {
        Self(number)
    }
}

impl From<u32> for RtpTimestamp {
    fn from(ticks: u32) -> Self {
        Self(ticks)
    }
}

impl fmt::Display for Ssrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for RtpTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_go_on_across_the_wrap() {
        let (before, after) = (SequenceNumber(65_535), SequenceNumber(1));
        assert_eq!(before.wrapping_add(2), after);
        assert_eq!(
            (after.packets_since(before), before.packets_since(after)),
            (2, -2)
        );
        assert!(after.is_after(before) && !before.is_after(after) && !after.is_after(after));
    }

    #[test]
    fn timestamps_go_on_across_the_wrap() {
        let (before, after) = (RtpTimestamp(u32::MAX - 44_999), RtpTimestamp(45_000));
        assert_eq!(before.wrapping_add(VIDEO_CLOCK_HZ), after);
        assert_eq!(
            (after.ticks_since(before), before.ticks_since(after)),
            (90_000, -90_000)
        );
        assert!(after.is_after(before) && !before.is_after(after) && !after.is_after(after));
        assert!((after.video_seconds_since(before) - 1.0).abs() < 1e-9);
        assert!((before.video_seconds_since(after) + 1.0).abs() < 1e-9);
    }
}
